"""What a campaign will cost: exact counts, a sample through the cheap gates, and rates measured on this machine."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil
from distributed import Client

from pipeline.atomic_files import write_json
from pipeline.cache import user_cache
from pipeline.candidate_settings import CandidateSettings
from pipeline.config import Campaign, ClusterSettings
from pipeline.reference.competing import competing_phases
from pipeline.reference.prototype_library import PrototypeLibrary
from pipeline.settings import DynamicsStageSettings, StageSettings
from pipeline.stages import candidates
from pipeline.stages.candidate_sample import CandidateSample, sample_candidates
from workflows.cluster import connect
from workflows.files import digest_of
from workflows.identity import Digests
from workflows.local_workers import worker_count
from workflows.preflight import Inputs
from workflows.progress import ProgressView
from workflows.provenance import arithmetic_facts
from workflows.relaxed_phases import competing_phases_settings
from workflows.session import open_references
from workflows.store import RunFolder
from workflows.worker import ReferencesPlugin, run_candidates_unit, run_stage_unit

READS_PHASES = ("window", "reactivity", "practicality")
"""Stages that can't be timed before a self-consistent reference is relaxed."""

TIMED_UNITS = 3
TIMED_RANKS = 200_000


@dataclass(frozen=True)
class Rate:
    """Core-seconds a row (None: not measured, ``note`` says why), bytes a row on disk, and a worker's memory, GiB."""

    seconds: float | None
    bytes_on_disk: float
    memory_GiB: float  # noqa: N815  (a unit is written as it is)
    note: str = ""


@dataclass(frozen=True)
class PlannedStep:
    """One line of the plan; ``passing`` is assumed, by the config, else 1.0 as an upper bound."""

    step: str
    rows: float
    passing: float
    passing_from: str
    seconds_per_row: float | None
    core_hours: float | None
    disk_GiB: float  # noqa: N815
    worker_memory_GiB: float  # noqa: N815
    note: str


@dataclass(frozen=True)
class Plan:
    """Counts, steps, and the time that they take here and on the configured cluster."""

    counts: dict[str, int]
    sample: CandidateSample
    steps: list[PlannedStep]
    campaign: Campaign

    def duration(self, workers: int, speed: float = 1.0) -> float | None:
        """Hours on a number of workers, of the steps that were measured; None when none was."""
        known = [step.core_hours for step in self.steps if step.core_hours is not None]
        return sum(known) / (workers * speed) if known else None

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
            rates = _Rates(client, digests, Path(name), rows)
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
    campaign: Campaign, library: PrototypeLibrary, counts: dict[str, int], sample: CandidateSample, rates: _Rates
) -> Iterator[PlannedStep]:
    rate = rates.of_candidates(campaign.candidates, library, sample.passing)
    yield _planned("candidates", counts["candidates"], sample.passing, "a sample", rate)
    rows = counts["candidates"] * sample.passing
    relaxing: Rate | None = None
    if campaign.reference.source == "prototypes":
        settings = competing_phases_settings(campaign)
        own = library if campaign.reference.prototypes == "campaign" else None
        chosen = campaign.candidates
        phases = competing_phases(chosen.allowed_elements, campaign.reference, chosen.charges, own)
        relaxing = rates.of_stage(settings, phases.sample(min(len(phases), rates.n_rows), random_state=0))
        yield _planned("competing_phases", len(phases), 1.0, "all are needed", relaxing)
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
        yield _planned(settings.step, rows, 1.0 if passing is None else passing, source, rate)
        rows *= 1.0 if passing is None else passing


_not_timed = Rate(None, 0.0, 0.0, "not measured: DFT takes minutes to hours a row, at most dft.time_limit")
_unmeasured = Rate(None, 0.0, 0.0, "not measured: it needs the relaxed reference")


def _rate_of_dynamics(settings: DynamicsStageSettings) -> Rate:
    """Hours a row, so not timed; what they are made of is known."""
    note = (
        f"not measured: {settings.total_steps:,} time steps a row, each as long as a relaxation step of its supercell"
    )
    return Rate(None, 0.0, 0.0, note)


def _planned(step: str, rows: float, passing: float, source: str, rate: Rate) -> PlannedStep:
    hours = None if rate.seconds is None else rows * rate.seconds / 3600.0
    kept = rows * passing if step == "candidates" else rows
    return PlannedStep(
        step, rows, passing, source, rate.seconds, hours, kept * rate.bytes_on_disk / 2**30, rate.memory_GiB, rate.note
    )


class _Rates:
    """Rates of the stages in one worker of this machine, kept in the user's cache."""

    def __init__(self, client: Client | None, digests: Digests, workspace: Path, rows: pd.DataFrame) -> None:
        self.client = client
        self.digests = digests
        self.workspace = workspace
        self.rows = rows

    @property
    def n_rows(self) -> int:
        """Rows on which a stage is timed."""
        return max(4, len(self.rows))

    def of_candidates(self, settings: CandidateSettings, library: PrototypeLibrary, passing: float) -> Rate:
        """Core-seconds a distinct candidate, gates and all, from whole units drawn at random."""
        small = settings.model_copy(update={"chunk_size": min(settings.chunk_size, TIMED_RANKS)})
        units = candidates.plan_units(small, library) if self.client is not None else []
        drawn = random.Random(1).sample(units, min(len(units), TIMED_UNITS))

        def measure(client: Client) -> Rate:
            client.submit(run_candidates_unit, drawn[0], pure=False).result()
            results = [client.submit(run_candidates_unit, unit, pure=False).result() for unit in drawn]
            enumerated = sum(r.note["counts"]["enumerated"] for r in results)
            seconds = sum(r.note["seconds"] for r in results) / max(1, enumerated)
            rows = sum(r.table.num_rows for r in results)
            size = sum(r.table.nbytes for r in results) / max(1, rows) / 4  # as Parquet, about
            return Rate(seconds, size, _memory(client))

        if self.client is not None and not drawn:
            return Rate(0.0, 0.0, 0.0, "no candidates")
        return self._kept("candidates", [self.digests.candidates(), passing], measure)

    def of_stage(self, settings: StageSettings, rows: pd.DataFrame | None = None) -> Rate:
        """Core-seconds a row of a stage on the sample; each stage gets the rows as the one before left them."""
        own = rows is None
        part = self.rows if rows is None else rows.reset_index(drop=True)
        if not len(part):
            return Rate(0.0, 0.0, 0.0, "no candidate of the sample passes the cheap gates")

        def measure(client: Client) -> Rate:
            workspace = str(self.workspace / settings.step)
            client.submit(run_stage_unit, settings, part.head(2), workspace, pure=False).result()
            result = client.submit(run_stage_unit, settings, part, workspace, pure=False).result()
            if own:
                frame = result.table.to_pandas()
                kept = [c for c in self.rows.columns if c == "candidate_id" or c not in frame.columns]
                self.rows = self.rows[kept].merge(frame, on="candidate_id", validate="one_to_one")
            return Rate(result.note["seconds"] / len(part), result.table.nbytes / len(part), _memory(client))

        if settings.stage == "competing_phases":
            digest = self.digests.competing_phases()
        else:
            digest = self.digests.stage(settings)
        return self._kept(settings.step, [digest, part["candidate_id"].tolist()], measure)

    def _kept(self, step: str, key: list[Any], measure: Any) -> Rate:
        path = user_cache() / "rates" / f"{step}-{digest_of([key, arithmetic_facts()])[:16]}.json"
        if self.client is None:
            try:
                return Rate(**json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                return Rate(None, 0.0, 0.0, "not measured yet on this machine")
        rate: Rate = measure(self.client)
        write_json(path, asdict(rate))
        return rate


def _memory(client: Client) -> float:
    return max(client.run(_resident).values()) / 2**30


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)
