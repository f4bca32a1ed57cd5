"""The servers that all tests share, and the cast of a test: an issuer of its own, so that tests never meet."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from domain import users, vouchers
from domain.access import Actor, Right, Role, User
from domain.codes import digest, new_token
from domain.db import APP, OWNER, PROTECTION, READER, RELAY, Database, connect_as
from domain.parties import (
    Holder,
    Merchant,
    NewPlace,
    PointOfSale,
    create_holder,
    create_merchant,
    create_point_of_sale,
    credit_holder,
    update_holder,
)
from domain.settings import Settings, from_environment
from domain.sign_in import hashed, open_session
from domain.work import perform
from escarcelle import database as escarcelle_database
from escarcelle.clients import Client
from escarcelle.embedded import EmbeddedPostgres, EmbeddedRedis, free_port
from tests import outside

PASSWORD = "un mot de passe bien long"


@dataclass
class Servers:
    """A real PostgreSQL and a real Redis, with a migrated database."""

    settings: Settings
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis

    @classmethod
    def start(cls, folder: Path) -> "Servers":
        """Start both in a new folder."""
        postgres = EmbeddedPostgres(folder, outside.postgresql())
        redis = EmbeddedRedis(folder, outside.redis_server())
        postgres.start()
        redis.start()
        passwords = {role: secrets.token_urlsafe(12) for role in (OWNER, APP, RELAY, READER)}
        escarcelle_database.prepare(postgres.url("postgres"), passwords)
        name = escarcelle_database.DATABASE
        if outside.OUTSIDE:
            outside.as_an_operator_has_it(postgres.url("postgres"), name)
        settings = from_environment(
            database_url=postgres.url(name, OWNER, passwords[OWNER]),
            app_database_url=postgres.url(name, APP, passwords[APP]),
            relay_database_url=postgres.url(name, RELAY, passwords[RELAY]),
            reader_database_url=postgres.url(name, READER, passwords[READER]),
            redis_url=redis.url,
            secret_keys=secrets.token_urlsafe(32),
            smtp_url="smtp://127.0.0.1:1",
            sign_in_tries_per_minute=1_000_000,
        )
        escarcelle_database.migrate(settings)
        return cls(settings, postgres, redis)

    def stop(self) -> None:
        """Stop both."""
        self.redis.stop()
        self.postgres.stop()


@dataclass
class World:
    """One issuer with its cast. Amounts are cents."""

    servers: Servers
    database: Database
    slug: str
    system: Actor
    merchants: dict[str, Merchant] = field(default_factory=dict)
    places: dict[str, PointOfSale] = field(default_factory=dict)
    holders: dict[str, Holder] = field(default_factory=dict)
    users: dict[str, Actor] = field(default_factory=dict)

    @property
    def tenant(self) -> int:
        """The issuer's tenant."""
        return self.system.tenant

    @classmethod
    async def make(cls, servers: Servers, database: Database, *, sandbox: bool = True, **values: Any) -> "World":
        """A new issuer. It is a sandbox unless said otherwise, so that its clock may be moved."""
        slug = f"agence-{secrets.token_hex(6)}"
        system = await escarcelle_database.insert_issuer(
            servers.settings, slug=slug, name="Agence du Temps Libre", sandbox=sandbox, **values
        )
        await perform(database, system, escarcelle_database.open_issuer_accounts)
        return cls(servers, database, slug, system)

    async def merchant(self, code: str, name: str, places: Mapping[str, str]) -> Merchant:
        """A merchant with its points of sale (code → name)."""
        merchant = await perform(self.database, self.system, create_merchant, code=code, name=name)
        assert isinstance(merchant, Merchant)
        self.merchants[code] = merchant
        for place_code, place_name in places.items():
            place = await perform(
                self.database,
                self.system,
                create_point_of_sale,
                merchant_id=merchant.id,
                place=NewPlace(place_code, place_name),
            )
            assert isinstance(place, PointOfSale)
            self.places[place_code] = place
        return merchant

    async def holder(self, reference: str, name: str, wallet: str | None = None, email: str | None = None) -> Holder:
        """A holder, with that much in the wallet."""
        holder = await perform(self.database, self.system, create_holder, reference=reference, name=name, email=email)
        assert isinstance(holder, Holder)
        self.holders[reference] = holder
        if wallet is not None:
            await perform(self.database, self.system, credit_holder, holder.id, wallet, "aide aux vacances")
        return holder

    async def voucher_kind(self, **values: Any) -> None:
        """A kind of vouchers; Bon web of the series XX.442, valid for 30 days, unless said otherwise."""
        numbers = {"series": "442", "department": "XX"}
        rules = {"validity_days": 30, "ends_with_year": False, "preferred": False}
        given = {"code": "BW", "name": "Bon web", **numbers, **rules, **values}
        await asyncio.to_thread(escarcelle_database.set_voucher_kind, self.servers.settings, self.slug, **given)

    async def member(self, reference: str, name: str, **values: Any) -> Holder:
        """A holder who has long been a member, with dues paid for ever."""
        holder = await self.holder(reference, name, **values)
        since, until = date(2020, 1, 1), date(2099, 12, 31)
        member = await perform(
            self.database, self.system, update_holder, holder.id, member_since=since, dues_paid_until=until
        )
        assert isinstance(member, Holder)
        self.holders[reference] = member
        return member

    def code_of(self, voucher: vouchers.Voucher) -> str:
        """The digits that its member sees, once they are drawn."""
        code = vouchers.code_of(voucher, self.secret_keys)
        assert code is not None
        return code

    @property
    def secret_keys(self) -> list[str]:
        """The keys that the program was given, the newest first."""
        return list(self.servers.settings.keys)

    async def user(
        self,
        login: str,
        role: Role,
        *,
        merchant: str | None = None,
        holder: str | None = None,
        grants: Mapping[str, frozenset[Right]] | None = None,
        email: str | None = None,
    ) -> Actor:
        """A user, as it acts once signed in; its password is PASSWORD."""
        user = await perform(
            self.database,
            self.system,
            users.create,
            login=login,
            name=login.capitalize(),
            role=role,
            password_hash=await _password_hash(),
            email=email,
            merchant_id=self.merchants[merchant].id if merchant else None,
            holder_id=self.holders[holder].id if holder else None,
            grants={self.places[code].id: rights for code, rights in (grants or {}).items()},
        )
        assert isinstance(user, User)
        self.users[login] = Actor(
            tenant=self.tenant,
            user_id=user.id,
            role=role,
            merchant_id=self.merchants[merchant].id if merchant else None,
            holder_id=self.holders[holder].id if holder else None,
            grants={self.places[code].id: rights for code, rights in (grants or {}).items()},
        )
        return self.users[login]

    async def session(self, login: str) -> str:
        """The token of a new session; the password is left out, since checking it costs a core for a while."""
        token = new_token(self.tenant)
        await perform(self.database, self.users[login], open_session, digest(token), timedelta(hours=1), "a test")
        return token

    async def freeze(self, at: datetime | None) -> None:
        """The tenant's clock stands still at that instant, to the microsecond; None lets it go on."""
        await self.as_owner("UPDATE issuers SET frozen_at = $2 WHERE tenant = $1", self.tenant, at)

    async def nothing_falls_due(self) -> None:
        """No deadline of now fires by itself: what is too late is found out by who tries. A clock that stands at an
        instant which is long past would have every deadline fire at any moment."""
        await self.as_owner("UPDATE deadlines SET claim_at = 'infinity' WHERE tenant = $1", self.tenant)

    async def as_owner(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Look at, or change, what no program may."""
        connection = await connect_as(self.servers.settings, OWNER)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def digest(self) -> dict[str, str]:
        """What every table holds of this issuer: two equal digests mean that nothing has changed. Sessions and the
        queues that empty themselves are left out."""
        tables = [name for name, p in PROTECTION.items() if p.walled and name not in _RESTLESS]
        digests = " UNION ALL ".join(
            f"SELECT '{name}' AS name, md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS digest"
            f" FROM {name} t WHERE tenant = $1"
            for name in tables
        )
        return {row["name"]: row["digest"] for row in await self.as_owner(digests, self.tenant)}

    @asynccontextmanager
    async def unchanged(self) -> AsyncIterator[None]:
        """What happens inside changes nothing."""
        before = await self.digest()
        yield
        after = await self.digest()
        assert after == before, [name for name in before if before[name] != after[name]]

    @asynccontextmanager
    async def unchanged_but(self, *tables: str) -> AsyncIterator[None]:
        """What happens inside changes nothing in any other table."""
        before = await self.digest()
        yield
        after = await self.digest()
        changed = [name for name in before if before[name] != after[name] and name not in tables]
        assert changed == [], changed

    async def wallet(self, reference: str) -> int:
        """What is in a wallet, in cents."""
        return await self.total(self.holders[reference].id, "WALLET")

    async def total(self, owner_id: UUID, kind: str) -> int:
        """The sum of an account's postings, in cents."""
        rows = await self.as_owner(
            "SELECT coalesce(sum(p.amount), 0)::bigint AS total FROM accounts a JOIN postings p ON p.tenant = a.tenant"
            " AND p.account_id = a.id WHERE a.tenant = $1 AND a.owner_id = $2 AND a.kind = $3",
            self.tenant,
            owner_id,
            kind,
        )
        return int(rows[0]["total"])


_RESTLESS = ("sessions", "sign_in_guards", "outbox", "inbox")
_hash: list[str] = []


async def _password_hash() -> str:
    if not _hash:
        _hash.append(await hashed(PASSWORD))
    return _hash[0]


@dataclass(frozen=True)
class Running:
    """A running program."""

    servers: Servers
    settings: Settings
    url: str
    mail_page_url: str

    async def client(self, world: World, login: str | None = None, *, language: str = "fr") -> Client:
        """A new device, signed in when a login is given. To be closed by the caller (`async with`)."""
        client = Client(self.url, language=language)
        if login is not None:
            client.token = await world.session(login)
        return client

    async def mails(self, to: str) -> list[dict[str, Any]]:
        """The mails that have arrived for an address, newest first."""
        # Reading the certificates of the world would take longer than the question.
        async with httpx.AsyncClient(verify=False, timeout=30) as http:
            mails: list[dict[str, Any]] = (await http.get(f"{self.mail_page_url}/mails.json")).json()
        return [mail for mail in mails if to in mail["to"]]

    async def mail(self, to: str, about: str) -> dict[str, Any]:
        """The mail to an address that says this, once it has arrived; fails when it does not within a minute."""
        async with asyncio.timeout(60):
            while True:
                for mail in await self.mails(to):
                    if about in mail["text"] or about in mail["subject"]:
                        return mail
                await asyncio.sleep(0.05)


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a child process reads them."""
    given = {
        name.upper(): str(value)
        for name, value in settings.model_dump().items()
        if value is not None and name != "secret_keys"
    }
    keys = ",".join(key.get_secret_value() for key in settings.secret_keys)
    return {**os.environ, **given, "SECRET_KEYS": keys}


@contextmanager
def serving(servers: Servers, *, processes: int = 1, settings: Settings | None = None) -> Iterator[Running]:
    """The API in processes of its own that share a port; nobody relays what it commits. `settings` are the servers'
    own unless given."""
    settings = settings or servers.settings
    port = free_port()
    command = [sys.executable, "-m", "escarcelle", "serve", "--port", str(port), "--processes", str(processes)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env=environment(settings)) as api:
        try:
            wait_until_ready(url)
            yield Running(servers=servers, settings=settings, url=url, mail_page_url=settings.mail_page_url or "")
        finally:
            api.terminate()


def wait_until_ready(url: str) -> None:
    """Until the API answers; fails after half a minute."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < give_up_at, "the API does not start"
        time.sleep(0.05)
