"""A list asks the database as often for fifty rows as for one."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.app import create_app
from domain import calendar, documents, jobs, vouchers
from domain.access import Role
from domain.texts import Locale
from domain.work import perform
from escarcelle.database import newest_revision
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

VOUCHER = """
  id status statusLabel number value { formatted } validUntil whereToFind certification allowedActions pdfUrl
  kind { name } supplier { name } holder { reference name email wallet { formatted } }
  presentation { revealedAt secretCode }
"""
VOUCHERS = f"{{ vouchers(first: 100) {{ totalCount nodes {{ {VOUCHER} }} }} }}"
INVOICES = f"""{{ supplierInvoices(first: 100) {{ totalCount nodes {{
  id invoiceNumber amount {{ formatted }} documentUrl voucher {{ {VOUCHER} }}
}} }} }}"""
STATEMENTS = f"""{{ memberStatements(first: 20) {{ totalCount nodes {{
  period total {{ formatted }} pdfUrl
  lines {{ supplierInvoiceNumber documentUrl amount {{ formatted }} voucher {{ {VOUCHER} }} }}
}} }} }}"""
MEMBERS = [f"4400123{n}B" for n in range(10)]
SUPPLIERS = [f"S{n}" for n in range(5)]

Ask = Callable[[str, str], Awaitable[tuple[list[dict[str, Any]], int]]]


@pytest.fixture
async def ask(servers: Servers, world: World) -> AsyncIterator[Ask]:
    """Asks as someone, in this process; gives the rows, and how many questions the database was asked."""
    app = create_app(servers.settings, newest_revision())
    there = httpx.ASGITransport(app)

    async def asked(login: str, document: str) -> tuple[list[dict[str, Any]], int]:
        headers = {"authorization": f"Bearer {await world.session(login)}"}
        async with httpx.AsyncClient(transport=there, base_url="http://localhost") as http:
            with counted() as statements:
                answer = (await http.post("/graphql", json={"query": document}, headers=headers)).json()
        assert "errors" not in answer, answer
        (listed,) = answer["data"].values()
        assert len(listed["nodes"]) == listed["totalCount"]
        return listed["nodes"], len(statements)

    async with app.router.lifespan_context(app):
        yield asked


@contextmanager
def counted() -> Iterator[list[str]]:
    """The questions that this process asks meanwhile."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


async def _federation(world: World) -> None:
    await world.voucher_kind()
    await world.user("agence", Role.ISSUER_AGENT)
    for code in SUPPLIERS:
        await world.merchant(code, f"Fournisseur {code}", {f"C{code}": "Comptoir"})
        await world.user(code, Role.MERCHANT_MANAGER, merchant=code)
    for reference in MEMBERS:
        await world.member(reference, f"Martin {reference}", email=f"{reference}@example.com")
        await world.user(reference, Role.HOLDER, holder=reference)


async def _billed(world: World, n: int) -> None:
    """A member's voucher, used, and its invoice with the scan."""
    member, supplier = MEMBERS[n % len(MEMBERS)], SUPPLIERS[n % len(SUPPLIERS)]
    who, database = world.users[member], world.database
    asked = await perform(database, who, vouchers.request, supplier_id=world.merchants[supplier].id, amount=f"{n + 1}")
    assert isinstance(asked, vouchers.Voucher)
    await perform(database, who, vouchers.reveal, asked.id, key_of_code=world.secret_keys[0])
    delivered = await perform(database, who, vouchers.deliver, asked.id)
    assert isinstance(delivered, vouchers.Voucher) and delivered.number
    content = b"%PDF-1.7\n"
    await perform(
        database,
        world.users[supplier],
        vouchers.record_invoice,
        voucher_number=delivered.number,
        code=vouchers.TypedCode(world.code_of(delivered), world.secret_keys),
        invoice_number=f"F-{n}",
        amount=f"{n + 1}",
        document=documents.File("facture.pdf", content, hashlib.sha256(content).digest()),
    )


async def test_fifty_vouchers_and_their_invoices_take_no_more_questions_than_one(world: World, ask: Ask) -> None:
    await _federation(world)
    await _billed(world, 0)
    lists = [("agence", VOUCHERS), (MEMBERS[0], VOUCHERS), ("agence", INVOICES), (SUPPLIERS[0], INVOICES)]
    alone = [await ask(*each) for each in lists]
    assert [len(rows) for rows, _ in alone] == [1, 1, 1, 1]
    for n in range(1, 50):
        await _billed(world, n)
    together = [await ask(*each) for each in lists]
    assert [len(rows) for rows, _ in together] == [50, 5, 50, 10]
    assert [count for _, count in together] == [count for _, count in alone]
    assert max(count for _, count in together) <= 6

    vouchers_seen, _, invoices_seen, at_the_supplier = [rows for rows, _ in together]
    for n, voucher in enumerate(reversed(vouchers_seen)):
        reference = MEMBERS[n % len(MEMBERS)]
        assert voucher["value"]["formatted"] == f"{n + 1},00\u00a0€"
        assert voucher["supplier"]["name"] == f"Fournisseur {SUPPLIERS[n % len(SUPPLIERS)]}"
        assert (voucher["holder"]["reference"], voucher["holder"]["name"]) == (reference, f"Martin {reference}")
        assert voucher["holder"]["email"] == f"{reference}@example.com"
        assert voucher["holder"]["wallet"] == {"formatted": "0,00\u00a0€"}
    for invoice, voucher in zip(invoices_seen, vouchers_seen, strict=True):
        assert invoice["voucher"] == voucher, "seen as in the list of vouchers"
        assert "/files/" in invoice["documentUrl"]
    for invoice in at_the_supplier:
        assert invoice["voucher"]["holder"]["reference"] == MEMBERS[int(invoice["invoiceNumber"][2:]) % len(MEMBERS)]
        assert invoice["voucher"]["holder"]["email"] is None, "reference and name only"
        assert invoice["voucher"]["holder"]["wallet"] is None
        assert (invoice["voucher"]["pdfUrl"], invoice["voucher"]["presentation"]["secretCode"]) == (None, None)


async def test_eleven_statements_take_no_more_questions_than_one(running: Running, world: World, ask: Ask) -> None:
    assert running.url, "the task process issues them"
    await _federation(world)
    database, agency = world.database, world.users["agence"]
    month = calendar.today(datetime.now(UTC))

    unfinished = "SELECT 1 FROM jobs WHERE id = $1 AND status <> 'DONE'"

    async def issue() -> None:
        job = await perform(database, agency, vouchers.issue_member_statements, month=month, locale=Locale.FR)
        assert isinstance(job, jobs.Job)
        async with asyncio.timeout(60):
            while await world.as_owner(unfinished, job.id):  # noqa: ASYNC110 — another process does it
                await asyncio.sleep(0.05)

    await _billed(world, 0)
    await issue()
    lists = [("agence", STATEMENTS), (MEMBERS[0], STATEMENTS)]
    alone = [await ask(*each) for each in lists]
    assert [[len(row["lines"]) for row in rows] for rows, _ in alone] == [[1], [1]]
    for n in range(1, 41):
        await _billed(world, n)
    await issue()
    together = [await ask(*each) for each in lists]
    assert sorted(len(row["lines"]) for row in together[0][0]) == [1, *[4] * 10]
    assert [len(row["lines"]) for row in together[1][0]] == [4, 1]
    assert [count for _, count in together] == [count for _, count in alone]
    for row in together[0][0]:
        for line in row["lines"]:
            n = int(line["supplierInvoiceNumber"].removeprefix("F-"))
            assert line["amount"] == line["voucher"]["value"] == {"formatted": f"{n + 1},00\u00a0€"}
            assert line["voucher"]["holder"]["reference"] == MEMBERS[n % len(MEMBERS)]
    assert {line["voucher"]["holder"]["reference"] for row in together[1][0] for line in row["lines"]} == {MEMBERS[0]}
