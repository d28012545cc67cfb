"""The optimiser of a training: AdamW, or Adam's moments in the eigenbases of Shampoo (SOAP).

SOAP (Vyas et al., ICLR 2025) keeps, for each matrix of weights, the mean outer products of its gradients along rows
and columns, and takes Adam's steps in their eigenbases. Matrices here are of 64 or so, so that it costs little beside
a step's derivatives. Its implementation is pytorch-optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter

from pipeline.training.fitting_settings import FittingSettings

_PLAIN = ("layer_node_embedding", "layer_edge_embedding", "weight_func", "three_body_interactions")
"""Layers of matgl's M3GNet that read elements, or radial and angular functions, which overlap: steps as long along what
hardly changes the output as along the rest make their weights grow until the network fails on a rare distance."""


def optimizer_of(named: Iterable[tuple[str, Parameter]], settings: FittingSettings) -> torch.optim.Optimizer:
    """The optimiser that the settings name, with their largest learning rate and their weight decay.

    Parameters
    ----------
    named : iterable of (str, Parameter)
        Of the network. SOAP's bases are those of the matrices between features; others have Adam's steps.
    settings : FittingSettings
        Name and rates.
    """
    options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    known = list(named)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW([parameter for _, parameter in known], **options)
    from pytorch_optimizer import SOAP

    plain = [any(part in name for part in _PLAIN) for name, _ in known]
    turned, unturned = (
        [p for (_, p), left in zip(known, plain, strict=True) if left is which] for which in (False, True)
    )
    groups: list[dict[str, Any]] = [
        {"params": turned, "betas": (0.95, 0.99)},
        {"params": unturned, "betas": (0.9, 0.999), "max_precondition_dim": 1},
    ]
    return SOAP([group for group in groups if group["params"]], **options)


def forget_moments(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimiser begin anew: no moments, no eigenbases, no steps."""
    optimizer.state.clear()
    for group in optimizer.param_groups:
        if "step" in group:
            group["step"] = 0
