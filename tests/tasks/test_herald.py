"""Live updates on the short way: heard without a relay, heard once with one, and not missed without Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from api.live import Hub
from tasks.relay import Relay
from tests.tasks import Cast, database_of, until
from tests.world import Servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers.start(tmp_path_factory.mktemp("herald"))
    yield started
    started.stop()


@asynccontextmanager
async def _listening(servers: Servers, place: UUID) -> AsyncIterator[list[frozenset[UUID] | None]]:
    """What a subscriber to a point of sale hears."""
    hub, heard = Hub(servers.settings.redis_url), list[frozenset[UUID] | None]()

    async def listen() -> None:
        async for changed in hub.changes(("preq@", str(place))):
            heard.append(changed)

    await hub.open()
    listener = asyncio.create_task(listen())
    await until(hub.is_connected)
    # At its start it may have missed something: it reads everything, once more when it has subscribed.
    await until(lambda: heard == [None, None])
    heard.clear()
    yield heard
    listener.cancel()
    await hub.close()


def test_who_waits_hears_of_a_commit_without_a_relay_and_once_with_one(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            async with _listening(servers, cast.world.places["P001"].id) as heard:
                request = await cast.ask("50")
                await until(lambda: heard == [frozenset({request.id})])
                assert await cast.outbox("live"), "the relay says it again"
                relay, stop = Relay(servers.settings), asyncio.Event()
                assert await relay.hand_on() > 0
                other = await cast.ask("51", basket_number="P31")
                await until(lambda: heard == [frozenset({request.id}), frozenset({other.id})])
                stop.set()
                await relay.run(stop)

    asyncio.run(scenario())


def test_what_was_said_while_redis_was_away_is_heard_from_the_relay(servers: Servers) -> None:
    async def scenario() -> None:
        async with database_of(servers.settings) as database:
            cast = await Cast.make(servers, database)
            async with _listening(servers, cast.world.places["P001"].id) as heard:
                servers.redis.kill()
                await cast.ask("50")
                servers.redis.start()
                await until(lambda: heard == [None])
                again = await cast.ask("51", basket_number="P31")
                relay, stop = Relay(servers.settings), asyncio.Event()
                await relay.hand_on()
                await until(lambda: again.id in set().union(*(changed or () for changed in heard)))
                stop.set()
                await relay.run(stop)

    asyncio.run(scenario())
