"""The workers' tasks. Each may run twice, late, or on two machines at once: what counts is decided behind a lock."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import dramatiq
import structlog
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware

from domain import jobs, messages
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import Job, JobKind
from domain.metrics import COPIES, DEADLINES, DELIVERY_SECONDS, JOBS, JOBS_RUNNING, MESSAGES
from domain.outbox import Topic
from domain.settings import Settings
from domain.work import perform
from tasks import bank_answers, copies, exports, imports, member_statements, reimbursements, reports
from tasks.broker import COPY, DELIVER, FIRE, PUSH, QUEUE, RUN
from tasks.delivery import Post, Rejected
from tasks.push import PushServices

log = structlog.get_logger(__name__)

JOBS_AT_ONCE: Final = 2
"""Jobs that one process does at once: each takes a core for a while."""

Do = Callable[[Database, Job, UUID], Awaitable[None]]

_DO: Final[Mapping[JobKind, Do]] = {
    JobKind.ISSUE_MEMBER_STATEMENTS: member_statements.issue,
    JobKind.IMPORT_HOLDERS: imports.import_holders,
    JobKind.RUN_REIMBURSEMENTS: reimbursements.run,
    JobKind.IMPORT_BANK_ANSWER: bank_answers.take_over,
}
"""What does a job; all others are exports."""

_DELIVERY_SECONDS: Final = 45
_CLOSING_SECONDS: Final = 5
_KEEP_EVERY_SECONDS: Final = messages.IN_HAND.total_seconds() / 3


class Tasks:
    """The tasks of one process, with the database's connections they share. They run on one event loop."""

    def __init__(self, settings: Settings, broker: RedisBroker) -> None:
        self._settings = settings
        self._do: dict[JobKind, Do] = {**_DO, JobKind.EXPORT_REPORT: partial(reports.export, settings)}
        self._post = Post(settings)
        self._push_services = PushServices(settings)
        self._opening = asyncio.Lock()
        self._opened: Database | None = None
        self._turns = asyncio.Semaphore(JOBS_AT_ONCE)
        self._turn_to_copy = asyncio.Lock()
        self._jobs: dict[str, asyncio.Task[None]] = {}
        tasks: dict[str, Callable[..., Awaitable[None]]] = {
            DELIVER: self.deliver,
            PUSH: self.push,
            FIRE: self.fire,
            RUN: self.run,
            COPY: self.copy,
        }
        for name, task in tasks.items():
            dramatiq.actor(actor_name=name, queue_name=QUEUE, broker=broker)(task)
        broker.add_middleware(_ClosesConnections(self))

    async def deliver(self, tenant: int, outbox_id: str) -> None:
        """Send the mails of an outbox row, unless that is done or under way."""
        await self._send(Topic.MAIL, self._post.deliver, tenant, outbox_id)

    async def push(self, tenant: int, outbox_id: str) -> None:
        """Send the push of an outbox row, unless that is done or under way."""
        await self._send(Topic.PUSH, self._push_services.deliver, tenant, outbox_id)

    async def fire(self, tenant: int, subject_kind: str, subject_id: str, name: str) -> None:
        """Do what a deadline's instant brings."""
        database, actor, subject = await self._database(), Actor(tenant=tenant), UUID(subject_id)
        failure = None
        try:
            await perform(database, actor, messages.fire, subject_kind, subject, name)
        except Exception as error:
            failure = _in_short(error)
        DEADLINES.labels("done" if failure is None else "failed").inc()
        if failure is not None:
            log.error(
                "deadline_failed", tenant=tenant, kind=subject_kind, subject=subject_id, name=name, reason=failure
            )
            await perform(database, actor, messages.note_failed_deadline, subject, name, failure)

    async def run(self, tenant: int, outbox_id: str) -> None:
        """Begin with the job that an outbox row names, unless that is done or under way. The job goes on beside the
        tasks: it may take longer than a task, and no mail waits for it."""
        self._begin(outbox_id, lambda: self._do_job(tenant, UUID(outbox_id)))

    async def copy(self, tenant: int, outbox_id: str) -> None:
        """Begin with the copy for analysts that an outbox row asks for, unless that is done or under way. It goes on
        beside the tasks, in a process of its own."""
        self._begin(outbox_id, lambda: self._copy(tenant, UUID(outbox_id)))

    async def close(self) -> None:
        """Give back the jobs that are not done, and let go of every connection."""
        unfinished = list(self._jobs.values())
        for job in unfinished:
            job.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=_CLOSING_SECONDS)
        if self._opened is not None:
            await asyncio.wait_for(self._opened.close(), _CLOSING_SECONDS)

    def _begin(self, outbox_id: str, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if outbox_id not in self._jobs:
            job = self._jobs[outbox_id] = asyncio.create_task(do())
            job.add_done_callback(lambda _: self._jobs.pop(outbox_id, None))

    async def _send(
        self, topic: Topic, deliver: Callable[[Database, int, UUID], Awaitable[None]], tenant: int, outbox_id: str
    ) -> None:
        database, actor, message_id = await self._database(), Actor(tenant=tenant), UUID(outbox_id)
        if not await perform(database, actor, messages.take_in_hand, message_id):
            return
        failure, for_good, started = None, False, time.monotonic()
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS), _kept_in_hand(database, actor, message_id):
                await deliver(database, tenant, message_id)
        except Rejected as rejected:
            failure, for_good = rejected.reason, True
        except Exception as error:
            failure = _in_short(error)
        seconds = time.monotonic() - started
        DELIVERY_SECONDS.labels(topic).observe(seconds)
        about = {"tenant": tenant, "topic": topic, "message": outbox_id, "milliseconds": round(seconds * 1000)}
        if failure is None:
            await perform(database, actor, messages.finish, message_id, message_id=message_id)
            MESSAGES.labels(topic, "delivered").inc()
            log.info("delivered", **about)
        else:
            given_up = await perform(database, actor, messages.fail, message_id, failure, for_good=for_good)
            MESSAGES.labels(topic, "given_up" if given_up else "failed").inc()
            log.warning("delivery_failed", **about, reason=failure, given_up=bool(given_up))

    async def _do_job(self, tenant: int, message_id: UUID) -> None:
        try:
            async with self._turns:
                with JOBS_RUNNING.track_inprogress():
                    await self._do_next_run(tenant, message_id)
        except jobs.Overtaken:
            JOBS.labels("overtaken").inc()
            log.info("job_overtaken", tenant=tenant, message=str(message_id))
        except Exception as error:
            # What cannot even be noted is begun anew, once nobody is heard of any more.
            log.error("job_left", tenant=tenant, message=str(message_id), reason=_in_short(error))

    async def _copy(self, tenant: int, message_id: UUID) -> None:
        try:
            # One after the other: each may take all the cores that there are.
            async with self._turn_to_copy:
                await self._do_copy(tenant, message_id)
        except Exception as error:
            log.error("copy_left", tenant=tenant, message=str(message_id), reason=_in_short(error))

    async def _do_copy(self, tenant: int, message_id: UUID) -> None:
        database, actor = await self._database(), Actor(tenant=tenant)
        if not await perform(database, actor, messages.take_in_hand, message_id):
            return
        failure = None
        try:
            async with _kept_in_hand(database, actor, message_id):
                await copies.copy(database, self._settings, tenant)
        except asyncio.CancelledError:
            await perform(database, actor, messages.let_go, message_id)
            raise
        except copies.Failed as failed:
            failure = failed.reason
        except Exception as error:
            failure = _in_short(error)
        COPIES.labels("done" if failure is None else "failed").inc()
        if failure is None:
            await perform(database, actor, messages.finish, message_id, message_id=message_id)
            log.info("copied", tenant=tenant)
        else:
            given_up = await perform(database, actor, messages.fail, message_id, failure)
            log.warning("copy_failed", tenant=tenant, reason=failure, given_up=bool(given_up))

    async def _do_next_run(self, tenant: int, message_id: UUID) -> None:
        database, actor = await self._database(), Actor(tenant=tenant)
        if not await perform(database, actor, messages.take_in_hand, message_id):
            return
        job = None
        try:
            job = await perform(database, actor, jobs.start, await exports.job_of(database, tenant, message_id))
            if not isinstance(job, Job) or await self._is_over(database, job, message_id):
                await perform(database, actor, messages.finish, message_id, message_id=message_id)
        except asyncio.CancelledError:
            if isinstance(job, Job):
                JOBS.labels("broken_off").inc()
                await perform(database, actor, jobs.break_off, job.id, job.runs, "the process stops", counts=False)
            await perform(database, actor, messages.let_go, message_id)
            raise

    async def _is_over(self, database: Database, job: Job, message_id: UUID) -> bool:
        """Do the job; False when it must be begun anew later."""
        try:
            await self._do.get(job.kind, exports.export)(database, job, message_id)
        except jobs.Overtaken:
            raise
        except Exception as error:
            reason, for_good = (str(error.code), True) if isinstance(error, Refused) else (_in_short(error), False)
            # What is wrong with a file is its user's to put right, and no operator's.
            JOBS.labels("refused" if isinstance(error, jobs.RowsRefused) else "failed").inc()
            log.warning("job_failed", tenant=job.tenant, job=str(job.id), run=job.runs, reason=reason)
            actor, rows = Actor(tenant=job.tenant), error.rows if isinstance(error, jobs.RowsRefused) else ()
            left = await perform(
                database, actor, jobs.break_off, job.id, job.runs, reason, for_good=for_good, rows=rows
            )
            if isinstance(left, Job) and left.status not in jobs.FINAL:
                await perform(database, actor, messages.fail, message_id, reason)
                return False
        else:
            JOBS.labels("done").inc()
            log.info("job_done", tenant=job.tenant, job=str(job.id), run=job.runs)
        return True

    async def _database(self) -> Database:
        """The database, opened by the first task that finds it there."""
        async with self._opening:
            if self._opened is None:
                database = Database(self._settings)
                await database.open()
                self._opened = database
            return self._opened


@asynccontextmanager
async def _kept_in_hand(database: Database, actor: Actor, message_id: UUID) -> AsyncIterator[None]:
    """While the delivery lasts, nobody else begins with the message. Should the database not take note, the mail may
    go twice, as the same mail."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(_KEEP_EVERY_SECONDS)
            await perform(database, actor, messages.keep_in_hand, message_id)

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


class _ClosesConnections(Middleware):
    """Closes the connections on the loop that owns them, before that loop stops."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        loop = get_event_loop_thread()
        if loop is not None:
            loop.run_coroutine(self._tasks.close())


def _in_short(error: Exception) -> str:
    """What went wrong and where, without the error's own words, which may hold an address, a name or a link."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({Path(frame.filename).name}:{frame.lineno})"
