"""Counts of candidates in words, and what to do when the cheap gates leave none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.wording import MOST

LISTED_AT_MOST = 20_000
"""Raw assignments up to which a check of a campaign lists them all, in a few seconds."""

_REMEDIES = {
    "element_not_allowed": "candidates.elements lacks elements that they have, or exclude_elements or exclude_classes "
    "takes them out",
    "no_mobile_ion": "they have none of mobile_ions",
    "is_parent": "candidates.gates.keep_parents leaves out the prototypes themselves",
}


def counts_in_words(counts: Mapping[str, int]) -> list[str]:
    """Lines for :func:`pipeline.stages.candidates.count`; what is nought and means nothing is left out."""
    lines = [
        f"prototypes: {counts['prototypes']:,}",
        f"raw assignments of ions: {counts['raw_assignments']:,}",
        f"candidates before the cheap gates: {counts['candidates']:,}",
    ]
    if uncharged := counts["prototypes_without_oxidation_states"]:
        lines.insert(1, f"of these without oxidation states that balance their charge, or with several: {uncharged:,}")
    if whole := counts["prototypes_element_wise"]:
        lines.insert(-2, f"of these with an element too large to be substituted by orbit: {whole:,}")
    return lines


def uncharged_in_words(names: Sequence[str]) -> str:
    """Name the crystals, screened as they are, that have no oxidation states."""
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return f"without oxidation states: {', '.join(names[:MOST])}{more}; whose charge nothing balances will be suspect"


def none_passes(entered: int, rejected_by: Mapping[str, int]) -> str:
    """Why no candidate is left before anything is relaxed, and what to change."""
    if not entered:
        return "no ions of these elements fit these prototypes; widen elements, charges or prototypes"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected_by.items())
    hints = [_REMEDIES.get(reason, f"widen candidates.gates.{reason}") for reason in rejected_by]
    return f"none of {entered:,} passes the cheap gates (out: {reasons}): {'; '.join(hints)}"
