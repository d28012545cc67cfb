"""The engine isolates the row that breaks a unit, and commits what it was given."""

import errno
import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client, LocalCluster, Scheduler
from distributed.core import Status

from pipeline import schema
from pipeline.atomic_files import is_storage_trouble
from pipeline.config import ClusterSettings, PracticalitySettings, load_campaign
from pipeline.references import References
from pipeline.settings import StageSettings
from scripts.small_campaign import write_small_campaign
from workflows import engine, in_flight, local_workers
from workflows.cluster import connect
from workflows.in_flight import WINDOW_PER_WORKER, InFlight
from workflows.store import RunFolder, StageStore, Unit
from workflows.watchdog import OtherRunError, TimeLimit, UnitTimeoutError, watched
from workflows.worker import PLUGIN, ReferencesPlugin, UnitResult, result_columns, run_stage_unit, worker_references


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect(ClusterSettings(kind="local", workers=1)) as connected:
        yield connected


def fragile_stage() -> Callable[[StageSettings, pd.DataFrame, str], UnitResult]:
    """Stand in for a stage that breaks on rows with certain names.

    Defined inside, so that it travels to the worker by value: workers can't import this file. Each call leaves a file
    with its rows, so that a test can count what a fault cost.
    """

    def run(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
        ids = part["candidate_id"].tolist()
        calls = Path(workspace).parent.parent / "calls"
        calls.mkdir(exist_ok=True)
        calls.joinpath(f"{'-'.join(ids)}.{time.monotonic_ns()}").touch()
        if "dies" in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hangs" in ids or ("hangs-once" in ids and len(list(calls.glob("*hangs-once*"))) == 1):
            time.sleep(3600.0)
        if "fills" in ids:
            raise OSError(errno.ENOSPC, "No space left on device", "/data/frames")
        if "raises" in ids or ("raises-once" in ids and len(list(calls.glob("raises-once*"))) == 1):
            raise RuntimeError("singular matrix")
        frame = part.assign(**dict.fromkeys(c.name for c in schema.columns_of("practicality")))
        frame = frame.assign(practicality_status="ok", practicality_error="")
        columns = result_columns("practicality", frame)
        return UnitResult(schema.to_arrow(frame, columns), {"seconds": 0.1, "rows": len(part)})

    return run


def run_units(
    client: Client, store: StageStore, works: list[list[str]], limit: float | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Results, and the rows of each call of the stage, in order, as ``a-b-c``."""
    units = store.plan(works)
    parts = [(unit, pd.DataFrame({"candidate_id": unit.work})) for unit in units]
    time_limit = TimeLimit(limit, "practicality")
    engine.compute_rows(client, store, PracticalitySettings(), parts, lambda unit, result: None, time_limit)
    assert all(store.is_done(unit) for unit in units)
    calls = sorted(store.folder.parent.glob("calls/*"), key=lambda path: int(path.suffix[1:]))
    return store.results(), [path.stem for path in calls]


@pytest.mark.parametrize("guilty", ["raises", "dies"])
def test_guilty_row_stands_alone(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guilty: str) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    works = [["a", guilty], ["b", "c"]]
    table, calls = run_units(client, store, works)
    assert table["candidate_id"].tolist() == [c for work in works for c in work]  # nothing lost, nothing doubled
    failed = table[table["practicality_status"] == "failed"]
    assert failed["candidate_id"].tolist() == [guilty]
    expected = {"raises": "RuntimeError: singular matrix", "dies": "WorkerDied"}
    assert expected[guilty] in failed["practicality_error"].iloc[0]
    assert (table.loc[table["candidate_id"] != guilty, "practicality_status"] == "ok").all()
    # A worker's death may have been a chance: three in a row are not. Innocent rows are computed once, in their place.
    tries = 3 if guilty == "dies" else 1
    innocent = [call for call in calls if guilty not in call]
    assert sorted(set(innocent)) == ["a", "b-c"]
    assert Counter(call for call in calls if guilty in call) == {f"a-{guilty}": tries, guilty: tries}


def test_a_unit_that_hangs_is_cut_until_its_row_stands_alone(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    table, calls = run_units(client, store, [["a", "hangs", "b"], ["c"]], limit=3.0)
    assert table["candidate_id"].tolist() == ["a", "hangs", "b", "c"]
    assert table["practicality_status"].tolist() == ["ok", "failed", "ok", "ok"]
    assert table["practicality_error"].iloc[1].startswith("Timeout: not finished in time, tried 2 times")
    assert sorted(calls) == sorted(["a-hangs-b", "a-hangs-b", "a", "hangs-b", "hangs", "hangs", "b", "c"])
    reports = [path.read_text() for path in store.hanging().iterdir()]
    assert len(reports) == 5  # one for each worker that was ended
    assert all(report.startswith("Timeout (") and "watchdog.py" in report for report in reports)


def test_a_unit_that_hangs_once_is_computed_again_whole(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    table, calls = run_units(client, store, [["a", "hangs-once"]], limit=3.0)
    assert table["practicality_status"].tolist() == ["ok", "ok"]
    assert calls == ["a-hangs-once", "a-hangs-once"]


def test_a_row_that_is_a_unit_is_to_blame_when_it_raises_twice(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    table, calls = run_units(client, store, [["raises-once"], ["raises"]])
    assert table["practicality_status"].tolist() == ["ok", "failed"]
    assert Counter(calls) == {"raises-once": 2, "raises": 2}


def test_a_node_that_cannot_use_the_run_folder_is_no_rows_fault(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    store.folder.mkdir(parents=True)
    store.hanging().write_text("no folder")
    with pytest.raises(OSError, match="can't use the run folder") as raised:
        run_units(client, store, [["a"]])
    assert is_storage_trouble(raised.value)
    assert len(store.results()) == 0


def test_a_full_disk_is_no_rows_fault(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    with pytest.raises(OSError, match="No space left") as raised:
        run_units(client, store, [["a", "fills"]])
    assert is_storage_trouble(raised.value)
    assert len(store.results()) == 0


def test_rows_of_a_unit_are_taken_when_there_is_room_for_it(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    units = store.plan([[f"row-{i}"] for i in range(24)])
    taken: list[Unit] = []
    ahead: list[int] = []

    def parts() -> Iterator[tuple[Unit, pd.DataFrame]]:
        for unit in units:
            taken.append(unit)
            yield unit, pd.DataFrame({"candidate_id": unit.work})

    def committed(unit: Unit, result: UnitResult) -> None:
        ahead.append(sum(not store.is_done(each) for each in taken))

    engine.compute_rows(client, store, PracticalitySettings(), parts(), committed, TimeLimit(None, "practicality"))
    assert len(taken) == len(store.results()) == 24
    assert max(ahead) == WINDOW_PER_WORKER  # of one worker: two with it beside the one committed, and the next


def test_the_time_limit_follows_what_units_took() -> None:
    assert TimeLimit(30.0, "stability", [{"seconds": 900.0, "rows": 1}]).seconds(100) == 30.0
    limit = TimeLimit(None, "stability")
    assert limit.seconds(100) == 86_400.0
    limit.learn({"seconds": 0.0, "rows": 8, "from_cache": True})
    assert limit.seconds(100) == 86_400.0
    limit.learn({"seconds": 64.0, "rows": 32})
    assert limit.seconds(1) == 3600.0
    assert limit.seconds(128) == pytest.approx(20 * 2.0 * 128)
    assert TimeLimit(None, "dynamics").seconds(1) == 7 * 86_400.0
    quick = [{"seconds": 1.0, "rows": 1}]
    assert TimeLimit(None, "dynamics", quick).seconds(1) == 3600.0
    assert TimeLimit(None, "dft", quick).seconds(1) == 7 * 86_400.0  # each calculation has dft.time_limit
    assert TimeLimit(None, "stability", [{"seconds": 64.0, "rows": 32}]).seconds(128) == limit.seconds(128)


def test_code_that_never_lets_go_of_the_interpreter_is_ended_too(client: Client, tmp_path: Path) -> None:
    def hold_the_lock() -> None:
        import ctypes

        ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the interpreter's lock while the C function runs

    task = client.submit(watched, 3.0, str(tmp_path), hold_the_lock, pure=False)
    with pytest.raises(UnitTimeoutError, match="says where it hung"):
        task.result(timeout=120)


def test_a_worker_holds_one_task_and_steals_none(client: Client, tmp_path: Path) -> None:
    def settings(dask_scheduler: Scheduler) -> tuple[float, int, bool]:
        stealing = dask_scheduler.extensions.get("stealing")
        return dask_scheduler.WORKER_SATURATION, dask_scheduler.allowed_failures, stealing is not None

    def most_tasks_of_a_worker(dask_scheduler: Scheduler) -> int:
        return max(len(worker.processing) for worker in dask_scheduler.workers.values())

    client.wait_for_workers(1, timeout=60)
    assert client.run_on_scheduler(settings) == (1.0, 2, False)
    threads = [worker["nthreads"] for worker in client.scheduler_info()["workers"].values()]
    assert threads == [1]
    under_way: InFlight[int] = InFlight(client, str(tmp_path))
    for number in range(4):
        under_way.submit(number, "nap", 60.0, time.sleep, 1.0)
    held = []
    while under_way:
        time.sleep(0.2)
        held += client.run_on_scheduler(
            lambda dask_scheduler: [len(w.processing) for w in dask_scheduler.workers.values()]
        )
        under_way.next()
    assert max(held) == 1  # also the last two, which Dask would send out together


def test_a_run_whose_workers_are_gone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "ASK_AFTER", 0.2)
    said = []
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as alone:

        def say(text: str) -> None:
            said.append(text)
            cluster.scale(1)

        under_way: InFlight[str] = InFlight(alone, str(tmp_path), say=say)
        under_way.submit("task", "seven", 60.0, int, "7")
        assert under_way.next() == ("task", 7, None)
    assert said[0] == "waiting for a worker: none is there that can compute the task sent out"


def test_workers_have_the_allocator_settings_before_they_start(client: Client) -> None:
    client.wait_for_workers(1, timeout=60)  # another test may just have killed it
    seen = client.run(lambda: {k: os.environ.get(k) for k in ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS")})
    assert list(seen.values()) == [{"MALLOC_TRIM_THRESHOLD_": str(8 << 30), "OMP_NUM_THREADS": "1"}]


def test_models_stay_in_their_worker_and_travel_in_no_task(client: Client, tmp_path: Path) -> None:
    campaign = load_campaign(write_small_campaign(tmp_path))
    references = References(campaign, tmp_path / "library", tmp_path / "phases.csv", tmp_path / "elements.csv")
    references.__dict__["potential"] = b"\x01" * 10_000_000  # as if a model were loaded here
    plugin = ReferencesPlugin(references, 1)
    assert len(pickle.dumps(plugin)) < 10_000
    task = (watched, 60.0, "hanging", run_stage_unit, campaign.stages[0], pd.DataFrame({"candidate_id": ["a"]}), "here")
    assert len(pickle.dumps(task)) < 10_000
    client.wait_for_workers(1, timeout=60)
    client.register_plugin(plugin)

    def loaded() -> tuple[int, int, bool]:
        here = worker_references()
        return os.getpid(), id(here.phases), "potential" in vars(here)

    first, second = (client.submit(loaded, pure=False).result() for _ in range(2))
    client.unregister_worker_plugin(plugin.name)
    assert first == second  # one process, one table, read once
    assert first[2] is False


def test_no_unit_is_computed_with_another_runs_references(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run was suspended, and another one took the scheduler that they share."""
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    client.wait_for_workers(1, timeout=60)
    mine, other = (RunFolder(tmp_path / name) for name in ("mine", "other"))
    client.register_plugin(ReferencesPlugin(None, 1, None, other.path))
    try:
        with pytest.raises(OtherRunError, match=rf"another run, {other.path}: this one lost the scheduler"):
            run_units(client, mine.stage("practicality", "d" * 64), [["a"]])
        assert list(mine.path.glob("**/calls/*")) == []
        client.register_plugin(ReferencesPlugin(None, 1, None, mine.path))
        table, _ = run_units(client, mine.stage("practicality", "d" * 64), [["a"]])
    finally:
        client.unregister_worker_plugin(PLUGIN)
    assert table["practicality_status"].tolist() == ["ok"]


def test_a_worker_whose_nanny_gave_up_is_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    settings = ClusterSettings(kind="local", workers=1)
    with connect(settings) as client:
        (nanny,) = client.cluster.workers.values()
        client.sync(nanny.close)
        table, _ = run_units(client, RunFolder(tmp_path).stage("practicality", "d" * 64), [["a", "b"]])
    assert table["practicality_status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize("alive", [True, False])
def test_a_worker_whose_nanny_never_closes_is_started_anew(monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    monkeypatch.setattr(local_workers, "CLOSE_SECONDS", 1.0)
    with connect(ClusterSettings(kind="local", workers=1)) as client:
        (nanny,) = client.cluster.workers.values()
        pid = client.submit(os.getpid).result(timeout=60)
        nanny.status = Status.closing  # as it stays where its own closing fails
        if not alive:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60.0
        while nanny in client.cluster.workers.values():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.submit(os.getpid, pure=False).result(timeout=60) != pid


def test_failed_row_has_every_declared_column() -> None:
    part = pd.DataFrame({"candidate_id": ["x"]})
    result = engine._failed(PracticalitySettings(), part, ValueError("no"))
    assert set(result.table.column_names) == {"candidate_id", *(c.name for c in schema.columns_of("practicality"))}
