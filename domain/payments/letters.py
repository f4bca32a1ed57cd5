"""What is written to merchants and customers about payment requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, money
from domain.access import User
from domain.notices import Letter, Push, pushes, writes
from domain.parties import Holder, Merchant, PointOfSale
from domain.payments.life import PaymentRequest, PaymentRequestStatus
from domain.payments.questions import as_of_now
from domain.texts import Fact, Locale, Text


@writes("payment_received")
async def _payment_received(connection: AsyncConnection, tenant: int, request_id: UUID) -> list[Letter]:
    """To the merchant, when the customer has paid (P29)."""
    told = await _told(connection, tenant, request_id)
    return told.to_merchant(
        "payment_received",
        Text("Paiement reçu : {amount} (panier {basket})", "Payment received: {amount} (basket {basket})"),
    )


@writes("payment_declined")
async def _payment_declined(connection: AsyncConnection, tenant: int, request_id: UUID) -> list[Letter]:
    """To the merchant, when the customer will not pay (P31)."""
    told = await _told(connection, tenant, request_id)
    return told.to_merchant(
        "payment_declined", Text("Paiement refusé (panier {basket})", "Payment declined (basket {basket})")
    )


@writes("validation_ends_soon")
async def _validation_ends_soon(connection: AsyncConnection, tenant: int, request_id: UUID) -> list[Letter]:
    """To the merchant, 24 hours before its window ends, if it has still to decide (P13)."""
    told = await _told(connection, tenant, request_id)
    if told.request.status is not PaymentRequestStatus.TO_VALIDATE:
        return []
    return told.to_merchant(
        "validation_ends_soon",
        Text(
            "À valider avant le {validate_by} : {amount} (panier {basket})",
            "To validate by {validate_by}: {amount} (basket {basket})",
        ),
    )


@writes("payment_asked")
async def _payment_asked(connection: AsyncConnection, tenant: int, request_id: UUID) -> list[Letter]:
    """To the customer who was named, while there is something to pay (P22)."""
    told = await _told(connection, tenant, request_id)
    if told.request.status is not PaymentRequestStatus.AWAITING_PAYMENT:
        return []
    return told.to_customer("payment_asked", _ASKED)


@pushes("payment_asked")
async def _payment_asked_push(connection: AsyncConnection, tenant: int, request_id: UUID) -> Push | None:
    """To the customer who was named, while there is something to pay (P22)."""
    told = await _told(connection, tenant, request_id)
    if told.request.status is not PaymentRequestStatus.AWAITING_PAYMENT:
        return None
    return told.to_devices(
        _ASKED,
        Text("{place} : à régler au plus tard le {due_on}.", "{place}: to be paid by the end of {due_on}.")
        if told.request.payment_due_on
        else Text("{place} : à régler avant le {deadline}.", "{place}: to be paid before {deadline}."),
    )


@writes("payment_validated")
async def _payment_validated(connection: AsyncConnection, tenant: int, request_id: UUID) -> list[Letter]:
    """To the customer, when the merchant has taken the money, all or less (P26)."""
    told = await _told(connection, tenant, request_id)
    return told.to_customer(
        "payment_validated",
        Text("{merchant} a validé votre paiement : {validated}", "{merchant} has validated your payment: {validated}"),
    )


@writes("payment_returned")
async def _payment_returned(connection: AsyncConnection, tenant: int, request_id: UUID) -> list[Letter]:
    """To the customer, when what it paid comes back (P27, AP1)."""
    told = await _told(connection, tenant, request_id)
    return told.to_customer("payment_returned", Text("{amount} vous reviennent", "{amount} come back to you"))


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


_ASKED: Final = Text("{merchant} vous demande {requested}", "{merchant} asks you for {requested}")


@dataclass(frozen=True, slots=True)
class _Told:
    """What letters about a request say, and to whom they go."""

    request: PaymentRequest
    merchant_name: str
    point_of_sale_name: str
    merchant_email: str | None
    merchant_locale: Locale
    customer_email: str | None
    customer_locale: Locale
    payer_identifier: str | None

    def to_merchant(self, template: str, subject: Text) -> list[Letter]:
        if self.merchant_email is None:
            return []
        link = f"/payments/{self.request.global_id}"
        return [Letter(self.merchant_email, self.merchant_locale, subject, template, self._facts(), link)]

    def to_customer(self, template: str, subject: Text) -> list[Letter]:
        if self.customer_email is None:
            return []
        return [Letter(self.customer_email, self.customer_locale, subject, template, self._facts(), self._offer)]

    def to_devices(self, title: Text, body: Text) -> Push | None:
        if self.request.customer_id is None:
            return None
        until = self.request.payment_deadline
        return Push(self.request.customer_id, title, body, until, self._facts(), self._offer)

    @property
    def _offer(self) -> str:
        return f"/p/{self.request.token}"

    def _facts(self) -> dict[str, Fact]:
        request = self.request
        paid = request.amount_paid
        facts: dict[str, Fact] = {
            "merchant": self.merchant_name,
            "place": self.point_of_sale_name,
            "number": request.transaction_number,
            "basket": request.basket_number,
            "customer": self.payer_identifier or request.customer_identifier or "",
            "label": request.label or "",
            "requested": money.shown(request.amount_requested),
            "is_deferred": request.payment_due_on is not None,
            "deadline": calendar.shown_instant(request.payment_deadline),
            "due_on": calendar.shown_day(calendar.last_day_before(request.payment_deadline)),
            "auto_validation": request.auto_validation,
            "awaits_validation": request.status is PaymentRequestStatus.TO_VALIDATE,
        }
        if paid is not None and request.paid_at is not None:
            facts |= {
                "amount": money.shown(paid),
                "has_remaining": paid < request.amount_requested,
                "remaining": money.shown(request.amount_requested - paid),
                "at": calendar.shown_instant(request.paid_at),
            }
        if paid is not None and request.amount_validated is not None:
            facts |= {
                "validated": money.shown(request.amount_validated),
                "was_lowered": request.amount_validated < paid,
                "returned": money.shown(paid - request.amount_validated),
            }
        if request.validation_deadline is not None:
            facts["validate_by"] = calendar.shown_day(calendar.last_day_before(request.validation_deadline))
        return facts


async def _told(connection: AsyncConnection, tenant: int, request_id: UUID) -> _Told:
    payer, customer = Holder.table.alias("payer"), Holder.table.alias("customer")
    table, users = PaymentRequest.table.c, User.table.alias("users_of_holder")
    customer_user = User.table.alias("customer_user")
    # A holder may have several users: the first one's language will do.
    named = (
        sa.select(users.c.id)
        .where(users.c.holder_id == sa.func.coalesce(table.payer_id, table.customer_id))
        .order_by(users.c.created_at)
        .limit(1)
        .correlate(PaymentRequest.table)
        .scalar_subquery()
    )
    row = (
        await connection.execute(
            sa.select(
                *as_of_now(tenant),
                Merchant.table.c.name,
                PointOfSale.table.c.name,
                sa.func.coalesce(table.notify_email, User.table.c.email),
                User.table.c.locale,
                sa.func.coalesce(
                    payer.c.email,
                    customer.c.email,
                    sa.case((table.customer_identifier.contains("@"), table.customer_identifier)),
                ),
                customer_user.c.locale,
                payer.c.reference,
            )
            .join(Merchant.table, Merchant.table.c.id == table.merchant_id)
            .join(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
            .join(User.table, User.table.c.id == table.created_by)
            .outerjoin(payer, payer.c.id == table.payer_id)
            .outerjoin(customer, customer.c.id == table.customer_id)
            .outerjoin(customer_user, customer_user.c.id == named)
            .where(table.id == request_id)
        )
    ).one()
    width = len(PaymentRequest.columns)
    told: Sequence[Any] = tuple(row)
    merchant_name, place, merchant_email, locale, customer_email, customer_locale, payer_reference = told[width:]
    request = PaymentRequest.from_row(told[:width])
    return _Told(
        request,
        merchant_name,
        place,
        merchant_email,
        Locale(locale or Locale.FR),
        customer_email,
        Locale(customer_locale or Locale.FR),
        payer_reference,
    )
