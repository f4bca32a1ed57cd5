"""Reimbursements (P30): from the customers' payments to the bank's answers."""

import asyncio
import os
import random
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, fromstring

import httpx
import pytest
from openpyxl import load_workbook
from sepaxml.validation import try_valid_xml

from domain import money
from domain.access import Role
from domain.calendar import PARIS
from domain.codes import expiring_token, read_global_id
from domain.errors import Refused
from domain.parties import Address
from domain.reimbursements import DOWNLOAD, ReimbursedFlow
from escarcelle import database as escarcelle_database
from escarcelle.clients import Client, Unexpected
from tests.flows.cast import Cast as Payments
from tests.flows.pages import squeezed, texts
from tests.matrix.reimbursements import followed
from tests.world import PASSWORD, Running, World

pytestmark = pytest.mark.anyio

JOB = "id kind status done total downloadUrl problems { message }"
WATCH = f"subscription ($id: ID!) {{ job(id: $id) {{ {JOB} }} }}"
REIMBURSEMENT = """... on Reimbursement {
  id reference status statusLabel periodStart periodEnd gross { amount } commission { amount } net { amount } dueOn
  statementUrl statementWorkbookUrl
  sentAt settledAt rejectionReason rejectionCode merchant { code2: code name bankAccount { ibanLast4 held } }
}"""
LIST = f"""query ($status: ReimbursementStatus) {{
  reimbursements(status: $status) {{ totalCount nodes {{ {REIMBURSEMENT}
    lines {{ totalCount nodes {{ kind amount {{ amount }} }} }}
  }} }}
}}"""
FILES = "{ transferFiles { totalCount nodes { id reference transfers total { amount } downloadUrl } } }"
MERCHANT = "... on Merchant { name bankAccount { ibanLast4 bic accountHolder held changedAt } }"
MONDAY = datetime(2026, 11, 2, 10, tzinfo=PARIS).astimezone(UTC)
CANOE_IBAN, INN_IBAN, AGENCY_IBAN = (
    "FR76 3000 6000 0112 3456 7890 189",
    "DE89370400440532013000",
    "FR1420041010050500013M02606",
)
PAIN = "{urn:iso:std:iso:20022:tech:xsd:pain.001.001.09}"


@dataclass
class Cast:
    """The cast of payment requests, with what the agency and the merchants say about reimbursements."""

    payments: Payments
    world: World
    running: Running

    @property
    def agency(self) -> Client:
        """The issuer's agent."""
        return self.payments.agent

    @property
    def signatory(self) -> Client:
        """Of the canoe club."""
        return self.payments.signatory

    async def collect(self, amount: str, basket: str) -> None:
        """Inès pays the canoe club, at once."""
        request = await self.payments.ask(amount, basketNumber=basket)
        paid = await self.payments.pay(request)
        assert paid["status"] == "VALIDATED", paid

    async def account(self, by: Client | None = None, **given: Any) -> dict[str, Any]:
        """The merchant, or the refusal."""
        given = {"currentPassword": PASSWORD, "iban": CANOE_IBAN, "accountHolder": "Canoë Kayak Club"} | given
        return await (by or self.signatory).do("updateBankAccount", MERCHANT, **given)

    async def ask(self, through: date | str = "2026-11-02", by: Client | None = None, **given: Any) -> dict[str, Any]:
        """The job, or the refusal."""
        return await (by or self.agency).do(
            "runReimbursements", f"... on Job {{ {JOB} }}", through=str(through), **given
        )

    async def run(self, through: date | str = "2026-11-02", **given: Any) -> dict[str, Any]:
        """The job, done."""
        state = await self.ask(through, **given)
        assert state["kind"] == "RUN_REIMBURSEMENTS", state
        async with asyncio.timeout(60), self.agency.subscribe(WATCH, id=state["id"]) as events:
            async for event in events:
                state = event["job"]
        assert (state["status"], state["problems"]) == ("DONE", [])
        return state

    async def all(self, by: Client | None = None, status: str | None = None) -> list[dict[str, Any]]:
        """As one of them sees them, newest first."""
        nodes: list[dict[str, Any]] = (await (by or self.agency).ask(LIST, status=status))["reimbursements"]["nodes"]
        return nodes

    async def settle(self, reimbursement: dict[str, Any], by: Client | None = None, **given: Any) -> dict[str, Any]:
        """What the bank says, by hand."""
        said = {"id": reimbursement["id"], "bankReference": "BANK-1"} | given
        return await (by or self.agency).do("settleReimbursement", REIMBURSEMENT, **said)

    async def answer(self, content: bytes, becomes: str = "DONE") -> dict[str, Any]:
        """The bank's file is handed in; returns the job once it is over."""
        state = await self.agency.do("importBankAnswer", f"... on Job {{ {JOB} }}", file=content)
        async with asyncio.timeout(60), self.agency.subscribe(WATCH, id=state["id"]) as events:
            async for event in events:
                state = event["job"]
        assert state["status"] == becomes, state
        return state

    def file(self, number: int = 1) -> str:
        """The reference of the issuer's file of that number in 2026."""
        return f"ESCARCELLE-{self.world.tenant}-2026-{number:06}"

    def report(self, *transactions: str, group: str = "PART", file: str | None = None) -> bytes:
        """The bank's pain.002 about a file, the first when none is said; a group that is rejected is of a wrong
        format."""
        why = "<StsRsnInf><Rsn><Cd>FF01</Cd></Rsn></StsRsnInf>" if group == "RJCT" else ""
        about = file or self.file()
        return f"""<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>
<GrpHdr><MsgId>B1</MsgId><CreDtTm>2026-11-03T08:00:00Z</CreDtTm></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>{about}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>
<GrpSts>{group}</GrpSts>{why}</OrgnlGrpInfAndSts>
<OrgnlPmtInfAndSts><OrgnlPmtInfId>{about}-1</OrgnlPmtInfId>{"".join(transactions)}</OrgnlPmtInfAndSts>
</CstmrPmtStsRpt></Document>""".encode()

    async def get(self, link: str) -> httpx.Response:
        """As a browser without any cookie."""
        parts = urlsplit(link)
        async with httpx.AsyncClient(base_url=self.running.url, timeout=30) as http:
            return await http.get(parts.path, params=parts.query)

    async def totals(self, code: str = "708900") -> tuple[int, int]:
        """What is owed to a merchant, and what is on its way to it, in cents."""
        merchant = self.world.merchants[code].id
        return await self.world.total(merchant, "MERCHANT"), await self.world.total(merchant, "TRANSIT")

    async def kept(self) -> tuple[int, int]:
        """What the issuer's bank has paid, and what the issuer has kept, in cents."""
        issuer = (await self.world.as_owner("SELECT id FROM issuers WHERE tenant = $1", self.world.tenant))[0][0]
        return await self.world.total(issuer, "BANK"), await self.world.total(issuer, "COMMISSION")


@pytest.fixture
async def cast(cast: Payments, world: World, running: Running) -> Cast:
    """Everyone on Monday, 2 November 2026."""
    return await begun(cast, world, running)


async def begun(cast: Payments, world: World, running: Running) -> Cast:
    """Everyone on Monday, 2 November 2026; the agency keeps 2.5 % of payment requests, as since 2019."""
    settings, keeps = world.servers.settings, ReimbursedFlow.PAYMENT_REQUESTS
    for since, percent in ((date(2010, 1, 1), "1"), (date(2019, 1, 1), "2.5")):
        await escarcelle_database.put_terms(settings, world.slug, keeps, since, percent, 5)
    address = Address("1 place de l’Église", "45000", "Orléans")
    name = "Agence du Temps Libre"
    await escarcelle_database.put_paying_account(settings, world.slug, AGENCY_IBAN, None, name, address)
    await world.freeze(MONDAY)
    return Cast(cast, world, running)


async def test_P30_what_was_validated_is_paid_less_the_commission_of_its_day(cast: Cast) -> None:
    assert (await cast.account())["bankAccount"] == {
        "ibanLast4": "0189", "bic": "AGRIFRPPXXX", "accountHolder": "Canoë Kayak Club", "held": False,
        "changedAt": "2026-11-02T09:00:00+00:00",
    }  # fmt: skip
    await cast.collect("40,00", "REF1")
    await cast.collect("20,02", "REF2")
    assert await cast.totals() == (60_02, 0)

    job = await cast.run()

    assert (job["done"], job["total"]) == (1, 1)
    (made,) = await cast.all()
    assert (made["reference"], made["status"], made["statusLabel"]) == (
        "R2026-00000001", "SENT", "Transmis à la banque",
    )  # fmt: skip
    assert (made["periodStart"], made["periodEnd"]) == ("2026-11-02", "2026-11-02")
    assert made["dueOn"] == "2026-11-09", "five TARGET business days after Monday"
    # 2.5 % of 40.00 is 1.00, of 20.02 it is 0.5005, so 0.50.
    assert [made[name]["amount"] for name in ("gross", "commission", "net")] == ["60.02", "1.50", "58.52"]
    assert [(line["kind"], line["amount"]["amount"]) for line in made["lines"]["nodes"]] == [
        ("preq.pay", "20.02"), ("preq.pay", "40.00"),
    ]  # fmt: skip
    assert await cast.totals() == (0, 60_02)

    (settled,) = [await cast.settle(made)]
    assert (settled["status"], settled["settledAt"]) == ("SETTLED", "2026-11-02T09:00:00+00:00")
    assert (await cast.totals(), await cast.kept()) == ((0, 0), (58_52, 1_50))


async def test_P30_the_file_for_the_bank_is_valid_and_always_the_same(cast: Cast) -> None:
    address = {"street": "3 quai d’Orléans", "postcode": "45000", "town": "Saint-Jean-le-Blanc", "country": "FR"}
    await cast.account(accountHolder="Canoë & Kayak « Club »", postalAddress=address)
    await cast.collect("40,00", "REF1")
    job = await cast.run()
    answer = await cast.get(job["downloadUrl"])
    assert answer.headers["content-type"] == "application/xml"
    assert answer.headers["content-disposition"] == 'attachment; filename="TEST-virements-2026-11-02.xml"'

    (listed,) = (await cast.agency.ask(FILES))["transferFiles"]["nodes"]
    assert (listed["reference"], listed["transfers"], listed["total"]) == (
        cast.file(), 1, {"amount": "39.00"},
    )  # fmt: skip
    await cast.account(iban=INN_IBAN)
    again = await cast.get(listed["downloadUrl"])
    assert again.content == answer.content, "what was ordered stays what it was"
    assert again.headers["content-disposition"] == f'attachment; filename="TEST-{cast.file()}.xml"'

    try_valid_xml(answer.content, "pain.001.001.09")
    paper = fromstring(answer.content)
    for path, text in (
        ("GrpHdr/MsgId", cast.file()),
        ("GrpHdr/CreDtTm", "2026-11-02T09:00:00Z"),
        ("GrpHdr/NbOfTxs", "1"),
        ("GrpHdr/CtrlSum", "39.00"),
        ("GrpHdr/Authstn/Prtry", "TEST"),
        ("PmtInf/PmtInfId", f"{cast.file()}-1"),
        ("PmtInf/ReqdExctnDt/Dt", "2026-11-09"),
        ("PmtInf/Dbtr/Nm", "Agence du Temps Libre"),
        ("PmtInf/Dbtr/PstlAdr/StrtNm", "1 place de l'Eglise"),
        ("PmtInf/Dbtr/PstlAdr/TwnNm", "Orleans"),
        ("PmtInf/DbtrAcct/Id/IBAN", AGENCY_IBAN),
        ("CdtTrfTxInf/PmtId/EndToEndId", "R2026-00000001"),
        ("CdtTrfTxInf/Amt/InstdAmt", "39.00"),
        ("CdtTrfTxInf/CdtrAgt/FinInstnId/BICFI", "AGRIFRPPXXX"),
        ("CdtTrfTxInf/Cdtr/Nm", "Canoe Kayak Club"),
        ("CdtTrfTxInf/Cdtr/PstlAdr/StrtNm", "3 quai d'Orleans"),
        ("CdtTrfTxInf/Cdtr/PstlAdr/PstCd", "45000"),
        ("CdtTrfTxInf/Cdtr/PstlAdr/TwnNm", "Saint-Jean-le-Blanc"),
        ("CdtTrfTxInf/Cdtr/PstlAdr/Ctry", "FR"),
        ("CdtTrfTxInf/CdtrAcct/Id/IBAN", CANOE_IBAN.replace(" ", "")),
        ("CdtTrfTxInf/RmtInf/Ustrd", "TEST Agence du Temps Libre R2026-00000001"),
    ):
        assert said(paper, path) == text, path
    assert paper.find(f".//{PAIN}AdrLine") is None, "banks refuse unstructured addresses"


async def test_X5_only_a_sandboxs_file_for_the_bank_says_that_it_is_a_test(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    (listed,) = (await cast.agency.ask(FILES))["transferFiles"]["nodes"]
    of_test = await cast.get(listed["downloadUrl"])
    real = "UPDATE issuers SET sandbox = false, frozen_at = NULL, clock_offset = '0' WHERE tenant = $1"
    await cast.world.as_owner(real, cast.world.tenant)
    of_money = await cast.get(listed["downloadUrl"])
    await cast.world.as_owner("UPDATE issuers SET sandbox = true WHERE tenant = $1", cast.world.tenant)
    assert of_test.content.count(b"TEST") == 2 and b"TEST" not in of_money.content
    assert of_money.headers["content-disposition"] == f'attachment; filename="{cast.file()}.xml"'
    try_valid_xml(of_money.content, "pain.001.001.09")


async def test_a_link_to_a_file_for_the_bank_ends_and_is_signed(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    (listed,) = (await cast.agency.ask(FILES))["transferFiles"]["nodes"]
    _, _, file_id = read_global_id(listed["id"])
    token = expiring_token(cast.world.secret_keys[0], DOWNLOAD, cast.world.tenant, file_id, datetime.now(UTC))
    assert (await cast.get(f"/transfers/{token}")).status_code == 410
    link = listed["downloadUrl"]
    assert (await cast.get(link[:-1] + ("A" if link[-1] != "A" else "B"))).status_code == 404


async def test_P30_the_statement_says_each_operation_as_pages_and_as_a_workbook(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "*REF1* #let")
    await cast.collect("20,02", "=REF2")
    await cast.run()
    (made,) = await cast.all(cast.signatory)
    pages = await cast.get(made["statementUrl"])
    assert (pages.headers["content-type"], pages.headers["content-disposition"]) == (
        "application/pdf", 'attachment; filename="TEST-remboursement-R2026-00000001.pdf"',
    )  # fmt: skip
    words = texts(pages.content)
    for each in (
        "Bordereau de remboursement R2026-00000001", "Canoë Kayak Club Orléans (708900)", "*REF1* #let", "=REF2",
        "du 02/11/2026 au 02/11/2026", "09/11/2026", "60,02\u00a0€", "1,50\u00a0€", "58,52\u00a0€", "…0189",
        "Transmis à la banque le 02/11/2026", "P001",
    ):  # fmt: skip
        assert squeezed(each) in words, each
    answer = await cast.get(made["statementWorkbookUrl"])
    assert answer.headers["content-disposition"] == 'attachment; filename="TEST-remboursement-R2026-00000001.xlsx"'
    sheet = load_workbook(BytesIO(answer.content)).active
    assert sheet is not None and sheet.title == "TEST Remboursement"
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows[0] == ["Date", "Opération", "Référence", "Point d’accueil", "Montant", "Commission", "Net"]
    assert rows[1] == [datetime(2026, 11, 2, 10), "Paiement", "*REF1* #let", "P001", 40, 1, 39]  # noqa: DTZ001
    assert rows[2][2:] == ["=REF2", "P001", 20.02, 0.5, 19.52]
    english = await cast.get(made["statementUrl"].replace("language=fr", "language=en"))
    assert squeezed("Reimbursement statement R2026-00000001") in texts(english.content)


async def test_P30_each_line_is_reimbursed_once_however_many_runs_there_are(cast: Cast) -> None:
    await cast.account()
    await cast.agency.do(
        "creditHolder", "... on Holder { id }", holderId=cast.world.holders["ines"].global_id, amount="900", reason="x"
    )
    for n in range(8):
        await cast.collect("20,00" if n % 2 else "20,50", f"REF{n}")
    assert await cast.totals() == (162_00, 0)
    await asyncio.gather(*(cast.run() for _ in range(3)))
    assert [each["gross"]["amount"] for each in await cast.all()] == ["162.00"]
    assert (await cast.agency.ask(FILES))["transferFiles"]["totalCount"] == 1
    job = await cast.run()
    assert (job["done"], job["downloadUrl"]) == (0, None), "nothing is left"
    await cast.collect("21,00", "REF8")
    await cast.run()
    assert [each["gross"]["amount"] for each in await cast.all()] == ["21.00", "162.00"]
    key = "the same key"
    first = await cast.ask(idempotencyKey=key)
    assert (await cast.ask(idempotencyKey=key))["id"] == first["id"]
    assert (await cast.ask("2026-11-01", idempotencyKey=key))["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_without_bank_details_a_reimbursement_waits_for_them(cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    assert (await cast.run())["downloadUrl"] is None
    (waiting,) = await cast.all()
    assert (waiting["status"], waiting["statusLabel"], waiting["sentAt"]) == ("PENDING", "À transmettre", None)
    assert (await cast.settle(waiting))["code"] == "WRONG_STATE"
    await cast.account()
    assert (await cast.run())["downloadUrl"] is not None
    assert [each["status"] for each in await cast.all()] == ["SENT"]


async def test_what_has_waited_is_paid_on_a_day_to_come(cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    await cast.run()
    assert [each["dueOn"] for each in await cast.all()] == ["2026-11-09"]
    # Friday, two weeks after: the bank would refuse a day that is over.
    await cast.world.freeze(datetime(2026, 11, 20, 9, tzinfo=PARIS).astimezone(UTC))
    await cast.account()
    job = await cast.run()
    assert [each["dueOn"] for each in await cast.all()] == ["2026-11-23"]
    paper = fromstring((await cast.get(job["downloadUrl"])).content)
    assert said(paper, "PmtInf/ReqdExctnDt/Dt") == "2026-11-23"


async def test_another_bank_account_asks_for_the_password_is_told_and_passed_over_by_one_run(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    async with cast.world.unchanged():
        refused = await cast.account(iban=INN_IBAN, currentPassword="un autre mot de passe")
        assert (refused["code"], refused["problems"][0]["path"]) == ("BAD_CREDENTIALS", ["input", "currentPassword"])
    changed = await cast.account(iban=INN_IBAN)
    assert changed["bankAccount"]["held"] is True
    mail = await cast.running.mail(f"signataire@{cast.world.slug}.example", "se termine par 3000")
    assert "se termine par 0189" in mail["text"]
    assert CANOE_IBAN.replace(" ", "") not in mail["text"]

    for _ in range(2):
        assert (await cast.run())["downloadUrl"] is None
        assert [each["status"] for each in await cast.all()] == ["PENDING"]
        assert (await cast.all())[0]["merchant"]["bankAccount"] == {"ibanLast4": "3000", "held": True}
    await cast.world.freeze(MONDAY + timedelta(days=1))
    assert (await cast.run())["downloadUrl"] is None, "the first run of another day"
    assert (await cast.all())[0]["merchant"]["bankAccount"] == {"ibanLast4": "3000", "held": False}
    await cast.run()
    assert [each["status"] for each in await cast.all()] == ["SENT"]
    await cast.account(iban=INN_IBAN, accountHolder="Le club")
    assert (await cast.all())[0]["merchant"]["bankAccount"]["held"] is False, "the same account under another name"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("iban", {"iban": "FR76 3000 6000 0112 3456 7890 188"}),
        ("iban", {"iban": ""}),
        ("iban", {"iban": "pas un IBAN"}),
        ("iban", {"iban": "SA0380000000608010167519"}),
        ("bic", {"bic": "AGRI"}),
        ("bic", {"bic": "COBADEFFXXX"}),
        ("accountHolder", {"accountHolder": " "}),
        ("accountHolder", {"accountHolder": "x" * 71}),
        ("postalAddress.town", {"postalAddress": {"street": "1 rue A", "postcode": "45000", "town": "x" * 36}}),
        ("postalAddress.street", {"postalAddress": {"street": "x" * 71, "postcode": "45000", "town": "Orléans"}}),
    ],
)
async def test_bank_details_are_checked_before_any_transfer_leaves(
    cast: Cast, field: str, given: dict[str, Any]
) -> None:
    async with cast.world.unchanged():
        refused = await cast.account(**given)
        assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", *field.split(".")])


async def test_a_rejected_reimbursement_is_due_again(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    (first,) = await cast.all()
    rejected = await cast.settle(first, rejected=True, bankReference="Compte clôturé")
    assert (rejected["status"], rejected["rejectionReason"]) == ("REJECTED", "Compte clôturé")
    assert (await cast.totals(), await cast.kept()) == ((40_00, 0), (0, 0))
    assert (await cast.settle(first, rejected=True))["status"] == "REJECTED", "said again, it stays as it is"
    assert (await cast.settle(first))["code"] == "WRONG_STATE"
    await cast.run()
    second, first = await cast.all()
    assert (second["reference"], second["gross"], second["status"]) == ("R2026-00000002", first["gross"], "SENT")


async def test_money_that_comes_back_after_it_was_settled_is_due_again(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    (made,) = await cast.all()
    await cast.settle(made)
    assert (await cast.settle(made))["status"] == "SETTLED", "said again, it stays as it is"
    assert (await cast.totals(), await cast.kept()) == ((0, 0), (39_00, 1_00))
    assert (await cast.settle(made, rejected=True))["status"] == "REJECTED"
    assert (await cast.totals(), await cast.kept()) == ((40_00, 0), (0, 0))


async def test_P30_the_commission_and_the_delay_are_those_of_the_day_of_the_operation(cast: Cast) -> None:
    await cast.account()
    for day, basket in ((datetime(2018, 12, 31, 23, 59, tzinfo=PARIS), "A"), (datetime(2019, 1, 1, tzinfo=PARIS), "B")):
        await cast.world.freeze(day.astimezone(UTC))
        await cast.collect("40,00", basket)
    await cast.run("2018-12-31")
    (old,) = await cast.all()
    assert (old["commission"]["amount"], old["periodStart"], old["periodEnd"]) == ("0.40", "2018-12-31", "2018-12-31")
    assert old["dueOn"] == "2019-01-08", "1 January is no TARGET business day"
    await cast.run("2019-01-01")
    new, _ = await cast.all()
    assert (new["commission"]["amount"], new["dueOn"]) == ("1.00", "2019-01-08")


async def test_terms_do_not_change_for_days_that_are_reimbursed(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    settings, keeps = cast.world.servers.settings, ReimbursedFlow.PAYMENT_REQUESTS
    async with cast.world.unchanged():
        with pytest.raises(Refused, match="Operations until 02/11/2026 are reimbursed already"):
            await escarcelle_database.put_terms(settings, cast.world.slug, keeps, date(2026, 11, 2), "3", 5)
    await escarcelle_database.put_terms(settings, cast.world.slug, keeps, date(2026, 11, 3), "3", 5)


async def test_what_is_late_is_paid_on_the_next_business_day(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    # Good Friday and Easter Monday of 2027 are closing days.
    await cast.world.freeze(datetime(2027, 3, 25, 9, tzinfo=PARIS).astimezone(UTC))
    await cast.run("2027-03-25")
    assert [each["dueOn"] for each in await cast.all()] == ["2027-03-30"]


async def test_runs_are_refused_before_anything_happens(cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    async with cast.world.unchanged():
        refused = await cast.ask("2026-11-03")
        assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "through"])
        assert (await cast.ask("1999-12-31"))["code"] == "INVALID"
        assert (await cast.ask(by=cast.signatory))["code"] == "FORBIDDEN"
        assert (await cast.ask(by=cast.payments.ines))["code"] == "FORBIDDEN"
    await cast.world.as_owner("DELETE FROM paying_accounts WHERE tenant = $1", cast.world.tenant)
    async with cast.world.unchanged():
        assert (await cast.ask())["code"] == "WRONG_STATE"


async def test_P30_a_signatory_sees_its_own_merchants_reimbursements_and_nobody_elses(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    (made,) = await cast.all(cast.signatory)
    assert made["reference"] == "R2026-00000001"
    assert await cast.all(cast.payments.stranger) == []
    for client in (cast.payments.till, cast.payments.ines):
        with pytest.raises(Unexpected, match="FORBIDDEN"):
            await cast.all(client)
    shown = f"query ($id: ID!) {{ node(id: $id) {{ {REIMBURSEMENT} }} }}"
    for client in (cast.payments.stranger, cast.payments.till, cast.payments.ines):
        assert (await client.ask(shown, id=made["id"]))["node"] is None
    async with cast.world.unchanged():
        inn = cast.world.merchants["808100"].global_id
        assert (await cast.account(merchantId=inn))["code"] == "NOT_FOUND"
        assert (await cast.settle(made, by=cast.signatory))["code"] == "FORBIDDEN"
        assert (await cast.account(by=cast.payments.till))["code"] == "FORBIDDEN"
        assert (await cast.account(by=cast.agency))["problems"][0]["path"] == ["input", "merchantId"]
    assert (await cast.account(by=cast.agency, merchantId=inn, iban=INN_IBAN))["bankAccount"]["ibanLast4"] == "3000"


async def test_V23_a_supplier_is_reimbursed_its_invoices_and_their_vouchers_are_settled(cast: Cast) -> None:
    world = cast.world
    await world.voucher_kind()
    await world.merchant("MO", "Matériaux de l’Ouest", {"C1": "Comptoir"})
    await world.user("mo", Role.MERCHANT_MANAGER, merchant="MO")
    await world.member("44001234B", "Martin")
    await world.user("paul", Role.HOLDER, holder="44001234B")
    async with await cast.running.client(world, "paul") as paul, await cast.running.client(world, "mo") as supplier:
        shown = "... on Voucher { id status statusLabel number presentation { secretCode } }"
        voucher = await paul.do("requestVoucher", shown, supplierId=world.merchants["MO"].global_id, amount="124")
        await paul.do("revealVoucherCode", shown, id=voucher["id"])
        voucher = await paul.do("deliverVoucher", shown, id=voucher["id"])
        invoice = {
            "voucherNumber": voucher["number"], "secretCode": voucher["presentation"]["secretCode"],
            "invoiceNumber": "F-1", "amount": "130,00",
        }  # fmt: skip
        recorded = await supplier.do("recordSupplierInvoice", "... on SupplierInvoice { id }", **invoice)
        decided = {"supplierInvoiceId": recorded["id"], "decision": "PAID"}
        await cast.agency.do("decideExcess", "... on SupplierInvoice { id }", **decided)
        await cast.account(by=supplier)
        await cast.run()
        (made,) = await cast.all(supplier)
        assert [made[name]["amount"] for name in ("gross", "commission", "net")] == ["130.00", "0.00", "130.00"]
        assert sorted(line["kind"] for line in made["lines"]["nodes"]) == ["sinv.pay_excess", "vchr.invoice"]

        async def becomes(status: str) -> dict[str, Any]:
            async with asyncio.timeout(60):
                while True:
                    node = await paul.ask(f"query ($id: ID!) {{ node(id: $id) {{ {shown} }} }}", id=voucher["id"])
                    if node["node"]["status"] == status:
                        return dict(node["node"])
                    await asyncio.sleep(0.05)

        await cast.settle(made)
        assert (await becomes("SETTLED"))["statusLabel"] == "13-réglé"
        await cast.settle(made, rejected=True, bankReference="Compte clôturé")
        await becomes("INVOICED")


async def test_a_quarter_ties_to_the_ledger(cast: Cast) -> None:
    """Thirteen weeks of payments by chance; the bank rejects some of what is sent, and the end owes nothing."""
    seed = int(os.environ.get("ESCARCELLE_TEST_SEED", secrets.randbelow(10**6)))
    print(f"ESCARCELLE_TEST_SEED={seed}")
    chance = random.Random(seed)
    await cast.account()
    await cast.agency.do(
        "creditHolder", "... on Holder { id }", holderId=cast.world.holders["ines"].global_id, amount="9000", reason="x"
    )
    collected, day = 0, MONDAY
    for week in range(14):
        await cast.world.freeze(day)
        if week < 13:
            for n in range(chance.randrange(4)):
                cents = chance.randrange(20_00, 90_00)
                await cast.collect(money.decimal(cents), f"S{week}-{n}")
                collected += cents
        job = await cast.run(day.astimezone(PARIS).date())
        if job["downloadUrl"]:
            content = (await cast.get(job["downloadUrl"])).content
            try_valid_xml(content, "pain.001.001.09")
            sent = {each["reference"]: each for each in await cast.all(status="SENT")}
            paper = fromstring(content)
            ordered = {e.text for e in paper.iterfind(f".//{PAIN}EndToEndId")}
            assert ordered == set(sent)
            assert said(paper, "GrpHdr/CtrlSum") == money.decimal(sum(cents_of(each["net"]) for each in sent.values()))
            for each in sent.values():
                await cast.settle(each, rejected=week < 13 and chance.random() < 0.3)
        day += timedelta(days=7)
    settled = await cast.all(status="SETTLED")
    assert sum(cents_of(each["gross"]) for each in settled) == collected
    net, commission = (sum(cents_of(each[name]) for each in settled) for name in ("net", "commission"))
    assert (await cast.totals(), await cast.kept()) == ((0, 0), (net, commission))


def said(paper: Element, path: str) -> str | None:
    """The text at a place of the file."""
    return paper.findtext(".//" + "/".join(PAIN + part for part in path.split("/")))


def cents_of(amount: dict[str, str]) -> int:
    """An amount of the API, in cents."""
    return money.cents(amount["amount"], "amount")


# ── the bank's answers ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_banks_report_rejects_and_its_statement_settles_by_end_to_end_id(cast: Cast) -> None:
    await cast.account()
    await cast.account(by=cast.agency, merchantId=cast.world.merchants["808100"].global_id, iban=INN_IBAN)
    for n in range(3):
        await cast.collect("30,00", f"REF{n}")
        await cast.run()
    inn = await cast.payments.stranger.do(
        "createPaymentRequest", "... on PaymentRequest { qrCode { url } }",
        pointOfSaleId=cast.world.places["A001"].global_id, amount="40", basketNumber="B1",
    )  # fmt: skip
    await cast.payments.pay(inn["qrCode"]["url"].rsplit("/", 1)[-1], by=cast.payments.eric, amount="20")
    await cast.run()

    for number, said in enumerate((("RJCT", "AC04", "Compte clôturé"), ("ACCP",), ("ACSC",)), start=1):
        report = cast.report(tx(f"R2026-0000000{number}", *said), file=cast.file(number))
        assert (await cast.answer(report))["problems"] == []
    by_reference = {each["reference"]: each for each in await cast.all()}
    assert [by_reference[f"R2026-0000000{n}"]["status"] for n in (1, 2, 3, 4)] == [
        "REJECTED", "SENT", "SETTLED", "SENT",
    ]  # fmt: skip
    first = by_reference["R2026-00000001"]
    assert (first["rejectionCode"], first["rejectionReason"]) == ("AC04", "Compte clôturé")

    statement = camt_053(
        entry("R2026-00000002", "29.25"), entry("R2026-00000004", "19.49"), entry("NOTPROVIDED", "12.00"),
        entry("R2026-00000099", "12.00"), entry("R2026-00000003", "29.25", back="AC06"),
    )  # fmt: skip
    said_back = [problem["message"] for problem in (await cast.answer(statement))["problems"]]
    assert said_back == [
        "R2026-00000004 : la banque dit 19,49\u00a0€, le remboursement est de 19,50\u00a0€. Rien n’a été changé.",
        "R2026-00000099 : aucun remboursement ne porte cette référence.",
    ]
    by_reference = {each["reference"]: each for each in await cast.all()}
    assert [by_reference[f"R2026-0000000{n}"]["status"] for n in (1, 2, 3, 4)] == [
        "REJECTED", "SETTLED", "REJECTED", "SENT",
    ]  # fmt: skip
    assert by_reference["R2026-00000003"]["rejectionCode"] == "AC06"
    assert await cast.totals() == (60_00, 0), "the two that were not paid are due again"
    await followed(cast.world)
    async with cast.world.unchanged_but("jobs", "journal"):
        assert len((await cast.answer(statement))["problems"]) == 2, "told again, it changes nothing"


async def test_a_message_that_the_bank_rejects_as_a_whole_is_due_again(cast: Cast) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    await cast.answer(cast.report(group="RJCT"))
    (made,) = await cast.all()
    assert (made["status"], made["rejectionCode"], await cast.totals()) == ("REJECTED", "FF01", (40_00, 0))
    async with cast.world.unchanged_but("jobs", "journal"):
        assert (await cast.answer(cast.report(group="RJCT")))["problems"] == [], "told again, it changes nothing"


@pytest.mark.parametrize(
    "content",
    [
        b"<a/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:pain.001.001.09'/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'><BkToCstmrStmt>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        b"<?xml version='1.0' encoding='nonsense'?><a/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'>" + b"<a/>" * 300_000 + b"</Document>",
        b"<a>\x00</a>",
    ],
    ids=["other", "transfers", "torn", "entity", "outside", "encoding", "large", "zero"],
)
async def test_what_is_no_answer_of_a_bank_is_refused_and_changes_nothing(cast: Cast, content: bytes) -> None:
    await cast.account()
    await cast.collect("40,00", "REF1")
    await cast.run()
    async with cast.world.unchanged_but("jobs", "journal"):
        job = await cast.answer(content, becomes="FAILED")
        assert [each["message"] for each in job["problems"]] == [
            "Ce fichier n’est ni un pain.002 ni un camt.053 complet."
        ]


def tx(reference: str, status: str, code: str = "", text: str = "") -> str:
    """What it says about one transfer."""
    why = f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn><AddtlInf>{text}</AddtlInf></StsRsnInf>" if code else ""
    return f"<TxInfAndSts><OrgnlEndToEndId>{reference}</OrgnlEndToEndId><TxSts>{status}</TxSts>{why}</TxInfAndSts>"


def camt_053(*entries: str) -> bytes:
    """A statement of the account."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><GrpHdr><MsgId>S1</MsgId></GrpHdr>
<Stmt><Id>1</Id>{"".join(entries)}</Stmt></BkToCstmrStmt></Document>""".encode()


def entry(reference: str, amount: str, back: str = "") -> str:
    """What was booked: a transfer, or one that came back."""
    direction = "CRDT" if back else "DBIT"
    why = f"<RtrInf><Rsn><Cd>{back}</Cd></Rsn></RtrInf>" if back else ""
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>'
        f"<AcctSvcrRef>BK1</AcctSvcrRef><NtryDtls><TxDtls><Refs><EndToEndId>{reference}</EndToEndId></Refs>"
        f'<Amt Ccy="EUR">{amount}</Amt>{why}</TxDtls></NtryDtls></Ntry>'
    )
