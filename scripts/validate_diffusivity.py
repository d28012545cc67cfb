"""Do the intervals of diffusivities hold what they promise? Seeded random walks with a known D, many for each size.

Ions hop on a lattice as a Poisson process and vibrate on their sites. For each number of ions and of expected hops the
table gives the share of 95 % intervals that hold the true D (it should be 93 to 97 %), their mean width over the width
of the Poisson interval of that many hops (no estimator can do better than counting hops: relative variance 1 / hops;
it should be at most 1.5), the bias of D, its scatter in units of 1 / sqrt(hops), and coverage and width for the charge
diffusivity. Exit code 1 when coverage of the tracer diffusivity, beyond what so many walks leave to chance, or width
miss these bounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
from random_walks import lattice_walk
from scipy.stats import binom, gamma

from pipeline.diffusion.diffusivity import Diffusivity, charge_diffusivity, tracer_diffusivity
from pipeline.diffusion.hops import count_hops

SITE_DISTANCE = 3.0  # Å
FRAME_INTERVAL = 100.0  # fs
CAGE_TIME = 300.0  # fs
FRAMES_A_STAY = 30
FRAMES = (500, 3000)  # fewest and most
COVERAGE = (0.93, 0.97)
WIDEST = 1.5


@dataclass(frozen=True)
class Size:
    """Ions and expected hops of all of them."""

    n_ions: int
    hops: float
    vibration: float

    @property
    def n_frames(self) -> int:
        """Frames, so that an ion stays about `FRAMES_A_STAY` on a site where that is within bounds."""
        return int(np.clip(FRAMES_A_STAY * self.hops / self.n_ions, *FRAMES))


@dataclass(frozen=True)
class Outcome:
    """Estimates of one size over their true value."""

    values: np.ndarray
    intervals: np.ndarray

    @property
    def coverage(self) -> float:
        """Share of intervals that hold the true value."""
        return float(np.mean((self.intervals[:, 0] <= 1.0) & (self.intervals[:, 1] >= 1.0)))

    def width(self, hops: float) -> float:
        """Mean width over that of the Poisson interval."""
        needed = float(np.diff(gamma.ppf([0.025, 0.975], hops + 0.5))[0]) / hops
        return float(np.mean(self.intervals[:, 1] - self.intervals[:, 0])) / needed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=1000, help="random walks of each size")
    parser.add_argument("--seed", type=int, default=0, help="of the first walk; the next has the next")
    parser.add_argument("--ions", type=int, nargs="+", default=[4, 8, 32])
    parser.add_argument("--hops", type=float, nargs="+", default=[20, 50, 100, 500])
    parser.add_argument("--vibration", type=float, default=0.2, help="standard deviation along each axis, Å")
    arguments = parser.parse_args()
    print("| ions | hops | frames | covered | width | bias | scatter | charge covered | charge width | ms a walk |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    kept = True
    for n_ions in arguments.ions:
        for hops in arguments.hops:
            size = Size(n_ions, hops, arguments.vibration)
            started = time.perf_counter()
            tracer, charge = estimates(size, range(arguments.seed, arguments.seed + arguments.walks))
            print(line(size, tracer, charge, (time.perf_counter() - started) / arguments.walks), flush=True)
            kept = kept and within_bounds(tracer, hops)
    return 0 if kept else 1


def estimates(size: Size, seeds: range) -> tuple[Outcome, Outcome]:
    """Tracer and charge diffusivities of seeded walks."""
    tracer, charge = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        positions, per_frame = lattice_walk(rng, size.n_frames, size.n_ions, size.hops, SITE_DISTANCE, size.vibration)
        true = 0.1 * per_frame / FRAME_INTERVAL
        hops = count_hops(positions, FRAME_INTERVAL, SITE_DISTANCE, CAGE_TIME)
        tracer.append(_over(tracer_diffusivity(positions, FRAME_INTERVAL, hops), true))
        charge.append(_over(charge_diffusivity(positions, 1.0, FRAME_INTERVAL, hops), true))
    return _outcome(tracer), _outcome(charge)


def within_bounds(outcome: Outcome, hops: float) -> bool:
    """Coverage not beyond the bounds by more than happens once in a thousand times, and width below its own."""
    n = len(outcome.values)
    lowest, highest = binom.ppf(0.001, n, COVERAGE[0]) / n, binom.ppf(0.999, n, COVERAGE[1]) / n
    return bool(lowest <= outcome.coverage <= highest and outcome.width(hops) <= WIDEST)


def line(size: Size, tracer: Outcome, charge: Outcome, seconds: float) -> str:
    """One row of the table."""
    scatter = float(np.std(tracer.values)) * np.sqrt(size.hops)
    return (
        f"| {size.n_ions} | {size.hops:g} | {size.n_frames} | {tracer.coverage:.1%} | {tracer.width(size.hops):.2f} "
        f"| {np.mean(tracer.values) - 1:+.1%} | {scatter:.2f} | {charge.coverage:.1%} "
        f"| {charge.width(size.hops):.2f} | {1000 * seconds:.0f} |"
    )


def _over(found: Diffusivity, true: float) -> tuple[float, float, float]:
    return found.value / true, found.interval[0] / true, found.interval[1] / true


def _outcome(rows: list[tuple[float, float, float]]) -> Outcome:
    array = np.array(rows)
    return Outcome(array[:, 0], array[:, 1:])


if __name__ == "__main__":
    sys.exit(main())
