"""What is kept of a training after each epoch: the learning curve, the best weights, the state to go on from."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Checkpoint

from pipeline.atomic_files import write_atomically, write_text
from pipeline.problems import ConfigError, Problem

LAST, BEST, CURVE = "last.ckpt", "best.pt", "learning_curve.csv"

# Columns of the learning curve and the names that matgl logs them under.
_LOGGED = {
    "loss": "Total_Loss",
    "energy_mae": "Energy_MAE",
    "force_mae": "Force_MAE",
    "stress_mae": "Stress_MAE",
}
CURVE_COLUMNS = (
    "epoch",
    "learning_rate",
    *(f"{split}_{name}" for split in ("train", "validation") for name in _LOGGED),
    "seconds",
)
"""Energy errors in eV/atom, force errors in eV/Å, stress errors in GPa; training errors are those before each step; the
learning rate is that of the epoch's last step."""

Epoch = dict[str, float]

# Attributes of the keeper that its state in the checkpoint has.
_KEPT = ("rows", "best", "best_epoch", "finished", "devices")


@dataclass(frozen=True)
class Watcher:
    """What a person sees of a training: called after each batch (batches done, batches of the epoch) and each epoch."""

    batch: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[Epoch], None] = lambda row: None


class EpochKeeper(Checkpoint):
    """Writes the learning curve, the best weights and the checkpoint, and ends the training when its time is over.

    All of it is written after an epoch, to temporary names that are renamed; the checkpoint comes last, so that a
    killed training repeats at most the epoch it was in. It is a ``Checkpoint`` for Lightning, which calls those after
    ``EarlyStopping``, whose state belongs into the checkpoint.

    Parameters
    ----------
    folder : Path
        Receives all of it.
    max_minutes : float or None
        The training ends after the epoch in which they are over.
    watcher : Watcher
        Told after each batch and epoch.
    is_near : callable
        Whether an epoch, counted from 0, is of near crystals alone. Of other epochs the best weights are kept; each of
        these takes their place, since the loss of all validation crystals is not what it lowers.
    """

    def __init__(
        self, folder: Path, max_minutes: float | None, watcher: Watcher, is_near: Callable[[int], bool]
    ) -> None:
        self.folder, self.max_minutes, self.watcher, self.is_near = folder, max_minutes, watcher, is_near
        self.rows: list[Epoch] = []
        self.best = float("inf")
        self.best_epoch = -1
        self.finished = False
        self.devices: list[str] = []
        self._rate = float("nan")
        self._begun = self._epoch_begun = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint."""
        return {name: getattr(self, name) for name in _KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        for name in _KEPT:
            setattr(self, name, state_dict[name])

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the epoch's clock."""
        self._epoch_begun = time.monotonic()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the step's learning rate; that of an epoch is its last step's."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Say how far the epoch is."""
        self.watcher.batch(batch_idx + 1, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep what the epoch has brought."""
        now = time.monotonic()
        device = _device_name(pl_module.device)
        if device not in self.devices:
            self.devices.append(device)
        row = {"epoch": float(trainer.current_epoch + 1), "learning_rate": self._rate}
        metrics = trainer.callback_metrics
        for split, prefix in (("train", "train"), ("validation", "val")):
            row |= {f"{split}_{name}": float(metrics[f"{prefix}_{logged}"]) for name, logged in _LOGGED.items()}
        row["seconds"] = now - self._epoch_begun
        self.rows.append(row)
        if row["validation_loss"] < self.best or self.is_near(trainer.current_epoch):
            self.best, self.best_epoch = row["validation_loss"], trainer.current_epoch + 1
            weights = {key: value.cpu() for key, value in pl_module.model.state_dict().items()}
            write_atomically(self.folder / BEST, lambda stream: torch.save(weights, stream))
        self.finished = bool(trainer.should_stop) or trainer.current_epoch + 1 == trainer.max_epochs
        if self.max_minutes is not None and now - self._begun + row["seconds"] > 60.0 * self.max_minutes:
            trainer.should_stop = True
        write_curve(self.folder / CURVE, self.rows)
        trainer.save_checkpoint(self.folder / LAST)
        self.watcher.epoch(row)

    def restore(self) -> Path | None:
        """The folder's checkpoint, or None if there is none; the keeper takes over its state.

        Raises
        ------
        ConfigError
            The checkpoint is damaged.
        """
        path = self.folder / LAST
        if not path.exists():
            return None
        try:
            self.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["callbacks"][self.state_key])
        except Exception as error:  # torch raises many unrelated types for a broken file
            message = f"can't be gone on from ({error}); delete {self.folder} to begin anew"
            raise ConfigError([Problem(str(path), message)]) from None
        return path


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


def write_curve(path: Path, rows: list[Epoch]) -> None:
    """The learning curve as CSV."""
    lines = [",".join(CURVE_COLUMNS)]
    lines += [",".join(f"{row[name]:.6g}" for name in CURVE_COLUMNS) for row in rows]
    write_text(path, "\n".join(lines) + "\n")
