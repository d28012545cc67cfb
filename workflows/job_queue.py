"""What a batch system says of jobs that it has been given."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections import Counter
from collections.abc import Iterable

_PATIENCE = 20.0
"""Seconds for an answer: a busy Slurm may take some."""
_OVER = frozenset({"C", "F", "X", "DONE", "EXIT", "ZOMBI"})
"""States of jobs that PBS, Torque and LSF still list some time after their end."""
_GONE = re.compile(r"unknown job|has finished|is not found", re.IGNORECASE)
"""What their complaint about a job says that they have forgotten, or list on request only."""


def queued_jobs(kind: str, ids: Iterable[str]) -> dict[str, str] | None:
    """State of each job that is not over, such as ``PENDING (Resources)``; None where there is no answer.

    Slurm and Grid Engine forget a job soon after its end, and then no longer list it. With PBS and LSF a job is over
    when they say so: one of which they say nothing is ``unknown``.
    """
    wanted = sorted(ids)
    if not wanted:
        return None
    return {"slurm": _slurm, "pbs": _pbs, "sge": _grid_engine, "lsf": _lsf}[kind](wanted)


def queue_summary(states: Iterable[str]) -> str:
    """Count jobs by state: ``2 PENDING (Resources), 1 RUNNING``."""
    return ", ".join(f"{count} {state}" for state, count in sorted(Counter(states).items()))


def _slurm(wanted: list[str]) -> dict[str, str] | None:
    done = _answer("squeue", "--noheader", "--format=%i %T (%r)", f"--jobs={','.join(wanted)}")
    if done is None:
        return None
    if done.returncode != 0:
        # One id alone that is no longer known is an error to squeue; a Slurm that does not answer says otherwise.
        return {} if "Invalid job id" in done.stderr else None
    states = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    return {job: state.removesuffix(" (None)") for job, state in states.items()}


def _pbs(wanted: list[str]) -> dict[str, str] | None:
    """Rows of qstat are ``id.server name user time state queue``."""
    return _listed(_answer("qstat", *wanted), wanted, state=4)


def _lsf(wanted: list[str]) -> dict[str, str] | None:
    return _listed(_answer("bjobs", "-noheader", "-o", "jobid stat", *wanted), wanted, state=1)


def _grid_engine(wanted: list[str]) -> dict[str, str] | None:
    """Rows of qstat are ``id priority name user state ...``; it asks for users' jobs, not for some by their ids."""
    done = _answer("qstat", "-u", getpass.getuser())
    if done is None or done.returncode != 0:
        return None
    rows = (line.split() for line in done.stdout.splitlines())
    return {row[0]: row[4] for row in rows if len(row) > 4 and row[0] in wanted}


def _listed(done: subprocess.CompletedProcess[str] | None, wanted: list[str], state: int) -> dict[str, str] | None:
    """States of jobs that are listed, in a column of their rows, and of those that nothing is said of."""
    if done is None:
        return None
    rows = [line.split() for line in done.stdout.splitlines()]
    states = {row[0].partition(".")[0]: row[state] for row in rows if len(row) > state}
    complaints = [line for line in done.stderr.splitlines() if _GONE.search(line)]
    gone = {number for line in complaints for number in re.findall(r"\b\d+\b", line)}
    if not any(job in states or job in gone for job in wanted):
        return None
    over = {job for job in wanted if states.get(job) in _OVER or (job in gone and job not in states)}
    return {job: states.get(job, "unknown") for job in wanted if job not in over}


def _answer(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
