"""Servers that the program does not bring along: Debian's PostgreSQL and Redis, as an operator has them.

With ESCARCELLE_TEST_SERVERS=outside the tests use them, and run two API processes and two task processes. `bin/test
--all` does so after everything else. Called by itself, this module says whether they are installed."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import asyncpg

from escarcelle.embedded import CannotStart

_SERVERS: Final = os.environ.get("ESCARCELLE_TEST_SERVERS", "")
if _SERVERS not in ("", "outside"):
    sys.exit(f"ESCARCELLE_TEST_SERVERS is {_SERVERS!r}: only `outside` is known.")

OUTSIDE: Final = _SERVERS == "outside"
"""Whether these tests run on Debian's servers."""

PROCESSES: Final = 2 if OUTSIDE else 1
"""How many task processes run; on Debian's servers also how many API processes."""

_OLDEST: Final = 15
_DEBIAN: Final = Path("/usr/lib/postgresql")
_REDIS: Final = Path("/usr/bin/redis-server")


def postgresql() -> Path | None:
    """The folder of Debian's PostgreSQL's programs, the oldest of those that are promised to do; None for the wheel's.
    Raises CannotStart where there is none."""
    if not OUTSIDE:
        return None
    _require()
    return _postgresqls()[0]


def redis_server() -> Path | None:
    """Debian's Redis server; None for the wheel's. Raises CannotStart where there is none."""
    if not OUTSIDE:
        return None
    _require()
    return _REDIS


def as_an_operator_has_it(superuser_url: str, database: str) -> None:
    """Give the database what Debian in French gives it, and the wheel's PostgreSQL does not."""
    asyncio.run(_alter(superuser_url, database))


async def _alter(superuser_url: str, database: str) -> None:
    connection = await asyncpg.connect(superuser_url)
    try:
        for setting in ("timezone = 'Europe/Paris'", "datestyle = 'ISO, DMY'"):
            await connection.execute(f"ALTER DATABASE {database} SET {setting}")
    finally:
        await connection.close()


def _require() -> None:
    missing = [
        package
        for package, installed in (("postgresql", bool(_postgresqls())), ("redis-server", _REDIS.exists()))
        if not installed
    ]
    if missing:
        raise CannotStart(
            f"Debian's PostgreSQL (15 or newer) and Redis are needed: apt-get install {' '.join(missing)}"
        )


def _postgresqls() -> list[Path]:
    found = [folder for folder in _DEBIAN.glob("*/bin") if (folder / "initdb").exists()]
    versions = {int(folder.parent.name): folder for folder in found if folder.parent.name.isdecimal()}
    return [versions[version] for version in sorted(versions) if version >= _OLDEST]


if __name__ == "__main__":
    try:
        _require()
    except CannotStart as error:
        sys.exit(str(error))
