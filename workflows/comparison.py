"""Two runs beside each other: settings, funnel, ranks, decisions of the gates, energies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kernels.rank_statistics import spearman
from pipeline.problems import read_yaml
from workflows.caveats import read_reach
from workflows.files import read_json
from workflows.step_results import outcomes, read_step
from workflows.views import read_ranked, read_steps

ENERGIES = ("energy_above_hull", "formation_energy_per_atom")
NO_CANDIDATE = "no candidate"
_PROVENANCE = ("models", "reference", "library", "versions", "hardware")
_NAMES = ("name", "stage", "column")
_SIDES = ("_a", "_b")


class Difference(NamedTuple):
    """One setting or fact that differs; None where a run does not have it."""

    key: str
    a: Any
    b: Any


class EnergyDifference(NamedTuple):
    """How an energy differs (b - a, eV/atom) over the candidates that both runs have it for."""

    column: str
    rows: int
    mean: float
    median_absolute: float
    largest: float
    largest_candidate: str


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared.

    ``candidates`` has a row for each candidate that is ranked in either run, or that both runs have with different
    outcomes: ``candidate_id, formula_pretty``, and with the suffixes ``_a`` and ``_b`` ``outcome, rank, shortlisted,
    energy_above_hull, formation_energy_per_atom``; ``rank_change`` is rank_b - rank_a.
    ``caveats`` are those of each run's ranked table (:mod:`workflows.caveats`).
    ``rank_correlation`` is Spearman's over ``common_ranked`` candidates, None where fewer than two are common.
    """

    runs: tuple[Path, Path]
    settings: list[Difference]
    provenance: list[Difference]
    funnel: pd.DataFrame
    in_both: int
    only_a: int
    only_b: int
    rank_correlation: float | None
    common_ranked: int
    energies: list[EnergyDifference]
    candidates: pd.DataFrame
    caveats: tuple[list[str], list[str]]

    @property
    def shortlists(self) -> dict[str, list[str]]:
        """Shortlisted candidates of both runs, and of one alone, in the order of rank."""
        ids = {side: self._shortlisted(side) for side in _SIDES}
        return {
            "both": [c for c in ids["_a"] if c in set(ids["_b"])],
            "only_a": [c for c in ids["_a"] if c not in set(ids["_b"])],
            "only_b": [c for c in ids["_b"] if c not in set(ids["_a"])],
        }

    def _shortlisted(self, side: str) -> list[str]:
        rows = self.candidates[self.candidates[f"shortlisted{side}"]]
        return list(rows.sort_values(f"rank{side}")["candidate_id"])

    @property
    def decisions(self) -> pd.DataFrame:
        """Candidates of both runs on which the gates decided differently."""
        table = self.candidates
        both = (table["outcome_a"] != NO_CANDIDATE) & (table["outcome_b"] != NO_CANDIDATE)
        return table[both & (table["outcome_a"] != table["outcome_b"])]

    @property
    def moved(self) -> pd.DataFrame:
        """Candidates ranked in both runs whose rank differs, the farthest first."""
        table = self.candidates[self.candidates["rank_change"].fillna(0) != 0]
        far = table["rank_change"].abs()
        return table.assign(_far=far).sort_values(["_far", "rank_a"], ascending=[False, True]).drop(columns="_far")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runs": [str(run) for run in self.runs],
            "caveats": dict(zip("ab", self.caveats, strict=True)),
            "settings": [difference._asdict() for difference in self.settings],
            "provenance": [difference._asdict() for difference in self.provenance],
            "funnel": _records(self.funnel),
            "candidates": {"both": self.in_both, "only_a": self.only_a, "only_b": self.only_b},
            "shortlists": self.shortlists,
            "rank_correlation": self.rank_correlation,
            "common_ranked": self.common_ranked,
            "moved": _records(self.moved[["candidate_id", "rank_a", "rank_b", "rank_change"]]),
            "decisions": _records(self.decisions[["candidate_id", "outcome_a", "outcome_b"]]),
            "energies": [energy._asdict() for energy in self.energies],
        }


def compare_runs(a: Path, b: Path) -> Comparison:
    """Compare two run folders.

    Raises
    ------
    ConfigError
        When one of them is no run folder with a ranked table, or a file is damaged.
    """
    steps_a, steps_b = read_steps(a), read_steps(b)
    tables = [read_ranked(run) for run in (a, b)]
    ranked = _beside(*(table[["candidate_id", "rank", "shortlisted"]] for table in tables))
    fates = _beside(outcomes(a, steps_a), outcomes(b, steps_b))
    in_a, in_b = fates["outcome_a"].notna(), fates["outcome_b"].notna()
    energies = _beside(_energies(a, steps_a), _energies(b, steps_b))
    differ = in_a & in_b & (fates["outcome_a"] != fates["outcome_b"])
    table = fates[differ | fates["candidate_id"].isin(ranked["candidate_id"])]
    table = table.merge(ranked, "left", "candidate_id").merge(energies, "left", "candidate_id")
    common = ranked.dropna(subset=["rank_a", "rank_b"])
    correlation = spearman(*(common[f"rank{s}"].to_numpy(np.float64) for s in _SIDES)) if len(common) > 1 else None
    return Comparison(
        runs=(a, b),
        settings=_differences(*(read_yaml(run / "config.yaml")[0] for run in (a, b))),
        provenance=_differences(*(_provenance(run) for run in (a, b))),
        funnel=_funnels(steps_a, steps_b),
        in_both=int((in_a & in_b).sum()),
        only_a=int((in_a & ~in_b).sum()),
        only_b=int((in_b & ~in_a).sum()),
        rank_correlation=correlation,
        common_ranked=len(common),
        energies=[found for name in ENERGIES if (found := _energy_difference(energies, name))],
        candidates=_tidy(table),
        caveats=(read_reach(a).caveats(tables[0]), read_reach(b).caveats(tables[1])),
    )


def _energies(folder: Path, steps: list[dict[str, Any]]) -> pd.DataFrame:
    step = next((step for step in steps if step["stage"] == "stability"), None)
    names = ["candidate_id", *ENERGIES]
    table = pd.DataFrame(columns=names) if step is None else read_step(folder, step, names)
    return table.reindex(columns=names).astype(dict.fromkeys(ENERGIES, "float64"))


def _beside(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Rows of both by candidate_id; the formula, which the id fixes, is kept once."""
    table = a.merge(b, "outer", "candidate_id", suffixes=_SIDES)
    if "formula_pretty_a" in table:
        formula = table["formula_pretty_a"].fillna(table["formula_pretty_b"])
        table = table.drop(columns=["formula_pretty_a", "formula_pretty_b"])
        table.insert(1, "formula_pretty", formula)
    return table


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    for side in _SIDES:
        table[f"outcome{side}"] = table[f"outcome{side}"].fillna(NO_CANDIDATE)
        table[f"shortlisted{side}"] = table[f"shortlisted{side}"].eq(True)
        table[f"rank{side}"] = table[f"rank{side}"].astype("Int64")
    table.insert(2, "rank_change", table["rank_b"] - table["rank_a"])
    return table.sort_values(["rank_a", "rank_b", "candidate_id"]).reset_index(drop=True)


def _energy_difference(energies: pd.DataFrame, name: str) -> EnergyDifference | None:
    change = (energies[f"{name}_b"] - energies[f"{name}_a"]).dropna()
    if not len(change):
        return None
    farthest = change.abs().idxmax()
    return EnergyDifference(
        name,
        len(change),
        float(change.mean()),
        float(change.abs().median()),
        float(change[farthest]),
        str(energies.at[farthest, "candidate_id"]),
    )


def _funnels(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> pd.DataFrame:
    """Counts of each step in both runs, in the order of the first; steps of the second alone come last."""
    names = ["step", "gates", "entered", "passed"]
    table = pd.DataFrame(a, columns=names).merge(pd.DataFrame(b, columns=names), "outer", "step", suffixes=_SIDES)
    order = {name: i for i, name in enumerate(dict.fromkeys(step["step"] for step in (*a, *b)))}
    table = table.sort_values("step", key=lambda s: s.map(order)).reset_index(drop=True)
    counts = [f"{name}{side}" for name in ("entered", "passed") for side in _SIDES]
    return table.astype(dict.fromkeys(counts, "Int64"))


def _provenance(folder: Path) -> dict[str, Any]:
    manifest = read_json(folder / "manifest.json")
    return {name: manifest[name] for name in _PROVENANCE if name in manifest}


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    flat_a, flat_b = dict(_leaves(a)), dict(_leaves(b))
    keys = dict.fromkeys([*flat_a, *flat_b])
    return [Difference(k, flat_a.get(k), flat_b.get(k)) for k in keys if flat_a.get(k) != flat_b.get(k)]


def _leaves(value: Any, place: str = "") -> list[tuple[str, Any]]:
    """Settings by their place; of a list of stages or terms, each by its name, and the order of the names."""
    if isinstance(value, dict):
        return [
            leaf for key, below in value.items() for leaf in _leaves(below, f"{place}.{key}" if place else str(key))
        ]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        names = [str(next((item[n] for n in _NAMES if n in item), i)) for i, item in enumerate(value)]
        below = [leaf for name, item in zip(names, value, strict=True) for leaf in _leaves(item, f"{place}.{name}")]
        return [(place, names), *below]
    return [(place, value)]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in table.to_dict("records")]
