"""How to run molecular dynamics."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pipeline.surrogates.integrators import (
    Integrator,
    LangevinBAOAB,
    NoseHooverChains,
    StochasticCellRescaling,
    VelocityVerlet,
)
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3

Ensemble = Literal["nve", "langevin", "nose-hoover", "npt"]


@dataclass(frozen=True)
class DynamicsSettings:
    """How to run molecular dynamics.

    Attributes
    ----------
    ensemble : str
        ``nve`` (velocity Verlet), ``langevin`` (NVT, BAOAB), ``nose-hoover`` (NVT, chains) or ``npt`` (isotropic
        stochastic cell rescaling with BAOAB): see :mod:`pipeline.surrogates.integrators`.
    n_steps : int
        Time steps.
    timestep : float
        fs. With 2 fs M3GNet conserves energy for compounds of lithium and heavier elements; take 0.5 with hydrogen.
    friction_time : float
        Inverse friction of ``langevin`` and ``npt``, fs. Friction slows diffusion where this is not long beside the
        periods of vibration (100 fs).
    thermostat_time : float
        Period that sets the masses of ``nose-hoover``, fs.
    chain_length : int
        Thermostats in a chain.
    pressure : float
        Of ``npt``, GPa.
    barostat_time : float
        Of ``npt``, fs.
    compressibility : float
        Of ``npt``, 1/GPa; it sets the barostat's pace only. Default: that of a crystal of 50 GPa.
    record_every : int
        Steps between frames of the trajectory; the start is a frame.
    checkpoint_every : int
        Steps between checkpoints, where there is a folder.
    n_equilibration : int
        Steps at the start that averages and the drift leave out.
    seed : int
        Seed of velocities and noise, beside each crystal's key.
    min_distance : float
        Two atoms nearer than this are a failure, Å.
    max_volume_ratio : float
        A volume that grows or shrinks beyond this factor is a failure.
    max_temperature : float
        A crystal hotter than this has exploded, K.

    Raises
    ------
    ValueError
        Settings out of their bounds, all of them in one message.
    """

    ensemble: Ensemble = "langevin"
    n_steps: int = 1000
    timestep: float = 2.0
    friction_time: float = 500.0
    thermostat_time: float = 100.0
    chain_length: int = 3
    pressure: float = 0.0
    barostat_time: float = 1000.0
    compressibility: float = 0.02
    record_every: int = 10
    checkpoint_every: int = 1000
    n_equilibration: int = 0
    seed: int = 0
    min_distance: float = 0.3
    max_volume_ratio: float = 3.0
    max_temperature: float = 20_000.0

    def __post_init__(self) -> None:
        wrong = [*self._wrong_numbers(), *self._wrong_counts()]
        if self.ensemble not in get_args(Ensemble):
            names = " or ".join(map(repr, get_args(Ensemble)))
            wrong.append(f"ensemble {self.ensemble!r} is unknown; write {names}")
        if wrong:
            raise ValueError("; ".join(wrong))

    def _wrong_numbers(self) -> list[str]:
        units = {
            "timestep": "fs",
            "friction_time": "fs",
            "thermostat_time": "fs",
            "barostat_time": "fs",
            "compressibility": "1/GPa",
            "min_distance": "Å",
            "max_temperature": "K",
        }
        wrong = [
            f"{name} must be a positive number in {unit}, got {getattr(self, name)}"
            for name, unit in units.items()
            if not 0.0 < getattr(self, name) < math.inf
        ]
        if not math.isfinite(self.pressure):
            wrong.append(f"pressure must be a number in GPa, got {self.pressure}")
        if not self.max_volume_ratio > 1.0:
            wrong.append(f"max_volume_ratio must be above 1, got {self.max_volume_ratio}")
        times = ("friction_time", "thermostat_time", "barostat_time")
        wrong += [
            f"{name} must be at least five time steps of {self.timestep} fs, got {getattr(self, name)}"
            for name in times
            if 0.0 < getattr(self, name) < 5.0 * self.timestep
        ]
        return wrong

    def _wrong_counts(self) -> list[str]:
        least = {
            "n_steps": 0,
            "chain_length": 1,
            "record_every": 1,
            "checkpoint_every": 1,
            "n_equilibration": 0,
            "seed": 0,
        }
        return [
            f"{name} must be a whole number, {bound} or more, got {getattr(self, name)}"
            for name, bound in least.items()
            if not isinstance(getattr(self, name), int) or getattr(self, name) < bound
        ]

    def integrator(self) -> Integrator:
        """What moves the crystals."""
        if self.ensemble == "nve":
            return VelocityVerlet(self.timestep)
        if self.ensemble == "langevin":
            return LangevinBAOAB(self.timestep, self.friction_time)
        if self.ensemble == "nose-hoover":
            return NoseHooverChains(self.timestep, self.thermostat_time)
        return StochasticCellRescaling(
            self.timestep,
            self.friction_time,
            self.barostat_time,
            self.pressure / GPA_PER_EV_PER_ANGSTROM3,
            self.compressibility * GPA_PER_EV_PER_ANGSTROM3,
        )

    def identity(self) -> dict[str, Any]:
        """What a trajectory depends on: all but its length, and what is only done with its frames."""
        left_out = ("n_steps", "checkpoint_every", "n_equilibration")
        return {name: value for name, value in asdict(self).items() if name not in left_out}
