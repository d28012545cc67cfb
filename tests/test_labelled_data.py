"""Labelled data on disk: a killed generation ends like an undisturbed one, and training reads what comes out."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

import workflows.labelled_parts
from pipeline.crystal import row_from_structure
from pipeline.distillation.labelling import label_crystals
from pipeline.distillation.settings import DistillationSettings
from pipeline.problems import ConfigError
from pipeline.surrogates import CATALOGUE, load_potential
from pipeline.training.labelled import LABEL_METADATA_KEY
from pipeline.training.reading import read_training_data
from pipeline.training.settings import DataSettings
from pipeline.training.splits import SPLITS
from tests.campaigns import crystals, write_campaign
from tests.potentials import rock_salt
from workflows import labelled_data, labelled_splits
from workflows.cli import app
from workflows.files import digest_of
from workflows.labelled_data import LabelledData, generate_labelled_data
from workflows.labelled_parts import path_of, read_part
from workflows.library import prototype_library

# With this seed the four prototypes of the tiny campaign reach all three splits.
SEED = 0
SMALL = {
    "campaign": "tiny.yaml",
    "teacher": "CHGNet",
    "seed": SEED,
    "crystals": {"elements": 0.3, "binaries": 0.0, "ternaries": 0.0, "max_sites": 8},
    "distortions": {"copies": 2, "rattles": [0.05, 0.2], "least_sites": 2},
    "relaxation": {"share": 0.5, "frames": 3, "max_steps": 3},
    "dynamics": {"share": 0.2, "steps": 2, "frames": 1},
    "held_out": 0.3,
    "validation": 0.3,
    "part_size": 2,
    "workers": 1,
}


def generated(folder: Path, base: Path, **changes) -> tuple[LabelledData, list[str]]:
    said: list[str] = []
    settings = DistillationSettings.model_validate({**SMALL, **changes})
    return generate_labelled_data(settings, folder, said.append, base), said


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(campaign, tmp_path_factory) -> LabelledData:
    return generated(tmp_path_factory.mktemp("undisturbed"), campaign)[0]


def test_training_reads_three_splits_that_share_nothing(undisturbed):
    settings = DataSettings(
        label_scheme="mp2020",
        min_structures_per_element=1,
        **{split: [str(file)] for split, file in undisturbed.files.items()},
    )
    data = read_training_data(settings)  # refuses leaks of groups, crystals and prototypes
    frames = {name: len(labels) for name, labels in data.splits.items()}
    assert frames == undisturbed.frames
    assert all(frames.values())
    assert {"drawn", "relaxation", "distorted"} <= set(data.splits.train.sources)


def test_files_say_what_made_them(undisturbed):
    metadata = pq.read_schema(undisturbed.files["test"]).metadata[LABEL_METADATA_KEY]
    about = json.loads(metadata)
    assert about["teacher"]["sha256"] == next(iter(CATALOGUE["CHGNet"].sha256.values()))
    assert about["teacher"]["scheme"] == "mp2020"
    assert about["units"]["stress"] == "GPa, positive under tension"
    assert about["settings"]["seed"] == SEED
    assert about["split"] == "test"
    assert about["digest"] == undisturbed.digest
    assert {"torch", "numpy"} <= set(about["arithmetic"])
    table = pd.read_csv(undisturbed.folder / "contents.csv")
    total = sum(undisturbed.frames.values())
    assert table[table["by"] == "source"]["frames"].sum() == total
    # two atoms at one place: of the tiny campaign's broken crystal
    assert about["left_out"]


def test_a_killed_generation_ends_like_an_undisturbed_one(campaign, undisturbed, tmp_path, monkeypatch):
    write, written = workflows.labelled_parts.write_part, []

    def killed(home, number, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        write(home, number, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(workflows.labelled_parts, "write_part", killed)
        with pytest.raises(KeyboardInterrupt):
            generated(tmp_path, campaign)
    assert not (tmp_path / "generation.json").exists()
    (home,) = tmp_path.glob("generation-*")
    damaged = path_of(home, written[0])
    damaged.write_bytes(damaged.read_bytes()[:-100])
    data, said = generated(tmp_path, campaign)
    n_parts = len(list(home.glob("part-*.parquet")))
    assert any(f"{n_parts - 1} of {n_parts} parts" in line for line in said)
    assert data.digest == undisturbed.digest
    for split in SPLITS:
        assert data.files[split].read_bytes() == undisturbed.files[split].read_bytes()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    _, said = generated(tmp_path, campaign)
    assert any("are there" in line for line in said)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    # A training that goes on elsewhere finds its own labels, not others of other last digits.
    monkeypatch.setattr(labelled_data, "arithmetic_facts", lambda: {"processor": "another"})
    data, said = generated(tmp_path, campaign)
    assert any("made on another machine" in line for line in said)
    assert data.digest == undisturbed.digest
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}


def test_the_digest_holds_what_is_drawn_and_no_more(tmp_path):
    """Which competing phases there are changes the labels; how many candidates a unit of a run holds does not."""

    def digest(name, old, new):
        folder = tmp_path / name
        path = write_campaign(folder)
        assert old in path.read_text()
        listed = "substitution: none\n  elements: [Li, Na, Mg, Cl]"
        path.write_text(path.read_text().replace(old, new).replace("substitution: none", listed))
        settings = DistillationSettings.model_validate(SMALL)
        inputs, _ = labelled_data._inputs(settings, folder)
        return digest_of(labelled_data._about(settings, inputs, prototype_library(inputs, None, print)[1], {}, None))

    table = "{source: table, path: phases.csv, elemental_references: elements.csv}"
    usual = digest("usual", table, "{source: prototypes}")
    assert digest("finer", table, "{source: prototypes, chunk_size: 7}") == usual
    assert digest("fewer", table, "{source: prototypes, max_sites: 2}") != usual


def test_further_prototypes_are_trained_on_alone_and_change_no_split(campaign, undisturbed, tmp_path):
    """Rock salt and the caesium type are of the campaign, in whichever split; fluorite is not."""
    more = tmp_path / "more"
    more.mkdir()
    for name, structure in crystals().items():
        if name in ("sodium-chloride", "sodium-caesium-type"):
            structure.to(filename=str(more / f"{name}.vasp"), fmt="poscar")
    fluorite = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25] * 3])
    fluorite.get_primitive_structure().to(filename=str(more / "fluorite.vasp"), fmt="poscar")
    further = {"prototypes": {"source": "folder", "path": str(more)}, "candidates": 20}
    data, _ = generated(tmp_path / "labels", campaign, further=further)
    ids = {split: pq.read_table(file)["structure_id"].to_pylist() for split, file in data.files.items()}
    before = {split: pq.read_table(file)["structure_id"].to_pylist() for split, file in undisturbed.files.items()}
    assert (ids["validation"], ids["test"]) == (before["validation"], before["test"])
    new = set(ids["train"]) - set(before["train"])
    assert set(ids["train"]) > set(before["train"])
    assert any(name.startswith("MgCl2") for name in new)
    contents = pd.read_csv(data.folder / "contents.csv").set_index(["by", "value"])["frames"]
    assert contents["kind", "further"] == len(new)
    assert contents["left out", "further: of an unseen prototype"] > 0
    settings = DataSettings(
        label_scheme="mp2020",
        min_structures_per_element=1,
        **{split: [str(file)] for split, file in data.files.items()},
    )
    assert len(read_training_data(settings).splits.train) == len(ids["train"])  # no leaks either


def test_no_group_is_named_after_a_prototype_that_was_left_out():
    """Prototype a is unseen; b has a frame like one of a's, and none like those of the test split."""
    rows = pd.DataFrame({"prototype": list("aabbc"), "protostructure": ["x", "y", "y", None, None]})
    unseen = pd.DataFrame({"prototype": ["a", "d"], "protostructure": ["x", None]})
    kept, near = labelled_splits._trained_on(rows, unseen)
    assert near == 2
    assert kept["group"].tolist() == ["b", "b", "c"]
    assert set(kept["split"]) == {"train"}


def test_further_prototypes_that_are_not_there_are_named(campaign, tmp_path):
    further = {"prototypes": {"source": "folder", "path": "nowhere"}}
    with pytest.raises(ConfigError, match=r"distil.further: .*nowhere.*neither beside the config"):
        generated(tmp_path, campaign, further=further)
    assert not list(tmp_path.iterdir())


def test_groups_that_are_large_are_trained_on(campaign, tmp_path):
    words = r"groups of prototypes, (\d+) of them always trained on .* leave no frame for validation and test"
    with pytest.raises(ConfigError, match=words):
        generated(tmp_path, campaign, largest_unseen=0.001)


def test_a_part_of_other_settings_is_not_taken(undisturbed):
    (home,) = undisturbed.folder.glob("generation-*")
    assert len(read_part(home, 0, undisturbed.digest).rows)
    with pytest.raises(ValueError, match="of another generation"):
        read_part(home, 0, "0" * 64)
    with pytest.raises(ValueError, match="is damaged"):
        read_part(home, 99, undisturbed.digest)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"campaign": "nowhere.yaml"}, "distil.campaign: nowhere.yaml is not there"),
        ({"teacher": "M3GNet-of-dreams"}, "distil.teacher: model 'M3GNet-of-dreams' not found"),
        ({"scheme": "mp_raw"}, "distil.scheme: energies of CHGNet are mp2020, got mp_raw"),
        ({"convention": "source"}, "distil.teacher: "),
    ],
)
def test_hostile_settings_are_refused_before_any_work(campaign, tmp_path, changes, words):
    with pytest.raises(ConfigError) as caught:
        generated(tmp_path, campaign, **changes)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


TRAINING = """\
name: tiny
output: {output}
distil: {distil}
data: {{label_scheme: {scheme}, min_structures_per_element: 1}}
network: {{units: 8, node_width: 8, edge_width: 8, blocks: 1, cutoff: 4.0, three_body_cutoff: null}}
fitting: {{batch_size: 8, max_epochs: 1}}
card: {{data_licence: CC BY 4.0, data_citation: a test}}
device: cpu
threads: 1
"""


def test_the_command_trains_on_labels_that_it_makes(campaign, undisturbed, tmp_path):
    path = campaign / "train.yaml"
    words = {"output": tmp_path, "distil": json.dumps(SMALL), "scheme": "mp2020"}
    path.write_text(TRAINING.format(**words))
    # Made before, by the same settings: the command takes them.
    shutil.copytree(undisturbed.folder, tmp_path / "tiny" / "labels")
    done = CliRunner().invoke(app, ["train", str(path)])
    assert done.exit_code == 0, done.output
    assert "the labels of these settings are there" in done.output
    card = json.loads((tmp_path / "tiny" / "card.json").read_text())
    assert card["errors"]
    path.write_text(TRAINING.format(**{**words, "scheme": "mp_raw"}))
    done = CliRunner().invoke(app, ["train", str(path)])
    assert done.exit_code == 2
    assert "data.label_scheme: is mp_raw, but CHGNet gives mp2020; write mp2020" in done.output.replace("\n", " ")


@pytest.mark.data
def test_m3gnet_labels_a_crystal_alike_in_every_part():
    teacher = load_potential("M3GNet-MP-2021.2.8-PES")
    layered = Structure(
        Lattice.tetragonal(3.8, 5.4),
        ["Li", "Na", "Cl", "Cl"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0, 0.5]],
    )
    rows = [
        {
            **row_from_structure(crystal),
            "start_id": f"crystal-{k}",
            "kind": "binary",
            "prototype": f"prototype {k}",
            "relaxed": True,
            "temperature": 600.0,
        }
        for k, crystal in enumerate([rock_salt(), rock_salt("Li", "F", 4.1), layered])
    ]
    settings = DistillationSettings.model_validate({**SMALL, "teacher": teacher.name})
    starts = pd.DataFrame(rows)
    whole = label_crystals(starts, settings, teacher).rows
    assert set(whole["source"]) == {"drawn", "relaxation", "distorted", "dynamics"}
    alone = [label_crystals(starts.iloc[k : k + 1].reset_index(drop=True), settings, teacher).rows for k in range(3)]
    pd.testing.assert_frame_equal(pd.concat(alone, ignore_index=True), whole, check_exact=True)
    # matgl 1.1.3 with DGL gives rock salt -3.37 eV/atom.
    drawn = whole[(whole["start_id"] == "crystal-0") & (whole["source"] == "drawn")].iloc[0]
    assert drawn["energy"] == pytest.approx(-3.37 * 2, abs=0.06)
