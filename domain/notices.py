"""Notices: what is written to people, declared by the flow that causes it.

A notice names what is to be said and what it is about. The mail, and the push beside it, are made later, by a worker,
from what the database then says: personal data stands in one place, and a message never comes before its cause."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.db import Entity
from domain.texts import Fact, Locale, Text


@dataclass(frozen=True, slots=True)
class Paper:
    """A document of one page or more about to be made: `template` lays it out, `words` are all that it says. `name` is
    what the file is called."""

    template: str
    words: Mapping[str, Any]
    name: str


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A file that comes with a mail as it is."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail about to be written. `facts` fill the subject and the template; `template` is a file in each language.
    The link ends with a signed token when it `signs` for something: a purpose and an identifier. Each of the `papers`
    comes with it as a PDF, and then the `enclosures`. `quoted` are the lines that somebody has written, who is answered
    at `reply_to`."""

    to: str
    locale: Locale
    subject: Text
    template: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    link_path: str = "/"
    signs: tuple[str, UUID] | None = None
    papers: Sequence[Paper] = ()
    enclosures: Sequence[Enclosure] = ()
    quoted: Sequence[str] = ()
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """A few words about to show on the devices of a holder, who may read them in a crowd. From `until` on they are of
    no use to anyone."""

    to: UUID
    title: Text
    body: Text
    until: datetime
    facts: Mapping[str, Fact] = field(default_factory=dict)
    link_path: str = "/"


class NoAddress(Exception):
    """Whom a notice is for cannot be reached any more: it is given up, for the issuer to hear of."""


# ── what papers of every flow say ─────────────────────────────────────────────────────────────────────────────────────

A_TEST: Final = Text("Essai : aucune somme réelle n’est en jeu.", "A test: no real money is involved.")
"""What the pages of a sandbox say."""

QUESTION: Final = Text("Une question ? {contact}", "A question? {contact}")
"""What pages end with, where the issuer says how it can be reached."""

PAGE: Final = Text("Page", "Page")
"""What stands before the number of a page."""

# ── who writes them ───────────────────────────────────────────────────────────────────────────────────────────────────

Writer = Callable[[AsyncConnection, int, Any], Awaitable[list[Letter]]]
Pusher = Callable[[AsyncConnection, int, Any], Awaitable[Push | None]]
_WRITERS: Final[dict[str, Writer]] = {}
_PUSHERS: Final[dict[str, Pusher]] = {}


@dataclass(frozen=True, slots=True)
class Notice:
    """That something is to be told about an object."""

    name: str
    subject: Entity


def writes(name: str) -> Callable[[Writer], Writer]:
    """Marks the question that turns a notice into letters: `write(connection, tenant, subject_id)`, read when the mail
    is sent. It raises NoAddress when somebody must be told, and cannot be."""

    def register(writer: Writer) -> Writer:
        _WRITERS[name] = writer
        return writer

    return register


def writer(name: str) -> Writer:
    """The question for a notice. Raises KeyError for one that no flow declares."""
    return _WRITERS[name]


def pushes(name: str) -> Callable[[Pusher], Pusher]:
    """Marks the question that turns a notice into a push: `push(connection, tenant, subject_id)`, read when it is sent;
    None when there is nothing to say any more."""

    def register(pusher: Pusher) -> Pusher:
        _PUSHERS[name] = pusher
        return pusher

    return register


def pusher(name: str) -> Pusher:
    """The question for a notice. Raises KeyError for one that no flow pushes."""
    return _PUSHERS[name]
