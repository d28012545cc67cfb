"""FIRE into the basin where it leads, then quasi-Newton steps to its bottom.

From a start far from any minimum the first steps decide which minimum is found. FIRE's are short and follow the forces,
as those of the usual scripts do; L-BFGS over springs takes longer ones, and in a few of a hundred crystals comes to
another, higher minimum. So FIRE makes the first steps here, until forces are small or a number of steps is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.surrogates.active import BoolArray, entering, largest_force
from pipeline.surrogates.batch import CrystalBatch, FloatArray
from pipeline.surrogates.fire import Fire, FireCrystals, at_rest
from pipeline.surrogates.quasi_newton import QuasiNewton, QuasiNewtonCrystals, without_memory

# Measured (docs/performance.md): with less of either, some crystals leave FIRE's basin.
_FIRE_STEPS = 40
_FIRE_FORCE = 0.1  # eV/Å


@dataclass
class FireQuasiNewtonCrystals(QuasiNewtonCrystals, FireCrystals):
    """What both remember; ``led`` are the crystals that FIRE still leads, of which the other knows nothing yet."""

    led: BoolArray

    ATOMIC: ClassVar[frozenset[str]] = QuasiNewtonCrystals.ATOMIC | FireCrystals.ATOMIC


class FireQuasiNewton:
    """FIRE followed by L-BFGS over springs, as an optimiser of the batched relaxation.

    Parameters
    ----------
    cutoff, max_displacement, energy_tolerance, relax_cell
        As for :class:`pipeline.surrogates.quasi_newton.QuasiNewton`; FIRE has the same longest step.
    """

    def __init__(self, cutoff: float, max_displacement: float, energy_tolerance: float, relax_cell: bool) -> None:
        self._fire = Fire(cutoff, max_displacement)
        self._quasi_newton = QuasiNewton(cutoff, max_displacement, energy_tolerance, relax_cell)

    def start(self, batch: CrystalBatch, indices: Sequence[int]) -> FireQuasiNewtonCrystals:
        """All at rest, led by FIRE."""
        common = entering(batch, indices, self._fire.cutoff)
        return FireQuasiNewtonCrystals(
            **common,
            **at_rest(common["positions"], len(common["counts"])),
            **without_memory(common["positions"], common["cells"], self._quasi_newton.strains),
            led=np.ones(len(common["counts"]), bool),
        )

    def settled(
        self,
        state: FireQuasiNewtonCrystals,
        energies: FloatArray,
        forces: FloatArray,
        cell_forces: FloatArray,
        valid: BoolArray,
    ) -> BoolArray:
        """FIRE hands over crystals that it has led far enough; those that it leads are not settled."""
        small = largest_force(forces, cell_forces, state.counts) <= _FIRE_FORCE
        state.led = state.led & ~(valid & (small | (state.steps >= _FIRE_STEPS)))
        return self._quasi_newton.settled(state, energies, forces, cell_forces, valid & ~state.led)

    def step(self, state: FireQuasiNewtonCrystals, forces: FloatArray, cell_forces: FloatArray) -> None:
        """One step each, by the one that leads it."""
        for optimizer, chosen in ((self._fire, state.led), (self._quasi_newton, ~state.led)):
            if chosen.any():
                atoms = np.repeat(chosen, state.counts)
                part = state.keep(chosen)
                optimizer.step(part, forces[atoms], cell_forces[chosen])
                state.put(chosen, part)
