"""Listed candidates against plain Python on 50 small prototypes, with pymatgen's StructureMatcher as the judge.

The plain side knows nothing of ranks, patterns, images or canonical forms: it walks ``itertools.product`` over ions,
keeps what is neutral and within the bounds, builds every crystal in the prototype's own cell, and lets
StructureMatcher say which are the same. Each of its classes must be listed exactly once, and nothing else.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings
from pipeline.reference.prototypes import Prototype, PrototypeLibrary, build_library
from pipeline.stages.candidates import count, enumerate_unit, plan_units
from tests.small_prototypes import FAMILIES, HAND_MADE, prototype_of

IONS = {
    "Li": (1,), "Cu": (1, 2), "Mg": (2,), "Fe": (2, 3), "Al": (3,), "Si": (4,), "Ti": (3, 4), "P": (-3, 5), "V": (3, 5),
    "W": (4, 6), "F": (-1,), "Cl": (-1,), "O": (-2,), "S": (-2, 6), "N": (-3,), "As": (-3, 3), "C": (-4, 4),
    "Ge": (-4,),
}  # fmt: skip
MODES = tuple(itertools.product(("isovalent", "charge_neutral"), ("element", "orbit")))
FROM_AFLOW = 38
MOST_ASSIGNMENTS = 160
MOST_CHOICES = 100_000
MAX_ELEMENTS = 4
MAX_MIXED_ORBITS = 4
MAX_SPECIES = 2

# angle_tol is 0.1 instead of 5 degrees: all crystals of a prototype share one cell, so only true isometries map it
# onto itself, and 5 degrees would let a monoclinic cell of 91 degrees pass for orthorhombic. Cells are reduced to
# primitive ones, because equal elements on two orbits can leave a smaller cell, and two crystals are the same when
# those are.
MATCHER = StructureMatcher(
    ltol=1e-3, stol=0.01, angle_tol=0.1, scale=False, primitive_cell=True, attempt_supercell=False
)


def settings_of(substitution: str, by: str, ions: dict[str, tuple[int, ...]]) -> CandidateSettings:
    return CandidateSettings(
        prototypes=PrototypeSettings(source="aflow"),
        elements=tuple(ions),
        charges=ions,
        substitution=substitution,
        by=by,
        max_species_per_element=MAX_SPECIES,
        max_mixed_orbits=MAX_MIXED_ORBITS,
        max_elements=MAX_ELEMENTS,
        gates=CandidateGates(mobile_ion_fraction=None, electronegativity_order=False, require_mobile_ion=False),
    )


def listed(library: PrototypeLibrary, settings: CandidateSettings) -> list[tuple[str, tuple[str, ...]]]:
    """(prototype_id, elements on the orbits) of every row that a campaign would get."""
    rows = []
    for unit in plan_units(settings, library):
        table, counts = enumerate_unit(unit, settings, library, ("Li",))
        assert counts["enumerated"] == counts["passed"] == len(table)
        for prototype_id, ions in zip(table["prototype_id"], table["ions"], strict=True):
            rows.append((prototype_id, tuple(re.findall("[A-Z][a-z]?", ions))))
    assert len(rows) == count(settings, library)["candidates"]
    return rows


# the plain side


def slots_and_options(
    prototype: Prototype, substitution: str, by: str, ions: dict[str, tuple[int, ...]]
) -> tuple[list[list[int]], list[list[tuple[str, int]]]]:
    """Orbits that take one ion together, and the ions that each such slot may take."""
    orbits: dict[int, list[int]] = {}
    for orbit, of_class in enumerate(prototype.orbit_class):
        orbits.setdefault(of_class, []).append(orbit)
    slots: list[list[int]] = []
    for members in orbits.values():
        apart = by == "orbit" and len(members) <= MAX_MIXED_ORBITS
        slots.extend([[o] for o in members] if apart else [members])
    every = [(element, charge) for element, charges in ions.items() for charge in charges]
    own = [prototype.orbit_charges[slot[0]] for slot in slots]
    return slots, [[(e, q) for e, q in every if (q == o if substitution == "isovalent" else q * o > 0)] for o in own]


def choices(prototype: Prototype, substitution: str, by: str, ions: dict[str, tuple[int, ...]]) -> int:
    """Number of choices that the plain side would walk through."""
    return math.prod(len(o) for o in slots_and_options(prototype, substitution, by, ions)[1])


def plain(prototype: Prototype, substitution: str, by: str, ions: dict[str, tuple[int, ...]]) -> set[tuple[str, ...]]:
    """Elements on the orbits of every neutral assignment within the bounds; symmetric ones are all there."""
    slots, options = slots_and_options(prototype, substitution, by, ions)
    found = set()
    for choice in itertools.product(*options):
        of_orbit = {o: ion for slot, ion in zip(slots, choice, strict=True) for o in slot}
        charge = sum(of_orbit[o][1] * atoms for o, atoms in enumerate(prototype.orbit_multiplicities))
        elements = tuple(of_orbit[o][0] for o in range(len(of_orbit)))
        on_class: dict[int, set[str]] = {}
        for element, of_class in zip(elements, prototype.orbit_class, strict=True):
            on_class.setdefault(of_class, set()).add(element)
        mixed = max(len(kinds) for kinds in on_class.values())
        if charge == 0 and mixed <= MAX_SPECIES and len(set(elements)) <= MAX_ELEMENTS:
            found.add(elements)
    return found


def classes(prototype: Prototype, assignments: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Number of the crystal that each assignment makes; composition first, then StructureMatcher."""
    by_composition: dict[tuple[tuple[str, int], ...], list[tuple[str, ...]]] = {}
    for x in sorted(assignments):
        amounts = Counter(x[o] for o in prototype.site_orbit)
        by_composition.setdefault(tuple(sorted(amounts.items())), []).append(x)
    number: dict[tuple[str, ...], int] = {}
    for same in by_composition.values():
        first: list[tuple[int, Structure]] = []
        for x in same:
            crystal = crystal_of(prototype, x).get_primitive_structure() if len(same) > 1 else None
            known = next((k for k, other in first if MATCHER.fit(crystal, other)), None)
            if known is None:
                known = len(set(number.values()))
                first.append((known, crystal))
            number[x] = known
    return number


def crystal_of(prototype: Prototype, x: tuple[str, ...]) -> Structure:
    return Structure(Lattice(prototype.lattice), [x[o] for o in prototype.site_orbit], prototype.frac_coords)


def ions_for(prototype: Prototype, each: int) -> dict[str, tuple[int, ...]]:
    """The first elements of IONS that may carry the prototype's charges, ``each`` of them a charge, all their ions."""
    wanted: dict[str, tuple[int, ...]] = {}
    for charge in sorted(set(prototype.orbit_charges)):
        able = [element for element, charges in IONS.items() if charge in charges]
        wanted.update({element: IONS[element] for element in able[:each]})
    return wanted


def ions_for_all_modes(prototype: Prototype) -> dict[str, tuple[int, ...]]:
    """As many ions as keep the plain side small in every mode."""
    for each in (4, 3, 2, 1):
        ions = ions_for(prototype, each)
        walked = [plain(prototype, *mode, ions) for mode in MODES if choices(prototype, *mode, ions) <= MOST_CHOICES]
        if len(walked) == len(MODES) and len(set().union(*walked)) <= MOST_ASSIGNMENTS:
            return ions
    raise AssertionError(f"{prototype.frame} has too many assignments for this test")


def differences(expected: Mapping[tuple[str, ...], int], rows: list[tuple[str, ...]]) -> str:
    """Empty when each crystal of the plain side is listed once and nothing else is; else what is wrong."""
    stray = [x for x in rows if x not in expected]
    hits = Counter(expected[x] for x in rows if x in expected)
    missing = [x for x, number in expected.items() if number not in hits]
    twice = [x for x in rows if x in expected and hits[expected[x]] > 1]
    found = {"not in the plain list": stray, "missing": missing, "listed twice": twice}
    return "; ".join(f"{name}: {what[:4]}" for name, what in found.items() if what)


def compare(prototype: Prototype, ions: dict[str, tuple[int, ...]]) -> str:
    """Differences of one prototype in all modes."""
    assignments = {mode: plain(prototype, *mode, ions) for mode in MODES}
    number = classes(prototype, set().union(*assignments.values()))
    alone = PrototypeLibrary((prototype,), {"kept": 1})
    wrong = []
    for mode, expected in assignments.items():
        rows = [x for _, x in listed(alone, settings_of(*mode, ions))]
        text = differences({x: number[x] for x in expected}, rows)
        wrong.extend([f"{' '.join(mode)}: {text}"] if text else [])
    return " | ".join(wrong)


@pytest.fixture(scope="module")
def aflow() -> list[Prototype]:
    """Small AFLOW prototypes with three or more elements, or with an element on several orbits."""
    library = build_library(PrototypeSettings(source="aflow", max_sites=14, min_elements=2, max_elements=4))
    return [p for p in library if p.n_classes > 2 or len(p.orbit_elements) > p.n_classes]


def test_prototypes_are_varied(aflow):
    used = [*aflow[:FROM_AFLOW], *(prototype_of(make(), charges) for make, charges in HAND_MADE.values())]
    assert len(used) == 50
    assert len({p.spacegroup_number for p in used}) >= 25
    assert {p.n_classes for p in used} == {2, 3, 4, 5}
    assert sum(len(p.images) > 0 for p in used) >= 11
    assert sum(bool(p.ties) for p in used) >= 4
    assert sum(len(p.orbit_elements) > p.n_classes for p in used) >= 20


@pytest.mark.parametrize("index", range(FROM_AFLOW))
def test_aflow_prototypes(aflow, index):
    prototype = aflow[index]
    assert not compare(prototype, ions_for_all_modes(prototype)), prototype.frame


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_prototypes(name):
    make, charges = HAND_MADE[name]
    prototype = prototype_of(make(), charges)
    assert not compare(prototype, ions_for_all_modes(prototype)), prototype.frame


def test_ions_of_either_sign():
    """SiC in zinc blende, each as anion or cation: exchanging the two sublattices gives the same crystal."""
    sites = [[0, 0, 0], [0.25] * 3]
    structure = Structure.from_spacegroup("F-43m", Lattice.cubic(4.3), ["Si", "C"], sites)
    assert not compare(prototype_of(structure, {"Si": 4, "C": -4}), {"C": (-4, 4), "Si": (-4, 4)})


def test_stripes_along_either_axis(monkeypatch):
    """Eight CsCl cells in a 2 x 4 cell, one cation unlike the others: stripes along a and along b are one crystal."""
    monkeypatch.setitem(globals(), "MAX_MIXED_ORBITS", 6)
    sites = [[i / 2, j / 4, 0] for i in range(2) for j in range(4)]
    anions = [[x + 0.25, y + 0.125, 0.5] for x, y, _ in sites]
    cell = Lattice.orthorhombic(8, 16, 4)
    structure = Structure(cell, ["Li", *["Cu"] * 7, *["Cl"] * 8], [*sites, *anions])
    assert not compare(prototype_of(structure, {"Li": 1, "Cu": 1, "Cl": -1}), {"Li": (1,), "Cu": (1,), "Cl": (-1,)})


def shared_orbits(prototype: Prototype, reference: Prototype) -> list[int]:
    """Orbit of the reference at the place of each orbit."""
    assert np.allclose(prototype.lattice, reference.lattice)
    places = []
    for orbit in range(len(prototype.orbit_elements)):
        site = prototype.frac_coords[np.flatnonzero(prototype.site_orbit == orbit)[0]]
        difference = reference.frac_coords - site
        distance = np.abs(difference - np.round(difference)).sum(axis=1)
        assert distance.min() < 1e-6
        places.append(int(reference.site_orbit[np.argmin(distance)]))
    return places


@pytest.mark.parametrize("name", FAMILIES)
def test_prototypes_of_one_frame(name):
    """Prototypes of equal sites and other charges: pooled, each crystal is listed once and none is missing."""
    ions = {e: IONS[e] for e in ("Li", "Cu", "Mg", "Fe", "Al", "Ti", "V", "W", "Cl", "O", "S", "N")}
    build, members = FAMILIES[name]
    made = [
        prototype_of(build(*symbols.split()), dict(zip(symbols.split(), charges, strict=True)))
        for symbols, charges in members
    ]
    assert len({p.frame for p in made}) == 1
    reference = made[0]
    places = {p.prototype_id: shared_orbits(p, reference) for p in made}
    library = PrototypeLibrary(tuple(sorted(made, key=lambda p: p.orbit_charges)), {"kept": len(made)})

    def placed(prototype_id: str, x: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(e for _, e in sorted(zip(places[prototype_id], x, strict=True)))

    for mode in MODES:
        expected = {placed(p.prototype_id, x) for p in made for x in plain(p, *mode, ions)}
        rows = [placed(*row) for row in listed(library, settings_of(*mode, ions))]
        assert not differences(classes(reference, expected), rows), mode


def test_prototypes_of_other_signs():
    """Fluorite and antifluorite: ions that may be either sign make one crystal from both, listed once."""
    ions = {"Li": (1,), "Ca": (2,), "Cl": (-1, 1), "S": (-2, 2), "O": (-2,), "F": (-1,)}

    def fluorite(metal, halide):
        sites = [[0, 0, 0], [0.25] * 3]
        return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.5), [metal, halide], sites)

    made = [
        prototype_of(fluorite("Ca", "F"), {"Ca": 2, "F": -1}),
        prototype_of(fluorite("O", "Li"), {"Li": 1, "O": -2}),
    ]
    assert len({p.frame for p in made}) == 2
    places = {p.prototype_id: shared_orbits(p, made[0]) for p in made}
    library = PrototypeLibrary(tuple(made), {"kept": 2})
    for mode in MODES:
        each = [
            {tuple(x[places[p.prototype_id].index(o)] for o in range(2)) for x in plain(p, *mode, ions)} for p in made
        ]
        assert each[0] & each[1], "the test needs crystals that both prototypes reach"
        rows = [tuple(x[places[i].index(o)] for o in range(2)) for i, x in listed(library, settings_of(*mode, ions))]
        assert not differences(classes(made[0], each[0] | each[1]), rows), mode
