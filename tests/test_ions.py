"""The table of ions."""

import csv
import importlib.util
import math
from pathlib import Path

import pytest

from pipeline.reference.ions import allowed_ions, ion, ion_label, ion_table, oxidation_states
from pipeline.settings import CandidateSettings, PrototypeSettings

ROOT = Path(__file__).resolve().parent.parent


def settings(**changes):
    given = {"prototypes": PrototypeSettings(source="aflow"), "elements": ("Li", "Na", "Y", "Fe", "Cl", "O")}
    return CandidateSettings(**{**given, **changes})


def test_radii_are_shannons():
    # Shannon, Acta Cryst. A 1976, 32, 751, table 1, coordination VI (Fe: high spin)
    published = {("Li", 1): 0.76, ("Na", 1): 1.02, ("Y", 3): 0.900, ("Fe", 2): 0.780, ("Fe", 3): 0.645,
                 ("O", -2): 1.40, ("F", -1): 1.33, ("Cl", -1): 1.81, ("Zr", 4): 0.72, ("La", 3): 1.032}  # fmt: skip
    for (element, charge), radius in published.items():
        assert ion(element, charge).radius == pytest.approx(radius, abs=1e-9)


def test_table_is_large_enough_and_without_noble_gases():
    elements = {i.element for i in ion_table()}
    assert len({i.element for i in ion_table() if i.default}) >= 70
    assert not elements & {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}
    assert all(not math.isnan(i.radius) and i.radius > 0 for i in ion_table() if i.default)
    assert all(i.charge != 0 for i in ion_table())


def test_classes():
    assert "toxic" in ion("Tl", 1).classes
    assert "rare" in ion("Pt", 4).classes
    assert "radioactive" in ion("U", 4).classes
    assert ion("Na", 1).classes == ()


def test_csv_is_what_the_script_writes():
    path = ROOT / "scripts" / "build_ions.py"
    spec = importlib.util.spec_from_file_location("build_ions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with (ROOT / "pipeline" / "reference" / "ions.csv").open(newline="", encoding="utf-8") as handle:
        stored = list(csv.reader(handle))[1:]
    assert stored == [[str(v) for v in row] for row in module.rows()]


def test_labels():
    assert [ion_label("Na", 1), ion_label("Y", 3), ion_label("Cl", -1), ion_label("O", -2)] == [
        "Na+",
        "Y3+",
        "Cl-",
        "O2-",
    ]


def test_unlisted_charge_takes_the_nearest_of_its_sign():
    assert ion("Y", 2).radius == ion("Y", 3).radius
    assert math.isnan(ion("Y", -1).radius)
    with pytest.raises(ValueError, match="'Xe'"):
        ion("Xe", 2)


def test_allowed_ions_are_the_defaults_in_order():
    labels = [i.label for i in allowed_ions(settings())]
    assert labels == ["Li+", "O2-", "Na+", "Cl-", "Fe2+", "Fe3+", "Y3+"]


def test_charges_override_the_table():
    labels = [i.label for i in allowed_ions(settings(charges={"Fe": (3,), "Cl": (-1, 5)}))]
    assert labels == ["Li+", "O2-", "Na+", "Cl-", "Cl5+", "Fe3+", "Y3+"]


def test_elements_and_classes_are_left_out():
    chosen = settings(
        elements=("Li", "Tl", "Pd", "U", "Cl"), exclude_elements=("Li",), exclude_classes=("toxic", "rare")
    )
    assert [i.label for i in allowed_ions(chosen)] == ["Cl-", "U6+"]


def test_elements_without_ions_are_all_named():
    with pytest.raises(ValueError, match="H, Xe"):
        allowed_ions(settings(elements=("H", "Li", "Xe")))


def test_states_of_an_unknown_element_are_empty():
    assert oxidation_states("Xe") == ()
    assert oxidation_states("Fe") == (2, 3)
