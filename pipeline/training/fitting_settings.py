"""Settings of the network that is trained, of what is minimised, and of how."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.stage_settings import Settings, check_elements


class NetworkSettings(Settings):
    """Sizes of an M3GNet that is trained from scratch."""

    units: int = Field(64, ge=4, le=1024, description="neurons of a hidden layer")
    node_width: int = Field(64, ge=4, le=1024, description="features of an atom")
    edge_width: int = Field(64, ge=4, le=1024, description="features of a bond")
    blocks: int = Field(3, ge=1, le=10, description="message-passing blocks")
    cutoff: float = Field(5.0, ge=2.0, le=10.0, description="neighbours of an atom, Å")
    three_body_cutoff: float | None = Field(
        4.0, gt=1.0, le=10.0, description="neighbours that form angles, Å, at most the cutoff; null: no three-body term"
    )
    smooth: bool = Field(
        False, description="radial functions whose slope vanishes at the cutoff too; evaluated more slowly on a CPU"
    )
    elements: tuple[str, ...] | None = Field(
        None, description="elements that the model shall know, all with data; null: those of the training split"
    )

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        check_elements(value or ())
        return value

    @model_validator(mode="after")
    def _angles_within_cutoff(self) -> Self:
        if self.three_body_cutoff is not None and self.three_body_cutoff > self.cutoff:
            raise ValueError(
                f"three_body_cutoff is {self.three_body_cutoff:g} Å, beyond the cutoff at {self.cutoff:g} Å; "
                f"write {self.cutoff:g} or less, or null for a model without the three-body term"
            )
        return self


class HintSettings(Settings):
    """Features of the teacher that distil names, to which those of the network are drawn."""

    epochs: int = Field(
        8,
        ge=0,
        le=100_000,
        description="the first epochs, in which features are all that is fitted, by cheaper steps",
    )
    learning_rate: float = Field(0.01, gt=0.0, le=1.0, description="the largest of those epochs")
    weight: float = Field(
        0.05, ge=0.0, le=100.0, description="of the features' relative deviations in the loss of the epochs after those"
    )


class LossSettings(Settings):
    """What is minimised: a weighted sum over energies (eV/atom), forces (eV/Å) and stresses (GPa)."""

    energy: float = Field(1.0, ge=0.0, description="weight of the energy for each atom")
    force: float = Field(1.0, ge=0.0, description="weight of the force components")
    stress: float = Field(0.1, ge=0.0, description="weight of the stress components; 0 where the data have none")
    kind: Literal["huber", "mse", "mae"] = Field(
        "huber", description="of each deviation: Huber's (width 1), square, absolute"
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if self.energy + self.force <= 0.0:
            raise ValueError("energy and force are both 0: nothing determines the potential")
        return self


class RestartSettings(Settings):
    """Further epochs, whose learning rate rises and falls once more (a warm restart)."""

    epochs: int = Field(ge=1, le=100_000, description="how many")
    near_epochs: int = Field(0, ge=0, le=100_000, description="the last of them, with crystals of small forces alone")
    learning_rate: float = Field(5e-4, gt=0.0, le=1.0, description="the largest, after the rise")

    @model_validator(mode="after")
    def _near_epochs_are_of_these(self) -> Self:
        if self.near_epochs > self.epochs:
            raise ValueError(f"near_epochs is {self.near_epochs}, of {self.epochs} epochs; write fewer, or more epochs")
        return self


class FittingSettings(Settings):
    """How the weights are fitted: a short rise and a cosine of the learning rate, for hints, labels and restarts."""

    batch_size: int = Field(16, ge=1, le=4096, description="crystals for each step")
    max_epochs: int = Field(100, ge=1, le=100_000, description="epochs; the learning rate's cosine ends with the last")
    near_epochs: int = Field(
        0,
        ge=0,
        le=100_000,
        description="the last epochs, which hold the crystals of small forces alone, and these more than once, as "
        "relaxations end among them; the weights after the last are kept",
    )
    near_force: float = Field(0.5, gt=0.0, le=100.0, description="most root mean square force of those crystals, eV/Å")
    restarts: tuple[RestartSettings, ...] = Field(
        (), description="further epochs after max_epochs; a training that came to its end goes on where one is added"
    )
    max_minutes: float | None = Field(
        None, gt=0.0, description="stop cleanly after the epoch in which they are over; the same command goes on"
    )
    optimizer: Literal["adamw", "soap"] = Field(
        "adamw",
        description="AdamW, or SOAP (Adam in the eigenbases of Shampoo): fewer steps, each a little dearer",
    )
    learning_rate: float = Field(1e-3, gt=0.0, le=1.0, description="the largest, after the rise")
    final_learning_rate: float = Field(0.01, gt=0.0, le=1.0, description="at the end, as a share of the largest")
    warmup_steps: int = Field(
        100, ge=0, le=1_000_000, description="in which the learning rate rises; at most a tenth of all"
    )
    weight_decay: float = Field(1e-4, ge=0.0, le=1.0, description="of the optimiser, apart from the gradient")
    gradient_clip: float = Field(10.0, gt=0.0, description="largest norm of the gradient")
    patience: int | None = Field(
        None, ge=1, description="stop when so many epochs brought no better validation loss; null: never"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the first weights and of the order of crystals")

    @model_validator(mode="after")
    def _last_epochs_are_reached(self) -> Self:
        if self.patience is None:
            return self
        said = f"patience ({self.patience}) could end the training before its"
        if self.near_epochs:
            raise ValueError(f"{said} near_epochs ({self.near_epochs}) begin; leave one of them out")
        if self.restarts:
            raise ValueError(f"{said} restarts begin; leave one of them out")
        return self

    @property
    def all_epochs(self) -> int:
        """Epochs, those of restarts included."""
        return self.max_epochs + sum(restart.epochs for restart in self.restarts)

    @property
    def has_near_epochs(self) -> bool:
        """Whether some epochs hold the crystals of small forces alone."""
        return self.near_epochs > 0 or any(restart.near_epochs for restart in self.restarts)

    def is_near(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, holds the crystals of small forces alone."""
        end = 0
        for epochs, near in ((self.max_epochs, self.near_epochs), *((r.epochs, r.near_epochs) for r in self.restarts)):
            end += epochs
            if epoch < end:
                return epoch >= end - near
        return False
