"""Stage ``dynamics``: diffusivity and conductivity of the mobile ions by molecular dynamics with the potential."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pipeline.diffusion.series import TemperatureSeries, temperature_series
from pipeline.diffusion.simulation import MobileCell, MobileRun, mobile_cell, run_cells
from pipeline.stages.rows import Failure, attempt, attempt_batch, crystals, with_columns

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.settings import DynamicsStageSettings
    from pipeline.surrogates.potential import Potential

NAME = "dynamics"
STAGE_VERSION = 5


class DynamicsRefs(Protocol):
    """What this stage reads of the campaign's references."""

    @property
    def mobile_ions(self) -> tuple[str, ...]:
        """Symbols of the mobile elements."""
        ...

    @property
    def potential(self) -> Potential:
        """What moves the atoms."""
        ...


def run(
    part: pd.DataFrame, settings: DynamicsStageSettings, refs: DynamicsRefs, workspace: Path | None
) -> pd.DataFrame:
    """Add diffusivities, what they rest on, and the conductivity at 300 K; all rows move together.

    Parameters
    ----------
    part
        Rows with relaxed crystals.
    settings
        Temperatures, times, supercell.
    refs
        Mobile ions and potential.
    workspace
        Keeps frames and checkpoints; a part that was under way when its process died goes on from there, as if
        undisturbed. None keeps nothing.
    """
    if not len(part):
        return with_columns(part, NAME, [])
    cells: list[MobileCell | Failure] = [
        item if isinstance(item, Failure) else attempt(mobile_cell, name, item, refs.mobile_ions, settings)
        for name, item in zip(part["candidate_id"].tolist(), crystals(part, refs), strict=True)
    ]

    def together(batch: list[MobileCell]) -> list[list[MobileRun] | Failure]:
        return run_cells(refs.potential, batch, settings, workspace)

    outcomes = attempt_batch(together, cells)
    records = [
        outcome if isinstance(outcome, Failure) else attempt(_columns, cell, outcome)
        for cell, outcome in zip(cells, outcomes, strict=True)
    ]
    return with_columns(part, NAME, records)


def _columns(cell: MobileCell, runs: list[MobileRun]) -> dict[str, Any]:
    series = temperature_series(cell, runs)
    return {
        "md_ions": ", ".join(cell.ions),
        "md_atoms": len(cell.structure),
        **_hottest_columns(series),
        **_fit_columns(series),
        "md_series": str(series),
        "md_framework_state": series.framework,
        "md_energy_drift": max((run.dynamics.energy_drift for run in runs), key=abs),
        "md_is_reliable": series.is_reliable,
        "md_notes": "; ".join(series.notes),
    }


def _hottest_columns(series: TemperatureSeries) -> dict[str, Any]:
    """Columns of the highest temperature at which the framework does not diffuse."""
    run = series.hottest
    if run is None:
        return {}
    tracer, haven = run.analysis.tracer, run.analysis.haven_ratio
    return {
        "diffusivity_md": None if tracer.is_upper_bound else tracer.value,
        "diffusivity_md_low": tracer.interval[0],
        "diffusivity_md_high": tracer.interval[1],
        "md_temperature": run.analysis.temperature,
        "md_temperature_mean": run.dynamics.temperature,
        "md_n_hops": run.analysis.n_hops,
        "md_is_upper_bound": tracer.is_upper_bound,
        "haven_ratio_md": haven.value,
        "haven_ratio_md_low": haven.interval[0],
        "haven_ratio_md_high": haven.interval[1],
        "md_volume_change": run.volume_change,
    }


def _fit_columns(series: TemperatureSeries) -> dict[str, Any]:
    """Columns of the Arrhenius fits, where there are any."""
    fit, conductivity = series.arrhenius, series.conductivity_at(300.0)
    columns: dict[str, Any] = {}
    if fit is not None:
        columns |= {
            "md_activation_energy": fit.activation_energy,
            "md_activation_energy_low": fit.activation_energy_interval[0],
            "md_activation_energy_high": fit.activation_energy_interval[1],
        }
    if conductivity is not None:
        columns |= {
            "conductivity_md_300K": conductivity.value,
            "conductivity_md_300K_low": conductivity.interval[0],
            "conductivity_md_300K_high": conductivity.interval[1],
        }
    return columns
