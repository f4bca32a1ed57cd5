"""C and D: what the customer pays is reserved, and the merchant has some days to validate it, perhaps for less."""

from datetime import timedelta
from typing import Any

from escarcelle.stories.payments.shop import Shop, day, shown
from escarcelle.world import CUSTOMER


async def play(shop: Shop) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    shop.tell.title("C: paid at once, then validated for less")
    await _validated_for_less(shop)
    shop.tell.title("D: paid by a day, then validated, or not")
    await _warned_and_cancelled(shop)
    await _lapsed(shop)


async def _validated_for_less(shop: Shop) -> None:
    tell = shop.tell
    before = await shop.wallet()
    async with shop.watching() as counters:
        to_validate, awaiting = await counters.next()
        request = await shop.ask("40,00", customerIdentifier=CUSTOMER.login, validationDays=2)
        tell.expect(await counters.next(request), (to_validate, awaiting + 1), "the counters, once asked (P7)")
        tell.say("till", f"{request['typeLabel']}, basket {request['basketNumber']}: 40,00 €, two days to validate")
        token = await shop.link_of(request)
        if token is None:
            return
        paid = await shop.pay(token, "30,00")
        tell.expect(paid.get("status"), "TO_VALIDATE", "the payment of a part (P23)")
        tell.expect(await counters.next(request), (to_validate + 1, awaiting), "the counters, once paid (P7)")
    seen = await shop.look(request)
    tell.expect(seen["amountReceived"]["formatted"], "30,00\u00a0€", "what was received")
    tell.say("phone", f"30,00 € of it; my wallet goes from {before} to {await shop.wallet()}")
    tell.say(
        "till",
        f"to validate: {to_validate} → {to_validate + 1}, awaiting payment: {awaiting + 1} → {awaiting};"
        f" {seen['amountReceived']['formatted']} to validate by {day(seen['validateBy'])}",
    )
    raised = await shop.decide("validatePaymentRequest", request, amount="30,01")
    tell.expect(raised.get("code"), "AMOUNT_TOO_HIGH", "validating more than was paid (P26)")
    tell.say("till", f"30,01 €: « {raised['message']} »")
    lowered = await shop.decide("validatePaymentRequest", request, amount="25,50")
    tell.expect(lowered.get("status"), "VALIDATED", "validating less than was paid (P26)")
    tell.expect(lowered["amountReceived"]["formatted"], "25,50\u00a0€", "what was received in the end")
    tell.say("till", f"{lowered['statusLabel']}: {lowered['amountReceived']['formatted']}")
    tell.say("phone", f"4,50 € are back; my wallet holds {await shop.wallet()}")
    await shop.expect_mail(request["transactionNumber"], "a validé votre paiement", "the customer's mail (P26)")


async def _warned_and_cancelled(shop: Shop) -> None:
    tell = shop.tell
    paid = await _asked_and_paid(shop)
    if paid is None:
        return
    request, before = paid
    await shop.wait_until(shown(request["validationDeadline"]) - timedelta(hours=24))
    await shop.expect_mail(request["transactionNumber"], "À valider avant le", "the warning 24 hours before (P13)")
    cancelled = await shop.decide("cancelPaymentRequest", request)
    tell.expect((cancelled.get("status"), cancelled["amountReceived"]), ("CANCELLED", None), "a cancellation (P27)")
    tell.expect(await shop.wallet(), before, "the wallet after the cancellation (P27)")
    tell.say("till", f"{cancelled['statusLabel']}")
    tell.say("phone", f"my money is back: {before}")
    await shop.expect_mail(request["transactionNumber"], "vous reviennent", "the customer's mail (P27)")


async def _lapsed(shop: Shop) -> None:
    tell = shop.tell
    paid = await _asked_and_paid(shop)
    if paid is None:
        return
    request, before = paid
    tell.say("till", "nobody looks at it")
    await shop.wait_until(request["validationDeadline"])
    seen = await shop.look(request)
    tell.expect((seen["status"], seen["amountReceived"]), ("EXPIRED", None), "a window that lapsed (AP1)")
    tell.expect(await shop.wallet(), before, "the wallet after the window has lapsed (AP1)")
    tell.say("till", f"{seen['statusLabel']}, last action {shown(seen['lastActionAt']):%d/%m/%Y %H:%M}")
    tell.say("phone", f"my money is back: {before}")
    await shop.expect_mail(request["transactionNumber"], "vous reviennent", "the customer's mail (AP1)")


async def _asked_and_paid(shop: Shop) -> tuple[dict[str, Any], str] | None:
    """A request of kind D that the customer has paid, a day later, with what the wallet held before; None where the
    server keeps no mails."""
    tell = shop.tell
    due_on = await shop.in_days(4)
    asked = await shop.ask("40,00", customerIdentifier=CUSTOMER.login, paymentDeadline=due_on, validationDays=2)
    tell.say("till", f"{asked['typeLabel']}, basket {asked['basketNumber']}: 40,00 €, by {day(due_on)}")
    token = await shop.link_of(asked)
    if token is None:
        return None
    await shop.wait_until(await shop.now() + timedelta(days=1))
    before = await shop.wallet()
    tell.expect((await shop.pay(token)).get("status"), "TO_VALIDATE", "the payment")
    validate_by = await shop.in_days(2)
    request = await shop.look(asked)
    tell.expect(request["validateBy"], validate_by, "the window starts at the payment (P12)")
    tell.say("phone", f"I pay 40,00 €; my wallet goes from {before} to {await shop.wallet()}")
    tell.say("till", f"{request['statusLabel']}, by {day(validate_by)}")
    return request, before
