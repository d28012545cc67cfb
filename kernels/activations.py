"""Logistic function and SiLU with their derivatives, in float32, written so that a compiler makes vectors of them."""

import numpy as np
from numpy.typing import NDArray

from kernels._jit import fused_jit

Float32Array = NDArray[np.float32]

_LOG2_E = np.float32(1.4426950408889634)
_LARGEST = np.float32(126.0)
# Added and taken away again, it rounds a float32 to a whole number, and leaves that number in its lowest bits.
_ROUNDER = np.float32(12582912.0)
_EXPONENT_OF_ONE = np.int32(127 << 23)
_MANTISSA_BITS = np.int32(23)
_ONE = np.float32(1.0)
# 2^f on [-1/2, 1/2]: the polynomial of sixth order that is 1 at 0 and has the least relative error, 2e-9.
_C1, _C2, _C3 = np.float32(6.931472029e-1), np.float32(2.402264791e-1), np.float32(5.550332471e-2)
_C4, _C5, _C6 = np.float32(9.618437359e-3), np.float32(1.339887459e-3), np.float32(1.535336206e-4)


@fused_jit
def logistic(x: np.float32) -> np.float32:
    """1 / (1 + exp(-x)) to an absolute 2e-7, without a call to a library."""
    power = min(max(-x * _LOG2_E, -_LARGEST), _LARGEST)
    rounded = np.float32(power + _ROUNDER)
    rest = power - (rounded - _ROUNDER)
    series = _ONE + rest * (_C1 + rest * (_C2 + rest * (_C3 + rest * (_C4 + rest * (_C5 + rest * _C6)))))
    scale = np.int32((rounded.view(np.int32) << _MANTISSA_BITS) + _EXPONENT_OF_ONE).view(np.float32)
    return _ONE / (_ONE + series * scale)


@fused_jit
def silu_rows(
    hidden: Float32Array, bias: Float32Array, out: Float32Array, slope: Float32Array, column: int = 0
) -> None:
    """SiLU of a layer's rows, and its derivative.

    Parameters
    ----------
    hidden : (n, width) float32
        Rows before the bias.
    bias : (width,) float32
        Added to each.
    out : (n, width) float32
        Receives SiLU; may be ``hidden``.
    slope : (n, column + width or more) float32
        Receives the derivative, from ``column`` on.
    """
    width = hidden.shape[1]
    for e in range(len(hidden)):
        for h in range(width):
            x = hidden[e, h] + bias[h]
            s = logistic(x)
            out[e, h] = x * s
            slope[e, column + h] = s * (_ONE + x * (_ONE - s))


@fused_jit
def logistic_rows(hidden: Float32Array, bias: Float32Array, out: Float32Array) -> None:
    """Logistic function of (n, width) rows plus a bias (width,); ``out`` may be ``hidden``."""
    for e in range(len(hidden)):
        for h in range(hidden.shape[1]):
            out[e, h] = logistic(hidden[e, h] + bias[h])
