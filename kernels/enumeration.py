"""Assignments of elements to the orbits of a crystal, in rank order: neutral, and each crystal once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.charge_balance import charge_each_slot, has_sign, mixed_valence_possible, same_charge_each

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHARGE_OFFSET = 8
"""Column of charge 0 in a table of allowed charges; charges run from -8 to 8."""

BLOCK = 65_536
"""Ranks a call of the compiled loop covers, so that memory stays flat."""


class AssignmentSpace(NamedTuple):
    """All raw assignments of one crystal, and what makes one valid.

    Orbits of a class stand together. A raw assignment picks one pattern a class; its rank is the mixed-radix number
    of those picks, the last class fastest.

    Attributes
    ----------
    patterns
        (total,) elements on the orbits of a class, all patterns of class 0, then of class 1, ...; elements are small
        integers in the order that decides which of several equal crystals is kept.
    pattern_start
        (classes,) where a class's patterns begin in ``patterns``.
    pattern_count
        (classes,)
    class_start
        (classes + 1,) first orbit of each class, and the number of orbits.
    class_species
        (classes,) most different elements a class may hold.
    multiplicity, prototype_charge
        (orbits,) atoms, and the charge in the prototype.
    slot
        (orbits,) orbits of one slot always carry the same ion; ascending from 0.
    allowed
        (elements, 17) whether an element may carry a charge (column: charge + 8).
    images, site_orbit
        (g, sites) orbit onto which each symmetry moves each site, and (sites,) each site's own orbit, ascending.
    other_charges
        (s, orbits) charges of crystals listed before with the same orbits; what they reach is skipped here.
    keep_charge
        True: an orbit keeps its prototype's charge. False: only its sign, and the cell is neutral.
    max_elements
        Most different elements in an assignment.
    """

    patterns: IntArray
    pattern_start: IntArray
    pattern_count: IntArray
    class_start: IntArray
    class_species: IntArray
    multiplicity: IntArray
    prototype_charge: IntArray
    slot: IntArray
    allowed: BoolArray
    images: IntArray
    site_orbit: IntArray
    other_charges: IntArray
    keep_charge: bool
    max_elements: int


class Assignments(NamedTuple):
    """Valid assignments: ``ranks`` (m,), ``elements`` (m, orbits) and ``charges`` (m, orbits)."""

    ranks: IntArray
    elements: IntArray
    charges: IntArray


def raw_count(space: AssignmentSpace) -> int:
    """Number of raw assignments, exactly."""
    total = 1
    for count in space.pattern_count:
        total *= int(count)
    return total


def list_assignments(space: AssignmentSpace, first: int, last: int) -> Assignments:
    """Valid assignments with ranks in [first, last), in rank order.

    Valid is an assignment that has at most ``max_elements`` elements and a neutral choice of charges, is the first
    in lexicographic order among those that the symmetry maps onto each other, and is not reached by
    ``other_charges``. So any slice equals the same rows of the full list.

    Raises
    ------
    ValueError
        When the ranks are out of range or an array has the wrong shape.
    """
    _check(space, first, last)
    n_orbits = len(space.multiplicity)
    ranks, elements, charges = [], [], []
    for begin in range(first, last, BLOCK):
        end = min(begin + BLOCK, last)
        rank_block = np.empty(end - begin, dtype=np.int64)
        element_block = np.empty((end - begin, n_orbits), dtype=np.int64)
        charge_block = np.empty((end - begin, n_orbits), dtype=np.int64)
        found = _list(space, begin, end, rank_block, element_block, charge_block)
        ranks.append(rank_block[:found].copy())
        elements.append(element_block[:found].copy())
        charges.append(charge_block[:found].copy())
    if not ranks:
        empty = np.empty((0, n_orbits), dtype=np.int64)
        return Assignments(np.empty(0, dtype=np.int64), empty, empty.copy())
    return Assignments(np.concatenate(ranks), np.concatenate(elements), np.concatenate(charges))


def _check(space: AssignmentSpace, first: int, last: int) -> None:
    total = raw_count(space)
    if total >= 2**63:
        raise ValueError(f"the space holds {total} raw assignments; ranks must stay below 2**63: bound it")
    if not 0 <= first <= last <= total:
        raise ValueError(f"ranks [{first}, {last}) are not within [0, {total}]")
    n_orbits, n_sites = len(space.multiplicity), len(space.site_orbit)
    shapes = {
        "prototype_charge": (space.prototype_charge.shape, (n_orbits,)),
        "slot": (space.slot.shape, (n_orbits,)),
        "images": (space.images.shape[1:], (n_sites,)),
        "other_charges": (space.other_charges.shape[1:], (n_orbits,)),
        "allowed": (space.allowed.shape[1:], (2 * CHARGE_OFFSET + 1,)),
    }
    for name, (shape, expected) in shapes.items():
        if shape != expected:
            raise ValueError(f"{name} must have the trailing shape {expected}, got {shape}")
    if int(space.class_start[-1]) != n_orbits:
        raise ValueError(f"class_start ends at {int(space.class_start[-1])}, but there are {n_orbits} orbits")


def canonical_forms(elements: IntArray, images: IntArray, site_orbit: IntArray) -> IntArray:
    """The lexicographically first assignment that the symmetry maps each one onto.

    Parameters
    ----------
    elements : (m, orbits) int
    images : (g, sites) int
    site_orbit : (sites,) int

    Returns
    -------
    (m, orbits) int64
    """
    elements = np.ascontiguousarray(elements, dtype=np.int64)
    out = elements.copy()
    _canonical(elements, images, site_orbit, out)
    return out


@jit
def _image(x: IntArray, image: IntArray, site_orbit: IntArray, y: IntArray) -> bool:
    """Write the image of an assignment into ``y``; False when it is not constant on each orbit."""
    previous = -1
    for site in range(site_orbit.shape[0]):
        element = x[image[site]]
        orbit = site_orbit[site]
        if orbit != previous:
            y[orbit] = element
            previous = orbit
        elif y[orbit] != element:
            return False
    return True


@jit
def _less(y: IntArray, x: IntArray) -> bool:
    for o in range(x.shape[0]):
        if y[o] != x[o]:
            return bool(y[o] < x[o])
    return False


@jit
def _canonical(elements: IntArray, images: IntArray, site_orbit: IntArray, out: IntArray) -> None:
    y = np.empty(elements.shape[1], dtype=np.int64)
    for row in range(elements.shape[0]):
        for g in range(images.shape[0]):
            if _image(elements[row], images[g], site_orbit, y) and _less(y, out[row]):
                out[row] = y


@jit
def _distinct(x: IntArray, first: int, last: int) -> int:
    """Number of different elements on the orbits [first, last)."""
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
def _reached(
    y: IntArray, class_start: IntArray, class_species: IntArray, charge: IntArray, allowed: BoolArray, keep_charge: bool
) -> bool:
    """Whether an image is itself among the raw assignments (its neutrality follows from the original's)."""
    for c in range(class_species.shape[0]):
        if _distinct(y, class_start[c], class_start[c + 1]) > class_species[c]:
            return False
    for o in range(y.shape[0]):
        if keep_charge:
            if not allowed[y[o], 8 + charge[o]]:
                return False
        elif not has_sign(allowed, y[o], 1 if charge[o] > 0 else -1):
            return False
    return True


@jit
def _list(space: AssignmentSpace, first: int, last: int, ranks: IntArray, elements: IntArray, charges: IntArray) -> int:
    """Fill the output arrays with the valid assignments of [first, last); returns how many."""
    n_classes = space.pattern_count.shape[0]
    n_orbits = space.multiplicity.shape[0]
    x = np.empty(n_orbits, dtype=np.int64)
    y = np.empty(n_orbits, dtype=np.int64)
    q = np.empty(n_orbits, dtype=np.int64)
    stride = np.ones(n_classes, dtype=np.int64)
    for c in range(n_classes - 2, -1, -1):
        stride[c] = stride[c + 1] * space.pattern_count[c + 1]
    found = 0
    next_rank = first
    while next_rank < last:
        rank = next_rank
        next_rank = rank + 1
        for c in range(n_classes):
            begin, end = space.class_start[c], space.class_start[c + 1]
            pick = (rank // stride[c]) % space.pattern_count[c]
            at = space.pattern_start[c] + pick * (end - begin)
            for o in range(begin, end):
                x[o] = space.patterns[at + o - begin]
            if _distinct(x, 0, end) > space.max_elements:
                # nothing that begins like this is valid: on to the next pattern of this class
                next_rank = (rank // stride[c] + 1) * stride[c]
                break
        if next_rank != rank + 1 or _distinct(x, 0, n_orbits) > space.max_elements:
            continue
        if space.keep_charge:
            q[:] = space.prototype_charge
        elif not same_charge_each(x, space.multiplicity, space.prototype_charge, space.allowed, q) and not (
            mixed_valence_possible(x, space.slot, space.prototype_charge, space.allowed)
            and charge_each_slot(x, space.multiplicity, space.prototype_charge, space.slot, space.allowed, q)
        ):
            continue
        first_of_its_kind = True
        for s in range(space.other_charges.shape[0]):
            reached = True
            for o in range(n_orbits):
                if not space.allowed[x[o], 8 + space.other_charges[s, o]]:
                    reached = False
                    break
            if reached:
                first_of_its_kind = False
                break
        if not first_of_its_kind:
            continue
        for g in range(space.images.shape[0]):
            if (
                _image(x, space.images[g], space.site_orbit, y)
                and _less(y, x)
                and _reached(
                    y, space.class_start, space.class_species, space.prototype_charge, space.allowed, space.keep_charge
                )
            ):
                first_of_its_kind = False
                break
        if first_of_its_kind:
            ranks[found] = rank
            elements[found] = x
            charges[found] = q
            found += 1
    return found
