"""A DFT process that hangs, dies, or answers something else is a failure with a reason; a result counts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.dft import gpaw_calculation
from pipeline.dft.calculation import Calculation, DftResult, load_result
from pipeline.dft.process import own_failure, run_calculation
from pipeline.settings import DftSettings
from pipeline.stages.rows import Failure
from tests.dft_crystals import calculation, lithium_chloride

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def asked(tmp_path: Path) -> Calculation:
    found = calculation(lithium_chloride(), DftSettings())
    found.save(tmp_path)
    return found


def run(asked: Calculation, folder: Path, script: str, time_limit: float = 20.0) -> DftResult | Failure:
    return run_calculation([sys.executable, "-c", script], folder, asked, time_limit)


def test_time_limit_ends_the_program_and_its_children(asked: Calculation, tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); "
        "open('child', 'w').write(str(child.pid)); time.sleep(60)"
    )
    started = time.monotonic()
    outcome = run(asked, tmp_path, script, time_limit=1.0)
    assert time.monotonic() - started < 10.0
    assert isinstance(outcome, Failure)
    assert outcome.error == "OutOfTime: not finished after 1 s; raise dft.time_limit, or lower the precision"
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 5.0  # a signal that was sent need not have arrived yet
    while is_alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_and_an_aborted_program_are_told(asked: Calculation, tmp_path: Path) -> None:
    killed = run(asked, tmp_path, "import os; print('step 3', flush=True); os.kill(os.getpid(), 9)")
    assert isinstance(killed, Failure)
    assert killed.error.startswith("ProcessDied: the DFT process was ended by SIGKILL (out of memory?)")
    assert "step 3" in killed.error
    aborted = run(asked, tmp_path, "import os; os.abort()")
    assert isinstance(aborted, Failure)
    assert "SIGABRT" in aborted.error
    gone = run(asked, tmp_path, "raise SystemExit(7)")
    assert isinstance(gone, Failure)
    assert "exit status 7" in gone.error


def test_its_own_failure_is_the_rows(asked: Calculation, tmp_path: Path) -> None:
    write = "import json; json.dump({'error': 'KohnShamConvergenceError: no'}, open('failure.json', 'w')); exit(1)"
    assert run(asked, tmp_path, write) == Failure("KohnShamConvergenceError: no")
    later = run(asked, tmp_path, "exit(1)")
    assert isinstance(later, Failure)
    assert later.error.startswith("ProcessDied")  # not the failure of the time before


def test_only_a_process_that_the_run_started_ends_with_it(asked: Calculation, tmp_path: Path) -> None:
    said = "import json, os; json.dump({'error': os.environ['IONSIEVE_ENDS_WITH_PARENT']}, open('failure.json', 'w'))"
    assert run(asked, tmp_path, said) == Failure("1")
    orphan = (
        "import os, subprocess, sys, time; from pipeline.dft.process import end_with_parent\n"
        "end_with_parent(); time.sleep(4); open('ended', 'w').write('by itself')"
    )
    for value, ends in (("1", False), (None, True)):
        environ = {k: v for k, v in os.environ.items() if k != "IONSIEVE_ENDS_WITH_PARENT"}
        environ |= {"PYTHONPATH": str(ROOT)} | ({} if value is None else {"IONSIEVE_ENDS_WITH_PARENT": value})
        start = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {orphan!r}]); time.sleep(1.5)"
        parent = subprocess.Popen([sys.executable, "-c", start], cwd=tmp_path, env=environ, start_new_session=True)
        parent.wait(timeout=60)
        until = time.monotonic() + 60.0
        while time.monotonic() < until and any(p.info["pid"] for p in group_of(parent.pid)):
            time.sleep(0.1)
        assert (tmp_path / "ended").exists() is ends


def group_of(group: int) -> list[psutil.Process]:
    """Living processes of a process group."""
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except ProcessLookupError:
            continue
    return found


def test_another_version_than_the_calculation_is_for_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.dft.gpaw_calculation.gpaw_version", lambda: "GPAW 25.8.0 (setups 1.2.1)")
    settings = DftSettings().calculation_settings()
    Calculation(lithium_chloride(), settings, "GPAW 25.7.0 (setups 1.2.1)").save(tmp_path)
    assert gpaw_calculation.main(tmp_path) == 1
    failure = own_failure(tmp_path)
    assert failure is not None
    assert failure.error.startswith(
        "OtherVersionError: the calculation is for GPAW 25.7.0 (setups 1.2.1), here is GPAW"
    )


def test_a_result_counts_when_it_answers_the_question(asked: Calculation, tmp_path: Path) -> None:
    zeros = np.zeros((2, 3)), np.zeros(6)
    result = DftResult(asked.structure, -7.3, 6.3, *zeros, 0, "GPAW", "PBE")
    result.save(tmp_path, asked)
    outcome = run(asked, tmp_path, "import os; os.abort()")  # after the result was written
    assert isinstance(outcome, DftResult)
    assert (outcome.energy, outcome.band_gap, outcome.max_force) == (-7.3, 6.3, 0.0)
    other = calculation(lithium_chloride(), DftSettings(gpaw={"cutoff": 600.0}))
    assert load_result(tmp_path, other) is None
    (tmp_path / "result.json").write_text("{")
    assert load_result(tmp_path, asked) is None
