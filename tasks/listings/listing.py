"""What a list as a file is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa

from domain import calendar
from domain.access import Actor
from domain.jobs import Job
from domain.texts import Locale, Text
from reporting.excel import Cell, Column

L = TypeVar("L")


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a list, and what for. `until` is exclusive; `conditions` and `order_by` are the list's own."""

    actor: Actor
    locale: Locale
    since: datetime | None
    until: datetime | None
    point_of_sale_id: UUID | None
    conditions: Mapping[str, Any]
    order_by: str | None

    @classmethod
    def by(cls, actor: Actor, job: Job) -> "Asked":
        """What a job was given, as its user asks it."""
        given = job.given
        since, until, place = given["since"], given["until"], given["point_of_sale_id"]
        return cls(
            actor=actor,
            locale=job.locale,
            since=calendar.start_of_day(date.fromisoformat(since)) if since else None,
            until=calendar.end_of_day(date.fromisoformat(until)) if until else None,
            point_of_sale_id=UUID(place) if place else None,
            conditions=given["conditions"],
            order_by=given.get("order_by"),
        )

    def within(self, question: sa.Select[Any], at: sa.ColumnElement[datetime]) -> sa.Select[Any]:
        """Of the question the rows whose instant is in the period."""
        if self.since is not None:
            question = question.where(at >= self.since)
        return question.where(at < self.until) if self.until is not None else question


@dataclass(frozen=True, slots=True)
class Listing(Generic[L]):
    """A kind of list: what it is called, its question in the order of the screen, what a row of it is, and what its
    columns show of that."""

    title: Text
    file_stem: Text
    question: Callable[[Asked], sa.Select[Any]]
    line: Callable[[Asked, Sequence[Any]], L]
    shown: Sequence[tuple[Column, Callable[[L, Locale], Cell]]]

    @property
    def columns(self) -> list[Column]:
        """Its columns."""
        return [column for column, _ in self.shown]

    def cells(self, asked: Asked, row: Sequence[Any]) -> list[Cell]:
        """What stands in a row, a cell for every column."""
        line = self.line(asked, row)
        return [cell(line, asked.locale) for _, cell in self.shown]


def newest_first(question: sa.Select[Any], columns: Sequence[sa.ColumnElement[Any]]) -> sa.Select[Any]:
    """The question, in a descending order."""
    return question.order_by(*(column.desc() for column in columns))
