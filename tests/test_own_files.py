"""Where prototypes are files of a folder, their names stand wherever candidates are looked for."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from scripts.synthetic_run import write_run
from tests.report_pages import Page, csv_of
from workflows.cli import app
from workflows.outputs import with_sources
from workflows.report.page import write_report
from workflows.steps import Step


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def of_files(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(prototype_source=[f"crystal {i}.cif" for i in range(len(table))])

    return write_run(tmp_path_factory.mktemp("files") / "run", 200, change=of_files)


def test_top_names_the_file_of_each_row(run: Path) -> None:
    lines = CliRunner().invoke(app, ["top", str(run)]).stdout.splitlines()
    for row in csv_of(run).head(20).to_dict("records"):
        line = next(line for line in lines if row["candidate_id"] in line)
        assert row["prototype_source"] in line


def test_prototypes_of_a_library_take_no_column(run: Path, tmp_path: Path) -> None:
    for name in ("ranked_candidates.csv", "manifest.json"):
        (tmp_path / name).write_text((run / name).read_text())
    config = (run / "config.yaml").read_text()
    assert "source: folder" in config
    (tmp_path / "config.yaml").write_text(config.replace("source: folder", "source: aflow"))
    assert "crystal " not in CliRunner().invoke(app, ["top", str(tmp_path)]).stdout


def test_report_names_the_file_in_headings_and_failures(run: Path) -> None:
    page = Page(write_report(run))
    told = " ".join(page.text.split())
    for row in csv_of(run, "shortlist.csv").to_dict("records"):
        assert f"{row['formula_pretty']} ({row['prototype_source']})" in told
    for row in csv_of(run, "failures.csv").to_dict("records"):
        assert f"{row['candidate_id']}{row['prototype_source']}" in told.replace(" crystal", "crystal")


def test_failures_carry_the_file(run: Path) -> None:
    failures = csv_of(run, "failures.csv")
    assert list(failures.columns) == ["candidate_id", "prototype_source", "step", "error"]
    assert len(failures)
    for row in failures.to_dict("records"):
        drawn = int(row["candidate_id"].rpartition("-")[2], 16)
        assert row["prototype_source"] == f"crystal {drawn}.cif"


def test_a_competing_phase_that_failed_is_of_no_file(run: Path) -> None:
    steps = [Step("candidates", "candidates", "", 1, 0, 1, {}, digest=next((run / "stages/candidates").iterdir()).name)]
    own = csv_of(run)["candidate_id"][0]
    failed = pd.DataFrame({"candidate_id": [own, own], "step": ["competing_phases", "stability"], "error": "E: x"})
    first, second = with_sources(failed, run, steps)["prototype_source"]
    assert first == ""
    assert second.startswith("crystal ")
    assert list(with_sources(failed.iloc[:0], run, steps)["prototype_source"]) == []
