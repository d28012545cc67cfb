"""What the terminal shows while a run goes on: a bar for each step, or plain lines when piped."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

PLAIN_LINE_SECONDS = 15.0


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
        self._step = ""
        self._total = self._done = self._fresh = 0
        self._started = self._printed = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def start(self, step: str, total: int, done: int) -> None:
        """Begin a step of ``total`` rows, ``done`` of which were on disk already."""
        self._step, self._total, self._done, self._fresh = step, total, done, 0
        self._started = self._printed = time.monotonic()
        self._task = self._bars.add_task(step, total=total, completed=done, rate="")
        if not self.console.is_terminal:
            self.say(f"{step}: {total} to do" + (f", {done} already done" if done else ""))

    def advance(self, rows: int) -> None:
        """Count rows that were just committed."""
        self._done += rows
        self._fresh += rows
        now = time.monotonic()
        rate = self._fresh / max(now - self._started, 1e-9)
        left = (self._total - self._done) / rate if rate > 0 else 0.0
        text = f"{rate:.1f}/s, {duration(left)} left"
        if self._task is not None:
            self._bars.update(self._task, completed=self._done, rate=text)
        if not self.console.is_terminal and now - self._printed > PLAIN_LINE_SECONDS:
            self._printed = now
            self.say(f"{self._step}: {self._done}/{self._total}, {text}")


def duration(seconds: float) -> str:
    """A time in words, in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
