"""The processes of a whole installation, each of which may be killed and started again."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis

from domain.settings import Settings
from escarcelle import tied
from escarcelle.embedded import free_ports
from tests.tasks import until
from tests.world import Servers, environment

_ROOT = Path(__file__).parents[2]
_READY_WITHIN_SECONDS = 40


@dataclass
class Process:
    """A process of the program, with its log."""

    arguments: tuple[str, ...]
    settings: Settings
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it; it may not be ready yet."""
        command = tied.command([sys.executable, "-m", "escarcelle", *self.arguments], dies_by=signal.SIGKILL)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=_ROOT, env=environment(self.settings), stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it with -9."""
        assert self.process is not None and self.process.poll() is None, self.last_words
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Stop it, however it is."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])

    def says(self, event: str) -> int:
        """How often its log says so."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(event)


@dataclass
class House:
    """Two API processes with a port each, and two task processes."""

    servers: Servers
    settings: Settings
    apis: list[Process]
    workers: list[Process]
    ports: list[int]
    killed: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(cls, servers: Servers, settings: Settings, folder: Path) -> AsyncIterator["House"]:
        """All of it, running."""
        ports = free_ports(2)
        apis = [Process(("serve", "--port", str(port)), settings, folder / f"api-{port}.log") for port in ports]
        workers = [Process(("work",), settings, folder / f"work-{number}.log") for number in range(2)]
        house = cls(servers, settings, apis, workers, ports)
        try:
            for process in (*apis, *workers):
                process.start()
            for port in ports:
                await until(lambda port=port: house._is_ready(port), _READY_WITHIN_SECONDS)  # type: ignore[misc]
            for worker in workers:
                await until(lambda worker=worker: worker.says("tasks_started"), _READY_WITHIN_SECONDS)  # type: ignore[misc]
            yield house
        finally:
            for process in (*apis, *workers):
                process.stop()

    @property
    def urls(self) -> list[str]:
        """Where the API answers."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    async def strike(self, what: str, chance: random.Random) -> None:
        """Kill, cut off or flush, and wait until all is up again."""
        self.killed.append(what)
        match what:
            case "api":
                at = chance.randrange(2)
                self.apis[at].kill()
                self.apis[at].start()
                await until(lambda: self._is_ready(self.ports[at]), _READY_WITHIN_SECONDS)
            case "work":
                worker = chance.choice(self.workers)
                before = worker.says("tasks_started")
                worker.kill()
                worker.start()
                await until(lambda: worker.says("tasks_started") > before, _READY_WITHIN_SECONDS)
            case "postgresql":
                await asyncio.to_thread(self.servers.postgres.stop, immediate=True)
                self.servers.postgres.launch()
                for port in self.ports:
                    await until(lambda port=port: self._is_ready(port), _READY_WITHIN_SECONDS)  # type: ignore[misc]
            case "redis":
                with redis.Redis.from_url(self.settings.redis_url) as client:
                    await asyncio.to_thread(client.flushall)

    def alive(self) -> bool:
        """Whether none of them has ended by itself."""
        return all(p.process is not None and p.process.poll() is None for p in (*self.apis, *self.workers))

    async def _is_ready(self, port: int) -> bool:
        postgres = self.servers.postgres
        if postgres.process is None or postgres.process.poll() is not None:
            # It finds that a part of its predecessor still lives.
            postgres.launch()
        try:
            async with httpx.AsyncClient(verify=False, trust_env=False, timeout=2) as http:
                return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


LONG = os.environ.get("ESCARCELLE_SOAK") == "long"
