"""Statements: what a member was billed for, told it once, by mail or by post (V22).

An invoice stands on a statement from the moment at which it is known what the member owes for it: one that asks for
more than its voucher's value waits for the decision. Each statement is issued by a deed of its own, so that a job which
breaks off goes on where it was. Its pages are made when they are sent, printed or downloaded, from what then stands in
the database."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from babel import Locale as LocaleData
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, jobs, money, parties
from domain.access import ISSUER_STAFF, Actor, User
from domain.codes import new_id
from domain.errors import Refused
from domain.jobs import FileFormat, Job, JobKind, RowProblem
from domain.notices import A_TEST, PAGE, QUESTION, Notice, Paper
from domain.parties import Channel, Holder, Issuer, Merchant
from domain.texts import Locale, Text
from domain.vouchers.life import MemberStatement, SupplierInvoice, SupplierInvoiceStatus, Voucher
from domain.work import Work

DOWNLOAD: Final = "member statement"
"""What the signature of a link to a statement's pages is for."""

LINK_LASTS: Final = timedelta(hours=24)
"""How long such a link leads there."""

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def issue_member_statements(work: Work, actor: Actor, *, month: date, locale: Locale) -> Job:
    """Every member is told what it was billed for until the end of that month, given by any of its days, and was not
    told before; all of that month's statements for the post are printed, those of earlier jobs too, whose file is gone
    after a day. Raises Refused: INVALID for a month that has not begun, RATE_LIMITED with too many unfinished jobs."""
    actor.require("issueMemberStatements")
    await work.take(User.by(id=actor.user_id))
    today = calendar.today(work.now)
    if month.year < 1900 or (month.year, month.month) > (today.year, today.month):
        raise Refused.invalid("input.month", "Choisissez un mois qui a commencé.", "Choose a month that has begun.")
    given = {"month": f"{month.year:04d}-{month.month:02d}"}
    return await jobs.queue(work, actor, JobKind.ISSUE_MEMBER_STATEMENTS, FileFormat.PDF, locale, given)


async def issue_statement(
    work: Work, actor: Actor, job_id: UUID, run: int, message_id: UUID, holder_id: UUID
) -> MemberStatement | None:
    """One member's statement; None when it has been told everything, or can be told nothing: it has left neither a mail
    address nor a postal one. Raises Overtaken."""
    job = await jobs.take_running(work, actor, job_id, run, message_id)
    # Statements of one member are issued one after the other: the second finds what the first has left.
    member = await work.take(Holder.by(id=holder_id))
    period = job.given["month"]
    rows = await work.read(_DUE_OF_MEMBER, holder=holder_id, until=_end_of(period))
    invoices = [SupplierInvoice.from_row(tuple(row)) for row in rows]
    if not invoices or (member.email is None and member.street is None):
        return None
    statement = work.create(
        MemberStatement(
            tenant=work.tenant,
            id=new_id(),
            holder_id=member.id,
            job_id=job.id,
            period=period,
            total=sum(invoice.billed for invoice in invoices),
            channel=_channel_of(member),
            issued_at=work.now,
        )
    )
    for invoice in invoices:
        work.change(invoice, statement_id=statement.id)
        work.note("state", invoice, amount=invoice.billed, holder_id=member.id)
    if statement.channel is Channel.EMAIL:
        work.tell(Notice("member_statement", statement))
    return work.note("issue", statement, amount=statement.total, holder_id=member.id)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StatementLine:
    """An invoice on a statement; `amount` is what the member owes for it, in cents. The document is the invoice itself,
    scanned, where it was handed in."""

    tenant: int
    voucher_id: UUID
    document_id: UUID | None
    supplier_invoice_number: str
    amount: int
    recorded_at: datetime
    voucher_number: str
    supplier_name: str


async def due_members(connection: AsyncConnection, period: str) -> list[UUID]:
    """The members who were billed for something until the end of that month and were not told yet, by name."""
    return [id_ for id_, _, is_reached in await _due(connection, period) if is_reached]


async def unreached(connection: AsyncConnection, period: str) -> list[RowProblem]:
    """Those who wait for a statement of that month because they have left neither a mail address nor a postal one."""
    return [
        RowProblem.of(_UNREACHED, reference=reference)
        for _, reference, is_reached in await _due(connection, period)
        if not is_reached
    ]


async def issued_by(connection: AsyncConnection, job_id: UUID) -> int:
    """How many statements a job has issued."""
    table = MemberStatement.table.c
    return await connection.scalar(sa.select(sa.func.count()).where(table.job_id == job_id)) or 0


def statements(actor: Actor) -> sa.Select[Any]:
    """The statements this actor sees: all for the issuer's staff, a member's own."""
    question = sa.select(*MemberStatement.selected())
    if actor.role in ISSUER_STAFF:
        return question
    own = MemberStatement.table.c.holder_id == actor.holder_id if actor.holder_id is not None else sa.false()
    return question.where(own)


STATEMENT_ORDER: Final = (MemberStatement.table.c.issued_at, MemberStatement.table.c.id)
"""The order of statements, newest first: it goes down."""


async def statement(connection: AsyncConnection, actor: Actor, statement_id: UUID) -> MemberStatement | None:
    """One statement this actor sees, or None."""
    row = (await connection.execute(statements(actor).where(MemberStatement.table.c.id == statement_id))).first()
    return MemberStatement.from_row(row) if row else None


async def lines_of(connection: AsyncConnection, statement_ids: Sequence[UUID]) -> dict[UUID, list[StatementLine]]:
    """Each statement's lines, in the order in which the invoices came."""
    return await _lines(connection, MemberStatement.table.c.id.in_(statement_ids))


async def papers(
    connection: AsyncConnection, *, statement_id: UUID | None = None, period: str | None = None
) -> list[Paper]:
    """The pages of one statement; or of all that were issued for the post for a month, by the members' names. Each
    speaks its member's language."""
    table, user = MemberStatement.table.c, User.table.c
    where = table.id == statement_id
    if period is not None:
        where = sa.and_(table.period == period, table.channel == str(Channel.POST))
    locale = (
        sa.select(user.locale)
        .where(user.holder_id == table.holder_id, user.active)
        .order_by(user.created_at, user.id)
        .limit(1)
        .scalar_subquery()
    )
    rows = await connection.execute(
        sa.select(*MemberStatement.selected(), *Holder.selected(), locale)
        .join(Holder.table, Holder.table.c.id == table.holder_id)
        .where(where)
        .order_by(Holder.table.c.sort_key, table.id)
    )
    lines, issuer = await _lines(connection, where), await parties.issuer(connection)
    made, width = [], len(MemberStatement.columns)
    for row in rows:
        issued, member = MemberStatement.from_row(row[:width]), Holder.from_row(row[width:-1])
        made.append(_paper(issuer, member, issued, lines[issued.id], Locale(row[-1] or Locale.FR)))
    return made


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _due(connection: AsyncConnection, period: str) -> list[tuple[UUID, str, bool]]:
    """Whom something waits for: each with its number, and whether it has left an address of either kind."""
    due = sa.select(Voucher.table.c.holder_id).join(
        SupplierInvoice.table, SupplierInvoice.table.c.voucher_id == Voucher.table.c.id
    )
    holder = Holder.table.c
    rows = await connection.execute(
        sa.select(holder.id, holder.reference, holder.email.is_not(None) | holder.street.is_not(None))
        .where(holder.id.in_(due.where(_is_due(sa.literal(_end_of(period))))))
        .order_by(holder.sort_key, holder.id)
    )
    return [(id_, reference, is_reached) for id_, reference, is_reached in rows]


_UNREACHED: Final = Text(
    "Adhérent {reference} : ni adresse e-mail ni adresse postale. Son relevé sera établi avec les suivants, une fois"
    " l’une des deux enregistrée.",
    "Member {reference}: neither an e-mail nor a postal address. Its statement is issued with the next ones, once"
    " either is recorded.",
)


def _is_due(until: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Billed before that instant, and on no statement."""
    table = SupplierInvoice.table.c
    return sa.and_(
        table.statement_id.is_(None),
        table.status != str(SupplierInvoiceStatus.TO_DECIDE),
        sa.func.coalesce(table.decided_at, table.recorded_at) < until,
    )


_DUE_OF_MEMBER: Final = (
    sa.select(*SupplierInvoice.selected())
    .join(Voucher.table, Voucher.table.c.id == SupplierInvoice.table.c.voucher_id)
    .where(
        Voucher.table.c.holder_id == sa.bindparam("holder"),
        _is_due(sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True))),
    )
    .order_by(SupplierInvoice.table.c.recorded_at, SupplierInvoice.table.c.id)
)


def _first_day(period: str) -> date:
    return date.fromisoformat(f"{period}-01")


def _end_of(period: str) -> datetime:
    """The exclusive instant at which the month ends."""
    return calendar.start_of_day((_first_day(period) + timedelta(days=31)).replace(day=1))


def _channel_of(member: Holder) -> Channel:
    """What the member chose, if it can be; who chose nothing gets mail where there is an address for it."""
    return Channel.EMAIL if member.email and member.statement_by is not Channel.POST else Channel.POST


async def _lines(connection: AsyncConnection, where: sa.ColumnElement[bool]) -> dict[UUID, list[StatementLine]]:
    table = SupplierInvoice.table.c
    rows = await connection.execute(
        sa.select(*SupplierInvoice.selected(), Voucher.table.c.number, Merchant.table.c.name)
        .join(MemberStatement.table, MemberStatement.table.c.id == table.statement_id)
        .join(Voucher.table, Voucher.table.c.id == table.voucher_id)
        .join(Merchant.table, Merchant.table.c.id == table.supplier_id)
        .where(where)
        .order_by(table.recorded_at, table.id)
    )
    found: dict[UUID, list[StatementLine]] = defaultdict(list)
    for row in rows:
        invoice = SupplierInvoice.from_row(row[:-2])
        assert invoice.statement_id is not None, "it was asked for by its statement"
        found[invoice.statement_id].append(
            StatementLine(
                tenant=invoice.tenant,
                voucher_id=invoice.voucher_id,
                document_id=invoice.document_id,
                supplier_invoice_number=invoice.invoice_number,
                amount=invoice.billed,
                recorded_at=invoice.recorded_at,
                voucher_number=row[-2],
                supplier_name=row[-1],
            )
        )
    return found


# ── what the pages say ────────────────────────────────────────────────────────────────────────────────────────────────

_FILE: Final = Text("releve-{period}.pdf", "statement-{period}.pdf")
_TITLE: Final = Text("Relevé de vos bons – {month}", "Statement of your vouchers – {month}")
_MEMBER: Final = Text("N° d’adhérent", "Member no.")
_ISSUED: Final = Text("Établi le", "Issued on")
_INTRO: Final = Text(
    "Voici les factures que {issuer} a réglées pour vous à vos fournisseurs, et que nos relevés précédents ne"
    " comportaient pas.",
    "These are the invoices that {issuer} has paid to your suppliers for you, and that were not on an earlier"
    " statement.",
)
_COLUMNS: Final = (
    Text("Reçue le", "Received"),
    Text("Fournisseur", "Supplier"),
    Text("Facture", "Invoice"),
    Text("Bon", "Voucher"),
    Text("Montant", "Amount"),
)
_TOTAL: Final = Text("Total dont vous êtes redevable", "Total you owe")


def _paper(
    issuer: Issuer, member: Holder, issued: MemberStatement, lines: Sequence[StatementLine], locale: Locale
) -> Paper:
    """All that is said, as plain text: whatever a name holds, it lays nothing out."""
    words = {
        "language": locale.value,
        "issuer": issuer.name,
        "test": A_TEST.in_locale(locale) if issuer.sandbox else None,
        "address": _address(member, locale),
        "title": _TITLE.in_locale(locale, month=calendar.month_style(_first_day(issued.period), locale)),
        "facts": [
            [_MEMBER.in_locale(locale), member.reference],
            [_ISSUED.in_locale(locale), calendar.day_style(calendar.today(issued.issued_at), locale)],
        ],
        "intro": _INTRO.in_locale(locale, issuer=issuer.name),
        "columns": [column.in_locale(locale) for column in _COLUMNS],
        "rows": [
            [
                calendar.day_style(calendar.today(line.recorded_at), locale),
                line.supplier_name,
                line.supplier_invoice_number,
                line.voucher_number,
                money.formatted(line.amount, locale),
            ]
            for line in lines
        ],
        "total": [_TOTAL.in_locale(locale), money.formatted(issued.total, locale)],
        "question": QUESTION.in_locale(locale, contact=issuer.contact) if issuer.contact else None,
        "page": PAGE.in_locale(locale),
    }
    return Paper("member_statement", words, _FILE.in_locale(locale, period=issued.period))


def _address(member: Holder, locale: Locale) -> list[str]:
    """As on an envelope. Who has left no address is named only."""
    name = " ".join(filter(None, (member.first_name, member.name)))
    if member.street is None:
        return [name]
    abroad = None
    if member.country != "FR":
        abroad = LocaleData.parse(locale.value).territories.get(str(member.country), member.country)
    return list(filter(None, (name, member.street, f"{member.postcode} {member.town}", abroad)))
