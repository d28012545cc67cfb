"""The table of ions."""

import csv
import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.candidate_settings import CandidateSettings, PrototypeSettings
from pipeline.reference.ions import (
    allowed_ions,
    ion,
    ion_label,
    ion_table,
    ions_without_radius,
    oxidation_states,
    parse_ion,
    radius,
)
from pipeline.stages.cheap_gates import ion_tables

ROOT = Path(__file__).resolve().parent.parent


def settings(**changes):
    given = {"prototypes": PrototypeSettings(source="aflow"), "elements": ("Li", "Na", "Y", "Fe", "Cl", "O")}
    return CandidateSettings(**{**given, **changes})


def test_radii_are_shannons():
    # Shannon, Acta Cryst. A 1976, 32, 751, table 1, coordination VI (Fe: high spin)
    published = {("Li", 1): 0.76, ("Na", 1): 1.02, ("Y", 3): 0.900, ("Fe", 2): 0.780, ("Fe", 3): 0.645,
                 ("O", -2): 1.40, ("F", -1): 1.33, ("Cl", -1): 1.81, ("Zr", 4): 0.72, ("La", 3): 1.032}  # fmt: skip
    for (element, charge), size in published.items():
        assert ion(element, charge).radius == pytest.approx(size, abs=1e-9)


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
    for name, rows in (("ions.csv", module.rows()), ("ionic_radii.csv", module.radius_rows())):
        with (ROOT / "pipeline" / "reference" / name).open(newline="", encoding="utf-8") as handle:
            stored = list(csv.reader(handle))[1:]
        assert stored == [[str(v) for v in row] for row in rows]


def test_radii_by_coordination_are_shannons():
    # Shannon, Acta Cryst. A 1976, 32, 751, table 1; Fe2+ and Mn2+ high spin
    published = {("Li", 1, 4): 0.59, ("Na", 1, 8): 1.18, ("K", 1, 12): 1.64, ("Mg", 2, 4): 0.57, ("Al", 3, 5): 0.48,
                 ("Fe", 2, 4): 0.63, ("Mn", 2, 6): 0.83, ("Si", 4, 4): 0.26, ("La", 3, 9): 1.216, ("Eu", 3, 7): 1.01,
                 ("O", -2, 4): 1.38, ("Pd", 2, 4): 0.64}  # fmt: skip
    for (element, charge, coordination), size in published.items():
        assert radius(element, charge, coordination) == pytest.approx(size, abs=1e-9)


def test_radii_between_beyond_and_without_tabulated_coordinations():
    assert radius("Li", 1, 5) == pytest.approx((0.59 + 0.76) / 2)
    assert radius("Li", 1, 6.5) == pytest.approx(0.76 + (0.92 - 0.76) / 4)
    assert radius("Li", 1, 2) == radius("Li", 1, 4)
    assert radius("Li", 1, 12) == radius("Li", 1, 8)
    assert radius("Y", 2, 8) == radius("Y", 3, 8)
    assert radius("C", 4, 3) == radius("C", 4, 4) == pytest.approx(0.15)  # threefold is negative: no size
    assert math.isnan(radius("H", 1))
    assert math.isnan(radius("Xe", -1))


def test_radii_grow_with_coordination_and_fall_with_charge():
    for i in ion_table():
        if math.isnan(i.radius) or i.charge < 0:
            continue
        # 0.045 Å: Sb3+ with its lone pair is 0.80 Å fivefold and 0.76 Å sixfold in Shannon's table
        sizes = [radius(i.element, i.charge, n) for n in range(2, 13)]
        assert all(b >= a - 0.045 for a, b in itertools.pairwise(sizes)), i.label
    assert radius("Fe", 2) > radius("Fe", 3) > radius("Fe", 4)


def test_labels():
    assert parse_ion("Y3+") == ("Y", 3)
    assert parse_ion("Cl-") == ("Cl", -1)
    for wrong in ("Na", "Na1", "+", "Xx+", "Y+3", "O0-", "O9-", ""):
        with pytest.raises(ValueError, match="is no ion; write the element"):
            parse_ion(wrong)
    assert [ion_label("Na", 1), ion_label("Y", 3), ion_label("Cl", -1), ion_label("O", -2)] == [
        "Na+",
        "Y3+",
        "Cl-",
        "O2-",
    ]


def test_unlisted_charge_takes_the_nearest_of_its_sign():
    assert ion("Y", 2).radius == ion("Y", 3).radius
    assert math.isnan(ion("Y", -1).radius)
    assert ion("Fe", 4).radius == radius("Fe", 4) == pytest.approx(0.585)  # of the table of radii
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


def test_own_radii():
    chosen = settings(charges={"Y": (3, -1)}, radii={"Li+": 0.90, "Y-": 1.9})
    sizes = {i.label: i.radius for i in allowed_ions(chosen)}
    assert sizes["Li+"] == 0.90
    assert sizes["Y-"] == 1.9
    assert sizes["Na+"] == ion("Na", 1).radius
    assert ions_without_radius(chosen) == ()
    assert ions_without_radius(settings(charges={"Y": (3, -1)})) == ("Y-",)
    tables, plain = ion_tables(tuple(chosen.radii.items())), ion_tables()
    assert tables.radius[3, 8 + 1] == 0.90
    assert tables.radius[39, 8 - 1] == 1.9
    assert (~np.isclose(tables.radius, plain.radius, equal_nan=True)).sum() == 2


@pytest.mark.parametrize(
    ("radii", "words"),
    [
        ({"Li": 0.76}, "'Li' is no ion; write the element"),
        ({"Li1+": 0.76}, "write Li\\+, not Li1\\+"),
        ({"Li+": 76.0}, "the radius of Li\\+ must lie from 0.05 to 4 Å, got 76"),
        ({"Qq+": 0.76}, "'Qq\\+' is no ion"),
    ],
)
def test_wrong_own_radii(radii, words):
    with pytest.raises(ValueError, match=words):
        settings(radii=radii)
