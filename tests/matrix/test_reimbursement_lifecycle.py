"""Every verb × every status of reimbursements, the whole table; statuses are reached by real runs and by what the bank
says."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from domain import payments, reimbursements, vouchers
from domain.access import Role
from domain.codes import global_id
from domain.payments import PaymentRequest
from domain.reimbursements import Reimbursement, ReimbursementStatus
from domain.vouchers import TypedCode, Voucher
from domain.work import perform
from escarcelle.clients import Client
from tests.matrix import audited, connections
from tests.matrix.reimbursements import answer, give_account, newest, prepare, run
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

VERBS = ("send", "settle", "reject")
"""`reject` brings money back that has arrived (return)."""

TABLE = """
         |send    |settle     |reject
pending  |SENT    |WRONG_STATE|WRONG_STATE
sent     |as it is|SETTLED    |REJECTED
settled  |as it is|as it is   |REJECTED
rejected |as it is|WRONG_STATE|as it is
returned |as it is|WRONG_STATE|as it is
"""
"""State × verb → the new status, the code of the refusal, or `as it is` when nothing happens to it."""

STATUS_OF = {
    "pending": "PENDING",
    "sent": "SENT",
    "settled": "SETTLED",
    "rejected": "REJECTED",
    "returned": "REJECTED",
}
_STEPS: dict[str, tuple[str, ...]] = {
    "pending": (),
    "sent": ("send",),
    "settled": ("send", "settle"),
    "rejected": ("send", "reject"),
    "returned": ("send", "settle", "reject"),
}
MONEY = {
    "pending": (0, 52_00, 0, 0),
    "sent": (0, 52_00, 0, 0),
    "settled": (0, 0, 50_70, 1_30),
    "rejected": (52_00, 0, 0, 0),
    "returned": (52_00, 0, 0, 0),
}
"""What is owed to the merchant, what is on its way there, what the bank has paid and what is kept, in cents: of a
payment of 40,00 € and an invoice of 12,00 €, less 2,5 % of each."""


@dataclass
class Stage:
    """The agency, and a member who pays and buys at one new merchant after the other."""

    world: World
    running: Running
    agency: Client
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def merchant(self) -> str:
        """A new merchant's code; a payment and an invoice are due to it."""
        code, world = f"M{next(self.numbers)}", self.world
        merchant = await world.merchant(code, f"Commerce {code}", {f"P{code}": "Accueil"})
        signatory = await world.user(code, Role.MERCHANT_MANAGER, merchant=code)
        member = world.users["membre"]
        asked = await perform(
            world.database,
            signatory,
            payments.create,
            point_of_sale_id=world.places[f"P{code}"].id,
            amount="40,00",
            basket_number="B",
        )
        assert isinstance(asked, PaymentRequest)
        await perform(world.database, member, payments.pay, asked.token)
        voucher = await perform(world.database, member, vouchers.request, supplier_id=merchant.id, amount="12,00")
        assert isinstance(voucher, Voucher)
        await perform(world.database, member, vouchers.reveal, voucher.id, key_of_code=world.secret_keys[0])
        voucher = await perform(world.database, member, vouchers.deliver, voucher.id)
        assert isinstance(voucher, Voucher)
        await perform(
            world.database,
            signatory,
            vouchers.record_invoice,
            voucher_number=str(voucher.number),
            code=TypedCode(world.code_of(voucher), world.secret_keys),
            invoice_number="F",
            amount="12,00",
        )
        return code

    async def reach(self, state: str) -> tuple[str, str]:
        """A new merchant, and its reimbursement, brought into the state."""
        code = await self.merchant()
        await run(self.world, self.agency)
        reimbursement = global_id(Reimbursement.prefix, self.world.tenant, await newest(self.world, code))
        for verb in _STEPS[state]:
            assert await self.outcome(verb, code, reimbursement) in set(ReimbursementStatus), verb
        return code, reimbursement

    async def outcome(self, verb: str, code: str, reimbursement: str) -> str:
        """What comes of a verb: the new status, the code of a refusal, or `as it is`."""
        before = await self.read(reimbursement)
        if verb == "send":
            # A first account is not held: the next run sends what waits for it.
            await give_account(self.world, code, self.world.users[code])
            await run(self.world, self.agency)
        else:
            said = await answer(self.world, self.agency, reimbursement, rejected=verb == "reject")
            if said["__typename"] == "Refusal":
                assert await self.read(reimbursement) == before
                return str(said["code"])
        after = await self.read(reimbursement)
        return "as it is" if after == before else str(after["status"])

    async def read(self, reimbursement: str, by: Client | None = None) -> dict[str, Any]:
        """As it is now."""
        shown = "id status statusLabel sentAt settledAt rejectionReason net { amount } lines { totalCount }"
        document = f"query ($id: ID!) {{ node(id: $id) {{ ... on Reimbursement {{ {shown} }} }} }}"
        found: dict[str, Any] = (await (by or self.agency).ask(document, id=reimbursement))["node"]
        return found

    async def money(self, code: str) -> tuple[int, int, int, int]:
        """What MONEY says of a merchant and the issuer."""
        merchant, world = self.world.merchants[code].id, self.world
        ((issuer,),) = await world.as_owner("SELECT id FROM issuers WHERE tenant = $1", world.tenant)
        owed, on_its_way = await world.total(merchant, "MERCHANT"), await world.total(merchant, "TRANSIT")
        return owed, on_its_way, await world.total(issuer, "BANK"), await world.total(issuer, "COMMISSION")

    async def voucher(self, code: str) -> str:
        """The status of the voucher that was used at the merchant."""
        asked = "SELECT status FROM vouchers WHERE tenant = $1 AND supplier_id = $2"
        ((status,),) = await self.world.as_owner(asked, self.world.tenant, self.world.merchants[code].id)
        return str(status)


@pytest.fixture(scope="module")
async def stage(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """The cast, once for the whole table."""
    async with connections(servers) as database, audited(servers, database) as world, AsyncExitStack() as stack:
        await prepare(world)
        await world.voucher_kind()
        await world.member("44001234B", "Martin", wallet="5000,00")
        await world.user("membre", Role.HOLDER, holder="44001234B")
        await world.user("agence", Role.ISSUER_AGENT)
        yield Stage(world, running, await stack.enter_async_context(await running.client(world, "agence")))


def _read(table: str) -> dict[str, dict[str, str]]:
    head, *lines = ([cell.strip() for cell in line.split("|")] for line in table.strip("\n").splitlines())
    assert tuple(head[1:]) == VERBS
    return {line[0]: dict(zip(VERBS, line[1:], strict=True)) for line in lines}


def test_the_tables_name_every_verb_and_every_status() -> None:
    assert set(reimbursements.LIFE.verbs) == {*VERBS, "return"}
    assert set(STATUS_OF.values()) == set(ReimbursementStatus)
    assert set(_read(TABLE)) == set(STATUS_OF) == set(_STEPS) == set(MONEY)


@pytest.mark.parametrize("state", STATUS_OF)
async def test_every_verb(stage: Stage, state: str) -> None:
    found = {}
    for verb, expected in _read(TABLE)[state].items():
        code, reimbursement = await stage.reach(state)
        assert (await stage.read(reimbursement))["status"] == STATUS_OF[state]
        money = await stage.money(code)
        found[verb] = await stage.outcome(verb, code, reimbursement)
        if verb != "send" and expected not in set(ReimbursementStatus):
            assert await stage.money(code) == money, verb
    assert found == _read(TABLE)[state]


@pytest.mark.parametrize("state", STATUS_OF)
async def test_where_the_money_and_the_voucher_are(stage: Stage, state: str) -> None:
    *_, paid, kept = await stage.money(await stage.merchant())
    code, reimbursement = await stage.reach(state)
    owed, on_its_way, paid_then, kept_then = await stage.money(code)
    assert (owed, on_its_way, paid_then - paid, kept_then - kept) == MONEY[state]
    assert await stage.voucher(code) == ("SETTLED" if state == "settled" else "INVOICED")
    async with await stage.running.client(stage.world, code) as signatory:
        assert await stage.read(reimbursement, signatory) == await stage.read(reimbursement)


async def test_what_was_rejected_is_reimbursed_anew_and_once(stage: Stage) -> None:
    for state in ("rejected", "returned"):
        code, reimbursement = await stage.reach(state)
        await run(stage.world, stage.agency)
        again = global_id(Reimbursement.prefix, stage.world.tenant, await newest(stage.world, code))
        assert again != reimbursement
        assert await stage.outcome("settle", code, again) == "SETTLED"
        assert (await stage.money(code))[:2] == (0, 0)
        assert await stage.voucher(code) == "SETTLED"
