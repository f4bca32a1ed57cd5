"""What must never be is refused by the database itself, whoever asks: real statements, as the application's role and as
those who may do more, each with the name of the constraint that says no."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, get_type_hints
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain import (
    bank_accounts,
    copies,
    documents,
    jobs,
    messages,
    payments,
    publications,
    push,
    reimbursements,
    sign_in,
    support,
    vouchers,
)
from domain.access import Actor, Right, Role
from domain.calendar import PARIS
from domain.codes import digest, new_id, new_token
from domain.db import APP, OWNER, PROTECTION, READER, Database, connect_as, metadata
from domain.errors import Refused
from domain.ledger import AccountKind, account_of
from domain.lifecycle import LIFECYCLES
from domain.parties import Address
from domain.payments import PaymentRequest
from domain.reimbursements import ReimbursedFlow, Reimbursement, ReimbursementLine, TransferFile
from domain.texts import Locale
from domain.work import Key, perform
from escarcelle import database as escarcelle_database
from escarcelle.database import DATABASE
from reporting import audit
from tests.world import Servers, World

pytestmark = pytest.mark.anyio

WALLED: Final = sorted(table for table, protection in PROTECTION.items() if protection.walled)


@dataclass(frozen=True)
class Cast:
    """Two issuers to whom the same has happened. `names` fill the statements below; `theirs` are the other's."""

    servers: Servers = field(repr=False)
    names: dict[str, Any] = field(repr=False)
    theirs: dict[str, Any] = field(repr=False)
    worlds: tuple[int, int]

    @asynccontextmanager
    async def as_role(self, role: str) -> AsyncIterator[asyncpg.Connection]:
        """A connection in a transaction behind the first issuer's wall; nothing stays of it."""
        url = self.servers.postgres.url(DATABASE)
        connection = await asyncpg.connect(url) if role == SUPERUSER else await connect_as(self.servers.settings, role)
        try:
            await connection.transaction().start()
            await connection.execute(f"SET LOCAL app.tenant = '{self.worlds[0]}'")
            yield connection
        finally:
            # With the connection goes what was not committed.
            await connection.close()


SUPERUSER: Final = "postgres"
A_SCAN: Final = documents.File("facture.pdf", b"%PDF-1.7", hashlib.sha256(b"%PDF-1.7").digest())


@pytest.fixture(scope="module")
def cast(servers: Servers) -> Cast:
    """Once for all tests: what is refused leaves no trace, as the last of them confirms."""
    return asyncio.run(_play(servers))


async def _play(servers: Servers) -> Cast:
    database = Database(servers.settings)
    await database.open()
    try:
        (own, names), (other, theirs) = [
            await _history(await World.make(servers, database, support_email="aide@example.com")) for _ in range(2)
        ]
        return Cast(servers, names, theirs, (own.tenant, other.tenant))
    finally:
        await database.close()


async def _history(world: World) -> tuple[World, dict[str, Any]]:
    """Something in every table: what has no row here is not tried below."""
    merchant = await world.merchant("708900", "Canoë Kayak Club Orléans", {"P001": "Saint-Jean-le-Blanc"})
    ines = await world.member("ines", "Durand", wallet="200,00", email="ines@example.com")
    manager = await world.user("708900", Role.MERCHANT_MANAGER, merchant="708900")
    await world.user("p001", Role.MERCHANT_STAFF, merchant="708900", grants={"P001": frozenset({Right.COLLECT})})
    payer = await world.user("ines", Role.HOLDER, holder="ines")
    await _signing_in(world, payer)
    requests = []
    for basket in ("reserved", "settled"):
        request = await perform(
            world.database,
            manager,
            payments.create,
            key=Key.of(manager, basket, "create", basket),
            message_id=new_id(),
            point_of_sale_id=world.places["P001"].id,
            amount="40,00",
            basket_number=basket,
            customer_identifier="ines",
            validation_days=3,
            notify_email="accueil@example.com",
            remember_email=True,
        )
        assert isinstance(request, PaymentRequest)
        requests.append(await perform(world.database, payer, payments.pay, request.token))
    reserved, settled = requests
    assert isinstance(reserved, PaymentRequest) and isinstance(settled, PaymentRequest)
    await perform(world.database, manager, payments.validate, settled.id, "30,00")
    export = await _export(world, manager)
    await _publications(world, manager)
    ((told,),) = await world.as_owner(
        "SELECT id FROM outbox WHERE tenant = $1 AND topic = 'mail' LIMIT 1", world.tenant
    )
    await perform(world.database, world.system, messages.fail, told, "no such mailbox", for_good=True)
    said: dict[str, Any] = dict.fromkeys(("copied_at", "as_of", "watermark_since"), datetime.now(UTC))
    said |= dict.fromkeys(("number", "watermark", "waiting", "ledger_lines", "operations"), 1)
    await perform(world.database, world.system, copies.note_copy, cluster="1.1.1", digest="0", **said)
    ((issuer,),) = await world.as_owner("SELECT id FROM issuers WHERE tenant = $1", world.tenant)
    ((credit,),) = await world.as_owner(
        "SELECT id FROM transfers WHERE tenant = $1 AND kind = 'TRANSFER'", world.tenant
    )
    return world, {
        "tenant": world.tenant,
        "holder": ines.id,
        "user": manager.user_id,
        "place": world.places["P001"].id,
        "wallet": account_of(ines.id, AccountKind.WALLET),
        "merchant": account_of(merchant.id, AccountKind.MERCHANT),
        "held": account_of(merchant.id, AccountKind.HELD),
        "transit": account_of(merchant.id, AccountKind.TRANSIT),
        "funding": account_of(issuer, AccountKind.FUNDING),
        "bank": account_of(issuer, AccountKind.BANK),
        "export": export,
        "credit": credit,
        "reserved": reserved.reservation_id,
        "settled": settled.reservation_id,
        "request": reserved.id,
        **await _vouchers(world, payer),
        **await _reimbursements(world, manager),
    }


async def _signing_in(world: World, payer: Actor) -> None:
    """A right password on a new device, a wrong one on another, a mailed link, and a device that shows pushes."""
    for right in (True, False):
        with suppress(Refused):
            await perform(
                world.database,
                payer,
                sign_in.try_sign_in,
                login_key="ines",
                device_id=sign_in.UNKNOWN_DEVICES,
                right=right,
                token_digest=digest(new_token(world.tenant)),
                device_digest=digest(new_token(world.tenant)),
                lasts=timedelta(hours=1),
                description=None,
            )
    assert payer.user_id is not None
    await perform(world.database, world.system, sign_in.send_reset, payer.user_id, sign_in.ResetReason.ASKED)
    a_point, sixteen_bytes = push.public_key(world.servers.settings), "AAAAAAAAAAAAAAAAAAAAAA"
    await perform(world.database, payer, push.subscribe, "https://push.example.com/1", a_point, sixteen_bytes)


async def _vouchers(world: World, member: Actor) -> dict[str, UUID]:
    """Vouchers in every state that a number and an invoice have a say in, and two invoices, one of which waits for a
    decision; each by its name."""
    await world.voucher_kind()
    supplier = world.merchants["708900"]
    made: dict[str, UUID] = {}
    for name in ("issued", "revealed", "delivered", "invoiced", "exceeded"):
        voucher = await perform(world.database, member, vouchers.request, supplier_id=supplier.id, amount="12,00")
        assert isinstance(voucher, vouchers.Voucher)
        made[name] = voucher.id
        if name == "issued":
            continue
        await perform(world.database, member, vouchers.reveal, voucher.id, key_of_code=world.secret_keys[0])
        if name == "revealed":
            continue
        voucher = await perform(world.database, member, vouchers.deliver, voucher.id)
        assert isinstance(voucher, vouchers.Voucher) and voucher.number is not None
        if name == "delivered":
            continue
        invoice = await perform(
            world.database,
            world.users["708900"],
            vouchers.record_invoice,
            voucher_number=voucher.number,
            code=vouchers.TypedCode(world.code_of(voucher), world.secret_keys),
            invoice_number=f"F-{name}",
            amount="12,00" if name == "invoiced" else "15,50",
            document=A_SCAN,
        )
        assert isinstance(invoice, vouchers.SupplierInvoice) and invoice.document_id is not None
        made["scan" if name == "invoiced" else "other_scan"] = invoice.document_id
        made["recorded" if name == "invoiced" else "to_decide"] = invoice.id
        if name == "invoiced":
            made["statement"] = await _statement(world)
    return made


async def _statement(world: World) -> UUID:
    """What the member was billed for, told it."""
    agent = await world.user("agence", Role.ISSUER_AGENT)
    month = datetime.now(PARIS).date()
    job = await perform(world.database, agent, vouchers.issue_member_statements, month=month, locale=Locale.FR)
    assert isinstance(job, jobs.Job)
    await perform(world.database, world.system, jobs.start, job.id)
    statement = await perform(
        world.database, world.system, vouchers.issue_statement, job.id, 1, new_id(), world.holders["ines"].id
    )
    assert isinstance(statement, vouchers.MemberStatement)
    await perform(world.database, world.system, jobs.finish_without_file, job.id, 1, new_id(), 1)
    return statement.id


async def _reimbursements(world: World, manager: Actor) -> dict[str, UUID]:
    """What the merchant is owed, sent to its bank twice: once it came back refused."""
    settings, home = world.servers.settings, Address("1 place de l’Église", "45000", "Orléans")
    await escarcelle_database.put_terms(settings, world.slug, ReimbursedFlow.VOUCHERS, date(2019, 1, 1), "2.5", 5)
    await escarcelle_database.put_reimbursement_runs(settings, world.slug, automatic=True)
    await escarcelle_database.put_paying_account(
        settings, world.slug, "FR1420041010050500013M02606", None, "Agence du Temps Libre", home
    )
    await escarcelle_database.put_appearance(settings, world.slug, {"accent": "#7a1f4b"})
    await perform(
        world.database,
        manager,
        bank_accounts.update,
        None,
        iban="FR7630006000011234567890189",
        account_holder="Canoë Kayak Club",
    )
    refused = await _reimbursed(world)
    await perform(world.database, world.system, reimbursements.reject, refused.id, "AC04", None)
    sent = await _reimbursed(world)
    assert sent.file_id is not None
    return {"refused": refused.id, "sent": sent.id, "file": sent.file_id, "on_its_way": sent.reservation_id}


async def _reimbursed(world: World) -> Reimbursement:
    """One reimbursement in one file, as a worker makes it."""
    today = datetime.now(PARIS).date()
    agent = world.users["agence"]
    job = await perform(world.database, agent, reimbursements.run, through=today, locale=Locale.FR)
    assert isinstance(job, jobs.Job)
    run = (job.id, 1, new_id())
    await perform(world.database, world.system, jobs.start, job.id)
    merchant = world.merchants["708900"]
    made = await perform(world.database, world.system, reimbursements.reimburse, *run, merchant.id)
    file = await perform(world.database, world.system, reimbursements.send, *run)
    assert isinstance(file, TransferFile) and isinstance(made, Reimbursement)
    made.file_id = file.id
    await perform(world.database, world.system, jobs.keep_chunk, *run, 0, b"<a/>")
    await perform(world.database, world.system, jobs.finish, *run, 1, "virements", 4)
    return made


async def _export(world: World, manager: Actor) -> UUID:
    """A list in a file, as a worker keeps it."""
    options: dict[str, Any] = {"kind": jobs.JobKind.EXPORT_PAYMENT_REQUESTS, "format": jobs.ExportFormat.CSV}
    job = await perform(world.database, manager, jobs.create_export, locale=Locale.FR, **options)
    assert isinstance(job, jobs.Job)
    run = (job.id, 1, new_id())
    await perform(world.database, world.system, jobs.start, job.id)
    await perform(world.database, world.system, jobs.keep_chunk, *run, 0, b"a;b")
    await perform(world.database, world.system, jobs.finish, *run, 1, "operations", 3)
    return job.id


async def _publications(world: World, manager: Actor) -> None:
    """News and a document of the issuer, and what a merchant writes to it."""
    both: dict[str, Any] = {"title_fr": "Guide", "title_en": "A guide"}
    await perform(world.database, world.system, publications.publish_news, body_fr="Voici", body_en="Here", **both)
    guide = publications.DocumentKind.GUIDE
    await perform(
        world.database, world.system, publications.publish_document, kind=guide, url="https://example.com/g", **both
    )
    await perform(world.database, manager, support.contact, "Une question", "Comment faire ?")


# ── the ledger and the flows, as the application ──────────────────────────────────────────────────────────────────────


def transfer(kind: str = "TRANSFER", *, settles: str = "", id_: str = "new", xact: str = "", **amounts: int) -> str:
    """A transfer with its postings, in cents, by account: one statement, as `work` writes it."""
    values = {
        "tenant": "{tenant}",
        "id": f"'{{{id_}}}'",
        "kind": f"'{kind}'",
        "settles": f"'{{{settles}}}'" if settles else "NULL",
        "subject_kind": "'hold'",
        "subject_id": "'{holder}'",
        "reason": "'a test'",
        "at": "clock_timestamp()",
    }
    values |= {"xact": xact} if xact else {}
    made = f"INSERT INTO transfers ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    return f"WITH made AS ({made}) {postings(id_, **amounts)}" if amounts else made


def postings(of: str, **amounts: int) -> str:
    """Postings of a transfer."""
    rows = (f"({{tenant}}, '{{{of}}}', '{{{account}}}', 'EUR', {amount})" for account, amount in amounts.items())
    return f"INSERT INTO postings (tenant, transfer_id, account_id, unit, amount) VALUES {', '.join(rows)}"


def request(**values: str) -> str:
    """The reserved request, with these values."""
    return f"UPDATE payment_requests SET {', '.join(f'{k} = {v}' for k, v in values.items())} WHERE id = '{{request}}'"


def voucher(name: str, **values: str) -> str:
    """The voucher of that name, with these values."""
    return f"UPDATE vouchers SET {', '.join(f'{k} = {v}' for k, v in values.items())} WHERE id = '{{{name}}}'"


def invoice(name: str, **values: str) -> str:
    """The invoice of that name, with these values."""
    return voucher(name, **values).replace("vouchers", "supplier_invoices")


def document(**values: str) -> str:
    """A second document like the first, with these values."""
    given = {"id": "'{new}'"} | values
    return _copied("documents", "id = '{scan}'", given, "id", "name", "media_type", "size", "sha256", "created_at")


def piece(**values: str) -> str:
    """A second piece of that document, with these values."""
    given = {"n": "1"} | values
    return _copied("document_chunks", "document_id = '{scan}'", given, "document_id", "n", "content")


def published(**values: str) -> str:
    """Every published document, with these values."""
    return bank_account(**values).replace("bank_accounts", "published_documents")


def _copied(table: str, where: str, given: dict[str, str], *columns: str) -> str:
    values = ", ".join(given.get(name, name) for name in columns)
    return f"INSERT INTO {table} (tenant, {', '.join(columns)}) SELECT tenant, {values} FROM {table} WHERE {where}"


def statement(**values: str) -> str:
    """Another statement, like the one there is but with these values."""
    columns = [name for name in vouchers.MemberStatement.columns if name != "tenant"]
    return _copied("member_statements", "true", {"id": "'{new}'"} | values, *columns)


def reimbursement(name: str, **values: str) -> str:
    """The reimbursement of that name, with these values."""
    return voucher(name, **values).replace("vouchers", "reimbursements")


def line(**values: str) -> str:
    """A line like one of those that were sent, with these values."""
    columns = [name for name in ReimbursementLine.columns if name != "tenant"]
    return _copied("reimbursement_lines", "reimbursement_id = '{sent}' LIMIT 1", values, *columns)


def file(**values: str) -> str:
    """A second file for the bank like the first, with these values."""
    given = {"id": "'{new}'", "reference": "'F2'", "job_id": "'{export}'"} | values
    return _copied("transfer_files", "id = '{file}'", given, *[c for c in TransferFile.columns if c != "tenant"])


def bank_account(**values: str) -> str:
    """Every bank account, with these values."""
    return f"UPDATE bank_accounts SET {', '.join(f'{k} = {v}' for k, v in values.items())}"


USED_KEY: Final = (
    "INSERT INTO idempotency_keys (tenant, scope_id, key, input_hash, result_kind, result_id)"
    " SELECT tenant, scope_id, key, input_hash, result_kind, result_id FROM idempotency_keys WHERE key = 'reserved'"
)
ACCOUNT_TWICE: Final = (
    "INSERT INTO accounts (tenant, id, kind, owner_id, unit, opened_at)"
    " SELECT tenant, '{new}', kind, owner_id, unit, opened_at FROM accounts WHERE id = '{wallet}'"
)


SERIES_TWICE: Final = "INSERT INTO number_series (tenant, name, year, last) SELECT * FROM number_series"
A_NUMBER: Final = "'W2026.XX.442.00000099'"
NUMBER_OF_THE_DELIVERED: Final = "(SELECT number FROM vouchers WHERE id = '{delivered}')"

REFUSALS: Final = {
    "postings that do not sum to zero": ("sum_to_zero", transfer(wallet=1, merchant=-2)),
    "one posting alone": ("sum_to_zero", transfer(wallet=1)),
    "a transfer without postings": ("sum_to_zero", transfer()),
    "one right transfer does not excuse a wrong one": (
        "sum_to_zero",
        transfer(held=-1, merchant=1),
        transfer(id_="other", held=1),
    ),
    "two wrong transfers do not make a right one": (
        "sum_to_zero",
        transfer(held=-1),
        transfer(id_="other", held=1),
    ),
    "a posting added once the sum was checked": (
        "seal",
        transfer(wallet=1, merchant=-1),
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET CONSTRAINTS ALL DEFERRED",
        postings("new", held=1),
    ),
    "a posting of nothing": ("postings_amount_check", transfer(wallet=0)),
    "a posting in a unit that there is not": ("postings_unit_check", transfer(wallet=1).replace("EUR", "FRF")),
    "an account twice in a transfer": ("postings_pkey", transfer(wallet=1, merchant=-1), postings("new", wallet=1)),
    "a posting in another issuer's account": ("postings_account_fkey", transfer(wallet=1, their_merchant=-1)),
    "postings added to an old transfer": ("seal", postings("credit", held=1, merchant=-1)),
    "a transfer that says it is of a later transaction": (
        "seal",
        transfer(xact="(pg_current_xact_id()::text::bigint + 1)::text::xid8", held=-1, merchant=1),
    ),
    "a second settlement": ("transfers_tenant_settles_key", transfer("VOID", settles="settled", held=-1, wallet=1)),
    "a settlement that leaves a rest on the held account": (
        "settlement",
        transfer("POST", settles="reserved", held=-30_00, merchant=30_00),
    ),
    "a settlement of more than was reserved": (
        "settlement",
        transfer("POST", settles="reserved", held=-41_00, merchant=41_00),
    ),
    "a settlement beside the held account": (
        "settlement",
        transfer("POST", settles="reserved", wallet=-40_00, merchant=40_00),
    ),
    "a settlement of what is no reservation": ("settlement", transfer("VOID", settles="credit", held=-1, merchant=1)),
    "a settlement of another issuer's reservation": (
        "transfers_tenant_settles_fkey",
        transfer("VOID", settles="their_reserved"),
    ),
    "a settlement of nothing": ("transfers_settles_check", transfer("POST", held=-1, merchant=1)),
    "a mere transfer that settles": ("transfers_settles_check", transfer(settles="reserved", held=-1, merchant=1)),
    "a kind of transfer that there is not": ("transfers_kind_check", transfer("GIFT", held=-1, merchant=1)),
    "a balance below its floor": (
        "balances_floor_check",
        "UPDATE balances SET amount = floor - 1 WHERE account_id = '{wallet}'",
    ),
    "an account twice": ("accounts_tenant_owner_id_kind_unit_key", ACCOUNT_TWICE),
    "an idempotency key twice": ("idempotency_keys_pkey", USED_KEY),
    "a basket number twice": ("payment_requests_basket_key", request(basket_number="'settled'")),
    "paid more than was asked": ("payment_requests_amount_paid_check", request(amount_paid="amount_requested + 1")),
    "validated more than was paid": (
        "payment_requests_amount_validated_check",
        request(amount_validated="amount_paid + 1"),
    ),
    "to validate without a payment": ("payment_requests_paid_check", request(amount_paid="NULL")),
    "a voucher of a part of a euro": ("vouchers_value_check", voucher("issued", value="value + 1")),
    "a voucher of nothing": ("vouchers_value_check", voucher("issued", value="0")),
    "a number that lacks digits": ("vouchers_number_check", voucher("delivered", number="'W2026.XX.442.1'")),
    "a number in small letters": ("vouchers_number_check", voucher("delivered", number="lower(number)")),
    "a number with something behind it": ("vouchers_number_check", voucher("delivered", number="number || chr(10)")),
    "a number before the voucher is delivered": ("vouchers_delivered_check", voucher("revealed", number=A_NUMBER)),
    "delivered without a number": ("vouchers_delivered_check", voucher("revealed", status="'DELIVERED'")),
    "invoiced without a number": ("vouchers_delivered_check", voucher("invoiced", number="NULL")),
    "a number twice": (
        "vouchers_tenant_number_key",
        voucher("revealed", status="'DELIVERED'", number=NUMBER_OF_THE_DELIVERED),
    ),
    "a code that nobody has revealed": ("vouchers_revealed_check", voucher("issued", code_salt="'\\x00'")),
    "a revealed code without its key": ("vouchers_revealed_check", voucher("revealed", code_key="NULL")),
    "a sixth wrong code": ("vouchers_wrong_codes_check", voucher("delivered", wrong_codes="6")),
    "delivered before the code is revealed": (
        "lifecycle",
        voucher("issued", status="'DELIVERED'", number=A_NUMBER),
    ),
    "taken back once the code is revealed": ("lifecycle", voucher("revealed", status="'CANCELLED'")),
    "expired once it is delivered": ("lifecycle", voucher("delivered", status="'EXPIRED'", number="NULL")),
    "delivered again once it is invoiced": ("lifecycle", voucher("invoiced", status="'DELIVERED'")),
    "a series that begins with nothing": ("number_series_last_check", "UPDATE number_series SET last = 0"),
    "a series twice in a year": ("number_series_pkey", SERIES_TWICE),
    "an invoice that is all excess": ("supplier_invoices_amount_check", invoice("to_decide", excess="amount")),
    "an excess below nothing": ("supplier_invoices_amount_check", invoice("to_decide", excess="-1")),
    "an excess that nobody is to decide about": ("supplier_invoices_excess_check", invoice("recorded", excess="1")),
    "a decision about no excess": ("supplier_invoices_excess_check", invoice("to_decide", excess="0")),
    "an excess paid that nobody has decided": (
        "supplier_invoices_decided_check",
        invoice("to_decide", status="'EXCESS_PAID'"),
    ),
    "told of an excess that nobody has decided": (
        "supplier_invoices_statement_check",
        invoice("to_decide", statement_id="'{statement}'"),
    ),
    "on a statement that is not there": (
        "supplier_invoices_tenant_statement_id_fkey",
        invoice("recorded", statement_id="'{new}'"),
    ),
    "a statement of nothing": ("member_statements_total_check", statement(total="0")),
    "a statement of a thirteenth month": ("member_statements_period_check", statement(period="'2026-13'")),
    "an excess paid that was never asked": ("lifecycle", invoice("recorded", status="'EXCESS_PAID'")),
    "a second invoice for a voucher": (
        "supplier_invoices_tenant_voucher_id_key",
        invoice("to_decide", voucher_id="'{invoiced}'"),
    ),
    "a supplier's invoice number twice": (
        "supplier_invoices_tenant_supplier_id_invoice_number_key",
        invoice("to_decide", invoice_number="'F-invoiced'"),
    ),
    "a document of two invoices": (
        "supplier_invoices_tenant_document_id_key",
        invoice("to_decide", document_id="'{scan}'"),
    ),
    "a document that there is not": (
        "supplier_invoices_tenant_document_id_fkey",
        invoice("to_decide", document_id="'{new}'"),
    ),
    "a reimbursement of nothing": ("reimbursements_net_check", reimbursement("sent", commission="gross", net="0")),
    "a net that is not what is left": ("reimbursements_net_check", reimbursement("sent", net="net + 1")),
    "a commission below nothing": (
        "reimbursements_net_check",
        reimbursement("sent", commission="-1", net="gross + 1"),
    ),
    "a period that ends before it begins": (
        "reimbursements_period_check",
        reimbursement("sent", period_end="period_start - 1"),
    ),
    "sent in no file": ("reimbursements_sent_check", reimbursement("sent", file_id="NULL")),
    "sent at no time": ("reimbursements_sent_check", reimbursement("sent", sent_at="NULL")),
    "sent to no account": ("reimbursements_sent_check", reimbursement("sent", iban="NULL")),
    "sent to nobody": ("reimbursements_sent_check", reimbursement("sent", account_holder="NULL")),
    "in a file that is not there": (
        "reimbursements_tenant_file_id_fkey",
        reimbursement("sent", file_id="'{new}'"),
    ),
    "settled at no time": ("reimbursements_outcome_check", reimbursement("sent", status="'SETTLED'")),
    "rejected at no time": ("reimbursements_outcome_check", reimbursement("sent", status="'REJECTED'")),
    "settled before the bank has said so": (
        "reimbursements_outcome_check",
        reimbursement("sent", settled_at="clock_timestamp()"),
    ),
    "settled once it was rejected": (
        "lifecycle",
        reimbursement("refused", status="'SETTLED'", settled_at="rejected_at", rejected_at="NULL"),
    ),
    "an end-to-end identifier twice": (
        "reimbursements_tenant_reference_key",
        reimbursement("sent", reference="(SELECT reference FROM reimbursements WHERE id = '{refused}')"),
    ),
    "a transfer reimbursed twice": (
        "reimbursement_lines_once_idx",
        "UPDATE reimbursement_lines SET released = false WHERE reimbursement_id = '{refused}'",
    ),
    "a transfer twice in a reimbursement": ("reimbursement_lines_pkey", line(released="true")),
    "a line of nothing": ("reimbursement_lines_amount_check", line(transfer_id="'{credit}'", amount="0")),
    "a line of which more is kept than it is": (
        "reimbursement_lines_amount_check",
        line(transfer_id="'{credit}'", commission="amount + 1"),
    ),
    "a line of a transfer that is not there": (
        "reimbursement_lines_tenant_transfer_id_fkey",
        "UPDATE reimbursement_lines SET transfer_id = gen_random_uuid()",
    ),
    "a file of nothing": ("transfer_files_total_check", file(total="0")),
    "a file without transfers": ("transfer_files_total_check", file(transfers="0")),
    "a second file of a run": ("transfer_files_tenant_job_id_key", file(job_id="job_id")),
    "a message identifier twice": ("transfer_files_tenant_reference_key", file(reference="reference")),
    "a number that is no bank account's": ("bank_accounts_iban_check", bank_account(iban="'FR76'")),
    "a bank account's number in small letters": ("bank_accounts_iban_check", bank_account(iban="lower(iban)")),
    "a part of an address": ("bank_accounts_postal_address_check", bank_account(town="'Orléans'")),
    "two bank accounts of a merchant": (
        "bank_accounts_tenant_merchant_id_key",
        _copied(
            "bank_accounts",
            "true",
            {"id": "'{new}'"},
            "id",
            "merchant_id",
            "iban",
            "account_holder",
            "held",
            "changed_at",
        ),
    ),
    "a settlement that leaves a rest on its way": (
        "settlement",
        transfer("POST", settles="on_its_way", transit=-10_00, bank=10_00),
    ),
    "a published document without an address": ("published_documents_url_check", published(url="'https://'")),
    "a published document that is a script": ("published_documents_url_check", published(url="'javascript:'")),
    "a published document of a kind that there is not": ("published_documents_kind_check", published(kind="'AD'")),
    "a document of nothing": ("documents_size_check", document(size="0")),
    "a document that is too large": ("documents_size_check", document(size="10485761")),
    "a document of a type that there is not": ("documents_media_type_check", document(media_type="'text/html'")),
    "a document without a name": ("documents_name_check", document(name="''")),
    "a document with half a digest": ("documents_sha256_check", document(sha256="'\\x00'")),
    "a piece of nothing": ("document_chunks_content_check", piece(content="''")),
    "a piece before the first": ("document_chunks_n_check", piece(n="-1")),
    "a piece twice": ("document_chunks_pkey", piece(n="0")),
    "a piece of no document": ("document_chunks_tenant_document_id_fkey", piece(document_id="'{new}'")),
}
"""What is tried → the constraint that says no, and the statements, of which one or the commit after them is refused."""


@pytest.mark.parametrize("what", REFUSALS)
async def test_the_database_refuses(cast: Cast, what: str) -> None:
    constraint, *statements = REFUSALS[what]
    async with cast.as_role(APP) as connection:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
            await connection.execute("; ".join([*_filled(cast, *statements), "COMMIT"]))
    assert _constraint(refused.value) == constraint


async def test_what_is_right_is_not_refused(cast: Cast) -> None:
    """The same statements, put right: it is their fault alone that the others are refused."""
    right = (
        transfer(wallet=1, merchant=-1),
        transfer("RESERVE", id_="other", wallet=-1, held=1),
        transfer("POST", settles="reserved", id_="third", held=-40_00, merchant=30_00, wallet=10_00),
        "SET CONSTRAINTS ALL IMMEDIATE",
        "UPDATE balances SET amount = floor WHERE account_id = '{wallet}'",
        request(basket_number="'another'", amount_validated="amount_paid"),
        voucher("issued", value="value + 100"),
        voucher("revealed", status="'DELIVERED'", number=A_NUMBER, wrong_codes="5"),
        voucher("delivered", status="'INVOICED'"),
        "UPDATE number_series SET last = last + 1",
        invoice("to_decide", status="'EXCESS_PAID'", decided_at="clock_timestamp()", invoice_number="'F-another'"),
        reimbursement("sent", status="'SETTLED'", settled_at="clock_timestamp()"),
        reimbursement("sent", status="'REJECTED'", rejected_at="clock_timestamp()"),
        "UPDATE reimbursement_lines SET released = true WHERE reimbursement_id = '{sent}'",
        line(reimbursement_id="'{refused}'", transfer_id="'{credit}'", released="false"),
        file(),
        bank_account(street="'1 quai'", postcode="'45000'", town="'Orléans'", country="'FR'"),
        document(),
        piece(),
    )
    async with cast.as_role(APP) as connection:
        for statement in _filled(cast, *right):
            await connection.execute(statement)


async def test_only_a_rehearsal_may_move_its_clock(cast: Cast) -> None:
    async with cast.as_role(OWNER) as connection:
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await connection.execute("UPDATE issuers SET sandbox = false, frozen_at = clock_timestamp()")
    assert _constraint(refused.value) == "issuers_clock_check"


@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("series", "series = '44'"),
        ("series", "series = '44a'"),
        ("department", "department = 'xx'"),
        ("department", "department = 'XXX'"),
        ("name", "name = ''"),
        ("name", "code = ''"),
        ("validity_days", "validity_days = -1"),
        ("maximum_value", "maximum_value = 0"),
        ("maximum_outstanding", "maximum_outstanding = 0"),
    ],
)
async def test_a_kind_of_vouchers_gives_right_numbers_and_maximums(cast: Cast, constraint: str, change: str) -> None:
    """Whoever sets it; the application itself may only read it."""
    async with cast.as_role(OWNER) as connection:
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await connection.execute(f"UPDATE voucher_kinds SET {change}")
    assert _constraint(refused.value) == f"voucher_kinds_{constraint}_check"
    async with cast.as_role(APP) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE voucher_kinds SET name = name")


# ── append only ───────────────────────────────────────────────────────────────────────────────────────────────────────

_CHANGES: Final = {
    "update": "UPDATE {} SET tenant = tenant",
    "delete": "DELETE FROM {}",
    "truncate": "TRUNCATE {} CASCADE",
}


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("table", sorted(table for table, p in PROTECTION.items() if p.append_only))
async def test_what_is_written_in_ledger_and_journal_is_never_touched(cast: Cast, table: str, change: str) -> None:
    statement = _CHANGES[change].format(table)
    async with cast.as_role(APP) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    for role in (OWNER, SUPERUSER):
        async with cast.as_role(role) as connection:
            with pytest.raises(asyncpg.CheckViolationError) as refused:
                await connection.execute(statement)
        assert _constraint(refused.value) == "append_only"


# ── lifecycles ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("machine", sorted(LIFECYCLES))
async def test_a_status_moves_as_its_lifecycle_says_and_in_no_other_way(cast: Cast, machine: str) -> None:
    """Every status is tried from every other, without what else its row must hold."""
    statuses = sorted(map(str, get_type_hints(LIFECYCLES[machine].entity)["status"]))
    allowed = set()
    async with cast.as_role(SUPERUSER) as connection:
        await _drop_checks(connection, machine)
        row = await _any_row(connection, machine)
        for was in statuses:
            for becomes in statuses:
                if was != becomes and await _moves(connection, machine, row, was, becomes):
                    allowed.add((machine, was, becomes))
    assert allowed == {move for move in LIFECYCLES[machine].transitions if move[1] != move[2]}


async def _drop_checks(connection: asyncpg.Connection, table: str) -> None:
    """For as long as the transaction lasts, which nobody commits."""
    checks = await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'", table
    )
    for check in checks:
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check['conname']}")


async def _any_row(connection: asyncpg.Connection, table: str) -> UUID:
    row: UUID = await connection.fetchval(
        f"SELECT id FROM {table} WHERE tenant = current_setting('app.tenant')::integer LIMIT 1"
    )
    return row


async def _moves(connection: asyncpg.Connection, table: str, row: UUID, was: str, becomes: str) -> bool:
    change = f"UPDATE {table} SET status = $2 WHERE id = $1"
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        await connection.execute("SET LOCAL session_replication_role = replica")
        assert await connection.execute(change, row, was) == "UPDATE 1"
        await connection.execute(f"SET LOCAL session_replication_role = origin; SET LOCAL ROLE {APP}")
        try:
            return bool(await connection.execute(change, row, becomes) == "UPDATE 1")
        except asyncpg.CheckViolationError as refused:
            if _constraint(refused) != "lifecycle":
                raise
            return False
    finally:
        await savepoint.rollback()


# ── the tenant wall ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_something_has_happened_in_every_table_at_both_issuers(cast: Cast) -> None:
    """A table without rows would hide nothing: let the history above write something into it."""
    for tenant in cast.worlds:
        async with cast.as_role(SUPERUSER) as connection:
            filled = {
                table: await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE tenant = $1)", tenant)
                for table in WALLED
            }
        assert [table for table, is_filled in filled.items() if not is_filled] == []


@pytest.mark.parametrize("table", WALLED)
async def test_rows_of_another_tenant_are_not_there(cast: Cast, table: str) -> None:
    own, other = cast.worlds
    async with cast.as_role(APP) as connection:
        assert await _tenants(connection, table) == {own}
        for change in (f"UPDATE {table} SET tenant = tenant", f"DELETE FROM {table}"):
            if change.split()[0] in PROTECTION[table].app:
                assert int((await connection.execute(f"{change} WHERE tenant = $1", other)).split()[-1]) == 0
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with connection.transaction():
                        await connection.execute(f"{change} WHERE tenant = $1", other)


@pytest.mark.parametrize("table", WALLED)
async def test_no_row_is_put_behind_another_wall(cast: Cast, table: str) -> None:
    columns = ", ".join(column.name for column in metadata.tables[table].c if column.identity is None)
    copied = columns.replace("tenant", str(cast.worlds[1]), 1)
    attempts = {
        "INSERT": f"INSERT INTO {table} ({columns}) SELECT {copied} FROM {table}",
        "UPDATE": f"UPDATE {table} SET tenant = {cast.worlds[1]}",
    }
    for privilege, statement in attempts.items():
        async with cast.as_role(APP) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError) as refused:
                await connection.execute(statement)
        wall = f'new row violates row-level security policy for table "{table}"'
        assert (wall in str(refused.value)) == (privilege in PROTECTION[table].app)


@pytest.mark.parametrize("setting", ["never set", "set and reset", "empty"])
async def test_without_a_tenant_nothing_is_there_and_nothing_fails(cast: Cast, setting: str) -> None:
    """A bare cast of the setting would raise: unset it is null, after a transaction that set it an empty string."""
    connection = await connect_as(cast.servers.settings, APP)
    try:
        if setting == "set and reset":
            async with connection.transaction():
                await connection.execute("SELECT set_config('app.tenant', $1, true)", str(cast.worlds[0]))
                assert await _tenants(connection, "holders") == {cast.worlds[0]}
        if setting == "empty":
            await connection.execute("SET app.tenant = ''")
        assert {table: await _tenants(connection, table) for table in WALLED} == {table: set() for table in WALLED}
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute("INSERT INTO inbox (tenant, message_id) VALUES ($1, $2)", cast.worlds[0], uuid4())
    finally:
        await connection.close()


def _references() -> Iterator[tuple[str, str, str]]:
    """(constraint, column, table referred to) of every foreign key that the application may change."""
    for table in metadata.tables.values():
        for key in table.foreign_key_constraints:
            columns = [column for column in key.column_keys if column != "tenant"]
            if len(columns) == 1 and "UPDATE" in PROTECTION[table.name].app:
                yield str(key.name), columns[0], key.referred_table.name


@pytest.mark.parametrize(("constraint", "column", "referred"), list(_references()))
async def test_no_reference_crosses_the_wall(cast: Cast, constraint: str, column: str, referred: str) -> None:
    table = next(t.name for t in metadata.tables.values() if constraint in {k.name for k in t.foreign_key_constraints})
    async with cast.as_role(SUPERUSER) as connection:
        theirs = await connection.fetchval(f"SELECT id FROM {referred} WHERE tenant = $1 LIMIT 1", cast.worlds[1])
    async with cast.as_role(APP) as connection:
        with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
            await connection.execute(
                f"UPDATE {table} SET {column} = $1 WHERE ctid = (SELECT min(ctid) FROM {table})", theirs
            )
    assert _constraint(refused.value) == constraint


async def _tenants(connection: asyncpg.Connection, table: str) -> set[int]:
    return {row["tenant"] for row in await connection.fetch(f"SELECT DISTINCT tenant FROM {table}")}


# ── in the end ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_refused_has_left_no_trace(cast: Cast) -> None:
    async with cast.as_role(READER) as connection:
        assert [str(d) for tenant in cast.worlds for d in await audit.differences(connection, tenant)] == []


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _filled(cast: Cast, *statements: str) -> list[str]:
    theirs = {f"their_{name}": value for name, value in cast.theirs.items()}
    new = {name: uuid4() for name in ("new", "other", "third")}
    return [statement.format(**cast.names, **theirs, **new) for statement in statements]


def _constraint(refused: asyncpg.PostgresError) -> str:
    return str(getattr(refused, "constraint_name", ""))
