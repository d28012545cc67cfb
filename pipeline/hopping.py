"""Diffusivity of ions that hop over the passes of their landscape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kernels.graph_percolation import percolating_edges, without_dead_ends
from kernels.hopping import TracerDiffusivity, tracer_diffusivity
from kernels.site_graph import SiteGraph, site_graph
from pipeline.conduction_paths import PERSISTENCE, IonLandscape
from pipeline.saddles import refined_graph
from pipeline.units import BOLTZMANN

if TYPE_CHECKING:
    from pipeline.settings import ConductionSettings

PASSES_ABOVE = 12.0
"""kT above the barrier up to which passes take part in hopping; higher ones are taken 6e-6 times as often."""

SUPERCELL_LENGTH = 20.0
"""Å. Shortest edge of the supercell in which carriers exclude each other, three cells along each axis at least."""

INDEPENDENT_CARRIERS = 8

BLOCKS = 50
"""Parts of a simulation, from whose scatter its error is."""

CM2_PER_ANGSTROM2 = 1e-16


def hopping_diffusivity(
    where: IonLandscape, level: float, settings: ConductionSettings, barrier: float | None = None
) -> tuple[float, float]:
    """Tracer diffusivity of the ions hopping over the landscape's passes, and its standard error, cm2/s.

    The rate over a pass is the attempt frequency times exp(-barrier/kT). Carriers are independent, each alone in
    the empty sublattice as the landscape's ion is, or as many as the crystal holds with one on a site at most.

    Independent carriers stay in the part of the network that they begin in, where higher passes divide it: each part is
    simulated by itself and counts by its share of the sites' occupation (Boltzmann). Parts that do not percolate add
    nothing.

    Parameters
    ----------
    where
        The landscape.
    level
        The grid's barrier, eV; sites and passes up to 12 kT above it take part.
    settings
        Temperature, attempt frequency, carriers, jumps, seed, and the cutoff of the landscape.
    barrier
        The barrier off the grid, eV (`pipeline.saddles.refined_percolation`): energies of sites and passes are then
        refined too, so that equivalent passes have one barrier however the grid cuts them. By default all are the
        grid's.

    Returns
    -------
    tuple of float
        NaN where nothing percolates, where the carriers exclude each other and every site is taken, and where the jumps
        were too few: with less than one hop over a part's highest passes for each carrier and block, what is seen is
        rattling.
    """
    thermal = BOLTZMANN * settings.temperature
    graph = site_graph(where.energies, level + PASSES_ABOVE * thermal, PERSISTENCE)
    if barrier is not None:
        graph = _restricted(refined_graph(where, graph, settings.cutoff), None)
    if settings.carriers == "exclusive":
        a, b, c = (max(3, math.ceil(SUPERCELL_LENGTH / length)) for length in np.linalg.norm(where.lattice, axis=1))
        carriers = round(where.per_cell * a * b * c)
        if not 0 < carriers < len(graph.site_energies) * a * b * c:
            return math.nan, math.nan
        found = _simulated(graph, _barrier(graph, settings), where, settings, settings.jumps, (a, b, c), carriers)
        return (math.nan, math.nan) if found is None else _in_cm2(found.value, found.error)
    known = [(part, _barrier(part, settings), share) for part, share in _parts(graph, thermal)]
    parts = [(part, own, share) for part, own, share in known if math.isfinite(own)]
    jumps = max(settings.jumps // max(len(parts), 1), 2 * (BLOCKS + 1))
    value = variance = 0.0
    for part, own, share in parts:
        found = _simulated(part, own, where, settings, jumps, (1, 1, 1), INDEPENDENT_CARRIERS)
        if found is None:
            return math.nan, math.nan
        value, variance = value + share * found.value, variance + (share * found.error) ** 2
    return _in_cm2(value, math.sqrt(variance)) if parts else (math.nan, math.nan)


def _parts(graph: SiteGraph, thermal: float) -> Iterator[tuple[SiteGraph, float]]:
    """Connected parts of a graph, each with its share of the sites' occupation."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, ends = len(graph.site_energies), graph.edge_sites
    joined = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    count, part_of = connected_components(joined, directed=False)
    occupation = np.exp((graph.site_energies.min() - graph.site_energies) / thermal)
    for k in range(count):
        sites = part_of == k
        yield _restricted(graph, sites), float(occupation[sites].sum() / occupation.sum())


def _restricted(graph: SiteGraph, sites: npt.NDArray[np.bool_] | None) -> SiteGraph:
    """The graph of a connected part's sites (None: all), its edges by ascending energy."""
    sites = np.ones(len(graph.site_energies), dtype=np.bool_) if sites is None else sites
    place = np.cumsum(sites) - 1
    edges = np.argsort(graph.edge_energies, kind="stable")
    edges = edges[sites[graph.edge_sites[edges, 0]]]
    return graph._replace(
        site_points=graph.site_points[sites],
        site_energies=graph.site_energies[sites],
        edge_sites=place[graph.edge_sites[edges]],
        edge_cells=graph.edge_cells[edges],
        edge_points=graph.edge_points[edges],
        edge_energies=graph.edge_energies[edges],
    )


def _barrier(graph: SiteGraph, settings: ConductionSettings) -> float:
    """Barrier of the dimensions that conduct, eV above the first site; inf where the graph does not percolate."""
    found = percolating_edges(graph).thresholds
    return max(
        (e for e in found if math.isfinite(e) and e <= found.e1d + settings.dimensionality_window), default=math.inf
    )


def _simulated(
    graph: SiteGraph,
    barrier: float,
    where: IonLandscape,
    settings: ConductionSettings,
    jumps: int,
    repeats: tuple[int, int, int],
    carriers: int,
) -> TracerDiffusivity | None:
    """Diffusivity, Å2/s, over a barrier in eV; None where carriers hardly got over the highest passes of their ways."""
    thermal = BOLTZMANN * settings.temperature
    highest = graph.edge_energies >= graph.site_energies[0] + barrier - thermal
    ways = np.isin(np.arange(len(highest)), without_dead_ends(graph, range(len(highest))))
    found = tracer_diffusivity(
        graph.site_energies / thermal,
        graph.edge_sites,
        graph.edge_cells,
        graph.edge_vectors(where.lattice),
        _rates(graph, settings.attempt_frequency, thermal),
        repeats,
        carriers,
        jumps=jumps,
        seed=settings.seed,
        blocks=BLOCKS,
        exclusion=settings.carriers == "exclusive",
        bottlenecks=highest & ways,
    )
    return None if found.bottleneck_hops < carriers * BLOCKS else found


def _in_cm2(value: float, error: float) -> tuple[float, float]:
    return value * CM2_PER_ANGSTROM2, error * CM2_PER_ANGSTROM2


def _rates(graph: SiteGraph, attempt_frequency: float, thermal: float) -> npt.NDArray[np.float64]:
    barriers = graph.edge_energies[:, None] - graph.site_energies[graph.edge_sites]
    return np.asarray(attempt_frequency * np.exp(-barriers / thermal))
