"""Commands to decide with: compare two runs, pick a candidate."""

from __future__ import annotations

from typing import Annotated

import typer

from workflows.terminal import (
    AsCsv,
    AsJson,
    OtherRunPath,
    RunPath,
    app,
    caution_about,
    clear_errors,
    only_one,
    terminal,
)


@app.command()
@clear_errors
def compare(
    run_a: RunPath,
    run_b: OtherRunPath,
    count: Annotated[int, typer.Option("-n", min=1, help="rows of each list")] = 10,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Compare two runs: settings, funnel, ranks, gates, energies.

    --csv prints a row for each candidate that is ranked in either run or on which the gates decided differently.

    Example: ionsieve compare runs/quickstart runs/quickstart_tighter
    """
    only_one(json=as_json, csv=as_csv)
    from workflows import views
    from workflows.comparison import compare_runs
    from workflows.comparison_view import comparison_view
    from workflows.terminal_tables import print_table

    for folder in (run_a, run_b):
        caution_about(folder)
    found = compare_runs(run_a, run_b)
    if as_json:
        typer.echo(views.as_json(found.as_dict()))
    elif as_csv:
        typer.echo(views.as_csv(found.candidates), nl=False)
    else:
        print_table(terminal(), comparison_view(found, count))


@app.command()
@clear_errors
def pick(
    folder: RunPath,
    candidate: Annotated[str, typer.Argument(help="candidate_id, or a rank", show_default=False)],
    why: Annotated[str, typer.Option(help="the reason, for those who read it later", show_default=False)],
    who: Annotated[str | None, typer.Option(help="who decided; default the user's name here")] = None,
) -> None:
    """Record who chose which candidate, and why.

    It heads the report. Earlier picks are kept.

    Example: ionsieve pick runs/quickstart 5 --why "cheap, and its precursors are at hand"
    """
    from workflows import views
    from workflows.decision import record_decision

    caution_about(folder)
    chosen = views.ranked_candidate(folder, candidate)
    decision = record_decision(folder, chosen["candidate_id"], int(chosen["rank"]), why, who)
    console = terminal()
    displaced = f", instead of {decision['displaced']}" if decision["displaced"] else ""
    for line in (
        f"picked #{decision['rank']} {decision['candidate_id']}{displaced}",
        f"{folder / 'decision.json'}; next: ionsieve report {folder}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
