"""From an ion's landscape to its way through the crystal: dimensions, region, bottleneck, hops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.graph_percolation import percolating_edges
from kernels.percolation import Percolation, percolating_region
from kernels.site_graph import SiteGraph, site_graph
from pipeline.oxidation_states import OxidationStates, charged_species
from pipeline.reference import ions
from pipeline.reference.bond_valence import Ion
from pipeline.saddles import refined_saddle
from pipeline.site_energies import (
    FrameworkIon,
    NoMobileIonError,
    framework_ions,
    grid_shape,
    landscape,
    mobile_ion,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

CONNECTIVITY = 26
"""A grid point's neighbours: those that share a face, an edge or a corner."""

PERSISTENCE = 0.02
"""eV. Minima shallower than this (kT at 230 K) belong to the site next to them."""

SAME_LEVEL = 1e-3
"""eV. Equivalent saddle points differ by rounding, and by how the grid cuts them."""

NEAR = 6.0
"""Å. No framework leaves a saddle point with so much room."""


class IonLandscape(NamedTuple):
    """Site energies of an ion, and what they were computed from.

    Attributes
    ----------
    ion : Ion
        With its charge.
    per_cell : float
        Such ions in the cell.
    lattice : (3, 3) float64
        Rows are the lattice vectors, Å.
    framework : list of FrameworkIon
        All ions that don't move.
    energies : (n1, n2, n3) float64
        eV.
    """

    ion: Ion
    per_cell: float
    lattice: npt.NDArray[np.float64]
    framework: list[FrameworkIon]
    energies: npt.NDArray[np.float64]


def ion_landscape(
    structure: Structure,
    ion: str,
    spacing: float,
    *,
    oxidation_states: OxidationStates | None = None,
    mobile_ions: Sequence[str] = (),
    cutoff: float = 10.0,
    threads: int = 1,
) -> IonLandscape:
    """Site energies of an ion in the framework of all immobile atoms.

    Arguments and errors are those of :func:`pipeline.stages.conduction.migration_barriers`.
    """
    mobile = {ion, *mobile_ions}
    if ion not in structure.symbol_set:
        raise NoMobileIonError(f"{structure.formula} holds no {ion}; pick an ion out of {structure.symbol_set}")
    charged = charged_species(structure, oxidation_states)
    carrier = mobile_ion(charged, ion)
    framework = framework_ions(structure, charged, mobile)
    shape = grid_shape(structure, spacing, mobile)
    matrix = structure.lattice.matrix
    energies = landscape(matrix, framework, carrier, shape, cutoff=cutoff, threads=threads)
    per_cell = float(structure.composition.element_composition[ion])
    return IonLandscape(carrier, per_cell, matrix, framework, energies)


class Hop(NamedTuple):
    """Move between two neighbouring sites: barriers from the lower and from the higher one (eV), length (Å)."""

    barrier: float
    barrier_back: float
    length: float


@dataclass(frozen=True)
class ConductionPath:
    """How an ion gets through the crystal.

    Attributes
    ----------
    dimensionality : int
        Dimensions whose barrier is at most the window above the lowest one; 0 where nothing percolates.
    volume_fraction : float
        Share of the cell in regions that percolate in that many dimensions at their barrier.
    bottleneck_radius : float
        Å. Room at the saddle point: distance to the surface of the nearest ion (its Shannon radius). NaN where an
        ion near it has no radius, or nothing percolates.
    hops : tuple of Hop
        The way over the lowest passes, each pass once.
    way : (m, 3, 3) float64
        Where each hop starts, passes and ends, in fractional coordinates; ends lie in the neighbouring cells too.
    """

    dimensionality: int
    volume_fraction: float
    bottleneck_radius: float
    hops: tuple[Hop, ...]
    way: npt.NDArray[np.float64]

    def __str__(self) -> str:
        """Say how often the way takes each kind of hop: ``2 x 0.31/0.12 eV 2.9 Å; 1 x 0.20/0.20 eV 2.4 Å``."""
        kinds = Counter(f"{h.barrier:.2f}/{h.barrier_back:.2f} eV {h.length:.1f} Å" for h in self.hops)
        return "; ".join(f"{n} x {kind}" for kind, n in sorted(kinds.items(), reverse=True))


def conduction_path(
    where: IonLandscape,
    found: Percolation,
    window: float,
    refined: Percolation | None = None,
    cutoff: float = 10.0,
) -> ConductionPath:
    """Follow the ion at its barrier.

    Parameters
    ----------
    where
        The landscape.
    found
        Its thresholds and saddle points with 26 neighbours a point.
    window
        eV; a dimension counts when its barrier is at most this above the lowest.
    refined
        Off the grid (`pipeline.saddles.refined_percolation`): its thresholds count the dimensions then, and the
        bottleneck is at its saddle point. By default all are the grid's.
    cutoff
        Å, as the landscape was computed with.
    """
    counted = (refined or found).thresholds
    dimensionality = sum(e <= counted.e1d + window for e in counted if math.isfinite(e))
    if dimensionality == 0:
        return ConductionPath(0, 0.0, math.nan, (), np.empty((0, 3, 3)))
    level = found.thresholds[dimensionality - 1]
    region = percolating_region(where.energies, level + SAME_LEVEL, dimensionality, CONNECTIVITY)
    graph = site_graph(where.energies, level + SAME_LEVEL, PERSISTENCE, CONNECTIVITY)
    path = percolating_edges(graph).paths[dimensionality - 1]
    heights = graph.edge_energies[path, None] - graph.site_energies[graph.edge_sites[path]]
    lengths = np.linalg.norm(graph.edge_vectors(where.lattice)[path], axis=1)
    hops = tuple(
        Hop(float(max(ends)), float(min(ends)), float(length)) for ends, length in zip(heights, lengths, strict=True)
    )
    on_grid = (refined or found).saddles[dimensionality - 1]
    saddle = on_grid / np.array(where.energies.shape) if refined is None else refined_saddle(where, on_grid, cutoff)
    radius = bottleneck_radius(where, saddle)
    return ConductionPath(dimensionality, float(region.mean()), radius, hops, _way(graph, path, where.lattice))


def _way(graph: SiteGraph, edges: npt.NDArray[np.int64], lattice: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Start, pass and end (m, 3, 3) of edges; the pass is the image by which the hop is the shortest."""
    shape = np.array(graph.shape)
    start = graph.site_points[graph.edge_sites[edges, 0]] / shape
    end = graph.site_points[graph.edge_sites[edges, 1]] / shape + graph.edge_cells[edges]
    saddle = graph.edge_points[edges] / shape
    saddle += np.round((start + end) / 2 - saddle)
    images = saddle[:, None] + np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    there, back = ((images - point[:, None]) @ lattice for point in (start, end))
    lengths = np.linalg.norm(there, axis=2) + np.linalg.norm(back, axis=2)
    nearest = images[np.arange(len(edges)), lengths.argmin(axis=1)]
    return np.stack([start, nearest, end], axis=1)


def bottleneck_radius(where: IonLandscape, frac_coords: npt.NDArray[np.float64]) -> float:
    """Room at a point: the least of distance less Shannon radius over the framework's ions, Å.

    A partially occupied site counts like a full one. NaN when an ion within 6 Å has no radius.
    """
    from pymatgen.core import Lattice

    centre = frac_coords @ where.lattice
    _, distances, numbers, _ = Lattice(where.lattice).get_points_in_sphere(
        np.array([site.frac_coords for site in where.framework]), centre, NEAR, zip_results=False
    )
    radii = np.array([_radius(site.ion) for site in where.framework])
    return float(np.min(np.asarray(distances) - radii[np.asarray(numbers, dtype=np.int64)], initial=NEAR))


def _radius(ion: Ion) -> float:
    try:
        return ions.ion(ion.element, ion.charge).radius
    except ValueError:  # an element that the table of ions doesn't hold
        return math.nan
