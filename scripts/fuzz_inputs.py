"""Does bad input ever break ionsieve? Reads thousands of mutated configs, structure files and tables.

    python -m scripts.fuzz_inputs configs --count 10000
    python -m scripts.fuzz_inputs structures --count 2000
    python -m scripts.fuzz_inputs tables --count 2000
    python -m scripts.fuzz_inputs structures --only 17 --keep /tmp/case

Every case is read as `ionsieve validate` reads it, in a child process with 10 s and 1 GiB for each; an audit hook notes
files written outside the child's folder, programs, connections and pickles. One case in ``--every`` goes through the
command line too. A case may be accepted or refused with a clear error; anything else is saved under ``--failures`` with
its seed, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.fuzz_cases import KINDS, Files, Outcome, environment, files_of_case, read_case, write_data
from scripts.fuzz_command import read_by_command
from scripts.fuzz_sandbox import WAITING_LIMIT, Watch, case_folder, limit_memory, put

START_UP = 180
"""Seconds that a child may take to import its libraries."""
PATIENCE = 4 * WAITING_LIMIT
"""Seconds after which a child that says nothing is ended: it never returned to Python."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="first index")
    parser.add_argument("--every", type=int, default=25, help="one case in so many goes through the command line too")
    parser.add_argument("--failures", type=Path, default=Path("fuzz_failures"), help="folder of the inputs that failed")
    parser.add_argument("--only", type=int, help="read one case in this process and say what became of it")
    parser.add_argument("--keep", type=Path, help="with --only: write the case's files here")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        _child(asked)
    elif asked.only is not None:
        _one(asked)
    else:
        sys.exit(_all(asked))


def _one(asked: argparse.Namespace) -> None:
    files = files_of_case(asked.kind, asked.seed, asked.only)
    if asked.keep is not None:
        for name, content in files.items():
            put(asked.keep / name, content)
    asked.start, asked.count, asked.every = asked.only, asked.only + 1, 1
    with tempfile.TemporaryDirectory() as home:
        asked.child = Path(home)
        _child(asked)


def _child(asked: argparse.Namespace) -> None:
    """Read the cases from ``--start`` on, one JSON line each."""
    home = asked.child
    home.chmod(0o777)
    models = os.environ.get("IONSIEVE_DATA")
    write_data(home / "data_root", Path(models) / "models" if models else None)
    os.environ.update(environment(home))
    (home / "cache").mkdir(mode=0o777)
    os.chdir(home)
    watch = Watch(home)
    warnings.simplefilter("ignore")
    with case_folder(home, "first") as folder:  # what is imported on first use is imported now
        for kind in ("structures", "tables"):
            read_case(kind, folder, _sound(kind, asked.seed), os.environ, watch)
    import workflows.session  # noqa: F401  (Dask: `ionsieve run` imports it when it has read its input)

    limit_memory()
    print(json.dumps({"ready": True}), flush=True)
    for index in range(asked.start, asked.count):
        files = files_of_case(asked.kind, asked.seed, index)
        with case_folder(home, f"case-{index}") as folder:
            outcome = read_case(asked.kind, folder, files, os.environ, watch)
            by_command = asked.every and index % asked.every == 0 and not outcome.failed
            if by_command:
                outcome = read_by_command(folder, outcome, watch)
        told = {"index": index, "kind": outcome.kind, "seconds": outcome.seconds, "text": outcome.text[:4000]}
        print(json.dumps({**told, "command": bool(by_command)}), flush=True)


def _sound(kind: str, seed: int) -> Files:
    """Files of the first case of a kind, with sound contents where they were mutated."""
    from scripts import fuzz_crystals, fuzz_tables

    files = files_of_case(kind, seed, 0)
    config = files["fuzz.yaml"]
    if kind == "structures":
        return {"fuzz.yaml": config, "crystals/spinel.cif": dict(fuzz_crystals.seed_files())["spinel.cif"]}
    table = fuzz_tables.parquet(fuzz_tables.ROWS)
    sound: dict[str, bytes | str] = {"elements.csv": fuzz_tables.elements_csv(), "fuzz.yaml": config}
    return {**{n: table for n in files if n.endswith("parquet")}, **sound,
            **{n: fuzz_tables.PHASES.encode() for n in files if "phases" in n}}  # fmt: skip


def _lines(child: subprocess.Popen[str]) -> Iterator[dict[str, Any] | None]:
    """What a child says; None when it says nothing for too long."""
    assert child.stdout is not None, "opened with a pipe"
    patience = START_UP
    while True:
        ready, _, _ = select.select([child.stdout], [], [], patience)
        if not ready:
            yield None
            return
        line = child.stdout.readline()
        if not line:
            return
        yield json.loads(line)
        patience = PATIENCE


def _outcomes(asked: argparse.Namespace) -> Iterator[tuple[int, Outcome, bool]]:
    """Outcome of every case; a child that dies or hangs is replaced by one that goes on behind the guilty case."""
    index = asked.start
    log = (asked.failures / f"{asked.kind}.log").open("a", encoding="utf-8")
    options = ["--count", str(asked.count), "--seed", str(asked.seed), "--every", str(asked.every)]
    while index < asked.count:
        with tempfile.TemporaryDirectory(prefix="ionsieve-fuzz-") as home:
            command = [sys.executable, "-m", "scripts.fuzz_inputs", asked.kind, "--start", str(index), *options]
            child = subprocess.Popen([*command, "--child", home], stdout=subprocess.PIPE, stderr=log, text=True)
            for told in _lines(child):
                if told is None:
                    yield index, Outcome("hang", PATIENCE, "never returned to Python"), False
                    index += 1
                    break
                if "ready" in told:
                    continue
                yield index, Outcome(told["kind"], told["seconds"], told["text"]), told["command"]
                index = told["index"] + 1
            else:
                if child.wait() != 0 or index < asked.count:
                    yield index, Outcome("crash", 0.0, f"the process ended with {child.returncode}"), False
                    index += 1
            child.kill()
            child.wait()
    log.close()


def _all(asked: argparse.Namespace) -> int:
    asked.failures.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    counts: Counter[str] = Counter()
    slowest, by_command = (0.0, asked.start), 0
    for index, outcome, through_command in _outcomes(asked):
        counts[outcome.kind] += 1
        by_command += through_command
        slowest = max(slowest, (outcome.seconds, index))
        if counts.total() % 1000 == 0:
            print(f"{counts.total():,} cases after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if outcome.failed:
            print(f"{asked.kind} {asked.seed} {index}: {outcome.kind}: {outcome.text[:600]}", flush=True)
            folder = asked.failures / f"{asked.kind}-{asked.seed}-{index}"
            for name, content in files_of_case(asked.kind, asked.seed, index).items():
                if not (folder / name).exists():
                    put(folder / name, content)
    print(f"\n{asked.kind}: {counts.total():,} cases, seed {asked.seed}, {time.monotonic() - started:.0f} s")
    for name in sorted(counts):
        print(f"  {name:10s} {counts[name]:7,}")
    print(f"  slowest: case {slowest[1]}, {slowest[0]:.1f} s; {by_command:,} cases through the command line too")
    return int(any(name not in ("accepted", "refused") for name in counts))


if __name__ == "__main__":
    main()
