"""Which relaxed crystals of a run to label next: read, score, choose. `workflows.selection_output` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from pipeline.config import ConfigError, Problem
from pipeline.selection.environments import environments_of
from pipeline.selection.scores import Weights, choose, disagreement_score, gate_distances, worth_of
from pipeline.surrogates.batch import FloatArray, batch_from_rows
from workflows.selection_input import disagreement_bound, gated_quantities, known_crystals, relaxed_candidates

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.selection.environments import Environments


@dataclass(frozen=True)
class Selected:
    """Chosen candidates.

    Attributes
    ----------
    table
        A row each, in the order of choice: columns of `pipeline.selection.columns` but for the campaign's, and the
        crystals.
    candidates
        How many were scored.
    notes
        What a reader must know: scores that the run can't give, fewer chosen than asked.
    """

    table: pd.DataFrame
    candidates: int
    notes: list[str] = field(default_factory=list)


def select_candidates(
    folder: Path,
    count: int,
    weights: Weights,
    known: Sequence[Path] = (),
    *,
    suspects: bool = True,
) -> Selected:
    """Choose the candidates of a run that are most worth labelling.

    Parameters
    ----------
    folder
        The run's.
    count
        How many.
    weights
        Of disagreement, novelty and closeness.
    known
        Files with crystals whose environments are known: labels, or earlier selections.
    suspects
        Whether candidates that the run calls suspect may be chosen.

    Raises
    ------
    ConfigError
        When the run has fewer relaxed candidates, no weight is left, or anything can't be read.
    """
    table = relaxed_candidates(folder, suspects=suspects)
    if count > len(table):
        text = f"is {count}, but {folder} holds {len(table)} relaxed candidates; write {len(table)} or less"
        raise ConfigError([Problem("--count", text)])
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    labelled = known_crystals(known)
    own, known_distances = _environments(rows, labelled)
    table, gates = gated_quantities(folder, table)
    gate = gate_distances(table, gates)
    opinions = table["energy_disagreement"].to_numpy(dtype=float, na_value=np.nan)
    disagreement = disagreement_score(opinions, disagreement_bound(folder))
    try:
        worth = worth_of(disagreement, gate.closeness, weights)
    except ValueError as error:
        raise ConfigError([Problem("--weights", f"{error}; give novelty one")]) from None
    choice = choose(worth, own, known_distances, count)
    scored = table.assign(
        disagreement=disagreement, closeness=gate.closeness, gate_distance=gate.errors, nearest_gate=gate.gates
    )
    chosen = scored.iloc[choice.rows].reset_index(drop=True)
    chosen = chosen.assign(
        order=range(1, len(chosen) + 1),
        novelty=choice.novelty,
        newest_element=[chemical_symbols[z] for z in own.elements[choice.newest]],
        selection_score=choice.scores,
    )
    chosen = chosen.assign(why=[_why(row) for row in chosen.to_dict("records")])
    return Selected(chosen, len(table), [*_absent(scored), *_too_few(len(chosen), count, len(table))])


def _environments(rows: list[dict[str, Any]], labelled: list[dict[str, Any]]) -> tuple[Environments, FloatArray]:
    """Environments of the candidates, and the distance of each to the nearest known one; 1 where nothing is known."""
    batches = [batch_from_rows(crystals) for crystals in (rows, labelled) if crystals]
    elements = np.unique(np.concatenate([batch.numbers for batch in batches])).tolist()
    own, *known = (environments_of(batch, elements) for batch in batches)
    return own, own.distances_to(known[0]) if known else np.ones(len(own.elements))


def _absent(scored: pd.DataFrame) -> list[str]:
    why = {
        "disagreement": "no candidate has a second potential's opinion (potential.second_opinion in the campaign)",
        "closeness": "no gated quantity of this run has an uncertainty",
    }
    return [f"{name} is left out: {text}" for name, text in why.items() if not np.isfinite(scored[name]).any()]


def _too_few(chosen: int, count: int, candidates: int) -> list[str]:
    if chosen == count:
        return []
    left = f"each of the other {candidates - chosen} has only environments that are known or chosen"
    return [f"{chosen} instead of {count} are chosen: {left}, or nothing speaks for it"]


def _why(row: dict[Any, Any]) -> str:
    """The reasons of a chosen candidate in words, the numbers as they were measured."""
    words = []
    if np.isfinite(row["disagreement"]):
        words.append(f"the potentials disagree by {1000 * row['energy_disagreement']:.0f} meV/atom")
    if row["nearest_gate"]:
        words.append(f"{row['gate_distance']:.1f} uncertainties from {row['nearest_gate']}")
    element = row["newest_element"]
    if row["novelty"] < 1.0:
        words.append(f"an environment of {element} is {row['novelty']:.2f} from known and chosen ones")
    else:
        words.append(f"nothing like its environment of {element} is known or chosen")
    return "; ".join(words)
