"""Time the Pareto fronts of random rows, by divide and conquer and by comparing each row with each, in one run.

Rows are uniform random numbers, or, for a single front, points of a plane where what one objective gains another
loses. Where that is feasible fronts are checked against the comparison. Exit code 1 where they differ.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from relaxation_tables import table

from kernels.pareto import pareto_fronts

OBJECTIVES = 4
COMPARED = (1_000, 2_000)
LARGE = 100_000


def main() -> int:
    """Draw, time, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    rng = np.random.default_rng(parser.parse_args().seed)
    pareto_fronts(rng.random((64, OBJECTIVES)))  # compiles
    shown, same = [], True
    for rows in (*COMPARED, LARGE):
        costs = rng.random((rows, OBJECTIVES))
        seconds, fronts = _timed(pareto_fronts, costs)
        naive = "–"
        if rows in COMPARED:
            slow, expected = _timed(each_with_each, costs)
            naive, same = f"{slow:.2f}", same and bool((fronts == expected).all())
        shown.append((f"{rows:,}", fronts.max(), naive, f"{seconds:.3f}"))
    costs = rng.random((LARGE, OBJECTIVES))
    costs[:, -1] = -costs[:, :-1].sum(axis=1)
    seconds, fronts = _timed(pareto_fronts, costs)
    same = same and bool((fronts == 1).all())
    shown.append((f"{LARGE:,}", fronts.max(), "–", f"{seconds:.3f}"))
    table("rows | fronts | each with each, s | divide and conquer, s", shown)
    print(f"fronts {'agree' if same else 'DIFFER'}")
    return int(not same)


def each_with_each(costs: np.ndarray) -> np.ndarray:
    """(n,) fronts by peeling: whatever no remaining row dominates is the next front."""
    no_higher = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    dominates = no_higher & ~no_higher.T
    fronts = np.zeros(len(costs), dtype=np.int64)
    front = 0
    while (left := fronts == 0).any():
        front += 1
        fronts[left & ~dominates[left].any(axis=0)] = front
    return fronts


def _timed(function, costs):  # type: ignore[no-untyped-def]
    started = time.process_time()
    result = function(costs)
    return time.process_time() - started, result


if __name__ == "__main__":
    sys.exit(main())
