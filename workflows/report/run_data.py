"""What a report is made of, as the run folder holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import schema
from pipeline.config import Campaign, ConfigError, Problem, load_campaign
from pipeline.reference.formulas import CompositionKey
from workflows import views
from workflows.caveats import Reach, read_reach
from workflows.decision import read_decision
from workflows.files import read_json
from workflows.stable_phases import read_stable_phases

_NEEDED = ("rank", "candidate_id", "formula_pretty", "score", "shortlisted", "is_control")


@dataclass(frozen=True)
class Ranked:
    """ranked_candidates.csv, every cell as the text that stands in the file: what is shown can't differ from it."""

    text: pd.DataFrame
    _numbers: dict[str, pd.Series] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.text)

    def has(self, name: str) -> bool:
        """Tell whether a column is there with a value in any row."""
        return name in self.text and bool((self.text[name] != "").any())

    def numbers(self, name: str) -> pd.Series:
        """A column as float64, NaN where the cell is empty."""
        if name not in self._numbers:
            self._numbers[name] = pd.to_numeric(self.text[name], errors="coerce").astype("float64")
        return self._numbers[name]

    def flags(self, name: str) -> pd.Series:
        """A true/false column; an absent column or cell is false."""
        if name not in self.text:
            return pd.Series(False, index=self.text.index)
        return (self.text[name] == "True").astype(bool)

    @cached_property
    def kinds(self) -> pd.Series:
        """Each row's kind: shortlist (known compounds too where the campaign allows them), suspect, control, other."""
        kinds = pd.Series("other", index=self.text.index, dtype=object)
        for kind, column in (("control", "is_control"), ("suspect", "suspect"), ("shortlist", "shortlisted")):
            kinds[self.flags(column)] = kind
        return kinds


@dataclass(frozen=True)
class RunData:
    """One run, read: ranked table, funnel, manifest, campaign, failures, decision, stable competing phases."""

    folder: Path
    campaign: Campaign
    ranked: Ranked
    steps: list[dict[str, Any]]
    manifest: dict[str, Any]
    failures: pd.DataFrame
    decision: dict[str, Any] | None
    ranking_explained: str
    caution: str | None
    stable_phases: dict[CompositionKey, float]
    reach: Reach

    @cached_property
    def caveats(self) -> list[str]:
        """What the ranked table can't tell."""
        return self.reach.caveats(self.ranked.text)

    def standing(self, position: int) -> str:
        """Whether the compound of a row is known, in a word."""
        return self.reach.standing(self.ranked.text.loc[position].to_dict())


def read_run(folder: Path) -> RunData:
    """Read a run folder.

    Raises
    ------
    ConfigError
        When it is no run folder, its run has not come to a ranked table, or a file is damaged; with the remedy.
    """
    steps = views.read_steps(folder)
    explanation = folder / "ranking.txt"
    return RunData(
        folder=folder,
        campaign=load_campaign(folder / "config.yaml"),
        ranked=_read_ranked(folder),
        steps=steps,
        manifest=read_json(folder / "manifest.json"),
        failures=_read_text_table(folder / "failures.csv", ("candidate_id", "step", "error")),
        decision=read_decision(folder),
        ranking_explained=explanation.read_text(encoding="utf-8").strip() if explanation.exists() else "",
        caution=views.caution(folder),
        stable_phases=read_stable_phases(folder),
        reach=read_reach(folder),
    )


def _read_ranked(folder: Path) -> Ranked:
    path = folder / "ranked_candidates.csv"
    if not path.exists():
        raise ConfigError([Problem(str(folder), "has no ranked_candidates.csv; finish it with `ionsieve run`")])
    table = _read_text_table(path, _NEEDED)
    unknown = [name for name in table.columns if not _is_declared(name)]
    if unknown:
        text = f"has columns that are not declared: {', '.join(unknown)}; run the same `ionsieve run` again"
        raise ConfigError([Problem(str(path), text)])
    return Ranked(table)


def _read_text_table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    except (OSError, ValueError) as error:
        table, why = None, str(error)
    else:
        missing = [name for name in needed if name not in table]
        why = f"it lacks {', '.join(missing)}"
        if not missing:
            return table
    text = f"is damaged ({why}); run the same `ionsieve run` again: it is written anew, and finished units are kept"
    raise ConfigError([Problem(str(path), text)])


def _is_declared(name: str) -> bool:
    try:
        schema.column(name)
    except KeyError:
        return False
    return True
