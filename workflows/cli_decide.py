"""Commands that decide: pick a candidate."""

from __future__ import annotations

from typing import Annotated

import typer

from workflows.terminal import RunPath, app, caution_about, clear_errors, terminal


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
