"""A DFT code in a process of its own, with a time limit: whatever it does to itself, the worker lives on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.dft.calculation import FAILURE, Calculation, DftResult, load_result
from pipeline.stages.rows import Failure

LOG = "process.txt"
_ROOT = Path(__file__).resolve().parents[2]
_LAST_WORDS = 300
_ENDS_WITH_PARENT = "IONSIEVE_ENDS_WITH_PARENT"
_PARENT_LOOKED_FOR_EVERY = 2.0  # s


def run_calculation(
    command: Sequence[str], folder: Path, calculation: Calculation, time_limit: float
) -> DftResult | Failure:
    """Run a command on a calculation's folder, and read the result that it leaves there.

    Parameters
    ----------
    command
        Program and arguments; the folder is appended. It leaves ``result.json``, or ``failure.json`` with an ``error``.
    folder
        Holds ``calculation.json``; also the program's working directory. Its output goes to ``process.txt``.
    calculation
        What was asked; a result that answers anything else does not count.
    time_limit
        Seconds after which the program and all its children are killed.

    Returns
    -------
    DftResult or Failure
        The failure is the program's own, else ``OutOfTime``, or ``ProcessDied`` with how it ended and its last words.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if p)
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*command, str(folder)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, _ENDS_WITH_PARENT: "1"},
            start_new_session=True,
        )
    out_of_time = False
    try:
        process.wait(timeout=time_limit)
    except subprocess.TimeoutExpired:
        out_of_time = True
    finally:
        _kill_group(process)
    result = load_result(folder, calculation)
    if result is not None:
        return result
    if out_of_time:
        return Failure(f"OutOfTime: not finished after {time_limit:g} s; raise dft.time_limit, or lower the precision")
    return own_failure(folder) or Failure(f"ProcessDied: {_ended(process.returncode)}; {_last_words(folder / LOG)}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the program with whatever it started; the group may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def own_failure(folder: Path) -> Failure | None:
    """The failure that a program itself left in its folder."""
    try:
        return Failure(str(json.loads((folder / FAILURE).read_text(encoding="utf-8"))["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ended(code: int) -> str:
    if code >= 0:
        return f"the DFT process ended with exit status {code} and no result"
    name = signal.Signals(-code).name
    return f"the DFT process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _last_words(path: Path) -> str:
    text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
    return f"last words: ...{text[-_LAST_WORDS:]}" if text else "it said nothing"


def end_with_parent() -> None:
    """End this process soon after its parent's end: a killed worker leaves no orphan at work.

    One that the user started goes on when its shell is closed.
    """
    if _ENDS_WITH_PARENT not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_LOOKED_FOR_EVERY)
        sys.stderr.write("the parent is gone; ending\n")
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
