"""Order the survivors: a score with fixed bounds, Pareto fronts, controls and suspects apart, a shortlist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernels import pareto as kernel
from pipeline.config import Desirability, Objective, RankingSettings
from pipeline.crystal import has_structure, structure_from_row

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Two relaxations of one crystal from different starts differ by at most this much, eV/atom.
_SAME_ENERGY = 0.005


def desirability(values: pd.Series, term: Desirability) -> NDArray[np.float64]:
    """Map a column to 0 (worst or missing) .. 1 (best), linearly between the config's bounds and clipped."""
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    scaled = np.clip((numbers - term.worst) / (term.best - term.worst), 0.0, 1.0)
    return np.where(np.isnan(numbers), 0.0, scaled)


def score(table: pd.DataFrame, terms: tuple[Desirability, ...]) -> NDArray[np.float64]:
    """Weighted arithmetic mean of the desirabilities; shape (n,), 0 to 1."""
    total = sum(term.weight for term in terms)
    result = np.zeros(len(table))
    for term in terms:
        result += term.weight * desirability(_column(table, term.column), term)
    return result / total


def pareto_fronts(table: pd.DataFrame, objectives: tuple[Objective, ...]) -> NDArray[np.int64]:
    """Number the Pareto fronts: 1 is dominated by none, 2 only by front 1, and so on; shape (n,).

    A row dominates another when it is at least as good in every objective and better in one. A missing value counts
    as the worst possible.
    """
    costs = np.empty((len(table), len(objectives)))
    for i, objective in enumerate(objectives):
        numbers = _column(table, objective.column).to_numpy(dtype=float, na_value=np.nan)
        signed = numbers if objective.goal == "min" else -numbers
        costs[:, i] = np.where(np.isnan(signed), np.inf, signed)
    return kernel.pareto_fronts(costs)


def _believed_first(
    table: pd.DataFrame, suspect: NDArray[np.bool_], objectives: tuple[Objective, ...]
) -> NDArray[np.int64]:
    """Fronts of the rows that are believed, and behind them those of suspects: what is too good dominates nothing."""
    fronts = np.zeros(len(table), dtype=np.int64)
    for rows in (~suspect, suspect):
        if rows.any():
            fronts[rows] = fronts.max(initial=0) + pareto_fronts(table[rows], objectives)
    return fronts


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    """A column's values; all NaN where no row of a stage succeeded, so that it made none for the ion or partner."""
    return table[name] if name in table else pd.Series(np.nan, index=table.index)


def duplicates(table: pd.DataFrame) -> list[str]:
    """Name for each row the candidate that relaxed to the same crystal with a lower energy, or ''.

    Rows of one formula within 5 meV/atom are compared with pymatgen's StructureMatcher. A suspect row is never the
    one that stays.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    result = dict.fromkeys(table["candidate_id"], "")
    matcher = StructureMatcher()
    usable = table[np.asarray([has_structure(row) for row in table.to_dict("records")], dtype=bool)]
    for _, group in usable.groupby("formula_pretty", sort=True):
        ordered = group.assign(_suspect=_flags(group, "suspect"))
        rows = ordered.sort_values(["_suspect", "energy_per_atom", "candidate_id"]).to_dict("records")
        structures = [structure_from_row(row).remove_oxidation_states() for row in rows]
        for i, row in enumerate(rows):
            for j in range(i):
                near = abs(row["energy_per_atom"] - rows[j]["energy_per_atom"]) <= _SAME_ENERGY
                if near and not result[rows[j]["candidate_id"]] and matcher.fit(structures[i], structures[j]):
                    result[row["candidate_id"]] = rows[j]["candidate_id"]
                    break
    return [result[c] for c in table["candidate_id"]]


def rank(table: pd.DataFrame, settings: RankingSettings) -> pd.DataFrame:
    """Rank the survivors of the funnel.

    Suspects come after all others; within each part rows are ordered by score (highest first), then by
    candidate_id. Known compounds and parents are controls: ranked and marked, kept off the shortlist unless the
    config allows them. Duplicates never enter the shortlist, and each formula enters ``max_per_formula`` times.

    Returns
    -------
    pandas.DataFrame
        The rows in rank order with ``rank, score, pareto_front, duplicate_of, is_control, shortlisted``.
    """
    ranked = table.copy()
    flag = {name: _flags(ranked, name) for name in ("suspect", "is_known", "is_parent")}
    ranked["score"] = score(ranked, settings.score)
    ranked["pareto_front"] = _believed_first(ranked, flag["suspect"], settings.pareto)
    ranked["duplicate_of"] = duplicates(ranked) if "energy_per_atom" in ranked else [""] * len(ranked)
    ranked["is_control"] = flag["is_known"] | flag["is_parent"]
    ranked["_suspect"] = flag["suspect"]
    ranked = ranked.sort_values(["_suspect", "score", "candidate_id"], ascending=[True, False, True])
    ranked["rank"] = np.arange(1, len(ranked) + 1)
    eligible = ranked["duplicate_of"] == ""
    if not settings.allow_suspects:
        eligible &= ~ranked["_suspect"]
    if not settings.allow_known:
        eligible &= ~ranked["is_control"]
    earlier_of_formula = ranked[eligible].groupby("formula_pretty").cumcount()
    eligible &= earlier_of_formula.reindex(ranked.index, fill_value=0) < settings.max_per_formula
    ranked["shortlisted"] = eligible & (eligible.cumsum() <= settings.shortlist_size)
    return ranked.drop(columns="_suspect").reset_index(drop=True)


def take_best(table: pd.DataFrame, count: int | None, settings: RankingSettings) -> pd.DataFrame:
    """Take the best rows by the terms of the score whose columns are there; all rows for ``None``.

    Those that the shortlist would take come first: no suspects, no known compounds, no formula more often than it
    allows. The rows keep their order and columns.
    """
    if count is None or len(table) <= count:
        return table
    known = tuple(term for term in settings.score if term.column in table)
    ranked = rank(table, settings.model_copy(update={"score": known, "pareto": (), "shortlist_size": count}))
    ranked = ranked.sort_values(["shortlisted", "rank"], ascending=[False, True])
    chosen = table["candidate_id"].isin(ranked["candidate_id"].iloc[:count])
    return table[chosen].reset_index(drop=True)


def _flags(table: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    if name not in table:
        return np.zeros(len(table), dtype=bool)
    return np.asarray([bool(v) if v is not None and v == v else False for v in table[name].tolist()], dtype=bool)


def explain(settings: RankingSettings) -> str:
    """Say in plain words how the order was made; goes into the output beside the table."""
    total = sum(term.weight for term in settings.score)
    terms = "; ".join(
        f"{term.column} {term.weight / total:.0%} (1 at {term.best:g}, 0 at {term.worst:g})" for term in settings.score
    )
    axes = ", ".join(f"{o.column} {'low' if o.goal == 'min' else 'high'}" for o in settings.pareto)
    return (
        f"score: weighted mean of desirabilities, linear between fixed bounds: {terms}; a missing value scores 0.\n"
        f"pareto_front: 1 when no other ranked candidate is at least as good in all of ({axes}) and better in one.\n"
        "Suspects are ranked after all others. Controls (known compounds, parents) are ranked and marked; the "
        f"shortlist leaves out controls, suspects and duplicates unless the config allows them, and takes at most "
        f"{settings.max_per_formula} of each formula."
    )
