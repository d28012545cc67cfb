"""Matrix products whose rows do not depend on the rows around them, to the last bit.

A BLAS computes a row with one of several inner loops, by its place in the matrix and by the number of rows, so that
the same row gives other last bits elsewhere. ``row_product`` treats every row alike and suits few rows.
``tile_product`` calls the BLAS on tiles: a row's bits depend on its place modulo :data:`ROWS` and on nothing else, if
the number of rows is a multiple of it.
"""

import numpy as np
from numpy.typing import NDArray

from kernels._jit import fused_jit

Float32Array = NDArray[np.float32]

ROWS = 48
"""A multiple of the rows that the inner loops of today's BLAS libraries take together (4, 6, 8, 12, 16, 24, 48)."""

TILE = 5 * ROWS
"""Rows that go through a network's layers together: about 0.4 MB of activations for layers of 64."""

SMALL = 1_000_000
"""Multiply-adds up to which OpenBLAS, on a processor with AVX-512, multiplies operands where they lie and not copies of
them: a third faster."""


@fused_jit
def row_product(rows: Float32Array, matrix: Float32Array, out: Float32Array) -> None:
    """Write ``rows @ matrix`` to ``out``: (n, k), (k, m) and (n, m) float32."""
    for i in range(len(rows)):
        for j in range(matrix.shape[1]):
            out[i, j] = np.float32(0.0)
        for k in range(matrix.shape[0]):
            factor = rows[i, k]
            for j in range(matrix.shape[1]):
                out[i, j] += factor * matrix[k, j]


@fused_jit
def tile_product(rows: Float32Array, matrix: Float32Array, out: Float32Array) -> None:
    """Write ``rows @ matrix`` to ``out``: (n, k), (k, m) and (n, m) float32, n a multiple of :data:`ROWS`."""
    together = max(SMALL // matrix.size // ROWS, 1) * ROWS
    for begin in range(0, len(rows), together):
        end = min(begin + together, len(rows))
        np.dot(rows[begin:end], matrix, out[begin:end])
