"""Reports as files: the store for analysts is asked with its user's eyes, and the answer written as a list is."""

import asyncio
from datetime import date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

from domain import jobs, parties
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import ExportFormat, Job, RowProblem
from domain.settings import Settings
from domain.texts import Text
from domain.work import perform
from reporting import files, questions
from reporting.excel import Chart, Column, Kind
from reporting.questions import Answer, Parameters
from reporting.store import ColumnKind

_FILE_STEM: Final = Text("rapport-{name}", "report-{name}")
_TOO_MANY: Final = Text(
    "Ce rapport a {count} lignes, et un fichier {most} au plus : resserrez la période.",
    "This report has {count} rows, and a file {most} at most: narrow the period.",
)
_COLUMNS: Final = {
    ColumnKind.TEXT: (Kind.TEXT, 30),
    ColumnKind.COUNT: (Kind.COUNT, 12),
    ColumnKind.MONEY: (Kind.AMOUNT, 14),
    ColumnKind.DAY: (Kind.DAY, 12),
    ColumnKind.INSTANT: (Kind.INSTANT, 17),
}
"""What a file's column of that kind is, and its width in characters."""


async def export(settings: Settings, database: Database, job: Job, message_id: UUID) -> None:
    """Write a report into a file. Raises Refused when its user may no longer, or there is no store; RowsRefused for a
    report that is too large; Overtaken, and what breaks."""
    keep = partial(perform, database, Actor(tenant=job.tenant))
    run = (job.id, job.runs, message_id)
    async with database.reading(job.tenant) as connection:
        user, issuer = await jobs.exporter(connection, job), await parties.issuer(connection)
    if user is None or not user.may_use("exportReport") or settings.reporting_folder is None:
        raise Refused.forbidden()
    given, name = job.given, job.given["report"]
    merchant = questions.about_whom(name, user, UUID(given["merchant"]) if given["merchant"] else None)
    parameters = Parameters(
        datetime.fromisoformat(given["as_of"]) if given["as_of"] else None,
        date.fromisoformat(given["since"]) if given["since"] else None,
        date.fromisoformat(given["until"]) if given["until"] else None,
        merchant,
        UUID(given["point_of_sale"]) if given["point_of_sale"] else None,
    )
    try:
        answer = await questions.ask(
            settings.reporting_folder,
            issuer.slug,
            name,
            parameters,
            test=issuer.sandbox,
            first=questions.MOST_IN_A_FILE,
        )
    except questions.NoStore:
        raise Refused.not_found() from None
    except questions.TooLong:
        raise jobs.RowsRefused(RowProblem.of(questions.TOO_LONG)) from None
    if answer.count > len(answer.rows):
        # A part would look like the whole, and its totals like those of all.
        raise jobs.RowsRefused(RowProblem.of(_TOO_MANY, count=answer.count, most=questions.MOST_IN_A_FILE))
    await keep(jobs.note_progress, *run, 0, len(answer.rows))
    with TemporaryDirectory(prefix="escarcelle-report-") as folder:
        path = Path(folder) / "report"
        await asyncio.to_thread(_write, path, answer, job)
        content = await asyncio.to_thread(path.read_bytes)
    for n, piece in enumerate(jobs.pieces(content)):
        await keep(jobs.keep_chunk, *run, n, piece)
    stem = _FILE_STEM.in_locale(job.locale, name=name.replace("_", "-"))
    await keep(jobs.finish, *run, len(answer.rows), stem, len(content))


def _write(path: Path, answer: Answer, job: Job) -> None:
    columns = [
        Column(column.heading, width, kind, column.is_summed)
        for column in answer.columns
        for kind, width in (_COLUMNS[column.kind],)
    ]
    title, made_at, chart = answer.report.title, answer.about.copied_at, _chart(answer)
    file = files.opened(ExportFormat(job.format), path, title, columns, job.locale, made_at=made_at, chart=chart)
    file.write(
        [column.in_words(cell, job.locale) for column, cell in zip(answer.columns, row, strict=True)]
        for row in answer.rows
    )
    file.close()


def _chart(answer: Answer) -> Chart | None:
    names = [column.name for column in answer.columns]
    if answer.report.chart is None:
        return None
    labels, lengths = answer.report.chart
    return Chart(names.index(labels), names.index(lengths))
