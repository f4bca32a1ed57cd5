"""Statements to members: what was billed for them is told once, by mail or by post (V22)."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from domain import documents, jobs, vouchers
from domain.access import Role
from domain.calendar import PARIS
from domain.codes import expiring_token, new_id, read_expiring_token, read_global_id
from domain.texts import Locale
from domain.work import perform
from escarcelle.clients import Client, Unexpected
from reporting import pdf
from tests.flows.pages import lines, pages, squeezed, texts
from tests.world import Running, World

pytestmark = pytest.mark.anyio

JOB = "id kind status done total downloadUrl problems { message }"
WATCH = f"subscription ($id: ID!) {{ job(id: $id) {{ {JOB} }} }}"
LIST = """{ memberStatements { totalCount nodes {
  id period total { amount } pdfUrl
  lines { supplierInvoiceNumber amount { amount } voucher { number presentation { secretCode } } }
} } }"""
INVOICE = "... on SupplierInvoice { id decision excess { amount } }"
NOVEMBER = datetime(2026, 11, 10, 12, tzinfo=PARIS).astimezone(UTC)
PAUL, ANNA = "44001234B", "44005678C"


@dataclass
class Cast:
    """A federation; Paul, a member with a mail address; Anna, who wants post; a supplier; the agency."""

    world: World
    running: Running
    agency: Client
    supplier: Client
    members: dict[str, Client]
    numbers: "count[int]"

    async def bill(
        self, member: str, value: str, invoiced: str | None = None, scan: bytes | None = None
    ) -> dict[str, Any]:
        """The member's voucher of that value, used, and its invoice, perhaps with the scanned paper."""
        client, given = self.members[member], {"supplierId": self.world.merchants["MO"].global_id, "amount": value}
        shown = "... on Voucher { id number presentation { secretCode } }"
        voucher = await client.do("requestVoucher", shown, **given)
        voucher = await client.do("revealVoucherCode", shown, id=voucher["id"])
        voucher = await client.do("deliverVoucher", shown, id=voucher["id"])
        invoice = {
            "voucherNumber": voucher["number"],
            "secretCode": voucher["presentation"]["secretCode"],
            "invoiceNumber": f"F-{next(self.numbers)}",
            "amount": invoiced or value,
        }
        if scan is not None:
            return await self._record_with(scan, invoice)
        return await self.supplier.do("recordSupplierInvoice", INVOICE, **invoice)

    async def _record_with(self, scan: bytes, invoice: dict[str, Any]) -> dict[str, Any]:
        query = (
            "mutation ($input: RecordSupplierInvoiceInput!, $key: ID!)"
            f" {{ recordSupplierInvoice(input: $input, idempotencyKey: $key) {{ {INVOICE} }} }}"
        )
        variables = {"input": invoice | {"document": None}, "key": invoice["invoiceNumber"]}
        async with httpx.AsyncClient(base_url=self.running.url, timeout=30) as http:
            response = await http.post(
                "/graphql",
                data={
                    "operations": json.dumps({"query": query, "variables": variables}),
                    "map": json.dumps({"0": ["variables.input.document"]}),
                },
                files={"0": (f"{invoice['invoiceNumber']}.pdf", scan, "application/pdf")},
                headers={"authorization": f"Bearer {self.supplier.token}", "x-escarcelle-client": "tests"},
            )
        recorded: dict[str, Any] = response.json()["data"]["recordSupplierInvoice"]
        return recorded

    async def wants_post(self, member: str) -> None:
        """The member chooses, and has an address for it."""
        address = {"street": "12 rue *des* #Acacias", "postcode": "44000", "town": "Nantes", "country": "FR"}
        changes = {"statementBy": "POST", "postalAddress": address}
        holder = self.world.holders[member].global_id
        changed = await self.agency.do("updateHolder", "... on Holder { statementBy }", id=holder, **changes)
        assert changed["statementBy"] == "POST"

    async def ask(self, month: str = "2026-11-30", by: Client | None = None) -> dict[str, Any]:
        """The job, or the refusal."""
        return await (by or self.agency).do("issueMemberStatements", f"... on Job {{ {JOB} }}", month=month)

    async def issue(self, month: str = "2026-11-30", *, problems: int = 0) -> dict[str, Any]:
        """The job, done but for so many members."""
        state = await self.ask(month)
        assert state["kind"] == "ISSUE_MEMBER_STATEMENTS", state
        async with asyncio.timeout(60), self.agency.subscribe(WATCH, id=state["id"]) as events:
            async for event in events:
                state = event["job"]
        assert (state["status"], len(state["problems"])) == ("DONE", problems)
        return state

    async def statements(self, by: Client | None = None) -> list[dict[str, Any]]:
        """As one of them sees them, newest first."""
        nodes: list[dict[str, Any]] = (await (by or self.agency).ask(LIST))["memberStatements"]["nodes"]
        return nodes

    async def get(self, link: str) -> httpx.Response:
        """As a browser without any cookie."""
        async with httpx.AsyncClient(base_url=self.running.url, timeout=30) as http:
            return await http.get(urlsplit(link).path)

    async def mailed(self, about: str) -> EmailMessage:
        """The mail to Paul as it was sent."""
        mail = await self.running.mail(f"{self.world.slug}-paul@example.com", about)
        async with httpx.AsyncClient(timeout=30) as http:
            raw = await http.get(f"{self.running.mail_page_url}/mails/{mail['key']}.eml")
        message = message_from_bytes(raw.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    async def debt(self, member: str) -> int:
        """What the ledger says the member owes, in cents."""
        return -await self.world.total(self.world.holders[member].id, "DEBT")


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """Everyone, signed in, on 10 November 2026."""
    await world.as_owner("UPDATE issuers SET name = 'Fédération de l''Ouest' WHERE tenant = $1", world.tenant)
    await world.voucher_kind()
    await world.merchant("MO", "Matériaux *de* l’Ouest #1", {"C1": "Comptoir de Nantes"})
    await world.user("agence", Role.ISSUER_AGENT)
    await world.user("mo", Role.MERCHANT_MANAGER, merchant="MO")
    await world.member(PAUL, "Martin", email=f"{world.slug}-paul@example.com")
    await world.member(ANNA, "Durand", email=f"{world.slug}-anna@example.com")
    await world.freeze(NOVEMBER)
    async with AsyncExitStack() as stack:

        async def client(login: str) -> Client:
            return await stack.enter_async_context(await running.client(world, login))

        for reference in (PAUL, ANNA):
            await world.user(reference, Role.HOLDER, holder=reference)
        agency = await client("agence")
        members = {reference: await client(reference) for reference in (PAUL, ANNA)}
        everyone = Cast(world, running, agency, await client("mo"), members, count(1))
        await everyone.wants_post(ANNA)
        yield everyone


# ── by mail, by post ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V22_by_mail_with_the_statement_and_its_invoices_as_pages(cast: Cast) -> None:
    await cast.bill(PAUL, "1300", "1234,56")
    await cast.bill(PAUL, "20")
    job = await cast.issue()
    assert (job["done"], job["total"], job["downloadUrl"]) == (1, 1, None), "nothing to print"
    mail = await cast.mailed("novembre 2026")
    assert mail["Subject"].endswith("Votre relevé de bons – novembre 2026")
    (attached,) = mail.iter_attachments()
    assert (attached.get_content_type(), attached.get_filename()) == ("application/pdf", "releve-2026-11.pdf")
    said = texts(attached.get_content())
    for words in (
        "1\u202f254,56\u00a0€", "1\u202f234,56\u00a0€", "20,00\u00a0€", "Martin", "Fédération de l'Ouest",
        "Matériaux *de* l’Ouest #1", "F-1", "F-2", PAUL, "Relevé de vos bons – novembre 2026",
    ):  # fmt: skip
        assert squeezed(words) in said, words
    assert await cast.debt(PAUL) == 1254_56


async def test_V22_the_scanned_invoices_come_with_the_statement_as_far_as_a_mail_holds_them(cast: Cast) -> None:
    small, large = b"%PDF-1.7\n" + bytes(range(256)) * 2_000, b"%PDF-1.7\n" + bytes(9_000_000)
    for scan in (small, large, large, None):
        assert (await cast.bill(PAUL, "10", scan=scan))["id"]
    await cast.issue()
    mail = await cast.mailed("novembre 2026")
    attached = list(mail.iter_attachments())
    assert [each.get_filename() for each in attached] == ["releve-2026-11.pdf", "F-1.pdf", "F-2.pdf"]
    assert [each.get_content() for each in attached[1:]] == [small, large]
    body = mail.get_body(("plain",))
    assert body is not None
    assert "1 facture(s) numérisée(s) trop volumineuse(s)" in body.get_content()


async def test_V22_by_post_in_one_print_batch_that_staff_downloads(cast: Cast) -> None:
    await cast.bill(ANNA, "50")
    job = await cast.issue("2026-11-01")
    assert (job["done"], job["total"]) == (1, 1)
    answer = await cast.get(job["downloadUrl"])
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == 'attachment; filename="releves-2026-11-2026-11-10.pdf"'
    said = texts(answer.content)
    for words in ("Durand", "12 rue *des* #Acacias", "44000 Nantes", "50,00\u00a0€"):
        assert squeezed(words) in said, words
    assert pages(answer.content) == 1
    assert await cast.running.mails(f"{cast.world.slug}-anna@example.com") == []


async def test_V22_who_has_left_no_address_at_all_is_named_and_told_later(cast: Cast) -> None:
    nobody = await cast.world.member("44000000A", "Arnaud", email=None)
    await cast.world.user("44000000A", Role.HOLDER, holder="44000000A")
    async with await cast.running.client(cast.world, "44000000A") as cast.members["44000000A"]:
        await cast.bill("44000000A", "30")
    said = "Adhérent 44000000A : ni adresse e-mail ni adresse postale."
    for billed, done in (((), 0), ((PAUL, ANNA), 2)):
        for member in billed:
            await cast.bill(member, "20")
        job = await cast.issue(problems=1)
        assert (job["done"], job["total"], job["downloadUrl"] is not None) == (done, done, bool(billed))
        assert job["problems"][0]["message"].startswith(said) and "Arnaud" not in str(job)
    assert squeezed("Arnaud") not in texts((await cast.get(job["downloadUrl"])).content)
    assert {each["total"]["amount"] for each in await cast.statements()} == {"20.00"}
    await cast.world.as_owner(
        "UPDATE holders SET street = '1 quai', postcode = '44000', town = 'Nantes', country = 'FR' WHERE id = $1",
        nobody.id,
    )
    assert squeezed("Arnaud") in texts((await cast.get((await cast.issue())["downloadUrl"])).content)


async def test_V22_a_mail_for_which_there_is_no_address_any_more_is_given_up_and_known(cast: Cast) -> None:
    await cast.world.as_owner(
        "CREATE FUNCTION forgotten() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE holders SET email = NULL WHERE id = new.holder_id; RETURN new; END'"
    )
    await cast.world.as_owner(
        "CREATE TRIGGER forgotten AFTER INSERT ON member_statements FOR EACH ROW EXECUTE FUNCTION forgotten()"
    )
    try:
        await cast.bill(PAUL, "20")
        await cast.issue()
    finally:
        await cast.world.as_owner("DROP FUNCTION forgotten CASCADE")
    asked = "SELECT reason FROM dead_letters WHERE tenant = $1"
    async with asyncio.timeout(60):
        while not (given_up := await cast.world.as_owner(asked, cast.world.tenant)):  # noqa: ASYNC110 — a worker does it
            await asyncio.sleep(0.05)
    assert [row["reason"] for row in given_up] == ["no mail address any more"]


async def test_V22_by_post_the_member_finds_the_scanned_invoices_beside_the_lines(cast: Cast) -> None:
    scan = b"%PDF-1.7\n" + bytes(range(256))
    await cast.bill(ANNA, "50", scan=scan)
    await cast.bill(ANNA, "20")
    await cast.issue()
    asked = "{ memberStatements { nodes { lines { documentUrl } } } }"
    (statement,) = (await cast.members[ANNA].ask(asked))["memberStatements"]["nodes"]
    scanned, without = [line["documentUrl"] for line in statement["lines"]]
    assert without is None
    assert (await cast.get(scanned)).content == scan


async def test_V22_the_print_batch_of_a_month_is_printed_again_when_its_file_is_gone(cast: Cast) -> None:
    await cast.bill(ANNA, "50")
    first = await cast.issue()
    await cast.world.freeze(NOVEMBER + timedelta(days=1))
    gone = await cast.get(first["downloadUrl"])
    assert gone.status_code == 410
    assert "demandez de nouveau les relevés de ce mois" in gone.text
    await cast.wants_post(PAUL)
    await cast.bill(PAUL, "30")
    again = await cast.issue()
    assert (again["done"], again["total"]) == (1, 1), "nobody is told twice"
    printed = await cast.get(again["downloadUrl"])
    assert pages(printed.content) == 2
    assert squeezed("Durand") in texts(printed.content) and squeezed("Martin") in texts(printed.content)
    assert pages((await cast.get((await cast.issue())["downloadUrl"])).content) == 2
    assert (await cast.issue("2026-10-01"))["downloadUrl"] is None, "of that month alone"


async def test_V22_a_member_reads_its_own_and_the_link_to_its_pages_ends(cast: Cast) -> None:
    await cast.bill(PAUL, "20")
    await cast.bill(ANNA, "30")
    await cast.issue()
    assert {each["total"]["amount"] for each in await cast.statements()} == {"20.00", "30.00"}
    (mine,) = await cast.statements(cast.members[ANNA])
    assert (mine["period"], mine["total"]) == ("2026-11", {"amount": "30.00"})
    (line,) = mine["lines"]
    assert (line["supplierInvoiceNumber"], line["amount"]["amount"]) == ("F-2", "30.00")
    assert line["voucher"]["presentation"] == {"secretCode": None}
    with pytest.raises(Unexpected, match="FORBIDDEN"):
        await cast.supplier.ask(LIST)
    assert (await cast.ask(by=cast.members[PAUL]))["code"] == "FORBIDDEN"

    pages_of_it = await cast.get(mine["pdfUrl"])
    assert pages_of_it.headers["content-type"] == "application/pdf"
    assert squeezed("30,00\u00a0€") in texts(pages_of_it.content)
    token, now = urlsplit(mine["pdfUrl"]).path.split("/")[-1], datetime.now(UTC)
    tenant, statement, until = read_expiring_token(cast.world.secret_keys, vouchers.DOWNLOAD, token)
    assert (tenant, statement) == read_global_id(mine["id"])[1:]
    assert timedelta(hours=23) < until - now <= vouchers.LINK_LASTS

    def link(key: str, purpose: str, end: datetime) -> str:
        return f"/statements/{expiring_token(key, purpose, tenant, statement, end)}"

    key = cast.world.secret_keys[0]
    assert (await cast.get(link(key, vouchers.DOWNLOAD, until))).status_code == 200
    assert (await cast.get(link(key[::-1], vouchers.DOWNLOAD, until))).status_code == 404
    assert (await cast.get(link(key, documents.DOWNLOAD, until))).status_code == 404
    signed = bytearray(base64.urlsafe_b64decode(token))
    # The last byte before the signature's sixteen belongs to the end.
    signed[-17] ^= 1
    changed = base64.urlsafe_b64encode(signed).decode()
    assert (await cast.get(f"/statements/{changed}")).status_code == 404, "the end is signed too"
    assert (await cast.get(link(key, vouchers.DOWNLOAD, now - timedelta(seconds=1)))).status_code == 410
    await cast.world.as_owner("UPDATE holders SET member_since = NULL WHERE id = $1", cast.world.holders[ANNA].id)
    try:
        with pytest.raises(Unexpected, match="FORBIDDEN"):
            await cast.statements(cast.members[ANNA])
    finally:
        await cast.world.as_owner(
            "UPDATE holders SET member_since = '2020-01-01' WHERE id = $1", cast.world.holders[ANNA].id
        )


async def test_V22_who_reads_English_is_told_in_English(cast: Cast) -> None:
    await cast.world.as_owner("UPDATE users SET locale = 'en' WHERE id = $1", cast.world.users[PAUL].user_id)
    await cast.bill(PAUL, "1300", "1234,56")
    await cast.issue()
    mail = await cast.mailed("November 2026")
    (attached,) = mail.iter_attachments()
    assert attached.get_filename() == "statement-2026-11.pdf"
    assert squeezed("€1,234.56") in texts(attached.get_content())
    assert squeezed("Total you owe") in texts(attached.get_content())


# ── what is told, and when ────────────────────────────────────────────────────────────────────────────────────────────


async def test_V22_issued_twice_nothing_is_told_twice_and_what_comes_later_is_told_next(cast: Cast) -> None:
    await cast.bill(PAUL, "20")
    await cast.issue()
    again = await cast.issue()
    assert (again["done"], again["total"], again["downloadUrl"]) == (0, 0, None)
    assert len(await cast.statements()) == 1

    last_minute = datetime(2026, 11, 30, 23, 59, tzinfo=PARIS).astimezone(UTC)
    await cast.world.freeze(last_minute)
    await cast.bill(PAUL, "30")
    await cast.world.freeze(last_minute + timedelta(minutes=1))
    await cast.bill(PAUL, "40")
    await cast.issue("2026-11-15")
    await cast.issue("2026-12-31")
    told = [(each["period"], each["total"]["amount"]) for each in await cast.statements()]
    assert told == [("2026-12", "40.00"), ("2026-11", "30.00"), ("2026-11", "20.00")]
    assert await cast.debt(PAUL) == 90_00
    async with cast.world.unchanged():
        for month in ("2027-01-01", "1899-12-31"):
            refused = await cast.ask(month)
            assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "month"])


async def test_V22_an_excess_is_told_once_it_is_decided(cast: Cast) -> None:
    paid, refused, waiting = [await cast.bill(PAUL, "20", "25,50") for _ in range(3)]
    assert (await cast.issue())["total"] == 0, "all wait for a decision"
    for invoice, decision in ((paid, "PAID"), (refused, "REFUSED")):
        await cast.agency.do("decideExcess", INVOICE, supplierInvoiceId=invoice["id"], decision=decision)
    await cast.issue()
    (statement,) = await cast.statements()
    assert [line["amount"]["amount"] for line in statement["lines"]] == ["25.50", "20.00"]
    assert statement["total"]["amount"] == "45.50"
    assert await cast.debt(PAUL) == 65_50, "with what the third one was guaranteed"
    await cast.world.freeze(datetime(2026, 12, 1, 12, tzinfo=UTC))
    await cast.agency.do("decideExcess", INVOICE, supplierInvoiceId=waiting["id"], decision="PAID")
    assert (await cast.issue("2026-11-01"))["total"] == 0, "it was billed in December"
    await cast.issue("2026-12-01")
    assert [each["total"]["amount"] for each in await cast.statements()] == ["25.50", "45.50"]
    assert await cast.debt(PAUL) == 71_00


async def test_V22_a_job_begun_anew_issues_the_rest_and_prints_all(cast: Cast) -> None:
    """As a worker that breaks off after the first statement leaves it to another."""
    await cast.wants_post(PAUL)
    for member in (PAUL, ANNA):
        await cast.bill(member, "20")
    world, database = cast.world, cast.world.database
    actor = world.users["agence"]
    # Nobody relays it: its row is taken in hand for longer than the test lasts.
    await world.as_owner(
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN new.claim_at := now() + interval ''1 hour''; RETURN new; END'"
    )
    await world.as_owner(
        "CREATE TRIGGER later BEFORE INSERT ON outbox FOR EACH ROW WHEN (new.topic = 'job') EXECUTE FUNCTION later()"
    )
    try:
        job = await perform(database, actor, vouchers.issue_member_statements, month=NOVEMBER.date(), locale=Locale.FR)
    finally:
        await world.as_owner("DROP FUNCTION later CASCADE")
    assert isinstance(job, jobs.Job)
    await perform(database, world.system, jobs.start, job.id)
    first = world.holders[PAUL].id
    issued = await perform(database, world.system, vouchers.issue_statement, job.id, 1, new_id(), first)
    assert isinstance(issued, vouchers.MemberStatement)
    assert await perform(database, world.system, vouchers.issue_statement, job.id, 1, new_id(), first) is None

    await world.as_owner("UPDATE outbox SET claim_at = now() WHERE payload ->> 'id' = $1", str(job.id))
    async with asyncio.timeout(60), cast.agency.subscribe(WATCH, id=job.global_id) as events:
        async for event in events:
            state = event["job"]
    assert (state["status"], state["done"], state["total"]) == ("DONE", 2, 2)
    printed = texts((await cast.get(state["downloadUrl"])).content)
    assert squeezed("Martin") in printed and squeezed("Durand") in printed
    assert len(await cast.statements()) == 2
    with pytest.raises(jobs.Overtaken):
        await perform(database, world.system, vouchers.issue_statement, job.id, 1, new_id(), first)


async def test_V22_two_jobs_at_once_tell_each_member_once(cast: Cast) -> None:
    for _ in range(3):
        await cast.bill(PAUL, "20")
        await cast.bill(ANNA, "30")
    both = await asyncio.gather(cast.issue(), cast.issue())
    assert sum(job["done"] for job in both) == 2
    assert {each["total"]["amount"] for each in await cast.statements()} == {"60.00", "90.00"}


# ── the pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_people_typed_is_never_markup() -> None:
    hostile = '#panic("x") *b* _i_ $x$ @ref <label> `raw` // no /* no */ \\ " ] } ${x} https://x.example'
    words: dict[str, Any] = dict.fromkeys(("issuer", "test", "title", "intro", "question", "page"), hostile)
    words |= {"language": "fr", "address": [hostile], "facts": [[hostile, hostile]], "columns": [hostile] * 5}
    words |= {"rows": [[hostile] * 5], "total": [hostile, hostile]}
    made = pdf.rendered("member_statement", [words])
    assert b"/URI" not in made
    assert squeezed("*b* _i_ $x$ @ref <label>") in texts(made)


@pytest.mark.parametrize(
    ("template", "size", "row", "sums"),
    [
        ("member_statement", 10, ["10/11/2026", "W" * 60, "W" * 40, "W2026.XX.442.00000123", "1,00"], 1),
        ("reimbursement_statement", 9, ["10/11/2026 12:00", "Paiement", "W" * 40, "W" * 20, "1,00", "0,05", "0,95"], 3),
    ],
)
def test_V22_long_words_stay_in_their_columns(template: str, size: int, row: list[str], sums: int) -> None:
    words: dict[str, Any] = dict.fromkeys(("issuer", "test", "title", "intro", "question", "page"), "x")
    words |= {"language": "fr", "address": ["x"], "facts": [["x", "W" * 254]], "total": ["x"] * (sums + 1)}
    words |= {"columns": [f"Col{n}" for n in range(len(row))], "rows": [row]}
    drawn = lines(pdf.rendered(template, [words]))
    starts = [at for at, said in drawn if said.startswith("Col")]
    assert len(starts) == len(row) and starts == sorted(set(starts)), "no heading stands on another"
    edges, width = [*starts[1:], 595 - 18 * 72 / 25.4], 0.97 * size
    for at, said in drawn:
        if set(said) == {"W"}:
            end = min(edge for edge in edges if edge > at) if at in starts else edges[-1]
            assert at + len(said) * width < end, "a line of capitals ends before the next column, or the margin"
    capitals = sum(len(word) for word in row if set(word) == {"W"})
    assert sum(len(said) for _, said in drawn if set(said) == {"W"}) == 254 + capitals
