"""Settings of stage ``dynamics``: temperatures, lengths, thermostat and supercell."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.stage_settings import StageSettings


class DynamicsStageSettings(StageSettings):
    """Diffusion of the mobile ions by molecular dynamics with the campaign's potential, at several temperatures."""

    stage: Literal["dynamics"] = "dynamics"
    temperatures: tuple[Annotated[float, Field(ge=50.0, le=3000.0)], ...] = Field(
        (600.0, 800.0, 1000.0),
        min_length=1,
        max_length=20,
        description="K, rising; a conductivity at 300 K needs two with hops, a reliable one three",
    )
    timestep: float = Field(2.0, ge=0.1, le=5.0, description="fs; 0.5 with hydrogen")
    equilibration: Literal["npt", "nvt"] = Field(
        "nvt",
        description="nvt: the relaxed crystal's volume, as ab initio dynamics mostly has; npt: each temperature's at "
        "no pressure, then kept, which potentials too soft make too large",
    )
    equilibration_time: float = Field(4.0, ge=0.1, le=1000.0, description="ps before what is analysed")
    production_time: float = Field(40.0, ge=1.0, le=100_000.0, description="ps that are analysed, at constant volume")
    thermostat: Literal["nose-hoover", "langevin"] = Field(
        "nose-hoover", description="of the production: chains, or friction of 500 fs, which slows diffusion a little"
    )
    image_distance: float = Field(8.0, ge=2.0, le=50.0, description="least distance of an atom from its images, Å")
    max_atoms: int = Field(
        200, ge=2, le=10_000, description="of a supercell; a row that needs more for image_distance fails"
    )
    sampling_interval: float = Field(
        20.0, ge=1.0, le=50.0, description="fs between analysed frames; a whole number of time steps"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of velocities and noise, beside candidate_id and temperature")
    chunk_size: int = Field(
        1, ge=1, le=100_000, description="candidates a work unit holds; it runs all of them together, which a GPU needs"
    )
    required: bool = False

    @property
    def sampling_steps(self) -> int:
        """Time steps between frames."""
        return round(self.sampling_interval / self.timestep)

    def steps(self, picoseconds: float) -> int:
        """Time steps of a length in ps, a whole number of frames."""
        return self.sampling_steps * max(1, round(1e3 * picoseconds / self.sampling_interval))

    @property
    def total_steps(self) -> int:
        """Time steps of one crystal at all temperatures."""
        phases = self.steps(self.equilibration_time) + self.steps(self.production_time)
        return len(self.temperatures) * phases

    @field_validator("temperatures")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(value)):
            rising = ", ".join(f"{t:g}" for t in sorted(set(value)))
            raise ValueError(f"temperatures must rise, each once; write [{rising}]")
        return value

    @model_validator(mode="after")
    def _whole_steps_between_frames(self) -> Self:
        whole = max(1, self.sampling_steps) * self.timestep
        if abs(whole - self.sampling_interval) > 1e-6:
            raise ValueError(
                f"sampling_interval must be a whole number of time steps of {self.timestep:g} fs, got "
                f"{self.sampling_interval:g} fs; write {whole:g}"
            )
        return self
