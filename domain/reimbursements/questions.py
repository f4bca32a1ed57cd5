"""What is asked about reimbursements."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar
from domain.access import ISSUER_STAFF, Actor, Role
from domain.journal import JournalLine
from domain.ledger import Account, AccountKind, Posting, Transfer
from domain.parties import Merchant
from domain.reimbursements.deeds import is_due
from domain.reimbursements.life import (
    SOURCES,
    Reimbursement,
    ReimbursementLine,
    ReimbursementStatus,
    TransferFile,
)

DOWNLOAD: Final = "transfers"
"""What the signature of a link to a file for the bank is for."""

STATEMENT: Final = "reimbursement"
"""What the signature of a link to a reimbursement's statement is for."""

AS_PAGES: Final = "statement.pdf"
AS_WORKBOOK: Final = "statement.xlsx"
STATEMENT_NAMES: Final = (AS_PAGES, AS_WORKBOOK)
"""How such a link ends."""

LINK_LASTS: Final = timedelta(hours=1)
"""How long such a link leads there."""


async def due_merchants(connection: AsyncConnection, through: date) -> list[UUID]:
    """The merchants who are due something for the days until this one, by name."""
    account, posting, merchant = Account.table.c, Posting.table.c, Merchant.table.c
    due = (
        sa.select(posting.amount)
        .join(Transfer.table, Transfer.table.c.id == posting.transfer_id)
        .where(posting.account_id == account.id, is_due(sa.literal(calendar.end_of_day(through))))
    )
    rows = await connection.scalars(
        sa.select(merchant.id)
        .join(Account.table, account.owner_id == merchant.id)
        .where(account.kind == str(AccountKind.MERCHANT), sa.exists(due.correlate(Account.table)))
        .order_by(merchant.sort_key, merchant.id)
    )
    return list(rows)


async def made_by(connection: AsyncConnection, job_id: UUID) -> int:
    """How many reimbursements a run has made."""
    table = Reimbursement.table.c
    return await connection.scalar(sa.select(sa.func.count()).where(table.job_id == job_id)) or 0


def reimbursements(actor: Actor, status: ReimbursementStatus | None = None) -> sa.Select[Any]:
    """The reimbursements this actor sees, with their merchants: all for the issuer's staff, its merchant's for a
    signatory (P30)."""
    table = Reimbursement.table.c
    question = (
        sa.select(*Reimbursement.selected(), *Merchant.selected())
        .join(Merchant.table, Merchant.table.c.id == table.merchant_id)
        .where(_sees(actor))
    )
    return question.where(table.status == str(status)) if status else question


ORDER: Final = (Reimbursement.table.c.created_at, Reimbursement.table.c.id)
"""The order of reimbursements, newest first: it goes down."""


def reimbursement_and_merchant(row: Sequence[Any]) -> tuple[Reimbursement, Merchant]:
    """What a row of `reimbursements` holds."""
    width = len(Reimbursement.columns)
    return Reimbursement.from_row(row[:width]), Merchant.from_row(row[width:])


async def reimbursement(connection: AsyncConnection, actor: Actor, reimbursement_id: UUID) -> Reimbursement | None:
    """One reimbursement that this actor sees, or None."""
    row = (await connection.execute(reimbursements(actor).where(Reimbursement.table.c.id == reimbursement_id))).first()
    return reimbursement_and_merchant(row)[0] if row else None


async def reimbursement_of(connection: AsyncConnection, reference: str) -> Reimbursement | None:
    """The reimbursement behind an end-to-end identifier, or None."""
    table = Reimbursement.table.c
    row = (await connection.execute(sa.select(*Reimbursement.selected()).where(table.reference == reference))).first()
    return Reimbursement.from_row(row) if row else None


def is_reference(text: str) -> bool:
    """Whether this may be the reference of a reimbursement, of a file for the bank, or of a batch in one."""
    return _REFERENCE.fullmatch(text) is not None


async def in_file(connection: AsyncConnection, identifier: str) -> list[Reimbursement]:
    """What a file, or one of its batches, has brought to the bank, by its identifier on the bank's papers."""
    reference, batch = identifier, None
    if (found := _BATCH.fullmatch(identifier)) is not None:
        reference, batch = found[1], int(found[2])
    table = TransferFile.table.c
    file_id = await connection.scalar(sa.select(table.id).where(table.reference == reference))
    ordered = await sent_in(connection, file_id) if file_id else []
    # A file has a batch for each day of payment, in the order in which the days come up in it.
    days = list(dict.fromkeys(each.due_on for each in ordered))
    return [each for each in ordered if batch in (None, days.index(each.due_on) + 1)]


async def files_of(connection: AsyncConnection, reimbursement_ids: Sequence[UUID]) -> list[TransferFile]:
    """The files in which these reimbursements were ordered."""
    table, file = Reimbursement.table.c, TransferFile.table.c
    ordered = sa.select(table.file_id).where(table.id.in_(reimbursement_ids))
    rows = await connection.execute(sa.select(*TransferFile.selected()).where(file.id.in_(ordered)))
    return [TransferFile.from_row(row) for row in rows]


_REFERENCE: Final = re.compile(r"R\d{4}-\d{8}|ESCARCELLE-(?:\d+-)?\d{4}-\d{6}(?:-\d{1,4})?")
_BATCH: Final = re.compile(r"(.+-\d{4}-\d{6})-(\d{1,4})")


def entries(reimbursement_id: UUID) -> sa.Select[Any]:
    """The journal's lines of what is reimbursed: each says how an amount came to be due."""
    journal, line, transfer = JournalLine.table.c, ReimbursementLine.table.c, Transfer.table.c
    kind = sa.case(
        *(
            (sa.and_(transfer.subject_kind == subject, transfer.reason == reason), sa.literal(source.journal_kind))
            for (subject, reason), source in SOURCES.items()
        )
    )
    return (
        sa.select(*JournalLine.selected(), journal.sequence)
        .join(Transfer.table, sa.and_(transfer.subject_id == journal.subject_id, journal.kind == kind))
        .join(ReimbursementLine.table, line.transfer_id == transfer.id)
        .where(line.reimbursement_id == reimbursement_id)
    )


def transfer_files(actor: Actor) -> sa.Select[Any]:
    """The files for the bank that this actor sees: all for the issuer's staff."""
    seen = sa.true() if actor.role in ISSUER_STAFF else sa.false()
    return sa.select(*TransferFile.selected()).where(seen)


async def transfer_file(connection: AsyncConnection, actor: Actor, file_id: UUID) -> TransferFile | None:
    """One file for the bank that this actor sees, or None."""
    row = (await connection.execute(transfer_files(actor).where(TransferFile.table.c.id == file_id))).first()
    return TransferFile.from_row(row) if row else None


async def linked_file(connection: AsyncConnection, file_id: UUID) -> TransferFile | None:
    """One file for the bank, for whoever has a signed link to it, or None."""
    asked = sa.select(*TransferFile.selected()).where(TransferFile.table.c.id == file_id)
    row = (await connection.execute(asked)).first()
    return TransferFile.from_row(row) if row else None


async def sent_in(connection: AsyncConnection, file_id: UUID) -> list[Reimbursement]:
    """What a file brings to the bank, in a fixed order."""
    table = Reimbursement.table.c
    asked = sa.select(*Reimbursement.selected()).where(table.file_id == file_id).order_by(table.reference)
    return [Reimbursement.from_row(row) for row in await connection.execute(asked)]


def _sees(actor: Actor) -> sa.ColumnElement[bool]:
    if actor.role is Role.MERCHANT_MANAGER:
        return Reimbursement.table.c.merchant_id == actor.merchant_id
    return sa.true() if actor.role in ISSUER_STAFF else sa.false()
