"""Sites and passes of a periodic field: closed forms, the grid's own thresholds, compiled against interpreted."""

import math

import numpy as np
import pytest

from kernels import graph_percolation, site_graph
from kernels.graph_percolation import percolating_edges
from kernels.percolation import percolation_thresholds

graph_of = site_graph.site_graph


def channel(heights):
    """A straight channel along the second axis through walls."""
    energies = np.full((4, len(heights), 4), 9.0)
    energies[1, :, 2] = heights
    return energies


def test_two_sites_in_a_channel_are_joined_on_both_sides():
    graph = graph_of(channel([0.0, 0.5, 0.2, 0.8, 0.7]), cap=2.0)
    assert graph.site_points.tolist() == [[1, 0, 2], [1, 2, 2]]
    assert graph.site_energies.tolist() == [0.0, 0.2]
    assert graph.edge_energies.tolist() == [0.5, 0.8]
    assert graph.edge_points.tolist() == [[1, 1, 2], [1, 3, 2]]
    assert graph.edge_sites.tolist() == [[0, 1], [0, 1]]
    assert graph.edge_cells.tolist() == [[0, 0, 0], [0, -1, 0]]
    # the cell is 10 Å long, the sites 4 Å and, the other way round, 6 Å apart
    np.testing.assert_allclose(graph.edge_vectors(10.0 * np.eye(3)), [[0, 4, 0], [0, -6, 0]], atol=1e-12)
    found = percolating_edges(graph)
    assert found.thresholds == (0.8, math.inf, math.inf)
    assert found.paths[0].tolist() == [0, 1]
    assert found.paths[1].size == found.paths[2].size == 0


def test_shallow_minimum_joins_the_site_beyond_its_lowest_pass():
    energies = channel([0.0, 0.5, 0.45, 0.9, 0.3, 0.6])
    assert len(graph_of(energies, cap=2.0).site_energies) == 3
    graph = graph_of(energies, cap=2.0, persistence=0.1)
    assert graph.site_energies.tolist() == [0.0, 0.3]
    assert graph.edge_energies.tolist() == [0.6, 0.9]
    # the merged minimum's pass to the other site is the site's now; neither way crosses into another cell twice
    assert sorted(graph.edge_cells.tolist()) == [[0, -1, 0], [0, 0, 0]]


def test_one_site_in_the_cell_has_an_edge_to_its_own_images():
    x = np.cos(2 * np.pi * np.arange(6) / 6)
    energies = -(x[:, None, None] + x[None, :, None] + x[None, None, :])
    graph = graph_of(energies, cap=10.0, connectivity=6)
    assert graph.site_points.tolist() == [[0, 0, 0]]
    assert {tuple(c) for c in graph.edge_cells.tolist()} >= {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    np.testing.assert_allclose(graph.edge_energies[:3], -1.0, atol=1e-12)
    assert percolating_edges(graph).thresholds == percolation_thresholds(energies, connectivity=6)
    assert percolating_edges(graph).paths[2].size == 3


def test_dead_ends_are_no_part_of_the_way():
    energies = channel([0.0, 0.5, 0.2, 0.8])
    energies[1, 0, 3] = 0.3  # a pocket beside the channel
    energies[1, 0, 0] = 0.1
    graph = graph_of(energies, cap=2.0, connectivity=6)
    assert len(graph.site_energies) == 3
    found = percolating_edges(graph)
    assert sorted(graph.edge_energies[found.paths[0]].tolist()) == [0.5, 0.8]


@pytest.mark.parametrize("persistence", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("connectivity", [6, 26])
def test_graph_percolates_where_the_grid_does(connectivity, persistence):
    fewer = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, connectivity])
        shape = tuple(int(n) for n in rng.integers(1, 8, size=3))
        if seed % 3 == 0:
            energies = rng.integers(0, 4, size=shape).astype(float)
        elif seed % 3 == 1:
            energies = rng.normal(size=shape)
        else:
            energies = np.where(rng.random(shape) < 0.45, rng.random(shape), np.inf)
            energies[0, 0, 0] = 0.0
        graph = graph_of(energies, math.inf, persistence, connectivity)
        found = percolating_edges(graph)
        # both subtract the same two numbers, so equality is exact, however many minima were merged
        assert found.thresholds == percolation_thresholds(energies, connectivity=connectivity), (seed, shape)
        fewer += len(graph.site_energies) < len(graph_of(energies, math.inf, 0.0, connectivity).site_energies)
        for threshold, path in zip(found.thresholds, found.paths, strict=True):
            if math.isfinite(threshold):
                assert graph.edge_energies[path].max() - energies.min() <= threshold
    assert (fewer > 10) == (persistence > 0.0)


def test_edges_are_passes_between_their_sites():
    energies = np.random.default_rng(3).normal(size=(6, 5, 7))
    graph = graph_of(energies, cap=math.inf)
    assert len(np.unique(np.hstack([graph.edge_sites, graph.edge_cells]), axis=0)) == len(graph.edge_sites)
    assert (graph.edge_sites[:, 0] <= graph.edge_sites[:, 1]).all()
    assert (np.diff(graph.edge_energies) >= 0.0).all()
    for sites, point, energy in zip(graph.edge_sites, graph.edge_points, graph.edge_energies, strict=True):
        assert energies[tuple(point)] == energy > graph.site_energies[sites].max()
    for point, energy in zip(graph.site_points, graph.site_energies, strict=True):
        around = [np.arange(p - 1, p + 2) % n for p, n in zip(point, energies.shape, strict=True)]
        assert energies[np.ix_(*around)].min() == energy


def test_repeating_the_cell_repeats_sites_and_edges():
    energies = np.random.default_rng(4).normal(size=(5, 6, 4))
    once, twice = graph_of(energies, 2.0, 0.2), graph_of(np.tile(energies, (2, 1, 1)), 2.0, 0.2)
    np.testing.assert_array_equal(twice.site_energies, np.repeat(once.site_energies, 2))
    np.testing.assert_array_equal(twice.edge_energies, np.repeat(once.edge_energies, 2))


def test_compiled_equals_interpreted(monkeypatch):
    rng = np.random.default_rng(7)
    # the first grid has more minima and edges than the first blocks of memory hold
    fields = [
        rng.normal(size=(12, 10, 8)),
        rng.normal(size=(1, 2, 6)),
        rng.integers(0, 3, size=(4, 4, 4)).astype(float),
    ]
    compiled = [graph_of(field, math.inf, 0.1, 6) for field in fields]
    assert len(graph_of(fields[0], math.inf, 0.0, 6).site_energies) > 64
    ways = [percolating_edges(graph) for graph in compiled]
    for name in ("_touching_basins", "_find"):
        monkeypatch.setattr(site_graph, name, getattr(site_graph, name).py_func)
    for name in ("_extend", "_find"):
        monkeypatch.setattr(graph_percolation, name, getattr(graph_percolation, name).py_func)
    for field, graph, way in zip(fields, compiled, ways, strict=True):
        again = graph_of(field, math.inf, 0.1, 6)
        for one, other in zip(graph, again, strict=True):
            np.testing.assert_array_equal(one, other)
        assert percolating_edges(again).thresholds == way.thresholds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cap": 1.0, "persistence": -0.1}, "persistence"),
        ({"cap": -1.0}, "cap"),
        ({"cap": 1.0, "connectivity": 18}, "6 or 26"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        graph_of(np.zeros((2, 2, 2)), **arguments)
