"""Runs of reimbursements that nobody asks for: each merchant is paid in time for its issuer's terms."""

import asyncio
from datetime import UTC, date, datetime

import pytest

from domain import messages
from domain.access import Actor
from domain.calendar import PARIS
from domain.reimbursements import RUN_HOUR, ReimbursedFlow
from domain.work import perform
from escarcelle import database as escarcelle_database
from tests.flows.cast import Cast as Payments
from tests.flows.test_reimbursements import FILES, INN_IBAN, Cast, begun
from tests.world import Running, World

pytestmark = pytest.mark.anyio

_CLOCK = "... on Issuer { now }"
_JOBS = "SELECT status FROM jobs WHERE tenant = $1 AND kind = 'RUN_REIMBURSEMENTS' ORDER BY created_at, id"


@pytest.fixture
async def cast(cast: Payments, world: World, running: Running) -> Cast:
    """Everyone on Monday, 2 November 2026, at ten; runs begin by themselves, and the canoe club has a bank account."""
    cast_of_reimbursements = await begun(cast, world, running)
    await cast_of_reimbursements.account()
    await world.as_owner(
        "UPDATE users SET email = 'caisse@agence.example' WHERE tenant = $1 AND login = 'agent'", world.tenant
    )
    next_run_on = await escarcelle_database.put_reimbursement_runs(world.servers.settings, world.slug, automatic=True)
    assert next_run_on == date(2026, 11, 3)
    return cast_of_reimbursements


async def pass_days(cast: Cast, days: int) -> int:
    """So many days later: how many runs have begun until then, all done."""
    for _ in range(days):
        assert "now" in await cast.agency.do("advanceClock", _CLOCK, days=1)
    runs = await cast.world.as_owner(_JOBS, cast.world.tenant)
    async with asyncio.timeout(30):
        while any(status != "DONE" for (status,) in runs):
            await asyncio.sleep(0.05)
            runs = await cast.world.as_owner(_JOBS, cast.world.tenant)
    return len(runs)


async def made(cast: Cast) -> list[tuple[str, str, str, str]]:
    """What was reimbursed, oldest first: status, amount, last day, when it is to be paid."""
    return [
        (each["status"], each["gross"]["amount"], each["periodEnd"], each["dueOn"])
        for each in reversed(await cast.all())
    ]


async def test_P30_a_run_begins_by_itself_in_time_for_what_the_terms_promise(cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    assert await pass_days(cast, 1) == 1, "Tuesday's"
    await cast.collect("20,00", "REF2")
    assert await pass_days(cast, 2) == 3, "until Thursday"
    assert await made(cast) == [], "Monday's payment is promised for Monday, and can wait for Friday's run"

    assert await pass_days(cast, 1) == 4
    # What is not urgent goes with what is: one transfer instead of two.
    assert await made(cast) == [("SENT", "60.00", "2026-11-05", "2026-11-09")]
    (file,) = (await cast.agency.ask(FILES))["transferFiles"]["nodes"]
    assert (file["transfers"], file["total"]["amount"]) == (1, "58.50")
    mail = await cast.running.mail("caisse@agence.example", file["reference"])
    assert "58,50" in mail["text"]

    assert await pass_days(cast, 2) == 4, "none on Saturday and Sunday"
    assert await pass_days(cast, 1) == 5
    assert len(await made(cast)) == 1


async def test_P30_each_flows_own_delay_decides(cast: Cast) -> None:
    settings, slug = cast.world.servers.settings, cast.world.slug
    keeps = ReimbursedFlow.PAYMENT_REQUESTS
    await escarcelle_database.put_terms(settings, slug, keeps, date(2026, 11, 3), "0", 1)
    await cast.collect("40,00", "REF1")
    await pass_days(cast, 1)
    assert await made(cast) == []
    await cast.collect("20,00", "REF2")
    await pass_days(cast, 1)
    assert await made(cast) == [("SENT", "60.00", "2026-11-03", "2026-11-05")], "one business day since Tuesday"


async def test_whom_the_bank_has_refused_is_told_and_passed_over_until_somebody_acts(cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    await pass_days(cast, 4)
    (sent,) = await cast.all()
    await cast.settle(sent, rejected=True, bankReference="Compte clos")
    mail = await cast.running.mail(f"signataire@{cast.world.slug}.example", sent["reference"])
    assert "Compte clos" in mail["text"]
    assert "39,00" in mail["text"]
    assert "se termine par 0189" in mail["text"]

    await pass_days(cast, 4)
    assert [status for status, *_ in await made(cast)] == ["REJECTED"], "the same account would be refused again"

    await cast.account(iban=INN_IBAN)
    await pass_days(cast, 1)
    assert [status for status, *_ in await made(cast)] == ["REJECTED", "PENDING"], "so that the merchant can object"
    await pass_days(cast, 1)
    assert [status for status, *_ in await made(cast)] == ["REJECTED", "SENT"]


async def test_what_somebody_has_had_paid_since_goes_by_itself_again(cast: Cast) -> None:
    await cast.collect("40,00", "REF1")
    await pass_days(cast, 4)
    (sent,) = await cast.all()
    await cast.settle(sent, rejected=True)
    await cast.run("2026-11-06")
    again = (await cast.all())[0]
    await pass_days(cast, 1)
    assert (await cast.settle(again))["status"] == "SETTLED"
    await cast.collect("20,00", "REF2")
    await pass_days(cast, 6)
    assert [status for status, *_ in await made(cast)] == ["REJECTED", "SETTLED", "SENT"]


async def test_without_an_account_to_pay_from_nothing_begins_until_there_is_one(cast: Cast) -> None:
    rows = await cast.world.as_owner("DELETE FROM paying_accounts WHERE tenant = $1 RETURNING *", cast.world.tenant)
    await cast.collect("40,00", "REF1")
    assert await pass_days(cast, 4) == 0
    await cast.world.as_owner(
        "INSERT INTO paying_accounts (tenant, iban, account_holder) VALUES ($1, $2, $3)",
        cast.world.tenant, rows[0]["iban"], rows[0]["account_holder"],
    )  # fmt: skip
    assert await pass_days(cast, 3) == 1
    assert await made(cast) == [("SENT", "40.00", "2026-11-08", "2026-11-10")]


async def test_a_morning_has_one_run_however_often_it_is_fired_and_none_by_hand(cast: Cast) -> None:
    world = cast.world
    ((schedule,),) = await world.as_owner("SELECT id FROM reimbursement_schedules WHERE tenant = $1", world.tenant)
    fire = (messages.fire, "rsch", schedule, "run")
    await asyncio.gather(*(perform(world.database, Actor(world.tenant), *fire) for _ in range(3)))
    assert await world.as_owner(_JOBS, world.tenant) == [], "it is Monday, ten o'clock"

    await world.freeze(datetime(2026, 11, 3, RUN_HOUR, tzinfo=PARIS).astimezone(UTC))
    await asyncio.gather(*(perform(world.database, Actor(world.tenant), *fire) for _ in range(3)))
    assert len(await world.as_owner(_JOBS, world.tenant)) == 1

    await escarcelle_database.put_reimbursement_runs(world.servers.settings, world.slug, automatic=False)
    assert await pass_days(cast, 3) == 1
