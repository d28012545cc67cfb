"""A scheduler that others may use too: one run at a time computes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from distributed import Client, Lock

from workflows.files import RunError

LOCK = "ionsieve-run"
LEASE_SECONDS = 60.0
"""After which the lock of a killed run is free again: twice Dask's ``distributed.scheduler.locks.lease-timeout``."""


@contextmanager
def alone_on_scheduler(client: Client, kind: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a scheduler that others may use too: its workers have the models and tables of one campaign at a time.

    Raises
    ------
    RunError
        When another run computes there.
    """
    if kind != "address":
        yield
        return
    lock = Lock(LOCK, scheduler_rpc=client.scheduler, loop=client.loop)
    if not lock.acquire(blocking=False):
        say(f"another run holds the scheduler, or was killed there; looking again for {LEASE_SECONDS:g} s")
        if not lock.acquire(timeout=LEASE_SECONDS):
            raise RunError(
                f"another run computes at {client.scheduler.address}, whose workers hold one campaign's models at a "
                "time; wait for it, or start a scheduler for each"
            )
    try:
        yield
    finally:
        lock.refresh_leases = False
        if client.status == "running":  # a lost scheduler has let go of it
            with suppress(Exception):
                lock.release()
