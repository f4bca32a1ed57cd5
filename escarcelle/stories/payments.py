"""A merchant collects by QR code: flow A of the payment requests, from the till and from a telephone."""

import time
from io import StringIO

import qrcode

from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import Teller, next_of
from escarcelle.world import ADMINISTRATOR, CUSTOMER, STAFF

_AMOUNTS = "amountRequested { formatted } amountPaid { formatted } amountRemaining { formatted }"
_REQUEST = (
    f"... on PaymentRequest {{ id status statusLabel basketNumber transactionNumber {_AMOUNTS} qrCode {{ url }} }}"
)
_OFFER = "merchantName amount { formatted } canLowerAmount status statusLabel amountPaid { formatted } allowedActions"


async def play(tell: Teller) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    async with (
        await tell.signed_in(ADMINISTRATOR) as office,
        await tell.signed_in(STAFF) as till,
        await tell.signed_in(CUSTOMER) as phone,
    ):
        await _fill_wallet(tell, office)
        await _collect_by_qr_code(tell, till, phone)
        await _refusals(tell, till)


async def _fill_wallet(tell: Teller, office: Client) -> None:
    tell.title("The issuer puts value into a wallet")
    holders = await office.ask(
        "query ($search: String) { holders(search: $search) { nodes { id } } }", search=CUSTOMER.login
    )
    holder = holders["holders"]["nodes"][0]["id"]
    fields = "... on Holder { name wallet { formatted } }"
    credited = await office.do("creditHolder", fields, holderId=holder, amount="30,00", reason="aide aux vacances")
    tell.expect(credited["__typename"], "Holder", "creditHolder")
    tell.say("office", f"30,00 € for {credited['name']}; the wallet now holds {credited['wallet']['formatted']}")


async def _collect_by_qr_code(tell: Teller, till: Client, phone: Client) -> None:
    tell.title("A: the merchant collects at once, by QR code")
    place = (await till.ask("{ pointsOfSale { nodes { id code name } } }"))["pointsOfSale"]["nodes"][0]
    suggested = await till.ask(
        "query ($place: ID!) { suggestedBasketNumber(pointOfSaleId: $place) }", place=place["id"]
    )
    basket = suggested["suggestedBasketNumber"]
    tell.say("till", f"at {place['code']} – {place['name']}, basket {basket}: 40,00 €")
    request = await till.do(
        "createPaymentRequest", _REQUEST, pointOfSaleId=place["id"], amount="40,00", basketNumber=basket
    )
    tell.expect(request.get("status"), "AWAITING_PAYMENT", "the new request")
    tell.say("till", f"{request['statusLabel']}; the customer scans:")
    _print_qr_code(request["qrCode"]["url"])

    live = f"subscription ($id: ID!) {{ paymentRequest(id: $id) {{ status {_AMOUNTS} }} }}"
    async with till.subscribe(live, id=request["id"]) as events:
        first = (await next_of(events, 5, "the till's first event"))["paymentRequest"]
        tell.expect(first["status"], "AWAITING_PAYMENT", "what the till sees first")
        token = request["qrCode"]["url"].rsplit("/", 1)[-1]
        offer = (
            await phone.ask(f"query ($token: String!) {{ paymentOffer(token: $token) {{ {_OFFER} }} }}", token=token)
        )["paymentOffer"]
        tell.say("phone", f"{offer['merchantName']} asks for {offer['amount']['formatted']}; I pay 30,00 € of it")
        tell.expect(offer["canLowerAmount"], True, "whether a part may be paid (P23)")
        paying_at = time.monotonic()
        paid = await phone.do("payPaymentRequest", f"... on PaymentOffer {{ {_OFFER} }}", token=token, amount="30,00")
        tell.expect(paid.get("status"), "VALIDATED", "the payment")
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
    again = await phone.do("payPaymentRequest", f"... on PaymentOffer {{ {_OFFER} }}", token=token, amount="10,00")
    tell.expect(again.get("code"), "WRONG_STATE", "a second payment of the same code (P20)")
    tell.say("phone", f"a second scan: « {again['message']} »")
    mail = await tell.mail(till, lambda mail: request["transactionNumber"] in mail["text"], "the merchant's mail (P29)")
    if mail is not None:
        tell.say(
            "mail", f"to {', '.join(mail['to']) if isinstance(mail['to'], list) else mail['to']}: {mail['subject']}"
        )


async def _refusals(tell: Teller, till: Client) -> None:
    tell.title("What the rules do not allow")
    place = (await till.ask("{ pointsOfSale { nodes { id } } }"))["pointsOfSale"]["nodes"][0]["id"]
    for amount, code in (("19.99", "AMOUNT_TOO_LOW"), ("abc", "INVALID"), ("-5", "AMOUNT_TOO_LOW")):
        refused = await till.do(
            "createPaymentRequest", _REQUEST, pointOfSaleId=place, amount=amount, basketNumber="essai"
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
