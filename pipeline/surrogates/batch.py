"""Many crystals in flat arrays: the common currency of evaluators and the batched relaxation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# A crystal with more directed neighbour pairs than this is no material of this project (300 atoms have 30,000).
MAX_EDGES = 200_000


@dataclass
class CrystalBatch:
    """Crystals one after the other.

    Attributes
    ----------
    positions : (N, 3) float64
        Cartesian, Å.
    cells : (B, 3, 3) float64
        Lattice vectors as rows, Å.
    numbers : (N,) int64
        Atomic numbers.
    counts : (B,) int64
        Atoms in each crystal.
    """

    positions: FloatArray
    cells: FloatArray
    numbers: IntArray
    counts: IntArray

    @property
    def offsets(self) -> IntArray:
        """(B,) index of each crystal's first atom."""
        return np.cumsum(self.counts) - self.counts

    @property
    def owners(self) -> IntArray:
        """(N,) crystal of each atom."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def volumes(self) -> FloatArray:
        """(B,) cell volumes, Å3."""
        volumes: FloatArray = np.abs(np.linalg.det(self.cells))
        return volumes


@dataclass(frozen=True)
class BatchResult:
    """What a model says about a batch.

    Attributes
    ----------
    energies : (B,) float64
        Total energies, eV.
    forces : (N, 3) float64
        eV/Å.
    stresses : (B, 3, 3) float64
        eV/Å3, tension positive (as in ASE).
    edges : (B,) int64
        Neighbour pairs of each crystal.
    closest : (B, 3) float64
        Shortest distance in Å (inf if none within the cutoff) and the two atoms that have it.
    errors : list of str or None
        What kept the model from evaluating a crystal; its numbers are NaN then.
    """

    energies: FloatArray
    forces: FloatArray
    stresses: FloatArray
    edges: IntArray
    closest: FloatArray
    errors: list[str | None]


class BatchEvaluator(Protocol):
    """A potential as the relaxation sees it: the optimiser knows nothing else of a model."""

    cutoff: float
    elements: tuple[str, ...]
    edges_per_batch: int

    def evaluate_batch(self, batch: CrystalBatch) -> BatchResult:
        """Energies, forces and stresses of a batch."""
        ...


def batch_from_structures(structures: Sequence["Structure"]) -> CrystalBatch:
    """Flat arrays of pymatgen structures (ordered ones: see :func:`rejection`)."""
    return CrystalBatch(
        positions=np.concatenate([np.asarray(s.cart_coords, np.float64).reshape(-1, 3) for s in structures]),
        cells=np.array([s.lattice.matrix for s in structures], np.float64).reshape(-1, 3, 3),
        numbers=np.concatenate([np.array([site.specie.Z for site in s], np.int64) for s in structures]),
        counts=np.array([len(s) for s in structures], np.int64),
    )


def estimated_edges(counts: IntArray, volumes: FloatArray, cutoff: float) -> FloatArray:
    """Directed pairs expected from the mean density: n^2 / V * 4/3 pi r^3."""
    return counts.astype(np.float64) ** 2 / volumes * (4.0 / 3.0 * np.pi * cutoff**3)


def image_work(counts: IntArray, cells: FloatArray, cutoff: float) -> FloatArray:
    """Pair-image tests that a neighbour search needs; huge for needle-like cells, whatever their volume."""
    reach = cutoff * np.linalg.norm(np.linalg.inv(cells), axis=1)
    work: FloatArray = counts.astype(np.float64) ** 2 * np.prod(2.0 * reach + 1.0, axis=1)
    return work


def rejection(structure: "Structure", elements: tuple[str, ...], cutoff: float) -> str | None:
    """Why a structure cannot be given to a model, as ``"<type>: <message>"``, or None if it can."""
    if len(structure) == 0:
        return "EmptyStructure: the structure has no atoms"
    if not structure.is_ordered:
        return f"DisorderedStructure: {structure.formula} has partly occupied sites; order it first"
    unknown = sorted({site.specie.symbol for site in structure} - set(elements))
    if unknown:
        return f"UnknownElement: the model does not know {', '.join(unknown)} (in {structure.formula})"
    cell = np.asarray(structure.lattice.matrix)
    if not (np.isfinite(structure.frac_coords).all() and np.isfinite(cell).all()):
        return f"NonFiniteCoordinates: {structure.formula} has coordinates or a lattice that are not finite"
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-6:
        return f"SingularCell: {structure.formula} has a cell of {volume:.3g} Å3"
    count, one_cell = np.array([len(structure)], np.int64), cell[None]
    edges = float(estimated_edges(count, np.array([volume]), cutoff)[0])
    work = float(image_work(count, one_cell, cutoff)[0])
    if edges > MAX_EDGES or work > 500.0 * MAX_EDGES:
        return (
            f"GraphTooLarge: {len(structure)} atoms in {volume:.3g} Å3 mean about {edges:.3g} neighbour pairs "
            f"within {cutoff} Å (limit {MAX_EDGES})"
        )
    return None


def fill_by_edges(costs: Sequence[float], budget: float) -> list[list[int]]:
    """Split positions 0..n-1 in order into groups whose costs stay within a budget (a dear one stands alone)."""
    groups: list[list[int]] = []
    spent = 0.0
    for index, cost in enumerate(costs):
        if not groups or spent + cost > budget:
            groups.append([])
            spent = 0.0
        groups[-1].append(index)
        spent += cost
    return groups
