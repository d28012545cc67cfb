"""What a batch system says of jobs that it has been given."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable

_PATIENCE = 20.0
"""Seconds for an answer: a busy Slurm may take some."""


def queued_jobs(kind: str, ids: Iterable[str]) -> dict[str, str] | None:
    """State of each job that the queue knows, such as ``PENDING (Resources)``; None where nothing can be asked.

    Only Slurm is asked. It forgets a job some minutes after its end, and then no longer names it here.
    """
    wanted = sorted(ids)
    if kind != "slurm" or not wanted:
        return None
    command = ["squeue", "--noheader", "--format=%i %T (%r)", f"--jobs={','.join(wanted)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        # One id alone that is no longer known is an error to squeue; a Slurm that does not answer says otherwise.
        return {} if "Invalid job id" in done.stderr else None
    states = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    return {job: state.removesuffix(" (None)") for job, state in states.items()}


def queue_summary(states: Iterable[str]) -> str:
    """Count jobs by state: ``2 PENDING (Resources), 1 RUNNING``."""
    return ", ".join(f"{count} {state}" for state, count in sorted(Counter(states).items()))
