"""How long a training goes on, and which epoch's weights are kept."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from pipeline.problems import ConfigError
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
    keeper = EpochKeeper(tmp_path, None, Watcher(), is_near=lambda epoch: epoch in (3, 4))
    model = torch.nn.Linear(1, 1, bias=False)
    trainer = SimpleNamespace(
        max_epochs=7, should_stop=False, save_checkpoint=lambda path: None, callback_metrics=defaultdict(float)
    )
    kept = []
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 5.0, 6.0, 7.0, 4.0]):
        trainer.current_epoch, trainer.callback_metrics["val_Total_Loss"] = epoch, loss
        torch.nn.init.constant_(model.weight, epoch)
        keeper.on_train_epoch_end(trainer, SimpleNamespace(model=model, device=torch.device("cpu")))
        kept.append((keeper.best_epoch, torch.load(tmp_path / "best.pt", weights_only=True)["weight"].item()))
    assert kept == [(1, 0.0), (2, 1.0), (2, 1.0), (4, 3.0), (5, 4.0), (5, 4.0), (7, 6.0)]


RESTARTS = [{"epochs": 3, "near_epochs": 2, "learning_rate": 0.005}]


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
def test_a_restart_added_to_a_finished_training_equals_one_that_was_there(labels, tmp_path, optimizer):
    fitting = {"max_epochs": 3, "near_epochs": 1, "near_force": 1.0, "optimizer": optimizer}
    further = {**fitting, "restarts": RESTARTS}
    whole = train(settings(tmp_path / "whole", labels, fitting=further), Watcher(), {})
    first = train(settings(tmp_path / "later", labels, fitting=fitting), Watcher(), {})
    assert first.finished
    later = train(settings(tmp_path / "later", labels, fitting=further), Watcher(), {})
    assert later.finished
    assert later.card["fit"]["best_epoch"] == 6
    assert curve(later.folder) == curve(whole.folder)
    one, other = (torch.load(outcome.folder / "state.pt", weights_only=True) for outcome in (whole, later))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_no_restart_is_changed_or_taken_back(labels, tmp_path):
    def given(*restarts):
        return settings(tmp_path, labels, fitting={"max_epochs": 1, "restarts": restarts})

    assert train(given(*RESTARTS), Watcher(), {}).finished
    for other in ([], [{**RESTARTS[0], "learning_rate": 0.01}]):
        with pytest.raises(ConfigError, match="holds a training with another fitting; go on with the same"):
            train(given(*other), Watcher(), {})


def test_which_epochs_are_near(tmp_path):
    restarts = [{"epochs": 2}, {"epochs": 1, "near_epochs": 1}]
    fitting = settings(tmp_path, tmp_path, fitting={"max_epochs": 3, "near_epochs": 1, "restarts": restarts}).fitting
    assert fitting.all_epochs == 6
    assert [epoch for epoch in range(8) if fitting.is_near(epoch)] == [2, 5]


@pytest.mark.parametrize(
    ("fitting", "words"),
    [
        ({"restarts": [{"epochs": 2, "near_epochs": 3}]}, "near_epochs is 3, of 2 epochs; write fewer, or more epochs"),
        ({"restarts": RESTARTS, "patience": 2}, r"patience \(2\) could end the training before its restarts begin"),
    ],
)
def test_restarts_that_cannot_be_are_refused(tmp_path, fitting, words):
    with pytest.raises(ValidationError, match=words):
        settings(tmp_path, tmp_path, fitting=fitting)
