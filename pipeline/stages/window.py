"""Stage ``window``: electrochemical stability against the mobile ions' metals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stages.rows import attempt, phases_text, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.reference import ElectrochemicalWindow, PhaseReference
    from pipeline.references import References
    from pipeline.settings import WindowSettings

NAME = "window"
STAGE_VERSION = 2


def run(part: pd.DataFrame, settings: WindowSettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add the limits of the window, and what forms at them.

    For every mobile ion of the candidate ``reduction_limit_<ion>`` and ``oxidation_limit_<ion>`` (V vs its metal;
    NaN for ions it does not hold); ``reduction_limit`` is the highest, ``oxidation_limit`` the lowest of them, and
    ``window_ion`` names whose they are, as ``reduction/oxidation``. With ``settings.reference_electrode`` only that
    metal counts, also for candidates that hold none of it: they have a reduction limit and no oxidation limit
    (nothing of that metal can be given off), so that a gate on it is not passed. Candidates without any mobile
    ion have status ``skipped``.

    Parameters
    ----------
    part
        Holds ``formula_pretty`` and ``formation_energy_per_atom`` (eV/atom, in the reference's scheme).
    settings, refs, workspace
        ``refs.phases`` and ``refs.mobile_ions`` are used; the workspace is not.
    """
    from pipeline.reference.window import ion_charge

    forced = settings.reference_electrode
    ions = settings.metals(refs.mobile_ions)
    for ion in ions:
        ion_charge(ion)
    columns = [f"{limit}_limit_{ion}" for ion in dict.fromkeys([*refs.mobile_ions, *ions]) for limit in _LIMITS]
    records = [
        attempt(_record, refs.phases, row, ions, forced is not None)
        for row in part[["formula_pretty", "formation_energy_per_atom"]].to_dict("records")
    ]
    return with_columns(part, NAME, records, columns)


_LIMITS = ("reduction", "oxidation")


def _record(phases: PhaseReference, row: Mapping[str, Any], ions: tuple[str, ...], forced: bool) -> dict[str, Any]:
    from pipeline.reference.formulas import composition_key
    from pipeline.reference.window import window_of

    formula, energy = str(row["formula_pretty"]), float(row["formation_energy_per_atom"])
    if not np.isfinite(energy):
        raise ValueError(f"{formula} has no formation energy ({energy}); stability has to succeed first")
    present = {symbol for symbol, _ in composition_key(formula)}
    profiles = [phases.voltage_profile(formula, ion, energy) for ion in ions if forced or ion in present]
    if not profiles:
        return {"window_status": "skipped"}
    text = "; ".join(f"{profile.ion}: {profile.text}" for profile in profiles)
    return {**_worst([window_of(profile) for profile in profiles]), "voltage_profile": text}


def _worst(windows: list[ElectrochemicalWindow]) -> dict[str, Any]:
    reduction = max(windows, key=lambda w: w.reduction_limit)
    oxidation = min(windows, key=lambda w: w.oxidation_limit)
    return {
        "reduction_limit": reduction.reduction_limit,
        "oxidation_limit": oxidation.oxidation_limit,
        "window_ion": f"{reduction.ion}/{oxidation.ion}",
        "reduction_products": phases_text(reduction.reduction_products),
        "oxidation_products": phases_text(oxidation.oxidation_products),
        **{f"reduction_limit_{w.ion}": w.reduction_limit for w in windows},
        **{f"oxidation_limit_{w.ion}": w.oxidation_limit for w in windows},
    }
