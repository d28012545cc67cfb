"""Stage ``stability``: relax with the surrogate, then the distance to the hull of competing phases.

A relaxation that runs out of steps keeps status ok with ``relaxation_converged`` false: its energy is an upper bound,
so it can only make a candidate look less stable than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.energetics import (
    energy_scheme,
    formation_energy_per_atom,
    mp2020_total_energy,
    self_consistent_formation_energy_per_atom,
    self_consistent_scheme,
)
from pipeline.reference.formulas import structure_formula
from pipeline.reference.surrogate_errors import surrogate_errors
from pipeline.stages.relaxing import RelaxedCrystal, relax_crystals, relaxation_columns
from pipeline.stages.rows import Failure, attempt, attempt_batch, crystals, phases_text, with_columns
from pipeline.stages.suspicion import suspect_reasons

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.reference import PhaseReference
    from pipeline.references import References
    from pipeline.settings import StabilitySettings
    from pipeline.surrogates.potential import Potential

NAME = "stability"
STAGE_VERSION = 3

FormationEnergy = Callable[["Structure", float], float]


def run(part: pd.DataFrame, settings: StabilitySettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Relax every row and add its energies, its distance to the hull and whether it is to be believed.

    ``energy_disagreement`` is the absolute difference of the two surrogates' formation energies in the MP2020
    scheme, on the crystal that the first relaxed; NaN without a second opinion. ``energy_above_hull_error`` is how
    far known phases like this are off; NaN for a surrogate that was never measured, and against a self-consistent
    reference, whose own errors cancel some of the candidate's.

    Parameters
    ----------
    part
        Candidates; rows without a crystal get their prototype's with the ions placed.
    settings
        How to relax, and when a row is suspect.
    refs
        ``potential``, ``second_potential``, ``phases`` and, for rows without crystals, ``library``.
    workspace
        Not used.

    Raises
    ------
    ValueError
        When the potential's energies don't fit the reference's scheme.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    potential, phases = refs.potential, refs.phases
    formation_energy = formation_energy_for(phases, potential)
    second = refs.second_potential
    if second is not None:
        _check_comparable(potential, second)
    starts = crystals(part, refs)
    relaxed = relax_crystals(starts, part["candidate_id"].tolist(), settings, potential)
    opinions = _second_opinion(relaxed, second)
    records = [
        _record(item, opinion, settings, potential, phases, formation_energy, second)
        for item, opinion in zip(relaxed, opinions, strict=True)
    ]
    return with_columns(part, NAME, records)


def formation_energy_for(phases: PhaseReference, potential: Potential) -> FormationEnergy:
    """Choose the formation energy (structure, total eV -> eV/atom) that fits the reference's scheme.

    Raises
    ------
    ValueError
        When schemes don't fit, or the reference carries no energies of the elements.
    """
    energies = phases.elemental_energies
    if energies is None:
        raise ValueError(
            f"{phases.source} was loaded without elemental_references; formation energies need the energies of "
            "the elements in its scheme"
        )
    own = self_consistent_scheme(potential)
    if phases.scheme == own:
        return lambda structure, total: self_consistent_formation_energy_per_atom(structure, total, potential, energies)
    if phases.scheme == "mp2020" and energy_scheme(potential) in ("mp_raw", "mp2020"):
        return lambda structure, total: formation_energy_per_atom(
            structure, total, potential, elemental_references=energies
        )
    raise ValueError(
        f"model {potential.name!r} (energies of scheme {energy_scheme(potential)!r}) can't be compared with a "
        f"reference of scheme {phases.scheme!r}; use reference source 'prototypes', which makes {own!r}"
    )


def _check_comparable(first: Potential, second: Potential) -> None:
    for model in (first, second):
        if energy_scheme(model) not in ("mp_raw", "mp2020"):
            raise ValueError(
                f"second_opinion compares formation energies in the MP2020 scheme, which model {model.name!r} "
                f"(scheme {energy_scheme(model)!r}) can't give; leave second_opinion out"
            )


def _second_opinion(relaxed: list[RelaxedCrystal | Failure], second: Potential | None) -> list[Any]:
    if second is None:
        return [None] * len(relaxed)
    structures = [item if isinstance(item, Failure) else item.structure for item in relaxed]
    opinions = attempt_batch(second.evaluate, structures)
    return [
        Failure(f"{o.error} (second opinion of {second.name})") if not isinstance(o, Failure) and o.error else o
        for o in opinions
    ]


def _record(
    relaxed: RelaxedCrystal | Failure,
    opinion: Any,
    settings: StabilitySettings,
    potential: Potential,
    phases: PhaseReference,
    formation_energy: FormationEnergy,
    second: Potential | None,
) -> dict[str, Any] | Failure:
    if isinstance(relaxed, Failure):
        return _failed(relaxed)
    if isinstance(opinion, Failure):
        return _failed(opinion)
    record = attempt(_describe, relaxed, potential, phases, formation_energy)
    if isinstance(record, Failure):
        return _failed(record)
    if second is not None:
        gap = attempt(_disagreement, relaxed, potential, opinion, second)
        if isinstance(gap, Failure):
            return _failed(gap)
        record["energy_disagreement"] = gap
    record["energy_above_hull_error"] = _error(
        structure_formula(relaxed.structure), record.get("energy_disagreement"), potential, phases, second
    )
    reasons = suspect_reasons(
        settings.suspect,
        structure=relaxed.structure,
        energy_above_hull=record["energy_above_hull"],
        volume_change=record["volume_change"],
        energy_disagreement=record.get("energy_disagreement"),
    )
    return {**record, "suspect": bool(reasons), "suspect_reason": "; ".join(reasons)}


def _failed(failure: Failure) -> dict[str, Any]:
    return {
        "stability_status": "failed",
        "stability_error": failure.error,
        "relaxation_converged": False,
        "suspect": False,
    }


def _describe(
    relaxed: RelaxedCrystal,
    potential: Potential,
    phases: PhaseReference,
    formation_energy: FormationEnergy,
) -> dict[str, Any]:
    structure = relaxed.structure
    formula = structure_formula(structure)
    formation = formation_energy(structure, relaxed.energy)
    return {
        **relaxation_columns(relaxed, potential),
        "volume": float(structure.volume),
        "volume_change": float(structure.volume) / relaxed.starting_volume - 1.0,
        "formation_energy_per_atom": formation,
        "energy_above_hull": float(phases.energy_above_hull([formula], [formation])[0]),
        "decomposition": phases_text(phases.decomposition(formula)),
    }


def _disagreement(relaxed: RelaxedCrystal, first: Potential, opinion: Any, second: Potential) -> float:
    """Absolute difference of the MP2020 formation energies, eV/atom; the elemental references cancel."""
    one = mp2020_total_energy(relaxed.structure, relaxed.energy, first)
    other = mp2020_total_energy(relaxed.structure, float(opinion.energy), second)
    return abs(other - one) / len(relaxed.structure)


def _error(
    formula: str, disagreement: float | None, potential: Potential, phases: PhaseReference, second: Potential | None
) -> float:
    errors = surrogate_errors(potential.sha256) if phases.scheme == "mp2020" else None
    if errors is None:
        return float("nan")
    return errors.of(formula, disagreement, None if second is None else second.sha256).half_width
