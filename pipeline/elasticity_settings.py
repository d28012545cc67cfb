"""Settings of stage ``elasticity``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.stage_settings import StageSettings


class ElasticitySettings(StageSettings):
    """Elastic tensor, moduli and elastic stability of the relaxed crystal."""

    stage: Literal["elasticity"] = "elasticity"
    fmax: float = Field(0.002, gt=0.0, le=0.1, description="eV/Å, of the crystal and of the ions in strained cells")
    max_steps: int = Field(500, ge=1, le=10_000, description="optimiser steps of each relaxation")
    strains: tuple[Annotated[float, Field(gt=0.0, le=0.05)], ...] = Field(
        (0.01, 0.02), min_length=1, max_length=10, description="norms of the strains; each costs 12 relaxations"
    )
    chunk_size: int = Field(8, ge=1, le=100_000)
    required: bool = False

    @field_validator("strains")
    @classmethod
    def _different(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"each strain may occur once, got {', '.join(f'{v:g}' for v in value)}")
        return value
