"""`ionsieve select`: from a run to a folder of inputs, and from their outputs to data that a training reads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.atomic_files import write_json
from pipeline.dft.calculation import load_calculation
from pipeline.selection.columns import SELECTION_COLUMNS
from pipeline.training.reading import read_training_data
from pipeline.training.settings import DataSettings, load_training
from scripts.synthetic_run import write_run
from tests.vasprun_files import write_vasprun
from workflows.cli import app
from workflows.files import digest_of_file, read_json

ROWS, CRYSTALS = 60, 12
METALS, HALIDES = (39, 21, 12), (17, 35)


def families(table: pd.DataFrame, step: float = 0.1) -> pd.DataFrame:
    """Six families of ions, each with its own order on eight sites, whose members differ by a step (Å) in one axis.

    One is suspect, one was given up and one has failed.
    """
    numbers = []
    for i in range(len(table)):
        swap = {39: METALS[i % 3], 17: HALIDES[(i // 3) % 2]}
        order = np.random.default_rng(i % 6).permutation([3, 11, 39, 17, 17, 17, 3, 17]).tolist()
        numbers.append([swap.get(z, z) for z in order])
    base = np.array([[x, y, z] for x in (0, 0.5) for y in (0, 0.5) for z in (0, 0.5)]).ravel().tolist()
    return table.assign(
        nsites=8,
        prototype_id=[f"prototype-{i % 6}" for i in range(len(table))],
        lattice=pd.Series([np.diag([5.4 + step * (i // 6), 5.6, 5.8]).ravel().tolist() for i in range(len(table))]),
        atomic_numbers=pd.Series(numbers),
        frac_coords=pd.Series([base] * len(table)),
        energy_above_hull=np.linspace(0.0, 0.1, len(table)),
        energy_above_hull_error=0.01,
        energy_disagreement=np.linspace(0.08, 0.0, len(table)),
        energy_per_atom=-4.0,
        relaxation_given_up=np.arange(len(table)) == 7,
        suspect=np.arange(len(table)) == 0,
        stability_status=np.where(np.arange(len(table)) == 8, "failed", "ok"),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("select") / "run", ROWS, change=families)


def select(run: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["select", str(run), "--output", str(output), *options])


@pytest.fixture(scope="module")
def chosen(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chosen") / "selection"
    done = select(run, folder, "--count", str(CRYSTALS))
    assert done.exit_code == 0, done.output
    assert f"12 of {ROWS - 2} relaxed candidates" in done.stdout  # one was given up, one has failed
    assert f"ionsieve dft collect {folder}" in done.stdout
    return folder


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "selection.csv", keep_default_na=False, na_values=[""])


def test_the_table_says_what_and_why(run: Path, chosen: Path) -> None:
    table = table_of(chosen)
    assert list(table.columns) == [c.name for c in SELECTION_COLUMNS if c.name in table]
    assert table["order"].tolist() == list(range(1, CRYSTALS + 1))
    assert table["candidate_id"].is_unique
    worth = (table["disagreement"] + 1.0 + table["closeness"]) / 3.0
    np.testing.assert_allclose(table["selection_score"], table["novelty"] * worth, rtol=1e-7)
    np.testing.assert_allclose(table["disagreement"], table["energy_disagreement"] / 0.1, rtol=1e-7)
    distance = (table["energy_above_hull"] - 0.05).abs() / 0.01
    np.testing.assert_allclose(table["gate_distance"], distance, rtol=1e-6, atol=1e-9)
    assert set(table["nearest_gate"]) == {"energy_above_hull < 0.05 eV/atom"}
    assert set(table["config_digest"]) == {digest_of_file(run / "config.yaml")}
    first = table.iloc[0]
    assert f"disagree by {1000 * first['energy_disagreement']:.0f} meV/atom" in first["why"]
    assert "nothing like its environment of" in first["why"]
    about = json.loads((chosen / "selection.json").read_text())
    assert about["columns"]["energy_above_hull"]["unit"] == "eV/atom"
    assert about["provenance"]["campaign"] == "synthetic"
    assert (about["candidates"], about["notes"]) == (ROWS - 2, [])


def test_every_family_comes_before_any_comes_twice(run: Path, chosen: Path) -> None:
    table = table_of(chosen)
    assert table["prototype_id"].iloc[:6].nunique() == 6
    assert table["novelty"].iloc[:6].min() > table["novelty"].iloc[6:].max()


def test_crystals_and_inputs_are_written(chosen: Path) -> None:
    table = table_of(chosen)
    frames = ase.io.read(chosen / "structures.extxyz", ":")
    assert [atoms.info["candidate_id"] for atoms in frames] == table["candidate_id"].tolist()
    assert frames[0].info["units"]["energy_disagreement"] == "eV/atom"
    assert frames[0].info["provenance"]["campaign"] == "synthetic"
    assert frames[0].get_potential_energy() == pytest.approx(-4.0 * len(frames[0]))
    folders = {path.parent.name for path in (chosen / "dft").glob("*/calculation.json")}
    assert folders == set(table["candidate_id"])
    for name in folders:
        assert {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"} <= {p.name for p in (chosen / "dft" / name).iterdir()}
        assert load_calculation(chosen / "dft" / name)[0].settings == {"engine": "vasp", "relax": "none"}
    assert len((chosen / "dft" / "manifest.csv").read_text().splitlines()) == CRYSTALS + 1


def test_the_same_selection_comes_again(run: Path, chosen: Path, tmp_path: Path) -> None:
    assert select(run, tmp_path / "again", "-n", str(CRYSTALS)).exit_code == 0
    for name in ("selection.csv", "structures.extxyz", "dft/manifest.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (chosen / name).read_bytes(), name
    fewer = tmp_path / "fewer"
    assert select(run, fewer, "-n", "5").exit_code == 0
    assert table_of(fewer)["candidate_id"].tolist() == table_of(chosen)["candidate_id"].tolist()[:5]


def test_what_was_selected_before_is_known(run: Path, chosen: Path, tmp_path: Path) -> None:
    done = select(run, tmp_path / "next", "-n", "6", "--known", str(chosen / "structures.extxyz"))
    assert done.exit_code == 0, done.output
    later = table_of(tmp_path / "next")
    assert not set(later["candidate_id"]) & set(table_of(chosen)["candidate_id"])
    assert later["novelty"].max() < 0.5
    known = json.loads((tmp_path / "next" / "selection.json").read_text())["known"]
    assert list(known.values()) == [digest_of_file(chosen / "structures.extxyz")]


def test_the_loop_closes(chosen: Path) -> None:
    """Inputs, outputs (drawn energies in VASP's format), labels, training data."""
    for path in (chosen / "dft").glob("*/calculation.json"):
        sites = len(load_calculation(path.parent)[0].structure)
        write_vasprun(path.parent, -4.1 * sites)
    done = CliRunner().invoke(app, ["dft", "collect", str(chosen), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {item["state"] for item in told["calculations"]} == {"finished"}
    assert told["labels"]["crystals"] == CRYSTALS
    shares = {"train": 0.4, "validation": 0.3, "test": 0.3}
    settings = DataSettings(
        files=(told["labels"]["path"],), label_scheme="mp_raw", shares=shares, seed=1, min_structures_per_element=1
    )
    data = read_training_data(settings)
    found = [labels for _, labels in data.splits.items()]
    ids = {name for labels in found for name in labels.ids}
    assert ids == set(table_of(chosen)["candidate_id"])
    assert all(labels.stresses is not None for labels in found)
    groups = [group for labels in found for group in set(labels.groups)]
    assert len(groups) == len(set(groups)) > 2  # no prototype is in two splits
    energies = np.concatenate([labels.energies / labels.crystals.counts for labels in found])
    np.testing.assert_allclose(energies, -4.1, rtol=1e-9)


def test_the_training_of_the_docs_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")
    block = text.partition("## What to label next")[2].partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "fine_tune.yaml").write_text(block, encoding="utf-8")
    settings = load_training(tmp_path / "fine_tune.yaml")
    assert settings.fine_tune is not None
    assert settings.data.files == ("runs/mine/selection/labels.extxyz",)


def test_copies_are_strained_and_rattled(run: Path, tmp_path: Path) -> None:
    done = select(run, tmp_path / "moved", "-n", "2", "--copies", "2")
    assert done.exit_code == 0, done.output
    frames = ase.io.read(tmp_path / "moved" / "structures.extxyz", ":")
    names = [atoms.info["structure_id"] for atoms in frames]
    first = frames[0].info["candidate_id"]
    assert names[:3] == [first, f"{first}-distorted-0", f"{first}-distorted-1"]
    assert frames[1].calc is None  # the relaxed crystal's energy is not the copy's
    assert "selection_score" not in frames[1].info
    assert 0.94 < frames[1].get_volume() / frames[0].get_volume() < 1.06
    asked = load_calculation(tmp_path / "moved" / "dft" / names[1])[0].structure
    assert asked.volume == pytest.approx(frames[1].get_volume(), rel=1e-6)
    assert len(list((tmp_path / "moved" / "dft").glob("*/INCAR"))) == 6


def test_settings_of_dft_can_be_given(run: Path, tmp_path: Path) -> None:
    names = {symbol: f"{symbol}.upf" for symbol in ("Li", "Na", "Mg", "Y", "Sc", "Cl")}
    text = json.dumps({"espresso": {"pseudopotentials": names, "cutoff": 40.0, "density_cutoff": 320.0}})
    (tmp_path / "dft.yaml").write_text(text)
    options = ["-n", "6", "--engine", "espresso", "--dft", str(tmp_path / "dft.yaml")]
    refused = select(run, tmp_path / "espresso", *options)
    assert refused.exit_code == 2
    assert "no pseudopotential of Br" in refused.stderr
    assert not (tmp_path / "espresso").exists()
    (tmp_path / "dft.yaml").write_text(text.replace('"Cl.upf"', '"Cl.upf", "Br": "Br.upf"'))
    done = select(run, tmp_path / "espresso", *options)
    assert done.exit_code == 0, done.output
    inputs = list((tmp_path / "espresso" / "dft").glob("*/pw.in"))
    assert len(inputs) == 6
    assert "ecutwfc          = 40.0" in inputs[0].read_text()


def alike_and_unmeasured(table: pd.DataFrame) -> pd.DataFrame:
    return families(table, step=0.001).drop(columns=["energy_disagreement", "energy_above_hull_error"])


def test_scores_that_a_run_cannot_give_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 20, change=alike_and_unmeasured)
    done = select(run, tmp_path / "chosen", "-n", "20")
    assert done.exit_code == 2  # one was given up, one has failed
    assert "--count: is 20, but" in done.stderr
    assert "holds 18 relaxed candidates; write 18 or less" in done.stderr
    done = select(run, tmp_path / "chosen", "-n", "18")
    assert done.exit_code == 0, done.output
    assert "disagreement is left out: no candidate has a second potential's opinion" in done.stdout
    assert "closeness is left out: no gated quantity of this run has an uncertainty" in done.stdout
    table = table_of(tmp_path / "chosen")
    assert len(table) < 18  # a thousandth of an Å is no other crystal
    assert f"{len(table)} instead of 18 are chosen" in done.stdout
    np.testing.assert_allclose(table["selection_score"], table["novelty"])
    none = select(run, tmp_path / "none", "-n", "2", "--weights", "1,0,1")
    assert none.exit_code == 2
    assert "no score that this run can give has a weight above 0" in none.stderr


def test_suspects_may_be_left_out(run: Path, chosen: Path, tmp_path: Path) -> None:
    assert table_of(chosen)["suspect"].any()
    assert select(run, tmp_path / "sound", "-n", "12", "--no-suspects").exit_code == 0
    assert not table_of(tmp_path / "sound")["suspect"].any()


def test_only_what_is_in_the_funnel_is_chosen(run: Path, tmp_path: Path) -> None:
    """A tighter gate, other elements or `best` leave relaxed crystals on disk that this run's funnel does not have."""
    narrowed = Path(shutil.copytree(run, tmp_path / "run"))
    progress = read_json(narrowed / "progress.json")
    listed = narrowed / "stages" / "candidates" / progress["steps"][0]["digest"][:12] / "part-00000.parquet"
    table = pq.read_table(listed)
    pq.write_table(table.slice(0, 40), listed)
    kept = set(table["candidate_id"].to_pylist()[:40])
    done = select(narrowed, tmp_path / "forty", "--count", "38")
    assert "38 of 38 relaxed candidates" in done.stdout, done.output
    chosen = table_of(tmp_path / "forty")
    assert set(chosen["candidate_id"]) <= kept
    assert chosen["formula_pretty"].notna().all()
    taken = sorted(kept)[:20]
    progress["steps"][1]["taken"] = taken
    write_json(narrowed / "progress.json", progress)
    assert select(narrowed, tmp_path / "best", "--count", "18").exit_code == 0
    assert set(table_of(tmp_path / "best")["candidate_id"]) <= set(taken)


def no_crystals(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(lattice=None, atomic_numbers=None, frac_coords=None)


def test_bad_input_is_named(run: Path, chosen: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.extxyz").write_text("2\nno lattice\nLi 0 0 0\n")
    (tmp_path / "dft.yaml").write_text("cutoff: 3\n")
    (tmp_path / "relax.yaml").write_text("engine: vasp\nrelax: cell\n")
    bare = write_run(tmp_path / "bare", 10, change=no_crystals)
    for options, said in (
        ((run, chosen), "is there already, and is not overwritten; name another folder with --output"),
        ((run, tmp_path / "a", "--weights", "1,2"), "must be three numbers from 0 on"),
        ((run, tmp_path / "a", "--weights", "1,nan,1"), "must be three numbers from 0 on"),
        ((run, tmp_path / "a", "--known", str(tmp_path / "broken.extxyz")), "can't be read as extended XYZ"),
        ((run, tmp_path / "a", "--known", "labels.csv"), "is none of .parquet"),
        ((run, tmp_path / "a", "--dft", str(tmp_path / "dft.yaml")), "dft.yaml:1: cutoff: unknown key"),
        ((run, tmp_path / "a", "--dft", str(tmp_path / "relax.yaml")), "relax.yaml:2: relax: labels are single points"),
        ((run, tmp_path / "a", "--engine", "espresso"), "needs espresso.pseudopotentials"),
        ((bare, tmp_path / "a"), "holds no candidate whose relaxation came to its end"),
        ((tmp_path, tmp_path / "a"), "is no run folder"),
    ):
        done = select(options[0], options[1], *options[2:])
        assert done.exit_code == 2, (options, done.output)
        assert said in done.stderr, (options, done.stderr)
        assert not (tmp_path / "a").exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_nothing_heavy_is_loaded(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from workflows.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "print(sorted({'torch', 'matgl', 'chgnet', 'distributed'} & set(sys.modules)))"
    )
    words = ["select", str(run), "-n", "3", "-o", str(tmp_path / "three")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
