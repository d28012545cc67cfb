"""Whatever happens to a run: no row lost, none doubled, the same bytes, and little computed twice.

A few faults run by default, on a campaign without a model; `-m slow` runs every fault in every stage.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

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
    limits = {"unit_timeout": 20.0} if harm.kind.startswith("hang") else {}
    if harm.kind == "memory":
        limits["memory_limit"] = "1500MB"
    done = run(folder, write_small_campaign(folder, relax=relax, workers=WORKERS, **limits), harm)
    assert done.returncode == 0, done.stderr
    assert Path(harm.marks, "struck-0").exists()
    # The task itself; after a hang its two halves and both again; what else the worker had finished.
    repeats = begun(Path(harm.marks)) - begun(undisturbed.parent.parent / "marks")
    assert 1 <= repeats.total() <= 4
    here = folder / "runs" / "small"
    assert lost_and_doubled(here, undisturbed) == (0, 0)
    assert differing_files(here, undisturbed) == []


def harm_the_client(folder: Path, undisturbed: Path, harm: Harm, *, relax: bool) -> None:
    config = write_small_campaign(folder, relax=relax, workers=WORKERS)
    stopped = run(folder, config, harm)
    assert stopped.returncode == CLIENT_KINDS[harm.kind], stopped.stderr
    assert "Traceback" not in stopped.stderr
    if stopped.returncode == 3:
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
