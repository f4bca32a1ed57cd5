"""Vouchers, the suppliers' invoices and the members' statements as files. A voucher's code is in none of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from domain import vouchers as flow
from domain.parties import Holder, Merchant
from domain.texts import Text
from domain.vouchers import MemberStatement, SupplierInvoice, Voucher, VoucherKind, VoucherOrder, VoucherStatus
from reporting.excel import Column, Kind
from tasks.listings.listing import Asked, Listing, newest_first
from tasks.listings.parties import CHANNELS

# ── vouchers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Guarantee:
    voucher: Voucher
    kind: VoucherKind
    member: Holder
    supplier: Merchant


def _vouchers(asked: Asked) -> sa.Select[Any]:
    search, status = asked.conditions.get("search"), asked.conditions.get("status")
    statuses = None if status is None else [VoucherStatus(each) for each in status]
    found = flow.vouchers(asked.actor, asked.locale, search, statuses, asked.conditions.get("blocked"))
    question = asked.within(found, Voucher.table.c.issued_at)
    columns, descending = flow.order_by(VoucherOrder(asked.order_by or VoucherOrder.NEWEST), asked.actor.tenant)
    return newest_first(question, columns) if descending else question.order_by(*columns)


VOUCHERS: Final[Listing[_Guarantee]] = Listing(
    Text("Bons", "Vouchers"),
    Text("bons", "vouchers"),
    _vouchers,
    lambda _, row: _Guarantee(*flow.voucher_and_parties(row)),
    (
        (Column(Text("Émis le", "Issued"), 17, Kind.INSTANT), lambda line, _: line.voucher.issued_at),
        (Column(Text("N° de bon", "Voucher number"), 24), lambda line, _: line.voucher.number),
        (Column(Text("Type", "Kind"), 18), lambda line, _: line.kind.name),
        (
            Column(Text("Statut", "Status"), 14),
            lambda line, locale: flow.STATUS_LABELS[line.voucher.status].in_locale(locale),
        ),
        (Column(Text("Valeur", "Value"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.voucher.value),
        (Column(Text("N° d’adhérent", "Member number"), 16), lambda line, _: line.member.reference),
        (Column(Text("Nom", "Name"), 24), lambda line, _: line.member.name),
        (Column(Text("Prénom", "First name"), 18), lambda line, _: line.member.first_name),
        (Column(Text("Code fournisseur", "Supplier code"), 14), lambda line, _: line.supplier.code),
        (Column(Text("Fournisseur", "Supplier"), 30), lambda line, _: line.supplier.name),
        (Column(Text("Valable jusqu’au", "Valid until"), 13, Kind.DAY), lambda line, _: line.voucher.valid_until),
        (
            Column(Text("Code secret affiché le", "Secret code shown"), 17, Kind.INSTANT),
            lambda line, _: line.voucher.revealed_at,
        ),
        (Column(Text("Livré le", "Delivered"), 17, Kind.INSTANT), lambda line, _: line.voucher.delivered_at),
        (Column(Text("Bloqué le", "Blocked"), 17, Kind.INSTANT), lambda line, _: line.voucher.blocked_at),
    ),
)

# ── the suppliers' invoices ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Invoice:
    invoice: SupplierInvoice
    voucher: Voucher
    kind: VoucherKind
    member: Holder
    supplier: Merchant


def _invoices(asked: Asked) -> sa.Select[Any]:
    search, with_excess = asked.conditions.get("search"), asked.conditions.get("with_excess")
    question = flow.invoices(asked.actor, search, with_excess)
    return newest_first(asked.within(question, SupplierInvoice.table.c.recorded_at), flow.INVOICE_ORDER)


SUPPLIER_INVOICES: Final[Listing[_Invoice]] = Listing(
    Text("Factures", "Supplier invoices"),
    Text("factures", "supplier-invoices"),
    _invoices,
    lambda asked, row: _Invoice(*flow.invoice_and_parties(asked.actor, row)),
    (
        (Column(Text("Enregistrée le", "Recorded"), 17, Kind.INSTANT), lambda line, _: line.invoice.recorded_at),
        (Column(Text("N° de facture", "Invoice number"), 20), lambda line, _: line.invoice.invoice_number),
        (
            Column(Text("Statut", "Status"), 22),
            lambda line, locale: flow.INVOICE_LIFE.labels[line.invoice.status].in_locale(locale),
        ),
        (Column(Text("Montant", "Amount"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.invoice.amount),
        (
            Column(Text("Dépassement", "Excess"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.invoice.excess,
        ),
        (Column(Text("N° de bon", "Voucher number"), 24), lambda line, _: line.voucher.number),
        (Column(Text("Type", "Kind"), 18), lambda line, _: line.kind.name),
        (
            Column(Text("Valeur du bon", "Voucher value"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.voucher.value,
        ),
        (
            Column(Text("Statut du bon", "Voucher status"), 14),
            lambda line, locale: flow.STATUS_LABELS[line.voucher.status].in_locale(locale),
        ),
        (Column(Text("N° d’adhérent", "Member number"), 16), lambda line, _: line.member.reference),
        (Column(Text("Nom", "Name"), 24), lambda line, _: line.member.name),
        (Column(Text("Prénom", "First name"), 18), lambda line, _: line.member.first_name),
        (Column(Text("Code fournisseur", "Supplier code"), 14), lambda line, _: line.supplier.code),
        (Column(Text("Fournisseur", "Supplier"), 30), lambda line, _: line.supplier.name),
    ),
)

# ── the members' statements ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Statement:
    statement: MemberStatement
    member: Holder


def _statements(asked: Asked) -> sa.Select[Any]:
    table = MemberStatement.table.c
    question = asked.within(flow.statements(asked.actor), table.issued_at).add_columns(*Holder.selected())
    joined = question.join(Holder.table, Holder.table.c.id == table.holder_id)
    return newest_first(joined, flow.STATEMENT_ORDER)


def _statement(_: Asked, row: Sequence[Any]) -> _Statement:
    width = len(MemberStatement.columns)
    return _Statement(MemberStatement.from_row(row[:width]), Holder.from_row(row[width:]))


MEMBER_STATEMENTS: Final[Listing[_Statement]] = Listing(
    Text("Relevés", "Member statements"),
    Text("releves", "member-statements"),
    _statements,
    _statement,
    (
        (Column(Text("Établi le", "Issued"), 17, Kind.INSTANT), lambda line, _: line.statement.issued_at),
        (Column(Text("Mois", "Month"), 10), lambda line, _: line.statement.period),
        (Column(Text("N° d’adhérent", "Member number"), 16), lambda line, _: line.member.reference),
        (Column(Text("Nom", "Name"), 24), lambda line, _: line.member.name),
        (Column(Text("Prénom", "First name"), 18), lambda line, _: line.member.first_name),
        (Column(Text("Total", "Total"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.statement.total),
        (
            Column(Text("Envoyé par", "Sent by"), 12),
            lambda line, locale: CHANNELS[line.statement.channel].in_locale(locale),
        ),
    ),
)
