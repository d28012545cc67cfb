"""A section for each candidate that is worth one: its facts by stage, its origin, its structure, its figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import schema
from pipeline.config import Campaign
from workflows.caveats import NOT_CHECKED
from workflows.report import arrhenius_figure, candidate_figures, phase_diagrams
from workflows.report.phase_diagrams import ChemicalSystem
from workflows.report.run_data import RunData
from workflows.report.wording import shown, title_of

SECTIONS = 500
"""Candidates with a section: the shortlist first, then controls and suspects, each by rank."""

_IN_THE_HEADING = frozenset({"rank", "formula_pretty", "candidate_id", "shortlisted", "is_control", "suspect"})
_OF_THE_RELAXATION = frozenset(
    {"volume", "volume_change", "relaxation_steps", "relaxation_converged", "relaxation_given_up", "max_force"}
    | {"surrogate", "surrogate_sha256"}
)
_OF_THE_UNCERTAINTY = frozenset(
    {"energy_above_hull_error", "stability_probability", "energy_disagreement", "relaxation_converged"}
)
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+()\[\]-]*")
_PROTOTYPES = (("aflow-", "AFLOW prototypes"), ("mp-", "Materials Project data"))


@dataclass(frozen=True)
class Fact:
    """One cell of the ranked table: its text in the CSV, how it is shown, unit and meaning."""

    name: str
    title: str
    value: str
    shown: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class FactGroup:
    """Facts that belong together, under a heading."""

    title: str
    facts: list[Fact]


@dataclass(frozen=True)
class Section:
    """One candidate's section."""

    anchor: str
    kind: str
    standing: str
    row: dict[str, str]
    groups: list[FactGroup]
    prototype_citation: str
    cif: str
    figures: dict[str, dict[str, Any]]


def chosen_positions(run: RunData) -> list[int]:
    """Positions of the candidates that get a section, in the order of rank; the picked one is among them."""
    kinds = run.ranked.kinds
    chosen: list[int] = []
    if run.decision:
        picked = run.ranked.text["candidate_id"] == run.decision["candidate_id"]
        chosen += run.ranked.text.index[picked].tolist()
    for kind in ("shortlist", "control", "suspect"):
        chosen += kinds.index[kinds == kind].tolist()
    return sorted(dict.fromkeys(chosen[:SECTIONS]))


def section_of(run: RunData, position: int, anchor: str, systems: Mapping[str, ChemicalSystem]) -> Section:
    """Everything that the page shows of one candidate."""
    row = {str(name): str(value) for name, value in run.ranked.text.loc[position].items()}
    drawn = {
        "window": candidate_figures.window_figure(row, run.campaign),
        "barrier": candidate_figures.barrier_figure(row),
        "arrhenius": arrhenius_figure.arrhenius_figure(row),
    }
    name = row["chemsys"]
    if name in systems:
        drawn["phases"] = phase_diagrams.candidate_figure(systems[name], row, name)
    return Section(
        anchor=anchor,
        kind=str(run.ranked.kinds[position]),
        standing=run.standing(position),
        row=row,
        groups=_groups(row, run.reach.unlisted),
        prototype_citation=_prototype_citation(row.get("prototype_source", ""), run.manifest.get("citations", [])),
        cif=_cif_of(run.folder / "structures", row["candidate_id"]),
        figures={f"{anchor}-{name}": figure for name, figure in drawn.items() if figure is not None},
    )


def looks(campaign: Campaign) -> dict[str, dict[str, Any]]:
    """What the figures of all sections share, so that it stands in the page once: traces by name, and a layout."""
    return {
        **candidate_figures.window_looks(campaign),
        candidate_figures.BARRIERS: candidate_figures.barrier_look(),
        arrhenius_figure.LOOK: arrhenius_figure.look(),
        phase_diagrams.LOOK: phase_diagrams.look(),
    }


def _groups(row: dict[str, str], unlisted: str) -> list[FactGroup]:
    groups: dict[str, list[Fact]] = {}
    told = _told_beside_the_plot(row) if row.get("md_series") else frozenset()
    for name in sorted(row, key=schema.position):
        value, declared = row[name], schema.column(name)
        told_empty = unlisted if name == "is_known" else NOT_CHECKED if name == "in_database" else ""
        if not (value or told_empty) or name in _IN_THE_HEADING or name in told or declared.stage == "gates":
            continue
        if name.endswith("_status") and value == "ok":
            continue
        text = shown(value, declared.dtype) or told_empty
        fact = Fact(name, title_of(name), value, text, declared.unit, declared.meaning)
        groups.setdefault(_heading_of(name, declared.stage), []).append(fact)
    leading = ["stability", "uncertainty", "relaxation"]
    order = [*(g for g in leading if g in groups), *(g for g in groups if g not in (*leading, "candidates", "ranking"))]
    order += [g for g in ("ranking", "candidates") if g in groups]
    return [FactGroup({"candidates": "origin"}.get(g, title_of(g)), groups[g]) for g in order]


def _told_beside_the_plot(row: dict[str, str]) -> frozenset[str]:
    """Columns of the dynamics that stand in the text beside its plot."""
    told = {"md_ions", "md_notes"}
    for name in ("md_activation_energy", "conductivity_md_300K"):
        ends = (f"{name}_low", f"{name}_high")
        if row.get(name):
            told |= {name, *ends} if all(row.get(end) for end in ends) else {name}
    return frozenset(told)


def _heading_of(name: str, stage: str) -> str:
    if name in _OF_THE_RELAXATION:
        return "relaxation"
    return "uncertainty" if name in _OF_THE_UNCERTAINTY else stage


def _prototype_citation(source: str, citations: list[str]) -> str:
    for prefix, start in _PROTOTYPES:
        if source.startswith(prefix):
            return next((c for c in citations if c.startswith(start)), "")
    return ""


def _cif_of(folder: Path, candidate_id: str) -> str:
    """The structure's CIF, '' when there is none; a name that could lead out of the folder is no candidate's."""
    if not _SAFE_NAME.fullmatch(candidate_id):
        return ""
    path = folder / f"{candidate_id}.cif"
    return path.read_text(encoding="utf-8") if path.is_file() and not path.is_symlink() else ""
