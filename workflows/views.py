"""What a run folder says, for the terminal and the report. Imports no model and no Dask."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.config import ConfigError, Problem
from workflows.decision import nearest_ids
from workflows.files import parts_in, read_json
from workflows.lock import is_held


def read_ranked(folder: Path) -> pd.DataFrame:
    """Read ranked_candidates.csv; ConfigError says what to do when there is none."""
    path = folder / "ranked_candidates.csv"
    if not path.exists():
        raise ConfigError([Problem(str(folder), "has no ranked_candidates.csv; finish it with `ionsieve run`")])
    text = {c.name: str for c in schema.COLUMNS if c.dtype == "string"}
    try:
        _refuse_cut_off(path)
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=text)
        return table.astype({"candidate_id": str, "shortlisted": bool})
    except OSError as error:
        text_of_it = f"can't be read ({error.strerror}); make it readable, or run the same `ionsieve run` again"
        raise ConfigError([Problem(str(path), text_of_it)]) from None
    except (ValueError, KeyError):
        text_of_it = "is damaged; run the same `ionsieve run` again: it is written anew, and finished units are kept"
        raise ConfigError([Problem(str(path), text_of_it)]) from None


def _refuse_cut_off(path: Path) -> None:
    """Raise ValueError when a CSV's last line has no end."""
    with path.open("rb") as file:
        if file.seek(0, 2):
            file.seek(-1, 2)
        if file.read(1) != b"\n":
            raise ValueError(f"{path} ends within a line")


def caution(folder: Path) -> str | None:
    """What to say when the results may be of earlier settings: a later run has started and not finished."""
    held = is_held(folder)
    if not (folder / "manifest.json").exists():
        return "a run has just begun in this folder" if held else "the run in this folder ended before its first step"
    if read_json(folder / "manifest.json").get("finished"):
        return None
    what = "a run is at work in this folder" if held else "the last run in this folder has not finished"
    earlier = (folder / "ranked_candidates.csv").exists()
    return f"{what}: the ranked table is of an earlier run" if earlier else f"{what}; there is no ranked table yet"


def as_csv(table: pd.DataFrame) -> str:
    """CSV with numbers as ranked_candidates.csv has them: nine significant digits."""
    return str(table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def as_json(records: Any) -> str:
    """JSON with null for what is missing or not finite, numbers in full."""
    return json.dumps(_finite(records), indent=1, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_PLACES = {2: "second", 3: "third"}


def places_in_formula(ranked: pd.DataFrame) -> pd.Series:
    """Each row's place (1, 2, ...) among its formula's rows without duplicates, controls and suspects; 0 for these.

    A formula enters the shortlist ``ranking.max_per_formula`` times: its later crystals are left off for that alone.
    """
    plain = pd.Series(True, index=ranked.index)
    for name in ("is_control", "suspect"):
        if name in ranked:
            plain &= ~ranked[name].map(is_true).astype(bool)
    if "duplicate_of" in ranked:
        plain &= ranked["duplicate_of"].isna() | (ranked["duplicate_of"] == "")
    return (ranked[plain].groupby("formula_pretty").cumcount() + 1).reindex(ranked.index, fill_value=0)


def marks(row: dict[str, Any], place: int = 1) -> str:
    """Words for a row: shortlisted, known, parent, suspect, duplicate; else its ``place`` in its formula, if not 1."""
    words = []
    if is_true(row.get("shortlisted")):
        words.append("shortlist")
    if is_true(row.get("is_parent")):
        words.append("parent")
    if is_true(row.get("is_known")):
        words.append("known")
    if is_true(row.get("suspect")):
        words.append("suspect")
    duplicate = row.get("duplicate_of")
    if isinstance(duplicate, str) and duplicate:
        words.append("duplicate")
    if not words and place > 1:
        words.append(f"{_PLACES.get(place, f'no. {place}')} of its formula")
    return " ".join(words)


def is_true(value: Any) -> bool:
    """Tell whether a cell of a table that was read is true; an empty one is not."""
    return value is True or str(value) == "True"


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """Steps that a run has finished so far."""
    if not (folder / "progress.json").exists():
        raise ConfigError([Problem(str(folder), "is no run folder, or its run has not finished a step yet")])
    steps = read_json(folder / "progress.json").get("steps")
    if not isinstance(steps, list):
        raise ConfigError([Problem(str(folder / "progress.json"), "is damaged; run the same `ionsieve run` again")])
    return steps


def ranked_candidate(folder: Path, text: str) -> dict[str, Any]:
    """The row of ranked_candidates.csv that was meant, by candidate_id or by rank.

    Raises
    ------
    ConfigError
        When there is none; the ids that look most like the one given are named.
    """
    ranked = read_ranked(folder)
    rows = ranked[ranked["candidate_id"] == text]
    if text.isdecimal() and not len(rows):
        rows = ranked[ranked["rank"] == int(text)]
        if not len(rows):
            raise ConfigError([Problem(str(folder), f"has no rank {text}; its last one is {len(ranked)}")])
    if not len(rows):
        text = f"has no ranked candidate {text!r}; {_nearest(folder, text, list(ranked['candidate_id']))}"
        raise ConfigError([Problem(str(folder), text)])
    return dict(rows.iloc[0])


def _nearest(folder: Path, candidate: str, known: list[str]) -> str:
    near = nearest_ids(candidate, known)
    listed = f"`ionsieve top {folder}` lists the ranked ones"
    return f"the nearest are {', '.join(near)}; {listed}" if near else listed


def candidate_of_rank(folder: Path, text: str) -> str:
    """The candidate_id that was meant: the text itself, or that of a rank."""
    return str(ranked_candidate(folder, text)["candidate_id"]) if text.isdecimal() else text


def everything_about(folder: Path, candidate: str) -> dict[str, Any]:
    """All columns that any stage of this run wrote for one candidate, rejected ones included."""
    found: dict[str, Any] = {}
    for step in read_steps(folder):
        for part in parts_in(folder / "stages" / step["step"] / step["digest"][:12]):
            try:
                rows = pq.read_table(part, filters=[("candidate_id", "==", candidate)]).to_pylist()
            except (OSError, pa.ArrowInvalid):  # damaged: the next run computes it again
                continue
            if rows:
                found.update(rows[-1])
    if not found:
        ranked = folder / "ranked_candidates.csv"
        known = list(read_ranked(folder)["candidate_id"]) if ranked.exists() else []
        text = f"has no candidate {candidate!r}; {_nearest(folder, candidate, known)}"
        raise ConfigError([Problem(str(folder), text)])
    if (folder / "ranked_candidates.csv").exists():
        table = read_ranked(folder)
        for row in table[table["candidate_id"] == candidate].to_dict("records"):
            found.update({c.name: row[c.name] for c in schema.columns_of("ranking") if c.name in row})
    return found
