"""Assignments of elements to the slots of a crystal, in rank order: neutral, and each crystal once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.assignment_space import AssignmentSpace, Odometer, odometer, raw_count, unrank
from kernels.charge_balance import charge_each_slot, has_sign, mixed_valence_possible, same_charge_each
from kernels.site_images import image_of, precedes

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BLOCK = 65_536
"""Ranks a call of the compiled loop covers, so that memory stays flat."""


class Assignments(NamedTuple):
    """Valid assignments: ``ranks`` (m,), ``elements`` (m, slots) and ``charges`` (m, slots)."""

    ranks: IntArray
    elements: IntArray
    charges: IntArray


def list_assignments(space: AssignmentSpace, first: int, last: int) -> Assignments:
    """Valid assignments with ranks in [first, last), in rank order.

    Valid is an assignment that has a neutral choice of charges, is the first in lexicographic order among those
    that the symmetry maps onto each other, and is not reached by ``other_charges``. A slice is listed without those
    before it, and equals the same rows of the full list.

    Raises
    ------
    ValueError
        When the ranks are out of range or an array has the wrong shape.
    """
    _check(space, first, last)
    n_slots = len(space.multiplicity)
    ranks: list[IntArray] = [np.empty(0, dtype=np.int64)]
    elements: list[IntArray] = [np.empty((0, n_slots), dtype=np.int64)]
    charges: list[IntArray] = [np.empty((0, n_slots), dtype=np.int64)]
    if first < last:
        tables = odometer(space)
        sets, ways = unrank(space, first)
        sets += tables.start[:-1]
    for begin in range(first, last, BLOCK):
        count = min(BLOCK, last - begin)
        rank_block = np.empty(count, dtype=np.int64)
        element_block = np.empty((count, n_slots), dtype=np.int64)
        charge_block = np.empty((count, n_slots), dtype=np.int64)
        found = _list(space, tables, sets, ways, count, rank_block, element_block, charge_block)
        ranks.append(rank_block[:found] + begin)
        elements.append(element_block[:found].copy())
        charges.append(charge_block[:found].copy())
    return Assignments(np.concatenate(ranks), np.concatenate(elements), np.concatenate(charges))


def _check(space: AssignmentSpace, first: int, last: int) -> None:
    total = raw_count(space)
    if total >= 2**63:
        raise ValueError(f"the space holds {total} raw assignments; ranks must stay below 2**63: bound it")
    if not 0 <= first <= last <= total:
        raise ValueError(f"ranks [{first}, {last}) are not within [0, {total}]")
    n_slots = len(space.multiplicity)
    shapes = {
        "prototype_charge": (space.prototype_charge.shape, (n_slots,)),
        "images.source": (space.images.source.shape[1:], (n_slots,)),
        "other_charges": (space.other_charges.shape[1:], (n_slots,)),
        "allowed": (space.allowed.shape[1:], (17,)),
    }
    for name, (shape, expected) in shapes.items():
        if shape != expected:
            raise ValueError(f"{name} must have the trailing shape {expected}, got {shape}")
    if int(space.class_start[-1]) != n_slots:
        raise ValueError(f"class_start ends at {int(space.class_start[-1])}, but there are {n_slots} slots")


@jit
def distinct(x: IntArray, first: int, last: int) -> int:
    """Number of different elements on the slots [first, last)."""
    count = 0
    for i in range(first, last):
        new = True
        for j in range(first, i):
            if x[j] == x[i]:
                new = False
                break
        if new:
            count += 1
    return count


@jit
def may_stand(space: AssignmentSpace, element: int, slot: int) -> bool:
    """Whether an element has a charge for a slot."""
    charge = space.prototype_charge[slot]
    if space.keep_charge:
        return bool(space.allowed[element, 8 + charge])
    return has_sign(space.allowed, element, 1 if charge > 0 else -1)


@jit
def is_raw(space: AssignmentSpace, y: IntArray) -> bool:
    """Whether elements on the slots are a raw assignment, but for the number of elements."""
    for c in range(space.class_species.shape[0]):
        if distinct(y, space.class_start[c], space.class_start[c + 1]) > space.class_species[c]:
            return False
    for o in range(y.shape[0]):  # noqa: SIM110
        if not may_stand(space, y[o], o):
            return False
    return True


@jit
def is_listed(space: AssignmentSpace, y: IntArray, g: int, q: IntArray) -> bool:
    """Whether the image of a valid assignment under operation g is valid itself.

    It is as neutral as the original, charge by charge, unless cations and anions change places.
    """
    if not is_raw(space, y):
        return False
    if not space.keep_charge:
        for o in range(y.shape[0]):
            if (space.prototype_charge[o] > 0) != (space.prototype_charge[space.images.source[g, o]] > 0):
                return balance(space, y, space.prototype_charge, q)
    return True


@jit
def reached_before(space: AssignmentSpace, x: IntArray, q: IntArray) -> bool:
    """Whether a crystal that was listed before reaches this assignment with its own charges, or their signs."""
    for s in range(space.other_charges.shape[0]):
        other = space.other_charges[s]
        reached = True
        for o in range(x.shape[0]):
            if space.keep_charge:
                reached = bool(space.allowed[x[o], 8 + other[o]])
            else:
                reached = has_sign(space.allowed, x[o], 1 if other[o] > 0 else -1)
            if not reached:
                break
        if reached and (space.keep_charge or balance(space, x, other, q)):
            return True
    return False


@jit
def balance(space: AssignmentSpace, x: IntArray, charges: IntArray, q: IntArray) -> bool:
    """Write charges of the given ones' signs that make an assignment neutral; False when there are none."""
    if space.keep_charge:
        q[:] = charges
        return True
    if same_charge_each(x, space.multiplicity, charges, space.allowed, q):
        return True
    return mixed_valence_possible(x, charges, space.allowed) and charge_each_slot(
        x, space.multiplicity, charges, space.allowed, q
    )


@jit
def _first_of_its_kind(space: AssignmentSpace, x: IntArray, y: IntArray, q: IntArray) -> bool:
    siblings = space.other_charges.shape[0] > 0
    if siblings and reached_before(space, x, q):
        return False
    for g in range(space.images.source.shape[0]):
        if not image_of(x, space.images, g, y):
            continue
        if siblings and reached_before(space, y, q):
            return False
        if precedes(y, x) and is_listed(space, y, g, q):
            return False
    return True


@jit
def _place(space: AssignmentSpace, tables: Odometer, c: int, row: int, way: int, x: IntArray) -> None:
    """Put the elements of a set on the slots of its class."""
    begin = space.class_start[c]
    width = space.class_start[c + 1] - begin
    at = tables.way_start[c, tables.size[row]] + way * width
    for o in range(width):
        x[begin + o] = tables.elements[row, tables.labels[at + o]]


@jit
def _take(tables: Odometer, row: int, uses: IntArray, step: int) -> int:
    """Count a set's elements in (step 1) or out (-1); returns the change in the number of different elements."""
    change = 0
    for k in range(tables.size[row]):
        e = tables.elements[row, k]
        if step > 0 and uses[e] == 0:
            change += 1
        uses[e] += step
        if step < 0 and uses[e] == 0:
            change -= 1
    return change


@jit
def _advance(
    space: AssignmentSpace, tables: Odometer, sets: IntArray, ways: IntArray, uses: IntArray, number: int, x: IntArray
) -> int:
    """Turn to the next raw assignment; returns its number of different elements, -1 after the last."""
    n_classes = sets.shape[0]
    c = n_classes - 1
    down = False
    while c < n_classes:
        if c < 0:
            return -1
        if down:
            row = tables.start[c]
        else:
            if ways[c] + 1 < tables.way_count[c, tables.size[sets[c]]]:
                ways[c] += 1
                _place(space, tables, c, sets[c], ways[c], x)
                c += 1
                down = True
                continue
            number += _take(tables, sets[c], uses, -1)
            row = sets[c] + 1
        while row < tables.start[c + 1]:
            new = 0
            for k in range(tables.size[row]):
                if uses[tables.elements[row, k]] == 0:
                    new += 1
            if number + new <= space.max_elements:
                break
            row += 1
        if row < tables.start[c + 1]:
            sets[c] = row
            ways[c] = 0
            number += _take(tables, row, uses, 1)
            _place(space, tables, c, row, 0, x)
            c += 1
            down = True
        else:
            c -= 1
            down = False
    return number


@jit
def _list(
    space: AssignmentSpace,
    tables: Odometer,
    sets: IntArray,
    ways: IntArray,
    count: int,
    ranks: IntArray,
    elements: IntArray,
    charges: IntArray,
) -> int:
    """Fill the output with the valid ones of ``count`` raw assignments from (sets, ways) on; returns how many.

    ``ranks`` count from 0; (sets, ways) are left at the raw assignment after the last.
    """
    n_slots = space.multiplicity.shape[0]
    x = np.empty(n_slots, dtype=np.int64)
    y = np.empty(n_slots, dtype=np.int64)
    q = np.empty(n_slots, dtype=np.int64)
    scratch = np.empty(n_slots, dtype=np.int64)
    uses = np.zeros(space.allowed.shape[0], dtype=np.int64)
    number = 0
    for c in range(sets.shape[0]):
        number += _take(tables, sets[c], uses, 1)
        _place(space, tables, c, sets[c], ways[c], x)
    found = 0
    for rank in range(count):
        if balance(space, x, space.prototype_charge, q) and _first_of_its_kind(space, x, y, scratch):
            ranks[found] = rank
            elements[found] = x
            charges[found] = q
            found += 1
        number = _advance(space, tables, sets, ways, uses, number, x)
    return found
