"""Random candidates of a campaign: all that pass its cheap gates have the same chance to be drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config import load_campaign
from pipeline.references import References
from pipeline.stages.candidate_rows import Placed, candidate_rows
from pipeline.stages.candidates import judge_unit, plan_units
from workflows.library import prototype_library
from workflows.preflight import find_inputs


def campaign_references(config: Path) -> References:
    """A campaign's library, models and competing phases, as a run opens them."""
    inputs = find_inputs(load_campaign(config), config)
    path, _ = prototype_library(inputs, None, print)
    if inputs.table is None or inputs.elements is None:
        source = inputs.campaign.reference.source
        raise ValueError(f"{config}: reference.source must be 'table' here, got {source!r}")
    return References(inputs.campaign, path, inputs.table, inputs.elements, inputs.observed)


def random_candidates(
    references: References, count: int, seed: int, without: Collection[str] = (), cache: Path | None = None
) -> pd.DataFrame:
    """Draw candidates in random order, in one pass over the whole enumeration.

    Every candidate gets a random number and the lowest are taken, so a longer draw begins with the shorter one.

    Parameters
    ----------
    references
        Of the campaign.
    count, seed
        Candidates wanted (fewer where the campaign has fewer), and the seed of their numbers.
    without
        Candidates that are not to be drawn.
    cache
        Folder where the draw is kept, None for nowhere.

    Returns
    -------
    DataFrame
        Rows of stage candidates.
    """
    settings = references.campaign.candidates
    what = [settings.model_dump(mode="json"), references.library_path.name, count, seed, sorted(without)]
    name = f"candidates-{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]}.parquet"
    if cache is not None and (cache / name).exists():
        return pd.read_parquet(cache / name)
    kept = _lowest(references, count + len(without), seed)
    numbers = np.concatenate([numbers for _, numbers in kept] or [np.empty(0)])
    gates = settings.gates.model_copy(update={"keep_parents": True})  # so that every number has its row
    table, _ = candidate_rows(
        [placed for placed, _ in kept], references.library, settings.model_copy(update={"gates": gates})
    )
    rows = table.to_pandas().iloc[np.argsort(numbers)]
    if not settings.gates.keep_parents:
        rows = rows[~rows["is_parent"].astype(bool)]
    rows = rows[~rows["candidate_id"].isin(set(without))].iloc[:count].reset_index(drop=True)
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(cache / name)
    return rows


def _lowest(references: References, wanted: int, seed: int) -> list[tuple[Placed, np.ndarray]]:
    """Assignments that got the lowest random numbers, with these; at least ``wanted``, where there are so many."""
    settings, library = references.campaign.candidates, references.library
    chance = np.random.default_rng(seed)
    limit, number = 1.0, 0
    kept: list[tuple[Placed, np.ndarray]] = []
    for unit in plan_units(settings, library):
        for judged in judge_unit(unit, settings, library, references.mobile_ions):
            drawn = chance.random(len(judged.rejected))
            take = (judged.rejected < 0) & (drawn < limit)
            if not take.any():
                continue
            kept.append((judged.placed.of_rows(take), drawn[take]))
            number += int(take.sum())
            if number > 2 * wanted:
                limit = float(np.partition(np.concatenate([drawn for _, drawn in kept]), wanted)[wanted])
                low = [(placed, drawn, drawn < limit) for placed, drawn in kept]
                kept = [(placed.of_rows(inside), drawn[inside]) for placed, drawn, inside in low if inside.any()]
                number = sum(len(drawn) for _, drawn in kept)
    return kept
