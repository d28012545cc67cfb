"""All that one trajectory at one temperature says of the motion of its ions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.diffusion.conductivity import Conductivity, HavenRatio, haven_ratio, nernst_einstein
from pipeline.diffusion.diffusivity import (
    Diffusivity,
    axis_diffusivities,
    charge_diffusivity,
    tracer_diffusivity,
    weighted_tracer_diffusivity,
)
from pipeline.diffusion.displacement import checked_positions, ion_charges, remove_drift
from pipeline.diffusion.framework import FrameworkState, framework_state
from pipeline.diffusion.hops import CAGE_TIME, count_hops

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class TrajectoryAnalysis:
    """Diffusion at one temperature.

    Attributes
    ----------
    temperature
        K.
    duration
        fs.
    n_ions
        Mobile ions.
    n_hops
        Their jumps between sites.
    tracer, charge
        Diffusivities, cm2/s.
    weighted_tracer
        The tracer diffusivity with ions weighted by their squared charges, cm2/s; the same where these are equal.
    axes
        Tracer diffusivities along x, y and z, cm2/s.
    haven_ratio
        Weighted tracer over charge diffusivity.
    tracer_conductivity, charge_conductivity
        By the Nernst-Einstein relation at the temperature of the run, S/cm.
    framework
        Whether it stayed a crystal.
    """

    temperature: float
    duration: float
    n_ions: int
    n_hops: int
    tracer: Diffusivity
    charge: Diffusivity
    weighted_tracer: Diffusivity
    axes: tuple[Diffusivity, Diffusivity, Diffusivity]
    haven_ratio: HavenRatio
    tracer_conductivity: Conductivity
    charge_conductivity: Conductivity
    framework: FrameworkState

    def summary(self) -> str:
        """A paragraph on the run, line by line."""
        from pipeline.diffusion.summary import summarise_trajectory

        return summarise_trajectory(self)


def analyse_trajectory(
    positions: ArrayLike,
    frame_interval: float,
    mobile: ArrayLike,
    charges: ArrayLike,
    volume: float,
    temperature: float,
    site_distance: float,
    *,
    masses: ArrayLike | None = None,
    at_rest: ArrayLike | None = None,
    window: tuple[float, float] | None = None,
    cage_time: float = CAGE_TIME,
) -> TrajectoryAnalysis:
    """Diffusivities, conductivities, Haven ratio and the state of the framework from one run at constant volume.

    Parameters
    ----------
    positions
        Of all atoms after equilibration, unwrapped, Å, shape (T, N, 3).
    frame_interval
        fs between frames.
    mobile
        Indices of the mobile ions, shape (M,).
    charges
        Of the mobile ions, elementary charges, shape (M,) or one number.
    volume
        Of the cell, Å3.
    temperature
        K.
    site_distance
        Between neighbouring sites of the mobile ion, Å (`nearest_distance`).
    masses
        Of all atoms, shape (N,), for the framework's centre of mass; None weighs atoms alike.
    at_rest
        Positions of all atoms in the crystal, Å, shape (N, 3), in the trajectory's cell: the framework's displacements
        count from there; by default from its mean over the first tenth of the run.
    window
        First and last lag time of the linear regime in fs instead of the search.
    cage_time
        fs over which vibrations are averaged before hops are counted.

    Raises
    ------
    ValueError
        Arrays of wrong shape or not finite, an index out of range, no atoms but mobile ones, a quantity that is not
        positive, or too few frames; the message names which.
    """
    array = checked_positions(positions)
    ions = np.asarray(mobile, dtype=np.int64)
    if ions.ndim != 1 or not len(ions) or ions.min() < 0 or ions.max() >= array.shape[1]:
        raise ValueError(f"mobile must list indices of the {array.shape[1]} atoms, got {ions.tolist()}")
    z = ion_charges(charges, len(ions))
    others = np.setdiff1d(np.arange(array.shape[1]), ions)
    still = remove_drift(array, others, masses)
    moving = still[:, ions]
    hops = count_hops(moving, frame_interval, site_distance, cage_time)
    tracer = tracer_diffusivity(moving, frame_interval, hops, window)
    charge = charge_diffusivity(moving, z, frame_interval, hops, window)
    weighted = tracer
    if np.ptp(np.abs(z)) > 0.0:
        weighted = weighted_tracer_diffusivity(moving, z, frame_interval, hops, window)
    return TrajectoryAnalysis(
        float(temperature),
        (len(array) - 1) * float(frame_interval),
        len(ions),
        len(hops),
        tracer,
        charge,
        weighted,
        axis_diffusivities(moving, frame_interval, hops, window),
        haven_ratio(weighted, charge),
        nernst_einstein(weighted, z, volume, temperature),
        nernst_einstein(charge, z, volume, temperature),
        framework_state(
            still[:, others], frame_interval, volume, _places(still, others, at_rest, masses), cage_time=cage_time
        ),
    )


def _places(
    positions: NDArray[np.float64], framework: NDArray[np.int64], at_rest: ArrayLike | None, masses: ArrayLike | None
) -> NDArray[np.float64] | None:
    """The framework's places in the crystal, shape (F, 3), its centre of mass where the trajectory has it."""
    if at_rest is None:
        return None
    crystal = np.asarray(at_rest, dtype=np.float64)
    if crystal.shape != positions.shape[1:]:
        raise ValueError(f"at_rest must have shape {positions.shape[1:]}, one position an atom; got {crystal.shape}")
    together = np.stack([positions[0], crystal])
    places: NDArray[np.float64] = remove_drift(together, framework, masses)[1, framework]
    return places
