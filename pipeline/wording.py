"""Values in messages: short enough to be read, whatever they are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 80
"""Characters of one value."""
MOST = 8
"""Values of one list."""
LIKE = 0.7
"""Likeness (difflib) from which on one name is taken for another misspelt."""


def quoted(value: object) -> str:
    """Write a value as Python does, its middle left out where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"{type(value).__name__} of too many digits"
    return shortened(text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Leave out the middle of a long text, and say how much."""
    if len(text) <= longest:
        return text
    head, tail = longest * 3 // 4, longest // 4
    return f"{text[:head]}... ({len(text) - head - tail:,} more characters) ...{text[-tail:]}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``; did you mean 'x'?``, whatever the case of its letters; empty when nothing known looks like the name."""
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=LIKE)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def counted(number: int, what: str) -> str:
    """``1 crystal``, ``2 crystals``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(values: Sequence[object]) -> str:
    """Write the first values, and how many there are beyond."""
    more = f" and {len(values) - MOST:,} more" if len(values) > MOST else ""
    return ", ".join(quoted(value) for value in values[:MOST]) + more
