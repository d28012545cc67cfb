"""What queues say of jobs: no job is let go that a batch system may still start.

Answers of Slurm are those of the real one that the tests marked `slurm` start. None of the others was at hand: rows are
as manuals show them, and complaints of PBS and Torque (qstat) and of LSF (bjobs, on its error stream) as their users
quote them in public.
"""

import getpass
from pathlib import Path

import pytest

from workflows.job_queue import queue_summary, queued_jobs

PBS = """Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
101.pbs2          ionsieve-x       user                     0 Q workq
102.pbs2          ionsieve-x       user              00:01:07 R workq
103.pbs2          ionsieve-x       user              00:00:01 C workq
"""
GRID_ENGINE = """job-ID  prior   name       user         state submit/start at     queue                slots ja-task-ID
-------------------------------------------------------------------------------------------------------
    101 0.55500 ionsieve-x user         r     11/29/2026 10:00:00 all.q@node1              8
    102 0.55500 ionsieve-x user         Eqw   11/29/2026 10:00:00                          8
    999 0.55500 other      user         qw    11/29/2026 10:00:00                          8
"""


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program first in the path that prints what a batch system does, and keeps what it was asked."""

    def says(program: str, out: str = "", error: str = "", code: int = 0) -> Path:
        for name, text in (("out", out), ("error", error)):
            (tmp_path / name).write_text(text)
        script = tmp_path / program
        script.write_text(f'#!/bin/sh\ncd {tmp_path}\necho "$@" >asked\ncat out\ncat error >&2\nexit {code}\n')
        script.chmod(0o755)
        return tmp_path / "asked"

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return says


def test_slurm(answers) -> None:
    asked = answers("squeue", "101 PENDING (Resources)\n102 RUNNING (None)\n")
    assert queued_jobs("slurm", {"102", "101", "103"}) == {"101": "PENDING (Resources)", "102": "RUNNING"}
    assert "--jobs=101,102,103" in asked.read_text()
    answers("squeue", error="slurm_load_jobs error: Invalid job id specified", code=1)
    assert queued_jobs("slurm", ["101"]) == {}
    answers("squeue", error="slurm_load_jobs error: Unable to contact slurm controller", code=1)
    assert queued_jobs("slurm", ["101"]) is None


def test_pbs(answers) -> None:
    asked = answers("qstat", PBS, "qstat: Unknown Job Id 104.pbs2\nqstat: 105.pbs2 Job has finished, use -x\n", 153)
    jobs = [str(number) for number in range(101, 107)]
    assert queued_jobs("pbs", jobs) == {"101": "Q", "102": "R", "106": "unknown"}
    assert asked.read_text().split() == jobs
    answers("qstat", error="qstat: Unknown Job Id Error 101.pbs2\n", code=153)  # Torque's words
    assert queued_jobs("pbs", ["101"]) == {}


def test_lsf(answers) -> None:
    answers("bjobs", "101 PEND\n102 RUN\n103 EXIT\n104 DONE\n", "Job <105> is not found\n", 255)
    assert queued_jobs("lsf", map(str, range(101, 107))) == {"101": "PEND", "102": "RUN", "106": "unknown"}
    answers("bjobs", error="Job <101> is not found\n", code=255)
    assert queued_jobs("lsf", ["101"]) == {}


def test_grid_engine(answers) -> None:
    asked = answers("qstat", GRID_ENGINE)
    assert queued_jobs("sge", ["101", "102", "103"]) == {"101": "r", "102": "Eqw"}
    assert asked.read_text().split() == ["-u", getpass.getuser()]
    answers("qstat")
    assert queued_jobs("sge", ["101"]) == {}


@pytest.mark.parametrize(("kind", "program"), [("pbs", "qstat"), ("sge", "qstat"), ("lsf", "bjobs")])
def test_no_answer_lets_no_job_go(answers, kind: str, program: str) -> None:
    assert queued_jobs(kind, ["101"]) is None  # there is no such program
    answers(program, error="cannot connect to server pbs2 (errno=111)", code=111)
    assert queued_jobs(kind, ["101"]) is None
    assert queued_jobs(kind, []) is None


def test_summary_counts_by_state() -> None:
    assert queue_summary(["R", "Q", "Q"]) == "2 Q, 1 R"
