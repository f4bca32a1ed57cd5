"""Live updates: what changes reaches every open subscription of every process through Redis.

A subscriber is registered before the first state is read. A message says only what changed; the state is read again,
once for all subscribers of a process that see the same. After Redis was away everything open is read again, so that a
lost message loses nothing."""

import asyncio
import weakref
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.herald import LIVE_CHANNEL
from domain.parties import Holder

T = TypeVar("T")

_LONGEST_PAUSE_SECONDS: Final = 2.0
_REMEMBERED: Final = 5_000
"""Updates that are known by their identifiers: the relay says each again soon after it was said first."""

_MOST_CHANGES: Final = 200
"""A subscriber that looks away for longer reads everything again."""

log = structlog.get_logger(__name__)

Topic = tuple[str, str]
"""What a subscription follows: one object ("preq", its identifier), those of a point of sale ("preq@", the point's), or
those of a tenant ("preq*", its number), or all that concerns a holder ("hold", its identifier)."""


class Listener(Protocol):
    """Someone whose session may end while it listens."""

    def end(self) -> None:
        """The session is over."""

    async def is_still_open(self) -> bool:
        """Whether the session still stands in the database."""


class _News:
    """What a subscriber has not looked at yet."""

    def __init__(self) -> None:
        self._changed: set[UUID] | None = set()
        self._come = asyncio.Event()

    def add(self, changed: UUID | None) -> None:
        if self._changed is not None and changed is not None and len(self._changed) < _MOST_CHANGES:
            self._changed.add(changed)
        else:
            self._changed = None
        self._come.set()

    async def next(self) -> frozenset[UUID] | None:
        await self._come.wait()
        self._come.clear()
        changed, self._changed = self._changed, set()
        return None if changed is None else frozenset(changed)


class Hub:
    """The subscriptions of one process."""

    def __init__(self, redis_url: str) -> None:
        # Keep-alives tell a dead connection; without a time-out of its own a silent one would never be noticed.
        self._redis = Redis.from_url(redis_url, socket_timeout=None, health_check_interval=5)
        self._listening: dict[Topic, set[_News]] = defaultdict(set)
        self._reads: dict[Topic, dict[Hashable, asyncio.Future[Any]]] = defaultdict(dict)
        self._sessions: dict[UUID, weakref.WeakSet[Any]] = defaultdict(weakref.WeakSet)
        self._heard: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start to listen. Redis need not answer yet."""
        self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._redis.aclose()

    async def is_connected(self) -> bool:
        """Whether Redis answers."""
        try:
            async with asyncio.timeout(1):
                return bool(await self._redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    def watch_session(self, session_id: UUID, listener: Listener) -> None:
        """End the listener when its session ends, as long as it is in use."""
        self._sessions[session_id].add(listener)

    async def follow(
        self,
        topic: Topic,
        view: Hashable,
        read: Callable[[], Awaitable[T | None]],
        version: Callable[[T], Hashable],
        is_final: Callable[[T], bool],
    ) -> AsyncGenerator[T, None]:
        """The state now, then after each change, until it is final or gone. `view` says which subscribers read the
        same; `version` tells two states apart."""
        with self._registered(topic) as news:
            state, seen = await read(), None
            while state is not None:
                now = version(state)
                if now != seen:
                    seen = now
                    yield state
                if is_final(state):
                    return
                await news.next()
                state = await self.read_once(topic, view, read)

    async def changes(self, topic: Topic) -> AsyncGenerator[frozenset[UUID] | None, None]:
        """Which objects of a list have changed since the last time; None when any may have, as at the start."""
        with self._registered(topic) as news:
            yield None
            while True:
                yield await news.next()

    async def read_once(self, topic: Topic, view: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """What all subscribers of a topic with that view read after a change, read once."""
        reads = self._reads[topic]
        if view not in reads:
            reads[view] = asyncio.ensure_future(read())
        # One subscriber that leaves must not take the read away from the others.
        found: T = await asyncio.shield(reads[view])
        return found

    @contextmanager
    def _registered(self, topic: Topic) -> Iterator["_News"]:
        news = _News()
        self._listening[topic].add(news)
        try:
            yield news
        finally:
            self._listening[topic].discard(news)
            if not self._listening[topic]:
                del self._listening[topic]
                self._reads.pop(topic, None)

    def _tell(self, topic: Topic, changed: UUID | None) -> None:
        if topic in self._listening:
            self._reads.pop(topic, None)
            for news in self._listening[topic]:
                news.add(changed)

    async def _listen(self) -> None:
        pause = 0.05
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(LIVE_CHANNEL)
                    await self._read_everything_again()
                    pause = 0.05
                    async for message in pubsub.listen():
                        self._receive(message["data"])
            except (RedisError, OSError, asyncio.IncompleteReadError) as error:
                log.warning("live updates are late: Redis does not answer", reason=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _receive(self, data: bytes) -> None:
        message = orjson.loads(data)
        if self._was_heard(message.get("update")):
            return
        kind, id_ = message["kind"], message["id"]
        if kind == "sess" and UUID(id_) in self._sessions:
            self._start(self._check_session(UUID(id_)))
        for topic in ((kind, id_), (f"{kind}@", message.get("place", "")), (f"{kind}*", str(message["tenant"]))):
            self._tell(topic, UUID(id_))
        for holder_id in message.get("holders", ()):
            self._tell((Holder.prefix, holder_id), UUID(id_))

    def _was_heard(self, update: str | None) -> bool:
        if update is None or update in self._heard:
            return update is not None
        self._heard[update] = None
        if len(self._heard) > _REMEMBERED:
            del self._heard[next(iter(self._heard))]
        return False

    async def _read_everything_again(self) -> None:
        for topic in list(self._listening):
            self._tell(topic, None)
        for session_id in list(self._sessions):
            await self._check_session(session_id)

    async def _check_session(self, session_id: UUID) -> None:
        alive = list(self._sessions.get(session_id, ()))
        if not alive:
            self._sessions.pop(session_id, None)
        elif not await alive[0].is_still_open():
            for listener in alive:
                listener.end()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
