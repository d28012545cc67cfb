"""Orbits of grid points, symmetry shared by grid and framework, and energies unfolded from the asymmetric unit."""

import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Species, Structure

from kernels import grid_symmetry as grid_symmetry_kernel
from kernels.grid_symmetry import orbit_representatives
from kernels.percolation import percolation_thresholds
from pipeline.framework_symmetry import SYMMETRY_TOLERANCE, grid_symmetry
from pipeline.oxidation_states import charged_species
from pipeline.reference.bond_valence import Ion
from pipeline.site_energies import framework_ions, grid_shape, landscape
from tests.electrolytes import lithium_cobaltate, lithium_iron_phosphate, lithium_sulfide

SQUARE = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, -1, 0], [1, 0, 0], [0, 0, 1]]])
FOURFOLD = np.array([np.linalg.matrix_power(SQUARE[1], n) for n in range(4)])
SCREW = np.array([[0, 0, 0], [0, 0, 2], [0, 0, 4], [0, 0, 6]])


def naive_representatives(shape, rotations, translations):
    """The least image of each point, one point at a time."""
    points = np.array(list(np.ndindex(*shape)))
    images = (np.einsum("mab,nb->mna", rotations, points) + translations[:, None]) % np.array(shape)
    return np.ravel_multi_index(np.moveaxis(images, -1, 0), shape).min(axis=0)


def test_a_screw_axis_leaves_a_quarter_of_the_points():
    representatives = orbit_representatives((6, 6, 8), FOURFOLD, SCREW)
    assert len(np.unique(representatives)) == 6 * 6 * 8 // 4  # no point stays where it is
    np.testing.assert_array_equal(representatives, naive_representatives((6, 6, 8), FOURFOLD, SCREW))


def test_special_points_have_smaller_orbits():
    representatives = orbit_representatives((5, 5, 3), FOURFOLD, np.zeros((4, 3), int))
    np.testing.assert_array_equal(representatives, naive_representatives((5, 5, 3), FOURFOLD, np.zeros((4, 3), int)))
    assert len(np.unique(representatives)) == 3 * (1 + 24 // 4)  # the axis, and orbits of four around it


def test_compiled_orbits_equal_interpreted(monkeypatch):
    compiled = orbit_representatives((4, 4, 8), FOURFOLD, SCREW)
    monkeypatch.setattr(grid_symmetry_kernel, "_find_orbits", grid_symmetry_kernel._find_orbits.py_func)
    np.testing.assert_array_equal(orbit_representatives((4, 4, 8), FOURFOLD, SCREW), compiled)


@pytest.mark.parametrize(
    ("shape", "rotations", "message"),
    [
        ((4, 6, 8), FOURFOLD, "doesn't map a grid of"),
        ((4, 4, 4), 2 * FOURFOLD, "doesn't map a grid of"),
        ((0, 4, 4), FOURFOLD, "three positive integers"),
        ((4, 4, 4), FOURFOLD[0], r"must be \(m, 3, 3\)"),
    ],
)
def test_bad_operations_are_refused(shape, rotations, message):
    with pytest.raises(ValueError, match=message):
        orbit_representatives(shape, rotations, np.zeros((len(rotations), 3), int))


def centrosymmetric():
    """A skewed cell with inversion only."""
    lattice = Lattice.from_parameters(5.1, 6.3, 5.7, 81.0, 104.0, 97.0)
    return Structure.from_spacegroup(
        "P-1",
        lattice,
        ["Li+", "Mg2+", "Cl-", "Cl-"],
        [[0.1, 0.2, 0.6], [0.5, 0.0, 0.0], [0.21, 0.32, 0.13], [0.67, 0.81, 0.44]],
    )


def shared_sites():
    """A disordered rock salt: lithium shares its site, the anion site holds two halogens."""
    cation = {Species("Li", 1): 0.6, Species("Mg", 2): 0.2}
    anion = {Species("Cl", -1): 0.7, Species("Br", -1): 0.3}
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.3), [cation, anion], [[0, 0, 0], [0.5, 0, 0]])


def energies_of(structure, shape, **options):
    framework = framework_ions(structure, charged_species(structure), {"Li"})
    return landscape(structure.lattice.matrix, framework, Ion("Li", 1), shape, **options)


def operations_of(structure, shape):
    framework = framework_ions(structure, charged_species(structure), {"Li"})
    return grid_symmetry(
        structure.lattice.matrix,
        np.array([f.frac_coords for f in framework]),
        [(f.ion, f.occupancy) for f in framework],
        shape,
    )


@pytest.mark.parametrize(
    ("make", "shape", "operations"),
    [
        (lithium_cobaltate, (6, 6, 24), 36),
        (lithium_cobaltate, (6, 6, 20), 12),  # the centring's thirds aren't on this grid
        (lithium_cobaltate, (6, 5, 24), 2),  # neither are threefold and twofold axes; inversion is on every grid
        (lithium_iron_phosphate, (12, 8, 6), 8),
        (lithium_iron_phosphate, (11, 7, 5), 2),  # odd: glides and screws fall between the points
        (lithium_sulfide, (8, 8, 8), 192),
        (centrosymmetric, (6, 7, 8), 2),
        (shared_sites, (8, 8, 8), 192),
        (lambda: lithium_sulfide().get_primitive_structure(), (7, 7, 7), 48),
    ],
)
def test_unfolded_equals_direct(make, shape, operations):
    structure = make()
    found = operations_of(structure, shape)
    direct = energies_of(structure, shape, use_symmetry=False)
    unfolded = energies_of(structure, shape)
    # coordinates are exact here, up to rounding in the seventh digit of a third
    np.testing.assert_allclose(unfolded, direct, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(energies_of(structure, shape, threads=2), unfolded)
    assert len(found.rotations) == operations
    representatives = orbit_representatives(shape, found.rotations, found.translations)
    np.testing.assert_array_equal(unfolded.reshape(-1), unfolded.reshape(-1)[representatives])


def test_operations_are_a_group_and_map_ions_onto_equal_ions():
    structure = shared_sites()
    shape = (4, 4, 4)
    found = operations_of(structure, shape)
    sizes = np.array(shape)
    known = {(*r.ravel(), *t) for r, t in zip(found.rotations, found.translations, strict=True)}
    pairs = itertools.islice(itertools.product(zip(found.rotations, found.translations, strict=True), repeat=2), 500)
    for (r1, t1), (r2, t2) in pairs:
        assert (*(r1 @ r2).ravel(), *((r1 @ t2 + t1) % sizes)) in known
    for rotation, translation in zip(found.rotations, found.translations, strict=True):
        images = found.frac_coords @ rotation.T + translation / sizes
        apart = images[:, None] - found.frac_coords[None]
        assert (np.abs(apart - np.round(apart)).max(axis=2).min(axis=1) < 1e-12).all()


def test_rounded_coordinates_are_put_right_and_larger_shifts_are_left():
    exact = lithium_iron_phosphate()
    rounded = Structure(exact.lattice, exact.species, np.round(exact.frac_coords + 3e-7, 6))
    rounded.translate_sites([5], [0, 0, 2e-6])
    found = operations_of(rounded, (12, 8, 6))
    assert len(found.rotations) == 8
    moved = found.frac_coords - rounded.frac_coords[4:]
    moved = np.linalg.norm((moved - np.round(moved)) @ exact.lattice.matrix, axis=1)
    assert 0.0 < moved.max() < SYMMETRY_TOLERANCE
    direct = energies_of(rounded, (12, 8, 6), use_symmetry=False)
    low = direct < 5.0
    # ions move by some 1e-5 Å, where energies change by less than 30 eV/Å
    np.testing.assert_allclose(energies_of(rounded, (12, 8, 6))[low], direct[low], rtol=0, atol=3e-4)
    broken = exact.copy()
    broken.translate_sites([5], [0.003, 0.001, 0.002])
    assert operations_of(broken, (12, 8, 6)) is None
    np.testing.assert_array_equal(energies_of(broken, (4, 4, 4)), energies_of(broken, (4, 4, 4), use_symmetry=False))


def test_occupancies_that_differ_are_not_equivalent():
    structure = lithium_sulfide()
    structure[8] = {Species("S", -2): 0.5}
    assert len(operations_of(structure, (4, 4, 4)).rotations) == 48  # the centring is lost


def barriers(structure, shape):
    return np.array(percolation_thresholds(energies_of(structure, shape), cap=10.0))


def test_rotating_permuting_and_doubling_leave_the_barriers():
    structure, shape = lithium_iron_phosphate(), (26, 16, 12)
    expected = barriers(structure, shape)
    axes = [2, 0, 1]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = Structure(structure.lattice.matrix[axes] @ rotation, structure.species, structure.frac_coords[:, axes])
    doubled = structure.copy()
    doubled.make_supercell([1, 2, 1])
    # 1 meV is promised; rounding is what there is
    np.testing.assert_allclose(barriers(turned, (12, 26, 16)), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(barriers(doubled, (26, 32, 12)), expected, rtol=0, atol=1e-6)


def test_moving_the_cell_against_the_grid_matters_less_on_a_finer_grid():
    structure = lithium_sulfide()
    steps = np.random.default_rng(1).uniform(0, 1, (4, 3))
    changes = []
    for spacing in (0.6, 0.2):
        shape = grid_shape(structure, spacing, {"Li"})
        expected = barriers(structure, shape)
        change = 0.0
        for step in steps:
            moved = structure.copy()
            moved.translate_sites(range(len(moved)), step / np.array(shape))
            change = max(change, np.abs(barriers(moved, shape) - expected).max())
        changes.append(change)
    assert changes[1] < 0.5 * changes[0]  # quadratic in the spacing would be a ninth
