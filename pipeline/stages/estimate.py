"""Stage ``estimate``: energy above the hull from a one-shot model, before any relaxation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.mp2020 import mp2020_corrections
from pipeline.reference.formulas import structure_formula
from pipeline.reference.legacy_shift import LegacyShift, legacy_shift
from pipeline.stages.rows import Failure, attempt, attempt_batch, crystals, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.reference import PhaseReference
    from pipeline.references import References
    from pipeline.settings import EstimateSettings

NAME = "estimate"
STAGE_VERSION = 1


def run(part: pd.DataFrame, settings: EstimateSettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add the estimated formation energy (eV/atom, MP2020) and energy above the hull of the unrelaxed crystal.

    Parameters
    ----------
    part
        Candidates; rows without a crystal get their prototype's with the ions placed.
    settings
        ``model``, a formation-energy model of the legacy scheme with a fitted shift.
    refs
        ``property_model``, ``phases`` and, for rows without crystals, ``library``.
    workspace
        Not used.

    Raises
    ------
    ValueError
        When the reference isn't of the MP2020 scheme, or no shift was fitted for the model.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    phases = refs.phases
    if phases.scheme != "mp2020":
        raise ValueError(
            f"stage estimate gives MP2020 formation energies, but the reference {phases.source} is of scheme "
            f"{phases.scheme!r}; leave the stage out, or use reference source 'table'"
        )
    shift = legacy_shift(settings.model)
    model = refs.property_model(settings.model)
    structures = crystals(part, refs)
    predicted = attempt_batch(lambda batch: list(zip(*model.predict_with_errors(batch), strict=True)), structures)
    records: list[dict[str, Any] | Failure] = []
    for structure, item in zip(structures, predicted, strict=True):
        if isinstance(structure, Failure):
            records.append(structure)
        elif isinstance(item, Failure):
            records.append(item)
        elif item[1] is not None:
            records.append(Failure(item[1]))
        else:
            records.append(attempt(_record, structure, float(item[0]), shift, phases))
    return with_columns(part, NAME, records)


def _record(structure: Structure, legacy: float, shift: LegacyShift, phases: PhaseReference) -> dict[str, Any]:
    energy = legacy + shift.per_atom(mp2020_corrections(structure), len(structure))
    formula = structure_formula(structure)
    return {
        "formation_energy_estimate": energy,
        "energy_above_hull_estimate": float(phases.energy_above_hull([formula], [energy])[0]),
    }
