"""Rows of the table of candidates: names, formulas and identities, for the assignments of many prototypes at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kernels.site_images import canonical_forms
from pipeline import schema
from pipeline.candidate_settings import CandidateSettings
from pipeline.reference.formulas import atomic_number, element_symbol
from pipeline.reference.ions import ion_label
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.stages.candidate_formulas import ELEMENTS, formula_columns, formulas, joined, reduced, stacked, words

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Placed", "candidate_id", "candidate_rows", "formulas"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

WAYS = ("element", "orbit", "none")


@dataclass(frozen=True)
class Placed:
    """Ions on a prototype: ``elements`` and ``charges`` (m, slots), the slot of each orbit, and the measures (m,)."""

    prototype: Prototype
    slot_of: IntArray
    elements: IntArray
    charges: IntArray
    mobile_atoms: IntArray
    mismatch: FloatArray
    probability: FloatArray

    def of_rows(self, keep: BoolArray) -> Placed:
        """Some of the rows."""
        return replace(
            self,
            elements=self.elements[keep],
            charges=self.charges[keep],
            mobile_atoms=self.mobile_atoms[keep],
            mismatch=self.mismatch[keep],
            probability=self.probability[keep],
        )


def candidate_rows(
    parts: Sequence[Placed], library: PrototypeLibrary, settings: CandidateSettings
) -> tuple[pa.Table, int]:
    """Columns of stage candidates, and the number of parents that were left out (``gates.keep_parents: false``).

    Parameters
    ----------
    parts
        One or more; few rows cost as much as many, so small ones are made together.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    none = settings.substitution == "none"
    pretty, plain, chemsys = formula_columns([_composition(part) for part in parts])
    found = [_forms(part, library, settings) for part in parts]
    forms = joined(words(_number_words(), stacked([own for own, _ in found])), " ")
    texts = forms.cast(pa.binary()).to_numpy(zero_copy_only=False).tolist()
    is_parent = _are_among(texts, [parents for _, parents in found], [own.shape[1] for own, _ in found])
    ions = joined(words(_ion_words(), stacked([_on_orbits(_ion_code(p), p.slot_of) for p in parts])), " ")
    sizes = [len(part.elements) for part in parts]
    part_of_row = pa.array(np.repeat(np.arange(len(parts)), sizes))
    prototypes = [part.prototype for part in parts]
    own: dict[str, list[Any]] = {
        "nsites": [p.n_sites for p in prototypes],
        "prototype_id": [p.prototype_id for p in prototypes],
        "prototype_source": [p.source_id for p in prototypes],
        "prototype_formula": [p.formula for p in prototypes],
        "spacegroup_number": [p.spacegroup_number for p in prototypes],
    }
    columns = {name: pa.array(values).take(part_of_row) for name, values in own.items()}
    columns |= {
        "candidate_id": joined([plain, columns["prototype_id"], _digests(texts)], "-"),
        "formula_pretty": pretty,
        "chemsys": chemsys,
        "ions": ions,
        "is_parent": is_parent,
        "substitution": pa.array(WAYS).take(pa.array(np.concatenate([_way(part, none=none) for part in parts]))),
        "mobile_ion_fraction": np.concatenate([part.mobile_atoms / part.prototype.n_sites for part in parts]),
        "radius_mismatch": np.concatenate([part.mismatch for part in parts]),
        "substitution_probability": np.concatenate([part.probability for part in parts]),
    }
    fields = schema.arrow_fields(c.name for c in schema.columns_of("candidates"))
    arrays = [pa.array(columns[field.name], type=field.type) for field in fields]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    parents = int(is_parent.sum())
    if settings.gates.keep_parents or not parents:
        return table, 0
    return table.filter(pc.invert(table["is_parent"])), parents


def _digests(forms: list[bytes]) -> pa.Array:
    """First eight digits of the SHA-256 of each form."""
    import pyarrow as pa

    sha256 = hashlib.sha256
    digits = b"".join([sha256(text).digest()[:4] for text in forms]).hex().encode()
    return pa.array(np.frombuffer(digits, dtype="S8")).cast(pa.string())


def candidate_id(plain_formula: str, prototype_id: str, form: Sequence[int]) -> str:
    """``<formula>-<prototype>-<digest of the elements on the orbits>``: safe in file names, alike in every campaign.

    ``form`` holds the atomic numbers in canonical form (:func:`kernels.site_images.canonical_forms`).
    """
    digest = hashlib.sha256(" ".join(str(z) for z in form).encode()).hexdigest()[:8]
    return f"{plain_formula}-{prototype_id}-{digest}"


def _composition(placed: Placed) -> tuple[IntArray, IntArray]:
    multiplicity = np.bincount(placed.slot_of, weights=placed.prototype.orbit_multiplicities).astype(np.int64)
    return reduced(placed.elements, multiplicity)


def _on_orbits(values: IntArray, slot_of: IntArray) -> IntArray:
    """Values on slots (m, slots) as (orbits, m)."""
    return values.T[slot_of]


def _are_among(forms: list[bytes], parents: Sequence[frozenset[bytes]], sizes: Sequence[int]) -> BoolArray:
    """(rows,) whether each form is one of its prototype's."""
    out: list[bool] = []
    for own, size in zip(parents, sizes, strict=True):
        out += [form in own for form in forms[len(out) : len(out) + size]]
    return np.array(out, dtype=bool)


def _forms(placed: Placed, library: PrototypeLibrary, settings: CandidateSettings) -> tuple[IntArray, frozenset[bytes]]:
    """(orbits, m) atomic numbers in canonical form, and those of every crystal that is stood for, as texts."""
    prototype, m = placed.prototype, len(placed.elements)
    parents = _parents(prototype, library, settings)
    forms = placed.elements[:, placed.slot_of]
    if len(prototype.images):
        both = canonical_forms(np.concatenate([forms, parents]), prototype.images)
        forms, parents = both[:m], both[m:]
    return forms.T, frozenset(" ".join(map(str, row)).encode() for row in parents.tolist())


def _parents(prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings) -> IntArray:
    """(k, orbits) atomic numbers of every crystal that the prototype stands for; none are if nothing is substituted.

    It stands for those of prototypes with the same sites too: a crystal that two of them reach is listed at the first.
    """
    assigned = set() if settings.substitution == "none" else library.members_on(prototype)
    numbers = [[atomic_number(elements[c]) for c in prototype.orbit_class] for elements in sorted(assigned)]
    return np.array(numbers, dtype=np.int64).reshape(-1, len(prototype.orbit_class))


def _way(placed: Placed, *, none: bool) -> IntArray:
    """(m,) place in :data:`WAYS`."""
    prototype = placed.prototype
    if none:
        return np.full(len(placed.elements), WAYS.index("none"))
    first_of_class = [prototype.orbit_class.index(c) for c in prototype.orbit_class]
    own, leader = placed.slot_of, placed.slot_of[first_of_class]
    split = np.flatnonzero(own != leader)
    if not len(split):
        return np.zeros(len(placed.elements), dtype=np.int64)
    mixed = (placed.elements[:, own[split]] != placed.elements[:, leader[split]]).any(axis=1)
    return np.asarray(mixed, dtype=np.int64)


def _ion_code(placed: Placed) -> IntArray:
    return placed.elements * 32 + placed.charges + 16


@cache
def _ion_words() -> pa.Array:
    """By code: ``Y3+``, or the bare symbol where the charge is not known; none for 0."""
    import pyarrow as pa

    labels: list[str | None] = [None] * (32 * ELEMENTS)
    for z in range(1, ELEMENTS):
        for charge in range(-16, 16):
            labels[32 * z + charge + 16] = ion_label(element_symbol(z), charge) if charge else element_symbol(z)
    return pa.array(labels, type=pa.string())


@cache
def _number_words() -> pa.Array:
    import pyarrow as pa

    return pa.array([None, *map(str, range(1, ELEMENTS))], type=pa.string())
