"""A structure's result depends on nothing but itself: not on its companions, its place, or the size of the batch."""

from functools import cache
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from pipeline.surrogates import Relaxation
from pipeline.surrogates.relaxation import OptimizerName
from tests.morse import morse_potential
from tests.potentials import POTENTIALS_ON_DEVICES, SALTS, compact, load, rock_salt

ENERGY_TOLERANCE = 1e-5
"""eV/atom: float32 sums of a few eV in another order."""


@cache
def crystal(seed: int) -> Structure:
    """A random one: a distorted salt of two to eight atoms, a vacancy in every third of the larger."""
    metal, halogen, a = SALTS[seed % len(SALTS)]
    shape = [(1, 1, 1), (2, 1, 1), (1, 2, 2)][seed % 3]
    found = rock_salt(metal, halogen, a, seed) * shape
    if len(found) == 8 and seed % 2:
        found.remove_sites([seed % 8])
    return found


# Some thirty different crystals, so that each is met in many batches; equal ones may meet too.
BATCHES = st.lists(st.integers(0, 29), min_size=2, max_size=10)
BUDGETS = st.sampled_from([1, 250, 1_000, 100_000])


@pytest.mark.parametrize("case", POTENTIALS_ON_DEVICES)
def test_energy_does_not_depend_on_companions_or_place(case):
    potential = load(*case)

    @cache
    def alone(seed):
        return potential.evaluate([crystal(seed)])[0]

    # The last failing example is shown by hypothesis; nothing is kept on disk.
    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(seeds=BATCHES, budget=BUDGETS)
    def check(seeds, budget):
        potential.guarded.edges_per_batch = budget
        for seed, result in zip(seeds, potential.evaluate([crystal(s) for s in seeds]), strict=True):
            n = len(crystal(seed))
            assert result.energy == pytest.approx(alone(seed).energy, abs=ENERGY_TOLERANCE * n)
            np.testing.assert_allclose(result.forces, alone(seed).forces, atol=1e-4)

    check()


@cache
def relaxed_alone(seed: int) -> Relaxation:
    return morse_potential().relax([compact(crystal(seed))], max_steps=60)[0]


@settings(max_examples=15, deadline=None, database=None)
@given(seeds=BATCHES, budget=BUDGETS)
def test_relaxation_does_not_depend_on_companions_or_place(seeds, budget):
    potential = morse_potential()
    potential.guarded.edges_per_batch = budget
    results = potential.relax([compact(crystal(s)) for s in seeds], max_steps=60)
    for seed, result in zip(seeds, results, strict=True):
        expected = relaxed_alone(seed)
        assert (result.error, result.converged) == (expected.error, expected.converged)
        assert result.n_steps == expected.n_steps
        assert result.energy / len(result.structure) == pytest.approx(
            expected.energy / len(result.structure), abs=ENERGY_TOLERANCE
        )


@pytest.mark.data
@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_m3gnet_relaxes_to_the_same_bits_in_every_batch(optimizer):
    potential = load("M3GNet-MP-2021.2.8-PES", "cpu")
    seeds = np.random.default_rng(4).permutation(30)[:9]

    def relaxed(chosen, budget):
        potential.guarded.edges_per_batch = budget
        results = potential.relax([crystal(int(s)) for s in chosen], optimizer=optimizer, rattle=0.02)
        return dict(zip(chosen.tolist(), results, strict=True))

    one_by_one, together = relaxed(seeds, 1), relaxed(seeds[::-1], 2_000)
    assert all(r.converged for r in together.values())
    assert max(r.n_steps for r in together.values()) > 5
    for seed, alone in one_by_one.items():
        assert (alone.energy, alone.n_steps) == (together[seed].energy, together[seed].n_steps)
        np.testing.assert_array_equal(alone.structure.lattice.matrix, together[seed].structure.lattice.matrix)
        np.testing.assert_array_equal(alone.structure.frac_coords, together[seed].structure.frac_coords)


def test_the_crystals_differ():
    structures = [crystal(seed) for seed in range(30)]
    assert {len(s) for s in structures} == {2, 4, 7, 8}
    assert len({s.volume for s in structures}) == 30
