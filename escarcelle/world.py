"""The demo world: what `escarcelle dev` puts into an empty database, so that every flow can be tried at once."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain import publications, users, vouchers
from domain.access import Actor, Right, Role
from domain.bank_accounts import PayingAccount
from domain.bank_accounts import update as update_bank_account
from domain.db import Database
from domain.parties import (
    Address,
    Channel,
    Merchant,
    NewPlace,
    create_holder,
    create_merchant,
    create_point_of_sale,
    credit_holder,
    every_merchant,
    issuer_of_slug,
)
from domain.publications import DocumentKind
from domain.reimbursements import ReimbursedFlow
from domain.settings import Settings
from domain.sign_in import hashed
from domain.work import perform
from escarcelle.database import (
    insert_issuer,
    open_issuer_accounts,
    put_paying_account,
    put_reimbursement_runs,
    put_terms,
    put_voucher_kind,
)

SLUG: Final = "demo"
PASSWORD: Final = "escarcelle-demo"  # noqa: S105 — printed at every start, for a world that holds nothing real


@dataclass(frozen=True)
class SignIn:
    """Someone of the demo world; everyone's password is PASSWORD."""

    who: str
    login: str


ADMINISTRATOR: Final = SignIn("the issuer's administrator", "admin")
SIGNATORY: Final = SignIn("a merchant's signatory, for both its points of sale", "708900")
STAFF: Final = SignIn("staff of one point of sale (P001)", "708900-P001")
CUSTOMER: Final = SignIn("a customer with a wallet", "client1@example.com")
OTHER_CUSTOMER: Final = SignIn("another customer", "client2@example.com")
MEMBER: Final = SignIn("a member who takes vouchers", "44001234B")
SUPPLIER: Final = SignIn("a supplier who is shown vouchers", "materiaux")
CAST: Final = (ADMINISTRATOR, SIGNATORY, STAFF, CUSTOMER, OTHER_CUSTOMER, MEMBER, SUPPLIER)


def create_when_empty(settings: Settings) -> list[str]:
    """Make the demo world where it is missing; returns the lines that tell how to sign in to it."""
    asyncio.run(_create(settings))
    return [
        f"Issuer “{SLUG}”, password “{PASSWORD}” for everyone:",
        *(f"  {person.login:<22} {person.who}" for person in CAST),
    ]


async def _create(settings: Settings) -> None:
    database = Database(settings)
    await database.open()
    try:
        issuer = await issuer_of_slug(database, SLUG)
        world = _World(database, settings, Actor(issuer.tenant) if issuer else None)
        if issuer is None:
            await world.fill()
        await world.add_what_is_missing()
    finally:
        await database.close()


class _World:
    def __init__(self, database: Database, settings: Settings, system: Actor | None) -> None:
        self._database = database
        self._settings = settings
        self._maybe_system = system
        self._hash = ""

    @property
    def _system(self) -> Actor:
        assert self._maybe_system is not None, "the issuer is made first"
        return self._maybe_system

    async def fill(self) -> None:
        self._maybe_system = await insert_issuer(
            self._settings,
            slug=SLUG,
            name="Agence du Temps Libre",
            sandbox=True,
            login_label_fr="N° de convention ou e-mail",
            login_label_en="Convention number or e-mail",
            support_phone="+33 2 00 00 00 00",
            support_email="aide@temps-libre.example",
            support_hours_fr="du lundi au vendredi, de 9 h à 18 h",
            support_hours_en="Monday to Friday, 9 am to 6 pm",
        )
        await perform(self._database, self._system, open_issuer_accounts)
        club = await self._merchant("708900", "Canoë Kayak Club Orléans")
        beach = await self._place(club, "P001", "Canoë Kayak Club Orléans – Saint-Jean-le-Blanc")
        await self._place(club, "P002", "Canoë Kayak Club Orléans – Île Charlemagne")
        await self._user(ADMINISTRATOR, "Camille Martin", Role.ISSUER_ADMIN, "admin@temps-libre.example")
        await self._user(
            SIGNATORY, "Un Signataire", Role.MERCHANT_MANAGER, "signataire@canoe.example", merchant_id=club
        )
        await self._user(
            STAFF,
            "L’accueil de la base",
            Role.MERCHANT_STAFF,
            "accueil@canoe.example",
            merchant_id=club,
            grants={beach: frozenset({Right.COLLECT, Right.VALIDATE})},
        )
        for person, first_name, name in ((CUSTOMER, "Inès", "Durand"), (OTHER_CUSTOMER, "Éric", "Zoé")):
            holder = await self._holder(person.login, first_name, name)
            await self._user(person, f"{first_name} {name}", Role.HOLDER, person.login, holder_id=holder)

    async def add_what_is_missing(self) -> None:
        """What the demo world has come to hold since it was first made."""
        async with self._database.reading(self._system.tenant) as connection:
            has_vouchers = (await connection.execute(vouchers.kinds())).first() is not None
            has_paying_account = (await connection.execute(sa.select(PayingAccount.table))).first() is not None
            has_news = (await connection.execute(sa.select(publications.NewsItem.table))).first() is not None
        if not has_vouchers:
            await self._add_vouchers()
        if not has_paying_account:
            await self._add_reimbursements()
        if not has_news:
            await self._add_publications()

    async def _add_publications(self) -> None:
        await perform(
            self._database,
            self._system,
            publications.publish_news,
            title_fr="Encaissez en ligne, c’est maintenant",
            title_en="Collect online, from now on",
            body_fr="Demandez un paiement par QR code ou par e-mail depuis « Encaissement ».\n\n"
            "Vos clients règlent tout ou partie avec leur téléphone, et vous le voyez aussitôt.",
            body_en="Ask for a payment by QR code or by e-mail from “Payments”.\n\n"
            "Your customers pay all or part of it with their phone, and you see it at once.",
        )
        for kind, fr, en, path in (
            (DocumentKind.GUIDE, "Encaisser pas à pas", "Collecting step by step", "encaisser.pdf"),
            (DocumentKind.FAQ, "Questions fréquentes des commerçants", "Frequent questions of merchants", "faq"),
        ):
            await perform(
                self._database,
                self._system,
                publications.publish_document,
                kind=kind,
                title_fr=fr,
                title_en=en,
                url=f"https://www.temps-libre.example/{path}",
            )

    async def _add_reimbursements(self) -> None:
        keeps, since = ReimbursedFlow.PAYMENT_REQUESTS, date(2019, 1, 1)
        await put_terms(self._settings, SLUG, keeps, since, "2.5", 5)
        address = Address("1 place du Martroi", "45000", "Orléans")
        iban = "FR1420041010050500013M02606"
        await put_paying_account(self._settings, SLUG, iban, None, "Agence du Temps Libre", address)
        await put_reimbursement_runs(self._settings, SLUG, automatic=True)
        async with self._database.reading(self._system.tenant) as connection:
            merchants = [Merchant.from_row(row) for row in await connection.execute(every_merchant())]
        for merchant, iban in zip(merchants, ("FR7630006000011234567890189", "DE89370400440532013000"), strict=False):
            await perform(
                self._database, self._system, update_bank_account, merchant.id, iban=iban, account_holder=merchant.name
            )

    async def _add_vouchers(self) -> None:
        supplier = await self._merchant("M442", "Matériaux de l’Ouest")
        await self._place(supplier, "C1", "Matériaux de l’Ouest – comptoir de Nantes")
        await self._user(
            SUPPLIER, "Le comptoir", Role.MERCHANT_MANAGER, "comptoir@materiaux.example", merchant_id=supplier
        )
        made = await perform(
            self._database,
            self._system,
            create_holder,
            reference=MEMBER.login,
            name="Martin",
            first_name="Paul",
            email="paul.martin@example.com",
            member_since=date(2019, 1, 1),
            dues_paid_until=date(2099, 12, 31),
            statement_by=Channel.EMAIL,
        )
        await self._user(MEMBER, "Paul Martin", Role.HOLDER, "paul.martin@example.com", holder_id=_id(made))
        await put_voucher_kind(
            self._settings,
            SLUG,
            {"code": "WEB", "name": "Bon matériaux", "series": "442", "department": "XX"}
            | {"validity_days": 30, "ends_with_year": False, "preferred": True},
        )

    async def _merchant(self, code: str, name: str) -> UUID:
        made = await perform(self._database, self._system, create_merchant, code=code, name=name)
        return _id(made)

    async def _place(self, merchant_id: UUID, code: str, name: str) -> UUID:
        made = await perform(
            self._database, self._system, create_point_of_sale, merchant_id=merchant_id, place=NewPlace(code, name)
        )
        return _id(made)

    async def _holder(self, email: str, first_name: str, name: str) -> UUID:
        made = await perform(
            self._database,
            self._system,
            create_holder,
            reference=email,
            name=name,
            first_name=first_name,
            email=email,
        )
        await perform(self._database, self._system, credit_holder, _id(made), "250,00", "aide aux vacances")
        return _id(made)

    async def _user(
        self,
        person: SignIn,
        name: str,
        role: Role,
        email: str,
        *,
        merchant_id: UUID | None = None,
        holder_id: UUID | None = None,
        grants: dict[UUID, frozenset[Right]] | None = None,
    ) -> None:
        await perform(
            self._database,
            self._system,
            users.create,
            login=person.login,
            name=name,
            role=role,
            password_hash=await self._password_hash(),
            email=email,
            merchant_id=merchant_id,
            holder_id=holder_id,
            grants=grants,
        )

    async def _password_hash(self) -> str:
        self._hash = self._hash or await hashed(PASSWORD)
        return self._hash


def _id(made: object) -> UUID:
    found = getattr(made, "id", None)
    assert isinstance(found, UUID), "a deed of creation returns what it made"
    return found
