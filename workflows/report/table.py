"""The sortable table: which rows and columns it holds, and a summary of the rows that it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schema
from pipeline.config import Campaign
from workflows.report.run_data import Ranked
from workflows.report.wording import title_of
from workflows.views import marks, places_in_formula

TABLE_ROWS = 2000
"""Rows of the table; more are summarised."""

_ALWAYS_SHOWN = ("rank", "formula_pretty", "score", "pareto_front")
_SHOWN_LAST = ("conductivity_md_300K", "cost_per_kg", "density", "spacegroup_relaxed", "stability_probability")


@dataclass(frozen=True)
class Summary:
    """One numeric column over all ranked rows: how many have a value, least, median and largest."""

    name: str
    unit: str
    count: int
    least: float
    median: float
    largest: float


def rows_in_table(ranked: Ranked) -> pd.Index:
    """Positions of the rows that the table holds: the first by rank, and the whole shortlist."""
    return ranked.text.index[:TABLE_ROWS].union(ranked.text.index[ranked.flags("shortlisted")])


def shown_columns(ranked: Ranked, campaign: Campaign) -> list[str]:
    """Columns that are shown at first: those that the campaign decides by, and what one looks for beside them."""
    decided = [name for stage in campaign.stages for name in stage.gates]
    decided += [term.column for term in campaign.ranking.score]
    decided += [objective.column for objective in campaign.ranking.pareto]
    wanted = dict.fromkeys((*_ALWAYS_SHOWN, *decided, *_SHOWN_LAST))
    return [name for name in wanted if name in _ALWAYS_SHOWN or ranked.has(name)]


def table_block(
    ranked: Ranked, campaign: Campaign, sections: dict[int, str], unlisted: dict[str, str]
) -> dict[str, Any]:
    """The table as the page's script reads it: columns, and rows as the text of the CSV.

    ``sections`` gives for a position in the table the anchor of that candidate's section, ``unlisted`` for a column
    what an empty cell of it means.
    """
    positions = rows_in_table(ranked)
    shown = shown_columns(ranked, campaign)
    text = ranked.text.loc[positions]
    names = list(text.columns)
    places = places_in_formula(ranked.text)
    return {
        "columns": [
            {
                **_column(name, name in shown),
                "empty": unlisted.get(name, ""),
                "filter": filter_example(ranked, campaign, name),
            }
            for name in names
        ],
        "order": [names.index(name) for name in shown],
        "rows": text.to_numpy().tolist(),
        "kinds": ranked.kinds[positions].tolist(),
        "marks": [marks(row, place) for row, place in zip(text.to_dict("records"), places[positions], strict=True)],
        "sections": [sections.get(int(i), "") for i in positions],
        "total": len(ranked),
    }


def _column(name: str, shown: bool) -> dict[str, Any]:
    declared = schema.column(name)
    number = declared.dtype in ("float64", "int64")
    return {
        "name": name,
        "title": title_of(name),
        "unit": declared.unit,
        "stage": declared.stage,
        "meaning": declared.meaning,
        "number": number,
        "float": declared.dtype == "float64",
        "shown": shown,
    }


def filter_example(ranked: Ranked, campaign: Campaign, name: str) -> str:
    """What one might write into a column's filter: a gate's bound, or a bound that half of the rows pass."""
    kind = schema.column(name).dtype
    if kind not in ("float64", "int64"):
        return "yes" if kind == "bool" else "text"
    if name == "rank":
        return "<= 10"
    numbers = ranked.numbers(name)
    finite = numbers[np.isfinite(numbers)]
    if name.startswith("spacegroup"):
        return f"= {finite.mode().min():.0f}" if len(finite) else "= 225"
    for gate in (stage.gates[name] for stage in campaign.stages if name in stage.gates):
        for sign, bound in (("<", gate.upper), (">", gate.lower)):
            if bound is not None:
                return f"{sign} {bound:g}"
    middle = float(finite.median()) if len(finite) else 1.0
    sign = ">=" if name in _more_is_better(campaign) else "<="
    return f"{sign} {middle:.0f}" if kind == "int64" or abs(middle) >= 100 else f"{sign} {middle:.2g}"


def _more_is_better(campaign: Campaign) -> set[str]:
    ranking = campaign.ranking
    wanted = {objective.column for objective in ranking.pareto if objective.goal == "max"}
    return {"score"} | wanted | {term.column for term in ranking.score if term.best > term.worst}


def summaries(ranked: Ranked, campaign: Campaign) -> list[Summary]:
    """Least, median and largest of each shown number over all ranked rows, those beyond the table too."""
    found = []
    for name in shown_columns(ranked, campaign):
        declared = schema.column(name)
        if declared.dtype != "float64":
            continue
        numbers = ranked.numbers(name)
        finite = numbers[np.isfinite(numbers)]
        if len(finite):
            found.append(
                Summary(
                    name, declared.unit, len(finite), float(finite.min()), float(finite.median()), float(finite.max())
                )
            )
    return found
