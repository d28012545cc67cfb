"""How well predicted error distributions hold: coverage of their intervals, and predicted against observed error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.student_fit import StudentFit, fit_student
from pipeline.reference.surrogate_errors import ONE_SIGMA, ErrorDistribution

LEVELS = (0.50, ONE_SIGMA, 0.90, 0.95)
"""Shares that intervals about the predicted centre are asked to hold."""

FOLDS = 5
LEAST = 30
"""Crystals that a class has of its own fit; those with fewer are fitted together."""
_POOLED = "pooled"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Crystals of similar predicted error: how many, and in eV/atom the predicted and the observed 68 % half width.

    Observed is the half width about the predicted centres that 68 % of the errors lie within; ``median`` is the median
    absolute error, centres not taken off.
    """

    count: int
    predicted: float
    observed: float
    median: float


def predictions(
    errors: Floats, classes: Sequence[str], prototypes: Sequence[str], disagreements: Floats | None, seed: int
) -> list[ErrorDistribution]:
    """Predict the error of each crystal from those of other prototypes.

    Parameters
    ----------
    errors
        (n,) eV/atom.
    classes, prototypes
        (n,) anion class, and prototype: all crystals of one are in the same fold.
    disagreements
        (n,) of two potentials, eV/atom; None predicts without.
    seed
        Of the folds.
    """
    kinds = list(classes)
    groups = np.array([kind if kinds.count(kind) >= LEAST else _POOLED for kind in kinds])
    names = np.random.default_rng(seed).permutation(np.unique(prototypes))
    found: dict[int, ErrorDistribution] = {}
    for fold in np.array_split(names, min(FOLDS, len(names))):
        out = np.isin(prototypes, fold)
        fit = fit_student(errors[~out], groups[~out], None if disagreements is None else disagreements[~out])
        for i in np.flatnonzero(out):
            found[i] = _distribution(fit, str(groups[i]), 0.0 if disagreements is None else float(disagreements[i]))
    return [found[i] for i in range(len(errors))]


def _distribution(fit: StudentFit, group: str, disagreement: float) -> ErrorDistribution:
    """Of a class that is in no other prototype: as wide as the widest, about no bias."""
    scale = fit.scales.get(group, max(fit.scales.values()))
    wide = float(np.hypot(scale, (fit.factor or 0.0) * disagreement))
    return ErrorDistribution(fit.centres.get(group, 0.0), wide, fit.degrees_of_freedom)


def coverage(errors: Floats, predicted: Sequence[ErrorDistribution]) -> dict[float, float]:
    """Share of n errors (eV/atom) inside the interval of each level about the predicted centre."""
    from scipy.special import stdtrit

    found = {}
    for level in LEVELS:
        inside = [
            abs(e - p.bias) <= p.scale * float(stdtrit(p.degrees_of_freedom, 0.5 + 0.5 * level))
            for e, p in zip(errors, predicted, strict=True)
        ]
        found[level] = float(np.mean(inside))
    return found


def bins(errors: Floats, predicted: Sequence[ErrorDistribution], number: int) -> list[Bin]:
    """Divide n errors (eV/atom) into bins of equal size by predicted half width, the smallest first."""
    widths = np.array([p.half_width for p in predicted])
    off = np.abs(errors - np.array([p.bias for p in predicted]))
    return [
        Bin(
            count=len(chosen),
            predicted=float(widths[chosen].mean()),
            observed=float(np.quantile(off[chosen], ONE_SIGMA)),
            median=float(np.median(np.abs(errors[chosen]))),
        )
        for chosen in np.array_split(np.argsort(widths, kind="stable"), number)
        if len(chosen)
    ]
