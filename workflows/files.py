"""The run folder's small files: JSON read back, and digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, Problem


class RunError(Exception):
    """Something outside the campaign file that stops a run: the folder is held, damaged, or the cluster is away."""


class RunStoppedError(RunError):
    """What stops a run under way for reasons outside it (disk, network, scheduler): the same command goes on."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that a run wrote.

    Raises
    ------
    ConfigError
        When the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([Problem(str(path), f"can't be read ({error.strerror}); is this a run folder?")]) from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        text = "is damaged; run the same `ionsieve run` again: it is written anew, and finished units are kept"
        raise ConfigError([Problem(str(path), text)])
    return value


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parts_in(folder: Path) -> list[Path]:
    """Finished units of a step by number, a retry after what it replaces; as text 100000 comes before 20000."""
    parts = (path for path in folder.glob("part-*.parquet") if path.stem.removeprefix("part-").isdigit())
    return sorted(parts, key=lambda path: int(path.stem.removeprefix("part-")))
