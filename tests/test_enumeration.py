"""The enumeration kernel against closed forms, plain Python, and pymatgen's StructureMatcher."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kernels import assignment_count, charge_balance, charge_memory, enumeration, equal_assignments, site_images
from kernels.assignment_count import count_assignments
from kernels.assignment_space import AssignmentSpace, odometer, raw_count, unrank, ways_onto
from kernels.enumeration import list_assignments
from kernels.site_images import canonical_forms, slot_images
from pipeline.candidate_settings import CandidateSettings, PrototypeSettings
from pipeline.reference.prototypes import PrototypeLibrary, build_library
from pipeline.stages.substitution import assignment_space, mixed_classes, orbit_slots, palette

COMPILED = (assignment_count, charge_balance, charge_memory, enumeration, equal_assignments, site_images)


def allowed_table(states):
    table = np.zeros((len(states), 17), dtype=bool)
    for element, charges in enumerate(states):
        for charge in charges:
            table[element, 8 + charge] = True
    return table


def space_of(
    states, classes, charges, multiplicities, *, keep_charge, max_species=2, images=None, max_elements=5, mixed=True
):
    """Space with the given orbits a class; one site an orbit; each orbit a slot, or (not mixed) each class one."""
    n = sum(classes)
    allowed = allowed_table(states)
    class_of = np.repeat(np.arange(len(classes)), classes)
    slot_of = np.arange(n) if mixed else class_of
    first = np.unique(slot_of, return_index=True)[1]
    choices = []
    for c in range(len(classes)):
        q = charges[int(np.flatnonzero(class_of == c)[0])]
        choices.append(
            [e for e in range(len(states)) if (q in states[e] if keep_charge else any(s * q > 0 for s in states[e]))]
        )
    moved = np.zeros((0, n, n), dtype=bool)
    if images is not None:
        moved = np.eye(n, dtype=bool)[np.array(images)]
    return AssignmentSpace(
        choices=np.array([e for own in choices for e in own], dtype=np.int64),
        choice_start=np.cumsum([0, *map(len, choices)]),
        class_start=np.searchsorted(class_of[first], np.arange(len(classes) + 1)),
        class_species=np.array([max_species if mixed else 1] * len(classes)),
        multiplicity=np.bincount(slot_of, weights=multiplicities).astype(np.int64),
        prototype_charge=np.array(charges)[first],
        allowed=allowed,
        images=slot_images(moved, slot_of),
        other_charges=np.zeros((0, len(first)), dtype=np.int64),
        keep_charge=keep_charge,
        max_elements=max_elements,
    )


def naive(space, *, symmetry=True):
    """Element tuples that some choice of charges makes neutral, one of each set of symmetric ones; no ranks."""
    n = len(space.multiplicity)
    states = {e: [c - 8 for c in range(17) if space.allowed[e, c]] for e in range(len(space.allowed))}

    def neutral(x):
        options = []
        for e, q, m in zip(x, space.prototype_charge, space.multiplicity, strict=True):
            fits = [s for s in states[e] if (s == q if space.keep_charge else s * q > 0)]
            options.append([s * m for s in fits])
        return any(sum(choice) == 0 for choice in itertools.product(*options))

    def bounded(x):
        if len(set(x)) > space.max_elements:
            return False
        classes = itertools.pairwise(space.class_start)
        return all(
            len({x[o] for o in range(a, b)}) <= most for (a, b), most in zip(classes, space.class_species, strict=True)
        )

    def image(x, g):
        y = [x[s] for s in space.images.source[g]]
        more = range(space.images.more_start[g], space.images.more_start[g + 1])
        torn = any(x[space.images.more_source[k]] != y[space.images.more_slot[k]] for k in more)
        return None if torn else tuple(y)

    valid = {x for x in itertools.product(range(len(states)), repeat=n) if bounded(x) and neutral(x)}
    if not symmetry:
        return valid
    kept = set()
    for x in sorted(valid):
        if not {image(x, g) for g in range(len(space.images.source))} & kept:
            kept.add(x)
    return kept


CASES = [
    {
        "states": [(1,), (1,), (-1,)],
        "classes": [1, 2],
        "charges": [-1, 1, 1],
        "multiplicities": [3, 1, 2],
        "keep_charge": True,
    },
    {
        "states": [(1,), (1,), (3,), (-1,), (-1,)],
        "classes": [1, 1, 2],
        "charges": [-1, 3, 1, 1],
        "multiplicities": [6, 1, 1, 2],
        "keep_charge": False,
    },
    {
        "states": [(1,), (2,), (2, 3), (-1,), (-2,)],
        "classes": [2, 1, 2],
        "charges": [-2, -2, 3, 1, 1],
        "multiplicities": [1, 2, 1, 1, 2],
        "keep_charge": False,
    },
    {
        "states": [(2, 3), (2, 4), (-2,)],
        "classes": [1, 1, 1],
        "charges": [-2, 2, 3],
        "multiplicities": [4, 1, 2],
        "keep_charge": False,
    },
    {
        "states": [(2, 3), (1,), (-2,)],
        "classes": [1, 2],
        "charges": [-2, 2, 2],
        "multiplicities": [4, 1, 2],
        "keep_charge": False,
    },
    {
        "states": [(1,), (1,), (1,), (-1,)],
        "classes": [1, 3],
        "charges": [-1, 1, 1, 1],
        "multiplicities": [3, 1, 1, 1],
        "keep_charge": True,
        "images": [[0, 2, 3, 1], [0, 3, 1, 2]],
    },
    {
        "states": [(1,), (1,), (1,), (-1,)],
        "classes": [1, 3],
        "charges": [-1, 1, 1, 1],
        "multiplicities": [3, 1, 1, 1],
        "keep_charge": True,
        "max_species": 3,
        "max_elements": 3,
    },
    {
        "states": [(1, 3), (2,), (-1,)],
        "classes": [1, 2, 1],
        "charges": [-1, 1, 1, 3],
        "multiplicities": [6, 2, 1, 1],
        "keep_charge": False,
        "mixed": False,
    },
]


@pytest.mark.parametrize("case", CASES)
def test_equals_plain_python(case):
    space = space_of(**case)
    found = list_assignments(space, 0, raw_count(space))
    listed = [tuple(row) for row in found.elements.tolist()]
    assert len(set(listed)) == len(listed)
    assert set(listed) == naive(space)
    assert (np.diff(found.ranks) > 0).all()
    charge = (found.charges * space.multiplicity).sum(axis=1)
    assert (charge == 0).all()
    fits = space.allowed[found.elements, found.charges + 8]
    assert fits.all()


@pytest.mark.parametrize("case", CASES)
def test_compiled_equals_python(case, monkeypatch):
    space = space_of(**case)
    compiled, number = list_assignments(space, 0, raw_count(space)), count_assignments(space)
    for module in COMPILED:
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
    plain = list_assignments(space, 0, raw_count(space))
    for one, two in zip(compiled, plain, strict=True):
        assert np.array_equal(one, two)
    assert count_assignments(space) == number


@pytest.mark.parametrize("case", CASES)
def test_count_equals_list(case):
    space = space_of(**case)
    assert count_assignments(space) == len(list_assignments(space, 0, raw_count(space)).ranks)


@pytest.mark.parametrize("case", CASES)
def test_ranks_cover_the_raw_assignments_once(case):
    space = space_of(**case)
    raw = {
        x
        for x in itertools.product(range(len(space.allowed)), repeat=len(space.multiplicity))
        if len(set(x)) <= space.max_elements and equal_assignments.is_raw(space, np.array(x))
    }
    assert raw_count(space) == len(raw)
    tables, seen = odometer(space), set()
    for rank in range(raw_count(space)):
        sets, ways = unrank(space, rank)
        x = np.empty(len(space.multiplicity), dtype=np.int64)
        for c, (row, way) in enumerate(zip(sets + tables.start[:-1], ways, strict=True)):
            enumeration._place(space, tables, c, row, way, x)
        seen.add(tuple(x.tolist()))
    assert seen == raw
    with pytest.raises(ValueError, match="not within"):
        unrank(space, raw_count(space))


@given(st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_slice_equals_the_same_rows(data):
    space = space_of(**data.draw(st.sampled_from(CASES)))
    total = raw_count(space)
    first = data.draw(st.integers(0, total))
    last = data.draw(st.integers(first, total))
    whole = list_assignments(space, 0, total)
    part = list_assignments(space, first, last)
    inside = (whole.ranks >= first) & (whole.ranks < last)
    for one, two in zip(whole, part, strict=True):
        assert np.array_equal(one[inside], two)


def test_blocks_do_not_show(monkeypatch):
    space = space_of(**CASES[1])
    whole = list_assignments(space, 0, raw_count(space))
    monkeypatch.setattr(enumeration, "BLOCK", 7)
    for one, two in zip(whole, list_assignments(space, 0, raw_count(space)), strict=True):
        assert np.array_equal(one, two)


def test_closed_form_isovalent():
    # k monovalent cations on three inequivalent orbits, at most two kinds: k + 3 k (k - 1), times one anion
    for k in range(1, 6):
        space = space_of([(1,)] * k + [(-1,)], [1, 3], [-1, 1, 1, 1], [4, 1, 1, 2], keep_charge=True)
        assert len(list_assignments(space, 0, raw_count(space)).ranks) == k + 3 * k * (k - 1)


def test_closed_form_burnside():
    # three orbits turned into each other by a threefold axis, k ions: (k^3 + 2 k) / 3 necklaces
    turns = [[0, 2, 3, 1], [0, 3, 1, 2]]
    for k in range(1, 6):
        space = space_of(
            [(1,)] * k + [(-1,)], [1, 3], [-1, 1, 1, 1], [3, 1, 1, 1], keep_charge=True, max_species=3, images=turns
        )
        assert len(list_assignments(space, 0, raw_count(space)).ranks) == (k**3 + 2 * k) // 3


@pytest.mark.parametrize(("slots", "species"), [(1, 1), (3, 2), (4, 3), (6, 2), (2, 3)])
def test_ways_onto(slots, species):
    onto = [r for r in itertools.product(range(species), repeat=slots) if len(set(r)) == species]
    assert ways_onto(slots, species) == len(onto)


def test_charges_nearest_the_prototype_are_chosen():
    # Fe may be 2+ or 3+: next to 2+ sites it stays 2+ where both balance, one charge for all of its orbits
    space = space_of([(2, 3), (-2, -3)], [1, 1], [-2, 2], [1, 1], keep_charge=False)
    found = list_assignments(space, 0, raw_count(space))
    assert found.charges.tolist() == [[-2, 2]]


def test_mixed_valence_is_found_when_one_charge_does_not_balance():
    # magnetite: Fe 2+ on one atom, 3+ on two, four oxygens
    space = space_of([(2, 3), (-2,)], [1, 1, 1], [-2, 2, 3], [4, 1, 2], keep_charge=False)
    found = list_assignments(space, 0, raw_count(space))
    assert found.charges.tolist() == [[-2, 2, 3]]


def test_other_prototypes_charges_are_skipped():
    space = space_of([(2, 3), (2, 3), (-2,)], [1, 1, 1], [-2, 2, 3], [5, 2, 2], keep_charge=True)
    assert len(list_assignments(space, 0, raw_count(space)).ranks) == 4
    reached = space._replace(other_charges=np.array([[-2, 3, 2]]))
    assert len(list_assignments(reached, 0, raw_count(space)).ranks) == 0


def test_canonical_forms():
    swap = np.array([[[0, 1, 0], [1, 0, 0], [0, 0, 1]]], dtype=bool)
    forms = canonical_forms(np.array([[5, 3, 1], [3, 5, 1], [2, 2, 1]]), swap)
    assert forms.tolist() == [[3, 5, 1], [3, 5, 1], [2, 2, 1]]
    # an image that fills an orbit from two others counts only where these carry one element
    torn = np.array([[[0, 1, 1], [1, 0, 0], [1, 0, 0]]], dtype=bool)
    assert canonical_forms(np.array([[9, 3, 1], [9, 3, 3]]), torn).tolist() == [[9, 3, 1], [3, 9, 9]]


def test_bad_arguments():
    space = space_of(**CASES[0])
    with pytest.raises(ValueError, match="ranks"):
        list_assignments(space, 0, raw_count(space) + 1)
    with pytest.raises(ValueError, match="prototype_charge"):
        list_assignments(space._replace(prototype_charge=np.arange(1)), 0, 1)
    assert len(list_assignments(space, 3, 3).ranks) == 0


# against pymatgen


@pytest.fixture(scope="module")
def library():
    return build_library(PrototypeSettings(source="aflow", max_sites=12))


@pytest.mark.parametrize("substitution", ["isovalent", "charge_neutral"])
@pytest.mark.parametrize("by", ["element", "orbit"])
def test_distinct_structures_equal_structure_matcher(library, substitution, by):
    """Plain enumeration over the prototype's own cell, deduplicated by StructureMatcher, has as many structures."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure

    matcher = StructureMatcher(
        stol=0.01, ltol=1e-3, angle_tol=0.1, scale=False, primitive_cell=True, attempt_supercell=False
    )
    settings = CandidateSettings(
        prototypes=PrototypeSettings(source="aflow"),
        elements=("Li", "Na", "Mg", "Al", "O", "Cl"),
        substitution=substitution,
        by=by,
        max_elements=4,
    )
    checked = 0
    for prototype in library:
        alone = PrototypeLibrary((prototype,), {"kept": 1})
        space = assignment_space(prototype, alone, settings)
        if space is None or not 0 < raw_count(space) <= 400 or prototype.n_sites > 10 or checked == 12:
            continue
        found = list_assignments(space, 0, raw_count(space))
        expected = naive(space, symmetry=False)
        structures = {}
        slot_of = orbit_slots(prototype, mixed_classes(prototype, settings))
        for x in sorted(expected):
            species = [palette(settings).elements[x[slot_of[o]]] for o in prototype.site_orbit]
            structures[x] = Structure(Lattice(prototype.lattice), species, prototype.frac_coords)
        groups = matcher.group_structures(list(structures.values()))
        assert len(found.ranks) == len(groups), (prototype.formula, prototype.frame)
        assert {tuple(r) for r in found.elements.tolist()} <= set(expected)
        checked += 1
    assert checked >= 8


def test_equivalent_octahedra_equal_structure_matcher(tmp_path):
    """A double perovskite with its halide exactly half-way: exchanging the two octahedra gives the same crystal."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure

    parent = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(10.5), ["Cs", "K", "Y", "Br"], [[0.25] * 3, [0, 0, 0], [0.5] * 3, [0.25, 0, 0]]
    )
    (tmp_path / "POSCAR").write_text(parent.to(fmt="poscar"), encoding="utf-8")
    library = build_library(PrototypeSettings(source="folder", path="x"), tmp_path)
    (prototype,) = library
    settings = CandidateSettings(
        prototypes=PrototypeSettings(source="aflow"),
        elements=("Li", "Na", "Mg", "Sc", "Cl"),
        substitution="charge_neutral",
    )
    space = assignment_space(prototype, library, settings)
    found = list_assignments(space, 0, raw_count(space))
    everything = naive(space, symmetry=False)
    slot_of = orbit_slots(prototype, mixed_classes(prototype, settings))
    structures = [
        Structure(
            Lattice(prototype.lattice),
            [palette(settings).elements[x[slot_of[o]]] for o in prototype.site_orbit],
            prototype.frac_coords,
        )
        for x in sorted(everything)
    ]
    groups = StructureMatcher(stol=0.01, ltol=1e-3, angle_tol=0.1, scale=False).group_structures(structures)
    assert len(found.ranks) == len(groups) < len(everything)


def test_number_of_raw_assignments_is_exact_beyond_machine_integers():
    # 40 orbits with two of 20 elements: 20 + C(20, 2) (2^40 - 2) for each of two such classes
    space = space_of(
        [(1,)] * 20 + [(-1,)] * 20, [40, 40], [1] * 40 + [-1] * 40, [1] * 80, keep_charge=True, max_elements=4
    )
    one = 20 + math.comb(20, 2) * (2**40 - 2)
    assert raw_count(space) == one**2 > 2**63
    with pytest.raises(ValueError, match="bound it"):
        list_assignments(space, 0, 1)
