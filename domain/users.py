"""Users, as those who may manage them do: the issuer's staff all of them, a merchant's signatory its own staff (P4)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa

from domain import fields
from domain.access import ISSUER_STAFF, Actor, Grant, Right, Role, User, login_key
from domain.codes import new_id
from domain.errors import RefusalCode, Refused
from domain.parties import Holder, Merchant, PointOfSale
from domain.sign_in import Password, ResetReason, end_sessions, mail_link
from domain.texts import Locale, Text, sort_key
from domain.work import Work

_NEEDS_MERCHANT: Final = frozenset({Role.MERCHANT_MANAGER, Role.MERCHANT_STAFF})
_UNUSABLE: Final = "!"
"""A hash that no password has: who was invited sets the first one by the mailed link."""


class UserAction(StrEnum):
    """What may be done with a user."""

    CHANGE = "CHANGE"
    DEACTIVATE = "DEACTIVATE"


# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def create(
    work: Work,
    actor: Actor,
    *,
    login: str,
    name: str,
    role: Role,
    email: str | None = None,
    merchant_id: UUID | None = None,
    holder_id: UUID | None = None,
    grants: Mapping[UUID, frozenset[Right]] | None = None,
    password_hash: str | None = None,
    temporary: bool = False,
    locale: Locale | None = None,
) -> User:
    """A new user. Without a password it is invited by mail to set one.

    Raises Refused: INVALID for what is missing or does not go with the role, FORBIDDEN for a role that the actor may
    not give, NOT_FOUND for a merchant, holder or point of sale that is not there, ALREADY_EXISTS for a login in use."""
    actor.require("createUser")
    _may_give(actor, role)
    login = fields.line(login, "input.login", longest=60)
    name = fields.line(name, "input.name")
    address = fields.email(email, "input.email")
    if actor.role is Role.MERCHANT_MANAGER:
        if merchant_id not in (None, actor.merchant_id):
            raise Refused.not_found()
        merchant_id = actor.merchant_id
    if await work.take(User.maybe(login_key=login_key(login))):
        raise Refused(
            RefusalCode.ALREADY_EXISTS,
            Text("Cet identifiant est déjà utilisé.", "This login is already in use."),
            field="input.login",
        )
    await _check_belonging(work, role, merchant_id, holder_id)
    if password_hash is None and address is None:
        raise Refused.invalid(
            "input.email",
            "Une adresse e-mail est nécessaire pour inviter cette personne.",
            "An e-mail address is needed to invite this person.",
        )
    user = work.create(
        User(
            tenant=work.tenant,
            id=new_id(),
            login=login,
            login_key=login_key(login),
            name=name,
            sort_key=sort_key(name),
            email=address,
            role=role,
            merchant_id=merchant_id,
            holder_id=holder_id,
            locale=str(locale) if locale else None,
            created_at=work.now,
        )
    )
    work.add(
        Password(
            tenant=work.tenant,
            user_id=user.id,
            hash=password_hash or _UNUSABLE,
            temporary=temporary,
            links_since=work.real_now,
        )
    )
    await _give(work, user, grants or {})
    if password_hash is None:
        mail_link(work, user.id, ResetReason.INVITED)
    return work.note("create", user)


async def update(
    work: Work,
    actor: Actor,
    user_id: UUID,
    *,
    name: str | None = None,
    email: str | None = None,
    role: Role | None = None,
    grants: Mapping[UUID, frozenset[Right]] | None = None,
    locale: Locale | None = None,
) -> User:
    """Change what is given; grants replace the old ones. Whoever loses a right is signed out, so that no open socket
    keeps it. Raises Refused as `create` does."""
    actor.require("updateUser")
    user = await _take_managed(work, actor, user_id)
    changes: dict[str, Any] = {}
    if name is not None:
        kept = fields.line(name, "input.name")
        changes |= {"name": kept, "sort_key": sort_key(kept)}
    if email is not None:
        changes["email"] = fields.required_email(email, "input.email")
    if role is not None and role is not user.role:
        if user.id == actor.user_id:
            raise Refused(
                RefusalCode.FORBIDDEN,
                Text("Vous ne pouvez pas changer votre propre rôle.", "You cannot change your own role."),
                field="input.role",
            )
        _may_give(actor, role)
        await _check_belonging(work, role, user.merchant_id, user.holder_id)
        changes["role"] = role
        if grants is None and role is not Role.MERCHANT_STAFF:
            # Rights point by point are for staff alone: who comes back to it later starts without any.
            grants = {}
    if locale is not None and locale != user.locale:
        changes["locale"] = str(locale)
    if changes:
        work.change(user, **changes)
    if "email" in changes:
        password = await work.take(Password.by(user_id=user.id))
        work.change(password, links_since=work.real_now)
    if grants is not None:
        await _take_back(work, user)
        await _give(work, user, grants)
    if grants is not None or "role" in changes:
        await end_sessions(work, user.id)
    return work.note("update", user, changed=sorted({*changes, *(["grants"] if grants is not None else [])}))


async def choose_language(work: Work, actor: Actor, locale: Locale) -> User:
    """The user reads another language from now on: on every screen, and in mails."""
    actor.require("chooseLanguage")
    user = await work.take(User.by(id=actor.user_id))
    if user.locale == locale:
        return user
    work.change(user, locale=str(locale))
    return work.note("update", user, changed=["locale"])


async def deactivate(work: Work, actor: Actor, user_id: UUID) -> User:
    """The user may not sign in any more, and is signed out everywhere. Nobody shuts out themselves."""
    actor.require("deactivateUser")
    user = await _take_managed(work, actor, user_id)
    if user.id == actor.user_id:
        raise Refused(
            RefusalCode.FORBIDDEN,
            Text("Vous ne pouvez pas fermer votre propre accès.", "You cannot close your own access."),
        )
    work.change(user, active=False)
    await end_sessions(work, user.id)
    return work.note("deactivate", user)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def users(actor: Actor, search: str | None = None) -> sa.Select[Any]:
    """The users this actor manages; `search` in login, name and e-mail."""
    table = User.table.c
    question = sa.select(*User.selected()).where(actor.sees(table.merchant_id))
    if search:
        plain = (
            text.contains(search.strip().lower(), autoescape=True)
            for text in (table.login_key, sa.func.lower(table.email))
        )
        question = question.where(sa.or_(table.sort_key.contains(sort_key(search.strip()), autoescape=True), *plain))
    return question


def allowed_actions(user: User, actor: Actor) -> list[UserAction]:
    """What this actor may do with the user as it is (P4)."""
    if not _manages(actor, user):
        return []
    changes = [UserAction.CHANGE] if actor.may_use("updateUser") else []
    shuts_out = actor.may_use("deactivateUser") and user.active and user.id != actor.user_id
    return changes + ([UserAction.DEACTIVATE] if shuts_out else [])


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gives(actor: Actor, role: Role) -> bool:
    """Administrators are made by administrators; a signatory makes staff of its own merchant only."""
    if actor.user_id is None or actor.role is Role.ISSUER_ADMIN:
        return True
    if actor.role is Role.ISSUER_AGENT:
        return role not in ISSUER_STAFF
    return actor.role is Role.MERCHANT_MANAGER and role is Role.MERCHANT_STAFF


def _may_give(actor: Actor, role: Role) -> None:
    if not _gives(actor, role):
        raise Refused.forbidden()


def _manages(actor: Actor, user: User) -> bool:
    """Whether this actor may change the user: itself, or one whose role it gives."""
    return user.id == actor.user_id or _gives(actor, user.role)


async def _take_managed(work: Work, actor: Actor, user_id: UUID) -> User:
    user = await work.take(User.by(id=user_id))
    if actor.role is Role.MERCHANT_MANAGER and user.merchant_id != actor.merchant_id:
        raise Refused.not_found()
    if not _manages(actor, user):
        raise Refused.forbidden()
    return user


async def _check_belonging(work: Work, role: Role, merchant_id: UUID | None, holder_id: UUID | None) -> None:
    if (merchant_id is not None) != (role in _NEEDS_MERCHANT):
        raise Refused.invalid(
            "input.merchantId",
            "Ce rôle va de pair avec un commerçant, et aucun autre."
            if merchant_id is None
            else "Ce rôle n’a pas de commerçant.",
            "This role goes with a merchant." if merchant_id is None else "This role has no merchant.",
        )
    if (holder_id is not None) != (role is Role.HOLDER):
        raise Refused.invalid(
            "input.holderId",
            "Ce rôle va de pair avec un titulaire." if holder_id is None else "Ce rôle n’a pas de titulaire.",
            "This role goes with a holder." if holder_id is None else "This role has no holder.",
        )
    if merchant_id is not None and not await work.read(
        sa.select(Merchant.table.c.id).where(Merchant.table.c.id == merchant_id)
    ):
        raise Refused.not_found()
    if holder_id is not None and not await work.read(
        sa.select(Holder.table.c.id).where(Holder.table.c.id == holder_id)
    ):
        raise Refused.not_found()


async def _give(work: Work, user: User, grants: Mapping[UUID, frozenset[Right]]) -> None:
    if grants and user.role is not Role.MERCHANT_STAFF:
        raise Refused.invalid(
            "input.grants",
            "Seul le personnel d’un point d’accueil a des droits point par point.",
            "Only the staff of a point of sale has rights point by point.",
        )
    for point_of_sale_id, rights in grants.items():
        table = PointOfSale.table.c
        if not await work.read(
            sa.select(table.id).where(table.id == point_of_sale_id, table.merchant_id == user.merchant_id)
        ):
            raise Refused.not_found()
        work.add(Grant(tenant=work.tenant, user_id=user.id, point_of_sale_id=point_of_sale_id, rights=sorted(rights)))


async def _take_back(work: Work, user: User) -> None:
    old = await work.read(sa.select(*Grant.selected()).where(Grant.table.c.user_id == user.id))
    for row in old:
        work.remove(Grant.from_row(row))
    await work.flush()
