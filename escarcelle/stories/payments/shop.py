"""Who plays in the payment stories, and what they do again and again: ask, pay, look, wait."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.calendar import PARIS
from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import Teller, next_of
from escarcelle.world import ADMINISTRATOR, CUSTOMER, STAFF

REQUEST = """... on PaymentRequest {
  id status statusLabel typeLabel basketNumber transactionNumber collection amountRequested { formatted }
  amountPaid { formatted } amountRemaining { formatted } amountReceived { formatted } paymentDueOn paymentDeadline
  validateBy validationDeadline lastActionAt qrCode { url }
}"""
OFFER = """... on PaymentOffer {
  merchantName amount { formatted } canLowerAmount dueOn status statusLabel amountPaid { formatted } allowedActions
}"""


@dataclass
class Shop:
    """The issuer's office, a till at one point of sale, and a customer's telephone."""

    tell: Teller
    office: Client
    till: Client
    phone: Client
    place: dict[str, Any]

    # ── the till ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def ask(self, amount: str, basket: str | None = None, **given: Any) -> dict[str, Any]:
        """The till asks for money, under the number that the server suggests unless one is given."""
        basket = basket or await self.next_basket()
        request = await self.till.do(
            "createPaymentRequest",
            REQUEST,
            pointOfSaleId=self.place["id"],
            amount=amount,
            basketNumber=basket,
            **given,
        )
        self.tell.expect(request.get("status"), "AWAITING_PAYMENT", f"the new request for {amount}")
        return request

    async def next_basket(self) -> str:
        """The basket number that the server suggests."""
        question = "query ($place: ID!) { suggestedBasketNumber(pointOfSaleId: $place) }"
        return str((await self.till.ask(question, place=self.place["id"]))["suggestedBasketNumber"])

    async def look(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request as the till sees it now."""
        found: dict[str, Any] = (
            await self.till.ask(f"query ($id: ID!) {{ node(id: $id) {{ {REQUEST} }} }}", id=request["id"])
        )["node"]
        return found

    async def decide(self, mutation: str, request: dict[str, Any], **given: Any) -> dict[str, Any]:
        """The till validates, cancels or asks in another way."""
        return await self.till.do(mutation, REQUEST, id=request["id"], **given)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Counters"]:
        """The till's list, live, with its two counters."""
        document = (
            "subscription ($place: ID!) { paymentRequestChanges(pointOfSaleId: $place)"
            " { paymentRequest { id } counters { toValidate awaitingPayment } } }"
        )
        async with self.till.subscribe(document, place=self.place["id"]) as events:
            yield Counters(events)

    # ── the telephone ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def offer(self, token: str) -> dict[str, Any] | None:
        """What the customer sees behind a code or a link."""
        document = f"query ($token: String!) {{ paymentOffer(token: $token) {{ {OFFER} }} }}"
        found: dict[str, Any] | None = (await self.phone.ask(document, token=token))["paymentOffer"]
        return found

    async def pay(self, token: str, amount: str | None = None) -> dict[str, Any]:
        """The customer pays; returns the offer or the refusal."""
        return await self.phone.do(
            "payPaymentRequest", OFFER, token=token, **({} if amount is None else {"amount": amount})
        )

    async def wallet(self) -> str:
        """What the customer has, as the customer reads it."""
        viewer = (await self.phone.ask("{ viewer { holder { wallet { formatted } } } }"))["viewer"]
        return str(viewer["holder"]["wallet"]["formatted"])

    async def link_of(self, request: dict[str, Any]) -> str | None:
        """The token in the link that the customer is mailed; None where the server keeps no mails."""
        line = f": {request['basketNumber']}"

        def asks(mail: dict[str, Any]) -> bool:
            return "/p/" in mail["text"] and any(found.endswith(line) for found in mail["text"].splitlines())

        mail = await self.tell.mail(self.till, asks, "the mail to pay (P22)")
        if mail is None:
            return None
        self.tell.say_mail(mail)
        return str(mail["text"].split("/p/", 1)[1].split()[0])

    async def expect_mail(self, about: str, words: str, why: str) -> None:
        """A mail with these words in its subject about a transaction number."""
        mail = await self.tell.mail(self.till, lambda m: words in m["subject"] and about in m["text"], why)
        if mail is not None:
            self.tell.say_mail(mail)

    # ── the clock ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def now(self) -> datetime:
        """The issuer's clock, as a clock on the wall shows it."""
        now = (await self.office.ask("{ viewer { issuer { now } } }"))["viewer"]["issuer"]["now"]
        return shown(now)

    async def in_days(self, days: int) -> str:
        """The day in so many days, for the API."""
        return ((await self.now()).date() + timedelta(days=days)).isoformat()

    async def wait_until(self, instant: str | datetime) -> None:
        """The office moves the sandbox's clock past an instant, by whole hours."""
        until = shown(instant)
        hours = max(1, math.ceil((until - await self.now()) / timedelta(hours=1)))
        days, rest = divmod(hours, 24)
        issuer = await self.office.do("advanceClock", "... on Issuer { now }", days=days, hours=rest)
        self.tell.expect(issuer["__typename"], "Issuer", "advanceClock")
        if shown(issuer["now"]) < until:
            raise Unexpected(f"the clock was to pass {until}, and stands at {issuer['now']}")
        self.tell.say("clock", f"{shown(issuer['now']):%d/%m/%Y %H:%M}")


@dataclass
class Counters:
    """The two counters above the list, as they come."""

    events: Any

    async def next(self, request: dict[str, Any] | None = None) -> tuple[int, int]:
        """Both, after the next change; of that request when one is given."""
        while True:
            change = (await next_of(self.events, 5, "the counters"))["paymentRequestChanges"]
            if request is None or change["paymentRequest"]["id"] == request["id"]:
                return change["counters"]["toValidate"], change["counters"]["awaitingPayment"]


@asynccontextmanager
async def open_shop(tell: Teller) -> AsyncIterator[Shop]:
    """Everyone signed in."""
    async with (
        await tell.signed_in(ADMINISTRATOR) as office,
        await tell.signed_in(STAFF) as till,
        await tell.signed_in(CUSTOMER) as phone,
    ):
        place = (await till.ask("{ pointsOfSale { nodes { id code name } } }"))["pointsOfSale"]["nodes"][0]
        yield Shop(tell, office, till, phone, place)


def token_of(request: dict[str, Any]) -> str:
    """What the QR code carries."""
    return str(request["qrCode"]["url"]).rsplit("/", 1)[-1]


def shown(instant: str | datetime) -> datetime:
    """An instant of the API as a clock in Paris shows it."""
    read = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
    return read.astimezone(PARIS)


def day(text: str) -> str:
    """A day of the API as people read it."""
    return f"{datetime.fromisoformat(text):%d/%m/%Y}"
