"""Relaxed competing phases that the campaigns of one user share: whole work units, in the user's cache.

A crystal's float32 result moves in its last digits with its companions in the batch. So what is kept is a work unit,
named by the digest of all its starting crystals and of the conditions: whoever relaxed it, it has the same bytes, and a
run that finds units here ends like one that relaxes them itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.atomic_files import write_atomically
from pipeline.cache import user_cache
from pipeline.config import Campaign
from pipeline.crystal import STRUCTURE_COLUMNS
from pipeline.settings import CompetingPhasesSettings, RelaxingStageSettings
from pipeline.stages.relaxing import for_reference
from workflows.engine import Committed
from workflows.files import digest_of
from workflows.store import StageStore, Unit
from workflows.worker import UnitResult

_METADATA_KEY = b"ionsieve"
# The limit behind the last one may be what this machine's memory holds.
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemory", "GraphTooLarge")


class RelaxedPhases:
    """Units of relaxed competing phases, in a folder that holds those of one set of conditions.

    File names are hexadecimal digests: nothing that a user names can lead out of the folder.
    """

    def __init__(self, conditions: str, machines: Sequence[Mapping[str, str]], say: Callable[[str], None]) -> None:
        """Open the folder of some conditions.

        Parameters
        ----------
        conditions
            Digest of what a relaxed phase depends on beside the starting crystals of its unit and the machine.
        machines
            Kinds of the workers that are there (`workflows.provenance.arithmetic_facts`). Where they are several, or
            not known yet, nothing is found and nothing kept; nor is what a later worker of another kind relaxes.
        say
            Takes a line for the user: a damaged file, a folder that can't be written.
        """
        self._conditions = digest_of(digest_of([conditions, machines]))
        self._machine = digest_of(machines[0]) if len(machines) == 1 else None
        self.folder = user_cache() / "competing_phases" / self._conditions[:16]
        self._say = say
        self._used = self._writable = self._machine is not None

    def path_of(self, part: pd.DataFrame) -> Path:
        """Where the unit of these starting crystals lies."""
        return self.folder / f"{self._key(part)}.parquet"

    def _key(self, part: pd.DataFrame) -> str:
        crystals = [
            [row["candidate_id"], *([float(x) for x in row[name]] for name in STRUCTURE_COLUMNS)]
            for row in part.to_dict("records")
        ]
        return digest_of([self._conditions, crystals])

    def find(self, part: pd.DataFrame) -> pa.Table | None:
        """Result of a unit that was relaxed before; None when there is none, or none that can be read."""
        path = self.path_of(part)
        if not self._used or not path.exists():
            return None
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            stamp = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
            if stamp == _stamp(path, table):
                return table.replace_schema_metadata(None)
        except (OSError, pa.ArrowException, ValueError, KeyError, AttributeError):
            pass
        self._say(f"{path} is damaged; its phases are relaxed again")
        return None

    def keep(self, part: pd.DataFrame, result: UnitResult) -> None:
        """Keep a unit's result, unless it had to be cut or ran out of memory: then another run would get another."""
        is_alike = result.note.get("whole") and result.note.get("machine") == self._machine
        if not self._writable or not is_alike or _ran_out_of_memory(result.table):
            return
        path = self.path_of(part)
        stamp = json.dumps(_stamp(path, result.table)).encode()
        stamped = result.table.replace_schema_metadata({_METADATA_KEY: stamp})
        try:
            write_atomically(path, lambda stream: pq.write_table(stamped, stream, write_page_checksum=True))
        except OSError as error:
            self._writable = False
            self._say(f"{self.folder} can't be written ({error.strerror}); relaxed phases are not kept for other runs")


def _stamp(path: Path, table: pa.Table) -> dict[str, str]:
    """Which unit it is, and the digest of its rows: Parquet's own checksums leave parts of a file unchecked."""
    return {"unit": path.stem, "rows": digest_of(table.to_pydict())}


def _ran_out_of_memory(table: pa.Table) -> bool:
    errors = table.column("competing_phases_error").to_pylist()
    return any(str(error).startswith(_OUT_OF_MEMORY) for error in errors)


def cut_by_system(rows: pd.DataFrame, size: int) -> list[list[str]]:
    """Cut rows into units of at most ``size`` candidates of one chemical system, in the order of the rows.

    What a unit holds then depends on its own system, not on the other elements of the campaign.
    """
    works: list[list[str]] = []
    for _, group in rows.groupby("chemsys", sort=False):
        ids = group["candidate_id"].tolist()
        works.extend(ids[i : i + size] for i in range(0, len(ids), size))
    return works


def first_tries(units: Iterable[Unit]) -> set[int]:
    """Numbers of the units that hold no candidate of an earlier one: a retry must compute, and is nobody else's."""
    seen: set[Any] = set()
    first: set[int] = set()
    for unit in units:
        if seen.isdisjoint(unit.work):
            first.add(unit.number)
        seen.update(unit.work)
    return first


def not_in_cache(
    store: StageStore,
    parts: Iterable[tuple[Unit, pd.DataFrame]],
    shared: RelaxedPhases,
    first: set[int],
    found: Callable[[Unit, int], None],
) -> Iterator[tuple[Unit, pd.DataFrame]]:
    """Commit the units that the cache holds, and pass on the others; ``found`` hears of each with its rows."""
    for unit, part in parts:
        table = shared.find(part) if unit.number in first else None
        if table is None:
            yield unit, part
            continue
        store.commit(unit, table, {"seconds": 0.0, "rows": len(part), "from_cache": True})
        found(unit, len(part))


def keeping(shared: RelaxedPhases, parts: dict[int, pd.DataFrame], committed: Committed) -> Committed:
    """Keep each unit in the cache when it has been committed."""

    def committed_and_kept(unit: Unit, result: UnitResult) -> None:
        committed(unit, result)
        if unit.number in parts:
            shared.keep(parts[unit.number], result)

    return committed_and_kept


def competing_phases_settings(campaign: Campaign) -> CompetingPhasesSettings:
    """How the self-consistent reference is relaxed: as the stability stage does."""
    stability = for_reference(next(s for s in campaign.stages if s.stage == "stability"))
    return CompetingPhasesSettings(
        **stability.model_dump(include=set(RelaxingStageSettings.model_fields) - {"stage", "name", "gates", "best"})
        | {
            "chunk_size": campaign.reference.chunk_size,
            "distance_ratio_below": stability.suspect.distance_ratio_below,
        }
    )
