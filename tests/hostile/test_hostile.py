"""Ten thousand hostile documents, bodies and frames against `escarcelle serve`, from every role and from nobody: each
is answered or closed as the protocols say, nothing of the inside shows, and afterwards the process is as it was.

ESCARCELLE_HOSTILE_TIMES=10 sends ten times as many; ESCARCELLE_TEST_SEED repeats a run."""

import asyncio
import os
import random
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from graphql import GraphQLSchema, build_schema

from domain.access import Right, Role
from domain.codes import global_id
from domain.db import PROTECTION, READER, Database, connect_as
from escarcelle import tied
from escarcelle.clients import Client
from escarcelle.embedded import free_port
from reporting import audit
from tests.flows.cast import token_of
from tests.hostile.bodies import Bodies, Ends, Raw
from tests.hostile.documents import Documents
from tests.hostile.frames import CODES, Conversation, Frames
from tests.hostile.wire import CLOSE, LAST_PING, Abnormal, Answer, Heard, Line, dialled, frame
from tests.tasks import until
from tests.world import Servers, World, environment, wait_until_ready

_ROOT = Path(__file__).parents[2]
_TIMES = float(os.environ.get("ESCARCELLE_HOSTILE_TIMES") or 1)
DOCUMENTS, REQUESTS, FRAMES = (int(count * _TIMES) for count in (3_500, 3_000, 3_500))
LANES = 8
_ENOUGH = 30
GROWTH_BYTES = 16 * 1024 * 1024
"""How much more the process may hold in the second half of the documents than in the first: the caches of documents are
full by then."""
ROUNDS = 3
"""How often the documents come at most, until they leave the process as it was."""
PAYMENT_SECONDS = 0.5
"""What a payment may take afterwards, as the median."""

_PICTURE = re.compile(r'(?<="pngBase64":")[A-Za-z0-9+/=]+')
_INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|, line \d|site-packages|asyncpg|sqlalchemy|psycopg|starlette|uvicorn|strawberry"
    r"|graphql[_-]core|orjson|dramatiq|valkey|postgres|redis|\b0x[0-9a-f]{6,}|<class|<function| object at |NoneType"
    r"|(?-i:\b[A-Z][A-Za-z]{1,60}(?:Error|Exception|Warning)\b)|\b(?:dict|list|tuple|str|float) object\b"
    r"|\bSELECT\b.{0,200}\bFROM\b|\bINSERT INTO\b|\bUPDATE\b.{0,80}\bSET\b|\bDELETE FROM\b|relation \"|column \""
    r"|\b(?:domain|api|tasks|escarcelle|reporting)\.[a-z_]+|/usr/|/opt/|violates|constraint",
    re.IGNORECASE,
)
_SECRETS = [str(_ROOT), sys.prefix, *(name for name in PROTECTION if "_" in name)]
_SECRETS += [socket.gethostname()] if len(socket.gethostname()) > 8 else []


# ── the process under siege ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Besieged:
    """An API process of its own, watched from outside."""

    servers: Servers
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path
    tasks: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident_bytes(self) -> int:
        """The memory it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    @property
    def connections(self) -> int:
        """Connections to its port that it has not closed."""
        local, still_open = f":{self.port:04X}", {"01", "08"}
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        return sum(line.split()[1].endswith(local) and line.split()[3] in still_open for line in lines)

    async def count_tasks(self) -> int:
        """Its asyncio tasks that are not done."""
        before = len(self._told)
        self.process.send_signal(signal.SIGUSR1)
        await until(lambda: len(self._told) > before, 10)
        return int(self._told[-1])

    @property
    def _told(self) -> list[str]:
        return self.tasks.read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    started = Servers.start(tmp_path_factory.mktemp("hostile"))
    yield started
    started.stop()


@contextmanager
def besieged(servers: Servers, folder: Path) -> Iterator[Besieged]:
    """`escarcelle serve`, with the limits of production."""
    port, log, tasks = free_port(), folder / "serve.log", folder / "tasks"
    tasks.touch()
    settings = servers.settings.model_copy(update={"sign_in_tries_per_minute": 60})
    program = [sys.executable, "-m", "tests.hostile.watched", str(tasks), "serve", "--port", str(port)]
    command = tied.command(program, dies_by=signal.SIGKILL)
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=_ROOT, env=environment(settings), stdout=file, stderr=file) as process,
    ):
        try:
            wait_until_ready(f"http://127.0.0.1:{port}")
            yield Besieged(servers, port, process, log, tasks)
        finally:
            process.terminate()


# ── who is there, and what is known to the hostile ────────────────────────────────────────────────────────────────────

_LOGINS = ("administrateur", "agent", "signataire", "caisse", "ines", None)


@dataclass
class Cast:
    """An issuer with every role, a few requests of each kind, and a user whom the hostile may harm."""

    world: World
    known: dict[str, list[str]]

    @classmethod
    async def make(cls, servers: Servers, database: Database, url: str) -> "Cast":
        """Everyone and everything."""
        world = await World.make(servers, database)
        await world.merchant("CK", "Canoë Kayak Club", {"P001": "Base nautique", "P002": "Île Charlemagne"})
        await world.holder("ines", "Durand", "5000,00", "ines@example.com")
        await world.user("administrateur", Role.ISSUER_ADMIN)
        await world.user("agent", Role.ISSUER_AGENT)
        await world.user("signataire", Role.MERCHANT_MANAGER, merchant="CK")
        await world.user("caisse", Role.MERCHANT_STAFF, merchant="CK", grants={"P001": frozenset(Right)})
        await world.user("ines", Role.HOLDER, holder="ines")
        await world.user("victime", Role.MERCHANT_STAFF, merchant="CK", grants={"P001": frozenset(Right)})
        victim = world.users["victime"].user_id
        assert victim is not None
        places = [place.global_id for place in world.places.values()]
        merchants = [merchant.global_id for merchant in world.merchants.values()]
        holders = [holder.global_id for holder in world.holders.values()]
        requests, tokens = await cls._ask(world, url, places[0])
        everything = [*requests, *places, *merchants, *holders, global_id("user", world.tenant, victim)]
        known = {
            "id": everything,
            "ID": everything,
            "token": tokens,
            "pointOfSaleId": places,
            "merchantId": merchants,
            "holderId": holders,
            "slug": [world.slug, "demo"],
            "issuer": [world.slug],
            "login": ["inconnu", "victime"],
            "customerIdentifier": ["ines", "ines@example.com"],
        }
        return cls(world, known)

    @staticmethod
    async def _ask(world: World, url: str, place: str) -> tuple[list[str], list[str]]:
        identifiers, tokens = [], []
        async with Client(url) as till, Client(url) as phone:
            till.token, phone.token = await world.session("caisse"), await world.session("ines")
            for number in range(40):
                given: dict[str, Any] = {"pointOfSaleId": place, "amount": "20,00", "basketNumber": f"cible {number}"}
                if number % 4 == 1:
                    given |= {"customerIdentifier": "ines", "validationDays": 5}
                asked = await till.do("createPaymentRequest", "... on PaymentRequest { id qrCode { url } }", **given)
                identifiers.append(asked["id"])
                if number % 4 != 1:
                    tokens.append(token_of(asked))
            rows = await world.as_owner("SELECT token FROM payment_requests WHERE tenant = $1", world.tenant)
            tokens = [row["token"] for row in rows]
            for token in tokens[::5]:
                await phone.do("payPaymentRequest", "... on PaymentOffer { status }", token=token)
        return identifiers, tokens


# ── the siege ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Siege:
    """Sends, judges and counts."""

    target: Besieged
    cast: Cast
    seed: int
    schema: GraphQLSchema
    tokens: dict[str, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    rounds: Counter[str] = field(default_factory=Counter)
    sent: int = 0

    async def token(self, login: str | None) -> str | None:
        """A session of that user; a new one when the hostile have ended the last."""
        if login is None:
            return None
        if login not in self.tokens:
            self.tokens[login] = await self.cast.world.session(login)
        return self.tokens[login]

    async def in_lanes(self, send: Callable[[random.Random, int], Coroutine[Any, Any, None]], count: int) -> float:
        """So many inputs, from several clients at once: by how many bytes the process grows in their second half."""
        self.rounds[send.__name__] += 1
        self.memory = []
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for lane in range(LANES):
                chance = random.Random(f"{self.seed} {send.__name__} {self.rounds[send.__name__]} {lane}")
                group.create_task(send(chance, count // LANES + (lane < count % LANES)))
        first, second = _medians(self.memory)
        print(
            f"{count} {send.__name__} in {time.monotonic() - began:.1f} s;"
            f" {first / 2**20:.1f} MiB, then {second / 2**20:.1f} MiB"
        )
        return second - first

    async def documents(self, chance: random.Random, count: int) -> None:
        """POST them, one after the other on a connection that is kept while it can be."""
        documents, line = Documents(self.schema, chance, self.cast.known), None
        for _ in range(count):
            body, login, accept = documents.hostile(), chance.choice(_LOGINS), documents.accept()
            token = await self.token(login)
            line = line or await Line.dial(self.target.port)
            await line.send(_asked(body, accept, token))
            answer = await self._heard(line, body)
            if answer is None:
                self._blame("closed without an answer", body)
            elif answer.status == 401 and login is not None:
                self.tokens.pop(login, None)
            if answer is None or answer.ends:
                line.hang_up()
                line = None
            self._count()
        if line is not None:
            line.hang_up()

    async def bodies(self, chance: random.Random, count: int) -> None:
        """Each on a connection of its own."""
        bodies = Bodies(chance, Documents(self.schema, chance, self.cast.known))
        for _ in range(count):
            raw = bodies.hostile()
            async with dialled(self.target.port) as line:
                await self._request(line, raw)
            self._count()

    async def frames(self, chance: random.Random, count: int) -> None:
        """Sockets, until so many frames are sent."""
        frames, left = Frames(chance, Documents(self.schema, chance, self.cast.known)), count
        while left > 0:
            conversation = frames.hostile(await self.token(chance.choice(_LOGINS)))
            # Three hundred pings are one idea.
            ideas = min(len(conversation.frames), 5)
            left -= ideas
            await self._socket(conversation, drops=chance.random() < 0.2)
            for _ in range(ideas):
                self._count()

    async def thousand(self) -> int:
        """A thousand subscriptions on one socket; returns how many of them were over the limit."""
        chance = random.Random(self.seed)
        frames = Frames(chance, Documents(self.schema, chance, self.cast.known))
        heard = await self._socket(frames.thousand(await self.token("caisse")), drops=False)
        return sum("LIMIT_EXCEEDED" in message for message in heard.messages)

    # ── judging ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _request(self, line: Line, raw: Raw) -> None:
        await line.send(*raw.pieces)
        said = b"".join(raw.pieces)
        if raw.ends is Ends.HUNG_UP:
            with suppress(Abnormal):
                if answer := await line.answer(is_head=raw.is_head, within_seconds=0.02):
                    self._judge(answer, said)
            self.seen["hung up"] += 1
            return
        for number in range(raw.answers):
            answer = await self._heard(line, said, is_head=raw.is_head)
            if answer is None:
                if raw.ends is Ends.ANSWERED:
                    self._blame(f"{raw.name}: closed after {number} of {raw.answers} answers", said)
                self.seen["closed"] += 1
                return

    async def _socket(self, conversation: Conversation, *, drops: bool) -> Heard:
        heard, said = Heard(), b"".join(conversation.frames)
        async with dialled(self.target.port) as line:
            await line.send(conversation.handshake)
            answer = await self._heard(line, conversation.handshake)
            if answer is None or answer.status != 101:
                return heard
            # Heard while it is told: a server that cannot get rid of its answers reads no further.
            listening = asyncio.create_task(line.listen(heard))
            try:
                async with asyncio.timeout(60):
                    await line.send(*conversation.frames)
                    if conversation.hangs or drops:
                        self.seen["socket dropped"] += 1
                        return heard
                    # One that is still open is alive, and closes when it is asked to.
                    await line.send(frame(LAST_PING))
                    await heard.over.wait()
                    await line.send(frame(b"\x03\xe8", CLOSE))
                    await listening
            except (Abnormal, TimeoutError) as error:
                self._blame(f"{conversation.name}: {error or 'it hangs'} after {heard.messages[-3:]}", said)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            if heard.code is not None and heard.code not in CODES:
                self._blame(f"{conversation.name}: closed with {heard.code}", said)
            self.seen[f"close {heard.code}"] += 1
            for message in heard.messages:
                self._look_inside(message, said)
        return heard

    async def _heard(self, line: Line, said: bytes, *, is_head: bool = False) -> Answer | None:
        try:
            answer = await line.answer(is_head=is_head)
        except Abnormal as abnormal:
            self._blame(str(abnormal), said)
            return None
        if answer is not None:
            self._judge(answer, said)
        return answer

    def _judge(self, answer: Answer, said: bytes) -> None:
        self.seen[str(answer.status)] += 1
        if answer.status >= 500:
            self._blame(f"status {answer.status}: {answer.body[:300]}", said)
        self._look_inside(answer.head + answer.body, said)

    def _look_inside(self, text: str, said: bytes) -> None:
        for code in set(re.findall(r'"code":"([A-Z_]+)"', text)):
            self.seen[code] += 1
        if '"data":{' in text:
            self.seen["data"] += 1
        if '"INTERNAL"' in text:
            self._blame(f"a fault of ours: {text[-400:]}", said)
        # A picture's letters make any short word by chance.
        text = _PICTURE.sub("", text)
        # A schema that is asked for describes itself, in words of its own.
        shown = _INSIDE.search(text) if "__schema" not in said.decode(errors="replace") else None
        if shown and shown[0].lower() not in said.decode(errors="replace").lower():
            self._blame(f"{shown[0]!r} shows in {text[max(0, shown.start() - 200) : shown.end() + 100]!r}", said)
        if found := [secret for secret in _SECRETS if secret in text]:
            self._blame(f"{found} show in {text[:400]}", said)

    def _blame(self, why: str, said: bytes) -> None:
        self.wrong.append(f"{why}\n    after {said[:1_500]!r}")
        assert len(self.wrong) < _ENOUGH, "\n".join(self.wrong)

    def _count(self) -> None:
        self.sent += 1
        if self.sent % 100 == 0:
            self.memory.append(self.target.resident_bytes)


def _asked(body: bytes, accept: str, token: str | None) -> bytes:
    lines = ["POST /graphql HTTP/1.1", "host: 127.0.0.1", "content-type: application/json", f"accept: {accept}"]
    lines += [f"authorization: Bearer {token}"] if token else []
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


# ── what is left of it ────────────────────────────────────────────────────────────────────────────────────────────────


async def _neighbour(servers: Servers, database: Database) -> World:
    """Another issuer, of whose users the hostile are none: what an agent may shut at home stays open there."""
    world = await World.make(servers, database)
    await world.merchant("AM", "Auberge du Moulin", {"P001": "Auberge du Moulin"})
    await world.holder("ines", "Durand", "5000,00", "ines@example.com")
    await world.user("caisse", Role.MERCHANT_STAFF, merchant="AM", grants={"P001": frozenset(Right)})
    await world.user("ines", Role.HOLDER, holder="ines")
    return world


async def _pay(world: World, url: str, times: int) -> list[float]:
    """Payments as people make them; returns how long each took, in seconds."""
    took = []
    async with Client(url) as till, Client(url) as phone:
        till.token, phone.token = await world.session("caisse"), await world.session("ines")
        for number in range(times):
            started = time.monotonic()
            given = {"pointOfSaleId": world.places["P001"].global_id, "amount": "20", "basketNumber": f"après {number}"}
            asked = await till.do("createPaymentRequest", "... on PaymentRequest { qrCode { url } }", **given)
            paid = await phone.do("payPaymentRequest", "... on PaymentOffer { status }", token=token_of(asked))
            assert paid == {"__typename": "PaymentOffer", "status": "VALIDATED"}
            took.append(time.monotonic() - started)
    return took


async def _busy_connections(servers: Servers) -> int:
    """Database connections that are in the middle of something."""
    connection = await asyncpg.connect(servers.postgres.url())
    try:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'escarcelle' AND state <> 'idle'"
            )
        )
    finally:
        await connection.close()


@asynccontextmanager
async def _silent(port: int, count: int) -> AsyncIterator[None]:
    """Connections that say nothing, or half of something, and stay."""
    beginnings = (b"", b"P", b"POST /graphql HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nx-a: " + b"b" * 3_000)
    lines = [await Line.dial(port) for _ in range(count)]
    try:
        for number, line in enumerate(lines):
            await line.send(beginnings[number % len(beginnings)])
        yield
    finally:
        for line in lines:
            line.hang_up()


async def _too_slow(port: int) -> Answer | None:
    """The answer to a body that drips until the server has had enough."""
    async with dialled(port) as line:
        head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
        await line.send(head.encode())
        answer = asyncio.ensure_future(line.answer())
        while not answer.done():
            await line.send(b" ")
            await asyncio.sleep(0.1)
        return answer.result()


def _medians(memory: Sequence[int]) -> tuple[float, float]:
    half = len(memory) // 2
    return statistics.median(memory[:half][-half // 2 :]), statistics.median(memory[half:][-half // 2 :])


def test_the_program_is_hard_to_break(servers: Servers, tmp_path: Path) -> None:
    seed = int(os.environ.get("ESCARCELLE_TEST_SEED") or secrets.randbits(32))
    print(f"ESCARCELLE_TEST_SEED={seed}")

    async def scenario(target: Besieged, database: Database) -> None:
        cast = await Cast.make(servers, database, target.url)
        neighbour = await _neighbour(servers, database)
        untouched = await neighbour.digest()
        before = await target.count_tasks()
        schema = build_schema((_ROOT / "schema.graphql").read_text(encoding="utf-8"))
        siege = Siege(target, cast, seed, schema)
        started = time.monotonic()
        async with _silent(target.port, 50), asyncio.TaskGroup() as group:
            slow = [group.create_task(_too_slow(target.port)) for _ in range(10)]
            await siege.in_lanes(siege.frames, FRAMES)
            await siege.in_lanes(siege.bodies, REQUESTS)
            for _ in range(ROUNDS):
                # What one answer took stays with the process; what leaks goes on.
                growth = await siege.in_lanes(siege.documents, DOCUMENTS)
                if growth < GROWTH_BYTES:
                    break
            over_the_limit = await siege.thousand()
        print(f"{siege.sent} inputs in {time.monotonic() - started:.1f} s")
        print(dict(siege.seen.most_common()))

        assert not siege.wrong, f"{len(siege.wrong)} wrong:\n" + "\n".join(siege.wrong)
        assert {answer and answer.status for answer in (task.result() for task in slow)} == {408}
        assert over_the_limit > 500
        assert growth < GROWTH_BYTES
        _saw_everything(siege.seen)

        assert await neighbour.digest() == untouched
        took = await _pay(neighbour, target.url, 20)
        print(f"a payment afterwards: {statistics.median(took) * 1000:.0f} ms")
        assert statistics.median(took) < PAYMENT_SECONDS

        async def at_rest() -> bool:
            tasks, connections = await target.count_tasks(), target.connections
            return tasks <= before and connections == 0 and await _busy_connections(servers) == 0

        await until(at_rest, 60)
        reader = await connect_as(servers.settings, READER)
        try:
            assert await audit.differences(reader) == []
        finally:
            await reader.close()

    async def whole(target: Besieged) -> None:
        database = Database(servers.settings)
        await database.open()
        try:
            await scenario(target, database)
        finally:
            await database.close()

    with besieged(servers, tmp_path) as target:
        try:
            asyncio.run(whole(target))
            assert target.process.poll() is None
        finally:
            log = target.log.read_text(encoding="utf-8", errors="replace")
            print("\n".join(line[:2_000] for line in log.splitlines() if _is_complaint(line)))
        assert [line for line in log.splitlines() if _is_complaint(line)] == []


def _is_complaint(line: str) -> bool:
    """Whether a line of the log is about a fault of ours. What clients do wrong is a warning at most."""
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return True
    return said["level"] not in ("debug", "info", "warning") or "traceback" in line.lower()


def _saw_everything(seen: Mapping[str, int]) -> None:
    """Else the above would hold for nothing."""
    statuses = {"200", "400", "401", "403", "404", "405", "406", "408", "413", "415", "101"}
    codes = {
        "BAD_REQUEST", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT", "LIMIT_EXCEEDED",
        "OPERATION_RESOLUTION_FAILURE", "PERSISTED_QUERY_NOT_FOUND", "UNAUTHENTICATED", "FORBIDDEN",
        "METHOD_NOT_ALLOWED", "NOT_FOUND", "INVALID", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "CSRF",
    }  # fmt: skip
    closes = {f"close {code}" for code in (1000, 1002, 1007, 1009, 4400, 4401, 4406, 4409, 4429)}
    assert (statuses - {"408"}) | codes | closes <= {name for name, count in seen.items() if count}
    assert seen["data"] > DOCUMENTS // 20
