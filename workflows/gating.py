"""Why a row leaves the funnel: exactly one reason for each row that does, the first it meets."""

from __future__ import annotations

import pandas as pd

from pipeline.settings import StageSettings

UNFINISHED = ("failed", "pending")
"""Statuses of rows that a required stage lets go."""


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
