"""What a payment request is: its words, its statuses and what may become of it."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain.access import Actor, Right
from domain.db import Entity, Row, column
from domain.ledger import DerivedAccount, held_account_of, merchant_account_of
from domain.lifecycle import Lapse, Lifecycle
from domain.texts import Text

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
OPEN: Final = (_STATUS.AWAITING_PAYMENT, _STATUS.TO_VALIDATE)
"""The statuses in which somebody has something to do."""

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
        sa.Index(
            "payment_requests_open_idx",
            "tenant",
            "merchant_id",
            "point_of_sale_id",
            postgresql_where=sa.text("status IN ('AWAITING_PAYMENT', 'TO_VALIDATE')"),
        ),
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
    instants; `token` stands in the QR code or the mail's link, for the amount that the server knows (P20).
    `auto_validation`: the merchant's choice when it asked (AP1)."""

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
    auto_validation: bool = column(default=False, where_missing="false")
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
    def holder_ids(self) -> frozenset[UUID]:
        """Whose telephones it concerns: who is asked by name, and who has paid."""
        return frozenset(filter(None, (self.customer_id, self.payer_id)))

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
        ("auto_validate", _STATUS.TO_VALIDATE): _STATUS.VALIDATED,
        ("change_collection", _STATUS.AWAITING_PAYMENT): _STATUS.AWAITING_PAYMENT,
        ("decline", _STATUS.AWAITING_PAYMENT): _STATUS.CANCELLED,
        ("cancel", _STATUS.AWAITING_PAYMENT): _STATUS.CANCELLED,
        ("cancel", _STATUS.TO_VALIDATE): _STATUS.CANCELLED,
        ("expire", _STATUS.AWAITING_PAYMENT): _STATUS.EXPIRED,
        ("expire", _STATUS.TO_VALIDATE): _STATUS.EXPIRED,
    },
    lapses=(
        Lapse(_STATUS.AWAITING_PAYMENT, "payment_deadline", _STATUS.EXPIRED, "expire"),
        Lapse(
            _STATUS.TO_VALIDATE, "validation_deadline", _STATUS.VALIDATED, "auto_validate", only_if="auto_validation"
        ),
        Lapse(_STATUS.TO_VALIDATE, "validation_deadline", _STATUS.EXPIRED, "expire"),
    ),
    too_late=Text("Cette demande de paiement a expiré.", "This payment request has expired."),
    labels=STATUS_LABELS,
)
"""The customer's payment is the verb `pay` without a validation window (P24) and `reserve` with one. A window that ends
without a decision gives the money back, or validates all of it where the merchant has chosen so (AP1)."""


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


# ── what one may do with it ───────────────────────────────────────────────────────────────────────────────────────────


def allowed_actions(request: PaymentRequest, actor: Actor) -> list[PaymentRequestAction]:
    """What this actor may do with the request as it is (P9, P28). Validated is final (AP6)."""
    rights = actor.rights_at(request.merchant_id, request.point_of_sale_id)
    actions = []
    if request.status is _STATUS.TO_VALIDATE and Right.VALIDATE in rights:
        actions = [PaymentRequestAction.VALIDATE, PaymentRequestAction.CANCEL]
    if request.status is _STATUS.AWAITING_PAYMENT and Right.COLLECT in rights:
        actions = [PaymentRequestAction.CANCEL, PaymentRequestAction.CHANGE_COLLECTION]
        if shows_qr_code(request):
            actions.append(PaymentRequestAction.PRINT)
    return actions


def shows_qr_code(request: PaymentRequest) -> bool:
    """Whether there is a code to scan: only while the request awaits payment and is collected by QR code (P16)."""
    return request.status is _STATUS.AWAITING_PAYMENT and request.collection is Collection.QR_CODE


def is_for(request: PaymentRequest, holder_id: UUID | None) -> bool:
    """Whether this customer may act on the request: anyone who holds its token, unless another customer was named."""
    return request.customer_id in (None, holder_id)


def paid_by(request: PaymentRequest, holder_id: UUID | None) -> int | None:
    """What this customer has paid. Another customer's payment is told to nobody but the merchant; None is a
    passer-by, who has paid nothing."""
    return request.amount_paid if holder_id is not None and request.payer_id == holder_id else None


def allowed_offer_actions(request: PaymentRequest, holder_id: UUID | None) -> list[PaymentOfferAction]:
    """What this customer may do with the offer as it is; None is a passer-by, who may sign in."""
    waits = request.status is _STATUS.AWAITING_PAYMENT
    return list(PaymentOfferAction) if waits and (holder_id is None or is_for(request, holder_id)) else []
