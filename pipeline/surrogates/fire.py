"""FIRE on atoms and cells of many crystals at once: the state and the step.

Each crystal runs its own FIRE (Bitzek et al., Phys. Rev. Lett. 2006, 97, 170201), with its own time step, mixing
and step count. Cells move by exp(strain), the strain's generalised force being the virial divided by the number of
atoms, as in ASE's FrechetCellFilter with its default factor, so that ``fmax`` means the same there and here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.surrogates.batch import BatchResult, CrystalBatch, FloatArray, IntArray, estimated_edges

BoolArray = NDArray[np.bool_]

# FIRE's parameters: those of Bitzek et al. and of ASE.
_DT_START, _DT_MAX = 0.1, 1.0
_ALPHA_START, _ALPHA_DECAY = 0.1, 0.99
_DT_GROW, _DT_SHRINK = 1.1, 0.5
_PATIENCE = 5


@dataclass
class ActiveCrystals:
    """State of the crystals under way. Arrays of (N, ...) belong to atoms, of (B, ...) to crystals."""

    positions: FloatArray
    velocities: FloatArray
    numbers: IntArray
    cells: FloatArray
    cell_velocities: FloatArray
    counts: IntArray
    index: IntArray
    time_step: FloatArray
    alpha: FloatArray
    downhill: IntArray
    steps: IntArray
    volume_start: FloatArray
    energy_start: FloatArray
    edges: FloatArray

    _ATOMIC = ("positions", "velocities", "numbers")

    def keep(self, mask: BoolArray) -> "ActiveCrystals":
        """Only the crystals of the mask."""
        atoms = np.repeat(mask, self.counts)
        return ActiveCrystals(
            **{f.name: getattr(self, f.name)[atoms if f.name in self._ATOMIC else mask] for f in fields(self)}
        )

    def join(self, other: "ActiveCrystals") -> "ActiveCrystals":
        """These crystals and then the other ones."""
        return ActiveCrystals(
            **{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        )

    def as_batch(self) -> CrystalBatch:
        """The crystals as a model sees them (arrays are shared, not copied)."""
        return CrystalBatch(self.positions, self.cells, self.numbers, self.counts)


def start(batch: CrystalBatch, indices: Sequence[int], cutoff: float) -> ActiveCrystals:
    """State of the given crystals before their first step."""
    offsets = batch.offsets
    atoms = np.concatenate([np.arange(offsets[i], offsets[i] + batch.counts[i]) for i in indices])
    chosen = np.array(indices, np.int64)
    n = len(chosen)
    volumes = batch.volumes[chosen]
    return ActiveCrystals(
        positions=batch.positions[atoms].copy(),
        velocities=np.zeros((len(atoms), 3)),
        numbers=batch.numbers[atoms],
        cells=batch.cells[chosen].copy(),
        cell_velocities=np.zeros((n, 3, 3)),
        counts=batch.counts[chosen],
        index=chosen,
        time_step=np.full(n, _DT_START),
        alpha=np.full(n, _ALPHA_START),
        downhill=np.zeros(n, np.int64),
        steps=np.zeros(n, np.int64),
        volume_start=volumes,
        energy_start=np.full(n, np.nan),
        edges=estimated_edges(batch.counts[chosen], volumes, cutoff),
    )


def matrix_exponential(matrices: FloatArray) -> FloatArray:
    """(B, 3, 3) exponentials of symmetric matrices."""
    values, vectors = np.linalg.eigh(matrices)
    exponential: FloatArray = np.einsum("bij,bj,bkj->bik", vectors, np.exp(values), vectors)
    return exponential


def _sum_by_crystal(per_atom: FloatArray, counts: IntArray) -> FloatArray:
    """(B,) sums of (N,) values."""
    summed: FloatArray = np.add.reduceat(per_atom, np.cumsum(counts) - counts)
    return summed


def generalised_forces(
    result: BatchResult, batch: CrystalBatch, relax_cell: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Forces on atoms (N, 3) and on the strain (B, 3, 3), and the largest norm among their rows (B,), eV/Å.

    The strain's force is minus volume times stress, divided by the number of atoms.
    """
    counts = batch.counts
    cell_forces = np.zeros_like(result.stresses)
    if relax_cell:
        cell_forces = -result.stresses * (batch.volumes / counts)[:, None, None]
    norms = np.linalg.norm(result.forces, axis=1)
    largest = np.maximum.reduceat(norms, np.cumsum(counts) - counts)
    largest = np.maximum(largest, np.linalg.norm(cell_forces, axis=2).max(axis=1))
    return result.forces, cell_forces, largest


def fire_step(state: ActiveCrystals, forces: FloatArray, cell_forces: FloatArray, max_displacement: float) -> None:
    """Advance every crystal by one FIRE step, in place."""
    counts = state.counts
    # The first step of a crystal starts from rest: ASE leaves its velocity at zero for the mixing.
    power = _sum_by_crystal((forces * state.velocities).sum(axis=1), counts)
    power += (cell_forces * state.cell_velocities).sum(axis=(1, 2))
    squared_force = _sum_by_crystal((forces**2).sum(axis=1), counts) + (cell_forces**2).sum(axis=(1, 2))
    squared_speed = _sum_by_crystal((state.velocities**2).sum(axis=1), counts)
    squared_speed += (state.cell_velocities**2).sum(axis=(1, 2))
    moving = state.steps > 0
    forward = moving & (power > 0.0)
    keep = np.where(forward, 1.0 - state.alpha, np.where(moving, 0.0, 1.0))
    safe = np.where(squared_force > 0.0, squared_force, 1.0)
    steer = np.where(forward, state.alpha * np.sqrt(squared_speed / safe), 0.0)
    faster = forward & (state.downhill > _PATIENCE)
    stopped = moving & ~forward
    dt = state.time_step
    dt = np.where(faster, np.minimum(dt * _DT_GROW, _DT_MAX), np.where(stopped, dt * _DT_SHRINK, dt))
    state.alpha = np.where(faster, state.alpha * _ALPHA_DECAY, np.where(stopped, _ALPHA_START, state.alpha))
    state.downhill = np.where(forward, state.downhill + 1, np.where(stopped, 0, state.downhill))
    state.time_step = dt
    push = steer + dt
    state.velocities = np.repeat(keep, counts)[:, None] * state.velocities + np.repeat(push, counts)[:, None] * forces
    state.cell_velocities = keep[:, None, None] * state.cell_velocities + push[:, None, None] * cell_forces
    _move(state, max_displacement)
    state.steps += 1


def _move(state: ActiveCrystals, max_displacement: float) -> None:
    """Displace atoms and strain cells by time step times velocity, cut to the longest step allowed."""
    counts = state.counts
    step = np.repeat(state.time_step, counts)[:, None] * state.velocities
    cell_step = state.time_step[:, None, None] * state.cell_velocities
    length = np.sqrt(_sum_by_crystal((step**2).sum(axis=1), counts) + (cell_step**2).sum(axis=(1, 2)))
    cut = np.where(length > max_displacement, max_displacement / np.maximum(length, 1e-300), 1.0)
    deformation = matrix_exponential(cell_step * (cut / counts)[:, None, None])
    moved = state.positions + step * np.repeat(cut, counts)[:, None]
    state.positions = np.einsum("na,nab->nb", moved, np.repeat(deformation, counts, axis=0))
    state.cells = state.cells @ deformation
