"""Sites of a periodic energy landscape and the passes between them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.percolation import _find, half_neighbours, points_in_order

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class SiteGraph(NamedTuple):
    """Sites (minima) joined by edges (lowest passes), on a torus.

    Attributes
    ----------
    shape : tuple of int
        Points of the grid along the three axes.
    site_points : (s, 3) int64
        Grid indices of the sites, lowest energy first.
    site_energies : (s,) float64
        eV, as in the field (not relative to its minimum).
    edge_sites : (e, 2) int64
        Both ends of each edge; they may be the same site in different cells.
    edge_cells : (e, 3) int64
        Cell of the second end when the first is in cell 0. The opposite edge isn't listed.
    edge_points : (e, 3) int64
        Grid indices of the edges' saddle points.
    edge_energies : (e,) float64
        Energies of the saddle points, ascending, eV.
    """

    shape: tuple[int, int, int]
    site_points: IntArray
    site_energies: FloatArray
    edge_sites: IntArray
    edge_cells: IntArray
    edge_points: IntArray
    edge_energies: FloatArray

    def edge_vectors(self, lattice: FloatArray) -> FloatArray:
        """Vectors (e, 3) from the first to the second end of each edge, Å, for a lattice (3, 3) of row vectors."""
        steps = self.site_points[self.edge_sites[:, 1]] - self.site_points[self.edge_sites[:, 0]]
        return np.asarray((steps / np.array(self.shape) + self.edge_cells) @ lattice)


def site_graph(energies: FloatArray, cap: float, persistence: float = 0.0, connectivity: int = 26) -> SiteGraph:
    """Sites and passes of a periodic field up to an energy, by union-find over its points in order of energy.

    A point without visited neighbours is a minimum; any other joins the basin of its lowest neighbour. Where two
    basins touch for the first time through a given number of cells lies their pass (the saddle of a watershed);
    passes between the same basins through different cells are all kept. The graph percolates at the same energies
    as the field, exactly: each point of a basin is reached from its minimum by a way that only descends.

    Parameters
    ----------
    energies : (n1, n2, n3) float64
        Periodic; eV. ``inf`` marks forbidden points.
    cap : float
        eV above the minimum; what lies higher is left out.
    persistence : float
        eV. A minimum less than this below its lowest pass is no site of its own, but part of the site beyond the
        pass (persistence in the sense of Edelsbrunner, Letscher and Zomorodian, Discrete Comput. Geom. 2002, 28,
        511). A basin that winds around the cell stays a site of its own, so that the thresholds stay exact.
    connectivity : {6, 26}
        Neighbours of a grid point.

    Raises
    ------
    ValueError
        As :func:`kernels.percolation.percolation`, and when the persistence is negative.
    """
    if not persistence >= 0.0:
        raise ValueError(f"persistence must be an energy of at least 0 eV, got {persistence}")
    energies, _, order = points_in_order(energies, cap, connectivity)
    flat = energies.reshape(-1)
    minima, ends, cells, saddles, roots, shifts = _touching_basins(
        flat, order, np.array(energies.shape), half_neighbours(connectivity), persistence
    )
    # basins that were merged are seen from their site: the edge's cell moves with both ends
    sites = np.unique(roots)
    sites = sites[np.lexsort((minima[sites], flat[minima[sites]]))]
    number = np.zeros(len(roots), dtype=np.int64)
    number[sites] = np.arange(len(sites))
    ends, cells, saddles = _distinct(
        number[roots[ends]], cells + shifts[ends[:, 0]] - shifts[ends[:, 1]], saddles, flat
    )
    place = np.stack(np.unravel_index(np.arange(flat.size), energies.shape), axis=1).astype(np.int64)
    return SiteGraph(
        (energies.shape[0], energies.shape[1], energies.shape[2]),
        place[minima[sites]],
        flat[minima[sites]],
        ends,
        cells,
        place[saddles],
        flat[saddles],
    )


def _distinct(ends: IntArray, cells: IntArray, saddles: IntArray, flat: FloatArray) -> tuple[IntArray, ...]:
    """Edges in one direction each, without what is inside a site, the lowest of those with equal ends and cells."""
    backwards = ends[:, 0] > ends[:, 1]
    leading = np.sign(np.where(cells[:, 0] != 0, cells[:, 0], np.where(cells[:, 1] != 0, cells[:, 1], cells[:, 2])))
    backwards |= (ends[:, 0] == ends[:, 1]) & (leading < 0)
    ends = np.where(backwards[:, None], ends[:, ::-1], ends)
    cells = np.where(backwards[:, None], -cells, cells)
    order = np.argsort(flat[saddles], kind="stable")
    order = order[(ends[order, 0] != ends[order, 1]) | (cells[order] != 0).any(axis=1)]
    _, first = np.unique(np.hstack([ends, cells])[order], axis=0, return_index=True)
    kept = order[np.sort(first)]
    return ends[kept], cells[kept], saddles[kept]


@jit
def _touching_basins(
    energies: FloatArray, order: IntArray, shape: IntArray, offsets: IntArray, persistence: float
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray, IntArray]:
    """Basins (their minima), where they touch (ends, cells, saddles), and the basin and cells that each is part of.

    ``shift[p]`` counts the cells to add to p's own to be in the frame of its basin's minimum. ``group`` joins the
    basins that are connected so far, ``whole`` those that were merged into one site.
    """
    n1, n2, n3 = shape[0], shape[1], shape[2]
    basin = np.full(n1 * n2 * n3, -1, dtype=np.int64)
    shift = np.zeros((n1 * n2 * n3, 3), dtype=np.int64)
    minima = np.zeros(64, dtype=np.int64)
    group = np.zeros(64, dtype=np.int64)
    group_shift = np.zeros((64, 3), dtype=np.int64)
    group_minimum = np.zeros(64, dtype=np.int64)
    winds = np.zeros(64, dtype=np.bool_)
    whole = np.zeros(64, dtype=np.int64)
    whole_shift = np.zeros((64, 3), dtype=np.int64)
    last_edge = np.zeros(64, dtype=np.int64)  # of a basin's linked list of edges, in which it is the first end
    basins = 0
    ends = np.zeros((256, 2), dtype=np.int64)
    cells = np.zeros((256, 3), dtype=np.int64)
    saddles = np.zeros(256, dtype=np.int64)
    previous = np.zeros(256, dtype=np.int64)
    edges = 0
    near = np.zeros((2 * offsets.shape[0], 4), dtype=np.int64)
    for point in order:
        i, j, k = point // (n2 * n3), (point // n3) % n2, point % n3
        count = 0
        lowest = -1
        for o in range(2 * offsets.shape[0]):
            sign = 1 if o % 2 == 0 else -1
            i_free = i + sign * offsets[o // 2, 0]
            j_free = j + sign * offsets[o // 2, 1]
            k_free = k + sign * offsets[o // 2, 2]
            c0, c1, c2 = i_free // n1, j_free // n2, k_free // n3
            neighbour = ((i_free - c0 * n1) * n2 + j_free - c1 * n2) * n3 + k_free - c2 * n3
            if neighbour == point:  # a cell of one point: the loop closes within the point's own basin
                near[count, 0], near[count, 1], near[count, 2], near[count, 3] = point, c0, c1, c2
                count += 1
            elif basin[neighbour] >= 0:
                near[count, 0], near[count, 1], near[count, 2], near[count, 3] = neighbour, c0, c1, c2
                if lowest < 0 or energies[neighbour] < energies[near[lowest, 0]]:
                    lowest = count
                count += 1
        if lowest < 0:
            if basins == minima.shape[0]:
                minima = np.concatenate((minima, np.zeros_like(minima)))
                group = np.concatenate((group, np.zeros_like(group)))
                group_shift = np.concatenate((group_shift, np.zeros_like(group_shift)))
                group_minimum = np.concatenate((group_minimum, np.zeros_like(group_minimum)))
                winds = np.concatenate((winds, np.zeros_like(winds)))
                whole = np.concatenate((whole, np.zeros_like(whole)))
                whole_shift = np.concatenate((whole_shift, np.zeros_like(whole_shift)))
                last_edge = np.concatenate((last_edge, np.zeros_like(last_edge)))
            minima[basins] = point
            group[basins] = whole[basins] = group_minimum[basins] = basins
            last_edge[basins] = -1
            basin[point] = basins
            basins += 1
        else:
            below = near[lowest, 0]
            basin[point] = basin[below]
            for axis in range(3):
                shift[point, axis] = shift[below, axis] - near[lowest, 1 + axis]
        own = basin[point]
        for n in range(count):
            neighbour = near[n, 0]
            other = basin[neighbour]
            # cell in which the neighbour's basin lies, seen from this one
            w0 = near[n, 1] + shift[point, 0] - shift[neighbour, 0]
            w1 = near[n, 2] + shift[point, 1] - shift[neighbour, 1]
            w2 = near[n, 3] + shift[point, 2] - shift[neighbour, 2]
            if own == other and w0 == 0 and w1 == 0 and w2 == 0:
                continue
            first, second = own, other
            if own > other:
                first, second = other, own
                w0, w1, w2 = -w0, -w1, -w2
            edge = last_edge[first]
            while edge >= 0 and not (
                ends[edge, 1] == second and cells[edge, 0] == w0 and cells[edge, 1] == w1 and cells[edge, 2] == w2
            ):
                edge = previous[edge]
            if edge >= 0:
                continue
            if edges == saddles.shape[0]:
                ends = np.concatenate((ends, np.zeros_like(ends)))
                cells = np.concatenate((cells, np.zeros_like(cells)))
                saddles = np.concatenate((saddles, np.zeros_like(saddles)))
                previous = np.concatenate((previous, np.zeros_like(previous)))
            ends[edges, 0], ends[edges, 1] = first, second
            cells[edges, 0], cells[edges, 1], cells[edges, 2] = w0, w1, w2
            saddles[edges] = point
            previous[edges] = last_edge[first]
            last_edge[first] = edges
            edges += 1

            root, there = _find(group, group_shift, first), _find(group, group_shift, second)
            v0 = w0 + group_shift[first, 0] - group_shift[second, 0]
            v1 = w1 + group_shift[first, 1] - group_shift[second, 1]
            v2 = w2 + group_shift[first, 2] - group_shift[second, 2]
            if root == there:
                winds[root] = winds[root] or v0 != 0 or v1 != 0 or v2 != 0
                continue
            # the group whose minimum is the higher one ends here, as one site or as a part of the other's
            if energies[minima[group_minimum[root]]] > energies[minima[group_minimum[there]]]:
                root, there = there, root
                v0, v1, v2 = -v0, -v1, -v2
                first, second = second, first
                w0, w1, w2 = -w0, -w1, -w2
            if energies[point] - energies[minima[group_minimum[there]]] < persistence and not winds[there]:
                inner, outer = _find(whole, whole_shift, second), _find(whole, whole_shift, first)
                u0 = w0 + whole_shift[first, 0] - whole_shift[second, 0]
                u1 = w1 + whole_shift[first, 1] - whole_shift[second, 1]
                u2 = w2 + whole_shift[first, 2] - whole_shift[second, 2]
                if energies[minima[inner]] < energies[minima[outer]]:
                    inner, outer = outer, inner
                    u0, u1, u2 = -u0, -u1, -u2
                whole[inner] = outer
                whole_shift[inner, 0], whole_shift[inner, 1], whole_shift[inner, 2] = u0, u1, u2
            group[there] = root
            group_shift[there, 0], group_shift[there, 1], group_shift[there, 2] = v0, v1, v2
            winds[root] = winds[root] or winds[there]
    for b in range(basins):
        _find(whole, whole_shift, b)
    return minima[:basins], ends[:edges], cells[:edges], saddles[:edges], whole[:basins], whole_shift[:basins]
