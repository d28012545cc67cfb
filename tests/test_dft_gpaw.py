"""GPAW really runs: rock salt LiCl, and the hull of Li and Cl made with GPAW alone. About a minute on one core."""

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.dft.calculation import DftResult
from pipeline.dft.engine import compute
from pipeline.dft.hull import hull_place
from pipeline.settings import DftSettings
from pipeline.stages.rows import Failure
from tests.dft_crystals import lithium_chloride

pytestmark = pytest.mark.dft


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a test would find what another one computed."""
    monkeypatch.setenv("IONSIEVE_CACHE", str(tmp_path / "cache"))


COARSE = {"cutoff": 340.0, "kpoint_density": 2.0, "energy_convergence": 1e-4}


def settings(**more: object) -> DftSettings:
    return DftSettings(gpaw=COARSE, time_limit=300.0, **more)


def energy(structure: Structure, folder: Path, **more: object) -> DftResult:
    result = compute(structure, settings(**more), folder)
    assert isinstance(result, DftResult), result
    return result


def lithium() -> Structure:
    return Structure(Lattice([[-1.72, 1.72, 1.72], [1.72, -1.72, 1.72], [1.72, 1.72, -1.72]]), ["Li"], [[0, 0, 0]])


def chlorine() -> Structure:
    """One molecule of 1.99 Å in a box of 7 Å."""
    return Structure(Lattice.cubic(7.0), ["Cl", "Cl"], [[0, 0, 0], [0, 0, 1.99 / 7.0]])


def test_hull_of_lithium_and_chlorine(tmp_path: Path) -> None:
    found = {
        "LiCl": energy(lithium_chloride(), tmp_path / "LiCl"),
        "Li": energy(lithium(), tmp_path / "Li"),
        "Cl2": energy(chlorine(), tmp_path / "Cl2"),
    }
    place = hull_place(lithium_chloride(), found["LiCl"], found, mp2020=False)
    # -2.12 eV/atom in experiment (NIST-JANAF, 298 K); PBE binds less: -1.85 to -1.95 by the Materials Project's raw
    # energies. The coarse settings are within 0.1 of converged ones.
    assert -2.1 < place.formation_energy < -1.7
    assert place.energy_above_hull == pytest.approx(0.0, abs=1e-9)
    assert place.decomposition == {"LiCl": 1.0}
    # The elements alone do not hold it: it lies its whole formation energy below them.
    elements = {name: found[name] for name in ("Li", "Cl2")}
    below = hull_place(lithium_chloride(), found["LiCl"], elements, mp2020=False)
    assert below.energy_above_hull == pytest.approx(place.formation_energy)
    # A stretched crystal is a metastable one.
    wide = lithium_chloride().copy()
    wide.scale_lattice(1.15 * wide.volume)
    stretched = hull_place(wide, energy(wide, tmp_path / "wide"), found, mp2020=False)
    assert 0.01 < stretched.energy_above_hull < 0.3
    # PBE's gap of rock salt LiCl is 6.3 to 6.4 eV; the metal has none.
    assert 6.0 < found["LiCl"].band_gap < 6.7
    assert found["Li"].band_gap == 0.0


def test_a_finished_calculation_is_used_again_and_others_are_not(tmp_path: Path) -> None:
    first = energy(lithium(), tmp_path)
    log = tmp_path / "gpaw.txt"
    log.unlink()
    again = energy(lithium(), tmp_path)
    assert not log.exists()
    assert again.energy == first.energy
    np.testing.assert_array_equal(again.forces, first.forces)


def test_relaxation_moves_the_cell_downhill(tmp_path: Path) -> None:
    wide = lithium_chloride()
    wide.scale_lattice(1.06 * wide.volume)
    single = energy(wide, tmp_path / "single")
    relaxed = energy(wide, tmp_path / "relaxed", relax="cell", fmax=0.05)
    assert relaxed.steps > 0
    assert relaxed.energy < single.energy
    # PBE's lattice constant of LiCl is 5.15 Å; a basis of 340 eV and this grid are good to 0.05.
    assert (4 * relaxed.structure.volume) ** (1 / 3) == pytest.approx(5.15, abs=0.07)


def test_what_gpaw_can_not_do_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    astatine = compute(Structure(Lattice.cubic(3.2), ["Li", "At"], [[0, 0, 0], [0.5] * 3]), settings(), tmp_path / "At")
    assert isinstance(astatine, Failure)
    assert astatine.error.startswith("MissingSetupError: GPAW finds no PBE dataset of At")
    few = DftSettings(gpaw={**COARSE, "max_iterations": 10, "energy_convergence": 1e-12}, time_limit=300.0)
    unconverged = compute(lithium_chloride(), few, tmp_path / "few")
    assert isinstance(unconverged, Failure)
    assert unconverged.error.startswith("KohnShamConvergenceError")
    slow = compute(lithium_chloride(), settings().model_copy(update={"time_limit": 1.0}), tmp_path / "slow")
    assert isinstance(slow, Failure)
    assert slow.error.startswith("OutOfTime")
