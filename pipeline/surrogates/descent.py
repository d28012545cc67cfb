"""What a relaxation tells of each crystal after every evaluation, and who listens: a recorder, a rule to give up."""

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.surrogates.batch import CrystalBatch, FloatArray, IntArray


@dataclass(frozen=True)
class DescentPoint:
    """Where the crystals under way stand, one number a crystal.

    Attributes
    ----------
    index : (B,) int64
        Place of each crystal in the queue that is relaxed.
    counts : (B,) int64
        Atoms.
    energies : (B,) float64
        Total energies, eV.
    crystals : CrystalBatch or None
        Where their atoms are; moved in place at the next step, so that whoever keeps them copies them.
    """

    index: IntArray
    counts: IntArray
    energies: FloatArray
    crystals: CrystalBatch | None = None


class DescentWatch(Protocol):
    """Sees every evaluation of a relaxation, in order."""

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """(B,) crystals that need not be relaxed any further."""
        ...


@dataclass
class DescentRecorder:
    """Keeps every point of every crystal, without the atoms, and lets all go on."""

    points: list[DescentPoint] = field(default_factory=list)

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """Nobody."""
        self.points.append(replace(point, crystals=None))
        return np.zeros(len(point.index), bool)


@dataclass
class PathRecorder:
    """Keeps the energy and a copy of every crystal at each of its evaluations, and lets all go on.

    Attributes
    ----------
    energies, positions, cells : dict of int to list
        By place in the queue: total energies (eV), (n, 3) positions and (3, 3) cells (Å) in the order of evaluation.
    """

    energies: dict[int, list[float]] = field(default_factory=dict)
    positions: dict[int, list[FloatArray]] = field(default_factory=dict)
    cells: dict[int, list[FloatArray]] = field(default_factory=dict)

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """Nobody."""
        crystals = point.crystals
        if crystals is None:
            raise ValueError("a path is recorded of points that say where the atoms are; this one has no crystals")
        for b, (i, first) in enumerate(zip(point.index.tolist(), crystals.offsets, strict=True)):
            self.energies.setdefault(i, []).append(float(point.energies[b]))
            self.positions.setdefault(i, []).append(crystals.positions[first : first + crystals.counts[b]].copy())
            self.cells.setdefault(i, []).append(crystals.cells[b].copy())
        return np.zeros(len(point.index), bool)
