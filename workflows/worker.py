"""What runs inside a Dask worker: references loaded once, then one unit at a time."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from distributed import Worker, WorkerPlugin, get_worker
from distributed.core import Status

from pipeline import schema
from pipeline.broken_device import is_broken_device
from pipeline.references import References
from pipeline.settings import StageSettings
from workflows.admission import REFUSED, Requirements
from workflows.batch_jobs import JOB_STARTED
from workflows.gpu_workers import take_own_gpu
from workflows.provenance import this_machine

_log = logging.getLogger(__name__)

PLUGIN = "ionsieve-references"
EXIT_BROKEN_DEVICE = 75


class ReferencesPlugin(WorkerPlugin):
    """Give every worker the campaign's references; models and tables load on first use and stay.

    A worker that does not meet the requirements is closed before it gets a task, whenever it comes. ``folder`` is that
    of the run whose references they are (see `workflows.watchdog.watched`).
    """

    name = PLUGIN

    def __init__(
        self,
        references: References | None,
        threads: int,
        requirements: Requirements | None = None,
        folder: Path | None = None,
    ) -> None:
        self.references = references
        self.threads = threads
        self.requirements = requirements
        self.folder = folder

    async def setup(self, worker: Worker) -> None:
        """Prepare a worker. Dask awaits this before it hands out the first task.

        Ctrl-C is left to the client: the terminal sends it to the workers too.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.getLogger("distributed.worker").addFilter(_without_traceback)
        _end_with_job(worker)
        own_gpu = take_own_gpu(str(worker.name))
        unmet = [own_gpu] if own_gpu else []
        if self.requirements is not None:
            unmet += await asyncio.to_thread(self.requirements.unmet, worker.state.total_resources)
        if unmet:
            await _refuse(worker, unmet)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say that the scheduler does not answer, as it ends, without where in Dask that was noticed."""
    if isinstance(record.msg, str) and record.msg.startswith("Failed to communicate with scheduler"):
        record.exc_info = record.exc_text = None
    return True


async def _refuse(worker: Worker, unmet: list[str]) -> None:
    """Close a worker that must not compute.

    The scheduler lets go of it first, so that no task is blamed, and what it has sent already is not begun. The nanny
    answers only when this worker has started, so closing must not be awaited here.
    """
    text = "; ".join(unmet)
    _log.error("ionsieve refuses this worker (%s): %s", worker.address, text)
    await worker.scheduler.log_event(topic=REFUSED, msg={"worker": worker.address, "unmet": text})
    await worker.scheduler.retire_workers(workers=[worker.address], close_workers=False, remove=True)
    worker.status = Status.paused
    worker.io_loop.add_callback(worker.close, nanny=True, reason="ionsieve-refused")


def _end_with_job(worker: Worker) -> None:
    """End before the job does: a worker that its nanny started anew would live a whole lifetime from now."""
    started = os.environ.get(JOB_STARTED)
    if started is None or not worker.lifetime:
        return
    left = max(float(started) + worker.lifetime - time.time(), 1.0)
    worker.io_loop.call_later(left, worker.close_gracefully, reason="worker-lifetime-reached")


def worker_references() -> References:
    """References of the worker that runs this task."""
    plugin = get_worker().plugins[PLUGIN]
    # Before torch is loaded its number of threads comes from the environment, and enumeration never loads it.
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != plugin.threads:
        torch.set_num_threads(plugin.threads)
    return plugin.references  # type: ignore[no-any-return]


@dataclass(frozen=True)
class UnitResult:
    """A computed unit: the declared columns, and a note for the log.

    ``whole`` stands there where all rows were computed together, ``machine`` where their last digits may hang on it.
    """

    table: pa.Table
    note: dict[str, Any]


def stage_module(stage: str) -> Any:
    """Module of a stage: ``pipeline.stages.<stage>``."""
    return importlib.import_module(f"pipeline.stages.{stage}")


def result_columns(stage: str, frame: pd.DataFrame) -> list[str]:
    """Columns that a stage's parts keep: the id, the declared ones, and its per-ion ones."""
    declared = [c.name for c in schema.columns_of(stage)]
    own = [n for n in frame.columns if n not in declared and n != "candidate_id" and _is_stages(n, stage)]
    return ["candidate_id", *declared, *own]


def _is_stages(name: str, stage: str) -> bool:
    try:
        return schema.column(name).stage == stage
    except KeyError:
        return False


def run_stage_unit(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
    """Run one stage on one unit's rows; a process whose GPU answers no more ends, and Dask starts another one."""
    started = time.perf_counter()
    try:
        result = stage_module(settings.stage).run(part, settings, worker_references(), Path(workspace))
    except RuntimeError as error:
        if is_broken_device(error):
            _log.error("this worker ends, since its GPU answers no more: %s", error)
            os._exit(EXIT_BROKEN_DEVICE)
        raise
    if list(result["candidate_id"]) != list(part["candidate_id"]):
        raise RuntimeError(f"stage {settings.stage} changed the rows of its part; a stage must keep them")
    table = schema.to_arrow(result, result_columns(settings.stage, result))
    seconds = round(time.perf_counter() - started, 3)
    return UnitResult(table, {"seconds": seconds, "rows": len(part), "whole": True, "machine": this_machine()})


def run_candidates_unit(work: dict[str, Any]) -> UnitResult:
    """Enumerate one unit of the candidates source."""
    from pipeline.stages import candidates

    started = time.perf_counter()
    refs = worker_references()
    table, counts = candidates.enumerate_table(work, refs.campaign.candidates, refs.library, refs.mobile_ions)
    note = {
        "seconds": round(time.perf_counter() - started, 3),
        "rows": table.num_rows,
        "counts": json.loads(json.dumps(counts)),
    }
    return UnitResult(table, note)
