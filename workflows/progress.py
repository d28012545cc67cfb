"""What the terminal shows while a run goes on: a bar for each step, or plain lines when piped."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

PLAIN_LINE_SECONDS = 15.0
RECENT_UNITS = 4
"""Units of each worker over which a rate is taken."""


class ProgressView:
    """Show the steps of one run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("[bold]{task.description:<14}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self.workers = 1
        self._step = ""
        self._total = self._done = 0
        self._printed = 0.0
        self._pace = Pace(1)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def start(self, step: str, total: int, done: int) -> None:
        """Begin a step of ``total`` rows, ``done`` of which were on disk already."""
        self._step, self._total, self._done = step, total, done
        self._printed = time.monotonic()
        self._pace = Pace(self.workers)
        self._task = self._bars.add_task(step, total=total, completed=done, rate="")
        if not self.console.is_terminal:
            self.say(f"{step}: {total - done} to do" + (f", {done} already done" if done else ""))

    def advance(self, rows: int) -> None:
        """Count the rows of a unit that was just committed."""
        now = time.monotonic()
        self._pace.commit(now, rows)
        self.found(rows)
        if not self.console.is_terminal and now - self._printed > PLAIN_LINE_SECONDS:
            self._printed = now
            self.say(", ".join(filter(None, (f"{self._step}: {self._done}/{self._total}", self._rate()))))

    def found(self, rows: int) -> None:
        """Count rows that did not have to be computed."""
        self._done += rows
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, rate=self._rate())

    def _rate(self) -> str:
        rate = self._pace.rate()
        return "" if rate is None else f"{rate:.1f}/s, {duration((self._total - self._done) / rate)} left"


class Pace:
    """Rows a second of the last units of a step; unknown while the workers load models and compile.

    Parameters
    ----------
    workers
        Each one's first unit is left out, and there is no rate before two units a worker are committed.
    """

    def __init__(self, workers: int) -> None:
        self._first = max(1, workers)
        self._units = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_UNITS * self._first + 1)

    def commit(self, at: float, rows: int) -> None:
        """Count a unit that was committed at a time, s."""
        self._units += 1
        if self._units >= self._first:
            self._recent.append((at, rows))

    def rate(self) -> float | None:
        """Rows a second, None while it is not known."""
        if self._units < 2 * self._first:
            return None
        (begin, _), *later = self._recent
        return sum(rows for _, rows in later) / max(later[-1][0] - begin, 1e-9)


def duration(seconds: float) -> str:
    """A time in words, in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
