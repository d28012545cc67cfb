"""Crystals and models for tests of dynamics: relaxed Morse salts, an ideal gas, an Einstein solid."""

from functools import cache

import numpy as np
from pymatgen.core import Lattice, Structure

from pipeline.surrogates.batch import BatchResult
from pipeline.surrogates.potential import Potential
from tests.morse import morse_potential
from tests.potentials import compact, salts


@cache
def resting_salts() -> list[Structure]:
    """Three Morse salts in their minima: 16, 16 and 16 atoms of LiF, LiCl and NaCl, and one of 8, NaBr."""
    cells = [*(compact(s) * (2, 2, 2) for s in salts(3)), compact(salts(4)[3]) * (2, 2, 1)]
    return [r.structure for r in morse_potential().relax(cells, fmax=1e-4)]


class Analytic:
    """A model without neighbours."""

    cutoff = 3.0
    elements = ("Li", "F", "Na", "Cl")
    edges_per_batch = 10_000

    def answer(self, batch, energies, forces):
        n = len(batch.counts)
        closest = np.tile([np.inf, 0.0, 0.0], (n, 1))
        return BatchResult(energies, forces, np.zeros((n, 3, 3)), np.full(n, 1), closest, [None] * n)


class IdealGas(Analytic):
    """Atoms that do not see each other."""

    def evaluate_batch(self, batch):
        return self.answer(batch, np.zeros(len(batch.counts)), np.zeros_like(batch.positions))


class EinsteinSolid(Analytic):
    """Every atom of one crystal on a spring of its own, eV/Å2."""

    def __init__(self, places, stiffness):
        self.places, self.stiffness = places, stiffness

    def evaluate_batch(self, batch):
        away = batch.positions - self.places
        return self.answer(batch, np.array([0.5 * self.stiffness * (away**2).sum()]), -self.stiffness * away)


def analytic_potential(model: Analytic) -> Potential:
    return Potential(type(model).__name__, "0" * 64, None, model, "cpu")


def sodium(n: int, a: float = 3.0) -> Structure:
    """n^3 sodium atoms on a simple cubic lattice."""
    return Structure(Lattice.cubic(a), ["Na"], [[0, 0, 0]]) * (n, n, n)
