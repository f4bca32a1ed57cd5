"""`work`, the one door to every effect: take, decide in Python, write in one statement.

    request, wallet = await work.take(PaymentRequest.by(token=token), Balance.by(account_id=wallet_of(actor.holder_id)))
    …decide, refusing with Refused…
    work.move(request, "pay", amount_paid=amount)
    work.transfer(request, wallet, merchant_account, amount, "payment")
    return work.note("pay", request, amount=amount)

`take` locks what it returns and only then reads the database's clock and the idempotency key. The deed decides;
it awaits nothing but `work`, so that it may be run again. What it wants done is kept as data and written by one
statement, made of one fragment for each kind of effect; no fragment holds a rule. `perform` commits, or undoes."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from domain import ledger
from domain.codes import new_id
from domain.db import Database, Entity, Locator, Row, computed
from domain.deadlines import Deadline
from domain.errors import RefusalCode, Refused
from domain.journal import JournalLine
from domain.ledger import Account, AccountKind, Balance, DerivedAccount, Posting, Transfer, TransferKind, Unit
from domain.lifecycle import LIFECYCLES
from domain.notices import Notice
from domain.outbox import InboxRow, OutboxRow, Topic
from domain.statements import DIALECT, Effects
from domain.texts import Text
from domain.transactions import Asked, Decision, Sharing, Transaction, alone

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E", bound=Entity)
R = TypeVar("R", bound=Row)
P = ParamSpec("P")
T = TypeVar("T")

Side = Balance | DerivedAccount

_RUNS: Final = 4
"""How often a deed is tried when it meets another at the same instant."""


class Doer(Protocol):
    """Who acts: a tenant's user, or nobody (the clock)."""

    @property
    def tenant(self) -> int:
        """Whose data."""

    @property
    def user_id(self) -> UUID | None:
        """Who, for the journal."""


class IdempotencyKey(
    Row,
    table="idempotency_keys",
    key=("scope_id", "key"),
    app="SELECT, INSERT",
):
    """A key already used, with what came of it: the same key never has a second effect. `scope_id` is the user."""

    scope_id: UUID
    key: str
    input_hash: bytes
    result_kind: str
    result_id: UUID
    used_at: datetime = computed(sa.text("clock_timestamp()"))


@dataclass(frozen=True, slots=True)
class Key:
    """The caller's idempotency key, and a hash of what it was used for."""

    scope_id: UUID
    key: str
    input_hash: bytes

    @classmethod
    def of(cls, doer: Doer, key: str, verb: str, given: object) -> "Key":
        """The key of one user for one input. Raises Refused when it is empty or longer than 200 characters."""
        if not key.strip() or len(key) > 200:
            raise Refused.invalid(
                "idempotencyKey",
                "Entre 1 et 200 caractères sont attendus.",
                "Between 1 and 200 characters are expected.",
            )
        assert doer.user_id is not None, "only users bring keys"
        plain = orjson.dumps([verb, given], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=_in_order)
        return cls(doer.user_id, key, hashlib.sha256(plain).digest())


def _in_order(value: object) -> object:
    """A set has no order of its own, and another one in each process."""
    return sorted(value) if isinstance(value, frozenset) else str(value)


@dataclass(frozen=True, slots=True)
class Replayed:
    """The key was used before, with the same input: here is what came of it then, to be read again."""

    kind: str
    id: UUID


class _AlreadyDone(Exception):
    def __init__(self, replayed: Replayed | None) -> None:
        self.replayed = replayed


class Work:
    """The door. One per deed and transaction."""

    def __init__(self, transaction: Transaction, doer: Doer, key: Key | None, message_id: UUID | None) -> None:
        self.tenant = doer.tenant
        self.doer = doer
        self.effects = Effects()
        self.now: datetime = cast(datetime, None)
        self.real_now: datetime = cast(datetime, None)
        self._transaction = transaction
        self._key = key
        self._message_id = message_id
        self._taken: dict[tuple[type[Row], tuple[object, ...]], Row] = {}

    # ── what a deed may read ──────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def take(self) -> None: ...
    @overload
    async def take(self, first: Locator[A], /) -> A: ...
    @overload
    async def take(self, first: Locator[A], second: Locator[B], /) -> tuple[A, B]: ...
    @overload
    async def take(self, first: Locator[A], second: Locator[B], third: Locator[C], /) -> tuple[A, B, C]: ...
    @overload
    async def take(
        self, first: Locator[A], second: Locator[B], third: Locator[C], fourth: Locator[D], /
    ) -> tuple[A, B, C, D]: ...

    async def take(self, *locators: Locator[Any]) -> Any:
        """Lock these rows, in this order (the aggregate first, balances last and by account), then read the clock.
        Raises Refused(NOT_FOUND) when a required one is missing. A row taken twice is one object."""
        key = self._key
        row = await self._transaction.take(
            Asked(self.tenant, locators, key.scope_id if key else None, key.key if key else None, self._message_id)
        )
        self.now, self.real_now = row[0], row[1]
        if row[2] is not None:
            self._answer_again(row[2])
        if row[3]:
            raise _AlreadyDone(None)
        found, at = [], 4
        for locator in locators:
            width = len(locator.row.columns)
            found.append(self._one(locator, row[at : at + width] if row[at] is not None else None))
            at += width
        return None if not found else found[0] if len(found) == 1 else tuple(found)

    async def take_all(self, row: type[E], **where: Sequence[object]) -> list[E]:
        """Lock every row that has one of these values in this one column, in one statement and in the values' order,
        then read the clock. The deed has its transaction to itself."""
        ((name, values),) = where.items()
        rows = await self._transaction.take_all(row, name, values)
        await self.take()
        return [self._once(row.from_row(each)) for each in rows]

    async def read(self, question: sa.Select[Any], **values: object) -> list[asyncpg.Record]:
        """Ask the database, after the locks and in the same transaction. A question that is asked often stands in a
        constant, with `values` for its parameters: it is then translated once."""
        compiled = _translated_once(question) if values else _translated(question)
        parameters = compiled.construct_params(values)
        return await self._transaction.fetch(str(compiled), *(parameters[name] for name in compiled.positiontup or ()))

    # ── what a deed may do ────────────────────────────────────────────────────────────────────────────────────────────

    def require(self, entity: Entity, verb: str) -> None:
        """Refuse unless the lifecycle allows the verb now (WRONG_STATE, TOO_LATE)."""
        LIFECYCLES[entity.table.name].require(entity, verb, self.now)

    def move(self, entity: Entity, verb: str, **changes: Any) -> None:
        """The verb happens: the status its lifecycle says, and these columns."""
        self.require(entity, verb)
        stored = cast(Any, entity).status
        becomes = LIFECYCLES[entity.table.name].moves[verb, stored]
        if entity not in self.effects.created:
            self.effects.statuses_before.setdefault(entity, str(stored))
        self.change(entity, status=becomes, **changes)

    def change(self, row: Row, **changes: Any) -> None:
        """These columns get these values. Several changes of one row are written as one."""
        if row not in self.effects.created and "version" in row.columns and row not in self.effects.changed:
            changes["version"] = cast(Any, row).version + 1
        for name, value in changes.items():
            setattr(row, name, value)
        if row not in self.effects.created:
            self.effects.changed.setdefault(row, {}).update(changes)

    def create(self, row: E) -> E:
        """A new row."""
        self.effects.created[row] = None
        return row

    def add(self, row: Row) -> None:
        """A new row that is no object of its own."""
        self.effects.created[row] = None

    def remove(self, row: Row) -> None:
        """The row goes; only tables that allow it."""
        self.effects.removed[row] = None

    def open_account(self, owner_id: UUID, kind: AccountKind, unit: Unit = Unit.EUR) -> UUID:
        """A new account, with a kept balance when its kind has a floor."""
        account_id = ledger.account_of(owner_id, kind, unit)
        self.create(
            Account(tenant=self.tenant, id=account_id, kind=kind, owner_id=owner_id, unit=unit, opened_at=self.now)
        )
        floor = ledger.FLOOR_OF[kind]
        if floor is not None:
            balance = Balance(tenant=self.tenant, account_id=account_id, amount=0, floor=floor)
            self.effects.created[balance] = None
            self._taken[Balance, (account_id,)] = balance
        return account_id

    def transfer(self, subject: Entity, source: Side, target: Side, amount: int, reason: str) -> None:
        """Value moves at once, in cents. An account with a floor is given by its balance, taken before."""
        self._move_value(
            TransferKind.TRANSFER, subject, reason, None, {_account(source): -amount, _account(target): amount}
        )

    def reserve(self, subject: Entity, source: Side, held: DerivedAccount, amount: int, reason: str) -> UUID:
        """Value is parked on a held account; returns the reservation, for `post` or `void`."""
        return self._move_value(TransferKind.RESERVE, subject, reason, None, {_account(source): -amount, held: amount})

    def post(
        self,
        subject: Entity,
        reservation: UUID,
        held: DerivedAccount,
        target: Side,
        amount: int,
        source: Side,
        rest: int,
        reason: str,
    ) -> None:
        """The reservation is settled for `amount`; `rest` goes back to where it came from."""
        sides = {held: -(amount + rest), _account(target): amount, _account(source): rest}
        self._move_value(TransferKind.POST, subject, reason, reservation, sides)

    def void(
        self, subject: Entity, reservation: UUID, held: DerivedAccount, source: Side, amount: int, reason: str
    ) -> None:
        """The reservation is given back whole."""
        self._move_value(TransferKind.VOID, subject, reason, reservation, {held: -amount, _account(source): amount})

    def deadline(self, subject: Entity, name: str, due_at: datetime) -> None:
        """Something happens to the object at that instant of the tenant's clock, unless called off; one of a name."""
        due_at -= self.now - self.real_now
        self.effects.no_longer.pop((subject.id, name), None)
        self.effects.deadlines[subject.id, name] = Deadline(
            tenant=self.tenant,
            subject_kind=subject.prefix,
            subject_id=subject.id,
            name=name,
            due_at=due_at,
            claim_at=due_at,
        )

    def no_longer(self, subject: Entity, *names: str) -> None:
        """What was to happen to the object will not, or has."""
        for name in names:
            self.effects.deadlines.pop((subject.id, name), None)
            self.effects.no_longer[subject.id, name] = None

    def tell(self, notice: Notice, device_id: UUID | None = None) -> None:
        """People are told, after the commit: by mail, or by a push to one of their devices."""
        about = {"notice": notice.name, "kind": notice.subject.prefix, "id": str(notice.subject.id)}
        if device_id is None:
            self._outbox(Topic.MAIL, about)
        else:
            self._outbox(Topic.PUSH, about | {"device": str(device_id)})

    def begin(self, job: Entity) -> None:
        """A worker begins with the job, after the commit."""
        self._outbox(Topic.JOB, {"kind": job.prefix, "id": str(job.id)})

    def note(
        self,
        kind: str,
        subject: E,
        *,
        amount: int | None = None,
        point_of_sale_id: UUID | None = None,
        holder_id: UUID | None = None,
        **detail: Any,
    ) -> E:
        """The journal's line about this deed; returns the object, which is the deed's answer."""
        self.effects.created[
            JournalLine(
                tenant=self.tenant,
                id=new_id(),
                kind=f"{subject.prefix}.{kind}",
                at=self.now,
                user_id=self.doer.user_id,
                point_of_sale_id=point_of_sale_id,
                holder_id=holder_id,
                amount=amount,
                subject_kind=subject.prefix,
                subject_id=subject.id,
                detail=detail,
            )
        ] = None
        return subject

    async def flush(self) -> None:
        """Write what is decided so far, where what follows can only be written after it."""
        self._announce()
        await self._transaction.write(self.effects)
        self.effects = Effects()

    # ── for `perform` ─────────────────────────────────────────────────────────────────────────────────────────────────

    def decided(self, result: object) -> Effects:
        """Everything that is to be written, with the key and the message that led to it."""
        if self._key is not None and isinstance(result, Entity):
            row = IdempotencyKey(
                tenant=self.tenant,
                scope_id=self._key.scope_id,
                key=self._key.key,
                input_hash=self._key.input_hash,
                result_kind=result.prefix,
                result_id=result.id,
            )
            self.effects.created[row] = None
        if self._message_id is not None:
            self.effects.created[InboxRow(tenant=self.tenant, message_id=self._message_id)] = None
        self._announce()
        return self.effects

    # ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer_again(self, seen: Mapping[str, str]) -> None:
        assert self._key is not None
        if seen["input_hash"] != self._key.input_hash.hex():
            raise Refused(
                RefusalCode.IDEMPOTENCY_KEY_REUSED,
                Text(
                    "Cette clé d’idempotence a déjà servi pour une autre demande.",
                    "This idempotency key has already been used for another request.",
                ),
                field="idempotencyKey",
            )
        raise _AlreadyDone(Replayed(seen["result_kind"], UUID(seen["result_id"])))

    def _one(self, locator: Locator[Any], values: Sequence[Any] | None) -> Row | None:
        if values is None:
            if locator.required:
                raise Refused.not_found()
            return None
        return self._once(locator.row.from_row(values))

    def _once(self, row: R) -> R:
        identity = (type(row), tuple(getattr(row, name) for name in row.identity))
        return cast(R, self._taken.setdefault(identity, row))

    def _move_value(
        self, kind: TransferKind, subject: Entity, reason: str, settles: UUID | None, sides: Mapping[UUID, int]
    ) -> UUID:
        transfer = Transfer(
            tenant=self.tenant,
            id=new_id(),
            kind=kind,
            settles=settles,
            subject_kind=subject.prefix,
            subject_id=subject.id,
            reason=reason,
            at=self.now,
        )
        self.effects.created[transfer] = None
        for account_id, amount in sides.items():
            if amount:
                posting = Posting(
                    tenant=self.tenant, transfer_id=transfer.id, account_id=account_id, unit=Unit.EUR, amount=amount
                )
                self.effects.created[posting] = None
                balance = self._taken.get((Balance, (account_id,)))
                if balance is not None:
                    cast(Balance, balance).amount += amount
                    if balance not in self.effects.created:
                        self.effects.nets[account_id] += amount
        return transfer.id

    def _outbox(self, topic: Topic, payload: dict[str, Any]) -> None:
        self.effects.created[OutboxRow(tenant=self.tenant, id=new_id(), topic=topic, payload=payload)] = None

    def _announce(self) -> None:
        for row in [*self.effects.created, *self.effects.changed]:
            if isinstance(row, Entity) and "version" in row.columns:
                about = {"kind": row.prefix, "id": str(row.id), "version": cast(Any, row).version}
                if place := getattr(row, "point_of_sale_id", None):
                    about["place"] = str(place)
                if holders := [str(holder_id) for holder_id in getattr(row, "holder_ids", ())]:
                    about["holders"] = holders
                self._outbox(Topic.LIVE, about)


Deed = Callable[Concatenate[Work, Any, P], Awaitable[T]]


async def perform(
    database: Database,
    doer: Doer,
    deed: Callable[..., Awaitable[T]],
    *arguments: Any,
    key: Key | None = None,
    message_id: UUID | None = None,
    **named: Any,
) -> T | Replayed | None:
    """Run `deed(work, doer, …)`: all of it is committed, or nothing. Deeds of a tenant that come at the same time share
    a transaction.

    Returns what the deed returns; `Replayed` when the key has been used before with the same input; None when the
    message has been handled before. Raises Refused, with nothing done save what the refusal keeps. A deed that meets
    another at the same instant (one name, one key, a deadlock) is run again."""

    async def decide(transaction: Transaction) -> Decision:
        work = Work(transaction, doer, key, message_id)
        try:
            result = await deed(work, doer, *arguments, **named)
        except _AlreadyDone as done:
            return Decision(None, done.replayed)
        except Refused as refused:
            return Decision(work.decided(None) if refused.keeps_effects else None, error=refused)
        return Decision(work.decided(result), result)

    async def by_itself() -> Any:
        for run in range(_RUNS):
            try:
                return await alone(database, doer.tenant, decide)
            except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                if run == _RUNS - 1:
                    raise
        raise AssertionError("unreachable")

    if not database.shares_commits:
        return cast(T | Replayed | None, await asyncio.shield(asyncio.ensure_future(by_itself())))
    sharing = _SHARING.get(database)
    if sharing is None:
        sharing = _SHARING[database] = Sharing()
    return cast(T | Replayed | None, await sharing.perform(database, doer.tenant, decide, by_itself))


def _translated(question: sa.Select[Any]) -> SQLCompiler:
    return question.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})


_translated_once: Final = lru_cache(maxsize=200)(_translated)

_SHARING: Final[WeakKeyDictionary[Database, Sharing]] = WeakKeyDictionary()


def _account(side: Side) -> UUID:
    return side.account_id if isinstance(side, Balance) else side
