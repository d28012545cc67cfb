"""One time step of many crystals: constant energy, two thermostats, and a barostat.

A step is ``move`` (to new positions), the model's evaluation there, and ``finish``. Every operation is elementwise or
a sum in order over a crystal's own atoms, so a trajectory does not depend on companions.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pipeline.surrogates.batch import FloatArray
from pipeline.surrogates.moving import MovingCrystals, normal_deviates, without_common_part

Generators = Sequence[np.random.Generator]

# Weights of Suzuki's and Yoshida's fourth-order composition of three steps.
_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
_SUZUKI_YOSHIDA = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)


class Integrator(Protocol):
    """What moves crystals in time; times in fs."""

    def move(self, state: MovingCrystals, generators: Generators) -> None:
        """Bring positions to the end of the step, in place; ``generators`` has one for each value of ``index``."""
        ...

    def finish(self, state: MovingCrystals) -> None:
        """Bring velocities to the end of the step, in place, with the model's answer at the new positions."""
        ...

    def conserved(self, state: MovingCrystals) -> FloatArray:
        """(B,) the quantity that exact integration would keep constant, eV."""
        ...


class VelocityVerlet:
    """Constant energy and volume (Swope et al., J. Chem. Phys. 1982, 76, 637); conserves K + U."""

    def __init__(self, timestep: float) -> None:
        self.timestep = timestep

    def move(self, state: MovingCrystals, generators: Generators) -> None:
        """Half a kick, a drift."""
        kick(state, 0.5 * self.timestep)
        drift(state, self.timestep)

    def finish(self, state: MovingCrystals) -> None:
        """Half a kick."""
        kick(state, 0.5 * self.timestep)

    def conserved(self, state: MovingCrystals) -> FloatArray:
        """Kinetic and potential energy."""
        conserved: FloatArray = state.kinetic_energies() + state.energies
        return conserved


class LangevinBAOAB:
    """Langevin dynamics at constant volume by the BAOAB splitting (Leimkuhler and Matthews, Appl. Math. Res. Express
    2013, 34): configurational averages in a harmonic well are exact at any stable step.

    The noise leaves the centre of mass at rest. Conserves K + U less the heat that the thermostat has given
    (Bussi and Parrinello, Phys. Rev. E 2007, 75, 056707).
    """

    def __init__(self, timestep: float, friction_time: float) -> None:
        self.timestep = timestep
        self.memory = float(np.exp(-timestep / friction_time))

    def move(self, state: MovingCrystals, generators: Generators) -> None:
        """Half a kick, half a drift, the thermostat, half a drift."""
        kick(state, 0.5 * self.timestep)
        drift(state, 0.5 * self.timestep)
        self._ornstein_uhlenbeck(state, generators)
        drift(state, 0.5 * self.timestep)

    def finish(self, state: MovingCrystals) -> None:
        """Half a kick."""
        kick(state, 0.5 * self.timestep)

    def conserved(self, state: MovingCrystals) -> FloatArray:
        """Energy less the heat."""
        conserved: FloatArray = state.kinetic_energies() + state.energies - state.exchanged
        return conserved

    def _ornstein_uhlenbeck(self, state: MovingCrystals, generators: Generators) -> None:
        before = state.kinetic_energies()
        widths = np.sqrt((1.0 - self.memory**2) * state.to_atoms(state.thermal_energies) / state.masses[:, None])
        velocities = self.memory * state.velocities + widths * normal_deviates(state, generators)
        state.velocities = without_common_part(velocities, state.masses, state.counts)
        state.exchanged = state.exchanged + (state.kinetic_energies() - before)


class NoseHooverChains:
    """Constant volume with a Nosé-Hoover chain for each crystal (Martyna, Klein and Tuckerman, J. Chem. Phys. 1992, 97,
    2635), integrated as by Martyna et al., Mol. Phys. 1996, 87, 1117, with three Suzuki-Yoshida steps.

    Thermostats have masses (3n - 3) k_B T tau^2 and k_B T tau^2. Conserves K + U and the energy of the chain.
    """

    def __init__(self, timestep: float, thermostat_time: float) -> None:
        self.timestep = timestep
        self.thermostat_time = thermostat_time

    def move(self, state: MovingCrystals, generators: Generators) -> None:
        """Half a step of the chain, half a kick, a drift."""
        self._chain(state)
        kick(state, 0.5 * self.timestep)
        drift(state, self.timestep)

    def finish(self, state: MovingCrystals) -> None:
        """Half a kick, half a step of the chain."""
        kick(state, 0.5 * self.timestep)
        self._chain(state)

    def conserved(self, state: MovingCrystals) -> FloatArray:
        """Energy of crystal and chain."""
        chain = 0.5 * self._masses(state) * state.chain_velocities**2
        chain += state.thermal_energies[:, None] * state.chain_positions
        chain[:, 0] += (state.degrees_of_freedom - 1) * state.thermal_energies * state.chain_positions[:, 0]
        conserved: FloatArray = state.kinetic_energies() + state.energies
        for k in range(chain.shape[1]):
            conserved = conserved + chain[:, k]
        return conserved

    def _masses(self, state: MovingCrystals) -> FloatArray:
        masses = np.repeat(
            (state.thermal_energies * self.thermostat_time**2)[:, None], state.chain_positions.shape[1], 1
        )
        masses[:, 0] *= state.degrees_of_freedom
        return masses

    def _chain(self, state: MovingCrystals) -> None:
        """Half a step of the thermostats, which scales the velocities."""
        kinetic, scale = state.kinetic_energies(), np.ones(len(state.counts))
        masses, velocities = self._masses(state), state.chain_velocities
        thermal = state.degrees_of_freedom * state.thermal_energies
        last = velocities.shape[1] - 1

        def pushed(k: int, step: float) -> None:
            """Velocity of thermostat k after ``step`` under its own force and the friction of the next one."""
            surplus = 2.0 * kinetic * scale**2 - thermal
            if k:
                surplus = masses[:, k - 1] * velocities[:, k - 1] ** 2 - state.thermal_energies
            friction = np.exp(-0.5 * step * velocities[:, k + 1]) if k < last else 1.0
            velocities[:, k] = (velocities[:, k] * friction + step * surplus / masses[:, k]) * friction

        for weight in _SUZUKI_YOSHIDA:
            step = 0.5 * weight * self.timestep
            for k in range(last, -1, -1):
                pushed(k, 0.5 * step)
            scale = scale * np.exp(-step * velocities[:, 0])
            state.chain_positions += step * velocities
            for k in range(last + 1):
                pushed(k, 0.5 * step)
        state.velocities = state.velocities * state.to_atoms(scale)


class StochasticCellRescaling(LangevinBAOAB):
    """Constant temperature and pressure: BAOAB, and the isotropic stochastic cell rescaling of Bernetti and Bussi
    (J. Chem. Phys. 2020, 153, 114107) in the middle of its step.

    The logarithm of the volume follows their equation for it: drift -(compressibility / barostat time) (P0 - P) and
    noise of variance 2 k_B T compressibility / (V barostat time) a unit of time, with the instantaneous pressure P.
    Distances from the centre of mass scale with the cell, velocities inversely. The compressibility sets the pace
    only, not the ensemble. Conserves K + U less heat and the barostat's work, the latter by the trapezoidal rule
    between the virials before and after a step.
    """

    def __init__(
        self, timestep: float, friction_time: float, barostat_time: float, pressure: float, compressibility: float
    ) -> None:
        """Times in fs, ``pressure`` in eV/Å3, ``compressibility`` in Å3/eV."""
        super().__init__(timestep, friction_time)
        self.pressure = pressure
        self.rate = compressibility / barostat_time

    def move(self, state: MovingCrystals, generators: Generators) -> None:
        """Half a kick, half a drift, thermostat, barostat, half a drift."""
        kick(state, 0.5 * self.timestep)
        drift(state, 0.5 * self.timestep)
        self._ornstein_uhlenbeck(state, generators)
        self._rescale(state, generators)
        drift(state, 0.5 * self.timestep)

    def finish(self, state: MovingCrystals) -> None:
        """Half a kick, and the second half of the barostat's work."""
        kick(state, 0.5 * self.timestep)
        state.exchanged = state.exchanged - 0.5 * virial_pressures(state) * state.growth

    def _rescale(self, state: MovingCrystals, generators: Generators) -> None:
        volumes, kinetic = state.as_batch().volumes, state.kinetic_energies()
        virial = virial_pressures(state)
        pressures = virial + 2.0 * kinetic / (3.0 * volumes)
        noise = np.array([generators[i].standard_normal() for i in state.index.tolist()])
        widths = np.sqrt(2.0 * state.thermal_energies * self.rate * self.timestep / volumes)
        strain = self.rate * self.timestep * (pressures - self.pressure) + widths * noise
        scale = np.exp(strain / 3.0)
        centres = state.positions - without_common_part(state.positions, state.masses, state.counts)
        state.positions = centres + state.to_atoms(scale) * (state.positions - centres)
        state.velocities = state.velocities / state.to_atoms(scale)
        state.cells = state.cells * scale[:, None, None]
        state.growth = volumes * np.expm1(strain)
        state.exchanged = state.exchanged + (state.kinetic_energies() - kinetic) - 0.5 * virial * state.growth


def kick(state: MovingCrystals, time: float) -> None:
    """Velocities after ``time`` (fs) under the forces, less the net force, which rounding alone makes."""
    accelerations = state.forces / state.masses[:, None]
    state.velocities = state.velocities + time * without_common_part(accelerations, state.masses, state.counts)


def drift(state: MovingCrystals, time: float) -> None:
    """Positions after ``time`` (fs) at these velocities."""
    state.positions = state.positions + time * state.velocities


def virial_pressures(state: MovingCrystals) -> FloatArray:
    """(B,) pressure without its kinetic part, eV/Å3: minus a third of the stress's trace."""
    stresses = state.stresses
    pressures: FloatArray = -(stresses[:, 0, 0] + stresses[:, 1, 1] + stresses[:, 2, 2]) / 3.0
    return pressures
