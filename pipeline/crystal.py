"""Crystals as rows of a table: nine lattice numbers, atomic numbers and fractional coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

STRUCTURE_COLUMNS = ("lattice", "atomic_numbers", "frac_coords", "oxidation_states")


def has_structure(row: Mapping[Any, Any] | pd.Series[Any]) -> bool:
    """Tell whether a row carries a crystal (its ``lattice`` is a sequence and not missing)."""
    lattice = row.get("lattice")
    return lattice is not None and np.ndim(lattice) == 1 and len(lattice) == 9


def structure_from_row(row: Mapping[Any, Any] | pd.Series[Any]) -> Structure:
    """Make the pymatgen structure of one row.

    Parameters
    ----------
    row
        Holds ``lattice`` (9 floats, Å, row-major lattice vectors), ``atomic_numbers`` (n) and ``frac_coords``
        (3n), and may hold ``oxidation_states`` (n, in units of e; empty or missing when unknown).

    Raises
    ------
    ValueError
        When the row carries no crystal, or its arrays disagree in length.
    """
    from pymatgen.core import Element, Lattice, Species, Structure

    if not has_structure(row):
        raise ValueError(f"row {row.get('candidate_id', '?')!r} carries no crystal: its 'lattice' is missing")
    numbers = [int(z) for z in row["atomic_numbers"]]
    coords = np.asarray(row["frac_coords"], dtype=float)
    if coords.size != 3 * len(numbers):
        raise ValueError(
            f"row {row.get('candidate_id', '?')!r} has {len(numbers)} atomic_numbers and {coords.size} "
            f"frac_coords; {3 * len(numbers)} were expected"
        )
    elements = [Element.from_Z(z) for z in numbers]
    states = row.get("oxidation_states")
    species: list[Any] = list(elements)
    if states is not None and np.ndim(states) == 1 and len(states) == len(numbers):
        species = [Species(e.symbol, float(q)) for e, q in zip(elements, states, strict=True)]
    lattice = Lattice(np.asarray(row["lattice"], dtype=float).reshape(3, 3))
    return Structure(lattice, species, coords.reshape(-1, 3))


def row_from_structure(structure: Structure) -> dict[str, list[Any]]:
    """Give the structure columns of an ordered crystal; ``oxidation_states`` is empty when there are none.

    Raises
    ------
    ValueError
        When a site is partially occupied: a row describes an ordered crystal.
    """
    if not structure.is_ordered:
        raise ValueError(f"{structure.formula} has partially occupied sites; a row needs an ordered crystal")
    states = [getattr(site.specie, "oxi_state", None) for site in structure]
    known = [float(q) for q in states if q is not None]
    return {
        "lattice": [float(x) for x in structure.lattice.matrix.reshape(-1)],
        "atomic_numbers": [int(z) for z in structure.atomic_numbers],
        "frac_coords": [float(x) for x in structure.frac_coords.reshape(-1)],
        "oxidation_states": known if len(known) == len(states) else [],
    }
