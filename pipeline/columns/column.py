"""What a column declares: name, type, unit, producing stage, meaning, and the range of its gates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of the tables.

    ``dtype`` is one of string, bool, int64, float64, list<float64>, list<int64>. ``gate`` gives the closed range
    a gate's bound may lie in, in the column's unit; columns without it can't be gated by a number.
    """

    name: str
    dtype: str
    unit: str
    stage: str
    meaning: str
    gate: tuple[float, float] | None = None

    @property
    def is_list(self) -> bool:
        """Whether a cell holds many numbers: such columns travel between stages and are in no CSV."""
        return self.dtype.startswith("list<")


def status_columns(stage: str) -> tuple[Column, Column]:
    """Columns in which a stage says what became of each row."""
    return (
        Column(f"{stage}_status", "string", "", stage, "ok, failed, pending or skipped"),
        Column(f"{stage}_error", "string", "", stage, "'<type>: <message>' of what went wrong, empty when ok"),
    )
