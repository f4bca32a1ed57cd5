"""What tests share: real servers, started once; a running API, workers and a mail catcher; an issuer for each test."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import asyncpg
import pytest
import uvicorn

from api.app import create_app
from domain.calendar import PARIS
from domain.db import READER, Database, connect_as
from domain.settings import Settings
from escarcelle.database import newest_revision
from reporting import audit
from tests.outside import OUTSIDE, PROCESSES
from tests.world import Running, Servers, World, environment, serving


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A real PostgreSQL and a real Redis."""
    started = Servers.start(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole program: an API in this process, the task process and the mail catcher beside it. On Debian's servers,
    the API in two processes of its own, and two task processes."""
    mails = tmp_path_factory.mktemp("mails")
    smtp_port, page_port = _free_port(), _free_port()
    settings = servers.settings.model_copy(
        update={
            "smtp_url": f"smtp://127.0.0.1:{smtp_port}",
            "mail_page_url": f"http://127.0.0.1:{page_port}",
            "reporting_folder": tmp_path_factory.mktemp("reporting"),
            # No night falls while tests look at what there is.
            "reporting_hour": (datetime.now(PARIS).hour + 12) % 24,
        }
    )
    options = ["--smtp-port", str(smtp_port), "--page-port", str(page_port), "--folder", str(mails)]
    log = tmp_path_factory.mktemp("logs") / "work.log"
    catcher = [sys.executable, "-m", "escarcelle", "catch-mail", *options]
    with log.open("wb") as file:
        children = [
            subprocess.Popen(catcher, env=environment(settings)),
            *(
                subprocess.Popen([sys.executable, "-m", "escarcelle", "work"], env=environment(settings), stderr=file)
                for _ in range(PROCESSES)
            ),
        ]
    with (
        serving(servers, processes=PROCESSES, settings=settings) if OUTSIDE else _serving_here(servers, settings)
    ) as running:
        _wait(lambda: log.read_text().count("tasks_started") == PROCESSES, "the task processes do not start")
        _wait(lambda: _listens(page_port), "the mail catcher does not start")
        yield running
    for child in children:
        child.terminate()
        child.wait(timeout=15)


class Opened:
    """Connections that outlast a test, to whichever servers: to prepare what they ask takes longer than the answers."""

    def __init__(self) -> None:
        self._databases: dict[str, Database] = {}
        self._auditors: dict[str, asyncpg.Connection] = {}

    async def database(self, servers: Servers) -> Database:
        """As the application."""
        database = self._databases.get(servers.settings.database_url)
        if database is None:
            database = self._databases[servers.settings.database_url] = Database(servers.settings)
            await database.open()
        return database

    async def auditor(self, servers: Servers) -> asyncpg.Connection:
        """As who sees everything."""
        auditor = self._auditors.get(servers.settings.database_url)
        if auditor is None or auditor.is_closed():
            auditor = self._auditors[servers.settings.database_url] = await connect_as(servers.settings, READER)
        return auditor

    async def close(self) -> None:
        """Let go of all, some of whose servers are gone."""
        for auditor in self._auditors.values():
            await auditor.close()
        for database in self._databases.values():
            await database.close()


@pytest.fixture(scope="session")
async def opened() -> AsyncIterator[Opened]:
    """What outlasts a test."""
    connections = Opened()
    yield connections
    await connections.close()


@pytest.fixture
async def database(servers: Servers, opened: Opened) -> Database:
    """Connections as the application."""
    return await opened.database(servers)


@pytest.fixture
async def world(servers: Servers, database: Database, opened: Opened) -> AsyncIterator[World]:
    """An issuer of the test's own, audited when the test is over."""
    made = await World.make(servers, database)
    yield made
    assert await audit.differences(await opened.auditor(servers), made.tenant) == []


@contextmanager
def _serving_here(servers: Servers, settings: Settings) -> Iterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(uvicorn.Config(create_app(settings, newest_revision()), log_config=None))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    _wait(lambda: server.started, "the API does not start")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield Running(servers=servers, settings=settings, url=url, mail_page_url=settings.mail_page_url or "")
    server.should_exit = True
    thread.join(timeout=15)


def _wait(until: Callable[[], bool], else_say: str) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline, else_say
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
