"""FIRE into the basin where it leads, quasi-Newton steps to its bottom, and a push that shows whether it is a saddle.

From a start far from any minimum the first steps decide which minimum is found. FIRE's are short and follow the forces,
as those of the usual scripts do; L-BFGS over springs takes longer ones, and in a few of a hundred crystals comes to
another, higher minimum. So FIRE makes the first steps here, until forces are small or a number of steps is over.

Symmetric starts end on saddles, where forces vanish by symmetry. So where a crystal comes to rest all its atoms are
displaced once, and it goes on: a minimum is found again, a saddle is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from pipeline.surrogates.active import BoolArray, entering, largest_force
from pipeline.surrogates.batch import CrystalBatch, FloatArray
from pipeline.surrogates.fire import Fire, FireCrystals, at_rest
from pipeline.surrogates.quasi_newton import QuasiNewton, QuasiNewtonCrystals, without_memory

# Measured (docs/performance.md): with less of either, some crystals leave FIRE's basin.
_FIRE_STEPS = 40
_FIRE_FORCE = 0.1  # eV/Å
# Å, standard deviation; half of it is too little for small forces to notice.
_PUSH = 0.02


@dataclass
class FireQuasiNewtonCrystals(QuasiNewtonCrystals, FireCrystals):
    """What both remember.

    ``led`` are the crystals that FIRE still leads, of which the other knows nothing yet; ``resting`` those that have
    just come to rest, ``pushed`` those that had their push.
    """

    led: BoolArray
    resting: BoolArray
    pushed: BoolArray

    ATOMIC: ClassVar[frozenset[str]] = QuasiNewtonCrystals.ATOMIC | FireCrystals.ATOMIC


class FireQuasiNewton:
    """FIRE followed by L-BFGS over springs, as an optimiser of the batched relaxation.

    Parameters
    ----------
    cutoff, max_displacement, energy_tolerance, relax_cell
        As for :class:`pipeline.surrogates.quasi_newton.QuasiNewton`; FIRE has the same longest step.
    fmax : float
        Force below which a crystal comes to rest, eV/Å.
    """

    def __init__(
        self, cutoff: float, max_displacement: float, energy_tolerance: float, relax_cell: bool, fmax: float
    ) -> None:
        self.fmax = fmax
        self._fire = Fire(cutoff, max_displacement)
        self._quasi_newton = QuasiNewton(cutoff, max_displacement, energy_tolerance, relax_cell)

    def start(self, batch: CrystalBatch, indices: Sequence[int]) -> FireQuasiNewtonCrystals:
        """All at rest, led by FIRE."""
        common = entering(batch, indices, self._fire.cutoff)
        n = len(common["counts"])
        return FireQuasiNewtonCrystals(
            **common,
            **at_rest(common["positions"], n),
            **without_memory(common["positions"], common["cells"], self._quasi_newton.strains),
            led=np.ones(n, bool),
            resting=np.zeros(n, bool),
            pushed=np.zeros(n, bool),
        )

    def settled(
        self,
        state: FireQuasiNewtonCrystals,
        energies: FloatArray,
        forces: FloatArray,
        cell_forces: FloatArray,
        valid: BoolArray,
    ) -> BoolArray:
        """FIRE hands over crystals that it has led far enough; settled is one that has come to rest after its push."""
        largest = largest_force(forces, cell_forces, state.counts)
        state.led = state.led & ~(valid & ((largest <= _FIRE_FORCE) | (state.steps >= _FIRE_STEPS)))
        settled = self._quasi_newton.settled(state, energies, forces, cell_forces, valid & ~state.led)
        state.resting = settled & (largest <= self.fmax) & ~state.pushed
        return settled & ~state.resting

    def step(self, state: FireQuasiNewtonCrystals, forces: FloatArray, cell_forces: FloatArray) -> None:
        """One step each, by the one that leads it; a push is a step that may lead uphill."""
        _push(state)
        for optimizer, chosen in ((self._fire, state.led), (self._quasi_newton, ~state.led)):
            if chosen.any():
                atoms = np.repeat(chosen, state.counts)
                part = state.keep(chosen)
                optimizer.step(part, forces[atoms], cell_forces[chosen])
                state.put(chosen, part)


def _push(state: FireQuasiNewtonCrystals) -> None:
    """Let the next step of resting crystals be a displacement of all atoms."""
    for b, first in zip(np.flatnonzero(state.resting), state.as_batch().offsets[state.resting], strict=True):
        state.move[first : first + state.counts[b]] = _displacements(int(state.counts[b]))
    state.strain[state.resting] = 0.0
    state.trust[state.resting] = 1.0
    state.energy_kept[state.resting] = np.inf
    state.stored[state.resting] = -1
    state.pushed |= state.resting


@cache
def _displacements(n_atoms: int) -> FloatArray:
    """(n, 3) Gaussian displacements, Å, always the same: a crystal's path depends on nothing but itself."""
    return np.random.default_rng(n_atoms).normal(0.0, _PUSH, (n_atoms, 3))
