"""Fuzzed cases through the command line: exit code and words, and nothing written but the cache."""

from __future__ import annotations

import time
from pathlib import Path

from scripts.fuzz_cases import Outcome, unclear
from scripts.fuzz_sandbox import TIME_LIMIT, Hang, Watch, limited_time


def read_by_command(folder: Path, read: Outcome, watch: Watch) -> Outcome:
    """Run `ionsieve validate` on a case, and `ionsieve run` on one that was refused; what was wrong, or ``read``."""
    config = folder / "fuzz.yaml"
    run = folder / "run_folder"
    commands = [["validate", str(config)]]
    if read.kind == "refused":
        commands.append(["run", str(config), "--folder", str(run)])
    started = time.monotonic()
    for command in commands:
        trouble = _trouble(command, read, watch)
        if trouble:
            return Outcome("command", time.monotonic() - started, f"{command[0]}: {trouble}")
    return read


def _trouble(command: list[str], read: Outcome, watch: Watch) -> str:
    from typer.testing import CliRunner

    from workflows.cli import app

    watch.seen.clear()
    watch.active = True
    try:
        with limited_time(3 * TIME_LIMIT):
            done = CliRunner().invoke(app, command)
    except Hang:
        return "hang"
    finally:
        watch.active = False
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {done.exception}"
    if done.exit_code not in (0, 2) or (read.kind == "refused" and done.exit_code != 2):
        return f"exit code {done.exit_code} after {read.kind}: {done.output[-500:]}"
    if done.exit_code == 2 and ("problem" not in done.stderr or unclear(command[0], done.stderr[:1900])):
        return f"no clear list of problems: {done.stderr[-500:]}"
    return "; ".join(watch.seen[:3])
