"""Covariance of a mean squared displacement between lags, and the window that is fitted."""

import numpy as np
import pytest

from pipeline.diffusion.displacement import mean_squared_displacement
from pipeline.diffusion.hops import count_hops
from pipeline.diffusion.linear_regime import fit_linear_regime, least_squares_slope
from pipeline.diffusion.msd_covariance import msd_covariance
from scripts.random_walks import lattice_walk


def naive_covariance(structure: np.ndarray, m: int, n: int, n_dimensions: int) -> tuple[float, float]:
    """Covariances of all pairs of windows, from a covariance matrix of positions with the same structure function."""
    frames = len(structure)
    # any stationary-increment process pinned at frame 0
    k = np.arange(frames)
    positions = 0.5 * (structure[k][:, None] + structure[k][None, :] - structure[np.abs(k[:, None] - k[None, :])])
    normal = hops = 0.0
    for i in range(frames - m):
        for j in range(frames - n):
            first, second = np.zeros(frames), np.zeros(frames)
            first[i + m], first[i] = 1.0, -1.0
            second[j + n], second[j] = 1.0, -1.0
            normal += 2.0 * n_dimensions * (first @ positions @ second) ** 2
            hops += max(0, min(i + m, j + n) - max(i, j))
    pairs = (frames - m) * (frames - n)
    return normal / pairs, hops / pairs


def test_covariance_equals_a_loop_over_pairs_of_windows() -> None:
    lag = np.arange(14.0)
    structure = 0.3 * lag + 0.08 * (1.0 - np.exp(-lag))
    lags = np.array([1, 3, 8, 13])
    normal, hops = msd_covariance(structure, lags, 3)
    for a, m in enumerate(lags):
        for b, n in enumerate(lags):
            expected = naive_covariance(structure, int(m), int(n), 3)
            assert (normal[a, b], hops[a, b]) == pytest.approx(expected, rel=1e-10)


def test_covariance_is_that_of_brownian_motion() -> None:
    """Lag of one frame: T - 1 independent squares of variance 2 (2 D)^2 an axis."""
    normal, _ = msd_covariance(0.2 * np.arange(101.0), np.array([1]), 3)
    assert normal[0, 0] == pytest.approx(3 * 2 * 0.2**2 / 100)


def test_covariance_is_that_of_simulated_hops() -> None:
    """Variances of 4,000 MSDs scatter by sqrt(2 / 4000) = 2 %, more with hops' long tails: 10 % allowed."""
    rng = np.random.default_rng(8)
    n_frames, mean_hops, length, vibration = 60, 6.0, 3.0, 0.3
    positions, diffusivity = lattice_walk(rng, n_frames, 4000, 4000 * mean_hops, length, vibration)
    msds = mean_squared_displacement(positions, 1.0).per_ion
    lags = np.array([1, 4, 12, 30])
    structure = 2.0 * diffusivity * np.arange(n_frames) + 2.0 * vibration**2
    structure[0] = 0.0
    normal, hops = msd_covariance(structure, lags, 3)
    expected = normal + hops * 6.0 * diffusivity * length**2
    simulated = np.cov(msds[lags])
    assert simulated == pytest.approx(expected, rel=0.1)


def test_cages_are_left_out_of_the_window() -> None:
    """Vibrations that forget over 20 frames bend the MSD; the window starts above them and finds the hops' D."""
    rng = np.random.default_rng(4)
    positions, diffusivity = lattice_walk(rng, 4000, 30, 1500.0, vibration=0.0)
    swing = np.zeros_like(positions)
    memory = np.exp(-1.0 / 20.0)
    for t in range(1, len(swing)):
        swing[t] = memory * swing[t - 1] + 0.4 * np.sqrt(1 - memory**2) * rng.standard_normal(swing.shape[1:])
    walk = positions + swing
    hops = count_hops(walk, 1.0, 3.0, cage_time=9.0)
    msd = mean_squared_displacement(walk, 1.0).mean
    fit = fit_linear_regime(msd, 30, 3, hops.quartic_length())
    error = np.sqrt(fit.hop_variance + fit.normal_variance)
    early = least_squares_slope(np.arange(1, 20), msd[1:20])[0] / 6.0
    assert fit.is_linear
    assert fit.first_lag > 20
    assert abs(fit.diffusivity - diffusivity) < 3.0 * error
    assert early > diffusivity + 4.0 * error
    # 2 x 3 x 0.4^2
    assert fit.offset == pytest.approx(0.96, rel=0.3)


def test_given_window_is_taken() -> None:
    positions, _ = lattice_walk(np.random.default_rng(1), 500, 8, 100.0)
    msd = mean_squared_displacement(positions, 1.0).mean
    fit = fit_linear_regime(msd, 8, 3, 9.0, window=(10, 200))
    assert (fit.first_lag, fit.last_lag) == (10, 200)
    for window in ((0, 10), (10, 10), (10, 500)):
        with pytest.raises(ValueError, match="window must hold"):
            fit_linear_regime(msd, 8, 3, 9.0, window=window)
    with pytest.raises(ValueError, match="at least 16"):
        fit_linear_regime(msd[:15], 8, 3, 9.0)


def test_a_ballistic_flight_has_no_linear_regime() -> None:
    lags = np.arange(1000.0)
    assert not fit_linear_regime(0.01 * lags**2, 100, 3, 1e-4).is_linear


def test_weighted_line() -> None:
    t = np.array([1.0, 2.0, 4.0])
    assert least_squares_slope(t, 3.0 * t + 2.0, 1.0 / t) == pytest.approx((3.0, 2.0))
    slope, offset = least_squares_slope(t, [0.0, 1.0, 5.0], [1.0, 1.0, 4.0])
    assert (slope, offset) == pytest.approx(tuple(np.polyfit(t, [0.0, 1.0, 5.0], 1, w=[1.0, 1.0, 2.0])))
    with pytest.raises(ValueError, match="two different"):
        least_squares_slope([1.0, 1.0], [1.0, 2.0])
