"""Where fuzzed inputs are read: a folder of its own, an eye on every file that is opened, limits of time and memory."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

TIME_LIMIT = 10
"""Seconds of processor time that a reader may take."""
WAITING_LIMIT = 60
"""Seconds on the clock, where a reader waits; more than the processor's, for other work may have it meanwhile."""
MEMORY_LIMIT = 1 << 30
"""Bytes that a reader may need beyond what the process has when the first file is read."""

NOBODY = 65534

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
_FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "pickle.find_class"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Hang(BaseException):
    """A reader took longer than TIME_LIMIT; no `except Exception` swallows it."""


class Watch:
    """An audit hook that notes what is written outside a folder, and programs, connections and pickles."""

    def __init__(self, allowed: Path) -> None:
        self.allowed = str(allowed.resolve())
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self._look(event, path)
        elif event in _CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                self._look(event, path)
        elif event in _FORBIDDEN and not _within_numba():
            self.seen.append(f"{event} {arguments[:1]}")

    def _look(self, event: str, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        where = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (no look at the disk from within the hook)
        compiled = "__pycache__" in where or _within_numba()
        if where != os.devnull and not where.startswith(self.allowed + os.sep) and not compiled:
            self.seen.append(f"{event} {where}")


def _within_numba() -> bool:
    """Whether Numba is at work, which keeps compiled kernels, and pickles of their signatures, beside the code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("numba."):
        frame = frame.f_back
    return frame is not None


@contextmanager
def limited_time(seconds: int = TIME_LIMIT) -> Iterator[None]:
    """Raise `Hang` when the body takes longer; a body that never returns to Python is for the parent to end."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise Hang

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, WAITING_LIMIT))
    before = [signal.signal(number, ring) for _, number, _ in timers]
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def limit_memory(more: int = MEMORY_LIMIT) -> None:
    """Give this process at most so many bytes beyond those it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    bytes_now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (bytes_now + more, resource.RLIM_INFINITY))


@contextmanager
def without_rights(wanted: bool) -> Iterator[None]:
    """Read as an ordinary user while the body runs, where this process is root: root may read everything."""
    if not wanted or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


SPECIAL = ("directory", "fifo", "dangling link", "link to itself", "link to /dev/zero", "link out", "unreadable")
"""What may lie where a file is expected."""


def put(path: Path, content: bytes | str) -> None:
    """Write a file's bytes, or lay one of SPECIAL in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "directory":
        path.mkdir()
    elif content == "fifo":
        os.mkfifo(path)
    elif content == "unreadable":
        path.write_bytes(b"secret")
        path.chmod(0)
    else:
        targets = {"dangling link": "nowhere", "link to itself": path.name, "link to /dev/zero": "/dev/zero"}
        path.symlink_to(targets.get(content, "/etc/hostname"))


@contextmanager
def case_folder(root: Path, name: str) -> Iterator[Path]:
    """A folder for one case, open to every user, removed afterwards."""
    folder = root / name
    folder.mkdir()
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
