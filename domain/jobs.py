"""Jobs: what takes longer than an answer may, done by a worker while its user watches: exports with their file, and
what is done for many at once.

A job begins with a row of the outbox. Its worker says how far it is, which also keeps that row in hand; when a worker
breaks off, the row is handed to another, which begins anew. A run that has been overtaken writes nothing more, so that
a file comes from one run and is whole. Files stand in the database, in chunks, where every process reaches them; after
a day they go. A file that was handed in for a job stands there until the job is over."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, messages
from domain.access import ISSUER_STAFF, MERCHANT, RIGHTS, Actor, Grant, Right, Role, User
from domain.codes import new_id
from domain.db import Entity, Row, column
from domain.deadlines import when_due
from domain.errors import RefusalCode, Refused
from domain.lifecycle import Lifecycle
from domain.parties import PointOfSale
from domain.texts import Fact, Locale, Text
from domain.work import Work

# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class JobStatus(StrEnum):
    """QUEUED: no worker has it yet, or its worker broke off. RUNNING: a worker is at it. DONE, FAILED: it is over."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class JobKind(StrEnum):
    """What is done."""

    EXPORT_PAYMENT_REQUESTS = "EXPORT_PAYMENT_REQUESTS"
    EXPORT_VOUCHERS = "EXPORT_VOUCHERS"
    EXPORT_SUPPLIER_INVOICES = "EXPORT_SUPPLIER_INVOICES"
    EXPORT_MEMBER_STATEMENTS = "EXPORT_MEMBER_STATEMENTS"
    EXPORT_REIMBURSEMENTS = "EXPORT_REIMBURSEMENTS"
    EXPORT_HOLDERS = "EXPORT_HOLDERS"
    EXPORT_JOURNAL = "EXPORT_JOURNAL"
    ISSUE_MEMBER_STATEMENTS = "ISSUE_MEMBER_STATEMENTS"
    IMPORT_HOLDERS = "IMPORT_HOLDERS"
    RUN_REIMBURSEMENTS = "RUN_REIMBURSEMENTS"
    IMPORT_BANK_ANSWER = "IMPORT_BANK_ANSWER"
    EXPORT_REPORT = "EXPORT_REPORT"


class ExportFormat(StrEnum):
    """XLSX: a workbook with real numbers and dates. CSV: text for any program, semicolons between the columns.
    PARQUET: typed columns, for what reckons with many rows."""

    XLSX = "XLSX"
    CSV = "CSV"
    PARQUET = "PARQUET"


class FileFormat(StrEnum):
    """What kind of file a job makes, or is made from. PDF: pages to be printed. XLS: a workbook as Excel wrote it until
    2007. XML: what banks read and write."""

    XLSX = "XLSX"
    CSV = "CSV"
    PARQUET = "PARQUET"
    PDF = "PDF"
    XLS = "XLS"
    XML = "XML"


FINAL: Final = frozenset({JobStatus.DONE, JobStatus.FAILED})
HANDED_IN: Final = frozenset({JobKind.IMPORT_HOLDERS, JobKind.IMPORT_BANK_ANSWER})
"""What is done from a file, which is kept until the job is over."""


@dataclass(frozen=True, slots=True)
class ExportRule:
    """Who may have a list as a file: those who see it. `has_period`: its rows happened at an instant. `has_places`:
    each belongs to a point of sale."""

    seen_by: frozenset[Role]
    has_period: bool = True
    has_places: bool = False


def _like(question: str, **rule: bool) -> ExportRule:
    """As the API's question of that name is asked by."""
    roles = RIGHTS[question]
    assert roles is not None, "lists are for those who have signed in"
    return ExportRule(roles & (ISSUER_STAFF | MERCHANT), **rule)


EXPORTS: Final[Mapping[JobKind, ExportRule]] = {
    JobKind.EXPORT_PAYMENT_REQUESTS: _like("paymentRequests", has_places=True),
    JobKind.EXPORT_VOUCHERS: _like("vouchers"),
    JobKind.EXPORT_SUPPLIER_INVOICES: _like("supplierInvoices"),
    JobKind.EXPORT_MEMBER_STATEMENTS: _like("memberStatements"),
    JobKind.EXPORT_REIMBURSEMENTS: _like("reimbursements"),
    JobKind.EXPORT_HOLDERS: _like("holders", has_period=False),
    JobKind.EXPORT_JOURNAL: ExportRule(ISSUER_STAFF),
}
"""The kinds of job that are exports. A holder has none (P8 is the merchant's and the issuer's)."""

# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Job(
    Entity,
    table="jobs",
    prefix="jobs",
    constraints=(
        sa.Index(
            "jobs_unfinished_idx", "tenant", "user_id", postgresql_where=sa.text("status IN ('QUEUED', 'RUNNING')")
        ),
    ),
    options={"fillfactor": 80},
):
    """Something done for a user, or, without one, because its time has come. `given` says what was asked for, until the
    job is over and its file is gone; `done` of `total` rows are done. `runs` counts how often a worker has begun.
    `file_bytes` is the size of the file, null when there is none, or none any more. `problems` are those of the rows
    that a file was refused for, or that the job has left out."""

    kind: JobKind
    status: JobStatus
    user_id: UUID | None = column(references="users")
    format: FileFormat
    locale: Locale
    given: dict[str, Any]
    runs: int = 0
    done: int = 0
    total: int | None = None
    created_at: datetime
    ended_at: datetime | None = None
    file_name: str | None = None
    file_bytes: int | None = None
    file_expires_at: datetime | None = None
    problems: dict[str, Any] | None = None
    version: int = 0


class JobChunk(
    Row,
    table="job_chunks",
    key=("job_id", "n"),
    app="SELECT, INSERT, DELETE",
    constraints=(
        sa.CheckConstraint("octet_length(content) BETWEEN 1 AND 262144", name="content"),
        sa.CheckConstraint("n >= 0", name="n"),
    ),
):
    """A piece of the file that a job makes, or is made from; `n` counts from 0."""

    job_id: UUID = column(references="jobs")
    n: int
    content: bytes


LIFE: Final = Lifecycle(
    Job,
    {
        ("start", JobStatus.QUEUED): JobStatus.RUNNING,
        ("break_off", JobStatus.RUNNING): JobStatus.QUEUED,
        ("finish", JobStatus.RUNNING): JobStatus.DONE,
        ("fail", JobStatus.RUNNING): JobStatus.FAILED,
    },
)

CHUNK_BYTES: Final = 256 * 1024
FILE_LASTS: Final = timedelta(hours=24)
"""How long a file can be downloaded."""

MOST_RUNS: Final = 3
"""A job that breaks off so often has failed."""

MOST_AT_ONCE: Final = 5
"""Jobs that one user may have unfinished."""

DOWNLOAD: Final = "download"
"""What the signature of a download link is for."""


class Overtaken(Exception):
    """Another worker has begun with the job since: what this one still wants to write is not wanted."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with one row, or with the whole when `row` is None, as it is said in each language; `column` is the
    letter of the one it is about."""

    said: Mapping[str, str]
    row: int | None = None
    column: str | None = None

    @classmethod
    def of(cls, text: Text, row: int | None = None, column: str | None = None, **facts: Fact) -> "RowProblem":
        """A sentence with its facts."""
        return cls({locale.value: text.in_locale(locale, **facts) for locale in Locale}, row, column)


_FAILED: Final = Text(
    "L’opération n’a pas pu aboutir. Réessayez, ou contactez l’assistance si cela se reproduit.",
    "This could not be completed. Try again, or contact support if it happens again.",
)
_GONE_EXPORT: Final = Text("Ce fichier a expiré : refaites l’export.", "This file has expired: export again.")
_GONE: Final[Mapping[JobKind, Text]] = {
    JobKind.ISSUE_MEMBER_STATEMENTS: Text(
        "Ce fichier a expiré : demandez de nouveau les relevés de ce mois, il sera réimprimé.",
        "This file has expired: ask for this month’s statements again, and it is printed anew.",
    ),
    JobKind.RUN_REIMBURSEMENTS: Text(
        "Ce fichier a expiré : vous le retrouverez parmi les fichiers de virements.",
        "This file has expired: it is among the files of transfers.",
    ),
}
"""How the file of a job can be had again once it is gone."""

_MORE: Final = Text("Et {more} autres problèmes.", "And {more} more problems.")
MOST_PROBLEMS: Final = 100
"""How many problems of a file are told; of those behind them, only how many they are."""


class RowsRefused(Refused):
    """A file was refused for its rows; nothing was done. The first hundred problems are told; `more` were found behind
    them and are only counted."""

    def __init__(self, *found: RowProblem, more: int = 0) -> None:
        super().__init__(RefusalCode.FILE_INVALID, _FAILED)
        self.rows = _told(sorted(found, key=lambda problem: problem.row or 0), more)


def _told(found: Sequence[RowProblem], more: int = 0) -> list[RowProblem]:
    more += max(0, len(found) - MOST_PROBLEMS)
    return [*found[:MOST_PROBLEMS], *([RowProblem.of(_MORE, more=more)] if more else [])]


def problems(job: Job) -> list[RowProblem]:
    """What went wrong, for people."""
    if job.problems is not None:
        return [RowProblem(**each) for each in job.problems["rows"]]
    return [RowProblem.of(_FAILED)] if job.status is JobStatus.FAILED else []


# ── deeds, in the order of life ───────────────────────────────────────────────────────────────────────────────────────


async def create_export(
    work: Work,
    actor: Actor,
    *,
    kind: JobKind,
    format: ExportFormat,  # noqa: A002 — the contract's word
    locale: Locale,
    since: date | None = None,
    until: date | None = None,
    point_of_sale_id: UUID | None = None,
    conditions: Mapping[str, Any] | None = None,
    order_by: str | None = None,
) -> Job:
    """A list is written into a file (P8). A merchant's user gets the points of sale where it may export (P4), or one of
    them; `since` and `until` are civil days, both included; `conditions` and `order_by` are the list's own, as a
    document and a name.

    Raises Refused: NOT_FOUND for a point of sale that this user does not see, FORBIDDEN without the right to export
    and for a list that this user does not see, INVALID for days in the wrong order, and for days or a point of sale
    where the list's rows have none, RATE_LIMITED with too many unfinished jobs."""
    actor.require("createExport")
    assert actor.user_id is not None, "jobs are done for users"
    rule = EXPORTS[kind]
    if actor.role not in rule.seen_by:
        raise Refused.forbidden()
    for name, day in (("since", since), ("until", until)):
        if day is not None and not rule.has_period:
            raise not_of_this_list(f"input.{name}")
        if day is not None and not 1900 <= day.year <= 9000:
            raise Refused.invalid(
                f"input.{name}", "Ce jour est hors du calendrier.", "This day is out of the calendar."
            )
    if since is not None and until is not None and until < since:
        raise Refused.invalid(
            "input.until", "La fin vient avant le début de la période.", "The period ends before it begins."
        )
    if point_of_sale_id is not None and not rule.has_places:
        raise not_of_this_list("input.pointOfSaleId")
    await work.take(User.by(id=actor.user_id))
    if point_of_sale_id is not None:
        place = await work.read(
            sa.select(PointOfSale.table.c.merchant_id).where(PointOfSale.table.c.id == point_of_sale_id)
        )
        if not place:
            raise Refused.not_found()
        if actor.role not in ISSUER_STAFF:
            actor.require_at(place[0][0], point_of_sale_id, Right.EXPORT)
    elif actor.role is Role.MERCHANT_STAFF and not any(Right.EXPORT in rights for rights in actor.grants.values()):
        raise Refused.forbidden()
    given = {
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "point_of_sale_id": str(point_of_sale_id) if point_of_sale_id else None,
        "conditions": dict(conditions or {}),
        **({"order_by": order_by} if order_by else {}),
    }
    return await queue(work, actor, kind, FileFormat(format), locale, given, point_of_sale_id)


async def export_report(
    work: Work,
    actor: Actor,
    *,
    report: str,
    format: ExportFormat,  # noqa: A002 — the contract's word
    locale: Locale,
    as_of: datetime | None = None,
    since: date | None = None,
    until: date | None = None,
    merchant_id: UUID | None = None,
    point_of_sale_id: UUID | None = None,
) -> Job:
    """A report of the store for analysts is written into a file. Raises Refused: FORBIDDEN, RATE_LIMITED with too many
    unfinished jobs."""
    actor.require("exportReport")
    await work.take(User.by(id=actor.user_id))
    given = {
        "report": report,
        "as_of": as_of and as_of.isoformat(),
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "merchant": merchant_id and str(merchant_id),
        "point_of_sale": point_of_sale_id and str(point_of_sale_id),
    }
    return await queue(work, actor, JobKind.EXPORT_REPORT, FileFormat(format), locale, given, point_of_sale_id)


def not_of_this_list(field: str) -> Refused:
    """What is asked of a list that does not know it; `field` is its path from the arguments."""
    return Refused.invalid(field, "Cette liste n’a pas ce critère.", "This list has no such condition.")


async def queue(
    work: Work,
    actor: Actor,
    kind: JobKind,
    format: FileFormat,  # noqa: A002 — the contract's word
    locale: Locale,
    given: Mapping[str, Any],
    point_of_sale_id: UUID | None = None,
) -> Job:
    """A job for this user, whose row is taken, or one that nobody watches; a worker begins with it after the commit.
    Raises Refused: RATE_LIMITED with too many unfinished jobs."""
    if actor.user_id is not None:
        await _require_few(work, actor.user_id)
    job = work.create(
        Job(
            tenant=work.tenant,
            id=new_id(),
            kind=kind,
            status=JobStatus.QUEUED,
            user_id=actor.user_id,
            format=format,
            locale=locale,
            given=dict(given),
            created_at=work.now,
        )
    )
    work.begin(job)
    return work.note("create", job, point_of_sale_id=point_of_sale_id, job=str(kind), format=str(format))


async def keep_given(work: Work, job: Job, content: bytes) -> None:
    """What was handed in for a job is kept, piece by piece, until the job is over: call it last, for a deed that writes
    midway shares its transaction with no other."""
    for n, piece in enumerate(pieces(content)):
        await work.flush()
        work.add(JobChunk(tenant=work.tenant, job_id=job.id, n=n, content=piece))


def pieces(content: bytes) -> Iterator[bytes]:
    """A file's content, cut as it is kept."""
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


async def start(work: Work, actor: Actor, job_id: UUID) -> Job | None:
    """A worker begins, anew when another has begun before and is heard of no more. None when there is nothing to do:
    the job is over."""
    job = await work.take(Job.by(id=job_id))
    if job.status is JobStatus.RUNNING:
        await _break_off(work, job, "no longer heard of")
        await work.flush()
    if job.status in FINAL:
        return None
    work.move(job, "start", runs=job.runs + 1, done=0, total=None)
    return work.note("start", job)


async def note_progress(
    work: Work, actor: Actor, job_id: UUID, run: int, message_id: UUID, done: int, total: int
) -> None:
    """So many rows are done. Raises Overtaken."""
    job = await take_running(work, actor, job_id, run, message_id)
    work.change(job, done=done, total=max(done, total))


async def keep_chunk(
    work: Work, actor: Actor, job_id: UUID, run: int, message_id: UUID, n: int, content: bytes
) -> None:
    """A piece of the file is kept. Raises Overtaken."""
    await take_running(work, actor, job_id, run, message_id)
    work.add(JobChunk(tenant=work.tenant, job_id=job_id, n=n, content=content))


async def finish(
    work: Work,
    actor: Actor,
    job_id: UUID,
    run: int,
    message_id: UUID,
    done: int,
    file_stem: str,
    file_bytes: int,
    *,
    rows: Sequence[RowProblem] = (),
) -> Job:
    """The whole file is kept; from now on it can be downloaded, for a day of the issuer's clock. Everything is done,
    but for `rows`, which hold no personal data. Raises Overtaken."""
    job = await take_running(work, actor, job_id, run, message_id)
    _keep_problems(work, job, rows)
    expires_at = work.now + FILE_LASTS
    work.move(
        job,
        "finish",
        done=done,
        total=done,
        ended_at=work.now,
        file_name=f"{file_stem}-{calendar.today(work.now).isoformat()}.{job.format.lower()}",
        file_bytes=file_bytes,
        file_expires_at=expires_at,
    )
    work.deadline(job, "expire_file", expires_at)
    return work.note("finish", job, rows=done)


async def finish_without_file(
    work: Work,
    actor: Actor,
    job_id: UUID,
    run: int,
    message_id: UUID,
    done: int,
    *,
    rows: Sequence[RowProblem] = (),
) -> Job:
    """Everything is done, but for `rows`, and there was nothing to put into a file. Raises Overtaken."""
    job = await take_running(work, actor, job_id, run, message_id)
    await _remove_chunks(work, job)
    _keep_problems(work, job, rows)
    work.move(job, "finish", done=done, total=done, ended_at=work.now, given={})
    return work.note("finish", job, rows=done)


async def take_running(work: Work, actor: Actor, job_id: UUID, run: int, message_id: UUID) -> Job:
    """The job, when this run is still the one that counts; its message stays in this worker's hands. Raises
    Overtaken."""
    job = await work.take(Job.by(id=job_id))
    if job.status is not JobStatus.RUNNING or job.runs != run:
        raise Overtaken
    await messages.keep_in_hand(work, actor, message_id)
    return job


async def break_off(
    work: Work,
    actor: Actor,
    job_id: UUID,
    run: int,
    reason: str,
    *,
    for_good: bool = False,
    counts: bool = True,
    rows: Sequence[RowProblem] = (),
) -> Job:
    """The worker cannot go on: the job waits for another run, or has failed, `for_good` or for the last time; a run
    that the job is not to blame for does not count. `reason` and `rows` hold no personal data. Raises Overtaken."""
    job = await work.take(Job.by(id=job_id))
    if job.status is not JobStatus.RUNNING or job.runs != run:
        raise Overtaken
    if rows:
        work.change(job, problems={"rows": [asdict(problem) for problem in rows]})
    await _break_off(work, job, reason, for_good=for_good, counts=counts)
    return job


# ── what its deadline does ────────────────────────────────────────────────────────────────────────────────────────────


@when_due(Job, "expire_file")
async def expire_file(work: Work, actor: Actor, job_id: UUID) -> Job:
    """The file goes, and with it what was searched for, which may name people."""
    job = await work.take(Job.by(id=job_id))
    if job.file_expires_at is None or job.file_bytes is None or work.now < job.file_expires_at:
        return job
    await _remove_chunks(work, job)
    work.change(job, file_bytes=None, given={})
    work.no_longer(job, "expire_file")
    return work.note("expire_file", job)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def job(connection: AsyncConnection, actor: Actor, job_id: UUID) -> Job | None:
    """One job of this user's own, or None; without its file from the instant at which that expires."""
    table = Job.table.c
    gone = table.file_expires_at <= sa.select(sa.func.tenant_clock(actor.tenant)).scalar_subquery()
    columns = [
        sa.case((gone, None), else_=table.file_bytes).label("file_bytes") if name == "file_bytes" else table[name]
        for name in Job.columns
    ]
    row = (
        await connection.execute(sa.select(*columns).where(table.id == job_id, table.user_id == actor.user_id))
    ).first()
    return Job.from_row(row) if row else None


async def exporter(connection: AsyncConnection, job: Job) -> Actor | None:
    """With whose eyes an export is made: its user's as they are now, at the points of sale where it may export. None
    when the user may not sign in any more."""
    row = (await connection.execute(sa.select(*User.selected()).where(User.table.c.id == job.user_id))).first()
    user = User.from_row(row) if row else None
    if user is None or not user.active:
        return None
    rows = await connection.execute(sa.select(*Grant.selected()).where(Grant.table.c.user_id == user.id))
    grants = {grant.point_of_sale_id: frozenset(map(Right, grant.rights)) for grant in map(Grant.from_row, rows)}
    return Actor(
        tenant=job.tenant,
        user_id=user.id,
        role=user.role,
        merchant_id=user.merchant_id,
        grants={place: rights for place, rights in grants.items() if Right.EXPORT in rights},
    )


def may_export(actor: Actor, kind: JobKind) -> bool:
    """Whether this `exporter` may still have such a list: it sees it, and a merchant's staff may export somewhere."""
    return actor.role in EXPORTS[kind].seen_by and (actor.role is not Role.MERCHANT_STAFF or bool(actor.grants))


async def file_of(connection: AsyncConnection, tenant: int, job_id: UUID) -> Job:
    """The job whose file can be downloaded. Raises Refused: NOT_FOUND when there is none, or its user may not sign in
    any more; TOO_LATE when it has expired."""
    table = Job.table.c
    row = (
        await connection.execute(
            sa.select(*Job.selected(), sa.func.tenant_clock(tenant))
            .join(User.table, User.table.c.id == table.user_id)
            .where(table.id == job_id, User.table.c.active)
        )
    ).first()
    if row is None:
        raise Refused.not_found()
    found, now = Job.from_row(tuple(row)[:-1]), row[-1]
    if found.file_expires_at is None:
        raise Refused.not_found()
    if found.file_bytes is None or now >= found.file_expires_at:
        raise Refused(RefusalCode.TOO_LATE, _GONE.get(found.kind, _GONE_EXPORT))
    return found


async def given_content(connection: AsyncConnection, job_id: UUID) -> bytes:
    """What was handed in for a job."""
    table = JobChunk.table.c
    return b"".join(await connection.scalars(sa.select(table.content).where(table.job_id == job_id).order_by(table.n)))


async def chunk(connection: AsyncConnection, job_id: UUID, n: int) -> bytes | None:
    """A piece of a file; None after the last one."""
    table = JobChunk.table.c
    content: bytes | None = await connection.scalar(
        sa.select(table.content).where(table.job_id == job_id, table.n == n)
    )
    return content


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _require_few(work: Work, user_id: UUID) -> None:
    table = Job.table.c
    unfinished = [str(status) for status in JobStatus if status not in FINAL]
    rows = await work.read(sa.select(sa.func.count()).where(table.user_id == user_id, table.status.in_(unfinished)))
    if rows[0][0] >= MOST_AT_ONCE:
        raise Refused(
            RefusalCode.RATE_LIMITED,
            Text(
                "{most} opérations sont déjà en cours : attendez que l’une d’elles se termine.",
                "{most} operations are under way already: wait until one of them is over.",
            ),
            most=MOST_AT_ONCE,
        )


async def _break_off(work: Work, job: Job, reason: str, *, for_good: bool = False, counts: bool = True) -> None:
    fails = for_good or (counts and job.runs >= MOST_RUNS)
    # What was handed in is there for the next run; what was half made is made anew.
    if fails or job.kind not in HANDED_IN:
        await _remove_chunks(work, job)
    if fails:
        work.move(job, "fail", ended_at=work.now, given={})
        work.note("fail", job, reason=reason)
    else:
        work.move(job, "break_off", done=0, total=None)
        work.note("break_off", job, reason=reason)


def _keep_problems(work: Work, job: Job, rows: Sequence[RowProblem]) -> None:
    if rows:
        work.change(job, problems={"rows": [asdict(problem) for problem in _told(rows)]})


async def _remove_chunks(work: Work, job: Job) -> None:
    table = JobChunk.table.c
    for (n,) in await work.read(sa.select(table.n).where(table.job_id == job.id)):
        work.remove(JobChunk(tenant=work.tenant, job_id=job.id, n=n, content=b""))
