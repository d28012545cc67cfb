"""Measures of a distilled model: agreement with its teacher, what it has not seen, and predicted errors that hold."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.config import load_campaign
from pipeline.distillation.settings import DistillationSettings
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.reference.surrogate_errors import ONE_SIGMA
from pipeline.surrogates import CATALOGUE, locate
from pipeline.surrogates.loading import load_matgl
from pipeline.training.export import export_model
from pipeline.training.fitting import Start
from pipeline.training.network import network_of
from pipeline.training.settings import Training
from scripts.distilled_agreement import RelaxedEnds, end_agreement, height_agreement, runs_away
from scripts.error_calibration import bins, coverage, predictions
from scripts.held_out import Distilled, unseen_candidates
from tests.small_prototypes import perovskite, prototype_of
from tests.small_prototypes import rock_salt as layered_rock_salt
from workflows.files import digest_of_file
from workflows.labelled_data import generate_labelled_data

ROOT = Path(__file__).resolve().parent.parent
CHGNET = next(iter(CATALOGUE["CHGNet"].sha256.values()))


def test_energies_above_hull_agree_as_counted_by_hand():
    teacher = np.array([-0.20, -0.01, 0.02, 0.04, 0.06, 0.12, 0.30, np.nan])
    model = np.array([-0.10, 0.00, 0.06, 0.03, 0.08, np.nan, 0.20, 0.01])
    found = height_agreement(teacher, model, list("abcdefgh"), 0.05, 0.15)
    assert (found.compared, found.near) == (7, 5)
    # of -0.01, 0.02, 0.04, 0.06, 0.12 the second is lost; the last failed, and stays above
    assert found.alike == pytest.approx(4 / 5)
    assert found.balanced == pytest.approx((2 / 3 + 1) / 2)
    # ranks 1 2 4 3 5 7 6 against 1 to 7: 1 - 6 sum d^2 / (n (n^2 - 1)), sum d^2 = 4
    assert found.spearman == pytest.approx(1 - 6 * 4 / (7 * 48))
    assert found.spearman_near == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert found.shift == pytest.approx(np.median([0.10, 0.01, 0.04, -0.01, 0.02, -0.10]))


def test_relaxations_agree_as_counted_by_hand():
    sane = np.array([True, True, True, True, False, True, True])
    teacher = RelaxedEnds(np.zeros(7), np.array([100.0, 100.0, 200.0, 50.0, 10.0, 139.0, 139.0]), sane, sane)
    ours = RelaxedEnds(
        np.array([0.0, 0.0, 0.0, np.nan, 0.0, 0.0, 0.0]),
        np.array([102.9, 96.0, 200.0, np.nan, 10.0, 141.0, 150.0]),
        np.array([True, True, False, False, True, True, True]),  # the third is collapsed, with the teacher's volume
        np.array([True, True, False, False, True, False, False]),  # the last two are beyond a bound at 140
    )
    found = end_agreement(teacher, ours, 0.03)
    assert (found.compared, found.within, found.beyond, found.runaways) == (6, 2 / 6, 1, 3 / 6)
    assert found.median_change == pytest.approx(0.029)
    assert runs_away(teacher, ours, 0.03).tolist() == [False, False, True, True, False, False, True]
    nothing = RelaxedEnds(teacher.energies, teacher.volumes, ~sane, ~sane)
    assert end_agreement(nothing, teacher, 0.03).runaways == 1.0


# --- predicted errors


def drawn_errors(n: int = 4000):
    """Errors of two classes that follow the model: Student's, 5 degrees of freedom, with a disagreement."""
    rng = np.random.default_rng(0)
    classes = np.where(np.arange(n) % 2, "F", "Cl")
    gaps = np.abs(rng.normal(0.0, 0.05, n))
    scales = np.hypot(np.where(classes == "F", 0.02, 0.01), 0.8 * gaps)
    errors = np.where(classes == "F", 0.03, -0.01) + scales * rng.standard_t(5.0, n)
    return errors, classes.tolist(), [f"prototype {k}" for k in rng.integers(0, 40, n)], gaps


def test_predicted_intervals_hold_what_they_promise():
    errors, classes, prototypes, gaps = drawn_errors()
    predicted = predictions(errors, classes, prototypes, gaps, 0)
    for level, share in coverage(errors, predicted).items():
        # binomial, four standard deviations
        assert share == pytest.approx(level, abs=4 * (level * (1 - level) / len(errors)) ** 0.5)
    found = bins(errors, predicted, 5)
    assert [b.count for b in found] == [800] * 5
    # The quantile of 800 errors scatters by about 5 %.
    assert [b.observed / b.predicted for b in found] == pytest.approx([1.0] * 5, abs=0.2)
    assert found[-1].predicted > 3 * found[0].predicted
    alone = bins(errors, predictions(errors, classes, prototypes, None, 0), 5)
    assert alone[-1].predicted < 1.5 * alone[0].predicted


def test_no_error_is_predicted_by_its_own_prototype():
    errors, classes, prototypes, gaps = drawn_errors(800)
    strange = np.array([name == "prototype 7" for name in prototypes])
    errors[strange] += 5.0
    with_own = predictions(errors, classes, prototypes, gaps, 0)
    errors[strange] += 50.0
    again = predictions(errors, classes, prototypes, gaps, 0)
    own = np.flatnonzero(strange)
    assert [with_own[i] for i in own] == [again[i] for i in own]


def test_classes_with_few_crystals_are_fitted_together():
    errors, classes, prototypes, gaps = drawn_errors(400)
    classes[:4] = ["Br", "I", "Br", "I"]
    predicted = predictions(errors, classes, prototypes, gaps, 0)
    assert len(predicted) == len(errors)
    assert all(p.half_width > 0.0 for p in predicted)
    assert 0.5 < coverage(errors, predicted)[ONE_SIGMA] < 0.85


# --- what was not seen


@pytest.fixture
def library() -> PrototypeLibrary:
    layered = [prototype_of(layered_rock_salt(n), {"Li": 1, "Al": 3, "O": -2}) for n in (166, 141, 123)]
    cubic = prototype_of(perovskite("Na Mg F F F"), {"Na": 1, "Mg": 2, "F": -1})
    return PrototypeLibrary((*layered, cubic), {})


def labelled(folder: Path, **prototypes: list[str]) -> Distilled:
    """A model's folder with labels whose frames are named after these prototypes."""
    labels = folder / "labels"
    labels.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        names = [f"LiAlO2-{p}-0a1b2c3d-drawn" for p in prototypes.get(split, [])]
        pd.DataFrame({"structure_id": ["Li-drawn", *names]}).to_parquet(labels / f"{split}.parquet")
    generation = {
        "digest": "0" * 64,
        "teacher": {"name": "CHGNet", "sha256": CHGNET, "scheme": "mp2020"},
        "settings": {"teacher": "CHGNet", "crystals": {"max_sites": 20}},
        "sha256": {s: digest_of_file(labels / f"{s}.parquet") for s in ("train", "validation", "test")},
    }
    (labels / "generation.json").write_text(json.dumps(generation))
    return Distilled(folder)


def test_unseen_prototypes_are_those_of_the_test_split_alone(library, tmp_path):
    ids = [p.prototype_id for p in library]
    model = labelled(tmp_path / "sound", train=ids[:1], validation=ids[1:2], test=[*ids[2:], "0" * 12])
    assert [p.prototype_id for p in model.unseen(library)] == ids[2:]
    with pytest.raises(ValueError, match=f"{ids[1]} in the test split and another one"):
        labelled(tmp_path / "leaking", validation=ids[1:2], test=ids[:2]).unseen(library)
    with pytest.raises(ValueError, match="no frame is of a prototype of the campaign"):
        labelled(tmp_path / "elsewhere", train=ids).unseen(library)


def test_labels_that_were_changed_are_refused(library, tmp_path):
    labels = labelled(tmp_path, test=[library.prototypes[0].prototype_id]).labels
    pd.DataFrame({"structure_id": ["Na-drawn"]}).to_parquet(labels / "test.parquet")
    with pytest.raises(ValueError, match=r"test\.parquet is not the file that generation\.json tells of"):
        Distilled(tmp_path)


def test_candidates_are_of_unseen_prototypes_and_kept(library, tmp_path):
    whole = load_campaign(ROOT / "configs" / "quickstart.yaml")
    changed = {
        "elements": ("Li", "Na", "Al", "Y", "O", "S", "Mg", "F", "Cl"),
        "gates": whole.candidates.gates.model_copy(update={"radius_mismatch": None}),
        "substitution": "isovalent",
    }
    campaign = whole.model_copy(update={"candidates": whole.candidates.model_copy(update=changed)})
    references = SimpleNamespace(campaign=campaign, library=library)
    ids = [p.prototype_id for p in library]
    model = labelled(tmp_path / "model", train=ids[:2], test=ids[2:])
    rows = unseen_candidates(model, references, 6, 1, tmp_path / "work")
    assert len(rows) == 6
    assert {name.split("-")[1] for name in rows["candidate_id"]} <= set(ids[2:])
    assert {"chemsys", "nsites", "prototype", "lattice", "atomic_numbers", "frac_coords"} <= set(rows)
    pd.testing.assert_frame_equal(rows, unseen_candidates(model, references, 6, 1, tmp_path / "work"))
    other = unseen_candidates(model, references, 6, 2, tmp_path / "work")
    assert set(other["candidate_id"]) != set(rows["candidate_id"])
    fewer = {**changed, "elements": ("Na", "Al", "Y", "O", "Mg", "F")}
    campaign = campaign.model_copy(update={"candidates": whole.candidates.model_copy(update=fewer)})
    there = unseen_candidates(model, SimpleNamespace(campaign=campaign, library=library), 6, 1, tmp_path / "work")
    assert len(there)
    assert not {"Li", "S", "Cl"} & set("-".join(there["chemsys"]).split("-"))


def test_seen_prototypes_are_those_trained_on(library, tmp_path):
    ids = [p.prototype_id for p in library]
    model = labelled(tmp_path, train=ids[:2], validation=ids[2:3], test=ids[3:])
    assert [p.prototype_id for p in model.seen(library)] == ids[:2]


@pytest.mark.parametrize("script", ["measure_distilled", "measure_pair_uncertainty", "ship_model"])
def test_scripts_say_what_they_take(script):
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


@pytest.mark.slow
@pytest.mark.data
def test_the_teacher_s_own_weights_meet_every_bound(tmp_path):
    """Labels of a few candidates by M3GNet, and a student that is M3GNet itself in the convention of matgl 4."""
    teacher = "M3GNet-MP-2021.2.8-PES"
    drawn = {"candidates": 16, "per_prototype": 2, "elements": 0.0, "binaries": 0.0, "ternaries": 0.0, "max_sites": 12}
    settings = DistillationSettings.model_validate(
        {
            "campaign": str(ROOT / "configs" / "halides.yaml"),
            "teacher": teacher,
            "crystals": drawn,
            "distortions": {"copies": 1},
            "relaxation": {"share": 0.0},
            "dynamics": {"share": 0.0},
            "held_out": 0.4,
            "validation": 0.2,
            "workers": 1,
        }
    )
    model = load_matgl(locate(teacher), "destination")
    assert model.element_energies is not None
    elements = load_campaign(ROOT / "configs" / "halides.yaml").candidates.elements
    offsets = model.element_energies.numpy()[[model.elements.index(symbol) for symbol in elements]]
    student = Training(
        name="student",
        output=str(tmp_path),
        data={"files": ["none.parquet"], "label_scheme": "mp_raw"},
        card={"data_licence": "BSD-3-Clause", "data_citation": "Materials Project"},
    )
    network = network_of(model, elements, teacher)
    export_model(student, Start(network, offsets, model.scale, 0.0 * offsets), network)
    generate_labelled_data(settings, student.folder / "labels", lambda line: None)
    for script, arguments in (
        ("measure_distilled", [student.folder, "--repeat", "1"]),
        ("measure_pair_uncertainty", [student.folder, "CHGNet", teacher]),
    ):
        command = [
            sys.executable,
            f"scripts/{script}.py",
            *map(str, arguments),
            "--count",
            "8",
            "--work",
            str(tmp_path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        if script == "measure_distilled":
            assert done.stdout.count("\nmet: ") == 8
            assert "NOT MET" not in done.stdout
            assert "the model and the teacher: 100.0% within 3% (100.0%, 100.0%); 0.0% run away" in done.stdout
