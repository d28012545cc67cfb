"""Which assignments are valid, and which of equal ones is kept: of one crystal, and of crystals with the same sites."""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.assignment_space import AssignmentSpace
from kernels.charge_balance import charge_each_slot, has_sign, mixed_valence_possible, same_charge_each
from kernels.site_images import image_of, precedes

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


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
def first_of_its_kind(space: AssignmentSpace, x: IntArray, y: IntArray, q: IntArray) -> bool:
    """Whether a valid assignment is the one that is kept of its equals; ``y`` and ``q`` are to work in."""
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
def could_stand(space: AssignmentSpace) -> BoolArray:
    """(s, slots, elements) which elements have a charge for a slot of each crystal that was listed before."""
    others = space.other_charges
    could = np.zeros((others.shape[0], others.shape[1], space.allowed.shape[0]), dtype=np.bool_)
    for s in range(others.shape[0]):
        for o in range(others.shape[1]):
            for e in range(space.allowed.shape[0]):
                if space.keep_charge:
                    could[s, o, e] = space.allowed[e, 8 + others[s, o]]
                else:
                    could[s, o, e] = has_sign(space.allowed, e, 1 if others[s, o] > 0 else -1)
    return could


@jit
def may_be_related(space: AssignmentSpace, x: IntArray, could: BoolArray) -> bool:
    """Whether an assignment has to be compared at all: there are operations, or all its elements could stand before."""
    if space.images.source.shape[0] > 0:
        return True
    for s in range(could.shape[0]):
        all_stand = True
        for o in range(x.shape[0]):
            if not could[s, o, x[o]]:
                all_stand = False
                break
        if all_stand:
            return True
    return False
