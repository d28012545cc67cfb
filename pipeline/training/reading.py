"""From the files that a training names to checked splits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.training.baseline import check_energies
from pipeline.training.findings import Findings
from pipeline.training.label_checks import checked_labels
from pipeline.training.labelled import LabelledCrystals, joined
from pipeline.training.read_ase import read_ase_database, read_extxyz
from pipeline.training.read_parquet import read_parquet
from pipeline.training.settings import DataSettings
from pipeline.training.splits import SPLITS, Splits, check_leaks, families, rows_of_elements, split_by_group

if TYPE_CHECKING:
    import pandas as pd

_READERS = {
    ".parquet": read_parquet,
    ".xyz": read_extxyz,
    ".extxyz": read_extxyz,
    ".db": read_ase_database,
}


@dataclass(frozen=True)
class TrainingData:
    """Splits, the elements they hold, and the SHA-256 of each file that was read."""

    splits: Splits
    elements: tuple[str, ...]
    files: dict[str, str]


def read_training_data(settings: DataSettings, elements: Sequence[str] | None = None) -> TrainingData:
    """Read, check and divide the labelled crystals.

    Parameters
    ----------
    settings
        Files, bounds and shares.
    elements
        Those that the model shall know; default: those of the training split.

    Raises
    ------
    ConfigError
        With everything that is wrong, each with its file and row.
    """
    findings = Findings()
    given = {"files": settings.files} if settings.files else {name: getattr(settings, name) for name in SPLITS}
    tables = {name: read_labels(files, settings, findings) for name, files in given.items()}
    findings.raise_if_any()
    whole = {name: joined(parts) for name, parts in tables.items()}
    check_energies(joined(list(whole.values())), settings.largest_energy_deviation, findings)
    if settings.files:
        labels = whole["files"]
        if settings.group_by != "formula":
            labels = replace(labels, groups=tuple(families(labels)))
        splits = split_by_group(labels, settings.seed, settings.shares, findings)
    else:
        splits = Splits(**whole)
        check_leaks(splits, findings, settings.group_by)
    if splits is not None:
        known = _check_elements(splits, elements, settings.min_structures_per_element, findings)
    findings.raise_if_any()
    assert splits is not None  # else findings say why
    return TrainingData(splits, known, {file: file_digest(Path(file)) for files in given.values() for file in files})


def read_rows(path: Path, findings: Findings) -> pd.DataFrame | None:
    """Rows of a file in the format of its ending; None, with the reason in ``findings``, if it can't be read."""
    reader = _READERS.get(path.suffix)
    if reader is None:
        findings.add("kind", str(path), None, f"is none of {', '.join(_READERS)}")
        return None
    if path.is_dir():
        findings.add("broken", str(path), None, "is a folder; name the files in it")
        return None
    return reader(path, findings)


def read_labels(files: Sequence[str], settings: DataSettings, findings: Findings) -> list[LabelledCrystals]:
    """Checked labels of each file; what is wrong goes to ``findings``."""
    found = []
    for file in files:
        frame = read_rows(Path(file), findings)
        labels = None if frame is None else checked_labels(frame, file, settings, findings)
        if labels is not None:
            found.append(labels)
    return found


def _check_elements(splits: Splits, wanted: Sequence[str] | None, least: int, findings: Findings) -> tuple[str, ...]:
    """Elements of the model, in order; those without enough training crystals are found."""
    from ase.data import atomic_numbers

    everywhere = {symbol for _, labels in splits.items() for symbol in labels.elements}
    known = tuple(sorted(everywhere if wanted is None else wanted, key=lambda symbol: atomic_numbers[symbol]))
    strangers = sorted(everywhere - set(known))
    if strangers:
        findings.add("strangers", "data", None, f"holds {', '.join(strangers)}, which network.elements leaves out")
        return known
    for symbol, n in zip(known, rows_of_elements(splits.train, known), strict=True):
        if n < least:
            findings.add(
                "elements",
                "data",
                None,
                f"{symbol} is in {n} crystals of the training split, fewer than data.min_structures_per_element = "
                f"{least}; add crystals, leave those with {symbol} out, or lower the bound",
            )
    return known


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
