"""A merchant collects money: the four flows of the payment requests, from the till, from a telephone and by mail.

    A  at once, no validation      B  by a day, no validation
    C  at once, then validation    D  by a day, then validation

It can be told again and again on the same data: the issuer's clock goes on from where the last telling left it."""

from escarcelle.stories.payments import at_once, by_a_day, otherwise, validated
from escarcelle.stories.payments.shop import open_shop
from escarcelle.stories.telling import Teller


async def play(tell: Teller) -> None:
    """Play it. Raises Unexpected when the server does otherwise."""
    async with open_shop(tell) as shop:
        await at_once.play(shop)
        await by_a_day.play(shop)
        await validated.play(shop)
        await otherwise.play(shop)
