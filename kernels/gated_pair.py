"""A gated network of one layer, SiLU(value) * logistic(gate), and the gradient through it."""

import numpy as np
from numpy.typing import NDArray

from kernels._jit import fused_jit
from kernels.activations import logistic

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

_ONE = np.float32(1.0)


@fused_jit
def gated_pair_forward(hidden: Float32Array, target: Float32Array, rows: IntArray, factors: Float32Array) -> None:
    """Add SiLU(value) * logistic(gate), of a gated network of one layer, to rows of ``target``.

    Parameters
    ----------
    hidden : (C, 2 M) float32
        Value and gate before their activation.
    target : (rows, M) float32
        What the products are added to.
    rows : (C,) int64
        Row of each.
    factors : (C, 2 M) float32
        Receive the products' derivatives by value and by gate.
    """
    width = target.shape[1]
    for c in range(len(hidden)):
        row = rows[c]
        for h in range(width):
            x = hidden[c, h]
            s = logistic(x)
            g = logistic(hidden[c, width + h])
            target[row, h] += x * s * g
            factors[c, h] = g * s * (_ONE + x * (_ONE - s))
            factors[c, width + h] = x * s * g * (_ONE - g)


@fused_jit
def gated_pair_backward(gradient: Float32Array, rows: IntArray, factors: Float32Array, hidden: Float32Array) -> None:
    """Gradient through :func:`gated_pair_forward`.

    Parameters
    ----------
    gradient : (rows, M) float32
        With respect to ``target``.
    rows, factors
        As the forward pass had and left them.
    hidden : (C, 2 M) float32
        Receives the gradient with respect to ``hidden``.
    """
    width = gradient.shape[1]
    for c in range(len(hidden)):
        row = rows[c]
        for h in range(width):
            hidden[c, h] = gradient[row, h] * factors[c, h]
            hidden[c, width + h] = gradient[row, h] * factors[c, width + h]
