"""Competing phases of the DFT hull: which, in which crystal, and their energies from the same code and settings.

The reference says which phases are stable; the surrogate that relaxed the candidates chooses and relaxes their
crystals, so that candidates and phases start alike; DFT computes them once. Finished ones are kept in the user's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.core import Structure

from pipeline.atomic_files import write_json
from pipeline.crystal import row_from_structure
from pipeline.dft.calculation import (
    Calculation,
    DftResult,
    Pending,
    load_calculation,
    load_result,
)
from pipeline.dft.engine import calculate, calculation_of, code_of, dft_cache
from pipeline.dft.known_crystals import known_crystals
from pipeline.reference.formulas import composition_key, reduced_formula
from pipeline.stages.relaxing import for_reference, relax_crystals
from pipeline.stages.rows import Failure

if TYPE_CHECKING:
    from pipeline.dft.settings import DftSettings
    from pipeline.reference import PhaseReference
    from pipeline.references import References
    from pipeline.settings import StabilitySettings

FOLDER = "competing"
ON_THE_HULL = 1e-6
"""eV/atom."""

_REMEMBERED = ("OutOfTime", "NotConvergedError", "KohnShamConvergenceError", "MissingSetupError")
_FAILED = "failed.json"


@dataclass(frozen=True)
class ChosenPhases:
    """Formulas of competing phases: ``needed`` ones without which no distance is given, and the ``others``."""

    needed: tuple[str, ...]
    others: tuple[str, ...]


def chosen_phases(formula: str, phases: PhaseReference, settings: DftSettings) -> ChosenPhases:
    """Say which phases DFT has to compute for a candidate.

    Needed are its elements, for the formation energy, and the phases that the reference says it decomposes into. With
    ``competing_phases: system`` the others are those of its chemical system at most ``competing_within`` (eV/atom)
    above the reference's hull.
    """
    elements = [symbol for symbol, _ in composition_key(formula)]
    pure = [reduced_formula(((symbol, 1),)) for symbol in elements]
    needed = dict.fromkeys([*pure, *phases.decomposition(formula)])
    if settings.competing_phases == "decomposition":
        return ChosenPhases(tuple(needed), ())
    system = phases.system(elements)
    above = system.energies - system.hull_energies(system.fractions)
    near = [
        reduced_formula(key)
        for key, height in zip(system.keys, above, strict=True)
        if len(key) > 1 and height <= settings.competing_within + ON_THE_HULL
    ]
    return ChosenPhases(tuple(needed), tuple(f for f in dict.fromkeys(near) if f not in needed))


def competing_result(
    formula: str, settings: DftSettings, refs: References, workspace: Path
) -> DftResult | Failure | Pending:
    """Energy of one competing phase, from the cache where some campaign has computed it.

    Parameters
    ----------
    formula
        Of the phase.
    settings
        Of the stage.
    refs
        ``potential`` and the stability stage's settings relax its crystals; the lowest is computed.
    workspace
        The stage's; the calculation is done in ``competing/<formula>-<digest>`` there, under a lock, so that one worker
        computes it while the others wait.

    Returns
    -------
    DftResult, Failure or Pending
        A failure that would come again (out of time, not converged) is remembered until the time limit is raised.
    """
    crystals = known_crystals(formula, refs, settings.max_competing_sites, settings.max_polymorphs)
    if not crystals:
        return Failure(
            f"NoCrystal: no crystal of {formula} with at most {settings.max_competing_sites} atoms is known; raise "
            "dft.max_competing_sites"
        )
    stability = for_reference(next(stage for stage in refs.campaign.stages if stage.stage == "stability"))
    key = _key(formula, crystals, settings, stability, refs.potential.sha256)
    folder = workspace / FOLDER / f"{formula}-{key[:8]}"
    cached = dft_cache() / key[:32]
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        found = _finished(cached) or _finished(folder)
        if found is None:
            failed = _remembered_failure(folder, settings.time_limit)
            if failed is not None and settings.engine == "gpaw":
                return failed
            chosen = _chosen_calculation(folder)
            if chosen is None:
                lowest = _lowest_crystal(crystals, stability, refs.potential)
                if isinstance(lowest, Failure):
                    return lowest
                chosen = lowest[0], calculation_of(lowest[1], settings)
            outcome = calculate(chosen[1], settings, folder, phase=formula, crystal_id=chosen[0])
            if isinstance(outcome, Failure) and settings.engine == "gpaw":  # another's output may be mended
                _remember(folder, outcome, settings.time_limit)
            if not isinstance(outcome, DftResult):
                return outcome
            found = load_calculation(folder)[0], outcome
        calculation, result = found
        for place in (cached, folder):  # in the folder too: labels are collected there
            if _finished(place) is None:
                calculation.save(place, phase=formula)
                result.save(place, calculation)
        return result


def _key(
    formula: str,
    crystals: list[tuple[str, Structure]],
    settings: DftSettings,
    stability: StabilitySettings,
    sha256: str,
) -> str:
    """Digest of what a phase's energy depends on: starting crystals, how the surrogate relaxes them, DFT's settings."""
    starts = [[name, row_from_structure(structure)] for name, structure in crystals]
    surrogate = [sha256, _relaxing(stability)]
    asked = [
        formula,
        starts,
        surrogate,
        settings.calculation_settings(),
        settings.symmetry_tolerance,
        code_of(settings),
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _relaxing(stability: StabilitySettings) -> dict[str, Any]:
    names = ("fmax", "max_steps", "rattle", "seed", "relax_cell", "optimizer")
    return {name: getattr(stability, name) for name in names}


def _finished(folder: Path) -> tuple[Calculation, DftResult] | None:
    try:
        calculation, _ = load_calculation(folder)
    except (OSError, ValueError):
        return None
    result = load_result(folder, calculation)
    return None if result is None else (calculation, result)


def _chosen_calculation(folder: Path) -> tuple[str, Calculation] | None:
    """Name of the crystal that was chosen before, and its calculation as it was written."""
    try:
        calculation, written = load_calculation(folder)
        return str(written["crystal_id"]), calculation
    except (OSError, ValueError, KeyError):
        return None


def _lowest_crystal(
    crystals: list[tuple[str, Structure]], stability: StabilitySettings, potential: Any
) -> tuple[str, Structure] | Failure:
    """The crystal of lowest energy after the surrogate's relaxation."""
    names = [name for name, _ in crystals]
    relaxed = relax_crystals([structure for _, structure in crystals], names, stability, potential)
    good = [
        (item.energy / len(item.structure), name, item.structure)
        for name, item in zip(names, relaxed, strict=True)
        if not isinstance(item, Failure) and item.converged
    ]
    if not good:
        first = next((item.error for item in relaxed if isinstance(item, Failure)), "no relaxation converged")
        return Failure(f"{first} (relaxing {', '.join(names)} with {potential.name})")
    _, name, structure = min(good, key=lambda item: item[:2])
    return name, structure


def _remembered_failure(folder: Path, time_limit: float) -> Failure | None:
    try:
        written = json.loads((folder / _FAILED).read_text(encoding="utf-8"))
        return Failure(str(written["error"])) if float(written["time_limit"]) >= time_limit else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(folder: Path, failure: Failure, time_limit: float) -> None:
    if failure.error.startswith(_REMEMBERED):
        write_json(folder / _FAILED, {"error": failure.error, "time_limit": time_limit})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process dies."""
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
