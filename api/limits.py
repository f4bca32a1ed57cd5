"""How often sign-in may be tried from one address. Tries for one login are counted in the database (P2): a limit on
them here would let a stranger keep its owner out."""

from typing import Any, cast

import structlog
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from domain.errors import RefusalCode, Refused
from domain.texts import Text

log = structlog.get_logger(__name__)


class SignInLimits:
    """Counts tries in Redis, shared by all processes; in this process alone while Redis is away."""

    def __init__(self, redis_url: str, tries_per_minute: int) -> None:
        """`tries_per_minute` is for one address, behind which many people may sit."""
        self._per_address = parse(f"{tries_per_minute}/minute")
        self._pool: ConnectionPool = ConnectionPool.from_url(redis_url, socket_timeout=1)
        storage = RedisStorage(f"async+{redis_url}", implementation="redispy", connection_pool=cast(Any, self._pool))
        self._shared = MovingWindowRateLimiter(storage)
        self._own = MovingWindowRateLimiter(MemoryStorage())

    async def close(self) -> None:
        """Let go of the connections."""
        await self._pool.aclose()

    async def count(self, address: str) -> None:
        """One more try. Raises Refused (RATE_LIMITED) with the seconds to wait."""
        if not await self._hit(address):
            raise Refused(
                RefusalCode.RATE_LIMITED,
                Text(
                    "Trop d’essais : patientez une minute avant de recommencer.",
                    "Too many tries: wait a minute before trying again.",
                ),
                retry_after_seconds=60,
            )

    async def _hit(self, address: str) -> bool:
        try:
            return await self._shared.hit(self._per_address, "sign-in", address)
        except (RedisError, OSError):
            log.warning("sign-in tries are counted by this process alone: Redis does not answer")
            return await self._own.hit(self._per_address, "sign-in", address)
