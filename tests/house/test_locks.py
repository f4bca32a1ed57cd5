"""`take` waits for its locks, one after the other, and only then reads the clock and the key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import asyncpg
import pytest

from domain.access import Actor, Role
from domain.db import APP, Database, connect_as
from domain.errors import RefusalCode, Refused
from domain.ledger import Balance, wallet_of
from domain.parties import Holder, create_holder, credit_holder
from domain.work import Key, Replayed, Work, perform
from tests.world import Servers, World

pytestmark = pytest.mark.anyio

HOLDER: Final = "SELECT FROM holders WHERE id = $1 FOR UPDATE"
BALANCE: Final = "SELECT FROM balances WHERE account_id = $1 FOR UPDATE"


@pytest.fixture
async def ines(world: World) -> Holder:
    """A holder with a wallet."""
    return await world.holder("ines", "Durand")


async def look(work: Work, actor: Actor, ines: Holder) -> tuple[datetime, datetime]:
    """A deed that takes an aggregate and an account, and says what time it is."""
    await work.take(Holder.by(id=ines.id), Balance.by(account_id=wallet_of(ines.id)))
    return work.now, work.real_now


@pytest.mark.parametrize("locked", ["the aggregate", "the account"])
async def test_the_clock_is_read_once_every_lock_is_granted(
    servers: Servers, superuser: asyncpg.Connection, database: Database, world: World, ines: Holder, locked: str
) -> None:
    async with _behind_the_wall(servers, world) as other:
        await other.execute(*_lock_of(ines, locked))
        looking = asyncio.create_task(perform(database, world.system, look, ines))
        await _until_waiting(superuser)
        released = await other.fetchval("SELECT clock_timestamp()")
        await other.execute("COMMIT")
        looked = await looking
    assert isinstance(looked, tuple)
    assert all(instant > released for instant in looked)


async def test_whoever_waits_for_the_aggregate_keeps_no_account_waiting(
    servers: Servers, superuser: asyncpg.Connection, database: Database, world: World, ines: Holder
) -> None:
    async with _behind_the_wall(servers, world) as other, _behind_the_wall(servers, world) as third:
        await other.execute(*_lock_of(ines, "the aggregate"))
        looking = asyncio.create_task(perform(database, world.system, look, ines))
        await _until_waiting(superuser)
        statement, row = _lock_of(ines, "the account")
        await third.execute(f"{statement} NOWAIT", row)
        await third.execute("ROLLBACK")
        await other.execute("COMMIT")
        await looking


async def test_whoever_waits_for_an_account_holds_the_aggregate(
    servers: Servers, superuser: asyncpg.Connection, database: Database, world: World, ines: Holder
) -> None:
    async with _behind_the_wall(servers, world) as other, _behind_the_wall(servers, world) as third:
        await other.execute(*_lock_of(ines, "the account"))
        looking = asyncio.create_task(perform(database, world.system, look, ines))
        await _until_waiting(superuser)
        statement, row = _lock_of(ines, "the aggregate")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await third.execute(f"{statement} NOWAIT", row)
        await other.execute("COMMIT")
        await looking


async def test_a_reference_to_a_row_waits_for_nobody_who_has_taken_it(
    servers: Servers, database: Database, world: World, ines: Holder
) -> None:
    """Foreign keys are checked with a weaker lock: a busy merchant's payments do not queue for the merchant's row."""
    taken, goes_on = asyncio.Event(), asyncio.Event()

    async def stay(work: Work, actor: Actor) -> None:
        await work.take(Holder.by(id=ines.id))
        taken.set()
        await goes_on.wait()

    async with _behind_the_wall(servers, world) as other:
        staying = asyncio.create_task(perform(database, world.system, stay))
        await taken.wait()
        await other.execute("SELECT FROM holders WHERE id = $1 FOR KEY SHARE NOWAIT", ines.id)
        goes_on.set()
        await staying


# ── idempotency keys ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("together", [False, True])
async def test_one_key_on_one_row_has_one_effect_however_many_ask_at_once(
    servers: Servers,
    superuser: asyncpg.Connection,
    database: Database,
    world: World,
    ines: Holder,
    together: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who waited for the row see the key that its last owner has written, and none has to be run again. Together
    none waits: each is tried once before."""
    monkeypatch.setattr(database, "shares_commits", together)
    agent = await world.user("agent", Role.ISSUER_AGENT)
    runs = []

    async def credit(work: Work, actor: Actor) -> Holder:
        runs.append(work)
        return await credit_holder(work, actor, ines.id, "40,00", "une aide")

    async with _behind_the_wall(servers, world) as other:
        await other.execute(*_lock_of(ines, "the aggregate"))
        key = Key.of(agent, "the same", "credit", "40,00")
        asked = [asyncio.create_task(perform(database, agent, credit, key=key)) for _ in range(4)]
        await _until_waiting(superuser, 4)
        await other.execute("COMMIT")
        answers = await asyncio.gather(*asked)
    assert sorted(type(answer).__name__ for answer in answers) == ["Holder", "Replayed", "Replayed", "Replayed"]
    assert {answer.id for answer in answers if isinstance(answer, Replayed)} == {ines.id}
    assert await world.wallet("ines") == 40_00
    assert len(runs) == (8 if together else 4)


async def test_one_key_without_a_row_has_one_effect_however_many_ask_at_once(database: Database, world: World) -> None:
    """Nothing to lock yet: the database refuses all but one, and those are run again."""
    agent = await world.user("agent", Role.ISSUER_AGENT)
    key = Key.of(agent, "new holder", "create", "eric")
    asked = [perform(database, agent, create_holder, key=key, reference="eric", name="Zoé") for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert sorted(type(answer).__name__ for answer in answers) == ["Holder", "Replayed", "Replayed", "Replayed"]
    assert len({answer.id for answer in answers if answer is not None}) == 1


async def test_a_key_used_for_another_input_is_refused(database: Database, world: World, ines: Holder) -> None:
    agent = await world.user("agent", Role.ISSUER_AGENT)
    await _credit(database, agent, ines, "40,00")
    async with world.unchanged():
        with pytest.raises(Refused) as refused:
            await _credit(database, agent, ines, "41,00")
    assert refused.value.code is RefusalCode.IDEMPOTENCY_KEY_REUSED


async def _credit(database: Database, agent: Actor, ines: Holder, amount: str) -> Holder | Replayed | None:
    key = Key.of(agent, "the same", "credit", amount)
    return await perform(database, agent, credit_holder, ines.id, amount, "une aide", key=key)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lock_of(ines: Holder, locked: str) -> tuple[str, object]:
    return (HOLDER, ines.id) if locked == "the aggregate" else (BALANCE, wallet_of(ines.id))


@asynccontextmanager
async def _behind_the_wall(servers: Servers, world: World) -> AsyncIterator[asyncpg.Connection]:
    """Another session of the application, in a transaction."""
    connection = await connect_as(servers.settings, APP)
    try:
        await connection.execute(f"BEGIN; SET LOCAL app.tenant = '{world.tenant}'")
        yield connection
    finally:
        await connection.close()


async def _until_waiting(superuser: asyncpg.Connection, sessions: int = 1) -> None:
    """Until so many sessions wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = $1"
    async with asyncio.timeout(60):
        while True:
            if await superuser.fetchval(waiting, APP) == sessions:
                return
            await asyncio.sleep(0.01)
