"""The folder of a selection: what was chosen and why, the crystals, and the inputs of their DFT calculations."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic_files import write_json, write_text
from pipeline.config import ConfigError, Problem
from pipeline.crystal import structure_from_row
from pipeline.dft.engine import code_of, prepare
from pipeline.dft.manifest import write_manifest
from pipeline.selection.columns import SELECTION_COLUMNS
from pipeline.stages.rows import Failure, attempt
from workflows.dft_labels import CALCULATIONS, SELECTION
from workflows.export import Crystal, extxyz_text, provenance
from workflows.outputs import write_csv

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.dft.settings import DftSettings
    from pipeline.selection.scores import Weights
    from workflows.selection import Selected

TABLE, CRYSTALS = "selection.csv", "structures.extxyz"

COPY_SEED = 0


@dataclass(frozen=True)
class WrittenSelection:
    """What was written: the number of calculations, and the crystals that have no inputs, with the reason."""

    calculations: int
    without_inputs: dict[str, str] = field(default_factory=dict)


def require_new(folder: Path) -> None:
    """Refuse a folder that holds something already.

    Raises
    ------
    ConfigError
        When it does.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        text = "is there already, and is not overwritten; name another folder with --output, or move it away"
        raise ConfigError([Problem(str(folder), text)])


def write_selection(
    selected: Selected, run: Path, folder: Path, settings: DftSettings, copies: int, about: dict[str, Any]
) -> WrittenSelection:
    """Write a selection's folder, which appears when it is complete.

    Parameters
    ----------
    selected
        The candidates.
    run
        Folder of the run that they are from.
    folder
        See `require_new`.
    settings
        Of the DFT calculations.
    copies
        Strained and rattled copies of each crystal that are written beside it.
    about
        How they were chosen, for ``selection.json``; of JSON's types.

    Raises
    ------
    ConfigError
        When the folder is there already or can't be written, or the engine can't compute these crystals.
    """
    require_new(folder)
    where_from = provenance(run)
    names = {"campaign": where_from.get("campaign", ""), "config_digest": where_from["config_digest"]}
    table = selected.table.assign(**names)
    columns = [column for column in SELECTION_COLUMNS if column.name in table]
    values = [_values(row, [c.name for c in columns]) for row in table.to_dict("records")]
    crystals = [
        Crystal(name, structure, {"structure_id": name, **(own if name == own["candidate_id"] else _origin(own))})
        for row, own in zip(table.to_dict("records"), values, strict=True)
        for name, structure in _crystals(row, copies)
    ]
    _check_engine(settings, [crystal.structure for crystal in crystals])
    facts = {
        **about,
        "candidates": selected.candidates,
        "chosen": len(table),
        "notes": selected.notes,
        "dft": settings.calculation_settings(),
        "columns": {c.name: {"unit": c.unit, "meaning": c.meaning} for c in columns},
        "provenance": where_from,
    }
    units = {column.name: column.unit for column in columns if column.unit}
    growing = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        growing.mkdir(parents=True)
        write_csv(table[[column.name for column in columns]], growing / TABLE)
        write_text(growing / CRYSTALS, extxyz_text(crystals, units, where_from))
        without = _write_inputs(crystals, settings, growing / CALCULATIONS)
        write_json(growing / SELECTION, {**facts, "without_inputs": without})
        growing.replace(folder)
    except OSError as error:
        raise ConfigError([Problem(str(folder), f"can't be written: {error.strerror}")]) from None
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return WrittenSelection(len(crystals) - len(without), without)


def _values(row: dict[Any, Any], names: list[str]) -> dict[str, Any]:
    """A row's values of JSON's types, without missing ones."""
    own = {name: row[name] for name in names}
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in own.items()}
    return {name: value for name, value in plain.items() if value is not None and value == value and value != ""}


def _origin(values: dict[str, Any]) -> dict[str, Any]:
    """What is true of a moved copy too: neither energy nor scores."""
    names = ("candidate_id", "formula_pretty", "prototype_id", "prototype_source", "campaign", "config_digest")
    return {name: values[name] for name in names if name in values}


def _crystals(row: dict[Any, Any], copies: int) -> list[tuple[str, Structure]]:
    """A candidate's relaxed crystal and its copies, by name."""
    name = str(row["candidate_id"])
    structure = structure_from_row(row).remove_oxidation_states()
    if not copies:
        return [(name, structure)]
    from pipeline.distillation.frames import distorted_frames
    from pipeline.distillation.settings import Distortions

    gentle = Distortions(
        copies=copies, rattles=(0.05, 0.1), strain=0.02, smallest_volume=0.95, largest_volume=1.05, least_sites=1
    )
    frames = distorted_frames(name, structure, gentle, COPY_SEED)
    return [(name, structure), *((frame.structure_id, frame.structure) for frame in frames)]


def _check_engine(settings: DftSettings, structures: list[Structure]) -> None:
    """Refuse what no calculation could be written of: GPAW isn't installed, an element has no pseudopotential."""
    try:
        code_of(settings)
    except ValueError as error:
        raise ConfigError([Problem("--engine", str(error))]) from None
    if settings.engine == "espresso":
        elements = {site.specie.symbol for structure in structures for site in structure}
        missing = sorted(elements - set(settings.espresso.pseudopotentials))
        if missing:
            text = f"no pseudopotential of {', '.join(missing)}; add them to espresso.pseudopotentials of --dft"
            raise ConfigError([Problem("--engine", text)])


def _write_inputs(crystals: list[Crystal], settings: DftSettings, workspace: Path) -> dict[str, str]:
    """Write a folder of inputs for each crystal; those that got none, with the reason."""
    without = {}
    for crystal in crystals:
        name, values = crystal.candidate_id, crystal.values
        # A copy has lost its symmetry on purpose.
        own = settings if name == values["candidate_id"] else settings.model_copy(update={"symmetry_tolerance": 0.0})
        origin = {key: values[key] for key in ("candidate_id", "prototype_id") if key in values}
        formula = crystal.structure.composition.reduced_formula
        outcome = attempt(partial(prepare, crystal.structure, own, workspace / name, **origin, formula=formula))
        if isinstance(outcome, Failure):
            without[name] = outcome.error
    write_manifest(workspace)
    return without


def description(weights: Weights, count: int, known: dict[str, str], suspects: bool, copies: int) -> dict[str, Any]:
    """What was asked, for ``selection.json``: known files by their SHA-256."""
    return {"count": count, "weights": asdict(weights), "known": known, "suspects": suspects, "copies": copies}
