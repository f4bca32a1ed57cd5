"""The image and the services, without a container engine: what Dockerfile and compose.yaml say is read, and every
command that they run is run here."""

import fnmatch
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from domain.settings import Settings
from escarcelle.embedded import EmbeddedPostgres, EmbeddedRedis, free_port
from tests.world import wait_until_ready

_ROOT: Final = Path(__file__).parents[2]
_SERVICES: Final[dict[str, Any]] = yaml.safe_load((_ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
_OURS: Final = ("operator", "api", "worker")
_IN_THE_IMAGE: Final = "/opt/escarcelle"
_SECRETS: Final = {
    name: f"{name.lower().replace('_', '')}9f3b7c1d5e"
    for name in (
        "POSTGRES_PASSWORD",
        "OWNER_PASSWORD",
        "APP_PASSWORD",
        "RELAY_PASSWORD",
        "READER_PASSWORD",
        "REDIS_PASSWORD",
    )
}


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", (_ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def _all(instruction: str) -> list[str]:
    return [rest for word, rest in _instructions() if word == instruction]


@dataclass(frozen=True)
class Image:
    """What the first stage builds, in a folder of this machine."""

    folder: Path

    @property
    def programs(self) -> Path:
        """Where the image's PATH begins."""
        return self.folder / "opt" / "bin"

    def command(self, words: list[str], port: int) -> list[str]:
        """A command of the image, found on its PATH; its port is ours."""
        found = shutil.which(words[0], path=str(self.programs))
        assert found is not None, f"{words[0]} is not in the image"
        return [found, *(word.replace("8000", str(port)).replace("0.0.0.0", "127.0.0.1") for word in words[1:])]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Every COPY and RUN of the first stage, with folders of this machine for the image's."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "src"
    source.mkdir()
    context = _context()
    for instruction, rest in _instructions()[1:]:
        if instruction == "FROM":
            break
        if instruction == "COPY":
            wanted, target = rest.split()
            assert target in ("./", ".")
            _copy([path for path in context if wanted in (".", str(path))], source)
        elif instruction == "RUN":
            # The tests' Python stands for the image's.
            command = rest.replace(_IN_THE_IMAGE, shlex.quote(str(folder / "opt")))
            command = command.replace("python -m venv", f"{shlex.quote(sys.executable)} -m venv")
            # Python compiles what is used; for what is not, there is no time here.
            quick = os.environ | {"PIP_NO_COMPILE": "1"}
            subprocess.run(["/bin/sh", "-euc", command], cwd=source, env=quick, check=True, timeout=600)
        else:
            assert (instruction, rest) == ("WORKDIR", "/src")
    return Image(folder)


def _context() -> list[Path]:
    """What .dockerignore lets through, of what is under version control or could be."""
    rules = [line for line in (_ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    dropped = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    found = [path for name in kept for path in [_ROOT / name, *(_ROOT / name).rglob("*")] if path.is_file()]
    assert {path.relative_to(_ROOT).parts[0] for path in found} == kept, "everything named is there"
    relative = [path.relative_to(_ROOT) for path in found]
    return [
        path for path in relative if not any(fnmatch.fnmatch(part, rule) for part in path.parts for rule in dropped)
    ]


def _copy(files: list[Path], target: Path) -> None:
    assert files
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_ROOT / path, target / path)


# ── the image ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_dockerfile_follows_the_rules_of_its_linter() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter is not None
    done = subprocess.run([linter, "--failure-threshold", "style", str(_ROOT / "Dockerfile")], check=False)
    assert done.returncode == 0


def test_the_image_runs_as_a_user_of_its_own_who_owns_nothing() -> None:
    (makes_user,) = [run for run in _all("RUN") if "useradd" in run]
    options = shlex.split(makes_user)
    assert options[options.index("--uid") + 1] == _all("USER")[0]
    assert [copy for copy in _all("COPY") if "--chown" in copy] == []
    stages = [n for n, (word, _) in enumerate(_instructions()) if word == "FROM"]
    assert len(stages) == 2, "what builds is left behind"
    last_user = [n for n, (word, _) in enumerate(_instructions()) if word == "USER"][-1]
    assert all(word in ("EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD") for word, _ in _instructions()[last_user + 1 :])


@pytest.mark.skipif(os.name != "posix" or not shutil.which("useradd"), reason="this machine has no useradd")
def test_its_user_can_be_made(tmp_path: Path) -> None:
    (makes_user,) = [run for run in _all("RUN") if "useradd" in run]
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow"):
        (tmp_path / "etc" / name).touch()
    command = shlex.split(makes_user)
    done = subprocess.run(
        [command[0], "--prefix", str(tmp_path), *command[1:]], capture_output=True, text=True, check=False
    )
    if os.geteuid() == 0:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "etc" / "passwd").read_text().startswith("escarcelle:x:10001:")
    else:
        assert "unrecognized option" not in done.stderr


def test_the_image_holds_the_program_and_not_the_tests(image: Image) -> None:
    listed = subprocess.run(
        [str(image.programs / "python"), "-c", ("import api, domain, escarcelle, reporting, tasks, pathlib;"
         "print(*{p.name for p in pathlib.Path(api.__file__).parents[1].iterdir()})")],
        capture_output=True, text=True, check=True, cwd=image.folder,
    ).stdout.split()  # fmt: skip
    assert {"api", "domain", "escarcelle", "reporting", "tasks"} <= set(listed)
    assert not {"tests", "bench", "pytest", "mypy"} & set(listed)


# ── the services ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_setting_is_one_that_the_program_knows() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in _OURS:
        assert set(_SERVICES[name]["environment"]) <= known, name


def test_each_service_has_the_database_roles_it_needs_and_no_more() -> None:
    roles = {
        name: sorted(re.findall(r"//escarcelle_(\w+):", " ".join(map(str, _SERVICES[name]["environment"].values()))))
        for name in _OURS
    }
    assert roles == {"operator": ["app", "owner", "reader"], "api": ["app"], "worker": ["app", "relay"]}


def test_the_page_at_the_top_names_every_variable() -> None:
    text = (_ROOT / "compose.yaml").read_text(encoding="utf-8")
    head = text.split("name: escarcelle", 1)[0]
    assert [name for name in sorted(set(re.findall(r"\$\{(\w+)", text))) if name not in head] == []


def test_nothing_starts_before_what_it_needs() -> None:
    for name, service in _SERVICES.items():
        for other, needs in service.get("depends_on", {}).items():
            ends = _SERVICES[other].get("restart") == "no"
            assert needs["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name
            assert ends or "test" in _SERVICES[other]["healthcheck"]


@dataclass(frozen=True)
class Machine:
    """What stands for the two services that are not ours."""

    image: Image
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    port: int

    def environment(self, service: str) -> dict[str, str]:
        """What compose gives to a service, with our servers for its."""
        given = {name: str(value) for name, value in _SERVICES[service].get("environment", {}).items()}
        words = _SECRETS | {
            "SECRET_KEYS": "q8Zr1mWc5TnYx0LkVb3Jd7HgFs2PaEu9RtQoIyN4",
            "SMTP_URL": f"smtp://127.0.0.1:{free_port()}",
            "MAIL_FROM": "Escarcelle <ne-pas-repondre@example.org>",
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
        }
        text = {name: re.sub(r"\$\{(\w+):\?\}", lambda m: words[m[1]], value) for name, value in given.items()}
        there = {
            f"redis://:{_SECRETS['REDIS_PASSWORD']}@redis:6379/0": self.redis.url,
            "@postgres:5432": f"@127.0.0.1:{self.postgres.port}",
        }
        for was, becomes in there.items():
            text = {name: value.replace(was, becomes) for name, value in text.items()}
        return {"PATH": f"{self.image.programs}{os.pathsep}{os.environ['PATH']}"} | text

    def words(self, service: str) -> list[str]:
        """Entry point and command of a service of ours."""
        (entry,), (command,) = _all("ENTRYPOINT"), _all("CMD")
        own = _SERVICES[service].get("command") or yaml.safe_load(command)
        return self.image.command([*yaml.safe_load(entry), *own], self.port)

    @contextmanager
    def up(self, service: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The service runs; at the end it is told to stop, and does."""
        process = subprocess.Popen(self.words(service), env=self.environment(service), cwd=self.image.folder)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            grace = _SERVICES[service]["stop_grace_period"]
            assert process.wait(timeout=float(grace.removesuffix("s"))) == 0


@pytest.fixture(scope="module")
def machine(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """PostgreSQL with the roles that compose gives it, and Redis."""
    folder = tmp_path_factory.mktemp("services")
    postgres, redis = EmbeddedPostgres(folder), EmbeddedRedis(folder)
    postgres.start()
    redis.start()
    try:
        (mounted,) = [v.split(":") for v in _SERVICES["postgres"]["volumes"] if "initdb" in v]
        psql = [postgres.program("psql"), "--quiet", "--set=ON_ERROR_STOP=1", f"--file={_ROOT / mounted[0]}"]
        subprocess.run([*psql, postgres.url("postgres")], env=os.environ | _SECRETS, check=True, timeout=60)
        yield Machine(image, postgres, redis, free_port())
    finally:
        redis.stop()
        postgres.stop()


def test_the_services_run_are_healthy_and_stop_when_told(machine: Machine) -> None:
    operator = machine.environment("operator")
    subprocess.run(machine.words("operator"), env=operator, check=True, timeout=60)
    create = "issuer create --slug loisirs --name Loisirs --admin-login admin --admin-email admin@example.org"
    password = subprocess.run(
        [machine.words("operator")[0], *create.split()], env=operator, check=True, capture_output=True, text=True
    ).stdout.strip()
    url = f"http://127.0.0.1:{machine.port}"
    with machine.up("worker"), machine.up("api"):
        wait_until_ready(url)
        (check,) = _all("HEALTHCHECK")
        words = yaml.safe_load(check.split("CMD", 1)[1])
        healthy = machine.image.command(words, machine.port)
        assert subprocess.run(healthy, env=machine.environment("api"), check=False).returncode == 0
        signs_in = (
            'mutation { signIn(input: {issuer: "loisirs", login: "admin", password: "%s"})'
            " { ... on Session { viewer { user { mustChangePassword } } } } }"
        )
        answer = httpx.post(f"{url}/graphql", json={"query": signs_in % password}).json()
        assert answer["data"]["signIn"]["viewer"]["user"]["mustChangePassword"] is True
    assert subprocess.run(healthy, env=machine.environment("api"), capture_output=True, check=False).returncode != 0
