"""The nightly copy for analysts, as a worker makes it: `escarcelle nightly` in a process of its own, so that its memory
is not the worker's, and no mail waits for it."""

import asyncio
import sys
from typing import Final

import structlog

from domain import parties
from domain.db import Database
from domain.settings import Settings

log = structlog.get_logger(__name__)

LONGEST_SECONDS: Final = 6 * 3600
"""After which a copy is cut off. What it has made until then goes on serving."""


_WORDS: Final = 1_000


class Failed(Exception):
    """There is no new copy. `reason` holds no personal data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def copy(database: Database, settings: Settings, tenant: int) -> None:
    """Copy the issuer's data, or leave it to whoever is at it. Raises Failed."""
    if settings.reporting_folder is None:
        raise Failed("this worker has no REPORTING_FOLDER")
    async with database.reading(tenant) as connection:
        slug = (await parties.issuer(connection)).slug
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "escarcelle", "nightly", "--issuer", slug, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise Failed(f"it took more than {LONGEST_SECONDS} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("nightly_said", tenant=tenant, said=said.decode(errors="replace")[-_WORDS:])
        raise Failed(f"`escarcelle nightly` ended with {process.returncode}")
