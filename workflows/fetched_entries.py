"""What was fetched over the network, kept in the user's cache: asked for once, then read without any request.

An entry is a folder of files with a ``source.json``, which holds where they are from and their digests, so that a torn
entry is found. Entries are made under another name and renamed, so that of two processes one wins.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic_files import write_json
from pipeline.reference.fetched_phases import MaterialsProjectError
from workflows.files import digest_of_file


@dataclass(frozen=True)
class FetchedEntry:
    """An entry of the cache.

    Attributes
    ----------
    folder
        Where it lies.
    source
        What ``source.json`` holds: database version, when and how it was fetched, counts, digests, licence.
    """

    folder: Path
    source: dict[str, Any]


def newest_entry(home: Path, key: str) -> FetchedEntry | None:
    """The sound entry of a key that was fetched last, or None."""
    found = [entry for path in home.glob(f"{key}-*") if (entry := _read(path)) is not None]
    return max(found, key=lambda entry: str(entry.source["fetched"]), default=None)


def keep_entry(
    home: Path, key: str, database_version: str, about: Mapping[str, Any], files: Mapping[str, Callable[[Path], None]]
) -> FetchedEntry:
    """Write an entry.

    Parameters
    ----------
    home, key
        The cache's folder for such entries, and what names this one.
    database_version
        The server's.
    about
        More of ``source.json``.
    files
        What writes each file, given its path.

    Raises
    ------
    MaterialsProjectError
        When the cache can't be written, or was damaged while it was.
    """
    version = re.sub(r"[^A-Za-z0-9._]", "_", database_version)
    try:
        return _keep(home / f"{key}-{version}", {"database_version": database_version, **about}, files)
    except OSError as error:
        raise MaterialsProjectError(
            f"{home} can't be written ({error.strerror}); set IONSIEVE_CACHE to a folder that can"
        ) from None


def _read(folder: Path) -> FetchedEntry | None:
    """An entry, or None when it is torn."""
    try:
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        sound = all(digest_of_file(folder / name) == digest for name, digest in source["sha256"].items())
        return FetchedEntry(folder, source) if sound and source["sha256"] and source["fetched"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep(folder: Path, about: Mapping[str, Any], files: Mapping[str, Callable[[Path], None]]) -> FetchedEntry:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        entry = temporary / "entry"
        entry.mkdir()
        for name, write in files.items():
            write(entry / name)
        fetched = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        digests = {name: digest_of_file(entry / name) for name in files}
        licence = "CC BY 4.0, Materials Project"
        write_json(entry / "source.json", {**about, "fetched": fetched, "licence": licence, "sha256": digests})
        while True:
            try:
                entry.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # Another process was faster, or left a torn entry: that one goes out of the way, if it is still there.
                kept = _read(folder)
                if kept is not None:
                    return kept
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(temporary / f"torn-{time.monotonic_ns()}")
                continue
            break
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    kept = _read(folder)
    if kept is None:
        raise MaterialsProjectError(f"{folder} was damaged while it was written; run the same command again")
    return kept
