"""The run folder: what is planned, what is done. Results are keyed by candidate and stage digest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic_files import remove_leftovers, write_atomically, write_json
from pipeline.cache import at_home
from pipeline.config import Campaign
from workflows.files import RunError, RunStoppedError, digest_of, parts_in
from workflows.sealed_parquet import SealError, sealed, unsealed

_METADATA_KEY = b"ionsieve"


class StoreError(RunError):
    """The run folder holds something that must not be mixed with this run."""


class DamagedPartError(RunStoppedError):
    """A part that was sound when the run began has been damaged since."""


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
            self._write_plan([u.work for u in (*known, *new)])
        return new

    def _write_plan(self, works: list[Any]) -> None:
        plan = {"step": self.step, "digest": self.digest, "units_sha256": digest_of(works), "units": works}
        write_json(self._plan, plan)

    def plan_is_sound(self) -> bool:
        """Tell whether the plan is as it was written; a folder without plan and parts is sound too."""
        try:
            plan = json.loads(self._plan.read_text(encoding="utf-8"))
            return isinstance(plan["units"], list) and plan["units_sha256"] == digest_of(plan["units"])
        except FileNotFoundError:
            return not any(self.folder.glob("part-*.parquet"))
        except (ValueError, KeyError, TypeError):
            return False

    def recover_plan(self) -> None:
        """Rebuild a lost plan from the parts, each of which says what it was made of."""
        works: dict[int, Any] = {}
        for path in parts_in(self.folder):
            try:
                note = _note_in(unsealed(path.read_bytes()).schema.metadata)
            except SealError:
                continue
            if note.get("digest") == self.digest and "work" in note:
                works[int(note["unit"])] = note["work"]
        self._write_plan([works.get(number, []) for number in range(max(works, default=-1) + 1)])

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
        content = sealed(stamped)
        write_atomically(path, lambda stream: stream.write(content))

    def read(self, unit: Unit) -> tuple[pa.Table, dict[str, Any]]:
        """Read a unit's result and its note.

        Raises
        ------
        StoreError
            When the part was made with another digest.
        DamagedPartError
            When the file is torn, or a bit of it has changed.
        """
        try:
            table = unsealed(self.part_path(unit).read_bytes())
        except SealError as error:
            raise DamagedPartError(
                f"{self.part_path(unit)} can't be used ({error}) and has to be computed again"
            ) from None
        note = _note_in(table.schema.metadata)
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
        except DamagedPartError:
            pass
        path = self.part_path(unit)
        path.replace(path.with_suffix(".damaged"))
        return True

    def workspace(self) -> Path:
        """Folder for a stage that keeps files of its own."""
        return self.folder / "workspace"

    def hanging(self) -> Path:
        """Folder in which a worker says what a unit was doing that took too long."""
        return self.folder / "hanging"

    def results(
        self, wanted: Callable[[pa.Field], bool] | None = None, only: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Rows on disk, one for each candidate; a later unit (a retry) replaces an earlier one's row.

        Parameters
        ----------
        wanted
            Tells which columns to read beside the id; default: all.
        only
            Candidates whose rows to read; default: all.
        """
        chosen = None if only is None else set(only)
        tables = []
        for unit in self.units():
            if not self.is_done(unit):
                continue
            table = self.read(unit)[0].replace_schema_metadata(None)
            if chosen is not None:
                table = table.filter(pa.array([c in chosen for c in table["candidate_id"].to_pylist()], pa.bool_()))
            if wanted is not None:
                table = table.select([f.name for f in table.schema if f.name == "candidate_id" or wanted(f)])
            tables.append(table)
        if not tables:
            return pd.DataFrame()
        frame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        return frame.drop_duplicates("candidate_id", keep="last").reset_index(drop=True)

    def with_lists(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of this step with its columns of lists: crystals, and paths through them."""
        first = next(filter(self.is_done, self.units()), None)
        if first is None or all(map(is_plain, self.read(first)[0].schema)):
            return rows
        lists = self.results(lambda field: not is_plain(field), rows["candidate_id"])
        rows = rows.drop(columns=[c for c in lists.columns if c != "candidate_id"], errors="ignore")
        return rows.merge(lists, on="candidate_id", how="left", validate="one_to_one")

    def notes(self) -> Iterator[dict[str, Any]]:
        """What was written beside each finished unit: seconds, counts."""
        for unit in self.units():
            if self.is_done(unit):
                yield _note_of(self.part_path(unit))


def is_plain(field: pa.Field) -> bool:
    """Tell whether a column holds no lists: a row's crystal takes more than all else, and only survivors' is needed."""
    return not pa.types.is_list(field.type)


def _note_of(path: Path) -> dict[str, Any]:
    """The note of a part that was sound when the run began, from its footer alone."""
    try:
        return _note_in(pq.read_schema(path).metadata)
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        raise DamagedPartError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} can't be used ({error}) and has to be computed again"


def _note_in(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((metadata or {}).get(_METADATA_KEY, b"{}"))
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

    def remove_leftovers(self) -> None:
        """Delete what killed runs left half written; only for who holds the folder."""
        for folder in (self.path, self.structures, *self.path.glob("stages/*/*")):
            remove_leftovers(folder)
        for report in self.path.glob("stages/*/*/hanging/*.txt"):
            if report.stat().st_size == 0:  # its unit did not hang: the worker or the run was killed
                report.unlink()

    def log(self, event: str, **details: Any) -> None:
        """Append one event to log.jsonl, on a line of its own also after a line that a kill or a full disk tore."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **details})
        with self.log_file.open("a+b") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else "\n" + line
            stream.write((line + "\n").encode("utf-8"))

    def stage(self, step: str, digest: str) -> StageStore:
        """Store of one step."""
        return StageStore(self.path, step, digest)


def run_folder_of(campaign: Campaign, folder: Path | None) -> Path:
    """Where a campaign runs: as asked, as configured, else runs/<name>; relative to the working directory.

    Raises
    ------
    ConfigError
        ``~name`` of a user that does not exist.
    """
    asked = folder or Path(campaign.run.folder or Path("runs") / campaign.name)
    return at_home(asked, "--folder" if folder else "run.folder")
