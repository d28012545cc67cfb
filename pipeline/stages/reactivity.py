"""Stage ``reactivity``: chemical stability against named partners, such as an anode's metal or a cathode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stages.rows import attempt, phases_text, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.reference import PhaseReference
    from pipeline.references import References
    from pipeline.settings import ReactivitySettings

NAME = "reactivity"
STAGE_VERSION = 2


def run(part: pd.DataFrame, settings: ReactivitySettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add the mutual reaction energy with each partner, and the products with the worst of them.

    ``reaction_energy_<partner>`` is the driving force in eV per atom of the mixture, 0 or negative;
    ``reaction_energy`` the lowest of them, ``reaction_partner`` whose it is (see `pipeline.reference.reaction`).

    Parameters
    ----------
    part
        Holds ``formula_pretty`` and ``formation_energy_per_atom`` (eV/atom, in the reference's scheme).
    settings, refs, workspace
        ``refs.phases`` is used; the workspace is not.
    """
    columns = [f"reaction_energy_{partner}" for partner in settings.partners]
    records = [
        attempt(_record, refs.phases, row, settings.partners)
        for row in part[["formula_pretty", "formation_energy_per_atom"]].to_dict("records")
    ]
    return with_columns(part, NAME, records, columns)


def _record(phases: PhaseReference, row: Mapping[str, Any], partners: tuple[str, ...]) -> dict[str, Any]:
    formula, energy = str(row["formula_pretty"]), float(row["formation_energy_per_atom"])
    if not np.isfinite(energy):
        raise ValueError(f"{formula} has no formation energy ({energy}); stability has to succeed first")
    reactions = [phases.mutual_reaction(formula, partner, energy) for partner in partners]
    worst = min(reactions, key=lambda r: r.energy)
    return {
        "reaction_energy": worst.energy,
        "reaction_partner": worst.partner if worst.energy < 0.0 else "",
        "reaction_share": worst.share,
        "reaction_products": phases_text(worst.products),
        "reaction_partners_as_mixtures": "; ".join(p for p in partners if not phases.contains(p)),
        **{f"reaction_energy_{r.partner}": r.energy for r in reactions},
    }
