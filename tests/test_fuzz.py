"""A small cut of scripts/fuzz_inputs.py: mutated files are accepted, or refused with a clear error."""

import warnings
from collections import Counter
from pathlib import Path

import pytest

from scripts.fuzz_cases import environment, files_of_case, read_case, unclear, write_data
from scripts.fuzz_sandbox import Watch, case_folder, put

SEED = 7


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """One for all: an audit hook stays for the life of a process."""
    home = tmp_path_factory.mktemp("fuzz")
    write_data(home / "data_root", None)
    return Watch(home)


@pytest.mark.parametrize(("kind", "count"), [("configs", 120), ("structures", 30), ("tables", 60)])
def test_mutated_files(watch: Watch, monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    home = Path(watch.allowed)
    monkeypatch.setenv("IONSIEVE_CACHE", str(home / "cache"))
    counts: Counter[str] = Counter()
    for index in range(count):
        files = files_of_case(kind, SEED, index)
        with case_folder(home, f"{kind}-{index}") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = read_case(kind, folder, files, environment(home), watch)
        assert not outcome.failed, f"{kind} {SEED} {index}: {outcome}"
        counts[outcome.kind] += 1
    assert counts["refused"] > count // 4
    assert counts["accepted"] > 0


def test_cases_are_the_same_each_time() -> None:
    for kind in ("configs", "structures", "tables"):
        assert files_of_case(kind, 1, 2) == files_of_case(kind, 1, 2)
        assert any(files_of_case(kind, 1, i) != files_of_case(kind, 2, i) for i in range(3))


def test_a_broken_reader_is_found_out(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer's own checks: a traceback, a file outside, and words that tell nothing."""
    home = Path(watch.allowed)
    sound = {"fuzz.yaml": (Path(__file__).parent.parent / "configs/quickstart.yaml").read_bytes()}

    def outcome_with(reader: object, name: str) -> str:
        monkeypatch.setattr("scripts.fuzz_cases.find_inputs", reader)
        with case_folder(home, name) as folder:
            return read_case("configs", folder, sound, environment(home), watch).kind

    def stumbles(*_: object) -> None:
        raise IndexError

    def escapes(*_: object) -> None:
        (home.parent / "escaped").write_text("x")

    assert outcome_with(stumbles, "stumbles") == "traceback"
    assert outcome_with(escapes, "escapes") == "escaped"
    assert unclear("c.yaml", "boo")
    assert unclear("c.yaml", "got <object object at 0x7f>")
    assert unclear("c.yaml", "x" * 3000)
    assert not unclear("c.yaml:3", "name: unknown key; leave it out")


def test_what_lies_in_a_files_place(tmp_path: Path) -> None:
    for what in ("directory", "fifo", "dangling link", "link to itself", "link to /dev/zero", "unreadable"):
        put(tmp_path / what.replace("/", "_"), what)
    assert (tmp_path / "directory").is_dir()
    assert not any(p.is_file() for p in tmp_path.iterdir() if p.name != "unreadable")
    assert (tmp_path / "unreadable").stat().st_mode & 0o777 == 0
