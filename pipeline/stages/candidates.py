"""Candidates: ions placed on the orbits of prototypes, cheap gates, and the crystal of a row when it is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels.assignment_count import count_assignments
from kernels.enumeration import list_assignments
from pipeline import schema
from pipeline.candidate_settings import CandidateSettings
from pipeline.crystal import STRUCTURE_COLUMNS, has_structure
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.stages.candidate_rows import Placed, candidate_rows
from pipeline.stages.cheap_gates import REASONS, ion_code, measures, rejections
from pipeline.stages.starting_volume import starting_lattice
from pipeline.stages.substitution import (
    assignment_space,
    falls_back,
    mixed_classes,
    orbit_slots,
    palette,
    raw_assignments,
)

if TYPE_CHECKING:
    import pyarrow as pa

IntArray = npt.NDArray[np.int64]

NAME = "candidates"
STAGE_VERSION = 2

STEP = 131_072
"""Ranks that are listed at once: a row takes up to a kilobyte while it is made."""

TOGETHER = 8_192
"""Candidates whose rows are made together: those of one prototype may be few."""

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
    """Like :func:`enumerate_table`, as a DataFrame."""
    table, counts = enumerate_table(unit, settings, library, mobile_ions)
    return (table.to_pandas() if table.num_rows else empty_table()), counts


def enumerate_table(
    unit: dict[str, Any], settings: CandidateSettings, library: PrototypeLibrary, mobile_ions: tuple[str, ...]
) -> tuple[pa.Table, dict[str, int]]:
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
    import pyarrow as pa

    tables: list[pa.Table] = []
    waiting: list[Placed] = []
    counts: Counter[str] = Counter({"enumerated": 0, "passed": 0})

    def make_rows() -> None:
        if waiting:
            rows, parents = candidate_rows(waiting, library, settings)
            counts["is_parent"] += parents
            counts["passed"] += rows.num_rows
            tables.append(rows)
            waiting.clear()

    for judged in judge_unit(unit, settings, library, mobile_ions):
        placed = judged.placed
        counts["enumerated"] += len(placed.elements)
        for reason, number in enumerate(np.bincount(judged.rejected + 1, minlength=len(REASONS) + 1)[1:].tolist()):
            if number:
                counts[REASONS[reason]] += number
        keep = judged.rejected < 0
        if not keep.any():
            continue
        waiting.append(placed if keep.all() else placed.of_rows(keep))
        if sum(len(part.elements) for part in waiting) >= TOGETHER:
            make_rows()
    make_rows()
    if not counts["is_parent"]:
        del counts["is_parent"]
    if not tables:
        return schema.to_arrow(empty_table(), COLUMN_NAMES), dict(counts)
    return pa.concat_tables(tables).combine_chunks(), dict(counts)


@dataclass(frozen=True)
class Judged:
    """Distinct candidates of one prototype with their measures, and ``rejected`` (m,), a place in REASONS or -1."""

    placed: Placed
    rejected: npt.NDArray[np.int8]


def judge_unit(
    unit: dict[str, Any], settings: CandidateSettings, library: PrototypeLibrary, mobile_ions: tuple[str, ...]
) -> Iterator[Judged]:
    """Measure the candidates of one unit and ask the gates, as :func:`enumerate_table` does, without making rows."""
    own_radii = tuple(sorted(settings.radii.items()))
    # where charges are free about one raw assignment in seven is neutral
    step = 4 * STEP if settings.substitution == "charge_neutral" else STEP
    for prototype_id, first, last in _steps(unit, step):
        prototype = library[prototype_id]
        slot_of, elements, charges, ions = _assignments(prototype, library, settings, first, last)
        if not len(elements):
            continue
        measured = measures(prototype, slot_of, elements, charges, mobile_ions, ions, own_radii)
        placed = Placed(
            prototype, slot_of, elements, charges, measured.mobile_atoms, measured.mismatch, measured.probability
        )
        yield Judged(placed, rejections(prototype, elements, measured, settings))


def _steps(unit: dict[str, Any], step: int) -> Iterator[tuple[str, int, int]]:
    """Slices of a unit, cut to ``step`` ranks."""
    for prototype_id, first, last in unit["slices"]:
        for begin in range(first, last, step):
            yield prototype_id, begin, min(begin + step, last)


def count(settings: CandidateSettings, library: PrototypeLibrary) -> dict[str, int]:
    """Exact numbers before the cheap gates, without listing anything.

    Returns
    -------
    dict
        ``prototypes``, ``prototypes_without_oxidation_states``, ``prototypes_element_wise`` (orbit-wise was asked
        for and the bounds forbid it for one of its elements), ``raw_assignments``, and ``candidates``: distinct ones.
    """
    totals = Counter[str]()
    for prototype in library:
        totals["prototypes"] += 1
        totals["prototypes_without_oxidation_states"] += not prototype.has_charges
        if settings.substitution == "none":
            totals["raw_assignments"] += 1
            totals["candidates"] += 1
            continue
        space = assignment_space(prototype, library, settings)
        if space is None:
            continue
        totals["prototypes_element_wise"] += falls_back(prototype, settings)
        totals["raw_assignments"] += raw_assignments(prototype, library, settings)
        totals["candidates"] += count_assignments(space)
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
) -> tuple[IntArray, IntArray, IntArray, frozenset[int]]:
    """Distinct candidates in a range of ranks.

    Returns
    -------
    slot_of, elements, charges, ions
        (orbits,) slot of each orbit, atomic numbers (m, slots), charges (m, slots), and the ions that may occur.
    """
    if settings.substitution == "none":
        numbers = parse_ions(" ".join(prototype.orbit_elements))[0]
        own = frozenset(ion_code(z, q) for z, q in zip(numbers, prototype.orbit_charges, strict=True))
        each = np.arange(len(numbers), dtype=np.int64)
        return each, np.array([numbers], np.int64), np.array([prototype.orbit_charges], np.int64), own
    space = assignment_space(prototype, library, settings)
    if space is None:
        raise ValueError(f"prototype {prototype.prototype_id} has no assignments; the unit is of another plan")
    found = list_assignments(space, first, last)
    colours = palette(settings)
    slot_of = orbit_slots(prototype, mixed_classes(prototype, settings))
    return slot_of, colours.atomic_numbers[found.elements], found.charges, colours.codes


def empty_table() -> pd.DataFrame:
    """No candidates, with the columns that candidates have."""
    kinds = {"string": "str", "bool": "bool", "int64": "int64", "float64": "float64"}
    table = pd.DataFrame([], columns=list(COLUMN_NAMES))
    return table.astype({c.name: kinds[c.dtype] for c in schema.columns_of(NAME)})
