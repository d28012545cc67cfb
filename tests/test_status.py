"""`ionsieve status`: a run that has begun, goes on, was interrupted or has ended; `--watch` from elsewhere."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.atomic_files import write_json
from scripts.synthetic_run import write_run
from tests.terminals import on_a_terminal, output
from workflows import views
from workflows.lock import RunLock
from workflows.status import read_status, seconds_left, status_view


def test_time_left_follows_the_pace_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    times = [f"2026-07-01T12:00:{second:02d}+0000" for second in (0, 10, 20, 30)]
    events = [{"time": t, "event": "unit", "step": "stability", "unit": i} for i, t in enumerate(times)]
    other = {"time": "2026-07-01T11:00:00+0000", "event": "unit", "step": "stability", "unit": 9}
    started = {"time": times[0], "event": "run started"}
    lines = [other, started, *events, {"time": times[3], "event": "unit", "step": "window", "unit": 0}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    assert seconds_left(tmp_path, "stability", 6) == pytest.approx(6 * 10.0)  # three intervals of 10 s
    assert seconds_left(tmp_path, "window", 9) is None
    assert seconds_left(tmp_path / "nowhere", "stability", 6) is None


def test_status_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        found = read_status(tmp_path)
        assert found.running
        assert found.steps == []
        assert "running" in on_a_terminal(status_view(found), 80)
        assert output("status", tmp_path).strip().endswith("running")


def test_status_of_an_interrupted_run_counts_as_the_run_does_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "halides"
    stage = run / "stages" / "stability" / ("a" * 12)
    stage.mkdir(parents=True)
    write_json(run / "current.json", {"step": "stability", "digest": "a" * 64})
    write_json(run / "progress.json", {"steps": []})
    write_json(stage / "plan.json", {"units": [["A", "B", "C"], ["D", "E"], ["F"]]})
    (stage / "part-00001.parquet").touch()
    started = {"campaign": "halides", "config": str(tmp_path / "configs" / "my.yaml"), "finished": None}
    write_json(run / "manifest.json", started)
    text = output("status", "runs/halides")
    assert "stability: 2 of 6 done" in text
    assert text.strip().endswith("not running: interrupted; go on with `ionsieve run configs/my.yaml`")
    assert views.caution(run) == "the last run in this folder has not finished; there is no ranked table yet"
    (run / "ranked_candidates.csv").touch()
    assert views.caution(run) == "the last run in this folder has not finished: the ranked table is of an earlier run"
    assert read_status(run).as_dict()["unfinished"] == [("stability", 2, 6)]
    monkeypatch.chdir(tmp_path / "runs")
    assert read_status(Path("halides")).goes_on == f"ionsieve run {started['config']} --folder halides"
    write_json(run / "manifest.json", {**started, "finished": "2026-07-01T12:10:00+0000"})
    assert read_status(run).goes_on is None
    assert read_status(run).unfinished == []  # units that a gate has made needless since


def test_units_that_a_gate_has_made_needless_are_not_waited_for(tmp_path: Path) -> None:
    stage = tmp_path / "stages" / "dft" / ("a" * 12)
    stage.mkdir(parents=True)
    write_json(tmp_path / "progress.json", {"steps": []})
    write_json(stage / "plan.json", {"units": [["A"], ["B"], ["C", "D"], ["E"]]})
    (stage / "part-00000.parquet").touch()
    (stage / "part-00003.parquet").touch()
    current = {"step": "dft", "digest": "a" * 64}
    for needed, unfinished in ((None, [("dft", 2, 5)]), ([0, 2], [("dft", 1, 3)]), ([0, 3], [])):
        write_json(tmp_path / "current.json", {**current, "needed": needed})
        assert read_status(tmp_path).unfinished == unfinished


def test_steps_of_an_earlier_run_are_not_those_of_one_that_has_just_begun(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 60)
    steps = views.read_steps(run)
    started = {"campaign": "x", "config": "x.yaml", "finished": None, "started": "2026-07-01T12:00:00+0000"}
    noon = 1782907200.0
    write_json(run / "manifest.json", started)
    write_json(run / "current.json", {"step": "stability", "digest": "a" * 64, "updated": noon - 60.0})
    write_json(run / "progress.json", {"updated": noon - 60.0, "steps": steps})
    assert read_status(run).steps == []
    assert read_status(run).unfinished == []
    write_json(run / "progress.json", {"updated": noon + 0.5, "steps": steps[:1]})
    assert read_status(run).steps == steps[:1]


def test_a_run_that_ended_in_its_first_step_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "halides"
    run.mkdir(parents=True)
    (run / "run.lock").touch()
    assert read_status(run).steps == []
    assert views.caution(run) == "the run in this folder ended before its first step"
    write_json(run / "manifest.json", {"campaign": "halides", "config": "my.yaml", "finished": None})
    stage = run / "stages" / "candidates" / ("a" * 12)
    stage.mkdir(parents=True)
    write_json(run / "current.json", {"step": "candidates", "digest": "a" * 64})
    write_json(stage / "plan.json", {"units": [{"first": 0}, {"first": 1}]})
    (stage / "part-00001.parquet").touch()
    text = output("status", "runs/halides")
    assert "candidates: 1 of 2 done" in text
    assert "go on with `ionsieve run my.yaml`" in text


class Watcher:
    """`ionsieve status --watch` on a terminal of its own."""

    def __init__(self, run: Path) -> None:
        self._screen, inside = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workflows.entry", "status", str(run), "--watch", "--every", "0.1"],
            stdin=inside,
            stdout=inside,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        )
        os.close(inside)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self._screen], [], [], 0.2)[0]:
                self.seen += os.read(self._screen, 65536).decode()

    def end(self) -> str:
        """What it wrote to stderr, once it has ended."""
        stderr = self.process.stderr
        assert stderr is not None
        assert self.process.wait(timeout=30) == 0
        text = stderr.read().decode()
        stderr.close()
        os.close(self._screen)
        return text


def test_watch_follows_a_run_and_ends_with_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 60)
    steps = views.read_steps(run)
    write_json(run / "progress.json", {"steps": steps[:1]})
    with RunLock(run):
        watcher = Watcher(run)
        watcher.wait_for("mobile_ion_fraction")
        assert "practicality" not in watcher.seen
        write_json(run / "progress.json", {"steps": steps})
        watcher.wait_for("practicality")
    watcher.wait_for("not running")
    assert watcher.end() == ""


def test_interrupted_watch_is_silent_and_leaves_the_run_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 60)
    with RunLock(run):
        watcher = Watcher(run)
        watcher.wait_for("running")
        watcher.process.send_signal(signal.SIGINT)
        assert watcher.end() == ""
        assert read_status(run).running
