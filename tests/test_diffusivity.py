"""Diffusivities and their intervals: coverage and width over seeded random walks, bounds, charge and axes."""

import numpy as np
import pytest
from scipy.stats import binom, chi2, gamma

from pipeline.diffusion.conductivity import haven_ratio, nernst_einstein
from pipeline.diffusion.diffusivity import (
    FEWEST_HOPS,
    Diffusivity,
    _diffusivity,
    axis_diffusivities,
    charge_diffusivity,
    diffusivity_interval,
    tracer_diffusivity,
)
from pipeline.diffusion.hops import count_hops
from pipeline.units import AVOGADRO, ELEMENTARY_CHARGE
from scripts.random_walks import lattice_walk

FRAME = 100.0
CAGE = 300.0
SITE = 3.0


def tracer(seed: int, n_frames: int, n_ions: int, hops: float, vibration: float) -> tuple[Diffusivity, float]:
    positions, per_frame = lattice_walk(np.random.default_rng(seed), n_frames, n_ions, hops, SITE, vibration)
    found = tracer_diffusivity(positions, FRAME, count_hops(positions, FRAME, SITE, CAGE))
    return found, 0.1 * per_frame / FRAME


def check_intervals(n_walks: int, n_frames: int, n_ions: int, hops: float, vibration: float) -> None:
    """Coverage within 93 to 97 % as far as so many walks can tell, and width against what hops allow.

    No estimator knows the rate of a Poisson process better than counting its events does: relative variance
    1 / hops (Cramer and Rao), so the interval that theory needs is the Poisson one.
    """
    walks = [tracer(seed, n_frames, n_ions, hops, vibration) for seed in range(n_walks)]
    covered = sum(d.interval[0] <= true <= d.interval[1] for d, true in walks)
    # once in a thousand times, a method that covers 93 % falls below, one that covers 97 % rises above
    assert binom.ppf(0.001, n_walks, 0.93) <= covered <= binom.ppf(0.999, n_walks, 0.97)
    widths = [(d.interval[1] - d.interval[0]) / true for d, true in walks]
    needed = np.diff(gamma.ppf([0.025, 0.975], hops + 0.5))[0] / hops
    assert np.mean(widths) < 1.5 * needed
    ratios = [d.value / true for d, true in walks]
    # twice the standard error of the mean, for 1.1 / sqrt(hops) a walk, and the 1 / hops that weights may cost
    assert np.mean(ratios) == pytest.approx(1.0, abs=2.2 / np.sqrt(n_walks * hops) + 1.0 / hops)


@pytest.mark.parametrize(("n_frames", "n_ions", "hops", "vibration"), [(500, 8, 50.0, 0.2), (500, 8, 100.0, 0.0)])
def test_intervals_of_200_walks(n_frames: int, n_ions: int, hops: float, vibration: float) -> None:
    check_intervals(200, n_frames, n_ions, hops, vibration)


@pytest.mark.slow
@pytest.mark.parametrize("vibration", [0.0, 0.2])
@pytest.mark.parametrize(
    ("n_frames", "n_ions", "hops"), [(500, 8, 50.0), (1000, 8, 100.0), (2000, 8, 500.0), (500, 32, 200.0)]
)
def test_intervals_of_1000_walks(n_frames: int, n_ions: int, hops: float, vibration: float) -> None:
    check_intervals(1000, n_frames, n_ions, hops, vibration)


def test_interval_has_its_limits() -> None:
    """Without normal scatter the Poisson interval of a count, without counting scatter that of a variance."""
    poisson = np.array(diffusivity_interval(1.0, 20.0, 1e9))
    assert poisson * 20.0 == pytest.approx(gamma.ppf([0.025, 0.975], 20.5), rel=1e-4)
    variance = np.array(diffusivity_interval(1.0, 1e9, 40.0))
    assert variance == pytest.approx(40.0 / chi2.ppf([0.975, 0.025], 40.0), rel=1e-4)


def test_no_hop_gives_an_upper_bound_of_three_hops() -> None:
    positions, _ = lattice_walk(np.random.default_rng(0), 1000, 8, 0.0)
    found = tracer_diffusivity(positions, FRAME, count_hops(positions, FRAME, SITE, CAGE))
    # 3 hops x (3 Å)^2 / (6 x 8 ions x 100 ps), in cm2/s: 0.1 cm2/s is 1 Å2/fs
    assert found.value == pytest.approx(3 * 9.0 / (6 * 8 * 1000 * FRAME) * 0.1)
    assert found.interval == (0.0, found.value)
    assert found.is_upper_bound
    assert found.n_hops == 0
    assert found.has_too_few_hops
    assert "upper bound made of three hops" in found.notes[0]
    assert nernst_einstein(found, np.ones(8), 500.0, 600.0).is_upper_bound
    assert np.isnan(haven_ratio(found, found).value)


def test_upper_bound_holds_where_no_hop_came_by_chance() -> None:
    """With three hops expected, none comes in exp(-3) = 5 % of runs: only those put the bound at or below the truth."""
    expected, runs, missed = 2.9, 400, 0
    for seed in range(runs):
        positions, per_frame = lattice_walk(np.random.default_rng(seed), 200, 8, expected)
        hops = count_hops(positions, FRAME, SITE, FRAME)
        if not len(hops):
            missed += 1
            assert tracer_diffusivity(positions, FRAME, hops).value > 0.1 * per_frame / FRAME
    assert missed <= binom.ppf(0.999, runs, np.exp(-expected))


def test_one_hop_and_back_leads_nowhere_or_says_that_it_is_little() -> None:
    positions = np.zeros((1000, 4, 3))
    positions[480:510, 0, 0] = SITE
    found = tracer_diffusivity(positions, FRAME, count_hops(positions, FRAME, SITE, CAGE))
    assert found.n_hops == 2
    assert found.has_too_few_hops
    assert any("few hops" in note or "led nowhere" in note for note in found.notes)


def test_intervals_of_less_than_a_hop_end_near_those_of_one() -> None:
    """Hops that lead back leave less than one of net length: as little is known then as after one hop, no less."""
    n_ions, lag = 18, np.arange(2000)
    positions = np.zeros((2000, n_ions, 3))
    positions[480:510, 0, 0] = SITE
    hops = count_hops(positions, FRAME, SITE, CAGE)
    one_hop = SITE**2 / (6 * n_ions * len(lag))
    ends = []
    for share in (0.03, 0.051, 0.1, 0.3, 0.7, 0.99, 1.01):
        found = _diffusivity("tracer", 6.0 * share * one_hop * lag, FRAME, hops, (n_ions, 3, SITE**2), None)
        assert found.is_upper_bound == (share < 0.05)
        ends.append(found.interval[1] / (one_hop / FRAME * 0.1))
    assert ends[0] == pytest.approx(3.0, abs=0.5)
    assert ends[1:] == sorted(ends[1:])
    assert 2.5 < ends[1] < ends[-1] < 6.0


def test_few_hops_are_said_to_be_too_few() -> None:
    few, _ = tracer(3, 500, 8, 5.0, 0.2)
    assert few.n_hops < FEWEST_HOPS
    assert few.has_too_few_hops
    assert "too few hops" in few.notes[0]
    many, _ = tracer(3, 500, 8, 100.0, 0.2)
    assert not many.has_too_few_hops


def test_concerted_hops_widen_the_interval() -> None:
    """Four ions that always hop together are worth a quarter of their hops."""
    one, _ = lattice_walk(np.random.default_rng(6), 2000, 1, 60.0, vibration=0.0)
    noise = 0.2 * np.random.default_rng(7).standard_normal((2000, 4, 3))
    together = np.repeat(one, 4, axis=1) + noise
    hops = count_hops(together, FRAME, SITE, CAGE)
    found = tracer_diffusivity(together, FRAME, hops)
    assert found.effective_hops < 0.5 * len(hops)
    assert any("come together" in note for note in found.notes)
    charge = charge_diffusivity(together, 1.0, FRAME, hops)
    ratio = haven_ratio(found, charge)
    assert ratio.interval[0] < 0.25 < ratio.interval[1] < 1.0


def test_charge_diffusivity_of_independent_ions() -> None:
    """It is the tracer's; its interval is wider, covers no less than 93 % and so does the Haven ratio's."""
    runs, covered, ratios = 200, 0, 0
    for seed in range(runs):
        positions, per_frame = lattice_walk(np.random.default_rng(seed), 500, 8, 100.0)
        hops = count_hops(positions, FRAME, SITE, CAGE)
        single = tracer_diffusivity(positions, FRAME, hops)
        charge = charge_diffusivity(positions, 1.0, FRAME, hops)
        ratio = haven_ratio(single, charge)
        covered += charge.interval[0] <= 0.1 * per_frame / FRAME <= charge.interval[1]
        ratios += ratio.interval[0] <= 1.0 <= ratio.interval[1]
        assert ratio.value == pytest.approx(single.value / charge.value)
        # the search for the linear regime stops before windows that know nothing
        assert charge.interval[1] < 10.0 * charge.value
    least = binom.ppf(0.001, runs, 0.93)
    assert covered >= least
    assert ratios >= least


def test_layers_conduct_along_two_axes() -> None:
    positions, per_frame = lattice_walk(np.random.default_rng(12), 1000, 20, 600.0)
    positions[:, :, 2] = 0.2 * np.random.default_rng(13).standard_normal((1000, 20))
    hops = count_hops(positions, FRAME, SITE, CAGE)
    x, y, z = axis_diffusivities(positions, FRAME, hops)
    for along in (x, y):
        assert along.interval[0] < 0.1 * per_frame / FRAME < along.interval[1]
    # not one hop along z; what is left is chance, and less than a tenth of the others
    assert z.value < 0.1 * x.value


def test_conductivity_of_a_mole() -> None:
    """Nernst-Einstein in molar units: z^2 F^2 c D / (R T)."""
    one = Diffusivity("charge", 1e-6, (0.5e-6, 2e-6), False, 50, 50.0, (1.0, 2.0), 0.0)
    found = nernst_einstein(one, 2.0 * np.ones(10), 800.0, 500.0)
    faraday, gas = AVOGADRO * ELEMENTARY_CHARGE, 8.314462618
    concentration = 10 / AVOGADRO / (800.0 * 1e-24)
    # BOLTZMANN has ten digits
    assert found.value == pytest.approx(4 * faraday**2 * concentration * 1e-6 / (gas * 500.0), rel=1e-8)
    assert found.millisiemens == pytest.approx(1e3 * found.value)
    assert found.interval == pytest.approx((0.5 * found.value, 2.0 * found.value))
    assert found.kind == "charge"
    with pytest.raises(ValueError, match="volume must be positive"):
        nernst_einstein(one, 1.0, 0.0, 500.0)


@pytest.mark.slow
def test_intervals_hold_when_ions_flicker_in_their_cages() -> None:
    """Cages of two places 1.2 Å apart, changed every 20 frames, and vibrations of 8 frames: 200 walks of 60 hops."""
    n_frames, n_ions, n_walks, covered = 2000, 8, 200, 0
    for seed in range(n_walks):
        rng = np.random.default_rng(seed)
        positions, per_frame = lattice_walk(rng, n_frames, n_ions, 60.0, vibration=0.1)
        positions[:, :, 0] += 1.2 * (np.cumsum(rng.random((n_frames, n_ions)) < 1 / 20, axis=0) % 2)
        phases = 2.0 * np.pi * (np.arange(n_frames)[:, None, None] / 8.0 + rng.random((n_ions, 3)))
        positions += 0.3 * np.sin(phases + np.cumsum(0.3 * rng.standard_normal(positions.shape), axis=0))
        found = tracer_diffusivity(positions, 20.0, count_hops(positions, 20.0, SITE))
        covered += found.interval[0] <= 0.1 * per_frame / 20.0 <= found.interval[1]
    # a bend that is too small to be seen may cost a few per cent: 90 %, less what happens once in a thousand times
    assert covered >= binom.ppf(0.001, n_walks, 0.90)
