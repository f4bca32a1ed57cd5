"""A reimbursement's statement, for its merchant's books: every operation with what is kept of it, as pages and as a
workbook."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, money, parties
from domain.ledger import Transfer
from domain.notices import A_TEST, PAGE, QUESTION, Paper
from domain.parties import Issuer, Merchant, PointOfSale
from domain.payments import PaymentRequest
from domain.reimbursements import STATUS_LABELS, Reimbursement, ReimbursementLine, ReimbursementStatus
from domain.texts import Locale, Text
from domain.vouchers import SupplierInvoice, Voucher
from reporting.excel import Cell, Column, Kind, Workbook


@dataclass(frozen=True, slots=True)
class Line:
    """An operation. `reference` is what it is known by: a basket's number, or a voucher's. Amounts are cents."""

    at: datetime
    what: Text
    reference: str | None
    point_of_sale: str | None
    amount: int
    commission: int

    @property
    def net(self) -> int:
        """What is paid for it."""
        return self.amount - self.commission


@dataclass(frozen=True, slots=True)
class Statement:
    """All that a statement says."""

    issuer: Issuer
    merchant: Merchant
    reimbursement: Reimbursement
    lines: Sequence[Line]


async def statement(connection: AsyncConnection, reimbursement_id: UUID) -> Statement | None:
    """A reimbursement's statement; None when there is no such reimbursement."""
    table, merchant = Reimbursement.table.c, Merchant.table.c
    row = (
        await connection.execute(
            sa.select(*Reimbursement.selected(), *Merchant.selected())
            .join(Merchant.table, merchant.id == table.merchant_id)
            .where(table.id == reimbursement_id)
        )
    ).first()
    if row is None:
        return None
    width = len(Reimbursement.columns)
    rows = await connection.execute(_LINES, {"reimbursement": reimbursement_id})
    lines = [Line(at, _WHAT[kind], *rest) for at, kind, *rest in rows]
    issuer = await parties.issuer(connection)
    return Statement(issuer, Merchant.from_row(row[width:]), Reimbursement.from_row(row[:width]), lines)


def paper(of: Statement, locale: Locale) -> Paper:
    """Its pages."""
    paid, contact = of.reimbursement, of.issuer.contact
    facts = [
        (_REFERENCE, paid.reference),
        (_MERCHANT, f"{of.merchant.name} ({of.merchant.code})"),
        (
            _PERIOD,
            _BETWEEN.in_locale(
                locale, first=calendar.shown_day(paid.period_start), last=calendar.shown_day(paid.period_end)
            ),
        ),
        (_STATUS, _status(paid, locale)),
        (_DUE, calendar.day_style(paid.due_on, locale)),
    ]
    if paid.iban:
        facts.append((_ACCOUNT, f"{paid.account_holder} · …{paid.iban[-4:]}"))
    words = {
        "language": locale.value,
        "issuer": of.issuer.name,
        "test": A_TEST.in_locale(locale) if of.issuer.sandbox else None,
        "title": _TITLE.in_locale(locale, reference=paid.reference),
        "facts": [[label.in_locale(locale), value] for label, value in facts],
        "columns": [column.heading.in_locale(locale) for column, _ in _COLUMNS],
        "rows": [[_shown(cell(line, locale), locale) for _, cell in _COLUMNS] for line in of.lines],
        "total": [
            _TOTAL.in_locale(locale),
            *(money.formatted(amount, locale) for amount in (paid.gross, paid.commission, paid.net)),
        ],
        "question": QUESTION.in_locale(locale, contact=contact) if contact else None,
        "page": PAGE.in_locale(locale),
    }
    return Paper("reimbursement_statement", words, f"{_file_stem(of, locale)}.pdf")


def workbook(of: Statement, locale: Locale) -> tuple[str, bytes]:
    """Its name and its content as a workbook. It takes a while: call it in a thread."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "statement.xlsx"
        sheet = _TEST_SHEET if of.issuer.sandbox else _SHEET
        file = Workbook(path, sheet, [column for column, _ in _COLUMNS], locale, made_at=of.reimbursement.created_at)
        file.write([cell(line, locale) for _, cell in _COLUMNS] for line in of.lines)
        file.close()
        return f"{_file_stem(of, locale)}.xlsx", path.read_bytes()


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_WHAT: Final = {
    PaymentRequest.prefix: Text("Paiement", "Payment"),
    Voucher.prefix: Text("Facture d’un bon", "Invoice for a voucher"),
    SupplierInvoice.prefix: Text("Dépassement d’un bon", "Excess of a voucher"),
}
_LINES: Final = (
    sa.select(
        Transfer.table.c.at,
        Transfer.table.c.subject_kind,
        sa.func.coalesce(PaymentRequest.table.c.basket_number, Voucher.table.c.number),
        PointOfSale.table.c.code,
        ReimbursementLine.table.c.amount,
        ReimbursementLine.table.c.commission,
    )
    .select_from(ReimbursementLine.table)
    .join(Transfer.table, Transfer.table.c.id == ReimbursementLine.table.c.transfer_id)
    .outerjoin(PaymentRequest.table, PaymentRequest.table.c.id == Transfer.table.c.subject_id)
    .outerjoin(PointOfSale.table, PointOfSale.table.c.id == PaymentRequest.table.c.point_of_sale_id)
    .outerjoin(SupplierInvoice.table, SupplierInvoice.table.c.id == Transfer.table.c.subject_id)
    .outerjoin(
        Voucher.table,
        Voucher.table.c.id == sa.func.coalesce(SupplierInvoice.table.c.voucher_id, Transfer.table.c.subject_id),
    )
    .where(ReimbursementLine.table.c.reimbursement_id == sa.bindparam("reimbursement"))
    .order_by(Transfer.table.c.at, Transfer.table.c.id)
)
_SHEET: Final = Text("Remboursement", "Reimbursement")
_TEST_SHEET: Final = Text("TEST Remboursement", "TEST Reimbursement")
_FILE_STEM: Final = Text("remboursement-{reference}", "reimbursement-{reference}")
_TITLE: Final = Text("Bordereau de remboursement {reference}", "Reimbursement statement {reference}")
_REFERENCE: Final = Text("Référence", "Reference")
_MERCHANT: Final = Text("Bénéficiaire", "Payee")
_PERIOD: Final = Text("Opérations", "Operations")
_BETWEEN: Final = Text("du {first} au {last}", "from {first} to {last}")
_STATUS: Final = Text("État", "Status")
_DUE: Final = Text("Virement prévu le", "Transfer due on")
_ACCOUNT: Final = Text("Sur le compte de", "To the account of")
_TOTAL: Final = Text("Total", "Total")
_SETTLED: Final = Text("{status} le {day}", "{status} on {day}")

_COLUMNS: Final[Sequence[tuple[Column, Callable[[Line, Locale], Cell]]]] = (
    (Column(Text("Date", "Date"), 17, Kind.INSTANT), lambda line, _: line.at),
    (Column(Text("Opération", "Operation"), 22), lambda line, locale: line.what.in_locale(locale)),
    (Column(Text("Référence", "Reference"), 26), lambda line, _: line.reference),
    (Column(Text("Point d’accueil", "Point of sale"), 14), lambda line, _: line.point_of_sale),
    (Column(Text("Montant", "Amount"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.amount),
    (Column(Text("Commission", "Commission"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.commission),
    (Column(Text("Net", "Net"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.net),
)


def _shown(cell: Cell, locale: Locale) -> str:
    if isinstance(cell, datetime):
        return calendar.list_style(cell, locale)
    return money.formatted(cell, locale) if isinstance(cell, int) else str(cell or "")


def _status(paid: Reimbursement, locale: Locale) -> str:
    label = STATUS_LABELS[paid.status].in_locale(locale)
    day = {
        ReimbursementStatus.SENT: paid.sent_at,
        ReimbursementStatus.SETTLED: paid.settled_at,
        ReimbursementStatus.REJECTED: paid.rejected_at,
    }.get(paid.status)
    return _SETTLED.in_locale(locale, status=label, day=calendar.shown_day(calendar.today(day))) if day else label


def _file_stem(of: Statement, locale: Locale) -> str:
    stem = _FILE_STEM.in_locale(locale, reference=of.reimbursement.reference)
    return of.issuer.file_mark + stem
