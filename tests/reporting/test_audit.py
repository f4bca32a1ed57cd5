"""The audit finds nothing after honest work, and finds each way in which the books can be wrong, by the check that is
meant for it."""

import ast
import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest

from domain import bank_accounts, calendar, documents, imports, jobs, payments, reimbursements, vouchers
from domain.access import Actor, Role
from domain.codes import new_id
from domain.db import APP, READER, Database
from domain.errors import Refused
from domain.parties import Address, Channel, Holder, create_holder, credit_holder, update_merchant
from domain.payments import PaymentRequest
from domain.reimbursements import ReimbursedFlow, Reimbursement, TransferFile
from domain.texts import Locale, Text
from domain.vouchers import MemberStatement, SupplierInvoice, TypedCode, Voucher
from domain.work import Key, perform
from escarcelle import database as escarcelle_database
from reporting import audit
from tests.world import Servers, World

T = TypeVar("T")


@dataclass
class Cast:
    """Two issuers after honest work: a real one, and a sandbox whose clock was moved. `named` has every object that a
    corruption may want."""

    servers: Servers
    tenant: int
    sandbox: int
    named: dict[str, object]

    @property
    def superuser_url(self) -> str:
        """Where triggers can be switched off."""
        return self.servers.postgres.url()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A real PostgreSQL of its own, for here all issuers are audited and spoiled."""
    started = Servers.start(tmp_path_factory.mktemp("servers"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def cast(servers: Servers) -> Cast:
    """The two issuers, once for all tests: none of them leaves a change behind."""
    return asyncio.run(_play(servers))


# ── honest work ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_flows_in_every_status_audit_clean(cast: Cast) -> None:
    assert _differences(cast) == []
    assert _differences(cast, tenant=cast.sandbox) == []


def test_every_status_of_every_flow_was_played(cast: Cast) -> None:
    """What was not played was not shown to be clean."""
    rows = _as_superuser(cast, lambda c: c.fetch("SELECT DISTINCT flow, status FROM payment_requests"))
    unpaid_only = {("IMMEDIATE", "TO_VALIDATE"), ("DEFERRED", "TO_VALIDATE")}
    every = {(str(f), str(s)) for f in payments.PaymentFlow for s in payments.PaymentRequestStatus} - unpaid_only
    assert {(row["flow"], row["status"]) for row in rows} == every
    question = "SELECT 'voucher' AS flow, status FROM vouchers UNION SELECT 'invoice', status FROM supplier_invoices"
    rows = _as_superuser(cast, lambda c: c.fetch(question))
    of_vouchers = {("voucher", str(s)) for s in vouchers.VoucherStatus}
    of_vouchers |= {("invoice", str(s)) for s in vouchers.SupplierInvoiceStatus}
    assert {(row["flow"], row["status"]) for row in rows} == of_vouchers
    rows = _as_superuser(
        cast, lambda c: c.fetch("SELECT DISTINCT status, settled_at IS NOT NULL AS paid FROM reimbursements")
    )
    assert {(row["status"], row["paid"]) for row in rows} == {
        ("PENDING", False), ("SENT", False), ("SETTLED", True), ("REJECTED", False), ("REJECTED", True),
    }  # fmt: skip


def test_whoever_sees_everything_may_audit(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    settings = cast.servers.settings
    for url in (settings.reader_database_url, settings.database_url, cast.superuser_url):
        assert url is not None
        assert audit.main(url) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "Nothing differs."
        assert len(lines) == len(audit.CHECKS) + 2
        assert all(
            re.fullmatch(rf"{re.escape(c.name)} +\d+ \w+ +ok", line)
            for c, line in zip(audit.CHECKS, lines[1:-1], strict=True)
        )


def test_the_report_says_how_many_rows_were_looked_at(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    number = _as_superuser(cast, lambda c: c.fetchval("SELECT count(*) FROM postings"))
    audit.main(cast.superuser_url)
    assert re.search(rf"the ledger sums to zero +{number} postings +ok", capsys.readouterr().out)


# ── who may audit ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_behind_the_tenant_wall_nothing_is_said_to_be_right(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    url = cast.servers.settings.app_database_url
    assert url is not None
    assert audit.main(url) == 2
    said = capsys.readouterr().out
    assert said.startswith(f"Nothing was audited: {APP} does not see every row of accounts, ")
    assert "ok" not in said.split()


@pytest.mark.parametrize("inherits", ["INHERIT", "NOINHERIT"])
def test_a_member_of_the_readers_sees_as_one(cast: Cast, capsys: pytest.CaptureFixture[str], inherits: str) -> None:
    with _role(cast, f"LOGIN {inherits} IN ROLE {READER}") as url:
        assert audit.main(url) == 0
        assert capsys.readouterr().out.endswith("Nothing differs.\n")


def test_a_member_of_the_readers_still_finds_what_differs(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    """Were a member behind the wall, this difference would be hidden with the row."""
    kept = "UPDATE balances SET amount = amount {} 1 WHERE account_id = $1"
    account = cast.named["wallet"]
    with _role(cast, f"LOGIN NOINHERIT IN ROLE {READER}") as url:
        _as_superuser(cast, lambda c: c.execute(kept.format("+"), account))
        try:
            assert audit.main(url) == 1
        finally:
            _as_superuser(cast, lambda c: c.execute(kept.format("-"), account))
    assert re.search(
        rf"kept balances are the sum of their postings +\d+ balances +1 difference\n"
        rf"    tenant {cast.tenant}, balance of account {account}: expected \d+, found \d+\n",
        capsys.readouterr().out,
    )


def test_a_stranger_to_the_tables_audits_nothing(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    with _role(cast, "LOGIN") as url:
        assert audit.main(url) == 2
    assert capsys.readouterr().out.startswith("Nothing was audited: ")


def test_a_reader_whose_policy_is_gone_audits_nothing(cast: Cast) -> None:
    async def ask(connection: asyncpg.Connection) -> None:
        await connection.execute(f"DROP POLICY reader ON transfers; SET LOCAL ROLE {READER}")
        with pytest.raises(audit.CannotAudit, match=r"does not see every row of transfers;"):
            await audit.differences(connection)

    _undone(cast, ask)


def test_no_database_no_audit(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(f"{cast.superuser_url}_missing") == 2
    assert audit.main(cast.servers.postgres.url("postgres")) == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Nothing was audited: no connection to the database (")
    assert second.startswith("Nothing was audited: the database has no table accounts, balances, ")


def test_an_issuer_that_does_not_exist_is_not_in_order(cast: Cast) -> None:
    with pytest.raises(audit.CannotAudit, match="no issuer of tenant 999999"):
        _differences(cast, tenant=999_999)


# ── corruptions ───────────────────────────────────────────────────────────────────────────────────────────────────────

_NAMES = {
    "zero": "transfers have two sides or more and sum to zero",
    "postings": "postings belong to a transfer and to an account of their unit",
    "ledger": "the ledger sums to zero",
    "forms": "transfers have a known form",
    "accounts": "parties have their accounts, and nobody else has one",
    "keepers": "wallets and guarantees, and nothing else, keep a balance",
    "balances": "kept balances are the sum of their postings",
    "floors": "no balance is below its floor",
    "settlements": "a settlement ends one reservation, and no reservation ends twice",
    "held": "a settlement empties what was held, and gives back to whom it came from",
    "open": "held accounts, and those of what is on its way, hold the open reservations",
    "credits": "credits go from the issuer to the holder, as the journal says",
    "columns": "requests have what their status says, and nothing else",
    "amounts": "requests' amounts agree with each other and with the flow",
    "choices": "requests' flows and deadlines follow the merchant's two choices",
    "in time": "requests were acted on before their deadlines, and expired after",
    "places": "requests name their own merchant's place, and are paid by the customer named",
    "baskets": "no basket number is held twice at a place",
    "payments": "payments stand in the ledger, side by side with their requests",
    "reservations": "requests, vouchers and reimbursements point to their own reservation",
    "totals": "each party's total is what its credits, requests, vouchers, invoices and reimbursements add up to",
    "vouchers": "vouchers have what their status says, and nothing else",
    "validity": "vouchers are valid until the end of their last day, were used before it, and expired after",
    "members": "vouchers name a member, a supplier and a kind",
    "numbers": "the numbers of a series and year follow each other without a gap, up to its last",
    "invoices": "invoices have what their status says, and exceed by what their voucher does not cover",
    "statements": "statements have lines of their member alone, billed until the end of their month, and their sum",
    "debts": "what statements tell is what their members' debts grew by",
    "guarantees": "guarantees, bills and excesses stand in the ledger, side by side with their vouchers and invoices",
    "pending": "requests, vouchers, reimbursements and files have the deadlines of their status pending, and no others",
    "due": "deadlines fall when their requests, vouchers and reimbursements say",
    "reimbursements": "reimbursements have what their status says, and nothing else",
    "sums": "reimbursements are the sums of their lines, and release them when rejected",
    "reimbursed": "what is reimbursed was owed to the merchant, in the period, and is reimbursed once",
    "commissions": "commissions follow the terms of the flow and of the day",
    "bank": "reimbursements stand in the ledger, side by side with what the bank has said",
    "owed": "merchants are owed what is in no reimbursement, and what is on its way is in one",
    "files": "files for the bank have the transfers and the total of their reimbursements",
    "ibans": "accounts at banks have numbers that check",
    "bank accounts": "merchants' bank accounts are as the journal tells, and held ones are paid nothing",
    "settled": "vouchers are settled when their invoice is reimbursed, and only then",
    "reimbursement lives": "the journal tells each reimbursement's life",
    "reimbursement lines": "the journal says the same as the reimbursements, the files and the bank accounts",
    "creations": "the journal has one creation of every object",
    "lives": "the journal tells each request's life",
    "lines": "the journal says the same as the requests",
    "voucher lives": "the journal tells each voucher's life",
    "invoice lives": "the journal tells each invoice's life",
    "voucher lines": "the journal says the same as the vouchers and invoices",
    "together": "transfers and the journal's lines are written together",
    "subjects": "the journal names what exists",
    "keys": "idempotency keys lead to what exists",
    "messages": "a message waits, is done, or was given up: one of these",
    "about": "messages are about what exists",
    "jobs": "jobs have what their status says, and whole files",
    "documents": "documents are whole, and each is of one invoice",
    "moves": "the moves that the database allows are the known ones",
    "triggers": "the database's triggers stand and are on",
    "constraints": "the database's constraints stand and are checked",
    "wall": "the tenant wall stands around every table",
    "roles": "the program's roles may do no more than they need",
}

_SHORT = {
    "post_transfer": "INSERT INTO transfers (tenant, id, kind, settles, subject_kind, subject_id, reason, at) VALUES",
    "post_side": "INSERT INTO postings (tenant, transfer_id, account_id, unit, amount) VALUES",
    "write_line": "INSERT INTO journal (tenant, id, kind, at, subject_kind, subject_id, detail) VALUES",
    "change": "UPDATE payment_requests SET",
    "free": "ALTER TABLE payment_requests DROP CONSTRAINT payment_requests",
    "change_voucher": "UPDATE vouchers SET",
    "free_voucher": "ALTER TABLE vouchers DROP CONSTRAINT vouchers",
    "change_invoice": "UPDATE supplier_invoices SET",
    "free_invoice": "ALTER TABLE supplier_invoices DROP CONSTRAINT supplier_invoices",
    "change_line": "UPDATE journal SET",
    "change_reim": "UPDATE reimbursements SET",
    "free_reim": "ALTER TABLE reimbursements DROP CONSTRAINT reimbursements",
    "change_share": "UPDATE reimbursement_lines SET",
    "free_share": "ALTER TABLE reimbursement_lines DROP CONSTRAINT reimbursement_lines",
    "take_again": "INSERT INTO reimbursement_lines SELECT r.tenant, r.id, l.transfer_id, l.amount, l.commission, false"
    " FROM reimbursement_lines l JOIN reimbursements r ON r.tenant = l.tenant AND r.status = 'PENDING'",
    "of_its_account": "FROM bank_accounts a WHERE a.merchant_id = reimbursements.merchant_id",
    "change_file": "UPDATE transfer_files SET",
    "change_account": "UPDATE bank_accounts SET",
}

# What the check is called here, then what is done, with triggers off so that nothing refuses it. A name in braces is an
# object of the real issuer, or one of the words above.
_CORRUPTIONS: list[tuple[str, ...]] = [
    # The ledger.
    ("zero", "UPDATE postings SET amount = amount + 1 WHERE transfer_id = '{payment}' AND amount > 0"),
    ("zero", "DELETE FROM postings WHERE transfer_id = '{payment}'"),
    ("zero", "DELETE FROM postings WHERE transfer_id = '{payment}' AND amount > 0"),
    ("zero", "{post_transfer} ({tenant}, '{new}', 'TRANSFER', NULL, 'preq', '{awaiting}', 'payment', now())"),
    ("postings", "DELETE FROM transfers WHERE id = '{payment}'"),
    ("postings", "DELETE FROM accounts WHERE id = '{wallet}'"),
    ("postings", "ALTER TABLE accounts DROP CONSTRAINT accounts_unit_check", "UPDATE accounts SET unit = 'PTS'"),
    ("ledger", "UPDATE postings SET amount = amount + 1 WHERE transfer_id = '{payment}' AND amount > 0"),
    ("ledger", "{post_side} ({tenant}, '{new}', '{wallet}', 'EUR', 5)"),
    ("forms", "UPDATE transfers SET reason = 'gift' WHERE id = '{payment}'"),
    ("forms", "UPDATE transfers SET subject_kind = 'vchr' WHERE id = '{payment}'"),
    ("forms", "UPDATE transfers SET kind = 'RESERVE' WHERE id = '{credit}'"),
    ("forms", "UPDATE transfers SET reason = 'excess' WHERE id = '{bill}'"),
    ("accounts", "DELETE FROM accounts WHERE id = '{wallet}'"),
    ("accounts", "UPDATE accounts SET owner_id = '{new}' WHERE id = '{held}'"),
    ("accounts", "INSERT INTO accounts VALUES ({tenant}, '{new}', 'WALLET', '{merchant}', 'EUR', now())"),
    ("accounts", "DELETE FROM accounts WHERE id = '{debt}'"),
    ("accounts", "INSERT INTO accounts VALUES ({tenant}, '{new}', 'GUARANTEE', '{holder}', 'EUR', now())"),
    ("accounts", "UPDATE holders SET member_since = '2020-01-01' WHERE id = '{holder}'"),
    ("accounts", "UPDATE holders SET member_since = NULL WHERE id = '{member}'"),
    ("keepers", "DELETE FROM balances WHERE account_id = '{wallet}'"),
    ("keepers", "DELETE FROM balances WHERE account_id = '{guarantee}'"),
    ("keepers", "UPDATE balances SET floor = -100000 WHERE account_id = '{guarantee}'"),
    ("keepers", "INSERT INTO balances VALUES ({tenant}, '{debt}', 0, 0)"),
    ("keepers", "UPDATE balances SET floor = -100000 WHERE account_id = '{wallet}'"),
    ("keepers", "INSERT INTO balances VALUES ({tenant}, '{held}', 0, 0)"),
    ("keepers", "INSERT INTO balances VALUES ({tenant}, '{new}', 0, 0)"),
    ("balances", "UPDATE balances SET amount = amount - 1 WHERE account_id = '{wallet}'"),
    ("balances", "UPDATE balances SET amount = amount - 1 WHERE account_id = '{guarantee}'"),
    ("balances", "UPDATE postings SET account_id = '{other_wallet}' WHERE transfer_id = '{credit}' AND amount > 0"),
    ("floors", "ALTER TABLE balances DROP CONSTRAINT balances_floor_check", "UPDATE balances SET amount = -1"),
    ("settlements", "UPDATE transfers SET settles = '{payment}' WHERE id = '{validation}'"),
    ("settlements", "UPDATE transfers SET settles = '{new}' WHERE id = '{validation}'"),
    ("settlements", "UPDATE transfers SET settles = '{open_guarantee}' WHERE id = '{release}'"),
    ("settlements", "UPDATE transfers SET settles = '{open_reservation}' WHERE id = '{validation}'"),
    (
        "settlements",
        "ALTER TABLE transfers DROP CONSTRAINT transfers_tenant_settles_key",
        "{post_transfer} ({tenant}, '{new}', 'VOID', '{reservation}', 'preq', '{validated}', 'cancel', now())",
    ),
    (
        "settlements",
        "ALTER TABLE transfers DROP CONSTRAINT transfers_settles_check",
        "UPDATE transfers SET settles = NULL WHERE id = '{validation}'",
    ),
    ("held", "UPDATE postings SET amount = amount - 5 WHERE transfer_id = '{validation}' AND account_id = '{held}'"),
    ("held", "UPDATE postings SET amount = amount + sign(amount) WHERE transfer_id = '{validation}'"),
    # Given back to another than it came from; and more given back than was taken.
    ("held", "UPDATE postings SET account_id = '{other_wallet}' WHERE transfer_id = '{void}' AND amount > 0"),
    (
        "held",
        "UPDATE postings SET amount = amount + 5000 WHERE transfer_id = '{validation}' AND account_id = '{wallet}'",
        "UPDATE postings SET amount = amount - 5000 WHERE transfer_id = '{validation}' AND account_id = '{owed}'",
    ),
    ("held", "UPDATE postings SET amount = -amount WHERE transfer_id = '{open_reservation}'"),
    ("held", "UPDATE postings SET account_id = '{wallet}' WHERE transfer_id = '{release}' AND amount > 0"),
    ("open", "{post_side} ({tenant}, '{payment}', '{held}', 'EUR', 5)"),
    ("open", "{post_side} ({tenant}, '{bill}', '{held}', 'EUR', 5)"),
    ("credits", "UPDATE journal SET amount = amount + 100 WHERE kind = 'hold.credit'"),
    ("credits", "DELETE FROM journal WHERE kind = 'hold.credit'"),
    ("credits", "UPDATE postings SET account_id = '{other_wallet}' WHERE transfer_id = '{credit}' AND amount > 0"),
    ("credits", "DELETE FROM postings WHERE transfer_id = '{credit}'", "DELETE FROM transfers WHERE id = '{credit}'"),
    # Requests.
    ("columns", "{change} amount_paid = 100 WHERE id = '{awaiting}'"),
    ("columns", "{change} payer_id = NULL WHERE id = '{validated}'"),
    ("columns", "{change} paid_at = NULL WHERE id = '{to_validate}'"),
    ("columns", "{change} validation_deadline = NULL WHERE id = '{to_validate}'"),
    ("columns", "{change} reservation_id = NULL WHERE id = '{to_validate}'"),
    ("columns", "{change} amount_validated = 100 WHERE id = '{to_validate}'"),
    ("columns", "{change} amount_validated = NULL WHERE id = '{validated}'"),
    ("columns", "{change} status = 'CANCELLED' WHERE id = '{paid}'"),
    ("columns", "{free}_status_check", "{change} status = 'FROZEN' WHERE id = '{awaiting}'"),
    ("columns", "{free}_paid_check", "{change} amount_paid = NULL WHERE id = '{to_validate}'"),
    ("amounts", "{change} amount_paid = 100, amount_validated = 100 WHERE id = '{paid_deferred}'"),
    ("amounts", "{change} amount_validated = amount_validated - 1 WHERE id = '{paid}'"),
    ("amounts", "{free}_amount_paid_check", "{change} amount_paid = amount_requested + 1 WHERE id = '{to_validate}'"),
    (
        "amounts",
        "{free}_amount_validated_check",
        "{change} amount_validated = amount_paid + 1 WHERE id = '{validated}'",
    ),
    ("choices", "{change} flow = 'DEFERRED' WHERE id = '{awaiting}'"),
    ("choices", "{change} payment_deadline = payment_deadline + interval '1 hour' WHERE id = '{paid_deferred}'"),
    ("choices", "{change} validation_deadline = validation_deadline + interval '1 day' WHERE id = '{to_validate}'"),
    ("choices", "{change} validation_days = validation_days + 1 WHERE id = '{to_validate}'"),
    ("choices", "{change} payment_due_on = created_at::date - 1 WHERE id = '{paid_deferred}'"),
    ("choices", "{change} payment_deadline = created_at WHERE id = '{awaiting}'"),
    ("in time", "{change} payment_deadline = paid_at WHERE id = '{paid}'"),
    ("in time", "{change} last_action_at = validation_deadline WHERE id = '{validated}'"),
    ("in time", "{change} status = 'EXPIRED' WHERE id = '{awaiting}'"),
    ("places", "{change} merchant_id = '{other_merchant}' WHERE id = '{awaiting}'"),
    ("places", "{change} customer_id = '{other_holder}' WHERE id = '{paid}'"),
    ("baskets", "DROP INDEX payment_requests_basket_key", "{change} basket_number = 'B' WHERE tenant = {tenant}"),
    # Requests and the ledger.
    ("payments", "{change} amount_paid = amount_paid - 1, amount_validated = amount_paid - 1 WHERE id = '{paid}'"),
    ("payments", "{change} payer_id = '{other_holder}' WHERE id = '{paid}'"),
    ("payments", "{change} status = 'TO_VALIDATE', amount_validated = NULL WHERE id = '{validated}'"),
    ("payments", "{change} status = 'CANCELLED' WHERE id = '{to_validate}'"),
    ("payments", "{change} amount_validated = amount_validated + 1 WHERE id = '{validated}'"),
    ("payments", "DELETE FROM payment_requests WHERE id = '{paid}'"),
    (
        "payments",
        "DELETE FROM postings WHERE transfer_id = '{payment}'",
        "DELETE FROM transfers WHERE id = '{payment}'",
    ),
    ("payments", "UPDATE transfers SET subject_id = '{awaiting}' WHERE id = '{payment}'"),
    # A balanced pair, added to an old transfer; and a payment made twice.
    (
        "payments",
        "{post_side} ({tenant}, '{payment}', '{other_wallet}', 'EUR', 5), ({tenant}, '{payment}', '{held}', 'EUR', -5)",
    ),
    (
        "payments",
        "{post_transfer} ({tenant}, '{new}', 'TRANSFER', NULL, 'preq', '{paid}', 'payment', now())",
        "{post_side} ({tenant}, '{new}', '{wallet}', 'EUR', -3000), ({tenant}, '{new}', '{owed}', 'EUR', 3000)",
    ),
    ("reservations", "{change} reservation_id = '{reservation}' WHERE id = '{to_validate}'"),
    ("reservations", "{change} reservation_id = '{new}' WHERE id = '{to_validate}'"),
    ("reservations", "{change_voucher} reservation_id = '{open_reservation}' WHERE id = '{issued}'"),
    ("reservations", "{change_voucher} reservation_id = '{open_guarantee}' WHERE id = '{delivered}'"),
    ("reservations", "{change_voucher} reservation_id = '{bill}' WHERE id = '{invoiced}'"),
    ("totals", "{change} amount_validated = amount_validated - 1 WHERE id = '{validated}'"),
    ("totals", "{change} amount_paid = amount_paid - 1 WHERE id = '{to_validate}'"),
    ("totals", "UPDATE postings SET account_id = '{other_wallet}' WHERE transfer_id = '{credit}' AND amount > 0"),
    ("totals", "DELETE FROM journal WHERE kind = 'hold.credit'"),
    ("totals", "{change_voucher} value = value + 100 WHERE id = '{issued}'"),
    ("totals", "{change_voucher} supplier_id = '{other_merchant}' WHERE id = '{delivered}'"),
    ("totals", "{change_invoice} amount = amount - 1 WHERE id = '{invoice}'"),
    ("totals", "{change_invoice} status = 'EXCESS_REFUSED' WHERE id = '{excess_paid}'"),
    ("totals", "UPDATE postings SET account_id = '{owed}' WHERE transfer_id = '{bill}' AND account_id = '{debt}'"),
    ("totals", "{post_side} ({tenant}, '{bill}', '{wallet}', 'EUR', -5), ({tenant}, '{bill}', '{held}', 'EUR', 5)"),
    # Vouchers.
    ("vouchers", "{change_voucher} revealed_at = NULL, code_salt = NULL, code_key = NULL WHERE id = '{revealed}'"),
    ("vouchers", "{change_voucher} revealed_at = now(), code_salt = '', code_key = '' WHERE id = '{issued}'"),
    ("vouchers", "{change_voucher} code_salt = '\\x00' WHERE id = '{delivered}'"),
    ("vouchers", "{change_voucher} code_key = '\\x00' WHERE id = '{delivered}'"),
    ("vouchers", "{free_voucher}_revealed_check", "{change_voucher} code_salt = NULL WHERE id = '{delivered}'"),
    ("vouchers", "{change_voucher} status = 'ISSUED' WHERE id = '{revealed}'"),
    ("vouchers", "{change_voucher} status = 'INVOICED' WHERE id = '{delivered}'"),
    ("vouchers", "{change_voucher} status = 'DELIVERED' WHERE id = '{invoiced}'"),
    ("vouchers", "{free_voucher}_status_check", "{change_voucher} status = 'FROZEN' WHERE id = '{issued}'"),
    ("vouchers", "{free_voucher}_value_check", "{change_voucher} value = value + 1 WHERE id = '{issued}'"),
    ("vouchers", "{change_voucher} delivered_at = NULL WHERE id = '{delivered}'"),
    ("vouchers", "{free_voucher}_delivered_check", "{change_voucher} number = NULL WHERE id = '{delivered}'"),
    ("vouchers", "{free_voucher}_number_check", "{change_voucher} number = 'W1' WHERE id = '{delivered}'"),
    ("vouchers", "{change_voucher} number = 'W1999' || substr(number, 6) WHERE id = '{delivered}'"),
    ("vouchers", "{change_voucher} wrong_codes = 1 WHERE id = '{issued}'"),
    ("vouchers", "{change_voucher} blocked_at = NULL WHERE id = '{blocked}'"),
    ("vouchers", "{change_voucher} wrong_codes = 5 WHERE id = '{tried}'"),
    ("vouchers", "DELETE FROM supplier_invoices WHERE id = '{invoice}'"),
    ("validity", "{change_voucher} expires_at = expires_at + interval '1 hour' WHERE id = '{issued}'"),
    ("validity", "{change_voucher} valid_until = valid_until + 1 WHERE id = '{issued}'"),
    ("validity", "{change_voucher} valid_until = issued_at::date - 2 WHERE id = '{issued}'"),
    ("validity", "{change_voucher} revealed_at = expires_at WHERE id = '{revealed}'"),
    ("validity", "{change_voucher} delivered_at = expires_at WHERE id = '{delivered}'"),
    ("validity", "{change_voucher} last_action_at = expires_at WHERE id = '{taken_back}'"),
    ("validity", "{change_voucher} status = 'EXPIRED' WHERE id = '{issued}'"),
    ("members", "{change_voucher} holder_id = '{holder}' WHERE id = '{issued}'"),
    ("members", "UPDATE holders SET member_since = NULL WHERE id = '{member}'"),
    ("members", "{change_voucher} supplier_id = '{new}' WHERE id = '{issued}'"),
    ("members", "DELETE FROM voucher_kinds WHERE tenant = {tenant}"),
    ("numbers", "UPDATE number_series SET last = last + 1 WHERE tenant = {tenant} AND name = '077'"),
    ("numbers", "DELETE FROM number_series WHERE tenant = {tenant} AND name = '077'"),
    ("numbers", "INSERT INTO number_series VALUES ({tenant}, '078', 2026, 1)"),
    ("numbers", "{change_voucher} number = overlay(number placing '9' from 14) WHERE id = '{delivered}'"),
    ("numbers", "{change_voucher} number = replace(number, '.442.', '.443.') WHERE id = '{delivered}'"),
    ("numbers", "DELETE FROM vouchers WHERE id = '{delivered}'"),
    (
        "numbers",
        "{free_voucher}_tenant_number_key",
        "{change_voucher} number = (SELECT number FROM vouchers WHERE id = '{blocked}') WHERE id = '{delivered}'",
    ),
    ("numbers", "{free_voucher}_number_check", "{change_voucher} number = 'W1' WHERE id = '{delivered}'"),
    ("invoices", "{change_invoice} excess = excess + 1 WHERE id = '{to_decide}'"),
    ("invoices", "{change_invoice} amount = amount + 1 WHERE id = '{to_decide}'"),
    ("invoices", "{free_invoice}_excess_check", "{change_invoice} status = 'RECORDED' WHERE id = '{to_decide}'"),
    (
        "invoices",
        "{free_invoice}_excess_check",
        "{free_invoice}_statement_check",
        "{change_invoice} status = 'TO_DECIDE' WHERE id = '{invoice}'",
    ),
    ("invoices", "{free_invoice}_decided_check", "{change_invoice} decided_at = NULL WHERE id = '{excess_paid}'"),
    ("invoices", "{free_invoice}_status_check", "{change_invoice} status = 'FROZEN' WHERE id = '{to_decide}'"),
    ("invoices", "{free_invoice}_amount_check", "{change_invoice} amount = 0 WHERE id = '{invoice}'"),
    ("invoices", "{change_invoice} supplier_id = '{other_merchant}' WHERE id = '{invoice}'"),
    ("invoices", "{change_invoice} recorded_at = recorded_at - interval '1 second' WHERE id = '{invoice}'"),
    ("invoices", "{change_invoice} voucher_id = '{delivered}' WHERE id = '{invoice}'"),
    ("invoices", "DELETE FROM vouchers WHERE id = '{invoiced}'"),
    (
        "invoices",
        "{free_invoice}_tenant_supplier_id_invoice_number_key",
        "{change_invoice} invoice_number = 'F' WHERE tenant = {tenant}",
    ),
    # Vouchers and the ledger.
    ("guarantees", "{change_voucher} value = value + 100 WHERE id = '{issued}'"),
    ("guarantees", "{change_voucher} status = 'CANCELLED' WHERE id = '{issued}'"),
    ("guarantees", "{change_voucher} status = 'ISSUED' WHERE id = '{taken_back}'"),
    ("guarantees", "{change_voucher} holder_id = '{holder}' WHERE id = '{delivered}'"),
    ("guarantees", "{change_voucher} supplier_id = '{other_merchant}' WHERE id = '{invoiced}'"),
    ("guarantees", "{change_invoice} amount = amount - 1 WHERE id = '{invoice}'"),
    ("guarantees", "{change_invoice} status = 'EXCESS_PAID', decided_at = now() WHERE id = '{to_decide}'"),
    ("guarantees", "{change_invoice} status = 'EXCESS_REFUSED' WHERE id = '{excess_paid}'"),
    ("guarantees", "{change_invoice} voucher_id = '{delivered}' WHERE id = '{invoice}'"),
    ("guarantees", "DELETE FROM supplier_invoices WHERE id = '{invoice}'"),
    ("guarantees", "DELETE FROM vouchers WHERE id = '{issued}'"),
    ("guarantees", "UPDATE transfers SET subject_id = '{delivered}' WHERE id = '{bill}'"),
    ("guarantees", "DELETE FROM postings WHERE transfer_id = '{bill}'", "DELETE FROM transfers WHERE id = '{bill}'"),
    (
        "guarantees",
        "{post_side} ({tenant}, '{bill}', '{wallet}', 'EUR', -5), ({tenant}, '{bill}', '{held}', 'EUR', 5)",
    ),
    (
        "guarantees",
        "{post_transfer} ({tenant}, '{new}', 'TRANSFER', NULL, 'vchr', '{invoiced}', 'bill', now())",
        "{post_side} ({tenant}, '{new}', '{debt}', 'EUR', -1), ({tenant}, '{new}', '{guarantee}', 'EUR', 1)",
    ),
    # Statements.
    ("statements", "UPDATE member_statements SET total = total + 1 WHERE id = '{statement}'"),
    ("statements", "{change_invoice} statement_id = NULL WHERE tenant = {tenant}"),
    ("statements", "{change_invoice} statement_id = '{new}' WHERE id = '{invoice}'"),
    ("statements", "DELETE FROM member_statements WHERE id = '{statement}'"),
    ("statements", "UPDATE member_statements SET holder_id = '{holder}' WHERE id = '{statement}'"),
    ("statements", "UPDATE member_statements SET period = '2019-12' WHERE id = '{statement}'"),
    ("statements", "UPDATE member_statements SET period = '2999-12' WHERE id = '{statement}'"),
    ("statements", "UPDATE member_statements SET job_id = '{export}' WHERE id = '{statement}'"),
    ("statements", "UPDATE jobs SET given = '{{\"month\": \"2019-12\"}}' WHERE id = '{statement_job}'"),
    (
        "statements",
        "{free_invoice}_statement_check",
        "{change_invoice} statement_id = '{statement}' WHERE id = '{to_decide}'",
    ),
    ("debts", "UPDATE member_statements SET total = total + 1 WHERE id = '{statement}'"),
    ("debts", "{change_invoice} statement_id = NULL WHERE id = '{excess_paid}'"),
    ("debts", "UPDATE transfers SET subject_id = '{new}' WHERE reason = 'bill' AND subject_id = '{invoiced}'"),
    ("creations", "DELETE FROM journal WHERE kind = 'mstm.issue'"),
    ("invoice lives", "DELETE FROM journal WHERE kind = 'sinv.state' AND subject_id = '{invoice}'"),
    ("invoice lives", "{change_line} xact = '1' WHERE kind = 'sinv.state' AND subject_id = '{invoice}'"),
    ("invoice lives", "{change_line} xact = '1' WHERE kind = 'mstm.issue'"),
    ("voucher lines", "{change_line} amount = amount + 1 WHERE kind = 'sinv.state'"),
    ("voucher lines", "{change_line} amount = amount + 1 WHERE kind = 'mstm.issue'"),
    ("voucher lines", "{change_line} holder_id = '{holder}' WHERE kind = 'mstm.issue'"),
    ("jobs", "UPDATE jobs SET file_name = NULL WHERE id = '{statement_job}'"),
    # Reimbursements, and what they change elsewhere.
    ("reimbursements", "{free_reim}_status_check", "{change_reim} status = 'FROZEN' WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_sent_check", "{change_reim} status = 'SENT' WHERE id = '{reim_pending}'"),
    ("reimbursements", "{free_reim}_sent_check", "{change_reim} file_id = NULL WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_sent_check", "{change_reim} sent_at = NULL WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_sent_check", "{change_reim} iban = NULL WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} bic = 'AGRIFRPPXXX' WHERE id = '{reim_pending}'"),
    ("reimbursements", "{change_reim} town = NULL WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_outcome_check", "{change_reim} settled_at = NULL WHERE id = '{reim_settled}'"),
    ("reimbursements", "{free_reim}_outcome_check", "{change_reim} settled_at = now() WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_outcome_check", "{change_reim} rejected_at = now() WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_outcome_check", "{change_reim} rejected_at = NULL WHERE id = '{reim_rejected}'"),
    ("reimbursements", "{change_reim} bank_reference = 'B' WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} rejection_code = 'AC04' WHERE id = '{reim_settled}'"),
    ("reimbursements", "{change_reim} rejection_reason = 'closed' WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_net_check", "{change_reim} net = net + 1 WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_net_check", "{change_reim} commission = gross, net = 0 WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} period_end = period_end + 1 WHERE id = '{reim_sent}'"),
    ("reimbursements", "{free_reim}_period_check", "{change_reim} period_end = period_start - 1"),
    ("reimbursements", "{change_reim} due_on = created_at::date WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} due_on = date_trunc('week', due_on)::date + 12 WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} reference = 'R1' WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} reference = 'R1999' || substr(reference, 6) WHERE id = '{reim_sent}'"),
    ("reimbursements", "{change_reim} job_id = '{export}' WHERE id = '{reim_sent}'"),
    ("reimbursements", "UPDATE jobs SET given = '{{\"through\": \"2019-12-31\"}}' WHERE id = '{run}'"),
    ("sums", "{change_reim} gross = gross + 1, net = net + 1 WHERE id = '{reim_sent}'"),
    ("sums", "{change_reim} commission = commission - 1, net = net + 1 WHERE id = '{reim_settled}'"),
    ("sums", "{change_reim} period_start = period_start - 1 WHERE id = '{reim_sent}'"),
    ("sums", "DELETE FROM reimbursement_lines WHERE reimbursement_id = '{reim_sent}'"),
    ("sums", "DELETE FROM reimbursement_lines WHERE transfer_id = '{payment}'"),
    ("sums", "DELETE FROM reimbursements WHERE id = '{reim_sent}'"),
    ("sums", "{change_share} released = true WHERE reimbursement_id = '{reim_sent}'"),
    ("sums", "{change_share} released = true WHERE transfer_id = '{payment}'"),
    ("sums", "DROP INDEX reimbursement_lines_once_idx", "{change_share} released = false"),
    ("reimbursed", "{change_share} amount = amount + 1 WHERE transfer_id = '{payment}'"),
    ("reimbursed", "{change_share} transfer_id = '{credit}' WHERE transfer_id = '{payment}'"),
    ("reimbursed", "{change_share} transfer_id = '{reservation}' WHERE transfer_id = '{payment}'"),
    ("reimbursed", "{change_share} transfer_id = '{coming_back}' WHERE transfer_id = '{payment}'"),
    ("reimbursed", "{change_share} transfer_id = '{new}' WHERE transfer_id = '{payment}'"),
    ("reimbursed", "{change_reim} merchant_id = '{merchant}' WHERE id = '{reim_sent}'"),
    ("reimbursed", "UPDATE transfers SET at = at - interval '1 day' WHERE id = '{payment}'"),
    ("reimbursed", "UPDATE transfers SET at = at + interval '1 day' WHERE id = '{payment}'"),
    ("reimbursed", "DROP INDEX reimbursement_lines_once_idx", "{change_share} released = false"),
    (
        "reimbursed",
        "DROP INDEX reimbursement_lines_once_idx",
        "{take_again} WHERE transfer_id = '{payment}'",
    ),
    ("commissions", "{change_share} commission = commission + 1 WHERE transfer_id = '{payment}'"),
    ("commissions", "{change_share} commission = commission - 1 WHERE transfer_id = '{half_a_cent}'"),
    ("commissions", "UPDATE reimbursement_terms SET commission_percent = 2.4 WHERE valid_from = '2019-01-01'"),
    ("commissions", "UPDATE reimbursement_terms SET valid_from = '2999-01-01' WHERE valid_from = '2019-01-01'"),
    ("commissions", "DELETE FROM reimbursement_terms WHERE flow = 'VOUCHERS'"),
    ("bank", "{change_reim} gross = gross + 1, net = net + 1 WHERE id = '{reim_sent}'"),
    ("bank", "{change_reim} commission = commission + 1, net = net - 1 WHERE id = '{reim_settled}'"),
    ("bank", "{change_reim} commission = commission + 1, net = net - 1 WHERE id = '{reim_returned}'"),
    ("bank", "{change_reim} merchant_id = '{merchant}' WHERE id = '{reim_rejected}'"),
    ("bank", "{change_reim} status = 'SETTLED', settled_at = now() WHERE id = '{reim_sent}'"),
    ("bank", "{change_reim} status = 'SETTLED', rejected_at = NULL WHERE id = '{reim_returned}'"),
    ("bank", "{change_reim} settled_at = NULL WHERE id = '{reim_returned}'"),
    ("bank", "{change_reim} settled_at = now() WHERE id = '{reim_rejected}'"),
    ("bank", "DELETE FROM reimbursements WHERE id = '{reim_pending}'"),
    ("bank", "UPDATE transfers SET subject_id = '{reim_sent}' WHERE id = '{settlement}'"),
    ("bank", "UPDATE transfers SET reason = 'return' WHERE reason = 'commission_return'"),
    ("bank", "UPDATE postings SET account_id = '{funding}' WHERE account_id = '{bank}'"),
    (
        "bank",
        "{post_side} ({tenant}, '{settlement}', '{wallet}', 'EUR', 5), ({tenant}, '{settlement}', '{held}', 'EUR', -5)",
    ),
    (
        "bank",
        "{post_transfer} ({tenant}, '{new}', 'TRANSFER', NULL, 'reim', '{reim_returned}', 'return', now())",
        "{post_side} ({tenant}, '{new}', '{bank}', 'EUR', -5), ({tenant}, '{new}', '{other_owed}', 'EUR', 5)",
    ),
    ("owed", "{change_share} released = true WHERE transfer_id = '{payment}'"),
    ("owed", "DELETE FROM reimbursement_lines WHERE reimbursement_id = '{reim_sent}'"),
    ("owed", "{change_share} amount = amount + 1 WHERE reimbursement_id = '{reim_sent}'"),
    ("owed", "{change_reim} status = 'SETTLED', settled_at = now() WHERE id = '{reim_sent}'"),
    (
        "owed",
        "UPDATE postings SET account_id = '{other_owed}' WHERE transfer_id = '{payment}' AND account_id = '{owed}'",
    ),
    ("owed", "UPDATE postings SET account_id = '{held}' WHERE account_id = '{transit}'"),
    ("files", "{change_file} transfers = transfers + 1 WHERE id = '{file}'"),
    ("files", "{change_file} total = total + 1 WHERE id = '{file}'"),
    ("files", "{change_file} created_at = created_at - interval '1 second' WHERE id = '{file}'"),
    ("files", "{change_file} reference = regexp_replace(reference, '-2[0-9]+-', '-1999-') WHERE id = '{file}'"),
    ("files", "{change_file} reference = regexp_replace(reference, 'E-', 'E-9') WHERE id = '{file}'"),
    ("files", "{change_file} reference = 'F' WHERE id = '{file}'"),
    ("files", "{change_file} job_id = '{export}' WHERE id = '{file}'"),
    ("files", "DELETE FROM transfer_files WHERE id = '{file}'"),
    ("files", "DELETE FROM reimbursements WHERE id = '{reim_sent}'"),
    ("files", "{change_reim} file_id = '{file}' WHERE id = '{reim_settled}'"),
    ("files", "{change_reim} sent_at = sent_at + interval '1 second' WHERE id = '{reim_sent}'"),
    ("ibans", "{change_account} iban = overlay(iban placing '9' from 12) WHERE merchant_id = '{merchant}'"),
    ("ibans", "{change_account} former_iban = 'FR' WHERE merchant_id = '{merchant}'"),
    ("ibans", "UPDATE paying_accounts SET iban = 'FR00' || substr(iban, 5) WHERE tenant = {tenant}"),
    ("ibans", "{change_file} iban = 'DE' || substr(iban, 3) WHERE id = '{file}'"),
    ("ibans", "{change_reim} iban = lower(iban) WHERE id = '{reim_sent}'"),
    ("bank accounts", "DELETE FROM bank_accounts WHERE merchant_id = '{merchant}'"),
    ("bank accounts", "DELETE FROM journal WHERE kind = 'mrch.update_bank_account'"),
    ("bank accounts", "{change_account} changed_at = changed_at + interval '1 second'"),
    ("bank accounts", "{change_account} former_iban = NULL, held = false WHERE merchant_id = '{merchant}'"),
    ("bank accounts", "{change_account} former_iban = iban WHERE merchant_id = '{merchant}'"),
    ("bank accounts", "{change_account} held = true WHERE merchant_id = '{other_merchant}'"),
    ("bank accounts", "{change_account} former_iban = 'FR' WHERE merchant_id = '{other_merchant}'"),
    (
        "bank accounts",
        "{change_reim} iban = a.iban, sent_at = '2999-01-01' {of_its_account} AND reimbursements.id = '{reim_settled}'",
    ),
    ("settled", "{change_voucher} status = 'INVOICED' WHERE id = '{settled_voucher}'"),
    ("settled", "{change_voucher} status = 'SETTLED' WHERE id = '{reopened_voucher}'"),
    ("settled", "{change_voucher} status = 'SETTLED' WHERE id = '{invoiced}'"),
    ("settled", "{change_reim} status = 'SETTLED', settled_at = now() WHERE id = '{reim_sent}'"),
    ("settled", "{change_reim} status = 'REJECTED', rejected_at = now() WHERE id = '{reim_vouchers}'"),
    ("settled", "{change_share} released = true WHERE reimbursement_id = '{reim_vouchers}'"),
    ("reimbursement lives", "DELETE FROM journal WHERE subject_id = '{reim_sent}' AND kind = 'reim.send'"),
    ("reimbursement lives", "DELETE FROM journal WHERE subject_id = '{reim_pending}'"),
    ("reimbursement lives", "DELETE FROM journal WHERE kind = 'reim.return'"),
    ("reimbursement lives", "{change_line} kind = 'reim.reject' WHERE kind = 'reim.return'"),
    ("reimbursement lives", "{write_line} ({tenant}, '{new}', 'reim.settle', now(), 'reim', '{reim_sent}', '[]')"),
    ("reimbursement lives", "{change_line} sequence = DEFAULT WHERE kind = 'reim.create'"),
    ("reimbursement lives", "{change_line} at = at + interval '1 second' WHERE kind = 'reim.create'"),
    ("reimbursement lives", "{change_line} at = at + interval '1 second' WHERE kind = 'reim.reject'"),
    ("reimbursement lives", "{change_line} user_id = '{new}' WHERE kind = 'reim.send'"),
    ("reimbursement lives", "{change_line} xact = '1' WHERE kind = 'trfl.create'"),
    ("reimbursement lives", "{change_reim} sent_at = sent_at + interval '1 second' WHERE id = '{reim_sent}'"),
    ("reimbursement lives", "{change_reim} settled_at = settled_at + interval '1 second' WHERE id = '{reim_settled}'"),
    ("reimbursement lives", "{change_reim} version = version + 1 WHERE id = '{reim_sent}'"),
    ("reimbursement lines", "{change_line} amount = amount + 1 WHERE kind = 'reim.settle'"),
    ("reimbursement lines", "{change_line} amount = NULL WHERE kind = 'trfl.create'"),
    ("reimbursement lines", "{change_line} amount = 1 WHERE kind = 'mrch.update_bank_account'"),
    ("reimbursement lines", "{change_line} holder_id = '{holder}' WHERE kind = 'reim.create'"),
    ("reimbursement lines", "{change_line} point_of_sale_id = '{new}' WHERE kind = 'reim.send'"),
    ("reimbursement lines", "{change_line} kind = 'reim.pay' WHERE kind = 'reim.settle'"),
    ("forms", "UPDATE transfers SET reason = 'gift' WHERE id = '{settlement}'"),
    ("forms", "UPDATE transfers SET kind = 'VOID' WHERE id = '{settlement}'"),
    ("accounts", "DELETE FROM accounts WHERE id = '{transit}'"),
    ("accounts", "DELETE FROM accounts WHERE id = '{bank}'"),
    ("accounts", "UPDATE accounts SET owner_id = '{merchant}' WHERE kind = 'COMMISSION' AND tenant = {tenant}"),
    ("held", "UPDATE postings SET amount = amount + sign(amount) WHERE transfer_id = '{settlement}'"),
    ("held", "UPDATE postings SET account_id = '{held}' WHERE transfer_id = '{rejection}' AND amount > 0"),
    ("open", "{post_side} ({tenant}, '{payment}', '{transit}', 'EUR', 5)"),
    ("reservations", "{change_reim} reservation_id = '{payment}' WHERE id = '{reim_sent}'"),
    ("totals", "{change_reim} gross = gross + 1, net = net + 1 WHERE id = '{reim_sent}'"),
    ("totals", "{change_reim} status = 'SETTLED', settled_at = now() WHERE id = '{reim_sent}'"),
    ("totals", "UPDATE postings SET account_id = '{funding}' WHERE account_id = '{bank}'"),
    ("numbers", "UPDATE number_series SET last = last + 1 WHERE name = 'reimbursements'"),
    ("numbers", "DELETE FROM number_series WHERE name = 'transfer files'"),
    ("numbers", "{change_reim} reference = overlay(reference placing '9' from 7) WHERE id = '{reim_settled}'"),
    ("numbers", "{change_file} reference = overlay(reference placing '9' from 17) WHERE id = '{file}'"),
    ("vouchers", "DELETE FROM supplier_invoices WHERE voucher_id = '{settled_voucher}'"),
    ("invoices", "{change_voucher} last_action_at = last_action_at + interval '1 second' WHERE status = 'SETTLED'"),
    ("guarantees", "DELETE FROM supplier_invoices WHERE voucher_id = '{settled_voucher}'"),
    ("voucher lives", "DELETE FROM journal WHERE kind = 'vchr.settle' AND subject_id = '{settled_voucher}'"),
    ("voucher lives", "DELETE FROM journal WHERE kind = 'vchr.reopen'"),
    ("voucher lives", "{change_line} kind = 'vchr.settle' WHERE kind = 'vchr.reopen'"),
    ("voucher lives", "{change_line} user_id = '{new}' WHERE kind = 'vchr.settle'"),
    ("voucher lives", "{change_line} at = at + interval '1 second' WHERE kind = 'vchr.settle'"),
    ("voucher lines", "{change_line} amount = amount + 1 WHERE kind = 'vchr.settle'"),
    ("voucher lines", "{change_line} amount = NULL WHERE kind = 'vchr.reopen'"),
    ("together", "{change_line} xact = '1' WHERE kind = 'reim.settle'"),
    ("together", "DELETE FROM transfers WHERE id = '{settlement}'"),
    ("together", "DELETE FROM transfers WHERE reason = 'commission_return'"),
    ("together", "UPDATE transfers SET at = at + interval '1 second' WHERE reason = 'rejection'"),
    ("creations", "DELETE FROM journal WHERE kind = 'trfl.create'"),
    ("creations", "{write_line} ({tenant}, '{new}', 'reim.create', now(), 'reim', '{reim_sent}', '[]')"),
    ("subjects", "{change_line} subject_id = '{new}' WHERE kind = 'reim.create'"),
    ("subjects", "DELETE FROM transfer_files WHERE id = '{file}'"),
    ("keys", "UPDATE idempotency_keys SET result_id = '{new}' WHERE result_kind = 'reim'"),
    ("about", "UPDATE outbox SET payload = payload || '{{\"version\": 99}}' WHERE payload ->> 'id' = '{reim_sent}'"),
    ("jobs", "UPDATE jobs SET format = 'CSV' WHERE id = '{run}'"),
    (
        "jobs",
        "ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check",
        "UPDATE jobs SET kind = 'DANCE' WHERE id = '{export}'",
    ),
    ("jobs", "UPDATE jobs SET file_name = NULL WHERE id = '{run}'"),
    ("jobs", "DELETE FROM transfer_files WHERE id = '{file}'"),
    ("moves", "INSERT INTO transitions VALUES ('reimbursements', 'PENDING', 'SETTLED')"),
    ("moves", "DELETE FROM transitions WHERE machine = 'vouchers' AND becomes = 'SETTLED'"),
    ("triggers", "DROP TRIGGER lifecycle ON reimbursements"),
    ("constraints", "DROP INDEX reimbursement_lines_once_idx"),
    ("constraints", "{free_reim}_tenant_reference_key"),
    ("constraints", "ALTER TABLE bank_accounts DROP CONSTRAINT bank_accounts_tenant_merchant_id_key"),
    ("wall", "ALTER TABLE bank_accounts DISABLE ROW LEVEL SECURITY"),
    ("roles", "GRANT UPDATE ON paying_accounts TO escarcelle_app"),
    ("roles", "GRANT INSERT ON reimbursement_terms TO escarcelle_app"),
    ("roles", "GRANT UPDATE ON transfer_files TO escarcelle_app"),
    ("roles", "GRANT DELETE ON reimbursement_lines TO escarcelle_app"),
    ("pending", "DELETE FROM deadlines WHERE name = 'run'"),
    ("pending", "UPDATE reimbursement_schedules SET active = false WHERE tenant = {tenant}"),
    ("due", "UPDATE reimbursement_schedules SET next_run_on = next_run_on + 1 WHERE tenant = {tenant}"),
    ("due", "UPDATE deadlines SET due_at = due_at - interval '1 second' WHERE name = 'run'"),
    ("pending", "UPDATE deadlines SET subject_id = '{reim_sent}' WHERE name = 'follow'"),
    ("pending", "UPDATE deadlines SET name = 'warn' WHERE name = 'follow'"),
    ("pending", "UPDATE deadlines SET subject_kind = 'vchr' WHERE name = 'follow'"),
    ("due", "UPDATE deadlines SET due_at = due_at - interval '1 second' WHERE name = 'follow'"),
    ("due", "UPDATE deadlines SET due_at = due_at + interval '1 hour' WHERE name = 'follow'"),
    # Deadlines.
    ("pending", "DELETE FROM deadlines WHERE subject_id = '{awaiting}'"),
    ("pending", "DELETE FROM deadlines WHERE subject_id = '{to_validate}' AND name = 'expire'"),
    ("pending", "UPDATE deadlines SET subject_id = '{paid}' WHERE subject_id = '{awaiting}'"),
    ("pending", "UPDATE deadlines SET subject_id = '{new}' WHERE subject_id = '{to_validate}' AND name = 'warn'"),
    ("pending", "UPDATE deadlines SET subject_kind = 'hold' WHERE subject_id = '{awaiting}'"),
    ("pending", "UPDATE deadlines SET name = 'warn' WHERE subject_id = '{awaiting}'"),
    ("pending", "DELETE FROM deadlines WHERE subject_id = '{issued}'"),
    ("pending", "UPDATE deadlines SET subject_id = '{delivered}' WHERE subject_id = '{revealed}'"),
    ("pending", "UPDATE deadlines SET subject_kind = 'preq' WHERE subject_id = '{issued}'"),
    ("pending", "UPDATE deadlines SET name = 'warn' WHERE subject_id = '{issued}'"),
    ("due", "UPDATE deadlines SET due_at = due_at - interval '1 second' WHERE subject_id = '{awaiting}'"),
    ("due", "UPDATE deadlines SET due_at = due_at - interval '1 second' WHERE subject_id = '{issued}'"),
    ("due", "UPDATE deadlines SET due_at = due_at + interval '1 hour' WHERE subject_id = '{revealed}'"),
    ("due", "UPDATE deadlines SET due_at = due_at + interval '1 hour' WHERE name = 'expire'"),
    ("due", "UPDATE deadlines SET due_at = due_at + interval '30 minutes' WHERE name = 'warn'"),
    ("due", "UPDATE deadlines SET due_at = due_at + interval '1 day' WHERE name = 'warn'"),
    # The journal.
    ("creations", "DELETE FROM journal WHERE subject_id = '{holder}' AND kind = 'hold.create'"),
    ("creations", "{write_line} ({tenant}, '{new}', 'preq.create', now(), 'preq', '{awaiting}', '[]')"),
    ("creations", "DELETE FROM journal WHERE subject_id = '{issued}' AND kind = 'vchr.request'"),
    ("creations", "{write_line} ({tenant}, '{new}', 'sinv.record', now(), 'sinv', '{invoice}', '[]')"),
    ("lives", "DELETE FROM journal WHERE subject_id = '{validated}' AND kind = 'preq.validate'"),
    ("lives", "DELETE FROM journal WHERE subject_id = '{paid}' AND kind = 'preq.pay'"),
    ("lives", "DELETE FROM journal WHERE subject_id = '{declined}' AND kind = 'preq.decline'"),
    ("lives", "UPDATE journal SET kind = 'preq.expire' WHERE subject_id = '{cancelled}' AND kind = 'preq.cancel'"),
    ("lives", "UPDATE journal SET at = at - interval '1 second' WHERE subject_id = '{paid}' AND kind = 'preq.pay'"),
    ("lives", "{write_line} ({tenant}, '{new}', 'preq.cancel', now(), 'preq', '{validated}', '[]')"),
    ("lives", "{change} version = version + 1 WHERE id = '{awaiting}'"),
    ("lives", "{change} last_action_at = last_action_at + interval '1 second' WHERE id = '{paid}'"),
    ("lives", "{change} created_at = created_at - interval '1 second' WHERE id = '{awaiting}'"),
    ("lines", "UPDATE journal SET amount = amount + 1 WHERE subject_id = '{paid}' AND kind = 'preq.pay'"),
    ("lines", "UPDATE journal SET amount = 1 WHERE subject_id = '{cancelled}' AND kind = 'preq.cancel'"),
    ("lines", "UPDATE journal SET holder_id = '{other_holder}' WHERE subject_id = '{paid}' AND kind = 'preq.pay'"),
    ("lines", "UPDATE journal SET point_of_sale_id = NULL WHERE subject_id = '{paid}' AND kind = 'preq.create'"),
    ("lines", "UPDATE journal SET kind = 'preq.refund' WHERE subject_id = '{cancelled}' AND kind = 'preq.cancel'"),
    ("voucher lives", "DELETE FROM journal WHERE subject_id = '{delivered}' AND kind = 'vchr.reveal'"),
    ("voucher lives", "DELETE FROM journal WHERE subject_id = '{invoiced}' AND kind = 'vchr.invoice'"),
    ("voucher lives", "DELETE FROM journal WHERE subject_id = '{blocked}' AND kind = 'vchr.block'"),
    ("voucher lives", "DELETE FROM journal WHERE subject_id = '{tried}' AND kind = 'vchr.verify'"),
    ("voucher lives", "DELETE FROM journal WHERE subject_id = '{issued}'"),
    ("voucher lives", "{change_line} kind = 'vchr.expire' WHERE subject_id = '{taken_back}' AND kind = 'vchr.cancel'"),
    ("voucher lives", "{change_line} kind = 'vchr.wrong_code' WHERE subject_id = '{blocked}' AND kind = 'vchr.block'"),
    ("voucher lives", "{change_line} sequence = DEFAULT WHERE subject_id = '{invoiced}' AND kind = 'vchr.reveal'"),
    ("voucher lives", "{change_line} sequence = DEFAULT WHERE subject_id = '{blocked}' AND kind = 'vchr.deliver'"),
    ("voucher lives", "{change_line} at = at + interval '1 second' WHERE subject_id = '{issued}'"),
    ("voucher lives", "{write_line} ({tenant}, '{new}', 'vchr.cancel', now(), 'vchr', '{issued}', '[]')"),
    ("voucher lives", "{write_line} ({tenant}, '{new}', 'vchr.verify', now(), 'vchr', '{issued}', '[]')"),
    ("voucher lives", "{write_line} ({tenant}, '{new}', 'vchr.wrong_code', now(), 'vchr', '{blocked}', '[]')"),
    ("voucher lives", "{write_line} ({tenant}, '{new}', 'vchr.deliver', now(), 'vchr', '{delivered}', '[]')"),
    ("voucher lives", "{change_voucher} issued_at = issued_at - interval '1 second' WHERE id = '{issued}'"),
    ("voucher lives", "{change_voucher} revealed_at = revealed_at + interval '1 second' WHERE id = '{delivered}'"),
    ("voucher lives", "{change_voucher} delivered_at = delivered_at + interval '1 second' WHERE id = '{invoiced}'"),
    ("voucher lives", "{change_voucher} last_action_at = last_action_at + interval '1 second' WHERE id = '{issued}'"),
    ("voucher lives", "{change_voucher} wrong_codes = wrong_codes - 1 WHERE id = '{tried}'"),
    ("voucher lives", "{change_voucher} blocked_at = blocked_at + interval '1 second' WHERE id = '{blocked}'"),
    ("voucher lives", "{change_voucher} version = version + 1 WHERE id = '{tried}'"),
    ("invoice lives", "DELETE FROM journal WHERE subject_id = '{excess_paid}' AND kind = 'sinv.pay_excess'"),
    ("invoice lives", "{change_line} kind = 'sinv.refuse_excess' WHERE kind = 'sinv.pay_excess'"),
    ("invoice lives", "{change_line} at = at + interval '1 second' WHERE kind = 'sinv.pay_excess'"),
    ("invoice lives", "{change_line} at = at + interval '1 second' WHERE subject_id = '{invoice}'"),
    ("invoice lives", "{change_line} xact = '1' WHERE subject_id = '{invoice}'"),
    ("invoice lives", "{change_invoice} decided_at = decided_at + interval '1 second' WHERE id = '{excess_paid}'"),
    ("invoice lives", "{change_invoice} version = version + 1 WHERE id = '{invoice}'"),
    ("voucher lines", "{change_line} amount = amount + 1 WHERE subject_id = '{invoiced}' AND kind = 'vchr.invoice'"),
    ("voucher lines", "{change_line} amount = 1 WHERE subject_id = '{delivered}' AND kind = 'vchr.reveal'"),
    ("voucher lines", "{change_line} amount = NULL WHERE subject_id = '{excess_paid}' AND kind = 'sinv.pay_excess'"),
    ("voucher lines", "{change_line} holder_id = '{holder}' WHERE subject_id = '{invoice}'"),
    ("voucher lines", "{change_line} holder_id = NULL WHERE subject_id = '{issued}'"),
    ("voucher lines", "{change_line} point_of_sale_id = '{new}' WHERE subject_id = '{issued}'"),
    ("voucher lines", "{write_line} ({tenant}, '{new}', 'vchr.settle', now(), 'vchr', '{invoiced}', '[]')"),
    ("together", "UPDATE journal SET xact = '1' WHERE subject_id = '{paid}' AND kind = 'preq.pay'"),
    # One line goes with the bill as with what settles the guarantee: each of them is missed, and neither comes twice.
    ("together", "DELETE FROM postings WHERE transfer_id = '{bill}'", "DELETE FROM transfers WHERE id = '{bill}'"),
    ("together", "DELETE FROM transfers WHERE kind = 'POST' AND subject_id = '{invoiced}'"),
    ("together", "UPDATE transfers SET reason = 'bill' WHERE kind = 'POST' AND subject_id = '{invoiced}'"),
    ("together", "{post_transfer} ({tenant}, '{new}', 'TRANSFER', NULL, 'vchr', '{invoiced}', 'bill', now())"),
    ("together", "UPDATE transfers SET at = at + interval '1 second' WHERE id = '{bill}'"),
    ("together", "{change_line} xact = '1' WHERE subject_id = '{invoiced}' AND kind = 'vchr.invoice'"),
    ("together", "DELETE FROM journal WHERE subject_id = '{excess_paid}' AND kind = 'sinv.pay_excess'"),
    ("together", "DELETE FROM transfers WHERE subject_id = '{taken_back}' AND kind = 'VOID'"),
    ("together", "UPDATE transfers SET at = at + interval '1 second' WHERE id = '{payment}'"),
    ("together", "UPDATE transfers SET kind = 'VOID', reason = 'cancel' WHERE id = '{validation}'"),
    ("subjects", "UPDATE journal SET subject_id = '{new}' WHERE kind = 'mrch.create'"),
    ("subjects", "UPDATE journal SET user_id = '{new}' WHERE subject_id = '{paid}' AND kind = 'preq.pay'"),
    ("subjects", "UPDATE journal SET kind = 'vchr.create', subject_kind = 'vchr' WHERE kind = 'mrch.create'"),
    ("subjects", "UPDATE journal SET kind = 'preq.create' WHERE kind = 'mrch.create'"),
    ("subjects", "{change_line} subject_id = '{new}' WHERE subject_id = '{issued}'"),
    ("subjects", "{change_line} subject_id = '{issued}' WHERE subject_id = '{invoice}'"),
    ("subjects", "DELETE FROM holders WHERE id = '{holder}'"),
    ("subjects", "DELETE FROM points_of_sale WHERE tenant = {tenant}"),
    # Messages.
    ("keys", "UPDATE idempotency_keys SET result_id = '{new}'"),
    ("keys", "UPDATE idempotency_keys SET result_kind = 'hold'"),
    ("keys", "UPDATE idempotency_keys SET result_kind = 'preq' WHERE result_kind = 'vchr'"),
    ("keys", "UPDATE idempotency_keys SET result_kind = 'vchr' WHERE result_kind = 'sinv'"),
    ("messages", "INSERT INTO inbox SELECT tenant, id FROM outbox"),
    ("messages", "INSERT INTO dead_letters SELECT tenant, id, topic, payload, created_at, now(), 1, '' FROM outbox"),
    ("about", "UPDATE outbox SET payload = payload || jsonb_build_object('id', '{new}')"),
    ("about", "UPDATE outbox SET payload = payload || jsonb_build_object('version', 99)"),
    ("about", "UPDATE outbox SET payload = payload || '{{\"version\": 99}}' WHERE payload ->> 'id' = '{issued}'"),
    ("about", "UPDATE outbox SET payload = payload || '{{\"version\": 99}}' WHERE payload ->> 'id' = '{invoice}'"),
    ("about", "UPDATE outbox SET payload = payload || '{{\"kind\": \"sinv\"}}' WHERE payload ->> 'id' = '{issued}'"),
    # Jobs.
    ("pending", "DELETE FROM deadlines WHERE subject_id = '{export}'"),
    ("pending", "UPDATE deadlines SET subject_kind = 'preq' WHERE subject_id = '{export}'"),
    ("jobs", "UPDATE jobs SET done = total - 1 WHERE id = '{export}'"),
    ("jobs", "UPDATE jobs SET ended_at = NULL WHERE id = '{export}'"),
    ("jobs", "UPDATE jobs SET status = 'FAILED' WHERE id = '{export}'"),
    ("jobs", "UPDATE jobs SET file_expires_at = NULL WHERE id = '{export}'"),
    ("jobs", "UPDATE jobs SET file_bytes = NULL WHERE id = '{export}'"),
    ("jobs", "UPDATE jobs SET kind = 'EXPORT_JOURNAL', file_name = NULL WHERE id = '{export}'"),
    ("jobs", "DELETE FROM job_chunks WHERE job_id = '{export}' AND n = 1"),
    ("jobs", "UPDATE job_chunks SET n = 5 WHERE job_id = '{export}' AND n = 1"),
    ("jobs", "UPDATE job_chunks SET content = content || '\\x00' WHERE job_id = '{export}' AND n = 0"),
    ("jobs", "UPDATE jobs SET problems = '{{\"rows\": []}}' WHERE id = '{export}'"),
    ("jobs", "DELETE FROM job_chunks WHERE job_id = '{handed_in}'"),
    ("jobs", "UPDATE job_chunks SET n = 5 WHERE job_id = '{handed_in}' AND n = 1"),
    ("jobs", "UPDATE jobs SET given = '{{}}' WHERE id = '{handed_in}'"),
    ("jobs", "UPDATE jobs SET problems = '{{\"rows\": []}}' WHERE id = '{handed_in}'"),
    ("jobs", "UPDATE jobs SET given = '{{\"bytes\": 9}}' WHERE id = '{refused_import}'"),
    ("jobs", "UPDATE job_chunks SET job_id = '{refused_import}' WHERE job_id = '{handed_in}'"),
    # Documents.
    ("documents", "DELETE FROM document_chunks WHERE document_id = '{document}' AND n = 1"),
    ("documents", "DELETE FROM document_chunks WHERE document_id = '{document}'"),
    ("documents", "UPDATE document_chunks SET n = 5 WHERE document_id = '{document}' AND n = 1"),
    ("documents", "UPDATE document_chunks SET content = '\\x00' WHERE document_id = '{document}' AND n = 1"),
    ("documents", "UPDATE document_chunks SET document_id = '{new}' WHERE document_id = '{document}'"),
    ("documents", "UPDATE documents SET size = size - 1 WHERE id = '{document}'"),
    ("documents", "UPDATE documents SET created_at = created_at - interval '1 second' WHERE id = '{document}'"),
    ("documents", "DELETE FROM documents WHERE id = '{document}'"),
    ("documents", "{change_invoice} document_id = NULL WHERE document_id = '{document}'"),
    (
        "documents",
        "{free_invoice}_tenant_document_id_key",
        "{change_invoice} document_id = '{document}' WHERE id = '{invoice}'",
    ),
    ("creations", "DELETE FROM journal WHERE kind = 'docm.create'"),
    # The database itself.
    ("moves", "DELETE FROM transitions"),
    ("moves", "INSERT INTO transitions VALUES ('payment_requests', 'VALIDATED', 'CANCELLED')"),
    ("moves", "INSERT INTO transitions VALUES ('vouchers', 'DELIVERED', 'EXPIRED')"),
    ("moves", "DELETE FROM transitions WHERE machine = 'supplier_invoices'"),
    ("triggers", "ALTER TABLE postings DISABLE TRIGGER seal"),
    ("triggers", "ALTER TABLE transfers ENABLE REPLICA TRIGGER sum_to_zero"),
    ("triggers", "DROP TRIGGER append_only ON journal"),
    ("triggers", "DROP TRIGGER lifecycle ON vouchers"),
    ("triggers", "ALTER TABLE supplier_invoices DISABLE TRIGGER lifecycle"),
    ("triggers", "ALTER TABLE balances DISABLE TRIGGER ALL"),
    ("constraints", "ALTER TABLE balances DROP CONSTRAINT balances_floor_check"),
    ("constraints", "ALTER TABLE issuers ADD CONSTRAINT named CHECK (name <> '') NOT VALID"),
    ("constraints", "DROP INDEX payment_requests_basket_key"),
    ("constraints", "{free_voucher}_tenant_number_key"),
    ("constraints", "{free_invoice}_tenant_voucher_id_key"),
    ("constraints", "{free_invoice}_tenant_document_id_key"),
    ("constraints", "{free_invoice}_tenant_supplier_id_invoice_number_key"),
    ("wall", "ALTER TABLE postings DISABLE ROW LEVEL SECURITY"),
    ("wall", "CREATE TABLE open_house (tenant integer)"),
    ("wall", "CREATE POLICY everything ON holders TO escarcelle_app USING (true)"),
    ("wall", "CREATE POLICY everything ON holders FOR INSERT WITH CHECK (true)"),
    ("roles", "ALTER ROLE escarcelle_app BYPASSRLS"),
    ("roles", "GRANT escarcelle_owner TO escarcelle_app"),
    ("roles", "GRANT DELETE ON postings TO escarcelle_app"),
    ("roles", "GRANT UPDATE ON voucher_kinds TO escarcelle_app"),
    ("roles", "GRANT UPDATE ON documents TO escarcelle_app"),
    ("roles", "GRANT DELETE ON document_chunks TO escarcelle_app"),
    ("roles", "GRANT SELECT ON passwords TO escarcelle_reader"),
]


@pytest.mark.parametrize("corruption", _CORRUPTIONS, ids=": ".join)
def test_a_corruption_is_found_by_the_check_meant_for_it(cast: Cast, corruption: tuple[str, ...]) -> None:
    name, *statements = corruption
    found = _corrupted(cast, "; ".join(statements).format(**_SHORT, **cast.named, new=new_id()))
    assert _NAMES[name] in {difference.check for difference in found}


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("lives", "UPDATE payment_requests SET auto_validation = false WHERE id = '{by_itself}'"),
        ("lives", "UPDATE journal SET kind = 'preq.validate' WHERE subject_id = '{by_itself}' AND {line}"),
        ("lives", "UPDATE journal SET at = at - interval '9 days' WHERE subject_id = '{by_itself}' AND {line}"),
        ("lives", "UPDATE journal SET user_id = '{new}' WHERE subject_id = '{by_itself}' AND {line}"),
        ("lives", "UPDATE payment_requests SET amount_validated = 100 WHERE id = '{by_itself}'"),
        ("in time", "UPDATE payment_requests SET status = 'EXPIRED' WHERE id = '{by_itself}'"),
        ("choices", "UPDATE payment_requests SET auto_validation = true WHERE validation_days IS NULL"),
        ("together", "UPDATE transfers SET reason = 'validation' WHERE subject_id = '{by_itself}' AND kind = 'POST'"),
    ],
)
def test_what_validated_by_itself_did_so_by_the_clock_and_whole(cast: Cast, name: str, statement: str) -> None:
    given = cast.named | {"new": new_id(), "line": "kind = 'preq.auto_validate'"}
    found = _corrupted(cast, statement.format(**given), tenant=cast.sandbox)
    assert _NAMES[name] in {difference.check for difference in found}


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("vouchers", "UPDATE vouchers SET code_salt = '' WHERE id = '{lapsed_revealed}'"),
        ("validity", "UPDATE vouchers SET last_action_at = expires_at - interval '1 second' WHERE id = '{lapsed}'"),
        ("validity", "UPDATE vouchers SET status = 'CANCELLED' WHERE id = '{lapsed}'"),
        ("guarantees", "UPDATE vouchers SET status = 'ISSUED' WHERE id = '{lapsed}'"),
        ("guarantees", "UPDATE transfers SET kind = 'POST' WHERE subject_id = '{lapsed}' AND kind = 'VOID'"),
        ("pending", "UPDATE deadlines SET subject_id = '{lapsed}' WHERE subject_id = '{still_open}'"),
        ("voucher lives", "DELETE FROM journal WHERE subject_id = '{lapsed_revealed}' AND kind = 'vchr.reveal'"),
        ("voucher lives", "UPDATE journal SET kind = 'vchr.cancel' WHERE subject_id = '{lapsed}' AND {line}"),
        ("voucher lives", "UPDATE journal SET user_id = '{new}' WHERE subject_id = '{lapsed}' AND {line}"),
        ("voucher lines", "UPDATE journal SET amount = NULL WHERE subject_id = '{lapsed}' AND {line}"),
        ("together", "UPDATE transfers SET reason = 'cancel' WHERE subject_id = '{lapsed}' AND kind = 'VOID'"),
    ],
)
def test_what_expired_did_so_by_the_clock_and_gave_its_guarantee_back(cast: Cast, name: str, statement: str) -> None:
    found = _corrupted(
        cast, statement.format(**cast.named, new=new_id(), line="kind = 'vchr.expire'"), tenant=cast.sandbox
    )
    assert _NAMES[name] in {difference.check for difference in found}


def test_a_difference_shows_nothing_that_leads_to_a_code(cast: Cast) -> None:
    found = _corrupted(cast, f"UPDATE vouchers SET status = 'ISSUED' WHERE id = '{cast.named['revealed']}'")
    ((salt, key),) = _as_superuser(
        cast, lambda c: c.fetch("SELECT code_salt, code_key FROM vouchers WHERE id = $1", cast.named["revealed"])
    )
    said = "\n".join(f"{difference}" for difference in found)
    assert "code_salt" in said
    assert salt.hex() not in said and key.hex() not in said


def test_every_check_has_a_corruption_that_it_finds() -> None:
    assert {_NAMES[corruption[0]] for corruption in _CORRUPTIONS} == {check.name for check in audit.CHECKS}
    assert len({check.name for check in audit.CHECKS}) == len(audit.CHECKS)


def test_a_difference_says_what_and_how_much(cast: Cast) -> None:
    found = _corrupted(cast, f"UPDATE balances SET amount = amount - 1 WHERE account_id = '{cast.named['wallet']}'")
    (difference,) = found
    assert difference.what == f"tenant {cast.tenant}, balance of account {cast.named['wallet']}"
    assert int(difference.found) == int(difference.expected) - 1


def test_another_issuers_differences_are_its_own(cast: Cast) -> None:
    spoil = f"UPDATE balances SET amount = amount + 1 WHERE tenant = {cast.sandbox}"
    assert _corrupted(cast, spoil) == []
    assert {d.check for d in _corrupted(cast, spoil, tenant=cast.sandbox)} == {_NAMES["balances"]}
    assert {d.check for d in _corrupted(cast, spoil, tenant=None)} == {_NAMES["balances"]}


def test_in_a_sandbox_whose_clock_was_moved_deadlines_fall_elsewhere(cast: Cast) -> None:
    moved = f"UPDATE deadlines SET due_at = due_at - interval '3 days' WHERE tenant = {cast.sandbox}"
    assert _corrupted(cast, moved, tenant=cast.sandbox) == []


def test_the_report_shows_ten_of_many(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    stray = """
        INSERT INTO deadlines (tenant, subject_kind, subject_id, name, due_at, claim_at, sends)
        SELECT $1, 'preq', gen_random_uuid(), 'expire', now(), 'infinity', 0 FROM generate_series(1, 12)
    """
    _as_superuser(cast, lambda c: c.execute(stray, cast.tenant))
    try:
        assert audit.main(cast.superuser_url) == 1
    finally:
        _as_superuser(cast, lambda c: c.execute("DELETE FROM deadlines WHERE claim_at = 'infinity'"))
    said = capsys.readouterr().out
    assert re.search(
        rf"{_NAMES['pending']} +\d+ deadlines +12 differences\n(    tenant .*\n){{10}}    … and 2 more\n", said
    )
    assert said.endswith("Differences: 12\n")


def test_what_is_committed_meanwhile_is_not_half_seen(cast: Cast) -> None:
    """All checks read one snapshot: a change between two of them is no difference."""

    async def ask(superuser: asyncpg.Connection) -> list[audit.Difference]:
        connection = await asyncpg.connect(cast.servers.settings.reader_database_url)
        try:
            async with superuser.transaction():
                # The audit has begun, and waits for the balances until they have changed.
                await superuser.execute("LOCK TABLE balances; UPDATE balances SET amount = amount + 1")
                auditing = asyncio.ensure_future(audit.differences(connection))
                waits = "SELECT cardinality(pg_blocking_pids($1)) > 0"
                while not await superuser.fetchval(waits, connection.get_server_pid()):
                    assert not auditing.done(), await auditing
            return await auditing
        finally:
            await superuser.execute("UPDATE balances SET amount = amount - 1")
            await connection.close()

    assert _as_superuser(cast, ask) == []


# ── independence ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_audit_shares_no_code_with_what_it_audits() -> None:
    assert audit.__file__ is not None
    parts = [ast.parse(part.read_text(encoding="utf-8")) for part in Path(audit.__file__).parent.glob("*.py")]
    nodes = [node for part in parts for node in ast.walk(part)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {"." * n.level + (n.module or "") for n in nodes if isinstance(n, ast.ImportFrom)}
    assert {"asyncpg", "reporting.audit.check"} <= imported
    imported -= {f"reporting.audit.{path.stem}" for path in Path(audit.__file__).parent.glob("*.py")}
    ours = {folder.parent.name for folder in Path(__file__).parents[2].glob("*/__init__.py")}
    assert {"domain", "api", "tasks", "escarcelle", "reporting"} <= ours
    assert not {name for name in imported if name.split(".")[0] in ours or name.startswith(".")}


# ── the play ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _play(servers: Servers) -> Cast:
    database = Database(servers.settings)
    await database.open()
    try:
        real = await _Play.begin(servers, database, sandbox=False)
        await real.agree_on_terms()
        await real.act_at_once()
        await real.reimburse_payments()
        await real.buy_with_vouchers()
        await real.reimburse_vouchers()
        sandbox = await _Play.begin(servers, database, sandbox=True)
        await sandbox.act_at_once()
        await sandbox.reimburse_payments()
        await sandbox.buy_with_vouchers()
        await sandbox.reimburse_vouchers()
        await sandbox.let_time_pass()
        await sandbox.let_vouchers_expire()
    finally:
        await database.close()
    named = await real.names()
    named["by_itself"] = sandbox.requests["validated by itself"].id
    for name in ("lapsed", "lapsed_revealed", "still_open"):
        named[name] = sandbox.vouchers[name].id
    return Cast(servers, real.world.tenant, sandbox.world.tenant, named)


@dataclass
class _Play:
    """A merchant, its till, and two customers; a member who buys there with vouchers, and the agency. What they make is
    kept by what became of it."""

    world: World
    merchant: Actor
    marie: Actor
    paul: Actor
    member: Actor
    agency: Actor
    requests: dict[str, PaymentRequest]
    vouchers: dict[str, Voucher] = field(default_factory=dict)
    invoices: dict[str, SupplierInvoice] = field(default_factory=dict)
    statement: MemberStatement = field(init=False)
    reimbursements: dict[str, Reimbursement] = field(default_factory=dict)
    file: TransferFile = field(init=False)
    supplier: str = "M1"
    job: jobs.Job | None = None
    imports: dict[str, jobs.Job] = field(default_factory=dict)

    @classmethod
    async def begin(cls, servers: Servers, database: Database, *, sandbox: bool) -> "_Play":
        world = await World.make(servers, database, sandbox=sandbox)
        await world.merchant("M1", "Camping des Flots", {"P1": "Accueil", "P2": "Bar"})
        await world.merchant("M2", "Ferme du Lac", {"P3": "Ferme"})
        await world.holder("H1", "Marie", wallet="5000,00", email="marie@example.org")
        await world.holder("H2", "Paul", wallet="100,00")
        await perform(database, world.system, credit_holder, world.holders["H1"].id, "12,34", "complément")
        member = await perform(
            database,
            world.system,
            create_holder,
            reference="H3",
            name="Jeanne",
            postal_address=Address("1 quai de la Fosse", "44000", "Nantes"),
            member_since=date(2020, 1, 1),
            dues_paid_until=date(2999, 12, 31),
        )
        assert isinstance(member, Holder)
        world.holders["H3"] = member
        for code, series, department, preferred in (("BW", "442", "XX", True), ("BA", "077", "LA", False)):
            kind = {"code": code, "name": f"Bon {code}", "series": series, "department": department}
            await asyncio.to_thread(
                escarcelle_database.set_voucher_kind,
                servers.settings,
                world.slug,
                **kind,
                **_KINDS,
                preferred=preferred,
            )
        await escarcelle_database.put_paying_account(
            servers.settings, world.slug, "FR1420041010050500013M02606", None, "Agence du Temps Libre", _ADDRESS
        )
        await escarcelle_database.put_reimbursement_runs(servers.settings, world.slug, automatic=True)
        return cls(
            world,
            merchant=await world.user("responsable", Role.MERCHANT_MANAGER, merchant="M1"),
            marie=await world.user("marie", Role.HOLDER, holder="H1"),
            paul=await world.user("paul", Role.HOLDER, holder="H2"),
            member=await world.user("jeanne", Role.HOLDER, holder="H3"),
            agency=await world.user("agence", Role.ISSUER_AGENT),
            requests={},
        )

    async def act_at_once(self) -> None:
        """Everything that needs no time to pass: flows A to D, awaiting, paid in part, validated in part, given up."""
        for flow in _FLOWS:
            await self.ask(f"{flow} awaiting", flow)
            await self.do(payments.cancel, self.merchant, (await self.ask(f"{flow} cancelled", flow)).id)
            await self.do(payments.decline, self.marie, (await self.ask(f"{flow} declined", flow)).token)
            await self.pay(f"{flow} paid", flow, None if flow == "B" else "30,00")
        for flow in "CD":
            whole = await self.pay(f"{flow} validated", flow)
            await self.do(payments.validate, self.merchant, whole.id)
            less = await self.pay(f"{flow} validated for less", flow, "35,00")
            await self.do(payments.validate, self.merchant, less.id, "20,00")
            given_back = await self.pay(f"{flow} given back", flow)
            await self.do(payments.cancel, self.merchant, given_back.id)
        named = await self.ask("named", "A")
        await self.do(payments.change_collection, self.merchant, named.id, "H2")
        await self.do(payments.change_collection, self.merchant, named.id, None)
        await self.do(payments.pay, self.paul, (await self.read(named.id))["token"], "25,00")
        key = Key.of(self.merchant, secrets.token_hex(8), "createPaymentRequest", {"amount": "40,00"})
        await self.ask("with a key", "C", key=key)
        await self.export()
        await self.hand_in()

    async def buy_with_vouchers(self) -> None:
        """Everything that becomes of vouchers without time passing, wrong codes among it; two kinds, two series."""
        await self.voucher("issued", key=Key.of(self.member, secrets.token_hex(8), "requestVoucher", {}))
        await self.reveal("revealed")
        await self.deliver("delivered")
        await self.deliver("of another kind", kind_code="BA")
        await self.voucher("taken_back")
        await self.do(vouchers.cancel, self.agency, self.vouchers["taken_back"].id)

        await self.deliver("tried")
        await self.try_codes("tried", wrong=3)
        await self.try_codes("tried", wrong=2, right=False)
        await self.deliver("blocked")
        await self.try_codes("blocked", wrong=4)
        await self.try_codes("blocked", wrong=5, right=False)
        await self.deliver("unblocked")
        await self.try_codes("unblocked", wrong=5, right=False)
        await self.do(vouchers.unblock, self.agency, self.vouchers["unblocked"].id)
        await self.try_codes("unblocked", wrong=1)

        await self.invoice("invoiced", "123,01")
        await self.invoice("invoiced to the cent", "124,00", wrong=2)
        await self.try_codes("invoiced to the cent", wrong=1)
        scan = b"%PDF-1.7" + bytes(documents.CHUNK_BYTES)
        await self.invoice("to_decide", "130,50", document=documents.File("F.pdf", scan, hashlib.sha256(scan).digest()))
        for name, decision in (
            ("excess_paid", vouchers.ExcessDecision.PAID),
            ("excess refused", vouchers.ExcessDecision.REFUSED),
        ):
            made = await self.invoice(name, "200")
            await self.do(vouchers.decide_excess, self.agency, made.id, decision)
        await self.state()

    async def agree_on_terms(self) -> None:
        """What is kept of what is reimbursed; where nothing is said, nothing is kept."""
        payments_, vouchers_ = ReimbursedFlow.PAYMENT_REQUESTS, ReimbursedFlow.VOUCHERS
        for flow, since, percent in ((payments_, 2010, "1"), (payments_, 2019, "2.5"), (vouchers_, 2019, "1.5")):
            await escarcelle_database.put_terms(
                self.world.servers.settings, self.world.slug, flow, date(since, 1, 1), percent, 5
            )

    async def reimburse_payments(self) -> None:
        """What customers have paid; flows have not heard of it yet."""
        await self.pay("half a cent", "A", "20,20")
        for merchant, iban in (("M1", "FR7630006000011234567890189"), ("M2", "DE89370400440532013000")):
            await self.change_account(merchant, iban)
        made = await self.reimburse("settled", "M1")
        await perform(
            self.world.database,
            self.agency,
            reimbursements.settle_by_hand,
            made.id,
            bank_reference="B1",
            key=Key.of(self.agency, secrets.token_hex(8), "settleReimbursement", {}),
        )

    async def reimburse_vouchers(self) -> None:
        """What suppliers have invoiced: the bank pays, sends back, refuses, has it, and is not asked yet."""
        self.supplier = "M2"
        await self.invoice("settled", "123,01")
        made = await self.reimburse("vouchers", "M2")
        await self.do(reimbursements.settle, self.world.system, made.id, "B2")
        await self.follow(made)

        await self.invoice("paid anew", "20,00")
        back = await self.reimburse("came_back", "M2")
        await self.do(reimbursements.settle, self.world.system, back.id, "B3")
        await self.follow(back)
        await self.do(reimbursements.reject, self.world.system, back.id, "AC04", None)
        again = await self.reimburse("paid_anew", "M2")
        await self.do(reimbursements.settle, self.world.system, again.id, "B4")
        # The vouchers hear that the money came back only once it has arrived again.
        for made in (again, back):
            await self.follow(made)

        await self.invoice("reopened", "124,00")
        made = await self.reimburse("returned", "M2")
        await self.do(reimbursements.settle, self.world.system, made.id, "B5")
        await self.follow(made)
        await self.do(reimbursements.reject, self.world.system, made.id, "AC04", "Closed account number")
        await self.follow(made)

        made = await self.reimburse("rejected", "M2")
        await self.do(reimbursements.reject, self.world.system, made.id, "AC04", None)
        await self.reimburse("sent", "M2")
        await self.change_account("M1", "DE89370400440532013000")
        await self.reimburse("pending", "M1")
        await self.change_account("M1", "FR7630006000011234567890189")
        self.supplier = "M1"

    async def reimburse(self, name: str, merchant: str) -> Reimbursement:
        """One run for one merchant, as a worker makes it."""
        world, through = self.world, await self.today()
        job = await perform(world.database, self.agency, reimbursements.run, through=through, locale=Locale.FR)
        assert isinstance(job, jobs.Job)
        run = (job.id, 1, new_id())
        await self.do(jobs.start, world.system, job.id)
        made = await perform(world.database, world.system, reimbursements.reimburse, *run, world.merchants[merchant].id)
        assert isinstance(made, Reimbursement)
        self.reimbursements[name] = made
        file = await perform(world.database, world.system, reimbursements.send, *run)
        if isinstance(file, TransferFile):
            self.file = file
            await perform(world.database, world.system, jobs.keep_chunk, *run, 0, b"<a/>")
            await self.do(jobs.finish, world.system, *run, 1, "virements", 4)
        else:
            await self.do(jobs.finish_without_file, world.system, *run, 1)
        return made

    async def follow(self, made: Reimbursement) -> None:
        """The vouchers hear what became of their reimbursement."""
        await perform(self.world.database, self.world.system, vouchers.follow, made.id)

    async def change_account(self, merchant: str, iban: str) -> None:
        """Where that merchant is reimbursed to."""
        await perform(
            self.world.database,
            self.agency,
            bank_accounts.update,
            self.world.merchants[merchant].id,
            iban=iban,
            account_holder="Au bord du lac",
            postal_address=_ADDRESS,
        )

    async def today(self) -> date:
        """The civil day of the issuer's clock."""
        ((now,),) = await self.world.as_owner("SELECT tenant_clock($1)", self.world.tenant)
        return calendar.today(now)

    async def state(self) -> None:
        """The member is told what it was billed for, in print."""
        month = calendar.today(datetime.now().astimezone())
        made = await perform(
            self.world.database, self.agency, vouchers.issue_member_statements, month=month, locale=Locale.FR
        )
        assert isinstance(made, jobs.Job) and self.member.holder_id is not None
        run = (made.id, 1, new_id())
        await self.do(jobs.start, self.world.system, made.id)
        told = await perform(
            self.world.database, self.world.system, vouchers.issue_statement, *run, self.member.holder_id
        )
        assert isinstance(told, vouchers.MemberStatement)
        self.statement = told
        if told.channel is Channel.POST:
            await perform(self.world.database, self.world.system, jobs.keep_chunk, *run, 0, b"%PDF")
            await self.do(jobs.finish, self.world.system, *run, 1, "releves", 4)
        else:
            await self.do(jobs.finish_without_file, self.world.system, *run, 1)

    async def let_vouchers_expire(self) -> None:
        """Two that nobody has used; one of them is found expired before the sweep."""
        now = datetime.now().astimezone()
        await self.world.freeze(now)
        await self.voucher("lapsed")
        await self.reveal("lapsed_revealed")
        await self.deliver("used in time")
        await self.world.freeze(now + timedelta(days=31))
        with pytest.raises(Refused):
            await self.do(vouchers.deliver, self.member, self.vouchers["lapsed_revealed"].id)
        for name in ("lapsed", "lapsed_revealed"):
            await self.do(vouchers.expire, self.world.system, self.vouchers[name].id)
        await self.voucher("still_open")
        await self.invoice("used in time", "5", deliver=False)
        await self.world.freeze(None)

    async def export(self) -> None:
        """A list in a file of two pieces, as a worker keeps it."""
        options: dict[str, Any] = {
            "kind": jobs.JobKind.EXPORT_PAYMENT_REQUESTS,
            "format": jobs.ExportFormat.CSV,
            "locale": Locale.FR,
        }
        made = await perform(self.world.database, self.merchant, jobs.create_export, **options)
        assert isinstance(made, jobs.Job)
        self.job = made
        run = (made.id, 1, new_id())
        await self.do(jobs.start, self.world.system, made.id)
        for n in range(2):
            await perform(self.world.database, self.world.system, jobs.keep_chunk, *run, n, b"a;b")
        await self.do(jobs.finish, self.world.system, *run, 3, "operations", 6)

    async def hand_in(self) -> None:
        """Two workbooks of members: one that a worker has refused, and one of two pieces that waits for it."""
        for name in ("refused_import", "handed_in"):
            content = b"PK\x03\x04" + bytes(jobs.CHUNK_BYTES)
            file = documents.File("adherents.xlsx", content, hashlib.sha256(content).digest())
            made = await perform(self.world.database, self.agency, imports.import_holders, file=file, locale=Locale.FR)
            assert isinstance(made, jobs.Job)
            self.imports[name] = made
        refused = self.imports["refused_import"].id
        await self.do(jobs.start, self.world.system, refused)
        problem = jobs.RowProblem.of(Text("Non.", "No."), 17, "C")
        made = await perform(
            self.world.database, self.world.system, jobs.break_off, refused, 1, "", for_good=True, rows=[problem]
        )
        assert isinstance(made, jobs.Job) and made.status is jobs.JobStatus.FAILED

    async def let_time_pass(self) -> None:
        """Nobody pays or validates; what is not swept yet gives way to a new request for the same basket."""
        now = datetime.now().astimezone()
        await self.world.freeze(now)
        for flow in _FLOWS:
            await self.ask(f"{flow} unpaid", flow)
        for flow in "CD":
            await self.pay(f"{flow} forgotten", flow)
        soon = await self.ask("freed", "A", basket="LIBRE")
        await perform(
            self.world.database,
            self.world.system,
            update_merchant,
            self.world.merchants["M1"].id,
            auto_validation=True,
        )
        by_itself = await self.pay("validated by itself", "C", "30,00")
        by_hand = await self.pay("validated in time", "D", "30,00")
        await self.do(payments.validate, self.merchant, by_hand.id)
        await self.world.freeze(now + timedelta(days=3))
        await self.do(payments.warn, self.world.system, self.requests["C forgotten"].id)
        await self.world.freeze(now + timedelta(days=10))
        again = await self.ask("freeing", "A", basket="LIBRE")
        assert (await self.read(soon.id))["status"] == "EXPIRED"
        for name in ("A unpaid", "B unpaid", "C unpaid", "D unpaid", "C forgotten", "D forgotten"):
            await self.do(payments.expire, self.world.system, self.requests[name].id)
            assert (await self.read(self.requests[name].id))["status"] == "EXPIRED"
        await self.do(payments.expire, self.world.system, by_itself.id)
        assert (await self.read(by_itself.id))["status"] == "VALIDATED"
        await self.do(payments.pay, self.marie, again.token)
        await self.world.freeze(None)

    async def ask(self, name: str, flow: str, basket: str | None = None, key: Key | None = None) -> PaymentRequest:
        today = await self.today()
        due_in, days = _FLOWS[flow]
        request = await perform(
            self.world.database,
            self.merchant,
            payments.create,
            point_of_sale_id=self.world.places["P1"].id,
            amount="40,00",
            basket_number=basket or f"P{len(self.requests)}",
            customer_identifier={"A": None, "C": "H1"}.get(flow, "marie@example.org"),
            payment_deadline=today + timedelta(days=due_in) if due_in else None,
            validation_days=days,
            key=key,
        )
        assert isinstance(request, PaymentRequest)
        self.requests[name] = request
        return request

    async def pay(self, name: str, flow: str, amount: str | None = None) -> PaymentRequest:
        request = await self.ask(name, flow)
        await self.do(payments.pay, self.marie, request.token, amount)
        return request

    async def voucher(self, name: str, kind_code: str | None = None, key: Key | None = None) -> Voucher:
        made = await perform(
            self.world.database,
            self.member,
            vouchers.request,
            supplier_id=self.world.merchants[self.supplier].id,
            amount="123,01",
            kind_code=kind_code,
            key=key,
        )
        assert isinstance(made, Voucher)
        self.vouchers[name] = made
        return made

    async def reveal(self, name: str, kind_code: str | None = None) -> None:
        made = await self.voucher(name, kind_code)
        for _ in range(2):
            revealed = await perform(self.world.database, self.member, vouchers.reveal, made.id, key_of_code=_SECRET)
            assert isinstance(revealed, Voucher)
            self.vouchers[name] = revealed

    async def deliver(self, name: str, kind_code: str | None = None) -> None:
        await self.reveal(name, kind_code)
        for _ in range(2):
            delivered = await perform(self.world.database, self.member, vouchers.deliver, self.vouchers[name].id)
            assert isinstance(delivered, Voucher)
            self.vouchers[name] = delivered

    async def try_codes(self, name: str, *, wrong: int, right: bool = True) -> None:
        """That many wrong codes at the supplier's, and then the right one."""
        number = self.vouchers[name].number
        for _ in range(wrong):
            with pytest.raises(Refused):
                await perform(
                    self.world.database, self.merchant, vouchers.verify, number=number, code=self.code(name, wrong=True)
                )
        if right:
            assert await perform(
                self.world.database, self.merchant, vouchers.verify, number=number, code=self.code(name)
            )

    async def invoice(
        self,
        name: str,
        amount: str,
        *,
        wrong: int = 0,
        deliver: bool = True,
        document: documents.File | None = None,
    ) -> SupplierInvoice:
        if deliver:
            await self.deliver(name)
        await self.try_codes(name, wrong=wrong, right=False)
        by = self.merchant if self.supplier == "M1" else self.agency
        made = await perform(
            self.world.database,
            by,
            vouchers.record_invoice,
            voucher_number=self.vouchers[name].number,
            code=self.code(name),
            invoice_number=f"F{len(self.invoices)}",
            amount=amount,
            document=document,
            key=Key.of(by, secrets.token_hex(8), "recordSupplierInvoice", {"amount": amount}),
        )
        assert isinstance(made, SupplierInvoice)
        self.invoices[name] = made
        return made

    def code(self, name: str, *, wrong: bool = False) -> TypedCode:
        """The voucher's code, or another."""
        right = vouchers.code_of(self.vouchers[name], [_SECRET])
        assert right is not None
        return TypedCode(f"{(int(right) + wrong) % 10_000:04d}", [_SECRET])

    async def do(self, deed: Callable[..., Awaitable[Any]], actor: Actor, *arguments: object) -> None:
        assert await perform(self.world.database, actor, deed, *arguments) is not None

    async def read(self, request_id: UUID) -> asyncpg.Record:
        return (await self.world.as_owner("SELECT * FROM payment_requests WHERE id = $1", request_id))[0]

    async def names(self) -> dict[str, object]:
        """The objects that corruptions name."""
        named: dict[str, object] = {
            "tenant": self.world.tenant,
            "merchant": self.world.merchants["M1"].id,
            "other_merchant": self.world.merchants["M2"].id,
            "holder": self.world.holders["H1"].id,
            "other_holder": self.world.holders["H2"].id,
            "member": self.world.holders["H3"].id,
            "invoice": self.invoices["invoiced"].id,
            "to_decide": self.invoices["to_decide"].id,
            "document": self.invoices["to_decide"].document_id,
            "excess_paid": self.invoices["excess_paid"].id,
            "statement": self.statement.id,
            "statement_job": self.statement.job_id,
        }
        for name in ("issued", "revealed", "delivered", "taken_back", "tried", "blocked", "invoiced"):
            named[name] = self.vouchers[name].id
        named |= {f"{name}_voucher": self.vouchers[name].id for name in ("settled", "reopened")}
        named |= {f"reim_{name}": made.id for name, made in self.reimbursements.items()}
        named |= {"file": self.file.id, "run": self.file.job_id}
        assert self.job is not None
        named["export"] = self.job.id
        named |= {name: job.id for name, job in self.imports.items()}
        for name, request in {
            "awaiting": "A awaiting",
            "paid": "A paid",
            "paid_deferred": "B paid",
            "to_validate": "C paid",
            "validated": "C validated for less",
            "cancelled": "C given back",
            "declined": "A declined",
        }.items():
            named[name] = self.requests[request].id
        for name, question in {
            "wallet": "SELECT id FROM accounts WHERE kind = 'WALLET' AND owner_id = '{holder}'",
            "other_wallet": "SELECT id FROM accounts WHERE kind = 'WALLET' AND owner_id = '{other_holder}'",
            "held": "SELECT id FROM accounts WHERE kind = 'HELD' AND owner_id = '{merchant}'",
            "owed": "SELECT id FROM accounts WHERE kind = 'MERCHANT' AND owner_id = '{merchant}'",
            "payment": "SELECT id FROM transfers WHERE subject_id = '{paid}'",
            "credit": "SELECT id FROM transfers WHERE subject_id = '{holder}' ORDER BY id LIMIT 1",
            "open_reservation": "SELECT id FROM transfers WHERE kind = 'RESERVE' AND subject_id = '{to_validate}'",
            "reservation": "SELECT id FROM transfers WHERE kind = 'RESERVE' AND subject_id = '{validated}'",
            "validation": "SELECT id FROM transfers WHERE kind = 'POST' AND subject_id = '{validated}'",
            "void": "SELECT id FROM transfers WHERE kind = 'VOID' AND subject_id = '{cancelled}'",
            "guarantee": "SELECT id FROM accounts WHERE kind = 'GUARANTEE' AND owner_id = '{member}'",
            "debt": "SELECT id FROM accounts WHERE kind = 'DEBT' AND owner_id = '{member}'",
            "open_guarantee": "SELECT id FROM transfers WHERE kind = 'RESERVE' AND subject_id = '{issued}'",
            "release": "SELECT id FROM transfers WHERE kind = 'VOID' AND subject_id = '{taken_back}'",
            "bill": "SELECT id FROM transfers WHERE kind = 'TRANSFER' AND subject_id = '{invoiced}'",
            "transit": "SELECT id FROM accounts WHERE kind = 'TRANSIT' AND owner_id = '{merchant}'",
            "other_owed": "SELECT id FROM accounts WHERE kind = 'MERCHANT' AND owner_id = '{other_merchant}'",
            "bank": "SELECT id FROM accounts WHERE kind = 'BANK' AND tenant = {tenant}",
            "funding": "SELECT id FROM accounts WHERE kind = 'FUNDING' AND tenant = {tenant}",
            "settlement": "SELECT id FROM transfers WHERE kind = 'POST' AND subject_id = '{reim_settled}'",
            "rejection": "SELECT id FROM transfers WHERE kind = 'VOID' AND subject_id = '{reim_rejected}'",
            "coming_back": "SELECT id FROM transfers WHERE reason = 'return' AND subject_id = '{reim_returned}'",
            "half_a_cent": "SELECT transfer_id FROM postings WHERE amount = 2020 AND tenant = {tenant}",
        }.items():
            ((named[name],),) = await self.world.as_owner(question.format(**named))
        return named


_FLOWS: dict[str, tuple[int | None, int | None]] = {"A": (None, None), "B": (5, None), "C": (None, 3), "D": (5, 3)}
"""In how many days to pay, and how many to validate."""

_KINDS: dict[str, Any] = {
    "validity_days": 30,
    "ends_with_year": False,
    "maximum_value": None,
    "maximum_outstanding": None,
}

_ADDRESS = Address("1 place de l’Église", "45000", "Orléans")

_SECRET = "the key that codes are made with"


# ── the audit's connections ───────────────────────────────────────────────────────────────────────────────────────────


def _differences(cast: Cast, tenant: int | None = None) -> list[audit.Difference]:
    async def ask() -> list[audit.Difference]:
        connection = await asyncpg.connect(cast.servers.settings.reader_database_url)
        try:
            return await audit.differences(connection, tenant)
        finally:
            await connection.close()

    return asyncio.run(ask())


_OWN = object()


def _corrupted(cast: Cast, statements: str, tenant: object = _OWN) -> list[audit.Difference]:
    """What the audit finds after these statements, which are undone."""
    audited = cast.tenant if tenant is _OWN else tenant
    assert audited is None or isinstance(audited, int)

    async def ask(connection: asyncpg.Connection) -> list[audit.Difference]:
        await connection.execute(f"SET LOCAL session_replication_role = replica; {statements}")
        return await audit.differences(connection, audited)

    return _undone(cast, ask)


def _undone(cast: Cast, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    async def run(connection: asyncpg.Connection) -> T:
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await ask(connection)
        finally:
            await transaction.rollback()

    return _as_superuser(cast, run)


def _as_superuser(cast: Cast, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    async def run() -> T:
        connection = await asyncpg.connect(cast.superuser_url)
        try:
            return await ask(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


@contextmanager
def _role(cast: Cast, options: str) -> Iterator[str]:
    """A login of that sort for a while; gives its address."""
    name, password = f"visitor_{secrets.token_hex(4)}", secrets.token_hex(8)
    _as_superuser(cast, lambda c: c.execute(f"CREATE ROLE {name} PASSWORD '{password}' {options}"))
    try:
        yield cast.servers.postgres.url(user=name, password=password)
    finally:
        _as_superuser(cast, lambda c: c.execute(f"DROP ROLE {name}"))
