"""The `ionsieve` command. Exit codes: 0 done, 1 too many failed rows, 2 bad configuration or data, 3 interrupted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.config import json_schema, load_campaign
from workflows import cli_dft, cli_planning, cli_report  # noqa: F401  (their commands join the app)
from workflows.terminal import (
    EXIT_FAILED_ROWS,
    AsJson,
    ConfigFile,
    Folder,
    RunPath,
    Workers,
    app,
    clear_errors,
    complain,
    on_workers,
    terminal,
)

if TYPE_CHECKING:
    import pandas as pd


@app.command()
@clear_errors
def run(
    config: ConfigFile,
    folder: Folder = None,
    workers: Workers = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="compute failed rows again")] = False,
    top: Annotated[int, typer.Option(help="rows of the ranked table to print at the end")] = 20,
) -> None:
    """Run a campaign, or go on where it was left. Ctrl-C is safe.

    Example: ionsieve run configs/quickstart.yaml
    """
    campaign = on_workers(load_campaign(config), workers)
    from workflows import views
    from workflows.progress import ProgressView
    from workflows.runner import run_folder_of
    from workflows.session import run_campaign

    console = terminal()
    where = run_folder_of(campaign, folder)
    outcome = run_campaign(campaign, config, where, ProgressView(console), retry_failed=retry_failed)
    console.print()
    console.print(views.funnel_view(views.read_steps(where)))
    console.print()
    _print_ranked(console, views.read_ranked(where), top)
    console.print(f"\n{where}: ranked_candidates.csv, shortlist.csv, funnel.csv, structures/", highlight=False)
    failed = sum(1 for _ in (where / "failures.csv").open(encoding="utf-8")) - 1
    if failed:
        console.print(f"{failed} rows failed; {where}/failures.csv says where and why", highlight=False)
    if outcome.failed_share > campaign.run.allowed_failed_share:
        complain(
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
        terminal(stderr=True).print(text, highlight=False)


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
    console = terminal()
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
    console = terminal()
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
    views.print_everything(terminal(), found)


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
    terminal().print(table)


@app.command()
def schema() -> None:
    """Print the JSON schema of campaign files, for editors.

    Example: ionsieve schema > campaign.schema.json
    """
    sys.stdout.write(json_schema())


if __name__ == "__main__":
    app()
