"""Percolation thresholds: closed forms, brute force, compiled against interpreted."""

import itertools
import math
from collections import deque

import numpy as np
import pytest

from kernels import percolation
from kernels.percolation import PercolationThresholds, half_neighbours, percolation_thresholds

WALL = 9.0


def naive_dimensionality(open_points, connectivity):
    """Highest rank of winding vectors over the components, by breadth-first search in unwrapped space."""
    shape = np.array(open_points.shape)
    half = half_neighbours(connectivity)
    steps = np.concatenate([half, -half])
    cell_of = {}
    best = 0
    for start in map(tuple, np.argwhere(open_points)):
        if start in cell_of:
            continue
        cell_of[start] = np.zeros(3, dtype=int)
        queue = deque([start])
        windings = [np.zeros(3, dtype=int)]
        while queue:
            here = queue.popleft()
            for step in steps:
                unwrapped = np.array(here) + step
                there = tuple(unwrapped % shape)
                cell = cell_of[here] + unwrapped // shape
                if not open_points[there]:
                    continue
                if there not in cell_of:
                    cell_of[there] = cell
                    queue.append(there)
                elif (cell != cell_of[there]).any():
                    windings.append(cell - cell_of[there])
        best = max(best, int(np.linalg.matrix_rank(np.array(windings))))
    return best


def naive_thresholds(energies, connectivity):
    """Bisection over the sorted energies for each dimension."""
    levels = np.unique(energies)
    found = []
    for dimension in (1, 2, 3):
        low, high = 0, len(levels)
        while low < high:
            middle = (low + high) // 2
            if naive_dimensionality(energies <= levels[middle], connectivity) >= dimension:
                high = middle
            else:
                low = middle + 1
        found.append(levels[low] - levels[0] if low < len(levels) else math.inf)
    return tuple(found)


def grid_with_path(shape, points, energy=1.0):
    energies = np.full(shape, WALL)
    for i, j, k in points:
        energies[i % shape[0], j % shape[1], k % shape[2]] = energy
    return energies


def test_straight_channel_is_one_dimensional_and_reports_its_highest_point():
    energies = grid_with_path((5, 6, 7), [(i, 2, 3) for i in range(5)])
    energies[3, 2, 3] = 1.75
    assert percolation_thresholds(energies, connectivity=6) == (0.75, WALL - 1.0, WALL - 1.0)


def test_planes_and_space_open_at_their_own_energies():
    energies = np.full((4, 4, 4), 5.0)
    energies[:, :, 0] = 3.0
    energies[:, 0, 0] = 1.0
    assert percolation_thresholds(energies) == PercolationThresholds(0.0, 2.0, 4.0)


def test_helix_is_one_dimensional():
    # one turn around a square of side 4 for each cell along k; the turn itself never winds
    ring = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (3, 3), (2, 3), (1, 3), (0, 3), (0, 2), (0, 1)]
    points = [(ring[k % 12][0], ring[k % 12][1], k) for k in range(12)]
    points += [(ring[(k + 1) % 12][0], ring[(k + 1) % 12][1], k) for k in range(12)]
    energies = grid_with_path((8, 8, 12), points)
    assert percolation_thresholds(energies, connectivity=6).e1d == 0.0
    assert percolation_thresholds(energies, connectivity=6).e2d == WALL - 1.0


def test_loop_that_closes_after_two_cells_is_one_dimensional():
    # two laps along i on different tracks, the second one climbing over the first: winding vector (2, 0, 0)
    corners = [
        (0, 0, 0),
        (3, 0, 0),
        (3, 2, 0),
        (7, 2, 0),
        (7, 2, 2),
        (7, 0, 2),
        (11, 0, 2),
        (11, 0, 0),
        (12, 0, 0),
    ]
    points = [corners[0]]
    for start, end in itertools.pairwise(np.array(corners)):
        points += [tuple(start + np.sign(end - start) * n) for n in range(1, np.abs(end - start).max() + 1)]
    energies = grid_with_path((6, 5, 4), points)
    assert (energies == 1.0).sum() == len(points) - 1  # the walk touches no point twice before it closes
    assert percolation_thresholds(energies, connectivity=6) == (0.0, WALL - 1.0, WALL - 1.0)
    energies[3, 1, 0] = WALL  # a loop of one winding vector: one cut ends it
    assert percolation_thresholds(energies, connectivity=6).e1d == WALL - 1.0


def test_windings_that_are_equal_modulo_two_are_two_dimensional():
    # (1, 1, 0) and (1, -1, 0) span a plane, though a 2x2x2 supercell can't tell them apart
    n = 8
    energies = np.full((n, n, 3), WALL)
    for s in range(n):
        for i, j in [(s, s), (s + 1, s), (s, -s), (s + 1, -s)]:
            energies[i % n, j % n, 1] = 1.0
    result = percolation_thresholds(energies, connectivity=6)
    assert result == (0.0, 0.0, WALL - 1.0)


def test_crossed_channels_become_a_plane_and_space_where_bridges_join_them():
    # channels along i, j and k that don't meet; each is a component that winds before the bridges join them
    energies = np.full((8, 8, 8), WALL)
    energies[:, 0, 0] = energies[2, :, 3] = energies[5, 5, :] = 1.0
    energies[2, 0, 1:3] = 2.5
    energies[2:6, 5, 3] = np.minimum(energies[2:6, 5, 3], 4.0)
    assert percolation_thresholds(energies, connectivity=6) == (0.0, 1.5, 3.0)


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("seed", range(30))
def test_equals_brute_force_on_random_grids(seed, connectivity):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 8, size=3))
    if seed % 3 == 0:  # many equal energies
        energies = rng.integers(0, 4, size=shape).astype(float)
    elif seed % 3 == 1:
        energies = rng.normal(size=shape)
    else:  # mostly walls: sparse, winding channels
        energies = np.where(rng.random(shape) < 0.45, rng.random(shape), np.inf)
        energies[0, 0, 0] = 0.0
    if not np.isfinite(energies).all():
        expected = naive_thresholds(np.where(np.isfinite(energies), energies, WALL), connectivity)
        expected = tuple(e if e < 1.5 else math.inf for e in expected)
    else:
        expected = naive_thresholds(energies, connectivity)
    # both subtract the same two numbers, so equality is exact
    assert percolation_thresholds(energies, connectivity=connectivity) == expected


def test_repeating_or_rolling_or_transposing_the_grid_changes_nothing():
    energies = np.random.default_rng(5).normal(size=(5, 4, 6))
    expected = percolation_thresholds(energies)
    for other in (
        np.tile(energies, (2, 1, 1)),
        np.tile(energies, (1, 2, 3)),
        np.roll(energies, (2, 1, 3), axis=(0, 1, 2)),
        energies.transpose(2, 0, 1),
        energies[::-1],
    ):
        assert percolation_thresholds(other) == expected


def test_cap_gives_infinity_above_it_and_changes_nothing_below():
    energies = np.random.default_rng(6).random((6, 6, 6))
    full = percolation_thresholds(energies, connectivity=6)
    assert full.e1d < full.e3d
    cap = (full.e1d + full.e3d) / 2
    capped = percolation_thresholds(energies, cap=cap, connectivity=6)
    assert capped == tuple(e if e <= cap else math.inf for e in full)


def test_compiled_equals_interpreted(monkeypatch):
    rng = np.random.default_rng(7)
    grids = [rng.normal(size=(5, 4, 3)), rng.normal(size=(1, 2, 6)), np.zeros((3, 3, 3))]
    # 20 separate channels along k: more winding components than the first block of bases holds
    grids.append(
        np.where(np.add.outer(np.arange(10) % 2, np.arange(8) % 2)[:, :, None] == 0, 0.0, 3.0) + np.zeros((10, 8, 2))
    )
    compiled = [percolation_thresholds(grid, connectivity=6) for grid in grids]
    assert compiled[-1] == (0.0, 3.0, 3.0)
    for name in ("_percolate", "_find", "_extend"):
        monkeypatch.setattr(percolation, name, getattr(percolation, name).py_func)
    assert [percolation_thresholds(grid, connectivity=6) for grid in grids] == compiled


@pytest.mark.parametrize(
    ("energies", "arguments", "message"),
    [
        (np.zeros((2, 2)), {}, "three dimensions"),
        (np.zeros((0, 2, 2)), {}, "non-empty"),
        (np.full((2, 2, 2), np.nan), {}, "8 NaN"),
        (np.full((2, 2, 2), np.inf), {}, "must be finite"),
        (np.zeros((2, 2, 2)), {"connectivity": 18}, "6 or 26"),
        (np.zeros((2, 2, 2)), {"cap": -1.0}, "at least 0"),
    ],
)
def test_bad_arguments_are_named(energies, arguments, message):
    with pytest.raises(ValueError, match=message):
        percolation_thresholds(energies, **arguments)
