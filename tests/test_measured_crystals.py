"""Crystals as refinements leave them: guessed charges, shared and split sites, odd cells; OBELiX's archive."""

import io
import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.crystal import row_from_structure
from pipeline.oxidation_states import (
    OxidationStateError,
    balanced_oxidation_states,
    charge_per_atom,
    charged_species,
)
from pipeline.reference.bond_valence import MissingBondValenceParameterError
from pipeline.reference.measured_conductivities import read_measured_conductivities, structure_from_cif
from pipeline.settings import ConductionSettings
from pipeline.site_energies import NoMobileIonError
from pipeline.stages import conduction
from pipeline.stages.conduction import migration_barriers
from scripts.conduction_records import describe


def crystal(**amounts):
    """A crystal of given amounts, one site for each element, partially occupied; only its composition matters."""
    most = max(amounts.values())
    sites = [{element: amount / most} for element, amount in amounts.items()]
    return Structure(Lattice.cubic(20), sites, [[n / 20, 0, 0] for n in range(len(sites))])


def rock_salt(cation, anion, a=5.14):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


# --- oxidation states


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        # V5+ P3+ is neutral too, but phosphite is rare and phosphate isn't
        ({"Li": 1, "V": 1, "P": 1, "O": 4, "F": 1}, {"Li": 1, "V": 3, "P": 5, "O": -2, "F": -1}),
        ({"Li": 2.5, "V": 2, "P": 3, "O": 12}, {"Li": 1, "V": 3.25, "P": 5, "O": -2}),
        ({"Li": 0.7, "Fe": 1, "P": 1, "O": 4}, {"Li": 1, "Fe": 2.3, "P": 5, "O": -2}),
        # Co4+ is 4 % of cobalt's ions; the mixture is found all the same
        ({"Li": 0.5, "Co": 1, "O": 2}, {"Li": 1, "Co": 3.5, "O": -2}),
        # a little Si4- would be neutral within rounding, and is no anion beside P5+
        (
            {"Li": 24.1, "Si": 0.1, "P": 3.9, "S": 20, "Br": 4},
            {"Li": 1, "Si": 4, "P": 5, "S": -2, "Br": -1},
        ),
        ({"Li": 4, "P": 2, "S": 6}, {"Li": 1, "P": 4, "S": -2}),
        ({"Li": 1, "N": 1, "O": 3}, {"Li": 1, "N": 5, "O": -2}),
        ({"Li": 3, "O": 1, "Cl": 1}, {"Li": 1, "O": -2, "Cl": -1}),
    ],
)
def test_charges_balance_with_the_usual_states(amounts, expected):
    assert balanced_oxidation_states(crystal(**amounts)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("amounts", "imbalance"),
    [
        ({"Li": 6, "P": 2, "S": 7.82}, 0.36 / 15.82),  # refined sulfur vacancies
        ({"Li": 35.76, "La": 24, "Zr": 16, "O": 96}, -20.24 / 171.76),  # 36 of the 56 lithium ions refined
    ],
)
def test_incomplete_refinements_keep_usual_states_and_say_how_far_off_they_are(amounts, imbalance):
    structure = crystal(**amounts)
    charged = charged_species(structure)
    assert charge_per_atom(charged) == pytest.approx(imbalance, abs=1e-6)
    assert {symbol: q for site in charged for symbol, q, _ in site} == balanced_oxidation_states(structure)


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"Li": 2, "Br": 1, "O": 1}, "neutral within 0.15"),  # Li2OHBr without its hydrogen
        ({"Li": 2, "He": 1, "O": 1}, "He has no known oxidation state"),
    ],
)
def test_what_cannot_be_balanced_is_refused(amounts, message):
    with pytest.raises(OxidationStateError, match=message):
        balanced_oxidation_states(crystal(**amounts))


def test_deuterium_is_hydrogen():
    def hydroxide(hydrogen):
        return Structure(
            Lattice.tetragonal(3.55, 4.33),
            ["Li", "Li", "O", "O", hydrogen, hydrogen],
            [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.19], [0.5, 0, 0.81], [0, 0.5, 0.41], [0.5, 0, 0.59]],
        )

    assert migration_barriers(hydroxide("D"), "Li", 0.5) == migration_barriers(hydroxide("H"), "Li", 0.5)


# --- disordered crystals


def test_a_site_split_in_two_is_between_both_positions():
    whole = rock_salt("Li", "Cl")
    split = whole.copy()
    n = len(split) - 1
    centre, shift = split[n].frac_coords, np.array([0.02, 0.0, 0.0])
    split.replace(n, {"Cl": 0.5}, centre + shift)
    split.append({"Cl": 0.5}, centre - shift)  # 0.2 Å apart
    found = migration_barriers(split, "Li", 0.3)
    assert found.e3d == pytest.approx(migration_barriers(whole, "Li", 0.3).e3d, abs=0.2)
    assert charge_per_atom(charged_species(split)) == pytest.approx(0.0, abs=1e-9)


def test_lithium_beside_a_foreign_ion_on_one_site():
    shared = rock_salt({"Li": 0.5, "Mg": 0.25}, "Cl")
    found = migration_barriers(shared, "Li", 0.4)
    assert str(found.ion) == "Li1+"
    # the foreign cation repels where it sits
    assert found.e3d > migration_barriers(rock_salt("Li", "Cl"), "Li", 0.4).e3d


def test_two_mobile_ions_on_shared_sites():
    mixed = rock_salt({"Li": 0.4, "Na": 0.6}, "Cl")
    lithium = migration_barriers(mixed, "Li", 0.4, mobile_ions=("Na",))
    sodium = migration_barriers(mixed, "Na", 0.4, mobile_ions=("Li",))
    assert lithium.ion.element == "Li"
    assert sodium.ion.element == "Na"
    # each moves in the same empty chloride lattice as alone
    assert lithium == migration_barriers(rock_salt("Li", "Cl"), "Li", 0.4)
    assert sodium == migration_barriers(rock_salt("Na", "Cl"), "Na", 0.4)


# --- odd rows


def neutral_atom():
    return Structure(Lattice.cubic(4), ["Li+", "Ca0+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])


def phosphide():
    """Li3P: Brauer and Zintl, Z. Phys. Chem. B 1937, 37, 323."""
    return Structure(
        Lattice.hexagonal(4.264, 7.579),
        ["Li", "Li", "Li", "Li", "Li", "Li", "P", "P"],
        [
            [0, 0, 0.25],
            [0, 0, 0.75],
            [1 / 3, 2 / 3, 0.583],
            [2 / 3, 1 / 3, 0.083],
            [2 / 3, 1 / 3, 0.417],
            [1 / 3, 2 / 3, 0.917],
            [1 / 3, 2 / 3, 0.25],
            [2 / 3, 1 / 3, 0.75],
        ],
    )


REFUSED = [
    (neutral_atom(), OxidationStateError, "neutral atom"),
    (
        Structure(Lattice.cubic(4), ["Li", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        OxidationStateError,
        "neutral within 0.15",
    ),
    (rock_salt("Mg2+", "O2-", 4.21), NoMobileIonError, "holds no"),
    (phosphide(), MissingBondValenceParameterError, r"no parameters for Li1\+ with P3-"),
]
HANDLED = [
    rock_salt("Li+", "Cl-").get_primitive_structure(),
    rock_salt("Li+", "Cl-") * (4, 4, 4),
]


@pytest.mark.parametrize(("structure", "error", "message"), REFUSED)
def test_odd_crystals_are_refused_with_a_reason(structure, error, message):
    with pytest.raises(error, match=message):
        migration_barriers(structure, "Li", 0.5)


def test_cells_of_2_and_512_atoms_have_the_same_barriers():
    assert [len(structure) for structure in HANDLED] == [2, 512]
    small, conventional, large = (
        migration_barriers(structure, "Li", spacing)
        for structure, spacing in ((HANDLED[0], 0.25), (rock_salt("Li+", "Cl-"), 0.65), (HANDLED[1], 0.65))
    )
    # four cells along each axis carry four times the points, on the same places
    assert large.grid_shape == tuple(4 * n for n in conventional.grid_shape)
    assert large.e3d == pytest.approx(conventional.e3d, abs=1e-3)
    # the primitive cell's grid has other points: compare at a spacing where that matters less
    assert small.e3d == pytest.approx(migration_barriers(rock_salt("Li+", "Cl-"), "Li", 0.25).e3d, abs=0.1)


def test_in_the_stage_an_odd_row_fails_alone(tmp_path):
    structures = [*HANDLED, *(structure for structure, _, _ in REFUSED)]
    part = pd.DataFrame([row_from_structure(structure) for structure in structures])
    refs = SimpleNamespace(mobile_ions=("Li", "Na"))
    done = conduction.run(part, ConductionSettings(spacing=0.8), refs, tmp_path)
    assert done["conduction_status"].tolist() == ["ok", "ok", "failed", "failed", "failed", "failed"]
    for text, (_, error, _) in zip(done["conduction_error"].tolist()[2:], REFUSED, strict=True):
        assert text.startswith(f"{error.__name__}: ")
    assert done["migration_barrier_3d"].tolist()[0] == migration_barriers(HANDLED[0], "Li", 0.8).e3d
    assert done["migration_barrier_3d"].isna().tolist() == [False, False, True, True, True, True]


# --- the data set's files

CIF = rock_salt({"Li": 0.75, "Na": 0.25}, "Cl").to(fmt="cif")
HEADER = "ID,Reduced Composition,Ionic conductivity (S cm-1),Family\n"


def write_data(folder, members, rows):
    with tarfile.open(folder / "train_cifs.tar.gz", "w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            if text is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
                archive.addfile(info)
            else:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    (folder / "train.csv").write_text(HEADER + rows, encoding="utf-8")


def test_rows_meet_their_crystals(tmp_path):
    write_data(tmp_path, {"cifs/b.cif": CIF, "cifs/a.cif": CIF}, "a,LiCl,<1E-10,halides\nx,Li2O,1e-9,\nb,LiCl,2e-4,\n")
    first, second = read_measured_conductivities(tmp_path)
    assert (first.identifier, first.conductivity, first.is_upper_bound, first.family) == ("a", 1e-10, True, "halides")
    assert (second.identifier, second.conductivity, second.is_upper_bound) == ("b", 2e-4, False)
    structure = structure_from_cif(first.cif)
    assert len(structure) == 8
    assert structure[0].species.as_dict() == {"Li": 0.75, "Na": 0.25}


@pytest.mark.parametrize(
    ("members", "rows", "message"),
    [
        ({"a.cif": CIF}, "b,LiCl,1e-5,\n", "no row of train.csv belongs to the CIFs a"),
        ({"a.cif": CIF}, "a,LiCl,0,\n", "conductivity of a must be a positive number"),
        ({"a.cif": None}, "a,LiCl,1e-5,\n", "'a.cif' in the archive is no CIF"),
        ({"../a.sh": CIF}, "a,LiCl,1e-5,\n", "is no CIF"),
    ],
)
def test_broken_data_is_refused(tmp_path, members, rows, message):
    write_data(tmp_path, members, rows)
    with pytest.raises(ValueError, match=message):
        read_measured_conductivities(tmp_path)


@pytest.mark.data
def test_measured_electrolytes_are_handled_or_refused_with_a_reason():
    crystals = read_measured_conductivities(Path(os.environ["IONSIEVE_DATA"]) / "data" / "obelix")
    assert len(crystals) > 250
    assert sum(c.is_upper_bound for c in crystals) == 28
    cifs = {c.identifier: c.cif for c in crystals}
    # ordered; vanadium mixed; cations share a site; lithium shares its site; sulfur refined short
    for name in ("y2l", "9lx", "gas", "qbb", "joc"):
        found = migration_barriers(structure_from_cif(cifs[name]), "Li", 0.5)
        assert np.isfinite([found.e1d, found.e2d, found.e3d]).all()
        assert 0.0 < found.e1d <= found.e2d <= found.e3d
        described = describe(cifs[name], 0.5)
        assert [described[key] for key in ("e1d", "e2d", "e3d")] == [found.e1d, found.e2d, found.e3d]
    for name, error, message in (
        ("b4c", NoMobileIonError, "holds no Li"),
        ("883", MissingBondValenceParameterError, r"Li1\+ with H1-"),
        ("hx7", OxidationStateError, "neutral within 0.15"),
    ):
        with pytest.raises(error, match=message):
            migration_barriers(structure_from_cif(cifs[name]), "Li", 0.5)
