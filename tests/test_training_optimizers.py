"""Optimisers of a training: a badly scaled fit that SOAP ends where AdamW does not, and a second beginning."""

import pytest
import torch

from pipeline.training.fitting_settings import FittingSettings
from pipeline.training.optimizers import forget_moments, optimizer_of


def fitted(optimizer: str, learning_rate: float, steps: int = 300) -> float:
    """Mean square that is left of a matrix fitted to products with it, along axes that differ a thousandfold."""
    stream = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(16, 16, generator=stream))
    inputs = torch.randn(256, 16, generator=stream) * torch.logspace(0.0, -3.0, 16) @ turned
    wanted = torch.randn(8, 16, generator=stream) @ turned * torch.logspace(0.0, 1.0, 16) @ turned.T
    weights = torch.nn.Parameter(torch.zeros(8, 16))
    chosen = optimizer_of(
        [weights], FittingSettings(optimizer=optimizer, learning_rate=learning_rate, weight_decay=0.0)
    )
    for step in range(steps):
        chosen.param_groups[0]["lr"] = learning_rate * (1.0 - step / steps)
        chosen.zero_grad()
        (inputs @ (weights - wanted).T).square().mean().backward()
        chosen.step()
    return float((inputs @ (weights.detach() - wanted).T).square().mean())


def test_soap_does_not_mind_turned_and_stretched_axes():
    rates = (0.01, 0.03, 0.1, 0.3)
    assert min(fitted("soap", rate) for rate in rates) < 0.2 * min(fitted("adamw", rate) for rate in rates)


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
def test_forgotten_moments_are_a_new_beginning(optimizer):
    def walk(chosen: torch.optim.Optimizer, weights: torch.nn.Parameter) -> None:
        stream = torch.Generator().manual_seed(1)
        for _ in range(25):
            weights.grad = torch.randn(4, 6, generator=stream)
            chosen.step()

    settings = FittingSettings(optimizer=optimizer, learning_rate=0.01)
    once, twice = (torch.nn.Parameter(torch.zeros(4, 6)) for _ in range(2))
    walk(optimizer_of([once], settings), once)
    chosen = optimizer_of([twice], settings)
    walk(chosen, twice)
    forget_moments(chosen)
    with torch.no_grad():
        twice.zero_()
    walk(chosen, twice)
    assert torch.equal(once, twice)
