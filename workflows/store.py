"""The run folder: what is planned, what is done. Results are keyed by candidate and stage digest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic_files import write_atomically, write_json
from pipeline.config import Campaign
from workflows.files import RunError

_METADATA_KEY = b"ionsieve"


class StoreError(RunError):
    """The run folder holds something that must not be mixed with this run."""


@dataclass(frozen=True)
class Unit:
    """A piece of work that is planned once and never cut anew: its rows decide the float32 batches."""

    number: int
    work: Any  # list of candidate ids, or for the candidates source a range of the enumeration


class StageStore:
    """Plan and parts of one step with one digest: ``stages/<step>/<digest>/``."""

    def __init__(self, run_folder: Path, step: str, digest: str) -> None:
        self.step = step
        self.digest = digest
        self.folder = run_folder / "stages" / step / digest[:12]
        self._plan = self.folder / "plan.json"

    def units(self) -> list[Unit]:
        """Units planned so far, in order."""
        if not self._plan.exists():
            return []
        plan = json.loads(self._plan.read_text(encoding="utf-8"))
        if plan["digest"] != self.digest:
            raise StoreError(
                f"{self._plan} was planned with digest {plan['digest'][:12]}, this run has {self.digest[:12]}; "
                "results of different settings are not mixed: use another run folder"
            )
        return [Unit(i, work) for i, work in enumerate(plan["units"])]

    def plan(self, works: Iterable[Any]) -> list[Unit]:
        """Append units to the plan, on disk before any of them is started."""
        known = self.units()
        new = [Unit(len(known) + i, work) for i, work in enumerate(works)]
        if new or not self._plan.exists():
            write_json(
                self._plan,
                {"step": self.step, "digest": self.digest, "units": [u.work for u in (*known, *new)]},
            )
        return new

    def plan_is_sound(self) -> bool:
        """Tell whether the plan can be read; a folder without plan and parts is sound too."""
        try:
            return isinstance(json.loads(self._plan.read_text(encoding="utf-8"))["units"], list)
        except FileNotFoundError:
            return not any(self.folder.glob("part-*.parquet"))
        except (ValueError, KeyError, TypeError):
            return False

    def recover_plan(self) -> None:
        """Rebuild a lost plan from the parts, each of which says what it was made of."""
        works: dict[int, Any] = {}
        for path in sorted(self.folder.glob("part-*.parquet")):
            note = _note_of(path)
            if note.get("digest") == self.digest and "work" in note:
                works[int(note["unit"])] = note["work"]
        units = [works.get(number, []) for number in range(max(works, default=-1) + 1)]
        write_json(self._plan, {"step": self.step, "digest": self.digest, "units": units})

    def start_over(self) -> None:
        """Move parts aside and forget the plan."""
        for path in self.folder.glob("part-*.parquet"):
            path.replace(path.with_suffix(".stale"))
        self._plan.unlink(missing_ok=True)

    def part_path(self, unit: Unit) -> Path:
        """Where a unit's result lies."""
        return self.folder / f"part-{unit.number:05d}.parquet"

    def is_done(self, unit: Unit) -> bool:
        """Tell whether a unit's result is on disk."""
        return self.part_path(unit).exists()

    def commit(self, unit: Unit, table: pa.Table, note: dict[str, Any]) -> None:
        """Write a unit's result; the first commit wins."""
        path = self.part_path(unit)
        if path.exists():
            return
        metadata = {"step": self.step, "digest": self.digest, "unit": unit.number, "work": unit.work, **note}
        stamped = table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata).encode()})
        write_atomically(path, lambda stream: pq.write_table(stamped, stream, write_page_checksum=True))

    def read(self, unit: Unit) -> tuple[pa.Table, dict[str, Any]]:
        """Read a unit's result and its note.

        Raises
        ------
        StoreError
            When the part was made with another digest.
        OSError, pa.ArrowInvalid
            When the file is torn or damaged.
        """
        table = pq.read_table(self.part_path(unit), page_checksum_verification=True)
        note = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
        if note.get("digest") != self.digest:
            raise StoreError(
                f"{self.part_path(unit)} was computed with digest {str(note.get('digest'))[:12]}, this run has "
                f"{self.digest[:12]}; results of different settings are not mixed: use another run folder"
            )
        return table, note

    def discard_damaged(self, unit: Unit) -> bool:
        """Move a part that can't be read, or is not this unit's, out of the way; tell whether it was."""
        try:
            if self.read(unit)[1].get("work") == unit.work:
                return False
        except (OSError, pa.ArrowInvalid, json.JSONDecodeError):
            pass
        path = self.part_path(unit)
        path.replace(path.with_suffix(".damaged"))
        return True

    def workspace(self) -> Path:
        """Folder for a stage that keeps files of its own."""
        return self.folder / "workspace"

    def results(self) -> pd.DataFrame:
        """All rows on disk, one for each candidate; a later unit (a retry) replaces an earlier one's row."""
        tables = [self.read(unit)[0].replace_schema_metadata(None) for unit in self.units() if self.is_done(unit)]
        if not tables:
            return pd.DataFrame()
        frame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        return frame.drop_duplicates("candidate_id", keep="last").reset_index(drop=True)

    def notes(self) -> Iterator[dict[str, Any]]:
        """What was written beside each finished unit: seconds, counts."""
        for unit in self.units():
            if self.is_done(unit):
                yield _note_of(self.part_path(unit))


def _note_of(path: Path) -> dict[str, Any]:
    try:
        metadata = pq.read_schema(path).metadata or {}
        note: dict[str, Any] = json.loads(metadata.get(_METADATA_KEY, b"{}"))
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError):
        return {}
    return note


class RunFolder:
    """Paths of a run folder and its log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.progress = path / "progress.json"
        self.current = path / "current.json"
        self.log_file = path / "log.jsonl"
        self.structures = path / "structures"

    def create(self) -> None:
        """Make the folder; OSError when it can't be written."""
        self.path.mkdir(parents=True, exist_ok=True)
        probe = self.path / f".write-probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()

    def log(self, event: str, **details: Any) -> None:
        """Append one event to log.jsonl."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **details})
        with self.log_file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def stage(self, step: str, digest: str) -> StageStore:
        """Store of one step."""
        return StageStore(self.path, step, digest)


def run_folder_of(campaign: Campaign, folder: Path | None) -> Path:
    """Where a campaign runs: as asked, as configured, else runs/<name>; relative to the working directory."""
    return folder or Path(campaign.run.folder or Path("runs") / campaign.name)
