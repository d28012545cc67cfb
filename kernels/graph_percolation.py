"""Percolation of a site graph: the same thresholds as the grid's, and the edges that make it percolate."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.percolation import PercolationThresholds, _extend, _find
from kernels.site_graph import SiteGraph

IntArray = npt.NDArray[np.int64]


class PercolatingEdges(NamedTuple):
    """Thresholds of a site graph and what makes it percolate at each.

    Attributes
    ----------
    thresholds : PercolationThresholds
        Above the lowest site, eV.
    paths : tuple of (m,) int64
        For one, two and three dimensions the edges of the way: the loops whose windings are independent, and what
        joins them. Each is a way of lowest saddles; among ways with the same highest saddle it isn't always the
        one with the fewest edges. Empty where the graph doesn't percolate.
    """

    thresholds: PercolationThresholds
    paths: tuple[IntArray, IntArray, IntArray]


def percolating_edges(graph: SiteGraph) -> PercolatingEdges:
    """Add edges in order of energy; the rank of a component's winding vectors is its dimensionality.

    Edges that join two components grow a spanning forest (Kruskal 1956), so the loop that any further edge closes
    goes over the lowest saddles there are. The loops that raise a component's rank, less its dead ends, are the
    way.
    """
    n = len(graph.site_energies)
    parent, shift = np.arange(n), np.zeros((n, 3), dtype=np.int64)
    bases = {site: np.zeros((3, 3), dtype=np.int64) for site in range(n)}
    ranks = dict.fromkeys(range(n), 0)
    kept: dict[int, list[int]] = {site: [] for site in range(n)}  # tree edges and rank-raising loops
    levels = [math.inf] * 3
    paths = [np.empty(0, dtype=np.int64)] * 3
    highest = 0
    for edge, ((a, b), cell) in enumerate(zip(graph.edge_sites.tolist(), graph.edge_cells, strict=True)):
        root, other = _find(parent, shift, a), _find(parent, shift, b)
        winding = cell + shift[a] - shift[b]
        if root != other:
            parent[other], shift[other] = root, winding
            kept[root] += [edge, *kept.pop(other)]
            for vector in bases.pop(other)[: ranks.pop(other)]:
                ranks[root] = _extend(bases[root], ranks[root], *vector)
        elif winding.any():
            before = ranks[root]
            ranks[root] = _extend(bases[root], before, *winding)
            if ranks[root] == before:
                continue
            kept[root].append(edge)
        while highest < ranks[root]:
            levels[highest] = float(graph.edge_energies[edge] - graph.site_energies[0])
            paths[highest] = without_dead_ends(graph, kept[root])
            highest += 1
        if highest == 3:
            break
    return PercolatingEdges(PercolationThresholds(*levels), (paths[0], paths[1], paths[2]))


def without_dead_ends(graph: SiteGraph, edges: Iterable[int]) -> IntArray:
    """Those of the edges (places in the graph) that lie on a loop or between two loops, in order."""
    alive = np.array(sorted(edges), dtype=np.int64)
    while True:
        degree = np.bincount(graph.edge_sites[alive].reshape(-1), minlength=len(graph.site_energies))
        dead = (degree[graph.edge_sites[alive]] == 1).any(axis=1)
        if not dead.any():
            return alive
        alive = alive[~dead]
