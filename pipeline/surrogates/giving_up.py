"""Giving up relaxations early: a crystal whose energy can't come under its ceiling is not relaxed to the end."""

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.descent_bounds import DescentBound
from pipeline.surrogates.batch import FloatArray
from pipeline.surrogates.descent import DescentPoint


class GivingUp:
    """Gives a crystal up when its lowest energy so far, less what it may still fall, is above its ceiling.

    Parameters
    ----------
    ceilings : (n,) float64
        Total energy that each crystal of the queue must come under, eV.
    bound : DescentBound
        How far it may still fall.
    """

    def __init__(self, ceilings: FloatArray, bound: DescentBound) -> None:
        self._ceilings = ceilings
        self._bound = bound
        # Lowest energy after each of the last evaluations: that after t of them stands in column t modulo the window.
        self._lowest = np.full((len(ceilings), bound.window), np.inf)
        self._seen = np.zeros(len(ceilings), np.int64)

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """(B,) crystals to give up. One whose energy is not above its ceiling now never is."""
        index, seen = point.index, self._seen[point.index]
        column = seen % self._bound.window
        before = self._lowest[index, column]
        lowest = np.minimum(self._lowest[index, column - 1], point.energies)
        self._lowest[index, column] = lowest
        self._seen[index] = seen + 1
        remaining = point.counts * self._bound.remaining((before - lowest) / point.counts)
        hopeless: NDArray[np.bool_] = lowest - remaining > self._ceilings[index]
        return hopeless
