"""Every verb × every status of vouchers and of suppliers' invoices, the whole table; statuses are reached by real
deeds."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from domain import vouchers
from domain.codes import read_global_id
from domain.vouchers import SupplierInvoiceStatus, VoucherStatus
from tests.matrix.vouchers import Stage, assembled
from tests.world import Running, Servers

pytestmark = pytest.mark.anyio

TAKEN_AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
TOO_LATE_AT = datetime(2026, 4, 1, 22, tzinfo=UTC)
"""The end of the thirtieth day after it, in Paris."""

VERBS = ("reveal", "deliver", "cancel", "unblock", "verify", "invoice", "expire")
REFUSALS = {"WRONG_STATE", "TOO_LATE", "NOT_FOUND", "ACCOUNT_LOCKED"}

STATUS_OF = {
    "issued": "ISSUED",
    "too late to reveal": "EXPIRED",
    "expired unrevealed": "EXPIRED",
    "revealed": "CODE_REVEALED",
    "too late to deliver": "EXPIRED",
    "expired revealed": "EXPIRED",
    "delivered": "DELIVERED",
    "delivered in time": "DELIVERED",
    "blocked": "DELIVERED",
    "invoiced": "INVOICED",
    "blocked invoiced": "INVOICED",
    "settled": "SETTLED",
    "reopened": "INVOICED",
    "cancelled": "CANCELLED",
}
"""Two of them are expired by the clock alone: nothing has swept them yet."""

TABLE = """
                   |reveal       |deliver    |cancel     |unblock    |verify        |invoice       |expire
issued             |CODE_REVEALED|WRONG_STATE|CANCELLED  |WRONG_STATE|NOT_FOUND     |NOT_FOUND     |nothing
too late to reveal |TOO_LATE     |TOO_LATE   |TOO_LATE   |WRONG_STATE|NOT_FOUND     |NOT_FOUND     |EXPIRED
expired unrevealed |TOO_LATE     |TOO_LATE   |TOO_LATE   |WRONG_STATE|NOT_FOUND     |NOT_FOUND     |nothing
revealed           |as it is     |DELIVERED  |WRONG_STATE|WRONG_STATE|NOT_FOUND     |NOT_FOUND     |nothing
too late to deliver|TOO_LATE     |TOO_LATE   |TOO_LATE   |WRONG_STATE|NOT_FOUND     |NOT_FOUND     |EXPIRED
expired revealed   |TOO_LATE     |TOO_LATE   |TOO_LATE   |WRONG_STATE|NOT_FOUND     |NOT_FOUND     |nothing
delivered          |WRONG_STATE  |as it is   |WRONG_STATE|WRONG_STATE|DELIVERED     |INVOICED      |nothing
delivered in time  |WRONG_STATE  |as it is   |WRONG_STATE|WRONG_STATE|DELIVERED     |INVOICED      |nothing
blocked            |WRONG_STATE  |as it is   |WRONG_STATE|DELIVERED  |ACCOUNT_LOCKED|ACCOUNT_LOCKED|nothing
invoiced           |WRONG_STATE  |as it is   |WRONG_STATE|WRONG_STATE|INVOICED      |WRONG_STATE   |nothing
blocked invoiced   |WRONG_STATE  |as it is   |WRONG_STATE|INVOICED   |ACCOUNT_LOCKED|ACCOUNT_LOCKED|nothing
settled            |WRONG_STATE  |as it is   |WRONG_STATE|WRONG_STATE|SETTLED       |WRONG_STATE   |nothing
reopened           |WRONG_STATE  |as it is   |WRONG_STATE|WRONG_STATE|INVOICED      |WRONG_STATE   |nothing
cancelled          |WRONG_STATE  |WRONG_STATE|WRONG_STATE|WRONG_STATE|NOT_FOUND     |NOT_FOUND     |nothing
"""
"""Status × verb → the new status, `as it is` when the answer is the voucher and nothing happens, the code of the
refusal, or what comes of the clock. A voucher without a number is not found by one. What settles vouchers and reopens
them is in the table of reimbursements."""

INVOICES = {
    "within the value": {"PAID": "WRONG_STATE", "REFUSED": "WRONG_STATE"},
    "to decide": {"PAID": "EXCESS_PAID", "REFUSED": "EXCESS_REFUSED"},
    "paid": {"PAID": "WRONG_STATE", "REFUSED": "WRONG_STATE"},
    "refused": {"PAID": "WRONG_STATE", "REFUSED": "WRONG_STATE"},
}
INVOICE_STATUS_OF = {
    "within the value": "RECORDED",
    "to decide": "TO_DECIDE",
    "paid": "EXCESS_PAID",
    "refused": "EXCESS_REFUSED",
}


@pytest.fixture(scope="module")
async def stage(servers: Servers, running: Running) -> AsyncIterator[Stage]:
    """The cast, once for the whole table."""
    async with assembled(servers, running) as made:
        yield made


def _read(table: str) -> dict[str, dict[str, str]]:
    """A row for each state: verb → what comes of it."""
    head, *lines = ([cell.strip() for cell in line.split("|")] for line in table.strip("\n").splitlines())
    assert tuple(head[1:]) == VERBS
    return {line[0]: dict(zip(VERBS, line[1:], strict=True)) for line in lines}


def test_the_tables_name_every_verb_and_every_status() -> None:
    assert set(vouchers.LIFE.verbs) == set(VERBS) - {"unblock", "verify"} | {"settle", "reopen"}
    assert set(STATUS_OF.values()) == set(VoucherStatus)
    assert set(_read(TABLE)) == set(STATUS_OF) == set(_STEPS)
    assert set(INVOICE_STATUS_OF.values()) == set(SupplierInvoiceStatus)
    assert set(INVOICES) == set(INVOICE_STATUS_OF)
    decisions = {str(each) for each in vouchers.ExcessDecision}
    assert all(set(line) == decisions for line in INVOICES.values())
    assert len(vouchers.INVOICE_LIFE.verbs) == len(decisions)


# ── vouchers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", STATUS_OF)
async def test_every_verb(stage: Stage, state: str) -> None:
    expected = _read(TABLE)[state]
    voucher = await _reach(stage, state)
    await _shows(stage, voucher, state, expected)
    found = {}
    before = await stage.world.digest()
    for verb in VERBS:
        found[verb] = await stage.outcome(verb, voucher)
        after = await stage.world.digest()
        changed = {name for name in before if before[name] != after[name]}
        before = after
        if found[verb] in REFUSALS or found[verb] == "nothing":
            assert changed == set(), f"{verb}: {found[verb]}"
        elif not changed:
            found[verb] = "as it is"
        else:
            assert "journal" in changed, verb
            voucher = await _reach(stage, state)
            before = await stage.world.digest()
    assert found == expected


@pytest.mark.parametrize("state", STATUS_OF)
async def test_what_is_guaranteed_held_and_owed(stage: Stage, state: str) -> None:
    """12,00 € are guaranteed from the request to its end; of an invoice of 11,50 € that much is owed and paid. Once the
    supplier is reimbursed, nothing is due to it."""
    before = await stage.money()
    await _reach(stage, state)
    after = await stage.money()
    status = STATUS_OF[state]
    swept = not state.startswith("too late")
    over = status in ("CANCELLED", "INVOICED", "SETTLED") or (status == "EXPIRED" and swept)
    guaranteed = 0 if over else 12_00
    owed = 11_50 if status in ("INVOICED", "SETTLED") else 0
    received = -before["received"] if status == "SETTLED" else owed
    expected = {"guaranteed": guaranteed, "held": guaranteed, "debt": owed, "received": received}
    assert {name: after[name] - before[name] for name in after} == expected


_STEPS: dict[str, tuple[str, ...]] = {
    "issued": (),
    "too late to reveal": ("time goes by",),
    "expired unrevealed": ("time goes by", "expire"),
    "revealed": ("reveal",),
    "too late to deliver": ("reveal", "time goes by"),
    "expired revealed": ("reveal", "time goes by", "expire"),
    "delivered": ("reveal", "deliver"),
    "delivered in time": ("reveal", "deliver", "time goes by"),
    "blocked": ("reveal", "deliver", "wrong codes"),
    "invoiced": ("reveal", "deliver", "invoice"),
    "blocked invoiced": ("reveal", "deliver", "invoice", "wrong codes"),
    "settled": ("reveal", "deliver", "invoice", "reimburse"),
    "reopened": ("reveal", "deliver", "invoice", "reimburse", "bring back"),
    "cancelled": ("cancel",),
}


async def _reach(stage: Stage, state: str) -> dict[str, Any]:
    """A new voucher, brought into the state by what people and the clock do."""
    voucher = await stage.request(TAKEN_AT)
    for step in _STEPS[state]:
        match step:
            case "time goes by":
                await stage.world.freeze(TOO_LATE_AT)
            case "wrong codes":
                await _block(stage, voucher)
            case "reimburse":
                # With all that other tests have left due, at whatever instant of theirs.
                await stage.world.freeze(TOO_LATE_AT)
                await stage.reimburse()
            case "bring back":
                await stage.bring_back()
            case verb:
                assert await stage.outcome(verb, voucher) in set(VoucherStatus), verb
    return voucher


async def _block(stage: Stage, voucher: dict[str, Any]) -> None:
    shown = await stage.read(voucher)
    wrong = f"{(int(shown['presentation']['secretCode']) + 1) % 10_000:04d}"
    for _ in range(vouchers.WRONG_CODES_BLOCK):
        refused = await stage.supplier.do("verifyVoucher", "", number=shown["number"], secretCode=wrong)
        assert refused["code"] == "BAD_CREDENTIALS"


async def _shows(stage: Stage, voucher: dict[str, Any], state: str, expected: dict[str, str]) -> None:
    """Member and agency see the status, and are offered what the table allows; a code that is drawn is shown again."""
    offered: set[str] = set()
    for client in (stage.member, stage.agency):
        seen = await stage.read(voucher, "allowedActions", by=client)
        assert seen["status"] == STATUS_OF[state]
        offered |= set(seen["allowedActions"])
    for verb, action in (("deliver", "DELIVER"), ("cancel", "CANCEL"), ("unblock", "UNBLOCK")):
        assert (action in offered) == (expected[verb] in set(VoucherStatus)), verb
    assert ("REVEAL_CODE" in offered) == (expected["reveal"] not in REFUSALS)


# ── suppliers' invoices ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", INVOICES)
async def test_every_decision(stage: Stage, state: str) -> None:
    for decision, expected in INVOICES[state].items():
        invoice = await _record(stage, state)
        assert await _status(stage, invoice) == INVOICE_STATUS_OF[state]
        money, before = await stage.money(), await stage.world.digest()
        answer = await _decide(stage, invoice, decision)
        changed = {name for name, digest in (await stage.world.digest()).items() if before[name] != digest}
        paid = 3_50 if expected == "EXCESS_PAID" else 0
        if expected in REFUSALS:
            assert (answer["code"], changed) == (expected, set())
        else:
            assert (answer["decision"], await _status(stage, invoice)) == (decision, expected)
            assert "journal" in changed
        assert await stage.money() == money | {"debt": money["debt"] + paid, "received": money["received"] + paid}


async def _record(stage: Stage, state: str) -> dict[str, Any]:
    """An invoice of 15,50 € for a voucher of 12,00 €, or within its value, brought into the state."""
    voucher = await stage.request(TAKEN_AT)
    for verb in ("reveal", "deliver"):
        await stage.outcome(verb, voucher)
    shown = await stage.read(voucher)
    invoice = await stage.supplier.do(
        "recordSupplierInvoice",
        "... on SupplierInvoice { id }",
        voucherNumber=shown["number"],
        secretCode=shown["presentation"]["secretCode"],
        invoiceNumber=f"F-{next(stage.numbers)}",
        amount="12,00" if state == "within the value" else "15,50",
    )
    if state in ("paid", "refused"):
        assert (await _decide(stage, invoice, state.upper()))["decision"] == state.upper()
    return invoice


async def _decide(stage: Stage, invoice: dict[str, Any], decision: str) -> dict[str, Any]:
    return await stage.agency.do(
        "decideExcess", "... on SupplierInvoice { decision }", supplierInvoiceId=invoice["id"], decision=decision
    )


async def _status(stage: Stage, invoice: dict[str, Any]) -> str:
    rows = await stage.world.as_owner(
        "SELECT status FROM supplier_invoices WHERE tenant = $1 AND id = $2",
        stage.world.tenant,
        read_global_id(invoice["id"])[2],
    )
    return str(rows[0]["status"])
