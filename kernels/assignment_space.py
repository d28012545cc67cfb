"""The assignments of elements to the slots of a crystal: their number, and the one that has a given rank."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.site_images import SlotImages

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CHARGE_OFFSET = 8
"""Column of charge 0 in a table of allowed charges; charges run from -8 to 8."""


KEPT = 4096
"""Numbers that the tables of a space may hold to be kept for the next space of the same shape (32 kB)."""


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


@dataclass(frozen=True, eq=False)
class _Shape:
    """What the tables and ranks of a space depend on; many prototypes share one.

    For each class its choices, number of slots and largest number of elements; ``most`` different ones in all.
    """

    choices: tuple[tuple[int, ...], ...]
    slots: tuple[int, ...]
    species: tuple[int, ...]
    most: int

    @cached_property
    def masks(self) -> dict[int, int]:
        """Bit mask of the classes that each element may stand on."""
        masks: dict[int, int] = {}
        for c, own in enumerate(self.choices):
            for e in own:
                masks[e] = masks.get(e, 0) | 1 << c
        return masks

    @cached_property
    def completions(self) -> _Completions:
        """Numbers of ways to go on; its groups are the elements of one mask, by mask."""
        groups = tuple(sorted(Counter(self.masks.values()).items()))
        return _completions(groups, self.slots, self.species, self.most)

    @cached_property
    def total(self) -> int:
        """Number of raw assignments."""
        return self.completions.count(0, (0,) * len(self.completions.groups))

    @cached_property
    def small(self) -> bool:
        """Whether the tables are kept."""
        each = zip(self.choices, self.slots, self.species, strict=True)
        sizes = [m * math.comb(len(own), k) + n * int(k**n) for own, n, m in each for k in range(1, m + 1)]
        return sum(sizes) <= KEPT

    @cached_property
    def kept_tables(self) -> Odometer:
        return _tables(self)


def _shape(space: AssignmentSpace) -> _Shape:
    return _known_shape(
        tuple(space.choices.tolist()),
        tuple(space.choice_start.tolist()),
        tuple(space.class_start.tolist()),
        tuple(space.class_species.tolist()),
        int(space.max_elements),
    )


@lru_cache(maxsize=1024)
def _known_shape(
    choices: tuple[int, ...],
    choice_start: tuple[int, ...],
    class_start: tuple[int, ...],
    class_species: tuple[int, ...],
    most: int,
) -> _Shape:
    slots = tuple(b - a for a, b in itertools.pairwise(class_start))
    return _Shape(
        choices=tuple(choices[a:b] for a, b in itertools.pairwise(choice_start)),
        slots=slots,
        species=tuple(min(m, n) for m, n in zip(class_species, slots, strict=True)),
        most=most,
    )


def odometer(space: AssignmentSpace) -> Odometer:
    """Tables of a space; small ones are kept and shared, so they are not to be written to."""
    shape = _shape(space)
    return shape.kept_tables if shape.small else _tables(shape)


def _tables(shape: _Shape) -> Odometer:
    widest = max(shape.species, default=1)
    tables = [_set_table(c, m) for c, m in zip(shape.choices, shape.species, strict=True)]
    elements = np.full((sum(len(size) for _, size in tables), widest), -1, dtype=np.int64)
    start = np.cumsum([0, *(len(size) for _, size in tables)], dtype=np.int64)
    for (table, _), first in zip(tables, start[:-1].tolist(), strict=True):
        elements[first : first + len(table), : table.shape[1]] = table
    way_start = np.zeros((len(shape.slots), widest + 1), dtype=np.int64)
    way_count = np.zeros_like(way_start)
    labels, at = [np.zeros(0, dtype=np.int64)], 0
    for c, (n, m) in enumerate(zip(shape.slots, shape.species, strict=True)):
        for k in range(1, m + 1):
            ways = _ways(n, k)
            way_start[c, k], way_count[c, k] = at, len(ways)
            labels.append(ways.reshape(-1))
            at += ways.size
    size = np.concatenate([s for _, s in tables]) if tables else np.zeros(0, dtype=np.int64)
    return Odometer(elements, size, start, np.concatenate(labels), way_start, way_count)


def raw_count(space: AssignmentSpace) -> int:
    """Number of raw assignments, exactly."""
    return _shape(space).total


def unrank(space: AssignmentSpace, rank: int) -> tuple[IntArray, IntArray]:
    """Set (counted within its class) and way of each class, for one rank.

    Raises
    ------
    ValueError
        When the rank is not below :func:`raw_count`.
    """
    shape = _shape(space)
    table = shape.completions
    if not 0 <= rank < shape.total:
        raise ValueError(f"rank {rank} is not within [0, {shape.total})")
    group_of_mask = {mask: group for group, (mask, _) in enumerate(table.groups)}
    chosen: set[int] = set()
    sets, ways = [], []
    for c, (choices, slots, species) in enumerate(zip(shape.choices, shape.slots, shape.species, strict=True)):
        for index, members in enumerate(_element_sets(choices, species)):
            union = chosen.union(members)
            if len(union) > shape.most:
                continue
            counts = [0] * len(table.groups)
            for e in union:
                counts[group_of_mask[shape.masks[e]]] += 1
            below = table.count(c + 1, tuple(counts))
            here = ways_onto(slots, len(members)) * below
            if rank < here:
                sets.append(index)
                ways.append(rank // below)
                rank %= below
                chosen = union
                break
            rank -= here
    return np.array(sets, dtype=np.int64), np.array(ways, dtype=np.int64)
