"""The embedded PostgreSQL and Redis: they start anywhere, keep what was committed, and die with who started them."""

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis

from escarcelle.embedded import CannotStart, DataInUse, EmbeddedPostgres, EmbeddedRedis, free_port, held

_ROOT = Path(__file__).parents[2]
_NOBODY = 65_534

_PARENT = """
import signal, sys
from pathlib import Path
from escarcelle.embedded import EmbeddedPostgres, EmbeddedRedis
postgres, redis = EmbeddedPostgres(Path(sys.argv[1])), EmbeddedRedis(Path(sys.argv[1]))
postgres.start()
redis.start()
print(postgres.process.pid, redis.process.pid, flush=True)
signal.pause()
"""

_PLAIN_USER = """
import sys
from pathlib import Path
from escarcelle.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
for _ in range(2):
    server.start()
    server.stop()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose path has a space and a letter outside ASCII in it."""
    return tmp_path / "données de test"


def _ask(server: EmbeddedPostgres, query: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(server.url("postgres"))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(ask())


def _runs(process: int) -> bool:
    """A zombie does not run: it only waits for its parent to notice."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_postgres_keeps_what_was_committed_through_kill_and_stop(data: Path) -> None:
    server = EmbeddedPostgres(data)
    server.start()
    try:
        _ask(server, "create table kept (number int)")
        url = server.url()
        ends: list[Callable[[], None]] = [server.kill, partial(server.stop, immediate=True), server.stop]
        for number, end in enumerate(ends):
            _ask(server, f"insert into kept values ({number})")
            end()
            assert server.process is not None
            assert server.process.poll() is not None
            server.start()
            assert _ask(server, "select count(*) from kept") == number + 1
        assert server.url() == url
    finally:
        server.stop()
    successor = EmbeddedPostgres(data)
    successor.start()
    try:
        assert _ask(successor, "select count(*) from kept") == 3
    finally:
        successor.stop()


def test_postgres_is_durable_utf8_and_opens_by_password_only(data: Path) -> None:
    server = EmbeddedPostgres(data)
    server.start()
    try:
        assert _ask(server, "show fsync") == "on"
        assert _ask(server, "show synchronous_commit") == "on"
        assert _ask(server, "show server_encoding") == "UTF8"
        assert _ask(server, "show listen_addresses") == "127.0.0.1"

        async def connect_with_a_wrong_password() -> None:
            await asyncpg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")

        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(connect_with_a_wrong_password())
    finally:
        server.stop()
    assert stat.S_IMODE((data / "postgresql.password").stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "postgresql").stat().st_mode) == 0o700


def test_postgres_starts_over_an_interrupted_creation(data: Path) -> None:
    abandoned = data / "postgresql.new-interrupted"
    abandoned.mkdir(parents=True)
    (abandoned / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(data)
    server.start()
    try:
        assert _ask(server, "select 1") == 1
    finally:
        server.stop()
    assert not abandoned.exists()


def test_postgres_starts_when_its_process_file_names_another_program(data: Path) -> None:
    """After a reboot, the number that a killed server left belongs to any other process."""
    server = EmbeddedPostgres(data)
    server.start()
    process_file = data / "postgresql" / "postmaster.pid"
    lines = process_file.read_text().splitlines()
    server.kill()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        try:
            process_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
            server.start()
            assert _ask(server, "select 1") == 1
        finally:
            server.stop()
            bystander.kill()


def test_postgres_that_cannot_start_quotes_its_log(data: Path) -> None:
    server = EmbeddedPostgres(data)
    server.start()
    server.stop()
    (data / "postgresql" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(CannotStart, match="initialized by PostgreSQL version 9"):
        server.start()
    assert server.process is not None
    assert server.process.poll() is not None


def test_postgres_leaves_a_port_that_is_taken(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squatter, server = EmbeddedRedis(data / "redis"), EmbeddedPostgres(data / "postgres")
    squatter.start()
    try:
        ports = iter([squatter.port, free_port()])
        monkeypatch.setattr("escarcelle.embedded.free_port", lambda: next(ports))
        server.start()
        assert server.port != squatter.port
        assert _ask(server, "select 1") == 1
    finally:
        server.stop()
        squatter.stop()


def test_redis_restarts_at_the_same_address_and_hides_its_password(data: Path) -> None:
    server = EmbeddedRedis(data)
    server.start()
    try:
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
            assert client.get("key") == b"value"
        with (
            redis.Redis.from_url(f"redis://127.0.0.1:{server.port}/0") as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.get("key")
        assert server.process is not None
        password = urlsplit(url).password
        assert password
        assert password.encode() not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    finally:
        server.stop()
    assert stat.S_IMODE((data / "redis" / "redis.conf").stat().st_mode) == 0o600


def test_a_killed_parent_leaves_no_child_and_can_start_again_at_once(data: Path) -> None:
    left: list[int] = []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(data)], cwd=_ROOT, stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            servers = [int(word) for word in parent.stdout.readline().split()]
            assert len(servers) == 2
            left += servers + [child for server in servers for child in _children(server)]
            parent.kill()
    server = EmbeddedPostgres(data)
    server.start()
    try:
        assert _ask(server, "select 1") == 1
    finally:
        server.stop()
    assert len(left) > 6
    assert _eventually(lambda: not any(_runs(process) for process in left))


def test_data_is_held_by_one_process(data: Path) -> None:
    with held(data):
        with pytest.raises(DataInUse, match="in use"), held(data):
            pass
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    with held(data):
        pass


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users may pass through, as tests' usual folders are not."""
    with tempfile.TemporaryDirectory(prefix="escarcelle-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as a plain user already")
def test_postgres_runs_as_a_plain_user(reachable: Path) -> None:
    os.chown(reachable, _NOBODY, _NOBODY)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])}
    command = [sys.executable, "-B", "-c", _PLAIN_USER, str(reachable)]
    try:
        subprocess.run(
            command, cwd=reachable, env=environment, user=_NOBODY, group=_NOBODY, extra_groups=[], check=True
        )
    except PermissionError:
        pytest.skip("this interpreter is in a folder that only root may open")
    assert (reachable / "postgresql").stat().st_uid == _NOBODY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_postgres_runs_as_nobody_where_root_gets_no_namespace(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("escarcelle.embedded._namespaces_work", lambda: False)
    for server in (EmbeddedPostgres(reachable), EmbeddedPostgres(reachable)):
        server.start()
        try:
            assert _ask(server, "select 1") == 1
        finally:
            server.stop()
    assert (reachable / "postgresql").stat().st_uid == _NOBODY
