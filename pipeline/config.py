"""A campaign: one YAML file, read strictly, every error at once and with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline import schema
from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings
from pipeline.cluster_settings import ClusterSettings
from pipeline.consistency import InconsistentError, inconsistencies
from pipeline.problems import ConfigError, Problem, looks_like_training, placed_problem, read_yaml
from pipeline.run_settings import PlanSettings, RunSettings
from pipeline.settings import (
    AnyStage,
    BandGapSettings,
    ConductionSettings,
    DftSettings,
    DynamicsStageSettings,
    ElasticitySettings,
    EstimateSettings,
    PracticalitySettings,
    ReactivitySettings,
    Settings,
    StabilitySettings,
    StageSettings,
    SuspectSettings,
    WindowSettings,
    check_elements,
)
from pipeline.stage_settings import FolderName
from pipeline.surrogates.catalogue import known_entries
from pipeline.wording import did_you_mean, quoted

__all__ = [
    "BandGapSettings",
    "Campaign",
    "CandidateGates",
    "CandidateSettings",
    "ClusterSettings",
    "ConductionSettings",
    "ConfigError",
    "DftSettings",
    "DynamicsStageSettings",
    "ElasticitySettings",
    "EstimateSettings",
    "PlanSettings",
    "PotentialSettings",
    "PracticalitySettings",
    "Problem",
    "PrototypeSettings",
    "RankingSettings",
    "ReactivitySettings",
    "ReferenceSettings",
    "RunSettings",
    "StabilitySettings",
    "StageSettings",
    "SuspectSettings",
    "WindowSettings",
    "json_schema",
    "load_campaign",
]


def _name_potentials(schema: dict[str, Any]) -> None:
    """Give editors the potentials' names, as they are when the schema is generated."""
    schema["examples"] = [name for name, entry in known_entries().items() if entry.kind == "potential"]


class PotentialSettings(Settings):
    """The interatomic potential, and whom to ask for a second opinion."""

    model: str = Field(
        "M3GNet-MP-2021.2.8-PES",
        description="a name of `ionsieve models`, or a checkpoint's folder",
        json_schema_extra=_name_potentials,
    )
    convention: str | None = Field(
        None, description="message passing of an unknown checkpoint: destination (before matgl 3) or source"
    )
    scheme: Literal["mp_raw", "mp2020", "matpes_pbe"] | None = Field(
        None, description="what the energies of an unknown checkpoint are; known ones declare their own"
    )
    fallback: Literal["CHGNet"] | None = Field(None, description="used, and said in every row, when model is not found")
    second_opinion: str | None = Field(
        None, description="a second potential for energy_disagreement", json_schema_extra=_name_potentials
    )

    @field_validator("convention")
    @classmethod
    def _known_convention(cls, value: str | None) -> str | None:
        if value not in (None, "source", "destination"):
            raise ValueError(
                f"unknown message-passing convention {quoted(value)}; write 'destination' for checkpoints made before "
                "matgl 3, 'source' for later ones"
            )
        return value


class ReferenceSettings(Settings):
    """Competing phases, from which the hull is made."""

    source: Literal["table", "mp_api", "prototypes"] = Field(
        description="table: a file of formation energies; mp_api: fetched from the Materials Project with your key "
        "(MP_API_KEY), once, then cached; prototypes: elements and common prototypes relaxed with the same surrogate "
        "before stability"
    )
    path: str | None = Field(None, description="table: CSV with formula and formation_energy_per_atom (eV/atom)")
    elemental_references: str | None = Field(None, description="table: CSV with element and energy_per_atom (eV/atom)")
    scheme: Literal["mp2020"] = Field("mp2020", description="table: the energy scheme of its formation energies")
    prototypes: Literal["aflow", "campaign"] = Field(
        "aflow",
        description="prototypes: aflow: those that pymatgen carries; campaign: these and the campaign's own, "
        "isovalently substituted",
    )
    max_elements: int = Field(3, ge=1, le=3, description="prototypes: elements a competing phase may have")
    max_sites: int = Field(16, ge=1, le=64, description="prototypes: atoms a competing phase may have in its cell")
    chunk_size: int = Field(32, ge=1, le=10_000, description="prototypes: structures a work unit holds")

    @model_validator(mode="after")
    def _path_given(self) -> Self:
        if self.source == "table" and (self.path is None or self.elemental_references is None):
            raise ValueError("reference source 'table' needs 'path' and 'elemental_references'")
        if self.source != "table" and (self.path is not None or self.elemental_references is not None):
            raise ValueError(
                f"reference source {self.source!r} has its own table; leave out the paths, or write 'table'"
            )
        if self.source != "prototypes" and self.prototypes == "campaign":
            raise ValueError(
                f"reference source {self.source!r} substitutes no prototypes; leave out 'prototypes: campaign', or "
                "write source 'prototypes'"
            )
        return self


class Desirability(Settings):
    """One term of the score: linear from 0 at ``worst`` to 1 at ``best``, clipped; fixed bounds, never the run's."""

    column: str = Field(description="a column of numbers")
    best: float = Field(description="from here on the term is 1, in the column's unit")
    worst: float = Field(description="from here on it is 0; below best where more is better")
    weight: float = Field(1.0, gt=0.0, description="in the weighted mean of all terms")

    @model_validator(mode="after")
    def _numeric_column(self) -> Self:
        _check_numeric(self.column)
        if self.best == self.worst:
            raise ValueError(f"best and worst of {self.column} are both {self.best:g}; they must differ")
        return self


def _check_numeric(name: str) -> None:
    try:
        declared = schema.column(name)
    except KeyError:
        numeric = [c.name for c in schema.COLUMNS if c.dtype in ("float64", "int64")]
        raise ValueError(f"unknown column {quoted(name)}{did_you_mean(name, numeric)}") from None
    if declared.dtype not in ("float64", "int64"):
        raise ValueError(f"column {name!r} holds {declared.dtype}; a number is needed")


class Objective(Settings):
    """One axis of the Pareto front."""

    column: str = Field(description="a column of numbers")
    goal: Literal["min", "max"] = Field(description="whether less or more is better")

    @field_validator("column")
    @classmethod
    def _numeric_column(cls, value: str) -> str:
        _check_numeric(value)
        return value


class RankingSettings(Settings):
    """How survivors are ordered, and which make the shortlist."""

    score: tuple[Desirability, ...] = Field(
        (
            Desirability(column="energy_above_hull", best=0.0, worst=0.1, weight=2.0),
            Desirability(column="migration_barrier_3d", best=0.2, worst=1.0, weight=2.0),
            Desirability(column="oxidation_limit", best=5.0, worst=2.0, weight=1.0),
            Desirability(column="reduction_limit", best=0.0, worst=2.0, weight=1.0),
        ),
        min_length=1,
        description="terms of the score, which orders the survivors; a missing value scores 0",
    )
    pareto: tuple[Objective, ...] = Field(
        (
            Objective(column="energy_above_hull", goal="min"),
            Objective(column="migration_barrier_3d", goal="min"),
            Objective(column="oxidation_limit", goal="max"),
        ),
        min_length=1,
        description="axes of the Pareto fronts, which are shown and do not order",
    )
    shortlist_size: int = Field(18, ge=1, le=100_000, description="most candidates on the shortlist")
    max_per_formula: int = Field(1, ge=1, le=100_000, description="most polymorphs of one formula on the shortlist")
    allow_suspects: bool = Field(False, description="let suspect rows onto the shortlist")
    allow_known: bool = Field(False, description="let known compounds and parents onto the shortlist")


class Campaign(Settings):
    """A screening campaign, whole."""

    name: FolderName = Field(description="also the run folder's name")
    description: str = Field("", description="shown at the start of a run and in its report")
    mobile_ions: tuple[str, ...] = Field(min_length=1, description="elements whose ions should move")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="of the models; auto: CUDA where torch sees one")
    candidates: CandidateSettings
    potential: PotentialSettings = PotentialSettings()
    reference: ReferenceSettings
    stages: tuple[AnyStage, ...] = Field(min_length=1, description="the funnel, in order")
    ranking: RankingSettings = RankingSettings()
    cluster: ClusterSettings = ClusterSettings()
    run: RunSettings = RunSettings()
    plan: PlanSettings = PlanSettings()

    @field_validator("mobile_ions")
    @classmethod
    def _elements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_elements(value)
        return value

    @property
    def reference_elements(self) -> frozenset[str]:
        """Every element that the competing phases must know: of candidates, electrodes and partners."""
        found = {*self.candidates.elements, *self.mobile_ions}
        for stage in self.stages:
            if stage.stage == "window" and stage.reference_electrode:
                found.add(stage.reference_electrode)
            if stage.stage == "reactivity":
                found |= stage.partner_elements
        return frozenset(found)

    @property
    def known_formulas(self) -> frozenset[str]:
        """Compositions that any step names as known: what one knows, all know."""
        return frozenset(f for stage in self.stages if stage.stage == "practicality" for f in stage.known_formulas)

    @model_validator(mode="after")
    def _steps_fit_together(self) -> Self:
        problems = inconsistencies(self)
        if problems:
            raise InconsistentError(problems)
        return self


def load_campaign(path: str | Path) -> Campaign:
    """Read a campaign file.

    Raises
    ------
    ConfigError
        With every problem, each placed by file, line and key.
    """
    path = Path(path)
    data, lines = read_yaml(path)
    if looks_like_training(data):
        raise ConfigError([Problem(str(path), f"this is a training file, not a campaign: ionsieve train {path}")])
    try:
        return Campaign.model_validate(data)
    except ValidationError as error:
        items = [each for item in error.errors() for each in _one_by_one(dict(item))]
        # When every stage is wrong, pydantic also complains that none is left: that says nothing new.
        wrong = [item for item in items if item["type"] != "too_short" or len(items) == 1]
        raise ConfigError([placed_problem(path, lines, item, Campaign) for item in wrong]) from None


def _one_by_one(item: dict[str, Any]) -> list[dict[str, Any]]:
    """One of pydantic's errors; what does not fit together, as one each."""
    cause = item.get("ctx", {}).get("error")
    if not isinstance(cause, InconsistentError):
        return [item]
    return [{**item, "msg": problem} for problem in cause.problems]


def json_schema() -> str:
    """JSON schema of a campaign file, for editors; generated from these models."""
    return json.dumps(Campaign.model_json_schema(), indent=2, sort_keys=True) + "\n"
