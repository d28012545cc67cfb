"""Tasks that are with the scheduler: how many, what each stands for, and whether the scheduler is still there."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from uuid import uuid4

from dask.task_spec import Task
from distributed import Client, Future
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError

from workflows.files import RunStoppedError
from workflows.gpu_workers import able
from workflows.watchdog import watched

# Futures kept with the scheduler for each worker: one runs, the others wait, so that no worker idles.
WINDOW_PER_WORKER = 3
COUNT_WORKERS_EVERY = 2.0
"""Seconds."""
ASK_AFTER = 60.0
"""Seconds without a result after which the scheduler is asked whether it is still there."""
ANSWER_WITHIN = 120.0

T = TypeVar("T")


class SchedulerLostError(RunStoppedError):
    """The scheduler ended, or the network to it was cut: what was under way is not known any more."""


class InFlight(Generic[T]):
    """Tasks under way, each with what it stands for."""

    def __init__(
        self,
        client: Client,
        folder: str,
        resources: dict[str, float] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Begin with none.

        Parameters
        ----------
        client
            Connection to the scheduler.
        folder
            Where workers write what a task that hung was doing; all of them see it.
        resources
            Dask resources that a worker of these tasks must have.
        say
            Takes a line for the user, such as that no worker is left.
        """
        self._client = client
        self._address = client.scheduler.address
        self._folder = folder
        self._resources = resources
        self._say = say
        self._pending: dict[Future, T] = {}
        self._arrived: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._workers = 0
        self._counted = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._pending)

    def has_room(self) -> bool:
        """Tell whether the workers should get another task.

        Tasks that ask for resources are not held back by Dask's worker-saturation: one more than there are workers
        keeps all of them busy, with hardly a task waiting inside of one.
        """
        if time.monotonic() - self._counted > COUNT_WORKERS_EVERY:
            self._workers = able(self._ask_scheduler()["workers"], self._resources)
            self._counted = time.monotonic()
        window = self._workers + 1 if self._resources else WINDOW_PER_WORKER * max(1, self._workers)
        return len(self._pending) < window

    def submit(self, item: T, name: str, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Send a task, which may take some seconds; it shows under ``name`` on the dashboard."""
        key = f"{name}-{uuid4().hex}"
        # Dask queues what it takes for the root of a large graph. A few lone tasks it sends to workers that are at work
        # already, and a worker that dies is held against all of them; a data producer is always queued.
        task = Task(key, watched, seconds, self._folder, function, *arguments, _data_producer=True)
        (future,) = self._client.get({key: task}, [key], sync=False, resources=self._resources)
        self._pending[future] = item
        future.add_done_callback(self._arrived.put)

    def next(self) -> tuple[T, Any, BaseException | None]:
        """Wait for a task: what it stands for, and its result or its error.

        Raises
        ------
        SchedulerLostError
            When the connection to the scheduler is gone, or nothing answers there.
        """
        while True:
            try:
                future = self._arrived.get(timeout=ASK_AFTER)
                break
            except queue.Empty:
                self._tell_if_alone(able(self._ask_scheduler()["workers"], self._resources))
        if future.cancelled():
            raise _lost(self._address)
        item = self._pending.pop(future)
        try:
            # A worker that dies takes finished results along; Dask then computes the task again, which may fail.
            return item, future.result(), None
        except CancelledError:
            raise _lost(self._address) from None
        except Exception as error:  # the task's own
            return item, None, error

    def _tell_if_alone(self, workers: int) -> None:
        if not workers and self._say is not None:
            tasks = "task" if len(self._pending) == 1 else f"{len(self._pending)} tasks"
            self._say(f"waiting for a worker: none is there that can compute the {tasks} sent out")

    def _ask_scheduler(self) -> dict[str, Any]:
        try:
            answer = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_WITHIN)
        except (OSError, TimeoutError, AttributeError):  # closed, silent, or reconnecting
            raise _lost(self._address) from None
        return dict(answer)


@contextmanager
def told_when_lost(client: Client) -> Iterator[None]:
    """Say clearly that the scheduler is gone, whichever call into Dask met it first."""
    address = client.scheduler.address
    try:
        yield
    except (CommClosedError, ClosedClientError):
        raise _lost(address) from None


def _lost(address: str) -> SchedulerLostError:
    # Closing the client cuts its attempts to come back, each of which Dask logs with its traceback.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL + 1)
    return SchedulerLostError(
        f"the Dask scheduler at {address} does not answer any more: it ended, or the network to it was cut"
    )
