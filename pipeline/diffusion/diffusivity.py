"""Tracer and charge diffusivity with intervals that know the number of hops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from pipeline.diffusion.displacement import (
    checked_positions,
    collective_displacement,
    ion_charges,
    mean_squared_displacement,
)
from pipeline.diffusion.linear_regime import LinearRegime, fit_linear_regime
from pipeline.units import CM2_PER_S_PER_ANGSTROM2_PER_FS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pipeline.diffusion.hops import Hops

    FloatArray = NDArray[np.float64]

Kind = Literal["tracer", "charge"]

UPPER_BOUND_HOPS: Final = 3.0
"""With no event seen, the mean number is below 3 at 95 % confidence: -ln 0.05 = 2.996 (Hanley and Lippman-Hand 1983,
J. Am. Med. Assoc. 249, 1743)."""

FEWEST_HOPS: Final = 10
"""Below so many hops the ends of a 95 % interval are more than a factor of 3.4 apart, and the result says that it
rests on too few."""

_CONFIDENCE: Final = 0.95

_ONE_SIDED: Final = 1.644853626951472  # normal quantile at 95 %

_NOWHERE: Final = 0.05  # of a hop: the upper end of its interval is 2.7 hops, about the bound


@dataclass(frozen=True)
class Diffusivity:
    """A diffusivity with its 95 % interval.

    Attributes
    ----------
    kind
        ``tracer`` (of single ions) or ``charge`` (of all of them together).
    value
        cm2/s; the bound itself when `is_upper_bound`.
    interval
        Lower and upper end, cm2/s.
    is_upper_bound
        No hop was seen, or none that led anywhere: the value is what three hops would have made.
    n_hops
        Jumps between sites that were counted.
    effective_hops
        Independent hops that the value is worth: its relative variance from counting is one over this.
    window
        First and last lag of the linear regime, fs; NaN when no line was fitted.
    offset
        What vibrations add to the MSD, Å2; NaN when no line was fitted.
    notes
        What a reader must know, as sentences.
    is_linear
        Whether a linear regime was found; of a bound nothing is asked.
    """

    kind: Kind
    value: float
    interval: tuple[float, float]
    is_upper_bound: bool
    n_hops: int
    effective_hops: float
    window: tuple[float, float]
    offset: float
    notes: tuple[str, ...] = ()
    is_linear: bool = True

    @property
    def has_too_few_hops(self) -> bool:
        """Fewer than `FEWEST_HOPS` hops, counted or effective."""
        return min(self.n_hops, self.effective_hops) < FEWEST_HOPS


def tracer_diffusivity(
    positions: ArrayLike, frame_interval: float, hops: Hops, window: tuple[float, float] | None = None
) -> Diffusivity:
    """Tracer diffusivity of the mobile ions from the linear regime of their mean squared displacement.

    Parameters
    ----------
    positions
        Of the mobile ions, unwrapped, Å, shape (T, M, 3), drift removed.
    frame_interval
        fs.
    hops
        Counted in the same positions.
    window
        First and last lag time in fs instead of the search (`fit_linear_regime`).

    Raises
    ------
    ValueError
        Positions of another shape or not finite, too few frames, a window outside the trajectory.
    """
    msd = mean_squared_displacement(positions, frame_interval)
    return _diffusivity("tracer", msd.mean, frame_interval, hops, (hops.n_ions, 3, hops.quartic_length()), window)


def weighted_tracer_diffusivity(
    positions: ArrayLike,
    charges: ArrayLike,
    frame_interval: float,
    hops: Hops,
    window: tuple[float, float] | None = None,
) -> Diffusivity:
    """Tracer diffusivity with each ion weighted by its squared charge: sum z_i^2 D_i / sum z_i^2.

    It is what conducts where ions move independently of each other (Nernst-Einstein, sigma = e^2 / (V k T) sum z_i^2
    D_i), and the tracer diffusivity where all charges are equal. Arguments and errors as in `charge_diffusivity`.
    """
    z = ion_charges(charges, hops.n_ions)
    weights = z / np.sqrt(np.mean(z**2))
    msd = mean_squared_displacement(checked_positions(positions) * weights[:, None], frame_interval)
    walkers = (hops.n_ions, 3, hops.quartic_length(weights))
    return _diffusivity("tracer", msd.mean, frame_interval, hops, walkers, window)


def charge_diffusivity(
    positions: ArrayLike,
    charges: ArrayLike,
    frame_interval: float,
    hops: Hops,
    window: tuple[float, float] | None = None,
) -> Diffusivity:
    """Diffusivity of the ions' total charge, which gives the conductivity with ions' correlations in it.

    All ions make one walker (`collective_displacement`), so its error bar is wider than the tracer's.

    Parameters
    ----------
    positions
        Of the mobile ions, unwrapped, Å, shape (T, M, 3), in the frame of the framework.
    charges
        Elementary charges, shape (M,) or one number.
    frame_interval, hops, window
        As in `tracer_diffusivity`.

    Raises
    ------
    ValueError
        As in `tracer_diffusivity`; charges of another length or all zero.
    """
    z = ion_charges(charges, hops.n_ions)
    walker = collective_displacement(positions, z)
    msd = mean_squared_displacement(walker, frame_interval)
    quartic_length = hops.quartic_length(z / np.sqrt(np.sum(z**2)))
    return _diffusivity("charge", msd.mean, frame_interval, hops, (1, 3, quartic_length), window)


def axis_diffusivities(
    positions: ArrayLike, frame_interval: float, hops: Hops, window: tuple[float, float] | None = None
) -> tuple[Diffusivity, Diffusivity, Diffusivity]:
    """Tracer diffusivity along x, y and z, the diagonal of its tensor; arguments as in `tracer_diffusivity`."""
    per_axis = mean_squared_displacement(positions, frame_interval).per_axis
    found = []
    for axis in range(3):
        along = hops.along(axis)
        shape = (hops.n_ions, 1, along.quartic_length())
        found.append(_diffusivity("tracer", per_axis[:, axis], frame_interval, along, shape, window))
    return found[0], found[1], found[2]


def diffusivity_interval(
    value: float, hops: float, freedom: float, confidence: float = _CONFIDENCE
) -> tuple[float, float]:
    """Interval of a positive diffusivity that rests on so many hops.

    The number of hops is a Poisson variable, and given it, squared displacements over overlapping windows scatter like
    a gamma variable; a Poisson variable of gamma-distributed mean is negative binomial, with variance
    m + m^2 / (freedom / 2). Inverting its distribution at half a count more, as Jeffreys' interval does (Brown, Cai
    and DasGupta 2003, Statistica Sinica 13, 19), leaves quantiles of Fisher's F with 2 hops + 1 and `freedom` degrees
    of freedom. Without normal scatter this is the Poisson interval, chi-squared over twice the hops; without counting
    scatter it is the interval of a variance, one over chi-squared.

    Parameters
    ----------
    value
        Estimate, any unit.
    hops
        One over the relative variance from counting hops.
    freedom
        Two over the relative variance from the normal part.
    confidence
        Share of intervals that hold the true value.
    """
    from scipy.stats import f

    tail = 0.5 * (1.0 - confidence)
    lower, upper = f.ppf([tail, 1.0 - tail], 2.0 * hops + 1.0, freedom)
    scale = value * (hops + 0.5) / hops
    return float(lower * scale), float(upper * scale)


def _diffusivity(
    kind: Kind,
    msd: FloatArray,
    frame_interval: float,
    hops: Hops,
    walk: tuple[int, int, float],
    window: tuple[float, float] | None,
) -> Diffusivity:
    n_walkers, n_dimensions, quartic_length = walk
    unit = CM2_PER_S_PER_ANGSTROM2_PER_FS / frame_interval
    one_hop = quartic_length / (2.0 * n_dimensions * n_walkers * len(msd))
    if not len(hops):
        note = "no hop between sites was seen: an upper bound made of three hops"
        return _bound(kind, one_hop * unit, hops, note)
    frames = None if window is None else (round(window[0] / frame_interval), round(window[1] / frame_interval))
    fit = fit_linear_regime(msd, n_walkers, n_dimensions, quartic_length, frames)
    if fit.diffusivity < _NOWHERE * one_hop:
        note = f"the {len(hops)} hops seen led nowhere: an upper bound made of three hops and the scatter of the rest"
        scatter = _ONE_SIDED * np.sqrt(fit.normal_variance) / UPPER_BOUND_HOPS
        return _bound(kind, float(np.hypot(one_hop, scatter)) * unit, hops, note)
    effective = fit.diffusivity**2 / (fit.hop_variance * hops.dispersion)
    freedom = 2.0 * fit.diffusivity**2 / fit.normal_variance
    lower, upper = diffusivity_interval(fit.diffusivity * unit, effective, freedom)
    return Diffusivity(
        kind,
        fit.diffusivity * unit,
        (lower, upper),
        False,
        len(hops),
        effective,
        (fit.first_lag * frame_interval, fit.last_lag * frame_interval),
        fit.offset,
        tuple(_notes(fit, hops, effective)),
        fit.is_linear,
    )


def _bound(kind: Kind, one_hop: float, hops: Hops, note: str) -> Diffusivity:
    value = UPPER_BOUND_HOPS * one_hop
    nothing = float("nan")
    return Diffusivity(kind, value, (0.0, value), True, len(hops), 0.0, (nothing, nothing), nothing, (note,))


def _notes(fit: LinearRegime, hops: Hops, effective: float) -> list[str]:
    notes = []
    if min(len(hops), effective) < FEWEST_HOPS:
        notes.append(
            f"rests on too few hops: {len(hops)} counted, worth {effective:.1f} independent ones (below {FEWEST_HOPS})"
        )
    if hops.dispersion > 1.0:
        notes.append(f"hops come together (index of dispersion {hops.dispersion:.1f}); the interval is widened for it")
    if not fit.is_linear:
        notes.append("no linear regime was found: the slope still changes where the statistics end")
    if fit.scatter > 1.0:
        notes.append("the scatter of the mean squared displacement exceeds its slope: simulate longer")
    return notes
