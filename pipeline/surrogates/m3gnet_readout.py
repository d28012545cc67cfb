"""M3GNet's readout: the energy of each atom from its features, and the gradient of their sum."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.activations import logistic_rows, silu_rows
from kernels.row_products import row_product
from pipeline.surrogates.m3gnet_layers import Float32Array, layer_matrix, layer_vector

FloatArray = NDArray[np.float64]


class _Branch:
    """Linear layers with SiLU between them; the last one's output is left as it is."""

    def __init__(self, layers: Any) -> None:
        linear = [layer for layer in layers if hasattr(layer, "weight")]
        self.matrices = [layer_matrix(layer.weight) for layer in linear]
        self.back = [np.ascontiguousarray(matrix.T) for matrix in self.matrices]
        self.biases = [layer_vector(layer.bias) for layer in linear]

    def forward(self, rows: Float32Array) -> tuple[Float32Array, list[Float32Array]]:
        """(n, 1) outputs before the last bias, and the derivatives of the activations."""
        slopes = []
        for matrix, bias in zip(self.matrices[:-1], self.biases[:-1], strict=True):
            hidden = np.empty((len(rows), matrix.shape[1]), np.float32)
            row_product(rows, matrix, hidden)
            slope = np.empty_like(hidden)
            silu_rows(hidden, bias, hidden, slope)
            slopes.append(slope)
            rows = hidden
        out = np.empty((len(rows), 1), np.float32)
        row_product(rows, self.matrices[-1], out)
        return out, slopes

    def backward(self, gradient: Float32Array, slopes: list[Float32Array]) -> Float32Array:
        """(n, features) gradient from that with respect to the (n, 1) outputs."""
        for k in range(len(self.back) - 1, -1, -1):
            before = np.empty((len(gradient), self.back[k].shape[1]), np.float32)
            row_product(gradient, self.back[k], before)
            if k:
                before *= slopes[k - 1]
            gradient = before
        return gradient


class Readout:
    """Product of a value and a logistic gate for each atom (matgl's ``WeightedReadOut``)."""

    def __init__(self, gated: Any) -> None:
        self._value, self._gate = _Branch(gated.layers), _Branch(gated.gates)

    def energies_and_gradient(self, nodes: Float32Array) -> tuple[FloatArray, Float32Array]:
        """(N,) energies from (N, features), and the gradient of their sum."""
        value, value_slopes = self._value.forward(nodes)
        gate, gate_slopes = self._gate.forward(nodes)
        value += self._value.biases[-1]
        logistic_rows(gate, self._gate.biases[-1], gate)
        gradient = self._value.backward(gate, value_slopes)
        gradient += self._gate.backward(value * gate * (np.float32(1.0) - gate), gate_slopes)
        energies: FloatArray = (value * gate)[:, 0].astype(np.float64)
        return energies, gradient
