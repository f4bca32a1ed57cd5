"""The command line: `escarcelle dev` runs everything on one machine; the other commands are its parts, for production.

Each command imports what it needs itself, so that no process loads what it does not use."""

import asyncio
import errno
import gc
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

import structlog
import typer

from domain import logs
from domain.errors import Refused
from domain.settings import LogFormat, Settings, SettingsInvalid, from_environment
from escarcelle.embedded import (
    CannotStart,
    DataInUse,
    EmbeddedPostgres,
    EmbeddedRedis,
    free_ports,
    held,
    kept_secret,
    write_privately,
)
from escarcelle.processes import Program, Supervisor, python_program

log = structlog.get_logger(__name__)

app = typer.Typer(
    name="escarcelle",
    help="One server for prepaid value, on one ledger.",
    no_args_is_help=True,
    add_completion=False,
    # A trace with the values of local variables would print secrets.
    pretty_exceptions_enable=False,
)
issuer_app = typer.Typer(help="The issuers that this server serves.", no_args_is_help=True)
app.add_typer(issuer_app, name="issuer")
letters_app = typer.Typer(help="Messages that could not be delivered.", no_args_is_help=True)
app.add_typer(letters_app, name="dead-letters")

_DRAIN_SECONDS = 10
_LAST_REQUESTS_SECONDS = 2.0
_API_GRACE_SECONDS = _DRAIN_SECONDS + 2
_BACKLOG = 2048
_COLLECTED_AFTER = 20_000
"""Objects that an API process makes before the young ones are looked through; a request makes some thousands."""
_PORT_FREED_WITHIN_SECONDS = 1.0
_LAST_PORT = 65_535
_RUNNING = "running.json"
_REPORTING = "reporting"
_DATABASE_ROLES = {
    "DATABASE_URL": "escarcelle_owner",
    "APP_DATABASE_URL": "escarcelle_app",
    "RELAY_DATABASE_URL": "escarcelle_relay",
    "READER_DATABASE_URL": "escarcelle_reader",
}

_Port = Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")]
_Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")]
_Data = Annotated[Path, typer.Option(file_okay=False, help="Folder of the databases, secrets and mails.")]
_Topic = Annotated[Literal["mail", "push", "job", "copy"] | None, typer.Option(help="Only those of one topic.")]
_Issuer = Annotated[str | None, typer.Option(metavar="SLUG", help="Only those of one issuer.")]
_Processes = Annotated[int, typer.Option(min=1, max=64, help="API processes that share the port.")]


def main() -> None:
    """Run the command of the command line. Exit codes: 1, it cannot start or was refused; 2, settings or arguments
    are wrong."""
    try:
        app()
    except (CannotStart, Refused) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except SettingsInvalid as error:
        print(f"The settings in the environment are missing, wrong or unsafe:\n{error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@app.command()
def dev(
    port: _Port = 8000,
    data: _Data = Path(".escarcelle"),
    api_processes: _Processes = 1,
    host: _Host = "127.0.0.1",
) -> None:
    """Run everything on this machine: PostgreSQL, Redis, API, workers, a mail catcher, and a demo world at first."""
    data = data.absolute()
    with held(data), closing(_listen(host, port)) as listener:
        print(f"Escarcelle is starting; its data is in {data}", flush=True)
        sys.exit(_Development(data, host, listener, api_processes).run())


@app.command()
def serve(
    port: _Port = 8000,
    host: _Host = "127.0.0.1",
    processes: _Processes = 1,
    fd: Annotated[int | None, typer.Option(help="File descriptor of a socket that listens already.")] = None,
) -> None:
    """Serve the API over HTTP and WebSocket. SIGTERM lets running requests finish, for at most 10 s."""
    from domain.metrics import exposed

    settings = from_environment()
    logs.configure(settings.log_format)
    metrics_ports = _metrics_ports(settings, processes)
    if fd is None:
        _refuse_above_the_wall(settings)
    listener = socket.socket(fileno=fd) if fd is not None else _listen(host, port)
    if processes == 1:
        with exposed(settings):
            _serve_here(settings, listener)
        return
    with Supervisor() as supervisor:
        supervisor.start(*_api_programs(processes, listener, os.environ, metrics_ports))
        code = supervisor.run()
        # As long as it is open here, whoever connects waits for nobody.
        listener.close()
    sys.exit(code)


@app.command()
def work() -> None:
    """Relay what was committed and do what happens later: mails, deadlines, imports."""
    from tasks import run

    settings = from_environment()
    logs.configure(settings.log_format)
    _refuse_above_the_wall(settings)
    run.main(settings)


@app.command()
def migrate() -> None:
    """Bring the database to this version."""
    from escarcelle import database

    database.migrate(from_environment())


@app.command()
def schema() -> None:
    """Print the GraphQL schema."""
    from api import schema as graphql_schema

    print(graphql_schema.printed().rstrip())


@app.command()
def audit(
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Data folder of `escarcelle dev`; by default the environment's database."),
    ] = None,
) -> None:
    """Re-derive every balance, state and total from the ledger; the exit code is not 0 when anything differs."""
    from reporting import audit as ledger_audit

    if data is None:
        settings = from_environment()
        sys.exit(ledger_audit.main(settings.reader_database_url or settings.database_url))
    with _database_of(data.absolute()) as database_url:
        sys.exit(ledger_audit.main(database_url))


@app.command()
def nightly(
    issuer: Annotated[str | None, typer.Option(metavar="SLUG", help="Only this issuer's.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Data folder of `escarcelle dev`; by default the environment's settings."),
    ] = None,
) -> None:
    """Bring the stores for analysts up to date, verify each against the ledger, and swap it in; the exit code is not 0
    when one could not be made."""
    from reporting import copy

    if data is None:
        settings = from_environment()
        logs.configure(settings.log_format)
        sys.exit(copy.main(settings, issuer, print))
    data = data.absolute()
    with _database_of(data) as database_url:
        urls = {name.lower(): _as(role, database_url, data) for name, role in _DATABASE_ROLES.items()}
        settings = from_environment(
            **urls,
            redis_url="redis://",
            secret_keys=kept_secret(data / "secret_keys"),
            smtp_url="smtp://localhost",
            reporting_folder=data / _REPORTING,
        )
        sys.exit(copy.main(settings, issuer, print))


@app.command()
def demo(
    play: Annotated[str | None, typer.Option(metavar="STORY", help="The story to play; none plays all.")] = None,
    url: Annotated[str, typer.Option(help="Address of a running `escarcelle dev`.")] = "http://127.0.0.1:8000",
) -> None:
    """Play a story against a running server, step by step."""
    from escarcelle import demo as storyteller

    sys.exit(storyteller.play(play, url))


@app.command(hidden=True)
def revise(message: str) -> None:
    """For developers: write a migration from the difference between the declared tables and a migrated database."""
    from escarcelle import database

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        server = EmbeddedPostgres(data)
        server.start()
        try:
            urls = {name.lower(): url for name, url in _embedded_database_urls(data, server).items()}
            keys = kept_secret(data / "secret_keys")
            settings = from_environment(**urls, redis_url="redis://", secret_keys=keys, smtp_url="smtp://localhost")
            database.migrate(settings)
            database.revise(settings, message)
        finally:
            server.stop()


@issuer_app.command("create")
def create_issuer(
    slug: Annotated[str, typer.Option(help="Short name in addresses.")],
    name: Annotated[str, typer.Option(help="Name that people read.")],
    admin_login: Annotated[str, typer.Option(help="Sign-in of its first administrator.")],
    admin_email: Annotated[str, typer.Option(help="E-mail address of that administrator.")],
) -> None:
    """Create an issuer and print its first administrator's temporary password."""
    from escarcelle import database

    print(
        database.create_issuer(
            from_environment(), slug=slug, name=name, admin_login=admin_login, admin_email=admin_email
        )
    )


@issuer_app.command("set")
def set_rules(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    minimum_amount: Annotated[str | None, typer.Option(help="The least that may be requested: 20.00")] = None,
    maximum_payment_days: Annotated[int | None, typer.Option(help="The latest day of a deferred payment.")] = None,
    maximum_validation_days: Annotated[int | None, typer.Option(help="The longest validation window.")] = None,
    immediate_minutes: Annotated[int | None, typer.Option(help="How long an immediate request waits.")] = None,
    warning_hours: Annotated[
        str | None, typer.Option(help="When warnings may leave, in Paris: 8-20 (before 20h), or off for any hour.")
    ] = None,
) -> None:
    """Set an issuer's payment rules; what is not named stays."""
    from domain import money
    from escarcelle import database

    given = {
        "minimum_amount": money.cents(minimum_amount, "minimum_amount") if minimum_amount is not None else None,
        "maximum_payment_days": maximum_payment_days,
        "maximum_validation_days": maximum_validation_days,
        "immediate_minutes": immediate_minutes,
    }
    rules: dict[str, int | None] = {name: value for name, value in given.items() if value is not None}
    if warning_hours is not None:
        rules |= database.warning_hours(warning_hours)
    if not rules:
        raise CannotStart("Nothing to set: name a rule, for example --minimum-amount 20.00")
    database.set_rules(from_environment(), slug, **rules)
    said = (f"{name} = {'off' if value is None else value}" for name, value in rules.items())
    print(f"{slug}: {', '.join(said)}")


@issuer_app.command("support")
def set_support(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    email: Annotated[str | None, typer.Option(help="Where messages of its users are mailed to.")] = None,
    phone: Annotated[str | None, typer.Option(help="Its telephone number.")] = None,
    hours_fr: Annotated[str | None, typer.Option(help="When somebody answers, in French.")] = None,
    hours_en: Annotated[str | None, typer.Option(help="When somebody answers, in English.")] = None,
) -> None:
    """Set where an issuer answers questions; what is not named stays, what is empty goes."""
    from escarcelle import database

    given = {"email": email, "phone": phone, "hours_fr": hours_fr, "hours_en": hours_en}
    named = {name: text for name, text in given.items() if text is not None}
    if not named:
        raise CannotStart("Nothing to set: name it, for example --email help@example.org")
    database.set_support(from_environment(), slug, **named)
    print(f"{slug}: {', '.join(f'{name} = {text.strip() or None}' for name, text in named.items())}")


@issuer_app.command("voucher-kind")
def set_voucher_kind(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    code: Annotated[str, typer.Option(help="Its code; a kind of that code is changed.")],
    name: Annotated[str, typer.Option(help="Its name, as printed on vouchers.")],
    series: Annotated[str, typer.Option(help="The agency's series in numbers, three digits: 442")],
    department: Annotated[str, typer.Option(help="The two letters before it in numbers: XX")],
    validity_days: Annotated[int, typer.Option(help="How many days a voucher is valid.")] = 30,
    ends_with_year: Annotated[bool, typer.Option(help="None is valid beyond 31 December.")] = False,
    maximum_value: Annotated[str | None, typer.Option(help="The most that one may be worth: 500.00")] = None,
    maximum_outstanding: Annotated[str | None, typer.Option(help="The most that a member may have open.")] = None,
    preferred: Annotated[bool, typer.Option(help="Taken when a member names no kind.")] = False,
) -> None:
    """Set a kind of vouchers, anew or as it is to be from now on; vouchers keep what they were made with."""
    from domain import money
    from escarcelle import database

    given = (("maximum_value", maximum_value), ("maximum_outstanding", maximum_outstanding))
    database.set_voucher_kind(
        from_environment(),
        slug,
        code=code,
        name=name,
        series=series,
        department=department,
        validity_days=validity_days,
        ends_with_year=ends_with_year,
        preferred=preferred,
        **{field: money.cents(text, field) if text is not None else None for field, text in given},
    )
    print(f"{slug}: {code} = {name}, W….{department}.{series}.…, {validity_days} days")


@issuer_app.command("terms")
def set_terms(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    flow: Annotated[Literal["payment-requests", "vouchers"], typer.Option(help="Of which operations.")],
    since: Annotated[datetime, typer.Option("--from", help="The first day.", formats=["%Y-%m-%d"])],
    commission: Annotated[str, typer.Option(help="What the issuer keeps, in percent: 2.5")],
    business_days: Annotated[int, typer.Option(help="Within how many TARGET business days it pays.")] = 5,
) -> None:
    """Set on what terms merchants are reimbursed from a day on; operations of before keep theirs."""
    from domain.reimbursements import ReimbursedFlow
    from escarcelle import database

    of = ReimbursedFlow(flow.replace("-", "_").upper())
    database.set_terms(from_environment(), slug, of, since.date(), commission, business_days)
    print(f"{slug}: {flow} from {since:%Y-%m-%d}, {commission} %, {business_days} business days")


@issuer_app.command("appearance")
def set_appearance(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    accent: Annotated[str | None, typer.Option(help="Its colour: #7a1f4b")] = None,
    mark: Annotated[
        Path | None, typer.Option(help="Its mark, a PNG picture.", exists=True, dir_okay=False, readable=True)
    ] = None,
    no_mark: Annotated[bool, typer.Option("--no-mark", help="Its name alone.")] = False,
) -> None:
    """Set the colour and the mark that screens and mails of an issuer bear; what is not named stays. Where the colour
    would be hard to read, its nearest shade that is not stands for it."""
    from domain.appearance import Shades, checked_accent
    from escarcelle import database

    if mark is not None and no_mark:
        raise CannotStart("--mark and --no-mark exclude each other")
    given: dict[str, str | bytes | None] = {} if accent is None else {"accent": accent}
    if mark is not None or no_mark:
        given["mark"] = mark.read_bytes() if mark is not None else None
    if not given:
        raise CannotStart("Nothing to set: name a colour, for example --accent '#7a1f4b', or a picture with --mark")
    database.set_appearance(from_environment(), slug, **given)
    said = []
    if accent is not None:
        shades = Shades.of(checked_accent(accent))
        said.append(f"{shades.light} on light screens, {shades.dark} on dark ones")
    if "mark" in given:
        said.append("its name alone" if mark is None else f"mark {mark.name}")
    print(f"{slug}: {', '.join(said)}")


@issuer_app.command("paying-account")
def set_paying_account(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    iban: Annotated[str, typer.Option(help="The account.")],
    holder: Annotated[str, typer.Option(help="Whose account it is, as the bank knows it.")],
    street: Annotated[str, typer.Option(help="Its holder's number and street.")],
    postcode: Annotated[str, typer.Option(help="Postcode.")],
    town: Annotated[str, typer.Option(help="Town.")],
    country: Annotated[str, typer.Option(help="Country, by its ISO 3166 code.")] = "FR",
    bic: Annotated[str | None, typer.Option(help="The bank; found by the IBAN when absent.")] = None,
) -> None:
    """Set the account that merchants are reimbursed from."""
    from domain.parties import Address
    from escarcelle import database

    address = Address(street, postcode, town, country)
    database.set_paying_account(from_environment(), slug, iban, bic, holder, address)
    print(f"{slug}: reimburses from the account that ends with {iban.strip()[-4:]}")


@issuer_app.command("reimbursement-runs")
def set_reimbursement_runs(
    slug: Annotated[str, typer.Option(help="Which issuer.")],
    automatic: Annotated[bool, typer.Option("--automatic/--by-hand", help="Whether runs begin by themselves.")],
) -> None:
    """Set whether merchants are reimbursed without anybody asking, on the mornings of business days, each in time for
    its terms."""
    from escarcelle import database

    next_run_on = database.set_reimbursement_runs(from_environment(), slug, automatic=automatic)
    print(f"{slug}: " + (f"next run on {next_run_on:%Y-%m-%d}" if automatic else "runs begin when somebody asks"))


@letters_app.command("list")
def list_dead_letters(topic: _Topic = None, issuer: _Issuer = None) -> None:
    """List the messages that were given up: identifier, issuer, topic, notice, when, tries, reason."""
    from escarcelle import dead_letters

    letters = dead_letters.find(from_environment(), topic, issuer)
    for letter in letters:
        print(letter)
    if not letters:
        print("There is no dead letter.", file=sys.stderr)


@letters_app.command("resend")
def resend_dead_letters(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]…", help="Those to send again.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, or those of a topic or an issuer.")] = False,
    topic: _Topic = None,
    issuer: _Issuer = None,
) -> None:
    """Send messages again that were given up, each as the same message: a mail keeps its Message-ID."""
    from domain.messages import Resent
    from escarcelle import dead_letters

    if every == bool(ids):
        raise typer.BadParameter("name the identifiers, or say --all")
    if ids and (topic or issuer):
        raise typer.BadParameter("--topic and --issuer go with --all")
    settings = from_environment()
    came = dead_letters.resend_these(settings, ids) if ids else dead_letters.resend_all(settings, topic, issuer)
    words = {
        Resent.AGAIN: "will be sent again",
        Resent.HANDLED: "had been delivered after all; it is no dead letter any more",
        Resent.UNKNOWN: "was sent again by somebody else meanwhile",
    }
    for letter_id, what in came.items():
        print(f"{letter_id}  {words[what]}")
    if not came:
        print("There is no dead letter.", file=sys.stderr)


@app.command("catch-mail")
def catch_mail(
    smtp_port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port that receives mail.")],
    page_port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the page that shows it.")],
    folder: Annotated[Path, typer.Option(file_okay=False, help="Folder that keeps it.")],
) -> None:
    """Receive mail on this machine and show it on a page."""
    from escarcelle import mailcatcher

    mailcatcher.catch_mail(smtp_port, page_port, folder.absolute())


class _Development:
    """What `dev` runs, and what it tells its children and the person at the keyboard."""

    def __init__(self, data: Path, host: str, listener: socket.socket, api_processes: int) -> None:
        self._data = data
        self._listener = listener
        self._api_processes = api_processes
        local_host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 — compared, not bound
        self._local_url = f"http://{f'[{local_host}]' if ':' in local_host else local_host}:{listener.getsockname()[1]}"
        self._mail_page_url = ""
        # What runs here is read by people; a pipe alone would make it JSON.
        self._environment = {"LOG_FORMAT": LogFormat.TEXT, **os.environ}
        if self._environment["LOG_FORMAT"] not in tuple(LogFormat):
            raise SettingsInvalid(f"LOG_FORMAT: one of {', '.join(LogFormat)}")
        logs.configure(LogFormat(self._environment["LOG_FORMAT"]))
        self._metrics_ports: dict[str, int] = {}
        self._running = data / _RUNNING
        self._running.unlink(missing_ok=True)

    def run(self) -> int:
        """Run everything until a signal; returns an exit code."""
        try:
            with Supervisor(self._write_down) as supervisor:
                self._start_databases(supervisor)
                self._start_mail_catcher(supervisor)
                with supervisor.undisturbed():
                    welcome = self._fill_database()
                return self._start_programs(supervisor, welcome)
        finally:
            self._running.unlink(missing_ok=True)

    def _start_databases(self, supervisor: Supervisor) -> None:
        if "REDIS_URL" not in os.environ:
            self._start_redis(supervisor)
        if "DATABASE_URL" not in os.environ:
            self._start_postgres(supervisor)
        self._environment.setdefault("REPORTING_FOLDER", str(self._data / _REPORTING))
        self._environment.setdefault("SECRET_KEYS", kept_secret(self._data / "secret_keys"))
        self._environment.setdefault("PUBLIC_URL", self._local_url)

    def _start_redis(self, supervisor: Supervisor) -> None:
        server = EmbeddedRedis(self._data)
        server.start()
        supervisor.start(Program("redis", server.launch, grace_seconds=5, process=server.process))
        self._environment["REDIS_URL"] = server.url

    def _start_postgres(self, supervisor: Supervisor) -> None:
        server = EmbeddedPostgres(self._data)
        server.start()
        supervisor.start(
            Program(
                "postgresql",
                server.launch,
                stop_signal=server.stop_signal,
                kill_signal=server.immediate_stop_signal,
                grace_seconds=20,
                process=server.process,
            )
        )
        self._environment |= _embedded_database_urls(self._data, server)
        # Its codes and secrets are sealed with the keys that lie beside it.
        self._environment["SECRET_KEYS"] = kept_secret(self._data / "secret_keys")

    def _start_mail_catcher(self, supervisor: Supervisor) -> None:
        smtp_port, page_port = free_ports(2)
        options = ["--smtp-port", str(smtp_port), "--page-port", str(page_port), "--folder", str(self._data / "mails")]
        supervisor.start(python_program("mails", "catch-mail", *options, environment=self._environment))
        # Nothing that is tried out here may reach a real person, whatever the environment says.
        self._environment["SMTP_URL"] = f"smtp://127.0.0.1:{smtp_port}"
        self._mail_page_url = f"http://127.0.0.1:{page_port}"
        self._environment["MAIL_PAGE_URL"] = self._mail_page_url

    def _fill_database(self) -> list[str]:
        """Migrate, and make the demo world in an empty database; returns lines about its sign-ins."""
        from escarcelle import database, world

        known = {name.lower(): value for name, value in self._environment.items()}
        settings = from_environment(**{name: known[name] for name in Settings.model_fields if name in known})
        database.migrate(settings)
        return world.create_when_empty(settings)

    def _start_programs(self, supervisor: Supervisor, welcome: list[str]) -> int:
        tasks_port, *api_ports = free_ports(1 + self._api_processes)
        environment = {**self._environment, "METRICS_HOST": "127.0.0.1"}
        tasks = python_program("tasks", "work", environment=_with_metrics_port(environment, tasks_port))
        apis = _api_programs(self._api_processes, self._listener, environment, api_ports)
        self._metrics_ports = dict(
            zip((program.name for program in (tasks, *apis)), (tasks_port, *api_ports), strict=True)
        )
        supervisor.start(tasks)
        supervisor.start(*apis)
        code = supervisor.run(until=lambda: _answers(self._local_url))
        if code is None:
            lines = ["", f"Escarcelle runs at {self._local_url}", *welcome]
            lines += [f"Mails: {self._local_url}/mails", "Ctrl-C stops everything.", ""]
            print("\n".join(lines), flush=True)
            code = supervisor.run()
        assert code is not None
        # As long as it is open here, whoever connects waits for nobody.
        self._listener.close()
        return code

    def _write_down(self, processes: Mapping[str, int]) -> None:
        """What tools and `audit` need to find the running servers."""
        names = [name for name in ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "SMTP_URL") if name in self._environment]
        facts = {
            "url": self._local_url,
            "mail_page_url": self._mail_page_url,
            **{name.lower(): self._environment[name] for name in names},
            "processes": {"dev": os.getpid(), **processes},
            "metrics": {name: f"http://127.0.0.1:{port}/metrics" for name, port in self._metrics_ports.items()},
        }
        write_privately(self._running, json.dumps(facts, indent=2) + "\n")


def _embedded_database_urls(data: Path, server: EmbeddedPostgres) -> dict[str, str]:
    """The addresses of the embedded database, by variable, each for a user of its own. Users and database are made when
    they are missing."""
    from escarcelle import database

    passwords = {role: kept_secret(data / "passwords" / role) for role in _DATABASE_ROLES.values()}
    database.prepare(server.url("postgres"), passwords)
    return {
        variable: server.url("escarcelle", user=role, password=passwords[role])
        for variable, role in _DATABASE_ROLES.items()
    }


def _as(role: str, database_url: str, data: Path) -> str:
    """The address of a data folder's database, for one of its users."""
    parts = urlsplit(database_url)
    password = kept_secret(data / "passwords" / role)
    return parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}").geturl()


@contextmanager
def _database_of(data: Path) -> Iterator[str]:
    """The address of a data folder's database: the running `dev`'s, or the embedded one's, started for this time."""
    if not data.is_dir():
        raise CannotStart(f"There is no folder {data}.")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(data))
        except DataInUse:
            yield _running_database_url(data)
            return
        server = EmbeddedPostgres(data)
        if not server.exists:
            raise CannotStart(f"There is no database in {data}.")
        server.start()
        stack.callback(server.stop)
        yield _embedded_database_urls(data, server)["DATABASE_URL"]


def _running_database_url(data: Path) -> str:
    try:
        return str(json.loads((data / _RUNNING).read_text(encoding="utf-8"))["database_url"])
    except (FileNotFoundError, KeyError):
        raise CannotStart(f"The server on {data} is just starting or stopping: try again.") from None


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. The processes of a server that was just killed may hold the port for another moment."""
    freed_by = time.monotonic() + _PORT_FREED_WITHIN_SECONDS
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CannotStart(f"Cannot listen on {host}, port {port}: {error.strerror}.") from None
            if time.monotonic() > freed_by:
                raise CannotStart(
                    f"Port {port} on {host} is taken by another program: choose one with --port."
                ) from None
        time.sleep(0.05)


def _metrics_ports(settings: Settings, processes: int) -> list[int | None]:
    """Where each of so many API processes shows its metrics. Raises SettingsInvalid for more than there are ports."""
    if settings.metrics_port is None:
        return [None] * processes
    if settings.metrics_port + processes - 1 > _LAST_PORT:
        raise SettingsInvalid(f"METRICS_PORT: {processes} processes need as many ports, from this one on")
    return [settings.metrics_port + number for number in range(processes)]


def _api_programs(
    count: int, listener: socket.socket, environment: Mapping[str, str], metrics_ports: Sequence[int | None]
) -> list[Program]:
    descriptor = listener.fileno()
    return [
        python_program(
            "api" if count == 1 else f"api-{number}",
            "serve",
            "--fd",
            str(descriptor),
            environment=_with_metrics_port(environment, metrics_port),
            keeps=(descriptor,),
            grace_seconds=_API_GRACE_SECONDS,
        )
        for number, metrics_port in enumerate(metrics_ports, start=1)
    ]


def _with_metrics_port(environment: Mapping[str, str], port: int | None) -> dict[str, str]:
    return {**environment} if port is None else {**environment, "METRICS_PORT": str(port)}


def _serve_here(settings: Settings, listener: socket.socket) -> None:
    import uvicorn

    from api.app import create_app
    from escarcelle.database import newest_revision
    from escarcelle.sockets import SocketProtocol

    class Server(uvicorn.Server):
        """Stops without losing a request: it first stops accepting and sends away those who listen, who would keep it
        waiting, and lets each connection that stands open have its next request answered, as its last one. An idle
        connection that is closed at once may have a request on its way."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            log.info("api_stops", connections=len(self.server_state.connections))
            begun = time.monotonic()
            # Those that the kernel has accepted for us are taken in before the door closes.
            await asyncio.sleep(0)
            for server in self.servers:
                server.close()
            for open_socket in sockets or ():
                open_socket.close()
            await asyncio.sleep(0)
            await application.state.send_away()
            # uvicorn tells nobody that a connection has closed.
            while self.server_state.connections and time.monotonic() < begun + _LAST_REQUESTS_SECONDS:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            left = _DRAIN_SECONDS - (time.monotonic() - begun)
            self.config.timeout_graceful_shutdown = max(1, round(left))
            await super().shutdown(sockets)
            log.info("api_stopped")

    application = create_app(settings, newest_revision())
    # What has been loaded stays: the collector need not look through all of it again and again, while people wait.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, 20, 100)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws=SocketProtocol,
        ws_max_size=65_536,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        # Messages are small; a compressor would cost each socket more memory than everything else.
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        backlog=_BACKLOG,
        # Longer than proxies keep theirs, so that it is they who close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    log.info("api_starts", port=listener.getsockname()[1])
    Server(config).run(sockets=[listener])


def _refuse_above_the_wall(settings: Settings) -> None:
    from domain.db import refuse_above_the_wall

    asyncio.run(refuse_above_the_wall(settings))


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=0.5)) as connection:
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
