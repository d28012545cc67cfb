"""Mean squared displacements: against a double loop, and against pymatgen-analysis-diffusion."""

import warnings

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.diffusion.conductivity import conductivity_per_diffusivity
from pipeline.diffusion.displacement import collective_displacement, mean_squared_displacement, remove_drift
from pipeline.diffusion.linear_regime import least_squares_slope
from pipeline.units import CM2_PER_S_PER_ANGSTROM2_PER_FS
from scripts.random_walks import lattice_walk

FRAME = 50.0


def trajectory(seed: int = 3, n_frames: int = 400) -> np.ndarray:
    """Eight ions that hop, eight framework atoms that vibrate, and a drift of all."""
    rng = np.random.default_rng(seed)
    ions, _ = lattice_walk(rng, n_frames, 8, 200.0)
    framework = 0.15 * rng.standard_normal((n_frames, 8, 3))
    drift = np.cumsum(0.02 * rng.standard_normal((n_frames, 1, 3)), axis=0)
    return np.concatenate([ions, framework], axis=1) + 30.0 * rng.random((1, 16, 3)) + drift


def double_loop(positions: np.ndarray) -> np.ndarray:
    n = len(positions)
    msd = np.zeros_like(positions)
    for lag in range(1, n):
        for origin in range(n - lag):
            msd[lag] += (positions[origin + lag] - positions[origin]) ** 2
        msd[lag] /= n - lag
    return msd


@pytest.mark.parametrize("n_frames", [2, 3, 64, 97])
def test_fourier_transform_equals_a_double_loop(n_frames: int) -> None:
    positions = trajectory(n_frames=n_frames)
    found = mean_squared_displacement(positions, FRAME)
    naive = double_loop(positions)
    # squares of up to (20 Å)^2 lose 1e-16 of themselves in a transform of 200 points
    assert found.per_ion_and_axis == pytest.approx(naive, abs=1e-11)
    assert found.mean == pytest.approx(naive.sum(axis=2).mean(axis=1), abs=1e-11)
    assert found.per_ion == pytest.approx(naive.sum(axis=2), abs=1e-11)
    assert found.per_axis == pytest.approx(naive.mean(axis=1), abs=1e-11)
    assert found.lag_times == pytest.approx(FRAME * np.arange(n_frames))


def test_many_columns_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = trajectory(n_frames=50)
    whole = mean_squared_displacement(positions, FRAME).per_ion_and_axis
    monkeypatch.setattr("pipeline.diffusion.displacement._BLOCK_BYTES", 1)
    assert mean_squared_displacement(positions, FRAME).per_ion_and_axis == pytest.approx(whole, abs=1e-12)


def test_uniform_motion() -> None:
    positions = np.arange(20.0)[:, None, None] * np.array([1.0, 2.0, 0.0])
    lags = np.arange(20.0)
    assert mean_squared_displacement(positions, 1.0).mean == pytest.approx(5.0 * lags**2, abs=1e-11)


def test_collective_displacement_of_opposite_charges() -> None:
    together = np.repeat(np.arange(10.0)[:, None, None], 2, axis=1) * np.ones(3)
    assert collective_displacement(together, [1.0, -1.0]) == pytest.approx(np.zeros((10, 1, 3)))
    # two equal charges that move as one: (2 x)^2 / 2 is twice a single ion's square
    walker = collective_displacement(together, 1.0)
    assert np.sum(walker[9] ** 2) == pytest.approx(2.0 * 3.0 * 81.0)


def test_drift_of_the_frameworks_mass_centre_is_gone() -> None:
    positions, masses = trajectory(), np.linspace(1.0, 60.0, 16)
    still = remove_drift(positions, np.arange(8, 16), masses)
    centre = np.average(still[:, 8:], axis=1, weights=masses[8:])
    assert centre == pytest.approx(np.broadcast_to(centre[0], centre.shape), abs=1e-12)
    assert still[0] == pytest.approx(positions[0], abs=1e-12)
    shifted = remove_drift(positions + np.linspace(0, 9, 400)[:, None, None], np.arange(8, 16), masses)
    assert shifted == pytest.approx(still, abs=1e-12)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.zeros((1, 2, 3)), "T >= 2 frames"),
        (np.zeros((5, 2)), "shape"),
        (np.full((3, 1, 3), np.nan), "atom 0 in frame 0"),
    ],
)
def test_bad_positions_are_named(positions: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_squared_displacement(positions, 1.0)


def test_bad_framework_masses_and_charges_are_named() -> None:
    positions = trajectory(n_frames=5)
    with pytest.raises(ValueError, match="16 atoms"):
        remove_drift(positions, [3, 16])
    with pytest.raises(ValueError, match="16 positive numbers"):
        remove_drift(positions, [3], np.zeros(16))
    with pytest.raises(ValueError, match="not all zero"):
        collective_displacement(positions, np.zeros(16))
    with pytest.raises(ValueError, match="frame_interval"):
        mean_squared_displacement(positions, 0.0)


def test_same_as_pymatgen_analysis_diffusion() -> None:
    with warnings.catch_warnings():
        # what it imports for its plots (seaborn) warns of its own dependencies
        warnings.simplefilter("ignore")
        from pymatgen.analysis.diffusion.analyzer import DiffusionAnalyzer
    positions = trajectory()
    crystal = Structure(Lattice.cubic(12.0), ["Li"] * 8 + ["Cl"] * 8, np.random.default_rng(0).random((16, 3)))
    displacements = np.swapaxes(positions - positions[0], 0, 1)
    theirs = DiffusionAnalyzer(crystal, displacements, "Li", 700.0, FRAME, 1, smoothed="max", min_obs=30)
    still = remove_drift(positions, np.arange(8, 16))
    lags = np.rint(theirs.dt / FRAME).astype(int)
    times = theirs.dt.astype(float)

    msd = mean_squared_displacement(still[:, :8], FRAME)
    charge = mean_squared_displacement(collective_displacement(still[:, :8], 1.0), FRAME).mean
    assert msd.mean[lags] == pytest.approx(theirs.msd, rel=1e-6)
    assert msd.per_axis[lags] == pytest.approx(theirs.msd_components, rel=1e-6)
    assert msd.per_ion[lags] == pytest.approx(theirs.sq_disp_ions[:8].T, rel=1e-6)
    assert charge[lags] == pytest.approx(theirs.mscd, rel=1e-6)

    tracer, total = (
        least_squares_slope(times, y[lags], 1.0 / times)[0] / 6.0 * CM2_PER_S_PER_ANGSTROM2_PER_FS
        for y in (msd.mean, charge)
    )
    assert tracer == pytest.approx(theirs.diffusivity, rel=1e-6)
    assert total == pytest.approx(theirs.chg_diffusivity, rel=1e-6)
    factor = 1e3 * conductivity_per_diffusivity(np.ones(8), 12.0**3, 700.0)
    assert factor * tracer == pytest.approx(theirs.conductivity, rel=1e-6)
    assert factor * total == pytest.approx(theirs.chg_conductivity, rel=1e-6)
