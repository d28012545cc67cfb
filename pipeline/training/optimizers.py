"""The optimiser of a training: AdamW, or Adam's moments in the eigenbases of Shampoo (SOAP).

SOAP (Vyas et al., ICLR 2025) keeps, for each matrix of weights, the mean outer products of its gradients along rows
and columns, and takes Adam's steps in their eigenbases. Matrices here are of 64 or so, so that it costs little beside
a step's derivatives. Its implementation is pytorch-optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from pipeline.training.fitting_settings import FittingSettings


def optimizer_of(parameters: Iterable[torch.nn.Parameter], settings: FittingSettings) -> torch.optim.Optimizer:
    """The optimiser that the settings name, with their largest learning rate and their weight decay."""
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    from pytorch_optimizer import SOAP

    return SOAP(parameters, **options)


def forget_moments(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimiser begin anew: no moments, no eigenbases, no steps."""
    optimizer.state.clear()
    for group in optimizer.param_groups:
        if "step" in group:
            group["step"] = 0
