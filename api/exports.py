"""Exports: a list as a file."""

from datetime import date
from enum import StrEnum
from typing import Any

import strawberry

from api.jobs import JobResult
from api.payments import PaymentRequestFilter, PaymentRequestOrder
from api.reimbursements import ReimbursementStatus
from api.shapes import Info, described, id_of, mutation
from api.vouchers import VoucherOrder, VoucherStatus
from domain import jobs, parties, payments
from domain.jobs import JobKind

ExportFormat = described(jobs.ExportFormat)


@strawberry.enum(
    description="What can be exported, by whoever sees the list: the rows that it shows its viewer. JOURNAL: the"
    " issuer's staff's."
)
class ExportKind(StrEnum):
    """The kinds of job that are exports."""

    PAYMENT_REQUESTS = "PAYMENT_REQUESTS"
    VOUCHERS = "VOUCHERS"
    SUPPLIER_INVOICES = "SUPPLIER_INVOICES"
    MEMBER_STATEMENTS = "MEMBER_STATEMENTS"
    REIMBURSEMENTS = "REIMBURSEMENTS"
    HOLDERS = "HOLDERS"
    JOURNAL = "JOURNAL"

    @property
    def job(self) -> JobKind:
        """What does it."""
        return JobKind(f"EXPORT_{self}")


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.input(description="Conditions on vouchers; all given ones hold together.")
class VoucherFilter:
    """The same as on the list."""

    search: str | None = strawberry.field(default=None, description="In what is shown (V8).")
    status: list[VoucherStatus] | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="One of these, at this instant."
    )
    blocked: bool | None = strawberry.field(
        default=None, description="Only those that wrong codes have blocked (V20), or only the others."
    )

    def document(self) -> dict[str, Any]:
        """As the job keeps it."""
        statuses = None if self.status is None else [str(status) for status in self.status]
        return _given(search=self.search, status=statuses, blocked=self.blocked)


@strawberry.input(description="Conditions on suppliers' invoices; all given ones hold together.")
class SupplierInvoiceFilter:
    """The same as on the list."""

    search: str | None = strawberry.field(default=None, description="In the invoice's and the voucher's number.")
    with_excess: bool | None = strawberry.field(
        default=None, description="Only those that ask for more than their voucher's value, or only the others."
    )

    def document(self) -> dict[str, Any]:
        """As the job keeps it."""
        return _given(search=self.search, with_excess=self.with_excess)


@strawberry.input(description="Conditions on reimbursements.")
class ReimbursementFilter:
    """The same as on the list."""

    status: ReimbursementStatus | None = strawberry.field(default=None, description="Of this status.")  # type: ignore[valid-type]

    def document(self) -> dict[str, Any]:
        """As the job keeps it."""
        return _given(status=None if self.status is None else str(self.status))


@strawberry.input(description="Conditions on holders.")
class HolderFilter:
    """The same as on the list."""

    search: str | None = strawberry.field(default=None, description="In reference, name and e-mail.")

    def document(self) -> dict[str, Any]:
        """As the job keeps it."""
        return _given(search=self.search)


def _given(**conditions: Any) -> dict[str, Any]:
    return {name: value for name, value in conditions.items() if value is not None}


@strawberry.input(
    description="Which list, as a file. Conditions are those of the list on the screen; one that this kind of list does"
    " not have is refused."
)
class CreateExportInput:
    """For `createExport`."""

    kind: ExportKind = strawberry.field(description="Which list.")
    format: ExportFormat = strawberry.field(  # type: ignore[valid-type]
        default=jobs.ExportFormat.XLSX, description="What kind of file."
    )
    since: date | None = strawberry.field(
        default=None,
        description="On this day or later: the last action of a payment request; when anything else was issued,"
        " recorded, created or done. Not for HOLDERS.",
    )
    until: date | None = strawberry.field(default=None, description="On this day or earlier.")
    point_of_sale_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="For PAYMENT_REQUESTS: one point of sale; absent: all at which the viewer may export.",
    )
    payment_requests: PaymentRequestFilter | None = strawberry.field(
        default=None, description="Conditions, for PAYMENT_REQUESTS: the same as on the list."
    )
    order_by: PaymentRequestOrder = strawberry.field(  # type: ignore[valid-type]
        default=payments.PaymentRequestOrder.LAST_ACTION, description="The order of PAYMENT_REQUESTS, as on the list."
    )
    vouchers: VoucherFilter | None = strawberry.field(
        default=None, description="Conditions, for VOUCHERS: the same as on the list."
    )
    voucher_order: VoucherOrder | None = strawberry.field(  # type: ignore[valid-type]
        default=None, description="The order of VOUCHERS, as on the list; newest first when absent."
    )
    supplier_invoices: SupplierInvoiceFilter | None = strawberry.field(
        default=None, description="Conditions, for SUPPLIER_INVOICES: the same as on the list."
    )
    reimbursements: ReimbursementFilter | None = strawberry.field(
        default=None, description="Conditions, for REIMBURSEMENTS: the same as on the list."
    )
    holders: HolderFilter | None = strawberry.field(
        default=None, description="Conditions, for HOLDERS: the same as on the list."
    )

    def conditions(self) -> dict[str, Any]:
        """As the job keeps them. Raises Refused (INVALID)."""
        given = {
            "vouchers": (ExportKind.VOUCHERS, self.vouchers),
            "supplierInvoices": (ExportKind.SUPPLIER_INVOICES, self.supplier_invoices),
            "reimbursements": (ExportKind.REIMBURSEMENTS, self.reimbursements),
            "holders": (ExportKind.HOLDERS, self.holders),
        }
        document: dict[str, Any] = {}
        if self.payment_requests is not None:
            self._require("paymentRequests", ExportKind.PAYMENT_REQUESTS)
            where = self.payment_requests.read("input.paymentRequests")
            document = payments.FILTER_DOCUMENT.dump_python(where, mode="json", exclude_none=True)
        for name, (kind, conditions) in given.items():
            if conditions is not None:
                self._require(name, kind)
                document = conditions.document()
        return document

    def order(self) -> str | None:
        """The list's own. Raises Refused (INVALID)."""
        if self.order_by is not payments.PaymentRequestOrder.LAST_ACTION:
            self._require("orderBy", ExportKind.PAYMENT_REQUESTS)
        if self.voucher_order is not None:
            self._require("voucherOrder", ExportKind.VOUCHERS)
            return str(self.voucher_order)
        return str(self.order_by) if self.kind is ExportKind.PAYMENT_REQUESTS else None

    def _require(self, field: str, kind: ExportKind) -> None:
        if self.kind is not kind:
            raise jobs.not_of_this_list(f"input.{field}")


@strawberry.type
class ExportMutations:
    """Deeds about exports."""

    @mutation(JobResult, "A list as a file: the same rows in the same order as on the screen, but whole (P8).")
    async def create_export(self, info: Info, input: CreateExportInput) -> jobs.Job:
        place = (
            id_of(info.context, input.point_of_sale_id, parties.PointOfSale.prefix) if input.point_of_sale_id else None
        )
        return await info.context.perform(
            jobs.create_export,
            kind=input.kind.job,
            format=input.format,
            locale=info.context.locale,
            since=input.since,
            until=input.until,
            point_of_sale_id=place,
            conditions=input.conditions(),
            order_by=input.order(),
        )
