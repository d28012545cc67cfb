"""Counting without listing, samples, `ionsieve plan` and `ionsieve enumerate`."""

import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from pipeline.candidate_settings import CandidateGates, CandidateSettings, PrototypeSettings
from pipeline.config import load_campaign
from pipeline.reference.prototypes import PrototypeLibrary, build_library
from pipeline.stages.candidate_sample import sample_candidates
from pipeline.stages.candidates import count
from tests.campaigns import ionsieve, write_campaign
from tests.enumerations import listed
from workflows.plan_view import share_in_words
from workflows.planning import PlannedStep

MOBILE = ("Li", "Na")
CONFIG = """\
name: small
mobile_ions: [Li, Na]
candidates:
  prototypes: {source: aflow, max_sites: 12, min_elements: 3, max_elements: 3}
  elements: [Li, Na, Mg, Al, O, Cl]
  substitution: charge_neutral
  by: orbit
  chunk_size: 40
  gates: {mobile_ion_fraction: 0.1, require_one_of: [[Li], [O, Cl]], not_together: [[Li, Na]]}
potential: {model: CHGNet}
reference: {source: prototypes, max_elements: 2, max_sites: 2}
stages:
  - stage: stability
    max_steps: 2
  - stage: conduction
    spacing: 1.0
  - stage: practicality
ranking:
  score: [{column: energy_above_hull, best: 0.0, worst: 0.1}]
  pareto: [{column: energy_above_hull, goal: min}]
plan:
  passing: {stability: 0.25}
  sample: 4
  cluster: {workers: 1000, relative_speed: 2.0, cost_per_worker_hour: 0.1}
"""


@pytest.fixture(scope="module")
def library() -> PrototypeLibrary:
    return build_library(PrototypeSettings(source="aflow", max_sites=12))


def chosen(**changes) -> CandidateSettings:
    given = {
        "prototypes": PrototypeSettings(source="aflow", max_sites=12),
        "elements": ("Li", "Na", "Mg", "Y", "Fe", "O", "Cl"),
        "substitution": "charge_neutral",
        "by": "orbit",
        "gates": CandidateGates(mobile_ion_fraction=0.2),
    }
    return CandidateSettings(**{**given, **changes})


@pytest.mark.parametrize("substitution", ["isovalent", "charge_neutral"])
@pytest.mark.parametrize("by", ["element", "orbit"])
@pytest.mark.parametrize("states", ["common", "tabulated"])
def test_counting_equals_listing(library, substitution, by, states):
    settings = chosen(substitution=substitution, by=by, oxidation_states=states, max_elements=4)
    assert count(settings, library)["candidates"] == listed(settings, library, MOBILE)[1]["enumerated"] > 0


def test_sample_of_everything_is_exact(library):
    small = PrototypeLibrary(library.prototypes[:6], {})
    settings = chosen(by="element")
    sample = sample_candidates(settings, small, MOBILE)
    table, counts = listed(settings, small, MOBILE)
    # few prototypes and many draws: each is drawn again and again, in proportion to its size
    assert sample.passing == pytest.approx(counts["passed"] / counts["enumerated"], abs=4 * sample.standard_error)
    assert set(sample.rows["candidate_id"]) <= set(table["candidate_id"])
    assert sample.passing + sum(sample.rejected.values()) == pytest.approx(1.0, abs=1e-12)


def test_sample_covers_the_true_share(library):
    settings = chosen()
    _, counts = listed(settings, library, MOBILE)
    truth = counts["passed"] / counts["enumerated"]
    errors = []
    for seed in range(8):
        sample = sample_candidates(settings, library, MOBILE, seed=seed)
        errors.append((sample.passing - truth) / sample.standard_error)
    # eight draws of a standard normal: the largest is beyond 4 in one of two thousand trials
    assert max(map(abs, errors)) < 4.0
    assert min(errors) < 0.0 < max(errors)


def test_sample_is_seeded_and_empty_where_nothing_is(library):
    settings = chosen()
    one, two = (sample_candidates(settings, library, MOBILE, seed=5) for _ in range(2))
    assert one.passing == two.passing
    pd.testing.assert_frame_equal(one.rows, two.rows)
    nothing = sample_candidates(chosen(elements=("Li",)), library, MOBILE)
    assert (nothing.passing, len(nothing.rows)) == (0.0, 0)


def test_gates_on_sets_of_elements_and_parents(library):
    everything, _ = listed(chosen(), library, MOBILE)
    gates = {"mobile_ion_fraction": 0.2, "require_one_of": (("Li", "Na"), ("Cl",)), "not_together": (("Mg", "Y"),)}
    table, counts = listed(chosen(gates=CandidateGates(**gates, keep_parents=False)), library, MOBILE)
    systems = everything["chemsys"].str.split("-").map(set)
    fits = systems.map(lambda s: bool(s & {"Li", "Na"}) and "Cl" in s and not s >= {"Mg", "Y"})
    expected = everything[fits & ~everything["is_parent"]]
    assert set(table["candidate_id"]) == set(expected["candidate_id"])
    assert counts["is_parent"] == int((fits & everything["is_parent"]).sum())
    assert counts["require_one_of"] > 0
    assert counts["enumerated"] == sum(n for name, n in counts.items() if name != "enumerated")


# the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(CONFIG)
    return folder


def parts(folder: Path, run: str) -> pd.DataFrame:
    found = sorted((folder / run).glob("stages/candidates/*/part-*.parquet"))
    assert len(found) > 3
    return pd.concat([pd.read_parquet(path) for path in found], ignore_index=True)


def test_plan_counts_what_enumerate_lists(folder):
    done = ionsieve(folder, "plan", "small.yaml", "--json", "--no-measure")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    unmeasured = [s for s in plan["steps"] if s["seconds_per_row"] is None]
    assert len(unmeasured) == len(plan["steps"])
    assert {(s["disk_GiB"], s["worker_memory_GiB"]) for s in unmeasured} == {(None, None)}
    for workers in (1, 2):
        done = ionsieve(folder, "enumerate", "small.yaml", "--folder", f"run{workers}", "--workers", str(workers))
        assert done.returncode == 0, done.stderr
    one, two = parts(folder, "run1"), parts(folder, "run2")
    pd.testing.assert_frame_equal(one, two)
    assert one["candidate_id"].is_unique
    step = json.loads((folder / "run1" / "progress.json").read_text())["steps"][0]
    assert step["entered"] == plan["candidates_total"]
    assert step["passed"] == len(one) > 0
    assert step["rejected_by"].keys() >= {"require_one_of", "not_together"}
    assert plan["prototypes_total"] > 0
    assert plan["steps_without_a_rate"] == ["candidates", "competing_phases", "stability", "conduction", "practicality"]
    assert plan["this_machine"]["hours"] is None
    # a second call has nothing left to list
    done = ionsieve(folder, "enumerate", "small.yaml", "--folder", "run1")
    assert "nothing new to compute" in done.stdout


def test_plan_measures_rates_and_keeps_them(folder):
    done = ionsieve(folder, "plan", "small.yaml", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    steps = {step["step"]: step for step in plan["steps"]}
    assert plan["steps_without_a_rate"] == ["practicality"]
    del steps["practicality"]
    assert all(step["seconds_per_row"] > 0 and step["worker_memory_GiB"] > 0.05 for step in steps.values())
    rows = plan["candidates_total"] * plan["cheap_gates"]["passing"]
    assert steps["stability"]["rows"] == pytest.approx(rows)
    assert steps["conduction"]["rows"] == pytest.approx(0.25 * rows)
    hours = sum(step["core_hours"] for step in steps.values())
    assert sum(step["units"] for step in steps.values()) > 0
    handed_out = [step["units"] / 25 / 3600 for step in steps.values()]
    longest = [max(step["core_hours"] / 2000, wait) for step, wait in zip(steps.values(), handed_out, strict=True)]
    assert plan["cluster"]["hours"] == pytest.approx(sum(longest))
    assert sum(longest) > hours / 2000
    assert plan["cluster"]["cost_USD"] == pytest.approx(sum(longest) * 1000 * 0.1)
    kept = ionsieve(folder, "plan", "small.yaml", "--no-measure")
    assert kept.returncode == 0, kept.stderr
    assert f"candidates before the cheap gates: {plan['candidates_total']:,}" in kept.stdout
    assert not re.search(r"\de-\d|: 0\n", kept.stdout)  # no powers of ten, no noughts
    assert " 25 %" in kept.stdout
    assert "cluster, 1,000 workers" in kept.stdout
    assert "without practicality, whose rate is not measured" in kept.stdout


def relaxations(rows: int, chunk_size: int, seconds: float) -> PlannedStep:
    hours = rows * seconds / 3600
    return PlannedStep("stability", rows, chunk_size, rows // chunk_size, 1.0, "", seconds, hours, 0.0, 0.3, "")


def test_units_too_small_for_the_workers_are_told():
    few, many = relaxations(6_000_000, 16, 0.19), relaxations(6_000_000, 256, 0.19)
    assert few.hours(10, 1.0) == pytest.approx(6_000_000 * 0.19 / 3600 / 10)
    assert few.better_chunk_size(10, 1.0) is None
    # 25 units a second of 3 s each keep 76 workers busy
    assert few.hours(1000, 1.0) == pytest.approx(6_000_000 / 16 / 25 / 3600)
    assert few.better_chunk_size(1000, 1.0) == 256  # 40 s a unit
    assert few.better_chunk_size(1000, 2.0) == 512
    assert many.better_chunk_size(1000, 1.0) is None
    assert many.hours(1000, 1.0) == pytest.approx(6_000_000 * 0.19 / 3600 / 1000)


def test_a_step_that_is_short_for_its_workers_is_not_cut_too_coarsely():
    short = relaxations(6_000_000, 16, 0.19)
    size = short.better_chunk_size(100_000, 1.0)
    assert size is not None
    unit, units = size * 0.19, 6_000_000 / size
    assert units / 25 < 2 * unit < 8 * units / 25
    assert relaxations(16_000, 16, 0.001).better_chunk_size(1000, 1.0) is None  # handed out in 40 s


def test_plan_of_given_crystals(tmp_path):
    config = write_campaign(tmp_path)
    done = ionsieve(tmp_path, "plan", config, "--json", "--no-measure")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidates_total"] == 7


def test_wrong_assumptions_are_named(folder):
    text = CONFIG.replace("passing: {stability: 0.25}", "passing: {stabilty: 0.25, conduction: 1.5}")
    (folder / "wrong.yaml").write_text(text)
    done: subprocess.CompletedProcess[str] = ionsieve(folder, "plan", "wrong.yaml")
    assert done.returncode == 2
    assert "1.5" in done.stderr
    (folder / "wrong.yaml").write_text(text.replace("1.5", "0.5"))
    done = ionsieve(folder, "plan", "wrong.yaml")
    assert done.returncode == 2
    assert "plan.passing names 'stabilty'; the steps are stability, conduction, practicality" in done.stderr


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.9999, "> 99.9 %"), (0.9951, "99.5 %"), (0.123, "12.3 %"), (0.0456, "4.6 %"), (3e-5, "0.003 %")],
)
def test_shares_are_told_in_plain_digits(share, text):
    assert share_in_words(share) == text


def test_the_template_lists_ternary_halides_that_it_can_relax_in_minutes() -> None:
    campaign = load_campaign(Path(__file__).parents[1] / "workflows" / "template.yaml")
    made = build_library(campaign.candidates.prototypes)
    table, _ = listed(campaign.candidates, made, campaign.mobile_ions)
    assert {"Li2MgCl4", "Li2ZnBr4", "LiMgCl3"} <= set(table["formula_pretty"])
    assert {"LiCl", "LiBr"}.isdisjoint(table["formula_pretty"])
    assert len(table) < 60  # 44 of at most 14 atoms take one core about a minute, the competing phases five
