"""Harm to a run under test. Dask loads this file into client and workers (`preload`); the run knows nothing of it.

`IONSIEVE_HARM` holds a :class:`Harm` as JSON. Whatever the harm, each task that a worker begins leaves a file in the
folder of marks, from which tests count what was computed more than once.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Worker, get_worker

from workflows import watchdog
from workflows.store import StageStore, Unit

VARIABLE = "IONSIEVE_HARM"


@dataclass(frozen=True)
class Harm:
    """What happens, where, and how often.

    Attributes
    ----------
    marks
        Folder of the marks.
    kind
        Nothing; to a task: ``kill``, ``memory``, ``hang``, ``hang with lock``; to the client as it commits: ``kill
        before commit``, ``kill in commit``, ``kill after commit``, ``terminate``, ``interrupt``, ``no space``.
    step
        The step that it happens in.
    times
        How often, counted over all processes and restarts.
    candidate
        Only with this candidate among the task's rows.
    after
        Commits of the step that go well before.
    """

    marks: str
    kind: str = ""
    step: str = ""
    times: int = 1
    candidate: str = ""
    after: int = 0

    def environment(self) -> dict[str, str]:
        """Variables that make a run load this file with this harm."""
        return {
            VARIABLE: json.dumps(asdict(self)),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": str(Path(__file__).resolve()),
            "DASK_DISTRIBUTED__CLIENT__PRELOAD": str(Path(__file__).resolve()),
        }

    def strikes(self) -> bool:
        """Tell whether it is time once more."""
        for number in range(self.times):
            try:
                Path(self.marks, f"struck-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def begun(marks: Path) -> Counter[tuple[str, ...]]:
    """How often each task was begun, by its step and its work."""
    return Counter(tuple(json.loads(path.read_text())) for path in marks.glob("begun-*") if path.stat().st_size)


def dask_setup(server: Any) -> None:
    """Called by Dask when a worker or a client starts."""
    harm = Harm(**json.loads(os.environ[VARIABLE]))
    if isinstance(server, Worker):
        _harm_tasks(harm)
    elif harm.kind in _TO_CLIENTS:
        _harm_commits(harm)


def _harm_tasks(harm: Harm) -> None:
    watched = watchdog.watched

    def harmed(seconds: float, folder: str, function: Callable[..., Any], *arguments: Any) -> Any:
        step = str(get_worker().get_current_task()).rpartition("-")[0]
        rows = next(([str(i) for i in a["candidate_id"]] for a in arguments if hasattr(a, "columns")), [])
        work = [step, *(rows or [json.dumps(arguments[0])])]
        Path(harm.marks, f"begun-{uuid4().hex}").write_text(json.dumps(work))
        concerned = step == harm.step and (not harm.candidate or harm.candidate in rows)

        def function_or_harm(*given: Any) -> Any:
            if concerned and harm.kind in _TO_TASKS and harm.strikes():
                _TO_TASKS[harm.kind]()
            return function(*given)

        return watched(seconds, folder, function_or_harm, *arguments)

    watchdog.watched = harmed


def _harm_commits(harm: Harm) -> None:
    commit = StageStore.commit
    passed = Counter[str]()

    def harmed(store: StageStore, unit: Unit, table: Any, note: dict[str, Any]) -> None:
        passed[store.step] += 1
        if store.step != harm.step or passed[store.step] <= harm.after or not harm.strikes():
            commit(store, unit, table, note)
            return
        if harm.kind == "kill after commit":
            commit(store, unit, table, note)
        _TO_CLIENTS[harm.kind]()
        commit(store, unit, table, note)

    StageStore.commit = harmed  # type: ignore[method-assign]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _use_up_memory() -> None:
    held = []
    while True:  # until the nanny, which looks every tenth of a second, ends this process at its memory limit
        held.append(b"\x01" * (64 << 20))
        time.sleep(0.05)


def _hang() -> None:
    time.sleep(86_400.0)


def _hang_with_lock() -> None:
    ctypes.PyDLL(None).sleep(86_400)  # PyDLL keeps the interpreter's lock while the C function runs


def _kill_at_fsync() -> None:
    os.fsync = lambda descriptor: _kill()


def _allow_no_file() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


_TO_TASKS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "memory": _use_up_memory,
    "hang": _hang,
    "hang with lock": _hang_with_lock,
}
_TO_CLIENTS: dict[str, Callable[[], None]] = {
    "kill before commit": _kill,
    "kill in commit": _kill_at_fsync,
    "kill after commit": _kill,
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "no space": _allow_no_file,
}
