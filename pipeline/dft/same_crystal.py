"""Whether a program computed the crystal that it was given."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Structure

TOLERANCE = 2e-3
"""Å: outputs print positions to five or more digits, in fractions of the cell or its edge."""


def difference(asked: Structure, found: Structure) -> list[str]:
    """In what a crystal differs from the one asked for, in words; empty when it is the same.

    The sites of each element are compared in their order, the elements in any; positions modulo the lattice.
    """
    if asked.composition != found.composition:
        return [f"the crystal is {found.formula}, {asked.formula} was asked"]
    shift = float(np.abs(asked.lattice.matrix - found.lattice.matrix).max())
    if shift > TOLERANCE:
        return [f"the lattice vectors differ from those asked by {shift:.4f} Å"]
    far = 0.0
    for symbol in sorted({site.specie.symbol for site in asked}):
        one, other = (_places(structure, symbol) for structure in (asked, found))
        apart = one - other
        apart -= np.round(apart)
        far = max(far, float(np.linalg.norm(apart @ asked.lattice.matrix, axis=1).max()))
    return [f"an atom is {far:.4f} Å from where it was asked"] if far > TOLERANCE else []


def _places(structure: Structure, symbol: str) -> np.ndarray:
    return np.array([site.frac_coords for site in structure if site.specie.symbol == symbol])
