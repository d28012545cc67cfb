"""Neighbour lists: closed forms, a naive NumPy version, compiled against interpreted."""

import numpy as np
import pytest

from kernels import neighbors
from kernels.neighbors import neighbor_list


def _random_crystals(n_crystals: int, seed: int):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, n_crystals)
    cells = np.eye(3) * rng.uniform(3.0, 6.0, (n_crystals, 1, 1)) + rng.uniform(-1.0, 1.0, (n_crystals, 3, 3))
    positions = np.concatenate([rng.uniform(-2.0, 2.0, (k, 3)) @ cell for k, cell in zip(counts, cells, strict=True)])
    return positions, cells, counts.astype(np.int64)


def _naive(positions, cell, cutoff):
    """All pairs over a generous block of images."""
    pairs = set()
    reach = int(np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0).max())) + 5
    grid = np.arange(-reach, reach + 1)
    images = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), axis=-1).reshape(-1, 3)
    for i in range(len(positions)):
        for j in range(len(positions)):
            distances = np.linalg.norm(positions[j] + images @ cell - positions[i], axis=1)
            for image, distance in zip(images, distances, strict=True):
                if distance <= cutoff and not (i == j and not image.any()):
                    pairs.add((i, j, *map(int, image)))
    return pairs


@pytest.mark.parametrize(
    ("cell", "neighbours", "distance"),
    [
        (np.eye(3) * 3.0, 6, 3.0),  # simple cubic
        (1.5 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1.0]]), 8, 1.5 * np.sqrt(3.0)),  # body-centred
        (2.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0.0]]), 12, 2.0 * np.sqrt(2.0)),  # face-centred
    ],
)
def test_coordination_of_cubic_lattices(cell, neighbours, distance):
    _, _, vectors, _, edges, closest = neighbor_list(np.zeros((1, 3)), cell[None], np.array([1]), distance + 0.01)
    assert edges.tolist() == [neighbours]
    # Lengths are sums of a few float64 products.
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), distance, rtol=1e-14)
    np.testing.assert_allclose(closest[0, 0], distance, rtol=1e-14)


def test_agrees_with_all_pairs():
    positions, cells, counts = _random_crystals(6, seed=1)
    source, destination, vectors, images, edges, closest = neighbor_list(positions, cells, counts, 4.0)
    first_edge = first_atom = 0
    for b, (n, cell) in enumerate(zip(counts, cells, strict=True)):
        here = slice(first_edge, first_edge + edges[b])
        own = positions[first_atom : first_atom + n]
        i, j = source[here] - first_atom, destination[here] - first_atom
        found = {(int(a), int(c), *map(int, image)) for a, c, image in zip(i, j, images[here], strict=True)}
        assert found == _naive(own, cell, 4.0)
        assert len(found) == edges[b]
        assert np.all(np.diff(i) >= 0)
        # Wrapping into the cell and back costs a few rounding errors of coordinates of some 10 Å.
        np.testing.assert_allclose(vectors[here], own[j] + images[here] @ cell - own[i], atol=1e-12)
        assert closest[b, 0] == pytest.approx(np.linalg.norm(vectors[here], axis=1).min(initial=np.inf), abs=1e-12)
        first_edge += edges[b]
        first_atom += n


def test_compiled_equals_python(monkeypatch):
    positions, cells, counts = _random_crystals(3, seed=2)
    compiled = neighbor_list(positions, cells, counts, 3.0)
    for name in ("_inverse", "_search_crystal", "_count_all", "_fill_all"):
        monkeypatch.setattr(neighbors, name, getattr(neighbors, name).py_func)
    interpreted = neighbor_list(positions, cells, counts, 3.0)
    for a, b in zip(compiled, interpreted, strict=True):
        # NumPy's dot may order three products differently.
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_not_a_bit(threads):
    positions, cells, counts = _random_crystals(17, seed=3)
    for a, b in zip(
        neighbor_list(positions, cells, counts, 4.0), neighbor_list(positions, cells, counts, 4.0, threads), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_isolated_atom_and_empty_batch():
    *_, edges, closest = neighbor_list(np.zeros((1, 3)), np.eye(3)[None] * 20.0, np.array([1]), 5.0)
    assert edges.tolist() == [0]
    assert np.isinf(closest[0, 0])
    source, *_ = neighbor_list(np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0, np.int64), 5.0)
    assert len(source) == 0


def test_two_atoms_at_one_place_are_a_pair_of_length_zero():
    *_, closest = neighbor_list(np.zeros((2, 3)), np.eye(3)[None] * 6.0, np.array([2]), 5.0)
    assert closest[0].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("positions", "cells", "cutoff", "message"),
    [
        (np.zeros((2, 3)), np.eye(3)[None], 1.0, "counts sum to 1"),
        (np.zeros((1, 2)), np.eye(3)[None], 1.0, r"must be \(N, 3\)"),
        (np.full((1, 3), np.nan), np.eye(3)[None], 1.0, "must be finite"),
        (np.zeros((1, 3)), np.zeros((1, 3, 3)), 1.0, "zero volume"),
        (np.zeros((1, 3)), np.eye(3)[None], 0.0, "cutoff must be a positive number"),
    ],
)
def test_bad_input_is_refused(positions, cells, cutoff, message):
    with pytest.raises(ValueError, match=message):
        neighbor_list(positions, cells, np.array([1]), cutoff)


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        neighbor_list(np.zeros((1, 3)), np.eye(3)[None], np.array([1]), 1.0, threads=0)
