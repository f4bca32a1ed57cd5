"""What docs/operations.md says, done: its roles, its settings, the first start, backup and restore, on servers that
have never heard of us."""

import asyncio
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Final

import asyncpg
import pytest

from domain.db import APP, OWNER, READER, RELAY, Database, connect_as, refuse_above_the_wall
from domain.parties import credit_holder
from domain.payments import PaymentRequest
from domain.settings import Settings, SettingsInvalid, from_environment
from domain.work import perform
from escarcelle.clients import Client
from escarcelle.embedded import EmbeddedPostgres, EmbeddedRedis, free_port
from tests.outside import postgresql, redis_server
from tests.tasks import Cast, PostBox, database_of, until
from tests.world import Servers, wait_until_ready

pytestmark = pytest.mark.anyio

_ROOT: Final = Path(__file__).parents[2]
_PAGE: Final = (_ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
_BLOCKS: Final = dict(re.findall(r"^```\w+\n(?:#|--) ([^\n]+)\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL))
"""The page's blocks of code, by their first line."""

_PASSWORDS: Final = {OWNER: "OWNER", APP: "APP", RELAY: "RELAY", READER: "READER"}
_LANES: Final = 3
_PAYER: Final = "client2@example.com"
_LONG_AGO: Final = datetime(2026, 3, 2, 11, tzinfo=UTC)


# ── the page, followed ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Place:
    """An operator's place: a PostgreSQL and a Redis, a folder to work in, and what the page leaves to fill in."""

    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    words: dict[str, str]

    @classmethod
    def start(cls, folder: Path, words: dict[str, str]) -> "Place":
        """Start both, with nothing in them."""
        postgres, redis = EmbeddedPostgres(folder, postgresql()), EmbeddedRedis(folder, redis_server())
        postgres.start()
        redis.start()
        return cls(folder, postgres, redis, words)

    def stop(self) -> None:
        """Stop both."""
        self.redis.stop()
        self.postgres.stop()

    @property
    def servers(self) -> Servers:
        """The same, as the other tests know it."""
        urls = self.settings("work.env") | self.settings("operator.env")
        known = {name.lower(): value for name, value in urls.items()}
        return Servers(from_environment(**known), self.postgres, self.redis)

    def settings(self, *files: str) -> dict[str, str]:
        """The page's files of settings, filled in."""
        text = "".join(_BLOCKS[name] for name in ("common.env", *files))
        given = {
            "rediss://:REDIS_PASSWORD@redis.example.org:6379/0": self.redis.url,
            "smtp+starttls://escarcelle:SMTP_PASSWORD@mail.example.org:587": f"smtp://127.0.0.1:{self.words['SMTP_PORT']}",
            "db.example.org:5432": f"127.0.0.1:{self.postgres.port}",
            "sslmode=verify-full": "sslmode=prefer",
            "/var/lib/escarcelle": str(self.folder),
        } | self.words
        for word, value in given.items():
            text = text.replace(word, value)
        return dict(line.split("=", 1) for line in text.splitlines())

    def environment(self, *files: str) -> dict[str, str]:
        """The environment of a process of ours with these files and nothing else of ours."""
        ours = {name.upper() for name in Settings.model_fields}
        programs = [str(Path(self.postgres.program("psql")).parent), str(Path(sys.executable).parent)]
        path = os.pathsep.join([*programs, os.environ["PATH"]])
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return inherited | {"PATH": path} | (self.settings(*files) if files else {}) | self.words

    def make_roles(self) -> None:
        """The page's SQL, as superuser."""
        (command,) = re.findall(r"`(psql [^`]*roles\.sql)`", _PAGE)
        (self.folder / "deploy").mkdir(exist_ok=True)
        copyfile(_ROOT / "deploy" / "roles.sql", self.folder / "deploy" / "roles.sql")
        self.run(command.replace("psql", f"psql --quiet '{self.postgres.url('postgres')}'", 1))

    def run(self, script: str, *files: str) -> str:
        """Run this in a shell, in the place's folder; returns what it says. Fails when it fails."""
        done = subprocess.run(
            ["/bin/sh", "-euc", script],
            cwd=self.folder,
            env=self.environment(*files),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The API in two processes; gives its address."""
        port = free_port()
        with self._running("serve.env", "serve", "--port", str(port), "--processes", "2"):
            wait_until_ready(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"

    @contextmanager
    def working(self) -> Iterator[None]:
        """Two task processes."""
        with self._running("work.env", "work"), self._running("work.env", "work"):
            yield

    @contextmanager
    def _running(self, file: str, *arguments: str) -> Iterator[None]:
        with subprocess.Popen([sys.executable, "-m", "escarcelle", *arguments], env=self.environment(file)) as process:
            try:
                yield
            finally:
                process.terminate()


def _words(**more: str) -> dict[str, str]:
    """What an operator makes up."""
    passwords = {f"{name}_PASSWORD": secrets.token_urlsafe(16) for name in _PASSWORDS.values()}
    return passwords | {"A_KEY_MADE_BY_CHANCE": secrets.token_urlsafe(48), "SMTP_PORT": "1"} | more


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place that the page's first start has been done at."""
    place = Place.start(tmp_path_factory.mktemp("place"), _words())
    try:
        place.make_roles()
        yield place
    finally:
        place.stop()


# ── the first start ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def first_password(place: Place) -> str:
    """What the page's first start prints."""
    return place.run(_BLOCKS["first start"], "operator.env").split()[-1]


async def test_the_first_administrator_signs_in_and_the_audit_sees_everything(
    place: Place, first_password: str
) -> None:
    with place.serving() as url, place.working():
        async with Client(url) as client:
            session = await client.sign_in("temps-libre", "admin", first_password)
            assert session["__typename"] == "Session", session
            changed = await client.do(
                "changePassword", "... on Session { token }", currentPassword=first_password, newPassword="mille francs"
            )
            client.token = changed["token"]
            viewer = (await client.ask("{ viewer { issuer { name } user { role } } }"))["viewer"]
            assert viewer == {"issuer": {"name": "Agence du Temps Libre"}, "user": {"role": "ISSUER_ADMIN"}}
    assert "Nothing differs." in place.run("escarcelle audit", "operator.env")


async def test_each_process_has_its_own_role_only(place: Place, first_password: str) -> None:
    """What the page's files give to `serve` and `work` does not open the tables' owner, nor to `serve` the reader."""
    for file, roles in (("serve.env", {APP}), ("work.env", {APP, RELAY, READER})):
        users = {
            re.split("[:@]", url)[1].strip("/") for name, url in place.settings(file).items() if "DATABASE" in name
        }
        assert users == roles
    connection = await asyncpg.connect(place.settings("serve.env")["DATABASE_URL"])
    try:
        for role in (OWNER, RELAY, READER):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE mine (id int)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TEMPORARY TABLE mine (id int)")
        assert await connection.fetchval("SELECT count(*) FROM users") == 0, "no tenant is set"
    finally:
        await connection.close()


@pytest.mark.parametrize("role", ["postgres", OWNER, RELAY, READER])
async def test_a_role_above_the_tenant_wall_is_refused(place: Place, first_password: str, role: str) -> None:
    settings = place.servers.settings
    password = place.words[f"{_PASSWORDS[role]}_PASSWORD"] if role in _PASSWORDS else None
    above = settings.model_copy(update={"app_database_url": place.postgres.url("escarcelle", role, password)})
    with pytest.raises(SettingsInvalid, match="above the tenant wall"):
        await refuse_above_the_wall(above)
    with pytest.raises(SettingsInvalid, match="above the tenant wall"):
        await Database(above).open()
    await refuse_above_the_wall(settings)


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["serve", "--port", "0", "--processes", "2"], ["work"]])
def test_serve_and_work_say_so_and_do_not_start(place: Place, first_password: str, command: list[str]) -> None:
    environment = place.environment("work.env")
    environment["APP_DATABASE_URL"] = place.settings("operator.env")["DATABASE_URL"]
    done = subprocess.run(
        [sys.executable, "-m", "escarcelle", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[1].startswith("APP_DATABASE_URL: this database user is above the tenant wall")
    assert "Traceback" not in done.stderr


async def test_an_address_that_asks_for_tls_is_not_served_without(place: Place, first_password: str) -> None:
    """By the deeds', the questions' and the migrations' connections alike."""
    settings = place.servers.settings
    urls = {
        name: str(getattr(settings, name)).replace("sslmode=prefer", "sslmode=require")
        for name in ("database_url", "app_database_url")
    }
    database = Database(settings.model_copy(update=urls))
    with pytest.raises(ConnectionError, match="SSL"):
        await database.open()
    with pytest.raises(ConnectionError, match="SSL"):
        async with database.reading(1):
            pass
    await database.close()
    with pytest.raises(AssertionError, match="SSL"):
        place.run(f"DATABASE_URL='{urls['database_url']}' escarcelle migrate", "operator.env")


# ── backup and restore ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dump_taken_while_payments_go_on_is_restored_whole(tmp_path: Path) -> None:
    """Into a fresh cluster, with nothing in Redis: every row, right and wall is there, what was pending happens, and
    payments go on."""
    async with PostBox().open() as box, AsyncExitStack() as stack:
        words = _words(SMTP_PORT=str(box.port))
        source = stack.enter_context(_started(tmp_path / "source", words))
        await _in_thread(source, "escarcelle migrate", "operator.env")
        async with database_of(source.servers.settings) as database:
            cast = await Cast.make(source.servers, database)
            world = cast.world
            for _ in range(10):
                await perform(database, world.system, credit_holder, world.holders[_PAYER].id, "10000", "aide")
            overdue = await _asked_long_ago(cast)
            before = await _dumped_while_paying(source, cast)
            beyond = await cast.count("transfers") - before.transfers

        target = stack.enter_context(_started(tmp_path / "target", words))
        (source.folder / "escarcelle.dump").rename(target.folder / "escarcelle.dump")
        await _in_thread(target, _BLOCKS["restore"], "operator.env")
        assert beyond > 0, "nothing was paid beside the dump"

        async with _owner(target) as owner:
            assert await _digests(owner) == before.digests
            await _an_old_transfer_stays_sealed(target, owner)
            assert await _digests(owner) == before.digests
        schema = "pg_dump --schema-only \"$DATABASE_URL\" | grep -v '^.\\(un\\)\\?restrict '"
        assert await _in_thread(target, schema, "operator.env") == await _in_thread(source, schema, "operator.env")
        assert "Nothing differs." in await _in_thread(target, "escarcelle audit", "operator.env")
        source.stop()

        async with database_of(target.servers.settings) as database:
            restored = replace(cast, world=replace(world, servers=target.servers, database=database))
            pending = {f"<{row['id']}.1@pay.example.org>" for row in await restored.outbox()}
            assert pending and not box.mails
            url = stack.enter_context(target.serving())
            with target.working():
                await until(lambda: restored.count("payment_requests", f"id = '{overdue.id}' AND status = 'EXPIRED'"))
                await until(restored.is_told)
                assert pending <= set(box.identifiers)
                await _collect_through_the_api(url, restored)
                await until(restored.is_told)
            assert await restored.count("transfers") == before.transfers + 1
        created = "escarcelle issuer create --slug autre --name Autre --admin-login a --admin-email a@example.org"
        await _in_thread(target, created, "operator.env")
        async with _owner(target) as owner:
            tenant = await owner.fetchval("SELECT tenant FROM issuers WHERE slug = 'autre'")
            assert tenant > world.tenant
            (statement,) = re.findall(r"`(UPDATE sessions [^`]*)`", _PAGE)
            await owner.execute(statement)
            assert not await owner.fetchval("SELECT count(*) FROM sessions WHERE status = 'OPEN'")
        assert "Nothing differs." in await _in_thread(target, "escarcelle audit", "operator.env")


@dataclass(frozen=True)
class Dumped:
    """What the database held at the dump's instant."""

    digests: dict[str, str]
    transfers: int


async def _dumped_while_paying(source: Place, cast: Cast) -> Dumped:
    """The page's backup, in a snapshot that is looked at too, while every lane goes on paying."""
    stop, paid = asyncio.Event(), list[PaymentRequest]()
    lanes = [asyncio.create_task(_pay_on(cast, lane, stop, paid)) for lane in range(_LANES)]
    try:
        await until(lambda: len(paid) >= 40)
        async with _owner(source) as owner, owner.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await owner.fetchval("SELECT pg_export_snapshot()")
            backup = f"{_BLOCKS['backup'].strip()} --snapshot='{snapshot}'"
            await _in_thread(source, backup, "operator.env")
            return Dumped(
                await _digests(owner),
                await owner.fetchval("SELECT count(*) FROM transfers WHERE tenant = $1", cast.world.tenant),
            )
    finally:
        stop.set()
        await asyncio.gather(*lanes)


async def _pay_on(cast: Cast, lane: int, stop: asyncio.Event, paid: list[PaymentRequest]) -> None:
    while not stop.is_set():
        request = await cast.ask("20", basket_number=f"{lane}-{len(paid)}")
        await cast.pay(request)
        paid.append(request)


async def _asked_long_ago(cast: Cast) -> PaymentRequest:
    """A request whose time to be paid is over, which nobody has noticed yet."""
    await cast.world.freeze(_LONG_AGO)
    request = await cast.ask("20", basket_number="oublié")
    await cast.world.freeze(None)
    # Pending instants are real time, which a clock that stood still has not moved.
    await cast.world.as_owner(
        "UPDATE deadlines SET due_at = clock_timestamp(), claim_at = clock_timestamp() WHERE subject_id = $1",
        request.id,
    )
    return request


async def _digests(connection: asyncpg.Connection) -> dict[str, str]:
    """How many rows every table has, and a digest of them, as its owner sees them."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relowner = $1::regrole", OWNER
    )
    assert len(tables) > 20
    return {
        table: await connection.fetchval(
            f"SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} AS t"
        )
        for (table,) in tables
    }


async def _an_old_transfer_stays_sealed(place: Place, owner: asyncpg.Connection) -> None:
    """Even in the transaction that bears the number which it brought along: the new cluster comes to it some day."""
    old = await owner.fetchrow(
        "SELECT tenant, id, xact::text AS xact FROM transfers ORDER BY at LIMIT 1",
    )
    superuser = await asyncpg.connect(place.postgres.url("escarcelle"))
    try:

        async def bears(number: int) -> None:
            async with superuser.transaction():
                await superuser.execute("SET LOCAL session_replication_role = replica")
                await superuser.execute(
                    "UPDATE transfers SET xact = $3::text::xid8 WHERE tenant = $1 AND id = $2",
                    old["tenant"],
                    old["id"],
                    str(number),
                )

        async def now() -> int:
            return int(await superuser.fetchval("SELECT pg_current_xact_id()::text"))

        coming = 0
        while True:
            transaction = superuser.transaction()
            await transaction.start()
            number = await now()
            if number == coming:
                break
            await transaction.rollback()
            if number > coming:
                coming = number + 5
                await bears(coming)
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await superuser.execute(
                "INSERT INTO postings (tenant, transfer_id, account_id, unit, amount)"
                " SELECT a.tenant, $2, a.id, a.unit, CASE row_number() OVER () WHEN 1 THEN 1 ELSE -1 END"
                " FROM accounts a WHERE a.tenant = $1 AND NOT EXISTS (SELECT FROM postings p"
                " WHERE p.tenant = a.tenant AND p.account_id = a.id AND p.transfer_id = $2) LIMIT 2",
                old["tenant"],
                old["id"],
            )
        assert refused.value.constraint_name == "seal"
        await transaction.rollback()
        await bears(int(old["xact"]))
    finally:
        await superuser.close()


async def _collect_through_the_api(url: str, cast: Cast) -> None:
    """The club asks, the customer pays all of it."""
    async with Client(url) as till, Client(url) as phone:
        till.token, phone.token = await cast.world.session("club"), await cast.world.session("client2")
        asked = await till.do(
            "createPaymentRequest",
            "... on PaymentRequest { qrCode { url } }",
            pointOfSaleId=cast.world.places["P001"].global_id,
            amount="20",
            basketNumber="après",
        )
        link = asked["qrCode"]["url"]
        assert link.startswith("https://pay.example.org/p/")
        paid = await phone.do("payPaymentRequest", "... on PaymentOffer { status }", token=link.rsplit("/", 1)[-1])
        assert paid["status"] == "VALIDATED"


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _started(folder: Path, words: dict[str, str]) -> Iterator[Place]:
    folder.mkdir()
    place = Place.start(folder, words)
    try:
        place.make_roles()
        yield place
    finally:
        place.stop()


@asynccontextmanager
async def _owner(place: Place) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect_as(place.servers.settings, OWNER)
    try:
        yield connection
    finally:
        await connection.close()


async def _in_thread(place: Place, script: str, *files: str) -> str:
    return await asyncio.to_thread(place.run, script, *files)
