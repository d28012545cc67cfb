"""The straight part of a mean squared displacement: where it lies, and its slope by generalised least squares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.diffusion.msd_covariance import msd_covariance

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_N_LAGS: Final = 14
_FEWEST_LAGS: Final = 4
_LONGEST_SHARE: Final = 0.5
_AGREEMENT: Final = 3.0
_LARGEST_SCATTER: Final = 0.5
_RIDGE: Final = 1e-6
_ROUNDS: Final = 2


@dataclass(frozen=True)
class LinearRegime:
    """A line through an MSD: 2 d D t + offset.

    Attributes
    ----------
    diffusivity
        D, Å2 / frame; may be negative by chance.
    offset
        What vibrations add, Å2, summed over axes.
    first_lag, last_lag
        Frames.
    hop_variance
        Variance of D from the number of hops (their fourth cumulant), Å4 / frame2.
    normal_variance
        Variance of D from overlapping normal displacements and vibrations, Å4 / frame2.
    scatter
        Standard error of D from the normal part, over D, for a D of one hop of all walkers at least; infinite when D is
        not positive.
    is_linear
        Later starts of the window give the same D within their errors, and the offset is not negative beyond its own.
    """

    diffusivity: float
    offset: float
    first_lag: int
    last_lag: int
    hop_variance: float
    normal_variance: float
    scatter: float
    is_linear: bool


def fit_linear_regime(
    msd: FloatArray,
    n_walkers: int,
    n_dimensions: int,
    quartic_length: float,
    window: tuple[int, int] | None = None,
) -> LinearRegime:
    """Slope of an MSD by generalised least squares with the covariance of hopping ions, in a window that is found.

    The window ends where half of the trajectory is left for origins. It begins at the shortest lag from which the slope
    agrees, within three standard errors of the difference, with the slopes from all later lags (Lepski 1991, Theory
    Probab. Appl. 35, 454) and the offset is not negative by as much: after the ballistic and caged part, and no later,
    since short lags hold most of what is known of D. Where the very first lag fails this, one lag more is left out. The
    search ends without a linear regime where the scatter of overlapping windows alone reaches half of D. The covariance
    of lags (`msd_covariance`) takes the MSD itself below the window, the line within it, and hops of the given length;
    weights and covariance are iterated twice.

    Parameters
    ----------
    msd
        Å2, shape (T,), summed over axes, averaged over walkers and all time origins.
    n_walkers
        Independent walkers averaged over.
    n_dimensions
        Axes summed over.
    quartic_length
        <l^4> / <l^2> of hops, Å2, in the walkers' own displacement.
    window
        First and last lag in frames instead of the search; `is_linear` then says whether they pass its test.

    Raises
    ------
    ValueError
        Fewer than 16 frames, or a window outside the lags of the MSD.
    """
    n_frames = len(msd)
    if n_frames < 16:
        raise ValueError(f"{n_frames} frames are too few to find a linear regime; write at least 16, better 1,000")
    lags = _lags(n_frames, window)
    problem = _Problem(msd, n_walkers, n_dimensions, quartic_length)
    fit, disagreement = problem.fit(lags)
    if window is not None or disagreement <= _AGREEMENT:
        return replace(fit, is_linear=disagreement <= _AGREEMENT)
    found = False
    for start in range(1, len(lags) - _FEWEST_LAGS + 1):
        later, disagreement = problem.fit(lags[start:])
        if later.scatter > _LARGEST_SCATTER:
            break
        fit = later
        if found:
            break
        # Beside a bend that was seen, what is left of it may hide just below the level of the test: one lag more.
        found = disagreement <= _AGREEMENT
    return replace(fit, is_linear=found)


def least_squares_slope(lag_times: ArrayLike, msd: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Slope and offset of a straight line by weighted least squares, for comparison with other programs.

    Parameters
    ----------
    lag_times
        fs, shape (k,).
    msd
        Å2, shape (k,).
    weights
        Of the squared residuals, shape (k,); 1 / lag time is customary for averages over all origins.

    Returns
    -------
    slope : float
        Å2 / fs; over 2 d it is D.
    offset : float
        Å2.

    Raises
    ------
    ValueError
        Fewer than two different lags.
    """
    t, y = np.asarray(lag_times, dtype=np.float64), np.asarray(msd, dtype=np.float64)
    if len(np.unique(t)) < 2:
        raise ValueError(f"a line needs at least two different lag times, got {t.tolist()}")
    w = np.ones_like(t) if weights is None else np.asarray(weights, dtype=np.float64)
    centre, level = np.average(t, weights=w), np.average(y, weights=w)
    slope = float(np.sum(w * (t - centre) * (y - level)) / np.sum(w * (t - centre) ** 2))
    return slope, float(level - slope * centre)


@dataclass(frozen=True)
class _Problem:
    msd: FloatArray
    n_walkers: int
    n_dimensions: int
    quartic_length: float

    def fit(self, lags: NDArray[np.int64]) -> tuple[LinearRegime, float]:
        """The line over these lags, and what speaks against it, in standard errors."""
        values = self.msd[lags]
        design = np.column_stack([2.0 * self.n_dimensions * lags, np.ones(len(lags))])
        weights = np.linalg.pinv(design)
        for _ in range(_ROUNDS):
            diffusivity, offset = weights @ values
            normal, hops = self._covariance(lags, float(diffusivity), float(offset))
            weights = _weights(design, normal + hops)
        diffusivity, offset = weights @ values
        slope = weights[0]
        scatter = float(np.sqrt(slope @ normal @ slope) / diffusivity) if diffusivity > 0 else float("inf")
        normal_of_it, hops_of_it = normal, hops
        if 0.0 < diffusivity < self._one_hop:
            # Hops that lead back make less than one of net length: variances are those of what is left.
            normal_of_it, hops_of_it = self._covariance(lags, float(diffusivity), float(offset), least=0.0)
        fit = LinearRegime(
            float(diffusivity),
            float(offset),
            int(lags[0]),
            int(lags[-1]),
            float(slope @ hops_of_it @ slope),
            float(slope @ normal_of_it @ slope),
            scatter,
            True,
        )
        covariance = normal + hops
        # A line that meets zero lag below zero lies in a part that still bends upwards.
        below = -float(offset / np.sqrt(weights[1] @ covariance @ weights[1]))
        return fit, max(below, self._disagreement(design, values, covariance, slope))

    @property
    def _one_hop(self) -> float:
        """D, Å2 / frame, of a single hop of all walkers: nothing slower could have been seen."""
        return self.quartic_length / (2.0 * self.n_dimensions * len(self.msd) * self.n_walkers)

    def _covariance(
        self, lags: NDArray[np.int64], diffusivity: float, offset: float, least: float | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Normal part and hops' part, for a D of ``least`` at least, one hop by default."""
        d, n_frames = self.n_dimensions, len(self.msd)
        diffusivity = max(diffusivity, self._one_hop if least is None else least)
        lag = np.arange(n_frames)
        line = 2.0 * diffusivity * lag + max(offset, 0.0) / d
        structure = np.where(lag < lags[0], np.minimum(self.msd / d, line), line)
        structure[0] = 0.0
        normal, hops = msd_covariance(structure, lags, d)
        rate = 2.0 * d * diffusivity * self.quartic_length
        return normal / self.n_walkers, hops * rate / self.n_walkers

    @staticmethod
    def _disagreement(design: FloatArray, values: FloatArray, covariance: FloatArray, slope: FloatArray) -> float:
        worst = 0.0
        for start in range(1, len(values) - _FEWEST_LAGS + 1):
            later = np.zeros_like(slope)
            later[start:] = _weights(design[start:], covariance[start:, start:])[0]
            difference = slope - later
            error = np.sqrt(difference @ covariance @ difference)
            worst = max(worst, float(abs(difference @ values) / error))
        return worst


def _weights(design: FloatArray, covariance: FloatArray) -> FloatArray:
    """Rows that turn values into parameters, (X' C^-1 X)^-1 X' C^-1 (Aitken 1936)."""
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale) + _RIDGE * np.eye(len(scale))
    solved = np.linalg.solve(correlation, design / scale[:, None])
    return np.asarray(np.linalg.solve(solved.T @ (design / scale[:, None]), solved.T) / scale)


def _lags(n_frames: int, window: tuple[int, int] | None) -> NDArray[np.int64]:
    """About evenly spaced in the logarithm: neighbouring lags know nearly the same."""
    first, last = (1, int(_LONGEST_SHARE * n_frames)) if window is None else window
    if not 1 <= first < last < n_frames:
        raise ValueError(f"window must hold two lags between 1 and {n_frames - 1} frames, got {window}")
    return np.unique(np.rint(np.geomspace(first, last, _N_LAGS)).astype(np.int64))
