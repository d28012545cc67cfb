"""softBV parameters (Chen, Wong and Adams, Acta Cryst. B 2019, 75, 18) for bond-valence site energies.

The two CSV files beside this module are written by ``scripts/build_bond_valence_parameters.py``; their first
lines carry source and licence.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

PAIR_COLUMNS = ("cation", "cation_charge", "anion", "anion_charge", "r0", "r_min", "d0", "alpha")
ELEMENT_COLUMNS = ("element", "principal_quantum_number", "cation_radius", "anion_radius")


class MissingBondValenceParameterError(ValueError):
    """No usable softBV parameter exists for an ion or a pair of ions."""


class Ion(NamedTuple):
    """An element with an integer charge, such as ``Ion("Li", 1)``."""

    element: str
    charge: int

    def __str__(self) -> str:
        return f"{self.element}{abs(self.charge)}{'+' if self.charge >= 0 else '-'}"


@dataclass(frozen=True)
class MorsePair:
    """Morse parameters of a cation and an anion.

    Attributes
    ----------
    r0 : float
        Length of a bond of valence one, Å.
    r_min : float
        Distance of lowest energy, Å.
    d0 : float
        Depth of the well, eV (the site energy counts half of it).
    alpha : float
        Inverse softness 1/b, 1/Å.
    """

    r0: float
    r_min: float
    d0: float
    alpha: float


@dataclass(frozen=True)
class ScreeningParameters:
    """What the screened Coulomb repulsion needs of an ion.

    Attributes
    ----------
    covalent_radius : float
        softBV's radius for the sign of the ion's charge, Å.
    principal_quantum_number : int
        Of the valence shell.
    """

    covalent_radius: float
    principal_quantum_number: int


def _read_rows(name: str) -> list[dict[str, str]]:
    text = files("pipeline.reference").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@cache
def _pairs() -> dict[tuple[Ion, Ion], MorsePair]:
    return {
        (
            Ion(row["cation"], int(row["cation_charge"])),
            Ion(row["anion"], int(row["anion_charge"])),
        ): MorsePair(r0=float(row["r0"]), r_min=float(row["r_min"]), d0=float(row["d0"]), alpha=float(row["alpha"]))
        for row in _read_rows("bond_valence_pairs.csv")
    }


@cache
def _elements() -> dict[str, dict[str, str]]:
    return {row["element"]: row for row in _read_rows("bond_valence_elements.csv")}


def morse_pair(one: Ion, other: Ion) -> MorsePair:
    """Morse parameters of two ions of opposite charge, in either order.

    Raises
    ------
    MissingBondValenceParameterError
        When the pair is not tabulated, or is tabulated with a softness that is not positive (34 extrapolated
        entries are: their energy would grow without bound with distance).
    """
    cation, anion = (one, other) if one.charge > 0 else (other, one)
    pair = _pairs().get((cation, anion))
    if pair is None:
        known = sorted({str(c) for c, a in _pairs() if c.element == cation.element and a == anion})
        raise MissingBondValenceParameterError(
            f"softBV has no parameters for {cation} with {anion}; "
            f"{cation.element} is known there as: {', '.join(known) or 'no ion at all'}. "
            "Check the oxidation states, or leave the structure out of the conduction stage"
        )
    if pair.alpha <= 0.0:
        raise MissingBondValenceParameterError(
            f"softBV's parameters for {cation} with {anion} are unphysical (alpha = {pair.alpha} 1/Å is not "
            "positive); leave the structure out of the conduction stage"
        )
    return pair


def screening_parameters(ion: Ion) -> ScreeningParameters:
    """Covalent radius and principal quantum number; the radius depends on element and sign of charge only.

    Raises
    ------
    MissingBondValenceParameterError
        When the element, or its radius for that sign of charge, is not tabulated.
    """
    row = _elements().get(ion.element)
    radius = row["cation_radius" if ion.charge > 0 else "anion_radius"] if row else ""
    if row is None or not radius:
        raise MissingBondValenceParameterError(
            f"softBV has no covalent radius for {ion}; check the oxidation states, or leave the structure "
            "out of the conduction stage"
        )
    return ScreeningParameters(float(radius), int(row["principal_quantum_number"]))
