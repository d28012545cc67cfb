"""Fixed crystals for the tests of DFT, and calculations of them."""

from typing import Any

from pymatgen.core import Lattice, Structure

from pipeline.dft.calculation import Calculation
from pipeline.settings import DftSettings

PSEUDOPOTENTIALS = {"B": "B.pbe-n-kjpaw_psl.1.0.0.UPF", "N": "N.pbe-n-kjpaw_psl.1.0.0.UPF"}


def face_centred(a: float, first: str, second: str, place: float) -> Structure:
    """Primitive cell of rock salt (place 0.5) or zinc blende (0.25), a in Å."""
    lattice = Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return Structure(lattice, [first, second], [[0, 0, 0], [place] * 3])


def lithium_chloride() -> Structure:
    return face_centred(5.14, "Li", "Cl", 0.5)


def boron_nitride() -> Structure:
    return face_centred(3.60, "B", "N", 0.25)


def lithium_iron_oxide() -> Structure:
    """Four atoms of a perfect rock-salt superstructure: a crystal that takes a U and magnetic moments."""
    lattice = Lattice.tetragonal(2.95, 4.17)
    return Structure(lattice, ["Li", "Fe", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]])


def espresso_settings(**more: Any) -> DftSettings:
    own = {"pseudopotentials": PSEUDOPOTENTIALS, "cutoff": 30.0, "density_cutoff": 240.0, "kpoint_density": 1.5}
    return DftSettings(engine="espresso", espresso=own, **more)


def calculation(structure: Structure, settings: DftSettings) -> Calculation:
    return Calculation(structure, settings.calculation_settings())
