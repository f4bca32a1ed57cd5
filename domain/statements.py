"""The two statements of `work`: the one that locks and reads, and the one that writes, both made from the tables'
declarations. No rule stands in them: no status, no comparison of amounts."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from domain.db import Locator, Row
from domain.deadlines import Deadline
from domain.ledger import Balance
from domain.outbox import OutboxRow, Topic

DIALECT: Final = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]


@dataclass
class Effects:
    """What a deed wants done, as data."""

    created: dict[Row, None] = field(default_factory=dict)
    changed: dict[Row, dict[str, Any]] = field(default_factory=dict)
    statuses_before: dict[Row, str] = field(default_factory=dict)
    removed: dict[Row, None] = field(default_factory=dict)
    nets: dict[UUID, int] = field(default_factory=lambda: defaultdict(int))
    deadlines: dict[tuple[UUID, str], Deadline] = field(default_factory=dict)
    no_longer: dict[tuple[UUID, str], None] = field(default_factory=dict)

    def live_updates(self) -> list[bytes]:
        """What open subscriptions are to hear once it is committed."""
        return [row.live_update for row in self.created if isinstance(row, OutboxRow) and row.topic is Topic.LIVE]


# ── the statement that reads ──────────────────────────────────────────────────────────────────────────────────────────

Wanted = tuple[tuple[type[Row], tuple[tuple[str, bool], ...]], ...]
"""The shape of what is taken: the tables, and the columns each row is found by, with whether several values will do."""


def shape_of(locators: Iterable[Locator[Any]]) -> Wanted:
    """The shape of what these locators take."""
    return tuple(
        (locator.row, tuple((name, isinstance(value, tuple)) for name, value in locator.where.items()))
        for locator in locators
    )


@lru_cache(maxsize=1_000)
def take_statement(wanted: Wanted) -> str:
    """Locking parts one after the other (each waits for the one before), and above them the clock and the key: there,
    both are read only once every lock is granted."""
    parts, joins, columns, parameter = [], [], [], 5
    for n, (row, where) in enumerate(wanted):
        conditions = ["tenant = $1"]
        for name, several in where:
            sql = row.table.c[name].type.compile(dialect=DIALECT)
            conditions.append(f"{name} = ANY(${parameter}::{sql}[])" if several else f"{name} = ${parameter}::{sql}")
            parameter += 1
        if n:
            conditions.append(f"(SELECT count(*) FROM taken{n - 1}) >= 0")
        parts.append(
            f"taken{n} AS MATERIALIZED (SELECT {', '.join(row.columns)} FROM {row.table.name}"
            f" WHERE {' AND '.join(conditions)} FOR NO KEY UPDATE)"
        )
        joins.append(f" LEFT JOIN taken{n} ON true")
        columns += [f"taken{n}.{name}" for name in row.columns]
    return (
        (f"WITH {', '.join(parts)} " if parts else "")
        + "SELECT tenant_clock($1), clock_timestamp(), key_seen($1, $2::uuid, $3::text),"
        + " EXISTS (SELECT FROM inbox WHERE tenant = $1 AND message_id = $4::uuid)"
        + "".join(f", {name}" for name in columns)
        + " FROM (VALUES (1)) AS one"
        + "".join(joins)
    )


@lru_cache(maxsize=1_000)
def shared_take_statement(wanted: Wanted) -> str:
    """The same for several deeds, given as documents in $2 and numbered by `n`. No lock is waited for: behind each
    deed's columns stands, for each of its rows, whether there is such a row at all, locked by somebody else or not."""
    parts, joins, columns, exist = [], [], [], []
    given: list[str] = []
    for at, (row, where) in enumerate(wanted):
        conditions = ["r.tenant = $1"]
        for name, several in where:
            sql = row.table.c[name].type.compile(dialect=DIALECT)
            value = f"v{len(given)}"
            given.append(f"{value} {sql}{'[]' if several else ''}")
            conditions.append(f"r.{name} = ANY(w.{value})" if several else f"r.{name} = w.{value}")
        found = " AND ".join(conditions)
        # One after the other, each by its key: the planner is not to join, which may read all of an issuer's rows.
        parts.append(
            f"taken{at} AS MATERIALIZED (SELECT w.n, r.* FROM wanted w CROSS JOIN LATERAL (SELECT"
            f" {', '.join(f'r.{name}' for name in row.columns)} FROM {row.table.name} r WHERE {found}"
            f" LIMIT 2 FOR NO KEY UPDATE SKIP LOCKED) r)"
        )
        joins.append(f" LEFT JOIN taken{at} ON taken{at}.n = w.n")
        columns += [f"taken{at}.{name}" for name in row.columns]
        exist.append(f"(SELECT true FROM {row.table.name} r WHERE {found} LIMIT 1)")
    document = ", ".join(("n integer", "key_scope_id uuid", "key text", "message_id uuid", *given))
    return (
        f"WITH wanted AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($2::jsonb) AS j({document}))"
        + "".join(f", {part}" for part in parts)
        + " SELECT w.n, tenant_clock($1), clock_timestamp(), key_seen($1, w.key_scope_id, w.key),"
        + " (SELECT true FROM inbox WHERE tenant = $1 AND message_id = w.message_id LIMIT 1)"
        + "".join(f", {name}" for name in (*columns, *exist))
        + " FROM wanted w"
        + "".join(joins)
    )


def take_all_statement(row: type[Row], name: str) -> str:
    """Locks every row of a table that has one of the values in $2, in their order: two who take the same rows do not
    lock each other up."""
    sql = row.table.c[name].type.compile(dialect=DIALECT)
    return (
        f"SELECT {', '.join(row.columns)} FROM {row.table.name}"
        f" WHERE tenant = $1 AND {name} = ANY($2::{sql}[]) ORDER BY {name} FOR NO KEY UPDATE"
    )


# ── the statement that writes ─────────────────────────────────────────────────────────────────────────────────────────

_Part = tuple[str, type[Row], tuple[str, ...]]


def plan(effects: Effects) -> tuple[tuple[_Part, ...], str, tuple[int, ...]]:
    """The statement's shape, its data as JSON, and how many rows each part must find."""
    groups: dict[_Part, list[dict[str, Any]]] = defaultdict(list)
    for row in effects.created:
        kind = type(row)
        groups["insert", kind, kind.columns].append({name: getattr(row, name) for name in kind.columns})
    for row, changes in effects.changed.items():
        kind = type(row)
        data = {f"key_{name}": getattr(row, name) for name in kind.identity} | changes
        if row in effects.statuses_before:
            data["status_before"] = effects.statuses_before[row]
        groups["update", kind, tuple(sorted(changes))].append(data)
    for row in effects.removed:
        groups["delete", type(row), ()].append({f"key_{name}": getattr(row, name) for name in type(row).identity})
    for account_id, net in sorted(effects.nets.items()):
        groups["net", Balance, ()].append({"account_id": account_id, "net": net})
    for deadline in effects.deadlines.values():
        groups["upsert", Deadline, Deadline.columns].append({n: getattr(deadline, n) for n in Deadline.columns})
    for subject_id, name in effects.no_longer:
        groups["call off", Deadline, ()].append({"subject_id": subject_id, "name": name})
    # One order for the same parts, whatever the deeds: a statement is prepared once for each shape.
    shape = tuple(sorted(groups, key=_place_of))
    expected = tuple(len(groups[part]) for part in shape if part[0] != "call off")
    return shape, as_json({f"d{n}": groups[part] for n, part in enumerate(shape)}), expected


def merged(several: Sequence[Effects]) -> Effects | None:
    """The effects of several deeds, to be written as one. None when there are none, or when two want the same row or
    deadline, which one statement would write once."""
    if not several:
        return None
    together = Effects()
    for effects in several:
        for kept, more in (
            (together.created, effects.created),
            (together.changed, effects.changed),
            (together.statuses_before, effects.statuses_before),
            (together.removed, effects.removed),
            (together.nets, effects.nets),
            (together.deadlines, effects.deadlines),
            (together.no_longer, effects.no_longer),
        ):
            if not kept.keys().isdisjoint(more):
                return None
            kept.update(more)  # type: ignore[arg-type]
    return together


def as_json(document: object) -> str:
    """As the statements' parameters have it."""
    return orjson.dumps(document, default=_as_text).decode()


def _as_text(value: object) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def _place_of(part: _Part) -> tuple[bool, str, str, tuple[str, ...]]:
    # Another deed with the same key waits for it: the key comes last.
    kind, row, columns = part
    return row.table.name == "idempotency_keys", kind, row.table.name, columns


@lru_cache(maxsize=5_000)
def write_statement(shape: tuple[_Part, ...]) -> str:
    parts = [_FRAGMENTS[kind](n, row, columns) for n, (kind, row, columns) in enumerate(shape)]
    counts = [f"(SELECT count(*) FROM done{n})" for n, (kind, _, _) in enumerate(shape) if kind != "call off"]
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"


def _records(n: int, row: type[Row], columns: Iterable[str], **others: str) -> str:
    typed = [f"{name} {row.table.c[name].type.compile(dialect=DIALECT)}" for name in columns if name != "tenant"]
    typed += [f"{name} {row.table.c[source].type.compile(dialect=DIALECT)}" for name, source in others.items()]
    return f"jsonb_to_recordset($2::jsonb -> 'd{n}') AS j({', '.join(typed)})"


def _insert(n: int, row: type[Row], columns: tuple[str, ...]) -> str:
    names = [name for name in columns if name != "tenant"]
    return (
        f"done{n} AS (INSERT INTO {row.table.name} (tenant, {', '.join(names)})"
        f" SELECT $1, {', '.join(f'j.{name}' for name in names)} FROM {_records(n, row, names)} RETURNING 1)"
    )


def _update(n: int, row: type[Row], columns: tuple[str, ...]) -> str:
    keys = {f"key_{name}": name for name in row.identity}
    sets = ", ".join(f"{name} = j.{name}" for name in columns)
    found = " AND ".join(f"r.{name} = j.{alias}" for alias, name in keys.items())
    unmoved = ""
    if "status" in columns:
        keys["status_before"] = "status"
        unmoved = " AND r.status = j.status_before"
    return (
        f"done{n} AS (UPDATE {row.table.name} AS r SET {sets} FROM {_records(n, row, columns, **keys)}"
        f" WHERE r.tenant = $1 AND {found}{unmoved} RETURNING 1)"
    )


def _delete(n: int, row: type[Row], _: tuple[str, ...]) -> str:
    keys = {f"key_{name}": name for name in row.identity}
    found = " AND ".join(f"r.{name} = j.{alias}" for alias, name in keys.items())
    return (
        f"done{n} AS (DELETE FROM {row.table.name} AS r USING {_records(n, row, (), **keys)}"
        f" WHERE r.tenant = $1 AND {found} RETURNING 1)"
    )


def _net(n: int, row: type[Row], _: tuple[str, ...]) -> str:
    return (
        f"done{n} AS (UPDATE balances AS r SET amount = r.amount + j.net"
        f" FROM {_records(n, row, ('account_id',), net='amount')}"
        f" WHERE r.tenant = $1 AND r.account_id = j.account_id RETURNING 1)"
    )


def _upsert(n: int, row: type[Row], columns: tuple[str, ...]) -> str:
    names = [name for name in columns if name != "tenant"]
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name not in row.identity)
    return (
        f"done{n} AS (INSERT INTO {row.table.name} (tenant, {', '.join(names)})"
        f" SELECT $1, {', '.join(f'j.{name}' for name in names)} FROM {_records(n, row, names)}"
        f" ON CONFLICT (tenant, {', '.join(row.identity)}) DO UPDATE SET {sets} RETURNING 1)"
    )


def _call_off(n: int, row: type[Row], _: tuple[str, ...]) -> str:
    return (
        f"done{n} AS (DELETE FROM deadlines AS r USING {_records(n, row, ('subject_id', 'name'))}"
        f" WHERE r.tenant = $1 AND r.subject_id = j.subject_id AND r.name = j.name)"
    )


_FRAGMENTS: Final[Mapping[str, Callable[[int, type[Row], tuple[str, ...]], str]]] = {
    "insert": _insert,
    "update": _update,
    "delete": _delete,
    "net": _net,
    "upsert": _upsert,
    "call off": _call_off,
}
