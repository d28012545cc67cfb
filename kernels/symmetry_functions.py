"""Radial symmetry functions: what surrounds an atom, one channel for each kind of neighbour."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@jit
def _add_pairs(
    source: IntArray,
    channel: IntArray,
    distances: FloatArray,
    centres: FloatArray,
    width: float,
    cutoff: float,
    out: FloatArray,
) -> None:
    for edge in range(source.shape[0]):
        distance = distances[edge]
        if distance >= cutoff:
            continue
        weight = 0.5 * (math.cos(math.pi * distance / cutoff) + 1.0)
        for k in range(centres.shape[0]):
            shift = distance - centres[k]
            out[source[edge], channel[edge], k] += weight * math.exp(-width * shift * shift)


def radial_symmetry_functions(
    source: IntArray,
    channel: IntArray,
    distances: FloatArray,
    shape: tuple[int, int],
    centres: FloatArray,
    width: float,
    cutoff: float,
) -> FloatArray:
    """Sum Gaussians of the distances to each kind of neighbour, cut off smoothly.

    Behler and Parrinello, Phys. Rev. Lett. 2007, 98, 146401, called G2 in Behler, J. Chem. Phys. 2011, 134, 074106:
    the sum over neighbours j of exp(-width (r_ij - centre)^2) (cos(pi r_ij / cutoff) + 1) / 2, here for each kind of
    neighbour by itself.

    Parameters
    ----------
    source : (E,) int64
        Atom of each directed pair, 0 to N - 1.
    channel : (E,) int64
        Kind of the pair's neighbour, 0 to C - 1.
    distances : (E,) float64
        Å; pairs at the cutoff or beyond count nothing.
    shape : (int, int)
        N and C.
    centres : (K,) float64
        Å.
    width : float
        Å^-2.
    cutoff : float
        Å.

    Returns
    -------
    (N, C, K) float64

    Raises
    ------
    ValueError
        Arrays of unequal length, an atom or a kind that is not there, a cutoff or width that is not positive.
    """
    if not len(source) == len(channel) == len(distances):
        raise ValueError(f"{len(source)} sources, {len(channel)} channels and {len(distances)} distances don't fit")
    if not (np.isfinite([cutoff, width]).all() and cutoff > 0.0 and width > 0.0):
        raise ValueError(f"cutoff (Å) and width (Å^-2) must be positive numbers, got {cutoff} and {width}")
    for name, values, most in (("source", source, shape[0]), ("channel", channel, shape[1])):
        if len(values) and not (values.min() >= 0 and values.max() < most):
            raise ValueError(f"{name} must lie from 0 to {most - 1}, got {values.min()} to {values.max()}")
    out = np.zeros((*shape, len(centres)))
    _add_pairs(
        np.ascontiguousarray(source, np.int64),
        np.ascontiguousarray(channel, np.int64),
        np.ascontiguousarray(distances, np.float64),
        np.ascontiguousarray(centres, np.float64),
        float(width),
        float(cutoff),
        out,
    )
    return out
