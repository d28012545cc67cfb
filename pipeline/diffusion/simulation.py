"""Molecular dynamics of ions in crystals: supercell, equilibration, production, analysis.

Crystals move together, each at all temperatures, through :func:`pipeline.surrogates.dynamics.run_dynamics`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipeline.diffusion.hops import nearest_distance
from pipeline.diffusion.trajectory import TrajectoryAnalysis, analyse_trajectory
from pipeline.oxidation_states import charged_species
from pipeline.site_energies import NoMobileIonError
from pipeline.stages.rows import Failure, attempt
from pipeline.surrogates.dynamics import DynamicsResult, run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from pipeline.surrogates.moving import atomic_masses
from pipeline.surrogates.potential import structure_key
from pipeline.surrogates.supercells import supercell_for_image_distance

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from pipeline.diffusion.settings import DynamicsStageSettings
    from pipeline.surrogates.potential import Potential

_CHECKPOINT_TIME: Final = 1000.0  # fs

# Shorter than where dynamics is looked at: what an equilibration should reach is the ensemble, soon.
_FRICTION_TIME: Final = 100.0  # fs
_BAROSTAT_TIME: Final = 250.0  # fs

_LONGEST_HYDROGEN_STEP: Final = 1.0  # fs, a tenth of the period of an O-H stretching vibration


@dataclass(frozen=True)
class MobileCell:
    """A supercell whose ions are to be followed.

    Attributes
    ----------
    key : str
        Name of the crystal; random numbers depend on it.
    structure : Structure
        The supercell at rest.
    mobile : (M,) int64
        Indices of the mobile ions.
    charges : (M,) float64
        Their charges, e.
    site_distance : float
        Shortest distance between their sites, Å.
    """

    key: str
    structure: Structure
    mobile: NDArray[np.int64]
    charges: NDArray[np.float64]
    site_distance: float

    @property
    def ions(self) -> tuple[str, ...]:
        """Symbols of the mobile elements."""
        return tuple(sorted({self.structure[int(i)].specie.symbol for i in self.mobile}))


@dataclass(frozen=True)
class MobileRun:
    """One crystal at one temperature.

    Attributes
    ----------
    dynamics : DynamicsResult
        The production.
    analysis : TrajectoryAnalysis
        What its trajectory says.
    volume_change : float
        Its volume over the relaxed crystal's, less 1.
    """

    dynamics: DynamicsResult
    analysis: TrajectoryAnalysis
    volume_change: float


def mobile_cell(
    key: str, structure: Structure, mobile_ions: Sequence[str], settings: DynamicsStageSettings
) -> MobileCell:
    """Supercell of a crystal, with the charges of its mobile ions (its own oxidation states, or guessed ones).

    Parameters
    ----------
    key
        Name of the crystal.
    structure
        Ordered and relaxed.
    mobile_ions
        Symbols; ions of all of them that the crystal holds are mobile.
    settings
        Least distance of images, bound on atoms, time step.

    Raises
    ------
    NoMobileIonError, OxidationStateError
        The crystal has no such ion, or no oxidation states can be guessed.
    ValueError
        Nothing but mobile ions; hydrogen with a long time step; no supercell of so few atoms.
    """
    present = [ion for ion in mobile_ions if ion in structure.symbol_set]
    if not present:
        raise NoMobileIonError(f"{structure.formula} holds none of the mobile ions {', '.join(mobile_ions)}")
    if len(present) == len(structure.symbol_set):
        raise ValueError(f"{structure.formula} has no framework: all its atoms are mobile ions")
    if "H" in structure.symbol_set and settings.timestep > _LONGEST_HYDROGEN_STEP:
        raise ValueError(
            f"{structure.formula} holds hydrogen, for which a time step of {settings.timestep:g} fs is too long; set "
            "timestep to 0.5"
        )
    charged = structure.copy()
    charged.add_oxidation_state_by_site([site[0][1] for site in charged_species(structure)])
    cell = supercell_for_image_distance(charged, settings.image_distance, settings.max_atoms)
    mobile = np.array([i for i, site in enumerate(cell) if site.specie.symbol in present], np.int64)
    return MobileCell(
        key,
        cell,
        mobile,
        np.array([cell[int(i)].specie.oxi_state for i in mobile], np.float64),
        nearest_distance(cell.lattice.matrix, cell.frac_coords[mobile]),
    )


def run_cells(
    potential: Potential, cells: Sequence[MobileCell], settings: DynamicsStageSettings, folder: Path | None = None
) -> list[list[MobileRun] | Failure]:
    """Run crystals together, each at all temperatures, and analyse what their ions did.

    Equilibration draws velocities from the Maxwell-Boltzmann distribution; the production goes on from its last
    positions and velocities, at the mean volume of its second half where the volume was free. What random numbers a
    crystal gets hangs on seed, key and temperature alone.

    Parameters
    ----------
    potential
        Moves the atoms.
    cells
        Supercells of different keys.
    settings
        How hot, how and how long.
    folder
        Keeps frames and checkpoints, in a folder of its own for each set of crystals, from which a killed run goes on.

    Returns
    -------
    list
        For each crystal its runs in the order of temperatures; or the failure of one of them, which puts the potential
        in doubt for this crystal at every temperature.
    """
    if not cells:
        return []
    place = None if folder is None else folder / _name(potential, cells, settings)
    starts = [
        _Start(cell, f"{cell.key} at {t:g} K", t, cell.structure) for cell in cells for t in settings.temperatures
    ]
    equilibrated = _moved(potential, starts, settings, "equilibration", place)
    failures = _failures(starts, equilibrated)
    going_on = [
        _Start(start.cell, start.key, start.temperature, _equilibrated(result, settings), result.velocities)
        for start, result in zip(starts, equilibrated, strict=True)
        if start.cell.key not in failures
    ]
    produced = _moved(potential, going_on, settings, "production", place)
    failures |= _failures(going_on, produced)
    outcomes: list[list[MobileRun] | Failure] = []
    for cell in cells:
        own = [result for start, result in zip(going_on, produced, strict=True) if start.cell is cell]
        outcomes.append(failures[cell.key] if cell.key in failures else attempt(_analysed, cell, own, settings))
    return outcomes


@dataclass(frozen=True)
class _Start:
    """A crystal that is to move at a temperature, K; velocities (n, 3) in Å/fs, or None to draw them."""

    cell: MobileCell
    key: str
    temperature: float
    structure: Structure
    velocities: NDArray[np.float64] | None = None


def _moved(
    potential: Potential, starts: list[_Start], settings: DynamicsStageSettings, phase: str, place: Path | None
) -> list[DynamicsResult]:
    return run_dynamics(
        potential,
        [start.structure for start in starts],
        [start.temperature for start in starts],
        _phase_settings(settings, phase),
        keys=[f"{start.key}, {phase}" for start in starts],
        velocities=[start.velocities for start in starts],
        folder=None if place is None else place / phase,
    )


def _phase_settings(settings: DynamicsStageSettings, phase: str) -> DynamicsSettings:
    common: dict[str, Any] = {
        "timestep": settings.timestep,
        "record_every": settings.sampling_steps,
        "checkpoint_every": round(_CHECKPOINT_TIME / settings.timestep),
        "seed": settings.seed,
    }
    if phase == "production":
        steps = settings.steps(settings.production_time)
        return DynamicsSettings(ensemble=settings.thermostat, n_steps=steps, **common)
    return DynamicsSettings(
        ensemble="npt" if settings.equilibration == "npt" else "langevin",
        n_steps=settings.steps(settings.equilibration_time),
        friction_time=_FRICTION_TIME,
        barostat_time=_BAROSTAT_TIME,
        **common,
    )


def _failures(starts: list[_Start], results: list[DynamicsResult]) -> dict[str, Failure]:
    """The first failure of each crystal that has one, by its key."""
    found: dict[str, Failure] = {}
    for start, result in zip(starts, results, strict=True):
        if result.error is not None:
            found.setdefault(start.cell.key, Failure(f"{result.error} ({result.key})"))
    return found


def _equilibrated(result: DynamicsResult, settings: DynamicsStageSettings) -> Structure:
    """The last crystal, scaled to the mean volume of the run's second half where the volume was free."""
    if settings.equilibration == "nvt":
        return result.structure
    volumes = result.trajectory.volumes
    scaled: Structure = result.structure.copy()
    scaled.scale_lattice(float(volumes[len(volumes) // 2 :].mean()))
    return scaled


def _analysed(cell: MobileCell, results: list[DynamicsResult], settings: DynamicsStageSettings) -> list[MobileRun]:
    return [
        _run(cell, result, temperature, settings)
        for temperature, result in zip(settings.temperatures, results, strict=True)
    ]


def _run(cell: MobileCell, result: DynamicsResult, temperature: float, settings: DynamicsStageSettings) -> MobileRun:
    trajectory = result.trajectory
    volume = float(trajectory.volumes[0])
    at_rest = cell.structure.frac_coords @ trajectory.cells[0]
    analysis = analyse_trajectory(
        trajectory.positions,
        settings.sampling_interval,
        cell.mobile,
        cell.charges,
        volume,
        temperature,
        cell.site_distance,
        masses=atomic_masses(trajectory.numbers),
        at_rest=at_rest,
    )
    change = volume / cell.structure.volume - 1.0 if settings.equilibration == "npt" else 0.0
    return MobileRun(result, analysis, change)


def _name(potential: Potential, cells: Sequence[MobileCell], settings: DynamicsStageSettings) -> str:
    """Folder of a set of crystals: other crystals, settings or models have another."""
    how = {key: value for key, value in settings.result_settings().items() if key != "production_time"}
    facts = [[(cell.key, structure_key(cell.structure)) for cell in cells], how, potential.sha256]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
