"""Files that a campaign names, read without trust: regular files only, of a bounded size, once unpacked too."""

from __future__ import annotations

import io
import os
import stat
import zlib
from gzip import GzipFile
from io import BufferedIOBase
from pathlib import Path


class InputFileError(ValueError):
    """A file that can't be read; the message names it, the reason, and the remedy where there is one."""


def require_file(path: Path) -> None:
    """Refuse what is no regular file: a pipe would be waited for, a device read without end.

    Raises
    ------
    InputFileError
        When the file is missing, is something else, or can't be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputFileError(f"{path} can't be read: it is {what}; give a file")


def read_bytes(path: Path, most: int) -> bytes:
    """Bytes of a file.

    Parameters
    ----------
    path
        The file.
    most
        Largest size that is read, bytes.

    Raises
    ------
    InputFileError
        When it is no regular file, can't be read, or is larger.
    """
    require_file(path)
    try:
        # Not blocking: between the look and the opening the file may have been exchanged for a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            return _at_most(stream, most, path)
    except OSError as error:
        raise _unreadable(path, error) from None


def unpacked(raw: bytes, most: int, path: Path) -> bytes:
    """Contents of a gzip file's bytes, and other bytes as they are.

    Raises
    ------
    InputFileError
        When the file is damaged, or holds more than ``most`` bytes.
    """
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        with GzipFile(fileobj=io.BytesIO(raw)) as stream:
            return _at_most(stream, most, path)
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"{path} can't be read, or is truncated: {error}") from None


def read_text(path: Path, most: int, *, errors: str = "strict") -> str:
    """Text of a UTF-8 file, without the mark that some editors begin it with.

    Raises
    ------
    InputFileError
        As `read_bytes`, and when the file is no UTF-8 text.
    """
    return decoded(read_bytes(path, most), path, errors=errors)


def decoded(raw: bytes, path: Path, *, errors: str = "strict") -> str:
    """Text of UTF-8 bytes; InputFileError names the first byte that is none, or a NUL, which no text holds."""
    try:
        text = raw.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise InputFileError(f"{path} is no text file (NUL in byte {raw.index(0)}); save it as UTF-8")
    return text


def _at_most(stream: BufferedIOBase, most: int, path: Path) -> bytes:
    raw = stream.read(most + 1)
    if len(raw) > most:
        raise InputFileError(
            f"{path} holds more than {most:,} bytes, which are read at most; split it, or look into it"
        )
    return raw


def _unreadable(path: Path, error: Exception) -> InputFileError:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return InputFileError(f"{path} can't be read: {reason}")
