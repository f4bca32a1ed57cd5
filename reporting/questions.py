"""Questions to an issuer's store: the reports that everyone asks, and the door to them.

A question is answered by a process of its own (`reporting.answer`), with little memory and for a short time: it opens
the store to read, reaches nothing else, and no till waits for it. `ask` knows no rights: it answers about the merchant
that it is given, or about all. `about_whom` says which one a user may read about: who asks for a user goes by it."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson

from domain.access import ISSUER_STAFF, Actor, Role
from domain.errors import Refused
from domain.texts import Text
from reporting import words
from reporting.flows import FLOWS
from reporting.store import PARAMETERS, Column, ColumnKind, Place, Report

LONGEST_SECONDS: Final = 20.0
MOST_ROWS: Final = 10_000
"""Rows of a page."""

MOST_IN_A_FILE: Final = 200_000
AT_ONCE: Final = 2
TOO_LONG: Final = Text(
    "Ce rapport demande trop de temps : resserrez la période.", "This report takes too long: narrow the period."
)
"""What is said where a question has taken longer than it may."""


class NoStore(Exception):
    """There is no store of this issuer here, or one that another version of the program has made; the next copy makes
    it."""


class TooLong(Exception):
    """The question took longer than it may."""


class CannotAnswer(Exception):
    """The store does not answer; the message is DuckDB's."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a report is asked for. `as_of`: as it was known at that instant; the copy's own unless said; a later one
    says what will be if nobody does anything. Both days are included."""

    as_of: datetime | None = None
    since: date | None = None
    until: date | None = None
    merchant: UUID | None = None
    point_of_sale: UUID | None = None


ALL: Final = Parameters()


@dataclass(frozen=True, slots=True)
class About:
    """What a store says about itself: whose it is, as of when it is, and what is in it."""

    issuer: str
    name: str
    test: bool
    as_of: datetime
    copied_at: datetime
    number: int
    watermark: int
    ledger_lines: int
    operations: int
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A page of a report. Money is integer cents. `count` is the number of all its rows, and `totals` sums up all of
    them, by column."""

    report: Report
    about: About
    rows: list[tuple[Any, ...]]
    count: int
    totals: dict[str, int]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the cells of a row are."""
        return self.report.columns


async def ask(
    folder: Path,
    slug: str,
    name: str,
    parameters: Parameters = ALL,
    *,
    test: bool,
    first: int = 100,
    skip: int = 0,
) -> Answer:
    """A page of a report over an issuer's store below REPORTING_FOLDER; `test` says whether the issuer is a sandbox.
    Raises KeyError for a report that there is not, ValueError for a parameter that it does not take, NoStore, TooLong,
    CannotAnswer."""
    report = REPORTS[name]
    # A limit that is not understood must not become none: a merchant's would show it the others.
    lost = _lost(report, parameters)
    if lost or (parameters.merchant is not None and not report.for_merchants):
        raise ValueError(f"{report.name} is not asked with {', '.join(sorted(lost or {'merchant'}))}")
    answer = await _answer(
        folder,
        slug,
        test,
        {
            "sql": _typed(report.sql),
            "given": {name: _as_json(getattr(parameters, name)) for name in PARAMETERS if name in report.takes},
            "columns": [column.name for column in report.columns],
            "summed": [column.name for column in report.columns if column.is_summed],
            "first": max(0, min(first, MOST_IN_A_FILE)),
            "skip": max(0, skip),
        },
    )
    rows = [
        tuple(_value(column.kind, cell) for column, cell in zip(report.columns, row, strict=True))
        for row in answer["rows"]
    ]
    return Answer(report, _about(answer), rows, answer["count"], answer["totals"])


def require_taken(name: str, parameters: Parameters) -> None:
    """Raises Refused (INVALID) for what the report cannot be asked with, naming the argument."""
    for lost in sorted(_lost(REPORTS[name], parameters)):
        raise Refused.invalid(
            _ARGUMENTS[lost], "Ce rapport ne se limite pas ainsi.", "This report cannot be limited in this way."
        )


def about_whom(name: str, actor: Actor, merchant: UUID | None) -> UUID | None:
    """The merchant that this actor's report is about: a signatory's own in any case, and for the issuer's staff the one
    it names, or all. Raises Refused: FORBIDDEN, NOT_FOUND, INVALID."""
    for_merchants = REPORTS[name].for_merchants
    if actor.role in ISSUER_STAFF:
        if merchant is not None and not for_merchants:
            raise Refused.invalid(
                "merchantId",
                "Ce rapport ne se lit pas commerçant par commerçant.",
                "This report is not read merchant by merchant.",
            )
        return merchant
    if actor.role is not Role.MERCHANT_MANAGER or not for_merchants:
        raise Refused.forbidden()
    if merchant not in (None, actor.merchant_id):
        raise Refused.not_found()
    return actor.merchant_id


async def about(folder: Path, slug: str, *, test: bool) -> About:
    """What the issuer's store says about itself. Raises NoStore, TooLong, CannotAnswer."""
    return _about(await _answer(folder, slug, test, {}))


# ── reports that no flow brings ───────────────────────────────────────────────────────────────────────────────────────

_ACCOUNT_KIND: Final = Column(
    "account_kind", ColumnKind.TEXT, Text("Nature du compte", "Kind of account"), words=words.ACCOUNT_KINDS
)
_MERCHANT: Final = Column("merchant", ColumnKind.TEXT, Text("Commerçant", "Merchant"))
_FLOW: Final = Column("flow", ColumnKind.TEXT, Text("Parcours", "Flow"), words=words.FLOWS)
_VARIANT: Final = Column("variant", ColumnKind.TEXT, Text("Type", "Type"), words=words.VARIANTS)
_AMOUNT: Final = Column("amount", ColumnKind.MONEY, Text("Montant", "Amount"))
_OF_ONE: Final = (
    "($merchant IS NULL OR merchant_id = $merchant) AND ($point_of_sale IS NULL OR point_of_sale_id = $point_of_sale)"
)
_IN_DAYS: Final = "($since IS NULL OR day >= $since) AND ($until IS NULL OR day <= $until)"

_HOUSE: Final = (
    Report(
        "balances",
        Text("Soldes par nature de compte", "Balances by kind of account"),
        (
            Column(
                "account_kind", ColumnKind.TEXT, Text("Nature du compte", "Kind of account"), words=words.ACCOUNT_KINDS
            ),
            Column("accounts", ColumnKind.COUNT, Text("Comptes", "Accounts")),
            Column("amount", ColumnKind.MONEY, Text("Solde", "Balance")),
        ),
        """
        SELECT account_kind, count(*) AS accounts, sum(amount_cents)::BIGINT AS amount
        FROM balances_as_of($as_of) GROUP BY ALL ORDER BY 1
        """,
        chart=("account_kind", "amount"),
    ),
    Report(
        "outstanding",
        Text("Encours : combien, à qui, pourquoi", "Outstanding: how much, to whom, why"),
        (
            Column(
                "account_kind", ColumnKind.TEXT, Text("Nature du compte", "Kind of account"), words=words.ACCOUNT_KINDS
            ),
            _MERCHANT,
            _FLOW,
            Column("reason", ColumnKind.TEXT, Text("Motif", "Reason"), words=words.REASONS),
            Column("age", ColumnKind.TEXT, Text("Ancienneté (jours)", "Age (days)")),
            Column("items", ColumnKind.COUNT, Text("Éléments", "Items")),
            Column("since", ColumnKind.INSTANT, Text("Depuis", "Since")),
            _AMOUNT,
        ),
        f"""
        SELECT account_kind, merchant, flow, reason, age, sum(items)::BIGINT AS items, min(since) AS since,
          sum(amount_cents)::BIGINT AS amount
        FROM outstanding_as_of($as_of) WHERE {_OF_ONE}
        GROUP BY account_kind, merchant_id, merchant, flow, reason, age
        ORDER BY account_kind, merchant NULLS FIRST, merchant_id, flow, reason, min(since)
        """,
        for_merchants=True,
    ),
    Report(
        "operations",
        Text("Opérations par jour, parcours et point de vente", "Operations by day, flow and point of sale"),
        (
            Column("day", ColumnKind.DAY, Text("Jour", "Day")),
            _FLOW,
            _VARIANT,
            Column("operation", ColumnKind.TEXT, Text("Opération", "Operation"), words=words.OPERATIONS),
            _MERCHANT,
            Column("point_of_sale", ColumnKind.TEXT, Text("Point de vente", "Point of sale")),
            Column("operations", ColumnKind.COUNT, Text("Nombre", "Count")),
            Column("amount", ColumnKind.MONEY, Text("Montant", "Amount"), total=False),
        ),
        f"""
        SELECT day, flow, variant, kind AS operation, merchant, point_of_sale, sum(operations)::BIGINT AS operations,
          sum(amount_cents)::BIGINT AS amount
        FROM operations_by_day_as_of($as_of) WHERE {_OF_ONE} AND {_IN_DAYS}
        GROUP BY day, flow, variant, kind, merchant_id, merchant, point_of_sale_id, point_of_sale
        ORDER BY 1, 2, 3, 4, 5, 6, merchant_id, point_of_sale_id
        """,
        for_merchants=True,
    ),
    Report(
        "breakage",
        Text("Valeur réservée et jamais utilisée", "Reserved value that was never used"),
        (
            Column("month", ColumnKind.DAY, Text("Mois", "Month")),
            _FLOW,
            _VARIANT,
            Column("why", ColumnKind.TEXT, Text("Pourquoi", "Why"), words=words.WHY_UNUSED),
            _MERCHANT,
            Column("items", ColumnKind.COUNT, Text("Éléments", "Items")),
            _AMOUNT,
        ),
        f"""
        SELECT date_trunc('month', day)::DATE AS month, flow, variant, why, merchant, sum(items)::BIGINT AS items,
          sum(amount_cents)::BIGINT AS amount
        FROM breakage_as_of($as_of) WHERE {_OF_ONE} AND {_IN_DAYS}
        GROUP BY 1, flow, variant, why, merchant_id, merchant ORDER BY 1, 2, 3, 4, 5, merchant_id
        """,
        for_merchants=True,
    ),
    Report(
        "deadlines",
        Text("Échéances à venir", "Deadlines to come"),
        (
            Column("day", ColumnKind.DAY, Text("Jour", "Day")),
            _FLOW,
            Column("deadline", ColumnKind.TEXT, Text("Échéance", "Deadline"), words=words.DEADLINES),
            _MERCHANT,
            Column("items", ColumnKind.COUNT, Text("Éléments", "Items")),
            _AMOUNT,
        ),
        f"""
        SELECT day, flow, name AS deadline, merchant, count(*) AS items, sum(amount_cents)::BIGINT AS amount
        FROM (
          -- A deadline is exclusive: the last moment before it names the day.
          SELECT *, ((due_at - INTERVAL 1 MICROSECOND) AT TIME ZONE 'Europe/Paris')::DATE AS day
          FROM deadlines_as_of($as_of)
        ) WHERE {_OF_ONE} AND {_IN_DAYS}
        GROUP BY day, flow, name, merchant_id, merchant ORDER BY 1, 2, 3, 4, merchant_id
        """,
        for_merchants=True,
    ),
)

REPORTS: Final[Mapping[str, Report]] = {
    report.name: report for report in (*_HOUSE, *(report for flow in FLOWS for report in flow.reports))
}
"""Every report, by name: the house's, and those that the flows bring."""

# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_turns = asyncio.Semaphore(AT_ONCE)
_TYPED: Final = {
    "$as_of": "coalesce($as_of::TIMESTAMPTZ, (SELECT as_of FROM about))",
    "$since": "$since::DATE",
    "$until": "$until::DATE",
    "$merchant": "$merchant::UUID",
    "$point_of_sale": "$point_of_sale::UUID",
}


_ARGUMENTS: Final = {
    "as_of": "asOf",
    "since": "since",
    "until": "until",
    "merchant": "merchantId",
    "point_of_sale": "pointOfSaleId",
}


def _as_json(value: Any) -> Any:
    """An identifier from the driver is of a class of its own."""
    return str(value) if isinstance(value, UUID) else value


def _lost(report: Report, parameters: Parameters) -> frozenset[str]:
    given = {name for name in PARAMETERS if getattr(parameters, name) is not None}
    return frozenset(given) - report.takes


def _typed(sql: str) -> str:
    """A null alone has no type."""
    for name, typed in _TYPED.items():
        sql = sql.replace(name, typed)
    return sql


async def _answer(folder: Path, slug: str, test: bool, question: dict[str, Any]) -> dict[str, Any]:
    link = await asyncio.to_thread(_store, folder, slug, test)
    async with _turns:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reporting.answer", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                said, _ = await process.communicate(orjson.dumps(question | {"file": str(link)}))
        except TimeoutError:
            raise TooLong from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    answer: dict[str, Any] = orjson.loads(said or b'{"failed": "no answer"}')
    if "outdated" in answer:
        raise NoStore(answer["outdated"])
    if "failed" in answer:
        raise CannotAnswer(answer["failed"])
    return answer


def _store(folder: Path, slug: str, test: bool) -> Path:
    try:
        link = Place.of(folder.absolute(), slug, test=test).link
    except ValueError as error:
        raise NoStore(str(error)) from None
    if not link.exists():
        raise NoStore(f"there is no {link.name}")
    return link


def _about(answer: dict[str, Any]) -> About:
    said = {name: answer["about"][name] for name in About.__dataclass_fields__}
    return About(**said | {name: datetime.fromisoformat(said[name]) for name in ("as_of", "copied_at")})


def _value(kind: ColumnKind, cell: Any) -> Any:
    if cell is None or kind in (ColumnKind.COUNT, ColumnKind.MONEY):
        return cell
    if kind is ColumnKind.DAY:
        return date.fromisoformat(cell)
    return datetime.fromisoformat(cell) if kind is ColumnKind.INSTANT else str(cell)
