"""A sandbox's clock, which the issuer's staff moves forward: what falls due on the way happens, each at its instant.

The clock goes from one pending instant to the next, and never on while something due has not been tried: so two who
move it at once only add up. A real issuer's clock is the world's."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from domain import messages, parties
from domain.access import Actor
from domain.db import Database
from domain.deadlines import Deadline
from domain.errors import RefusalCode, Refused
from domain.parties import Issuer
from domain.texts import Text
from domain.work import Work, perform

SHORTEST_ADVANCE: Final = timedelta(hours=1)
LONGEST_ADVANCE: Final = timedelta(days=400)

MOST_DEADLINES: Final = 500
"""How many deadlines one advance fires: a few seconds' worth. The clock then stands where it has come to."""

_FURTHEST_AHEAD: Final = timedelta(days=365_000)
"""Of real time: a thousand years, far from the last year that a calendar knows."""


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline whose instant, on the issuer's clock, has come."""

    subject_kind: str
    subject_id: UUID
    name: str
    instant: datetime

    @property
    def subject_and_name(self) -> tuple[UUID, str]:
        """What tells it from others, whatever its instant."""
        return self.subject_id, self.name


@dataclass(frozen=True, slots=True)
class Step:
    """By how much the clock has moved, and what is due now, in order."""

    moved: timedelta
    due: list[Due]


async def advance_clock(database: Database, actor: Actor, days: int | None = None, hours: int | None = None) -> Issuer:
    """Move the clock forward by that much together and do all that falls due until then, each in a transaction of its
    own. With more than MOST_DEADLINES of them the clock stops on the way, and may be advanced again.

    Raises Refused: FORBIDDEN to others than the issuer's staff and outside a sandbox, INVALID for less than
    SHORTEST_ADVANCE, more than LONGEST_ADVANCE, or a clock too far ahead of real time."""
    actor.require("advanceClock")
    left = _time_asked(days, hours)
    tried: set[Due] = set()
    while len(tried) < MOST_DEADLINES:
        step = await perform(database, actor, move_on, left, frozenset(tried))
        assert isinstance(step, Step), "a step has no key and no message"
        left -= step.moved
        if not step.moved and not step.due:
            break
        for due in step.due[: MOST_DEADLINES - len(tried)]:
            await _fire(database, Actor(actor.tenant), due)
            tried.add(due)
    async with database.reading(actor.tenant) as connection:
        return await parties.issuer(connection)


async def move_on(work: Work, actor: Actor, left: timedelta, tried: frozenset[Due]) -> Step:
    """One step: to the next pending instant within `left`, or by all of it when there is none. While something is due
    that is not in `tried`, the clock does not move. Raises Refused (FORBIDDEN, INVALID)."""
    await work.read(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("sandbox clock"), work.tenant)))
    await work.take()
    issuer = Issuer.from_row((await work.read(sa.select(*Issuer.selected())))[0])
    if not issuer.sandbox:
        raise Refused(
            RefusalCode.FORBIDDEN,
            Text("L’horloge n’avance à la demande que dans un bac à sable.", "Only a sandbox’s clock can be advanced."),
        )
    if work.now + left > work.real_now + _FURTHEST_AHEAD:
        raise Refused.invalid("input.days", "L’horloge est déjà trop en avance.", "The clock is too far ahead already.")
    pending = [
        Due(row["subject_kind"], row["subject_id"], row["name"], row["due_at"] + issuer.clock_offset)
        for row in await work.read(_pending(MOST_DEADLINES + len(tried)))
    ]
    # On a clock that stands still what waits has a new instant each time.
    names = {due.subject_and_name for due in tried} if issuer.frozen_at is not None else set()
    waiting = [due for due in pending if due not in tried and due.subject_and_name not in names]
    now = work.real_now + issuer.clock_offset
    if issuer.frozen_at is not None:
        # Real time says nothing about the instants of a clock that stands still: each deed decides whether it is due.
        by, reached = left, waiting
    else:
        by = min([left, *(max(due.instant - now, timedelta(0)) for due in waiting[:1])])
        reached = [due for due in waiting if due.instant <= now + by]
    if by:
        await work.read(sa.select(sa.func.advance_sandbox_clock(work.tenant, sa.cast(by, sa.Interval))))
        work.note("advance_clock", issuer, seconds=by.total_seconds())
    return Step(by, reached)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _time_asked(days: int | None, hours: int | None) -> timedelta:
    given = {"input.days": days or 0, "input.hours": hours or 0}
    most = LONGEST_ADVANCE // timedelta(hours=1)
    wrong = next((field for field, number in given.items() if not 0 <= number <= most), None)
    asked = timedelta(0) if wrong else timedelta(days=days or 0, hours=hours or 0)
    if not SHORTEST_ADVANCE <= asked <= LONGEST_ADVANCE:
        raise Refused.invalid(
            wrong or "input.days",
            "L’horloge avance d’une heure au moins et de {most} jours au plus.",
            "The clock is advanced by one hour at least and {most} days at most.",
            most=LONGEST_ADVANCE.days,
        )
    return asked


def _pending(most: int) -> sa.Select[Any]:
    table = Deadline.table.c
    return (
        sa.select(table.subject_kind, table.subject_id, table.name, table.due_at)
        .order_by(table.due_at, table.subject_id, table.name)
        .limit(most)
    )


async def _fire(database: Database, system: Actor, due: Due) -> None:
    try:
        await perform(database, system, messages.fire, due.subject_kind, due.subject_id, due.name)
    except Exception as error:
        # The clock does not wait for it: it stays pending, and the relay sends it again like any other.
        reason = type(error).__name__
        await perform(database, system, messages.note_failed_deadline, due.subject_id, due.name, reason)
