"""List a campaign's candidates twice, once killed in the middle: are the rows the same, and is memory flat?

Both times `ionsieve enumerate` runs as a user runs it. The killed one gets SIGKILL when ``--kill-at`` of its units are
on disk, and the same command goes on. Memory is the sum of the proportional set sizes of the command and its workers
(Linux).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from relaxation_tables import table, told

CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
MOST_GROWTH = 0.10
LEAST_UNITS = 40


@dataclass
class Listing:
    """One call of the command: its time, and memory (bytes) with the units on disk at each look."""

    seconds: float = 0.0
    killed: bool = False
    units: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def main() -> int:
    options = _options()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {options.config.name}\n")
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / name for name in ("undisturbed", "killed")]
        whole = listed(options, folders[0])
        first = listed(options, folders[1], kill_at=options.kill_at)
        rest = listed(options, folders[1])
        contents = [content(folder) for folder in folders]
    table(
        "listing | s | highest memory, GiB", [_row("undisturbed", whole), _row("killed", first), _row("went on", rest)]
    )
    rows, units = contents[0][1], contents[0][2]
    met = told(
        f"killed and resumed: the same {rows:,} rows in {units} units", first.killed and contents[0] == contents[1]
    )
    if units < LEAST_UNITS:
        print(f"{units} units are too few to see memory grow; at least {LEAST_UNITS} are needed")
        return int(not met)
    begin, end = memory_of_tenth(whole, 0.1, 0.2), memory_of_tenth(whole, 0.9, 1.0)
    growth = end / begin - 1.0
    met &= told(f"memory grows by {growth:+.1%} from the second tenth of the units to the last", growth <= MOST_GROWTH)
    return int(not met)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIG, help="campaign")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--kill-at", type=float, default=0.5, help="share of the units on disk at the kill")
    return parser.parse_args()


def listed(options: argparse.Namespace, folder: Path, kill_at: float | None = None) -> Listing:
    """Run `ionsieve enumerate` to its end, or to the kill."""
    command = [sys.executable, "-m", "workflows.entry", "enumerate", str(options.config)]
    found, started = Listing(), time.perf_counter()
    process = psutil.Popen([*command, "--workers", str(options.workers), "--folder", str(folder)])
    while process.poll() is None:
        time.sleep(0.25)
        done, planned = progress(folder)
        found.units.append(done)
        found.memory.append(memory_of(process))
        if kill_at is not None and planned and done >= kill_at * planned and not found.killed:
            process.kill()
            found.killed = True
    if not found.killed and process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    found.seconds = time.perf_counter() - started
    return found


def progress(folder: Path) -> tuple[int, int]:
    """Units on disk and units planned."""
    plans = list(folder.glob("stages/candidates/*/plan.json"))
    if not plans:
        return 0, 0
    return len(list(plans[0].parent.glob("part-*.parquet"))), len(json.loads(plans[0].read_text())["units"])


def memory_of(process: psutil.Popen) -> int:
    """Bytes of a process and its children; pages that they share count once."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_full_info().pss
    except psutil.Error:
        return 0  # one has just ended
    return total


def memory_of_tenth(listing: Listing, low: float, high: float) -> float:
    """Median memory while this part of the units was computed."""
    units, memory = np.array(listing.units), np.array(listing.memory)
    last = units.max()
    chosen = memory[(units > low * last) & (units <= high * last) & (memory > 0)]
    return float(np.median(chosen))


def content(folder: Path) -> tuple[str, int, int]:
    """SHA-256 of all rows in the order of their units, their number, and the number of units."""
    digest, rows = hashlib.sha256(), 0
    parts = sorted(folder.glob("stages/candidates/*/part-*.parquet"))
    for path in parts:
        part = pq.read_table(path).replace_schema_metadata(None)
        rows += part.num_rows
        with pa.BufferOutputStream() as stream:
            with pa.ipc.new_stream(stream, part.schema) as writer:
                writer.write_table(part.combine_chunks())
            digest.update(stream.getvalue())
    return digest.hexdigest(), rows, len(parts)


def _row(what: str, listing: Listing) -> list[str]:
    return [what, f"{listing.seconds:.0f}", f"{max(listing.memory) / 2**30:.2f}"]


if __name__ == "__main__":
    raise SystemExit(main())
