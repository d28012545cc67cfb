"""Off the grid: minima and saddle points that were found on a grid, refined in the continuous landscape.

A grid meets a saddle point only by chance: in a steep passage its barrier moves by tens of meV with the grid's origin.
So each saddle point is followed from its grid point by Newton steps along the eigenvectors of the Hessian, uphill along
the lowest one and downhill along the others (eigenvector following: Cerjan and Miller, J. Chem. Phys. 1981, 75, 2800).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.graph_percolation import percolating_edges
from kernels.percolation import Percolation, PercolationThresholds
from kernels.site_graph import SiteGraph, site_graph
from pipeline.site_energies import energies_at

if TYPE_CHECKING:
    from pipeline.conduction_paths import IonLandscape

DIFFERENCE = 0.01
"""Å. Step of the finite differences."""

CONVERGED = 1e-4
"""Å. A shorter step ends the search."""

MOST_STEPS = 40
FARTHEST = 3.0
"""Grid spacings that a refined point may lie from its grid point; farther off it is another point's saddle."""


WINDOW = 0.1
"""eV. Passes and minima this near to a threshold on the grid may be the ones that decide off it."""


def refined_percolation(where: IonLandscape, found: Percolation, cutoff: float = 10.0) -> Percolation:
    """Barriers and saddle points with minima and passes refined off the grid.

    Passes whose energies on the grid are near a threshold are refined, all of them, and the landscape percolates anew
    over its passes in their new order: on a grid the pass that decides may be another one. A point whose search leaves
    its surroundings, or ends on no stationary point of the right kind, keeps the grid's energy.

    Parameters
    ----------
    where
        The landscape.
    found
        Thresholds and saddle points of its grid.
    cutoff
        Å, as the landscape was computed with.

    Returns
    -------
    Percolation
        Thresholds in eV above the lowest refined minimum, inf where the grid's are; grid points of the saddles.
    """
    finite = [threshold for threshold in found.thresholds if math.isfinite(threshold)]
    if not finite:
        return found
    graph = site_graph(where.energies, max(finite) + WINDOW)
    base = float(graph.site_energies.min())
    sites, passes = graph.site_energies.copy(), graph.edge_energies.copy()
    low = graph.site_energies <= base + WINDOW
    sites[low] = _all_refined(where, graph.site_points[low], 0, graph.site_energies[low], cutoff)
    done = np.zeros(len(passes), dtype=np.bool_)
    deciding = np.array(finite) + base
    while (near := np.logical_and(_near(graph.edge_energies, deciding), ~done)).any():
        passes[near] = _all_refined(where, graph.edge_points[near], 1, graph.edge_energies[near], cutoff)
        done[near] = True
        order = np.argsort(passes, kind="stable")
        ascending = graph._replace(
            edge_sites=graph.edge_sites[order], edge_cells=graph.edge_cells[order], edge_energies=passes[order]
        )
        percolating = percolating_edges(ascending)
        deciding = np.array([e for e in percolating.thresholds if math.isfinite(e)]) + graph.site_energies[0]
    thresholds, saddles = [math.inf] * 3, np.full((3, 3), -1, dtype=np.int64)
    for k, energy in enumerate(deciding):
        thresholds[k] = max(float(energy - sites.min()), 0.0)
        path = order[percolating.paths[k]]
        saddles[k] = graph.edge_points[path[np.argmax(passes[path])]]
    return Percolation(PercolationThresholds(*thresholds), saddles)


def _near(energies: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(energies[:, None] - levels) <= WINDOW).any(axis=1))


def refined_saddle(where: IonLandscape, saddle: NDArray[np.int64], cutoff: float = 10.0) -> NDArray[np.float64]:
    """(3,) fractional coordinates of a saddle point of the grid, refined off it; the grid's own where nothing is found.

    Parameters
    ----------
    where
        The landscape.
    saddle
        (3,) grid point.
    cutoff
        Å, as the landscape was computed with.
    """
    return _refined(where, saddle / np.array(where.energies.shape), 1, math.nan, cutoff)[1]


def refined_graph(where: IonLandscape, graph: SiteGraph, cutoff: float = 10.0) -> SiteGraph:
    """The graph with the energies of its sites and passes refined off the grid; its points and vectors stay.

    Where a search finds nothing the grid's energy stays. A pass is never lower than the sites at its ends, and the
    order is that of the grid's energies.

    Parameters
    ----------
    where
        The landscape.
    graph
        Of its grid.
    cutoff
        Å, as the landscape was computed with.
    """
    sites = _all_refined(where, graph.site_points, 0, graph.site_energies, cutoff)
    passes = _all_refined(where, graph.edge_points, 1, graph.edge_energies, cutoff)
    passes = np.maximum(passes, sites[graph.edge_sites].max(axis=1, initial=-math.inf))
    return graph._replace(site_energies=sites, edge_energies=passes)


def _all_refined(
    where: IonLandscape, points: NDArray[np.int64], order: int, energies: NDArray[np.float64], cutoff: float
) -> NDArray[np.float64]:
    """(n,) eV of stationary points near grid points (n, 3), each of which is searched once."""
    shape = np.array(where.energies.shape)
    distinct, first, places = np.unique(points, axis=0, return_index=True, return_inverse=True)
    found = [
        _refined(where, p / shape, order, float(energies[i]), cutoff)[0] for p, i in zip(distinct, first, strict=True)
    ]
    return np.array(found, dtype=np.float64)[places.reshape(-1)]


def _refined(
    where: IonLandscape, start: NDArray[np.float64], order: int, fallback: float, cutoff: float
) -> tuple[float, NDArray[np.float64]]:
    """Energy and fractional place of the stationary point with ``order`` (0 or 1) downhill directions near a place.

    Without one these are ``fallback`` and the start.
    """
    spacing = float(np.max(np.linalg.norm(where.lattice, axis=1) / np.array(where.energies.shape)))
    to_fractional = np.asarray(np.linalg.inv(where.lattice), dtype=np.float64)
    first = start @ where.lattice
    place = first.copy()
    for _ in range(MOST_STEPS):
        energy, gradient, hessian = _expansion(where, place, to_fractional, cutoff)
        curvatures, modes = np.linalg.eigh(hessian)
        downhill = np.arange(3) >= order
        sizes = np.maximum(np.abs(curvatures), 1e-3)
        step = modes @ (np.where(downhill, -1.0, 1.0) * (modes.T @ gradient) / sizes)
        length = float(np.linalg.norm(step))
        if length < CONVERGED:
            if int(np.sum(curvatures < 0.0)) == order:
                return energy, place @ to_fractional
            break
        place = place + step * min(1.0, 0.5 * spacing / length)
        if np.linalg.norm(place - first) > FARTHEST * spacing:
            break
    return fallback, start


_OFFSETS = DIFFERENCE * np.array(
    [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=np.float64
)


def _expansion(
    where: IonLandscape, place: NDArray[np.float64], to_fractional: NDArray[np.float64], cutoff: float
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Energy (eV), gradient (eV/Å) and Hessian (eV/Å2) by central differences of the 27 points around a place."""
    points = (place + _OFFSETS) @ to_fractional
    cube = energies_at(points, where.lattice, where.framework, where.ion, cutoff).reshape(3, 3, 3)
    gradient, hessian = np.empty(3), np.empty((3, 3))
    for a in range(3):
        gradient[a] = (_at(cube, a, 1) - _at(cube, a, -1)) / (2 * DIFFERENCE)
        hessian[a, a] = (_at(cube, a, 1) - 2 * cube[1, 1, 1] + _at(cube, a, -1)) / DIFFERENCE**2
        for b in range(a):
            mixed = sum(s * t * _at(cube, a, s, b, t) for s in (-1, 1) for t in (-1, 1))
            hessian[a, b] = hessian[b, a] = mixed / (4 * DIFFERENCE**2)
    return float(cube[1, 1, 1]), gradient, hessian


def _at(cube: NDArray[np.float64], axis: int, step: int, other: int = 0, other_step: int = 0) -> float:
    index = [1, 1, 1]
    index[axis] += step
    index[other] += other_step
    return float(cube[tuple(index)])
