"""Percolation thresholds: closed forms, brute force, compiled against interpreted."""

import itertools
import math
from functools import cache

import numba
import numpy as np
import pytest

from kernels import percolation as kernel
from kernels.percolation import (
    PercolationThresholds,
    half_neighbours,
    percolating_region,
    percolation,
    percolation_thresholds,
)

WALL = 9.0


@numba.njit
def flood(open_points, steps):
    """Windings (component, w1, w2, w3) by breadth-first search in unwrapped space."""
    n1, n2, n3 = open_points.shape
    component = np.full((n1, n2, n3), -1)
    cell = np.zeros((n1, n2, n3, 3), dtype=np.int64)
    queue = np.zeros((open_points.size, 3), dtype=np.int64)
    windings = [(-1, 0, 0, 0)]
    components = 0
    for start in np.argwhere(open_points):
        if component[start[0], start[1], start[2]] >= 0:
            continue
        component[start[0], start[1], start[2]] = components
        queue[0] = start
        head, tail = 0, 1
        while head < tail:
            i, j, k = queue[head]
            here = cell[i, j, k]
            head += 1
            for step in steps:
                a, b, c = i + step[0], j + step[1], k + step[2]
                there = np.array([here[0] + a // n1, here[1] + b // n2, here[2] + c // n3])
                a, b, c = a % n1, b % n2, c % n3
                if not open_points[a, b, c]:
                    continue
                if component[a, b, c] < 0:
                    component[a, b, c] = components
                    cell[a, b, c] = there
                    queue[tail] = np.array([a, b, c])
                    tail += 1
                else:
                    w = there - cell[a, b, c]
                    if w.any() and (components, w[0], w[1], w[2]) != windings[-1]:
                        windings.append((components, w[0], w[1], w[2]))
        components += 1
    return windings[1:]


def naive_dimensionality(open_points, connectivity):
    """Highest rank of winding vectors over the components."""
    half = half_neighbours(connectivity)
    windings = np.array(sorted(set(flood(open_points, np.concatenate([half, -half])))), dtype=int).reshape(-1, 4)
    return max((np.linalg.matrix_rank(windings[windings[:, 0] == c, 1:]) for c in set(windings[:, 0])), default=0)


def naive_thresholds(energies, connectivity):
    """Bisection over the sorted energies for each dimension."""
    levels = np.unique(energies[np.isfinite(energies)])
    dimensionality = cache(lambda n: naive_dimensionality(energies <= levels[n], connectivity))
    found = []
    for dimension in (1, 2, 3):
        low, high = 0, len(levels)
        while low < high:
            middle = (low + high) // 2
            if dimensionality(middle) >= dimension:
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


def noise(rng, shape):
    return rng.normal(size=shape)


def ties(rng, shape):
    return rng.integers(0, 4, size=shape).astype(float)


def sparse(rng, shape):
    """Mostly walls."""
    energies = np.where(rng.random(shape) < 0.45, rng.random(shape), np.inf)
    energies[0, 0, 0] = 0.0
    return energies


def skewed(rng, shape):
    """A smooth crystal in a skewed cell: the same waves, seen along other lattice vectors.

    A grid knows nothing of angles and lengths; what a skewed cell changes is which points are neighbours.
    """
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    skew = np.array([[1, rng.integers(-2, 3), rng.integers(-2, 3)], [0, 1, rng.integers(-2, 3)], [0, 0, 1]])
    waves = rng.integers(-1, 2, size=(4, 3))
    return np.cos(2 * np.pi * (x @ skew @ waves.T + rng.random(4))) @ rng.random(4) + 1e-3 * rng.random(shape)


def walk(rng, shape, steps):
    energies = np.full(shape, WALL)
    for point in np.cumsum(steps, axis=0) % shape:
        energies[tuple(point)] = 1.0 + rng.random()
    return energies


def channel(rng, shape):
    """A closed way that winds by up to two cells along each axis, its steps in any order."""
    winding = rng.integers(-2, 3, size=3)
    steps = [
        np.sign(w) * np.eye(3, dtype=int)[axis] for axis, w in enumerate(winding) for _ in range(abs(w) * shape[axis])
    ]
    return walk(rng, shape, rng.permutation(np.array(steps or [[0, 0, 0]])))


def helix(rng, shape):
    """Turns around a rectangle while it rises along the third axis."""
    a, b = (int(rng.integers(1, max(2, n - 1))) for n in shape[:2])
    ring = np.repeat([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], [a, b, a, b], axis=0)
    turns = [ring[n % len(ring)] for n in range(len(ring) * shape[2])]
    rises = np.linspace(0, len(turns), int(rng.integers(1, 3)) * shape[2], endpoint=False).astype(int)
    return walk(rng, shape, np.insert(np.array(turns), rises, [0, 0, 1], axis=0))


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("kind", [noise, ties, sparse, skewed, channel, helix])
def test_equals_brute_force(kind, connectivity):
    """504 grids in all; both subtract the same two numbers, so equality is exact."""
    percolating = 0
    for seed in range(42):
        rng = np.random.default_rng([seed, connectivity])
        smallest = 4 if kind in (channel, helix) else 1
        energies = kind(rng, tuple(int(n) for n in rng.integers(smallest, 9, size=3)))
        expected = naive_thresholds(energies, connectivity)
        found = percolation(energies, connectivity=connectivity)
        assert found.thresholds == expected, (seed, energies.shape)
        for threshold, saddle in zip(expected, found.saddles, strict=True):
            if math.isfinite(threshold):
                assert energies[tuple(saddle)] - energies.min() == threshold
            else:
                assert (saddle == -1).all()
        percolating += math.isfinite(expected[0])
    assert percolating > 21


def test_region_holds_the_winding_components_and_no_others():
    energies = np.full((6, 6, 6), WALL)
    energies[:, 1, 1] = 1.0
    energies[:, 4, 1] = 2.0
    energies[2:5, 4, 4] = 0.0
    assert percolating_region(energies, 1.0).sum() == 6
    assert percolating_region(energies, 2.0).sum() == 12
    assert percolating_region(energies, 2.0)[:, (1, 4), 1].all()
    assert not percolating_region(energies, 0.5).any()
    assert not percolating_region(energies, 2.0, dimensions=2).any()
    assert percolating_region(energies, 9.0, dimensions=3).all()
    with pytest.raises(ValueError, match="1, 2 or 3"):
        percolating_region(energies, 1.0, dimensions=0)


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
        monkeypatch.setattr(kernel, name, getattr(kernel, name).py_func)
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
