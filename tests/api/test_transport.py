"""The transport, driven over real sockets: what it answers to the well-behaved, the clumsy and the hostile."""

import asyncio
import hashlib
import json
import random
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
import strawberry
import uvicorn
from graphql import OperationType, get_introspection_query
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from strawberry import scalars
from strawberry.exceptions import StrawberryInputCoercionError
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from api.transport import (
    EVENT_STREAM,
    GRAPHQL_RESPONSE,
    JSON,
    SUBPROTOCOL,
    Limits,
    Rejected,
    Transport,
    asked_locale,
)
from domain.texts import Locale

# ── a small world behind the transport ───────────────────────────────────────────────────────────────────────────────


@dataclass
class Caller:
    """The context of these tests."""

    name: str
    locale: Locale
    ended: "asyncio.Future[str] | None"


@dataclass
class World:
    """What happened in the server, told across threads."""

    labels: list[str] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    pulled: int = 0
    callers: list[Caller] = field(default_factory=list)


WORLD = World()

PATH = "/graphql"


@strawberry.type
class Item:
    """A node with more of its kind inside."""

    id: strawberry.ID
    name: str

    @strawberry.field
    def items(self, first: int = 50) -> list["Item"]:
        return [Item(id=strawberry.ID(str(number)), name="item") for number in range(min(first, 3))]

    @strawberry.field
    def tags(self) -> list["Item"]:
        return []

    @strawberry.field
    def child(self) -> "Item":
        return Item(id=self.id, name="child")


@strawberry.type
class Page:
    """A connection."""

    nodes: list[Item]


@strawberry.input
class Label:
    """An input with text inside."""

    label: str


@strawberry.type
class Query:
    """Questions."""

    @strawberry.field
    def hello(self) -> str:
        return "monde"

    @strawberry.field
    async def whoami(self, info: strawberry.Info[Caller, None]) -> str:
        await asyncio.sleep(0)
        return f"{info.context.name}/{info.context.locale}/{sorted(info.variable_values)}"

    @strawberry.field
    def echo(self, text: str | None = None, value: int | None = None, identity: strawberry.ID | None = None) -> str:
        return f"{text}|{value}|{identity}"

    @strawberry.field
    def labelled(self, input: Label) -> str:  # noqa: A002 — the contract's name for it
        return input.label

    @strawberry.field
    def anything(self, value: scalars.JSON) -> scalars.JSON:
        return value

    @strawberry.field
    def item(self) -> Item:
        return Item(id=strawberry.ID("1"), name="item")

    @strawberry.field
    def page(self, first: int = 50) -> Page:
        return Page(nodes=[Item(id=strawberry.ID("1"), name="item")] * min(first, 2))

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("the password is hunter2")

    @strawberry.field
    def forbidden(self) -> str | None:
        raise Rejected("FORBIDDEN", "Pas pour vous.")

    @strawberry.field
    def picky(self) -> str | None:
        raise StrawberryInputCoercionError("Not this.")

    @strawberry.field
    def unwritable(self) -> scalars.JSON:
        return cast(scalars.JSON, 2**70)


@strawberry.type
class Mutation:
    """Deeds."""

    @strawberry.mutation
    async def add(self, label: str) -> int:
        await asyncio.sleep(0)
        WORLD.labels.append(label)
        return len(WORLD.labels)


@strawberry.type
class Subscription:
    """News."""

    @strawberry.subscription
    async def count(self, to: int) -> AsyncGenerator[int, None]:
        for number in range(to):
            await asyncio.sleep(0)
            yield number

    @strawberry.subscription
    async def endless(self) -> AsyncGenerator[int, None]:
        WORLD.started.release()
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            WORLD.stopped.release()

    @strawberry.subscription
    async def silent(self) -> AsyncGenerator[int, None]:
        await asyncio.Event().wait()
        yield 0

    @strawberry.subscription
    async def torrent(self) -> AsyncGenerator[str, None]:
        WORLD.pulled = 0
        try:
            while True:
                WORLD.pulled += 1
                yield "x" * 50_000
                await asyncio.sleep(0)
        finally:
            WORLD.stopped.release()

    @strawberry.subscription
    async def failing(self) -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("the password is hunter2")

    @strawberry.subscription
    async def revoked(self) -> AsyncGenerator[int, None]:
        yield 1
        raise Rejected("UNAUTHENTICATED", "Votre session est terminée.")


SCHEMA = strawberry.Schema(Query, Mutation, Subscription)


async def make_context(connection: HTTPConnection, payload: Mapping[str, object] | None) -> Caller:
    """Anyone, in their language, unless they come with a bad token."""
    token = str((payload or {}).get("token", connection.headers.get("authorization", "anyone")))
    if token == "bad":
        raise Rejected("UNAUTHENTICATED", "Jeton inconnu. " + "é" * 200)
    if token == "bug":
        raise RuntimeError("the password is hunter2")
    locale = asked_locale(connection.headers.get("accept-language"))
    caller = Caller(token, locale, asyncio.get_running_loop().create_future())
    if payload is not None or EVENT_STREAM in connection.headers.get("accept", ""):
        WORLD.callers.append(caller)
    return caller


SEEN: list[tuple[OperationType, tuple[str, ...]]] = []


def authorize(caller: Caller, operation_type: OperationType, root_fields: tuple[str, ...]) -> None:
    """`add` is for those who say who they are, `hello` never with `whoami`."""
    SEEN.append((operation_type, root_fields))
    if "add" in root_fields and caller.name == "anyone":
        raise Rejected("UNAUTHENTICATED", "Qui êtes-vous ?")
    if {"hello", "whoami"} <= set(root_fields):
        raise Rejected("FORBIDDEN", "Pas ensemble.")


@dataclass
class Served:
    """A running server."""

    url: str
    transport: Transport[Caller]
    loop: asyncio.AbstractEventLoop

    @property
    def socket_url(self) -> str:
        """Where WebSockets go."""
        return self.url.replace("http", "ws")

    def run(self, work: Any) -> Any:
        """Await something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call something in the server's loop."""
        self.loop.call_soon_threadsafe(function, *arguments)


@contextmanager
def serving(limits: Limits | None = None, schema: strawberry.Schema = SCHEMA) -> Iterator[Served]:
    """uvicorn in a thread on a free port."""
    transport = Transport(schema._schema, make_context, authorize=authorize, limits=limits)
    loops: list[asyncio.AbstractEventLoop] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loops.append(asyncio.get_running_loop())
        yield

    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=transport.routes(), lifespan=lifespan)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    wait_for(lambda: server.started)
    served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}/graphql", transport, loops[0])
    try:
        yield served
    finally:
        served.run(transport.close_all())
        server.should_exit = True
        thread.join()


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds, at most ten seconds."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Served]:
    """Small limits, and a word every now and then."""
    limits = Limits(
        body_bytes=2_000,
        keep_alive_seconds=0.05,
        subscriptions_per_socket=2,
        socket_frame_bytes=1_000,
        documents_cached=3,
    )
    with serving(limits) as running:
        yield running


@pytest.fixture
def impatient() -> Iterator[Served]:
    """Waits for nobody."""
    with serving(Limits(body_bytes=2_000, body_seconds=0.3, connection_init_seconds=0.2)) as running:
        yield running


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=served.url.removesuffix("/graphql"), headers={"accept": GRAPHQL_RESPONSE}, timeout=10
    ) as client:
        yield client


def ask(client: httpx.Client, query: str, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
    """One question by POST."""
    return client.post(PATH, json={"query": query, **more}, headers=headers)


def code_of(response: httpx.Response) -> str:
    """The code of the first error."""
    return cast(str, response.json()["errors"][0]["extensions"]["code"])


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_is_answered(http: httpx.Client) -> None:
    response = ask(http, "query Q($v: Int) { whoami echo(value: $v) }", variables={"v": 7}, operationName="Q")
    assert response.status_code == 200
    assert response.json() == {"data": {"whoami": "anyone/fr/['v']", "echo": "None|7|None"}}
    assert response.headers["content-type"] == f"{GRAPHQL_RESPONSE}; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert not any(name.startswith("access-control") for name in response.headers)


def test_mutations_run_one_after_another(http: httpx.Client) -> None:
    WORLD.labels.clear()
    query = 'mutation { a: add(label: "un") b: add(label: "deux") }'
    assert ask(http, query, {"authorization": "ana"}).json() == {"data": {"a": 1, "b": 2}}
    assert WORLD.labels == ["un", "deux"]


URQL = f"{GRAPHQL_RESPONSE}, application/graphql+json, {JSON}, {EVENT_STREAM}, multipart/mixed"


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        (None, 200, JSON),
        ("", 200, JSON),
        ("*/*", 200, JSON),
        ("application/*", 200, JSON),
        (JSON, 200, JSON),
        ("application/json; charset=utf-8", 200, JSON),
        (GRAPHQL_RESPONSE, 400, GRAPHQL_RESPONSE),
        ("APPLICATION/GraphQL-Response+JSON", 400, GRAPHQL_RESPONSE),
        (f"{GRAPHQL_RESPONSE}, {JSON};q=0.9", 400, GRAPHQL_RESPONSE),
        (f"{GRAPHQL_RESPONSE};q=0.8, {JSON};q=0.9", 200, JSON),
        (f"{JSON}, {GRAPHQL_RESPONSE}", 200, JSON),
        (f"{GRAPHQL_RESPONSE}, */*", 400, GRAPHQL_RESPONSE),
        (f"{GRAPHQL_RESPONSE};q=0, */*", 200, JSON),
        (f"text/html, {JSON};q=0.1", 200, JSON),
        (
            f"{GRAPHQL_RESPONSE}, application/graphql+json, {JSON}, {EVENT_STREAM}, multipart/mixed",
            400,
            GRAPHQL_RESPONSE,
        ),
        (f"{JSON}, {EVENT_STREAM}", 200, JSON),
        (f"{EVENT_STREAM};q=0.9, {JSON}", 200, JSON),
        (f"*/*, {EVENT_STREAM}", 200, JSON),
        (f"{EVENT_STREAM}, {JSON}", 200, EVENT_STREAM),
        (EVENT_STREAM, 200, EVENT_STREAM),
        ("text/html", 406, JSON),
        ("application/json;q=0", 406, JSON),
        ("application/json; charset=iso-8859-1", 406, JSON),
        (";;q=,,", 406, JSON),
    ],
)
def test_media_type(http: httpx.Client, accept: str | None, status: int, media_type: str) -> None:
    request = http.build_request("POST", PATH, json={"query": "{ nowhere }"})
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    response = http.send(request)
    assert (response.status_code, response.headers["content-type"]) == (status, f"{media_type}; charset=utf-8")


NOT_UTF_8 = b'{"query": "{ hello }", "operationName": "\xff"}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "BAD_REQUEST"),
        (b"nonsense", 400, "BAD_REQUEST"),
        (b'{"query":', 400, "BAD_REQUEST"),
        (b"[]", 400, "BAD_REQUEST"),
        (b'[{"query": "{ hello }"}]', 400, "BAD_REQUEST"),
        (b'"{ hello }"', 400, "BAD_REQUEST"),
        (b"null", 400, "BAD_REQUEST"),
        (b"{}", 400, "BAD_REQUEST"),
        (b'{"qeury": "{ hello }"}', 400, "BAD_REQUEST"),
        (b'{"query": 1}', 400, "BAD_REQUEST"),
        (b'{"query": {}}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": [7]}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": "{}"}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "operationName": 1}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "extensions": "x"}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "extensions": {"persistedQuery": 1}}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": {"a": NaN}}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": {"a": -Infinity}}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": {"a": 1e999}}', 400, "BAD_REQUEST"),
        (b'\xef\xbb\xbf{"query": "{ hello }"}', 400, "BAD_REQUEST"),
        ('{"query": "{ hello }"}'.encode("utf-16"), 400, "BAD_REQUEST"),
        (NOT_UTF_8, 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }"} {}', 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": {"a": ' + b"[" * 65 + b"]" * 65 + b"}}", 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "variables": ' + b'{"a":' * 40_000, 400, "BAD_REQUEST"),
        (b'{"query": "{ hello }", "x": ' + b"[" * 100_000 + b'"\\ud800"' + b"]" * 100_000 + b"}", 400, "BAD_REQUEST"),
        (b"[" * 262_144, 400, "BAD_REQUEST"),
        (b" " * 262_145, 413, "PAYLOAD_TOO_LARGE"),
        (b'{"query": "' + b"#" * 3_000_000 + b'{ hello }"}', 413, "PAYLOAD_TOO_LARGE"),
        (b'{"query": ""}', 400, "GRAPHQL_PARSE_FAILED"),
        (b'{"query": "{"}', 400, "GRAPHQL_PARSE_FAILED"),
        (b'{"query": "{ echo(text: \\"\\\\uD800\\") }"}', 400, "GRAPHQL_PARSE_FAILED"),
        (b'{"query": "{ nowhere }"}', 400, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "type A { b: Int }"}', 400, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "query A { hello } query B { hello }"}', 400, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "{ hello }", "operationName": "A"}', 400, "OPERATION_RESOLUTION_FAILURE"),
        (b'{"query": "fragment F on Query { hello }"}', 400, "GRAPHQL_VALIDATION_FAILED"),
        (b'{"query": "query($v: Int!) { echo(value: $v) }"}', 400, "BAD_USER_INPUT"),
        (b'{"query": "query($v: Int) { echo(value: $v) }", "variables": {"v": "x"}}', 400, "BAD_USER_INPUT"),
        (
            b'{"query": "query($v: Int) { echo(value: $v) }", "variables": {"v": 1' + b"0" * 5_000 + b"}}",
            400,
            "BAD_REQUEST",
        ),
        (
            b'{"query": "query($v: Int) { echo(value: $v) }", "variables": {"v": 1' + b"0" * 50 + b"}}",
            400,
            "BAD_USER_INPUT",
        ),
        (b'{"query": "{ unwritable }"}', 500, "INTERNAL"),
    ],
)
def test_body(http: httpx.Client, body: bytes, status: int, code: str) -> None:
    response = http.post(PATH, content=body, headers={"content-type": JSON})
    assert (response.status_code, code_of(response)) == (status, code)
    plain = http.post(PATH, content=body, headers={"content-type": JSON, "accept": JSON})
    malformed = code in ("BAD_REQUEST", "PAYLOAD_TOO_LARGE", "INTERNAL")
    assert (plain.status_code, code_of(plain)) == (status if malformed else 200, code)
    assert ask(http, "{ hello }").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "{ hello }", "query": "{ h: hello }"}',
        b'{"query": "{ h: hello }", "variables": null, "operationName": null, "extensions": null}',
        b'{"query": "{ h: hello }", "operationName": "", "unknown": [1, 2]}',
        b'{"query": "{ h: hello }", "variables": {"unused": 123456789012345678901234567890}}',
    ],
)
def test_bodies_that_are_odd_but_fine(http: httpx.Client, body: bytes) -> None:
    response = http.post(PATH, content=body, headers={"content-type": 'Application/JSON ; Charset="UTF-8"'})
    assert (response.status_code, response.json()) == (200, {"data": {"h": "monde"}})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (r'{"query": "{ hello } \u0000"}', "query"),
        (r'{"query": "{ echo(text: \"a\\u0000\") }"}', "query"),
        (r'{"query": "{ hello }", "operationName": "a\u0000"}', "operationName"),
        (r'{"query": "{ hello }", "variables": {"input": {"label": "a\u0000b"}}}', "variables.input.label"),
        (r'{"query": "{ hello }", "variables": {"many": [{"x": "ok"}, {"x": "\ud800"}]}}', "variables.many.1.x"),
        (r'{"query": "{ hello }", "variables": {"input": {"a\u0000": 1}}}', "variables.input.*"),
        (r'{"query": "{ hello \uDFFF }"}', "query"),
    ],
)
def test_hidden_characters_are_named(http: httpx.Client, body: str, where: str) -> None:
    for language, sentence in (
        ("en-GB, fr;q=0.5", f"{where} contains a NUL character or a lone surrogate."),
        ("de, fr;q=0.5", f"{where} contient un caractère NUL ou un demi-caractère Unicode."),
    ):
        headers = {"content-type": JSON, "accept": JSON, "accept-language": language}
        response = http.post(PATH, content=body, headers=headers)
        assert (response.status_code, response.json()["errors"][0]["message"]) == (400, sentence)


def test_text_beyond_ascii_passes(http: httpx.Client) -> None:
    body = rb'{"query": "query($t: String) { echo(text: $t) }", "variables": {"t": "\\u0000 \ud83d\ude00 \u00e9"}}'
    response = http.post(PATH, content=body, headers={"content-type": JSON})
    assert response.json() == {"data": {"echo": "\\u0000 😀 é|None|None"}}


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/graphql", "application/x-www-form-urlencoded", "multipart/mixed; boundary=x",
     "application/json; charset=utf-16", "application/jsonp"],
)  # fmt: skip
def test_content_type(http: httpx.Client, content_type: str) -> None:
    response = http.post(PATH, content=b'{"query": "{ hello }"}', headers={"content-type": content_type})
    assert (response.status_code, code_of(response)) == (415, "UNSUPPORTED_MEDIA_TYPE")
    request = http.build_request("POST", PATH, content=b'{"query": "{ hello }"}')
    assert http.send(request).status_code == 415


def test_compressed_bodies_are_refused(http: httpx.Client) -> None:
    headers = {"content-type": JSON, "content-encoding": "gzip"}
    assert http.post(PATH, content=b"\x1f\x8b", headers=headers).status_code == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_method(http: httpx.Client, method: str) -> None:
    response = http.request(method, PATH)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


def test_a_body_that_streams_past_the_limit(hasty: Served) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000

    with httpx.Client() as client:
        response = client.post(hasty.url, content=chunks(), headers={"content-type": JSON})
    assert (response.status_code, code_of(response)) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(("length", "status"), [(100, b"408"), (10**12, b"413")])
def test_a_body_that_does_not_come(impatient: Served, length: int, status: bytes) -> None:
    host, port = impatient.url.removeprefix("http://").removesuffix("/graphql").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        head = f"POST /graphql HTTP/1.1\r\nhost: {host}\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\n\r\n{{"
        raw.sendall(head.encode())
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 " + status)


# ── GET ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("query_string", "status", "code"),
    [
        ("query={hello}", 200, None),
        ("query={hello}&operationName=&variables=&extensions=", 200, None),
        ('query=query($v:Int){echo(value:$v)}&variables={"v":1}', 200, None),
        ("", 400, "BAD_REQUEST"),
        ("query=", 400, "BAD_REQUEST"),
        ("query={hello}&query={hello}", 400, "BAD_REQUEST"),
        ("query={hello}&variables=[1]", 400, "BAD_REQUEST"),
        ("query={hello}&variables={", 400, "BAD_REQUEST"),
        ("query=%ff", 400, "BAD_REQUEST"),
        ("query=%ed%a0%80", 400, "BAD_REQUEST"),
        ("query={hello}%00", 400, "BAD_REQUEST"),
        ('query={hello}&variables={"a":"\\u0000"}', 400, "BAD_REQUEST"),
        ("query={hello}&" + "&".join(f"x{number}=1" for number in range(60)), 400, "BAD_REQUEST"),
        ('query=mutation{add(label:"x")}', 405, "METHOD_NOT_ALLOWED"),
        ("query=subscription{count(to:1)}", 406, "NOT_ACCEPTABLE"),
    ],
)
def test_get(http: httpx.Client, query_string: str, status: int, code: str | None) -> None:
    response = http.get(f"{PATH}?{query_string}", headers={"authorization": "ana"})
    assert response.status_code == status
    assert (code_of(response) if code else None) == code
    if status == 405:
        assert response.headers["allow"] == "POST"


# ── forged requests ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"cookie": "session=1"}, 403),
        ({"cookie": "session=1", "origin": "https://evil.example"}, 403),
        ({"cookie": "session=1", "x-escarcelle-client": "web"}, 200),
        ({"cookie": "session=1", "apollo-require-preflight": "true"}, 200),
        ({"cookie": "session=1", "graphql-preflight": "1"}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_cookies_need_a_header(http: httpx.Client, headers: dict[str, str], status: int, method: str) -> None:
    query = "{ hello }"
    response = (
        ask(http, query, headers) if method == "POST" else http.get(PATH, params={"query": query}, headers=headers)
    )
    assert response.status_code == status
    if status == 403:
        assert code_of(response) == "CSRF"


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://[", "http://127.0.0.1:1"])
def test_sockets_with_cookies_are_same_origin(served: Served, origin: str | None) -> None:
    headers = {"cookie": "session=1"} | ({"origin": origin} if origin else {})
    with pytest.raises(InvalidStatus) as refusal:
        connect(served.socket_url, subprotocols=[Subprotocol(SUBPROTOCOL)], additional_headers=headers)
    assert refusal.value.response.status_code == 403
    headers["origin"] = served.url.removesuffix("/graphql")
    with opened(served, headers):
        pass


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_caller(http: httpx.Client) -> None:
    for accept in (JSON, GRAPHQL_RESPONSE, EVENT_STREAM):
        response = ask(http, "{ hello }", {"authorization": "bad", "accept": accept})
        assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED")
        assert response.headers["www-authenticate"] == "Bearer"
    assert ask(http, "{ hello }", {"authorization": "bug", "accept": JSON}).status_code == 500


def test_a_refused_operation_runs_nothing(http: httpx.Client) -> None:
    WORLD.labels.clear()
    query = 'mutation { ...F } fragment F on Mutation { ... @include(if: false) { a: add(label: "x") } }'
    response = ask(http, query)
    assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED")
    assert response.json()["errors"][0]["message"] == "Qui êtes-vous ?"
    assert "data" not in response.json()
    assert ask(http, query, {"accept": JSON}).status_code == 200
    response = ask(http, "{ hello __typename __schema { queryType { name } } ... { whoami } }")
    assert (response.status_code, code_of(response)) == (403, "FORBIDDEN")
    assert (SEEN[-1][0], set(SEEN[-1][1])) == (OperationType.QUERY, {"hello", "whoami"})
    assert WORLD.labels == []


def test_a_field_that_says_no_leaves_the_rest(http: httpx.Client) -> None:
    response = ask(http, "{ hello f: forbidden }")
    assert response.status_code == 200
    assert response.json()["data"] == {"hello": "monde", "f": None}
    (error,) = response.json()["errors"]
    assert (error["message"], error["path"], error["extensions"]) == ("Pas pour vous.", ["f"], {"code": "FORBIDDEN"})


@pytest.mark.parametrize(("language", "words"), [("fr", "citez la référence"), ("en", "quote reference")])
def test_faults_of_ours_are_masked_and_logged(http: httpx.Client, language: str, words: str) -> None:
    query = "query Q($secret: String) { broken echo(text: $secret) }"
    with capture_logs() as logs:
        response = ask(http, query, {"accept-language": language}, variables={"secret": "s3cret"})
    assert response.status_code == 200
    (error,) = response.json()["errors"]
    reference = error["extensions"]["reference"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert words in error["message"]
    assert reference in error["message"]
    assert "hunter2" not in response.text
    (entry,) = logs
    assert entry["reference"] == reference
    assert "builtins.RuntimeError" in entry["error"]
    assert "s3cret" not in str(entry)
    assert "hunter2" not in str(entry)


def test_an_argument_that_cannot_be_read_while_running_is_the_callers(http: httpx.Client) -> None:
    response = ask(http, "query($n: Int = 5) { page(first: $n) { nodes { id } } }", variables={"n": None})
    assert (response.status_code, code_of(response)) == (200, "BAD_USER_INPUT")
    assert code_of(ask(http, "{ picky }")) == "BAD_USER_INPUT"


# ── persisted queries ────────────────────────────────────────────────────────────────────────────────────────────────


def test_persisted_queries(http: httpx.Client) -> None:
    query = "{ kept: hello }"
    digest = hashlib.sha256(query.encode()).hexdigest()
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    for accept, status in ((JSON, 200), (GRAPHQL_RESPONSE, 400)):
        response = http.post(PATH, json={"extensions": extensions}, headers={"accept": accept})
        assert (response.status_code, code_of(response)) == (status, "PERSISTED_QUERY_NOT_FOUND")
        assert response.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    other = ask(http, "{ hello }", {"accept": JSON}, extensions=extensions)
    assert (other.status_code, code_of(other)) == (400, "BAD_REQUEST")
    assert ask(http, query, extensions=extensions).json() == {"data": {"kept": "monde"}}
    assert http.post(PATH, json={"extensions": extensions}).json() == {"data": {"kept": "monde"}}
    by_get = http.get(PATH, params={"extensions": json.dumps(extensions)})
    assert by_get.json() == {"data": {"kept": "monde"}}
    wrong = {"persistedQuery": {"version": 2, "sha256Hash": digest}}
    assert http.post(PATH, json={"extensions": wrong}).status_code == 400


def test_persisted_queries_are_forgotten_in_turn(hasty: Served) -> None:
    with httpx.Client() as client:
        for number in range(4):
            query = f"{{ a{number}: hello }}"
            digest = hashlib.sha256(query.encode()).hexdigest()
            extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
            first = client.post(hasty.url, json={"query": query, "extensions": extensions})
            assert "data" in first.json()
        assert "data" in client.post(hasty.url, json={"extensions": extensions}).json()
        digest = hashlib.sha256(b"{ a0: hello }").hexdigest()
        extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
        assert code_of(client.post(hasty.url, json={"extensions": extensions})) == "PERSISTED_QUERY_NOT_FOUND"


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def nested(levels: int) -> str:
    """`item { child { … id } }`, so many levels of fields."""
    return "{ item {" + "child {" * (levels - 2) + "id" + "}" * levels


FRAGMENT_BOMB = "{ item { ...F0 } }" + "".join(
    f" fragment F{number} on Item {{ ...F{number + 1} ...F{number + 1} }}" for number in range(60)
) + " fragment F60 on Item { id }"  # fmt: skip

LIST_BOMB = "query($n: Int) { item { ...F0 } }" + "".join(
    f" fragment F{number} on Item {{ items(first: $n) {{ ...F{number + 1} ...F{number + 1} }} }}" for number in range(9)
) + " fragment F9 on Item { id }"  # fmt: skip


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("{ page(first: 1) {" + "nodes { id } " * 60 + "} }", {}, None),
        ("{ " + "hello " * 2_001 + "}", {}, "LIMIT_EXCEEDED"),
        ("{ hello }" + "#\n" * 2_001, {}, "LIMIT_EXCEEDED"),
        (nested(15), {}, None),
        (nested(16), {}, "LIMIT_EXCEEDED"),
        (nested(190), {}, "LIMIT_EXCEEDED"),
        ("{ item " + "{ child " * 900, {}, "GRAPHQL_PARSE_FAILED"),
        ("{ " * 900, {}, "GRAPHQL_PARSE_FAILED"),
        ("{ echo(text: " + "[" * 900, {}, "GRAPHQL_PARSE_FAILED"),
        ("{ item {" + " ".join(f"a{number}: id" for number in range(30)) + "} }", {}, None),
        ("{ item {" + " ".join(f"a{number}: id" for number in range(31)) + "} }", {}, "LIMIT_EXCEEDED"),
        ("{" + " ".join(f"a{number}: hello" for number in range(20)) + "}", {}, None),
        ("{" + " ".join(f"a{number}: hello" for number in range(21)) + "}", {}, "LIMIT_EXCEEDED"),
        ("mutation {" + " ".join(f'a{n}: add(label: "")' for n in range(21)) + "}", {}, "LIMIT_EXCEEDED"),
        ("{ a: __schema { types { name } } b: __schema { types { name } } }", {}, "LIMIT_EXCEEDED"),
        ("{ item { items(first: 200) { items(first: 90) { id } } } }", {}, None),
        ("{ item { items(first: 200) { items(first: 110) { id } } } }", {}, "LIMIT_EXCEEDED"),
        ("{ item { items { items { items { id } } } } }", {}, "LIMIT_EXCEEDED"),
        ("{ page(first: 200) { nodes { items(first: 90) { id } } } }", {}, None),
        ("query($n: Int) { item { items(first: $n) { items(first: $n) { id } } } }", {"n": 140}, None),
        ("query($n: Int) { item { items(first: $n) { items(first: $n) { id } } } }", {"n": 145}, "LIMIT_EXCEEDED"),
        ("query($n: Int) { item { items(first: $n) { items(first: $n) { id } } } }", {"n": 145.0}, "LIMIT_EXCEEDED"),
        ("query($n: Int) { item { items(first: $n) { items(first: $n) { id } } } }", {}, None),
        ("query($n: Int = 150) { item { items(first: $n) { items(first: $n) { id } } } }", {}, "LIMIT_EXCEEDED"),
        ("{ item { items(first: 1" + "0" * 5_000 + ") { id } } }", {}, "GRAPHQL_VALIDATION_FAILED"),
        (FRAGMENT_BOMB, {}, "LIMIT_EXCEEDED"),
        (LIST_BOMB, {"n": 200}, "LIMIT_EXCEEDED"),
        ("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ ...A } fragment A on Query { ...A hello }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ ...Nowhere }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ item { ...A } } fragment A on Nowhere { id }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("{ item { " + "id " * 1_900 + "} }", {}, "GRAPHQL_VALIDATION_FAILED"),
        ("query($x: Nowhere) { echo(text: $x) }", {"x": 1}, "GRAPHQL_VALIDATION_FAILED"),
    ],
)
def test_limit(http: httpx.Client, query: str, variables: dict[str, Any], code: str | None) -> None:
    started = time.monotonic()
    response = ask(http, query, variables=variables)
    assert (response.status_code, code_of(response) if code else None) == (400 if code else 200, code)
    assert "errors" in response.json() if code else "errors" not in response.json()
    assert ask(http, query, variables=variables).content == response.content
    assert time.monotonic() - started < 10


def test_introspection_as_tools_ask_it(http: httpx.Client) -> None:
    query = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
        one_of=True,
    )
    response = ask(http, query, operationName="IntrospectionQuery")
    assert response.status_code == 200
    assert "errors" not in response.json()
    deep = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }"
    assert code_of(ask(http, deep)) == "GRAPHQL_VALIDATION_FAILED"


def test_a_repeated_document_is_neither_parsed_nor_validated(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "{ often: hello }"
    ask(http, query)

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("api.transport.parse", never)
    monkeypatch.setattr("api.transport.validate", never)
    assert ask(http, query).json() == {"data": {"often": "monde"}}


# ── Server-Sent Events ───────────────────────────────────────────────────────────────────────────────────────────────


def events_of(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event, comments left out."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block and not block.startswith(":")]
    found = [dict(cast(tuple[str, str], line.split(":", 1)) for line in block) for block in blocks]
    return [(event["event"].strip(), json.loads(event["data"]) if event["data"] else None) for event in found]


STREAM = {"accept": EVENT_STREAM}


@pytest.mark.parametrize(
    ("query", "events"),
    [
        ("{ hello }", [{"data": {"hello": "monde"}}]),
        ("subscription { count(to: 3) }", [{"data": {"count": number}} for number in range(3)]),
        ("subscription { count(to: 0) }", []),
    ],
)
def test_events(http: httpx.Client, query: str, events: list[object]) -> None:
    for response in (ask(http, query, STREAM), http.get(PATH, params={"query": query}, headers=STREAM)):
        assert response.status_code == 200
        assert response.headers["content-type"] == f"{EVENT_STREAM}; charset=utf-8"
        assert events_of(response.text) == [*(("next", event) for event in events), ("complete", None)]


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("{", ["GRAPHQL_PARSE_FAILED"]),
        ("subscription { nowhere }", ["GRAPHQL_VALIDATION_FAILED"]),
        ("subscription($n: Int!) { count(to: $n) }", ["BAD_USER_INPUT"]),
        ("subscription { failing }", [None, "INTERNAL"]),
        ("subscription { revoked }", [None, "UNAUTHENTICATED"]),
        ('mutation { add(label: "x") }', ["UNAUTHENTICATED"]),
        (nested(16), ["LIMIT_EXCEEDED"]),
    ],
)
def test_events_say_what_went_wrong(http: httpx.Client, query: str, codes: list[str | None]) -> None:
    events = events_of(ask(http, query, STREAM).text)
    assert [name for name, _ in events] == ["next"] * len(codes) + ["complete"]
    found = [event["errors"][0]["extensions"]["code"] if "errors" in event else None for _, event in events[:-1]]
    assert found == codes


def test_a_mutation_by_event_stream_is_posted(http: httpx.Client) -> None:
    headers = {**STREAM, "authorization": "ana"}
    query = 'mutation { add(label: "x") }'
    assert events_of(ask(http, query, headers).text)[0][1]["data"]["add"] > 0
    assert http.get(PATH, params={"query": query}, headers=headers).status_code == 405


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (JSON, 406),
        (GRAPHQL_RESPONSE, 406),
        ("", 406),
        (f"{JSON}, {EVENT_STREAM};q=0", 406),
        ("*/*", 200),
        (URQL, 200),
        (f"{JSON}, {EVENT_STREAM};q=0.1", 200),
    ],
)
def test_a_subscription_needs_an_event_stream(http: httpx.Client, accept: str, status: int) -> None:
    response = ask(http, "subscription { count(to: 1) }", {"accept": accept, "accept-language": "en"})
    assert response.status_code == status
    assert EVENT_STREAM in response.text if status == 406 else events_of(response.text)[-1] == ("complete", None)


def test_hanging_up_ends_the_source(http: httpx.Client) -> None:
    with http.stream("POST", PATH, json={"query": "subscription { endless }"}, headers=STREAM) as response:
        assert WORLD.started.acquire(timeout=30)
        assert next(chunk for chunk in response.iter_text() if "next" in chunk)
    assert WORLD.stopped.acquire(timeout=30)


def test_a_silent_stream_is_kept_alive_until_the_session_ends(hasty: Served) -> None:
    body = {"query": "subscription { endless }"}
    with httpx.stream("POST", hasty.url, json=body, headers=STREAM, timeout=5) as response:
        text, ended = "", False
        for chunk in response.iter_text():
            text += chunk
            if not ended and text.count(":\n\n") >= 4:
                ended = True
                hasty.call(cast(Any, WORLD.callers[-1].ended).set_result, "Session terminée.")
    assert text.endswith("event: complete\ndata:\n\n")
    assert WORLD.stopped.acquire(timeout=30)
    assert WORLD.started.acquire(timeout=30)


# ── WebSocket ────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def opened(
    served: Served, headers: Mapping[str, str] | None = None, *, init: dict[str, Any] | None = None
) -> Iterator[ClientConnection]:
    """A socket whose connection is acknowledged."""
    with dialled(served, headers) as client:
        client.send(json.dumps({"type": "connection_init", **({"payload": init} if init else {"payload": {}})}))
        assert received(client) == {"type": "connection_ack"}
        yield client


@contextmanager
def dialled(served: Served, headers: Mapping[str, str] | None = None) -> Iterator[ClientConnection]:
    """A socket before `connection_init`."""
    subprotocols = [Subprotocol(SUBPROTOCOL)]
    with connect(served.socket_url, subprotocols=subprotocols, additional_headers=headers, compression=None) as client:
        yield client


def received(client: ClientConnection) -> Any:
    """The next message."""
    return json.loads(client.recv(timeout=30))


def subscribe(client: ClientConnection, id_: str, query: str, **more: Any) -> None:
    """Ask for one operation."""
    client.send(json.dumps({"type": "subscribe", "id": id_, "payload": {"query": query, **more}}))


def close_code(client: ClientConnection) -> int | None:
    """How the server closes, whatever it says before."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(timeout=30)
    return client.close_code


def test_a_subscription_from_start_to_end(served: Served) -> None:
    with opened(served) as client:
        assert client.subprotocol == SUBPROTOCOL
        subscribe(client, "1", "subscription($n: Int!) { count(to: $n) }", variables={"n": 2})
        assert [received(client) for _ in range(3)] == [
            {"type": "next", "id": "1", "payload": {"data": {"count": 0}}},
            {"type": "next", "id": "1", "payload": {"data": {"count": 1}}},
            {"type": "complete", "id": "1"},
        ]
        subscribe(client, "1", "subscription { count(to: 0) }")
        assert received(client) == {"type": "complete", "id": "1"}


def test_ping_and_pong(served: Served) -> None:
    with dialled(served) as client:
        client.send('{"type": "ping"}')
        assert received(client) == {"type": "pong"}
        client.send('{"type": "pong", "payload": {"late": true}}')
        client.send('{"type": "ping", "payload": {"at": 1}}')
        assert received(client) == {"type": "pong", "payload": {"at": 1}}


def test_completing_ends_the_source_and_frees_the_id(served: Served) -> None:
    with opened(served) as client:
        for _ in range(2):
            subscribe(client, "a", "subscription { endless }")
            assert received(client)["type"] == "next"
            assert WORLD.started.acquire(timeout=30)
            client.send('{"type": "complete", "id": "a"}')
            assert WORLD.stopped.acquire(timeout=30)
        client.send('{"type": "complete", "id": "never"}')
        client.send('{"type": "ping"}')
        assert received(client) == {"type": "pong"}


def test_hanging_up_ends_every_source(served: Served) -> None:
    with opened(served) as client:
        for id_ in "abc":
            subscribe(client, id_, "subscription { endless }")
            assert received(client)["type"] == "next"
            assert WORLD.started.acquire(timeout=30)
    for _ in range(3):
        assert WORLD.stopped.acquire(timeout=30)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "subscription { nowhere }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "subscription($n: Int!) { count(to: $n) }"}, "BAD_USER_INPUT"),
        ({"query": "{ hello }"}, "METHOD_NOT_ALLOWED"),
        ({"query": 'mutation { add(label: "x") }'}, "METHOD_NOT_ALLOWED"),
        ({"query": nested(16)}, "LIMIT_EXCEEDED"),
        ({"query": "{ hello }", "variables": {"a": "\0"}}, "BAD_REQUEST"),
        ({"query": "subscription { failing }"}, "INTERNAL"),
        ({"query": "subscription { revoked }"}, "UNAUTHENTICATED"),
        ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "PERSISTED_QUERY_NOT_FOUND"),
        ({"query": "subscription { count(to: 1) }", "operationName": "Other"}, "OPERATION_RESOLUTION_FAILURE"),
    ],
)
def test_an_operation_that_fails_leaves_the_others(served: Served, payload: dict[str, Any], code: str) -> None:
    with opened(served) as client:
        subscribe(client, "stays", "subscription { endless }")
        assert received(client)["id"] == "stays"
        client.send(json.dumps({"type": "subscribe", "id": "fails", "payload": payload}))
        message = received(client)
        while message["type"] == "next":
            message = received(client)
        assert (message["type"], message["id"]) == ("error", "fails")
        assert message["payload"][0]["extensions"]["code"] == code
        assert "hunter2" not in str(message)
        subscribe(client, "fails", "subscription { count(to: 0) }")
        assert received(client) == {"type": "complete", "id": "fails"}
        client.send('{"type": "complete", "id": "stays"}')
        assert WORLD.started.acquire(timeout=30)
        assert WORLD.stopped.acquire(timeout=30)


INIT = '{"type": "connection_init"}'
SUBSCRIBE = '{"type": "subscribe", "id": "1", "payload": {"query": "subscription { silent }"}}'


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([SUBSCRIBE], 4401),
        ([INIT, INIT], 4429),
        ([INIT, SUBSCRIBE, SUBSCRIBE], 4409),
        (['{"type": "connection_init", "payload": {"token": "bad"}}'], 4403),
        (['{"type": "connection_init", "payload": {"token": "bug"}}'], 4500),
        (['{"type": "connection_init", "payload": []}'], 4400),
        ([""], 4400),
        (["nonsense"], 4400),
        (["[]"], 4400),
        (["null"], 4400),
        (["{}"], 4400),
        (['{"type": 1}'], 4400),
        (['{"type": "connection_terminate"}'], 4400),
        (['{"type": "next", "id": "1", "payload": {}}'], 4400),
        (['{"type": "ping", "payload": 1}'], 4400),
        (['{"type": "\\ud800"}'], 4400),
        (["[" * 60_000], 4400),
        (['{"type": "ping", "payload": ' + "[" * 30_000 + "]" * 30_000 + "}"], 4400),
        ([b"\x00\x01"], 4400),
        ([INIT.encode()], 4400),
        ([INIT, b""], 4400),
        ([INIT, '{"type": "subscribe"}'], 4400),
        ([INIT, '{"type": "subscribe", "id": 1, "payload": {"query": "{ hello }"}}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "", "payload": {"query": "{ hello }"}}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "' + "x" * 300 + '", "payload": {"query": "{ hello }"}}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "1"}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "1", "payload": []}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "1", "payload": {}}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "1", "payload": {"query": 1}}'], 4400),
        ([INIT, '{"type": "subscribe", "id": "1", "payload": {"query": "{ hello }", "variables": []}}'], 4400),
        ([INIT, '{"type": "complete"}'], 4400),
        ([INIT, '{"type": "unknown"}'], 4400),
        (['{"type": "ping", "x": "' + "é" * 33_000 + '"}'], 1009),
        ([INIT, "x" * 65_537], 1009),
    ],
)
def test_frames_that_close_the_socket(served: Served, frames: list[str | bytes], code: int) -> None:
    with dialled(served) as client:
        for frame in frames:
            client.send(frame)
        assert close_code(client) == code


def test_text_that_is_not_utf_8_closes_as_rfc_6455_says(served: Served) -> None:
    with opened(served) as client:
        client.send(b"\xff\xfe", text=True)
        assert close_code(client) == 1007


@pytest.mark.parametrize("subprotocols", [None, ["graphql-ws"]])
def test_an_unknown_subprotocol(served: Served, subprotocols: list[Subprotocol] | None) -> None:
    with connect(served.socket_url, subprotocols=subprotocols) as client:
        assert close_code(client) == 4406


def test_a_client_that_never_introduces_itself(impatient: Served) -> None:
    with dialled(impatient) as client:
        client.send('{"type": "ping"}')
        assert close_code(client) == 4408


def test_too_many_subscriptions(hasty: Served) -> None:
    with opened(hasty) as client:
        for id_ in "ab":
            subscribe(client, id_, "subscription { endless }")
            assert received(client)["id"] == id_
        subscribe(client, "c", "subscription { endless }")
        message = received(client)
        assert (message["type"], message["id"]) == ("error", "c")
        assert message["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"
        client.send('{"type": "complete", "id": "a"}')
        assert WORLD.stopped.acquire(timeout=30)
        client.send('{"type": "ping"}')
        assert received(client) == {"type": "pong"}
        subscribe(client, "c", "subscription { count(to: 0) }")
        assert received(client) == {"type": "complete", "id": "c"}
    assert WORLD.stopped.acquire(timeout=30)
    for _ in "ab":
        assert WORLD.started.acquire(timeout=30)


def test_a_session_that_ends_closes_its_socket(served: Served) -> None:
    with opened(served, init={"token": "ana"}) as client:
        subscribe(client, "1", "subscription { endless }")
        assert received(client)["type"] == "next"
        served.call(cast(Any, WORLD.callers[-1].ended).set_result, "Votre session est terminée. " + "é" * 200)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4403
        assert closed.value.rcvd.reason.startswith("Votre session est terminée. ééé")
    assert WORLD.started.acquire(timeout=30)
    assert WORLD.stopped.acquire(timeout=30)


def test_a_slow_reader_is_waited_for(served: Served) -> None:
    with opened(served) as client:
        subscribe(client, "1", "subscription { torrent }")
        assert received(client)["type"] == "next"
        before = -1
        while before != WORLD.pulled or before < 4:
            before = WORLD.pulled
            time.sleep(0.2)
        # What fits the sockets' buffers was sent, and then the source was left alone.
        assert WORLD.pulled < 2_000
        client.socket.close()
    assert WORLD.stopped.acquire(timeout=10)


def test_a_stopping_server_sends_listeners_away() -> None:
    with serving() as going, opened(going) as client:
        subscribe(client, "1", "subscription { endless }")
        assert received(client)["type"] == "next"
        assert WORLD.started.acquire(timeout=30)
        body = {"query": "subscription { endless }"}
        with httpx.stream("POST", going.url, json=body, headers=STREAM, timeout=5) as response:
            assert WORLD.started.acquire(timeout=30)
            going.run(going.transport.close_all())
            text = "".join(response.iter_text())
        assert close_code(client) == 1012
        assert "complete" not in text
        for _ in range(2):
            assert WORLD.stopped.acquire(timeout=30)
        with dialled(going) as late:
            assert close_code(late) == 1012
        assert httpx.post(going.url, json={"query": "{ hello }"}).json() == {"data": {"hello": "monde"}}


# ── anything at all ──────────────────────────────────────────────────────────────────────────────────────────────────

SEEDS = [
    b'{"query": "query Q($v: Int, $i: ID) { echo(value: $v, identity: $i) }", "variables": {"v": 1, "i": "x"}}',
    b'{"query": "query($l: Label!) { labelled(input: $l) }", "variables": {"l": {"label": "\\u00e9\\ud83d\\ude00"}}}',
    b'{"query": "{ item { ...F } } fragment F on Item { items(first: 3) { id } tags { name } }"}',
    b'{"query": "query($j: JSON!) { anything(value: $j) }", "variables": {"j": [[1.5, null], {"a": "b"}]}}',
    b'{"query": "{ __type(name: \\"Item\\") { name } }", "operationName": null, "extensions": {"a": {}}}',
    b'{"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "' + b"a" * 64 + b'"}}}',
]

MESSAGES = [
    INIT.encode(),
    SUBSCRIBE.encode(),
    b'{"type": "subscribe", "id": "2", "payload": {"query": "subscription { count(to: 2) }", "variables": {"a": [1]}}}',
    b'{"type": "complete", "id": "1"}',
    b'{"type": "ping", "payload": {"a": "b"}}',
]

SPLINTERS = [
    *(b'"', b"{", b"}", b"[", b"]", b"\\", b"\\u0000", b"\\ud800", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(b"null", b"NaN", b"1e400", b"-", b"9" * 40, b"[" * 300, b'{"a":' * 80, b":", b",", b"\n", "é😀".encode()),
    *(b"...F", b"$v", b"@skip(if: true)", b"#", b"subscription", b"mutation"),
]


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """The seed with one to four accidents."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(seed) + 1)
        match chance.randrange(4):
            case 0:
                seed = seed[:at] + chance.choice(SPLINTERS) + seed[at:]
            case 1:
                seed = seed[:at] + seed[at + chance.randint(1, 12) :]
            case 2:
                seed = seed[:at] + bytes([chance.randrange(256)]) + seed[at + 1 :]
            case _:
                until = chance.randrange(len(seed) + 1)
                seed = seed[:at] + seed[min(at, until) : max(at, until)] + seed[at:]
    return seed


def test_no_body_makes_the_server_fail(http: httpx.Client) -> None:
    chance = random.Random(20261121)
    statuses: set[int] = set()
    for _ in range(500):
        body = mutated(chance.choice(SEEDS), chance)
        accept = chance.choice([JSON, GRAPHQL_RESPONSE, EVENT_STREAM, "*/*"])
        response = http.post(PATH, content=body, headers={"content-type": JSON, "accept": accept})
        statuses.add(response.status_code)
        assert response.status_code < 500, body
        assert "INTERNAL" not in response.text, body
    assert {200, 400} <= statuses


def test_no_frame_closes_a_socket_abnormally(served: Served) -> None:
    chance = random.Random(20261121)
    codes: set[int | None] = set()
    for _ in range(300):
        with dialled(served) as client:
            with suppress(ConnectionClosed):
                if chance.random() < 0.8:
                    client.send(INIT)
                for _ in range(chance.randint(1, 3)):
                    frame = mutated(chance.choice(MESSAGES), chance)
                    client.send(frame if chance.random() < 0.05 else frame.decode(errors="replace"))
                client.send(b"an end for those that are still open")
            codes.add(close_code(client))
    assert 4400 in codes
    assert codes <= {1009, 4400, 4401, 4403, 4409, 4429}
