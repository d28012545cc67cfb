"""What a campaign will cost: exact counts, a sample through the cheap gates, and rates measured on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil, log2, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from distributed import Client

from pipeline.config import Campaign, ClusterSettings
from pipeline.reference.competing import competing_phases
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.settings import DynamicsStageSettings
from pipeline.stages import candidates
from pipeline.stages.candidate_sample import CandidateSample, sample_candidates
from workflows.cluster import connect
from workflows.local_workers import worker_count
from workflows.preflight import Inputs
from workflows.progress import ProgressView
from workflows.relaxed_phases import competing_phases_settings
from workflows.session import open_references
from workflows.stage_rates import Rate, StageRates
from workflows.store import RunFolder
from workflows.worker import ReferencesPlugin

READS_PHASES = ("window", "reactivity", "practicality")
"""Stages that can't be timed before a self-consistent reference is relaxed."""

UNITS_PER_SECOND = 25.0
"""What one client and one scheduler hand out and take back without haste; 38 a second were the most that
scripts/simulate_cluster.py saw, its thousand workers on the same two cores."""

# Seconds that all units of a step may take to be handed out before another chunk_size is worth a word.
_PATIENCE = 60.0


@dataclass(frozen=True)
class PlannedStep:
    """One line of the plan; ``passing`` is assumed, by the config, else 1.0 as an upper bound. None: not measured."""

    step: str
    rows: float
    chunk_size: int
    units: int
    passing: float
    passing_from: str
    seconds_per_row: float | None
    core_hours: float | None
    disk_GiB: float | None  # noqa: N815
    worker_memory_GiB: float | None  # noqa: N815
    note: str

    def hours(self, workers: int, speed: float) -> float:
        """Wall time on a number of workers: theirs, or that of handing out units when those are too many."""
        return max((self.core_hours or 0.0) / (workers * speed), self.units / UNITS_PER_SECOND / 3600.0)

    def better_chunk_size(self, workers: int, speed: float) -> int | None:
        """Rows a unit, a power of two, with which this many workers are through sooner; None where there is none.

        Each worker asks for a unit as often as it ends one, and all of them are to ask for at most UNITS_PER_SECOND. A
        step too short for that is over soonest when handing out its units takes as long as computing one of them.
        """
        work = 3600.0 * (self.core_hours or 0.0) / speed
        if self.units < UNITS_PER_SECOND * _PATIENCE or self.hours(workers, speed) <= work / workers / 3600.0:
            return None
        longer = min(workers / UNITS_PER_SECOND, sqrt(work / UNITS_PER_SECOND)) / (work / self.units) if work else 0.0
        return 2 ** ceil(log2(self.chunk_size * longer)) if longer > 1.0 else None


@dataclass(frozen=True)
class Plan:
    """Counts, steps, and the time that they take here and on the configured cluster."""

    counts: dict[str, int]
    sample: CandidateSample
    steps: list[PlannedStep]
    campaign: Campaign

    def duration(self, workers: int, speed: float = 1.0) -> float | None:
        """Hours on a number of workers, of the steps that were measured; None when none was."""
        known = [step.hours(workers, speed) for step in self.steps if step.core_hours is not None]
        return sum(known) if known else None

    def better_chunk_sizes(self, workers: int, speed: float) -> dict[str, int]:
        """Rows a unit for the steps whose units are too small for that many workers."""
        found = {step.step: step.better_chunk_size(workers, speed) for step in self.steps}
        return {step: size for step, size in found.items() if size is not None}

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with the names that the documentation uses."""
        here = worker_count(ClusterSettings())
        cluster = self.campaign.plan.cluster
        out: dict[str, Any] = {
            "campaign": self.campaign.name,
            "substitution": self.campaign.candidates.substitution,
            "by": self.campaign.candidates.by,
            "prototypes_total": self.counts["prototypes"],
            "prototypes_without_oxidation_states": self.counts["prototypes_without_oxidation_states"],
            "prototypes_element_wise": self.counts["prototypes_element_wise"],
            "raw_assignments": self.counts["raw_assignments"],
            "candidates_total": self.counts["candidates"],
            "cheap_gates": {
                "passing": self.sample.passing,
                "standard_error": self.sample.standard_error,
                "rejected": self.sample.rejected,
            },
            "steps": [asdict(step) for step in self.steps],
            "steps_without_a_rate": [step.step for step in self.steps if step.core_hours is None],
            "this_machine": {"workers": here, "hours": self.duration(here)},
        }
        if cluster is not None:
            hours = self.duration(cluster.workers, cluster.relative_speed)
            price = cluster.cost_per_worker_hour
            out["cluster"] = {
                "workers": cluster.workers,
                "relative_speed": cluster.relative_speed,
                "hours": hours,
                "cost_USD": None if hours is None or price is None else hours * cluster.workers * price,
                "better_chunk_sizes": self.better_chunk_sizes(cluster.workers, cluster.relative_speed),
            }
        return out


def plan_campaign(inputs: Inputs, view: ProgressView, *, measure: bool = True) -> Plan:
    """Count a campaign exactly, and estimate what each of its steps takes.

    Parameters
    ----------
    inputs
        The campaign with its data found.
    measure
        Whether to run the stages on a small sample in one worker; without, only rates measured before are used.

    Raises
    ------
    ConfigError
        When the prototypes can't be read.
    """
    campaign = inputs.campaign
    with TemporaryDirectory(prefix="ionsieve-plan-") as name:
        folder = RunFolder(Path(name))
        references, digests = open_references(inputs, folder, view)
        library = references.library
        counts = candidates.count(campaign.candidates, library)
        sample = sample_candidates(campaign.candidates, library, campaign.mobile_ions)
        rows = sample.rows.sample(min(campaign.plan.sample, len(sample.rows)), random_state=0, ignore_index=True)
        one = ClusterSettings(workers=1, threads_per_worker=campaign.cluster.threads_per_worker)
        with _worker(one, references, measure=measure) as client:
            rates = StageRates(client, digests, Path(name), rows)
            steps = list(_steps(campaign, library, counts, sample, rates))
    return Plan(counts, sample, steps, campaign)


@contextmanager
def _worker(settings: ClusterSettings, references: Any, *, measure: bool) -> Iterator[Client | None]:
    if not measure:
        yield None
        return
    with connect(settings) as client:
        client.register_plugin(ReferencesPlugin(references, settings.threads_per_worker))
        yield client


def _steps(
    campaign: Campaign, library: PrototypeLibrary, counts: dict[str, int], sample: CandidateSample, rates: StageRates
) -> Iterator[PlannedStep]:
    rate = rates.of_candidates(campaign.candidates, library, sample.passing)
    chosen = campaign.candidates
    units = _Units(chosen.chunk_size, counts["raw_assignments"])
    yield _planned("candidates", counts["candidates"], units, sample.passing, "a sample", rate)
    rows = counts["candidates"] * sample.passing
    relaxing: Rate | None = None
    if campaign.reference.source == "prototypes":
        settings = competing_phases_settings(campaign)
        own = library if campaign.reference.prototypes == "campaign" else None
        phases = competing_phases(chosen.allowed_elements, campaign.reference, chosen.charges, own)
        relaxing = rates.of_stage(settings, phases.sample(min(len(phases), rates.n_rows), random_state=0))
        units = _Units(settings.chunk_size, len(phases))
        yield _planned("competing_phases", len(phases), units, 1.0, "all are needed", relaxing)
    for settings in campaign.stages:
        passing = campaign.plan.passing.get(settings.step)
        if settings.stage == "dft":
            rate = _not_timed
        elif settings.stage == "dynamics":
            rate = _rate_of_dynamics(settings)
        elif relaxing is None:
            rate = rates.of_stage(settings)
        elif settings.stage == "stability":
            rate = Rate(relaxing.seconds, relaxing.bytes_on_disk, relaxing.memory_GiB, "as the competing phases")
        else:
            rate = _unmeasured if settings.stage in READS_PHASES else rates.of_stage(settings)
        source = "upper bound" if passing is None else "plan.passing"
        rows = min(rows, settings.best or rows)
        units = _Units(settings.chunk_size, rows)
        yield _planned(settings.step, rows, units, 1.0 if passing is None else passing, source, rate)
        rows *= 1.0 if passing is None else passing


class _Units(NamedTuple):
    """How a step is cut: what it lists, rows or raw assignments, so many a unit."""

    chunk_size: int
    listed: float


_not_timed = Rate(None, 0.0, 0.0, "not measured: DFT takes minutes to hours a row, at most dft.time_limit")
_unmeasured = Rate(None, 0.0, 0.0, "not measured: it needs the relaxed reference")


def _rate_of_dynamics(settings: DynamicsStageSettings) -> Rate:
    """Hours a row, so not timed; what they are made of is known."""
    note = (
        f"not measured: {settings.total_steps:,} time steps a row, each as long as a relaxation step of its supercell"
    )
    return Rate(None, 0.0, 0.0, note)


def _planned(step: str, rows: float, units: _Units, passing: float, source: str, rate: Rate) -> PlannedStep:
    kept = rows * passing if step == "candidates" else rows
    needs: tuple[float | None, float | None, float | None] = (None, None, None)
    if rate.seconds is not None:
        needs = (rows * rate.seconds / 3600.0, kept * rate.bytes_on_disk / 2**30, rate.memory_GiB)
    return PlannedStep(
        step,
        rows,
        units.chunk_size,
        ceil(units.listed / units.chunk_size),
        passing,
        source,
        rate.seconds,
        *needs,
        rate.note,
    )
