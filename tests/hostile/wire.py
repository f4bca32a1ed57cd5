"""HTTP and WebSocket by hand, so that what no decent client would send can be sent."""

import asyncio
import base64
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_PATIENCE_SECONDS = 60

LAST_PING, LAST_PONG = b'{"type": "ping", "payload": {"last": true}}', b'{"type":"pong","payload":{"last":true}}'
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class Abnormal(Exception):
    """The server broke off, hangs, or answers what is no HTTP; the message says which."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `ends` says that the connection cannot be used any more."""

    status: int
    head: str
    body: str
    ends: bool


@dataclass
class Heard:
    """What a socket said: its text messages, and the code it closed with, if it did. `over` is set by the answer to the
    last ping, and by the end."""

    messages: list[str] = field(default_factory=list)
    code: int | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """One TCP connection to the server. What was received can be read after sending has failed, unlike on a stream."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()

    @classmethod
    async def dial(cls, port: int) -> "Line":
        """A new connection, to be hung up by the caller."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        return cls(connection)

    def hang_up(self) -> None:
        """Break off without a word."""
        self._socket.close()

    async def send(self, *pieces: bytes) -> None:
        """Send as much as the server takes: it may have closed already."""
        with suppress(ConnectionError):
            for piece in pieces:
                await asyncio.get_running_loop().sock_sendall(self._socket, piece)

    async def answer(self, *, is_head: bool = False, within_seconds: float = _PATIENCE_SECONDS) -> Answer | None:
        """The next answer; None when the server has closed without one. Of an event stream, what comes at first. Raises
        Abnormal when nothing comes in time."""
        try:
            async with asyncio.timeout(within_seconds):
                return await self._answer(is_head)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if isinstance(error, asyncio.IncompleteReadError) and error.partial:
                raise Abnormal(f"an answer breaks off: {error.partial[:200]!r}") from None
            return None
        except TimeoutError:
            raise Abnormal(f"no answer within {within_seconds} s") from None

    async def _answer(self, is_head: bool) -> Answer:
        head = (await self._through(b"\r\n\r\n")).decode("latin-1")
        first, _, rest = head.partition("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Abnormal(f"no HTTP: {first[:200]}")
        status = int(words[1])
        if status < 200 and status != 101:
            return await self._answer(is_head)
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in rest.split("\r\n")}
        ends = headers.get("connection", "").lower() == "close" or status == 101
        body = b""
        if not is_head and status not in (101, 204, 304):
            if headers.get("content-type", "").startswith("text/event-stream"):
                body, ends = await self._beginning(), True
            elif "content-length" in headers:
                body = await self._exactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                body = b"".join([chunk async for chunk in self._chunks()])
            else:
                body, ends = await self._rest(), True
        return Answer(status, head, body.decode(errors="replace"), ends)

    async def _beginning(self) -> bytes:
        """An event stream until it is complete or says nothing for a moment."""
        said = b""
        with suppress(TimeoutError):
            chunks = self._chunks()
            while b"event: complete" not in said:
                async with asyncio.timeout(0.1 if said.count(b"\n\n") < 2 else 0.02):
                    try:
                        said += await anext(chunks)
                    except StopAsyncIteration:
                        break
        return said

    async def _chunks(self) -> AsyncIterator[bytes]:
        while length := int(await self._through(b"\r\n"), 16):
            yield (await self._exactly(length + 2))[:-2]
        await self._exactly(2)

    # ── WebSocket ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def listen(self, heard: Heard) -> None:
        """Hear the server until it closes. Raises Abnormal when it breaks off without a close frame."""
        try:
            while heard.code is None:
                first, second = await self._exactly(2)
                length = second & 127
                if length > 125:
                    wide = await self._exactly(2 if length == 126 else 8)
                    length = int.from_bytes(wide, "big")
                payload = await self._exactly(length)
                match first & 15:
                    case 1:
                        heard.messages.append(payload.decode())
                        if payload == LAST_PONG:
                            heard.over.set()
                    case 8:
                        heard.code = int.from_bytes(payload[:2], "big") if payload else 1005
        except (ConnectionError, asyncio.IncompleteReadError):
            raise Abnormal("the socket breaks off without a close frame") from None
        finally:
            heard.over.set()

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _more(self) -> bool:
        received = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        self._buffer += received
        return received != b""

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not await self._more():
                raise asyncio.IncompleteReadError(bytes(self._buffer), count)
        return self._taken(count)

    async def _through(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if not await self._more():
                raise asyncio.IncompleteReadError(bytes(self._buffer), None)
        return self._taken(at + len(end))

    async def _rest(self) -> bytes:
        while await self._more():
            pass
        return self._taken(len(self._buffer))

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def upgrade(*headers: str, subprotocol: str | None = "graphql-transport-ws", version: int = 13) -> bytes:
    """The request that asks for a WebSocket."""
    lines = [
        "GET /graphql HTTP/1.1",
        "host: 127.0.0.1",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
        f"sec-websocket-version: {version}",
        *([f"sec-websocket-protocol: {subprotocol}"] if subprotocol else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    is_last: bool = True,
    is_masked: bool = True,
    reserved: int = 0,
    length: int | None = None,
) -> bytes:
    """One frame; `length` is what it says of itself when that is a lie."""
    said = len(payload) if length is None else length
    head = bytes([(128 if is_last else 0) | reserved << 4 | opcode])
    mask_bit = 128 if is_masked else 0
    if said < 126:
        head += bytes([mask_bit | said])
    elif said < 65_536:
        head += bytes([mask_bit | 126]) + struct.pack("!H", said)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", said)
    # A mask of zeros leaves the payload as it is.
    return head + (b"\0\0\0\0" if is_masked else b"") + payload


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[Line]:
    """A connection for a while."""
    line = await Line.dial(port)
    try:
        yield line
    finally:
        line.hang_up()
