"""What the stages of a run left on disk, and what became of each candidate."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import ConfigError, Problem
from pipeline.problems import read_yaml
from pipeline.stage_settings import StageSettings
from workflows.files import parts_in
from workflows.gating import BEYOND_THE_BEST, reasons_of

RANKED = "ranked"
_GATING = ("stage", "name", "gates", "required", "best")


def read_step(
    folder: Path, step: dict[str, Any], columns: list[str], only: Collection[str] | None = None
) -> pd.DataFrame:
    """Columns of a step's results, of all candidates or of the ids in ``only``.

    A later unit (a retry) replaces an earlier one's row; damaged parts are left out.
    """
    nothing = pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    if only is not None and len(only) == 0:
        return nothing
    chosen = None if only is None else [("candidate_id", "in", list(only))]
    tables = []
    for part in parts_in(folder / "stages" / step["step"] / step["digest"][:12]):
        try:
            there = pq.read_schema(part).names
            tables.append(pq.read_table(part, columns=[c for c in columns if c in there], filters=chosen))
        except (OSError, pa.ArrowInvalid):
            continue
    if not tables:
        return nothing
    frame = pa.concat_tables([t.replace_schema_metadata(None) for t in tables], promote_options="permissive")
    return frame.to_pandas().drop_duplicates("candidate_id", keep="last")


def outcomes(folder: Path, steps: list[dict[str, Any]]) -> pd.DataFrame:
    """What became of each candidate that passed the cheap gates.

    Returns
    -------
    pandas.DataFrame
        ``candidate_id, formula_pretty, outcome``: 'ranked', or '<step>: <reason>' with the first reason it met; in a
        run that has not come to its end, 'passed <step>' for those that are still in it.

    Raises
    ------
    ConfigError
        When the run folder's config.yaml can't be read.
    """
    return _carried(folder, steps)[0]


def entrants(folder: Path, steps: list[dict[str, Any]], step: str) -> set[str]:
    """Ids of the candidates that entered a step: those that the gates before it let through, and that it took.

    A step's folder may hold others too, of an earlier run with looser gates or other elements.

    Raises
    ------
    ConfigError
        When the run folder's config.yaml can't be read.
    """
    place = [each["step"] for each in steps].index(step)
    table, alive = _carried(folder, steps[:place])
    entered = set(table["candidate_id"].iloc[alive])
    taken = steps[place].get("taken")
    return entered if taken is None else entered & set(taken)


def _carried(folder: Path, steps: list[dict[str, Any]]) -> tuple[pd.DataFrame, npt.NDArray[np.intp]]:
    """Candidates with their outcomes, and the places of those that the gates of these steps let through."""
    done = {step["step"]: step for step in steps}
    last, complete = steps[0]["step"], True
    table = read_step(folder, steps[0], ["candidate_id", "formula_pretty"]).reset_index(drop=True)
    fates, alive = np.full(len(table), "", dtype=object), np.arange(len(table))
    for settings in gating_settings(folder / "config.yaml"):
        if settings.step not in done:
            complete = False
            break
        last = settings.step
        taken = done[last].get("taken")
        rows = read_step(folder, done[last], ["candidate_id", f"{settings.stage}_status", *settings.gates], taken)
        places = pd.Index(rows["candidate_id"]).get_indexer(pd.Index(table["candidate_id"].iloc[alive]))
        absent = "no result" if taken is None else BEYOND_THE_BEST
        reasons, there = np.full(len(alive), absent, dtype=object), places >= 0
        reasons[there] = reasons_of(settings, rows.iloc[places[there]].reset_index(drop=True)).to_numpy(dtype=object)
        out = reasons != ""
        fates[alive[out]] = [f"{last}: {reason}" for reason in reasons[out]]
        alive = alive[~out]
    fates[alive] = RANKED if complete else f"passed {last}"
    return table.assign(outcome=fates), alive


def gating_settings(path: Path) -> list[StageSettings]:
    """What the gates of a run's stages ask; without the rest of the campaign, whose checks import pymatgen.

    Raises
    ------
    ConfigError
        When the run folder's config.yaml can't be read.
    """
    stages = read_yaml(path)[0].get("stages")
    try:
        return [StageSettings(**{key: stage[key] for key in _GATING if key in stage}) for stage in stages or []]
    except (ValueError, TypeError) as error:
        text = f"stages can't be read ({str(error).splitlines()[0]}); run the same `ionsieve run` again"
        raise ConfigError([Problem(str(path), text)]) from None
