"""The user's cache: what is costly to make or fetch, and may be deleted at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.problems import ConfigError, Problem


def user_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of the cache: ``$IONSIEVE_CACHE``, else ``ionsieve`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = environ.get("IONSIEVE_CACHE")
    if own:
        return at_home(Path(own), "IONSIEVE_CACHE")
    root = environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ionsieve"


def at_home(path: Path, named: str) -> Path:
    """A path with its ``~`` expanded, as a shell does not where it stands behind ``=`` or in quotes.

    Raises
    ------
    ConfigError
        Naming what gave the path, where it is ``~name`` of a user that does not exist.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        text = f"{path} is in the home of a user that does not exist; give the whole path"
        raise ConfigError([Problem(named, text)]) from None
