"""Settings of a training: one YAML file, read as strictly as a campaign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.distillation.settings import DistillationSettings
from pipeline.problems import ConfigError, Problem, looks_like_campaign, placed_problem, read_yaml
from pipeline.stage_settings import FolderName, Settings
from pipeline.surrogates.entries import CATALOGUE
from pipeline.training.fitting_settings import FittingSettings, HintSettings, LossSettings, NetworkSettings

LabelScheme = Literal["mp_raw", "mp2020", "matpes_pbe", "other"]
GroupBy = Literal["group", "protostructure", "formula"]

LABELS = "labels"
"""Folder, in the model's, of labels that a training makes itself."""

Files = tuple[str, ...]


class SplitShares(Settings):
    """Shares of the groups (not of the crystals) that go to each split."""

    train: float = Field(0.8, gt=0.0, lt=1.0, description="share of the groups that the weights are fitted to")
    validation: float = Field(0.1, gt=0.0, lt=1.0, description="share that decides when to stop")
    test: float = Field(0.1, gt=0.0, lt=1.0, description="share that the errors on the model's card are measured on")

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, validation and test are shares of the groups and must sum to 1, got {total:g}")
        return self


class DataSettings(Settings):
    """Labelled crystals, and what they must satisfy."""

    files: Files = Field(
        (), description="extended XYZ (.xyz, .extxyz), ASE databases (.db) or Parquet files of labels, split by group"
    )
    train: Files = Field((), description="instead of files: those of the training split")
    validation: Files = Field((), description="instead of files: those of the validation split")
    test: Files = Field((), description="instead of files: those of the test split")
    label_scheme: LabelScheme = Field(
        description="what the energies are: mp_raw (PBE and PBE+U totals as the Materials Project computes them), "
        "mp2020 (the same, corrected), matpes_pbe (PBE without U) or other (no formation energies then)"
    )
    group_by: GroupBy = Field(
        "group",
        description="what is never divided between splits: the labels' own group, the prototype by symmetry, or the "
        "reduced formula",
    )
    shares: SplitShares = SplitShares()
    seed: int = Field(0, ge=0, description="of the division into splits, which depends on it and the group alone")
    min_structures_per_element: int = Field(
        10, ge=1, le=1_000_000, description="training crystals that every element needs"
    )
    shortest_distance: float = Field(0.5, gt=0.0, le=3.0, description="atoms may not be nearer than this, Å")
    largest_energy: float = Field(
        100.0,
        gt=0.0,
        le=1e5,
        description="eV/atom: more is in another unit, or an all-electron total; pseudopotentials of Quantum ESPRESSO "
        "may need more",
    )
    largest_force: float = Field(100.0, gt=0.0, le=1e4, description="of one atom, eV/Å")
    largest_stress: float = Field(300.0, gt=0.0, le=1e5, description="largest component, GPa")
    largest_force_sum: float = Field(
        0.02, gt=0.0, le=10.0, description="norm of the sum of a crystal's forces, eV/Å for each of its atoms"
    )
    largest_energy_deviation: float = Field(
        8.0, gt=0.0, le=100.0, description="from the fitted energies of the elements, eV/atom: more means mixed units"
    )

    @model_validator(mode="after")
    def _files_or_splits(self) -> Self:
        by_split = (self.train, self.validation, self.test)
        if self.files and any(by_split):
            raise ValueError("give either files, which are split by group, or train, validation and test")
        if not self.files and not all(by_split):
            raise ValueError("needs files, or all of train, validation and test, each with at least one file")
        if not self.files and (unused := sorted({"seed", "shares"} & self.model_fields_set)):
            raise ValueError(
                f"train, validation and test are divided already; leave out {' and '.join(unused)}, or give files"
            )
        return self


class RehearsalSettings(Settings):
    """Labels that the model was trained on before, repeated so that it doesn't forget them."""

    files: Files = Field(
        min_length=1, description="labels of the kind the model was trained on, extended XYZ, ASE databases or Parquet"
    )
    label_scheme: LabelScheme = Field(description="what their energies are; their zeros are those of the model")
    crystals: int = Field(
        1000, ge=1, le=10_000_000, description="so many are drawn and trained on beside the new ones in every epoch"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the draw")


class FineTuneSettings(Settings):
    """A model whose weights are the start; its sizes and cutoffs stay."""

    model: str = Field(description="a name of `ionsieve models`, or a checkpoint's folder")
    convention: Literal["source", "destination"] | None = Field(
        None, description="message passing of an unknown checkpoint: destination (before matgl 3) or source"
    )
    rehearse: RehearsalSettings | None = Field(
        None, description="old labels to train on beside the new ones; null: what they taught may be forgotten"
    )


class CardSettings(Settings):
    """What the model's card says about the data."""

    teacher: str | None = Field(None, description="the model that made the labels, where a model did")
    data_licence: str = Field(min_length=1, description="terms of the labels, such as CC BY 4.0; also the model's")
    data_citation: str = Field(min_length=1, description="where the labels come from")
    notes: str = Field("", description="shown on the card")


class Training(Settings):
    """A training, whole."""

    name: FolderName = Field(description="of the model and its folder")
    output: str = Field("models", description="folder in which the model's folder is made")
    distil: DistillationSettings | None = Field(
        None, description="make the labels first, from a campaign and a teacher; data then names no files"
    )
    data: DataSettings
    network: NetworkSettings | None = Field(None, description="train from scratch; the default, with its own sizes")
    fine_tune: FineTuneSettings | None = Field(None, description="instead of network: go on from a model")
    hints: HintSettings | None = Field(
        None, description="fit the teacher's features too; network then has the sizes of the teacher, an M3GNet"
    )
    loss: LossSettings = LossSettings()
    fitting: FittingSettings = FittingSettings()
    card: CardSettings
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where torch sees one")
    threads: int | None = Field(None, ge=1, le=1024, description="of torch on a CPU; null: torch's own choice")

    @model_validator(mode="before")
    @classmethod
    def _own_labels(cls, given: Any) -> Any:
        """With ``distil`` the data are the three files that it writes."""
        if not isinstance(given, dict) or given.get("distil") is None or not isinstance(given.get("data"), dict):
            return given
        named = [key for key in ("files", "train", "validation", "test") if given["data"].get(key)]
        if named:
            raise ValueError(f"distil makes the labels itself; leave out data.{' and data.'.join(named)}, or distil")
        if divided := [f"data.{key}" for key in ("seed", "shares", "group_by") if key in given["data"]]:
            raise ValueError(
                f"distil divides the labels itself; leave out {' and '.join(divided)}, and see distil.seed, "
                "distil.held_out and distil.validation"
            )
        folder = Path(str(given.get("output", "models"))) / str(given.get("name")) / LABELS
        files = {split: [str(folder / f"{split}.parquet")] for split in ("train", "validation", "test")}
        return {**given, "data": {**given["data"], **files}}

    @field_validator("name")
    @classmethod
    def _own_name(cls, value: str) -> str:
        if value in CATALOGUE:
            raise ValueError(f"{value} is a model of the catalogue; give a name of your own")
        return value

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.network is not None and self.fine_tune is not None:
            raise ValueError("network and fine_tune exclude each other; a fine-tuned model keeps its sizes")
        return self

    @model_validator(mode="after")
    def _hints_of_a_teacher(self) -> Self:
        if self.hints is None:
            return self
        if self.distil is None:
            raise ValueError(
                "hints are features of the teacher that distil names, which the file lacks; leave out hints"
            )
        if self.fine_tune is not None:
            raise ValueError("hints are for a network that is trained from scratch; leave out fine_tune or hints")
        if self.hints.epochs >= self.fitting.max_epochs:
            raise ValueError(
                f"hints.epochs is {self.hints.epochs} of {self.fitting.max_epochs} epochs (fitting.max_epochs): labels "
                "would never be fitted; write fewer"
            )
        return self

    @model_validator(mode="after")
    def _epochs_with_all_crystals(self) -> Self:
        hints = 0 if self.hints is None else self.hints.epochs
        left = self.fitting.max_epochs - hints
        if self.fitting.near_epochs >= left:
            raise ValueError(
                f"fitting.near_epochs is {self.fitting.near_epochs}, but only {left} epochs fit labels "
                "(fitting.max_epochs less hints.epochs): none would hold all crystals; write fewer"
            )
        return self

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return Path(self.output) / self.name

    @property
    def sizes(self) -> NetworkSettings:
        """Sizes of a network from scratch."""
        return self.network or NetworkSettings()

    def result_settings(self) -> dict[str, Any]:
        """Settings that change the weights after a given number of epochs, of JSON's types."""
        fitting = self.fitting.model_dump(mode="json", exclude={"max_minutes"})
        start = {"fine_tune": self.fine_tune.model_dump()} if self.fine_tune else {"network": self.sizes.model_dump()}
        if self.hints is not None:
            start["hints"] = {**self.hints.model_dump(), "teacher": self.distil and self.distil.teacher}
        return json.loads(json.dumps({**start, "loss": self.loss.model_dump(), "fitting": fitting}))  # type: ignore[no-any-return]


def load_training(path: str | Path) -> Training:
    """Read a training file.

    Raises
    ------
    ConfigError
        With every problem, each placed by file, line and key.
    """
    path = Path(path)
    data, lines = read_yaml(path, "a training is a mapping of keys such as name, data, fitting, card")
    if looks_like_campaign(data):
        raise ConfigError([Problem(str(path), f"this is a campaign, not a training file: ionsieve run {path}")])
    try:
        return Training.model_validate(data)
    except ValidationError as error:
        problems = [placed_problem(path, lines, dict(item), Training) for item in error.errors()]
        raise ConfigError(problems) from None


def training_schema() -> str:
    """JSON schema of a training file, for editors; generated from these models."""
    return json.dumps(Training.model_json_schema(), indent=2, sort_keys=True) + "\n"
