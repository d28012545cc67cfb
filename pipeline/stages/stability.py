"""Stage ``stability``: relax with the surrogate, then the distance to the hull of competing phases.

A relaxation that runs out of steps keeps status ok with ``relaxation_converged`` false: its energy is an upper bound,
so it can only make a candidate look less stable than it is. With ``give_up_above`` the same holds of a relaxation that
is left early: it is above that bound, and would by all experience have stayed there.
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
    spare_correction,
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
STAGE_VERSION = 4

FormationEnergy = Callable[["Structure", float], float]


def run(part: pd.DataFrame, settings: StabilitySettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Relax every row and add its energies, its distance to the hull and whether it is to be believed.

    ``energy_disagreement`` is the absolute difference of the two surrogates' formation energies in the MP2020
    scheme, on the crystal that the first relaxed; NaN without a second opinion, which is not spent on crystals above
    ``give_up_above``. ``energy_above_hull_error`` is how far known phases like this are off; NaN for a surrogate that
    was never measured, and against a self-consistent reference, whose own errors cancel some of the candidate's.

    Parameters
    ----------
    part
        Candidates; rows without a crystal get their prototype's with the ions placed.
    settings
        How to relax, when to give up, and when a row is suspect.
    refs
        ``potential``, ``second_potential``, ``phases`` and, for rows without crystals, ``library``.
    workspace
        Not used.

    Raises
    ------
    ValueError
        When the potential's energies don't fit the reference's scheme, or relaxations are to be given up with a
        potential and an optimiser whose descents were never measured.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    potential, phases = refs.potential, refs.phases
    formation_energy = formation_energy_for(phases, potential)
    second = refs.second_potential
    if second is not None:
        _check_comparable(potential, second)
    starts = crystals(part, refs)
    ceilings = None
    if settings.give_up_above is not None:
        starts, ceilings = _ceilings(starts, settings.give_up_above, potential, phases, formation_energy)
    relaxed = relax_crystals(starts, part["candidate_id"].tolist(), settings, potential, ceilings)
    described = [
        item if isinstance(item, Failure) else attempt(_describe, item, potential, phases, formation_energy)
        for item in relaxed
    ]
    opinions = _second_opinion(_worth_asking(relaxed, described, settings.give_up_above), second)
    records = [
        _record(item, record, opinion, settings, potential, phases, second)
        for item, record, opinion in zip(relaxed, described, opinions, strict=True)
    ]
    return with_columns(part, NAME, records)


def _ceilings(
    starts: list[Structure | Failure],
    above_hull: float,
    potential: Potential,
    phases: PhaseReference,
    formation_energy: FormationEnergy,
) -> tuple[list[Structure | Failure], list[float]]:
    """Total energy (eV) of each crystal at ``above_hull`` eV/atom above the hull, and crystals without one as failures.

    A formation energy is the total energy over the atoms plus a term that the composition decides, save for those
    corrections that look at distances: the lowest of them counts, so that no crystal is given up that may still pass.
    """

    def ceiling(structure: Structure) -> float:
        without_energy = formation_energy(structure, 0.0) - spare_correction(structure, potential) / len(structure)
        return len(structure) * (phases.hull_energy(structure_formula(structure)) + above_hull - without_energy)

    found = [s if isinstance(s, Failure) else attempt(ceiling, s) for s in starts]
    checked: list[Structure | Failure] = [
        limit if isinstance(limit, Failure) else s for s, limit in zip(starts, found, strict=True)
    ]
    return checked, [float("inf") if isinstance(limit, Failure) else limit for limit in found]


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


def _worth_asking(
    relaxed: list[RelaxedCrystal | Failure], described: list[dict[str, Any] | Failure], above_hull: float | None
) -> list[Structure | None]:
    """Crystals that a second opinion is asked of: those that came out, and not above ``give_up_above``.

    That a disagreement makes a row suspect matters for rows that pass, and these can't.
    """
    return [
        None
        if isinstance(item, Failure)
        or isinstance(record, Failure)
        or (above_hull is not None and not record["energy_above_hull"] <= above_hull)
        else item.structure
        for item, record in zip(relaxed, described, strict=True)
    ]


def _second_opinion(structures: list[Structure | None], second: Potential | None) -> list[Any]:
    """What the second potential says of each crystal; None where it isn't asked."""
    opinions: list[Any] = [None] * len(structures)
    asked = [i for i, structure in enumerate(structures) if structure is not None]
    if second is None or not asked:
        return opinions
    answers: list[Any] = attempt_batch(second.evaluate, [structures[i] for i in asked])
    for i, answer in zip(asked, answers, strict=True):
        wrong = not isinstance(answer, Failure) and answer.error
        opinions[i] = Failure(f"{answer.error} (second opinion of {second.name})") if wrong else answer
    return opinions


def _record(
    relaxed: RelaxedCrystal | Failure,
    record: dict[str, Any] | Failure,
    opinion: Any,
    settings: StabilitySettings,
    potential: Potential,
    phases: PhaseReference,
    second: Potential | None,
) -> dict[str, Any] | Failure:
    for outcome in (relaxed, opinion, record):
        if isinstance(outcome, Failure):
            return _failed(outcome)
    assert not isinstance(relaxed, Failure)
    assert not isinstance(record, Failure)
    if second is not None and opinion is not None:
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
        "relaxation_given_up": False,
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
        "relaxation_given_up": relaxed.given_up,
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
