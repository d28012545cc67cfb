"""Stage window."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline import schema
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key
from pipeline.settings import WindowSettings
from pipeline.stages import window

ENERGIES = {"LiCl": -2.1, "NaCl": -2.1, "YCl3": -2.5, "NaYCl4": -2.38, "Li2S": -1.4}
SETTINGS = WindowSettings()


def refs_for(*ions: str) -> SimpleNamespace:
    phases = PhaseReference({composition_key(f): e for f, e in ENERGIES.items()})
    return SimpleNamespace(phases=phases, mobile_ions=ions)


def part_of(*rows: tuple[str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["formula_pretty", "formation_energy_per_atom"], index=range(7, 7 + len(rows)))


PART = part_of(("Li3YCl6", -2.2), ("Na2LiYCl6", -2.2), ("LiCl", -2.1), ("Na3YCl6", -2.3), ("YCl3", -2.5))


def test_adds_the_declared_columns_and_keeps_the_rows(tmp_path: Path) -> None:
    result = window.run(PART, SETTINGS, refs_for("Li", "Na"), tmp_path)
    declared = [c.name for c in schema.columns_of("window")]
    per_ion = [f"{limit}_limit_{ion}" for ion in ("Li", "Na") for limit in ("reduction", "oxidation")]
    assert list(result.columns) == [*PART.columns, *declared, *per_ion]
    assert list(result.index) == list(PART.index)
    schema.to_arrow(result, [*declared, *per_ion])
    assert result["window_status"].tolist() == ["ok", "ok", "ok", "ok", "skipped"]


def test_worst_of_the_mobile_ions_counts(tmp_path: Path) -> None:
    row = window.run(PART, SETTINGS, refs_for("Li", "Na"), tmp_path).iloc[1]
    assert row["reduction_limit"] == max(row["reduction_limit_Li"], row["reduction_limit_Na"])
    assert row["oxidation_limit"] == min(row["oxidation_limit_Li"], row["oxidation_limit_Na"])
    assert set(row["window_ion"].split("/")) <= {"Li", "Na"}


def test_closed_form_and_products(tmp_path: Path) -> None:
    first, _, salt, sodium, _ = window.run(PART, SETTINGS, refs_for("Li", "Na"), tmp_path).to_dict("records")
    assert first["reduction_limit"] == pytest.approx((6 * 2.1 - 4 * 2.5) / 3)
    assert first["oxidation_limit"] == pytest.approx(4.2)
    assert np.isnan(first["reduction_limit_Na"])
    # Li3YCl6 + 3 Li -> 6 LiCl (12 atoms) + Y (1 atom).
    assert first["reduction_products"] == "LiCl 0.92; Y 0.08"
    assert first["oxidation_products"].count("Cl2") == 1
    assert first["voltage_profile"] == "Li: 6 <0.87 V> 3 <4.20 V> 0"
    assert salt["reduction_limit"] == 0.0
    assert salt["reduction_products"] == ""
    assert np.isnan(sodium["reduction_limit_Li"])


def test_reference_electrode_is_forced(tmp_path: Path) -> None:
    result = window.run(PART, WindowSettings(reference_electrode="Li"), refs_for("Na"), tmp_path)
    assert result["reduction_limit"].notna().all()
    # No lithium to give off: no oxidation limit, so that a gate on it is not passed.
    assert result["oxidation_limit"].isna().tolist() == [False, False, False, True, True]
    assert result["reduction_limit_Na"].isna().all()
    assert result["reduction_limit_Li"].equals(result["reduction_limit"].rename("reduction_limit_Li"))


def test_partition_invariance(tmp_path: Path) -> None:
    refs = refs_for("Li", "Na")
    whole = window.run(PART, SETTINGS, refs, tmp_path)
    pieces = [window.run(PART.iloc[i : i + 2], SETTINGS, refs_for("Li", "Na"), tmp_path) for i in (0, 2, 4)]
    pd.testing.assert_frame_equal(pd.concat(pieces), whole)


def test_empty_partition(tmp_path: Path) -> None:
    result = window.run(PART.iloc[:0], SETTINGS, refs_for("Li"), tmp_path)
    assert len(result) == 0
    assert {c.name for c in schema.columns_of("window")} <= set(result.columns)


def test_poisoned_rows_fail_alone(tmp_path: Path) -> None:
    part = part_of(("Li3YCl6", -2.2), ("LiCl", float("nan")), ("LiXe", -1.0), ("Li(", -1.0), ("LiCl", -2.1))
    result = window.run(part, SETTINGS, refs_for("Li"), tmp_path)
    assert result["window_status"].tolist() == ["ok", "failed", "failed", "failed", "ok"]
    errors = result["window_error"].tolist()
    assert errors[1].startswith("ValueError: LiCl has no formation energy")
    assert "element Xe has no reference energy" in errors[2]
    assert "'Li('" in errors[3]


def test_an_electrode_without_known_charge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no charge is known for mobile ion 'Fe'"):
        window.run(PART, WindowSettings(reference_electrode="Fe"), refs_for("Li"), tmp_path)


@pytest.mark.data
def test_published_window_of_li3ycl6(tmp_path: Path) -> None:
    """0.62 to 4.21 V (Wang et al., Angew. Chem. Int. Ed. 2019, 58, 8039); 0.1 V for MP2020's anion corrections."""
    root = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    refs = SimpleNamespace(phases=PhaseReference.from_table(root / "phases.csv.gz"), mobile_ions=("Li",))
    row = window.run(part_of(("Li3YCl6", -2.356)), SETTINGS, refs, tmp_path).iloc[0]
    assert row["reduction_limit"] == pytest.approx(0.62, abs=0.1)
    assert row["oxidation_limit"] == pytest.approx(4.21, abs=0.1)
