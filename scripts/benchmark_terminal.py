"""How long a user waits for an answer about a finished run: each command in fresh processes, start of Python included.

    python scripts/benchmark_terminal.py RUN

RUN is the folder of a finished campaign, such as the one `make quickstart` leaves. The exit code is 1 where a command
takes 2 s or more in its fastest process.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

from relaxation_tables import table, told

COMMANDS = ("top RUN", "top RUN --csv", "show RUN 1", "show RUN 1 --json", "status RUN", "compare RUN RUN")
MOST_SECONDS = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished campaign")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each command; the fastest is judged")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}; {options.run.name}\n")
    fastest = {words: min(seconds(words, options.run) for _ in range(options.repeats)) for words in COMMANDS}
    table("command | wall, s", [(f"ionsieve {words}", f"{taken:.2f}") for words, taken in fastest.items()])
    slowest = max(fastest.values())
    return int(not told(f"each in less than {MOST_SECONDS:g} s ({slowest:.2f})", slowest < MOST_SECONDS))


def seconds(words: str, run: Path) -> float:
    """Wall time of one process; an error of the command is an error here."""
    program = "from workflows.cli import app; app()"
    arguments = [str(run) if word == "RUN" else word for word in words.split()]
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    raise SystemExit(main())
