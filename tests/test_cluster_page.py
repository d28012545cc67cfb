"""docs/cluster.md: every example loads, and its numbers are the code's."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.cluster_settings import ClusterSettings
from pipeline.config import Campaign
from pipeline.settings import NETWORK_STAGES
from scripts.configuration_reference import anchor
from workflows import batch_cluster
from workflows.batch_jobs import job_groups
from workflows.cluster import scheduler_rules, worker_environment

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
YAML_BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.M | re.S)


def campaign_of(block: str) -> Campaign:
    """A whole campaign as it stands; a part of one in the place of the quickstart's."""
    yaml = YAML(typ="safe", pure=True)
    given = yaml.load(block)
    if "name" not in given:
        given = {**yaml.load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8")), **given}
    return Campaign.model_validate(given)


def test_every_kind_has_an_example_that_loads() -> None:
    kinds = [campaign_of(block).cluster.kind for block in YAML_BLOCKS]
    assert set(kinds) == {"slurm", "pbs", "sge", "lsf", "cuda", "address"}


@pytest.mark.parametrize("block", YAML_BLOCKS)
def test_jobs_of_an_example_hold_their_workers(block: str) -> None:
    cluster = campaign_of(block).cluster
    for group in job_groups(cluster) if cluster.memory else []:
        assert group.processes * cluster.threads_per_worker <= group.cores


def test_numbers_are_those_of_the_code() -> None:
    assert f"noticed after {batch_cluster.LOST_SECONDS:.0f} seconds" in TEXT
    assert batch_cluster.FEWEST_FAILED_STARTS == 3
    assert "if three jobs in a row end without a worker" in TEXT
    assert scheduler_rules("slurm")["distributed.scheduler.allowed-failures"] == 5
    assert "only after six workers died with it" in TEXT
    for name, value in worker_environment(1).items():
        assert not name.startswith("MALLOC") or f"{name}={value}" in TEXT
    hour = {"kind": "slurm", "memory": "1GiB", "jobs": 1}
    for walltime, margin in (("01:00:00", 360), ("00:05:00", 120), ("1-00:00:00", 600)):
        (group,) = job_groups(ClusterSettings.model_validate({**hour, "walltime": walltime}))
        assert group.stagger * 2 == margin
    assert "by default a tenth, 2 to 10 minutes" in TEXT


def test_stages_on_gpus_are_those_that_run_a_network() -> None:
    named = re.search(r"Stages that run a network \((.*?)\)", TEXT)
    assert named is not None
    assert set(re.split(r", | and ", named.group(1).replace("competing phases", "competing_phases"))) == NETWORK_STAGES


def test_keys_that_it_names_exist_and_links_lead_somewhere() -> None:
    keys = {*ClusterSettings.model_fields, "idle", "chunk_size", "device"}
    for key in re.findall(r"`(?:gpu\.|adaptive\.)?([a-z_]{4,})`", PAGE):
        assert key in keys or key in {"auto", "cuda", "local", "maximum", "tmux"}, key
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), flags=re.M)
    links = re.findall(r"\]\(([^)#]+)#([^)]+)\)", PAGE)
    assert links
    assert all(name == "configuration.md" and place in {anchor(h) for h in headings} for name, place in links)
