"""Which crystals are computed spin-polarised, and from which magnetic moments they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.io.vasp.sets import MPRelaxSet

if TYPE_CHECKING:
    from pymatgen.core import Structure

OXYGEN_MOMENT = 1.0
"""Bohr magnetons an atom of elemental oxygen, whose molecule is a triplet."""


def initial_moments(structure: Structure) -> list[float]:
    """Magnetic moment to start from on each of n atoms, in Bohr magnetons; all zero for a closed shell.

    Atoms of the elements for which the Materials Project's input set (pymatgen's MPRelaxSet) lists a moment above its
    default of 0.6 get that moment, ferromagnetically; elemental oxygen gets `OXYGEN_MOMENT`.
    """
    table = MPRelaxSet.CONFIG["INCAR"]["MAGMOM"]
    symbols = [site.specie.symbol for site in structure]
    if set(symbols) == {"O"}:
        return [OXYGEN_MOMENT] * len(symbols)
    return [float(table.get(symbol, 0.0)) for symbol in symbols]
