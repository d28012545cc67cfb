"""Ensembles of batched molecular dynamics: what is conserved, and what distributions come out."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy import stats

from pipeline.surrogates.batch import batch_from_structures
from pipeline.surrogates.dynamics import run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from pipeline.surrogates.moving import at_rest, atomic_masses, random_stream, thermal_velocities
from pipeline.surrogates.time_series import mean_with_error
from pipeline.units import BOLTZMANN, GPA_PER_EV_PER_ANGSTROM3
from tests.morse import morse_potential
from tests.moving_salts import EinsteinSolid, IdealGas, analytic_potential, resting_salts, sodium

SIGMAS = 4.0
"""Standard errors that a mean may be off: one fixed seed in 16,000 would fail by chance."""


def agrees(values, expected):
    mean, error = mean_with_error(np.asarray(values))
    assert abs(mean - expected) < SIGMAS * error, f"{mean} +- {error}, expected {expected}"
    return error / abs(expected)


def nve(timestep, duration=400.0, temperature=500.0):
    settings = DynamicsSettings(
        ensemble="nve", timestep=timestep, n_steps=round(duration / timestep), record_every=1, seed=3
    )
    return run_dynamics(morse_potential(), resting_salts(), temperature, settings)


def test_energy_is_conserved_and_its_error_falls_as_the_step_squared():
    errors = np.array([[np.std(r.trajectory.conserved) for r in nve(timestep)] for timestep in (4.0, 2.0, 1.0)])
    # Exactly 4 in the limit; the next term of the error is of the order of (omega dt)^2, 0.1 at 4 fs.
    assert np.all(np.abs(errors[:-1] / errors[1:] - 4.0) < 0.8)
    assert np.all(errors[-1] < 1e-3 * np.array([len(s) for s in resting_salts()]) * BOLTZMANN * 500.0 * 1.5)


def test_motion_is_reversible_and_the_centre_of_mass_rests():
    settings = DynamicsSettings(ensemble="nve", n_steps=200)
    there = run_dynamics(morse_potential(), resting_salts(), 500.0, settings)
    back = run_dynamics(
        morse_potential(), [r.structure for r in there], 500.0, settings, velocities=[-r.velocities for r in there]
    )
    for start, first, second in zip(resting_salts(), there, back, strict=True):
        moved = np.linalg.norm(first.structure.cart_coords - start.cart_coords, axis=1)
        assert moved.max() > 0.1
        # Rounding of 1e-15 grows with the solid's largest Lyapunov exponent, some 1/ps, over 0.8 ps.
        np.testing.assert_allclose(second.trajectory.positions[-1], start.cart_coords, atol=1e-9)
        masses = atomic_masses(first.trajectory.numbers)
        assert np.abs(masses @ first.velocities).max() < 1e-13 * (masses @ np.abs(first.velocities)).max()
        centres = masses @ first.trajectory.positions / masses.sum()
        np.testing.assert_allclose(centres, np.broadcast_to(centres[0], centres.shape), atol=1e-11)


def test_first_velocities_are_maxwell_boltzmann():
    crystal = Structure(Lattice.cubic(4.0), ["Li", "Cl"], [[0, 0, 0], [0.5] * 3])
    n, temperature = 3000, 700.0
    state = at_rest(batch_from_structures([crystal] * n), range(n), np.full(n, temperature), 3, 5.0)
    state.velocities = thermal_velocities(state, [random_stream(0, str(k)) for k in range(n)])
    momenta = (state.masses[:, None] * state.velocities).reshape(n, 2, 3)
    np.testing.assert_allclose(momenta.sum(axis=1), 0.0, atol=1e-13)
    # Twice the kinetic energy over k_B T is chi-squared with 3n - 3 = 3 degrees of freedom.
    chance = stats.chi2(3).cdf(2.0 * state.kinetic_energies() / (BOLTZMANN * temperature))
    counts = np.histogram(chance, np.linspace(0.0, 1.0, 21))[0]
    assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["langevin", "nose-hoover"])
def test_thermostats_give_the_canonical_kinetic_energy(ensemble):
    settings = DynamicsSettings(
        ensemble=ensemble, n_steps=9000, timestep=2.0, friction_time=100.0, record_every=5, n_equilibration=500, seed=1
    )
    kelvin = [300.0, 500.0, 700.0, 900.0]
    crystals = resting_salts()
    for crystal, wanted, result in zip(
        crystals, kelvin, run_dynamics(morse_potential(), crystals, kelvin, settings), strict=True
    ):
        freedom = 3 * len(crystal) - 3
        reduced = result.trajectory.temperatures[100:] / wanted * freedom / 2.0  # K / k_B T: gamma(freedom / 2)
        sharpness = agrees(reduced, freedom / 2.0)
        assert sharpness < 0.03
        sharpness = agrees((reduced - freedom / 2.0) ** 2, freedom / 2.0)
        assert sharpness < 0.25
        assert result.temperature == pytest.approx(wanted, abs=SIGMAS * result.temperature_error)
        assert abs(result.energy_drift) < 1.0


def test_configurations_of_an_einstein_solid_are_exact_at_a_large_step():
    crystal = sodium(3)
    # 1 / omega = sqrt(m / k) = 15.4 fs, so that omega dt is 1: half of the largest stable step.
    model = EinsteinSolid(crystal.cart_coords, 10.0)
    settings = DynamicsSettings(
        n_steps=15_000, timestep=15.4, friction_time=100.0, record_every=2, n_equilibration=1000, seed=2
    )
    (result,) = run_dynamics(analytic_potential(model), [crystal], 400.0, settings)
    modes = 3 * len(crystal) - 3
    assert agrees(result.trajectory.energies[500:], modes * BOLTZMANN * 400.0 / 2.0) < 0.005
    # The velocities are not exact at such a step: they tell that it is a large one.
    assert result.temperature < 0.8 * 400.0


def test_volume_of_an_ideal_gas_is_gamma_distributed():
    crystal, temperature = sodium(2), 600.0
    n = len(crystal)
    pressure = n * BOLTZMANN * temperature / crystal.volume
    settings = DynamicsSettings(
        ensemble="npt",
        n_steps=20_000,
        friction_time=50.0,
        barostat_time=100.0,
        pressure=pressure * GPA_PER_EV_PER_ANGSTROM3,
        compressibility=1.0 / (pressure * GPA_PER_EV_PER_ANGSTROM3),
        record_every=10,
        n_equilibration=1000,
        max_volume_ratio=100.0,
        seed=4,
    )
    (result,) = run_dynamics(analytic_potential(IdealGas()), [crystal], temperature, settings)
    # At zero momentum p(V) is V^(n-1) exp(-P V / k_B T): gamma with shape n.
    reduced = result.trajectory.volumes[100:] * pressure / (BOLTZMANN * temperature)
    assert agrees(reduced, n) < 0.05
    assert agrees((reduced - n) ** 2, n) < 0.25
    assert result.error is None
    assert abs(result.energy_drift) < 0.01


@pytest.mark.slow
def test_a_solid_comes_to_its_pressure_and_thermal_volume():
    crystal, temperature, wanted = resting_salts()[2], 400.0, 0.5
    common = {"n_steps": 9000, "friction_time": 100.0, "n_equilibration": 1500, "record_every": 5, "seed": 5}
    settings = DynamicsSettings(ensemble="npt", barostat_time=200.0, pressure=wanted, **common)
    (free,) = run_dynamics(morse_potential(), [crystal], temperature, settings)
    # Exact at zero momentum: the mean of V (P - P0) is -k_B T.
    trajectory = free.trajectory
    surplus = trajectory.volumes * (trajectory.pressures - wanted / GPA_PER_EV_PER_ANGSTROM3)
    mean, error = mean_with_error(surplus[300:])
    assert abs(mean + BOLTZMANN * temperature) < SIGMAS * error
    assert abs(free.energy_drift) < 1.0
    # The volume, from the pressures of runs at constant volume near it.
    volumes = free.volume * np.array([0.98, 1.02])
    held = run_dynamics(
        morse_potential(), [crystal.copy().scale_lattice(v) for v in volumes], temperature, DynamicsSettings(**common)
    )
    (low, high), slope = held, (held[1].pressure - held[0].pressure) / (volumes[1] - volumes[0])
    middle = 0.5 * (low.pressure + high.pressure)
    expected = 0.5 * volumes.sum() + (wanted - middle) / slope
    tolerance = np.hypot(free.volume_error, 0.5 * np.hypot(low.pressure_error, high.pressure_error) / abs(slope))
    assert tolerance < 0.01 * free.volume
    assert free.volume == pytest.approx(expected, abs=SIGMAS * tolerance)
    assert free.volume > 1.01 * crystal.volume
