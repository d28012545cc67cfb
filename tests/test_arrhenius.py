"""Arrhenius fits: exact lines, coverage, censored points, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom

from pipeline.diffusion.arrhenius import fit_arrhenius, prefactor_at
from pipeline.diffusion.conductivity import conductivity_per_diffusivity
from pipeline.diffusion.diffusivity import Diffusivity, Kind
from pipeline.diffusion.summary import summarise_arrhenius
from pipeline.units import BOLTZMANN

TEMPERATURES = [600.0, 750.0, 900.0, 1050.0]
ENERGY, PREFACTOR = 0.30, 2e-3
Z = 1.959963984540054


def at(temperature: float, error: float, shift: float = 0.0, kind: Kind = "tracer") -> Diffusivity:
    """A point of the true line, moved by `shift` standard errors of ln D."""
    value = PREFACTOR * np.exp(-ENERGY / (BOLTZMANN * temperature) + shift * error)
    ends = (value * np.exp(-Z * error), value * np.exp(Z * error))
    return Diffusivity(kind, value, ends, False, 100, 100.0, (1.0, 2.0), 0.0)


def bound(value: float) -> Diffusivity:
    nan = float("nan")
    return Diffusivity("tracer", value, (0.0, value), True, 0, 0.0, (nan, nan), nan, ("none",))


def test_points_on_a_line_give_it_back() -> None:
    fit = fit_arrhenius(TEMPERATURES, [at(t, 0.1 + 0.1 * i) for i, t in enumerate(TEMPERATURES)])
    assert fit.activation_energy == pytest.approx(ENERGY, rel=1e-10)
    assert fit.prefactor == pytest.approx(PREFACTOR, rel=1e-9)
    assert fit.is_reliable
    assert fit.notes == ()
    value, (lower, upper) = fit.diffusivity_at(300.0)
    assert value == pytest.approx(PREFACTOR * np.exp(-ENERGY / (BOLTZMANN * 300.0)), rel=1e-9)
    assert lower < value < upper
    conductivity = fit.conductivity_at(np.ones(24), 900.0)
    factor = conductivity_per_diffusivity(np.ones(24), 900.0, 300.0)
    assert conductivity.value == pytest.approx(factor * value)
    assert conductivity.interval == pytest.approx((factor * lower, factor * upper))


def test_a_point_without_a_linear_regime_makes_the_fit_unreliable() -> None:
    points = [at(t, 0.1) for t in TEMPERATURES]
    points[1] = replace(points[1], is_linear=False)
    fit = fit_arrhenius(TEMPERATURES, points)
    assert not fit.is_reliable
    assert fit.notes == ("no linear regime at 750 K",)


def test_covariance_is_that_of_weighted_least_squares() -> None:
    points = [at(t, 0.1 + 0.1 * i, (-1.0) ** i) for i, t in enumerate(TEMPERATURES)]
    fit = fit_arrhenius(TEMPERATURES, points)
    inverse = -1.0 / (BOLTZMANN * np.array(TEMPERATURES))
    weights = 1.0 / (0.1 + 0.1 * np.arange(4))
    line, covariance = np.polyfit(inverse, np.log([p.value for p in points]), 1, w=weights, cov="unscaled")
    assert fit.activation_energy == pytest.approx(line[0], rel=1e-9)
    inflated = max(1.0, fit.reduced_chi_squared)
    assert fit.covariance[1, 1] == pytest.approx(covariance[0, 0] * inflated, rel=1e-9)


def test_intervals_cover_the_truth() -> None:
    """95 % or, where scatter happens to be large and widens them, somewhat more; at 300 K as well."""
    rng, runs = np.random.default_rng(9), 2000
    energies = rooms = 0
    true = PREFACTOR * np.exp(-ENERGY / (BOLTZMANN * 300.0))
    for shifts in rng.standard_normal((runs, 4)):
        fit = fit_arrhenius(TEMPERATURES, [at(t, 0.2, s) for t, s in zip(TEMPERATURES, shifts, strict=True)])
        energies += fit.activation_energy_interval[0] < ENERGY < fit.activation_energy_interval[1]
        lower, upper = fit.diffusivity_at(300.0)[1]
        rooms += lower < true < upper
    for covered in (energies, rooms):
        assert binom.ppf(0.001, runs, 0.95) <= covered <= binom.ppf(0.999, runs, 0.98)


def test_upper_bounds_are_censored_points() -> None:
    measured = [at(t, 0.15) for t in TEMPERATURES[1:]]
    alone = fit_arrhenius(TEMPERATURES[1:], measured)
    true = at(600.0, 0.15).value
    loose = fit_arrhenius(TEMPERATURES, [bound(100.0 * true), *measured])
    tight = fit_arrhenius(TEMPERATURES, [bound(0.2 * true), *measured])
    # 3 / 100 of a hop was to be expected: nothing is learnt from none
    assert loose.activation_energy == pytest.approx(alone.activation_energy, abs=0.003)
    assert tight.activation_energy > alone.activation_energy + 0.01
    # one hop was to be expected: that none came fits the line, and narrows it
    fitting = fit_arrhenius(TEMPERATURES, [bound(3.0 * true), *measured])
    assert fitting.covariance[1, 1] < alone.covariance[1, 1]
    assert tight.n_upper_bounds == 1
    assert not tight.is_reliable
    assert "600 K" in tight.notes[-1]

    def cost(x: np.ndarray) -> float:
        logs = x[0] - x[1] / (BOLTZMANN * np.array(TEMPERATURES))
        residuals = (logs[1:] - np.log([m.value for m in measured])) / 0.15
        return float(0.5 * residuals @ residuals + 3.0 * np.exp(logs[0]) / (0.2 * true))

    best = minimize(cost, [np.log(PREFACTOR), ENERGY], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert tight.activation_energy == pytest.approx(best.x[1], abs=1e-6)


def test_two_temperatures_or_many_bounds_are_flagged() -> None:
    two = fit_arrhenius(TEMPERATURES[:2], [at(t, 0.1) for t in TEMPERATURES[:2]])
    assert not two.is_reliable
    assert np.isnan(two.reduced_chi_squared)
    assert "nothing tests the line" in two.notes[0]
    half = fit_arrhenius(TEMPERATURES, [bound(1e-6), bound(1e-5), at(900.0, 0.1), at(1050.0, 0.1)])
    assert not half.is_reliable
    assert "2 of 4 points are upper bounds" in half.notes[0]
    text = summarise_arrhenius(half, np.ones(8), 400.0)
    assert "2 of them upper bounds" in text
    assert "caution: 2 of 4 points" in text
    assert "extrapolated to 300 K" in text
    assert "mS/cm" in text


@pytest.mark.parametrize(
    ("temperatures", "points", "message"),
    [
        ([600.0], [at(600.0, 0.1), at(700.0, 0.1)], "1 temperatures for 2"),
        ([600.0, 700.0], [bound(1e-6), at(700.0, 0.1)], "1 of 2 temperatures have a measured"),
        ([700.0, 700.0], [at(700.0, 0.1), at(700.0, 0.1)], "1 of 2 temperatures have a measured"),
        ([600.0, 700.0], [at(600.0, 0.1), at(700.0, 0.1, kind="charge")], "fit each kind"),
        ([-600.0, 700.0], [at(600.0, 0.1), at(700.0, 0.1)], "must be positive"),
    ],
)
def test_refusals(temperatures: list[float], points: list[Diffusivity], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_arrhenius(temperatures, points)


def test_prefactor_of_a_given_energy_is_the_fits() -> None:
    points = [bound(0.3 * at(600.0, 0.1).value), *(at(t, 0.1, (-1.0) ** t) for t in TEMPERATURES[1:])]
    points[2] = at(TEMPERATURES[2], 0.1, -1.5)
    fit = fit_arrhenius(TEMPERATURES, points)
    arrays = ([p.interval for p in points], [p.value for p in points], [p.is_upper_bound for p in points])
    found = prefactor_at(fit.activation_energy, TEMPERATURES, *arrays)
    assert found == pytest.approx(fit.prefactor, rel=1e-6)  # both Newton's methods end at 1e-9 of the least cost
    assert prefactor_at(fit.activation_energy + 0.05, TEMPERATURES, *arrays) > 1.5 * fit.prefactor
    with pytest.raises(ValueError, match="all 1 diffusivities are upper bounds"):
        prefactor_at(0.3, [600.0], [(0.0, 1e-7)], [1e-7], [True])
