"""Being in a state: a lifecycle is a table of verb × status → status, and of the instants at which a status lapses.

The table stands in Python; the database holds a copy, made by a migration, and refuses every move outside it. A test
compares the two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from domain.db import PROTECTION, Entity, Protection, metadata
from domain.errors import RefusalCode, Refused
from domain.texts import Text

TRANSITIONS: Final = sa.Table(
    "transitions",
    metadata,
    sa.Column("machine", sa.Text, primary_key=True),
    sa.Column("was", sa.Text, primary_key=True),
    sa.Column("becomes", sa.Text, primary_key=True),
)
"""What the database lets `status` do, for every machine (a machine is named after its table)."""

PROTECTION["transitions"] = Protection("SELECT", "", reader=True, append_only=False, walled=False, options={})

LIFECYCLES: Final[dict[str, "Lifecycle"]] = {}
"""Every lifecycle, by the name of its table."""


_WRONG_STATE: Final = Text(
    "Cette opération n’est plus possible : statut « {status} ».", "This is no longer possible: status “{status}”."
)
_TOO_LATE: Final = Text("Le délai est dépassé.", "The time limit has passed.")


@dataclass(frozen=True, slots=True)
class Lapse:
    """From the instant in `deadline` on, a row in status `was` is in fact `becomes`, swept or not (P25). `only_if`
    names a column that must be true."""

    was: StrEnum
    deadline: str
    becomes: StrEnum
    verb: str
    only_if: str | None = None


@dataclass(frozen=True)
class Lifecycle:
    """The life of one entity's rows. Of several lapses of a status the first that holds for the row counts."""

    entity: type[Entity]
    moves: Mapping[tuple[str, Any], Any]
    lapses: Sequence[Lapse] = ()
    wrong_state: Text = _WRONG_STATE
    too_late: Text = _TOO_LATE
    labels: Mapping[Any, Text] = field(default_factory=dict)

    def __post_init__(self) -> None:
        LIFECYCLES[self.entity.table.name] = self

    @property
    def verbs(self) -> tuple[str, ...]:
        """Every verb, once, in the order of life."""
        return tuple(dict.fromkeys(verb for verb, _ in self.moves))

    @property
    def transitions(self) -> set[tuple[str, str, str]]:
        """(machine, was, becomes), as the database's copy holds them."""
        return {(self.entity.table.name, str(was), str(becomes)) for (_, was), becomes in self.moves.items()}

    def is_final(self, status: StrEnum) -> bool:
        """Whether nothing leads out of the status."""
        return all(was != status for _, was in self.moves)

    def status_at(self, entity: Any, now: datetime) -> StrEnum:
        """The status as it is at that instant, which the row may not know yet (P25)."""
        status: StrEnum = entity.status
        lapse = self._lapse_of(entity)
        if lapse is None:
            return status
        deadline: datetime | None = getattr(entity, lapse.deadline)
        return lapse.becomes if deadline is not None and now >= deadline else status

    def status_in_sql(self, now: sa.ColumnElement[Any] | sa.ScalarSelect[Any]) -> sa.ColumnElement[str]:
        """The same, for questions."""
        columns = self.entity.table.c
        return sa.case(
            *(
                (
                    sa.and_(
                        columns.status == str(lapse.was),
                        columns[lapse.deadline] <= now,
                        *([columns[lapse.only_if]] if lapse.only_if else []),
                    ),
                    sa.literal(str(lapse.becomes)),
                )
                for lapse in self.lapses
            ),
            else_=columns.status,
        )

    def allows(self, entity: Any, verb: str, now: datetime) -> bool:
        """Whether the verb is possible at that instant. What lapses a status is possible from its instant on, and not
        before; every other verb must come before it."""
        if any(verb == lapse.verb for lapse in self.lapses):
            own = self._lapse_of(entity)
            return own is not None and verb == own.verb and self.status_at(entity, now) is own.becomes
        return (verb, self.status_at(entity, now)) in self.moves

    def require(self, entity: Any, verb: str, now: datetime) -> None:
        """Refuse what is not possible: TOO_LATE when time alone forbids it, before the sweep as after it, else
        WRONG_STATE."""
        if self.allows(entity, verb, now):
            return
        status = self.status_at(entity, now)
        label = self.labels.get(status)
        lapsing = {lapse.verb for lapse in self.lapses}
        otherwise = {becomes for (does, _), becomes in self.moves.items() if does not in lapsing}
        if verb not in lapsing and any(status is lapse.becomes for lapse in self.lapses) and status not in otherwise:
            raise Refused(RefusalCode.TOO_LATE, self.too_late)
        raise Refused(RefusalCode.WRONG_STATE, self.wrong_state, status=label.in_locale if label else str(status))

    def _lapse_of(self, entity: Any) -> Lapse | None:
        """What becomes of this row by time alone."""
        for lapse in self.lapses:
            if lapse.was is entity.status and (lapse.only_if is None or getattr(entity, lapse.only_if)):
                return lapse
        return None
