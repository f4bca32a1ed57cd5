"""Statements to members: each is issued by a deed of its own, so that a job that is begun anew issues nothing twice;
those of the month that go by post, whichever job has issued them, are then printed into one file."""

import asyncio
from functools import partial
from typing import Final
from uuid import UUID

from domain import jobs, vouchers
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import Job
from domain.texts import Text
from domain.work import perform
from reporting import pdf

_FILE_STEM: Final = Text("releves-{period}", "statements-{period}")
_SAY_EVERY: Final = 20
_KEEP_EVERY_SECONDS: Final = 5


async def issue(database: Database, job: Job, message_id: UUID) -> None:
    """Issue a month's statements. Raises Refused when its user may no longer, Overtaken, and what breaks."""
    keep = partial(perform, database, Actor(tenant=job.tenant))
    run, period = (job.id, job.runs, message_id), job.given["month"]
    async with database.reading(job.tenant) as connection:
        user = await jobs.exporter(connection, job)
        # What an earlier run has issued is done.
        done = await vouchers.issued_by(connection, job.id)
        members = await vouchers.due_members(connection, period)
    if user is None or not user.may_use("issueMemberStatements"):
        raise Refused.forbidden()

    total = done + len(members)
    await keep(jobs.note_progress, *run, done, total)
    for n, member in enumerate(members, start=1):
        if await keep(vouchers.issue_statement, *run, member) is not None:
            done += 1
        if n % _SAY_EVERY == 0:
            await keep(jobs.note_progress, *run, done, total)

    async with database.snapshot(job.tenant) as connection:
        papers = await vouchers.papers(connection, period=period)
        problems = await vouchers.unreached(connection, period)
    if not papers:
        await keep(jobs.finish_without_file, *run, done, rows=problems)
        return
    printing = asyncio.create_task(
        asyncio.to_thread(pdf.rendered, papers[0].template, [paper.words for paper in papers])
    )
    while not printing.done():
        await keep(jobs.note_progress, *run, done, total)
        await asyncio.wait({printing}, timeout=_KEEP_EVERY_SECONDS)
    content = printing.result()
    for n, piece in enumerate(jobs.pieces(content)):
        await keep(jobs.keep_chunk, *run, n, piece)
    stem = _FILE_STEM.in_locale(job.locale, period=period)
    await keep(jobs.finish, *run, done, stem, len(content), rows=problems)
