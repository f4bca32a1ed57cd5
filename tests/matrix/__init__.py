"""Tables of everything: who may do what, and what becomes of each request, verb by verb and instant by instant.

A module makes its cast once; its issuers are audited when the module is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from domain.db import OWNER, READER, Database, connect_as
from escarcelle.clients import Client
from reporting import audit
from tests.world import Servers, World


@asynccontextmanager
async def connections(servers: Servers) -> AsyncIterator[Database]:
    """Connections as the application."""
    opened = Database(servers.settings)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@dataclass
class ModuleWorld(World):
    """An issuer of a module's own. It keeps its owner's connection, since it is looked at after every deed."""

    _owner: asyncpg.Connection | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def as_owner(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Look at, or change, what no program may."""
        async with self._turn:
            if self._owner is None:
                self._owner = await connect_as(self.servers.settings, OWNER)
            return list(await self._owner.fetch(statement, *values))

    async def close(self) -> None:
        """Let go of the connection."""
        if self._owner is not None:
            await self._owner.close()


@asynccontextmanager
async def audited(servers: Servers, database: Database) -> AsyncIterator[World]:
    """An issuer of the module's own, audited in the end."""
    made = await ModuleWorld.make(servers, database)
    assert isinstance(made, ModuleWorld)
    try:
        yield made
    finally:
        await made.close()
    connection = await connect_as(servers.settings, READER)
    try:
        assert await audit.differences(connection, made.tenant) == []
    finally:
        await connection.close()


async def outcome(client: Client, mutation: str, **given: Any) -> str:
    """What a mutation on a payment request answers: the new status, or the code of its refusal."""
    fields = "... on PaymentOffer { status }" if mutation in _BY_THE_CUSTOMER else "... on PaymentRequest { status }"
    answer = await client.do(mutation, fields, **given)
    return str(answer["code"] if answer["__typename"] == "Refusal" else answer["status"])


_BY_THE_CUSTOMER = frozenset({"payPaymentRequest", "declinePaymentRequest"})
