"""Vouchers: the member's, the agency's and the supplier's sides."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, cast
from uuid import UUID

import strawberry
from graphql.pyutils import Path
from sqlalchemy.ext.asyncio import AsyncConnection

from api import parties as shown
from api.context import Context
from api.jobs import JobResult
from api.shapes import (
    Connection,
    DecimalText,
    Info,
    Money,
    Node,
    PageOf,
    described,
    field,
    finds,
    id_of,
    in_language,
    mentioned,
    mutation,
    page,
    question,
    result,
    view,
)
from api.transport import UploadedFile
from domain import codes, documents, jobs, parties
from domain import vouchers as flow
from domain.errors import Refused
from domain.texts import Locale

VoucherStatus = described(flow.VoucherStatus)
VoucherAction = described(flow.VoucherAction)
VoucherOrder = described(flow.VoucherOrder)
ExcessDecision = described(flow.ExcessDecision)

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(flow.VoucherKind, "What vouchers of a kind have in common.")
class VoucherKind:
    """A view of domain.vouchers.VoucherKind."""

    code: str = field("Its code at the issuer.")
    name: str = field("Its name, as printed on vouchers.")


@dataclass(frozen=True)
class PresentationOf:
    """A voucher whose code is drawn, as its reader may see it."""

    voucher: flow.Voucher
    secret_code: str | None


@view(PresentationOf, "The code at the counter, and when it was drawn.")
class VoucherPresentation:
    """A view of PresentationOf."""

    secret_code: str | None = field(
        "The four digits, always the same, for the member alone (V11, V25); never in a list."
    )

    @strawberry.field(description="When the member drew the code (V12).")
    def revealed_at(self) -> datetime:
        drawn = cast(PresentationOf, self).voucher.revealed_at
        assert drawn is not None, "there is a presentation"
        return drawn

    @strawberry.field(description="When it was presented; null until then.")
    def delivered_at(self) -> datetime | None:
        return cast(PresentationOf, self).voucher.delivered_at


@view(flow.Voucher, "A member's guarantee towards a supplier, in whole euros.")
class Voucher(Node):
    """A view of domain.vouchers.Voucher."""

    status: VoucherStatus = field("Where it stands at this instant.")  # type: ignore[valid-type]
    number: str | None = field("Null until delivered (V15).")
    value: Money = field("What it guarantees.")
    issued_at: datetime = field("When the member took it.")
    valid_until: date = field("The last day on which it can be presented.")

    @strawberry.field(description="What it has in common with others.", graphql_type=VoucherKind)
    def kind(self, info: Info) -> Any:
        kind_id, context = _voucher(self).kind_id, info.context
        known = context.known(flow.VoucherKind, kind_id)
        return known or context.once(flow.VoucherKind, kind_id, lambda c: flow.kind(c, kind_id))

    @strawberry.field(description="The number of the status, as printed on the voucher (V9).")
    def status_code(self) -> int:
        return flow.STATUS_CODES[_voucher(self).status]

    @strawberry.field(description="As printed on the voucher: “1-EMIS”, “11-livré”.")
    def status_label(self, info: Info, locale: Locale | None = None) -> str:
        return in_language(flow.STATUS_LABELS[_voucher(self).status], info, locale)

    @strawberry.field(description="What the supplier certifies by writing number and code down (V13).")
    async def certification(self, info: Info, locale: Locale | None = None) -> str:
        issuer = await info.context.issuer()
        return flow.CERTIFICATION.in_locale(locale or info.context.locale, issuer=issuer.name)

    @strawberry.field(description="Where the member finds it (V7).")
    def where_to_find(self, info: Info, locale: Locale | None = None) -> str:
        return in_language(flow.WHERE_TO_FIND, info, locale)

    @strawberry.field(description="Whose it is; a supplier sees reference and name only.", graphql_type=shown.Holder)
    def holder(self, info: Info) -> Any:
        context, holder_id = info.context, _voucher(self).holder_id
        known = context.known(parties.Holder, holder_id)
        return known or context.once(parties.Holder, holder_id, lambda c: flow.member(c, context.someone, holder_id))

    @strawberry.field(description="Where it may be used.", graphql_type=shown.Merchant)
    def supplier(self, info: Info) -> Any:
        supplier_id = _voucher(self).supplier_id
        return info.context.known(parties.Merchant, supplier_id) or info.context.merchant(supplier_id)

    @strawberry.field(
        description="The code and when it was drawn; null until then.", graphql_type=VoucherPresentation | None
    )
    def presentation(self, info: Info) -> PresentationOf | None:
        voucher = _voucher(self)
        if voucher.revealed_at is None:
            return None
        may_see = info.context.someone.holder_id == voucher.holder_id and not _is_in_a_list(info)
        return PresentationOf(voucher, flow.code_of(voucher, _keys(info.context)) if may_see else None)

    @strawberry.field(
        description="Where its page to print is, as PDF, with the code for the member alone (V25); it opens for ten"
        " minutes, while the caller's session lasts. Null until delivered, for a supplier, and in a list."
    )
    def pdf_url(self, info: Info) -> str | None:
        voucher, actor, settings = _voucher(self), info.context.someone, info.context.services.settings
        if not flow.has_page(voucher, actor) or actor.session_id is None or _is_in_a_list(info):
            return None
        purpose, expires_at = flow.page_purpose(voucher.id), datetime.now(UTC) + flow.PAGE_LASTS
        token = codes.expiring_token(settings.keys[0], purpose, voucher.tenant, actor.session_id, expires_at)
        return f"{settings.public_url}/vouchers/{voucher.global_id}/{token}"

    @strawberry.field(description="Whether wrong codes have blocked its number (V20).")
    def blocked(self) -> bool:
        return _voucher(self).blocked_at is not None

    @strawberry.field(
        description="What the caller may do now; clients draw buttons from this, never from `status`.",
        graphql_type=list[VoucherAction],  # type: ignore[valid-type]
    )
    def allowed_actions(self, info: Info) -> list[flow.VoucherAction]:
        return flow.allowed_actions(_voucher(self), info.context.someone)


@view(flow.SupplierInvoice, "What a supplier asks for a voucher.")
class SupplierInvoice(Node):
    """A view of domain.vouchers.SupplierInvoice."""

    invoice_number: str = field("The supplier's number.")
    amount: Money = field("What it asks.")
    excess: Money = field("What it asks above the voucher's value; never paid without a person deciding (AV6).")
    decision: ExcessDecision | None = field("What was decided about the excess; null while nobody has.")  # type: ignore[valid-type]
    recorded_at: datetime = field("When it was recorded.")

    @strawberry.field(
        description="Where the scanned invoice is, for whoever has this address; it opens for an hour. Null without."
    )
    async def document_url(self, info: Info) -> str | None:
        invoice = cast(flow.SupplierInvoice, self)
        return await _document_url(info.context, invoice.tenant, invoice.document_id)

    @strawberry.field(description="The voucher that guarantees it.", graphql_type=Voucher)
    async def voucher(self, info: Info) -> object:
        context, voucher_id = info.context, cast(flow.SupplierInvoice, self).voucher_id
        # Known from a list of this request alone: what a mutation has changed is read again.
        found = context.known(flow.Voucher, voucher_id)
        if found is None:
            async with context.reading() as connection:
                found = await flow.presented(connection, context.someone, voucher_id)
        assert found is not None, "who sees an invoice sees its voucher"
        return found


@view(flow.StatementLine, "An invoice on a statement.")
class MemberStatementLine:
    """A view of domain.vouchers.StatementLine."""

    supplier_invoice_number: str = field("The supplier's number.")
    amount: Money = field("What the member owes for it: what was paid, with an excess that was decided to be paid.")

    @strawberry.field(
        description="Where the scanned invoice is, for whoever has this address; it opens for an hour. Null without."
    )
    async def document_url(self, info: Info) -> str | None:
        line = cast(flow.StatementLine, self)
        return await _document_url(info.context, line.tenant, line.document_id)

    @strawberry.field(description="The voucher that guaranteed it.", graphql_type=Voucher)
    async def voucher(self, info: Info) -> object:
        context, voucher_id = info.context, cast(flow.StatementLine, self).voucher_id

        async def read(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, flow.Voucher]:
            asked = flow.vouchers(context.someone).where(flow.Voucher.table.c.id.in_(ids))
            found = [flow.voucher_and_parties(row) for row in await connection.execute(asked)]
            for _, *those in found:
                context.remember(*those)
            shown.wallets_of_one_list(context, [voucher.holder_id for voucher, *_ in found])
            return {voucher.id: voucher for voucher, *_ in found}

        return await context.once_for_all(flow.Voucher, voucher_id, read)


@view(flow.MemberStatement, "What a member was billed for, told it once (V22).")
class MemberStatement(Node):
    """A view of domain.vouchers.MemberStatement."""

    period: str = field("The month until whose end it tells: “2026-11”.")
    total: Money = field("The sum of its lines.")

    @strawberry.field(
        description="The invoices, in the order in which they came.", graphql_type=list[MemberStatementLine]
    )
    async def lines(self, info: Info) -> list[flow.StatementLine]:
        context, statement_id = info.context, cast(flow.MemberStatement, self).id

        async def read(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, list[flow.StatementLine]]:
            lines = await flow.lines_of(connection, ids)
            context.of_one_list(flow.Voucher, [line.voucher_id for each in ids for line in lines[each]])
            return lines

        found: list[flow.StatementLine] = await context.once_for_all(flow.StatementLine, statement_id, read)
        return found

    @strawberry.field(description="Where its pages are, as PDF, for whoever has this address; for a day.")
    def pdf_url(self, info: Info) -> str:
        statement, settings = cast(flow.MemberStatement, self), info.context.services.settings
        expires_at = datetime.now(UTC) + flow.LINK_LASTS
        token = codes.expiring_token(_keys(info.context)[0], flow.DOWNLOAD, statement.tenant, statement.id, expires_at)
        return f"{settings.public_url}/statements/{token}"


VoucherResult = result("VoucherResult", Voucher)
SupplierInvoiceResult = result("SupplierInvoiceResult", SupplierInvoice)


def _voucher(view_of: object) -> flow.Voucher:
    return cast(flow.Voucher, view_of)


def _is_in_a_list(info: Info) -> bool:
    place: Path | None = info.path
    while place is not None:
        if isinstance(place.key, int):
            return True
        place = place.prev
    return False


async def _document_url(context: Context, tenant: int, document_id: UUID | None) -> str | None:
    if document_id is None:
        return None
    expires_at = await context.now() + documents.LINK_LASTS
    token = codes.expiring_token(_keys(context)[0], documents.DOWNLOAD, tenant, document_id, expires_at)
    return f"{context.services.settings.public_url}/files/{token}"


def _keys(context: Context) -> tuple[str, ...]:
    return context.services.settings.keys


# ── finding them again ────────────────────────────────────────────────────────────────────────────────────────────────


@finds(flow.Voucher)
async def _find_voucher(context: Context, voucher_id: UUID) -> flow.Voucher | None:
    if not await _has_open_space(context):
        return None
    async with context.reading() as connection:
        return await flow.voucher(connection, context.someone, voucher_id)


@mentioned(flow.Voucher)
async def _mentioned_voucher(context: Context, voucher_id: UUID) -> flow.Voucher | None:
    """A supplier cannot look vouchers up, and knows those that it is reimbursed for."""
    async with context.reading() as connection:
        return await flow.presented(connection, context.someone, voucher_id)


@finds(flow.MemberStatement)
async def _find_statement(context: Context, statement_id: UUID) -> flow.MemberStatement | None:
    if not await _has_open_space(context):
        return None
    async with context.reading() as connection:
        return await flow.statement(connection, context.someone, statement_id)


@finds(flow.SupplierInvoice)
async def _find_invoice(context: Context, invoice_id: UUID) -> flow.SupplierInvoice | None:
    async with context.reading() as connection:
        return await flow.invoice(connection, context.someone, invoice_id)


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class VoucherQueries:
    """Questions about vouchers."""

    @question("Where a voucher may be used: the active suppliers, by name.", Connection[shown.Merchant])
    async def suppliers(
        self, info: Info, search: str | None = None, first: int | None = 50, after: str | None = None
    ) -> PageOf[parties.Merchant]:
        context, table = info.context, parties.Merchant.table.c
        await _require_open_space(context)
        asked, order = flow.suppliers(search), (table.sort_key, table.id)
        return await page(context, asked, parties.Merchant.from_row, order, descending=False, first=first, after=after)

    @question("The kinds of vouchers; the first is the one that is taken when none is named.", list[VoucherKind])
    async def voucher_kinds(self, info: Info) -> list[flow.VoucherKind]:
        await _require_open_space(info.context)
        async with info.context.reading() as connection:
            rows = await connection.execute(flow.kinds())
            return [flow.VoucherKind.from_row(row) for row in rows]

    @question(
        "The vouchers the viewer sees, newest first, or in another order: a member's own; a supplier sees none (V3)."
        " `search` is in what is shown (V8).",
        Connection[Voucher],
    )
    async def vouchers(
        self,
        info: Info,
        search: str | None = None,
        status: list[VoucherStatus] | None = None,  # type: ignore[valid-type]
        blocked: bool | None = None,
        first: int | None = 50,
        after: str | None = None,
        order_by: VoucherOrder = flow.VoucherOrder.NEWEST,  # type: ignore[valid-type]
    ) -> PageOf[flow.Voucher]:
        context = info.context
        await _require_open_space(context)
        columns, descending = flow.order_by(order_by, context.someone.tenant)

        def read(row: Sequence[Any]) -> flow.Voucher:
            voucher, *those = flow.voucher_and_parties(row)
            context.remember(*those)
            return voucher

        asked = flow.vouchers(context.someone, context.locale, search, status, blocked)
        found = await page(context, asked, read, columns, descending=descending, first=first, after=after)
        shown.wallets_of_one_list(context, [edge.node.holder_id for edge in found.edges])
        return found

    @question("The suppliers' invoices the viewer sees, newest first.", Connection[SupplierInvoice])
    async def supplier_invoices(
        self,
        info: Info,
        with_excess: bool | None = None,
        search: str | None = None,
        first: int | None = 50,
        after: str | None = None,
    ) -> PageOf[flow.SupplierInvoice]:
        context = info.context

        if context.someone.is_without_place:
            raise Refused.forbidden()
        holders: list[UUID] = []

        def read(row: Sequence[Any]) -> flow.SupplierInvoice:
            invoice, voucher, *those = flow.invoice_and_parties(context.someone, row)
            context.remember(voucher, *those)
            holders.append(voucher.holder_id)
            return invoice

        asked = flow.invoices(context.someone, search, with_excess)
        found = await page(context, asked, read, flow.INVOICE_ORDER, first=first, after=after)
        shown.wallets_of_one_list(context, holders)
        return found

    @question("The statements the viewer sees, newest first: a member's own.", Connection[MemberStatement])
    async def member_statements(
        self, info: Info, first: int | None = 50, after: str | None = None
    ) -> PageOf[flow.MemberStatement]:
        context = info.context
        await _require_open_space(context)
        asked, read = flow.statements(context.someone), flow.MemberStatement.from_row
        found = await page(context, asked, read, flow.STATEMENT_ORDER, first=first, after=after)
        context.of_one_list(flow.StatementLine, [edge.node.id for edge in found.edges])
        return found


async def _require_open_space(context: Context) -> None:
    async with context.reading() as connection:
        await flow.require_open_space(connection, context.someone)


async def _has_open_space(context: Context) -> bool:
    try:
        await _require_open_space(context)
    except Refused:
        return False
    return True


@strawberry.input(description="A voucher for a purchase.")
class RequestVoucherInput:
    """For `requestVoucher`."""

    supplier_id: strawberry.ID = strawberry.field(description="Where it is to be used.")
    kind_code: str | None = strawberry.field(default=None, description="The issuer's default when absent.")
    amount: DecimalText = strawberry.field(description="Including VAT; rounded up to the euro (V6).")


@strawberry.input(description="Which voucher.")
class VoucherIdInput:
    """For what is done with one voucher."""

    id: strawberry.ID = strawberry.field(description="Which one.")


@strawberry.input(description="A number with its code, as written on a delivery note.")
class VerifyVoucherInput:
    """For `verifyVoucher`."""

    number: str = strawberry.field(description="The voucher's number.")
    secret_code: str = strawberry.field(description="Its four digits.")


@strawberry.input(description="A supplier's invoice for a voucher.")
class RecordSupplierInvoiceInput:
    """For `recordSupplierInvoice`."""

    voucher_number: str = strawberry.field(description="The voucher's number.")
    secret_code: str = strawberry.field(description="Its four digits.")
    invoice_number: str = strawberry.field(description="The supplier's number.")
    amount: DecimalText = strawberry.field(description="Including VAT.")
    document: UploadedFile | None = strawberry.field(
        default=None, description="The invoice itself, scanned: a PDF, JPEG or PNG file of 10 MB at most."
    )


@strawberry.input(description="What becomes of what an invoice asks above its voucher's value.")
class DecideExcessInput:
    """For `decideExcess`."""

    supplier_invoice_id: strawberry.ID = strawberry.field(description="Which invoice.")
    decision: ExcessDecision = strawberry.field(description="Paid, or refused.")  # type: ignore[valid-type]


@strawberry.input(description="Which month's statements.")
class IssueMemberStatementsInput:
    """For `issueMemberStatements`."""

    month: date = strawberry.field(description="Any of its days.")


@strawberry.type
class VoucherMutations:
    """What is done with vouchers."""

    @mutation(VoucherResult, "A member takes a voucher, at any hour (V2); its value is reserved.")
    async def request_voucher(
        self, info: Info, input: RequestVoucherInput, idempotency_key: strawberry.ID
    ) -> flow.Voucher:
        return await info.context.perform(
            flow.request,
            key=idempotency_key,
            again=flow.voucher,
            supplier_id=_supplier_id(info, input.supplier_id),
            amount=input.amount,
            kind_code=input.kind_code,
        )

    @mutation(
        VoucherResult,
        "Draws the secret code, for good: nobody takes the voucher back any more. Asked again, the same code (V11).",
    )
    async def reveal_voucher_code(self, info: Info, input: VoucherIdInput) -> flow.Voucher:
        newest = _keys(info.context)[0]
        return await info.context.perform(flow.reveal, _id(info, input), key_of_code=newest)

    @mutation(VoucherResult, "The voucher is presented and gets its number (V15); asked again, it stays as it is.")
    async def deliver_voucher(self, info: Info, input: VoucherIdInput) -> flow.Voucher:
        return await info.context.perform(flow.deliver, _id(info, input))

    @mutation(VoucherResult, "The agency takes back a voucher whose code is not drawn yet (AV4).")
    async def cancel_voucher(self, info: Info, input: VoucherIdInput) -> flow.Voucher:
        return await info.context.perform(flow.cancel, _id(info, input))

    @mutation(VoucherResult, "Codes may be tried again on a number that wrong ones have blocked (V20).")
    async def unblock_voucher(self, info: Info, input: VoucherIdInput) -> flow.Voucher:
        return await info.context.perform(flow.unblock, _id(info, input))

    @mutation(
        VoucherResult, "Whether number and code belong together: wrong codes are counted, the fifth blocks (V20, AV8)."
    )
    async def verify_voucher(self, info: Info, input: VerifyVoucherInput) -> flow.Voucher:
        typed = flow.TypedCode(input.secret_code, _keys(info.context))
        return await info.context.perform(flow.verify, number=input.number, code=typed)

    @mutation(
        SupplierInvoiceResult,
        "The invoice for a voucher: paid up to its value, and owed by the member; the rest is released (V23).",
    )
    async def record_supplier_invoice(
        self, info: Info, input: RecordSupplierInvoiceInput, idempotency_key: strawberry.ID
    ) -> flow.SupplierInvoice:
        given = input.document
        return await info.context.perform(
            flow.record_invoice,
            key=idempotency_key,
            again=flow.invoice,
            voucher_number=input.voucher_number,
            code=flow.TypedCode(input.secret_code, _keys(info.context)),
            invoice_number=input.invoice_number,
            amount=input.amount,
            document=documents.File(given.name, given.content, given.sha256) if given else None,
        )

    @mutation(SupplierInvoiceResult, "What an invoice asks above its voucher's value is paid, or not (AV6).")
    async def decide_excess(
        self, info: Info, input: DecideExcessInput, idempotency_key: strawberry.ID
    ) -> flow.SupplierInvoice:
        invoice_id = id_of(info.context, input.supplier_invoice_id, flow.SupplierInvoice.prefix)
        return await info.context.perform(
            flow.decide_excess, invoice_id, input.decision, key=idempotency_key, again=flow.invoice
        )

    @mutation(
        JobResult,
        "Every member is told what it was billed for until the end of a month, and was not told yet: by mail, or in a"
        " print batch for those who want post: the job's file, with all that jobs of this month have issued (V22).",
    )
    async def issue_member_statements(self, info: Info, input: IssueMemberStatementsInput) -> jobs.Job:
        context = info.context
        return await context.perform(flow.issue_member_statements, month=input.month, locale=context.locale)


def _id(info: Info, given: VoucherIdInput) -> UUID:
    return id_of(info.context, given.id, flow.Voucher.prefix)


def _supplier_id(info: Info, given: str) -> UUID | None:
    """None when it is none: the deed says which field is wrong."""
    try:
        return id_of(info.context, given, parties.Merchant.prefix)
    except Refused:
        return None
