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
    squared_forces : (B,) float64
        Sum over atoms of the squared force, (eV/Å)^2.
    squared_cell_forces : (B,) float64
        Squared norm of the strain's generalised force, virial over atoms, eV^2.
    largest : (B,) float64
        Largest norm among forces and rows of the cell's force, as ``fmax`` bounds it, eV/Å.
    """

    index: IntArray
    counts: IntArray
    energies: FloatArray
    squared_forces: FloatArray
    squared_cell_forces: FloatArray
    largest: FloatArray


class DescentWatch(Protocol):
    """Sees every evaluation of a relaxation, in order."""

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """(B,) crystals that need not be relaxed any further."""
        ...


def descent_point(
    index: IntArray, counts: IntArray, energies: FloatArray, forces: FloatArray, cell_forces: FloatArray
) -> DescentPoint:
    """Sums over the atoms' forces (N, 3) and the cells' (B, 3, 3)."""
    squares = np.einsum("na,na->n", forces, forces)
    offsets = np.cumsum(counts) - counts
    cell_rows = np.einsum("bij,bij->bi", cell_forces, cell_forces)
    largest = np.sqrt(np.maximum(np.maximum.reduceat(squares, offsets), cell_rows.max(axis=1)))
    return DescentPoint(
        index.copy(), counts.copy(), energies.copy(), np.add.reduceat(squares, offsets), cell_rows.sum(axis=1), largest
    )


@dataclass
class DescentRecorder:
    """Keeps every point of every crystal, and lets all go on."""

    points: list[DescentPoint] = field(default_factory=list)

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """Nobody."""
        self.points.append(point)
        return np.zeros(len(point.index), bool)
