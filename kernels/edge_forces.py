"""Forces and virials from the gradient of an energy by edge vectors."""

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@jit
def edge_forces(
    source: IntArray,
    destination: IntArray,
    owners: IntArray,
    vectors: FloatArray,
    gradient: FloatArray,
    forces: FloatArray,
    virial: FloatArray,
) -> None:
    """Sum an energy's gradient by edge vectors into forces and virials.

    An edge vector is r_destination - r_source, and a strain turns it into (1 + strain) vector.

    Parameters
    ----------
    source, destination : (E,) int64
        Atoms of each edge.
    owners : (N,) int64
        Crystal of each atom.
    vectors, gradient : (E, 3) float64
        Å and eV/Å.
    forces : (N, 3) float64
        Receive minus the gradient by positions; zero before.
    virial : (B, 3, 3) float64
        Receive the gradient by strain (not symmetrised), eV; zero before.
    """
    for e in range(len(source)):
        i, j = source[e], destination[e]
        b = owners[i]
        for a in range(3):
            pull = gradient[e, a]
            forces[i, a] += pull
            forces[j, a] -= pull
            for c in range(3):
                virial[b, c, a] += vectors[e, c] * pull
