"""What a run folder holds of stage ``dft``: its rows and the calculations in its workspace."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline.dft.manifest import calculations
from workflows.store import RunFolder, StageStore
from workflows.views import read_steps

_SHOWN = ("candidate_id", "dft_status", "dft_error", "dft_energy_above_hull")


def stores_of(folder: Path) -> list[StageStore]:
    """Results of a run's steps of stage ``dft``."""
    run = RunFolder(folder)
    return [run.stage(step["step"], step["digest"]) for step in read_steps(folder) if step["stage"] == "dft"]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Status, error and distance to the hull (eV/atom; None where there is none) of every row, by candidate."""
    found: list[dict[str, Any]] = []
    for store in stores_of(folder):
        table = store.results()
        if not len(table):
            continue
        for row in table.sort_values("candidate_id").to_dict("records"):
            shown = {name: row[name] for name in _SHOWN}
            if not math.isfinite(row["dft_energy_above_hull"]):
                shown["dft_energy_above_hull"] = None
            found.append(shown)
    return found


def calculations_of(folder: Path) -> list[dict[str, str]]:
    """Calculations of the stage's workspace, as `pipeline.dft.manifest.calculations` lists them."""
    return [item for store in stores_of(folder) for item in calculations(store.workspace())]
