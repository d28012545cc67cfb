"""Two runs never share a folder; a killed one never blocks it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_fresh_heartbeat_of_another_host_is_respected(tmp_path: Path) -> None:
    holder = {"host": "another-node", "pid": 1, "boot_id": "", "heartbeat": time.time()}
    (tmp_path / "run.lock").write_text(json.dumps(holder))
    with pytest.raises(RunFolderBusyError, match="another-node"), RunLock(tmp_path):
        pass
    holder["heartbeat"] = time.time() - 301
    (tmp_path / "run.lock").write_text(json.dumps(holder))
    with RunLock(tmp_path):
        taken = read_holder(tmp_path / "run.lock")
        assert taken is not None
        assert taken["host"] != "another-node"
