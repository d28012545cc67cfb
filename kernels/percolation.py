"""Exact percolation thresholds of a scalar field on a periodic grid, in one pass over its points."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class PercolationThresholds(NamedTuple):
    """Lowest energies, above the field's minimum, at which one connected region percolates.

    ``e1d`` is where some region is infinite in at least one direction, ``e2d`` in at least two independent
    directions, ``e3d`` in three; ``inf`` where that doesn't happen within the cap.
    """

    e1d: float
    e2d: float
    e3d: float


class Percolation(NamedTuple):
    """Thresholds and where they lie.

    Attributes
    ----------
    thresholds : PercolationThresholds
        Above the field's minimum.
    saddles : (3, 3) int64
        Grid indices of the point at which a region's dimensionality became 1, 2 and 3: the saddle point, whose
        energy is the threshold. -1 where that doesn't happen within the cap.
    """

    thresholds: PercolationThresholds
    saddles: IntArray


def percolation_thresholds(
    energies: FloatArray, cap: float = math.inf, connectivity: int = 26
) -> PercolationThresholds:
    """Energies at which the region ``energy <= threshold`` first percolates; see :func:`percolation`."""
    return percolation(energies, cap, connectivity).thresholds


def percolation(energies: FloatArray, cap: float = math.inf, connectivity: int = 26) -> Percolation:
    """Energies and points at which the region ``energy <= threshold`` first percolates in 1, 2 and 3 dimensions.

    Points join in order of energy (union-find). Each point keeps the number of cells between itself and its
    root, so an edge that closes a loop shows by how many cells that loop winds around the torus (the idea of
    Machta et al., Phys. Rev. E 1996, 54, 1332, used by Newman and Ziff, Phys. Rev. E 2001, 64, 016706). The
    rank of the lattice of a component's winding vectors is its dimensionality, also for helices and windings
    by several cells.

    Parameters
    ----------
    energies : (n1, n2, n3) float64
        Periodic along all three axes; eV. ``inf`` marks forbidden points.
    cap : float
        Energies above the minimum by more than this aren't visited, eV.
    connectivity : {6, 26}
        Neighbours of a grid point: those sharing a face, or also an edge or a corner.

    Raises
    ------
    ValueError
        When the array isn't three-dimensional, is empty, holds NaN or no finite number, or an argument is
        outside its range.
    """
    energies, lowest, order = points_in_order(energies, cap, connectivity)
    levels, saddles, _ = _percolate(
        energies.reshape(-1), order, np.array(energies.shape), half_neighbours(connectivity), True
    )
    places = np.stack(np.unravel_index(np.maximum(saddles, 0), energies.shape), axis=1).astype(np.int64)
    places[saddles < 0] = -1
    return Percolation(PercolationThresholds(*(float(level - lowest) for level in levels)), places)


def percolating_region(
    energies: FloatArray, level: float, dimensions: int = 1, connectivity: int = 26
) -> npt.NDArray[np.bool_]:
    """Mark the points of every connected region that percolates at an energy.

    Parameters
    ----------
    energies : (n1, n2, n3) float64
        As in :func:`percolation`.
    level : float
        eV above the lowest energy; the region holds the points up to it.
    dimensions : {1, 2, 3}
        In how many dimensions a region must percolate to be marked.
    connectivity : {6, 26}
        Neighbours of a grid point.

    Returns
    -------
    (n1, n2, n3) bool

    Raises
    ------
    ValueError
        As :func:`percolation`, and when ``dimensions`` isn't 1, 2 or 3.
    """
    if dimensions not in (1, 2, 3):
        raise ValueError(f"dimensions must be 1, 2 or 3, got {dimensions}")
    energies, _, order = points_in_order(energies, level, connectivity)
    _, _, ranks = _percolate(
        energies.reshape(-1), order, np.array(energies.shape), half_neighbours(connectivity), False
    )
    return (ranks >= dimensions).reshape(energies.shape)


def points_in_order(energies: FloatArray, cap: float, connectivity: int) -> tuple[FloatArray, float, IntArray]:
    """Check a field; give it contiguous, its lowest energy, and its points up to the cap in order of energy.

    Raises
    ------
    ValueError
        As :func:`percolation` says.
    """
    energies = np.ascontiguousarray(energies, dtype=np.float64)
    if energies.ndim != 3 or energies.size == 0:
        raise ValueError(f"energies must be a non-empty array of three dimensions, got the shape {energies.shape}")
    if np.isnan(energies).any():
        raise ValueError(f"energies holds {int(np.isnan(energies).sum())} NaN; mark forbidden points with inf")
    lowest = float(energies.min())
    if not math.isfinite(lowest):
        raise ValueError(f"the lowest energy must be finite, got {lowest}")
    if connectivity not in (6, 26):
        raise ValueError(f"connectivity must be 6 or 26, got {connectivity}")
    if not cap >= 0.0:
        raise ValueError(f"cap must be an energy of at least 0 eV, got {cap}")

    flat = energies.reshape(-1)
    allowed = np.flatnonzero((flat <= lowest + cap) & np.isfinite(flat))
    return energies, lowest, allowed[np.argsort(flat[allowed], kind="stable")]


def half_neighbours(connectivity: int) -> IntArray:
    """Offsets (m, 3) to one of each pair of opposite neighbours: 3 for faces, 13 with edges and corners."""
    offsets = [
        (i, j, k)
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        for k in (-1, 0, 1)
        if (i, j, k) > (0, 0, 0) and (connectivity == 26 or abs(i) + abs(j) + abs(k) == 1)
    ]
    return np.array(offsets, dtype=np.int64)


@jit
def _find(parent: IntArray, shift: IntArray, point: int) -> int:
    """Root of a point, which then hangs directly on it, with ``shift[point]`` cells between them."""
    root = point
    total0, total1, total2 = 0, 0, 0
    while parent[root] != root:
        total0 += shift[root, 0]
        total1 += shift[root, 1]
        total2 += shift[root, 2]
        root = parent[root]
    while parent[point] != root and point != root:
        next_point = parent[point]
        own0, own1, own2 = shift[point, 0], shift[point, 1], shift[point, 2]
        parent[point] = root
        shift[point, 0], shift[point, 1], shift[point, 2] = total0, total1, total2
        total0, total1, total2 = total0 - own0, total1 - own1, total2 - own2
        point = next_point
    return root


@jit
def _extend(basis: IntArray, rank: int, w0: int, w1: int, w2: int) -> int:
    """Add a winding vector to the ``rank`` rows of ``basis`` if it is independent of them; the new rank."""
    independent = False
    if rank == 0:
        independent = w0 != 0 or w1 != 0 or w2 != 0
    elif rank == 1:
        a0, a1, a2 = basis[0, 0], basis[0, 1], basis[0, 2]
        independent = a1 * w2 != a2 * w1 or a2 * w0 != a0 * w2 or a0 * w1 != a1 * w0
    elif rank == 2:
        a0, a1, a2 = basis[0, 0], basis[0, 1], basis[0, 2]
        b0, b1, b2 = basis[1, 0], basis[1, 1], basis[1, 2]
        volume = w0 * (a1 * b2 - a2 * b1) + w1 * (a2 * b0 - a0 * b2) + w2 * (a0 * b1 - a1 * b0)
        independent = volume != 0
    if independent:
        basis[rank, 0], basis[rank, 1], basis[rank, 2] = w0, w1, w2
        return rank + 1
    return rank


@jit
def _percolate(
    energies: FloatArray, order: IntArray, shape: IntArray, offsets: IntArray, stop_at_three: bool
) -> tuple[FloatArray, IntArray, IntArray]:
    """Energies and points at which the rank of a component's winding lattice becomes 1, 2 and 3.

    Energies are inf and points -1 where that doesn't happen. The third result holds each point's rank (that of
    its component, -1 outside of the region); it is empty when the pass stops at the third threshold.

    ``parent`` is -1 for points that haven't joined. ``shift[p]`` counts the cells to add to p's own to be in
    the frame of its parent. Only components that wind own a row of ``bases``: ``slot`` of their root.
    """
    n1, n2, n3 = shape[0], shape[1], shape[2]
    thresholds = np.full(3, np.inf)
    saddles = np.full(3, -1, dtype=np.int64)
    parent = np.full(n1 * n2 * n3, -1, dtype=np.int64)
    shift = np.zeros((n1 * n2 * n3, 3), dtype=np.int64)
    size = np.ones(n1 * n2 * n3, dtype=np.int64)
    slot = np.full(n1 * n2 * n3, -1, dtype=np.int64)
    bases = np.zeros((16, 3, 3), dtype=np.int64)
    ranks = np.zeros(16, dtype=np.int64)
    used = 0
    highest = 0
    for point in order:
        parent[point] = point
        i = point // (n2 * n3)
        j = (point // n3) % n2
        k = point % n3
        for o in range(2 * offsets.shape[0]):
            sign = 1 if o % 2 == 0 else -1
            i_free = i + sign * offsets[o // 2, 0]
            j_free = j + sign * offsets[o // 2, 1]
            k_free = k + sign * offsets[o // 2, 2]
            # cells crossed on the way to the neighbour
            c0, c1, c2 = i_free // n1, j_free // n2, k_free // n3
            neighbour = ((i_free - c0 * n1) * n2 + j_free - c1 * n2) * n3 + k_free - c2 * n3
            if parent[neighbour] < 0:
                continue
            root = _find(parent, shift, point)
            other = _find(parent, shift, neighbour)
            # cells between both roots, seen through this edge
            w0 = c0 + shift[point, 0] - shift[neighbour, 0]
            w1 = c1 + shift[point, 1] - shift[neighbour, 1]
            w2 = c2 + shift[point, 2] - shift[neighbour, 2]
            if root != other:
                if size[root] < size[other]:
                    root, other = other, root
                    w0, w1, w2 = -w0, -w1, -w2
                parent[other] = root
                size[root] += size[other]
                shift[other, 0], shift[other, 1], shift[other, 2] = w0, w1, w2
                if slot[other] >= 0:
                    if slot[root] < 0:
                        slot[root] = slot[other]
                    else:
                        into, source = slot[root], slot[other]
                        for b in range(ranks[source]):
                            ranks[into] = _extend(
                                bases[into],
                                ranks[into],
                                bases[source, b, 0],
                                bases[source, b, 1],
                                bases[source, b, 2],
                            )
            elif w0 != 0 or w1 != 0 or w2 != 0:
                if slot[root] < 0:
                    if used == ranks.shape[0]:
                        bases = np.concatenate((bases, np.zeros_like(bases)))
                        ranks = np.concatenate((ranks, np.zeros_like(ranks)))
                    slot[root] = used
                    used += 1
                ranks[slot[root]] = _extend(bases[slot[root]], ranks[slot[root]], w0, w1, w2)
            if slot[root] >= 0 and ranks[slot[root]] > highest:
                for dimension in range(highest, ranks[slot[root]]):
                    thresholds[dimension] = energies[point]
                    saddles[dimension] = point
                highest = ranks[slot[root]]
                if highest == 3 and stop_at_three:
                    return thresholds, saddles, np.empty(0, dtype=np.int64)
    rank_of_point = np.full(0 if stop_at_three else n1 * n2 * n3, -1, dtype=np.int64)
    if not stop_at_three:
        for point in order:
            root = _find(parent, shift, point)
            rank_of_point[point] = ranks[slot[root]] if slot[root] >= 0 else 0
    return thresholds, saddles, rank_of_point
