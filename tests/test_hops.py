"""Hops between sites, counted in trajectories that say how many there are."""

import numpy as np
import pytest

from pipeline.diffusion.hops import CAGE_TIME, Hops, count_hops, nearest_distance
from scripts.random_walks import lattice_walk


def walk_of(sites: list[float], stay: int, noise: float = 0.2) -> np.ndarray:
    """One ion that stays so many frames on each site along x, and vibrates."""
    x = np.repeat(np.array(sites), stay)
    positions = np.zeros((len(x), 1, 3))
    positions[:, 0, 0] = x
    return positions + noise * np.random.default_rng(0).standard_normal(positions.shape)


def test_hops_have_their_places_and_lengths() -> None:
    hops = count_hops(walk_of([0.0, 3.0, 6.0, 3.0], 100), 10.0, 3.0, cage_time=70.0)
    assert len(hops) == 3
    # to the span of seven frames
    assert hops.frames == pytest.approx([100, 200, 300], abs=7)
    # a stay's mean of 14 spans: 0.2 Å / sqrt(100), and half a mixed span in 14 at either end
    assert hops.vectors[:, 0] == pytest.approx([3.0, 3.0, -3.0], abs=0.25)
    assert hops.quartic_length() == pytest.approx(9.0, rel=0.15)


def test_vibration_and_short_visits_are_no_hops() -> None:
    rng = np.random.default_rng(5)
    # an ion at 1,000 K: 0.4 Å along each axis, in sites 3 Å apart
    vibrating = 0.4 * rng.standard_normal((5000, 20, 3))
    assert len(count_hops(vibrating, 50.0, 3.0)) == 0
    visiting = np.zeros((300, 1, 3))
    visiting[100:103, 0, 0] = 3.0
    assert len(count_hops(visiting, 50.0, 3.0, cage_time=CAGE_TIME)) == 0


def test_all_hops_of_random_walks_are_found() -> None:
    """Three frames a span and 100 a stay: two hops within a span, or to and fro, are missed in a few per cent."""
    rng = np.random.default_rng(11)
    found = true = 0
    for _ in range(20):
        positions, diffusivity = lattice_walk(rng, 2000, 10, 200.0, vibration=0.0)
        true += int(np.sum(np.any(np.diff(positions, axis=0) != 0, axis=2)))
        found += len(count_hops(positions, 1.0, 3.0, cage_time=3.0))
        assert diffusivity == pytest.approx(200.0 / (10 * 1999) * 9.0 / 6.0)
    assert true * 0.96 < found <= true


def test_no_hop_takes_the_distance_between_sites() -> None:
    none = count_hops(np.zeros((50, 2, 3)), 50.0, 2.5)
    assert len(none) == 0
    assert none.quartic_length() == pytest.approx(6.25)
    assert none.dispersion == 1.0


def test_independent_hops_are_not_dispersed_and_concerted_ones_are() -> None:
    rng = np.random.default_rng(2)

    def hops(at: np.ndarray) -> Hops:
        n = len(at)
        return Hops(np.zeros(n, np.int64), at, np.full((n, 3), 1.0), 10_000, 1, 1.7)

    processes = rng.integers(1, 10_000, (500, 300))
    # the test's level is 1 %: 5 of 500, and 12 or more by chance once in 200 times
    assert sum(hops(frames).dispersion > 1.0 for frames in processes) < 12
    # four at a time: the count has four times the variance; the mean of 100 with 20 % of it by chance each (2 / 49)
    concerted = [hops(np.repeat(frames, 4)).dispersion for frames in processes[:100]]
    assert np.mean(concerted) == pytest.approx(4.0, rel=0.06)


@pytest.mark.parametrize(("n_frames", "n_hops"), [(501, 250), (1001, 500), (2001, 2000)])
def test_hops_seen_once_a_cage_time_are_not_dispersed(n_frames: int, n_hops: int) -> None:
    """10, 20 and 40 ps of frames 20 fs apart: spans of equal time would hold unequal numbers of cage times."""
    rng = np.random.default_rng(4)
    times = 15 * rng.integers(1, n_frames // 15, (500, n_hops))
    zeros, vectors = np.zeros(n_hops, np.int64), np.full((n_hops, 3), 1.0)
    assert sum(Hops(zeros, at, vectors, n_frames, 1, 1.7, 15).dispersion > 1.0 for at in times) < 12
    concerted = [
        Hops(np.repeat(zeros, 4), np.repeat(at, 4), np.repeat(vectors, 4, axis=0), n_frames, 1, 1.7, 15).dispersion
        for at in times[:100]
    ]
    assert np.mean(concerted) == pytest.approx(4.0, rel=0.08)


def test_the_frames_of_hops_begin_an_interval() -> None:
    rng = np.random.default_rng(11)
    positions, _ = lattice_walk(rng, 500, 10, 200.0, vibration=0.1)
    hops = count_hops(positions, 20.0, 3.0)
    assert hops.width == 15
    assert len(hops) > 0
    assert not (hops.frames % 15).any()
    assert 15 <= hops.frames.min() <= hops.frames.max() < 500 // 15 * 15


def test_weights_of_charges() -> None:
    hops = Hops(np.array([0, 1]), np.array([1, 2]), np.array([[1.0, 0, 0], [0, 2.0, 0]]), 10, 2, 2.0)
    assert hops.quartic_length() == pytest.approx(17.0 / 5.0)
    assert hops.quartic_length([1.0, 0.5]) == pytest.approx(1.0)
    assert hops.along(1).quartic_length() == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"site_distance": 0.0}, "site_distance must be positive"),
        ({"cage_time": -1.0}, "cage_time must be positive"),
        ({"frame_interval": 0.0}, "frame_interval must be positive"),
        ({"cage_time": 1e4}, "fewer than two spans"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, float], message: str) -> None:
    arguments = {"frame_interval": 50.0, "site_distance": 3.0, "cage_time": 500.0} | change
    with pytest.raises(ValueError, match=message):
        count_hops(np.zeros((50, 1, 3)), **arguments)


def test_nearest_distance() -> None:
    rock_salt = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    assert nearest_distance(4.0 * np.eye(3), rock_salt) == pytest.approx(4.0 / np.sqrt(2.0))
    # alone in a primitive cell of the same lattice, and in a skewed one of it
    primitive = 2.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert nearest_distance(primitive, [[0.3, 0.2, 0.9]]) == pytest.approx(4.0 / np.sqrt(2.0))
    # sites that have left the cell
    assert nearest_distance(10.0 * np.eye(3), [[0, 0, 0], [5.3, 0, 0]]) == pytest.approx(3.0)
    skewed = np.array([[1, 0, 0], [3, 1, 0], [-2, 4, 1]]) @ primitive
    assert nearest_distance(skewed, [[0, 0, 0]]) == pytest.approx(4.0 / np.sqrt(2.0))
    with pytest.raises(ValueError, match="n >= 1"):
        nearest_distance(np.eye(3), np.empty((0, 3)))
