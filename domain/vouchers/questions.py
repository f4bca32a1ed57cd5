"""What is asked about vouchers: the list as its reader sees it, one voucher, suppliers, and their invoices."""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, parties
from domain.access import ISSUER_STAFF, MERCHANT, Actor
from domain.parties import Holder, Merchant
from domain.texts import Locale, sort_key
from domain.vouchers.life import (
    LIFE,
    STATUS_CODES,
    STATUS_LABELS,
    SupplierInvoice,
    Voucher,
    VoucherKind,
    VoucherStatus,
)


class VoucherOrder(StrEnum):
    """The order of the list. STATUS goes by the number of the status, so that 11 comes after 1 (V9)."""

    NEWEST = "NEWEST"
    OLDEST = "OLDEST"
    STATUS = "STATUS"
    VALUE = "VALUE"


def vouchers(
    actor: Actor,
    locale: Locale = Locale.FR,
    search: str | None = None,
    status: Sequence[VoucherStatus] | None = None,
    blocked: bool | None = None,
) -> sa.Select[Any]:
    """The vouchers this actor sees, as they are now, each with its kind's, its member's and its supplier's columns
    behind its own: a member's own, all for the issuer's staff, none for a supplier (V3). `search` is in what is shown:
    kind, status, value, supplier, number (V8), whatever its case, its accents and the spaces in an amount; `blocked`:
    only those that wrong codes have blocked (V20), or only the others."""
    now = _now(actor.tenant)
    state = LIFE.status_in_sql(now)
    question = _with_parties(sa.select(*_as_of(state), *_PARTIES).select_from(Voucher.table)).where(_seen(actor))
    if status is not None:
        question = question.where(state.in_([str(each) for each in status]))
    if blocked is not None:
        question = question.where(Voucher.table.c.blocked_at.is_not(None) == blocked)
    if search and search.strip():
        question = question.where(_shows(search.strip().lower(), state, locale))
    return question


def order_by(order: VoucherOrder, tenant: int) -> tuple[tuple[sa.ColumnElement[Any], ...], bool]:
    """The columns of an order, which end with the identifier, and whether it goes down."""
    table = Voucher.table.c
    state = LIFE.status_in_sql(_now(tenant))
    column, descending = {
        VoucherOrder.NEWEST: (table.issued_at, True),
        VoucherOrder.OLDEST: (table.issued_at, False),
        VoucherOrder.STATUS: (_code_of(state), False),
        VoucherOrder.VALUE: (table.value, True),
    }[order]
    return (column, table.id), descending


def voucher_and_parties(row: Sequence[Any]) -> tuple[Voucher, VoucherKind, Holder, Merchant]:
    """What a row of `vouchers` holds: the voucher, its kind, its member and its supplier."""
    at = len(Voucher.columns)
    return Voucher.from_row(row[:at]), *_parties(row[at:])


async def voucher(connection: AsyncConnection, actor: Actor, voucher_id: UUID) -> Voucher | None:
    """One voucher this actor sees, as it is now; or None."""
    row = (await connection.execute(vouchers(actor).where(Voucher.table.c.id == voucher_id))).first()
    return voucher_and_parties(row)[0] if row else None


async def presented(connection: AsyncConnection, actor: Actor, voucher_id: UUID) -> Voucher | None:
    """The same, and for a supplier a voucher that was presented to it: it knows its number."""
    table = Voucher.table.c
    if actor.role not in MERCHANT:
        return await voucher(connection, actor, voucher_id)
    if actor.is_without_place:
        return None
    state = LIFE.status_in_sql(_now(actor.tenant))
    found = await connection.execute(
        sa.select(*_as_of(state)).where(
            table.id == voucher_id, table.supplier_id == actor.merchant_id, table.number.is_not(None)
        )
    )
    row = found.first()
    return Voucher.from_row(row) if row else None


async def member(connection: AsyncConnection, actor: Actor, holder_id: UUID) -> Holder:
    """Whose a voucher is. A supplier is told reference and name, which the member's voucher shows too (V18)."""
    found = await connection.execute(sa.select(*Holder.selected()).where(Holder.table.c.id == holder_id))
    return _shown(Holder.from_row(found.one()), actor)


async def kind(connection: AsyncConnection, kind_id: UUID) -> VoucherKind:
    """One kind."""
    rows = await connection.execute(sa.select(*VoucherKind.selected()).where(VoucherKind.table.c.id == kind_id))
    return VoucherKind.from_row(rows.one())


def kinds() -> sa.Select[Any]:
    """The issuer's kinds of vouchers, the preferred one first."""
    table = VoucherKind.table.c
    return sa.select(*VoucherKind.selected()).order_by(table.preferred.desc(), table.code)


def suppliers(search: str | None = None) -> sa.Select[Any]:
    """Where a voucher may be used: the active merchants; `search` in code and name."""
    return parties.every_merchant(search).where(Merchant.table.c.active)


async def require_open_space(connection: AsyncConnection, actor: Actor) -> None:
    """Raises Refused (FORBIDDEN) for a holder whose membership is not recorded (V1)."""
    if actor.holder_id is None:
        return
    found = await connection.execute(sa.select(*Holder.selected()).where(Holder.table.c.id == actor.holder_id))
    now = await parties.now(connection, actor.tenant)
    parties.require_member(Holder.from_row(found.one()), calendar.today(now))


def invoices(actor: Actor, search: str | None = None, with_excess: bool | None = None) -> sa.Select[Any]:
    """The invoices this actor sees, each with the columns of its voucher, as it is now, and of the voucher's parties
    behind its own: a supplier's own, though not for staff of it without a point of sale; all for the issuer's staff.
    `with_excess`: only those that ask for more than their voucher's value, or only the others. `search` in the
    invoice's and the voucher's number."""
    table, state = SupplierInvoice.table.c, LIFE.status_in_sql(_now(actor.tenant))
    question = _with_parties(
        sa.select(*SupplierInvoice.selected(), *_as_of(state), *_PARTIES)
        .select_from(SupplierInvoice.table)
        .outerjoin(Voucher.table, Voucher.table.c.id == table.voucher_id)
    ).where(sa.true() if actor.role in ISSUER_STAFF else table.supplier_id == actor.merchant_id)
    if actor.role not in ISSUER_STAFF | MERCHANT or actor.is_without_place:
        question = question.where(sa.false())
    if with_excess is not None:
        question = question.where((table.excess > 0) == with_excess)
    if search and search.strip():
        words = search.strip().lower()
        question = question.where(
            sa.func.lower(table.invoice_number).contains(words, autoescape=True)
            | sa.func.lower(Voucher.table.c.number).contains(words, autoescape=True)
        )
    return question


INVOICE_ORDER: Final = (SupplierInvoice.table.c.recorded_at, SupplierInvoice.table.c.id)
"""The order of invoices, newest first: it goes down."""


def invoice_and_parties(
    actor: Actor, row: Sequence[Any]
) -> tuple[SupplierInvoice, Voucher, VoucherKind, Holder, Merchant]:
    """What a row of `invoices` holds: the invoice, its voucher, and the voucher's kind, member and supplier."""
    at = len(SupplierInvoice.columns)
    voucher, kind, holder, supplier = voucher_and_parties(row[at:])
    return SupplierInvoice.from_row(row[:at]), voucher, kind, _shown(holder, actor), supplier


async def invoice(connection: AsyncConnection, actor: Actor, invoice_id: UUID) -> SupplierInvoice | None:
    """One invoice this actor sees, or None."""
    row = (await connection.execute(invoices(actor).where(SupplierInvoice.table.c.id == invoice_id))).first()
    return invoice_and_parties(actor, row)[0] if row else None


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _now(tenant: int) -> sa.ScalarSelect[datetime]:
    """A question of its own, so that the clock is read once and not for each row."""
    return sa.select(sa.func.tenant_clock(tenant)).scalar_subquery()


def _as_of(state: sa.ColumnElement[str]) -> list[sa.ColumnElement[Any]]:
    return [state.label("status") if name == "status" else Voucher.table.c[name] for name in Voucher.columns]


_PARTIES: Final = (*VoucherKind.selected(), *Holder.selected(), *Merchant.selected())


def _with_parties(question: sa.Select[Any]) -> sa.Select[Any]:
    """Every voucher has them. The outer joins say so to the planner, which then reads a page along an index."""
    table = Voucher.table.c
    return (
        question.outerjoin(VoucherKind.table, VoucherKind.table.c.id == table.kind_id)
        .outerjoin(Holder.table, Holder.table.c.id == table.holder_id)
        .outerjoin(Merchant.table, Merchant.table.c.id == table.supplier_id)
    )


def _parties(row: Sequence[Any]) -> tuple[VoucherKind, Holder, Merchant]:
    kind = len(VoucherKind.columns)
    holder = kind + len(Holder.columns)
    supplier = holder + len(Merchant.columns)
    return (
        VoucherKind.from_row(row[:kind]),
        Holder.from_row(row[kind:holder]),
        Merchant.from_row(row[holder:supplier]),
    )


def _shown(holder: Holder, actor: Actor) -> Holder:
    """As this actor may see the member."""
    if actor.role not in MERCHANT:
        return holder
    return Holder(
        tenant=holder.tenant,
        id=holder.id,
        reference=holder.reference,
        name=holder.name,
        first_name=holder.first_name,
        sort_key=holder.sort_key,
        created_at=holder.created_at,
    )


def _seen(actor: Actor) -> sa.ColumnElement[bool]:
    if actor.role in ISSUER_STAFF:
        return sa.true()
    return Voucher.table.c.holder_id == actor.holder_id if actor.holder_id is not None else sa.false()


def _code_of(state: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.case(*((state == str(status), code) for status, code in STATUS_CODES.items()), else_=0)


def _shows(words: str, state: sa.ColumnElement[str], locale: Locale) -> sa.ColumnElement[bool]:
    table, kind, key = Voucher.table.c, VoucherKind.table.c, sort_key(words)
    label = sa.case(*((state == str(each), sort_key(text.in_locale(locale))) for each, text in STATUS_LABELS.items()))
    value = sa.func.to_char(table.value / sa.cast(100, sa.Numeric), "FM999999999990.00")
    kind_key = sa.func.regexp_replace(sa.func.normalize(sa.func.lower(kind.name), sa.text("NFKD")), _MARKS, "", "g")
    return sa.or_(
        # A question of its own: kinds are few, and vouchers many.
        table.kind_id.in_(sa.select(kind.id).where(kind_key.contains(key, autoescape=True))),
        label.contains(key, autoescape=True),
        value.contains(_as_stored(words), autoescape=True),
        sa.func.lower(table.number).contains(words, autoescape=True),
        Merchant.table.c.sort_key.contains(key, autoescape=True),
    )


def _as_stored(words: str) -> str:
    """A value, or a piece of one, as people write it in French or English ("1 235,00 €", "€1,235"), in digits with a
    decimal point: "1235.00"."""
    return _GROUPING.sub("", re.sub(r"[\s€]", "", words)).replace(",", ".")


_GROUPING: Final = re.compile(r"[.,](?=[0-9]{3}(?![0-9]))")
_MARKS: Final = "[\u0300-\u036f]"
"""What accents are, once they are taken off their letters."""
