"""Fit Student's distribution to errors in groups, by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Below about one degree of freedom the distribution has no mean; above a hundred it is the normal one.
_LOG_DEGREES = (float(np.log(1.2)), float(np.log(100.0)))
_LOG_SCALE = (float(np.log(1e-4)), float(np.log(1.0)))
_LOG_FACTOR = (float(np.log(1e-3)), float(np.log(10.0)))


@dataclass(frozen=True)
class StudentFit:
    """Errors e = centre_g + s t, s^2 = scale_g^2 + (k d)^2, t of Student's distribution.

    Attributes
    ----------
    centres, scales
        By group, in the errors' unit.
    degrees_of_freedom
        Shared by all groups.
    factor
        k; None when no disagreements d were given.
    negative_log_likelihood
        At the fit.
    """

    centres: Mapping[str, float]
    scales: Mapping[str, float]
    degrees_of_freedom: float
    factor: float | None
    negative_log_likelihood: float


def fit_student(
    errors: NDArray[np.float64], groups: NDArray[Any], disagreements: NDArray[np.float64] | None = None
) -> StudentFit:
    """Fit centres and scales by group, and degrees of freedom and k for all.

    Parameters
    ----------
    errors
        Shape (n,).
    groups
        Name of each one's group, shape (n,).
    disagreements
        d of each, in the errors' unit, shape (n,); None leaves that term out.

    Raises
    ------
    RuntimeError
        When the optimiser stops without a fit, with its own message.
    """
    from scipy.optimize import minimize

    names, index = np.unique(groups, return_inverse=True)
    members = [errors[index == i] for i in range(len(names))]
    centres = [float(np.median(m)) for m in members]
    spreads = [float(np.median(np.abs(m - c))) + 1e-3 for m, c in zip(members, centres, strict=True)]
    start = [*centres, *np.log(spreads), np.log(3.0)]
    bounds = [(-1.0, 1.0)] * len(names) + [_LOG_SCALE] * len(names) + [_LOG_DEGREES]
    if disagreements is not None:
        start.append(np.log(0.5))
        bounds.append(_LOG_FACTOR)
    found = minimize(_cost, start, (errors, index, len(names), disagreements), "L-BFGS-B", jac=True, bounds=bounds)
    if not found.success:
        raise RuntimeError(f"Student's distribution could not be fitted to {len(errors)} errors: {found.message}")
    m = len(names)
    scales = np.exp(found.x[m : 2 * m])
    return StudentFit(
        dict(zip(names.tolist(), found.x[:m].tolist(), strict=True)),
        dict(zip(names.tolist(), scales.tolist(), strict=True)),
        float(np.exp(found.x[2 * m])),
        None if disagreements is None else float(np.exp(found.x[-1])),
        float(found.fun) * len(errors),
    )


def _cost(
    x: NDArray[np.float64],
    errors: NDArray[np.float64],
    index: NDArray[np.int64],
    m: int,
    disagreements: NDArray[np.float64] | None,
) -> tuple[float, NDArray[np.float64]]:
    """Mean negative log-likelihood and its gradient by (centres, ln scales, ln degrees of freedom, ln k)."""
    from scipy.special import digamma, gammaln

    n = len(errors)
    free = np.exp(x[2 * m])
    own = np.exp(2.0 * x[m : 2 * m])[index]
    shared = 0.0 if disagreements is None else (np.exp(x[-1]) * disagreements) ** 2
    variance = own + shared
    z = (errors - x[:m][index]) ** 2 / variance
    logs = np.log1p(z / free)
    constant = gammaln(0.5 * (free + 1)) - gammaln(0.5 * free) - 0.5 * np.log(np.pi * free)
    likelihood = constant - 0.5 * np.log(variance) - 0.5 * (free + 1) * logs
    pull = (free + 1) / (free + z)
    by_centre = pull * (errors - x[:m][index]) / variance
    by_log_variance = 0.5 * (pull * z - 1.0)
    by_free = 0.5 * (digamma(0.5 * (free + 1)) - digamma(0.5 * free) - 1.0 / free - logs + pull * z / free)
    gradient = np.zeros_like(x)
    gradient[:m] = np.bincount(index, by_centre, m)
    gradient[m : 2 * m] = np.bincount(index, 2.0 * by_log_variance * own / variance, m)
    gradient[2 * m] = free * by_free.sum()
    if disagreements is not None:
        gradient[-1] = np.sum(2.0 * by_log_variance * shared / variance)
    return float(-likelihood.sum() / n), -gradient / n
