"""Runs of reimbursements in the tables: what must be known before the first, and how one is awaited."""

import asyncio
from datetime import date
from typing import Any, Final
from uuid import UUID

from domain import bank_accounts
from domain.access import Actor
from domain.calendar import today
from domain.codes import read_global_id
from domain.parties import Address
from domain.reimbursements import ReimbursedFlow
from domain.work import perform
from escarcelle import database as escarcelle_database
from escarcelle.clients import Client
from tests.world import World

IBAN: Final = "FR7630006000011234567890189"
PAYING_IBAN: Final = "FR1420041010050500013M02606"
TOWN_HALL: Final = Address("1 place de l’Église", "45000", "Orléans")


async def prepare(world: World, percent: str = "2.5") -> None:
    """The account that the issuer pays from; of payment requests and vouchers it keeps that much of a hundred."""
    settings = world.servers.settings
    await escarcelle_database.put_paying_account(settings, world.slug, PAYING_IBAN, None, "Agence", TOWN_HALL)
    for flow in ReimbursedFlow:
        await escarcelle_database.put_terms(settings, world.slug, flow, date(2019, 1, 1), percent, 5)


async def give_account(world: World, merchant: str, by: Actor, holder: str = "Au bord du lac") -> None:
    """Someone says where the merchant is reimbursed to."""
    about = world.merchants[merchant].id
    await perform(world.database, by, bank_accounts.update, about, iban=IBAN, account_holder=holder)


async def run(world: World, agency: Client) -> None:
    """Everything due is reimbursed, and the file is made."""
    ((now,),) = await world.as_owner("SELECT tenant_clock($1)", world.tenant)
    job = await agency.do("runReimbursements", "... on Job { id }", through=today(now).isoformat())
    async with asyncio.timeout(30):
        while await _status(world, job) != "DONE":  # noqa: ASYNC110 — a worker does it
            await asyncio.sleep(0.05)


async def answer(
    world: World, agency: Client, reimbursement_id: str, *, rejected: bool = False, more: str = ""
) -> dict[str, Any]:
    """What the bank says, by hand; what follows from it has followed when this returns."""
    fields = f"... on Reimbursement {{ id status {more} }}"
    given = {"id": reimbursement_id, "bankReference": "B", "rejected": rejected}
    said = await agency.do("settleReimbursement", fields, **given)
    await followed(world)
    return said


async def followed(world: World) -> None:
    """Until every flow has heard what became of its reimbursements."""
    asked = "SELECT 1 FROM deadlines WHERE tenant = $1 AND name = 'follow'"
    async with asyncio.timeout(30):
        while await world.as_owner(asked, world.tenant):  # noqa: ASYNC110 — another process does it
            await asyncio.sleep(0.05)


async def newest(world: World, merchant: str) -> UUID:
    """The merchant's newest reimbursement."""
    asked = "SELECT id FROM reimbursements WHERE tenant = $1 AND merchant_id = $2 ORDER BY created_at DESC, id DESC"
    found: UUID = (await world.as_owner(asked, world.tenant, world.merchants[merchant].id))[0]["id"]
    return found


async def _status(world: World, job: dict[str, Any]) -> str:
    job_id = read_global_id(job["id"])[2]
    rows = await world.as_owner("SELECT status FROM jobs WHERE tenant = $1 AND id = $2", world.tenant, job_id)
    return str(rows[0]["status"])
