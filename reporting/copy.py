"""The nightly copy: each issuer's ledger, journal and what they are about, into a DuckDB file for analysts.

A copy sees one snapshot of PostgreSQL and reads what is new in it: rows of transactions from the last copy's watermark
on, which is the oldest transaction that was still open then; so a transaction that commits late is in the next copy.
Some rows so come twice, and are taken once. The file is made aside, compared with the ledger in the same snapshot, and
put in the place of the last one in one step, while others read. Killed anywhere, the last one goes on serving, and the
next run clears away what lies about. The file itself knows its watermark.

Where the database is another than the file's, or the file is not what the ledger says, the file is made anew."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import duckdb
from adbc_driver_postgresql import dbapi

from domain import copies
from domain.access import Actor
from domain.db import READER, Database
from domain.settings import Settings, SettingsInvalid
from domain.work import perform
from reporting.flows import FLOWS
from reporting.store import ABOUT, LEDGER_LINES, OPERATIONS, Field, Place, Read, Table, definitions, tables

OnStep = Callable[[str], None]
"""Is told each step before it begins."""

MEMORY: Final = "512MB"
THREADS: Final = 2
KEPT_VERSIONS: Final = 2
"""The newest, and the one before it, for whoever is just opening it."""

_LOCK: Final = 0x65736361
_BUILDING: Final = "building.duckdb"
_MICROSECONDS: Final = "TIMESTAMPTZ"


class CannotCopy(Exception):
    """No copy could be made; the last one goes on serving."""


class _Differs(Exception):
    """The file is not what the ledger says."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose data is copied."""

    tenant: int
    slug: str
    name: str
    test: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is copied: everything that PostgreSQL shows at one moment. `watermark` is the oldest transaction that is
    still open, `horizon` the first that has not begun."""

    cluster: str
    watermark: int
    horizon: int
    as_of: Any
    copied_at: Any


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of it. `new_lines` counts the lines of ledger and journal that the last copy did not have; `about` is
    what the store says of itself."""

    issuer: Issuer
    link: Path
    anew: bool
    new_lines: int
    about: dict[str, Any]


def main(settings: Settings, slug: str | None, say: Callable[[str], None]) -> int:
    """Copy every issuer, or one, and say what was verified; returns 0 when each has its copy or is being copied, 1 when
    one has not. Raises SettingsInvalid when there is no folder for stores."""
    code = 0
    try:
        found = issuers(settings, slug)
    except CannotCopy as error:
        say(str(error))
        return 1
    for issuer in found:
        try:
            copied = copy(settings, issuer)
            if copied is not None:
                asyncio.run(record(settings, copied))
            say(f"{issuer.slug}: {_in_words(copied)}")
        except CannotCopy as error:
            code = 1
            say(str(error))
    return code


def _in_words(copied: Copied | None) -> str:
    if copied is None:
        return "another process is copying it."
    about = copied.about
    how = "made anew" if copied.anew else f"{copied.new_lines} new lines"
    counts = f"{about['ledger_lines']} ledger lines and {about['operations']} operations"
    as_of = f"{about['as_of']:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"copy {about['number']}, {how}; {counts} equal the ledger's as of {as_of} (digest {about['digest'][:12]}):"
        f" {copied.link}"
    )


def issuers(settings: Settings, slug: str | None = None) -> list[Issuer]:
    """All of them, or the one of that short name. Raises CannotCopy when there is none, or no database."""
    try:
        with _Postgres.opened(settings) as postgres:
            rows = postgres.rows("SELECT tenant, slug, name, sandbox FROM issuers ORDER BY slug")
    except (duckdb.Error, dbapi.Error) as error:
        raise CannotCopy(f"The database does not answer as {READER} ({error}).") from None
    found = [Issuer(*row) for row in rows if slug in (None, row[1])]
    if not found and slug is not None:
        raise CannotCopy(f"There is no issuer {slug!r}.")
    return found


def copy(settings: Settings, issuer: Issuer, on_step: OnStep = lambda _: None) -> Copied | None:
    """Bring an issuer's store up to date and swap it in; None when another process is at it. What it says about itself
    still has to be recorded (`record`). Raises CannotCopy."""
    place = place_of(settings, issuer)
    try:
        with _Postgres.opened(settings) as postgres:
            on_step("lock")
            if not postgres.value(f"SELECT pg_try_advisory_lock({_LOCK}, {issuer.tenant})"):
                return None
            return _copy(postgres, place, issuer, on_step)
    except (duckdb.Error, dbapi.Error, OSError) as error:
        raise CannotCopy(f"{issuer.slug}: {error}") from error


async def record(settings: Settings, copied: Copied) -> None:
    """Tell the database that the copy serves, so that the API and operators know. Raises CannotCopy."""
    names = set(copies.ReportingCopy.columns) - {"tenant", "id"}
    said = {name: value for name, value in copied.about.items() if name in names}
    database = Database(settings)
    try:
        await database.open()
        await perform(database, Actor(tenant=copied.issuer.tenant), copies.note_copy, **said)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CannotCopy(f"{copied.issuer.slug}: the copy serves, and could not be recorded ({error})") from error
    finally:
        await database.close()


def place_of(settings: Settings, issuer: Issuer) -> Place:
    """Where the issuer's store lies. Raises SettingsInvalid when there is no folder for stores, and CannotCopy when the
    issuer's short name cannot be a file's."""
    if settings.reporting_folder is None:
        raise SettingsInvalid("REPORTING_FOLDER: where are the stores for analysts to be kept?")
    try:
        return Place.of(settings.reporting_folder.absolute(), issuer.slug, test=issuer.test)
    except ValueError as error:
        raise CannotCopy(f"{error}.") from None


# ── the steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _copy(postgres: "_Postgres", place: Place, issuer: Issuer, on_step: OnStep) -> Copied:
    on_step("clear away")
    _clear_away(place)
    snapshot = postgres.begin(issuer.tenant)
    last = _about(place.link)
    if last is None or not _goes_on(last, snapshot, issuer):
        last = None
    try:
        about, new_lines = _build(postgres, place, issuer, snapshot, last, on_step)
    except _Differs as difference:
        if last is None:
            raise CannotCopy(f"{issuer.slug}: {difference}.") from None
        on_step(f"make anew: {difference}")
        last = None
        about, new_lines = _build(postgres, place, issuer, snapshot, None, on_step)
    on_step("keep")
    version = place.versions / f"store-{about['number']}.duckdb"
    _keep(place.versions / _BUILDING, version)
    on_step("swap")
    _swap(place, version)
    on_step("record")
    return Copied(issuer, place.link, last is None, new_lines, about)


def _clear_away(place: Place) -> None:
    """What a run that was killed has left, and versions that nobody can be opening any more."""
    place.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    place.versions.mkdir(exist_ok=True)
    serving = place.link.resolve()
    versions = sorted(place.versions.glob("store-*.duckdb"), key=_number)
    # A version that was kept but never swapped in is not the newest that serves.
    behind = [path for path in versions if _number(path) <= _number(serving)] if serving in versions else []
    for path in place.versions.iterdir():
        if path not in behind[-KEPT_VERSIONS:]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (*place.parquet.glob("*/*.new"), _link_aside(place)):
        path.unlink(missing_ok=True)


def _goes_on(last: dict[str, Any], snapshot: Snapshot, issuer: Issuer) -> bool:
    """Whether what is new can be told from the watermark: the same tables, in the same database, which has not gone
    back in time."""
    return bool(
        last["shape"] == SHAPE
        and last["issuer"] == issuer.slug
        and last["cluster"] == snapshot.cluster
        and last["watermark"] <= snapshot.watermark
    )


def _build(
    postgres: "_Postgres",
    place: Place,
    issuer: Issuer,
    snapshot: Snapshot,
    last: dict[str, Any] | None,
    on_step: OnStep,
) -> tuple[dict[str, Any], int]:
    """The file, made aside and compared; returns what it says about itself, and how many lines are new. Raises
    _Differs."""
    building = place.versions / _BUILDING
    building.unlink(missing_ok=True)
    if last is None:
        on_step("begin anew")
        with duckdb.connect() as outside:
            # So that DuckDB clients of the last two years can read it too.
            outside.execute(f"ATTACH '{_escaped(building)}' AS store (STORAGE_VERSION 'v1.0.0')")
    else:
        on_step("copy aside")
        shutil.copyfile(place.link, building)
    with duckdb.connect(building, config=_LIMITS | {"temp_directory": f"{building}.tmp"}) as store:
        if last is None:
            store.execute(ABOUT.definition)
        months: set[str] = set()
        new_lines = 0
        for table in TABLES:
            on_step(f"read {table.name}")
            _read(postgres, store, table, issuer, snapshot, last)
            if table.read is Read.APPENDED:
                months |= _months(store, "incoming" if last else table.name)
                new_lines += _append(store, table) if last else _count(store, table.name)
        on_step("views")
        for statement in definitions(FLOWS):
            store.execute(statement)
        on_step("verify")
        digest = _verify(postgres, store, issuer)
        about = _say(postgres, store, place, issuer, snapshot, last, digest)
        postgres.end()
        on_step("parquet")
        _write_months(store, place, months)
        on_step("close")
        # Nothing of it stands in a second file any more.
        store.execute("CHECKPOINT")
    return about, new_lines


def _read(
    postgres: "_Postgres",
    store: duckdb.DuckDBPyConnection,
    table: Table,
    issuer: Issuer,
    snapshot: Snapshot,
    last: dict[str, Any] | None,
) -> None:
    """Rows of ledger and journal that are new, some of which may be here, come into `incoming`; other rows as they are
    now take the place of those that were."""
    question = f"SELECT {table.columns} FROM {table.source} WHERE t.tenant = {issuer.tenant}"
    if last is None or table.read is Read.WHOLE:
        store.execute(f"DROP TABLE IF EXISTS {table.name}")
        store.execute(table.definition)
        postgres.into(store, table.name, question)
        return
    # Nothing that this database has written is at the horizon or beyond; what it got from a restore may be.
    is_new = _between(last["watermark"], snapshot.horizon)
    store.execute("DROP TABLE IF EXISTS temp.incoming")
    store.execute(table.definition.replace(f"CREATE TABLE {table.name}", "CREATE TEMP TABLE incoming"))
    if table.read is Read.APPENDED:
        postgres.into(store, "temp.incoming", f"{question} AND {is_new}")
        return
    changed = (
        f"SELECT t.subject_id FROM journal t WHERE t.tenant = {issuer.tenant}"
        f" AND t.subject_kind = '{table.subject}' AND {is_new}"
    )
    postgres.into(store, "temp.incoming", f"{question} AND t.id IN ({changed})")
    store.execute(f"DELETE FROM {table.name} WHERE id IN (SELECT id FROM temp.incoming)")
    store.execute(f"INSERT INTO {table.name} SELECT * FROM temp.incoming")


def _between(first: int, end: int) -> str:
    return f"t.xact >= '{first}'::xid8 AND t.xact < '{end}'::xid8"


def _append(store: duckdb.DuckDBPyConnection, table: Table) -> int:
    """Take what is not here yet; returns how many lines that were."""
    before = _count(store, table.name)
    same = " AND ".join(f"h.{name} = i.{name}" for name in table.key)
    store.execute(f"INSERT INTO {table.name} SELECT i.* FROM temp.incoming i ANTI JOIN {table.name} h ON {same}")
    return _count(store, table.name) - before


def _say(
    postgres: "_Postgres",
    store: duckdb.DuckDBPyConnection,
    place: Place,
    issuer: Issuer,
    snapshot: Snapshot,
    last: dict[str, Any] | None,
    digest: str,
) -> dict[str, Any]:
    """Write down what the store is, in the store."""
    stands = last is not None and last["watermark"] == snapshot.watermark
    waiting = sum(
        postgres.value(
            f"SELECT count(*) FROM {table} t"
            f" WHERE t.tenant = {issuer.tenant} AND {_between(snapshot.watermark, snapshot.horizon)}"
        )
        for table in ("transfers", "journal")
    )
    about = {
        "issuer": issuer.slug,
        "name": issuer.name,
        "test": issuer.test,
        "as_of": snapshot.as_of,
        "copied_at": snapshot.copied_at,
        "number": 1 + max((_number(path) for path in place.versions.glob("store-*.duckdb")), default=0),
        "watermark": snapshot.watermark,
        "watermark_since": last["watermark_since"] if last is not None and stands else snapshot.copied_at,
        "waiting": waiting,
        "cluster": snapshot.cluster,
        "ledger_lines": _count(store, LEDGER_LINES.name),
        "operations": _count(store, OPERATIONS.name),
        "digest": digest,
        "shape": SHAPE,
    }
    store.execute("DELETE FROM about")
    names = [field.name for field in ABOUT.fields]
    store.execute(f"INSERT INTO about VALUES ({', '.join('?' for _ in names)})", [about[name] for name in names])
    return about


def _write_months(store: duckdb.DuckDBPyConnection, place: Place, months: set[str]) -> None:
    """Each month that has new lines, or is not there, anew; those that have no lines any more go."""
    every = _months(store, LEDGER_LINES.name) | _months(store, OPERATIONS.name)
    there = {folder.name.removeprefix("month=") for folder in place.parquet.glob("month=*")}
    for month in sorted(months | every - there):
        folder = place.parquet / f"month={month}"
        folder.mkdir(parents=True, exist_ok=True)
        for table in (LEDGER_LINES, OPERATIONS):
            aside = folder / f"{table.name}.parquet.new"
            store.execute(
                f"COPY (FROM {table.name} WHERE day BETWEEN '{month}-01' AND last_day(DATE '{month}-01'))"
                f" TO '{_escaped(aside)}' (FORMAT parquet)"
            )
            aside.replace(aside.with_suffix(""))
    for month in there - every:
        shutil.rmtree(place.parquet / f"month={month}")


def _keep(building: Path, version: Path) -> None:
    """The file is on the disk, whole, under its own name; who opens it to write is refused."""
    building.chmod(0o440)
    with building.open("rb") as file:
        os.fsync(file.fileno())
    building.replace(version)
    _sync_folder(version.parent)


def _swap(place: Place, version: Path) -> None:
    aside = _link_aside(place)
    aside.symlink_to(version.relative_to(place.folder))
    aside.replace(place.link)
    _sync_folder(place.folder)


# ── verification ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _verify(postgres: "_Postgres", store: duckdb.DuckDBPyConnection, issuer: Issuer) -> str:
    """Compare the store with the ledger, in the snapshot: each account's lines and sum, to the cent; a digest of every
    line of ledger and journal, and of the state of what may change, whatever their order; and of every table its rows
    and sums. PostgreSQL and DuckDB compute each for themselves. Returns the digest. Raises _Differs."""
    store.execute("CREATE OR REPLACE TEMP TABLE theirs (account_id UUID, unit VARCHAR, lines BIGINT, total BIGINT)")
    postgres.into(
        store,
        "temp.theirs",
        f"SELECT account_id, unit, count(*) AS lines, sum(amount)::bigint AS total FROM postings"
        f" WHERE tenant = {issuer.tenant} GROUP BY account_id, unit",
    )
    ours = f"SELECT account_id, unit, count(*), sum(amount_cents)::BIGINT FROM {LEDGER_LINES.name} GROUP BY 1, 2"
    differing = _one(store, f"SELECT count(*) FROM (({ours} EXCEPT FROM theirs) UNION ALL (FROM theirs EXCEPT {ours}))")
    if differing:
        raise _Differs(f"{differing} accounts do not have the ledger's lines and sum")
    digests = []
    # Two computers for one sum: PostgreSQL goes on to the next table while DuckDB is at this one.
    with ThreadPoolExecutor(1) as beside:
        asked = [beside.submit(postgres.value, _summary_of(table, issuer)) for table in TABLES]
        for table, theirs in zip(TABLES, asked, strict=True):
            found = _one(store, f"SELECT concat_ws(' ', {_summary(table, _in_duckdb)}) FROM {table.name}")
            if found != theirs.result():
                raise _Differs(f"{table.name} is {found}, the ledger's is {theirs.result()}")
            digests.append(f"{table.name} {found}")
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _summary_of(table: Table, issuer: Issuer) -> str:
    return (
        f"SELECT concat_ws(' ', {_summary(table, _in_postgres)}) FROM {table.source} WHERE t.tenant = {issuer.tenant}"
    )


def _summary(table: Table, words: Callable[[Sequence[Field]], list[str]]) -> str:
    return ", ".join(["count(*)", *words(table.fields)])


def _in_postgres(fields: Sequence[Field]) -> list[str]:
    said = [f"coalesce(sum({field.sql}), 0)" for field in fields if field.type == "BIGINT" and not field.digest]
    parts = [
        f"(extract(epoch FROM {field.sql}) * 1000000)::bigint" if field.type == _MICROSECONDS else field.sql
        for field in fields
        if field.digest
    ]
    if parts:
        said.append(f"sum(('x' || left(md5(concat_ws('|', {', '.join(parts)})), 15))::bit(60)::bigint)")
    return said


def _in_duckdb(fields: Sequence[Field]) -> list[str]:
    said = [f"coalesce(sum({field.name}), 0)" for field in fields if field.type == "BIGINT" and not field.digest]
    parts = [
        f"epoch_us({field.name})" if field.type == _MICROSECONDS else field.name for field in fields if field.digest
    ]
    if parts:
        said.append(f"sum(('0x' || left(md5(concat_ws('|', {', '.join(parts)})), 15))::BIGINT)")
    return said


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Postgres:
    """A connection as the reader, whose answers stream into DuckDB as they come."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings) -> Iterator["_Postgres"]:
        """Until the block ends."""
        with dbapi.connect(settings.reader_database_url or settings.database_url, autocommit=True) as connection:
            postgres = cls(connection)
            if settings.reader_database_url is None:
                postgres._do(f"SET ROLE {READER}")
            postgres._do("SET timezone = 'UTC'")
            yield postgres

    def begin(self, tenant: int) -> Snapshot:
        """From now on everything is seen as it is at this moment."""
        self._do("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Whole tables, each asked once: they want memory and time, and no compiler.
        for setting in ("work_mem = '128MB'", "jit = off", "search_path = public"):
            self._do(f"SET LOCAL {setting}")
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            self._do(f"SET LOCAL {limit} = 0")
        return Snapshot(*self.rows(_SNAPSHOT.format(tenant=tenant))[0])

    def end(self) -> None:
        """Let go of that moment, which keeps PostgreSQL from clearing away what is older; the lock stays."""
        self._do("COMMIT")

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """All of a short answer."""
        with duckdb.connect(config={"threads": 1}) as memory, self._asking(question) as answer:
            memory.register("answer", answer)
            return memory.execute("FROM answer").fetchall()

    def value(self, question: str) -> Any:
        """An answer of one cell."""
        return self.rows(question)[0][0]

    def into(self, store: duckdb.DuckDBPyConnection, table: str, question: str) -> None:
        """A long answer, row by row into a table of the store."""
        with self._asking(question) as answer:
            store.register("answer", answer)
            store.execute(f"INSERT INTO {table} SELECT * FROM answer")
            store.unregister("answer")

    @contextmanager
    def _asking(self, question: str) -> Iterator[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(question)
            yield cursor.fetch_arrow()

    def _do(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)


# The identifier tells a restored dump, the timeline a server that has gone back to an instant, the number of the
# database one that was made anew beside.
_SNAPSHOT: Final = """
SELECT c.system_identifier || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.' || d.oid,
  pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, tenant_clock({tenant}), clock_timestamp()
FROM pg_current_snapshot() s, pg_control_system() c, pg_database d WHERE d.datname = current_database()
"""

# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

TABLES: Final = tables(FLOWS)
SHAPE: Final = hashlib.sha256("\n".join(repr((t.definition, t.columns, t.source)) for t in TABLES).encode()).hexdigest()
_LIMITS: Final[dict[str, Any]] = {"memory_limit": MEMORY, "threads": THREADS, "preserve_insertion_order": False}


def _about(file: Path) -> dict[str, Any] | None:
    """What a store says about itself; None where there is none, or nothing that can be read."""
    with suppress(duckdb.Error), duckdb.connect(file, read_only=True) as store:
        names = [field.name for field in ABOUT.fields]
        row = store.execute(f"SELECT {', '.join(names)} FROM about").fetchone()
        return dict(zip(names, row, strict=True)) if row else None
    return None


def _count(store: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(_one(store, f"SELECT count(*) FROM {table}"))


def _one(store: duckdb.DuckDBPyConnection, question: str) -> Any:
    row = store.execute(question).fetchone()
    assert row is not None, "one row"
    return row[0]


def _months(store: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    return {row[0] for row in store.execute(f"SELECT DISTINCT strftime(day, '%Y-%m') FROM {table}").fetchall()}


def _number(version: Path) -> int:
    digits = version.stem.removeprefix("store-")
    return int(digits) if digits.isdecimal() else 0


def _link_aside(place: Place) -> Path:
    return place.versions / "link.new"


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
