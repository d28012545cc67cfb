"""Parity with matgl 1.1.3 on DGL, whose predictions for 30 distorted crystals come with the data."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from pipeline.surrogates import load_potential, load_property_model
from pipeline.surrogates.property_model import FIDELITIES

pytestmark = pytest.mark.data

POTENTIALS = ("M3GNet-MP-2021.2.8-PES", "M3GNet-MatPES-PBE-v2025.1-PES")
FORMATION = ("MEGNet-MP-2018.6.1-Eform", "M3GNet-MP-2018.6.1-Eform")
GAP = "MEGNet-MP-2019.4.1-BandGap-mfi"
EV_PER_A3_IN_GPA = 160.21766208


@pytest.fixture(scope="module")
def reference():
    path = Path(os.environ["IONSIEVE_DATA"]) / "reference" / "matgl_dgl_predictions.json.gz"
    with gzip.open(path, "rt") as stream:
        return json.load(stream)


@pytest.fixture(scope="module")
def structures(reference):
    return [Structure(row["lattice"], row["species"], row["frac_coords"]) for row in reference]


def _check_potential(results, name, reference):
    for result, row in zip(results, reference, strict=True):
        expected = row[name]
        n = len(row["species"])
        # The bounds of the project's parity requirement; matgl's float32 and its misplaced three-body term
        # (see CatalogueEntry.three_body) leave 4e-5 eV/atom, 1.2e-3 eV/Å and 3e-3 GPa.
        assert result.energy / n == pytest.approx(expected["energy_eV"] / n, abs=1e-4)
        np.testing.assert_allclose(result.forces, expected["forces_eV_per_A"], atol=2e-3)
        stress = np.reshape(expected["stress_GPa"], (3, 3))
        np.testing.assert_allclose(result.stress * EV_PER_A3_IN_GPA, stress, atol=5e-3)


@pytest.mark.parametrize("name", POTENTIALS)
def test_potentials(name, reference, structures):
    _check_potential(load_potential(name).evaluate(structures), name, reference)


@pytest.mark.parametrize("name", FORMATION)
def test_formation_energies(name, reference, structures):
    predicted = load_property_model(name).predict(structures)
    np.testing.assert_allclose(predicted, [row[name] for row in reference], atol=1e-3)


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_band_gaps(fidelity, reference, structures):
    predicted = load_property_model(GAP).predict(structures, state=fidelity)
    np.testing.assert_allclose(predicted, [row[GAP][fidelity] for row in reference], atol=1e-3)


def test_two_conventions_alternate_in_one_process(tmp_path, reference, structures):
    """A copy of the weights, changed in one digit so that the catalogue does not know it, declared ``source``."""
    import torch

    from pipeline.surrogates import locate

    name = POTENTIALS[0]
    files = locate(name).files
    folder = tmp_path / "declared-source"
    folder.mkdir()
    (folder / "model.json").write_bytes(files["model.json"].read_bytes())
    state = torch.load(files["state.pt"], weights_only=True, map_location="cpu")
    state["data_mean"] = state["data_mean"] + 1e-7
    torch.save(state, folder / "state.pt")
    known = load_potential(name)
    other = load_potential(folder, convention="source")
    gaps = load_property_model(GAP)
    few = structures[:6]
    wrong = [result.energy for result in other.evaluate(few)]
    for _ in range(2):
        _check_potential(known.evaluate(few), name, reference[:6])
        assert [result.energy for result in other.evaluate(few)] == wrong
        predicted = gaps.predict(few, state="HSE")
        np.testing.assert_allclose(predicted, [row[GAP]["HSE"] for row in reference[:6]], atol=1e-3)
    # The wrong convention is wrong by tenths of an eV an atom, not by noise.
    error = [abs(e - row[name]["energy_eV"]) / len(row["species"]) for e, row in zip(wrong, reference[:6], strict=True)]
    assert min(error) > 0.05
    # Declared as what it is, the copy agrees.
    _check_energies = load_potential(folder, convention="destination").evaluate(few)
    for result, row in zip(_check_energies, reference[:6], strict=True):
        assert result.energy == pytest.approx(row[name]["energy_eV"], abs=1e-4 * len(row["species"]))


def test_relaxation_is_never_above_ase_on_distorted_crystals(structures):
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from pymatgen.io.ase import AseAtomsAdaptor

    potential = load_potential(POTENTIALS[0])
    chosen = [structures[i] for i in (6, 8, 17, 18, 19, 27)]
    for structure, ours in zip(chosen, potential.relax(chosen), strict=True):
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.calc = potential.as_ase_calculator()
        assert FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.05, steps=500)
        assert ours.converged
        assert ours.energy <= atoms.get_potential_energy() + 1e-3 * len(structure)
