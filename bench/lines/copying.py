"""The nightly copy for analysts, from nothing: read, compared with the ledger, written as Parquet too, and swapped in.
The limit is COPY of the same rows to files, and nothing else."""

import asyncio
import json
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg

from bench.measuring import Curves, Figure, Size, ratios, taking_turns
from bench.stage import Stage, stage
from domain.access import Role
from domain.db import READER, connect_as
from reporting.flows import FLOWS
from reporting.store import tables
from tests.world import Servers, environment

_LIMIT_BYTES: Final = 10**9
_MERCHANTS, _HOLDERS = 10, 100


async def measure(size: Size, servers: Servers) -> list[Figure]:
    """Time of COPY ÷ time of the copy; and the copy's memory ÷ 1 GB."""
    operations = size.of(1_000_000, 20_000)
    async with _filled(servers, operations) as (on, folder):
        copies: list[dict[str, Any]] = []

        async def copy() -> float:
            copies.append(await _copy(on, folder))
            return float(copies[-1]["seconds"])

        limits, seconds = await taking_turns(size.rounds, lambda: _plain(on, folder), copy)
        differences = await on.differences()
    median = statistics.median
    rate = operations / median(seconds)
    steps = {name: median(copied["steps"][name] for copied in copies) for name in ("verify", "parquet")}
    said = ", ".join(f"{name} {taken:.1f} s of it" for name, taken in steps.items())
    return [
        Figure(
            "copy",
            f"{operations:,} operations, their ledger lines and requests into a verified store, from nothing ÷ COPY of"
            " the same rows to files",
            ratios(limits, seconds),
            first=0.5, then=0.7, at_least=True,
            spent=f"{rate:,.0f} operations a second; {median(seconds):.1f} and {median(limits):.1f} s, {said}",
            differences=differences,
        ),
        Figure(
            "copy-memory",
            "the most memory that this copy held ÷ 1 GB",
            [copied["peak_bytes"] / _LIMIT_BYTES for copied in copies],
            first=1, then=0.6, at_least=False,
        ),
    ]  # fmt: skip


async def curve(size: Size, servers: Servers) -> Curves:
    """Operations a second, over operations."""
    curves = Curves("The nightly copy", "operations", "operations a second")
    for count in (2_000, 20_000) if size.quick else (10_000, 100_000, 1_000_000):
        async with _filled(servers, count) as (on, folder):
            curves.add("our copy", count, count / (await _copy(on, folder))["seconds"])
            curves.add("COPY to files", count, count / await _plain(on, folder))
    return curves


async def _copy(on: Stage, folder: Path) -> dict[str, Any]:
    """In a process of its own, as `escarcelle nightly` is; what it takes to start is not counted."""
    shutil.rmtree(folder / "stores", ignore_errors=True)
    settings = on.settings.model_copy(update={"reporting_folder": folder / "stores"})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.copier", on.world.slug, env=environment(settings), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(said)
    return answer


async def _plain(on: Stage, folder: Path) -> float:
    """How long COPY takes, in seconds."""
    connection = await connect_as(on.settings, READER)
    try:
        began = time.perf_counter()
        for table in tables(FLOWS):
            question = f"SELECT {table.columns} FROM {table.source} WHERE t.tenant = {on.world.tenant}"
            await connection.copy_from_query(question, output=folder / table.name)
        return time.perf_counter() - began
    finally:
        await connection.close()


# ── what is copied ────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _filled(servers: Servers, operations: int) -> AsyncIterator[tuple[Stage, Path]]:
    """An issuer with half as many requests, each asked for and paid; and a folder."""
    async with stage(servers) as on:
        world = on.world
        for n in range(_MERCHANTS):
            await world.merchant(f"M{n}", f"Commerce {n}", {f"P{n}": f"Base nautique {n}"})
        for n in range(_HOLDERS):
            await world.holder(f"H{n}", f"Durand {n}", wallet="10000.00")
        manager = await world.user("manager", Role.MERCHANT_MANAGER, merchant="M0")
        superuser = await asyncpg.connect(servers.postgres.url())
        try:
            # The rows are made as deeds make them, and the audit looks at them; their triggers would take an hour.
            await superuser.execute("SET session_replication_role = replica")
            await superuser.execute(
                _FILL.format(
                    tenant=world.tenant,
                    user=manager.user_id,
                    requests=operations // 2,
                    merchants=_MERCHANTS,
                    holders=_HOLDERS,
                )
            )
        finally:
            await superuser.close()
        await on.settle()
        with TemporaryDirectory(prefix="escarcelle-bench-") as folder:
            yield on, Path(folder)


_FILL: Final = """
BEGIN;
CREATE TEMP TABLE m ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY m.code) - 1 AS n, m.id, p.id AS place, a.id AS account
FROM merchants m JOIN points_of_sale p ON p.tenant = m.tenant AND p.merchant_id = m.id
JOIN accounts a ON a.tenant = m.tenant AND a.owner_id = m.id AND a.kind = 'MERCHANT' WHERE m.tenant = {tenant};
CREATE TEMP TABLE h ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY h.reference) - 1 AS n, h.id, a.id AS account
FROM holders h JOIN accounts a ON a.tenant = h.tenant AND a.owner_id = h.id AND a.kind = 'WALLET'
WHERE h.tenant = {tenant};
CREATE TEMP TABLE r ON COMMIT DROP AS
SELECT s.n, gen_random_uuid() AS id, gen_random_uuid() AS transfer, m.id AS merchant, m.place, m.account AS receives,
  h.id AS holder, h.account AS pays, '{user}'::uuid AS asked_by,
  s.n * interval '7 seconds' + timestamptz '2026-01-01 08:00Z' AS asked,
  s.n * interval '7 seconds' + timestamptz '2026-01-01 08:01Z' AS paid
FROM generate_series(1, {requests}) AS s(n) JOIN m ON m.n = s.n % {merchants} JOIN h ON h.n = s.n % {holders};
INSERT INTO payment_requests (tenant, id, flow, status, merchant_id, point_of_sale_id, basket_number, amount_requested,
  amount_paid, amount_validated, collection, token, transaction_number, payment_deadline, created_by, payer_id,
  created_at, paid_at, last_action_at, version)
SELECT {tenant}, id, 'IMMEDIATE', 'VALIDATED', merchant, place, n, 100, 100, 100, 'QR_CODE', n, n,
  asked + interval '15 minutes', asked_by, holder, asked, paid, paid, 1 FROM r;
INSERT INTO journal (tenant, id, kind, at, user_id, point_of_sale_id, holder_id, amount, subject_kind, subject_id,
  detail)
SELECT {tenant}, gen_random_uuid(), 'preq.create', asked, asked_by, place, NULL, 100, 'preq', id, '{{}}' FROM r;
INSERT INTO journal (tenant, id, kind, at, user_id, point_of_sale_id, holder_id, amount, subject_kind, subject_id,
  detail)
SELECT {tenant}, gen_random_uuid(), 'preq.pay', paid, NULL, place, holder, 100, 'preq', id, '{{}}' FROM r;
INSERT INTO transfers (tenant, id, kind, subject_kind, subject_id, reason, at)
SELECT {tenant}, transfer, 'TRANSFER', 'preq', id, 'payment', paid FROM r;
INSERT INTO postings (tenant, transfer_id, account_id, unit, amount)
SELECT {tenant}, transfer, account, 'EUR', amount
FROM r, LATERAL (VALUES (pays, -100), (receives, 100)) AS s(account, amount);
UPDATE balances b SET amount = s.total
FROM (SELECT account_id, sum(amount) AS total FROM postings WHERE tenant = {tenant} GROUP BY account_id) s
WHERE b.tenant = {tenant} AND b.account_id = s.account_id;
COMMIT;
"""
