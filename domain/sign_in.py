"""Signing in: passwords, sessions, the devices that are known, and the lock after three wrong passwords (P1, P2).

Wrong passwords are counted by login, whether or not anyone has it, so that no answer tells who exists. The third one
locks; a mailed link unlocks. Who knows a login could so keep its owner out for good, were it not that a device from
which its owner has signed in before counts its own wrong passwords: strangers lock strangers out, not the owner. The
mailed link makes the owner's device a known one too, so that a new lock a minute later does not touch it."""

import asyncio
import contextvars
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg
import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import fields, push
from domain.access import Actor, Right, Role, User, login_key, tenant_of_slug
from domain.codes import digest, new_id, new_token, tenant_of_token
from domain.db import Database, Entity, Row, column
from domain.errors import RefusalCode, Refused
from domain.lifecycle import Lifecycle
from domain.notices import Letter, Notice, writes
from domain.texts import Locale, Text
from domain.work import Work, perform

# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class SessionStatus(StrEnum):
    """ENDED: signed out or revoked."""

    OPEN = "OPEN"
    ENDED = "ENDED"


class ResetStatus(StrEnum):
    """USED: a link works once."""

    SENT = "SENT"
    USED = "USED"


class ResetReason(StrEnum):
    """Why the link was mailed: asked for, after a lock, or to a new user."""

    ASKED = "ASKED"
    LOCKED = "LOCKED"
    INVITED = "INVITED"


# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Password(Row, table="passwords", key=("user_id",), reader=False):
    """A user's password, hashed (argon2id). A temporary one opens nothing but `changePassword`. Links mailed before
    `links_since` are dead: the password or the address has changed since."""

    user_id: UUID = column(references="users")
    hash: str
    temporary: bool = False
    links_since: datetime


class Session(
    Entity,
    table="sessions",
    prefix="sess",
    reader=False,
    constraints=(sa.UniqueConstraint("token_digest"), sa.Index("sessions_user_idx", "tenant", "user_id")),
):
    """Where a user is signed in. The token itself is nowhere: only its digest. `last_seen_at` may be SEEN_EVERY old."""

    user_id: UUID = column(references="users")
    status: SessionStatus
    token_digest: bytes
    description: str | None = None
    started_at: datetime
    last_seen_at: datetime = column(where_missing="clock_timestamp()")
    expires_at: datetime
    ended_at: datetime | None = None
    version: int = 0


class Device(Entity, table="devices", prefix="devc", reader=False, constraints=(sa.UniqueConstraint("token_digest"),)):
    """A device from which a user has signed in, or opened a mailed link: it bears a token of its own."""

    user_id: UUID = column(references="users", index=True)
    token_digest: bytes
    created_at: datetime


class SignInGuard(
    Row,
    table="sign_in_guards",
    key=("login_key", "device_id"),
    app="SELECT, INSERT, UPDATE, DELETE",
    reader=False,
):
    """Wrong passwords in a row for one login, from one known device or from all unknown ones together."""

    login_key: str
    device_id: UUID
    failures: int
    locked_at: datetime | None = None
    changed_at: datetime


class PasswordReset(Entity, table="password_resets", prefix="pwrs"):
    """A mailed link that sets a new password, once. The link is signed, not stored."""

    user_id: UUID = column(references="users", index=True)
    status: ResetStatus
    reason: ResetReason
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None


SESSION_LIFE: Final = Lifecycle(Session, {("end", SessionStatus.OPEN): SessionStatus.ENDED})
RESET_LIFE: Final = Lifecycle(PasswordReset, {("use", ResetStatus.SENT): ResetStatus.USED})

UNKNOWN_DEVICES: Final = UUID(int=0)
"""The guard that all devices share from which nobody has signed in yet."""

WRONG_PASSWORDS_BEFORE_LOCK: Final = 3
SHORTEST_PASSWORD: Final = 10
SEEN_EVERY: Final = timedelta(minutes=5)
"""How often it is written down that a session is in use."""

RESET_LASTS: Final = timedelta(hours=1)
INVITATION_LASTS: Final = timedelta(days=7)
RESET_LINK: Final = "password reset"
"""What the signature of a mailed link is for."""

_HASHER: Final = PasswordHasher()
_NOBODY: Final = _HASHER.hash("nobody's password, to spend the same time on")
_HASHING = asyncio.Semaphore(2)
"""Each hash takes a core and 64 MiB for a while: only so many at once."""

_LOCKED: Final = Text(
    "Accès bloqué après trois mots de passe erronés : passez par « Mot de passe oublié ».",
    "Locked after three wrong passwords: use “Forgotten password”.",
)

# ── around the deeds: passwords are checked and hashed in a thread, before any lock ───────────────────────────────────


async def sign_in(
    database: Database,
    issuer_slug: str,
    login: str,
    password: str,
    lasts: timedelta,
    description: str | None,
    device_token: str | None = None,
) -> tuple[str, str | None]:
    """Open a session (P1); returns its token and, on a device not known before, the token that makes it known. Neither
    is kept anywhere.

    Raises Refused: INVALID for what is missing; BAD_CREDENTIALS alike for an unknown issuer, an unknown login, a wrong
    password or a closed account, with the tries that are left; ACCOUNT_LOCKED from the third wrong one on (P2)."""
    login = fields.line(login, "input.login")
    if not password:
        raise Refused.invalid("input.password", "Ce champ est obligatoire.", "This field is required.")
    tenant = await tenant_of_slug(database, issuer_slug)
    if tenant is None:
        await _is_right(_NOBODY, password)
        raise _wrong(WRONG_PASSWORDS_BEFORE_LOCK - 1)
    user_id, stored, device_id = await _credentials(database, tenant, login, device_token)
    right = await _is_right(stored, password)
    token, new_device = new_token(tenant), new_token(tenant) if device_id == UNKNOWN_DEVICES else None
    await perform(
        database,
        Actor(tenant, user_id),
        try_sign_in,
        login_key=login_key(login),
        device_id=device_id,
        right=right,
        checked_hash=stored,
        token_digest=digest(token),
        device_digest=digest(new_device) if new_device else None,
        lasts=lasts,
        description=description,
    )
    return token, new_device


async def change_password(
    database: Database, actor: Actor, current: str, new: str, lasts: timedelta, description: str | None
) -> str:
    """The user sets a new password, and a new session replaces all others; returns its token. Raises Refused:
    BAD_CREDENTIALS for a wrong current password, INVALID for a new one that will not do."""
    _check_new_password(new, "input.newPassword")
    await require_password(database, actor, current)
    token = new_token(actor.tenant)
    await perform(database, actor, set_password, await hashed(new), digest(token), lasts, description)
    return token


async def require_password(database: Database, actor: Actor, current: str) -> None:
    """The user proves once more to be who has signed in. Raises Refused (BAD_CREDENTIALS)."""
    async with database.reading(actor.tenant) as connection:
        stored = await connection.scalar(
            sa.select(Password.table.c.hash).where(Password.table.c.user_id == actor.user_id)
        )
    if not await _is_right(stored or _NOBODY, current):
        raise Refused(
            RefusalCode.BAD_CREDENTIALS,
            Text("Le mot de passe actuel est erroné.", "The current password is wrong."),
            field="input.currentPassword",
        )


async def reset_password(database: Database, tenant: int, reset_id: UUID, new: str) -> str:
    """The bearer of a mailed link sets a new password; returns a token that makes the device a known one. Raises
    Refused: NOT_FOUND for a link that leads nowhere, TOO_LATE for one that is used or over, INVALID for the
    password."""
    _check_new_password(new, "input.newPassword")
    device_token = new_token(tenant)
    await perform(database, Actor(tenant), use_reset, reset_id, await hashed(new), digest(device_token))
    return device_token


async def request_reset(database: Database, issuer_slug: str, login: str) -> None:
    """Mail a link to the user of that login, if there is one with an e-mail address; nobody is told."""
    login = fields.line(login, "input.login")
    tenant = await tenant_of_slug(database, issuer_slug)
    if tenant is None:
        return
    user_id, _, _ = await _credentials(database, tenant, login, None)
    if user_id is not None:
        await perform(database, Actor(tenant), send_reset, user_id, ResetReason.ASKED)


async def hashed(password: str) -> str:
    """The password's argon2id hash, made in a thread."""
    async with _HASHING:
        return await asyncio.to_thread(_HASHER.hash, password)


# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def try_sign_in(
    work: Work,
    actor: Actor,
    *,
    login_key: str,
    device_id: UUID,
    right: bool,
    token_digest: bytes,
    device_digest: bytes | None,
    lasts: timedelta,
    description: str | None,
    checked_hash: str | None = None,
) -> Session:
    """One try, whose password has been checked: the guard decides (P2). A wrong one is counted though it is refused; a
    right one starts the count anew, opens a session, and makes the device a known one."""
    guard = await work.take(SignInGuard.maybe(login_key=login_key, device_id=device_id))
    if guard is not None and guard.locked_at is not None:
        raise Refused(RefusalCode.ACCOUNT_LOCKED, _LOCKED)
    if right and checked_hash is not None:
        # The password may have been changed since it was checked, and every session ended.
        hashes = sa.select(Password.table.c.hash).where(Password.table.c.user_id == actor.user_id)
        right = [row[0] for row in await work.read(hashes)] == [checked_hash]
    if not right or actor.user_id is None:
        failures = 1 + (guard.failures if guard else 0)
        locked_at = work.real_now if failures >= WRONG_PASSWORDS_BEFORE_LOCK else None
        if guard is None:
            work.add(
                SignInGuard(
                    tenant=work.tenant,
                    login_key=login_key,
                    device_id=device_id,
                    failures=failures,
                    locked_at=locked_at,
                    changed_at=work.real_now,
                )
            )
        else:
            work.change(guard, failures=failures, locked_at=locked_at, changed_at=work.real_now)
        if locked_at is None:
            raise _wrong(WRONG_PASSWORDS_BEFORE_LOCK - failures)
        if actor.user_id is not None:
            mail_link(work, actor.user_id, ResetReason.LOCKED)
        raise Refused(RefusalCode.ACCOUNT_LOCKED, _LOCKED, keeps_effects=True)
    if guard is not None:
        work.remove(guard)
    if device_digest is not None:
        _know_device(work, actor.user_id, device_digest)
    return await open_session(work, actor, token_digest, lasts, description)


async def open_session(
    work: Work, actor: Actor, token_digest: bytes, lasts: timedelta, description: str | None
) -> Session:
    """A new session for the actor, whose password has been checked. It lives on real time, even in a sandbox."""
    await work.take()
    assert actor.user_id is not None, "only users sign in"
    session = Session(
        tenant=work.tenant,
        id=new_id(),
        user_id=actor.user_id,
        status=SessionStatus.OPEN,
        token_digest=token_digest,
        description=(description or "")[:200] or None,
        started_at=work.real_now,
        last_seen_at=work.real_now,
        expires_at=work.real_now + lasts,
    )
    return work.note("start", work.create(session))


async def end_session(work: Work, actor: Actor, session_id: UUID | None = None) -> Session:
    """Sign out, here or on another device of one's own. Raises Refused (NOT_FOUND) for somebody else's."""
    session = await work.take(Session.by(id=session_id or actor.session_id, user_id=actor.user_id))
    if session.status is SessionStatus.OPEN:
        await _end(work, session)
        work.note("end", session)
    return session


async def note_seen(work: Work, actor: Actor) -> None:
    """The session is in use."""
    session = await work.take(Session.by(id=actor.session_id))
    if session.status is SessionStatus.OPEN and work.real_now - session.last_seen_at >= SEEN_EVERY:
        work.change(session, last_seen_at=work.real_now)


async def set_password(
    work: Work, actor: Actor, password_hash: str, token_digest: bytes, lasts: timedelta, description: str | None
) -> Session:
    """A new password, no longer a temporary one; every session ends, and a new one begins."""
    assert actor.user_id is not None, "only users have passwords"
    password = await work.take(Password.by(user_id=actor.user_id))
    work.change(password, hash=password_hash, temporary=False, links_since=work.real_now)
    session = await open_session(work, actor, token_digest, lasts, description)
    if actor.session_id is not None:
        await push.keep_devices(work, actor.session_id, session.id)
    await end_sessions(work, actor.user_id)
    return work.note("change_password", session)


async def send_reset(work: Work, actor: Actor, user_id: UUID, reason: ResetReason) -> PasswordReset:
    """Mail a link that sets a new password (AP8)."""
    await work.take()
    return mail_link(work, user_id, reason)


def mail_link(work: Work, user_id: UUID, reason: ResetReason) -> PasswordReset:
    """Within a deed: a link that sets a new password goes to the user."""
    lasts = INVITATION_LASTS if reason is ResetReason.INVITED else RESET_LASTS
    reset = work.create(
        PasswordReset(
            tenant=work.tenant,
            id=new_id(),
            user_id=user_id,
            status=ResetStatus.SENT,
            reason=reason,
            created_at=work.real_now,
            expires_at=work.real_now + lasts,
        )
    )
    work.tell(Notice("password_reset", reset))
    return work.note("create", reset, reason=str(reason))


async def use_reset(
    work: Work, actor: Actor, reset_id: UUID, password_hash: str, device_digest: bytes
) -> PasswordReset:
    """The mailed link is opened: the password is new, the lock is gone, and the device is known (P2)."""
    reset = await work.take(PasswordReset.by(id=reset_id))
    user, password = await work.take(User.by(id=reset.user_id), Password.by(user_id=reset.user_id))
    is_over = work.real_now >= reset.expires_at or reset.created_at < password.links_since
    if reset.status is not ResetStatus.SENT or is_over or not user.active:
        raise Refused(
            RefusalCode.TOO_LATE, Text("Ce lien a expiré ou a déjà servi.", "This link has expired or has been used.")
        )
    work.move(reset, "use", used_at=work.real_now)
    work.change(password, hash=password_hash, temporary=False, links_since=work.real_now)
    guards = await work.read(sa.select(*SignInGuard.selected()).where(SignInGuard.table.c.login_key == user.login_key))
    for row in guards:
        work.remove(SignInGuard.from_row(row))
    _know_device(work, user.id, device_digest)
    await end_sessions(work, user.id)
    return work.note("use", reset)


async def end_sessions(work: Work, user_id: UUID) -> None:
    """Sign a user out everywhere."""
    table = Session.table.c
    open_ones = await work.read(
        sa.select(table.id).where(table.user_id == user_id, table.status == str(SessionStatus.OPEN)).order_by(table.id)
    )
    for (session_id,) in open_ones:
        session = await work.take(Session.by(id=session_id))
        if session.status is SessionStatus.OPEN:
            await _end(work, session)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def actor_of_token(database: Database, token: str) -> Actor | None:
    """Who bears this session's token; None when it is unknown, ended or expired."""
    try:
        tenant = tenant_of_token(token)
    except Refused:
        return None
    return await _actor_of_digest(database, tenant, digest(token))


async def actor_of_session(database: Database, tenant: int, session_id: UUID) -> Actor | None:
    """Who is signed in by this session; None when it is unknown, ended or expired."""
    table = Session.table.c
    async with database.reading(tenant) as connection:
        token_digest = await connection.scalar(sa.select(table.token_digest).where(table.id == session_id))
    return await _actor_of_digest(database, tenant, token_digest) if token_digest is not None else None


async def _actor_of_digest(database: Database, tenant: int, token_digest: bytes) -> Actor | None:
    lookups = _LOOKUPS.get(database)
    if lookups is None:
        lookups = _LOOKUPS[database] = _Lookups()
    row = await lookups.find(database, tenant, token_digest)
    if row is None:
        return None
    granted = zip(row["point_of_sale_ids"] or (), row["rights"] or (), strict=True)
    return Actor(
        tenant=tenant,
        user_id=row["user_id"],
        role=Role(row["role"]),
        merchant_id=row["merchant_id"],
        holder_id=row["holder_id"],
        grants={place: frozenset(Right(right) for right in rights.split(",") if right) for place, rights in granted},
        session_id=row["session_id"],
        session_ends_at=row["expires_at"],
        session_seen_at=row["last_seen_at"],
        must_change_password=row["must_change_password"],
        locale=Locale(row["locale"]) if row["locale"] else None,
    )


async def open_sessions(connection: AsyncConnection, actor: Actor) -> list[Session]:
    """Where this user is signed in, the newest first."""
    table = Session.table.c
    rows = await connection.execute(
        sa.select(*Session.selected())
        .where(
            table.user_id == actor.user_id,
            table.status == str(SessionStatus.OPEN),
            table.expires_at > sa.func.clock_timestamp(),
        )
        .order_by(table.started_at.desc())
    )
    return [Session.from_row(row) for row in rows]


async def is_locked(connection: AsyncConnection, user: User) -> bool:
    """Whether unknown devices are locked out of this user's account (P2)."""
    table = SignInGuard.table.c
    locked_at = await connection.scalar(
        sa.select(table.locked_at).where(table.login_key == user.login_key, table.device_id == UNKNOWN_DEVICES)
    )
    return locked_at is not None


async def must_change_password(connection: AsyncConnection, user_id: UUID) -> bool:
    """Whether the user's password is a temporary one."""
    return bool(
        await connection.scalar(sa.select(Password.table.c.temporary).where(Password.table.c.user_id == user_id))
    )


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_SUBJECTS: Final = {
    ResetReason.ASKED: Text("Votre nouveau mot de passe", "Your new password"),
    ResetReason.LOCKED: Text("Votre accès est bloqué", "Your access is locked"),
    ResetReason.INVITED: Text("Votre accès est ouvert", "Your access is open"),
}


@writes("password_reset")
async def _password_reset(connection: AsyncConnection, tenant: int, reset_id: UUID) -> list[Letter]:
    """To the user, with a link that sets a new password; while the link is good."""
    table = PasswordReset.table.c
    row = (
        await connection.execute(
            sa.select(table.reason, User.table.c.email, User.table.c.locale, User.table.c.name, User.table.c.login)
            .join(User.table, User.table.c.id == table.user_id)
            .where(
                table.id == reset_id,
                table.status == str(ResetStatus.SENT),
                table.expires_at > sa.func.clock_timestamp(),
                User.table.c.active,
                User.table.c.email.is_not(None),
            )
        )
    ).first()
    if row is None:
        return []
    reason, email, locale, name, login = row
    return [
        Letter(
            to=email,
            locale=Locale(locale or Locale.FR),
            subject=_SUBJECTS[ResetReason(reason)],
            template=f"password_{reason.lower()}",
            facts={"name": name, "login": login},
            link_path="/password/",
            signs=(RESET_LINK, reset_id),
        )
    ]


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _credentials(
    database: Database, tenant: int, login: str, device_token: str | None
) -> tuple[UUID | None, str, UUID]:
    """The user of a login, its password's hash (nobody's for an unknown login), and the device when it is known."""
    known_device = sa.and_(
        Device.table.c.user_id == User.table.c.id, Device.table.c.token_digest == digest(device_token or "")
    )
    async with database.reading(tenant) as connection:
        found = (
            await connection.execute(
                sa.select(User.table.c.id, Password.table.c.hash, Device.table.c.id)
                .join(Password.table, Password.table.c.user_id == User.table.c.id)
                .outerjoin(Device.table, known_device)
                .where(User.table.c.login_key == login_key(login), User.table.c.active)
            )
        ).first()
    if found is None:
        return None, _NOBODY, UNKNOWN_DEVICES
    return found[0], found[1], found[2] or UNKNOWN_DEVICES


async def _is_right(stored: str, password: str) -> bool:
    """Whether the password has that hash; it takes the same time where there is no password yet."""
    async with _HASHING:
        return await asyncio.to_thread(_verify, stored, password)


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored if stored.startswith("$argon2") else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False


def _wrong(left: int) -> Refused:
    return Refused(
        RefusalCode.BAD_CREDENTIALS,
        Text(
            "Identifiant ou mot de passe incorrect. Essais restants : {left}.",
            "Wrong login or password. Tries left: {left}.",
        ),
        keeps_effects=True,
        left=left,
    )


def _check_new_password(password: str, field: str) -> None:
    if not SHORTEST_PASSWORD <= len(password) <= 200 or len(set(password)) < 4:
        raise Refused.invalid(
            field,
            "Choisissez un mot de passe d’au moins {shortest} caractères, assez variés.",
            "Choose a password of at least {shortest} characters, varied enough.",
            shortest=SHORTEST_PASSWORD,
        )


async def _end(work: Work, session: Session) -> None:
    work.move(session, "end", ended_at=work.real_now)
    await push.forget_session(work, session.id)


def _know_device(work: Work, user_id: UUID, token_digest: bytes) -> None:
    work.create(
        Device(tenant=work.tenant, id=new_id(), user_id=user_id, token_digest=token_digest, created_at=work.real_now)
    )


class _Lookups:
    """Sessions that are looked up at the same time are looked up by one question: it costs hardly more than for one."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, bytes, asyncio.Future[asyncpg.Record | None]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def find(self, database: Database, tenant: int, token_digest: bytes) -> asyncpg.Record | None:
        """The session's row, read after this call; None when nothing is open. Raises what the database raises."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[asyncpg.Record | None] = loop.create_future()
        self._waiting.append((tenant, token_digest, found))
        if self._asking is None:
            self._asking = loop.create_task(self._ask(database), context=contextvars.Context())
        return await found

    async def _ask(self, database: Database) -> None:
        try:
            while self._waiting:
                async with database.connection() as connection:
                    together, self._waiting = self._waiting[:_MOST_LOOKUPS], self._waiting[_MOST_LOOKUPS:]
                    await self._answer(connection, together)
        except Exception as error:
            unanswered, self._waiting = self._waiting, []
            _fail(unanswered, error)
        finally:
            self._asking = None

    async def _answer(
        self,
        connection: asyncpg.Connection,
        together: "list[tuple[int, bytes, asyncio.Future[asyncpg.Record | None]]]",
    ) -> None:
        tenants, digests, answers = zip(*together, strict=True)
        try:
            rows = await connection.fetch(_SESSIONS, tenants, digests)
        except Exception as error:
            _fail(together, error)
            return
        by_number = {row["number"]: row for row in rows}
        for number, answer in enumerate(answers, start=1):
            if not answer.done():
                answer.set_result(by_number.get(number))


def _fail(unanswered: "list[tuple[int, bytes, asyncio.Future[asyncpg.Record | None]]]", error: Exception) -> None:
    for *_, answer in unanswered:
        if not answer.done():
            answer.set_exception(error)


_SESSIONS: Final = """
SELECT asked.number, session.* FROM unnest($1::integer[], $2::bytea[]) WITH ORDINALITY AS asked(tenant, digest, number)
CROSS JOIN LATERAL actor_of_session(asked.tenant, asked.digest) AS session
"""
_MOST_LOOKUPS: Final = 100
_LOOKUPS: Final[WeakKeyDictionary[Database, _Lookups]] = WeakKeyDictionary()
