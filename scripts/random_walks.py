"""Random walks with a known diffusivity: ions that hop on a lattice as a Poisson process and vibrate on their sites."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lattice_walk(
    rng: np.random.Generator,
    n_frames: int,
    n_ions: int,
    mean_hops: float,
    hop_length: float = 3.0,
    vibration: float = 0.2,
) -> tuple[NDArray[np.float64], float]:
    """Positions and the true diffusivity.

    Parameters
    ----------
    rng
        Source of chance.
    n_frames, n_ions
        T and M.
    mean_hops
        Expected number of hops of all ions together; the number itself is Poisson distributed.
    hop_length
        Å, along one of the axes either way.
    vibration
        Standard deviation about the site along each axis, Å, independent from frame to frame.

    Returns
    -------
    positions : numpy.ndarray
        Å, shape (T, M, 3).
    diffusivity : float
        Rate times squared length over 6, Å2 / frame.
    """
    rate = mean_hops / (n_ions * (n_frames - 1))
    counts = rng.poisson(rate, (n_frames - 1, n_ions))
    frames, ions = np.nonzero(counts)
    repeats = counts[frames, ions]
    frames, ions = np.repeat(frames, repeats), np.repeat(ions, repeats)
    steps = np.zeros((n_frames - 1, n_ions, 3))
    directions = rng.integers(0, 3, len(frames))
    np.add.at(steps, (frames, ions, directions), hop_length * rng.choice([-1.0, 1.0], len(frames)))
    sites = np.concatenate([np.zeros((1, n_ions, 3)), np.cumsum(steps, axis=0)])
    return sites + vibration * rng.standard_normal(sites.shape), rate * hop_length**2 / 6.0
