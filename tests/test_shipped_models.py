"""Shipping a trained model: it is found by name, gives the same numbers, and what must not be shipped is refused."""

import contextlib
import json
import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from pipeline.config import json_schema, load_campaign
from pipeline.problems import Problem
from pipeline.surrogates import ChecksumError, list_models, load_potential, locate, shipped
from pipeline.surrogates.declared import DECLARATION, BadDeclarationError
from pipeline.training.export import matgl_energies
from pipeline.training.progress import Watcher
from pipeline.training.session import train
from pipeline.training.settings import Training
from scripts.ship_model import FILES, LARGEST, NotShippedError, ship
from tests.campaigns import write_campaign
from tests.labels import write_alloys
from workflows.cli import app
from workflows.models_found import find_models
from workflows.provenance import model_digests

NAME = "alloys"
ROOT = Path(__file__).resolve().parent.parent


def trained_at(output: Path, labels: Path) -> Path:
    settings = Training(
        name=NAME,
        output=str(output),
        data={
            "files": [str(labels)],
            "label_scheme": "other",
            "shares": {"train": 0.5, "validation": 0.25, "test": 0.25},
            "seed": 0,
            "min_structures_per_element": 2,
        },
        network={"units": 8, "node_width": 8, "edge_width": 8, "blocks": 1, "cutoff": 4.0, "three_body_cutoff": 3},
        fitting={"max_epochs": 2, "batch_size": 8},
        card={"teacher": "EMT", "data_licence": "LGPL", "data_citation": "ASE's effective medium theory"},
        device="cpu",
        threads=1,
    )
    return train(settings, Watcher(), {"command": "ionsieve train train.yaml"}).folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A tiny model of copper, silver and gold, trained with names relative to the folder one is in."""
    here = tmp_path_factory.mktemp("training")
    with contextlib.chdir(here):
        return here / trained_at(Path("models"), write_alloys(Path("alloys.parquet"), 20))


@pytest.fixture
def package(trained, tmp_path, monkeypatch) -> Path:
    """A place of shipped models that holds the trained one."""
    folder = tmp_path / "package"
    ship(trained, folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "copy" / NAME)


def crystals() -> list[Structure]:
    rng = np.random.default_rng(1)
    sites = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    return [
        Structure(Lattice.cubic(3.9 + 0.1 * k), ["Cu", "Ag", "Au", "Cu"], sites + rng.normal(0.0, 0.02, (4, 3)))
        for k in range(3)
    ]


def change_card(folder: Path, **changes) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def test_a_shipped_model_is_found_by_name_and_is_the_trained_one(package, trained):
    found = locate(NAME, {})
    assert found.found_in == "this package"
    assert found.entry == locate(trained).entry
    ours = [e.energy for e in load_potential(NAME).evaluate(crystals())]
    assert ours == [e.energy for e in load_potential(trained).evaluate(crystals())]
    # float32 in another order of operations, some -15 eV
    np.testing.assert_allclose(matgl_energies(package / NAME, crystals()), ours, atol=1e-5)


def test_only_the_files_that_are_needed_are_shipped(package, trained):
    assert sorted(path.name for path in (package / NAME).iterdir()) == sorted(FILES)
    assert (trained / "training").is_dir()
    assert all((package / NAME / name).read_bytes() == (trained / name).read_bytes() for name in FILES)


def test_its_name_means_these_weights_whatever_else_has_it(package, copy, tmp_path):
    environ = {"IONSIEVE_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    shutil.copytree(copy, tmp_path / "models" / NAME)
    with contextlib.chdir(copy.parent):
        assert locate(NAME, environ).files["state.pt"].parent == package / NAME
        assert locate(Path(NAME), environ).found_in == "the path itself"
    assert locate(str(copy), environ).found_in == "the path itself"


def test_it_is_listed_and_the_schema_names_it(package):
    listing = {item.name: item for item in list_models({})}[NAME]
    assert listing.path == package / NAME
    assert listing.entry.elements == ("Cu", "Ag", "Au")
    done = CliRunner().invoke(app, ["models", "--json"])
    facts = {item["name"]: item for item in json.loads(done.stdout)}
    assert facts[NAME] == {
        "name": NAME,
        "kind": "potential",
        "scheme": None,
        "licence": "LGPL",
        "path": str(package / NAME),
        "problem": None,
    }
    named = json.loads(json_schema())["$defs"]["PotentialSettings"]["properties"]
    for key in ("model", "second_opinion"):
        assert named[key]["examples"][0] == NAME
        assert "CHGNet" in named[key]["examples"]
        assert "MEGNet-MP-2018.6.1-Eform" not in named[key]["examples"]


def test_changed_weights_of_a_shipped_model_are_refused(package):
    path = package / NAME / "state.pt"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ChecksumError, match="SHA-256"):
        load_potential(NAME)
    assert "SHA-256" in {item.name: item for item in list_models({})}[NAME].problem


def test_an_element_outside_its_domain_is_refused_with_those_it_knows(package, tmp_path):
    path = write_campaign(tmp_path / "campaign")
    text = path.read_text().replace("substitution: none", "elements: [Li, Na, Cl]\n  substitution: none")
    for potential, named in (("model: alloys", NAME), ("model: CHGNet, second_opinion: alloys", NAME)):
        path.write_text(text.replace("model: CHGNet", potential))
        problems: list[Problem] = []
        find_models(load_campaign(path), str(path), {}, problems, [])
        (said,) = map(str, problems)
        assert f"{named} does not know Cl, Li, Na; it knows Cu, Ag, Au" in said


def test_a_potential_is_no_second_opinion_of_itself(package, tmp_path):
    path = write_campaign(tmp_path / "campaign")
    text = path.read_text()
    assert "model: CHGNet" in text
    problems: list[Problem] = []
    notes: list[str] = []
    path.write_text(text.replace("model: CHGNet", "model: CHGNet, second_opinion: CHGNet"))
    find_models(load_campaign(path), str(path), {}, problems, notes)
    assert any("potential.second_opinion: CHGNet is the potential itself" in str(p) for p in problems)
    path.write_text(text.replace("model: CHGNet", "model: CHGNet, second_opinion: CHGNot"))
    problems.clear()
    find_models(load_campaign(path), str(path), {}, problems, notes)
    assert any("potential.second_opinion: model 'CHGNot' not found" in str(p) for p in problems)
    gone = "model: M3GNet-MP-2021.2.8-PES, fallback: CHGNet, second_opinion: CHGNet"
    path.write_text(text.replace("model: CHGNet", gone))
    problems.clear()
    chosen, models = find_models(load_campaign(path), str(path), {}, problems, notes)
    assert (chosen.potential.model, chosen.potential.second_opinion) == ("CHGNet", None)
    assert problems == []
    assert "potential.second_opinion" not in models
    assert "no second opinion: CHGNet is the potential itself now" in notes


def test_other_files_of_an_unknown_model_are_part_of_what_it_is(copy, tmp_path):
    """Cutoffs, and energies of the elements that state.pt lacks, are read from model.json."""
    bare = tmp_path / "bare"
    shutil.copytree(copy, bare)
    (bare / DECLARATION).unlink()
    path = write_campaign(tmp_path / "campaign")
    path.write_text(path.read_text().replace("model: CHGNet", f"model: {bare}, convention: source, scheme: mp_raw"))

    def digest():
        problems: list[Problem] = []
        models = find_models(load_campaign(path), str(path), {}, problems, [])[1]
        assert problems == []
        return models["potential"]

    before = digest()
    text = (bare / "model.json").read_text()
    (bare / "model.json").write_text(text + "\n")
    assert digest() != before
    (bare / "model.json").write_text(text)
    assert digest() == before


def test_other_files_of_a_second_opinion_are_part_of_what_it_is(copy, tmp_path):
    """Its convention and energy scheme are declared beside its weights; workers must have the same."""
    own = tmp_path / "own"
    shutil.copytree(copy, own)
    path = write_campaign(tmp_path / "campaign")
    path.write_text(path.read_text().replace("model: CHGNet", f"model: CHGNet, second_opinion: {own}"))

    def digests():
        models = find_models(load_campaign(path), str(path), {}, [], [])[1]
        return models["potential.second_opinion"], model_digests([str(own)])[str(own)]

    before = digests()
    declared = (own / DECLARATION).read_text()
    (own / DECLARATION).write_text(declared + "\n")
    assert all(now != was for now, was in zip(digests(), before, strict=True))
    (own / DECLARATION).write_text(declared)
    assert digests() == before
    assert model_digests(["CHGNet"]) == {"CHGNet": locate("CHGNet").sha256}


def test_trained_models_are_listed_beside_the_known_ones(copy, tmp_path):
    bare, damaged = copy.parent / "bare", copy.parent / "damaged"
    for folder in (bare, damaged):
        shutil.copytree(copy, folder)
    (bare / "ionsieve.json").unlink()
    (damaged / "ionsieve.json").write_text("{")
    (copy.parent / "unfinished").mkdir()
    listings = {item.name: item for item in list_models({}, own=[copy.parent])}
    assert (listings[NAME].path, listings[NAME].problem) == (copy, None)
    assert "potential.convention and potential.scheme must be given" in listings["bare"].problem
    assert "cannot be read as JSON" in listings["damaged"].problem
    assert "unfinished" not in listings
    environ = {"IONSIEVE_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert NAME not in [item.name for item in list_models(environ)]
    (tmp_path / "models").symlink_to(copy.parent)
    assert [item.path for item in list_models(environ) if item.name == NAME] == [tmp_path / "models" / NAME]


def test_the_command_lists_models_here_and_those_named(copy, monkeypatch):
    monkeypatch.chdir(copy.parent.parent)
    copy.parent.rename("models")
    for arguments in ([], ["models"], [f"models/{NAME}"]):
        done = CliRunner().invoke(app, ["models", *arguments])
        assert done.exit_code == 0, done.output
        assert f"models/{NAME}" in done.stdout
    Path("empty").mkdir()
    done = CliRunner().invoke(app, ["models", "empty", f"models/{NAME}"])
    assert done.exit_code == 2
    assert "empty: holds no model" in done.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fit": {"finished": False}}, "has not come to its end"),
        ({"errors": {}}, "its card has no energy_mae, energy_median, force_mae on a test split"),
        ({"name": "alloy"}, "ionsieve.json says alloys and the card alloy"),
        ({"data": {"files": {"/home/somebody/labels.parquet": "0" * 64}}}, "names /home/somebody/labels.parquet"),
        ({"provenance": {"command": "ionsieve train /tmp/train.yaml"}}, "names /tmp/train.yaml, which is nowhere else"),
        ({"sha256": {"model.json": "0", "state.pt": "0", "model.pt": "0"}}, "but card.json says 0; train or copy it"),
    ],
)  # fmt: skip
def test_what_must_not_be_shipped_is_refused(copy, tmp_path, changes, words):
    change_card(copy, **changes)
    with pytest.raises(NotShippedError, match=words):
        ship(copy, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_card_with_names_of_this_machine_is_written_anew(trained, tmp_path, monkeypatch):
    shutil.copytree(trained.parent.parent, tmp_path, dirs_exist_ok=True)
    folder = trained_at(tmp_path / "models", tmp_path / "alloys.parquet")
    with pytest.raises(NotShippedError, match="run the command again with relative names"):
        ship(folder, tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    trained_at(Path("models"), Path("alloys.parquet"))
    home = ship(folder, tmp_path / "package")
    assert (home / "state.pt").read_bytes() == (trained / "state.pt").read_bytes()


@pytest.mark.parametrize("name", ["model.json", "state.pt", "model.pt"])
def test_files_that_are_not_those_declared_are_not_shipped(copy, tmp_path, name):
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(NotShippedError, match=rf"{name} has SHA-256 .* but ionsieve.json says"):
        ship(copy, tmp_path / "package")


def test_size_and_missing_files(copy, tmp_path):
    (copy / "learning_curve.csv").write_bytes(b" " * LARGEST)
    with pytest.raises(NotShippedError, match="more than 2,000,000"):
        ship(copy, tmp_path / "package")
    (copy / "card.md").unlink()
    with pytest.raises(NotShippedError, match=r"lacks card\.md; run the training's command again"):
        ship(copy, tmp_path / "package")
    (copy / "ionsieve.json").write_text("{")
    (copy / "card.md").write_text("")
    with pytest.raises(BadDeclarationError):
        ship(copy, tmp_path / "package")


def test_another_model_of_the_name_is_replaced_when_asked(copy, package):
    change_card(copy, notes="the second")
    with pytest.raises(NotShippedError, match="give --replace"):
        ship(copy, package)
    ship(copy, package, replace=True)
    assert json.loads((package / NAME / "card.json").read_text())["notes"] == "the second"
    assert [path.name for path in package.iterdir()] == [NAME]


def test_a_wheel_takes_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["pipeline.surrogates.models"]
    assert shipped.FOLDER.relative_to(ROOT).parts == ("pipeline", "surrogates", "models")
    assert all(any(fnmatch(f"{NAME}/{name}", pattern) for pattern in patterns) for name in FILES)


@pytest.mark.parametrize("name", sorted(shipped.shipped_folders()))
def test_models_of_this_package_could_be_shipped_again(name, tmp_path):
    folder = shipped.shipped_folders()[name]
    assert sorted(path.name for path in ship(folder, tmp_path).iterdir()) == sorted(FILES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert locate(name, {}).name == name
