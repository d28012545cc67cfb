"""Charges for the elements of one assignment so that the cell is neutral."""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@jit
def has_sign(allowed: BoolArray, element: int, sign: int) -> bool:
    """Whether an element may carry any charge of a sign."""
    for size in range(1, 9):  # noqa: SIM110
        if allowed[element, 8 + sign * size]:
            return True
    return False  # Numba compiles no generator expression: no any() here


FEW_SLOTS = 6
"""Slots up to which trying all charges is quicker than dynamic programming."""


@jit
def same_charge_each(
    x: IntArray, multiplicity: IntArray, prototype_charge: IntArray, allowed: BoolArray, out: IntArray
) -> bool:
    """Neutral charges with one charge an element and sign, nearest to the prototype's; False when there are none."""
    n = x.shape[0]
    scratch = np.empty((4, n), dtype=np.int64)
    group, leader = scratch[0], scratch[1]
    groups = 0
    for o in range(n):
        group[o] = -1
        for k in range(groups):
            if x[leader[k]] == x[o] and (prototype_charge[leader[k]] > 0) == (prototype_charge[o] > 0):
                group[o] = k
                break
        if group[o] < 0:
            leader[groups] = o
            group[o] = groups
            groups += 1
    return _nearest(x, multiplicity, prototype_charge, allowed, scratch, groups, out)


@jit
def _nearest(
    x: IntArray,
    multiplicity: IntArray,
    prototype_charge: IntArray,
    allowed: BoolArray,
    scratch: IntArray,
    groups: int,
    out: IntArray,
) -> bool:
    """Of all neutral choices of one charge a group, the nearest to the prototype's, the first of equally near ones.

    ``scratch`` holds the group of each slot, the first slot of each group, and two rows to work in.
    """
    group, leader, atoms, size = scratch[0], scratch[1], scratch[2], scratch[3]
    atoms[:groups] = 0
    size[:groups] = 0
    for o in range(x.shape[0]):
        atoms[group[o]] += multiplicity[o] if prototype_charge[o] > 0 else -multiplicity[o]
    last = groups - 1
    best = -1
    k = 0
    total = 0  # charge of the groups before k
    while k >= 0:
        sign = 1 if atoms[k] > 0 else -1
        if k == last:
            # what is left, or nothing
            rest = -total // atoms[k]
            if 1 <= rest <= 8 and rest * atoms[k] == -total and allowed[x[leader[k]], 8 + sign * rest]:
                size[k] = rest
                cost = 0
                for o in range(x.shape[0]):
                    cost += multiplicity[o] * abs(abs(prototype_charge[o]) - size[group[o]])
                if best < 0 or cost < best:
                    best = cost
                    for o in range(x.shape[0]):
                        out[o] = size[group[o]] if prototype_charge[o] > 0 else -size[group[o]]
        else:
            size[k] += 1
            while size[k] <= 8 and not allowed[x[leader[k]], 8 + sign * size[k]]:
                size[k] += 1
            if size[k] <= 8:
                total += size[k] * atoms[k]
                k += 1
                continue
        size[k] = 0
        k -= 1
        if k >= 0:
            total -= size[k] * atoms[k]
    return best >= 0


@jit
def mixed_valence_possible(x: IntArray, prototype_charge: IntArray, allowed: BoolArray) -> bool:
    """Whether an element with several charges of one sign sits on more than one slot."""
    for i in range(x.shape[0]):
        for j in range(i):
            if x[i] == x[j] and (prototype_charge[i] > 0) == (prototype_charge[j] > 0):
                sign = 1 if prototype_charge[i] > 0 else -1
                states = 0
                for size in range(1, 9):
                    if allowed[x[i], 8 + sign * size]:
                        states += 1
                if states > 1:
                    return True
    return False


@jit
def charge_each_slot(
    x: IntArray, multiplicity: IntArray, prototype_charge: IntArray, allowed: BoolArray, out: IntArray
) -> bool:
    """Neutral charges with one charge a slot, nearest to the prototype's (dynamic programming over the charge)."""
    slots = x.shape[0]
    if slots <= FEW_SLOTS:
        scratch = np.empty((4, slots), dtype=np.int64)
        scratch[0] = np.arange(slots)
        scratch[1] = scratch[0]
        return _nearest(x, multiplicity, prototype_charge, allowed, scratch, slots, out)
    reach = 0
    for s in range(slots):
        reach += 8 * multiplicity[s]
    far = np.int64(2**40)
    # cost[s, t]: least cost of the slots s.. that sum to t - reach
    cost = np.full((slots + 1, 2 * reach + 1), far)
    cost[slots, reach] = 0
    for s in range(slots - 1, -1, -1):
        sign = 1 if prototype_charge[s] > 0 else -1
        for size in range(1, 9):
            if not allowed[x[s], 8 + sign * size]:
                continue
            step = sign * size * multiplicity[s]
            price = multiplicity[s] * abs(abs(prototype_charge[s]) - size)
            for t in range(max(0, step), min(2 * reach, 2 * reach + step) + 1):
                rest = cost[s + 1, t - step]
                if rest < far and rest + price < cost[s, t]:
                    cost[s, t] = rest + price
    if cost[0, reach] >= far:
        return False
    t = reach
    for s in range(slots):
        sign = 1 if prototype_charge[s] > 0 else -1
        for size in range(1, 9):
            if not allowed[x[s], 8 + sign * size]:
                continue
            step = sign * size * multiplicity[s]
            price = multiplicity[s] * abs(abs(prototype_charge[s]) - size)
            if 0 <= t - step <= 2 * reach and cost[s + 1, t - step] + price == cost[s, t]:
                out[s] = sign * size
                t -= step
                break
    return True
