"""SiLU: torch's values, and derivatives up to the second against finite differences."""

import torch

from pipeline.surrogates.silu import silu


def test_values_and_both_derivatives():
    x = torch.linspace(-6.0, 6.0, 41, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(silu(x), torch.nn.functional.silu(x))
    assert torch.autograd.gradcheck(silu, x)
    assert torch.autograd.gradgradcheck(silu, x)


def test_second_derivative_is_the_closed_form():
    x = torch.tensor([0.0, 1.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(silu(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    s = torch.sigmoid(x.detach())
    torch.testing.assert_close(curvature, s * (1 - s) * (2 + x.detach() * (1 - 2 * s)))
    assert curvature[0] == 0.5
