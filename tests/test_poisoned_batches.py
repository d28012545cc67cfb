"""Crystals that cannot be relaxed among sixty: the good come out as without them, each bad one has its error."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from tests.morse import morse_potential
from tests.potentials import POTENTIALS_ON_DEVICES, compact, load, rock_salt, salts

ERRORS = {
    "overlapping atoms": "CollidingAtoms: atoms 0 and 1 are 0 Å apart",
    "NaN coordinates": "NonFiniteCoordinates: ",
    "300 atoms": "GraphTooLarge: 300 atoms ",
    "unknown element": "UnknownElement: the model does not know Po",
    "0.1 Å cell": "GraphTooLarge: 1 atoms in 0.001 Å3",
}
# A 300-atom salt has 6,800 pairs within 5 Å, the largest of the others 900 within 6 Å.
MAX_EDGES = 5_000


def large_cell():
    return rock_salt() * (6, 5, 5)


def poison():
    found = {
        "overlapping atoms": Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]]),
        "NaN coordinates": Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, np.nan]]),
        "300 atoms": large_cell(),
        "unknown element": rock_salt("Na", "Po", 6.7),
        "0.1 Å cell": Structure(Lattice.cubic(0.1), ["Na"], [[0, 0, 0]]),
    }
    assert list(found) == list(ERRORS)
    return list(found.values())


def mixed(good, bad):
    """The bad ones at the start, at the end and spread between, and the places of the good ones."""
    together, places = [], []
    spots = np.linspace(0, len(good), len(bad)).astype(int).tolist()
    for k in range(len(good) + 1):
        together += [crystal for crystal, spot in zip(bad, spots, strict=True) if spot == k]
        if k < len(good):
            places.append(len(together))
            together.append(good[k])
    return together, places


def check_errors(results, places):
    bad = [result for k, result in enumerate(results) if k not in set(places)]
    for result, error in zip(bad, ERRORS.values(), strict=True):
        assert result.error.startswith(error)
        assert np.isnan(result.energy)


def test_morse_relaxes_the_good_ones_to_the_end():
    good = [compact(crystal) for crystal in salts(60)]
    expected = morse_potential().relax(good)
    assert sum(r.converged for r in expected) == 60
    together, places = mixed(good, poison())
    results = morse_potential(max_edges=MAX_EDGES).relax(together)
    check_errors(results, places)
    for k, reference in zip(places, expected, strict=True):
        assert results[k].error is None
        assert results[k].n_steps == reference.n_steps
        assert results[k].energy == pytest.approx(reference.energy, abs=1e-8)  # float64; the order of sums differs


@pytest.mark.parametrize("case", POTENTIALS_ON_DEVICES)
def test_potentials_go_on_without_the_bad_ones(case):
    potential = load(*case, max_edges=MAX_EDGES)
    good = salts(60)
    together, places = mixed(good, poison())
    expected, results = potential.relax(good, max_steps=2), potential.relax(together, max_steps=2)
    check_errors(results, places)
    for k, structure, reference in zip(places, good, expected, strict=True):
        assert results[k].error is None
        assert results[k].n_steps == reference.n_steps
        # float32 sums in another order, and the two steps they lead.
        assert results[k].energy == pytest.approx(reference.energy, abs=1e-5 * len(structure))
        assert results[k].energy_initial == pytest.approx(reference.energy_initial, abs=1e-5 * len(structure))


@pytest.mark.parametrize("case", POTENTIALS_ON_DEVICES)
def test_300_atoms_are_no_poison_by_default(case):
    potential = load(*case)
    small = rock_salt()
    cell, large = potential.relax([small, large_cell()], max_steps=1)
    assert large.error is None
    assert large.energy_initial / 300 == pytest.approx(cell.energy_initial / 2, abs=1e-5)  # float32
