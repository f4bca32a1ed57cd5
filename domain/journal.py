"""The journal: one line for every change of every flow, in its transaction, never touched again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from domain.db import Entity, TransactionNumber, computed


class JournalLine(
    Entity,
    table="journal",
    prefix="jrnl",
    app="SELECT, INSERT",
    append_only=True,
    constraints=(
        sa.Index("journal_subject_idx", "tenant", "subject_id", "sequence"),
        sa.Index("journal_xact_idx", "xact"),
    ),
):
    """Who did what to which object, when. It holds references, no personal data and no secret, so that erasure and
    proof can coexist. `xact` lets a copy miss no line that commits late."""

    kind: str
    at: datetime
    user_id: UUID | None = None
    point_of_sale_id: UUID | None = None
    holder_id: UUID | None = None
    amount: int | None = None
    subject_kind: str
    subject_id: UUID
    detail: dict[str, Any]
    sequence: int = computed(sa.Identity(always=True))
    xact: int = computed(sa.text("pg_current_xact_id()"), sql=TransactionNumber())


ORDER: Final = (JournalLine.table.c.at, JournalLine.table.c.sequence)
"""The order of the journal, newest line first: it goes down."""


def lines() -> sa.Select[Any]:
    """Every line, for the issuer's staff alone."""
    return sa.select(*JournalLine.selected(), JournalLine.table.c.sequence)


def history(subject_id: UUID) -> sa.Select[Any]:
    """The journal's lines about one object."""
    table = JournalLine.table.c
    return sa.select(*JournalLine.selected(), table.sequence).where(table.subject_id == subject_id)


def line(line_id: UUID) -> sa.Select[Any]:
    """One line."""
    table = JournalLine.table.c
    return sa.select(*JournalLine.selected(), table.sequence).where(table.id == line_id)


def line_of(row: Sequence[Any]) -> JournalLine:
    """What a row of these questions holds, with its place in the journal."""
    width = len(JournalLine.columns)
    found = JournalLine.from_row(row[:width])
    found.sequence = row[width]
    return found
