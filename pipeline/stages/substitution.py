"""From a prototype and a campaign's ions to the space of raw assignments that the enumeration kernel lists."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from kernels.enumeration import CHARGE_OFFSET, AssignmentSpace, raw_count
from pipeline.reference.ions import Ion, allowed_ions
from pipeline.reference.protostructure import tied_permutations
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.settings import CandidateSettings

IntArray = npt.NDArray[np.int64]

MAX_PATTERNS = 2_000_000
"""Patterns of one element's orbits that are held in memory; an element with more is substituted whole."""


@dataclass(frozen=True)
class Palette:
    """The campaign's ions as the kernel sees them: elements by atomic number, and which charges each may carry."""

    ions: tuple[Ion, ...]

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """Symbols in the order of their index."""
        return tuple(dict.fromkeys(i.element for i in self.ions))

    @cached_property
    def atomic_numbers(self) -> IntArray:
        """(elements,) ascending, so that index order is atomic-number order in every campaign."""
        return np.array(list(dict.fromkeys(i.atomic_number for i in self.ions)), dtype=np.int64)

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """(elements, 17) whether an element may carry a charge."""
        table = np.zeros((len(self.elements), 2 * CHARGE_OFFSET + 1), dtype=bool)
        for i in self.ions:
            table[self.elements.index(i.element), CHARGE_OFFSET + i.charge] = True
        return table

    def on_site(self, charge: int, *, keep_charge: bool) -> tuple[int, ...]:
        """Elements that may stand where the prototype has this charge."""
        if keep_charge:
            return tuple(np.flatnonzero(self.allowed[:, CHARGE_OFFSET + charge]).tolist())
        side = slice(CHARGE_OFFSET + 1, None) if charge > 0 else slice(0, CHARGE_OFFSET)
        return tuple(np.flatnonzero(self.allowed[:, side].any(axis=1)).tolist())


def palette(settings: CandidateSettings) -> Palette:
    """Palette of a campaign."""
    return _palette(allowed_ions(settings))


@cache
def _palette(ions: tuple[Ion, ...]) -> Palette:
    return Palette(ions)


@cache
def patterns(choices: tuple[int, ...], orbits: int, max_species: int) -> IntArray:
    """Ways to put elements on the orbits of a class, at most ``max_species`` different ones.

    Returns
    -------
    (p, orbits) int64
        In lexicographic order.
    """
    rows: list[tuple[int, ...]] = []
    for used in range(1, min(max_species, orbits, len(choices)) + 1):
        for chosen in itertools.combinations(choices, used):
            rows.extend(r for r in itertools.product(chosen, repeat=orbits) if len(set(r)) == used)
    return np.array(sorted(rows), dtype=np.int64).reshape(-1, orbits)


def pattern_count(choices: int, orbits: int, max_species: int) -> int:
    """Number of rows of :func:`patterns`: sum over k of C(choices, k) times the surjections of the orbits onto k."""
    total, combinations = 0, 1
    for used in range(1, min(max_species, orbits, choices) + 1):
        combinations = combinations * (choices - used + 1) // used
        onto, binomial = 0, 1
        for i in range(used + 1):
            onto += (-1) ** i * binomial * (used - i) ** orbits
            binomial = binomial * (used - i) // (i + 1)
        total += combinations * onto
    return total


def mixed_classes(prototype: Prototype, settings: CandidateSettings) -> tuple[bool, ...]:
    """For each class, whether its orbits are substituted one by one."""
    colours = palette(settings)
    out = []
    for c in range(prototype.n_classes):
        orbits = prototype.orbit_class.count(c)
        choices = colours.on_site(prototype.class_charges[c], keep_charge=settings.substitution == "isovalent")
        out.append(
            settings.by == "orbit"
            and settings.max_species_per_element > 1
            and 1 < orbits <= settings.max_mixed_orbits
            and pattern_count(len(choices), orbits, settings.max_species_per_element) <= MAX_PATTERNS
        )
    return tuple(out)


def falls_back(prototype: Prototype, settings: CandidateSettings) -> bool:
    """Whether an element with several orbits is substituted whole although the campaign asks for orbit-wise."""
    mixed = mixed_classes(prototype, settings)
    several = [prototype.orbit_class.count(c) > 1 for c in range(prototype.n_classes)]
    wanted = settings.by == "orbit" and settings.max_species_per_element > 1
    return wanted and any(s and not m for s, m in zip(several, mixed, strict=True))


def siblings(
    prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings
) -> tuple[Prototype, ...] | None:
    """Prototypes listed before this one that have the same frame; None when this one adds nothing to them.

    With ``charge_neutral`` the charges of a prototype's orbits matter by their sign only, so the first prototype of
    a frame stands for all. With ``isovalent`` one of the same charges does.
    """
    before: list[Prototype] = []
    for other in library.by_frame[prototype.frame]:
        if other is prototype:
            break
        if other.has_charges:
            before.append(other)
    if settings.substitution == "charge_neutral":
        return None if before else ()
    if any(other.class_charges == prototype.class_charges for other in before):
        return None
    return tuple(before)


def assignment_space(
    prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings
) -> AssignmentSpace | None:
    """Raw assignments of a prototype; None when it is not substituted (no charges, or another stands for it).

    Parameters
    ----------
    prototype
        One of the library's.
    library
        Decides which prototypes stand for others.
    settings
        ``substitution`` is isovalent or charge_neutral.
    """
    others = siblings(prototype, library, settings) if prototype.has_charges else None
    if others is None:
        return None
    colours = palette(settings)
    keep_charge = settings.substitution == "isovalent"
    mixed = mixed_classes(prototype, settings)
    sizes = [prototype.orbit_class.count(c) for c in range(prototype.n_classes)]
    tables = []
    for c, orbits in enumerate(sizes):
        choices = colours.on_site(prototype.class_charges[c], keep_charge=keep_charge)
        tables.append(patterns(choices, orbits, settings.max_species_per_element if mixed[c] else 1))
    starts = np.cumsum([0, *(t.size for t in tables)])[:-1]
    slots = itertools.accumulate(
        (
            o > 0
            and not (prototype.orbit_class[o] == prototype.orbit_class[o - 1] and not mixed[prototype.orbit_class[o]])
        )
        for o in range(len(prototype.orbit_class))
    )
    return AssignmentSpace(
        patterns=np.concatenate([t.reshape(-1) for t in tables]),
        pattern_start=np.asarray(starts, dtype=np.int64),
        pattern_count=np.array([len(t) for t in tables], dtype=np.int64),
        class_start=np.cumsum([0, *sizes], dtype=np.int64),
        class_species=np.array([settings.max_species_per_element if m else 1 for m in mixed], dtype=np.int64),
        multiplicity=np.array(prototype.orbit_multiplicities, dtype=np.int64),
        prototype_charge=np.array(prototype.orbit_charges, dtype=np.int64),
        slot=np.array([int(s) for s in slots], dtype=np.int64),
        allowed=colours.allowed,
        images=prototype.images,
        site_orbit=prototype.site_orbit,
        other_charges=_other_charges(prototype, others),
        keep_charge=keep_charge,
        max_elements=settings.max_elements,
    )


def _other_charges(prototype: Prototype, others: Sequence[Prototype]) -> IntArray:
    """(s, orbits) charges of the siblings, with the classes that the label does not tell apart in every order."""
    rows: list[list[int]] = []
    for other in others:
        rows.extend(
            [other.class_charges[permutation[c]] for c in prototype.orbit_class]
            for permutation in tied_permutations(prototype.n_classes, prototype.ties)
        )
    return np.array(rows, dtype=np.int64).reshape(-1, len(prototype.orbit_class))


def raw_assignments(prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings) -> int:
    """Number of ranks of a prototype; 0 when it is not substituted, 1 when structures are taken as they are."""
    if settings.substitution == "none":
        return 1
    space = assignment_space(prototype, library, settings)
    return 0 if space is None else raw_count(space)
