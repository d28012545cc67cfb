"""Rows that are computed again although they have a result."""

from __future__ import annotations

import pandas as pd

from pipeline.settings import StageSettings

MISSING_PHASES = "dft_missing_phases"


def columns_for_repeats(settings: StageSettings) -> list[str]:
    """Columns of a stage's results that `rows_to_repeat` looks at."""
    own = [MISSING_PHASES] if settings.stage == "dft" else []
    return ["candidate_id", f"{settings.stage}_status", *own]


def rows_to_repeat(settings: StageSettings, done: pd.DataFrame, *, retry_failed: bool, collect: bool) -> set[str]:
    """Say which rows a run computes again.

    Parameters
    ----------
    settings
        Of the stage.
    done
        Its results, with `columns_for_repeats`.
    retry_failed
        The user asks for failed rows.
    collect
        The user asks for outputs of DFT: one that was refused may have been mended, also a competing phase's, without
        which a row's distance to the hull is a lower bound.

    Returns
    -------
    set of str
        candidate_ids.
    """
    collects = collect and settings.stage == "dft"
    statuses = {"failed", "pending"} if collects else {"failed"} if retry_failed else set()
    again = done[f"{settings.stage}_status"].isin(statuses)
    if MISSING_PHASES in done and statuses:
        again |= done[MISSING_PHASES].fillna("") != ""
    return set(done.loc[again, "candidate_id"])
