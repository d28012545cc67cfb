"""Hull kernels: closed forms, HiGHS as the naive version, and compiled equal to interpreted."""

import numpy as np
import pytest
from scipy.optimize import linprog

from kernels import hull, open_hull

# Two solvers of one linear program in double precision; HiGHS' feasibility tolerance is 1e-7.
SAME = 1e-6


def random_points(seed: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors first, then atom fractions of random formulas with energies around -1 eV/atom."""
    rng = np.random.default_rng(seed)
    amounts = rng.integers(0, 5, size=(m, n)).astype(float)
    amounts[amounts.sum(axis=1) == 0] = 1.0
    points = np.vstack([np.eye(n), amounts / amounts.sum(axis=1, keepdims=True)])
    return points, np.concatenate([np.zeros(n), rng.normal(-1.0, 0.5, m)])


def random_targets(seed: int, n: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    amounts = rng.integers(0, 7, size=(k, n)).astype(float)
    amounts[amounts.sum(axis=1) == 0] = 1.0
    return amounts / amounts.sum(axis=1, keepdims=True)


def by_highs(points: np.ndarray, costs: np.ndarray, target: np.ndarray) -> float:
    return float(linprog(costs, A_eq=points.T, b_eq=target, bounds=(0, None), method="highs-ds").fun)


def test_line_closed_form() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.75, 0.25]])
    costs = np.array([0.0, 0.0, -2.0, -0.5])  # the last lies above the tie line at -1
    basis, amounts, potentials, energies = hull.lower_hull(points, costs, np.array([[0.75, 0.25], [0.5, 0.5]]), 4)
    np.testing.assert_allclose(energies, [-1.0, -2.0], atol=1e-12)
    assert sorted(basis[0].tolist()) == [0, 2]
    np.testing.assert_allclose(sorted(amounts[0]), [0.5, 0.5], atol=1e-12)
    # the facet from (1, 0) at 0 to (1/2, 1/2) at -2 has potentials 0 and -4
    np.testing.assert_allclose(potentials[0], [0.0, -4.0], atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 7])
@pytest.mark.parametrize("facets_kept", [0, 8, 512])
def test_lower_hull_equals_highs(n: int, facets_kept: int) -> None:
    points, costs = random_points(n, n, 60)
    targets = random_targets(10 + n, n, 40)
    basis, amounts, potentials, energies = hull.lower_hull(points, costs, targets, facets_kept)
    for t, target in enumerate(targets):
        assert energies[t] == pytest.approx(by_highs(points, costs, target), abs=SAME)
    np.testing.assert_allclose(np.einsum("tk,tkn->tn", amounts, points[basis]), targets, atol=1e-10)
    # dual feasibility: no point lies below any facet, and strong duality holds
    assert (costs[None, :] - potentials @ points.T).min() > -1e-9
    np.testing.assert_allclose((potentials * targets).sum(axis=1), energies, atol=1e-9)


def test_many_phases_on_one_line_do_not_cycle() -> None:
    # 30 phases exactly on the tie line, and targets on it: every pivot is degenerate.
    share = np.linspace(0.0, 1.0, 32)[1:-1]
    points = np.vstack([np.eye(3), np.column_stack([share, 1.0 - share, np.zeros(30)])])
    costs = np.concatenate([np.zeros(3), np.full(30, -1.0)])
    targets = points[3:]
    energies = hull.lower_hull(points, costs, targets, 16)[3]
    np.testing.assert_allclose(energies, -1.0, atol=1e-12)


def naive_content(points: np.ndarray, costs: np.ndarray, contents: np.ndarray, target: np.ndarray, mu: float) -> float:
    found = linprog(costs - mu * contents, A_eq=points.T, b_eq=target, bounds=(0, None), method="highs-ds")
    return float(found.x @ contents)


@pytest.mark.parametrize("seed", range(6))
def test_reservoir_profile_equals_one_program_for_each_price(seed: int) -> None:
    n = 3
    points, costs = random_points(seed, n, 25)
    contents = np.concatenate([np.zeros(n), np.random.default_rng(seed).uniform(0.0, 2.0, 25)])
    target = random_targets(seed, n, 1)[0]
    prices, levels, bases, amounts = open_hull.reservoir_profile(points, costs, contents, target)
    assert prices[0] == 0.0
    assert (np.diff(prices) < 0.0).all()
    assert (np.diff(levels) < 0.0).all()
    ends = [*prices[1:], prices[-1] - 1.0]
    for top, bottom, level in zip(prices, ends, levels, strict=True):
        middle = 0.5 * (top + bottom)
        assert level == pytest.approx(naive_content(points, costs, contents, target, middle), abs=SAME)
    np.testing.assert_allclose(np.einsum("sk,skn->sn", amounts, points[bases]), np.tile(target, (len(levels), 1)))


def test_reservoir_profile_closed_form() -> None:
    # One other element B; phases B, AB (E -1, one A a B) and A3B (E -1.5, three A a B), per atom of B:
    # AB + 2 A -> A3B gains 0.5 for 2 A, so mu = -0.25; AB -> B + A costs 1 for 1 A, so mu = -1.
    points = np.array([[1.0], [1.0], [1.0]])
    prices, levels, bases, _ = open_hull.reservoir_profile(
        points, np.array([0.0, -1.0, -1.5]), np.array([0.0, 1.0, 3.0]), np.array([1.0])
    )
    np.testing.assert_allclose(prices, [0.0, -0.25, -1.0], atol=1e-12)
    assert levels.tolist() == [3.0, 1.0, 0.0]
    assert bases[:, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize("seed", range(6))
def test_lowest_mixture_equals_a_scan(seed: int) -> None:
    n = 4
    points, costs = random_points(seed, n, 30)
    first, second = random_targets(50 + seed, n, 2)
    first_cost, second_cost = by_highs(points, costs, first), by_highs(points, costs, second)
    share, energy, basis, amounts = open_hull.lowest_mixture(points, costs, first, second, first_cost, second_cost)
    mixtures = np.linspace(0.0, 1.0, 201)
    scan = [
        by_highs(points, costs, x * first + (1 - x) * second) - x * first_cost - (1 - x) * second_cost for x in mixtures
    ]
    assert energy <= min(scan) + SAME
    target = share * first + (1 - share) * second
    np.testing.assert_allclose(amounts @ points[basis], target, atol=1e-9)
    at = by_highs(points, costs, target) - share * first_cost - (1 - share) * second_cost
    assert energy == pytest.approx(at, abs=SAME)


def test_partners_that_do_not_react() -> None:
    points = np.vstack([np.eye(2), [[0.5, 0.5]]])
    costs = np.array([0.0, 0.0, -1.0])
    _, energy, _, _ = open_hull.lowest_mixture(points, costs, points[2], points[0], -1.0, 0.0)
    assert energy == pytest.approx(0.0, abs=1e-12)


def test_compiled_equals_interpreted() -> None:
    points, costs = random_points(1, 4, 20)
    targets = random_targets(2, 4, 10)
    contents = np.concatenate([np.zeros(4), np.linspace(0.1, 2.0, 20)])
    for kernel, arguments in (
        (hull.lower_hull, (points, costs, targets, 3)),
        (open_hull.reservoir_profile, (points, costs, contents, targets[0])),
        (open_hull.lowest_mixture, (points, costs, targets[0], targets[1], 0.0, 0.0)),
    ):
        for compiled, plain in zip(kernel(*arguments), kernel.py_func(*arguments), strict=True):
            np.testing.assert_allclose(compiled, plain, atol=1e-12)


def test_points_of_a_sparse_table() -> None:
    # rows (0: 1/4 of coordinate 2, 3/4 of 5), (1: all of 7), (2: 1/2 each of 5 and 7)
    table = np.array([0, 2, 3, 5]), np.array([2, 5, 7, 5, 7]), np.array([0.25, 0.75, 1.0, 0.5, 0.5])
    place = np.array([0, 0, 1, 0, 0, 0, 0, 2])
    rows = np.array([2, 0])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0.5], [0.75, 0.25, 0]]
    assert hull.gather_points(rows, *table, place, 3).tolist() == expected
    assert hull.gather_points.py_func(rows, *table, place, 3).tolist() == expected


def test_a_singular_basis_is_told() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    assert not hull.invert(points, np.array([2, 3]), np.empty((2, 2)))
    inverse = np.empty((2, 2))
    assert hull.invert(points, np.array([0, 2]), inverse)
    np.testing.assert_allclose(inverse @ points[[0, 2]].T, np.eye(2), atol=1e-12)
