"""Who may do what: users, their roles and rights, and their sessions.

RIGHTS says, for each field at the root of the API, who may use it; what is not named there nobody may use. Which rows a
role sees stands in `sees`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import fields
from domain.codes import digest, new_id, new_token, tenant_of_token
from domain.db import Database, Entity, Row, column
from domain.errors import RefusalCode, Refused
from domain.lifecycle import Lifecycle
from domain.texts import Locale, Text
from domain.work import Work, perform

# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Role(StrEnum):
    """What a user is. ISSUER_ADMIN: runs the issuer. ISSUER_AGENT: agency, customer service. MERCHANT_MANAGER: the
    signatory of a merchant, for all its points of sale. MERCHANT_STAFF: some points of sale only. HOLDER: a
    customer."""

    ISSUER_ADMIN = "ISSUER_ADMIN"
    ISSUER_AGENT = "ISSUER_AGENT"
    MERCHANT_MANAGER = "MERCHANT_MANAGER"
    MERCHANT_STAFF = "MERCHANT_STAFF"
    HOLDER = "HOLDER"


class Right(StrEnum):
    """What a merchant's user may do at a point of sale (P4)."""

    COLLECT = "COLLECT"
    VALIDATE = "VALIDATE"
    EXPORT = "EXPORT"


ISSUER_STAFF: Final = frozenset({Role.ISSUER_ADMIN, Role.ISSUER_AGENT})
MERCHANT: Final = frozenset({Role.MERCHANT_MANAGER, Role.MERCHANT_STAFF})
HOLDER: Final = frozenset({Role.HOLDER})
SIGNED_IN: Final = frozenset(Role)
ANYONE: Final = None

RIGHTS: Final[Mapping[str, frozenset[Role] | None]] = {
    "node": SIGNED_IN,
    "issuer": ANYONE,
    "viewer": ANYONE,
    "pointsOfSale": ISSUER_STAFF | MERCHANT,
    "holders": ISSUER_STAFF,
    "paymentRequests": ISSUER_STAFF | MERCHANT,
    "suggestedBasketNumber": MERCHANT,
    "paymentOffer": ANYONE,
    "signIn": ANYONE,
    "signOut": ANYONE,
    "createPaymentRequest": MERCHANT,
    "payPaymentRequest": HOLDER,
    "changePaymentCollection": MERCHANT,
    "declinePaymentRequest": HOLDER,
    "validatePaymentRequest": MERCHANT,
    "cancelPaymentRequest": MERCHANT,
    "creditHolder": ISSUER_STAFF,
    "paymentRequest": ISSUER_STAFF | MERCHANT,
}
"""Root field of the API → who may use it; ANYONE needs no session. Deny by default: what is missing is refused."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: a signed-in user with what it may do, or the system itself (no role) acting for a tenant."""

    tenant: int
    user_id: UUID | None = None
    role: Role | None = None
    merchant_id: UUID | None = None
    holder_id: UUID | None = None
    grants: Mapping[UUID, frozenset[Right]] = field(default_factory=dict)
    session_id: UUID | None = None
    session_ends_at: datetime | None = None
    locale: Locale | None = None

    def may_use(self, root_field: str) -> bool:
        """Whether RIGHTS lets this actor use the field; the system may use every one."""
        roles = RIGHTS.get(root_field, frozenset())
        return roles is ANYONE or self.user_id is None or self.role in roles

    def require(self, root_field: str) -> None:
        """Raises Refused (FORBIDDEN) unless RIGHTS lets this actor use the field."""
        if not self.may_use(root_field):
            raise Refused.forbidden()

    def rights_at(self, merchant_id: UUID, point_of_sale_id: UUID) -> frozenset[Right]:
        """What this actor may do at a point of sale (P4): everything for the merchant's signatory, what was granted for
        its staff, nothing for others."""
        if self.merchant_id == merchant_id and self.role is Role.MERCHANT_MANAGER:
            return frozenset(Right)
        if self.merchant_id == merchant_id and self.role is Role.MERCHANT_STAFF:
            return self.grants.get(point_of_sale_id, frozenset())
        return frozenset()

    def require_at(self, merchant_id: UUID, point_of_sale_id: UUID, right: Right | None) -> None:
        """Raises Refused: NOT_FOUND at a point of sale that this actor does not see (P3), FORBIDDEN where it lacks the
        right (P4)."""
        if self.role not in MERCHANT or self.merchant_id != merchant_id:
            raise Refused.not_found()
        if self.role is Role.MERCHANT_STAFF and point_of_sale_id not in self.grants:
            raise Refused.not_found()
        if right is not None and right not in self.rights_at(merchant_id, point_of_sale_id):
            raise Refused.forbidden()

    def sees(
        self, merchant_id: sa.ColumnElement[Any] | None = None, point_of_sale_id: sa.ColumnElement[Any] | None = None
    ) -> sa.ColumnElement[bool]:
        """The condition under which this actor sees what belongs to a merchant's point of sale (P3); what belongs to
        none only the issuer's staff sees."""
        if self.role in ISSUER_STAFF:
            return sa.true()
        if self.role is Role.MERCHANT_MANAGER and merchant_id is not None:
            return merchant_id == self.merchant_id
        if self.role is Role.MERCHANT_STAFF and merchant_id is not None and point_of_sale_id is not None:
            return sa.and_(merchant_id == self.merchant_id, point_of_sale_id.in_(sorted(self.grants)))
        return sa.false()

    @property
    def view(self) -> tuple[object, ...]:
        """What decides which rows this actor sees: two actors with equal views read the same."""
        return (self.tenant, self.role, self.merchant_id, self.holder_id, tuple(sorted(self.grants)))


# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class SessionStatus(StrEnum):
    """ENDED: signed out or revoked."""

    OPEN = "OPEN"
    ENDED = "ENDED"


# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class User(
    Entity,
    table="users",
    prefix="user",
    constraints=(sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]), sa.UniqueConstraint("tenant", "login_key")),
):
    """Someone who can sign in. `login_key` is the login without case and spaces around it."""

    login: str
    login_key: str
    name: str
    email: str | None = None
    role: Role
    merchant_id: UUID | None = column(default=None, references="merchants")
    holder_id: UUID | None = column(default=None, references="holders")
    locale: str | None = None
    active: bool = True
    created_at: datetime


class Password(Row, table="passwords", key=("user_id",), reader=False):
    """A user's password, hashed (argon2id)."""

    user_id: UUID = column(references="users")
    hash: str


class Grant(Row, table="grants", key=("user_id", "point_of_sale_id"), app="SELECT, INSERT, UPDATE, DELETE"):
    """What a user may do at one point of sale (P4)."""

    user_id: UUID = column(references="users")
    point_of_sale_id: UUID = column(references="points_of_sale")
    rights: list[str]


class Session(
    Entity,
    table="sessions",
    prefix="sess",
    reader=False,
    constraints=(sa.UniqueConstraint("token_digest"), sa.Index("sessions_user_idx", "tenant", "user_id")),
):
    """Where a user is signed in. The token itself is nowhere: only its digest."""

    user_id: UUID = column(references="users")
    status: SessionStatus
    token_digest: bytes
    description: str | None = None
    started_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    version: int = 0


LIFE: Final = Lifecycle(Session, {("end", SessionStatus.OPEN): SessionStatus.ENDED})

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_HASHER: Final = PasswordHasher()
_NOBODY: Final = _HASHER.hash("nobody's password, to spend the same time on")
_HASHING = asyncio.Semaphore(2)
"""Each hash takes a core and 64 MiB for a while: only so many at once."""

SHORTEST_PASSWORD: Final = 10


async def hashed(password: str) -> str:
    """The password's argon2id hash, made in a thread."""
    async with _HASHING:
        return await asyncio.to_thread(_HASHER.hash, password)


async def sign_in(
    database: Database, issuer_slug: str, login: str, password: str, lasts: timedelta, description: str | None
) -> str:
    """Open a session (P1); returns its token, which is kept nowhere. Raises Refused: INVALID for what is missing,
    BAD_CREDENTIALS alike for an unknown issuer, an unknown login, a wrong password or a closed account."""
    login = fields.line(login, "input.login")
    if not password:
        raise Refused.invalid("input.password", "Ce champ est obligatoire.", "This field is required.")
    tenant = await tenant_of_slug(database, issuer_slug)
    user_id, stored = None, _NOBODY
    if tenant is not None:
        async with database.reading(tenant) as connection:
            found = (
                await connection.execute(
                    sa.select(User.table.c.id, Password.table.c.hash)
                    .join(Password.table, Password.table.c.user_id == User.table.c.id)
                    .where(User.table.c.login_key == login_key(login), User.table.c.active)
                )
            ).first()
            user_id, stored = found or (None, _NOBODY)
    async with _HASHING:
        right = await asyncio.to_thread(_verify, stored, password)
    if tenant is None or user_id is None or not right:
        raise Refused(
            RefusalCode.BAD_CREDENTIALS, Text("Identifiant ou mot de passe incorrect.", "Wrong login or password.")
        )
    token = new_token(tenant)
    await perform(database, Actor(tenant, user_id), open_session, digest(token), lasts, description)
    return token


async def open_session(
    work: Work, actor: Actor, token_digest: bytes, lasts: timedelta, description: str | None
) -> Session:
    """A new session for the actor, whose password has been checked. It lives on real time, even in a sandbox."""
    await work.take()
    assert actor.user_id is not None
    session = Session(
        tenant=work.tenant,
        id=new_id(),
        user_id=actor.user_id,
        status=SessionStatus.OPEN,
        token_digest=token_digest,
        description=(description or "")[:200] or None,
        started_at=work.real_now,
        expires_at=work.real_now + lasts,
    )
    return work.note("start", work.create(session))


async def end_session(work: Work, actor: Actor) -> Session:
    """Sign out."""
    session = await work.take(Session.by(id=actor.session_id))
    work.move(session, "end", ended_at=work.real_now)
    return work.note("end", session)


async def create_user(
    work: Work,
    actor: Actor,
    *,
    login: str,
    name: str,
    role: Role,
    password_hash: str,
    email: str | None = None,
    merchant_id: UUID | None = None,
    holder_id: UUID | None = None,
    grants: Mapping[UUID, frozenset[Right]] | None = None,
) -> User:
    """A new user. Raises Refused: INVALID for what is missing, ALREADY_EXISTS for a login that is taken."""
    login = fields.line(login, "input.login", longest=60)
    if await work.take(User.maybe(login_key=login_key(login))):
        raise Refused(
            RefusalCode.ALREADY_EXISTS,
            Text("Cet identifiant est déjà utilisé.", "This login is already in use."),
            field="input.login",
        )
    user = work.create(
        User(
            tenant=work.tenant,
            id=new_id(),
            login=login,
            login_key=login_key(login),
            name=fields.line(name, "input.name"),
            email=fields.email(email, "input.email"),
            role=role,
            merchant_id=merchant_id,
            holder_id=holder_id,
            created_at=work.now,
        )
    )
    work.add(Password(tenant=work.tenant, user_id=user.id, hash=password_hash))
    for point_of_sale_id, rights in (grants or {}).items():
        work.add(Grant(tenant=work.tenant, user_id=user.id, point_of_sale_id=point_of_sale_id, rights=sorted(rights)))
    return work.note("create", user)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def tenant_of_slug(database: Database, slug: str) -> int | None:
    """The issuer of that name in addresses, or None."""
    async with database.connection() as connection:
        tenant: int | None = await connection.fetchval("SELECT tenant_of_slug($1)", slug)
        return tenant


async def actor_of_token(database: Database, token: str) -> Actor | None:
    """Who bears this session's token; None when it is unknown, ended or expired."""
    try:
        tenant = tenant_of_token(token)
    except Refused:
        return None
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM actor_of_session($1, $2)", tenant, digest(token))
    if row is None:
        return None
    rights = zip(row["point_of_sale_ids"] or (), row["rights"] or (), strict=True)
    return Actor(
        tenant=tenant,
        user_id=row["user_id"],
        role=Role(row["role"]),
        merchant_id=row["merchant_id"],
        holder_id=row["holder_id"],
        grants={
            point_of_sale_id: frozenset(Right(r) for r in given.split(",") if r) for point_of_sale_id, given in rights
        },
        session_id=row["session_id"],
        session_ends_at=row["expires_at"],
        locale=Locale(row["locale"]) if row["locale"] else None,
    )


async def user(connection: AsyncConnection, actor: Actor, user_id: UUID) -> User | None:
    """One user that this actor sees, or None: itself, a merchant's users for its signatory, any for the issuer's
    staff."""
    table = User.table.c
    seen = sa.or_(table.id == actor.user_id, actor.sees(table.merchant_id))
    row = (await connection.execute(sa.select(*User.selected()).where(table.id == user_id, seen))).first()
    return User.from_row(row) if row else None


async def grants_of(connection: AsyncConnection, user_id: UUID) -> list[Grant]:
    """What a user may do, point of sale by point of sale (P4)."""
    rows = await connection.execute(sa.select(*Grant.selected()).where(Grant.table.c.user_id == user_id))
    return [Grant.from_row(row) for row in rows]


def login_key(login: str) -> str:
    """What makes two logins the same."""
    return login.strip().casefold()


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _verify(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
