"""Which elements entered the funnel and which came out of it, on the periodic table."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import pandas as pd

_SYMBOL = re.compile(r"[A-Z][a-z]?")


@dataclass(frozen=True)
class ElementCounts:
    """Candidates that contain each element, before the stages and after them."""

    before: dict[str, int]
    after: dict[str, int]


def element_counts(before: pd.Series, after: pd.Series) -> ElementCounts:
    """Count candidates by element, from two columns ``chemsys`` ('Cl-Li-Y')."""
    return ElementCounts(_counted(before), _counted(after))


def _counted(systems: pd.Series) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for system, rows in systems.value_counts().items():
        for symbol in str(system).split("-"):
            if _SYMBOL.fullmatch(symbol):
                counts[symbol] += int(rows)
    return dict(sorted(counts.items()))


def positions() -> dict[str, tuple[int, int]]:
    """Row and column of each element, 1-based; lanthanides and actinides in rows 8 and 9 below the main table."""
    from pymatgen.core import Element

    places = {}
    for element in Element:
        if element.Z > 118 or element.symbol in ("D", "T"):
            continue
        if element.is_lanthanoid or element.is_actinoid:
            first = 57 if element.is_lanthanoid else 89
            places[element.symbol] = (8 if first == 57 else 9, element.Z - first + 3)
        else:
            places[element.symbol] = (element.row, element.group)
    return places
