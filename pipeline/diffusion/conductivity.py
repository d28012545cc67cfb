"""Conductivity by the Nernst-Einstein relation, and the Haven ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.units import BOLTZMANN, ELEMENTARY_CHARGE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pipeline.diffusion.diffusivity import Diffusivity, Kind

_CM3_PER_ANGSTROM3 = 1e-24


@dataclass(frozen=True)
class Conductivity:
    """An ionic conductivity with its 95 % interval.

    Attributes
    ----------
    kind
        Of the diffusivity that it was made of: ``charge``, or ``tracer`` (weighted by squared charges), which takes the
        Haven ratio to be 1.
    value
        S/cm; the bound itself when `is_upper_bound`.
    interval
        Lower and upper end, S/cm.
    temperature
        K.
    is_upper_bound
        The diffusivity was one.
    """

    kind: Kind
    value: float
    interval: tuple[float, float]
    temperature: float
    is_upper_bound: bool = False

    @property
    def millisiemens(self) -> float:
        """The value in mS/cm."""
        return 1e3 * self.value


@dataclass(frozen=True)
class HavenRatio:
    """Tracer over charge diffusivity: below 1 where ions move together.

    Attributes
    ----------
    value
        Dimensionless; NaN when either diffusivity is an upper bound.
    interval
        95 %, lower and upper end.
    """

    value: float
    interval: tuple[float, float]


def conductivity_per_diffusivity(charges: ArrayLike, volume: float, temperature: float) -> float:
    """Conductivity that a diffusivity of 1 cm2/s makes, S/cm: sum_i z_i^2 e^2 / (V k T) (Nernst-Einstein).

    Parameters
    ----------
    charges
        Elementary charges of all mobile ions in the cell, shape (M,).
    volume
        Of that cell, Å3.
    temperature
        K.

    Raises
    ------
    ValueError
        Volume or temperature not positive.
    """
    for name, number, unit in (("volume", volume, "Å3"), ("temperature", temperature, "K")):
        if not number > 0:
            raise ValueError(f"{name} must be positive, in {unit}; got {number}")
    squares = float(np.sum(np.asarray(charges, dtype=np.float64) ** 2))
    return squares * ELEMENTARY_CHARGE / (volume * _CM3_PER_ANGSTROM3 * BOLTZMANN * temperature)


def nernst_einstein(diffusivity: Diffusivity, charges: ArrayLike, volume: float, temperature: float) -> Conductivity:
    """Conductivity of a cell's mobile ions from a charge or (weighted) tracer diffusivity; arguments as above."""
    factor = conductivity_per_diffusivity(charges, volume, temperature)
    lower, upper = diffusivity.interval
    return Conductivity(
        diffusivity.kind,
        factor * diffusivity.value,
        (factor * lower, factor * upper),
        float(temperature),
        diffusivity.is_upper_bound,
    )


def haven_ratio(tracer: Diffusivity, charge: Diffusivity) -> HavenRatio:
    """Haven ratio with an interval from both diffusivities' intervals; the tracer's weighted by squared charges.

    Distances to the ends are added in quadrature in the logarithm (Donner and Zou 2012, Stat. Methods Med. Res. 21,
    347). Both share their hops, which this leaves out: the interval errs on the wide side.
    """
    if tracer.is_upper_bound or charge.is_upper_bound:
        return HavenRatio(float("nan"), (float("nan"), float("nan")))
    value = tracer.value / charge.value
    tracer_down, tracer_up = np.abs(np.log(np.array(tracer.interval) / tracer.value))
    charge_down, charge_up = np.abs(np.log(np.array(charge.interval) / charge.value))
    lower, upper = value * np.exp(-np.hypot(tracer_down, charge_up)), value * np.exp(np.hypot(tracer_up, charge_down))
    return HavenRatio(value, (float(lower), float(upper)))
