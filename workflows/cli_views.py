"""Commands that look at a run: how far it is, its ranked table, one candidate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.terminal import AsCsv, AsJson, RunPath, app, caution_about, clear_errors, only_one, print_lines, terminal

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@app.command()
@clear_errors
def status(
    folder: RunPath,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="look again until the run ends; Ctrl-C leaves it alone")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks of --watch")] = 2.0,
) -> None:
    """Show the funnel of a run so far, and what is left to do.

    Example: ionsieve status runs/quickstart --watch
    """
    only_one(json=as_json, csv=as_csv, watch=watch)
    import pandas as pd

    from workflows import views
    from workflows.status import read_status, status_view
    from workflows.terminal_tables import print_table

    caution_about(folder)
    if watch:
        _watch(folder, every)
        return
    found = read_status(folder)
    if as_json:
        typer.echo(views.as_json(found.as_dict()))
    elif as_csv:
        typer.echo(views.as_csv(pd.DataFrame(found.funnel())), nl=False)
    else:
        print_table(terminal(), status_view(found))


def _watch(folder: Path, every: float) -> None:
    from rich.live import Live

    from workflows.status import read_status, status_view

    found = read_status(folder)
    try:
        with Live(status_view(found), console=terminal(), auto_refresh=False) as live:
            while found.running:
                time.sleep(every)
                found = read_status(folder)
                live.update(status_view(found), refresh=True)
    except KeyboardInterrupt:
        return  # the run itself is another process, and goes on


@app.command()
@clear_errors
def top(
    folder: RunPath,
    count: Annotated[int, typer.Option("-n", min=1, help="rows")] = 20,
    shortlist: Annotated[bool, typer.Option("--shortlist", help="only the shortlist")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Print the ranked table.

    Example: ionsieve top runs/quickstart -n 10
    """
    only_one(json=as_json, csv=as_csv)
    from workflows import views

    ranked = views.read_ranked(folder)
    caution_about(folder)
    of = len(ranked)
    if shortlist:
        ranked = ranked[ranked["shortlisted"]]
    if as_json:
        typer.echo(views.as_json(ranked.head(count).to_dict("records")))
        return
    if as_csv:
        typer.echo(views.as_csv(ranked.head(count)), nl=False)
        return
    console = terminal()
    if of and not len(ranked):
        text = (
            f"none of the {of:,} ranked candidates is on the shortlist: they are known, parents, suspects or duplicates"
        )
        print_lines(console, [f"{text}; `ionsieve top {folder}` lists them"])
    else:
        print_ranked(console, ranked, count, folder)
    _print_decision(console, folder)
    explanation = folder / "ranking.txt"
    if explanation.exists():
        text = explanation.read_text(encoding="utf-8").rstrip()
        console.print(f"\n{text}", highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _print_decision(console: Console, folder: Path) -> None:
    from workflows.decision import read_decision
    from workflows.terminal_tables import as_text

    if decision := read_decision(folder):
        who, when = decision["who"], decision["when"]
        console.print()
        console.print(
            as_text(f"picked: {decision['candidate_id']} by {who}, {when}: {decision['why']}"), soft_wrap=True
        )


def print_ranked(console: Console, ranked: pd.DataFrame, count: int, folder: Path | None = None) -> None:
    """Print the first rows of the ranked table with what it can't tell, or where to look when it is empty."""
    from workflows.caveats import read_reach
    from workflows.terminal_tables import footnotes, print_table, ranked_table

    if len(ranked):
        if not count:
            return
        reach = None if folder is None else read_reach(folder)
        width = console.width if console.is_terminal else None
        print_table(console, ranked_table(ranked, count, width, files=reach is not None and reach.own_files))
        if reach is not None:
            print_lines(console, [*reach.caveats(ranked), *footnotes(ranked)])
        return
    console.print("no candidate passed; `ionsieve status` shows which gate removed them", highlight=False)


@app.command()
@clear_errors
def show(
    folder: RunPath,
    candidate: Annotated[str, typer.Argument(help="candidate_id, or a rank", show_default=False)],
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show everything that a run knows of one candidate.

    Rejected ones are found too.

    Example: ionsieve show runs/quickstart 1
    """
    only_one(json=as_json, csv=as_csv)
    import pandas as pd

    from workflows import views
    from workflows.terminal_tables import facts, facts_table, print_table

    found = views.everything_about(folder, views.candidate_of_rank(folder, candidate))
    caution_about(folder)
    if as_json:
        typer.echo(views.as_json(found))
    elif as_csv:
        rows = [(c.stage, c.name, value, c.unit, c.meaning) for c, value in facts(found)]
        typer.echo(views.as_csv(pd.DataFrame(rows, columns=["stage", "column", "value", "unit", "meaning"])), nl=False)
    else:
        print_table(terminal(), facts_table(found))
