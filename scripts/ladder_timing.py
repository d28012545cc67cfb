"""What ``measure_ladder.py`` times in a process of its own: the peer, the stages without the ladder, and with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from random_candidates import campaign_references
from relaxation_peer import Job, relax_peers

from pipeline.references import References
from pipeline.settings import EstimateSettings, StabilitySettings
from pipeline.stages import estimate, stability
from pipeline.stages.rows import checked_structure, crystals, rows_with_crystals

WARM_UP_STEPS = 3
PEER, OFF, ON = "matgl Relaxer", "ladder off", "ladder on"


@dataclass(frozen=True)
class Ladder:
    """How candidates are decided.

    Attributes
    ----------
    config
        The campaign.
    one_shot
        Stage estimate, with its gate.
    relaxing
        Stage stability, with ``give_up_above``.
    """

    config: Path
    one_shot: EstimateSettings
    relaxing: StabilitySettings


@dataclass(frozen=True)
class Slice:
    """Candidates that one side decided, what it took, and what the stage wrote (empty for the peer)."""

    number: int
    wall: float
    cpu: float
    table: pd.DataFrame


@cache
def _references(config: Path) -> References:
    references = campaign_references(config)
    references.second_potential = None  # the same for both: it decides nothing
    return references


def _timed(rows: pd.DataFrame, work: Callable[[], pd.DataFrame]) -> Slice:
    wall, cpu = time.perf_counter(), time.process_time()
    table = work()
    return Slice(len(rows), time.perf_counter() - wall, time.process_time() - cpu, table)


def peer(ladder: Ladder, rows: pd.DataFrame) -> Slice:
    """Relax with matgl's Relaxer; making the crystals and reading the hull are not counted."""
    settings, references = ladder.relaxing, _references(ladder.config)
    structures = [checked_structure(row) for row in rows_with_crystals(rows, references)]
    job = Job(references.potential.name, settings.fmax, settings.max_steps, settings.rattle, settings.seed)
    timed = relax_peers(job, structures)
    return Slice(len(rows), timed.wall, timed.cpu, pd.DataFrame())


def off(ladder: Ladder, rows: pd.DataFrame) -> Slice:
    """Stage stability alone, every relaxation to its end."""
    settings = ladder.relaxing.model_copy(update={"give_up_above": None})
    return _timed(rows, lambda: stability.run(rows, settings, _references(ladder.config), Path()))


def on(ladder: Ladder, rows: pd.DataFrame) -> Slice:
    """The one-shot estimate with its gate, then stage stability with ``give_up_above``."""
    references = _references(ladder.config)

    def work() -> pd.DataFrame:
        judged = estimate.run(rows, ladder.one_shot, references, Path())
        kept = rows[passes_one_shot(judged, ladder.one_shot)]
        return stability.run(kept, ladder.relaxing, references, Path())

    return _timed(rows, work)


def one_shot(ladder: Ladder, rows: pd.DataFrame) -> Slice:
    """Stage estimate alone."""
    return _timed(rows, lambda: estimate.run(rows, ladder.one_shot, _references(ladder.config), Path()))


def passes_one_shot(judged: pd.DataFrame, settings: EstimateSettings) -> np.ndarray:
    """(n,) rows that all gates of the stage let through."""
    kept = np.ones(len(judged), bool)
    for column, gate in settings.gates.items():
        kept &= np.asarray(gate.passes(judged[column]), bool)
    return kept


def warm_up(ladder: Ladder, rows: pd.DataFrame) -> int:
    """Load and compile everything; atoms that were relaxed for it."""
    short = Ladder(ladder.config, ladder.one_shot, ladder.relaxing.model_copy(update={"max_steps": WARM_UP_STEPS}))
    for side in (peer, off, on):
        side(short, rows)
    return sum(len(s) for s in crystals(rows, _references(ladder.config)))


SIDES: dict[str, Callable[[Ladder, pd.DataFrame], Slice]] = {PEER: peer, OFF: off, ON: on}
