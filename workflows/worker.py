"""What runs inside a Dask worker: references loaded once, then one unit at a time."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from distributed import Worker, WorkerPlugin, get_worker

from pipeline import schema
from pipeline.references import References
from pipeline.settings import StageSettings

PLUGIN = "ionsieve-references"


class ReferencesPlugin(WorkerPlugin):
    """Give every worker the campaign's references; models and tables load on first use and stay."""

    name = PLUGIN

    def __init__(self, references: References, threads: int) -> None:
        self.references = references
        self.threads = threads

    def setup(self, worker: Worker) -> None:
        """Leave Ctrl-C to the client: the terminal sends it to the workers too. Dask calls this once a worker."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def worker_references() -> References:
    """References of the worker that runs this task."""
    plugin = get_worker().plugins[PLUGIN]
    # Before torch is loaded its number of threads comes from the environment, and enumeration never loads it.
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != plugin.threads:
        torch.set_num_threads(plugin.threads)
    return plugin.references  # type: ignore[no-any-return]


@dataclass(frozen=True)
class UnitResult:
    """A computed unit: the declared columns, and a note for the log (``whole``: its rows were computed together)."""

    table: pa.Table
    note: dict[str, Any]


def stage_module(stage: str) -> Any:
    """Module of a stage: ``pipeline.stages.<stage>``."""
    return importlib.import_module(f"pipeline.stages.{stage}")


def result_columns(stage: str, frame: pd.DataFrame) -> list[str]:
    """Columns that a stage's parts keep: the id, the declared ones, and its per-ion ones."""
    declared = [c.name for c in schema.columns_of(stage)]
    own = [n for n in frame.columns if n not in declared and n != "candidate_id" and _is_stages(n, stage)]
    return ["candidate_id", *declared, *own]


def _is_stages(name: str, stage: str) -> bool:
    try:
        return schema.column(name).stage == stage
    except KeyError:
        return False


def run_stage_unit(settings: StageSettings, part: pd.DataFrame, workspace: str) -> UnitResult:
    """Run one stage on one unit's rows."""
    started = time.perf_counter()
    result = stage_module(settings.stage).run(part, settings, worker_references(), Path(workspace))
    if list(result["candidate_id"]) != list(part["candidate_id"]):
        raise RuntimeError(f"stage {settings.stage} changed the rows of its part; a stage must keep them")
    table = schema.to_arrow(result, result_columns(settings.stage, result))
    return UnitResult(table, {"seconds": round(time.perf_counter() - started, 3), "rows": len(part), "whole": True})


def run_candidates_unit(work: dict[str, Any]) -> UnitResult:
    """Enumerate one unit of the candidates source."""
    from pipeline.stages import candidates

    started = time.perf_counter()
    refs = worker_references()
    table, counts = candidates.enumerate_table(work, refs.campaign.candidates, refs.library, refs.mobile_ions)
    note = {
        "seconds": round(time.perf_counter() - started, 3),
        "rows": table.num_rows,
        "counts": json.loads(json.dumps(counts)),
    }
    return UnitResult(table, note)
