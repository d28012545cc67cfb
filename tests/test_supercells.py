"""Supercells by the distance of images, against a brute-force search and closed forms."""

from itertools import product

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.surrogates.supercells import supercell_for_image_distance
from tests.potentials import rock_salt


def image_distance(structure):
    """Shortest lattice vector by looking at many."""
    lattice = structure.lattice.get_niggli_reduced_lattice().matrix
    steps = np.array([n for n in product(range(-3, 4), repeat=3) if any(n)])
    return np.linalg.norm(steps @ lattice, axis=1).min()


TRICLINIC = Structure(Lattice.from_parameters(3.1, 4.4, 5.2, 75.0, 82.0, 64.0), ["Li", "Cl"], [[0, 0, 0], [0.4] * 3])


@pytest.mark.parametrize(
    ("crystal", "distance"),
    [
        (rock_salt("Li", "Cl", 5.15), 6.0),
        (Structure(Lattice.hexagonal(3.0, 7.5), ["Li", "Cl"], [[0, 0, 0], [0.3, 0.6, 0.5]]), 7.0),
        (TRICLINIC, 6.5),
    ],
)
def test_no_superlattice_of_fewer_cells_is_good(crystal, distance):
    found = supercell_for_image_distance(crystal, distance)
    cells = len(found) // len(crystal)
    assert image_distance(found) >= distance - 1e-6
    # All integer matrices of small entries with fewer cells: each spans a vector that is too short.
    lattice = crystal.lattice.matrix
    short = BOX[np.linalg.norm(BOX @ lattice, axis=1) < distance - 1e-6]
    rows = np.array(list(product(range(-2, 3), repeat=3)))
    good = rows[np.linalg.norm(rows @ lattice, axis=1) >= distance - 1e-6]
    a, b = np.repeat(good, len(good), axis=0), np.tile(good, (len(good), 1))
    seen = 0
    for c in good:
        determinants = np.abs(np.cross(a, b) @ c)
        small = (determinants > 0) & (determinants < cells)
        matrices = np.stack([a[small], b[small], np.broadcast_to(c, (small.sum(), 3))], axis=1)
        coordinates = short @ np.linalg.inv(matrices)
        spanned = (np.abs(coordinates - np.rint(coordinates)) < 1e-9).all(axis=2)
        assert spanned.any(axis=1).all()
        seen += len(matrices)
    assert seen > 0


BOX = np.array([n for n in product(range(-4, 5), repeat=3) if any(n)])


def test_closed_forms():
    # Four cubic cells make a body-centred superlattice whose shortest vectors are (1, 1, 1) a.
    cubic = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = supercell_for_image_distance(cubic, 8.5)
    assert len(found) == 8
    assert image_distance(found) == pytest.approx(5.0 * np.sqrt(3.0))
    # A diagonal one where no other is smaller, and the crystal itself where that is enough.
    doubled = supercell_for_image_distance(Structure(Lattice.orthorhombic(5.0, 11.0, 12.0), ["Na"], [[0] * 3]), 9.0)
    assert doubled.lattice.abc == pytest.approx((10.0, 11.0, 12.0))
    assert supercell_for_image_distance(cubic, 5.0) == cubic


def test_the_crystal_is_the_same():
    found = supercell_for_image_distance(TRICLINIC, 9.0, max_atoms=200)
    for cutoff in (3.0, 4.5):
        pairs, own = len(found.get_neighbor_list(cutoff)[0]), len(TRICLINIC.get_neighbor_list(cutoff)[0])
        assert pairs * len(TRICLINIC) == own * len(found)
    assert found.density == pytest.approx(TRICLINIC.density)
    # Reduced: no needle of the Hermite normal form.
    assert max(found.lattice.abc) < 2.0 * min(found.lattice.abc)


def test_too_many_atoms_are_refused():
    salt = rock_salt("Li", "Cl", 5.15)
    with pytest.raises(
        ValueError, match=r"no supercell of LiCl \(2 atoms in 34.1 Å3\) with images 12 Å apart .* = 40 "
    ):
        supercell_for_image_distance(salt, 12.0, max_atoms=40)
    with pytest.raises(ValueError, match="distance must be a positive number in Å and max_atoms 1 or more, got -1"):
        supercell_for_image_distance(salt, -1.0)
