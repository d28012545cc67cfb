"""Bad input ends with exit code 2 and a clear list, without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.campaigns import write_campaign
from workflows.cli import app
from workflows.lock import RunLock

DATA = os.environ.get("IONSIEVE_DATA", "")


def invoke(*arguments: str | Path) -> Result:
    """Run a command in this process: a fresh one takes seconds to import its libraries."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IONSIEVE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refused(config: Path, *words: str, command: str = "run") -> None:
    done = invoke(command, config)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)  # no traceback: nothing but the exit reached the top
    for word in words:
        assert word in done.stderr, done.stderr


def changed(folder: Path, old: str, new: str) -> Path:
    config = write_campaign(folder)
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    return config


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: tiny", "name: tiny\ncolour: red", ["tiny.yaml:2: colour", "unknown key"]),
        ("below: 0.12", "below: -0.12", ["must lie from 0 to 10 eV/atom, got -0.12"]),
        ("mobile_ions: [Li, Na]", "mobile_ions: [Li, Nx]", ["unknown element 'Nx'"]),
        ("energy_above_hull: {", "energy_below_hull: {", ["no column 'energy_below_hull'"]),
        ("model: CHGNet", "model: M3GNet-MP-2021.2.8-PES", ["M3GNet-MP-2021.2.8-PES", "IONSIEVE_DATA"]),
        ("model: CHGNet", "model: CHGNet, convention: backwards", ["convention 'backwards'", "'destination'"]),
        (
            "substitution: none",
            "elements: [Li, Na, Y, Cl]\n  charges: {Y: [3, -1]}\n  gates: {radius_mismatch: 0.3}",
            ["candidates.charges: no radius is known of Y-", "candidates.radii, e.g. {Y-: 1.40}"],
        ),
        ("path: phases.csv", "path: nowhere.csv", ["nowhere.csv"]),
        ("path: crystals", "path: no_folder", ["no_folder"]),
    ],
)
def test_refused_before_any_work(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    refused(changed(tmp_path, old, new), *words)
    assert not (tmp_path / "runs").exists()


def test_broken_file_in_a_folder_is_named_with_the_choice_to_skip(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    (tmp_path / "crystals" / "broken.cif").write_text("data_x\n_cell_length_a not-a-number\n")
    refused(config, "broken.cif", "on_broken_file: skip")
    refused(config, "broken.cif", command="validate")


@pytest.mark.parametrize("damage", ["truncated", "not parquet"])
def test_unreadable_prototype_table(tmp_path: Path, damage: str) -> None:
    config = changed(
        tmp_path, "{source: folder, path: crystals, min_elements: 1}", "{source: materials_project, path: p.parquet}"
    )
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"material_id": ["mp-1"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-200] if damage == "truncated" else b"hello")
    refused(config, "p.parquet")


def test_truncated_table_of_phases(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    (tmp_path / "phases.csv").write_text("formula,formation_energy_per_atom\nLiCl,-2.1\nNaC")
    refused(config, "phases.csv, line 3")


def test_table_of_another_scheme(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    lines = (tmp_path / "phases.csv").read_text().splitlines()
    (tmp_path / "phases.csv").write_text(
        "\n".join([f"{lines[0]},scheme", *(f"{row},self:CHGNet" for row in lines[1:])])
    )
    refused(config, "declares scheme 'self:CHGNet', but 'mp2020'", command="validate")


@pytest.mark.data
def test_a_model_that_gives_no_band_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = "  - {stage: band_gap, model: MEGNet-MP-2018.6.1-Eform}\n  - stage: window"
    config = changed(tmp_path, "  - stage: window", stage)
    monkeypatch.setenv("IONSIEVE_DATA", DATA)
    refused(config, "stages.1.model: MEGNet-MP-2018.6.1-Eform gives no band gaps (mp_legacy_formation)")


@pytest.mark.skipif(os.geteuid() != 0, reason="the other way to make a folder unwritable needs root's /proc")
def test_unwritable_run_folder_as_root(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    done = invoke("run", config, "--folder", "/proc/ionsieve")
    assert done.exit_code == 2
    assert "/proc/ionsieve" in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_run_folder_that_is_a_file(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    (tmp_path / "occupied").write_text("")
    done = invoke("run", config, "--folder", "occupied")
    assert done.exit_code == 2
    assert "can't be written" in done.stderr


def test_folder_held_by_another_run(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    with RunLock(folder):
        refused(config, f"held by process {os.getpid()}")


def test_unknown_checkpoint_needs_its_convention(tmp_path: Path) -> None:
    checkpoint = tmp_path / "my_model"
    checkpoint.mkdir()
    (checkpoint / "model.json").write_text("{}")
    (checkpoint / "state.pt").write_bytes(b"weights of my own")
    refused(changed(tmp_path, "model: CHGNet", "model: ./my_model"), "convention", "destination")


def test_no_scheduler_at_the_address(tmp_path: Path) -> None:
    config = changed(tmp_path, "cluster: {workers: 1}", "cluster: {kind: address, address: 'tcp://127.0.0.1:9'}")
    refused(config, "tcp://127.0.0.1:9")


def test_init_writes_a_config_that_validates(tmp_path: Path) -> None:
    assert invoke("init", "mine.yaml").exit_code == 0
    assert invoke("validate", "mine.yaml").exit_code == 0
    again = invoke("init", "mine.yaml")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_module_runs_as_installed_command() -> None:
    done = subprocess.run([Path(sys.executable).with_name("ionsieve"), "--help"], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("model: CHGNet", "model: CHGNet, scheme: mp_raw", ["potential.scheme", "mp2020", "leave it out"]),
        ("path: phases.csv", "path: crystals", ["reference.path", "is a folder"]),
        ("path: crystals, min", "path: phases.csv, min", ["candidates.prototypes.path", "is no folder"]),
        (
            "  - stage: window",
            "  - stage: band_gap\n    model: CHGNet\n  - stage: window",
            ["a property model is needed"],
        ),
        ("substitution: none", "substitution: none\n  elements: [Li, Na, Mg, Br]", ["Br not in"]),
    ],
)
def test_refused_before_any_row_is_computed(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    refused(changed(tmp_path, old, new), *words)
    assert not (tmp_path / "runs").exists()


def test_damaged_list_of_observed_compositions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data" / "materials_project"
    data.mkdir(parents=True)
    (data / "structures_observed.parquet").write_bytes(b"hello")
    monkeypatch.setenv("IONSIEVE_DATA", str(tmp_path))
    refused(write_campaign(tmp_path), "observed compositions", "structures_observed.parquet")


def test_folder_of_another_campaign_is_not_overwritten(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"campaign": "another"}')
    refused(config, "holds campaign 'another'")


@pytest.mark.parametrize("name", ["manifest.json", "progress.json"])
def test_views_of_a_damaged_run_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"finished": "today"}')
    (folder / "progress.json").write_text('{"steps": []}')
    (folder / name).write_text("{")
    for view in (("status", folder), ("show", folder, "x"), ("top", folder)):
        done = invoke(*view)
        assert done.exit_code == 2, view
        assert isinstance(done.exception, SystemExit)


def test_missing_data_end_with_where_they_come_from_and_what_does_without() -> None:
    halides = Path(__file__).parents[1] / "configs" / "halides.yaml"
    done = invoke("run", halides)
    assert done.exit_code == 2
    assert "'data/materials_project/phases.csv.gz' is neither beside the config nor in $IONSIEVE_DATA" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("docs/data.md says where data and models come from. Without outside data: configs/quick")
    assert "aflow" in last
    assert "mp_api" in last
    assert done.stderr.count("docs/data.md") == 1
    assert "ionsieve models" not in done.stderr


def test_a_path_of_ones_own_that_is_missing_gets_no_advice_on_outside_data(tmp_path: Path) -> None:
    config = write_campaign(tmp_path)
    config.write_text(config.read_text().replace("path: crystals", "path: cristals"))
    done = invoke("validate", config)
    assert done.exit_code == 2
    assert "'cristals' is neither beside the config" in done.stderr
    assert "docs/data.md" not in done.stderr
