"""The soak's own counting: a lost row, a doubled one, a byte that differs and a task begun twice are seen."""

import json
import random
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from scripts.harmed_tasks import Harm
from scripts.small_campaign import COMPARED
from scripts.soak_kills import MAY_REPEAT, Record, examine, strike, table_of
from workflows.store import RunFolder


def finished(home: Path, works: list[list[str]], tasks: list[str]) -> Path:
    run = home / "runs" / "small"
    store = RunFolder(run).stage("conduction", "e" * 64)
    for unit in store.plan(works):
        store.commit(unit, pa.table({"candidate_id": unit.work}), {})
    for name in COMPARED:
        (run / name).write_text("rank,score\n1,0.5\n")
    (home / "marks").mkdir()
    for i, task in enumerate(tasks):
        (home / "marks" / f"begun-{i}").write_text(json.dumps(["conduction", task]))
    (home / "run.out").write_text("")
    return home


def test_nothing_happened(tmp_path: Path) -> None:
    undisturbed = finished(tmp_path / "a", [["x", "y"], ["z"]], ["x", "z"])
    killed = finished(tmp_path / "b", [["x", "y"], ["z"]], ["x", "z", "z"])
    record = Record(0, kills=["worker SIGKILL"])
    examine(record, killed, undisturbed)
    assert record.is_sound
    assert record.begun_again == 1


def test_every_loss_is_counted(tmp_path: Path) -> None:
    undisturbed = finished(tmp_path / "a", [["x", "y"], ["z"]], ["x", "z"])
    killed = finished(tmp_path / "b", [["x", "x"], ["z"]], ["x", *["z"] * (MAY_REPEAT["worker"] + 2)])
    (killed / "runs" / "small" / "funnel.csv").write_text("rank,score\n1,0.6\n")
    (killed / "run.out").write_text("Traceback (most recent call last):\n")
    record = Record(0, kills=["worker SIGKILL"])
    examine(record, killed, undisturbed)
    assert (record.lost, record.doubled) == (1, 1)
    assert record.differing == ["funnel.csv"]
    assert record.beyond_in_flight == 1
    assert record.tracebacks == 1
    assert not record.is_sound
    table = table_of([record, Record(1, kills=["client SIGINT"], resumes=1)])
    assert "| kills | 2 |" in table
    assert "| rows lost | 1 |" in table
    assert "| campaigns whose CSV files are byte-identical | 1 |" in table
    assert Record(**json.loads(json.dumps(asdict(record)))) == record


def test_a_strike_hits_the_client(tmp_path: Path) -> None:
    hit: dict[str, int] = {}
    for seed in range(12):
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as client:
            done = strike(client, random.Random(seed))
            if done is None:  # a worker was chosen, and this client has none
                client.kill()
                continue
            hit[done] = client.wait()
    assert set(hit) <= {f"client {name}" for name in ("SIGKILL", "SIGTERM", "SIGINT")}
    assert hit["client SIGKILL"] == -signal.SIGKILL


def test_a_harm_strikes_as_often_as_it_should(tmp_path: Path) -> None:
    harm = Harm(str(tmp_path), "kill", "conduction", times=2)
    assert [harm.strikes() for _ in range(3)] == [True, True, False]
