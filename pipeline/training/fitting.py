"""Fitting the weights by matgl's Lightning module and Lightning's trainer; a killed fit goes on where it was."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.atomic_files import write_atomically
from pipeline.problems import ConfigError, Problem
from pipeline.surrogates.batch import FloatArray
from pipeline.training.fitting_settings import FittingSettings, LossSettings
from pipeline.training.graphs import CrystalGraphs, EpochOrder, loader
from pipeline.training.hints import Hints
from pipeline.training.network import ArrangedM3GNet
from pipeline.training.optimizers import optimizer_of
from pipeline.training.progress import BEST, Epoch, EpochKeeper, Watcher
from pipeline.training.rates import parts_of, rate_at
from pipeline.training.settings import Training

_LOSSES: dict[str, str] = {"huber": "huber_loss", "mse": "mse_loss", "mae": "l1_loss"}


@dataclass(frozen=True)
class Start:
    """What a fit begins with.

    Attributes
    ----------
    network : torch.nn.Module
        matgl's M3GNet of matgl 4's convention.
    element_energies : (K,) float64
        Offsets of the elements, eV, in the order of the network's.
    scale : float
        eV; the network's outputs are multiplied by it.
    shift : (K,) float64
        eV that are in ``element_energies`` because the labels have another zero than the model that is gone on from.
    hints : Hints, optional
        A teacher whose features the network's are drawn to.
    """

    network: Any
    element_energies: FloatArray
    scale: float
    shift: FloatArray
    hints: Hints | None = None


@dataclass(frozen=True)
class Fit:
    """How a fit ended.

    Attributes
    ----------
    network : torch.nn.Module
        matgl's M3GNet with the weights of the best epoch.
    rows : list of dict
        The learning curve (see :data:`pipeline.training.progress.CURVE_COLUMNS`).
    best_epoch : int
        Counted from 1; with near epochs, the last.
    finished : bool
        False where ``max_minutes`` ended it: then the same call goes on.
    devices : tuple of str
        Names of what its epochs were computed on.
    """

    network: Any
    rows: list[Epoch]
    best_epoch: int
    finished: bool
    devices: tuple[str, ...]


def fit(
    settings: Training,
    start: Start,
    train: CrystalGraphs,
    validation: CrystalGraphs,
    folder: Path,
    device: torch.device,
    watcher: Watcher,
) -> Fit:
    """Fit the weights, from the folder's checkpoint if it has one.

    On a CPU with one thread a resumed fit gives the same bits as one that was never stopped.

    Parameters
    ----------
    settings : Training
        Loss, optimiser, epochs.
    start : Start
        First weights; those of the checkpoint take their place.
    train, validation : CrystalGraphs
        The order of the first depends on seed and epoch alone.
    folder : Path
        Receives checkpoint, best weights and learning curve.
    device : torch.device
        CPU or CUDA.
    watcher : Watcher
        Told after each batch and epoch.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C; the checkpoint of the last epoch stays.
    ConfigError
        The loss is no longer finite, or the checkpoint is damaged.
    """
    with _quiet():
        from lightning.pytorch import Trainer
        from lightning.pytorch.callbacks import EarlyStopping
        from lightning.pytorch.plugins.io import TorchCheckpointIO

        class AtomicCheckpoints(TorchCheckpointIO):
            """Checkpoints that are old or new after a crash, never half."""

            def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
                write_atomically(Path(path), lambda stream: torch.save(checkpoint, stream))

        class LabelStopping(EarlyStopping):
            """Early stopping whose patience begins with the labels: before them their errors are not what is fitted."""

            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                if trainer.current_epoch >= (0 if settings.hints is None else settings.hints.epochs):
                    super().on_train_epoch_end(trainer, pl_module)

        keeper = EpochKeeper(folder, settings.fitting.max_minutes, watcher, settings.fitting.is_near)
        stopping = LabelStopping(
            "val_Total_Loss", patience=settings.fitting.patience or 10**9, check_on_train_epoch_end=True, verbose=False
        )
        trainer = Trainer(
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1,
            max_epochs=settings.fitting.all_epochs,
            gradient_clip_val=settings.fitting.gradient_clip,
            callbacks=[stopping, keeper],
            plugins=[AtomicCheckpoints()],
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=True,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,
        )
        size = settings.fitting.batch_size
        batches = loader(train, size, order_of(train, settings.fitting)), loader(validation, size)
        module = _module(settings, start, len(batches[0]))
        checkpoint = keeper.restore()
        has_further = settings.fitting.patience is None and len(keeper.rows) < settings.fitting.all_epochs
        if has_further or not keeper.finished:
            _run(trainer, module, *batches, checkpoint)
    if not np.isfinite([keeper.rows[-1]["train_loss"], keeper.rows[-1]["validation_loss"]]).all():
        message = f"the loss is not finite after epoch {len(keeper.rows)}; delete {folder} and lower the learning rate"
        raise ConfigError([Problem("fitting.learning_rate", message)])
    best = torch.load(folder / BEST, weights_only=True)
    module.model.load_state_dict(best)
    return Fit(module.model.model.network.cpu(), keeper.rows, keeper.best_epoch, keeper.finished, tuple(keeper.devices))


def order_of(train: CrystalGraphs, settings: FittingSettings) -> EpochOrder:
    """Order of the crystals in each epoch; ConfigError where the last epochs would have none."""
    if not settings.has_near_epochs:
        return EpochOrder(len(train), settings.seed)
    near = np.flatnonzero(train.rms_forces <= settings.near_force)
    if not len(near):
        least = f"{train.rms_forces.min():.2g}"
        text = f"is {settings.near_force:g} eV/Å, but no crystal to be trained on has less than {least}; write more"
        raise ConfigError([Problem("fitting.near_force", text)])
    return EpochOrder(len(train), settings.seed, near, settings.is_near)


def _module(settings: Training, start: Start, steps: int) -> Any:
    """Lightning's module of a training whose epochs have so many steps."""
    from pipeline.training.lightning_module import HintedModule, SteppedModule

    arranged = ArrangedM3GNet(start.network, start.hints)
    options, loss = settings.fitting, settings.loss
    optimizer = optimizer_of(arranged.named_parameters(), options)
    parts = parts_of(settings, steps)

    def share(step: int) -> float:
        return rate_at(step, parts, options.warmup_steps, options.final_learning_rate) / options.learning_rate

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    arguments: dict[str, Any] = {
        "model": arranged,
        "element_refs": start.element_energies,
        "data_std": start.scale,
        "loss": _LOSSES[loss.kind],
        "optimizer": optimizer,
        "scheduler": schedule,
        **_weights(loss),
    }
    if settings.hints is None:
        return SteppedModule(**arguments)
    return HintedModule(settings.hints.epochs, settings.hints.weight, **arguments)


def _weights(loss: LossSettings) -> dict[str, float]:
    return {"energy_weight": loss.energy, "force_weight": loss.force, "stress_weight": loss.stress}


def _run(trainer: Any, module: Any, train: Any, validation: Any, checkpoint: Path | None) -> None:
    """Lightning's fit; its exit upon Ctrl-C becomes the KeyboardInterrupt that it was."""
    import signal

    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, train, validation, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice (workers of data loaders, devices it found) from a terminal that it isn't meant for."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(lightning|torchmetrics|matgl|torch_geometric|torch)\b")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
