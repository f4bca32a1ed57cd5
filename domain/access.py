"""Who may do what: users, their roles and their rights.

RIGHTS says, for each field at the root of the API, who may use it; what is not named there nobody may use. Which rows a
role sees stands in `sees`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.db import Database, Entity, Row, column
from domain.errors import Refused
from domain.texts import Locale

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

WITH_A_TEMPORARY_PASSWORD: Final = frozenset({"viewer", "issuer", "changePassword", "signOut"})
"""All that a temporary password opens, besides what needs no session."""

RIGHTS: Final[Mapping[str, frozenset[Role] | None]] = {
    "node": SIGNED_IN,
    "issuer": ANYONE,
    "viewer": ANYONE,
    "pointsOfSale": ISSUER_STAFF | MERCHANT,
    "holders": ISSUER_STAFF,
    "paymentRequests": ISSUER_STAFF | MERCHANT,
    "suggestedBasketNumber": MERCHANT,
    "paymentOffer": ANYONE,
    "devices": SIGNED_IN,
    "merchants": ISSUER_STAFF,
    "users": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "signIn": ANYONE,
    "signOut": ANYONE,
    "changePassword": SIGNED_IN,
    "chooseLanguage": SIGNED_IN,
    "requestPasswordReset": ANYONE,
    "resetPassword": ANYONE,
    "signOutDevice": SIGNED_IN,
    "contactSupport": SIGNED_IN,
    "subscribeToPush": SIGNED_IN,
    "createUser": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "updateUser": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "deactivateUser": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "createMerchant": ISSUER_STAFF,
    "updateMerchant": ISSUER_STAFF,
    "createPointOfSale": ISSUER_STAFF,
    "createHolder": ISSUER_STAFF,
    "updateHolder": ISSUER_STAFF,
    "publishNews": ISSUER_STAFF,
    "removeNews": ISSUER_STAFF,
    "publishDocument": ISSUER_STAFF,
    "removeDocument": ISSUER_STAFF,
    "updatePointOfSale": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "createPaymentRequest": MERCHANT,
    "payPaymentRequest": HOLDER,
    "changePaymentCollection": MERCHANT,
    "declinePaymentRequest": HOLDER,
    "validatePaymentRequest": MERCHANT,
    "cancelPaymentRequest": MERCHANT,
    "creditHolder": ISSUER_STAFF,
    "advanceClock": ISSUER_STAFF,
    "paymentRequest": ISSUER_STAFF | MERCHANT,
    "createExport": ISSUER_STAFF | MERCHANT,
    "job": ISSUER_STAFF | MERCHANT,
    "paymentRequestChanges": ISSUER_STAFF | MERCHANT,
    "myPaymentOffers": HOLDER,
    "holderChanges": HOLDER,
    "suppliers": ISSUER_STAFF | HOLDER,
    "voucherKinds": ISSUER_STAFF | HOLDER,
    "vouchers": ISSUER_STAFF | HOLDER,
    "supplierInvoices": ISSUER_STAFF | MERCHANT,
    "memberStatements": ISSUER_STAFF | HOLDER,
    "requestVoucher": HOLDER,
    "revealVoucherCode": HOLDER,
    "deliverVoucher": HOLDER,
    "cancelVoucher": ISSUER_STAFF,
    "unblockVoucher": ISSUER_STAFF,
    "verifyVoucher": ISSUER_STAFF | MERCHANT,
    "recordSupplierInvoice": ISSUER_STAFF | MERCHANT,
    "decideExcess": ISSUER_STAFF,
    "issueMemberStatements": ISSUER_STAFF,
    "importHolders": ISSUER_STAFF,
    "holdersImportTemplate": ISSUER_STAFF,
    "reimbursements": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "transferFiles": ISSUER_STAFF,
    "exportReport": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "report": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "reportingStore": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "updateBankAccount": ISSUER_STAFF | frozenset({Role.MERCHANT_MANAGER}),
    "runReimbursements": ISSUER_STAFF,
    "settleReimbursement": ISSUER_STAFF,
    "importBankAnswer": ISSUER_STAFF,
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
    session_seen_at: datetime | None = None
    must_change_password: bool = False
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

    @property
    def is_without_place(self) -> bool:
        """Whether this is a merchant's staff without a right at any point of sale: it may do nothing in the merchant's
        name (P4)."""
        return self.role is Role.MERCHANT_STAFF and not self.grants

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
    sort_key: str
    email: str | None = None
    role: Role
    merchant_id: UUID | None = column(default=None, references="merchants")
    holder_id: UUID | None = column(default=None, references="holders", index=True)
    locale: str | None = None
    active: bool = True
    created_at: datetime


class Grant(Row, table="grants", key=("user_id", "point_of_sale_id"), app="SELECT, INSERT, UPDATE, DELETE"):
    """What a user may do at one point of sale (P4)."""

    user_id: UUID = column(references="users")
    point_of_sale_id: UUID = column(references="points_of_sale")
    rights: list[str]


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def tenant_of_slug(database: Database, slug: str | None) -> int | None:
    """The issuer of that name in addresses; without a name, the only one that there is; or None."""
    if slug is not None and "\0" in slug:
        # An address may hold it, a text of the database not.
        return None
    async with database.connection() as connection:
        tenant: int | None = await connection.fetchval("SELECT tenant_of_slug($1)", slug)
        return tenant


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
