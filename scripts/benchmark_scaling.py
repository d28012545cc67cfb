"""Throughput of a stage with one worker and with several, and what Dask costs.

Runs a campaign from nothing in a fresh folder for each number of workers, in turn, ``--rounds`` times. A stage's wall
time goes from its first submission to its last commit; its busy time is what its units took inside their workers,
models loaded included. Overhead is the share of ``workers * wall`` that no unit used: sending, waiting for the client's
commits, and workers that idle while the last units end.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from relaxation_tables import table, told
from rich.console import Console

from pipeline import schema
from pipeline.config import Campaign, load_campaign
from workflows.progress import ProgressView
from workflows.session import run_campaign

CONFIG = Path(__file__).parents[1] / "configs" / "halides.yaml"
LEAST_SPEEDUP, MOST_OVERHEAD = 0.9, 0.05  # share of the ideal speed-up; share of the workers' time


class StageClock(ProgressView):
    """A silent view that notes when each step begins and when its last unit is committed."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def start(self, step: str, total: int, done: int) -> None:
        """Note the time at which a step begins."""
        super().start(step, total, done)
        self.began[step] = self.ended[step] = time.perf_counter()

    def advance(self, rows: int) -> None:
        """Note the time at which a unit is committed."""
        super().advance(rows)
        self.ended[self._step] = time.perf_counter()


def main() -> int:
    options = _options()
    campaign = _cut(load_campaign(options.config), options.elements, options.stage)
    print(f"{platform.machine()}, Python {platform.python_version()}; {campaign.name}, up to {options.stage}\n")
    measured = []
    for round_ in range(options.rounds):
        for workers in options.workers:
            measured.append(
                {"round": round_ + 1, **timed_run(campaign, options.config, options.stage, workers, options.keep)}
            )
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in measured[-1].items()))
    best = pd.DataFrame(measured).sort_values("wall_s").drop_duplicates("workers").sort_values("workers")
    print_best(best)
    alone = best.iloc[0]
    ideal = best["workers"] / alone["workers"]
    share = float((best["rows_per_s"] / alone["rows_per_s"] / ideal).min())
    overhead = float(best["overhead"].max())
    met = told(f"at least {LEAST_SPEEDUP:.0%} of the ideal speed-up ({share:.1%})", share >= LEAST_SPEEDUP)
    met &= told(f"overhead of at most {MOST_OVERHEAD:.0%} ({overhead:.1%})", overhead <= MOST_OVERHEAD)
    return int(not met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign")
    parser.add_argument("--stage", default="stability", help="step that is timed; the campaign ends with it")
    parser.add_argument("--elements", nargs="+", help="cut the campaign to these; default: all of its own")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="local workers of each run")
    parser.add_argument("--rounds", type=int, default=1, help="times that each number is run; the fastest is taken")
    parser.add_argument("--keep", type=Path, help="folder for the run folders, which are deleted otherwise")
    return parser.parse_args()


def _cut(campaign: Campaign, elements: list[str] | None, stage: str) -> Campaign:
    """The campaign up to a step, with fewer elements."""
    steps = [s.step for s in campaign.stages]
    if stage not in steps:
        raise ValueError(f"--stage {stage}: campaign {campaign.name!r} has {', '.join(steps)}")
    kept = campaign.stages[: steps.index(stage) + 1]
    kinds = {"candidates", *(s.stage for s in kept)}
    ranking = campaign.ranking.model_copy(
        update={
            "score": tuple(term for term in campaign.ranking.score if schema.column(term.column).stage in kinds),
            "pareto": tuple(axis for axis in campaign.ranking.pareto if schema.column(axis.column).stage in kinds),
        }
    )
    chosen = campaign.candidates.model_copy(update={"elements": tuple(elements)} if elements else {})
    return campaign.model_copy(update={"stages": kept, "ranking": ranking, "candidates": chosen})


def timed_run(campaign: Campaign, config: Path, stage: str, workers: int, keep: Path | None) -> dict[str, Any]:
    """Run the campaign from nothing; rows, wall and busy time, rate and overhead of a step."""
    cluster = campaign.cluster.model_copy(update={"workers": workers})
    clock = StageClock()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(keep or scratch) / f"{campaign.name}-{workers}-workers"
        shutil.rmtree(folder, ignore_errors=True)
        run_campaign(campaign.model_copy(update={"cluster": cluster}), config, folder, clock)
        events = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    units = [event for event in events if event["event"] == "unit" and event["step"] == stage]
    wall = clock.ended[stage] - clock.began[stage]
    busy = sum(unit["seconds"] for unit in units)
    rows = sum(unit["rows"] for unit in units)
    return {
        "workers": workers,
        "units": len(units),
        "rows": rows,
        "wall_s": wall,
        "busy_s": busy,
        "rows_per_s": rows / wall,
        "overhead": 1.0 - busy / (workers * wall),
    }


def print_best(best: pd.DataFrame) -> None:
    """The fastest run of each number of workers, and its speed beside the first one's."""
    first = best.iloc[0]
    rows = [
        [
            str(run.workers),
            str(run.units),
            f"{run.rows:,}",
            f"{run.wall_s:.1f}",
            f"{run.busy_s:.1f}",
            f"{run.rows_per_s:.2f}",
            f"{run.rows_per_s / first.rows_per_s:.2f}",
            f"{run.overhead:.1%}",
        ]
        for run in best.itertuples()
    ]
    print()
    table("workers | units | rows | wall, s | busy, s | rows/s | speed-up | overhead", rows)


if __name__ == "__main__":
    raise SystemExit(main())
