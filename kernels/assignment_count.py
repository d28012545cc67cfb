"""The number of valid assignments of a space without listing them: elements of equal charges are interchangeable.

Two elements that may carry the same charges take each other's place everywhere, so it is enough to look at assignments
in which the elements of such a kind appear in a fixed order; each stands for n (n - 1) ... (n - k + 1) others, n
elements in the kind and k of them used. Equal crystals are counted once by the weight 1 / (number of equal ones), which
is Burnside's lemma for a symmetry that moves only a part of the assignments.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.assignment_space import AssignmentSpace
from kernels.equal_assignments import balance, distinct, is_listed, may_stand, reached_before
from kernels.site_images import image_of

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Kinds(NamedTuple):
    """Elements by kind: ``members`` (elements,), those of kind k from ``start[k]`` to ``start[k + 1]``."""

    members: IntArray
    start: IntArray


def kinds_of(space: AssignmentSpace) -> Kinds:
    """Group the elements of a space by the charges that matter in it."""
    if space.keep_charge:
        charges = np.unique(np.concatenate([space.prototype_charge, space.other_charges.reshape(-1)]))
        table = space.allowed[:, 8 + charges]
    else:
        table = space.allowed
    _, kind = np.unique(table, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    order = np.argsort(kind, kind="stable")
    return Kinds(order.astype(np.int64), np.concatenate([[0], np.cumsum(np.bincount(kind))]).astype(np.int64))


def count_assignments(space: AssignmentSpace) -> int:
    """Number of assignments that :func:`kernels.enumeration.list_assignments` lists of the whole space, exactly.

    Raises
    ------
    OverflowError
        When the number exceeds 2**62.
    """
    most = space.images.source.shape[0] + 1
    tally = np.zeros(most + 1, dtype=np.int64)
    size = np.zeros(most + 1, dtype=np.float64)
    _tally(space, kinds_of(space), tally, size)
    if size.sum() > 2.0**62:
        raise OverflowError(f"about {size.sum():.3g} assignments are more than 2**62; bound the space")
    return int((tally[1:] // np.arange(1, most + 1)).sum())


@jit
def _class_size(space: AssignmentSpace, x: IntArray, y: IntArray, q: IntArray, seen: IntArray, marks: IntArray) -> int:
    """Number of raw assignments that are the same crystal as x, itself included; 0 when it was reached before."""
    siblings = space.other_charges.shape[0] > 0
    if siblings and reached_before(space, x, q):
        return 0
    seen[0] = x
    marks[0] = _mark(x)
    count = 1
    for g in range(space.images.source.shape[0]):
        if not image_of(x, space.images, g, y):
            continue
        if siblings and reached_before(space, y, q):
            return 0
        mark = _mark(y)
        known = False
        for k in range(count):
            if marks[k] == mark and distinct_places(seen[k], y) == 0:
                known = True
                break
        if not known and is_listed(space, y, g, q):
            seen[count] = y
            marks[count] = mark
            count += 1
    return count


@jit
def _mark(x: IntArray) -> int:
    mark = np.int64(0)
    for o in range(x.shape[0]):
        mark = (31 * mark + x[o]) & 0xFFFFFFFFFFFFF
    return int(mark)


@jit
def distinct_places(x: IntArray, y: IntArray) -> int:
    """Number of places where two assignments differ."""
    count = 0
    for o in range(x.shape[0]):
        if x[o] != y[o]:
            count += 1
    return count


@jit
def _tally(space: AssignmentSpace, kinds: Kinds, tally: IntArray, size: FloatArray) -> None:
    """Add up the valid raw assignments by the number of equal ones; ``size`` the same in floating point."""
    n = space.multiplicity.shape[0]
    n_kinds = kinds.start.shape[0] - 1
    x = np.full(n, -1, dtype=np.int64)
    y = np.empty(n, dtype=np.int64)
    q = np.empty(n, dtype=np.int64)
    seen = np.empty((space.images.source.shape[0] + 1, n), dtype=np.int64)
    marks = np.empty(space.images.source.shape[0] + 1, dtype=np.int64)
    used = np.empty(n + 1, dtype=np.int64)  # elements in order of their first use
    used_kind = np.empty(n + 1, dtype=np.int64)
    n_used = np.zeros(n + 1, dtype=np.int64)  # before each slot
    taken = np.zeros(n_kinds, dtype=np.int64)
    option = np.full(n + 1, -1, dtype=np.int64)
    class_of = np.empty(n, dtype=np.int64)
    for c in range(space.class_species.shape[0]):
        class_of[space.class_start[c] : space.class_start[c + 1]] = c
    s = 0
    while s >= 0:
        if s == n:
            if balance(space, x, space.prototype_charge, q):
                equal = _class_size(space, x, y, q, seen, marks)
                if equal > 0:
                    weight = 1
                    for k in range(n_kinds):
                        members = kinds.start[k + 1] - kinds.start[k]
                        for i in range(taken[k]):
                            weight *= members - i
                    tally[equal] += weight
                    size[equal] += weight
            s -= 1
            continue
        # undo what this slot held
        if option[s] >= n_used[s]:
            taken[used_kind[n_used[s]]] -= 1
        placed = False
        while not placed and option[s] + 1 < n_used[s] + n_kinds:
            option[s] += 1
            if option[s] < n_used[s]:
                x[s] = used[option[s]]
                n_used[s + 1] = n_used[s]
            else:
                k = option[s] - n_used[s]
                if n_used[s] == space.max_elements or taken[k] == kinds.start[k + 1] - kinds.start[k]:
                    continue
                x[s] = kinds.members[kinds.start[k] + taken[k]]
                used[n_used[s]] = x[s]
                used_kind[n_used[s]] = k
                n_used[s + 1] = n_used[s] + 1
            c = class_of[s]
            placed = may_stand(space, x[s], s) and distinct(x, space.class_start[c], s + 1) <= space.class_species[c]
            if placed and option[s] >= n_used[s]:
                taken[option[s] - n_used[s]] += 1
        if placed:
            s += 1
            if s <= n - 1:
                option[s] = -1
        else:
            option[s] = -1
            s -= 1
