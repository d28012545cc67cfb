"""Mean squared displacements over all time origins, and the collective displacement of the charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class MeanSquaredDisplacement:
    """Mean squared displacement (MSD) over all time origins.

    Attributes
    ----------
    frame_interval
        fs between frames.
    per_ion_and_axis
        Å2, shape (T, N, 3); row m is the lag of m frames, averaged over its T - m origins.
    """

    frame_interval: float
    per_ion_and_axis: FloatArray

    @property
    def lag_times(self) -> FloatArray:
        """Lags in fs, shape (T,)."""
        return np.arange(len(self.per_ion_and_axis), dtype=np.float64) * self.frame_interval

    @property
    def per_ion(self) -> FloatArray:
        """Å2, summed over axes, shape (T, N)."""
        return np.asarray(self.per_ion_and_axis.sum(axis=2))

    @property
    def per_axis(self) -> FloatArray:
        """Å2, averaged over ions, shape (T, 3)."""
        return np.asarray(self.per_ion_and_axis.mean(axis=1), dtype=np.float64)

    @property
    def mean(self) -> FloatArray:
        """Å2, summed over axes and averaged over ions, shape (T,)."""
        return np.asarray(self.per_axis.sum(axis=1), dtype=np.float64)


def checked_positions(positions: ArrayLike) -> FloatArray:
    """Unwrapped positions as float64, shape (T, N, 3).

    Raises
    ------
    ValueError
        Another shape, fewer than two frames, no atoms, or a number that is not finite.
    """
    array = np.asarray(positions, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(f"positions must have shape (T >= 2 frames, N >= 1 atoms, 3), got {array.shape}")
    if not np.isfinite(array).all():
        frame, atom, _ = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"position of atom {atom} in frame {frame} is {array[frame, atom].tolist()}; the run has exploded: "
            "cut the trajectory before that frame"
        )
    return array


def remove_drift(positions: ArrayLike, framework: ArrayLike, masses: ArrayLike | None = None) -> FloatArray:
    """Positions relative to the framework's centre of mass, which stays where it is in the first frame.

    Parameters
    ----------
    positions
        Unwrapped, Å, shape (T, N, 3).
    framework
        Indices of the atoms that do not diffuse, shape (F >= 1,).
    masses
        Of all atoms in any unit, shape (N,); None weighs the framework's atoms alike.

    Raises
    ------
    ValueError
        Positions of another shape or not finite, no framework, an index out of range, masses of another length or not
        positive.
    """
    array = checked_positions(positions)
    n_atoms = array.shape[1]
    chosen = np.asarray(framework, dtype=np.int64)
    if not len(chosen):
        raise ValueError("framework is empty: no atoms are left to measure from; list as mobile only ions that conduct")
    if chosen.min() < 0 or chosen.max() >= n_atoms:
        raise ValueError(f"framework holds index {chosen.min()} or {chosen.max()}, but there are {n_atoms} atoms")
    weights = np.ones(n_atoms) if masses is None else np.asarray(masses, dtype=np.float64)
    if weights.shape != (n_atoms,) or not (weights > 0).all():
        raise ValueError(f"masses must be {n_atoms} positive numbers, one an atom; got shape {weights.shape}")
    centre = np.average(array[:, chosen], axis=1, weights=weights[chosen])
    return np.asarray(array - (centre - centre[0])[:, None, :], dtype=np.float64)


def mean_squared_displacement(positions: ArrayLike, frame_interval: float) -> MeanSquaredDisplacement:
    """MSD of each atom along each axis over all time origins, in O(T log T) by fast Fourier transform.

    With S(m) = sum over origins of x(i)^2 + x(i + m)^2 and the autocorrelation C(m) = sum of x(i) x(i + m), the MSD
    at lag m is (S(m) - 2 C(m)) / (T - m) (Kneller, Keiner, Kneller and Schiller 1995, Comput. Phys. Commun. 91, 191;
    Calandrini, Pellegrini, Calligari, Hinsen and Kneller 2011, Collection SFN 12, 201, section 4.2).

    Parameters
    ----------
    positions
        Unwrapped, Å, shape (T, N, 3), drift removed.
    frame_interval
        fs.

    Raises
    ------
    ValueError
        Positions of another shape or not finite; an interval that is not positive.
    """
    array = checked_positions(positions)
    if not frame_interval > 0:
        raise ValueError(f"frame_interval must be positive, in fs; got {frame_interval}")
    n_frames, n_atoms, _ = array.shape
    series = array.reshape(n_frames, -1)
    msd = np.empty_like(series)
    columns = max(1, _BLOCK_BYTES // (8 * 8 * n_frames))
    for start in range(0, 3 * n_atoms, columns):
        msd[:, start : start + columns] = _msd_of_columns(series[:, start : start + columns])
    return MeanSquaredDisplacement(float(frame_interval), msd.reshape(n_frames, n_atoms, 3))


def collective_displacement(positions: ArrayLike, charges: ArrayLike) -> FloatArray:
    """Displacement of the charge, as one walker whose MSD grows as 6 D_charge t.

    It is sum_i z_i r_i / sqrt(sum_i z_i^2), which moves like a single ion when ions move independently (France-Lanord
    and Grossman 2019, Phys. Rev. Lett. 122, 136001, give the Einstein relation of the conductivity).

    Parameters
    ----------
    positions
        Of the mobile ions, unwrapped, Å, shape (T, M, 3), in the frame of the framework.
    charges
        In units of the elementary charge, shape (M,) or one number for all.

    Returns
    -------
    numpy.ndarray
        Å, shape (T, 1, 3).

    Raises
    ------
    ValueError
        Positions of another shape, charges of another length or all zero.
    """
    array = checked_positions(positions)
    z = ion_charges(charges, array.shape[1])
    total = np.einsum("tid,i->td", array - array[0], z)
    return np.asarray(total[:, None, :] / np.sqrt(np.sum(z**2)), dtype=np.float64)


def ion_charges(charges: ArrayLike, n_ions: int) -> FloatArray:
    """Charges of the mobile ions, shape (n_ions,).

    Raises
    ------
    ValueError
        Another number of charges, or none but zeros.
    """
    z = np.asarray(charges, dtype=np.float64)
    z = np.full(n_ions, float(z)) if z.ndim == 0 else z
    if z.shape != (n_ions,) or not np.any(z):
        raise ValueError(f"charges must be one number or {n_ions}, one a mobile ion, not all zero; got {z.tolist()}")
    return z


def _msd_of_columns(series: FloatArray) -> FloatArray:
    from scipy.fft import irfft, next_fast_len, rfft

    n = len(series)
    # About the mean the squares are smallest, and with them what rounding leaves of their difference.
    x = series - series.mean(axis=0)
    padded = next_fast_len(2 * n, real=True)
    spectrum = rfft(x, padded, axis=0)
    correlation = irfft(spectrum * spectrum.conj(), padded, axis=0)[:n]
    squares = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x**2, axis=0)])
    lags = np.arange(n)
    sums = squares[n - lags] + squares[n] - squares[lags]
    msd = (sums - 2.0 * correlation) / (n - lags)[:, None]
    msd[0] = 0.0
    return np.asarray(np.maximum(msd, 0.0), dtype=np.float64)
