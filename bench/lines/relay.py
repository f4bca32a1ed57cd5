"""The relay hands on what was committed, in batches. The limit is the framework's own way: `send`, one message after
the other."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from bench.measuring import Curves, Figure, Size, ratios, taking_turns
from bench.stage import Cast, Stage, stage, token
from domain import payments
from domain.outbox import Topic
from domain.work import perform
from tasks.relay import Relay
from tests.world import Servers

_BOTH: Final = (Topic.LIVE, Topic.MAIL)
"""What a payment leaves to be told: a live update and a mail."""


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """Rows handed on in a second ÷ messages sent in a second: live updates and mails, as payments leave them."""
    rows = size.of(10_000, 1_000)
    async with stage(servers) as on:
        await _one_payment(on)
        relay = Relay(on.settings)
        both, live, mail, sent = await taking_turns(
            size.rounds,
            lambda: _handed_on(on, relay, rows, _BOTH),
            lambda: _handed_on(on, relay, rows, (Topic.LIVE,)),
            lambda: _handed_on(on, relay, rows, (Topic.MAIL,)),
            lambda: _sent(on, rows // 2),
        )
        await on.world.as_owner("DROP TABLE bench_outbox")
        await on.world.as_owner("DELETE FROM outbox")
        differences = await on.differences()

    def figure(name: str, says: str, rates: list[float]) -> Figure:
        spent = f"{_median(rates):.0f} rows/s of {_median(sent):.0f} messages/s"
        return Figure(name, says, ratios(rates, sent), 3, 5, at_least=True, spent=spent, differences=differences)

    return [
        figure("relay", "the relay with live updates and mails in turn ÷ dramatiq.send one by one", both),
        figure("relay-live", "the relay with live updates only ÷ dramatiq.send", live),
        figure("relay-mail", "the relay with mails only ÷ dramatiq.send", mail),
    ]


async def curve(size: Size, servers: Servers) -> Curves:
    """Rows in a second, over how many wait."""
    curves = Curves("The relay", "rows that wait", "rows/s")
    async with stage(servers) as on:
        await _one_payment(on)
        relay = Relay(on.settings)
        for rows in (100, 1_000) if size.quick else (100, 1_000, 10_000, 100_000):
            curves.add("live and mail", rows, await _handed_on(on, relay, rows, _BOTH))
            curves.add("live", rows, await _handed_on(on, relay, rows, (Topic.LIVE,)))
            curves.add("mail", rows, await _handed_on(on, relay, rows, (Topic.MAIL,)))
            curves.add("dramatiq.send", rows, await _sent(on, min(rows, 5_000)))
    return curves


async def _one_payment(on: Stage) -> None:
    """Its outbox rows are kept, to be copied."""
    cast = await Cast.make(on, 1, 1)
    number = await cast.ask(1, 1)
    await on.world.as_owner("DELETE FROM outbox")
    await perform(on.database, cast.customers[0].actor, payments.pay, token(number))
    await on.world.as_owner("CREATE TABLE bench_outbox AS SELECT tenant, topic, payload FROM outbox")


async def _handed_on(on: Stage, relay: Relay, rows: int, topics: Sequence[Topic]) -> float:
    """How many rows in a second."""
    await on.world.as_owner("DELETE FROM outbox")
    await on.world.as_owner(
        "INSERT INTO outbox (tenant, id, topic, payload) SELECT o.tenant, gen_random_uuid(), o.topic, o.payload"
        " FROM generate_series(1, $1) AS n, bench_outbox AS o WHERE o.topic = ANY($2)",
        rows // len(topics), list(map(str, topics)),
    )  # fmt: skip
    await on.settle()
    _empty_redis(on)
    began, handed_on = time.perf_counter(), 0
    while number := await relay.hand_on():
        handed_on += number
    seconds = time.perf_counter() - began
    assert handed_on >= rows, "every row was handed on"
    return handed_on / seconds


async def _sent(on: Stage, count: int) -> float:
    """How many messages in a second, as an application sends them."""
    _empty_redis(on)
    broker = RedisBroker(url=on.settings.redis_url, namespace="bench")  # type: ignore[no-untyped-call]
    actor = dramatiq.actor(broker=broker)(_do_nothing)
    tenant, identifiers = on.world.tenant, [str(uuid4()) for _ in range(count)]
    began = time.perf_counter()
    for identifier in identifiers:
        actor.send(tenant, identifier)
    seconds = time.perf_counter() - began
    broker.client.close()
    return count / seconds


def _do_nothing(tenant: int, outbox_id: str) -> None:
    """It is never run: messages are only sent."""


def _empty_redis(on: Stage) -> None:
    with Redis.from_url(on.settings.redis_url) as client:
        client.flushall()


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
