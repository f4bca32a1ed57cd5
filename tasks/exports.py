"""Exports: a list is read as its user sees it, in one state of the data, and written row by row into a file; the file
is then kept in the database, piece by piece."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import jobs, parties
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import CHUNK_BYTES, ExportFormat, Job
from domain.outbox import OutboxRow
from domain.work import perform
from reporting import files
from reporting.excel import ListFile
from tasks.listings import LISTINGS, Asked, Listing

BATCH: Final = 2_000
"""Rows that are read and written at a time."""


async def job_of(database: Database, tenant: int, message_id: UUID) -> UUID:
    """The job that an outbox row names."""
    table = OutboxRow.table.c
    async with database.reading(tenant) as connection:
        payload = await connection.scalar(sa.select(table.payload).where(table.id == message_id))
    return UUID(cast(dict[str, str], payload)["id"])


async def export(database: Database, job: Job, message_id: UUID) -> None:
    """Do an export. Raises Refused when its user may no longer have it, Overtaken, and what breaks."""
    listing = LISTINGS[job.kind]
    keep = partial(perform, database, Actor(tenant=job.tenant))
    run = (job.id, job.runs, message_id)

    async def say(done: int, total: int) -> None:
        await keep(jobs.note_progress, *run, done, total)

    with TemporaryDirectory(prefix="escarcelle-export-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"list.{job.format.lower()}"
        async with database.snapshot(job.tenant) as connection:
            file, done = await _write(connection, job, listing, path, say)
        await asyncio.to_thread(file.close)
        for n, content in enumerate(_pieces(path)):
            await keep(jobs.keep_chunk, *run, n, content)
        await keep(jobs.finish, *run, done, listing.file_stem.in_locale(job.locale), path.stat().st_size)


async def _write(
    connection: AsyncConnection, job: Job, listing: Listing[Any], path: Path, say: Callable[[int, int], Any]
) -> tuple[ListFile, int]:
    """Write the rows as the user sees them into a file, which is not complete yet; returns it with their number."""
    actor = await jobs.exporter(connection, job)
    if actor is None or not jobs.may_export(actor, job.kind):
        raise Refused.forbidden()
    asked = Asked.by(actor, job)
    question = listing.question(asked)
    total = await connection.scalar(sa.select(sa.func.count()).select_from(question.order_by(None).subquery())) or 0
    await say(0, total)
    made_at = await parties.now(connection, job.tenant)
    file = await asyncio.to_thread(
        files.opened, ExportFormat(job.format), path, listing.title, listing.columns, job.locale, made_at=made_at
    )
    done = 0
    result = await connection.stream(question, execution_options={"yield_per": BATCH})
    async for rows in result.partitions():
        await asyncio.to_thread(_add, file, listing, asked, rows)
        done += len(rows)
        await say(done, total)
    return file, done


def _add(file: ListFile, listing: Listing[Any], asked: Asked, rows: Iterable[sa.Row[Any]]) -> None:
    file.write(listing.cells(asked, row) for row in rows)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
