"""The comparison of ``benchmark_relaxation.py``: the same crystals with matgl's Relaxer and with ionsieve.

Speeds are measured in slices, in turn, so that a noisy machine hits both alike; who goes first alternates. Results
of the peer may be kept, so that energies of more crystals are compared than are timed; times are always of this run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pymatgen.core import Structure
from relaxation_peer import SIDES, Job, Outcome, Timed, first_calls, share_out, start_digest, workers

from pipeline.settings import SuspectSettings
from pipeline.stages.suspicion import closest_pair

PEER, OURS = SIDES
START_AGREES = 5e-4  # eV/atom: of this checkpoint matgl evaluates the misplaced three-body terms, which ours omits
WARM_UP_STEPS = 3


@dataclass
class Speed:
    """What a number of workers took, slice by slice."""

    count: int
    slices: dict[str, list[list[Timed]]] = field(default_factory=lambda: {PEER: [], OURS: []})

    def rate(self, side: str, clock: str) -> float:
        """Structures a core-second over all slices; ``clock`` is ``wall`` or ``cpu``."""
        return _rate([timed for part in self.slices[side] for timed in part], clock)

    def ratios(self, clock: str) -> list[float]:
        """Of ionsieve's rate to the peer's, one a slice."""
        parts = zip(self.slices[OURS], self.slices[PEER], strict=True)
        return [_rate(ours, clock) / _rate(peer, clock) for ours, peer in parts]


def _rate(parts: Sequence[Timed], clock: str) -> float:
    return sum(len(t.outcomes) for t in parts) / sum(getattr(t, clock) for t in parts)


class KeptOutcomes:
    """Outcomes of the peer in a folder, one file for each way of relaxing; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, job: Job) -> None:
        from importlib.metadata import version

        from pipeline.surrogates import model_digest

        how = [model_digest(job.model), version("matgl"), version("ase"), job.fmax, job.max_steps, job.rattle, job.seed]
        if job.device != "cpu":
            how.append(job.device)
        name = hashlib.sha256(json.dumps(how).encode()).hexdigest()[:16]
        self._path = folder / f"peer-{name}.json" if folder else None
        self._found: dict[str, dict[str, object]] = {}
        if self._path is not None and self._path.exists():
            self._found = json.loads(self._path.read_text(encoding="utf-8"))

    def get(self, name: str, start: Structure) -> Outcome | None:
        """Outcome of a candidate from exactly this start, if it is kept."""
        found = self._found.get(f"{name}:{start_digest(start):08x}")
        return None if found is None else Outcome(**found)  # type: ignore[arg-type]

    def keep(self, names: Sequence[str], starts: Sequence[Structure], outcomes: Sequence[Outcome]) -> None:
        """Write at once: the next crystal may take minutes."""
        for name, start, outcome in zip(names, starts, outcomes, strict=True):
            self._found[f"{name}:{start_digest(start):08x}"] = outcome.as_dict()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._found), encoding="utf-8")


@dataclass
class Comparison:
    """All structures relaxed by both, and the speeds of the timed ones."""

    job: Job
    names: Sequence[str]
    structures: Sequence[Structure]
    cache: Path | None
    peer: dict[int, Outcome] = field(default_factory=dict)
    ours: dict[int, Outcome] = field(default_factory=dict)
    speeds: list[Speed] = field(default_factory=list)
    between_runs: float = 0.0
    """Largest change of ionsieve's final energy between numbers of workers, eV/atom."""

    def time(self, count: int, places: Sequence[int], slices: int) -> None:
        """Relax the structures at these places with both, on ``count`` processes, in slices."""
        kept = KeptOutcomes(self.cache, self.job)
        speed = Speed(count)
        with self._warm(count) as pools:
            for turn, part in enumerate(np.array_split(np.asarray(places), min(slices, len(places)))):
                chosen = [self.structures[i] for i in part]
                for side in (PEER, OURS) if turn % 2 == 0 else (OURS, PEER):
                    outcomes, timed = share_out(pools, side, self.job, chosen)
                    speed.slices[side].append(timed)
                    known = self.peer if side == PEER else self.ours
                    for i, outcome in zip(part.tolist(), outcomes, strict=True):
                        before = known.setdefault(i, outcome)
                        if side == OURS and np.isfinite(before.energy - outcome.energy):
                            self.between_runs = max(self.between_runs, abs(before.energy - outcome.energy))
                    if side == PEER:
                        kept.keep([self.names[i] for i in part], chosen, outcomes)
        self.speeds.append(speed)

    def complete(self) -> None:
        """Relax what was not timed: ours always, the peer where nothing is kept."""
        kept = KeptOutcomes(self.cache, self.job)
        with self._warm(1) as pools:
            rest = [i for i in range(len(self.structures)) if i not in self.ours]
            if rest:
                outcomes, _ = share_out(pools, OURS, self.job, [self.structures[i] for i in rest])
                self.ours.update(zip(rest, outcomes, strict=True))
            for i in rest:
                self.peer[i] = self._peers(kept, pools, self.job, i)

    def moved_peer(self, place: int, seeds: int, rattle: float) -> list[float]:
        """How far the peer itself ends above its own energy from rattled starts, meV/atom, (seeds,)."""
        with workers(1) as pools:
            jobs = [replace(self.job, rattle=rattle, seed=seed) for seed in range(1, seeds + 1)]
            moved = [self._peers(KeptOutcomes(self.cache, job), pools, job, place) for job in jobs]
        return [1000.0 * (m.energy - self.peer[place].energy) for m in moved]

    def _peers(self, kept: KeptOutcomes, pools: list[ProcessPoolExecutor], job: Job, place: int) -> Outcome:
        start = self.structures[place]
        found = kept.get(self.names[place], start)
        if found is None:
            (found,), _ = share_out(pools, PEER, job, [start])
            kept.keep([self.names[place]], [start], [found])
        return found

    @contextmanager
    def _warm(self, count: int) -> Iterator[list[ProcessPoolExecutor]]:
        """Processes that have relaxed two small crystals for some steps each, both ways."""
        small = sorted(self.structures, key=len)[:2]
        job = replace(self.job, max_steps=WARM_UP_STEPS)
        with workers(count) as pools:
            for side in SIDES:
                calls = [pool.submit(SIDES[side], job, small) for pool in pools]
                for call in calls:
                    call.result()
            yield pools


def cold_starts(job: Job, structure: Structure) -> list[tuple[str, float, float, float]]:
    """What is new, seconds to load, of the first call and of the same call again, each in a fresh process."""
    rows = []
    with TemporaryDirectory() as empty:
        for side, told, environment in (
            (PEER, PEER, {}),
            (OURS, OURS, {}),
            (OURS, f"{OURS}, kernels not compiled before", {"NUMBA_CACHE_DIR": empty}),
        ):
            with workers(1, **environment) as (pool,):
                rows.append((told, *pool.submit(first_calls, side, job, [structure]).result()))
    return rows


def shortest_distance(structure: Structure) -> float:
    """Å; infinite when no two atoms are within 6."""
    distances = structure.get_neighbor_list(6.0)[3]
    return float(distances.min()) if len(distances) else float("inf")


def is_sane(outcome: Outcome) -> bool:
    """Whether distances and volume are within the bounds that stage ``stability`` sets by default."""
    bounds = SuspectSettings()
    structure = Structure.from_dict(outcome.structure)
    ratio, _ = closest_pair(structure, bounds.distance_ratio_below)
    return ratio >= bounds.distance_ratio_below and abs(outcome.volume_change) <= bounds.volume_change_above
