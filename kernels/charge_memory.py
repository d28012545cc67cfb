"""Charges of assignments, remembered by the kinds of their elements: most are asked for again and again."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.assignment_space import AssignmentSpace, Odometer
from kernels.equal_assignments import balance

IntArray = npt.NDArray[np.int64]

MOST_REMEMBERED = 1_048_576
"""Combinations of kinds of elements whose charges are kept."""


class ChargeMemory(NamedTuple):
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


def charge_memory(space: AssignmentSpace) -> ChargeMemory:
    """Memory of a space, as far as listings of it have filled it before."""
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
def _empty_memory(n_slots: int) -> ChargeMemory:
    none, nothing = np.zeros(0, dtype=np.int8), np.zeros((0, 0), dtype=np.int16)
    kind, stride = np.zeros((n_slots, 1), dtype=np.int64), np.zeros(n_slots, dtype=np.int64)
    return ChargeMemory(
        kind, stride, none, np.zeros((0, n_slots), dtype=np.int8), 1, nothing, np.zeros(0, dtype=np.int16)
    )


@lru_cache(maxsize=4)
def _memory_of(
    allowed: bytes, elements: int, multiplicity: tuple[int, ...], charges: tuple[int, ...], choices: tuple[int, ...]
) -> ChargeMemory:
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
    return ChargeMemory(
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


@jit
def ask(space: AssignmentSpace, memory: ChargeMemory, key: int, x: IntArray, q: IntArray, remembers: bool) -> bool:
    """Write the charges of an assignment and remember them; False when it is not neutral."""
    neutral = balance(space, x, space.prototype_charge, q)
    if remembers:
        memory.state[key] = 2 if neutral else 1
        for s in range(x.shape[0]):
            memory.charges[key, s] = q[s]
    return neutral


@jit
def hope(
    space: AssignmentSpace, tables: Odometer, memory: ChargeMemory, key: int, uses: IntArray, x: IntArray, q: IntArray
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
            ask(space, memory, own_key, x, q, True)
        if memory.state[own_key] != 1:
            memory.hopeful[place, count] = row - tables.start[last]
            count += 1
    memory.hopes[place] = count
