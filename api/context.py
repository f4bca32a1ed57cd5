"""Who is asking, and what a resolver may use: a connection per question, a `work` per mutation."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from graphql import OperationType
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import HTTPConnection

from api.limits import SignInLimits
from api.live import Hub
from api.sight import note_tenant
from api.transport import Rejected, asked_locale
from domain import parties
from domain.access import RIGHTS, WITH_A_TEMPORARY_PASSWORD, Actor, User
from domain.codes import global_id
from domain.db import Database, Entity
from domain.errors import Refused
from domain.parties import Issuer, Merchant, PointOfSale
from domain.settings import Settings
from domain.sign_in import SEEN_EVERY, actor_of_token, note_seen
from domain.texts import Locale, Text
from domain.work import Key, Replayed, perform

COOKIE: Final = "__Host-escarcelle"
DEVICE_COOKIE: Final = "__Host-escarcelle-device"
DEVICE_LASTS: Final = timedelta(days=400)
SPEAKER: Final = "x-escarcelle-user"
"""Whose screen asks, by the user's identifier. A browser has one cookie for all its tabs, and one of them may still
show somebody else: nothing is done or shown there for who has signed in since."""

COOKIES_TO_SET: Final = "escarcelle.cookies"
"""Where a resolver leaves cookies for the answer, in the ASGI scope."""

_SIGN_IN_FIRST: Final = Text("Connectez-vous pour continuer.", "Sign in to continue.")
_NOT_YOURS: Final = Text("Vos droits ne permettent pas cette consultation.", "Your rights do not include this.")
_CHANGE_IT: Final = Text("Choisissez d’abord votre mot de passe.", "Choose your own password first.")
_SIGNED_OUT: Final = Text("Votre session est terminée.", "Your session has ended.")

T = TypeVar("T")
KnownT = TypeVar("KnownT", bound=Entity)


@dataclass(frozen=True)
class Services:
    """What all requests of a process share."""

    settings: Settings
    database: Database
    hub: Hub
    sign_in_limits: SignInLimits


@dataclass(eq=False)
class Context:
    """One request, or one socket."""

    services: Services
    connection: HTTPConnection
    actor: Actor | None
    token: str | None
    locale: Locale
    _ended: "asyncio.Future[str] | None" = None
    _read: dict[tuple[type, UUID | int], Any] = field(default_factory=dict)
    _being_read: dict[tuple[type, UUID | int], asyncio.Lock] = field(default_factory=dict)
    _lists: dict[tuple[type, UUID], Sequence[UUID]] = field(default_factory=dict)

    # ── who ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def someone(self) -> Actor:
        """The signed-in user. Raises Rejected (UNAUTHENTICATED)."""
        if self.actor is None:
            raise Rejected("UNAUTHENTICATED", _SIGN_IN_FIRST.in_locale(self.locale))
        return self.actor

    @property
    def ended(self) -> "asyncio.Future[str] | None":
        """Completes when the session ends, by the clock or because it was revoked: a socket closes then."""
        if self.actor is None or self.actor.session_id is None:
            return None
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            self.services.hub.watch_session(self.actor.session_id, self)
            assert self.actor.session_ends_at is not None, "a session ends some day"
            left = (self.actor.session_ends_at - datetime.now(UTC)).total_seconds()
            loop.call_later(max(0.0, left), _end_if_alive, weakref.ref(self))
        return self._ended

    def end(self) -> None:
        """The session is over."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(_SIGNED_OUT.in_locale(self.locale))

    async def is_still_open(self) -> bool:
        """Whether the session still stands in the database."""
        return self.token is None or await actor_of_token(self.services.database, self.token) is not None

    async def count_password_try(self) -> None:
        """Count a try at a password from the caller's address. Raises Refused (RATE_LIMITED)."""
        client = self.connection.client
        await self.services.sign_in_limits.count(client.host if client else "")

    # ── what it may use ───────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection behind the caller's tenant wall, for one question."""
        async with self.services.database.reading(self.someone.tenant) as connection:
            yield connection

    async def perform(
        self,
        deed: Callable[..., Awaitable[T]],
        *arguments: Any,
        key: str | None = None,
        again: Callable[[AsyncConnection, Actor, UUID], Awaitable[T | None]] | None = None,
        **named: Any,
    ) -> T:
        """The deed, in a transaction of its own. With a key that has done it before, what it led to is read `again`,
        under the caller's rights. Raises Refused."""
        given = [list(map(str, arguments)), {name: value for name, value in named.items() if value is not None}]
        used = None if key is None else Key.of(self.someone, key, deed.__qualname__, given)
        result = await perform(self.services.database, self.someone, deed, *arguments, key=used, **named)
        if not isinstance(result, Replayed):
            assert result is not None, "only messages are handled before"
            return result
        assert again is not None, "a deed with a key says how to read its answer again"
        async with self.reading() as connection:
            found = await again(connection, self.someone, result.id)
        if found is None:
            # What the key led to is no longer for this user: it may have lost the point of sale since.
            raise Refused.not_found()
        return found

    # ── what many fields ask for, read once per request ───────────────────────────────────────────────────────────────

    def remember(self, *entities: Entity) -> None:
        """These were read along with something else."""
        self._read.update({(type(entity), entity.id): entity for entity in entities})

    async def point_of_sale(self, point_of_sale_id: UUID) -> PointOfSale:
        """A point of sale of something the caller sees."""
        found: PointOfSale = await self.once(
            PointOfSale, point_of_sale_id, lambda c: parties.point_of_sale(c, self.someone, point_of_sale_id)
        )
        return found

    async def merchant(self, merchant_id: UUID) -> Merchant:
        """The merchant of something the caller sees."""
        found: Merchant = await self.once(Merchant, merchant_id, lambda c: parties.merchant(c, merchant_id))
        return found

    async def issuer(self) -> Issuer:
        """The caller's issuer."""
        found: Issuer = await self.once(Issuer, self.someone.tenant, parties.issuer)
        return found

    async def now(self) -> datetime:
        """The issuer's clock, read once: for what need not be exact to the second."""
        tenant = self.someone.tenant
        found: datetime = await self.once(datetime, tenant, lambda c: parties.now(c, tenant))
        return found

    async def once(self, kind: type, id_: UUID | int, read: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
        """What was remembered, or is read now and remembered. Rows of a list ask at the same time: one of them reads,
        the others wait for it."""
        key = (kind, id_)
        if key not in self._read:
            async with self._being_read.setdefault(key, asyncio.Lock()):
                if key not in self._read:
                    async with self.reading() as connection:
                        self._read[key] = await read(connection)
        return self._read[key]

    def of_one_list(self, kind: type, ids: Sequence[UUID]) -> None:
        """These were listed together: what one of them is asked for, all are."""
        self._lists.update({(kind, each): ids for each in ids})

    def is_listed(self, kind: type, id_: UUID) -> bool:
        """Whether it was listed together with others."""
        return (kind, id_) in self._lists

    async def once_for_all(
        self, kind: type, id_: UUID, read: Callable[[AsyncConnection, Sequence[UUID]], Awaitable[Mapping[UUID, Any]]]
    ) -> Any:
        """As `once`, by one question for all that were listed together; each is found."""
        key, ids = (kind, id_), self._lists.get((kind, id_), (id_,))
        if key not in self._read:
            async with self._being_read.setdefault((kind, ids[0]), asyncio.Lock()):
                if key not in self._read:
                    async with self.reading() as connection:
                        found = await read(connection, ids)
                    self._read.update({(kind, each): found[each] for each in ids})
        return self._read[key]

    def known(self, kind: type[KnownT], id_: UUID) -> KnownT | None:
        """The same, if it was read already: a row that waits for nothing is shown at a fraction of the cost."""
        found: KnownT | None = self._read.get((kind, id_))
        return found


def _end_if_alive(reference: "weakref.ref[Context]") -> None:
    context = reference()
    if context is not None:
        context.end()


async def make_context(services: Services, connection: HTTPConnection, payload: Mapping[str, object] | None) -> Context:
    """Who asks: by bearer token, in the header or in a socket's `connection_init` ({"token": …}), else by cookie.

    Raises Rejected (UNAUTHENTICATED) for a token that opens nothing, and for a cookie that is not the one of SPEAKER: a
    client that thinks it is signed in must know."""
    token, by_cookie = _token(connection, payload)
    actor = await actor_of_token(services.database, token) if token else None
    if actor is not None:
        note_tenant(connection.scope, actor.tenant)
    if actor is not None and actor.session_seen_at and datetime.now(UTC) - actor.session_seen_at >= SEEN_EVERY:
        await perform(services.database, actor, note_seen)
    locale = asked_locale(connection.headers.get("accept-language"))
    if actor is not None and actor.locale is not None:
        locale = actor.locale
    if token and actor is None and not by_cookie:
        raise Rejected("UNAUTHENTICATED", _SIGNED_OUT.in_locale(locale))
    speaker = connection.headers.get(SPEAKER)
    if by_cookie and speaker is not None and speaker != _identifier_of(actor):
        raise Rejected("UNAUTHENTICATED", _SIGNED_OUT.in_locale(locale))
    return Context(services, connection, actor, token if actor else None, locale)


def authorize(context: Context, operation: OperationType, root_fields: tuple[str, ...]) -> None:
    """Whether the caller may use these root fields (RIGHTS). A mutation that its role does not include is refused by
    the deed, as data; everything else here. Raises Rejected: UNAUTHENTICATED, FORBIDDEN,
    PASSWORD_CHANGE_REQUIRED with a temporary password."""
    for name in root_fields:
        if RIGHTS.get(name, frozenset()) is None:
            continue
        if context.actor is None:
            raise Rejected("UNAUTHENTICATED", _SIGN_IN_FIRST.in_locale(context.locale))
        if context.actor.must_change_password and name not in WITH_A_TEMPORARY_PASSWORD:
            raise Rejected("PASSWORD_CHANGE_REQUIRED", _CHANGE_IT.in_locale(context.locale))
        if operation is not OperationType.MUTATION and not context.actor.may_use(name):
            raise Rejected("FORBIDDEN", _NOT_YOURS.in_locale(context.locale))


def cookie(name: str, token: str | None, lasts: timedelta) -> str:
    """The Set-Cookie header that keeps a token, or forgets it."""
    kept = f"{name}={token or ''}; Path=/; Secure; HttpOnly; SameSite=Lax"
    return f"{kept}; Max-Age={int(lasts.total_seconds()) if token else 0}"


def _identifier_of(actor: Actor | None) -> str | None:
    return global_id(User.prefix, actor.tenant, actor.user_id) if actor is not None and actor.user_id else None


def _token(connection: HTTPConnection, payload: Mapping[str, object] | None) -> tuple[str | None, bool]:
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip(), False
    given = (payload or {}).get("token")
    if isinstance(given, str) and given:
        return given, False
    return connection.cookies.get(COOKIE), True
