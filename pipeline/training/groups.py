"""What crystals are never divided between splits by, where their labels name no group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.reference.protostructure import SymmetryError, standardise


def _symbols(row: Mapping[str, Any]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[int(z)] for z in row["atomic_numbers"]]


def formula_group(row: Mapping[str, Any]) -> str:
    """Reduced formula of a row with ``atomic_numbers``."""
    from pymatgen.core import Composition

    symbols = _symbols(row)
    return str(Composition({symbol: symbols.count(symbol) for symbol in set(symbols)}).reduced_formula)


def protostructure(row: Mapping[str, Any]) -> str | None:
    """Anonymous formula, sites, space group and Wyckoff letters of a row's crystal; None where there is no symmetry.

    Distorted crystals have none, so that their label would be that of any crystal with as many atoms.
    """
    lattice = np.asarray(row["lattice"], np.float64).reshape(3, 3)
    coords = np.asarray(row["frac_coords"], np.float64).reshape(-1, 3)
    try:
        crystal = standardise(lattice, coords, _symbols(row), {}, {})
    except SymmetryError:
        return None
    return crystal.frame if crystal.spacegroup_number > 1 else None


def protostructure_group(row: Mapping[str, Any]) -> str:
    """Protostructure of a row's crystal; the reduced formula where there is no symmetry."""
    return protostructure(row) or formula_group(row)
