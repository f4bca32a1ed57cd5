"""Some days of March 2026 at an issuer, played through the API: what they leave is known to the cent.

2 March, 9:00   two customers have 100,00 € and 25,00 €
        10:00   40,00 € asked for at P001, 30,00 € paid at once
        10:30   50,00 € asked for at P001 with two days to validate, and paid
        10:40   20,00 € asked for at P002 with two days to validate, and paid
        10:50   25,00 € asked for at P001, which nobody pays
        11:00   vouchers of 120, 80 and 60 €; the second is presented, the third taken back
3 March, 15:00  45,00 of the 50,00 € are validated; the voucher of 80 € is invoiced at 75,50 €; one of 100 € is
                presented and invoiced at 110,00 €, whose excess is paid
6 March, 10:00  what nobody validated goes back, a day and ten hours after its days were over"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from domain import payments
from domain.calendar import PARIS
from domain.codes import read_global_id
from domain.settings import Settings
from domain.work import perform
from reporting import copy
from tests.flows import cast as of_payments
from tests.flows import test_vouchers as of_vouchers
from tests.world import Running, World


def paris(month: int, day: int, hour: int, minute: int = 0) -> datetime:
    """What a clock on a wall in Paris says in 2026."""
    return datetime(2026, month, day, hour, minute, tzinfo=PARIS).astimezone(UTC)


FIRST_NOON, SECOND_EVENING, BEFORE_THE_SWEEP, THE_COPY = (
    paris(3, 2, 12), paris(3, 3, 18), paris(3, 5, 12), paris(3, 6, 12),
)  # fmt: skip
"""Instants that are asked about; the last is the copy's."""


@dataclass(frozen=True, slots=True)
class Played:
    """The issuer, and the folder of its store."""

    world: World
    folder: Path
    club: UUID
    supplier: UUID
    member: UUID
    place: UUID

    @property
    def settings(self) -> Settings:
        """With that folder."""
        return self.world.servers.settings.model_copy(update={"reporting_folder": self.folder})

    @property
    def link(self) -> Path:
        """What an analyst opens."""
        return self.folder / f"TEST-{self.world.slug}.duckdb"


async def play(world: World, running: Running, folder: Path) -> Played:
    """All of it, and a copy on 6 March at noon."""
    await world.freeze(paris(3, 2, 9))
    async with of_payments.assembled(world, running) as club, of_vouchers.assembled(world, running) as federation:
        late = await _second_of_march(world, club, federation)
        await _third_of_march(world, club, federation, *late[:2])
        await world.freeze(paris(3, 6, 10))
        await perform(world.database, world.system, payments.expire, _id(late[2]))
        await world.freeze(THE_COPY)
        member = world.holders["44001234B"].id
    places = world.places
    played = Played(world, folder, world.merchants["708900"].id, world.merchants["MO"].id, member, places["P002"].id)
    (issuer,) = copy.issuers(played.settings, world.slug)
    assert copy.copy(played.settings, issuer) is not None
    return played


async def _second_of_march(world: World, club: of_payments.Cast, federation: of_vouchers.Cast) -> tuple[Any, ...]:
    await world.freeze(paris(3, 2, 10))
    await club.pay(await club.ask("40,00"), "30,00")
    await world.freeze(paris(3, 2, 10, 30))
    fifty = await club.ask("50,00", validationDays=2, customerIdentifier="ines")
    await club.pay(await _token(world, fifty))
    await world.freeze(paris(3, 2, 10, 40))
    there: dict[str, Any] = {"pointOfSaleId": world.places["P002"].global_id, "till": club.other_till}
    twenty = await club.ask("20,00", validationDays=2, customerIdentifier="eric", **there)
    await club.pay(await _token(world, twenty), by=club.eric)
    await world.freeze(paris(3, 2, 10, 50))
    await club.ask("25,00")
    await world.nothing_falls_due()
    await world.freeze(paris(3, 2, 11))
    await federation.request("120")
    eighty = await federation.delivered("80")
    sixty = await federation.request("60")
    await federation.agency.do("cancelVoucher", of_vouchers.VOUCHER, id=sixty["id"])
    return fifty, eighty, twenty


async def _third_of_march(
    world: World, club: of_payments.Cast, federation: of_vouchers.Cast, fifty: Any, eighty: Any
) -> None:
    await world.freeze(paris(3, 3, 15))
    await club.till.do("validatePaymentRequest", of_payments.REQUEST, id=fifty["id"], amount="45,00")
    await _invoice(federation, eighty, "75,50", "F-1")
    invoice = await _invoice(federation, await federation.delivered("100"), "110,00", "F-2")
    decide = {"supplierInvoiceId": invoice["id"], "decision": "PAID"}
    assert (await federation.agency.do("decideExcess", of_vouchers.INVOICE, **decide))["decision"] == "PAID"


async def _invoice(
    federation: of_vouchers.Cast, presented: tuple[dict[str, Any], str], amount: str, number: str
) -> dict[str, Any]:
    voucher, code = presented
    given = {"voucherNumber": voucher["number"], "secretCode": code, "invoiceNumber": number, "amount": amount}
    return await federation.supplier.do("recordSupplierInvoice", of_vouchers.INVOICE, **given)


async def _token(world: World, request: dict[str, Any]) -> str:
    """What stands in the link that the customer was sent."""
    ((token,),) = await world.as_owner("SELECT token FROM payment_requests WHERE id = $1", _id(request))
    return str(token)


def _id(request: dict[str, Any]) -> UUID:
    return read_global_id(request["id"])[2]
