"""Settings of the dynamics stage: mistakes are said with the remedy, and what a result hangs on is in its digest."""

import collections
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ConfigError, load_campaign
from pipeline.settings import DynamicsStageSettings
from workflows.identity import Digests


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperatures": [800, 600]}, r"temperatures must rise, each once; write \[600, 800\]"),
        ({"temperatures": [600, 600]}, r"write \[600\]"),
        ({"temperatures": []}, "at least 1 item"),
        ({"temperatures": [10]}, "greater than or equal to 50"),
        ({"timestep": 3.0}, "whole number of time steps of 3 fs, got 20 fs; write 21"),
        ({"gates": {"md_n_hops": {"above": -5}}}, "must lie from 0 to"),
        ({"gates": {"md_framework_state": {"below": 5}}}, "no column 'md_framework_state' to gate on"),
        ({"gates": {"md_is_upper_bound": {"below": 1}}}, "is true or false"),
    ],
)
def test_wrong_settings_say_what_to_write(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DynamicsStageSettings(**changes)


def test_results_hang_on_model_ions_and_settings(tmp_path: Path) -> None:
    def digest(model: str = "m", ions: str = "Li", stage: str = "") -> str:
        path = tmp_path / "c.yaml"
        path.write_text(CAMPAIGN.format(ions=ions, stage=stage, first="energy_above_hull"), encoding="utf-8")
        campaign = load_campaign(path)
        models = collections.defaultdict(lambda: "same", potential=model)
        return Digests(campaign, library="l", models=models, table="t", known="k").stage(campaign.stages[1])

    same = digest()
    assert digest(stage="chunk_size: 8, best: 3, gates: {conductivity_md_300K_low: {above: 1e-4}}") == same
    others = [digest("n"), digest(ions="Li, Na"), digest(stage="temperatures: [700]"), digest(stage="seed: 1")]
    assert len({same, *others}) == 5


def test_the_best_of_what_no_score_knows_yet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CAMPAIGN.format(ions="Li", stage="best: 3", first="md_activation_energy"), encoding="utf-8")
    with pytest.raises(ConfigError, match="takes the best 3, but no stage before it makes a column"):
        load_campaign(path)


CAMPAIGN = """\
name: x
mobile_ions: [{ions}]
candidates: {{prototypes: {{source: aflow}}, elements: [Li, Na, Cl]}}
reference: {{source: prototypes}}
stages: [{{stage: stability}}, {{stage: dynamics, {stage}}}]
ranking:
  score: [{{column: {first}, best: 0.0, worst: 0.1}}, {{column: diffusivity_md, best: 1.0e-4, worst: 0}}]
  pareto: [{{column: conductivity_md_300K, goal: max}}]
"""
