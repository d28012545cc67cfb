"""Rank statistics against closed forms and SciPy, and the bootstrap over groups."""

import math

import numpy as np
import pytest
from scipy import stats

from kernels.rank_statistics import average_ranks, interval, resamples, roc_auc, spearman


def test_equal_values_share_their_mean_rank():
    np.testing.assert_array_equal(average_ranks(np.array([3.0, 1.0, 3.0, math.inf])), [2.5, 1.0, 2.5, 4.0])
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        average_ranks(np.array([math.nan, 1.0]))


def test_agrees_with_scipy():
    generator = np.random.default_rng(5)
    one = np.round(generator.normal(size=60), 1)  # with ties
    other = np.round(one + generator.normal(size=60), 1)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)
    positive = other > 0.3
    u = stats.mannwhitneyu(one[positive], one[~positive]).statistic
    assert roc_auc(one, positive) == pytest.approx(u / (positive.sum() * (~positive).sum()), abs=1e-12)


def test_a_constant_tells_nothing_and_an_order_everything():
    order = np.arange(8.0)
    assert spearman(np.zeros(8), order) == 0.0
    assert roc_auc(np.zeros(8), order > 4) == 0.5
    assert spearman(order, np.exp(order)) == pytest.approx(1.0)
    assert spearman(order, -order) == pytest.approx(-1.0)
    assert roc_auc(order, order > 4) == 1.0
    assert math.isnan(roc_auc(order, order > 9))


def test_bootstrap_draws_whole_groups_and_repeats_itself():
    groups = ["a", "b", "a", "c", "c", "c"]
    samples = resamples(groups, 50, seed=3)
    for sample in samples:
        drawn = np.bincount(sample, minlength=6)
        assert drawn[0] == drawn[2]
        assert drawn[3] == drawn[4] == drawn[5]
        assert drawn[0] + drawn[1] + drawn[3] == 3
    assert any(not np.array_equal(samples[0], other) for other in samples[1:])
    for one, other in zip(samples, resamples(groups, 50, seed=3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_interval_of_a_mean_is_that_of_the_normal_law():
    generator = np.random.default_rng(8)
    values = generator.normal(size=400)
    samples = resamples([str(i) for i in range(400)], 2000, seed=1)
    low, high = interval(lambda places: float(values[places].mean()), samples)
    half_width = 1.96 * values.std() / 20.0
    # the percentiles of 2000 draws scatter by a few per cent of the width
    assert low == pytest.approx(values.mean() - half_width, abs=0.15 * half_width)
    assert high == pytest.approx(values.mean() + half_width, abs=0.15 * half_width)
