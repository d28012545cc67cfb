"""Trajectories: frames as they are recorded, in memory or in a folder, and as they are read.

A folder holds ``frames-000000.npz``, ``frames-000001.npz``, ...: NumPy archives of the frames between two checkpoints,
of all crystals together, written to a temporary name and renamed. How many of them count is said by the checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic_files import write_atomically
from pipeline.surrogates.archives import Arrays, read_archive, write_archive
from pipeline.surrogates.batch import FloatArray, IntArray
from pipeline.surrogates.moving import MovingCrystals


@dataclass(frozen=True)
class Trajectory:
    """Frames of one crystal.

    Attributes
    ----------
    numbers : (n,) int64
        Atomic numbers.
    steps : (F,) int64
        Time step of each frame; the first is 0.
    times : (F,) float64
        fs.
    positions : (F, n, 3) float64
        Cartesian and unwrapped (an atom that leaves the cell goes on beyond it), the centre of mass at rest, Å.
    cells : (F, 3, 3) float64
        Lattice vectors as rows, Å.
    energies : (F,) float64
        Potential energy, eV.
    temperatures : (F,) float64
        K, from 3n - 3 degrees of freedom.
    conserved : (F,) float64
        What the ensemble conserves (see :mod:`pipeline.surrogates.integrators`), eV.
    stresses : (F, 3, 3) float64
        The model's stress, tension positive, eV/Å3.
    pressures : (F,) float64
        Of the virial and the atoms' motion, eV/Å3.
    """

    numbers: IntArray
    steps: IntArray
    times: FloatArray
    positions: FloatArray
    cells: FloatArray
    energies: FloatArray
    temperatures: FloatArray
    conserved: FloatArray
    stresses: FloatArray
    pressures: FloatArray

    @property
    def volumes(self) -> FloatArray:
        """(F,) Å3."""
        volumes: FloatArray = np.abs(np.linalg.det(self.cells))
        return volumes

    def write_extxyz(self, path: Path) -> None:
        """Write all frames as extended XYZ, which ASE, OVITO and VMD read; replaces a file at once, when complete."""
        import io

        from ase import Atoms
        from ase.io import write

        frames = []
        for f in range(len(self.steps)):
            atoms = Atoms(self.numbers, self.positions[f], cell=self.cells[f], pbc=True)
            atoms.info = {
                "time_fs": self.times[f],
                "energy_eV": self.energies[f],
                "temperature_K": self.temperatures[f],
                "stress_eV_per_A3": self.stresses[f],
            }
            frames.append(atoms)
        text = io.StringIO()
        write(text, frames, format="extxyz")
        content = text.getvalue().encode()

        def save(stream: BinaryIO) -> None:
            stream.write(content)

        write_atomically(path, save)


class FrameRecorder:
    """Collects frames of a batch; a crystal that has left has no more of them.

    Parameters
    ----------
    counts : (B,) int64
        Atoms of each crystal of the whole batch.
    folder : Path or None
        Where :meth:`flush` writes; without one frames stay in memory.
    chunks : int
        Files that the folder holds already and that count.
    n_frames : (B,) int64, optional
        Frames of each crystal so far.
    """

    def __init__(
        self, counts: IntArray, folder: Path | None, chunks: int = 0, n_frames: IntArray | None = None
    ) -> None:
        self.counts = counts
        self.folder = folder
        self.chunks = chunks
        self.n_frames = np.zeros(len(counts), np.int64) if n_frames is None else n_frames
        self._pending: list[Arrays] = []
        self._offsets = np.cumsum(counts) - counts

    def record(self, step: int, state: MovingCrystals, conserved: FloatArray) -> None:
        """Take a frame of the crystals under way; NaN stands for those that have left."""
        n_crystals, n_atoms = len(self.counts), int(self.counts.sum())
        per_crystal = {
            "cells": state.cells,
            "energies": state.energies,
            "temperatures": state.temperatures(),
            "conserved": conserved,
            "stresses": state.stresses,
            "pressures": _pressures(state),
        }
        frame: dict[str, NDArray[Any]] = {"steps": np.array(step, np.int64)}
        for name, values in per_crystal.items():
            frame[name] = np.full((n_crystals, *values.shape[1:]), np.nan)
            frame[name][state.index] = values
        under_way = np.zeros(n_crystals, bool)
        under_way[state.index] = True
        frame["positions"] = np.full((n_atoms, 3), np.nan)
        frame["positions"][np.repeat(under_way, self.counts)] = state.positions
        self._pending.append(frame)
        self.n_frames[state.index] += 1

    def flush(self) -> None:
        """Write the frames since the last flush to the folder, if there is one."""
        if self.folder is None or not self._pending:
            return
        write_archive(self.folder / _name(self.chunks), _stacked(self._pending))
        self.chunks += 1
        self._pending = []

    def trajectories(self, numbers: IntArray, timestep: float) -> list[Trajectory]:
        """All frames so far, crystal by crystal; ``numbers`` (N,) of the whole batch, ``timestep`` in fs."""
        parts = [read_archive(self.folder / _name(k)) for k in range(self.chunks)] if self.folder is not None else []
        if self._pending:
            parts.append(_stacked(self._pending))
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else None
        return [self._trajectory(b, whole, numbers, timestep) for b in range(len(self.counts))]

    def _trajectory(self, b: int, whole: Arrays | None, numbers: IntArray, timestep: float) -> Trajectory:
        atoms = slice(self._offsets[b], self._offsets[b] + self.counts[b])
        if whole is None:
            return no_frames(numbers[atoms])
        frames = slice(0, self.n_frames[b])
        steps = whole["steps"][frames]
        scalars = ("cells", "energies", "temperatures", "conserved", "stresses", "pressures")
        return Trajectory(
            numbers=numbers[atoms],
            steps=steps,
            times=steps * timestep,
            positions=whole["positions"][frames, atoms],
            **{name: whole[name][frames, b] for name in scalars},
        )


def no_frames(numbers: IntArray) -> Trajectory:
    """Trajectory of a crystal that never moved."""
    none, squares = np.empty(0), np.empty((0, 3, 3))
    return Trajectory(
        numbers, np.empty(0, np.int64), none, np.empty((0, len(numbers), 3)), squares, none, none, none, squares, none
    )


def _pressures(state: MovingCrystals) -> FloatArray:
    kinetic: FloatArray = 2.0 * state.kinetic_energies() / (3.0 * state.as_batch().volumes)
    stresses = state.stresses
    return kinetic - (stresses[:, 0, 0] + stresses[:, 1, 1] + stresses[:, 2, 2]) / 3.0


def _stacked(frames: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}


def _name(chunk: int) -> str:
    return f"frames-{chunk:06d}.npz"
