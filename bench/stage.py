"""What the lines play on: PostgreSQL and Redis of their own, API processes, merchants, customers, requests to pay."""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Final
from uuid import UUID

import asyncpg

from domain import payments
from domain.access import Actor, Role
from domain.codes import global_id
from domain.db import READER, Database, connect_as
from domain.deadlines import Deadline
from domain.journal import JournalLine
from domain.parties import credit_holder
from domain.payments import PaymentRequest
from domain.settings import Settings
from domain.work import perform
from escarcelle.embedded import free_port
from reporting import audit
from tests.world import Servers, World, environment, wait_until_ready

AMOUNT: Final = "1.00"
_LOG_BYTES: Final = 4_000
DIGITS: Final = 12
"""Requests are numbered; the number stands, with so many digits, in the token, the basket number and the end of the
identifier, so that PostgreSQL's own load generator can make all three from it."""


@dataclass
class Stage:
    """Servers with fsync and synchronous commit on, one issuer, and connections of the program."""

    servers: Servers
    database: Database
    world: World

    @property
    def settings(self) -> Settings:
        """As the programs read them."""
        return self.servers.settings

    @property
    def postgres(self) -> int:
        """PostgreSQL's first process."""
        assert self.servers.postgres.process is not None, "it runs"
        return self.servers.postgres.process.pid

    async def differences(self) -> list[str]:
        """What the audit finds, over every issuer."""
        connection = await connect_as(self.settings, READER)
        try:
            return list(map(str, await audit.differences(connection)))
        finally:
            await connection.close()

    async def version(self) -> str:
        """PostgreSQL's."""
        rows = await self.world.as_owner("SELECT current_setting('server_version') AS version")
        return f"PostgreSQL {rows[0]['version']}"

    async def settle(self) -> None:
        """PostgreSQL gets to know how large the tables have become: plans made for empty ones read all of them. What
        was written is brought to the disk, so that nobody pays for it later."""
        connection = await asyncpg.connect(self.servers.postgres.url())
        try:
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()


@contextmanager
def new_servers() -> Iterator[Servers]:
    """PostgreSQL and Redis in a folder of their own, gone afterwards. To be called from the main thread, outside an
    event loop."""
    with TemporaryDirectory(prefix="escarcelle-bench-", ignore_cleanup_errors=True) as folder:
        started = Servers.start(Path(folder))
        try:
            yield started
        finally:
            started.stop()


@asynccontextmanager
async def stage(servers: Servers) -> AsyncIterator[Stage]:
    """A new issuer on these servers."""
    database = Database(servers.settings)
    await database.open()
    try:
        yield Stage(
            servers, database, await World.make(servers, database, immediate_minutes=24 * 60, minimum_amount=100)
        )
    finally:
        await database.close()


@dataclass(frozen=True, slots=True)
class Program:
    """A running program."""

    process: int
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def program(settings: Settings | None, *arguments: str, port: int = 0) -> Iterator[Program]:
    """`python -m …` with these settings, until the end. What it logs is shown when something goes wrong."""
    command, variables = [sys.executable, "-m", *arguments], environment(settings) if settings else None
    with TemporaryFile() as log, Popen(command, env=variables, stdout=log, stderr=log) as process:
        try:
            yield Program(process.pid, port)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-_LOG_BYTES:].decode(errors="replace"))
            raise
        finally:
            process.terminate()


@contextmanager
def api(settings: Settings, processes: int = 1) -> Iterator[Program]:
    """`escarcelle serve`, once it answers."""
    port = free_port()
    arguments = ("escarcelle", "serve", "--port", str(port), "--processes", str(processes))
    with program(settings, *arguments, port=port) as running:
        wait_until_ready(running.url)
        yield running


_BUSIEST: Final = 8
_MORE_CREDITS: Final = 5
"""For those who pay alone when few do: a curve takes some ten thousand payments of the first customers."""

# ── payments ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer with its wallet and its session."""

    actor: Actor
    session: str


@dataclass
class Cast:
    """Merchants with one point of sale each, and customers. `next` is the number of the next request."""

    stage: Stage
    places: list[UUID]
    templates: list[PaymentRequest]
    customers: list[Customer]
    manager: Actor
    next: int = 1

    @classmethod
    async def make(cls, stage: Stage, customers: int, merchants: int) -> "Cast":
        """Nobody has an e-mail address: what mails cost is not measured here."""
        world, places, templates = stage.world, [], []
        for n in range(merchants):
            await world.merchant(f"M{n}", f"Commerce {n}", {f"P{n}": f"Base nautique {n}"})
            actor = await world.user(f"merchant{n}", Role.MERCHANT_MANAGER, merchant=f"M{n}")
            place = world.places[f"P{n}"].id
            request = await perform(
                stage.database, actor, payments.create, point_of_sale_id=place, amount=AMOUNT, basket_number="first"
            )
            assert isinstance(request, PaymentRequest)
            places.append(place)
            templates.append(request)
        made = []
        for n in range(customers):
            holder = await world.holder(f"H{n}", f"Durand {n}", wallet="10000.00")
            for _ in range(_MORE_CREDITS if n < _BUSIEST else 0):
                await perform(stage.database, world.system, credit_holder, holder.id, "10000.00", "bench")
            actor = await world.user(f"customer{n}", Role.HOLDER, holder=f"H{n}")
            made.append(Customer(actor, await world.session(f"customer{n}")))
        return cls(stage, places, templates, made, world.users["merchant0"])

    async def ask(self, customers: int, each: int, *, one_merchant: bool = False) -> int:
        """So many fresh requests for each of the first customers; returns the number of the first. The i-th of customer
        c is number first + c · each + i. Each customer has a merchant of its own, as far as there are enough."""
        first, self.next = self.next, self.next + customers * each
        for n in range(customers):
            template = self.templates[0 if one_merchant else n % len(self.templates)]
            begins = first + n * each
            for copy in (_COPY_REQUEST, _COPY_JOURNAL, _COPY_DEADLINE):
                await self.stage.world.as_owner(copy, self.stage.world.tenant, template.id, begins, begins + each - 1)
        return first

    async def unpaid(self, first: int, count: int) -> int:
        """How many of these requests are not paid."""
        rows = await self.stage.world.as_owner(
            "SELECT count(*) AS rows FROM payment_requests WHERE tenant = $1 AND token BETWEEN $2 AND $3"
            " AND status <> 'VALIDATED'",
            self.stage.world.tenant, token(first), token(first + count - 1),
        )  # fmt: skip
        return int(rows[0]["rows"])

    def request_id(self, number: int, merchant: int = 0) -> str:
        """The global identifier of a request that `ask` has made."""
        return global_id(PaymentRequest.prefix, self.stage.world.tenant, numbered(self.templates[merchant].id, number))


def token(number: int) -> str:
    """What stands in the QR code of a request."""
    return f"{number:0{DIGITS}}"


def numbered(identifier: UUID, number: int) -> UUID:
    """The identifier of a copy."""
    return UUID(str(identifier)[:-DIGITS] + token(number))


def pay_body(token: str, key: str) -> Mapping[str, Any]:
    """What a telephone posts to pay."""
    return {"query": _PAY, "variables": {"input": {"token": token}, "key": key}}


_PAY: Final = (
    "mutation Pay($input: PayPaymentRequestInput!, $key: ID!) { payPaymentRequest(input: $input, idempotencyKey: $key)"
    " { __typename ... on PaymentOffer { token status amountPaid { amount formatted } allowedActions }"
    " ... on Refusal { code message problems { path message } } } }"
)


def _copy(table: str, columns: Sequence[str], owner: str, **changes: str) -> str:
    """Copies of a row, numbered from $3 to $4."""
    values = ", ".join(changes.get(name, f"t.{name}") for name in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table} AS t"
        f" CROSS JOIN generate_series($3::bigint, $4) AS n WHERE t.tenant = $1 AND t.{owner} = $2"
    )


def _numbered(column: str) -> str:
    return f"(left(t.{column}::text, -{DIGITS}) || lpad(n::text, {DIGITS}, '0'))::uuid"


_TOKEN: Final = f"lpad(n::text, {DIGITS}, '0')"
_COPY_REQUEST: Final = _copy(
    "payment_requests",
    PaymentRequest.columns,
    "id",
    id=_numbered("id"),
    token=_TOKEN,
    basket_number=_TOKEN,
    transaction_number=_TOKEN,
)
_COPY_JOURNAL: Final = _copy(
    "journal",
    JournalLine.columns,
    "subject_id",
    id=_numbered("id"),
    subject_id=_numbered("subject_id"),
)
_COPY_DEADLINE: Final = _copy("deadlines", Deadline.columns, "subject_id", subject_id=_numbered("subject_id"))
