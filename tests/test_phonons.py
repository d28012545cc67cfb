"""Phonons of the Morse solid against lattice sums, and imaginary ones where there are some."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element, Lattice, Structure

from pipeline.config import ConfigError, load_campaign
from pipeline.crystal import row_from_structure
from pipeline.phonons import displaced_supercells, lowest_frequency, require_phonopy, supercell_repeats
from pipeline.settings import ElasticitySettings
from pipeline.stages import elasticity
from pipeline.stages.elasticity import relaxed_crystals
from pipeline.stages.rows import Failure
from pipeline.units import EV_FS2_PER_ANGSTROM2_PER_DALTON
from tests.campaigns import write_campaign
from tests.morse import Morse, morse_potential
from workflows.preflight import find_inputs

needs_phonopy = pytest.mark.skipif(importlib.util.find_spec("phonopy") is None, reason="phonopy is not installed")
SETTINGS = ElasticitySettings(fmax=1e-5, phonons=True)


def close_packed() -> Structure:
    return Structure(Lattice([[0.0, 1.75, 1.75], [1.75, 0.0, 1.75], [1.75, 1.75, 0.0]]), ["Na"], [[0.0] * 3])


def simple_cubic() -> Structure:
    return Structure(Lattice.cubic(2.35), ["Na"], [[0.0] * 3])


def relaxed(structure: Structure) -> Structure:
    (found,) = relaxed_crystals([structure], SETTINGS, morse_potential())
    assert not isinstance(found, Failure)
    return found


def frequency(structure: Structure, thickness: float) -> float:
    displaced = displaced_supercells(structure, thickness)
    return lowest_frequency(displaced, morse_potential().evaluate(displaced.cells))


def lattice_sum(structure: Structure, thickness: float) -> float:
    """Lowest frequency (THz) of one atom a cell: D(q) = sum of K(R) (1 - cos q R) / m over the pairs, no supercell."""

    def energy(r: Any) -> Any:
        inner = np.exp(2.0 * (2.5 - r))
        return (inner**2 - 2.0 * inner) * (1.0 - r / Morse.cutoff) ** 3

    _, _, images, r = structure.get_neighbor_list(Morse.cutoff)
    bonds, h = images @ structure.lattice.matrix, 1e-4
    first = (energy(r + h) - energy(r - h)) / (2 * h)
    second = (energy(r + h) - 2 * energy(r) + energy(r - h)) / h**2
    along = bonds[:, :, None] * bonds[:, None, :] / (r**2)[:, None, None]
    constants = (second - first / r)[:, None, None] * along + (first / r)[:, None, None] * np.eye(3)
    mass = float(Element("Na").atomic_mass) * EV_FS2_PER_ANGSTROM2_PER_DALTON
    repeats = supercell_repeats(structure.lattice.matrix, thickness)
    lowest = np.inf
    for index in np.ndindex(*repeats):
        if any(index):
            phase = 2.0 * np.pi * images @ (np.array(index) / repeats)
            squares = np.linalg.eigvalsh(np.einsum("n,nij->ij", 1.0 - np.cos(phase), constants) / mass)
            lowest = min(lowest, float(np.sign(squares[0]) * np.sqrt(abs(squares[0]))))
    return lowest / (2.0 * np.pi) * 1e3


@needs_phonopy
@pytest.mark.parametrize("thickness", [4.0, 8.0])
def test_frequencies_are_those_of_the_lattice_sum(thickness: float) -> None:
    """Displacements of 0.01 Å leave anharmonic terms of a few 1e-4."""
    crystal = relaxed(close_packed())
    assert frequency(crystal, thickness) == pytest.approx(lattice_sum(crystal, thickness), rel=2e-3)


@needs_phonopy
def test_a_lattice_that_shears_has_imaginary_phonons() -> None:
    crystal = relaxed(simple_cubic())
    found = frequency(crystal, 5.0)
    assert found < -1.0
    assert found == pytest.approx(lattice_sum(crystal, 5.0), rel=2e-3)


@needs_phonopy
def test_the_stage_adds_phonons_on_request(tmp_path: Path) -> None:
    part = pd.DataFrame([row_from_structure(s) for s in (close_packed(), simple_cubic())])
    refs = SimpleNamespace(potential=morse_potential())
    done = elasticity.run(part, SETTINGS, refs, tmp_path)
    assert done["elasticity_status"].tolist() == ["ok", "ok"]
    assert done["dynamically_stable"].tolist() == [True, False]
    assert done["lowest_phonon_frequency"].iloc[0] == pytest.approx(frequency(relaxed(close_packed()), 8.0), rel=1e-6)
    without = elasticity.run(part, ElasticitySettings(fmax=1e-5), refs, tmp_path)
    assert without["lowest_phonon_frequency"].isna().all()
    assert without["dynamically_stable"].isna().all()
    assert without["bulk_modulus"].tolist() == pytest.approx(done["bulk_modulus"].tolist(), nan_ok=True)


def test_supercells_are_thick_enough() -> None:
    lattice = Lattice.from_parameters(3.0, 4.1, 9.0, 90.0, 70.0, 60.0).matrix
    repeats = supercell_repeats(lattice, 8.0)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    assert (repeats * heights >= 8.0).all()
    assert ((repeats - 1) * heights < 8.0).all()
    assert supercell_repeats(np.eye(3) * 4.0, 8.0).tolist() == [2, 2, 2]


def test_without_phonopy_the_campaign_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "phonopy" else found(name, *more)
    )
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ionsieve\[phonons\]', or set phonons: false"):
        require_phonopy()
    config = write_campaign(tmp_path)
    stages = "  - stage: elasticity\n    phonons: true\n  - stage: practicality\n"
    config.write_text(config.read_text().replace("  - stage: practicality\n", stages))
    with pytest.raises(ConfigError, match=r"stages\.3\.phonons: phonons need phonopy"):
        find_inputs(load_campaign(config), config)


def test_the_supercell_is_a_setting_of_phonons_alone() -> None:
    off, on = ElasticitySettings(phonon_supercell=9.0), ElasticitySettings(phonon_supercell=9.0, phonons=True)
    assert "phonon_supercell" not in off.result_settings()
    assert on.result_settings()["phonon_supercell"] == 9.0
