"""`ionsieve compare`: what differs between two runs, and nothing that does not."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline.atomic_files import write_json
from pipeline.config import ConfigError
from scripts.synthetic_run import write_run
from workflows.cli import app
from workflows.comparison import NO_CANDIDATE, Comparison, compare_runs
from workflows.files import read_json
from workflows.step_results import outcomes
from workflows.views import read_ranked, read_steps

SHIFT = 0.004  # eV/atom


def shifted(table: pd.DataFrame) -> pd.DataFrame:
    """Energies moved up by as much as the second gate is higher for even rows only; five candidates less."""
    even = np.arange(len(table)) % 2 == 0
    return table.assign(energy_above_hull=table["energy_above_hull"] + np.where(even, SHIFT, 0.0)).iloc[5:]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compare")
    return write_run(folder / "a", 200), write_run(folder / "b", 200, gate=0.04, shortlist=6, change=shifted)


@pytest.fixture(scope="module")
def found(runs: tuple[Path, Path]) -> Comparison:
    return compare_runs(*runs)


def test_a_run_equals_itself(runs: tuple[Path, Path]) -> None:
    same = compare_runs(runs[0], runs[0])
    assert same.settings == same.provenance == []
    assert same.rank_correlation == pytest.approx(1.0)
    assert len(same.moved) == len(same.decisions) == 0
    assert same.shortlists["only_a"] == same.shortlists["only_b"] == []
    assert all(energy.largest == energy.mean == 0.0 for energy in same.energies)
    assert (same.in_both, same.only_a, same.only_b) == (200, 0, 0)


def test_settings_are_named_by_step(found: Comparison) -> None:
    differing = {difference.key: (difference.a, difference.b) for difference in found.settings}
    assert differing == {
        "stages.stability.gates.energy_above_hull.below": (0.05, 0.04),
        "ranking.shortlist_size": (18, 6),
    }


def test_another_order_of_stages_is_a_difference(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs[0], tmp_path / "other"))
    config = other / "config.yaml"
    text = config.read_text()
    assert "stage: window" in text
    config.write_text(text.replace("stage: window", "stage: window\n  name: window_of_li"))
    keys = [difference.key for difference in compare_runs(runs[0], other).settings]
    assert "stages" in keys
    assert "stages.window_of_li.stage" in keys


def test_provenance_differs_by_model_and_version(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs[0], tmp_path / "other"))
    manifest = read_json(other / "manifest.json")
    manifest["models"] = {"CHGNet": {"sha256": "ab"}}
    manifest["versions"]["ionsieve"] = "9.9"
    write_json(other / "manifest.json", manifest)
    differing = {difference.key: (difference.a, difference.b) for difference in compare_runs(runs[0], other).provenance}
    assert differing["models.CHGNet.sha256"] == (None, "ab")
    assert differing["versions.ionsieve"][1] == "9.9"


def test_funnels_stand_side_by_side(runs: tuple[Path, Path], found: Comparison) -> None:
    for side, run in zip(("a", "b"), runs, strict=True):
        table = pd.read_csv(run / "funnel.csv")
        for name in ("step", "entered", "passed"):
            assert found.funnel[name if name == "step" else f"{name}_{side}"].tolist() == table[name].tolist()


def test_outcomes_add_up_to_the_funnel(runs: tuple[Path, Path]) -> None:
    for run in runs:
        steps = read_steps(run)
        counts = outcomes(run, steps)["outcome"].value_counts()
        for step in steps[1:]:
            for reason, number in step["rejected_by"].items():
                assert counts[f"{step['step']}: {reason}"] == number
        assert counts["ranked"] == len(read_ranked(run))


def test_outcomes_of_an_unfinished_run_say_how_far_it_is(runs: tuple[Path, Path]) -> None:
    steps = read_steps(runs[0])[:2]
    counts = outcomes(runs[0], steps)["outcome"].value_counts()
    assert counts["passed stability"] == steps[1]["passed"]
    assert "ranked" not in counts


def test_a_lost_part_is_said_and_not_taken_for_a_pass(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs[0], tmp_path / "other"))
    steps = read_steps(other)
    (part,) = (other / "stages" / "window").glob("*/part-*.parquet")
    part.write_bytes(b"torn")
    counts = outcomes(other, steps)["outcome"].value_counts()
    assert counts["window: no result"] == steps[1]["passed"]
    assert "ranked" not in counts


def test_decisions_differ_where_the_energies_and_gates_do(runs: tuple[Path, Path], found: Comparison) -> None:
    a, b = (outcomes(run, read_steps(run)).set_index("candidate_id")["outcome"] for run in runs)
    common = a.index.intersection(b.index)
    expected = {c for c in common if a[c] != b[c]}
    assert len(expected) > 5
    assert set(found.decisions["candidate_id"]) == expected
    assert set(found.decisions["outcome_b"]) == {"stability: energy_above_hull"}  # both changes only make it harder
    assert (found.in_both, found.only_a, found.only_b) == (195, 5, 0)
    gone = set(a.index) - set(b.index)
    absent = found.candidates[found.candidates["candidate_id"].isin(gone)]
    assert (absent["outcome_b"] == NO_CANDIDATE).all()


def test_ranks_and_their_correlation(runs: tuple[Path, Path], found: Comparison) -> None:
    a, b = (read_ranked(run).set_index("candidate_id")["rank"] for run in runs)
    common = sorted(set(a.index) & set(b.index))
    assert found.common_ranked == len(common)
    expected = a[common].corr(b[common], method="spearman")  # pandas asks SciPy
    assert found.rank_correlation == pytest.approx(expected)
    moved = found.moved.set_index("candidate_id")
    assert set(moved.index) == {c for c in common if a[c] != b[c]}
    assert (moved["rank_change"] == (b[moved.index] - a[moved.index])).all()
    assert moved["rank_change"].abs().is_monotonic_decreasing


def test_shortlists_overlap(runs: tuple[Path, Path], found: Comparison) -> None:
    a, b = (list(pd.read_csv(run / "shortlist.csv")["candidate_id"]) for run in runs)
    assert found.shortlists["both"] == [c for c in a if c in b]
    assert found.shortlists["only_a"] == [c for c in a if c not in b]
    assert found.shortlists["only_b"] == [c for c in b if c not in a]


def test_energies_differ_by_the_shift(found: Comparison) -> None:
    hull, formation = found.energies
    assert hull.column == "energy_above_hull"
    assert hull.largest == pytest.approx(SHIFT)
    # 195 candidates less the failed ones; about half of them are shifted
    assert hull.mean == pytest.approx(SHIFT / 2, rel=0.1)
    assert formation.largest == 0.0


def test_csv_json_and_terminal_agree(runs: tuple[Path, Path], found: Comparison) -> None:
    def output(*options: str) -> str:
        done = CliRunner().invoke(app, ["compare", *map(str, runs), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    table = pd.read_csv(io.StringIO(output("--csv")), dtype={"candidate_id": str})
    assert table["candidate_id"].tolist() == found.candidates["candidate_id"].tolist()
    data = json.loads(output("--json"))
    assert data["rank_correlation"] == pytest.approx(found.rank_correlation)
    assert len(data["decisions"]) == len(found.decisions)
    text = output("-n", "3")
    assert f"Spearman {found.rank_correlation:.3f}" in text
    assert "stages.stability.gates.energy_above_hull.below" in text
    assert f"{len(found.decisions)} decisions differ" in text
    assert found.decisions["candidate_id"].iloc[2] in text
    assert "\x1b" not in text
    assert "…" not in text


def test_a_run_in_which_nothing_passed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", 30, gate=0.0, change=lambda t: t.assign(energy_above_hull=0.1))
    none = compare_runs(runs[0], empty)
    assert none.rank_correlation is None
    assert none.shortlists["both"] == []
    assert CliRunner().invoke(app, ["compare", str(runs[0]), str(empty)]).exit_code == 0
    assert CliRunner().invoke(app, ["compare", str(empty), str(empty), "--json"]).exit_code == 0


def test_a_step_that_took_no_row_has_none(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Its folder still holds rows of an earlier run, before a gate was tightened."""
    narrowed = Path(shutil.copytree(runs[0], tmp_path / "narrowed"))
    progress = read_json(narrowed / "progress.json")
    progress["steps"][-1]["taken"] = []
    write_json(narrowed / "progress.json", progress)
    assert (outcomes(narrowed, read_steps(narrowed))["outcome"] != "ranked").all()
    assert CliRunner().invoke(app, ["compare", str(runs[0]), str(narrowed)]).exit_code == 0


def test_what_is_no_run_is_named(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run folder"):
        compare_runs(runs[0], tmp_path)
    broken = Path(shutil.copytree(runs[0], tmp_path / "broken"))
    (broken / "config.yaml").write_text("stages: [1]\n")
    with pytest.raises(ConfigError, match="stages can't be read"):
        compare_runs(runs[0], broken)
    done = CliRunner().invoke(app, ["compare", str(runs[0]), str(broken)])
    assert done.exit_code == 2
