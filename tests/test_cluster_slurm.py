"""A real Slurm on this machine: a campaign through its jobs, a node that goes down, jobs that never work."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cluster_settings import ClusterSettings
from tests.campaigns import command, environment, events, ionsieve, write_campaign
from tests.slurm_machine import Slurm, missing_programs, running_slurm
from workflows import batch_cluster
from workflows.batch_cluster import JobsFailError
from workflows.cluster import connect, worker_environment

pytestmark = pytest.mark.slurm

CLUSTER = """\
cluster:
  {kind: slurm, queue: cpu, walltime: 00:30:00, cores: 2, processes: 1, memory: 4GiB, jobs: 2, interface: lo}"""
PATIENCE = float(os.environ.get("IONSIEVE_SLURM_PATIENCE", "300"))
"""Seconds for a campaign that takes half a minute on a free machine."""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if missing := missing_programs():
        pytest.fail(
            f"{', '.join(missing)} not installed; `make test-slurm` as root installs Debian's slurm-wlm and munge"
        )
    if os.geteuid() != 0:
        pytest.fail("munge and the nodes need root")
    with running_slurm() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
        yield running


def settings(**changes: object) -> ClusterSettings:
    few = {"kind": "slurm", "queue": "cpu", "walltime": "00:20:00", "memory": "2GiB", "interface": "lo", "jobs": 1}
    return ClusterSettings.model_validate({**few, **changes})


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


RELAXATION = """\
  - stage: stability
    max_steps: 60
    chunk_size: 1
    gates: {energy_above_hull: {below: 0.12}}
  - stage: window
"""
BARRIERS_ALONE = """\
ranking:
  score: [{column: migration_barrier_3d, best: 0.2, worst: 1.0}]
  pareto: [{column: migration_barrier_3d, goal: min}]
"""


def campaign(folder: Path, stages: str, cluster: str) -> Path:
    """The tests' small campaign; of bond-valence barriers alone it takes seconds, on a fine grid and row by row."""
    config = write_campaign(folder)
    text = config.read_text()
    if stages == "barriers":
        assert RELAXATION in text
        text = text.replace(RELAXATION, "").replace("spacing: 0.4", "spacing: 0.12\n    chunk_size: 1") + BARRIERS_ALONE
    config.write_text(text.replace("cluster: {workers: 1}", cluster))
    return config


@pytest.mark.parametrize("stages", ["barriers", "relaxations"])
def test_a_campaign_loses_a_node_and_gives_the_bytes_of_the_local_run(
    slurm: Slurm, tmp_path: Path, stages: str
) -> None:
    local = campaign(tmp_path / "local", stages, "cluster: {workers: 1}")
    done = subprocess.run(
        command("run", local), cwd=local.parent, env=environment(local.parent), timeout=PATIENCE, capture_output=True
    )
    assert done.returncode == 0, done.stderr

    config = campaign(tmp_path / "jobs", stages, CLUSTER)
    run, log = config.parent / "runs" / "tiny", config.parent / "terminal.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            command("run", config), cwd=config.parent, env=environment(config.parent), stdout=out, stderr=out
        )
    wait_for(lambda: len(events(run, "unit")) > 0, process, log)
    wait_for(lambda: len([1 for state, _ in slurm.jobs().values() if state == "RUNNING"]) == 2, process, log)
    before = set(slurm.jobs())
    units = len(events(run, "unit"))
    slurm.set_node("n1", "DOWN")
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not set(slurm.jobs()) - before:  # a job in the place of the lost one
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    slurm.set_node("n1", "RESUME")
    assert process.wait(timeout=PATIENCE) == 0, log.read_text()

    assert len(events(run, "unit")) > units
    for name in ("ranked_candidates.csv", "shortlist.csv", "funnel.csv", "failures.csv"):
        assert (run / name).read_bytes() == (local.parent / "runs" / "tiny" / name).read_bytes(), name
    status = ionsieve(config.parent, "status", run)
    assert str(run / "logs") in status.stdout
    logs = list((run / "logs").glob("ionsieve-tiny-*.log"))
    assert len(logs) >= 2
    assert any("NODE FAILURE" in path.read_text() for path in logs)
    assert not slurm.jobs()


def test_jobs_have_the_environment_and_gpu_work_goes_to_gpu_jobs(slurm: Slurm, tmp_path: Path) -> None:
    said: list[str] = []
    gpu = {"queue": "gpu", "jobs": 1, "directives": ["--gres=gpu:1"]}
    wanted = settings(environment={"SCRATCH": "/tmp/a b"}, gpu=gpu, prologue=["export OMP_NUM_THREADS=64"])
    with connect(wanted, name="ionsieve-test", run_folder=tmp_path, say=said.append) as client:
        client.wait_for_workers(2, timeout=PATIENCE)
        seen = client.run(lambda: {**os.environ})
        place = client.submit(lambda: os.environ["SLURM_JOB_PARTITION"], resources={"GPU": 1}).result(timeout=PATIENCE)
    assert len(seen) == 2
    for variables in seen.values():
        assert worker_environment(1).items() <= variables.items()
        assert variables["SCRATCH"] == "/tmp/a b"
    assert {variables["SLURM_JOB_PARTITION"] for variables in seen.values()} == {"cpu", "gpu"}
    assert place == "gpu"
    assert any(str(tmp_path / "logs") in line for line in said)
    assert any("set cluster.tls" in line for line in said)


def test_a_partition_that_is_not_there(slurm: Slurm, tmp_path: Path) -> None:
    with (
        pytest.raises(JobsFailError, match=r"slurm took no job: .*invalid partition"),
        connect(settings(queue="nowhere"), run_folder=tmp_path),
    ):
        pass
    assert not slurm.jobs()


def test_jobs_that_end_without_a_worker_are_given_up(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK_SECONDS", 0.2), ("LOST_SECONDS", 1.0), ("QUEUE_SECONDS", 1.0)):
        monkeypatch.setattr(batch_cluster, name, seconds)
    broken = settings(prologue=["echo no such module >&2", "exit 3"])
    with pytest.raises(JobsFailError) as caught, connect(broken, run_folder=tmp_path):
        pass
    assert "jobs ended before a worker came" in str(caught.value)
    assert "no such module" in str(caught.value)
    assert not slurm.jobs()


def test_jobs_come_and_go_with_the_work(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_cluster, "LOOK_SECONDS", 0.5)
    adaptive = settings(adaptive={"minimum": 0, "maximum": 2, "idle": 0.5}, jobs=None)
    with connect(adaptive, run_folder=tmp_path) as client:
        assert len(slurm.jobs()) == 1
        tasks = [client.submit(time.sleep, 1.0, pure=False) for _ in range(120)]
        client.wait_for_workers(2, timeout=PATIENCE)
        assert len(slurm.jobs()) == 2
        client.cancel(tasks)
        deadline = time.monotonic() + PATIENCE
        while slurm.jobs():
            assert time.monotonic() < deadline, slurm.jobs()
            time.sleep(0.5)
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3  # a job is asked for again
        assert len(slurm.jobs()) == 1
    assert not slurm.jobs()


def test_a_job_whose_node_goes_down_is_replaced(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_SECONDS", 0.5), ("LOST_SECONDS", 2.0), ("SOUND_SECONDS", 0.0)):
        monkeypatch.setattr(batch_cluster, name, seconds)
    said: list[str] = []
    with connect(settings(), run_folder=tmp_path, say=said.append) as client:
        ((lost, (_, node)),) = slurm.jobs().items()
        time.sleep(3.0)  # until the worker has been seen; before that Slurm's own requeue is enough
        slurm.set_node(node, "DOWN")
        deadline = time.monotonic() + PATIENCE
        while lost in slurm.jobs() or not slurm.jobs():
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        slurm.set_node(node, "RESUME")
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3
    assert any(f"job {lost} has no workers any more" in line for line in said)
