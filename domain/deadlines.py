"""Being late: what must happen to an object at an instant, unless something else comes first.

A row per thing pending; it goes when the thing has happened or is no longer wanted. The relay claims what is due and
hands it to a worker until it is gone, so that nothing is lost with a queue or a process."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from domain.db import Entity, Row, column


class Deadline(
    Row,
    table="deadlines",
    key=("subject_id", "name"),
    app="SELECT, INSERT, UPDATE, DELETE",
    relay="SELECT, UPDATE",
    constraints=(sa.Index("deadlines_claim_at_idx", "claim_at"),),
    options={"fillfactor": 80},
):
    """`due_at` is real time, whatever the tenant's clock says; `claim_at` is when the relay looks at it next."""

    subject_kind: str
    subject_id: UUID
    name: str
    due_at: datetime
    claim_at: datetime
    sends: int = column(default=0)
    last_error: str | None = None


Handler = Callable[..., Awaitable[Any]]
_HANDLERS: Final[dict[tuple[str, str], Handler]] = {}


def when_due(entity: type[Entity], name: str) -> Callable[[Handler], Handler]:
    """Marks the deed that a deadline of that name fires on objects of that kind: `deed(work, actor, id)`."""

    def register(deed: Handler) -> Handler:
        _HANDLERS[entity.prefix, name] = deed
        return deed

    return register


def handler(subject_kind: str, name: str) -> Handler:
    """The deed for a deadline. Raises KeyError for a kind that no flow declares."""
    return _HANDLERS[subject_kind, name]


def declared() -> set[tuple[str, str]]:
    """Every (kind, name) that has a deed."""
    return set(_HANDLERS)
