"""The cast of the payment request tests, and what it says."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from domain.access import Right, Role
from escarcelle.clients import Client
from tests.world import Running, World, environment

REQUEST = """... on PaymentRequest {
  id flow status statusLabel typeLabel basketNumber transactionNumber collection
  amountRequested { amount formatted } amountPaid { amount } amountValidated { amount } amountReceived { amount }
  amountRemaining { amount } paymentDueOn paymentDeadline validationDays validationDeadline validateBy label
  customerReference sellerIdentifier customerIdentifier notifyEmail createdAt paidAt lastActionAt allowedActions
  qrCode { url svg pngBase64 } pointOfSale { code }
}"""
OFFER = """... on PaymentOffer {
  token merchantName pointOfSaleName amount { amount } canLowerAmount dueOn payBefore status statusLabel label
  amountPaid { amount } allowedActions
}"""


@dataclass
class Cast:
    """Canoë Kayak Club with two points of sale; its signatory, one staff each; two customers; the issuer's agent."""

    world: World
    running: Running
    agent: Client
    signatory: Client
    till: Client
    other_till: Client
    ines: Client
    eric: Client
    stranger: Client

    async def ask(self, amount: str = "40,00", *, till: Client | None = None, **given: Any) -> dict[str, Any]:
        """The till asks for money at P001; returns the request or the refusal."""
        asked: dict[str, Any] = {"basketNumber": f"panier-{amount}", **given}
        place = asked.pop("pointOfSaleId", self.world.places["P001"].global_id)
        return await (till or self.till).do(
            "createPaymentRequest", REQUEST, pointOfSaleId=place, amount=amount, **asked
        )

    async def pay(self, request: dict[str, Any] | str, amount: str | None = None, **more: Any) -> dict[str, Any]:
        """Inès pays; returns the offer or the refusal."""
        token = request if isinstance(request, str) else token_of(request)
        given = {"token": token} | ({"amount": amount} if amount is not None else {})
        by: Client = more.pop("by", self.ines)
        return await by.do("payPaymentRequest", OFFER, **given, **more)

    async def read(self, request: dict[str, Any], client: Client | None = None) -> dict[str, Any]:
        """The request as it is now, as the till sees it."""
        data = await (client or self.till).ask(
            f"query ($id: ID!) {{ node(id: $id) {{ {REQUEST} }} }}", id=request["id"]
        )
        found: dict[str, Any] = data["node"]
        return found


def token_of(request: dict[str, Any]) -> str:
    """What the QR code carries."""
    return str(request["qrCode"]["url"]).rsplit("/", 1)[-1]


@asynccontextmanager
async def assembled(world: World, running: Running) -> AsyncIterator[Cast]:
    """Everyone, signed in on a device of their own."""
    places = {"P001": "Canoë Kayak Club – Saint-Jean-le-Blanc", "P002": "Canoë Kayak Club – Île Charlemagne"}
    await world.merchant("708900", "Canoë Kayak Club Orléans", places)
    await world.merchant("808100", "Auberge du Moulin", {"A001": "Auberge du Moulin"})
    await world.holder("ines", "Durand", "100,00", "ines@example.com")
    await world.holder("eric", "Zoé", "25,00", "eric@example.com")
    both = frozenset({Right.COLLECT, Right.VALIDATE})
    await world.user("agent", Role.ISSUER_AGENT)
    await world.user("708900", Role.MERCHANT_MANAGER, merchant="708900", email=f"signataire@{world.slug}.example")
    await world.user(
        "p001", Role.MERCHANT_STAFF, merchant="708900", grants={"P001": both}, email=f"p001@{world.slug}.example"
    )
    await world.user("p002", Role.MERCHANT_STAFF, merchant="708900", grants={"P002": both})
    await world.user("808100", Role.MERCHANT_MANAGER, merchant="808100")
    await world.user("ines", Role.HOLDER, holder="ines")
    await world.user("eric", Role.HOLDER, holder="eric")
    async with AsyncExitStack() as stack:
        logins = ("agent", "708900", "p001", "p002", "ines", "eric", "808100")
        clients = [await stack.enter_async_context(await running.client(world, login)) for login in logins]
        agent, signatory, till, other_till, ines, eric, stranger = clients
        yield Cast(world, running, agent, signatory, till, other_till, ines, eric, stranger)


async def issuer_set(world: World, slug: str, *rules: str) -> "subprocess.CompletedProcess[str]":
    """What an operator types to set an issuer's rules."""
    command = [sys.executable, "-m", "escarcelle", "issuer", "set", "--slug", slug, *rules]
    settings = environment(world.servers.settings)
    return await asyncio.to_thread(subprocess.run, command, env=settings, capture_output=True, text=True, check=False)


async def set_rules(world: World, *rules: str) -> None:
    """These rules hold from now on."""
    done = await issuer_set(world, world.slug, *rules)
    assert done.returncode == 0, done.stderr
