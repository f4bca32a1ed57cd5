"""What is done with reimbursements, in the order of life."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from domain import calendar, documents, fields, jobs, money
from domain.access import Actor, User
from domain.bank_accounts import BankAccount, PayingAccount
from domain.calendar import ClosingDays
from domain.codes import new_id
from domain.documents import File
from domain.errors import RefusalCode, Refused
from domain.jobs import FileFormat, Job, JobKind
from domain.ledger import Posting, Transfer, bank_account_of, commission_account_of, merchant_account_of
from domain.notices import Notice
from domain.parties import Issuer, Merchant
from domain.reimbursements.life import (
    SOURCES,
    ReimbursedFlow,
    Reimbursement,
    ReimbursementLine,
    ReimbursementStatus,
    ReimbursementTerms,
    TransferFile,
)
from domain.series import next_number
from domain.texts import Locale, Text
from domain.work import Work

MOST_LINES: Final = 5_000
"""A merchant with more due lines gets several reimbursements in one run."""

MOST_TRANSFERS: Final = 10_000
"""What one file brings to the bank at most; what is left goes with the next run."""

DEFAULT_BUSINESS_DAYS: Final = 5

FOLLOW: Final = "follow"
"""The name of the deadline at which flows hear that a reimbursement is settled, or is not any more."""

# ── a run, deed by deed ───────────────────────────────────────────────────────────────────────────────────────────────


async def run(work: Work, actor: Actor, *, through: date, locale: Locale) -> Job:
    """Every merchant is reimbursed what is due for the days until this one (P30), and a file for the bank is made.
    Raises Refused: INVALID for a day to come, WRONG_STATE without an account to pay from, RATE_LIMITED with too many
    unfinished jobs."""
    actor.require("runReimbursements")
    await work.take(User.by(id=actor.user_id))
    if through.year < 2000 or through > calendar.today(work.now):
        raise Refused.invalid("input.through", "Choisissez un jour qui a commencé.", "Choose a day that has begun.")
    if not await work.read(_PAYING_ACCOUNT):
        raise Refused(
            RefusalCode.WRONG_STATE,
            Text(
                "Le compte à débiter n’est pas encore enregistré : contactez l’exploitant.",
                "The account to pay from is not recorded yet: contact the operator.",
            ),
        )
    return await jobs.queue(
        work, actor, JobKind.RUN_REIMBURSEMENTS, FileFormat.XML, locale, {"through": through.isoformat()}
    )


async def reimburse(
    work: Work, actor: Actor, job_id: UUID, run: int, message_id: UUID, merchant_id: UUID
) -> Reimbursement | None:
    """What one merchant is due, at most MOST_LINES operations of it; None when nothing is left. A run that began by
    itself leaves what is promised for later, and whom the bank has refused since the account was given: somebody must
    look into it first. Raises Overtaken."""
    job = await jobs.take_running(work, actor, job_id, run, message_id)
    # Runs at once reimburse one merchant one after the other: the second finds what the first has left.
    merchant = await work.take(Merchant.by(id=merchant_id))
    through = date.fromisoformat(job.given["through"])
    due = [
        _Due(*row)
        for row in await work.read(
            _DUE, account=merchant_account_of(merchant.id), until=calendar.end_of_day(through), most=MOST_LINES
        )
    ]
    if not due:
        return None
    terms = _Terms([ReimbursementTerms.from_row(row) for row in await work.read(_TERMS)])
    promised_on = _promised_on(terms, due)
    if "promised_by" in job.given:
        if promised_on > date.fromisoformat(job.given["promised_by"]):
            return None
        if await work.read(_REFUSED, merchant=merchant.id):
            return None
    kept = [money.percentage(line.amount, terms.commission_percent(line)) for line in due]
    gross, commission = sum(line.amount for line in due), sum(kept)
    if gross == commission:
        return None
    year, n = await next_number(work, "reimbursements")
    reimbursement = Reimbursement(
        tenant=work.tenant,
        id=new_id(),
        merchant_id=merchant.id,
        job_id=job.id,
        reference=f"R{year}-{n:08d}",
        status=ReimbursementStatus.PENDING,
        period_start=min(line.day for line in due),
        period_end=through,
        gross=gross,
        commission=commission,
        net=gross - commission,
        # As promised; when that is over already, on the next business day.
        due_on=max(promised_on, calendar.plus_business_days(calendar.today(work.now), 1, ClosingDays.TARGET)),
        # Its own, once the value is reserved for it.
        reservation_id=new_id(),
        created_at=work.now,
    )
    reimbursement.reservation_id = work.reserve(
        reimbursement, reimbursement.merchant_account, reimbursement.transit_account, gross, "reimbursement"
    )
    work.create(reimbursement)
    for line, share in zip(due, kept, strict=True):
        work.add(
            ReimbursementLine(
                tenant=work.tenant,
                reimbursement_id=reimbursement.id,
                transfer_id=line.transfer_id,
                amount=line.amount,
                commission=share,
            )
        )
    return work.note("create", reimbursement, amount=reimbursement.net)


async def send(work: Work, actor: Actor, job_id: UUID, run: int, message_id: UUID) -> TransferFile | None:
    """What is to be sent goes into this run's file, once. A merchant without a bank account waits until there is one;
    one whose account has changed waits until a run of another day has passed it over. None when there is nothing to
    send. Raises Overtaken."""
    job = await jobs.take_running(work, actor, job_id, run, message_id)
    made = await work.read(_FILE, job=job.id)
    if made:
        return TransferFile.from_row(tuple(made[0]))
    pending = await work.read(_PENDING, most=MOST_TRANSFERS)
    paying = PayingAccount.from_row((await work.read(_PAYING_ACCOUNT))[0])
    taken = {each.id: each for each in await work.take_all(Reimbursement, id=[row["id"] for row in pending])}
    merchants = list({row["merchant_id"] for row in pending})
    accounts = {each.merchant_id: each for each in await work.take_all(BankAccount, merchant_id=merchants)}
    # A run that was broken off passes over the same ones again.
    waiting = {id_ for id_, account in accounts.items() if account.held or account.passed_over_by == job.id}
    sent = [
        reimbursement
        for row in pending
        if (reimbursement := taken[row["id"]]).status is ReimbursementStatus.PENDING
        and reimbursement.merchant_id not in waiting
    ]
    today = calendar.today(work.now)
    for account in accounts.values():
        # However many runs there are on one day: the merchant is to have the time to object.
        if account.held and calendar.today(account.changed_at) < today:
            work.change(account, held=False, passed_over_by=job.id)
    if not sent:
        return None
    year, n = await next_number(work, "transfer files")
    file = work.create(
        TransferFile(
            tenant=work.tenant,
            id=new_id(),
            reference=f"ESCARCELLE-{work.tenant}-{year}-{n:06d}",
            job_id=job.id,
            transfers=len(sent),
            total=sum(reimbursement.net for reimbursement in sent),
            created_at=work.now,
            **{name: getattr(paying, name) for name in _ACCOUNT},
        )
    )
    # What has waited is paid on the next day that there is: banks refuse days that are over.
    earliest = calendar.plus_business_days(calendar.today(work.now), 1, ClosingDays.TARGET)
    for reimbursement in sent:
        account = accounts[reimbursement.merchant_id]
        changes = {name: getattr(account, name) for name in _ACCOUNT}
        due_on = max(reimbursement.due_on, earliest)
        work.move(reimbursement, "send", file_id=file.id, sent_at=work.now, due_on=due_on, **changes)
        work.note("send", reimbursement, amount=reimbursement.net)
    if job.user_id is None:
        work.tell(Notice("transfers_ready", file))
    return work.note("create", file, amount=file.total)


async def import_bank_answer(work: Work, actor: Actor, *, file: File, locale: Locale) -> Job:
    """A file of the bank's, pain.002 or camt.053, is handed in; a worker reads it. Raises Refused: FILE_INVALID,
    RATE_LIMITED with too many unfinished jobs."""
    actor.require("importBankAnswer")
    documents.check_size(file, "input.file")
    if not file.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise Refused(
            RefusalCode.FILE_INVALID,
            Text("Un fichier XML de la banque est attendu.", "An XML file of the bank is expected."),
            field="input.file",
        )
    await work.take(User.by(id=actor.user_id))
    given = {"bytes": len(file.content)}
    job = await jobs.queue(work, actor, JobKind.IMPORT_BANK_ANSWER, FileFormat.XML, locale, given)
    await jobs.keep_given(work, job, file.content)
    return job


# ── the bank's answer ─────────────────────────────────────────────────────────────────────────────────────────────────


async def settle_by_hand(
    work: Work, actor: Actor, reimbursement_id: UUID, *, bank_reference: str, rejected: bool = False
) -> Reimbursement:
    """Someone has read the bank's answer. What is answered the same again stays as it is. Raises Refused: NOT_FOUND,
    INVALID, WRONG_STATE."""
    actor.require("settleReimbursement")
    said = fields.line(bank_reference, "input.bankReference", longest=140)
    if rejected:
        return await reject(work, actor, reimbursement_id, None, said)
    return await settle(work, actor, reimbursement_id, said)


async def settle(work: Work, actor: Actor, reimbursement_id: UUID, bank_reference: str | None) -> Reimbursement:
    """The bank has paid it: what was on its way has arrived, and the commission is the issuer's. Raises Refused:
    NOT_FOUND, WRONG_STATE."""
    reimbursement = await work.take(Reimbursement.by(id=reimbursement_id))
    if reimbursement.status is ReimbursementStatus.SETTLED:
        return reimbursement
    issuer_id = (await work.read(_ISSUER))[0][0]
    work.move(reimbursement, "settle", settled_at=work.now, bank_reference=bank_reference)
    work.post(
        reimbursement,
        reimbursement.reservation_id,
        reimbursement.transit_account,
        bank_account_of(issuer_id),
        reimbursement.net,
        commission_account_of(issuer_id),
        reimbursement.commission,
        "settlement",
    )
    work.deadline(reimbursement, FOLLOW, work.now)
    return work.note("settle", reimbursement, amount=reimbursement.net)


async def reject(
    work: Work, actor: Actor, reimbursement_id: UUID, code: str | None, reason: str | None
) -> Reimbursement:
    """The bank has not paid it, or the money came back: what it reimbursed is due again. `code` is the bank's (AC04),
    `reason` in its words. Raises Refused: NOT_FOUND, WRONG_STATE."""
    reimbursement = await work.take(Reimbursement.by(id=reimbursement_id))
    if reimbursement.status is ReimbursementStatus.REJECTED:
        return reimbursement
    came_back = reimbursement.status is ReimbursementStatus.SETTLED
    verb = "return" if came_back else "reject"
    work.move(reimbursement, verb, rejected_at=work.now, rejection_code=code, rejection_reason=reason)
    if came_back:
        issuer_id = (await work.read(_ISSUER))[0][0]
        merchant = reimbursement.merchant_account
        work.transfer(reimbursement, bank_account_of(issuer_id), merchant, reimbursement.net, "return")
        if reimbursement.commission:
            kept = commission_account_of(issuer_id)
            work.transfer(reimbursement, kept, merchant, reimbursement.commission, "commission_return")
        work.deadline(reimbursement, FOLLOW, work.now)
    else:
        work.void(
            reimbursement,
            reimbursement.reservation_id,
            reimbursement.transit_account,
            reimbursement.merchant_account,
            reimbursement.gross,
            "rejection",
        )
    for row in await work.read(_LINES, reimbursement=reimbursement.id):
        work.change(ReimbursementLine.from_row(tuple(row)), released=True)
    work.tell(Notice("reimbursement_rejected", reimbursement))
    return work.note(verb, reimbursement, amount=reimbursement.net)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_ACCOUNT: Final = ("iban", "bic", "account_holder", "street", "postcode", "town", "country")
_ISSUER: Final = sa.select(Issuer.table.c.id)
_PAYING_ACCOUNT: Final = sa.select(*PayingAccount.selected())
_TERMS: Final = sa.select(*ReimbursementTerms.selected()).order_by(ReimbursementTerms.table.c.valid_from)
_FILE: Final = sa.select(*TransferFile.selected()).where(TransferFile.table.c.job_id == sa.bindparam("job"))
_LINES: Final = sa.select(*ReimbursementLine.selected()).where(
    ReimbursementLine.table.c.reimbursement_id == sa.bindparam("reimbursement")
)
_PAID_SINCE: Final = Reimbursement.table.alias("paid_since")
_REFUSED: Final = (
    sa.select(Reimbursement.table.c.id)
    .join(BankAccount.table, BankAccount.table.c.merchant_id == Reimbursement.table.c.merchant_id)
    .where(
        Reimbursement.table.c.merchant_id == sa.bindparam("merchant", type_=sa.Uuid()),
        Reimbursement.table.c.rejected_at >= BankAccount.table.c.changed_at,
        ~sa.exists().where(
            _PAID_SINCE.c.merchant_id == Reimbursement.table.c.merchant_id,
            _PAID_SINCE.c.status == str(ReimbursementStatus.SETTLED),
            _PAID_SINCE.c.settled_at > Reimbursement.table.c.rejected_at,
        ),
    )
    .limit(1)
)
_PENDING: Final = (
    sa.select(Reimbursement.table.c.id, Reimbursement.table.c.merchant_id)
    .join(BankAccount.table, BankAccount.table.c.merchant_id == Reimbursement.table.c.merchant_id)
    .where(Reimbursement.table.c.status == str(ReimbursementStatus.PENDING))
    .order_by(Reimbursement.table.c.created_at, Reimbursement.table.c.id)
    .limit(sa.bindparam("most", type_=sa.Integer()))
)


def is_due(until: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """The condition under which a posting on a merchant's account is due: of a source that is reimbursed, from before
    that instant, and in no reimbursement that was not rejected."""
    transfer, posting, line = Transfer.table.c, Posting.table.c, ReimbursementLine.table.c
    taken = sa.exists().where(line.transfer_id == transfer.id, line.tenant == transfer.tenant, sa.not_(line.released))
    return sa.and_(
        posting.amount > 0,
        transfer.at < until,
        sa.or_(*(sa.and_(transfer.subject_kind == kind, transfer.reason == reason) for kind, reason in SOURCES)),
        sa.not_(taken),
    )


_DUE: Final = (
    sa.select(
        Transfer.table.c.id,
        Posting.table.c.amount,
        Transfer.table.c.at,
        Transfer.table.c.subject_kind,
        Transfer.table.c.reason,
    )
    .join(Posting.table, Posting.table.c.transfer_id == Transfer.table.c.id)
    .where(
        Posting.table.c.account_id == sa.bindparam("account", type_=sa.Uuid()),
        is_due(sa.bindparam("until", type_=sa.TIMESTAMP(timezone=True))),
    )
    .order_by(Transfer.table.c.at, Transfer.table.c.id)
    .limit(sa.bindparam("most", type_=sa.Integer()))
)


@dataclass(frozen=True, slots=True)
class _Due:
    transfer_id: UUID
    amount: int
    at: datetime
    subject_kind: str
    reason: str

    @property
    def day(self) -> date:
        return calendar.today(self.at)

    @property
    def flow(self) -> ReimbursedFlow:
        return SOURCES[self.subject_kind, self.reason].flow


class _Terms:
    def __init__(self, rows: Sequence[ReimbursementTerms]) -> None:
        self._rows = rows

    def commission_percent(self, due: _Due) -> Decimal:
        terms = self._of(due)
        return terms.commission_percent if terms else Decimal(0)

    def business_days(self, due: _Due) -> int:
        terms = self._of(due)
        return terms.business_days if terms else DEFAULT_BUSINESS_DAYS

    def _of(self, due: _Due) -> ReimbursementTerms | None:
        """Those of its day: the last ones to begin until then."""
        found = [row for row in self._rows if row.flow is due.flow and row.valid_from <= due.day]
        return found[-1] if found else None


def _promised_on(terms: _Terms, due: Sequence[_Due]) -> date:
    """Within so many business days of the first operation."""
    return min(
        calendar.plus_business_days(line.day, terms.business_days(line), ClosingDays.TARGET)
        for line in {(line.flow, line.day): line for line in due}.values()
    )
