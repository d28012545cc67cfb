"""Hints: a network is drawn to its teacher's features, learns more in as many steps, and goes on where it was."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from pipeline.problems import ConfigError
from pipeline.surrogates import load_potential, locate
from pipeline.surrogates.loading import load_matgl
from pipeline.training.fitting_settings import NetworkSettings
from pipeline.training.hints import Edges, Hints
from pipeline.training.network import ArrangedM3GNet, fresh_network, network_of, sizes_of
from pipeline.training.progress import Watcher
from pipeline.training.read_parquet import write_parquet
from pipeline.training.session import train
from pipeline.training.settings import Training
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3
from tests.labels import alloys, table, write_alloys
from tests.trainings import SIZES, alloy_training

SPLITS = {"train": ("bcc", "L1_0", "B2"), "validation": ("fcc",), "test": ("L1_2",)}
DISTIL = {"campaign": "alloys.yaml", "teacher": "", "scheme": "mp_raw"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A network of matgl's that fits EMT's energies a little."""
    labels = write_alloys(tmp_path_factory.mktemp("labels") / "alloys.parquet", 40)
    return train(alloy_training(tmp_path_factory.mktemp("teacher"), labels), Watcher(), {}).folder


@pytest.fixture(scope="module")
def labelled(teacher: Path) -> pd.DataFrame:
    """Alloys with the teacher's labels."""
    crystals: list[Atoms] = alloys(60, seed=1)
    rows = table(crystals).drop(columns="label_scheme").assign(source="teacher")
    found = load_potential(teacher).evaluate([_structure(atoms) for atoms in crystals])
    rows["energy"] = [e.energy for e in found]
    rows["forces"] = [e.forces.reshape(-1) for e in found]
    rows["stress"] = [e.stress.reshape(-1) * GPA_PER_EV_PER_ANGSTROM3 for e in found]
    return rows


def _structure(atoms: Atoms):
    from pymatgen.io.ase import AseAtomsAdaptor

    return AseAtomsAdaptor.get_structure(atoms)


def student(folder: Path, labelled: pd.DataFrame, teacher: Path, **changes) -> Training:
    """A training whose labels are there already, as `distil` would have left them."""
    labels = folder / "alloys" / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    for split, groups in SPLITS.items():
        if not (labels / f"{split}.parquet").exists():
            write_parquet(labels / f"{split}.parquet", labelled[labelled["group"].isin(groups)], {})
    given = {
        "distil": {**DISTIL, "teacher": str(teacher)},
        "data": {"label_scheme": "other", "min_structures_per_element": 2},
        "hints": {"epochs": 3, "weight": 0.05},
    }
    return alloy_training(folder, labels, **{**given, **changes})


def test_features_alone_are_fitted_first(labelled, teacher, tmp_path):
    outcome = train(student(tmp_path, labelled, teacher), Watcher(), {"command": "ionsieve train alloys.yaml"})
    head, *lines = (outcome.folder / "learning_curve.csv").read_text().splitlines()
    forces = [float(line.split(",")[head.split(",").index("train_force_mae")]) for line in lines]
    assert [math.isnan(f) for f in forces] == [True] * 3 + [False] * 5
    losses = [float(line.split(",")[head.split(",").index("train_loss")]) for line in lines]
    assert losses[2] < losses[1] < losses[0]
    assert "trained from scratch, with hints at the teacher's features" in (outcome.folder / "card.md").read_text()
    assert "nan" not in (outcome.folder / "learning_curve.svg").read_text()


def test_labels_begin_with_a_rate_of_their_own_and_nothing_remembered(labelled, teacher, tmp_path):
    moments = []

    def remember(row):
        state = torch.load(next(tmp_path.glob("**/last.ckpt")), weights_only=True)["optimizer_states"][0]["state"]
        moments.append((float(row["learning_rate"]), int(next(iter(state.values()))["step"])))

    settings = student(tmp_path, labelled, teacher, hints={"epochs": 2, "learning_rate": 0.01})
    train(settings, Watcher(epoch=remember), {})
    rates, steps = zip(*moments, strict=True)
    assert steps == tuple(steps[0] * k for k in (1, 2, 1, 2, 3, 4, 5, 6))
    assert rates[1] == pytest.approx(1e-4)
    assert rates[7] == pytest.approx(2e-4)
    assert rates[0] < 0.01 < rates[2] < 0.02


def test_a_crystal_that_is_left_alone_in_its_batch_is_a_batch(labelled, teacher, tmp_path):
    crystals = labelled["group"].isin(SPLITS["train"]).sum()
    fitting = {"batch_size": int(crystals) - 1, "max_epochs": 2, "learning_rate": 0.01}
    settings = student(tmp_path, labelled, teacher, hints={"epochs": 1, "weight": 0.05}, fitting=fitting)
    head, hinted, told = (train(settings, Watcher(), {}).folder / "learning_curve.csv").read_text().splitlines()
    losses = [float(line.split(",")[head.split(",").index("train_loss")]) for line in (hinted, told)]
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
@pytest.mark.parametrize("first", [1, 5], ids=["among the hints", "among the labels"])
def test_resumed_equals_undisturbed(labelled, teacher, tmp_path, first, optimizer):
    def settings(folder):
        return student(folder, labelled, teacher, fitting={"optimizer": optimizer, "near_epochs": 2})

    class KilledError(Exception):
        pass

    def kill(row):
        if row["epoch"] == first:
            raise KilledError

    whole = train(settings(tmp_path / "whole"), Watcher(), {})
    with pytest.raises(KilledError):
        train(settings(tmp_path / "killed"), Watcher(epoch=kill), {})
    again = train(settings(tmp_path / "killed"), Watcher(), {})
    one, other = (torch.load(o.folder / "state.pt", weights_only=True) for o in (whole, again))
    assert all(torch.equal(one[key], other[key]) for key in one)


def a_batch(n: int = 6, bonds: int = 40) -> tuple[torch.Tensor, Edges]:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(bonds, 3))
    vectors *= rng.uniform(2.2, 4.4, bonds)[:, None] / np.linalg.norm(vectors, axis=1)[:, None]
    vectors = vectors[np.argsort(np.linalg.norm(vectors, axis=1))]
    close = int((np.linalg.norm(vectors, axis=1) < SIZES["three_body_cutoff"]).sum())
    source, destination = (torch.from_numpy(rng.integers(0, n, bonds)) for _ in range(2))
    types = torch.from_numpy(rng.integers(0, 3, n))
    return types, Edges(source, destination, torch.from_numpy(vectors.astype(np.float32)), close)


def test_distance_is_the_sum_of_relative_deviations():
    own, hint = (fresh_network(NetworkSettings(**SIZES), ("Cu", "Ag", "Au"), seed) for seed in (1, 2))
    types, edges = a_batch()
    found = []
    for network in (own, hint):
        arranged = ArrangedM3GNet(network).arranged
        arranged.prepare()
        layers = list(arranged.layers(types, *edges))
        found.append([*(x for pair in layers for x in pair), arranged.energies_of(layers[-1][0])])
    layers = list(zip(found[0][0:-1:2], found[0][1:-1:2], strict=True))
    distance = Hints(hint).distance(types, edges, layers, found[0][-1])
    expected = sum(
        np.linalg.norm((a - b).detach().numpy()) / np.linalg.norm(b.detach().numpy())
        for a, b in zip(*found, strict=True)
    )
    assert len(found[0]) == 2 * (SIZES["blocks"] + 1) + 1
    assert float(distance.detach()) == pytest.approx(expected, rel=1e-5)
    assert distance.requires_grad
    assert not any(p.requires_grad for p in hint.parameters())


def test_a_student_that_is_its_teacher_is_at_no_distance_and_stays(teacher):
    found = locate(str(teacher))
    loaded = load_matgl(found, "source")
    networks = [network_of(loaded, loaded.elements, "teacher") for _ in range(2)]
    own = ArrangedM3GNet(networks[0]).arranged
    own.prepare()
    types, edges = a_batch()
    layers = list(own.layers(types, *edges))
    distance = Hints(networks[1]).distance(types, edges, layers, own.energies_of(layers[-1][0]))
    distance.backward()
    assert float(distance.detach()) < 1e-4
    assert all(bool(torch.isfinite(p.grad).all()) for p in networks[0].parameters() if p.grad is not None)


def test_sizes_are_read_back():
    for sizes in (NetworkSettings(**SIZES), NetworkSettings(**{**SIZES, "three_body_cutoff": None, "smooth": True})):
        assert sizes_of(fresh_network(sizes, ("Cu",), 0)) == sizes.model_dump(exclude={"elements"})


def test_a_network_of_other_sizes_is_refused_with_those_of_the_teacher(labelled, teacher, tmp_path):
    other = {**SIZES, "blocks": 3, "three_body_cutoff": None}
    with pytest.raises(ConfigError, match=r"write blocks: 2, three_body_cutoff: 3\.5"):
        train(student(tmp_path, labelled, teacher, network=other), Watcher(), {})


def test_an_error_before_the_first_epoch_holds_no_folder(labelled, teacher, tmp_path):
    """The remedy that the command names can be followed: nothing was trained that could be mixed."""
    with pytest.raises(ConfigError, match="write blocks: 2"):
        train(student(tmp_path, labelled, teacher, network={**SIZES, "blocks": 3}), Watcher(), {})
    mended = student(tmp_path, labelled, teacher, fitting={"max_epochs": 4, "max_minutes": 1e-6})
    assert not train(mended, Watcher(), {}).finished


def test_patience_begins_with_the_labels(labelled, teacher, tmp_path):
    """While hints are fitted the errors of the labels are not: here a patience of one would end it among them."""
    impatient = {"max_epochs": 6, "patience": 1, "learning_rate": 1e-3}
    outcome = train(
        student(tmp_path, labelled, teacher, hints={"epochs": 4, "learning_rate": 0.1}, fitting=impatient),
        Watcher(),
        {},
    )
    losses = pd.read_csv(outcome.folder / "learning_curve.csv")["validation_loss"].tolist()
    assert any(later >= min(losses[:k]) for k, later in enumerate(losses[1:4], start=1))
    assert len(losses) > 4


@pytest.mark.parametrize(("name", "words"), [("nowhere", "not found"), ("CHGNet", "is no M3GNet")])
def test_a_teacher_that_has_no_such_features_is_refused(labelled, tmp_path, name, words):
    with pytest.raises(ConfigError, match=words):
        train(student(tmp_path, labelled, Path(name)), Watcher(), {})


def test_hints_cannot_be_changed_in_the_middle(labelled, teacher, tmp_path):
    train(student(tmp_path, labelled, teacher, fitting={"max_minutes": 1e-6}), Watcher(), {})
    with pytest.raises(ConfigError, match="another hints"):
        train(student(tmp_path, labelled, teacher, hints={"epochs": 2}), Watcher(), {})


def test_a_teacher_cannot_be_exchanged_in_the_middle(labelled, teacher, tmp_path):
    train(student(tmp_path, labelled, teacher, fitting={"max_minutes": 1e-6}), Watcher(), {})
    (work,) = tmp_path.glob("**/identity.json")
    before = json.loads(work.read_text())
    assert before["teacher"] == locate(str(teacher)).sha256
    work.write_text(json.dumps({**before, "teacher": "0" * 64}))  # as of other weights of that name
    with pytest.raises(ConfigError, match="another teacher"):
        train(student(tmp_path, labelled, teacher), Watcher(), {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"distil": None, "data": {"files": ["a.parquet"], "label_scheme": "other"}}, "which the file lacks"),
        ({"hints": {"epochs": 8}}, "labels would never be fitted"),
        ({"hints": {"epochs": 3}, "fitting": {"max_epochs": 8, "near_epochs": 5}}, "only 5 epochs fit labels"),
        ({"fitting": {"patience": 3, "near_epochs": 1}}, "could end the training before its near_epochs"),
        ({"data": {"label_scheme": "mp_raw", "seed": 7, "shares": {}}}, "leave out data.seed and data.shares, and see"),
        ({"network": None, "fine_tune": {"model": "CHGNet"}}, "from scratch"),
    ],
)
def test_hostile_settings_are_refused(labelled, teacher, tmp_path, changes, words):
    with pytest.raises(ValidationError, match=words):
        student(tmp_path, labelled, teacher, **changes)
