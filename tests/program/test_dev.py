"""`escarcelle dev` as people run it: stories played against it, its processes killed in the middle of payments, itself
killed, stopped and started again on the same data."""

import asyncio
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
import redis

from domain.settings import from_environment
from escarcelle.clients import Client, Unexpected
from escarcelle.world import ADMINISTRATOR, CUSTOMER, OTHER_CUSTOMER, PASSWORD, SLUG, STAFF, SignIn
from tasks.relay import Relay

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parents[2]
_NOBODY = 65_534
_OURS = ("DATABASE_URL", "REDIS_URL", "SMTP_URL", "PUBLIC_URL", "SECRET_KEYS")

_REQUEST = "... on PaymentRequest { id transactionNumber qrCode { url } }"
_OFFER = "... on PaymentOffer { status amountPaid { amount } }"


# ── the program, from outside ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Dev:
    """One data folder, and `escarcelle dev` on it when it runs."""

    folder: Path
    as_user: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def data(self) -> Path:
        """Its path has a space and a letter outside ASCII."""
        return self.folder / "données de test"

    @property
    def facts(self) -> dict[str, Any]:
        """What it has written down for tools."""
        facts: dict[str, Any] = json.loads((self.data / "running.json").read_text(encoding="utf-8"))
        return facts

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.facts["url"])

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.url).port or 0

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, port: int = 0, api_processes: int = 2) -> None:
        """Start it and wait until it says that it runs."""
        self.launch(port=port, api_processes=api_processes)
        self._wait_until_it_says("Ctrl-C stops everything.")

    def launch(self, *, port: int = 0, api_processes: int = 2) -> None:
        """Start it and wait for its first line."""
        options = ["--data", str(self.data), "--port", str(port), "--api-processes", str(api_processes)]
        with self._said.open("wb") as log:
            self.process = subprocess.Popen(
                self._command("dev", *options),
                cwd=self.folder,
                env=_environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.as_user,
            )
        self._wait_until_it_says("Escarcelle is starting")

    def run(self, *arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Another of the program's commands, to its end."""
        return subprocess.run(
            self._command(*arguments),
            cwd=self.folder,
            env=_environment(self.folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **self.as_user,
        )

    def end(self, number: signal.Signals) -> int:
        """Signal it as a terminal would, wait for its end, and make sure that nothing of it is left; returns its exit
        code."""
        assert self.process is not None
        family = _descendants(self.process.pid)
        os.killpg(self.process.pid, number)
        code = self.process.wait(timeout=30)
        _await(lambda: not any(_runs(process) for process in family), "processes are left")
        return code

    @property
    def _said(self) -> Path:
        return self.folder / "dev.log"

    def _wait_until_it_says(self, words: str) -> None:
        assert self.process is not None
        give_up_at = time.monotonic() + 60
        while words not in (said := self._said.read_text(encoding="utf-8")):
            assert self.process.poll() is None and time.monotonic() < give_up_at, said
            time.sleep(0.02)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-B", "-m", "escarcelle", *arguments]


@pytest.fixture(scope="module")
def place() -> Iterator[Dev]:
    """A fresh folder. Root acts as a plain user there, where that user may open this interpreter."""
    with tempfile.TemporaryDirectory(prefix="escarcelle ") as name:
        folder = Path(name)
        dev = Dev(folder, _plain_user(folder))
        yield dev
        if dev.runs:
            dev.end(signal.SIGTERM)


@pytest.fixture
def dev(place: Dev) -> Dev:
    """The program, running; tests share it, and one that has stopped it leaves it to the next to start it again."""
    if not place.runs:
        place.start()
    return place


@pytest.fixture
def chance() -> random.Random:
    """Chance from a seed that is printed; ESCARCELLE_TEST_SEED repeats it."""
    seed = int(os.environ.get("ESCARCELLE_TEST_SEED") or secrets.randbits(32))
    print(f"ESCARCELLE_TEST_SEED={seed}")
    return random.Random(seed)


# ── as people use it ──────────────────────────────────────────────────────────────────────────────────────────────────


def _plays(dev: Dev) -> None:
    played = dev.run("demo", "--url", dev.url, timeout=120)
    assert (played.returncode, played.stderr) == (0, ""), played.stdout
    assert played.stdout.endswith("All as told.\n")
    kept = re.findall(r"^  file      (.+\.pdf) \(\d+ kB\)$", played.stdout, re.MULTILINE)
    assert len(kept) == 2, "the voucher and the statement"
    assert all(Path(name).is_relative_to(dev.folder) for name in kept)
    assert all(Path(name).read_bytes().startswith(b"%PDF-") for name in kept)


def _audits(dev: Dev) -> None:
    audited = dev.run("audit", "--data", str(dev.data))
    assert (audited.returncode, audited.stderr) == (0, ""), audited.stdout
    assert audited.stdout.endswith("Nothing differs.\n")


def test_the_copy_for_analysts_is_made_beside_a_server_that_runs(dev: Dev) -> None:
    for said in ("copy 1, made anew", "copy 2, "):
        copied = dev.run("nightly", "--data", str(dev.data))
        assert (copied.returncode, copied.stderr) == (0, ""), copied.stdout
        assert copied.stdout.startswith(f"demo: {said}")
        assert copied.stdout.rstrip().endswith(str(dev.data / "reporting" / "TEST-demo.duckdb"))
    assert (dev.data / "reporting" / "TEST-demo.duckdb").is_file()


async def test_the_only_issuer_is_known_without_its_name(dev: Dev) -> None:
    async with Client(dev.url) as stranger:
        assert (await stranger.ask("{ issuer { slug } }"))["issuer"] == {"slug": SLUG}


def test_the_story_plays_twice_and_the_audit_finds_nothing(dev: Dev) -> None:
    assert set(dev.facts["processes"]) == {"dev", "postgresql", "redis", "mails", "tasks", "api-1", "api-2"}
    _plays(dev)
    _plays(dev)
    _audits(dev)


def test_a_story_that_nobody_knows_and_a_server_that_is_not_there(dev: Dev) -> None:
    unknown = dev.run("demo", "--play", "nothing", "--url", dev.url)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "payments" in unknown.stderr
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    absent = dev.run("demo", "--play", "payments", "--url", f"http://127.0.0.1:{port}")
    assert absent.returncode == 1
    assert f"http://127.0.0.1:{port} does not answer" in absent.stderr


def test_a_port_that_is_taken(dev: Dev) -> None:
    other = dev.folder / "autres données"
    refused = dev.run("dev", "--data", str(other), "--port", str(dev.port))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"Port {dev.port} on 127.0.0.1 is taken by another program: choose one with --port.\n"
    assert [file.name for file in other.iterdir()] == ["lock"], "no database was made"
    assert _processes_about(other) == []


def test_a_data_folder_in_use(dev: Dev) -> None:
    before = dev.facts
    refused = dev.run("dev", "--data", str(dev.data), "--port", "0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"The data folder {dev.data} is in use by another `escarcelle`" in refused.stderr
    assert "--data" in refused.stderr
    assert refused.stderr.count("\n") == 1, "a sentence, not a trace"
    assert dev.facts == before, "the one that runs is not disturbed"
    ready = httpx.get(f"{dev.url}/readyz", trust_env=False).json()
    assert (ready["ready"], {name: check["status"] for name, check in ready["checks"].items()}) == (
        True,
        dict.fromkeys(("database", "migrations", "relay", "redis", "reporting"), "ok"),
    )


# ── payments while things die ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Payment:
    """A payment that the server has acknowledged."""

    request_id: str
    transaction_number: str
    customer: str
    cents: int


@dataclass
class Fair:
    """Tills and telephones that pay again and again. What is not acknowledged is sent again with the same key."""

    dev: Dev
    chance: random.Random
    pairs: list[tuple[Client, Client, str]]
    place_id: str
    wallets: dict[str, int]
    name: str = field(default_factory=lambda: f"foire {uuid4().hex[:8]}")
    paid: list[Payment] = field(default_factory=list)
    repeats: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, dev: Dev, chance: random.Random) -> AsyncIterator["Fair"]:
        """Six pairs of devices of one till and two customers, who have plenty."""
        url = dev.url
        async with AsyncExitStack() as stack:

            async def signed_in(person: SignIn) -> Client:
                client = await stack.enter_async_context(Client(url))
                session = await client.sign_in(SLUG, person.login, PASSWORD)
                assert session["__typename"] == "Session", session
                return client

            async def another(client: Client) -> Client:
                device = await stack.enter_async_context(Client(url))
                device.token = client.token
                return device

            office, till = await signed_in(ADMINISTRATOR), await signed_in(STAFF)
            phones = {person.login: await signed_in(person) for person in (CUSTOMER, OTHER_CUSTOMER)}
            for login in phones:
                await _enrich(office, login)
            places = await till.ask("{ pointsOfSale { nodes { id } } }")
            pairs = [(await another(till), await another(phones[login]), login) for login in phones for _ in range(3)]
            wallets = {login: await _wallet(phone) for login, phone in phones.items()}
            yield cls(dev, chance, pairs, places["pointsOfSale"]["nodes"][0]["id"], wallets)

    async def hold(self, sabotage: Callable[[], Awaitable[None]], at_least: int) -> None:
        """Pay until the sabotage is over and so many payments are acknowledged."""
        over = asyncio.Event()

        async def pay_on(till: Client, phone: Client, customer: str) -> None:
            while not over.is_set() or len(self.paid) < at_least:
                await self.pay(till, phone, customer)
                # So that the payments last as long as the sabotage.
                await asyncio.sleep(self.chance.uniform(0.1, 0.4))

        async with asyncio.TaskGroup() as group:
            for pair in self.pairs:
                group.create_task(pay_on(*pair))
            await sabotage()
            over.set()

    async def account_for(self) -> None:
        """Every acknowledged payment is there once; nothing else is; every mail has come; nothing is left to be told;
        the wallets add up; the audit finds nothing."""
        for till, phone, customer in self.pairs[::3]:
            spent = sum(payment.cents for payment in self.paid if payment.customer == customer)
            assert await _wallet(phone) == self.wallets[customer] - spent
            for payment in self.chance.sample(self.paid, min(5, len(self.paid))):
                node = await till.ask(
                    "query ($id: ID!) { node(id: $id) { ... on PaymentRequest { status amountReceived { amount } } } }",
                    id=payment.request_id,
                )
                assert node["node"]["status"] == "VALIDATED"
                assert node["node"]["amountReceived"]["amount"] == f"{payment.cents / 100:.2f}"
        await self._is_in_the_ledger_once()
        await self._is_mailed()
        await _until(self._is_nothing_left_to_tell, 90, "the outbox is not empty")
        await asyncio.to_thread(_audits, self.dev)

    async def pay(self, till: Client, phone: Client, customer: str) -> None:
        """The till asks, the telephone pays, each until it is acknowledged."""
        asked = {"pointOfSaleId": self.place_id, "amount": "20,00", "basketNumber": f"{self.name} {uuid4().hex[:16]}"}
        request = await self._insist(till, "createPaymentRequest", _REQUEST, **asked)
        assert request["__typename"] == "PaymentRequest", request
        token, cents = request["qrCode"]["url"].rsplit("/", 1)[-1], self.chance.randint(1, 5_00)
        given = {"token": token, "amount": f"{cents / 100:.2f}"}
        offer = await self._insist(phone, "payPaymentRequest", _OFFER, **given)
        assert offer == {"__typename": "PaymentOffer", "status": "VALIDATED", "amountPaid": {"amount": given["amount"]}}
        self.paid.append(Payment(request["id"], request["transactionNumber"], customer, cents))

    async def _insist(self, client: Client, mutation: str, fields: str, **given: Any) -> dict[str, Any]:
        key = str(uuid4())
        async with asyncio.timeout(60):
            while True:
                try:
                    return await client.do(mutation, fields, idempotencyKey=key, **given)
                except (httpx.TransportError, json.JSONDecodeError):
                    self.repeats += 1
                except Unexpected as unexpected:
                    if '"INTERNAL"' not in str(unexpected):
                        raise
                    self.repeats += 1
                await asyncio.sleep(0.05)

    async def _is_in_the_ledger_once(self) -> None:
        """Whatever was asked in this fair was paid and acknowledged, so that there is nothing else."""
        rows = await _look(
            self.dev,
            "SELECT r.transaction_number, r.status, r.amount_validated,"
            " (SELECT count(*) FROM transfers t WHERE t.subject_id = r.id),"
            " (SELECT count(*) FROM journal j WHERE j.subject_id = r.id AND j.kind = 'preq.pay')"
            " FROM payment_requests r WHERE r.basket_number LIKE $1",
            f"{self.name} %",
        )
        expected = {payment.transaction_number: ("VALIDATED", payment.cents, 1, 1) for payment in self.paid}
        assert {number: tuple(found) for number, *found in rows} == expected
        assert len(rows) == len(self.paid)

    async def _is_mailed(self) -> None:
        async def all_are_there() -> bool:
            mails = await _mails(self.dev)
            identifiers = defaultdict(set)
            copies: Counter[str] = Counter()
            for payment in self.paid:
                for mail in mails:
                    if payment.transaction_number in mail["text"]:
                        identifiers[payment.transaction_number].add(mail["message_id"])
                        copies[payment.transaction_number] += 1
            assert all(len(same) == 1 for same in identifiers.values()), "a mail sent twice is the same mail"
            print(f"{len(self.paid)} payments, {len(identifiers)} mailed, {copies.total()} mails")
            return len(identifiers) == len(self.paid)

        await _until(all_are_there, 90, "mails are missing")

    async def _is_nothing_left_to_tell(self) -> bool:
        rows = await _look(self.dev, "SELECT count(*) AS rows FROM outbox")
        return bool(rows[0]["rows"] == 0)


@pytest.fixture
async def fair(dev: Dev, chance: random.Random) -> AsyncIterator[Fair]:
    """Ready to pay."""
    async with Fair.open(dev, chance) as opened:
        yield opened


async def test_processes_are_killed_in_the_middle_of_payments(dev: Dev, fair: Fair) -> None:
    victims = ["api-1", "api-2", "tasks", "postgresql", "redis", "flush", "tasks"]
    fair.chance.shuffle(victims)

    async def strike() -> None:
        for victim in victims:
            await asyncio.sleep(fair.chance.uniform(0.7, 1.3))
            if victim == "flush":
                with redis.Redis.from_url(dev.facts["redis_url"]) as client:
                    client.flushall()
            else:
                killed = dev.facts["processes"][victim]
                os.kill(killed, signal.SIGKILL)
                await _until(partial(_is_replaced, dev, victim, killed), 15, f"{victim} does not come back")

    print(victims)
    await fair.hold(strike, at_least=150)
    assert fair.repeats > 0, "somebody noticed"
    await fair.account_for()


async def test_the_parent_is_killed_in_the_middle_of_payments(dev: Dev, fair: Fair) -> None:
    async def strike() -> None:
        await _until(lambda: len(fair.paid) >= 10, 15, "nobody pays")
        port = dev.port
        assert await asyncio.to_thread(dev.end, signal.SIGKILL) == -signal.SIGKILL
        await asyncio.to_thread(_audits, dev)
        await asyncio.to_thread(dev.start, port=port, api_processes=1)

    await fair.hold(strike, at_least=40)
    assert fair.repeats > 0, "somebody noticed"
    assert "api" in dev.facts["processes"]
    await fair.account_for()
    await asyncio.to_thread(_plays, dev)


async def test_redis_forgets_a_mail_that_it_was_given(dev: Dev, fair: Fair) -> None:
    facts, stop = dev.facts, asyncio.Event()
    tasks = facts["processes"]["tasks"]
    os.kill(tasks, signal.SIGSTOP)
    try:
        await fair.pay(*fair.pairs[0])
        with redis.Redis.from_url(facts["redis_url"]) as client:
            queued = client.llen("escarcelle:messages")
            relaying = asyncio.create_task(_relay(dev).run(stop))
            await _until(lambda: client.llen("escarcelle:messages") > queued, 30, "Redis is not given the message")
            stop.set()
            await relaying
            client.flushall()
    finally:
        os.kill(tasks, signal.SIGCONT)
    await fair.account_for()


# ── how it ends ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_asked_and_leaves_nothing_running(dev: Dev, number: signal.Signals) -> None:
    assert dev.end(number) == 0
    assert not (dev.data / "running.json").exists()
    _audits(dev)


def test_it_stops_while_it_starts(place: Dev, chance: random.Random) -> None:
    """Whatever it was doing: making its database, migrating, starting processes."""
    starting = Dev(place.folder / "à peine commencé", place.as_user)
    starting.folder.mkdir()
    if place.as_user:
        os.chown(starting.folder, _NOBODY, _NOBODY)
    for longest in (0.5, 2.5):
        starting.launch()
        with suppress(subprocess.TimeoutExpired):
            assert starting.process is not None
            starting.process.wait(timeout=chance.uniform(0, longest))
        # A shell shows the last two alike; Python chooses the last when an import was interrupted.
        assert starting.end(signal.SIGINT) in (0, 128 + signal.SIGINT, -signal.SIGINT)
        assert not (starting.data / "running.json").exists()
    starting.start()
    _audits(starting)
    assert starting.end(signal.SIGTERM) == 0


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain_user(folder: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    try:
        subprocess.run(
            [sys.executable, "-c", "import escarcelle"], cwd="/", env=_environment(folder), check=True, **nobody
        )
    except (PermissionError, subprocess.CalledProcessError):
        return {}
    os.chown(folder, _NOBODY, _NOBODY)
    return nobody


def _environment(home: Path) -> dict[str, str]:
    """Without the settings and the folders of whoever runs the tests."""
    own = {name: value for name, value in os.environ.items() if name not in _OURS}
    return own | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)]),
    }


def _descendants(process: int) -> set[int]:
    """The process and all that come from it."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, _, rest = status.read_text(encoding="utf-8", errors="replace").partition(" (")
            parents[int(number)] = int(rest.rpartition(")")[2].split()[1])
    family = {process}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _runs(process: int) -> bool:
    """A zombie does not run: it only waits for its parent to notice."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _processes_about(folder: Path) -> list[int]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder).encode() in line.read_bytes():
                found.append(int(line.parent.name))
    return found


def _await(condition: Callable[[], bool], else_say: str) -> None:
    give_up_at = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up_at, else_say
        time.sleep(0.02)


async def _until(condition: Callable[[], Awaitable[bool] | bool], seconds: float, else_say: str) -> None:
    give_up_at = time.monotonic() + seconds
    while True:
        holds = condition()
        if isinstance(holds, Awaitable):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < give_up_at, else_say
        await asyncio.sleep(0.1)


def _is_replaced(dev: Dev, name: str, killed: int) -> bool:
    now: int = dev.facts["processes"][name]
    return now != killed and _runs(now)


async def _enrich(office: Client, login: str) -> None:
    found = await office.ask("query ($search: String) { holders(search: $search) { nodes { id } } }", search=login)
    holder = found["holders"]["nodes"][0]["id"]
    credited = await office.do("creditHolder", "... on Holder { id }", holderId=holder, amount="1000", reason="foire")
    assert credited["__typename"] == "Holder", credited


async def _wallet(phone: Client) -> int:
    viewer = (await phone.ask("{ viewer { holder { wallet { amount } } } }"))["viewer"]
    return int(viewer["holder"]["wallet"]["amount"].replace(".", ""))


async def _look(dev: Dev, query: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dev.facts["database_url"])
    try:
        return list(await connection.fetch(query, *values))
    finally:
        await connection.close()


async def _mails(dev: Dev) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        mails: list[dict[str, Any]] = (await http.get(f"{dev.facts['mail_page_url']}/mails.json")).json()
        return mails


def _relay(dev: Dev) -> Relay:
    """A relay beside the program's own, as a second task process has one."""
    facts, role = dev.facts, "escarcelle_relay"
    database = urlsplit(facts["database_url"])
    password = (dev.data / "passwords" / role).read_text(encoding="utf-8").strip()
    relay = urlunsplit(database._replace(netloc=f"{role}:{password}@{database.hostname}:{database.port}"))
    urls = {name: facts[name] for name in ("database_url", "redis_url", "smtp_url")}
    return Relay(from_environment(**urls, relay_database_url=relay, secret_keys=secrets.token_urlsafe(32)))
