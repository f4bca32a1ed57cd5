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


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the database. `looks_at` is the table whose rows it goes through; `sql` returns the columns what,
    expected and found of every difference, for the issuer of tenant $1, or for all where $1 is null."""

    name: str
    looks_at: str
    sql: str


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
        _say(f"{check.name:<{width}}  {counts[table]:>10} {table:<16}  {verdict}")
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
        f"{_KNOWN}, differing AS MATERIALIZED ({check.sql})"  # noqa: S608 — ours
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
    accounts balances dead_letters deadlines document_chunks documents holders idempotency_keys inbox issuers
    job_chunks jobs journal member_statements merchants number_series outbox payment_requests points_of_sale postings
    supplier_invoices transfers transitions users voucher_kinds vouchers
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

# ── what must be so ───────────────────────────────────────────────────────────────────────────────────────────────────
# `t.tenant = coalesce($1, t.tenant)` is one issuer, or all. A rule beside a row holds only when it is true: one that
# cannot be decided, because something is null, does not hold.

_KNOWN: Final = """
WITH forms(kind, subject_kind, reason, line) AS (VALUES
  ('TRANSFER', 'hold', 'credit',     'hold.credit'),
  ('TRANSFER', 'preq', 'payment',    'preq.pay'),
  ('RESERVE',  'preq', 'payment',    'preq.pay'),
  ('POST',     'preq', 'validation', 'preq.validate'),
  ('POST',     'preq', 'auto_validation', 'preq.auto_validate'),
  ('VOID',     'preq', 'cancel',     'preq.cancel'),
  ('VOID',     'preq', 'expire',     'preq.expire'),
  ('RESERVE',  'vchr', 'guarantee',  'vchr.request'),
  ('POST',     'vchr', 'invoice',    'vchr.invoice'),
  ('TRANSFER', 'vchr', 'bill',       'vchr.invoice'),
  ('VOID',     'vchr', 'cancel',     'vchr.cancel'),
  ('VOID',     'vchr', 'expire',     'vchr.expire'),
  ('TRANSFER', 'sinv', 'excess',     'sinv.pay_excess')
), objects(tenant, kind, id) AS (
  SELECT tenant, 'preq', id FROM payment_requests UNION ALL SELECT tenant, 'hold', id FROM holders
  UNION ALL SELECT tenant, 'pwrs', id FROM password_resets
  UNION ALL SELECT tenant, 'mrch', id FROM merchants UNION ALL SELECT tenant, 'posl', id FROM points_of_sale
  UNION ALL SELECT tenant, 'user', id FROM users UNION ALL SELECT tenant, 'issr', id FROM issuers
  UNION ALL SELECT tenant, 'jobs', id FROM jobs UNION ALL SELECT tenant, 'docm', id FROM documents
  UNION ALL SELECT tenant, 'vchr', id FROM vouchers UNION ALL SELECT tenant, 'sinv', id FROM supplier_invoices
  UNION ALL SELECT tenant, 'mstm', id FROM member_statements
), bills(tenant, id, voucher_id, supplier_id, holder_id, status, paid, excess, statement_id) AS (
  SELECT i.tenant, i.id, i.voucher_id, i.supplier_id, v.holder_id, i.status, least(i.amount, v.value), i.excess,
         i.statement_id
  FROM supplier_invoices i JOIN vouchers v ON v.tenant = i.tenant AND v.id = i.voucher_id
)"""
"""Stands before every check: the forms that a transfer may have, each with the journal line that is written with it (a
line goes with one transfer for each of its reasons); every object that others point to; and what each invoice has the
issuer pay for a voucher, and its member owe. Sessions are missing, because they are not for the reader's eyes."""

_LEDGER: Final = (
    Check(
        "transfers have two sides or more and sum to zero",
        "transfers",
        """
        SELECT format('tenant %s, transfer %s', t.tenant, t.id) AS what,
               'two postings or more that sum to 0' AS expected,
               format('%s postings in %s, sum %s', count(p.amount), coalesce(p.unit, 'no unit'), sum(p.amount)) AS found
        FROM transfers t LEFT JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
        WHERE t.tenant = coalesce($1, t.tenant)
        GROUP BY t.tenant, t.id, p.unit HAVING count(p.amount) < 2 OR sum(p.amount) <> 0
        """,
    ),
    Check(
        "postings belong to a transfer and to an account of their unit",
        "postings",
        """
        SELECT format('tenant %s, posting of transfer %s on account %s', p.tenant, p.transfer_id, p.account_id) AS what,
               format('a transfer, an account in %s, an amount', p.unit) AS expected,
               format('transfer %s, account in %s, %s', coalesce(t.id::text, 'missing'), coalesce(a.unit, 'nothing'),
                      p.amount) AS found
        FROM postings p
        LEFT JOIN transfers t ON t.tenant = p.tenant AND t.id = p.transfer_id
        LEFT JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
        WHERE p.tenant = coalesce($1, p.tenant) AND (t.id IS NULL OR a.unit IS DISTINCT FROM p.unit OR p.amount = 0)
        """,
    ),
    Check(
        "the ledger sums to zero",
        "postings",
        """
        SELECT format('tenant %s, all accounts in %s', p.tenant, p.unit) AS what, '0' AS expected,
               sum(p.amount)::text AS found
        FROM postings p WHERE p.tenant = coalesce($1, p.tenant) GROUP BY p.tenant, p.unit HAVING sum(p.amount) <> 0
        """,
    ),
    Check(
        "transfers have a known form",
        "transfers",
        """
        SELECT format('tenant %s, transfer %s', t.tenant, t.id) AS what, 'a known kind, subject and reason' AS expected,
               concat_ws(' ', t.kind, t.subject_kind, t.reason) AS found
        FROM transfers t WHERE t.tenant = coalesce($1, t.tenant)
          AND (t.kind, t.subject_kind, t.reason) NOT IN (SELECT f.kind, f.subject_kind, f.reason FROM forms f)
        """,
    ),
    Check(
        "parties have their accounts, and nobody else has one",
        "accounts",
        """
        WITH expected AS (
          SELECT tenant, 'WALLET' AS kind, id AS owner_id FROM holders
          UNION ALL SELECT tenant, unnest(ARRAY['GUARANTEE', 'DEBT']), id FROM holders WHERE member_since IS NOT NULL
          UNION ALL SELECT tenant, unnest(ARRAY['MERCHANT', 'HELD']), id FROM merchants
          -- An issuer's row comes a transaction before its account and its line in the journal.
          UNION ALL SELECT tenant, 'FUNDING', subject_id FROM journal WHERE kind = 'issr.create'
        ), parties AS (SELECT * FROM expected e WHERE e.tenant = coalesce($1, e.tenant)
        ), opened AS (
          SELECT a.tenant, a.kind, a.owner_id, count(*) AS number FROM accounts a
          WHERE a.tenant = coalesce($1, a.tenant) AND a.unit = 'EUR' GROUP BY a.tenant, a.kind, a.owner_id
        )
        SELECT format('tenant %s, %s account of %s', tenant, kind, owner_id) AS what,
               CASE WHEN e.owner_id IS NULL THEN 'none' ELSE '1' END AS expected, coalesce(o.number, 0)::text AS found
        FROM parties e FULL JOIN opened o USING (tenant, kind, owner_id)
        WHERE e.owner_id IS NULL OR o.number IS DISTINCT FROM 1
        """,
    ),
    Check(
        "wallets and guarantees, and nothing else, keep a balance",
        "accounts",
        """
        SELECT format('tenant %s, %s account %s', tenant, coalesce(a.kind, 'no'), account_id) AS what,
               coalesce('a balance with floor ' || k.floor, 'no balance') AS expected,
               coalesce('a balance with floor ' || b.floor, 'no balance') AS found
        FROM (SELECT tenant, id AS account_id, kind FROM accounts WHERE tenant = coalesce($1, tenant)) a
        FULL JOIN (SELECT * FROM balances WHERE tenant = coalesce($1, tenant)) b USING (tenant, account_id)
        LEFT JOIN (VALUES ('WALLET', 0), ('GUARANTEE', -999999999999)) AS k(kind, floor) ON k.kind = a.kind
        WHERE a.kind IS NULL OR b.floor IS DISTINCT FROM k.floor
        """,
    ),
    Check(
        "kept balances are the sum of their postings",
        "balances",
        """
        WITH sums AS (
          SELECT p.tenant, p.account_id, sum(p.amount) AS total FROM postings p
          WHERE p.tenant = coalesce($1, p.tenant) GROUP BY p.tenant, p.account_id
        )
        SELECT format('tenant %s, balance of account %s', b.tenant, b.account_id) AS what,
               coalesce(s.total, 0)::text AS expected, b.amount::text AS found
        FROM balances b LEFT JOIN sums s USING (tenant, account_id)
        WHERE b.tenant = coalesce($1, b.tenant) AND b.amount <> coalesce(s.total, 0)
        """,
    ),
    Check(
        "no balance is below its floor",
        "balances",
        """
        SELECT format('tenant %s, balance of account %s', b.tenant, b.account_id) AS what,
               format('%s or more', b.floor) AS expected, b.amount::text AS found
        FROM balances b WHERE b.tenant = coalesce($1, b.tenant) AND b.amount < b.floor
        """,
    ),
    Check(
        "a settlement ends one reservation, and no reservation ends twice",
        "transfers",
        """
        SELECT format('tenant %s, %s %s', s.tenant, s.kind, s.id) AS what, rule.expected,
               format('settles %s (%s)', coalesce(s.settles::text, 'nothing'), coalesce(r.kind, 'missing')) AS found
        FROM (
          SELECT *, count(*) OVER (PARTITION BY tenant, settles) AS settlements
          FROM transfers WHERE tenant = coalesce($1, tenant) AND (settles IS NOT NULL OR kind IN ('POST', 'VOID'))
        ) s
        LEFT JOIN transfers r ON r.tenant = s.tenant AND r.id = s.settles
        CROSS JOIN LATERAL (VALUES
          ('POST or VOID of a RESERVE', s.kind IN ('POST', 'VOID') AND r.kind = 'RESERVE'),
          ('about what was reserved', r.subject_kind = s.subject_kind AND r.subject_id = s.subject_id),
          ('the only settlement', s.settlements = 1)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "a settlement empties what was held, and gives back to whom it came from",
        "transfers",
        """
        WITH sides AS (
          SELECT t.tenant, coalesce(t.settles, t.id) AS reservation_id, p.account_id, a.kind,
                 coalesce(sum(p.amount) FILTER (WHERE t.kind = 'RESERVE'), 0) AS reserved,
                 coalesce(sum(p.amount) FILTER (WHERE t.kind <> 'RESERVE'), 0) AS settled
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.kind <> 'TRANSFER'
          GROUP BY t.tenant, coalesce(t.settles, t.id), p.account_id, a.kind
        )
        SELECT format('tenant %s, reservation %s on %s account %s', l.tenant, l.reservation_id, l.kind, l.account_id)
                 AS what, rule.expected,
               format('reserved %s, then %s %s', l.reserved, coalesce(s.kind, 'not settled'), l.settled) AS found
        FROM sides l LEFT JOIN transfers s ON s.tenant = l.tenant AND s.settles = l.reservation_id
        CROSS JOIN LATERAL (VALUES
          ('reserved onto HELD, and from elsewhere',
            CASE l.kind WHEN 'HELD' THEN l.reserved > 0 ELSE l.reserved <= 0 END),
          ('HELD emptied to the cent', l.kind <> 'HELD' OR s.id IS NULL OR l.settled = -l.reserved),
          ('all given back by a VOID', s.kind IS DISTINCT FROM 'VOID' OR l.settled = -l.reserved),
          ('no more than was taken given back',
            l.kind = 'HELD' OR l.reserved = 0 OR l.settled BETWEEN 0 AND -l.reserved),
          ('something for the others', l.kind = 'HELD' OR l.reserved <> 0 OR l.settled > 0)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "held accounts hold the open reservations",
        "accounts",
        """
        SELECT format('tenant %s, HELD account %s', a.tenant, a.id) AS what,
               coalesce(sum(p.amount) FILTER (WHERE t.kind = 'RESERVE' AND s.id IS NULL), 0)::text AS expected,
               sum(p.amount)::text AS found
        FROM accounts a
        JOIN postings p ON p.tenant = a.tenant AND p.account_id = a.id
        LEFT JOIN transfers t ON t.tenant = p.tenant AND t.id = p.transfer_id
        LEFT JOIN transfers s ON s.tenant = t.tenant AND s.settles = t.id
        WHERE a.tenant = coalesce($1, a.tenant) AND a.kind = 'HELD'
        GROUP BY a.tenant, a.id
        HAVING sum(p.amount) <> coalesce(sum(p.amount) FILTER (WHERE t.kind = 'RESERVE' AND s.id IS NULL), 0)
        """,
    ),
    Check(
        "credits go from the issuer to the holder, as the journal says",
        "journal",
        """
        WITH told AS (
          SELECT j.tenant, j.subject_id, j.xact, sum(j.amount) AS amount FROM journal j
          WHERE j.tenant = coalesce($1, j.tenant) AND j.kind = 'hold.credit' GROUP BY j.tenant, j.subject_id, j.xact
        ), expected AS (
          SELECT e.tenant, e.subject_id, e.xact, side.kind, side.owner_id, side.amount
          FROM told e JOIN issuers i ON i.tenant = e.tenant
          CROSS JOIN LATERAL (VALUES ('FUNDING', i.id, -e.amount), ('WALLET', e.subject_id, e.amount))
            AS side(kind, owner_id, amount)
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.xact, a.kind, a.owner_id, sum(p.amount) AS amount
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind = 'hold'
          GROUP BY t.tenant, t.subject_id, t.xact, a.kind, a.owner_id
        )
        SELECT format('tenant %s, credit of holder %s, on %s account of %s', tenant, subject_id, kind, owner_id)
                 AS what, coalesce(e.amount::text, 'nothing') AS expected, m.amount::text AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, xact, kind, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR e.amount = 0
        """,
    ),
)

_PAYMENTS: Final = (
    Check(
        "requests have what their status says, and nothing else",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'amount_paid', r.amount_paid,
                 'amount_validated', r.amount_validated, 'paid_at', r.paid_at, 'payer_id', r.payer_id,
                 'validation_days', r.validation_days, 'validation_deadline', r.validation_deadline,
                 'reservation_id', r.reservation_id))::text AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (SELECT r.amount_paid IS NOT NULL AS paid, r.validation_days IS NOT NULL AS has_window) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status', r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED', 'CANCELLED', 'EXPIRED')),
          ('unpaid while AWAITING_PAYMENT', r.status <> 'AWAITING_PAYMENT' OR NOT x.paid),
          ('paid when TO_VALIDATE or VALIDATED', r.status NOT IN ('TO_VALIDATE', 'VALIDATED') OR x.paid),
          ('a validation window when TO_VALIDATE, and when paid money went back',
            NOT x.paid OR x.has_window OR r.status = 'VALIDATED'),
          ('paid_at and payer_id when paid, and only then',
            (r.paid_at IS NOT NULL) = x.paid AND (r.payer_id IS NOT NULL) = x.paid),
          ('validation_deadline and reservation_id when paid with a validation window, and only then',
            (r.validation_deadline IS NOT NULL) = (x.paid AND x.has_window)
            AND (r.reservation_id IS NOT NULL) = (x.paid AND x.has_window)),
          ('amount_validated when VALIDATED, and only then',
            (r.amount_validated IS NOT NULL) = (r.status = 'VALIDATED'))
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests' amounts agree with each other and with the flow",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               format('%s, requested %s, paid %s, validated %s', r.flow, r.amount_requested,
                      coalesce(r.amount_paid::text, 'nothing'), coalesce(r.amount_validated::text, 'nothing')) AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (VALUES
          ('more than nothing requested', r.amount_requested > 0),
          ('paid: more than nothing, no more than requested',
            r.amount_paid IS NULL OR r.amount_paid BETWEEN 1 AND r.amount_requested),
          ('validated: more than nothing, no more than paid',
            r.amount_validated IS NULL OR r.amount_validated BETWEEN 1 AND r.amount_paid),
          ('paid in full in flow DEFERRED',
            r.flow <> 'DEFERRED' OR r.amount_paid IS NULL OR r.amount_paid = r.amount_requested),
          ('validated as paid without a validation window',
            r.validation_days IS NOT NULL OR r.amount_validated IS NULL OR r.amount_validated = r.amount_paid)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests' flows and deadlines follow the merchant's two choices",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('flow', r.flow, 'created_at', r.created_at,
                 'payment_due_on', r.payment_due_on, 'payment_deadline', r.payment_deadline, 'paid_at', r.paid_at,
                 'validation_days', r.validation_days, 'validation_deadline', r.validation_deadline))::text AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (VALUES
          ('the flow of its two choices',
            r.flow = CASE WHEN r.payment_due_on IS NULL THEN 'IMMEDIATE' ELSE 'DEFERRED' END
              || CASE WHEN r.validation_days IS NULL THEN '' ELSE '_WITH_VALIDATION' END),
          ('one day or more to validate', r.validation_days IS NULL OR r.validation_days > 0),
          ('validated by itself only with a window', r.validation_days IS NOT NULL OR NOT r.auto_validation),
          ('due on a later day than it was made',
            r.payment_due_on IS NULL OR r.payment_due_on > (r.created_at AT TIME ZONE 'Europe/Paris')::date),
          ('payable until the end of its day in Europe/Paris, or for some time', CASE WHEN r.payment_due_on IS NULL
            THEN r.payment_deadline > r.created_at
            ELSE r.payment_deadline = (r.payment_due_on + 1)::timestamp AT TIME ZONE 'Europe/Paris' END),
          ('to validate until the end of its last day in Europe/Paris', r.validation_deadline IS NULL
            OR r.validation_deadline = ((r.paid_at AT TIME ZONE 'Europe/Paris')::date
                                        + r.validation_days::integer + 1)::timestamp AT TIME ZONE 'Europe/Paris')
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests were acted on before their deadlines, and expired after",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'payment_deadline', r.payment_deadline,
                 'paid_at', r.paid_at, 'validation_deadline', r.validation_deadline,
                 'last_action_at', r.last_action_at))::text AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (SELECT coalesce(r.validation_deadline, r.payment_deadline) AS ends_at) AS x
        CROSS JOIN LATERAL (VALUES
          ('paid before payment_deadline', r.paid_at IS NULL OR r.paid_at < r.payment_deadline),
          ('decided before its deadline',
            r.status NOT IN ('VALIDATED', 'CANCELLED') OR r.last_action_at < x.ends_at
            OR r.status = 'VALIDATED' AND r.auto_validation AND r.amount_validated = r.amount_paid),
          ('expired at its deadline or later', r.status <> 'EXPIRED' OR r.last_action_at >= x.ends_at),
          ('given back at the end of a window only where it does not validate by itself',
            r.status <> 'EXPIRED' OR r.amount_paid IS NULL OR NOT r.auto_validation)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests name their own merchant's place, and are paid by the customer named",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               format('merchant %s, place %s of merchant %s, customer %s, payer %s', r.merchant_id,
                      r.point_of_sale_id, p.merchant_id, r.customer_id, r.payer_id) AS found
        FROM payment_requests r
        LEFT JOIN points_of_sale p ON p.tenant = r.tenant AND p.id = r.point_of_sale_id
        CROSS JOIN LATERAL (VALUES
          ('a place of its merchant', p.merchant_id = r.merchant_id),
          ('the customer as payer', r.customer_id IS NULL OR r.payer_id IS NULL OR r.payer_id = r.customer_id)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "no basket number is held twice at a place",
        "payment_requests",
        """
        SELECT format('tenant %s, basket %s at place %s', r.tenant, r.basket_number, r.point_of_sale_id) AS what,
               'one live request' AS expected, format('%s live requests', count(*)) AS found
        FROM payment_requests r
        WHERE r.tenant = coalesce($1, r.tenant) AND r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED')
        GROUP BY r.tenant, r.point_of_sale_id, r.basket_number HAVING count(*) > 1
        """,
    ),
    Check(
        "payments stand in the ledger, side by side with their requests",
        "payment_requests",
        """
        WITH expected AS (
          SELECT r.tenant, r.id AS subject_id, side.transfer, side.account, side.owner_id, side.amount
          FROM payment_requests r
          CROSS JOIN LATERAL (
            SELECT r.validation_days IS NOT NULL AS has_window, r.status = 'VALIDATED' AS validated,
                   r.status IN ('CANCELLED', 'EXPIRED') AS given_back, r.amount_paid - r.amount_validated AS rest
          ) AS x
          CROSS JOIN LATERAL (VALUES
            ('TRANSFER', 'WALLET',   r.payer_id,    -r.amount_paid,     NOT x.has_window),
            ('TRANSFER', 'MERCHANT', r.merchant_id, r.amount_validated, NOT x.has_window),
            ('RESERVE',  'WALLET',   r.payer_id,    -r.amount_paid,     x.has_window),
            ('RESERVE',  'HELD',     r.merchant_id, r.amount_paid,      x.has_window),
            ('POST',     'HELD',     r.merchant_id, -r.amount_paid,     x.has_window AND x.validated),
            ('POST',     'MERCHANT', r.merchant_id, r.amount_validated, x.has_window AND x.validated),
            ('POST',     'WALLET',   r.payer_id,    x.rest,             x.has_window AND x.validated AND x.rest <> 0),
            ('VOID',     'HELD',     r.merchant_id, -r.amount_paid,     x.has_window AND x.given_back),
            ('VOID',     'WALLET',   r.payer_id,    r.amount_paid,      x.has_window AND x.given_back)
          ) AS side(transfer, account, owner_id, amount, wanted)
          WHERE r.tenant = coalesce($1, r.tenant) AND r.amount_paid IS NOT NULL AND side.wanted
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.kind AS transfer, a.kind AS account, a.owner_id,
                 sum(p.amount) AS amount, count(*) AS postings
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind = 'preq'
          GROUP BY t.tenant, t.subject_id, t.kind, a.kind, a.owner_id
        )
        SELECT format('tenant %s, request %s, %s on %s account of %s', tenant, subject_id, transfer, account, owner_id)
                 AS what,
               coalesce(e.amount::text, 'nothing') AS expected,
               m.amount || CASE m.postings WHEN 1 THEN '' ELSE format(' in %s postings', m.postings) END AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, transfer, account, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR m.postings <> 1
        """,
    ),
    Check(
        "requests and vouchers point to their own reservation",
        "transfers",
        """
        SELECT format('tenant %s, %s %s', r.tenant, r.kind, r.id) AS what, 'a RESERVE about this object' AS expected,
               format('%s %s about %s', coalesce(t.kind, 'missing'), r.reservation_id,
                      coalesce(t.subject_id::text, 'nothing')) AS found
        FROM (
          SELECT tenant, id, 'preq' AS kind, reservation_id FROM payment_requests WHERE reservation_id IS NOT NULL
          UNION ALL SELECT tenant, id, 'vchr', reservation_id FROM vouchers
        ) r LEFT JOIN transfers t ON t.tenant = r.tenant AND t.id = r.reservation_id
        WHERE r.tenant = coalesce($1, r.tenant)
          AND (t.kind, t.subject_kind, t.subject_id) IS DISTINCT FROM ('RESERVE', r.kind, r.id)
        """,
    ),
    Check(
        "each party's total is what its credits, requests, vouchers and invoices add up to",
        "accounts",
        """
        WITH reasons AS (
          SELECT r.tenant, side.kind, side.owner_id, side.amount
          FROM payment_requests r
          CROSS JOIN LATERAL (VALUES
            ('MERCHANT', r.merchant_id, r.amount_validated, r.status = 'VALIDATED'),
            ('WALLET',   r.payer_id,    -r.amount_validated, r.status = 'VALIDATED'),
            ('HELD',     r.merchant_id, r.amount_paid,      r.status = 'TO_VALIDATE'),
            ('WALLET',   r.payer_id,    -r.amount_paid,      r.status = 'TO_VALIDATE')
          ) AS side(kind, owner_id, amount, counts)
          WHERE r.tenant = coalesce($1, r.tenant) AND side.counts
          UNION ALL
          SELECT v.tenant, side.kind, side.owner_id, side.amount
          FROM vouchers v
          CROSS JOIN LATERAL (VALUES ('GUARANTEE', v.holder_id, -v.value), ('HELD', v.supplier_id, v.value))
            AS side(kind, owner_id, amount)
          WHERE v.tenant = coalesce($1, v.tenant) AND v.status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED')
          UNION ALL
          SELECT b.tenant, side.kind, side.owner_id, side.amount
          FROM bills b
          CROSS JOIN LATERAL (SELECT b.paid + CASE b.status WHEN 'EXCESS_PAID' THEN b.excess ELSE 0 END AS owed) AS x
          CROSS JOIN LATERAL (VALUES ('DEBT', b.holder_id, -x.owed), ('MERCHANT', b.supplier_id, x.owed))
            AS side(kind, owner_id, amount)
          WHERE b.tenant = coalesce($1, b.tenant)
          UNION ALL
          SELECT j.tenant, side.kind, side.owner_id, side.amount
          FROM journal j JOIN issuers i ON i.tenant = j.tenant
          CROSS JOIN LATERAL (VALUES ('WALLET', j.subject_id, j.amount), ('FUNDING', i.id, -j.amount))
            AS side(kind, owner_id, amount)
          WHERE j.tenant = coalesce($1, j.tenant) AND j.kind = 'hold.credit'
        ), expected AS (
          SELECT tenant, kind, owner_id, sum(amount) AS total FROM reasons GROUP BY tenant, kind, owner_id
        ), sums AS (
          SELECT p.tenant, p.account_id, sum(p.amount) AS total FROM postings p
          WHERE p.tenant = coalesce($1, p.tenant) GROUP BY p.tenant, p.account_id
        ), counted AS (
          SELECT a.tenant, a.kind, a.owner_id, sum(s.total) AS total
          FROM accounts a LEFT JOIN sums s ON s.tenant = a.tenant AND s.account_id = a.id
          WHERE a.tenant = coalesce($1, a.tenant) GROUP BY a.tenant, a.kind, a.owner_id
        )
        SELECT format('tenant %s, %s account of %s', tenant, kind, owner_id) AS what,
               coalesce(e.total, 0)::text AS expected, coalesce(c.total, 0)::text AS found
        FROM expected e FULL JOIN counted c USING (tenant, kind, owner_id)
        WHERE coalesce(e.total, 0) <> coalesce(c.total, 0)
        """,
    ),
)

_VOUCHERS: Final = (
    Check(
        "vouchers have what their status says, and nothing else",
        "vouchers",
        # Neither the salt nor the key's fingerprint is shown: a report is read by many.
        """
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', v.status, 'value', v.value, 'revealed_at', v.revealed_at,
                 'code_salt', octet_length(v.code_salt), 'code_key', octet_length(v.code_key), 'number', v.number,
                 'delivered_at', v.delivered_at, 'wrong_codes', v.wrong_codes, 'blocked_at', v.blocked_at,
                 'invoices', x.invoices))::text AS found
        FROM vouchers v
        CROSS JOIN LATERAL (SELECT v.status IN ('DELIVERED', 'INVOICED') AS delivered,
          (SELECT count(*) FROM supplier_invoices i WHERE i.tenant = v.tenant AND i.voucher_id = v.id) AS invoices) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status',
            v.status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED', 'CANCELLED', 'EXPIRED', 'INVOICED')),
          ('whole euros, more than none', v.value > 0 AND v.value % 100 = 0),
          ('a code once revealed, and not before', v.status = 'EXPIRED'
            OR (v.revealed_at IS NOT NULL) = (v.status = 'CODE_REVEALED' OR x.delivered)),
          ('revealed_at, a salt of 16 bytes and a key of 8, or none of them',
            num_nulls(v.revealed_at, v.code_salt, v.code_key) = 3
            OR v.revealed_at IS NOT NULL AND octet_length(v.code_salt) = 16 AND octet_length(v.code_key) = 8),
          ('number and delivered_at when delivered, and only then',
            (v.number IS NOT NULL) = x.delivered AND (v.delivered_at IS NOT NULL) = x.delivered),
          ('a number of the year of its delivery', v.number IS NULL
            OR v.number ~ '^W[0-9]{4}[.][A-Z]{2}[.][0-9]{3}[.][0-9]{8}$'
            AND substr(v.number, 2, 4) IN (to_char(v.delivered_at AT TIME ZONE 'Europe/Paris', 'YYYY'),
              -- The year is chosen before its series is waited for.
              to_char((v.delivered_at - interval '10 seconds') AT TIME ZONE 'Europe/Paris', 'YYYY'))),
          ('wrong codes only once delivered, and blocked by five of them alone',
            v.wrong_codes BETWEEN 0 AND CASE WHEN x.delivered THEN 5 ELSE 0 END
            AND (v.blocked_at IS NOT NULL) = (v.wrong_codes = 5)),
          ('one invoice when INVOICED, and only then', x.invoices = (v.status = 'INVOICED')::integer)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "vouchers are valid until the end of their last day, were used before it, and expired after",
        "vouchers",
        """
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', v.status, 'issued_at', v.issued_at, 'valid_until',
                 v.valid_until, 'expires_at', v.expires_at, 'revealed_at', v.revealed_at, 'delivered_at',
                 v.delivered_at, 'last_action_at', v.last_action_at))::text AS found
        FROM vouchers v
        CROSS JOIN LATERAL (VALUES
          ('valid on the day it was issued, or longer',
            v.valid_until >= (v.issued_at AT TIME ZONE 'Europe/Paris')::date),
          ('expires_at when its last day ends in Europe/Paris',
            v.expires_at = (v.valid_until + 1)::timestamp AT TIME ZONE 'Europe/Paris'),
          ('revealed before expires_at', v.revealed_at IS NULL OR v.revealed_at < v.expires_at),
          ('delivered before expires_at', v.delivered_at IS NULL OR v.delivered_at < v.expires_at),
          ('cancelled before expires_at', v.status <> 'CANCELLED' OR v.last_action_at < v.expires_at),
          ('expired at expires_at or later', v.status <> 'EXPIRED' OR v.last_action_at >= v.expires_at)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "vouchers name a member, a supplier and a kind",
        "vouchers",
        """
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               format('holder %s, supplier %s, kind %s', v.holder_id, v.supplier_id, v.kind_id) AS found
        FROM vouchers v
        LEFT JOIN holders h ON h.tenant = v.tenant AND h.id = v.holder_id
        LEFT JOIN merchants m ON m.tenant = v.tenant AND m.id = v.supplier_id
        LEFT JOIN voucher_kinds k ON k.tenant = v.tenant AND k.id = v.kind_id
        CROSS JOIN LATERAL (VALUES
          ('a member', h.member_since IS NOT NULL),
          ('a supplier that exists', m.id IS NOT NULL),
          ('a kind that exists', k.id IS NOT NULL)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the numbers of a series and year follow each other without a gap, up to its last",
        "number_series",
        """
        WITH given AS (
          SELECT v.tenant, split_part(v.number, '.', 3) AS name, substr(v.number, 2, 4)::bigint AS year,
                 split_part(v.number, '.', 4)::bigint AS n
          -- What is not in this form is another check's difference.
          FROM (SELECT tenant, CASE WHEN number ~ '^W[0-9]{4}[.][A-Z]{2}[.][0-9]{3}[.][0-9]{8}$' THEN number END
                       AS number FROM vouchers WHERE tenant = coalesce($1, tenant)) v
          WHERE v.number IS NOT NULL
        ), runs AS (
          SELECT tenant, name, year, min(n) AS lowest, max(n) AS highest, count(*) AS number,
                 count(DISTINCT n) AS distinct_numbers
          FROM given GROUP BY tenant, name, year
        ), series AS (SELECT * FROM number_series WHERE tenant = coalesce($1, tenant))
        SELECT format('tenant %s, series %s of %s', tenant, name, year) AS what,
               coalesce(format('every number from 1 to %s, once', s.last), 'no number') AS expected,
               coalesce(format('%s numbers from %s to %s, %s of them different', r.number, r.lowest, r.highest,
                               r.distinct_numbers), 'no number') AS found
        FROM series s FULL JOIN runs r USING (tenant, name, year)
        WHERE (r.lowest = 1 AND r.highest = s.last AND r.number = s.last AND r.distinct_numbers = s.last) IS NOT TRUE
        """,
    ),
    Check(
        "invoices have what their status says, and exceed by what their voucher does not cover",
        "supplier_invoices",
        """
        SELECT format('tenant %s, invoice %s', i.tenant, i.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', i.status, 'amount', i.amount, 'excess', i.excess,
                 'supplier', i.supplier_id, 'number', i.invoice_number, 'recorded_at', i.recorded_at,
                 'decided_at', i.decided_at, 'voucher', jsonb_build_object('id', i.voucher_id, 'status', v.status,
                 'value', v.value, 'supplier', v.supplier_id, 'last_action_at', v.last_action_at)))::text AS found
        FROM (
          SELECT *, count(*) OVER (PARTITION BY tenant, supplier_id, invoice_number) AS namesakes
          FROM supplier_invoices WHERE tenant = coalesce($1, tenant)
        ) i
        LEFT JOIN vouchers v ON v.tenant = i.tenant AND v.id = i.voucher_id
        CROSS JOIN LATERAL (VALUES
          ('a known status', i.status IN ('RECORDED', 'TO_DECIDE', 'EXCESS_PAID', 'EXCESS_REFUSED')),
          ('more than nothing', i.amount > 0),
          ('as excess what the voucher''s value does not cover', i.excess = i.amount - least(i.amount, v.value)),
          ('RECORDED without excess, and only then', (i.status = 'RECORDED') = (i.excess = 0)),
          ('decided_at when decided, and only then',
            (i.decided_at IS NOT NULL) = (i.status IN ('EXCESS_PAID', 'EXCESS_REFUSED'))),
          ('for a voucher of its supplier', v.supplier_id = i.supplier_id),
          ('recorded when its voucher was INVOICED', v.status = 'INVOICED' AND v.last_action_at = i.recorded_at),
          ('a number that its supplier used once', i.namesakes = 1)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "guarantees, bills and excesses stand in the ledger, side by side with their vouchers and invoices",
        "vouchers",
        """
        WITH expected AS (
          SELECT v.tenant, v.id AS subject_id, side.transfer, side.account, side.owner_id, side.amount
          FROM vouchers v LEFT JOIN bills b ON b.tenant = v.tenant AND b.voucher_id = v.id
          CROSS JOIN LATERAL (SELECT v.status = 'INVOICED' AS billed, v.status IN ('CANCELLED', 'EXPIRED') AS released,
            v.value - b.paid AS rest) AS x
          CROSS JOIN LATERAL (VALUES
            ('RESERVE',  'GUARANTEE', v.holder_id,   -v.value, true),
            ('RESERVE',  'HELD',      v.supplier_id, v.value,  true),
            ('POST',     'HELD',      v.supplier_id, -v.value, x.billed),
            ('POST',     'MERCHANT',  v.supplier_id, b.paid,   x.billed),
            ('POST',     'GUARANTEE', v.holder_id,   x.rest,   x.billed AND x.rest <> 0),
            ('TRANSFER', 'DEBT',      v.holder_id,   -b.paid,  x.billed),
            ('TRANSFER', 'GUARANTEE', v.holder_id,   b.paid,   x.billed),
            ('VOID',     'HELD',      v.supplier_id, -v.value, x.released),
            ('VOID',     'GUARANTEE', v.holder_id,   v.value,  x.released)
          ) AS side(transfer, account, owner_id, amount, wanted)
          WHERE v.tenant = coalesce($1, v.tenant) AND side.wanted
          UNION ALL
          SELECT b.tenant, b.id, 'TRANSFER', side.account, side.owner_id, side.amount
          FROM bills b
          CROSS JOIN LATERAL (VALUES ('DEBT', b.holder_id, -b.excess), ('MERCHANT', b.supplier_id, b.excess))
            AS side(account, owner_id, amount)
          WHERE b.tenant = coalesce($1, b.tenant) AND b.status = 'EXCESS_PAID'
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.kind AS transfer, a.kind AS account, a.owner_id,
                 sum(p.amount) AS amount, count(*) AS postings
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind IN ('vchr', 'sinv')
          GROUP BY t.tenant, t.subject_id, t.kind, a.kind, a.owner_id
        )
        SELECT format('tenant %s, voucher or invoice %s, %s on %s account of %s', tenant, subject_id, transfer, account,
                      owner_id) AS what,
               coalesce(e.amount::text, 'nothing') AS expected,
               m.amount || CASE m.postings WHEN 1 THEN '' ELSE format(' in %s postings', m.postings) END AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, transfer, account, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR m.postings <> 1
        """,
    ),
    Check(
        "statements have lines of their member alone, billed until the end of their month, and their sum",
        "member_statements",
        """
        WITH lines AS (
          SELECT i.tenant, i.statement_id, count(*) AS number, min(v.holder_id::text) AS first_holder,
                 max(v.holder_id::text) AS last_holder, max(coalesce(i.decided_at, i.recorded_at)) AS last_billed_at,
                 count(*) FILTER (WHERE i.status = 'TO_DECIDE') AS undecided,
                 sum(CASE WHEN i.status = 'EXCESS_PAID' THEN i.amount ELSE i.amount - i.excess END) AS total
          FROM supplier_invoices i LEFT JOIN vouchers v ON v.tenant = i.tenant AND v.id = i.voucher_id
          WHERE i.tenant = coalesce($1, i.tenant) AND i.statement_id IS NOT NULL GROUP BY i.tenant, i.statement_id
        )
        SELECT format('tenant %s, statement %s', coalesce(s.tenant, l.tenant), coalesce(s.id, l.statement_id)) AS what,
               rule.expected,
               jsonb_strip_nulls(jsonb_build_object('period', s.period, 'total', s.total, 'channel', s.channel,
                 'issued_at', s.issued_at, 'holder', s.holder_id, 'job', j.kind, 'lines', l.number, 'sum', l.total,
                 'last_billed_at', l.last_billed_at, 'undecided', l.undecided))::text AS found
        FROM (SELECT *, id AS statement_id FROM member_statements WHERE tenant = coalesce($1, tenant)) s
        FULL JOIN lines l USING (tenant, statement_id)
        LEFT JOIN jobs j ON j.tenant = s.tenant AND j.id = s.job_id
        CROSS JOIN LATERAL (SELECT s.period || '-01' AS first_day WHERE s.period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'
          UNION ALL SELECT NULL WHERE s.period !~ '^[0-9]{4}-(0[1-9]|1[0-2])$' OR s.period IS NULL) AS x
        CROSS JOIN LATERAL (VALUES
          ('a statement that exists', s.id IS NOT NULL),
          ('one line or more', l.number > 0),
          ('lines of its member alone', l.first_holder = s.holder_id::text AND l.last_holder = s.holder_id::text),
          ('as total the sum of its lines', s.total = l.total AND s.total > 0),
          ('every excess decided', l.undecided = 0),
          ('a month that had begun when it was issued',
            x.first_day::timestamp AT TIME ZONE 'Europe/Paris' <= s.issued_at),
          ('billed before the end of its month and its issue', l.last_billed_at <= s.issued_at AND l.last_billed_at
            < (x.first_day::timestamp + interval '1 month') AT TIME ZONE 'Europe/Paris'),
          ('by mail or by post', s.channel IN ('EMAIL', 'POST')),
          ('issued by a job for that, of its month', j.kind = 'ISSUE_MEMBER_STATEMENTS'
            AND coalesce(j.given ->> 'month', s.period) = s.period)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "what statements tell is what their members' debts grew by",
        "member_statements",
        """
        WITH owed AS (
          SELECT b.tenant, b.statement_id, -sum(p.amount) AS total
          FROM bills b
          JOIN transfers t ON t.tenant = b.tenant AND (t.subject_kind = 'vchr' AND t.subject_id = b.voucher_id
                                                       OR t.subject_kind = 'sinv' AND t.subject_id = b.id)
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id AND a.kind = 'DEBT'
                         AND a.owner_id = b.holder_id
          WHERE b.tenant = coalesce($1, b.tenant) AND b.statement_id IS NOT NULL
          GROUP BY b.tenant, b.statement_id
        )
        SELECT format('tenant %s, statement %s', s.tenant, s.id) AS what, coalesce(o.total, 0)::text AS expected,
               s.total::text AS found
        FROM member_statements s LEFT JOIN owed o ON o.tenant = s.tenant AND o.statement_id = s.id
        WHERE s.tenant = coalesce($1, s.tenant) AND o.total IS DISTINCT FROM s.total
        """,
    ),
)

_DEADLINES: Final = (
    Check(
        "requests, vouchers and files have the deadlines of their status pending, and no others",
        "deadlines",
        """
        WITH wanted AS (
          SELECT r.tenant, r.id AS subject_id, x.name, x.needed, 'preq' AS kind
          FROM payment_requests r
          CROSS JOIN LATERAL (VALUES
            ('expire', true, r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE')),
            ('warn', false, r.status = 'TO_VALIDATE')
          ) AS x(name, needed, allowed)
          WHERE r.tenant = coalesce($1, r.tenant) AND x.allowed
          UNION ALL
          SELECT v.tenant, v.id, 'expire', true, 'vchr' FROM vouchers v
          WHERE v.tenant = coalesce($1, v.tenant) AND v.status IN ('ISSUED', 'CODE_REVEALED')
          UNION ALL
          SELECT j.tenant, j.id, 'expire_file', true, 'jobs' FROM jobs j
          WHERE j.tenant = coalesce($1, j.tenant) AND j.file_bytes IS NOT NULL
        ), pending AS (
          SELECT tenant, subject_id, name, subject_kind FROM deadlines WHERE tenant = coalesce($1, tenant)
        )
        SELECT format('tenant %s, deadline %s of %s %s', tenant, name, coalesce(p.subject_kind, w.kind), subject_id)
                 AS what,
               coalesce('one pending, of a ' || w.kind, 'nothing pending') AS expected,
               CASE WHEN p.subject_kind IS NULL THEN 'nothing pending' ELSE 'one pending' END AS found
        FROM wanted w FULL JOIN pending p USING (tenant, subject_id, name)
        WHERE w.needed IS NULL OR w.needed AND p.subject_kind IS NULL OR p.subject_kind <> w.kind
        """,
    ),
    Check(
        "deadlines fall when their requests and vouchers say",
        "deadlines",
        # In a sandbox, where the clock may be moved, the instants are apart by that much. The tenant's clock and the
        # real one are read one after the other, so that a deadline may come a moment late, and never early.
        """
        SELECT format('tenant %s, deadline %s of request %s', d.tenant, d.name, r.id) AS what,
               x.due_at::text AS expected,
               d.due_at::text AS found
        FROM deadlines d
        JOIN issuers i ON i.tenant = d.tenant AND NOT i.sandbox
        JOIN payment_requests r ON r.tenant = d.tenant AND r.id = d.subject_id
        CROSS JOIN LATERAL (SELECT CASE
          WHEN d.name = 'warn' THEN greatest(r.paid_at, r.validation_deadline - interval '24 hours')
          WHEN r.status = 'AWAITING_PAYMENT' THEN r.payment_deadline
          ELSE r.validation_deadline END AS due_at) AS x
        WHERE d.tenant = coalesce($1, d.tenant)
          AND (d.due_at BETWEEN x.due_at AND x.due_at + interval '10 seconds') IS NOT TRUE
          -- A warning may wait for the hour that the issuer had chosen then, while there is something to warn of.
          AND (d.name = 'warn' AND d.due_at > x.due_at AND d.due_at < r.validation_deadline
               AND d.due_at < date_trunc('hour', d.due_at, 'Europe/Paris') + interval '10 seconds') IS NOT TRUE
        UNION ALL
        SELECT format('tenant %s, deadline %s of voucher %s', d.tenant, d.name, v.id), v.expires_at::text,
               d.due_at::text
        FROM deadlines d
        JOIN issuers i ON i.tenant = d.tenant AND NOT i.sandbox
        JOIN vouchers v ON v.tenant = d.tenant AND v.id = d.subject_id
        WHERE d.tenant = coalesce($1, d.tenant)
          AND (d.due_at BETWEEN v.expires_at AND v.expires_at + interval '10 seconds') IS NOT TRUE
        """,
    ),
)

_JOURNAL: Final = (
    Check(
        "the journal has one creation of every object",
        "journal",
        """
        WITH made AS (
          SELECT j.tenant, j.subject_id, j.kind, count(*) AS number FROM journal j
          WHERE j.tenant = coalesce($1, j.tenant)
            AND (j.kind LIKE '%.create' OR j.kind IN ('vchr.request', 'sinv.record', 'mstm.issue'))
          GROUP BY j.tenant, j.subject_id, j.kind
        )
        SELECT format('tenant %s, %s %s', o.tenant, o.kind, o.id) AS what, '1 line' AS expected,
               format('%s lines', coalesce(m.number, 0)) AS found
        FROM objects o LEFT JOIN made m ON m.tenant = o.tenant AND m.subject_id = o.id AND m.kind = CASE o.kind
          WHEN 'vchr' THEN 'vchr.request' WHEN 'sinv' THEN 'sinv.record' WHEN 'mstm' THEN 'mstm.issue'
          ELSE o.kind || '.create' END
        WHERE o.tenant = coalesce($1, o.tenant) AND coalesce(m.number, 0) <> 1
          -- An issuer's row comes a transaction before its line.
          AND NOT (o.kind = 'issr' AND m.number IS NULL)
        """,
    ),
    Check(
        "the journal tells each request's life",
        "journal",
        """
        WITH lives AS (
          SELECT r.tenant, r.id, r.status, r.version,
                 r.amount_paid IS NOT NULL AS paid, r.validation_days IS NOT NULL AS has_window,
                 count(*) FILTER (WHERE j.kind = 'preq.pay') AS payments,
                 count(*) FILTER (WHERE j.kind IN ('preq.validate', 'preq.auto_validate')) AS validations,
                 count(*) FILTER (WHERE j.kind = 'preq.auto_validate' AND (NOT r.auto_validation OR
                   j.at < r.validation_deadline OR j.user_id IS NOT NULL OR r.amount_validated < r.amount_paid)
                   OR j.kind = 'preq.validate' AND j.at >= r.validation_deadline) AS out_of_time,
                 count(*) FILTER (WHERE j.kind = 'preq.cancel') AS cancellations,
                 count(*) FILTER (WHERE j.kind = 'preq.decline') AS declines,
                 count(*) FILTER (WHERE j.kind = 'preq.expire') AS expiries,
                 count(*) FILTER (WHERE j.kind NOT IN ('preq.create', 'preq.warn')) AS changes,
                 min(j.sequence) FILTER (WHERE j.kind = 'preq.create') AS creation, min(j.sequence) AS first,
                 max(j.sequence) FILTER (WHERE j.kind = ANY (x.last_kinds)) AS last_of_status, max(j.sequence) FILTER
                   (WHERE j.kind <> 'preq.warn') AS last,
                 bool_or(j.kind = 'preq.create' AND j.at = r.created_at) AS created_then,
                 bool_or(j.kind = 'preq.pay' AND j.at = r.paid_at) AS paid_then,
                 bool_or(j.kind = ANY (x.last_kinds) AND j.at = r.last_action_at) AS acted_then
          FROM payment_requests r
          CROSS JOIN LATERAL (SELECT CASE r.status
            WHEN 'AWAITING_PAYMENT' THEN ARRAY['preq.create', 'preq.change_collection']
            WHEN 'TO_VALIDATE' THEN ARRAY['preq.pay']
            WHEN 'VALIDATED' THEN CASE WHEN r.validation_days IS NULL THEN ARRAY['preq.pay']
              ELSE ARRAY['preq.validate', 'preq.auto_validate'] END
            WHEN 'CANCELLED' THEN ARRAY['preq.cancel', 'preq.decline']
            WHEN 'EXPIRED' THEN ARRAY['preq.expire'] END AS last_kinds) AS x
          LEFT JOIN journal j ON j.tenant = r.tenant AND j.subject_id = r.id
          WHERE r.tenant = coalesce($1, r.tenant)
          GROUP BY r.tenant, r.id
        )
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_build_object('status', r.status, 'payments', r.payments, 'validations', r.validations,
                 'cancellations', r.cancellations, 'declines', r.declines, 'expiries', r.expiries,
                 'changes', r.changes, 'version', r.version)::text AS found
        FROM lives r
        CROSS JOIN LATERAL (VALUES
          ('its creation first, at created_at', r.creation = r.first AND r.created_then),
          ('one payment if paid, at paid_at', r.payments = r.paid::integer AND (NOT r.paid OR r.paid_then)),
          ('one validation if VALIDATED in a window: before its end, or at it by the clock alone',
            r.validations = (r.has_window AND r.status = 'VALIDATED')::integer AND r.out_of_time = 0),
          ('one cancellation or refusal if CANCELLED',
            r.cancellations + r.declines = (r.status = 'CANCELLED')::integer),
          ('no refusal of what was paid', r.declines = 0 OR NOT r.paid),
          ('one expiry if EXPIRED', r.expiries = (r.status = 'EXPIRED')::integer),
          ('the line of its status last, at last_action_at', r.last_of_status = r.last AND r.acted_then),
          ('a line for each change', r.changes = r.version)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal says the same as the requests",
        "journal",
        """
        SELECT format('tenant %s, line %s (%s) about request %s', j.tenant, j.id, j.kind, r.id) AS what,
               format('a known line, amount %s, place %s, holder %s', coalesce(x.amount::text, 'none'),
                      r.point_of_sale_id, coalesce(r.payer_id::text, 'any')) AS expected,
               format('amount %s, place %s, holder %s', coalesce(j.amount::text, 'none'), j.point_of_sale_id,
                      coalesce(j.holder_id::text, 'none')) AS found
        FROM journal j JOIN payment_requests r ON r.tenant = j.tenant AND r.id = j.subject_id
        CROSS JOIN LATERAL (SELECT CASE j.kind WHEN 'preq.create' THEN r.amount_requested
          WHEN 'preq.pay' THEN r.amount_paid WHEN 'preq.validate' THEN r.amount_validated
          WHEN 'preq.auto_validate' THEN r.amount_validated END AS amount) AS x
        WHERE j.tenant = coalesce($1, j.tenant) AND (
          j.subject_kind = 'preq' AND j.kind IN ('preq.create', 'preq.change_collection', 'preq.pay', 'preq.decline',
            'preq.validate', 'preq.auto_validate', 'preq.cancel', 'preq.expire', 'preq.warn')
          AND j.amount IS NOT DISTINCT FROM x.amount
          AND j.point_of_sale_id = r.point_of_sale_id
          AND (j.kind NOT IN ('preq.pay', 'preq.validate', 'preq.auto_validate') OR j.holder_id = r.payer_id)
        ) IS NOT TRUE
        """,
    ),
    Check(
        "the journal tells each voucher's life",
        "journal",
        """
        WITH lines AS (
          SELECT j.tenant, j.subject_id, j.sequence, j.at, j.user_id, split_part(j.kind, '.', 2) AS verb,
                 j.kind IN ('vchr.request', 'vchr.reveal', 'vchr.deliver', 'vchr.cancel', 'vchr.expire', 'vchr.invoice')
                   AS moves,
                 -- Each right code, and each unblocking, begins the count of the wrong ones anew.
                 count(*) FILTER (WHERE j.kind IN ('vchr.verify', 'vchr.unblock', 'vchr.invoice')) OVER life AS round,
                 lag(j.kind) OVER life AS kind_before
          FROM journal j WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind = 'vchr'
          WINDOW life AS (PARTITION BY j.tenant, j.subject_id ORDER BY j.sequence)
        ), counts AS (
          SELECT tenant, subject_id, round, count(*) FILTER (WHERE verb IN ('wrong_code', 'block')) AS wrong,
                 max(at) FILTER (WHERE verb = 'block') AS blocked_at,
                 count(*) FILTER (WHERE verb IN ('wrong_code', 'block')) > 5
                   OR bool_or((verb = 'block') <> (place = 5)) FILTER (WHERE verb IN ('wrong_code', 'block'))
                   AS blocked_wrongly
          FROM (SELECT *, count(*) FILTER (WHERE verb IN ('wrong_code', 'block')) OVER
                  (PARTITION BY tenant, subject_id, round ORDER BY sequence) AS place FROM lines) AS placed
          GROUP BY tenant, subject_id, round
        ), codes AS (
          SELECT DISTINCT ON (tenant, subject_id) tenant, subject_id, wrong, blocked_at,
                 bool_or(blocked_wrongly) OVER (PARTITION BY tenant, subject_id) AS blocked_wrongly
          FROM counts ORDER BY tenant, subject_id, round DESC
        ), lives AS (
          SELECT tenant, subject_id, string_agg(verb, ' ' ORDER BY sequence) FILTER (WHERE moves) AS told,
                 (array_agg(at ORDER BY sequence DESC) FILTER (WHERE moves))[1] AS moved_at,
                 max(at) FILTER (WHERE verb = 'request') AS requested_at,
                 max(at) FILTER (WHERE verb = 'reveal') AS revealed_at,
                 max(at) FILTER (WHERE verb = 'deliver') AS delivered_at,
                 min(sequence) FILTER (WHERE NOT moves) > coalesce(max(sequence) FILTER (WHERE verb = 'deliver'),
                   9223372036854775807) AS tried_after_delivery,
                 count(*) FILTER (WHERE verb = 'expire' AND user_id IS NOT NULL) AS expiries_by_people,
                 -- A right code changes the voucher only when it takes back a wrong one.
                 count(*) FILTER (WHERE verb NOT IN ('request', 'verify')
                   OR verb = 'verify' AND kind_before = 'vchr.wrong_code') AS changes
          FROM lines GROUP BY tenant, subject_id
        )
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', v.status, 'told', l.told, 'wrong_codes', v.wrong_codes,
                 'wrong_codes_told', c.wrong, 'blocked_at', v.blocked_at, 'block_told', c.blocked_at,
                 'last_action_at', v.last_action_at, 'changes', l.changes, 'version', v.version))::text AS found
        FROM vouchers v
        LEFT JOIN lives l ON l.tenant = v.tenant AND l.subject_id = v.id
        LEFT JOIN codes c ON c.tenant = v.tenant AND c.subject_id = v.id
        CROSS JOIN LATERAL (VALUES
          ('the lines that lead to its status, in the order of life', l.told = CASE v.status
            WHEN 'ISSUED' THEN 'request'
            WHEN 'CODE_REVEALED' THEN 'request reveal'
            WHEN 'DELIVERED' THEN 'request reveal deliver'
            WHEN 'INVOICED' THEN 'request reveal deliver invoice'
            WHEN 'CANCELLED' THEN 'request cancel'
            WHEN 'EXPIRED' THEN CASE WHEN v.revealed_at IS NULL THEN 'request expire' ELSE 'request reveal expire' END
          END),
          ('its request at issued_at', l.requested_at = v.issued_at),
          ('its code drawn at revealed_at', l.revealed_at IS NOT DISTINCT FROM v.revealed_at),
          ('its delivery at delivered_at', l.delivered_at IS NOT DISTINCT FROM v.delivered_at),
          ('the line of its status at last_action_at', l.moved_at = v.last_action_at),
          ('expired by the clock alone', l.expiries_by_people = 0),
          ('codes tried only after the delivery', l.tried_after_delivery IS NOT FALSE),
          ('as many wrong codes as told since the last right one', c.wrong = v.wrong_codes),
          ('blocked by the fifth wrong code in a row, then', c.blocked_wrongly IS NOT TRUE
            AND c.blocked_at IS NOT DISTINCT FROM v.blocked_at),
          ('a line for each change', l.changes = v.version)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal tells each invoice's life",
        "journal",
        """
        WITH lives AS (
          SELECT j.tenant, j.subject_id, string_agg(j.kind, ' ' ORDER BY j.sequence) AS told, min(j.at) FILTER
                   (WHERE j.kind = 'sinv.record') AS recorded_at,
                 max(j.at) FILTER (WHERE j.kind IN ('sinv.pay_excess', 'sinv.refuse_excess')) AS decided_at,
                 min(j.xact::text) FILTER (WHERE j.kind = 'sinv.record') AS recorded_in,
                 max(j.at) FILTER (WHERE j.kind = 'sinv.state') AS stated_at,
                 min(j.xact::text) FILTER (WHERE j.kind = 'sinv.state') AS stated_in,
                 count(*) - 1 AS changes
          FROM journal j WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind = 'sinv'
          GROUP BY j.tenant, j.subject_id
        )
        SELECT format('tenant %s, invoice %s', i.tenant, i.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', i.status, 'told', l.told, 'recorded_at', i.recorded_at,
                 'decided_at', i.decided_at, 'version', i.version))::text AS found
        FROM supplier_invoices i LEFT JOIN lives l ON l.tenant = i.tenant AND l.subject_id = i.id
        CROSS JOIN LATERAL (VALUES
          ('the lines that lead to its status, and to its statement', l.told = CASE i.status
            WHEN 'RECORDED' THEN 'sinv.record'
            WHEN 'TO_DECIDE' THEN 'sinv.record'
            WHEN 'EXCESS_PAID' THEN 'sinv.record sinv.pay_excess'
            WHEN 'EXCESS_REFUSED' THEN 'sinv.record sinv.refuse_excess' END
            || CASE WHEN i.statement_id IS NULL THEN '' ELSE ' sinv.state' END),
          ('put on its statement in one transaction with that one''s line', i.statement_id IS NULL
            OR EXISTS (SELECT FROM journal j WHERE j.tenant = i.tenant AND j.subject_id = i.statement_id
              AND j.kind = 'mstm.issue' AND j.at = l.stated_at AND j.xact::text = l.stated_in)),
          ('its recording at recorded_at', l.recorded_at = i.recorded_at),
          ('its decision at decided_at', l.decided_at IS NOT DISTINCT FROM i.decided_at),
          ('recorded in one transaction with its voucher''s line', EXISTS (SELECT FROM journal j
            WHERE j.tenant = i.tenant AND j.subject_id = i.voucher_id AND j.kind = 'vchr.invoice'
              AND j.at = l.recorded_at AND j.xact::text = l.recorded_in)),
          ('a line for each change', l.changes = i.version)
        ) AS rule(expected, holds)
        WHERE i.tenant = coalesce($1, i.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal says the same as the vouchers and invoices",
        "journal",
        """
        WITH said AS (
          SELECT v.tenant, v.id, side.kind, side.amount, v.holder_id
          FROM vouchers v LEFT JOIN bills b ON b.tenant = v.tenant AND b.voucher_id = v.id
          CROSS JOIN LATERAL (VALUES
            ('vchr.request', v.value), ('vchr.deliver', v.value), ('vchr.cancel', v.value), ('vchr.expire', v.value),
            ('vchr.invoice', b.paid), ('vchr.reveal', NULL), ('vchr.verify', NULL), ('vchr.wrong_code', NULL),
            ('vchr.block', NULL), ('vchr.unblock', NULL)
          ) AS side(kind, amount)
          WHERE v.tenant = coalesce($1, v.tenant)
          UNION ALL
          SELECT b.tenant, b.id, side.kind, side.amount, b.holder_id
          FROM bills b
          CROSS JOIN LATERAL (VALUES ('sinv.record', b.paid + b.excess), ('sinv.pay_excess', b.excess),
            ('sinv.refuse_excess', b.excess),
            ('sinv.state', b.paid + CASE b.status WHEN 'EXCESS_PAID' THEN b.excess ELSE 0 END)) AS side(kind, amount)
          WHERE b.tenant = coalesce($1, b.tenant)
          UNION ALL
          SELECT tenant, id, 'mstm.issue', total, holder_id FROM member_statements
          WHERE tenant = coalesce($1, tenant)
        )
        SELECT format('tenant %s, line %s (%s) about %s', j.tenant, j.id, j.kind, j.subject_id) AS what,
               CASE WHEN s.id IS NULL THEN 'a known line'
                    ELSE format('amount %s, no place, holder %s', coalesce(s.amount::text, 'none'), s.holder_id) END
                 AS expected,
               format('amount %s, place %s, holder %s', coalesce(j.amount::text, 'none'),
                      coalesce(j.point_of_sale_id::text, 'none'), coalesce(j.holder_id::text, 'none')) AS found
        FROM journal j
        LEFT JOIN said s ON s.tenant = j.tenant AND s.id = j.subject_id AND s.kind = j.kind
        WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind IN ('vchr', 'sinv', 'mstm')
          AND (j.amount IS NOT DISTINCT FROM s.amount AND j.point_of_sale_id IS NULL AND j.holder_id = s.holder_id)
            IS NOT TRUE
        """,
    ),
    Check(
        "transfers and the journal's lines are written together",
        "transfers",
        """
        WITH moved AS (
          SELECT t.tenant, t.subject_id, f.line, t.reason, t.xact, t.at, count(*) AS number
          FROM transfers t JOIN forms f USING (kind, subject_kind, reason)
          WHERE t.tenant = coalesce($1, t.tenant) GROUP BY t.tenant, t.subject_id, f.line, t.reason, t.xact, t.at
        ), told AS (
          SELECT j.tenant, j.subject_id, f.line, f.reason, j.xact, j.at, count(*) AS number
          FROM journal j JOIN (SELECT DISTINCT line, reason FROM forms) f ON f.line = j.kind
          WHERE j.tenant = coalesce($1, j.tenant)
          GROUP BY j.tenant, j.subject_id, f.line, f.reason, j.xact, j.at
        )
        SELECT format('tenant %s, %s (%s) of %s at %s', tenant, line, reason, subject_id, at) AS what,
               'as many transfers as lines, of one transaction' AS expected,
               format('%s transfers, %s lines', coalesce(m.number, 0), coalesce(t.number, 0)) AS found
        FROM moved m FULL JOIN told t USING (tenant, subject_id, line, reason, xact, at)
        -- What was never paid is cancelled, or expires, without a transfer.
        WHERE m.number IS DISTINCT FROM t.number AND NOT (m.number IS NULL AND line IN ('preq.cancel', 'preq.expire'))
        """,
    ),
    Check(
        "the journal names what exists",
        "journal",
        """
        SELECT format('tenant %s, line %s (%s)', tenant, id, kind) AS what, expected, found
        FROM (
          SELECT j.*, 'the kind of its subject' AS expected, subject_kind AS found
          FROM journal j WHERE split_part(j.kind, '.', 1) <> j.subject_kind
          UNION ALL
          SELECT j.*, 'a subject that exists', concat_ws(' ', subject_kind, subject_id)
          FROM journal j WHERE j.subject_kind <> 'sess' AND NOT EXISTS (SELECT FROM objects o
            WHERE o.tenant = j.tenant AND o.kind = j.subject_kind AND o.id = j.subject_id)
          UNION ALL
          SELECT j.*, 'a user who exists', user_id::text
          FROM journal j WHERE j.user_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM users u WHERE u.tenant = j.tenant AND u.id = j.user_id)
          UNION ALL
          SELECT j.*, 'a place that exists', point_of_sale_id::text
          FROM journal j WHERE j.point_of_sale_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM points_of_sale p WHERE p.tenant = j.tenant AND p.id = j.point_of_sale_id)
          UNION ALL
          SELECT j.*, 'a holder who exists', holder_id::text
          FROM journal j WHERE j.holder_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM holders h WHERE h.tenant = j.tenant AND h.id = j.holder_id)
        ) AS j
        WHERE j.tenant = coalesce($1, j.tenant)
        """,
    ),
)

_MESSAGES: Final = (
    Check(
        "idempotency keys lead to what exists",
        "idempotency_keys",
        """
        SELECT format('tenant %s, key %s of %s', k.tenant, k.key, k.scope_id) AS what,
               'an object that exists' AS expected, format('%s %s', k.result_kind, k.result_id) AS found
        FROM idempotency_keys k
        LEFT JOIN objects o ON o.tenant = k.tenant AND o.kind = k.result_kind AND o.id = k.result_id
        WHERE k.tenant = coalesce($1, k.tenant) AND o.id IS NULL
        """,
    ),
    Check(
        "a message waits, is done, or was given up: one of these",
        "outbox",
        """
        SELECT format('tenant %s, message %s', m.tenant, m.id) AS what, 'in one place' AS expected,
               string_agg(m.place, ', ' ORDER BY m.place) AS found
        FROM (
          SELECT tenant, id, 'outbox' AS place FROM outbox UNION ALL SELECT tenant, message_id, 'inbox' FROM inbox
          UNION ALL SELECT tenant, id, 'dead_letters' FROM dead_letters
        ) m
        WHERE m.tenant = coalesce($1, m.tenant) GROUP BY m.tenant, m.id HAVING count(*) > 1
        """,
    ),
    Check(
        "messages are about what exists",
        "outbox",
        """
        SELECT format('tenant %s, message %s', m.tenant, m.id) AS what,
               'an object that exists, of that version or later' AS expected, m.payload::text AS found
        FROM outbox m
        LEFT JOIN objects o ON o.tenant = m.tenant AND o.kind = m.payload ->> 'kind' AND o.id::text = m.payload ->> 'id'
        LEFT JOIN payment_requests r ON r.tenant = o.tenant AND r.id = o.id
        LEFT JOIN vouchers v ON v.tenant = o.tenant AND v.id = o.id
        LEFT JOIN supplier_invoices i ON i.tenant = o.tenant AND i.id = o.id
        WHERE m.tenant = coalesce($1, m.tenant) AND m.payload ->> 'kind' IS DISTINCT FROM 'sess'
          AND (o.id IS NULL OR (m.payload -> 'version') > to_jsonb(coalesce(r.version, v.version, i.version)))
        """,
    ),
)

_JOBS: Final = (
    Check(
        "jobs have what their status says, and whole files",
        "jobs",
        """
        WITH kept AS (
          SELECT tenant, job_id, count(*) AS pieces, max(n) + 1 AS counted, sum(octet_length(content)) AS bytes
          FROM job_chunks WHERE tenant = coalesce($1, tenant) GROUP BY tenant, job_id
        )
        SELECT format('tenant %s, job %s', j.tenant, j.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', j.status, 'done', j.done, 'total', j.total,
                 'ended_at', j.ended_at, 'file_name', j.file_name, 'file_bytes', j.file_bytes, 'file_expires_at',
                 j.file_expires_at, 'given', j.given, 'problems', j.problems, 'pieces', k.pieces,
                 'bytes', k.bytes))::text AS found
        FROM jobs j LEFT JOIN kept k ON k.tenant = j.tenant AND k.job_id = j.id
        CROSS JOIN LATERAL (SELECT j.kind = 'EXPORT_PAYMENT_REQUESTS' OR EXISTS (SELECT FROM member_statements s
          WHERE s.tenant = j.tenant AND s.job_id = j.id AND s.channel = 'POST') AS makes_a_file,
          j.kind = 'IMPORT_HOLDERS' AND j.status IN ('QUEUED', 'RUNNING') AS is_given_one) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status', j.status IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED')),
          ('ended_at when over, and only then', (j.ended_at IS NOT NULL) = (j.status IN ('DONE', 'FAILED'))),
          ('file_name and file_expires_at when DONE, and only then; neither where there is nothing to print',
            (j.file_name IS NOT NULL) = (j.status = 'DONE' AND x.makes_a_file)
            AND (j.file_expires_at IS NOT NULL) = (j.status = 'DONE' AND x.makes_a_file)),
          ('every row done when DONE', j.status <> 'DONE' OR j.done = j.total),
          ('every piece of its file, and none without one',
            (j.status = 'RUNNING' AND NOT x.is_given_one)
            OR (coalesce(k.bytes, 0) = CASE WHEN x.is_given_one THEN (j.given ->> 'bytes')::bigint
                                            ELSE coalesce(j.file_bytes, 0) END
                AND k.pieces IS NOT DISTINCT FROM k.counted)),
          ('nothing left of what was handed in, once it is over',
            j.kind <> 'IMPORT_HOLDERS' OR x.is_given_one OR j.given = '{}'),
          ('problems of rows in an import that has FAILED only',
            j.problems IS NULL OR (j.kind = 'IMPORT_HOLDERS' AND j.status = 'FAILED'))
        ) AS rule(expected, holds)
        WHERE j.tenant = coalesce($1, j.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
)

_DOCUMENTS: Final = (
    Check(
        "documents are whole, and each is of one invoice",
        "documents",
        """
        WITH kept AS (
          SELECT tenant, document_id, count(*) AS pieces, max(n) + 1 AS counted, sum(octet_length(content)) AS bytes
          FROM document_chunks WHERE tenant = coalesce($1, tenant) GROUP BY tenant, document_id
        ), used AS (
          SELECT tenant, document_id, count(*) AS invoices, min(recorded_at) AS recorded_at
          FROM supplier_invoices WHERE tenant = coalesce($1, tenant) AND document_id IS NOT NULL
          GROUP BY tenant, document_id
        )
        SELECT format('tenant %s, document %s', tenant, document_id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('size', d.size, 'created_at', d.created_at, 'pieces', k.pieces,
                 'counted', k.counted, 'bytes', k.bytes, 'invoices', u.invoices, 'recorded_at', u.recorded_at))::text
                 AS found
        FROM (SELECT *, id AS document_id FROM documents WHERE tenant = coalesce($1, tenant)) d
        FULL JOIN kept k USING (tenant, document_id) FULL JOIN used u USING (tenant, document_id)
        CROSS JOIN LATERAL (VALUES
          ('a document where pieces or an invoice name one', d.id IS NOT NULL),
          ('every piece of it, one after the other', k.pieces = k.counted),
          ('pieces that add up to its size', k.bytes = d.size),
          ('one invoice, recorded when it was kept', u.invoices = 1 AND u.recorded_at = d.created_at)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
)

_DATABASE: Final = (
    Check(
        "the moves that the database allows are the known ones",
        "transitions",
        """
        SELECT format('%s from %s to %s', machine, was, becomes) AS what,
               CASE WHEN e.known IS NULL THEN 'refused' ELSE 'allowed' END AS expected,
               CASE WHEN t.found IS NULL THEN 'refused' ELSE 'allowed' END AS found
        FROM (VALUES
          ('payment_requests', 'AWAITING_PAYMENT', 'CANCELLED', true),
          ('payment_requests', 'AWAITING_PAYMENT', 'EXPIRED', true),
          ('payment_requests', 'AWAITING_PAYMENT', 'TO_VALIDATE', true),
          ('payment_requests', 'AWAITING_PAYMENT', 'VALIDATED', true),
          ('payment_requests', 'TO_VALIDATE', 'CANCELLED', true),
          ('payment_requests', 'TO_VALIDATE', 'EXPIRED', true),
          ('payment_requests', 'TO_VALIDATE', 'VALIDATED', true),
          ('sessions', 'OPEN', 'ENDED', true),
          ('password_resets', 'SENT', 'USED', true),
          ('jobs', 'QUEUED', 'RUNNING', true),
          ('jobs', 'RUNNING', 'QUEUED', true),
          ('jobs', 'RUNNING', 'DONE', true),
          ('jobs', 'RUNNING', 'FAILED', true),
          ('vouchers', 'ISSUED', 'CODE_REVEALED', true),
          ('vouchers', 'ISSUED', 'CANCELLED', true),
          ('vouchers', 'ISSUED', 'EXPIRED', true),
          ('vouchers', 'CODE_REVEALED', 'DELIVERED', true),
          ('vouchers', 'CODE_REVEALED', 'EXPIRED', true),
          ('vouchers', 'DELIVERED', 'INVOICED', true),
          ('supplier_invoices', 'TO_DECIDE', 'EXCESS_PAID', true),
          ('supplier_invoices', 'TO_DECIDE', 'EXCESS_REFUSED', true)
        ) AS e(machine, was, becomes, known)
        FULL JOIN (SELECT *, true AS found FROM transitions) t USING (machine, was, becomes)
        WHERE e.known IS NULL OR t.found IS NULL
        """,
    ),
    Check(
        "the database's triggers stand and are on",
        "pg_trigger",
        """
        SELECT format('trigger %s on %s', e.name, e.at) AS what, format('on, calling %s', e.calls) AS expected,
               CASE WHEN g.tgenabled IN ('O', 'A') THEN format('on, calling %s', g.tgfoid::regproc)
                    WHEN g.oid IS NOT NULL THEN 'off' END AS found
        FROM (VALUES
          ('transfers', 'append_only', 'refuse_change'), ('postings', 'append_only', 'refuse_change'),
          ('journal', 'append_only', 'refuse_change'), ('transfers', 'sum_to_zero', 'check_transfer'),
          ('postings', 'seal', 'seal_postings'), ('payment_requests', 'lifecycle', 'check_transition'),
          ('sessions', 'lifecycle', 'check_transition'),
          ('password_resets', 'lifecycle', 'check_transition'), ('jobs', 'lifecycle', 'check_transition'),
          ('vouchers', 'lifecycle', 'check_transition'), ('supplier_invoices', 'lifecycle', 'check_transition')
        ) AS e(at, name, calls)
        LEFT JOIN pg_trigger g ON g.tgrelid = to_regclass(e.at) AND g.tgname = e.name AND NOT g.tgisinternal
        WHERE g.oid IS NULL OR g.tgenabled NOT IN ('O', 'A') OR g.tgfoid::regproc::text <> e.calls
        UNION ALL
        SELECT format('trigger %s on %s', g.tgname, c.relname), 'on', 'off'
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
        WHERE c.relnamespace = 'public'::regnamespace AND g.tgisinternal AND g.tgenabled NOT IN ('O', 'A')
        """,
    ),
    Check(
        "the database's constraints stand and are checked",
        "pg_constraint",
        """
        SELECT format('constraint %s', e.name) AS what, 'in force' AS expected, 'missing' AS found
        FROM unnest(ARRAY[
          'balances_floor_check', 'balances_tenant_account_id_fkey', 'idempotency_keys_pkey', 'payment_requests_pkey',
          'postings_account_fkey', 'postings_amount_check', 'postings_pkey', 'postings_tenant_transfer_id_fkey',
          'supplier_invoices_tenant_document_id_key', 'supplier_invoices_tenant_supplier_id_invoice_number_key',
          'supplier_invoices_tenant_voucher_id_key',
          'transfers_pkey', 'transfers_settles_check', 'transfers_tenant_settles_fkey', 'transfers_tenant_settles_key',
          'vouchers_pkey', 'vouchers_tenant_number_key'
        ]) AS e(name)
        WHERE NOT EXISTS (
          SELECT FROM pg_constraint c WHERE c.conname = e.name AND c.connamespace = 'public'::regnamespace)
        UNION ALL
        SELECT format('constraint %s', c.conname), 'in force', 'not validated'
        FROM pg_constraint c WHERE c.connamespace = 'public'::regnamespace AND NOT c.convalidated
        UNION ALL
        SELECT 'index payment_requests_basket_key', 'unique', coalesce(pg_get_indexdef(i.indexrelid), 'missing')
        FROM (VALUES (to_regclass('payment_requests_basket_key'))) AS e(index)
        LEFT JOIN pg_index i ON i.indexrelid = e.index WHERE (i.indisunique AND i.indisvalid) IS NOT TRUE
        """,
    ),
    Check(
        "the tenant wall stands around every table",
        "pg_policy",
        """
        WITH walled AS (
          SELECT c.oid, c.relname, c.relrowsecurity
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
          WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        )
        SELECT format('table %s', w.relname) AS what, 'row-level security' AS expected, 'none' AS found
        FROM walled w WHERE NOT w.relrowsecurity
        UNION ALL
        SELECT format('policy %s on %s', p.polname, w.relname), 'one tenant''s rows only',
               concat_ws(' / ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM walled w JOIN pg_policy p ON p.polrelid = w.oid
        WHERE EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE r = 0 OR r = to_regrole('escarcelle_app'))
          AND (pg_get_expr(p.polqual, p.polrelid) NOT LIKE '%app.tenant%'
            OR pg_get_expr(p.polwithcheck, p.polrelid) NOT LIKE '%app.tenant%')
        """,
    ),
    Check(
        "the program's roles may do no more than they need",
        "pg_roles",
        """
        SELECT format('role %s', e.name) AS what, 'neither superuser, owner nor above the wall' AS expected,
               CASE WHEN r.oid IS NULL THEN 'missing' WHEN r.rolsuper THEN 'superuser'
                    WHEN r.rolbypassrls THEN 'above the wall' ELSE 'owner' END AS found
        FROM unnest(ARRAY['escarcelle_app', 'escarcelle_relay', 'escarcelle_reader']) AS e(name)
        LEFT JOIN pg_roles r ON r.rolname = e.name
        WHERE r.oid IS NULL OR r.rolsuper OR r.rolbypassrls
           OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                      AND pg_has_role(r.oid, c.relowner, 'MEMBER'))
        UNION ALL
        SELECT format('role %s on %s', r.rolname, e.name), 'not allowed', e.right_
        FROM (VALUES
          ('escarcelle_app', 'transfers', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),
          ('escarcelle_app', 'postings', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),
          ('escarcelle_app', 'journal', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),
          ('escarcelle_app', 'transitions', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'voucher_kinds', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'documents', 'UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'document_chunks', 'UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_reader', 'passwords', 'SELECT'), ('escarcelle_reader', 'sessions', 'SELECT')
        ) AS e(role, name, right_) JOIN pg_roles r ON r.rolname = e.role JOIN pg_class c ON c.oid = to_regclass(e.name)
        WHERE has_table_privilege(r.oid, c.oid, e.right_)
        """,
    ),
)

CHECKS: Final = (*_LEDGER, *_PAYMENTS, *_VOUCHERS, *_DEADLINES, *_JOURNAL, *_MESSAGES, *_JOBS, *_DOCUMENTS, *_DATABASE)
"""Every check, in the order of the report."""
