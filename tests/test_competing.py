"""Competing phases of the self-consistent reference."""

import numpy as np
import pytest

from pipeline.config import ReferenceSettings
from pipeline.crystal import structure_from_row
from pipeline.reference.competing import COLUMNS, atomic_volume, competing_phases

ELEMENTS = ("Li", "Na", "Y", "Sc", "In", "Mg", "Cl", "Br")


@pytest.fixture(scope="module")
def phases():
    return competing_phases(ELEMENTS, ReferenceSettings(source="prototypes", max_elements=2))


def test_number_and_columns(phases):
    assert 150 <= len(phases) <= 400
    assert tuple(phases.columns) == COLUMNS
    assert phases.candidate_id.is_unique
    assert phases.nsites.max() <= 16


def test_every_element_and_every_salt_is_there(phases):
    systems = set(phases.chemsys)
    assert set(ELEMENTS) <= systems
    assert {"Cl-Li", "Cl-Na", "Cl-Y", "Br-Mg", "Br-In"} <= systems
    assert "Li-Na" not in systems


def test_rows_are_crystals(phases):
    for row in phases.to_dict("records"):
        structure = structure_from_row(row)
        assert len(structure) == row["nsites"]
        assert structure.chemical_system == row["chemsys"]
        assert 4.0 < structure.volume / len(structure) < 120.0
        assert structure.composition.remove_charges().reduced_formula == row["formula_pretty"]


def test_rocksalt_starts_near_its_measured_size(phases):
    # NaCl: a = 5.640 Å (Wyckoff, Crystal Structures, 1963), 22.4 Å3 an atom
    volumes = [
        abs(np.linalg.det(np.reshape(v, (3, 3)))) / n
        for v, n in phases[phases.formula_pretty == "NaCl"][["lattice", "nsites"]].itertuples(index=False)
    ]
    assert min(abs(v / 22.4 - 1) for v in volumes) < 0.05


def test_elements_start_at_the_volume_of_the_pure_substance(phases):
    # lithium: 13.02 cm3/mol
    assert atomic_volume("Li") == pytest.approx(21.62, abs=0.01)
    lithium = phases[phases.formula_pretty == "Li"].iloc[0]
    assert abs(np.linalg.det(np.reshape(lithium.lattice, (3, 3)))) / lithium.nsites == pytest.approx(21.62, abs=0.01)


def test_only_elements():
    phases = competing_phases(("Li", "Cl"), ReferenceSettings(source="prototypes", max_elements=1))
    assert set(phases.chemsys) == {"Li", "Cl"}


def test_every_oxidation_state_competes():
    # candidates get Ti4+ and In3+ by default; TiF3 and InCl are stable phases all the same
    settings = ReferenceSettings(source="prototypes", max_elements=2)
    assert {"TiF4", "TiF3"} <= set(competing_phases(("Ti", "F"), settings).formula_pretty)
    assert {"InCl", "InCl3"} <= set(competing_phases(("In", "Cl"), settings).formula_pretty)
    assert "YCl2" not in set(competing_phases(("Y", "Cl"), settings).formula_pretty)
    assert "YCl2" in set(competing_phases(("Y", "Cl"), settings, charges={"Y": (2,)}).formula_pretty)
