"""Assignments of elements to the slots of a crystal, in rank order: neutral, and each crystal once."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.assignment_space import AssignmentSpace, Odometer, odometer, raw_count, unrank
from kernels.charge_balance import charge_each_slot, has_sign, mixed_valence_possible, same_charge_each
from kernels.site_images import image_of, precedes

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BLOCK = 524_288
"""Ranks a call of the compiled loop covers, so that memory stays flat."""

MOST_REMEMBERED = 1_048_576
"""Combinations of kinds of elements whose charges are kept."""


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
        memory = _memory(space)
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


class _Memory(NamedTuple):
    """Charges found so far, by the kinds of the elements on the slots; those of a kind may carry the same charges.

    ``kind`` (slots, elements), of a charge's sign on the slot; ``stride`` (slots,) of a slot's kind in a key, 1 for the
    last slot with its ``last_kinds``. At key * slots stands what was found where all elements are different, at key *
    slots + 1 + s where only the last one stands on slot s too: ``state`` 0 not asked yet, 1 not neutral, 2 neutral with
    ``charges`` (entries, slots). ``hopeful`` holds, for the kinds on all slots but the last, the last class's elements
    that may balance them, ``hopes`` their number, -1 when not looked for yet. Empty where it would be too large, or
    charges are kept.
    """

    kind: IntArray
    stride: IntArray
    state: npt.NDArray[np.int8]
    charges: npt.NDArray[np.int8]
    last_kinds: int
    hopeful: npt.NDArray[np.int16]
    hopes: npt.NDArray[np.int16]


def _memory(space: AssignmentSpace) -> _Memory:
    if space.keep_charge:
        return _empty_memory(len(space.multiplicity))
    return _memory_of(
        space.allowed.tobytes(),
        space.allowed.shape[0],
        tuple(space.multiplicity.tolist()),
        tuple(space.prototype_charge.tolist()),
        tuple(space.choices[space.choice_start[-2] :].tolist()),
    )


@lru_cache(maxsize=64)
def _empty_memory(n_slots: int) -> _Memory:
    none, nothing = np.zeros(0, dtype=np.int8), np.zeros((0, 0), dtype=np.int16)
    kind, stride = np.zeros((n_slots, 1), dtype=np.int64), np.zeros(n_slots, dtype=np.int64)
    return _Memory(kind, stride, none, np.zeros((0, n_slots), dtype=np.int8), 1, nothing, np.zeros(0, dtype=np.int16))


@lru_cache(maxsize=4)
def _memory_of(
    allowed: bytes, elements: int, multiplicity: tuple[int, ...], charges: tuple[int, ...], choices: tuple[int, ...]
) -> _Memory:
    """Memory of all that its contents depend on: kept from slice to slice of a crystal, which fills it further."""
    n_slots = len(charges)
    by_sign = _kinds(allowed, elements)
    kind = np.stack([by_sign[int(charge > 0)] for charge in charges])
    sizes = [int(own.max()) + 1 for own in kind]
    entries = math.prod(sizes)
    places = entries // sizes[-1]
    if max(entries * n_slots, places * len(choices)) > MOST_REMEMBERED:
        return _empty_memory(n_slots)
    stride = np.array([math.prod(sizes[s + 1 :]) for s in range(n_slots)], dtype=np.int64)
    return _Memory(
        kind,
        stride,
        np.zeros(entries * n_slots, dtype=np.int8),
        np.zeros((entries * n_slots, n_slots), dtype=np.int8),
        sizes[-1],
        np.zeros((places, len(choices)), dtype=np.int16),
        np.full(places, -1, dtype=np.int16),
    )


@lru_cache(maxsize=64)
def _kinds(allowed: bytes, elements: int) -> tuple[IntArray, IntArray]:
    """(elements,) equal numbers for elements that may carry the same negative charges, and the same positive ones."""
    table = np.frombuffer(allowed, dtype=np.bool_).reshape(elements, 17)
    negative, positive = (
        np.unique(half, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        for half in (table[:, :8], table[:, 9:])
    )
    return negative, positive


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
def _ask(space: AssignmentSpace, memory: _Memory, key: int, x: IntArray, q: IntArray, remembers: bool) -> bool:
    """Write the charges of an assignment and remember them; False when it is not neutral."""
    neutral = balance(space, x, space.prototype_charge, q)
    if remembers:
        memory.state[key] = 2 if neutral else 1
        for s in range(x.shape[0]):
            memory.charges[key, s] = q[s]
    return neutral


@jit
def _hope(
    space: AssignmentSpace, tables: Odometer, memory: _Memory, key: int, uses: IntArray, x: IntArray, q: IntArray
) -> None:
    """Note which elements on the last slot may balance the kinds on the others: the rest is hopped over."""
    last = space.class_start.shape[0] - 2
    slot = x.shape[0] - 1
    place = key // memory.last_kinds
    count = 0
    for row in range(tables.start[last], tables.start[last + 1]):
        x[slot] = tables.elements[row, 0]
        own_key = (key + memory.kind[slot, x[slot]]) * x.shape[0]
        if memory.state[own_key] == 0 and uses[x[slot]] == 0:
            _ask(space, memory, own_key, x, q, True)
        if memory.state[own_key] != 1:
            memory.hopeful[place, count] = row - tables.start[last]
            count += 1
    memory.hopes[place] = count


@jit
def _list(
    space: AssignmentSpace,
    tables: Odometer,
    memory: _Memory,
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
    # which elements could stand on a slot of the crystals listed before: few do on all, and only those are looked at
    could = np.zeros((space.other_charges.shape[0], n_slots, space.allowed.shape[0]), dtype=np.bool_)
    for s in range(could.shape[0]):
        for o in range(n_slots):
            charge = space.other_charges[s, o]
            for e in range(could.shape[2]):
                if space.keep_charge:
                    could[s, o, e] = space.allowed[e, 8 + charge]
                else:
                    could[s, o, e] = has_sign(space.allowed, e, 1 if charge > 0 else -1)
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
                _hope(space, tables, memory, key, uses, x, q)
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
                elif not _ask(space, memory, own_key, x, q, remembers and different):
                    continue
            related = space.images.source.shape[0] > 0
            for s in range(could.shape[0]):
                if related:
                    break
                related = True
                for o in range(n_slots):
                    if not could[s, o, x[o]]:
                        related = False
                        break
            if not related or _first_of_its_kind(space, x, y, scratch):
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
