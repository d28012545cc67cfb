"""A seeded sample of an enumeration: what share passes the cheap gates, without listing the rest."""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from pipeline.candidate_settings import CandidateSettings
from pipeline.reference.prototypes import PrototypeLibrary
from pipeline.stages.candidates import empty_table, enumerate_table, enumerate_unit, plan_units
from pipeline.stages.substitution import raw_assignments

DRAWS = 400
BLOCK = 512
"""Raw assignments of a draw: long enough to be cheap, short enough that many prototypes are drawn."""


@dataclass(frozen=True)
class CandidateSample:
    """What a sample says of all candidates.

    Attributes
    ----------
    passing
        Share of the distinct candidates that pass the cheap gates.
    standard_error
        Of ``passing``, from the scatter between draws.
    rejected
        Share rejected, by reason.
    rows
        Candidates of the sample that passed.
    """

    passing: float
    standard_error: float
    rejected: dict[str, float]
    rows: pd.DataFrame


def cheap_gate_counts(
    settings: CandidateSettings, library: PrototypeLibrary, mobile_ions: tuple[str, ...]
) -> Counter[str]:
    """List every candidate, for few of them: ``enumerated``, ``passed``, and each reason with the number it rejects."""
    totals = Counter[str]({"enumerated": 0, "passed": 0})
    for unit in plan_units(settings, library):
        totals.update(enumerate_table(unit, settings, library, mobile_ions)[1])
    return totals


def sample_candidates(
    settings: CandidateSettings, library: PrototypeLibrary, mobile_ions: tuple[str, ...], seed: int = 0
) -> CandidateSample:
    """Draw blocks of raw assignments, each with a probability proportional to its length, and put them through.

    The shares are ratios of the Hansen-Hurwitz estimators of two totals (Cochran, Sampling Techniques, 3rd ed. 1977,
    section 9A.3), so long and short blocks count alike.

    Parameters
    ----------
    settings, library, mobile_ions
        As :func:`pipeline.stages.candidates.enumerate_unit` takes them.
    seed
        Of the draws; the same seed, settings and library give the same sample.
    """
    sizes = [raw_assignments(prototype, library, settings) for prototype in library]
    ends = list(itertools.accumulate(sizes))
    if not ends or not ends[-1]:
        return CandidateSample(0.0, 0.0, {}, empty_table())
    chance = random.Random(seed)
    tables: list[pd.DataFrame] = []
    draws: list[tuple[float, Counter[str]]] = []
    for _ in range(min(DRAWS, ends[-1])):
        place = chance.randrange(ends[-1])
        index = bisect.bisect_right(ends, place)
        first = (place - ends[index] + sizes[index]) // BLOCK * BLOCK
        last = min(first + BLOCK, sizes[index])
        unit = {"slices": [[library.prototypes[index].prototype_id, first, last]]}
        table, counts = enumerate_unit(unit, settings, library, mobile_ions)
        tables.append(table)
        draws.append((1.0 / (last - first), Counter(counts)))
    total = sum(weight * counts["enumerated"] for weight, counts in draws)
    if not total:
        return CandidateSample(0.0, 0.0, {}, empty_table())
    shares = {
        reason: sum(weight * counts[reason] for weight, counts in draws) / total
        for reason in sorted(set().union(*(counts for _, counts in draws)) - {"enumerated"})
    }
    passing = shares.pop("passed", 0.0)
    scatter = sum((weight * (counts["passed"] - passing * counts["enumerated"])) ** 2 for weight, counts in draws)
    rows = pd.concat(tables, ignore_index=True).drop_duplicates("candidate_id", ignore_index=True)
    return CandidateSample(passing, math.sqrt(scatter) / total, shares, rows)
