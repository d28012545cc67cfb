"""Workers that come late: one of other versions is closed before its first task, one with a GPU gets what needs it."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import dask
import pandas as pd
import pytest
from distributed import Client, Worker, get_worker
from rich.console import Console

from pipeline import schema
from pipeline.cluster_settings import ClusterSettings, GpuJobs
from pipeline.config import PracticalitySettings, load_campaign
from pipeline.references import References
from pipeline.settings import NETWORK_STAGES, StageSettings
from scripts.small_campaign import write_small_campaign
from tests.test_config import GOOD
from workflows import engine, session
from workflows.admission import REFUSED, Requirements, unmet_by_worker
from workflows.batch_jobs import JOB_STARTED
from workflows.cluster import connect, scheduler_rules
from workflows.gpu_workers import resources_of_stage
from workflows.progress import ProgressView
from workflows.provenance import model_digests, worker_facts
from workflows.session import run_campaign
from workflows.store import RunFolder
from workflows.watchdog import TimeLimit
from workflows.worker import PLUGIN, ReferencesPlugin, UnitResult, result_columns


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> ReferencesPlugin:
    folder = tmp_path_factory.mktemp("campaign")
    config = folder / "c.yaml"
    config.write_text(GOOD, encoding="utf-8")
    references = References(load_campaign(config), config, config, config)
    return ReferencesPlugin(references, 1, Requirements(worker_facts(), model_digests(["CHGNet"]), config))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect(ClusterSettings(workers=1)) as connected:
        yield connected


@contextmanager
def late_worker(client: Client, log: Path, *options: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    address = client.scheduler.address
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--name", "late", "--nthreads", "1"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--no-dashboard", *options], env={**os.environ, **environ}, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def a_while() -> str:
    time.sleep(0.3)
    return str(get_worker().name)


def test_workers_and_scheduler_seldom_wake_for_themselves(client: Client) -> None:
    def every() -> dict[str, str]:
        return {name: dask.config.get(name) for name in scheduler_rules("local") if name.endswith("interval")}

    asked = every()
    assert asked["distributed.admin.tick.interval"] == "500ms"  # Dask's own is 20 ms
    assert client.submit(every, pure=False).result(timeout=60) == asked


def test_a_late_worker_of_another_version_never_computes(
    client: Client, plugin: ReferencesPlugin, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "numpy-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    told: list[dict[str, str]] = []
    client.subscribe_topic(REFUSED, lambda event: told.append(event[1]))
    client.register_plugin(plugin)
    path = os.pathsep.join([str(other.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = tmp_path / "late.log"
    names = []
    with late_worker(client, log, PYTHONPATH=path) as process:
        deadline = time.monotonic() + 240
        while process.poll() is None:
            assert time.monotonic() < deadline, log.read_text()
            # Always more than one worker can take, so that the late one is given some at once.
            names += client.gather([client.submit(a_while, pure=False) for _ in range(6)])
    assert set(names) == {"0"}
    text = log.read_text()
    assert "ionsieve refuses this worker" in text
    wanted = worker_facts()["numpy"]
    assert f"has numpy 0.1, the client has {wanted}; install the same versions" in text
    assert "numpy 0.1" in told[0]["unmet"]


def test_a_worker_started_anew_ends_with_its_job(client: Client, plugin: ReferencesPlugin, tmp_path: Path) -> None:
    """Its time counts from the job's start and not from its own."""
    client.register_plugin(plugin)
    log = tmp_path / "late.log"
    with late_worker(client, log, "--lifetime", "1000s", **{JOB_STARTED: str(time.time() - 1000)}) as process:
        process.wait(timeout=240)
    assert "worker-lifetime-reached" in log.read_text()


def test_what_is_unmet_is_said_with_its_remedy(client: Client, plugin: ReferencesPlugin, tmp_path: Path) -> None:
    assert plugin.requirements is not None
    fits = plugin.requirements
    assert fits.unmet({}) == []
    strict = replace(fits, versions={"numpy": "0.1"}, models={"CHGNet": "0" * 64}, visible=tmp_path / "nowhere")
    (unmet,) = client.run(unmet_by_worker, strict).values()
    assert [text.partition(";")[2] for text in unmet] == [
        " install the same versions",
        " give it the same IONSIEVE_DATA",
        " workers need the run folder on a shared file system",
    ]
    # A mount that is gone: Python lets most of its errors through.
    gone = SimpleNamespace(exists=Path("\0").stat)
    (text,) = replace(fits, visible=gone).unmet({})
    assert text.startswith("can't tell what it has (ValueError: ")
    # With a group of GPU workers, only those need CUDA.
    assert replace(fits, cuda=True, gpu_workers=True).unmet({}) == []


def where_it_ran() -> Callable[[StageSettings, pd.DataFrame, str], UnitResult]:
    """A stage that leaves its worker's name as its error; defined inside, so that it travels by value."""

    def run(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
        frame = part.assign(**dict.fromkeys(c.name for c in schema.columns_of("practicality")))
        frame = frame.assign(practicality_status="ok", practicality_error=str(get_worker().name))
        columns = result_columns("practicality", frame)
        return UnitResult(schema.to_arrow(frame, columns), {"seconds": 0.1, "rows": len(part)})

    return run


def test_networks_go_to_workers_with_gpus_where_there_are_some(
    client: Client, plugin: ReferencesPlugin, tmp_path: Path
) -> None:
    client.register_plugin(plugin)
    campaign = plugin.references.campaign
    assert resources_of_stage(campaign, "stability", client) is None
    gpu = campaign.cluster.model_copy(update={"gpu": GpuJobs(jobs=1)})
    assert resources_of_stage(campaign.model_copy(update={"cluster": gpu}), "stability", client) == {"GPU": 1.0}
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    with late_worker(client, tmp_path / "late.log", "--resources", "GPU=1"):
        client.wait_for_workers(2, timeout=240)
        plugins = client.run(lambda dask_worker: PLUGIN in dask_worker.plugins)
        assert list(plugins.values()) == [True, True]
        for stage in NETWORK_STAGES:
            assert resources_of_stage(campaign, stage, client) == {"GPU": 1.0}
        assert resources_of_stage(campaign, "window", client) is None
        assert resources_of_stage(campaign.model_copy(update={"device": "cpu"}), "stability", client) is None
        units = store.plan([[name] for name in "abcdefg"])
        parts = [(unit, pd.DataFrame({"candidate_id": unit.work})) for unit in units]
        engine.compute_rows(
            client,
            store,
            PracticalitySettings(),
            parts,
            lambda unit, result: None,
            TimeLimit(60.0, "practicality"),
            resources=resources_of_stage(campaign, "stability", client),
            run=where_it_ran(),
        )
    table = store.results()
    assert table["candidate_id"].tolist() == list("abcdefg")
    assert set(table["practicality_error"]) == {"late"}


def test_a_worker_killed_while_it_is_asked_fails_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "killed"

    def killed_once(requirements: Requirements, dask_worker: Worker) -> list[str]:
        with suppress(FileExistsError):
            mark.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return requirements.unmet(dask_worker.state.total_resources)

    monkeypatch.setattr(session, "unmet_by_worker", killed_once)
    config = write_small_campaign(tmp_path, relax=False, workers=1)
    run_campaign(load_campaign(config), config, tmp_path / "run", ProgressView(Console(quiet=True)))
    assert mark.exists()
    assert len(pd.read_csv(tmp_path / "run" / "ranked_candidates.csv")) == 8


def test_a_worker_that_misses_its_scheduler_says_so_in_a_line(client: Client, plugin: ReferencesPlugin) -> None:
    def said() -> str:
        logger, stream = logging.getLogger("distributed.worker"), io.StringIO()
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        try:
            raise OSError("stream is closed")
        except OSError:
            logger.exception("Failed to communicate with scheduler during heartbeat.")
            logger.exception("of another kind")
        finally:
            logger.removeHandler(handler)
        return stream.getvalue()

    client.register_plugin(plugin)
    first, rest = client.submit(said, pure=False).result().split("\n", 1)
    assert first == "Failed to communicate with scheduler during heartbeat."
    assert rest.startswith("of another kind\nTraceback")
