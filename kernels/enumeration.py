"""Assignments of elements to the slots of a crystal, in rank order: neutral, and each crystal once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.assignment_space import AssignmentSpace, Odometer, odometer, raw_count, unrank
from kernels.charge_memory import ChargeMemory, ask, charge_memory, hope
from kernels.equal_assignments import could_stand, first_of_its_kind, may_be_related

IntArray = npt.NDArray[np.int64]

BLOCK = 524_288
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
    blocks: list[Assignments] = []
    if first < last:
        tables = odometer(space)
        sets, ways = unrank(space, first)
        sets = sets + tables.start[:-1]
        memory = charge_memory(space)
    for begin in range(first, last, BLOCK):
        count = min(BLOCK, last - begin)
        # pages that are not written to take no memory
        shape = (count, n_slots)
        out = Assignments(np.empty(count, np.int64), np.empty(shape, np.int64), np.empty(shape, np.int64))
        found = _list(space, tables, memory, sets, ways, count, *out)
        blocks.append(Assignments(out.ranks[:found] + begin, out.elements[:found], out.charges[:found]))
    if len(blocks) == 1:
        return blocks[0]
    if not blocks:
        blocks.append(
            Assignments(np.empty(0, np.int64), np.empty((0, n_slots), np.int64), np.empty((0, n_slots), np.int64))
        )
    return Assignments(*(np.concatenate(part) for part in zip(*blocks, strict=True)))


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
    space: AssignmentSpace,
    tables: Odometer,
    sets: IntArray,
    ways: IntArray,
    uses: IntArray,
    number: int,
    x: IntArray,
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
    memory: ChargeMemory,
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
    last = sets.shape[0] - 1
    end_slot = n_slots - 1
    x = np.empty(n_slots, dtype=np.int64)
    y = np.empty(n_slots, dtype=np.int64)
    q = space.prototype_charge.copy()
    scratch = np.empty(n_slots, dtype=np.int64)
    uses = np.zeros(space.allowed.shape[0], dtype=np.int64)
    number = 0
    for c in range(last + 1):
        number += _take(tables, sets[c], uses, 1)
        _place(space, tables, c, sets[c], ways[c], x)
    # Where the last class is one slot, its elements are gone through in one loop.
    alone = space.class_start[last + 1] - space.class_start[last] == 1
    free = not space.keep_charge
    could = could_stand(space)
    remembers = memory.state.shape[0] > 0
    key = 0
    found = 0
    rank = 0
    while rank < count:
        row = sets[last]
        end = row + 1
        if alone:
            number += _take(tables, row, uses, -1)
            end = tables.start[last + 1]
        different = number == (end_slot if alone else n_slots)
        if remembers:
            key = 0
            for s in range(end_slot if alone else n_slots):
                key += memory.stride[s] * memory.kind[s, x[s]]
        begin, base, at, steps = row, rank, row, end - row
        hops = remembers and alone and different and number < space.max_elements
        place = 0
        if hops:
            place = key // memory.last_kinds
            if memory.hopes[place] < 0:
                hope(space, tables, memory, key, uses, x, q)
            steps = memory.hopes[place]
        for step in range(steps):
            own_key = key * n_slots
            row = begin + step
            own = rank
            if hops:
                row = tables.start[last] + memory.hopeful[place, step]
                own = base + row - begin
                if row < begin:
                    continue
            if own >= count:
                break
            if alone:
                e = tables.elements[row, 0]
                if uses[e] == 0 and number == space.max_elements:
                    continue
                x[end_slot] = e
                at = row
                if remembers:
                    own_key = (key + memory.kind[end_slot, e]) * n_slots
                    if uses[e] > 0 and different:
                        twin = 0
                        while x[twin] != e:
                            twin += 1
                        own_key += twin + 1
            rank = own + 1
            if free:
                state = memory.state[own_key] if remembers else np.int8(0)
                if state == 1:
                    continue
                if state == 2 and different:
                    for s in range(n_slots):
                        q[s] = memory.charges[own_key, s]
                elif not ask(space, memory, own_key, x, q, remembers and different):
                    continue
            if not may_be_related(space, x, could) or first_of_its_kind(space, x, y, scratch):
                ranks[found] = own
                for s in range(n_slots):
                    elements[found, s] = x[s]
                    charges[found, s] = q[s]
                found += 1
        if hops:
            rank = min(count, base + end - begin)
            at = begin + rank - base - 1
        if alone:
            sets[last] = at
            number += _take(tables, at, uses, 1)
        number = _advance(space, tables, sets, ways, uses, number, x)
    return found
