"""Signing in and out, and who is signed in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import strawberry

from api import parties as shown
from api.context import COOKIES_TO_SET, Context, cookie
from api.shapes import Info, Node, field, finds, mutation, question, result, view
from domain import access, parties
from domain.access import Actor

RoleEnum = strawberry.enum(access.Role, name="Role", description=access.Role.__doc__)
RightEnum = strawberry.enum(access.Right, name="Right", description=access.Right.__doc__)

BY_COOKIE = "x-escarcelle-session"
"""A single-page application signs in with this header set to `cookie`: its token then travels in a cookie only."""

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(access.Grant, "What a user may do at one point of sale (P4).")
class Grant:
    """A view of domain.access.Grant."""

    rights: list[RightEnum] = field("What is allowed.")  # type: ignore[valid-type]

    @strawberry.field(description="Where.", graphql_type=shown.PointOfSale)
    async def point_of_sale(self, info: Info) -> parties.PointOfSale:
        return await info.context.point_of_sale(cast(access.Grant, self).point_of_sale_id)


@view(access.User, "Someone who can sign in.")
class User(Node):
    """A view of domain.access.User."""

    login: str = field("What is typed to sign in: a convention number, an e-mail address.")
    name: str = field("The name for people.")
    email: str | None = field("E-mail address.")
    role: RoleEnum = field("What the user is.")  # type: ignore[valid-type]
    active: bool = field("Whether the user may sign in.")

    @strawberry.field(description="Rights, point of sale by point of sale.", graphql_type=list[Grant])
    async def grants(self, info: Info) -> list[access.Grant]:
        async with info.context.reading() as connection:
            return await access.grants_of(connection, cast(access.User, self).id)


@view(Actor, "Who is signed in.")
class Viewer:
    """A view of domain.access.Actor."""

    @strawberry.field(description="The user.", graphql_type=User)
    async def user(self, info: Info) -> access.User:
        actor = cast(Actor, self)
        assert actor.user_id is not None, "a viewer is a user"
        async with info.context.services.database.reading(actor.tenant) as connection:
            user = await access.user(connection, actor, actor.user_id)
        assert user is not None, "everyone sees itself"
        return user

    @strawberry.field(description="Whose data the user works with.", graphql_type=shown.Issuer)
    async def issuer(self, info: Info) -> parties.Issuer:
        async with info.context.services.database.reading(cast(Actor, self).tenant) as connection:
            return await parties.issuer(connection)

    @strawberry.field(description="The user's merchant.", graphql_type=shown.Merchant | None)
    async def merchant(self, info: Info) -> parties.Merchant | None:
        actor = cast(Actor, self)
        if actor.merchant_id is None:
            return None
        async with info.context.services.database.reading(actor.tenant) as connection:
            return await parties.merchant(connection, actor.merchant_id)

    @strawberry.field(description="The holder that the user is.", graphql_type=shown.Holder | None)
    async def holder(self, info: Info) -> parties.Holder | None:
        actor = cast(Actor, self)
        if actor.holder_id is None:
            return None
        async with info.context.services.database.reading(actor.tenant) as connection:
            return await parties.holder(connection, actor, actor.holder_id)


@dataclass(frozen=True)
class SignedIn:
    """A session that has just begun."""

    token: str | None
    expires_at: datetime
    viewer: Actor


@view(SignedIn, "A session. Send `token` as a bearer token, or let the cookie travel.")
class Session:
    """A view of SignedIn."""

    token: str | None = field("Null where the session travels in a cookie.")
    expires_at: datetime = field("When it ends by itself.")
    viewer: Viewer = field("Who is now signed in.")


SignInResult = result("SignInResult", Session)


@finds(access.User)
async def _find_user(context: Context, user_id: UUID) -> access.User | None:
    async with context.reading() as connection:
        return await access.user(connection, context.someone, user_id)


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class AccessQueries:
    """Questions about who is signed in."""

    @question("Who is signed in; null when nobody is.", Viewer | None)
    async def viewer(self, info: Info) -> Actor | None:
        return info.context.actor


@strawberry.input(description="What opens a session.")
class SignInInput:
    """For `signIn`."""

    issuer: str = strawberry.field(description="The issuer's slug.")
    login: str = strawberry.field(description="Convention number, e-mail address, or what the issuer gave.")
    password: str = strawberry.field(description="The password.")


@strawberry.type
class AccessMutations:
    """Signing in and out."""

    @mutation(SignInResult, "Open a session: its token, or a cookie where X-Escarcelle-Session says `cookie`.")
    async def sign_in(self, info: Info, input: SignInInput) -> SignedIn:
        context = info.context
        services, connection = context.services, context.connection
        address = connection.client.host if connection.client else ""
        await services.sign_in_limits.count(address, input.issuer, input.login)
        lasts = timedelta(hours=services.settings.session_hours)
        description = connection.headers.get("user-agent")
        token = await access.sign_in(services.database, input.issuer, input.login, input.password, lasts, description)
        actor = await access.actor_of_token(services.database, token)
        assert actor is not None, "the session has just been opened"
        context.actor, context.token = actor, token
        by_cookie = connection.headers.get(BY_COOKIE) == "cookie"
        if by_cookie:
            connection.scope.setdefault(COOKIES_TO_SET, []).append(cookie(token, lasts))
        return SignedIn(None if by_cookie else token, actor.session_ends_at or datetime.now(UTC), actor)

    @strawberry.mutation(description="End the session. True, whether or not there was one.")
    async def sign_out(self, info: Info) -> bool:
        context = info.context
        if context.actor is not None and context.actor.session_id is not None:
            await context.perform(access.end_session)
            context.actor = context.token = None
        context.connection.scope.setdefault(COOKIES_TO_SET, []).append(cookie(None, timedelta(0)))
        return True
