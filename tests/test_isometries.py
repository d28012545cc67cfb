"""Which assignments to a crystal's orbits are one crystal: the isometries of its set of sites."""

import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.candidate_settings import PrototypeSettings
from pipeline.reference.isometries import orbit_images
from pipeline.reference.protostructure import standardise
from pipeline.reference.prototypes import build_library
from tests.structure_tables import elpasolite


@pytest.fixture(scope="module")
def aflow():
    return build_library(PrototypeSettings(source="aflow", max_sites=24))


def test_equivalent_orbits_of_a_double_perovskite_can_be_swapped():
    structure = elpasolite("Cs", "Na", "Y", "Cl")
    crystal = standardise(
        structure.lattice.matrix,
        structure.frac_coords,
        [x.specie.symbol for x in structure],
        {"Cs": 1, "Na": 1, "Y": 3, "Cl": -1},
        {"Cs": 1.67, "Na": 1.02, "Y": 0.9, "Cl": 1.81},
    )
    charges = np.array(crystal.orbit_charges)[crystal.site_orbit]
    images = orbit_images(crystal.lattice, crystal.frac_coords, charges, crystal.site_orbit)
    # x of Cl is 0.25: both octahedra are alike, so a translation by half the cell swaps Na and Y and nothing else does
    sodium, yttrium = crystal.orbit_elements.index("Na"), crystal.orbit_elements.index("Y")
    assert len(images) == 1
    assert images[0, sodium].nonzero()[0].tolist() == [yttrium]
    assert images[0, yttrium].nonzero()[0].tolist() == [sodium]


def test_only_isometries_make_orbits_equivalent():
    # exchanging a and b maps the sites onto themselves, but the crystal onto another one unless a = b
    elements, charges = ["Li", "Na", "Cl", "Cl"], {"Li": 1, "Na": 1, "Cl": -1}
    places = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0], [0, 0, 0.5]])
    images = {}
    for b in (4.0, 5.0):
        lattice = np.diag([4.0, b, 6.0])
        crystal = standardise(lattice, places, elements, charges, {"Li": 0.76, "Na": 1.02, "Cl": 1.81})
        charge = np.array(crystal.orbit_charges)[crystal.site_orbit]
        found = orbit_images(crystal.lattice, crystal.frac_coords, charge, crystal.site_orbit)
        cations = [crystal.orbit_elements.index(e) for e in ("Li", "Na")]
        images[b] = {int(p) for image in found for p in np.flatnonzero(image[cations[0]])} & set(cations)
    lithium_goes_to_sodium = {b: len(targets - {cations[0]}) == 1 for b, targets in images.items()}
    assert lithium_goes_to_sodium == {4.0: True, 5.0: False}


def images_of(x, images):
    """Every assignment that the images make of one."""
    found = {x}
    for image in images:
        sources = [{x[p] for p in np.flatnonzero(row)} for row in image]
        if all(len(elements) == 1 for elements in sources):
            found.add(tuple(next(iter(elements)) for elements in sources))
    return found


def assert_equivalence(prototype, chance):
    """What is an image of an image is an image: the relation parts the assignments into classes."""
    for _ in range(4):
        x = tuple(chance.integers(0, 2, len(prototype.orbit_elements)).tolist())
        whole = images_of(x, prototype.images)
        for y in sorted(whole)[:8]:
            assert images_of(y, prototype.images) == whole, prototype.frame


def test_isometries_of_the_sites_form_a_group(aflow):
    chance = np.random.default_rng(5)
    assert sum(len(p.images) > 0 for p in aflow) > 15
    for prototype in aflow:
        assert_equivalence(prototype, chance)


def test_sublattices_of_zinc_blende_may_change_places():
    s = Structure.from_spacegroup("F-43m", Lattice.cubic(4.3), ["Si", "C"], [[0, 0, 0], [0.25] * 3])
    crystal = standardise(s.lattice.matrix, s.frac_coords, [x.specie.symbol for x in s], {"Si": 4, "C": -4}, {})
    charges = np.array(crystal.orbit_charges)[crystal.site_orbit]
    images = orbit_images(crystal.lattice, crystal.frac_coords, charges, crystal.site_orbit)
    assert images.tolist() == [[[False, True], [True, False]]]


def test_isometries_that_do_not_keep_the_cell(aflow):
    # four sites of a square lattice in a 4 x 1 cell: a quarter turn maps only the uniform ones onto such a cell
    places = np.array([[k / 4, 0, 0] for k in range(4)])
    images = orbit_images(np.diag([8.0, 2.0, 3.0]), places, np.ones(4, dtype=np.int64), np.arange(4))
    uniform = [image for image in images if image.all()]
    assert len(uniform) == 1
    assert images_of((0, 1, 0, 1), images) == {(0, 1, 0, 1), (1, 0, 1, 0)}
    assert len(images_of((0, 1, 1, 1), images)) == 4


@pytest.mark.data
def test_isometries_of_observed_crystals_form_a_group():
    path = Path(os.environ["IONSIEVE_DATA"]) / "data/materials_project/structures_observed.parquet"
    library = build_library(
        PrototypeSettings(source="materials_project", path="x.parquet", max_sites=40, anions=("F", "Cl", "Br")), path
    )
    assert len(library) > 500
    chance = np.random.default_rng(5)
    for prototype in library.prototypes[::2]:
        assert_equivalence(prototype, chance)
