"""Payment requests: a merchant asks, shows a QR code or names the customer; the customer pays all or part.

The merchant's two choices make four flows of one life: the customer pays at once or by a day, and the merchant has, or
has not, some days after the payment to validate it.

    A  at once, no validation      B  by a day, no validation
    C  at once, then validation    D  by a day, then validation

Money paid without a validation window goes to the merchant at once. With a window it is reserved; the merchant
validates it, perhaps for less, or cancels; what it has not done when the window ends goes back to the customer."""

from domain.payments import letters
from domain.payments.baskets import suggested_basket_number
from domain.payments.deeds import (
    cancel,
    change_collection,
    create,
    decline,
    expire,
    pay,
    validate,
    warn,
)
from domain.payments.life import (
    LIFE,
    LIVE,
    STATUS_LABELS,
    TYPE_LABELS,
    Collection,
    Counters,
    PaymentFlow,
    PaymentOffer,
    PaymentOfferAction,
    PaymentRequest,
    PaymentRequestAction,
    PaymentRequestStatus,
    RememberedEmail,
    allowed_actions,
    allowed_offer_actions,
    paid_by,
    shows_qr_code,
)
from domain.payments.questions import (
    FILTER_DOCUMENT,
    PaymentRequestFilter,
    PaymentRequestOrder,
    acted_on,
    changed_requests,
    counters,
    in_order,
    offer,
    offer_of,
    offer_of_request,
    offers_to,
    order_by,
    remembered_email,
    request,
    request_and_place,
    requests,
)

__all__ = [
    "FILTER_DOCUMENT",
    "LIFE",
    "LIVE",
    "STATUS_LABELS",
    "TYPE_LABELS",
    "Collection",
    "Counters",
    "PaymentFlow",
    "PaymentOffer",
    "PaymentOfferAction",
    "PaymentRequest",
    "PaymentRequestAction",
    "PaymentRequestFilter",
    "PaymentRequestOrder",
    "PaymentRequestStatus",
    "RememberedEmail",
    "acted_on",
    "allowed_actions",
    "allowed_offer_actions",
    "cancel",
    "change_collection",
    "changed_requests",
    "counters",
    "create",
    "decline",
    "expire",
    "in_order",
    "letters",
    "offer",
    "offer_of",
    "offer_of_request",
    "offers_to",
    "order_by",
    "paid_by",
    "pay",
    "remembered_email",
    "request",
    "request_and_place",
    "requests",
    "shows_qr_code",
    "suggested_basket_number",
    "validate",
    "warn",
]
