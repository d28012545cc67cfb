"""Averages over correlated time series."""

import numpy as np

from pipeline.surrogates.batch import FloatArray

# Sokal's window: the sum over lags ends where it is this many times the correlation time found so far.
_WINDOW = 5.0


def correlation_time(series: FloatArray) -> float:
    """Integrated autocorrelation time of (n,) equidistant values, in intervals; 1 for independent values.

    1 + 2 sum of the autocorrelation up to the first lag that is at least five times this sum (Sokal, in Functional
    Integration, Plenum 1997, 131), by FFT. A constant series has 1.
    """
    n = len(series)
    away = series - series.mean()
    if n < 2 or not np.any(away):
        return 1.0
    spectrum = np.abs(np.fft.rfft(away, 2 * n)) ** 2
    products = np.fft.irfft(spectrum)[:n]
    times = 2.0 * np.cumsum(products / products[0]) - 1.0
    beyond = np.flatnonzero(np.arange(n) >= _WINDOW * times)
    return max(float(times[beyond[0] if len(beyond) else n - 1]), 1.0)


def mean_with_error(series: FloatArray) -> tuple[float, float]:
    """Mean of (n,) values and its standard error, correlations counted; NaN where there are too few.

    The error is the square root of variance times :func:`correlation_time` over n.
    """
    n = len(series)
    if n == 0:
        return float("nan"), float("nan")
    if n == 1:
        return float(series[0]), float("nan")
    error = np.sqrt(series.var(ddof=1) * correlation_time(series) / n)
    return float(series.mean()), float(error)


def slope(times: FloatArray, values: FloatArray) -> float:
    """Slope of the least-squares line through (n,) values; NaN for fewer than two."""
    if len(times) < 2:
        return float("nan")
    away = times - times.mean()
    return float(away @ (values - values.mean()) / (away @ away))
