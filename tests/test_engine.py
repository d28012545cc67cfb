"""The engine isolates the row that breaks a unit, and commits what it was given."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pandas as pd
import pytest
from distributed import Client

from pipeline import schema
from pipeline.config import ClusterSettings, PracticalitySettings
from pipeline.settings import StageSettings
from workflows import engine
from workflows.cluster import connect
from workflows.store import RunFolder, StageStore
from workflows.worker import UnitResult, result_columns


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect(ClusterSettings(kind="local", workers=1)) as connected:
        yield connected


def fragile_stage() -> Callable[[StageSettings, pd.DataFrame, str], UnitResult]:
    """Stand in for a stage that breaks: it raises on a row called 'raises', and dies on one called 'dies'.

    Defined inside, so that it travels to the worker by value: workers can't import this file.
    """

    def run(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
        ids = part["candidate_id"].tolist()
        if "dies" in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if "raises" in ids:
            raise RuntimeError("singular matrix")
        frame = part.assign(**dict.fromkeys(c.name for c in schema.columns_of("practicality")))
        frame = frame.assign(practicality_status="ok", practicality_error="")
        columns = result_columns("practicality", frame)
        return UnitResult(schema.to_arrow(frame, columns), {"seconds": 0.1, "rows": len(part)})

    return run


def run_units(client: Client, store: StageStore, works: list[list[str]]) -> pd.DataFrame:
    units = store.plan(works)
    parts = [(unit, pd.DataFrame({"candidate_id": unit.work})) for unit in units]
    engine.compute_rows(client, store, PracticalitySettings(), parts, lambda unit, result: None)
    assert all(store.is_done(unit) for unit in units)
    return store.results()


@pytest.mark.parametrize("guilty", ["raises", "dies"])
def test_guilty_row_stands_alone(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guilty: str) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    works = [["a", "b", "c", guilty, "d"], ["e", "f"]]
    table = run_units(client, store, works)
    assert table["candidate_id"].tolist() == [c for work in works for c in work]  # nothing lost, nothing doubled
    failed = table[table["practicality_status"] == "failed"]
    assert failed["candidate_id"].tolist() == [guilty]
    expected = {"raises": "RuntimeError: singular matrix", "dies": "WorkerDied"}
    assert expected[guilty] in failed["practicality_error"].iloc[0]
    assert (table.loc[table["candidate_id"] != guilty, "practicality_status"] == "ok").all()


def test_workers_have_the_allocator_settings_before_they_start(client: Client) -> None:
    client.wait_for_workers(1, timeout=60)  # another test may just have killed it
    seen = client.run(lambda: {k: os.environ.get(k) for k in ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS")})
    assert list(seen.values()) == [{"MALLOC_TRIM_THRESHOLD_": str(8 << 30), "OMP_NUM_THREADS": "1"}]


def test_a_worker_whose_nanny_gave_up_is_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", fragile_stage())
    settings = ClusterSettings(kind="local", workers=1)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}), connect(settings) as client:
        (nanny,) = client.cluster.workers.values()
        client.sync(nanny.close)
        table = run_units(client, RunFolder(tmp_path).stage("practicality", "d" * 64), [["a", "b"]])
    assert table["practicality_status"].tolist() == ["ok", "ok"]


def test_failed_row_has_every_declared_column() -> None:
    part = pd.DataFrame({"candidate_id": ["x"]})
    result = engine._failed(PracticalitySettings(), part, ValueError("no"))
    assert set(result.table.column_names) == {"candidate_id", *(c.name for c in schema.columns_of("practicality"))}
