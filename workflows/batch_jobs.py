"""What a batch system is asked for: groups of jobs that are all alike, and the script of a job."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from pipeline.cluster_settings import AdaptiveSettings, ClusterSettings, JobSettings, TlsSettings, seconds_of
from workflows.files import RunError
from workflows.gpu_workers import GPU, GPUS_OF_JOB

if TYPE_CHECKING:
    from dask_jobqueue.core import Job

JOB_STARTED = "IONSIEVE_JOB_STARTED"
"""Variable of a job: when it started, s since 1970. A worker that its nanny starts anew has less of the job left."""

DEATH_TIMEOUT = 300
"""Seconds a worker waits for a scheduler, and its nanny for a worker: imports from a shared file system are slow."""

_DASK = {f"DASK_DISTRIBUTED__WORKER__MEMORY__{what}": "False" for what in ("TARGET", "SPILL", "PAUSE")}
"""Results are small, so there is nothing to spill; a worker whose freed blocks glibc keeps would stay paused."""

_PASSED_ON = ("IONSIEVE_DATA", "IONSIEVE_CACHE")
_PBS_NAME = 15
"""Characters that the name of a PBS job may have."""


class MissingExtraError(RunError):
    """A kind of cluster needs packages that are not installed."""


@dataclass(frozen=True)
class JobGroup:
    """Jobs that are all alike: what each asks for, how many there may be, and what their workers have.

    ``lifetime`` and ``stagger`` are in s: a worker ends after lifetime +- stagger, before the walltime ends its job.
    """

    name: str
    kind: str
    asked: JobSettings
    processes: int
    cores: int
    minimum: int
    maximum: int
    idle: float
    lifetime: int
    stagger: int
    resources: Mapping[str, int]

    def worker_names(self, job: str) -> list[str]:
        """Names of a job's workers."""
        return [job] if self.processes == 1 else [f"{job}-{i}" for i in range(self.processes)]


def job_groups(settings: ClusterSettings) -> list[JobGroup]:
    """The groups of a batch cluster: the jobs with CPUs, and those with GPUs where there are some."""
    threads = settings.threads_per_worker
    processes = settings.processes or max(1, (settings.cores or threads) // threads)
    groups = [_group("cpu", settings, settings, processes, {})]
    if settings.gpu is not None:
        shared = ("queue", "account", "walltime", "memory")
        inherited = {name: getattr(settings, name) for name in shared if getattr(settings.gpu, name) is None}
        if not settings.gpu.prologue:
            inherited["prologue"] = settings.prologue
        own = settings.gpu.model_copy(update=inherited)
        groups.append(_group("gpu", settings, own, own.processes, {GPU: 1}))
    return groups


def _group(
    name: str, settings: ClusterSettings, asked: JobSettings, processes: int, resources: Mapping[str, int]
) -> JobGroup:
    number = asked.adaptive or AdaptiveSettings(minimum=asked.jobs or 1, maximum=asked.jobs or 1)
    whole = seconds_of(asked.walltime or "")
    margin = min(settings.lifetime_margin or max(120, min(600, whole // 10)), whole // 2)
    cores = asked.cores or processes * settings.threads_per_worker
    return JobGroup(
        name,
        settings.kind,
        asked,
        processes,
        cores,
        number.minimum,
        number.maximum,
        number.idle * 60.0,
        whole - margin,
        margin // 2,
        resources,
    )


def job_class(kind: str) -> type[Job]:
    """dask-jobqueue's class for the jobs of a batch system.

    Raises
    ------
    MissingExtraError
        When dask-jobqueue is not installed.
    """
    # Its import takes Ctrl-C over, to end the process with exit code 0.
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue.lsf import LSFJob
        from dask_jobqueue.pbs import PBSJob
        from dask_jobqueue.sge import SGEJob
        from dask_jobqueue.slurm import SLURMJob
    except ImportError:
        raise MissingExtraError(
            f"cluster.kind: {kind} needs dask-jobqueue, which is not installed; pip install 'ionsieve[cluster]'"
        ) from None
    finally:
        if signal.getsignal(signal.SIGINT) is not on_interrupt:
            signal.signal(signal.SIGINT, on_interrupt)
    return {"slurm": SLURMJob, "pbs": PBSJob, "sge": SGEJob, "lsf": LSFJob}[kind]


def job_options(
    group: JobGroup,
    settings: ClusterSettings,
    *,
    name: str,
    logs: Path,
    variables: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Arguments of dask-jobqueue's job class for the jobs of a group.

    ``variables`` must be set before a worker's process starts, so they stand in the script; a nanny's come too late
    for the allocator. Those of ``settings.environment`` come last and win.
    """
    asked = group.asked
    exported = {
        **variables,
        **_DASK,
        **({GPUS_OF_JOB: str(group.processes)} if group.resources and group.processes > 1 else {}),
        **{name: environ[name] for name in _PASSED_ON if name in environ},
        **settings.environment,
    }
    job_name = name if group.name == "cpu" else f"{name}-{group.name}"
    if group.kind == "pbs":
        job_name = job_name[:_PBS_NAME]
    options: dict[str, Any] = {
        "queue": asked.queue,
        ("account" if group.kind in ("slurm", "pbs") else "project"): asked.account,
        "walltime": _walltime(group.kind, asked.walltime or ""),
        "job_name": job_name,
        # Dask runs one task a worker at a time, whatever number of cores the job has.
        "cores": group.processes,
        "processes": group.processes,
        "memory": asked.memory,
        "job_extra_directives": [*asked.directives, *_log_directives(group.kind, logs / job_name)],
        "job_script_prologue": [
            f"export {JOB_STARTED}=$(date +%s)",
            *asked.prologue,
            *(f"export {variable}={shlex.quote(value)}" for variable, value in exported.items()),
        ],
        "python": settings.python or shlex.quote(sys.executable),
        "interface": settings.interface,
        "local_directory": settings.local_directory,
        "death_timeout": DEATH_TIMEOUT,
        "worker_extra_args": _worker_arguments(group, settings.tls),
    }
    if group.kind == "slurm":
        options["job_cpu"] = group.cores
    if group.kind == "lsf":
        options["ncpus"] = group.cores
    if group.kind == "sge":
        options["resource_spec"] = asked.resource_spec
    if group.kind == "pbs":
        options["resource_spec"] = asked.resource_spec or _pbs_resources(group.cores, asked.memory or "")
    return options


def job_script(group: JobGroup, options: Mapping[str, Any], scheduler: str) -> str:
    """The script of one job of a group, as it is handed to the batch system."""
    return str(job_class(group.kind)(scheduler, name=f"{group.name}-1", **options).job_script())


def _worker_arguments(group: JobGroup, tls: TlsSettings | None) -> list[str]:
    arguments = ["--no-dashboard", "--lifetime", f"{group.lifetime}s", "--lifetime-stagger", f"{group.stagger}s"]
    if group.resources:
        arguments += ["--resources", ",".join(f"{name}={amount}" for name, amount in group.resources.items())]
    if tls is not None:
        files = {"--tls-ca-file": tls.ca_file, "--tls-cert": tls.cert, "--tls-key": tls.key or tls.cert}
        arguments += [text for option, path in files.items() for text in (option, shlex.quote(path))]
    return arguments


def _walltime(kind: str, walltime: str) -> str:
    """A time limit as the batch system reads it; HH:MM is hours and minutes to LSF, minutes and seconds to Slurm."""
    minutes, seconds = divmod(seconds_of(walltime), 60)
    hours, minutes = divmod(minutes, 60)
    if kind == "lsf":
        return f"{hours:02d}:{minutes + (seconds > 0):02d}"
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def _log_directives(kind: str, stem: Path) -> list[str]:
    """Lines that send what a job prints to one file in the folder of logs."""
    folder = shlex.quote(f"{stem.parent}/")
    return {
        "slurm": [f"-o {shlex.quote(f'{stem}-%j.log')}"],
        "pbs": ["-j oe", f"-o {folder}"],
        "sge": [f"-o {folder}"],
        "lsf": [f"-o {shlex.quote(f'{stem}-%J.log')}"],
    }[kind]


def _pbs_resources(cores: int, memory: str) -> str:
    return f"select=1:ncpus={cores}:mem={math.ceil(parse_bytes(memory) / 2**20)}mb"
