"""Core-seconds, bytes and memory a row of each stage, measured on a sample in one worker of this machine."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from distributed import Client

from pipeline.atomic_files import write_json
from pipeline.cache import user_cache
from pipeline.candidate_settings import CandidateSettings
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.settings import StageSettings
from pipeline.stages import candidates
from workflows.files import digest_of
from workflows.identity import Digests
from workflows.provenance import arithmetic_facts
from workflows.worker import run_candidates_unit, run_stage_unit

TIMED_UNITS = 3
TIMED_RANKS = 200_000


@dataclass(frozen=True)
class Rate:
    """Core-seconds a row (None: not measured, ``note`` says why), bytes a row on disk, and a worker's memory, GiB."""

    seconds: float | None
    bytes_on_disk: float
    memory_GiB: float  # noqa: N815  (a unit is written as it is)
    note: str = ""


class StageRates:
    """Rates of the stages in one worker of this machine, kept in the user's cache."""

    def __init__(self, client: Client | None, digests: Digests, workspace: Path, rows: pd.DataFrame) -> None:
        self.client = client
        self.digests = digests
        self.workspace = workspace
        self.rows = rows

    @property
    def n_rows(self) -> int:
        """Rows on which a stage is timed."""
        return max(4, len(self.rows))

    def of_candidates(self, settings: CandidateSettings, library: PrototypeLibrary, passing: float) -> Rate:
        """Core-seconds a distinct candidate, gates and all, from whole units drawn at random."""
        small = settings.model_copy(update={"chunk_size": min(settings.chunk_size, TIMED_RANKS)})
        units = candidates.plan_units(small, library) if self.client is not None else []
        drawn = random.Random(1).sample(units, min(len(units), TIMED_UNITS))

        def measure(client: Client) -> Rate:
            client.submit(run_candidates_unit, drawn[0], pure=False).result()
            results = [client.submit(run_candidates_unit, unit, pure=False).result() for unit in drawn]
            enumerated = sum(r.note["counts"]["enumerated"] for r in results)
            seconds = sum(r.note["seconds"] for r in results) / max(1, enumerated)
            rows = sum(r.table.num_rows for r in results)
            size = sum(r.table.nbytes for r in results) / max(1, rows) / 4  # as Parquet, about
            return Rate(seconds, size, _memory(client))

        if self.client is not None and not drawn:
            return Rate(0.0, 0.0, 0.0, "no candidates")
        return self._kept("candidates", [self.digests.candidates(), passing], measure)

    def of_stage(self, settings: StageSettings, rows: pd.DataFrame | None = None) -> Rate:
        """Core-seconds a row of a stage on the sample; each stage gets the rows as the one before left them."""
        own = rows is None
        part = self.rows if rows is None else rows.reset_index(drop=True)
        if not len(part):
            return Rate(0.0, 0.0, 0.0, "no candidate of the sample passes the cheap gates")

        def measure(client: Client) -> Rate:
            workspace = str(self.workspace / settings.step)
            client.submit(run_stage_unit, settings, part.head(2), workspace, pure=False).result()
            result = client.submit(run_stage_unit, settings, part, workspace, pure=False).result()
            if own:
                frame = result.table.to_pandas()
                kept = [c for c in self.rows.columns if c == "candidate_id" or c not in frame.columns]
                self.rows = self.rows[kept].merge(frame, on="candidate_id", validate="one_to_one")
            return Rate(result.note["seconds"] / len(part), result.table.nbytes / len(part), _memory(client))

        if settings.stage == "competing_phases":
            digest = self.digests.competing_phases()
        else:
            digest = self.digests.stage(settings)
        return self._kept(settings.step, [digest, part["candidate_id"].tolist()], measure)

    def _kept(self, step: str, key: list[Any], measure: Any) -> Rate:
        path = user_cache() / "rates" / f"{step}-{digest_of([key, arithmetic_facts()])[:16]}.json"
        if self.client is None:
            try:
                return Rate(**json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                return Rate(None, 0.0, 0.0, "not measured yet on this machine")
        rate: Rate = measure(self.client)
        with suppress(OSError):  # a cache that can't be written: it is measured again
            write_json(path, asdict(rate))
        return rate


def _memory(client: Client) -> float:
    return max(client.run(_resident).values()) / 2**30


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
