"""The network to the scheduler is cut, or goes silent: the run stops, what is committed stays, no row is blamed."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import pytest
from distributed import Client

from pipeline import schema
from pipeline.config import ClusterSettings, PracticalitySettings
from pipeline.settings import StageSettings
from workflows import engine, in_flight
from workflows.cluster import connect
from workflows.in_flight import SchedulerLostError
from workflows.store import RunFolder
from workflows.watchdog import TimeLimit
from workflows.worker import UnitResult, result_columns


class Relay:
    """A network between client and scheduler that can be cut."""

    def __init__(self, target: str) -> None:
        there = urlparse(target)
        self._target = (there.hostname, there.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silent = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if not self._silent.is_set():  # else swallowed, as by a router that lost its way
                    sink.sendall(data)
        except OSError:
            pass

    def go_silent(self) -> None:
        self._silent.set()

    def cut(self) -> None:
        if not self._accepting.is_alive():
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(), which closing alone does not
        self._accepting.join()
        self._listener.close()
        for pair in self._pairs:
            for end in pair:
                end.close()


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with connect(ClusterSettings(kind="local", workers=1)) as client:
        yield client.scheduler.address


def napping_stage(seconds: float):
    """Stand in for a stage that takes its time; defined inside, so that it travels to the worker by value."""

    def run(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
        time.sleep(seconds)
        frame = part.assign(**dict.fromkeys(c.name for c in schema.columns_of("practicality")))
        frame = frame.assign(practicality_status="ok", practicality_error="")
        columns = result_columns("practicality", frame)
        return UnitResult(schema.to_arrow(frame, columns), {"seconds": seconds, "rows": len(part)})

    return run


@pytest.mark.parametrize("trouble", ["cut", "go_silent"])
def test_the_run_stops_and_goes_on(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(engine, "run_stage_unit", napping_stage(1.0))
    monkeypatch.setattr(in_flight, "ASK_AFTER", 2.0)
    monkeypatch.setattr(in_flight, "ANSWER_WITHIN", 2.0)
    relay = Relay(scheduler)
    store = RunFolder(tmp_path).stage("practicality", "e" * 64)
    units = store.plan([[name] for name in "abcdef"])

    def compute(client: Client, harm: bool) -> None:
        def committed(unit: object, result: object) -> None:
            if harm and store.is_done(units[1]):
                getattr(relay, trouble)()

        parts = [(unit, pd.DataFrame({"candidate_id": unit.work})) for unit in units if not store.is_done(unit)]
        engine.compute_rows(client, store, PracticalitySettings(), parts, committed, TimeLimit(60.0, "practicality"))

    with connect(ClusterSettings(kind="address", address=relay.address)) as client:
        client._timeout = 2
        with pytest.raises(SchedulerLostError, match=r"Dask scheduler at tcp://127.0.0.1:\d+ does not answer"):
            compute(client, harm=True)
        relay.cut()
    done = store.results()
    assert 2 <= len(done) < 6
    assert (done["practicality_status"] == "ok").all()  # no row was blamed
    with connect(ClusterSettings(kind="address", address=scheduler)) as client:
        compute(client, harm=False)
    assert sorted(store.results()["candidate_id"]) == list("abcdef")
