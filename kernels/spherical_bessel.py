"""Radial basis of M3GNet: spherical Bessel functions that vanish at the cutoff, and their derivatives."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]


@jit
def spherical_bessel_basis(
    distances: FloatArray,
    roots: FloatArray,
    norms: FloatArray,
    cutoff: float,
    values: Float32Array,
    slopes: Float32Array,
) -> None:
    """Values and derivatives of norm_ln j_l(root_ln r / cutoff), l < 3.

    Kocer, Mason and Erturk, J. Chem. Phys. 2019, 150, 154102; j_l' = j_(l-1) - (l + 1) / x j_l.

    Parameters
    ----------
    distances : (n,) float64
        Å; beyond the cutoff they count as the cutoff, with derivative zero.
    roots, norms : (3, m) float64
        Zeros of j_l, and factors.
    cutoff : float
        Å.
    values : (n, 3 m) float32
        Receive the functions, l by l.
    slopes : (n, 3 m) float32
        Receive their derivatives, 1/Å.
    """
    m = roots.shape[1]
    for e in range(len(distances)):
        inside = distances[e] <= cutoff
        scaled = distances[e] / cutoff if inside else 1.0
        for order in range(3):
            for k in range(m):
                x = roots[order, k] * scaled
                sine, cosine = math.sin(x), math.cos(x)
                j0 = sine / x
                j1 = (j0 - cosine) / x
                if order == 0:
                    value, slope = j0, -j1
                elif order == 1:
                    value, slope = j1, j0 - 2.0 / x * j1
                else:
                    value = 3.0 / x * j1 - j0
                    slope = j1 - 3.0 / x * value
                norm = norms[order, k]
                values[e, order * m + k] = norm * value
                slopes[e, order * m + k] = norm * slope * roots[order, k] / cutoff if inside else 0.0
