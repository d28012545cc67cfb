"""What a set of labelled frames holds: a table for people, and for the model's card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

ANIONS = ("F", "Cl", "Br", "I", "O", "S", "Se", "Te", "N", "P", "H")
SIZES = (1, 5, 9, 13, 17, 25, 49)
"""First number of atoms of each class of sizes."""


def contents_table(rows: pd.DataFrame, left_out: Mapping[str, int]) -> pd.DataFrame:
    """Count frames by split, source, kind, anion, element and atoms.

    Parameters
    ----------
    rows
        Labelled frames with ``split``, ``source``, ``kind`` and ``atomic_numbers``.
    left_out
        Frames that the filter left out, by reason.

    Returns
    -------
    DataFrame
        ``by``, ``value``, ``frames`` and ``share`` (of all that are kept); a frame counts under each of its elements
        and anions.
    """
    import pandas as pd

    lines = [(by, str(value), int(n)) for by, value, n in _counts(rows)]
    lines += [("left out", reason, n) for reason, n in left_out.items()]
    table = pd.DataFrame(lines, columns=["by", "value", "frames"])
    return table.assign(share=[round(n / len(rows), 4) for n in table["frames"]])


def _counts(rows: pd.DataFrame) -> Iterator[tuple[str, Any, int]]:
    from ase.data import chemical_symbols

    for by in ("split", "source", "kind"):
        yield from ((by, value, n) for value, n in rows[by].value_counts().sort_index().items())
    held = [np.unique(z) for z in rows["atomic_numbers"]]
    numbers, frames = np.unique(np.concatenate(held), return_counts=True)
    by_element = {chemical_symbols[z]: int(n) for z, n in zip(numbers, frames, strict=True)}
    yield from (("anion", symbol, by_element[symbol]) for symbol in ANIONS if symbol in by_element)
    yield from (("element", symbol, n) for symbol, n in by_element.items())
    atoms = np.array([len(z) for z in rows["atomic_numbers"]])
    for first, after in zip(SIZES, (*SIZES[1:], None), strict=True):
        inside = (atoms >= first) & (True if after is None else atoms < after)
        if inside.any():
            yield "atoms", f"{first} or more" if after is None else f"{first} to {after - 1}", int(inside.sum())
