"""Settings of stage ``elasticity``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.stage_settings import StageSettings


class ElasticitySettings(StageSettings):
    """Elastic tensor, moduli and elastic stability of the relaxed crystal."""

    stage: Literal["elasticity"] = "elasticity"
    fmax: float = Field(0.001, gt=0.0, le=0.1, description="eV/Å, of the crystal before it is strained")
    max_steps: int = Field(500, ge=1, le=10_000, description="optimiser steps of that relaxation")
    strain: float = Field(
        0.001,
        gt=0.0,
        le=0.02,
        description="norm of the strains; larger ones meet steps in a surrogate's stress where neighbours cross its "
        "cutoff",
    )
    displacement: float = Field(0.005, gt=0.0, le=0.1, description="of the ions, one by one, Å")
    max_residual: float = Field(
        0.1, gt=0.0, le=1.0, description="elastic_fit_residual above which a row fails instead of giving moduli"
    )
    phonons: bool = Field(
        False, description="look for imaginary phonons too, with phonopy: a few supercells of each candidate"
    )
    phonon_supercell: float = Field(8.0, ge=4.0, le=30.0, description="least thickness of those supercells, Å")
    chunk_size: int = Field(8, ge=1, le=100_000)
    required: bool = False

    def result_settings(self) -> dict[str, object]:
        """Without what only phonons read, where there are none."""
        unused = set() if self.phonons else {"phonon_supercell"}
        return {k: v for k, v in super().result_settings().items() if k not in unused}
