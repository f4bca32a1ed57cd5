"""Runs that nobody asks for: on the morning of each TARGET business day, the merchants are reimbursed whose oldest
operation would be late if they waited for the next one. Each issuer's terms say what is late."""

from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain import calendar, jobs
from domain.access import Actor
from domain.bank_accounts import PayingAccount
from domain.calendar import ClosingDays
from domain.codes import new_id
from domain.db import Entity
from domain.deadlines import when_due
from domain.jobs import FileFormat, JobKind
from domain.texts import Locale
from domain.work import Work

RUN_HOUR: Final = 5
"""In Paris: before the banks take in what they pay on that day."""


class ReimbursementSchedule(
    Entity,
    table="reimbursement_schedules",
    prefix="rsch",
    constraints=(sa.UniqueConstraint("tenant"), sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"])),
):
    """That an issuer's merchants are reimbursed without anybody asking, for as long as it is `active`; `next_run_on` is
    the day of the next run."""

    active: bool
    next_run_on: date

    @property
    def next_run_at(self) -> datetime:
        """The instant of the next run."""
        return calendar.start_of_day(self.next_run_on) + timedelta(hours=RUN_HOUR)


# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def set_schedule(work: Work, actor: Actor, *, active: bool) -> ReimbursementSchedule:
    """Operators say whether runs begin by themselves, from the next business day on."""
    schedule = await work.take(ReimbursementSchedule.maybe(tenant=work.tenant))
    next_run_on = _next_day(work.now)
    verb = "change" if schedule else "create"
    if schedule is None:
        schedule = work.create(
            ReimbursementSchedule(tenant=work.tenant, id=new_id(), active=active, next_run_on=next_run_on)
        )
    else:
        work.change(schedule, active=active, next_run_on=next_run_on)
    if active:
        work.deadline(schedule, "run", schedule.next_run_at)
    else:
        work.no_longer(schedule, "run")
    return work.note(verb, schedule, active=active)


@when_due(ReimbursementSchedule, "run")
async def begin_run(work: Work, actor: Actor, schedule_id: UUID) -> ReimbursementSchedule:
    """The run of this business day is begun, for everything until the day before (P30). A morning that was slept
    through is made up for once, by this one."""
    schedule = await work.take(ReimbursementSchedule.by(id=schedule_id))
    if not schedule.active or work.now < schedule.next_run_at:
        return schedule
    day = calendar.today(work.now)
    if await work.read(_PAYING_ACCOUNT):
        given = {
            "through": (day - timedelta(days=1)).isoformat(),
            "promised_by": _next_day(work.now).isoformat(),
        }
        await jobs.queue(work, actor, JobKind.RUN_REIMBURSEMENTS, FileFormat.XML, Locale.FR, given)
    work.change(schedule, next_run_on=_next_day(work.now))
    work.deadline(schedule, "run", schedule.next_run_at)
    return schedule


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_PAYING_ACCOUNT: Final = sa.select(PayingAccount.table.c.tenant)


def _next_day(now: datetime) -> date:
    return calendar.plus_business_days(calendar.today(now), 1, ClosingDays.TARGET)
