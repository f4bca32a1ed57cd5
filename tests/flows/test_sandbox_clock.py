"""A sandbox's clock is moved forward, and what falls due on the way happens, each at its own instant."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from domain import calendar, deadlines, messages, sandbox
from domain.access import Actor, Role
from domain.codes import read_global_id
from domain.db import APP, READER, RELAY, Database, connect_as
from domain.work import Work, perform
from escarcelle.clients import Client
from escarcelle.stories.telling import next_of
from tests.flows.cast import REQUEST, Cast
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

ISSUER = "... on Issuer { now }"
SOON = timedelta(seconds=10)
"""How late a busy machine may be."""


async def _advance(cast: Cast, *, by: Client | None = None, **given: int) -> dict[str, Any]:
    return await (by or cast.agent).do("advanceClock", ISSUER, **given)


async def _now(cast: Cast) -> datetime:
    data = await cast.agent.ask("{ viewer { issuer { now } } }")
    return datetime.fromisoformat(data["viewer"]["issuer"]["now"])


async def _deferred(cast: Cast, days: int, **given: Any) -> dict[str, Any]:
    """A request to be paid by the end of the day in so many days."""
    due_on = calendar.today(await _now(cast)) + timedelta(days=days)
    asked = {"customerIdentifier": "ines@example.com", "basketNumber": f"en {days} jours", **given}
    return await cast.ask(paymentDeadline=due_on.isoformat(), **asked)


async def _pay(cast: Cast, request: dict[str, Any]) -> dict[str, Any]:
    rows = await cast.world.as_owner("SELECT token FROM payment_requests WHERE id = $1", _id(request))
    return await cast.pay(rows[0]["token"])


def _id(request: dict[str, Any]) -> Any:
    return read_global_id(request["id"])[2]


async def _history(cast: Cast) -> list[tuple[str, datetime]]:
    """What has happened to requests, in the order in which it was written."""
    rows = await cast.world.as_owner(
        "SELECT kind, at FROM journal WHERE tenant = $1 AND kind LIKE 'preq.%' ORDER BY sequence", cast.world.tenant
    )
    return [(row["kind"], row["at"]) for row in rows]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


# ── moving on ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given", [{"hours": 1}, {"days": 1, "hours": 36}, {"days": 400}])
async def test_the_clock_moves_by_what_is_asked(cast: Cast, given: dict[str, int]) -> None:
    before = await _now(cast)
    moved = await cast.agent.do("advanceClock", ISSUER, **given)
    assert moved["__typename"] == "Issuer"
    there = before + timedelta(**given)
    assert there <= _instant(moved["now"]) < there + SOON
    assert there <= await _now(cast) < there + SOON
    assert (await cast.ask())["status"] == "AWAITING_PAYMENT", "whoever is signed in stays so"


async def test_what_falls_due_happens_in_order_each_at_its_instant(cast: Cast) -> None:
    """In one move: a request that nobody pays, a window's warning, and the window's end (P25, P13, AP1)."""
    unpaid = await _deferred(cast, 3)
    later = await _deferred(cast, 300)
    forgotten = await _deferred(cast, 1, validationDays=5)
    assert (await _pay(cast, forgotten))["status"] == "TO_VALIDATE"
    assert await cast.world.wallet("ines") == 60_00
    window_ends = _instant((await cast.read(forgotten))["validationDeadline"])

    moved = await _advance(cast, days=10)

    history = await _history(cast)
    kinds = ["preq.pay", "preq.expire", "preq.warn", "preq.expire"]
    assert [kind for kind, _ in history] == ["preq.create"] * 3 + kinds
    instants = [_instant(unpaid["paymentDeadline"]), window_ends - timedelta(hours=24), window_ends]
    for (kind, at), instant in zip(history[4:], instants, strict=True):
        assert instant <= at < instant + SOON, kind
    assert (await cast.read(unpaid))["lastActionAt"] < moved["now"]
    assert [(await cast.read(r))["status"] for r in (unpaid, forgotten, later)] == [
        "EXPIRED",
        "EXPIRED",
        "AWAITING_PAYMENT",
    ]
    assert await cast.world.wallet("ines") == 100_00


async def test_a_deadline_that_is_reached_while_its_deed_finds_it_too_early_stays(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a message comes twice, and the clock moves on to the next instant meanwhile."""
    world, request = cast.world, await cast.ask()
    name, wanted = ("preq", "expire"), read_global_id(request["id"])[2]
    deed = deadlines.handler(*name)

    async def slow(work: Work, actor: Actor, request_id: UUID) -> object:
        done = await deed(work, actor, request_id)
        for table, by in (("issuers", "clock_offset = clock_offset +"), ("deadlines", "due_at = due_at -")):
            await world.as_owner(f"UPDATE {table} SET {by} interval '1 hour' WHERE tenant = $1", world.tenant)
        return done

    with monkeypatch.context() as patched:
        patched.setitem(deadlines._HANDLERS, name, slow)
        await perform(world.database, world.system, messages.fire, "preq", wanted, "expire")
    assert await world.as_owner("SELECT name FROM deadlines WHERE subject_id = $1", wanted) == [("expire",)]
    await perform(world.database, world.system, messages.fire, "preq", wanted, "expire")
    assert (await cast.read(request))["status"] == "EXPIRED"
    assert await world.as_owner("SELECT name FROM deadlines WHERE subject_id = $1", wanted) == []


async def test_the_till_sees_it_happen(cast: Cast) -> None:
    request = await _deferred(cast, 2)
    live = f"subscription ($id: ID!) {{ paymentRequest(id: $id) {{ {REQUEST} }} }}"
    async with cast.till.subscribe(live, id=request["id"]) as events:
        assert (await next_of(events, 30, "till"))["paymentRequest"]["status"] == "AWAITING_PAYMENT"
        await _advance(cast, days=3)
        assert (await next_of(events, 30, "till"))["paymentRequest"]["status"] == "EXPIRED"


async def test_what_is_pending_comes_nearer_by_as_much(cast: Cast) -> None:
    """Over nights of 23 and 25 hours too: its instant on the issuer's clock stays the same."""
    question = (
        "SELECT due_at, claim_at, due_at + clock_offset AS instant FROM deadlines JOIN issuers USING (tenant)"
        " WHERE tenant = $1"
    )
    request = await _deferred(cast, 365)
    (before,) = await cast.world.as_owner(question, cast.world.tenant)
    await _advance(cast, days=200, hours=5)
    (after,) = await cast.world.as_owner(question, cast.world.tenant)
    by = timedelta(days=200, hours=5)
    assert (after["due_at"], after["claim_at"]) == (before["due_at"] - by, before["claim_at"] - by)
    assert after["instant"] == before["instant"]
    deadline = _instant(request["paymentDeadline"])
    assert deadline <= after["instant"] < deadline + timedelta(seconds=1)


async def test_a_clock_that_stands_still_is_set_forward_and_stands_there(cast: Cast) -> None:
    asked_at = datetime(2020, 6, 24, 9, 0, tzinfo=UTC)
    await cast.world.freeze(asked_at)
    request = await _deferred(cast, 2)
    assert _instant((await _advance(cast, days=2))["now"]) == asked_at + timedelta(days=2)
    assert (await cast.read(request))["status"] == "AWAITING_PAYMENT"
    assert _instant((await _advance(cast, hours=13))["now"]) == asked_at + timedelta(days=2, hours=13)
    expired = await cast.read(request)
    assert (expired["status"], _instant(expired["lastActionAt"])) == (
        "EXPIRED",
        datetime(2020, 6, 26, 22, 0, tzinfo=UTC),
    )


# ── more than one at a time ───────────────────────────────────────────────────────────────────────────────────────────


async def test_two_who_advance_at_once_add_up_and_nothing_happens_late(cast: Cast) -> None:
    requests = [await _deferred(cast, days) for days in range(1, 11)]
    before = await _now(cast)
    moved = await asyncio.gather(_advance(cast, days=5), _advance(cast, days=7))
    assert [answer["__typename"] for answer in moved] == ["Issuer"] * 2
    there = before + timedelta(days=12)
    assert there <= await _now(cast) < there + SOON
    for request in requests:
        expired, deadline = await cast.read(request), _instant(request["paymentDeadline"])
        assert expired["status"] == "EXPIRED"
        assert deadline <= _instant(expired["lastActionAt"]) < deadline + SOON


async def test_where_much_falls_due_the_clock_stops_on_the_way(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_DEADLINES", 3)
    requests = [await _deferred(cast, days, basketNumber=str(n)) for n, days in enumerate((1, 2, 2, 2, 5))]
    before, second = await _now(cast), _instant(requests[1]["paymentDeadline"])
    advance = partial(sandbox.advance_clock, cast.world.database, cast.world.users["agent"], days=9)
    await advance()
    assert second <= await _now(cast) < second + SOON
    there = before + timedelta(days=9)
    await advance()
    assert there <= await _now(cast)
    for request in requests:
        expired, deadline = await cast.read(request), _instant(request["paymentDeadline"])
        assert deadline <= _instant(expired["lastActionAt"]) < deadline + SOON


async def test_a_deadline_that_fails_holds_nobody_up(cast: Cast) -> None:
    """It stays pending, and the relay goes on sending it."""
    request = await _deferred(cast, 2)
    await cast.world.as_owner(
        "INSERT INTO deadlines (tenant, subject_kind, subject_id, name, due_at, claim_at, sends)"
        " VALUES ($1, 'preq', $2, 'unheard_of', clock_timestamp() + interval '2 hours', 'infinity', 0)",
        cast.world.tenant,
        _id(request),
    )
    before = await _now(cast)
    await _advance(cast, days=4)
    there = before + timedelta(days=4)
    assert there <= await _now(cast) < there + SOON
    assert (await cast.read(request))["status"] == "EXPIRED"
    removed = await cast.world.as_owner(
        "DELETE FROM deadlines WHERE tenant = $1 RETURNING name, last_error", cast.world.tenant
    )
    assert [tuple(row) for row in removed] == [("unheard_of", "KeyError")]


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "days"),
        ({"days": 0, "hours": 0}, "days"),
        ({"days": -1}, "days"),
        ({"days": 2, "hours": -1}, "hours"),
        ({"days": 401}, "days"),
        ({"days": 400, "hours": 1}, "days"),
        ({"hours": 2**31 - 1}, "hours"),
        ({"days": 2**31 - 1}, "days"),
    ],
)
async def test_from_an_hour_to_400_days_at_once(cast: Cast, given: dict[str, int], field: str) -> None:
    async with cast.world.unchanged():
        refused = await cast.agent.do("advanceClock", ISSUER, **given)
    assert (refused["code"], [p["path"] for p in refused["problems"]]) == ("INVALID", [["input", field]])
    assert refused["message"] == "L’horloge avance d’une heure au moins et de 400 jours au plus."


async def test_a_thousand_years_ahead_are_enough(cast: Cast) -> None:
    await cast.world.as_owner(
        "UPDATE issuers SET clock_offset = make_interval(hours => 24 * 364990) WHERE tenant = $1", cast.world.tenant
    )
    assert (await _advance(cast, days=9))["__typename"] == "Issuer"
    async with cast.world.unchanged():
        assert (await _advance(cast, days=9))["code"] == "INVALID"


@pytest.mark.parametrize("who", ["signatory", "till", "ines"])
async def test_the_clock_is_the_issuer_s_staff_s(cast: Cast, who: str) -> None:
    client: Client = getattr(cast, who)
    async with cast.world.unchanged():
        assert (await _advance(cast, by=client, days=1))["code"] == "FORBIDDEN"


@pytest.fixture
async def real(servers: Servers, database: Database) -> World:
    """An issuer that is no sandbox."""
    world = await World.make(servers, database, sandbox=False)
    await world.user("admin", Role.ISSUER_ADMIN)
    return world


async def test_a_real_issuer_s_clock_is_the_world_s(real: World, running: Running) -> None:
    async with await running.client(real, "admin") as admin, real.unchanged():
        refused = await admin.do("advanceClock", ISSUER, days=1)
        assert refused["code"] == "FORBIDDEN"
        assert refused["message"] == "L’horloge n’avance à la demande que dans un bac à sable."


# ── what the database refuses ─────────────────────────────────────────────────────────────────────────────────────────

_ADVANCE = "SELECT advance_sandbox_clock($1, $2)"


@pytest.mark.parametrize("by", [timedelta(0), timedelta(seconds=-1), None])
async def test_a_clock_never_goes_back(world: World, by: timedelta | None) -> None:
    connection = await _behind_the_wall(world, APP)
    try:
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await connection.execute(_ADVANCE, world.tenant, by)
    finally:
        await connection.close()


async def test_another_issuer_s_clock_is_beyond_the_wall(world: World, real: World) -> None:
    for tenant, wall in ((world.tenant, real), (real.tenant, world), (real.tenant, real), (None, world)):
        connection = await _behind_the_wall(wall, APP)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"beyond the wall|no sandbox"):
                await connection.execute(_ADVANCE, tenant, timedelta(days=1))
        finally:
            await connection.close()


@pytest.mark.parametrize("role", [RELAY, READER])
async def test_only_the_application_moves_a_clock(world: World, role: str) -> None:
    connection = await _behind_the_wall(world, role)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for function"):
            await connection.execute(_ADVANCE, world.tenant, timedelta(days=1))
    finally:
        await connection.close()


async def _behind_the_wall(world: World, role: str) -> asyncpg.Connection:
    connection = await connect_as(world.servers.settings, role)
    await connection.execute(f"SET app.tenant = '{world.tenant}'")
    return connection
