"""The interface that the README calls stable: names, arguments, what comes back."""

import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.energetics import formation_energy_per_atom
from pipeline.reference import PhaseReference
from pipeline.stages.conduction import migration_barriers
from pipeline.surrogates import load_potential, load_property_model

SALT = Structure(Lattice.cubic(3.2), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_potential() -> None:
    potential = load_potential("CHGNet", device="cpu")
    (evaluation,) = potential.evaluate([SALT])
    assert isinstance(evaluation.energy, float)
    assert evaluation.forces.shape == (2, 3)
    assert evaluation.stress.shape == (3, 3)
    (relaxation,) = potential.relax([SALT], fmax=0.05, max_steps=5)
    assert {"structure", "energy", "converged", "n_steps", "error"} <= set(dir(relaxation))
    atoms = SALT.to_ase_atoms()
    atoms.calc = potential.as_ase_calculator()
    # the same network in the same precision, float32, on a total of some eV
    assert atoms.get_potential_energy() == pytest.approx(evaluation.energy, abs=1e-5)


def test_phase_reference(tmp_path: Path) -> None:
    table = tmp_path / "phases.csv"
    table.write_text("formula,formation_energy_per_atom\nLiCl,-2.0\nNaN,-0.1\n")
    reference = PhaseReference.from_table(table)
    distances = reference.energy_above_hull(["LiCl", "Li2Cl2"], [-1.9, -2.1])
    assert isinstance(distances, np.ndarray)
    assert distances == pytest.approx([0.1, -0.1])
    window = reference.electrochemical_window("LiCl", ion="Li", formation_energy=None)
    # LiCl -> Li + 1/2 Cl2 costs 2 atoms x 2.0 eV: 4 V against lithium metal, and nothing takes up lithium
    assert (window.reduction_limit, window.oxidation_limit) == pytest.approx((0.0, 4.0))
    assert set(window.oxidation_products) == {"Cl2"} or set(window.oxidation_products) == {"Cl"}


def test_barriers() -> None:
    barriers = migration_barriers(
        SALT.copy().add_oxidation_state_by_element({"Li": 1, "Cl": -1}), ion="Li", spacing=0.4
    )
    assert 0.0 <= barriers.e1d <= barriers.e2d <= barriers.e3d


@pytest.mark.data
def test_energies_and_properties_with_the_real_models() -> None:
    data = Path(os.environ["IONSIEVE_DATA"]) / "data" / "materials_project"
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.15), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    potential = load_potential("M3GNet-MP-2021.2.8-PES")
    relaxed = potential.relax([rock_salt])[0]
    energy = formation_energy_per_atom(relaxed.structure, relaxed.energy, "M3GNet-MP-2021.2.8-PES")
    reference = PhaseReference.from_table(data / "phases.csv.gz")
    # 12 meV/atom is the model's median error on such crystals (docs/science.md: 15); three times that
    assert reference.energy_above_hull(["LiCl"], [energy])[0] == pytest.approx(0.0, abs=0.045)
    gaps = load_property_model("MEGNet-MP-2019.4.1-BandGap-mfi").predict([rock_salt], state="PBE")
    # PBE gap of LiCl in the Materials Project (mp-22905) 6.25 eV; the model's mean error is 0.31 eV, twice that
    assert gaps == pytest.approx([6.25], abs=0.62)
