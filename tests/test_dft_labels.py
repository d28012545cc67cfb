"""Finished DFT calculations become labels that a training accepts, in the units and with the signs that it expects."""

import gzip
import json
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner

from pipeline.atomic_files import write_json
from pipeline.config import ConfigError
from pipeline.dft.calculation import DftResult, load_calculation
from pipeline.dft.engine import prepare
from pipeline.settings import DftSettings
from pipeline.training.findings import Findings
from pipeline.training.label_checks import checked_labels
from pipeline.training.labelled import LabelledCrystals
from pipeline.training.reading import read_rows
from pipeline.training.settings import DataSettings
from tests.dft_crystals import boron_nitride, espresso_settings, lithium_chloride, lithium_iron_oxide
from tests.vasprun_files import write_vasprun
from workflows.cli import app
from workflows.dft_labels import collect_selection, write_collected_labels

REFERENCE = Path(__file__).parent / "reference" / "dft" / "espresso"
RYDBERG = 13.605693122994
VASP = DftSettings(engine="vasp", symmetry_tolerance=0.0)


def selection(folder: Path, settings: DftSettings, **crystals: Structure) -> Path:
    """A folder as `ionsieve select` leaves it, as far as collecting looks at it."""
    for name, structure in crystals.items():
        prepare(structure, settings, folder / "dft" / name, candidate_id=name, prototype_id="rock-salt", formula="x")
    write_json(folder / "selection.json", {})
    return folder


def labels_in(path: Path, scheme: str, **bounds: float) -> LabelledCrystals:
    """What a training makes of a file, with its default bounds but for those given."""
    findings = Findings()
    frame = read_rows(path, findings)
    assert frame is not None, findings.problems()
    labels = checked_labels(frame, str(path), DataSettings(files=(str(path),), label_scheme=scheme, **bounds), findings)
    findings.raise_if_any()
    assert labels is not None
    return labels


@pytest.mark.parametrize("ending", ["extxyz", "parquet"])
def test_vasp(ending: str, tmp_path: Path) -> None:
    folder = selection(tmp_path / "chosen", VASP, salt=lithium_chloride(), oxide=lithium_iron_oxide())
    write_vasprun(folder / "dft" / "salt", -7.25)
    path = tmp_path / f"labels.{ending}"
    done = CliRunner().invoke(app, ["dft", "collect", str(folder), "--labels", str(path)])
    assert done.exit_code == 0, done.output
    assert "2 calculations: 1 finished, 1 waiting" in done.stdout
    assert "1 labelled crystals, label_scheme mp_raw" in done.stdout
    write_vasprun(folder / "dft" / "oxide", -25.0)
    assert CliRunner().invoke(app, ["dft", "collect", str(folder), "--labels", str(path)]).exit_code == 0
    labels = labels_in(path, "mp_raw")
    assert labels.ids == ("oxide", "salt")
    assert labels.groups == ("rock-salt", "rock-salt")
    assert labels.sources == ("VASP 6.4.2, PBE+U", "VASP 6.4.2, PBE")
    np.testing.assert_allclose(labels.energies, [-25.0, -7.25])
    np.testing.assert_allclose(labels.forces[-2:], [[0, 0, 0.012], [0, 0, -0.012]], atol=1e-8)
    # vasprun.xml has kbar of pressure: 10, 20, 30 and 5 in xy; a label has GPa of tension. ASE writes eight digits.
    assert labels.stresses is not None
    np.testing.assert_allclose(labels.stresses[1], [[-1, -0.5, 0], [-0.5, -2, 0], [0, 0, -3]], atol=1e-5)
    np.testing.assert_allclose(labels.crystals.volumes[1], lithium_chloride().volume, rtol=1e-7)


def test_a_real_output_of_espresso(tmp_path: Path) -> None:
    folder = selection(tmp_path, espresso_settings(symmetry_tolerance=0.0), nitride=boron_nitride())
    text = gzip.decompress((REFERENCE / "none.out.gz").read_bytes()).decode()
    (folder / "dft" / "nitride" / "pw.out").write_text(text)
    done = CliRunner().invoke(app, ["dft", "collect", str(folder)])
    assert done.exit_code == 0, done.output
    # the PAW datasets of pslibrary count core electrons
    assert "energies are up to 271 eV/atom: write data.largest_energy: 1000" in done.stdout
    labels = labels_in(folder / "labels.extxyz", "other", largest_energy=1000.0)
    # pw.x prints the total energy in Ry, and the pressure, a third of the stress's trace with its sign changed, in kbar
    pressure = float(re.findall(r"P=\s*(-?[\d.]+)", text)[-1])
    assert labels.energies[0] == pytest.approx(-39.82301203 * RYDBERG, abs=1e-3)
    assert labels.stresses is not None
    assert np.trace(labels.stresses[0]) / 3 == pytest.approx(-0.1 * pressure, abs=0.02)
    assert abs(pressure) > 100  # else the test would say nothing of units
    assert labels.sources == ("Quantum ESPRESSO 6.7MaX, PBE",)
    atoms = ase.io.read(folder / "labels.extxyz")
    assert atoms.get_forces().shape == (2, 3)


def test_gpaw_is_left_to_the_user_and_read_back(tmp_path: Path) -> None:
    pytest.importorskip("gpaw", reason="of the extra `dft`")
    folder = selection(tmp_path, DftSettings(engine="gpaw"), salt=lithium_chloride())
    home = folder / "dft" / "salt"
    found = collect_selection(folder)
    assert found.calculations[0]["state"] == "waiting"
    assert f"python -m pipeline.dft.gpaw_calculation {home}" in found.calculations[0]["error"]
    write_json(home / "failure.json", {"error": "MissingSetupError: none of Xx"})
    done = CliRunner().invoke(app, ["dft", "collect", str(folder)])
    assert done.exit_code == 1
    assert "salt: MissingSetupError: none of Xx" in done.stdout
    asked, _ = load_calculation(home)
    result(asked.structure, force=0.01).save(home, asked)
    written = write_collected_labels(collect_selection(folder), tmp_path / "labels.extxyz")
    assert written is not None
    assert (written.crystals, written.scheme, written.left_out) == (1, "other", [])


def result(structure: Structure, *, force: float, stress: float = 0.0) -> DftResult:
    forces = np.zeros((len(structure), 3))
    forces[0, 0], forces[-1, 0] = force, -force
    return DftResult(structure, -7.0, 6.0, forces, np.full(6, stress), 0, "GPAW 25.7.0", "PBE")


def test_what_a_training_would_refuse_is_left_out_and_said(tmp_path: Path) -> None:
    folder = selection(tmp_path, VASP, salt=lithium_chloride(), torn=lithium_chloride())
    for name, force in (("salt", 0.02), ("torn", 150.0)):
        asked, _ = load_calculation(folder / "dft" / name)
        result(asked.structure, force=force, stress=float("nan")).save(folder / "dft" / name, asked)
    done = CliRunner().invoke(app, ["dft", "collect", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    labels = json.loads(done.stdout)["labels"]
    assert labels["crystals"] == 1
    assert labels["left_out"][0].startswith("torn: a force of 150 eV/Å, more than data.largest_force = 100")
    assert labels["left_out"][1] == "stresses: not all calculations have one"
    assert labels_in(folder / "labels.extxyz", "mp_raw").stresses is None


def test_an_output_of_another_calculation_is_refused(tmp_path: Path) -> None:
    folder = selection(tmp_path, VASP, salt=lithium_chloride())
    write_vasprun(folder / "dft" / "salt", -7.25, settings={"GGA": "PS"})
    done = CliRunner().invoke(app, ["dft", "collect", str(folder)])
    assert done.exit_code == 1
    assert "GGA is PS" in done.stdout
    assert "there are no labels yet" in done.stdout
    assert not (folder / "labels.extxyz").exists()
    (folder / "dft" / "salt" / "calculation.json").write_text("{")
    done = CliRunner().invoke(app, ["dft", "collect", str(folder)])
    assert done.exit_code == 1
    assert "1 calculations: 1 failed" in done.stdout


def test_energies_of_two_codes_are_not_mixed(tmp_path: Path) -> None:
    folder = selection(tmp_path, VASP, salt=lithium_chloride())
    selection(tmp_path, espresso_settings(), nitride=boron_nitride())
    for name in ("salt", "nitride"):
        asked, _ = load_calculation(folder / "dft" / name)
        result(asked.structure, force=0.01).save(folder / "dft" / name, asked)
    with pytest.raises(ConfigError, match=r"several engines \(1 of espresso, 1 of vasp\)"):
        write_collected_labels(collect_selection(folder), tmp_path / "labels.parquet")
    done = CliRunner().invoke(app, ["dft", "collect", str(folder), "--labels", "labels.csv"])
    assert done.exit_code == 2
    assert "labels.csv must end in .extxyz, .xyz, .parquet" in done.stderr
