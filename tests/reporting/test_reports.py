"""Reports through the API, over days in which merchants are reimbursed: what staff and a signatory read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
from openpyxl import load_workbook

from domain import payments, reimbursements, vouchers
from domain.calendar import PARIS
from domain.ledger import AccountKind
from domain.texts import Locale, Text
from escarcelle.clients import Client, Unexpected
from reporting import copy, words
from reporting.excel import Chart, Column, Kind, Workbook
from reporting.flows import FLOWS
from reporting.questions import REPORTS
from tests import workbooks
from tests.flows import cast as of_payments
from tests.flows.test_reimbursements import FILES, JOB, MONDAY, WATCH, Cast, begun, tx
from tests.reporting.stores import AtWork, opened
from tests.world import Running, World

pytestmark = pytest.mark.anyio

REPORT = """query ($kind: ReportKind!, $asOf: DateTime, $since: Date, $merchant: ID, $place: ID, $first: Int! = 100) {
  report(kind: $kind, asOf: $asOf, since: $since, merchantId: $merchant, pointOfSaleId: $place, first: $first) {
    kind title test asOf columns { name kind heading } rows totals totalCount
  }
}"""
STORE = "{ reportingStore { asOf copiedAt ledgerLines operations digest watermark } }"
TUESDAY, WEDNESDAY, THURSDAY = (datetime(2026, 11, day, 10, tzinfo=PARIS).astimezone(UTC) for day in (3, 4, 5))
CLUB = "Canoë Kayak Club Orléans"


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """Monday: two payments of 40 and 30 €, reimbursed; Tuesday: the bank rejects that, and 20 € more are paid;
    Wednesday: all is reimbursed and settled, and 25 € are paid."""
    await world.freeze(MONDAY)
    async with of_payments.assembled(world, running) as everyone:
        cast = await begun(everyone, world, running)
        await cast.account()
        await cast.collect("40,00", "REF1")
        await cast.collect("30,00", "REF2")
        await cast.run()
        await world.freeze(TUESDAY)
        await cast.settle((await cast.all())[0], rejected=True)
        await cast.collect("20,00", "REF3")
        await world.freeze(WEDNESDAY)
        await cast.run("2026-11-03")
        await cast.settle((await cast.all())[0])
        await cast.agency.do(
            "creditHolder", "... on Holder { id }", holderId=world.holders["ines"].global_id, amount="50", reason="x"
        )
        await cast.collect("25,00", "REF4")
        await world.freeze(THURSDAY)
        yield cast


async def copied(cast: Cast) -> None:
    """The night has passed."""
    (issuer,) = copy.issuers(cast.running.settings, cast.world.slug)
    done = await asyncio.to_thread(copy.copy, cast.running.settings, issuer)
    assert done is not None
    await copy.record(cast.running.settings, done)


async def ask(client: Client, kind: str, **given: Any) -> dict[str, Any]:
    """A report."""
    found: dict[str, Any] = (await client.ask(REPORT, kind=kind, **given))["report"]
    return found


async def test_what_merchants_are_owed_and_were_paid_as_of_any_instant(cast: Cast) -> None:
    assert (await cast.agency.ask(STORE))["reportingStore"] is None
    assert (await cast.agency.ask(REPORT, kind="DUE"))["report"] is None
    await copied(cast)
    place = "Canoë Kayak Club – Saint-Jean-le-Blanc"
    now = await ask(cast.agency, "DUE")
    assert (now["title"], now["test"], now["asOf"], now["totalCount"]) == (
        "Dû aux commerçants, non encore remboursé", True, THURSDAY.isoformat(), 1,
    )  # fmt: skip
    assert now["rows"] == [[CLUB, "Demandes de paiement", place, "2026-11-04", "1", "25.00"]]
    assert [column["heading"] for column in now["columns"]] == [
        "Commerçant", "Parcours", "Point de vente", "Depuis le", "Opérations", "Montant",
    ]  # fmt: skip
    for instant, due, paid in (
        (MONDAY, [], [[CLUB, "Transmis à la banque", "1", "70.00", "1.75", "68.25"]]),
        (TUESDAY, ["3", "90.00"], [[CLUB, "Rejeté", "1", "70.00", "1.75", "68.25"]]),
        (WEDNESDAY, ["1", "25.00"], [
            [CLUB, "Rejeté", "1", "70.00", "1.75", "68.25"], [CLUB, "Réglé", "1", "90.00", "2.25", "87.75"],
        ]),
    ):  # fmt: skip
        found = await ask(cast.agency, "DUE", asOf=instant.isoformat())
        assert [row[-2:] for row in found["rows"]] == ([due] if due else []), instant
        assert (await ask(cast.agency, "REIMBURSEMENTS", asOf=instant.isoformat()))["rows"] == paid, instant
    balances = {row[0]: row[2] for row in (await ask(cast.agency, "BALANCES"))["rows"]}
    assert balances == {
        "Valeur mise en circulation": "-175.00", "Portefeuilles": "60.00", "Dû aux commerçants": "25.00",
        "Virements en cours": "0.00", "Payé par la banque": "87.75", "Commissions": "2.25",
    }  # fmt: skip
    monday = await ask(cast.agency, "OUTSTANDING", asOf=MONDAY.isoformat())
    assert [(row[0], row[-1]) for row in monday["rows"]] == [
        ("Virements en cours", "70.00"),
        ("Portefeuilles", "55.00"),
    ]
    assert (await ask(cast.agency, "BREAKAGE"))["rows"] == [], "what the bank sends back is no breakage"


async def test_the_store_says_as_of_when_it_is(cast: Cast) -> None:
    await copied(cast)
    said = (await cast.agency.ask(STORE))["reportingStore"]
    assert said["asOf"] == THURSDAY.isoformat()
    postings = await cast.world.as_owner("SELECT count(*) FROM postings WHERE tenant = $1", cast.world.tenant)
    assert said["ledgerLines"] == postings[0][0]
    assert int(said["watermark"]) > 0 and len(said["digest"]) >= 16


async def test_reimbursements_are_copied_as_they_become_and_verified(cast: Cast) -> None:
    nobody = cast.world.system
    at_work = AtWork(cast.world, cast.running.settings, nobody, nobody)
    at_work.copies()
    steps = (cast.account(), cast.run("2026-11-05"), cast.settle, lambda made: cast.settle(made, rejected=True))
    for step in steps:
        await (step((await cast.all())[0]) if callable(step) else step)
        assert not at_work.copies().anew
        ledger, store = await at_work.ledger(), at_work.store()
        assert {name for name in ledger if ledger[name] != store[name]} == set()
    for spoiled in ("reimbursements SET status = 'SENT'", "reimbursement_lines SET transfer_id = id"):
        at_work.link.resolve().chmod(0o600)
        with duckdb.connect(at_work.link.resolve()) as connection:
            connection.execute(f"UPDATE {spoiled}")
        assert at_work.copies().anew, spoiled


async def test_what_a_bank_says_in_words_stays_out_of_the_store(cast: Cast) -> None:
    for code, kept in (("AC04", "AC04"), ("Compte de Mme Durand clos", None)):
        await cast.run("2026-11-05")
        made = (await cast.all())[0]
        why = f"<Cd>{code}</Cd>" if kept else f"<Prtry>{code}</Prtry>"
        newest = (await cast.agency.ask(FILES))["transferFiles"]["nodes"][0]["reference"]
        said = tx(made["reference"], "RJCT", "XX").replace("<Cd>XX</Cd>", why)
        await cast.answer(cast.report(said, file=newest))
        assert (await cast.all())[0]["rejectionCode"] == code
        await copied(cast)
        (issuer,) = copy.issuers(cast.running.settings, cast.world.slug)
        with opened(copy.place_of(cast.running.settings, issuer).link) as store:
            found = store.execute("SELECT rejection_code FROM reimbursements WHERE reference = ?", [made["reference"]])
            assert found.fetchall() == [(kept,)]


async def test_a_signatory_reads_its_own_merchant_and_nobody_else_reads_anything(cast: Cast) -> None:
    await copied(cast)
    own = await ask(cast.signatory, "DUE")
    assert [row[-1] for row in own["rows"]] == ["25.00"]
    inn = cast.payments.stranger
    assert (await ask(inn, "DUE"))["rows"] == []
    merchants = {code: merchant.global_id for code, merchant in cast.world.merchants.items()}
    assert [row[-1] for row in (await ask(cast.agency, "DUE", merchant=merchants["708900"]))["rows"]] == ["25.00"]
    assert (await ask(cast.agency, "DUE", merchant=merchants["808100"]))["rows"] == []
    for kind, report in REPORTS.items():
        if not report.for_merchants:
            with pytest.raises(Unexpected, match="FORBIDDEN"):
                await ask(cast.signatory, kind.upper())
            with pytest.raises(Unexpected, match="INVALID"):
                await ask(cast.agency, kind.upper(), merchant=merchants["708900"])
    with pytest.raises(Unexpected, match="NOT_FOUND"):
        await ask(inn, "DUE", merchant=merchants["708900"])
    with pytest.raises(Unexpected, match="NOT_FOUND"):
        await ask(inn, "DUE", place=cast.world.places["P001"].global_id)
    for client in (cast.payments.till, cast.payments.ines):
        with pytest.raises(Unexpected, match="FORBIDDEN"):
            await ask(client, "DUE")
        with pytest.raises(Unexpected, match="FORBIDDEN"):
            await client.ask(STORE)


async def test_days_limit_a_report_and_pages_cut_it(cast: Cast) -> None:
    await copied(cast)
    assert (await ask(cast.agency, "OPERATIONS", since="2026-11-06"))["rows"] == []
    first = await ask(cast.agency, "OPERATIONS", first=2)
    assert len(first["rows"]) == 2 < first["totalCount"]


async def test_G5_a_report_as_a_workbook_with_a_chart_and_as_text(cast: Cast) -> None:
    await copied(cast)
    job = await exported(cast, cast.agency, kind="REIMBURSEMENTS")
    answer = await cast.get(job["downloadUrl"])
    assert answer.headers["content-disposition"] == 'attachment; filename="rapport-reimbursements-2026-11-05.xlsx"'
    book = load_workbook(BytesIO(answer.content))
    assert book.sheetnames == ["Remboursements par commerçant", "Graphique"]
    sheet = book.worksheets[0]
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows[0] == ["Commerçant", "Statut", "Remboursements", "Brut", "Commission", "Net"]
    assert rows[1:3] == [[CLUB, "Rejeté", 1, 70, 1.75, 68.25], [CLUB, "Réglé", 1, 90, 2.25, 87.75]]
    assert rows[3][0] == "Total" and rows[3][2] == "=SUBTOTAL(109,C2:C3)"
    assert (sheet["C2"].number_format, sheet["D2"].number_format) == ("#,##0", "#,##0.00 €")
    assert len(book.chartsheets) == 1
    assert workbooks.bars(answer.content) == ("Net", [(CLUB, 68.25), (CLUB, 87.75)])
    old = await exported(cast, cast.signatory, kind="DUE", format="CSV", asOf=TUESDAY.isoformat())
    assert (await cast.get(old["downloadUrl"])).content.decode("utf-8-sig").splitlines()[1].endswith(";3;90,00")
    async with cast.world.unchanged():
        for client in (cast.payments.till, cast.payments.ines):
            refused = await client.do("exportReport", "... on Job { id }", kind="DUE")
            assert refused["code"] == "FORBIDDEN"
        assert (await cast.signatory.do("exportReport", "... on Job { id }", kind="BALANCES"))["code"] == "FORBIDDEN"


def test_a_chart_holds_the_first_rows_whatever_their_names(tmp_path: Path) -> None:
    """Names are text even when they look like numbers, and nothing in them ends the file."""
    names = ["nan", "12", "1e5", "<&\x01>", None, "=A1", *(f"Club {n}" for n in range(60))]
    columns = [
        Column(Text("Commerçant", "Merchant"), 30),
        Column(Text("Nombre", "Count"), 10, Kind.COUNT),
        Column(Text("Net", "Net"), 10, Kind.AMOUNT),
    ]
    for lengths, name, expected in ((1, "Count", [0.0, 100, 200]), (2, "Net", [None, 1.0, 2.0])):
        path = tmp_path / f"{name}.xlsx"
        chart = Chart(0, lengths)
        file = Workbook(path, Text("Un titre", "A title"), columns, Locale.EN, made_at=MONDAY, chart=chart)
        file.write([label, 100 * n, 100 * n if n else None] for n, label in enumerate(names))
        file.close()
        drawn, bars = workbooks.bars(path.read_bytes())
        assert (drawn, len(bars)) == (name, 40)
        assert [label for label, _ in bars[:7]] == ["nan", "12", "1e5", "<& >", "", "=A1", "Club 0"]
        assert [length for _, length in bars[:3]] == expected


async def test_a_report_as_a_file_is_whole_or_refused(cast: Cast) -> None:
    await copied(cast)
    for days, becomes in ((12_000, "DONE"), (200_000, "FAILED")):
        await asyncio.to_thread(_fill, cast, days)
        job = await exported(cast, cast.agency, becomes, kind="OPERATIONS", format="CSV")
        if becomes == "DONE":
            assert job["done"] > 12_000 and job["problems"] == []
            assert len((await cast.get(job["downloadUrl"])).content.splitlines()) == job["done"] + 1
        else:
            assert "un fichier 200000 au plus" in job["problems"][0]["message"]


def _fill(cast: Cast, days: int) -> None:
    """An operation on each of so many days until now."""
    (issuer,) = copy.issuers(cast.running.settings, cast.world.slug)
    store = copy.place_of(cast.running.settings, issuer).link.resolve()
    store.chmod(0o640)
    with duckdb.connect(store) as connection:
        connection.execute(
            "INSERT INTO operations (id, sequence, kind, subject_kind, subject_id, happened_at, day)"
            " SELECT uuid(), -n, o.kind, o.subject_kind, o.subject_id, o.happened_at - INTERVAL 1 DAY * n, o.day - n"
            " FROM (FROM operations WHERE kind = 'preq.pay' LIMIT 1) o,"
            f" (SELECT unnest(range(1, {days} + 1))::INTEGER AS n)"
        )


async def exported(cast: Cast, client: Client, becomes: str = "DONE", **given: Any) -> dict[str, Any]:
    """The job, over."""
    state = await client.do("exportReport", f"... on Job {{ {JOB} }}", **given)
    assert state["kind"] == "EXPORT_REPORT", state
    async with asyncio.timeout(60), client.subscribe(WATCH, id=state["id"]) as events:
        async for event in events:
            state = event["job"]
    assert state["status"] == becomes, state
    return state


def test_every_code_has_a_word() -> None:
    """But for what the journal says of things that no flow is about."""
    assert set(words.ACCOUNT_KINDS) == set(AccountKind)
    assert set(words.FLOWS) == {flow.name for flow in FLOWS} | {"wallets"}
    assert set(words.STATUSES) == {*payments.PaymentRequestStatus, *reimbursements.ReimbursementStatus}
    assert set(words.VARIANTS) == set(payments.PaymentFlow)
    for machine, prefix in ((payments.LIFE, "preq"), (vouchers.LIFE, "vchr"), (reimbursements.LIFE, "reim")):
        # A payment that is reserved is told as a payment too.
        told = {f"{prefix}.{verb}" for verb in machine.verbs} - {"preq.reserve"}
        assert told - set(words.OPERATIONS) == set()
