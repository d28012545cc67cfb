"""Many crystals in flat arrays: the common currency of evaluators and the batched relaxation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# A crystal with more directed neighbour pairs than this is no material of this project (300 atoms have 30,000).
MAX_EDGES = 200_000
# Pair-image tests of a neighbour search for each pair it may find: beyond it the cell is a needle or mostly empty.
_WORK_PER_EDGE = 500.0
# A model that knows more elements is not the narrow one that an error had better list them of.
_LISTED = 30
# Neighbours of one atom that no crystal has: 2,000 within 6 Å leave half a cubic ångström for each.
_DENSEST = 2_000.0


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

    def part(self, first: int, last: int) -> "CrystalBatch":
        """Crystals ``first`` to ``last`` (not included); the arrays are views of this batch's."""
        start = int(self.counts[:first].sum())
        atoms = slice(start, start + int(self.counts[first:last].sum()))
        return CrystalBatch(self.positions[atoms], self.cells[first:last], self.numbers[atoms], self.counts[first:last])


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

    @classmethod
    def failed(cls, counts: IntArray, error: str) -> "BatchResult":
        """The answer for crystals of so many atoms that all have the same error."""
        n = len(counts)
        return cls(
            energies=np.full(n, np.nan),
            forces=np.full((int(counts.sum()), 3), np.nan),
            stresses=np.full((n, 3, 3), np.nan),
            edges=np.zeros(n, np.int64),
            closest=np.tile([np.inf, 0.0, 0.0], (n, 1)),
            errors=[error] * n,
        )

    @classmethod
    def joined(cls, results: Sequence["BatchResult"]) -> "BatchResult":
        """Answers for the crystals of several batches, one after the other."""
        return cls(
            energies=np.concatenate([r.energies for r in results]),
            forces=np.concatenate([r.forces for r in results]),
            stresses=np.concatenate([r.stresses for r in results]),
            edges=np.concatenate([r.edges for r in results]),
            closest=np.concatenate([r.closest for r in results]),
            errors=[error for r in results for error in r.errors],
        )


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


def batch_from_rows(rows: Sequence[Mapping[str, Any]]) -> CrystalBatch:
    """Flat arrays of rows with ``lattice`` (9), ``atomic_numbers`` (n) and ``frac_coords`` (3n), at least one row."""
    cells = np.array([row["lattice"] for row in rows], np.float64).reshape(-1, 3, 3)
    fractional = [np.asarray(row["frac_coords"], np.float64).reshape(-1, 3) for row in rows]
    return CrystalBatch(
        positions=np.concatenate([f @ cell for f, cell in zip(fractional, cells, strict=True)]),
        cells=cells,
        numbers=np.concatenate([np.asarray(row["atomic_numbers"], np.int64) for row in rows]),
        counts=np.array([len(row["atomic_numbers"]) for row in rows], np.int64),
    )


def estimated_edges(counts: IntArray, volumes: FloatArray, cutoff: float) -> FloatArray:
    """Directed pairs expected from the mean density: n^2 / V * 4/3 pi r^3."""
    return counts.astype(np.float64) ** 2 / volumes * (4.0 / 3.0 * np.pi * cutoff**3)


def image_work(counts: IntArray, cells: FloatArray, cutoff: float) -> FloatArray:
    """Pair-image tests that a neighbour search needs; huge for needle-like cells, whatever their volume."""
    reach = cutoff * np.linalg.norm(np.linalg.inv(cells), axis=1)
    work: FloatArray = counts.astype(np.float64) ** 2 * np.prod(2.0 * reach + 1.0, axis=1)
    return work


def graph_too_large(count: int, volume: float, edges: float, cutoff: float, max_edges: int) -> str:
    """Error of a crystal with more neighbour pairs than are allowed."""
    if edges > _DENSEST * count:
        remedy = "no crystal is as dense: check the lattice and the coordinates"
    else:
        power = 10.0 ** max(np.floor(np.log10(edges)) - 1.0, 0.0)
        enough = int(np.ceil(edges / power) * power)
        remedy = f"if memory holds them, raise the limit: load_potential(..., max_edges={enough})"
    return (
        f"GraphTooLarge: {count} atoms in {volume:.3g} Å3 mean about {edges:.3g} neighbour pairs within {cutoff} Å "
        f"(limit {max_edges}); {remedy}"
    )


def rejection(
    structure: "Structure", elements: tuple[str, ...], cutoff: float, max_edges: int = MAX_EDGES
) -> str | None:
    """Why a structure cannot be given to a model, as ``"<type>: <message>"``, or None if it can."""
    if len(structure) == 0:
        return "EmptyStructure: the structure has no atoms"
    if not structure.is_ordered:
        return f"DisorderedStructure: {structure.formula} has partly occupied sites; order it first"
    unknown = sorted({site.specie.symbol for site in structure} - set(elements))
    if unknown:
        return (
            f"UnknownElement: the model does not know {', '.join(unknown)} (in {structure.formula}); it knows "
            f"{', '.join(elements) if len(elements) <= _LISTED else f'{len(elements)} elements'}"
        )
    cell = np.asarray(structure.lattice.matrix)
    if not (np.isfinite(structure.frac_coords).all() and np.isfinite(cell).all()):
        return f"NonFiniteCoordinates: {structure.formula} has coordinates or a lattice that are not finite"
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-6:
        return f"SingularCell: {structure.formula} has a cell of {volume:.3g} Å3"
    count, one_cell = np.array([len(structure)], np.int64), cell[None]
    edges = float(estimated_edges(count, np.array([volume]), cutoff)[0])
    work = float(image_work(count, one_cell, cutoff)[0])
    if edges > max_edges:
        return graph_too_large(len(structure), volume, edges, cutoff, max_edges)
    if work > _WORK_PER_EDGE * max(max_edges, MAX_EDGES):
        return (
            f"GraphTooLarge: the neighbour search of {structure.formula} in {volume:.3g} Å3 would try {work:.3g} pairs "
            f"of atoms and images; its cell is a needle, a plate or mostly empty: reduce it (Niggli) or fill it"
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
