"""Live updates on the short way: a process says itself what it has just committed, so that who waits hears at once.

What is said may be lost, and while Redis is away nobody hears it. The relay says it again from the outbox; who has
heard it already knows it by its identifier."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

LIVE_CHANNEL: Final = "escarcelle:live"
"""Redis's channel of live updates. Each is JSON: the outbox row's payload, its `tenant`, and its identifier as
`update`."""

_PATIENCE_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 1.0
"""After Redis did not take what was said."""

_MOST_WAITING: Final = 1_000
_MOST_TOGETHER: Final = 100


class Herald:
    """One for each process."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
        )
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._saying: asyncio.Task[None] | None = None
        self._silent_until = 0.0

    def say(self, updates: Iterable[bytes]) -> None:
        """Begin to say it; nobody waits for it."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._silent_until:
            self._waiting.extend(updates)
            if self._waiting and self._saying is None:
                self._saying = loop.create_task(self._say())

    async def close(self) -> None:
        """Finish, and let go of the connection."""
        if self._saying is not None:
            await self._saying
        await self._redis.aclose()

    async def _say(self) -> None:
        try:
            while self._waiting:
                pipeline = self._redis.pipeline(transaction=False)
                for _ in range(min(len(self._waiting), _MOST_TOGETHER)):
                    pipeline.publish(LIVE_CHANNEL, self._waiting.popleft())
                await pipeline.execute()
        except (RedisError, OSError):
            self._waiting.clear()
            self._silent_until = asyncio.get_running_loop().time() + _SILENT_SECONDS
        finally:
            self._saying = None
