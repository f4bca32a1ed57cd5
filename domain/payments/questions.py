"""What is asked about payment requests: the list with its counters, one request, and the customer's offers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.access import Actor
from domain.parties import Merchant, PointOfSale
from domain.payments.life import (
    LIFE,
    OPEN,
    Collection,
    Counters,
    PaymentFlow,
    PaymentOffer,
    PaymentRequest,
    PaymentRequestStatus,
    RememberedEmail,
)

_MOST_CHANGES: Final = 500


@dataclass(frozen=True, slots=True)
class PaymentRequestFilter:
    """Conditions on the list; all given ones hold together. Amounts are cents, on what was requested; `since` and
    `until` (exclusive) are about the last action."""

    status: tuple[PaymentRequestStatus, ...] | None = None
    flow: tuple[PaymentFlow, ...] | None = None
    basket_number: str | None = None
    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_amount: int | None = None
    max_amount: int | None = None
    collection: tuple[Collection, ...] | None = None
    min_received: int | None = None
    max_received: int | None = None

    def within(self, since: datetime | None, until: datetime | None) -> "PaymentRequestFilter":
        """The same, and besides the last action in this period (`until` exclusive)."""
        after = [instant for instant in (self.since, since) if instant is not None]
        before = [instant for instant in (self.until, until) if instant is not None]
        return replace(self, since=max(after, default=None), until=min(before, default=None))


FILTER_DOCUMENT: Final = TypeAdapter(PaymentRequestFilter)
"""Writes a filter as JSON and reads it back, for a list that is read later."""


class PaymentRequestOrder(StrEnum):
    """The order of the list. LAST_ACTION: the latest action first (H9). AMOUNT: the highest amount requested first."""

    LAST_ACTION = "LAST_ACTION"
    OLDEST_ACTION = "OLDEST_ACTION"
    NEWEST = "NEWEST"
    OLDEST = "OLDEST"
    AMOUNT = "AMOUNT"
    LOWEST_AMOUNT = "LOWEST_AMOUNT"
    BASKET_NUMBER = "BASKET_NUMBER"


def in_order(question: sa.Select[Any], order: PaymentRequestOrder) -> sa.Select[Any]:
    """The question, in that order."""
    columns, descending = order_by(order)
    return question.order_by(*(column.desc() if descending else column for column in columns))


def order_by(order: PaymentRequestOrder) -> tuple[tuple[sa.ColumnElement[Any], ...], bool]:
    """The columns of an order, which end with the identifier, and whether it goes down."""
    table = PaymentRequest.table.c
    column, descending = {
        PaymentRequestOrder.LAST_ACTION: (table.last_action_at, True),
        PaymentRequestOrder.OLDEST_ACTION: (table.last_action_at, False),
        PaymentRequestOrder.NEWEST: (table.created_at, True),
        PaymentRequestOrder.OLDEST: (table.created_at, False),
        PaymentRequestOrder.AMOUNT: (table.amount_requested, True),
        PaymentRequestOrder.LOWEST_AMOUNT: (table.amount_requested, False),
        PaymentRequestOrder.BASKET_NUMBER: (table.basket_number, False),
    }[order]
    return (column, table.id), descending


def requests(
    actor: Actor, point_of_sale_id: UUID | None = None, where: PaymentRequestFilter | None = None
) -> sa.Select[Any]:
    """The requests this actor sees, as they are now (P25), each with its point of sale's columns behind its own."""
    # Every request has its point of sale. The outer join says so to the planner, which then reads a page along an index
    # instead of sorting the whole list.
    table = PaymentRequest.table.c
    question = (
        sa.select(*as_of_now(actor.tenant), *PointOfSale.selected())
        .outerjoin(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
        .where(actor.sees(table.merchant_id, table.point_of_sale_id))
    )
    if point_of_sale_id is not None:
        question = question.where(table.point_of_sale_id == point_of_sale_id)
    return question.where(*_conditions(actor, where)) if where else question


def changed_requests(
    actor: Actor,
    point_of_sale_id: UUID | None,
    where: PaymentRequestFilter | None,
    changed: frozenset[UUID] | None,
    since: datetime | None,
) -> sa.Select[Any]:
    """What a live list is told, oldest action first: these requests, or all since an action, under every filter but
    the status, so that it sees them leave; at the start the newest one alone."""
    table = PaymentRequest.table.c
    others = None if where is None else replace(where, status=None)
    question = requests(actor, point_of_sale_id, others)
    if changed is not None:
        question = question.where(table.id.in_(sorted(changed)))
    elif since is not None:
        question = question.where(table.last_action_at >= since)
    else:
        return question.order_by(table.last_action_at.desc(), table.id.desc()).limit(1)
    return question.order_by(table.last_action_at, table.id).limit(_MOST_CHANGES)


def request_and_place(row: Sequence[Any]) -> tuple[PaymentRequest, PointOfSale]:
    """What a row of `requests` holds."""
    width = len(PaymentRequest.columns)
    return PaymentRequest.from_row(row[:width]), PointOfSale.from_row(row[width : width + len(PointOfSale.columns)])


async def request(connection: AsyncConnection, actor: Actor, request_id: UUID) -> PaymentRequest | None:
    """One request this actor sees, as it is now; or None."""
    row = (await connection.execute(requests(actor).where(PaymentRequest.table.c.id == request_id))).first()
    return request_and_place(row)[0] if row else None


async def counters(
    connection: AsyncConnection, actor: Actor, point_of_sale_id: UUID | None, where: PaymentRequestFilter | None
) -> Counters:
    """How many are to validate and how many await payment, under every filter but the status (P7)."""
    others = None if where is None else replace(where, status=None)
    # Time leads out of these statuses, never into them: there is an index of the requests that are stored so.
    open_ones = PaymentRequest.table.c.status.in_(sorted(map(str, OPEN)))
    status = LIFE.status_in_sql(_now(actor.tenant))
    counted = (
        sa.func.count().filter(status == str(status_counted))
        for status_counted in (PaymentRequestStatus.TO_VALIDATE, PaymentRequestStatus.AWAITING_PAYMENT)
    )
    found = requests(actor, point_of_sale_id, others).where(open_ones)
    row = (await connection.execute(found.with_only_columns(*counted, maintain_column_froms=True))).one()
    return Counters(to_validate=row[0], awaiting_payment=row[1])


async def remembered_email(connection: AsyncConnection, actor: Actor, point_of_sale_id: UUID) -> str | None:
    """Where this user last asked to be told, at a point of sale (P13)."""
    table = RememberedEmail.table.c
    return await connection.scalar(
        sa.select(table.email).where(table.user_id == actor.user_id, table.point_of_sale_id == point_of_sale_id)
    )


async def acted_on(connection: AsyncConnection, actor: Actor, request_id: UUID) -> PaymentRequest | None:
    """The request that this customer has paid or declined, as it is now."""
    found = await offer_of_request(connection, actor.tenant, request_id)
    return found.request if found else None


async def offer_of_request(connection: AsyncConnection, tenant: int, request_id: UUID) -> PaymentOffer | None:
    """What a customer sees of a request, as it is now."""
    row = (await connection.execute(_offers(tenant).where(PaymentRequest.table.c.id == request_id))).first()
    return offer_of(row) if row else None


def offers_to(actor: Actor) -> sa.Select[Any]:
    """What this customer is asked to pay by name, as it is now, and what it has paid (P22)."""
    table = PaymentRequest.table.c
    return _offers(actor.tenant).where(sa.or_(table.customer_id == actor.holder_id, table.payer_id == actor.holder_id))


async def offer(connection: AsyncConnection, tenant: int, token: str) -> PaymentOffer | None:
    """What the bearer of a token is asked to pay, as it is now; None for a token that nothing bears (P20)."""
    row = (await connection.execute(_offers(tenant).where(PaymentRequest.table.c.token == token))).first()
    return offer_of(row) if row else None


def _now(tenant: int) -> sa.ScalarSelect[datetime]:
    """The tenant's clock; a question of its own, so that it is read once and not for each row."""
    return sa.select(sa.func.tenant_clock(tenant)).scalar_subquery()


def as_of_now(tenant: int) -> list[sa.ColumnElement[Any]]:
    """A request's columns, its status as it is at this instant, and so what is validated."""
    status = LIFE.status_in_sql(_now(tenant))
    lapsing = {"status": status.label("status"), "amount_validated": _validated(status).label("amount_validated")}
    return [lapsing.get(name, PaymentRequest.table.c[name]) for name in PaymentRequest.columns]


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _validated(status: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
    """What is validated by now: all that was paid, where the window's end has done it and the row does not know yet
    (AP1)."""
    table = PaymentRequest.table.c
    by_now = sa.func.coalesce(table.amount_validated, table.amount_paid)
    return sa.case((status == str(PaymentRequestStatus.VALIDATED), by_now))


def _received(actor: Actor) -> sa.ColumnElement[Any]:
    """Montant reçu, as PaymentRequest.amount_received has it (H10)."""
    table, status = PaymentRequest.table.c, LIFE.status_in_sql(_now(actor.tenant))
    return sa.case(
        (status == str(PaymentRequestStatus.VALIDATED), _validated(status)),
        (status == str(PaymentRequestStatus.TO_VALIDATE), table.amount_paid),
    )


def _conditions(actor: Actor, where: PaymentRequestFilter) -> Iterator[sa.ColumnElement[bool]]:
    table = PaymentRequest.table.c
    if where.status is not None:
        yield LIFE.status_in_sql(_now(actor.tenant)).in_([str(status) for status in where.status])
    if where.flow is not None:
        yield table.flow.in_([str(flow) for flow in where.flow])
    if where.basket_number:
        yield table.basket_number == where.basket_number.strip()
    if where.search:
        words = where.search.strip()
        searched = (
            table.basket_number,
            table.label,
            table.customer_reference,
            table.seller_identifier,
            table.customer_identifier,
            table.transaction_number,
        )
        yield sa.or_(*(sa.func.lower(column).contains(words.lower(), autoescape=True) for column in searched))
    if where.since is not None:
        yield table.last_action_at >= where.since
    if where.until is not None:
        yield table.last_action_at < where.until
    if where.collection is not None:
        yield table.collection.in_([str(collection) for collection in where.collection])
    if where.min_received is not None:
        yield _received(actor) >= where.min_received
    if where.max_received is not None:
        yield _received(actor) <= where.max_received
    if where.min_amount is not None:
        yield table.amount_requested >= where.min_amount
    if where.max_amount is not None:
        yield table.amount_requested <= where.max_amount


def _offers(tenant: int) -> sa.Select[Any]:
    table = PaymentRequest.table.c
    return (
        sa.select(*as_of_now(tenant), Merchant.table.c.name, PointOfSale.table.c.name)
        .outerjoin(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
        .outerjoin(Merchant.table, Merchant.table.c.id == table.merchant_id)
    )


def offer_of(row: Sequence[Any]) -> PaymentOffer:
    values: Sequence[Any] = tuple(row)
    return PaymentOffer(PaymentRequest.from_row(values[:-2]), values[-2], values[-1])
