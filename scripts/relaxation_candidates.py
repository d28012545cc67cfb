"""Real candidates for ``benchmark_relaxation.py``: a seeded draw of what a campaign's relaxation gets, by size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from pipeline.candidate_settings import CandidateSettings
from pipeline.config import Campaign, load_campaign
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.references import References
from pipeline.settings import EstimateSettings, StageSettings
from pipeline.stages import estimate
from pipeline.stages.candidates import enumerate_unit
from pipeline.stages.rows import checked_structure, rows_with_crystals
from pipeline.stages.substitution import raw_assignments
from workflows.library import prototype_library
from workflows.preflight import find_inputs

BLOCK = 512
"""Raw assignments listed of a prototype at a time."""
FRUITLESS_PASSES = 3
"""Passes over all prototypes of a size without a new candidate, after which there are taken to be no more."""
COLUMNS = ["candidate_id", "formula_pretty", "prototype_id", "lattice", "atomic_numbers", "frac_coords", "size"]

Sizes = Sequence[tuple[int, int]]
ALL_SIZES: Sizes = ((4, 8), (9, 12), (13, 16), (17, 20), (21, 24), (25, 32), (33, 40))
"""Atoms, from and to; every range gets the same number of candidates."""


@dataclass(frozen=True)
class Draw:
    """Candidates in random order, one a row with its crystal, and how they were found."""

    rows: pd.DataFrame
    told: str

    def structures(self) -> list[Structure]:
        """Starting crystals, as a stage makes them."""
        return [checked_structure(row) for row in self.rows.to_dict("records")]

    @property
    def ids(self) -> list[str]:
        """(n,) candidate ids."""
        return [str(i) for i in self.rows["candidate_id"]]


def draw_candidates(config: Path, count: int, seed: int, sizes: Sizes, cache: Path | None, own: int = 2) -> Draw:
    """Draw candidates that pass the campaign's cheap gates and its gate on the estimate.

    Prototypes of each range of sizes are taken in random order; of each a random block of raw assignments is listed,
    and at most ``own`` candidates of it are kept a pass, so that those with many orbits do not crowd out the others.

    Parameters
    ----------
    config
        A campaign with stage ``estimate``; its ``prototypes.max_sites`` is set to the largest of ``sizes``.
    count, seed
        Candidates wanted, and the seed of all draws.
    cache
        Folder where the draw is kept, None for nowhere.
    """
    # the text itself is what decides: a changed campaign must not find the candidates of the old one
    text = json.dumps([config.read_text(encoding="utf-8"), count, seed, [list(s) for s in sizes], own])
    kept = cache / f"candidates-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet" if cache else None
    if kept is not None and kept.exists():
        rows = pd.read_parquet(kept)
        return Draw(rows, str(rows.attrs["told"]))
    campaign = _with_sites(load_campaign(config), max(last for _, last in sizes))
    references = _references(campaign, config)
    chance = np.random.default_rng(seed)
    shares = [len(part) for part in np.array_split(np.arange(count), len(sizes))]
    tables, told = [], []
    for (first, last), share in zip(sizes, shares, strict=True):
        drawn = _Size(references, first, last, own, chance)
        table = drawn.draw(share)
        tables.append(table.assign(size=f"{first}-{last}"))
        told.append(f"{len(table)} of {first} to {last} atoms ({drawn.judged} judged by the estimate)")
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.iloc[chance.permutation(len(rows))].reset_index(drop=True)[COLUMNS]
    largest = campaign.candidates.prototypes.max_sites
    rows.attrs["told"] = (
        f"{len(rows)} candidates of {config.name} with prototypes.max_sites {largest}, "
        f"seed {seed}, at most {own} a block of {BLOCK} raw assignments, that pass the cheap gates and the estimate's: "
        + ", ".join(told)
    )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(kept)
    return Draw(rows, str(rows.attrs["told"]))


def _with_sites(campaign: Campaign, max_sites: int) -> Campaign:
    prototypes = campaign.candidates.prototypes.model_copy(update={"max_sites": max_sites})
    candidates = campaign.candidates.model_copy(update={"prototypes": prototypes})
    return campaign.model_copy(update={"candidates": candidates})


def _references(campaign: Campaign, config: Path) -> References:
    """The campaign's library and competing phases, as a run opens them."""
    inputs = find_inputs(campaign, config)
    path, _ = prototype_library(inputs, None, print)
    if inputs.table is None or inputs.elements is None:
        raise ValueError(f"{config}: reference.source must be 'table' here, got {campaign.reference.source!r}")
    return References(inputs.campaign, path, inputs.table, inputs.elements, inputs.observed)


def stage_settings(campaign: Campaign, stage: str) -> StageSettings:
    """Settings of a campaign's first stage of that kind."""
    found = next((s for s in campaign.stages if s.stage == stage), None)
    if found is None:
        raise ValueError(f"campaign {campaign.name!r} has no stage {stage!r}; choose one that has")
    return found


class _Size:
    """Draws candidates of one range of sizes."""

    def __init__(self, references: References, first: int, last: int, own: int, chance: np.random.Generator) -> None:
        self.references, self.own, self.chance = references, own, chance
        self.settings: CandidateSettings = references.campaign.candidates
        estimated = stage_settings(references.campaign, "estimate")
        assert isinstance(estimated, EstimateSettings)
        self.estimate = estimated
        self.prototypes = [p for p in references.library if first <= p.n_sites <= last]
        self.seen: set[str] = set()
        self.judged = 0

    def draw(self, share: int) -> pd.DataFrame:
        """Up to ``share`` candidates; fewer when there are no more."""
        tables: list[pd.DataFrame] = []
        found = 0
        for block in self._blocks(max(4, min(self.estimate.chunk_size, share))):
            passing = self._passing(block)
            tables.append(passing)
            found += len(passing)
            if found >= share:
                break
        return pd.concat(tables, ignore_index=True).iloc[:share] if tables else pd.DataFrame(columns=COLUMNS)

    def _blocks(self, rows: int) -> Iterator[pd.DataFrame]:
        """Candidates that pass the cheap gates, about so many at a time, until passes bring nothing new."""
        waiting: list[pd.DataFrame] = []
        fruitless = 0
        while fruitless < FRUITLESS_PASSES and self.prototypes:
            before = len(self.seen)
            for place in self.chance.permutation(len(self.prototypes)):
                waiting.append(self._of_prototype(self.prototypes[place]))
                if sum(map(len, waiting)) >= rows:
                    yield pd.concat(waiting, ignore_index=True)
                    waiting.clear()
            fruitless = fruitless + 1 if len(self.seen) == before else 0
        if sum(map(len, waiting)):
            yield pd.concat(waiting, ignore_index=True)

    def _of_prototype(self, prototype: Prototype) -> pd.DataFrame:
        library: PrototypeLibrary = self.references.library
        total = raw_assignments(prototype, library, self.settings)
        if not total:
            return pd.DataFrame()
        first = int(self.chance.integers(max(1, total - BLOCK + 1)))
        unit = {"slices": [[prototype.prototype_id, first, min(total, first + BLOCK)]]}
        table, _ = enumerate_unit(unit, self.settings, library, self.references.mobile_ions)
        table = table[~table["candidate_id"].isin(self.seen)]
        chosen = table.iloc[np.sort(self.chance.permutation(len(table))[: self.own])]
        self.seen.update(chosen["candidate_id"])
        return chosen

    def _passing(self, part: pd.DataFrame) -> pd.DataFrame:
        """Those that the gate on the estimate lets through, with their crystals."""
        part = part.reset_index(drop=True)
        self.judged += len(part)
        built = pd.DataFrame(rows_with_crystals(part, self.references))
        result = estimate.run(built, self.estimate, self.references, Path())
        passes = np.ones(len(result), bool)
        for column, gate in self.estimate.gates.items():
            passes &= gate.passes(result[column])
        return built[passes]
