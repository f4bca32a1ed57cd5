"""Copies for analysts: what the nightly copy says about itself, once it serves."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.access import Actor
from domain.codes import new_id
from domain.db import Entity
from domain.work import Work


class ReportingCopy(
    Entity,
    table="reporting_copies",
    app="SELECT, INSERT",
    append_only=True,
    constraints=(sa.Index("reporting_copies_copied_at_idx", "tenant", "copied_at"),),
):
    """One copy that was verified and swapped in. The store holds the ledger as it was at `as_of`, on the issuer's own
    clock; `copied_at` is real time. The next copy reads from transaction `watermark` on, in the cluster of that name;
    the watermark has been the same since `watermark_since`, while so many `waiting` lines were committed beyond it.
    `digest` is the ledger's and the store's."""

    copied_at: datetime
    as_of: datetime
    number: int
    cluster: str
    watermark: int
    watermark_since: datetime
    waiting: int
    ledger_lines: int
    operations: int
    digest: str


async def note_copy(work: Work, actor: Actor, **said: object) -> UUID:
    """A copy serves; `said` are ReportingCopy's columns."""
    copy = ReportingCopy(tenant=work.tenant, id=new_id(), **said)  # type: ignore[arg-type]
    work.add(copy)
    return copy.id


async def last_copy(connection: AsyncConnection) -> ReportingCopy | None:
    """The newest copy of the issuer whose data this connection sees."""
    table = ReportingCopy.table.c
    row = (
        await connection.execute(sa.select(*ReportingCopy.selected()).order_by(table.copied_at.desc()).limit(1))
    ).first()
    return ReportingCopy.from_row(row) if row else None
