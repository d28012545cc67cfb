"""Gated networks on the edges of graphs: their messages, and the gradient of an energy through them.

A gated network (Chen and Ong, Nat. Comput. Sci. 2022, 2, 718, Eq. 4 and 5) takes (v_i, v_j, e_ij) through two branches
of three layers, SiLU after each but the gate's last, which is a logistic function; the message is the branches'
product times a linear map of the radial basis. The first layer's part on atoms is computed for each atom, not for
each edge.

Edges go through in tiles, so that whatever is not needed again stays in the cache. The forward pass leaves the factors
by which the backward pass multiplies: no function is evaluated twice, and weights have no gradient.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels._jit import fused_jit
from kernels.activations import logistic, silu_rows
from kernels.row_products import TILE, tile_product

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

_ONE = np.float32(1.0)


class GatedWeights(NamedTuple):
    """Weights of a gated network with hidden layers of width H and messages of width M, each stored (inputs, outputs).

    Attributes
    ----------
    first : (edge features, 2 H)
        Both branches' first layer, its part on edges: value, then gate.
    value_2, gate_2 : (H, H)
    value_3, gate_3 : (H, M)
    value_bias_2, gate_bias_2 : (H,)
    value_bias_3, gate_bias_3 : (M,)
    radial : (radial basis, M)
    first_back, value_2_back, gate_2_back, value_3_back, gate_3_back, radial_back
        The same matrices transposed.
    """

    first: Float32Array
    value_2: Float32Array
    gate_2: Float32Array
    value_3: Float32Array
    gate_3: Float32Array
    value_bias_2: Float32Array
    gate_bias_2: Float32Array
    value_bias_3: Float32Array
    gate_bias_3: Float32Array
    radial: Float32Array
    first_back: Float32Array
    value_2_back: Float32Array
    gate_2_back: Float32Array
    value_3_back: Float32Array
    gate_3_back: Float32Array
    radial_back: Float32Array


@fused_jit
def _first_activation(
    hidden: Float32Array,
    by_source: Float32Array,
    by_destination: Float32Array,
    source: IntArray,
    destination: IntArray,
    value: Float32Array,
    gate: Float32Array,
    slope: Float32Array,
) -> None:
    """SiLU of the first layer's sum over (edge, source atom, destination atom), and its derivative."""
    half = value.shape[1]
    for e in range(len(source)):
        i, j = source[e], destination[e]
        for h in range(half):
            x = hidden[e, h] + by_source[i, h] + by_destination[j, h]
            s = logistic(x)
            value[e, h] = x * s
            slope[e, h] = s * (_ONE + x * (_ONE - s))
        for h in range(half):
            x = hidden[e, half + h] + by_source[i, half + h] + by_destination[j, half + h]
            s = logistic(x)
            gate[e, h] = x * s
            slope[e, half + h] = s * (_ONE + x * (_ONE - s))


@fused_jit
def _message(
    value: Float32Array,
    gate: Float32Array,
    value_bias: Float32Array,
    gate_bias: Float32Array,
    radial: Float32Array,
    message: Float32Array,
    factors: Float32Array,
) -> None:
    """SiLU(value) * logistic(gate) * radial, and its derivatives by value, gate and radial, side by side.

    ``value`` and ``gate`` are before their activation and bias, and are overwritten.
    """
    width = value.shape[1]
    for e in range(len(value)):
        # Short loops over few arrays: a compiler makes no vectors of one loop over all of them.
        for h in range(width):
            x = value[e, h] + value_bias[h]
            s = logistic(x)
            value[e, h] = x * s
            factors[e, h] = s * (_ONE + x * (_ONE - s))
        for h in range(width):
            g = logistic(gate[e, h] + gate_bias[h])
            gate[e, h] = g
            factors[e, width + h] = g * (_ONE - g)
        for h in range(width):
            factors[e, h] *= gate[e, h] * radial[e, h]
        for h in range(width):
            factors[e, width + h] *= value[e, h] * radial[e, h]
        for h in range(width):
            factors[e, 2 * width + h] = value[e, h] * gate[e, h]
        for h in range(width):
            message[e, h] = factors[e, 2 * width + h] * radial[e, h]


@fused_jit
def gated_forward(
    weights: GatedWeights,
    edges: Float32Array,
    by_source: Float32Array,
    by_destination: Float32Array,
    source: IntArray,
    destination: IntArray,
    radial: Float32Array,
    target: Float32Array,
    rows: IntArray,
    slope_1: Float32Array,
    slope_2: Float32Array,
    factors: Float32Array,
) -> None:
    """Add each edge's message to a row of ``target``.

    Parameters
    ----------
    weights : GatedWeights
        H hidden features, messages of M.
    edges : (E, F) float32
        Edge features.
    by_source, by_destination : (N, 2 H) float32
        First layer's part of each atom as an edge's source and as its destination (bias included in one of them).
    source, destination : (E,) int64
        Atoms of each edge.
    radial : (E, R) float32
        Radial basis.
    target : (rows, M) float32
        What messages are added to; may be ``edges``, row by row.
    rows : (E,) int64
        Row of each edge's message.
    slope_1, slope_2 : (E, 2 H) float32
        Receive the derivatives of the hidden layers.
    factors : (E, 3 M) float32
        Receive the derivatives of the message.
    """
    count, hidden = len(source), weights.value_2.shape[0]
    width = weights.value_3.shape[1]
    tile = min(TILE, count)
    first = np.empty((tile, 2 * hidden), np.float32)
    value, gate = np.empty((tile, hidden), np.float32), np.empty((tile, hidden), np.float32)
    value_next, gate_next = np.empty((tile, hidden), np.float32), np.empty((tile, hidden), np.float32)
    value_last, gate_last = np.empty((tile, width), np.float32), np.empty((tile, width), np.float32)
    weight, message = np.empty((tile, width), np.float32), np.empty((tile, width), np.float32)
    for begin in range(0, count, TILE):
        end = min(begin + TILE, count)
        n = end - begin
        tile_product(edges[begin:end], weights.first, first[:n])
        _first_activation(
            first[:n],
            by_source,
            by_destination,
            source[begin:end],
            destination[begin:end],
            value[:n],
            gate[:n],
            slope_1[begin:end],
        )
        tile_product(value[:n], weights.value_2, value_next[:n])
        tile_product(gate[:n], weights.gate_2, gate_next[:n])
        silu_rows(value_next[:n], weights.value_bias_2, value[:n], slope_2[begin:end], 0)
        silu_rows(gate_next[:n], weights.gate_bias_2, gate[:n], slope_2[begin:end], hidden)
        tile_product(value[:n], weights.value_3, value_last[:n])
        tile_product(gate[:n], weights.gate_3, gate_last[:n])
        tile_product(radial[begin:end], weights.radial, weight[:n])
        _message(
            value_last[:n],
            gate_last[:n],
            weights.value_bias_3,
            weights.gate_bias_3,
            weight[:n],
            message[:n],
            factors[begin:end],
        )
        for e in range(n):
            row = rows[begin + e]
            for h in range(width):
                target[row, h] += message[e, h]


@fused_jit
def gated_backward(
    weights: GatedWeights,
    gradient: Float32Array,
    rows: IntArray,
    source: IntArray,
    destination: IntArray,
    slope_1: Float32Array,
    slope_2: Float32Array,
    factors: Float32Array,
    edges: Float32Array,
    by_source: Float32Array,
    by_destination: Float32Array,
    radial: Float32Array,
) -> None:
    """Add the gradient through :func:`gated_forward` to the gradients of its inputs.

    Parameters
    ----------
    weights : GatedWeights
        As in the forward pass, like the arrays of the same names there.
    gradient : (rows, M) float32
        With respect to ``target`` after the messages; may be ``edges``, row by row.
    rows, source, destination, slope_1, slope_2, factors
        As the forward pass had and left them.
    edges : (E, F) float32
        Receives the gradient with respect to the edge features.
    by_source, by_destination : (N, 2 H) float32
        Receive that with respect to the atoms' parts of the first layer.
    radial : (E, R) float32
        Receives that with respect to the radial basis.
    """
    count, hidden = len(source), weights.value_2.shape[0]
    width = weights.value_3.shape[1]
    tile = min(TILE, count)
    value, gate = np.empty((tile, width), np.float32), np.empty((tile, width), np.float32)
    weight = np.empty((tile, width), np.float32)
    value_2, gate_2 = np.empty((tile, hidden), np.float32), np.empty((tile, hidden), np.float32)
    value_1, gate_1 = np.empty((tile, hidden), np.float32), np.empty((tile, hidden), np.float32)
    first = np.empty((tile, 2 * hidden), np.float32)
    edge, basis = np.empty((tile, edges.shape[1]), np.float32), np.empty((tile, radial.shape[1]), np.float32)
    for begin in range(0, count, TILE):
        end = min(begin + TILE, count)
        n = end - begin
        for e in range(n):
            row, k = rows[begin + e], begin + e
            for h in range(width):
                value[e, h] = gradient[row, h] * factors[k, h]
            for h in range(width):
                gate[e, h] = gradient[row, h] * factors[k, width + h]
            for h in range(width):
                weight[e, h] = gradient[row, h] * factors[k, 2 * width + h]
        tile_product(weight[:n], weights.radial_back, basis[:n])
        tile_product(value[:n], weights.value_3_back, value_2[:n])
        tile_product(gate[:n], weights.gate_3_back, gate_2[:n])
        for e in range(n):
            k = begin + e
            for h in range(hidden):
                value_2[e, h] *= slope_2[k, h]
            for h in range(hidden):
                gate_2[e, h] *= slope_2[k, hidden + h]
            for h in range(basis.shape[1]):
                radial[k, h] += basis[e, h]
        tile_product(value_2[:n], weights.value_2_back, value_1[:n])
        tile_product(gate_2[:n], weights.gate_2_back, gate_1[:n])
        for e in range(n):
            k = begin + e
            i, j = source[k], destination[k]
            for h in range(hidden):
                first[e, h] = value_1[e, h] * slope_1[k, h]
            for h in range(hidden):
                first[e, hidden + h] = gate_1[e, h] * slope_1[k, hidden + h]
            for h in range(2 * hidden):
                by_source[i, h] += first[e, h]
            for h in range(2 * hidden):
                by_destination[j, h] += first[e, h]
        tile_product(first[:n], weights.first_back, edge[:n])
        for e in range(n):
            for h in range(edges.shape[1]):
                edges[begin + e, h] += edge[e, h]
