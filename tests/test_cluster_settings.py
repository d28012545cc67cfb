"""Settings of a cluster: a key of another kind is named with its line, and what must be there is asked for."""

import re
from pathlib import Path

import pytest

from pipeline.cluster_settings import BATCH_KINDS, ClusterSettings, seconds_of
from pipeline.config import ConfigError, load_campaign
from tests.test_config import GOOD
from workflows.provenance import campaign_as_yaml

BATCH = """\
cluster:
  kind: slurm
  queue: normal
  walltime: 04:00:00
  memory: 16GiB
  cores: 8
  jobs: 4
"""


def write(tmp_path: Path, cluster: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + cluster, encoding="utf-8")
    return path


def line_of(cluster: str, key: str) -> int:
    return next(i for i, line in enumerate((GOOD + cluster).splitlines(), 1) if line.strip().startswith(f"{key}:"))


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("kind: slurm", "kind: local", "queue", "kind: local takes no 'queue'; it is for slurm, pbs, sge, lsf"),
        ("jobs: 4", "jobs: 4\n  workers: 3", "workers", "kind: slurm takes no 'workers'; it is for local, cuda"),
        ("jobs: 4", "jobs: 4\n  memory_limit: 4GiB", "memory_limit", "it is for local, cuda"),
        ("jobs: 4", "jobs: 4\n  address: tcp://a:1", "address", "kind: slurm takes no 'address'"),
        ("jobs: 4", "jobs: 4\n  partition: x", "partition", "unknown key"),
        ("kind: slurm", "kind: sluurm", "kind", "got 'sluurm'"),
        ("04:00:00", "4h", "walltime", "got '4h'"),
        ("04:00:00", "00:02:00", "walltime", "leaves no time for work"),
        ("16GiB", "16G", "memory", "got '16G'"),
        ("jobs: 4", "jobs: 4\n  directives: ['a\n\n  b']", "directives", "got 'a\\nb'"),
        ("jobs: 4", "jobs: 4\n  environment: {A-B: x}", "environment", "'A-B' can't be a variable"),
        ("jobs: 4", "jobs: 4\n  local_directory: /x; rm", "local_directory", "pattern"),
        ("jobs: 4", "jobs: 4\n  adaptive: {maximum: 3}", "cluster", "not both"),
        ("  jobs: 4\n", "", "cluster", "kind: slurm needs 'jobs' or 'adaptive'"),
        ("  memory: 16GiB\n", "", "cluster", "kind: slurm needs 'memory'"),
        ("  walltime: 04:00:00\n", "", "cluster", "kind: slurm needs 'walltime'"),
        ("cores: 8", "cores: 8\n  processes: 5\n  threads_per_worker: 2", "cluster", "need 10 cores, a job has 8"),
        ("kind: slurm", "kind: sge", "cluster", "'-pe smp 8'"),
        ("jobs: 4", "jobs: 4\n  resource_spec: select=1", "cluster", "resource_spec is for pbs and sge"),
        ("jobs: 4", "jobs: 4\n  gpu: {queue: gpu}", "gpu", "gpu needs 'jobs' or 'adaptive'"),
        ("jobs: 4", "adaptive: {minimum: 3, maximum: 2}", "adaptive", "minimum is 3 jobs, above the maximum of 2"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, key: str, words: str) -> None:
    assert old in BATCH
    changed = BATCH.replace(old, new, 1)
    with pytest.raises(ConfigError) as caught:
        load_campaign(write(tmp_path, changed))
    places = {p.message.partition(":")[0]: p for p in caught.value.problems}
    problem = places[key] if key in places else caught.value.problems[0]
    assert problem.place == f"{tmp_path / 'c.yaml'}:{line_of(changed, key)}"
    assert words in problem.message
    # Every key that is for batch systems alone is named too when the kind is not one.
    assert len(caught.value.problems) == (5 if new == "kind: local" else 1)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_what_a_run_folder_keeps_is_read_again(tmp_path: Path, kind: str) -> None:
    directives = "  directives: [-pe smp 8]\n" if kind == "sge" else ""
    campaign = load_campaign(write(tmp_path, BATCH.replace("slurm", kind) + directives))
    assert campaign.cluster.walltime == "04:00:00"  # YAML 1.1 would read a number in base 60
    kept = tmp_path / "kept.yaml"
    kept.write_text(campaign_as_yaml(campaign), encoding="utf-8")
    assert load_campaign(kept) == campaign


def test_gpus_and_a_cpu_device_do_not_fit(tmp_path: Path) -> None:
    for cluster in (BATCH + "  gpu: {jobs: 1}\n", "cluster: {kind: cuda}\n"):
        assert load_campaign(write(tmp_path, cluster)).device == "auto"
        with pytest.raises(ConfigError, match="cluster asks for GPUs, but device is cpu"):
            load_campaign(write(tmp_path, f"device: cpu\n{cluster}"))


def test_an_address_and_its_certificates_go_together() -> None:
    tls = {"ca_file": "ca.pem", "cert": "cert.pem"}
    assert ClusterSettings(kind="address", address="tls://a:1", tls=tls).tls is not None
    for wrong in ({"address": "tls://a:1"}, {"address": "tcp://a:1", "tls": tls}):
        with pytest.raises(ValueError, match="encrypted addresses begin with tls://"):
            ClusterSettings.model_validate({"kind": "address", **wrong})


def test_time_limits_in_seconds() -> None:
    assert seconds_of("04:00:30") == 4 * 3600 + 30
    assert seconds_of("2-01:00:00") == 49 * 3600
    assert seconds_of("100:00:00") == 360_000


def test_every_key_says_for_which_kinds_it_is() -> None:
    for name, field in ClusterSettings.model_fields.items():
        assert field.description or name == "kind", name
        assert not re.search(r"\bTODO\b", field.description or "")
