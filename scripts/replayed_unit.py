"""A unit of a stage whose work is a pause: what a simulated worker runs, and the processes that hold such workers."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Worker

from pipeline.settings import StageSettings
from workflows.worker import UnitResult

REPLAY = "IONSIEVE_REPLAY"
"""Names the folder with ``results.parquet``, rows the stage made, and ``seconds.npy``, what a row of each unit took."""
SPAN = "span"
"""Metadata of a unit's table: when it began and ended, as JSON."""


@cache
def _recorded() -> tuple[pa.Table, np.ndarray]:
    folder = Path(os.environ[REPLAY])
    return pq.read_table(folder / "results.parquet"), np.load(folder / "seconds.npy")


def replayed_unit(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
    """Take as long as a recorded unit took a row, times the rows of this one; return recorded rows under its ids.

    Which recorded unit is drawn depends on the first id alone, so two simulations have the same work.
    """
    started = time.time()
    table, seconds = _recorded()
    chance = np.random.default_rng(int(part["candidate_id"].iloc[0]))
    time.sleep(float(chance.choice(seconds)) * len(part))
    first = int(chance.integers(max(1, table.num_rows - len(part))))
    rows = table.slice(first, len(part))
    place = rows.column_names.index("candidate_id")
    rows = rows.set_column(place, "candidate_id", pa.array(part["candidate_id"].to_list()[: rows.num_rows]))
    ended = time.time()
    rows = rows.replace_schema_metadata({SPAN: json.dumps([started, ended])})
    return UnitResult(rows, {"seconds": ended - started, "rows": len(part)})


def _without_watchdog() -> None:
    """Leave out the timer that ends a worker which hangs: a process has one, and its workers would share it."""
    faulthandler.dump_traceback_later = lambda *_, **__: None
    faulthandler.cancel_dump_traceback_later = lambda: None


async def _hold(scheduler: str, workers: int) -> None:
    held = [Worker(scheduler, nthreads=1, memory_limit=0, dashboard=False) for _ in range(workers)]
    await asyncio.gather(*held)
    await asyncio.gather(*(worker.finished() for worker in held))


if __name__ == "__main__":
    # The same module as the client's, so that tasks name `replayed_unit` and do not carry it.
    _without_watchdog()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    asyncio.run(_hold(sys.argv[1], int(sys.argv[2])))
