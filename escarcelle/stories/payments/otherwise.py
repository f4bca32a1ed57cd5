"""The customer will not pay; and a customer who cannot scan is asked in another way."""

from escarcelle.stories.payments.shop import OFFER, Shop, token_of
from escarcelle.world import CUSTOMER


async def play(shop: Shop) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    await _declined(shop)
    await _asked_in_another_way(shop)


async def _declined(shop: Shop) -> None:
    tell = shop.tell
    tell.title("The customer declines")
    request = await shop.ask("40,00")
    token = token_of(request)
    declined = await shop.phone.do("declinePaymentRequest", OFFER, token=token)
    tell.expect(declined.get("status"), "CANCELLED", "a request that was declined (P31)")
    tell.say("phone", f"no, thank you: {declined['statusLabel']}")
    await shop.expect_mail(request["transactionNumber"], "Paiement refusé", "the merchant's mail (P31)")
    refused = await shop.pay(token)
    tell.expect(refused.get("code"), "WRONG_STATE", "a payment after the refusal (P31)")
    tell.say("phone", f"after all? « {refused['message']} »")


async def _asked_in_another_way(shop: Shop) -> None:
    tell = shop.tell
    tell.title("The code cannot be scanned: the customer is asked in another way")
    request = await shop.ask("20,00")
    old = token_of(request)
    changed = await shop.decide("changePaymentCollection", request, customerIdentifier=CUSTOMER.login)
    tell.expect((changed.get("collection"), changed.get("qrCode")), ("IDENTIFIER", None), "the new way (P19)")
    tell.expect(changed["basketNumber"], request["basketNumber"], "the basket number (P19)")
    tell.say("till", f"basket {changed['basketNumber']}: {CUSTOMER.login} is asked instead")
    tell.expect(await shop.offer(old), None, "the old code (P19)")
    refused = await shop.pay(old)
    tell.expect(refused.get("code"), "NOT_FOUND", "a payment of the old code (P19)")
    tell.say("phone", f"the old code: « {refused['message']} »")
    token = await shop.link_of(changed)
    if token is None:
        return
    paid = await shop.pay(token)
    tell.expect(paid.get("status"), "VALIDATED", "the payment by the new way")
    tell.say("phone", f"the link: {paid['statusLabel']}, {paid['amountPaid']['formatted']}")
