"""Relaxation of many crystals at once, independent of the model: who is under way, who is done, who failed."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from pipeline.surrogates.active import ActiveCrystals, BoolArray, Optimizer, generalised_forces
from pipeline.surrogates.batch import (
    BatchEvaluator,
    CrystalBatch,
    FloatArray,
    estimated_edges,
)
from pipeline.surrogates.crystal_errors import evaluation_errors, geometry_errors
from pipeline.surrogates.descent import DescentPoint, DescentWatch
from pipeline.surrogates.fire import Fire
from pipeline.surrogates.fire_quasi_newton import FireQuasiNewton
from pipeline.surrogates.quasi_newton import QuasiNewton

OptimizerName = Literal["quasi-newton", "fire-quasi-newton", "fire"]


@dataclass(frozen=True)
class RelaxationSettings:
    """How to relax.

    Attributes
    ----------
    fmax : float
        Converged when every atomic force and every row of the cell's generalised force is at most this, eV/Å.
    max_steps : int
        Bound on the steps of each crystal.
    relax_cell : bool
        Whether the cell moves.
    optimizer : str
        ``quasi-newton`` (:mod:`pipeline.surrogates.quasi_newton`) needs the fewest evaluations, ``fire`` is ASE's,
        ``fire-quasi-newton`` goes where FIRE goes, and on from there where that is a saddle
        (:mod:`pipeline.surrogates.fire_quasi_newton`).
    energy_tolerance : float
        The quasi-Newton optimiser goes on, also where forces are small, while its Hessian promises more energy than
        this, eV/atom: soft modes hide much energy behind small forces.
    max_displacement : float
        Longest step, Å: of an atom (``quasi-newton``), or as the norm over all coordinates (``fire``, as ASE counts).
    min_distance : float
        Two atoms nearer than this, at any time, are a failure, Å.
    max_volume_ratio : float
        A volume that grows or shrinks beyond this factor is a failure.
    """

    fmax: float = 0.05
    max_steps: int = 500
    relax_cell: bool = True
    optimizer: OptimizerName = "fire-quasi-newton"
    energy_tolerance: float = 5e-5
    max_displacement: float = 0.2
    min_distance: float = 0.3
    max_volume_ratio: float = 3.0

    def __post_init__(self) -> None:
        for name in ("fmax", "energy_tolerance", "max_displacement", "min_distance"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.optimizer not in get_args(OptimizerName):
            raise ValueError(
                f"optimizer {self.optimizer!r} is unknown; write {' or '.join(map(repr, get_args(OptimizerName)))}"
            )
        if self.max_steps < 0:
            raise ValueError(f"max_steps must not be negative, got {self.max_steps}")
        if not self.max_volume_ratio > 1.0:
            raise ValueError(f"max_volume_ratio must be above 1, got {self.max_volume_ratio}")


@dataclass(frozen=True)
class RelaxedCrystal:
    """Final state of one crystal, in plain arrays (meaning as in :class:`results.Relaxation`)."""

    positions: FloatArray
    cell: FloatArray
    energy: float
    converged: bool
    n_steps: int
    error: str | None
    energy_initial: float
    max_force: float
    given_up: bool = False


class BatchedRelaxation:
    """An optimiser for a queue of crystals: converged ones leave the batch, waiting ones enter.

    Parameters
    ----------
    evaluator : BatchEvaluator
        Gives energies, forces and stresses.
    settings : RelaxationSettings
        When to stop.
    """

    def __init__(self, evaluator: BatchEvaluator, settings: RelaxationSettings) -> None:
        self.evaluator = evaluator
        self.settings = settings
        self._done: dict[int, RelaxedCrystal] = {}
        self._watch: DescentWatch | None = None
        self._optimizer = self._new_optimizer()

    def _new_optimizer(self) -> Optimizer[Any]:
        cutoff, settings = self.evaluator.cutoff, self.settings
        if settings.optimizer == "fire":
            return Fire(cutoff, settings.max_displacement)
        quasi_newton = (cutoff, settings.max_displacement, settings.energy_tolerance, settings.relax_cell)
        if settings.optimizer == "quasi-newton":
            return QuasiNewton(*quasi_newton)
        return FireQuasiNewton(*quasi_newton, settings.fmax)

    def run(self, batch: CrystalBatch, watch: DescentWatch | None = None) -> list[RelaxedCrystal]:
        """Relax all crystals of a batch, however large; results in the order given.

        ``watch`` is told of every evaluation, and crystals that it calls hopeless are given up where they stand.
        """
        self._done = {}
        self._watch = watch
        self._optimizer = self._new_optimizer()
        waiting = list(range(len(batch.counts)))
        costs = estimated_edges(batch.counts, batch.volumes, self.evaluator.cutoff)
        state: ActiveCrystals | None = None
        while waiting or (state is not None and len(state.counts)):
            state = self._admit(state, waiting, batch, costs)
            state = self._drop(state, geometry_errors(state, self.settings.max_volume_ratio, self.evaluator.cutoff))
            if len(state.counts):
                state = self._advance(state)
        return [self._done[i] for i in range(len(batch.counts))]

    def _admit(
        self, state: ActiveCrystals | None, waiting: list[int], batch: CrystalBatch, costs: FloatArray
    ) -> ActiveCrystals:
        """Fill the batch with waiting crystals, by estimated edges; at least one is under way afterwards."""
        room = self.evaluator.edges_per_batch - (0.0 if state is None else float(state.edges.sum()))
        entering: list[int] = []
        empty = state is None or not len(state.counts)
        while waiting and (costs[waiting[0]] <= room or (empty and not entering)):
            room -= costs[waiting[0]]
            entering.append(waiting.pop(0))
        if not entering:
            assert state is not None
            return state
        fresh: ActiveCrystals = self._optimizer.start(batch, entering)
        return fresh if state is None else state.join(fresh)

    def _drop(self, state: ActiveCrystals, errors: list[str | None]) -> ActiveCrystals:
        """Record crystals with an error as failed and take them out."""
        failed = np.array([error is not None for error in errors], bool)
        if not failed.any():
            return state
        offsets = np.cumsum(state.counts) - state.counts
        for b in np.flatnonzero(failed):
            self._record(state, int(b), int(offsets[b]), np.nan, False, np.nan, errors[b])
        return state.keep(~failed)

    def _record(
        self,
        state: ActiveCrystals,
        b: int,
        first: int,
        energy: float,
        converged: bool,
        force: float,
        error: str | None,
        given_up: bool = False,
    ) -> None:
        self._done[int(state.index[b])] = RelaxedCrystal(
            positions=state.positions[first : first + state.counts[b]].copy(),
            cell=state.cells[b].copy(),
            energy=float(energy),
            converged=converged,
            n_steps=int(state.steps[b]),
            error=error,
            energy_initial=float(state.energy_start[b]),
            max_force=float(force),
            given_up=given_up,
        )

    def _hopeless(self, state: ActiveCrystals, failed: BoolArray, energies: FloatArray) -> BoolArray:
        """Crystals that the watch gives up; those that failed are not shown to it."""
        hopeless = np.zeros(len(failed), bool)
        if self._watch is not None and not failed.all():
            sound = state.keep(~failed) if failed.any() else state
            point = DescentPoint(sound.index, sound.counts, energies[~failed], sound.as_batch())
            hopeless[~failed] = self._watch.hopeless(point)
        return hopeless

    def _advance(self, state: ActiveCrystals) -> ActiveCrystals:
        """Evaluate, let go those that are done or failed, and step the others."""
        batch = state.as_batch()
        result = self.evaluator.evaluate_batch(batch)
        errors = evaluation_errors(result, state, self.settings.min_distance)
        failed = np.array([error is not None for error in errors], bool)
        forces, cell_forces, largest = generalised_forces(result, batch, self.settings.relax_cell)
        first_time = state.steps == 0
        state.energy_start = np.where(first_time, result.energies, state.energy_start)
        state.edges = result.edges.astype(np.float64)
        settled = self._optimizer.settled(state, result.energies, forces, cell_forces, ~failed)
        last = state.steps >= self.settings.max_steps
        converged = ~failed & (largest <= self.settings.fmax) & (settled | last)
        exhausted = ~failed & ~converged & last
        given_up = self._hopeless(state, failed, result.energies) & ~(converged | exhausted)
        offsets = np.cumsum(state.counts) - state.counts
        going = ~(failed | converged | exhausted | given_up)
        for b in np.flatnonzero(~going):
            energy = np.nan if failed[b] else result.energies[b]
            self._record(
                state, int(b), int(offsets[b]), energy, bool(converged[b]), largest[b], errors[b], bool(given_up[b])
            )
        if going.all():
            remaining = state
        else:
            atoms = np.repeat(going, state.counts)
            remaining, forces, cell_forces = state.keep(going), forces[atoms], cell_forces[going]
        if len(remaining.counts):
            self._optimizer.step(remaining, forces, cell_forces)
        return remaining
