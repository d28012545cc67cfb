"""What every potential must do, for each that is available: CHGNet always, the others with IONSIEVE_DATA.

On the CPU always, and with ``pytest -m gpu`` on CUDA.
"""

import contextlib
import io
import warnings

import numpy as np
import pytest
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from pipeline.surrogates import CATALOGUE, load_potential, load_property_model
from pipeline.surrogates.dynamics import run_dynamics
from pipeline.surrogates.dynamics_settings import DynamicsSettings
from tests.potentials import POTENTIALS_ON_DEVICES, load

PROPERTY_MODELS = [name for name, entry in CATALOGUE.items() if entry.kind == "property"]


def _rock_salt(a=5.69, metal="Na", halogen="Cl"):
    return Structure(
        Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]), [metal, halogen], [[0, 0, 0], [0.5] * 3]
    )


def _distorted(seed=0):
    rng = np.random.default_rng(seed)
    structure = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.95), ["Li", "O", "Cl"], [[0.5, 0, 0], [0.5] * 3, [0] * 3]
    )
    matrix = structure.lattice.matrix @ (np.eye(3) + rng.normal(0.0, 0.02, (3, 3)))
    return Structure(Lattice(matrix), structure.species, structure.frac_coords + rng.normal(0.0, 0.01, (5, 3)))


@pytest.fixture(scope="module", params=POTENTIALS_ON_DEVICES)
def potential(request):
    return load(*request.param)


def test_describes_itself(potential):
    entry = CATALOGUE[potential.name]
    assert potential.sha256 in entry.sha256.values()
    assert potential.scheme == entry.scheme
    assert potential.elements == entry.elements


def test_shapes_symmetry_and_zero_net_force(potential):
    (result,) = potential.evaluate([_distorted()])
    assert result.error is None
    assert result.forces.shape == (5, 3)
    assert result.stress.shape == (3, 3)
    np.testing.assert_array_equal(result.stress, result.stress.T)
    # Newton's third law, in float32 sums of forces of about 1 eV/Å.
    np.testing.assert_allclose(result.forces.sum(axis=0), 0.0, atol=1e-4)


def test_energy_is_extensive(potential):
    cell = _distorted()
    single, double = potential.evaluate([cell, cell * (2, 1, 1)])
    assert double.energy == pytest.approx(2 * single.energy, abs=1e-4)  # float32, ten atoms
    np.testing.assert_allclose(double.stress, single.stress, atol=1e-5)


def test_forces_and_stress_are_derivatives(potential):
    structure = _distorted()
    (center,) = potential.evaluate([structure])
    step = 2e-3

    def difference(make):
        plus, minus = potential.evaluate([make(step), make(-step)])
        return (plus.energy - minus.energy) / (2 * step)

    def moved(shift):
        copy = structure.copy()
        copy.translate_sites([3], [shift, 0, 0], frac_coords=False)
        return copy

    def strained(strain):
        return Structure(structure.lattice.matrix * (1 + strain), structure.species, structure.frac_coords)

    # float32 energies of 30 eV carry some 5e-6 eV of noise, divided by 4e-3; the error of the step is smaller.
    assert -difference(moved) == pytest.approx(center.forces[3, 0], abs=1e-2)
    assert difference(strained) == pytest.approx(np.trace(center.stress) * structure.volume, abs=5e-2)


def test_tension_is_positive(potential):
    stretched, squeezed = potential.evaluate([_rock_salt(6.3), _rock_salt(5.2)])
    assert np.trace(stretched.stress) > 0.0
    assert np.trace(squeezed.stress) < 0.0


def test_result_does_not_depend_on_the_batch(potential):
    structures = [_distorted(k) for k in range(3)] + [_rock_salt()]
    together = potential.evaluate(structures)
    for structure, result in zip(structures, together, strict=True):
        (alone,) = potential.evaluate([structure])
        # float32 sums in another order.
        assert alone.energy == pytest.approx(result.energy, abs=1e-5 * len(structure))
        np.testing.assert_allclose(alone.forces, result.forces, atol=1e-4)


def test_poisoned_structures_fail_alone(potential):
    unknown = _rock_salt(metal="Po")
    overlapping = Structure(Lattice.cubic(5.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]])
    good = _distorted()
    results = potential.relax([good, unknown, overlapping, good], fmax=0.1)
    assert results[1].error.startswith("UnknownElement: the model does not know Po")
    assert results[2].error.startswith("CollidingAtoms: ")
    (alone,) = potential.relax([good], fmax=0.1)
    for result in (results[0], results[3]):
        assert result.error is None
        assert result.energy == pytest.approx(alone.energy, abs=1e-3)  # both stopped below 0.1 eV/Å
    evaluated = potential.evaluate([good, unknown])
    assert evaluated[0].error is None
    assert evaluated[1].error == results[1].error


def test_relaxation_is_never_above_ase(potential):
    structures = [_distorted(0), _rock_salt(5.4), _rock_salt(5.3, "Li", "Br")]
    for structure, ours in zip(structures, potential.relax(structures), strict=True):
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.calc = potential.as_ase_calculator()
        FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.05, steps=500)
        assert ours.converged
        assert ours.energy <= atoms.get_potential_energy() + 1e-3 * len(structure)


def test_lattice_constant_of_sodium_chloride(potential):
    (relaxed,) = potential.relax([_rock_salt(5.5)], fmax=0.02)
    # 5.69 Å in the Materials Project (mp-22862, PBE), on which all these potentials were trained.
    assert (4 * relaxed.structure.volume) ** (1 / 3) == pytest.approx(5.69, abs=0.06)


def test_dynamics_conserves_energy_and_repeats(potential):
    crystals = [_rock_salt() * (2, 2, 1), _rock_salt(5.15, "Li") * (2, 1, 1)]
    settings = DynamicsSettings(ensemble="nve", timestep=1.0, n_steps=60, record_every=5)
    results = run_dynamics(potential, crystals, 600.0, settings)
    assert [result.error for result in results] == [None, None]
    for crystal, result in zip(crystals, results, strict=True):
        # (omega dt)^2 / 8 of the kinetic energy's fluctuation is some 0.05 meV/atom; float32 forces add as much.
        assert np.ptp(result.trajectory.conserved) < 0.5e-3 * len(crystal)
        assert np.ptp(result.trajectory.positions, axis=0).max() > 0.05  # Å
    (again,) = run_dynamics(potential, crystals[:1], 600.0, settings)
    np.testing.assert_allclose(again.trajectory.positions, results[0].trajectory.positions, atol=1e-3)


def test_nothing_is_printed(potential, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential.relax([_rock_salt()], max_steps=1)
    assert capfd.readouterr() == ("", "")


def test_loading_chgnet_prints_nothing():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        load_potential("CHGNet")
    assert out.getvalue() == ""
    assert err.getvalue() == ""


@pytest.mark.data
@pytest.mark.parametrize("name", PROPERTY_MODELS)
def test_property_models(name):
    model = load_property_model(name)
    state = "PBE" if model.n_states else None
    structures = [_rock_salt(), _distorted(), _rock_salt(metal="Po"), _rock_salt(80.0)]
    values, errors = model.predict_with_errors(structures, state)
    assert [error and error.split(":")[0] for error in errors] == [None, None, "UnknownElement", "NoNeighbours"]
    assert np.isnan(values[2:]).all()
    for structure, value in zip(structures[:2], values, strict=False):
        assert model.predict([structure], state)[0] == pytest.approx(value, abs=1e-4)  # float32
    assert len(model.predict([], state)) == 0
    if model.n_states:
        np.testing.assert_array_equal(model.predict(structures, 0), model.predict(structures, "PBE"))
        for bad in (None, 4, "B3LYP", True):
            with pytest.raises(ValueError, match="needs a state: one of PBE, GLLB-SC, HSE, SCAN"):
                model.predict(structures, bad)
    else:
        with pytest.raises(ValueError, match="has no states"):
            model.predict(structures, 0)


def test_chgnet_equals_its_package():
    structures = [_distorted(0), _rock_salt()]
    ours = load_potential("CHGNet").evaluate(structures)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from chgnet.model.model import CHGNet

        network = CHGNet.load(verbose=False, use_device="cpu")
        theirs = network.predict_structure(structures, task="efs")
    for structure, a, b in zip(structures, ours, theirs, strict=True):
        assert a.energy / len(structure) == pytest.approx(float(b["e"]), abs=1e-6)  # float32
        np.testing.assert_allclose(a.forces, b["f"], atol=1e-4)
        np.testing.assert_allclose(a.stress * 160.21766208, b["s"], atol=1e-3)
