"""Telling the world: a row for each thing to tell, written in the transaction of its cause (G3).

The relay claims rows and sends them on; a row goes when its consumer has finished, in the consumer's transaction, and
its identifier enters the inbox. Sent is not done: what is not done is sent again. What nobody can deliver becomes a
dead letter, with the reason."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import orjson
import sqlalchemy as sa

from domain.db import Entity, Row, computed


class Topic(StrEnum):
    """Who consumes a row: open subscriptions, a worker that sends mail or a push, one that does a job, or one that
    copies an issuer's data for analysts."""

    LIVE = "live"
    MAIL = "mail"
    PUSH = "push"
    JOB = "job"
    COPY = "copy"


class OutboxRow(
    Entity,
    table="outbox",
    app="SELECT, INSERT, UPDATE, DELETE",
    relay="SELECT, UPDATE, DELETE",
    constraints=(sa.Index("outbox_claim_at_idx", "claim_at"),),
    options={"fillfactor": 80},
):
    """One thing to tell. `claim_at` is when the relay looks at it next."""

    topic: Topic
    payload: dict[str, Any]
    claim_at: datetime = computed(sa.text("clock_timestamp()"))
    created_at: datetime = computed(sa.text("clock_timestamp()"))
    sends: int = computed(sa.text("0"))
    failures: int = computed(sa.text("0"))
    last_error: str | None = computed(sa.text("NULL"))

    @property
    def live_update(self) -> bytes:
        """As open subscriptions hear it."""
        return orjson.dumps(self.payload | {"tenant": self.tenant, "update": str(self.id)})


class InboxRow(
    Row,
    table="inbox",
    key=("message_id",),
    app="SELECT, INSERT, DELETE",
    relay="SELECT, DELETE",
    constraints=(sa.Index("inbox_done_at_idx", "done_at"),),
):
    """A message that its consumer has finished with: it is not acted on twice."""

    message_id: UUID
    done_at: datetime = computed(sa.text("clock_timestamp()"))


class DeadLetter(
    Entity,
    table="dead_letters",
    prefix="dead",
    app="SELECT, INSERT, UPDATE, DELETE",
    relay="SELECT, DELETE",
    constraints=(sa.Index("dead_letters_given_up_at_idx", "given_up_at"),),
):
    """A message that was given up, with the reason. It can be sent again by hand."""

    topic: Topic
    payload: dict[str, Any]
    created_at: datetime
    given_up_at: datetime = computed(sa.text("clock_timestamp()"))
    failures: int
    reason: str


FAILURES_BEFORE_GIVING_UP: Final = 30
"""With pauses of an hour at most, about a day: as long as a mail server may be away."""

INBOX_LASTS: Final = timedelta(days=30)
"""Longer than any message is sent again. One that may yet be sent again, by hand, keeps its inbox row for as long."""

DEAD_LETTERS_LAST: Final = timedelta(days=90)
"""How long a message that was given up can be sent again by hand."""


def pause_after(times: int) -> timedelta:
    """How long to wait before the next try: 5 s, doubling, at most an hour."""
    return min(timedelta(seconds=5 * (1 << min(times, 16))), timedelta(hours=1))
