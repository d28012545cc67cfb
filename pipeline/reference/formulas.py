"""Chemical formulas as tuples of whole numbers, parsed fast enough for a table of 100,000."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from pipeline.wording import quoted, shortened

if TYPE_CHECKING:
    from pymatgen.core import Structure

CompositionKey = tuple[tuple[str, int], ...]
"""Element and amount, in alphabetical order, divided by the greatest common divisor."""

LONGEST_FORMULA = 500
"""Characters."""
MOST_DIGITS = 9
"""Of an amount, so that sums and products of amounts stay exact."""

_PLAIN = re.compile(r"(?:[A-Z][a-z]?[0-9]*)+")
_PLAIN_LINES = re.compile(r"(?:[A-Z][a-z]?[0-9]{0,9})+(?:\n(?:[A-Z][a-z]?[0-9]{0,9})+)*")
_TERM = re.compile(r"([A-Z][a-z]?)([0-9]*)")
_DEEPEST_BRACKETS = 10
_GROUP = re.compile(r"\(((?:[A-Z][a-z]?[0-9]*)+)\)([0-9]*)")


@lru_cache(maxsize=1)
def element_symbols() -> frozenset[str]:
    """Symbols of all elements."""
    from pymatgen.core import Element

    return frozenset(e.symbol for e in Element)


@cache
def atomic_number(symbol: str) -> int:
    """Atomic number of an element."""
    from pymatgen.core import Element

    return int(Element(symbol).Z)


@cache
def element_symbol(number: int) -> str:
    """Symbol of an atomic number."""
    from pymatgen.core import Element

    return str(Element.from_Z(number).symbol)


def composition_key(formula: str) -> CompositionKey:
    """Read a formula into a key that is equal for equal compositions, whatever the order or the multiple.

    Parameters
    ----------
    formula
        Such as ``Li3YCl6`` or ``Ca(OH)2``; amounts must be whole numbers or a small multiple of them.

    Raises
    ------
    ValueError
        When it is no formula or longer than `LONGEST_FORMULA`, holds an unknown element, or its amounts are no ratio
        of whole numbers or have more than `MOST_DIGITS`.
    """
    if not isinstance(formula, str) or not formula:
        raise ValueError(f"{quoted(formula)} is no chemical formula")
    if len(formula) > LONGEST_FORMULA:
        raise ValueError(f"{quoted(formula)} has {len(formula):,} characters; a formula has {LONGEST_FORMULA} at most")
    amounts: dict[str, int] = {}
    plain = _without_brackets(formula)
    if _PLAIN.fullmatch(plain):
        known = element_symbols()
        for symbol, number in _TERM.findall(plain):
            if symbol not in known:
                raise ValueError(f"unknown element {symbol!r} in formula {quoted(formula)}")
            amounts[symbol] = amounts.get(symbol, 0) + (int(number) if number else 1)
    else:
        amounts = _amounts_by_pymatgen(formula)
    divisor = gcd(*amounts.values())
    if divisor == 0 or min(amounts.values()) <= 0:
        raise ValueError(f"formula {quoted(formula)} has an amount of zero")
    if max(amounts.values()) >= 10**MOST_DIGITS:
        raise ValueError(f"formula {quoted(formula)} has an amount of more than {MOST_DIGITS} digits")
    return tuple((symbol, amounts[symbol] // divisor) for symbol in sorted(amounts))


def composition_keys(formulas: Sequence[str]) -> list[CompositionKey]:
    """Read many formulas at once, each as `composition_key` reads it.

    They are read as one text where none has decimals or names an element twice, a hundred thousand in half a second.

    Parameters
    ----------
    formulas
        n formulas.

    Returns
    -------
    list
        n keys, in order.

    Raises
    ------
    ValueError
        As `composition_key`, for the first formula that can't be read.
    """
    usual = all(isinstance(f, str) and len(f) <= LONGEST_FORMULA for f in formulas)
    text = "\n".join(formulas) if usual else ""
    if formulas and text.count("\n") == len(formulas) - 1:
        keys = _plain_keys(_without_brackets(text))
        if keys is not None:
            return keys
    return [composition_key(f) for f in formulas]


def _plain_keys(text: str) -> list[CompositionKey] | None:
    """Keys of the formulas in the lines of a text; None when one of them is not as plain as that."""
    if not _PLAIN_LINES.fullmatch(text):
        return None
    terms = _TERM.findall(text)
    symbols = sorted(element_symbols())
    number_of = {symbol: i for i, symbol in enumerate(symbols)}
    elements = np.array([number_of.get(symbol, -1) for symbol, _ in terms])
    amounts = np.array([int(number) if number else 1 for _, number in terms])
    letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    formula_of = np.cumsum(letters == ord("\n"))[(letters >= ord("A")) & (letters <= ord("Z"))]
    order = np.lexsort((elements, formula_of))
    elements, amounts = elements[order], amounts[order]
    twice = (np.diff(elements) == 0) & (np.diff(formula_of) == 0)
    if elements.min() < 0 or amounts.min() <= 0 or twice.any():
        return None
    starts = np.flatnonzero(np.diff(formula_of, prepend=-1))
    ends = np.append(starts[1:], len(elements))
    amounts = amounts // np.repeat(np.gcd.reduceat(amounts, starts), ends - starts)
    pairs = [(symbols[e], n) for e, n in zip(elements.tolist(), amounts.tolist(), strict=True)]
    return [tuple(pairs[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _without_brackets(formula: str) -> str:
    """Multiply brackets out, as far as they can be read."""
    for _ in range(_DEEPEST_BRACKETS):
        if "(" not in formula:
            break
        formula = _GROUP.sub(_multiplied, formula)
    return formula


def _multiplied(group: re.Match[str]) -> str:
    """Write the innermost group ``(PO4)3`` as ``P3O12``."""
    factor = int(group[2] or 1)
    return "".join(f"{symbol}{int(number or 1) * factor}" for symbol, number in _TERM.findall(group[1]))


def _amounts_by_pymatgen(formula: str) -> dict[str, int]:
    from pymatgen.core import Composition

    try:
        composition = Composition(formula, strict=True)
        reduced, _ = composition.get_integer_formula_and_factor()
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{quoted(formula)} is no chemical formula ({shortened(str(error))})") from None
    amounts = {str(e): round(x) for e, x in Composition(reduced).items()}
    total, whole = composition.num_atoms, sum(amounts.values())
    if not amounts or any(abs(composition[e] / total - n / whole) > 1e-6 for e, n in amounts.items()):
        raise ValueError(f"the amounts of {quoted(formula)} are no ratio of whole numbers; write whole numbers")
    return amounts


@lru_cache(maxsize=65536)
def reduced_formula(key: CompositionKey) -> str:
    """Give pymatgen's reduced formula of a composition key, such as ``Li3YCl6`` (or ``Cl2`` for the element)."""
    from pymatgen.core import Composition

    with warnings.catch_warnings():
        # A noble gas has no electronegativity to be sorted by; pymatgen says so and puts it last.
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        formula: str = Composition(dict(key)).reduced_formula
    return formula


def named_amounts(phases: Iterable[tuple[CompositionKey, float]]) -> dict[str, float]:
    """Give phases their formulas, largest amount first, equal amounts by name (so that rounding orders nothing)."""
    named = [(reduced_formula(key), float(amount)) for key, amount in phases]
    return dict(sorted(named, key=lambda item: (-round(item[1], 6), item[0])))


def structure_formula(structure: Structure) -> str:
    """Give the reduced formula of an ordered crystal, without oxidation states."""
    counts = Counter(site.specie.symbol for site in structure)
    divisor = gcd(*counts.values())
    return reduced_formula(tuple((symbol, counts[symbol] // divisor) for symbol in sorted(counts)))
