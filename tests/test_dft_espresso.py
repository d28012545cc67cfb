"""Quantum ESPRESSO: inputs like the reference files, real outputs of pw.x 6.7 on them, and mismatches by name.

tests/reference/dft/espresso holds BN (zinc blende) as this project writes it and as pw.x 6.7 answered, with the
pseudopotentials of pslibrary 1.0.0 that Debian's quantum-espresso-data carries.
"""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from pipeline.dft.calculation import Calculation, DftResult, Pending
from pipeline.dft.espresso import compute_with_espresso, grid_difference, read_output
from pipeline.stages.rows import Failure
from tests.dft_crystals import boron_nitride, calculation, espresso_settings, lithium_chloride

REFERENCE = Path(__file__).parent / "reference" / "dft" / "espresso"
RYDBERG = 13.605693122994


def recorded(relax: str) -> str:
    return gzip.decompress((REFERENCE / f"{relax}.out.gz").read_bytes()).decode()


def crystal(relax: str) -> Structure:
    """What the reference of this relaxation starts from: positions move along one diagonal, nothing else does."""
    structure = boron_nitride()
    return structure.translate_sites([1], [0.02] * 3) if relax == "positions" else structure


@pytest.mark.parametrize("relax", ["none", "positions", "cell"])
def test_inputs_are_those_of_the_reference_files(relax: str, tmp_path: Path) -> None:
    asked = calculation(crystal(relax), espresso_settings(relax=relax))
    outcome = compute_with_espresso(asked, tmp_path, "./pseudo", {"candidate_id": "BN"})
    assert isinstance(outcome, Pending)
    assert "pw.x -in pw.in" in outcome.reason
    assert (tmp_path / "pw.in").read_text() == (REFERENCE / f"{relax}.in").read_text()


@pytest.mark.parametrize(
    ("relax", "rydbergs", "steps", "edge"),
    [("none", -39.82301203, 0, 3.60), ("positions", -39.82306722, 5, 3.60), ("cell", -39.81978564, 6, None)],
)
def test_a_real_output_is_read(relax: str, rydbergs: float, steps: int, edge: float | None, tmp_path: Path) -> None:
    asked = calculation(crystal(relax), espresso_settings(relax=relax))
    compute_with_espresso(asked, tmp_path, "./pseudo", {})
    (tmp_path / "pw.out").write_text(recorded(relax))
    result = compute_with_espresso(asked, tmp_path, "./pseudo", {})
    assert isinstance(result, DftResult)
    assert result.energy == pytest.approx(rydbergs * RYDBERG, abs=1e-3)
    assert result.steps == steps
    assert 4.0 < result.band_gap < 6.0  # PBE's indirect gap of BN is 4.4 to 4.5 eV, on dense grids
    assert result.code == "Quantum ESPRESSO 6.7MaX"
    if edge is not None:
        assert result.structure.volume == pytest.approx(edge**3 / 4, rel=1e-4)
    else:
        assert result.structure.volume < boron_nitride().volume


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cutoff": 40.0}, "ecutwfc is 30.0000, 40 Ry was asked"),
        ({"density_cutoff": 300.0}, "ecutrho is 240.0000, 300 Ry was asked"),
        ({"smearing": 0.02}, "degauss is 0.0100, 0.02 Ry was asked"),
        ({"kpoint_density": 2.4}, "the k-points are not the grid"),
        ({"kpoint_density": 3.0}, "the k-points are not the grid"),
        ({"energy_convergence": 1e-9}, "conv_thr is 1.0E-07"),
    ],
)
def test_other_settings_are_refused_by_name(changes: dict[str, float], said: str, tmp_path: Path) -> None:
    settings = espresso_settings()
    asked = settings.model_copy(update={"espresso": settings.espresso.model_copy(update=changes)})
    outcome = _outcome(calculation(boron_nitride(), asked), recorded("none"), tmp_path)
    assert outcome.error.startswith("MismatchError")
    assert said in outcome.error


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SLA  PW   PBX  PBC", "SLA  PW   PSX  PSC", "the functional is SLA  PW   PSX  PSC, PBE was asked"),
        ("./pseudo/B.pbe-n-kjpaw_psl.1.0.0.UPF", "./pseudo/B.pz-vbc.UPF", "the pseudopotential of B is B.pz-vbc.UPF"),
        (
            "number of electrons       =         8.00",
            "number of electrons       =         7.00",
            "7.00 electrons, 8 make",
        ),
        (
            "     ewald contribution",
            "     Dispersion Correction = -0.1 Ry\n     ewald contribution",
            "a dispersion corr",
        ),
        ("JOB DONE", "", ""),
    ],
)
def test_other_outputs_are_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = recorded("none")
    assert old in text
    asked = calculation(boron_nitride(), espresso_settings())
    if old == "JOB DONE":
        compute_with_espresso(asked, tmp_path, "./pseudo", {})
        (tmp_path / "pw.out").write_text(text.replace(old, new))
        assert isinstance(read_output(asked, tmp_path), Pending)
    else:
        assert said in _outcome(asked, text.replace(old, new), tmp_path).error


@pytest.mark.parametrize(
    ("asked", "ran", "said"),
    [
        ("cell", "none", "the calculation is scf, vc-relax was asked"),
        ("cell", "positions", "the calculation is relax, vc-relax was asked"),
        ("positions", "none", "the calculation is scf, relax was asked"),
        ("positions", "cell", "the calculation is vc-relax, relax was asked"),
        ("none", "positions", "the calculation is relax, scf was asked"),
    ],
)
def test_another_kind_of_relaxation_is_refused(asked: str, ran: str, said: str, tmp_path: Path) -> None:
    wanted = calculation(crystal(ran), espresso_settings(relax=asked))
    assert said in _outcome(wanted, recorded(ran), tmp_path).error


def test_a_relaxation_that_gave_up_is_not_finished(tmp_path: Path) -> None:
    """Of pw.x 7: after this line it prints the end of the optimisation, and JOB DONE."""
    text = recorded("cell")
    converged = "bfgs converged in   5 scf cycles and   3 bfgs steps"
    assert converged in text
    failed = text.replace(converged, "bfgs failed after   5 scf cycles and   3 bfgs steps, convergence not achieved")
    wanted = calculation(boron_nitride(), espresso_settings(relax="cell"))
    assert _outcome(wanted, failed, tmp_path).error.startswith("NotConvergedError: BFGS gave up")


@pytest.mark.parametrize(
    ("relax", "printed"),
    [
        ("positions", "bfgs converged in"),
        ("cell", "bfgs converged in"),
        ("cell", "Final scf calculation at the relaxed structure"),
    ],
)
def test_a_relaxation_that_was_stopped_is_not_finished(relax: str, printed: str, tmp_path: Path) -> None:
    """With max_seconds pw.x leaves its loop and says JOB DONE."""
    text = recorded(relax)
    assert printed in text
    asked = calculation(crystal(relax), espresso_settings(relax=relax))
    outcome = _outcome(asked, text.replace(printed, ""), tmp_path)
    assert outcome.error.startswith("NotConvergedError")
    assert "pw.x was stopped (max_seconds?)" in outcome.error


@pytest.mark.parametrize("gone", ["!    total energy", "Forces acting on atoms"])
def test_an_output_without_energy_or_forces_is_not_finished(gone: str, tmp_path: Path) -> None:
    text = recorded("none")
    assert gone in text
    outcome = _outcome(calculation(boron_nitride(), espresso_settings()), text.replace(gone, ""), tmp_path)
    assert "ends without energy and forces" in outcome.error


def test_pseudopotentials_are_told_by_their_checksums(tmp_path: Path) -> None:
    asked = calculation(boron_nitride(), espresso_settings())
    compute_with_espresso(asked, tmp_path, "./pseudo", {})
    (tmp_path / "pw.out").write_text(recorded("none"))
    for _ in range(2):  # from the output, then from result.json
        result = compute_with_espresso(asked, tmp_path, "./pseudo", {})
        assert isinstance(result, DftResult)
        assert dict(result.pseudopotentials) == {
            "B": "8c825a5969375aca5c2c6ad5945b3059",
            "N": "14c48229446f9f2d411169a3abcbc3fa",
        }


def test_a_crystal_with_moments_starts_with_them(tmp_path: Path) -> None:
    iron = Structure(boron_nitride().lattice, ["Fe", "N"], boron_nitride().frac_coords)
    settings = espresso_settings()
    own = settings.espresso.model_copy(update={"pseudopotentials": {"Fe": "Fe.UPF", "N": "N.UPF"}})
    compute_with_espresso(calculation(iron, settings.model_copy(update={"espresso": own})), tmp_path, "./pseudo", {})
    text = (tmp_path / "pw.in").read_text()
    assert re.search(r"nspin\s*=\s*2", text)
    assert re.findall(r"starting_magnetization\((\d)\)\s*=\s*([\d.]+)", text) == [("1", "0.5"), ("2", "0.0")]
    assert re.search(r"ATOMIC_SPECIES\n\s*Fe.*\n\s*N", text)  # in that order


def test_another_crystal_is_refused(tmp_path: Path) -> None:
    wider = boron_nitride().scale_lattice(12.5)
    outcome = _outcome(calculation(wider, espresso_settings()), recorded("none"), tmp_path)
    assert "lattice vectors differ" in outcome.error


# Of pw.x 6.7 for a face-centred cubic cell of a = 3.6 Å: one point of each star, none off the plane of two axes.
FCC = np.array([[0.0, 1.8, 1.8], [1.8, 0.0, 1.8], [1.8, 1.8, 0.0]])
ALAT = "     lattice parameter (alat)  =       4.8105  a.u.\n"
BLOCK = "                       cart. coord. in units 2pi/alat\n"
FCC_2 = """        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   0.2500000
        k(    2) = (  -0.3535534  -0.3535534   0.3535534), wk =   1.0000000
        k(    3) = (  -0.7071068   0.0000000   0.0000000), wk =   0.7500000
"""
FCC_3 = """        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   0.0740741
        k(    2) = (   0.2357023   0.2357023  -0.2357023), wk =   0.5925926
        k(    3) = (   0.4714045   0.0000000   0.0000000), wk =   0.4444444
        k(    4) = (  -0.0000000  -0.4714045   0.4714045), wk =   0.8888889
"""


@pytest.mark.parametrize(("n", "points"), [(2, FCC_2), (3, FCC_3)])
def test_stars_that_lie_in_a_plane_are_the_whole_grid(n: int, points: str) -> None:
    assert grid_difference([n] * 3, FCC, ALAT + BLOCK + points) == []
    for other in (1, 4, 6):
        assert "the k-points are not the grid" in grid_difference([other] * 3, FCC, ALAT + BLOCK + points)[0]


def test_an_output_without_the_spins_that_were_asked_is_refused(tmp_path: Path) -> None:
    iron = Structure(boron_nitride().lattice, ["Fe", "N"], boron_nitride().frac_coords)
    settings = espresso_settings()
    files = {**settings.espresso.pseudopotentials, "Fe": "Fe.UPF"}
    own = settings.espresso.model_copy(update={"pseudopotentials": files})
    asked = calculation(iron, settings.model_copy(update={"espresso": own}))
    assert "the calculation is not spin-polarised" in _outcome(asked, recorded("none"), tmp_path / "iron").error
    text = recorded("none").replace("number of k points=", "Starting magnetic structure\n     number of k points=")
    outcome = _outcome(calculation(boron_nitride(), espresso_settings()), text, tmp_path / "nitride")
    assert "the calculation is spin-polarised, the other was asked" in outcome.error


def test_an_element_without_pseudopotential_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pseudopotential of Cl, Li"):
        compute_with_espresso(calculation(lithium_chloride(), espresso_settings()), tmp_path, "./pseudo", {})


def _outcome(asked: Calculation, text: str, folder: Path) -> Failure:
    compute_with_espresso(asked, folder, "./pseudo", {})
    (folder / "pw.out").write_text(text)
    outcome = read_output(asked, folder)
    assert isinstance(outcome, Failure)
    return outcome
