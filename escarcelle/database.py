"""Making and changing the database: roles, migrations, and issuers."""

import asyncio
import secrets
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import asyncpg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import domain.copies
import domain.jobs
import domain.payments
import domain.publications
import domain.support
import domain.vouchers  # noqa: F401 — every table must be declared before migrations are compared
from domain import fields, users
from domain.access import Actor, Role
from domain.appearance import OWN_ACCENT, Appearance, checked_accent, checked_mark
from domain.bank_accounts import PayingAccount, checked_account
from domain.codes import new_id
from domain.db import APP, OWNER, READER, RELAY, Database, Entity, Row, connect_as, metadata
from domain.errors import Refused
from domain.ledger import AccountKind
from domain.parties import Address, Issuer
from domain.reimbursements import ReimbursedFlow, ReimbursementSchedule, ReimbursementTerms, set_schedule
from domain.settings import Settings
from domain.sign_in import hashed
from domain.vouchers import VoucherKind
from domain.work import Work, perform

DATABASE: Final = "escarcelle"


def prepare(superuser_url: str, passwords: Mapping[str, str]) -> None:
    """On a PostgreSQL of our own: make the four roles with these passwords, and the database, where missing."""
    asyncio.run(_prepare(superuser_url, passwords))


def migrate(settings: Settings) -> None:
    """Bring the database up to this program's revision. Raises what PostgreSQL refuses with."""
    asyncio.run(_with_connection(settings, lambda config: command.upgrade(config, "head")))


def revise(settings: Settings, message: str) -> None:
    """Write a migration from the difference between the declared tables and a migrated database."""
    asyncio.run(_with_connection(settings, lambda config: command.revision(config, message, autogenerate=True)))


def newest_revision() -> str:
    """The revision this program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the program ships with migrations"
    return head


def create_issuer(settings: Settings, *, slug: str, name: str, admin_login: str, admin_email: str) -> str:
    """A real issuer and its first administrator; returns the administrator's password, which is kept nowhere.
    Raises Refused for a slug that is taken, or a wrong login or e-mail."""
    return asyncio.run(_create_issuer(settings, slug, name, admin_login, admin_email))


def set_rules(settings: Settings, slug: str, **rules: int | None) -> None:
    """Set an issuer's payment rules (P14, AP2, AP5, AP7): `minimum_amount` in cents, `maximum_payment_days`,
    `maximum_validation_days`, `immediate_minutes`, and what `warning_hours` gives. Requests made before keep what they
    were made with. Raises Refused for an unknown issuer or a rule out of bounds."""
    asyncio.run(_set_rules(settings, slug, rules))


def set_support(settings: Settings, slug: str, **given: str) -> None:
    """Set where an issuer answers questions: `phone`, `email`, `hours_fr`, `hours_en`; an empty one goes. Raises
    Refused for an unknown issuer or what is no e-mail address."""
    asyncio.run(_set_support(settings, slug, given))


def set_voucher_kind(settings: Settings, slug: str, **kind: Any) -> None:
    """Set one of an issuer's kinds of vouchers, found by its code (AV1, AV5, AV7); the fields are VoucherKind's.
    Raises Refused for an unknown issuer or a field out of bounds."""
    asyncio.run(put_voucher_kind(settings, slug, kind))


def set_terms(
    settings: Settings, slug: str, flow: ReimbursedFlow, since: date, commission_percent: str, business_days: int
) -> None:
    """Set what an issuer keeps of what it reimburses from a civil day on, in percent, and within how many TARGET
    business days it pays. Raises Refused for an unknown issuer or a value out of bounds."""
    asyncio.run(put_terms(settings, slug, flow, since, commission_percent, business_days))


def set_paying_account(
    settings: Settings, slug: str, iban: str, bic: str | None, holder: str, address: Address
) -> None:
    """Set the account that an issuer reimburses from. Raises Refused for an unknown issuer or an invalid account."""
    asyncio.run(put_paying_account(settings, slug, iban, bic, holder, address))


def set_appearance(settings: Settings, slug: str, **appearance: str | bytes | None) -> None:
    """Set how an issuer shows itself: `accent`, a colour as `#rrggbb`, and `mark`, a PNG picture or None. Raises
    Refused for an unknown issuer or what cannot be shown."""
    asyncio.run(put_appearance(settings, slug, appearance))


def set_reimbursement_runs(settings: Settings, slug: str, *, automatic: bool) -> date:
    """Set whether an issuer's runs of reimbursements begin by themselves; returns the next day on which they do. Raises
    Refused for an unknown issuer."""
    return asyncio.run(put_reimbursement_runs(settings, slug, automatic=automatic))


def warning_hours(text: str) -> dict[str, int | None]:
    """The rules behind "8-20", or "off". Raises Refused (INVALID) for anything else."""
    if text == "off":
        return {"warning_from_hour": None, "warning_until_hour": None}
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and 0 <= int(first) < int(last) <= 24):
        raise Refused.invalid(
            "warning_hours", "Exemple attendu : 8-20, ou off.", "Expected, for example: 8-20, or off."
        )
    return {"warning_from_hour": int(first), "warning_until_hour": int(last)}


async def insert_issuer(settings: Settings, **values: Any) -> Actor:
    """The issuer's row, its tenant and its accounts; returns the system acting for it. Only the owner may do this."""
    connection = await connect_as(settings, OWNER)
    try:
        now = await connection.fetchval("SELECT clock_timestamp()")
        issuer = Issuer(tenant=0, id=new_id(), created_at=now, **values)
        names = [name for name in Issuer.columns if name != "tenant"]
        tenant = await connection.fetchval(
            f"INSERT INTO issuers ({', '.join(names)}) VALUES ({', '.join(f'${n}' for n, _ in enumerate(names, 1))})"  # noqa: S608 — the names are the table's
            " RETURNING tenant",
            *(getattr(issuer, name) for name in names),
        )
    finally:
        await connection.close()
    return Actor(tenant)


async def open_issuer_accounts(work: Work, actor: Actor) -> None:
    """The accounts that count what the issuer has brought into circulation, paid to merchants, and kept."""
    await work.take()
    row = (await work.read(sa.select(*Issuer.selected())))[0]
    issuer = Issuer.from_row(row)
    for kind in (AccountKind.FUNDING, AccountKind.BANK, AccountKind.COMMISSION):
        work.open_account(issuer.id, kind)
    work.note("create", issuer)


async def _set_rules(settings: Settings, slug: str, rules: Mapping[str, int | None]) -> None:
    for name, value in rules.items():
        if value is not None and not name.startswith("warning_") and not 1 <= value <= 100_000_000:
            raise Refused.invalid(name, "Cette valeur est hors limites.", "This value is out of bounds.")
    await _update_issuer(settings, slug, rules)


async def _set_support(settings: Settings, slug: str, given: Mapping[str, str]) -> None:
    said = {name: fields.optional_line(text, name) for name, text in given.items()}
    if "email" in said:
        said["email"] = fields.email(said["email"], "email")
    await _update_issuer(settings, slug, {f"support_{name}": text for name, text in said.items()})


async def _update_issuer(settings: Settings, slug: str, values: Mapping[str, object]) -> None:
    sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(values, 2))
    connection = await connect_as(settings, OWNER)
    try:
        changed = await connection.execute(
            f"UPDATE issuers SET {sets} WHERE slug = $1",  # noqa: S608 — the names are the command line's own
            slug,
            *values.values(),
        )
    finally:
        await connection.close()
    if changed != "UPDATE 1":
        raise Refused.not_found()


async def put_voucher_kind(settings: Settings, slug: str, kind: Mapping[str, Any]) -> None:
    """The same, for who is awaited already."""
    given = {name: value.strip() if isinstance(value, str) else value for name, value in kind.items()}
    await _put(settings, slug, VoucherKind, "(tenant, code)", given)


async def put_terms(
    settings: Settings, slug: str, flow: ReimbursedFlow, since: date, commission_percent: str, business_days: int
) -> None:
    """The same, for who is awaited already."""
    try:
        percent = Decimal(commission_percent.replace(",", "."))
    except InvalidOperation:
        raise Refused.invalid("commission", "Exemple attendu : 2.5", "Expected, for example: 2.5") from None
    await _require_unpaid(settings, slug, since)
    await _put(
        settings,
        slug,
        ReimbursementTerms,
        "(tenant, flow, valid_from)",
        {"flow": str(flow), "valid_from": since, "commission_percent": percent, "business_days": business_days},
    )


async def _require_unpaid(settings: Settings, slug: str, since: date) -> None:
    """Raises Refused when operations of these days were reimbursed on other terms already."""
    connection = await connect_as(settings, OWNER)
    try:
        paid = await connection.fetchval(
            "SELECT max(r.period_end) FROM reimbursements r JOIN issuers i ON i.tenant = r.tenant"
            " WHERE i.slug = $1 AND r.period_end >= $2",
            slug,
            since,
        )
    finally:
        await connection.close()
    if paid is not None:
        raise Refused.invalid(
            "from",
            "Des opérations jusqu’au {paid} sont déjà remboursées : choisissez un jour après.",
            "Operations until {paid} are reimbursed already: choose a later day.",
            paid=f"{paid:%d/%m/%Y}",
        )


async def put_paying_account(
    settings: Settings, slug: str, iban: str, bic: str | None, holder: str, address: Address
) -> None:
    """The same, for who is awaited already."""
    await _put(settings, slug, PayingAccount, "(tenant)", checked_account(iban, bic, holder, address))


async def put_appearance(settings: Settings, slug: str, given: Mapping[str, Any]) -> None:
    """The same, for who is awaited already."""
    kept = {"accent": OWN_ACCENT} | dict(given)
    kept["accent"] = checked_accent(kept["accent"])
    if kept.get("mark") is not None:
        kept["mark"] = checked_mark(kept["mark"])
    await _put(settings, slug, Appearance, "(tenant)", kept, changed=given)


async def put_reimbursement_runs(settings: Settings, slug: str, *, automatic: bool) -> date:
    """The same, for who is awaited already."""
    connection = await connect_as(settings, OWNER)
    try:
        tenant = await connection.fetchval("SELECT tenant FROM issuers WHERE slug = $1", slug)
    finally:
        await connection.close()
    if tenant is None:
        raise Refused.not_found()
    database = Database(settings)
    await database.open()
    try:
        schedule = await perform(database, Actor(tenant), set_schedule, active=automatic)
    finally:
        await database.close()
    assert isinstance(schedule, ReimbursementSchedule), "no key leads to an earlier answer"
    return schedule.next_run_on


async def _put(
    settings: Settings,
    slug: str,
    row: type[Row],
    key: str,
    given: Mapping[str, Any],
    changed: Collection[str] | None = None,
) -> None:
    """Insert a row that only the owner may write, or change what it has `changed` of it: all, unless named. Raises
    Refused."""
    values = {name: f"${n}" for n, name in enumerate(given, 2)}
    if issubclass(row, Entity):
        # Only a new one gets them.
        values |= {"id": f"'{new_id()}'", "created_at": "clock_timestamp()"}
    columns, places = ", ".join(values), ", ".join(values.values())
    changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in (given if changed is None else changed))
    connection = await connect_as(settings, OWNER)
    try:
        done = await connection.execute(
            f"INSERT INTO {row.table.name} (tenant, {columns})"  # noqa: S608 — the names are our own
            f" SELECT tenant, {places} FROM issuers WHERE slug = $1 ON CONFLICT {key} DO UPDATE SET {changes}",
            slug,
            *given.values(),
        )
    except asyncpg.CheckViolationError as error:
        # The constraint is named after the fields it is about.
        field = str(error.constraint_name).removeprefix(f"{row.table.name}_").removesuffix("_check")
        raise Refused.invalid(field, "Cette valeur est hors limites.", "This value is out of bounds.") from None
    finally:
        await connection.close()
    if done != "INSERT 0 1":
        raise Refused.not_found()


async def _create_issuer(settings: Settings, slug: str, name: str, admin_login: str, admin_email: str) -> str:
    password = secrets.token_urlsafe(12)
    try:
        actor = await insert_issuer(settings, slug=slug, name=name)
    except asyncpg.UniqueViolationError:
        raise Refused.invalid("slug", "Cet émetteur existe déjà.", "This issuer already exists.") from None
    database = Database(settings)
    await database.open()
    try:
        await perform(database, actor, open_issuer_accounts)
        await perform(
            database,
            actor,
            users.create,
            login=admin_login,
            name=admin_login,
            email=admin_email,
            role=Role.ISSUER_ADMIN,
            password_hash=await hashed(password),
            temporary=True,
        )
    finally:
        await database.close()
    return password


async def _prepare(superuser_url: str, passwords: Mapping[str, str]) -> None:
    connection = await asyncpg.connect(superuser_url)
    try:
        for role in (OWNER, APP, RELAY, READER):
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
                await connection.execute(f"CREATE ROLE {role} LOGIN")
            statement = await connection.fetchval(
                "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", role, passwords[role]
            )
            await connection.execute(statement)
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
    finally:
        await connection.close()


async def _with_connection(settings: Settings, act: Callable[[Config], object]) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", connect_args={"dsn": settings.database_url}, poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            await connection.execute(sa.text(f"SET ROLE {OWNER}"))
            # Two programs that start at once migrate one after the other.
            await connection.execute(sa.text("SELECT pg_advisory_lock(hashtext('escarcelle migrations'))"))
            await connection.commit()

            def run(sync: sa.Connection) -> None:
                config = _config()
                config.attributes["connection"] = sync
                config.attributes["metadata"] = metadata
                act(config)

            await connection.run_sync(run)
            await connection.commit()
    finally:
        await engine.dispose()


def _config() -> Config:
    config = Config(stdout=sys.stderr)
    packed = Path(__file__).parent / "migrations"
    # From a checkout the migrations stand beside the package; in the wheel, inside it.
    place = packed if packed.is_dir() else Path(__file__).parent.parent / "alembic"
    config.set_main_option("script_location", str(place).replace("%", "%%"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.set_main_option("path_separator", "os")
    return config
