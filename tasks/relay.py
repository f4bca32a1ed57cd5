"""The relay: hands on what has been committed and what falls due, and clears away what has long been done. It sees
every tenant, in the tables of messages and deadlines only.

A batch is one transaction: rows are locked, Redis accepts them, and only then live updates go and the others are put
off by a pause that doubles until their consumer has finished with them. Whatever breaks in between, nothing has
happened to the rows. Several relays share the work, each skipping what another has locked."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Final

import asyncpg
import structlog
from redis.exceptions import RedisError

from domain.db import RELAY, connect_as
from domain.metrics import RELAYED, TIDIED
from domain.outbox import DEAD_LETTERS_LAST, INBOX_LASTS, Topic, pause_after
from domain.settings import Settings
from tasks import broker

log = structlog.get_logger(__name__)

BATCH: Final = 100
POLL_SECONDS: Final = 0.05
"""How long it looks away at most while nothing comes."""

LONGEST_DEADLINE_PAUSE: Final = timedelta(minutes=5)
"""A deadline whose deed fails is tried again at least this often, for ever."""

LIVE_LASTS: Final = timedelta(minutes=10)
"""A live update that Redis does not take for so long is dropped: all that is open is read again when Redis is back."""

TIDY_BATCH: Final = 500
TIDY_EVERY_SECONDS: Final = 600.0

ASK_FOR_COPIES_EVERY_SECONDS: Final = 60.0

_LONGEST_WAIT_SECONDS: Final = 2.0
_SHORTEST_WAIT_SECONDS: Final = 0.1
_TURN_SECONDS: Final = 15
_DATABASE_AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
_MESSAGES: Final = {
    str(Topic.MAIL): broker.delivery,
    str(Topic.PUSH): broker.pushing,
    str(Topic.JOB): broker.running,
    str(Topic.COPY): broker.copying,
}
_PAUSES: Final = [pause_after(sends) for sends in range(17)]
_DEADLINE_PAUSES: Final = [min(pause, LONGEST_DEADLINE_PAUSE) for pause in _PAUSES]


class Relay:
    """One relay, with a connection of its own to each server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._batch = broker.Batch(settings)
        self._connection: asyncpg.Connection | None = None
        self._away: str | None = None
        self._wait_seconds = 0.0
        self._tidies_at = 0.0
        self._asks_for_copies_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Hand on until `stop` is set; the batch that is under way is finished. While a server is away it waits and
        tries again."""
        try:
            while not stop.is_set():
                await self._turn()
                if self._wait_seconds:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), self._wait_seconds)
        finally:
            await self._disconnect()
            self._batch.close()

    async def hand_on(self) -> int:
        """Hand on one batch of outbox rows and one of deadlines; returns how many there were. Raises RedisError, or
        what asyncpg raises, with nothing done to any row."""
        connection = await self._connected()
        if not await connection.fetchval(_ANYTHING_DUE):
            return 0
        async with connection.transaction():
            rows = await connection.fetch(_DUE_ROWS, BATCH)
            deadlines = await connection.fetch(_DUE_DEADLINES, BATCH)
            live = [row for row in rows if row["topic"] == Topic.LIVE]
            later = [row for row in rows if row["topic"] != Topic.LIVE]
            messages = [_MESSAGES[row["topic"]](row["tenant"], row["id"]) for row in later]
            messages += [broker.firing(*deadline) for deadline in deadlines]
            if live or messages:
                await asyncio.to_thread(self._batch.send, [row["message"] for row in live], messages)
            if live:
                await connection.execute(_FORGET, *_columns(live, "tenant", "id"))
            if later:
                await connection.execute(_PUT_OFF, *_columns(later, "tenant", "id"), _PAUSES)
            if deadlines:
                await connection.execute(
                    _PUT_OFF_DEADLINES, *_columns(deadlines, "tenant", "subject_id", "name"), _DEADLINE_PAUSES
                )
        for topic, count in Counter(row["topic"] for row in rows).items():
            RELAYED.labels(topic).inc(count)
        return len(rows) + len(deadlines)

    async def tidy(self) -> bool:
        """Clear away one batch of old inbox rows and one of old dead letters; returns whether there may be more. An
        inbox row stays for as long as its message could be sent again, from the outbox or by hand. Raises what asyncpg
        raises."""
        connection = await self._connected()
        full = False
        for table, statement, lasts in (
            ("dead_letters", _FORGET_OLD_LETTERS, DEAD_LETTERS_LAST),
            ("inbox", _FORGET_OLD_INBOX, INBOX_LASTS),
        ):
            removed = len(await connection.fetch(statement, lasts, TIDY_BATCH))
            TIDIED.labels(table).inc(removed)
            full = full or removed == TIDY_BATCH
        return full

    async def ask_for_copies(self) -> int:
        """From REPORTING_HOUR on, one message for each issuer and night, so that a worker copies its data; returns how
        many are new. Raises what asyncpg raises."""
        connection = await self._connected()
        return int(await connection.fetchval("SELECT ask_for_copies($1)", self._settings.reporting_hour))

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                if self._settings.reporting_folder is not None and time.monotonic() >= self._asks_for_copies_at:
                    await self.ask_for_copies()
                    self._asks_for_copies_at = time.monotonic() + ASK_FOR_COPIES_EVERY_SECONDS
                handed_on = await self.hand_on()
                # Whoever waits for a message goes first.
                if not handed_on and time.monotonic() >= self._tidies_at and not await self.tidy():
                    self._tidies_at = time.monotonic() + TIDY_EVERY_SECONDS
        except RedisError as error:
            self._note_away("redis", error)
            with suppress(*_DATABASE_AWAY):
                async with asyncio.timeout(_TURN_SECONDS):
                    await (await self._connected()).execute(_DROP_OLD_LIVE, LIVE_LASTS)
        except _DATABASE_AWAY as error:
            self._note_away("postgresql", error)
            await self._disconnect()
        else:
            if self._away is not None:
                log.info("relay_goes_on", server=self._away)
                self._away = None
            self._wait_seconds = 0.0 if handed_on else POLL_SECONDS

    def _note_away(self, server: str, error: Exception) -> None:
        if self._away != server:
            self._away, self._wait_seconds = server, 0.0
            log.warning("relay_waits", server=server, error=type(error).__name__)
        self._wait_seconds = min(max(2 * self._wait_seconds, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect_as(self._settings, RELAY)
            # What a crash of the server makes it forget here is a row to be sent once more.
            await self._connection.execute("SET synchronous_commit = off")
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_DATABASE_AWAY):
                await connection.close(timeout=2)


def _columns(rows: list[asyncpg.Record], *names: str) -> list[list[object]]:
    return [[row[name] for row in rows] for name in names]


# Not clock_timestamp(): no index can be searched for what may change from row to row.

_ANYTHING_DUE = """
SELECT EXISTS (SELECT FROM outbox WHERE claim_at <= statement_timestamp())
    OR EXISTS (SELECT FROM deadlines WHERE claim_at <= statement_timestamp())
"""

_DUE_ROWS = """
SELECT tenant, id, topic, (payload || jsonb_build_object('tenant', tenant, 'update', id))::text AS message
FROM outbox WHERE claim_at <= statement_timestamp() ORDER BY claim_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""

_DUE_DEADLINES = """
SELECT tenant, subject_kind, subject_id, name
FROM deadlines WHERE claim_at <= statement_timestamp() ORDER BY claim_at LIMIT $1 FOR UPDATE SKIP LOCKED
"""

_FORGET = """
DELETE FROM outbox AS o USING unnest($1::integer[], $2::uuid[]) AS done(tenant, id)
WHERE o.tenant = done.tenant AND o.id = done.id
"""

_PUT_OFF = """
UPDATE outbox AS o SET sends = sends + 1,
  claim_at = clock_timestamp() + ($3::interval[])[least(sends + 1, cardinality($3::interval[]))]
FROM unnest($1::integer[], $2::uuid[]) AS sent(tenant, id) WHERE o.tenant = sent.tenant AND o.id = sent.id
"""

_PUT_OFF_DEADLINES = """
UPDATE deadlines AS d SET sends = sends + 1,
  claim_at = clock_timestamp() + ($4::interval[])[least(sends + 1, cardinality($4::interval[]))]
FROM unnest($1::integer[], $2::uuid[], $3::text[]) AS sent(tenant, subject_id, name)
WHERE d.tenant = sent.tenant AND d.subject_id = sent.subject_id AND d.name = sent.name
"""

_DROP_OLD_LIVE = "DELETE FROM outbox WHERE topic = 'live' AND claim_at < statement_timestamp() - $1::interval"

_FORGET_OLD_LETTERS = """
DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM dead_letters WHERE given_up_at < statement_timestamp() - $1::interval ORDER BY given_up_at LIMIT $2
)) RETURNING 1
"""

_FORGET_OLD_INBOX = """
DELETE FROM inbox WHERE ctid = ANY(ARRAY(
  SELECT i.ctid FROM inbox i WHERE i.done_at < statement_timestamp() - $1::interval
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.tenant = i.tenant AND o.id = i.message_id)
    AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.tenant = i.tenant AND d.id = i.message_id)
  ORDER BY i.done_at LIMIT $2
)) RETURNING 1
"""
