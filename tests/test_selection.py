"""What to label next: symmetry functions, distances of environments, closeness to gates, and the greedy choice."""

import math

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from kernels import symmetry_functions
from kernels.neighbors import neighbor_list
from kernels.symmetry_functions import radial_symmetry_functions
from pipeline.crystal import row_from_structure
from pipeline.gates import Gate
from pipeline.selection.environments import SAME, Environments, environments_of
from pipeline.selection.scores import Weights, choose, disagreement_score, gate_distances, worth_of
from pipeline.surrogates.batch import batch_from_rows, batch_from_structures
from tests.dft_crystals import face_centred

ELEMENTS = [3, 11, 17, 35]
CENTRES = np.array([2.0, 3.0])


def rock_salt(a: float, cation: str, anion: str) -> Structure:
    return face_centred(a, cation, anion, 0.5)


def zinc_blende(a: float, cation: str, anion: str) -> Structure:
    return face_centred(a, cation, anion, 0.25)


def described(*structures: Structure) -> Environments:
    return environments_of(batch_from_structures(structures), ELEMENTS)


def distance(one: Structure, other: Structure) -> float:
    """Of the newest environment of one crystal to those of another."""
    own = described(one)
    return float(own.largest_of_each(own.distances_to(described(other)))[0])


def moved(structure: Structure, amplitude: float, seed: int = 1) -> Structure:
    copy = structure.copy()
    shifts = np.random.default_rng(seed).normal(0.0, amplitude, (len(copy), 3))
    return Structure(copy.lattice, copy.species, copy.cart_coords + shifts, coords_are_cartesian=True)


def test_shells_of_rock_salt_in_closed_form() -> None:
    salt, cutoff, width = rock_salt(5.0, "Li", "Cl"), 4.0, 4.0
    batch = batch_from_structures([salt])
    source, destination, vectors, *_ = neighbor_list(batch.positions, batch.cells, batch.counts, cutoff)
    found = radial_symmetry_functions(
        source, destination, np.linalg.norm(vectors, axis=1), (2, 2), CENTRES, width, cutoff
    )
    # six of the other ion at a/2, twelve of the same at a/sqrt(2); the next shell lies beyond the cutoff
    for kind, number, r in ((1, 6, 2.5), (0, 12, 5.0 / math.sqrt(2.0))):
        smooth = 0.5 * (math.cos(math.pi * r / cutoff) + 1.0)
        # sums of a dozen float64 terms
        np.testing.assert_allclose(found[0, kind], number * smooth * np.exp(-width * (r - CENTRES) ** 2), rtol=1e-12)


def random_pairs(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, 80), rng.integers(0, 3, 80), rng.uniform(1.0, 7.0, 80)


def test_agrees_with_naive_sums() -> None:
    source, channel, distances = random_pairs()
    found = radial_symmetry_functions(source, channel, distances, (5, 3), CENTRES, 2.0, 6.0)
    for atom, kind, k in np.ndindex(5, 3, 2):
        r = distances[(source == atom) & (channel == kind) & (distances < 6.0)]
        terms = np.exp(-2.0 * (r - CENTRES[k]) ** 2) * (np.cos(np.pi * r / 6.0) + 1.0) / 2.0
        assert found[atom, kind, k] == pytest.approx(terms.sum(), rel=1e-12, abs=1e-300)


def test_compiled_equals_interpreted() -> None:
    source, channel, distances = random_pairs(1)
    compiled, interpreted = np.zeros((5, 3, 2)), np.zeros((5, 3, 2))
    for function, out in (
        (symmetry_functions._add_pairs, compiled),
        (symmetry_functions._add_pairs.py_func, interpreted),
    ):
        function(source, channel, distances, CENTRES, 2.0, 6.0, out)
    # exp and cos of LLVM and of the C library differ in the last bit
    np.testing.assert_allclose(compiled, interpreted, rtol=1e-13)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": np.array([5])}, "source must lie from 0 to 4"),
        ({"channel": np.array([-1])}, "channel must lie from 0 to 2"),
        ({"distances": np.array([1.0, 2.0])}, "don't fit"),
        ({"cutoff": 0.0}, "must be positive numbers"),
    ],
)
def test_arguments_are_checked(changes: dict[str, object], said: str) -> None:
    given = {"source": np.array([0]), "channel": np.array([0]), "distances": np.array([2.0]), "cutoff": 6.0, **changes}
    with pytest.raises(ValueError, match=said):
        radial_symmetry_functions(shape=(5, 3), centres=CENTRES, width=4.0, **given)


def test_the_same_crystal_in_another_cell_is_not_new() -> None:
    salt = rock_salt(5.14, "Li", "Cl")
    turned = salt.copy()
    turned.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = Structure(Lattice(turned.lattice.matrix @ rotation.T), turned.species, turned.frac_coords)
    assert len(described(turned).elements) == 2  # four ions each, all alike
    # the square root of what the tails that are cut off leave of one minus the cosine
    assert distance(turned, salt) < 1e-4
    assert distance(salt, turned) < 1e-4


def test_distances_grow_with_what_differs() -> None:
    salt = rock_salt(5.14, "Li", "Cl")
    base = salt.copy()
    base.make_supercell(2)
    shaken = [distance(moved(base, amplitude), salt) for amplitude in (0.01, 0.03, 0.1)]
    assert shaken[0] < SAME < shaken[2] < distance(zinc_blende(5.6, "Li", "Cl"), salt) < 1.0
    assert shaken == sorted(shaken)
    # chlorine's neighbours are of another element at other distances; bromine is not known at all
    assert distance(rock_salt(5.64, "Na", "Cl"), salt) > 0.5
    assert distance(rock_salt(5.5, "Li", "Br"), salt) == 1.0


def test_neighbours_in_the_batch_change_nothing() -> None:
    crystals = [rock_salt(5.14, "Li", "Cl"), moved(zinc_blende(6.0, "Na", "Br"), 0.2), rock_salt(5.6, "Na", "Cl")]
    together = described(*crystals)
    for k, crystal in enumerate(crystals):
        alone, own = described(crystal), together.of(k)
        assert (own.fingerprints != alone.fingerprints).nnz == 0
        assert own.elements.tolist() == alone.elements.tolist()
    assert together.of(1).owners.tolist() == [0, 0]
    rows = [row_from_structure(crystal) for crystal in crystals]
    from_rows = environments_of(batch_from_rows(rows), ELEMENTS)
    np.testing.assert_allclose(from_rows.fingerprints.toarray(), together.fingerprints.toarray(), atol=1e-9)


def test_an_atom_alone_and_a_foreign_element() -> None:
    alone = Structure(Lattice.cubic(20.0), ["Li"], [[0, 0, 0]])
    assert distance(alone, rock_salt(5.14, "Li", "Cl")) == 1.0
    with pytest.raises(ValueError, match=r"atomic numbers \[39\]"):
        described(rock_salt(6.0, "Y", "Cl"))


def test_no_crystal_is_chosen_with_its_twin() -> None:
    salt, blende = rock_salt(5.14, "Li", "Cl"), zinc_blende(5.6, "Li", "Cl")
    crystals = [salt, moved(salt, 0.005), blende, moved(blende, 0.005), rock_salt(5.64, "Na", "Cl")]
    own = described(*crystals)
    nothing_known = np.ones(len(own.elements))
    worth = np.array([0.5, 0.6, 0.5, 0.6, 0.1])
    found = choose(worth, own, nothing_known, 5)
    # the better of each pair, then its twin has nothing new; little worth is still taken when it is new
    assert found.rows.tolist() == [1, 3, 4]
    assert found.novelty[0] == 1.0
    assert found.scores == pytest.approx(found.novelty * worth[found.rows])
    equal = choose(np.ones(5), own, nothing_known, 5)
    assert equal.rows.tolist()[0] == 0  # of equal ones the first
    assert sorted(row // 2 for row in equal.rows.tolist()) == [0, 1, 2]


def test_what_is_known_is_not_chosen() -> None:
    salt, blende = rock_salt(5.14, "Li", "Cl"), zinc_blende(5.6, "Li", "Cl")
    own = described(salt, blende)
    known = own.distances_to(described(moved(salt, 0.003)))
    found = choose(np.array([1.0, 0.01]), own, known, 2)
    assert found.rows.tolist() == [1]
    assert own.elements[found.newest[0]] in (3, 17)
    assert found.novelty[0] == pytest.approx(distance(blende, salt), abs=0.02)


def test_farthest_points_cover_a_family_before_they_repeat() -> None:
    """Twenty nearly equal rock salts and one zinc blende: the second choice is the zinc blende."""
    salts = [rock_salt(5.10 + 0.004 * k, "Li", "Cl") for k in range(20)]
    own = described(*salts, zinc_blende(5.6, "Li", "Cl"))
    found = choose(np.ones(21), own, np.ones(len(own.elements)), 3)
    assert found.rows.tolist() == [0, 20, 19]  # the other end of the family is the farthest from its first
    assert list(found.novelty) == sorted(found.novelty, reverse=True)


def table(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_distance_to_a_gate_in_its_own_errors() -> None:
    rows = table(
        energy_above_hull=[0.05, 0.08, 0.02, 0.2, math.nan, 0.05],
        energy_above_hull_error=[0.03, 0.03, 0.03, 0.03, 0.03, math.nan],
    )
    found = gate_distances(rows, [("energy_above_hull", Gate(below=0.05))])
    np.testing.assert_allclose(found.errors, [0.0, 1.0, 1.0, 5.0, math.nan, math.nan], atol=1e-12)
    # two-sided normal probabilities at one and five standard deviations
    np.testing.assert_allclose(found.closeness[:4], [1.0, 0.317310508, 0.317310508, 5.7330e-7], rtol=1e-4)
    assert found.gates[:2] == ["energy_above_hull < 0.05 eV/atom"] * 2
    assert found.gates[4:] == ["", ""]


def test_intervals_count_on_the_side_of_the_gate() -> None:
    rows = table(
        conductivity_md_300K=[1e-3, 1e-5],
        conductivity_md_300K_low=[1e-4, 1e-6],
        conductivity_md_300K_high=[1e-2, 1e-4],
    )
    gate = Gate(above=1e-4)
    found = gate_distances(rows, [("conductivity_md_300K", gate)])
    # the gate is the end of both 95 % intervals
    np.testing.assert_allclose(found.errors, [1.95996, 1.95996], rtol=1e-5)


def test_the_nearest_gate_counts_and_others_are_not_looked_at() -> None:
    rows = table(
        energy_above_hull=[0.02, 0.049],
        energy_above_hull_error=[0.03, 0.03],
        md_activation_energy=[0.31, 0.5],
        md_activation_energy_low=[0.25, 0.4],
        md_activation_energy_high=[0.35, 0.6],
        density=[2.5, 2.5],
    )
    gates = [
        ("density", Gate(below=2.5)),
        ("energy_above_hull", Gate(below=0.05)),
        ("md_activation_energy", Gate(below=0.3)),
        ("md_notes", Gate(equals=True)),
    ]
    found = gate_distances(rows, gates)
    assert found.gates == ["md_activation_energy < 0.3 eV", "energy_above_hull < 0.05 eV/atom"]
    assert np.isnan(gate_distances(rows, gates[:1]).errors).all()


def test_worth_is_a_mean_of_what_there_is() -> None:
    absent, some = np.full(3, math.nan), np.array([1.0, 0.5, math.nan])
    np.testing.assert_allclose(worth_of(absent, absent, Weights()), 1.0)
    np.testing.assert_allclose(worth_of(some, absent, Weights()), [1.0, 0.75, 0.5])
    np.testing.assert_allclose(worth_of(some, np.ones(3), Weights(2.0, 0.0, 1.0)), [1.0, 2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="no score that this run can give has a weight"):
        worth_of(absent, absent, Weights(1.0, 0.0, 1.0))
    np.testing.assert_allclose(disagreement_score(np.array([0.05, -0.02, 0.3]), 0.1), [0.5, 0.2, 1.0])
