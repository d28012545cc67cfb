"""`ionsieve dft`: results of DFT programs that the user runs."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.config import ConfigError, Problem, load_campaign
from workflows.files import read_json
from workflows.run_folders import check_run_folder
from workflows.terminal import (
    EXIT_FAILED_ROWS,
    AsJson,
    Workers,
    app,
    clear_errors,
    complain,
    exit_if_too_many_failed,
    on_workers,
    terminal,
)

if TYPE_CHECKING:
    from pipeline.config import Campaign
    from workflows.dft_labels import Written
    from workflows.session import Outcome

_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}

dft_app = typer.Typer(no_args_is_help=True)
app.add_typer(dft_app, name="dft")


@dft_app.callback()
def dft() -> None:
    """Read results of VASP and Quantum ESPRESSO back, or as labels.

    Example: ionsieve dft collect runs/validated
    """


@dft_app.command()
@clear_errors
def collect(
    folder: Annotated[Path, typer.Argument(help="run folder, or one of ionsieve select", show_default=False)],
    config: Annotated[Path | None, typer.Option(help="the campaign file, where it has moved")] = None,
    workers: Workers = None,
    labels: Annotated[Path | None, typer.Option(help=".extxyz or .parquet: write labels")] = None,
    as_json: AsJson = False,
) -> None:
    """Read finished outputs, check them, and take the run on with them.

    An output of another crystal, functional or setting is refused, with what differs. Safe to repeat.
    Labels are written with --labels, and in a folder of ionsieve select.

    Example: ionsieve dft collect runs/validated
    """
    from workflows import dft_labels

    if labels is not None:
        dft_labels.check_ending(labels)
    if dft_labels.is_selection(folder):
        found = dft_labels.collect_selection(folder)
        written = dft_labels.write_collected_labels(found, labels or folder / dft_labels.LABELS)
        if as_json:
            typer.echo(json.dumps(dft_labels.as_json(found, written), indent=1))
        else:
            _print_calculations(found.calculations)
            _print_labels(written)
        failed = sum(item["state"] == "failed" for item in found.calculations)
        if failed:
            complain([f"{failed} of {len(found.calculations)} calculations failed; see above, or --json"])
            raise typer.Exit(EXIT_FAILED_ROWS)
        return
    check_run_folder(folder)
    campaign, outcome = _taken_on(folder, config, workers, as_json)
    _report(folder, labels, as_json)
    exit_if_too_many_failed(outcome.steps, campaign.run.allowed_failed_share, folder)


def _taken_on(folder: Path, config: Path | None, workers: int | None, as_json: bool) -> tuple[Campaign, Outcome]:
    """The run, gone on with as far as outputs allow."""
    from workflows.progress import ProgressView
    from workflows.session import run_campaign

    manifest = read_json(folder / "manifest.json")
    path = config or Path(str(manifest.get("config") or folder / "config.yaml"))
    if not path.exists():
        raise ConfigError([Problem(str(path), "the campaign file is not there any more; name it with --config")])
    campaign = on_workers(load_campaign(path), workers)
    if not any(stage.stage == "dft" for stage in campaign.stages):
        raise ConfigError([Problem(str(path), "stages: has no stage dft, so there is nothing to collect")])
    return campaign, run_campaign(campaign, path, folder, ProgressView(terminal(stderr=as_json)), collect=True)


def _report(folder: Path, labels: Path | None, as_json: bool) -> None:
    """Say what the run holds of stage dft now, and write it as labels where that was asked."""
    from workflows.dft_collection import calculations_of, rows_of
    from workflows.dft_labels import collect_run, labels_as_json, write_collected_labels

    rows, calculations = rows_of(folder), calculations_of(folder)
    written = None if labels is None else write_collected_labels(collect_run(folder), labels)
    if as_json:
        report = {"rows": rows, "calculations": calculations, "labels": labels_as_json(written)}
        typer.echo(json.dumps(report, indent=1))
        return
    _print(rows, calculations)
    if labels is not None:
        _print_labels(written)


def _print(rows: list[dict[str, Any]], calculations: list[dict[str, str]]) -> None:
    console = terminal()
    _print_calculations(calculations)
    for row in rows:
        above = row["dft_energy_above_hull"]
        value = "" if above is None else f" {1000 * above:.0f} meV/atom above the hull"
        trouble = f" {row['dft_error']}" if row["dft_error"] else ""
        console.print(
            f"{row['candidate_id']}: {row['dft_status']}{value}{trouble}", highlight=False, markup=False, soft_wrap=True
        )


def _print_calculations(calculations: list[dict[str, str]]) -> None:
    """How many there are in each state, and what failed."""
    console = terminal()
    states = Counter(item["state"] for item in calculations)
    console.print(
        f"{len(calculations)} calculations: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items())),
        highlight=False,
    )
    for item in calculations:
        if item["state"] == "failed" and item.get("error"):
            console.print(f"{item['folder']}: {item['error']}", **_PLAIN)


def _print_labels(written: Written | None) -> None:
    from pipeline.training.settings import DataSettings

    console = terminal()
    if written is None:
        console.print("no calculation has finished: there are no labels yet", **_PLAIN)
        return
    for line in written.left_out:
        console.print(f"left out: {line}", **_PLAIN)
    if not written.crystals:
        console.print("no calculation is fit to be a label: nothing is written", **_PLAIN)
        return
    console.print(f"{written.path}: {written.crystals} labelled crystals, label_scheme {written.scheme}", **_PLAIN)
    bound = DataSettings.model_fields["largest_energy"].default
    if written.largest_energy > bound:
        enough = 10 ** math.ceil(math.log10(written.largest_energy))
        text = f"energies are up to {written.largest_energy:.0f} eV/atom: write data.largest_energy: {enough}"
        console.print(f"{text} in the training's file", **_PLAIN)
