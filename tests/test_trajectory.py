"""A whole trajectory: ions that hop, a framework that stays, melts or falls out of its places, and the words for it."""

import numpy as np
import pytest

from pipeline.diffusion.conductivity import conductivity_per_diffusivity
from pipeline.diffusion.framework import LINDEMANN_THRESHOLD, framework_state
from pipeline.diffusion.trajectory import TrajectoryAnalysis, analyse_trajectory
from scripts.random_walks import lattice_walk

FRAME, VOLUME, N_FRAMES = 100.0, 24 * 27.0, 1000
SPACING = 3.0


def vibrating(seed: int, amplitude: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 10.0 * rng.random((1, 24, 3)) + amplitude * rng.standard_normal((N_FRAMES, 24, 3))


def analysed(mean_hops: float) -> tuple[TrajectoryAnalysis, float]:
    """Eight ions in front of 24 framework atoms, all drifting."""
    rng = np.random.default_rng(21)
    ions, per_frame = lattice_walk(rng, N_FRAMES, 8, mean_hops)
    drift = np.cumsum(0.05 * rng.standard_normal((N_FRAMES, 1, 3)), axis=0)
    positions = np.concatenate([ions, vibrating(1)], axis=1) + drift
    found = analyse_trajectory(positions, FRAME, np.arange(8), 1.0, VOLUME, 800.0, 3.0)
    return found, 0.1 * per_frame / FRAME


def test_ions_diffuse_in_a_crystal() -> None:
    found, true = analysed(200.0)
    assert found.tracer.interval[0] < true < found.tracer.interval[1]
    assert found.charge.interval[0] < true < found.charge.interval[1]
    assert found.n_hops == pytest.approx(200, abs=60)
    assert found.framework.is_crystal
    assert found.duration == pytest.approx(99_900.0)
    text = found.summary()
    assert text.splitlines()[0] == f"800 K, 99.9 ps, 8 mobile ions, {found.n_hops} hops between sites"
    assert "tracer diffusivity" in text
    assert "charge diffusivity" in text
    assert "Haven ratio" in text
    assert "framework stays in its places" in text
    assert "S/cm" in text
    assert "caution" not in text.splitlines()[1]


def test_ions_of_different_charge_conduct_each_by_itself() -> None:
    """Li+ that hop beside Al3+ that stay: sigma = e^2 / (V k T) sum z_i^2 D_i, in which Al has no part."""
    rng = np.random.default_rng(21)
    lithium, per_frame = lattice_walk(rng, N_FRAMES, 8, 400.0)
    aluminium, _ = lattice_walk(rng, N_FRAMES, 8, 0.0)
    positions = np.concatenate([lithium, aluminium, vibrating(1)], axis=1)
    charges = np.repeat([1.0, 3.0], 8)
    found = analyse_trajectory(positions, FRAME, np.arange(16), charges, VOLUME, 800.0, 3.0)
    true = 0.1 * per_frame / FRAME
    assert found.tracer.interval[0] < true / 2 < found.tracer.interval[1]  # of all mobile ions, half of which stay
    conductivity = true * conductivity_per_diffusivity(np.ones(8), VOLUME, 800.0)
    for way in (found.tracer_conductivity, found.charge_conductivity):
        assert way.interval[0] < conductivity < way.interval[1]
    assert found.haven_ratio.interval[0] < 1.0 < found.haven_ratio.interval[1]
    equal = analyse_trajectory(positions, FRAME, np.arange(16), 2.0, VOLUME, 800.0, 3.0)
    assert equal.weighted_tracer == equal.tracer


def test_summary_says_that_no_hop_was_seen_or_too_few() -> None:
    text = analysed(0.0)[0].summary()
    assert "tracer diffusivity below" in text
    assert "no hop between sites was seen: an upper bound made of three hops" in text
    assert "Haven" not in text
    few, _ = analysed(4.0)
    assert 0 < few.n_hops < 10
    assert "too few hops" in few.summary()


def test_order_of_the_atoms_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    ions, _ = lattice_walk(rng, N_FRAMES, 8, 100.0)
    positions = np.concatenate([ions, vibrating(1)], axis=1)
    order = rng.permutation(32)
    first = analyse_trajectory(positions, FRAME, np.arange(8), 1.0, VOLUME, 800.0, 3.0)
    moved = analyse_trajectory(positions[:, order], FRAME, np.argsort(order)[:8], 1.0, VOLUME, 800.0, 3.0)
    # sums in another order: rounding alone
    assert moved.tracer.value == pytest.approx(first.tracer.value, rel=1e-9)
    assert moved.charge.value == pytest.approx(first.charge.value, rel=1e-9)
    assert moved.n_hops == first.n_hops


def test_without_a_framework_there_is_no_rest() -> None:
    ions, _ = lattice_walk(np.random.default_rng(2), N_FRAMES, 4, 60.0)
    with pytest.raises(ValueError, match="framework is empty"):
        analyse_trajectory(ions, FRAME, np.arange(4), 1.0, VOLUME, 800.0, 3.0)


def test_lindemann_ratio_of_a_vibrating_framework() -> None:
    state = framework_state(vibrating(3, 0.2), FRAME, VOLUME)
    assert state.spacing == pytest.approx(SPACING)
    # about the mean of 100 frames: sqrt(3 x 0.2^2 x 1.01) / 3, from 12,000 positions
    assert state.lindemann_ratio == pytest.approx(np.sqrt(3 * 0.04 * 1.01) / SPACING, rel=0.02)
    assert state.verdict == "solid"
    assert state.diffusivity.is_upper_bound


def test_a_molten_framework_diffuses() -> None:
    steps = 0.12 * np.random.default_rng(4).standard_normal((N_FRAMES, 24, 3))
    state = framework_state(vibrating(3) + np.cumsum(steps, axis=0), FRAME, VOLUME)
    assert state.verdict == "diffusing"
    assert not state.is_crystal


def test_an_amorphised_framework_is_displaced_without_diffusing() -> None:
    rng = np.random.default_rng(6)
    arrival = np.linspace(0.0, 10.0, N_FRAMES).clip(0.0, 3.0)[:, None, None] / 3.0
    state = framework_state(vibrating(3) + arrival * 0.5 * rng.standard_normal((1, 24, 3)), FRAME, VOLUME)
    assert state.lindemann_ratio > LINDEMANN_THRESHOLD
    assert state.verdict == "displaced"


def test_one_atom_that_hops_is_no_melt() -> None:
    positions = vibrating(3, 0.15)
    positions[300:, 5, 0] += SPACING
    assert framework_state(positions, FRAME, VOLUME).verdict != "diffusing"


def test_reference_positions_are_measured_from() -> None:
    positions = vibrating(3, 0.05)
    reference = positions.mean(axis=0)
    reference[:, 2] += 0.6
    assert framework_state(positions, FRAME, VOLUME).verdict == "solid"
    assert framework_state(positions, FRAME, VOLUME, reference).verdict == "displaced"


def test_what_left_its_places_before_the_run_is_seen_from_the_crystal() -> None:
    ions, _ = lattice_walk(np.random.default_rng(2), N_FRAMES, 4, 60.0)
    framework = vibrating(3, 0.05)
    positions = np.concatenate([ions, framework], axis=1) + np.array([5.0, -3.0, 1.0])
    places = np.concatenate([ions[0], framework.mean(axis=0)])
    amorphous = places + np.random.default_rng(4).normal(0.0, 0.4, places.shape)
    verdicts = [
        analyse_trajectory(positions, FRAME, np.arange(4), 1.0, VOLUME, 800.0, 3.0, at_rest=r).framework.verdict
        for r in (None, places, amorphous)
    ]
    assert verdicts == ["solid", "solid", "displaced"]
    with pytest.raises(ValueError, match=r"at_rest must have shape \(28, 3\)"):
        analyse_trajectory(positions, FRAME, np.arange(4), 1.0, VOLUME, 800.0, 3.0, at_rest=places[:-1])


@pytest.mark.parametrize("mobile", [[], [0, 32], [-1]])
def test_bad_indices_are_named(mobile: list[int]) -> None:
    with pytest.raises(ValueError, match="mobile must list indices of the 24 atoms"):
        analyse_trajectory(vibrating(0), FRAME, mobile, 1.0, VOLUME, 800.0, 3.0)
