"""What is written about vouchers."""

from datetime import date
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, money
from domain.access import ISSUER_STAFF, User
from domain.documents import Document, content_of
from domain.notices import Enclosure, Letter, NoAddress, writes
from domain.parties import Holder, Merchant
from domain.texts import Fact, Locale, Text
from domain.vouchers.life import MemberStatement, SupplierInvoice, Voucher
from domain.vouchers.statements import papers


@writes("voucher_blocked")
async def _voucher_blocked(connection: AsyncConnection, tenant: int, voucher_id: UUID) -> list[Letter]:
    """To the issuer's staff, when wrong codes have blocked a number (V20)."""
    table, staff = Voucher.table.c, User.table.c
    row = (
        await connection.execute(
            sa.select(table.number, table.blocked_at, Merchant.table.c.name)
            .join(Merchant.table, Merchant.table.c.id == table.supplier_id)
            .where(table.id == voucher_id)
        )
    ).one()
    if row.blocked_at is None:
        return []
    readers = await connection.execute(
        sa.select(staff.email, staff.locale).where(
            staff.role.in_(sorted(map(str, ISSUER_STAFF))), staff.active, staff.email.is_not(None)
        )
    )
    facts = {
        "number": str(row.number),
        "supplier": str(row.name),
        "blocked_at": calendar.shown_instant(row.blocked_at),
    }
    subject = Text("Bon {number} bloqué : cinq codes erronés", "Voucher {number} blocked: five wrong codes")
    return [
        Letter(email, Locale(locale or Locale.FR), subject, "voucher_blocked", facts)
        for email, locale in sorted({(reader.email, reader.locale) for reader in readers}, key=str)
    ]


@writes("member_statement")
async def _member_statement(connection: AsyncConnection, tenant: int, statement_id: UUID) -> list[Letter]:
    """To the member, with its pages and the invoices that were handed in with a document (V22). A member that has lost
    its mail address since is not told by this: the mail is given up, and the agency prints the statement."""
    table = MemberStatement.table.c
    row = (
        await connection.execute(
            sa.select(table.period, table.total, Holder.table.c.email)
            .join(Holder.table, Holder.table.c.id == table.holder_id)
            .where(table.id == statement_id)
        )
    ).one()
    if row.email is None:
        raise NoAddress
    (paper,) = await papers(connection, statement_id=statement_id)
    locale = Locale(paper.words["language"])
    first_day = date.fromisoformat(f"{row.period}-01")
    enclosed, left_out = await _enclosed(connection, statement_id)
    facts: dict[str, Fact] = {
        "month": calendar.month_style(first_day, locale),
        "total": money.shown(row.total),
        "left_out": left_out,
    }
    subject = Text("Votre relevé de bons – {month}", "Your statement of vouchers – {month}")
    return [Letter(row.email, locale, subject, "member_statement", facts, papers=[paper], enclosures=enclosed)]


async def _enclosed(connection: AsyncConnection, statement_id: UUID) -> tuple[list[Enclosure], int]:
    """The scanned invoices of a statement that fit into a mail, and how many do not."""
    invoices, kept = SupplierInvoice.table.c, Document.table.c
    rows = await connection.execute(
        sa.select(*Document.selected())
        .join(SupplierInvoice.table, invoices.document_id == kept.id)
        .where(invoices.statement_id == statement_id)
        .order_by(invoices.recorded_at, invoices.id)
    )
    found = [Document.from_row(row) for row in rows]
    fitting, size = [], 0
    for document in found:
        if size + document.size <= _ENCLOSED_BYTES:
            size += document.size
            fitting.append(document)
    enclosed = [
        Enclosure(document.name, document.media_type, await content_of(connection, document.id)) for document in fitting
    ]
    return enclosed, len(found) - len(fitting)


_ENCLOSED_BYTES: Final = 15 * 1024 * 1024
"""What mail servers take without a question, with a third more for the way files travel in mails."""
