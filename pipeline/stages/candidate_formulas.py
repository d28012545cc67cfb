"""Formulas and chemical systems of many assignments at once, as Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kernels.assignment_measures import compositions

if TYPE_CHECKING:
    import pyarrow as pa

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

POLYANION = 1.65
"""Difference of electronegativity below which pymatgen writes the last two elements of a formula as a group."""

ELEMENTS = 104
"""Atomic numbers run from 1 to 103; 0 stands for nothing."""


@dataclass(frozen=True)
class _Order:
    """By atomic number: place in a formula, place in the alphabet (from 1; 0 for nothing), electronegativity."""

    formula: IntArray
    alphabet: IntArray
    electronegativity: FloatArray
    symbols: pa.Array
    """By atomic number, then all once more with an opening bracket."""
    alphabetical: pa.Array


@cache
def _order() -> _Order:
    import pyarrow as pa
    from pymatgen.core import Element

    elements = {z: Element.from_Z(z) for z in range(1, ELEMENTS)}
    symbol = {z: str(e.symbol) for z, e in elements.items()}
    # pymatgen sorts a formula by electronegativity, then by symbol; noble gases without one come last
    chi = {z: np.inf if e.is_noble_gas else float(e.X) for z, e in elements.items()}
    by_formula = sorted(elements, key=lambda z: (chi[z], symbol[z]))
    by_name = sorted(elements, key=lambda z: symbol[z])
    places = np.zeros((2, ELEMENTS), dtype=np.int64)
    for row, ordered in enumerate((by_formula, by_name)):
        for place, z in enumerate(ordered, start=1):
            places[row, z] = place
    return _Order(
        formula=places[0],
        alphabet=places[1],
        electronegativity=np.array([np.nan, *(chi[z] for z in elements)], dtype=float),
        symbols=pa.array([None, *symbol.values(), None, *(f"({s}" for s in symbol.values())], type=pa.string()),
        alphabetical=pa.array([None, *(symbol[z] for z in by_name)], type=pa.string()),
    )


def formulas(elements: IntArray, multiplicity: IntArray) -> tuple[list[str], list[str], list[str]]:
    """Reduced formulas (pymatgen's), the same without brackets, and chemical systems.

    Parameters
    ----------
    elements : (m, slots) int
        Atomic numbers.
    multiplicity : (slots,) int
        Atoms on each slot.
    """
    pretty, plain, chemsys = formula_columns([reduced(elements, multiplicity)])
    return pretty.to_pylist(), plain.to_pylist(), chemsys.to_pylist()


def reduced(elements: IntArray, multiplicity: IntArray) -> tuple[IntArray, IntArray]:
    """Elements in the order of a formula, padded with -1, and their reduced amounts, (m, k) each."""
    return compositions(elements, multiplicity, _order().formula)


def formula_columns(parts: Sequence[tuple[IntArray, IntArray]]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """What :func:`formulas` gives, for the compositions of several prototypes, from :func:`reduced`."""
    import pyarrow as pa

    order = _order()
    found = stacked([np.maximum(elements, 0).T for elements, _ in parts])
    amounts = stacked([amount.T for _, amount in parts])
    count = (amounts > 0).sum(axis=0)
    amount_words = pa.array(["", "", *map(str, range(2, int(amounts.max(initial=1)) + 1))], type=pa.string())
    symbols = words(order.symbols, found)
    plain = joined(_alternating(symbols, words(amount_words, amounts)), "")
    pretty = plain
    opens, factor = _groups(found, amounts, count)
    if len(opens):
        places = np.stack([count[opens] - 2, count[opens] - 1])
        found, amounts = found.copy(), amounts.copy()
        found[places[0], opens] += ELEMENTS
        amounts[places, opens] //= factor
        closing = np.zeros(len(count), dtype=np.int32)
        closing[opens] = factor
        brackets = pa.array(["", "", *(f"){n}" for n in range(2, int(factor.max()) + 1))], type=pa.string())
        terms = _alternating(words(order.symbols, found), words(amount_words, amounts))
        pretty = joined([*terms, brackets.take(pa.array(closing))], "")
        found[places[0], opens] -= ELEMENTS
    # nothing sorts as the last
    alphabet = np.sort(np.where(found > 0, order.alphabet[found], ELEMENTS), axis=0)
    chemsys = joined(words(order.alphabetical, np.where(alphabet < ELEMENTS, alphabet, 0)), "-")
    simple = np.flatnonzero((count <= 2) & (amounts.max(axis=0, initial=0) == 1))
    return _not_reduced(pretty, simple), _not_reduced(plain, simple), chemsys


def _groups(found: IntArray, amounts: IntArray, count: IntArray) -> tuple[IntArray, IntArray]:
    """Rows that pymatgen writes with their last two elements as a group, ``Li(PO3)2``; and how often the group is."""
    rows = np.flatnonzero(count >= 3)
    last = count[rows] - 1
    chi = _order().electronegativity
    step = chi[found[last, rows]] - chi[found[last - 1, rows]]
    factor = np.gcd(amounts[last, rows], amounts[last - 1, rows])
    grouped = (step < POLYANION) & (factor > 1)
    return rows[grouped], factor[grouped]


def _not_reduced(column: pa.Array, rows: IntArray) -> pa.Array:
    """Put formulas that pymatgen does not reduce, such as Li2O2 and Cl2, in the place of the reduced ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = column.take(pa.array(rows)).to_pylist()
    whole = [_special_formulas().get(name, name) for name in names]
    if whole == names:
        return column
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), pa.array(whole, type=pa.string()))


@cache
def _special_formulas() -> dict[str, str]:
    from pymatgen.core import Composition

    return dict(Composition.special_formulas)


def _alternating(symbols: list[pa.Array], amounts: list[pa.Array]) -> list[pa.Array]:
    return [term for pair in zip(symbols, amounts, strict=True) for term in pair]


def stacked(parts: Sequence[IntArray]) -> IntArray:
    """Small whole numbers of several prototypes, (columns, rows) each, side by side; 0 where one has fewer columns."""
    rows = sum(part.shape[1] for part in parts)
    out = np.zeros((max((len(part) for part in parts), default=0), rows), dtype=np.int64)
    at = 0
    for part in parts:
        out[: len(part), at : at + part.shape[1]] = part
        at += part.shape[1]
    return out


def words(table: pa.Array, numbers: IntArray) -> list[pa.Array]:
    """Words of whole numbers (columns, rows)."""
    import pyarrow as pa

    return [table.take(pa.array(column)) for column in numbers]


def joined(columns: Sequence[pa.Array], separator: str) -> pa.Array:
    """Columns of words joined row by row, absent ones (null) passed over."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not columns:
        return pa.array([], type=pa.string())
    return pc.binary_join_element_wise(*columns, separator, null_handling="skip")
