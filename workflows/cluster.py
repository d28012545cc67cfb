"""Where the work runs: a local Dask cluster, its GPUs, jobs of a batch system, or a scheduler that is already there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Security

from pipeline.cluster_settings import BATCH_KINDS, ClusterSettings, TlsSettings
from workflows.batch_jobs import job_groups, job_options
from workflows.files import RunError
from workflows.local_workers import LOOPBACK, workers_here

SAY_SECONDS = 60.0
"""How often a user who waits for workers hears what the queue says."""

Say = Callable[[str], None]


class ClusterError(RunError):
    """The cluster can't be reached or has no workers."""


def worker_environment(threads: int) -> dict[str, str]:
    """Variables a worker needs before its process starts.

    glibc must keep freed blocks (a batch of 128 crystals is six times slower under its default, by page faults),
    and Dask presets a trim threshold that undoes it; torch, Numba and BLAS must not fight for cores.
    """
    return {
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
        "MALLOC_TOP_PAD_": str(256 << 20),
        **{
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        },
    }


def scheduler_rules(kind: str) -> dict[str, Any]:
    """Dask's settings for scheduler and client, and for workers that this process starts."""
    return {
        # A dying worker blames every task it held: hold one, steal none, and bisect ourselves.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.work-stealing": False,
        # Where jobs are killed for reasons of their own, a task may see several workers die before it is blamed.
        "distributed.scheduler.allowed-failures": 5 if kind in BATCH_KINDS else 2,
        # Scheduler and nannies share a laptop's cores with the workers; by default each wakes 50 times a second.
        "distributed.admin.tick.interval": "500ms",
        "distributed.admin.system-monitor.interval": "2s",
        "distributed.worker.profile.interval": "100ms",
    }


def log_folder(settings: ClusterSettings, run_folder: Path) -> Path:
    """Where the logs of a run's jobs lie."""
    return run_folder.resolve() / (settings.log_folder or "logs")


def settings_beside(config: Path, settings: ClusterSettings) -> ClusterSettings:
    """The settings with absolute paths to certificates, which a campaign names relative to its file.

    Raises
    ------
    ClusterError
        When a certificate is no file.
    """
    if settings.tls is None:
        return settings
    base = config.resolve().parent
    named = settings.tls.model_dump(exclude_none=True)
    paths = {name: str(base / Path(text).expanduser()) for name, text in named.items()}
    missing = [f"{name} ({path})" for name, path in paths.items() if not Path(path).is_file()]
    if missing:
        raise ClusterError(f"cluster.tls: {', '.join(missing)} is no file; docs/cluster.md says how to make them")
    return settings.model_copy(update={"tls": settings.tls.model_copy(update=paths)})


@contextmanager
def connect(
    settings: ClusterSettings, *, name: str = "ionsieve", run_folder: Path | None = None, say: Say = lambda _: None
) -> Iterator[Client]:
    """Yield a Dask client of a cluster that has a worker.

    Parameters
    ----------
    settings
        With absolute paths to certificates.
    name
        Of the jobs, in the queue.
    run_folder
        Where the jobs' logs go, for batch systems; default the current folder.
    say
        Takes lines for the user, such as what the queue says of jobs that wait.

    Raises
    ------
    ClusterError
        When a configured address does not answer within 10 s, or no worker came within ``settings.wait``.
    JobsFailError
        When the batch system takes no jobs, or they end at once.
    MissingExtraError
        When packages for this kind of cluster are not installed.
    """
    rules = {
        **scheduler_rules(settings.kind),
        "distributed.nanny.pre-spawn-environ": worker_environment(settings.threads_per_worker),
        "distributed.worker.daemon": True,
        # Results are small, so there is nothing to spill; a worker whose freed blocks glibc keeps stays paused.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.comm.timeouts.connect": "30s",
        # After Dask's 15 s a busy machine's worker is still starting; ending it would blame the task it gets first.
        "distributed.deploy.lost-worker-timeout": "120s",
    }
    with dask.config.set(rules):
        if settings.kind == "address":
            with _client_of(settings) as client:
                _wait_for_worker(client, settings.wait or 0.0, say, lambda: f"none at {settings.address} yet")
                yield client
        elif settings.kind in BATCH_KINDS:
            with _jobs(settings, name, log_folder(settings, run_folder or Path()), say) as client:
                yield client
        else:
            with workers_here(settings, _secured(settings.tls)) as client:
                yield client


@contextmanager
def _client_of(settings: ClusterSettings) -> Iterator[Client]:
    try:
        client = Client(settings.address, timeout=10, security=_security(settings.tls))
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"no Dask scheduler answers at {settings.address}: {error}") from None
    with client:
        yield client


@contextmanager
def _jobs(settings: ClusterSettings, name: str, logs: Path, say: Say) -> Iterator[Client]:
    """Jobs of a batch system, and a scheduler in this process that they find."""
    from workflows.batch_cluster import BatchCluster

    groups = job_groups(settings)
    variables = worker_environment(settings.threads_per_worker)
    options = {group.name: job_options(group, settings, name=name, logs=logs, variables=variables) for group in groups}
    scheduler = {
        **_secured(settings.tls),
        "interface": settings.scheduler_interface or settings.interface,
        "port": settings.scheduler_port or 0,
        "dashboard_address": f"{LOOPBACK}:0",
    }
    with (
        BatchCluster(
            groups, options, scheduler=scheduler, security=_security(settings.tls), logs=logs, say=say
        ) as cluster,
        Client(cluster) as client,
    ):
        say(f"scheduler: {cluster.scheduler_address}; logs of the jobs: {logs}")
        if settings.tls is None:
            say("whoever reaches the scheduler can run code as you; set cluster.tls on a network that others use")
        hours = float("inf") if settings.wait is None else settings.wait
        _wait_for_worker(client, hours, say, cluster.queue, cluster.failure)
        yield client


def _wait_for_worker(
    client: Client,
    hours: float,
    say: Say,
    news: Callable[[], str],
    failure: Callable[[], RunError | None] = lambda: None,
) -> None:
    """Wait until there is a worker, and tell what is waited for."""
    started = said = time.monotonic()
    while not client.scheduler_info(n_workers=-1)["workers"]:
        now = time.monotonic()
        if (error := failure()) is not None:
            raise error
        if now - started >= hours * 3600.0:
            asked = f"within {hours:g} h (cluster.wait)" if hours else "there"
            raise ClusterError(f"no worker {asked}: {news()}; start some, then run the same command again")
        if now - said >= SAY_SECONDS or said == started:
            said = now
            say(f"waiting for the first worker: {news()}")
        time.sleep(0.5)


def _security(tls: TlsSettings | None) -> Security | None:
    """Dask's certificates for every role; a plain connection is refused."""
    if tls is None:
        return None
    roles = {f"tls_{role}_cert": tls.cert for role in ("client", "scheduler", "worker")}
    keys = {f"tls_{role}_key": tls.key or tls.cert for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=tls.ca_file, **roles, **keys)


def _secured(tls: TlsSettings | None) -> dict[str, Any]:
    return {} if tls is None else {"security": _security(tls), "protocol": "tls://"}
