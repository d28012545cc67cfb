"""Kill runs at random points until they are done, and count what that lost.

    python -m scripts.soak_kills --kills 100 --folder /tmp/soak

Campaign after campaign is run; at random times its client (with a local cluster also the scheduler), or one of its
workers, gets SIGKILL, SIGTERM or SIGINT. A client that ended is started again with the same command. In the end the
results are compared with those of a run that was left alone. The script can be stopped: finished campaigns are in
`soak.jsonl` of the folder, and the next call goes on after them. Exit code 1 when a row was lost or doubled, a byte
differs, or more was computed again than was under way.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from scripts.harmed_tasks import Harm, begun
from scripts.small_campaign import (
    differing_files,
    lost_and_doubled,
    run_command,
    run_environment,
    write_small_campaign,
)

WORKERS = 2
KILLS_OF_A_CAMPAIGN = 5
VICTIMS = ("client", "worker")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
# What a kill may cost: all that is with the scheduler, or what a worker computes and has not yet handed over.
MAY_REPEAT = {"client": 3 * WORKERS, "worker": 2}
STOPPED = (3, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
"""Exit codes of a run that was stopped: 3, or the signal itself, and 130 for Ctrl-C, before the run has begun."""
LONGEST_RUN = 1200.0
"""Seconds after which a run counts as hanging."""


@dataclass
class Record:
    """One campaign: what was done to it, and what came of it."""

    number: int
    kills: list[str] = field(default_factory=list)
    resumes: int = 0
    exit_codes: list[int] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    begun_again: int = 0
    beyond_in_flight: int = 0
    differing: list[str] = field(default_factory=list)
    tracebacks: int = 0

    @property
    def is_sound(self) -> bool:
        """Nothing lost, doubled, different or computed again without need."""
        return not (self.lost or self.doubled or self.beyond_in_flight or self.differing)


def start(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    """Start the run, its output in run.out; a file of marks for each task that a worker begins."""
    marks = folder / "marks"
    marks.mkdir(exist_ok=True)
    environment = {**run_environment(folder), **Harm(str(marks)).environment()}
    with (folder / "run.out").open("ab") as output:
        return subprocess.Popen(run_command(config), cwd=folder, env=environment, stdout=output, stderr=output)


def workers_of(client: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Worker processes of a run."""
    try:
        children = psutil.Process(client.pid).children()
        return [child for child in children if any("spawn_main" in word for word in child.cmdline())]
    except psutil.Error:
        return []


def strike(client: subprocess.Popen[bytes], draw: random.Random) -> str | None:
    """Send a signal to a victim; says which, None when there was no such process."""
    victim, name = draw.choice(VICTIMS), draw.choice(SIGNALS)
    place = draw.random()
    number = signal.Signals[name]
    if victim == "client":
        client.send_signal(number)
        return f"client {name}"
    workers = workers_of(client)
    if not workers:
        return None
    try:
        workers[int(place * len(workers))].send_signal(number)
    except psutil.NoSuchProcess:
        return None
    return f"worker {name}"


def soak(folder: Path, number: int, seed: int, kills: int, seconds: float) -> Record:
    """Run one campaign to its end through some kills.

    Parameters
    ----------
    seconds
        What an undisturbed run takes: kills come within so long of a start, or of each other.
    """
    draw = random.Random(f"{seed}-{number}")
    shutil.rmtree(folder, ignore_errors=True)
    config = write_small_campaign(folder, workers=WORKERS)
    record = Record(number)
    client = start(folder, config)
    while True:
        wait = draw.uniform(0.0, seconds) if len(record.kills) < kills else LONGEST_RUN
        try:
            code = client.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            if wait == LONGEST_RUN:
                client.kill()
                raise RuntimeError(f"campaign {number} hangs; see {folder}") from None
            if done := strike(client, draw):
                record.kills.append(done)
            continue
        record.exit_codes.append(code)
        if code == 0:
            return record
        if code not in STOPPED:
            raise RuntimeError(f"campaign {number} ended with exit code {code}; see {folder / 'run.out'}")
        record.resumes += 1
        client = start(folder, config)


def examine(record: Record, folder: Path, undisturbed: Path) -> None:
    """Compare a campaign that was killed with the one that was left alone."""
    run, other = folder / "runs" / "small", undisturbed / "runs" / "small"
    record.lost, record.doubled = lost_and_doubled(run, other)
    record.differing = differing_files(run, other)
    record.begun_again = (begun(folder / "marks") - begun(undisturbed / "marks")).total()
    record.beyond_in_flight = max(0, record.begun_again - sum(MAY_REPEAT[k.split()[0]] for k in record.kills))
    record.tracebacks = (folder / "run.out").read_text(encoding="utf-8", errors="replace").count("Traceback")


def table_of(records: list[Record]) -> str:
    """The table for docs/reliability.md."""
    kinds = Counter(kill for record in records for kill in record.kills)
    rows = {
        "campaigns": len(records),
        "kills": sum(kinds.values()),
        **{f"- {kind}": count for kind, count in sorted(kinds.items())},
        "resumes": sum(r.resumes for r in records),
        "rows lost": sum(r.lost for r in records),
        "rows duplicated": sum(r.doubled for r in records),
        "units begun again": sum(r.begun_again for r in records),
        "units recomputed beyond those in flight": sum(r.beyond_in_flight for r in records),
        "campaigns whose CSV files are byte-identical": sum(not r.differing for r in records),
        "tracebacks shown": sum(r.tracebacks for r in records),
    }
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())])


def undisturbed_run(folder: Path) -> float:
    """Run the campaign once without harm, unless that was done; its duration in s."""
    took = folder / "seconds.json"
    if not took.exists():
        shutil.rmtree(folder, ignore_errors=True)
        client = start(folder, write_small_campaign(folder, workers=WORKERS))
        started = time.monotonic()
        if client.wait() != 0:
            raise RuntimeError(f"the undisturbed run failed; see {folder / 'run.out'}")
        took.write_text(json.dumps(time.monotonic() - started))
    return float(json.loads(took.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kills in all, at least")
    parser.add_argument("--folder", type=Path, required=True, help="where the campaigns run")
    parser.add_argument("--seed", type=int, default=0, help="of the kills' times, victims and signals")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    seconds = undisturbed_run(folder / "undisturbed")
    journal = folder / "soak.jsonl"
    records = [Record(**json.loads(line)) for line in journal.read_text().splitlines()] if journal.exists() else []
    while (left := arguments.kills - sum(len(r.kills) for r in records)) > 0:
        number = len(records)
        home = folder / f"campaign-{number:03d}"
        started = time.monotonic()
        record = soak(home, number, arguments.seed, min(left, KILLS_OF_A_CAMPAIGN), seconds)
        if not record.kills:  # the undisturbed run compiled kernels, or the machine was busier
            seconds = time.monotonic() - started
        examine(record, home, folder / "undisturbed")
        records.append(record)
        with journal.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(record)) + "\n")
        print(f"campaign {number}: {', '.join(record.kills) or 'no kill'}; {'sound' if record.is_sound else record}")
        if record.is_sound:
            shutil.rmtree(home)
    print(f"\na run without a kill: {seconds:.0f} s\n\n{table_of(records)}")
    return 0 if all(record.is_sound for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
