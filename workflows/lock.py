"""One run at a time in a run folder, also after a kill, also across hosts that share the folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workflows.files import RunError

HEARTBEAT_SECONDS = 10.0
STALE_AFTER_SECONDS = 300.0
WATCHED_SECONDS = 35.0
"""How long a heartbeat is watched before it is believed to have stopped: three beats, and a network disk's delay."""
_WIDTH = 512
"""Bytes of a heartbeat: of one length, it is overwritten in place and never seen half, also on a full disk."""


_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Of a disk without locks (Lustre without flock, NFS without a lock daemon): the heartbeat alone tells of others."""


class RunFolderBusyError(RunError):
    """Another run holds the folder."""


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


class RunLock:
    """Hold a run folder: an advisory file lock, and a heartbeat for hosts that do not see each other's locks.

    The kernel drops the lock when the process dies, however it dies, so a killed run never leaves a folder
    locked on its own host. From another host the folder is free once the heartbeat is 300 s old, by clocks that may
    disagree or jump, and has also been seen to stand still.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.lock"
        self._stream: Any = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self.path.touch()
        self._stream = self.path.open("r+b", buffering=0)
        elsewhere = False  # whether a holder may be where this lock is not seen
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_holder(self.path) or {}
            self._stream.close()
            raise RunFolderBusyError(_busy(self.path.parent, holder)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            elsewhere = True
        holder = read_holder(self.path)
        if (
            holder
            and (elsewhere or holder["host"] != socket.gethostname())
            and (_is_fresh(holder) or _beats(self.path))
        ):
            self._stream.close()
            raise RunFolderBusyError(_busy(self.path.parent, holder))
        self._beat()
        threading.Thread(target=self._keep_beating, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):  # an empty file says that nobody holds the folder; so does no lock
            self._stream.truncate(0)
        self._stream.close()

    def _beat(self) -> None:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "boot_id": _boot_id(),
            "heartbeat": time.time(),
        }
        os.pwrite(self._stream.fileno(), json.dumps(holder).ljust(_WIDTH).encode("utf-8"), 0)

    def _keep_beating(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            # ValueError: the stream was closed between wait and write. A disk in trouble may recover by the next beat.
            with contextlib.suppress(ValueError, OSError):
                self._beat()


def _is_fresh(holder: dict[str, Any]) -> bool:
    """Tell whether a heartbeat is young; one from the future is of a clock that was set back since."""
    return 0.0 <= time.time() - holder["heartbeat"] < STALE_AFTER_SECONDS


def _beats(path: Path) -> bool:
    """Tell whether a heartbeat moves while it is watched, whatever its clock says."""
    first = read_holder(path)
    deadline = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, WATCHED_SECONDS / 10))
        if read_holder(path) != first:
            return True
    return False


def read_holder(path: Path) -> dict[str, Any] | None:
    """Who wrote the lock file last; None when nobody holds it."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return holder if isinstance(holder, dict) and {"host", "pid", "heartbeat"} <= holder.keys() else None


def is_held(folder: Path) -> bool:
    """Tell whether a run is at work in this folder, as far as this host can see."""
    path = folder / "run.lock"
    if not path.exists():
        return False
    elsewhere = False
    with path.open("r", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(stream, fcntl.LOCK_UN)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            elsewhere = True
    holder = read_holder(path)
    return bool(holder and (elsewhere or holder["host"] != socket.gethostname()) and _is_fresh(holder))


def _busy(folder: Path, holder: dict[str, Any]) -> str:
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    return f"{folder} is held by {who}; wait for it, stop it, or choose another run folder with --folder"
