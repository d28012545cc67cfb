"""The `ionsieve` command. Exit codes: 0 done, 1 too many failed rows, 2 bad configuration or data, 3 interrupted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.config import ConfigError, Problem, json_schema, load_campaign

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Screen materials at high throughput: one YAML file in, a ranked table of candidates out.",
)

ConfigFile = Annotated[Path, typer.Argument(help="campaign file (YAML)", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="run folder, such as runs/quickstart", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED_ROWS, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 3


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn bad input into a list of problems and exit code 2, and an interruption into exit code 3."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            _complain([str(problem) for problem in error.problems])
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except BrokenPipeError:
            # The reader of a pipe went away: what was committed stays, as after Ctrl-C.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except KeyboardInterrupt:
            _console(stderr=True).print("interrupted; the same command goes on where it stopped")
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return wrapped


def _complain(lines: list[str]) -> None:
    console = _console(stderr=True)
    console.print(f"[bold red]{len(lines)} problem{'s' if len(lines) != 1 else ''}[/]")
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


@app.command()
@clear_errors
def init(path: Annotated[Path, typer.Argument(help="file to write", show_default=False)]) -> None:
    """Write a commented campaign file to start from.

    Example: ionsieve init my_campaign.yaml
    """
    if path.exists():
        _complain([f"{path}: exists already; choose another name, or remove it first"])
        raise typer.Exit(EXIT_BAD_INPUT)
    template = (Path(__file__).parent / "template.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(template, encoding="utf-8")
    except OSError as error:
        _complain([f"{path}: can't be written: {error.strerror}"])
        raise typer.Exit(EXIT_BAD_INPUT) from None
    _console().print(f"wrote {path}; next: ionsieve run {path}", highlight=False)


@app.command()
@clear_errors
def validate(config: ConfigFile) -> None:
    """Check a campaign file and the data it names; every error at once, with its line.

    Example: ionsieve validate configs/halides.yaml
    """
    from pipeline.stages import candidates
    from workflows.library import prototype_library
    from workflows.preflight import find_inputs

    console = _console()

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    inputs = find_inputs(load_campaign(config), config, say=say)
    for note in inputs.notes:
        say(note)
    campaign = inputs.campaign
    _, library = prototype_library(inputs, None, say)
    counts = candidates.count(campaign.candidates, library)
    for name, number in counts.items():
        say(f"{name}: {number:,}")
    if not counts["candidates"]:
        text = "no ions of these elements fit these prototypes; widen elements, charges or prototypes"
        raise ConfigError([Problem(str(config), f"candidates: {text}")])
    steps = ", ".join(stage.step for stage in campaign.stages)
    say(f"{config} is valid; {campaign.candidates.substitution} by {campaign.candidates.by}, then {steps}")


@app.command()
@clear_errors
def run(
    config: ConfigFile,
    folder: Annotated[Path | None, typer.Option(help="run folder; default runs/<name>")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="local worker processes, instead of the config's")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="compute failed rows again")] = False,
    top: Annotated[int, typer.Option(help="rows of the ranked table to print at the end")] = 20,
) -> None:
    """Run a campaign, or go on where it was left. Ctrl-C is safe.

    Example: ionsieve run configs/quickstart.yaml
    """
    campaign = load_campaign(config)
    if workers is not None:
        cluster = campaign.cluster.model_copy(update={"workers": workers})
        campaign = campaign.model_copy(update={"cluster": cluster})
    from workflows import views
    from workflows.cluster import ClusterError
    from workflows.lock import RunFolderBusyError
    from workflows.progress import ProgressView
    from workflows.runner import run_folder_of
    from workflows.session import run_campaign
    from workflows.store import StoreError

    console = _console()
    where = run_folder_of(campaign, folder)
    try:
        outcome = run_campaign(campaign, config, where, ProgressView(console), retry_failed=retry_failed)
    except (RunFolderBusyError, StoreError, ClusterError) as error:
        _complain([str(error)])
        raise typer.Exit(EXIT_BAD_INPUT) from None
    console.print()
    console.print(views.funnel_view(views.read_steps(where)))
    console.print()
    _print_ranked(console, views.read_ranked(where), top)
    console.print(f"\n{where}: ranked_candidates.csv, shortlist.csv, funnel.csv, structures/", highlight=False)
    failed = sum(1 for _ in (where / "failures.csv").open(encoding="utf-8")) - 1
    if failed:
        console.print(f"{failed} rows failed; {where}/failures.csv says where and why", highlight=False)
    if outcome.failed_share > campaign.run.allowed_failed_share:
        _complain(
            [
                f"{outcome.failed_share:.1%} of the rows failed, {campaign.run.allowed_failed_share:.1%} are allowed "
                f"(run.allowed_failed_share); see {where}/failures.csv"
            ]
        )
        raise typer.Exit(EXIT_FAILED_ROWS)


def _caution(folder: Path) -> None:
    from workflows import views

    text = views.caution(folder)
    if text:
        _console(stderr=True).print(text, highlight=False)


def _print_ranked(console: Console, ranked: pd.DataFrame, count: int) -> None:
    from workflows import views

    if len(ranked):
        console.print(views.ranked_table(ranked, count, console.width))
        return
    console.print("no candidate passed; `ionsieve status` shows which gate removed them", highlight=False)


@app.command()
@clear_errors
def status(folder: RunPath, as_json: AsJson = False) -> None:
    """Show the funnel of a run so far, and what is left to do.

    Example: ionsieve status runs/quickstart
    """
    from workflows import views
    from workflows.lock import is_held

    _caution(folder)
    steps = views.read_steps(folder)
    running = is_held(folder)
    left = views.unfinished_work(folder)
    if as_json:
        typer.echo(json.dumps({"running": running, "steps": steps, "unfinished": left}, indent=1))
        return
    console = _console()
    console.print(views.funnel_view(steps))
    for step, done, planned in left:
        console.print(f"{step}: {done} of {planned} units done", highlight=False)
    console.print("running" if running else "not running", highlight=False)


@app.command()
@clear_errors
def top(
    folder: RunPath,
    count: Annotated[int, typer.Option("-n", min=1, help="rows")] = 20,
    shortlist: Annotated[bool, typer.Option("--shortlist", help="only the shortlist")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the ranked table.

    Example: ionsieve top runs/quickstart -n 10
    """
    from workflows import views

    ranked = views.read_ranked(folder)
    _caution(folder)
    if shortlist:
        ranked = ranked[ranked["shortlisted"]]
    if as_json:
        typer.echo(views.as_json(ranked.head(count).to_dict("records")))
        return
    console = _console()
    _print_ranked(console, ranked, count)
    explanation = folder / "ranking.txt"
    if explanation.exists():
        console.print("\n" + explanation.read_text(encoding="utf-8").rstrip(), highlight=False, markup=False)


@app.command()
@clear_errors
def show(
    folder: RunPath,
    candidate: Annotated[str, typer.Argument(help="candidate_id, or a rank", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show everything that a run knows of one candidate, rejected ones included.

    Example: ionsieve show runs/quickstart LiCl-1a2b3c4d-5e6f7a8b
    """
    from workflows import views

    found = views.everything_about(folder, views.candidate_of_rank(folder, candidate))
    if as_json:
        typer.echo(views.as_json(found))
        return
    views.print_everything(_console(), found)


@app.command()
@clear_errors
def models(as_json: AsJson = False) -> None:
    """List the surrogates: what each predicts, its licence, and where it was found.

    Example: ionsieve models
    """
    from rich.table import Table

    from pipeline.surrogates import catalogue

    listings = catalogue.list_models()
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {
                        "name": listing.entry.name,
                        "kind": listing.entry.kind,
                        "scheme": listing.entry.scheme,
                        "licence": listing.entry.licence,
                        "path": str(listing.path) if listing.path else None,
                        "problem": listing.problem,
                    }
                    for listing in listings
                ],
                indent=1,
            )
        )
        return
    table = Table(header_style="bold", pad_edge=False, box=None)
    for title in ("model", "kind", "energies", "licence", "found in"):
        table.add_column(title, overflow="fold")
    for listing in listings:
        entry = listing.entry
        found = (
            str(listing.path)
            if listing.path
            else f"{listing.problem}: set IONSIEVE_DATA to a folder with models/{entry.name}"
        )
        table.add_row(entry.name, entry.kind, entry.scheme, entry.licence, found)
    _console().print(table)


@app.command()
def schema() -> None:
    """Print the JSON schema of campaign files, for editors.

    Example: ionsieve schema > campaign.schema.json
    """
    sys.stdout.write(json_schema())


if __name__ == "__main__":
    app()
