"""What a run would start: the script of each kind of job, or the workers on this machine. Nothing is started."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from pipeline.cluster_settings import BATCH_KINDS, ClusterSettings
from pipeline.config import Campaign
from workflows.batch_jobs import JobGroup, job_class, job_groups, job_options, job_script
from workflows.cluster import log_folder, worker_environment
from workflows.local_workers import memory_of_worker, worker_count


def what_would_start(campaign: Campaign, settings: ClusterSettings, run_folder: Path) -> str:
    """The text of `ionsieve run --dry-run`.

    Parameters
    ----------
    campaign
        For its name.
    settings
        Its cluster, with absolute paths to certificates.
    run_folder
        Where the logs would lie.

    Raises
    ------
    MissingExtraError
        When the packages that write the scripts are not installed.
    """
    if settings.kind in BATCH_KINDS:
        return "\n".join(_scripts(campaign.name, settings, run_folder))
    if settings.kind == "address":
        return f"no worker would be started; those of the Dask scheduler at {settings.address} would be used"
    limit = memory_of_worker(settings, worker_count(settings))
    memory = f"{int(limit) / 2**30:.1f}GiB" if limit.isdigit() else limit
    if settings.kind == "cuda":
        number = f"{settings.workers} worker processes" if settings.workers else "a worker process for each GPU"
        first = f"{number} would be started on this machine, with"
    else:
        first = f"{worker_count(settings)} worker processes of {memory} would be started on this machine, with"
    return "\n".join([first, *_exports(worker_environment(settings.threads_per_worker))])


def _scripts(campaign: str, settings: ClusterSettings, run_folder: Path) -> Iterator[str]:
    variables = worker_environment(settings.threads_per_worker)
    protocol = "tcp" if settings.tls is None else "tls"
    scheduler = f"{protocol}://<address of the scheduler>:{settings.scheduler_port or '<port>'}"
    for group in job_groups(settings):
        options = job_options(
            group, settings, name=f"ionsieve-{campaign}", logs=log_folder(settings, run_folder), variables=variables
        )
        yield f"# {_number(group)}, each handed to {job_class(group.kind).submit_command}:"
        yield job_script(group, options, scheduler)


def _number(group: JobGroup) -> str:
    workers = f"{group.processes} worker{'s' if group.processes != 1 else ''}"
    number = f"{group.maximum}" if group.minimum == group.maximum else f"{group.minimum} to {group.maximum}"
    return f"{number} {group.name} job{'s' if group.maximum != 1 else ''} of {workers}"


def _exports(variables: dict[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
