"""Observed ionic compounds: every crystal of a structures file that is the same one, and where a campaign lists it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kernels.site_images import canonical_forms
from pipeline.reference.formulas import atomic_number, composition_key, reduced_formula
from pipeline.reference.ions import ion
from pipeline.reference.oxidation import charge_solutions
from pipeline.reference.protostructure import SymmetricCrystal, SymmetryError, standardise, tied_permutations
from pipeline.reference.prototype_library import LeftOut, Prototype, PrototypeLibrary
from pipeline.reference.prototype_sources import SourceCrystal, from_parquet


@dataclass(frozen=True, order=True)
class Address:
    """Where a crystal stands: the label without charges, and charge and element of each class."""

    frame: str
    class_charges: tuple[int, ...]
    class_elements: tuple[str, ...]


@dataclass(frozen=True)
class Compound:
    """A crystal with all source crystals that are the same one.

    ``addresses`` has more than one where oxidation states are open or were decided differently for its source
    crystals. ``ambiguous``: none of them is in the library, because bond lengths don't decide between several sets of
    oxidation states.
    """

    formula: str
    source_ids: tuple[str, ...]
    addresses: tuple[Address, ...]
    ambiguous: bool


def observed_compounds(
    path: Path, library: PrototypeLibrary, elements: Collection[str], most_elements: int, most_sites: int
) -> tuple[list[Compound], dict[str, int]]:
    """All distinct ionic crystals of a structures file within a set of elements.

    Ionic is a crystal whose composition has at least one neutral choice of oxidation states
    (:func:`pipeline.reference.oxidation.charge_solutions`); those whose states are ambiguous are compounds like the
    others, although no library holds them.

    Parameters
    ----------
    path
        The structures file that the library was built from.
    library
        All prototypes of that file with at most ``most_sites`` atoms in the primitive cell.
    elements
        Elements that a compound may hold.
    most_elements
        Most elements of a compound; the least is two.
    most_sites
        Largest primitive cell, atoms.

    Returns
    -------
    compounds, counts
        Compounds by formula and source; the number of source crystals by what became of them.
    """
    grouped: dict[tuple[str, tuple[int, ...]], list[tuple[str, Address]]] = defaultdict(list)
    in_library: set[str] = set()
    for prototype in library:
        in_library.update(m.source_id for m in prototype.members)
        within = [m for m in prototype.members if _within(m.class_elements, elements, most_elements)]
        keys = crystal_keys(prototype, [m.class_elements for m in within])
        for member, key in zip(within, keys, strict=True):
            address = Address(prototype.frame, prototype.class_charges, member.class_elements)
            grouped[prototype.frame, key].append((member.source_id, address))

    counts: Counter[str] = Counter()
    open_states: dict[tuple[str, tuple[int, ...]], list[tuple[str, tuple[Address, ...]]]] = defaultdict(list)
    for item in _undecided(path, elements, most_elements, in_library, counts):
        addresses = _addresses(item, most_sites)
        if not addresses:
            counts["too many sites"] += 1
            continue
        counts["ambiguous"] += 1
        known = next((key for a in addresses for key in _keys_in(library, a) if key in grouped), None)
        if known is not None:
            grouped[known].extend((item.source_id, a) for a in addresses)
        else:
            first = addresses[0]
            open_states[first.frame, tuple(sorted(_numbers(first.class_elements)))].append((item.source_id, addresses))

    compounds = [_compound(rows, ambiguous=False) for rows in grouped.values()]
    compounds += [
        _compound([(source, a) for source, addresses in rows for a in addresses], ambiguous=True)
        for rows in open_states.values()
    ]
    counts["ionic and in the library"] = sum(len(c.source_ids) for c in compounds) - counts["ambiguous"]
    return sorted(compounds, key=lambda c: (c.formula, c.source_ids)), dict(counts)


def crystal_keys(prototype: Prototype, class_elements: Sequence[tuple[str, ...]]) -> list[tuple[int, ...]]:
    """One key for all ways of writing the same crystal on a prototype.

    Equivalent orbits count as equal, and so do classes that the label does not tell apart: rather one crystal too many
    is taken for the same than one too few.
    """
    if not class_elements:
        return []
    orders = tied_permutations(prototype.n_classes, prototype.ties)
    numbers = np.array([_numbers(e) for e in class_elements], dtype=np.int64)
    written = np.array([[order[c] for c in prototype.orbit_class] for order in orders])
    forms = canonical_forms(numbers[:, written].reshape(-1, len(prototype.orbit_class)), prototype.images)
    return [min(map(tuple, ways)) for ways in forms.reshape(len(numbers), len(orders), -1).tolist()]


def _keys_in(library: PrototypeLibrary, address: Address) -> list[tuple[str, tuple[int, ...]]]:
    keys = (crystal_keys(p, [address.class_elements])[0] for p in library.by_frame.get(address.frame, ()))
    return [(address.frame, key) for key in keys]


def _within(present: Collection[str], elements: Collection[str], most_elements: int) -> bool:
    return 2 <= len(present) <= most_elements and set(present) <= set(elements)


def _undecided(
    path: Path, elements: Collection[str], most_elements: int, in_library: set[str], counts: Counter[str]
) -> list[SourceCrystal]:
    """Crystals with several choices of oxidation states that the library does not hold; the others are counted."""
    outside = "elements outside the set, or their number"
    crystals = []
    for item in from_parquet(path, lambda present: None if _within(present, elements, most_elements) else outside):
        if isinstance(item, LeftOut):
            counts[item.reason] += 1
            continue
        solutions = _number_of_solutions(item.formula)
        if solutions == 0:
            counts["not ionic"] += 1
        elif item.source_id in in_library:
            continue
        elif solutions == 1:
            counts["too many sites"] += 1
        else:
            crystals.append(item)
    return crystals


@cache
def _number_of_solutions(formula: str) -> int:
    return len(charge_solutions(dict(composition_key(formula))))


def _addresses(item: SourceCrystal, most_sites: int) -> tuple[Address, ...]:
    """The address under each choice of oxidation states; empty when the primitive cell is too large."""
    out = []
    for charges in charge_solutions(Counter(item.elements)):
        radii = {e: ion(e, q).radius for e, q in charges.items()}
        try:
            crystal = standardise(item.lattice, item.frac_coords, item.elements, charges, radii)
        except SymmetryError:
            return ()
        if len(crystal.site_orbit) > most_sites:
            return ()
        out.append(_address(crystal))
    return tuple(out)


def _address(crystal: SymmetricCrystal) -> Address:
    first = [crystal.orbit_class.index(c) for c in range(max(crystal.orbit_class) + 1)]
    return Address(
        crystal.frame,
        tuple(crystal.orbit_charges[o] for o in first),
        tuple(crystal.orbit_elements[o] for o in first),
    )


def _compound(rows: Sequence[tuple[str, Address]], *, ambiguous: bool) -> Compound:
    addresses = tuple(sorted({address for _, address in rows}))
    return Compound(_formula(addresses[0]), tuple(sorted({s for s, _ in rows})), addresses, ambiguous)


def _formula(address: Address) -> str:
    """Reduced formula, from the label's amounts (``A6B1C1D2_...``)."""
    amounts = re.findall("[0-9]+", address.frame.split("_")[0])
    written = "".join(e + n for e, n in zip(address.class_elements, amounts, strict=True))
    return reduced_formula(composition_key(written))


def _numbers(symbols: Sequence[str]) -> tuple[int, ...]:
    return tuple(atomic_number(s) for s in symbols)
