"""Kernels of the quasi-Newton optimiser against dense algebra."""

import numpy as np
import pytest

from kernels import quasi_newton, spring_hessian
from kernels.neighbors import neighbor_list
from pipeline.surrogates.batch import batch_from_structures
from tests.naive_quasi_newton import STRAINS, crystal, inverse_bfgs, naive_springs


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
