"""Two runs never share a folder; a killed one never blocks it."""

import errno
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from workflows import lock
from workflows.lock import RunFolderBusyError, RunLock, is_held, read_holder

HOLD = """
import sys, time
from pathlib import Path
from workflows.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_is_refused_and_killed_run_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline().strip() == "held"
        assert is_held(tmp_path)
        with pytest.raises(RunFolderBusyError, match=f"process {first.pid} on"), RunLock(tmp_path):
            pass
        first.kill()
    with RunLock(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def heartbeat_of_another_host(folder: Path, age: float, pid: int = 1) -> None:
    holder = {"host": "another-node", "pid": pid, "boot_id": "", "heartbeat": time.time() - age}
    (folder / "run.lock").write_text(json.dumps(holder))


def test_fresh_heartbeat_of_another_host_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WATCHED_SECONDS", 0.5)
    heartbeat_of_another_host(tmp_path, age=0.0)
    assert is_held(tmp_path)
    with pytest.raises(RunFolderBusyError, match="another-node"), RunLock(tmp_path):
        pass
    heartbeat_of_another_host(tmp_path, age=301.0)
    assert not is_held(tmp_path)
    with RunLock(tmp_path):
        taken = read_holder(tmp_path / "run.lock")
        assert taken is not None
        assert taken["host"] != "another-node"


@pytest.mark.parametrize("age", [-86400.0, 3600.0], ids=["its clock is ahead", "its clock is behind"])
def test_clocks_that_disagree_do_not_free_a_held_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    monkeypatch.setattr(lock, "WATCHED_SECONDS", 2.0)
    heartbeat_of_another_host(tmp_path, age)
    with RunLock(tmp_path):  # nothing moves: that run is dead, whatever the clocks say
        pass
    heartbeat_of_another_host(tmp_path, age)
    beat = threading.Timer(0.5, heartbeat_of_another_host, (tmp_path, age - 10.0))
    beat.start()
    with pytest.raises(RunFolderBusyError, match="another-node"), RunLock(tmp_path):
        pass
    beat.join()


def test_a_clock_that_is_set_back_keeps_the_heartbeat_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    clock = {"ahead": 0.0}
    true_time = time.time
    monkeypatch.setattr(lock.time, "time", lambda: true_time() + clock["ahead"])
    path = tmp_path / "run.lock"
    with RunLock(tmp_path):
        for ahead in (-7200.0, 7200.0):
            clock["ahead"] = ahead
            deadline = time.monotonic() + 5.0
            while abs((read_holder(path) or {"heartbeat": 0.0})["heartbeat"] - true_time() - ahead) > 60.0:
                assert time.monotonic() < deadline, "the heartbeat stopped"
                time.sleep(0.02)
            assert is_held(tmp_path)


def test_a_reader_never_sees_half_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.0005)
    with RunLock(tmp_path):
        seen = [read_holder(tmp_path / "run.lock") for _ in range(3000)]
    assert None not in seen
    assert len({holder["heartbeat"] for holder in seen if holder}) > 10  # it was being written meanwhile


def test_a_disk_without_locks_has_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre mounted without flock, NFS without a lock daemon."""

    def no_locks(stream: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with RunLock(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(RunFolderBusyError, match="is held by process"):
            RunLock(tmp_path).__enter__()
    assert not is_held(tmp_path)
    with RunLock(tmp_path):
        pass
