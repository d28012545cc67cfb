"""VASP: inputs like the reference files, outputs read back, and those of another calculation refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.dft.calculation import Calculation, DftResult, Pending
from pipeline.dft.vasp import KILOBAR, compute_with_vasp, read_outputs
from pipeline.settings import DftSettings
from pipeline.stages.rows import Failure
from tests.dft_crystals import calculation, lithium_chloride, lithium_iron_oxide
from tests.vasprun_files import write_vasprun

REFERENCE = Path(__file__).parent / "reference" / "dft"
STATIC = calculation(lithium_chloride(), DftSettings(engine="vasp"))
RELAXED = calculation(lithium_iron_oxide(), DftSettings(engine="vasp", relax="cell"))


@pytest.mark.parametrize(("asked", "name"), [(STATIC, "vasp_static"), (RELAXED, "vasp_relax")])
def test_inputs_are_those_of_the_reference_files(asked: Calculation, name: str, tmp_path: Path) -> None:
    outcome = compute_with_vasp(asked, tmp_path, {"candidate_id": "x"})
    assert isinstance(outcome, Pending)
    assert str(tmp_path) in outcome.reason
    for file in ("INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"):
        assert (tmp_path / file).read_text() == (REFERENCE / name / file).read_text(), file
    assert not (tmp_path / "POTCAR").exists()


def test_reference_files_are_the_materials_projects_choices() -> None:
    """As docs.materialsproject.org has them: 520 eV; U of 5.3 eV on Fe in oxides; reciprocal densities 64 and 100."""
    relax, static = ((REFERENCE / name / "INCAR").read_text() for name in ("vasp_relax", "vasp_static"))
    for line in ("ENCUT = 520.0", "ISPIN = 2", "LDAU = True", "LDAUU = 0 5.3 0", "LDAUTYPE = 2", "ISIF = 3"):
        assert line in relax
    assert "EDIFF = 0.0002" in relax  # 5e-5 eV an atom
    assert "LDAU" not in static
    assert "NSW = 0" in static
    assert (REFERENCE / "vasp_relax" / "POTCAR.spec").read_text().split() == ["Li_sv", "Fe_pv", "O"]
    for name, structure, density in (
        ("vasp_static", lithium_chloride(), 100),
        ("vasp_relax", lithium_iron_oxide(), 64),
    ):
        grid = np.array((REFERENCE / name / "KPOINTS").read_text().splitlines()[3].split(), dtype=int)
        # points in a reciprocal cell, per Å^-3 (2π in it); whole numbers along three axes are off by a few per cent
        assert grid.prod() / structure.lattice.reciprocal_lattice.volume == pytest.approx(density, rel=0.15)


def test_a_finished_run_is_read_and_kept(tmp_path: Path) -> None:
    compute_with_vasp(STATIC, tmp_path, {})
    write_vasprun(tmp_path, -7.25, gap=6.3)
    result = compute_with_vasp(STATIC, tmp_path, {})
    assert isinstance(result, DftResult)
    assert result.energy == pytest.approx(-7.25)
    assert result.band_gap == pytest.approx(6.3)
    assert result.max_force == pytest.approx(0.012)
    np.testing.assert_allclose(result.stress / -KILOBAR, [10, 20, 30, 0, 0, 5])
    assert (result.code, result.functional, result.steps) == ("VASP 6.4.2", "PBE", 0)
    (tmp_path / "vasprun.xml").unlink()
    assert isinstance(compute_with_vasp(STATIC, tmp_path, {}), DftResult)


def test_plus_u_and_relaxation(tmp_path: Path) -> None:
    compute_with_vasp(RELAXED, tmp_path, {})
    moved = lithium_iron_oxide().scale_lattice(34.0)
    write_vasprun(tmp_path, -25.0, steps=4, settings={"IBRION": 2}, final=moved)
    result = read_outputs(RELAXED, tmp_path)
    assert isinstance(result, DftResult)
    assert (result.functional, result.steps) == ("PBE+U", 4)
    assert result.energy == pytest.approx(-25.0)
    assert result.structure.volume == pytest.approx(34.0, rel=1e-6)
    assert dict(result.pseudopotentials)["Fe"] == "PAW_PBE Fe_pv 06Sep2000"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"ENCUT": 400.0}}, "ENCUT is 400 eV, 520 was asked"),
        ({"settings": {"GGA": "PS"}}, "GGA is PS"),
        ({"settings": {"METAGGA": "R2SCAN"}}, "METAGGA is R2SCAN"),
        ({"settings": {"LHFCALC": True}}, "LHFCALC is True"),
        ({"settings": {"IVDW": 12}}, "IVDW is 12"),
        ({"settings": {"ISPIN": 1}}, "ISPIN is 1, 2 was asked"),
        ({"settings": {"LDAU": True, "LDAUU": [0.0, 4.0], "LDAUJ": [0.0, 0.0]}}, "LDAU is True"),
        ({"settings": {"LASPH": False}}, "LASPH is False, True was asked"),
        ({"settings": {"PREC": "Normal"}}, "PREC is Normal, Accurate was asked"),
        ({"settings": {"NUPDOWN": 0.0}}, "NUPDOWN is 0.0, free moments were asked"),
        ({"settings": {"EDIFF": 0.01}}, "EDIFF is 0.01, at most 0.0001 was asked"),
        ({"settings": {"NSW": 50}}, "NSW is 50"),
        ({"potcars": ["PAW_PBE Li 17Jan2003", "PAW_PBE Cl 06Sep2000"]}, "POTCARs are Li Cl, Li_sv Cl were asked"),
        ({"potcars": ["PAW Li_sv 17Jan2003", "PAW Cl 06Sep2000"]}, "is not of PBE"),
        ({"divisions": [4, 4, 4]}, "k-points are [4, 4, 4]"),
        ({"structure": lithium_chloride().scale_lattice(35.0)}, "lattice vectors differ"),
    ],
)
def test_another_calculation_is_refused_by_name(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    compute_with_vasp(STATIC, tmp_path, {})
    write_vasprun(tmp_path, -7.25, **changes)
    outcome = read_outputs(STATIC, tmp_path)
    assert isinstance(outcome, Failure)
    assert outcome.error.startswith("MismatchError")
    assert said in outcome.error
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("changes", [{"NSW": 0, "IBRION": -1}, {"NSW": 1, "IBRION": 2}, {"NSW": 99, "IBRION": 0}])
def test_a_single_point_or_dynamics_is_no_relaxation(changes: dict[str, int], tmp_path: Path) -> None:
    compute_with_vasp(RELAXED, tmp_path, {})
    write_vasprun(tmp_path, -25.0, settings=changes)
    outcome = read_outputs(RELAXED, tmp_path)
    assert isinstance(outcome, Failure)
    assert f"NSW is {changes['NSW']} with IBRION {changes['IBRION']}, a relaxation was asked" in outcome.error


def test_precision_as_vasp_prints_it(tmp_path: Path) -> None:
    compute_with_vasp(STATIC, tmp_path, {})
    write_vasprun(tmp_path, -7.25, settings={"PREC": "accura"})
    assert isinstance(read_outputs(STATIC, tmp_path), DftResult)


@pytest.mark.parametrize("name", ["fmax", "max_steps"])
def test_what_vasp_would_not_hear_of_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} is of gpaw and espresso; VASP relaxes as MPRelaxSet says"):
        DftSettings(engine="vasp", relax="cell", **{name: 1})
    whole = DftSettings(engine="vasp", relax="cell")  # as a run's config.yaml has it, defaults included
    assert DftSettings(**whole.model_dump(exclude_none=True)) == whole


def test_unconverged_and_broken_off_runs(tmp_path: Path) -> None:
    compute_with_vasp(STATIC, tmp_path, {})
    path = write_vasprun(tmp_path, -7.25, electronic_steps=100)
    outcome = read_outputs(STATIC, tmp_path)
    assert isinstance(outcome, Failure)
    assert outcome.error.startswith("NotConvergedError: the electronic cycle")
    text = write_vasprun(tmp_path, -7.25).read_text()
    path.write_text(text[: len(text) // 2])
    outcome = read_outputs(STATIC, tmp_path)
    assert isinstance(outcome, Pending)
    assert "at work there, or it died" in outcome.reason
