"""A member buys at a supplier's counter: from the request to the month's statement."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from domain.calendar import today
from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import Teller, next_of
from escarcelle.world import ADMINISTRATOR, MEMBER, SUPPLIER

VOUCHER = """... on Voucher {
  id status statusLabel number value { formatted } validUntil whereToFind certification allowedActions
  kind { name } supplier { name } holder { reference name firstName } presentation { revealedAt secretCode }
}"""
INVOICE = """... on SupplierInvoice {
  id invoiceNumber amount { formatted } excess { formatted } decision recordedAt voucher { statusLabel }
}"""
JOB = "id status done downloadUrl problems { message }"
STATEMENT = """{ memberStatements(first: 1) { nodes {
  period total { formatted } pdfUrl
  lines { supplierInvoiceNumber amount { formatted } voucher { number supplier { name } } }
} } }"""


@dataclass
class _Counter:
    """Who is there: the member with a telephone, the supplier, the agency."""

    tell: Teller
    phone: Client
    supplier: Client
    office: Client
    supplier_id: str


async def play(tell: Teller) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    async with _open_counter(tell) as counter:
        voucher = await _request(counter)
        code, voucher = await _present(counter, voucher)
        await _check(counter, voucher, code)
        await _print(counter, voucher, code)
        told = [await _invoice(counter, voucher, code), await _too_much(counter)]
        await _settle(counter, told)


@asynccontextmanager
async def _open_counter(tell: Teller) -> AsyncIterator[_Counter]:
    async with AsyncExitStack() as stack:
        phone, supplier, office = [
            await stack.enter_async_context(await tell.signed_in(person))
            for person in (MEMBER, SUPPLIER, ADMINISTRATOR)
        ]
        found = await phone.ask('{ suppliers(search: "Matériaux") { nodes { id name } } }')
        yield _Counter(tell, phone, supplier, office, found["suppliers"]["nodes"][0]["id"])


async def _request(counter: _Counter) -> dict[str, Any]:
    tell = counter.tell
    tell.title("A member takes a voucher")
    refused = await counter.phone.do("requestVoucher", VOUCHER, supplierId=counter.supplier_id, amount="0")
    tell.expect(refused.get("code"), "AMOUNT_TOO_LOW", "a voucher for nothing (V6)")
    voucher = await _asked(counter, "123,01")
    tell.say("member", f"{voucher['holder']['firstName']} asks for 123,01 € at {voucher['supplier']['name']}")
    tell.expect(voucher["value"]["formatted"], "124,00\u00a0€", "the value, rounded up (V6)")
    tell.expect((voucher["statusLabel"], voucher["number"]), ("1-EMIS", None), "the new voucher (V9, V15)")
    tell.say("member", f"{voucher['statusLabel']}, {voucher['value']['formatted']}, until {voucher['validUntil']}")
    tell.say("member", f"« {voucher['whereToFind']} »")
    try:
        await counter.supplier.ask("{ vouchers { totalCount } }")
    except Unexpected:
        tell.say("supplier", "sees nothing of it (V3)")
    else:
        raise Unexpected("a supplier lists vouchers")
    return voucher


async def _present(counter: _Counter, voucher: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    tell = counter.tell
    tell.title("At the counter")
    revealed = await counter.phone.do("revealVoucherCode", VOUCHER, id=voucher["id"])
    code = revealed["presentation"]["secretCode"]
    again = await counter.phone.do("revealVoucherCode", VOUCHER, id=voucher["id"])
    tell.expect(again["presentation"], revealed["presentation"], "the code asked for again (V11)")
    tell.say("member", f"shows the code {code}, drawn at {revealed['presentation']['revealedAt']}")
    tell.say("supplier", f"reads « {revealed['certification']} »")
    cancelled = await counter.office.do("cancelVoucher", VOUCHER, id=voucher["id"])
    tell.expect(cancelled.get("code"), "WRONG_STATE", "the agency takes back what was shown (AV4)")
    delivered = await counter.phone.do("deliverVoucher", VOUCHER, id=voucher["id"])
    tell.expect(delivered["statusLabel"], "11-livré", "the voucher presented (V17)")
    tell.say("member", f"{delivered['number']}, {delivered['statusLabel']}; leaves with the goods")
    return code, delivered


async def _check(counter: _Counter, voucher: dict[str, Any], code: str) -> None:
    tell = counter.tell
    tell.title("The supplier checks number and code")
    wrong = f"{(int(code) + 1) % 10_000:04d}"
    refused = await counter.supplier.do("verifyVoucher", VOUCHER, number=voucher["number"], secretCode=wrong)
    tell.expect(refused.get("code"), "BAD_CREDENTIALS", "a wrong code (V20)")
    tell.say("supplier", f"{wrong}: « {refused['message']} »")
    right = await counter.supplier.do("verifyVoucher", VOUCHER, number=voucher["number"], secretCode=code)
    tell.expect(right.get("status"), "DELIVERED", "the right code")
    tell.expect(right["presentation"]["secretCode"], None, "what the supplier is told of the code (V25)")
    tell.say("supplier", f"the code is right: {right['value']['formatted']} guaranteed")


async def _print(counter: _Counter, voucher: dict[str, Any], code: str) -> None:
    tell = counter.tell
    tell.title("The voucher on paper")
    link = "query ($id: ID!) { node(id: $id) { ... on Voucher { pdfUrl } } }"
    page = await counter.phone.get(urlsplit((await counter.phone.ask(link, id=voucher["id"]))["node"]["pdfUrl"]).path)
    tell.say("member", "prints it, with number and code; the link opens for ten minutes, while the session lasts")
    tell.keep_pdf("file", f"bon-{voucher['number']}.pdf", page.content)
    listed = await counter.phone.ask("{ vouchers(first: 1) { nodes { pdfUrl presentation { secretCode } } } }")
    tell.expect(listed["vouchers"]["nodes"], [{"pdfUrl": None, "presentation": {"secretCode": None}}], "a list (V11)")


async def _invoice(counter: _Counter, voucher: dict[str, Any], code: str) -> dict[str, Any]:
    tell = counter.tell
    tell.title("The invoice")
    given = {"voucherNumber": voucher["number"], "secretCode": code, "amount": "123,01"}
    invoice = await counter.supplier.do("recordSupplierInvoice", INVOICE, invoiceNumber=_number(), **given)
    tell.expect(invoice["voucher"]["statusLabel"], "12-facturé", "the voucher invoiced (V23)")
    tell.say("supplier", f"is owed {invoice['amount']['formatted']}; the member owes as much, the rest is released")
    again = await counter.supplier.do("recordSupplierInvoice", INVOICE, invoiceNumber=_number(), **given)
    tell.expect(again.get("code"), "WRONG_STATE", "a second invoice for the voucher")
    tell.say("supplier", f"again: « {again['message']} »")
    return invoice


async def _too_much(counter: _Counter) -> dict[str, Any]:
    tell = counter.tell
    tell.title("An invoice above the voucher's value")
    voucher = await _asked(counter, "50")
    revealed = await counter.phone.do("revealVoucherCode", VOUCHER, id=voucher["id"])
    delivered = await counter.phone.do("deliverVoucher", VOUCHER, id=voucher["id"])
    invoice = await counter.supplier.do(
        "recordSupplierInvoice",
        INVOICE,
        voucherNumber=delivered["number"],
        secretCode=revealed["presentation"]["secretCode"],
        invoiceNumber=_number(),
        amount="62,50",
    )
    tell.expect((invoice["excess"]["formatted"], invoice["decision"]), ("12,50\u00a0€", None), "the excess (AV6)")
    tell.say("supplier", f"asks for {invoice['amount']['formatted']}: {invoice['excess']['formatted']} too much")
    decided = await counter.office.do("decideExcess", INVOICE, supplierInvoiceId=invoice["id"], decision="REFUSED")
    tell.expect(decided.get("decision"), "REFUSED", "the agency's decision")
    tell.say("office", "the excess is not paid")
    return decided


async def _settle(counter: _Counter, told: list[dict[str, Any]]) -> None:
    tell = counter.tell
    tell.title("The month's statement")
    before = await tell.mails_so_far(counter.phone)
    month = today(datetime.fromisoformat(told[-1]["recordedAt"]))
    job = await counter.office.do("issueMemberStatements", f"... on Job {{ {JOB} }}", month=month.isoformat())
    tell.expect(job["__typename"], "Job", "issueMemberStatements")
    async with counter.office.subscribe(
        f"subscription ($id: ID!) {{ job(id: $id) {{ {JOB} }} }}", id=job["id"]
    ) as jobs:
        while job["status"] not in ("DONE", "FAILED"):
            job = (await next_of(jobs, 20, "the statements' job"))["job"]
    tell.expect((job["status"], job["problems"]), ("DONE", []), "the statements (V22)")
    tell.say("office", f"{job['done']} member(s) told what was billed until the end of {month:%m/%Y}")

    (statement,) = (await counter.phone.ask(STATEMENT))["memberStatements"]["nodes"]
    lines = {line["supplierInvoiceNumber"]: line for line in statement["lines"]}
    for invoice, owed in zip(told, ("123,01\u00a0€", "50,00\u00a0€"), strict=True):
        line = lines.get(invoice["invoiceNumber"], {"amount": {}})
        tell.expect(line["amount"].get("formatted"), owed, f"what is owed for invoice {invoice['invoiceNumber']} (V23)")
    for number, line in lines.items():
        voucher = line["voucher"]
        tell.say(
            "member", f"{number}, {voucher['supplier']['name']}, {voucher['number']}: {line['amount']['formatted']}"
        )
    total = statement["total"]["formatted"]
    tell.say("member", f"owes {total} by the statement of {statement['period']}")

    def is_it(mail: dict[str, Any]) -> bool:
        return mail["key"] not in before and "Votre relevé de bons" in mail["subject"] and total in mail["text"]

    mail = await tell.mail(counter.phone, is_it, "the statement's mail (V22)")
    if mail is None:
        page = await counter.phone.get(urlsplit(statement["pdfUrl"]).path)
        tell.keep_pdf("file", f"releve-{statement['period']}.pdf", page.content)
        return
    tell.say_mail(mail)
    for name, content in (await tell.enclosed(counter.phone, mail)).items():
        tell.keep_pdf("file", name, content)


async def _asked(counter: _Counter, amount: str) -> dict[str, Any]:
    voucher = await counter.phone.do("requestVoucher", VOUCHER, supplierId=counter.supplier_id, amount=amount)
    counter.tell.expect(voucher["__typename"], "Voucher", "requestVoucher")
    return voucher


def _number() -> str:
    return f"F-{uuid4().hex[:8]}"
