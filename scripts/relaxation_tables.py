"""Tables and verdicts of ``benchmark_relaxation.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pymatgen.core import Structure
from relaxation_comparison import OURS, PEER, START_AGREES, Comparison, is_sane, shortest_distance
from relaxation_costs import Operations, Point
from relaxation_peer import Outcome

SAME, FAR = 1.0, 5.0  # meV/atom
LEAST_RATIO, LEAST_SHARE, LEAST_OF_BOUND = 4.0, 0.95, 0.40


def table(header: str, rows: Sequence[Sequence[object]]) -> None:
    columns = header.split(" | ")
    print("| " + header + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(item) for item in row) + " |")
    print()


def told(what: str, met: bool) -> bool:
    print(f"{'met' if met else 'NOT MET'}: {what}")
    return met


def print_speeds(both: Comparison, timed: int) -> bool:
    print(
        f"{timed} crystals, relaxed to {both.job.fmax} eV/Å without a rattle. Core-seconds are those that each process "
        "was at work, on the clock and of the processor.\n"
    )
    rows, ratios, met = [], [], True
    for speed in both.speeds:
        for side in (PEER, OURS):
            parts = [t for part in speed.slices[side] for t in part]
            wall, cpu, evaluations = (sum(getattr(t, name) for t in parts) for name in ("wall", "cpu", "evaluations"))
            number = sum(len(t.outcomes) for t in parts)
            rows.append(
                (
                    speed.count,
                    side,
                    f"{wall:.1f}",
                    f"{cpu:.1f}",
                    f"{number / wall:.3f}",
                    f"{number / cpu:.3f}",
                    f"{evaluations / number:.1f}",
                    f"{1000 * cpu / evaluations:.2f}",
                )
            )
        for clock in ("wall", "cpu"):
            own = speed.ratios(clock)
            total = speed.rate(OURS, clock) / speed.rate(PEER, clock)
            ratios.append(
                (
                    speed.count,
                    "clock" if clock == "wall" else "processor",
                    f"{total:.2f}",
                    f"{np.median(own):.2f}",
                    f"{min(own):.2f} to {max(own):.2f}",
                )
            )
            met &= float(np.median(own)) >= LEAST_RATIO
    table(
        "workers | side | clock, s | processor, s | structures/core-s (clock) | (processor) | "
        "evaluations a structure | processor ms an evaluation",
        rows,
    )
    table("workers | time | ratio | median of slices | slices", ratios)
    if len(both.speeds) > 1:
        print(f"Largest change of an energy of ours between numbers of workers: {both.between_runs:.1e} eV/atom\n")
    return told(f"at least {LEAST_RATIO:g} times the peer's structures a core-second", met)


def print_energies(both: Comparison, seeds: int) -> bool:
    places = range(len(both.structures))
    failed = [i for i in places if both.peer[i].error or both.ours[i].error]
    compared = [i for i in places if i not in failed]
    starts = [abs(both.ours[i].start - both.peer[i].start) for i in compared]
    change = {i: 1000.0 * (both.ours[i].energy - both.peer[i].energy) for i in compared}
    unconverged = {
        side: sum(not o[i].converged for i in compared) for side, o in ((PEER, both.peer), (OURS, both.ours))
    }
    for i in failed:
        print(f"failed: {both.names[i]}: {PEER}: {both.peer[i].error}; {OURS}: {both.ours[i].error}")
    print(
        f"\n{len(compared)} compared; not converged: " + ", ".join(f"{n} of {side}" for side, n in unconverged.items())
    )
    evaluations = [np.mean([o[i].evaluations for i in compared]) for o in (both.peer, both.ours)]
    print(f"Evaluations a structure, all compared: {PEER} {evaluations[0]:.1f}, {OURS} {evaluations[1]:.1f}")
    print(f"Energies of ours minus the peer's, those more than {SAME:g} meV/atom apart:\n")
    rows = []
    for i in sorted(change, key=lambda i: change[i]):
        if abs(change[i]) > SAME:
            peers, ours = both.peer[i], both.ours[i]
            rows.append(
                (
                    both.names[i],
                    len(both.structures[i]),
                    f"{change[i]:+.1f}",
                    f"{peers.volume_change:+.1%}",
                    f"{ours.volume_change:+.1%}",
                    f"{shortest_distance(Structure.from_dict(ours.structure)):.2f}",
                    "yes" if is_sane(ours) else "no",
                    _converged(peers),
                    _converged(ours),
                )
            )
    table("candidate | atoms | meV/atom | volume, peer | volume, ours | shortest, Å | sane | peer | ours", rows)
    met = told(
        f"energies of the start agree within {START_AGREES:g} eV/atom (largest difference "
        f"{max(starts, default=0.0):.1e})",
        max(starts, default=0.0) <= START_AGREES,
    )
    share = float(np.mean([c <= SAME for c in change.values()])) if change else 0.0
    met &= told(
        f"at least {LEAST_SHARE:.0%} end no more than {SAME:g} meV/atom above the peer: {share:.1%}",
        share >= LEAST_SHARE,
    )
    lower = [i for i in compared if change[i] < -SAME]
    sane = sum(is_sane(both.ours[i]) for i in lower)
    print(f"{len(lower)} end more than {SAME:g} meV/atom below it, {sane} of them sane")
    for i in (i for i in compared if change[i] > FAR):
        moved = both.moved_peer(i, seeds, 1e-3)
        ends = ", ".join(f"{m:+.1f}" for m in moved)
        met &= told(
            f"{both.names[i]} ends {change[i]:+.1f} meV/atom above; the peer from starts rattled by 0.001 Å ends "
            f"{ends} from its own",
            bool(np.nanmax(moved) >= change[i]),
        )
    return met


def _converged(outcome: Outcome) -> str:
    return f"{outcome.evaluations} evaluations" + ("" if outcome.converged else ", not converged")


def print_curve(
    rates: Mapping[str, float], counted: Mapping[str, Operations], points: Sequence[Point], device: str
) -> bool:
    """Rates of products, operations, the curve, and what limits its ends; whether the bound is reached far enough.

    What is asked of one core is asked of it alone; of a device the shares are only told.
    """
    table(
        f"product, float32, {'one core' if device == 'cpu' else device} | GFLOP/s",
        [(name, f"{2e-9 * rate:.1f}") for name, rate in rates.items()],
    )
    best = max(rates.values())
    last, rows, shares = points[-1], [], []
    table(
        "multiply-adds, gradient included | a pair | a bond of three-body terms | a triplet | an atom | sum a pair",
        [
            (
                name,
                f"{o.pair:,.0f}",
                f"{o.close_pair:,.0f}",
                f"{o.triplet:,.0f}",
                f"{o.atom:,.0f}",
                f"{o.of(last.atoms, last.pairs, last.close_pairs, last.triplets) / last.pairs:,.0f}",
            )
            for name, o in counted.items()
        ],
    )
    print(
        f"{counted['ionsieve'].activations} activations a pair, forward, are in none of these. A pair is directed; "
        f"{last.pairs / last.atoms:.1f} pairs, {last.close_pairs / last.atoms:.1f} bonds and "
        f"{last.triplets / last.atoms:.1f} triplets an atom.\n"
    )
    for p in points:
        bound = [o.of(p.atoms, p.pairs, p.close_pairs, p.triplets) / best for o in counted.values()]
        shares.append(bound[0] / p.seconds)
        rows.append(
            (
                p.crystals,
                p.atoms,
                p.pairs,
                f"{1e6 * p.seconds / p.pairs:.2f}",
                f"{1e6 * p.median / p.pairs:.2f}",
                f"{1e3 * p.seconds / p.crystals:.2f}",
                f"{bound[0] / p.seconds:.1%}",
                f"{bound[1] / p.seconds:.1%}",
                p.faults,
                f"{p.added_memory / p.pairs / 1024:.1f}",
            )
        )
    table(
        "crystals | atoms | pairs | µs a pair, fastest | median | ms a crystal | share of the bound | of the published "
        "arrangement's | page faults | memory, KiB a pair",
        rows,
    )
    few = points[:4]
    slope, call = np.polyfit([p.pairs for p in few], [p.seconds for p in few], 1, w=[1 / p.seconds for p in few])
    top = int(np.argmax(shares))
    print(
        f"Small end, line through batches of 1 to {few[-1].crystals}: {1e6 * call:.0f} µs a call, {1e6 * slope:.2f} µs "
        f"a pair: {call / few[0].seconds:.0%} of an evaluation of one crystal does not depend on its size."
    )
    more = last.seconds / last.pairs - points[top].seconds / points[top].pairs
    print(
        f"Large end: a batch of {last.crystals} costs {1e6 * more:+.2f} µs a pair beside the best of "
        f"{points[top].crystals}, with {last.faults} page faults and {last.added_memory / 2**20:.0f} MiB more "
        "than a loaded model.\n"
    )
    if device != "cpu":
        print(f"share of the floating-point bound at the best size: {max(shares):.1%}")
        return True
    return told(
        f"at least {LEAST_OF_BOUND:.0%} of the floating-point bound at the best size: {max(shares):.1%}",
        max(shares) >= LEAST_OF_BOUND,
    )
