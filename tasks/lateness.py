"""What only the database knows about lateness, read when Prometheus asks. Every task process says the same."""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Final

import asyncpg
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from domain.db import RELAY, connect_as
from domain.outbox import Topic
from domain.settings import Settings

_PATIENCE_SECONDS: Final = 3
_WITHOUT_LETTERS: Final = (Topic.LIVE,)
"""What is dropped rather than given up."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """Ages in seconds of the oldest outbox row that should have been handed on, and of the most overdue deadline; how
    many dead letters lie there, by topic; and, where there are copies for analysts, the age of the issuer's whose is
    oldest, and for how long a watermark has stood still."""

    relay_seconds: float
    deadline_seconds: float
    dead_letters: dict[str, int]
    copy_seconds: float | None
    still_seconds: float | None


async def lateness(connection: asyncpg.Connection) -> Lateness:
    """As it is now, by the database's clock. The connection is the relay's."""
    relay_seconds, deadline_seconds = await connection.fetchrow("SELECT * FROM lateness()")
    letters = dict(await connection.fetch("SELECT topic, count(*) FROM dead_letters GROUP BY topic"))
    copies = await connection.fetchrow("SELECT age_seconds, still_seconds FROM reporting_state()")
    topics = [topic for topic in Topic if topic not in _WITHOUT_LETTERS]
    counts = {str(topic): letters.get(topic, 0) for topic in topics}
    return Lateness(relay_seconds, deadline_seconds, counts, *(copies or (None, None)))


class LatenessCollector(Collector):
    """Asks on the loop it was made on, with a connection for each scrape. While the database does not answer, only that
    is said: old figures would look like good ones."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing to look at before the first scrape."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called on the thread of the scrape."""
        found = self._found()
        yield GaugeMetricFamily(
            "escarcelle_database_up", "Whether the database answers the relay's role.", value=float(found is not None)
        )
        if found is None:
            return
        yield GaugeMetricFamily(
            "escarcelle_relay_lag_seconds",
            "Age of the oldest outbox row that should have been handed on.",
            value=found.relay_seconds,
        )
        yield GaugeMetricFamily(
            "escarcelle_deadline_lag_seconds",
            "Age of the most overdue deadline, but for those of issuers whose clock stands still.",
            value=found.deadline_seconds,
        )
        letters = GaugeMetricFamily(
            "escarcelle_dead_letters", "Messages that were given up, by topic.", labels=("topic",)
        )
        for topic, count in found.dead_letters.items():
            letters.add_metric((topic,), count)
        yield letters
        if found.copy_seconds is None or found.still_seconds is None:
            return
        yield GaugeMetricFamily(
            "escarcelle_reporting_age_seconds",
            "Age of the last copy for analysts, of the issuer whose is oldest.",
            value=found.copy_seconds,
        )
        yield GaugeMetricFamily(
            "escarcelle_reporting_watermark_still_seconds",
            "For how long a watermark has stood still although there was something beyond it.",
            value=found.still_seconds,
        )

    def _found(self) -> Lateness | None:
        if self._loop.is_closed():
            return None
        asked = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        try:
            return asked.result(2 * _PATIENCE_SECONDS)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, CancelledError):
            asked.cancel()
            return None

    async def _ask(self) -> Lateness:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            connection = await connect_as(self._settings, RELAY)
            try:
                return await lateness(connection)
            finally:
                await connection.close(timeout=1)
