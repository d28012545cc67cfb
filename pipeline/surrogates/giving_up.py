"""Giving up relaxations early: a crystal whose energy can't come under its ceiling is not relaxed to the end."""

import numpy as np
from numpy.typing import NDArray

from pipeline.reference.descent_bounds import DescentBound, quadratic_drop
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
        self._lowest = np.full(len(ceilings), np.inf)

    def hopeless(self, point: DescentPoint) -> NDArray[np.bool_]:
        """(B,) crystals to give up. One whose energy is not above its ceiling now never is."""
        lowest = np.minimum(self._lowest[point.index], point.energies)
        self._lowest[point.index] = lowest
        drop = quadratic_drop(point.squared_forces, point.squared_cell_forces, point.counts)
        ceilings = self._ceilings[point.index]
        hopeless: NDArray[np.bool_] = lowest - point.counts * self._bound.remaining(drop) > ceilings
        return hopeless
