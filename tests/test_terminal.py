"""The terminal: nothing is cut off, piped text is plain, help fits a screen, errors end a command as they should."""

import errno
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pandas as pd
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from pipeline.config import ConfigError
from scripts.synthetic_run import write_run
from tests.terminals import on_a_terminal, output
from workflows import views
from workflows.cli import app
from workflows.cli_views import print_ranked
from workflows.files import RunError, RunStoppedError
from workflows.progress import Pace, ProgressView
from workflows.run_folders import check_run_folder
from workflows.terminal import clear_errors
from workflows.terminal_tables import facts, facts_table, funnel_view, print_table, ranked_table

HEAVY = {"torch", "matgl", "chgnet", "pymatgen", "distributed", "dask", "ase"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("terminal") / "run", 200)


def commands() -> Iterator[tuple[str, ...]]:
    def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if path:
            yield path
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, (*path, name))

    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("path", sorted(commands()), ids=" ".join)
def test_help_fits_a_small_terminal_and_has_an_example(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    lines = done.stdout.rstrip().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert f"Example: ionsieve {' '.join(path)}" in re.sub(r"\s+", " ", done.stdout)


def test_overview_of_the_commands_fits_a_screen() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"})
    assert len(done.stdout.rstrip().splitlines()) <= 30
    for name, *_ in commands():
        assert f" {name} " in done.stdout
    assert "Example: ionsieve init my_campaign.yaml && ionsieve run my_campaign.yaml" in done.stdout


def test_version_is_that_of_the_package() -> None:
    assert output("--version") == f"ionsieve {metadata.version('ionsieve')}\n"


def test_time_left_is_not_guessed_from_units_that_compile_and_load() -> None:
    pace = Pace(workers=2)
    for at, rows in ((60.0, 8), (61.0, 8), (65.0, 8)):
        pace.commit(at, rows)
        assert pace.rate() is None
    pace.commit(65.0, 8)
    assert pace.rate() == pytest.approx(16 / 4.0)  # since each worker's first unit, which took a minute
    for second in range(66, 90):
        pace.commit(float(second), 1)
    assert pace.rate() == pytest.approx(1.0)  # the recent one


def test_a_step_shows_no_time_left_before_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 120.0, 140.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    view = ProgressView(Console(file=stream, width=200))
    view.start("stability", 40, 0)
    view.found(10)
    for _ in range(3):
        view.advance(10)
    assert stream.getvalue().splitlines() == [
        "stability: 40 to do",
        "stability: 20/40",
        "stability: 30/40, 0.5/s, 20 s left",
        "stability: 40/40, 0.5/s, 0 s left",
    ]


def test_a_step_that_goes_on_tells_what_is_left_of_it() -> None:
    stream = io.StringIO()
    ProgressView(Console(file=stream, width=200)).start("stability", 40, 12)
    assert stream.getvalue() == "stability: 28 to do, 12 already done\n"


def test_brackets_in_free_text_stay() -> None:
    stream = io.StringIO()
    ProgressView(Console(file=stream, width=200)).say("mine: barriers in [eV], rates [1/s] and [/s]")
    assert stream.getvalue() == "mine: barriers in [eV], rates [1/s] and [/s]\n"


@pytest.mark.parametrize(
    "words",
    [
        "top RUN",
        "top RUN --csv",
        "show RUN 1",
        "show RUN 1 --json",
        "status RUN",
        "pick RUN 1 --why x",
        "compare RUN RUN",
    ],
)
def test_answers_without_loading_models(run: Path, words: str) -> None:
    code = (
        "import sys; from workflows.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "print(sorted(set(sys.modules) & " + repr(HEAVY) + "), file=sys.stderr)"
    )
    arguments = [str(run) if word == "RUN" else word for word in words.split()]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("width", [50, 80, 100, 130])
def test_no_column_is_cut_off_on_a_terminal(run: Path, width: int) -> None:
    ranked = views.read_ranked(run)
    text = on_a_terminal(ranked_table(ranked, 30, width), width)
    for rank, formula in enumerate(ranked["formula_pretty"].head(30), 1):
        assert re.search(rf"^ *{rank}  {formula} ", text, flags=re.M)
    found = views.everything_about(run, ranked["candidate_id"][0])
    for shown in (
        text,
        on_a_terminal(funnel_view(views.read_steps(run)), width),
        on_a_terminal(facts_table(found), width),
    ):
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= width
    assert "widen the terminal, or --csv" in " ".join(text.split()) or width == 130
    if width == 80:
        assert all(title in text for title in ("E hull", "score", "front", "red.", "ox.", "barrier", "cost", "density"))
        assert re.search("columns left out: .*candidate", text)
    if width == 130:
        assert all(re.search(rf" {candidate}( |$)", text, flags=re.M) for candidate in ranked["candidate_id"].head(30))


def test_the_funnel_breaks_no_name_on_a_small_terminal(run: Path) -> None:
    steps = views.read_steps(run)
    steps[0] = {**steps[0], "gates": "mobile_ion_fraction >= 0.1, electronegativity_order, require_mobile_ion"}
    steps.insert(1, {**steps[0], "step": "competing_phases", "gates": "", "rejected_by": {"failed": 18}})
    text = on_a_terminal(funnel_view(steps), 80)
    names = ("mobile_ion_fraction", "electronegativity_order", "competing_phases", "energy_above_hull", "practicality")
    assert all(name in text for name in names)
    assert re.match("step +entered +passed +out because", text)
    assert re.match("step +gates +entered +passed", on_a_terminal(funnel_view(steps), 130))


def test_a_formula_longer_than_the_terminal_is_folded_not_cut(run: Path) -> None:
    ranked = views.read_ranked(run).head(1).assign(formula_pretty="A" * 70)
    assert on_a_terminal(ranked_table(ranked, 1, 60), 60).count("A") == 70


def test_piped_tables_have_whole_rows_and_no_colours(run: Path) -> None:
    ranked = views.read_ranked(run)
    wide = ranked.head(3).assign(candidate_id="A" * 190, formula_pretty="B" * 40)
    for text in (output("top", run), output("status", run), output("show", run, "1")):
        assert "\x1b" not in text
        assert "…" not in text
    lines = output("top", run, "-n", "5").splitlines()
    row = next(line for line in lines if ranked["candidate_id"][0] in line)
    assert {"red.", "ox.", "density", "barrier"} <= set(" ".join(lines[:3]).split())
    assert f"{ranked['energy_above_hull'][0]:.3f}" in row.split()
    assert "/eV/atom" in " ".join(lines[:3])
    stream = io.StringIO()
    print_table(Console(file=stream, width=200), ranked_table(wide, 3))
    assert len([line for line in stream.getvalue().splitlines() if "A" * 190 in line and "B" * 40 in line]) == 3


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 1), (5, 5)])
def test_a_run_ends_with_as_many_ranked_rows_as_asked(run: Path, count: int, rows: int) -> None:
    ranked = views.read_ranked(run)
    stream = io.StringIO()
    print_ranked(Console(file=stream, width=200), ranked, count, run)
    assert sum(candidate in stream.getvalue() for candidate in ranked["candidate_id"]) == rows
    assert bool(stream.getvalue()) == bool(count)
    print_ranked(Console(file=stream), ranked.head(0), count, run)
    assert stream.getvalue().endswith("no candidate passed; `ionsieve status` shows which gate removed them\n")


def test_an_empty_shortlist_of_ranked_candidates_is_told(tmp_path: Path) -> None:
    known = write_run(tmp_path / "known", 60, change=lambda table: table.assign(is_known=True))
    done = CliRunner().invoke(app, ["top", str(known), "--shortlist"])
    assert "ranked candidates is on the shortlist: they are known" in " ".join(done.output.split())
    assert "no candidate passed" not in done.output


def test_a_later_crystal_of_a_formula_is_marked(run: Path) -> None:
    formulas = ["LiCl", "LiBr", "LiCl", "LiCl", "LiCl", "LiCl", "LiBr", "LiCl"]
    states = {"shortlisted": [0, 1], "is_control": [], "suspect": [7], "duplicate_of": [2]}
    table = pd.DataFrame({"rank": range(1, 9), "formula_pretty": formulas, "candidate_id": list("abcdefgh")})
    for name, rows in states.items():
        table[name] = [i in rows for i in range(8)]
    table["duplicate_of"] = ["a" if there else None for there in table["duplicate_of"]]
    marks = [views.marks(r, p) for r, p in zip(table.to_dict("records"), views.places_in_formula(table), strict=True)]
    ordinals = ["second of its formula", "third of its formula", "no. 4 of its formula", "second of its formula"]
    assert marks == ["shortlist", "shortlist", "duplicate", *ordinals, "suspect"]
    ranked = views.read_ranked(run)
    repeated = ranked[~ranked["shortlisted"] & (ranked.groupby("formula_pretty").cumcount() == 1)].iloc[0]
    first = ranked[ranked["formula_pretty"] == repeated["formula_pretty"]].iloc[0]
    assert not first["is_control"]
    line = next(x for x in output("top", run, "-n", "999").splitlines() if repeated["candidate_id"] in x)
    assert line.rstrip().endswith("second of its formula")


def test_the_report_is_to_be_opened_in_a_browser(run: Path) -> None:
    assert "report.html" in output("report", run)
    assert output("report", run).rstrip().endswith("open it in a browser")


def test_the_price_is_called_what_it_is_and_dated(run: Path) -> None:
    text = output("top", run)
    assert re.search(r"^ +element +$", text, flags=re.M)
    assert "element cost: mass-weighted price of the pure elements, nearly all of 2013" in text


def test_csv_of_top_is_the_file(run: Path) -> None:
    assert output("top", run, "--csv", "-n", "100000") == (run / "ranked_candidates.csv").read_text()
    assert output("top", run, "--csv", "--shortlist", "-n", "100000") == (run / "shortlist.csv").read_text()


def test_csv_of_show_has_units_and_meanings(run: Path) -> None:
    ranked = views.read_ranked(run)
    table = pd.read_csv(io.StringIO(output("show", run, "2", "--csv"))).set_index("column")
    assert float(table.at["energy_above_hull", "value"]) == pytest.approx(ranked.at[1, "energy_above_hull"], rel=1e-8)
    assert table.at["energy_above_hull", "unit"] == "eV/atom"
    assert "competing phases" in table.at["energy_above_hull", "meaning"]


def test_columns_of_one_ion_follow_the_column_that_they_refine() -> None:
    found = {"rank": 1, "reduction_limit_Li": 0.1, "density": 2.0, "lattice": [1.0] * 9, "reduction_limit": 0.1}
    assert [column.name for column, _ in facts(found)] == ["reduction_limit", "reduction_limit_Li", "density", "rank"]


def test_csv_of_status_accounts_for_every_row(run: Path) -> None:
    table = pd.read_csv(io.StringIO(output("status", run, "--csv")))
    for _, rows in table.groupby("step", sort=False):
        assert rows["entered"].iloc[0] == rows["passed"].iloc[0] + rows["rejected"].sum()
    assert json.loads(output("status", run, "--json"))["running"] is False


@pytest.mark.parametrize(
    "words",
    [
        "status RUN",
        "top RUN",
        "show RUN 1",
        "compare RUN RUN",
        "compare THERE RUN",
        "pick RUN 1 --why x",
        "report RUN",
        "export RUN",
        "dft collect RUN",
    ],
)
def test_every_command_says_alike_that_there_is_no_such_run(run: Path, tmp_path: Path, words: str) -> None:
    there = tmp_path / "there"
    (there / "stages").mkdir(parents=True)
    (tmp_path / "crystals").mkdir()
    if words.startswith("compare THERE"):
        there = run
    for wrong, what in (("nope", "no such run folder"), ("crystals", "is no run folder")):
        missing = tmp_path / wrong
        named = {"RUN": str(missing), "THERE": str(there)}
        done = CliRunner().invoke(app, [named.get(word, word) for word in words.split()])
        assert done.exit_code == 2
        assert f"{missing}: {what}; there are: {tmp_path / 'there'}\n" in done.stderr


def test_the_folder_of_the_runs_is_told_from_a_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["top", str(run.parent)])
    assert f"{run.parent}: is no run folder; there are: {run}\n" in done.stderr
    with pytest.raises(ConfigError, match="there is none nearby; `ionsieve run` makes one"):
        check_run_folder(tmp_path / "nope")


def test_json_and_csv_exclude_each_other(run: Path) -> None:
    done = CliRunner().invoke(app, ["top", str(run), "--json", "--csv"])
    assert done.exit_code == 2
    assert "exclude each other" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 3, "interrupted; the same command goes on where it stopped"),
        (RunStoppedError("the Dask scheduler ended"), 3, "the Dask scheduler ended; the same command goes on"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/runs/a"),
            3,
            "No space left on device (/runs/a); free some",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 3, "Disk quota exceeded; free some space"),
        (RunError("held by process 7"), 2, "held by process 7"),
    ],
    ids=["Ctrl-C", "stopped", "disk full", "over quota", "held"],
)
def test_what_ends_a_command(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str) -> None:
    @clear_errors
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == code
    assert said in capsys.readouterr().err


def test_a_mistake_in_the_program_is_not_taken_for_a_full_disk() -> None:
    @clear_errors
    def command() -> None:
        Path("/nowhere/at/all").read_text()

    with pytest.raises(FileNotFoundError):
        command()
