"""Exports: a list is read as its user sees it, in one state of the data, and written row by row into a file; the file
is then kept in the database, piece by piece."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, jobs, parties, payments
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.jobs import CHUNK_BYTES, ExportFormat, Job, JobKind
from domain.outbox import OutboxRow
from domain.parties import PointOfSale
from domain.payments import PaymentRequest
from domain.texts import Locale, Text
from domain.work import perform
from reporting.excel import Cell, Column, ListFile, SemicolonText, Workbook

BATCH: Final = 2_000
"""Rows that are read and written at a time."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A kind of list: what it is called, its question in the order of the screen, and what its rows show."""

    title: Text
    file_stem: Text
    columns: Sequence[Column]
    question: Callable[[Actor, Mapping[str, Any]], sa.Select[Any]]
    cells: Callable[[sa.Row[Any], Locale], Sequence[Cell]]


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
    connection: AsyncConnection, job: Job, listing: Listing, path: Path, say: Callable[[int, int], Any]
) -> tuple[ListFile, int]:
    """Write the rows as the user sees them into a file, which is not complete yet; returns it with their number."""
    actor = await jobs.exporter(connection, job)
    if actor is None:
        raise Refused.forbidden()
    question = listing.question(actor, job.given)
    total = await connection.scalar(sa.select(sa.func.count()).select_from(question.order_by(None).subquery())) or 0
    await say(0, total)
    made_at = await parties.now(connection, job.tenant)
    file = await asyncio.to_thread(_open, ExportFormat(job.format), path, listing, job.locale, made_at)
    done = 0
    result = await connection.stream(question, execution_options={"yield_per": BATCH})
    async for rows in result.partitions():
        await asyncio.to_thread(_add, file, listing, job.locale, rows)
        done += len(rows)
        await say(done, total)
    return file, done


def _open(kind: ExportFormat, path: Path, listing: Listing, locale: Locale, made_at: datetime) -> ListFile:
    match kind:
        case ExportFormat.XLSX:
            return Workbook(path, listing.title, listing.columns, locale, made_at=made_at)
        case ExportFormat.CSV:
            return SemicolonText(path, listing.columns, locale)


def _add(file: ListFile, listing: Listing, locale: Locale, rows: Iterable[sa.Row[Any]]) -> None:
    file.write(listing.cells(row, locale) for row in rows)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece


# ── payment requests ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Line:
    request: PaymentRequest
    place: PointOfSale
    locale: Locale


def _requests(actor: Actor, given: Mapping[str, Any]) -> sa.Select[Any]:
    """The list as it is filtered on the screen, in its order (P8)."""
    where = payments.FILTER_DOCUMENT.validate_python(given["conditions"])
    since, until = given["since"], given["until"]
    where = where.within(
        calendar.start_of_day(date.fromisoformat(since)) if since else None,
        calendar.end_of_day(date.fromisoformat(until)) if until else None,
    )
    place = UUID(given["point_of_sale_id"]) if given["point_of_sale_id"] else None
    order = payments.PaymentRequestOrder(given.get("order_by", payments.PaymentRequestOrder.LAST_ACTION))
    return payments.in_order(payments.requests(actor, place, where), order)


def _cells_of_request(row: sa.Row[Any], locale: Locale) -> Sequence[Cell]:
    line = _Line(*payments.request_and_place(row), locale)
    return [cell(line) for _, cell in _REQUEST]


def _validate_by(request: PaymentRequest) -> Cell:
    """The last day, as the screen shows it: the instant behind it would read as the day after."""
    deadline = request.validation_deadline
    return calendar.last_day_before(deadline) if deadline else None


_REQUEST: Final[Sequence[tuple[Column, Callable[[_Line], Cell]]]] = (
    (Column(Text("Dernière action", "Last action"), 17), lambda line: line.request.last_action_at),
    (Column(Text("N° de panier", "Basket number"), 20), lambda line: line.request.basket_number),
    (Column(Text("Type", "Type"), 18), lambda line: payments.TYPE_LABELS[line.request.flow].in_locale(line.locale)),
    (
        Column(Text("Statut", "Status"), 29),
        lambda line: payments.STATUS_LABELS[line.request.status].in_locale(line.locale),
    ),
    (
        Column(Text("Montant demandé", "Amount requested"), 14, is_totalled=True),
        lambda line: line.request.amount_requested,
    ),
    (Column(Text("Montant réglé", "Amount paid"), 14, is_totalled=True), lambda line: line.request.amount_paid),
    (
        Column(Text("Montant validé", "Amount validated"), 14, is_totalled=True),
        lambda line: line.request.amount_validated,
    ),
    (Column(Text("Montant reçu", "Amount received"), 14, is_totalled=True), lambda line: line.request.amount_received),
    (
        Column(Text("Reste à régler", "Left to settle"), 14, is_totalled=True),
        lambda line: line.request.amount_remaining,
    ),
    (Column(Text("Point d’accueil", "Point of sale"), 12), lambda line: line.place.code),
    (Column(Text("Nom du point d’accueil", "Name of the point of sale"), 38), lambda line: line.place.name),
    (Column(Text("Libellé", "Label"), 30), lambda line: line.request.label),
    (Column(Text("Référence client", "Customer reference"), 20), lambda line: line.request.customer_reference),
    (Column(Text("Identifiant vendeur", "Seller identifier"), 18), lambda line: line.request.seller_identifier),
    (Column(Text("Identifiant client", "Customer identifier"), 34), lambda line: line.request.customer_identifier),
    (Column(Text("N° de transaction", "Transaction number"), 16), lambda line: line.request.transaction_number),
    (Column(Text("Créé le", "Created"), 17), lambda line: line.request.created_at),
    (
        Column(Text("Date limite de paiement", "Payment deadline"), 17),
        lambda line: line.request.payment_due_on or line.request.payment_deadline,
    ),
    (Column(Text("Date limite de validation", "Validation deadline"), 17), lambda line: _validate_by(line.request)),
)

LISTINGS: Final[Mapping[JobKind, Listing]] = {
    JobKind.EXPORT_PAYMENT_REQUESTS: Listing(
        Text("Opérations", "Payment requests"),
        Text("operations", "payment-requests"),
        [column for column, _ in _REQUEST],
        _requests,
        _cells_of_request,
    ),
}
"""What is listed for each kind of export."""
