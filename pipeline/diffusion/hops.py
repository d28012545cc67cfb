"""Hops of ions between sites, counted in a trajectory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.diffusion.displacement import checked_positions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

CAGE_TIME: Final = 300.0
"""fs over which positions are averaged: several periods of an ion in its cage (Li+: 50 to 150 fs), and short beside
the residence on a site (picoseconds at diffusivities below 1e-4 cm2/s)."""

_DISPERSION_LEVEL: Final = 0.01
_HOPS_PER_BLOCK: Final = 5
_MOST_BLOCKS: Final = 50


@dataclass(frozen=True)
class Hops:
    """Jumps between sites.

    Attributes
    ----------
    ions
        Index of the ion that jumped, shape (n,), in order of time.
    frames
        First frame of the interval in which the ion was found on its new site, shape (n,).
    vectors
        From the mean position before to the mean position after, Å, shape (n, 3).
    n_frames, n_ions
        Of the trajectory.
    site_distance
        Å; a displacement of more than half of it counted as a hop.
    width
        Frames of the intervals: ``frames`` are multiples of it, and the first interval has no hop.
    """

    ions: NDArray[np.int64]
    frames: NDArray[np.int64]
    vectors: FloatArray
    n_frames: int
    n_ions: int
    site_distance: float
    width: int = 1

    def __len__(self) -> int:
        return len(self.ions)

    def quartic_length(self, weights: ArrayLike | None = None) -> float:
        """<w^4 l^4> / <w^2 l^2> over hops of length l, Å2; the squared site distance when no hop was seen.

        Parameters
        ----------
        weights
            Factor w of each ion's displacement, shape (n_ions,); 1 by default.
        """
        w = np.ones(self.n_ions) if weights is None else np.asarray(weights, dtype=np.float64)
        if not len(self):
            return float(self.site_distance**2 * np.max(w**2))
        squares = np.sum(self.vectors**2, axis=1) * w[self.ions] ** 2
        return float(np.sum(squares**2) / np.sum(squares)) if squares.any() else float(self.site_distance**2)

    def along(self, axis: int) -> Hops:
        """The same hops along one axis, with no less than a third of their mean square, so that none stays unseen."""
        shares = self.vectors[:, [axis]]
        floor = np.sqrt(np.sum(self.vectors**2, axis=1, keepdims=True) / 3.0)
        smallest = np.mean(shares**2) < np.mean(floor**2) if len(self) else False
        vectors = floor if smallest else shares
        return replace(self, vectors=vectors, site_distance=self.site_distance / np.sqrt(3.0))

    @property
    def dispersion(self) -> float:
        """Variance over mean of the number of hops in spans of time: 1 unless hops significantly come together.

        Concerted hops and flights to and fro carry less information than as many independent ones. The index of
        dispersion is used when its chi-squared test (Fisher 1925; Cox and Lewis 1966) rejects a Poisson process at
        1 %, with about five hops a span. Spans are whole intervals, and one with more of them has more hops to expect.
        """
        from scipy.stats import chi2

        intervals = self.n_frames // self.width - 1
        spans = min(len(self) // _HOPS_PER_BLOCK, _MOST_BLOCKS, intervals)
        if spans < 2:
            return 1.0
        span_of = np.arange(intervals) * spans // intervals
        expected = np.bincount(span_of) * (len(self) / intervals)
        counts = np.bincount(span_of[self.frames // self.width - 1], minlength=spans)
        statistic = float(np.sum((counts - expected) ** 2 / expected))
        significant = chi2.sf(statistic, spans - 1) < _DISPERSION_LEVEL
        return max(statistic / (spans - 1), 1.0) if significant else 1.0


def count_hops(positions: ArrayLike, frame_interval: float, site_distance: float, cage_time: float = CAGE_TIME) -> Hops:
    """Count jumps of each ion: its cage position has moved by more than half the distance between sites.

    The cage position is the median over spans of `cage_time`, so that vibrations do not count, nor does a visit
    shorter than half a span. After a jump the new cage position is the one to leave.

    Parameters
    ----------
    positions
        Of the mobile ions, unwrapped, Å, shape (T, M, 3), drift removed.
    frame_interval
        fs.
    site_distance
        Between neighbouring sites of the mobile ion, Å (`nearest_distance` of the crystal, or the length of the
        bond-valence path's hops).
    cage_time
        fs.

    Raises
    ------
    ValueError
        Positions of another shape; an interval, a distance or a time that is not positive; fewer than two spans.
    """
    array = checked_positions(positions)
    for name, number, unit in (
        ("frame_interval", frame_interval, "fs"),
        ("site_distance", site_distance, "Å"),
        ("cage_time", cage_time, "fs"),
    ):
        if not number > 0:
            raise ValueError(f"{name} must be positive, in {unit}; got {number}")
    n_frames, n_ions, _ = array.shape
    # Odd, so that the median of a span with a hop in it lies on one of the two sites.
    width = 2 * int(0.5 * cage_time / frame_interval) + 1
    n_spans = n_frames // width
    if n_spans < 2:
        raise ValueError(
            f"{n_frames} frames of {frame_interval} fs hold fewer than two spans of cage_time = {cage_time} fs; "
            "simulate longer or shorten cage_time"
        )
    cages = np.median(array[: n_spans * width].reshape(n_spans, width, n_ions, 3), axis=1)
    ions, spans = _departures(cages, 0.5 * site_distance)
    vectors = _vectors(cages, ions, spans)
    return Hops(ions, spans * width, vectors, n_frames, n_ions, float(site_distance), width)


def nearest_distance(lattice: ArrayLike, frac_coords: ArrayLike) -> float:
    """Shortest distance between sites of a crystal with its images, Å.

    Parameters
    ----------
    lattice
        Å, shape (3, 3), vectors in rows.
    frac_coords
        Shape (n, 3).

    Raises
    ------
    ValueError
        No sites.
    """
    cell, frac = np.asarray(lattice, dtype=np.float64), np.asarray(frac_coords, dtype=np.float64)
    if frac.ndim != 2 or not len(frac):
        raise ValueError(f"frac_coords must have shape (n >= 1, 3), got {frac.shape}")
    frac = frac - np.floor(frac)
    # No site is farther from its nearest image than the shortest lattice vector; this many cells hold such a sphere.
    spacings = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.ceil(np.linalg.norm(cell, axis=1).min() / spacings).astype(int) + 1
    images = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    shortest = np.inf
    for i in range(len(frac)):
        apart = np.linalg.norm((frac[i:] - frac[i] + images[:, None, :]) @ cell, axis=2)
        shortest = min(shortest, float(apart[apart > 1e-6].min()))
    return shortest


def _departures(cages: FloatArray, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    home = cages[0].copy()
    ions: list[NDArray[np.int64]] = []
    spans: list[NDArray[np.int64]] = []
    for k in range(1, len(cages)):
        away = cages[k] - home
        moved = np.flatnonzero(np.einsum("id,id->i", away, away) > threshold**2)
        if len(moved):
            home[moved] = cages[k, moved]
            ions.append(moved)
            spans.append(np.full(len(moved), k))
    if not ions:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(ions), np.concatenate(spans)


def _vectors(cages: FloatArray, ions: NDArray[np.int64], spans: NDArray[np.int64]) -> FloatArray:
    """Displacements between mean positions of the stays before and after each hop."""
    sums = np.concatenate([np.zeros((1, *cages.shape[1:])), np.cumsum(cages, axis=0)])
    vectors = np.empty((len(ions), 3))
    for ion in np.unique(ions):
        own = np.flatnonzero(ions == ion)
        edges = np.concatenate([[0], spans[own], [len(cages)]])
        stays = np.diff(sums[edges, ion], axis=0) / np.diff(edges)[:, None]
        vectors[own] = np.diff(stays, axis=0)
    return vectors
