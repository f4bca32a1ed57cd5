"""Payment requests as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from domain import calendar, payments
from domain.parties import PointOfSale
from domain.payments import PaymentRequest
from domain.texts import Text
from reporting.excel import Cell, Column, Kind
from tasks.listings.listing import Asked, Listing


@dataclass(frozen=True, slots=True)
class _Line:
    request: PaymentRequest
    place: PointOfSale


def _question(asked: Asked) -> sa.Select[Any]:
    """The list as it is filtered on the screen, in its order (P8)."""
    where = payments.FILTER_DOCUMENT.validate_python(asked.conditions).within(asked.since, asked.until)
    order = payments.PaymentRequestOrder(asked.order_by or payments.PaymentRequestOrder.LAST_ACTION)
    return payments.in_order(payments.requests(asked.actor, asked.point_of_sale_id, where), order)


def _line(asked: Asked, row: Sequence[Any]) -> _Line:
    return _Line(*payments.request_and_place(row))


def _validate_by(request: PaymentRequest) -> Cell:
    """The last day, as the screen shows it: the instant behind it would read as the day after."""
    deadline = request.validation_deadline
    return calendar.last_day_before(deadline) if deadline else None


PAYMENT_REQUESTS: Final[Listing[_Line]] = Listing(
    Text("Opérations", "Payment requests"),
    Text("operations", "payment-requests"),
    _question,
    _line,
    (
        (Column(Text("Dernière action", "Last action"), 17, Kind.INSTANT), lambda line, _: line.request.last_action_at),
        (Column(Text("N° de panier", "Basket number"), 20), lambda line, _: line.request.basket_number),
        (
            Column(Text("Type", "Type"), 18),
            lambda line, locale: payments.TYPE_LABELS[line.request.flow].in_locale(locale),
        ),
        (
            Column(Text("Statut", "Status"), 29),
            lambda line, locale: payments.STATUS_LABELS[line.request.status].in_locale(locale),
        ),
        (
            Column(Text("Montant demandé", "Amount requested"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.request.amount_requested,
        ),
        (
            Column(Text("Montant réglé", "Amount paid"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.request.amount_paid,
        ),
        (
            Column(Text("Montant validé", "Amount validated"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.request.amount_validated,
        ),
        (
            Column(Text("Montant reçu", "Amount received"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.request.amount_received,
        ),
        (
            Column(Text("Reste à régler", "Left to settle"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.request.amount_remaining,
        ),
        (Column(Text("Point d’accueil", "Point of sale"), 12), lambda line, _: line.place.code),
        (Column(Text("Nom du point d’accueil", "Name of the point of sale"), 38), lambda line, _: line.place.name),
        (Column(Text("Libellé", "Label"), 30), lambda line, _: line.request.label),
        (Column(Text("Référence client", "Customer reference"), 20), lambda line, _: line.request.customer_reference),
        (Column(Text("Identifiant vendeur", "Seller identifier"), 18), lambda line, _: line.request.seller_identifier),
        (
            Column(Text("Identifiant client", "Customer identifier"), 34),
            lambda line, _: line.request.customer_identifier,
        ),
        (Column(Text("N° de transaction", "Transaction number"), 16), lambda line, _: line.request.transaction_number),
        (Column(Text("Créé le", "Created"), 17, Kind.INSTANT), lambda line, _: line.request.created_at),
        (
            Column(Text("Date limite de paiement", "Payment deadline"), 17, Kind.INSTANT),
            lambda line, _: line.request.payment_due_on or line.request.payment_deadline,
        ),
        (
            Column(Text("Date limite de validation", "Validation deadline"), 17, Kind.DAY),
            lambda line, _: _validate_by(line.request),
        ),
    ),
)
