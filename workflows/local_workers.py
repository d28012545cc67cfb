"""Workers that are processes of this machine: started, kept at their number, and closed."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from distributed import Client, LocalCluster
from distributed.core import Status
from distributed.deploy.spec import close_clusters

from pipeline.cluster_settings import ClusterSettings
from workflows.batch_jobs import MissingExtraError
from workflows.files import RunStoppedError
from workflows.gpu_workers import GPU

KEEP_SECONDS = 3.0
"""How often the number of workers is looked at."""
STARTS = 3
"""Times that all workers are started before the run gives up."""
CLOSE_SECONDS = 30.0
"""How long workers have to end when the work is done, or when their nanny closes."""

LOOPBACK = "127.0.0.1"


def worker_count(settings: ClusterSettings) -> int:
    """Local worker processes: as configured, else one for each core this process may use."""
    return settings.workers or max(1, len(os.sched_getaffinity(0)) // settings.threads_per_worker)


def memory_of_worker(settings: ClusterSettings, workers: int) -> str:
    """Memory limit of a local worker.

    By default nine tenths of the memory, shared by the workers: the rest is room for the client and the system.
    """
    if settings.memory_limit != "auto":
        return settings.memory_limit
    return str(int(psutil.virtual_memory().total * 0.9 / workers))


@contextmanager
def workers_here(settings: ClusterSettings, secured: dict[str, Any]) -> Iterator[Client]:
    """Worker processes on this machine; its scheduler and dashboard are open to no other.

    Parameters
    ----------
    settings
        Kind ``local`` or ``cuda``.
    secured
        Dask's options of a cluster with TLS.

    Raises
    ------
    RunStoppedError
        When workers end while they start, again and again.
    """
    logging.getLogger("distributed.shuffle").setLevel(logging.ERROR)
    workers = settings.workers if settings.kind == "cuda" else worker_count(settings)
    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": LOOPBACK,
        "dashboard_address": f"{LOOPBACK}:0",
        "silence_logs": logging.ERROR,
        **secured,
    }
    if settings.kind == "cuda":
        options |= {"memory_limit": settings.memory_limit, "resources": {GPU: 1}}
        cluster = _started(_cuda_cluster(), options)
        workers = len(cluster.worker_spec)
    else:
        options |= {"memory_limit": memory_of_worker(settings, workers or 1)}
        cluster = _started(LocalCluster, options)
    with _closed_in_the_end(cluster), _kept_at(cluster, workers or 1), Client(cluster) as client:
        yield client


def _started(kind: type[LocalCluster], options: dict[str, Any]) -> LocalCluster:
    """Start a cluster; Dask gives it up when one worker ends while it starts, and another time it may live."""
    try:
        for _ in range(STARTS - 1):
            with suppress(RuntimeError):
                return kind(**options)
        return kind(**options)
    except RuntimeError as error:
        raise RunStoppedError(
            f"a worker ended while it started, {STARTS} times ({error}); is there enough memory?"
        ) from error
    except KeyboardInterrupt:
        atexit.unregister(close_clusters)
        atexit.register(_close_what_is_left)
        raise


def _close_what_is_left() -> None:
    """What Dask does when a process ends, without its AssertionError at workers that had not yet started."""
    with suppress(AssertionError):
        close_clusters()


def _cuda_cluster() -> type[LocalCluster]:
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise MissingExtraError(
            f"cluster.kind: cuda needs dask-cuda, which can't be imported ({error}); pip install 'ionsieve[cuda]'"
        ) from None
    return LocalCUDACluster  # type: ignore[no-any-return]


@contextmanager
def _closed_in_the_end(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Close a cluster; a worker that does not end in time ends with this process, and fails no run.

    It may be the machine that is busy, or a nanny that will never end: one whose worker died as it was being closed
    stays in between, and Dask waits for it without end.
    """
    try:
        yield cluster
    finally:
        logging.getLogger("tornado.application").setLevel(logging.CRITICAL + 1)
        with suppress(TimeoutError):
            cluster.close(timeout=CLOSE_SECONDS)


@contextmanager
def _kept_at(cluster: LocalCluster, workers: int) -> Iterator[None]:
    """Start workers anew whose nanny gave up.

    A worker that dies while it starts (it may get a poisoned task before its nanny has heard of it) makes the nanny
    close instead of restarting it, and Dask then goes on without: with one worker, a run would wait for ever. So it
    would for a nanny that closes and never comes to its end.
    """
    ended = threading.Event()
    closing: dict[Any, float] = {}

    async def forget_closed() -> None:
        now = time.monotonic()
        for name, nanny in list(cluster.workers.items()):
            since = closing.setdefault(nanny, now) if nanny.status == Status.closing else now
            if now - since >= CLOSE_SECONDS:
                if nanny.pid:
                    with suppress(ProcessLookupError):  # its process may end by itself before the signal
                        os.kill(nanny.pid, signal.SIGKILL)
            elif nanny.status not in (Status.closed, Status.failed):
                continue
            del cluster.workers[name]

    def keep() -> None:
        while not ended.wait(KEEP_SECONDS):
            cluster.sync(forget_closed)
            cluster.scale(workers)

    keeper = threading.Thread(target=keep, name="ionsieve-workers", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
