"""The bank's answers: what a pain.002 or a camt.053 says about transfers settles reimbursements, or rejects them. Each
is a deed of its own, and one that is told again changes nothing: an import that breaks off is begun anew."""

import asyncio
from functools import partial
from typing import Final
from uuid import UUID

from domain import jobs, money, reimbursements
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import Job, RowProblem
from domain.reimbursements import Reimbursement, ReimbursementStatus
from domain.texts import Text
from domain.work import perform
from reporting import sepa
from reporting.sepa import Answer, Outcome

_SAY_EVERY: Final = 20
_UNKNOWN: Final = Text(
    "{reference} : aucun remboursement ne porte cette référence.", "{reference}: no such reimbursement."
)
_OTHER_AMOUNT: Final = Text(
    "{reference} : la banque dit {said}, le remboursement est de {net}. Rien n’a été changé.",
    "{reference}: the bank says {said}, the reimbursement is of {net}. Nothing was changed.",
)
_OTHER_ACCOUNT: Final = Text(
    "{reference} : ce n’est pas le compte d’où ce virement a été ordonné. Rien n’a été changé.",
    "{reference}: this is not the account that the transfer was ordered from. Nothing was changed.",
)
_OTHER_MESSAGE: Final = Text(
    "{reference} : ce n’est pas la réponse à l’envoi de ce virement. Rien n’a été changé.",
    "{reference}: this is no answer to the message of this transfer. Nothing was changed.",
)
_SETTLED: Final = Text(
    "{reference} : la banque rejette tout l’envoi, mais ce remboursement est déjà réglé. Rien n’a été changé.",
    "{reference}: the bank rejects the whole message, but this reimbursement is settled. Nothing was changed.",
)
_NOT_NOW: Final = Text("{reference} : {why}", "{reference}: {why}")


async def take_over(database: Database, job: Job, message_id: UUID) -> None:
    """Take over what a file of the bank says. Raises Refused when its user may no longer, RowsRefused for a file that
    is no answer, Overtaken, and what breaks."""
    keep = partial(perform, database, Actor(tenant=job.tenant))
    run = (job.id, job.runs, message_id)
    async with database.reading(job.tenant) as connection:
        user = await jobs.exporter(connection, job)
        content = await jobs.given_content(connection, job.id)
    if user is None or not user.may_use("importBankAnswer"):
        raise Refused.forbidden()
    try:
        answers = await asyncio.to_thread(sepa.answers, content)
    except sepa.NotAnAnswer as error:
        raise jobs.RowsRefused(RowProblem.of(error.text)) from None

    problems: list[RowProblem] = []
    for n, answer in enumerate(answers):
        if n % _SAY_EVERY == 0:
            await keep(jobs.note_progress, *run, n, len(answers))
        problems += await _take(database, user, answer)
    await keep(jobs.finish_without_file, *run, len(answers), rows=problems)


async def _take(database: Database, user: Actor, answer: Answer) -> list[RowProblem]:
    """One answer; returns what could not be done."""
    name = answer.message_id if answer.end_to_end_id is None else answer.end_to_end_id
    async with database.reading(user.tenant) as connection:
        if answer.end_to_end_id is None:
            meant = await reimbursements.in_file(connection, name or "")
        else:
            found = await reimbursements.reimbursement_of(connection, answer.end_to_end_id)
            meant = [found] if found else []
        files = await reimbursements.files_of(connection, [each.id for each in meant])
    if not meant:
        # A statement tells of everything on the account; most of it is not ours. A report tells of our messages.
        is_ours = (answer.is_report and not answer.end_to_end_id) or reimbursements.is_reference(name or "")
        return [RowProblem.of(_UNKNOWN, reference=name or "?")] if is_ours else []
    # Another issuer's references are like ours.
    if answer.account and any(file.iban != answer.account for file in files):
        return [RowProblem.of(_OTHER_ACCOUNT, reference=name or "?")]
    if answer.is_report and answer.end_to_end_id and any(file.reference != answer.message_id for file in files):
        return [RowProblem.of(_OTHER_MESSAGE, reference=name or "?")]
    problems = []
    if answer.end_to_end_id is None:
        if answer.outcome is Outcome.REJECTED:
            settled = [each for each in meant if each.status is ReimbursementStatus.SETTLED]
            problems = [RowProblem.of(_SETTLED, reference=each.reference) for each in settled]
        meant = [each for each in meant if each.status is ReimbursementStatus.SENT]
    net = sum(each.net for each in meant)
    if meant and answer.said is not None and answer.amount != net:
        said = money.shown(answer.amount) if answer.amount is not None else answer.said
        return [RowProblem.of(_OTHER_AMOUNT, reference=name or "?", said=said, net=money.shown(net))]
    return problems + [problem for each in meant if (problem := await _apply(database, user, answer, each)) is not None]


async def _apply(database: Database, user: Actor, answer: Answer, to: Reimbursement) -> RowProblem | None:
    try:
        if answer.outcome is Outcome.SETTLED:
            await perform(database, user, reimbursements.settle, to.id, answer.bank_reference)
        else:
            await perform(database, user, reimbursements.reject, to.id, answer.code, answer.text)
    except Refused as refused:
        return RowProblem.of(_NOT_NOW, reference=to.reference, why=refused.message)
    return None
