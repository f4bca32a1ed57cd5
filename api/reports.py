"""Reports: the questions that everyone asks the store for analysts, and what the store says about itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, cast
from uuid import UUID

import strawberry

from api.context import Context
from api.exports import ExportFormat
from api.jobs import JobResult
from api.shapes import Info, described, field, id_of, mutation, question, view
from api.transport import Rejected
from domain import copies, jobs, money, parties
from domain.errors import Refused
from reporting import questions, store

ReportColumnKind = described(store.ColumnKind)
_NAMES: Any = StrEnum("ReportKind", {name.upper(): name.upper() for name in questions.REPORTS})  # type: ignore[misc]
ReportKind = strawberry.enum(_NAMES, description="The reports there are.")

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(copies.ReportingCopy, "The store for analysts, as the last copy has left it.")
class ReportingStore:
    """A view of domain.copies.ReportingCopy."""

    as_of: datetime = field("The ledger is there as it was at this instant, by the issuer's clock.")
    copied_at: datetime = field("When it was copied, by real time.")
    ledger_lines: int = field("How many lines of the ledger it holds.")
    operations: int = field("How many lines of the journal it holds.")
    digest: str = field("What ledger and store were compared by.")

    @strawberry.field(description="Everything of transactions before this one is there.")
    def watermark(self) -> str:
        return str(cast(copies.ReportingCopy, self).watermark)


@view(store.Column, "A column of a report.")
class ReportColumn:
    """A view of reporting.store.Column."""

    name: str = field("Its name, for programs.")
    kind: ReportColumnKind = field("What its cells are.")  # type: ignore[valid-type]

    @strawberry.field(description="Its heading, in the caller's language.")
    def heading(self, info: Info) -> str:
        return cast(store.Column, self).heading.in_locale(info.context.locale)


@dataclass(frozen=True)
class ReportOf:
    """An answer of the store."""

    answer: questions.Answer
    as_of: datetime


@view(ReportOf, "A report, as it was known at an instant.")
class Report:
    """A view of ReportOf."""

    as_of: datetime = field("As of when.")

    @strawberry.field(description="Which one.", graphql_type=ReportKind)
    def kind(self) -> object:
        return ReportKind(_answer(self).report.name.upper())

    @strawberry.field(description="What it is called, in the caller's language.")
    def title(self, info: Info) -> str:
        return _answer(self).report.title.in_locale(info.context.locale)

    @strawberry.field(description="Whether the issuer is a sandbox: nothing of this is real.")
    def test(self) -> bool:
        return _answer(self).about.test

    @strawberry.field(description="Its columns.", graphql_type=list[ReportColumn])
    def columns(self) -> Sequence[store.Column]:
        return _answer(self).columns

    @strawberry.field(
        description="This page's rows, a cell for each column: an amount in euros with two decimals, a number, a day or"
        " an instant as ISO 8601 writes it, or text in the caller's language."
    )
    def rows(self, info: Info) -> list[list[str | None]]:
        answer, locale = _answer(self), info.context.locale
        return [
            [
                _written(column.kind, column.in_words(cell, locale))
                for column, cell in zip(answer.columns, row, strict=True)
            ]
            for row in answer.rows
        ]

    @strawberry.field(description="The sums over all rows, for the columns that have one.")
    def totals(self) -> list[str | None]:
        answer = _answer(self)
        return [_written(column.kind, answer.totals.get(column.name)) for column in answer.columns]

    @strawberry.field(description="How many rows there are in all.")
    def total_count(self) -> int:
        return _answer(self).count


def _answer(view_of: object) -> questions.Answer:
    return cast(ReportOf, view_of).answer


def _written(kind: store.ColumnKind, cell: Any) -> str | None:
    if cell is None:
        return None
    if kind is store.ColumnKind.MONEY:
        return money.decimal(cell)
    return cell.isoformat() if isinstance(cell, date) else str(cell)


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class ReportQueries:
    """Questions to the store."""

    @question("The store for analysts; null until there is a first copy.", ReportingStore | None)
    async def reporting_store(self, info: Info) -> copies.ReportingCopy | None:
        async with info.context.reading() as connection:
            return await copies.last_copy(connection)

    @question(
        "A report: all of the issuer for its staff, its own merchant for a signatory. Null while there is no store.",
        Report | None,
    )
    async def report(
        self,
        info: Info,
        kind: ReportKind,  # type: ignore[valid-type]
        as_of: datetime | None = None,
        since: date | None = None,
        until: date | None = None,
        merchant_id: strawberry.ID | None = None,
        point_of_sale_id: strawberry.ID | None = None,
        first: int = 100,
        skip: int = 0,
    ) -> ReportOf | None:
        context, name = info.context, str(kind).lower()
        if as_of is not None and as_of.utcoffset() is None:
            raise Refused.invalid(
                "asOf", "Un instant avec son fuseau est attendu.", "An instant with a zone is expected."
            )
        merchant, place = await _about_whom(context, name, merchant_id, point_of_sale_id)
        folder = context.services.settings.reporting_folder
        async with context.reading() as connection:
            issuer = await parties.issuer(connection)
        if folder is None:
            return None
        given = questions.Parameters(as_of, since, until, merchant, place)
        questions.require_taken(name, given)
        try:
            page = {"first": min(first, questions.MOST_ROWS), "skip": skip}
            answer = await questions.ask(folder, issuer.slug, name, given, test=issuer.sandbox, **page)
        except questions.NoStore:
            return None
        except questions.TooLong:
            raise Rejected("TIMEOUT", questions.TOO_LONG.in_locale(context.locale)) from None
        return ReportOf(answer, as_of or answer.about.as_of)


@strawberry.input(description="A report, as a file.")
class ExportReportInput:
    """For `exportReport`."""

    kind: ReportKind = strawberry.field(description="Which one.")  # type: ignore[valid-type]
    format: ExportFormat = strawberry.field(  # type: ignore[valid-type]
        default=jobs.ExportFormat.XLSX, description="What kind of file."
    )
    as_of: datetime | None = strawberry.field(default=None, description="As it was known then; absent: at the copy.")
    since: date | None = strawberry.field(default=None, description="From this day on.")
    until: date | None = strawberry.field(default=None, description="Until this day, included.")
    merchant_id: strawberry.ID | None = strawberry.field(default=None, description="About one merchant.")
    point_of_sale_id: strawberry.ID | None = strawberry.field(default=None, description="About one point of sale.")


@strawberry.type
class ReportMutations:
    """Deeds about reports."""

    @mutation(JobResult, "A report as a file; a workbook has a chart where there is something to look at.")
    async def export_report(self, info: Info, input: ExportReportInput) -> jobs.Job:
        context, name = info.context, str(input.kind).lower()
        merchant, place = await _about_whom(context, name, input.merchant_id, input.point_of_sale_id)
        questions.require_taken(name, questions.Parameters(input.as_of, input.since, input.until, merchant, place))
        if context.services.settings.reporting_folder is None:
            raise Refused.not_found()
        return await context.perform(
            jobs.export_report,
            report=name,
            format=input.format,
            locale=context.locale,
            as_of=input.as_of,
            since=input.since,
            until=input.until,
            merchant_id=merchant,
            point_of_sale_id=place,
        )


async def _about_whom(
    context: Context, name: str, merchant_id: str | None, point_of_sale_id: str | None
) -> tuple[UUID | None, UUID | None]:
    """The merchant and the point of sale that the report is to be about. Raises Refused."""
    actor = context.someone
    place = id_of(context, point_of_sale_id, parties.PointOfSale.prefix) if point_of_sale_id else None
    wanted = questions.about_whom(
        name, actor, id_of(context, merchant_id, parties.Merchant.prefix) if merchant_id else None
    )
    if place is not None:
        async with context.reading() as connection:
            if await parties.point_of_sale(connection, actor, place) is None:
                raise Refused.not_found()
    return wanted, place
