"""Where no list tells whether a compound is known, every view says so and none calls it new."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from scripts.synthetic_run import write_run
from tests.report_pages import Page, csv_of
from workflows.caveats import Reach, read_reach
from workflows.cli import app
from workflows.report.page import write_report

CHECKED_NOTHING = "not checked, since no list of observed compositions was found"
HULL = "made of elements, binaries and ternaries only"


def unlisted(table: pd.DataFrame) -> pd.DataFrame:
    empty = pd.Series([None] * len(table), dtype=object)
    return table.assign(is_known=empty, in_database=empty, is_parent=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("caveats") / "run", 60, change=unlisted)


def output(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_table_leaves_both_columns_empty_and_the_shortlist_is_filled(run: Path) -> None:
    ranked = csv_of(run)
    assert set(ranked["is_known"]) == set(ranked["in_database"]) == {""}
    assert set(ranked["is_control"]) == {"False"}
    assert (ranked["shortlisted"] == "True").any()


def test_the_terminal_says_that_nothing_was_checked(run: Path) -> None:
    for text in (output("top", run), output("compare", run, run), output("export", run)):
        assert CHECKED_NOTHING in text
        assert HULL in text
    assert json.loads(output("compare", run, run, "--json"))["caveats"]["b"]
    header = json.loads(output_of_optimade(run).splitlines()[0])
    assert CHECKED_NOTHING in header["x-optimade"]["meta"]["_ionsieve_provenance"]["caveats"][0]


def output_of_optimade(run: Path) -> str:
    output("export", run, "--format", "optimade")
    return (run / "shortlist.optimade.jsonl").read_text()


def test_the_report_says_it_above_the_ranked_table_and_calls_nothing_new(run: Path) -> None:
    page = Page(write_report(run))
    told = " ".join(page.text.split())
    table, controls = told.index("Ranked candidates"), told.index("Known compounds beside the shortlist")
    assert table < told.index(CHECKED_NOTHING) < controls
    assert table < told.index(HULL) < controls
    assert "known compound: not checked" in told
    compared = told[controls : controls + 2000]
    assert re.search(r"not checked\s*\d", compared)
    assert not re.search(r"\bnew\s*\d", compared)
    columns = {column["name"]: column["empty"] for column in page.blocks["table-block"]["columns"]}
    assert columns["is_known"] == columns["in_database"] == "not checked"
    assert columns["density"] == ""


def test_what_the_config_does_not_list_is_called_so(run: Path, tmp_path: Path) -> None:
    config = (run / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.replace("known_formulas: []", "known_formulas: [LiCl]"))
    reach = read_reach(tmp_path)
    assert reach.unlisted == "not listed"
    assert "only known_formulas of the config counts" in reach.caveats(pd.DataFrame({"is_known": [True, None]}))[0]


def test_a_list_that_was_there_decides() -> None:
    reach = Reach(names_formulas=False, own_hull="")
    rows = [{"is_known": known} for known in ("True", "False", "", float("nan"), None)]
    assert [reach.standing(row) for row in rows] == ["known", "new", "not checked", "not checked", "not checked"]
    assert reach.standing({"is_known": "", "is_parent": "True"}) == "parent"
    assert reach.caveats(pd.DataFrame({"is_known": [True, False]})) == []
    failed = pd.DataFrame({"is_known": [False, None], "practicality_status": ["ok", "failed"]})
    assert reach.caveats(failed) == []
    assert "no stage practicality" in reach.caveats(pd.DataFrame({"rank": [1]}))[0]
