"""Stage ``dft``: energy, band gap and distance to the hull by density functional theory, all phases with one code.

With ``engine: gpaw`` it computes; with ``vasp`` and ``espresso`` a row is pending until the user's program has finished
in its folder of the workspace, and becomes ok or failed when the stage is run on it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.dft.calculation import DftResult, Pending
from pipeline.dft.competing import chosen_phases, competing_result
from pipeline.dft.engine import compute, dft_cache
from pipeline.dft.hull import hull_place, unlike_pseudopotentials
from pipeline.reference.formulas import structure_formula
from pipeline.stages.rows import Failure, attempt, crystals, phases_text, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from pymatgen.core import Structure

    from pipeline.references import References
    from pipeline.settings import DftSettings

NAME = "dft"
STAGE_VERSION = 2


def run(part: pd.DataFrame, settings: DftSettings, refs: References, workspace: Path) -> pd.DataFrame:
    """Add DFT's energies, gap and largest force.

    Parameters
    ----------
    part
        Rows with relaxed crystals.
    settings
        Engine, precision and competing phases.
    refs
        ``phases`` says which phases compete, ``potential`` relaxes their crystals, ``observed_path`` has them.
    workspace
        Gets a folder for each candidate, and ``competing`` with one for each phase. What has finished there is read,
        not computed again.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    records = [
        item if isinstance(item, Failure) else attempt(_record, item, name, settings, refs, workspace)
        for name, item in zip(part["candidate_id"].tolist(), crystals(part, refs), strict=True)
    ]
    return with_columns(part, NAME, records)


def _record(
    structure: Structure, candidate_id: str, settings: DftSettings, refs: References, workspace: Path
) -> dict[str, Any] | Failure:
    formula = structure_formula(structure)
    own = compute(structure, settings, workspace / candidate_id, candidate_id=candidate_id, formula=formula)
    if isinstance(own, Failure):
        return own
    # Also while the candidate waits: the inputs of all phases are then there at once.
    chosen = chosen_phases(formula, refs.phases, settings)
    found = {
        name: attempt(competing_result, name, settings, refs, workspace) for name in (*chosen.needed, *chosen.others)
    }
    values = {} if isinstance(own, Pending) else _own_columns(structure, own)
    for name in chosen.needed:
        if isinstance(outcome := found[name], Failure):
            return Failure(f"{outcome.error} (competing phase {name})")
    waiting = [item.reason for item in (own, *found.values()) if isinstance(item, Pending)]
    if waiting or isinstance(own, Pending):
        return {**values, "dft_status": "pending", "dft_error": f"Pending: {waiting[0]}{_more(len(waiting) - 1)}"}
    finished = {name: item for name, item in found.items() if isinstance(item, DftResult)}
    if unlike := unlike_pseudopotentials({candidate_id: own, **finished}):
        return Failure(
            f"MismatchError: pseudopotentials differ: {unlike}; compute one of them anew, and clear {dft_cache()}"
        )
    place = hull_place(structure, own, finished, mp2020=settings.engine == "vasp")
    return {
        **values,
        "dft_formation_energy_per_atom": place.formation_energy,
        "dft_energy_above_hull": place.energy_above_hull,
        "dft_decomposition": phases_text(place.decomposition),
        "dft_missing_phases": "; ".join(
            f"{name} ({item.error.partition(':')[0]})" for name, item in found.items() if isinstance(item, Failure)
        ),
    }


def _own_columns(structure: Structure, result: DftResult) -> dict[str, Any]:
    return {
        "dft_energy_per_atom": result.energy_per_atom,
        "dft_band_gap": result.band_gap,
        "dft_max_force": result.max_force,
        "dft_relaxation_steps": result.steps,
        "dft_volume_change": _atomic_volume(result.structure) / _atomic_volume(structure) - 1.0,
        "dft_code": result.code,
        "dft_functional": result.functional,
    }


def _atomic_volume(structure: Structure) -> float:
    return float(structure.volume) / len(structure)


def _more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""
