"""The rows that entered each stage of a run, with the columns that its gates decide by."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipeline.gates import Gate
from pipeline.settings import StageSettings
from workflows.gating import reasons_of
from workflows.report.run_data import RunData
from workflows.step_results import read_step


@dataclass(frozen=True)
class StageRows:
    """Rows that entered one stage: identity, gated columns, and ``reason`` ('' for a row that passed)."""

    settings: StageSettings
    entered: int
    table: pd.DataFrame


@dataclass(frozen=True)
class Miss:
    """A row that one gate rejected, and by how much it missed the bound (in the column's unit)."""

    candidate_id: str
    formula: str
    value: float
    shortfall: float


def candidates_of(run: RunData) -> pd.DataFrame:
    """Candidates that passed the cheap gates: ``candidate_id, formula_pretty, chemsys``."""
    step = next(step for step in run.steps if step["step"] == "candidates")
    return read_step(run.folder, step, ["candidate_id", "formula_pretty", "chemsys"])


def rows_of_stages(run: RunData, candidates: pd.DataFrame) -> list[StageRows]:
    """For each stage with a gate, or whose failed rows leave, the rows that entered it.

    A stage's folder may also hold rows of a looser gate before it, from an earlier run: what the gates of this run
    let through decides.
    """
    alive = candidates[["candidate_id", "formula_pretty"]]
    found = []
    steps = {step["step"]: step for step in run.steps}
    for settings in run.campaign.stages:
        if settings.step not in steps:
            break
        step = steps[settings.step]
        if not settings.gates and not settings.required and settings.best is None:
            continue
        wanted = ["candidate_id", f"{settings.stage}_status", *settings.gates]
        if settings.stage == "stability":
            wanted.append("energy_above_hull")
        rows = read_step(run.folder, step, list(dict.fromkeys(wanted)), step.get("taken"))
        table = alive.merge(rows, on="candidate_id", how="inner").reset_index(drop=True)
        table["reason"] = reasons_of(settings, table) if len(table) else pd.Series(dtype=object)
        found.append(StageRows(settings, step["entered"], table))
        alive = table.loc[table["reason"] == "", ["candidate_id", "formula_pretty"]]
    return found


def nearest_misses(rows: StageRows, name: str, count: int) -> list[Miss]:
    """The rows that were rejected by the gate on a column, nearest to its bound first; ties by candidate_id."""
    rejected = rows.table[rows.table["reason"] == name]
    values = rejected[name].astype("float64")
    shortfall = _shortfall(rows.settings.gates[name], values)
    order = pd.DataFrame({"shortfall": shortfall, "id": rejected["candidate_id"]}).sort_values(["shortfall", "id"])
    return [
        Miss(str(rejected.at[i, "candidate_id"]), str(rejected.at[i, "formula_pretty"]), float(values[i]), shortfall[i])
        for i in order.index[:count]
    ]


def _shortfall(gate: Gate, values: pd.Series) -> pd.Series:
    short = pd.Series(0.0, index=values.index)
    if gate.upper is not None:
        short = short.where(values <= gate.upper, values - gate.upper)
    if gate.lower is not None:
        short = short.where(values >= gate.lower, gate.lower - values)
    return short
