"""From the folders of DFT calculations, a run's or a selection's, to a file of labels for ``ionsieve train``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ConfigError, Problem
from pipeline.dft.calculation import ASKED, DftResult, load_calculation
from pipeline.dft.engine import read_back
from pipeline.dft.manifest import write_manifest
from pipeline.stages.rows import Failure, attempt
from workflows.dft_collection import stores_of
from workflows.step_results import read_step
from workflows.views import read_steps

if TYPE_CHECKING:
    from pipeline.dft.labels import Labelled

SELECTION = "selection.json"
"""What tells the folder of ``ionsieve select`` from a run's."""

CALCULATIONS = "dft"
"""Folder of a selection's calculations."""

LABELS = "labels.extxyz"
"""File of a selection's labels, unless another one is named."""


@dataclass(frozen=True)
class Collected:
    """What became of the calculations of a folder.

    Attributes
    ----------
    finished
        Those that can be labels.
    calculations
        All, by folder: ``folder``, ``engine``, ``state`` (finished, failed or waiting) and ``error``.
    """

    finished: list[Labelled]
    calculations: list[dict[str, str]]


@dataclass(frozen=True)
class Written:
    """A file of labels: how many crystals it holds, of which scheme, and what was left out and why, in words."""

    path: Path
    crystals: int
    scheme: str
    left_out: list[str] = field(default_factory=list)
    largest_energy: float = 0.0
    """eV/atom, of any crystal; a training takes no more than its ``data.largest_energy``."""


def is_selection(folder: Path) -> bool:
    """Whether `ionsieve select` wrote this folder."""
    return (folder / SELECTION).exists()


def collect_selection(folder: Path) -> Collected:
    """Read the outputs in a selection's folder back, as far as they are there."""
    workspace = folder / CALCULATIONS
    found = _collected(workspace, {})
    write_manifest(workspace)
    return found


def collect_run(folder: Path) -> Collected:
    """Calculations of a run's stage dft, its competing phases included."""
    steps = read_steps(folder)
    table = read_step(folder, steps[0], ["candidate_id", "prototype_id"])
    prototypes = dict(zip(table["candidate_id"], table["prototype_id"], strict=True))
    parts = [_collected(store.workspace(), prototypes) for store in stores_of(folder)]
    return Collected([c for part in parts for c in part.finished], [c for part in parts for c in part.calculations])


def _collected(workspace: Path, prototypes: dict[str, str]) -> Collected:
    from pipeline.dft.labels import Labelled

    finished, calculations = [], []
    for path in sorted(workspace.rglob(ASKED)):
        name = path.parent.relative_to(workspace).as_posix()
        try:
            calculation, written = load_calculation(path.parent)
        except (OSError, ValueError) as error:
            calculations.append({"folder": name, "engine": "", "state": "failed", "error": str(error)})
            continue
        engine = str(calculation.settings["engine"])
        outcome = attempt(read_back, calculation, path.parent)
        if isinstance(outcome, DftResult):
            prototype = written.get("prototype_id") or prototypes.get(str(written.get("candidate_id")), "")
            finished.append(Labelled(name, str(prototype), engine, outcome))
            state, why = "finished", ""
        elif isinstance(outcome, Failure):
            state, why = "failed", outcome.error
        else:
            state, why = "waiting", outcome.reason
        calculations.append({"folder": name, "engine": engine, "state": state, "error": why})
    return Collected(finished, calculations)


def write_collected_labels(found: Collected, path: Path) -> Written | None:
    """Write finished calculations as labels; None when none is finished.

    What a training would refuse with its default bounds is left out.

    Raises
    ------
    ConfigError
        When the file's ending is none of a format of labels, calculations are of several engines, or the file can't
        be written.
    """
    from pipeline.dft.labels import label_rows, refused
    from pipeline.training.write_labels import WRITERS

    check_ending(path)
    if not found.finished:
        return None
    engines = Counter(item.engine for item in found.finished)
    if len(engines) > 1:
        told = ", ".join(f"{n} of {engine}" for engine, n in sorted(engines.items()))
        text = f"calculations of several engines ({told}): energies of two codes are never mixed in one file"
        raise ConfigError([Problem(str(path), text)])
    frame = label_rows(found.finished)
    engine = next(iter(engines))
    wrong = refused(frame, engine)
    left_out = [f"{frame['structure_id'].iloc[i]}: {why}" for i, why in wrong.items()]
    if "stress" not in frame:
        left_out.append("stresses: not all calculations have one")
    kept = frame.drop(index=list(wrong)).reset_index(drop=True)
    scheme = str(frame["label_scheme"].iloc[0])
    if len(kept):
        about = {"engine": engine, "label_scheme": scheme, "crystals": len(kept)}
        try:
            WRITERS[path.suffix](path, kept, about)
        except OSError as error:
            raise ConfigError([Problem(str(path), f"can't be written: {error.strerror}")]) from None
    per_atom = [abs(e) / len(z) for e, z in zip(kept["energy"], kept["atomic_numbers"], strict=True)]
    return Written(path, len(kept), scheme, left_out, max(per_atom, default=0.0))


def check_ending(path: Path) -> None:
    """Refuse the name of a file of labels whose ending says no format."""
    from pipeline.training.write_labels import WRITERS

    if path.suffix not in WRITERS:
        raise ConfigError([Problem("--labels", f"{path} must end in {', '.join(WRITERS)}")])


def labels_as_json(written: Written | None) -> dict[str, Any] | None:
    """What was written, of JSON's types."""
    return None if written is None else {**vars(written), "path": str(written.path)}


def as_json(found: Collected, written: Written | None) -> dict[str, Any]:
    """What was collected and written, of JSON's types."""
    return {"calculations": found.calculations, "labels": labels_as_json(written)}
