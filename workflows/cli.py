"""The `ionsieve` command. Exit codes: 0 done, 1 too many failed rows, 2 bad configuration or data, 3 interrupted."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from pipeline.config import json_schema, load_campaign
from workflows import (  # noqa: F401  (their commands join the app)
    cli_decide,
    cli_dft,
    cli_export,
    cli_models,
    cli_planning,
    cli_report,
    cli_select,
    cli_train,
    cli_views,
)
from workflows.terminal import (
    ConfigFile,
    Folder,
    Workers,
    app,
    clear_errors,
    exit_if_too_many_failed,
    on_workers,
    terminal,
)


@app.command()
@clear_errors
def run(
    config: ConfigFile,
    folder: Folder = None,
    workers: Workers = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="compute failed rows again")] = False,
    top: Annotated[int, typer.Option(min=0, help="rows of the ranked table to print at the end")] = 20,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the job scripts, start nothing")] = False,
) -> None:
    """Run a campaign, or go on where it was left. Ctrl-C is safe.

    Example: ionsieve run configs/quickstart.yaml
    """
    campaign = on_workers(load_campaign(config), workers)
    from workflows import views
    from workflows.failed_rows import failures_told
    from workflows.progress import ProgressView
    from workflows.session import run_campaign
    from workflows.store import run_folder_of
    from workflows.terminal_tables import funnel_view, print_table

    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console = terminal()
    where = run_folder_of(campaign, folder)
    if dry_run:
        from workflows.cluster import settings_beside
        from workflows.dry_run import what_would_start

        typer.echo(what_would_start(campaign, settings_beside(config, campaign.cluster), where))
        return
    outcome = run_campaign(campaign, config, where, ProgressView(console), retry_failed=retry_failed)
    console.print()
    print_table(console, funnel_view(views.read_steps(where)))
    console.print()
    cli_views.print_ranked(console, views.read_ranked(where), top, where)
    if len(outcome.ranking):
        console.print(f"\n{where}: ranked_candidates.csv, shortlist.csv, funnel.csv, structures/", **plain)
    if told := failures_told(outcome.steps):
        console.print(f"{told}; {where}/failures.csv says why", **plain)
    looks = ("report", "top") if len(outcome.ranking) else ("report", "status")
    console.print(f"next: {', '.join(f'ionsieve {look} {where}' for look in looks)}", **plain)
    exit_if_too_many_failed(outcome.steps, campaign.run.allowed_failed_share, where)


@app.command()
def schema() -> None:
    """Print the JSON schema of campaign files, for editors.

    Example: ionsieve schema > campaign.schema.json
    """
    sys.stdout.write(json_schema())
