"""What a reimbursement is: its words, its statuses and what may become of it; and the file that brings it to the
bank."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain.db import Entity, Row, column
from domain.ledger import DerivedAccount, merchant_account_of, transit_account_of
from domain.lifecycle import Lifecycle
from domain.texts import Text

# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ReimbursementStatus(StrEnum):
    """PENDING: made by a run, and in no file for the bank yet. SENT: in a file for the bank. SETTLED: the bank has paid
    it. REJECTED: the bank has not, or the money came back; what it reimbursed is due again."""

    PENDING = "PENDING"
    SENT = "SENT"
    SETTLED = "SETTLED"
    REJECTED = "REJECTED"


class ReimbursedFlow(StrEnum):
    """Where what is reimbursed comes from; each has its own terms."""

    PAYMENT_REQUESTS = "PAYMENT_REQUESTS"
    VOUCHERS = "VOUCHERS"


_STATUS = ReimbursementStatus
STATUS_LABELS: Final = {
    _STATUS.PENDING: Text("À transmettre", "To be sent"),
    _STATUS.SENT: Text("Transmis à la banque", "Sent to the bank"),
    _STATUS.SETTLED: Text("Réglé", "Settled"),
    _STATUS.REJECTED: Text("Rejeté", "Rejected"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """What makes something due to a merchant: its flow, and the journal's line that is written with it."""

    flow: ReimbursedFlow
    journal_kind: str


SOURCES: Final[Mapping[tuple[str, str], Source]] = {
    ("preq", "payment"): Source(ReimbursedFlow.PAYMENT_REQUESTS, "preq.pay"),
    ("preq", "validation"): Source(ReimbursedFlow.PAYMENT_REQUESTS, "preq.validate"),
    ("preq", "auto_validation"): Source(ReimbursedFlow.PAYMENT_REQUESTS, "preq.auto_validate"),
    ("vchr", "invoice"): Source(ReimbursedFlow.VOUCHERS, "vchr.invoice"),
    ("sinv", "excess"): Source(ReimbursedFlow.VOUCHERS, "sinv.pay_excess"),
}
"""By the subject's kind and the reason of the transfer. A flow that merchants are paid by later stands here."""

# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ReimbursementTerms(
    Row,
    table="reimbursement_terms",
    key=("flow", "valid_from"),
    app="SELECT",
    constraints=(
        sa.CheckConstraint("commission_percent >= 0 AND commission_percent < 50", name="commission_percent"),
        sa.CheckConstraint("business_days BETWEEN 0 AND 60", name="business_days"),
    ),
):
    """From a civil day on: how much of a hundred the issuer keeps, and within how many TARGET business days it pays.
    Operations of before keep the terms of their day. Without any, nothing is kept, and five days are taken."""

    flow: ReimbursedFlow
    valid_from: date
    commission_percent: Decimal
    business_days: int


class TransferFile(
    Entity,
    table="transfer_files",
    prefix="trfl",
    app="SELECT, INSERT",
    constraints=(
        sa.CheckConstraint("transfers > 0 AND total > 0", name="total"),
        sa.Index("transfer_files_list_idx", "tenant", "created_at", "id"),
    ),
):
    """A file of transfers for the bank, as it was ordered: its message identifier, the account that pays, so many
    transfers of so much, in cents. It is written from its reimbursements whenever it is asked for, and is always the
    same."""

    reference: str = column(unique=True)
    job_id: UUID = column(references="jobs", unique=True)
    transfers: int
    total: int
    iban: str
    bic: str | None = None
    account_holder: str
    street: str | None = None
    postcode: str | None = None
    town: str | None = None
    country: str | None = None
    created_at: datetime


class Reimbursement(
    Entity,
    table="reimbursements",
    prefix="reim",
    constraints=(
        sa.Index("reimbursements_list_idx", "tenant", "created_at", "id"),
        sa.Index("reimbursements_merchant_idx", "tenant", "merchant_id", "created_at", "id"),
        sa.CheckConstraint("gross > 0 AND commission >= 0 AND net > 0 AND net = gross - commission", name="net"),
        sa.CheckConstraint("period_start <= period_end", name="period"),
        sa.CheckConstraint(
            "(status = 'PENDING') = (file_id IS NULL) AND (file_id IS NULL) = (sent_at IS NULL)"
            " AND (file_id IS NULL) = (iban IS NULL) AND (iban IS NULL) = (account_holder IS NULL)",
            name="sent",
        ),
        sa.CheckConstraint(
            "CASE status WHEN 'SETTLED' THEN settled_at IS NOT NULL AND rejected_at IS NULL"
            " WHEN 'REJECTED' THEN rejected_at IS NOT NULL ELSE num_nonnulls(settled_at, rejected_at) = 0 END",
            name="outcome",
        ),
    ),
    options={"fillfactor": 80},
):
    """What a merchant is paid for a period, in cents: `gross` less `commission` is `net`. `period_end` is the last day,
    `due_on` the day on which the bank is to pay. `reference` is the end-to-end identifier on the bank's papers. The
    account is the one it was sent to. `job_id` is the run that made it."""

    merchant_id: UUID = column(references="merchants")
    job_id: UUID = column(references="jobs", index=True)
    reference: str = column(unique=True)
    status: ReimbursementStatus
    period_start: date
    period_end: date
    gross: int
    commission: int
    net: int
    due_on: date
    reservation_id: UUID = column(references="transfers")
    created_at: datetime
    file_id: UUID | None = column(default=None, references="transfer_files", index=True)
    sent_at: datetime | None = None
    iban: str | None = None
    bic: str | None = None
    account_holder: str | None = None
    street: str | None = None
    postcode: str | None = None
    town: str | None = None
    country: str | None = None
    settled_at: datetime | None = None
    bank_reference: str | None = None
    rejected_at: datetime | None = None
    rejection_code: str | None = None
    rejection_reason: str | None = None
    version: int = 0

    @property
    def merchant_account(self) -> DerivedAccount:
        """Where what is owed to the merchant stands."""
        return merchant_account_of(self.merchant_id)

    @property
    def transit_account(self) -> DerivedAccount:
        """Where it stands until the bank has answered."""
        return transit_account_of(self.merchant_id)


class ReimbursementLine(
    Row,
    table="reimbursement_lines",
    key=("reimbursement_id", "transfer_id"),
    constraints=(
        sa.Index(
            "reimbursement_lines_once_idx",
            "tenant",
            "transfer_id",
            unique=True,
            postgresql_where=sa.text("NOT released"),
        ),
        sa.CheckConstraint("amount > 0 AND commission >= 0 AND commission <= amount", name="amount"),
    ),
):
    """A transfer to the merchant that is reimbursed, with what is kept of it, in cents. Each is in one reimbursement at
    most; a rejected one has `released` its lines."""

    reimbursement_id: UUID = column(references="reimbursements")
    transfer_id: UUID = column(references="transfers")
    amount: int
    commission: int
    released: bool = False


LIFE: Final = Lifecycle(
    Reimbursement,
    {
        ("send", _STATUS.PENDING): _STATUS.SENT,
        ("settle", _STATUS.SENT): _STATUS.SETTLED,
        ("reject", _STATUS.SENT): _STATUS.REJECTED,
        ("return", _STATUS.SETTLED): _STATUS.REJECTED,
    },
    labels=STATUS_LABELS,
)
"""A transfer that the receiving bank sends back was settled first."""
