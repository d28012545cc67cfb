"""What the terminal shows while a potential is trained: bars, or a plain line for each epoch when piped."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from workflows.progress import duration


class TrainingView:
    """Show the epochs of one training; its methods are the callbacks of :class:`pipeline.training.progress.Watcher`."""

    def __init__(self, console: Console, max_epochs: int) -> None:
        self.console, self.max_epochs = console, max_epochs
        self._bars = Progress(
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._epochs = self._bars.add_task("epochs", total=max_epochs, left="")
        self._batches = self._bars.add_task("batches", total=None, left="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def batch(self, done: int, total: int) -> None:
        """Batches of the epoch that are done."""
        self._bars.update(self._batches, completed=done, total=total)

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done."""
        number = int(row["epoch"])
        left = duration((self.max_epochs - number) * row["seconds"]) + " left at most"
        self._bars.update(self._epochs, completed=number, left=left)
        energy, force, stress = (row[f"validation_{name}_mae"] for name in ("energy", "force", "stress"))
        errors = f"{1000 * energy:.3g} meV/atom, {1000 * force:.3g} meV/Å" + (f", {stress:.3g} GPa" if stress else "")
        self.console.print(
            f"epoch {number}: loss {row['train_loss']:.4g}, validation {row['validation_loss']:.4g} ({errors}), "
            f"{duration(row['seconds'])}",
            highlight=False,
            soft_wrap=True,
        )


def error_table(errors: dict[str, dict[str, Any]]) -> Table:
    """Mean absolute errors on the test split, by anion class."""
    table = Table(header_style="bold", pad_edge=False, box=None)
    table.add_column("test split")
    for title in ("crystals", "energy, meV/atom", "force, meV/Å", "stress, GPa"):
        table.add_column(title, justify="right")
    for name, row in errors.items():
        numbers = (row[key] for key in ("energy_mae", "force_mae", "stress_mae"))
        table.add_row(name, str(row["crystals"]), *("" if value is None else f"{value:.3g}" for value in numbers))
    return table
