"""Labelled data of a distillation: an even draw, a filter that rejects, settings that are refused."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure

from pipeline.config import load_campaign
from pipeline.crystal import row_from_structure
from pipeline.distillation.balance import balanced_choice
from pipeline.distillation.drawing import COLUMNS, draw_crystals, elements_of, further_campaign
from pipeline.distillation.labelling import ROW_COLUMNS, insanity, label_crystals
from pipeline.distillation.settings import DistillationSettings
from pipeline.problems import ConfigError
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.surrogates.results import Evaluation
from pipeline.training.groups import linked, protostructure_group
from pipeline.training.settings import load_training
from pipeline.units import GPA_PER_EV_PER_ANGSTROM3
from tests.morse import MorseOneByOne, morse_potential
from tests.potentials import rock_salt, salts
from tests.small_prototypes import perovskite, prototype_of
from tests.small_prototypes import rock_salt as layered_rock_salt

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def settings(**changes) -> DistillationSettings:
    return DistillationSettings.model_validate({"campaign": "campaign.yaml", "teacher": "CHGNet", **changes})


def starts(crystals: list[Structure], kelvin: float = float("nan")) -> pd.DataFrame:
    rows = [
        {
            **row_from_structure(crystal),
            "start_id": f"{crystal.composition.reduced_formula}-{k}",
            "kind": "binary",
            "prototype": "2_225_a_b",
            "relaxed": k % 2 == 0,
            "temperature": kelvin if k % 3 == 0 else float("nan"),
        }
        for k, crystal in enumerate(crystals)
    ]
    return pd.DataFrame(rows)


# --- the draw


def test_pools_take_turns_and_rare_elements_come_first():
    rng = np.random.default_rng(3)
    pools = []
    for _ in range(40):
        held = np.zeros((60, 6), bool)
        # Five times as many rows hold the first element as any other.
        first = rng.choice(6, 60, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
        held[np.arange(60), first] = True
        pools.append(held)
    chosen = balanced_choice(pools, 240, 100, np.random.default_rng(0))
    assert [len(own) for own in chosen] == [6] * 40
    assert all(len(set(own)) == len(own) for own in chosen)
    counts = sum(held[own].sum(axis=0) for held, own in zip(pools, chosen, strict=True))
    assert counts.tolist() == [40] * 6
    assert chosen == balanced_choice(pools, 240, 100, np.random.default_rng(0))
    assert sum(map(len, balanced_choice(pools, 10_000, 3, np.random.default_rng(0)))) == 120
    assert balanced_choice([], 5, 1, np.random.default_rng(0)) == []


@pytest.fixture(scope="module")
def library() -> PrototypeLibrary:
    layered = [prototype_of(layered_rock_salt(n), {"Li": 1, "Al": 3, "O": -2}) for n in (166, 141, 123)]
    cubic = prototype_of(perovskite("Na Mg F F F"), {"Na": 1, "Mg": 2, "F": -1})
    return PrototypeLibrary((*layered, cubic), {})


@pytest.fixture(scope="module")
def campaign():
    whole = load_campaign(CONFIGS / "quickstart.yaml")
    changed = {
        "elements": ("Li", "Na", "Al", "Y", "O", "S", "Mg", "F", "Cl"),
        "gates": whole.candidates.gates.model_copy(update={"radius_mismatch": None}),
        "substitution": "isovalent",
    }
    return whole.model_copy(update={"candidates": whole.candidates.model_copy(update=changed)})


@pytest.fixture(scope="module")
def phases() -> pd.DataFrame:
    crystals = [*salts(8), Structure(Lattice.cubic(4.2), ["Na", "Na"], [[0] * 3, [0.5] * 3])]
    rows = [
        {
            **row_from_structure(crystal),
            "candidate_id": f"phase-{k}",
            "chemsys": crystal.chemical_system,
            "nsites": len(crystal),
        }
        for k, crystal in enumerate(crystals)
    ]
    return pd.DataFrame(rows)


def test_draw_is_repeated_and_covers_prototypes_elements_and_phases(campaign, library, phases):
    chosen = settings(crystals={"candidates": 24, "per_prototype": 7, "binaries": 0.5})
    drawn = draw_crystals(chosen, campaign, library, phases)
    assert tuple(drawn.columns) == COLUMNS
    pd.testing.assert_frame_equal(drawn, draw_crystals(chosen, campaign, library, phases))
    other = draw_crystals(chosen.model_copy(update={"seed": 1}), campaign, library, phases)
    assert set(other["start_id"]) != set(drawn["start_id"])
    assert drawn["start_id"].is_unique
    candidates = drawn[drawn["kind"] == "candidate"]
    per_prototype = candidates["prototype"].value_counts()
    assert len(per_prototype) == 4
    assert per_prototype.max() <= 7
    held = {symbol for system in candidates["chemsys"] for symbol in system.split("-")}
    assert held == {"Li", "Na", "Al", "Y", "O", "S", "Mg", "F", "Cl"}
    assert (drawn["kind"] == "element").sum() == 1
    assert 0 < (drawn["kind"] == "binary").sum() < 8
    assert elements_of(campaign, library)[0] == "Li"


def test_further_prototypes_take_the_campaign_s_elements_in_neutral_cells(campaign, library, phases):
    """A perovskite of oxides holds halides of half the charges; candidates of the campaign stay what they are."""
    wanted = {"prototypes": {"source": "aflow"}, "candidates": 30, "per_prototype": 20}
    chosen = settings(crystals={"candidates": 24, "per_prototype": 7, "binaries": 0.5}, further=wanted)
    oxide = prototype_of(perovskite("Sr Ti O O O"), {"Sr": 2, "Ti": 4, "O": -2})
    further = further_campaign(campaign, library, chosen.further)
    drawn = draw_crystals(chosen, campaign, library, phases, (further, PrototypeLibrary((oxide,), {})))
    beyond = drawn[drawn["kind"] == "further"]
    assert 0 < len(beyond) <= 20
    assert set("-".join(beyond["chemsys"]).split("-")) <= set(elements_of(campaign, library))
    held = {frozenset(system.split("-")) for system in beyond["chemsys"]}
    assert any({"Cl", "F"} & system and not {"O", "S"} & system for system in held)  # LiMgCl3 on SrTiO3's sites
    without = draw_crystals(chosen.model_copy(update={"further": None}), campaign, library, phases)
    assert set(without["start_id"]) == set(drawn.loc[drawn["kind"] != "further", "start_id"])
    isovalent = chosen.model_copy(update={"further": chosen.further.model_copy(update={"substitution": "isovalent"})})
    further = further_campaign(campaign, library, isovalent.further)
    drawn = draw_crystals(isovalent, campaign, library, phases, (further, PrototypeLibrary((oxide,), {})))
    beyond = drawn[drawn["kind"] == "further"]
    assert not {"Cl", "F"} & set("-".join(beyond["chemsys"]).split("-"))  # none has a charge of -2


def test_a_prototype_with_a_frame_of_a_known_protostructure_is_linked_as_a_whole():
    prototypes, labels = ["A", "A", "B", "B", "C", "D"], [None, "x", "y", None, "z", None]
    assert linked(prototypes, labels, {"x", "D"}) == [True, True, False, False, False, True]
    assert linked(prototypes, labels, set()) == [False] * 6


def test_shares_of_relaxation_and_dynamics_do_not_depend_on_the_rest_of_the_draw(campaign, library, phases):
    given = {"relaxation": {"share": 0.5}, "dynamics": {"share": 0.5, "temperatures": [300, 900]}}
    many = draw_crystals(settings(**given), campaign, library, phases).set_index("start_id")
    few = draw_crystals(settings(**given, crystals={"candidates": 0}), campaign, library, phases).set_index("start_id")
    assert set(few["kind"]) == {"element", "binary"}
    columns = ["relaxed", "temperature"]
    pd.testing.assert_frame_equal(few[columns].sort_index(), many.loc[few.index, columns].sort_index())
    assert set(many["temperature"].dropna()) == {300.0, 900.0}
    # Binomial: half of them, within four standard deviations.
    assert many["relaxed"].mean() == pytest.approx(0.5, abs=2.0 / len(many) ** 0.5)
    assert many["temperature"].notna().mean() == pytest.approx(0.5, abs=2.0 / len(many) ** 0.5)


# --- labels and the filter


def evaluation(n: int, energy: float = -6.0, force: float = 0.0, stress: float = 0.0, error: str | None = None):
    forces = np.zeros((n, 3))
    forces[0, 1] = force
    return Evaluation(energy, forces, np.diag([0.0, 0.0, stress / GPA_PER_EV_PER_ANGSTROM3]), error)


@pytest.mark.parametrize(
    ("crystal", "label", "reason"),
    [
        (rock_salt(), evaluation(2), None),
        (rock_salt(), evaluation(2, error="CollidingAtoms: of the model's"), "not_evaluated"),
        (Structure(Lattice.cubic(4.3), ["Na", "Cl"], [[0] * 3, [0.26, 0, 0]]), evaluation(2), "too_close"),
        (rock_salt(a=8.0), evaluation(2), "volume"),
        (rock_salt(), evaluation(2, energy=-61.0), "energy"),
        (rock_salt(), evaluation(2, energy=21.0), "energy"),
        (rock_salt(), evaluation(2, force=-30.1), "force"),
        (rock_salt(), evaluation(2, stress=-100.1), "stress"),
    ],
)  # fmt: skip
def test_filter_rejects_what_it_says(crystal, label, reason):
    volume = rock_salt().volume / 2
    assert insanity(crystal, label, volume, settings().sanity) == reason
    if reason == "too_close":  # 0.26 x 4.3 Å is 0.42 of the sum of Na's and Cl's covalent radii
        looser = settings(sanity={"distance_ratio": 0.4}).sanity
        assert insanity(crystal, label, volume, looser) is None


def small(**changes) -> DistillationSettings:
    given = {
        "distortions": {"copies": 2, "rattles": [0.05, 0.8]},
        "relaxation": {"max_steps": 4, "frames": 3},
        "dynamics": {"steps": 4, "frames": 2},
        # Morse's well lies at 2.5 Å for every pair and its energies are small.
        "sanity": {"distance_ratio": 0.5, "lowest_energy": -90.0, "largest_force": 5.0},
        **changes,
    }
    return settings(**given)


def test_rows_are_the_teachers_labels_and_do_not_depend_on_the_part():
    crystals = starts([rock_salt(m, h, a) for m in ("Li", "Na", "K") for h in ("F", "Cl") for a in (5.0, 5.4)], 500.0)
    wanted = small()
    whole = label_crystals(crystals, wanted, morse_potential(MorseOneByOne()))
    assert tuple(whole.rows.columns) == ROW_COLUMNS
    assert set(whole.rows["source"]) == {"drawn", "relaxation", "distorted", "dynamics"}
    assert sum(whole.left_out.values()) > 0  # rattled by 0.8 Å
    assert whole.rows["structure_id"].is_unique
    expected = 12 * (1 + 2) + 4 * 2
    relaxations = (whole.rows["source"] == "relaxation").sum() + sum(
        n for reason, n in whole.left_out.items() if reason.startswith("relaxation")
    )
    assert len(whole.rows) + sum(whole.left_out.values()) - relaxations == expected
    parts = [
        label_crystals(crystals.iloc[k : k + 5].reset_index(drop=True), wanted, morse_potential(MorseOneByOne()))
        for k in range(0, 12, 5)
    ]
    pd.testing.assert_frame_equal(pd.concat([p.rows for p in parts], ignore_index=True), whole.rows)
    potential = morse_potential(MorseOneByOne())
    for row in whole.rows.to_dict("records")[::7]:
        crystal = Structure(
            Lattice(np.reshape(row["lattice"], (3, 3))), row["atomic_numbers"], np.reshape(row["frac_coords"], (-1, 3))
        )
        (label,) = potential.evaluate([crystal])
        assert row["energy"] == pytest.approx(label.energy, abs=1e-9)
        np.testing.assert_allclose(np.reshape(row["forces"], (-1, 3)), label.forces, atol=1e-8)
        stress = np.reshape(row["stress"], (3, 3)) / GPA_PER_EV_PER_ANGSTROM3
        np.testing.assert_allclose(stress, label.stress, atol=1e-9)
    assert whole.rows["protostructure"].dropna().tolist()[0] == protostructure_group(crystals.iloc[0].to_dict())


def test_no_crystals_give_no_rows():
    part = label_crystals(starts([rock_salt()]).iloc[:0], small(), morse_potential())
    assert tuple(part.rows.columns) == ROW_COLUMNS
    assert not len(part.rows)
    assert not part.left_out


def test_an_element_that_the_teacher_does_not_know_is_counted():
    part = label_crystals(starts([rock_salt("Cs", "I")], 300.0), small(), morse_potential())
    assert not len(part.rows)
    assert part.left_out == {"distorted: not_evaluated": 2, "drawn: not_evaluated": 1}


# --- settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crystals": {"candidates": 0, "elements": 0, "binaries": 0, "ternaries": 0}}, "nothing is drawn"),
        ({"crystals": {"elements": 1.5}}, "less than or equal to 1"),
        ({"distortions": {"rattles": []}}, "at least 1 item"),
        ({"distortions": {"rattles": [0.0]}}, "greater than or equal to 0.02"),
        ({"distortions": {"strain": 0.5}}, "less than or equal to 0.2"),
        ({"distortions": {"smallest_volume": 1.2}}, "less than or equal to 1"),
        ({"relaxation": {"frames": 1}}, "greater than or equal to 2"),
        ({"relaxation": {"optimizer": "bfgs"}}, "'quasi-newton', 'fire-quasi-newton' or 'fire'"),
        ({"dynamics": {"steps": 3, "frames": 4}}, "4 frames of 3 steps"),
        ({"dynamics": {"steps": 100, "frames": 51}}, "write 51 or 102 steps"),
        ({"dynamics": {"friction_time": 9.0}}, "below five time steps of 2 fs; write 10 or more"),
        ({"dynamics": {"temperatures": [-300]}}, "greater than 0"),
        ({"sanity": {"lowest_energy": 10.0}}, "no frame would be kept"),
        ({"sanity": {"largest_force": float("inf")}}, "finite number"),
        ({"held_out": 0.0}, "greater than 0"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"rattle": 0.1}, "Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_hostile_settings_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        settings(**changes)


def test_a_training_that_distils_reads_what_it_writes(tmp_path):
    text = (CONFIGS / "train_halides_surrogate.yaml").read_text()
    training = load_training(CONFIGS / "train_halides_surrogate.yaml")
    assert training.data.test == (str(training.folder / "labels" / "test.parquet"),)
    assert not training.data.files
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("data:\n", "data:\n  files: [labels.parquet]\n"))
    with pytest.raises(ConfigError, match=r"leave out data\.files, or distil"):
        load_training(own)
    own.write_text(re.sub(r"    copies: \d+\n", "    copies: -1\n", text))
    with pytest.raises(ConfigError, match=r"own.yaml:\d+: distil.distortions.copies"):
        load_training(own)
