"""Molecular dynamics of many crystals at once, with any potential: what a user calls, and what comes back."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.surrogates.batch import FloatArray, batch_from_structures, rejection
from pipeline.surrogates.batched_dynamics import BatchedDynamics
from pipeline.surrogates.checkpoint import End
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from pipeline.surrogates.potential import Potential, structure_key
from pipeline.surrogates.time_series import mean_with_error, slope
from pipeline.surrogates.trajectory import Trajectory, no_frames
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

if TYPE_CHECKING:
    from pymatgen.core import Structure

_MEV_PER_PS = 1e6  # in one eV/fs


@dataclass(frozen=True)
class DynamicsResult:
    """Outcome of the dynamics of one crystal.

    Averages are over the frames after ``n_equilibration`` steps; their standard errors count correlations
    (:mod:`pipeline.surrogates.time_series`).

    Attributes
    ----------
    key : str
        The crystal's key.
    structure : Structure
        At the last step, with unwrapped coordinates; the given one if it failed at once or is not finite.
    velocities : (n, 3) float64
        At the last step, Å/fs.
    trajectory : Trajectory
        All frames; those before the error if it failed.
    n_steps : int
        Steps done.
    finished : bool
        Whether all steps were done.
    error : str or None
        ``"<type>: <message>"`` if the crystal failed.
    temperature, temperature_error : float
        Mean and standard error, K.
    pressure, pressure_error : float
        Mean and standard error, GPa.
    volume, volume_error : float
        Mean and standard error, Å3.
    energy_drift : float
        Slope of the conserved quantity, meV/atom/ps.
    """

    key: str
    structure: "Structure"
    velocities: FloatArray
    trajectory: Trajectory
    n_steps: int
    finished: bool
    error: str | None
    temperature: float
    temperature_error: float
    pressure: float
    pressure_error: float
    volume: float
    volume_error: float
    energy_drift: float


def run_dynamics(
    potential: Potential,
    structures: Sequence["Structure"],
    temperatures: float | Sequence[float],
    settings: DynamicsSettings | None = None,
    *,
    keys: Sequence[str] | None = None,
    velocities: Sequence[FloatArray | None] | None = None,
    folder: Path | None = None,
    max_seconds: float = np.inf,
) -> list[DynamicsResult]:
    """Run molecular dynamics of crystals, many at once.

    Parameters
    ----------
    potential : Potential
        Gives energies, forces and stresses.
    structures : sequence of Structure
        Ordered periodic structures of two atoms or more.
    temperatures : float or sequence of float
        Of the thermostat and of the first velocities, K: one for all, or one a structure.
    settings : DynamicsSettings, optional
        How to move; default: ``DynamicsSettings()``.
    keys : sequence of str, optional
        One a structure, all different; first velocities and noise depend on (seed, key), not on order or companions.
        Default: a digest of the structure with its temperature.
    velocities : sequence of (n, 3) float64 or None, optional
        First velocities, Å/fs, one array a structure; None (for all or for one) draws them from the Maxwell-Boltzmann
        distribution. The momentum of the centre of mass is taken out.
    folder : Path, optional
        Keeps frames and checkpoints. A folder of the same dynamics is gone on with from its last checkpoint (to the
        last bit as if it had not been interrupted, where the model gives the same bits); ``n_steps`` may have grown.
    max_seconds : float
        Stop at the step that ends after so many seconds; with a folder the next call goes on from there.

    Returns
    -------
    list of DynamicsResult
        One a structure, in the order given; a structure that fails does so alone, with its ``error``.

    Raises
    ------
    ValueError
        Arguments that do not belong together or are out of bounds, all named; a folder of other dynamics.
    """
    settings = settings if settings is not None else DynamicsSettings()
    kelvin = np.array(temperatures, np.float64) if np.ndim(temperatures) else np.full(len(structures), temperatures)
    given = [None] * len(structures) if velocities is None else list(velocities)
    _refuse_other_numbers(
        len(structures), temperatures=kelvin, velocities=given, keys=structures if keys is None else keys
    )
    errors = [_unfit(s, potential) for s in structures]
    digests = [
        structure_key(s) if error is None else f"structure {i}: {error}"
        for i, (s, error) in enumerate(zip(structures, errors, strict=True))
    ]
    if keys is None:
        keys = [f"{digest} at {t} K" for digest, t in zip(digests, kelvin.tolist(), strict=True)]
    _refuse(structures, kelvin, keys, given)
    good = [i for i, error in enumerate(errors) if error is None]
    found: dict[int, tuple[End, Trajectory]] = {}
    if good:
        dynamics = BatchedDynamics(
            potential.guarded,
            settings,
            batch_from_structures([structures[i] for i in good]),
            [keys[i] for i in good],
            kelvin[good],
            [given[i] for i in good],
            folder,
            _identity(potential, digests, kelvin, settings, keys, given),
        )
        ends = dynamics.run(max_seconds)
        found = dict(zip(good, zip(ends, dynamics.trajectories(), strict=True), strict=True))
    return [
        _result(key, structure, settings, *found[i]) if i in found else _failed(key, structure, errors[i])
        for i, (key, structure) in enumerate(zip(keys, structures, strict=True))
    ]


def _refuse_other_numbers(count: int, **arguments: Sequence[Any] | FloatArray) -> None:
    wrong = [f"{len(values)} {name}" for name, values in arguments.items() if len(values) != count]
    if wrong:
        raise ValueError(f"{' and '.join(wrong)} for {count} structures")


def _refuse(
    structures: Sequence["Structure"], kelvin: FloatArray, keys: Sequence[str], velocities: Sequence[FloatArray | None]
) -> None:
    """Raise ValueError with all that is wrong with the arguments."""
    wrong = [f"temperature must be a positive number in K, got {t}" for t in kelvin if not 0.0 < t < np.inf]
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        wrong.append(f"keys must differ, or runs would be copies; more than once: {', '.join(map(repr, twice))}")
    for i, (structure, array) in enumerate(zip(structures, velocities, strict=True)):
        if array is not None and (np.shape(array) != (len(structure), 3) or not np.isfinite(array).all()):
            wrong.append(f"velocities of structure {i} must be ({len(structure)}, 3) finite numbers in Å/fs")
    if wrong:
        raise ValueError("; ".join(wrong))


def _unfit(structure: "Structure", potential: Potential) -> str | None:
    """Why a structure cannot move, or None if it can."""
    guarded = potential.guarded
    error = rejection(structure, potential.elements, guarded.cutoff, guarded.max_edges)
    if error is None and len(structure) < 2:
        error = (
            f"TooFewAtoms: one atom of {structure.formula} has no motion relative to its images; build a supercell "
            "(supercell_for_image_distance)"
        )
    return error


def _identity(
    potential: Potential,
    structures: Sequence[str],
    kelvin: FloatArray,
    settings: DynamicsSettings,
    keys: Sequence[str],
    velocities: Sequence[FloatArray | None],
) -> dict[str, Any]:
    digests = [
        None if v is None else hashlib.sha256(np.asarray(v, np.float64).tobytes()).hexdigest() for v in velocities
    ]
    return {
        **settings.identity(),
        "model": [potential.name, potential.sha256],
        "keys": list(keys),
        "temperatures": kelvin.tolist(),
        "structures": list(structures),
        "velocities": digests,
    }


def _result(
    key: str, structure: "Structure", settings: DynamicsSettings, end: End, trajectory: Trajectory
) -> DynamicsResult:
    counted = trajectory.steps >= settings.n_equilibration
    temperature, temperature_error = mean_with_error(trajectory.temperatures[counted])
    pressure, pressure_error = mean_with_error(trajectory.pressures[counted] * GPA_PER_EV_PER_ANGSTROM3)
    volume, volume_error = mean_with_error(trajectory.volumes[counted])
    drift = slope(trajectory.times[counted], trajectory.conserved[counted]) * _MEV_PER_PS / len(structure)
    return DynamicsResult(
        key=key,
        structure=_moved(structure, end),
        velocities=end.velocities,
        trajectory=trajectory,
        n_steps=end.n_steps,
        finished=end.error is None and end.n_steps == settings.n_steps,
        error=end.error,
        temperature=temperature,
        temperature_error=temperature_error,
        pressure=pressure,
        pressure_error=pressure_error,
        volume=volume,
        volume_error=volume_error,
        energy_drift=drift,
    )


def _moved(structure: "Structure", end: End) -> "Structure":
    from pymatgen.core import Lattice, Structure

    if not (np.isfinite(end.positions).all() and np.isfinite(end.cell).all()):
        return structure
    return Structure(
        Lattice(end.cell),
        structure.species,
        end.positions,
        coords_are_cartesian=True,
        site_properties=structure.site_properties,
        labels=structure.labels,
    )


def _failed(key: str, structure: "Structure", error: str | None) -> DynamicsResult:
    trajectory = no_frames(np.array([max(site.species).Z for site in structure], np.int64))
    nan, still = float("nan"), np.full((len(structure), 3), np.nan)
    return DynamicsResult(key, structure, still, trajectory, 0, False, error, nan, nan, nan, nan, nan, nan, nan)
