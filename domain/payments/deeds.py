"""What is done with payment requests, in the order of life, and what their deadlines do."""

from datetime import date, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain import calendar, fields, money, push
from domain.access import Actor, Right
from domain.codes import new_id, new_token, transaction_number
from domain.deadlines import when_due
from domain.errors import RefusalCode, Refused
from domain.ledger import Balance, wallet_of
from domain.notices import Notice
from domain.parties import Holder, Issuer, Merchant, PointOfSale
from domain.payments.baskets import next_basket_number
from domain.payments.life import (
    LIFE,
    LIVE,
    TOKEN_BITS,
    WARNING,
    Collection,
    PaymentFlow,
    PaymentRequest,
    PaymentRequestStatus,
    RememberedEmail,
    is_for,
)
from domain.texts import Text
from domain.work import Work

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

    namesake = await work.take(
        PaymentRequest.maybe(
            point_of_sale_id=point_of_sale_id, basket_number=basket_number, status=tuple(map(str, LIVE))
        )
    )
    rules, merchant, point_of_sale = await _rules_at(work, point_of_sale_id)
    actor.require_at(merchant.id, point_of_sale.id, Right.COLLECT)
    if not merchant.active:
        raise Refused(
            RefusalCode.FORBIDDEN,
            Text("Ce commerçant ne peut plus encaisser.", "This merchant may no longer collect."),
            field="input.pointOfSaleId",
        )
    if cents < rules.minimum_amount:
        raise Refused(
            RefusalCode.AMOUNT_TOO_LOW,
            Text("Le montant minimum est de {minimum}.", "The minimum amount is {minimum}."),
            field="input.amount",
            minimum=money.shown(rules.minimum_amount),
        )
    _check_days(rules, calendar.today(work.now), payment_deadline, validation_days)
    await _remember_email(work, actor, point_of_sale.id, notify_email, remember_email)
    if namesake is not None:
        if not LIFE.allows(namesake, "expire", work.now):
            raise Refused(
                RefusalCode.ALREADY_EXISTS,
                Text(
                    "Ce numéro de panier est déjà utilisé ; le prochain numéro libre est {next}.",
                    "This basket number is already in use; the next free one is {next}.",
                ),
                field="input.basketNumber",
                next=await next_basket_number(work, point_of_sale.id),
            )
        await _give_back_and_move(work, namesake, "expire")
        work.note("expire", namesake, point_of_sale_id=namesake.point_of_sale_id, holder_id=namesake.payer_id)
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
            merchant_id=merchant.id,
            point_of_sale_id=point_of_sale.id,
            basket_number=basket_number,
            amount_requested=cents,
            collection=collection,
            token=new_token(work.tenant, bits=TOKEN_BITS),
            transaction_number=transaction_number(),
            payment_due_on=payment_deadline,
            payment_deadline=payable_until,
            validation_days=validation_days,
            auto_validation=validation_days is not None and merchant.auto_validation,
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
    work.deadline(request, "expire", payable_until)
    await _ask_customer(work, request)
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
    await _ask_customer(work, request)
    return work.note("change_collection", request, point_of_sale_id=request.point_of_sale_id)


async def pay(work: Work, actor: Actor, token: str, amount: str | None = None) -> PaymentRequest:
    """The customer pays, all or part (P23, P24); with a validation window the merchant now has its days (P12, H8).

    Raises Refused: NOT_FOUND for a token that nothing bears, TOO_LATE from the deadline on (P25), WRONG_STATE when
    it is no longer asked for (P20), INVALID or AMOUNT_TOO_HIGH for the amount, INSUFFICIENT_FUNDS."""
    actor.require("payPaymentRequest")
    assert actor.holder_id is not None, "a holder's user has a wallet"
    given = None if amount is None else money.cents(amount, "input.amount")
    request, wallet = await work.take(PaymentRequest.by(token=token), Balance.by(account_id=wallet_of(actor.holder_id)))
    if not is_for(request, actor.holder_id):
        raise Refused.not_found()
    verb = "reserve" if request.has_window else "pay"
    if LIFE.status_at(request, work.now) in (PaymentRequestStatus.VALIDATED, PaymentRequestStatus.TO_VALIDATE):
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
    if not is_for(request, actor.holder_id):
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
    assert request.amount_paid is not None and wallet is not None, "it was paid"
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

    return await _post_and_move(work, request, "validate", wallet, cents)


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
    """A time limit has passed: nobody pays any more (P25, AP5); what was paid and not validated goes back, or is
    validated whole where the merchant has chosen so (AP1)."""
    request = await work.take(PaymentRequest.by(id=request_id))
    if LIFE.allows(request, "auto_validate", work.now):
        wallet = await _take_payers_wallet(work, request)
        assert request.amount_paid is not None and wallet is not None, "it was paid"
        return await _post_and_move(work, request, "auto_validate", wallet, request.amount_paid)
    if not LIFE.allows(request, "expire", work.now):
        return None
    await _give_back_and_move(work, request, "expire")
    return work.note("expire", request, point_of_sale_id=request.point_of_sale_id, holder_id=request.payer_id)


@when_due(PaymentRequest, "warn")
async def warn(work: Work, actor: Actor, request_id: UUID) -> PaymentRequest | None:
    """The validation window ends in 24 hours: the merchant is told (P13), or as soon as the issuer's hours for warnings
    have come (AP7)."""
    request = await work.take(PaymentRequest.by(id=request_id))
    if request.validation_deadline is not None and work.now < request.validation_deadline - WARNING:
        return None
    if not LIFE.allows(request, "validate", work.now):
        work.no_longer(request, "warn")
        return None
    rules, _, _ = await _rules_at(work, request.point_of_sale_id)
    opens_at = calendar.next_within(work.now, rules.warning_from_hour, rules.warning_until_hour)
    # A warning that would come after the end of the window matters more than the hour.
    if request.validation_deadline is not None and work.now < opens_at < request.validation_deadline:
        work.deadline(request, "warn", opens_at)
        return request
    work.no_longer(request, "warn")
    work.tell(Notice("validation_ends_soon", request))
    return work.note("warn", request, point_of_sale_id=request.point_of_sale_id)


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


_RULES_AT: Final = (
    sa.select(*Issuer.selected(), *Merchant.selected(), *PointOfSale.selected())
    .select_from(PointOfSale.table)
    .join(Merchant.table, Merchant.table.c.id == PointOfSale.table.c.merchant_id)
    .join(Issuer.table, sa.true())
    .where(PointOfSale.table.c.id == sa.bindparam("point_of_sale_id"))
)


async def _rules_at(work: Work, point_of_sale_id: UUID) -> tuple[Issuer, Merchant, PointOfSale]:
    """What the issuer and the merchant have chosen, and the place. It is not locked: a till that asks does not wait for
    another's request. Raises Refused (NOT_FOUND)."""
    rows = await work.read(_RULES_AT, point_of_sale_id=point_of_sale_id)
    if not rows:
        raise Refused.not_found()
    row = tuple(rows[0])
    issuer, merchant = len(Issuer.columns), len(Issuer.columns) + len(Merchant.columns)
    return Issuer.from_row(row[:issuer]), Merchant.from_row(row[issuer:merchant]), PointOfSale.from_row(row[merchant:])


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


async def _post_and_move(work: Work, request: PaymentRequest, verb: str, wallet: Balance, cents: int) -> PaymentRequest:
    """The request ends with the merchant's money; what it leaves of it goes back to the customer."""
    assert request.amount_paid is not None and request.reservation_id is not None, "it was paid"
    work.move(request, verb, amount_validated=cents, last_action_at=work.now)
    work.post(
        request,
        request.reservation_id,
        request.held_account,
        request.merchant_account,
        cents,
        wallet,
        request.amount_paid - cents,
        "validation" if verb == "validate" else "auto_validation",
    )
    work.no_longer(request, "warn", "expire")
    work.tell(Notice("payment_validated", request))
    return work.note(verb, request, amount=cents, point_of_sale_id=request.point_of_sale_id, holder_id=request.payer_id)


async def _give_back_and_move(work: Work, request: PaymentRequest, verb: str) -> None:
    """The request ends without the merchant's money: what was reserved goes back to the customer."""
    wallet = await _take_payers_wallet(work, request)
    work.require(request, verb)
    if wallet is not None and request.status is PaymentRequestStatus.TO_VALIDATE:
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
        sa.select(table.id, table.reference)
        .where(sa.or_(table.reference == identifier, sa.func.lower(table.email) == identifier.lower()))
        .order_by((table.reference == identifier).desc())
        .limit(2)
    )
    # An address that two holders share names neither: the mail reaches both, and either may pay.
    return found[0][0] if len(found) == 1 or (found and found[0][1] == identifier) else None


async def _ask_customer(work: Work, request: PaymentRequest) -> None:
    """The customer who is named is told, by mail and on its devices (P22)."""
    if request.collection is not Collection.QR_CODE:
        asked = Notice("payment_asked", request)
        work.tell(asked)
        await push.tell_devices(work, asked, request.customer_id)


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
