"""How long a training goes on, and which epoch's weights are kept."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.surrogates import load_potential
from pipeline.training.progress import EpochKeeper, Watcher
from pipeline.training.session import train
from tests.labels import write_alloys
from tests.trainings import alloy_training as settings
from tests.trainings import crystals, curve


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_alloys(tmp_path_factory.mktemp("labels") / "alloys.parquet", 40)


def test_time_limit_stops_cleanly_and_goes_on(labels, tmp_path):
    brief = settings(tmp_path, labels, fitting={"max_epochs": 2, "max_minutes": 1e-6})
    first = train(brief, Watcher(), {})
    assert not first.finished
    assert "max_minutes ended it" in (first.folder / "card.md").read_text()
    assert load_potential(first.folder).evaluate(crystals())[0].error is None
    assert train(brief, Watcher(), {}).finished
    assert [row["epoch"] for row in curve(first.folder)] == [1, 2]


def test_early_stopping(labels, tmp_path):
    # Steps so large that an epoch soon is worse than the one before.
    hasty = settings(tmp_path, labels, fitting={"patience": 1})
    assert train(hasty, Watcher(), {}).finished
    losses = [row["validation_loss"] for row in curve(hasty.folder)]
    assert len(losses) < 8
    assert losses[-1] > min(losses[:-1])


def test_best_weights_are_kept_and_those_after_each_near_epoch(tmp_path):
    keeper = EpochKeeper(tmp_path, None, Watcher(), near_from=3)
    model = torch.nn.Linear(1, 1, bias=False)
    trainer = SimpleNamespace(
        max_epochs=5, should_stop=False, save_checkpoint=lambda path: None, callback_metrics=defaultdict(float)
    )
    kept = []
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 5.0, 6.0]):
        trainer.current_epoch, trainer.callback_metrics["val_Total_Loss"] = epoch, loss
        torch.nn.init.constant_(model.weight, epoch)
        keeper.on_train_epoch_end(trainer, SimpleNamespace(model=model, device=torch.device("cpu")))
        kept.append((keeper.best_epoch, torch.load(tmp_path / "best.pt", weights_only=True)["weight"].item()))
    assert kept == [(1, 0.0), (2, 1.0), (2, 1.0), (4, 3.0), (5, 4.0)]
