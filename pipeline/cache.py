"""The user's cache: what is costly to make or fetch, and may be deleted at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def user_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of the cache: ``$IONSIEVE_CACHE``, else ``ionsieve`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = environ.get("IONSIEVE_CACHE")
    if own:
        return Path(own).expanduser()
    root = environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ionsieve"
