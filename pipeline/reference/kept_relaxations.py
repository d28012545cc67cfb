"""Relaxations for validations, in batches on several processes; what a folder holds is not relaxed again."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.crystal import STRUCTURE_COLUMNS, row_from_structure, structure_from_row
from pipeline.reference.formulas import structure_formula

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd

BATCH = 24
"""Crystals relaxed together."""


def starting_key(row: Mapping[Any, Any]) -> str:
    """Digest of a row's ``candidate_id`` and starting crystal: one identifier may stand for several starts."""
    start = [[float(x) for x in row[name]] for name in STRUCTURE_COLUMNS]
    return hashlib.sha256(repr([row["candidate_id"], start]).encode()).hexdigest()[:24]


def relax_and_keep(
    rows: pd.DataFrame,
    model: str,
    folder: Path,
    processes: int,
    say: Callable[[str], None],
    changes: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Relax crystals as the stability stage does; what it has relaxed with the same weights and settings is kept.

    Parameters
    ----------
    rows
        ``candidate_id`` and the structure columns.
    model
        Name or path of the potential.
    folder
        Holds what was relaxed with any model, by starting crystal, weights, settings and the stage's version.
    processes
        That relax at the same time.
    say
        Takes a line of progress.
    changes
        Of the stage's default settings, such as ``{"rattle": 0.0}``.

    Returns
    -------
    DataFrame
        One row for each of ``rows``, in their order: ``candidate_id``, ``formula_pretty``, ``chemsys``, ``nsites``,
        the relaxed crystal and the columns of a relaxation; ``energy_per_atom`` (eV) is NaN where it failed.
    """
    import pandas as pd

    from pipeline.settings import RelaxingStageSettings, StabilitySettings
    from pipeline.stage_settings import StageSettings
    from pipeline.stages.stability import STAGE_VERSION
    from pipeline.surrogates import model_digest

    folder.mkdir(parents=True, exist_ok=True)
    of_relaxations = set(RelaxingStageSettings.model_fields) - set(StageSettings.model_fields)
    settings = StabilitySettings(**(changes or {})).model_dump_json(include=of_relaxations)
    by = hashlib.sha256(repr([model_digest(model), STAGE_VERSION, settings]).encode()).hexdigest()[:16]
    keys = [f"{by} {starting_key(row)}" for row in rows.to_dict("records")]
    pattern = "relaxed-*.parquet"
    done = {key for path in folder.glob(pattern) for key in pd.read_parquet(path, columns=["start"])["start"]}
    todo = rows.assign(start=keys).drop_duplicates("start")
    todo = todo[~todo["start"].isin(done)].sort_values(["nsites", "start"], ascending=[False, True])
    parts = [todo.iloc[i : i + BATCH] for i in range(0, len(todo), BATCH)]
    with ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(_relax, part.to_dict("records"), model, folder, dict(changes or {})) for part in parts]
        for number, job in enumerate(jobs, start=1):
            job.result()
            say(f"{number} of {len(jobs)} batches relaxed")
    everything = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob(pattern))])
    return everything.drop_duplicates("start").set_index("start").loc[keys].reset_index(drop=True)


@cache
def _potential(model: str) -> Any:
    from pipeline.surrogates import load_potential

    return load_potential(model)


def _relax(rows: list[dict[Any, Any]], model: str, folder: Path, changes: dict[str, Any]) -> None:
    """Relax one batch and keep it; a crystal that fails has no energy."""
    import pandas as pd

    from pipeline.settings import StabilitySettings
    from pipeline.stages.relaxing import relax_crystals, relaxation_columns
    from pipeline.stages.rows import Failure

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    potential = _potential(model)
    starts = [structure_from_row(row) for row in rows]
    settings = StabilitySettings(**changes)
    results = relax_crystals(list(starts), [str(row["candidate_id"]) for row in rows], settings, potential)
    records = [
        {
            "start": row["start"],
            "candidate_id": row["candidate_id"],
            "formula_pretty": structure_formula(start),
            "chemsys": start.chemical_system,
            "nsites": len(start),
            **row_from_structure(start),
            "energy_per_atom": float("nan"),
        }
        | ({} if isinstance(result, Failure) else relaxation_columns(result, potential))
        for row, start, result in zip(rows, starts, results, strict=True)
    ]
    digest = hashlib.sha256(repr([row["start"] for row in rows]).encode()).hexdigest()[:16]
    path = folder / f"relaxed-{digest}.parquet"
    pd.DataFrame(records).to_parquet(path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
