"""Labelled frames divided into three splits, and written with what they hold and what made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.atomic_files import write_json, write_text
from pipeline.config import ConfigError, Problem
from pipeline.distillation.contents import contents_table
from pipeline.distillation.drawing import FURTHER
from pipeline.distillation.grouping import larger_groups, splits_of
from pipeline.distillation.settings import DistillationSettings
from pipeline.training.groups import joined_groups, linked
from pipeline.training.labelled import LABEL_COLUMNS
from pipeline.training.read_parquet import write_parquet
from pipeline.training.splits import SPLITS
from workflows.files import digest_of_file

_ALWAYS_TRAINED = ("element", "binary")


@dataclass(frozen=True)
class LabelledData:
    """Where the labels lie (``files`` by split), how many frames each split has, and the digest of what made them."""

    folder: Path
    files: Mapping[str, Path]
    frames: Mapping[str, int]
    digest: str


def write_splits(
    rows: pd.DataFrame,
    left_out: Mapping[str, int],
    settings: DistillationSettings,
    folder: Path,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> LabelledData:
    """Write the splits, their contents and, last, what made them.

    Raises
    ------
    ConfigError
        A split that no group falls into.
    """
    own, always_trained = _divided(rows[rows["kind"] != FURTHER], settings)
    beyond, near = _trained_on(rows[rows["kind"] == FURTHER], own[own["split"] != "train"])
    rows = pd.concat([own, beyond]).sort_index()
    frames = {name: int((rows["split"] == name).sum()) for name in SPLITS}
    empty = [name for name in SPLITS if not frames[name]]
    if empty:
        text = (
            f"{own['group'].nunique()} groups of prototypes, {always_trained} of them always trained on (elements, "
            f"salts, large groups), leave no frame for {' and '.join(empty)}; draw more candidates, or take another "
            "seed or larger shares"
        )
        raise ConfigError([Problem("distil", text)])
    left_out = {**left_out, **({"further: of an unseen prototype": near} if near else {})}
    columns = [column.name for column in LABEL_COLUMNS if column.name in rows]
    whole = {**about, "groups": rows["group"].nunique(), "left_out": left_out, "frames": frames}
    files = {name: folder / f"{name}.parquet" for name in SPLITS}
    for name, path in files.items():
        write_parquet(path, rows.loc[rows["split"] == name, columns].reset_index(drop=True), {**whole, "split": name})
    contents = contents_table(rows, left_out)
    write_text(folder / "contents.csv", contents.to_csv(index=False))
    write_json(folder / "generation.json", {**whole, "sha256": {s: digest_of_file(f) for s, f in files.items()}})
    say(f"{sum(frames.values()):,} labelled frames in {folder} ({', '.join(f'{n:,} {s}' for s, n in frames.items())})")
    return LabelledData(folder, files, frames, str(about["digest"]))


def _divided(rows: pd.DataFrame, settings: DistillationSettings) -> tuple[pd.DataFrame, int]:
    """Frames of the campaign and its reference with ``group`` and ``split``; the number of groups always trained on."""
    rows = rows.assign(group=joined_groups(rows["prototype"].tolist(), _protostructures(rows)))
    trained = set(rows.loc[rows["kind"].isin(_ALWAYS_TRAINED), "group"])
    trained |= larger_groups(rows["group"].tolist(), settings.largest_unseen)
    split = splits_of(rows["group"].tolist(), trained, settings.validation, settings.held_out, settings.seed)
    return rows.assign(split=[split[group] for group in rows["group"]]), len(trained)


def _trained_on(rows: pd.DataFrame, unseen: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Frames of further prototypes with ``group`` and ``split``, without those of unseen frames; how many these are."""
    known = {*unseen["prototype"], *_protostructures(unseen)} - {None}
    near = np.array(linked(rows["prototype"].tolist(), _protostructures(rows), known), dtype=bool)
    # Joined only now: a group would be named after a prototype that is left out.
    kept = rows[~near]
    groups = joined_groups(kept["prototype"].tolist(), _protostructures(kept))
    return kept.assign(group=groups, split="train"), int(near.sum())


def _protostructures(rows: pd.DataFrame) -> list[str | None]:
    return [label if isinstance(label, str) else None for label in rows["protostructure"]]
