"""`ionsieve dft`: results of DFT programs that the user runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import ConfigError, Problem, load_campaign
from workflows.files import read_json
from workflows.terminal import (
    AsJson,
    RunPath,
    Workers,
    app,
    clear_errors,
    exit_if_too_many_failed,
    on_workers,
    terminal,
)

dft_app = typer.Typer(no_args_is_help=True)
app.add_typer(dft_app, name="dft")


@dft_app.callback()
def dft() -> None:
    """Read results of VASP and Quantum ESPRESSO back into a run.

    Example: ionsieve dft collect runs/validated
    """


@dft_app.command()
@clear_errors
def collect(
    folder: RunPath,
    config: Annotated[
        Path | None, typer.Option(help="the campaign file, where it has moved since the run was started")
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Read finished outputs, check them against their inputs, and take the run on with them.

    Rows whose calculations are all there become ok; an output of another crystal, functional or setting makes its row
    failed, with what differs. Safe to repeat, and to interrupt.

    Example: ionsieve dft collect runs/validated
    """
    from workflows.dft_collection import calculations_of, rows_of
    from workflows.progress import ProgressView
    from workflows.session import run_campaign

    manifest = read_json(folder / "manifest.json")
    path = config or Path(str(manifest.get("config") or folder / "config.yaml"))
    if not path.exists():
        raise ConfigError([Problem(str(path), "the campaign file is not there any more; name it with --config")])
    campaign = on_workers(load_campaign(path), workers)
    if not any(stage.stage == "dft" for stage in campaign.stages):
        raise ConfigError([Problem(str(path), "stages: has no stage dft, so there is nothing to collect")])
    outcome = run_campaign(campaign, path, folder, ProgressView(terminal(stderr=as_json)), collect=True)
    rows, calculations = rows_of(folder), calculations_of(folder)
    if as_json:
        typer.echo(json.dumps({"rows": rows, "calculations": calculations}, indent=1))
    else:
        _print(rows, calculations)
    exit_if_too_many_failed(outcome.steps, campaign.run.allowed_failed_share, folder)


def _print(rows: list[dict[str, Any]], calculations: list[dict[str, str]]) -> None:
    console = terminal()
    states = Counter(item["state"] for item in calculations)
    console.print(
        f"{len(calculations)} calculations: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items())),
        highlight=False,
    )
    for row in rows:
        above = row["dft_energy_above_hull"]
        value = "" if above is None else f" {1000 * above:.0f} meV/atom above the hull"
        trouble = f" {row['dft_error']}" if row["dft_error"] else ""
        console.print(
            f"{row['candidate_id']}: {row['dft_status']}{value}{trouble}", highlight=False, markup=False, soft_wrap=True
        )
