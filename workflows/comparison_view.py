"""What `ionsieve compare` prints."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from workflows.comparison import Comparison, Difference
from workflows.terminal_tables import as_text, plain_table


def comparison_view(found: Comparison, count: int) -> Group:
    """All parts of a comparison; of long lists the first ``count`` rows, with the number of all."""
    parts: list[RenderableType] = [Text(f"a: {found.runs[0]}\nb: {found.runs[1]}"), *_caveats(found.caveats)]
    for title, differences in (("settings", found.settings), ("provenance", found.provenance)):
        parts += _differing(title, differences)
    parts += [Text("\nfunnel", style="bold"), _funnel(found.funnel)]
    candidates = f"{found.in_both:,} candidates in both, {found.only_a:,} only in a, {found.only_b:,} only in b"
    parts += [Text(f"\n{candidates}"), *_shortlists(found.shortlists)]
    parts += [*_moved(found, count), *_decisions(found, count), *_energies(found)]
    return Group(*parts)


def _caveats(caveats: tuple[list[str], list[str]]) -> list[RenderableType]:
    """What the tables of both runs can't tell; what holds for both is said once."""
    of_a, of_b = caveats
    both = [line for line in of_a if line in of_b]
    told = [("a and b", both), *((run, [c for c in own if c not in both]) for run, own in (("a", of_a), ("b", of_b)))]
    return [as_text(f"{runs}: {line}") for runs, lines in told for line in lines]


def _differing(title: str, differences: list[Difference]) -> list[RenderableType]:
    if not differences:
        return [Text(f"\n{title}: no difference")]
    table = plain_table((name, "left") for name in ("key", "a", "b"))
    for difference in differences:
        table.add_row(*map(as_text, (difference.key, _value(difference.a), _value(difference.b))))
    return [Text(f"\n{title}: what differs", style="bold"), table]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "-" if value is None else str(value)


def _funnel(funnel: pd.DataFrame) -> RenderableType:
    table = plain_table([("step", "left"), *((t, "right") for t in ("entered a", "entered b", "passed a", "passed b"))])
    for row in funnel.to_dict("records"):
        counts = [row[f"{name}_{side}"] for name in ("entered", "passed") for side in ("a", "b")]
        table.add_row(row["step"], *("-" if pd.isna(n) else f"{n:,}" for n in counts))
    return table


def _shortlists(shortlists: dict[str, list[str]]) -> list[RenderableType]:
    titles = {"both": "in both", "only_a": "only in a", "only_b": "only in b"}
    lines: list[RenderableType] = [Text("\nshortlist", style="bold")]
    for key, ids in shortlists.items():
        lines.append(as_text(f"{len(ids)} {titles[key]}" + (f": {', '.join(ids)}" if ids else "")))
    return lines


def _moved(found: Comparison, count: int) -> list[RenderableType]:
    if found.rank_correlation is None:
        return [Text(f"\nranks: {found.common_ranked} candidates are ranked in both")]
    moved = found.moved
    agreement = f"ranks: Spearman {found.rank_correlation:.3f} over {found.common_ranked:,} candidates ranked in both"
    lines: list[RenderableType] = [Text(f"\n{agreement}; {len(moved):,} have another rank{_first(len(moved), count)}")]
    if len(moved):
        table = plain_table([("candidate", "left"), ("rank a", "right"), ("rank b", "right"), ("change", "right")])
        for row in moved.head(count).to_dict("records"):
            ranks = str(row["rank_a"]), str(row["rank_b"]), f"{row['rank_change']:+d}"
            table.add_row(as_text(row["candidate_id"]), *ranks)
        lines.append(table)
    return lines


def _decisions(found: Comparison, count: int) -> list[RenderableType]:
    decisions = found.decisions
    if not len(decisions):
        return [Text("\ngates: the same decision on every candidate that both runs have")]
    ways = plain_table([("in a", "left"), ("in b", "left"), ("candidates", "right")])
    for (a, b), number in decisions[["outcome_a", "outcome_b"]].value_counts().items():
        ways.add_row(as_text(a), as_text(b), f"{number:,}")
    each = plain_table((title, "left") for title in ("candidate", "in a", "in b"))
    for row in decisions.head(count).to_dict("records"):
        each.add_row(*(as_text(row[name]) for name in ("candidate_id", "outcome_a", "outcome_b")))
    title = f"gates: {len(decisions):,} decisions differ"
    return [Text(f"\n{title}", style="bold"), ways, Text(f"\nwhich{_first(len(decisions), count)}"), each]


def _energies(found: Comparison) -> list[RenderableType]:
    if not found.energies:
        return [Text("\nenergies: no candidate has them in both")]
    numbers = ("candidates", "mean", "median |.|", "largest")
    table = plain_table([("b - a, meV/atom", "left"), *((title, "right") for title in numbers), ("of", "left")])
    for e in found.energies:
        changes = (f"{1000 * value:.1f}" for value in (e.mean, e.median_absolute, e.largest))
        table.add_row(e.column, f"{e.rows:,}", *changes, as_text(e.largest_candidate))
    return [Text("\nenergies", style="bold"), table]


def _first(total: int, count: int) -> str:
    return f" (the first {count}; -n shows more, --csv all)" if total > count else ""
