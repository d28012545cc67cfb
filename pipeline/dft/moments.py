"""Which crystals are computed spin-polarised, and from which magnetic moments they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymatgen.io.vasp.sets import MPRelaxSet

if TYPE_CHECKING:
    from pymatgen.core import Structure

OXYGEN_MOMENT = 1.0
"""Bohr magnetons an atom of elemental oxygen, whose molecule is a triplet."""

DEFAULT_MOMENT = 0.6
"""Bohr magnetons that the input set gives to atoms of which it knows nothing."""


def initial_moments(structure: Structure) -> list[float]:
    """Magnetic moment to start from on each of n atoms, in Bohr magnetons; all zero for a closed shell.

    Atoms get the moment that the Materials Project's input set (pymatgen's MPRelaxSet) lists for their element, or for
    their `ion_moments`, ferromagnetically; elemental oxygen gets `OXYGEN_MOMENT`.
    """
    table = {**MPRelaxSet.CONFIG["INCAR"]["MAGMOM"], **ion_moments(structure)}
    symbols = [site.specie.symbol for site in structure]
    if set(symbols) == {"O"}:
        return [OXYGEN_MOMENT] * len(symbols)
    return [float(table.get(symbol, 0.0)) for symbol in symbols]


def ion_moments(structure: Structure) -> dict[str, float]:
    """Moments, Bohr magnetons, of the elements of which the input set lists ions only, as of Gd3+: most lanthanides.

    Of several ions the largest counts; one with the set's default of 0.6 (La3+, Lu3+) has a closed shell.
    """
    table = MPRelaxSet.CONFIG["INCAR"]["MAGMOM"]
    found: dict[str, float] = {}
    for symbol in sorted({site.specie.symbol for site in structure} - set(table)):
        own = [float(moment) for ion, moment in table.items() if ion.rstrip("0123456789+-") == symbol]
        if own and max(own) > DEFAULT_MOMENT:
            found[symbol] = max(own)
    return found
