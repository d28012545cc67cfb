"""An even choice: as many of each prototype as of any other, and rare elements before common ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


def balanced_choice(
    pools: Sequence[BoolArray], wanted: int, per_pool: int, generator: np.random.Generator
) -> list[list[int]]:
    """Choose rows of pools so that pools and elements come about equally often.

    Pools take turns, each time in a new random order. The one whose turn it is gives the row whose elements have been
    chosen least: the smallest mean of ln(1 + times chosen) over the row's elements, the first of equal ones.

    Parameters
    ----------
    pools
        For each pool (m, K) whether a row holds each of K elements; every row holds at least one.
    wanted
        Rows in all; fewer when the pools run out.
    per_pool
        Most rows of one pool.
    generator
        Of the order of pools.

    Returns
    -------
    list of list of int
        The rows of each pool, in the order in which they were chosen.
    """
    chosen: list[list[int]] = [[] for _ in pools]
    used = np.zeros(pools[0].shape[1] if pools else 0)
    free = [np.ones(len(pool), bool) for pool in pools]
    number = 0
    while number < wanted:
        open_pools = [k for k, left in enumerate(free) if left.any() and len(chosen[k]) < per_pool]
        if not open_pools:
            break
        for k in generator.permutation(open_pools)[: wanted - number].tolist():
            held = pools[k]
            score = held @ np.log1p(used) / held.sum(axis=1)
            row = int(np.argmin(np.where(free[k], score, np.inf)))
            free[k][row] = False
            chosen[k].append(row)
            used += held[row]
            number += 1
    return chosen
