"""Crystals in motion: their state in flat arrays, their kinetic energy, their first velocities.

Masses are in eV fs2/Å2 and velocities in Å/fs, so that forces in eV/Å and energies in eV need no factors.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.surrogates.active import ActiveCrystals, entering, sum_by_crystal
from pipeline.surrogates.batch import CrystalBatch, FloatArray, IntArray
from pipeline.units import BOLTZMANN, EV_FS2_PER_ANGSTROM2_PER_DALTON


@dataclass
class MovingCrystals(ActiveCrystals):
    """State of crystals in a batch of molecular dynamics; arrays of (N, ...) belong to atoms, of (B, ...) to crystals.

    ``positions`` are unwrapped. Energies (eV), forces (eV/Å) and stresses (eV/Å3) are the model's at these positions.
    ``thermal_energies`` are k_B T of the thermostats, eV. ``chain_positions`` and ``chain_velocities`` (1/fs) have a
    column for each thermostat of a Nosé-Hoover chain. ``exchanged`` is the energy that stochastic thermostat and
    barostat have given, eV; ``growth`` the volume that the barostat added in this step, Å3.
    """

    masses: FloatArray
    velocities: FloatArray
    forces: FloatArray
    energies: FloatArray
    stresses: FloatArray
    thermal_energies: FloatArray
    chain_positions: FloatArray
    chain_velocities: FloatArray
    exchanged: FloatArray
    growth: FloatArray

    ATOMIC: ClassVar[frozenset[str]] = ActiveCrystals.ATOMIC | {"masses", "velocities", "forces"}

    @property
    def degrees_of_freedom(self) -> IntArray:
        """(B,) 3n - 3: the momentum of the centre of mass is zero."""
        freedom: IntArray = 3 * self.counts - 3
        return freedom

    def kinetic_energies(self) -> FloatArray:
        """(B,) eV."""
        squares = self.velocities * self.velocities
        return sum_by_crystal(0.5 * self.masses * (squares[:, 0] + squares[:, 1] + squares[:, 2]), self.counts)

    def temperatures(self) -> FloatArray:
        """(B,) K, from the kinetic energy of 3n - 3 degrees of freedom."""
        temperatures: FloatArray = 2.0 * self.kinetic_energies() / (self.degrees_of_freedom * BOLTZMANN)
        return temperatures

    def to_atoms(self, per_crystal: FloatArray) -> FloatArray:
        """(N, 1) value of each atom's crystal."""
        repeated: FloatArray = np.repeat(per_crystal, self.counts)[:, None]
        return repeated


def at_rest(
    batch: CrystalBatch, indices: Sequence[int], temperatures: FloatArray, chain_length: int, cutoff: float
) -> MovingCrystals:
    """Crystals of a batch before their first evaluation, without motion; ``temperatures`` (K) are the thermostats'."""
    fields = entering(batch, indices, cutoff)
    n_atoms, n_crystals = len(fields["positions"]), len(fields["counts"])
    return MovingCrystals(
        **fields,
        masses=atomic_masses(fields["numbers"]),
        velocities=np.zeros((n_atoms, 3)),
        forces=np.zeros((n_atoms, 3)),
        energies=np.zeros(n_crystals),
        stresses=np.zeros((n_crystals, 3, 3)),
        thermal_energies=BOLTZMANN * temperatures,
        chain_positions=np.zeros((n_crystals, chain_length)),
        chain_velocities=np.zeros((n_crystals, chain_length)),
        exchanged=np.zeros(n_crystals),
        growth=np.zeros(n_crystals),
    )


def atomic_masses(numbers: IntArray) -> FloatArray:
    """(N,) standard atomic weights (IUPAC 2016, as ASE tabulates them), in eV fs2/Å2."""
    from ase.data import atomic_masses_iupac2016

    masses: FloatArray = np.asarray(atomic_masses_iupac2016, np.float64)[numbers] * EV_FS2_PER_ANGSTROM2_PER_DALTON
    return masses


def without_common_part(vectors: FloatArray, weights: FloatArray, counts: IntArray) -> FloatArray:
    """Vectors (N, 3) less the mean over each crystal, weighted by (N,) masses.

    Of velocities this takes away the momentum of the centre of mass. Applied to normal deviates over the square root of
    the masses it is their orthogonal projection, so the Maxwell-Boltzmann distribution at zero momentum comes out.
    """
    starts = np.cumsum(counts) - counts
    common = np.add.reduceat(weights[:, None] * vectors, starts, axis=0) / np.add.reduceat(weights, starts)[:, None]
    remaining: FloatArray = vectors - np.repeat(common, counts, axis=0)
    return remaining


def thermal_velocities(state: MovingCrystals, generators: Sequence[np.random.Generator]) -> FloatArray:
    """(N, 3) velocities from the Maxwell-Boltzmann distribution at the thermostats' temperatures, Å/fs.

    The centre of mass is at rest, so 3n - 3 degrees of freedom have k_B T / 2 each on average; the kinetic energy is
    not rescaled and fluctuates as it should.
    """
    widths = np.sqrt(state.to_atoms(state.thermal_energies) / state.masses[:, None])
    return without_common_part(widths * normal_deviates(state, generators), state.masses, state.counts)


def normal_deviates(state: MovingCrystals, generators: Sequence[np.random.Generator]) -> FloatArray:
    """(N, 3) standard normal deviates; those of a crystal come from its own generator (``index`` tells which)."""
    drawn = [
        generators[i].standard_normal((n, 3)) for i, n in zip(state.index.tolist(), state.counts.tolist(), strict=True)
    ]
    return np.concatenate(drawn)


def random_stream(seed: int, key: str) -> np.random.Generator:
    """Generator of a crystal, from (seed, key) alone."""
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32)
    return np.random.default_rng([seed, *words.tolist()])
