"""What speaks for labelling a crystal: potentials disagree about it, its environments are new, a gate is near.

The score of a crystal is its novelty times its worth,

    score = novelty (w_d disagreement + w_n + w_c closeness) / (w_d + w_n + w_c),

all between 0 and 1. The novelty is a factor and no term of the mean: what is known, or is chosen already, is not
labelled again however uncertain it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline import schema
from pipeline.gates import Gate
from pipeline.selection.environments import SAME, Environments
from pipeline.surrogates.batch import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

_SIGMAS_OF_95 = 1.959963984540054


@dataclass(frozen=True)
class Weights:
    """w_d, w_n and w_c; with more of w_n a crystal is chosen for its novelty alone."""

    disagreement: float = 1.0
    novelty: float = 1.0
    closeness: float = 1.0


@dataclass(frozen=True)
class GateDistances:
    """How far n rows are from the gate that is nearest to them.

    Attributes
    ----------
    errors : (n,) float64
        Distance over the quantity's own uncertainty (68 %); NaN where none of a row's gated quantities has one.
    gates : (n,) list of str
        That gate in words, such as ``energy_above_hull < 0.05 eV/atom``; empty with a NaN.
    """

    errors: FloatArray
    gates: list[str]

    @property
    def closeness(self) -> FloatArray:
        """(n,) chance that a normal error is as large as the distance: 1 at the gate, 0.32 one error from it."""
        from scipy.special import erfc

        chance: FloatArray = erfc(self.errors / np.sqrt(2.0))
        return chance


def disagreement_score(disagreements: FloatArray, bound: float) -> FloatArray:
    """Disagreement of two potentials over the campaign's bound (both eV/atom), at most 1.

    What is beyond ``suspect.energy_disagreement_above`` is a hole of one potential, and one hole is as good as another.
    """
    score: FloatArray = np.minimum(np.abs(disagreements) / bound, 1.0)
    return score


def gate_distances(table: pd.DataFrame, gates: Sequence[tuple[str, Gate]]) -> GateDistances:
    """Distance of each row to the nearest gate, in units of the gated quantity's uncertainty.

    An uncertainty is the column ``<name>_error``, or the end of the 95 % interval (``<name>_low``, ``<name>_high``) on
    the gate's side of the value. A gate on a quantity without either is not looked at.

    Parameters
    ----------
    table
        n rows; columns that a row has no value of are NaN.
    gates
        Columns and their gates, in the order of the funnel; of gates equally near the first counts.
    """
    nearest, words = np.full(len(table), np.nan), [""] * len(table)
    for name, gate in gates:
        if name not in table or not uncertainty_columns(name, table.columns):
            continue
        values = _numbers(table, name)
        for bound in (gate.lower, gate.upper):
            if bound is None:
                continue
            distances = _in_errors(table, name, values, bound)
            nearer = np.isfinite(distances) & ~(nearest <= distances)
            nearest[nearer] = distances[nearer]
            text = gate.text(name, schema.column(name).unit)
            words = [text if n else old for n, old in zip(nearer, words, strict=True)]
    return GateDistances(nearest, words)


def uncertainty_columns(name: str, columns: Collection[str]) -> tuple[str, ...]:
    """Columns among these that hold the uncertainty of a quantity: its error, or both ends of an interval."""
    if f"{name}_error" in columns:
        return (f"{name}_error",)
    ends = (f"{name}_low", f"{name}_high")
    return ends if all(end in columns for end in ends) else ()


def _in_errors(table: pd.DataFrame, name: str, values: FloatArray, bound: float) -> FloatArray:
    """(n,) distances to a bound over the uncertainty; 0 exactly at the bound, NaN without an uncertainty above 0."""
    columns = uncertainty_columns(name, table.columns)
    if len(columns) == 1:
        errors = _numbers(table, columns[0])
    else:
        low, high = (_numbers(table, column) for column in columns)
        errors = np.abs(np.where(values > bound, low, high) - values) / _SIGMAS_OF_95
    with np.errstate(invalid="ignore"):
        distances: FloatArray = np.abs(values - bound) / np.where(errors > 0.0, errors, np.nan)
    return distances


def _numbers(table: pd.DataFrame, name: str) -> FloatArray:
    values: FloatArray = table[name].to_numpy(dtype=float, na_value=np.nan)
    return values


def worth_of(disagreement: FloatArray, closeness: FloatArray, weights: Weights) -> FloatArray:
    """What labelling each of n crystals is worth, 0 to 1, before its novelty.

    A score that is NaN in every row is left out with its weight; where it is NaN in some, it counts 0 in these.

    Raises
    ------
    ValueError
        When no weight is left.
    """
    terms = [(np.ones(len(closeness)), weights.novelty)]
    for values, weight in ((disagreement, weights.disagreement), (closeness, weights.closeness)):
        if np.isfinite(values).any():
            terms.append((np.nan_to_num(values, nan=0.0), weight))
    total = sum(weight for _, weight in terms)
    if not total > 0.0:
        raise ValueError("no score that this run can give has a weight above 0")
    worth: FloatArray = np.sum([weight / total * values for values, weight in terms], axis=0)
    return worth


@dataclass(frozen=True)
class Choice:
    """m crystals in the order in which they were chosen.

    Attributes
    ----------
    rows : (m,) int64
        Which.
    newest : (m,) int64
        The environment of each that was the newest.
    novelty : (m,) float64
        Its distance to what is known or was chosen before, 0 to 1.
    scores : (m,) float64
        Novelty times worth.
    """

    rows: IntArray
    newest: IntArray
    novelty: FloatArray
    scores: FloatArray


def choose(worth: FloatArray, environments: Environments, known: FloatArray, count: int) -> Choice:
    """Choose the crystal of highest score, again and again; of equal ones the first.

    The novelty of a crystal is the distance of its most distant environment to all that are known or were chosen so
    far: a potential extrapolates where one atom does (Podryabinkin and Shapeev, Comput. Mater. Sci. 2017, 140, 171).
    With equal worth this is farthest-point sampling (Imbalzano et al., J. Chem. Phys. 2018, 148, 241730).

    Parameters
    ----------
    worth : (B,) float64
        0 to 1.
    environments
        M, of the B crystals.
    known : (M,) float64
        Distance of each environment to the nearest known one; 1 where nothing is known.
    count
        How many are wanted; fewer come out when the others are worth nothing, or have no environment farther than
        `pipeline.selection.environments.SAME` from known and chosen ones.
    """
    nearest, free = known.copy(), np.ones(len(worth), bool)
    chosen: list[tuple[int, int, float, float]] = []
    while len(chosen) < count:
        novelty = environments.largest_of_each(nearest)
        scores = np.where(free & (novelty > SAME), worth * novelty, 0.0)
        best = int(np.argmax(scores))
        if scores[best] <= 0.0:
            break
        own = np.flatnonzero(environments.owners == best)
        newest = int(own[np.argmax(nearest[own])])
        chosen.append((best, newest, float(novelty[best]), float(scores[best])))
        free[best] = False
        nearest = np.minimum(nearest, environments.distances_to(environments.of(best)))
    rows, newests, novelties, totals = zip(*chosen, strict=True) if chosen else ((), (), (), ())
    return Choice(np.array(rows, np.int64), np.array(newests, np.int64), np.array(novelties), np.array(totals))
