"""Crystals under way in a batched relaxation, and what an optimiser is to it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.surrogates.batch import BatchResult, CrystalBatch, FloatArray, IntArray, estimated_edges

BoolArray = NDArray[np.bool_]


@dataclass
class ActiveCrystals:
    """State of the crystals under way. Arrays of (N, ...) belong to atoms, of (B, ...) to crystals.

    An optimiser adds what it remembers of each crystal, and names its arrays of atoms in ``ATOMIC``.
    """

    positions: FloatArray
    numbers: IntArray
    cells: FloatArray
    counts: IntArray
    index: IntArray
    steps: IntArray
    volume_start: FloatArray
    energy_start: FloatArray
    edges: FloatArray

    ATOMIC: ClassVar[frozenset[str]] = frozenset(["positions", "numbers"])

    def keep(self, mask: BoolArray) -> Self:
        """Only the crystals of the mask."""
        atoms = np.repeat(mask, self.counts)
        return type(self)(
            **{f.name: getattr(self, f.name)[atoms if f.name in self.ATOMIC else mask] for f in fields(self)}
        )

    def join(self, other: Self) -> Self:
        """These crystals and then the other ones."""
        return type(self)(
            **{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        )

    def put(self, mask: BoolArray, part: Self) -> None:
        """Overwrite the crystals of the mask by those of ``part``, in place."""
        atoms = np.repeat(mask, self.counts)
        for f in fields(self):
            getattr(self, f.name)[atoms if f.name in self.ATOMIC else mask] = getattr(part, f.name)

    def as_batch(self) -> CrystalBatch:
        """The crystals as a model sees them (arrays are shared, not copied)."""
        return CrystalBatch(self.positions, self.cells, self.numbers, self.counts)


State = TypeVar("State", bound=ActiveCrystals)


class Optimizer(Protocol[State]):
    """What moves crystals. A crystal's path depends on nothing but its own state."""

    def start(self, batch: CrystalBatch, indices: Sequence[int]) -> State:
        """State of the given crystals before their first step."""
        ...

    def settled(
        self, state: State, energies: FloatArray, forces: FloatArray, cell_forces: FloatArray, valid: BoolArray
    ) -> BoolArray:
        """Take in what the model says of all crystals; (B,) whether small forces may end the relaxation here.

        Crystals that are not ``valid`` have failed: their numbers mean nothing, and they will be gone at the step.
        """
        ...

    def step(self, state: State, forces: FloatArray, cell_forces: FloatArray) -> None:
        """Move every crystal, in place; called after :meth:`settled` with those that go on."""
        ...


def entering(batch: CrystalBatch, indices: Sequence[int], cutoff: float) -> dict[str, Any]:
    """Fields of :class:`ActiveCrystals` for crystals that enter."""
    offsets = batch.offsets
    chosen = np.array(indices, np.int64)
    atoms = np.concatenate([np.arange(offsets[i], offsets[i] + batch.counts[i]) for i in indices])
    volumes = np.abs(np.linalg.det(batch.cells[chosen]))
    return {
        "positions": batch.positions[atoms].copy(),
        "numbers": batch.numbers[atoms],
        "cells": batch.cells[chosen].copy(),
        "counts": batch.counts[chosen],
        "index": chosen,
        "steps": np.zeros(len(chosen), np.int64),
        "volume_start": volumes,
        "energy_start": np.full(len(chosen), np.nan),
        "edges": estimated_edges(batch.counts[chosen], volumes, cutoff),
    }


def matrix_exponential(matrices: FloatArray) -> FloatArray:
    """(B, 3, 3) exponentials of symmetric matrices."""
    values, vectors = np.linalg.eigh(matrices)
    exponential: FloatArray = np.einsum("bij,bj,bkj->bik", vectors, np.exp(values), vectors)
    return exponential


def sum_by_crystal(per_atom: FloatArray, counts: IntArray) -> FloatArray:
    """(B,) sums of (N,) values."""
    summed: FloatArray = np.add.reduceat(per_atom, np.cumsum(counts) - counts)
    return summed


def generalised_forces(
    result: BatchResult, batch: CrystalBatch, relax_cell: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Forces on atoms (N, 3) and on the strain (B, 3, 3), and the largest norm among their rows (B,), eV/Å.

    The strain's force is minus volume times stress, divided by the number of atoms: the force of ASE's
    FrechetCellFilter with its default factor, so that ``fmax`` means the same there and here.
    """
    counts = batch.counts
    cell_forces = np.zeros_like(result.stresses)
    if relax_cell:
        cell_forces = -result.stresses * (batch.volumes / counts)[:, None, None]
    return result.forces, cell_forces, largest_force(result.forces, cell_forces, counts)


def largest_force(forces: FloatArray, cell_forces: FloatArray, counts: IntArray) -> FloatArray:
    """(B,) largest norm among the rows of an atom's or the strain's force, eV/Å."""
    largest = np.maximum.reduceat(np.linalg.norm(forces, axis=1), np.cumsum(counts) - counts)
    largest_of_all: FloatArray = np.maximum(largest, np.linalg.norm(cell_forces, axis=2).max(axis=1))
    return largest_of_all
