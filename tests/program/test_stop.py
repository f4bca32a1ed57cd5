"""Stopping under load: no request that the server has begun with goes unanswered, and nothing is done twice.

Clients speak HTTP by hand, so that they know what they have heard when a connection ends."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from uuid import UUID

import pytest
import websockets
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from domain import payments
from domain.access import Role
from domain.db import Database
from domain.payments import PaymentRequest
from domain.work import perform
from escarcelle.embedded import free_ports
from tests.tasks import Cast as MailCast
from tests.tasks import PostBox, process_working, settings_for, until
from tests.world import Servers, World, environment, wait_until_ready

pytestmark = pytest.mark.anyio

CLIENTS = 16
REQUESTS_EACH = 30
PAID_BEFORE_THE_SIGNAL = 100
WALLET = CLIENTS * REQUESTS_EACH * 20_00
PAY = (
    "mutation ($input: PayPaymentRequestInput!, $key: ID!) { payPaymentRequest(input: $input, idempotencyKey: $key)"
    " { __typename } }"
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Of its own: another relay would take its mails."""
    started = Servers.start(tmp_path_factory.mktemp("stopping"))
    yield started
    started.stop()


# ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Cut(Exception):
    """The connection ended before a byte of the answer."""


class Caller:
    """One keep-alive connection after the other."""

    def __init__(self, ports: Sequence[int], token: str) -> None:
        """`ports` are tried in this order."""
        self._ports = ports
        self._token = token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes, *, more_to_come: int = 0) -> None:
        """A request; of its body, the last bytes may come later. Raises OSError when nobody listens."""
        if self._streams is None:
            self._streams = await self._connected()
        head = (
            f"POST /graphql HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body) + more_to_come}\r\n\r\n"
        )
        self._streams[1].write(head.encode() + body)

    async def send_rest(self, rest: bytes) -> None:
        """The bytes that were to come."""
        assert self._streams is not None
        self._streams[1].write(rest)

    async def answer(self) -> tuple[dict[str, str], bytes]:
        """The headers and the body of the answer. Raises Cut when there is not a byte of it; fails on half of one."""
        assert self._streams is not None
        reader = self._streams[0]
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.hang_up()
            if getattr(error, "partial", b""):
                pytest.fail("half an answer")
            raise Cut from None
        lines = head.decode().split("\r\n")
        assert lines[0].split()[1] == "200", lines[0]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            assert await reader.read() == b""
            self.hang_up()
        return headers, body

    def hang_up(self) -> None:
        """The connection is over."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in self._ports[:-1]:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
        return await asyncio.open_connection("127.0.0.1", self._ports[-1])


@dataclass
class Crowd:
    """Customers who pay as fast as they can, and what they have seen."""

    world: World
    requests: list[list[PaymentRequest]]
    tokens: list[str]
    paid: int = 0
    cut: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def pay(self, number: int, ports: Sequence[int]) -> None:
        """One customer pays all its requests; what was cut off is tried again with its key."""
        caller = Caller(ports, self.tokens[number])
        for request in self.requests[number]:
            while True:
                try:
                    await caller.send(payment(request))
                    _, body = await caller.answer()
                except Cut:
                    self.cut += 1
                    continue
                assert json.loads(body) == {"data": {"payPaymentRequest": {"__typename": "PaymentOffer"}}}
                break
            self.paid += 1
            if self.paid == PAID_BEFORE_THE_SIGNAL:
                self.enough.set()
        caller.hang_up()

    async def check(self) -> None:
        """Each request is paid, once."""
        assert self.paid == CLIENTS * REQUESTS_EACH
        rows = await self.world.as_owner(
            "SELECT r.id, r.amount_paid, count(j.id) AS lines FROM payment_requests r LEFT JOIN journal j"
            " ON j.tenant = r.tenant AND j.subject_id = r.id AND j.kind = 'preq.pay' WHERE r.tenant = $1 GROUP BY 1, 2",
            self.world.tenant,
        )
        assert {(row["amount_paid"], row["lines"]) for row in rows} == {(20_00, 1)}
        assert len(rows) == self.paid
        assert [await self.world.wallet(f"c{n}") for n in range(CLIENTS)] == [
            WALLET - REQUESTS_EACH * 20_00 for _ in range(CLIENTS)
        ]


def payment(request: PaymentRequest) -> bytes:
    """The body that pays it, always with the same key."""
    variables = {"input": {"token": request.token}, "key": str(request.id)}
    return json.dumps({"query": PAY, "variables": variables}).encode()


@pytest.fixture
async def crowd(world: World, database: Database) -> Crowd:
    """Sixteen customers, each with requests to pay."""
    await world.merchant("CK", "Canoë Kayak Club", {"P001": "Base nautique"})
    manager = await world.user("club", Role.MERCHANT_MANAGER, merchant="CK")

    async def asked(number: int) -> PaymentRequest:
        made = await perform(
            database,
            manager,
            payments.create,
            point_of_sale_id=world.places["P001"].id,
            amount="20,00",
            basket_number=f"panier-{number}",
        )
        assert isinstance(made, PaymentRequest)
        return made

    made = await asyncio.gather(*(asked(number) for number in range(CLIENTS * REQUESTS_EACH)))
    tokens = []
    for number in range(CLIENTS):
        await world.holder(f"c{number}", f"Client {number}", wallet=f"{WALLET // 100},00")
        await world.user(f"c{number}", Role.HOLDER, holder=f"c{number}")
        tokens.append(await world.session(f"c{number}"))
    return Crowd(world, [list(made[number::CLIENTS]) for number in range(CLIENTS)], tokens)


# ── servers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def served(servers: Servers, *options: str, listener: socket.socket | None = None) -> AsyncIterator[Process]:
    """`escarcelle serve`, by its options or on a socket that listens already."""
    descriptors = (listener.fileno(),) if listener is not None else ()
    given = [*options, *(("--fd", str(listener.fileno())) if listener is not None else ())]
    process = await create_subprocess_exec(
        sys.executable,
        "-m",
        "escarcelle",
        "serve",
        *given,
        env=environment(servers.settings),
        pass_fds=descriptors,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def ready(port: int) -> None:
    """Until it answers."""
    await asyncio.to_thread(wait_until_ready, f"http://127.0.0.1:{port}")


def is_refused(port: int) -> bool:
    """Whether nobody listens there any more."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# ── the API ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_process_stops_under_load_and_another_goes_on(servers: Servers, crowd: Crowd) -> None:
    first, second = free_ports(2)
    async with served(servers, "--port", str(first)) as stopped, served(servers, "--port", str(second)):
        await asyncio.gather(ready(first), ready(second))
        paying = [asyncio.create_task(crowd.pay(number, [first, second])) for number in range(CLIENTS)]
        await asyncio.wait_for(crowd.enough.wait(), 30)
        stopped.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(stopped.wait(), 30) == -signal.SIGTERM
        await asyncio.wait_for(asyncio.gather(*paying), 60)
    # A connection that the kernel takes between the last look and the closing of the door is cut, unread.
    assert crowd.cut <= CLIENTS
    await crowd.check()


async def test_processes_that_share_a_port_are_stopped_in_turn_without_a_cut(servers: Servers, crowd: Crowd) -> None:
    """A rolling restart: each is replaced while customers pay."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        async with (
            served(servers, listener=listener) as first,
            served(servers, listener=listener) as second,
        ):
            await ready(port)
            paying = [asyncio.create_task(crowd.pay(number, [port])) for number in range(CLIENTS)]
            await asyncio.wait_for(crowd.enough.wait(), 30)
            first.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(first.wait(), 30) == -signal.SIGTERM
            async with served(servers, listener=listener):
                second.send_signal(signal.SIGTERM)
                await asyncio.wait_for(asyncio.gather(*paying), 60)
                assert await asyncio.wait_for(second.wait(), 30) == -signal.SIGTERM
    assert crowd.cut == 0
    await crowd.check()


@pytest.mark.parametrize("processes", [1, 2])
async def test_what_has_begun_is_answered_and_who_comes_late_is_refused(
    servers: Servers, crowd: Crowd, processes: int
) -> None:
    """A request whose body is on its way; one on a connection that stood idle; and a listener, who is sent away."""
    (port,) = free_ports(1)
    async with served(servers, "--port", str(port), "--processes", str(processes)) as process:
        await ready(port)
        slow, idle = Caller([port], crowd.tokens[0]), Caller([port], crowd.tokens[1])
        first, second = payment(crowd.requests[0][0]), payment(crowd.requests[1][0])
        await idle.send(payment(crowd.requests[1][1]))
        assert "connection" not in (await idle.answer())[0]
        await slow.send(first[:20], more_to_come=len(first) - 20)
        address, protocols = f"ws://127.0.0.1:{port}/graphql", [Subprotocol("graphql-transport-ws")]
        async with websockets.connect(address, subprotocols=protocols) as listening:
            await listening.send(json.dumps({"type": "connection_init", "payload": {"token": crowd.tokens[2]}}))
            assert json.loads(await listening.recv()) == {"type": "connection_ack"}
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(listening.recv(), 30)
            # Who says nothing for two seconds from now on is left.
            await idle.send(second)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await until(lambda: is_refused(port), 30)
        await slow.send_rest(first[20:])
        for caller in (idle, slow):
            headers, body = await caller.answer()
            assert headers["connection"] == "close"
            assert json.loads(body) == {"data": {"payPaymentRequest": {"__typename": "PaymentOffer"}}}
        await asyncio.wait_for(process.wait(), 30)
    paid = await crowd.world.as_owner(
        "SELECT id FROM payment_requests WHERE tenant = $1 AND amount_paid IS NOT NULL", crowd.world.tenant
    )
    expected = {crowd.requests[0][0].id, crowd.requests[1][0].id, crowd.requests[1][1].id}
    assert {row["id"] for row in paid} == expected


async def test_who_sends_nothing_more_keeps_no_process_from_stopping(servers: Servers, crowd: Crowd) -> None:
    (port,) = free_ports(1)
    async with served(servers, "--port", str(port)) as process:
        await ready(port)
        silent, stuck = Caller([port], crowd.tokens[0]), Caller([port], crowd.tokens[1])
        await silent.send(payment(crowd.requests[0][0]))
        await silent.answer()
        await stuck.send(b"{", more_to_come=1_000)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGTERM
        with pytest.raises(Cut):
            await silent.answer()
        stuck.hang_up()


# ── the workers ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_task_process_stops_in_the_middle_of_mails_and_none_is_sent_twice(
    servers: Servers, database: Database
) -> None:
    async with PostBox().open() as box:
        settings = settings_for(servers, box)
        cast = await MailCast.make(servers, database)
        await cast.pay(await cast.ask("50"))
        (first,) = await cast.outbox()
        await cast.world.as_owner(
            "INSERT INTO outbox (tenant, id, topic, payload)"
            " SELECT $1, gen_random_uuid(), 'mail', $2 FROM generate_series(1, 79)",
            cast.world.tenant,
            first["payload"],
        )
        identifiers: set[UUID] = {row["id"] for row in await cast.outbox()}
        async with process_working(settings) as process:
            await until(lambda: len(box.mails) >= 10, 60)
            # All the others could be delivered before it heeds the signal.
            box.on_mail = lambda: time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        box.on_mail = None
        delivered = len(box.mails)
        left = {row["id"] for row in await cast.outbox()}
        assert 10 <= delivered < 80
        assert {f"<{id_}.1@127.0.0.1>" for id_ in identifiers - left} == set(box.identifiers)
        await cast.let_leases_lapse()
        async with process_working(settings):
            await until(cast.is_told, 60)
        assert sorted(box.identifiers) == sorted(f"<{id_}.1@127.0.0.1>" for id_ in identifiers)
