"""Rows that failed: candidates and competing phases told apart, and when there are too many of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workflows.steps import Step

ALLOWED_FAILED_PHASES = 0.5
"""Share of a self-consistent reference that may fail. Many of its crystals are hypothetical, such as LiCl4, and burst
when they are relaxed; a potential that fails at most of them is not to be trusted with the others."""

PHASES = "competing_phases"


def largest_failed_share(steps: Sequence[Step]) -> float:
    """Largest share of candidates that failed in a step; competing phases are no candidates."""
    return max((step.failed / step.tried for step in _of_candidates(steps)), default=0.0)


def failures_told(steps: Sequence[Step]) -> str:
    """What failed, in words, the competing phases last; empty when nothing did."""
    told = [
        f"{step.failed:,} of {step.tried:,} candidates failed in {step.step} ({step.failed / step.tried:.1%})"
        for step in _of_candidates(steps)
        if step.failed
    ]
    told += [f"{s.failed:,} of {s.entered:,} competing phases failed" for s in steps if s.stage == PHASES and s.failed]
    return "; ".join(told)


def too_many_failed(steps: Sequence[Step], allowed: float) -> list[str]:
    """What is wrong with the number of rows that failed; empty when it is within bounds.

    Parameters
    ----------
    steps
        The funnel.
    allowed
        Share of a step's candidates that may fail. Of the competing phases `ALLOWED_FAILED_PHASES` may, as long as each
        element keeps a crystal.
    """
    problems = [
        f"{step.failed:,} of {step.tried:,} candidates failed in {step.step} ({step.failed / step.tried:.1%}), "
        f"{allowed:.1%} are allowed (run.allowed_failed_share)"
        for step in _of_candidates(steps)
        if step.failed / step.tried > allowed
    ]
    for step in steps:
        if step.stage != PHASES or not step.entered:
            continue
        if step.lost_elements:
            lost = ", ".join(step.lost_elements)
            problems.append(f"every crystal of the element {lost} failed: no candidate with it has a formation energy")
        if step.failed / step.entered > ALLOWED_FAILED_PHASES:
            problems.append(
                f"{step.failed:,} of {step.entered:,} competing phases failed ({step.failed / step.entered:.1%}), "
                f"{ALLOWED_FAILED_PHASES:.0%} are allowed: does the potential know these elements?"
            )
    return problems


def lost_elements(rows: pd.DataFrame, elements: pd.DataFrame) -> list[str]:
    """Elements among the competing phases of which no crystal has an energy, in alphabetical order.

    Parameters
    ----------
    rows
        Competing phases, with ``chemsys``.
    elements
        Those that have an energy, in column ``element``.
    """
    alone = {chemsys for chemsys in rows["chemsys"] if "-" not in chemsys}
    return sorted(alone - set(elements["element"]))


def _of_candidates(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.stage != PHASES and step.tried]
