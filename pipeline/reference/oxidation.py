"""Oxidation states of a crystal: one integer an element, neutral, decided by bond valences where several fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from kernels.neighbors import neighbor_list
from pipeline.reference.ions import ion, oxidation_states

FloatArray = npt.NDArray[np.float64]

BOND_CUTOFF = 4.0
"""Å. A bond of this length and a typical bond-valence radius of 2.2 Å carries less than 0.01 valence units."""

BOND_SOFTNESS = 0.37
"""Å, the universal constant of Brese and O'Keeffe (Acta Cryst. B 1991, 47, 192, eq. 1)."""

PBE_EXPANSION = 1.015
"""Lengths of PBE-relaxed crystals over measured ones; pymatgen's BVAnalyzer takes the same default."""

DECISIVE_MARGIN = 0.10
"""Valence units by which the root-mean-square deviation of the best solution must beat the next one's."""

ACCEPTABLE_DEVIATION = 0.80
"""Valence units; a best solution further off than this decides nothing."""


def charge_solutions(amounts: Mapping[str, int]) -> list[dict[str, int]]:
    """All neutral choices of one oxidation state an element, in which each anion is more electronegative than
    each cation.

    Parameters
    ----------
    amounts
        Atoms of each element, for instance ``{"Na": 3, "Y": 1, "Cl": 6}``.

    Returns
    -------
    list
        Solutions ``{element: charge}``, in a fixed order; empty when nothing balances or an element has no states.
    """
    elements = sorted(amounts)
    states = [oxidation_states(e) for e in elements]
    solutions = []
    for charges in itertools.product(*states):
        if sum(q * amounts[e] for e, q in zip(elements, charges, strict=True)) != 0:
            continue
        values = [(q, ion(e, q).electronegativity) for e, q in zip(elements, charges, strict=True)]
        if max(x for q, x in values if q > 0) < min(x for q, x in values if q < 0):
            solutions.append(dict(zip(elements, charges, strict=True)))
    return solutions


def bond_valence_deviations(
    lattice: FloatArray, frac_coords: FloatArray, elements: Sequence[str], solutions: Sequence[Mapping[str, int]]
) -> list[float]:
    """How far each solution is from what the crystal's bond lengths say.

    Bonds join a solution's cations to its anions. Parameters of O'Keeffe and Brese (J. Am. Chem. Soc. 1991, 113, 3226,
    eq. 3).

    Parameters
    ----------
    lattice : (3, 3) float
        Å, rows; PBE geometry (lengths are divided by :data:`PBE_EXPANSION`).
    frac_coords : (n, 3) float
    elements
        n symbols.
    solutions
        As :func:`charge_solutions` gives them.

    Returns
    -------
    list of float
        Root mean square over the atoms of (bond-valence sum - oxidation state), valence units; infinite where an
        element has no parameters.
    """
    kinds = sorted(set(elements))
    kind = np.array([kinds.index(e) for e in elements])
    radii = np.array([[bond_valence_radius(a, b) for b in kinds] for a in kinds])
    sites = np.ascontiguousarray(frac_coords @ lattice)
    centre, neighbour, vectors, *_ = neighbor_list(sites, lattice[None], np.array([len(sites)]), BOND_CUTOFF)
    length = np.linalg.norm(vectors, axis=1) / PBE_EXPANSION
    valence = np.exp((radii[kind[centre], kind[neighbour]] - length) / BOND_SOFTNESS)
    out = []
    for solution in solutions:
        charge = np.array([solution[e] for e in kinds], dtype=float)[kind]
        bonded = charge[centre] * charge[neighbour] < 0
        sums = np.bincount(centre[bonded], valence[bonded], len(sites))
        deviation = math.sqrt(float(np.mean((sums - np.abs(charge)) ** 2)))
        out.append(deviation if math.isfinite(deviation) else math.inf)
    return out


def decisive(deviations: Sequence[float]) -> int | None:
    """Index of the solution that the bond lengths bear out.

    The only one, or the best one when it is within :data:`ACCEPTABLE_DEVIATION` and beats the next by
    :data:`DECISIVE_MARGIN`; None when the bond lengths do not decide.
    """
    if len(deviations) == 1:
        return 0
    order = np.argsort(deviations, kind="stable")
    best, second = deviations[order[0]], deviations[order[1]]
    return int(order[0]) if best <= ACCEPTABLE_DEVIATION and second - best >= DECISIVE_MARGIN else None


@dataclass(frozen=True)
class MixedValence:
    """One element in two positive oxidation states, each orbit in one of them; ``anions`` of the neutral crystal."""

    element: str
    low: int
    high: int
    anions: frozenset[str]


def mixed_valences(orbits: Mapping[str, Sequence[int]]) -> list[MixedValence]:
    """Neutral choices of one oxidation state an orbit in which one cation has two, and the others one each.

    Says that the charges can balance, not that they do: an alloy with a semimetal may balance by accident.

    Parameters
    ----------
    orbits
        Atoms in each orbit of each element, for instance ``{"Fe": [2, 1], "O": [4]}`` for magnetite's.

    Returns
    -------
    list
        Each element and pair of states with which some choice of its orbits is neutral, and every anion is more
        electronegative than every cation.
    """
    found = []
    if not all(oxidation_states(e) for e in orbits):
        return []
    electronegativity = {e: ion(e, oxidation_states(e)[0]).electronegativity for e in orbits}
    for threshold in sorted(set(electronegativity.values()))[1:]:
        anions = [e for e in orbits if electronegativity[e] >= threshold]
        cations = [e for e in orbits if e not in anions]
        negative = _totals(orbits, anions, -1)
        for mixed in cations if negative else []:
            rest = _totals(orbits, [e for e in cations if e != mixed], 1)
            wanted = {-a - b for a in negative for b in rest}
            atoms, parts = sum(orbits[mixed]), _partial_sums(orbits[mixed])
            for low, high in itertools.combinations([q for q in oxidation_states(mixed) if q > 0], 2):
                if any(low * (atoms - k) + high * k in wanted for k in parts):
                    found.append(MixedValence(mixed, low, high, frozenset(anions)))
    return found


def _totals(orbits: Mapping[str, Sequence[int]], elements: Sequence[str], sign: int) -> set[int]:
    """Every sum of charges of some elements, one oxidation state of that sign each."""
    totals = {0}
    for element in elements:
        states = [q for q in oxidation_states(element) if q * sign > 0]
        totals = {t + q * sum(orbits[element]) for t in totals for q in states}
    return totals


def _partial_sums(parts: Sequence[int]) -> set[int]:
    """Sums of some of the parts, neither none nor all."""
    sums = {0}
    for part in parts:
        sums |= {s + part for s in sums}
    return sums - {0, sum(parts)}


@cache
def bond_valence_radius(first: str, second: str) -> float:
    """Length in Å of a bond of one valence unit between two elements (O'Keeffe and Brese 1991, eq. 3)."""
    from pymatgen.core import Element
    from pymatgen.core.bond_valence import BV_PARAMS

    try:
        one, two = BV_PARAMS[Element(first)], BV_PARAMS[Element(second)]
    except KeyError:
        return math.nan
    r1, r2, c1, c2 = one["r"], two["r"], one["c"], two["c"]
    return float(r1 + r2 - r1 * r2 * (math.sqrt(c1) - math.sqrt(c2)) ** 2 / (c1 * r1 + c2 * r2))
