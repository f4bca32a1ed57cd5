"""How deeds reach the database: each in a transaction of its own, or several deeds of a tenant in one, which saves
round trips and commits when many come at once.

Deeds that share a transaction take their rows in one statement, decide one by one in Python, and are written by one
statement. None waits for a lock there: a deed whose row is held by another, inside or outside, leaves and runs alone,
and so does one that wants something written midway. A refusal is its own affair. When the database refuses what they
write, all is undone and each runs alone."""

import asyncio
import contextvars
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import asyncpg
import structlog

from domain.db import Database, Locator, Row
from domain.statements import (
    Effects,
    as_json,
    merged,
    plan,
    shape_of,
    shared_take_statement,
    take_all_statement,
    take_statement,
    write_statement,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_TOGETHER: Final = 64
"""Deeds that share one transaction at most."""

_AT_ONCE: Final = 2
"""Shared transactions of one tenant under way at once in a process: while one commits, another decides."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a deed wants to take, and what tells whether it has been done before."""

    tenant: int
    locators: tuple[Locator[Any], ...]
    key_scope_id: UUID | None
    key: str | None
    message_id: UUID | None


class Transaction(Protocol):
    """What a deed sees of the database."""

    async def take(self, asked: Asked) -> Sequence[Any]:
        """Lock the rows; then the tenant's clock, the real one, what the key did, whether the message was handled, and
        each locator's columns (null where nothing was found)."""

    async def take_all(self, row: type[Row], name: str, values: Sequence[object]) -> Sequence[Sequence[Any]]:
        """Lock every row with one of these values; then their columns."""

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Ask."""

    async def write(self, effects: Effects) -> None:
        """Write now. Raises what the database refuses with."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a deed before anything is written: what is to be written, if anything, and its answer or error."""

    effects: Effects | None
    result: Any = None
    error: Exception | None = None

    def answer(self) -> Any:
        """The result. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.result


Decide = Callable[[Transaction], Awaitable[Decision]]
"""A deed, ready to run; it may be run again."""


# ── alone ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Own:
    """A transaction of one deed."""

    def __init__(self, connection: asyncpg.Connection, tenant: int) -> None:
        self._connection = connection
        self._tenant = tenant

    async def take(self, asked: Asked) -> Sequence[Any]:
        """Wait for the locks."""
        found: Sequence[Any] = await self._connection.fetchrow(
            take_statement(shape_of(asked.locators)),
            asked.tenant,
            asked.key_scope_id,
            asked.key,
            asked.message_id,
            *_values(asked.locators),
        )
        return found

    async def take_all(self, row: type[Row], name: str, values: Sequence[object]) -> Sequence[Sequence[Any]]:
        """Wait for the locks."""
        found: Sequence[Sequence[Any]] = await self._connection.fetch(
            take_all_statement(row, name), self._tenant, list(values)
        )
        return found

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Ask."""
        found: list[asyncpg.Record] = await self._connection.fetch(statement, *values)
        return found

    async def write(self, effects: Effects) -> None:
        """One statement."""
        await _write(self._connection, self._tenant, effects)


async def alone(database: Database, tenant: int, decide: Decide) -> Any:
    """The deed in a transaction of its own: its answer, once it is committed. Raises its refusal, with nothing done
    save what the refusal keeps, and what the database refuses with."""
    async with database.connection() as connection:
        committed = False
        try:
            await _begin(connection, tenant)
            own = Own(connection, tenant)
            decision = await decide(own)
            if decision.effects is not None:
                await own.write(decision.effects)
                await connection.execute("COMMIT")
                committed = True
                database.herald.say(decision.effects.live_updates())
            return decision.answer()
        finally:
            if not committed and not connection.is_closed():
                await connection.execute("ROLLBACK")


# ── together ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _RunsAlone(Exception):
    """This deed leaves the shared transaction."""


@dataclass(eq=False)
class _Seat:
    """A deed that waits, and then has a place in a shared transaction."""

    decide: Decide
    run_alone: Callable[[], Awaitable[Any]]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    done: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, decision: Decision) -> None:
        """The deed has its answer."""
        if self.done.done():
            return
        if decision.error is not None:
            self.done.set_exception(decision.error)
        else:
            self.done.set_result(decision.result)

    def start_alone(self) -> "asyncio.Task[None]":
        """It runs by itself, at once."""
        return _keep(asyncio.get_running_loop().create_task(self._alone(), context=self.context))

    async def _alone(self) -> None:
        try:
            self.settle(Decision(None, result=await self.run_alone()))
        except Exception as error:
            self.settle(Decision(None, error=error))


class Sharing:
    """The deeds of a process that wait for a shared transaction, tenant by tenant."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[_Seat]] = defaultdict(deque)
        self._leaders: dict[int, int] = defaultdict(int)

    async def perform(
        self, database: Database, tenant: int, decide: Decide, run_alone: Callable[[], Awaitable[Any]]
    ) -> Any:
        """The deed's answer, once it is committed, be it with others or alone."""
        seat = _Seat(decide, run_alone)
        self._waiting[tenant].append(seat)
        if self._leaders[tenant] < _AT_ONCE:
            self._leaders[tenant] += 1
            _keep(asyncio.get_running_loop().create_task(self._lead(database, tenant), context=contextvars.Context()))
        return await asyncio.shield(seat.done)

    async def _lead(self, database: Database, tenant: int) -> None:
        """Until nobody waits: whoever has come meanwhile goes together."""
        waiting = self._waiting[tenant]
        try:
            while waiting:
                seats = [waiting.popleft() for _ in range(min(len(waiting), MOST_TOGETHER))]
                if len(seats) == 1:
                    await seats[0].start_alone()
                else:
                    await _Together(database, tenant, seats).run()
        finally:
            self._leaders[tenant] -= 1
            if not self._leaders[tenant]:
                self._leaders.pop(tenant)
                if not waiting:
                    self._waiting.pop(tenant, None)


@dataclass(eq=False)
class _Parked:
    """A deed that waits for its rows."""

    seat: _Seat
    asked: Asked
    rows: "asyncio.Future[Sequence[Any]]"


class _Together:
    """One shared transaction."""

    def __init__(self, database: Database, tenant: int, seats: Sequence[_Seat]) -> None:
        self._database = database
        self._tenant = tenant
        self._seats = seats
        self._parked: list[_Parked] = []
        self._deciding = 0
        self._changed = asyncio.Event()
        self._holders: dict[tuple[type[Row], tuple[object, ...]], _Seat] = {}
        self._asking = asyncio.Lock()
        self._broken: Exception | None = None

    async def run(self) -> None:
        """Every seat is settled, or runs alone."""
        try:
            async with self._database.connection() as connection:
                decisions = await self._decide_all(connection)
                committed = await self._commit(connection, decisions)
        except Exception as error:
            # The commit itself broke off: nobody knows whether it happened, and a deed must not happen twice.
            for seat in self._seats:
                seat.settle(Decision(None, error=error))
            return
        for seat in self._seats:
            decision = decisions.get(seat)
            if decision is not None and (committed or decision.effects is None):
                seat.settle(decision)
            else:
                seat.start_alone()

    async def _decide_all(self, connection: asyncpg.Connection) -> dict[_Seat, Decision]:
        """What came of each deed; those that run alone are left out. Empty when the transaction broke."""
        tasks: dict[_Seat, asyncio.Task[Decision]] = {}
        try:
            await _begin(connection, self._tenant)
            loop = asyncio.get_running_loop()
            self._deciding = len(self._seats)
            for seat in self._seats:
                tasks[seat] = loop.create_task(self._decided(seat, connection), context=seat.context)
            while True:
                while self._deciding:
                    self._changed.clear()
                    await self._changed.wait()
                if not self._parked:
                    break
                parked, self._parked = self._parked, []
                await self._take(connection, parked)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self._broken = error
        finally:
            for task in tasks.values():
                task.cancel()
            ended = await asyncio.gather(*tasks.values(), return_exceptions=True)
        if self._broken is not None:
            log.warning("shared_transaction_broke", reason=type(self._broken).__name__, deeds=len(self._seats))
            return {}
        return {seat: decision for seat, decision in zip(tasks, ended, strict=True) if isinstance(decision, Decision)}

    async def _decided(self, seat: _Seat, connection: asyncpg.Connection) -> Decision:
        try:
            return await seat.decide(_Place(self, seat, connection))
        except _RunsAlone:
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self._broken = error
            raise
        except Exception as error:
            return Decision(None, error=error)
        finally:
            self._deciding -= 1
            self._changed.set()

    async def _take(self, connection: asyncpg.Connection, parked: Sequence[_Parked]) -> None:
        """The rows of all that wait: one statement for each shape. Only then do the deeds go on: they ask over the
        same connection."""
        by_shape: dict[Any, list[_Parked]] = defaultdict(list)
        for each in parked:
            by_shape[shape_of(each.asked.locators)].append(each)
        rows_by_shape: dict[Any, list[asyncpg.Record]] = {}
        for shape, group in by_shape.items():
            wanted = [
                {
                    "n": n,
                    "key_scope_id": each.asked.key_scope_id,
                    "key": each.asked.key,
                    "message_id": each.asked.message_id,
                    **{f"v{at}": value for at, value in enumerate(_values(each.asked.locators))},
                }
                for n, each in enumerate(group)
            ]
            statement = shared_take_statement(shape)
            rows_by_shape[shape] = await connection.fetch(statement, self._tenant, as_json(wanted))
        for shape, group in by_shape.items():
            rows = rows_by_shape[shape]
            found = {row[0]: row for row in rows}
            # A locator that finds several rows is none of ours; such a deed would be answered twice.
            several = len(rows) != len(found)
            for n, each in enumerate(group):
                self._give(each, None if several else found[n])

    def _give(self, parked: _Parked, row: Sequence[Any] | None) -> None:
        self._deciding += 1
        if row is None or not self._hold(parked, row):
            parked.rows.set_exception(_RunsAlone())
        else:
            parked.rows.set_result(tuple(row)[1 : len(row) - len(parked.asked.locators)])

    def _hold(self, parked: _Parked, row: Sequence[Any]) -> bool:
        """Whether every row that is there is this deed's alone."""
        at = 5
        exist = row[len(row) - len(parked.asked.locators) :]
        mine = []
        for locator, exists in zip(parked.asked.locators, exist, strict=True):
            columns = locator.row.columns
            values = dict(zip(columns, row[at : at + len(columns)], strict=True))
            at += len(columns)
            if values["tenant"] is None:
                if exists:
                    return False
                continue
            identity = (locator.row, tuple(values[name] for name in locator.row.identity))
            if self._holders.get(identity, parked.seat) is not parked.seat:
                return False
            mine.append(identity)
        self._holders.update(dict.fromkeys(mine, parked.seat))
        return True

    async def _commit(self, connection: asyncpg.Connection, decisions: dict[_Seat, Decision]) -> bool:
        """Whether all that was decided is committed; otherwise nothing is. Raises what leaves that open."""
        committing = False
        try:
            effects = merged([d.effects for d in decisions.values() if d.effects is not None])
            if effects is None:
                return False
            await _write(connection, self._tenant, effects)
            committing = True
            await connection.execute("COMMIT")
            self._database.herald.say(effects.live_updates())
            return True
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.TransactionRollbackError):
            committing = False
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, WroteOtherwise) as error:
            if committing:
                raise
            log.warning("shared_transaction_broke", reason=type(error).__name__, deeds=len(self._seats))
            return False
        finally:
            if not committing and not connection.is_closed():
                await connection.execute("ROLLBACK")

    # ── for the deeds ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def park(self, seat: _Seat, asked: Asked) -> Sequence[Any]:
        """Wait until all others have decided or wait too."""
        parked = _Parked(seat, asked, asyncio.get_running_loop().create_future())
        self._parked.append(parked)
        self._deciding -= 1
        self._changed.set()
        return await parked.rows

    async def fetch(self, connection: asyncpg.Connection, statement: str, values: Sequence[object]) -> list[Any]:
        """One question after the other."""
        async with self._asking:
            found: list[Any] = await connection.fetch(statement, *values)
            return found


class _Place:
    """What a deed sees of a shared transaction."""

    def __init__(self, together: _Together, seat: _Seat, connection: asyncpg.Connection) -> None:
        self._together = together
        self._seat = seat
        self._connection = connection
        self._has_taken = False

    async def take(self, asked: Asked) -> Sequence[Any]:
        """Without waiting for a lock: a deed that would have to runs alone."""
        self._has_taken = True
        return await self._together.park(self._seat, asked)

    async def take_all(self, row: type[Row], name: str, values: Sequence[object]) -> Sequence[Sequence[Any]]:
        """Not here: the others would wait for all of these locks."""
        raise _RunsAlone

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Ask, after the locks. Who asks before may be after a lock of its own."""
        if not self._has_taken:
            raise _RunsAlone
        return await self._together.fetch(self._connection, statement, values)

    async def write(self, effects: Effects) -> None:
        """Not here: a refusal that follows could not be undone by itself."""
        raise _RunsAlone


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_TASKS: Final[set[asyncio.Task[Any]]] = set()


class WroteOtherwise(RuntimeError):
    """A statement found other rows than the deed had decided about."""


def _keep(task: "asyncio.Task[T]") -> "asyncio.Task[T]":
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
    return task


async def _begin(connection: asyncpg.Connection, tenant: int) -> None:
    await connection.execute(f"BEGIN; SET LOCAL app.tenant = '{tenant:d}'")


async def _write(connection: asyncpg.Connection, tenant: int, effects: Effects) -> None:
    shape, data, expected = plan(effects)
    if not shape:
        return
    found = await connection.fetchrow(write_statement(shape), tenant, data)
    if tuple(found) != expected:
        raise WroteOtherwise(f"wrote {tuple(found)} rows instead of {expected} in {[part[:2] for part in shape]}")


def _values(locators: Sequence[Locator[Any]]) -> list[object]:
    return [
        list(value) if isinstance(value, tuple) else value for locator in locators for value in locator.where.values()
    ]
