"""Reimbursements as a file."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from domain import reimbursements as flow
from domain.parties import Merchant
from domain.reimbursements import Reimbursement, ReimbursementStatus
from domain.texts import Text
from reporting.excel import Column, Kind
from tasks.listings.listing import Asked, Listing, newest_first


@dataclass(frozen=True, slots=True)
class _Line:
    paid: Reimbursement
    merchant: Merchant


def _question(asked: Asked) -> sa.Select[Any]:
    status = asked.conditions.get("status")
    question = flow.reimbursements(asked.actor, ReimbursementStatus(status) if status else None)
    return newest_first(asked.within(question, Reimbursement.table.c.created_at), flow.ORDER)


REIMBURSEMENTS: Final[Listing[_Line]] = Listing(
    Text("Remboursements", "Reimbursements"),
    Text("remboursements", "reimbursements"),
    _question,
    lambda _, row: _Line(*flow.reimbursement_and_merchant(row)),
    (
        (Column(Text("Créé le", "Created"), 17, Kind.INSTANT), lambda line, _: line.paid.created_at),
        (Column(Text("Référence", "Reference"), 18), lambda line, _: line.paid.reference),
        (
            Column(Text("Statut", "Status"), 20),
            lambda line, locale: flow.STATUS_LABELS[line.paid.status].in_locale(locale),
        ),
        (Column(Text("Code établissement", "Merchant code"), 14), lambda line, _: line.merchant.code),
        (Column(Text("Établissement", "Merchant"), 30), lambda line, _: line.merchant.name),
        (Column(Text("Début de période", "Period start"), 13, Kind.DAY), lambda line, _: line.paid.period_start),
        (Column(Text("Fin de période", "Period end"), 13, Kind.DAY), lambda line, _: line.paid.period_end),
        (Column(Text("Montant dû", "Amount due"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.paid.gross),
        (
            Column(Text("Commission", "Commission"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.paid.commission,
        ),
        (
            Column(Text("Part de commission", "Commission share"), 12, Kind.PERCENTAGE),
            lambda line, _: (Decimal(line.paid.commission) / line.paid.gross).quantize(Decimal("0.000001")),
        ),
        (
            Column(Text("Net à payer", "Net to pay"), 14, Kind.AMOUNT, is_totalled=True),
            lambda line, _: line.paid.net,
        ),
        (Column(Text("Échéance", "Due"), 13, Kind.DAY), lambda line, _: line.paid.due_on),
        (Column(Text("Transmis le", "Sent"), 17, Kind.INSTANT), lambda line, _: line.paid.sent_at),
        (Column(Text("Réglé le", "Settled"), 17, Kind.INSTANT), lambda line, _: line.paid.settled_at),
        (Column(Text("Code de rejet", "Rejection code"), 12), lambda line, _: line.paid.rejection_code),
        (Column(Text("Motif de rejet", "Rejection reason"), 34), lambda line, _: line.paid.rejection_reason),
    ),
)
