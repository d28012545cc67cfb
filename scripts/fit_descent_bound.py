"""Write pipeline/reference/descent_bounds.json: how far the energy of a relaxation may still fall.

Random candidates of a campaign are relaxed to their end with the campaign's settings, and the bound

    d(r) = floor + factor r

of pipeline/reference/descent_bounds.py is fitted to them. For each shape, window and ratio of floor to factor, the
scale is the smallest at which no more than ``--tolerated`` of the crystals that end below the gate can be expected to
be given up: with n of them, the k-th largest scale that one of them needs, k = tolerated (n + 1) rounded down, but at
least 1 (a new crystal needs more than the k-th largest of n with chance k / (n + 1)). That order statistic scatters,
and of the shapes the one is taken that spends the fewest evaluations, which is often one whose scale came out low by
chance: so all scales are multiplied by ``--headroom``. The printed cross-validation, shape included, says what is lost
then; ``scripts/measure_ladder.py`` measures it on a draw of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from random_candidates import campaign_references, random_candidates
from recorded_descents import Descent, engine, left_after, passes, record, stability_settings

from pipeline.reference.descent_bounds import FILE, DescentBound

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
OUTPUT = Path(__file__).parents[1] / "pipeline" / "reference" / FILE
WINDOWS = (6, 8, 10, 12, 15, 18, 20, 25, 30)
FLOORS = (0.003, 0.006, 0.01, 0.02, 0.03, 0.05, 0.1)
"""eV/atom, for a factor of 1; the scale multiplies both."""
FOLDS = 10


def main() -> int:
    options = _options()
    references = campaign_references(options.config)
    settings = stability_settings(references)
    gate = settings.give_up_above
    assert gate is not None
    rows = random_candidates(references, options.count, options.seed, cache=options.cache)
    descents = [d for part in record(rows, references, settings, options.cache) for d in part]
    passing = passes(descents, gate)
    failed = sum(bool(d.error) for d in descents)
    print(f"{len(descents)} crystals relaxed, {failed} failed; {passing.sum()} end below {gate:g} eV/atom")
    print(f"evaluations: {np.mean([len(d.energies) for d in descents]):.1f} a crystal\n")
    print_late_falls(descents, passing)
    bound = fit(descents, passing, options.tolerated, options.headroom)
    lost, saved = cross_validate(descents, passing, options)
    print(f"{FOLDS}-fold cross-validation: {lost} of {passing.sum()} given up, {saved:.1%} of the evaluations saved")
    entry = {
        "sha256": references.potential.sha256,
        "floor": round(bound.floor, 6),
        "factor": round(bound.factor, 6),
        "window": bound.window,
        "optimizer": settings.optimizer,
        "fit": {
            "campaign": references.campaign.name,
            "engine": engine(references, settings),
            "seed": options.seed,
            "crystals": len(descents),
            "failed": failed,
            "passing": int(passing.sum()),
            "gate": gate,
            "tolerated": options.tolerated,
            "headroom": options.headroom,
            "cross_validated_lost": lost,
            "cross_validated_saved": round(saved, 4),
            "date": date.today().isoformat(),
        },
    }
    content: dict[str, Any] = {"models": {}}
    if options.output.exists():
        content = json.loads(options.output.read_text(encoding="utf-8"))
    content["generated_by"], content["unit"] = "scripts/fit_descent_bound.py", "eV/atom"
    content["models"][references.potential.name] = entry
    options.output.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    written = DescentBound(entry["floor"], entry["factor"], entry["window"], MappingProxyType(entry["fit"]))
    print_effect(descents, passing, written)
    print(f"wrote {options.output}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign whose candidates are relaxed")
    parser.add_argument("--count", type=int, default=1504, help="candidates")
    parser.add_argument("--seed", type=int, default=0, help="of the draw and of the folds")
    parser.add_argument("--tolerated", type=float, default=0.003, help="share of the passing that may be given up")
    parser.add_argument("--headroom", type=float, default=1.3, help="factor on the scale")
    parser.add_argument("--cache", type=Path, help="folder that keeps the draw and the relaxations; resumes there")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if not os.environ.get("IONSIEVE_DATA"):
        parser.error("set IONSIEVE_DATA: candidates are made of observed crystals")
    return options


def _heights(descent: Descent) -> np.ndarray:
    """(T - 1,) lowest energy so far above the ceiling, eV/atom; all but the last evaluation, which ends it anyway."""
    energies = descent.energies[: len(descent.energies) - (not descent.error)]
    return (np.minimum.accumulate(energies) - descent.ceiling) / descent.atoms


def _recent_drops(heights: np.ndarray, window: int) -> np.ndarray:
    """(T - 1,) r, eV/atom; infinite while there are not so many evaluations."""
    drops = np.full(len(heights), np.inf)
    drops[window:] = heights[:-window] - heights[window:]
    return drops


def fit(descents: Sequence[Descent], passing: np.ndarray, tolerated: float, headroom: float) -> DescentBound:
    """The bound that spends the fewest evaluations among those of the wanted scale."""
    heights = [_heights(d) for d in descents]
    number = int(passing.sum())
    rank = max(1, int(tolerated * (number + 1)))
    if rank > number:
        raise ValueError(f"{number} of {len(descents)} crystals pass: too few to fit a bound; raise --count")
    best: tuple[int, DescentBound] | None = None
    for window in WINDOWS:
        drops = [_recent_drops(h, window) for h in heights]
        for floor in FLOORS:
            # the scale at which each crystal is just not given up by each evaluation
            scales = [height / (floor + drop) for height, drop in zip(heights, drops, strict=True)]
            needed = sorted(float(s.max(initial=0.0)) for s, ends in zip(scales, passing, strict=True) if ends)
            scale = headroom * needed[-rank]
            spent = sum(_spent(s > scale, d) for s, d in zip(scales, descents, strict=True))
            if best is None or spent < best[0]:
                best = spent, DescentBound(scale * floor, scale, window, MappingProxyType({}))
    assert best is not None
    return best[1]


def _spent(hopeless: np.ndarray, descent: Descent) -> int:
    return int(hopeless.argmax()) + 1 if hopeless.any() else len(descent.energies)


def cross_validate(descents: Sequence[Descent], passing: np.ndarray, options: argparse.Namespace) -> tuple[int, float]:
    """How many of the passing are given up by bounds fitted without them, and the share of evaluations saved."""
    fold = np.random.default_rng(options.seed).permutation(len(descents)) % FOLDS
    lost, spent = 0, 0
    for k in range(FOLDS):
        others = [d for d, f in zip(descents, fold, strict=True) if f != k]
        bound = fit(others, passing[fold != k], options.tolerated, options.headroom)
        for i in np.flatnonzero(fold == k):
            left = left_after(descents[i], bound)
            lost += bool(passing[i] and left is not None)
            spent += len(descents[i].energies) if left is None else left
    return lost, 1.0 - spent / sum(len(d.energies) for d in descents)


def print_late_falls(descents: Sequence[Descent], passing: np.ndarray) -> None:
    """Why little can be given up: how high above the gate those that pass still were after so many evaluations."""
    print("height above the ceiling, eV/atom, after k evaluations: of those that pass, and of those that do not")
    print("     k   pass: median   90 %   99 %   largest    fail: 10 %   median")
    heights = [_heights(d) for d in descents]
    for k in (1, 5, 10, 20, 30, 40, 60):
        now = [
            np.array([h[min(k, len(h)) - 1] for h, p in zip(heights, passing, strict=True) if p == which and len(h)])
            for which in (True, False)
        ]
        numbers = [*np.quantile(now[0], (0.5, 0.9, 0.99, 1.0)), *np.quantile(now[1], (0.1, 0.5))]
        print("{:6d} {:14.3f} {:6.3f} {:6.3f} {:9.3f} {:13.3f} {:8.3f}".format(k, *numbers))
    print()


def print_effect(descents: Sequence[Descent], passing: np.ndarray, bound: DescentBound) -> None:
    left = [left_after(d, bound) for d in descents]
    given_up = np.array([t is not None for t in left])
    spent = sum(len(d.energies) if t is None else t for d, t in zip(descents, left, strict=True))
    saved = 1.0 - spent / sum(len(d.energies) for d in descents)
    print(
        f"d(r) = {bound.floor:g} + {bound.factor:g} r over {bound.window} evaluations; on the crystals of the fit "
        f"{given_up.sum()} of {len(descents)} given up, {(given_up & passing).sum()} of the passing; {saved:.1%} of "
        "the evaluations saved"
    )


if __name__ == "__main__":
    sys.exit(main())
