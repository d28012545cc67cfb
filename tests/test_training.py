"""Training on small alloys: the loss falls, a resumed training is the undisturbed one, matgl reads what comes out."""

import json
import platform
import warnings
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from pipeline.problems import ConfigError
from pipeline.surrogates import CATALOGUE, ChecksumError, load_potential, locate
from pipeline.surrogates.declared import BadDeclarationError, write_declaration
from pipeline.surrogates.entries import CatalogueEntry
from pipeline.surrogates.loading import load_matgl
from pipeline.surrogates.potential import Potential
from pipeline.surrogates.results import Evaluation
from pipeline.training import starting
from pipeline.training.curve_figure import write_curve_figure
from pipeline.training.errors import errors_by_class
from pipeline.training.export import export_model
from pipeline.training.fitting import Start
from pipeline.training.network import network_of
from pipeline.training.progress import Watcher
from pipeline.training.reading import read_training_data
from pipeline.training.session import train
from pipeline.training.settings import Training
from tests.labels import write_alloys
from tests.potentials import salts
from tests.trainings import SIZES, crystals, curve
from tests.trainings import alloy_training as settings

GPA = 160.21766208


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_alloys(tmp_path_factory.mktemp("labels") / "alloys.parquet", 40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, labels):
    return train(settings(tmp_path_factory.mktemp("models"), labels), Watcher(), {"versions": {"torch": "2"}})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)


def matgl_results(folder: Path, structures: list[Structure]):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matgl
        from matgl.ext.pymatgen import Structure2Graph

        potential = matgl.load_model(folder).eval()
    converter = Structure2Graph(potential.model.element_types, potential.model.cutoff)
    for structure in structures:
        graph, lattice, _ = converter.get_graph(structure)
        yield tuple(x.detach().numpy() for x in potential(graph, lattice)[:3])


def same_as_matgl(folder: Path) -> None:
    for ours, (energy, forces, stress) in zip(
        load_potential(folder).evaluate(crystals()), matgl_results(folder, crystals()), strict=True
    ):
        # float32 in another order of operations
        assert ours.energy == pytest.approx(float(energy), abs=2e-6)
        np.testing.assert_allclose(ours.forces, forces, atol=2e-6)
        np.testing.assert_allclose(ours.stress * GPA, stress, atol=2e-5)


def test_loss_falls(trained):
    rows = curve(trained.folder)
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["train_loss"] < 0.6 * rows[0]["train_loss"]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
    # Cosine from 0.02 to a hundredth of it.
    assert rows[-1]["learning_rate"] == pytest.approx(2e-4, rel=1e-3)
    assert trained.finished
    assert trained.card["fit"]["devices"] == [f"CPU ({platform.machine()})"]


def test_plain_matgl_gives_the_same(trained):
    same_as_matgl(trained.folder)
    assert trained.card["agreement_with_matgl"]["largest"] < 1e-6


def test_catalogue_knows_what_the_model_declares(trained):
    found = locate(trained.folder)
    assert found.entry.convention == "source"
    assert found.entry.scheme is None  # EMT's energies are of no scheme of the Materials Project
    assert found.entry.elements == ("Cu", "Ag", "Au")
    potential = load_potential(trained.folder, scheme="mp_raw")
    assert potential.name == "alloys"
    assert potential.scheme == "mp_raw"
    (refused,) = potential.evaluate([Structure(Lattice.cubic(4.0), ["Pt"], [[0.0] * 3])])
    assert refused.error == "UnknownElement: the model does not know Pt (in Pt1); it knows Cu, Ag, Au"


def test_other_weights_or_a_damaged_declaration_are_refused(trained, tmp_path):
    for name in ("model.json", "state.pt", "ionsieve.json"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    state = weights(tmp_path)
    state["data_std"] *= 2
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ChecksumError, match=r"state\.pt has SHA-256"):
        load_potential(tmp_path)
    said = json.loads((tmp_path / "ionsieve.json").read_text())
    (tmp_path / "ionsieve.json").write_text(json.dumps({**said, "convention": "matgl4", "elements": []}))
    with pytest.raises(BadDeclarationError, match=r"convention must be one of .* got 'matgl4'; elements must list"):
        load_potential(tmp_path)


def test_card_says_what_went_in_and_how_wrong_it_is(trained, labels):
    card = json.loads((trained.folder / "card.json").read_text())
    assert card["teacher"] == "EMT"
    assert card["data"]["splits"]["train"]["crystals_with_element"] == {"Cu": 13, "Ag": 15, "Au": 12}
    test = read_training_data(settings(labels.parent, labels).data).splits.test
    structures = [
        Structure(test.crystals.cells[b], part.numbers, part.positions, coords_are_cartesian=True)
        for b, part in enumerate(test.crystals.part(b, b + 1) for b in range(len(test)))
    ]
    energies = np.array([e.energy for e in load_potential(trained.folder).evaluate(structures)])
    errors = 1000.0 * np.abs(energies - test.energies) / test.crystals.counts
    assert card["errors"]["all"]["energy_mae"] == pytest.approx(errors.mean(), abs=1e-3)
    assert card["errors"]["all"]["energy_median"] == pytest.approx(np.median(errors), abs=1e-3)
    page = (trained.folder / "card.md").read_text()
    assert "| no anion | 8 |" in page
    assert "| small forces | 8 |" in page
    assert "at most 0.5 eV/Å" in page
    assert card["data"]["files"][str(labels)] in page
    assert "](learning_curve.svg)" in page


def test_errors_near_a_minimum_are_those_of_crystals_of_small_forces(trained, labels):
    test = read_training_data(settings(labels.parent, labels).data).splits.test
    rms = np.array([np.sqrt((block**2).mean()) for block in np.split(test.forces, test.crystals.offsets[1:])])
    near = np.flatnonzero(rms <= np.median(rms))
    evaluations = load_potential(trained.folder).evaluate(test.structures())
    errors = errors_by_class(test, evaluations, float(np.median(rms)))
    assert len(near) == errors["small forces"]["crystals"] == 4
    alone = errors_by_class(test.select(near), [evaluations[b] for b in near], 100.0)
    assert errors["small forces"] == alone["small forces"] == alone["all"]


def test_learning_curve_is_drawn(trained):
    figure = ElementTree.parse(trained.folder / "learning_curve.svg").getroot()
    words = {element.text for element in figure.iter("{http://www.w3.org/2000/svg}text")}
    labels = {"epoch", "energy error (meV/atom)", "force error (meV/Å)", "stress error (GPa)"}
    assert {*labels, "train", "validation", "kept weights"} <= words
    rows = [{**row, "seconds": 0.0} for row in curve(trained.folder)]
    again = trained.folder / "again.svg"
    write_curve_figure(again, rows, trained.card["fit"]["best_epoch"])
    lines = (path.read_text().count("<path") for path in (again, trained.folder / "learning_curve.svg"))
    assert len(set(lines)) == 1
    written = again.read_bytes()
    write_curve_figure(again, rows[:-1], 1)
    assert again.read_bytes() != written


def test_resumed_equals_undisturbed(trained, labels, tmp_path):
    def interrupt(row) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    chosen = settings(tmp_path, labels)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, Watcher(epoch=interrupt), {})
    assert not (chosen.folder / "state.pt").exists()
    resumed = []
    train(chosen, Watcher(epoch=lambda row: resumed.append(row["epoch"])), {})
    assert resumed == [3, 4, 5, 6, 7, 8]
    assert curve(chosen.folder) == curve(trained.folder)
    undisturbed = weights(trained.folder)
    for key, value in weights(chosen.folder).items():
        assert torch.equal(value, undisturbed[key]), key


def test_finished_training_is_not_trained_again(trained, labels):
    before = weights(trained.folder)
    again = train(settings(trained.folder.parent, labels), Watcher(epoch=lambda row: pytest.fail("trained again")), {})
    assert again.finished
    assert all(torch.equal(value, before[key]) for key, value in weights(trained.folder).items())


def test_other_data_under_the_same_name_are_refused(trained, tmp_path):
    fewer = write_alloys(tmp_path / "alloys.parquet", 30)
    with pytest.raises(ConfigError, match="holds a training with another data; go on with the same"):
        train(settings(trained.folder.parent, fewer), Watcher(), {})


def test_without_three_body_term(labels, tmp_path):
    without = settings(tmp_path, labels, network={**SIZES, "three_body_cutoff": None}, fitting={"max_epochs": 1})
    outcome = train(without, Watcher(), {})
    assert outcome.card["three_body"] == "none"
    same_as_matgl(outcome.folder)


def test_fine_tuning_goes_on_from_a_model(trained, labels, tmp_path):
    tuned = settings(
        tmp_path, labels, fine_tune={"model": str(trained.folder)}, fitting={"max_epochs": 1, "learning_rate": 1e-3}
    )
    outcome = train(tuned, Watcher(), {})
    assert curve(outcome.folder)[0]["validation_loss"] < 1.1 * curve(trained.folder)[-1]["validation_loss"]
    assert outcome.card["start"]["sha256"] == locate(trained.folder).sha256
    same_as_matgl(outcome.folder)


def old_model(trained, folder: Path, three_body: str) -> Path:
    """The trained weights as if they had been trained with messages on the destination atom."""
    folder.mkdir()
    for name in ("model.json", "state.pt"):
        (folder / name).write_bytes((trained.folder / name).read_bytes())
    entry = CatalogueEntry(
        "old", "potential", "M3GNet", "destination", None, ("Cu", "Ag", "Au"), locate(trained.folder).entry.sha256,
        None, "none", "none", three_body,
    )  # fmt: skip
    write_declaration(folder, entry)
    return folder


def test_an_old_model_is_carried_over_to_the_new_convention(trained, labels, tmp_path):
    old = old_model(trained, tmp_path / "old", "omitted")
    still = {"max_epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    outcome = train(settings(tmp_path, labels, fine_tune={"model": str(old)}, fitting=still), Watcher(), {})
    same_as_matgl(outcome.folder)
    assert "carried over to the source atom" in (outcome.folder / "card.md").read_text()
    # Steps that change nothing: but for the elements' energies it is the old model.
    before, after = (load_potential(path).evaluate(crystals()) for path in (old, outcome.folder))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-6)
        np.testing.assert_allclose(a.stress, b.stress, atol=1e-7)
    assert max(np.abs(a.forces - c.forces).max() for a, c in zip(before, load_potential(trained.folder).evaluate(crystals()), strict=True)) > 1e-4  # fmt: skip # noqa: E501


@pytest.mark.data
@pytest.mark.parametrize("name", ["M3GNet-MP-2021.2.8-PES", "M3GNet-MatPES-PBE-v2025.1-PES"])
def test_the_catalogue_s_models_are_carried_over(tmp_path, name):
    """Exported with weights as they are, plain matgl gives the numbers of the old model, which it doesn't otherwise."""
    elements = ("Li", "F", "Na", "Cl", "K", "Br")
    model = load_matgl(locate(name), "destination")
    network = network_of(model, elements, name)
    offsets = model.element_energies.numpy()[[model.elements.index(symbol) for symbol in elements]]
    own = Training(
        name="carried",
        output=str(tmp_path),
        data={"files": ["none.parquet"], "label_scheme": CATALOGUE[name].scheme},
        card={"data_licence": "BSD-3-Clause", "data_citation": "Materials Project"},
    )
    entry = export_model(own, Start(network, offsets, model.scale, 0.0 * offsets), network)
    assert entry.scheme == CATALOGUE[name].scheme
    old, new = (load_potential(path).evaluate(salts(6)) for path in (name, own.folder))
    for a, b, (energy, forces, stress) in zip(old, new, matgl_results(own.folder, salts(6)), strict=True):
        # float32, some -38 eV: four of its last digits, which differ between processors
        assert a.energy == pytest.approx(b.energy, abs=2e-5)
        assert a.energy == pytest.approx(float(energy), abs=2e-5)
        np.testing.assert_allclose(a.forces, forces, atol=1e-5)
        np.testing.assert_allclose(a.stress * GPA, stress, atol=1e-4)


def test_an_old_model_with_a_three_body_term_is_refused(trained, labels, tmp_path):
    old = old_model(trained, tmp_path / "old", "included")
    with pytest.raises(ConfigError, match="has no equal in matgl 4's convention"):
        train(settings(tmp_path, labels, fine_tune={"model": str(old)}), Watcher(), {})


@pytest.mark.parametrize(
    ("model", "words"),
    [("nowhere", "not found"), ("CHGNet", "only M3GNet potentials are fine-tuned")],
)
def test_models_that_can_not_be_fine_tuned(labels, tmp_path, model, words):
    with pytest.raises(ConfigError, match=words):
        train(settings(tmp_path, labels, fine_tune={"model": model}), Watcher(), {})


def test_a_mean_that_would_be_lost_is_refused(trained, labels, tmp_path, monkeypatch):
    def with_mean(*arguments):
        return replace(load_matgl(*arguments), mean=-5.0)

    monkeypatch.setattr(starting, "load_matgl", with_mean)
    with pytest.raises(ConfigError, match="its data_mean is -5 eV a crystal"):
        train(settings(tmp_path, labels, fine_tune={"model": str(trained.folder)}), Watcher(), {})


def test_crystals_that_the_base_refuses_do_not_spoil_the_energies_of_the_elements(
    trained, labels, tmp_path, monkeypatch
):
    real = Potential.evaluate

    def some_refused(self, structures, *arguments, **named):
        found = real(self, structures, *arguments, **named)
        lost = Evaluation(np.nan, found[0].forces * np.nan, found[0].stress * np.nan, error="GraphTooLarge: here")
        return [lost if k == 0 and refused(k, structures) else each for k, each in enumerate(found)]

    def refused(k, structures):
        return len(structures) > 4  # the call for the shift, which holds all training crystals

    monkeypatch.setattr(Potential, "evaluate", some_refused)
    tuned = {"max_epochs": 1, "learning_rate": 1e-4}
    outcome = train(settings(tmp_path, labels, fine_tune={"model": str(trained.folder)}, fitting=tuned), Watcher(), {})
    assert np.isfinite(curve(outcome.folder)[0]["validation_loss"])


def test_stress_weight_needs_stresses(labels, tmp_path):
    import pandas as pd

    from pipeline.training.read_parquet import write_parquet

    bare = tmp_path / "bare.parquet"
    write_parquet(bare, pd.read_parquet(labels).drop(columns="stress"), {})
    with pytest.raises(ConfigError, match="the training and validation data have no stresses; write 0"):
        train(settings(tmp_path, bare), Watcher(), {})
    outcome = train(settings(tmp_path, bare, loss={"stress": 0.0}, fitting={"max_epochs": 1}), Watcher(), {})
    assert outcome.card["errors"]["all"]["stress_mae"] is None
    figure = (outcome.folder / "learning_curve.svg").read_text()
    assert "force error" in figure
    assert "stress error" not in figure
