"""Tills that wait, each over a WebSocket of its own for one payment. The limit is a raw echo on the same server: as
many sockets, and what is said comes back."""

import asyncio
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bench.load import child
from bench.measuring import Curves, Figure, Size, Watch, resident_bytes, taking_turns
from bench.stage import Cast, Program, api, program, stage, token
from domain import payments
from domain.work import perform
from escarcelle.embedded import free_port
from tests.world import Servers

_FEWER_THAN_FILES: Final = 500
_WARM_UP: Final = 50
_PAUSE_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 20.0
_BURST: Final = 16

_WAIT: Final = "subscription Wait($id: ID!) { paymentRequest(id: $id) { id status } }"


@dataclass(frozen=True, slots=True)
class Held:
    """What so many sockets were like: bytes and µs of CPU for each, the median seconds until they heard, and how many
    did not."""

    sockets: int
    bytes_each: float
    opening_us: float
    median_seconds: float
    lost: int


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """Memory of a socket, and how soon it hears after the commit, ÷ the echo's; and how many never hear."""
    count = _allowed(size.of(5_000, 200))
    heard = size.of(500, 50)
    async with stage(servers) as on:
        cast = await Cast.make(on, _BURST, 1)
        with program(on.settings, "escarcelle", "work"):
            tills, echoes = await taking_turns(
                size.rounds, lambda: _tills(cast, count, heard), lambda: _echo(count, heard)
            )
        differences = await on.differences()
    kilobytes = _both(tills, echoes, lambda held: held.bytes_each / 1000, "kB")
    opening = _both(tills, echoes, lambda held: held.opening_us, "µs of CPU to open")
    median = _both(tills, echoes, lambda held: held.median_seconds * 1000, "ms")
    pairs = list(zip(tills, echoes, strict=True))
    return [
        Figure(
            "subscribers-memory",
            f"{count:,} subscribers ÷ raw echo, memory of the server for each",
            [mine.bytes_each / raw.bytes_each for mine, raw in pairs],
            first=2.5, then=1.5, at_least=False, spent=f"{kilobytes}; {opening}", differences=differences,
        ),
        Figure(
            "subscribers-latency",
            f"{count:,} subscribers, from the commit to the message ÷ raw echo, medians",
            [mine.median_seconds / raw.median_seconds for mine, raw in pairs],
            first=2, then=1.5, at_least=False, spent=median, differences=differences,
        ),
        Figure(
            "subscribers-lost",
            f"{count:,} subscribers, each told once: how many were not",
            [mine.lost for mine in tills],
            first=0, then=0, at_least=False, differences=differences,
        ),
    ]  # fmt: skip


async def curve(size: Size, servers: Servers) -> Curves:
    """The median until a message is there, over the number of subscribers."""
    curves = Curves("From the commit to the message", "subscribers", "median, ms")
    async with stage(servers) as on:
        cast = await Cast.make(on, _BURST, 1)
        with program(on.settings, "escarcelle", "work"):
            for count in (100, 200) if size.quick else (500, 1_000, 2_500, 5_000):
                heard = size.of(200, 50)
                curves.add("subscribers", count, 1000 * (await _tills(cast, _allowed(count), heard)).median_seconds)
                curves.add("raw echo", count, 1000 * (await _echo(_allowed(count), heard)).median_seconds)
    return curves


def _allowed(count: int) -> int:
    """As many as this process and its children may have files open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(count, most - _FEWER_THAN_FILES)


def _both(tills: list[Held], echoes: list[Held], of: Callable[[Held], float], unit: str) -> str:
    mine, raw = (statistics.median(map(of, each)) for each in (tills, echoes))
    return f"{mine:.2f} {unit}, echo {raw:.2f}"


async def _tills(cast: Cast, count: int, heard: int) -> Held:
    """Tills that wait for a payment each; some are paid one after the other, in peace, and then all the others by some
    customers at a time."""
    first = await cast.ask(1, _WARM_UP + count)
    session = await cast.stage.world.session("merchant0")
    says = [
        [
            orjson.dumps({"type": "connection_init", "payload": {"token": session}}).decode(),
            orjson.dumps(
                {"id": "1", "type": "subscribe", "payload": {"query": _WAIT, "variables": {"id": identifier}}}
            ).decode(),
        ]
        for identifier in (cast.request_id(number) for number in range(first, first + _WARM_UP + count))
    ]
    # The state now is the third thing that each hears.
    for each in says:
        each.append(orjson.dumps({"type": "ping"}).decode())

    async def pay(number: int, by: int) -> float:
        await perform(cast.stage.database, cast.customers[by].actor, payments.pay, token(number))
        return time.monotonic()

    async def one_by_one(_: Any) -> list[float]:
        instants = []
        for number in range(first + _WARM_UP, first + _WARM_UP + heard):
            instants.append(await pay(number, 0))
            await asyncio.sleep(_PAUSE_SECONDS)
        return instants

    async def all_the_others() -> None:
        rest = range(first + _WARM_UP + heard, first + _WARM_UP + count)

        async def some(by: int) -> None:
            for number in rest[by::_BURST]:
                await pay(number, by)

        await asyncio.gather(*(some(by) for by in range(_BURST)))

    headers = "sec-websocket-protocol: graphql-transport-ws\r\n"
    return await _held(lambda: api(cast.stage.settings), "/graphql", headers, says, heard, one_by_one, all_the_others)


async def _echo(count: int, heard: int) -> Held:
    """Sockets of which some say something, one after the other, and hear it."""
    text = orjson.dumps({"id": "1", "type": "next", "payload": {"data": {"paymentRequest": {"id": "x" * 37}}}}).decode()

    async def one_by_one(tell: Callable[[str], None]) -> list[float]:
        instants = []
        for number in range(_WARM_UP, _WARM_UP + heard):
            tell(f"say {number} {text}")
            instants.append(time.monotonic())
            await asyncio.sleep(_PAUSE_SECONDS)
        return instants

    async def nothing_more() -> None:
        pass

    port = free_port()
    says: list[list[str]] = [["one"] for _ in range(_WARM_UP + count)]
    return await _held(lambda: program_of_echo(port), "/", "", says, heard, one_by_one, nothing_more, expected=heard)


def program_of_echo(port: int) -> AbstractContextManager[Program]:
    """The raw echo."""
    return program(None, "bench.echo", str(port), port=port)


async def _held(
    open_server: Callable[[], AbstractContextManager[Program]],
    path: str,
    headers: str,
    says: list[list[str]],
    heard: int,
    one_by_one: Callable[[Callable[[str], None]], Awaitable[list[float]]],
    all_the_others: Callable[[], Awaitable[None]],
    expected: int | None = None,
) -> Held:
    """A new server, as many sockets as say something, and what they hear. Memory and CPU are taken from behind the
    first sockets, which warm the server up."""
    count = len(says) - _WARM_UP
    with open_server() as server:
        await _until_it_listens(server.port)
        plan = {"port": server.port, "path": path, "headers": headers}
        async with child("bench.sockets", plan | {"says": says[:_WARM_UP]}) as (_, first_ready):
            await first_ready()
            before, watch = resident_bytes(server.process), Watch(server=server.process)
            async with child("bench.sockets", plan | {"says": says[_WARM_UP:]}) as (tell, hear):
                await hear()
                bytes_each = (resident_bytes(server.process) - before) / count
                opening = watch.stop().each(count)["server"]
                instants = await one_by_one(lambda word: tell(_of_the_second(word)))
                await all_the_others()
                ends = await _heard(tell, hear, expected or count)
    late = [end[0] / 1e9 - instant for instant, end in zip(instants, ends, strict=False) if end]
    return Held(
        count, bytes_each, opening, statistics.median(late), (expected or count) - sum(1 for end in ends if end)
    )


def _of_the_second(word: str) -> str:
    """The numbers of the sockets begin again behind those that warm up."""
    kind, number, text = word.split(" ", 2)
    return f"{kind} {int(number) - _WARM_UP} {text}"


async def _heard(tell: Callable[[str], None], hear: Callable[[], Awaitable[Any]], expected: int) -> list[list[int]]:
    """When each socket has heard something, as soon as all have, or after some time."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        tell("heard")
        ends: list[list[int]] = await hear()
        if sum(1 for end in ends if end) >= expected or time.monotonic() > until:
            return ends
        await asyncio.sleep(0.2)


async def _until_it_listens(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError("the server does not listen")
