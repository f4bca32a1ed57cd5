"""Payment requests: a merchant asks, shows a QR code or names the customer; the customer pays all or part.

The merchant's two choices make four flows of one life: the customer pays at once or by a day, and the merchant has, or
has not, some days after the payment to validate it.

    A  at once, no validation      B  by a day, no validation
    C  at once, then validation    D  by a day, then validation

Money paid without a validation window goes to the merchant at once. With a window it is reserved; the merchant
validates it, perhaps for less, or cancels; what it has not done when the window ends goes back to the customer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, fields, money
from domain.access import Actor, Right, User
from domain.codes import new_id, new_token, transaction_number
from domain.db import Entity, Row, column
from domain.deadlines import when_due
from domain.errors import RefusalCode, Refused
from domain.ledger import Balance, DerivedAccount, held_account_of, merchant_account_of, wallet_of
from domain.lifecycle import Lapse, Lifecycle
from domain.notices import Letter, Notice, writes
from domain.parties import Holder, Issuer, Merchant, PointOfSale
from domain.parties import now as tenant_now
from domain.texts import Fact, Locale, Text
from domain.work import Work

# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class PaymentRequestStatus(StrEnum):
    """AWAITING_PAYMENT: the customer has not paid. TO_VALIDATE: paid, the merchant decides. VALIDATED: the merchant's.
    CANCELLED: by the merchant or declined by the customer. EXPIRED: a time limit passed."""

    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    TO_VALIDATE = "TO_VALIDATE"
    VALIDATED = "VALIDATED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class PaymentFlow(StrEnum):
    """The merchant's two choices: at once or by a day, with or without a validation window (P10)."""

    IMMEDIATE = "IMMEDIATE"
    DEFERRED = "DEFERRED"
    IMMEDIATE_WITH_VALIDATION = "IMMEDIATE_WITH_VALIDATION"
    DEFERRED_WITH_VALIDATION = "DEFERRED_WITH_VALIDATION"


class Collection(StrEnum):
    """How the customer is asked: by a QR code that anyone may scan, by identifier, or by e-mail (H5)."""

    QR_CODE = "QR_CODE"
    IDENTIFIER = "IDENTIFIER"
    EMAIL = "EMAIL"


class PaymentRequestAction(StrEnum):
    """What a merchant may do with a request."""

    VALIDATE = "VALIDATE"
    CANCEL = "CANCEL"
    CHANGE_COLLECTION = "CHANGE_COLLECTION"
    PRINT = "PRINT"


class PaymentOfferAction(StrEnum):
    """What a customer may do with an offer."""

    PAY = "PAY"
    DECLINE = "DECLINE"


_STATUS = PaymentRequestStatus
LIVE: Final = (_STATUS.AWAITING_PAYMENT, _STATUS.TO_VALIDATE, _STATUS.VALIDATED)
"""The statuses in which a request holds its basket number (AP4)."""

STATUS_LABELS: Final = {
    _STATUS.AWAITING_PAYMENT: Text("En attente de paiement client", "Awaiting the customer's payment"),
    _STATUS.TO_VALIDATE: Text("À valider", "To validate"),
    _STATUS.VALIDATED: Text("Validé", "Validated"),
    _STATUS.CANCELLED: Text("Annulé", "Cancelled"),
    _STATUS.EXPIRED: Text("Expiré", "Expired"),
}
_WITH_WINDOW: Final = Text("Pré-réservation", "Pre-booking")
TYPE_LABELS: Final = {
    PaymentFlow.IMMEDIATE: Text("Paiement immédiat", "Immediate payment"),
    PaymentFlow.DEFERRED: Text("Paiement différé", "Deferred payment"),
    PaymentFlow.IMMEDIATE_WITH_VALIDATION: _WITH_WINDOW,
    PaymentFlow.DEFERRED_WITH_VALIDATION: _WITH_WINDOW,
}
"""C and D read alike (H7)."""

# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class PaymentRequest(
    Entity,
    table="payment_requests",
    prefix="preq",
    constraints=(
        sa.Index(
            "payment_requests_basket_key",
            "tenant",
            "point_of_sale_id",
            "basket_number",
            unique=True,
            postgresql_where=sa.text("status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED')"),
        ),
        sa.Index("payment_requests_list_idx", "tenant", "point_of_sale_id", "last_action_at", "id"),
        sa.Index("payment_requests_merchant_idx", "tenant", "merchant_id", "last_action_at", "id"),
        sa.Index("payment_requests_created_idx", "tenant", "point_of_sale_id", "created_at"),
        sa.Index(
            "payment_requests_customer_idx",
            "tenant",
            "customer_id",
            postgresql_where=sa.text("customer_id IS NOT NULL"),
        ),
        sa.CheckConstraint("amount_requested > 0", name="amount_requested"),
        sa.CheckConstraint("amount_paid > 0 AND amount_paid <= amount_requested", name="amount_paid"),
        sa.CheckConstraint("amount_validated > 0 AND amount_validated <= amount_paid", name="amount_validated"),
        sa.CheckConstraint("(status IN ('TO_VALIDATE', 'VALIDATED')) <= (amount_paid IS NOT NULL)", name="paid"),
    ),
    options={"fillfactor": 80},
):
    """A merchant's request for money. Amounts are cents. `payment_deadline` and `validation_deadline` are exclusive
    instants; `token` stands in the QR code or the mail's link, for the amount that the server knows (P20)."""

    flow: PaymentFlow
    status: PaymentRequestStatus
    merchant_id: UUID = column(references="merchants")
    point_of_sale_id: UUID = column(references="points_of_sale")
    basket_number: str
    amount_requested: int
    amount_paid: int | None = None
    amount_validated: int | None = None
    collection: Collection
    token: str = column(unique=True)
    transaction_number: str = column(unique=True)
    payment_due_on: date | None = None
    payment_deadline: datetime
    validation_days: int | None = None
    validation_deadline: datetime | None = None
    label: str | None = None
    customer_reference: str | None = None
    seller_identifier: str | None = None
    customer_identifier: str | None = None
    customer_id: UUID | None = column(default=None, references="holders")
    notify_email: str | None = None
    created_by: UUID = column(references="users")
    payer_id: UUID | None = column(default=None, references="holders")
    reservation_id: UUID | None = column(default=None, references="transfers")
    created_at: datetime
    paid_at: datetime | None = None
    last_action_at: datetime
    version: int = 0

    @property
    def may_be_lowered(self) -> bool:
        """Whether the customer may pay a part: in A, C and D, never in B (P23, H6)."""
        return self.flow is not PaymentFlow.DEFERRED

    @property
    def has_window(self) -> bool:
        """Whether the merchant validates what was paid."""
        return self.validation_days is not None

    @property
    def amount_received(self) -> int | None:
        """What the merchant has or will have: null until money came, and when it went back (H10)."""
        if self.status is PaymentRequestStatus.VALIDATED:
            return self.amount_validated
        return self.amount_paid if self.status is PaymentRequestStatus.TO_VALIDATE else None

    @property
    def amount_remaining(self) -> int | None:
        """What the customer settles by other means, once it has paid (P23)."""
        return None if self.amount_paid is None else self.amount_requested - self.amount_paid

    @property
    def held_account(self) -> DerivedAccount:
        """Where a reserved payment stands."""
        return held_account_of(self.merchant_id)

    @property
    def merchant_account(self) -> DerivedAccount:
        """Where a validated payment goes."""
        return merchant_account_of(self.merchant_id)


LIFE: Final = Lifecycle(
    PaymentRequest,
    {
        ("pay", _STATUS.AWAITING_PAYMENT): _STATUS.VALIDATED,
        ("reserve", _STATUS.AWAITING_PAYMENT): _STATUS.TO_VALIDATE,
        ("validate", _STATUS.TO_VALIDATE): _STATUS.VALIDATED,
        ("change_collection", _STATUS.AWAITING_PAYMENT): _STATUS.AWAITING_PAYMENT,
        ("decline", _STATUS.AWAITING_PAYMENT): _STATUS.CANCELLED,
        ("cancel", _STATUS.AWAITING_PAYMENT): _STATUS.CANCELLED,
        ("cancel", _STATUS.TO_VALIDATE): _STATUS.CANCELLED,
        ("expire", _STATUS.AWAITING_PAYMENT): _STATUS.EXPIRED,
        ("expire", _STATUS.TO_VALIDATE): _STATUS.EXPIRED,
    },
    lapses={
        _STATUS.AWAITING_PAYMENT: Lapse("payment_deadline", _STATUS.EXPIRED, "expire"),
        _STATUS.TO_VALIDATE: Lapse("validation_deadline", _STATUS.EXPIRED, "expire"),
    },
    too_late=Text("Cette demande de paiement a expiré.", "This payment request has expired."),
    labels=STATUS_LABELS,
)
"""The customer's payment is the verb `pay` without a validation window (P24) and `reserve` with one."""


class RememberedEmail(
    Row, table="remembered_emails", key=("user_id", "point_of_sale_id"), app="SELECT, INSERT, UPDATE, DELETE"
):
    """Where a user last asked to be told, at a point of sale (P13)."""

    user_id: UUID = column(references="users")
    point_of_sale_id: UUID = column(references="points_of_sale")
    email: str


@dataclass(frozen=True, slots=True)
class PaymentOffer:
    """What a customer sees of a request. The names may be left to be read when they are asked for."""

    request: PaymentRequest
    merchant_name: str | None = None
    point_of_sale_name: str | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """The two counters above the list (P7)."""

    to_validate: int
    awaiting_payment: int


TOKEN_BITS: Final = 128
"""A payment token opens nothing but an offer: short enough for a small QR code, too long to be guessed."""

WARNING: Final = timedelta(hours=24)
"""How long before the end of the validation window the merchant is warned (P13, AP7)."""

# ── deeds, in the order of life ───────────────────────────────────────────────────────────────────────────────────────


async def create(
    work: Work,
    actor: Actor,
    *,
    point_of_sale_id: UUID,
    amount: str,
    basket_number: str,
    customer_identifier: str | None = None,
    payment_deadline: date | None = None,
    validation_days: int | None = None,
    notify_email: str | None = None,
    remember_email: bool | None = None,
    label: str | None = None,
    customer_reference: str | None = None,
    seller_identifier: str | None = None,
) -> PaymentRequest:
    """The merchant asks for money (P10–P18); `payment_deadline` is the last civil day of a deferred request (H1).

    Raises Refused: AMOUNT_TOO_LOW under the issuer's minimum (P14), INVALID for a missing or wrong field,
    ALREADY_EXISTS with the next free number when the basket number is in use at this point of sale (P15, AP4)."""
    actor.require("createPaymentRequest")
    cents = money.cents(amount, "input.amount")
    basket_number = fields.line(basket_number, "input.basketNumber", longest=40)
    flow = _FLOWS[payment_deadline is not None, validation_days is not None]
    identifier, collection = _collection(flow, customer_identifier)
    notify_email = fields.email(notify_email, "input.notifyEmail")

    point_of_sale, namesake = await work.take(
        PointOfSale.by(id=point_of_sale_id),
        PaymentRequest.maybe(
            point_of_sale_id=point_of_sale_id, basket_number=basket_number, status=tuple(map(str, LIVE))
        ),
    )
    actor.require_at(point_of_sale.merchant_id, point_of_sale.id, Right.COLLECT)
    rules = Issuer.from_row((await work.read(sa.select(*Issuer.selected())))[0])
    if cents < rules.minimum_amount:
        raise Refused(
            RefusalCode.AMOUNT_TOO_LOW,
            Text("Le montant minimum est de {minimum}.", "The minimum amount is {minimum}."),
            field="input.amount",
            minimum=money.shown(rules.minimum_amount),
        )
    _check_days(rules, calendar.today(work.now), payment_deadline, validation_days)
    if namesake is not None:
        if not LIFE.allows(namesake, "expire", work.now):
            raise Refused(
                RefusalCode.ALREADY_EXISTS,
                Text(
                    "Ce numéro de panier est déjà utilisé ; le prochain numéro libre est {next}.",
                    "This basket number is already in use; the next free one is {next}.",
                ),
                field="input.basketNumber",
                next=await _next_basket_number(work, point_of_sale.id),
            )
        await _give_back_and_move(work, namesake, "expire")
        work.note("expire", namesake, point_of_sale_id=namesake.point_of_sale_id)
        await work.flush()
    payable_until = (
        work.now + timedelta(minutes=rules.immediate_minutes)
        if payment_deadline is None
        else calendar.end_of_day(payment_deadline)
    )
    request = work.create(
        PaymentRequest(
            tenant=work.tenant,
            id=new_id(),
            flow=flow,
            status=PaymentRequestStatus.AWAITING_PAYMENT,
            merchant_id=point_of_sale.merchant_id,
            point_of_sale_id=point_of_sale.id,
            basket_number=basket_number,
            amount_requested=cents,
            collection=collection,
            token=new_token(work.tenant, bits=TOKEN_BITS),
            transaction_number=transaction_number(),
            payment_due_on=payment_deadline,
            payment_deadline=payable_until,
            validation_days=validation_days,
            label=fields.optional_line(label, "input.label"),
            customer_reference=fields.optional_line(customer_reference, "input.customerReference"),
            seller_identifier=fields.optional_line(seller_identifier, "input.sellerIdentifier"),
            customer_identifier=identifier,
            customer_id=await _customer(work, identifier),
            notify_email=notify_email,
            created_by=_user(actor),
            created_at=work.now,
            last_action_at=work.now,
        )
    )
    await _remember_email(work, actor, point_of_sale.id, notify_email, remember_email)
    work.deadline(request, "expire", payable_until)
    if collection is not Collection.QR_CODE:
        work.tell(Notice("payment_asked", request))
    return work.note("create", request, amount=cents, point_of_sale_id=point_of_sale.id)


async def change_collection(
    work: Work, actor: Actor, request_id: UUID, customer_identifier: str | None = None
) -> PaymentRequest:
    """The customer is asked in another way; the old QR code is dead at once (P19)."""
    actor.require("changePaymentCollection")
    request = await _take_own(work, actor, request_id, Right.COLLECT)
    identifier, collection = _collection(request.flow, customer_identifier)

    work.move(
        request,
        "change_collection",
        collection=collection,
        customer_identifier=identifier,
        customer_id=await _customer(work, identifier),
        token=new_token(work.tenant, bits=TOKEN_BITS),
        last_action_at=work.now,
    )
    if collection is not Collection.QR_CODE:
        work.tell(Notice("payment_asked", request))
    return work.note("change_collection", request, point_of_sale_id=request.point_of_sale_id)


async def pay(work: Work, actor: Actor, token: str, amount: str | None = None) -> PaymentRequest:
    """The customer pays, all or part (P23, P24); with a validation window the merchant now has its days (P12, H8).

    Raises Refused: NOT_FOUND for a token that nothing bears, TOO_LATE from the deadline on (P25), WRONG_STATE when
    it is no longer asked for (P20), INVALID or AMOUNT_TOO_HIGH for the amount, INSUFFICIENT_FUNDS."""
    actor.require("payPaymentRequest")
    assert actor.holder_id is not None, "a holder's user has a wallet"
    given = None if amount is None else money.cents(amount, "input.amount")
    request, wallet = await work.take(PaymentRequest.by(token=token), Balance.by(account_id=wallet_of(actor.holder_id)))
    if request.customer_id not in (None, actor.holder_id):
        raise Refused.not_found()
    verb = "reserve" if request.has_window else "pay"
    if request.status in (_STATUS.VALIDATED, _STATUS.TO_VALIDATE):
        raise Refused(
            RefusalCode.WRONG_STATE, Text("Cette demande est déjà payée.", "This request has already been paid.")
        )
    work.require(request, verb)
    cents = request.amount_requested if given is None else given
    _check_paid_amount(request, cents)
    if wallet.available < cents:
        raise Refused(
            RefusalCode.INSUFFICIENT_FUNDS,
            Text("Votre solde est de {available}.", "Your balance is {available}."),
            field="input.amount",
            available=money.shown(wallet.available),
        )

    paid = {"amount_paid": cents, "payer_id": actor.holder_id, "paid_at": work.now, "last_action_at": work.now}
    work.no_longer(request, "expire")
    if request.validation_days is None:
        work.move(request, verb, **paid, amount_validated=cents)
        work.transfer(request, wallet, request.merchant_account, cents, "payment")
    else:
        last_day = calendar.today(work.now) + timedelta(days=request.validation_days)
        ends_at = calendar.end_of_day(last_day)
        reservation = work.reserve(request, wallet, request.held_account, cents, "payment")
        work.move(request, verb, **paid, validation_deadline=ends_at, reservation_id=reservation)
        work.deadline(request, "warn", max(work.now, ends_at - WARNING))
        work.deadline(request, "expire", ends_at)
    work.tell(Notice("payment_received", request))
    return work.note("pay", request, amount=cents, point_of_sale_id=request.point_of_sale_id, holder_id=actor.holder_id)


async def decline(work: Work, actor: Actor, token: str) -> PaymentRequest:
    """The customer will not pay; the merchant is told (P31)."""
    actor.require("declinePaymentRequest")
    request = await work.take(PaymentRequest.by(token=token))
    if request.customer_id not in (None, actor.holder_id):
        raise Refused.not_found()
    work.move(request, "decline", last_action_at=work.now)
    work.no_longer(request, "expire")
    work.tell(Notice("payment_declined", request))
    return work.note("decline", request, point_of_sale_id=request.point_of_sale_id, holder_id=actor.holder_id)


async def validate(work: Work, actor: Actor, request_id: UUID, amount: str | None = None) -> PaymentRequest:
    """The merchant takes the money, all of it or less; the rest goes back to the customer (P26)."""
    actor.require("validatePaymentRequest")
    given = None if amount is None else money.cents(amount, "input.amount")
    request = await _take_own(work, actor, request_id, Right.VALIDATE)
    wallet = await _take_payers_wallet(work, request)
    work.require(request, "validate")
    assert request.amount_paid is not None and request.reservation_id is not None and wallet is not None, "it was paid"
    cents = request.amount_paid if given is None else given
    if cents <= 0:
        raise Refused.invalid(
            "input.amount",
            "Le montant doit être supérieur à zéro ; pour tout rendre, annulez l’opération.",
            "The amount must be more than zero; to give it all back, cancel the operation.",
        )
    if cents > request.amount_paid:
        raise Refused(
            RefusalCode.AMOUNT_TOO_HIGH,
            Text(
                "Le montant reçu est de {paid} : il peut être abaissé, jamais augmenté.",
                "The amount received is {paid}: it may be lowered, never raised.",
            ),
            field="input.amount",
            paid=money.shown(request.amount_paid),
        )

    rest = request.amount_paid - cents
    work.move(request, "validate", amount_validated=cents, last_action_at=work.now)
    work.post(
        request,
        request.reservation_id,
        request.held_account,
        request.merchant_account,
        cents,
        wallet,
        rest,
        "validation",
    )
    work.no_longer(request, "warn", "expire")
    work.tell(Notice("payment_validated", request))
    return work.note(
        "validate", request, amount=cents, point_of_sale_id=request.point_of_sale_id, holder_id=request.payer_id
    )


async def cancel(work: Work, actor: Actor, request_id: UUID) -> PaymentRequest:
    """The merchant gives up a request that waits (P28), or gives back what was paid and waits for validation (P27)."""
    actor.require("cancelPaymentRequest")
    request = await _take_own(work, actor, request_id, None)
    actor.require_at(
        request.merchant_id, request.point_of_sale_id, Right.VALIDATE if request.reservation_id else Right.COLLECT
    )
    await _give_back_and_move(work, request, "cancel")
    return work.note("cancel", request, point_of_sale_id=request.point_of_sale_id, holder_id=request.payer_id)


# ── what its deadlines do ─────────────────────────────────────────────────────────────────────────────────────────────


@when_due(PaymentRequest, "expire")
async def expire(work: Work, actor: Actor, request_id: UUID) -> PaymentRequest | None:
    """A time limit has passed: nobody pays any more (P25, AP5); what was paid and not validated goes back (AP1)."""
    request = await work.take(PaymentRequest.by(id=request_id))
    if not LIFE.allows(request, "expire", work.now):
        return None
    await _give_back_and_move(work, request, "expire")
    return work.note("expire", request, point_of_sale_id=request.point_of_sale_id, holder_id=request.payer_id)


@when_due(PaymentRequest, "warn")
async def warn(work: Work, actor: Actor, request_id: UUID) -> PaymentRequest | None:
    """The validation window ends in 24 hours: the merchant is told (P13, AP7)."""
    request = await work.take(PaymentRequest.by(id=request_id))
    work.no_longer(request, "warn")
    if not LIFE.allows(request, "validate", work.now):
        return None
    work.tell(Notice("validation_ends_soon", request))
    return work.note("warn", request, point_of_sale_id=request.point_of_sale_id)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def requests(
    actor: Actor, point_of_sale_id: UUID | None = None, where: PaymentRequestFilter | None = None
) -> sa.Select[Any]:
    """The requests this actor sees, as they are now (P25), each with its point of sale's columns behind its own."""
    table = PaymentRequest.table.c
    question = (
        sa.select(*_as_of_now(actor.tenant), *PointOfSale.selected())
        .join(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
        .where(actor.sees(table.merchant_id, table.point_of_sale_id))
    )
    if point_of_sale_id is not None:
        question = question.where(table.point_of_sale_id == point_of_sale_id)
    return question.where(*_conditions(actor, where)) if where else question


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
    found = requests(actor, point_of_sale_id, others).subquery()
    status = found.c.status
    row = (
        await connection.execute(
            sa.select(
                sa.func.count().filter(status == str(_STATUS.TO_VALIDATE)),
                sa.func.count().filter(status == str(_STATUS.AWAITING_PAYMENT)),
            ).select_from(found)
        )
    ).one()
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
    return _offer_of(row) if row else None


async def offer(connection: AsyncConnection, tenant: int, token: str) -> PaymentOffer | None:
    """What the bearer of a token is asked to pay, as it is now; None for a token that nothing bears (P20)."""
    row = (await connection.execute(_offers(tenant).where(PaymentRequest.table.c.token == token))).first()
    return _offer_of(row) if row else None


def allowed_actions(request: PaymentRequest, actor: Actor) -> list[PaymentRequestAction]:
    """What this actor may do with the request as it is (P9, P28). Validated is final (AP6)."""
    rights = actor.rights_at(request.merchant_id, request.point_of_sale_id)
    actions = []
    if request.status is _STATUS.TO_VALIDATE and Right.VALIDATE in rights:
        actions = [PaymentRequestAction.VALIDATE, PaymentRequestAction.CANCEL]
    if request.status is _STATUS.AWAITING_PAYMENT and Right.COLLECT in rights:
        actions = [PaymentRequestAction.CANCEL]
        if request.payment_due_on is None:
            actions.append(PaymentRequestAction.CHANGE_COLLECTION)
        if shows_qr_code(request):
            actions.append(PaymentRequestAction.PRINT)
    return actions


def shows_qr_code(request: PaymentRequest) -> bool:
    """Whether there is a code to scan: only while the request awaits payment and is collected by QR code (P16)."""
    return request.status is _STATUS.AWAITING_PAYMENT and request.collection is Collection.QR_CODE


def allowed_offer_actions(request: PaymentRequest) -> list[PaymentOfferAction]:
    """What a customer may do with the offer as it is."""
    return list(PaymentOfferAction) if request.status is _STATUS.AWAITING_PAYMENT else []


async def suggested_basket_number(connection: AsyncConnection, actor: Actor, point_of_sale_id: UUID) -> str:
    """REF, the day, and the counter of the day: the number the next request would get (H2). Raises Refused."""
    place = (
        await connection.execute(
            sa.select(PointOfSale.table.c.merchant_id).where(PointOfSale.table.c.id == point_of_sale_id)
        )
    ).first()
    if place is None:
        raise Refused.not_found()
    actor.require_at(place[0], point_of_sale_id, Right.COLLECT)
    now = await tenant_now(connection, actor.tenant)
    return _free_number(now, (await connection.execute(_numbers_of_the_day(point_of_sale_id, now))).all())


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    if told.request.status is not _STATUS.TO_VALIDATE:
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
    if told.request.status is not _STATUS.AWAITING_PAYMENT:
        return []
    return told.to_customer(
        "payment_asked", Text("{merchant} vous demande {requested}", "{merchant} asks you for {requested}")
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

_FLOWS: Final = {
    (False, False): PaymentFlow.IMMEDIATE,
    (True, False): PaymentFlow.DEFERRED,
    (False, True): PaymentFlow.IMMEDIATE_WITH_VALIDATION,
    (True, True): PaymentFlow.DEFERRED_WITH_VALIDATION,
}


def _collection(flow: PaymentFlow, customer_identifier: str | None) -> tuple[str | None, Collection]:
    """Who must be named, and how it is asked (P16, P17, H5)."""
    if flow in (PaymentFlow.DEFERRED, PaymentFlow.DEFERRED_WITH_VALIDATION):
        return fields.required_email(customer_identifier, "input.customerIdentifier"), Collection.EMAIL
    if flow is PaymentFlow.IMMEDIATE_WITH_VALIDATION or customer_identifier is not None:
        return fields.line(customer_identifier, "input.customerIdentifier", longest=254), Collection.IDENTIFIER
    return None, Collection.QR_CODE


def _check_days(rules: Issuer, today: date, payment_deadline: date | None, validation_days: int | None) -> None:
    """The limits of both delays (P11, AP2)."""
    if payment_deadline is not None and not 1 <= (payment_deadline - today).days <= rules.maximum_payment_days:
        raise Refused.invalid(
            "input.paymentDeadline",
            "La date limite doit être comprise entre demain et {days} jours.",
            "The deadline must be between tomorrow and {days} days from now.",
            days=rules.maximum_payment_days,
        )
    if validation_days is not None and not 1 <= validation_days <= rules.maximum_validation_days:
        raise Refused.invalid(
            "input.validationDays",
            "Le délai de validation est de 1 à {days} jours.",
            "The validation time is from 1 to {days} days.",
            days=rules.maximum_validation_days,
        )


def _check_paid_amount(request: PaymentRequest, cents: int) -> None:
    if cents <= 0:
        raise Refused.invalid(
            "input.amount", "Le montant doit être supérieur à zéro.", "The amount must be more than zero."
        )
    if cents > request.amount_requested:
        raise Refused(
            RefusalCode.AMOUNT_TOO_HIGH,
            Text("Le montant demandé est de {requested}.", "The amount requested is {requested}."),
            field="input.amount",
            requested=money.shown(request.amount_requested),
        )
    if cents < request.amount_requested and not request.may_be_lowered:
        raise Refused(
            RefusalCode.AMOUNT_TOO_LOW,
            Text("Cette demande se paie en entier : {requested}.", "This request is to be paid in full: {requested}."),
            field="input.amount",
            requested=money.shown(request.amount_requested),
        )


async def _take_own(work: Work, actor: Actor, request_id: UUID, right: Right | None) -> PaymentRequest:
    """The request of a merchant's user; NOT_FOUND where it sees none, FORBIDDEN where it lacks the right."""
    request = await work.take(PaymentRequest.by(id=request_id))
    actor.require_at(request.merchant_id, request.point_of_sale_id, right)
    return request


async def _take_payers_wallet(work: Work, request: PaymentRequest) -> Balance | None:
    """The wallet that reserved money may go back to, when there is any."""
    if request.reservation_id is None or request.payer_id is None:
        return None
    return await work.take(Balance.by(account_id=wallet_of(request.payer_id)))


async def _give_back_and_move(work: Work, request: PaymentRequest, verb: str) -> None:
    """The request ends without the merchant's money: what was reserved goes back to the customer."""
    wallet = await _take_payers_wallet(work, request)
    work.require(request, verb)
    if wallet is not None and request.status is _STATUS.TO_VALIDATE:
        assert request.reservation_id is not None and request.amount_paid is not None, "it was paid"
        work.void(request, request.reservation_id, request.held_account, wallet, request.amount_paid, verb)
        work.tell(Notice("payment_returned", request))
    work.move(request, verb, last_action_at=work.now)
    work.no_longer(request, "warn", "expire")


async def _customer(work: Work, identifier: str | None) -> UUID | None:
    """The holder that an identifier or e-mail names; None when unknown, which nobody is told (AP10)."""
    if identifier is None:
        return None
    table = Holder.table.c
    found = await work.read(
        sa.select(table.id)
        .where(sa.or_(table.reference == identifier, sa.func.lower(table.email) == identifier.lower()))
        .order_by((table.reference == identifier).desc())
        .limit(2)
    )
    return found[0][0] if found else None


async def _remember_email(
    work: Work, actor: Actor, point_of_sale_id: UUID, email: str | None, remember: bool | None
) -> None:
    """Where this user wants to be told next time at this point of sale; unticked, it is forgotten (P13)."""
    if remember is None:
        return
    user_id = _user(actor)
    remembered = await work.take(RememberedEmail.maybe(user_id=user_id, point_of_sale_id=point_of_sale_id))
    if not remember or email is None:
        if remembered is not None:
            work.remove(remembered)
    elif remembered is None:
        work.add(RememberedEmail(tenant=work.tenant, user_id=user_id, point_of_sale_id=point_of_sale_id, email=email))
    else:
        work.change(remembered, email=email)


def _user(actor: Actor) -> UUID:
    assert actor.user_id is not None, "only users ask for payments"
    return actor.user_id


async def _next_basket_number(work: Work, point_of_sale_id: UUID) -> str:
    return _free_number(work.now, await work.read(_numbers_of_the_day(point_of_sale_id, work.now)))


def _numbers_of_the_day(point_of_sale_id: UUID, now: datetime) -> sa.Select[Any]:
    """The basket numbers that are in use at a point of sale, with whether each was made today."""
    table = PaymentRequest.table.c
    today = calendar.today(now)
    made_today = table.created_at >= calendar.start_of_day(today)
    in_use = table.basket_number.startswith(_number(today, ""), autoescape=True) & table.status.in_(map(str, LIVE))
    return sa.select(table.basket_number, made_today, table.status.in_(map(str, LIVE))).where(
        table.point_of_sale_id == point_of_sale_id, made_today | in_use
    )


def _free_number(now: datetime, numbers: Sequence[Any]) -> str:
    """One more than was asked today, or the next that is not in use (H2, AP4)."""
    used = {number for number, _, in_use in numbers if in_use}
    counter = 1 + sum(1 for _, made_today, _ in numbers if made_today)
    while _number(calendar.today(now), counter) in used:
        counter += 1
    return _number(calendar.today(now), counter)


def _number(day: date, counter: int | str) -> str:
    return f"REF{day:%Y%m%d}{counter}"


def _now(tenant: int) -> sa.ScalarSelect[datetime]:
    """The tenant's clock; a question of its own, so that it is read once and not for each row."""
    return sa.select(sa.func.tenant_clock(tenant)).scalar_subquery()


def _as_of_now(tenant: int) -> list[sa.ColumnElement[Any]]:
    """A request's columns, its status as it is at this instant."""
    status = LIFE.status_in_sql(_now(tenant)).label("status")
    return [status if name == "status" else PaymentRequest.table.c[name] for name in PaymentRequest.columns]


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
    if where.min_amount is not None:
        yield table.amount_requested >= where.min_amount
    if where.max_amount is not None:
        yield table.amount_requested <= where.max_amount


def _offers(tenant: int) -> sa.Select[Any]:
    table = PaymentRequest.table.c
    return (
        sa.select(*_as_of_now(tenant), Merchant.table.c.name, PointOfSale.table.c.name)
        .join(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
        .join(Merchant.table, Merchant.table.c.id == table.merchant_id)
    )


def _offer_of(row: sa.Row[Any]) -> PaymentOffer:
    values: Sequence[Any] = tuple(row)
    return PaymentOffer(PaymentRequest.from_row(values[:-2]), values[-2], values[-1])


@dataclass(frozen=True, slots=True)
class _Told:
    """What letters about a request say, and to whom they go."""

    request: PaymentRequest
    merchant_name: str
    point_of_sale_name: str
    merchant_email: str | None
    merchant_locale: Locale
    customer_email: str | None
    payer_identifier: str | None

    def to_merchant(self, template: str, subject: Text) -> list[Letter]:
        if self.merchant_email is None:
            return []
        link = f"/payments/{self.request.global_id}"
        return [Letter(self.merchant_email, self.merchant_locale, subject, template, self._facts(), link)]

    def to_customer(self, template: str, subject: Text) -> list[Letter]:
        if self.customer_email is None:
            return []
        return [Letter(self.customer_email, Locale.FR, subject, template, self._facts(), f"/p/{self.request.token}")]

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
            "deadline": calendar.shown_instant(request.payment_deadline),
            "due_on": calendar.shown_day(calendar.last_day_before(request.payment_deadline)),
        }
        if paid is not None and request.paid_at is not None:
            facts |= {
                "amount": money.shown(paid),
                "remaining": money.shown(request.amount_requested - paid),
                "at": calendar.shown_instant(request.paid_at),
            }
        if paid is not None and request.amount_validated is not None:
            facts |= {
                "validated": money.shown(request.amount_validated),
                "returned": money.shown(paid - request.amount_validated),
            }
        if request.validation_deadline is not None:
            facts["validate_by"] = calendar.shown_day(calendar.last_day_before(request.validation_deadline))
        return facts


async def _told(connection: AsyncConnection, tenant: int, request_id: UUID) -> _Told:
    payer, customer = Holder.table.alias("payer"), Holder.table.alias("customer")
    table = PaymentRequest.table.c
    row = (
        await connection.execute(
            sa.select(
                *_as_of_now(tenant),
                Merchant.table.c.name,
                PointOfSale.table.c.name,
                sa.func.coalesce(table.notify_email, User.table.c.email),
                User.table.c.locale,
                sa.func.coalesce(
                    payer.c.email,
                    customer.c.email,
                    sa.case((table.customer_identifier.contains("@"), table.customer_identifier)),
                ),
                payer.c.reference,
            )
            .join(Merchant.table, Merchant.table.c.id == table.merchant_id)
            .join(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
            .join(User.table, User.table.c.id == table.created_by)
            .outerjoin(payer, payer.c.id == table.payer_id)
            .outerjoin(customer, customer.c.id == table.customer_id)
            .where(table.id == request_id)
        )
    ).one()
    width = len(PaymentRequest.columns)
    told: Sequence[Any] = tuple(row)
    merchant_name, place, merchant_email, locale, customer_email, payer_reference = told[width:]
    request = PaymentRequest.from_row(told[:width])
    return _Told(
        request, merchant_name, place, merchant_email, Locale(locale or Locale.FR), customer_email, payer_reference
    )
