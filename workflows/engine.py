"""Send planned units to the cluster, a few at a time, and commit what comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow as pa
from distributed import Client
from distributed.scheduler import KilledWorker

from pipeline import schema
from pipeline.atomic_files import is_storage_trouble
from pipeline.settings import StageSettings
from workflows.files import RunStoppedError
from workflows.in_flight import InFlight
from workflows.store import StageStore, Unit
from workflows.watchdog import TimeLimit, UnitTimeoutError
from workflows.worker import UnitResult, result_columns, run_stage_unit

TRIES = 2
"""Times that a row, or a unit of a source, may hang alone; one whose worker dies has had three workers by then."""

Committed = Callable[[Unit, UnitResult], None]
Say = Callable[[str], None]
StageTask = Callable[[StageSettings, pd.DataFrame, str], UnitResult]
"""What a worker runs for a piece of a unit: settings, rows, and the stage's workspace."""


@dataclass
class _Job:
    """A unit on its way: the pieces still to be computed, and those that came back."""

    unit: Unit
    waiting: int = 1
    results: list[tuple[int, UnitResult]] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """Rows of a unit, from ``start`` on, or all of it; how often they have hung, and whether they have raised."""

    job: _Job
    start: int
    part: pd.DataFrame
    hung: int = 0
    is_whole: bool = False
    raised: bool = False

    def halves(self) -> tuple[_Piece, _Piece]:
        half = len(self.part) // 2
        return (
            _Piece(self.job, self.start, self.part.iloc[:half]),
            _Piece(self.job, self.start + half, self.part.iloc[half:]),
        )


def compute_units(
    client: Client,
    store: StageStore,
    units: Iterable[Unit],
    submit: Callable[[Unit], tuple[Callable[..., UnitResult], tuple[Any, ...]]],
    committed: Committed,
    limit: TimeLimit,
    *,
    say: Say | None = None,
) -> None:
    """Compute units of a source (the candidates): an exception there is the run's, not a row's.

    Raises
    ------
    RunStoppedError
        When the unit's workers die, or it hangs again on another one, or the scheduler is lost.
    """
    waiting = deque((unit, 0) for unit in units)
    under_way: InFlight[tuple[Unit, int]] = InFlight(client, str(store.hanging()), say=say)
    while waiting or under_way:
        while waiting and under_way.has_room():
            unit, hung = waiting.popleft()
            function, arguments = submit(unit)
            under_way.submit((unit, hung), store.step, limit.seconds(1), function, *arguments)
        (unit, hung), result, error = under_way.next()
        if isinstance(error, UnitTimeoutError) and hung + 1 < TRIES:
            waiting.appendleft((unit, hung + 1))
            continue
        if isinstance(error, KilledWorker | UnitTimeoutError):
            raise RunStoppedError(
                f"unit {unit.number} of {store.step} ended its workers ({error}); give them more memory "
                "(cluster.memory_limit), or more time (run.unit_timeout)"
            )
        if error is not None:
            raise error
        store.commit(unit, result.table, result.note)
        limit.learn({**result.note, "rows": 1})
        committed(unit, result)


def compute_rows(
    client: Client,
    store: StageStore,
    settings: StageSettings,
    units: Iterable[tuple[Unit, pd.DataFrame]],
    committed: Committed,
    limit: TimeLimit,
    *,
    resources: dict[str, float] | None = None,
    run: StageTask | None = None,
    say: Say | None = None,
) -> None:
    """Compute units of a stage, on workers that have the resources.

    A unit whose task raises, hangs twice, or ends its workers is cut in halves until the guilty row stands alone; that
    row comes back failed, the others as if it had not been there. The unit is still committed as one part.
    ``run`` computes a piece; by default the stage itself. Units are taken from the iterable when there is room for
    them: the rows of a hundred thousand are never in memory at once.

    Raises
    ------
    SchedulerLostError
        When the scheduler is gone; what is under way then is computed again by the next run.
    OtherRunError
        When the workers have another run's references by now.
    OSError
        When a disk is full or broken, here or at a worker: no row is to blame for it.
    """
    waiting = (_Piece(_Job(unit), 0, part, is_whole=True) for unit, part in units)
    pieces: deque[_Piece] = deque(islice(waiting, 1))
    under_way: InFlight[_Piece] = InFlight(client, str(store.hanging()), resources, say)
    workspace = str(store.workspace())
    while pieces or under_way:
        while pieces and under_way.has_room():
            piece = pieces.popleft()
            if not pieces:
                pieces.extend(islice(waiting, 1))
            seconds = limit.seconds(len(piece.part))
            under_way.submit(piece, store.step, seconds, run or run_stage_unit, settings, piece.part, workspace)
        piece, result, error = under_way.next()
        job = piece.job
        if error is not None:
            again = _tried_again(piece, error)
            if again:
                pieces.extend(again)
                job.waiting += len(again) - 1
                continue
            result = _failed(settings, piece.part, error)
        limit.learn(result.note)
        job.results.append((piece.start, result))
        job.waiting -= 1
        if job.waiting == 0:
            whole = _joined(job)
            store.commit(job.unit, whole.table, whole.note)
            committed(job.unit, whole)


def _tried_again(piece: _Piece, error: BaseException) -> tuple[_Piece, ...]:
    """What to compute after an error: a unit or a lone row once more, the halves of several rows, or nothing.

    A lone row of a larger unit was there before, among others; one that is a unit raises twice before it is to blame.

    A unit is not cut before it has hung twice: some potentials give other last digits with other companions.
    """
    if is_storage_trouble(error) or isinstance(error, RunStoppedError):
        raise error
    is_alone = len(piece.part) == 1
    if isinstance(error, UnitTimeoutError) and (piece.is_whole or is_alone) and piece.hung + 1 < TRIES:
        return (replace(piece, hung=piece.hung + 1),)
    if is_alone and piece.is_whole and not piece.raised and not isinstance(error, KilledWorker | UnitTimeoutError):
        return (replace(piece, raised=True),)
    return () if is_alone else piece.halves()


def _failed(settings: StageSettings, part: pd.DataFrame, error: BaseException) -> UnitResult:
    """One row that could not be computed, as data."""
    if isinstance(error, KilledWorker):
        text = "WorkerDied: the worker process died each time it computed this candidate (out of memory?)"
    elif isinstance(error, UnitTimeoutError):
        # Without the number of seconds, which depends on the machine: a failed row has the same bytes in every run.
        text = f"Timeout: not finished in time, tried {TRIES} times; run.unit_timeout gives a unit more"
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
    own = ordered[0].note if len(ordered) == 1 else {}
    return UnitResult(table, {**own, "seconds": seconds, "rows": table.num_rows})
