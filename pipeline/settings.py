"""Settings of each stage: frozen, bounded, with units. The config file is made of these."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from pipeline.dft.settings import DftSettings
from pipeline.diffusion.settings import DynamicsStageSettings
from pipeline.elasticity_settings import ElasticitySettings
from pipeline.stage_settings import Settings, StageSettings, check_elements, check_formulas

__all__ = [
    "NETWORK_STAGES",
    "STAGES",
    "AnyStage",
    "BandGapSettings",
    "CompetingPhasesSettings",
    "ConductionSettings",
    "DftSettings",
    "DynamicsStageSettings",
    "ElasticitySettings",
    "EstimateSettings",
    "PracticalitySettings",
    "ReactivitySettings",
    "RelaxingStageSettings",
    "Settings",
    "StabilitySettings",
    "StageSettings",
    "SuspectSettings",
    "WindowSettings",
    "check_elements",
    "check_formulas",
]


class EstimateSettings(StageSettings):
    """One-shot formation energy on the unrelaxed crystal: a loose gate before relaxation."""

    stage: Literal["estimate"] = "estimate"
    model: str = Field("MEGNet-MP-2018.6.1-Eform", description="formation-energy model (legacy MP scheme)")
    chunk_size: int = Field(256, ge=1, le=100_000)


class SuspectSettings(Settings):
    """When a row is too good or too strange to be believed."""

    energy_above_hull_below: float = Field(-0.1, le=0.0, description="eV/atom")
    distance_ratio_below: float = Field(0.6, ge=0.0, le=1.0, description="shortest distance / sum of the two radii")
    volume_change_above: float = Field(0.40, gt=0.0, description="|relaxed / starting volume - 1|")
    energy_disagreement_above: float = Field(0.1, gt=0.0, description="eV/atom between two surrogates")


class RelaxingStageSettings(StageSettings):
    """What every stage that relaxes crystals has."""

    fmax: float = Field(0.05, gt=0.0, le=1.0, description="eV/Å, forces and cell forces")
    max_steps: int = Field(500, ge=0, le=10_000, description="optimiser steps; 0 evaluates without relaxing")
    rattle: float = Field(0.02, ge=0.0, le=0.2, description="standard deviation of the seeded start displacement, Å")
    seed: int = Field(0, ge=0, description="of the rattle's random numbers, beside candidate_id")
    relax_cell: bool = Field(
        True,
        description="relax the cell's vectors to no stress along with the atoms; false: atoms alone, cell as given",
    )
    optimizer: Literal["quasi-newton", "fire-quasi-newton", "fire"] = Field(
        "quasi-newton",
        description="how atoms and cell move; fire is ASE's and three times slower, fire-quasi-newton nearly so: "
        "without a rattle it ends where fire does or lower",
    )


class StabilitySettings(RelaxingStageSettings):
    """Relaxation with the surrogate and energy above the hull of competing phases."""

    stage: Literal["stability"] = "stability"
    suspect: SuspectSettings = SuspectSettings()
    give_up_above: float | None = Field(
        None,
        ge=0.0,
        le=10.0,
        description="eV/atom above the hull: a relaxation that can't come below is given up, and a crystal above gets "
        "no second opinion; not below the gate on energy_above_hull. Default: all are relaxed to the end",
    )

    @model_validator(mode="after")
    def _gives_up_no_row_that_may_pass(self) -> Self:
        if self.give_up_above is None:
            return self
        gate = self.gates.get("energy_above_hull")
        bound = None if gate is None else gate.upper
        if bound is None:
            raise ValueError(
                f"give_up_above is {self.give_up_above:g} eV/atom, but no gate energy_above_hull has an upper bound: "
                f"rows given up would pass; add the gate {{below: {self.give_up_above:g}}} or leave give_up_above out"
            )
        if self.give_up_above < bound:
            raise ValueError(
                f"give_up_above is {self.give_up_above:g} eV/atom, below the gate energy_above_hull at {bound:g}: rows "
                f"that may pass would be given up; write {bound:g} or more"
            )
        return self


class CompetingPhasesSettings(RelaxingStageSettings):
    """Relaxation of the self-consistent reference's crystals, as stability relaxes the candidates.

    Not a step of the funnel: the runner derives it from the stability stage.
    """

    stage: Literal["competing_phases"] = "competing_phases"
    distance_ratio_below: float = Field(
        0.6, ge=0.0, le=1.0, description="shortest distance / sum of the two radii: what ends below is no phase"
    )


class BandGapSettings(StageSettings):
    """ML band gap of the relaxed crystal."""

    stage: Literal["band_gap"] = "band_gap"
    model: str = Field("MEGNet-MP-2019.4.1-BandGap-mfi", description="multi-fidelity band-gap model")
    fidelity: Literal["PBE", "GLLB-SC", "HSE", "SCAN"] = Field(
        "PBE", description="functional whose band gaps (eV) the model predicts; PBE's are too low, as a rule"
    )
    chunk_size: int = Field(256, ge=1, le=100_000)


class WindowSettings(StageSettings):
    """Electrochemical stability window against the mobile ion's metal."""

    stage: Literal["window"] = "window"
    reference_electrode: str | None = Field(
        None,
        description="measure against this metal instead of the mobile ions'; candidates without it have no oxidation "
        "limit, and pass no gate on one",
    )
    chunk_size: int = Field(256, ge=1, le=100_000)

    @field_validator("reference_electrode")
    @classmethod
    def _element(cls, value: str | None) -> str | None:
        if value is not None:
            check_elements((value,))
        return value

    def metals(self, mobile_ions: tuple[str, ...]) -> tuple[str, ...]:
        """Elements against whose metals limits are measured."""
        return mobile_ions if self.reference_electrode is None else (self.reference_electrode,)


class ReactivitySettings(StageSettings):
    """Chemical stability against partners: mutual reaction energies."""

    stage: Literal["reactivity"] = "reactivity"
    partners: tuple[str, ...] = Field(
        min_length=1, description="formulas of what the candidate touches, e.g. [Li, LiCoO2]"
    )
    chunk_size: int = Field(256, ge=1, le=100_000)

    @field_validator("partners")
    @classmethod
    def _formulas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_formulas(value)

    @property
    def partner_elements(self) -> frozenset[str]:
        """Elements of all partners."""
        from pipeline.reference.formulas import composition_key

        return frozenset(symbol for formula in self.partners for symbol, _ in composition_key(formula))


class ConductionSettings(StageSettings):
    """Bond-valence migration barriers."""

    stage: Literal["conduction"] = "conduction"
    spacing: float = Field(0.25, ge=0.05, le=1.0, description="grid spacing, Å")
    cutoff: float = Field(10.0, ge=4.0, le=20.0, description="neighbours of a grid point, Å")
    energy_cap: float = Field(10.0, gt=0.0, le=50.0, description="eV above the minimum where percolation is given up")
    dimensionality_window: float = Field(
        0.1, ge=0.0, le=5.0, description="eV above the lowest barrier within which a dimension counts as conducting"
    )
    hopping: bool = Field(False, description="estimate a diffusivity by kinetic Monte Carlo over the barriers")
    temperature: float = Field(300.0, ge=50.0, le=2000.0, description="of the hopping, K")
    attempt_frequency: float = Field(1e13, ge=1e10, le=1e15, description="of the hopping, Hz")
    carriers: Literal["independent", "exclusive"] = Field(
        "independent", description="of the hopping: one ion alone, or all the crystal's ions, one on a site at most"
    )
    jumps: int = Field(1_000_000, ge=1000, le=1_000_000_000, description="hops that are simulated")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the hopping's random numbers")
    write_volumes: bool = Field(
        False, description="write the shortlist's site energies as structures/<candidate_id>.cube"
    )
    chunk_size: int = Field(16, ge=1, le=100_000)
    required: bool = False

    def result_settings(self) -> dict[str, object]:
        """Without what only writes files, and without what hopping reads where there is none."""
        unused = set() if self.hopping else {"temperature", "attempt_frequency", "carriers", "jumps", "seed"}
        return {k: v for k, v in super().result_settings().items() if k not in {"write_volumes", *unused}}


class PracticalitySettings(StageSettings):
    """Density, element cost, and what is known already."""

    stage: Literal["practicality"] = "practicality"
    known_formulas: tuple[str, ...] = Field(
        (), description="compositions to treat as known, in all steps, beside the data's"
    )
    chunk_size: int = Field(1024, ge=1, le=100_000)
    required: bool = False

    @field_validator("known_formulas")
    @classmethod
    def _formulas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_formulas(value)


AnyStage = Annotated[
    EstimateSettings
    | StabilitySettings
    | BandGapSettings
    | WindowSettings
    | ReactivitySettings
    | ConductionSettings
    | DynamicsStageSettings
    | ElasticitySettings
    | DftSettings
    | PracticalitySettings,
    Field(discriminator="stage"),
]

NETWORK_STAGES = frozenset({"estimate", "band_gap", "stability", "competing_phases", "elasticity", "dynamics"})
"""Stages that run a network, on a GPU where there is one."""

STAGES = tuple(get_args(c.model_fields["stage"].annotation)[0] for c in get_args(get_args(AnyStage)[0]))
"""Names of the stages a config may list."""
