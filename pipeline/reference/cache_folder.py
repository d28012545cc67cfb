"""Where ionsieve keeps what any campaign of this user can use again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of the user's cache: ``$IONSIEVE_CACHE``, else ``ionsieve`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = environ.get("IONSIEVE_CACHE")
    if own:
        return Path(own).expanduser()
    root = environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ionsieve"
