"""Activation energy from several temperatures, and what it says of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.diffusion.conductivity import Conductivity, conductivity_per_diffusivity
from pipeline.diffusion.diffusivity import UPPER_BOUND_HOPS
from pipeline.units import BOLTZMANN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from pipeline.diffusion.diffusivity import Diffusivity, Kind

    FloatArray = NDArray[np.float64]

FEWEST_TEMPERATURES: Final = 3
"""Two points make a line but no test of it."""

_Z: Final = 1.959963984540054  # normal quantile of a two-sided 95 % interval
_NEWTON_STEPS: Final = 100
_LEAST_WIDTH: Final = 1e-3  # of an interval in ln D: ends that were rounded to the same digits are no certainty


@dataclass(frozen=True)
class Arrhenius:
    """D = prefactor exp(-activation_energy / kT), fitted.

    Attributes
    ----------
    kind
        Of the diffusivities.
    activation_energy, activation_energy_interval
        eV, and its 95 % interval.
    prefactor, prefactor_interval
        cm2/s, and its 95 % interval.
    covariance
        Of (ln prefactor, activation energy in eV), shape (2, 2).
    temperatures
        K, of all points.
    n_upper_bounds
        Points that are upper bounds.
    reduced_chi_squared
        Of the measured points; NaN without a degree of freedom. Above 1 it widens every interval.
    is_reliable
        At least three temperatures, more of them measured than bounds, and each with enough hops.
    notes
        What a reader must know, as sentences.
    """

    kind: Kind
    activation_energy: float
    activation_energy_interval: tuple[float, float]
    prefactor: float
    prefactor_interval: tuple[float, float]
    covariance: FloatArray
    temperatures: tuple[float, ...]
    n_upper_bounds: int
    reduced_chi_squared: float
    is_reliable: bool
    notes: tuple[str, ...]

    def diffusivity_at(self, temperature: float = 300.0) -> tuple[float, tuple[float, float]]:
        """Diffusivity at a temperature in K, cm2/s, with its 95 % interval from the fit's covariance.

        Raises
        ------
        ValueError
            A temperature that is not positive.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, in K; got {temperature}")
        gradient = np.array([1.0, -1.0 / (BOLTZMANN * temperature)])
        logarithm = np.log(self.prefactor) + gradient[1] * self.activation_energy
        spread = _Z * np.sqrt(gradient @ self.covariance @ gradient)
        return float(np.exp(logarithm)), (float(np.exp(logarithm - spread)), float(np.exp(logarithm + spread)))

    def conductivity_at(self, charges: ArrayLike, volume: float, temperature: float = 300.0) -> Conductivity:
        """Nernst-Einstein conductivity at a temperature in K; charges and volume of the cell as in `nernst_einstein`.

        Raises
        ------
        ValueError
            Volume or temperature not positive.
        """
        factor = conductivity_per_diffusivity(charges, volume, temperature)
        value, (lower, upper) = self.diffusivity_at(temperature)
        return Conductivity(self.kind, factor * value, (factor * lower, factor * upper), float(temperature))


def fit_arrhenius(temperatures: Sequence[float], diffusivities: Sequence[Diffusivity]) -> Arrhenius:
    """Fit ln D against 1/T by maximum likelihood, with upper bounds as the censored points that they are.

    A measured ln D is normal with a standard error of its interval's width in the logarithm over 2 x 1.96, so without
    bounds this is weighted least squares. A bound says that no hop came although 3 D / D_bound were to be expected,
    which has the probability exp(-3 D / D_bound): it pulls a line down that runs above it and leaves one far below it
    alone. Both terms are convex, so Newton's method finds the one minimum; the covariance is the inverse Hessian
    there, times the reduced chi-squared where that is above 1 (Birge 1932, Phys. Rev. 40, 207).

    Parameters
    ----------
    temperatures
        K, one a diffusivity.
    diffusivities
        All of one kind.

    Raises
    ------
    ValueError
        Lengths differ, kinds are mixed, a temperature is not positive, or fewer than two different temperatures have a
        diffusivity that was measured: no line goes through upper bounds.
    """
    kind = _checked(temperatures, diffusivities)
    t = np.asarray(temperatures, dtype=np.float64)
    bounds = np.array([d.is_upper_bound for d in diffusivities])
    logs = np.log([d.value for d in diffusivities])
    widths = np.array([1.0 if d.is_upper_bound else np.log(d.interval[1] / d.interval[0]) for d in diffusivities])
    design = np.column_stack([np.ones(len(t)), -1.0 / (BOLTZMANN * t)])
    errors = widths / (2.0 * _Z)
    line, covariance = _most_likely(design, logs, errors, bounds)
    freedom = int(np.sum(~bounds)) - 2
    residuals = ((logs - design @ line) / errors)[~bounds]
    reduced = float(residuals @ residuals / freedom) if freedom else float("nan")
    covariance = covariance * max(1.0, reduced) if freedom else covariance
    notes = _notes(t, diffusivities)
    half = _Z * np.sqrt(np.diag(covariance))
    return Arrhenius(
        kind,
        float(line[1]),
        (float(line[1] - half[1]), float(line[1] + half[1])),
        float(np.exp(line[0])),
        (float(np.exp(line[0] - half[0])), float(np.exp(line[0] + half[0]))),
        covariance,
        tuple(t.tolist()),
        int(bounds.sum()),
        reduced,
        not notes,
        tuple(notes),
    )


def prefactor_at(
    activation_energy: float, temperatures: ArrayLike, intervals: ArrayLike, values: ArrayLike, bounds: ArrayLike
) -> float:
    """Most likely prefactor, cm2/s, of an Arrhenius line whose activation energy is given.

    With the energy that `fit_arrhenius` finds it is the prefactor that it finds.

    Parameters
    ----------
    activation_energy
        eV.
    temperatures
        K, shape (n,).
    intervals
        95 %, lower and upper end of each diffusivity, cm2/s, shape (n, 2); those of bounds are not looked at.
    values
        Diffusivities, cm2/s, shape (n,).
    bounds
        Which values are upper bounds, shape (n,).

    Raises
    ------
    ValueError
        No value is measured.
    """
    censored = np.asarray(bounds, dtype=bool)
    if censored.all():
        raise ValueError(f"all {censored.size} diffusivities are upper bounds: no line goes through them")
    low, high = np.asarray(intervals, dtype=np.float64).T
    widths = np.log(np.where(censored, np.e, high) / np.where(censored, 1.0, low))
    widths = np.maximum(widths, _LEAST_WIDTH)
    logs = np.log(values) + activation_energy / (BOLTZMANN * np.asarray(temperatures, dtype=np.float64))
    line, _ = _most_likely(np.ones((len(logs), 1)), logs, widths / (2.0 * _Z), censored)
    return float(np.exp(line[0]))


def _checked(temperatures: Sequence[float], diffusivities: Sequence[Diffusivity]) -> Kind:
    if len(temperatures) != len(diffusivities):
        raise ValueError(f"{len(temperatures)} temperatures for {len(diffusivities)} diffusivities")
    kinds = sorted({d.kind for d in diffusivities})
    if len(kinds) > 1:
        raise ValueError(f"diffusivities of kinds {kinds} make no one line; fit each kind by itself")
    if not all(t > 0 for t in temperatures):
        raise ValueError(f"temperatures must be positive, in K; got {list(temperatures)}")
    measured = {t for t, d in zip(temperatures, diffusivities, strict=True) if not d.is_upper_bound}
    if len(measured) < 2:
        raise ValueError(
            f"{len(measured)} of {len(diffusivities)} temperatures have a measured diffusivity, the others upper "
            "bounds; a line needs two: simulate longer or hotter"
        )
    return diffusivities[0].kind


def _most_likely(
    design: FloatArray, logs: FloatArray, errors: FloatArray, bounds: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """(ln prefactor, activation energy) and the inverse Hessian of the negative log-likelihood."""
    precision = np.where(bounds, 0.0, errors**-2.0)
    start = design.T @ (precision[:, None] * design)
    line = np.asarray(np.linalg.solve(start, design.T @ (precision * logs)), dtype=np.float64)

    def parts(at: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        above = design @ at - logs
        expected = np.where(bounds, UPPER_BOUND_HOPS * np.exp(np.minimum(above, 50.0)), 0.0)
        cost = float(np.sum(0.5 * precision * above**2 + expected))
        return cost, design.T @ (precision * above + expected), design.T @ ((precision + expected)[:, None] * design)

    cost, gradient, hessian = parts(line)
    for _ in range(_NEWTON_STEPS):
        step = np.linalg.solve(hessian, gradient)
        decrement = float(gradient @ step)
        if decrement < 1e-18:
            break
        size = 1.0
        while size > 1e-6 and parts(line - size * step)[0] > cost - 0.1 * size * decrement:
            size *= 0.5
        line = np.asarray(line - size * step, dtype=np.float64)
        cost, gradient, hessian = parts(line)
    return line, np.asarray(np.linalg.inv(hessian), dtype=np.float64)


def _notes(temperatures: FloatArray, diffusivities: Sequence[Diffusivity]) -> list[str]:
    n_bounds = sum(d.is_upper_bound for d in diffusivities)
    poor = [f"{t:g} K" for t, d in zip(temperatures, diffusivities, strict=True) if d.has_too_few_hops]
    bent = [f"{t:g} K" for t, d in zip(temperatures, diffusivities, strict=True) if not d.is_linear]
    notes = []
    if len(set(temperatures.tolist())) < FEWEST_TEMPERATURES:
        notes.append("only two temperatures: nothing tests the line")
    if 2 * n_bounds >= len(diffusivities):
        notes.append(f"{n_bounds} of {len(diffusivities)} points are upper bounds, used as censored points")
    if poor:
        notes.append(f"too few hops at {', '.join(poor)}")
    if bent:
        notes.append(f"no linear regime at {', '.join(bent)}")
    return notes
