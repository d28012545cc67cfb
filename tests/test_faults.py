"""Whatever happens to a run: no row lost, none doubled, the same bytes, and little computed twice.

A few faults run by default, on a campaign without a model; `-m slow` runs every fault in every stage.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from scripts.harmed_tasks import Harm, begun
from scripts.small_campaign import (
    STEPS,
    differing_files,
    events_of,
    lost_and_doubled,
    run_command,
    run_environment,
    write_small_campaign,
)
from workflows.cli import app
from workflows.lock import RunLock

WORKERS = 2
IN_FLIGHT = 3 * WORKERS
"""Units that are with the scheduler when a client dies."""
CLIENT_KINDS = {
    "kill before commit": -9,
    "kill in commit": -9,
    "kill after commit": -9,
    "terminate": 3,
    "interrupt": 3,
    "no space": 3,
}
"""Exit codes of the run that the harm stops."""
WORKER_KINDS = ("kill", "memory", "hang", "hang with lock")


def run(folder: Path, config: Path, harm: Harm) -> subprocess.CompletedProcess[str]:
    Path(harm.marks).mkdir(exist_ok=True)
    return subprocess.run(
        run_command(config),
        cwd=folder,
        env={**run_environment(folder), **harm.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run without relaxation, undisturbed."""
    return undisturbed_run(tmp_path_factory.mktemp("plain"), relax=False)


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run with all steps, undisturbed."""
    return undisturbed_run(tmp_path_factory.mktemp("relaxed"), relax=True)


def undisturbed_run(folder: Path, *, relax: bool) -> Path:
    done = run(folder, write_small_campaign(folder, relax=relax, workers=WORKERS), Harm(str(folder / "marks")))
    assert done.returncode == 0, done.stderr
    assert set(begun(folder / "marks").values()) == {1}
    return folder / "runs" / "small"


def check_the_same(folder: Path, undisturbed: Path, again: int) -> None:
    """No row lost or doubled, the same bytes, no unit committed twice, and at most ``again`` tasks begun anew."""
    here = folder / "runs" / "small"
    assert lost_and_doubled(here, undisturbed) == (0, 0)
    assert differing_files(here, undisturbed) == []
    committed = [(event["step"], event["unit"]) for event in events_of(here, "unit")]
    assert len(committed) == len(set(committed))
    expected = begun(undisturbed.parent.parent / "marks")
    found = begun(folder / "marks")
    assert set(found) == set(expected)
    assert (found - expected).total() <= again
    assert not [path for path in here.rglob("*.tmp") if path.is_file()]


def harm_a_task(folder: Path, undisturbed: Path, harm: Harm, *, relax: bool) -> None:
    limits = {"unit_timeout": 60.0} if harm.kind.startswith("hang") else {}
    if harm.kind == "memory":
        limits["memory_limit"] = "1500MB"
    done = run(folder, write_small_campaign(folder, relax=relax, workers=WORKERS, **limits), harm)
    assert done.returncode == 0, done.stderr
    assert Path(harm.marks, "struck-0").exists()
    # The task itself, and what else the worker had finished.
    repeats = begun(Path(harm.marks)) - begun(undisturbed.parent.parent / "marks")
    assert 1 <= repeats.total() <= 4
    here = folder / "runs" / "small"
    assert lost_and_doubled(here, undisturbed) == (0, 0)
    assert differing_files(here, undisturbed) == []


def harm_the_client(folder: Path, undisturbed: Path, harm: Harm, *, relax: bool) -> None:
    config = write_small_campaign(folder, relax=relax, workers=WORKERS)
    stopped = run(folder, config, harm)
    assert stopped.returncode == CLIENT_KINDS[harm.kind], stopped.stderr
    if stopped.returncode == 3:  # else its workers say on their own that they lost it
        assert "Traceback" not in stopped.stderr
        assert "the same command goes on where it stopped" in stopped.stderr
    if harm.kind == "no space":
        assert "File too large" in stopped.stderr
    done = run(folder, config, Harm(harm.marks))
    assert done.returncode == 0, done.stderr
    check_the_same(folder, undisturbed, IN_FLIGHT)


def test_a_killed_worker_costs_its_task(plain: Path, tmp_path: Path) -> None:
    harm_a_task(tmp_path, plain, Harm(str(tmp_path / "marks"), "kill", "conduction"), relax=False)


def test_a_client_killed_as_it_writes_goes_on(plain: Path, tmp_path: Path) -> None:
    harm = Harm(str(tmp_path / "marks"), "kill in commit", "conduction", after=1)
    harm_the_client(tmp_path, plain, harm, relax=False)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", WORKER_KINDS)
def test_every_harm_to_a_task(relaxed: Path, tmp_path: Path, step: str, kind: str) -> None:
    harm_a_task(tmp_path, relaxed, Harm(str(tmp_path / "marks"), kind, step), relax=True)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", list(CLIENT_KINDS))
def test_every_harm_to_the_client(relaxed: Path, tmp_path: Path, step: str, kind: str) -> None:
    harm_the_client(tmp_path, relaxed, Harm(str(tmp_path / "marks"), kind, step), relax=True)


@pytest.mark.slow
def test_a_poisoned_candidate_is_the_only_one_that_fails(relaxed: Path, tmp_path: Path) -> None:
    table = pd.read_csv(relaxed / "ranked_candidates.csv").set_index("candidate_id")
    poisoned = str(table.index[0])
    harm = Harm(str(tmp_path / "marks"), "kill", "conduction", times=1000, candidate=poisoned)
    config = write_small_campaign(tmp_path, workers=WORKERS)
    done = run(tmp_path, config, harm)
    assert done.returncode == 0, done.stderr
    assert len(list(Path(harm.marks).glob("struck-*"))) == 6  # three workers on two rows, three on one
    failures = pd.read_csv(tmp_path / "runs" / "small" / "failures.csv")
    assert failures["candidate_id"].tolist() == [poisoned]
    assert failures["error"].str.startswith("WorkerDied").all()
    mine = pd.read_csv(tmp_path / "runs" / "small" / "ranked_candidates.csv").set_index("candidate_id")
    # conduction asks nothing of a candidate (required: false): the poisoned one stays, without a barrier
    assert sorted(mine.index) == sorted(table.index)
    assert mine.index[mine["conduction_status"] != "ok"].tolist() == [poisoned]
    others = table.drop(index=poisoned)["score"].sort_index()
    pd.testing.assert_series_equal(mine["score"].drop(poisoned).sort_index(), others, check_exact=True)


def test_a_second_run_in_a_folder_is_refused(tmp_path: Path) -> None:
    config = write_small_campaign(tmp_path, relax=False)
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    with RunLock(folder):
        second = CliRunner().invoke(app, ["run", str(config), "--folder", str(folder)])
    assert second.exit_code == 2
    assert f"is held by process {os.getpid()}" in second.stderr
    assert not (folder / "log.jsonl").exists()


CLUSTER = """
import sys
from pipeline.config import ClusterSettings
from workflows.cluster import connect
if __name__ == "__main__":
    with connect(ClusterSettings(kind="local", workers=2)) as client:
        print(client.scheduler.address, flush=True)
        sys.stdin.read()
"""


@contextmanager
def a_cluster(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler with two workers in a process of its own; ended when its input is."""
    script = folder / "cluster.py"
    script.write_text(CLUSTER)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=run_environment(folder),
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process


@pytest.mark.slow
def test_a_killed_scheduler_stops_the_run_and_another_goes_on(relaxed: Path, tmp_path: Path) -> None:
    config = write_small_campaign(tmp_path)
    text = config.read_text()
    harm = Harm(str(tmp_path / "marks"))
    Path(harm.marks).mkdir()
    here = tmp_path / "runs" / "small"
    for ends in ("killed", "stays"):
        with a_cluster(tmp_path) as (address, scheduler):
            cluster = text[text.index("cluster:") : text.index("\nrun:")]
            config.write_text(text.replace(cluster, f"cluster: {{kind: address, address: '{address}'}}"))
            with (tmp_path / f"{ends}.txt").open("w") as said:
                client = subprocess.Popen(
                    run_command(config), cwd=tmp_path, env=run_environment(tmp_path), stdout=said, stderr=said
                )
            if ends == "killed":
                while not [e for e in events_of(here, "unit") if e["step"] == "stability"]:
                    assert client.poll() is None, (tmp_path / "killed.txt").read_text()
                    time.sleep(0.05)
                scheduler.kill()
                assert client.wait(timeout=120) == 3
            else:
                assert client.wait(timeout=500) == 0
                scheduler.communicate("")
    said_then = (tmp_path / "killed.txt").read_text()
    assert "does not answer any more" in said_then
    assert "Traceback" not in said_then
    assert lost_and_doubled(here, relaxed) == (0, 0)
    assert differing_files(here, relaxed) == []


def mount(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_full_again_and_again(relaxed: Path, tmp_path: Path) -> None:
    config = write_small_campaign(tmp_path, workers=WORKERS)
    here = tmp_path / "runs"
    here.mkdir()
    if not mount(here, "size=32k"):
        pytest.skip("no disk can be mounted here")
    try:
        codes = []
        for size in range(32, 2000, 32):
            assert mount(here, f"remount,size={size}k")
            done = run(tmp_path, config, Harm(str(tmp_path / "marks")))
            codes.append(done.returncode)
            assert "Traceback" not in done.stderr
            if done.returncode == 0:
                break
            assert done.returncode in (2, 3)
            assert "No space left on device" in done.stderr
        assert codes[-1] == 0
        assert codes.count(3) >= 3
        check_the_same(tmp_path, relaxed, len(codes) * IN_FLIGHT)
    finally:
        subprocess.run(["umount", here], check=True)


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <sys/time.h>
#include <unistd.h>
static long ahead(void) {
    const char *file = getenv("CLOCK_JUMP_FILE"), *seconds = getenv("CLOCK_JUMP_SECONDS");
    return file && seconds && access(file, F_OK) == 0 ? atol(seconds) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    if (code == 0 && clock == CLOCK_REALTIME) now->tv_sec += ahead();
    return code;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for a clock that jumps")
@pytest.mark.parametrize("jump", [-7200, 7200], ids=["back", "ahead"])
def test_a_clock_that_jumps_by_two_hours(relaxed: Path, tmp_path: Path, jump: int) -> None:
    """The clock of client, scheduler and workers jumps when the first unit of stability is on disk."""
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    here = tmp_path / "runs" / "small"
    config = write_small_campaign(tmp_path, workers=WORKERS)
    environment = {
        **run_environment(tmp_path),
        "LD_PRELOAD": str(library),
        "CLOCK_JUMP_FILE": str(tmp_path / "jump"),
        "CLOCK_JUMP_SECONDS": str(jump),
    }
    with (tmp_path / "said.txt").open("w") as said:
        client = subprocess.Popen(run_command(config), cwd=tmp_path, env=environment, stdout=said, stderr=said)
    while not [e for e in events_of(here, "unit") if e["step"] == "stability"]:
        assert client.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.05)
    (tmp_path / "jump").touch()
    assert client.wait(timeout=500) == 0, (tmp_path / "said.txt").read_text()
    stamps = [datetime.strptime(e["time"], "%Y-%m-%dT%H:%M:%S%z") for e in events_of(here, "step")]
    moved = (stamps[-1] - stamps[0]).total_seconds() - jump
    assert abs(moved) < 1800  # the run did see the jump
    manifest = json.loads((here / "manifest.json").read_text())
    assert 0.0 < manifest["wall_seconds_of_this_call"] < 1800
    assert all(seconds >= 0.0 for seconds in manifest["core_seconds"].values())
    assert lost_and_doubled(here, relaxed) == (0, 0)
    assert differing_files(here, relaxed) == []


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_a_damaged_part_is_computed_again(relaxed: Path, tmp_path: Path, step: str, damage: str) -> None:
    shutil.copytree(relaxed.parent.parent, tmp_path, dirs_exist_ok=True)
    here = tmp_path / "runs" / "small"
    (part,) = here.glob(f"stages/{step}/*/part-00000.parquet")
    content = bytearray(part.read_bytes())
    if damage == "torn":
        content = content[: len(content) // 2]
    else:
        content[-20] ^= 4  # in the footer, which Parquet's own checksums leave out
    part.write_bytes(content)
    done = run(tmp_path, tmp_path / "small.yaml", Harm(str(tmp_path / "marks")))
    assert done.returncode == 0, done.stderr
    assert "part-00000.parquet is damaged; it is computed again" in done.stdout
    again = begun(tmp_path / "marks") - begun(relaxed.parent.parent / "marks")
    assert [work[0] for work in again.elements()] == [step]
    assert lost_and_doubled(here, relaxed) == (0, 0)
    assert differing_files(here, relaxed) == []
