"""Bond-valence site energies: closed forms, a naive sum over images, compiled against interpreted."""

import math

import numpy as np
import pytest
from scipy.special import erfc

from kernels import bond_valence
from kernels.bond_valence import COULOMB_CONSTANT, site_energy_grid
from kernels.pair_energies import NEAREST_DISTANCE, TABLE_ERROR, TABLE_START, pair_energy, pair_tables
from pipeline.reference.bond_valence import (
    Ion,
    MissingBondValenceParameterError,
    morse_pair,
    screening_parameters,
)

TRICLINIC = np.array([[5.1, 0.3, -0.2], [-1.9, 4.4, 0.5], [0.7, 1.1, 6.3]])


def random_ions(seed, n=5):
    """Coordinates, some outside the home cell, occupancies, and for each ion a Morse or a Coulomb term."""
    rng = np.random.default_rng(seed)
    attracts = np.arange(n) % 2 == 0
    morse = np.stack([rng.uniform(0.4, 1.1, n), rng.uniform(1.8, 2.8, n), rng.uniform(1.4, 2.0, n)], axis=1)
    coulomb = np.stack([rng.uniform(5.0, 30.0, n), rng.uniform(1.5, 2.2, n)], axis=1)
    morse[~attracts, 0] = 0.0
    coulomb[attracts, 0] = 0.0
    return rng.uniform(-1.0, 2.0, (n, 3)), rng.uniform(0.2, 1.0, n), morse, coulomb


def naive_energies(lattice, shape, frac_coords, weights, morse, coulomb, cutoff):
    """Sum over an ample block of images, one grid point and one ion at a time, by the textbook formulas."""
    images = np.array(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij")).reshape(3, -1).T
    energies = np.zeros(shape)
    for index in np.ndindex(*shape):
        point = np.array(index) / np.array(shape)
        for f, w, (d0, r_min, alpha), (prefactor, length) in zip(frac_coords, weights, morse, coulomb, strict=True):
            r = np.linalg.norm((f + images - point) @ lattice, axis=1)
            r = r[r < cutoff]
            attraction = 0.5 * d0 * ((np.exp(alpha * (r_min - r)) - 1.0) ** 2 - 1.0)
            energies[index] += w * (attraction + prefactor / r * erfc(r / length)).sum()
    return energies


def test_one_attracting_ion_gives_half_a_morse_potential():
    lattice = np.diag([30.0, 30.0, 30.0])
    energies = site_energy_grid(
        lattice, (30, 1, 1), np.zeros((1, 3)), np.ones(1), np.array([[0.9, 2.0, 1.6]]), np.zeros((1, 2)), 10.0
    )
    assert energies[2, 0, 0] == pytest.approx(-0.45, abs=1e-14)  # the well's bottom, half of d0
    expected = 0.45 * ((math.exp(1.6 * (2.0 - 3.0)) - 1.0) ** 2 - 1.0)
    assert energies[3, 0, 0] == pytest.approx(expected, abs=1e-14)
    assert energies[27, 0, 0] == pytest.approx(expected, abs=1e-14)  # through the boundary
    assert energies[9, 0, 0] != 0.0
    assert energies[10, 0, 0] == 0.0  # at the cutoff nothing counts


def test_one_repelling_ion_gives_a_screened_coulomb_potential_times_its_occupancy():
    lattice = np.diag([30.0, 30.0, 30.0])
    energies = site_energy_grid(
        lattice,
        (30, 1, 1),
        np.zeros((1, 3)),
        np.array([0.25]),
        np.zeros((1, 3)),
        np.array([[COULOMB_CONSTANT * 2.0, 1.8]]),
        10.0,
    )
    assert energies[2, 0, 0] == pytest.approx(0.25 * 28.8 / 2.0 * math.erfc(2.0 / 1.8), rel=1e-14)
    # on the ion itself the energy stays finite: the distance is taken as NEAREST_DISTANCE
    assert energies[0, 0, 0] == pytest.approx(
        0.25 * 28.8 / NEAREST_DISTANCE * math.erfc(NEAREST_DISTANCE / 1.8), rel=1e-14
    )


@pytest.mark.parametrize(("shape", "cutoff"), [((3, 4, 5), 10.0), ((2, 1, 7), 3.3), ((4, 2, 3), 15.0)])
def test_equals_naive_sum_in_a_skewed_cell(shape, cutoff):
    ions = random_ions(seed=shape[0])
    energies = site_energy_grid(TRICLINIC, shape, *ions, cutoff)
    expected = naive_energies(TRICLINIC, shape, *ions, cutoff)
    # hundreds of terms up to 1e3 eV summed in another order: rounding only
    np.testing.assert_allclose(energies, expected, rtol=1e-11, atol=1e-11)


def test_compiled_equals_interpreted(monkeypatch):
    ions = random_ions(seed=3)
    compiled = site_energy_grid(TRICLINIC, (2, 3, 4), *ions, 7.0)
    monkeypatch.setattr(bond_valence, "_add_lines", bond_valence._add_lines.py_func)
    # compilers may contract a product and a sum, and differ in the last digit of exp and erfc
    np.testing.assert_allclose(site_energy_grid(TRICLINIC, (2, 3, 4), *ions, 7.0), compiled, rtol=1e-12)


def test_threads_share_the_planes_without_changing_a_bit():
    ions = random_ions(seed=4)
    one = site_energy_grid(TRICLINIC, (7, 6, 5), *ions, 9.0)
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(site_energy_grid(TRICLINIC, (7, 6, 5), *ions, 9.0, threads=threads), one)


def test_doubled_cell_repeats_the_energies():
    frac_coords, weights, morse, coulomb = random_ions(seed=5)
    small = site_energy_grid(TRICLINIC, (3, 4, 5), frac_coords, weights, morse, coulomb, 8.0)
    doubled = site_energy_grid(
        TRICLINIC * np.array([[2.0], [1.0], [1.0]]),
        (6, 4, 5),
        np.concatenate([frac_coords * [0.5, 1, 1], frac_coords * [0.5, 1, 1] + [0.5, 0, 0]]),
        np.tile(weights, 2),
        np.tile(morse, (2, 1)),
        np.tile(coulomb, (2, 1)),
        8.0,
    )
    np.testing.assert_allclose(doubled, np.tile(small, (2, 1, 1)), rtol=1e-11, atol=1e-11)  # rounding only


def test_no_ions_give_zero():
    nothing = (np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)), np.zeros((0, 2)))
    assert (site_energy_grid(TRICLINIC, (2, 2, 2), *nothing, 10.0) == 0.0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lattice": np.zeros((3, 3))}, "no volume"),
        ({"frac_coords": np.full((1, 3), np.nan)}, "frac_coords holds a number that isn't finite"),
        ({"weights": np.ones(2)}, r"weights must have the shape \(1,\)"),
        ({"shape": (0, 2, 2)}, "three positive integers"),
        ({"cutoff": 0.0}, "cutoff must be a positive length"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {
        "lattice": TRICLINIC,
        "shape": (2, 2, 2),
        "frac_coords": np.zeros((1, 3)),
        "weights": np.ones(1),
        "morse": np.ones((1, 3)),
        "coulomb": np.ones((1, 2)),
        "cutoff": 10.0,
    }
    with pytest.raises(ValueError, match=message):
        site_energy_grid(**(arguments | change))


def test_parameters_are_those_published():
    # Li+ - O2- as printed by Chen and Adams, IUCrJ 2017, 4, 614 (softBV): R0 = 1.17096 Å, b = 0.516 Å
    pair = morse_pair(Ion("Li", 1), Ion("O", -2))
    assert pair.r0 == 1.17096
    assert 1.0 / pair.alpha == pytest.approx(0.516, abs=5e-7)  # alpha is tabulated with seven digits
    assert morse_pair(Ion("O", -2), Ion("Li", 1)) == pair
    # R_min is where the bond valence model's Morse well has its minimum: beyond R0
    assert pair.r_min > pair.r0


def test_radius_depends_on_the_sign_of_the_charge_only():
    assert screening_parameters(Ion("Fe", 2)) == screening_parameters(Ion("Fe", 3))
    assert screening_parameters(Ion("S", -2)).covalent_radius > screening_parameters(Ion("S", 6)).covalent_radius
    assert screening_parameters(Ion("Li", 1)).principal_quantum_number == 2


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (Ion("Li", 1), Ion("P", -3), r"no parameters for Li1\+ with P3-"),
        (Ion("Li", 2), Ion("O", -2), r"Li is known there as: Li1\+"),
        (Ion("Se", -2), Ion("Mg", 2), r"Mg2\+ with Se2- are unphysical \(alpha = -1.41"),
    ],
)
def test_missing_or_unphysical_pairs_are_refused(one, other, message):
    with pytest.raises(MissingBondValenceParameterError, match=message):
        morse_pair(one, other)


def test_missing_radius_is_refused():
    with pytest.raises(MissingBondValenceParameterError, match=r"no covalent radius for Pu4\+"):
        screening_parameters(Ion("Pu", 4))


def test_tabulated_pairs_keep_their_error():
    real = [morse_pair(Ion(*a), Ion(*b)) for a, b in ((("Li", 1), ("O", -2)), (("Na", 1), ("Cl", -1)))]
    kinds = np.array([[p.d0, p.r_min, p.alpha, 0.0, 0.0] for p in real] + [[0.0, 0.0, 0.0, 40.0, 1.9]])
    tables = pair_tables(kinds, 10.0)
    assert tables.tabulated.all()
    r2 = np.random.default_rng(0).uniform(TABLE_START, 99.9, 3000)
    place = (r2 - tables.start) / tables.step
    row = place.astype(int)
    for kind, coefficients in zip(kinds, tables.coefficients, strict=True):
        values = np.polynomial.polynomial.polyval(place - row, coefficients[row].T, tensor=False)
        exact = np.array([pair_energy(x, kind) for x in r2])
        assert (np.abs(values - exact) <= TABLE_ERROR * np.maximum(1.0, np.abs(exact))).all()


def test_a_pair_too_steep_for_a_table_is_computed():
    morse, coulomb = np.array([[1.0, 3.0, 40.0]]), np.array([[0.0, 1.0]])
    kinds = np.hstack([morse, coulomb])
    assert not pair_tables(kinds, 10.0).tabulated[0]
    arguments = (np.diag([6.0, 7.0, 8.0]), (2, 2, 5), np.full((1, 3), 0.05), np.ones(1), morse, coulomb, 10.0)
    # energies up to 1e82 eV near the ion, and far away what the naive formula rounds off
    np.testing.assert_allclose(site_energy_grid(*arguments), naive_energies(*arguments), rtol=1e-11, atol=1e-11)
