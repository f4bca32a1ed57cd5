"""The workers' tasks. Each may run twice, late, or on two machines at once: what counts is decided behind a lock."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import dramatiq
import structlog
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware

from domain import messages
from domain.access import Actor
from domain.db import Database
from domain.settings import Settings
from domain.work import perform
from tasks.broker import DELIVER, FIRE, QUEUE
from tasks.delivery import Post, Rejected

log = structlog.get_logger(__name__)

_DELIVERY_SECONDS: Final = 45
_CLOSING_SECONDS: Final = 5


class Tasks:
    """The tasks of one process, with the database's connections they share. They run on one event loop."""

    def __init__(self, settings: Settings, broker: RedisBroker) -> None:
        self._settings = settings
        self._post = Post(settings)
        self._opening = asyncio.Lock()
        self._opened: Database | None = None
        tasks: dict[str, Callable[..., Awaitable[None]]] = {DELIVER: self.deliver, FIRE: self.fire}
        for name, task in tasks.items():
            dramatiq.actor(actor_name=name, queue_name=QUEUE, broker=broker)(task)
        broker.add_middleware(_ClosesConnections(self))

    async def deliver(self, tenant: int, outbox_id: str) -> None:
        """Deliver what an outbox row says, unless that is done or under way."""
        database, actor, message_id = await self._database(), Actor(tenant=tenant), UUID(outbox_id)
        if not await perform(database, actor, messages.take_in_hand, message_id):
            return
        failure, for_good = None, False
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                await self._post.deliver(database, tenant, message_id)
        except Rejected as rejected:
            failure, for_good = rejected.reason, True
        except Exception as error:
            failure = _in_short(error)
        if failure is None:
            await perform(database, actor, messages.finish, message_id, message_id=message_id)
        else:
            log.warning("delivery_failed", tenant=tenant, message=outbox_id, reason=failure, for_good=for_good)
            await perform(database, actor, messages.fail, message_id, failure, for_good=for_good)

    async def fire(self, tenant: int, subject_kind: str, subject_id: str, name: str) -> None:
        """Do what a deadline's instant brings."""
        database, actor, subject = await self._database(), Actor(tenant=tenant), UUID(subject_id)
        failure = None
        try:
            await perform(database, actor, messages.fire, subject_kind, subject, name)
        except Exception as error:
            failure = _in_short(error)
        if failure is not None:
            log.error(
                "deadline_failed", tenant=tenant, kind=subject_kind, subject=subject_id, name=name, reason=failure
            )
            await perform(database, actor, messages.note_failed_deadline, subject, name, failure)

    async def close(self) -> None:
        """Let go of every connection."""
        if self._opened is not None:
            await asyncio.wait_for(self._opened.close(), _CLOSING_SECONDS)

    async def _database(self) -> Database:
        """The database, opened by the first task that finds it there."""
        async with self._opening:
            if self._opened is None:
                database = Database(self._settings)
                await database.open()
                self._opened = database
            return self._opened


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
