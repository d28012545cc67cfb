"""CHGNet's graph in flat arrays: undirected edges and angles, against loops."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from kernels.neighbors import neighbor_list
from pipeline.surrogates import load_potential
from pipeline.surrogates.batch import batch_from_structures
from pipeline.surrogates.chgnet_model import bond_angles, pair_edges
from tests.potentials import rock_salt, salts


def edges_of(structures, cutoff):
    batch = batch_from_structures(structures)
    return neighbor_list(batch.positions, batch.cells, batch.counts, cutoff)


# A single atom has edges to its own images only; equal distances abound in undistorted cells.
CRYSTALS = [
    Structure(Lattice.cubic(2.5), ["Li"], [[0, 0, 0]]),
    rock_salt(),
    *salts(3),
    Structure(Lattice.tetragonal(3.0, 4.0), ["Li", "Li"], [[0, 0, 0], [0.5, 0.5, 0.4]]),
]


def test_each_edge_is_paired_with_its_reverse():
    source, destination, vectors, images, _, _ = edges_of(CRYSTALS, 6.0)
    pairs = pair_edges(source, destination, images)
    by_key = {
        (s, d, *image): e for e, (s, d, image) in enumerate(zip(source, destination, images.tolist(), strict=True))
    }
    for edge, (s, d, image) in enumerate(zip(source, destination, images, strict=True)):
        reverse = by_key[(d, s, *(-image).tolist())]
        assert pairs[edge] == pairs[reverse]
        np.testing.assert_allclose(vectors[edge], -vectors[reverse], atol=1e-12)
    np.testing.assert_array_equal(np.bincount(pairs), np.full(len(source) // 2, 2))


def test_an_edge_without_its_reverse_is_left_out():
    source, destination, _, images, _, _ = edges_of(CRYSTALS, 4.0)
    kept = np.arange(len(source)) != 7
    pairs = pair_edges(source[kept], destination[kept], images[kept])
    assert (pairs == -1).sum() == 1
    lonely = int(np.flatnonzero(kept)[np.flatnonzero(pairs == -1)[0]])
    assert (source[lonely], destination[lonely]) == (destination[7], source[7])
    np.testing.assert_array_equal(images[lonely], -images[7])
    np.testing.assert_array_equal(np.bincount(pairs[pairs >= 0]), np.full(len(source) // 2 - 1, 2))


@pytest.mark.parametrize("cutoff", [1.0, 2.6, 3.0])
def test_angles_are_all_pairs_of_short_edges_from_one_atom(cutoff):
    source, _, vectors, _, _, _ = edges_of(CRYSTALS, 6.0)
    first, second = (a.tolist() for a in bond_angles(torch.from_numpy(source), torch.from_numpy(vectors), cutoff))
    short = np.flatnonzero(np.linalg.norm(vectors, axis=1) < cutoff)
    expected = [(a, b) for a in short for b in short if a != b and source[a] == source[b]]
    assert list(zip(first, second, strict=True)) == expected
    assert bool(expected) == (cutoff > 2.0)


def test_isolated_atoms_fail_alone():
    spread = Structure(Lattice.cubic(30.0), ["Na", "Cl", "Na"], [[0, 0, 0], [0.08, 0, 0], [0.5] * 3])
    lone = Structure(Lattice.cubic(30.0), ["Na"], [[0, 0, 0]])
    potential = load_potential("CHGNet")
    results = potential.evaluate([rock_salt(), spread, lone])
    assert results[0].error is None
    assert results[1].error == "IsolatedAtom: atom 2 has no neighbour within 6.0 Å"
    assert np.isnan(results[1].forces).all()
    (alone,) = potential.evaluate([lone])
    assert results[2].error == alone.error == "IsolatedAtom: atom 0 has no neighbour within 6.0 Å"
    # Bonds longer than 3 Å make no angles.
    assert potential.evaluate([rock_salt("K", "Cl", 6.4)])[0].error is None
