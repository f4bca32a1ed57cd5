"""What several devices do to the same request, number, key or wallet at the same instant, a few hundred times each,
through an API of two processes."""

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain import payments
from domain.access import Actor, Right, Role
from domain.parties import credit_holder
from domain.payments import PaymentRequest
from domain.work import perform
from escarcelle.clients import Client
from tests.world import Running, Servers, World, serving

pytestmark = pytest.mark.anyio

LANES = 8
ROUNDS = 400
FEWER_ROUNDS = 200
WALLET = 2_000_00
AMOUNT = 20_00

ASKED = "... on PaymentRequest { id status basketNumber transactionNumber amountRequested { amount } qrCode { url } }"
PAID = "... on PaymentOffer { token status amountPaid { amount } allowedActions }"
CANCELLED = "... on PaymentRequest { id status }"


@pytest.fixture(scope="module")
def two_processes(servers: Servers) -> Iterator[Running]:
    """The API in two processes that share a port, so that nothing in one process's memory can decide a race."""
    with serving(servers, processes=2) as running:
        yield running


@pytest.fixture
def chance() -> random.Random:
    """Chance from a seed that is printed; ESCARCELLE_TEST_SEED repeats it."""
    seed = int(os.environ.get("ESCARCELLE_TEST_SEED") or secrets.randbits(32))
    print(f"ESCARCELLE_TEST_SEED={seed}")
    return random.Random(seed)


@dataclass
class Lane:
    """A point of sale with two tills, and two customers; what happens in one lane happens one after the other."""

    name: str
    tills: list[Client]
    customers: list[Client]


@dataclass
class Crowd:
    """One merchant with eight lanes, which run at the same time."""

    world: World
    api: Running
    lanes: list[Lane]
    chance: random.Random
    devices: AsyncExitStack

    @classmethod
    async def gather(cls, world: World, api: Running, chance: random.Random, devices: AsyncExitStack) -> "Crowd":
        """Everyone, signed in."""
        names = [f"P{n}" for n in range(1, LANES + 1)]
        crowd = cls(world, api, [], chance, devices)
        await world.merchant("CK", "Canoë Kayak Club", dict.fromkeys(names, "Base nautique"))
        for name in names:
            tills = [await crowd._till(name, which) for which in "ab"]
            customers = [await crowd.customer(f"{name}-{which}", "2000,00") for which in "ab"]
            crowd.lanes.append(Lane(name, tills, customers))
        return crowd

    async def customer(self, reference: str, wallet: str) -> Client:
        """A customer with that much in the wallet, and a device."""
        await self.world.holder(reference, "Durand", wallet)
        await self.world.user(reference, Role.HOLDER, holder=reference)
        return await self.device(reference)

    async def device(self, login: str) -> Client:
        """One more device of a user."""
        return await self.devices.enter_async_context(await self.api.client(self.world, login))

    async def ask(self, lane: Lane, number: int | str, amount: str = "20,00") -> PaymentRequest:
        """A request at the lane's point of sale, made beside the API."""
        request = await perform(
            self.world.database,
            self.world.users[f"till-{lane.name}-a"],
            payments.create,
            point_of_sale_id=self.world.places[lane.name].id,
            amount=amount,
            basket_number=f"panier {number}",
        )
        assert isinstance(request, PaymentRequest)
        return request

    async def in_lanes(self, play: Callable[[Lane, int], Awaitable[None]], rounds: int = ROUNDS) -> None:
        """So many rounds, shared among the lanes."""

        async def run(lane: Lane) -> None:
            for number in range(rounds // LANES):
                await play(lane, number)

        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                group.create_task(run(lane))

    async def at_once(self, *deeds: Callable[[], Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Their answers, in the order given; they are sent in any order."""
        order = self.chance.sample(range(len(deeds)), len(deeds))
        answers = await asyncio.gather(*(deeds[at]() for at in order))
        return [answer for _, answer in sorted(zip(order, answers, strict=True), key=lambda pair: pair[0])]

    async def count(self, table: str, where: str = "true") -> int:
        """How many rows of this issuer."""
        rows = await self.world.as_owner(
            f"SELECT count(*) AS rows FROM {table} WHERE tenant = $1 AND {where}", self.world.tenant
        )
        return int(rows[0]["rows"])

    async def collected(self) -> int:
        """What the merchant has received, in cents."""
        return await self.world.total(self.world.merchants["CK"].id, "MERCHANT")

    async def _till(self, place: str, which: str) -> Client:
        login = f"till-{place}-{which}"
        rights = frozenset({Right.COLLECT, Right.VALIDATE})
        await self.world.user(login, Role.MERCHANT_STAFF, merchant="CK", grants={place: rights})
        return await self.device(login)


@pytest.fixture
async def crowd(world: World, two_processes: Running, chance: random.Random) -> AsyncIterator[Crowd]:
    """Eight lanes, in a world that is audited in the end."""
    async with AsyncExitStack() as devices:
        yield await Crowd.gather(world, two_processes, chance, devices)


def paying(by: Client, request: PaymentRequest, **more: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A payment to be sent."""
    return lambda: by.do("payPaymentRequest", PAID, token=request.token, **more)


def asking(till: Client, place: str, number: str, **more: Any) -> Callable[[], Awaitable[dict[str, Any]]]:
    """A request to be made."""
    given = {"pointOfSaleId": place, "amount": "20,00", "basketNumber": number}
    return lambda: till.do("createPaymentRequest", ASKED, **given, **more)


def outcome(answer: dict[str, Any]) -> str:
    """The new status, or the code of the refusal."""
    return str(answer["code"] if answer["__typename"] == "Refusal" else answer["status"])


async def test_two_customers_pay_the_same_request(crowd: Crowd) -> None:
    wins: Counter[str] = Counter()

    async def play(lane: Lane, number: int) -> None:
        request = await crowd.ask(lane, number)
        answers = await crowd.at_once(*(paying(customer, request) for customer in lane.customers))
        outcomes = [outcome(answer) for answer in answers]
        assert sorted(outcomes) == ["VALIDATED", "WRONG_STATE"]
        wins[f"{lane.name}-{'ab'[outcomes.index('VALIDATED')]}"] += 1

    await crowd.in_lanes(play)
    assert {winner[-1] for winner in wins} == {"a", "b"}, "each won sometimes"
    for reference in crowd.world.holders:
        assert await crowd.world.wallet(reference) == WALLET - wins[reference] * AMOUNT
    assert await crowd.collected() == ROUNDS * AMOUNT


async def test_one_key_four_times_pays_once(crowd: Crowd) -> None:
    devices = {
        lane.name: [lane.customers[0], *[await crowd.device(f"{lane.name}-a") for _ in range(3)]]
        for lane in crowd.lanes
    }

    async def play(lane: Lane, number: int) -> None:
        request = await crowd.ask(lane, number)
        answers = await crowd.at_once(
            *(
                paying(device, request, amount="12,50", idempotencyKey=f"paiement {number}")
                for device in devices[lane.name]
            )
        )
        assert outcome(answers[0]) == "VALIDATED"
        assert answers == [answers[0]] * 4

    await crowd.in_lanes(play)
    for lane in crowd.lanes:
        assert await crowd.world.wallet(f"{lane.name}-a") == WALLET - ROUNDS // LANES * 12_50
    assert await crowd.collected() == ROUNDS * 12_50
    assert await crowd.count("journal", "kind = 'preq.pay'") == ROUNDS


async def test_one_key_four_times_asks_once(crowd: Crowd) -> None:
    devices = {
        lane.name: [lane.tills[0], *[await crowd.device(f"till-{lane.name}-a") for _ in range(3)]]
        for lane in crowd.lanes
    }

    async def play(lane: Lane, number: int) -> None:
        place = crowd.world.places[lane.name].global_id
        answers = await crowd.at_once(
            *(
                asking(device, place, f"panier {number}", idempotencyKey=f"demande {number}")
                for device in devices[lane.name]
            )
        )
        assert outcome(answers[0]) == "AWAITING_PAYMENT"
        assert answers == [answers[0]] * 4

    await crowd.in_lanes(play)
    assert await crowd.count("payment_requests") == ROUNDS
    assert await crowd.count("deadlines") == ROUNDS


async def test_AP4_two_tills_want_the_same_basket_number(crowd: Crowd) -> None:
    winners: Counter[str] = Counter()

    async def play(lane: Lane, number: int) -> None:
        place = crowd.world.places[lane.name].global_id
        answers = await crowd.at_once(*(asking(till, place, f"panier {number}") for till in lane.tills))
        outcomes = [outcome(answer) for answer in answers]
        assert sorted(outcomes) == ["ALREADY_EXISTS", "AWAITING_PAYMENT"]
        winners["ab"[outcomes.index("AWAITING_PAYMENT")]] += 1

    await crowd.in_lanes(play)
    assert set(winners) == {"a", "b"}
    assert await crowd.count("payment_requests") == ROUNDS


async def test_AP5_pay_cancel_and_expire_at_the_deadline(crowd: Crowd) -> None:
    """Each volley is eight requests with one deadline, which the issuer's clock reaches while they are acted upon."""
    world, system = crowd.world, Actor(crowd.world.tenant)
    asked_at = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
    deadline = asked_at + timedelta(minutes=15)
    endings: Counter[str] = Counter()
    lost: Counter[str] = Counter()

    async def soon(seconds: float = 0.08) -> None:
        await asyncio.sleep(crowd.chance.uniform(0, seconds))

    async def play(lane: Lane, request: PaymentRequest, reached: asyncio.Event) -> None:
        async def pay() -> dict[str, Any]:
            await soon()
            return await paying(lane.customers[0], request)()

        async def cancel() -> dict[str, Any]:
            await soon()
            return await lane.tills[0].do("cancelPaymentRequest", CANCELLED, id=request.global_id)

        async def expire() -> dict[str, Any]:
            await reached.wait()
            moved = await perform(world.database, system, payments.expire, request.id)
            return {"__typename": "PaymentRequest", "status": "EXPIRED" if moved else "UNTOUCHED"}

        paid, cancelled, expired = map(outcome, await crowd.at_once(pay, cancel, expire))
        won = {"VALIDATED": paid, "CANCELLED": cancelled, "EXPIRED": expired}
        winners = [status for status, said in won.items() if said == status]
        assert len(winners) == 1, won
        losers = {said for status, said in won.items() if said != status}
        assert losers <= {"WRONG_STATE", "TOO_LATE", "UNTOUCHED"}
        rows = await world.as_owner("SELECT status FROM payment_requests WHERE id = $1", request.id)
        assert rows[0]["status"] == winners[0]
        endings[winners[0]] += 1
        lost.update(losers)

    async def move_the_clock(reached: asyncio.Event) -> None:
        await soon(0.04)
        await world.freeze(deadline)
        reached.set()

    for volley in range(4 * FEWER_ROUNDS // LANES):
        # Which of them is first is chance: on with it until each has been.
        if volley >= FEWER_ROUNDS // LANES and (len(endings), len(lost)) == (3, 3):
            break
        await world.freeze(asked_at)
        requests = [await crowd.ask(lane, volley) for lane in crowd.lanes]
        await world.freeze(deadline - timedelta(microseconds=1))
        reached = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for lane, request in zip(crowd.lanes, requests, strict=True):
                group.create_task(play(lane, request, reached))
            group.create_task(move_the_clock(reached))

    print(dict(endings), dict(lost))
    assert set(endings) == {"VALIDATED", "CANCELLED", "EXPIRED"}, "each won sometimes"
    assert set(lost) == {"WRONG_STATE", "TOO_LATE", "UNTOUCHED"}
    assert await crowd.collected() == endings["VALIDATED"] * AMOUNT
    assert await crowd.count("deadlines") == 0


async def test_a_wallet_that_holds_enough_for_one(crowd: Crowd) -> None:
    poor = {lane.name: await crowd.customer(f"pauvre-{lane.name}", "30,00") for lane in crowd.lanes}
    phones = {lane.name: await crowd.device(f"pauvre-{lane.name}") for lane in crowd.lanes}

    async def play(lane: Lane, number: int) -> None:
        requests = [await crowd.ask(lane, f"{number} {which}") for which in "ab"]
        devices = (poor[lane.name], phones[lane.name])
        answers = await crowd.at_once(*(paying(by, r) for by, r in zip(devices, requests, strict=True)))
        assert sorted(map(outcome, answers)) == ["INSUFFICIENT_FUNDS", "VALIDATED"]
        reference = f"pauvre-{lane.name}"
        assert await crowd.world.wallet(reference) == 10_00
        holder = crowd.world.holders[reference]
        await perform(crowd.world.database, crowd.world.system, credit_holder, holder.id, "20,00", "aide")

    await crowd.in_lanes(play, FEWER_ROUNDS)
    assert await crowd.collected() == FEWER_ROUNDS * AMOUNT


async def test_sixty_customers_pay_one_merchant(crowd: Crowd) -> None:
    customers = {f"client {n}": await crowd.customer(f"client {n}", "500,00") for n in range(60)}
    spent: Counter[str] = Counter()
    for turn in range(3):
        amounts = {reference: crowd.chance.randint(1, 40_00) for reference in customers}
        requests = await asyncio.gather(
            *(crowd.ask(crowd.lanes[n % LANES], f"{turn} {n}", "40,00") for n in range(len(customers)))
        )
        answers = await crowd.at_once(
            *(
                paying(customers[reference], request, amount=f"{amounts[reference] / 100:.2f}")
                for reference, request in zip(customers, requests, strict=True)
            )
        )
        assert [outcome(answer) for answer in answers] == ["VALIDATED"] * len(customers)
        spent.update(amounts)
    for reference in customers:
        assert await crowd.world.wallet(reference) == 500_00 - spent[reference]
    assert await crowd.collected() == spent.total()
