"""Send planned units to the cluster, a few at a time, and commit what comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from pipeline import schema
from pipeline.settings import StageSettings
from workflows.gpu_workers import workers_with
from workflows.store import StageStore, Unit
from workflows.worker import UnitResult, result_columns, run_stage_unit

# Futures kept with the scheduler for each worker: one runs, the others wait, so that no worker idles.
WINDOW_PER_WORKER = 3

Committed = Callable[[Unit, UnitResult], None]


@dataclass
class _Job:
    """A unit on its way: the pieces still to be computed, and those that came back."""

    unit: Unit
    waiting: int = 0
    results: list[tuple[int, UnitResult]] = field(default_factory=list)


def compute_units(
    client: Client,
    store: StageStore,
    units: Iterable[Unit],
    submit: Callable[[Unit], tuple[Callable[..., UnitResult], tuple[Any, ...]]],
    committed: Committed,
) -> None:
    """Compute units of a source (the candidates): an exception there is the run's, not a row's."""
    waiting = deque(units)
    pending: dict[Future, Unit] = {}
    queue = as_completed()
    while waiting or pending:
        while waiting and len(pending) < _window(client):
            unit = waiting.popleft()
            function, arguments = submit(unit)
            future = client.submit(function, *arguments, pure=False)
            pending[future] = unit
            queue.add(future)
        future = next(queue)
        unit = pending.pop(future)
        result: UnitResult = future.result()
        store.commit(unit, result.table, result.note)
        committed(unit, result)


def compute_rows(
    client: Client,
    store: StageStore,
    settings: StageSettings,
    units: Iterable[tuple[Unit, pd.DataFrame]],
    committed: Committed,
    resources: dict[str, float] | None = None,
) -> None:
    """Compute units of a stage, on workers that have the resources.

    A unit whose task raises, or whose worker dies, is cut in halves until the guilty row stands alone; that row
    comes back failed, the others as if it had not been there. The unit is still committed as one part.
    """
    waiting = deque(units)
    pieces: deque[tuple[_Job, int, pd.DataFrame]] = deque()
    pending: dict[Future, tuple[_Job, int, pd.DataFrame]] = {}
    queue = as_completed()
    workspace = str(store.workspace())
    while waiting or pieces or pending:
        while (waiting or pieces) and len(pending) < _window(client, resources):
            if not pieces:
                unit, part = waiting.popleft()
                pieces.append((_Job(unit, waiting=1), 0, part))
            job, start, part = pieces.popleft()
            future = client.submit(run_stage_unit, settings, part, workspace, pure=False, resources=resources)
            pending[future] = (job, start, part)
            queue.add(future)
        future = next(queue)
        job, start, part = pending.pop(future)
        error = future.exception()
        if error is not None and len(part) > 1:
            half = len(part) // 2
            pieces.append((job, start, part.iloc[:half]))
            pieces.append((job, start + half, part.iloc[half:]))
            job.waiting += 1
            continue
        result = future.result() if error is None else _failed(settings, part, error)
        job.results.append((start, result))
        job.waiting -= 1
        if job.waiting == 0:
            whole = _joined(job)
            store.commit(job.unit, whole.table, whole.note)
            committed(job.unit, whole)


def _window(client: Client, resources: dict[str, float] | None = None) -> int:
    """Futures to keep with the scheduler.

    Tasks that ask for resources are not held back by its worker-saturation: one more than there are workers keeps all
    of them busy, with hardly a task waiting inside of one.
    """
    workers = workers_with(client, resources)
    return workers + 1 if resources else WINDOW_PER_WORKER * max(1, workers)


def _failed(settings: StageSettings, part: pd.DataFrame, error: BaseException) -> UnitResult:
    """One row that could not be computed, as data."""
    if isinstance(error, KilledWorker):
        text = "WorkerDied: the worker process died each time it computed this candidate (out of memory?)"
    else:
        text = f"{type(error).__name__}: {error}"
    row: dict[str, Any] = {"candidate_id": part["candidate_id"].iloc[0]}
    for column in schema.columns_of(settings.stage):
        row[column.name] = [] if column.dtype.startswith("list") else None
    row[f"{settings.stage}_status"] = "failed"
    row[f"{settings.stage}_error"] = text
    frame = pd.DataFrame([row])
    return UnitResult(schema.to_arrow(frame, result_columns(settings.stage, frame)), {"seconds": 0.0, "rows": 1})


def _joined(job: _Job) -> UnitResult:
    ordered = [result for _, result in sorted(job.results, key=lambda item: item[0])]
    table = pa.concat_tables([r.table for r in ordered], promote_options="permissive")
    seconds = round(sum(r.note["seconds"] for r in ordered), 3)
    whole = len(ordered) == 1 and bool(ordered[0].note.get("whole"))
    return UnitResult(table, {"seconds": seconds, "rows": table.num_rows, "whole": whole})
