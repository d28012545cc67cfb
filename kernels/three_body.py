"""Three-body terms of M3GNet without a list of triplets, and the gradient through them.

Chen and Ong (Nat. Comput. Sci. 2022, 2, 718, Eq. 2) sum, for a bond (i, j), over the other bonds (i, k) of the same
atom: f_ln(r_ik) P_l(cos theta_jik) a_n(k). By the addition theorem P_l of the angle between two unit vectors is a
product of Cartesian tensors of each, so that the sum over k is made once for each atom i (its moments), and the term
k = j, where P_l = 1, taken away again. Cost and memory grow with the number of bonds, not with its square.

Bonds (c) are the edges within the three-body cutoff, sorted by their source. A bond has 3 n radial functions, n for
each l < 3; an atom has 10 n moments: n scalars, n vectors, n symmetric tensors (xx, yy, zz, xy, xz, yz).
"""

import math

import numpy as np
from numpy.typing import NDArray

from kernels._jit import fused_jit

Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

# Y_l0 at the pole: sqrt((2 l + 1) / 4 pi).
_Y0 = np.float32(math.sqrt(1.0 / (4.0 * math.pi)))
_Y1 = np.float32(math.sqrt(3.0 / (4.0 * math.pi)))
_Y2 = np.float32(math.sqrt(5.0 / (4.0 * math.pi)))
_HALF, _TWO, _THREE = np.float32(0.5), np.float32(2.0), np.float32(3.0)
_THREE_HALVES = np.float32(1.5)


@fused_jit
def _tensors(x: np.float32, y: np.float32, z: np.float32, product: Float32Array, legendre: Float32Array) -> None:
    """Second moments of a unit vector, and the weights that turn another's into P_2 of the angle between them."""
    product[0], product[1], product[2] = x * x, y * y, z * z
    product[3], product[4], product[5] = x * y, x * z, y * z
    for c in range(3):
        legendre[c] = _THREE_HALVES * product[c] - _HALF
        legendre[3 + c] = _THREE * product[3 + c]


@fused_jit
def three_body_forward(
    source: IntArray,
    destination: IntArray,
    unit: Float32Array,
    basis: Float32Array,
    envelope: Float32Array,
    atoms: Float32Array,
    moments: Float32Array,
    received: Float32Array,
) -> None:
    """Three-body sums of each bond.

    Parameters
    ----------
    source, destination : (C,) int64
        Atoms of each bond, by ascending source.
    unit : (C, 3) float32
        Unit vectors from source to destination.
    basis : (C, 3 n) float32
        Radial functions times the cutoff's envelope, n for l = 0, then l = 1, then l = 2.
    envelope : (C,) float32
        The envelope, which the sums of a bond carry too.
    atoms : (N, 3 n) float32
        Factor of each atom as the end of a bond.
    moments : (N, 10 n) float32
        Receive the atoms' moments; zero before.
    received : (C, 3 n) float32
        Receive the sums.
    """
    n = basis.shape[1] // 3
    product, legendre = np.empty(6, np.float32), np.empty(6, np.float32)
    for c in range(len(source)):
        i, k = source[c], destination[c]
        _tensors(unit[c, 0], unit[c, 1], unit[c, 2], product, legendre)
        for m in range(n):
            moments[i, m] += basis[c, m] * atoms[k, m]
            sent = basis[c, n + m] * atoms[k, n + m]
            for a in range(3):
                moments[i, n + 3 * m + a] += sent * unit[c, a]
            sent = basis[c, 2 * n + m] * atoms[k, 2 * n + m]
            for a in range(6):
                moments[i, 4 * n + 6 * m + a] += sent * product[a]
    for c in range(len(source)):
        i, k = source[c], destination[c]
        _tensors(unit[c, 0], unit[c, 1], unit[c, 2], product, legendre)
        for m in range(n):
            total = moments[i, m] - basis[c, m] * atoms[k, m]
            received[c, m] = _Y0 * envelope[c] * total
            total = -basis[c, n + m] * atoms[k, n + m]
            for a in range(3):
                total += moments[i, n + 3 * m + a] * unit[c, a]
            received[c, n + m] = _Y1 * envelope[c] * total
            total = -basis[c, 2 * n + m] * atoms[k, 2 * n + m]
            for a in range(6):
                total += moments[i, 4 * n + 6 * m + a] * legendre[a]
            received[c, 2 * n + m] = _Y2 * envelope[c] * total


@fused_jit
def three_body_backward(
    gradient: Float32Array,
    source: IntArray,
    destination: IntArray,
    unit: Float32Array,
    basis: Float32Array,
    envelope: Float32Array,
    atoms: Float32Array,
    moments: Float32Array,
    unit_gradient: Float32Array,
    basis_gradient: Float32Array,
    envelope_gradient: Float32Array,
    atoms_gradient: Float32Array,
) -> None:
    """Add the gradient through :func:`three_body_forward` to the gradients of its inputs.

    Parameters
    ----------
    gradient : (C, 3 n) float32
        With respect to ``received``.
    source, destination, unit, basis, envelope, atoms, moments
        As the forward pass had and left them.
    unit_gradient, basis_gradient, envelope_gradient, atoms_gradient
        Receive the gradients; shapes of their namesakes.
    """
    n = basis.shape[1] // 3
    product, legendre = np.empty(6, np.float32), np.empty(6, np.float32)
    product_gradient = np.empty(6, np.float32)
    moments_gradient = np.zeros_like(moments)
    sent_gradient = np.empty_like(basis)
    for c in range(len(source)):
        i, k = source[c], destination[c]
        _tensors(unit[c, 0], unit[c, 1], unit[c, 2], product, legendre)
        product_gradient[:] = np.float32(0.0)
        back = np.float32(0.0)
        for m in range(n):
            total = moments[i, m] - basis[c, m] * atoms[k, m]
            back += gradient[c, m] * _Y0 * total
            felt = gradient[c, m] * _Y0 * envelope[c]
            moments_gradient[i, m] += felt
            sent_gradient[c, m] = -felt

            total = -basis[c, n + m] * atoms[k, n + m]
            felt = gradient[c, n + m] * _Y1 * envelope[c]
            for a in range(3):
                total += moments[i, n + 3 * m + a] * unit[c, a]
                moments_gradient[i, n + 3 * m + a] += felt * unit[c, a]
                unit_gradient[c, a] += felt * moments[i, n + 3 * m + a]
            back += gradient[c, n + m] * _Y1 * total
            sent_gradient[c, n + m] = -felt

            total = -basis[c, 2 * n + m] * atoms[k, 2 * n + m]
            felt = gradient[c, 2 * n + m] * _Y2 * envelope[c]
            for a in range(6):
                total += moments[i, 4 * n + 6 * m + a] * legendre[a]
                moments_gradient[i, 4 * n + 6 * m + a] += felt * legendre[a]
                weight = _THREE_HALVES if a < 3 else _THREE
                product_gradient[a] += weight * felt * moments[i, 4 * n + 6 * m + a]
            back += gradient[c, 2 * n + m] * _Y2 * total
            sent_gradient[c, 2 * n + m] = -felt
        envelope_gradient[c] += back
        _add_unit_gradient(unit[c], product_gradient, unit_gradient[c])
    for c in range(len(source)):
        i, k = source[c], destination[c]
        _tensors(unit[c, 0], unit[c, 1], unit[c, 2], product, legendre)
        product_gradient[:] = np.float32(0.0)
        for m in range(n):
            sent_gradient[c, m] += moments_gradient[i, m]
            sent = basis[c, n + m] * atoms[k, n + m]
            for a in range(3):
                sent_gradient[c, n + m] += moments_gradient[i, n + 3 * m + a] * unit[c, a]
                unit_gradient[c, a] += moments_gradient[i, n + 3 * m + a] * sent
            sent = basis[c, 2 * n + m] * atoms[k, 2 * n + m]
            for a in range(6):
                sent_gradient[c, 2 * n + m] += moments_gradient[i, 4 * n + 6 * m + a] * product[a]
                product_gradient[a] += moments_gradient[i, 4 * n + 6 * m + a] * sent
        for m in range(3 * n):
            basis_gradient[c, m] += sent_gradient[c, m] * atoms[k, m]
            atoms_gradient[k, m] += sent_gradient[c, m] * basis[c, m]
        _add_unit_gradient(unit[c], product_gradient, unit_gradient[c])


@fused_jit
def _add_unit_gradient(unit: Float32Array, product_gradient: Float32Array, unit_gradient: Float32Array) -> None:
    """Carry the gradient with respect to a unit vector's second moments on to the vector."""
    x, y, z = unit[0], unit[1], unit[2]
    xy, xz, yz = product_gradient[3], product_gradient[4], product_gradient[5]
    unit_gradient[0] += _TWO * x * product_gradient[0] + y * xy + z * xz
    unit_gradient[1] += _TWO * y * product_gradient[1] + x * xy + z * yz
    unit_gradient[2] += _TWO * z * product_gradient[2] + x * xz + y * yz
