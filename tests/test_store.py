"""The run folder: plans are never cut anew, damage is found, digests are not mixed."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.atomic_files import write_atomically
from workflows.store import RunFolder, StoreError


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


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_lost_plan_is_rebuilt_from_the_parts(tmp_path: Path, damage: str) -> None:
    store = RunFolder(tmp_path).stage("stability", "d" * 64)
    first, second, third = store.plan([["a", "b"], ["c"], ["d"]])
    store.commit(first, part("a", "b"), {})
    store.commit(third, part("d"), {})
    plan = store.folder / "plan.json"
    if damage == "missing":
        plan.unlink()
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
