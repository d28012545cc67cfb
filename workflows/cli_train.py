"""The command that trains a potential on labelled crystals."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.problems import ConfigError, Problem
from workflows.files import RunError
from workflows.lock import RunFolderBusyError, RunLock
from workflows.provenance import worker_facts
from workflows.terminal import app, clear_errors, terminal

_PACKAGES = ("lightning", "torch_geometric")


@app.command()
@clear_errors
def train(
    config: Annotated[Path, typer.Argument(help="training file (YAML)", show_default=False)],
) -> None:
    """Train a potential on labelled crystals, or go on with it.

    With distil in the file the labels are made first: crystals of a campaign, labelled by a teacher.
    Ctrl-C is safe. The model's folder has its card (card.md) and can be named as a campaign's potential.model.

    Example: ionsieve train configs/train_example.yaml
    """
    from pipeline.training.settings import load_training

    settings = load_training(config)
    from pipeline.training.progress import Watcher
    from pipeline.training.session import train as train_potential
    from workflows.labelled_data import labels_for
    from workflows.training_view import TrainingView, error_table

    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console = terminal()
    try:
        settings.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"{settings.folder} can't be made ({error.strerror}); name another folder"
        raise ConfigError([Problem("output", text)]) from None
    try:
        with RunLock(settings.folder):
            labels_for(settings, config, lambda line: console.print(line, **plain))
            with TrainingView(console, settings.fitting.all_epochs) as view:
                watcher = Watcher(batch=view.batch, epoch=view.epoch)
                outcome = train_potential(settings, watcher, _provenance(config))
    except RunFolderBusyError:
        raise RunError(f"{settings.folder} is trained by another process; wait for it, or take another name") from None
    console.print()
    console.print(error_table(outcome.card["errors"]))
    console.print(
        f"\n{outcome.folder}: card.md, card.json, learning_curve.csv, learning_curve.svg, "
        "model.json, state.pt, model.pt",
        **plain,
    )
    if not outcome.finished:
        console.print(f"max_minutes are over; ionsieve train {config} goes on", **plain)
    console.print(f"in a campaign: potential: {{model: {outcome.folder}}}", **plain)


def _provenance(config: Path) -> dict[str, Any]:
    return {
        "command": f"ionsieve train {config}",
        "versions": {**worker_facts(), **{name: metadata.version(name) for name in _PACKAGES}},
        "hardware": {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0))},
    }
