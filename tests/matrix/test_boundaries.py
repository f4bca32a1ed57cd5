"""One microsecond before, at and after each deadline: what is read, and what may still be done; and who wins when all
try at once. On both nights that change the clocks, around a leap day and on an ordinary day, in Paris."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import Any

import pytest

from domain import payments
from domain.access import Actor
from domain.parties import credit_holder
from domain.payments import PaymentFlow, PaymentRequest
from domain.work import perform
from escarcelle.clients import Client
from tests.flows.cast import Cast, assembled
from tests.matrix import audited, connections, outcome
from tests.world import Running, Servers

pytestmark = pytest.mark.anyio

MICROSECOND = timedelta(microseconds=1)
INSTANTS = {"before": -MICROSECOND, "at": timedelta(0), "after": MICROSECOND}
AMOUNT = 20_00
VALIDATION_DAYS = 2

ENDS_OF_DAYS = {
    "2026-03-28": "2026-03-28T23:00:00+00:00",
    "2026-03-29": "2026-03-29T22:00:00+00:00",
    "2026-10-24": "2026-10-24T22:00:00+00:00",
    "2026-10-25": "2026-10-25T23:00:00+00:00",
    "2028-02-28": "2028-02-28T23:00:00+00:00",
    "2028-02-29": "2028-02-29T23:00:00+00:00",
    "2026-05-12": "2026-05-12T22:00:00+00:00",
}
"""A civil day in Paris → the instant at which it ends. The nights to 29 March and 25 October change the clocks."""

QUARTERS_OF_AN_HOUR = {
    "2026-03-28": ("2026-03-28T22:50:00+00:00", "2026-03-28T23:05:00+00:00"),  # over midnight
    "2026-03-29": ("2026-03-29T00:50:00+00:00", "2026-03-29T01:05:00+00:00"),  # 1:50 to 3:05
    "2026-10-24": ("2026-10-24T21:50:00+00:00", "2026-10-24T22:05:00+00:00"),
    "2026-10-25": ("2026-10-25T00:50:00+00:00", "2026-10-25T01:05:00+00:00"),  # 2:50 to 2:05
    "2028-02-28": ("2028-02-28T22:50:00+00:00", "2028-02-28T23:05:00+00:00"),
    "2028-02-29": ("2028-02-29T22:50:00+00:00", "2028-02-29T23:05:00+00:00"),
    "2026-05-12": ("2026-05-12T12:00:00+00:00", "2026-05-12T12:15:00+00:00"),
}
"""When an immediate request is made → when it can no longer be paid."""

SPECIAL_DAYS = ("2026-03-29", "2026-10-25", "2028-02-29")

BEFORE_PAYMENT = {
    "read": "AWAITING_PAYMENT",
    "pay": "paid",
    "validate": "WRONG_STATE",
    "cancel": "CANCELLED",
    "decline": "CANCELLED",
    "expire": "nothing",
}
BEFORE_VALIDATION = {
    "read": "TO_VALIDATE",
    "pay": "WRONG_STATE",
    "validate": "VALIDATED",
    "cancel": "CANCELLED",
    "decline": "WRONG_STATE",
    "expire": "nothing",
}
TOO_LATE = {
    "read": "EXPIRED",
    "pay": "TOO_LATE",
    "validate": "TOO_LATE",
    "cancel": "TOO_LATE",
    "decline": "TOO_LATE",
    "expire": "EXPIRED",
}


@dataclass(frozen=True)
class Deadline:
    """A deadline of a flow's life: when the request is made, paid at that instant where `paid`, and when it lapses."""

    flow: PaymentFlow
    asked_at: datetime
    due_on: date | None
    paid: bool
    instant: datetime

    @property
    def has_window(self) -> bool:
        """Whether the merchant validates."""
        return self.flow in (PaymentFlow.IMMEDIATE_WITH_VALIDATION, PaymentFlow.DEFERRED_WITH_VALIDATION)

    @property
    def before(self) -> dict[str, str]:
        """What is read and may be done up to the last microsecond."""
        if self.paid:
            return BEFORE_VALIDATION
        return BEFORE_PAYMENT | {"pay": "TO_VALIDATE" if self.has_window else "VALIDATED"}


def _deadlines() -> dict[str, Deadline]:
    found = {}
    for day, end in ENDS_OF_DAYS.items():
        noon = datetime.combine(date.fromisoformat(day) - timedelta(days=VALIDATION_DAYS), time(12), UTC)
        for flow in PaymentFlow:
            deferred = flow in (PaymentFlow.DEFERRED, PaymentFlow.DEFERRED_WITH_VALIDATION)
            due_on = date.fromisoformat(day) if deferred else None
            asked, lapses = (noon.isoformat(), end) if deferred else QUARTERS_OF_AN_HOUR[day]
            payment = Deadline(
                flow, datetime.fromisoformat(asked), due_on, paid=False, instant=datetime.fromisoformat(lapses)
            )
            if not payment.has_window or day in SPECIAL_DAYS:
                found[f"pay {flow} {day}"] = payment
            if payment.has_window and (not deferred or day in SPECIAL_DAYS):
                found[f"validate {flow} {day}"] = Deadline(
                    flow, noon, due_on, paid=True, instant=datetime.fromisoformat(end)
                )
    return found


DEADLINES = _deadlines()
RACED = [
    name for name, deadline in DEADLINES.items() if name[-10:] in SPECIAL_DAYS and deadline.paid is deadline.has_window
]
"""Where a window follows the payment, a payment and a cancellation may both succeed, one after the other."""


@dataclass
class Stage:
    """The cast, whose clock stands still."""

    cast: Cast
    system: Actor
    numbers: "count[int]"

    async def requests(self, deadline: Deadline, how_many: int) -> list[PaymentRequest]:
        """New requests with that deadline before them, paid where it is one to validate."""
        world = self.cast.world
        await world.freeze(deadline.asked_at)
        made = []
        for _ in range(how_many):
            request = await perform(
                world.database,
                world.users["p001"],
                payments.create,
                point_of_sale_id=world.places["P001"].id,
                amount="20,00",
                basket_number=f"panier {next(self.numbers)}",
                customer_identifier=None if deadline.flow is PaymentFlow.IMMEDIATE else "ines@example.com",
                payment_deadline=deadline.due_on,
                validation_days=VALIDATION_DAYS if deadline.has_window else None,
            )
            assert isinstance(request, PaymentRequest)
            assert request.flow is deadline.flow
            if deadline.paid:
                paid = await perform(world.database, world.users["ines"], payments.pay, request.token)
                assert isinstance(paid, PaymentRequest)
                request = paid
            lapses_at = request.validation_deadline if deadline.paid else request.payment_deadline
            assert lapses_at == deadline.instant
            made.append(request)
        return made

    async def do(self, verb: str, request: PaymentRequest, by: Client | None = None) -> str:
        """The new status, the code of the refusal, or `nothing`."""
        if verb == "expire":
            expired = await perform(self.cast.world.database, self.system, payments.expire, request.id)
            return str(expired.status) if isinstance(expired, PaymentRequest) else "nothing"
        if verb in ("pay", "decline"):
            return await outcome(by or self.cast.ines, f"{verb}PaymentRequest", token=request.token)
        return await outcome(by or self.cast.till, f"{verb}PaymentRequest", id=request.global_id)

    async def read(self, request: PaymentRequest) -> str:
        """The status, wherever it is shown: on both sides, in the list's filter, and in its counters."""
        conditions = {"basketNumber": request.basket_number}
        seen = await self.cast.till.ask(
            "query ($id: ID!, $token: String!, $filter: PaymentRequestFilter) {"
            " node(id: $id) { ... on PaymentRequest { status allowedActions } }"
            " paymentOffer(token: $token) { status allowedActions }"
            " paymentRequests(filter: $filter) { nodes { status } counters { toValidate awaitingPayment } } }",
            id=request.global_id,
            token=request.token,
            filter=conditions,
        )
        status = str(seen["node"]["status"])
        listed = seen["paymentRequests"]
        assert seen["paymentOffer"]["status"] == status
        assert listed == {
            "nodes": [{"status": status}],
            "counters": {
                "toValidate": int(status == "TO_VALIDATE"),
                "awaitingPayment": int(status == "AWAITING_PAYMENT"),
            },
        }
        if status == "EXPIRED":
            assert seen["node"]["allowedActions"] == seen["paymentOffer"]["allowedActions"] == []
        only = await self.cast.till.ask(
            "query ($filter: PaymentRequestFilter) { paymentRequests(filter: $filter) { totalCount } }",
            filter=conditions | {"status": [status]},
        )
        assert only["paymentRequests"]["totalCount"] == 1
        return status

    async def money(self) -> dict[str, int]:
        """What Inès has, what is held for the merchant, and what it has received; cents."""
        merchant = self.cast.world.merchants["708900"].id
        return {
            "wallet": await self.cast.world.wallet("ines"),
            "held": await self.cast.world.total(merchant, "HELD"),
            "received": await self.cast.world.total(merchant, "MERCHANT"),
        }


@pytest.fixture(scope="module")
async def stage(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """The cast, once for all instants."""
    async with connections(servers) as database, audited(servers, database) as world, assembled(world, running) as cast:
        for _ in range(3):
            await perform(database, world.system, credit_holder, world.holders["ines"].id, "10000,00", "aide")
        yield Stage(cast, Actor(world.tenant), count(1))


@pytest.mark.parametrize("name", DEADLINES)
async def test_what_may_be_done_around_the_instant(stage: Stage, name: str) -> None:
    deadline = DEADLINES[name]
    requests = iter(await stage.requests(deadline, 4 + 2 + 2))
    for side, shift in INSTANTS.items():
        await stage.cast.world.freeze(deadline.instant + shift)
        expected = dict(deadline.before if side == "before" else TOO_LATE)
        if deadline.paid and side != "before":
            expected.pop("pay")  # the next test's
        request = next(requests)
        found = {"read": await stage.read(request)}
        for verb in (verb for verb in expected if verb != "read"):
            found[verb] = await stage.do(verb, request)
            if found[verb] not in ("nothing", "WRONG_STATE", "TOO_LATE"):
                request = next(requests)
        assert found == expected, side


async def test_a_payment_after_the_window_is_too_late_before_the_sweep_as_after_it(stage: Stage) -> None:
    deadline = DEADLINES["validate IMMEDIATE_WITH_VALIDATION 2026-05-12"]
    (request,) = await stage.requests(deadline, 1)
    await stage.cast.world.freeze(deadline.instant)
    unswept = await stage.do("pay", request)
    assert await stage.do("expire", request) == "EXPIRED"
    assert (unswept, await stage.do("pay", request)) == ("TOO_LATE", "TOO_LATE")


@pytest.mark.parametrize("side", INSTANTS)
@pytest.mark.parametrize("name", RACED)
async def test_all_at_once_on_one_side_of_the_instant(stage: Stage, name: str, side: str) -> None:
    deadline = DEADLINES[name]
    before = await stage.money()
    requests = await stage.requests(deadline, 2)
    await stage.cast.world.freeze(deadline.instant + INSTANTS[side])
    races = [_race(stage, request, turn) for turn, request in enumerate(requests)]
    winners = Counter(await asyncio.gather(*races))
    if side != "before":
        assert set(winners) == {"EXPIRED"}
    else:
        assert set(winners) <= {"VALIDATED", "TO_VALIDATE", "CANCELLED"}
    await _adds_up(stage, before, winners)


@pytest.mark.parametrize("name", RACED)
async def test_the_instant_comes_while_all_try(stage: Stage, name: str) -> None:
    deadline, world = DEADLINES[name], stage.cast.world
    before = await stage.money()
    requests = await stage.requests(deadline, 4)
    await world.freeze(deadline.instant - MICROSECOND)
    reached = asyncio.Event()

    async def reach() -> None:
        await world.freeze(deadline.instant)
        reached.set()

    races = [_race(stage, request, turn, reached) for turn, request in enumerate(requests)]
    *ends, _ = await asyncio.gather(*races, reach())
    await _adds_up(stage, before, Counter(filter(None, ends)))


async def _race(stage: Stage, request: PaymentRequest, turn: int, reached: asyncio.Event | None = None) -> str:
    """Everyone at once, two sweepers included, who wait until the instant is `reached`; exactly one wins. Returns the
    status it made."""

    async def sweep() -> str:
        if reached is not None:
            await reached.wait()
        return await stage.do("expire", request)

    tries: list[Awaitable[str]] = [
        stage.do("pay", request),
        stage.do("validate", request),
        stage.do("cancel", request),
        stage.do("cancel", request, stage.cast.signatory),
        stage.do("decline", request),
        sweep(),
        sweep(),
    ]
    turn %= len(tries)
    said = await asyncio.gather(*tries[turn:], *tries[:turn])
    won = [answer for answer in said if answer not in ("WRONG_STATE", "TOO_LATE", "nothing")]
    world = stage.cast.world
    rows: list[Any] = await world.as_owner("SELECT status FROM payment_requests WHERE id = $1", request.id)
    assert won == [rows[0]["status"]], said
    return won[0]


async def _adds_up(stage: Stage, before: dict[str, int], ends: Counter[str]) -> None:
    now = await stage.money()
    assert now == {
        "wallet": before["wallet"] - AMOUNT * (ends["VALIDATED"] + ends["TO_VALIDATE"]),
        "held": before["held"] + AMOUNT * ends["TO_VALIDATE"],
        "received": before["received"] + AMOUNT * ends["VALIDATED"],
    }
