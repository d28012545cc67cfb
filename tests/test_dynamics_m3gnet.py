"""Dynamics with the real M3GNet: energy is conserved at the default step, and companions change not a bit."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.surrogates import Potential, load_potential
from pipeline.surrogates.dynamics import run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from tests.potentials import rock_salt

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def potential() -> Potential:
    return load_potential("M3GNet-MP-2021.2.8-PES")


def test_energy_is_conserved_at_the_default_step(potential):
    # The default is a promise for lithium, the lightest of the mobile ions; near 750 K after equipartition.
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.15), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    settings = DynamicsSettings(ensemble="nve", n_steps=600, record_every=1, n_equilibration=50)
    (result,) = run_dynamics(potential, [salt], 1500.0, settings)
    assert settings.timestep == 2.0
    assert result.error is None
    assert 600.0 < result.temperature < 1100.0
    assert abs(result.energy_drift) < 1.0
    # The energy wavers by (omega dt)^2 / 8 (here 0.003) of the kinetic energy's fluctuation, some 60 meV/atom.
    assert np.std(result.trajectory.conserved) < 1e-3 * len(salt) * 0.3


@pytest.mark.parametrize("ensemble", ["langevin", "nose-hoover", "npt"])
def test_companions_change_not_a_bit(potential, ensemble):
    crystals = [rock_salt("Li", "Cl", 5.15) * (2, 2, 2), rock_salt() * (2, 2, 1), rock_salt("Li", "F", 4.1) * (2, 1, 1)]
    settings = DynamicsSettings(ensemble=ensemble, n_steps=15, record_every=5)
    kelvin = [500.0, 700.0, 900.0]
    together = run_dynamics(potential, crystals, kelvin, settings)
    for crystal, temperature, result in zip(crystals[::-1], kelvin[::-1], together[::-1], strict=True):
        (alone,) = run_dynamics(potential, [crystal], temperature, settings)
        np.testing.assert_array_equal(result.trajectory.positions, alone.trajectory.positions)
        np.testing.assert_array_equal(result.trajectory.conserved, alone.trajectory.conserved)
