"""What workers do with a message that the relay handed on: take it in hand, finish with it, fail, give it up; and fire
a deadline. A message names a row only; what is true is read here, behind the row's lock."""

from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import orjson
import sqlalchemy as sa

from domain.access import Actor
from domain.deadlines import Deadline, handler
from domain.outbox import FAILURES_BEFORE_GIVING_UP, DeadLetter, InboxRow, OutboxRow, pause_after
from domain.parties import Issuer
from domain.statements import Effects
from domain.work import Work

IN_HAND: Final = timedelta(seconds=15)
"""How long a worker has a message for itself, unless it says in time that it still has it: a message that was in the
hands of a worker that died is late by no more."""


async def take_in_hand(work: Work, actor: Actor, message_id: UUID) -> bool:
    """A worker begins with a message, which is then not sent again for a while. False when there is nothing to do: it
    is done, it was given up, another worker has it, or it waits after a failure."""
    row = await work.take(OutboxRow.maybe(id=message_id))
    if row is None:
        return False
    if await _is_handled(work, message_id):
        # It was put back by hand in the very moment in which a worker that was thought dead finished with it.
        work.remove(row)
        return False
    sends, claim_at = await _filled_in(work, row, "sends", "claim_at")
    if sends == 0 and claim_at > work.real_now:
        return False
    # Each sending counts up: none counted since a worker took it means that this worker still has it.
    work.change(row, sends=0, claim_at=work.real_now + IN_HAND)
    return True


async def keep_in_hand(work: Work, actor: Actor, message_id: UUID) -> None:
    """The worker is still at it: the message stays its own for a while longer."""
    row = await work.take(OutboxRow.maybe(id=message_id))
    if row is not None:
        work.change(row, sends=0, claim_at=work.real_now + IN_HAND)


async def let_go(work: Work, actor: Actor, message_id: UUID) -> None:
    """The worker gives the message back before it is through: another may begin with it at once."""
    row = await work.take(OutboxRow.maybe(id=message_id))
    if row is not None:
        work.change(row, claim_at=work.real_now)


async def finish(work: Work, actor: Actor, message_id: UUID) -> None:
    """What the message asked for has been done: the row goes. `perform` is given the message's identifier too, so that
    it enters the inbox."""
    row = await work.take(OutboxRow.maybe(id=message_id))
    if row is not None:
        work.remove(row)


async def fail(work: Work, actor: Actor, message_id: UUID, reason: str, *, for_good: bool = False) -> bool:
    """It did not work. The message is tried again after a pause; when it has failed too often, or `for_good`, it
    becomes a dead letter. `reason` holds no personal data. Returns whether it was given up."""
    row = await work.take(OutboxRow.maybe(id=message_id))
    if row is None:
        return False
    failures, created_at, payload = await _filled_in(work, row, "failures", "created_at", "payload")
    failures += 1
    if for_good or failures >= FAILURES_BEFORE_GIVING_UP:
        work.create(
            DeadLetter(
                tenant=work.tenant,
                id=row.id,
                topic=row.topic,
                payload=orjson.loads(payload),
                created_at=created_at,
                failures=failures,
                reason=reason,
            )
        )
        work.remove(row)
        return True
    work.change(row, failures=failures, last_error=reason, sends=0, claim_at=work.real_now + pause_after(failures))
    return False


class Resent(StrEnum):
    """What came of a dead letter: it is in the outbox again, as the same message; its consumer had finished with it
    after all, and it only goes; or there is none of that identifier (any more)."""

    AGAIN = "again"
    HANDLED = "handled"
    UNKNOWN = "unknown"


async def resend(work: Work, actor: Actor, message_ids: tuple[UUID, ...]) -> dict[UUID, Resent]:
    """Put dead letters back into the outbox, each as the same message: a mail keeps its Message-ID. A message that its
    consumer has finished with is not sent again."""
    came: dict[UUID, Resent] = {}
    for message_id in dict.fromkeys(message_ids):
        letter = await work.take(DeadLetter.maybe(id=message_id))
        if letter is None:
            came[message_id] = Resent.UNKNOWN
            continue
        handled = await _is_handled(work, message_id)
        if not handled:
            work.create(OutboxRow(tenant=work.tenant, id=letter.id, topic=letter.topic, payload=letter.payload))
        work.remove(letter)
        came[message_id] = Resent.HANDLED if handled else Resent.AGAIN
        work.note("resend", letter, topic=letter.topic, handled=handled)
    return came


async def fire(work: Work, actor: Actor, subject_kind: str, subject_id: UUID, name: str) -> None:
    """A deadline's instant has come: its deed is done, unless the deadline is pending no more: it was fired before, or
    called off. One that is due and that the deed neither ended nor set anew goes, since its object no longer needs it;
    one that came too early stays. Raises KeyError for a deadline that no flow declares, and what the deed raises."""
    await handler(subject_kind, name)(work, actor, subject_id)
    # The deed holds its object's lock, and whoever sets a deadline anew or ends it holds it too.
    table = Deadline.table.c
    pending = await work.read(
        sa.select(*Deadline.selected(), Issuer.table.c.clock_offset, Issuer.table.c.frozen_at)
        .join(Issuer.table, sa.true())
        .where(table.subject_id == subject_id, table.name == name)
    )
    key = (subject_id, name)
    if not pending:
        # Not every deed leaves its object in a state that keeps it from being done twice: a warning does not.
        work.effects = Effects()
        return
    if key in work.effects.no_longer or key in work.effects.deadlines:
        return
    for *values, clock_offset, frozen_at in pending:
        deadline = Deadline.from_row(values)
        # Real time says nothing about the instants of a clock that stands still; and what a sandbox's clock has come to
        # since the deed has looked at it, the deed knew nothing of.
        if deadline.due_at + clock_offset <= work.now and frozen_at is None:
            work.remove(deadline)


async def note_failed_deadline(work: Work, actor: Actor, subject_id: UUID, name: str, reason: str) -> None:
    """A deadline's deed failed; the relay sends it again. `reason` holds no personal data."""
    deadline = await work.take(Deadline.maybe(subject_id=subject_id, name=name))
    if deadline is not None:
        work.change(deadline, last_error=reason)


async def _is_handled(work: Work, message_id: UUID) -> bool:
    return bool(await work.read(_HANDLED, message_id=message_id))


_HANDLED: Final = sa.select(InboxRow.table.c.message_id).where(
    InboxRow.table.c.message_id == sa.bindparam("message_id", type_=InboxRow.table.c.message_id.type)
)


async def _filled_in(work: Work, row: OutboxRow, *names: str) -> list[Any]:
    """Columns that the database fills in, which `take` does not load."""
    table = OutboxRow.table.c
    columns = [sa.cast(table.payload, sa.Text) if name == "payload" else table[name] for name in names]
    return list((await work.read(sa.select(*columns).where(table.id == row.id)))[0])
