"""The quasi-Newton optimiser: its path against a naive one, its independence of companions, and its safeguards.

Then the same after FIRE's first steps.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from pipeline.surrogates.batch import BatchResult, CrystalBatch, batch_from_structures
from pipeline.surrogates.relaxation import BatchedRelaxation, RelaxationSettings
from tests.morse import Morse, MorseOneByOne, morse_potential
from tests.naive_quasi_newton import crystal, naive_relaxation


@pytest.mark.parametrize("relax_cell", [True, False])
def test_the_path_is_that_of_a_naive_version(relax_cell):
    # Crystals that are never led uphill, together in a batch that is filled and emptied.
    structures = [crystal(k, scale, n) for k, (scale, n) in enumerate([(1, 4), (0.95, 4), (1.05, 4), (1, 3)])]
    settings = RelaxationSettings(optimizer="quasi-newton", fmax=0.01, relax_cell=relax_cell)
    found = BatchedRelaxation(Morse(), settings).run(batch_from_structures(structures))
    for structure, ours in zip(structures, found, strict=True):
        positions, steps = naive_relaxation(structure, 0.01, settings.energy_tolerance, relax_cell)
        assert ours.converged
        assert ours.n_steps == steps
        np.testing.assert_allclose(ours.positions, positions, atol=1e-7)  # rounding, grown over the steps


def test_it_needs_far_fewer_steps_than_fire_and_ends_no_higher():
    structures = [crystal(k, scale) for k, scale in enumerate(np.linspace(0.93, 1.1, 12))]
    fast = morse_potential().relax(structures, optimizer="quasi-newton")
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
    settings = RelaxationSettings(optimizer="quasi-newton", fmax=1e-6, relax_cell=False)
    (found,) = BatchedRelaxation(Well(places, 8.0), settings).run(batch_from_structures([start]))
    assert found.converged
    # Nine variables beside the three shifts: with exact line searches BFGS would need nine steps at most.
    assert found.n_steps <= 14
    np.testing.assert_allclose(found.positions - found.positions[0], places - places[0], atol=1e-6)


CRYSTALS = [crystal(k, scale, n) for k, (scale, n) in enumerate([(1, 4), (0.9, 4), (1.1, 4), (1, 3), (0.95, 2)])]
PATHS: dict[tuple[str, int], object] = {}


@pytest.mark.parametrize("optimizer", ["quasi-newton", "fire-quasi-newton"])
@settings(max_examples=25, deadline=None, database=None)
@given(chosen=st.lists(st.integers(0, 4), min_size=1, max_size=9), budget=st.sampled_from([1, 300, 700, 10_000]))
def test_companions_and_place_change_not_a_bit(optimizer, chosen, budget):
    how = RelaxationSettings(optimizer=optimizer, fmax=0.02, max_steps=60)

    def run(which, edges):
        model = MorseOneByOne()
        model.edges_per_batch = edges
        return BatchedRelaxation(model, how).run(batch_from_structures([CRYSTALS[k] for k in which]))

    for k, ours in zip(chosen, run(chosen, budget), strict=True):
        if (optimizer, k) not in PATHS:
            (PATHS[optimizer, k],) = run([k], 1)
        alone = PATHS[optimizer, k]
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
    (found,) = BatchedRelaxation(
        model,
        RelaxationSettings(optimizer="quasi-newton"),
    ).run(batch_from_structures([start]))
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
    (found,) = BatchedRelaxation(
        model,
        RelaxationSettings(optimizer="quasi-newton"),
    ).run(batch_from_structures([crystal(0)]))
    assert found.converged
    assert longest_move(model, 0, 2) <= 0.5 * longest_move(model, 0, 1) * (1 + 1e-9)


def test_energies_that_contradict_forces_end_with_the_steps():
    # Every step seems to lead uphill: after four returns the crystal goes on all the same.
    model = Bump(lambda k: 1.0 * k)
    settings = RelaxationSettings(optimizer="quasi-newton", max_steps=60)
    (found,) = BatchedRelaxation(model, settings).run(batch_from_structures([crystal(0)]))
    assert (found.error, found.n_steps) == (None, 60)
    # Four tries around the start, each nearer to it, and only then a new place.
    tries = [longest_move(model, 0, k) for k in range(1, 6)]
    assert all(b <= 0.5 * a * (1 + 1e-9) for a, b in pairwise(tries))
    assert longest_move(model, 5, 6) > tries[4]
    assert all(longest_move(model, k, k + 1) <= 0.4 for k in range(60))


def test_small_forces_are_not_enough_where_much_energy_is_left():
    # Springs so soft that 0.05 eV/Å hide 0.017 eV, which the optimiser has learnt when it comes there.
    start = crystal(0)
    places = start.cart_coords
    places[0] += [2.0, 0.0, 0.0]
    model = Well(places, 0.1)
    batch = batch_from_structures([start])
    (patient,) = BatchedRelaxation(model, RelaxationSettings(optimizer="quasi-newton", relax_cell=False)).run(batch)
    (hasty,) = BatchedRelaxation(
        model, RelaxationSettings(optimizer="quasi-newton", relax_cell=False, energy_tolerance=1.0)
    ).run(batch)
    limited = RelaxationSettings(optimizer="quasi-newton", relax_cell=False, max_steps=hasty.n_steps)
    (bounded,) = BatchedRelaxation(model, limited).run(batch)
    assert hasty.converged
    assert patient.converged
    assert patient.energy < 2 * 4 * 5e-5 < hasty.energy
    # The bound on steps is hard, and what has small forces there has converged.
    assert patient.n_steps > hasty.n_steps
    assert (bounded.n_steps, bounded.converged) == (hasty.n_steps, True)


def positions_asked(start, **how):
    model = MorseOneByOne()
    (found,) = BatchedRelaxation(model, RelaxationSettings(**how)).run(batch_from_structures([start]))
    return model.asked, found


# FIRE comes to small forces before its 40 steps are over, or not.
@pytest.mark.parametrize(("shaken", "hands_over_early"), [(0.0, True), (0.3, False)])
def test_fire_leads_and_then_hands_over(shaken, hands_over_early):
    start = crystal(1) if hands_over_early else crystal(5, 1.35).perturb(shaken, seed=5)
    fire, _ = positions_asked(start, optimizer="fire", fmax=1e-3)
    both, found = positions_asked(start, optimizer="fire-quasi-newton", fmax=1e-3)
    forces = [
        np.abs(Morse().evaluate_batch(CrystalBatch(p, c[None], np.array([11, 17, 3, 11]), np.array([4]))).forces).max()
        for p, c in fire
    ]
    led = next(k for k in range(len(both)) if not np.array_equal(both[k][0], fire[k][0])) - 1
    assert (led < 40) == hands_over_early
    assert led <= 40
    for (a, cell), (b, other) in zip(both[: led + 1], fire[: led + 1], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(cell, other)
    if hands_over_early:
        assert forces[led] <= 0.1
    # From there on it is what the quasi-Newton optimiser does from that place, until a push comes.
    positions, cell = both[led]
    middle = Structure(Lattice(cell), start.species, positions, coords_are_cartesian=True, to_unit_cell=False)
    alone, rest = positions_asked(middle, optimizer="quasi-newton", fmax=1e-3)
    for (a, _), (b, _) in zip(both[led:], alone, strict=False):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert found.converged
    pushed = led + rest.n_steps
    moved = both[pushed + 1][0] - both[pushed][0]
    assert 0.01 < np.sqrt((moved**2).mean()) < 0.03
    # This one is a minimum, which is found again.
    assert found.n_steps > pushed + 1
    assert found.energy == pytest.approx(rest.energy, abs=4 * 5e-5)


class DoubleWell(Well):
    """Atoms at the top between two places along x, 0.4 Å from each: no force there, by symmetry."""

    def evaluate_batch(self, batch):
        result = super().evaluate_batch(batch)
        away = batch.positions - self.places
        x, half = away[:, 0] - away[:, 0].mean(), 0.4
        # instead of the spring along x: E = h ((x / half)^2 - 1)^2
        height = 0.5
        result.energies[0] += (height * ((x / half) ** 2 - 1.0) ** 2 - 0.5 * self.stiffness * x**2).sum()
        force = -4.0 * height * ((x / half) ** 2 - 1.0) * x / half**2 + self.stiffness * x
        result.forces[:, 0] += force - force.mean()
        return result


def test_saddles_are_left():
    start = crystal(0)
    batch = batch_from_structures([start])

    def ends(optimizer):
        how = RelaxationSettings(optimizer=optimizer, relax_cell=False, fmax=1e-3)
        return BatchedRelaxation(DoubleWell(start.cart_coords, 8.0), how).run(batch)[0]

    on_the_saddle, down = ends("fire"), ends("fire-quasi-newton")
    assert on_the_saddle.converged
    assert on_the_saddle.n_steps == 0
    assert down.converged
    assert down.energy < on_the_saddle.energy - 1.0


def test_the_bound_on_steps_counts_those_of_both():
    start = crystal(5, 1.35).perturb(0.3, seed=5)
    _, found = positions_asked(start, optimizer="fire-quasi-newton", fmax=1e-3, max_steps=43)
    assert (found.n_steps, found.converged) == (43, False)
