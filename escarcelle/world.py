"""The demo world: what `escarcelle dev` puts into an empty database, so that every flow can be tried at once."""

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain import users
from domain.access import Right, Role
from domain.db import Database
from domain.parties import NewPlace, create_holder, create_merchant, create_point_of_sale, credit_holder, issuer_of_slug
from domain.settings import Settings
from domain.sign_in import hashed
from domain.work import perform
from escarcelle.database import insert_issuer, open_issuer_accounts

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
CAST: Final = (ADMINISTRATOR, SIGNATORY, STAFF, CUSTOMER, OTHER_CUSTOMER)


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
        if await issuer_of_slug(database, SLUG) is None:
            await _World(database).fill(settings)
    finally:
        await database.close()


class _World:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(self, settings: Settings) -> None:
        self._system = await insert_issuer(
            settings,
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
        self._hash = await hashed(PASSWORD)
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
            password_hash=self._hash,
            email=email,
            merchant_id=merchant_id,
            holder_id=holder_id,
            grants=grants,
        )


def _id(made: object) -> UUID:
    found = getattr(made, "id", None)
    assert isinstance(found, UUID), "a deed of creation returns what it made"
    return found
