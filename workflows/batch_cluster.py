"""A Dask cluster whose workers are jobs of a batch system: asked for, watched, asked for anew, given back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Scheduler, Security
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster

from workflows.batch_jobs import JobGroup, job_class
from workflows.files import RunError
from workflows.job_queue import queue_summary, queued_jobs

LOOK_SECONDS = 3.0
"""How often the jobs are looked at."""
LOST_SECONDS = 15.0
"""How long a job may be without workers before it counts as over; its nanny may be starting one anew."""
QUEUE_SECONDS = 30.0
"""How often the queue is asked about jobs that have not shown themselves yet."""
FEWEST_FAILED_STARTS = 3
"""Jobs that ended, one after another, without a worker: then something is wrong with the job itself."""
SOUND_SECONDS = 60.0
"""A job whose workers stay this long is sound; one that ends earlier counts as a failed start."""
LONGEST_PAUSE = 600.0
"""Seconds between two tries at most, when jobs keep failing."""
_BUSY = frozenset({"processing", "queued", "no-worker"})


class JobsFailError(RunError):
    """Jobs can't be submitted, or end before a worker of theirs has come."""


@dataclass
class _Watched:
    """What is known of a job: when workers of it came, whether they work, and since when it has none."""

    group: JobGroup
    came_at: float | None = None
    busy: bool = False
    without_since: float | None = None


class _Closed:
    """A job that says so when it is closed; dask-jobqueue's do not, and SpecCluster asks."""

    async def close(self) -> None:
        await super().close()  # type: ignore[misc]
        self.status = Status.closed


class BatchCluster(SpecCluster):
    """Jobs of one or two groups, and their scheduler in this process.

    The number of jobs of a group is kept: one that ends (its time is up, its node is drained) is asked for anew. With
    ``minimum`` below ``maximum`` it follows the work: it doubles while tasks wait, and when fewer have been enough for
    ``idle`` s, jobs without work are given back.

    Parameters
    ----------
    groups
        What is asked for.
    options
        Arguments of dask-jobqueue's job class, for each group by its name.
    scheduler
        Options of the Dask scheduler.
    logs
        Folder of the jobs' logs, which is made.
    say
        Takes a line for the user.

    Raises
    ------
    JobsFailError
        When the batch system takes no jobs.
    """

    def __init__(
        self,
        groups: list[JobGroup],
        options: dict[str, dict[str, Any]],
        *,
        scheduler: dict[str, Any],
        security: Security | None,
        logs: Path,
        say: Callable[[str], None],
    ) -> None:
        self.groups = groups
        self.logs = logs
        self._tell = say
        self._specs = {
            group.name: {
                "cls": type("WatchedJob", (_Closed, job_class(group.kind)), {}),
                "options": options[group.name],
                "group": [name.removeprefix("x") for name in group.worker_names("x")],
            }
            for group in groups
        }
        self._watched: dict[str, _Watched] = {}
        self._too_many_since: dict[str, float] = {}
        self._submitted = 0
        self._failed_starts = 0
        self._paused_until = 0.0
        self._asked_queue = 0.0
        self._states: dict[str, str] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        logs.mkdir(parents=True, exist_ok=True)
        # The first group has a job from the beginning, or nothing would ever start.
        first = {group.name: max(group.minimum, 1 if group is groups[0] else 0) for group in groups}
        try:
            super().__init__(
                workers=dict(self._new_job(group) for group in groups for _ in range(first[group.name])),
                scheduler={"cls": Scheduler, "options": scheduler},
                security=security,
                silence_logs=logging.ERROR,
                name="ionsieve",
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise JobsFailError(_not_submitted(groups[0].kind, error)) from None

    def _new_job(self, group: JobGroup) -> tuple[str, dict[str, Any]]:
        self._submitted += 1
        name = f"{group.name}-{self._submitted}"
        self._watched[name] = _Watched(group)
        return name, self._specs[group.name]

    async def _start(self) -> None:
        await super()._start()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    async def _close(self) -> None:
        # Not cancelled: a job that is just being submitted would be forgotten.
        self._ended.set()
        try:
            if self._keeper is not None:
                await self._keeper
        finally:
            await super()._close()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster would close a job as soon as one of its workers is gone; here the keeper decides.
        Cluster._update_worker_status(self, op, msg)

    def queue(self) -> str:
        """How many jobs were submitted, and what the queue last said of them."""
        text = f"{len(self._watched)} jobs submitted"
        return f"{text}: {queue_summary(self._states.values())}" if self._states else text

    def failure(self) -> JobsFailError | None:
        """What to tell when jobs keep ending before a worker of theirs comes; None as long as there is hope."""
        if self._failed_starts < FEWEST_FAILED_STARTS:
            return None
        return JobsFailError(
            f"{self._failed_starts} jobs ended before a worker came; their logs are in {self.logs}"
            + _last_words(self.logs)
        )

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), LOOK_SECONDS)
                return
            try:
                await self._look_at_jobs()
                await self._fit()
                await self._correct_state()
            except (RuntimeError, OSError, ValueError) as error:
                await self._forget_unsubmitted()
                self._pause(_not_submitted(self.groups[0].kind, error))

    async def _look_at_jobs(self) -> None:
        """See which jobs have workers, and let go of those that are over."""
        now = time.monotonic()
        there = {state.name: state for state in self.scheduler.workers.values()}
        for name, watched in list(self._watched.items()):
            states = [there[worker] for worker in watched.group.worker_names(name) if worker in there]
            watched.busy = any(state.processing for state in states)
            if states:
                watched.came_at, watched.without_since = watched.came_at or now, None
                if now - watched.came_at > SOUND_SECONDS:
                    self._failed_starts = 0
                continue
            watched.without_since = watched.without_since or now
            if watched.came_at is not None and now - watched.without_since > LOST_SECONDS:
                await self._replace(name, "has no workers any more", watched.without_since - watched.came_at)
        if now - self._asked_queue > QUEUE_SECONDS:
            self._asked_queue = now
            await self._ask_queue()

    async def _ask_queue(self) -> None:
        """Let go of jobs that ended without ever having had a worker."""
        ids = {name: str(job.job_id) for name, job in self.workers.items() if job.job_id}
        self._states = await asyncio.to_thread(queued_jobs, self.groups[0].kind, ids.values())
        if self._states is None:
            return
        for name, number in ids.items():
            watched = self._watched.get(name)
            waited = watched and watched.without_since and time.monotonic() - watched.without_since > LOST_SECONDS
            if watched and waited and watched.came_at is None and number not in self._states:
                await self._replace(name, "ended before a worker came", 0.0)

    async def _replace(self, name: str, what: str, lived: float) -> None:
        """Let go of a job that is over, whose workers lived so many s; :meth:`_fit` asks for another."""
        text = f"job {self.workers[name].job_id} {what}; its log is in {self.logs}" if name in self.workers else what
        await self._let_go(name)
        if lived < SOUND_SECONDS:
            self._failed_starts += 1
            self._pause(text)
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        """Tell the user; a terminal that is closed, or a log on a full disk, must not end the care for the jobs."""
        with contextlib.suppress(OSError, SystemExit):
            self._tell(text)

    def _pause(self, text: str) -> None:
        """Wait before the next job is asked for: longer each time."""
        pause = min(LOOK_SECONDS * 2.0 ** min(self._failed_starts + 1, 12), LONGEST_PAUSE)
        self._paused_until = time.monotonic() + pause
        self._say(text)

    async def _let_go(self, name: str) -> None:
        """Forget a job, and cancel it in case it still is."""
        self._watched.pop(name, None)
        self.worker_spec.pop(name, None)
        job = self.workers.pop(name, None)
        if job is not None:
            await job.close()

    async def _forget_unsubmitted(self) -> None:
        for name, job in list(self.workers.items()):
            if job.job_id is None:
                await self._let_go(name)
        self._failed_starts += 1

    async def _fit(self) -> None:
        """Ask for as many jobs as each group should have, and give back what has long been too many."""
        now = time.monotonic()
        for group in self.groups:
            mine = [name for name, watched in self._watched.items() if watched.group is group]
            wanted = self._wanted(group)
            if wanted >= len(mine):
                self._too_many_since.pop(group.name, None)
                if now >= self._paused_until:
                    self.worker_spec.update(self._new_job(group) for _ in range(wanted - len(mine)))
            elif now - self._too_many_since.setdefault(group.name, now) > group.idle:
                idle = [name for name in mine if not self._watched[name].busy]
                for name in idle[: len(mine) - wanted]:
                    await self._give_back(name)

    async def _give_back(self, name: str) -> None:
        workers = [
            worker for worker in self._watched[name].group.worker_names(name) if worker in self.scheduler.aliases
        ]
        await self.scheduler.retire_workers(names=workers, close_workers=True)
        await self._let_go(name)

    def _wanted(self, group: JobGroup) -> int:
        """Jobs that a group should have: twice as many as have come, as long as tasks wait for a worker."""
        if group.minimum == group.maximum:
            return group.maximum
        tasks = sum(
            task.state in _BUSY and bool(task.resource_restrictions) == bool(group.resources)
            for task in self.scheduler.tasks.values()
        )
        came = sum(watched.came_at is not None for watched in self._watched.values() if watched.group is group)
        enough = math.ceil(tasks / group.processes)
        return min(max(2 * came if enough > came else enough, min(tasks, 1), group.minimum), group.maximum)


def _not_submitted(kind: str, error: Exception) -> str:
    """Why a job was not taken, in the batch system's own words."""
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is not on this machine; run ionsieve where {kind} jobs are submitted"
    text = str(error)
    if text.startswith("Cluster failed to start"):
        return text
    said = text.partition("stderr:")[2].strip() or text
    return f"{kind} took no job: {' '.join(said.split())}"


def _last_words(logs: Path) -> str:
    """The last lines of the newest log."""
    with contextlib.suppress(OSError, ValueError):
        newest = max(logs.glob("*"), key=lambda path: path.stat().st_mtime)
        lines = [line for line in newest.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"; the newest, {newest.name}, ends with: " + " | ".join(lines[-3:])
    return ""
