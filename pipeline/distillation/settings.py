"""Settings of a distillation: which crystals are drawn from a campaign, how they are moved, and what labels them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.candidate_settings import PrototypeSettings
from pipeline.stage_settings import Settings
from pipeline.surrogates.relaxation import OptimizerName

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class DrawnCrystals(Settings):
    """Crystals that everything else starts from, at their rescaled volume."""

    candidates: int = Field(
        1800,
        ge=0,
        le=1_000_000,
        description="candidates of the campaign that pass its cheap gates, drawn evenly over prototypes and elements",
    )
    per_prototype: int = Field(12, ge=1, le=100_000, description="most candidates of one prototype")
    elements: Share = Field(
        1.0, description="share of the self-consistent reference's elements (each in its common structures)"
    )
    binaries: Share = Field(1.0, description="share of its competing phases of two elements")
    ternaries: Share = Field(0.5, description="share of its competing phases of three elements")
    max_sites: int = Field(24, ge=1, le=500, description="most atoms of a drawn crystal's primitive cell")

    @model_validator(mode="after")
    def _something_drawn(self) -> Self:
        if not (self.candidates or self.elements or self.binaries or self.ternaries):
            raise ValueError("candidates, elements, binaries and ternaries are all 0: nothing is drawn")
        return self

    @property
    def reference_elements(self) -> int:
        """Most elements of a competing phase that is drawn."""
        return 3 if self.ternaries else 2 if self.binaries else 1


class FurtherPrototypes(Settings):
    """Crystals of prototypes beyond the campaign's, for environments that its own few do not have: only trained on."""

    prototypes: PrototypeSettings = Field(description="which crystals are substituted by the campaign's elements")
    substitution: Literal["isovalent", "charge_neutral"] = Field(
        "charge_neutral",
        description="charge_neutral: any ions in a neutral cell, so that a halide can stand on an oxide's sites; "
        "isovalent: same charge on each site",
    )
    candidates: int = Field(4000, ge=1, le=1_000_000, description="drawn evenly over prototypes and elements")
    per_prototype: int = Field(3, ge=1, le=100_000, description="most candidates of one prototype")


class Distortions(Settings):
    """Strained and rattled copies of every crystal: of its relaxed cell where it is relaxed."""

    copies: int = Field(4, ge=0, le=1000, description="of each crystal")
    element_copies: int | None = Field(
        None, ge=0, le=1000, description="of each crystal of one element, of which there are few; null: as copies"
    )
    rattles: tuple[Annotated[float, Field(ge=0.02, le=1.0)], ...] = Field(
        (0.05, 0.10, 0.20, 0.40),
        min_length=1,
        description="standard deviations of an atom's displacement along each axis, Å; a crystal's copies take them in "
        "turn, from a random one on",
    )
    strain: float = Field(
        0.03, ge=0.0, le=0.2, description="standard deviation of the strain along each axis; shear has 1/√2 of it"
    )
    smallest_volume: float = Field(0.85, ge=0.3, le=1.0, description="of a copy, as a share of the crystal's volume")
    largest_volume: float = Field(1.20, ge=1.0, le=3.0, description="of a copy, as a share of the crystal's volume")
    least_sites: int = Field(
        6, ge=1, le=64, description="atoms of a copy: smaller cells are repeated along their shortest vector"
    )


class RelaxationFrames(Settings):
    """Frames along relaxations with the teacher, start and end included."""

    share: Share = Field(0.6, description="share of the drawn crystals that are relaxed")
    frames: int = Field(4, ge=2, le=100, description="frames of a relaxation, at equal falls in energy")
    optimizer: OptimizerName = Field("quasi-newton", description="as in stage stability")
    fmax: float = Field(0.05, gt=0.0, le=1.0, description="converged below this force, eV/Å")
    max_steps: int = Field(60, ge=1, le=10_000, description="bound on the steps")
    rattle: float = Field(
        0.02, ge=0.0, le=0.2, description="standard deviation of the displacement of every coordinate at the start, Å"
    )


class DynamicsFrames(Settings):
    """Frames of short molecular dynamics (Langevin, fixed cell) with the teacher."""

    share: Share = Field(0.15, description="share of the drawn crystals that are moved")
    temperatures: tuple[Annotated[float, Field(gt=0.0, le=10_000.0)], ...] = Field(
        (300.0, 600.0, 1000.0, 1500.0), min_length=1, description="K; each crystal gets one of them"
    )
    timestep: float = Field(2.0, gt=0.0, le=10.0, description="fs")
    steps: int = Field(100, ge=1, le=1_000_000, description="time steps")
    frames: int = Field(5, ge=1, le=10_000, description="frames of a run, evenly spaced, the last step included")
    friction_time: float = Field(100.0, gt=0.0, le=1e5, description="inverse friction, fs")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.frames > self.steps:
            raise ValueError(f"{self.frames} frames of {self.steps} steps: write at most one frame for each step")
        if self.steps % self.frames:
            whole = self.steps - self.steps % self.frames
            raise ValueError(
                f"{self.frames} frames can't be evenly spaced in {self.steps} steps; write {whole} or "
                f"{whole + self.frames} steps"
            )
        if self.friction_time < 5.0 * self.timestep:
            raise ValueError(
                f"friction_time is {self.friction_time:g} fs, below five time steps of {self.timestep:g} fs; "
                f"write {5.0 * self.timestep:g} or more"
            )
        return self


class SanityFilter(Settings):
    """What a frame must satisfy to be kept; what is left out is counted by reason."""

    distance_ratio: float = Field(
        0.55, ge=0.0, le=1.0, description="least shortest distance as a share of the sum of the covalent radii"
    )
    smallest_volume: float = Field(0.4, gt=0.0, le=1.0, description="per atom, as a share of the drawn crystal's")
    largest_volume: float = Field(2.5, ge=1.0, le=10.0, description="per atom, as a share of the drawn crystal's")
    lowest_energy: float = Field(-30.0, ge=-90.0, le=90.0, description="eV/atom")
    highest_energy: float = Field(10.0, ge=-90.0, le=90.0, description="eV/atom")
    largest_force: float = Field(30.0, gt=0.0, le=100.0, description="of one atom, eV/Å")
    largest_stress: float = Field(100.0, gt=0.0, le=300.0, description="largest component, GPa")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest_energy >= self.highest_energy:
            raise ValueError(
                f"lowest_energy {self.lowest_energy:g} is not below highest_energy {self.highest_energy:g} eV/atom: "
                "no frame would be kept"
            )
        return self


class DistillationSettings(Settings):
    """Labelled crystals made from a campaign and a teacher."""

    campaign: str = Field(
        description="the campaign's file, beside this one; its elements, prototypes and gates are the domain"
    )
    teacher: str = Field(description="a potential of `ionsieve models`, or a checkpoint's folder")
    convention: Literal["source", "destination"] | None = Field(
        None, description="message passing of an unknown teacher: destination (before matgl 3) or source"
    )
    scheme: Literal["mp_raw", "mp2020", "matpes_pbe"] | None = Field(
        None, description="energy scheme of an unknown teacher; known ones declare their own"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("cpu", description="where the teacher runs; auto: CUDA if present")
    crystals: DrawnCrystals = DrawnCrystals()
    further: FurtherPrototypes | None = Field(
        None, description="prototypes beyond the campaign's, whose crystals are trained on; null: none"
    )
    distortions: Distortions = Distortions()
    relaxation: RelaxationFrames = RelaxationFrames()
    dynamics: DynamicsFrames = DynamicsFrames()
    sanity: SanityFilter = SanityFilter()
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of everything that is drawn")
    held_out: float = Field(
        0.1, gt=0.0, le=0.45, description="share of the groups of prototypes that training never sees: the test split"
    )
    validation: float = Field(
        0.1, gt=0.0, le=0.45, description="share of the groups of prototypes that decide when training stops"
    )
    largest_unseen: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="a group of prototypes with more than this share of the frames is trained on, wherever it falls",
    )
    part_size: int = Field(16, ge=1, le=10_000, description="drawn crystals that are labelled together in one part")
    workers: int | None = Field(
        None,
        ge=1,
        le=256,
        description="processes on this machine; 1: no other than this one; null: the campaign's cluster",
    )

    def result_settings(self) -> dict[str, object]:
        """Settings that change the labels, of JSON's types."""
        chosen = self.model_dump(
            mode="json", exclude={"campaign": True, "workers": True, "further": {"prototypes": {"path"}}}
        )
        return {name: value for name, value in chosen.items() if name != "further" or value is not None}
