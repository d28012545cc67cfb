"""The crystals that frames are made of: candidates of a campaign, and the phases that compete with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.candidate_settings import CandidateGates, CandidateSettings
from pipeline.distillation.balance import balanced_choice
from pipeline.distillation.settings import DistillationSettings, FurtherPrototypes
from pipeline.reference.formulas import atomic_number
from pipeline.reference.prototypes import Prototype, PrototypeLibrary
from pipeline.reference.same_sites import unsigned_label
from pipeline.stages.candidate_rows import Placed, candidate_rows
from pipeline.stages.candidates import judge_unit, with_structures
from pipeline.stages.substitution import raw_assignments
from pipeline.surrogates.moving import random_stream
from pipeline.training.groups import protostructure_group

if TYPE_CHECKING:
    from pipeline.config import Campaign

BLOCK = 256
"""Neighbouring ranks of a draw: they differ in few elements, so that many blocks are better than long ones."""

BLOCKS = 32
"""Most blocks of one prototype that are looked at; a smaller prototype is looked at whole."""

POOL = 512
"""Most candidates of one prototype that the balanced choice has before it."""

KINDS = ("element", "binary", "ternary")

ELEMENTAL = "elements"
"""What stands for the prototype of every element: distorted cells of one or two equal atoms are all alike."""

COLUMNS = (
    "start_id",
    "kind",
    "prototype",
    "chemsys",
    "lattice",
    "atomic_numbers",
    "frac_coords",
    "relaxed",
    "temperature",
)


FURTHER = "further"
"""Kind of a crystal of a prototype beyond the campaign's."""


def draw_crystals(
    settings: DistillationSettings,
    campaign: Campaign,
    library: PrototypeLibrary,
    phases: pd.DataFrame,
    further: tuple[Campaign, PrototypeLibrary] | None = None,
) -> pd.DataFrame:
    """Draw what a distillation starts from.

    Parameters
    ----------
    settings
        Numbers, shares and the seed.
    campaign
        Gates and ions of the candidates.
    library
        The campaign's prototypes.
    phases
        Competing phases of its elements, as :func:`pipeline.reference.competing.competing_phases` lists them.
    further
        What :func:`further_campaign` makes of the campaign, and its prototypes, if crystals of these are wanted too.

    Returns
    -------
    DataFrame
        :data:`COLUMNS`: ``kind`` is candidate, element, binary, ternary or further; ``prototype`` the label of the
        sites, whatever their charges; ``relaxed`` whether frames of a relaxation are taken; ``temperature`` of its
        dynamics in K, NaN without. Lattice in Å. The order is random, so that every kind is spread over it.
    """
    drawn = settings.crystals
    candidates = draw_candidates(campaign, library, settings)
    beyond = _drawn_beyond(further, settings)
    small = phases[phases["nsites"] <= drawn.max_sites]
    competing = _share_of_phases(small, settings)
    parts = [part for part in (candidates, competing, beyond) if len(part)]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(parts, ignore_index=True).drop_duplicates("start_id", ignore_index=True)
    chances = {name: [_chance(settings.seed, s, name) for s in rows["start_id"]] for name in ("relaxed", "dynamics")}
    rows["relaxed"] = [c < settings.relaxation.share for c in chances["relaxed"]]
    kelvin = settings.dynamics.temperatures
    # What is left of the chance below the share is again even, and takes the temperature.
    rows["temperature"] = [
        kelvin[min(int(c / settings.dynamics.share * len(kelvin)), len(kelvin) - 1)]
        if c < settings.dynamics.share
        else float("nan")
        for c in chances["dynamics"]
    ]
    order = np.argsort([_chance(settings.seed, s, "order") for s in rows["start_id"]])
    return rows.iloc[order].reset_index(drop=True)[list(COLUMNS)]


def _chance(seed: int, key: str, what: str) -> float:
    """A number in [0, 1) of a crystal, whatever else is drawn."""
    return float(random_stream(seed, f"{what} of {key}").random())


def further_campaign(campaign: Campaign, library: PrototypeLibrary, further: FurtherPrototypes) -> Campaign:
    """A campaign with the same elements on other prototypes, without the gates that are of one purpose."""
    changes = {
        "prototypes": further.prototypes,
        "elements": elements_of(campaign, library),
        "substitution": further.substitution,
        "gates": CandidateGates(mobile_ion_fraction=None, require_mobile_ion=False),
    }
    return campaign.model_copy(update={"candidates": campaign.candidates.model_copy(update=changes)})


def _drawn_beyond(further: tuple[Campaign, PrototypeLibrary] | None, settings: DistillationSettings) -> pd.DataFrame:
    if further is None or settings.further is None:
        return pd.DataFrame(columns=list(COLUMNS))
    wanted = {name: getattr(settings.further, name) for name in ("candidates", "per_prototype")}
    drawn = settings.model_copy(update={"crystals": settings.crystals.model_copy(update=wanted)})
    return draw_candidates(*further, drawn).assign(kind=FURTHER)


def draw_candidates(campaign: Campaign, library: PrototypeLibrary, settings: DistillationSettings) -> pd.DataFrame:
    """Candidates that pass the campaign's cheap gates, evenly over prototypes and elements, in :data:`COLUMNS`."""
    wanted, per_prototype = settings.crystals.candidates, settings.crystals.per_prototype
    if not wanted:
        return pd.DataFrame(columns=list(COLUMNS))
    chosen = campaign.candidates
    pools = [
        pool
        for prototype in library
        if prototype.n_sites <= settings.crystals.max_sites
        and (pool := _pool(prototype, library, chosen, campaign.mobile_ions, settings.seed)) is not None
    ]
    numbers = sorted({z for pool in pools for z in np.unique(pool.elements).tolist()})
    held = [np.stack([(pool.elements == z).any(axis=1) for z in numbers], axis=1) for pool in pools]
    rows = balanced_choice(held, wanted, per_prototype, np.random.default_rng(settings.seed))
    parts = [_of_rows(pool, own) for pool, own in zip(pools, rows, strict=True) if own]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    keeping = chosen.model_copy(update={"gates": chosen.gates.model_copy(update={"keep_parents": True})})
    table = with_structures(candidate_rows(parts, library, keeping)[0].to_pandas(), library)
    labels = {part.prototype.prototype_id: unsigned_label(part.prototype) for part in parts}
    table = table.assign(kind="candidate", prototype=[labels[p] for p in table["prototype_id"]])
    return table.rename(columns={"candidate_id": "start_id"}).drop_duplicates("start_id", ignore_index=True)


def _of_rows(pool: Placed, rows: Sequence[int]) -> Placed:
    keep = np.zeros(len(pool.elements), bool)
    keep[list(rows)] = True
    return pool.of_rows(keep)


def _pool(
    prototype: Prototype,
    library: PrototypeLibrary,
    settings: CandidateSettings,
    mobile_ions: tuple[str, ...],
    seed: int,
) -> Placed | None:
    """Candidates of one prototype, in random order; None when none passes."""
    total = raw_assignments(prototype, library, settings)
    stream = random_stream(seed, f"candidates of {prototype.prototype_id}")
    starts = np.arange(0, total, BLOCK)
    if len(starts) > BLOCKS:
        starts = np.sort(stream.choice(len(starts), BLOCKS, replace=False)) * BLOCK
    found: list[Placed] = []
    for first in starts.tolist():
        unit = {"slices": [[prototype.prototype_id, first, min(first + BLOCK, total)]]}
        found += [
            judged.placed.of_rows(judged.rejected < 0) for judged in judge_unit(unit, settings, library, mobile_ions)
        ]
    if not any(len(part.elements) for part in found):
        return None
    pool = _joined(found)
    order = stream.permutation(len(pool.elements))[:POOL]
    return Placed(pool.prototype, pool.slot_of, *(values[order] for values in _arrays(pool)))


def _arrays(placed: Placed) -> tuple[Any, ...]:
    return placed.elements, placed.charges, placed.mobile_atoms, placed.mismatch, placed.probability


def _joined(parts: Sequence[Placed]) -> Placed:
    """Candidates of one prototype, one after the other."""
    arrays = (np.concatenate(values) for values in zip(*map(_arrays, parts), strict=True))
    return Placed(parts[0].prototype, parts[0].slot_of, *arrays)


def _share_of_phases(phases: pd.DataFrame, settings: DistillationSettings) -> pd.DataFrame:
    """Competing phases, of each number of elements the configured share."""
    drawn = settings.crystals
    shares = dict(zip(KINDS, (drawn.elements, drawn.binaries, drawn.ternaries), strict=True))
    kinds = [KINDS[system.count("-")] for system in phases["chemsys"]]
    kept = [
        _chance(settings.seed, name, "share") < shares[kind]
        for name, kind in zip(phases["candidate_id"], kinds, strict=True)
    ]
    rows = phases.assign(kind=kinds)[kept].rename(columns={"candidate_id": "start_id"}).reset_index(drop=True)
    labels = [
        ELEMENTAL if row["kind"] == "element" else protostructure_group({str(k): v for k, v in row.items()})
        for row in rows.to_dict("records")
    ]
    return rows.assign(prototype=labels)


def elements_of(campaign: Campaign, library: PrototypeLibrary) -> tuple[str, ...]:
    """Elements of a campaign's domain, by atomic number; those of its crystals where nothing is substituted."""
    placed = campaign.candidates.allowed_elements or {e for p in library for e in p.orbit_elements}
    return tuple(sorted(placed, key=atomic_number))
