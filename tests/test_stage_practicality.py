"""Stage practicality."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition, Lattice, Structure

from pipeline import schema
from pipeline.config import load_campaign
from pipeline.crystal import row_from_structure
from pipeline.reference import PhaseReference
from pipeline.reference.formulas import composition_key
from pipeline.settings import PracticalitySettings
from pipeline.stages import practicality
from pipeline.stages.practicality import cost_per_kg, element_prices
from scripts.small_campaign import write_small_campaign
from workflows.identity import Digests

SETTINGS = PracticalitySettings()


def rock_salt(cation: str, anion: str, a: float) -> dict[str, object]:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return {"formula_pretty": f"{cation}{anion}", **row_from_structure(structure)}


@pytest.fixture
def refs() -> SimpleNamespace:
    phases = PhaseReference({composition_key("LiCl"): -2.1}, elements=("Li", "Na", "Cl"))
    return SimpleNamespace(
        database=phases, observed_formulas=frozenset({"NaCl"}), known_formulas=frozenset(), has_observed_list=True
    )


@pytest.fixture
def part() -> pd.DataFrame:
    return pd.DataFrame([rock_salt("Na", "Cl", 5.6402), rock_salt("Li", "Cl", 5.13), rock_salt("Li", "Br", 5.50)])


def test_rock_salt(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    result = practicality.run(part, SETTINGS, refs, tmp_path)
    # Halite, 2.17 g/cm3 (CRC Handbook), from the lattice constant 5.6402 Å at room temperature.
    assert result["density"].iloc[0] == pytest.approx(2.17, abs=0.01)
    assert result["is_known"].tolist() == [True, False, False]
    assert result["in_database"].tolist() == [False, True, False]
    assert list(result.columns) == [*part.columns, *(c.name for c in schema.columns_of("practicality"))]
    schema.to_arrow(result, [c.name for c in schema.columns_of("practicality")])


def test_a_crystal_without_a_space_group_keeps_its_other_columns(
    part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("TooLargeToleranceError")

    monkeypatch.setattr("moyopy.MoyoDataset", fail)
    result = practicality.run(part, SETTINGS, refs, tmp_path)
    assert result["practicality_status"].tolist() == ["ok"] * 3
    assert result["spacegroup_relaxed"].isna().all()
    assert result["is_known"].tolist() == [True, False, False]
    schema.to_arrow(result, [c.name for c in schema.columns_of("practicality")])


def test_known_formulas_of_the_config(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    result = practicality.run(part, PracticalitySettings(known_formulas=("Li2Br2",)), refs, tmp_path)
    assert result["is_known"].tolist() == [True, False, True]


def test_what_another_step_names_as_known_stays_known(
    part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path
) -> None:
    """Results of a later practicality step take the place of an earlier one's."""
    refs.known_formulas = frozenset({"LiBr"})
    result = practicality.run(part, PracticalitySettings(known_formulas=("LiCl",)), refs, tmp_path)
    assert result["is_known"].all()


def test_a_step_is_computed_anew_when_another_names_other_formulas(tmp_path: Path) -> None:
    def digests(first: str, second: str) -> list[str]:
        step = "  - {{stage: practicality, name: {}, known_formulas: [{}]}}\n"
        steps = step.format("a", first) + step.format("b", second)
        path = write_small_campaign(tmp_path)
        path.write_text(path.read_text().replace("  - stage: practicality\n    chunk_size: 2\n", steps))
        campaign = load_campaign(path)
        made = Digests(campaign, library="l", models=defaultdict(lambda: "m"), table="t", known="k")
        return [made.stage(stage) for stage in campaign.stages[-2:]]

    before = digests("LiCl", "NaCl")
    assert all(a != b for a, b in zip(before, digests("LiCl", "KCl"), strict=True))
    assert before == digests("LiCl", "NaCl")


def test_what_no_list_tells_stays_empty(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    refs.observed_formulas, refs.has_observed_list, refs.database = frozenset(), False, None
    result = practicality.run(part, PracticalitySettings(known_formulas=("LiBr",)), refs, tmp_path)
    assert result["is_known"].tolist() == [None, None, True]
    assert result["in_database"].tolist() == [None, None, None]
    written = schema.to_arrow(result, ["is_known", "in_database"])
    assert written["is_known"].to_pylist() == [None, None, True]
    assert written["in_database"].null_count == 3


# pymatgen says that noble gases have no electronegativity while it reads its price list.
@pytest.mark.filterwarnings("ignore:No Pauling electronegativity:UserWarning")
@pytest.mark.parametrize("formula", ["Li3YCl6", "Na3PS4", "LiF", "Li7La3Zr2O12"])
def test_cost_equals_pymatgens(formula: str) -> None:
    from pymatgen.analysis.cost import CostAnalyzer, CostDBElements

    expected = CostAnalyzer(CostDBElements()).get_cost_per_kg(Composition(formula))
    # Both weigh the same prices with pymatgen's atomic masses.
    assert cost_per_kg(composition_key(formula)) == pytest.approx(expected, rel=1e-9)


def test_missing_price_is_not_zero() -> None:
    assert "Ac" not in element_prices()
    assert np.isnan(cost_per_kg(composition_key("AcCl3")))


def test_partition_invariance(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    whole = practicality.run(part, SETTINGS, refs, tmp_path)
    pieces = [practicality.run(part.iloc[[i]], SETTINGS, refs, tmp_path) for i in range(3)]
    pd.testing.assert_frame_equal(pd.concat(pieces), whole)


def test_empty_partition(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    result = practicality.run(part.iloc[:0], SETTINGS, refs, tmp_path)
    assert len(result) == 0
    assert {c.name for c in schema.columns_of("practicality")} <= set(result.columns)


def test_poisoned_rows_fail_alone(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    part.at[1, "frac_coords"] = [float("nan")] * 24
    part.at[2, "atomic_numbers"] = [3, 200, 3, 3, 35, 35, 35, 35]
    result = practicality.run(part, SETTINGS, refs, tmp_path)
    assert result["practicality_status"].tolist() == ["ok", "failed", "failed"]
    assert result["practicality_error"].iloc[1] == "ValueError: lattice or coordinates are not finite numbers"
    assert "200" in result["practicality_error"].iloc[2]
    assert result["is_known"].tolist() == [True, None, None]
