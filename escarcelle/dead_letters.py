"""Dead letters from the command line: what was given up, and sending it again."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from domain.access import Actor
from domain.db import READER, Database, connect_as
from domain.errors import RefusalCode, Refused
from domain.messages import Resent, resend
from domain.settings import Settings
from domain.texts import Text
from domain.work import perform

TOGETHER: Final = 100
"""How many go back in one transaction."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was given up. No personal data: whom it was for stands in the object that it is about."""

    id: UUID
    tenant: int
    issuer: str
    topic: str
    notice: str
    given_up_at: datetime
    failures: int
    reason: str

    def __str__(self) -> str:
        when = self.given_up_at.isoformat(timespec="seconds")
        return f"{self.id}  {self.issuer}  {self.topic}  {self.notice}  {when}  {self.failures}×  {self.reason}"


def find(settings: Settings, topic: str | None = None, issuer: str | None = None) -> list[Letter]:
    """The dead letters, of one topic or issuer when named, the oldest first. Raises Refused (NOT_FOUND) for an unknown
    issuer."""
    return asyncio.run(_find(settings, topic, issuer, None))


def resend_these(settings: Settings, ids: Sequence[UUID]) -> dict[UUID, Resent]:
    """Put these back into the outbox; returns what came of each. Raises Refused (NOT_FOUND), with nothing done, when
    one of them is no dead letter."""
    return asyncio.run(_resend_these(settings, ids))


def resend_all(settings: Settings, topic: str | None = None, issuer: str | None = None) -> dict[UUID, Resent]:
    """Put all of them back into the outbox, or those of one topic or issuer; returns what came of each. Raises Refused
    (NOT_FOUND) for an unknown issuer."""
    return asyncio.run(_resend_all(settings, topic, issuer))


async def _find(settings: Settings, topic: str | None, issuer: str | None, ids: Sequence[UUID] | None) -> list[Letter]:
    connection = await connect_as(settings, READER)
    try:
        if issuer is not None and not await connection.fetchval("SELECT true FROM issuers WHERE slug = $1", issuer):
            raise Refused(RefusalCode.NOT_FOUND, Text("Émetteur inconnu.", "There is no such issuer."))
        rows = await connection.fetch(_LETTERS, topic, issuer, ids)
    finally:
        await connection.close()
    return [Letter(*row) for row in rows]


async def _resend_these(settings: Settings, ids: Sequence[UUID]) -> dict[UUID, Resent]:
    letters = await _find(settings, None, None, ids)
    unknown = set(ids) - {letter.id for letter in letters}
    if unknown:
        named = ", ".join(sorted(map(str, unknown)))
        raise Refused(
            RefusalCode.NOT_FOUND,
            Text("Aucun message abandonné ne porte : {ids}", "No dead letter has: {ids}"),
            ids=named,
        )
    return await _resend(settings, letters)


async def _resend_all(settings: Settings, topic: str | None, issuer: str | None) -> dict[UUID, Resent]:
    return await _resend(settings, await _find(settings, topic, issuer, None))


async def _resend(settings: Settings, letters: Sequence[Letter]) -> dict[UUID, Resent]:
    by_tenant: dict[int, list[UUID]] = defaultdict(list)
    for letter in letters:
        by_tenant[letter.tenant].append(letter.id)
    came: dict[UUID, Resent] = {}
    database = Database(settings)
    await database.open()
    try:
        for tenant, ids in by_tenant.items():
            for at in range(0, len(ids), TOGETHER):
                answer = await perform(database, Actor(tenant), resend, tuple(ids[at : at + TOGETHER]))
                assert isinstance(answer, dict), "a resending has no key and no message"
                came |= answer
    finally:
        await database.close()
    return came


_LETTERS: Final = """
SELECT d.id, d.tenant, i.slug, d.topic, coalesce(d.payload ->> 'notice', d.payload ->> 'kind', '-'), d.given_up_at,
       d.failures, d.reason
FROM dead_letters d JOIN issuers i ON i.tenant = d.tenant
WHERE ($1::text IS NULL OR d.topic = $1) AND ($2::text IS NULL OR i.slug = $2)
  AND ($3::uuid[] IS NULL OR d.id = ANY($3))
ORDER BY d.given_up_at, d.id
"""
