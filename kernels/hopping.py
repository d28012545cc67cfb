"""Kinetic Monte Carlo of carriers that hop between the sites of a periodic crystal; tracer diffusivity."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class TracerDiffusivity(NamedTuple):
    """Diffusivity of a tagged carrier, a third of the tensor's trace.

    Attributes
    ----------
    value : float
        Å²/s. It may be negative within its error where no carrier got away from its traps.
    error : float
        Standard error from the blocks, Å²/s, and no less than one carrier's longest hop in the whole time: where
        carriers only rattle in their traps the blocks agree on zero.
    seconds : float
        Simulated time, s.
    bottleneck_hops : int
        Hops over the edges marked as ``bottlenecks``, in the counted blocks. Below one
        a carrier and block the value is that of short times: too large.
    """

    value: float
    error: float
    seconds: float
    bottleneck_hops: int


def tracer_diffusivity(
    site_energies: FloatArray,
    edge_sites: IntArray,
    edge_cells: IntArray,
    edge_vectors: FloatArray,
    edge_rates: FloatArray,
    repeats: tuple[int, int, int],
    carriers: int,
    *,
    jumps: int,
    blocks: int = 50,
    seed: int = 0,
    exclusion: bool = True,
    bottlenecks: npt.NDArray[np.bool_] | None = None,
) -> TracerDiffusivity:
    """Tracer diffusivity from a rejection-free simulation of a supercell.

    Each step picks one of the possible hops by its rate and takes the mean residence time of the state (Bortz,
    Kalos and Lebowitz, J. Comput. Phys. 1975, 17, 10). A first block is not counted. In each block the mean square
    displacement of its first half is subtracted from that of the whole: what carriers move to and fro within a
    trap cancels, which it wouldn't in MSD/6t.

    Parameters
    ----------
    site_energies : (s,) float64
        Of the sites of one cell, in units of kT. Carriers that exclude each other start on the lowest sites, others
        by Boltzmann's distribution.
    edge_sites : (e, 2) int64
        Sites that an edge joins.
    edge_cells : (e, 3) int64
        Cell of the second end when the first is in cell 0.
    edge_vectors : (e, 3) float64
        From the first to the second end, Å.
    edge_rates : (e, 2) float64
        Hops a second along the edge, and back.
    repeats : (r1, r2, r3)
        Cells of the supercell along each axis.
    carriers : int
        In the supercell.
    jumps : int
        Hops in all, divided evenly among the blocks and the uncounted one.
    blocks : int
        Independent parts of the simulation that give the error.
    seed : int
        Of the random numbers; the same seed gives the same result.
    exclusion : bool
        Whether a site holds one carrier at most; otherwise the carriers don't see each other.
    bottlenecks : (e,) bool or None
        Edges whose hops are counted (None: all), to tell whether the simulation was long enough.

    Raises
    ------
    ValueError
        When shapes disagree, a rate is negative or not finite, or a number is outside of its range.
    """
    n = len(site_energies)
    edge_sites = np.asarray(edge_sites, dtype=np.int64).reshape(-1, 2)
    edge_rates = np.asarray(edge_rates, dtype=np.float64).reshape(-1, 2)
    n_sites = n * math.prod(repeats)
    _check(edge_sites, edge_rates, np.shape(edge_cells), np.shape(edge_vectors), n)
    if min(repeats) < 1 or not 1 <= carriers <= (n_sites if exclusion else carriers):
        raise ValueError(f"{carriers} carriers don't fit on {n_sites} sites ({n} sites, {repeats} cells)")
    if blocks < 2 or jumps < 2 * (blocks + 1):
        raise ValueError(f"{blocks} blocks (at least 2) need {2 * (blocks + 1)} jumps or more, got {jumps}")

    marked = (
        np.ones(len(edge_sites), dtype=np.bool_) if bottlenecks is None else np.asarray(bottlenecks, dtype=np.bool_)
    )
    hops = _directed(edge_sites, np.asarray(edge_cells), np.asarray(edge_vectors), edge_rates, marked, n, repeats)
    generator = np.random.default_rng(seed)
    energy = np.repeat(np.asarray(site_energies, dtype=np.float64), n_sites // n)
    if exclusion:
        positions = np.lexsort((generator.random(n_sites), energy))[:carriers].astype(np.int64)
    else:
        # a carrier that started on a high site might stay in a part of the network that is empty in equilibrium
        shares = np.exp(energy.min() - energy)
        positions = generator.choice(n_sites, size=carriers, p=shares / shares.sum()).astype(np.int64)
    half, full, crossed = _simulate(*hops, positions, exclusion, jumps, blocks, generator)
    span = full[:, 1] - half[:, 1]
    total = span.sum()
    if total == 0.0:  # no carrier can move
        return TracerDiffusivity(0.0, 0.0, 0.0, 0)
    each = (full[:, 0] - half[:, 0]) / (6.0 * span)
    value = float((each * span).sum() / total)
    error = math.sqrt(float(((span * (each - value)) ** 2).sum()) * blocks / (blocks - 1)) / float(total)
    one_hop = float((hops[2] ** 2).sum(axis=1).max()) / (6.0 * carriers * float(total))
    return TracerDiffusivity(value, max(error, one_hop), float(full[:, 1].sum()), int(crossed))


def _check(
    edge_sites: IntArray, edge_rates: FloatArray, cells: tuple[int, ...], vectors: tuple[int, ...], n: int
) -> None:
    edges = len(edge_sites)
    for name, shape, expected in (
        ("edge_rates", edge_rates.shape, (edges, 2)),
        ("edge_cells", cells, (edges, 3)),
        ("edge_vectors", vectors, (edges, 3)),
    ):
        if shape != expected:
            raise ValueError(f"{name} must have the shape {expected}, got {shape}")
    if n == 0 or (edges and not (edge_sites.min() >= 0 and edge_sites.max() < n)):
        raise ValueError(f"edge_sites names sites {np.unique(edge_sites)} of {n}")
    if not (np.isfinite(edge_rates).all() and (edge_rates >= 0.0).all()):
        raise ValueError("edge_rates holds a rate that is negative or not finite")


def _directed(
    sites: IntArray,
    cells: IntArray,
    vectors: FloatArray,
    rates: FloatArray,
    marked: npt.NDArray[np.bool_],
    n: int,
    repeats: tuple[int, int, int],
) -> tuple[IntArray, IntArray, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Both directions of every edge, sorted by the site they leave: starts, targets by cell, vectors, rates, marks."""
    leaving = np.concatenate([sites[:, 0], sites[:, 1]])
    order = np.argsort(leaving, kind="stable")
    starts = np.searchsorted(leaving[order], np.arange(n + 1)).astype(np.int64)
    ends = np.concatenate([sites[:, 1], sites[:, 0]])[order]
    crossed = np.concatenate([cells, -cells])[order]
    home = np.indices(repeats).reshape(3, 1, -1)
    there = (home + crossed.T[:, :, None]) % np.array(repeats)[:, None, None]
    targets = ends[:, None] * math.prod(repeats) + np.ravel_multi_index(tuple(there), repeats)
    return (
        starts,
        np.ascontiguousarray(targets, dtype=np.int64),
        np.concatenate([vectors, -vectors])[order].astype(np.float64),
        np.concatenate([rates[:, 0], rates[:, 1]])[order],
        np.concatenate([marked, marked])[order],
    )


@jit
def _set_rate(
    carrier: int,
    starts: IntArray,
    targets: IntArray,
    rates: FloatArray,
    cells: int,
    positions: IntArray,
    occupant: IntArray,
    exclusion: bool,
    tree: FloatArray,
) -> None:
    """Sum the rates of a carrier's possible hops, and the branches of the tree above it.

    ``tree[1]`` is the sum over all carriers, ``tree[n]`` that of ``tree[2n]`` and ``tree[2n + 1]``.
    """
    site, cell = positions[carrier] // cells, positions[carrier] % cells
    total = 0.0
    for hop in range(starts[site], starts[site + 1]):
        if not exclusion or occupant[targets[hop, cell]] < 0:
            total += rates[hop]
    node = tree.shape[0] // 2 + carrier
    if tree[node] == total:
        return
    tree[node] = total
    while node > 1:
        node //= 2
        tree[node] = tree[2 * node] + tree[2 * node + 1]


@jit
def _simulate(
    starts: IntArray,
    targets: IntArray,
    vectors: FloatArray,
    rates: FloatArray,
    marked: npt.NDArray[np.bool_],
    positions: IntArray,
    exclusion: bool,
    jumps: int,
    blocks: int,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray, int]:
    """Mean square displacement (Å²) and time (s) at half and at the end of each block; hops over marked edges.

    Site s in cell c of the supercell is number ``s * cells + c``; ``targets[hop, c]`` is where a hop from there ends.
    """
    carriers = positions.shape[0]
    cells = targets.shape[1]
    occupant = np.full((starts.shape[0] - 1) * cells, -1, dtype=np.int64)
    for carrier in range(carriers):
        occupant[positions[carrier]] = carrier
    leaves = 1
    while leaves < carriers:
        leaves *= 2
    tree = np.zeros(2 * leaves)
    for carrier in range(carriers):
        _set_rate(carrier, starts, targets, rates, cells, positions, occupant, exclusion, tree)
    half, full = np.zeros((blocks, 2)), np.zeros((blocks, 2))
    moved = np.zeros((carriers, 3))
    length = jumps // (blocks + 1)
    crossed = 0
    for block in range(-1, blocks):
        moved[:] = 0.0
        time = 0.0
        for step in range(length):
            if tree[1] <= 0.0:
                return half, full, crossed
            time += 1.0 / tree[1]
            left = generator.random() * tree[1]
            node = 1
            while node < leaves:
                node *= 2
                # what rounding leaves over must not end at a carrier that can't move
                if left >= tree[node] and tree[node + 1] > 0.0:
                    left -= tree[node]
                    node += 1
            carrier = node - leaves
            here = positions[carrier]
            site, cell = here // cells, here % cells
            chosen, there = -1, -1
            for hop in range(starts[site], starts[site + 1]):
                target = targets[hop, cell]
                if rates[hop] == 0.0 or (exclusion and occupant[target] >= 0):
                    continue
                chosen, there = hop, target
                if left < rates[hop]:
                    break
                left -= rates[hop]
            positions[carrier] = there
            if block >= 0 and marked[chosen]:
                crossed += 1
            for axis in range(3):
                moved[carrier, axis] += vectors[chosen, axis]
            if exclusion:
                occupant[here], occupant[there] = -1, carrier
                for centre in (here, there):
                    around, cell = centre // cells, centre % cells
                    for hop in range(starts[around], starts[around + 1]):
                        other = occupant[targets[hop, cell]]
                        if other >= 0:
                            _set_rate(other, starts, targets, rates, cells, positions, occupant, exclusion, tree)
            _set_rate(carrier, starts, targets, rates, cells, positions, occupant, exclusion, tree)
            if block >= 0 and step == length // 2 - 1:
                half[block] = (moved * moved).sum() / carriers, time
        if block >= 0:
            full[block] = (moved * moved).sum() / carriers, time
    return half, full, crossed
