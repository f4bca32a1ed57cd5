"""Who may do what: every field at the root of the schema × every role × whose object it is about. What is refused
changes nothing at either issuer, and no answer holds a word that belongs to others.

The table stands below, in `ROWS` and `NODES`; a field or a type of object without a row fails."""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from inspect import isawaitable
from itertools import count
from typing import Any

import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from api.schema import GRAPHQL_SCHEMA
from domain import jobs, payments, publications, reimbursements, users, vouchers
from domain.access import Actor, Right, Role, User
from domain.calendar import PARIS
from domain.codes import global_id
from domain.db import Database
from domain.errors import Refused
from domain.parties import Holder, Merchant, NewPlace, PointOfSale, create_point_of_sale
from domain.payments import PaymentRequest
from domain.reimbursements import Reimbursement, TransferFile
from domain.sign_in import Session, end_session
from domain.texts import Locale
from domain.work import perform
from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import next_of
from tests.matrix import audited, connections
from tests.matrix.reimbursements import IBAN, give_account, newest, prepare
from tests.workbooks import xlsx
from tests.world import PASSWORD, Running, Servers, World

pytestmark = pytest.mark.anyio

WHOSE = ("own", "point", "merchant", "tenant")
"""Own; another point of sale of the same merchant, or another holder; another merchant's; another issuer's."""

ROLES = ("admin", "agent", "signatory", "staff", "reader", "holder", "temporary", "ended", "nobody")
"""`staff` has every right at P001, `reader` the right to export only; `temporary` is staff whose password is; `ended`
bears the token of a session that is over; `nobody` bears none."""

UNLESS_SAID = {"temporary": "PASSWORD_CHANGE_REQUIRED", "ended": "UNAUTHENTICATED", "nobody": "UNAUTHENTICATED"}
EVERYTHING = frozenset({Right.COLLECT, Right.VALIDATE, Right.EXPORT})

SUPPORT = "aide@example.com"

# ── the cast ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Word:
    """Something that an answer may hold for some only: `kind` of a place, a merchant, a holder, or a voucher that was
    presented, or was not yet."""

    text: str
    kind: str
    whose: str


@dataclass(frozen=True)
class Side:
    """Whose things a call is about."""

    whose: str
    world: World
    merchant: Merchant
    place: PointOfSale
    holder: Holder
    signatory: Actor
    staff: Actor
    payer: Actor

    @property
    def merchants_words(self) -> str:
        """Both points of sale of one merchant share its words."""
        return "own" if self.whose == "point" else self.whose


@dataclass
class Stage:
    """Two issuers, three merchants, four points of sale, four holders; and a device for each role."""

    running: Running
    database: Database
    worlds: list[World]
    sides: dict[str, Side] = field(default_factory=dict)
    devices: dict[str, Client] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    jobs: dict[Any, str] = field(default_factory=dict)
    statements: dict[str, str] = field(default_factory=dict)
    words: set[Word] = field(default_factory=set)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def word(self, kind: str, whose: str, text: str | None = None) -> str:
        """Remember to whom it belongs; without a text it is a new one."""
        made = text or f"{kind.replace(' ', '-')}-{secrets.token_hex(5)}"
        self.words.add(Word(made, kind, whose))
        return made

    async def request(self, side: Side, *, named: bool = False, paid: bool = False) -> PaymentRequest:
        """A request of that side's: anyone's to pay, or its own holder's; `paid` waits for validation."""
        asked = await perform(
            self.database,
            side.signatory,
            payments.create,
            point_of_sale_id=side.place.id,
            amount="20,00",
            basket_number=self.word("place", side.whose),
            customer_identifier=side.holder.reference if named or paid else None,
            validation_days=2 if paid else None,
            notify_email=f"{self.word('place', side.whose)}@example.com",
            customer_reference=self.word("place", side.whose),
            seller_identifier=self.word("place", side.whose),
        )
        assert isinstance(asked, PaymentRequest)
        if paid:
            await perform(self.database, side.payer, payments.pay, asked.token)
        self.word("place", side.whose, asked.global_id)
        self.word("place", side.whose, asked.transaction_number)
        return asked

    async def voucher(self, side: Side, *, presented: bool = False, revealed: bool = False) -> vouchers.Voucher:
        """That side's holder's voucher at its merchant."""
        made = await perform(self.database, side.payer, vouchers.request, supplier_id=side.merchant.id, amount="12,00")
        assert isinstance(made, vouchers.Voucher)
        if revealed or presented:
            keys = side.world.secret_keys
            made = await perform(self.database, side.payer, vouchers.reveal, made.id, key_of_code=keys[0])
            assert isinstance(made, vouchers.Voucher)
        if presented:
            made = await perform(self.database, side.payer, vouchers.deliver, made.id)
            assert isinstance(made, vouchers.Voucher)
        kind = "voucher" if presented else "unpresented voucher"
        self.word(kind, side.whose, made.global_id)
        if made.number is not None:
            self.word(kind, side.whose, made.number)
        return made

    def typed(self, side: Side, voucher: vouchers.Voucher, *, right: bool = True) -> vouchers.TypedCode:
        """Its code, or another."""
        code = side.world.code_of(voucher)
        return vouchers.TypedCode(code if right else f"{(int(code) + 1) % 10_000:04d}", side.world.secret_keys)

    async def blocked(self, side: Side) -> vouchers.Voucher:
        """A voucher whose number wrong codes have blocked."""
        made = await self.voucher(side, presented=True)
        for _ in range(vouchers.WRONG_CODES_BLOCK):
            wrong = self.typed(side, made, right=False)
            with suppress(Refused):
                await perform(self.database, side.signatory, vouchers.verify, number=str(made.number), code=wrong)
        return made

    async def invoice(self, side: Side) -> vouchers.SupplierInvoice:
        """An invoice for more than its voucher's value."""
        voucher = await self.voucher(side, presented=True)
        made = await perform(
            self.database,
            side.signatory,
            vouchers.record_invoice,
            voucher_number=str(voucher.number),
            code=self.typed(side, voucher),
            invoice_number=self.word("voucher", side.whose),
            amount="15,50",
        )
        assert isinstance(made, vouchers.SupplierInvoice)
        self.word("voucher", side.whose, made.global_id)
        return made

    async def statement(self, side: Side) -> str:
        """What that side's holder was told of an invoice, once for all."""
        if side.whose not in self.statements:
            voucher, world = await self.voucher(side, presented=True), side.world
            await perform(
                self.database,
                side.signatory,
                vouchers.record_invoice,
                voucher_number=str(voucher.number),
                code=self.typed(side, voucher),
                invoice_number=self.word("voucher", side.whose),
                amount="12,00",
            )
            month = datetime.now(PARIS).date()
            agent = world.users["agent"]
            await perform(self.database, agent, vouchers.issue_member_statements, month=month, locale=Locale.FR)
            asked = "SELECT statement_id FROM supplier_invoices WHERE voucher_id = $1 AND statement_id IS NOT NULL"
            async with asyncio.timeout(30):
                while not (rows := await world.as_owner(asked, voucher.id)):  # noqa: ASYNC110 — a worker does it
                    await asyncio.sleep(0.05)
            self.statements[side.whose] = global_id("mstm", world.tenant, rows[0]["statement_id"])
        return self.statements[side.whose]

    async def reimbursement(self, side: Side) -> str:
        """What that side's merchant is paid for a new request, sent to its bank."""
        world = side.world
        await self.settled()
        due = await self.request(side, paid=True)
        await perform(self.database, side.signatory, payments.validate, due.id)
        today = datetime.now(PARIS).date()
        await perform(self.database, world.users["agent"], reimbursements.run, through=today, locale=Locale.FR)
        await self.settled()
        merchant = next(code for code, one in world.merchants.items() if one.id == side.merchant.id)
        made = await newest(world, merchant)
        ((status,),) = await world.as_owner("SELECT status FROM reimbursements WHERE id = $1", made)
        assert status == "SENT"
        return self.word("reimbursement", side.merchants_words, global_id(Reimbursement.prefix, world.tenant, made))

    async def person(self, side: Side) -> str:
        """A new user at that side's point of sale."""
        made = await perform(
            self.database,
            side.world.system,
            users.create,
            login=self.word("place", side.whose),
            name=self.word("place", side.whose),
            role=Role.MERCHANT_STAFF,
            email=f"{self.word('place', side.whose)}@example.com",
            merchant_id=side.merchant.id,
            grants={side.place.id: EVERYTHING},
        )
        assert isinstance(made, User)
        return made.global_id

    async def login(self) -> str:
        """The login of a new user of our issuer."""
        login = f"neuf-{next(self.numbers)}"
        await self.sides["own"].world.user(login, Role.ISSUER_AGENT)
        return login

    async def session(self, side: Side, role: str) -> str:
        """A session: another one of the caller's own, or one of that side's staff."""
        actor = self.actors.get(role, side.staff) if side.whose == "own" else side.staff
        return await _session_of(side.world, actor)

    def users_own(self, side: Side, role: str) -> str:
        """The caller itself, or that side's staff."""
        actor = self.actors.get(role, side.staff) if side.whose == "own" else side.staff
        assert actor.user_id is not None
        return global_id(User.prefix, actor.tenant, actor.user_id)

    def job(self, side: Side, role: str) -> str:
        """The caller's own, or that side's staff's."""
        return self.jobs.get(role, self.jobs["staff"]) if side.whose == "own" else self.jobs[side.whose]

    async def journal_line(self, side: Side) -> str:
        """The line about a new request."""
        asked = await self.request(side)
        rows = await side.world.as_owner("SELECT id FROM journal WHERE subject_id = $1", asked.id)
        return global_id("jrnl", side.world.tenant, rows[0]["id"])

    async def settled(self) -> None:
        """Until no worker has anything left to write."""
        async with asyncio.timeout(30):
            while any([await _unfinished(world) for world in self.worlds]):  # noqa: ASYNC110 — other processes work
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def stage(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """Everyone, once for the whole matrix."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(connections(servers))
        worlds = [await stack.enter_async_context(audited(servers, database)) for _ in range(2)]
        made = Stage(running, database, worlds)
        await _fill(made)
        for role in ROLES:
            login = None if role in ("nobody", "ended") else role
            made.devices[role] = await stack.enter_async_context(await running.client(worlds[0], login))
        made.devices["ended"].token = await worlds[0].session("staff")
        await perform(database, worlds[0].users["staff"], end_session, await _newest_session(worlds[0], "staff"))
        yield made


async def _fill(stage: Stage) -> None:
    ours, theirs = stage.worlds
    await ours.voucher_kind()
    await theirs.voucher_kind(series="443")
    for world in stage.worlds:
        await prepare(world)
        await world.as_owner("UPDATE issuers SET support_email = $2 WHERE tenant = $1", world.tenant, SUPPORT)
    agents = {world.slug: await world.user("agent", Role.ISSUER_AGENT) for world in stage.worlds}
    for whose, world, code in (
        ("own", ours, "P001"),
        ("point", ours, "P002"),
        ("merchant", ours, "A001"),
        ("tenant", theirs, "P001"),
    ):
        number = {"own": "708900", "point": "708900"}.get(whose, "808100")
        if whose != "point":
            await world.merchant(number, stage.word("merchant name", whose), {})
            await give_account(world, number, agents[world.slug], holder=stage.word("bank account", whose))
            await world.user(
                f"signatory-{whose}" if whose != "own" else "signatory",
                Role.MERCHANT_MANAGER,
                merchant=number,
                email=f"{stage.word('merchant', whose)}@example.com",
            )
            stage.word("merchant id", whose, world.merchants[number].global_id)
        await _place(stage, world, number, code, whose)
        holder = await world.member(
            f"client-{whose}",
            stage.word("holder name", whose),
            wallet="5000,00",
            email=f"{stage.word('holder', whose)}@example.com",
        )
        stage.word("holder id", whose, holder.global_id)
        await world.user("holder" if whose == "own" else f"holder-{whose}", Role.HOLDER, holder=f"client-{whose}")
        staff = "staff" if whose == "own" else f"staff-{whose}"
        await world.user(
            staff,
            Role.MERCHANT_STAFF,
            merchant=number,
            grants={code: EVERYTHING},
            email=f"{stage.word('place', whose)}@example.com",
        )
        stage.sides[whose] = Side(
            whose,
            world,
            world.merchants[number],
            world.places[code],
            holder,
            world.users["signatory" if whose in ("own", "point") else f"signatory-{whose}"],
            world.users[staff],
            world.users["holder" if whose == "own" else f"holder-{whose}"],
        )
    await ours.user("admin", Role.ISSUER_ADMIN)
    for login, rights in (("reader", frozenset({Right.EXPORT})), ("temporary", EVERYTHING)):
        await ours.user(login, Role.MERCHANT_STAFF, merchant="708900", grants={"P001": rights})
    await ours.as_owner(
        "UPDATE passwords SET temporary = true WHERE user_id = $1 AND tenant = $2",
        ours.users["temporary"].user_id,
        ours.tenant,
    )
    stage.actors = {role: ours.users[role] for role in ROLES if role in ours.users}
    for side in stage.sides.values():
        for kind in ({"named": True}, {"paid": True}, {}):
            await stage.request(side, **kind)
        await stage.voucher(side)
        await stage.invoice(side)
        await stage.statement(side)
        await stage.reimbursement(side)
        stage.jobs[side.whose] = await _export(stage, side.staff)
    for role in ("admin", "agent", "signatory", "reader"):
        stage.jobs[role] = await _export(stage, stage.actors[role])
    stage.jobs["staff"] = stage.jobs["own"]


async def _place(stage: Stage, world: World, merchant: str, code: str, whose: str) -> None:
    made = await perform(
        world.database,
        world.system,
        create_point_of_sale,
        merchant_id=world.merchants[merchant].id,
        place=NewPlace(code, stage.word("place name", whose)),
    )
    assert isinstance(made, PointOfSale)
    world.places[code] = made
    stage.word("place", whose, made.global_id)


async def _export(stage: Stage, actor: Actor) -> str:
    job = await perform(
        stage.database,
        actor,
        jobs.create_export,
        kind=jobs.JobKind.EXPORT_PAYMENT_REQUESTS,
        format=jobs.ExportFormat.CSV,
        locale=Locale.FR,
    )
    assert isinstance(job, jobs.Job)
    return job.global_id


async def _session_of(world: World, actor: Actor) -> str:
    login = next(login for login, user in world.users.items() if user.user_id == actor.user_id)
    await world.session(login)
    return global_id(Session.prefix, world.tenant, await _newest_session(world, login))


async def _newest_session(world: World, login: str) -> Any:
    rows = await world.as_owner(
        "SELECT id FROM sessions WHERE tenant = $1 AND user_id = $2 ORDER BY started_at DESC LIMIT 1",
        world.tenant,
        world.users[login].user_id,
    )
    return rows[0]["id"]


async def _unfinished(world: World) -> int:
    rows = await world.as_owner(
        "SELECT (SELECT count(*) FROM jobs WHERE tenant = $1 AND status IN ('QUEUED', 'RUNNING'))"
        " + (SELECT count(*) FROM deadlines WHERE tenant = $1 AND name = 'follow') AS unfinished",
        world.tenant,
    )
    return int(rows[0]["unfinished"])


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────────

Given = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What a field is given, and what comes of it: a line for roles that get the same, own, point, merchant and tenant
    in turn, or one word for all four. Roles that no line names are answered as UNLESS_SAID, whatever it is about.

    `ok` is an answer; `null`, `empty` and `silent` are nothing, as for what is not there; all else is a code.
    `of_nobody`: it is about nobody, or about the caller alone. `by_role`: what is own is another thing for each role.
    `bears_token`: whoever has the token sees the names of who asks. `of_vouchers`: members know every supplier, and a
    supplier whose the voucher is that was presented to it. `signs_out`: the caller's session ends."""

    given: Callable[[Stage, Side, str], Given | Awaitable[Given]]
    lines: str
    of_nobody: bool = False
    by_role: bool = False
    bears_token: bool = False
    of_vouchers: bool = False
    signs_out: bool = False

    @property
    def expected(self) -> dict[tuple[str, str], str]:
        """(role, whose) → what comes of it."""
        found: dict[tuple[str, str], str] = {}
        for line in filter(None, map(str.strip, self.lines.splitlines())):
            roles, _, words = line.partition(":")
            outcomes = words.split() if len(words.split()) > 1 else words.split() * len(WHOSE)
            for role in roles.split():
                found |= {(role, whose): outcome for whose, outcome in zip(WHOSE, outcomes, strict=True)}
        for role, outcome in UNLESS_SAID.items():
            found.setdefault((role, "own"), outcome)
        assert {role for role, _ in found} == set(ROLES)
        return {cell: outcome for cell, outcome in found.items() if not self.of_nobody or cell[1] == "own"}


def _input(**given: Any) -> Given:
    return {"input": given}


ADMINISTERED = """
    admin agent: ok ok ok NOT_FOUND
    signatory staff reader holder: FORBIDDEN FORBIDDEN FORBIDDEN NOT_FOUND
"""
MANAGED = """
    admin agent: ok ok ok NOT_FOUND
    signatory: ok ok NOT_FOUND NOT_FOUND
    staff reader holder: FORBIDDEN FORBIDDEN FORBIDDEN NOT_FOUND
"""
DONE_AT_THE_TILL = """
    admin agent holder: FORBIDDEN FORBIDDEN FORBIDDEN NOT_FOUND
    signatory: ok ok NOT_FOUND NOT_FOUND
    staff: ok NOT_FOUND NOT_FOUND NOT_FOUND
    reader: FORBIDDEN NOT_FOUND NOT_FOUND NOT_FOUND
"""
DONE_BY_THE_CUSTOMER = """
    admin agent signatory staff reader: FORBIDDEN
    holder: ok NOT_FOUND NOT_FOUND NOT_FOUND
"""
DONE_BY_THE_MEMBER = """
    admin agent signatory staff reader: FORBIDDEN FORBIDDEN FORBIDDEN NOT_FOUND
    holder: ok NOT_FOUND NOT_FOUND NOT_FOUND
"""
DONE_WITH_NUMBER_AND_CODE = """
    admin agent: ok ok ok NOT_FOUND
    signatory staff reader: ok ok NOT_FOUND NOT_FOUND
    holder: FORBIDDEN
"""


async def _reset(s: Stage, side: Side, role: str) -> Given:
    return _input(issuer=side.world.slug, login=next(n for n, u in side.world.users.items() if u is side.staff))


async def _id(s: Stage, side: Side, role: str) -> Given:
    return {"id": (await s.request(side)).global_id}


async def _paid_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": (await s.request(side, paid=True)).global_id}


async def _news_id(s: Stage, side: Side, role: str) -> Given:
    made = await perform(
        s.database,
        side.world.system,
        publications.publish_news,
        title_fr="Nouveau",
        title_en="New",
        body_fr="Voici.",
        body_en="Here.",
    )
    assert isinstance(made, publications.NewsItem)
    return _input(id=made.global_id)


async def _document_id(s: Stage, side: Side, role: str) -> Given:
    made = await perform(
        s.database,
        side.world.system,
        publications.publish_document,
        kind=publications.DocumentKind.GUIDE,
        title_fr="Guide",
        title_en="A guide",
        url="https://example.com/guide.pdf",
    )
    assert isinstance(made, publications.PublishedDocument)
    return _input(id=made.global_id)


async def _issuer_id(s: Stage, side: Side, role: str) -> Given:
    rows = await side.world.as_owner("SELECT id FROM issuers WHERE tenant = $1", side.world.tenant)
    return {"id": global_id("issr", side.world.tenant, rows[0]["id"])}


async def _session_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": await s.session(side, role)}


async def _journal_line_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": await s.journal_line(side)}


async def _fresh_sign_in(s: Stage, side: Side, role: str) -> Given:
    return _input(issuer=side.world.slug, login=await s.login(), password=PASSWORD)


async def _qr_request(s: Stage, side: Side, role: str) -> Given:
    return _input(**await _id(s, side, role), customerIdentifier="quelqu-un")


async def _paid_request(s: Stage, side: Side, role: str) -> Given:
    return _input(**await _paid_id(s, side, role))


async def _named_offer(s: Stage, side: Side, role: str) -> Given:
    return _input(token=(await s.request(side, named=True)).token)


async def _token(s: Stage, side: Side, role: str) -> Given:
    return {"token": (await s.request(side)).token}


async def _session(s: Stage, side: Side, role: str) -> Given:
    return _input(id=await s.session(side, role))


async def _person(s: Stage, side: Side, role: str) -> Given:
    return _input(id=await s.person(side))


async def _changed_person(s: Stage, side: Side, role: str) -> Given:
    grants = [{"pointOfSaleId": side.place.global_id, "rights": ["COLLECT"]}]
    return _input(id=await s.person(side), grants=grants)


def _new_person(s: Stage, side: Side, role: str) -> Given:
    grants = [{"pointOfSaleId": side.place.global_id, "rights": ["COLLECT"]}]
    login = f"invité-{next(s.numbers)}"
    return _input(
        login=login,
        name=login,
        email=f"invite{next(s.numbers)}@example.com",
        role="MERCHANT_STAFF",
        merchantId=side.merchant.global_id,
        grants=grants,
    )


def _push(s: Stage, side: Side, role: str) -> Given:
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    key = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _input(
        endpoint=f"https://push.nulle-part.fr/{role}",
        p256dh=base64.urlsafe_b64encode(key).decode().rstrip("="),
        auth=base64.urlsafe_b64encode(b"0123456789abcdef").decode().rstrip("="),
    )


def _asking(s: Stage, side: Side, role: str) -> Given:
    number = f"demande {next(s.numbers)}"
    return _input(pointOfSaleId=side.place.global_id, amount="20,00", basketNumber=number)


async def _presented_voucher(s: Stage, side: Side, role: str) -> Given:
    return {"search": (await s.voucher(side, presented=True)).number}


async def _presented_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": (await s.voucher(side, presented=True)).global_id}


async def _issued_voucher(s: Stage, side: Side, role: str) -> Given:
    return _input(id=(await s.voucher(side)).global_id)


async def _revealed_voucher(s: Stage, side: Side, role: str) -> Given:
    return _input(id=(await s.voucher(side, revealed=True)).global_id)


async def _blocked_voucher(s: Stage, side: Side, role: str) -> Given:
    return _input(id=(await s.blocked(side)).global_id)


async def _number_and_code(s: Stage, side: Side, role: str) -> Given:
    voucher = await s.voucher(side, presented=True)
    return _input(number=voucher.number, secretCode=side.world.code_of(voucher))


async def _new_invoice(s: Stage, side: Side, role: str) -> Given:
    voucher = await s.voucher(side, presented=True)
    return _input(
        voucherNumber=voucher.number,
        secretCode=side.world.code_of(voucher),
        invoiceNumber=s.word("voucher", side.whose),
        amount="12,00",
    )


async def _invoice_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": (await s.invoice(side)).global_id}


async def _statement_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": await s.statement(side)}


async def _reimbursement_id(s: Stage, side: Side, role: str) -> Given:
    return {"id": await s.reimbursement(side)}


async def _file_id(s: Stage, side: Side, role: str) -> Given:
    asked = "SELECT id FROM transfer_files WHERE tenant = $1 LIMIT 1"
    rows = await side.world.as_owner(asked, side.world.tenant)
    return {"id": global_id(TransferFile.prefix, side.world.tenant, rows[0]["id"])}


async def _bank_says(s: Stage, side: Side, role: str) -> Given:
    return _input(id=await s.reimbursement(side), bankReference="B1")


def _bank_account(s: Stage, side: Side, role: str) -> Given:
    """The same account as before, so that no run passes it over."""
    holder = s.word("bank account", side.merchants_words)
    return _input(merchantId=side.merchant.global_id, currentPassword=PASSWORD, iban=IBAN, accountHolder=holder)


async def _excess(s: Stage, side: Side, role: str) -> Given:
    return _input(supplierInvoiceId=(await s.invoice(side)).global_id, decision="PAID")


async def _invoice_number(s: Stage, side: Side, role: str) -> Given:
    return {"search": (await s.invoice(side)).invoice_number}


ROWS: dict[str, Row] = {
    # Questions.
    "Query.node": Row(
        lambda s, side, role: {"id": side.place.global_id},
        """
        admin agent: ok ok ok null
        signatory: ok ok null null
        staff reader: ok null null null
        holder: null
        """,
    ),
    "Query.issuer": Row(
        lambda s, side, role: {"slug": side.world.slug},
        "admin agent signatory staff reader holder temporary nobody: ok",
    ),
    "Query.pointsOfSale": Row(
        lambda s, side, role: {"search": side.place.name},
        """
        admin agent: ok ok ok empty
        signatory: ok ok empty empty
        staff reader: ok empty empty empty
        holder: FORBIDDEN
        """,
    ),
    "Query.merchants": Row(
        lambda s, side, role: {"search": side.merchant.name},
        """
        admin agent: ok ok ok empty
        signatory staff reader holder: FORBIDDEN
        """,
    ),
    "Query.holders": Row(
        lambda s, side, role: {"search": side.holder.name},
        """
        admin agent: ok ok ok empty
        signatory staff reader holder: FORBIDDEN
        """,
    ),
    "Query.viewer": Row(
        lambda s, side, role: {},
        """
        admin agent signatory staff reader holder temporary: ok
        nobody: null
        """,
        of_nobody=True,
    ),
    "Query.devices": Row(lambda s, side, role: {}, "admin agent signatory staff reader holder: ok", of_nobody=True),
    "Query.users": Row(
        lambda s, side, role: {"search": next(n for n, u in side.world.users.items() if u is side.staff)},
        """
        admin agent: ok ok ok empty
        signatory: ok ok empty empty
        staff reader holder: FORBIDDEN
        """,
    ),
    "Query.paymentRequests": Row(
        lambda s, side, role: {"pointOfSaleId": side.place.global_id},
        """
        admin agent: ok ok ok NOT_FOUND
        signatory: ok ok empty NOT_FOUND
        staff reader: ok empty empty NOT_FOUND
        holder: FORBIDDEN
        """,
    ),
    "Query.suggestedBasketNumber": Row(
        lambda s, side, role: {"pointOfSaleId": side.place.global_id},
        """
        admin agent holder: FORBIDDEN
        signatory: ok ok NOT_FOUND NOT_FOUND
        staff: ok NOT_FOUND NOT_FOUND NOT_FOUND
        reader: FORBIDDEN NOT_FOUND NOT_FOUND NOT_FOUND
        """,
    ),
    "Query.myPaymentOffers": Row(
        lambda s, side, role: {},
        """
        admin agent signatory staff reader: FORBIDDEN
        holder: ok
        """,
        of_nobody=True,
    ),
    "Query.paymentOffer": Row(
        _token,
        """
        admin agent signatory staff reader holder temporary: ok ok ok null
        nobody: ok
        """,
        bears_token=True,
    ),
    # Signing in, and users.
    "Mutation.signIn": Row(
        _fresh_sign_in,
        "admin agent signatory staff reader holder temporary nobody: ok",
        of_nobody=True,
    ),
    "Mutation.signOut": Row(
        lambda s, side, role: {},
        "admin agent signatory staff reader holder temporary nobody: ok",
        of_nobody=True,
        signs_out=True,
    ),
    "Mutation.changePassword": Row(
        lambda s, side, role: _input(currentPassword="pas le bon", newPassword="un tout nouveau mot de passe"),
        "admin agent signatory staff reader holder temporary: BAD_CREDENTIALS",
        of_nobody=True,
    ),
    "Mutation.chooseLanguage": Row(
        lambda s, side, role: _input(locale="FR"),
        "admin agent signatory staff reader holder: ok",
        of_nobody=True,
    ),
    "Mutation.requestPasswordReset": Row(_reset, "admin agent signatory staff reader holder temporary nobody: ok"),
    "Mutation.resetPassword": Row(
        lambda s, side, role: _input(token="A" * 48, newPassword="un tout nouveau mot de passe"),
        "admin agent signatory staff reader holder temporary nobody: NOT_FOUND",
        of_nobody=True,
    ),
    "Mutation.signOutDevice": Row(
        _session, "admin agent signatory staff reader holder: ok NOT_FOUND NOT_FOUND NOT_FOUND", by_role=True
    ),
    "Mutation.contactSupport": Row(
        lambda s, side, role: _input(subject="Une question", message="Comment faire ?"),
        "admin agent signatory staff reader holder: ok",
        of_nobody=True,
    ),
    "Mutation.subscribeToPush": Row(_push, "admin agent signatory staff reader holder: ok", of_nobody=True),
    "Mutation.createUser": Row(_new_person, MANAGED),
    "Mutation.updateUser": Row(_changed_person, MANAGED),
    "Mutation.deactivateUser": Row(_person, MANAGED),
    # What the issuer publishes.
    "Mutation.publishNews": Row(
        lambda s, side, role: _input(titleFr="Nouveau", titleEn="New", bodyFr="Voici.", bodyEn="Here."),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.publishDocument": Row(
        lambda s, side, role: _input(kind="FAQ", titleFr="Aide", titleEn="Help", url="https://example.com/faq"),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.removeNews": Row(_news_id, ADMINISTERED),
    "Mutation.removeDocument": Row(_document_id, ADMINISTERED),
    # Parties.
    "Mutation.createMerchant": Row(
        lambda s, side, role: _input(code=f"c{next(s.numbers)}", name="Voile Club", pointsOfSale=[]),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.updateMerchant": Row(
        lambda s, side, role: _input(id=side.merchant.global_id, autoValidation=False), ADMINISTERED
    ),
    "Mutation.createPointOfSale": Row(
        lambda s, side, role: _input(merchantId=side.merchant.global_id, code=f"N{next(s.numbers)}", name="Ponton"),
        ADMINISTERED,
    ),
    "Mutation.updatePointOfSale": Row(
        lambda s, side, role: _input(
            id=side.place.global_id, address={"street": "1 rue du Port", "postcode": "45000", "town": "Orléans"}
        ),
        MANAGED,
    ),
    "Mutation.createHolder": Row(
        lambda s, side, role: _input(reference=f"client {next(s.numbers)}", name="Martin"),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.updateHolder": Row(
        lambda s, side, role: _input(id=side.holder.global_id, mobile="+33 6 00 00 00 00"), ADMINISTERED
    ),
    "Mutation.creditHolder": Row(
        lambda s, side, role: _input(holderId=side.holder.global_id, amount="1,00", reason="aide"), ADMINISTERED
    ),
    "Mutation.advanceClock": Row(
        lambda s, side, role: _input(hours=0),
        """
        admin agent: INVALID
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    # Payment requests.
    "Mutation.createPaymentRequest": Row(_asking, DONE_AT_THE_TILL),
    "Mutation.changePaymentCollection": Row(_qr_request, DONE_AT_THE_TILL),
    "Mutation.validatePaymentRequest": Row(_paid_request, DONE_AT_THE_TILL),
    "Mutation.cancelPaymentRequest": Row(_paid_request, DONE_AT_THE_TILL),
    "Mutation.payPaymentRequest": Row(_named_offer, DONE_BY_THE_CUSTOMER),
    "Mutation.declinePaymentRequest": Row(_named_offer, DONE_BY_THE_CUSTOMER),
    "Mutation.createExport": Row(
        lambda s, side, role: _input(kind="PAYMENT_REQUESTS", format="CSV", pointOfSaleId=side.place.global_id),
        """
        admin agent: ok ok ok NOT_FOUND
        signatory: ok ok NOT_FOUND NOT_FOUND
        staff reader: ok NOT_FOUND NOT_FOUND NOT_FOUND
        holder: FORBIDDEN FORBIDDEN FORBIDDEN NOT_FOUND
        """,
    ),
    # Vouchers. A supplier lists none (V3); what was presented to it, it knows by its number.
    "Query.suppliers": Row(
        lambda s, side, role: {"search": side.merchant.name},
        """
        admin agent holder: ok ok ok empty
        signatory staff reader: FORBIDDEN
        """,
        of_vouchers=True,
    ),
    "Query.voucherKinds": Row(
        lambda s, side, role: {},
        """
        admin agent holder: ok
        signatory staff reader: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Query.vouchers": Row(
        _presented_voucher,
        """
        admin agent: ok ok ok empty
        signatory staff reader: FORBIDDEN
        holder: ok empty empty empty
        """,
        of_vouchers=True,
    ),
    "Query.supplierInvoices": Row(
        _invoice_number,
        """
        admin agent: ok ok ok empty
        signatory staff reader: ok ok empty empty
        holder: FORBIDDEN
        """,
        of_vouchers=True,
    ),
    "Query.memberStatements": Row(
        lambda s, side, role: {},
        """
        admin agent holder: ok
        signatory staff reader: FORBIDDEN
        """,
        of_nobody=True,
        of_vouchers=True,
    ),
    "Mutation.issueMemberStatements": Row(
        lambda s, side, role: _input(month=datetime.now(PARIS).date().isoformat()),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Query.holdersImportTemplate": Row(
        lambda s, side, role: {},
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.importHolders": Row(
        lambda s, side, role: _input(file=xlsx(("Numéro d’adhérent", "Nom"), (f"{next(s.numbers):08d}A", "Martin"))),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.requestVoucher": Row(
        lambda s, side, role: _input(supplierId=side.merchant.global_id, amount="12,00"),
        """
        admin agent signatory staff reader: FORBIDDEN
        holder: ok ok ok INVALID
        """,
        of_vouchers=True,
    ),
    "Mutation.revealVoucherCode": Row(_issued_voucher, DONE_BY_THE_MEMBER, of_vouchers=True),
    "Mutation.deliverVoucher": Row(_revealed_voucher, DONE_BY_THE_MEMBER, of_vouchers=True),
    "Mutation.cancelVoucher": Row(_issued_voucher, ADMINISTERED),
    "Mutation.unblockVoucher": Row(_blocked_voucher, ADMINISTERED),
    "Mutation.verifyVoucher": Row(_number_and_code, DONE_WITH_NUMBER_AND_CODE, of_vouchers=True),
    "Mutation.recordSupplierInvoice": Row(_new_invoice, DONE_WITH_NUMBER_AND_CODE, of_vouchers=True),
    "Mutation.decideExcess": Row(_excess, ADMINISTERED),
    # Reimbursements. A signatory sees its own merchant's (P30); files for the bank are the issuer's.
    "Query.reimbursements": Row(
        lambda s, side, role: {},
        """
        admin agent signatory: ok
        staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
        of_vouchers=True,
    ),
    "Query.transferFiles": Row(
        lambda s, side, role: {},
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.updateBankAccount": Row(_bank_account, MANAGED),
    "Mutation.runReimbursements": Row(
        lambda s, side, role: _input(through=datetime.now(PARIS).date().isoformat()),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Mutation.settleReimbursement": Row(_bank_says, ADMINISTERED),
    "Mutation.importBankAnswer": Row(
        lambda s, side, role: _input(file=b"<Document/>"),
        """
        admin agent: ok
        signatory staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    # Reports. A signatory reads its own merchant's; there is no store here yet, so that there is nothing to read.
    "Query.reportingStore": Row(
        lambda s, side, role: {},
        """
        admin agent signatory: null
        staff reader holder: FORBIDDEN
        """,
        of_nobody=True,
    ),
    "Query.report": Row(
        lambda s, side, role: {"kind": "DUE", "merchantId": side.merchant.global_id},
        """
        admin agent: null null null NOT_FOUND
        signatory: null null NOT_FOUND NOT_FOUND
        staff reader holder: FORBIDDEN
        """,
    ),
    "Mutation.exportReport": Row(
        lambda s, side, role: _input(kind="DUE", merchantId=side.merchant.global_id),
        """
        admin agent: ok ok ok NOT_FOUND
        signatory: ok ok NOT_FOUND NOT_FOUND
        staff reader holder: FORBIDDEN FORBIDDEN FORBIDDEN NOT_FOUND
        """,
    ),
    # Live.
    "Subscription.paymentRequest": Row(
        _id,
        """
        admin agent: ok ok ok NOT_FOUND
        signatory: ok ok NOT_FOUND NOT_FOUND
        staff reader: ok NOT_FOUND NOT_FOUND NOT_FOUND
        holder: FORBIDDEN
        ended: 4403
        """,
    ),
    "Subscription.paymentRequestChanges": Row(
        lambda s, side, role: {"pointOfSaleId": side.place.global_id},
        """
        admin agent: ok ok ok NOT_FOUND
        signatory: ok ok silent NOT_FOUND
        staff reader: ok silent silent NOT_FOUND
        holder: FORBIDDEN
        ended: 4403
        """,
    ),
    "Subscription.paymentOffer": Row(
        _token,
        """
        admin agent signatory staff reader holder temporary: ok ok ok NOT_FOUND
        ended: 4403
        nobody: ok
        """,
        bears_token=True,
    ),
    "Subscription.holderChanges": Row(
        lambda s, side, role: {},
        """
        admin agent signatory staff reader: FORBIDDEN
        holder: ok
        ended: 4403
        """,
        of_nobody=True,
    ),
    "Subscription.job": Row(
        lambda s, side, role: {"id": s.job(side, role)},
        """
        admin agent signatory staff reader: ok NOT_FOUND NOT_FOUND NOT_FOUND
        holder: FORBIDDEN
        ended: 4403
        """,
        by_role=True,
    ),
}

NODES: dict[str, Row] = {
    "Issuer": Row(_issuer_id, "admin agent signatory staff reader holder: ok ok ok null"),
    "Merchant": Row(
        lambda s, side, role: {"id": side.merchant.global_id},
        """
        admin agent: ok ok ok null
        signatory staff reader: ok ok null null
        holder: null
        """,
    ),
    "PointOfSale": ROWS["Query.node"],
    "Holder": Row(
        lambda s, side, role: {"id": side.holder.global_id},
        """
        admin agent: ok ok ok null
        signatory staff reader: null
        holder: ok null null null
        """,
    ),
    "User": Row(
        lambda s, side, role: {"id": s.users_own(side, role)},
        """
        admin agent: ok ok ok null
        signatory: ok ok null null
        staff reader holder: ok null null null
        """,
        by_role=True,
    ),
    "SignedInDevice": Row(
        _session_id,
        "admin agent signatory staff reader holder: ok null null null",
        by_role=True,
    ),
    "PaymentRequest": Row(
        _paid_id,
        """
        admin agent: ok ok ok null
        signatory: ok ok null null
        staff reader: ok null null null
        holder: null
        """,
    ),
    "Voucher": Row(
        _presented_id,
        """
        admin agent: ok ok ok null
        signatory staff reader: null
        holder: ok null null null
        """,
        of_vouchers=True,
    ),
    "SupplierInvoice": Row(
        _invoice_id,
        """
        admin agent: ok ok ok null
        signatory staff reader: ok ok null null
        holder: null
        """,
        of_vouchers=True,
    ),
    "MemberStatement": Row(
        _statement_id,
        """
        admin agent: ok ok ok null
        signatory staff reader: null
        holder: ok null null null
        """,
        of_vouchers=True,
    ),
    "Reimbursement": Row(
        _reimbursement_id,
        """
        admin agent: ok ok ok null
        signatory: ok ok null null
        staff reader holder: null
        """,
        of_vouchers=True,
    ),
    "TransferFile": Row(
        _file_id,
        """
        admin agent: ok ok ok null
        signatory staff reader holder: null
        """,
    ),
    "JournalEntry": Row(
        _journal_line_id,
        """
        admin agent: ok ok ok null
        signatory: ok ok null null
        staff reader: ok null null null
        holder: null
        """,
    ),
    "Job": Row(
        lambda s, side, role: {"id": s.job(side, role)},
        """
        admin agent signatory staff reader: ok null null null
        holder: null
        """,
        by_role=True,
    ),
}

# ── the tests ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ROOTS = {
    f"{kind.name}.{name}": declared
    for kind in (GRAPHQL_SCHEMA.query_type, GRAPHQL_SCHEMA.mutation_type, GRAPHQL_SCHEMA.subscription_type)
    if kind is not None
    for name, declared in kind.fields.items()
}


def test_every_root_field_and_every_kind_of_object_has_a_row() -> None:
    nodes = GRAPHQL_SCHEMA.get_possible_types(_interface("Node"))
    assert (set(ROOTS) - set(ROWS), {kind.name for kind in nodes} - set(NODES)) == (set(), set())
    assert set(ROWS) <= set(ROOTS)


@pytest.mark.parametrize("name", [name for name in ROOTS if not name.startswith("Subscription.")])
async def test_root_field(stage: Stage, name: str) -> None:
    await _hold(stage, ROWS[name], name, _selection(ROOTS[name].type, 4))


@pytest.mark.parametrize("name", list(NODES))
async def test_node(stage: Stage, name: str) -> None:
    kind = GRAPHQL_SCHEMA.type_map[name]
    await _hold(stage, NODES[name], "Query.node", f"{{ __typename ... on {name} {_selection(kind, 4)} }}")


@pytest.mark.parametrize("name", [name for name in ROOTS if name.startswith("Subscription.")])
async def test_subscription(stage: Stage, name: str) -> None:
    row, selection = ROWS[name], _selection(ROOTS[name].type, 4)
    given = await _given(stage, row)
    before = await _digests(stage)
    said = await asyncio.gather(
        *(
            _first_event(
                stage.devices[role], _document(name, given[role, whose], selection), given[role, whose], wanted
            )
            for (role, whose), wanted in row.expected.items()
        )
    )
    _compare(row, stage, dict(zip(row.expected, said, strict=True)))
    assert await _digests(stage) == before


async def test_the_words_that_are_looked_for_do_stand_in_the_answers(stage: Stage) -> None:
    kinds: dict[str, set[str]] = {}
    lists: dict[str, Given] = {name: {} for name in ("paymentRequests", "holders", "users", "merchants")}
    lists |= {"vouchers": {"status": ["ISSUED"]}, "supplierInvoices": {}, "reimbursements": {}}
    for name, given in lists.items():
        root = f"Query.{name}"
        body = {"query": _document(root, given, _selection(ROOTS[root].type, 4)), "variables": given}
        text = (await stage.devices["admin"].post(body)).text
        for word in stage.words:
            if word.text in text:
                kinds.setdefault(word.kind, set()).add(word.whose)
    assert set(kinds) == {word.kind for word in stage.words}
    assert set().union(*kinds.values()) == {"own", "point", "merchant"}


async def test_a_voucher_s_code_is_shown_to_its_member_alone_and_in_no_list(stage: Stage) -> None:
    side = stage.sides["own"]
    voucher = await stage.voucher(side, presented=True)
    shown = "{ ... on Voucher { number presentation { secretCode } } }"
    seen = {
        role: (await stage.devices[role].ask(f"query ($id: ID!) {{ node(id: $id) {shown} }}", id=voucher.global_id))
        for role in ("admin", "agent", "signatory", "staff", "reader", "holder")
    }
    with_code, without = [
        {"node": {"number": voucher.number, "presentation": {"secretCode": code}}}
        for code in (side.world.code_of(voucher), None)
    ]
    nothing = {"node": None}
    assert seen == {
        "admin": without,
        "agent": without,
        "signatory": nothing,
        "staff": nothing,
        "reader": nothing,
        "holder": with_code,
    }
    document = f"query ($search: String!) {{ vouchers(search: $search) {{ nodes {shown} }} }}"
    for role in ("admin", "agent", "holder"):
        listed = await stage.devices[role].ask(document, search=voucher.number)
        assert listed["vouchers"]["nodes"] == [without["node"]], role


async def test_a_login_opens_nothing_at_another_issuer(stage: Stage) -> None:
    given = {"issuer": stage.sides["tenant"].world.slug, "login": "staff", "password": PASSWORD}
    refused = await stage.devices["nobody"].do("signIn", "... on Session { token }", **given)
    assert refused["code"] == "BAD_CREDENTIALS"


async def test_what_changes_elsewhere_is_in_no_list_of_others(stage: Stage) -> None:
    live = "subscription { paymentRequestChanges { paymentRequest { basketNumber } } }"
    seen: dict[str, list[str]] = {"staff": [], "signatory": []}
    async with AsyncExitStack() as stack:
        events = {role: await stack.enter_async_context(stage.devices[role].subscribe(live)) for role in seen}
        for role in seen:
            await next_of(events[role], 30, role)
        asked = {whose: await stage.request(stage.sides[whose]) for whose in ("tenant", "merchant", "point", "own")}
        numbers = {whose: request.basket_number for whose, request in asked.items()}
        for role, told in seen.items():
            while numbers["own"] not in told:
                change = await next_of(events[role], 30, role)
                told.append(change["paymentRequestChanges"]["paymentRequest"]["basketNumber"])
    assert seen == {"staff": [numbers["own"]], "signatory": [numbers["point"], numbers["own"]]}


async def test_within_what_one_sees_people_and_money_are_shown_to_those_who_may_know(stage: Stage) -> None:
    side = stage.sides["own"]
    request = await stage.request(side, paid=True)
    await perform(stage.database, side.staff, payments.validate, request.id)
    document = """query ($id: ID!) { node(id: $id) { ... on PaymentRequest {
      pointOfSale { merchant { name } }
      history { nodes { kind by { login grants { pointOfSale { code } } } holder { reference wallet { amount } } } }
    } } }"""
    people: dict[str, list[tuple[str | None, str | None]]] = {}
    for role in ("admin", "agent", "signatory", "staff", "reader"):
        node = (await stage.devices[role].ask(document, id=request.global_id))["node"]
        assert node["pointOfSale"]["merchant"]["name"] == side.merchant.name, role
        lines = {line["kind"]: line for line in node["history"]["nodes"]}
        people[role] = [
            (
                lines[kind]["by"] and lines[kind]["by"]["login"],
                lines[kind]["holder"] and lines[kind]["holder"]["reference"],
            )
            for kind in ("preq.create", "preq.pay", "preq.validate")
        ]
        for line in lines.values():
            assert line["holder"] is None or line["holder"]["wallet"] is not None, role
            places = [grant["pointOfSale"]["code"] for grant in (line["by"] or {}).get("grants", [])]
            assert places == (["P001"] if line["by"] and line["by"]["login"] == "staff" else []), role
    everything = [("signatory", None), ("holder", "client-own"), ("staff", "client-own")]
    assert people == {
        "admin": everything,
        "agent": everything,
        "signatory": [("signatory", None), (None, None), ("staff", None)],
        "staff": [(None, None), (None, None), ("staff", None)],
        "reader": [(None, None), (None, None), (None, None)],
    }


async def test_a_wallet_is_shown_to_its_holder_and_the_issuer_s_staff(stage: Stage) -> None:
    own = "{ viewer { user { grants { pointOfSale { code } } } merchant { code } holder { wallet { amount } } } }"
    shown = {role: (await stage.devices[role].ask(own))["viewer"] for role in stage.actors}
    wallets = {role: viewer["holder"] and viewer["holder"]["wallet"] is not None for role, viewer in shown.items()}
    assert wallets == {role: True if role == "holder" else None for role in stage.actors}
    places = {
        role: [grant["pointOfSale"]["code"] for grant in viewer["user"]["grants"]] for role, viewer in shown.items()
    }
    assert places == {role: ["P001"] if role in ("staff", "reader", "temporary") else [] for role in stage.actors}
    merchants = {role: viewer["merchant"] and viewer["merchant"]["code"] for role, viewer in shown.items()}
    of_the_merchant = ("signatory", "staff", "reader", "temporary")
    assert merchants == {role: "708900" if role in of_the_merchant else None for role in stage.actors}


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _hold(stage: Stage, row: Row, name: str, selection: str) -> None:
    """The whole row: first what is refused or only read, which changes nothing; then what is done."""
    does = [cell for cell, outcome in row.expected.items() if outcome == "ok" and name.startswith("Mutation.")]
    given = await _given(stage, row, does)
    async with AsyncExitStack() as stack:
        devices = dict(stage.devices)
        if row.signs_out:
            for role in stage.actors:
                again = await stage.running.client(stage.worlds[0], role)
                devices[role] = await stack.enter_async_context(again)
        before = await _digests(stage)
        said: dict[tuple[str, str], tuple[str, str]] = {}
        for cell in [*(cell for cell in row.expected if cell not in does), *does]:
            if cell in does and before:
                _compare(row, stage, said)
                assert await _digests(stage) == before
                before = {}
            body = {"query": _document(name, given[cell], selection), "variables": given[cell]}
            text = (await devices[cell[0]].post(body)).text
            said[cell] = (_outcome(json.loads(text)), text)
        _compare(row, stage, said)
        assert not before or await _digests(stage) == before


async def _given(stage: Stage, row: Row, does: Sequence[tuple[str, str]] = ()) -> dict[tuple[str, str], Given]:
    """What the field is given in each cell: something new where it will be changed, else one for each side."""
    made: dict[tuple[str, ...], Given] = {}
    found = {}
    for cell in row.expected:
        role, whose = cell
        key = cell if row.by_role or cell in does else (whose,)
        if key not in made:
            given = row.given(stage, stage.sides[whose], role)
            made[key] = await given if isawaitable(given) else given
        found[cell] = made[key]
    return found


async def _digests(stage: Stage) -> dict[str, str]:
    """What both issuers hold, once no worker has anything left to write."""
    await stage.settled()
    return {f"{world.slug} {name}": digest for world in stage.worlds for name, digest in (await world.digest()).items()}


async def _first_event(device: Client, document: str, given: Given, wanted: str) -> tuple[str, str]:
    """What a subscription says first, and its text."""
    try:
        async with device.subscribe(document, **given) as events:
            async with asyncio.timeout(0.5 if wanted == "silent" else 30):
                event = await anext(events)
            return "ok", json.dumps(event, ensure_ascii=False)
    except TimeoutError:
        return "silent", ""
    except Unexpected as error:
        (problem,) = json.loads(str(error))
        return problem["extensions"]["code"], str(error)
    except websockets.ConnectionClosed as closed:
        return str(closed.rcvd.code if closed.rcvd else None), str(closed)


def _outcome(body: dict[str, Any]) -> str:
    if "errors" in body:
        return str(body["errors"][0]["extensions"]["code"])
    (found,) = body["data"].values()
    if found is None:
        return "null"
    if isinstance(found, dict) and found.get("__typename") == "Refusal":
        return str(found["refused"])
    return "empty" if isinstance(found, dict) and found.get("nodes") == [] else "ok"


def _compare(row: Row, stage: Stage, said: dict[tuple[str, str], tuple[str, str]]) -> None:
    """What was said is what the row says, and holds no word that belongs to others."""
    expected = {cell: outcome for cell, outcome in row.expected.items() if cell in said}
    assert {cell: outcome for cell, (outcome, _) in said.items()} == expected
    leaks = [
        (role, whose, word)
        for (role, whose), (_, text) in said.items()
        for word in stage.words
        if word.text in text
        and not (row.of_vouchers and _meet_over_vouchers(role, word))
        and not _may_read(role, word, stage.sides[whose] if row.bears_token else None)
    ]
    assert leaks == []
    assert [cell for cell, (_, text) in said.items() if _SECRET_CODE.search(text) and cell != ("holder", "own")] == []


_SECRET_CODE = re.compile(r'"secretCode":\s*"')


def _meet_over_vouchers(role: str, word: Word) -> bool:
    """Whether one side of a voucher may read the word because it deals with the other."""
    if role == "holder":
        return word.kind in ("merchant name", "merchant id") and word.whose != "tenant"
    return word.kind in ("holder name", "holder id") and word.whose in ("own", "point") and role in _AT_A_COUNTER


_AT_A_COUNTER = frozenset({"signatory", "staff", "reader"})


def _may_read(role: str, word: Word, bearer_of: Side | None) -> bool:
    """Whether an answer to that role may hold the word; whoever bears the token of a side's request knows who asks."""
    names = word.kind in ("place name", "merchant name")
    if bearer_of is not None and names and word.whose in (bearer_of.whose, bearer_of.merchants_words):
        return role != "ended" and (role == "nobody" or word.whose != "tenant")
    ours = word.whose in ("own", "point")
    match role:
        case "admin" | "agent":
            return word.whose != "tenant"
        case "signatory":
            return ours and not word.kind.startswith("holder") and word.kind != "unpresented voucher"
        case "staff" | "reader" | "temporary":
            known = ("place", "place name", "merchant name", "merchant id")
            return (word.whose == "own" and word.kind in known) or (ours and word.kind == "voucher")
        case "holder":
            return word.whose == "own" and (names or word.kind.startswith("holder") or word.kind.endswith("voucher"))
        case _:
            return False


def _document(name: str, given: Given, selection: str) -> str:
    """The operation with what is given declared as its variables, and a key where the field wants one."""
    kind, _, called = name.partition(".")
    declared = ROOTS[name].args
    arguments = [f"{argument}: ${argument}" for argument in given]
    if "idempotencyKey" in declared:
        arguments.append(f'idempotencyKey: "{secrets.token_hex(8)}"')
    if "first" in declared:
        arguments.append("first: 10")
    variables = ", ".join(f"${argument}: {declared[argument].type}" for argument in given)
    return (
        f"{kind.lower()} {f'({variables})' if variables else ''} {{"
        f" {called}{f'({chr(44).join(arguments)})' if arguments else ''} {selection} }}"
    )


def _selection(kind: Any, depth: int, within: tuple[str, ...] = ()) -> str:
    """Every field of a type, and of the types within it. Left out: pictures and the nodes of edges, which stand beside
    as text and as `nodes`. An object that may be of any type is asked for its identifier alone."""
    named: GraphQLNamedType = get_named_type(kind)
    if is_leaf_type(named):
        return ""
    if isinstance(named, GraphQLUnionType):
        # A merchant has a `code` too, of another type.
        members = [f"... on {one.name} {_selection(one, depth)}" for one in named.types if one.name != "Refusal"]
        refusal = "... on Refusal { refused: code message problems { path message } }"
        return f"{{ __typename {' '.join(members)} {refusal} }}"
    if isinstance(named, GraphQLInterfaceType):
        return "{ __typename id }"
    assert isinstance(named, GraphQLObjectType)
    parts = []
    for name, one in named.fields.items():
        inner = get_named_type(one.type)
        again = name in ("svg", "pngBase64") or (name == "node" and named.name.endswith("Edge"))
        if again or any(map(is_required_argument, one.args.values())):
            continue
        if not is_leaf_type(inner) and (depth == 0 or inner.name in (*within, named.name)):
            continue
        parts.append(f"{name}{_first(one)} {_selection(inner, depth - 1, (*within, named.name))}")
    return f"{{ {' '.join(parts)} }}"


def _first(one: GraphQLField) -> str:
    return "(first: 3)" if "first" in one.args else ""


def _interface(name: str) -> GraphQLInterfaceType:
    found = GRAPHQL_SCHEMA.type_map[name]
    assert isinstance(found, GraphQLInterfaceType)
    return found
