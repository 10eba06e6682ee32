"""The durable queue: decides when each job runs, and what happens to it after a crash.

A job is a row in the database before its caller gets an answer. It waits until the jobs that it depends on are
complete, then runs its stage, which stores each finished item on disk before it counts it. A job that was running when
the service ended is pending again at the next start, and its stage continues after the last stored item or training
state. What the stages do is in `stages.py`.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from baker.errors import BakeryError, EngineError, StageError, disk_error
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.jobs.stages import Stages
from baker.jobs.waiting import clocks, sort_pending, waiting_for
from baker.repos.catalog import Catalog
from baker.status import JobState, Progress, Stage, Standing, WaitingFor
from baker.storage.job import AnyJob, Job
from baker.storage.one_thread import OneThread

log = logging.getLogger(__name__)

BESIDE = "stim without a model"
MAX_AT_ONCE: dict[str, int] = {Stage.STIM: 2, Stage.ROLLOUT: 2, Stage.BAKE: 1, BESIDE: 4}
"""Number of jobs of each kind that run at once. Rollouts limit their own requests; a training uses the whole device. A
stim that asks no model only copies questions, so it does not wait for those that do."""
MAX_ATTEMPTS = 5
"""Number of times that a job is started: one that crashes the service must not do so forever. The count starts again
when a bake makes progress."""
RETRY_SECONDS = 2.0
CANCELLED = "cancelled"
"""Error of a cancelled job. Its state is `failed`: clients would poll forever for a state that they don't know."""
CANCELLED_CODE = "CANCELLED"
INTERRUPTED_CODE = "INTERRUPTED"
"""Error code of a job that was given up because the service ended each time that it ran."""


class Jobs:
    def __init__(self, catalog: OneThread[Catalog], stages: Stages, policy: Policy) -> None:
        self._catalog = catalog
        self._stages = stages
        self._policy = policy
        self._running: dict[int, tuple[str, asyncio.Task[None]]] = {}
        self._positions: dict[int, int] = {}
        """Number of each job that waits for its turn -> its place among those of its kind, from 1."""
        self._changed = asyncio.Event()
        self._ended: dict[int, asyncio.Event] = {}
        self._cancelled: set[int] = set()
        """Numbers of running jobs that a client cancelled."""

    @property
    def training(self) -> Mapping[int, Progress]:
        """Job number of each bake in training -> its latest step."""
        return self._stages.training

    async def standing(self, job: AnyJob) -> Standing:
        """How the job stands now: what it waits for, or how fast it runs."""
        pace, training = self._stages.pace(job.id), self.training.get(job.id)
        position = self._positions.get(job.id)
        reasons: list[WaitingFor] = []
        if job.state is JobState.PENDING:
            reasons = await self._catalog(waiting_for, job)
            if not reasons and job.id in self._running and job.asks_model:
                reasons = [WaitingFor("engine", None, "It waits for the engine, which is not ready.")]
            elif not reasons and position is not None:
                reasons = [WaitingFor("turn", None, f"It waits for its turn: it is number {position} in the queue.")]
        queued, running = clocks(job)
        is_running = job.state is JobState.RUNNING
        eta = pace.eta_seconds if pace is not None else None if training is None else training.eta_seconds
        return Standing(
            waiting_for=reasons,
            queue_position=position if job.state is JobState.PENDING else None,
            queued_seconds=queued,
            running_seconds=running,
            eta_seconds=eta if is_running else None,
            lines=max(job.lines, pace.items) if is_running and pace is not None else job.lines,
            progress_percent=max(job.progress_percent, pace.percent)
            if is_running and pace is not None
            else job.progress_percent,
        )

    async def start(self, stage: Stage, user: str, repo: str, name: str, key: str | None = None) -> AnyJob:
        """The stage's job; starts one if needed. See `plan.start`."""
        job = await self._catalog(plan.start, self._policy, stage, user, repo, name, key)
        self._changed.set()
        return job

    async def wait(self, job: AnyJob, seconds: float) -> AnyJob:
        """The job once it has ended, or as it is after `seconds`."""
        ended = self._ended.setdefault(job.id, asyncio.Event())
        # After the event exists: a job that ends from now on sets it.
        latest = await self._catalog(_job, job.id)
        if not latest.state.is_active:
            self._tell_ended(job.id)
            return latest
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)
        return await self._catalog(_job, job.id)

    async def cancel(self, stage: Stage, user: str, repo: str, name: str) -> AnyJob | None:
        """Stop the stage's job if it is active. Its state becomes `failed`, its error `cancelled`; finished items stay.

        Returns: the job afterwards; None if none was ever started. Raises: NotFoundError.
        """
        job = await self._catalog(plan.latest_job, stage, user, repo, name)
        if job is None or not job.state.is_active:
            return job
        if await self._catalog(_cancel_pending, job.id):
            self._tell_ended(job.id)
        elif (running := self._running.get(job.id)) is not None:
            self._cancelled.add(job.id)
            running[1].cancel()
            await asyncio.wait([running[1]])
        self._changed.set()
        return await self._catalog(_job, job.id)

    async def run(self) -> None:
        """Run jobs until cancelled; jobs running then are pending again at the next start."""
        await self._catalog(_requeue_interrupted)
        try:
            while True:
                self._changed.clear()
                await self._dispatch()
                await self._changed.wait()
        finally:
            tasks = [task for _, task in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _dispatch(self) -> None:
        ready, failed = await self._catalog(sort_pending)
        for number in failed:
            self._tell_ended(number)
        waiting = Counter[str]()
        positions: dict[int, int] = {}
        for job in ready:
            if job.id in self._running:
                continue
            kind = job.stage if job.asks_model else BESIDE
            if sum(running == kind for running, _ in self._running.values()) >= MAX_AT_ONCE[kind]:
                waiting[kind] += 1
                positions[job.id] = waiting[kind]
                continue
            task = asyncio.create_task(self._run(job), name=f"{job.stage} {job.id}")
            self._running[job.id] = (kind, task)
        self._positions = positions

    async def _run(self, job: AnyJob) -> None:
        try:
            await self._attempt(job)
        except asyncio.CancelledError:
            if job.id in self._cancelled:
                await self._fail(job, CANCELLED, CANCELLED_CODE)
                return
            await self._leave(job.id, state=JobState.PENDING, attempts=job.attempts)
            raise
        except BakeryError as error:
            await self._fail(job, error.message, error.code)
        except OSError as error:
            log.exception("job %d", job.id)
            failure = disk_error(error)
            await self._fail(job, failure.message, failure.code)
        except Exception:
            log.exception("job %d", job.id)
            reason = f"internal error of the service: its log has the details under job {job.id}"
            await self._fail(job, reason, BakeryError.code)
        finally:
            self._running.pop(job.id, None)
            self._cancelled.discard(job.id)
            self._changed.set()
            self._tell_ended(job.id)

    async def _attempt(self, job: AnyJob) -> None:
        """Run the job's stage. It may be cancelled at any time, also while it waits to try again."""
        try:
            await self._stages.wait_ready(job)
            if not await self._catalog(_begin, job):
                return
            await self._stages.run(job)
            await self._leave(job.id, state=JobState.COMPLETE, progress_percent=100.0, finished=int(time.time()))
        except EngineError as error:
            await self._requeue(job, error)

    def _tell_ended(self, job_id: int) -> None:
        if (ended := self._ended.pop(job_id, None)) is not None:
            ended.set()

    async def _requeue(self, job: Job, error: EngineError) -> None:
        """The engine failed: the job continues with its stored items when the engine is back."""
        if job.attempts + 1 >= MAX_ATTEMPTS:
            await self._fail(job, f"the engine failed {MAX_ATTEMPTS} times, the last time with: {error}", error.code)
            return
        log.warning("job %d waits for the engine: %s", job.id, error)
        await asyncio.sleep(RETRY_SECONDS)
        await self._leave(job.id, state=JobState.PENDING)

    async def _fail(self, job: Job, reason: str, code: str) -> None:
        log.warning("%s of %s/%s failed: %s", job.stage, job.repo, job.name, reason)
        # A full disk must not end the queue: the row stays "running", and the next start of the service retries it.
        with contextlib.suppress(Exception):
            await self._catalog(_fail, job.id, reason, code)

    async def _leave(self, job_id: int, **changes: Any) -> None:
        await self._catalog(_stop, job_id, **changes)


def _job(catalog: Catalog, job_id: int) -> AnyJob:
    job = catalog.store.jobs.find(job_id)
    if job is None:
        raise StageError(f"job {job_id} was removed")
    return job


def _stop(catalog: Catalog, job_id: int, /, **changes: Any) -> None:
    """Set columns of a job that no longer runs. Its end stays as it is: a cancellation may come while it is written."""
    with catalog.store.transaction():
        if catalog.store.jobs.is_complete(job_id):
            return
        catalog.store.jobs.stop_clock(job_id)
        catalog.store.jobs.update(job_id, **changes)


def _fail(catalog: Catalog, job_id: int, reason: str, code: str) -> None:
    """Mark the job as failed, unless it is complete (see `_stop`)."""
    with catalog.store.transaction():
        if not catalog.store.jobs.is_complete(job_id):
            catalog.store.jobs.fail(job_id, reason, code)


def _begin(catalog: Catalog, job: Job) -> bool:
    """Mark the job as running. Returns: False if it was cancelled while it waited."""
    with catalog.store.transaction():
        if _job(catalog, job.id).state is not JobState.PENDING:
            return False
        catalog.store.jobs.update(job.id, state=JobState.RUNNING, attempts=job.attempts + 1, started=time.time())
        return True


def _cancel_pending(catalog: Catalog, job_id: int) -> bool:
    """Fail the job if it is still pending. Returns: whether it was."""
    with catalog.store.transaction():
        if _job(catalog, job_id).state is not JobState.PENDING:
            return False
        _fail(catalog, job_id, CANCELLED, CANCELLED_CODE)
        return True


def _requeue_interrupted(catalog: Catalog) -> None:
    catalog.store.jobs.fail_undecodable()
    for job in catalog.store.jobs.in_state(JobState.RUNNING):
        # Not counted as worked: nobody knows when the service ended.
        catalog.store.jobs.update(job.id, started=None)
        if job.attempts >= MAX_ATTEMPTS:
            reason = f"the service ended during each of its {job.attempts} attempts: run it again"
            _fail(catalog, job.id, reason, INTERRUPTED_CODE)
        else:
            catalog.store.jobs.update(job.id, state=JobState.PENDING)
