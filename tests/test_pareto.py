"""Pareto fronts against closed forms, the definition applied front by front, and the interpreted kernel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kernels import pareto as kernel
from kernels.pareto import pareto_fronts


def peeled(costs: np.ndarray) -> np.ndarray:
    """The definition: take off what is dominated by nothing that is left, again and again."""
    fronts = np.zeros(len(costs), dtype=np.int64)
    front, left = 0, np.arange(len(costs))
    while len(left):
        front += 1
        here = costs[left]
        no_higher = (here[:, None] <= here[None]).all(axis=2)
        dominated = (no_higher & ~no_higher.T).any(axis=0)
        fronts[left[~dominated]] = front
        left = left[dominated]
    return fronts


@settings(deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(0, 90), st.integers(1, 5)),
        elements=st.sampled_from([-0.0, 0.0, 1.0, 2.0, 3.0, math.inf]),
    )
)
def test_ties_are_those_of_the_definition(costs: np.ndarray) -> None:
    np.testing.assert_array_equal(pareto_fronts(costs), peeled(costs))


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("values", [3, 40, 10**9])
def test_many_rows_are_ranked_by_the_definition(columns: int, values: int) -> None:
    generator = np.random.default_rng([columns, values])
    costs = generator.integers(0, values, (700, columns)).astype(float)
    costs[generator.random(costs.shape) < 0.05] = math.inf
    opposed = np.hstack([costs, -costs[:, :1]])
    for table in (costs, opposed):
        np.testing.assert_array_equal(pareto_fronts(table), peeled(table))


def test_closed_forms() -> None:
    ladder = np.arange(300.0)
    np.testing.assert_array_equal(pareto_fronts(np.column_stack([ladder, ladder, 2 * ladder])), ladder + 1)
    np.testing.assert_array_equal(pareto_fronts(np.column_stack([ladder, ladder, -ladder])), np.ones(300))
    # on a grid every step away from the corner is one front further
    grid = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 3)
    np.testing.assert_array_equal(pareto_fronts(grid), grid.sum(axis=1) + 1)
    np.testing.assert_array_equal(pareto_fronts(np.full((100, 4), math.inf)), np.ones(100))


def test_without_rows_or_objectives() -> None:
    assert pareto_fronts(np.empty((0, 3))).tolist() == []
    assert pareto_fronts(np.empty((2, 0))).tolist() == [1, 1]


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got the shape \(3,\)"):
        pareto_fronts(np.ones(3))
    with pytest.raises(ValueError, match="holds 1 NaN; mark missing ones with inf"):
        pareto_fronts(np.array([[1.0, math.nan]]))


def test_compiled_equals_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = np.random.default_rng(3).integers(0, 9, (200, 4)).astype(float)
    compiled = pareto_fronts(costs)
    for name in ("_fronts", "_raise_one", "_raise", "_raise_each", "_split"):
        monkeypatch.setattr(kernel, name, getattr(kernel, name).py_func)
    monkeypatch.setattr(kernel, "_PAIRS", 16)
    np.testing.assert_array_equal(pareto_fronts(costs), compiled)
