"""The enumeration kernel against closed forms, plain Python, and pymatgen's StructureMatcher."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kernels import enumeration
from kernels.enumeration import AssignmentSpace, canonical_forms, list_assignments, raw_count
from pipeline.reference.prototypes import PrototypeLibrary, build_library
from pipeline.settings import CandidateSettings, PrototypeSettings
from pipeline.stages.substitution import assignment_space, palette, pattern_count, patterns

INTERNAL = (
    "_image", "_less", "_canonical", "_distinct", "_reached", "_list",
    "has_sign", "same_charge_each", "mixed_valence_possible", "charge_each_slot",
)  # fmt: skip


def allowed_table(states):
    table = np.zeros((len(states), 17), dtype=bool)
    for element, charges in enumerate(states):
        for charge in charges:
            table[element, 8 + charge] = True
    return table


def space_of(
    states, classes, charges, multiplicities, *, keep_charge, max_species=2, images=None, max_elements=5, mixed=True
):
    """Space with the given orbits a class; one site an orbit."""
    n = sum(classes)
    allowed = allowed_table(states)
    class_start = np.cumsum([0, *classes])
    tables = []
    for c, orbits in enumerate(classes):
        q = charges[class_start[c]]
        choices = tuple(
            e for e in range(len(states)) if (q in states[e] if keep_charge else any(s * q > 0 for s in states[e]))
        )
        tables.append(patterns(choices, orbits, max_species if mixed else 1))
    slot = np.arange(n) if mixed else np.repeat(np.arange(len(classes)), classes)
    return AssignmentSpace(
        patterns=np.concatenate([t.reshape(-1) for t in tables]),
        pattern_start=np.cumsum([0, *(t.size for t in tables)])[:-1],
        pattern_count=np.array([len(t) for t in tables]),
        class_start=class_start,
        class_species=np.array([max_species if mixed else 1] * len(classes)),
        multiplicity=np.array(multiplicities),
        prototype_charge=np.array(charges),
        slot=slot,
        allowed=allowed,
        images=np.zeros((0, n), dtype=np.int64) if images is None else np.array(images),
        site_orbit=np.arange(n),
        other_charges=np.zeros((0, n), dtype=np.int64),
        keep_charge=keep_charge,
        max_elements=max_elements,
    )


def naive(space):
    """Element tuples that some choice of charges makes neutral, one of each set of symmetric ones; no ranks."""
    n = len(space.multiplicity)
    slots = [[o for o in range(n) if space.slot[o] == s] for s in range(int(space.slot[-1]) + 1)]
    states = {e: [c - 8 for c in range(17) if space.allowed[e, c]] for e in range(len(space.allowed))}

    def neutral(x):
        options = []
        for slot in slots:
            q = space.prototype_charge[slot[0]]
            fits = [s for s in states[x[slot[0]]] if (s == q if space.keep_charge else s * q > 0)]
            options.append([(s, sum(space.multiplicity[o] for o in slot)) for s in fits])
        return any(sum(s * m for s, m in choice) == 0 for choice in itertools.product(*options))

    def bounded(x):
        if len(set(x)) > space.max_elements:
            return False
        if any(len({x[o] for o in slot}) > 1 for slot in slots):
            return False
        classes = itertools.pairwise(space.class_start)
        return all(
            len({x[o] for o in range(a, b)}) <= most for (a, b), most in zip(classes, space.class_species, strict=True)
        )

    valid = {x for x in itertools.product(range(len(states)), repeat=n) if bounded(x) and neutral(x)}
    kept = set()
    for x in sorted(valid):
        images = {tuple(x[i] for i in row) for row in space.images}
        if not images & kept:
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
    compiled = list_assignments(space, 0, raw_count(space))
    for name in INTERNAL:
        monkeypatch.setattr(enumeration, name, getattr(enumeration, name).py_func)
    plain = list_assignments(space, 0, raw_count(space))
    for one, two in zip(compiled, plain, strict=True):
        assert np.array_equal(one, two)


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


@pytest.mark.parametrize(("choices", "orbits", "species"), [(1, 1, 1), (4, 1, 2), (5, 3, 2), (4, 4, 3), (3, 2, 4)])
def test_number_of_patterns(choices, orbits, species):
    rows = patterns(tuple(range(choices)), orbits, species)
    assert len(rows) == pattern_count(choices, orbits, species)
    assert [tuple(r) for r in rows.tolist()] == [
        r for r in itertools.product(range(choices), repeat=orbits) if len(set(r)) <= species
    ]


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
    images, site_orbit = np.array([[1, 0, 2, 2]]), np.array([0, 1, 2, 2])
    forms = canonical_forms(np.array([[5, 3, 1], [3, 5, 1], [2, 2, 1]]), images, site_orbit)
    assert forms.tolist() == [[3, 5, 1], [3, 5, 1], [2, 2, 1]]
    # an image that splits an orbit counts only where the elements allow it
    splits = np.array([[0, 2, 1, 2]])
    assert canonical_forms(np.array([[9, 3, 1]]), splits, np.array([0, 1, 2, 2])).tolist() == [[9, 3, 1]]


def test_bad_arguments():
    space = space_of(**CASES[0])
    with pytest.raises(ValueError, match="ranks"):
        list_assignments(space, 0, raw_count(space) + 1)
    with pytest.raises(ValueError, match="slot"):
        list_assignments(space._replace(slot=np.arange(2)), 0, 1)
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
        expected = naive(space._replace(images=np.zeros((0, prototype.n_sites), dtype=np.int64)))
        structures = {}
        for x in sorted(expected):
            species = [palette(settings).elements[x[o]] for o in prototype.site_orbit]
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
    everything = naive(space._replace(images=np.zeros((0, prototype.n_sites), dtype=np.int64)))
    structures = [
        Structure(
            Lattice(prototype.lattice),
            [palette(settings).elements[x[o]] for o in prototype.site_orbit],
            prototype.frac_coords,
        )
        for x in sorted(everything)
    ]
    groups = StructureMatcher(stol=0.01, ltol=1e-3, angle_tol=0.1, scale=False).group_structures(structures)
    assert len(found.ranks) == len(groups) < len(everything)


def test_number_of_raw_assignments_is_exact_beyond_machine_integers():
    space = space_of(**CASES[0])._replace(pattern_count=np.array([2**32, 2**32]))
    assert raw_count(space) == 2**64
    with pytest.raises(ValueError, match="bound it"):
        list_assignments(space, 0, 1)
    assert math.log2(raw_count(space)) == 64
