"""The campaign as a whole: the funnel, what emptied it, energies above hull, controls, suspects, failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.schema import column
from workflows.report.run_data import Ranked, RunData
from workflows.report.stage_rows import Miss, StageRows, nearest_misses

if TYPE_CHECKING:
    from pipeline.dft.agreement import Agreement

SHOWN_MISSES = 5
SHOWN_ROWS = 200
"""Rows of the tables of suspects, of failures and of controls; the page says how many there are in all."""

_TWO_DISTANCES = ("energy_above_hull", "dft_energy_above_hull")


@dataclass(frozen=True)
class GateMisses:
    """The rows that came nearest to passing one gate."""

    step: str
    name: str
    gate: str
    unit: str
    rejected: int
    misses: list[Miss]


@dataclass(frozen=True)
class Emptied:
    """The step that let nothing through: what it asked, and why its rows were rejected."""

    step: str
    gates: str
    entered: int
    rejected_by: dict[str, int]
    misses: list[GateMisses]


@dataclass(frozen=True)
class Histogram:
    """Counts between edges (eV/atom), what lies beyond the last edge, and the gates' bounds."""

    counts: list[int]
    edges: list[float]
    beyond: int
    missing: int
    rows: int
    bounds: list[float]


def misses_of_gates(stages: list[StageRows]) -> list[GateMisses]:
    """For each gate that rejected rows, those that came nearest to passing."""
    found = []
    for rows in stages:
        for name, gate in rows.settings.gates.items():
            rejected = int((rows.table["reason"] == name).sum())
            if rejected and gate.equals is None:
                unit = column(name).unit
                nearest = nearest_misses(rows, name, SHOWN_MISSES)
                found.append(GateMisses(rows.settings.step, name, gate.text(name, unit), unit, rejected, nearest))
    return found


def emptied_by(run: RunData, misses: list[GateMisses]) -> Emptied | None:
    """The step that rejected every row that entered it; None when something passed the funnel."""
    if len(run.ranked):
        return None
    for step in run.steps:
        if step["passed"] == 0 and step["step"] != "competing_phases":
            of_step = [miss for miss in misses if miss.step == step["step"]]
            return Emptied(step["step"], step["gates"], step["entered"], step["rejected_by"], of_step)
    return None


def hull_histogram(stages: list[StageRows]) -> Histogram | None:
    """Energies above hull of all candidates that were relaxed, with the gates; None when there are none.

    The axis ends at one and a half times the gate or at the 98th percentile, whichever is more: a few exploded
    crystals would otherwise squeeze all others into one bar.
    """
    rows = next((r for r in stages if r.settings.stage == "stability"), None)
    if rows is None or "energy_above_hull" not in rows.table:
        return None
    values = rows.table["energy_above_hull"].astype("float64")
    energies = values[np.isfinite(values)].to_numpy()
    if not len(energies):
        return None
    gate = rows.settings.gates.get("energy_above_hull")
    bounds = [b for b in (gate.lower, gate.upper) if b is not None] if gate else []
    upper = max(float(np.percentile(energies, 98)), 1.5 * max(bounds, default=0.0), 0.01)
    width = _round_width((upper - min(0.0, float(energies.min()))) / 50)
    first = np.floor(min(0.0, float(energies.min())) / width)
    edges = width * np.arange(first, np.ceil(upper / width) + 1)
    counts, _ = np.histogram(energies, edges)
    return Histogram(
        counts=[int(c) for c in counts],
        edges=[round(float(e), 9) for e in edges],
        beyond=int((energies > edges[-1]).sum()),
        missing=int(len(values) - len(energies)),
        rows=len(values),
        bounds=bounds,
    )


def _round_width(width: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(width))
    return float(power * next(m for m in (1.0, 2.0, 5.0, 10.0) if m * power >= width * (1 - 1e-9)))


def best_controls_and_new(ranked: Ranked) -> pd.DataFrame:
    """The best row of each known formula and the shortlist, in rank order: ``position`` in the table, and ``kind``."""
    kinds = ranked.kinds
    controls = ranked.text[kinds == "control"].drop_duplicates("formula_pretty").index
    chosen = ranked.text.index[kinds == "shortlist"].union(controls)
    return pd.DataFrame({"position": chosen, "kind": kinds[chosen].to_numpy()})


def agreement_with_dft(ranked: Ranked) -> Agreement | None:
    """How the surrogate's energies above hull agree with DFT's over the ranked rows; None where DFT placed none."""
    if not ranked.has("dft_energy_above_hull"):
        return None
    from pipeline.dft.agreement import agreement

    return agreement(pd.DataFrame({name: ranked.numbers(name) for name in _TWO_DISTANCES}))


def failures_by_kind(failures: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Failed rows counted by step and kind of error, most frequent first."""
    kinds = [error.partition(":")[0] for error in failures["error"]]
    counts = Counter(zip(failures["step"], kinds, strict=True))
    return [(step, kind, count) for (step, kind), count in counts.most_common()]


def count_of(run: RunData) -> dict[str, Any]:
    """Headline numbers: enumerated, passed, how many of the ranked are of each kind, and what failed of which."""
    candidates = next(step for step in run.steps if step["step"] == "candidates")
    phases = next((step for step in run.steps if step["step"] == "competing_phases"), None)
    own = run.failures["step"] != "competing_phases"
    kinds = Counter(run.ranked.kinds)
    return {
        "enumerated": candidates["entered"],
        "listed": candidates["passed"],
        "ranked": len(run.ranked),
        "shortlisted": kinds["shortlist"],
        "controls": kinds["control"],
        "suspects": kinds["suspect"],
        "failed": int(run.failures.loc[own, "candidate_id"].nunique()),
        "phases": phases["entered"] if phases else 0,
        "failed_phases": phases["failed"] if phases else 0,
        "core_seconds": round(sum(step["seconds"] for step in run.steps), 1),
    }
