"""The learning rate of each step: a short rise, then a cosine, in each part of a training anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.training.settings import Training


@dataclass(frozen=True)
class Part:
    """Steps between a rise of the learning rate and the next (hints, labels, a restart), and the largest among them."""

    steps: int
    learning_rate: float


def parts_of(settings: Training, steps: int) -> list[Part]:
    """The parts of a training whose epochs have so many steps each: hints, if there are some, labels, restarts."""
    hints, fitting = settings.hints, settings.fitting
    hinted = 0 if hints is None else hints.epochs
    return [
        *([] if hints is None else [Part(hinted * steps, hints.learning_rate)]),
        Part((fitting.max_epochs - hinted) * steps, fitting.learning_rate),
        *(Part(restart.epochs * steps, restart.learning_rate) for restart in fitting.restarts),
    ]


def rate_at(step: int, parts: Sequence[Part], warmup_steps: int, final: float) -> float:
    """Learning rate of a step.

    Parameters
    ----------
    step : int
        Counted from 0 over all parts; steps beyond the last have its rate.
    parts : sequence of Part
        One after the other.
    warmup_steps : int
        The first of each part, in which the rate rises linearly; at most a tenth of the part.
    final : float
        Rate of a part's last step, as a share of its largest.
    """
    for part in parts[:-1]:
        if step < part.steps:
            break
        step -= part.steps
    else:
        part = parts[-1]
    done = min(step / max(part.steps - 1, 1), 1.0)
    rise = min((step + 1) / (min(warmup_steps, part.steps // 10) + 1), 1.0)
    return part.learning_rate * rise * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done)))
