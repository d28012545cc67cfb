"""What a relaxation tells of each crystal after every evaluation, and who listens: a recorder, a rule to give up."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.surrogates.batch import FloatArray, IntArray


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
    """

    index: IntArray
    counts: IntArray
    energies: FloatArray


class DescentWatch(Protocol):
    """Sees every evaluation of a relaxation, in order."""

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """(B,) crystals that need not be relaxed any further."""
        ...


@dataclass
class DescentRecorder:
    """Keeps every point of every crystal, and lets all go on."""

    points: list[DescentPoint] = field(default_factory=list)

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """Nobody."""
        self.points.append(point)
        return np.zeros(len(point.index), bool)
