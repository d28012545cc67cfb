"""Hopping: closed forms, an exact linear solution, the error bar's coverage, compiled against interpreted."""

import numpy as np
import pytest

from kernels import hopping
from kernels.hopping import tracer_diffusivity

RATE = 1e3


def cubic(spacing=2.0):
    """Simple cubic lattice of one site a cell."""
    return {
        "site_energies": np.zeros(1),
        "edge_sites": np.zeros((3, 2), dtype=int),
        "edge_cells": np.eye(3, dtype=int),
        "edge_vectors": spacing * np.eye(3),
        "edge_rates": np.full((3, 2), RATE),
    }


def chain(first, second):
    """Equal sites in a row, 1 Å apart, with two kinds of barriers in turn."""
    return {
        "site_energies": np.zeros(2),
        "edge_sites": np.array([[0, 1], [1, 0]]),
        "edge_cells": np.array([[0, 0, 0], [1, 0, 0]]),
        "edge_vectors": np.array([[1.0, 0, 0], [1.0, 0, 0]]),
        "edge_rates": np.array([[first, first], [second, second]]),
    }


def random_network(seed, sites=5, edges=9):
    """Sites and passes at random, joined in all three dimensions; energies in kT."""
    rng = np.random.default_rng(seed)
    energies = rng.random(sites)
    ends = np.concatenate([[[0, 0]] * 3, np.column_stack([np.arange(sites - 1), np.arange(1, sites)])])
    ends = np.concatenate([ends, rng.integers(0, sites, size=(edges, 2))])
    cells = np.concatenate([np.eye(3, dtype=int), rng.integers(-1, 2, size=(len(ends) - 3, 3))])
    cells[(ends[:, 0] == ends[:, 1]) & (cells == 0).all(axis=1)] = [1, 1, 0]
    positions = rng.random((sites, 3))
    vectors = (positions[ends[:, 1]] - positions[ends[:, 0]] + cells) @ (3.0 * np.eye(3) + rng.random((3, 3)))
    saddles = 1.0 + 2.0 * rng.random(len(ends))
    return {
        "site_energies": energies,
        "edge_sites": ends,
        "edge_cells": cells,
        "edge_vectors": vectors,
        "edge_rates": RATE * np.exp(-(saddles[:, None] - energies[ends])),
    }


def exact_diffusivity(network):
    """Trace/3 of one carrier's diffusion tensor: the master equation at long times, by linear algebra."""
    n = len(network["site_energies"])
    generator, drift, second = np.zeros((n, n)), np.zeros((n, 3)), np.zeros(n)
    for (a, b), vector, (there, back) in zip(
        network["edge_sites"], network["edge_vectors"], network["edge_rates"], strict=True
    ):
        for start, end, v, rate in ((a, b, vector, there), (b, a, -vector, back)):
            generator[start, end] += rate
            generator[start, start] -= rate
            drift[start] += rate * v
            second[start] += rate * v @ v
    share = np.exp(-network["site_energies"])
    share /= share.sum()
    memory = np.linalg.lstsq(generator, -drift, rcond=None)[0]
    return (second @ share / 2 - np.einsum("s,sx,sx->", share, drift, memory)) / 3


def test_cubic_lattice_is_rate_times_spacing_squared():
    found = tracer_diffusivity(**cubic(), repeats=(1, 1, 1), carriers=64, jumps=300_000, exclusion=False)
    assert found.value == pytest.approx(RATE * 2.0**2, abs=3 * found.error)
    assert found.error < 0.05 * found.value


@pytest.mark.parametrize(("first", "second"), [(RATE, RATE), (RATE, 9 * RATE)])
def test_alternating_barriers_give_the_harmonic_mean(first, second):
    found = tracer_diffusivity(**chain(first, second), repeats=(1, 1, 1), carriers=64, jumps=300_000, exclusion=False)
    # one dimension of three
    expected = 2.0 / (1.0 / first + 1.0 / second) / 3.0
    assert found.value == pytest.approx(expected, abs=3 * found.error)
    assert found.error < 0.1 * expected


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_master_equation(seed):
    network = random_network(seed)
    found = tracer_diffusivity(**network, repeats=(1, 1, 1), carriers=64, jumps=300_000, exclusion=False, seed=seed)
    expected = exact_diffusivity(network)
    assert found.value == pytest.approx(expected, abs=3 * found.error)
    assert found.error < 0.1 * expected


def test_single_vacancy_has_the_correlation_factor_of_the_cubic_lattice():
    # f = 0.6531 on the simple cubic lattice (Montet, Phys. Rev. B 1973, 7, 650): D = f (vacancies/site) rate a²
    found = tracer_diffusivity(**cubic(), repeats=(8, 8, 8), carriers=511, jumps=600_000, blocks=20, seed=1)
    uncorrelated = RATE * 4.0 / 512
    assert found.value / uncorrelated == pytest.approx(0.6531, abs=3 * found.error / uncorrelated)
    assert found.error / uncorrelated < 0.025


def test_error_bar_covers_the_truth_as_often_as_it_says():
    expected = RATE * 4.0
    inside = 0
    for seed in range(60):
        found = tracer_diffusivity(
            **cubic(), repeats=(1, 1, 1), carriers=8, jumps=20_000, blocks=25, seed=seed, exclusion=False
        )
        inside += abs(found.value - expected) <= found.error
    # 68 % of 60 is 41; three standard deviations of that count are 11
    assert 30 <= inside <= 52


def test_rattling_in_a_trap_is_no_diffusion():
    # pairs of sites that a high barrier separates: all jumps are to and fro, though MSD/6t isn't zero
    found = tracer_diffusivity(
        **chain(RATE, 1e-12), repeats=(1, 1, 1), carriers=4, jumps=20_000, exclusion=False, seed=2
    )
    assert found.value == pytest.approx(0.0, abs=3 * found.error)
    assert 0.0 < found.error < 0.02 * RATE / 3.0


def test_hops_over_bottlenecks_are_counted():
    network = chain(RATE, RATE / 9)
    arguments = network | {"repeats": (1, 1, 1), "carriers": 4, "jumps": 51_000, "exclusion": False}
    assert tracer_diffusivity(**arguments).bottleneck_hops == 50_000
    slow = tracer_diffusivity(**arguments, bottlenecks=np.array([False, True])).bottleneck_hops
    # one hop in ten; binomial, three standard deviations are 200
    assert slow == pytest.approx(5000, abs=200)


def test_independent_carriers_keep_to_the_low_network():
    # two networks that don't touch: a slow one, and a fast one that lies 20 kT higher
    network = cubic()
    both = {
        "site_energies": np.array([0.0, 20.0]),
        "edge_sites": np.repeat([[0, 0], [1, 1]], 3, axis=0),
        "edge_cells": np.tile(network["edge_cells"], (2, 1)),
        "edge_vectors": np.tile(network["edge_vectors"], (2, 1)),
        "edge_rates": np.repeat([[RATE, RATE], [1e6 * RATE, 1e6 * RATE]], 3, axis=0),
    }
    found = tracer_diffusivity(**both, repeats=(1, 1, 1), carriers=64, jumps=100_000, exclusion=False)
    assert found.value == pytest.approx(RATE * 2.0**2, abs=3 * found.error)


def test_full_sublattice_stands_still():
    assert tracer_diffusivity(**cubic(), repeats=(3, 3, 3), carriers=27, jumps=1000) == (0.0, 0.0, 0.0, 0)


def test_same_seed_same_result_and_others_differ():
    arguments = cubic() | {"repeats": (3, 3, 3), "carriers": 20, "jumps": 5000}
    first = tracer_diffusivity(**arguments, seed=5)
    assert tracer_diffusivity(**arguments, seed=5) == first
    assert tracer_diffusivity(**arguments, seed=6) != first


@pytest.mark.parametrize("exclusion", [True, False])
def test_compiled_equals_interpreted(monkeypatch, exclusion):
    arguments = random_network(3) | {"repeats": (2, 2, 2), "carriers": 11, "jumps": 1500, "exclusion": exclusion}
    compiled = tracer_diffusivity(**arguments, blocks=5)
    for name in ("_simulate", "_set_rate"):
        monkeypatch.setattr(hopping, name, getattr(hopping, name).py_func)
    # sums of squares are added in another order
    np.testing.assert_allclose(tracer_diffusivity(**arguments, blocks=5), compiled, rtol=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"carriers": 28}, "28 carriers"),
        ({"carriers": 0}, "0 carriers"),
        ({"repeats": (0, 3, 3)}, "carriers don't fit"),
        ({"jumps": 10}, "102 jumps or more, got 10"),
        ({"edge_rates": np.full((3, 2), -1.0)}, "negative"),
        ({"edge_rates": np.full((3, 2), np.nan)}, "not finite"),
        ({"edge_sites": np.full((3, 2), 1)}, "edge_sites"),
        ({"edge_cells": np.zeros((2, 3), dtype=int)}, "edge_cells"),
        ({"edge_vectors": np.zeros((3, 2))}, "edge_vectors"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tracer_diffusivity(**cubic() | {"repeats": (3, 3, 3), "carriers": 5, "jumps": 1000} | changes)
