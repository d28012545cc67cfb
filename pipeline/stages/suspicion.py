"""Too good is suspect: signs that a potential was used where it has a hole."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reference.oxidation import charge_solutions, mixed_valences

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.settings import SuspectSettings

LEAST_CHARGE = 0.5
"""e. Charges are whole numbers; a cell with less than this has none."""

FARTHEST_NEIGHBOUR = 5.0
"""Å. M3GNet sees no farther: an atom without a neighbour feels no force, and its relaxation ends where it began."""

LONGEST_BOND = 1.25
"""Of a bond between two atoms of a nonmetal, over the sum of their covalent radii: a peroxide's O-O has 1.14, two
neighbouring Cl- of a halide have 1.6 or more."""


def suspect_reasons(
    settings: SuspectSettings,
    *,
    structure: Structure,
    energy_above_hull: float,
    volume_change: float,
    energy_disagreement: float | None,
) -> list[str]:
    """Say why a relaxed candidate should not be believed as it stands; empty when nothing speaks against it.

    Parameters
    ----------
    settings
        The bounds.
    structure
        Relaxed crystal.
    energy_above_hull
        eV/atom.
    volume_change
        Relaxed / starting volume - 1.
    energy_disagreement
        eV/atom between two surrogates; None without a second opinion.
    """
    reasons = []
    if not charges_balance(structure):
        reasons.append(f"no oxidation states balance the charge of {structure.composition.reduced_formula}")
    if energy_above_hull < settings.energy_above_hull_below:
        reasons.append(f"{energy_above_hull:.3f} eV/atom above the hull is below {settings.energy_above_hull_below:g}")
    ratio, pair = closest_pair(structure, settings.distance_ratio_below)
    if ratio < settings.distance_ratio_below:
        reasons.append(f"{pair} at {ratio:.2f} of the sum of their radii, below {settings.distance_ratio_below:g}")
    alone = lone_atoms(structure)
    if alone:
        reasons.append(f"{', '.join(alone)} without a neighbour within {FARTHEST_NEIGHBOUR:g} Å")
    if abs(volume_change) > settings.volume_change_above:
        reasons.append(f"volume changed by {volume_change:+.0%}, more than {settings.volume_change_above:.0%}")
    if energy_disagreement is not None and energy_disagreement > settings.energy_disagreement_above:
        reasons.append(
            f"two surrogates disagree by {energy_disagreement:.3f} eV/atom, more than "
            f"{settings.energy_disagreement_above:g}"
        )
    return reasons


def charges_balance(structure: Structure) -> bool:
    """Whether the charges of a crystal's sites sum to zero; where it has none, whether charges could.

    Metals need no charges. Nonmetals that bind their own kind, as in a peroxide, P2S6 or B12H12, have none of the
    usual oxidation states: nothing is said of them.
    """
    from pymatgen.core import Element

    states = [getattr(site.specie, "oxi_state", None) for site in structure]
    charges = [float(state) for state in states if state is not None]
    if len(charges) == len(states):
        return abs(sum(charges)) < LEAST_CHARGE
    amounts = Counter(site.specie.symbol for site in structure)
    nonmetals = {symbol for symbol in amounts if not Element(symbol).is_metal}
    if len(amounts) == 1 or not nonmetals or charge_solutions(amounts):
        return True
    # Whether one element in two states balances: as if each atom could have its own.
    return bool(mixed_valences({e: [1] * n for e, n in amounts.items()})) or _bound_to_its_kind(structure, nonmetals)


def _bound_to_its_kind(structure: Structure, nonmetals: set[str]) -> bool:
    from ase.data import covalent_radii

    radii = covalent_radii[[site.specie.Z for site in structure]]
    first, second, _, distances = structure.get_neighbor_list(2.0 * float(radii.max()) * LONGEST_BOND)
    return any(
        structure[int(i)].specie.symbol in nonmetals
        and structure[int(i)].specie.symbol == structure[int(j)].specie.symbol
        and distance <= 2.0 * radii[int(i)] * LONGEST_BOND
        for i, j, distance in zip(first, second, distances, strict=True)
    )


def lone_atoms(structure: Structure) -> list[str]:
    """Elements with an atom that has no neighbour within `FARTHEST_NEIGHBOUR`, sorted."""
    first, *_ = structure.get_neighbor_list(FARTHEST_NEIGHBOUR)
    alone = np.flatnonzero(np.bincount(first, minlength=len(structure)) == 0)
    return sorted({structure[int(i)].specie.symbol for i in alone})


def closest_pair(structure: Structure, below: float) -> tuple[float, str]:
    """Shortest distance over the sum of the two covalent radii, among pairs closer than ``below`` times that sum.

    Radii are Cordero's (Dalton Trans. 2008, 2832). Covalent radii are the shorter kind for a cation with an anion
    and hold for metals and molecules too; ionic ones would flag an ordinary O-H or N-N bond.

    Parameters
    ----------
    structure
        Crystal, distances in Å.
    below
        Ratio from which on pairs are of no interest; bounds the search.

    Returns
    -------
    ratio : float
        Infinite when no pair is that close.
    pair : str
        Such as ``Li-Cl``.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[[site.specie.Z for site in structure]]
    first, second, _, distances = structure.get_neighbor_list(2.0 * float(radii.max()) * below + 1e-6)
    if not len(distances):
        return float("inf"), ""
    ratios = distances / (radii[first] + radii[second])
    at = int(np.argmin(ratios))
    symbols = sorted(structure[int(i)].specie.symbol for i in (first[at], second[at]))
    return float(ratios[at]), "-".join(symbols)
