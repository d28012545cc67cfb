"""Pareto fronts of a table of costs (non-dominated sorting) by divide and conquer."""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BLOCK = 32
"""Rows that are compared each with each; a power of two."""

_PAIRS = 1024
"""Pairs of rows up to which two sets are compared one by one."""


def pareto_fronts(costs: FloatArray) -> IntArray:
    """Number the Pareto fronts: 1 is dominated by none, 2 only by front 1, and so on.

    A row dominates another when no cost of it is higher and one is lower (Deb et al. 2002, IEEE Trans. Evol. Comput. 6,
    182, section III.A); equal rows share their front. A row's front is one above the highest front among the rows that
    dominate it. Sets of rows are split at a value, and what lies on both sides of it needs no comparison in that cost
    (Jensen 2003, IEEE Trans. Evol. Comput. 7, 503; Buzdalov and Shalyto 2014, PPSN XIII, 528, where values are equal):
    the time grows with n log(n)^(m - 1) for n rows of m costs.

    Parameters
    ----------
    costs : (n, m) float64
        inf is allowed, NaN isn't.

    Returns
    -------
    (n,) int64

    Raises
    ------
    ValueError
        When the array isn't two-dimensional, or holds NaN.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2:
        raise ValueError(f"costs must be an array of rows and objectives, got the shape {costs.shape}")
    if np.isnan(costs).any():
        raise ValueError(f"costs holds {int(np.isnan(costs).sum())} NaN; mark missing ones with inf")
    n, m = costs.shape
    if n == 0 or m == 0:
        return np.ones(n, dtype=np.int64)
    order = np.lexsort(costs.T[::-1])
    ordered = costs[order]
    differs = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
    distinct = ordered[differs]
    levels = np.empty((m - 1, len(distinct)), dtype=np.int64)
    for column in range(1, m):
        levels[column - 1] = np.unique(distinct[:, column], return_inverse=True)[1]
    fronts = np.empty(n, dtype=np.int64)
    fronts[order] = _fronts(levels)[np.cumsum(differs) - 1]
    return fronts


@jit
def _fronts(levels: IntArray) -> IntArray:
    """Fronts (n,) of different rows in lexicographic order, of which all costs but the first are given (k, n).

    No row dominates one before it. When the rows up to a block's end have their fronts, as many as the largest power
    of two that divides their blocks are held against as many after them: each pair of blocks meets once, in time.
    """
    k, n = levels.shape
    fronts = np.ones(n, dtype=np.int64)
    blocks = (n + _BLOCK - 1) // _BLOCK
    for block in range(blocks):
        end = min((block + 1) * _BLOCK, n)
        for row in range(block * _BLOCK, end):
            for earlier in range(block * _BLOCK, row):
                _raise_one(levels, fronts, earlier, row, k)
        width = ((block + 1) & -(block + 1)) * _BLOCK
        if end < n:
            _raise(levels, fronts, np.arange(end - width, end), np.arange(end, min(end + width, n)))
    return fronts


@jit
def _raise_one(levels: IntArray, fronts: IntArray, earlier: int, later: int, k: int) -> None:
    """Put a row above an earlier one that is nowhere higher in the first ``k`` columns."""
    if fronts[earlier] < fronts[later]:
        return
    for column in range(k):
        if levels[column, earlier] > levels[column, later]:
            return
    fronts[later] = fronts[earlier] + 1


@jit
def _raise(levels: IntArray, fronts: IntArray, earlier: IntArray, later: IntArray) -> None:
    """Put each later row above the earlier ones that dominate it; both arrays are put into another order.

    A task is two ranges of rows and the number of columns that are still to be compared. A level in the middle leaves
    the lower parts, the upper parts, and what is at most the level against what is at least that, which has a column
    less. That comes last, since it mixes ranges that the others need apart.
    """
    tasks = np.empty((4 + 2 * 64 * (len(levels) + 1), 5), dtype=np.int64)
    tasks[0] = 0, len(earlier), 0, len(later), len(levels)
    count = 1
    while count > 0:
        count -= 1
        a0, a1, b0, b1, k = tasks[count]
        if a0 == a1 or b0 == b1:
            continue
        if k == 0 or (a1 - a0) * (b1 - b0) <= _PAIRS:
            _raise_each(levels, fronts, earlier[a0:a1], later[b0:b1], k)
            continue
        values = levels[k - 1]
        lowest, highest = values[earlier[a0:a1]].min(), values[later[b0:b1]].max()
        if lowest > highest:
            continue
        middle = (lowest + highest) // 2
        a = _split(values, earlier, a0, a1, middle + 1)
        b = _split(values, later, b0, b1, middle)
        tasks[count] = a0, a, b, b1, k - 1
        tasks[count + 1] = a, a1, b, b1, k
        tasks[count + 2] = a0, a, b0, b, k
        count += 3


@jit
def _raise_each(levels: IntArray, fronts: IntArray, earlier: IntArray, later: IntArray, k: int) -> None:
    """Put later rows above earlier ones: one by one, or above all of them where no column is left to compare."""
    if k == 0:
        highest = fronts[earlier].max() + 1
        for b in later:
            fronts[b] = max(fronts[b], highest)
        return
    for b in later:
        for a in earlier:
            _raise_one(levels, fronts, a, b, k)


@jit
def _split(values: IntArray, rows: IntArray, start: int, end: int, level: int) -> int:
    """Order ``rows[start:end]`` into those below the level and the others; where the others begin."""
    for place in range(start, end):
        row = rows[place]
        if values[row] < level:
            rows[place], rows[start] = rows[start], row
            start += 1
    return start
