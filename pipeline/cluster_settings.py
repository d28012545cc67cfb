"""Where the work is done: this machine, its GPUs, a scheduler that is there, or jobs of a batch system."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline.stage_settings import Settings

BATCH_KINDS = ("slurm", "pbs", "sge", "lsf")
"""Kinds of cluster whose workers are jobs that a batch system starts."""

_MEMORY = r"^\d{3,6} ?Mi?B$|^\d{1,4}(\.\d+)? ?Gi?B$"
_WALLTIME = r"^(\d{1,2}-)?\d{1,3}:[0-5]\d:[0-5]\d$"
_ONE_LINE = r"^[^\n\r\x00]{1,2000}$"
_PATH = r"^[^\s'\"`;&|<>\x00]{1,1000}$"
_NAME = r"^[^\s#'\"`;&|<>\x00]{1,200}$"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,100}"
_SHORTEST_WALLTIME = 300
"""Seconds. A worker needs a minute to start and ends two before its job."""

Line = Annotated[str, Field(pattern=_ONE_LINE)]


class TlsSettings(Settings):
    """Certificates that scheduler, workers and client show each other; all of one authority, which none else has."""

    ca_file: str = Field(
        pattern=_PATH, description="certificate of the authority, PEM; relative to the campaign's file"
    )
    cert: str = Field(pattern=_PATH, description="certificate that it signed, PEM")
    key: str | None = Field(None, pattern=_PATH, description="private key of cert; default: in the same file")


class AdaptiveSettings(Settings):
    """Jobs come and go with the work."""

    minimum: int = Field(0, ge=0, le=10_000, description="jobs that are always asked for")
    maximum: int = Field(ge=1, le=10_000, description="jobs that are asked for at most")
    idle: float = Field(10.0, ge=0.5, le=1440.0, description="minutes after which a job without work is given back")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum is {self.minimum} jobs, above the maximum of {self.maximum}")
        return self


class JobSettings(Settings):
    """What is asked of the batch system for each job of a group."""

    queue: str | None = Field(None, pattern=_NAME, description="queue or partition; default: the site's")
    account: str | None = Field(None, pattern=_NAME, description="account or project that pays")
    walltime: str | None = Field(
        None,
        pattern=_WALLTIME,
        description="time limit of a job, HH:MM:SS or D-HH:MM:SS; workers end before it, and new jobs follow",
    )
    cores: int | None = Field(None, ge=1, le=1024, description="cores of a job; default: what its workers need")
    memory: str | None = Field(
        None, pattern=_MEMORY, description="memory of a job, shared evenly by its workers, e.g. 64GiB"
    )
    processes: int | None = Field(None, ge=1, le=1024, description="workers of a job; default: as many as cores hold")
    jobs: int | None = Field(None, ge=1, le=10_000, description="jobs that are kept; a job that ends is asked for anew")
    adaptive: AdaptiveSettings | None = Field(None, description="instead of jobs: their number follows the work")
    directives: tuple[Line, ...] = Field(
        (), description="further lines for the batch system, without #SBATCH, #PBS, #$ or #BSUB"
    )
    resource_spec: Line | None = Field(
        None, description="pbs, sge: the -l line, instead of the one that cores and memory make"
    )
    prologue: tuple[Line, ...] = Field(
        (), description="shell lines before the workers start: module load, source an environment"
    )

    @field_validator("walltime")
    @classmethod
    def _long_enough(cls, value: str | None) -> str | None:
        if value is not None and seconds_of(value) < _SHORTEST_WALLTIME:
            raise ValueError(f"{value} leaves no time for work; a job needs {_SHORTEST_WALLTIME // 60} minutes or more")
        return value

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.jobs is not None and self.adaptive is not None:
            raise ValueError("give 'jobs' (that many are kept) or 'adaptive' (they come and go), not both")
        return self


class GpuJobs(JobSettings):
    """Jobs with GPUs beside the others: one worker a GPU, for stages that run a network.

    Queue, account, walltime, memory and prologue that are not set are those of the other jobs.
    """

    processes: int = Field(1, ge=1, le=64, description="GPUs of a job: it has as many workers")

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.jobs is None and self.adaptive is None:
            raise ValueError("gpu needs 'jobs' or 'adaptive'")
        return self


class _Kind(Settings):
    """First of all keys, since the others are checked against it."""

    kind: Literal["local", "address", "cuda", "slurm", "pbs", "sge", "lsf"] = Field(
        "local",
        description="local: worker processes on this machine; cuda: one on each of its GPUs (ionsieve[cuda]); address: "
        "a Dask scheduler that is already there; slurm, pbs, sge, lsf: jobs of that batch system (ionsieve[cluster])",
    )


class ClusterSettings(JobSettings, _Kind):
    """Where the work is done. docs/cluster.md has an example for each kind."""

    address: str | None = Field(None, description="scheduler address such as tcp://node1:8786, for kind: address")
    workers: int | None = Field(
        None, ge=1, le=4096, description="local, cuda: worker processes; default one a core, or a GPU"
    )
    threads_per_worker: int = Field(1, ge=1, le=64, description="threads torch and Numba may use in one worker")
    memory_limit: str = Field(
        "auto",
        pattern=r"^(auto|\d{3,6} ?Mi?B|\d{1,4}(\.\d+)? ?Gi?B)$",
        description="local, cuda: memory of one worker, e.g. 4GiB or 800MB",
    )
    gpu: GpuJobs | None = Field(None, description="batch: a second group of jobs, with GPUs")
    python: str | None = Field(
        None, pattern=_PATH, description="batch: interpreter on the nodes; default: the one that runs ionsieve"
    )
    interface: str | None = Field(
        None, pattern=_NAME, description="batch: network interface of workers and scheduler, e.g. ib0"
    )
    scheduler_interface: str | None = Field(
        None, pattern=_NAME, description="batch: that of the scheduler, where it has another name on this machine"
    )
    scheduler_port: int | None = Field(
        None, ge=1024, le=65535, description="batch: port of the scheduler, behind a firewall; default: a free one"
    )
    local_directory: str | None = Field(
        None, pattern=_PATH, description="batch: fast local disk of a node for what spills, e.g. $TMPDIR"
    )
    log_folder: str | None = Field(
        None, pattern=_PATH, description="batch: where the jobs' logs go; relative to the run folder, default logs"
    )
    lifetime_margin: int | None = Field(
        None, ge=60, le=86_400, description="batch: s before walltime at which workers end; default a tenth, 120 to 600"
    )
    environment: dict[str, Line] = Field(
        default_factory=dict, description="batch: further variables of the workers; IONSIEVE_DATA is passed on as it is"
    )
    wait: float | None = Field(
        None,
        ge=0.0,
        le=10_000.0,
        description="hours to wait for the first worker; default: without end where jobs are queued, else not at all",
    )
    tls: TlsSettings | None = Field(None, description="encrypt, and let none in without a certificate")

    @field_validator("*")
    @classmethod
    def _of_this_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind, name = info.data.get("kind"), str(info.field_name)
        field = cls.model_fields[name]
        # What a run folder's own config.yaml holds: every default, also those of other kinds.
        unset = field.get_default(call_default_factory=True)
        if kind is None or value == unset or name in _keys_of(kind):
            return value
        kinds = [other for other in _KEYS if name in _keys_of(other)]
        raise ValueError(f"kind: {kind} takes no {name!r}; it is for {', '.join(kinds)}")

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [name for name in value if not re.fullmatch(_VARIABLE, name)]
        if wrong:
            raise ValueError(f"{', '.join(map(repr, wrong))} can't be a variable; use letters, digits and _")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("kind: address needs 'address', and only it takes one")
        if self.address is not None and self.address.startswith("tls://") != (self.tls is not None):
            raise ValueError(f"{self.address} and 'tls' do not fit together: encrypted addresses begin with tls://")
        if self.kind in BATCH_KINDS:
            self._complete_jobs()
        return self

    def _complete_jobs(self) -> None:
        if self.memory is None:
            raise ValueError(f"kind: {self.kind} needs 'memory': of a job, e.g. 16GiB")
        if self.walltime is None:
            raise ValueError(f"kind: {self.kind} needs 'walltime': workers end before it; e.g. 04:00:00")
        if self.jobs is None and self.adaptive is None:
            raise ValueError(f"kind: {self.kind} needs 'jobs' or 'adaptive'")
        for where, group in (("", self), ("gpu: ", self.gpu)):
            if group is None:
                continue
            needed = (group.processes or 1) * self.threads_per_worker
            if group.cores is not None and group.cores < needed:
                raise ValueError(
                    f"{where}{group.processes or 1} workers of {self.threads_per_worker} threads need {needed} cores, "
                    f"a job has {group.cores}"
                )
            if group.resource_spec is not None and self.kind not in ("pbs", "sge"):
                raise ValueError(f"{where}resource_spec is for pbs and sge; use 'directives'")
            cores = group.cores or needed
            asks = any(re.match(r"-pe\b", line) for line in group.directives)
            if self.kind == "sge" and cores > 1 and not asks:
                raise ValueError(
                    f"{where}{cores} cores of a Grid Engine job are asked for by a parallel "
                    f"environment with a name of your site; add it to directives, e.g. '-pe smp {cores}'"
                )


_OF_ALL = frozenset({"kind", "threads_per_worker", "tls"})
_OF_BATCH = frozenset(ClusterSettings.model_fields) - {"address", "workers", "memory_limit"}
_KEYS = {
    "local": _OF_ALL | {"workers", "memory_limit"},
    "cuda": _OF_ALL | {"workers", "memory_limit"},
    "address": _OF_ALL | {"address", "wait"},
    **dict.fromkeys(BATCH_KINDS, _OF_BATCH),
}


def _keys_of(kind: str) -> frozenset[str]:
    return _KEYS[kind]


def seconds_of(walltime: str) -> int:
    """Seconds of a time limit written as HH:MM:SS or D-HH:MM:SS."""
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
