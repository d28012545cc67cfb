"""A reference of competing phases from the surrogate's own relaxations, for campaigns without a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.crystal import structure_from_row
from pipeline.energetics import Surrogate, reference_total_energy, relative_to_elements, self_consistent_scheme
from pipeline.reference.formulas import CompositionKey, composition_key, reduced_formula

if TYPE_CHECKING:
    import pandas as pd

METAL_SPREAD = 1.0
"""eV/atom: a metal's true structure lies less below the median of the common elemental structures (tungsten, with the
largest known preference, bcc over fcc, by half of it: Grimvall et al., Rev. Mod. Phys. 2012, 84, 945)."""


def write_self_consistent_reference(
    rows: pd.DataFrame, surrogate: str | Surrogate
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turn relaxed elements and compounds into the two tables that ``PhaseReference.from_table`` reads.

    Parameters
    ----------
    rows
        One relaxed crystal a row: ``formula_pretty``, ``energy_per_atom`` (eV/atom, as the surrogate predicts
        it) and the structure columns. Rows whose energy is NaN (failed relaxations) are left out, and so are
        compounds of an element that has none: a candidate with such an element fails by name in stability.
    surrogate
        Name or object of the potential that relaxed them; its scheme decides on the corrections of compounds
        (see `pipeline.energetics.reference_total_energy`).

    Returns
    -------
    phases : pandas.DataFrame
        ``formula``, ``formation_energy_per_atom`` (eV/atom), ``scheme``; one row a composition, the lowest,
        sorted by formula. Phases above their elements stay in: they are known entries.
    elements : pandas.DataFrame
        ``element``, ``energy_per_atom`` (eV/atom), the lowest of each that is believed, sorted: of a metal,
        structures more than 1 eV/atom below the median of all are holes of the potential.

    Raises
    ------
    ValueError
        When no element, or no compound, was relaxed.
    """
    import pandas as pd

    usable = [row for row in rows.to_dict("records") if np.isfinite(row["energy_per_atom"])]
    keyed = [(composition_key(str(row["formula_pretty"])), row) for row in usable]
    found: dict[str, list[float]] = {}
    for key, row in keyed:
        if len(key) == 1:
            found.setdefault(key[0][0], []).append(float(row["energy_per_atom"]))
    elements = {symbol: _lowest_believed(symbol, values) for symbol, values in found.items()}
    if not elements:
        raise ValueError(
            f"none of the {len(rows)} reference crystals is a relaxed element; a self-consistent reference needs "
            "the elements of the campaign among its prototypes"
        )
    energies: dict[CompositionKey, float] = {}
    for key, row in keyed:
        if len(key) == 1 or any(symbol not in elements for symbol, _ in key):
            continue
        structure = structure_from_row(row)
        total = reference_total_energy(structure, float(row["energy_per_atom"]) * len(structure), surrogate)
        energy = relative_to_elements(structure, total, elements)
        energies[key] = min(energy, energies.get(key, np.inf))
    if not energies:
        raise ValueError(
            f"none of the {len(rows)} reference crystals is a relaxed compound: over the elements alone every compound "
            "is stable; see failed.csv, or raise reference.max_elements and max_sites"
        )
    named = sorted((reduced_formula(key), energy) for key, energy in energies.items())
    phases = pd.DataFrame(named, columns=["formula", "formation_energy_per_atom"])
    phases["scheme"] = self_consistent_scheme(surrogate)
    table = pd.DataFrame(sorted(elements.items()), columns=["element", "energy_per_atom"])
    return phases, table


def _lowest_believed(symbol: str, energies: list[float]) -> float:
    """Lowest energy of an element's crystals, holes left out."""
    from pymatgen.core import Element

    if not Element(symbol).is_metal:
        return min(energies)  # molecules do lie electronvolts below the dense packings among the prototypes
    floor = float(np.median(energies)) - METAL_SPREAD
    return min(e for e in energies if e >= floor)
