"""How competing phases are relaxed where candidates are not, and what stages know of the candidates' charges."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pymatgen.core import Lattice, Structure

from pipeline.config import load_campaign
from pipeline.settings import CompetingPhasesSettings, StabilitySettings
from pipeline.stages.relaxing import relax_crystals
from workflows.identity import Digests
from workflows.relaxed_phases import competing_phases_settings

CONFIG = """\
name: tiny
mobile_ions: [Li]
candidates:
  prototypes: {source: aflow, max_sites: 2}
  elements: [Li, Cl]
potential: {model: CHGNet}
reference: {source: prototypes, max_sites: 2}
stages: [{stage: stability}]
ranking:
  score: [{column: energy_above_hull, best: 0.0, worst: 0.1}]
  pareto: [{column: energy_above_hull, goal: min}]
"""


def test_competing_phases_are_relaxed_where_candidates_are_taken_as_they_are(tmp_path: Path) -> None:
    def settings(**changes: object) -> CompetingPhasesSettings:
        config = tmp_path / "tiny.yaml"
        config.write_text(CONFIG)
        campaign = load_campaign(config)
        (stability,) = (stage for stage in campaign.stages if stage.stage == "stability")
        stages = tuple(stage.model_copy(update=changes) if stage is stability else stage for stage in campaign.stages)
        return competing_phases_settings(campaign.model_copy(update={"stages": stages}))

    usual = settings(max_steps=70)
    assert (usual.relax_cell, usual.max_steps) == (True, 70)
    as_given = settings(max_steps=0, relax_cell=False)
    assert (as_given.relax_cell, as_given.max_steps) == (True, 500)


def test_a_crystal_that_is_not_relaxed_is_not_rattled() -> None:
    rattles: dict[int, float] = {}

    def relax(structures: list[Structure], **options: Any) -> None:
        rattles[options["max_steps"]] = options["rattle"]
        raise ValueError("seen")

    crystal = Structure(Lattice.cubic(3.0), ["Li"], [[0, 0, 0]])
    for steps in (0, 10):
        potential: Any = SimpleNamespace(relax=relax)
        relax_crystals([crystal], ["a"], StabilitySettings(max_steps=steps), potential)
    assert rattles == {0: 0.0, 10: 0.02}


def test_what_shares_charges_is_known_to_every_stage(tmp_path: Path) -> None:
    def digest(**changes: object) -> str:
        config = tmp_path / "tiny.yaml"
        config.write_text(CONFIG)
        campaign = load_campaign(config)
        chosen = campaign.candidates.model_copy(update=changes)
        campaign = campaign.model_copy(update={"candidates": chosen})
        digests = Digests(campaign, library="l", models=defaultdict(lambda: "m"), table="t", known="k")
        return digests.stage(campaign.stages[0])

    assert digest(by="orbit") == digest(by="element")
    assert digest(substitution="charge_neutral", by="orbit") != digest(substitution="charge_neutral", by="element")
