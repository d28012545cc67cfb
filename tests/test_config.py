"""Bad configurations: every error at once, with its place and the remedy."""

from pathlib import Path

import pytest

from pipeline.config import ConfigError, load_campaign
from pipeline.surrogates.catalogue import ModelNotFoundError, locate
from pipeline.training.settings import load_training
from workflows.provenance import campaign_as_yaml

GOOD = """\
name: x
mobile_ions: [Li]
candidates:
  prototypes: {source: aflow}
  elements: [Li, Cl]
reference: {source: prototypes}
stages:
  - stage: stability
    gates: {energy_above_hull: {below: 0.05}}
ranking:
  score: [{column: energy_above_hull, best: 0, worst: 0.1}]
  pareto: [{column: energy_above_hull, goal: min}]
"""


def problems_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    return [str(p).replace(str(path), "c.yaml") for p in caught.value.problems]


def test_good_config_loads(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD, encoding="utf-8")
    campaign = load_campaign(path)
    assert campaign.stages[0].gates["energy_above_hull"].below == 0.05
    with pytest.raises(ValueError, match="frozen"):
        campaign.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("name: x", "name: x\nnmae: y", "c.yaml:2: nmae", "unknown key; did you mean 'name'?"),
        ("name: x", "name: x\ncolour: y", "c.yaml:2: colour", "unknown key; see `ionsieve schema`"),
        ("name: x", "name: x\nmobil_ions: [Na]", "c.yaml:2: mobil_ions", "did you mean 'mobile_ions'?"),
        ("    gates:", "    chunksize: 4\n    gates:", "c.yaml:9: stages.0.chunksize", "did you mean 'chunk_size'?"),
        ("[Li, Cl]", "[Li, Cl]\n  gates: {radius_mismatc: 1}", "c.yaml:6", "did you mean 'radius_mismatch'?"),
        ("mobile_ions: [Li]", "mobile_ions: Li", "c.yaml:2: mobile_ions", "must be a list, got 'Li'; write [Li]"),
        ("name: x", "name: my campaign", "c.yaml:1: name", "no spaces, at most 64 in all"),
        ("  - stage: stability", "  - stage: stability\n    name: My step", "c.yaml:9", "may have small letters"),
        ("name: x", "name: x\ncluster: {memory_limit: 9}", "c.yaml:2", "valid string"),
        ("below: 0.05", "below: -0.05", "c.yaml:8: stages.0", "must lie from 0 to 10 eV/atom, got -0.05"),
        ("below: 0.05", "below: 50 meV", "c.yaml:9: stages.0.gates.energy_above_hull.below", "got '50 meV'"),
        ("energy_above_hull: {below", "energy_above_hul: {below", "c.yaml:8", "did you mean 'energy_above_hull'?"),
        ("[Li, Cl]", "[Li, Xy]", "c.yaml:5: candidates.elements", "unknown element 'Xy'"),
        ("[Li, Cl]", "[Li, Cl]\n  radii: {Li: 0.76}", "c.yaml:6: candidates.radii", "write the element, its charge"),
        ("[Li, Cl]", "[Li, Cl]\n  radii: {Li+: 76}", "c.yaml:6: candidates.radii", "from 0.05 to 4 Å, got 76"),
        ("[Li, Cl]", "[Li, Cl]\n  radii: {Li+: big}", "c.yaml:6: candidates.radii.Li+", "got 'big'"),
        ("mobile_ions: [Li]", "mobile_ions: []", "c.yaml:2: mobile_ions", "at least 1 item"),
        ("mobile_ions: [Li]\n", "", "c.yaml:1: mobile_ions", "is missing"),
        ("stage: stability", "stage: stabilty", "c.yaml:8: stages.0", "dft, practicality; did you mean 'stability'?"),
        ("{below: 0.05}", "{}", "c.yaml:9: stages.0.gates.energy_above_hull", "needs a bound"),
        ("{below: 0.05}", "{above: 0.2, below: 0.1}", "c.yaml:9", "nothing can pass"),
        ("{source: aflow}", "{source: folder}", "c.yaml:4: candidates.prototypes", "needs 'path'"),
        ("{source: aflow}", "{source: aflow, path: x.parquet}", "c.yaml:4", "comes with pymatgen; leave out 'path'"),
        (
            "{source: aflow}",
            "{source: aflow, min_elements: 4, max_elements: 2}",
            "c.yaml:4",
            "4 is above max_elements 2",
        ),
        (
            "{source: aflow}",
            "{source: aflow}\n  substitution: none\n  gates: {radius_mismatch: 0.2, substitution_probability: 0.1}",
            "c.yaml:3: candidates",
            "leave out gates.radius_mismatch and gates.substitution_probability",
        ),
        ("column: energy_above_hull, best", "column: band_gap, best", "c.yaml", "list that stage"),
        ("best: 0, worst: 0.1", "best: 0, worst: 0", "c.yaml:11", "must differ"),
        ("reference: {source: prototypes}", "reference: {source: table}", "c.yaml:6: reference", "needs 'path'"),
        ("{source: prototypes}", "{source: prototypes, max_elements: 1}", "c.yaml", "leaves no compound to compete"),
        ("name: x", "name: x\npotential: {convention: both}", "c.yaml:2: potential.convention", "'destination'"),
        ("name: x", "name: ../x", "c.yaml:1: name", "got '../x'"),
        ("below: 0.05", "below: ", "c.yaml:9", "needs a bound"),
        ("below: 0.05", "below: true", "c.yaml:9", "valid number"),
        ("{below: 0.05}", "{above: 0.1, below: 0.1}", "c.yaml:9", "nothing can pass"),
        ("pareto: [{column: energy_above_hull, goal: min}]", "pareto: []", "c.yaml:12", "at least 1 item"),
        ("column: energy_above_hull, best", "column: score, best", "c.yaml", "the ranking itself makes"),
        ("[Li, Cl]", "[Na, Cl]", "c.yaml", "mobile ion Li is not among the candidates' elements"),
        ("{source: prototypes}", "{source: prototypes, path: p.csv}", "c.yaml:6", "leave out the paths"),
        (
            "name: x",
            "name: x\ncluster: {memory_limit: banana}",
            "c.yaml:2: cluster.memory_limit",
            "e.g. 4GiB or 800MB); got 'banana'",
        ),
        ("  - stage: stability", "  - stage: stability\n    name: candidates", "c.yaml", "can't be named"),
    ],
)
def test_one_mistake_is_named_placed_and_remedied(tmp_path: Path, old: str, new: str, place: str, words: str) -> None:
    assert old in GOOD
    problems = problems_of(tmp_path, GOOD.replace(old, new, 1))
    assert len(problems) == 1, problems
    assert problems[0].startswith(place), problems
    assert words in problems[0]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("[Li, Cl]", "[Qq]").replace("name: x", "nam: x").replace("below: 0.05", "below: -1")
    assert len(problems_of(tmp_path, text)) == 4  # unknown key, missing name, unknown element, negative gate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1", "mapping"),
        ("name: a\nname: b", "not valid YAML"),
        ("a: \x00", "no text file (NUL in byte 3)"),
        ("a: \x07", "c.yaml:1: not valid YAML: the character '\\x07'"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems_of(tmp_path, text)[0]


def test_same_stage_twice_needs_names(tmp_path: Path) -> None:
    twice = "  - stage: practicality\n  - stage: practicality\n"
    assert "own 'name'" in problems_of(tmp_path, GOOD.replace("ranking:", twice + "ranking:"))[0]
    path = tmp_path / "ok.yaml"
    named = "  - stage: practicality\n  - stage: practicality\n    name: density\n"
    path.write_text(GOOD.replace("ranking:", named + "ranking:"), encoding="utf-8")
    assert [s.step for s in load_campaign(path).stages] == ["stability", "practicality", "density"]


def test_dynamics_moves_relaxed_crystals_once(tmp_path: Path) -> None:
    stage = "  - stage: dynamics\n    temperatures: [600, 800]\n"
    early = GOOD.replace("  - stage: stability", f"{stage}  - stage: stability")
    assert "put stability before it" in problems_of(tmp_path, early)[0]
    twice = GOOD.replace("ranking:", f"{stage}{stage}    name: again\nranking:")
    assert "stage dynamics may occur once; give it all temperatures" in problems_of(tmp_path, twice)[0]
    wrong = GOOD.replace("ranking:", stage.replace("600, 800", "800, 600") + "ranking:")
    (problem,) = problems_of(tmp_path, wrong)
    assert problem.startswith("c.yaml:11: stages.1")
    assert "temperatures must rise, each once; write [600, 800]" in problem


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_campaign(tmp_path / "nowhere.yaml")


def test_all_bad_gates_of_a_stage_are_named(tmp_path: Path) -> None:
    text = GOOD.replace("{energy_above_hull: {below: 0.05}}", "{nonsense: {below: 1}, volume: {below: -5}}")
    (problem,) = problems_of(tmp_path, text)
    assert "'nonsense'" in problem
    assert "volume must lie from 0" in problem


def test_window_knows_which_metals_it_can_measure_against(tmp_path: Path) -> None:
    text = GOOD.replace("ranking:", "  - stage: window\n    gates: {oxidation_limit_K: {above: 2}}\nranking:")
    (problem,) = problems_of(tmp_path, text)
    assert "oxidation_limit_K: the step measures against Li, not K" in problem
    silver = GOOD.replace("ranking:", "  - stage: window\n    reference_electrode: Ag\nranking:")
    assert any("not of Ag" in problem for problem in problems_of(tmp_path, silver))


def test_gates_and_ranking_know_the_reference_electrode(tmp_path: Path) -> None:
    sodium = "  - stage: window\n    reference_electrode: Na\n    gates: {GATE: {above: -1}}\nranking:"
    text = GOOD.replace("[Li, Cl]", "[Li, Na, Cl]").replace("ranking:", sodium)
    (problem,) = problems_of(tmp_path, text.replace("GATE", "reduction_limit_Li"))
    assert "reduction_limit_Li: the step measures against Na, not Li" in problem
    ranked = text.replace("GATE", "reduction_limit_Na").replace("score: [", "score: [SCORE, ")
    term = "{column: reduction_limit_Na, best: 0, worst: 3}"
    (tmp_path / "c.yaml").write_text(ranked.replace("SCORE", term), encoding="utf-8")
    assert load_campaign(tmp_path / "c.yaml").ranking.score[0].column == "reduction_limit_Na"
    (problem,) = problems_of(tmp_path, ranked.replace("SCORE", term.replace("_Na", "_Li")))
    assert "ranking uses 'reduction_limit_Li'" in problem


WITH_PARTNERS = GOOD.replace(
    "ranking:",
    """\
  - stage: reactivity
    partners: [Li, LiCl]
    gates: {reaction_energy: {above: -0.1}, reaction_energy_Li: {above: -0.2}}
ranking:""",
)


def test_partners_are_formulas_of_known_elements(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(WITH_PARTNERS, encoding="utf-8")
    assert load_campaign(path).reference_elements == {"Li", "Cl"}
    (unknown,) = problems_of(tmp_path, WITH_PARTNERS.replace("[Li, LiCl]", "[Li, LiCoO2]"))
    assert "Co, O (of an electrode or partner) is not among the candidates' elements" in unknown
    (unreadable,) = problems_of(tmp_path, WITH_PARTNERS.replace("[Li, LiCl]", "[Li, cathode]"))
    assert "'cathode' is no chemical formula" in unreadable
    (foreign,) = problems_of(tmp_path, WITH_PARTNERS.replace("reaction_energy_Li:", "reaction_energy_Na:"))
    assert "Na is no partner of this stage" in foreign
    late = WITH_PARTNERS.replace("  - stage: stability\n    gates: {energy_above_hull: {below: 0.05}}\n", "")
    assert any("stage reactivity needs formation energies" in text for text in problems_of(tmp_path, late))


def test_a_training_is_not_taken_for_a_campaign_nor_a_campaign_for_a_training() -> None:
    folder = Path(__file__).parents[1] / "configs"
    for name, load, words in (
        ("train_example.yaml", load_campaign, "this is a training file, not a campaign: ionsieve train "),
        ("train_halides_surrogate.yaml", load_campaign, "this is a training file, not a campaign: ionsieve train "),
        ("quickstart.yaml", load_training, "this is a campaign, not a training file: ionsieve run "),
    ):
        with pytest.raises(ConfigError) as caught:
            load(folder / name)
        (problem,) = caught.value.problems
        assert problem.message == f"{words}{folder / name}"


def test_a_model_in_other_letters_is_guessed() -> None:
    with pytest.raises(ModelNotFoundError, match="model 'CHGnet' not found; did you mean 'CHGNet'"):
        locate("CHGnet", {})


def test_the_best_may_be_those_by_a_column_of_one_ion(tmp_path: Path) -> None:
    text = GOOD.replace("ranking:", "  - stage: window\n  - stage: conduction\n    best: 5\nranking:").replace(
        "column: energy_above_hull, best: 0, worst: 0.1", "column: oxidation_limit_Li, best: 5, worst: 2"
    )
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_campaign(path).stages[2].best == 5
    early = problems_of(tmp_path, text.replace("  - stage: window\n", "") + "# no window")
    assert all("oxidation_limit_Li" in problem for problem in early)


def test_what_a_run_keeps_says_which_gates_are_off(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.replace("  elements:", "  gates: {mobile_ion_fraction: null}\n  elements:"), encoding="utf-8")
    campaign = load_campaign(path)
    assert campaign.candidates.gates.mobile_ion_fraction is None
    path.write_text(campaign_as_yaml(campaign), encoding="utf-8")
    assert load_campaign(path) == campaign


def test_all_that_does_not_fit_together_is_told_line_by_line(tmp_path: Path) -> None:
    text = GOOD.replace("mobile_ions: [Li]", "mobile_ions: [Li, K]") + "plan: {passing: {nothing: 0.1}}\n"
    problems = problems_of(tmp_path, text)
    assert len(problems) == 2
    assert "plan.passing names 'nothing'" in problems[0]
    assert "mobile ion K" in problems[1]
    (problem,) = problems_of(tmp_path, WITH_PARTNERS.replace("[Li, LiCl]", "[Lii, Li2, '']"))
    assert "Lii" in problem
    assert "''" in problem
