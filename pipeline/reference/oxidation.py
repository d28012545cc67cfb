"""Oxidation states of a crystal: one integer an element, neutral, decided by bond valences where several fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.reference.ions import ion, oxidation_states

if TYPE_CHECKING:
    from pymatgen.core import Structure

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


def decide_charges(structure: Structure, solutions: Sequence[Mapping[str, int]]) -> dict[str, int] | None:
    """Pick the solution whose charges the crystal's bond lengths bear out.

    Each solution is judged by the root mean square over the atoms of (bond-valence sum - oxidation state); bonds
    join its cations to its anions. Parameters of O'Keeffe and Brese (J. Am. Chem. Soc. 1991, 113, 3226, eq. 3).

    Parameters
    ----------
    structure
        Ordered crystal, PBE geometry (lengths are divided by :data:`PBE_EXPANSION`).
    solutions
        At least one, as :func:`charge_solutions` gives them.

    Returns
    -------
    dict or None
        The only solution, or the best one when it beats the next by :data:`DECISIVE_MARGIN`; None when the bond
        lengths do not decide.
    """
    if len(solutions) == 1:
        return dict(solutions[0])
    deviations = np.array(_deviations(structure, solutions))
    order = np.argsort(deviations, kind="stable")
    best, second = deviations[order[0]], deviations[order[1]]
    if not best <= ACCEPTABLE_DEVIATION or second - best < DECISIVE_MARGIN:
        return None
    return dict(solutions[int(order[0])])


def _deviations(structure: Structure, solutions: Sequence[Mapping[str, int]]) -> list[float]:
    centre, neighbour, _, length = structure.get_neighbor_list(BOND_CUTOFF)
    symbols = [site.specie.symbol for site in structure]
    out = []
    for solution in solutions:
        charge = np.array([solution[s] for s in symbols], dtype=float)
        bonded = charge[centre] * charge[neighbour] < 0
        i, j, d = centre[bonded], neighbour[bonded], length[bonded] / PBE_EXPANSION
        radii = np.array([bond_valence_radius(symbols[a], symbols[b]) for a, b in zip(i, j, strict=True)])
        valence = np.exp((radii - d) / BOND_SOFTNESS) if len(i) else np.zeros(0)
        sums = np.zeros(len(symbols))
        np.add.at(sums, i, valence)
        deviation = math.sqrt(float(np.mean((sums - np.abs(charge)) ** 2)))
        out.append(deviation if math.isfinite(deviation) else math.inf)
    return out


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
