"""The plan in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from workflows.candidate_counts import counts_in_words
from workflows.planning import UNITS_PER_SECOND, Plan

LEAST_GIB = 0.001
"""Less than this on disk is not told exactly."""


def print_plan(console: Console, plan: Plan) -> None:
    """Print counts, the table of steps, and the time and cost in all."""
    facts = plan.as_dict()
    for line in counts_in_words(plan.counts):
        console.print(line, highlight=False, markup=False)
    sample = plan.sample
    reasons = ", ".join(f"{share:.1%} {reason}" for reason, share in sample.rejected.items())
    console.print(
        f"cheap gates, from a sample: {sample.passing:.1%} ± {sample.standard_error:.1%} pass "
        f"(out: {reasons or 'none'})",
        highlight=False,
    )
    console.print(_table(plan))
    if unknown := facts["steps_without_a_rate"]:
        console.print(f"without {', '.join(unknown)}, whose rate is not measured:", highlight=False)
    here = facts["this_machine"]
    console.print(f"this machine, {here['workers']} workers: {_hours(here['hours'])}", highlight=False)
    if cluster := facts.get("cluster"):
        cost = "" if cluster["cost_USD"] is None else f", {cluster['cost_USD']:,.0f} USD"
        speed = f"{cluster['relative_speed']:g} times as fast each"
        console.print(
            f"cluster, {cluster['workers']:,} workers, {speed}: {_hours(cluster['hours'])}{cost}", highlight=False
        )
        if better := cluster["better_chunk_sizes"]:
            sizes = ", ".join(f"{size} for {step}" for step, size in better.items())
            console.print(
                f"so many workers wait for units, of which {UNITS_PER_SECOND:g} a second are handed out; "
                f"better chunk_size: {sizes}",
                highlight=False,
            )


def _table(plan: Plan) -> Table:
    table = Table(header_style="bold", pad_edge=False, box=None)
    table.add_column("step")
    for title in ("rows", "go on", "ms/row", "core time", "GiB on disk", "GiB a worker"):
        table.add_column(title, justify="right")
    table.add_column("note", overflow="fold")
    for step in plan.steps:
        table.add_row(
            step.step,
            f"{step.rows:,.0f}",
            share_in_words(step.passing),
            "-" if step.seconds_per_row is None else _milliseconds(1000.0 * step.seconds_per_row),
            "-" if step.core_hours is None else time_in_words(step.core_hours),
            "-" if step.disk_GiB is None else _gibibytes(step.disk_GiB),
            "-" if step.worker_memory_GiB is None else f"{step.worker_memory_GiB:.2g}",
            "; ".join(text for text in (f"go on: {step.passing_from}", step.note) if text),
        )
    return table


def share_in_words(share: float) -> str:
    """In per cent with two digits or more; what is not quite all of them is not 100 %."""
    percent = 100.0 * share
    if percent >= 99.95:
        return "100 %" if share >= 1.0 else "> 99.9 %"
    return f"{percent:.3g} %" if percent >= 10.0 else f"{percent:.2g} %"


def _gibibytes(number: float) -> str:
    return f"{number:.3g}" if number >= LEAST_GIB or not number else f"< {LEAST_GIB:g}"


def _milliseconds(number: float) -> str:
    return f"{number:,.0f}" if number >= 100.0 else f"{number:.3g}"


def _hours(hours: float | None) -> str:
    return "unknown; run it without --no-measure once" if hours is None else time_in_words(hours)


def time_in_words(hours: float) -> str:
    """A time in the unit that suits it."""
    seconds = 3600.0 * hours
    if seconds < 1.0:
        return "< 1 s" if seconds else "0 s"
    if seconds < 60.0:
        return f"{seconds:.0f} s"
    if hours < 1.0:
        return f"{60.0 * hours:.1f} min"
    return f"{hours:,.1f} h" if hours < 72.0 else f"{hours / 24.0:,.1f} days"
