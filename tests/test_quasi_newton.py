"""The quasi-Newton optimiser: its kernels against dense algebra, its path against a naive one, and its safeguards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from kernels import quasi_newton, spring_hessian
from kernels.neighbors import neighbor_list
from pipeline.surrogates.active import generalised_forces
from pipeline.surrogates.batch import BatchResult, CrystalBatch, batch_from_structures
from pipeline.surrogates.relaxation import BatchedRelaxation, RelaxationSettings
from tests.morse import Morse, morse_potential

HALF = np.sqrt(0.5)
STRAINS = np.array(
    [
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, HALF], [0, HALF, 0]],
        [[0, 0, HALF], [0, 0, 0], [HALF, 0, 0]],
        [[0, HALF, 0], [HALF, 0, 0], [0, 0, 0]],
    ]
)


def crystal(seed: int, scale: float = 1.0, n: int = 4) -> Structure:
    rng = np.random.default_rng(seed)
    matrix = np.eye(3) * 3.55 * scale + rng.normal(0.0, 0.15, (3, 3))
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])[:n]
    return Structure(Lattice(matrix), ["Na", "Cl", "Li", "Na"][:n], sites + rng.normal(0.0, 0.03, (n, 3)))


class MorseOneByOne(Morse):
    """A crystal's numbers are the same to the last bit whatever its companions; remembers what it was asked."""

    edges_per_batch = 600

    def __init__(self):
        super().__init__()
        self.asked = []

    def evaluate_batch(self, batch):
        parts = []
        for b, (first, count) in enumerate(zip(batch.offsets, batch.counts, strict=True)):
            atoms = slice(first, first + count)
            one = CrystalBatch(
                batch.positions[atoms], batch.cells[b : b + 1], batch.numbers[atoms], batch.counts[b : b + 1]
            )
            self.asked.append((one.positions.copy(), one.cells[0].copy()))
            parts.append(self.alone(one))
        joined = (np.concatenate(values) for values in zip(*parts, strict=True))
        return BatchResult(*joined, [None] * len(parts))

    def alone(self, one):
        r = super().evaluate_batch(one)
        return r.energies, r.forces, r.stresses, r.edges, r.closest


def naive_springs(batch: CrystalBatch) -> np.ndarray:
    """Model Hessian of one crystal, as a sum of C^T K C."""
    n = len(batch.positions)
    source, destination, vectors, *_ = neighbor_list(batch.positions, batch.cells, batch.counts, 6.0)
    r = np.linalg.norm(vectors, axis=1)
    nearest = np.array([r[source == i].min(initial=9.0) for i in range(n)])
    total = np.diag([spring_hessian.ANCHOR] * 3 * n + [spring_hessian.ANCHOR * n] * 6)
    for i, j, v, d in zip(source, destination, vectors, r, strict=True):
        k = spring_hessian.STIFFNESS * np.exp(-spring_hessian.DECAY * (d / (0.5 * (nearest[i] + nearest[j])) - 1.0))
        t = spring_hessian.TRANSVERSE
        spring = k * ((1.0 - t) * np.outer(v, v) / d**2 + t * np.eye(3))
        moves = np.zeros((3, 3 * n + 6))
        moves[:, 3 * i : 3 * i + 3] -= np.eye(3)
        moves[:, 3 * j : 3 * j + 3] += np.eye(3)
        moves[:, 3 * n :] = (STRAINS @ v).T
        total += 0.5 * moves.T @ spring @ moves
    return total


def inverse_bfgs(model: np.ndarray, pairs: list) -> np.ndarray:
    """Inverse Hessian of BFGS (Nocedal and Wright 2006, Eq. 6.17) from the scaled inverse of a model."""
    inverse = np.linalg.inv(model)
    if pairs:
        s, y = pairs[-1]
        inverse *= s @ y / (y @ inverse @ y)
    for s, y in pairs:
        left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    return inverse


def naive_relaxation(structure: Structure, fmax: float, tolerance: float, relax_cell: bool) -> tuple[np.ndarray, int]:
    """One crystal, dense algebra, no safeguard but the longest step; where it ends, and after how many steps."""
    batch = batch_from_structures([structure])
    n = len(structure)
    size = 3 * n + 6 * relax_cell
    model = naive_springs(batch)[:size, :size]
    deformation, pairs, before = np.eye(3), [], None
    for steps in range(100):
        result = Morse().evaluate_batch(batch)
        forces, cell_forces, largest = generalised_forces(result, batch, relax_cell)
        gradient = np.concatenate(
            [-(forces @ deformation.T).ravel(), -n * np.einsum("kab,ab->k", STRAINS, cell_forces[0])]
        )[:size]
        if before is not None:
            pairs.append((before[0], gradient - before[1]))
        step = -inverse_bfgs(model, pairs) @ gradient
        if largest[0] <= fmax and -0.5 * step @ gradient <= tolerance * n:
            return batch.positions, steps
        moves, strain = step[: 3 * n].reshape(n, 3), np.zeros((3, 3))
        longest = np.linalg.norm(moves, axis=1).max()
        if relax_cell:
            longest = max(longest, 2.5 * np.linalg.norm(step[3 * n :]))
        step = step * min(1.0, 0.2 / longest)
        moves = step[: 3 * n].reshape(n, 3)
        if relax_cell:
            strain = np.einsum("k,kab->ab", step[3 * n :], STRAINS)
        w, v = np.linalg.eigh(strain)
        grow = v @ np.diag(np.exp(w)) @ v.T
        batch.positions = (batch.positions + moves @ deformation) @ grow
        batch.cells, deformation, before = batch.cells @ grow, deformation @ grow, (step, gradient)
    raise AssertionError("the naive relaxation did not end")


@pytest.mark.parametrize("compiled", [True, False])
def test_springs_equal_the_naive_sum(compiled, monkeypatch):
    if not compiled:
        for name in ("spring_hessian", "strain_shift"):
            monkeypatch.setattr(spring_hessian, name, getattr(spring_hessian, name).py_func)
    batch = batch_from_structures([crystal(3)])
    source, destination, vectors, *_ = neighbor_list(batch.positions, batch.cells, batch.counts, 6.0)
    expected = naive_springs(batch)
    for with_strain in (True, False):
        found = spring_hessian.spring_hessian(source, destination, vectors, 4, with_strain)
        np.testing.assert_allclose(found, expected[: len(found), : len(found)], atol=1e-12)
    shift = np.zeros((3, 6))
    spring_hessian.strain_shift(np.array([1.0, 2.0, 3.0]), shift)
    np.testing.assert_allclose(shift.T, STRAINS @ [1.0, 2.0, 3.0])


def test_springs_between_atoms_feel_no_shift_and_no_missing_neighbour():
    batch = batch_from_structures([crystal(3)])
    source, destination, vectors, *_ = neighbor_list(batch.positions, batch.cells, batch.counts, 6.0)
    hessian = spring_hessian.spring_hessian(source, destination, vectors, 4, True)
    shift = np.zeros(18)
    shift[0:12:3] = 1.0
    # A shift of the whole crystal stretches the anchors only.
    np.testing.assert_allclose(hessian @ shift, spring_hessian.ANCHOR * shift, atol=1e-12)
    none = np.zeros(0, np.int64)
    lonely = spring_hessian.spring_hessian(none, none, np.zeros((0, 3)), 2, True)
    np.testing.assert_allclose(lonely, np.diag([spring_hessian.ANCHOR] * 6 + [2 * spring_hessian.ANCHOR] * 6))


@pytest.mark.parametrize("compiled", [True, False])
def test_direction_equals_dense_bfgs(compiled, monkeypatch):
    if not compiled:
        for name in ("_dot", "factorise", "solve", "remember", "direction", "parts", "propose"):
            monkeypatch.setattr(quasi_newton, name, getattr(quasi_newton, name).py_func)
    rng = np.random.default_rng(0)
    sizes = np.array([5, 3, 4])
    starts = np.concatenate([[7], 7 + np.cumsum(quasi_newton.block_size(sizes))])
    workspace, starts = np.zeros(starts[-1]), starts[:-1]
    models, hessians, pairs = [], [], [[], [], []]
    for start, n in zip(starts, sizes, strict=True):
        a, b = rng.normal(size=(2, n, n))
        models.append(a @ a.T + np.eye(n))
        hessians.append(b @ b.T + np.eye(n))
        factor, _, _ = quasi_newton.parts(workspace, start, n)
        factor[:] = models[-1]
        assert quasi_newton.factorise(factor)
    firsts = np.cumsum(sizes) - sizes
    stored, scale = np.full(3, -1), np.ones(3)
    for turn in range(5):
        chosen = np.array([True, turn != 2, True])
        steps, gradients, out = rng.normal(size=12), rng.normal(size=12), np.zeros(12)
        changes = np.concatenate([h @ steps[f : f + n] for h, f, n in zip(hessians, firsts, sizes, strict=True)])
        if turn == 4:
            changes[:5] *= -1.0  # negative curvature: nothing is learnt
        quasi_newton.propose(chosen, starts, firsts, sizes, workspace, stored, scale, steps, changes, gradients, out)
        for b, (first, n) in enumerate(zip(firsts, sizes, strict=True)):
            own = slice(first, first + n)
            if not chosen[b]:
                assert not out[own].any()
                continue
            if turn > 0 and not (turn == 4 and b == 0):
                pairs[b].append((steps[own], changes[own]))
            np.testing.assert_allclose(out[own], inverse_bfgs(models[b], pairs[b]) @ gradients[own], rtol=1e-9)
    assert stored.tolist() == [3, 3, 4]


def test_the_oldest_pair_is_forgotten():
    rng = np.random.default_rng(1)
    n, memory = 3, quasi_newton.MEMORY
    workspace = np.zeros(quasi_newton.block_size(np.array([n]))[0])
    factor, steps, changes = quasi_newton.parts(workspace, 0, n)
    factor[:] = np.eye(n)
    hessian = np.diag([1.0, 2.0, 3.0])
    pairs, stored, scale = [], 0, 1.0
    for _ in range(memory + 3):
        step = rng.normal(size=n)
        pairs.append((step, hessian @ step))
        stored, scale = quasi_newton.remember(factor, steps, changes, stored, *pairs[-1])
    gradient = rng.normal(size=n)
    found = quasi_newton.direction(factor, steps, changes, stored, scale, gradient)
    np.testing.assert_allclose(found, inverse_bfgs(np.eye(n), pairs[-memory:]) @ gradient, rtol=1e-9)


def test_what_is_not_positive_definite_is_told():
    assert not quasi_newton.factorise(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert not quasi_newton.factorise(np.array([[np.nan]]))


def test_blocks_move_to_the_front():
    old, new, starts = np.arange(20.0), np.zeros(9), np.array([12, 3, 17])
    quasi_newton.move_blocks(old, starts, np.array([4, 3, 2]), new)
    assert starts.tolist() == [0, 4, 7]
    assert new.tolist() == [12, 13, 14, 15, 3, 4, 5, 17, 18]


@pytest.mark.parametrize("relax_cell", [True, False])
def test_the_path_is_that_of_a_naive_version(relax_cell):
    # Crystals that are never led uphill, together in a batch that is filled and emptied.
    structures = [crystal(k, scale, n) for k, (scale, n) in enumerate([(1, 4), (0.95, 4), (1.05, 4), (1, 3)])]
    settings = RelaxationSettings(fmax=0.01, relax_cell=relax_cell)
    found = BatchedRelaxation(Morse(), settings).run(batch_from_structures(structures))
    for structure, ours in zip(structures, found, strict=True):
        positions, steps = naive_relaxation(structure, 0.01, settings.energy_tolerance, relax_cell)
        assert ours.converged
        assert ours.n_steps == steps
        np.testing.assert_allclose(ours.positions, positions, atol=1e-7)  # rounding, grown over the steps


def test_it_needs_far_fewer_steps_than_fire_and_ends_no_higher():
    structures = [crystal(k, scale) for k, scale in enumerate(np.linspace(0.93, 1.1, 12))]
    fast = morse_potential().relax(structures)
    slow = morse_potential().relax(structures, optimizer="fire")
    assert sum(r.n_steps for r in fast) < 0.4 * sum(r.n_steps for r in slow)
    for a, b in zip(fast, slow, strict=True):
        assert a.converged
        assert a.energy <= b.energy + 1e-3 * len(a.structure)


class Well:
    """Atoms bound by equal springs to places that float freely together; no stress."""

    cutoff = 6.0
    elements = ("Na", "Cl", "Li")
    edges_per_batch = 1000

    def __init__(self, places, stiffness):
        self.places, self.stiffness = places, stiffness

    def evaluate_batch(self, batch):
        away = batch.positions - self.places
        away -= away.mean(axis=0)
        n = len(batch.counts)
        energies = np.array([0.5 * self.stiffness * (away**2).sum()])
        closest = np.tile([3.0, 0.0, 0.0], (n, 1))
        return BatchResult(energies, -self.stiffness * away, np.zeros((n, 3, 3)), np.full(n, 100), closest, [None] * n)


def test_a_quadratic_well_takes_few_steps():
    start = crystal(0)
    rng = np.random.default_rng(5)
    places = start.cart_coords + rng.normal(0.0, 0.05, (4, 3))
    settings = RelaxationSettings(fmax=1e-6, relax_cell=False)
    (found,) = BatchedRelaxation(Well(places, 8.0), settings).run(batch_from_structures([start]))
    assert found.converged
    # Nine variables beside the three shifts: with exact line searches BFGS would need nine steps at most.
    assert found.n_steps <= 14
    np.testing.assert_allclose(found.positions - found.positions[0], places - places[0], atol=1e-6)


CRYSTALS = [crystal(k, scale, n) for k, (scale, n) in enumerate([(1, 4), (0.9, 4), (1.1, 4), (1, 3), (0.95, 2)])]
PATHS: dict[int, object] = {}


@settings(max_examples=25, deadline=None, database=None)
@given(chosen=st.lists(st.integers(0, 4), min_size=1, max_size=9), budget=st.sampled_from([1, 300, 700, 10_000]))
def test_companions_and_place_change_not_a_bit(chosen, budget):
    how = RelaxationSettings(fmax=0.02, max_steps=40)

    def run(which, edges):
        model = MorseOneByOne()
        model.edges_per_batch = edges
        return BatchedRelaxation(model, how).run(batch_from_structures([CRYSTALS[k] for k in which]))

    for k, ours in zip(chosen, run(chosen, budget), strict=True):
        if k not in PATHS:
            (PATHS[k],) = run([k], 1)
        alone = PATHS[k]
        assert (ours.n_steps, ours.energy, ours.converged) == (alone.n_steps, alone.energy, alone.converged)
        np.testing.assert_array_equal(ours.positions, alone.positions)
        np.testing.assert_array_equal(ours.cell, alone.cell)


def longest_move(model: MorseOneByOne, before: int, after: int) -> float:
    """Å, of an atom in fractional coordinates, times the cell before."""
    (a, cell), (b, other) = model.asked[before], model.asked[after]
    moved = (b @ np.linalg.inv(other) - a @ np.linalg.inv(cell)) @ cell
    return float(np.linalg.norm(moved, axis=1).max())


def test_far_starts_are_reached_by_short_steps():
    # Squeezed by a fifth in volume and shaken: forces near 10 eV/Å.
    start = crystal(2, 0.93)
    start.perturb(0.3, seed=1)
    model = MorseOneByOne()
    assert np.abs(Morse().evaluate_batch(batch_from_structures([start])).forces).max() > 9.0
    (found,) = BatchedRelaxation(model, RelaxationSettings()).run(batch_from_structures([start]))
    assert found.converged
    assert len(model.asked) > 3
    for k in range(len(model.asked) - 1):
        assert longest_move(model, k, k + 1) <= 2 * 0.2 + 1e-9  # back from one step, and another
    assert longest_move(model, 0, 1) == pytest.approx(0.2, rel=0.05)


class Bump(MorseOneByOne):
    """Lies about the energy of some evaluations."""

    def __init__(self, bumps):
        super().__init__()
        self.bumps = bumps

    def alone(self, one):
        energies, *rest = super().alone(one)
        return energies + self.bumps(len(self.asked) - 1), *rest


def test_a_step_uphill_is_taken_back_and_halved():
    model = Bump(lambda k: 5.0 * (k == 1))
    (found,) = BatchedRelaxation(model, RelaxationSettings()).run(batch_from_structures([crystal(0)]))
    assert found.converged
    assert longest_move(model, 0, 2) <= 0.5 * longest_move(model, 0, 1) * (1 + 1e-9)


def test_energies_that_contradict_forces_end_with_the_steps():
    # Every step seems to lead uphill: after four returns the crystal goes on all the same.
    model = Bump(lambda k: 1.0 * k)
    settings = RelaxationSettings(max_steps=60)
    (found,) = BatchedRelaxation(model, settings).run(batch_from_structures([crystal(0)]))
    assert (found.error, found.n_steps) == (None, 60)
    # Four tries around the start, each nearer to it, and only then a new place.
    tries = [longest_move(model, 0, k) for k in range(1, 6)]
    assert all(b <= 0.5 * a * (1 + 1e-9) for a, b in zip(tries[:4], tries[1:], strict=True))
    assert longest_move(model, 5, 6) > tries[4]
    assert all(longest_move(model, k, k + 1) <= 0.4 for k in range(60))


def test_small_forces_are_not_enough_where_much_energy_is_left():
    # Springs so soft that 0.05 eV/Å hide 0.017 eV, which the optimiser has learnt when it comes there.
    start = crystal(0)
    places = start.cart_coords
    places[0] += [2.0, 0.0, 0.0]
    model = Well(places, 0.1)
    batch = batch_from_structures([start])
    (patient,) = BatchedRelaxation(model, RelaxationSettings(relax_cell=False)).run(batch)
    (hasty,) = BatchedRelaxation(model, RelaxationSettings(relax_cell=False, energy_tolerance=1.0)).run(batch)
    limited = RelaxationSettings(relax_cell=False, max_steps=hasty.n_steps)
    (bounded,) = BatchedRelaxation(model, limited).run(batch)
    assert hasty.converged
    assert patient.converged
    assert patient.energy < 2 * 4 * 3e-4 < hasty.energy
    # The bound on steps is hard, and what has small forces there has converged.
    assert patient.n_steps > hasty.n_steps
    assert (bounded.n_steps, bounded.converged) == (hasty.n_steps, True)
