"""What the tests of the database share: servers on which no relay runs, and someone who sees everything."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from escarcelle.database import DATABASE
from tests.world import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A migrated database in which nothing happens but what these tests do."""
    started = Servers.start(tmp_path_factory.mktemp("house"))
    yield started
    started.stop()


@pytest.fixture
async def superuser(servers: Servers) -> AsyncIterator[asyncpg.Connection]:
    """Whom nothing is hidden from."""
    connection = await asyncpg.connect(servers.postgres.url(DATABASE))
    yield connection
    await connection.close()
