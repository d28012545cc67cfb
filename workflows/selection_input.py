"""What a selection starts from: a run's relaxed candidates and gates, settings of DFT, and crystals that are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from pipeline import schema
from pipeline.config import ConfigError, Problem
from pipeline.crystal import STRUCTURE_COLUMNS, has_structure
from pipeline.dft.settings import DftSettings
from pipeline.problems import placed_problem, read_yaml
from pipeline.selection.scores import uncertainty_columns
from pipeline.training.findings import Findings
from pipeline.training.label_checks import crystal_trouble
from pipeline.training.reading import read_rows
from workflows.step_results import entrants, gating_settings, read_step
from workflows.views import read_steps

if TYPE_CHECKING:
    from pipeline.gates import Gate

_CANDIDATE = ("candidate_id", "formula_pretty", "prototype_id", "prototype_source", "nsites")
_STABILITY = (
    "energy_per_atom",
    "energy_above_hull",
    "energy_above_hull_error",
    "energy_disagreement",
    "relaxation_given_up",
    "surrogate",
    "surrogate_sha256",
    "suspect",
    "suspect_reason",
    "stability_status",
)
_DEFAULT_ENGINE = "vasp"


def relaxed_candidates(folder: Path, *, suspects: bool) -> pd.DataFrame:
    """Candidates in a run's funnel whose relaxation came to its end, by candidate_id, with their crystals.

    Parameters
    ----------
    folder
        The run's.
    suspects
        Whether those come too that are too good or too strange to be believed.

    Raises
    ------
    ConfigError
        When the run has relaxed nothing yet.
    """
    steps = read_steps(folder)
    relaxed = next((step for step in steps if step["stage"] == "stability"), None)
    if relaxed is None:
        text = "has no relaxed crystals: stage stability has not finished; finish it with `ionsieve run`"
        raise ConfigError([Problem(str(folder), text)])
    entered = entrants(folder, steps, relaxed["step"])
    table = read_step(folder, relaxed, ["candidate_id", *_STABILITY, *STRUCTURE_COLUMNS], entered)
    for name in (*_STABILITY, *STRUCTURE_COLUMNS):
        if name not in table:
            table[name] = None
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    whole = [has_structure(row) and crystal_trouble(row) is None for row in rows]
    kept = np.array(whole, bool) & (table["stability_status"] == "ok") & ~table["relaxation_given_up"].isin([True])
    if not suspects:
        kept &= ~table["suspect"].isin([True])
    table = table[kept]
    if not len(table):
        raise ConfigError([Problem(str(folder), "holds no candidate whose relaxation came to its end")])
    names = read_step(folder, steps[0], list(_CANDIDATE), only=list(table["candidate_id"]))
    return table.merge(names, on="candidate_id", how="left").sort_values("candidate_id", ignore_index=True)


def gated_quantities(folder: Path, table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, Gate]]]:
    """The candidates with every gated quantity that has an uncertainty, and the gates on them in the funnel's order."""
    done = {step["stage"]: step for step in read_steps(folder)}
    gates: list[tuple[str, Gate]] = []
    for settings in gating_settings(folder / "config.yaml"):
        for name, gate in settings.gates.items():
            columns = uncertainty_columns(name, [column.name for column in schema.COLUMNS])
            step = done.get(schema.column(name).stage)
            if not columns or step is None:
                continue
            new = [column for column in (name, *columns) if column not in table]
            if new:
                rows = read_step(folder, step, ["candidate_id", *new], only=list(table["candidate_id"]))
                table = table.merge(rows, on="candidate_id", how="left")
            gates.append((name, gate))
    return table, gates


def disagreement_bound(folder: Path) -> float:
    """eV/atom above which the campaign takes a row for suspect (``suspect.energy_disagreement_above``)."""
    from pipeline.settings import SuspectSettings

    stage = _stage(folder, "stability").get("suspect") or {}
    given = stage.get("energy_disagreement_above", SuspectSettings().energy_disagreement_above)
    return float(given)


def dft_settings(folder: Path, engine: str | None, file: Path | None) -> DftSettings:
    """Settings of the single points: the file's, else those of the run's stage dft, else the defaults with VASP.

    Parameters
    ----------
    folder
        The run's.
    engine
        Instead of the one that stands there.
    file
        YAML with keys of stage dft.

    Raises
    ------
    ConfigError
        With everything that is wrong with them.
    """
    place = file if file is not None else folder / "config.yaml"
    given, lines = read_yaml(file, "keys of stage dft such as engine") if file else (_stage(folder, "dft"), {})
    if file is not None and given.get("relax", "none") != "none":
        raise ConfigError([Problem(f"{file}:{lines[('relax',)]}", "relax: labels are single points; leave it out")])
    asked = {"engine": _DEFAULT_ENGINE} if not given else {}
    asked = {**asked, **given, "relax": "none", "gates": {}} | ({"engine": engine} if engine else {})
    try:
        return DftSettings.model_validate(asked)
    except ValidationError as error:
        problems = [placed_problem(place, lines, dict(item), DftSettings) for item in error.errors()]
        raise ConfigError(problems) from None


def _stage(folder: Path, name: str) -> dict[str, Any]:
    """A stage of the run's campaign as it is written; empty when there is none."""
    stages = read_yaml(folder / "config.yaml")[0].get("stages") or []
    found = (dict(stage) for stage in stages if isinstance(stage, dict) and stage.get("stage") == name)
    return next(found, {})


def known_crystals(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Crystals of files of labels (or of earlier selections' structures.extxyz), as rows.

    Raises
    ------
    ConfigError
        With everything that is wrong, by file and row.
    """
    findings, rows = Findings(), []
    for path in files:
        frame = read_rows(path, findings)
        for n, row in enumerate([] if frame is None else frame.to_dict("records"), start=1):
            own = {str(name): value for name, value in row.items()}
            trouble = crystal_trouble(own)
            if trouble is not None:
                findings.add(trouble[0], str(path), n, trouble[1])
            rows.append(own)
    findings.raise_if_any()
    return rows
