"""Dynamics of many crystals at once, independent of the model: who moves, who has failed, what is kept."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.surrogates.batch import BatchEvaluator, BatchResult, CrystalBatch, FloatArray
from pipeline.surrogates.checkpoint import Checkpoint, End, read_checkpoint
from pipeline.surrogates.crystal_errors import evaluation_errors, geometry_errors
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from pipeline.surrogates.moving import MovingCrystals, at_rest, random_stream, thermal_velocities, without_common_part
from pipeline.surrogates.trajectory import FrameRecorder, Trajectory


class BatchedDynamics:
    """Molecular dynamics of a batch, from its start or its last checkpoint.

    Parameters
    ----------
    evaluator : BatchEvaluator
        Gives energies, forces and stresses.
    settings : DynamicsSettings
        How to move.
    batch : CrystalBatch
        The crystals at their start.
    keys : sequence of str
        One a crystal: velocities and noise depend on (seed, key).
    temperatures : (B,) float64
        K.
    velocities : sequence of (n, 3) float64 or None
        First velocities of each crystal, Å/fs; None draws them.
    folder : Path or None
        Holds checkpoint and frames.
    identity : dict
        What the trajectories depend on, of JSON's types.

    Raises
    ------
    ValueError
        The folder holds other dynamics, or more steps than are asked for.
    """

    def __init__(
        self,
        evaluator: BatchEvaluator,
        settings: DynamicsSettings,
        batch: CrystalBatch,
        keys: Sequence[str],
        temperatures: FloatArray,
        velocities: Sequence[FloatArray | None],
        folder: Path | None,
        identity: dict[str, Any],
    ) -> None:
        self.evaluator = evaluator
        self.settings = settings
        self.folder = folder
        self.identity = identity
        self._integrator = settings.integrator()
        self._numbers = batch.numbers
        self._timestep = settings.timestep
        self._generators = [random_stream(settings.seed, key) for key in keys]
        saved = None if folder is None else read_checkpoint(folder, identity)
        self._saved = -1
        if saved is not None:
            self._resume(saved, batch)
        else:
            self._start(batch, temperatures, velocities)

    def _start(self, batch: CrystalBatch, temperatures: FloatArray, velocities: Sequence[FloatArray | None]) -> None:
        self.step = 0
        self._ends: dict[int, End] = {}
        self._recorder = FrameRecorder(batch.counts, self.folder)
        everyone = range(len(batch.counts))
        state = at_rest(batch, everyone, temperatures, self.settings.chain_length, self.evaluator.cutoff)
        drawn = thermal_velocities(state, self._generators)
        for first, count, given in zip(batch.offsets, batch.counts, velocities, strict=True):
            if given is not None:
                drawn[first : first + count] = given
        state.velocities = without_common_part(drawn, state.masses, state.counts)
        self._state = self._evaluated(state)
        self._record()

    def _resume(self, saved: Checkpoint, batch: CrystalBatch) -> None:
        if saved.step > self.settings.n_steps:
            raise ValueError(
                f"{self.folder} holds {saved.step} steps, more than n_steps = {self.settings.n_steps}; "
                "raise n_steps, or take another folder"
            )
        self.step = self._saved = saved.step
        self._ends = dict(saved.ends)
        self._recorder = FrameRecorder(batch.counts, self.folder, saved.chunks, saved.n_frames)
        self._state = saved.state
        for generator, state in zip(self._generators, saved.generators, strict=True):
            generator.bit_generator.state = state

    def run(self, max_seconds: float = np.inf) -> list[End]:
        """Go on to the last step, or to the first that ends after ``max_seconds``; where each crystal is then."""
        until = time.monotonic() + max_seconds
        while len(self._state.counts) and self.step < self.settings.n_steps and time.monotonic() < until:
            self._advance()
        if self.step != self._saved:
            self._checkpoint()
        ends = self._ends | self._where(self._state, [None] * len(self._state.counts))
        return [ends[i] for i in range(len(ends))]

    def trajectories(self) -> list[Trajectory]:
        """Frames of each crystal."""
        return self._recorder.trajectories(self._numbers, self._timestep)

    def _advance(self) -> None:
        self._integrator.move(self._state, self._generators)
        self._state.steps += 1
        self.step += 1
        self._state = self._evaluated(self._state)
        if len(self._state.counts):
            self._integrator.finish(self._state)
            self._state = self._drop(self._state, self._heat_errors(self._state))
        if self.step % self.settings.record_every == 0:
            self._record()
        if self.step % self.settings.checkpoint_every == 0:
            self._checkpoint()

    def _evaluated(self, state: MovingCrystals) -> MovingCrystals:
        """The crystals that can go on, with the model's answer at their positions."""
        state = self._drop(state, geometry_errors(state, self.settings.max_volume_ratio, self.evaluator.cutoff))
        if not len(state.counts):
            return state
        result = self._in_parts(state)
        state.energies, state.forces, state.stresses = result.energies, result.forces, result.stresses
        state.edges = result.edges.astype(np.float64)
        state.energy_start = np.where(state.steps == 0, result.energies, state.energy_start)
        return self._drop(state, evaluation_errors(result, state, self.settings.min_distance))

    def _in_parts(self, state: MovingCrystals) -> BatchResult:
        """The model's answer, in batches of as many edges as it likes best; the last step's edges are the estimate."""
        batch, running = state.as_batch(), np.cumsum(state.edges)
        results: list[BatchResult] = []
        first, n = 0, len(state.counts)
        while first < n:
            # Asked anew each time: the budget follows memory.
            room = self.evaluator.edges_per_batch + (running[first - 1] if first else 0.0)
            last = max(int(np.searchsorted(running, room, side="right")), first + 1)
            results.append(self.evaluator.evaluate_batch(batch.part(first, last)))
            first = last
        return results[0] if len(results) == 1 else BatchResult.joined(results)

    def _heat_errors(self, state: MovingCrystals) -> list[str | None]:
        temperatures = state.temperatures()
        errors: list[str | None] = [None] * len(temperatures)
        for b in np.flatnonzero(~(temperatures <= self.settings.max_temperature)):
            errors[b] = (
                f"ExplodingTemperature: {temperatures[b]:.4g} K after {state.steps[b]} steps "
                f"(limit {self.settings.max_temperature:g}); take a shorter time step, or relax the crystal first"
            )
        return errors

    def _drop(self, state: MovingCrystals, errors: list[str | None]) -> MovingCrystals:
        """Take crystals with an error out."""
        failed = np.array([error is not None for error in errors], bool)
        if not failed.any():
            return state
        self._ends |= self._where(state.keep(failed), [error for error in errors if error is not None])
        return state.keep(~failed)

    def _where(self, state: MovingCrystals, errors: Sequence[str | None]) -> dict[int, End]:
        offsets = state.as_batch().offsets
        ends = {}
        for b, error in enumerate(errors):
            atoms = slice(offsets[b], offsets[b] + state.counts[b])
            positions, velocities = state.positions[atoms].copy(), state.velocities[atoms].copy()
            ends[int(state.index[b])] = End(positions, velocities, state.cells[b].copy(), int(state.steps[b]), error)
        return ends

    def _record(self) -> None:
        if len(self._state.counts):
            self._recorder.record(self.step, self._state, self._integrator.conserved(self._state))

    def _checkpoint(self) -> None:
        """Frames first: a checkpoint never counts frames that are not on disk."""
        if self.folder is None:
            return
        self._recorder.flush()
        Checkpoint(
            identity=self.identity,
            step=self.step,
            state=self._state,
            ends=self._ends,
            generators=[dict(g.bit_generator.state) for g in self._generators],
            chunks=self._recorder.chunks,
            n_frames=self._recorder.n_frames,
        ).write(self.folder)
        self._saved = self.step
