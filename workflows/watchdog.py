"""A task that hangs can't be cancelled in its thread: its worker is ended instead, after it has said where it hung."""

from __future__ import annotations

import errno
import faulthandler
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from distributed import get_worker

from workflows.files import RunStoppedError
from workflows.worker import PLUGIN

R = TypeVar("R")

AT_LEAST = 3600.0
"""Seconds that any unit gets, unless `run.unit_timeout` says otherwise."""
TIMES_THE_SLOWEST = 20.0
BEFORE_ANY = 86_400.0
"""Seconds for the first units of a step, of which nothing is known yet."""
DEAR_BEFORE_ANY = 7 * BEFORE_ANY
DEAR_STAGES = ("dynamics", "dft")


class UnitTimeoutError(Exception):
    """A unit was not finished in the time that it is given; the worker that computed it was ended."""


class OtherRunError(RunStoppedError):
    """The worker has the references of another run by now: what it computed would be filed under the wrong digest."""


class TimeLimit:
    """Seconds that a unit of one step may take: as configured, else 20 times what the slowest row so far suggests."""

    def __init__(self, configured: float | None, stage: str, notes: Iterable[dict[str, Any]] = ()) -> None:
        """Start with what is known.

        Parameters
        ----------
        configured
            `run.unit_timeout`, in s.
        stage
            Name of the stage.
        notes
            Notes of the units that are on disk, with their seconds and rows.
        """
        self._configured = configured
        self._limits_itself = stage == "dft"  # dft.time_limit is of each calculation, of which a row has several
        self._first = DEAR_BEFORE_ANY if stage in DEAR_STAGES else BEFORE_ANY
        self._slowest = 0.0
        for note in notes:
            self.learn(note)

    def learn(self, note: dict[str, Any]) -> None:
        """Take a finished unit into account; one from the cache took no time and says nothing."""
        self._slowest = max(self._slowest, note.get("seconds", 0.0) / max(note.get("rows", 1), 1))

    def seconds(self, rows: int) -> float:
        """Seconds for a unit, or a piece of one, of so many rows."""
        if self._configured is not None:
            return self._configured
        if self._slowest == 0.0 or self._limits_itself:
            return self._first
        return max(AT_LEAST, TIMES_THE_SLOWEST * self._slowest * rows)


def watched(seconds: float, folder: str, function: Callable[..., R], *arguments: Any) -> R:
    """Call a function in a Dask task; when it takes too long, end this worker's process.

    Where every thread was then is in a file of ``folder``, named after the task. Dask gives the task to another
    worker, which finds that file and raises instead of hanging as well. The clock is faulthandler's: a thread of its
    own in C, that also ends a task which never lets go of the interpreter's lock.

    Raises
    ------
    UnitTimeoutError
        When an earlier worker was ended over this task.
    OtherRunError
        When the folder is of another run than the references that this worker has: a scheduler that others may use too
        was lost to another run, while the one of this task was suspended for longer than its lock lasts.
    OSError
        With EIO when this node can't use the folder, whatever the reason: no row is to blame for that.
    """
    run = getattr(get_worker().plugins.get(PLUGIN), "folder", None)
    if run is not None and run not in Path(folder).parents:
        raise OtherRunError(
            f"the workers have the models of another run, {run}: this one lost the scheduler while it was suspended; "
            "the same command goes on when that run has ended"
        )
    report = Path(folder) / f"{get_worker().get_current_task()}.txt"
    try:
        hung = report.exists() and report.stat().st_size
        report.parent.mkdir(parents=True, exist_ok=True)
        opened = None if hung else report.open("w", encoding="utf-8")
    except OSError as error:
        text = f"{platform.node()} can't use the run folder ({error.strerror})"
        raise OSError(errno.EIO, text, str(report.parent)) from error
    if opened is None:
        raise UnitTimeoutError(f"not finished in {seconds:g} s; {report} says where it hung")
    with opened as stream:
        faulthandler.dump_traceback_later(seconds, exit=True, file=stream)
        try:
            return function(*arguments)
        finally:
            faulthandler.cancel_dump_traceback_later()
            report.unlink(missing_ok=True)
