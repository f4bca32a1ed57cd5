"""What a store for analysts is made of: tables, macros and reports, declared as words; flows bring their own.

A store is one DuckDB file for each issuer. It holds no name of a person, no address, no text that anybody typed, no
token and no code: a holder is an identifier. Amounts are integer cents (`…_cents`), instants are UTC, and `day` is the
civil day in Paris. `happened_at` is the issuer's own clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from domain.texts import Locale, Text


class Read(StrEnum):
    """How a copy finds what is new. APPENDED: rows are never touched again, and bear the number of their transaction.
    BY_JOURNAL: every change of a row has a line in the journal. WHOLE: a small table, read each time."""

    APPENDED = "APPENDED"
    BY_JOURNAL = "BY_JOURNAL"
    WHOLE = "WHOLE"


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its type in DuckDB, what PostgreSQL computes it from, and its meaning. `digest` says whether the copy's
    verification reads it in every row; of the others it compares count and sum."""

    name: str
    type: str
    sql: str
    says: str
    digest: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the store. `source` is what follows FROM in PostgreSQL, with the row's own table as `t`; `key` names
    its row; `subject` is the prefix that the journal knows its rows by."""

    name: str
    says: str
    source: str
    read: Read
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    subject: str | None = None

    @property
    def columns(self) -> str:
        """What PostgreSQL is asked for."""
        return ", ".join(f"{field.sql} AS {field.name}" for field in self.fields)

    @property
    def definition(self) -> str:
        """The table as DuckDB makes it."""
        columns = ", ".join(f"{field.name} {field.type}" for field in self.fields)
        return f"CREATE TABLE {self.name} ({columns})"


@dataclass(frozen=True, slots=True)
class Macro:
    """A question to the store, as of an instant: `<name>_as_of(instant)`. The view `<name>` asks it as of the copy
    itself. Where there is no instant in it, there is only the view; where `<name>` is a table, only the macro."""

    name: str
    says: str
    sql: str
    as_of: bool = True
    view: bool = True


class ColumnKind(StrEnum):
    """What a report's cells are. COUNT: a number. MONEY: an amount. DAY: a civil day. INSTANT: a moment."""

    TEXT = "TEXT"
    COUNT = "COUNT"
    MONEY = "MONEY"
    DAY = "DAY"
    INSTANT = "INSTANT"


@dataclass(frozen=True, slots=True)
class Column:
    """A report's column. Counts and money are summed up at its foot, unless `total` says no. `words` are what its codes
    are called by people."""

    name: str
    kind: ColumnKind
    heading: Text
    total: bool = True
    words: Mapping[str, Text] | None = None

    def in_words(self, cell: Any, locale: Locale) -> Any:
        """A cell as people read it: its word, where it is a code."""
        word = self.words.get(cell) if self.words is not None and isinstance(cell, str) else None
        return cell if word is None else word.in_locale(locale)

    @property
    def is_summed(self) -> bool:
        """Whether the report's totals have it."""
        return self.total and self.kind in (ColumnKind.COUNT, ColumnKind.MONEY)


@dataclass(frozen=True, slots=True)
class Report:
    """A question that everyone asks. `sql` may name $as_of (an instant), $since and $until (days, both included),
    $merchant and $point_of_sale (identifiers); null means no such limit, and for $as_of the copy's own instant.
    `for_merchants`: whether a merchant may ask it, about itself; the SQL then names $merchant. `chart`: the columns
    whose cells name its bars, and say how long they are, where people would rather look than read."""

    name: str
    title: Text
    columns: tuple[Column, ...]
    sql: str
    for_merchants: bool = False
    chart: tuple[str, str] | None = None

    @property
    def takes(self) -> frozenset[str]:
        """The parameters that it may be asked with."""
        return frozenset(name for name in PARAMETERS if f"${name}" in self.sql)


@dataclass(frozen=True, slots=True)
class Flow:
    """What a flow brings to the store. Its SELECTs are put together with those of the other flows:

    `subjects`: subject_id, flow, variant, merchant_id, point_of_sale_id, holder_id of all that the journal names.
    `deadlines`: subject_id, flow, name, merchant_id, point_of_sale_id, amount_cents, due_at, as of `instant`."""

    name: str
    tables: tuple[Table, ...]
    macros: tuple[Macro, ...]
    subjects: str
    deadlines: str
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an issuer's store lies below REPORTING_FOLDER: `<name>.duckdb` is a link to the newest of
    `<name>/store-<number>.duckdb`. A sandbox's name begins with TEST."""

    folder: Path
    name: str

    @classmethod
    def of(cls, folder: Path, slug: str, *, test: bool) -> "Place":
        """Raises ValueError for a slug that no folder can bear, or that looks like a sandbox's or like the months'."""
        plain = slug.replace("-", "").replace("_", "")
        # Beside the stores lies the folder of all issuers' months.
        if not plain.isalnum() or slug.startswith(TEST) or slug == MONTHS:
            raise ValueError(f"the issuer's short name {slug!r} cannot be a file's")
        return cls(folder, f"{TEST if test else ''}{slug}")

    @property
    def link(self) -> Path:
        """What analysts open."""
        return self.folder / f"{self.name}.duckdb"

    @property
    def versions(self) -> Path:
        """The folder of the files that the link points to in turn."""
        return self.folder / self.name

    @property
    def parquet(self) -> Path:
        """The folder of the months."""
        return self.folder / MONTHS / f"tenant={self.name}"


TEST: Final = "TEST-"
MONTHS: Final = "parquet"
PARAMETERS: Final = ("as_of", "since", "until", "merchant", "point_of_sale")

# ── what every issuer has ─────────────────────────────────────────────────────────────────────────────────────────────


def day(instant: str) -> str:
    """The civil day in Paris, in PostgreSQL."""
    return f"({instant} AT TIME ZONE 'Europe/Paris')::date"


LEDGER_LINES: Final = Table(
    "ledger_lines",
    "One side of a transfer of value. The lines of a transfer sum to zero.",
    "transfers t JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id",
    Read.APPENDED,
    ("transfer_id", "account_id"),
    (
        Field("transfer_id", "UUID", "p.transfer_id", "the transfer", digest=True),
        Field("account_id", "UUID", "p.account_id", "→ accounts", digest=True),
        Field("kind", "VARCHAR", "t.kind", "TRANSFER, RESERVE, POST, VOID"),
        Field("reason", "VARCHAR", "t.reason", "why: credit, payment, cancel, expire, …"),
        Field("subject_kind", "VARCHAR", "t.subject_kind", "preq, vchr, sinv, hold: what it is about"),
        Field("subject_id", "UUID", "t.subject_id", "→ subjects"),
        Field("unit", "VARCHAR", "p.unit", "what is counted: EUR"),
        Field("amount_cents", "BIGINT", "p.amount", "positive adds to the account", digest=True),
        Field("happened_at", "TIMESTAMPTZ", "t.at", "when it was decided", digest=True),
        Field("day", "DATE", day("t.at"), "its civil day"),
    ),
)
OPERATIONS: Final = Table(
    "operations",
    "The journal: a line for every change of everything.",
    "journal t",
    Read.APPENDED,
    ("id",),
    (
        Field("id", "UUID", "t.id", "the line", digest=True),
        Field("sequence", "BIGINT", "t.sequence", "its place in the journal"),
        Field("kind", "VARCHAR", "t.kind", "what was done: preq.pay, vchr.deliver, …", digest=True),
        Field("subject_kind", "VARCHAR", "t.subject_kind", "what it was done to"),
        Field("subject_id", "UUID", "t.subject_id", "→ subjects"),
        Field("point_of_sale_id", "UUID", "t.point_of_sale_id", "→ points_of_sale, where there is one"),
        Field("holder_id", "UUID", "t.holder_id", "→ holders, where there is one"),
        Field("amount_cents", "BIGINT", "t.amount", "how much it was about", digest=True),
        Field("happened_at", "TIMESTAMPTZ", "t.at", "when", digest=True),
        Field("day", "DATE", day("t.at"), "its civil day"),
    ),
)
_CORE_TABLES: Final = (
    LEDGER_LINES,
    OPERATIONS,
    Table(
        "accounts",
        "Where value stands.",
        "accounts t",
        Read.WHOLE,
        ("id",),
        (
            Field("id", "UUID", "t.id", "the account"),
            Field(
                "kind",
                "VARCHAR",
                "t.kind",
                "FUNDING, WALLET, HELD, MERCHANT, GUARANTEE, DEBT, TRANSIT, BANK, COMMISSION",
            ),
            Field("owner_id", "UUID", "t.owner_id", "→ holders, merchants, or the issuer"),
            Field("unit", "VARCHAR", "t.unit", "what it counts"),
            Field("opened_at", "TIMESTAMPTZ", "t.opened_at", "since when"),
        ),
    ),
    Table(
        "merchants",
        "Who collects value; a supplier of vouchers is one too.",
        "merchants t",
        Read.WHOLE,
        ("id",),
        (
            Field("id", "UUID", "t.id", "the merchant"),
            Field("code", "VARCHAR", "t.code", "its code"),
            Field("name", "VARCHAR", "t.name", "its business name"),
            Field("active", "BOOLEAN", "t.active", "whether it may ask for anything new"),
            Field("created_at", "TIMESTAMPTZ", "t.created_at", "since when"),
        ),
    ),
    Table(
        "points_of_sale",
        "Where merchants collect.",
        "points_of_sale t",
        Read.WHOLE,
        ("id",),
        (
            Field("id", "UUID", "t.id", "the point of sale"),
            Field("merchant_id", "UUID", "t.merchant_id", "→ merchants"),
            Field("code", "VARCHAR", "t.code", "its code"),
            Field("name", "VARCHAR", "t.name", "its name"),
            Field("created_at", "TIMESTAMPTZ", "t.created_at", "since when"),
        ),
    ),
    Table(
        "holders",
        "Who holds value: an identifier, and nothing that says who it is.",
        "holders t",
        Read.BY_JOURNAL,
        ("id",),
        (
            Field("id", "UUID", "t.id", "the holder"),
            Field("is_member", "BOOLEAN", "t.member_since IS NOT NULL", "whether it may have vouchers"),
            Field("created_at", "TIMESTAMPTZ", "t.created_at", "since when"),
        ),
        subject="hold",
    ),
)

ABOUT: Final = Table(
    "about",
    "What the store is: one row.",
    "",
    Read.WHOLE,
    (),
    (
        Field("issuer", "VARCHAR", "", "the issuer's short name"),
        Field("name", "VARCHAR", "", "the issuer's name"),
        Field("test", "BOOLEAN", "", "true: a sandbox, whose value is not real"),
        Field("as_of", "TIMESTAMPTZ", "", "the instant of the issuer's clock that everything here is as of"),
        Field("copied_at", "TIMESTAMPTZ", "", "the same instant, of real time"),
        Field("number", "BIGINT", "", "counts the copies in this folder"),
        Field("watermark", "BIGINT", "", "the transaction that the next copy reads from"),
        Field("watermark_since", "TIMESTAMPTZ", "", "since when it has been this one"),
        Field("waiting", "BIGINT", "", "how many lines are here that the next copy reads again"),
        Field("cluster", "VARCHAR", "", "the database that the watermark counts in"),
        Field("ledger_lines", "BIGINT", "", "how many there are"),
        Field("operations", "BIGINT", "", "how many there are"),
        Field("digest", "VARCHAR", "", "what PostgreSQL and this store computed alike over every line"),
        Field("shape", "VARCHAR", "", "changes with the tables"),
    ),
)

_CORE_MACROS: Final = (
    Macro(
        "ledger",
        "Every line of the ledger with its account, readable.",
        """
        SELECT l.happened_at, l.day, l.kind, l.reason, l.subject_kind, l.subject_id, l.transfer_id, l.account_id,
          a.kind AS account_kind, a.owner_id, m.code AS merchant_code, m.name AS merchant, l.unit, l.amount_cents,
          euros(l.amount_cents) AS amount
        FROM ledger_lines l JOIN accounts a ON a.id = l.account_id LEFT JOIN merchants m ON m.id = a.owner_id
        WHERE l.happened_at <= instant::TIMESTAMPTZ
        """,
    ),
    Macro(
        "balances",
        "What stands on each account.",
        """
        SELECT account_id, account_kind, owner_id, merchant_code, merchant, unit,
          sum(amount_cents)::BIGINT AS amount_cents, euros(sum(amount_cents)) AS amount
        FROM ledger_as_of(instant) GROUP BY ALL
        """,
    ),
    Macro(
        "open_items",
        "What each balance is made of, and since when. A wallet is spent oldest value first; what a merchant is owed is"
        " paid line by line, by reimbursements; every other account is settled object by object.",
        """
        WITH lines AS (SELECT * FROM ledger_as_of(instant)),
        reimbursed AS (
          SELECT transfer_id FROM reimbursement_lines WHERE id IN (
            SELECT subject_id FROM operations WHERE happened_at <= instant::TIMESTAMPTZ AND subject_kind = 'reim'
            GROUP BY subject_id HAVING count(*) FILTER (WHERE kind IN ('reim.reject', 'reim.return')) = 0
          )
        ),
        wallets AS (
          SELECT account_id, sum(amount_cents) AS balance FROM lines WHERE account_kind = 'WALLET' GROUP BY account_id
        ),
        brought AS (  -- what comes back from a reservation was brought before it
          SELECT * FROM lines WHERE account_kind = 'WALLET'
          QUALIFY min(amount_cents) OVER (PARTITION BY account_id, subject_id) > 0
        ),
        received AS (
          SELECT *, sum(amount_cents) OVER (
            PARTITION BY account_id ORDER BY happened_at DESC, transfer_id DESC ROWS UNBOUNDED PRECEDING
          ) AS newest FROM brought
        )
        SELECT r.account_id, r.account_kind, r.owner_id, r.merchant_code, r.merchant, r.unit, r.subject_kind,
          r.subject_id, r.reason, r.happened_at AS since,
          greatest(0, least(r.amount_cents, w.balance - (r.newest - r.amount_cents)))::BIGINT AS amount_cents
        FROM received r JOIN wallets w USING (account_id) WHERE w.balance > r.newest - r.amount_cents
        UNION ALL
        SELECT account_id, account_kind, owner_id, merchant_code, merchant, unit, subject_kind, subject_id,
          arg_min(reason, happened_at), min(happened_at), sum(amount_cents)::BIGINT
        FROM lines WHERE account_kind <> 'WALLET' AND NOT (
          account_kind = 'MERCHANT' AND (subject_kind = 'reim' OR transfer_id IN (FROM reimbursed))
        )
        GROUP BY account_id, account_kind, owner_id, merchant_code, merchant, unit, subject_kind, subject_id
        HAVING sum(amount_cents) <> 0
        """,
    ),
    Macro(
        "outstanding",
        "How much is owed, to whom and why, by age in days. Positive: the issuer owes it (WALLET to holders, MERCHANT"
        " to merchants, TRANSIT to them as well, on its way; HELD to whom it is decided for). Negative: members owe it"
        " (DEBT), or it is guaranteed for them (GUARANTEE).",
        """
        SELECT o.account_kind, s.flow, o.reason, o.merchant_code, o.merchant,
          CASE WHEN o.account_kind IN ('HELD', 'MERCHANT', 'TRANSIT') THEN o.owner_id END AS merchant_id,
          s.point_of_sale_id, age_band(o.since, instant::TIMESTAMPTZ) AS age, o.unit, count(*) AS items,
          count(DISTINCT o.owner_id) AS owners, sum(o.amount_cents)::BIGINT AS amount_cents,
          euros(sum(o.amount_cents)) AS amount, min(o.since) AS since
        FROM open_items_as_of(instant) o LEFT JOIN subjects s USING (subject_id)
        WHERE o.account_kind NOT IN ('FUNDING', 'BANK', 'COMMISSION') GROUP BY ALL
        """,
    ),
    Macro(
        "operations_by_day",
        "How often what was done, and about how much, by day, flow and point of sale.",
        """
        SELECT o.day, s.flow, s.variant, o.kind, s.merchant_id, m.code AS merchant_code, m.name AS merchant,
          p.id AS point_of_sale_id, p.code AS point_of_sale_code, p.name AS point_of_sale, count(*) AS operations,
          coalesce(sum(o.amount_cents), 0)::BIGINT AS amount_cents, euros(coalesce(sum(o.amount_cents), 0)) AS amount
        FROM operations o JOIN subjects s USING (subject_id)
        LEFT JOIN points_of_sale p ON p.id = coalesce(o.point_of_sale_id, s.point_of_sale_id)
        LEFT JOIN merchants m ON m.id = s.merchant_id
        WHERE o.happened_at <= instant::TIMESTAMPTZ GROUP BY ALL
        """,
    ),
    Macro(
        "breakage",
        "Reserved value that was never used, and went back to where it had come from: all of it (EXPIRED, CANCELLED),"
        " or what was left when the rest was used (UNUSED_PART).",
        """
        SELECT l.day, s.flow, s.variant,
          CASE WHEN l.kind = 'POST' THEN 'UNUSED_PART' WHEN l.reason = 'expire' THEN 'EXPIRED' ELSE 'CANCELLED' END
            AS why,
          s.merchant_id, m.code AS merchant_code, m.name AS merchant, s.point_of_sale_id, count(*) AS items,
          sum(l.amount_cents)::BIGINT AS amount_cents, euros(sum(l.amount_cents)) AS amount
        FROM ledger_lines l JOIN accounts a ON a.id = l.account_id JOIN subjects s USING (subject_id)
        LEFT JOIN merchants m ON m.id = s.merchant_id
        WHERE l.kind IN ('POST', 'VOID') AND a.kind IN ('WALLET', 'GUARANTEE') AND l.amount_cents > 0
          AND l.happened_at <= instant::TIMESTAMPTZ
        GROUP BY ALL
        """,
    ),
)

SCALARS: Final = (
    "CREATE OR REPLACE MACRO euros(cents) AS (cents * 0.01)::DECIMAL(18, 2)",
    "CREATE OR REPLACE MACRO whole_days(since, instant) AS (date_diff('second', since, instant) // 86400)",
    """
    CREATE OR REPLACE MACRO age_band(since, instant) AS CASE
      WHEN whole_days(since, instant) <= 30 THEN '0-30' WHEN whole_days(since, instant) <= 90 THEN '31-90'
      WHEN whole_days(since, instant) <= 180 THEN '91-180' WHEN whole_days(since, instant) <= 365 THEN '181-365'
      ELSE '366+' END
    """,
)
"""Small words that macros use: cents as euros; whole days (of 24 hours) between instants, and in bands."""


def tables(flows: Sequence[Flow]) -> tuple[Table, ...]:
    """Every table but `about`."""
    return (*_CORE_TABLES, *(table for flow in flows for table in flow.tables))


def macros(flows: Sequence[Flow]) -> tuple[Macro, ...]:
    """Every view and macro, in an order in which each finds what it asks."""
    subjects = Macro(
        "subjects",
        "What operations and ledger lines are about, whatever the flow.",
        " UNION ALL ".join([*(flow.subjects for flow in flows), _HOLDER_SUBJECTS]),
        as_of=False,
    )
    deadlines = Macro(
        "deadlines",
        "What will happen by time alone unless somebody does something first.",
        "SELECT d.*, euros(d.amount_cents) AS amount, m.code AS merchant_code, m.name AS merchant FROM ("
        + " UNION ALL ".join(flow.deadlines for flow in flows)
        + ") d LEFT JOIN merchants m ON m.id = d.merchant_id WHERE d.due_at > instant::TIMESTAMPTZ",
    )
    return (subjects, *_CORE_MACROS, *(macro for flow in flows for macro in flow.macros), deadlines)


_HOLDER_SUBJECTS: Final = (
    "SELECT id AS subject_id, 'wallets' AS flow, NULL::VARCHAR AS variant, NULL::UUID AS merchant_id,"
    " NULL::UUID AS point_of_sale_id, id AS holder_id FROM holders"
)


def definitions(flows: Sequence[Flow]) -> list[str]:
    """Views and macros, as DuckDB makes them."""
    statements = list(SCALARS)
    for macro in macros(flows):
        view = macro.sql
        if macro.as_of:
            view = f"SELECT * FROM {macro.name}_as_of((SELECT as_of FROM about))"
            statements.append(f"CREATE OR REPLACE MACRO {macro.name}_as_of(instant) AS TABLE {macro.sql}")
            statements.append(f"COMMENT ON MACRO TABLE {macro.name}_as_of IS {_quoted(macro.says)}")
        if macro.view:
            statements.append(f"CREATE OR REPLACE VIEW {macro.name} AS {view}")
            statements.append(f"COMMENT ON VIEW {macro.name} IS {_quoted(macro.says)}")
    for table in (*tables(flows), ABOUT):
        statements.append(f"COMMENT ON TABLE {table.name} IS {_quoted(table.says)}")
        statements += [
            f"COMMENT ON COLUMN {table.name}.{field.name} IS {_quoted(field.says)}" for field in table.fields
        ]
    return statements


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
