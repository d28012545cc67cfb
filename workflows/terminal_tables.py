"""Tables of the terminal: no value is cut off, however narrow it is; piped, every row is whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import pandas as pd
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline import schema
from workflows.views import marks, places_in_formula


class _Shown(NamedTuple):
    """A column of the ranked table: its title, number format, and how early it gives way on a narrow terminal."""

    name: str
    title: str
    form: str
    gives_way: int


_RANKED = (
    _Shown("rank", "#", "d", 0),
    _Shown("formula_pretty", "formula", "", 0),
    _Shown("spacegroup_relaxed", "sg", "d", 10),
    _Shown("score", "score", ".3f", 3),
    _Shown("pareto_front", "front", "d", 9),
    _Shown("energy_above_hull", "E hull\n/eV/atom", ".3f", 2),
    _Shown("band_gap", "gap\n/eV", ".2f", 5),
    _Shown("reduction_limit", "red.\n/V", ".2f", 6),
    _Shown("oxidation_limit", "ox.\n/V", ".2f", 6),
    _Shown("migration_barrier_3d", "barrier\n3D /eV", ".2f", 4),
    _Shown("bulk_modulus", "bulk mod.\n/GPa", ".0f", 8),
    _Shown("cost_per_kg", "element\ncost\n/USD/kg", ".0f", 7),
    _Shown("density", "density\n/g/cm3", ".2f", 8),
    _Shown("prototype_source", "file", "", 7),
    _Shown("candidate_id", "candidate", "", 12),
    _Shown("marks", "marks", "", 11),
)
_GAP = 2
_UNBOUNDED = 1_000_000


def print_table(console: Console, table: RenderableType) -> None:
    """Print a table; piped, in lines as long as its columns that may not wrap ask for."""
    if not console.is_terminal:
        unbounded = console.options.update(max_width=_UNBOUNDED)
        console.width = max(console.width, Measurement.get(console, unbounded, table).minimum)
    console.print(table)


def as_text(words: str) -> Text:
    """Words of a run folder as they stand: no markup, and control characters written out instead of obeyed."""
    return Text("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words))


def plain_table(columns: Iterable[tuple[str, Literal["left", "right"]]]) -> Table:
    """An empty table without lines, whose numbers stay whole and whose words fold instead of being cut."""
    table = Table(header_style="bold", pad_edge=False, box=None)
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=justify == "right", overflow="fold")
    return table


def ranked_table(ranked: pd.DataFrame, count: int, width: int | None = None, *, files: bool = False) -> Table:
    """The first rows as a table: units in the header, marks in the last column.

    Columns give way until the table fits into ``width`` characters, candidate_id (`ionsieve show` takes the rank too)
    and marks first; rank and formula always stay. Those that are left out are named below the table. All are shown
    when there is no width. ``files``: whether the file that a candidate's prototype came from is among them.
    """
    first = zip(ranked.head(count).to_dict("records"), places_in_formula(ranked), strict=False)
    rows = [{**row, "marks": marks(row, place)} for row, place in first]
    cells = {
        shown: [_cell(row[shown.name], shown.form) for row in rows]
        for shown in _RANKED
        if (shown.name in ranked.columns or shown.name == "marks") and (files or shown.name != "prototype_source")
    }
    longest = {s: max(map(len, [*texts, *s.title.split("\n")])) for s, texts in cells.items()}
    kept: list[_Shown] = []
    for shown in sorted(cells, key=lambda s: s.gives_way):
        needed = sum(longest[s] + _GAP for s in (*kept, shown)) - _GAP
        if width is None or shown.gives_way == 0 or needed <= width:
            kept.append(shown)
    left_out = [shown for shown in cells if shown not in kept]
    kept = [shown for shown in _RANKED if shown in kept]
    table = Table(header_style="bold", pad_edge=False, box=None, caption=_caption(left_out), caption_justify="left")
    for shown in kept:
        folds = not shown.form and width is not None  # where even the least table is too wide
        right: Literal["left", "right"] = "right" if shown.form else "left"
        table.add_column(shown.title, justify=right, no_wrap=not folds, overflow="fold", vertical="bottom")
    for texts in zip(*(cells[shown] for shown in kept), strict=True):
        table.add_row(*map(as_text, texts))
    return table


def footnotes(ranked: pd.DataFrame) -> list[str]:
    """Sentences on numbers of the ranked table that would be taken for something else."""
    name = "cost_per_kg"
    return [f"element cost: {schema.column(name).meaning}"] if name in ranked and ranked[name].notna().any() else []


def _caption(left_out: list[_Shown]) -> str | None:
    if not left_out:
        return None
    titles = ", ".join(shown.title.partition("\n/")[0].replace("\n", " ") for shown in left_out)
    return f"columns left out: {titles}; widen the terminal, or --csv"


def _cell(value: Any, form: str) -> str:
    if value is None or value != value:
        return "-"
    if form == "d":
        return str(int(value))
    return f"{float(value):{form}}" if form else str(value)


def funnel_view(steps: list[dict[str, Any]]) -> RenderableType:
    """The funnel: what entered each step, what passed, and why the rest did not.

    Where the terminal is too narrow for the longest names, the gates follow in a table of their own.
    """
    return _Funnel(steps)


class _Funnel:
    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self._steps = steps

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._table(gates=True))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(max_width=_UNBOUNDED)
        whole = self._table(gates=True)
        if Measurement.get(console, unbounded, whole).minimum <= options.max_width:
            yield whole
            return
        yield self._table(gates=False)
        gates = plain_table([("step", "left"), ("gates", "left")])
        for step in self._steps:
            if step["gates"]:
                gates.add_row(as_text(step["step"]), as_text(step["gates"]))
        if gates.row_count:
            yield Text()
            yield gates

    def _table(self, *, gates: bool) -> Table:
        words, numbers = ("step", "gates") if gates else ("step",), ("entered", "passed", "")
        table = plain_table([*((t, "left") for t in words), *((t, "right") for t in numbers), ("out because", "left")])
        for step in self._steps:
            share = f"{step['passed'] / step['entered']:.1%}" if step["entered"] else "-"
            reasons = ", ".join(f"{k} {v:,}" for k, v in step["rejected_by"].items()) or "-"
            cells = [as_text(step["step"]), *([as_text(step["gates"] or "-")] if gates else [])]
            table.add_row(*cells, f"{step['entered']:,}", f"{step['passed']:,}", share, as_text(reasons))
        return table


def facts_table(found: dict[str, Any]) -> Table:
    """One candidate, stage by stage, with units; what is missing is left out, coordinates too."""
    table = plain_table((title, "left") for title in ("stage", "column", "unit", "value"))
    stage = ""
    for column, value in facts(found):
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(column.stage if column.stage != stage else "", column.name, column.unit, as_text(text))
        stage = column.stage
    return table


def facts(found: dict[str, Any]) -> list[tuple[schema.Column, Any]]:
    """Each column of a candidate that has a value and is no list of coordinates, in the order of declaration."""
    columns = [schema.column(name) for name in sorted(found, key=schema.position)]
    return [
        (column, found[column.name]) for column in columns if not column.is_list and not _is_missing(found[column.name])
    ]


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value
