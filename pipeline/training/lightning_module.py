"""matgl's Lightning module with a learning rate for each step, and one that is drawn to a teacher's features too."""

from __future__ import annotations

import copy
from typing import Any

import torch
from matgl.utils.training import PotentialLightningModule
from torch import Tensor

from pipeline.training.optimizers import forget_moments


class SteppedModule(PotentialLightningModule):  # type: ignore[misc]
    """matgl's module, whose schedule gives each step its learning rate, not each epoch."""

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        """As Lightning asks for them."""
        optimizers, schedules = super().configure_optimizers()
        return optimizers, [{"scheduler": schedule, "interval": "step"} for schedule in schedules]

    def on_train_start(self) -> None:
        """Give the next step its rate: a checkpoint has the one of the settings that it was made with."""
        schedule = self.lr_schedulers()
        for group, rate, share in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = rate * share(schedule.last_epoch)


class HintedModule(SteppedModule):
    """First the features alone, then energies, forces and stresses beside them.

    Parameters
    ----------
    hint_epochs : int
        The first epochs, in which features are all that is fitted.
    hint_weight : float
        Of their distance from the teacher's in the loss of later epochs.
    **arguments
        Those of matgl's module; its network is an :class:`pipeline.training.network.ArrangedM3GNet` with hints.
    """

    def __init__(self, hint_epochs: int, hint_weight: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.hint_epochs, self.hint_weight = hint_epochs, hint_weight

    def on_train_epoch_start(self) -> None:
        """Forget the moments of the features' gradients: with them the labels undo what the features taught."""
        if self.current_epoch == self.hint_epochs:
            forget_moments(self.optimizers().optimizer)

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Any:
        """Loss of a batch; errors of forces and stresses are not known where only features are fitted."""
        network = self.model.model
        if self.current_epoch >= self.hint_epochs:
            found = super().training_step(batch, batch_idx)
            return {**found, "loss": found["loss"] + self.hint_weight * network.distance}
        graph, lattices, _, energies, *_ = batch
        outputs = network(_placed(graph, lattices))
        with torch.no_grad():
            said = self.model.data_std * outputs + self.model.element_refs(graph).squeeze()
            error = ((said - energies) / torch.bincount(graph.batch)).abs().mean()
        logged = {"Total_Loss": network.distance.detach(), "Energy_MAE": error}
        unknown = {name: torch.full_like(error, torch.nan) for name in ("Force_MAE", "Stress_MAE")}
        self.log_dict(
            {f"train_{name}": value for name, value in (logged | unknown).items()},
            batch_size=len(energies),
            on_epoch=True,
            on_step=False,
            prog_bar=True,
            sync_dist=self.sync_dist,
        )
        return network.distance


def _placed(graph: Any, lattices: Tensor) -> Any:
    """A graph with Cartesian positions and offsets, Å, as matgl's potential hands it to a network."""
    graph = copy.copy(graph)
    lattices = lattices.reshape(-1, 3, 3)  # matgl's collation leaves a lone crystal's without its first dimension
    graph.pos = torch.einsum("ni,nij->nj", graph.frac_coords, lattices[graph.batch])
    graph.pbc_offshift = torch.einsum("ei,eij->ej", graph.pbc_offset, lattices[graph.batch[graph.edge_index[0]]])
    return graph
