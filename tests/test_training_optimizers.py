"""Optimisers of a training: a badly scaled fit that SOAP ends where AdamW does not, and a second beginning."""

import pytest
import torch

from pipeline.training.fitting_settings import FittingSettings, NetworkSettings
from pipeline.training.network import fresh_network
from pipeline.training.optimizers import forget_moments, optimizer_of
from tests.trainings import SIZES


def fitted(optimizer: str, learning_rate: float, steps: int = 300) -> float:
    """Mean square that is left of a matrix fitted to products with it, along axes that differ a thousandfold."""
    stream = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(16, 16, generator=stream))
    inputs = torch.randn(256, 16, generator=stream) * torch.logspace(0.0, -3.0, 16) @ turned
    wanted = torch.randn(8, 16, generator=stream) @ turned * torch.logspace(0.0, 1.0, 16) @ turned.T
    weights = torch.nn.Parameter(torch.zeros(8, 16))
    chosen = optimizer_of(
        [("weights", weights)], FittingSettings(optimizer=optimizer, learning_rate=learning_rate, weight_decay=0.0)
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
    walk(optimizer_of([("once", once)], settings), once)
    chosen = optimizer_of([("twice", twice)], settings)
    walk(chosen, twice)
    forget_moments(chosen)
    with torch.no_grad():
        twice.zero_()
    walk(chosen, twice)
    assert torch.equal(once, twice)


def test_what_reads_elements_and_radial_functions_has_adams_steps():
    network = fresh_network(NetworkSettings(**SIZES), ("Cu", "Ag", "Au"), 0)
    named = list(network.named_parameters())
    chosen = optimizer_of(named, FittingSettings(optimizer="soap"))
    turned, plain = (group["params"] for group in chosen.param_groups)
    assert len(turned) + len(plain) == len(named)
    name_of = {id(parameter): name for name, parameter in named}
    layers = {".".join(name_of[id(parameter)].split(".")[-3:-1]) for parameter in plain}
    assert {"embedding.layer_node_embedding", "conv.edge_weight_func", "conv.node_weight_func"} <= layers
    assert all("update_func" in name_of[id(p)] or "final_layer" in name_of[id(p)] for p in turned)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    chosen.step()
    assert all(not len(basis) for parameter in plain for basis in chosen.state[parameter]["GG"])
    assert all(len(basis) for parameter in turned if parameter.ndim == 2 for basis in chosen.state[parameter]["GG"])
