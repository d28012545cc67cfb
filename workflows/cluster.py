"""Where the work runs: a local Dask cluster or a scheduler that is already there."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dask
import psutil
from distributed import Client, LocalCluster
from distributed.core import Status

from pipeline.config import ClusterSettings
from workflows.files import RunError

KEEP_SECONDS = 3.0
"""How often the number of local workers is looked at."""


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


def worker_count(settings: ClusterSettings) -> int:
    """Local worker processes: as configured, else one for each core this process may use."""
    return settings.workers or max(1, len(os.sched_getaffinity(0)) // settings.threads_per_worker)


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[Client]:
    """Yield a Dask client.

    Raises
    ------
    ClusterError
        When a configured address does not answer within 10 s.
    """
    with dask.config.set(
        {
            "distributed.nanny.pre-spawn-environ": worker_environment(settings.threads_per_worker),
            # A dying worker blames every task it held: hold one, steal none, and bisect ourselves.
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.scheduler.work-stealing": False,
            "distributed.scheduler.allowed-failures": 2,
            "distributed.worker.daemon": True,
            # Results are small, so there is nothing to spill; a worker whose freed blocks glibc keeps stays paused.
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.comm.timeouts.connect": "30s",
            # After Dask's 15 s a busy machine's worker is still starting; ending it would blame the task it gets first.
            "distributed.deploy.lost-worker-timeout": "120s",
        }
    ):
        if settings.kind == "address":
            try:
                client = Client(settings.address, timeout=10)
            except (OSError, TimeoutError, ValueError) as error:
                raise ClusterError(f"no Dask scheduler answers at {settings.address}: {error}") from None
            with client:
                yield client
            return
        logging.getLogger("distributed.shuffle").setLevel(logging.ERROR)
        workers = worker_count(settings)
        limit = settings.memory_limit
        if limit == "auto":
            # Room for the client and the system: nine tenths of the memory, shared by the workers.
            limit = str(int(psutil.virtual_memory().total * 0.9 / workers))
        with (
            _closed_in_the_end(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    memory_limit=limit,
                    silence_logs=logging.ERROR,
                )
            ) as cluster,
            _kept_at(cluster, workers),
            Client(cluster) as client,
        ):
            yield client


@contextmanager
def _closed_in_the_end(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Close a cluster; a worker that does not end in time (a busy machine) ends with this process, and fails no run."""
    try:
        yield cluster
    finally:
        logging.getLogger("tornado.application").setLevel(logging.CRITICAL + 1)
        with suppress(TimeoutError):
            cluster.close()


@contextmanager
def _kept_at(cluster: LocalCluster, workers: int) -> Iterator[None]:
    """Start workers anew whose nanny gave up.

    A worker that dies while it starts (it may get a poisoned task before its nanny has heard of it) makes the nanny
    close instead of restarting it, and Dask then goes on without: with one worker, a run would wait for ever.
    """
    ended = threading.Event()

    async def forget_closed() -> None:
        for name, nanny in list(cluster.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
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
