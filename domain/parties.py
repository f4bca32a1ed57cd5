"""The parties: issuers, their merchants with points of sale, and the holders of their value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import fields, money
from domain.access import ISSUER_STAFF, Actor, tenant_of_slug
from domain.codes import new_id
from domain.db import Database, Entity, column
from domain.errors import RefusalCode, Refused
from domain.ledger import Account, AccountKind, Balance, Unit, funding_account_of, wallet_of
from domain.texts import Text, sort_key
from domain.work import Work

# ── entities ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Issuer(
    Entity,
    table="issuers",
    prefix="issr",
    key=(),
    app="SELECT",
    constraints=(
        sa.UniqueConstraint("slug"),
        sa.UniqueConstraint("id"),
        sa.CheckConstraint("sandbox OR (clock_offset = interval '0' AND frozen_at IS NULL)", name="clock"),
        sa.CheckConstraint("minimum_amount > 0", name="minimum_amount"),
        sa.CheckConstraint(
            "(warning_from_hour IS NULL) = (warning_until_hour IS NULL)"
            " AND 0 <= warning_from_hour AND warning_from_hour < warning_until_hour AND warning_until_hour <= 24",
            name="warning_hours",
        ),
    ),
):
    """Who issues the value and owns the data below it (one tenant): an agency, a federation, a venue, a brand.

    Amounts are cents. `immediate_minutes`: how long an immediate request waits (AP5). Warnings leave between
    `warning_from_hour` and `warning_until_hour` (exclusive) in Paris; at any hour when both are null (AP7). A sandbox's
    clock may be moved by `clock_offset` or stand still at `frozen_at`."""

    slug: str
    name: str
    sandbox: bool = False
    login_label_fr: str = "Identifiant"
    login_label_en: str = "Login"
    support_phone: str | None = None
    support_email: str | None = None
    support_hours_fr: str | None = None
    support_hours_en: str | None = None
    minimum_amount: int = 20_00
    maximum_payment_days: int = 365
    maximum_validation_days: int = 6
    immediate_minutes: int = 15
    warning_from_hour: int | None = None
    warning_until_hour: int | None = None
    clock_offset: timedelta = timedelta(0)
    frozen_at: datetime | None = None
    created_at: datetime

    @property
    def file_mark(self) -> str:
        """What the names of a sandbox's files begin with, where one may be taken for a real one; empty for a real
        issuer."""
        return "TEST-" if self.sandbox else ""

    @property
    def contact(self) -> str:
        """Where it answers questions, in one line; empty when it says nothing of that."""
        return " · ".join(filter(None, (self.support_phone, self.support_email)))


class Merchant(
    Entity,
    table="merchants",
    prefix="mrch",
    constraints=(sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]),),
):
    """Who collects value, at its points of sale, and is reimbursed. When not `active` it asks for nothing new.
    `auto_validation`: a validation window that ends without a decision validates all that was paid (AP1)."""

    code: str = column(unique=True)
    name: str
    sort_key: str
    active: bool = True
    auto_validation: bool = column(default=False, where_missing="false")
    created_at: datetime


class PointOfSale(
    Entity,
    table="points_of_sale",
    prefix="posl",
    constraints=(sa.UniqueConstraint("tenant", "merchant_id", "code"),),
):
    """Where a merchant collects."""

    merchant_id: UUID = column(references="merchants")
    code: str
    name: str
    sort_key: str
    street: str | None = None
    postcode: str | None = None
    town: str | None = None
    country: str | None = None
    created_at: datetime


class Channel(StrEnum):
    """How statements reach a member."""

    EMAIL = "EMAIL"
    POST = "POST"


class Holder(
    Entity,
    table="holders",
    prefix="hold",
    constraints=(
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]),
        sa.Index("holders_email_idx", "tenant", sa.text("lower(email)")),
        sa.CheckConstraint("num_nulls(street, postcode, town, country) IN (0, 4)", name="postal_address"),
    ),
):
    """Who holds value: a customer with a wallet, or a member. `reference` is how a merchant names the customer. Once
    there is a `member_since`, it has a member's accounts; `dues_paid_until` is the last day that its dues cover."""

    reference: str = column(unique=True)
    name: str
    first_name: str | None = None
    sort_key: str
    email: str | None = None
    mobile: str | None = None
    street: str | None = None
    postcode: str | None = None
    town: str | None = None
    country: str | None = None
    member_since: date | None = None
    dues_paid_until: date | None = None
    statement_by: Channel | None = None
    created_at: datetime
    version: int = 0


# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; `country` is an ISO 3166 code of two letters."""

    street: str
    postcode: str
    town: str
    country: str = "FR"


class HolderDetails(TypedDict, total=False):
    """What may be said of a holder; what is absent, or None, is not said."""

    name: str | None
    first_name: str | None
    email: str | None
    mobile: str | None
    postal_address: Address | None
    member_since: date | None
    dues_paid_until: date | None
    statement_by: Channel | None


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A point of sale to be made."""

    code: str
    name: str
    address: Address | None = None


async def create_merchant(
    work: Work, actor: Actor, *, code: str, name: str, points_of_sale: Sequence[NewPlace] = ()
) -> Merchant:
    """A new merchant with its points of sale, and the accounts it is paid through. Raises Refused (INVALID,
    ALREADY_EXISTS)."""
    actor.require("createMerchant")
    code = fields.line(code, "input.code", longest=20)
    if await work.take(Merchant.maybe(code=code)):
        raise _taken("input.code")
    name = fields.line(name, "input.name")
    merchant = work.create(
        Merchant(tenant=work.tenant, id=new_id(), code=code, name=name, sort_key=sort_key(name), created_at=work.now)
    )
    work.open_account(merchant.id, AccountKind.MERCHANT)
    work.open_account(merchant.id, AccountKind.HELD)
    work.open_account(merchant.id, AccountKind.TRANSIT)
    codes = [place.code.strip() for place in points_of_sale]
    for n, place in enumerate(points_of_sale):
        if place.code.strip() in codes[:n]:
            raise _taken(f"input.pointsOfSale.{n}.code")
        _open_point_of_sale(work, merchant.id, place, f"input.pointsOfSale.{n}")
    return work.note("create", merchant)


async def update_merchant(
    work: Work,
    actor: Actor,
    merchant_id: UUID,
    *,
    name: str | None = None,
    active: bool | None = None,
    auto_validation: bool | None = None,
) -> Merchant:
    """What is given changes; a request keeps what was chosen when it was made. Raises Refused (INVALID, NOT_FOUND)."""
    actor.require("updateMerchant")
    merchant = await work.take(Merchant.by(id=merchant_id))
    changes: dict[str, Any] = {}
    if name is not None:
        kept = fields.line(name, "input.name")
        changes |= {"name": kept, "sort_key": sort_key(kept)}
    if active is not None:
        changes["active"] = active
    if auto_validation is not None:
        changes["auto_validation"] = auto_validation
    if changes:
        work.change(merchant, **changes)
    return work.note("update", merchant, changed=sorted(changes))


async def create_point_of_sale(work: Work, actor: Actor, *, merchant_id: UUID, place: NewPlace) -> PointOfSale:
    """A new point of sale of a merchant. Raises Refused (INVALID, NOT_FOUND, ALREADY_EXISTS)."""
    actor.require("createPointOfSale")
    code = place.code.strip()
    _, existing = await work.take(Merchant.by(id=merchant_id), PointOfSale.maybe(merchant_id=merchant_id, code=code))
    if existing:
        raise _taken("input.code")
    return _open_point_of_sale(work, merchant_id, place, "input")


async def update_point_of_sale(
    work: Work, actor: Actor, point_of_sale_id: UUID, *, name: str | None = None, address: Address | None = None
) -> PointOfSale:
    """Another name or address. Raises Refused (INVALID, NOT_FOUND)."""
    actor.require("updatePointOfSale")
    place = await work.take(PointOfSale.by(id=point_of_sale_id))
    if actor.merchant_id not in (None, place.merchant_id):
        raise Refused.not_found()
    changes: dict[str, str] = {}
    if name is not None:
        kept = fields.line(name, "input.name")
        changes |= {"name": kept, "sort_key": sort_key(kept)}
    if address is not None:
        changes |= checked_address(address, "input.address")
    if changes:
        work.change(place, **changes)
    return work.note("update", place, point_of_sale_id=place.id, changed=sorted(changes))


async def create_holder(work: Work, actor: Actor, *, reference: str | None, **details: Unpack[HolderDetails]) -> Holder:
    """A new holder, with a wallet, and as a member with a member's accounts; without a reference its e-mail address is
    one. Raises Refused (INVALID, ALREADY_EXISTS)."""
    actor.require("createHolder")
    address = fields.email(details.get("email"), "input.email")
    reference = fields.line(reference or address, "input.reference", longest=254)
    if await work.take(Holder.maybe(reference=reference)):
        raise _taken("input.reference")
    return make_holder(work, reference, **details)


async def update_holder(work: Work, actor: Actor, holder_id: UUID, **details: Unpack[HolderDetails]) -> Holder:
    """What is given changes. Raises Refused (INVALID, NOT_FOUND)."""
    actor.require("updateHolder")
    return change_holder(work, await work.take(Holder.by(id=holder_id)), **details)


def make_holder(work: Work, reference: str, **details: Unpack[HolderDetails]) -> Holder:
    """A new holder of a reference that is found to be free, with its accounts. Raises Refused (INVALID)."""
    kept = _kept(details) | {"name": fields.line(details.get("name"), "input.name")}
    key = sort_key(f"{kept['name']} {kept.get('first_name') or ''}")
    holder = work.create(
        Holder(tenant=work.tenant, id=new_id(), reference=reference, sort_key=key, created_at=work.now, **kept)
    )
    _check_statement_by(holder)
    work.open_account(holder.id, AccountKind.WALLET)
    if holder.member_since is not None:
        _open_member_accounts(work, holder)
    return work.note("create", holder, holder_id=holder.id)


def change_holder(work: Work, holder: Holder, **details: Unpack[HolderDetails]) -> Holder:
    """What is given changes of a holder that is taken; what was so already leaves no line. Raises Refused (INVALID)."""
    was_member = holder.member_since is not None
    changes = holder_changes(holder, **details)
    if not changes:
        return holder
    work.change(holder, **changes)
    work.change(holder, sort_key=sort_key(f"{holder.name} {holder.first_name or ''}"))
    if holder.member_since is not None and not was_member:
        _open_member_accounts(work, holder)
    return work.note("update", holder, holder_id=holder.id, changed=sorted(changes))


def holder_changes(holder: Holder, **details: Unpack[HolderDetails]) -> dict[str, Any]:
    """The columns of what is given and is not so already; nothing changes yet. Raises Refused (INVALID)."""
    changes = {name: value for name, value in _kept(details).items() if getattr(holder, name) != value}
    if changes:
        _check_statement_by(holder, changes)
    return changes


LARGEST_CREDIT: Final = 10_000_00
"""What one `creditHolder` may bring into circulation at most, in cents: a slip of the keyboard is refused."""


async def credit_holder(work: Work, actor: Actor, holder_id: UUID, amount: str, reason: str) -> Holder:
    """The issuer puts value into a holder's wallet. Raises Refused: INVALID, AMOUNT_TOO_LOW,
    AMOUNT_TOO_HIGH, NOT_FOUND."""
    actor.require("creditHolder")
    cents = money.positive_cents(amount, "input.amount")
    reason = fields.line(reason, "input.reason")
    if cents > LARGEST_CREDIT:
        raise Refused(
            RefusalCode.AMOUNT_TOO_HIGH,
            Text("{most} au plus en une fois.", "At most {most} at a time."),
            field="input.amount",
            most=money.shown(LARGEST_CREDIT),
        )
    holder, wallet = await work.take(Holder.by(id=holder_id), Balance.by(account_id=wallet_of(holder_id)))
    issuer_id = (await work.read(sa.select(Issuer.table.c.id)))[0][0]

    work.transfer(holder, funding_account_of(issuer_id), wallet, cents, "credit")
    work.change(holder)
    return work.note("credit", holder, amount=cents, holder_id=holder.id, reason=reason)


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def issuer(connection: AsyncConnection) -> Issuer:
    """The issuer behind whose wall the connection stands."""
    return Issuer.from_row((await connection.execute(sa.select(*Issuer.selected()))).one())


async def now(connection: AsyncConnection, tenant: int) -> datetime:
    """The tenant's clock: real time, but in a sandbox."""
    instant = await connection.scalar(sa.select(sa.func.tenant_clock(tenant)))
    assert isinstance(instant, datetime), "every tenant has a clock"
    return instant


async def issuer_of_slug(database: Database, slug: str | None) -> Issuer | None:
    """The issuer of that name in addresses; without a name, the only one that there is; or None."""
    tenant = await tenant_of_slug(database, slug)
    if tenant is None:
        return None
    async with database.reading(tenant) as connection:
        return await issuer(connection)


async def merchant_seen(connection: AsyncConnection, actor: Actor, merchant_id: UUID) -> Merchant | None:
    """One merchant that this actor sees, or None: its own, or any for the issuer's staff."""
    seen = actor.role in ISSUER_STAFF or actor.merchant_id == merchant_id
    return await merchant(connection, merchant_id) if seen else None


def merchants(actor: Actor, search: str | None = None) -> sa.Select[tuple[object, ...]]:
    """The merchants this actor sees; `search` in code and name."""
    return every_merchant(search).where(actor.sees(Merchant.table.c.id))


def every_merchant(search: str | None = None) -> sa.Select[tuple[object, ...]]:
    """The issuer's merchants; `search` in code and name."""
    table = Merchant.table.c
    question = sa.select(*Merchant.selected())
    if search:
        question = question.where(_contains(table.sort_key, search) | _contains_plain(table.code, search))
    return question


async def merchant(connection: AsyncConnection, merchant_id: UUID) -> Merchant | None:
    """One merchant, or None."""
    row = (await connection.execute(sa.select(*Merchant.selected()).where(Merchant.table.c.id == merchant_id))).first()
    return Merchant.from_row(row) if row else None


async def point_of_sale(connection: AsyncConnection, actor: Actor, point_of_sale_id: UUID) -> PointOfSale | None:
    """One point of sale that this actor sees, or None."""
    row = (await connection.execute(points_of_sale(actor).where(PointOfSale.table.c.id == point_of_sale_id))).first()
    return PointOfSale.from_row(row) if row else None


def points_of_sale(
    actor: Actor, search: str | None = None, merchant_id: UUID | None = None
) -> sa.Select[tuple[object, ...]]:
    """The points of sale this actor may act for (P3); `search` in code and name."""
    table = PointOfSale.table.c
    question = sa.select(*PointOfSale.selected()).where(actor.sees(table.merchant_id, table.id))
    if merchant_id is not None:
        question = question.where(table.merchant_id == merchant_id)
    if search:
        question = question.where(_contains(table.sort_key, search) | _contains_plain(table.code, search))
    return question


async def holder(connection: AsyncConnection, actor: Actor, holder_id: UUID) -> Holder | None:
    """One holder that this actor sees, or None: itself, or any for the issuer's staff."""
    row = (await connection.execute(holders(actor).where(Holder.table.c.id == holder_id))).first()
    return Holder.from_row(row) if row else None


def holders(actor: Actor, search: str | None = None) -> sa.Select[tuple[object, ...]]:
    """The holders this actor sees; `search` in reference, name and e-mail."""
    table = Holder.table.c
    question = sa.select(*Holder.selected()).where(sa.or_(actor.sees(), table.id == actor.holder_id))
    if search:
        question = question.where(
            _contains(table.sort_key, search)
            | _contains_plain(table.reference, search)
            | _contains_plain(table.email, search)
        )
    return question


HOLDER_ORDER: Final = (Holder.table.c.sort_key, Holder.table.c.id)
"""The order of holders, by name: it goes up."""


def wallet_in_sql() -> sa.ScalarSelect[Any]:
    """What is in the wallet of a question's holder, in cents; for the issuer's staff alone."""
    account, balance = Account.table.c, Balance.table.c
    asked = sa.select(balance.amount).join(Account.table, account.id == balance.account_id)
    wallet = sa.and_(account.kind == str(AccountKind.WALLET), account.unit == str(Unit.EUR))
    return asked.where(account.owner_id == Holder.table.c.id, wallet).correlate(Holder.table).scalar_subquery()


async def wallet_amounts(
    connection: AsyncConnection, actor: Actor, holder_ids: Sequence[UUID]
) -> dict[UUID, int | None]:
    """What is in holders' wallets, in cents; None to those who may not see it: all but the holder itself and the
    issuer's staff."""
    wallets = {wallet_of(id_): id_ for id_ in holder_ids if actor.holder_id == id_ or actor.role in ISSUER_STAFF}
    found: dict[UUID, int | None] = dict.fromkeys(holder_ids)
    if wallets:
        table = Balance.table.c
        rows = await connection.execute(sa.select(table.account_id, table.amount).where(table.account_id.in_(wallets)))
        found |= {wallets[account_id]: amount for account_id, amount in rows}
        assert all(found[id_] is not None for id_ in wallets.values()), "every holder has a wallet"
    return found


def require_member(holder: Holder, today: date) -> None:
    """Raises Refused (FORBIDDEN) before the membership is recorded, and before it begins (V1)."""
    if holder.member_since is None or holder.member_since > today:
        raise Refused(
            RefusalCode.FORBIDDEN,
            Text(
                "Cet espace s’ouvre dès que votre adhésion est enregistrée.",
                "This space opens as soon as your membership is recorded.",
            ),
        )


def checked_address(address: Address, field: str) -> dict[str, str]:
    """An address's columns. Raises Refused (INVALID)."""
    country = fields.line(address.country, f"{field}.country").upper()
    if len(country) != 2 or not country.isascii() or not country.isalpha():
        raise Refused.invalid(
            f"{field}.country", "Un code de pays a deux lettres, par exemple FR.", "A country code has two letters: FR."
        )
    return {
        "street": fields.line(address.street, f"{field}.street"),
        "postcode": fields.line(address.postcode, f"{field}.postcode", longest=20),
        "town": fields.line(address.town, f"{field}.town"),
        "country": country,
    }


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _kept(details: HolderDetails) -> dict[str, Any]:
    """The columns of what is said. Raises Refused (INVALID)."""
    as_they_are = ("member_since", "dues_paid_until", "statement_by")
    kept: dict[str, Any] = {name: value for name, value in details.items() if name in as_they_are and value is not None}
    if (address := details.get("postal_address")) is not None:
        kept |= checked_address(address, "input.postalAddress")
    if (name := details.get("name")) is not None:
        kept["name"] = fields.line(name, "input.name")
    if (first_name := details.get("first_name")) is not None:
        kept["first_name"] = fields.optional_line(first_name, "input.firstName")
    if (email := details.get("email")) is not None:
        kept["email"] = fields.email(email, "input.email")
    if (mobile := details.get("mobile")) is not None:
        kept["mobile"] = fields.optional_line(mobile, "input.mobile", longest=30)
    return kept


def _open_member_accounts(work: Work, holder: Holder) -> None:
    work.open_account(holder.id, AccountKind.GUARANTEE)
    work.open_account(holder.id, AccountKind.DEBT)


def _check_statement_by(holder: Holder, changes: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Of a holder as it is, or will be once it is changed. Raises Refused (INVALID)."""
    statement_by, email, street = (
        changes.get(name, getattr(holder, name)) for name in ("statement_by", "email", "street")
    )
    if statement_by is Channel.EMAIL and email is None:
        raise Refused.invalid(
            "input.statementBy",
            "Un relevé par e-mail demande une adresse e-mail.",
            "A statement by e-mail needs an e-mail address.",
        )
    if statement_by is Channel.POST and street is None:
        raise Refused.invalid(
            "input.statementBy",
            "Un relevé par courrier demande une adresse postale.",
            "A statement by post needs a postal address.",
        )


def _open_point_of_sale(work: Work, merchant_id: UUID, place: NewPlace, field: str) -> PointOfSale:
    name = fields.line(place.name, f"{field}.name")
    address = checked_address(place.address, f"{field}.address") if place.address else {}
    made = work.create(
        PointOfSale(
            tenant=work.tenant,
            id=new_id(),
            merchant_id=merchant_id,
            code=fields.line(place.code, f"{field}.code", longest=20),
            name=name,
            sort_key=sort_key(name),
            created_at=work.now,
            **address,
        )
    )
    return work.note("create", made, point_of_sale_id=made.id)


def _contains(text: sa.ColumnElement[str], search: str) -> sa.ColumnElement[bool]:
    return text.contains(sort_key(search.strip()), autoescape=True)


def _contains_plain(text: sa.ColumnElement[Any], search: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(text).contains(search.strip().lower(), autoescape=True)


def _taken(field: str) -> Refused:
    return Refused(
        RefusalCode.ALREADY_EXISTS,
        Text("Cette valeur est déjà utilisée.", "This value is already in use."),
        field=field,
    )
