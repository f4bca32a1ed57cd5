"""The queue between the relay and the workers, in Redis. It may vanish at any moment: a message names a row of the
database only, and is sent again until the row is gone."""

from collections.abc import Sequence
from contextlib import suppress
from threading import Thread
from typing import Any, Final
from uuid import UUID, uuid4

from dramatiq import Broker, Message, Worker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, Middleware, ShutdownNotifications, TimeLimit, raise_thread_exception
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from domain.herald import LIVE_CHANNEL
from domain.settings import Settings

DELIVER: Final = "deliver"
FIRE: Final = "fire"
RUN: Final = "run"
PUSH: Final = "push"
COPY: Final = "copy"
"""The workers' five tasks."""

QUEUE: Final = "messages"
TIME_LIMIT_SECONDS: Final = 60
"""After which a task is cut off."""

_NAMESPACE: Final = "escarcelle"
_QUEUE_TIMEOUT_SECONDS: Final = 5
_BATCH_TIMEOUT_SECONDS: Final = 2


def open_broker(settings: Settings) -> RedisBroker:
    """The workers' side of the queue.

    Tasks are coroutines on one event loop that Dramatiq's own middleware runs beside the worker threads: that loop owns
    the database's connections, and each thread waits for one task, so that the threads set how many run at once. There
    is no retrying, ageing or delaying here: the outbox does all three, and survives Redis."""
    return _broker(
        _connect(settings.redis_url, _QUEUE_TIMEOUT_SECONDS),
        AsyncIO(),
        ShutdownNotifications(),
        _TimeLimit(time_limit=TIME_LIMIT_SECONDS * 1000),
    )


def delivery(tenant: int, outbox_id: UUID) -> Message[None]:
    """The message that asks a worker to send the mails of an outbox row."""
    return _message(DELIVER, tenant, str(outbox_id))


def pushing(tenant: int, outbox_id: UUID) -> Message[None]:
    """The message that asks a worker to send the push of an outbox row."""
    return _message(PUSH, tenant, str(outbox_id))


def running(tenant: int, outbox_id: UUID) -> Message[None]:
    """The message that asks a worker to begin with a job."""
    return _message(RUN, tenant, str(outbox_id))


def copying(tenant: int, outbox_id: UUID) -> Message[None]:
    """The message that asks a worker to copy an issuer's data for analysts."""
    return _message(COPY, tenant, str(outbox_id))


def firing(tenant: int, subject_kind: str, subject_id: UUID, name: str) -> Message[None]:
    """The message that asks a worker to fire a deadline."""
    return _message(FIRE, tenant, subject_kind, str(subject_id), name)


class Batch:
    """The relay's side: live updates and messages, many in one transmission. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._redis = _connect(settings.redis_url, _BATCH_TIMEOUT_SECONDS)
        self._pipeline = self._redis.pipeline(transaction=True)

    def send(self, live: Sequence[str], messages: Sequence[Message[None]]) -> None:
        """Publish and enqueue. Raises RedisError unless Redis has accepted all of it.

        Messages are stored and queued as Dramatiq's own script does it, but all by two commands: a call of the script
        for each takes five times as long."""
        numbers = [str(uuid4()) for _ in messages]
        stored: dict[Any, bytes] = {
            number: message.copy(options={"redis_message_id": number}).encode()
            for number, message in zip(numbers, messages, strict=True)
        }
        with self._pipeline:
            for update in live:
                self._pipeline.publish(LIVE_CHANNEL, update)
            if stored:
                self._pipeline.hset(f"{_NAMESPACE}:{QUEUE}.msgs", mapping=stored)
                self._pipeline.rpush(f"{_NAMESPACE}:{QUEUE}", *stored)
            self._pipeline.execute()

    def close(self) -> None:
        """Let go of the connection."""
        self._redis.close()


class _TimeLimit(TimeLimit):
    """Dramatiq's own, whose thread ends with its worker, within a second. Else it lasts as long as the process, which
    then cannot take its modules apart: DuckDB says at the end that it leaks."""

    def __init__(self, *, time_limit: float) -> None:
        super().__init__(time_limit=time_limit)
        assert isinstance(self.manager, Thread), "there is no gevent here"
        self._thread: Thread = self.manager
        watch = self._thread.run

        def until_told() -> None:
            with suppress(SystemExit):
                watch()  # type: ignore[no-untyped-call]

        self._thread.run = until_told  # type: ignore[method-assign]

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """No task is left to be cut off."""
        if self._thread.is_alive():
            raise_thread_exception(self._thread.ident, SystemExit)  # type: ignore[no-untyped-call]


def _broker(client: Redis, *middleware: Middleware) -> RedisBroker:
    return RedisBroker(client=client, namespace=_NAMESPACE, middleware=list(middleware))  # type: ignore[no-untyped-call]


def _message(task: str, *arguments: int | str) -> Message[None]:
    options: dict[str, Any] = {}
    return Message(queue_name=QUEUE, actor_name=task, args=arguments, kwargs={}, options=options)


def _connect(redis_url: str, timeout_seconds: float) -> Redis:
    # One immediate retry finds a connection that died while idle; waiting longer is for those who call.
    return Redis.from_url(
        redis_url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=_BATCH_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )
