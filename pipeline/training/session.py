"""A training from its settings to a model's folder: read, start, fit, export, measure."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.atomic_files import write_json, write_text
from pipeline.surrogates import load_potential
from pipeline.surrogates.catalogue import locate, resolve_convention
from pipeline.surrogates.loaders import resolve_device
from pipeline.surrogates.results import Evaluation
from pipeline.training.card import Card, card_page, data_facts
from pipeline.training.curve_figure import FIGURE, write_curve_figure
from pipeline.training.errors import errors_by_class
from pipeline.training.export import export_model, matgl_energies
from pipeline.training.fitting import Fit, Start, fit
from pipeline.training.graphs import CrystalGraphs
from pipeline.training.network import NO_THREE_BODY
from pipeline.training.progress import CURVE, LAST, Watcher, write_curve
from pipeline.training.reading import TrainingData, read_training_data
from pipeline.training.rehearsal import Rehearsal, draw_rehearsal
from pipeline.training.settings import Training
from pipeline.training.starting import problem_with, start_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

WORK = "training"
_IDENTITY = "identity.json"
# Test crystals that plain matgl is asked for too, the smallest ones: its line graphs are slow.
_CHECKED = 4
# eV/atom; float32 in another order of operations differs by some 1e-6, and by some last digits of the total energy.
_AGREEMENT = 1e-4
_LAST_DIGITS = 4.0 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Outcome:
    """A trained model: its folder, its card, whether training has come to its end."""

    folder: Path
    card: Card
    finished: bool


def train(settings: Training, watcher: Watcher, provenance: Mapping[str, Any]) -> Outcome:
    """Train a potential, or go on where it was left, and write its folder.

    Parameters
    ----------
    settings : Training
        See :class:`pipeline.training.settings.Training`.
    watcher : Watcher
        Told of batches and epochs.
    provenance : mapping
        Command, versions and hardware, for the card; of JSON's types.

    Raises
    ------
    ConfigError
        Bad data, a model that can't be gone on from, a folder that holds another training.
    KeyboardInterrupt
        Ctrl-C; the last epoch's checkpoint stays.
    """
    sizes = None if settings.fine_tune else settings.sizes
    data = read_training_data(settings.data, sizes.elements if sizes else None)
    train_labels, validation = data.splits.train, data.splits.validation
    with_stress = settings.loss.stress > 0.0
    lacking = [name for name, own in (("training", train_labels), ("validation", validation)) if own.stresses is None]
    if with_stress and lacking:
        raise problem_with("loss.stress", f"the {' and '.join(lacking)} data have no stresses; write 0, or add them")
    device = _device(settings)
    base = _base_facts(settings)
    rehearsal = _rehearsal(settings, data)
    work = settings.folder / WORK
    _check_identity(work, settings, data, base, rehearsal)
    start = start_of(settings, data)
    if rehearsal is not None:
        train_labels = rehearsal.beside(train_labels, start.shift, data.elements)
    graphs = [
        CrystalGraphs(labels, data.elements, float(start.network.cutoff), with_stress)
        for labels in (train_labels, validation)
    ]
    done = fit(settings, start, graphs[0], graphs[1], work, device, watcher)
    write_curve(settings.folder / CURVE, done.rows)
    return _finish(settings, data, rehearsal, start, done, base, provenance)


def _rehearsal(settings: Training, data: TrainingData) -> Rehearsal | None:
    """Old labels that are trained on beside the new ones, if the settings name some."""
    if settings.fine_tune is None or settings.fine_tune.rehearse is None:
        return None
    found = draw_rehearsal(settings.fine_tune.rehearse, settings.data, data)
    if settings.loss.stress > 0.0 and found.labels.stresses is None:
        raise problem_with("fine_tune.rehearse.files", "have no stresses; add them, or write loss.stress: 0")
    return found


def _device(settings: Training) -> torch.device:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        return resolve_device(settings.device)
    except ValueError as error:
        raise problem_with("device", str(error)) from None


def _base_facts(settings: Training) -> dict[str, str]:
    """Name, digest and terms of the model that is fine-tuned, or digest of a teacher that gives hints; and, in words,
    how the training starts.
    """
    if settings.hints is not None and settings.distil is not None:
        try:
            teacher = locate(settings.distil.teacher)
        except ValueError as error:
            raise problem_with("distil.teacher", str(error)) from None
        return {"description": "trained from scratch, with hints at the teacher's features", "teacher": teacher.sha256}
    if settings.fine_tune is None:
        return {"description": "trained from scratch"}
    try:
        found = locate(settings.fine_tune.model)
        convention = resolve_convention(found, settings.fine_tune.convention)
    except ValueError as error:
        raise problem_with("fine_tune.model", str(error)) from None
    carried = ", its messages carried over to the source atom" if convention == "destination" else ""
    return {
        "description": f"fine-tuned from {found.name}{carried}",
        "model": found.name,
        "sha256": found.sha256,
        "licence": found.entry.licence if found.entry else "unknown",
        "citation": found.entry.citation if found.entry else "unknown",
    }


def _check_identity(
    work: Path, settings: Training, data: TrainingData, base: Mapping[str, str], rehearsal: Rehearsal | None
) -> None:
    """Refuse to go on with other data or settings than those of the checkpoint, where there is one."""
    identity = {
        **settings.result_settings(),
        "data": {name: labels.digest() for name, labels in data.splits.items()},
        "elements": list(data.elements),
        "base": base.get("sha256"),
        "teacher": base.get("teacher"),
        "rehearsal": None if rehearsal is None else rehearsal.labels.digest(),
    }
    path = work / _IDENTITY
    if path.exists() and (work / LAST).exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        _accept_further_restarts(before["fitting"], settings)
        differing = sorted(key for key in {*identity, *before} if identity.get(key) != before.get(key))
        if differing:
            raise problem_with(
                str(work),
                f"holds a training with another {', '.join(differing)}; go on with the same, take another name, or "
                "delete the folder to begin anew",
            )
    write_json(path, identity)


def _accept_further_restarts(before: dict[str, Any], settings: Training) -> None:
    """Let a checkpoint's settings have the restarts of the present ones, where these only add some to the last."""
    known, wanted = before.get("restarts", []), settings.result_settings()["fitting"]["restarts"]
    if wanted[: len(known)] == known:
        before["restarts"] = wanted


def _finish(
    settings: Training,
    data: TrainingData,
    rehearsal: Rehearsal | None,
    start: Start,
    done: Fit,
    base: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> Outcome:
    """Export the best weights, measure them as a campaign would load them, and write the card."""
    entry = export_model(settings, start, done.network)
    test = data.splits.test.structures()
    evaluations = load_potential(settings.folder, "cpu").evaluate(test)
    cutoff = float(start.network.threebody_cutoff)
    card: Card = {
        "name": settings.name,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "elements": list(entry.elements),
        "element_energies": dict(zip(entry.elements, start.element_energies.tolist(), strict=True)),
        "parameters": sum(p.numel() for p in done.network.parameters()),
        "three_body": f"within {cutoff:g} Å" if cutoff > NO_THREE_BODY else "none",
        "start": dict(base),
        "data": data_facts(data, rehearsal, settings.folder),
        "settings": settings.model_dump(mode="json"),
        "fit": {
            "epochs": len(done.rows),
            "best_epoch": done.best_epoch,
            "finished": done.finished,
            "seconds": sum(row["seconds"] for row in done.rows),
            "devices": list(done.devices),
        },
        "errors": errors_by_class(data.splits.test, evaluations, settings.fitting.near_force),
        "agreement_with_matgl": _agreement_with_matgl(settings.folder, test, evaluations),
        "teacher": settings.card.teacher or (settings.distil and settings.distil.teacher),
        "licence": settings.card.data_licence,
        "citation": settings.card.data_citation,
        "notes": settings.card.notes,
        "sha256": dict(entry.sha256),
        "provenance": dict(provenance),
    }
    write_curve_figure(settings.folder / FIGURE, done.rows, done.best_epoch)
    write_json(settings.folder / "card.json", card)
    write_text(settings.folder / "card.md", card_page(card))
    return Outcome(settings.folder, card, done.finished)


def _agreement_with_matgl(folder: Path, test: list[Structure], evaluations: list[Evaluation]) -> dict[str, Any]:
    """Largest difference of plain matgl's energies from ours, eV/atom, over a few test crystals."""
    smallest = [b for b in np.argsort([len(s) for s in test], kind="stable") if evaluations[b].error is None][:_CHECKED]
    theirs = matgl_energies(folder, [test[b] for b in smallest])
    ours = np.array([evaluations[b].energy for b in smallest])
    atoms = np.array([len(test[b]) for b in smallest])
    differences = np.abs((theirs - ours) / atoms)
    largest = float(differences.max(initial=0.0))
    if not np.all(differences <= _AGREEMENT + _LAST_DIGITS * np.abs(ours) / atoms):
        raise RuntimeError(
            f"{folder}: matgl.load_model differs by {largest:.2g} eV/atom from our evaluation of its weights"
        )
    return {"crystals": len(smallest), "largest": largest}
