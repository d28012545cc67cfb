"""Rank correlation, area under the ROC curve, and their bootstrap over groups of samples."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def average_ranks(values: FloatArray) -> FloatArray:
    """Ranks (n,) from 1 to n of n values, equal ones sharing their mean rank; inf is allowed, NaN isn't.

    Raises
    ------
    ValueError
        When a value is NaN.
    """
    if np.isnan(values).any():
        raise ValueError(f"NaN has no rank; {int(np.isnan(values).sum())} of {values.size} values are NaN")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: FloatArray = last - (counts - 1) / 2.0
    return mean_rank[inverse]


def spearman(one: FloatArray, other: FloatArray) -> float:
    """Spearman's rank correlation of two samples (n,); 0 where either is constant, as for a guess."""
    a, b = average_ranks(one), average_ranks(other)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0.0 else 0.0


def roc_auc(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann and Whitney's U over n1 n2).

    NaN where one of the classes is empty.
    """
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if n_positive == 0 or n_negative == 0:
        return math.nan
    rank_sum = float(average_ranks(scores)[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2.0) / (n_positive * n_negative)


def resamples(groups: Sequence[str], count: int, seed: int) -> list[IntArray]:
    """Places of the samples in ``count`` bootstrap samples that draw whole groups with replacement."""
    names = sorted(set(groups))
    members = [np.flatnonzero(np.array(groups) == name) for name in names]
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(names), size=(count, len(names)))
    return [np.concatenate([members[g] for g in draw]) for draw in draws]


def interval(statistic: Callable[[IntArray], float], samples: Sequence[IntArray]) -> tuple[float, float]:
    """95 % percentile interval of a statistic of the places drawn; samples where it is NaN don't count."""
    values = np.array([statistic(sample) for sample in samples])
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
