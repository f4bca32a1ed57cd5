"""The two statements of `work`: the one that locks and reads, and the one that writes, both made from the tables'
declarations. No rule stands in them: no status, no comparison of amounts."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from domain.db import Row
from domain.deadlines import Deadline
from domain.ledger import Balance

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


# ── the statement that reads ──────────────────────────────────────────────────────────────────────────────────────────

_Wanted = tuple[tuple[type[Row], tuple[tuple[str, bool], ...]], ...]


@lru_cache(maxsize=1_000)
def take_statement(wanted: _Wanted) -> str:
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
    data = {f"d{n}": rows for n, rows in enumerate(groups.values())}
    expected = tuple(len(rows) for (kind, _, _), rows in groups.items() if kind != "call off")
    return tuple(groups), orjson.dumps(data, default=_as_json).decode(), expected


def _as_json(value: object) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


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
