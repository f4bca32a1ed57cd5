"""Several deeds in one transaction come out as each would alone: a refusal, an error, a lock held elsewhere or what the
database refuses is the affair of those it concerns."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from domain import transactions
from domain.access import Actor, Role
from domain.db import APP, Database, connect_as
from domain.errors import RefusalCode, Refused
from domain.ledger import Balance, held_account_of, wallet_of
from domain.parties import Holder, create_holder, credit_holder
from domain.texts import Text
from domain.work import Key, Replayed, Work, perform
from tests.world import Servers, World

pytestmark = pytest.mark.anyio

MANY: Final = 20


@pytest.fixture
async def agent(world: World) -> Actor:
    """Whose keys are used."""
    return await world.user("agent", Role.ISSUER_AGENT)


@pytest.fixture
async def holders(world: World) -> list[Holder]:
    """With empty wallets."""
    return [await world.holder(f"h{n}", f"Durand {n}") for n in range(MANY)]


async def together(database: Database, agent: Actor, *deeds: Callable[..., Awaitable[Any]]) -> list[Any]:
    """The answers and errors of deeds that come at the same time."""
    asked = [perform(database, agent, deed) for deed in deeds]
    answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
    return answers


def credit(holder: Holder, amount: str = "10,00") -> Callable[[Work, Actor], Awaitable[Holder]]:
    async def deed(work: Work, actor: Actor) -> Holder:
        return await credit_holder(work, actor, holder.id, amount, "une aide")

    return deed


async def transactions_of(world: World) -> Counter[str]:
    """Credits by the transaction that wrote them."""
    rows = await world.as_owner("SELECT xact::text FROM transfers WHERE tenant = $1", world.tenant)
    return Counter(row["xact"] for row in rows)


async def wallets(world: World) -> list[int]:
    return [await world.wallet(f"h{n}") for n in range(MANY)]


async def test_what_comes_at_once_is_committed_at_once(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    answers = await together(database, agent, *map(credit, holders))
    assert [answer.id for answer in answers] == [holder.id for holder in holders]
    assert await wallets(world) == [10_00] * MANY
    assert max((await transactions_of(world)).values()) >= MANY - 1


async def test_alone_each_has_a_transaction_of_its_own(
    database: Database, world: World, agent: Actor, holders: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "shares_commits", False)
    await together(database, agent, *map(credit, holders))
    assert set((await transactions_of(world)).values()) == {1}


async def test_a_refusal_is_the_refused_s_own_affair(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    amounts = ["0,00" if n % 2 else "10,00" for n in range(MANY)]
    deeds = [credit(holder, amount) for holder, amount in zip(holders, amounts, strict=True)]
    answers = await together(database, agent, *deeds)
    assert [isinstance(answer, Refused) for answer in answers] == [amount == "0,00" for amount in amounts]
    assert await wallets(world) == [0 if n % 2 else 10_00 for n in range(MANY)]


async def test_an_error_in_one_deed_is_its_caller_s_only(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    async def broken(work: Work, actor: Actor) -> Holder:
        await work.take(Holder.by(id=holders[0].id))
        work.note("credit", holders[0], amount=1)
        raise ZeroDivisionError

    answers = await together(database, agent, *map(credit, holders[1:]), broken)
    assert isinstance(answers[-1], ZeroDivisionError)
    assert all(isinstance(answer, Holder) for answer in answers[:-1])
    assert await wallets(world) == [0] + [10_00] * (MANY - 1)


async def test_what_a_refusal_keeps_is_kept_beside_the_others(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    def remembered(holder: Holder) -> Callable[[Work, Actor], Awaitable[Holder]]:
        async def deed(work: Work, actor: Actor) -> Holder:
            taken = await work.take(Holder.by(id=holder.id))
            work.change(taken, mobile="06")
            work.note("update", taken, holder_id=taken.id)
            raise Refused(RefusalCode.FORBIDDEN, Text("Non.", "No."), keeps_effects=True)

        return deed

    deeds = [remembered(holder) if n % 2 else credit(holder) for n, holder in enumerate(holders)]
    answers = await together(database, agent, *deeds)
    assert [isinstance(answer, Refused) for answer in answers] == [bool(n % 2) for n in range(MANY)]
    rows = await world.as_owner("SELECT reference, mobile FROM holders WHERE tenant = $1", world.tenant)
    assert {row["reference"] for row in rows if row["mobile"]} == {f"h{n}" for n in range(1, MANY, 2)}


async def test_what_the_database_refuses_hurts_nobody_else(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    """One pays below the floor, to an account that is not there: no rule of its own has kept it from that."""

    async def ruthless(work: Work, actor: Actor) -> Holder:
        holder, wallet = await work.take(Holder.by(id=holders[0].id), Balance.by(account_id=wallet_of(holders[0].id)))
        work.transfer(holder, wallet, held_account_of(UUID(int=1)), 5_00, "credit")
        return work.note("credit", holder, amount=5_00, holder_id=holder.id)

    answers = await together(database, agent, ruthless, *map(credit, holders[1:]))
    assert isinstance(answers[0], asyncpg.IntegrityConstraintViolationError)
    assert all(isinstance(answer, Holder) for answer in answers[1:])
    assert await wallets(world) == [0] + [10_00] * (MANY - 1)


async def test_deeds_on_one_row_come_one_after_the_other(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    answers = await together(database, agent, *[credit(holders[0])] * MANY)
    assert all(isinstance(answer, Holder) for answer in answers)
    assert await world.wallet("h0") == MANY * 10_00


async def test_two_that_find_nothing_yet_and_make_the_same_are_one_success(
    database: Database, world: World, agent: Actor
) -> None:
    async def make(work: Work, actor: Actor) -> Holder:
        return await create_holder(work, actor, reference="zoe", name="Zoé")

    answers = await together(database, agent, *[make] * 8)
    made = [answer for answer in answers if isinstance(answer, Holder)]
    assert len(made) == 1
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {RefusalCode.ALREADY_EXISTS}


async def test_one_key_has_one_effect_among_others(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    keys = [Key.of(agent, f"key {n % 5}", "credit", n % 5) for n in range(MANY)]
    asked = [perform(database, agent, credit(holders[n % 5]), key=keys[n]) for n in range(MANY)]
    answers = await asyncio.gather(*asked)
    assert Counter(type(answer) for answer in answers) == {Holder: 5, Replayed: MANY - 5}
    assert await wallets(world) == [10_00] * 5 + [0] * (MANY - 5)
    again = await asyncio.gather(*(perform(database, agent, credit(holders[n]), key=keys[n]) for n in range(5)))
    assert [type(answer) for answer in again] == [Replayed] * 5


async def test_a_row_locked_elsewhere_keeps_nobody_else_waiting(
    servers: Servers, database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    async with _elsewhere(servers, world) as other:
        await other.execute("SELECT FROM holders WHERE id = $1 FOR UPDATE", holders[0].id)
        asked = [asyncio.create_task(perform(database, agent, credit(holder))) for holder in holders]
        await asyncio.gather(*asked[1:])
        assert not asked[0].done()
        await other.execute("COMMIT")
        await asked[0]
    assert await wallets(world) == [10_00] * MANY


async def test_a_deed_that_takes_in_several_steps_sees_its_rows_and_no_other_s(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    """Each credits its neighbour, taken second: those who find it taken go alone, and nothing locks up."""

    def twice(n: int) -> Callable[[Work, Actor], Awaitable[Holder]]:
        async def deed(work: Work, actor: Actor) -> Holder:
            await work.take(Holder.by(id=holders[n].id))
            return await credit_holder(work, actor, holders[(n + 1) % MANY].id, f"{n + 1},00", "une aide")

        return deed

    answers = await together(database, agent, *map(twice, range(MANY)))
    assert [answer.id for answer in answers] == [holders[(n + 1) % MANY].id for n in range(MANY)]
    assert await wallets(world) == [MANY * 100, *(n * 100 for n in range(1, MANY))]


async def test_deeds_that_take_different_things_share_while_some_of_them_ask(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    """Who has its rows asks over the connection on which the others' rows are still to come."""

    def asks(holder: Holder) -> Callable[[Work, Actor], Awaitable[Holder]]:
        async def deed(work: Work, actor: Actor) -> Holder:
            taken = await work.take(Holder.by(id=holder.id))
            for _ in range(3):
                await work.read(sa.select(sa.func.count()).select_from(Holder.table))
            return work.note("update", taken, holder_id=taken.id)

        return deed

    deeds = [credit(holder) if n % 2 else asks(holder) for n, holder in enumerate(holders)]
    with capture_logs() as logs:
        answers = await together(database, agent, *deeds)
    assert [answer.id for answer in answers] == [holder.id for holder in holders]
    assert [entry["event"] for entry in logs] == []
    assert max((await transactions_of(world)).values()) >= MANY // 2 - 1


async def test_a_commit_that_breaks_off_is_an_error_and_never_done_again(
    servers: Servers,
    database: Database,
    world: World,
    agent: Actor,
    holders: list[Holder],
    superuser: asyncpg.Connection,
) -> None:
    """Nobody knows then whether it happened. The commit waits for a lock of the test's, and its session is ended."""
    await superuser.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END';"
        " CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON transfers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION wait(); SELECT pg_advisory_lock(77)"
    )
    try:
        asked = [asyncio.create_task(perform(database, agent, credit(holder))) for holder in holders]
        ended: set[int] = set()
        async with asyncio.timeout(60):
            while not all(task.done() for task in asked):
                rows = await superuser.fetch(
                    "SELECT pid, pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
                )
                ended |= {row["pid"] for row in rows}
                await asyncio.sleep(0.02)
    finally:
        await superuser.execute("SELECT pg_advisory_unlock(77); DROP FUNCTION wait CASCADE")
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) for answer in answers)
    assert 1 <= len(ended) < MANY / 2, "they were not tried again one by one"
    assert await wallets(world) == [0] * MANY


async def test_a_caller_that_goes_away_takes_nothing_along(
    database: Database, world: World, agent: Actor, holders: list[Holder]
) -> None:
    asked = [asyncio.create_task(perform(database, agent, credit(holder))) for holder in holders]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.gather(*asked[1:])
    with pytest.raises(asyncio.CancelledError):
        await asked[0]
    assert (await wallets(world))[1:] == [10_00] * (MANY - 1)


async def test_no_more_than_so_many_share_a_transaction(
    database: Database, world: World, agent: Actor, holders: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "MOST_TOGETHER", 4)
    await together(database, agent, *map(credit, holders))
    assert max((await transactions_of(world)).values()) <= 4
    assert await wallets(world) == [10_00] * MANY


@asynccontextmanager
async def _elsewhere(servers: Servers, world: World) -> AsyncIterator[asyncpg.Connection]:
    """Another session of the application, in a transaction."""
    connection = await connect_as(servers.settings, APP)
    try:
        await connection.execute(f"BEGIN; SET LOCAL app.tenant = '{world.tenant}'")
        yield connection
    finally:
        await connection.close()
