"""A member buys at a supplier's counter: from the request on a Sunday night to the supplier's invoice."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import Teller
from escarcelle.world import ADMINISTRATOR, MEMBER, SUPPLIER

VOUCHER = """... on Voucher {
  id status statusLabel number value { formatted } validUntil whereToFind certification allowedActions
  kind { name } supplier { name } holder { reference name firstName } presentation { revealedAt secretCode }
}"""
INVOICE = "... on SupplierInvoice { id amount { formatted } excess { formatted } decision voucher { statusLabel } }"


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
        await _invoice(counter, voucher, code)
        await _too_much(counter)


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


async def _invoice(counter: _Counter, voucher: dict[str, Any], code: str) -> None:
    tell = counter.tell
    tell.title("The invoice")
    given = {"voucherNumber": voucher["number"], "secretCode": code, "amount": "123,01"}
    invoice = await counter.supplier.do("recordSupplierInvoice", INVOICE, invoiceNumber=_number(), **given)
    tell.expect(invoice["voucher"]["statusLabel"], "12-facturé", "the voucher invoiced (V23)")
    tell.say("supplier", f"is owed {invoice['amount']['formatted']}; the member owes as much, the rest is released")
    again = await counter.supplier.do("recordSupplierInvoice", INVOICE, invoiceNumber=_number(), **given)
    tell.expect(again.get("code"), "WRONG_STATE", "a second invoice for the voucher")
    tell.say("supplier", f"again: « {again['message']} »")


async def _too_much(counter: _Counter) -> None:
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


async def _asked(counter: _Counter, amount: str) -> dict[str, Any]:
    voucher = await counter.phone.do("requestVoucher", VOUCHER, supplierId=counter.supplier_id, amount=amount)
    counter.tell.expect(voucher["__typename"], "Voucher", "requestVoucher")
    return voucher


def _number() -> str:
    return f"F-{uuid4().hex[:8]}"
