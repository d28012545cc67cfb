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


@jit
def same_charge_each(
    x: IntArray, multiplicity: IntArray, prototype_charge: IntArray, allowed: BoolArray, out: IntArray
) -> bool:
    """Neutral charges with one charge an element and sign, nearest to the prototype's; False when there are none."""
    n = x.shape[0]
    group = np.empty(n, dtype=np.int64)
    leader = np.empty(n, dtype=np.int64)
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
    atoms = np.zeros(groups, dtype=np.int64)
    for o in range(n):
        atoms[group[o]] += multiplicity[o]
    size = np.ones(groups, dtype=np.int64)
    best = -1
    while True:
        total = 0
        valid = True
        for k in range(groups):
            sign = 1 if prototype_charge[leader[k]] > 0 else -1
            if not allowed[x[leader[k]], 8 + sign * size[k]]:
                valid = False
                break
            total += atoms[k] * sign * size[k]
        if valid and total == 0:
            cost = 0
            for o in range(n):
                cost += multiplicity[o] * abs(abs(prototype_charge[o]) - size[group[o]])
            if best < 0 or cost < best:
                best = cost
                for o in range(n):
                    out[o] = size[group[o]] if prototype_charge[o] > 0 else -size[group[o]]
        k = groups - 1
        while k >= 0:
            size[k] += 1
            sign = 1 if prototype_charge[leader[k]] > 0 else -1
            while size[k] <= 8 and not allowed[x[leader[k]], 8 + sign * size[k]]:
                size[k] += 1
            if size[k] <= 8:
                break
            size[k] = 1
            k -= 1
        if k < 0:
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
