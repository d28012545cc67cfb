"""The learning rate of each step, against torch's own schedules."""

import pytest
import torch

from pipeline.training.fitting_settings import HintSettings
from pipeline.training.rates import Part, parts_of, rate_at
from tests.trainings import alloy_training

LABELS = Part(steps=41, learning_rate=0.02)


def rates(parts, warmup, final, steps):
    return [rate_at(step, parts, warmup, final) for step in range(steps)]


def test_without_a_rise_it_is_the_cosine_of_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=2e-4)
    expected = []
    for _ in range(41):
        expected += cosine.get_last_lr()
        optimizer.step()
        cosine.step()
    assert rates([LABELS], 0, 0.01, 41) == pytest.approx(expected, rel=1e-9)


def test_it_rises_at_first():
    plain, risen = rates([LABELS], 0, 0.01, 41), rates([LABELS], 3, 0.01, 41)
    assert [r / p for r, p in zip(risen, plain, strict=True)] == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 38])


def test_the_rise_is_no_more_than_a_tenth():
    plain, risen = rates([LABELS], 0, 0.01, 41), rates([LABELS], 100, 0.01, 41)
    assert [r / p for r, p in zip(risen, plain, strict=True)] == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1.0] * 37])
    assert rates([Part(1, 0.02)], 100, 0.01, 1) == [0.02]


def test_each_part_has_its_own():
    hints = Part(steps=31, learning_rate=0.1)
    both = rates([hints, LABELS], 2, 0.01, 72)
    assert both == rates([hints], 2, 0.01, 31) + rates([LABELS], 2, 0.01, 41)
    assert both[30] == pytest.approx(0.001)
    assert rate_at(72, [hints, LABELS], 2, 0.01) == pytest.approx(2e-4)  # torch asks once more after the last step


def test_no_hint_epochs_are_no_part():
    assert rate_at(0, [Part(0, 0.1), LABELS], 0, 0.01) == 0.02


def test_parts_of_a_training(tmp_path):
    plain = alloy_training(tmp_path, tmp_path / "alloys.parquet")
    assert parts_of(plain, 5) == [Part(40, 0.02)]
    hinted = plain.model_copy(update={"hints": HintSettings(epochs=3, learning_rate=0.01)})
    assert parts_of(hinted, 5) == [Part(15, 0.01), Part(25, 0.02)]
    restarts = [{"epochs": 2, "learning_rate": 0.003}, {"epochs": 1, "learning_rate": 0.001}]
    again = alloy_training(tmp_path, tmp_path / "alloys.parquet", fitting={"restarts": restarts})
    assert parts_of(again, 5) == [Part(40, 0.02), Part(10, 0.003), Part(5, 0.001)]
