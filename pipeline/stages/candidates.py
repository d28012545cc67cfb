"""Candidates: ions placed on the orbits of prototypes, cheap gates, and the crystal of a row when it is needed."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.enumeration import canonical_forms, list_assignments
from pipeline import schema
from pipeline.crystal import STRUCTURE_COLUMNS, has_structure
from pipeline.reference.ions import ion_label
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.settings import CandidateSettings
from pipeline.stages.cheap_gates import ion_tables, measures, rejection_reasons
from pipeline.stages.starting_volume import starting_lattice
from pipeline.stages.substitution import assignment_space, falls_back, palette, raw_assignments

IntArray = npt.NDArray[np.int64]

NAME = "candidates"
STAGE_VERSION = 1

COLUMN_NAMES = tuple(c.name for c in schema.columns_of(NAME))


def plan_units(settings: CandidateSettings, library: PrototypeLibrary) -> list[dict[str, Any]]:
    """Cut the enumeration into work units of about ``chunk_size`` raw assignments.

    Returns
    -------
    list of dict
        ``{"slices": [[prototype_id, first, last], ...]}``: ranges of ranks; large prototypes are cut, small ones
        stand together. The same settings and library give the same units.
    """
    units: list[dict[str, Any]] = []
    slices: list[list[Any]] = []
    room = settings.chunk_size
    for prototype in library:
        total = raw_assignments(prototype, library, settings)
        first = 0
        while first < total:
            last = min(total, first + room)
            slices.append([prototype.prototype_id, first, last])
            room -= last - first
            first = last
            if room == 0:
                units.append({"slices": slices})
                slices, room = [], settings.chunk_size
    if slices:
        units.append({"slices": slices})
    return units


def enumerate_unit(
    unit: dict[str, Any], settings: CandidateSettings, library: PrototypeLibrary, mobile_ions: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Candidates of one unit that pass the cheap gates, and the number of those that do not, by reason.

    Parameters
    ----------
    unit
        One of :func:`plan_units`.
    settings, library
        Those that the unit was planned with.
    mobile_ions
        Elements whose ions should move.

    Returns
    -------
    table, counts
        All columns of stage candidates. ``counts`` holds ``enumerated`` (distinct candidates), ``passed``, and each
        first reason for which a candidate was rejected; ``enumerated`` is the sum of the others.
    """
    tables: list[pd.DataFrame] = []
    counts: Counter[str] = Counter({"enumerated": 0, "passed": 0})
    for prototype_id, first, last in unit["slices"]:
        if last <= first:
            continue
        prototype = library[prototype_id]
        elements, charges = _assignments(prototype, library, settings, first, last)
        lookup = ion_tables()
        measured = measures(prototype, elements, charges, mobile_ions, lookup)
        reasons = rejection_reasons(prototype, elements, charges, measured, settings, lookup)
        counts["enumerated"] += len(elements)
        for reason, number in Counter(reasons[reasons != ""].tolist()).items():
            counts[reason] += number
        keep = reasons == ""
        counts["passed"] += int(keep.sum())
        if keep.any():
            kept = {name: values[keep] for name, values in measured.items()}
            tables.append(_rows(prototype, library, settings, elements[keep], charges[keep], kept))
    if not tables:
        return empty_table(), dict(counts)
    return pd.concat(tables, ignore_index=True), dict(counts)


def count(settings: CandidateSettings, library: PrototypeLibrary) -> dict[str, int]:
    """Exact numbers before the cheap gates.

    Returns
    -------
    dict
        ``prototypes``, ``prototypes_without_oxidation_states``, ``prototypes_element_wise`` (orbit-wise was asked
        for and the bounds forbid it for one of its elements), ``raw_assignments``, and ``candidates``: distinct ones.
    """
    totals = Counter[str]()
    for prototype in library:
        totals["prototypes"] += 1
        if settings.substitution == "none":
            totals["raw_assignments"] += 1
            totals["candidates"] += 1
            continue
        totals["prototypes_without_oxidation_states"] += not prototype.has_charges
        space = assignment_space(prototype, library, settings)
        if space is None:
            continue
        totals["prototypes_element_wise"] += falls_back(prototype, settings)
        raw = raw_assignments(prototype, library, settings)
        totals["raw_assignments"] += raw
        for first in range(0, raw, 1_000_000):
            totals["candidates"] += len(list_assignments(space, first, min(raw, first + 1_000_000)).ranks)
    names = (
        "prototypes",
        "prototypes_without_oxidation_states",
        "prototypes_element_wise",
        "raw_assignments",
        "candidates",
    )
    return {name: int(totals[name]) for name in names}


def with_structures(part: pd.DataFrame, library: PrototypeLibrary) -> pd.DataFrame:
    """Give each row that carries no crystal the one of its prototype and ions, at the rescaled volume.

    Parameters
    ----------
    part
        Rows of stage candidates; rows that already carry a crystal (``lattice`` present) keep it.

    Returns
    -------
    DataFrame
        A copy with ``lattice``, ``atomic_numbers``, ``frac_coords`` and ``oxidation_states`` in every row.
    """
    out = part.copy()
    columns: dict[str, list[Any]] = {name: [] for name in STRUCTURE_COLUMNS}
    present = [name for name in STRUCTURE_COLUMNS if name in part.columns]
    for row in part.to_dict("records"):
        crystal = (
            {name: row[name] if name in present else [] for name in STRUCTURE_COLUMNS}
            if has_structure(row)
            else _crystal(library[row["prototype_id"]], row["ions"])
        )
        for name in STRUCTURE_COLUMNS:
            columns[name].append(crystal[name])
    for name in STRUCTURE_COLUMNS:
        out[name] = pd.Series(columns[name], index=part.index, dtype=object)
    return out


def _crystal(prototype: Prototype, ions: str) -> dict[str, list[Any]]:
    numbers, charges = parse_ions(ions)
    if len(numbers) != len(prototype.orbit_elements):
        raise ValueError(
            f"ions {ions!r} name {len(numbers)} orbits, prototype {prototype.prototype_id} has "
            f"{len(prototype.orbit_elements)}: was the table made with another library?"
        )
    orbit = prototype.site_orbit
    return {
        "lattice": [float(v) for v in starting_lattice(prototype, numbers, charges).reshape(-1)],
        "atomic_numbers": [int(numbers[o]) for o in orbit],
        "frac_coords": [float(v) for v in prototype.frac_coords.reshape(-1)],
        "oxidation_states": [float(charges[o]) for o in orbit] if all(charges) else [],
    }


@cache
def parse_ions(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Atomic numbers and charges of a column ``ions`` such as ``Cl- Y3+ Na+``; a bare symbol has the charge 0."""
    from pymatgen.core import Element

    numbers, charges = [], []
    for word in text.split():
        symbol = word.rstrip("+-0123456789")
        sign = 1 if word.endswith("+") else -1 if word.endswith("-") else 0
        numbers.append(Element(symbol).Z)
        charges.append(sign * int(word[len(symbol) :].rstrip("+-") or 1))
    return tuple(numbers), tuple(charges)


def _assignments(
    prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings, first: int, last: int
) -> tuple[IntArray, IntArray]:
    """Atomic numbers (m, orbits) and charges (m, orbits) of the distinct candidates in a range of ranks."""
    if settings.substitution == "none":
        own = np.array([[_atomic_number(e) for e in prototype.orbit_elements]], dtype=np.int64)
        return own, np.array([prototype.orbit_charges], dtype=np.int64)
    space = assignment_space(prototype, library, settings)
    if space is None:
        raise ValueError(f"prototype {prototype.prototype_id} has no assignments; the unit is of another plan")
    found = list_assignments(space, first, last)
    return palette(settings).atomic_numbers[found.elements], found.charges


@cache
def _atomic_number(symbol: str) -> int:
    from pymatgen.core import Element

    return int(Element(symbol).Z)


@cache
def _symbol(number: int) -> str:
    from pymatgen.core import Element

    return str(Element.from_Z(number).symbol)


def _rows(
    prototype: Prototype,
    library: PrototypeLibrary,
    settings: CandidateSettings,
    elements: IntArray,
    charges: IntArray,
    measured: dict[str, npt.NDArray[Any]],
) -> pd.DataFrame:
    canonical = canonical_forms(elements, prototype.images, prototype.site_orbit)
    parents = _parent_forms(prototype, library, settings)
    first_of_class = [prototype.orbit_class.index(c) for c in prototype.orbit_class]
    mixed = (elements != elements[:, first_of_class]).any(axis=1)
    none = settings.substitution == "none"
    rows: list[tuple[Any, ...]] = []
    for k in range(len(elements)):
        amounts = Counter[int]()
        for number, atoms in zip(elements[k].tolist(), prototype.orbit_multiplicities, strict=True):
            amounts[number] += atoms
        pretty, plain, chemsys = formulas(tuple(sorted(amounts.items())))
        form = tuple(canonical[k].tolist())
        rows.append(
            (
                candidate_id(plain, prototype.prototype_id, form),
                pretty,
                chemsys,
                prototype.n_sites,
                prototype.prototype_id,
                prototype.source_id,
                prototype.formula,
                prototype.spacegroup_number,
                " ".join(_ion_text(int(z), int(q)) for z, q in zip(elements[k], charges[k], strict=True)),
                not none and form in parents,
                "none" if none else "orbit" if mixed[k] else "element",
                float(measured["mobile_atoms"][k] / prototype.n_sites),
                float(measured["radius_mismatch"][k]),
                float(measured["substitution_probability"][k]),
            )
        )
    return pd.DataFrame.from_records(rows, columns=list(COLUMN_NAMES))


def _ion_text(number: int, charge: int) -> str:
    return ion_label(_symbol(number), charge) if charge else _symbol(number)


def _parent_forms(prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings) -> set[tuple[int, ...]]:
    """Elements on the orbits, in canonical form, of every crystal that the prototype stands for."""
    stands_for = [prototype]
    if settings.substitution == "charge_neutral":
        stands_for = [p for p in library.by_frame[prototype.frame] if p.has_charges]
    assigned = {
        tuple(_atomic_number(m.class_elements[c]) for c in prototype.orbit_class) for p in stands_for for m in p.members
    }
    forms = canonical_forms(np.array(sorted(assigned), dtype=np.int64), prototype.images, prototype.site_orbit)
    return {tuple(f) for f in forms.tolist()}


@cache
def formulas(amounts: tuple[tuple[int, int], ...]) -> tuple[str, str, str]:
    """Reduced formula, the same without brackets, and chemical system of ((atomic number, atoms), ...)."""
    from pymatgen.core import Composition

    composition = Composition({_symbol(z): n for z, n in amounts}).reduced_composition
    plain = "".join(part.removesuffix("1") if _is_one(part) else part for part in composition.formula.split())
    return composition.reduced_formula, plain, composition.chemical_system


def _is_one(part: str) -> bool:
    return part.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == "1"


def candidate_id(plain_formula: str, prototype_id: str, form: tuple[int, ...]) -> str:
    """``<formula>-<prototype>-<digest of the elements on the orbits>``: safe in file names, alike in every campaign.

    ``form`` holds the atomic numbers in canonical form (:func:`kernels.enumeration.canonical_forms`).
    """
    digest = hashlib.sha256(" ".join(str(z) for z in form).encode()).hexdigest()[:8]
    return f"{plain_formula}-{prototype_id}-{digest}"


def empty_table() -> pd.DataFrame:
    """No candidates, with the columns that candidates have."""
    kinds = {"string": "str", "bool": "bool", "int64": "int64", "float64": "float64"}
    table = pd.DataFrame([], columns=list(COLUMN_NAMES))
    return table.astype({c.name: kinds[c.dtype] for c in schema.columns_of(NAME)})
