"""B: the customer is asked by mail, and pays in full by the end of a day."""

from escarcelle.stories.payments.shop import Shop, day, shown
from escarcelle.world import CUSTOMER


async def play(shop: Shop) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    shop.tell.title("B: the customer is asked by mail, and pays by a day")
    await _paid(shop)
    await _forgotten(shop)


async def _paid(shop: Shop) -> None:
    tell = shop.tell
    due_on = await shop.in_days(10)
    request = await shop.ask("40,00", customerIdentifier=CUSTOMER.login, paymentDeadline=due_on)
    tell.expect((request["paymentDueOn"], request["collection"]), (due_on, "EMAIL"), "by when, and how it is asked")
    tell.say("till", f"{request['typeLabel']}, basket {request['basketNumber']}: 40,00 €, by {day(due_on)}")
    token = await shop.link_of(request)
    if token is None:
        return
    offer = await shop.offer(token)
    assert offer is not None, "the mail has just come"
    tell.expect(offer["canLowerAmount"], False, "whether a part may be paid (P23)")
    refused = await shop.pay(token, "30,00")
    tell.expect(refused.get("code"), "AMOUNT_TOO_LOW", "a part of B (P23)")
    tell.say("phone", f"30,00 € of it: « {refused['message']} »")
    tell.expect((await shop.pay(token)).get("status"), "VALIDATED", "the payment")
    seen = await shop.look(request)
    tell.expect(seen["status"], "VALIDATED", "B is validated when it is paid (P24)")
    tell.expect(seen["amountReceived"]["formatted"], "40,00\u00a0€", "what was received")
    tell.say("till", f"{seen['statusLabel']}, {seen['amountReceived']['formatted']} received")
    await shop.expect_mail(request["transactionNumber"], "Paiement reçu", "the merchant's mail (P29)")


async def _forgotten(shop: Shop) -> None:
    tell = shop.tell
    request = await shop.ask("25,00", customerIdentifier=CUSTOMER.login, paymentDeadline=await shop.in_days(1))
    tell.say("till", f"another, basket {request['basketNumber']}: 25,00 €, by {day(request['paymentDueOn'])}")
    token = await shop.link_of(request)
    tell.say("phone", "not today")
    await shop.wait_until(request["paymentDeadline"])
    seen = await shop.look(request)
    tell.expect((seen["status"], seen["amountReceived"]), ("EXPIRED", None), "what nobody has paid (P25)")
    tell.say("till", f"{seen['statusLabel']}, last action {shown(seen['lastActionAt']):%d/%m/%Y %H:%M}")
    # It happened with the last day's end, not when the clock had gone past it.
    late = shown(seen["lastActionAt"]) - shown(request["paymentDeadline"])
    tell.expect(0 <= late.total_seconds() < 60, True, f"expiry at the deadline, {late} after it")
    if token is not None:
        refused = await shop.pay(token)
        tell.expect(refused.get("code"), "TOO_LATE", "a payment after the last day (P25)")
        tell.say("phone", f"« {refused['message']} »")
    again = await shop.ask("25,00", basket=request["basketNumber"])
    tell.say("till", f"the number {again['basketNumber']} is free again")
    cancelled = await shop.decide("cancelPaymentRequest", again)
    tell.expect(cancelled.get("status"), "CANCELLED", "a request taken back (P28)")
    tell.say("till", f"and taken back: {cancelled['statusLabel']}")
