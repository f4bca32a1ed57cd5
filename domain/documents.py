"""Documents: scanned papers that people hand in. They stand in the database, in chunks, where every process reaches
them, and are written in the transaction of what they belong to."""

from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.codes import new_id
from domain.db import Entity, Row, column
from domain.errors import RefusalCode, Refused
from domain.texts import Text
from domain.work import Work


class MediaType(StrEnum):
    """What a document may be."""

    PDF = "application/pdf"
    JPEG = "image/jpeg"
    PNG = "image/png"


MOST_BYTES: Final = 10 * 1024 * 1024
"""How large a document may be."""

CHUNK_BYTES: Final = 256 * 1024
LINK_LASTS: Final = timedelta(hours=1)
"""How long a link to a document opens it, by the issuer's clock."""

DOWNLOAD: Final = "document"
"""What the signature of a document's link is for."""

_BEGINNINGS: Final = {
    MediaType.PDF: b"%PDF-",
    MediaType.JPEG: b"\xff\xd8\xff",
    MediaType.PNG: b"\x89PNG\r\n\x1a\n",
}
_ENDINGS: Final = {
    MediaType.PDF: (".pdf",),
    MediaType.JPEG: (".jpg", ".jpeg"),
    MediaType.PNG: (".png",),
}
_LONGEST_NAME: Final = 120


class Document(
    Entity,
    table="documents",
    prefix="docm",
    app="SELECT, INSERT",
    constraints=(
        sa.CheckConstraint("name <> ''", name="name"),
        sa.CheckConstraint("size BETWEEN 1 AND 10485760", name="size"),
        sa.CheckConstraint("octet_length(sha256) = 32", name="sha256"),
    ),
):
    """A scanned paper. `size` is in bytes; `sha256` is the digest of the whole content."""

    name: str
    media_type: MediaType
    size: int
    sha256: bytes
    created_at: datetime


class DocumentChunk(
    Row,
    table="document_chunks",
    key=("document_id", "n"),
    app="SELECT, INSERT",
    constraints=(
        sa.CheckConstraint("octet_length(content) BETWEEN 1 AND 262144", name="content"),
        sa.CheckConstraint("n >= 0", name="n"),
    ),
):
    """A piece of a document; `n` counts from 0."""

    document_id: UUID = column(references="documents")
    n: int
    content: bytes


class File:
    """A file as it was handed in. As text it is its SHA-256: so the stored hash of an input covers the content without
    its bytes."""

    def __init__(self, name: str, content: bytes, sha256: bytes) -> None:
        self.name = name
        self.content = content
        self.sha256 = sha256

    def __str__(self) -> str:
        return f"sha256:{self.sha256.hex()}"

    __repr__ = __str__


def check_size(file: File, field: str) -> None:
    """Raises Refused (FILE_INVALID) for a file that is too large."""
    if len(file.content) > MOST_BYTES:
        raise Refused(
            RefusalCode.FILE_INVALID,
            Text("Un fichier pèse {most} Mo au plus.", "A file has at most {most} MB."),
            field=field,
            most=MOST_BYTES // (1024 * 1024),
        )


def media_type_of(file: File, field: str) -> MediaType:
    """What a file is, by how it begins; what its sender calls it says nothing. Raises Refused (FILE_INVALID)."""
    check_size(file, field)
    for media_type, beginning in _BEGINNINGS.items():
        if file.content.startswith(beginning):
            return media_type
    raise Refused(
        RefusalCode.FILE_INVALID,
        Text("Un fichier PDF, JPEG ou PNG est attendu.", "A PDF, JPEG or PNG file is expected."),
        field=field,
    )


async def keep(work: Work, file: File, media_type: MediaType) -> Document:
    """The file is kept, piece by piece, after all that the deed has decided so far: call it last, for a deed that
    writes midway shares its transaction with no other."""
    document = work.create(
        Document(
            tenant=work.tenant,
            id=new_id(),
            name=_name(file.name, media_type),
            media_type=media_type,
            size=len(file.content),
            sha256=file.sha256,
            created_at=work.now,
        )
    )
    work.note("create", document, size=document.size, media_type=str(media_type))
    # A statement for all pieces would hold the whole file several times, as text.
    for n, start in enumerate(range(0, len(file.content), CHUNK_BYTES)):
        piece = file.content[start : start + CHUNK_BYTES]
        work.add(DocumentChunk(tenant=work.tenant, document_id=document.id, n=n, content=piece))
        await work.flush()
    return document


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def document(connection: AsyncConnection, tenant: int, document_id: UUID, expires_at: datetime) -> Document:
    """What a link opens that expires at that instant of the issuer's clock. Raises Refused: NOT_FOUND, TOO_LATE."""
    asked = sa.select(*Document.selected(), sa.func.tenant_clock(tenant)).where(Document.table.c.id == document_id)
    row = (await connection.execute(asked)).first()
    if row is None:
        raise Refused.not_found()
    if row[-1] >= expires_at:
        raise Refused(
            RefusalCode.TOO_LATE,
            Text(
                "Ce lien a expiré : rouvrez la facture pour en obtenir un autre.",
                "This link has expired: open the invoice again for another one.",
            ),
        )
    return Document.from_row(tuple(row)[:-1])


async def chunk(connection: AsyncConnection, document_id: UUID, n: int) -> bytes | None:
    """A piece of a document; None after the last one."""
    table = DocumentChunk.table.c
    content: bytes | None = await connection.scalar(
        sa.select(table.content).where(table.document_id == document_id, table.n == n)
    )
    return content


async def content_of(connection: AsyncConnection, document_id: UUID) -> bytes:
    """A whole document."""
    table = DocumentChunk.table.c
    pieces = await connection.scalars(
        sa.select(table.content).where(table.document_id == document_id).order_by(table.n)
    )
    return b"".join(pieces)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _name(given: str, media_type: MediaType) -> str:
    """The name to save it under: no folder, nothing that does not show, and an ending of its type."""
    shown = "".join(character for character in given.replace("\\", "/").rpartition("/")[2] if character.isprintable())
    endings = _ENDINGS[media_type]
    stem = shown.strip()[:_LONGEST_NAME]
    if PurePosixPath(stem).suffix.lower() in endings:
        return stem
    return f"{stem.strip('.') or 'document'}{endings[0]}"
