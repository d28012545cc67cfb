"""FIRE on atoms and cells of many crystals at once: the state and the step.

Each crystal runs its own FIRE (Bitzek et al., Phys. Rev. Lett. 2006, 97, 170201), with its own time step, mixing
and step count. Cells move by exp(strain), the strain's generalised force being the virial divided by the number of
atoms, as in ASE's FrechetCellFilter with its default factor, so that ``fmax`` means the same there and here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.surrogates.active import ActiveCrystals, BoolArray, entering, matrix_exponential, sum_by_crystal
from pipeline.surrogates.batch import CrystalBatch, FloatArray, IntArray

# FIRE's parameters: those of Bitzek et al. and of ASE.
_DT_START, _DT_MAX = 0.1, 1.0
_ALPHA_START, _ALPHA_DECAY = 0.1, 0.99
_DT_GROW, _DT_SHRINK = 1.1, 0.5
_PATIENCE = 5


@dataclass
class FireCrystals(ActiveCrystals):
    """What FIRE remembers of each crystal."""

    velocities: FloatArray
    cell_velocities: FloatArray
    time_step: FloatArray
    alpha: FloatArray
    downhill: IntArray

    ATOMIC: ClassVar[frozenset[str]] = ActiveCrystals.ATOMIC | {"velocities"}


class Fire:
    """FIRE as an optimiser of the batched relaxation.

    Parameters
    ----------
    cutoff : float
        Of the model, Å: edges are estimated with it.
    max_displacement : float
        Longest step, as the norm over all coordinates of a crystal (ASE's ``maxstep``), Å.
    """

    def __init__(self, cutoff: float, max_displacement: float) -> None:
        self.cutoff = cutoff
        self.max_displacement = max_displacement

    def start(self, batch: CrystalBatch, indices: Sequence[int]) -> FireCrystals:
        """All at rest."""
        common = entering(batch, indices, self.cutoff)
        return FireCrystals(**common, **at_rest(common["positions"], len(common["counts"])))

    def settled(
        self, state: FireCrystals, energies: FloatArray, forces: FloatArray, cell_forces: FloatArray, valid: BoolArray
    ) -> BoolArray:
        """FIRE asks nothing but small forces."""
        return np.ones(len(state.counts), bool)

    def step(self, state: FireCrystals, forces: FloatArray, cell_forces: FloatArray) -> None:
        """See :func:`fire_step`."""
        fire_step(state, forces, cell_forces, self.max_displacement)


def at_rest(positions: FloatArray, n_crystals: int) -> dict[str, Any]:
    """What FIRE remembers of crystals that have not moved yet."""
    return {
        "velocities": np.zeros_like(positions),
        "cell_velocities": np.zeros((n_crystals, 3, 3)),
        "time_step": np.full(n_crystals, _DT_START),
        "alpha": np.full(n_crystals, _ALPHA_START),
        "downhill": np.zeros(n_crystals, np.int64),
    }


def fire_step(state: FireCrystals, forces: FloatArray, cell_forces: FloatArray, max_displacement: float) -> None:
    """Advance every crystal by one FIRE step, in place."""
    counts = state.counts
    # The first step of a crystal starts from rest: ASE leaves its velocity at zero for the mixing.
    power = sum_by_crystal((forces * state.velocities).sum(axis=1), counts)
    power += (cell_forces * state.cell_velocities).sum(axis=(1, 2))
    squared_force = sum_by_crystal((forces**2).sum(axis=1), counts) + (cell_forces**2).sum(axis=(1, 2))
    squared_speed = sum_by_crystal((state.velocities**2).sum(axis=1), counts)
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


def _move(state: FireCrystals, max_displacement: float) -> None:
    """Displace atoms and strain cells by time step times velocity, cut to the longest step allowed."""
    counts = state.counts
    step = np.repeat(state.time_step, counts)[:, None] * state.velocities
    cell_step = state.time_step[:, None, None] * state.cell_velocities
    length = np.sqrt(sum_by_crystal((step**2).sum(axis=1), counts) + (cell_step**2).sum(axis=(1, 2)))
    cut = np.where(length > max_displacement, max_displacement / np.maximum(length, 1e-300), 1.0)
    deformation = matrix_exponential(cell_step * (cut / counts)[:, None, None])
    moved = state.positions + step * np.repeat(cut, counts)[:, None]
    state.positions = np.einsum("na,nab->nb", moved, np.repeat(deformation, counts, axis=0))
    state.cells = state.cells @ deformation
