"""What the fidelity ladder costs and loses: on candidates drawn at random, none of which its bound was fitted on.

Candidates are relaxed to their end, every evaluation kept, until enough of them pass the stability gate. On the records
the one-shot gate and the rule for giving up are tried; a relaxation is the same to the last bit with any companions, so
that is what they would have done. Then three ways are timed in one process, slice by slice in turn: matgl's Relaxer,
the stages without the ladder, and with it; what the stages with the ladder give up must be what the records say.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ladder_timing import OFF, ON, PEER, SIDES, Ladder, Slice, one_shot, passes_one_shot, warm_up
from random_candidates import campaign_references, random_candidates
from recorded_descents import Descent, left_after, passes, record, stability_settings
from relaxation_peer import workers
from relaxation_tables import table, told
from scipy.stats import beta

from pipeline.reference.descent_bounds import DescentBound, descent_bound
from pipeline.references import References
from pipeline.settings import EstimateSettings
from pipeline.stages import estimate

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
GATES = (0.3, 0.4, 0.5, 0.7, 1.0, 1.5)  # eV/atom, of the one-shot estimate
LEAST_RATIO, MOST_LOST = 10.0, 0.02


def main() -> int:
    options = _options()
    references = campaign_references(options.config)
    ladder = Ladder(options.config, _one_shot(references, options.one_shot_gate), stability_settings(references))
    rows, descents = _relaxed(references, ladder, options)
    judged = pd.concat(
        [estimate.run(rows.iloc[i : i + 256], ladder.one_shot, references, Path()) for i in range(0, len(rows), 256)]
    )
    met = print_losses(descents, judged, ladder, references)
    if options.timed:
        met &= print_times(rows, descents, judged, ladder, references, options)
    return int(not met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign whose candidates are drawn")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--passing", type=int, default=400, help="candidates that must pass before relaxing stops")
    parser.add_argument("--most", type=int, default=4000, help="candidates drawn")
    parser.add_argument("--one-shot-gate", type=float, help="eV/atom; default: the campaign's, which must have one")
    parser.add_argument("--timed", type=int, default=256, help="candidates timed without the ladder and with it")
    parser.add_argument("--peer", type=int, default=48, help="of them, timed with the peer too")
    parser.add_argument("--slice", type=int, help="candidates of a slice; default: the campaign's chunk_size")
    parser.add_argument("--cache", type=Path, help="folder that keeps draws and relaxations; resumes there")
    options = parser.parse_args()
    if not os.environ.get("IONSIEVE_DATA"):
        parser.error("set IONSIEVE_DATA: candidates are made of observed crystals")
    return options


def _one_shot(references: References, gate: float | None) -> EstimateSettings:
    stage = next((s for s in references.campaign.stages if isinstance(s, EstimateSettings)), EstimateSettings())
    if gate is not None:
        return EstimateSettings.model_validate(
            {"model": stage.model, "gates": {"energy_above_hull_estimate": {"below": gate}}}
        )
    if not stage.gates:
        raise ValueError(f"campaign {references.campaign.name!r} has no gate on the estimate; give --one-shot-gate 1.5")
    return stage


def _relaxed(references: References, ladder: Ladder, options: argparse.Namespace) -> tuple[pd.DataFrame, list[Descent]]:
    """Fresh candidates in random order, relaxed until enough pass."""
    fit = _bound(references, ladder).fit
    without: set[str] = set()
    if fit.get("campaign") == references.campaign.name:
        without = set(random_candidates(references, fit["crystals"], fit["seed"], cache=options.cache)["candidate_id"])
    rows = random_candidates(references, options.most, options.seed, without, options.cache)
    gate = ladder.relaxing.give_up_above
    descents: list[Descent] = []
    for part in record(rows, references, ladder.relaxing, options.cache):
        descents += part
        if passes(descents, gate).sum() >= options.passing:
            break
    passing = passes(descents, gate).sum()
    print(
        f"{len(descents)} random candidates of {options.config.name} (seed {options.seed}; none of the {len(without)} "
        f"that the bound was fitted on): {sum(bool(d.error) for d in descents)} failed, {passing} end below {gate:g} "
        f"eV/atom above the hull ({passing / len(descents):.1%})\n"
    )
    return rows.iloc[: len(descents)].reset_index(drop=True), descents


def _bound(references: References, ladder: Ladder) -> DescentBound:
    return descent_bound(references.potential.name, references.potential.sha256, ladder.relaxing.optimizer)


def highest_share(lost: int, number: int, confidence: float) -> float:
    """Upper bound on a share of which ``lost`` of ``number`` were seen (Clopper and Pearson, Biometrika 26, 404)."""
    return 1.0 if lost == number else float(beta.ppf(confidence, lost + 1, number - lost))


def print_losses(descents: Sequence[Descent], judged: pd.DataFrame, ladder: Ladder, references: References) -> bool:
    """What each step of the ladder loses of the candidates that pass, the gate's recall, and evaluations."""
    passing = passes(descents, ladder.relaxing.give_up_above)
    number = int(passing.sum())
    bound = _bound(references, ladder)
    left = [left_after(d, bound) for d in descents]
    given_up = np.array([t is not None for t in left])
    kept = passes_one_shot(judged, ladder.one_shot)
    whole = np.array([len(d.energies) for d in descents])
    spent = np.where(kept, [w if t is None else t for w, t in zip(whole, left, strict=True)], 0)
    gate = ladder.one_shot.gates["energy_above_hull_estimate"].upper
    print(f"What is lost of the {number} that pass; bounds of Clopper and Pearson:\n")
    rows = []
    losses = {f"one-shot gate, {gate:g} eV/atom": ~kept, "giving up": kept & given_up, "in all": ~kept | given_up}
    for name, out in losses.items():
        lost = int((out & passing).sum())
        bounds = [f"{highest_share(lost, number, c):.2%}" for c in (0.95, 0.975)]
        rows.append((name, f"{out.mean():.1%}", lost, f"{lost / number:.2%}", *bounds))
    table("step | candidates left out | passing lost | share | 95 % bound, one-sided | two-sided", rows)
    estimates = judged["energy_above_hull_estimate"].to_numpy(dtype=float)
    rows = []
    for threshold in GATES:
        inside = estimates < threshold
        found = int((inside & passing).sum())
        lowest = 1.0 - highest_share(number - found, number, 0.95)
        rows.append((f"{threshold:.1f}", f"{inside.mean():.1%}", found, f"{found / number:.1%}", f"{lowest:.1%}"))
    table("one-shot gate, eV/atom | kept | passing kept | recall | at least (95 %, one-sided)", rows)
    print(
        f"evaluations a candidate: {whole.mean():.1f} without the ladder ({whole[passing].mean():.1f} of those that "
        f"pass, {whole[~passing].mean():.1f} of the others), {spent.mean():.1f} with it: "
        f"{whole.sum() / spent.sum():.2f} times fewer\n"
    )
    lost = int((losses["in all"] & passing).sum())
    highest = highest_share(lost, number, 0.95)
    return told(
        f"at most {MOST_LOST:.0%} of at least 300 that pass lost: {lost} of {number}, 95 % bound {highest:.2%}",
        number >= 300 and highest <= MOST_LOST,
    )


def print_times(
    rows: pd.DataFrame,
    descents: Sequence[Descent],
    judged: pd.DataFrame,
    ladder: Ladder,
    references: References,
    options: argparse.Namespace,
) -> bool:
    """The three ways in turn, in one fresh process of one thread."""
    size = options.slice or ladder.relaxing.chunk_size
    starts = list(range(0, min(options.timed, len(rows)), size))
    wanted = min(-(-options.peer // size), len(starts))
    with_peer = {starts[i] for i in np.linspace(0, len(starts) - 1, wanted).astype(int)}
    slices: dict[str, dict[int, Slice]] = {side: {} for side in SIDES}
    with workers(1) as (pool,):
        pool.submit(warm_up, ladder, rows.iloc[-2:]).result()
        for turn, start in enumerate(starts):
            part = rows.iloc[start : start + size].reset_index(drop=True)
            for side in list(SIDES) if turn % 2 else list(SIDES)[::-1]:
                if side != PEER or start in with_peer:
                    slices[side][start] = pool.submit(SIDES[side], ladder, part).result()
        alone = pool.submit(one_shot, ladder, rows.iloc[: len(starts) * size]).result()
    print(
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}; slices of {size} candidates; core-seconds are the "
        f"processor's. The one-shot estimate takes {1000 * alone.cpu / alone.number:.1f} ms of a core a candidate.\n"
    )
    shared = sorted(with_peer)
    for chosen in (shared, starts):
        sides = [side for side in SIDES if all(start in slices[side] for start in chosen)]
        first = _rate([slices[sides[0]][start] for start in chosen])
        lines = []
        for side in sides:
            parts = [slices[side][start] for start in chosen]
            seconds = [sum(getattr(p, clock) for p in parts) for clock in ("cpu", "wall")]
            rate = _rate(parts)
            number = sum(p.number for p in parts)
            lines.append((side, number, *(f"{s:.1f}" for s in seconds), f"{rate:.3f}", f"{rate / first:.2f}"))
        table("side | candidates | core-s | s on the clock | decided/core-s | ratio", lines)
    off_on = _rate([slices[ON][s] for s in starts]) / _rate([slices[OFF][s] for s in starts])
    peer = _rate([slices[PEER][s] for s in shared])
    direct = _rate([slices[ON][s] for s in shared]) / peer
    off = _rate([slices[OFF][s] for s in shared]) / peer
    print(
        f"ladder on to off: {off_on:.2f}; ladder off to the peer: {off:.1f}; ladder on to the peer: {direct:.1f} on "
        f"the same candidates, {off * off_on:.1f} as the product of the two"
    )
    agrees = _agrees(slices, descents, judged, ladder, references)
    ratio = min(direct, off * off_on)
    met = told(f"ladder on: {ratio:.1f} times the candidates of the peer a core-second", ratio >= LEAST_RATIO)
    return met and agrees


def _rate(parts: Sequence[Slice]) -> float:
    return sum(p.number for p in parts) / sum(p.cpu for p in parts)


def _agrees(
    slices: dict[str, dict[int, Slice]],
    descents: Sequence[Descent],
    judged: pd.DataFrame,
    ladder: Ladder,
    references: References,
) -> bool:
    """Whether the timed stages did what the records say, to the last bit."""
    bound = _bound(references, ladder)
    kept = dict(zip(judged["candidate_id"], passes_one_shot(judged, ladder.one_shot), strict=True))
    known = {d.candidate_id: d for d in descents}
    other, given_up, seen = [], 0, 0
    for side in (OFF, ON):
        for part in slices[side].values():
            for row in part.table.to_dict("records"):
                name, seen = row["candidate_id"], seen + 1
                left = left_after(known[name], bound) if side == ON else None
                if left is not None:
                    given_up += 1
                    same = row["relaxation_given_up"] and row["relaxation_steps"] + 1 == left
                elif known[name].error:
                    same = row["stability_status"] == "failed"
                else:
                    same = not row["relaxation_given_up"] and row["energy_above_hull"] == known[name].energy_above_hull
                if not same or (side == ON and not kept[name]):
                    other.append(name)
    return told(
        f"the {seen} timed relaxations did what the records say ({given_up} given up, at the same evaluation); "
        f"otherwise: {', '.join(other) or 'none'}",
        not other,
    )


if __name__ == "__main__":
    sys.exit(main())
