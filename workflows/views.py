"""What `top`, `show` and `status` print. Reads the run folder only; imports no model and no Dask."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline import schema
from pipeline.config import ConfigError, Problem
from workflows.files import read_json
from workflows.lock import is_held

# column, title, format, and whether it gives way on a narrow terminal
_TOP = (
    ("rank", "#", "d", False),
    ("formula_pretty", "formula", "", False),
    ("spacegroup_relaxed", "sg", "d", True),
    ("score", "score", ".3f", False),
    ("pareto_front", "front", "d", True),
    ("energy_above_hull", "E hull\n/meV/atom", "meV", False),
    ("band_gap", "gap\n/eV", ".2f", False),
    ("reduction_limit", "red.\n/V", ".2f", True),
    ("oxidation_limit", "ox.\n/V", ".2f", True),
    ("migration_barrier_3d", "barrier\n3D /eV", ".2f", True),
    ("bulk_modulus", "bulk mod.\n/GPa", ".0f", True),
    ("cost_per_kg", "cost\n/USD/kg", ".0f", True),
    ("density", "density\n/g/cm3", ".2f", True),
    ("candidate_id", "candidate", "", False),
)
WIDE = 130


def read_ranked(folder: Path) -> pd.DataFrame:
    """Read ranked_candidates.csv; ConfigError says what to do when there is none."""
    path = folder / "ranked_candidates.csv"
    if not path.exists():
        raise ConfigError([Problem(str(folder), "has no ranked_candidates.csv; finish it with `ionsieve run`")])
    text = {c.name: str for c in schema.COLUMNS if c.dtype == "string"}
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=text)
        return table.astype({"candidate_id": str, "shortlisted": bool})
    except (ValueError, KeyError):
        text_of_it = "is damaged; run the same `ionsieve run` again: it is written anew, and finished units are kept"
        raise ConfigError([Problem(str(path), text_of_it)]) from None


def caution(folder: Path) -> str | None:
    """What to say when the results may be of earlier settings: a later run has started and not finished."""
    if read_json(folder / "manifest.json").get("finished"):
        return None
    what = "a run is at work in this folder" if is_held(folder) else "the last run in this folder has not finished"
    return f"{what}: the ranked table, where there is one, is of an earlier run"


def as_json(records: Any) -> str:
    """JSON with null for what is missing or not finite, numbers in full."""
    return json.dumps(_finite(records), indent=1, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def ranked_table(ranked: pd.DataFrame, count: int, width: int = WIDE) -> Table:
    """The first rows as a table: units in the header, marks in the last column; fewer columns when it is narrow."""
    table = Table(title=None, header_style="bold", pad_edge=False, box=None)
    shown = [entry for entry in _TOP if entry[0] in ranked.columns and (width >= WIDE or not entry[3])]
    rows = [
        [*(_cell(row[name], form) for name, _, form, _ in shown), marks(row)]
        for row in ranked.head(count).to_dict("records")
    ]
    titles = [title for _, title, _, _ in shown] + ["marks"]
    for i, title in enumerate(titles):
        longest = max([len(row[i]) for row in rows] + [len(line) for line in title.split("\n")])
        number = i < len(shown) and bool(shown[i][2])
        fixed = None if title == "marks" else longest
        table.add_column(title, justify="right" if number else "left", min_width=fixed, no_wrap=title != "marks")
    for row in rows:
        table.add_row(*row)
    return table


def _cell(value: Any, form: str) -> str:
    if value is None or value != value:
        return "-"
    if form == "meV":
        return f"{1000 * float(value):.0f}"
    if form == "d":
        return str(int(value))
    return f"{float(value):{form}}" if form else str(value)


def marks(row: dict[str, Any]) -> str:
    """Words for a row: shortlisted, control, known, suspect, duplicate."""
    words = []
    if _true(row.get("shortlisted")):
        words.append("shortlist")
    if _true(row.get("is_parent")):
        words.append("parent")
    if _true(row.get("is_known")):
        words.append("known")
    if _true(row.get("suspect")):
        words.append("suspect")
    duplicate = row.get("duplicate_of")
    if isinstance(duplicate, str) and duplicate:
        words.append("duplicate")
    return " ".join(words)


def _true(value: Any) -> bool:
    return value is True or str(value) == "True"


def funnel_view(steps: list[dict[str, Any]]) -> Table:
    """The funnel: what entered each step, what passed, and why the rest did not."""
    table = Table(header_style="bold", pad_edge=False, box=None)
    for title, justify in (
        ("step", "left"),
        ("gates", "left"),
        ("entered", "right"),
        ("passed", "right"),
        ("", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=title != "gates")  # type: ignore[arg-type]
    table.add_column("out because")
    for step in steps:
        share = f"{step['passed'] / step['entered']:.1%}" if step["entered"] else "-"
        reasons = ", ".join(f"{k} {v:,}" for k, v in step["rejected_by"].items()) or "-"
        table.add_row(step["step"], step["gates"] or "-", f"{step['entered']:,}", f"{step['passed']:,}", share, reasons)
    return table


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """Steps that a run has finished so far."""
    if not (folder / "progress.json").exists():
        raise ConfigError([Problem(str(folder), "is no run folder, or its run has not finished a step yet")])
    steps = read_json(folder / "progress.json").get("steps")
    if not isinstance(steps, list):
        raise ConfigError([Problem(str(folder / "progress.json"), "is damaged; run the same `ionsieve run` again")])
    return steps


def unfinished_work(folder: Path) -> list[tuple[str, int, int]]:
    """The step under way, if it has planned units that are not on disk: (step, units done, units planned)."""
    if not (folder / "current.json").exists():
        return []
    current = read_json(folder / "current.json")
    plan = folder / "stages" / str(current.get("step")) / str(current.get("digest"))[:12] / "plan.json"
    if not plan.exists():
        return []
    planned = len(read_json(plan).get("units", []))
    done = len(list(plan.parent.glob("part-*.parquet")))
    return [(str(current["step"]), done, planned)] if done < planned else []


def candidate_of_rank(folder: Path, text: str) -> str:
    """The candidate_id that was meant: the text itself, or that of a rank."""
    if not text.isdigit():
        return text
    ranked = read_ranked(folder)
    found = ranked.loc[ranked["rank"] == int(text), "candidate_id"]
    if not len(found):
        raise ConfigError([Problem(str(folder), f"has no rank {text}; its last one is {len(ranked)}")])
    return str(found.iloc[0])


def everything_about(folder: Path, candidate: str) -> dict[str, Any]:
    """All columns that any stage of this run wrote for one candidate, rejected ones included."""
    found: dict[str, Any] = {}
    for step in read_steps(folder):
        for part in sorted((folder / "stages" / step["step"] / step["digest"][:12]).glob("part-*.parquet")):
            try:
                rows = pq.read_table(part, filters=[("candidate_id", "==", candidate)]).to_pylist()
            except (OSError, pa.ArrowInvalid):  # damaged: the next run computes it again
                continue
            if rows:
                found.update(rows[-1])
    if not found:
        text = f"has no candidate {candidate!r}; `ionsieve top {folder}` lists the ranked ones"
        raise ConfigError([Problem(str(folder), text)])
    if (folder / "ranked_candidates.csv").exists():
        table = read_ranked(folder)
        for row in table[table["candidate_id"] == candidate].to_dict("records"):
            found.update({c.name: row[c.name] for c in schema.columns_of("ranking") if c.name in row})
    return found


def print_everything(console: Console, found: dict[str, Any]) -> None:
    """Print one candidate, stage by stage, with units."""
    table = Table(header_style="bold", pad_edge=False, box=None)
    for title in ("stage", "column", "value", "unit"):
        table.add_column(title, overflow="fold")
    stage = ""
    for column in [
        *schema.COLUMNS,
        *(schema.column(n) for n in found if n not in {c.name for c in schema.COLUMNS}),
    ]:
        if column.name not in found or column.name in (
            "lattice",
            "atomic_numbers",
            "frac_coords",
            "oxidation_states",
        ):
            continue
        value = found[column.name]
        if value is None or value == "" or value != value:
            continue
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        table.add_row(column.stage if column.stage != stage else "", column.name, text, column.unit)
        stage = column.stage
    console.print(table)
