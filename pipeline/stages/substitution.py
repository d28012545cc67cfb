"""From a prototype and a campaign's ions to the space of raw assignments that the enumeration kernel lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kernels.assignment_space import CHARGE_OFFSET, AssignmentSpace, raw_count
from kernels.site_images import slot_images
from pipeline.candidate_settings import CandidateSettings
from pipeline.reference.ions import Ion, allowed_ions
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.stages.cheap_gates import ion_code

IntArray = npt.NDArray[np.int64]

MAX_WAYS = 2_000_000
"""Ways to put elements on the orbits of a class that are held in memory; an element with more is substituted whole."""


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

    @cached_property
    def codes(self) -> frozenset[int]:
        """Codes of the ions (:func:`pipeline.stages.cheap_gates.ion_code`)."""
        return frozenset(ion_code(i.atomic_number, i.charge) for i in self.ions)

    def on_site(self, charge: int, *, keep_charge: bool) -> tuple[int, ...]:
        """Elements that may stand where the prototype has this charge."""
        if keep_charge:
            return tuple(np.flatnonzero(self.allowed[:, CHARGE_OFFSET + charge]).tolist())
        side = slice(CHARGE_OFFSET + 1, None) if charge > 0 else slice(0, CHARGE_OFFSET)
        return tuple(np.flatnonzero(self.allowed[:, side].any(axis=1)).tolist())


def palette(settings: CandidateSettings) -> Palette:
    """Palette of a campaign; asked for with every prototype, so it is kept."""
    key = (
        settings.allowed_elements,
        settings.exclude_classes,
        settings.oxidation_states,
        tuple(sorted(settings.charges.items())),
        tuple(sorted(settings.radii.items())),
    )
    if key not in _PALETTES:
        _PALETTES[key] = Palette(allowed_ions(settings))
    return _PALETTES[key]


_PALETTES: dict[tuple[object, ...], Palette] = {}


def mixed_classes(prototype: Prototype, settings: CandidateSettings) -> tuple[bool, ...]:
    """For each class, whether its orbits are substituted one by one."""
    out = []
    for c in range(prototype.n_classes):
        orbits = prototype.orbit_class.count(c)
        out.append(
            settings.by == "orbit"
            and settings.max_species_per_element > 1
            and 1 < orbits <= settings.max_mixed_orbits
            and settings.max_species_per_element**orbits <= MAX_WAYS
        )
    return tuple(out)


def falls_back(prototype: Prototype, settings: CandidateSettings) -> bool:
    """Whether an element with several orbits is substituted whole although the campaign asks for orbit-wise."""
    mixed = mixed_classes(prototype, settings)
    several = [prototype.orbit_class.count(c) > 1 for c in range(prototype.n_classes)]
    wanted = settings.by == "orbit" and settings.max_species_per_element > 1
    return wanted and any(s and not m for s, m in zip(several, mixed, strict=True))


def charges_before(
    prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings
) -> tuple[tuple[int, ...], ...] | None:
    """Charges, on this prototype's classes, of those listed before it with the same sites; None when it adds nothing.

    With ``charge_neutral`` the charges of a prototype's orbits matter by their sign only, so of those with the same
    signs the first stands for all. With ``isovalent`` one of the same charges does.
    """
    group = library.same_sites[prototype.prototype_id]
    order = next(order for p, order in group if p is prototype)
    neutral = settings.substitution == "charge_neutral"
    own = _signs(prototype.class_charges) if neutral else prototype.class_charges
    before: list[tuple[int, ...]] = []
    for other, theirs in group:
        if other is prototype:
            break
        at = dict(zip(theirs, other.class_charges, strict=True))
        charges = tuple(at[place] for place in order)
        if (_signs(charges) if neutral else charges) == own:
            return None
        before.append(charges)
    return tuple(dict.fromkeys(before))


def _signs(charges: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((q > 0) - (q < 0) for q in charges)


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
    others = charges_before(prototype, library, settings) if prototype.has_charges else None
    if others is None:
        return None
    colours = palette(settings)
    keep_charge = settings.substitution == "isovalent"
    mixed = mixed_classes(prototype, settings)
    choices = [colours.on_site(q, keep_charge=keep_charge) for q in prototype.class_charges]
    slot_of = orbit_slots(prototype, mixed)
    first = np.unique(slot_of, return_index=True)[1]
    class_of_slot = np.array(prototype.orbit_class, dtype=np.int64)[first]
    return AssignmentSpace(
        choices=np.array([e for own in choices for e in own], dtype=np.int64),
        choice_start=np.cumsum([0, *(len(own) for own in choices)], dtype=np.int64),
        class_start=np.searchsorted(class_of_slot, np.arange(prototype.n_classes + 1)).astype(np.int64),
        class_species=np.array([settings.max_species_per_element if m else 1 for m in mixed], dtype=np.int64),
        multiplicity=np.bincount(slot_of, weights=prototype.orbit_multiplicities).astype(np.int64),
        prototype_charge=np.array(prototype.orbit_charges, dtype=np.int64)[first],
        allowed=colours.allowed,
        images=slot_images(prototype.images, slot_of),
        other_charges=np.array(others, dtype=np.int64).reshape(-1, prototype.n_classes)[:, class_of_slot],
        keep_charge=keep_charge,
        max_elements=settings.max_elements,
    )


def orbit_slots(prototype: Prototype, mixed: Sequence[bool]) -> IntArray:
    """(orbits,) slot of each orbit: all orbits of an element that is substituted whole are one."""
    classes = prototype.orbit_class
    new = [o > 0 and not (classes[o] == classes[o - 1] and not mixed[classes[o]]) for o in range(len(classes))]
    return np.cumsum(new, dtype=np.int64)


def raw_assignments(prototype: Prototype, library: PrototypeLibrary, settings: CandidateSettings) -> int:
    """Number of ranks of a prototype; 0 when it is not substituted, 1 when structures are taken as they are."""
    if settings.substitution == "none":
        return 1
    space = assignment_space(prototype, library, settings)
    return 0 if space is None else raw_count(space)
