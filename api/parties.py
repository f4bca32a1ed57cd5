"""Issuers, merchants, points of sale and holders, as the API shows them."""

from collections.abc import AsyncGenerator, Sequence
from datetime import date, datetime
from typing import Any, cast
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from api.context import Context
from api.publications import Document, NewsItem
from api.shapes import (
    Connection,
    DecimalText,
    Info,
    Money,
    Node,
    PageOf,
    described,
    field,
    finds,
    id_of,
    in_language,
    itself,
    mutation,
    page,
    question,
    result,
    view,
)
from domain import appearance, bank_accounts, parties, payments, publications, push, sandbox
from domain.ledger import Balance
from domain.texts import Locale, Text

Channel = described(parties.Channel)

# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type(description="How to reach the people who help.")
class Support:
    """A view of domain.parties.Issuer."""

    phone: str | None = strawberry.field(
        description="Telephone number.", resolver=lambda root: root.support_phone, graphql_type=str | None
    )
    email: str | None = strawberry.field(
        description="E-mail address.", resolver=lambda root: root.support_email, graphql_type=str | None
    )

    @strawberry.field(description="When they answer.")
    def hours(self, info: Info, locale: Locale | None = None) -> str | None:
        issuer = cast(parties.Issuer, self)
        return in_language(Text(issuer.support_hours_fr or "", issuer.support_hours_en or ""), info, locale) or None


@strawberry.type(description="What payment requests must respect at this issuer.")
class PaymentRules:
    """A view of domain.parties.Issuer."""

    minimum_amount: Money = field("The least that may be requested.")
    maximum_payment_days: int = field("The latest day of a deferred payment, in days from today.")
    maximum_validation_days: int = field("The longest validation window, in days.")
    immediate_minutes: int = field("How long an immediate request waits for its payment, in minutes.")


@strawberry.type(description="How an issuer shows itself.")
class Appearance:
    """A view of domain.appearance.Appearance."""

    accent_light: str = field("Its colour on a light ground, as `#rrggbb`; white is legible on it.")
    accent_dark: str = field("Its colour on a dark ground, as `#rrggbb`; the ground is legible on it.")
    mark_path: str | None = field("Where its mark is on this server: a PNG picture for a white ground. Null without.")


async def _appearance(root: strawberry.Parent[parties.Issuer], info: Info) -> Appearance:
    async with info.context.services.database.reading(root.tenant) as connection:
        chosen = await appearance.appearance(connection, root.tenant)
    digest = chosen.mark_digest
    return Appearance(
        accent_light=chosen.shades.light,
        accent_dark=chosen.shades.dark,
        mark_path=f"/marks/{root.slug}/{digest}" if digest else None,
    )


def _shown() -> Any:
    return strawberry.field(resolver=_appearance, description="Its colour and its mark.")


@view(
    parties.Issuer,
    "Who issues the value and owns the data below it (one tenant): an agency, a federation, a venue, a brand.",
)
class Issuer(Node):
    """A view of domain.parties.Issuer."""

    slug: str = field("Its name in addresses and at sign-in.")
    name: str = field("Its name for people.")
    sandbox: bool = field("Whether all this is a rehearsal: only mails leave, marked.")
    support: Support = itself("How to reach the people who help.", Support)
    payment_rules: PaymentRules | None = itself("What payment requests must respect.", PaymentRules | None)
    appearance: Appearance = _shown()

    @strawberry.field(description="The issuer's clock: real time, but in a sandbox.")
    async def now(self, info: Info) -> datetime:
        async with info.context.reading() as connection:
            return await parties.now(connection, cast(parties.Issuer, self).tenant)

    @strawberry.field(
        description="The `applicationServerKey` for `pushManager.subscribe`. When it has changed, devices register"
        " again. Null in a sandbox, which only mails leave."
    )
    def push_public_key(self, info: Info) -> str | None:
        sandbox = cast(parties.Issuer, self).sandbox
        return None if sandbox else push.public_key(info.context.services.settings)

    @strawberry.field(
        description="What is new, the latest first (P5). What is of a day to come, its staff alone reads.",
        graphql_type=list[NewsItem],
    )
    async def news(self, info: Info) -> Sequence[publications.NewsItem]:
        async with info.context.reading() as connection:
            return await publications.news(connection, info.context.someone)

    @strawberry.field(description="What it has put online for its merchants, the latest first (P5).")
    async def documents(self, info: Info) -> list[Document]:
        async with info.context.reading() as connection:
            return [Document.of(each) for each in await publications.documents(connection)]


@view(parties.Issuer, "What anyone may know before signing in.")
class IssuerCard:
    """A view of domain.parties.Issuer."""

    slug: str = field("Its name in addresses and at sign-in.")
    name: str = field("Its name for people.")
    support: Support = itself("How to reach the people who help.", Support)
    appearance: Appearance = _shown()

    @strawberry.field(description="How it calls the login: “N° de convention”.")
    def login_label(self, info: Info, locale: Locale | None = None) -> str:
        issuer = cast(parties.Issuer, self)
        return in_language(Text(issuer.login_label_fr, issuer.login_label_en), info, locale)

    @strawberry.field(description="Whether people may open an account by themselves.")
    def sign_up_open(self) -> bool:
        return False


@view(bank_accounts.BankAccount, "Where a merchant is reimbursed to.")
class BankAccount:
    """A view of domain.bank_accounts.BankAccount."""

    iban_last4: str = field("The last four characters of its IBAN.")
    bic: str | None = field("The bank.")
    account_holder: str = field("Whose account it is.")
    held: bool = field("Whether it has just changed, so that the next run passes it over.")
    changed_at: datetime = field("When it was given.")


@view(parties.Merchant, "Who collects value at its points of sale, and is reimbursed.")
class Merchant(Node):
    """A view of domain.parties.Merchant."""

    code: str = field("Its number at the issuer (convention number).")
    name: str = field("Its name.")
    active: bool = field("Whether it may collect.")
    auto_validation: bool = field(
        "Whether a validation window that ends without a decision validates all that was paid, instead of giving it"
        " back."
    )

    @strawberry.field(
        description="Where it is reimbursed to; null without, and to those who may not see it.",
        graphql_type=BankAccount | None,
    )
    async def bank_account(self, info: Info) -> bank_accounts.BankAccount | None:
        async with info.context.reading() as connection:
            merchant_id = cast(parties.Merchant, self).id
            return await bank_accounts.bank_account(connection, info.context.someone, merchant_id)


@strawberry.type(description="A postal address.")
class Address:
    """A view of domain.parties.PointOfSale."""

    street: str = field("Number and street.")
    postcode: str = field("Postcode.")
    town: str = field("Town.")
    country: str = field("Country, by its ISO 3166 code.")


@view(parties.PointOfSale, "Where a merchant collects.")
class PointOfSale(Node):
    """A view of domain.parties.PointOfSale."""

    code: str = field("Its code at the merchant: “P001”.")
    name: str = field("Its name.")

    @strawberry.field(description="Where it is.", graphql_type=Address | None)
    def address(self) -> parties.PointOfSale | None:
        place = cast(parties.PointOfSale, self)
        return place if place.street and place.postcode and place.town and place.country else None

    @strawberry.field(description="Whose it is.", graphql_type=Merchant)
    async def merchant(self, info: Info) -> parties.Merchant:
        return await info.context.merchant(cast(parties.PointOfSale, self).merchant_id)

    @strawberry.field(description="Where this user last asked to be told (P13).")
    async def remembered_email(self, info: Info) -> str | None:
        async with info.context.reading() as connection:
            return await payments.remembered_email(connection, info.context.someone, cast(parties.PointOfSale, self).id)


@view(parties.Holder, "Who holds value: a customer with a wallet.")
class Holder(Node):
    """A view of domain.parties.Holder."""

    reference: str = field("How merchants and the issuer name this holder.")
    name: str = field("Family name, or the name of an organisation.")
    first_name: str | None = field("First name.")
    email: str | None = field("E-mail address.")
    mobile: str | None = field("Mobile telephone number.")
    member_since: date | None = field("When its membership began; null for who is no member.")
    dues_paid_until: date | None = field("The last day that its dues cover.")
    statement_by: Channel | None = field("How statements reach it.")  # type: ignore[valid-type]

    @strawberry.field(description="Where it receives post.", graphql_type=Address | None)
    def postal_address(self) -> parties.Holder | None:
        holder = cast(parties.Holder, self)
        return holder if holder.street else None

    @strawberry.field(
        description="What the holder may spend. Null to those who may not see it.", graphql_type=Money | None
    )
    async def wallet(self, info: Info) -> int | None:
        holder, context = cast(parties.Holder, self), info.context

        async def read(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, int | None]:
            return await parties.wallet_amounts(connection, context.someone, ids)

        if context.is_listed(Balance, holder.id):
            amount: int | None = await context.once_for_all(Balance, holder.id, read)
            return amount
        # Read again each time: what a mutation has changed is seen by the next.
        async with context.reading() as connection:
            return (await read(connection, [holder.id]))[holder.id]


def wallets_of_one_list(context: Context, holder_ids: Sequence[UUID]) -> None:
    """These holders are listed together: their wallets are read by one question, if at all."""
    context.of_one_list(Balance, list(dict.fromkeys(holder_ids)))


HolderResult = result("HolderResult", Holder)
IssuerResult = result("IssuerResult", Issuer)
MerchantResult = result("MerchantResult", Merchant)
PointOfSaleResult = result("PointOfSaleResult", PointOfSale)

# ── finding them again ────────────────────────────────────────────────────────────────────────────────────────────────


@finds(parties.Issuer)
async def _find_issuer(context: Context, issuer_id: UUID) -> parties.Issuer | None:
    async with context.reading() as connection:
        issuer = await parties.issuer(connection)
    return issuer if issuer.id == issuer_id else None


@finds(parties.Merchant)
async def _find_merchant(context: Context, merchant_id: UUID) -> parties.Merchant | None:
    async with context.reading() as connection:
        return await parties.merchant_seen(connection, context.someone, merchant_id)


@finds(parties.PointOfSale)
async def _find_point_of_sale(context: Context, point_of_sale_id: UUID) -> parties.PointOfSale | None:
    return await context.point_of_sale(point_of_sale_id)


@finds(parties.Holder)
async def _find_holder(context: Context, holder_id: UUID) -> parties.Holder | None:
    async with context.reading() as connection:
        return await parties.holder(connection, context.someone, holder_id)


# ── root fields ───────────────────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class PartyQueries:
    """Questions about parties."""

    @question(
        "What anyone may know of an issuer before signing in; without a slug, of the only one that there is here.",
        IssuerCard | None,
    )
    async def issuer(self, info: Info, slug: str | None = None) -> parties.Issuer | None:
        return await parties.issuer_of_slug(info.context.services.database, slug)

    @question("The points of sale the viewer may act for.", Connection[PointOfSale])
    async def points_of_sale(
        self,
        info: Info,
        search: str | None = None,
        merchant_id: strawberry.ID | None = None,
        first: int | None = 50,
        after: str | None = None,
    ) -> PageOf[parties.PointOfSale]:
        context, table = info.context, parties.PointOfSale.table.c
        of = id_of(info.context, merchant_id, parties.Merchant.prefix) if merchant_id is not None else None
        asked = parties.points_of_sale(context.someone, search, of)
        order = (table.sort_key, table.id)
        return await page(
            context, asked, parties.PointOfSale.from_row, order, descending=False, first=first, after=after
        )

    @question("The issuer's merchants, by name.", Connection[Merchant])
    async def merchants(
        self, info: Info, search: str | None = None, first: int | None = 50, after: str | None = None
    ) -> PageOf[parties.Merchant]:
        context, table = info.context, parties.Merchant.table.c
        asked = parties.merchants(context.someone, search)
        order = (table.sort_key, table.id)
        return await page(context, asked, parties.Merchant.from_row, order, descending=False, first=first, after=after)

    @question("The issuer's holders, by name.", Connection[Holder])
    async def holders(
        self, info: Info, search: str | None = None, first: int | None = 50, after: str | None = None
    ) -> PageOf[parties.Holder]:
        context = info.context
        asked, order = parties.holders(context.someone, search), parties.HOLDER_ORDER
        found = await page(context, asked, parties.Holder.from_row, order, descending=False, first=first, after=after)
        wallets_of_one_list(context, [edge.node.id for edge in found.edges])
        return found


@strawberry.type
class PartySubscriptions:
    """Holders, live."""

    @strawberry.subscription(
        description="A holder's phone: the viewer now, then each time that its wallet, an offer or a voucher of its own"
        " has changed; which one, the lists say. Ask them again after a reconnect.",
        graphql_type=Holder,
    )
    async def holder_changes(self, info: Info) -> AsyncGenerator[parties.Holder, None]:
        context, actor = info.context, info.context.someone
        assert actor.holder_id is not None, "only holders may ask (RIGHTS)"
        async for _ in context.services.hub.changes((parties.Holder.prefix, str(actor.holder_id))):
            async with context.reading() as connection:
                holder = await parties.holder(connection, actor, actor.holder_id)
            assert holder is not None, "holders stay"
            yield holder


@strawberry.input(description="Value put into a holder's wallet.")
class CreditHolderInput:
    """For `creditHolder`."""

    holder_id: strawberry.ID = strawberry.field(description="Whose wallet.")
    amount: DecimalText = strawberry.field(description="How much, in euros.")
    reason: str = strawberry.field(description="Why, for the journal.")


@strawberry.input(description="A postal address.")
class AddressInput:
    """For points of sale."""

    street: str = strawberry.field(description="Number and street.")
    postcode: str = strawberry.field(description="Postcode.")
    town: str = strawberry.field(description="Town.")
    country: str = strawberry.field(default="FR", description="Country, by its ISO 3166 code of two letters.")

    def read(self) -> parties.Address:
        """As the domain takes it."""
        return parties.Address(self.street, self.postcode, self.town, self.country)


@strawberry.input(description="A new point of sale.")
class NewPointOfSaleInput:
    """For `createMerchant`."""

    code: str = strawberry.field(description="Its code at the merchant: “P001”.")
    name: str = strawberry.field(description="Its name.")
    address: AddressInput | None = strawberry.field(default=None, description="Where it is.")

    def read(self) -> parties.NewPlace:
        """As the domain takes it."""
        return parties.NewPlace(self.code, self.name, self.address.read() if self.address else None)


@strawberry.input(description="A new merchant.")
class CreateMerchantInput:
    """For `createMerchant`."""

    code: str = strawberry.field(description="Its number at the issuer (convention number).")
    name: str = strawberry.field(description="Its name.")
    points_of_sale: list[NewPointOfSaleInput] = strawberry.field(description="Where it collects.")


@strawberry.input(description="What changes of a merchant; what is absent stays.")
class UpdateMerchantInput:
    """For `updateMerchant`."""

    id: strawberry.ID = strawberry.field(description="Which one.")
    name: str | None = strawberry.field(default=None, description="Its name.")
    active: bool | None = strawberry.field(
        default=None, description="Whether it may collect; what it has asked for already goes on."
    )
    auto_validation: bool | None = strawberry.field(
        default=None,
        description="Whether validation windows that end without a decision validate all that was paid, for requests"
        " made from now on.",
    )


@strawberry.input(description="A new point of sale of a merchant that is there already.")
class CreatePointOfSaleInput:
    """For `createPointOfSale`."""

    merchant_id: strawberry.ID = strawberry.field(description="Whose.")
    code: str = strawberry.field(description="Its code at the merchant.")
    name: str = strawberry.field(description="Its name.")
    address: AddressInput | None = strawberry.field(default=None, description="Where it is.")


@strawberry.input(description="What changes of a point of sale; what is absent stays.")
class UpdatePointOfSaleInput:
    """For `updatePointOfSale`."""

    id: strawberry.ID = strawberry.field(description="Which one.")
    name: str | None = strawberry.field(default=None, description="Its name.")
    address: AddressInput | None = strawberry.field(default=None, description="Where it is.")


@strawberry.input(description="A new holder.")
class CreateHolderInput:
    """For `createHolder`."""

    reference: str | None = strawberry.field(
        default=None, description="How merchants and the issuer name the holder; the e-mail address when absent."
    )
    name: str = strawberry.field(description="Family name, or the name of an organisation.")
    first_name: str | None = strawberry.field(default=None, description="First name.")
    email: str | None = strawberry.field(default=None, description="E-mail address.")
    mobile: str | None = strawberry.field(default=None, description="Mobile telephone number.")
    postal_address: AddressInput | None = strawberry.field(default=None, description="Where it receives post.")
    member_since: date | None = strawberry.field(default=None, description="When its membership began (V1).")
    dues_paid_until: date | None = strawberry.field(default=None, description="The last day that its dues cover (V7).")
    statement_by: Channel | None = strawberry.field(default=None, description="How statements reach it.")  # type: ignore[valid-type]


@strawberry.input(description="What changes of a holder; what is absent stays.")
class UpdateHolderInput:
    """For `updateHolder`."""

    id: strawberry.ID = strawberry.field(description="Which one.")
    name: str | None = strawberry.field(default=None, description="Family name, or the name of an organisation.")
    first_name: str | None = strawberry.field(default=None, description="First name.")
    email: str | None = strawberry.field(default=None, description="E-mail address.")
    mobile: str | None = strawberry.field(default=None, description="Mobile telephone number.")
    postal_address: AddressInput | None = strawberry.field(default=None, description="Where it receives post.")
    member_since: date | None = strawberry.field(default=None, description="When its membership began (V1).")
    dues_paid_until: date | None = strawberry.field(default=None, description="The last day that its dues cover (V7).")
    statement_by: Channel | None = strawberry.field(default=None, description="How statements reach it.")  # type: ignore[valid-type]


@strawberry.input(description="How far a sandbox's clock is moved: the two add up, from an hour to 400 days.")
class AdvanceClockInput:
    """For `advanceClock`."""

    days: int | None = strawberry.field(default=None, description="Days, of 24 hours each.")
    hours: int | None = strawberry.field(default=None, description="Hours.")


@strawberry.type
class PartyMutations:
    """Deeds about parties."""

    @mutation(MerchantResult, "A new merchant with its points of sale.")
    async def create_merchant(
        self, info: Info, input: CreateMerchantInput, idempotency_key: strawberry.ID | None = None
    ) -> parties.Merchant:
        return await info.context.perform(
            parties.create_merchant,
            key=idempotency_key,
            again=parties.merchant_seen,
            code=input.code,
            name=input.name,
            points_of_sale=[place.read() for place in input.points_of_sale],
        )

    @mutation(MerchantResult, "Change a merchant's name, or what it may and wants.")
    async def update_merchant(self, info: Info, input: UpdateMerchantInput) -> parties.Merchant:
        given = vars(input) | {}
        merchant_id = id_of(info.context, given.pop("id"), parties.Merchant.prefix)
        return await info.context.perform(parties.update_merchant, merchant_id, **given)

    @mutation(PointOfSaleResult, "A new point of sale of a merchant that is there already.")
    async def create_point_of_sale(self, info: Info, input: CreatePointOfSaleInput) -> parties.PointOfSale:
        place = parties.NewPlace(input.code, input.name, input.address.read() if input.address else None)
        merchant_id = id_of(info.context, input.merchant_id, parties.Merchant.prefix)
        return await info.context.perform(parties.create_point_of_sale, merchant_id=merchant_id, place=place)

    @mutation(PointOfSaleResult, "Another name or address of a point of sale.")
    async def update_point_of_sale(self, info: Info, input: UpdatePointOfSaleInput) -> parties.PointOfSale:
        return await info.context.perform(
            parties.update_point_of_sale,
            id_of(info.context, input.id, parties.PointOfSale.prefix),
            name=input.name,
            address=input.address.read() if input.address else None,
        )

    @mutation(HolderResult, "A new holder, with an empty wallet.")
    async def create_holder(
        self, info: Info, input: CreateHolderInput, idempotency_key: strawberry.ID
    ) -> parties.Holder:
        return await info.context.perform(
            parties.create_holder, key=idempotency_key, again=parties.holder, **_with_address(vars(input))
        )

    @mutation(HolderResult, "Change what is known of a holder.")
    async def update_holder(self, info: Info, input: UpdateHolderInput) -> parties.Holder:
        given = _with_address(vars(input))
        holder_id = id_of(info.context, given.pop("id"), parties.Holder.prefix)
        return await info.context.perform(parties.update_holder, holder_id, **given)

    @mutation(HolderResult, "The issuer puts value into a holder's wallet.")
    async def credit_holder(
        self, info: Info, input: CreditHolderInput, idempotency_key: strawberry.ID
    ) -> parties.Holder:
        return await info.context.perform(
            parties.credit_holder,
            id_of(info.context, input.holder_id, parties.Holder.prefix),
            input.amount,
            input.reason,
            key=idempotency_key,
            again=parties.holder,
        )

    @mutation(
        IssuerResult,
        "In a sandbox only: moves the issuer's clock forward, and what falls due on the way happens, each at its"
        " instant. Where very much falls due the clock stops on the way: `now` says where; ask again.",
    )
    async def advance_clock(self, info: Info, input: AdvanceClockInput) -> parties.Issuer:
        context = info.context
        return await sandbox.advance_clock(context.services.database, context.someone, input.days, input.hours)


def _with_address(given: dict[str, Any]) -> dict[str, Any]:
    address: AddressInput | None = given["postal_address"]
    return given | {"postal_address": address.read() if address is not None else None}
