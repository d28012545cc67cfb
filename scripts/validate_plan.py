"""Does `ionsieve plan` tell what a run then takes?

    python scripts/validate_plan.py configs/halides.yaml --folder FOLDER

Plans a campaign, runs it from nothing, and sets the planned core-seconds a row beside those that the run's units took.
Shares that go on are assumptions of the config, so a step's time is compared for the rows that it really got. Exit code
1 where a step that takes more than ten core-seconds was planned wrong by more than a factor of two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from relaxation_tables import table, told

LONG, MOST = 10.0, 2.0  # core-seconds; factor


def main() -> int:
    """Plan, run, compare, judge."""
    options = _options()
    planned = json.loads(_ionsieve("plan", str(options.config), "--json", stdout=subprocess.PIPE))
    _ionsieve("run", str(options.config), "--folder", str(options.folder), stdout=sys.stderr)
    measured = times(options.folder)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {options.config.name}\n")
    rows, factors = [], {}
    for step in planned["steps"]:
        if (took := measured.get(step["step"])) is None or step["seconds_per_row"] is None:
            continue
        each = took["seconds"] / max(1, took["rows"])
        if took["seconds"] >= LONG:
            factors[step["step"]] = each / step["seconds_per_row"]
        rows.append(
            (
                step["step"],
                f"{took['rows']:,}",
                f"{1000 * step['seconds_per_row']:.3g}",
                f"{1000 * each:.3g}",
                f"{step['seconds_per_row'] * took['rows']:.1f}",
                f"{took['seconds']:.1f}",
            )
        )
    table("step | rows | planned, ms a row | measured | planned, core-s | measured", rows)
    print(
        f"\ncandidates before the cheap gates: {planned['candidates_total']:,} planned, {entered(options.folder):,} met"
    )
    if not factors:
        return int(not told(f"a step of {LONG:g} core-s or more, to hold the plan against", met=False))
    worst = max(factors.values(), key=lambda factor: max(factor, 1.0 / factor))
    text = f"steps of {LONG:g} core-s and more within a factor of {MOST:g}; measured over planned at worst {worst:.2f}"
    return int(not told(text, all(1.0 / MOST <= factor <= MOST for factor in factors.values())))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="campaign")
    parser.add_argument("--folder", type=Path, required=True, help="run folder; must not exist")
    options = parser.parse_args()
    if options.folder.exists():
        parser.error(f"{options.folder} exists; the run must begin from nothing")
    return options


def _ionsieve(*arguments: str, stdout: Any) -> str:
    done = subprocess.run([sys.executable, "-m", "workflows.entry", *arguments], stdout=stdout, text=True, check=True)
    return done.stdout or ""


def times(folder: Path) -> dict[str, dict[str, float]]:
    """Rows and core-seconds of each step, from the run's log."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"rows": 0, "seconds": 0.0})
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "unit":
            found[event["step"]]["rows"] += event["rows"]
            found[event["step"]]["seconds"] += event["seconds"]
    if "candidates" in found:
        found["candidates"]["rows"] = entered(folder)
    return found


def entered(folder: Path) -> int:
    """Candidates that the run enumerated."""
    steps = json.loads((folder / "progress.json").read_text(encoding="utf-8"))["steps"]
    return int(next(step["entered"] for step in steps if step["step"] == "candidates"))


if __name__ == "__main__":
    raise SystemExit(main())
