"""Neighbour lists of many small periodic crystals at once.

For cells of a few to a few hundred atoms a direct sum over pairs and the exactly needed images is faster than any
cell list, and needs no set-up.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kernels._jit import jit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_RANGES_A_THREAD = 4  # crystals of one range may be larger than those of another


@jit
def _inverse(cell: FloatArray, out: FloatArray) -> float:
    """Write the inverse of a 3x3 matrix to ``out`` and return its determinant."""
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        for d in range(3):
            e, f = (d + 1) % 3, (d + 2) % 3
            out[d, a] = cell[b, e] * cell[c, f] - cell[b, f] * cell[c, e]
    determinant = cell[0, 0] * out[0, 0] + cell[0, 1] * out[1, 0] + cell[0, 2] * out[2, 0]
    for a in range(3):
        for d in range(3):
            out[a, d] /= determinant
    return float(determinant)


@jit
def _search_crystal(
    positions: FloatArray,
    cell: FloatArray,
    first: int,
    cutoff: float,
    fill: bool,
    start: int,
    source: IntArray,
    destination: IntArray,
    vectors: FloatArray,
    images: IntArray,
    closest: FloatArray,
) -> int:
    """Count (and with ``fill`` store) the directed neighbour pairs of one crystal; returns the count.

    ``closest`` receives the shortest distance and the two atoms that have it.
    """
    n = positions.shape[0]
    inverse = np.empty((3, 3))
    _inverse(cell, inverse)
    reach = np.empty(3)
    for a in range(3):
        # The inverse's column a is normal to the lattice planes; its length is one over their spacing.
        reach[a] = cutoff * math.sqrt(inverse[0, a] ** 2 + inverse[1, a] ** 2 + inverse[2, a] ** 2)
    fractional = np.dot(positions, inverse)
    whole = np.floor(fractional)
    fractional -= whole
    squared_cutoff = cutoff * cutoff
    shortest = closest[0] * closest[0]
    count = 0
    for i in range(n):
        for j in range(n):
            d0 = fractional[j, 0] - fractional[i, 0]
            d1 = fractional[j, 1] - fractional[i, 1]
            d2 = fractional[j, 2] - fractional[i, 2]
            for n0 in range(math.ceil(-reach[0] - d0), math.floor(reach[0] - d0) + 1):
                for n1 in range(math.ceil(-reach[1] - d1), math.floor(reach[1] - d1) + 1):
                    for n2 in range(math.ceil(-reach[2] - d2), math.floor(reach[2] - d2) + 1):
                        if i == j and n0 == 0 and n1 == 0 and n2 == 0:
                            continue
                        f0, f1, f2 = d0 + n0, d1 + n1, d2 + n2
                        x = f0 * cell[0, 0] + f1 * cell[1, 0] + f2 * cell[2, 0]
                        y = f0 * cell[0, 1] + f1 * cell[1, 1] + f2 * cell[2, 1]
                        z = f0 * cell[0, 2] + f1 * cell[1, 2] + f2 * cell[2, 2]
                        squared = x * x + y * y + z * z
                        if squared > squared_cutoff:
                            continue
                        if squared < shortest:
                            shortest = squared
                            closest[0] = math.sqrt(squared)
                            closest[1] = i
                            closest[2] = j
                        if fill:
                            edge = start + count
                            source[edge] = first + i
                            destination[edge] = first + j
                            vectors[edge, 0] = x
                            vectors[edge, 1] = y
                            vectors[edge, 2] = z
                            images[edge, 0] = n0 + int(whole[i, 0]) - int(whole[j, 0])
                            images[edge, 1] = n1 + int(whole[i, 1]) - int(whole[j, 1])
                            images[edge, 2] = n2 + int(whole[i, 2]) - int(whole[j, 2])
                        count += 1
    return count


@jit
def _count_all(
    positions: FloatArray,
    cells: FloatArray,
    offsets: IntArray,
    cutoff: float,
    counts: IntArray,
    closest: FloatArray,
) -> None:
    no_index = np.empty(0, np.int64)
    no_image = np.empty((0, 3), np.int64)
    no_vector = np.empty((0, 3))
    for b in range(cells.shape[0]):
        closest[b, 0] = np.inf
        counts[b] = _search_crystal(
            positions[offsets[b] : offsets[b + 1]],
            cells[b],
            offsets[b],
            cutoff,
            False,
            0,
            no_index,
            no_index,
            no_vector,
            no_image,
            closest[b],
        )


@jit
def _fill_all(
    positions: FloatArray,
    cells: FloatArray,
    offsets: IntArray,
    cutoff: float,
    starts: IntArray,
    source: IntArray,
    destination: IntArray,
    vectors: FloatArray,
    images: IntArray,
) -> None:
    closest = np.zeros(3)
    for b in range(cells.shape[0]):
        _search_crystal(
            positions[offsets[b] : offsets[b + 1]],
            cells[b],
            offsets[b],
            cutoff,
            True,
            starts[b],
            source,
            destination,
            vectors,
            images,
            closest,
        )


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="neighbours")


def _over_crystals(work: Callable[[slice], None], n_crystals: int, threads: int) -> None:
    """Call ``work``, which lets go of Python's lock, for ranges of crystals that together are all."""
    if threads == 1 or n_crystals < 2:
        work(slice(0, n_crystals))
        return
    bounds = np.linspace(0, n_crystals, min(_RANGES_A_THREAD * threads, n_crystals) + 1).astype(np.int64)
    # list(): raises what a thread raised
    list(_threads(threads).map(work, [slice(int(a), int(b)) for a, b in pairwise(bounds)]))


def neighbor_list(
    positions: FloatArray, cells: FloatArray, counts: IntArray, cutoff: float, threads: int = 1
) -> tuple[IntArray, IntArray, FloatArray, IntArray, IntArray, FloatArray]:
    """Directed neighbour pairs within a cutoff, for a batch of periodic crystals.

    Parameters
    ----------
    positions : (N, 3) float64
        Cartesian positions in Å, crystal after crystal; need not lie inside the cell.
    cells : (B, 3, 3) float64
        Lattice vectors as rows, Å.
    counts : (B,) int64
        Atoms in each crystal.
    cutoff : float
        Å; a pair exactly at the cutoff belongs to the list.
    threads : int
        Threads that share the crystals; the result is the same to the last bit.

    Returns
    -------
    source, destination : (E,) int64
        Atom indices in the batch; sources ascend.
    vectors : (E, 3) float64
        From source to the destination's image, Å.
    images : (E, 3) int64
        ``vectors = positions[destination] + images @ cell - positions[source]``.
    edges : (B,) int64
        Pairs of each crystal.
    closest : (B, 3) float64
        Shortest distance within the cutoff (inf if none) and the two atoms' indices in their crystal.

    Raises
    ------
    ValueError
        Shapes that do not belong together, values that are not finite, a singular cell.
    """
    if positions.ndim != 2 or positions.shape[1] != 3 or cells.shape != (len(counts), 3, 3):
        raise ValueError(
            f"positions {positions.shape} must be (N, 3) and cells {cells.shape} must be ({len(counts)}, 3, 3)"
        )
    if int(np.sum(counts)) != len(positions):
        raise ValueError(f"counts sum to {int(np.sum(counts))}, but there are {len(positions)} positions")
    if not (np.isfinite(positions).all() and np.isfinite(cells).all()):
        raise ValueError("positions and cells must be finite")
    if len(cells) and not np.all(np.abs(np.linalg.det(cells)) > 0.0):
        raise ValueError("a cell has zero volume")
    if not (np.isfinite(cutoff) and cutoff > 0.0):
        raise ValueError(f"cutoff must be a positive number in Å, got {cutoff}")
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    positions = np.ascontiguousarray(positions, np.float64)
    cells = np.ascontiguousarray(cells, np.float64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    edges = np.zeros(len(cells), np.int64)
    closest = np.zeros((len(cells), 3))
    cutoff = float(cutoff)

    def count(part: slice) -> None:
        of_part = offsets[part.start : part.stop + 1]
        _count_all(positions, cells[part], of_part, cutoff, edges[part], closest[part])

    _over_crystals(count, len(cells), threads)
    starts = np.cumsum(edges) - edges
    total = int(edges.sum())
    source = np.empty(total, np.int64)
    destination = np.empty(total, np.int64)
    vectors = np.empty((total, 3))
    images = np.empty((total, 3), np.int64)

    def fill(part: slice) -> None:
        of_part = offsets[part.start : part.stop + 1]
        _fill_all(positions, cells[part], of_part, cutoff, starts[part], source, destination, vectors, images)

    _over_crystals(fill, len(cells), threads)
    return source, destination, vectors, images, edges, closest
