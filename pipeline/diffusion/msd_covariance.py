"""Covariance of a time-averaged mean squared displacement between lags, for ions that hop and vibrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def msd_covariance(
    structure_function: FloatArray, lags: NDArray[np.int64], n_dimensions: int
) -> tuple[FloatArray, FloatArray]:
    """Covariance of one walker's MSD averaged over all time origins, in two parts.

    Displacements x(i + m) - x(i) and x(j + n) - x(j) of a process with stationary increments covary by
    c = (S(|j + n - i|) + S(|i + m - j|) - S(|j - i|) - S(|j + n - i - m|)) / 2 along an axis, where S(k) is the mean
    squared displacement along that axis at lag k. Were displacements normal, their squares would covary by 2 c^2 an
    axis (Isserlis 1918), which gives the first part: the covariance that regressions of the MSD of Brownian motion rest
    on (Michalet 2010, Phys. Rev. E 82, 041914; Bullerjahn, von Buelow and Hummer 2020, J. Chem. Phys. 153, 024116;
    McCluskey, Coles and Morgan 2025, J. Chem. Theory Comput. 21, 79), with vibrations in it through S. Hops are rare
    events and not normal: each that lies in both windows adds its fourth cumulant, the rate of hops times the mean
    fourth power of their length (Campbell's theorem). That is the second part, here for one unit of that product a
    frame.

    Parameters
    ----------
    structure_function
        S, Å2, shape (T,): along one axis at lags 0 to T - 1 frames.
    lags
        Frames, shape (k,), 1 to T - 1.
    n_dimensions
        Axes that the MSD sums over.

    Returns
    -------
    normal : numpy.ndarray
        Å4, shape (k, k).
    hops : numpy.ndarray
        Frames, shape (k, k); multiply by the rate a frame times <l^4>, Å4 / frame.
    """
    n_frames = len(structure_function)
    normal = np.empty((len(lags), len(lags)))
    hops = np.empty_like(normal)
    for a, m in enumerate(lags):
        for b, n in enumerate(lags[: a + 1]):
            squares, shared = _sums_over_origins(structure_function, int(m), int(n))
            pairs = (n_frames - m) * (n_frames - n)
            normal[a, b] = normal[b, a] = 2.0 * n_dimensions * squares / pairs
            hops[a, b] = hops[b, a] = shared / pairs
    return normal, hops


def _sums_over_origins(s: FloatArray, m: int, n: int) -> tuple[float, float]:
    """Sums over origins i and j of c^2 and of the frames that both windows share; both depend on q = j - i only."""
    n_frames = len(s)
    q = np.arange(1 - (n_frames - m), n_frames - n)
    times = np.minimum(n_frames - m, n_frames - n - q) - np.maximum(0, -q)
    c = 0.5 * (s[np.abs(q + n)] + s[np.abs(q - m)] - s[np.abs(q)] - s[np.abs(q + n - m)])
    shared = np.maximum(np.minimum(m, q + n) - np.maximum(0, q), 0)
    return float(np.sum(times * c**2)), float(np.sum(times * shared))
