"""The audit: every balance, state and total derived a second time, and what differs.

It shares no code with the program that it checks: its SQL is its own, and it says itself what a transfer, a life or a
deadline must look like. What it has never heard of (a kind of transfer, a journal line, a status) is a difference too,
so that a new flow is not left out of it by mistake.

Everything is read in one read-only snapshot, so that it can run on a live system."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from reporting.audit.check import KNOWN, Check
from reporting.audit.database import DATABASE
from reporting.audit.errands import DEADLINES, DOCUMENTS, JOBS, MESSAGES
from reporting.audit.journal import JOURNAL
from reporting.audit.ledger import LEDGER
from reporting.audit.payments import PAYMENTS
from reporting.audit.reimbursements import REIMBURSEMENTS
from reporting.audit.vouchers import VOUCHERS

# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it must be. Amounts are cents."""

    check: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


class CannotAudit(Exception):
    """The database cannot be seen as a whole, so that nothing can be said about it."""


def main(url: str) -> int:
    """Audit the database at this address and print a line per check; returns 0 when nothing differs, 1 when something
    does, 2 when the audit cannot see everything. The address's user must be the tables' owner, a superuser, or a
    member of escarcelle_reader."""
    return asyncio.run(_main(url))


async def differences(connection: asyncpg.Connection, tenant: int | None = None) -> list[Difference]:
    """Everything that differs, for one issuer or for all, in the connection's transaction if it has one. Raises
    CannotAudit when its user cannot see everything, or there is no such issuer."""
    async with _snapshot(connection):
        await _require_sight(connection)
        if tenant is not None and not await connection.fetchval("SELECT 1 FROM issuers WHERE tenant = $1", tenant):
            raise CannotAudit(f"there is no issuer of tenant {tenant}.")
        return [difference for check in CHECKS for difference in (await _run(connection, check, tenant, None))[1]]


# ── how it is asked ───────────────────────────────────────────────────────────────────────────────────────────────────

_READER: Final = "escarcelle_reader"
_EXAMPLES: Final = 10


async def _main(url: str) -> int:
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _say(f"Nothing was audited: no connection to the database ({error}).")
        return 2
    try:
        async with _snapshot(connection):
            await _require_sight(connection)
            return await _report(connection)
    except CannotAudit as error:
        _say(f"Nothing was audited: {error}")
        return 2
    finally:
        await connection.close()


@asynccontextmanager
async def _snapshot(connection: asyncpg.Connection) -> AsyncIterator[None]:
    if connection.is_in_transaction():
        yield
        return
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # Sums over whole tables, each asked once: they want memory, time and a plan of their own, and no compiler.
        await connection.execute(
            "SET LOCAL work_mem = '128MB'; SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_custom_plan;"
            " SET LOCAL statement_timeout = 0; SET LOCAL search_path = public"
        )
        yield


async def _require_sight(connection: asyncpg.Connection) -> None:
    """Row-level security hides rows in silence: an audit that sees nothing would find nothing."""
    missing = [name for name in _TABLES if not await connection.fetchval("SELECT to_regclass($1)", name)]
    if missing:
        raise CannotAudit(f"the database has no table {', '.join(missing)}.")
    hidden = await _hidden_tables(connection)
    if hidden and await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER'))", _READER
    ):
        await connection.execute(f"SET LOCAL ROLE {_READER}")
        hidden = await _hidden_tables(connection)
    if hidden:
        user = await connection.fetchval("SELECT current_user")
        raise CannotAudit(
            f"{user} does not see every row of {', '.join(hidden)};"
            f" the tables' owner, a superuser or a member of {_READER} does."
        )


async def _hidden_tables(connection: asyncpg.Connection) -> list[str]:
    return [row["name"] for row in await connection.fetch(_HIDDEN, _TABLES)]


async def _report(connection: asyncpg.Connection) -> int:
    issuers = await connection.fetchval("SELECT count(*) FROM issuers")
    at = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')")
    _say(f"Audit at {at} UTC, {issuers} issuers")
    counts: dict[str, int] = {}
    width = max(len(check.name) for check in CHECKS)
    total = 0
    for check in CHECKS:
        table = check.looks_at
        if table not in counts:
            counts[table] = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 — ours
        number, examples = await _run(connection, check, None, _EXAMPLES)
        verdict = "ok" if not number else "1 difference" if number == 1 else f"{number} differences"
        _say(f"{check.name:<{width}}  {counts[table]:>10} {table:<19}  {verdict}")
        for example in examples:
            _say(f"    {example}")
        if number > len(examples):
            _say(f"    … and {number - len(examples)} more")
        total += number
    _say("Nothing differs." if not total else f"Differences: {total}")
    return 1 if total else 0


async def _run(
    connection: asyncpg.Connection, check: Check, tenant: int | None, most: int | None
) -> tuple[int, list[Difference]]:
    """How many differences there are, and at most so many of them."""
    rows = await connection.fetch(
        # Materialized, so that what differs is put into words and in order, and not what is compared.
        f"{KNOWN}, differing AS MATERIALIZED ({check.sql})"  # noqa: S608 — ours
        " SELECT count(*) OVER () AS number, what, expected, found, $1::integer AS tenant"
        " FROM differing ORDER BY what, expected LIMIT $2",
        tenant,
        most,
    )
    number = rows[0]["number"] if rows else 0
    return number, [Difference(check.name, row["what"], row["expected"], row["found"] or "nothing") for row in rows]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


_TABLES: Final = """
    accounts balances bank_accounts dead_letters deadlines document_chunks documents holders idempotency_keys inbox
    issuer_appearances issuers job_chunks jobs journal member_statements merchants number_series outbox
    paying_accounts payment_requests points_of_sale postings reimbursement_lines reimbursement_schedules
    reimbursement_terms reimbursements supplier_invoices transfer_files transfers transitions users voucher_kinds
    vouchers
""".split()  # noqa: SIM905

_HIDDEN: Final = """
SELECT name FROM unnest($1::text[]) AS name JOIN pg_class c ON c.oid = to_regclass(name)
WHERE NOT has_table_privilege(c.oid, 'SELECT')
   OR row_security_active(c.oid) AND (
     NOT EXISTS (
       SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('r', '*')
         AND pg_get_expr(p.polqual, p.polrelid) = 'true'
         AND EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE r = 0 OR pg_has_role(r, 'USAGE')))
     OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive))
ORDER BY name
"""

CHECKS: Final = (
    *LEDGER,
    *PAYMENTS,
    *VOUCHERS,
    *REIMBURSEMENTS,
    *DEADLINES,
    *JOURNAL,
    *MESSAGES,
    *JOBS,
    *DOCUMENTS,
    *DATABASE,
)
"""Every check, in the order of the report."""
