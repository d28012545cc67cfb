"""Agreement of surrogate and DFT."""

import math

import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from pipeline.dft.agreement import agreement


def table(*pairs: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["energy_above_hull", "dft_energy_above_hull"])


def test_parity_and_order_over_the_rows_that_have_both() -> None:
    found = agreement(table((0.0, 0.01), (0.02, 0.05), (0.05, 0.04), (0.03, math.nan), (math.nan, 0.1)))
    assert found.n == 3
    assert found.mean_absolute_difference == pytest.approx((0.01 + 0.03 + 0.01) / 3)
    assert found.mean_difference == pytest.approx((-0.01 - 0.03 + 0.01) / 3)
    assert found.spearman == pytest.approx(spearmanr([0, 0.02, 0.05], [0.01, 0.05, 0.04]).statistic)
    assert found.kendall == pytest.approx(kendalltau([0, 0.02, 0.05], [0.01, 0.05, 0.04]).statistic)


def test_too_few_rows_have_no_order() -> None:
    assert agreement(table()).n == 0
    one = agreement(table((0.02, 0.03)))
    assert one.mean_absolute_difference == pytest.approx(0.01)
    assert math.isnan(one.kendall)
    assert math.isnan(agreement(table((0.0, 0.1), (0.0, 0.2))).spearman)
