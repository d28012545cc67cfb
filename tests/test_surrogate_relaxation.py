"""Batched relaxation with a model whose answers are known: a Morse solid."""

import numpy as np
import pytest
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from pipeline.surrogates.active import matrix_exponential
from pipeline.surrogates.batch import fill_by_edges
from pipeline.surrogates.potential import structure_key
from pipeline.surrogates.relaxation import RelaxationSettings
from tests.morse import Morse, morse_potential


def _distorted(seed, scale=1.0, n=4):
    rng = np.random.default_rng(seed)
    matrix = np.eye(3) * 3.55 * scale + rng.normal(0.0, 0.15, (3, 3))
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])[:n]
    return Structure(Lattice(matrix), ["Na", "Cl", "Li", "Na"][:n], sites + rng.normal(0.0, 0.03, (n, 3)))


def _crystals():
    return [_distorted(k, scale, n) for k, (scale, n) in enumerate([(1, 4), (0.9, 4), (1.1, 4), (1, 3), (0.95, 4)])]


@pytest.mark.parametrize("relax_cell", [True, False])
def test_follows_ase_step_by_step(relax_cell):
    potential = morse_potential()
    structures = _crystals()
    relaxed = potential.relax(structures, fmax=0.01, relax_cell=relax_cell, optimizer="fire")
    for structure, ours in zip(structures, relaxed, strict=True):
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.calc = potential.as_ase_calculator()
        optimiser = FIRE(FrechetCellFilter(atoms) if relax_cell else atoms, logfile=None)
        assert optimiser.run(fmax=0.01, steps=500)
        assert ours.converged
        # Two runs that both stop at 0.01 eV/Å in the same well; the energy is quadratic in what is left.
        assert ours.energy / len(structure) == pytest.approx(atoms.get_potential_energy() / len(structure), abs=5e-4)
        assert ours.energy <= atoms.get_potential_energy() + 1e-3 * len(structure)
        if not relax_cell:
            # Without a cell the algorithm is literally ASE's.
            assert ours.n_steps == optimiser.nsteps
            np.testing.assert_allclose(ours.structure.cart_coords, atoms.get_positions(), atol=1e-8)
            np.testing.assert_allclose(ours.structure.lattice.matrix, structure.lattice.matrix, atol=1e-12)


def test_fmax_means_what_it_means_in_ase():
    potential = morse_potential()
    (relaxed,) = potential.relax([_distorted(0)], fmax=0.02)
    atoms = AseAtomsAdaptor.get_atoms(relaxed.structure)
    atoms.calc = potential.as_ase_calculator()
    largest = np.linalg.norm(FrechetCellFilter(atoms).get_forces(), axis=1).max()
    assert largest == pytest.approx(relaxed.max_force, abs=1e-8)
    assert largest <= 0.02


def test_energy_and_volume_are_those_of_the_structure_returned():
    potential = morse_potential()
    structure = _distorted(1)
    (relaxed,) = potential.relax([structure])
    (start,), (end,) = potential.evaluate([structure]), potential.evaluate([relaxed.structure])
    assert relaxed.energy_initial == pytest.approx(start.energy, abs=1e-9)
    assert relaxed.energy == pytest.approx(end.energy, abs=1e-9)
    assert relaxed.energy < relaxed.energy_initial
    assert relaxed.volume_change == pytest.approx(relaxed.structure.volume / structure.volume - 1.0)


def test_result_does_not_depend_on_companions_or_order():
    structures = _crystals()
    alone = [morse_potential().relax([s])[0] for s in structures]
    together = morse_potential().relax(structures)
    backwards = morse_potential().relax(structures[::-1])[::-1]
    for a, b, c in zip(alone, together, backwards, strict=True):
        assert a.n_steps == b.n_steps == c.n_steps
        # The model is float64 here; only the order of sums differs.
        assert a.energy == pytest.approx(b.energy, abs=1e-9)
        assert a.energy == pytest.approx(c.energy, abs=1e-9)


def test_waiting_crystals_enter_when_others_leave():
    potential = morse_potential()
    results = potential.relax(_crystals() * 3)
    assert all(r.converged for r in results)
    model = potential.evaluator
    assert model.evaluations == sum(r.n_steps + 1 for r in results)
    assert max(model.batches) < len(results)
    # Batches are kept full: far fewer calls than crystals relaxed one after the other would need.
    assert len(model.batches) < 0.7 * model.evaluations


def test_poisoned_rows_fail_alone():
    good = _crystals()
    overlapping = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]])
    unknown = Structure(Lattice.cubic(5.0), ["Xe"], [[0, 0, 0]])
    needle = Structure(Lattice.orthorhombic(0.01, 100.0, 100.0), ["Na"], [[0, 0, 0]])
    tiny = Structure(Lattice.cubic(0.1), ["Na"], [[0, 0, 0]])
    undefined = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, np.nan]])
    partial = Structure(Lattice.cubic(5.0), [{"Na": 0.5}], [[0, 0, 0]])
    bad = [overlapping, unknown, needle, tiny, undefined, partial]
    mixed = [good[0], overlapping, unknown, good[1], needle, tiny, good[2], undefined, partial, good[3], good[4]]
    results = morse_potential().relax(mixed)
    expected = iter(morse_potential().relax(good))
    kinds = {}
    for structure, result in zip(mixed, results, strict=True):
        if any(structure is b for b in bad):
            assert not result.converged
            assert np.isnan(result.energy)
            kinds[id(structure)] = result.error.split(":")[0]
        else:
            reference = next(expected)
            assert result.error is None
            assert result.energy == pytest.approx(reference.energy, abs=1e-9)
    assert [kinds[id(b)] for b in bad] == [
        "CollidingAtoms",
        "UnknownElement",
        "CollidingAtoms",
        "GraphTooLarge",
        "NonFiniteCoordinates",
        "DisorderedStructure",
    ]
    assert "atoms 0 and 1 are 0 Å apart after 0 steps" in results[1].error
    evaluations = morse_potential().evaluate(mixed)
    # Colliding atoms are no reason not to look at a structure: a finite energy is reported.
    hopeless = ("UnknownElement", "GraphTooLarge", "NonFinite", "Disordered")
    assert [e.error is not None for e in evaluations] == [(r.error or "").startswith(hopeless) for r in results]


def test_exploding_volume_fails_alone():
    # Loosely packed atoms pull together to a fraction of the volume.
    gas = Structure(
        Lattice.cubic(4.8), ["Na", "Na", "Na", "Na"], [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    )
    settings = RelaxationSettings(max_volume_ratio=1.5, max_steps=500)
    results = morse_potential().relax([_distorted(0), gas], settings=settings)
    assert results[0].converged
    assert results[1].error.startswith("ExplodingVolume: ")
    assert np.isfinite(results[1].volume_change)


def test_model_that_returns_nan_fails_only_that_crystal():
    class Broken(Morse):
        def evaluate_batch(self, batch):
            result = super().evaluate_batch(batch)
            result.energies[batch.counts == 3] = np.nan
            return result

    results = morse_potential(Broken()).relax(_crystals())
    assert [r.error is None for r in results] == [True, True, True, False, True]
    assert results[3].error.startswith("NonFiniteResult: ")


def test_steps_are_bounded():
    (result,) = morse_potential().relax([_distorted(0)], max_steps=3)
    assert not result.converged
    assert result.error is None
    assert result.n_steps == 3
    assert result.max_force > 0.05
    (unmoved,) = morse_potential().relax([_distorted(0)], max_steps=0)
    np.testing.assert_allclose(unmoved.structure.cart_coords, _distorted(0).cart_coords, atol=1e-12)


def test_rattle_depends_on_seed_and_key_only():
    structures = _crystals()

    def starts(items, **kwargs):
        return [r.energy_initial for r in morse_potential().relax(items, max_steps=0, rattle=0.02, **kwargs)]

    forward = starts(structures, seed=1)
    assert starts(structures[::-1], seed=1)[::-1] == pytest.approx(forward, abs=1e-9)
    assert starts(structures, seed=2) != pytest.approx(forward, abs=1e-6)
    keyed = starts([structures[0]] * 2, keys=["a", "b"])
    assert keyed[0] != pytest.approx(keyed[1], abs=1e-6)
    assert starts([structures[0]], keys=["b"]) == pytest.approx([keyed[1]], abs=1e-9)


def test_minus_zero_is_zero_for_a_key():
    places = [[[x, 0.0, 0.0], [0.5, 0.5, 0.5]] for x in (0.0, -0.0, -1e-12)]
    assert len({structure_key(Structure(Lattice.cubic(4.0), ["Na", "Cl"], each)) for each in places}) == 1


def test_rattle_leaves_a_saddle():
    # Equally spaced atoms in a stretched chain feel no force, but are not at a minimum.
    chain = Structure(Lattice.orthorhombic(6.4, 12.0, 12.0), ["Na", "Na"], [[0, 0, 0], [0.5, 0, 0]])
    (saddle,) = morse_potential().relax([chain], 0.01, relax_cell=False, optimizer="quasi-newton")
    (left,) = morse_potential().relax([chain], 0.01, relax_cell=False, optimizer="quasi-newton", rattle=0.02)
    (pushed,) = morse_potential().relax([chain], 0.01, relax_cell=False)
    assert saddle.n_steps == 0
    assert left.energy < saddle.energy - 0.1
    assert pushed.energy < saddle.energy - 0.1


def test_nothing_in_nothing_out():
    assert morse_potential().relax([]) == []
    assert morse_potential().evaluate([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fmax": 0.0}, "fmax must be positive"),
        ({"max_steps": -1}, "max_steps must not be negative"),
        ({"rattle": -0.1}, "rattle must be a displacement"),
        ({"keys": ["a", "b"]}, "2 keys for 1 structures"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        morse_potential().relax([_distorted(0)], **arguments)


def test_matrix_exponential_of_a_diagonal():
    values = np.array([[0.1, -0.2, 0.3], [0.0, 0.0, 0.0]])
    diagonal = values[:, :, None] * np.eye(3)
    np.testing.assert_allclose(matrix_exponential(diagonal), np.exp(values)[:, :, None] * np.eye(3), atol=1e-15)


def test_batches_are_filled_by_cost():
    assert fill_by_edges([4, 4, 4, 20, 1, 1], 8) == [[0, 1], [2], [3], [4, 5]]
    assert fill_by_edges([], 8) == []
