"""Which crystals are computed spin-polarised, and that what was kept without spin is not taken for them."""

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.sets import MPRelaxSet

from pipeline.dft.calculation import Calculation
from pipeline.dft.moments import initial_moments, ion_moments
from tests.dft_crystals import espresso_settings, face_centred, lithium_chloride, lithium_iron_oxide


@pytest.mark.parametrize(
    ("metal", "moment"),
    [
        ("Gd", 7.0),
        ("Dy", 5.0),
        ("Ho", 4.0),
        ("Er", 3.0),
        ("Tm", 2.0),
        ("Nd", 3.0),
        ("La", 0.0),
        ("Lu", 0.0),
        ("Sc", 0.0),
    ],
)
def test_lanthanides_have_the_moments_of_their_ions(metal: str, moment: float) -> None:
    """As Hund's rules have them for the spins of Ln3+, except where the input set is lower (Dy, Ho)."""
    assert initial_moments(face_centred(5.0, metal, "N", 0.5)) == [moment, 0.0]


def test_elements_that_the_input_set_lists_keep_what_it_says() -> None:
    listed = MPRelaxSet.CONFIG["INCAR"]["MAGMOM"]
    assert initial_moments(lithium_iron_oxide()) == [0.0, listed["Fe"], 0.0, 0.0]
    for symbol in ("Co", "Ce", "Eu", "Mn"):
        assert initial_moments(face_centred(4.2, symbol, "O", 0.5)) == [listed[symbol], 0.0]


def test_oxygen_alone_is_a_triplet() -> None:
    molecule = Structure(Lattice.cubic(8.0), ["O", "O"], [[0, 0, 0], [0.15, 0, 0]])
    assert initial_moments(molecule) == [1.0, 1.0]


def test_results_without_those_moments_are_not_found_again() -> None:
    """Earlier versions computed GdN with a closed shell and kept it under crystal, settings and code alone."""
    settings = espresso_settings().calculation_settings()
    nitride = face_centred(5.0, "Gd", "N", 0.5)
    assert ion_moments(nitride) == {"Gd": 7.0}
    espresso, vasp = (Calculation(nitride, each) for each in (settings, {"engine": "vasp", "relax": "none"}))
    assert not espresso.digest.startswith("4178a04418a4c535")
    assert vasp.digest.startswith("de0b56bb38937d8d")
    assert Calculation(lithium_chloride(), settings).digest.startswith("b2482616ae419fd7")
