"""Rows of the table of candidates: names, formulas and identities, for a prototype's assignments at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kernels.assignment_measures import compositions, row_kinds
from kernels.site_images import canonical_forms
from pipeline import schema
from pipeline.reference.ions import ion_label
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.settings import CandidateSettings

if TYPE_CHECKING:
    import pyarrow as pa

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

POLYANION = 1.65
"""Difference of electronegativity below which pymatgen writes the last two elements of a formula as a group."""


@dataclass(frozen=True)
class Placed:
    """Ions on a prototype: ``elements`` and ``charges`` (m, slots), the slot of each orbit, and the measures (m,)."""

    elements: IntArray
    charges: IntArray
    slot_of: IntArray
    mobile_atoms: IntArray
    mismatch: FloatArray
    probability: FloatArray


def candidate_rows(
    prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings, placed: Placed
) -> tuple[pa.Table, int]:
    """Columns of stage candidates, and the number of parents that were left out (``gates.keep_parents: false``)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    m = len(placed.elements)
    none = settings.substitution == "none"
    multiplicity = np.bincount(placed.slot_of, weights=prototype.orbit_multiplicities).astype(np.int64)
    pretty, plain, chemsys = formulas(placed.elements, multiplicity)
    forms = _forms(prototype, placed)
    parents = _parent_forms(prototype, library, settings)
    is_parent = np.array([form in parents for form in forms], dtype=bool) & (not none)
    values: dict[str, Any] = {
        "candidate_id": [
            f"{formula}-{prototype.prototype_id}-{_digest(form)}" for formula, form in zip(plain, forms, strict=True)
        ],
        "formula_pretty": pretty,
        "chemsys": chemsys,
        "nsites": prototype.n_sites,
        "prototype_id": prototype.prototype_id,
        "prototype_source": prototype.source_id,
        "prototype_formula": prototype.formula,
        "spacegroup_number": prototype.spacegroup_number,
        "ions": _ions(placed),
        "is_parent": is_parent,
        "substitution": _way(prototype, placed, none=none),
        "mobile_ion_fraction": placed.mobile_atoms / prototype.n_sites,
        "radius_mismatch": placed.mismatch,
        "substitution_probability": placed.probability,
    }
    fields = schema.arrow_fields(values)
    columns = [
        pa.repeat(pa.scalar(values[f.name], f.type), m)
        if isinstance(values[f.name], (str, int))
        else pa.array(values[f.name], type=f.type)
        for f in fields
    ]
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    if settings.gates.keep_parents:
        return table, 0
    return table.filter(pc.invert(table["is_parent"])), int(is_parent.sum())


def _digest(form: str) -> str:
    return hashlib.sha256(form.encode()).hexdigest()[:8]


def candidate_id(plain_formula: str, prototype_id: str, form: Sequence[int]) -> str:
    """``<formula>-<prototype>-<digest of the elements on the orbits>``: safe in file names, alike in every campaign.

    ``form`` holds the atomic numbers in canonical form (:func:`kernels.site_images.canonical_forms`).
    """
    return f"{plain_formula}-{prototype_id}-{_digest(' '.join(str(z) for z in form))}"


def _orbit_words(values: IntArray, slot_of: IntArray, word: Callable[[int], str]) -> list[str]:
    """Small whole numbers on slots (m, slots), as the words of each row's orbits joined by spaces."""
    present = np.zeros(int(values.max(initial=0)) + 1, dtype=bool)
    present[values] = True
    words = np.empty(len(present), dtype=object)
    for value in np.flatnonzero(present).tolist():
        words[value] = word(value)
    columns = [words[column].tolist() for column in values.T]
    return [" ".join(row) for row in zip(*(columns[s] for s in slot_of.tolist()), strict=True)]


def _forms(prototype: Prototype, placed: Placed) -> list[str]:
    """Atomic numbers on the orbits, in canonical form."""
    if not len(prototype.images):
        return _orbit_words(placed.elements, placed.slot_of, str)
    on_orbits = canonical_forms(placed.elements[:, placed.slot_of], prototype.images)
    return _orbit_words(on_orbits, np.arange(on_orbits.shape[1]), str)


def _ions(placed: Placed) -> list[str]:
    code = placed.elements * 32 + placed.charges + 16
    return _orbit_words(code, placed.slot_of, lambda c: _ion_text(c // 32, c % 32 - 16))


def _ion_text(number: int, charge: int) -> str:
    return ion_label(_symbol(number), charge) if charge else _symbol(number)


def _way(prototype: Prototype, placed: Placed, *, none: bool) -> Any:
    if none:
        return "none"
    first_of_class = [prototype.orbit_class.index(c) for c in prototype.orbit_class]
    own, leader = placed.slot_of, placed.slot_of[first_of_class]
    split = np.flatnonzero(own != leader)
    if not len(split):
        return "element"
    mixed = (placed.elements[:, own[split]] != placed.elements[:, leader[split]]).any(axis=1)
    return np.where(mixed, "orbit", "element").tolist()


def _parent_forms(prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings) -> set[str]:
    """Elements on the orbits, in canonical form, of every crystal that the prototype stands for."""
    stands_for = [prototype]
    if settings.substitution == "charge_neutral":
        stands_for = [p for p in library.by_frame[prototype.frame] if p.has_charges]
    assigned = {
        tuple(_atomic_number(m.class_elements[c]) for c in prototype.orbit_class) for p in stands_for for m in p.members
    }
    forms = canonical_forms(np.array(sorted(assigned), dtype=np.int64), prototype.images)
    return set(_orbit_words(forms, np.arange(forms.shape[1]), str))


@cache
def _atomic_number(symbol: str) -> int:
    from pymatgen.core import Element

    return int(Element(symbol).Z)


@cache
def _symbol(number: int) -> str:
    from pymatgen.core import Element

    return str(Element.from_Z(number).symbol)


@dataclass(frozen=True)
class _Order:
    """By atomic number: place in a formula, place in the alphabet, electronegativity; and symbols by either place."""

    formula: IntArray
    alphabet: IntArray
    electronegativity: FloatArray
    symbols: npt.NDArray[Any]
    alphabetical: npt.NDArray[Any]


@cache
def _order() -> _Order:
    from pymatgen.core import Element

    elements = {z: Element.from_Z(z) for z in range(1, 104)}
    symbol = {z: str(e.symbol) for z, e in elements.items()}
    # pymatgen sorts a formula by electronegativity, then by symbol; noble gases without one come last
    chi = {z: np.inf if e.is_noble_gas else float(e.X) for z, e in elements.items()}
    by_formula = sorted(elements, key=lambda z: (chi[z], symbol[z]))
    by_name = sorted(elements, key=lambda z: symbol[z])
    places = np.zeros((2, 104), dtype=np.int64)
    for row, ordered in enumerate((by_formula, by_name)):
        for place, z in enumerate(ordered):
            places[row, z] = place
    names = np.array(["", *(symbol[z] for z in range(1, 104))], dtype=object)
    alphabetical = np.array([symbol[z] for z in by_name], dtype=object)
    return _Order(
        places[0], places[1], np.array([np.nan, *(chi[z] for z in range(1, 104))], dtype=float), names, alphabetical
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
    order = _order()
    found, amounts = compositions(elements, multiplicity, order.formula)
    count = (amounts > 0).sum(axis=1)
    pretty = np.empty(len(elements), dtype=object)
    plain, chemsys = pretty.copy(), pretty.copy()
    last = np.maximum(count - 1, 0)[:, None]
    chi = order.electronegativity[found]
    step = np.take_along_axis(chi, last, axis=1) - np.take_along_axis(chi, np.maximum(last - 1, 0), axis=1)
    grouped = (count >= 3) & (step[:, 0] < POLYANION)
    shapes = np.column_stack([amounts, grouped])
    kind = row_kinds(shapes)
    by_kind = np.argsort(kind, kind="stable")
    cuts = np.cumsum(np.bincount(kind))[:-1]
    for rows in np.split(by_kind, cuts):
        if not len(rows):
            continue
        *numbers, group = shapes[rows[0]].tolist()
        numbers = [n for n in numbers if n]
        own = found[rows, : len(numbers)]
        symbols = list(zip(*order.symbols[own].T.tolist(), strict=True))
        terms = ["%s" + (str(n) if n > 1 else "") for n in numbers]
        simple = "".join(terms)
        plain[rows] = [simple % s for s in symbols]
        shape = _bracketed(numbers, terms) if group else simple
        pretty[rows] = plain[rows] if shape == simple else [shape % s for s in symbols]
        names = order.alphabetical[np.sort(order.alphabet[own], axis=1)]
        chemsys[rows] = ["-".join(n) for n in names.tolist()]
        if numbers in ([1], [1, 1]):
            for column in (pretty, plain):
                column[rows] = [_not_reduced().get(f, f) for f in column[rows]]
    return pretty.tolist(), plain.tolist(), chemsys.tolist()


def _bracketed(numbers: list[int], terms: list[str]) -> str:
    """The last two elements as a group, where both occur a multiple of times: ``Li(PO3)2``... as pymatgen does."""
    factor = int(np.gcd(numbers[-1], numbers[-2]))
    if factor == 1:
        return "".join(terms)
    inner = "".join("%s" + (str(n // factor) if n > factor else "") for n in numbers[-2:])
    return "".join(terms[:-2]) + f"({inner}){factor}"


@cache
def _not_reduced() -> dict[str, str]:
    """Formulas that pymatgen does not reduce, such as Li2O2 and Cl2."""
    from pymatgen.core import Composition

    return dict(Composition.special_formulas)
