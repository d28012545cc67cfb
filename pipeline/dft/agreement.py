"""How the surrogate's distances to the hull agree with DFT's: parity and order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kernels.rank_statistics import spearman

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Agreement:
    """Agreement of ``energy_above_hull`` with ``dft_energy_above_hull`` over n rows.

    Attributes
    ----------
    n
        Rows that have both.
    mean_absolute_difference, mean_difference
        Of surrogate minus DFT, eV/atom; NaN without rows.
    spearman, kendall
        Rank correlations (Kendall's tau-b), -1 to 1; NaN with fewer than two rows, or where one side is constant.
    """

    n: int
    mean_absolute_difference: float
    mean_difference: float
    spearman: float
    kendall: float


def agreement(table: pd.DataFrame) -> Agreement:
    """Compare surrogate and DFT over the rows of a table that both have placed.

    Parameters
    ----------
    table
        With ``energy_above_hull`` and ``dft_energy_above_hull`` (eV/atom); rows where either is missing don't count.
    """
    from scipy.stats import kendalltau

    pair = table[["energy_above_hull", "dft_energy_above_hull"]].to_numpy(dtype=float, na_value=np.nan)
    surrogate, dft = pair[np.isfinite(pair).all(axis=1)].T
    difference = surrogate - dft
    n = len(difference)
    if n == 0:
        return Agreement(0, *[float("nan")] * 4)
    mean_absolute, mean = float(np.abs(difference).mean()), float(difference.mean())
    if n < 2 or np.ptp(surrogate) == 0.0 or np.ptp(dft) == 0.0:
        return Agreement(n, mean_absolute, mean, float("nan"), float("nan"))
    return Agreement(n, mean_absolute, mean, spearman(surrogate, dft), float(kendalltau(surrogate, dft).statistic))
