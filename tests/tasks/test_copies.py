"""The relay asks for each issuer's copy once a night, a worker makes it, and operators see how old it is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from api.app import create_app
from domain.db import RELAY, Database, connect_as
from escarcelle.database import newest_revision
from tasks.lateness import lateness
from tasks.relay import Relay
from tests.reporting.stores import AtWork
from tests.tasks import process_working, until
from tests.world import Servers, World

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A real PostgreSQL and Redis of their own: a relay sees every issuer."""
    started = Servers.start(tmp_path_factory.mktemp("servers"))
    yield started
    started.stop()


@pytest.fixture
async def at_work(servers: Servers, world: World, tmp_path: Path) -> AtWork:
    """An issuer that has been there for some nights, alone."""
    await world.as_owner("UPDATE issuers SET created_at = now() + interval '1 day' WHERE tenant <> $1", world.tenant)
    await world.as_owner("UPDATE issuers SET created_at = now() - interval '3 days' WHERE tenant = $1", world.tenant)
    await world.as_owner("DELETE FROM outbox")
    superuser = await asyncpg.connect(servers.postgres.url())
    await superuser.execute("SET session_replication_role = replica; DELETE FROM reporting_copies")
    await superuser.close()
    return await AtWork.begin(world, tmp_path / "stores")


@pytest.fixture
async def relay(at_work: AtWork) -> AsyncIterator[Relay]:
    """A relay that knows the folder."""
    one = Relay(at_work.settings)
    yield one
    stopped = asyncio.Event()
    stopped.set()
    await one.run(stopped)


async def rows(at_work: AtWork, table: str, where: str = "true") -> int:
    """How many of this issuer."""
    found = await at_work.world.as_owner(
        f"SELECT count(*) FROM {table} WHERE tenant = $1 AND {where}", at_work.world.tenant
    )
    return int(found[0][0])


async def test_each_issuer_is_asked_for_once_a_night(at_work: AtWork, relay: Relay) -> None:
    other = Relay(at_work.settings)
    asked = await asyncio.gather(*(one.ask_for_copies() for one in (relay, other)))
    assert sorted(asked) == [0, 1]
    assert await relay.ask_for_copies() == 0
    assert await rows(at_work, "outbox", "topic = 'copy'") == 1
    # The night before is another one.
    connection = await connect_as(at_work.settings, RELAY)
    assert await connection.fetchval("SELECT ask_for_copies($1)", at_work.settings.reporting_hour + 24) == 1
    await connection.close()
    stopped = asyncio.Event()
    stopped.set()
    await other.run(stopped)


async def test_an_issuer_of_today_waits_for_its_first_night(at_work: AtWork, relay: Relay) -> None:
    await at_work.world.as_owner("UPDATE issuers SET created_at = now() WHERE tenant = $1", at_work.world.tenant)
    assert await relay.ask_for_copies() == 0


async def test_a_worker_makes_the_copy_and_a_killed_one_is_made_good(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORTING_FOLDER", str(at_work.settings.reporting_folder))
    async with process_working(at_work.settings) as worker:
        await until(lambda: rows(at_work, "outbox", "topic = 'copy'"))
        ((message,),) = await at_work.world.as_owner("SELECT id FROM outbox WHERE topic = 'copy'")
        worker.kill()
    await at_work.world.as_owner("UPDATE outbox SET claim_at = now(), sends = 1 WHERE topic = 'copy'")
    async with process_working(at_work.settings):

        async def is_copied() -> bool:
            return await rows(at_work, "outbox", "topic = 'copy'") == 0

        await until(is_copied, 60)
        # What the killed one had begun may be at it yet, and hold the second up.
        await until(lambda: rows(at_work, "reporting_copies"))
    assert await rows(at_work, "reporting_copies") >= 1
    assert await rows(at_work, "inbox", f"message_id = '{message}'") == 1
    assert at_work.store() == await at_work.ledger()
    relay = Relay(at_work.settings)
    assert await relay.ask_for_copies() == 0, "once a night"
    stopped = asyncio.Event()
    stopped.set()
    await relay.run(stopped)


async def test_a_copy_that_fails_is_tried_again_later(
    at_work: AtWork, relay: Relay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REPORTING_FOLDER", str(tmp_path / "file"))
    async with process_working(at_work.settings):
        await until(lambda: rows(at_work, "outbox", "topic = 'copy' AND failures = 1"), 60)
    ((reason,),) = await at_work.world.as_owner("SELECT last_error FROM outbox WHERE topic = 'copy'")
    assert reason == "`escarcelle nightly` ended with 1"
    assert await rows(at_work, "reporting_copies") == 0


async def test_readyz_says_how_old_the_oldest_last_copy_is_and_goes_on(at_work: AtWork, database: Database) -> None:
    """A till can do without analysts: what is late is a warning."""
    settings = at_work.settings

    async def check() -> tuple[int, dict[str, str]]:
        application = create_app(settings, newest_revision())
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://127.0.0.1") as http,
        ):
            answer = await http.get("/readyz")
            return answer.status_code, answer.json()["checks"]["reporting"]

    await at_work.world.as_owner("UPDATE issuers SET created_at = now() - interval '37 hours'")
    assert await check() == (200, {"status": "ok"}), "no copy is made here"
    waits = {"status": "warning", "reason": "An issuer has waited for 37 hours for its first copy for analysts."}
    for table, columns, values in (
        ("outbox", "", ""),
        ("dead_letters", ", created_at, failures, reason", ", now(), 30, 'the folder is full'"),
    ):
        await at_work.world.as_owner(
            f"INSERT INTO {table} (tenant, id, topic, payload{columns})"
            f" SELECT tenant, gen_random_uuid(), 'copy', '{{}}'{values} FROM issuers"
        )
        assert await check() == (200, waits)
        await at_work.world.as_owner(f"DELETE FROM {table}")
    await _copied(at_work, timedelta(hours=50), watermark=7)
    assert (await check())[1]["reason"] == "The last copy for analysts is 50 hours old."
    await _copied(at_work, timedelta(hours=2), watermark=8)
    status, fresh = await check()
    assert (status, fresh["status"], fresh["watermark"]) == (200, "ok", "8")
    assert fresh["copied_at"].endswith("+00:00")
    assert datetime.fromisoformat(fresh["as_of"]) > datetime.fromisoformat(fresh["copied_at"]), "as inserted below"
    await _copied(at_work, timedelta(hours=1), watermark=8, still=timedelta(hours=40), waiting=0)
    assert (await check())[1]["status"] == "ok", "nothing happens at night"
    await _copied(at_work, timedelta(minutes=1), watermark=8, still=timedelta(hours=40), waiting=3)
    status, still = await check()
    assert (status, still["status"]) == (200, "warning")
    assert still["reason"].startswith("The watermark of the copies for analysts has stood still for 40 hours")
    connection = await connect_as(settings, RELAY)
    found = await lateness(connection)
    await connection.close()
    assert found.copy_seconds == pytest.approx(60, abs=30)
    assert found.still_seconds == pytest.approx(40 * 3600, abs=1)


async def _copied(
    at_work: AtWork, ago: timedelta, watermark: int, still: timedelta = timedelta(0), waiting: int = 0
) -> None:
    """As if a copy had been made then."""
    await at_work.world.as_owner(
        "INSERT INTO reporting_copies (tenant, id, copied_at, watermark_since, watermark, waiting, as_of, number,"
        " cluster, ledger_lines, operations, digest) VALUES ($1, gen_random_uuid(), now() - $2::interval,"
        " now() - $2 - $4::interval, $3, $5, now(), 1, 'x', 0, 0, '')",
        at_work.world.tenant, ago, watermark, still, waiting,
    )  # fmt: skip


async def test_without_a_folder_nothing_is_asked_for(at_work: AtWork) -> None:
    async with process_working(at_work.settings.model_copy(update={"reporting_folder": None})):
        request = await at_work.ask()

        async def is_told() -> bool:
            return await rows(at_work, "outbox", "topic = 'live'") == 0

        await until(is_told)
    assert request.id
    assert await rows(at_work, "outbox", "topic = 'copy'") == 0
