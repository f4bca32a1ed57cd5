"""Imports: a workbook that was handed in is read by a process of its own, and then taken over in one transaction."""

import asyncio
import json
import sys
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from domain import imports, jobs, messages
from domain.access import Actor
from domain.db import Database
from domain.errors import Refused
from domain.imports import Broken, Cell, Progress, SheetRow
from domain.jobs import Job, RowProblem, RowsRefused
from domain.texts import Text
from domain.work import perform

_READER: Final = Path(__file__).with_name("sheet_reader.py")
_READ_SECONDS: Final = 12
"""How long the reader may take: less than the time for which its message is in hand, which begins anew once the file
is read."""

_SAY_EVERY_SECONDS: Final = 1
_UNREADABLE: Final = Text(
    "Ce fichier est illisible : enregistrez-le de nouveau avec Excel, au format .xlsx.",
    "This file cannot be read: save it again with Excel, as .xlsx.",
)
_WRONG: Final = {
    "locked": Text(
        "Ce fichier est protégé par un mot de passe : enregistrez-le sans.",
        "This file is protected by a password: save it without one.",
    ),
    "too_large": Text(
        "Ce classeur est trop grand : ne gardez que le tableau des adhérents, et effacez ce qui est autour.",
        "This workbook is too large: keep the table of members only, and clear what is around it.",
    ),
}


async def import_holders(database: Database, job: Job, message_id: UUID) -> None:
    """Take over what a file says of members. Raises Refused when its user may no longer, RowsRefused for what is wrong
    with the file, Overtaken, and what breaks."""
    keep = partial(perform, database, Actor(tenant=job.tenant))
    run = (job.id, job.runs, message_id)
    async with database.reading(job.tenant) as connection:
        user = await jobs.exporter(connection, job)
        content = await jobs.given_content(connection, job.id)
    if user is None or not user.may_use("importHolders"):
        raise Refused.forbidden()
    sheet = await read(content)
    await keep(messages.keep_in_hand, message_id)
    # A thread of its own: whatever a file holds, what else this process does goes on.
    members = await asyncio.to_thread(imports.members_in, sheet)

    progress = Progress()
    taking = asyncio.create_task(perform(database, user, imports.take_over, *run, members, progress))
    try:
        while not taking.done():
            await keep(jobs.note_progress, *run, progress.done, len(members))
            await asyncio.wait({taking}, timeout=_SAY_EVERY_SECONDS)
    except jobs.Overtaken:
        # Or the other was done just before this was said.
        await taking
    finally:
        taking.cancel()
    taking.result()


async def read(content: bytes, seconds: float = _READ_SECONDS) -> list[SheetRow]:
    """The rows of a workbook's first sheet. Whatever the file does to its reader, this raises RowsRefused only."""
    # Nothing is inherited: no secret in its environment, no connection, no folder of its own.
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_READER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await reader.communicate(content)
    except TimeoutError:
        said = b""
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()
    if reader.returncode != 0:
        raise RowsRefused(RowProblem.of(_UNREADABLE))
    return await asyncio.to_thread(_rows, said)


def _rows(said: bytes) -> list[SheetRow]:
    answer: dict[str, Any] = json.loads(said)
    if "wrong" in answer:
        raise RowsRefused(RowProblem.of(_WRONG.get(answer["wrong"], _UNREADABLE)))
    return [(number, [_cell(cell) for cell in cells]) for number, cells in answer["rows"]]


def _cell(cell: Any) -> Cell:
    if isinstance(cell, dict):
        return Broken() if "error" in cell else date.fromisoformat(cell["day"])
    read: Cell = cell
    return read
