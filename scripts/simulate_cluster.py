"""How many workers one scheduler and client keep busy: a stage of a real run, replayed on simulated workers.

The scheduler, the client, the engine, the run folder's commits and the sizes of all messages are real; a worker only
waits as long as the recorded stage took. Simulated workers share this machine with the scheduler and the client, which
in a campaign have it for themselves, so the shares are lower bounds. A share counts from the moment at which every
worker has had its first unit to the moment at which no unit waits any more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from relaxation_tables import table, told
from replayed_unit import REPLAY, SPAN, replayed_unit

from pipeline.config import load_campaign
from pipeline.settings import StageSettings
from workflows.cluster import scheduler_rules
from workflows.engine import compute_rows
from workflows.store import StageStore, Unit
from workflows.views import read_steps
from workflows.watchdog import TimeLimit
from workflows.worker import UnitResult

LEAST_BUSY = 0.90
# What a worker does for itself many times a second, on a node of its own: here a thousand would do it on these cores.
OWN_NODE = {
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "10s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "60s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}


def main() -> int:
    options = _options()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {options.workers} workers\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        settings, rows, seconds = record(options.run, options.stage, Path(scratch))
        print(
            f"stage {options.stage} of {options.run.name} on {options.workers} simulated workers: {len(seconds)} units "
            f"recorded, {seconds.mean():.3f} s a row, divided by {options.faster:g}\n"
        )
        np.save(Path(scratch) / "seconds.npy", seconds / options.faster)
        with simulated_workers(options.workers, options.processes, scratch) as client:
            found = [
                replay(client, settings, rows, Path(scratch), chunk, options.units * options.workers)
                for chunk in options.chunks
            ]
    _print(found)
    best = max(found, key=lambda f: f["busy"])
    text = f"{best['busy']:.1%} of {options.workers} workers busy at {best['chunk']} rows a unit"
    return int(not told(text, best["busy"] >= LEAST_BUSY))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run whose stage is replayed")
    parser.add_argument("--stage", default="stability", help="step of that run")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--chunks", type=int, nargs="+", default=[16, 64, 256], help="rows a unit")
    parser.add_argument("--units", type=int, default=5, help="units for each worker")
    parser.add_argument("--faster", type=float, default=1.0, help="speed of a worker in units of the recorded ones")
    parser.add_argument("--processes", type=int, default=8, help="processes that hold the simulated workers")
    return parser.parse_args()


def record(run: Path, stage: str, folder: Path) -> tuple[StageSettings, pd.DataFrame, np.ndarray]:
    """The stage's settings, rows as they entered it, and the seconds a row that each of its units took."""
    steps = {step["step"]: step for step in read_steps(run)}
    if stage not in steps:
        raise ValueError(f"{run} has no step {stage!r}; it has {', '.join(steps)}")
    settings = next(s for s in load_campaign(run / "config.yaml").stages if s.step == stage)
    store, first = (StageStore(run, name, steps[name]["digest"]) for name in (stage, "candidates"))
    notes = [note for note in store.notes() if note.get("seconds") and note.get("rows")]
    if not notes:
        raise ValueError(f"{run}: step {stage} has no unit with a time; run the campaign in a fresh folder")
    pq.write_table(_table(store), folder / "results.parquet")
    return settings, _table(first).to_pandas(), np.array([note["seconds"] / note["rows"] for note in notes])


def _table(store: StageStore) -> pa.Table:
    tables = [store.read(unit)[0].replace_schema_metadata(None) for unit in store.units() if store.is_done(unit)]
    return pa.concat_tables(tables, promote_options="permissive")


@contextmanager
def simulated_workers(workers: int, processes: int, recorded: str) -> Iterator[Client]:
    """A scheduler in this process, as in a run, and workers that lie in a few other ones."""
    share = [workers // processes + (i < workers % processes) for i in range(processes)]
    environment = {**os.environ, **OWN_NODE, REPLAY: recorded}
    with (
        dask.config.set(scheduler_rules("local")),
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs=40) as cluster,
        Client(cluster) as client,
    ):
        command = [sys.executable, replayed_unit.__code__.co_filename, cluster.scheduler_address]
        held = [subprocess.Popen([*command, str(count)], env=environment) for count in share if count]
        try:
            client.wait_for_workers(workers, timeout=600)
            yield client
        finally:
            for process in held:
                process.kill()


def replay(
    client: Client, settings: StageSettings, rows: pd.DataFrame, scratch: Path, chunk: int, units: int
) -> dict[str, Any]:
    """Send units of one size through the engine; what share of the workers' time was used, and by whom the rest."""
    store = StageStore(scratch / f"chunk-{chunk}", settings.step, "0" * 64)
    planned = store.plan([[f"{i:012d}" for i in range(n * chunk, (n + 1) * chunk)] for n in range(units)])
    spans: list[tuple[float, float]] = []
    commits: list[float] = []

    def committed(unit: Unit, result: UnitResult) -> None:
        spans.append(tuple(json.loads(result.table.schema.metadata[SPAN.encode()])))
        commits.append(time.time())

    def parts() -> Iterator[tuple[Unit, pd.DataFrame]]:
        for unit in planned:
            places = np.arange(unit.number * chunk, (unit.number + 1) * chunk) % len(rows)
            yield unit, rows.iloc[places].assign(candidate_id=unit.work).reset_index(drop=True)

    process, began = psutil.Process(), time.time()
    before = process.cpu_times()
    compute_rows(client, store, settings, parts(), committed, TimeLimit(None, settings.stage), run=replayed_unit)
    used = process.cpu_times()
    wall, workers = time.time() - began, len(client.scheduler_info(n_workers=-1)["workers"])
    starts, ends = (np.sort(times) for times in zip(*spans, strict=True))
    first, last = starts[workers - 1], starts[-1]  # every worker has had one; none waits any more
    inside = sum(max(0.0, min(e, last) - max(s, first)) for s, e in spans)
    return {
        "chunk": chunk,
        "unit_s": float(np.mean(ends - starts)),
        "units_per_s": float(((starts > first) & (starts <= last)).sum() / (last - first)),
        "busy": inside / (workers * (last - first)),
        "busy_whole": sum(e - s for s, e in spans) / (workers * wall),
        "client": (used.user + used.system - before.user - before.system) / wall,
        "client_ms": 1e3 * (used.user + used.system - before.user - before.system) / units,
    }


def _print(found: list[dict[str, Any]]) -> None:
    rows = [
        [
            f["chunk"],
            f"{f['unit_s']:.2f}",
            f"{f['units_per_s']:.0f}",
            f"{f['busy']:.1%}",
            f"{f['busy_whole']:.1%}",
            f"{f['client']:.0%}",
            f"{f['client_ms']:.1f}",
        ]
        for f in found
    ]
    table("rows a unit | s a unit | units/s | busy | busy, ends included | client, of a core | client, ms a unit", rows)


if __name__ == "__main__":
    raise SystemExit(main())
