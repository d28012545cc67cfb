"""Stage ``band_gap``: machine-learned band gap of the relaxed crystal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.stages.rows import Failure, attempt_batch, crystals, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.references import References
    from pipeline.settings import BandGapSettings

NAME = "band_gap"
STAGE_VERSION = 1


def run(part: pd.DataFrame, settings: BandGapSettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add the band gap (eV) at the configured fidelity.

    The model is a regression and can predict slightly below zero for a metal; the value is left as predicted.

    Parameters
    ----------
    part
        Rows with crystals; where a row has none, its prototype's is built.
    settings, refs, workspace
        ``refs.property_model`` is used; the workspace is not.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    model = refs.property_model(settings.model)
    predicted = attempt_batch(
        lambda batch: list(zip(*model.predict_with_errors(batch, settings.fidelity), strict=True)),
        crystals(part, refs),
    )
    return with_columns(part, NAME, [_record(item, settings.fidelity) for item in predicted])


def _record(predicted: tuple[float, str | None] | Failure, fidelity: str) -> dict[str, Any] | Failure:
    if isinstance(predicted, Failure):
        return predicted
    gap, error = predicted
    if error is not None:
        return Failure(error)
    return {"band_gap": float(gap), "band_gap_fidelity": fidelity}
