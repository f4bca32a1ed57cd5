"""The journal as a file, for the issuer's staff: who did what to which object, when."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from domain import journal
from domain.access import User
from domain.codes import global_id
from domain.journal import JournalLine
from domain.parties import Holder, PointOfSale
from domain.texts import Text
from reporting.excel import Column, Kind
from tasks.listings.listing import Asked, Listing, newest_first


@dataclass(frozen=True, slots=True)
class _Line:
    entry: JournalLine
    user: str | None
    place: str | None


def _question(asked: Asked) -> sa.Select[Any]:
    table = JournalLine.table.c
    question = (
        asked.within(journal.lines(), table.at)
        .add_columns(User.table.c.login, PointOfSale.table.c.code)
        .outerjoin(User.table, User.table.c.id == table.user_id)
        .outerjoin(PointOfSale.table, PointOfSale.table.c.id == table.point_of_sale_id)
    )
    return newest_first(question, journal.ORDER)


def _line(_: Asked, row: Sequence[Any]) -> _Line:
    return _Line(journal.line_of(row), row[-2], row[-1])


def _holder(line: _Line) -> str | None:
    holder_id = line.entry.holder_id
    return global_id(Holder.prefix, line.entry.tenant, holder_id) if holder_id else None


JOURNAL: Final[Listing[_Line]] = Listing(
    Text("Journal", "Journal"),
    Text("journal", "journal"),
    _question,
    _line,
    (
        (Column(Text("Date", "Date"), 17, Kind.INSTANT), lambda line, _: line.entry.at),
        (Column(Text("Événement", "Event"), 26), lambda line, _: line.entry.kind),
        (Column(Text("Montant", "Amount"), 14, Kind.AMOUNT), lambda line, _: line.entry.amount),
        (
            Column(Text("Objet", "Subject"), 40),
            lambda line, _: global_id(line.entry.subject_kind, line.entry.tenant, line.entry.subject_id),
        ),
        (Column(Text("Utilisateur", "User"), 24), lambda line, _: line.user),
        (Column(Text("Porteur", "Holder"), 40), lambda line, _: _holder(line)),
        (Column(Text("Point d’accueil", "Point of sale"), 12), lambda line, _: line.place),
    ),
)
