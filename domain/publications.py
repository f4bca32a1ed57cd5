"""What an issuer publishes for the people who use it: news, and documents at addresses of its own (P5)."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import calendar, fields, parties
from domain.access import ISSUER_STAFF, Actor
from domain.codes import new_id
from domain.db import Entity
from domain.errors import RefusalCode, Refused
from domain.texts import Text
from domain.work import Work


class NewsItem(
    Entity,
    table="news",
    prefix="news",
    constraints=(sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]),),
):
    """A piece of news, from the day `published_on`, until it is taken back."""

    published_on: date
    title_fr: str
    title_en: str
    body_fr: str
    body_en: str
    created_at: datetime
    removed_at: datetime | None = None


class DocumentKind(StrEnum):
    """What a published document is. GUIDE: how something is done. COMMUNICATION: what a merchant tells its customers
    with. FAQ: answers to questions that are often asked."""

    GUIDE = "GUIDE"
    COMMUNICATION = "COMMUNICATION"
    FAQ = "FAQ"


class PublishedDocument(
    Entity,
    table="published_documents",
    prefix="pdoc",
    constraints=(
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]),
        sa.CheckConstraint("url LIKE 'https://_%'", name="url"),
    ),
):
    """A document that stands elsewhere, mostly on the issuer's own site, until it is taken back."""

    kind: DocumentKind
    title_fr: str
    title_en: str
    url: str
    created_at: datetime
    removed_at: datetime | None = None


MOST: Final = 100
"""How many pieces of news, and how many documents, an issuer may have at a time: they are read whole."""

LONGEST_BODY: Final = 4000
"""How long a piece of news may be, in characters."""

LONGEST_ADDRESS: Final = 500
"""How long a document's address may be, in characters."""

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def publish_news(
    work: Work,
    actor: Actor,
    *,
    title_fr: str,
    title_en: str,
    body_fr: str,
    body_en: str,
    published_on: date | None = None,
) -> NewsItem:
    """A piece of news, from today or a given day on. Raises Refused: INVALID; WRONG_STATE when there are too many."""
    actor.require("publishNews")
    title_fr, title_en = fields.line(title_fr, "input.titleFr"), fields.line(title_en, "input.titleEn")
    body_fr = fields.lines(body_fr, "input.bodyFr", longest=LONGEST_BODY)
    body_en = fields.lines(body_en, "input.bodyEn", longest=LONGEST_BODY)
    await work.take()
    await _leave_room(work, NewsItem)
    return work.note(
        "create",
        work.create(
            NewsItem(
                tenant=work.tenant,
                id=new_id(),
                published_on=published_on or calendar.today(work.now),
                title_fr=title_fr,
                title_en=title_en,
                body_fr=body_fr,
                body_en=body_en,
                created_at=work.now,
            )
        ),
    )


async def publish_document(
    work: Work, actor: Actor, *, kind: DocumentKind, title_fr: str, title_en: str, url: str
) -> PublishedDocument:
    """A document at an address. Raises Refused: INVALID; WRONG_STATE when there are too many."""
    actor.require("publishDocument")
    title_fr, title_en = fields.line(title_fr, "input.titleFr"), fields.line(title_en, "input.titleEn")
    url = _checked_address(url)
    await work.take()
    await _leave_room(work, PublishedDocument)
    return work.note(
        "create",
        work.create(
            PublishedDocument(
                tenant=work.tenant,
                id=new_id(),
                kind=kind,
                title_fr=title_fr,
                title_en=title_en,
                url=url,
                created_at=work.now,
            )
        ),
    )


async def remove_news(work: Work, actor: Actor, news_id: UUID) -> NewsItem:
    """Nobody reads it any more. Raises Refused (NOT_FOUND)."""
    actor.require("removeNews")
    item = await work.take(NewsItem.by(id=news_id))
    if item.removed_at is not None:
        raise Refused.not_found()
    work.change(item, removed_at=work.now)
    return work.note("remove", item)


async def remove_document(work: Work, actor: Actor, document_id: UUID) -> PublishedDocument:
    """It is listed no more. Raises Refused (NOT_FOUND)."""
    actor.require("removeDocument")
    document = await work.take(PublishedDocument.by(id=document_id))
    if document.removed_at is not None:
        raise Refused.not_found()
    work.change(document, removed_at=work.now)
    return work.note("remove", document)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def news(connection: AsyncConnection, actor: Actor) -> Sequence[NewsItem]:
    """The issuer's news, the latest first; what is of a day to come its staff alone reads."""
    table = NewsItem.table.c
    asked = (
        sa.select(*NewsItem.selected())
        .where(table.removed_at.is_(None))
        .order_by(table.published_on.desc(), table.created_at.desc(), table.id)
    )
    if actor.role not in ISSUER_STAFF:
        today = calendar.today(await parties.now(connection, actor.tenant))
        asked = asked.where(table.published_on <= today)
    return [NewsItem.from_row(row) for row in await connection.execute(asked)]


async def documents(connection: AsyncConnection) -> Sequence[PublishedDocument]:
    """The issuer's documents, the latest first."""
    table = PublishedDocument.table.c
    asked = (
        sa.select(*PublishedDocument.selected())
        .where(table.removed_at.is_(None))
        .order_by(table.created_at.desc(), table.id)
    )
    return [PublishedDocument.from_row(row) for row in await connection.execute(asked)]


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _leave_room(work: Work, kind: type[Entity]) -> None:
    counted = sa.select(sa.func.count()).select_from(kind.table).where(kind.table.c.removed_at.is_(None))
    if (await work.read(counted))[0][0] >= MOST:
        raise Refused(
            RefusalCode.WRONG_STATE,
            Text(
                "{most} publications au plus : retirez-en une avant d’en ajouter.",
                "At most {most} publications: remove one before you add another.",
            ),
            most=MOST,
        )


def _checked_address(given: str) -> str:
    url = fields.line(given, "input.url", longest=LONGEST_ADDRESS)
    # What stands before an @ may be taken for the site by who reads it.
    found = _ADDRESS.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65_535:
        raise Refused.invalid(
            "input.url",
            "Une adresse qui commence par https:// est attendue.",
            "An address that begins with https:// is expected.",
        )
    return url


_ADDRESS: Final = re.compile(r"https://[\w-]+(\.[\w-]+)+(:(?P<port>[0-9]{1,5}))?([/?#][^\s\\]*)?")
"""A site's host, and what is on it."""
