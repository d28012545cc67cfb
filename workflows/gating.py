"""Why a row leaves the funnel: exactly one reason for each row that does, the first it meets."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline import schema
from pipeline.settings import StageSettings
from workflows.steps import Step

UNFINISHED = ("failed", "pending")
"""Statuses of rows that a required stage lets go."""

BEYOND_THE_BEST = "beyond the best"
"""Reason of the rows that a stage with ``best`` does not take."""


def possible_reasons(settings: StageSettings) -> list[str]:
    """Reasons of a stage in the order in which they are asked."""
    return (list(UNFINISHED) if settings.required else []) + [
        reason for name in settings.gates for reason in (f"{name} missing", name)
    ]


def reasons_of(settings: StageSettings, table: pd.DataFrame) -> pd.Series:
    """Why each row of a stage's results is rejected; '' for a row that passes.

    A missing value or NaN never passes; its reason is ``<column> missing``. A failed or pending row is rejected where
    the stage is required, and otherwise by the gates alone.
    """
    reasons = pd.Series("", index=table.index, dtype=object)
    if settings.required:
        for status in UNFINISHED:
            reasons[table[f"{settings.stage}_status"] == status] = status
    for name, bound in settings.gates.items():
        values = table[name] if name in table else pd.Series(float("nan"), index=table.index)
        alive = reasons == ""
        absent = values.isna()
        reasons[alive & absent] = f"{name} missing"
        reasons[alive & ~absent & ~pd.Series(bound.passes(values), index=table.index)] = name
    return reasons


def gated(settings: StageSettings, table: pd.DataFrame, left_out: int = 0) -> tuple[pd.DataFrame, Step]:
    """Rows that pass a stage's gates, marked ``pass_<step>``, and the account of all others.

    ``left_out`` counts the rows that the stage did not take, since it takes the best only.
    """
    reasons = reasons_of(settings, table)
    survivors = table[reasons == ""].assign(**{f"pass_{settings.step}": True}).reset_index(drop=True)
    counts = reasons.value_counts()
    out = {BEYOND_THE_BEST: left_out} if left_out else {}
    out |= {reason: int(counts[reason]) for reason in possible_reasons(settings) if reason in counts}
    texts = [bound.text(name, schema.column(name).unit) for name, bound in settings.gates.items()]
    if settings.best is not None:
        texts.insert(0, f"best {settings.best}")
    failed = int((table[f"{settings.stage}_status"] == "failed").sum())
    entered = len(table) + left_out
    step = Step(settings.step, settings.stage, ", ".join(texts), entered, failed, len(survivors), out)
    step.taken = None if settings.best is None else sorted(table["candidate_id"])
    return survivors, step


def cheap_gates_text(gates: dict[str, Any]) -> str:
    """The cheap gates of the enumeration in words, for the funnel."""
    texts = []
    for name, value in gates.items():
        if isinstance(value, (tuple, list)):
            texts.extend(f"{name} {', '.join(group)}" for group in value)
        elif name == "keep_parents":
            texts.extend([] if value else ["no parents"])
        elif value is True:
            texts.append(name)
        elif value is not False:
            texts.append(f"{name} {'<=' if name == 'radius_mismatch' else '>='} {value:g}")
    return ", ".join(texts)
