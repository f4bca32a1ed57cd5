"""The database: tables declared once, as entities; connections; and the tenant set before anything is read.

An entity is a light object and its table at once. Deeds load and write entities through `work`; questions read them
through SQLAlchemy. Nothing here tracks changes."""

import asyncio
import dataclasses
import types
import typing
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Final, Generic, Literal, Self, TypeVar, cast, dataclass_transform
from uuid import UUID

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.codes import global_id
from domain.herald import Herald
from domain.settings import Settings, SettingsInvalid

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


@dataclasses.dataclass(frozen=True)
class Protection:
    """What the database holds for a table besides its columns: what the application's and the relay's role may do,
    whether the reader sees it, whether rows are never touched again, whether the tenant wall stands, storage
    parameters. Migrations make it; a test compares the catalogue with it."""

    app: str
    relay: str
    reader: bool
    append_only: bool
    walled: bool
    options: Mapping[str, Any]


PROTECTION: dict[str, Protection] = {}
"""Every table's protection."""

R_co = TypeVar("R_co", covariant=True)

OWNER, APP, RELAY, READER = "escarcelle_owner", "escarcelle_app", "escarcelle_relay", "escarcelle_reader"
"""The four roles: migrations; API and workers, behind the tenant wall; the relay; audit and nightly jobs."""


class TransactionNumber(sa.types.UserDefinedType[str]):
    """PostgreSQL's xid8: which transaction wrote a row."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in SQL."""
        return "xid8"


_SQL_TYPES: Mapping[Any, sa.types.TypeEngine[Any]] = {
    UUID: postgresql.UUID(as_uuid=True),
    str: sa.Text(),
    int: sa.BigInteger(),
    bool: sa.Boolean(),
    bytes: sa.LargeBinary(),
    date: sa.Date(),
    datetime: sa.TIMESTAMP(timezone=True),
    timedelta: postgresql.INTERVAL(),
    Decimal: sa.Numeric(),
    dict: postgresql.JSONB(),
    list: postgresql.ARRAY(sa.Text()),
}


def column(
    *,
    default: Any = dataclasses.MISSING,
    references: str | None = None,
    unique: bool = False,
    index: bool = False,
    sql: sa.types.TypeEngine[Any] | None = None,
    where_missing: str | None = None,
) -> Any:
    """A column with more to say than its type. `references` names a table: the foreign key carries the tenant too,
    since a plain one would cross the wall. `unique` and `index` hold within a tenant. `where_missing`, in SQL, is what
    rows get from a program of the revision before, which does not know the column."""
    options = {"references": references, "unique": unique, "index": index, "sql": sql, "where_missing": where_missing}
    return dataclasses.field(default=default, metadata=options)


def computed(
    server: sa.TextClause | sa.Identity, *, sql: sa.types.TypeEngine[Any] | None = None, init: Literal[False] = False
) -> Any:
    """A column that the database fills in; we never write it."""
    return dataclasses.field(default=None, init=init, metadata={"server": server, "sql": sql})


@dataclass_transform(kw_only_default=True, field_specifiers=(column, computed))
@dataclasses.dataclass(kw_only=True, eq=False)
class Row:
    """A row of one table, of one tenant."""

    table: ClassVar[sa.Table]
    prefix: ClassVar[str]
    identity: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]
    _enums: ClassVar[tuple[tuple[str, type[StrEnum]], ...]]

    tenant: int

    def __init_subclass__(
        cls,
        *,
        table: str | None = None,
        prefix: str = "",
        key: Sequence[str] = ("id",),
        app: str = "SELECT, INSERT, UPDATE",
        relay: str = "",
        reader: bool = True,
        append_only: bool = False,
        constraints: Sequence[sa.Constraint | sa.Index] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`key` identifies the row within its tenant; `prefix` begins its global identifier ("preq"); `app` and `relay`
        are what those roles may do to the rows; the reader reads all but secrets; `options` are PostgreSQL's storage
        parameters."""
        dataclasses.dataclass(kw_only=True, eq=False)(cls)
        if table is None:
            return
        hints = typing.get_type_hints(cls)
        columns: list[sa.Column[Any]] = []
        rules: list[sa.Constraint | sa.Index] = [sa.PrimaryKeyConstraint("tenant", *key)]
        enums: list[tuple[str, type[StrEnum]]] = []
        for field in dataclasses.fields(cls):
            name, says = field.name, field.metadata
            kind, nullable = _without_none(hints[name])
            if isinstance(kind, type) and issubclass(kind, StrEnum):
                enums.append((name, kind))
                values = ", ".join(f"'{value}'" for value in kind)
                rules.append(sa.CheckConstraint(f"{name} IN ({values})", name=name))
            sql = sa.Integer() if name == "tenant" else says.get("sql") or _sql_type(kind)
            server = sa.Identity() if (table, name) == ("issuers", "tenant") else says.get("server")
            computed = [server] if isinstance(server, sa.Identity) else []
            if says.get("where_missing"):
                server = sa.text(says["where_missing"])
            columns.append(
                sa.Column(name, sql, *computed, nullable=nullable, server_default=None if computed else server)
            )
            if references := says.get("references"):
                rules.append(sa.ForeignKeyConstraint(["tenant", name], [f"{references}.tenant", f"{references}.id"]))
            if says.get("unique"):
                rules.append(sa.UniqueConstraint("tenant", name))
            if says.get("index"):
                rules.append(sa.Index(None, "tenant", name))
        cls.prefix = prefix
        cls.identity = tuple(key)
        cls.columns = tuple(field.name for field in dataclasses.fields(cls) if "server" not in field.metadata)
        cls._enums = tuple(enums)
        cls.table = sa.Table(table, metadata, *columns, *rules, *constraints)
        PROTECTION[table] = Protection(app, relay, reader, append_only, walled=True, options=dict(options or {}))

    @classmethod
    def by(cls, **where: object) -> "Locator[Self]":
        """The one row with these values; a deed that takes it is refused (NOT_FOUND) when there is none. A tuple means
        one of its values."""
        return Locator(cls, where, required=True)

    @classmethod
    def maybe(cls, **where: object) -> "Locator[Self | None]":
        """The one row with these values, or None."""
        return Locator(cls, where, required=False)

    @classmethod
    def from_row(cls, values: Sequence[Any]) -> Self:
        """Make the object from its columns' values, in the order of `columns`."""
        entity = cls.__new__(cls)
        fields = entity.__dict__
        fields.update(zip(cls.columns, values, strict=True))
        for name, kind in cls._enums:
            if fields[name] is not None:
                fields[name] = kind(fields[name])
        return entity

    @classmethod
    def selected(cls) -> list[sa.ColumnElement[Any]]:
        """The table's columns, in the order `from_row` expects."""
        return [cls.table.c[name] for name in cls.columns]


@dataclasses.dataclass(frozen=True)
class Locator(Generic[R_co]):
    """Where to find one row."""

    row: type[Row]
    where: Mapping[str, object]
    required: bool


class Entity(Row):
    """A row with an identifier of its own."""

    id: UUID

    @property
    def global_id(self) -> str:
        """The identifier that the API shows."""
        return global_id(self.prefix, self.tenant, self.id)


def _without_none(kind: Any) -> tuple[Any, bool]:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kinds = [k for k in typing.get_args(kind) if k is not types.NoneType]
        return kinds[0], True
    return kind, False


def _sql_type(kind: Any) -> sa.types.TypeEngine[Any]:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return sa.Text()
    return _SQL_TYPES[typing.get_origin(kind) or kind]


@dataclasses.dataclass(frozen=True, slots=True)
class PoolUse:
    """One pool's connections at this moment: how many there are and may be, are used, are waited for."""

    most: int
    open: int
    in_use: int
    waiting: int


_DEAD: Final = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)
"""What a connection says that its server has left."""

BY_INDEX: Final = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "enable_seqscan": "off",
}
"""A deed's statements look for a few rows by their keys. With figures of yesterday, when the table was small, the
planner would read all of an issuer's rows instead, and keep that plan."""


class Database:
    """The connections of one process, as the application's role: a pool for deeds, an engine for questions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.shares_commits = settings.share_commits
        self.herald = Herald(settings.redis_url)
        self._deeds: asyncpg.Pool | None = None
        self._turns = asyncio.Semaphore(settings.deed_connections)
        self._deeds_wanted = self._questions_wanted = 0
        self._questions: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            pool_size=settings.question_connections,
            max_overflow=0,
            pool_timeout=10,
            pool_reset_on_return=None,
            # Transactions are begun and ended by `_asking`, with the tenant in the same message.
            isolation_level="AUTOCOMMIT",
            connect_args={
                # Read by asyncpg alone: SQLAlchemy does not know an address's sslmode.
                "dsn": settings.app_database_url or settings.database_url,
                "server_settings": _session(settings.app_database_url is None, APP),
            },
        )

    async def open(self) -> None:
        """Connect. Raises SettingsInvalid as a role that row security does not hold: a superuser walks through the
        tenant wall without a word; and what asyncpg raises when the database cannot be reached."""
        self._deeds = await asyncpg.create_pool(
            self._settings.app_database_url or self._settings.database_url,
            min_size=1,
            max_size=self._settings.deed_connections,
            reset=_leave_as_is,
            init=_read_json,
            server_settings=_session(self._settings.app_database_url is None, APP) | BY_INDEX,
        )

        try:
            async with self.connection() as connection:
                await _require_wall(connection)
        except SettingsInvalid:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of every connection."""
        if self._deeds is not None:
            await self._deeds.close()
        await self._questions.dispose()
        await self.herald.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A bare connection for a deed. First come, first served: the pool alone hands the newest connection to whoever
        asks at that moment, and those who wait may wait for a second."""
        assert self._deeds is not None, "open() comes first"
        self._deeds_wanted += 1
        try:
            async with self._turns, self._deeds.acquire() as connection:
                yield connection
        finally:
            self._deeds_wanted -= 1

    @asynccontextmanager
    async def reading(self, tenant: int) -> AsyncIterator[AsyncConnection]:
        """A transaction for questions, behind the tenant's wall."""
        async with self._asking(f"BEGIN; SET LOCAL app.tenant = '{tenant:d}'") as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self, tenant: int) -> AsyncIterator[AsyncConnection]:
        """A transaction for long questions, behind the tenant's wall: they all see the data as the first one does."""
        begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL app.tenant = '{tenant:d}'"
        async with self._asking(begin) as connection:
            yield connection

    def use(self) -> dict[str, PoolUse]:
        """How the connections for deeds and for questions are used."""
        deeds, questions = self._deeds, cast(sa.pool.QueuePool, self._questions.pool)
        deeds_open = deeds.get_size() if deeds is not None else 0
        deeds_used = deeds_open - deeds.get_idle_size() if deeds is not None else 0
        asking = questions.checkedout()
        return {
            "deeds": PoolUse(
                self._settings.deed_connections, deeds_open, deeds_used, max(0, self._deeds_wanted - deeds_used)
            ),
            "questions": PoolUse(
                questions.size(), questions.checkedin() + asking, asking, max(0, self._questions_wanted - asking)
            ),
        }

    @asynccontextmanager
    async def _asking(self, begin: str) -> AsyncIterator[AsyncConnection]:
        self._questions_wanted += 1
        connection = None
        try:
            connection, driver = await self._begun(begin)
            try:
                yield connection
            finally:
                try:
                    await driver.execute("COMMIT")
                except _DEAD:
                    await connection.invalidate()
        finally:
            self._questions_wanted -= 1
            if connection is not None:
                await connection.close()

    async def _begun(self, begin: str) -> tuple[AsyncConnection, asyncpg.Connection]:
        """A connection in a transaction, and the driver's own view of it. Those that died while nobody used them, as
        all do when PostgreSQL is restarted, are passed over: a question is not run again, so it must not find them."""
        for may_be_dead in (*[True] * self._settings.question_connections, False):
            connection = await self._questions.connect()
            try:
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                await driver.execute(begin)
                return connection, driver
            except BaseException as error:
                await connection.invalidate()
                await connection.close()
                if not (may_be_dead and isinstance(error, _DEAD)):
                    raise
        raise AssertionError("unreachable")


async def refuse_above_the_wall(settings: Settings) -> None:
    """Raises SettingsInvalid when the application would act as a role that row security does not hold. A database that
    is away is asked when it is there: `Database.open` asks too."""
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await connect_as(settings, APP)
        try:
            await _require_wall(connection)
        finally:
            await connection.close()


async def _require_wall(connection: asyncpg.Connection) -> None:
    if await connection.fetchval(_UNWALLED):
        raise SettingsInvalid(
            "APP_DATABASE_URL: this database user is above the tenant wall (superuser, owner, relay, reader, or exempt"
            f" from row security): use one that may only act as {APP}"
        )


_UNWALLED = """
SELECT bool_or(rolsuper OR rolbypassrls)
    OR pg_has_role(current_user, 'escarcelle_owner', 'USAGE')
    OR pg_has_role(current_user, 'escarcelle_relay', 'USAGE')
    OR pg_has_role(current_user, 'escarcelle_reader', 'USAGE')
FROM pg_roles WHERE rolname = current_user OR (rolname = session_user AND rolsuper)
"""


async def _read_json(connection: asyncpg.Connection) -> None:
    """Documents come as objects; `work` writes them as text that it has made already."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda document: document, decoder=orjson.loads
    )


async def _leave_as_is(connection: asyncpg.Connection) -> None:
    """Our sessions never change what a reset would undo: the tenant is set for a transaction only."""


def _session(takes_role: bool, role: str) -> dict[str, str]:
    # Where the zone has summer time, days that are added to an instant may have 23 or 25 hours.
    return {"application_name": "escarcelle", "timezone": "UTC"} | ({"role": role} if takes_role else {})


async def connect_as(settings: Settings, role: str) -> asyncpg.Connection:
    """One connection of its own as the relay or the reader."""
    own = {APP: settings.app_database_url, RELAY: settings.relay_database_url, READER: settings.reader_database_url}
    return await asyncpg.connect(
        own.get(role) or settings.database_url, server_settings=_session(own.get(role) is None, role)
    )
