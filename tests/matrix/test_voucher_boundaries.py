"""One microsecond before, at and after the end of a voucher's last day: what is read, and what may still be done; and
who wins when all try at once. On both nights that change the clocks, around a leap day and on an ordinary day."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from domain.codes import read_global_id
from tests.matrix.test_boundaries import ENDS_OF_DAYS, INSTANTS, MICROSECOND, SPECIAL_DAYS
from tests.matrix.vouchers import Stage, assembled
from tests.world import Running, Servers

pytestmark = pytest.mark.anyio

VALIDITY_DAYS = 30
VALUE = 12_00

TOO_LATE = {
    "read": "EXPIRED",
    "reveal": "TOO_LATE",
    "deliver": "TOO_LATE",
    "cancel": "TOO_LATE",
    "expire": "EXPIRED",
}
BEFORE = {
    "issued": {
        "read": "ISSUED",
        "deliver": "WRONG_STATE",
        "expire": "nothing",
        "cancel": "CANCELLED",
        "reveal": "CODE_REVEALED",
    },
    "revealed": {
        "read": "CODE_REVEALED",
        "reveal": "CODE_REVEALED",
        "cancel": "WRONG_STATE",
        "expire": "nothing",
        "deliver": "DELIVERED",
    },
}
"""What is read and may be done up to the last microsecond."""

RACES = {"issued": ("reveal", "cancel", "expire"), "revealed": ("deliver", "reveal", "expire")}
WINS = {"issued": {"CODE_REVEALED", "CANCELLED"}, "revealed": {"DELIVERED"}}
"""What may come of each race before the instant; from it on all vouchers expire."""

STILL_GUARANTEED = ("ISSUED", "CODE_REVEALED", "DELIVERED")


@pytest.fixture(scope="module")
async def stage(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """The cast, once for all instants."""
    async with assembled(servers, running) as made:
        yield made


async def _vouchers(stage: Stage, day: str, state: str, how_many: int) -> list[dict[str, Any]]:
    """New vouchers whose last day that is."""
    taken = datetime.combine(date.fromisoformat(day) - timedelta(days=VALIDITY_DAYS), time(12), UTC)
    made = [await stage.request(taken) for _ in range(how_many)]
    for voucher in made:
        assert (await stage.read(voucher, "validUntil"))["validUntil"] == day
        if state == "revealed":
            assert await stage.outcome("reveal", voucher) == "CODE_REVEALED"
    return made


async def _shown(stage: Stage, voucher: dict[str, Any]) -> str:
    """The status, wherever it is shown: to both sides, and in the list's filter."""
    seen = await stage.read(voucher, "allowedActions")
    status = str(seen["status"])
    assert (await stage.read(voucher, by=stage.agency))["status"] == status
    if status == "EXPIRED":
        assert seen["allowedActions"] == []
    document = "query ($status: [VoucherStatus!]) { vouchers(status: $status, first: 20) { nodes { id status } } }"
    listed = (await stage.member.ask(document, status=[status]))["vouchers"]["nodes"]
    assert {"id": voucher["id"], "status": status} in listed
    return status


@pytest.mark.parametrize("state", BEFORE)
@pytest.mark.parametrize("day", ENDS_OF_DAYS)
async def test_what_may_be_done_around_the_instant(stage: Stage, day: str, state: str) -> None:
    end = datetime.fromisoformat(ENDS_OF_DAYS[day])
    # One for each side, and one more to be cancelled.
    vouchers = iter(await _vouchers(stage, day, state, len(INSTANTS) + ("CANCELLED" in BEFORE[state].values())))
    for side, shift in INSTANTS.items():
        await stage.world.freeze(end + shift)
        expected = BEFORE[state] if side == "before" else TOO_LATE
        voucher = next(vouchers)
        found = {"read": await _shown(stage, voucher)}
        for verb in (verb for verb in expected if verb != "read"):
            found[verb] = await stage.outcome(verb, voucher)
            if found[verb] == "CANCELLED":
                voucher = next(vouchers)
        assert found == expected, side


@pytest.mark.parametrize("day", SPECIAL_DAYS)
async def test_what_is_delivered_in_the_last_microsecond_no_longer_expires(stage: Stage, day: str) -> None:
    end = datetime.fromisoformat(ENDS_OF_DAYS[day])
    (voucher,) = await _vouchers(stage, day, "revealed", 1)
    await stage.world.freeze(end - MICROSECOND)
    assert await stage.outcome("deliver", voucher) == "DELIVERED"
    await stage.world.freeze(end)
    assert await stage.outcome("expire", voucher) == "nothing"
    assert await _shown(stage, voucher) == "DELIVERED"
    assert await stage.outcome("invoice", voucher) == "INVOICED"


@pytest.mark.parametrize("side", INSTANTS)
@pytest.mark.parametrize("state", RACES)
@pytest.mark.parametrize("day", SPECIAL_DAYS)
async def test_all_at_once_on_one_side_of_the_instant(stage: Stage, day: str, state: str, side: str) -> None:
    before = await stage.money()
    vouchers = await _vouchers(stage, day, state, 2)
    await stage.world.freeze(datetime.fromisoformat(ENDS_OF_DAYS[day]) + INSTANTS[side])
    ends = await asyncio.gather(*(_race(stage, state, voucher, turn) for turn, voucher in enumerate(vouchers)))
    assert set(ends) <= (WINS[state] if side == "before" else {"EXPIRED"})
    await _adds_up(stage, before, ends)


@pytest.mark.parametrize("state", RACES)
@pytest.mark.parametrize("day", SPECIAL_DAYS)
async def test_the_instant_comes_while_all_try(stage: Stage, day: str, state: str) -> None:
    end = datetime.fromisoformat(ENDS_OF_DAYS[day])
    before = await stage.money()
    vouchers = await _vouchers(stage, day, state, 4)
    await stage.world.freeze(end - MICROSECOND)
    reached = asyncio.Event()

    async def reach() -> None:
        await stage.world.freeze(end)
        reached.set()

    races = [_race(stage, state, voucher, turn, reached) for turn, voucher in enumerate(vouchers)]
    *ends, _ = await asyncio.gather(*races, reach())
    await _adds_up(stage, before, [str(status) for status in ends])


async def _race(
    stage: Stage, state: str, voucher: dict[str, Any], turn: int, reached: asyncio.Event | None = None
) -> str:
    """Everyone at once, the member from two phones, and two sweepers, who wait until the instant is `reached`; exactly
    one wins, and has left one line. Returns the status it made."""

    async def sweep() -> str:
        if reached is not None:
            await reached.wait()
        return await stage.outcome("expire", voucher)

    tries: list[Awaitable[str]] = []
    for verb in RACES[state]:
        if verb == "expire":
            tries += [sweep(), sweep()]
        elif verb == "cancel":
            tries += [stage.outcome(verb, voucher), stage.outcome(verb, voucher)]
        else:
            tries += [stage.outcome(verb, voucher), stage.outcome(verb, voucher, stage.second_phone)]
    turn %= len(tries)
    said = await asyncio.gather(*tries[turn:], *tries[:turn])
    # A code that is drawn already is shown again, and so is a voucher that is delivered already.
    unmoved = {"CODE_REVEALED"} if state == "revealed" else set()
    won = set(said) - {"WRONG_STATE", "TOO_LATE", "nothing"} - unmoved
    row, lines = await _stored(stage, voucher)
    assert won == {row["status"]}, said
    kinds = {
        "CODE_REVEALED": "vchr.reveal",
        "DELIVERED": "vchr.deliver",
        "CANCELLED": "vchr.cancel",
        "EXPIRED": "vchr.expire",
    }
    begun = ["vchr.request"] + (["vchr.reveal"] if state == "revealed" else [])
    assert lines == [*begun, kinds[row["status"]]]
    assert (row["number"] is not None) == (row["status"] == "DELIVERED")
    return str(row["status"])


async def _stored(stage: Stage, voucher: dict[str, Any]) -> tuple[Any, list[str]]:
    """The row, and what the journal says about it, in order."""
    voucher_id, world = read_global_id(voucher["id"])[2], stage.world
    (row,) = await world.as_owner("SELECT * FROM vouchers WHERE tenant = $1 AND id = $2", world.tenant, voucher_id)
    lines = await world.as_owner(
        "SELECT kind FROM journal WHERE tenant = $1 AND subject_id = $2 ORDER BY id", world.tenant, voucher_id
    )
    return row, [line["kind"] for line in lines]


async def _adds_up(stage: Stage, before: dict[str, int], ends: list[str]) -> None:
    counted = Counter(ends)
    open_now = sum(counted[status] for status in STILL_GUARANTEED) * VALUE
    assert await stage.money() == before | {
        "guaranteed": before["guaranteed"] + open_now,
        "held": before["held"] + open_now,
    }
