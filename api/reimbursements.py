"""Reimbursements: what merchants are paid, the files for the bank, and the bank's answers."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, cast
from uuid import UUID

import strawberry

from api import parties as shown
from api.context import Context
from api.jobs import JobResult
from api.parties import AddressInput, MerchantResult
from api.payments import JournalEntry
from api.shapes import (
    Connection,
    Info,
    Money,
    Node,
    PageOf,
    described,
    field,
    finds,
    id_of,
    in_language,
    mutation,
    page,
    question,
    result,
    view,
)
from api.transport import UploadedFile
from domain import bank_accounts, codes, documents, jobs, journal, parties
from domain import reimbursements as flow
from domain.texts import Locale

ReimbursementStatus = described(flow.ReimbursementStatus)

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(flow.Reimbursement, "What a merchant is paid for a period.")
class Reimbursement(Node):
    """A view of domain.reimbursements.Reimbursement."""

    reference: str = field("Its number, and the end-to-end identifier on the bank's papers: “R2026-00000012”.")
    status: ReimbursementStatus = field("Where it stands.")  # type: ignore[valid-type]
    period_start: date = field("The day of the first operation.")
    period_end: date = field("The last day of the period.")
    gross: Money = field("What was owed.")
    commission: Money = field("What the issuer keeps of it.")
    net: Money = field("What is paid.")
    due_on: date = field("The day on which the bank is to pay.")
    sent_at: datetime | None = field("When it went into a file for the bank; null until then.")
    settled_at: datetime | None = field("When the bank's payment was recorded; null until then.")
    rejection_reason: str | None = field("Why the bank did not pay, in its words, where it says so.")
    rejection_code: str | None = field("Why the bank did not pay, by its ISO 20022 code: “AC04”.")

    @strawberry.field(description="The status in words.")
    def status_label(self, info: Info, locale: Locale | None = None) -> str:
        return in_language(flow.STATUS_LABELS[_reimbursement(self).status], info, locale)

    @strawberry.field(description="Who is paid.", graphql_type=shown.Merchant)
    async def merchant(self, info: Info) -> object:
        return await info.context.merchant(_reimbursement(self).merchant_id)

    @strawberry.field(description="Where its statement is, as PDF, for whoever has this address; for an hour.")
    def statement_url(self, info: Info) -> str:
        return _link(info, self, flow.AS_PAGES)

    @strawberry.field(description="Where its statement is as a workbook, for whoever has this address; for an hour.")
    def statement_workbook_url(self, info: Info) -> str:
        return _link(info, self, flow.AS_WORKBOOK)

    @strawberry.field(
        description="What is reimbursed, newest first: how each amount came to be due.",
        graphql_type=Connection[JournalEntry],
    )
    async def lines(self, info: Info, first: int | None = 50, after: str | None = None) -> PageOf[journal.JournalLine]:
        table = journal.JournalLine.table.c
        asked = flow.entries(_reimbursement(self).id)
        return await page(info.context, asked, journal.line_of, (table.at, table.id), first=first, after=after)


@view(flow.TransferFile, "Transfers as the bank takes them (pain.001.001.09).")
class TransferFile(Node):
    """A view of domain.reimbursements.TransferFile."""

    reference: str = field("Its message identifier on the bank's papers.")
    transfers: int = field("How many transfers are in it.")
    total: Money = field("Their sum.")
    created_at: datetime = field("When it was made.")

    @strawberry.field(description="Where the file is, for whoever has this address; for an hour.")
    def download_url(self, info: Info) -> str:
        return f"{info.context.services.settings.public_url}/transfers/{_token(info, flow.DOWNLOAD, self)}"


ReimbursementResult = result("ReimbursementResult", Reimbursement)


def _link(info: Info, view_of: object, name: str) -> str:
    address = info.context.services.settings.public_url
    token = _token(info, flow.STATEMENT, view_of)
    return f"{address}/reimbursements/{token}/{name}?language={info.context.locale}"


def _token(info: Info, purpose: str, view_of: object) -> str:
    of = cast(flow.Reimbursement | flow.TransferFile, view_of)
    expires_at = datetime.now(UTC) + flow.LINK_LASTS
    return codes.expiring_token(info.context.services.settings.keys[0], purpose, of.tenant, of.id, expires_at)


def _reimbursement(view_of: object) -> flow.Reimbursement:
    return cast(flow.Reimbursement, view_of)


# ── finding them again ────────────────────────────────────────────────────────────────────────────────────────────────


@finds(flow.Reimbursement)
async def _find_reimbursement(context: Context, reimbursement_id: UUID) -> flow.Reimbursement | None:
    async with context.reading() as connection:
        return await flow.reimbursement(connection, context.someone, reimbursement_id)


@finds(flow.TransferFile)
async def _find_file(context: Context, file_id: UUID) -> flow.TransferFile | None:
    async with context.reading() as connection:
        return await flow.transfer_file(connection, context.someone, file_id)


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class ReimbursementQueries:
    """Questions about reimbursements."""

    @question(
        "The reimbursements the viewer sees, newest first: a signatory's own merchant's (P30).",
        Connection[Reimbursement],
    )
    async def reimbursements(
        self,
        info: Info,
        status: ReimbursementStatus | None = None,  # type: ignore[valid-type]
        first: int | None = 50,
        after: str | None = None,
    ) -> PageOf[flow.Reimbursement]:
        context = info.context

        def read(row: Sequence[Any]) -> flow.Reimbursement:
            reimbursement, merchant = flow.reimbursement_and_merchant(row)
            context.remember(merchant)
            return reimbursement

        asked = flow.reimbursements(context.someone, status)
        return await page(context, asked, read, flow.ORDER, first=first, after=after)

    @question("The files for the bank, newest first.", Connection[TransferFile])
    async def transfer_files(
        self, info: Info, first: int | None = 50, after: str | None = None
    ) -> PageOf[flow.TransferFile]:
        context, table = info.context, flow.TransferFile.table.c
        asked, read = flow.transfer_files(context.someone), flow.TransferFile.from_row
        return await page(context, asked, read, (table.created_at, table.id), first=first, after=after)


@strawberry.input(description="Where a merchant is reimbursed to.")
class UpdateBankAccountInput:
    """For `updateBankAccount`."""

    merchant_id: strawberry.ID | None = strawberry.field(
        default=None, description="Issuer staff only; absent: the caller's own."
    )
    current_password: str = strawberry.field(description="The caller's, once more: money would go elsewhere.")
    iban: str = strawberry.field(description="The account, with or without spaces.")
    bic: str | None = strawberry.field(default=None, description="The bank; found by the IBAN when absent.")
    account_holder: str = strawberry.field(description="Whose account it is, as the bank knows it.")
    postal_address: AddressInput | None = strawberry.field(
        default=None, description="The holder's address, on the bank's papers."
    )


@strawberry.input(description="Reimburse what is due.")
class RunReimbursementsInput:
    """For `runReimbursements`."""

    through: date = strawberry.field(description="The last day of what is reimbursed.")


@strawberry.input(description="The bank's answer as a file.")
class ImportBankAnswerInput:
    """For `importBankAnswer`."""

    file: UploadedFile = strawberry.field(description="A pain.002 or a camt.053, 10 MB at most.")


@strawberry.input(description="What the bank has said about a reimbursement.")
class SettleReimbursementInput:
    """For `settleReimbursement`."""

    id: strawberry.ID = strawberry.field(description="Which one.")
    bank_reference: str = strawberry.field(description="The bank's reference; for a rejection, its reason.")
    rejected: bool = strawberry.field(default=False, description="It was not paid, or the money came back.")


@strawberry.type
class ReimbursementMutations:
    """Deeds about reimbursements."""

    @mutation(
        MerchantResult,
        "Where a merchant is reimbursed to. Another account than before is told to the merchant, and runs pass it over"
        " until one of another day has.",
    )
    async def update_bank_account(self, info: Info, input: UpdateBankAccountInput) -> parties.Merchant:
        context = info.context
        await context.count_password_try()
        merchant = id_of(context, input.merchant_id, parties.Merchant.prefix) if input.merchant_id else None
        return await bank_accounts.change(
            context.services.database,
            context.someone,
            merchant,
            input.current_password,
            iban=input.iban,
            bic=input.bic,
            account_holder=input.account_holder,
            postal_address=input.postal_address.read() if input.postal_address else None,
        )

    @mutation(
        JobResult,
        "Every merchant is reimbursed what is due for the days until this one; the job's file is for the bank (P30).",
    )
    async def run_reimbursements(
        self, info: Info, input: RunReimbursementsInput, idempotency_key: strawberry.ID
    ) -> jobs.Job:
        context = info.context
        return await context.perform(
            flow.run, key=idempotency_key, again=jobs.job, through=input.through, locale=context.locale
        )

    @mutation(
        JobResult,
        "What the bank says in a pain.002 or a camt.053, matched by end-to-end id: what it has paid is settled, what it"
        " has not is due again. The job says what could not be matched.",
    )
    async def import_bank_answer(self, info: Info, input: ImportBankAnswerInput) -> jobs.Job:
        given = documents.File(input.file.name, input.file.content, input.file.sha256)
        return await info.context.perform(flow.import_bank_answer, file=given, locale=info.context.locale)

    @mutation(ReimbursementResult, "What the bank has said, by hand: paid, or not, so that it is due again.")
    async def settle_reimbursement(
        self, info: Info, input: SettleReimbursementInput, idempotency_key: strawberry.ID
    ) -> flow.Reimbursement:
        return await info.context.perform(
            flow.settle_by_hand,
            id_of(info.context, input.id, flow.Reimbursement.prefix),
            key=idempotency_key,
            again=flow.reimbursement,
            bank_reference=input.bank_reference,
            rejected=input.rejected,
        )
