"""The cast of the voucher tables: a member, the agency and a supplier, whose clock stands still."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from domain import vouchers
from domain.access import Actor, Role
from domain.codes import global_id, read_global_id
from domain.reimbursements import Reimbursement
from domain.work import perform
from escarcelle.clients import Client
from tests.matrix import audited, connections
from tests.matrix.reimbursements import answer, give_account, newest, prepare, run
from tests.world import Running, Servers, World

VOUCHER = "... on Voucher { id status number presentation { revealedAt secretCode deliveredAt } }"
NOBODY_S_NUMBER = "W2026.XX.442.99999999"
REFERENCE = "44001234B"


@dataclass
class Stage:
    """Everyone, on a device of their own; the member has two."""

    world: World
    member: Client
    second_phone: Client
    agency: Client
    supplier: Client
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def request(self, at: datetime, amount: str = "12,00") -> dict[str, Any]:
        """A new voucher, taken at that instant."""
        await self.world.freeze(at)
        supplier = self.world.merchants["MO"].global_id
        return await self.member.do("requestVoucher", VOUCHER, supplierId=supplier, amount=amount)

    async def read(self, voucher: dict[str, Any], more: str = "", *, by: Client | None = None) -> dict[str, Any]:
        """The voucher as it is now."""
        document = f"query ($id: ID!) {{ node(id: $id) {{ {VOUCHER} ... on Voucher {{ status {more} }} }} }}"
        found: dict[str, Any] = (await (by or self.member).ask(document, id=voucher["id"]))["node"]
        return found

    async def outcome(self, verb: str, voucher: dict[str, Any], by: Client | None = None) -> str:
        """What one of them, or the clock, brings about: the status, the code of a refusal, or `nothing`."""
        if verb == "expire":
            done = await perform(
                self.world.database,
                Actor(self.world.tenant),
                vouchers.expire,
                read_global_id(voucher["id"])[2],
            )
            return str(done.status) if isinstance(done, vouchers.Voucher) else "nothing"
        if verb in ("verify", "invoice"):
            answer = await self._with_number_and_code(verb, voucher)
        else:
            mutation = {"reveal": "revealVoucherCode"}.get(verb, f"{verb}Voucher")
            of_the_agency = verb in ("cancel", "unblock")
            answer = await (by or (self.agency if of_the_agency else self.member)).do(
                mutation, VOUCHER, id=voucher["id"]
            )
        return str(answer["code"] if answer["__typename"] == "Refusal" else answer["status"])

    async def _with_number_and_code(self, verb: str, voucher: dict[str, Any]) -> dict[str, Any]:
        """At the counter: what the member shows there, or a number that nobody has while it shows none."""
        shown = await self.read(voucher)
        number = shown["number"] or NOBODY_S_NUMBER
        code = shown["presentation"]["secretCode"] if shown["presentation"] else "0000"
        if verb == "verify":
            return await self.supplier.do("verifyVoucher", VOUCHER, number=number, secretCode=code)
        recorded = await self.supplier.do(
            "recordSupplierInvoice",
            "... on SupplierInvoice { voucher { status } }",
            voucherNumber=number,
            secretCode=code,
            invoiceNumber=f"F-{next(self.numbers)}",
            amount="11,50",
        )
        return recorded if recorded["__typename"] == "Refusal" else recorded | recorded["voucher"]

    async def reimburse(self) -> None:
        """The supplier is paid what it has invoiced."""
        await run(self.world, self.agency)
        settled = await answer(self.world, self.agency, await self._newest())
        assert settled["status"] == "SETTLED"

    async def bring_back(self) -> None:
        """What it was paid last comes back from its bank."""
        returned = await answer(self.world, self.agency, await self._newest(), rejected=True)
        assert returned["status"] == "REJECTED"

    async def _newest(self) -> str:
        return global_id(Reimbursement.prefix, self.world.tenant, await newest(self.world, "MO"))

    async def money(self) -> dict[str, int]:
        """What is guaranteed for the member, what it owes, what is held for the supplier and owed to it; cents."""
        member, supplier = self.world.holders[REFERENCE].id, self.world.merchants["MO"].id
        return {
            "guaranteed": -await self.world.total(member, "GUARANTEE"),
            "debt": -await self.world.total(member, "DEBT"),
            "held": await self.world.total(supplier, "HELD"),
            "received": await self.world.total(supplier, "MERCHANT"),
        }


@asynccontextmanager
async def assembled(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """Everyone, signed in; audited in the end."""
    async with (
        connections(servers) as database,
        audited(servers, database) as world,
        AsyncExitStack() as stack,
    ):
        await world.voucher_kind()
        await prepare(world)
        await world.merchant("MO", "Matériaux de l’Ouest", {"C1": "Comptoir de Nantes"})
        await world.member(REFERENCE, "Martin")
        await world.user("membre", Role.HOLDER, holder=REFERENCE)
        await world.user("agence", Role.ISSUER_AGENT)
        await give_account(world, "MO", await world.user("mo", Role.MERCHANT_MANAGER, merchant="MO"))
        logins = ("membre", "membre", "agence", "mo")
        member, second_phone, agency, supplier = [
            await stack.enter_async_context(await running.client(world, login)) for login in logins
        ]
        yield Stage(world, member, second_phone, agency, supplier)
