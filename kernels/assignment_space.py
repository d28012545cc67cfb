"""The assignments of elements to the slots of a crystal: their number, and the one that has a given rank."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.site_images import SlotImages

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHARGE_OFFSET = 8
"""Column of charge 0 in a table of allowed charges; charges run from -8 to 8."""


class AssignmentSpace(NamedTuple):
    """All raw assignments of one crystal, and what makes one valid.

    A slot is a set of sites that carry the same ion: one orbit, or all orbits of an element. The slots of a class (an
    element of the crystal) stand together. A raw assignment picks for each class a set of elements and a way to put
    all of them on its slots, within the bounds on their numbers; its rank is its place in that order, the last class
    fastest.

    Attributes
    ----------
    choices
        (total,) elements that may stand on each class, ascending, class 0 first; elements are small integers in the
        order that decides which of several equal crystals is kept.
    choice_start, class_start
        (classes + 1,) where a class's choices and its slots begin.
    class_species
        (classes,) most different elements a class may hold.
    multiplicity, prototype_charge
        (slots,) atoms, and the charge in the prototype.
    allowed
        (elements, 17) whether an element may carry a charge (column: charge + 8).
    images
        What the symmetry makes equal.
    other_charges
        (s, slots) charges of crystals listed before with the same slots; what they reach is skipped here.
    keep_charge
        True: a slot keeps its prototype's charge. False: only its sign, and the cell is neutral.
    max_elements
        Most different elements in an assignment.
    """

    choices: IntArray
    choice_start: IntArray
    class_start: IntArray
    class_species: IntArray
    multiplicity: IntArray
    prototype_charge: IntArray
    allowed: BoolArray
    images: SlotImages
    other_charges: IntArray
    keep_charge: bool
    max_elements: int


class Odometer(NamedTuple):
    """What the kernel turns: for each class its sets of elements, and the ways to put k elements on its slots.

    ``elements`` (sets, k) padded with -1 and ``size`` (sets,); the sets of class c stand from ``start[c]`` to
    ``start[c + 1]``. ``labels`` holds, from ``way_start[c, k]`` on, ``way_count[c, k]`` rows of local labels, one a
    slot.
    """

    elements: IntArray
    size: IntArray
    start: IntArray
    labels: IntArray
    way_start: IntArray
    way_count: IntArray


def ways_onto(slots: int, species: int) -> int:
    """Ways to put all of k elements on n slots: the surjections, sum over i of (-1)^i C(k, i) (k - i)^n."""
    return sum((-1) ** i * math.comb(species, i) * (species - i) ** slots for i in range(species + 1))


@lru_cache(maxsize=256)
def _ways(slots: int, species: int) -> IntArray:
    rows = [r for r in itertools.product(range(species), repeat=slots) if len(set(r)) == species]
    return np.array(rows, dtype=np.int64).reshape(-1, slots)


@lru_cache(maxsize=1024)
def _element_sets(choices: tuple[int, ...], species: int) -> tuple[tuple[int, ...], ...]:
    """Sets of one to ``species`` elements, in lexicographic order."""
    return tuple(sorted(s for k in range(1, species + 1) for s in itertools.combinations(choices, k)))


@lru_cache(maxsize=1024)
def _set_table(choices: tuple[int, ...], species: int) -> tuple[IntArray, IntArray]:
    sets = _element_sets(choices, species)
    table = np.full((len(sets), species), -1, dtype=np.int64)
    for row, s in enumerate(sets):
        table[row, : len(s)] = s
    return table, np.array([len(s) for s in sets], dtype=np.int64)


def _shape(space: AssignmentSpace) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
    """Choices, number of slots and largest number of elements of each class."""
    cuts = space.choice_start.tolist()
    choices = [tuple(space.choices[a:b].tolist()) for a, b in itertools.pairwise(cuts)]
    slots = np.diff(space.class_start).tolist()
    species = [min(m, n) for m, n in zip(space.class_species.tolist(), slots, strict=True)]
    return choices, slots, species


def odometer(space: AssignmentSpace) -> Odometer:
    """Tables of a space."""
    choices, slots, species = _shape(space)
    widest = max(species, default=1)
    tables = [_set_table(c, m) for c, m in zip(choices, species, strict=True)]
    elements = np.full((sum(len(size) for _, size in tables), widest), -1, dtype=np.int64)
    start = np.cumsum([0, *(len(size) for _, size in tables)], dtype=np.int64)
    for (table, _), first in zip(tables, start[:-1].tolist(), strict=True):
        elements[first : first + len(table), : table.shape[1]] = table
    way_start = np.zeros((len(slots), widest + 1), dtype=np.int64)
    way_count = np.zeros_like(way_start)
    labels, at = [np.zeros(0, dtype=np.int64)], 0
    for c, (n, m) in enumerate(zip(slots, species, strict=True)):
        for k in range(1, m + 1):
            ways = _ways(n, k)
            way_start[c, k], way_count[c, k] = at, len(ways)
            labels.append(ways.reshape(-1))
            at += ways.size
    size = np.concatenate([s for _, s in tables]) if tables else np.zeros(0, dtype=np.int64)
    return Odometer(elements, size, start, np.concatenate(labels), way_start, way_count)


class _Completions:
    """Exact numbers of ways to go on from a class, given what the classes before hold.

    Elements fall into groups by the classes they may stand on: only how many of each group are used matters.
    """

    def __init__(
        self, groups: tuple[tuple[int, int], ...], slots: tuple[int, ...], species: tuple[int, ...], most: int
    ) -> None:
        self.groups = groups
        self.slots = slots
        self.species = species
        self.most = most
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def count(self, c: int, used: tuple[int, ...]) -> int:
        if c == len(self.slots):
            return 1
        key = c, used
        if key not in self._known:
            self._known[key] = self._sum(c, 0, used, 0, 1)
        return self._known[key]

    def _sum(self, c: int, g: int, used: tuple[int, ...], size: int, ways: int) -> int:
        """Sum over the elements that class c takes of the groups from g on; it has ``size`` of those before."""
        if g == len(self.groups):
            return ways * ways_onto(self.slots[c], size) * self.count(c + 1, used) if size else 0
        mask, members = self.groups[g]
        if not mask >> c & 1:
            return self._sum(c, g + 1, used, size, ways)
        total = 0
        for again in range(min(used[g], self.species[c] - size) + 1):
            for new in range(min(members - used[g], self.species[c] - size - again, self.most - sum(used)) + 1):
                after = (*used[:g], used[g] + new, *used[g + 1 :])
                more = math.comb(used[g], again) * math.comb(members - used[g], new)
                # 'again' counts among those used before this class, so 'after' goes on to the next classes only
                total += self._sum(c, g + 1, after, size + again + new, ways * more)
        return total


@lru_cache(maxsize=8192)
def _completions(
    groups: tuple[tuple[int, int], ...], slots: tuple[int, ...], species: tuple[int, ...], most: int
) -> _Completions:
    return _Completions(groups, slots, species, most)


def _groups(choices: list[tuple[int, ...]]) -> tuple[dict[int, int], tuple[tuple[int, int], ...]]:
    """Group of each element, and (bit mask of classes, number of elements) of each group."""
    masks: dict[int, int] = {}
    for c, own in enumerate(choices):
        for e in own:
            masks[e] = masks.get(e, 0) | 1 << c
    kinds = sorted(set(masks.values()))
    sizes = tuple((mask, sum(m == mask for m in masks.values())) for mask in kinds)
    return {e: kinds.index(mask) for e, mask in masks.items()}, sizes


def raw_count(space: AssignmentSpace) -> int:
    """Number of raw assignments, exactly."""
    choices, slots, species = _shape(space)
    _, groups = _groups(choices)
    table = _completions(groups, tuple(slots), tuple(species), int(space.max_elements))
    return table.count(0, (0,) * len(groups))


def unrank(space: AssignmentSpace, rank: int) -> tuple[IntArray, IntArray]:
    """Set (counted within its class) and way of each class, for one rank.

    Raises
    ------
    ValueError
        When the rank is not below :func:`raw_count`.
    """
    choices, slots, species = _shape(space)
    group_of, groups = _groups(choices)
    table = _completions(groups, tuple(slots), tuple(species), int(space.max_elements))
    if not 0 <= rank < table.count(0, (0,) * len(groups)):
        raise ValueError(f"rank {rank} is not within [0, {table.count(0, (0,) * len(groups))})")
    chosen: set[int] = set()
    sets, ways = [], []
    for c in range(len(slots)):
        for index, members in enumerate(_element_sets(choices[c], species[c])):
            union = chosen.union(members)
            if len(union) > space.max_elements:
                continue
            counts = [0] * len(groups)
            for e in union:
                counts[group_of[e]] += 1
            below = table.count(c + 1, tuple(counts))
            here = ways_onto(slots[c], len(members)) * below
            if rank < here:
                sets.append(index)
                ways.append(rank // below)
                rank %= below
                chosen = union
                break
            rank -= here
    return np.array(sets, dtype=np.int64), np.array(ways, dtype=np.int64)
