"""Signing in and out, who is signed in, and the users that one manages."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

import strawberry

from api import parties as shown
from api.context import COOKIE, COOKIES_TO_SET, DEVICE_COOKIE, DEVICE_LASTS, Context, cookie
from api.shapes import (
    Connection,
    Done,
    DoneResult,
    Info,
    Node,
    PageOf,
    described,
    field,
    finds,
    id_of,
    mutation,
    page,
    question,
    result,
    view,
)
from domain import access, parties, push, sign_in, users
from domain.access import Actor
from domain.codes import read_signed_token
from domain.errors import Refused
from domain.texts import Locale, Text

RoleEnum = described(access.Role)
RightEnum = described(access.Right)
UserAction = described(users.UserAction)

BY_COOKIE = "x-escarcelle-session"
"""A single-page application signs in with this header set to `cookie`: its token then travels in a cookie only."""

_MAILED: Final = Text(
    "Si cet identifiant existe et a une adresse e-mail, un lien vient d’y être envoyé ; il est valable une heure.",
    "If this login exists and has an e-mail address, a link has just been sent to it; it is good for an hour.",
)
_CHANGED: Final = Text("Votre mot de passe est changé : connectez-vous.", "Your password is changed: sign in.")
_REGISTERED: Final = Text("Cet appareil sera prévenu.", "This device will be told.")
_ENDED: Final = Text("Cet appareil est déconnecté.", "This device is signed out.")

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

    @strawberry.field(description="The language of its mails.", graphql_type=Locale)
    async def locale(self) -> Locale:
        return Locale(cast(access.User, self).locale or Locale.FR)

    @strawberry.field(description="Whether devices from which the user has not signed in before are locked out (P2).")
    async def locked(self, info: Info) -> bool:
        async with info.context.reading() as connection:
            return await sign_in.is_locked(connection, cast(access.User, self))

    @strawberry.field(description="Whether the password is a temporary one, which opens nothing but `changePassword`.")
    async def must_change_password(self, info: Info) -> bool:
        async with info.context.reading() as connection:
            return await sign_in.must_change_password(connection, cast(access.User, self).id)

    @strawberry.field(
        description="Whose user it is, to who may read about that merchant.", graphql_type=shown.Merchant | None
    )
    async def merchant(self, info: Info) -> parties.Merchant | None:
        merchant_id = cast(access.User, self).merchant_id
        if merchant_id is None:
            return None
        async with info.context.reading() as connection:
            return await parties.merchant_seen(connection, info.context.someone, merchant_id)

    @strawberry.field(
        description="What the caller may do now; clients draw buttons from this, never from `role`.",
        graphql_type=list[UserAction],  # type: ignore[valid-type]
    )
    def allowed_actions(self, info: Info) -> list[users.UserAction]:
        return users.allowed_actions(cast(access.User, self), info.context.someone)

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
    device_token: str | None
    expires_at: datetime
    viewer: Actor


@view(SignedIn, "A session. Send `token` as a bearer token, or let the cookie travel.")
class Session:
    """A view of SignedIn."""

    token: str | None = field("Null where the session travels in a cookie.")
    device_token: str | None = field(
        "Once, on a device not known before: keep it, and send it with the next `signIn`, so that strangers who try"
        " passwords do not lock this device out. Null where it travels in a cookie."
    )
    expires_at: datetime = field("When it ends by itself.")
    viewer: Viewer = field("Who is now signed in.")


@view(sign_in.Session, "Where this user is signed in.")
class SignedInDevice(Node):
    """A view of domain.sign_in.Session."""

    started_at: datetime = field("When it was signed in.")
    last_seen_at: datetime = field("When it was last used, within five minutes.")
    description: str | None = field("What it calls itself.")

    @strawberry.field(description="Whether it is the one that asks.")
    def current(self, info: Info) -> bool:
        return cast(sign_in.Session, self).id == info.context.someone.session_id


SignInResult = result("SignInResult", Session)
UserResult = result("UserResult", User)


@finds(sign_in.Session)
async def _find_device(context: Context, session_id: UUID) -> sign_in.Session | None:
    async with context.reading() as connection:
        sessions = await sign_in.open_sessions(connection, context.someone)
    return next((session for session in sessions if session.id == session_id), None)


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

    @question("Where the viewer is signed in, the newest first.", list[SignedInDevice])
    async def devices(self, info: Info) -> list[sign_in.Session]:
        async with info.context.reading() as connection:
            return await sign_in.open_sessions(connection, info.context.someone)

    @question("The users the viewer manages, by login.", Connection[User])
    async def users(
        self, info: Info, search: str | None = None, first: int | None = 50, after: str | None = None
    ) -> PageOf[access.User]:
        context, table = info.context, access.User.table.c
        asked = users.users(context.someone, search)
        order = (table.login_key, table.id)
        return await page(context, asked, access.User.from_row, order, descending=False, first=first, after=after)


@strawberry.input(description="What opens a session.")
class SignInInput:
    """For `signIn`."""

    issuer: str = strawberry.field(description="The issuer's slug.")
    login: str = strawberry.field(description="Convention number, e-mail address, or what the issuer gave.")
    password: str = strawberry.field(description="The password.")
    device_token: str | None = strawberry.field(
        default=None, description="What an earlier `signIn` or `resetPassword` on this device gave."
    )


@strawberry.input(description="A new password.")
class ChangePasswordInput:
    """For `changePassword`."""

    current_password: str = strawberry.field(description="The password until now.")
    new_password: str = strawberry.field(description="Ten characters at least.")


@strawberry.input(description="Who has forgotten its password.")
class RequestPasswordResetInput:
    """For `requestPasswordReset`."""

    issuer: str = strawberry.field(description="The issuer's slug.")
    login: str = strawberry.field(description="As for `signIn`.")


@strawberry.input(description="A new password, by mailed link.")
class ResetPasswordInput:
    """For `resetPassword`."""

    token: str = strawberry.field(description="The end of the link.")
    new_password: str = strawberry.field(description="Ten characters at least.")


@strawberry.input(description="One of the viewer's sessions.")
class DeviceIdInput:
    """For `signOutDevice`."""

    id: strawberry.ID = strawberry.field(description="Which one.")


@strawberry.input(description="Rights at one point of sale (P4).")
class GrantInput:
    """For `createUser` and `updateUser`."""

    point_of_sale_id: strawberry.ID = strawberry.field(description="Where.")
    rights: list[RightEnum] = strawberry.field(description="What is allowed.")  # type: ignore[valid-type]


@strawberry.input(description="A new user; it is invited by mail to set its password.")
class CreateUserInput:
    """For `createUser`."""

    login: str = strawberry.field(description="What the user will type to sign in.")
    email: str = strawberry.field(description="Where the invitation goes.")
    name: str = strawberry.field(description="The name for people.")
    role: RoleEnum = strawberry.field(description="What the user will be.")  # type: ignore[valid-type]
    grants: list[GrantInput] | None = strawberry.field(default=None, description="For MERCHANT_STAFF.")
    merchant_id: strawberry.ID | None = strawberry.field(
        default=None, description="For a merchant's user; a signatory's own merchant when absent."
    )
    holder_id: strawberry.ID | None = strawberry.field(default=None, description="For a HOLDER: which one.")
    locale: Locale | None = strawberry.field(default=None, description="The language of its mails; French when absent.")


@strawberry.input(description="What changes of a user; what is absent stays.")
class UpdateUserInput:
    """For `updateUser`."""

    id: strawberry.ID = strawberry.field(description="Which user.")
    name: str | None = strawberry.field(default=None, description="The name for people.")
    email: str | None = strawberry.field(default=None, description="E-mail address.")
    role: RoleEnum | None = strawberry.field(default=None, description="What the user is.")  # type: ignore[valid-type]
    grants: list[GrantInput] | None = strawberry.field(default=None, description="All of them: they replace the old.")
    locale: Locale | None = strawberry.field(default=None, description="The language of its mails.")


@strawberry.input(description="The language that the viewer reads.")
class ChooseLanguageInput:
    """For `chooseLanguage`."""

    locale: Locale = strawberry.field(description="Which one.")


@strawberry.input(description="One user.")
class UserIdInput:
    """For `deactivateUser`."""

    id: strawberry.ID = strawberry.field(description="Which user.")


@strawberry.input(description="What the browser's `pushManager.subscribe` gives.")
class PushSubscriptionInput:
    """For `subscribeToPush`."""

    endpoint: str = strawberry.field(description="The device's address at its push service.")
    p256dh: str = strawberry.field(description="Its public key, in base64url.")
    auth: str = strawberry.field(description="Its secret, in base64url.")


@strawberry.type
class AccessMutations:
    """Signing in and out, and managing users."""

    @mutation(SignInResult, "Open a session: its token, or a cookie where X-Escarcelle-Session says `cookie` (P1, P2).")
    async def sign_in(self, info: Info, input: SignInInput) -> SignedIn:
        context = info.context
        services, connection = context.services, context.connection
        await context.count_password_try()
        known = input.device_token or connection.cookies.get(DEVICE_COOKIE)
        token, device_token = await sign_in.sign_in(
            services.database,
            input.issuer,
            input.login,
            input.password,
            _lasts(context),
            connection.headers.get("user-agent"),
            known,
        )
        return await _signed_in(context, token, device_token)

    @strawberry.mutation(description="End the session. True, whether or not there was one.")
    async def sign_out(self, info: Info) -> bool:
        context = info.context
        if context.actor is not None and context.actor.session_id is not None:
            await context.perform(sign_in.end_session)
            context.actor = context.token = None
        _set_cookie(context, cookie(COOKIE, None, timedelta(0)))
        return True

    @mutation(SignInResult, "Set a new password; every other session ends, and a new one begins here.")
    async def change_password(self, info: Info, input: ChangePasswordInput) -> SignedIn:
        context = info.context
        await context.count_password_try()
        token = await sign_in.change_password(
            context.services.database,
            context.someone,
            input.current_password,
            input.new_password,
            _lasts(context),
            context.connection.headers.get("user-agent"),
        )
        return await _signed_in(context, token, None)

    @mutation(DoneResult, "Mail a link that sets a new password and unlocks. The answer is always the same (P2, AP8).")
    async def request_password_reset(self, info: Info, input: RequestPasswordResetInput) -> Done:
        context = info.context
        await context.count_password_try()
        await sign_in.request_reset(context.services.database, input.issuer, input.login)
        return Done(message=_MAILED.in_locale(context.locale))

    @mutation(
        DoneResult,
        "Set a new password by the mailed link. `reference` is a device token: with it, this device signs in whatever"
        " strangers try.",
    )
    async def reset_password(self, info: Info, input: ResetPasswordInput) -> Done:
        context = info.context
        await context.count_password_try()
        keys = context.services.settings.keys
        tenant, reset_id = read_signed_token(keys, sign_in.RESET_LINK, input.token)
        device_token = await sign_in.reset_password(context.services.database, tenant, reset_id, input.new_password)
        _set_cookie(context, cookie(DEVICE_COOKIE, device_token, DEVICE_LASTS))
        return Done(message=_CHANGED.in_locale(context.locale), reference=device_token)

    @mutation(DoneResult, "Sign out on another device; its open sockets close.")
    async def sign_out_device(self, info: Info, input: DeviceIdInput) -> Done:
        await info.context.perform(sign_in.end_session, id_of(info.context, input.id, sign_in.Session.prefix))
        return Done(message=_ENDED.in_locale(info.context.locale))

    @mutation(
        DoneResult,
        "Tell the viewer on this device too, and nobody else there any more (P22). The same device again changes its"
        " keys; with an eleventh one the oldest goes.",
    )
    async def subscribe_to_push(self, info: Info, input: PushSubscriptionInput) -> Done:
        await info.context.perform(push.subscribe, input.endpoint, input.p256dh, input.auth)
        return Done(message=_REGISTERED.in_locale(info.context.locale))

    @mutation(UserResult, "A new user, who is invited by mail (P4).")
    async def create_user(
        self, info: Info, input: CreateUserInput, idempotency_key: strawberry.ID | None = None
    ) -> access.User:
        return await info.context.perform(
            users.create,
            key=idempotency_key,
            again=access.user,
            login=input.login,
            name=input.name,
            email=input.email,
            role=input.role,
            merchant_id=id_of(info.context, input.merchant_id, parties.Merchant.prefix) if input.merchant_id else None,
            holder_id=id_of(info.context, input.holder_id, parties.Holder.prefix) if input.holder_id else None,
            grants=_grants(info.context, input.grants),
            locale=input.locale,
        )

    @mutation(UserResult, "Change a user; whoever gets other rights is signed out (P4).")
    async def update_user(self, info: Info, input: UpdateUserInput) -> access.User:
        return await info.context.perform(
            users.update,
            id_of(info.context, input.id, access.User.prefix),
            name=input.name,
            email=input.email,
            role=input.role,
            grants=_grants(info.context, input.grants),
            locale=input.locale,
        )

    @mutation(UserResult, "The viewer reads this language from now on: in answers, and in mails.")
    async def choose_language(self, info: Info, input: ChooseLanguageInput) -> access.User:
        return await info.context.perform(users.choose_language, input.locale)

    @mutation(UserResult, "The user may not sign in any more, and is signed out everywhere.")
    async def deactivate_user(self, info: Info, input: UserIdInput) -> access.User:
        return await info.context.perform(users.deactivate, id_of(info.context, input.id, access.User.prefix))


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lasts(context: Context) -> timedelta:
    return timedelta(hours=context.services.settings.session_hours)


def _set_cookie(context: Context, header: str) -> None:
    context.connection.scope.setdefault(COOKIES_TO_SET, []).append(header)


async def _signed_in(context: Context, token: str, device_token: str | None) -> SignedIn:
    """What a client gets for a session that has just begun: a token, or cookies."""
    actor = await sign_in.actor_of_token(context.services.database, token)
    assert actor is not None and actor.session_ends_at is not None, "the session has just been opened"
    context.actor, context.token = actor, token
    if context.connection.headers.get(BY_COOKIE) != "cookie":
        return SignedIn(token, device_token, actor.session_ends_at, actor)
    _set_cookie(context, cookie(COOKIE, token, _lasts(context)))
    if device_token is not None:
        _set_cookie(context, cookie(DEVICE_COOKIE, device_token, DEVICE_LASTS))
    return SignedIn(None, None, actor.session_ends_at, actor)


def _grants(context: Context, given: list[GrantInput] | None) -> dict[UUID, frozenset[access.Right]] | None:
    if given is None:
        return None
    read: dict[UUID, frozenset[access.Right]] = {}
    for grant in given:
        place = id_of(context, grant.point_of_sale_id, parties.PointOfSale.prefix)
        if place in read:
            raise Refused.invalid(
                "input.grants", "Un point d’accueil figure deux fois.", "A point of sale appears twice."
            )
        read[place] = frozenset(grant.rights)
    return read
