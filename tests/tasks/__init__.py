"""What the tests of the tasks share: a post box, a small cast, and the task process, here or of its own.

A relay sees every tenant, so these tests have servers of their own."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from domain import payments
from domain.access import Actor, Role
from domain.db import Database
from domain.payments import PaymentRequest
from domain.settings import Settings
from domain.work import perform
from tasks import run
from tests.world import Servers, World

_ROOT = Path(__file__).parents[2]


async def until(condition: Callable[[], Awaitable[object] | object], seconds: float = 60) -> None:
    """Wait until it holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if isinstance(holds, Awaitable):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.02)


@dataclass
class PostBox:
    """A mail server on 127.0.0.1. `identifiers` are the Message-IDs, in the order of arrival; `refusal` is what it
    answers to a recipient; `on_mail` runs before it says that it has taken a mail."""

    mails: list[EmailMessage] = field(default_factory=list)
    # No property: for each connection the library reads every attribute of its handler.
    identifiers: list[str] = field(default_factory=list)
    refusal: str | None = None
    on_mail: Callable[[], None] | None = None
    signed_in: list[LoginPassword] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def open(self, *, asks_to_sign_in: bool = False) -> AsyncIterator["PostBox"]:
        """Receive mail."""
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(
                self,
                hostname="localhost",
                authenticator=self._sign_in,
                auth_required=asks_to_sign_in,
                auth_require_tls=False,
            ),
            "127.0.0.1",
            self.port,
        )
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.identifiers.append(mail["Message-ID"])
        if self.on_mail is not None:
            self.on_mail()
        return "250 2.0.0 OK"

    def _sign_in(self, *arguments: Any) -> AuthResult:
        self.signed_in.append(arguments[-1])
        return AuthResult(success=True)


@dataclass
class Cast:
    """A canoe club that collects, and a customer with 200,00 €."""

    world: World
    manager: Actor
    customer: Actor

    @classmethod
    async def make(cls, servers: Servers, database: Database, locale: str = "fr", **issuer: Any) -> "Cast":
        """A new issuer with both. What other scenarios left to be told is forgotten."""
        world = await World.make(servers, database, **issuer)
        await world.as_owner("DELETE FROM outbox")
        await world.merchant("CK", "Canoë Kayak Club", {"P001": "Base nautique"})
        manager = await world.user("club", Role.MERCHANT_MANAGER, merchant="CK", email="club@example.com")
        await world.holder("client2@example.com", "Martin", wallet="200", email="client2@example.com")
        customer = await world.user("client2", Role.HOLDER, holder="client2@example.com")
        await world.as_owner("UPDATE users SET locale = $2 WHERE id = $1", manager.user_id, locale)
        return cls(world, manager, customer)

    async def ask(self, amount: str, **values: Any) -> PaymentRequest:
        """The club asks for money."""
        request = await perform(
            self.world.database,
            self.manager,
            payments.create,
            point_of_sale_id=self.world.places["P001"].id,
            amount=amount,
            **({"basket_number": "P29"} | values),
        )
        assert isinstance(request, PaymentRequest)
        return request

    async def pay(self, request: PaymentRequest, amount: str | None = None) -> None:
        """The customer pays."""
        await perform(self.world.database, self.customer, payments.pay, request.token, amount)

    async def outbox(self, topic: str = "mail") -> list[Any]:
        """What is still to be told."""
        return await self.world.as_owner(
            "SELECT * FROM outbox WHERE tenant = $1 AND topic = $2 ORDER BY created_at", self.world.tenant, topic
        )

    async def one_mail(self) -> UUID:
        """The identifier of the only mail that is to be sent."""
        (row,) = await self.outbox()
        identifier: UUID = row["id"]
        return identifier

    async def let_leases_lapse(self) -> None:
        """As if the pauses were over."""
        await self.world.as_owner(
            "UPDATE outbox SET claim_at = clock_timestamp() WHERE tenant = $1 AND claim_at > clock_timestamp()",
            self.world.tenant,
        )

    async def is_told(self) -> bool:
        """Whether nothing is left to be told by mail."""
        return not await self.outbox()

    async def count(self, table: str, where: str = "true") -> int:
        """How many rows of this tenant."""
        rows = await self.world.as_owner(
            f"SELECT count(*) AS rows FROM {table} WHERE tenant = $1 AND {where}", self.world.tenant
        )
        return int(rows[0]["rows"])


def settings_for(servers: Servers, box: PostBox, **changes: Any) -> Settings:
    """The servers' settings, with mail going to the box."""
    return servers.settings.model_copy(
        update={"smtp_url": f"smtp://127.0.0.1:{box.port}", "worker_threads": 4} | changes
    )


@asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[Database]:
    """The application's connections."""
    database = Database(settings)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """A relay and a worker, in this process."""
    stop = asyncio.Event()
    task = asyncio.create_task(run.work(settings, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@asynccontextmanager
async def process_working(settings: Settings) -> AsyncIterator[Process]:
    """A relay and a worker, in a process of their own, as an operator starts it."""
    environment = os.environ | {
        "PYTHONPATH": str(_ROOT),
        "DATABASE_URL": settings.database_url,
        "APP_DATABASE_URL": settings.app_database_url or "",
        "RELAY_DATABASE_URL": settings.relay_database_url or "",
        "READER_DATABASE_URL": settings.reader_database_url or "",
        "REDIS_URL": settings.redis_url,
        "SECRET_KEYS": settings.secret_keys[0].get_secret_value(),
        "SMTP_URL": settings.smtp_url,
        "WORKER_THREADS": str(settings.worker_threads),
    }
    process = await create_subprocess_exec(
        sys.executable, "-m", "escarcelle", "work", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()
