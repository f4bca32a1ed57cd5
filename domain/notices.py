"""Notices: what is written to people, declared by the flow that causes it.

A notice names its template and what it is about. The mail is made later, by a worker, from what the database then says:
personal data stands in one place, and a message never comes before its cause."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.db import Entity
from domain.texts import Fact, Locale, Text


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail about to be written. `facts` fill the subject and the template; `template` is a file in each language.
    The link ends with a signed token when it `signs` for something: a purpose and an identifier."""

    to: str
    locale: Locale
    subject: Text
    template: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    link_path: str = "/"
    signs: tuple[str, UUID] | None = None


Writer = Callable[[AsyncConnection, int, Any], Awaitable[list[Letter]]]
_WRITERS: Final[dict[str, Writer]] = {}


@dataclass(frozen=True, slots=True)
class Notice:
    """That something is to be told about an object."""

    name: str
    subject: Entity


def writes(name: str) -> Callable[[Writer], Writer]:
    """Marks the question that turns a notice into letters: `write(connection, tenant, subject_id)`, read when the mail
    is sent."""

    def register(writer: Writer) -> Writer:
        _WRITERS[name] = writer
        return writer

    return register


def writer(name: str) -> Writer:
    """The question for a notice. Raises KeyError for one that no flow declares."""
    return _WRITERS[name]
