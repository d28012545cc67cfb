"""How far a run has come: its funnel, the step under way, and about how long that step still takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from workflows.files import read_json
from workflows.lock import is_held
from workflows.progress import duration
from workflows.run_folders import is_run_folder
from workflows.terminal_tables import funnel_view
from workflows.views import read_steps

_LOG_TAIL = 1 << 18
"""Bytes of the log's end that are read: a thousand units or more."""


@dataclass(frozen=True)
class Status:
    """A run as its folder shows it.

    ``unfinished`` holds the step under way as (step, done, planned), counted as the run does (rows; units of an
    enumeration), if it has units that are not on disk; ``seconds_left`` is an estimate for that step alone, None where
    nothing was timed. ``job_logs`` is the folder of the jobs' logs, where the run's workers are jobs of a batch system.
    ``goes_on`` is the command that takes an interrupted run on, None where it runs or has finished.
    """

    running: bool
    steps: list[dict[str, Any]]
    unfinished: list[tuple[str, int, int]]
    seconds_left: float | None
    job_logs: Path | None = None
    goes_on: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "running": self.running,
            "steps": self.steps,
            "unfinished": self.unfinished,
            "seconds_left": self.seconds_left,
            "job_logs": None if self.job_logs is None else str(self.job_logs),
            "goes_on": self.goes_on,
        }

    def funnel(self) -> list[dict[str, Any]]:
        """The funnel as rows for a CSV: one for each reason, its count beside the step's own counts."""
        return [
            {
                **{name: step[name] for name in ("step", "stage", "gates", "entered", "failed", "passed")},
                "reason": reason,
                "rejected": count,
            }
            for step in self.steps
            for reason, count in (step["rejected_by"] or {"": 0}).items()
        ]


def read_status(folder: Path) -> Status:
    """Read a run folder's state.

    Raises
    ------
    ConfigError
        When it is no run folder, or a file in it is damaged. A run that has just begun has no steps yet.
    """
    running = is_held(folder)
    manifest = read_json(folder / "manifest.json") if (folder / "manifest.json").exists() else {}
    has_steps = (folder / "progress.json").exists()
    begun = running or is_run_folder(folder)
    steps = [] if begun and not (has_steps and _is_of(manifest, folder / "progress.json")) else read_steps(folder)
    # A finished run may have planned units whose rows a gate has dropped since.
    over = not running and bool(manifest.get("finished"))
    known = (folder / "current.json").exists() and _is_of(manifest, folder / "current.json")
    unfinished, units = unfinished_work(folder) if known and not over else ([], 0)
    left = seconds_left(folder, unfinished[0][0], units) if running and unfinished else None
    logs = manifest.get("job_logs")
    goes_on = None if running or over else _command(folder, manifest)
    return Status(running, steps, unfinished, left, Path(logs) if logs else None, goes_on)


def _is_of(manifest: dict[str, Any], path: Path) -> bool:
    """Whether the run that the manifest tells of wrote a file: before its first step ends, the last run's are there."""
    started, updated = manifest.get("started"), read_json(path).get("updated")
    if manifest.get("finished") or started is None or updated is None:
        return True
    return float(updated) >= datetime.strptime(str(started), "%Y-%m-%dT%H:%M:%S%z").timestamp()


def _command(folder: Path, manifest: dict[str, Any]) -> str:
    """The command that a run was started with, as seen from here."""
    config, here = Path(str(manifest.get("config") or "FILE")), Path.cwd()
    shown = config.relative_to(here) if config.is_relative_to(here) else config
    usual = folder.resolve() == here.resolve() / "runs" / str(manifest.get("campaign"))
    return f"ionsieve run {shown}" + ("" if usual else f" --folder {folder}")


def unfinished_work(folder: Path) -> tuple[list[tuple[str, int, int]], int]:
    """The step under way and how far it is, if planned units are not on disk; and the number of these."""
    current = read_json(folder / "current.json")
    plan = folder / "stages" / str(current.get("step")) / str(current.get("digest"))[:12] / "plan.json"
    if not plan.exists():
        return [], 0
    works = read_json(plan).get("units", [])
    needed = current.get("needed")
    numbers = range(len(works)) if needed is None else [number for number in needed if number < len(works)]
    # an enumeration's units are mappings
    sizes = {number: len(works[number]) if isinstance(works[number], list) else 1 for number in numbers}
    missing = [size for i, size in sizes.items() if not (plan.parent / f"part-{i:05d}.parquet").exists()]
    total = sum(sizes.values())
    return ([(str(current["step"]), total - sum(missing), total)] if missing else []), len(missing)


def seconds_left(folder: Path, step: str, units: int) -> float | None:
    """Time that a step's remaining units take at the pace of those that the log's end shows, in s."""
    times = _times_of_units(folder / "log.jsonl", step)
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return units * (times[-1] - times[0]).total_seconds() / (len(times) - 1)


def _times_of_units(log: Path, step: str) -> list[datetime]:
    """When units of a step were committed since the run was last started; lines that can't be read are passed over."""
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    times: list[datetime] = []
    for line in lines:
        try:
            event = json.loads(line)
            if event["event"] == "run started":
                times = []
            elif event["event"] == "unit" and event["step"] == step:
                times.append(datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z"))
        except (ValueError, KeyError, TypeError):
            continue
    return times


def status_view(status: Status) -> Group:
    """The funnel, and a line each on what is under way and whether a run is at work."""
    lines = []
    for step, done, planned in status.unfinished:
        left = f", about {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
        lines.append(Text(f"{step}: {done:,} of {planned:,} done{left}"))
    if status.job_logs is not None:
        number = len(list(status.job_logs.glob("*")))
        lines.append(Text(f"logs of the jobs: {status.job_logs} ({number} file{'s' if number != 1 else ''})"))
    idle = f"not running: interrupted; go on with `{status.goes_on}`" if status.goes_on else "not running"
    lines.append(Text("running" if status.running else idle))
    return Group(funnel_view(status.steps), *lines)
