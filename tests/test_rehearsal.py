"""Fine-tuning that repeats old labels: their zero is moved, nothing held out is rehearsed, less is forgotten."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.io.ase import AseAtomsAdaptor

from pipeline.problems import ConfigError
from pipeline.surrogates import load_potential
from pipeline.training.progress import Watcher
from pipeline.training.read_parquet import write_parquet
from pipeline.training.reading import read_training_data
from pipeline.training.rehearsal import draw_rehearsal
from pipeline.training.session import train
from pipeline.training.settings import RehearsalSettings, Training
from tests.labels import alloys, table, write_alloys
from tests.trainings import alloy_training

ZERO = {29: 1.5, 47: -0.5, 79: 0.7}
"""eV that the new labels have more, by atomic number."""


def old_labels(folder: Path, **changes) -> Path:
    """EMT's, with other groups or names where wanted."""
    path = folder / f"old{len(list(folder.glob('old*')))}.parquet"
    write_parquet(path, table(alloys(40)).assign(**changes), {"teacher": "EMT"})
    return path


def new_labels(folder: Path) -> Path:
    """Other crystals, with another zero than EMT's and forces thrice as large."""
    frame = table(alloys(25, seed=9))
    moved = [sum(ZERO[int(z)] for z in numbers) for numbers in frame["atomic_numbers"]]
    path = folder / "new.parquet"
    forces = [3.0 * np.asarray(f) for f in frame["forces"]]
    write_parquet(path, frame.assign(energy=frame["energy"] + moved, forces=forces, source="stiff EMT"), {})
    return path


def training(folder: Path, labels: Path, name: str, **changes) -> Training:
    return alloy_training(folder, labels, **{"name": name, "loss": {"stress": 0.0}, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rehearsal")


@pytest.fixture(scope="module")
def base(place) -> Path:
    labels = write_alloys(place / "base.parquet", 40)
    return train(training(place, labels, "base"), Watcher(), {}).folder


def rehearse(*files: Path, **changes) -> RehearsalSettings:
    return RehearsalSettings(**{"files": [str(file) for file in files], "label_scheme": "other", **changes})


def test_nothing_held_out_is_rehearsed(tmp_path):
    chosen = training(tmp_path, new_labels(tmp_path), "tuned")
    data = read_training_data(chosen.data)
    found = draw_rehearsal(rehearse(old_labels(tmp_path)), chosen.data, data)
    assert set(found.labels.groups) == {"L1_0", "B2", "bcc"} == set(data.splits.train.groups)
    assert found.left_out == {"of a held-out group, prototype or crystal": 16}
    assert len(found.labels) == 24
    # the same under other names: crystals of the held-out splits are known by their distances
    everything = draw_rehearsal(rehearse(old_labels(tmp_path, group="all")), chosen.data, data)
    assert len(everything.labels) == 40
    renamed = tmp_path / "renamed.parquet"
    frame = table(alloys(25, seed=9))
    write_parquet(renamed, frame.assign(group="old " + frame["group"]), {})
    found = draw_rehearsal(rehearse(renamed), chosen.data, data)
    assert found.left_out == {"of a held-out group, prototype or crystal": 10}
    assert len(found.labels) == 15


def test_distorted_crystals_of_a_held_out_prototype_are_not_rehearsed_either(tmp_path):
    """They have no symmetry; that of one crystal of their group tells what they are."""
    new, old = tmp_path / "both.parquet", tmp_path / "old.parquet"
    ideal = table(alloys(10, distortion=0.0)).assign(structure_id=lambda rows: "ideal " + rows["structure_id"])
    write_parquet(new, pd.concat([table(alloys(25, seed=9)), ideal[:5]], ignore_index=True), {})
    renamed = pd.concat([table(alloys(40)), ideal[5:]], ignore_index=True)
    write_parquet(old, renamed.assign(group="old " + renamed["group"]), {})
    chosen = training(tmp_path, new, "tuned")
    found = draw_rehearsal(rehearse(old), chosen.data, read_training_data(chosen.data))
    assert set(found.labels.groups) == {"old L1_0", "old B2", "old bcc"}
    assert found.left_out == {"of a held-out group, prototype or crystal": 18}


def test_crystals_with_other_elements_and_an_empty_rest_are_told(tmp_path):
    path, frame = tmp_path / "copper.parquet", table(alloys(25, seed=9))
    copper_and_silver = [79 not in numbers for numbers in frame["atomic_numbers"]]
    write_parquet(path, frame[copper_and_silver], {})
    chosen = training(tmp_path, path, "tuned")
    data = read_training_data(chosen.data)
    found = draw_rehearsal(rehearse(old_labels(tmp_path)), chosen.data, data)
    assert "with Au, which the new labels lack" in found.left_out
    assert set(found.labels.elements) == {"Cu", "Ag"}
    with pytest.raises(ConfigError, match=r"no crystal is left to rehearse: .* of a held-out group, prototype"):
        draw_rehearsal(rehearse(old_labels(tmp_path, group="fcc")), chosen.data, data)


def test_the_draw_is_seeded_and_bad_files_are_named(tmp_path):
    chosen = training(tmp_path, new_labels(tmp_path), "tuned")
    data, old = read_training_data(chosen.data), old_labels(tmp_path)
    one, two, other = (
        draw_rehearsal(rehearse(old, crystals=9, seed=seed), chosen.data, data).labels for seed in (1, 1, 2)
    )
    assert len(one) == 9
    assert one.ids == two.ids != other.ids
    with pytest.raises(ConfigError, match="label_scheme is 'other', but the training says 'mp_raw' of this file"):
        draw_rehearsal(rehearse(old, label_scheme="mp_raw"), chosen.data, data)


def test_energies_in_another_unit_are_found(tmp_path):
    chosen = training(tmp_path, new_labels(tmp_path), "tuned")
    energies = table(alloys(40))["energy"].to_numpy().copy()
    energies[3] += 60.0
    with pytest.raises(ConfigError, match=r"row 4.*is it in another unit or scheme"):
        draw_rehearsal(rehearse(old_labels(tmp_path, energy=energies)), chosen.data, read_training_data(chosen.data))


def test_energies_are_moved_to_the_new_zero(tmp_path):
    chosen = training(tmp_path, new_labels(tmp_path), "tuned")
    data = read_training_data(chosen.data)
    found = draw_rehearsal(rehearse(old_labels(tmp_path)), chosen.data, data)
    shift = np.array([ZERO[29], ZERO[47], ZERO[79]])
    together = found.beside(data.splits.train, shift, ("Cu", "Ag", "Au"))
    new = len(data.splits.train)
    assert together.ids == data.splits.train.ids + found.labels.ids
    np.testing.assert_array_equal(together.energies[:new], data.splits.train.energies)
    composition = found.labels.composition_counts(("Cu", "Ag", "Au"))
    np.testing.assert_allclose(together.energies[new:], found.labels.energies + composition @ shift, atol=1e-12)


def old_error(folder: Path) -> float:
    """eV/Å against the old forces on a prototype that was never trained on."""
    crystals = [atoms for atoms in alloys(40) if atoms.info["group"] == "L1_2"]
    found = load_potential(folder).evaluate([AseAtomsAdaptor.get_structure(atoms) for atoms in crystals])
    pairs = zip(found, crystals, strict=True)
    return float(np.abs(np.concatenate([e.forces - atoms.get_forces() for e, atoms in pairs])).mean())


def test_less_is_forgotten(place, base):
    labels, old = new_labels(place), old_labels(place)
    fitting = {"max_epochs": 8, "batch_size": 4, "learning_rate": 0.01}
    loss = {"energy": 0.1, "force": 3.0, "stress": 0.0}
    tuned = {}
    for name, extra in {"forgetful": {}, "mindful": {"rehearse": rehearse(old).model_dump()}}.items():
        chosen = training(place, labels, name, fine_tune={"model": str(base), **extra}, fitting=fitting, loss=loss)
        tuned[name] = train(chosen, Watcher(), {})
    errors = {name: old_error(outcome.folder) for name, outcome in tuned.items()}
    assert errors["mindful"] < 0.8 * errors["forgetful"]
    assert tuned["forgetful"].card["data"]["rehearsed"] is None
    assert tuned["mindful"].card["data"]["rehearsed"]["crystals"] == 24
    assert str(old) in tuned["mindful"].card["data"]["files"]
    page = (tuned["mindful"].folder / "card.md").read_text(encoding="utf-8")
    assert "rehearsed 24 crystals of 3 groups with older labels (other)" in page
    assert "left out: 16 of a held-out group" in page
    # other old labels are another training
    other = {"model": str(base), "rehearse": rehearse(old, crystals=5).model_dump()}
    with pytest.raises(ConfigError, match="holds a training with another fine_tune, rehearsal"):
        train(training(place, labels, "mindful", fine_tune=other, fitting=fitting, loss=loss), Watcher(), {})


def test_stresses_are_asked_for(place, base):
    frame = table(alloys(40)).drop(columns="stress")
    path = place / "without_stress.parquet"
    write_parquet(path, frame, {})
    chosen = training(
        place,
        new_labels(place),
        "stressed",
        fine_tune={"model": str(base), "rehearse": rehearse(path).model_dump()},
        loss={"stress": 0.1},
    )
    with pytest.raises(ConfigError, match=r"fine_tune\.rehearse\.files.*no stresses"):
        train(chosen, Watcher(), {})
