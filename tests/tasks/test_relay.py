"""The relay: every row is handed on, whatever breaks, and everything due is done once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from structlog.testing import capture_logs

from domain import payments
from domain.codes import new_id
from domain.db import RELAY, connect_as
from domain.payments import PaymentRequest
from domain.work import perform
from tasks import broker, relay
from tasks.actors import Tasks
from tasks.relay import Relay
from tests.tasks import Cast, PostBox, database_of, process_working, settings_for, until, working
from tests.world import Servers

_NOON = datetime(2026, 3, 2, 11, tzinfo=UTC)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers.start(tmp_path_factory.mktemp("relay"))
    yield started
    started.stop()


def test_two_relays_hand_on_each_row_and_each_is_done_once(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            settings = settings_for(servers, box)
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            (first,) = await cast.outbox()
            await cast.world.as_owner(
                "INSERT INTO outbox (tenant, id, topic, payload)"
                " SELECT $1, gen_random_uuid(), 'mail', $2 FROM generate_series(1, 199)",
                cast.world.tenant,
                first["payload"],
            )
            identifiers = {f"<{row['id']}.1@127.0.0.1>" for row in await cast.outbox()}
            async with working(settings), _relaying(servers):
                await until(cast.is_told)
            assert len(box.mails) == len(identifiers) == 200
            assert set(box.identifiers) == identifiers
            assert await cast.count("inbox") == 200
            assert await cast.count("dead_letters") == 0

    asyncio.run(scenario())


def test_a_relay_neither_takes_nor_awaits_what_another_has_locked(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.world.as_owner("DELETE FROM outbox")
            for table, columns, values in (
                ("outbox", "id, topic, payload", "gen_random_uuid(), 'mail', '{}'"),
                ("deadlines", "subject_kind, subject_id, name, due_at, sends", "'x', gen_random_uuid(), 'x', now(), 0"),
            ):
                await cast.world.as_owner(
                    f"INSERT INTO {table} (tenant, claim_at, {columns}) SELECT $1, now(), {values}"
                    " FROM generate_series(1, 5)",
                    cast.world.tenant,
                )
            other = await connect_as(servers.settings, RELAY)
            relays = [Relay(servers.settings) for _ in range(2)]
            async with asyncio.timeout(10), other.transaction():
                for table in ("outbox", "deadlines"):
                    await other.fetch(f"SELECT FROM {table} ORDER BY claim_at LIMIT 3 FOR UPDATE")
                assert await relays[0].hand_on() == 2 + 2
            assert sum(await asyncio.gather(*(one.hand_on() for one in relays))) == 3 + 3
            await other.close()
            stopped = asyncio.Event()
            stopped.set()
            await asyncio.gather(*(one.run(stopped) for one in relays))
            await cast.world.as_owner("DELETE FROM outbox")
            await cast.world.as_owner("DELETE FROM deadlines")

    asyncio.run(scenario())


def test_a_deadline_fires_once_with_two_workers_and_copies_of_its_message(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            settings = settings_for(servers, box)
            cast = await Cast.make(servers, database)
            await cast.world.freeze(_NOON)
            request = await cast.ask("50")
            await cast.world.freeze(_NOON + timedelta(minutes=15))
            copies = [broker.firing(cast.world.tenant, "preq", request.id, "expire")] * 40
            batch = broker.Batch(settings)
            with redis.Redis.from_url(settings.redis_url) as client:
                # What a worker that another test has killed had in hand would stay for a minute and more.
                client.flushdb()
                async with process_working(settings), working(settings):
                    await until(lambda: _are_at_work(servers, 2))
                    batch.send([], copies)
                    await _set_deadline(cast, request, "expire", "clock_timestamp()")
                    await until(lambda: _is_gone(cast))
                    await until(lambda: not client.hlen("escarcelle:messages.msgs"))
            batch.close()
            assert await cast.count("journal", "kind = 'preq.expire'") == 1
            assert await cast.count("payment_requests", "status = 'EXPIRED'") == 1

    asyncio.run(scenario())


def test_P13_a_warning_whose_message_comes_twice_is_given_once(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database, _tasks(servers) as tasks:
            cast = await Cast.make(servers, database)
            await cast.world.freeze(_NOON)
            request = await cast.ask("50", validation_days=3, customer_identifier="client2@example.com")
            await cast.pay(request)
            await cast.world.freeze(_NOON + timedelta(days=3))
            for _ in range(2):
                await tasks.fire(cast.world.tenant, "preq", str(request.id), "warn")
            assert await cast.count("journal", "kind = 'preq.warn'") == 1
            assert await cast.count("outbox", "payload ->> 'notice' = 'validation_ends_soon'") == 1
            await perform(database, cast.manager, payments.validate, request.id)
            assert await cast.count("deadlines") == 0

    asyncio.run(scenario())


def test_a_due_deadline_that_its_object_no_longer_needs_goes(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database, _tasks(servers) as tasks:
            cast = await Cast.make(servers, database)
            request = await cast.ask("50")
            await perform(database, cast.manager, payments.cancel, request.id)
            await _set_deadline(cast, request, "expire", "clock_timestamp()")
            await tasks.fire(cast.world.tenant, "preq", str(request.id), "expire")
            assert await _is_gone(cast)
            assert await cast.count("journal", "kind = 'preq.expire'") == 0

    asyncio.run(scenario())


def test_a_deadline_fired_too_early_stays(servers: Servers) -> None:
    """By real time, and by a clock that stands still before the instant."""

    async def scenario() -> None:
        async with database_of(servers.settings) as database, _tasks(servers) as tasks:
            cast = await Cast.make(servers, database)
            request = await cast.ask("50")
            await tasks.fire(cast.world.tenant, "preq", str(request.id), "expire")
            assert await cast.count("deadlines") == 1
            await cast.world.freeze(_NOON)
            await _set_deadline(cast, request, "expire", "clock_timestamp()")
            await tasks.fire(cast.world.tenant, "preq", str(request.id), "expire")
            assert await cast.count("deadlines") == 1
            assert await cast.count("payment_requests", "status = 'AWAITING_PAYMENT'") == 1

    asyncio.run(scenario())


def test_a_deadline_whose_deed_fails_stays_with_the_reason_and_is_fired_again(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            request = await cast.ask("50")
            await _set_deadline(cast, request, "unheard_of", "clock_timestamp()", sends=14)
            async with working(settings_for(servers, box)):
                await until(lambda: cast.count("deadlines", "last_error IS NOT NULL"))
            (deadline,) = await cast.world.as_owner("SELECT * FROM deadlines WHERE name = 'unheard_of'")
            assert deadline["last_error"].startswith("KeyError (deadlines.py:")
            pause = deadline["claim_at"] - datetime.now(UTC)
            assert timedelta(minutes=4) < pause <= relay.LONGEST_DEADLINE_PAUSE
            await cast.world.as_owner("DELETE FROM deadlines WHERE name = 'unheard_of'")

    asyncio.run(scenario())


def test_live_updates_are_published_with_their_tenant_and_object(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database, Redis.from_url(servers.settings.redis_url) as client:
            cast = await Cast.make(servers, database)
            await cast.world.as_owner("DELETE FROM outbox")
            async with client.pubsub(ignore_subscribe_messages=True) as heard:
                await heard.subscribe("escarcelle:live")
                request = await cast.ask("50")
                await cast.pay(request)
                updates = [await _next_update(heard) for _ in range(2)]
                async with _relaying(servers):
                    assert updates == [await _next_update(heard) for _ in range(2)], "said again by the relay"
            rows = {update.pop("update") for update in updates}
            assert len(rows) == 2
            place = str(cast.world.places["P001"].id)
            about = {"tenant": cast.world.tenant, "kind": "preq", "id": str(request.id), "place": place}
            payer = str(cast.customer.holder_id)
            assert updates == [about | {"version": 0}, about | {"version": 1, "holders": [payer]}]
            await until(lambda: _nothing_live(cast))
            await cast.world.as_owner("DELETE FROM outbox")

    asyncio.run(scenario())


def test_a_message_names_tenant_and_row_only(servers: Servers) -> None:
    message_id = new_id()
    assert broker.delivery(7, message_id).args == (7, str(message_id))
    assert broker.firing(7, "preq", message_id, "expire").args == (7, "preq", str(message_id), "expire")


def test_while_redis_is_away_nothing_happens_to_a_row_and_the_relay_says_so_once(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box, database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            await cast.pay(await cast.ask("50"))
            before = await cast.outbox() + await cast.outbox("live")
            assert len(before) > 2
            servers.redis.kill()
            with capture_logs() as logs:
                async with _relaying(servers):
                    for _ in range(2):
                        await _add_old_live_update(cast)
                        await until(lambda: _has_dropped_it(cast, len(before)))
                    assert await cast.outbox() + await cast.outbox("live") == before
                    servers.redis.start()
                    await until(lambda: _nothing_live(cast))
            assert [entry["event"] for entry in logs] == ["relay_waits", "relay_goes_on"]
            assert logs[0]["server"] == "redis"
            await cast.let_leases_lapse()
            async with working(settings_for(servers, box)):
                await until(cast.is_told)
            assert len(box.mails) == 1

    asyncio.run(scenario())


def test_relay_and_workers_find_postgresql_again(servers: Servers) -> None:
    async def scenario() -> None:
        async with PostBox().open() as box:
            with capture_logs() as logs:
                async with working(settings_for(servers, box)):
                    async with database_of(servers.settings) as database:
                        cast = await Cast.make(servers, database)
                        await cast.pay(await cast.ask("50"))
                        await until(cast.is_told)
                    servers.postgres.stop(immediate=True)
                    await until(lambda: any(entry["event"] == "relay_waits" for entry in logs))
                    servers.postgres.start()
                    async with database_of(servers.settings) as database:
                        cast.world.database = database
                        await cast.pay(await cast.ask("50", basket_number="P30"))
                        await until(lambda: _is_told_at_last(cast))
            assert [entry["event"] for entry in logs if entry["event"].startswith("relay_")] == [
                "relay_waits",
                "relay_goes_on",
            ]
            assert {"P29", "P30"} == {mail["Subject"].split()[-1].strip(")") for mail in box.mails}

    asyncio.run(scenario())


def test_a_poll_reads_no_more_than_what_is_due(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            for table, columns, values in (
                ("deadlines", "subject_kind, subject_id, name, due_at, sends", "'preq', gen_random_uuid(), 'x', $2, 0"),
                ("outbox", "id, topic, payload", "gen_random_uuid(), 'mail', '{}'"),
            ):
                await cast.world.as_owner(
                    f"INSERT INTO {table} (tenant, claim_at, {columns})"
                    f" SELECT $1, $2::timestamptz, {values} FROM generate_series(1, 5000)",
                    cast.world.tenant,
                    datetime.now(UTC) + timedelta(days=1),
                )
                await cast.world.as_owner(f"ANALYZE {table}")
            connection = await connect_as(servers.settings, RELAY)
            statements = [getattr(relay, name) for name in ("_ANYTHING_DUE", "_DUE_ROWS", "_DUE_DEADLINES")]
            for statement in statements:
                given = (relay.BATCH,) if "$1" in statement else ()
                plan = await connection.fetch(f"EXPLAIN ANALYZE {statement}".replace("$1", str(*given)))
                text = "\n".join(row[0] for row in plan)
                assert "claim_at_idx" in text
                assert "Seq Scan" not in text
            await connection.close()
            await cast.world.as_owner("DELETE FROM deadlines")
            await cast.world.as_owner("DELETE FROM outbox")

    asyncio.run(scenario())


@asynccontextmanager
async def _relaying(servers: Servers) -> AsyncIterator[None]:
    """A relay without a worker."""
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(servers.settings).run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@asynccontextmanager
async def _tasks(servers: Servers) -> AsyncIterator[Tasks]:
    """The tasks, to be called without a queue."""
    tasks = Tasks(servers.settings, broker.open_broker(servers.settings))
    try:
        yield tasks
    finally:
        await tasks.close()


async def _set_deadline(cast: Cast, request: PaymentRequest, name: str, due_at: str, sends: int = 0) -> None:
    await cast.world.as_owner(
        "INSERT INTO deadlines (tenant, subject_kind, subject_id, name, due_at, claim_at, sends)"
        f" VALUES ($1, 'preq', $2, $3, {due_at}, {due_at}, $4)"
        f" ON CONFLICT (tenant, subject_id, name) DO UPDATE SET due_at = {due_at}, claim_at = {due_at}",
        cast.world.tenant,
        request.id,
        name,
        sends,
    )


async def _is_gone(cast: Cast) -> bool:
    """Whether nothing is pending."""
    return await cast.count("deadlines") == 0


async def _next_update(heard: PubSub) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            message = await heard.get_message(timeout=1)
            if message is not None:
                update: dict[str, Any] = json.loads(message["data"])
                return update


async def _nothing_live(cast: Cast) -> bool:
    return not await cast.outbox("live")


async def _add_old_live_update(cast: Cast) -> None:
    await cast.world.as_owner(
        "INSERT INTO outbox (tenant, id, topic, payload, claim_at)"
        " VALUES ($1, gen_random_uuid(), 'live', '{}', clock_timestamp() - interval '11 minutes')",
        cast.world.tenant,
    )


async def _has_dropped_it(cast: Cast, others: int) -> bool:
    return await cast.count("outbox") == others


async def _is_told_at_last(cast: Cast) -> bool:
    """The same, without waiting for the pause after a connection that was found dead."""
    if await cast.count("outbox", "failures > 0"):
        await cast.let_leases_lapse()
    return await cast.is_told()


async def _are_at_work(servers: Servers, relays: int) -> bool:
    """Whether PostgreSQL sees as many relays."""
    connection = await asyncpg.connect(servers.postgres.url("postgres"))
    try:
        seen = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename = $1", RELAY)
        return bool(seen == relays)
    finally:
        await connection.close()
