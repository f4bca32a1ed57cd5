"""Holders as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from domain import parties
from domain.parties import Channel, Holder
from domain.texts import Text
from reporting.excel import Column, Kind
from tasks.listings.listing import Asked, Listing

CHANNELS: Final = {Channel.EMAIL: Text("E-mail", "E-mail"), Channel.POST: Text("Courrier", "Post")}
"""How a statement reaches a member, in words."""


@dataclass(frozen=True, slots=True)
class _Line:
    holder: Holder
    wallet: int


def _question(asked: Asked) -> sa.Select[Any]:
    question = parties.holders(asked.actor, asked.conditions.get("search")).add_columns(parties.wallet_in_sql())
    return question.order_by(*parties.HOLDER_ORDER)


def _line(_: Asked, row: Sequence[Any]) -> _Line:
    return _Line(Holder.from_row(row[:-1]), row[-1])


HOLDERS: Final[Listing[_Line]] = Listing(
    Text("Porteurs", "Holders"),
    Text("porteurs", "holders"),
    _question,
    _line,
    (
        (Column(Text("Référence", "Reference"), 20), lambda line, _: line.holder.reference),
        (Column(Text("Nom", "Name"), 24), lambda line, _: line.holder.name),
        (Column(Text("Prénom", "First name"), 18), lambda line, _: line.holder.first_name),
        (Column(Text("E-mail", "E-mail"), 32), lambda line, _: line.holder.email),
        (Column(Text("Mobile", "Mobile"), 16), lambda line, _: line.holder.mobile),
        (Column(Text("Rue", "Street"), 30), lambda line, _: line.holder.street),
        (Column(Text("Code postal", "Postcode"), 11), lambda line, _: line.holder.postcode),
        (Column(Text("Ville", "Town"), 22), lambda line, _: line.holder.town),
        (Column(Text("Pays", "Country"), 8), lambda line, _: line.holder.country),
        (Column(Text("Solde", "Wallet"), 14, Kind.AMOUNT, is_totalled=True), lambda line, _: line.wallet),
        (Column(Text("Adhésion le", "Member since"), 13, Kind.DAY), lambda line, _: line.holder.member_since),
        (
            Column(Text("Cotisation jusqu’au", "Dues paid until"), 13, Kind.DAY),
            lambda line, _: line.holder.dues_paid_until,
        ),
        (
            Column(Text("Relevés par", "Statements by"), 12),
            lambda line, locale: CHANNELS[by].in_locale(locale) if (by := line.holder.statement_by) else None,
        ),
    ),
)
