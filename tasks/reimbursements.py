"""Runs of reimbursements: each merchant is reimbursed by a deed of its own, so that a run which is begun anew pays
nothing twice; what is to be sent then goes into one file for the bank."""

import asyncio
from datetime import date
from functools import partial
from typing import Final
from uuid import UUID

from domain import jobs, parties, reimbursements
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import Job
from domain.texts import Text
from domain.work import perform
from reporting import sepa

_FILE_STEM: Final = Text("virements", "transfers")
_SAY_EVERY: Final = 20


async def run(database: Database, job: Job, message_id: UUID) -> None:
    """Reimburse every merchant. Raises Refused when its user may no longer, Overtaken, and what breaks."""
    keep = partial(perform, database, Actor(tenant=job.tenant))
    mine = (job.id, job.runs, message_id)
    async with database.reading(job.tenant) as connection:
        user = await jobs.exporter(connection, job) if job.user_id else None
        merchants = await reimbursements.due_merchants(connection, date.fromisoformat(job.given["through"]))
        # What an earlier run of the job has made is done, and is sent with the rest.
        done = await reimbursements.made_by(connection, job.id)
    if job.user_id and (user is None or not user.may_use("runReimbursements")):
        raise Refused.forbidden()

    total = done + len(merchants)
    await keep(jobs.note_progress, *mine, done, total)
    for n, merchant_id in enumerate(merchants, start=1):
        while await keep(reimbursements.reimburse, *mine, merchant_id) is not None:
            done += 1
        if n % _SAY_EVERY == 0:
            await keep(jobs.note_progress, *mine, done, total)

    file = await keep(reimbursements.send, *mine)
    # It is found among the files of transfers; who has asked for the run gets it at once.
    if not isinstance(file, reimbursements.TransferFile) or job.user_id is None:
        await keep(jobs.finish_without_file, *mine, done)
        return
    async with database.reading(job.tenant) as connection:
        ordered, issuer = await reimbursements.sent_in(connection, file.id), await parties.issuer(connection)
    content = await asyncio.to_thread(sepa.transfers, file, ordered, issuer)
    for n, piece in enumerate(jobs.pieces(content)):
        await keep(jobs.keep_chunk, *mine, n, piece)
    stem = issuer.file_mark + _FILE_STEM.in_locale(job.locale)
    await keep(jobs.finish, *mine, done, stem, len(content))
