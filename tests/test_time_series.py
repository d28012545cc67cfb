"""Standard errors of correlated series."""

import numpy as np
import pytest

from pipeline.surrogates.time_series import correlation_time, mean_with_error, slope


def autoregressive(memory, n, seed):
    noise = np.random.default_rng(seed).standard_normal(n)
    series = np.empty(n)
    series[0] = noise[0]
    for k in range(1, n):
        series[k] = memory * series[k - 1] + np.sqrt(1.0 - memory**2) * noise[k]
    return series


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_correlation_time_of_an_autoregressive_series(memory):
    n = 20_000
    expected = (1.0 + memory) / (1.0 - memory)
    # Relative error of Sokal's estimate: sqrt(2 (2 M + 1) / n), window M of five times the time; three of them.
    tolerance = 3.0 * np.sqrt(2.0 * (10.0 * expected + 1.0) / n)
    assert correlation_time(autoregressive(memory, n, 1)) == pytest.approx(expected, rel=tolerance)


def test_errors_cover_the_mean():
    means = [mean_with_error(autoregressive(0.8, 2000, seed)) for seed in range(100)]
    inside = sum(abs(mean) < 2.0 * error for mean, error in means)
    assert 88 <= inside <= 100  # 95 expected, binomial deviation 2.2


def test_short_and_constant_series():
    assert np.isnan(mean_with_error(np.empty(0))).all()
    assert mean_with_error(np.array([2.0]))[0] == 2.0
    assert mean_with_error(np.full(9, 3.0)) == (3.0, 0.0)
    assert np.isnan(slope(np.array([1.0]), np.array([1.0])))
    assert slope(np.arange(5.0), 3.0 - 2.0 * np.arange(5.0)) == pytest.approx(-2.0)
