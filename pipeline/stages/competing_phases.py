"""Stage ``competing_phases``: relax the crystals of a self-consistent reference; there is no hull yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.stages.relaxing import RelaxedCrystal, relax_crystals, relaxation_columns
from pipeline.stages.rows import Failure, crystals, with_columns
from pipeline.stages.suspicion import closest_pair

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.references import References
    from pipeline.settings import CompetingPhasesSettings

NAME = "competing_phases"
STAGE_VERSION = 3


def run(part: pd.DataFrame, settings: CompetingPhasesSettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Relax every row's crystal and add its energy; one that fell into a hole of the potential fails.

    The hull is made of what comes out, so that one hole would move every energy above it.

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
    believed = [_believed(item, settings.distance_ratio_below) for item in relaxed]
    return with_columns(
        part,
        NAME,
        [item if isinstance(item, Failure) else relaxation_columns(item, potential) for item in believed],
    )


def _believed(relaxed: RelaxedCrystal | Failure, least: float) -> RelaxedCrystal | Failure:
    """A crystal in which no two atoms are nearer than ``least`` of the sum of their covalent radii, else a failure."""
    if isinstance(relaxed, Failure):
        return relaxed
    ratio, pair = closest_pair(relaxed.structure, least)
    if ratio >= least:
        return relaxed
    return Failure(
        f"HoleOfThePotential: {pair} at {ratio:.2f} of the sum of their radii, below {least:g}, at "
        f"{relaxed.energy / len(relaxed.structure):.3f} eV/atom"
    )
