"""Writing that survives a kill: temporary name, fsync, rename."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
_MOUNT = {errno.ESHUTDOWN, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOLCK}
_NODE = {errno.ENFILE, errno.EMFILE}
# Linux's own: a server that answers with an error, a ticket that has expired.
_LINUX = {getattr(errno, name) for name in ("EREMOTEIO", "EKEYEXPIRED") if hasattr(errno, name)}
_STORAGE_TROUBLE = frozenset(_DISK | _MOUNT | _NODE | _LINUX)


def is_storage_trouble(error: BaseException) -> bool:
    """Tell whether an error is the disk's (full, over quota, read-only, broken, away): no candidate is to blame."""
    return isinstance(error, OSError) and error.errno in _STORAGE_TROUBLE


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader, or a run after a crash, sees the old content or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Delete half-written files of :func:`write_atomically` whose process was killed; none may be writing there."""
    for path in folder.glob(".*.tmp"):
        if not path.is_dir():  # a selection on its way
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode("utf-8")))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
