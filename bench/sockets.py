"""Many WebSockets in a process of their own, as light as Python allows.

`python -m bench.sockets` reads a line of JSON: where to, and what each socket says when it is open and after each of
the first answers. It opens them, says "ready" once each has had its last answer but none, and then obeys lines: "say N
TEXT" lets socket N say something; "heard" asks for the instants at which each socket has heard anything since."""

import asyncio
import sys
import time
from typing import Any, Final, cast

import orjson
import uvloop

_AT_ONCE: Final = 50
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


class _Socket(asyncio.Protocol):
    def __init__(self, head: bytes, says: list[str]) -> None:
        self.heard: list[int] = []
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = head
        self._says = says
        self._got = b""
        self._upgraded = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        got = self._got + data if self._got else data
        if not self._upgraded:
            head, ends, got = got.partition(b"\r\n\r\n")
            if not ends:
                self._got = head
                return
            assert b" 101 " in head, head
            self._upgraded = True
            self._go_on()
        while len(got) >= 2:
            length, at = got[1], 2
            if length == 126:
                length, at = int.from_bytes(got[2:4]), 4
            elif length == 127:
                length, at = int.from_bytes(got[2:10]), 10
            if len(got) < at + length:
                break
            self._frame(got[0], got[at : at + length])
            got = got[at + length :]
        self._got = got

    def say(self, text: str) -> None:
        """One message."""
        self._write(_TEXT, text.encode())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(exc or ConnectionError("closed before it was ready"))

    def _go_on(self) -> None:
        if self._says:
            self.say(self._says.pop(0))
        elif not self.open.done():
            self.open.set_result(None)

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == _PING:
            self._write(_PONG, payload)
        elif kind == _TEXT and self.open.done():
            self.heard.append(time.monotonic_ns())
        elif kind == _TEXT:
            self._go_on()

    def _write(self, kind: int, payload: bytes) -> None:
        # A client masks what it says; a mask of zeros leaves it as it is.
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2)
        assert self._transport is not None, "it is connected"
        self._transport.write(bytes([kind]) + length + bytes(4) + payload)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**28)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = orjson.loads(await lines.readline())
    head = (
        f"GET {plan['path']} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        f"{plan['headers']}\r\n"
    ).encode()
    sockets: list[_Socket] = []
    turns = asyncio.Semaphore(_AT_ONCE)

    async def open_one(says: list[str]) -> None:
        async with turns:
            socket = _Socket(head, says)
            sockets.append(socket)
            await loop.create_connection(lambda: socket, "127.0.0.1", plan["port"])
            await socket.open

    for begins in range(0, len(plan["says"]), _AT_ONCE):
        await asyncio.gather(*map(open_one, plan["says"][begins : begins + _AT_ONCE]))
    _answer("ready")
    while line := (await lines.readline()).decode().strip():
        word, _, rest = line.partition(" ")
        if word == "say":
            number, _, text = rest.partition(" ")
            sockets[int(number)].say(text)
        else:
            _answer([socket.heard for socket in sockets])


def _answer(what: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
