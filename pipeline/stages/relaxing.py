"""Relaxing rows with the surrogate: shared by stability and the competing phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline.crystal import row_from_structure
from pipeline.stages.rows import Failure, attempt_batch

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from pipeline.settings import RelaxingStageSettings
    from pipeline.surrogates.potential import Potential


@dataclass(frozen=True)
class RelaxedCrystal:
    """A relaxed crystal with its start's oxidation states."""

    structure: Structure
    energy: float
    starting_volume: float
    n_steps: int
    converged: bool
    max_force: float
    given_up: bool = False


S = TypeVar("S", bound="RelaxingStageSettings")


def for_reference(settings: S) -> S:
    """How the competing phases of candidates are relaxed: as these, and cell included.

    Candidates may be crystals that were relaxed elsewhere, to be taken as they are; their competitors start from cells
    that are guessed from radii and molar volumes.
    """
    fields = type(settings).model_fields
    wanted = {"relax_cell": True, "max_steps": settings.max_steps or fields["max_steps"].default}
    return settings.model_copy(update=wanted)


def relax_crystals(
    starts: list[Structure | Failure],
    keys: list[str],
    settings: RelaxingStageSettings,
    potential: Potential,
    ceilings: list[float] | None = None,
) -> list[RelaxedCrystal | Failure]:
    """Relax n crystals with a potential; each failure stays with its own crystal, and failures pass through.

    ``keys`` (n candidate ids) seed the rattle, so that a crystal starts alike in every campaign and on every machine.
    ``ceilings`` (n, eV) are the total energies above which a crystal may be given up.
    """

    def relax(batch: list[tuple[Structure, str, float]]) -> Any:
        return potential.relax(
            [structure for structure, _, _ in batch],
            fmax=settings.fmax,
            max_steps=settings.max_steps,
            relax_cell=settings.relax_cell,
            optimizer=settings.optimizer,
            rattle=settings.rattle if settings.max_steps else 0.0,  # a crystal that is not relaxed stays where it is
            seed=settings.seed,
            keys=[key for _, key, _ in batch],
            ceilings=None if ceilings is None else [ceiling for _, _, ceiling in batch],
        )

    limits = [float("inf")] * len(starts) if ceilings is None else ceilings
    keyed = [
        s if isinstance(s, Failure) else (s, key, limit) for s, key, limit in zip(starts, keys, limits, strict=True)
    ]
    return [_relaxed(start, result) for start, result in zip(starts, attempt_batch(relax, keyed), strict=True)]


def _relaxed(start: Structure | Failure, result: Any) -> RelaxedCrystal | Failure:
    if isinstance(start, Failure):
        return start
    if isinstance(result, Failure):
        return result
    if result.error:
        return Failure(str(result.error))
    structure = result.structure.copy()
    if not np.isfinite(result.energy):
        return Failure(f"ValueError: the relaxed energy is {result.energy}")
    states = [getattr(site.specie, "oxi_state", None) for site in start]
    if all(state is not None for state in states):
        structure.add_oxidation_state_by_site(states)
    return RelaxedCrystal(
        structure,
        float(result.energy),
        float(start.volume),
        int(result.n_steps),
        bool(result.converged),
        float(result.max_force),
        bool(result.given_up),
    )


def relaxation_columns(relaxed: RelaxedCrystal, potential: Potential) -> dict[str, Any]:
    """Columns that any relaxation fills, for one row."""
    return {
        **row_from_structure(relaxed.structure),
        "energy_per_atom": relaxed.energy / len(relaxed.structure),
        "relaxation_steps": relaxed.n_steps,
        "relaxation_converged": relaxed.converged,
        "max_force": relaxed.max_force,
        "surrogate": potential.name,
        "surrogate_sha256": potential.sha256,
    }
