"""Edges with each crystal's filled up to a multiple, so that an edge's place does not depend on the batch."""

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@jit
def fill_edges(
    source: IntArray,
    destination: IntArray,
    vectors: FloatArray,
    edges: IntArray,
    multiple: int,
    padded_source: IntArray,
    padded_destination: IntArray,
    padded_vectors: FloatArray,
    places: IntArray,
) -> None:
    """Copy edges, each crystal's from a multiple of ``multiple`` on.

    Parameters
    ----------
    source, destination : (E,) int64
        Atoms of each edge, crystal after crystal.
    vectors : (E, 3) float64
        Å.
    edges : (B,) int64
        Edges of each crystal.
    multiple : int
        What each crystal's edges are filled up to.
    padded_source, padded_destination, padded_vectors
        Receive the edges; what lies between crystals is left as it was.
    places : (E,) int64
        Receive the row of each edge in the padded arrays.
    """
    start, row = 0, 0
    for b in range(len(edges)):
        for k in range(edges[b]):
            e, p = start + k, row + k
            padded_source[p] = source[e]
            padded_destination[p] = destination[e]
            for a in range(3):
                padded_vectors[p, a] = vectors[e, a]
            places[e] = p
        start += edges[b]
        row += (edges[b] + multiple - 1) // multiple * multiple
