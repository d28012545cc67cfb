"""The run folder: plans are never cut anew, damage is found, digests are not mixed."""

import json
import resource
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline.atomic_files import is_storage_trouble, write_atomically
from workflows.finished import campaign_of_earlier, finished_run, manifest_of_earlier
from workflows.sealed_parquet import SealError, sealed, unsealed
from workflows.step_results import read_step
from workflows.store import DamagedPartError, RunFolder, StoreError, is_plain


def part(*ids: str) -> pa.Table:
    return pa.table({"candidate_id": list(ids), "energy_above_hull": [0.01] * len(ids)})


def test_plan_appends_and_first_commit_wins(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    first = store.plan([["a", "b"]])[0]
    second = store.plan([["c"]])[0]
    assert [u.work for u in store.units()] == [["a", "b"], ["c"]]
    store.commit(first, part("a", "b"), {"seconds": 1.0})
    before = store.part_path(first).read_bytes()
    store.commit(first, part("x"), {"seconds": 2.0})
    assert store.part_path(first).read_bytes() == before
    assert store.is_done(first)
    assert not store.is_done(second)


def test_a_retry_replaces_the_earlier_row(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    first, again = store.plan([["a"], ["a"]])
    store.commit(first, pa.table({"candidate_id": ["a"], "energy_above_hull": [None]}), {})
    store.commit(again, part("a"), {})
    assert store.results()["energy_above_hull"].tolist() == [0.01]


def test_lists_are_read_for_the_rows_that_pass(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    assert store.with_lists(pd.DataFrame({"candidate_id": ["a"]})).columns.tolist() == ["candidate_id"]
    for unit, (ids, scale) in zip(store.plan([["a", "b"], ["c"], ["b"]]), ((["a", "b"], 1.0), (["c"], 2.0), (["b"], 3.0)), strict=True):  # fmt: skip # noqa: E501
        store.commit(unit, part(*ids).append_column("lattice", [[[scale, float(k)] for k in range(len(ids))]]), {})
    plain = store.results(is_plain)
    assert plain.columns.tolist() == ["candidate_id", "energy_above_hull"]
    assert plain["candidate_id"].tolist() == ["a", "c", "b"]  # the retry's row
    rows = pd.DataFrame({"candidate_id": ["b", "a"], "lattice": ["of an earlier step"] * 2, "pass_stability": True})
    whole = store.with_lists(rows)
    assert whole["candidate_id"].tolist() == ["b", "a"]
    assert [list(lattice) for lattice in whole["lattice"]] == [[3.0, 0.0], [1.0, 0.0]]
    nothing = store.with_lists(rows[:0])
    assert not len(nothing)
    assert set(nothing.columns) == set(whole.columns)


def test_every_single_flipped_bit_is_found() -> None:
    content = sealed(part("a", "b").replace_schema_metadata({b"ionsieve": b'{"rows": 2}'}))
    assert unsealed(content).column("candidate_id").to_pylist() == ["a", "b"]
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(SealError):
            unsealed(bytes(flipped))


def test_a_part_is_an_ordinary_parquet_file(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    (unit,) = store.plan([["a", "b"]])
    store.commit(unit, part("a", "b"), {})
    assert pd.read_parquet(store.part_path(unit))["candidate_id"].tolist() == ["a", "b"]


def test_damage_during_a_run_stops_it_and_is_mended_by_the_next(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    (unit,) = store.plan([["a"]])
    store.commit(unit, part("a"), {})
    path = store.part_path(unit)
    path.write_bytes(path.read_bytes()[:-9])
    for reading in (store.results, lambda: list(store.notes())):
        with pytest.raises(DamagedPartError, match="has to be computed again"):
            reading()
    assert store.discard_damaged(unit)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_part_is_found_and_set_aside(tmp_path: Path, damage: str) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    unit = store.plan([[f"c{i}" for i in range(200)]])[0]
    store.commit(unit, part(*unit.work), {})
    path = store.part_path(unit)
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[len(data) // 8] ^= 0x10
    else:
        data = bytearray()
    path.write_bytes(bytes(data))
    assert store.discard_damaged(unit)
    assert not store.is_done(unit)


def test_sound_part_is_kept(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    unit = store.plan([["a"]])[0]
    store.commit(unit, part("a"), {})
    assert not store.discard_damaged(unit)
    assert store.is_done(unit)


def test_mixing_digests_is_refused_with_both_shown(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    old, new = folder.stage("stability", "a" * 64), folder.stage("stability", "b" * 64)
    unit = old.plan([["a"]])[0]
    old.commit(unit, part("a"), {})
    new.plan([["a"]])
    new.part_path(unit).write_bytes(old.part_path(unit).read_bytes())
    with pytest.raises(StoreError, match=r"aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        new.read(unit)


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps(1))

    def fails(stream: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fails)
    assert json.loads(path.read_text()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_a_retry_comes_last_beyond_a_hundred_thousand_units(tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "stability" / ("d" * 12)
    folder.mkdir(parents=True)
    for number, status in ((100_001, "ok"), (20_000, "failed"), (7, "ok")):
        frame = pd.DataFrame({"candidate_id": ["a"], "stability_status": [status]})
        frame.to_parquet(folder / f"part-{number:05d}.parquet")
    (folder / "part-of-mine.parquet").write_text("a user's")
    step = {"step": "stability", "digest": "d" * 64}
    assert read_step(tmp_path, step, ["candidate_id", "stability_status"])["stability_status"].tolist() == ["ok"]


@pytest.mark.parametrize("damage", ["{", "[]", ""])
def test_a_damaged_manifest_is_as_none(tmp_path: Path, damage: str) -> None:
    run = RunFolder(tmp_path)
    assert manifest_of_earlier(run) == {}
    for path in (run.config, run.progress, run.current, run.manifest):
        path.write_text(damage)
    assert manifest_of_earlier(run) == {}
    assert finished_run(run) is campaign_of_earlier(run) is None
    run.config.write_text("name: one\n")
    assert campaign_of_earlier(run) == "one"
    run.manifest.write_text('{"campaign": "two"}')
    assert manifest_of_earlier(run) == {"campaign": "two"}
    assert campaign_of_earlier(run) == "two"


def test_a_full_disk_leaves_no_half_part(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    first, second = store.plan([["a"], ["b"]])
    store.commit(first, part("a"), {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # the kernel then refuses longer files
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            store.commit(second, part("b"), {})
        with pytest.raises(OSError, match="File too large"):
            store.plan([[f"c{i}" for i in range(100)]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert is_storage_trouble(raised.value)
    assert sorted(path.name for path in store.folder.iterdir()) == ["part-00000.parquet", "plan.json"]
    assert store.plan_is_sound()
    store.commit(second, part("b"), {})
    assert store.results()["candidate_id"].tolist() == ["a", "b"]


def test_leftovers_of_killed_writers_are_deleted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    store = folder.stage("stability", "d" * 64)
    (unit,) = store.plan([["a"]])
    store.commit(unit, part("a"), {})
    store.hanging().mkdir()
    torn = [tmp_path / ".manifest.json.7.tmp", store.folder / ".part-00001.parquet.7.tmp", store.hanging() / "x.txt"]
    for path in torn:
        path.touch()
    growing = tmp_path / ".selection.7.tmp"  # of `ionsieve select`, at work or killed
    growing.mkdir()
    hung = store.hanging() / "stability-1.txt"
    hung.write_text("Timeout (0:00:05)!\n")
    folder.remove_leftovers()
    assert not any(path.exists() for path in torn)
    assert hung.exists()
    assert growing.exists()
    assert store.is_done(unit)


def test_an_event_after_a_torn_line_has_a_line_of_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log("run started")
    with folder.log_file.open("a") as stream:
        stream.write('{"time": "2026-')
    folder.log("unit", unit=1)
    lines = folder.log_file.read_text().splitlines()
    assert json.loads(lines[0])["event"] == "run started"
    assert json.loads(lines[-1])["unit"] == 1
    assert len(lines) == 3


@pytest.mark.parametrize("damage", ["missing", "torn", "flip"])
def test_lost_plan_is_rebuilt_from_the_parts(tmp_path: Path, damage: str) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    first, second, third = store.plan([["a", "b"], ["c"], ["d"]])
    store.commit(first, part("a", "b"), {})
    store.commit(third, part("d"), {})
    plan = store.folder / "plan.json"
    if damage == "missing":
        plan.unlink()
    elif damage == "flip":
        plan.write_text(plan.read_text().replace('"b"', '"r"'))
    else:
        plan.write_text(plan.read_text()[:20])
    assert not store.plan_is_sound()
    store.recover_plan()
    assert store.plan_is_sound()
    assert [unit.work for unit in store.units()] == [["a", "b"], [], ["d"]]  # c is planned again as missing
    assert not store.discard_damaged(first)
    assert second.number == store.units()[1].number


def test_part_of_another_plan_is_not_taken_for_this_units(tmp_path: Path) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    (unit,) = store.plan([["a", "b"]])
    store.commit(unit, part("a", "b"), {})
    store.folder.joinpath("plan.json").unlink()
    (other,) = store.plan([["a", "c"]])
    assert store.is_done(other)
    assert store.discard_damaged(other)
    assert not store.is_done(other)
