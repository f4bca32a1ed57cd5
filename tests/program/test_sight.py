"""What operators see: metrics, readiness with its reasons, a line for each request."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http import RELAY_LATE_SECONDS
from domain.access import Role
from domain.db import APP, RELAY, Database, connect_as
from domain.settings import Settings
from escarcelle.clients import Client
from escarcelle.embedded import free_port
from tasks.lateness import lateness
from tests.program.watched import forget, lines, logged, metrics, text, value
from tests.tasks import Cast, PostBox, settings_for, until
from tests.world import Servers, World, wait_until_ready

pytestmark = pytest.mark.anyio

_REQUEST_ID = "0123456789abcdef-ABCDEF"
_WRONG = "un mot de passe qui n’est pas le bon"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Of its own: they are taken away."""
    started = Servers.start(tmp_path_factory.mktemp("sight"))
    yield started
    started.stop()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the processes log."""
    return tmp_path / "log"


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_api_counts_operations_by_root_field_and_outcome(servers: Servers, world: World, log: Path) -> None:
    """Two processes, each with a port of its own; a person's words are no label."""
    await world.user("agent", Role.ISSUER_AGENT)
    first = _free_ports_in_a_row()
    async with _api(servers.settings, log, first, "--processes", "2") as url, Client(url) as client:
        refused = await client.sign_in(world.slug, "agent", _WRONG)
        assert refused["code"] == "BAD_CREDENTIALS"
        client.token = await world.session("agent")
        await client.ask("query Mine { here: viewer { user { id } } again: viewer { user { name } } }")
        await client.ask("{ viewer { user { id } } holders { totalCount } }")
        await client.answer("{ viewer { unheardOf } }")
        await client.answer("{ motDePasse")
        await client.get("/nowhere/secret")
        assert (await client.get("/metrics")).status_code == 404
        document = "subscription { paymentRequestChanges { __typename } }"
        both = (first, first + 1)
        async with client.subscribe(document) as events:
            waiting = asyncio.ensure_future(anext(events))
            await until(lambda: _is(both, "escarcelle_subscriptions", 1, field="paymentRequestChanges"))
            assert value(await metrics(*both), "escarcelle_sockets") == 1
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: _is(both, "escarcelle_subscriptions", 0, field="paymentRequestChanges"))
        await until(lambda: _is(both, "escarcelle_sockets", 0))
        seen = await metrics(*both)

    def operations(field: str, outcome: str, code: str = "", kind: str = "query") -> float | None:
        labels = {"kind": kind, "field": field, "outcome": outcome, "code": code}
        return value(seen, "escarcelle_operations_total", labels)

    assert operations("signIn", "refused", "BAD_CREDENTIALS", "mutation") == 1
    assert operations("viewer", "ok") == 2
    assert operations("holders", "ok") == 1
    assert operations("unknown", "rejected", "GRAPHQL_VALIDATION_FAILED", "unknown") == 1
    assert operations("unknown", "rejected", "GRAPHQL_PARSE_FAILED", "unknown") == 1
    assert value(seen, "escarcelle_operation_seconds_count", {"field": "viewer"}) == 1
    assert value(seen, "escarcelle_operation_seconds_count", {"field": "several"}) == 1
    assert value(seen, "escarcelle_sockets") == 0
    assert value(seen, "escarcelle_http_responses_total", {"route": "unknown", "status": "4xx"}) == 2
    for pool in ("deeds", "questions"):
        assert value(seen, "escarcelle_database_waiting", {"pool": pool}) == 0
        most = value(seen, "escarcelle_database_connections_most", {"pool": pool})
        assert most == 2 * servers.settings.deed_connections
        assert value(seen, "escarcelle_database_connections", {"pool": pool, "state": "in_use"}) == 0
    words = {word for _, labels in seen for _, word in labels}
    assert not words & {"here", "again", "Mine", "unheardOf", "motDePasse", "/nowhere/secret", world.slug, "agent"}


async def test_pools_say_who_uses_connections_and_who_waits(servers: Servers, world: World) -> None:
    settings = servers.settings.model_copy(update={"deed_connections": 1, "question_connections": 1})
    database = Database(settings)
    await database.open()
    try:
        async with database.connection(), database.reading(world.tenant):
            tasks = [asyncio.create_task(_use(database.connection())) for _ in range(3)]
            tasks += [asyncio.create_task(_use(database.reading(world.tenant))) for _ in range(2)]
            await until(lambda: [use.waiting for use in database.use().values()] == [3, 2])
            assert [(use.most, use.in_use) for use in database.use().values()] == [(1, 1), (1, 1)]
        await asyncio.gather(*tasks)
        assert [(use.in_use, use.waiting) for use in database.use().values()] == [(0, 0), (0, 0)]
    finally:
        await database.close()


async def test_workers_count_what_they_deliver_and_say_how_late_all_is(
    servers: Servers, database: Database, log: Path
) -> None:
    box, port = PostBox(refusal="550 5.1.1 no such person"), free_port()
    async with box.open():
        cast = await Cast.make(servers, database)
        await cast.pay(await cast.ask("50"))
        settings = settings_for(servers, box, metrics_port=port)
        async with logged(settings, log, "work"):
            await until(lambda: cast.count("dead_letters"))
            box.refusal = None
            await cast.pay(await cast.ask("60", basket_number="P30"))
            await until(lambda: len(box.mails) == 1)
            await until(cast.is_told)
            await until(lambda: _is((port,), "escarcelle_messages_total", 1, topic="mail", outcome="delivered"))
            seen = await metrics(port)
            assert value(seen, "escarcelle_messages_total", {"topic": "mail", "outcome": "given_up"}) == 1
            assert value(seen, "escarcelle_delivery_seconds_count", {"topic": "mail"}) == 2
            assert value(seen, "escarcelle_dead_letters", {"topic": "mail"}) == 1
            assert value(seen, "escarcelle_dead_letters", {"topic": "push"}) == 0
            assert value(seen, "escarcelle_database_up") == 1
            assert value(seen, "escarcelle_deadline_lag_seconds") == 0
            lag = value(seen, "escarcelle_relay_lag_seconds")
            assert lag is not None
            assert lag < 5
            servers.postgres.stop(immediate=True)
            try:
                seen = await metrics(port)
            finally:
                servers.postgres.start()
            assert value(seen, "escarcelle_database_up") == 0
            assert value(seen, "escarcelle_relay_lag_seconds") is None, "an old figure would look like a good one"
        await cast.world.as_owner("DELETE FROM dead_letters")


async def test_lateness_is_the_age_of_what_should_have_happened(servers: Servers, database: Database) -> None:
    """Across all issuers, but for those whose clock stands still."""
    cast, still = await Cast.make(servers, database), await Cast.make(servers, database)
    connection = await connect_as(servers.settings, RELAY)
    try:
        await cast.world.as_owner("DELETE FROM outbox")
        assert (await lateness(connection)).relay_seconds == 0
        await _overdue(cast.world, "outbox", 100)
        await _overdue(cast.world, "outbox", -100)
        await _overdue(cast.world, "deadlines", 200)
        await _overdue(still.world, "deadlines", 9_000)
        await still.world.freeze(datetime(2026, 3, 2, 11, tzinfo=UTC))
        late = await lateness(connection)
        assert 100 <= late.relay_seconds < 130
        assert 200 <= late.deadline_seconds < 230
        # One that the relay has put off after a failure is as late as it is.
        await cast.world.as_owner("UPDATE deadlines SET claim_at = now() + interval '4 minutes'")
        assert 200 <= (await lateness(connection)).deadline_seconds < 260
    finally:
        await connection.close()
        await cast.world.as_owner("DELETE FROM outbox")
        await cast.world.as_owner("DELETE FROM deadlines")


async def test_metrics_that_have_no_place_are_said_at_start(servers: Servers, log: Path) -> None:
    async with _api(servers.settings, log, metrics_port := free_port()):
        for command in (("serve", "--port", "0"), ("work",)):
            other = log.with_name(command[0])
            settings = servers.settings.model_copy(update={"metrics_port": metrics_port})
            async with logged(settings, other, *command) as process:
                assert await asyncio.wait_for(process.wait(), 30) == 2
            assert f"METRICS_PORT: 127.0.0.1:{metrics_port} cannot be listened on" in text(other)


# ── readiness ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_readyz_says_each_check_by_name_with_its_reason(servers: Servers, world: World, log: Path) -> None:
    fine = {name: {"status": "ok"} for name in ("database", "migrations", "relay", "redis", "reporting")}
    async with _api(servers.settings, log) as url:
        assert await _ready(url) == (200, {"ready": True, "checks": fine})

        await _overdue(world, "outbox", RELAY_LATE_SECONDS + 100)
        status, answer = await _ready(url)
        assert (status, answer["ready"]) == (200, True), "payments go on though mails are late"
        assert answer["checks"]["relay"]["status"] == "warning"
        (seconds,) = re.findall(r"has waited for (\d+) s", answer["checks"]["relay"]["reason"])
        assert RELAY_LATE_SECONDS + 100 <= int(seconds) < RELAY_LATE_SECONDS + 200
        await world.as_owner("DELETE FROM outbox")

        servers.redis.kill()
        try:
            status, answer = await _ready(url)
        finally:
            servers.redis.start()
        reason = {"status": "warning", "reason": "Redis does not answer: live updates are late."}
        assert (status, answer) == (200, {"ready": True, "checks": fine | {"redis": reason}})

        (row,) = await world.as_owner("UPDATE alembic_version SET version_num = '0001' RETURNING version_num")
        assert row["version_num"] == "0001"
        newest = max(path.name[:4] for path in (Path(__file__).parents[2] / "alembic" / "versions").glob("0*.py"))
        try:
            status, answer = await _ready(url)
            await world.as_owner("UPDATE alembic_version SET version_num = '9999'")
            assert (await _ready(url))[0] == 200, "while a new version is brought in, this one goes on"
        finally:
            await world.as_owner("UPDATE alembic_version SET version_num = $1", newest)
        assert (status, answer["ready"]) == (503, False)
        assert answer["checks"]["migrations"] == {
            "status": "failed",
            "reason": f"The database is at revision 0001, this program needs {newest}.",
        }
        assert answer["checks"]["database"] == {"status": "ok"}

        servers.postgres.stop(immediate=True)
        try:
            status, answer = await _ready(url)
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(f"{url}/livez")).status_code == 200
        finally:
            servers.postgres.start()
        assert (status, answer["ready"]) == (503, False)
        assert answer["checks"]["database"] == {"status": "failed", "reason": "The database does not answer."}
        assert set(answer["checks"]) == set(fine)
        assert "127.0.0.1" not in json.dumps(answer)
        assert "Error" not in json.dumps(answer)
        await until(lambda: _is_ready(url))
    assert {line["event"] for line in lines(log) if "checks" in line} == {"not_ready", "ready_with_warnings"}


async def test_how_late_the_relay_is_tells_an_application_nothing_else_of_other_issuers(servers: Servers) -> None:
    connection = await connect_as(servers.settings, APP)
    try:
        row = await connection.fetchrow("SELECT * FROM lateness()")
        assert [type(figure) for figure in row] == [float, float]
    finally:
        await connection.close()


# ── a line for each request ───────────────────────────────────────────────────────────────────────────────────────────


async def test_each_request_leaves_a_line_that_says_what_and_not_who(servers: Servers, world: World, log: Path) -> None:
    await world.user("agent", Role.ISSUER_AGENT)
    async with _api(servers.settings, log) as url, Client(url) as client, httpx.AsyncClient(trust_env=False) as http:
        client.token = await world.session("agent")
        await client.ask("query SecretName { secretAlias: viewer { user { id } } }")
        await client.do("creditHolder", "... on Holder { id }", holderId="hold_x", amount="1", reason="secret words")
        given = await http.get(f"{url}/p/secret-token", headers={"x-request-id": _REQUEST_ID})
        assert given.headers["x-request-id"] == _REQUEST_ID
        for odd in ("abc", "with space and more", "a" * 65, "secret@example.com"):
            answer = await http.get(f"{url}/nowhere/secret", headers={"x-request-id": odd})
            assert answer.headers["x-request-id"] not in ("", odd)
        probes = [await http.get(url + path) for path in ("/livez", "/readyz")]
        assert [probe.status_code for probe in probes] == [200, 200]
    query, credit, offer, *nowhere = lines(log, "request")
    assert (query["operation"], query["fields"], query["tenant"]) == ("query", ["viewer"], world.tenant)
    assert (query["method"], query["route"], query["status"]) == ("POST", "/graphql", 200)
    assert query["milliseconds"] > 0
    assert "codes" not in query
    assert (credit["fields"], credit["codes"]) == (["creditHolder"], ["NOT_FOUND"])
    assert (offer["route"], offer["status"], offer["request_id"]) == ("/p/{token}", 404, _REQUEST_ID)
    assert [(line["route"], line["status"]) for line in nowhere] == [("unknown", 404)] * 4
    assert "secret" not in text(log).lower()
    assert client.token not in text(log)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _api(settings: Settings, log: Path, metrics_port: int | None = None, *options: str) -> AsyncIterator[str]:
    """An API; gives its address."""
    port = free_port()
    settings = settings.model_copy(update={"metrics_port": metrics_port})
    async with logged(settings, log, "serve", "--port", str(port), *options):
        await asyncio.to_thread(wait_until_ready, f"http://127.0.0.1:{port}")
        forget(log)
        yield f"http://127.0.0.1:{port}"


def _free_ports_in_a_row() -> int:
    """The first of two."""
    while True:
        first = free_port()
        try:
            with httpx.Client(trust_env=False, timeout=1) as http:
                http.get(f"http://127.0.0.1:{first + 1}")
        except httpx.ConnectError:
            return first


async def _is(ports: tuple[int, ...], name: str, expected: float, **labels: str) -> bool:
    return value(await metrics(*ports), name, labels) == expected


async def _use(connecting: Any) -> None:
    async with connecting:
        pass


async def _ready(url: str) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        response = await http.get(f"{url}/readyz")
        return response.status_code, response.json()


async def _is_ready(url: str) -> bool:
    return (await _ready(url))[0] == 200


async def _overdue(world: World, table: str, seconds: float) -> None:
    """A row that should have been claimed so long ago."""
    columns, values = {
        "outbox": ("id, topic, payload, claim_at", "gen_random_uuid(), 'mail', '{}', now() - $2::interval"),
        "deadlines": (
            "subject_kind, subject_id, name, due_at, claim_at, sends",
            "'x', gen_random_uuid(), 'x', now() - $2::interval, now() - $2::interval, 0",
        ),
    }[table]
    await world.as_owner(
        f"INSERT INTO {table} (tenant, {columns}) VALUES ($1, {values})", world.tenant, timedelta(seconds=seconds)
    )
