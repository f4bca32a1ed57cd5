"""A load generator that is as light as Python allows: a process of its own, raw sockets, requests made beforehand.

`python -m bench.load` reads a line of JSON (where to, and what each connection posts), connects, says "ready", waits
for a line, and lets each connection post one thing after the other. It answers with a line of JSON."""

import asyncio
import json
import re
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import uvloop

from bench.measuring import Spent, Watch

_LINE_BYTES: Final = 256 * 2**20
_IDENTIFIER: Final = re.compile(rb'"id":"([a-z]{4}_[0-9a-z]{32})"')

FOUND: Final = "@found@"
"""In a body: the identifier that the answer before held."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What came of it: the instants at which answers were complete, in seconds, for each connection, and what else was
    said than expected."""

    ends: list[list[float]]
    answer_bytes: float
    failures: list[str]
    spent: Spent


@dataclass(frozen=True, slots=True)
class Caller:
    """One connection: a session, and what it posts."""

    session: str
    bodies: Sequence[Any]


async def post(port: int, callers: Sequence[Caller], expected: str, **processes: int) -> Posted:
    """Let every caller post its bodies, one after the other; every answer must hold the expected text. `processes` are
    watched meanwhile."""
    plan = {
        "port": port,
        "expected": expected,
        "callers": [[_head(caller.session), [orjson.dumps(b).decode() for b in caller.bodies]] for caller in callers],
    }
    async with child("bench.load", plan) as (tell, hear):
        await hear()
        watch = Watch(**processes)
        tell("go")
        said = await hear()
        spent = watch.stop()
    spent.by["load"] = said["cpu_seconds"]
    ends = [[instant / 1e9 for instant in client] for client in said["ends"]]
    return Posted(ends, said["answer_bytes"], said["failures"], spent)


@asynccontextmanager
async def child(module: str, plan: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A process of ours that is given a plan; gives what tells it a word and what hears its next line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES
    )
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    stdin, stdout = process.stdin, process.stdout

    def tell(word: str) -> None:
        stdin.write(f"{word}\n".encode())

    async def hear() -> Any:
        line = await stdout.readline()
        if not line:
            raise RuntimeError(f"{module} has ended")
        return json.loads(line)

    try:
        stdin.write(orjson.dumps(plan) + b"\n")
        yield tell, hear
    finally:
        stdin.close()
        await process.wait()


def _head(session: str) -> str:
    return (
        "POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\naccept: application/json\r\n"
        f"authorization: Bearer {session}\r\ncontent-length: "
    )


# ── the process ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Connection(asyncio.Protocol):
    def __init__(self, head: str, bodies: Iterator[str], expected: bytes, done: asyncio.Future[None]) -> None:
        self.ends: list[int] = []
        self.failures: list[str] = []
        self.answer_bytes = 0
        self._head = head
        self._bodies = bodies
        self._found = ""
        self._expected = expected
        self._done = done
        self._got = b""
        self._wanted = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        body = next(self._bodies, None)
        assert self._transport is not None, "it is connected"
        if body is None:
            self._transport.close()
            self._done.set_result(None)
        else:
            content = body.replace(FOUND, self._found).encode()
            self._transport.write(f"{self._head}{len(content)}\r\n\r\n".encode() + content)

    def data_received(self, data: bytes) -> None:
        self._got = self._got + data if self._got else data
        if not self._wanted:
            head = self._got.find(b"\r\n\r\n")
            if head < 0:
                return
            at = self._got.find(b"content-length: ") + 16
            self._wanted = head + 4 + int(self._got[at : self._got.find(b"\r\n", at)])
        if len(self._got) < self._wanted:
            return
        answer, self._got, self._wanted = self._got, b"", 0
        self.ends.append(time.monotonic_ns())
        self.answer_bytes += len(answer)
        if identifier := _IDENTIFIER.search(answer):
            self._found = identifier[1].decode()
        if self._expected not in answer:
            self.failures.append(answer[:600].decode(errors="replace"))
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self.failures.append("the connection was closed")
            self._done.set_result(None)


async def _main() -> None:
    plan = orjson.loads(sys.stdin.buffer.readline())
    loop = asyncio.get_running_loop()
    connections, ends = [], []
    for head, bodies in plan["callers"]:
        done: asyncio.Future[None] = loop.create_future()
        connection = _Connection(head, iter(bodies), plan["expected"].encode(), done)
        await loop.create_connection(lambda c=connection: c, "127.0.0.1", plan["port"])  # type: ignore[misc]
        connections.append(connection)
        ends.append(done)
    print(json.dumps("ready"), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    before = _used()
    for connection in connections:
        connection.begin()
    await asyncio.gather(*ends)
    answers = sum(len(connection.ends) for connection in connections)
    said = {
        "ends": [connection.ends for connection in connections],
        "answer_bytes": sum(connection.answer_bytes for connection in connections) / max(1, answers),
        "failures": [failure for connection in connections for failure in connection.failures],
        "cpu_seconds": _used() - before,
    }
    print(json.dumps(said), flush=True)


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
