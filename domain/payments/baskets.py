"""Basket numbers: REF, the day, and the counter of the day (H2), as the next free one is proposed (P15, AP4)."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, parties
from domain.access import Actor, Right
from domain.errors import Refused
from domain.parties import PointOfSale
from domain.payments.life import LIVE, PaymentRequest
from domain.work import Work


async def suggested_basket_number(connection: AsyncConnection, actor: Actor, point_of_sale_id: UUID) -> str:
    """REF, the day, and the counter of the day: the number the next request would get (H2). Raises Refused."""
    place = (
        await connection.execute(
            sa.select(PointOfSale.table.c.merchant_id).where(PointOfSale.table.c.id == point_of_sale_id)
        )
    ).first()
    if place is None:
        raise Refused.not_found()
    actor.require_at(place[0], point_of_sale_id, Right.COLLECT)
    now = await parties.now(connection, actor.tenant)
    return _free_number(now, (await connection.execute(_numbers_of_the_day(point_of_sale_id, now))).all())


async def next_basket_number(work: Work, point_of_sale_id: UUID) -> str:
    """The next free number at a point of sale, for a deed that was asked for one in use (AP4)."""
    return _free_number(work.now, await work.read(_numbers_of_the_day(point_of_sale_id, work.now)))


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _numbers_of_the_day(point_of_sale_id: UUID, now: datetime) -> sa.Select[Any]:
    """The basket numbers that are in use at a point of sale, with whether each was made today."""
    table = PaymentRequest.table.c
    today = calendar.today(now)
    made_today = table.created_at >= calendar.start_of_day(today)
    in_use = table.basket_number.startswith(_number(today, ""), autoescape=True) & table.status.in_(map(str, LIVE))
    return sa.select(table.basket_number, made_today, table.status.in_(map(str, LIVE))).where(
        table.point_of_sale_id == point_of_sale_id, made_today | in_use
    )


def _free_number(now: datetime, numbers: Sequence[Any]) -> str:
    """One more than was asked today, or the next that is not in use (H2, AP4)."""
    used = {number for number, _, in_use in numbers if in_use}
    counter = 1 + sum(1 for _, made_today, _ in numbers if made_today)
    while _number(calendar.today(now), counter) in used:
        counter += 1
    return _number(calendar.today(now), counter)


def _number(day: date, counter: int | str) -> str:
    return f"REF{day:%Y%m%d}{counter}"
