"""Payment requests: the merchant's and the customer's sides, live."""

import base64
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast
from uuid import UUID

import strawberry

from api import access as who
from api import parties as shown
from api.context import Context
from api.shapes import (
    Connection,
    DecimalText,
    Info,
    Money,
    Node,
    PageOf,
    described,
    field,
    find,
    find_mentioned,
    finds,
    id_of,
    in_language,
    mutation,
    page,
    question,
    result,
    view,
)
from api.transport import Rejected
from domain import access, calendar, codes, journal, money, parties, payments
from domain.errors import Refused
from domain.texts import Locale

PaymentRequestStatus = described(payments.PaymentRequestStatus)
PaymentRequestAction = described(payments.PaymentRequestAction)
PaymentOfferAction = described(payments.PaymentOfferAction)
PaymentFlow = described(payments.PaymentFlow)
PaymentRequestOrder = described(payments.PaymentRequestOrder)
Collection = described(payments.Collection)

_REMEMBERED = 1_000
"""How many requests a live list remembers to have told."""

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class QrCodeOf:
    """What a QR code stands for."""

    url: str


@view(QrCodeOf, "A QR code, in three renderings of the same token. It holds no amount: the server knows it (P20).")
class QrCode:
    """A view of QrCodeOf."""

    url: str = field("What the code says; it opens the pay page.")

    @strawberry.field(description="A picture for screens, of any size, with its quiet zone on white.")
    def svg(self) -> str:
        return codes.qr_svg(cast(QrCodeOf, self).url)

    @strawberry.field(description="A picture for print and mail: PNG, in base64.")
    def png_base64(self) -> str:
        return base64.b64encode(codes.qr_png(cast(QrCodeOf, self).url)).decode()


@view(journal.JournalLine, "One immutable line of the journal: every change writes one, in the same transaction.")
class JournalEntry(Node):
    """A view of domain.journal.JournalLine."""

    sequence: str = strawberry.field(
        description="Its place in the journal; it grows.", resolver=lambda root: str(root.sequence), graphql_type=str
    )
    kind: str = field("What happened: “preq.pay”.")
    at: datetime = field("When.")
    amount: Money | None = field("How much, when it is about an amount.")

    @strawberry.field(
        description="Who did it; null for the clock, and to those who may not know.", graphql_type=who.User | None
    )
    async def by(self, info: Info) -> object | None:
        user_id = cast(journal.JournalLine, self).user_id
        return await find(info.context, access.User.prefix, user_id) if user_id else None

    @strawberry.field(description="Where.", graphql_type=shown.PointOfSale | None)
    async def point_of_sale(self, info: Info) -> object | None:
        place = cast(journal.JournalLine, self).point_of_sale_id
        return await find(info.context, parties.PointOfSale.prefix, place) if place else None

    @strawberry.field(description="Whose value; null to those who may not know.", graphql_type=shown.Holder | None)
    async def holder(self, info: Info) -> object | None:
        holder_id = cast(journal.JournalLine, self).holder_id
        return await find(info.context, parties.Holder.prefix, holder_id) if holder_id else None

    @strawberry.field(description="What it is about.", graphql_type=Node)
    async def subject(self, info: Info) -> object | None:
        line = cast(journal.JournalLine, self)
        return await find_mentioned(info.context, line.subject_kind, line.subject_id)


@view(
    payments.PaymentRequest,
    "A merchant's request for money. Stored, not guessed: its flow, its deadlines, its amounts.",
)
class PaymentRequest(Node):
    """A view of domain.payments.PaymentRequest."""

    flow: PaymentFlow = field("The merchant's two choices.")  # type: ignore[valid-type]
    status: PaymentRequestStatus = field("Where it stands at this instant.")  # type: ignore[valid-type]
    basket_number: str = field("The merchant's number for the basket.")
    amount_requested: Money = field("Montant demandé.")
    amount_paid: Money | None = field("What the customer paid; null until then.")
    amount_validated: Money | None = field("What the merchant keeps; null until then.")
    amount_remaining: Money | None = field("What the customer settles by other means; null until it has paid.")
    amount_received: Money | None = field("Montant reçu: null until money came, and when it went back.")
    collection: Collection = field("How the customer is asked.")  # type: ignore[valid-type]
    payment_due_on: date | None = field("The last civil day to pay, in a deferred request.")
    payment_deadline: datetime = field("The instant from which nobody can pay any more.")
    validation_days: int | None = field("Days to validate after the payment; null without a validation window.")
    validation_deadline: datetime | None = field("The instant at which the validation window ends; null until paid.")
    auto_validation: bool = field("Whether a window that ends without a decision validates all that was paid.")
    label: str | None = field("Libellé: free text of the merchant.")
    customer_reference: str | None = field("The merchant's reference for the customer.")
    seller_identifier: str | None = field("Who sold.")
    customer_identifier: str | None = field("The customer who is asked, as the merchant named it.")
    notify_email: str | None = field("Where the merchant is told what the customer does.")
    created_at: datetime = field("When it was made.")
    paid_at: datetime | None = field("When the customer paid.")
    last_action_at: datetime = field("When its state last changed (H9).")
    transaction_number: str = field("The ten characters quoted in mails: “foo2udp610”.")

    @strawberry.field(description="Where it is collected.", graphql_type=shown.PointOfSale)
    def point_of_sale(self, info: Info) -> Any:
        place = _request(self).point_of_sale_id
        return info.context.known(parties.PointOfSale, place) or info.context.point_of_sale(place)

    @strawberry.field(description="The status, for people: “À valider”.")
    def status_label(self, info: Info, locale: Locale | None = None) -> str:
        return in_language(payments.STATUS_LABELS[_request(self).status], info, locale)

    @strawberry.field(description="The type, for people: “Paiement immédiat”.")
    def type_label(self, info: Info, locale: Locale | None = None) -> str:
        return in_language(payments.TYPE_LABELS[_request(self).flow], info, locale)

    @strawberry.field(description="The last civil day to validate, to show; null until paid.")
    def validate_by(self) -> date | None:
        deadline = _request(self).validation_deadline
        return calendar.last_day_before(deadline) if deadline else None

    @strawberry.field(
        description="What the caller may do now; clients draw buttons from this, never from `status`.",
        graphql_type=list[PaymentRequestAction],  # type: ignore[valid-type]
    )
    def allowed_actions(self, info: Info) -> list[payments.PaymentRequestAction]:
        return payments.allowed_actions(_request(self), info.context.someone)

    @strawberry.field(
        description="Only while it awaits payment and is collected by QR code.", graphql_type=QrCode | None
    )
    def qr_code(self, info: Info) -> QrCodeOf | None:
        request = _request(self)
        if not payments.shows_qr_code(request):
            return None
        return QrCodeOf(f"{info.context.services.settings.public_url}/p/{request.token}")

    @strawberry.field(
        description="Everything that happened to it, newest first.", graphql_type=Connection[JournalEntry]
    )
    async def history(
        self, info: Info, first: int | None = 50, after: str | None = None
    ) -> PageOf[journal.JournalLine]:
        table = journal.JournalLine.table.c
        asked = journal.history(_request(self).id)
        return await page(info.context, asked, journal.line_of, (table.at, table.id), first=first, after=after)


@strawberry.type(description="The two counters above the list; they follow every filter but `status` (P7).")
class PaymentRequestCounters:
    """A view of domain.payments.Counters."""

    to_validate: int = field("How many are to validate.")
    awaiting_payment: int = field("How many await the customer's payment.")


@dataclass(frozen=True)
class ChangeOf:
    """A request that changed, and the counters after it."""

    payment_request: payments.PaymentRequest
    counters: payments.Counters


@view(ChangeOf, "A request that changed.")
class PaymentRequestChange:
    """A view of ChangeOf."""

    payment_request: PaymentRequest = field("As it is now.")
    counters: PaymentRequestCounters = field("As they are now.")


@dataclass(frozen=True)
class PaymentRequestPage(PageOf[payments.PaymentRequest]):
    """A page with what its counters count."""

    actor: access.Actor
    point_of_sale_id: UUID | None
    where: payments.PaymentRequestFilter | None


@strawberry.type(description="A page of payment requests.")
class PaymentRequestConnection(Connection[PaymentRequest]):
    """A view of PaymentRequestPage."""

    @strawberry.field(description="The two counters.", graphql_type=PaymentRequestCounters)
    async def counters(self, info: Info) -> payments.Counters:
        of = cast(PaymentRequestPage, self)
        async with info.context.reading() as connection:
            return await payments.counters(connection, of.actor, of.point_of_sale_id, of.where)


@view(payments.PaymentOffer, "What a customer sees before paying: no merchant secrets.")
class PaymentOffer:
    """A view of domain.payments.PaymentOffer."""

    @strawberry.field(description="Who asks.")
    async def merchant_name(self, info: Info) -> str:
        return _offer(self).merchant_name or (await _whole(info.context, _offer(self))).merchant_name or ""

    @strawberry.field(description="Where.")
    async def point_of_sale_name(self, info: Info) -> str:
        return _offer(self).point_of_sale_name or (await _whole(info.context, _offer(self))).point_of_sale_name or ""

    @strawberry.field(description="What the QR code or the link carries.")
    def token(self) -> str:
        return _offer(self).request.token

    @strawberry.field(description="What is asked.", graphql_type=Money)
    def amount(self) -> int:
        return _offer(self).request.amount_requested

    @strawberry.field(description="Whether a part may be paid (P23).")
    def can_lower_amount(self) -> bool:
        return _offer(self).request.may_be_lowered

    @strawberry.field(description="The last civil day to pay, in a deferred request.")
    def due_on(self) -> date | None:
        return _offer(self).request.payment_due_on

    @strawberry.field(description="The instant from which nobody can pay any more.")
    def pay_before(self) -> datetime:
        return _offer(self).request.payment_deadline

    @strawberry.field(description="Where it stands at this instant.", graphql_type=PaymentRequestStatus)
    def status(self) -> payments.PaymentRequestStatus:
        return _offer(self).request.status

    @strawberry.field(description="The status, for people.")
    def status_label(self, info: Info, locale: Locale | None = None) -> str:
        return in_language(payments.STATUS_LABELS[_offer(self).request.status], info, locale)

    @strawberry.field(description="Free text of the merchant.")
    def label(self) -> str | None:
        return _offer(self).request.label

    @strawberry.field(
        description="What the caller has paid; null until then, and for what somebody else has paid.",
        graphql_type=Money | None,
    )
    def amount_paid(self, info: Info) -> int | None:
        actor = info.context.actor
        return payments.paid_by(_offer(self).request, actor.holder_id if actor else None)

    @strawberry.field(
        description="What the caller may do now.",
        graphql_type=list[PaymentOfferAction],  # type: ignore[valid-type]
    )
    def allowed_actions(self, info: Info) -> list[payments.PaymentOfferAction]:
        actor = info.context.actor
        return payments.allowed_offer_actions(_offer(self).request, actor.holder_id if actor else None)


PaymentRequestResult = result("PaymentRequestResult", PaymentRequest)
PaymentOfferResult = result("PaymentOfferResult", PaymentOffer)


def _request(view_of: object) -> payments.PaymentRequest:
    return cast(payments.PaymentRequest, view_of)


def _offer(view_of: object) -> payments.PaymentOffer:
    return cast(payments.PaymentOffer, view_of)


# ── finding them again ────────────────────────────────────────────────────────────────────────────────────────────────


@finds(payments.PaymentRequest)
async def _find_request(context: Context, request_id: UUID) -> payments.PaymentRequest | None:
    async with context.reading() as connection:
        return await payments.request(connection, context.someone, request_id)


@finds(journal.JournalLine)
async def _find_journal_line(context: Context, line_id: UUID) -> journal.JournalLine | None:
    async with context.reading() as connection:
        row = (await connection.execute(journal.line(line_id))).first()
    line = journal.line_of(row) if row else None
    # Who sees the subject sees its history, and nobody else does.
    return line if line and await find(context, line.subject_kind, line.subject_id) else None


async def _read_offer(context: Context, token: str) -> payments.PaymentOffer | None:
    """The offer behind a token, for anyone who holds it: before signing in too."""
    try:
        tenant = codes.tenant_of_token(token)
    except Refused:
        return None
    if context.actor is not None and context.actor.tenant != tenant:
        return None
    async with context.services.database.reading(tenant) as connection:
        return await payments.offer(connection, tenant, token)


async def _whole(context: Context, offer: payments.PaymentOffer) -> payments.PaymentOffer:
    async with context.services.database.reading(offer.request.tenant) as connection:
        return await payments.offer_of_request(connection, offer.request.tenant, offer.request.id) or offer


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.input(description="Conditions on the list; all given ones hold together.")
class PaymentRequestFilter:
    """For `paymentRequests`."""

    status: list[PaymentRequestStatus] | None = strawberry.field(default=None, description="One of these statuses.")  # type: ignore[valid-type]
    flow: list[PaymentFlow] | None = strawberry.field(default=None, description="One of these flows.")  # type: ignore[valid-type]
    basket_number: str | None = strawberry.field(default=None, description="This basket number.")
    search: str | None = strawberry.field(
        default=None, description="In basket number, label, references, identifiers and transaction number."
    )
    since: datetime | None = strawberry.field(default=None, description="Last action at this instant or later.")
    until: datetime | None = strawberry.field(default=None, description="Last action before this instant.")
    min_amount: DecimalText | None = strawberry.field(default=None, description="Requested at least, in euros.")
    max_amount: DecimalText | None = strawberry.field(default=None, description="Requested at most, in euros.")
    collection: list[Collection] | None = strawberry.field(default=None, description="Asked in one of these ways.")  # type: ignore[valid-type]
    min_received: DecimalText | None = strawberry.field(default=None, description="Received at least, in euros.")
    max_received: DecimalText | None = strawberry.field(default=None, description="Received at most, in euros.")

    def read(self, path: str = "filter") -> payments.PaymentRequestFilter:
        """As the domain takes it. Raises Refused (INVALID), naming the field behind `path`, for an amount that is
        none."""
        return payments.PaymentRequestFilter(
            status=tuple(self.status) if self.status is not None else None,
            flow=tuple(self.flow) if self.flow is not None else None,
            basket_number=self.basket_number,
            search=self.search,
            since=self.since,
            until=self.until,
            min_amount=_cents(self.min_amount, f"{path}.minAmount"),
            max_amount=_cents(self.max_amount, f"{path}.maxAmount"),
            collection=tuple(self.collection) if self.collection is not None else None,
            min_received=_cents(self.min_received, f"{path}.minReceived"),
            max_received=_cents(self.max_received, f"{path}.maxReceived"),
        )


def _cents(text: str | None, field: str) -> int | None:
    return money.cents(text, field) if text is not None else None


@strawberry.type
class PaymentQueries:
    """Questions about payment requests."""

    @question(
        "The requests the viewer sees, by last action, newest first, or in another order.", PaymentRequestConnection
    )
    async def payment_requests(
        self,
        info: Info,
        point_of_sale_id: strawberry.ID | None = None,
        filter: PaymentRequestFilter | None = None,
        first: int | None = 50,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        order_by: PaymentRequestOrder = payments.PaymentRequestOrder.LAST_ACTION,  # type: ignore[valid-type]
    ) -> PaymentRequestPage:
        context = info.context
        place = (
            id_of(info.context, point_of_sale_id, parties.PointOfSale.prefix) if point_of_sale_id is not None else None
        )
        where = filter.read() if filter is not None else None
        columns, descending = payments.order_by(order_by)

        def read(row: Sequence[Any]) -> payments.PaymentRequest:
            request, point_of_sale = payments.request_and_place(row)
            context.remember(point_of_sale)
            return request

        found = await page(
            context,
            payments.requests(context.someone, place, where),
            read,
            columns,
            descending=descending,
            first=first,
            after=after,
            last=last,
            before=before,
        )
        return PaymentRequestPage(**vars(found), actor=context.someone, point_of_sale_id=place, where=where)

    @question("REF + day + counter of the day, as the next request would get (H2).")
    async def suggested_basket_number(self, info: Info, point_of_sale_id: strawberry.ID) -> str:
        place = id_of(info.context, point_of_sale_id, parties.PointOfSale.prefix)
        async with info.context.reading() as connection:
            return await payments.suggested_basket_number(connection, info.context.someone, place)

    @question(
        "What the customer is asked to pay by name, and what it has paid; newest first.", Connection[PaymentOffer]
    )
    async def my_payment_offers(
        self, info: Info, first: int | None = 50, after: str | None = None
    ) -> PageOf[payments.PaymentOffer]:
        context, table = info.context, payments.PaymentRequest.table.c
        asked = payments.offers_to(context.someone)
        return await page(context, asked, payments.offer_of, (table.last_action_at, table.id), first=first, after=after)

    @question("What the bearer of a token is asked to pay; null for a token that nothing bears.", PaymentOffer | None)
    async def payment_offer(self, info: Info, token: str) -> payments.PaymentOffer | None:
        return await _read_offer(info.context, token)


@strawberry.input(description="A request for money.")
class CreatePaymentRequestInput:
    """For `createPaymentRequest`."""

    point_of_sale_id: strawberry.ID = strawberry.field(description="Where it is collected.")
    amount: DecimalText = strawberry.field(description="In euros; the issuer's minimum at least (P14).")
    basket_number: str = strawberry.field(description="The merchant's number for the basket (P15).")
    customer_identifier: str | None = strawberry.field(
        default=None,
        description="Absent: a QR code is made, in an immediate request without validation only (elsewhere INVALID). "
        "Present: this customer is asked.",
    )
    payment_deadline: date | None = strawberry.field(
        default=None, description="Present: deferred payment, due by the end of that day."
    )
    validation_days: int | None = strawberry.field(
        default=None, description="Present: the merchant validates within so many days of the payment."
    )
    notify_email: str | None = strawberry.field(
        default=None, description="Where the merchant is told; absent: the e-mail of the user."
    )
    remember_email: bool | None = strawberry.field(
        default=None, description="Whether `notifyEmail` is proposed next time at this point of sale (P13)."
    )
    label: str | None = strawberry.field(default=None, description="Free text, shown to the customer.")
    customer_reference: str | None = strawberry.field(
        default=None, description="The merchant's reference for the customer."
    )
    seller_identifier: str | None = strawberry.field(default=None, description="Who sells.")


@strawberry.input(description="Another way of asking the customer.")
class ChangePaymentCollectionInput:
    """For `changePaymentCollection`."""

    id: strawberry.ID = strawberry.field(description="Which request.")
    customer_identifier: str | None = strawberry.field(default=None, description="Absent: back to a QR code.")


@strawberry.input(description="A payment.")
class PayPaymentRequestInput:
    """For `payPaymentRequest`."""

    token: str = strawberry.field(description="From the QR code or the link.")
    amount: DecimalText | None = strawberry.field(default=None, description="Absent: the whole amount.")


@strawberry.input(description="A refusal to pay.")
class DeclinePaymentRequestInput:
    """For `declinePaymentRequest`."""

    token: str = strawberry.field(description="From the QR code or the link.")


@strawberry.input(description="A validation.")
class ValidatePaymentRequestInput:
    """For `validatePaymentRequest`."""

    id: strawberry.ID = strawberry.field(description="Which request.")
    amount: DecimalText | None = strawberry.field(default=None, description="Absent: the amount paid. Lower only.")


@strawberry.input(description="A cancellation.")
class CancelPaymentRequestInput:
    """For `cancelPaymentRequest`."""

    id: strawberry.ID = strawberry.field(description="Which request.")


@strawberry.type
class PaymentMutations:
    """Deeds about payment requests."""

    @mutation(PaymentRequestResult, "The merchant asks for money (P10–P18).")
    async def create_payment_request(
        self, info: Info, input: CreatePaymentRequestInput, idempotency_key: strawberry.ID
    ) -> payments.PaymentRequest:
        given = vars(input) | {
            "point_of_sale_id": id_of(info.context, input.point_of_sale_id, parties.PointOfSale.prefix)
        }
        return await info.context.perform(payments.create, key=idempotency_key, again=payments.request, **given)

    @mutation(PaymentRequestResult, "The customer is asked in another way; the old QR code is dead at once (P19).")
    async def change_payment_collection(
        self, info: Info, input: ChangePaymentCollectionInput
    ) -> payments.PaymentRequest:
        request_id = id_of(info.context, input.id, payments.PaymentRequest.prefix)
        return await info.context.perform(payments.change_collection, request_id, input.customer_identifier)

    @mutation(PaymentOfferResult, "The customer pays, all or part (P23).")
    async def pay_payment_request(
        self, info: Info, input: PayPaymentRequestInput, idempotency_key: strawberry.ID
    ) -> payments.PaymentOffer:
        paid = await info.context.perform(
            payments.pay, input.token, input.amount, key=idempotency_key, again=payments.acted_on
        )
        return payments.PaymentOffer(paid)

    @mutation(PaymentOfferResult, "The customer will not pay; the merchant is told (P31).")
    async def decline_payment_request(self, info: Info, input: DeclinePaymentRequestInput) -> payments.PaymentOffer:
        return payments.PaymentOffer(await info.context.perform(payments.decline, input.token))

    @mutation(PaymentRequestResult, "The merchant takes what was paid, or less; the rest goes back (P26).")
    async def validate_payment_request(
        self, info: Info, input: ValidatePaymentRequestInput, idempotency_key: strawberry.ID
    ) -> payments.PaymentRequest:
        request_id = id_of(info.context, input.id, payments.PaymentRequest.prefix)
        return await info.context.perform(
            payments.validate, request_id, input.amount, key=idempotency_key, again=payments.request
        )

    @mutation(
        PaymentRequestResult, "The merchant gives up a request, or gives back what waits for validation (P27, P28)."
    )
    async def cancel_payment_request(
        self, info: Info, input: CancelPaymentRequestInput, idempotency_key: strawberry.ID
    ) -> payments.PaymentRequest:
        request_id = id_of(info.context, input.id, payments.PaymentRequest.prefix)
        return await info.context.perform(payments.cancel, request_id, key=idempotency_key, again=payments.request)


@strawberry.type
class PaymentSubscriptions:
    """Payment requests, live."""

    @strawberry.subscription(
        description="A till waiting on one payment: the state now, then each change, until it is final (P21).",
        graphql_type=PaymentRequest,
    )
    async def payment_request(self, info: Info, id: strawberry.ID) -> AsyncGenerator[payments.PaymentRequest, None]:
        context = info.context
        try:
            request_id = id_of(info.context, id, payments.PaymentRequest.prefix)
        except Refused as refused:
            raise Rejected(str(refused.code), refused.message(context.locale)) from None
        follow = context.services.hub.follow(
            (payments.PaymentRequest.prefix, str(request_id)),
            context.someone.view,
            lambda: _find_request(context, request_id),
            lambda request: (request.version, request.status),
            lambda request: payments.LIFE.is_final(request.status),
        )
        empty = True
        async for request in follow:
            empty = False
            yield request
        if empty:
            raise Rejected("NOT_FOUND", Refused.not_found().message(context.locale))

    @strawberry.subscription(
        description="The live list: the newest request, then each that changes, with the counters (P7). It follows"
        " every filter but `status`, so that a request is seen to leave one. Query the list again after a reconnect.",
        graphql_type=PaymentRequestChange,
    )
    async def payment_request_changes(
        self,
        info: Info,
        point_of_sale_id: strawberry.ID | None = None,
        filter: PaymentRequestFilter | None = None,
    ) -> AsyncGenerator[ChangeOf, None]:
        context, hub, actor = info.context, info.context.services.hub, info.context.someone
        try:
            place = (
                id_of(info.context, point_of_sale_id, parties.PointOfSale.prefix)
                if point_of_sale_id is not None
                else None
            )
            where = filter.read() if filter is not None else None
        except Refused as refused:
            raise Rejected(str(refused.code), refused.message(context.locale)) from None
        prefix = payments.PaymentRequest.prefix
        topic = (f"{prefix}@", str(place)) if place is not None else (f"{prefix}*", str(actor.tenant))
        since: datetime | None = None
        sent: dict[UUID, object] = {}
        async for changed in hub.changes(topic):
            question = payments.changed_requests(actor, place, where, changed, since)

            async def read(question: Any = question) -> tuple[list[payments.PaymentRequest], payments.Counters]:
                async with context.reading() as connection:
                    rows = [payments.request_and_place(tuple(row)) for row in await connection.execute(question)]
                    return [row[0] for row in rows], await payments.counters(connection, actor, place, where)

            requests, counters = await hub.read_once(topic, (actor.view, place, where, changed, since), read)
            for request in requests:
                since = request.last_action_at if since is None else max(since, request.last_action_at)
                # What comes late about a change that was read already is no news.
                if sent.get(request.id) == (request.version, request.status):
                    continue
                sent[request.id] = (request.version, request.status)
                if len(sent) > _REMEMBERED:
                    del sent[next(iter(sent))]
                yield ChangeOf(request, counters)

    @strawberry.subscription(
        description="A customer waiting on one payment: the state now, then each change, until it is final.",
        graphql_type=PaymentOffer,
    )
    async def payment_offer(self, info: Info, token: str) -> AsyncGenerator[payments.PaymentOffer, None]:
        context = info.context
        offer = await _read_offer(context, token)
        if offer is None:
            raise Rejected("NOT_FOUND", Refused.not_found().message(context.locale))
        follow = context.services.hub.follow(
            (payments.PaymentRequest.prefix, str(offer.request.id)),
            ("offer", token),
            lambda: _read_offer(context, token),
            lambda offer: (offer.request.version, offer.request.status),
            lambda offer: payments.LIFE.is_final(offer.request.status),
        )
        async for changed in follow:
            yield changed
