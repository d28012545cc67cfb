"""Stage ``competing_phases``: relax the crystals of a self-consistent reference; there is no hull yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.stages.relaxing import relax_crystals, relaxation_columns
from pipeline.stages.rows import Failure, crystals, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.references import References
    from pipeline.settings import CompetingPhasesSettings

NAME = "competing_phases"
STAGE_VERSION = 2


def run(part: pd.DataFrame, settings: CompetingPhasesSettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Relax every row's crystal and add its energy.

    Parameters
    ----------
    part
        Rows with crystals, as ``pipeline.reference.competing.competing_phases`` lists them.
    settings
        How to relax: as the stability stage does.
    refs
        ``potential``.
    workspace
        Not used.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    potential = refs.potential
    relaxed = relax_crystals(crystals(part, refs), part["candidate_id"].tolist(), settings, potential)
    return with_columns(
        part,
        NAME,
        [item if isinstance(item, Failure) else relaxation_columns(item, potential) for item in relaxed],
    )
