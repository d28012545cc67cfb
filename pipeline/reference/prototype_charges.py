"""Which source crystals are ionic: oxidation states of each, or the reason for which it is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.reference.ions import ion_label, oxidation_states
from pipeline.reference.oxidation import (
    MixedValence,
    bond_valence_deviations,
    charge_solutions,
    decisive,
    mixed_valences,
)
from pipeline.reference.protostructure import SymmetryError, standardise
from pipeline.reference.prototype_sources import SourceCrystal

if TYPE_CHECKING:
    from pipeline.candidate_settings import PrototypeSettings


class Charges(NamedTuple):
    """Oxidation state of each element; without one, the reason and what there is to say of it."""

    by_element: dict[str, int]
    reason: str | None = None
    detail: str = ""


def refusal(elements: set[str], settings: PrototypeSettings, *, substituted: bool = True) -> str | None:
    """Reason for which its elements alone are enough to leave a crystal out, or None.

    What is not ``substituted`` needs no oxidation states.
    """
    if substituted and len(elements) == 1:
        return "one_element"
    if not settings.min_elements <= len(elements) <= settings.max_elements:
        return "number_of_elements"
    if settings.anions and not elements & set(settings.anions):
        return "other_anions"
    if substituted and not all(oxidation_states(e) for e in elements):
        return "element_without_oxidation_states"
    return None


def assign_charges(item: SourceCrystal, settings: PrototypeSettings) -> Charges:
    """Oxidation states of a crystal: those that its source states, else the neutral ones, decided by bond valences.

    Parameters
    ----------
    item
        An ordered crystal.
    settings
        ``anions``, when given, are the only ones that may be negative.

    Returns
    -------
    Charges
        The reason is ``one_element``, ``no_charge_balance``, ``mixed_valence`` (neutral when one element has two
        oxidation states on different orbits), ``other_anions``, or ``ambiguous_oxidation_states``; the detail of the
        last lists the solutions with their bond-valence deviations, the best first.
    """
    if item.charges and all(oxidation_states(e) for e, _ in item.charges):
        solutions = [dict(item.charges)]
    elif len(set(item.elements)) == 1:
        return Charges({}, "one_element")
    else:
        solutions = charge_solutions(Counter(item.elements))
    if not solutions:
        mixed = _mixed_valences(item, settings)
        return Charges({}, "mixed_valence", mixed) if mixed else Charges({}, "no_charge_balance")
    if settings.anions and all(_other_anion(s, settings.anions) for s in solutions):
        return Charges({}, "other_anions")
    chosen = solutions[0]
    if len(solutions) > 1:
        deviations = bond_valence_deviations(item.lattice, item.frac_coords, item.elements, solutions)
        index = decisive(deviations)
        if index is None:
            return Charges({}, "ambiguous_oxidation_states", _in_words(solutions, deviations))
        chosen = solutions[index]
    if settings.anions and _other_anion(chosen, settings.anions):
        return Charges({}, "other_anions")
    return Charges(chosen)


def _other_anion(solution: dict[str, int], anions: tuple[str, ...]) -> bool:
    return any(q < 0 and e not in anions for e, q in solution.items())


def _in_words(solutions: Sequence[dict[str, int]], deviations: Sequence[float]) -> str:
    """Such as ``Cu+ Fe3+ O2- (0.12); Cu2+ Fe2+ O2- (0.15)``: deviations in valence units, the best first."""
    order = np.argsort(deviations, kind="stable")
    ions = [" ".join(ion_label(e, q) for e, q in sorted(s.items())) for s in solutions]
    return "; ".join(f"{ions[k]} ({deviations[k]:.2f})" for k in order)


def _mixed_valences(item: SourceCrystal, settings: PrototypeSettings) -> str:
    """Pairs of states with which a crystal is neutral, such as ``Fe2+ Fe3+``; empty when there are none."""

    def fitting(orbits: dict[str, list[int]]) -> list[MixedValence]:
        found = mixed_valences(orbits)
        return [m for m in found if not settings.anions or m.anions <= set(settings.anions)]

    # Cheap first: could it balance if each atom were an orbit of its own?
    if not fitting({e: [1] * n for e, n in Counter(item.elements).items()}):
        return ""
    try:
        crystal = standardise(item.lattice, item.frac_coords, item.elements, {}, {})
    except SymmetryError:
        return ""
    orbits: dict[str, list[int]] = {}
    for element, atoms in zip(crystal.orbit_elements, crystal.orbit_multiplicities, strict=True):
        orbits.setdefault(element, []).append(atoms)
    pairs = [f"{ion_label(m.element, m.low)} {ion_label(m.element, m.high)}" for m in fitting(orbits)]
    return "; ".join(dict.fromkeys(pairs))
