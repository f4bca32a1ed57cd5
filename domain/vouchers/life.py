"""What a voucher is: its words, its statuses and what may become of it; and the supplier's invoice that it leads to."""

import re
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain.access import ISSUER_STAFF, Actor
from domain.db import Entity, column
from domain.ledger import DerivedAccount, held_account_of, merchant_account_of
from domain.lifecycle import Lapse, Lifecycle
from domain.parties import Channel
from domain.texts import Text

# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class VoucherStatus(StrEnum):
    """ISSUED: the member has it. CODE_REVEALED: the code is drawn; the member can only deliver it or let it expire
    (shown as 1-EMIS). DELIVERED: presented, it guarantees payment. INVOICED: the supplier's invoice is recorded.
    SETTLED: the supplier is reimbursed."""

    ISSUED = "ISSUED"
    CODE_REVEALED = "CODE_REVEALED"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    INVOICED = "INVOICED"
    SETTLED = "SETTLED"


class VoucherAction(StrEnum):
    """What may be done with a voucher. REVEAL_CODE shows the same code again."""

    REVEAL_CODE = "REVEAL_CODE"
    DELIVER = "DELIVER"
    CANCEL = "CANCEL"
    UNBLOCK = "UNBLOCK"


class SupplierInvoiceStatus(StrEnum):
    """RECORDED: within the voucher's value. TO_DECIDE: it asks for more, and nobody has decided about that yet."""

    RECORDED = "RECORDED"
    TO_DECIDE = "TO_DECIDE"
    EXCESS_PAID = "EXCESS_PAID"
    EXCESS_REFUSED = "EXCESS_REFUSED"


class ExcessDecision(StrEnum):
    """What a person decides about what an invoice asks above the voucher's value."""

    PAID = "PAID"
    REFUSED = "REFUSED"


_STATUS = VoucherStatus
STATUS_CODES: Final = {
    _STATUS.ISSUED: 1,
    _STATUS.CODE_REVEALED: 1,
    _STATUS.CANCELLED: 8,
    _STATUS.EXPIRED: 9,
    _STATUS.DELIVERED: 11,
    _STATUS.INVOICED: 12,
    _STATUS.SETTLED: 13,
}
"""The numbers printed on vouchers (V9)."""

_NUMBER: Final = re.compile(r"(W\d{4})([A-Z]{2})(\d{3})(\d{8})", re.ASCII)
_BETWEEN: Final = re.compile(r"[\s.,:;/_-]+")


def number_as_printed(typed: str) -> str:
    """A voucher's number as it is printed, from how someone has typed it off the paper: with other signs between its
    parts, with none, in small letters. What is no such number stays what it is."""
    parts = _NUMBER.fullmatch(_BETWEEN.sub("", typed).upper())
    return ".".join(parts.groups()) if parts else typed


_ISSUED: Final = Text("1-EMIS", "1-ISSUED")
STATUS_LABELS: Final = {
    _STATUS.ISSUED: _ISSUED,
    _STATUS.CODE_REVEALED: _ISSUED,
    _STATUS.CANCELLED: Text("8-annulé", "8-cancelled"),
    _STATUS.EXPIRED: Text("9-expiré", "9-expired"),
    _STATUS.DELIVERED: Text("11-livré", "11-delivered"),
    _STATUS.INVOICED: Text("12-facturé", "12-invoiced"),
    _STATUS.SETTLED: Text("13-réglé", "13-settled"),
}

# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class VoucherKind(
    Entity,
    table="voucher_kinds",
    prefix="vknd",
    app="SELECT",
    constraints=(
        sa.CheckConstraint("validity_days BETWEEN 0 AND 3660", name="validity_days"),
        sa.CheckConstraint("maximum_value > 0", name="maximum_value"),
        sa.CheckConstraint("maximum_outstanding > 0", name="maximum_outstanding"),
        sa.CheckConstraint("series ~ '^[0-9]{3}$'", name="series"),
        sa.CheckConstraint("department ~ '^[A-Z]{2}$'", name="department"),
        sa.CheckConstraint("code <> '' AND name <> ''", name="name"),
    ),
):
    """What vouchers of a kind have in common (AV1, AV5, AV7). Maximums are cents, null where there is none: of one
    voucher, and of all that a member has open. `ends_with_year`: none is valid beyond 31 December. `series` is the
    agency's and `department` the code before it in numbers."""

    code: str = column(unique=True)
    name: str
    validity_days: int = 30
    ends_with_year: bool = False
    maximum_value: int | None = None
    maximum_outstanding: int | None = None
    series: str
    department: str
    preferred: bool = False
    created_at: datetime


class Voucher(
    Entity,
    table="vouchers",
    prefix="vchr",
    constraints=(
        sa.Index("vouchers_holder_idx", "tenant", "holder_id", "issued_at", "id"),
        sa.Index("vouchers_list_idx", "tenant", "issued_at", "id"),
        sa.CheckConstraint("value > 0 AND value % 100 = 0", name="value"),
        sa.CheckConstraint(r"number ~ '^W\d{4}\.[A-Z]{2}\.\d{3}\.\d{8}$'", name="number"),
        sa.CheckConstraint("(status IN ('DELIVERED', 'INVOICED', 'SETTLED')) = (number IS NOT NULL)", name="delivered"),
        sa.CheckConstraint(
            "(code_salt IS NULL) = (revealed_at IS NULL) AND (code_key IS NULL) = (revealed_at IS NULL)",
            name="revealed",
        ),
        sa.CheckConstraint("wrong_codes BETWEEN 0 AND 5", name="wrong_codes"),
    ),
    options={"fillfactor": 80},
):
    """A member's guarantee towards a supplier, in whole euros (as cents). `expires_at` is an exclusive instant. The
    code itself is nowhere: it follows from `code_salt` and the key that `code_key` names. `wrong_codes` counts since
    the last right one."""

    kind_id: UUID = column(references="voucher_kinds")
    status: VoucherStatus
    holder_id: UUID = column(references="holders")
    supplier_id: UUID = column(references="merchants")
    value: int
    reservation_id: UUID = column(references="transfers")
    issued_at: datetime
    valid_until: date
    expires_at: datetime
    revealed_at: datetime | None = None
    code_salt: bytes | None = None
    code_key: bytes | None = None
    wrong_codes: int = 0
    blocked_at: datetime | None = None
    number: str | None = column(default=None, unique=True)
    delivered_at: datetime | None = None
    last_action_at: datetime
    version: int = 0

    @property
    def holder_ids(self) -> frozenset[UUID]:
        """Whose telephones it concerns."""
        return frozenset((self.holder_id,))

    @property
    def held_account(self) -> DerivedAccount:
        """Where its guarantee stands."""
        return held_account_of(self.supplier_id)

    @property
    def supplier_account(self) -> DerivedAccount:
        """Where the invoice is paid to."""
        return merchant_account_of(self.supplier_id)


class MemberStatement(
    Entity,
    table="member_statements",
    prefix="mstm",
    app="SELECT, INSERT",
    constraints=(
        sa.Index("member_statements_holder_idx", "tenant", "holder_id", "issued_at", "id"),
        sa.Index("member_statements_list_idx", "tenant", "issued_at", "id"),
        sa.CheckConstraint(r"period ~ '^\d{4}-(0[1-9]|1[0-2])$'", name="period"),
        sa.CheckConstraint("total > 0", name="total"),
    ),
):
    """What a member was billed for until the end of a month ("2026-11"), and had not been told before (V22). Its lines
    are the invoices that name it; `total` is their sum, in cents. `job_id` is what issued it; it is
    printed then, and by every later job of its month, when it goes by post."""

    holder_id: UUID = column(references="holders")
    job_id: UUID = column(references="jobs", index=True)
    period: str
    total: int
    channel: Channel
    issued_at: datetime
    version: int = 0


class SupplierInvoice(
    Entity,
    table="supplier_invoices",
    prefix="sinv",
    constraints=(
        sa.UniqueConstraint("tenant", "supplier_id", "invoice_number"),
        sa.Index("supplier_invoices_list_idx", "tenant", "recorded_at", "id"),
        sa.CheckConstraint("amount > 0 AND excess >= 0 AND excess < amount", name="amount"),
        sa.CheckConstraint("(excess = 0) = (status = 'RECORDED')", name="excess"),
        sa.CheckConstraint("(decided_at IS NOT NULL) = (status IN ('EXCESS_PAID', 'EXCESS_REFUSED'))", name="decided"),
        sa.CheckConstraint("statement_id IS NULL OR status <> 'TO_DECIDE'", name="statement"),
    ),
):
    """What a supplier asks for a voucher, in cents. `excess` is what exceeds the voucher's value; it is never paid
    without a person deciding (AV6). The document is the paper itself, scanned, where it was handed in. `statement_id`
    is where its member was told of it; null until then."""

    supplier_id: UUID = column(references="merchants")
    voucher_id: UUID = column(references="vouchers", unique=True)
    document_id: UUID | None = column(default=None, references="documents", unique=True)
    invoice_number: str
    amount: int
    excess: int
    status: SupplierInvoiceStatus
    recorded_at: datetime
    decided_at: datetime | None = None
    statement_id: UUID | None = column(default=None, references="member_statements", index=True)
    version: int = 0

    @property
    def billed(self) -> int:
        """What the member owes for it, in cents: all of it, less an excess that is not paid."""
        return self.amount if self.status is SupplierInvoiceStatus.EXCESS_PAID else self.amount - self.excess

    @property
    def decision(self) -> ExcessDecision | None:
        """What was decided about the excess; null while nobody has, and where there is none."""
        return {
            SupplierInvoiceStatus.EXCESS_PAID: ExcessDecision.PAID,
            SupplierInvoiceStatus.EXCESS_REFUSED: ExcessDecision.REFUSED,
        }.get(self.status)


LIFE: Final = Lifecycle(
    Voucher,
    {
        ("reveal", _STATUS.ISSUED): _STATUS.CODE_REVEALED,
        ("cancel", _STATUS.ISSUED): _STATUS.CANCELLED,
        ("deliver", _STATUS.CODE_REVEALED): _STATUS.DELIVERED,
        ("invoice", _STATUS.DELIVERED): _STATUS.INVOICED,
        ("settle", _STATUS.INVOICED): _STATUS.SETTLED,
        ("reopen", _STATUS.SETTLED): _STATUS.INVOICED,
        ("expire", _STATUS.ISSUED): _STATUS.EXPIRED,
        ("expire", _STATUS.CODE_REVEALED): _STATUS.EXPIRED,
    },
    lapses=(
        Lapse(_STATUS.ISSUED, "expires_at", _STATUS.EXPIRED, "expire"),
        Lapse(_STATUS.CODE_REVEALED, "expires_at", _STATUS.EXPIRED, "expire"),
    ),
    too_late=Text("Ce bon a expiré.", "This voucher has expired."),
    labels=STATUS_LABELS,
)
"""Once the code is drawn nobody takes the voucher back; once delivered it no longer expires (AV2, AV4). Money that came
back from the supplier's bank reopens what was settled."""

INVOICE_LIFE: Final = Lifecycle(
    SupplierInvoice,
    {
        ("pay_excess", SupplierInvoiceStatus.TO_DECIDE): SupplierInvoiceStatus.EXCESS_PAID,
        ("refuse_excess", SupplierInvoiceStatus.TO_DECIDE): SupplierInvoiceStatus.EXCESS_REFUSED,
    },
    labels={
        SupplierInvoiceStatus.RECORDED: Text("Enregistrée", "Recorded"),
        SupplierInvoiceStatus.TO_DECIDE: Text("Dépassement à décider", "Excess to decide"),
        SupplierInvoiceStatus.EXCESS_PAID: Text("Dépassement payé", "Excess paid"),
        SupplierInvoiceStatus.EXCESS_REFUSED: Text("Dépassement refusé", "Excess refused"),
    },
)

WRONG_CODES_BLOCK: Final = 5
"""So many wrong codes in a row block a voucher's number (V20, AV8)."""

CERTIFICATION: Final = Text(
    "Le fournisseur atteste avoir inscrit sur le bon de livraison le numéro du bon, puis le code secret : ensemble, ils"
    " valent signature de l’adhérent et garantissent le paiement de la facture correspondante par {issuer}.",
    "The supplier confirms that the voucher’s number, followed by the secret code, is written on the delivery note:"
    " together they stand for the member’s signature and guarantee payment of the invoice by {issuer}.",
)
"""What the supplier commits to (V13)."""

WHERE_TO_FIND: Final = Text(
    "Votre bon est disponible dans votre espace, rubrique « Demande de bons ».",
    "Your voucher is available in your space, under “Vouchers”.",
)
"""What a member is told about a new voucher (V7)."""


def allowed_actions(voucher: Voucher, actor: Actor) -> list[VoucherAction]:
    """What this actor may do with the voucher as it is (V14, AV4)."""
    actions = []
    if actor.holder_id == voucher.holder_id:
        if voucher.status in (_STATUS.ISSUED, _STATUS.CODE_REVEALED):
            actions.append(VoucherAction.REVEAL_CODE)
        if voucher.status is _STATUS.CODE_REVEALED:
            actions.append(VoucherAction.DELIVER)
    if actor.role in ISSUER_STAFF:
        if voucher.status is _STATUS.ISSUED:
            actions.append(VoucherAction.CANCEL)
        if voucher.blocked_at is not None:
            actions.append(VoucherAction.UNBLOCK)
    return actions
