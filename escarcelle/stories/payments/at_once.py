"""A: the merchant collects at once, by QR code; and what the rules do not allow."""

import time
from io import StringIO

import qrcode

from escarcelle.clients import Unexpected
from escarcelle.stories.payments.shop import REQUEST, Shop, token_of
from escarcelle.stories.telling import next_of
from escarcelle.world import CUSTOMER


async def play(shop: Shop) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    await _fill_wallet(shop)
    await _collect_by_qr_code(shop)
    await _refusals(shop)


async def _fill_wallet(shop: Shop) -> None:
    tell = shop.tell
    tell.title("The issuer puts value into a wallet")
    holders = await shop.office.ask(
        "query ($search: String) { holders(search: $search) { nodes { id } } }", search=CUSTOMER.login
    )
    credited = await shop.office.do(
        "creditHolder",
        "... on Holder { name wallet { formatted } }",
        holderId=holders["holders"]["nodes"][0]["id"],
        amount="120,00",
        reason="aide aux vacances",
    )
    tell.expect(credited["__typename"], "Holder", "creditHolder")
    tell.say("office", f"120,00 € for {credited['name']}; the wallet now holds {credited['wallet']['formatted']}")


async def _collect_by_qr_code(shop: Shop) -> None:
    tell = shop.tell
    tell.title("A: the merchant collects at once, by QR code")
    request = await shop.ask("40,00")
    tell.say("till", f"at {shop.place['code']} – {shop.place['name']}, basket {request['basketNumber']}: 40,00 €")
    tell.say("till", f"{request['statusLabel']}; the customer scans:")
    _print_qr_code(request["qrCode"]["url"])

    async with shop.till.subscribe(
        f"subscription ($id: ID!) {{ paymentRequest(id: $id) {{ {REQUEST} }} }}", id=request["id"]
    ) as events:
        first = (await next_of(events, 5, "the till's first event"))["paymentRequest"]
        tell.expect(first["status"], "AWAITING_PAYMENT", "what the till sees first")
        token = token_of(request)
        offer = await shop.offer(token)
        assert offer is not None, "the code has just been made"
        tell.say("phone", f"{offer['merchantName']} asks for {offer['amount']['formatted']}; I pay 30,00 € of it")
        tell.expect(offer["canLowerAmount"], True, "whether a part may be paid (P23)")
        paying_at = time.monotonic()
        tell.expect((await shop.pay(token, "30,00")).get("status"), "VALIDATED", "the payment")
        seen = (await next_of(events, 1, "the till's second event"))["paymentRequest"]
        elapsed = time.monotonic() - paying_at
    tell.expect(seen["status"], "VALIDATED", "what the till sees after the payment")
    tell.expect(seen["amountPaid"]["formatted"], "30,00\u00a0€", "the amount paid")
    tell.expect(seen["amountRemaining"]["formatted"], "10,00\u00a0€", "what remains")
    tell.say(
        "till",
        f"{seen['amountPaid']['formatted']} paid, {seen['amountRemaining']['formatted']} to settle by other means"
        f" ({elapsed * 1000:.0f} ms after the customer pressed)",
    )
    again = await shop.pay(token, "10,00")
    tell.expect(again.get("code"), "WRONG_STATE", "a second payment of the same code (P20)")
    tell.say("phone", f"a second scan: « {again['message']} »")
    await shop.expect_mail(request["transactionNumber"], "Paiement reçu", "the merchant's mail (P29)")


async def _refusals(shop: Shop) -> None:
    tell = shop.tell
    tell.title("What the rules do not allow")
    for amount, code in (("19.99", "AMOUNT_TOO_LOW"), ("abc", "INVALID"), ("-5", "AMOUNT_TOO_LOW")):
        refused = await shop.till.do(
            "createPaymentRequest", REQUEST, pointOfSaleId=shop.place["id"], amount=amount, basketNumber="essai"
        )
        if refused["__typename"] != "Refusal":
            raise Unexpected(f"{amount} was not refused")
        tell.expect(refused["code"], code, f"the refusal of {amount}")
        tell.expect(refused["problems"][0]["path"], ["input", "amount"], "the field that is named")
        tell.say("till", f"{amount}: « {refused['message']} »")


def _print_qr_code(content: str) -> None:
    code = qrcode.QRCode(border=2)
    code.add_data(content)
    drawn = StringIO()
    code.print_ascii(out=drawn, invert=True)
    print("".join(f"            {line}\n" for line in drawn.getvalue().splitlines() if line.strip()), end="")
