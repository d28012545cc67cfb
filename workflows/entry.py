"""Where the `ionsieve` command begins: Ctrl-C leaves no traceback while its modules are still being imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 3


def main() -> None:
    """Import the commands and run the one that was asked for."""
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else Ctrl-C is meant to be ignored
    if asked:
        signal.signal(signal.SIGINT, _leave)
    from workflows.cli import app

    if asked:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    app()


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted before anything was begun\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
