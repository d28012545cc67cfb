"""Kernels of M3GNet's forward and backward pass, against closed forms, naive versions in float64 and autograd."""

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn

from kernels.activations import logistic, logistic_rows, silu_rows
from kernels.edge_forces import edge_forces
from kernels.gated_messages import (
    GatedWeights,
    gated_backward,
    gated_forward,
)
from kernels.gated_pair import gated_pair_backward, gated_pair_forward
from kernels.padded_edges import fill_edges
from kernels.row_products import ROWS, TILE, row_product, tile_product
from kernels.spherical_bessel import spherical_bessel_basis
from kernels.three_body import three_body_backward, three_body_forward

HIDDEN, WIDTH, RADIAL, FEATURES, ATOMS = 5, 7, 4, 6, 9


def _float32(rng, *shape):
    return rng.normal(0.0, 1.0, shape).astype(np.float32)


def test_logistic_is_the_logistic_function():
    x = np.concatenate([np.linspace(-80.0, 80.0, 4001), np.array([0.0, -1e30, 1e30])]).astype(np.float32)
    expected = 1.0 / (1.0 + np.exp(-np.clip(x.astype(np.float64), -700.0, 700.0)))
    ours = np.array([logistic(v) for v in x])
    assert ours.dtype == np.float32 or ours.dtype == np.float64
    # Half a unit of float32 for each of the few operations.
    np.testing.assert_allclose(ours, expected, atol=2e-7)
    assert logistic(np.float32(0.0)) == 0.5
    np.testing.assert_allclose([logistic.py_func(v) for v in x[::97]], ours[::97], atol=2e-7)


def test_logistic_never_hides_a_nan_of_silu():
    hidden = np.array([[np.nan, 1.0]], np.float32)
    out, slope = np.empty_like(hidden), np.empty_like(hidden)
    silu_rows(hidden, np.zeros(2, np.float32), out, slope)
    assert np.isnan(out[0, 0])
    assert np.isfinite(out[0, 1])


@pytest.mark.parametrize("python", [False, True])
def test_silu_and_its_slope(python):
    rng = np.random.default_rng(0)
    hidden, bias = 4.0 * _float32(rng, 11, WIDTH), _float32(rng, WIDTH)
    out, slope = np.empty_like(hidden), np.zeros((11, WIDTH + 3), np.float32)
    (silu_rows.py_func if python else silu_rows)(hidden, bias, out, slope, 3)
    x = torch.tensor(hidden.astype(np.float64) + bias, requires_grad=True)
    y = torch.nn.functional.silu(x)
    y.sum().backward()
    np.testing.assert_allclose(out, y.detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(slope[:, 3:], x.grad.numpy(), atol=2e-6)
    assert not slope[:, :3].any()
    (logistic_rows.py_func if python else logistic_rows)(hidden, bias, hidden)
    np.testing.assert_allclose(hidden, torch.sigmoid(x).detach().numpy(), atol=2e-7)


def _weights(rng):
    shapes = [
        (FEATURES, 2 * HIDDEN),
        (HIDDEN, HIDDEN),
        (HIDDEN, HIDDEN),
        (HIDDEN, WIDTH),
        (HIDDEN, WIDTH),
    ]
    matrices = [_float32(rng, *shape) for shape in shapes]
    biases = [_float32(rng, n) for n in (HIDDEN, HIDDEN, WIDTH, WIDTH)]
    radial = _float32(rng, RADIAL, WIDTH)
    transposed = [np.ascontiguousarray(m.T) for m in (*matrices, radial)]
    return GatedWeights(*matrices, *biases, radial, *transposed)


def _naive_gated(weights, edges, by_source, by_destination, source, destination, radial, target, rows):
    """The published formula with torch in float64: what is added to the target."""
    w = [torch.tensor(np.asarray(m, np.float64)) for m in weights]
    hidden = edges @ w[0] + by_source[source] + by_destination[destination]
    silu = torch.nn.functional.silu
    value, gate = silu(hidden[:, :HIDDEN]), silu(hidden[:, HIDDEN:])
    value, gate = silu(value @ w[1] + w[5]), silu(gate @ w[2] + w[6])
    message = silu(value @ w[3] + w[7]) * torch.sigmoid(gate @ w[4] + w[8]) * (radial @ w[9])
    return target.index_add(0, rows, message)


@pytest.mark.parametrize(("count", "python"), [(1, True), (13, True), (13, False), (TILE + 3, False), (0, False)])
@pytest.mark.parametrize("onto", ["edges", "atoms"])
def test_gated_network_and_its_gradient(count, python, onto):
    rng = np.random.default_rng(count)
    weights = _weights(rng)
    if onto == "edges":
        # Messages have the width of the features that they are added to.
        weights = weights._replace(
            first=_float32(rng, WIDTH, 2 * HIDDEN),
        )
        weights = weights._replace(first_back=np.ascontiguousarray(weights.first.T))
    edges = _float32(rng, count, weights.first.shape[0])
    by_source, by_destination = _float32(rng, ATOMS, 2 * HIDDEN), _float32(rng, ATOMS, 2 * HIDDEN)
    source, destination = np.sort(rng.integers(0, ATOMS, count)), rng.integers(0, ATOMS, count)
    radial = _float32(rng, count, RADIAL)
    rows = np.arange(count) if onto == "edges" else destination
    nodes = _float32(rng, ATOMS, WIDTH)
    pull = _float32(rng, count if onto == "edges" else ATOMS, WIDTH)

    leaves = [
        torch.tensor(a.astype(np.float64), requires_grad=True) for a in (edges, by_source, by_destination, radial)
    ]
    target = leaves[0] if onto == "edges" else torch.tensor(nodes.astype(np.float64))
    indices = [torch.tensor(a) for a in (source, destination, rows)]
    expected = _naive_gated(
        weights, leaves[0], leaves[1], leaves[2], indices[0], indices[1], leaves[3], target, indices[2]
    )
    gradients = torch.autograd.grad((expected * torch.tensor(pull.astype(np.float64))).sum(), leaves, allow_unused=True)
    gradients = [np.zeros(leaf.shape) if g is None else g.numpy() for g, leaf in zip(gradients, leaves, strict=True)]

    tape = (
        np.empty((count, 2 * HIDDEN), np.float32),
        np.empty((count, 2 * HIDDEN), np.float32),
        np.empty((count, 3 * WIDTH), np.float32),
    )
    ours = edges if onto == "edges" else nodes
    forward = gated_forward.py_func if python else gated_forward
    backward = gated_backward.py_func if python else gated_backward
    forward(weights, edges, by_source, by_destination, source, destination, radial, ours, rows, *tape)
    np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=1e-5, atol=1e-5)

    edge_gradient = pull.copy() if onto == "edges" else np.zeros_like(edges)
    gradient = edge_gradient if onto == "edges" else pull
    sent, received = np.zeros_like(by_source), np.zeros_like(by_destination)
    radial_gradient = np.zeros_like(radial)
    backward(weights, gradient, rows, source, destination, *tape, edge_gradient, sent, received, radial_gradient)
    for mine, reference in zip((edge_gradient, sent, received, radial_gradient), gradients, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=2e-5, atol=3e-5)


@pytest.mark.parametrize("python", [False, True])
def test_gated_pair_and_its_gradient(python):
    rng = np.random.default_rng(5)
    hidden, rows = _float32(rng, 6, 2 * WIDTH), np.array([0, 2, 3, 5, 6, 8])
    target, pull = _float32(rng, ATOMS, WIDTH), _float32(rng, ATOMS, WIDTH)
    leaf = torch.tensor(hidden.astype(np.float64), requires_grad=True)
    product = torch.nn.functional.silu(leaf[:, :WIDTH]) * torch.sigmoid(leaf[:, WIDTH:])
    expected = torch.tensor(target.astype(np.float64)).index_add(0, torch.tensor(rows), product)
    (expected * torch.tensor(pull.astype(np.float64))).sum().backward()
    factors, gradient = np.empty_like(hidden), np.empty_like(hidden)
    (gated_pair_forward.py_func if python else gated_pair_forward)(hidden, target, rows, factors)
    (gated_pair_backward.py_func if python else gated_pair_backward)(pull, rows, factors, gradient)
    np.testing.assert_allclose(target, expected.detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), atol=2e-6)


def _bonds(rng, n):
    source = np.repeat([0, 1, 2, 4], [3, 1, 4, 2])
    destination = rng.integers(0, 5, len(source))
    unit = rng.normal(size=(len(source), 3))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    basis, envelope = _float32(rng, len(source), 3 * n), np.abs(_float32(rng, len(source)))
    return source, destination, unit.astype(np.float32), basis, envelope, _float32(rng, 5, 3 * n)


def _triplets(source, destination, unit, basis, envelope, atoms):
    """Eq. 2 of Chen and Ong as it is printed: for every bond a sum over the other bonds of its atom."""
    n = basis.shape[1] // 3
    rows = []
    for c in range(len(source)):
        total = torch.zeros(3 * n, dtype=torch.float64)
        for k in range(len(source)):
            if k == c or source[k] != source[c]:
                continue
            cosine = (unit[c] * unit[k]).sum()
            for l, legendre in enumerate((torch.ones(()), cosine, 1.5 * cosine**2 - 0.5)):  # noqa: E741
                harmonic = np.sqrt((2 * l + 1) / (4 * np.pi)) * legendre
                cut = slice(l * n, (l + 1) * n)
                total[cut] = total[cut] + basis[k, cut] * atoms[destination[k], cut] * harmonic
        rows.append(total * envelope[c])
    return torch.stack(rows)


@pytest.mark.parametrize("python", [False, True])
def test_three_body_sums_equal_those_over_triplets(python):
    rng = np.random.default_rng(2)
    n = 3
    source, destination, unit, basis, envelope, atoms = _bonds(rng, n)
    arrays = (unit, basis, envelope, atoms)
    leaves = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    expected = _triplets(source, destination, *leaves)
    pull = _float32(rng, *basis.shape)
    references = torch.autograd.grad((expected * torch.tensor(pull.astype(np.float64))).sum(), leaves)
    moments, received = np.zeros((5, 10 * n), np.float32), np.empty_like(basis)
    (three_body_forward.py_func if python else three_body_forward)(
        source, destination, unit, basis, envelope, atoms, moments, received
    )
    np.testing.assert_allclose(received, expected.detach().numpy(), atol=1e-5)
    gradients = [np.zeros_like(a) for a in arrays]
    (three_body_backward.py_func if python else three_body_backward)(
        pull, source, destination, unit, basis, envelope, atoms, moments, *gradients
    )
    # P_l(1) = 1 holds for unit vectors only, so that the self term hides a part along the vector: it has no effect
    # on an edge vector, whose length the unit vector does not know.
    along = (gradients[0] * unit).sum(axis=1) - (references[0].numpy() * unit).sum(axis=1)
    gradients[0] -= along[:, None] * unit
    for ours, reference in zip(gradients, references, strict=True):
        np.testing.assert_allclose(ours, reference.numpy(), atol=2e-5)


@pytest.mark.parametrize("python", [False, True])
def test_edge_forces_of_a_stretched_pair(python):
    # Two atoms 2 Å apart along x, pulled together by 3 eV/Å, seen from both ends.
    vectors = np.array([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])
    gradient = 1.5 * vectors / 2.0
    forces, virial = np.zeros((2, 3)), np.zeros((1, 3, 3))
    (edge_forces.py_func if python else edge_forces)(
        np.array([0, 1]), np.array([1, 0]), np.array([0, 0]), vectors, gradient, forces, virial
    )
    np.testing.assert_allclose(forces, [[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])
    np.testing.assert_allclose(virial[0], np.diag([6.0, 0.0, 0.0]))


def test_edge_forces_equal_a_naive_sum():
    rng = np.random.default_rng(1)
    source, destination = np.sort(rng.integers(0, 6, 40)), rng.integers(0, 6, 40)
    owners = np.array([0, 0, 0, 1, 1, 1])
    vectors, gradient = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    forces, virial = np.zeros((6, 3)), np.zeros((2, 3, 3))
    edge_forces(source, destination, owners, vectors, gradient, forces, virial)
    expected, strain = np.zeros((6, 3)), np.zeros((2, 3, 3))
    np.add.at(expected, source, gradient)
    np.add.at(expected, destination, -gradient)
    np.add.at(strain, owners[source], vectors[:, :, None] * gradient[:, None, :])
    np.testing.assert_allclose(forces, expected, atol=1e-12)
    np.testing.assert_allclose(virial, strain, atol=1e-12)


@pytest.mark.parametrize("python", [False, True])
def test_row_product_is_the_product_row_by_row(python):
    rng = np.random.default_rng(0)
    rows, matrix = _float32(rng, 17, 9), _float32(rng, 9, 11)
    out = np.full((17, 11), np.nan, np.float32)
    (row_product.py_func if python else row_product)(rows, matrix, out)
    np.testing.assert_allclose(out, rows.astype(np.float64) @ matrix, atol=1e-5)
    if not python:
        again, order = np.empty_like(out), rng.permutation(17)
        row_product(rows[order], matrix, again)
        np.testing.assert_array_equal(again, out[order])


@pytest.mark.parametrize("python", [False, True])
def test_a_row_of_a_tile_product_depends_on_its_place_modulo_rows_alone(python):
    rng = np.random.default_rng(0)
    product = tile_product.py_func if python else tile_product
    for width in (9, 64, 128):
        matrix = _float32(rng, 64, width)
        block = _float32(rng, ROWS, 64)
        alone = np.empty((ROWS, width), np.float32)
        product(block, matrix, alone)
        np.testing.assert_allclose(alone, block.astype(np.float64) @ matrix, atol=1e-4)
        for count in (2, 5, 6, 7, 11):
            rows, out = _float32(rng, count * ROWS, 64), np.empty((count * ROWS, width), np.float32)
            for place in range(0, len(rows), ROWS):
                rows[place : place + ROWS] = block
                product(rows, matrix, out)
                np.testing.assert_array_equal(out[place : place + ROWS], alone)


@pytest.mark.parametrize("python", [False, True])
def test_spherical_bessel_basis(python):
    rng = np.random.default_rng(0)
    cutoff, distances = 5.0, np.array([0.7, 1.9, 2.5, 4.0, 4.999, 5.0, 7.0])
    roots = np.array([[3.14159265, 6.28318531], [4.49340946, 7.72525184], [5.76345920, 9.09501133]])
    norms = rng.uniform(0.1, 1.0, roots.shape)
    values, slopes = np.empty((7, 6), np.float32), np.empty((7, 6), np.float32)
    kernel = spherical_bessel_basis.py_func if python else spherical_bessel_basis
    kernel(distances, roots, norms, cutoff, values, slopes)
    for order in range(3):
        for k in range(2):
            x = roots[order, k] * np.minimum(distances, cutoff) / cutoff
            expected = norms[order, k] * spherical_jn(order, x)
            slope = norms[order, k] * spherical_jn(order, x, derivative=True) * roots[order, k] / cutoff
            np.testing.assert_allclose(values[:, 2 * order + k], expected, atol=1e-6)
            np.testing.assert_allclose(slopes[:-1, 2 * order + k], slope[:-1], atol=1e-6)
    assert not slopes[-1].any()


@pytest.mark.parametrize("python", [False, True])
def test_edges_are_filled_up(python):
    edges = np.array([2, 0, 5, 4])
    source, destination = np.arange(11), np.arange(11)[::-1].copy()
    vectors = np.arange(33.0).reshape(11, 3)
    first, second, apart, places = np.full(16, -1), np.full(16, -1), np.zeros((16, 3)), np.empty(11, np.int64)
    (fill_edges.py_func if python else fill_edges)(source, destination, vectors, edges, 4, first, second, apart, places)
    assert places.tolist() == [0, 1, 4, 5, 6, 7, 8, 12, 13, 14, 15]
    assert first.tolist() == [0, 1, -1, -1, 2, 3, 4, 5, 6, -1, -1, -1, 7, 8, 9, 10]
    np.testing.assert_array_equal(second[places], destination)
    np.testing.assert_array_equal(apart[places], vectors)
