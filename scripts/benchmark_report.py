"""Time and memory of `ionsieve report` on a run folder of drawn numbers, through the writers of a real run.

Prints the rows that were ranked, the time and peak memory of the report in a process of its own, and its size.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.synthetic_run import write_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=160_000, help="candidates that enter the stages")
    parser.add_argument("--gate", type=float, default=0.2, help="bound on energy_above_hull, eV/atom")
    parser.add_argument("--shortlist", type=int, default=500, help="candidates with a section of their own")
    parser.add_argument("--atoms", type=int, default=40, help="atoms a structure")
    parser.add_argument("--validated", action="store_true", help="with moduli, dynamics and DFT in every row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_run(
            Path(scratch) / "run",
            options.rows,
            gate=options.gate,
            shortlist=options.shortlist,
            per_formula=options.shortlist,
            atoms=options.atoms,
            validated=options.validated,
        )
        with (folder / "ranked_candidates.csv").open(encoding="utf-8") as stream:
            ranked = sum(1 for _ in stream) - 1
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "workflows.entry", "report", str(folder)])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        size = (folder / "report.html").stat().st_size
    print(f"{ranked:,} ranked of {options.rows:,}, sections for {options.shortlist}, {options.atoms} atoms a structure")
    processor = usage.ru_utime + usage.ru_stime
    memory = usage.ru_maxrss / 2**20
    print(f"{seconds:.1f} s ({processor:.1f} s of a core), {memory:.2f} GiB at most, report.html {size / 1e6:.1f} MB")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
