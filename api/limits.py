"""How often sign-in may be tried, from one address and for one login."""

from typing import Any, Final, cast

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from domain.errors import RefusalCode, Refused
from domain.texts import Text

_PER_LOGIN: Final = parse("10/minute")

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

    async def count(self, address: str, issuer: str, login: str) -> None:
        """One more try. Raises Refused (RATE_LIMITED) with the seconds to wait."""
        for limit, *about in (
            (self._per_address, "address", address),
            (_PER_LOGIN, "login", issuer, login.strip().casefold()[:200]),
        ):
            if not await self._hit(limit, *about):
                raise Refused(
                    RefusalCode.RATE_LIMITED,
                    Text(
                        "Trop d’essais : patientez une minute avant de recommencer.",
                        "Too many tries: wait a minute before trying again.",
                    ),
                    retry_after_seconds=60,
                )

    async def _hit(self, limit: RateLimitItem, *about: str) -> bool:
        try:
            return await self._shared.hit(limit, "sign-in", *about)
        except (RedisError, OSError):
            log.warning("sign-in tries are counted by this process alone: Redis does not answer")
            return await self._own.hit(limit, "sign-in", *about)
