"""Stage band_gap, with a stand-in model in the default tier and MEGNet in the data tier."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from pipeline import schema
from pipeline.crystal import row_from_structure
from pipeline.settings import BandGapSettings
from pipeline.stages import band_gap


class ElectronegativityGap:
    """Stand-in model: difference of Pauling electronegativities plus 0.1 a step of fidelity; knows no plutonium."""

    def predict_with_errors(self, structures: list[Structure], state: str) -> tuple[np.ndarray, list[str | None]]:
        step = ["PBE", "GLLB-SC", "HSE", "SCAN"].index(state)
        errors = ["UnknownElement: Pu" if "Pu" in s.symbol_set else None for s in structures]
        values = [
            float("nan") if e else max(x.X for x in s.composition.elements) - min(x.X for x in s.composition.elements)
            for s, e in zip(structures, errors, strict=True)
        ]
        return np.array(values) + 0.1 * step, errors


def row(symbols: tuple[str, str], a: float) -> dict[str, object]:
    structure = Structure(Lattice.cubic(a), symbols, [[0, 0, 0], [0.5, 0.5, 0.5]])
    return {"formula_pretty": structure.composition.reduced_formula, **row_from_structure(structure)}


@pytest.fixture
def part() -> pd.DataFrame:
    return pd.DataFrame([row(("Li", "Cl"), 3.2), row(("Na", "Cl"), 3.5), row(("Li", "F"), 2.6)], index=[4, 9, 2])


@pytest.fixture
def refs() -> SimpleNamespace:
    return SimpleNamespace(property_model=lambda name: ElectronegativityGap())


def test_gap_of_every_row(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    result = band_gap.run(part, BandGapSettings(fidelity="HSE"), refs, tmp_path)
    # Pauling: Cl 3.16, Li 0.98, Na 0.93, F 3.98.
    np.testing.assert_allclose(result["band_gap"], [2.38, 2.43, 3.20])
    assert set(result["band_gap_fidelity"]) == {"HSE"}
    assert list(result.columns) == [*part.columns, *(c.name for c in schema.columns_of("band_gap"))]
    schema.to_arrow(result, [c.name for c in schema.columns_of("band_gap")])


def test_partition_invariance(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    whole = band_gap.run(part, BandGapSettings(), refs, tmp_path)
    pieces = [band_gap.run(part.iloc[i : i + 1], BandGapSettings(), refs, tmp_path) for i in range(3)]
    pd.testing.assert_frame_equal(pd.concat(pieces), whole)


def test_empty_partition(part: pd.DataFrame, tmp_path: Path) -> None:
    result = band_gap.run(part.iloc[:0], BandGapSettings(), SimpleNamespace(), tmp_path)
    assert len(result) == 0
    assert {c.name for c in schema.columns_of("band_gap")} <= set(result.columns)


def test_poisoned_rows_fail_alone(part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path) -> None:
    twice = row(("Li", "Cl"), 3.2)
    twice["frac_coords"] = [0.0] * 6
    poisoned = pd.concat([part, pd.DataFrame([twice, row(("Li", "Pu"), 3.0)])])
    result = band_gap.run(poisoned, BandGapSettings(), refs, tmp_path)
    assert result["band_gap_status"].tolist() == ["ok", "ok", "ok", "failed", "failed"]
    errors = result["band_gap_error"].tolist()
    assert errors[3] == "ValueError: atoms 0 (Li) and 1 (Cl) are 0.000 Å apart"
    assert errors[4] == "UnknownElement: Pu"
    assert result["band_gap"].isna().tolist() == [False, False, False, True, True]


def test_a_broken_batch_is_tried_row_by_row(part: pd.DataFrame, tmp_path: Path) -> None:
    class Fragile(ElectronegativityGap):
        def predict_with_errors(self, structures: list[Structure], state: str) -> tuple[np.ndarray, list[str | None]]:
            if any("Na" in s.symbol_set for s in structures):
                raise MemoryError("graph\ntoo large")
            return super().predict_with_errors(structures, state)

    refs = SimpleNamespace(property_model=lambda name: Fragile())
    result = band_gap.run(part, BandGapSettings(), refs, tmp_path)
    assert result["band_gap_status"].tolist() == ["ok", "failed", "ok"]
    assert result["band_gap_error"].tolist()[1] == "MemoryError: graph too large"


def test_a_failed_relaxation_is_not_given_its_unrelaxed_crystal(
    part: pd.DataFrame, refs: SimpleNamespace, tmp_path: Path
) -> None:
    part["stability_status"] = ["ok", "failed", "ok"]
    part.at[9, "lattice"] = None
    result = band_gap.run(part, BandGapSettings(), refs, tmp_path)
    assert result["band_gap_status"].tolist() == ["ok", "failed", "ok"]
    assert "carries no crystal" in result["band_gap_error"].tolist()[1]


@pytest.mark.data
def test_megnet_gap_of_rock_salt(tmp_path: Path) -> None:
    """NaCl: PBE gap of the Materials Project 5.0 eV (mp-22862); MEGNet's own PBE error is 0.31 eV (MAE)."""
    from pipeline.surrogates import load_property_model

    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    refs = SimpleNamespace(property_model=load_property_model)
    result = band_gap.run(pd.DataFrame([row_from_structure(salt)]), BandGapSettings(), refs, tmp_path)
    assert result["band_gap"].iloc[0] == pytest.approx(5.0, abs=0.31)
