"""Connecting: what is missing is said with its remedy, and what a scheduler is told holds for every kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from pipeline.cluster_settings import BATCH_KINDS, ClusterSettings
from scripts.synthetic_run import write_run
from workflows import batch_cluster, shared_scheduler
from workflows.batch_cluster import JobsFailError
from workflows.batch_jobs import MissingExtraError
from workflows.cli import app
from workflows.cluster import ClusterError, connect, log_folder, scheduler_rules
from workflows.files import RunError, RunStoppedError
from workflows.local_workers import STARTS
from workflows.shared_scheduler import alone_on_scheduler
from workflows.status import read_status


def test_missing_dask_cuda_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with (
        pytest.raises(MissingExtraError, match=r"dask-cuda, which can't be imported .*pip install 'ionsieve\[cuda\]'"),
        connect(ClusterSettings(kind="cuda")),
    ):
        pass


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_a_machine_where_no_jobs_are_submitted(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = {"kind": kind, "walltime": "01:00:00", "memory": "2GiB", "jobs": 2, "interface": "lo"}
    with pytest.raises(JobsFailError) as caught, connect(ClusterSettings.model_validate(asked), run_folder=tmp_path):
        pass
    assert "is not on this machine" in str(caught.value) or "took no job" in str(caught.value)


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty:
        for wait, words in ((None, "no worker there"), (0.0002, r"no worker within 0.0002 h \(cluster.wait\)")):
            settings = ClusterSettings(kind="address", address=empty.scheduler_address, wait=wait)
            with pytest.raises(ClusterError, match=words), connect(settings, say=said.append):
                pass
    assert said == [f"waiting for the first worker: none at {empty.scheduler_address} yet"]


def test_every_kind_holds_one_task_a_worker_and_steals_none() -> None:
    for kind in ("local", "cuda", *BATCH_KINDS):
        rules = scheduler_rules(kind)
        assert rules["distributed.scheduler.worker-saturation"] == 1.0
        assert rules["distributed.scheduler.work-stealing"] is False
    # A job that is killed blames its tasks too.
    patience = [scheduler_rules(kind)["distributed.scheduler.allowed-failures"] for kind in ("local", "slurm")]
    assert patience[0] < patience[1]


def test_status_names_the_folder_of_the_jobs_logs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 20)
    assert read_status(run).job_logs is None
    logs = log_folder(ClusterSettings(), run)
    logs.mkdir()
    (logs / "ionsieve-x-1.log").write_text("Start worker\n")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "job_logs": str(logs)}))
    shown = CliRunner().invoke(app, ["status", str(run)])
    assert f"logs of the jobs: {run / 'logs'} (1 file)" in shown.stdout
    as_json = CliRunner().invoke(app, ["status", str(run), "--json"])
    assert json.loads(as_json.stdout)["job_logs"] == str(run / "logs")


def test_last_words_are_of_the_newest_log(tmp_path: Path) -> None:
    assert batch_cluster._last_words(tmp_path) == ""
    (tmp_path / "job-1.log").write_text("a\n\nb\nmodule: not found\nc\n")
    assert batch_cluster._last_words(tmp_path).endswith("job-1.log, ends with: b | module: not found | c")


KILL_ONCE = """
import os, signal
from pathlib import Path

def dask_setup(worker):
    for number in range({times}):
        try:
            Path("{folder}", str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("times", [1, STARTS])
def test_a_worker_killed_while_it_starts(times: int, tmp_path: Path) -> None:
    preload = tmp_path / "kill_once.py"
    preload.write_text(KILL_ONCE.format(folder=tmp_path, times=times))
    with dask.config.set({"distributed.worker.preload": [str(preload)]}):
        if times < STARTS:
            with connect(ClusterSettings(workers=1)) as client:
                assert client.submit(lambda: 5).result(timeout=60) == 5
        else:
            with pytest.raises(RunStoppedError, match="ended while it started"), connect(ClusterSettings(workers=1)):
                pass


INTERRUPTED_START = """
import asyncio, os, signal
from distributed import Nanny
from pipeline.cluster_settings import ClusterSettings
from workflows.local_workers import workers_here

async def start(self):
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(3600)

Nanny.start_unsafe = start

if __name__ == "__main__":
    try:
        with workers_here(ClusterSettings(workers=1), {}):
            pass
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_while_workers_start_shows_no_traceback(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(INTERRUPTED_START, encoding="utf-8")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout == "interrupted\n"
    assert "Traceback" not in ended.stderr


STUCK_NANNY = """
import os
from distributed.core import Status
from pipeline.cluster_settings import ClusterSettings
from workflows import local_workers

local_workers.CLOSE_SECONDS = 2.0

if __name__ == "__main__":
    with local_workers.workers_here(ClusterSettings(workers=1), {}) as client:
        [worker] = client.run(os.getpid).values()
        [nanny] = client.cluster.workers.values()
        nanny.status = Status.closing
    print(worker)
"""


def test_a_nanny_that_never_closes_holds_no_run_up(tmp_path: Path) -> None:
    script = tmp_path / "close.py"
    script.write_text(STUCK_NANNY, encoding="utf-8")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert "Traceback" not in ended.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)


def test_one_run_at_a_time_on_a_scheduler_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers hold one campaign's models: the units of a second run would be computed with the first one's."""
    monkeypatch.setattr(shared_scheduler, "LEASE_SECONDS", 0.2)
    said: list[str] = []
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster.scheduler_address) as one,
        Client(cluster.scheduler_address) as other,
    ):
        with alone_on_scheduler(one, "address", said.append):
            assert said == []
            with pytest.raises(RunError, match="another run computes at"):
                alone_on_scheduler(other, "address", said.append).__enter__()
            assert said == ["another run holds the scheduler, or was killed there; looking again for 0.2 s"]
            with alone_on_scheduler(other, "local", said.append):
                pass  # a cluster of one's own
        with alone_on_scheduler(other, "address", said.append):
            assert len(said) == 1
