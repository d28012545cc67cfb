"""Formation energies and the convex hull of one DFT code and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.energetics import relative_to_elements
from pipeline.mp2020 import mp2020_corrections
from pipeline.reference.formulas import composition_key, structure_formula
from pipeline.reference.phases import PhaseReference

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.dft.calculation import DftResult


@dataclass(frozen=True)
class HullPlace:
    """Where a crystal stands: formation energy and distance to the hull (eV/atom), and the phases there."""

    formation_energy: float
    energy_above_hull: float
    decomposition: Mapping[str, float]


def hull_place(
    structure: Structure, result: DftResult, competing: Mapping[str, DftResult], *, mp2020: bool
) -> HullPlace:
    """Place a candidate on the hull of its competing phases.

    Parameters
    ----------
    structure
        The candidate; its oxidation states, if it has some, decide which elements are anions for MP2020.
    result
        Its DFT result.
    competing
        Results of the phases by formula, every element of the candidate among them.
    mp2020
        Add the MP2020 corrections to compounds: for inputs of the Materials Project, which mix PBE and PBE+U. Other
        engines compute all phases with plain PBE, whose totals belong together as they are.

    Raises
    ------
    ValueError
        When an element of the candidate is not among the phases.
    """
    elements = {
        composition_key(formula)[0][0]: found.energy_per_atom
        for formula, found in competing.items()
        if len(composition_key(formula)) == 1
    }
    energies = {
        composition_key(formula): _formation_energy(found.structure, found, elements, mp2020)
        for formula, found in competing.items()
        if len(composition_key(formula)) > 1
    }
    hull = PhaseReference(energies, elemental_energies=elements, scheme="dft", source="the DFT hull")
    formula = structure_formula(structure)
    formation = _formation_energy(structure, result, elements, mp2020)
    above = float(hull.energy_above_hull([formula], [formation])[0])
    return HullPlace(formation, above, hull.decomposition(formula))


def unlike_pseudopotentials(results: Mapping[str, DftResult]) -> str:
    """Where results that would share a hull were computed with two pseudopotentials of one element; empty: nowhere.

    Two may have one name, and their total energies another zero each.
    """
    first: dict[str, tuple[str, str]] = {}
    for name, result in results.items():
        for symbol, what in result.pseudopotentials.items():
            other, known = first.setdefault(symbol, (name, what))
            if known != what:
                return f"{symbol}'s is {known} in {other} and {what} in {name}"
    return ""


def _formation_energy(structure: Structure, result: DftResult, elements: Mapping[str, float], mp2020: bool) -> float:
    total = result.energy_per_atom * len(structure)  # DFT may have computed a smaller cell
    if mp2020 and len(structure.composition.elements) > 1:
        total += sum(correction.energy for correction in mp2020_corrections(structure))
    return relative_to_elements(structure, total, elements)
