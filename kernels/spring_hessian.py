"""A model of a crystal's Hessian: springs between neighbours, for atoms and strain together.

The energy of a pair at r with the displacement d = u_j - u_i + strain r is k/2 ((1 - t) (d.r/|r|)^2 + t d^2). Its
stiffness k falls exponentially with the distance over the nearest neighbours', as in the preconditioner of Packwood et
al., J. Chem. Phys. 2016, 144, 164109, Eq. 8; springs along the bond, and their coupling to the strain, make it a
Hessian also of the cell's shape.
"""

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit
from kernels.quasi_newton import BoolArray, factorise, parts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STIFFNESS = 3.0
"""eV/Å², of a pair at the nearest neighbours' distance."""

DECAY = 6.0
"""Of the stiffness, per distance over the nearest neighbours' minus 1."""

TRANSVERSE = 0.1
"""Stiffness against a displacement across the bond, as a part of that along it."""

ANCHOR = 0.05
"""eV/Å², of a spring that holds each atom, and of each strain per atom (eV): no mode is without stiffness."""

_FAR = 9.0  # Å; the distance of the nearest neighbour of an atom that has none
_HALF = math.sqrt(0.5)


@jit
def strain_shift(vector: FloatArray, out: FloatArray) -> None:
    """Write (3, 6) how a vector moves with each strain of :func:`spring_hessian`."""
    out[:] = 0.0
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        out[a, a] = vector[a]
        # the strain 3 + a has the entries (b, c) and (c, b)
        out[b, 3 + a] = _HALF * vector[c]
        out[c, 3 + a] = _HALF * vector[b]


@jit
def spring_hessian(
    source: IntArray, destination: IntArray, vectors: FloatArray, n_atoms: int, with_strain: bool
) -> FloatArray:
    """Hessian of one crystal.

    Parameters
    ----------
    source, destination : (E,) int64
        Directed pairs, each bond twice.
    vectors : (E, 3) float64
        Å.
    n_atoms : int
        Atoms n.
    with_strain : bool
        Whether the strain is among the variables.

    Returns
    -------
    (3 n + 6, 3 n + 6) or (3 n, 3 n) float64
        eV/Å², eV/Å and eV; positive definite. Strains are xx, yy, zz and sqrt(2) times yz, xz, xy.
    """
    first = 3 * n_atoms
    size = first + 6 if with_strain else first
    hessian = np.zeros((size, size))
    nearest = np.full(n_atoms, _FAR)
    for e in range(len(source)):
        nearest[source[e]] = min(nearest[source[e]], math.sqrt(np.sum(vectors[e] ** 2)))
    spring = np.empty((3, 3))
    shift = np.empty((3, 6))
    for e in range(len(source)):
        i, j = source[e], destination[e]
        vector = vectors[e]
        distance = math.sqrt(np.sum(vector**2))
        if distance < 1e-6:  # no direction; such a crystal fails
            continue
        stiffness = 0.5 * STIFFNESS * math.exp(-DECAY * (2.0 * distance / (nearest[i] + nearest[j]) - 1.0))
        along = (1.0 - TRANSVERSE) * stiffness / distance**2
        for a in range(3):
            for b in range(3):
                spring[a, b] = along * vector[a] * vector[b]
            spring[a, a] += TRANSVERSE * stiffness
        for a in range(3):
            for b in range(3):
                hessian[3 * i + a, 3 * i + b] += spring[a, b]
                hessian[3 * j + a, 3 * j + b] += spring[a, b]
                hessian[3 * i + a, 3 * j + b] -= spring[a, b]
                hessian[3 * j + a, 3 * i + b] -= spring[a, b]
        if not with_strain:
            continue
        strain_shift(vector, shift)
        for a in range(3):
            for k in range(6):
                pull = 0.0
                for b in range(3):
                    pull += spring[a, b] * shift[b, k]
                hessian[3 * j + a, first + k] += pull
                hessian[3 * i + a, first + k] -= pull
                for m in range(6):
                    hessian[first + m, first + k] += shift[a, m] * pull
    for a in range(first):
        hessian[a, a] += ANCHOR
        for k in range(first, size):
            hessian[k, a] = hessian[a, k]
    for k in range(first, size):
        hessian[k, k] += ANCHOR * n_atoms
    return hessian


@jit
def write_models(
    source: IntArray,
    destination: IntArray,
    vectors: FloatArray,
    edges: IntArray,
    counts: IntArray,
    starts: IntArray,
    sizes: IntArray,
    workspace: FloatArray,
    good: BoolArray,
) -> None:
    """Put the Cholesky factor of each crystal's model Hessian into its block of a workspace.

    Parameters
    ----------
    source, destination, vectors, edges
        Neighbours of B crystals, as :func:`kernels.neighbors.neighbor_list` gives them.
    counts, starts, sizes : (B,) int64
        Atoms, where each block begins, and variables: three an atom, and six with a strain.
    workspace : (W,) float64
        Written.
    good : (B,) bool
        Whether the model is positive definite, which only numbers that are not finite can prevent. Written.
    """
    atom, edge = 0, 0
    for b in range(len(counts)):
        ends = slice(edge, edge + edges[b])
        hessian = spring_hessian(
            source[ends] - atom, destination[ends] - atom, vectors[ends], counts[b], sizes[b] > 3 * counts[b]
        )
        good[b] = factorise(hessian)
        factor, _, _ = parts(workspace, starts[b], sizes[b])
        factor[:] = hessian
        atom += counts[b]
        edge += edges[b]
