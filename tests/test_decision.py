"""`ionsieve pick`: what is recorded, what is refused, and that nothing else is written."""

import json
import re
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.atomic_files import write_json
from scripts.synthetic_run import write_run
from tests.report_pages import Page
from workflows.cli import app
from workflows.decision import nearest_ids, read_decision
from workflows.report.page import write_report

HOSTILE = '</script><img src=x onerror=alert(1)> "quoted" [bold]x[/]'


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("pick") / "run", 60)


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "run"))


def ids(run: Path) -> list[str]:
    return list(pd.read_csv(run / "ranked_candidates.csv")["candidate_id"])


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pick_records_who_what_why_and_when(run: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    done = invoke("pick", run, ids(run)[2], "--why", " cheap and near the hull ", "--who", "M. Sklodowska")
    assert done.exit_code == 0, done.output
    found = json.loads((run / "decision.json").read_text())
    when = datetime.fromisoformat(found.pop("when"))
    assert when.utcoffset() is not None
    assert before <= when <= datetime.now(UTC)
    assert found == {
        "candidate_id": ids(run)[2],
        "why": "cheap and near the hull",
        "who": "M. Sklodowska",
        "rank": 3,
        "ionsieve": metadata.version("ionsieve"),
        "displaced": None,
        "history": [],
    }
    assert "picked #3" in done.stdout


def test_a_second_pick_keeps_the_first(run: Path) -> None:
    for rank, why in ((1, "best score"), (4, "it can be made"), (2, "no: moisture")):
        assert invoke("pick", run, str(rank), "--why", why).exit_code == 0
    found = read_decision(run)
    assert found is not None
    assert (found["candidate_id"], found["displaced"]) == (ids(run)[1], ids(run)[3])
    assert [(h["rank"], h["why"]) for h in found["history"]] == [(1, "best score"), (4, "it can be made")]
    write_report(run)
    page = Page(run / "report.html")
    assert page.text.index("no: moisture") < page.text.index("it can be made") < page.text.index("best score")
    assert page.with_id("picked-before")


def test_a_pick_changes_nothing_but_its_own_file(run: Path) -> None:
    before = files(run.parent)
    assert invoke("pick", run, "1", "--why", HOSTILE, "--who", "../../outside").exit_code == 0
    after = files(run.parent)
    assert set(after) - set(before) == {run / "decision.json"}
    assert all(after[path] == content for path, content in before.items())


def test_hostile_reason_is_shown_as_text(run: Path) -> None:
    assert invoke("pick", run, "2", "--why", HOSTILE, "--who", HOSTILE).exit_code == 0
    assert invoke("pick", run, "1", "--why", "better", "--who", HOSTILE).exit_code == 0
    write_report(run)
    page = Page(run / "report.html")
    assert not [tag for tag, attributes in page.tags if tag == "img" or "onerror" in attributes]
    assert page.text.count(HOSTILE) == 3  # the reason in the history, and who picked both times


def test_the_terminal_shows_it_and_obeys_nothing_in_it(run: Path) -> None:
    assert "picked" not in invoke("top", run).stdout
    assert invoke("pick", run, "2", "--why", f"\x1b[2J{HOSTILE}", "--who", "a\nb").exit_code == 0
    text = invoke("top", run).stdout
    assert f"picked: {ids(run)[1]} by a\\nb" in text
    assert f"\\x1b[2J{HOSTILE}" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("candidate", ["../../etc/passwd", "../run/structures/x", "/tmp/x", ".", ""])
def test_an_id_that_is_a_path_is_unknown_and_writes_nothing(run: Path, candidate: str) -> None:
    before = files(run.parent)
    done = invoke("pick", run, candidate, "--why", "x")
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert repr(candidate) in done.stderr
    assert files(run.parent) == before


def test_a_ranked_id_that_is_a_path_is_recorded_as_text(run: Path) -> None:
    path = run / "ranked_candidates.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, "candidate_id"] = "../../outside"
    table.to_csv(path, index=False)
    before = set(files(run.parent))
    assert invoke("pick", run, "../../outside", "--why", "a name like this should not be").exit_code == 0
    assert set(files(run.parent)) - before == {run / "decision.json"}
    write_report(run)
    assert set(files(run.parent)) - before == {run / "decision.json", run / "report.html"}
    assert "../../outside" in Page(run / "report.html").text


def test_unknown_candidates_name_the_nearest(run: Path) -> None:
    known = ids(run)[5]
    done = invoke("pick", run, known[:-1] + "x", "--why", "x")
    assert done.exit_code == 2
    assert f"the nearest are {known}" in done.stderr
    assert not (run / "decision.json").exists()
    assert f"the nearest are {known}" in invoke("show", run, known[:-1] + "x").stderr


def test_ranks_are_those_of_the_table(run: Path) -> None:
    last = len(ids(run))
    assert f"its last one is {last}" in invoke("pick", run, str(last + 1), "--why", "x").stderr
    assert invoke("pick", run, str(last), "--why", "x").exit_code == 0


@pytest.mark.parametrize("why", ["", "  \n"])
def test_an_empty_reason_is_refused(run: Path, why: str) -> None:
    done = invoke("pick", run, "1", "--why", why)
    assert done.exit_code == 2
    assert "--why: is empty" in done.stderr


def test_a_reason_is_asked_for(run: Path) -> None:
    done = invoke("pick", run, "1")
    assert done.exit_code == 2
    assert "--why" in re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)  # typer's own message may be coloured


def test_a_damaged_decision_is_not_overwritten(run: Path) -> None:
    for content in ({"candidate_id": "x"}, {"candidate_id": "x", "why": "", "who": "", "when": "", "history": "none"}):
        write_json(run / "decision.json", content)
        done = invoke("pick", run, "1", "--why", "x")
        assert done.exit_code == 2
        assert "decision.json" in done.stderr
        assert json.loads((run / "decision.json").read_text()) == content


def test_a_decision_that_cannot_be_written_is_said(run: Path) -> None:
    (run / "decision.json").mkdir()  # not even root can replace a folder by a file
    done = invoke("pick", run, "1", "--why", "x")
    assert done.exit_code == 2
    assert "decision.json" in done.stderr


def test_nearest_ids_prefer_the_same_formula() -> None:
    known = ["NaCl-aaaa-bbbb", "LiCl-aaaa-cccc", "LiCl-ffff-0000"]
    assert nearest_ids("LiCl-aaaa-bbbb", known)[0] == "LiCl-aaaa-cccc"
    assert nearest_ids("KCl-aaaa-bbbb", known)[0] == "NaCl-aaaa-bbbb"
    assert nearest_ids("??", known) == []
