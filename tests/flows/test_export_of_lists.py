"""Exports of every other list: the rows of the screen, for whoever sees it, as numbers, dates and percentages (G5)."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import httpx
import openpyxl
import pytest

from domain.access import Right, Role
from domain.calendar import PARIS
from domain.codes import read_global_id
from domain.parties import Address
from domain.reimbursements import ReimbursedFlow
from domain.texts import Locale, Text
from escarcelle import database as escarcelle_database
from escarcelle.clients import Client
from reporting.excel import Cell, Column, Kind, SemicolonText, Workbook
from reporting.parquet import Parquet
from tasks.listings import LISTINGS
from tests.flows.cast import Cast as Payments
from tests.flows.files import JOB, finished, lines_of, rows_of, sheet_of
from tests.world import PASSWORD, Running, World

pytestmark = pytest.mark.anyio

MONDAY = datetime(2026, 11, 2, 10, tzinfo=PARIS).astimezone(UTC)
WALL = datetime(2026, 11, 2, 10)  # noqa: DTZ001 — a sheet knows no zones
MONEY, INSTANT, DAY, SHARE = "#,##0.00 €", "dd/mm/yyyy hh:mm", "dd/mm/yyyy", "0.00%"
VOUCHER = "... on Voucher { id number presentation { secretCode } }"
PAUL, ANNA = "44001234B", "44005678C"
KINDS = (
    "PAYMENT_REQUESTS", "VOUCHERS", "SUPPLIER_INVOICES", "MEMBER_STATEMENTS", "REIMBURSEMENTS", "HOLDERS", "JOURNAL",
)  # fmt: skip
HEADINGS = {
    "VOUCHERS": [
        "Émis le", "N° de bon", "Type", "Statut", "Valeur", "N° d’adhérent", "Nom", "Prénom", "Code fournisseur",
        "Fournisseur", "Valable jusqu’au", "Code secret affiché le", "Livré le", "Bloqué le",
    ],
    "SUPPLIER_INVOICES": [
        "Enregistrée le", "N° de facture", "Statut", "Montant", "Dépassement", "N° de bon", "Type", "Valeur du bon",
        "Statut du bon", "N° d’adhérent", "Nom", "Prénom", "Code fournisseur", "Fournisseur",
    ],
    "MEMBER_STATEMENTS": ["Établi le", "Mois", "N° d’adhérent", "Nom", "Prénom", "Total", "Envoyé par"],
    "REIMBURSEMENTS": [
        "Créé le", "Référence", "Statut", "Code établissement", "Établissement", "Début de période", "Fin de période",
        "Montant dû", "Commission", "Part de commission", "Net à payer", "Échéance", "Transmis le", "Réglé le",
        "Code de rejet", "Motif de rejet",
    ],
    "HOLDERS": [
        "Référence", "Nom", "Prénom", "E-mail", "Mobile", "Rue", "Code postal", "Ville", "Pays", "Solde", "Adhésion le",
        "Cotisation jusqu’au", "Relevés par",
    ],
    "JOURNAL": ["Date", "Événement", "Montant", "Objet", "Utilisateur", "Porteur", "Point d’accueil"],
}  # fmt: skip


@dataclass
class Cast:
    """The cast of payment requests; two members, Paul Martin and Anna Durand; a supplier's signatory, its accountant
    who may export, and its clerk who may not."""

    payments: Payments
    world: World
    running: Running
    paul: Client
    anna: Client
    supplier: Client
    accountant: Client
    clerk: Client

    @property
    def agency(self) -> Client:
        """The issuer's agent."""
        return self.payments.agent

    async def at(self, minutes: int) -> None:
        """So many minutes after Monday, ten o'clock in Paris."""
        await self.world.freeze(MONDAY + timedelta(minutes=minutes))

    async def request(self, by: Client, amount: str) -> dict[str, Any]:
        """A voucher for Matériaux de l'Ouest."""
        return await by.do("requestVoucher", VOUCHER, supplierId=self.world.merchants["MO"].global_id, amount=amount)

    async def delivered(self, by: Client, amount: str) -> tuple[str, str]:
        """The number and the code of a voucher that was presented."""
        voucher = await self.request(by, amount)
        await by.do("revealVoucherCode", VOUCHER, id=voucher["id"])
        voucher = await by.do("deliverVoucher", VOUCHER, id=voucher["id"])
        return voucher["number"], voucher["presentation"]["secretCode"]

    async def bill(self, by: Client, amount: str, invoiced: str, number: str) -> dict[str, Any]:
        """A voucher's invoice."""
        voucher, code = await self.delivered(by, amount)
        given = {"voucherNumber": voucher, "secretCode": code, "invoiceNumber": number, "amount": invoiced}
        return await self.supplier.do("recordSupplierInvoice", "... on SupplierInvoice { id }", **given)

    async def done(self, by: Client, mutation: str, **given: Any) -> dict[str, Any]:
        """A job of the agency's, once it is over."""
        job = await by.do(mutation, f"... on Job {{ {JOB} }}", **given)
        state = await finished(by, job)
        assert (state["status"], state["problems"]) == ("DONE", []), state
        return state

    async def refused(self, by: Client, kind: str, **given: Any) -> dict[str, Any]:
        """What an export is refused with."""
        return await by.do("createExport", f"... on Job {{ {JOB} }}", kind=kind, **given)

    async def exported(self, kind: str, by: Client | None = None, **given: Any) -> bytes:
        """The file of an export, the agency's unless said otherwise."""
        state = await self.done(by or self.agency, "createExport", kind=kind, **given)
        assert state["kind"] == f"EXPORT_{kind}"
        async with httpx.AsyncClient(base_url=self.running.url, timeout=30) as http:
            answer = await http.get(urlsplit(state["downloadUrl"]).path)
        assert answer.status_code == 200
        return answer.content

    async def column(self, kind: str, heading: str, by: Client | None = None, **given: Any) -> list[Any]:
        """What stands in one column."""
        return [row[heading] for row in rows_of(await self.exported(kind, by, **given))]

    async def screen(self, field: str, shown: str, by: Client | None = None) -> list[Any]:
        """What a list shows, such as `holders(search: "x")`."""
        data = await (by or self.agency).ask(f"{{ list: {field} {{ nodes {{ {shown} }} }} }}")
        return [next(iter(node.values())) for node in data["list"]["nodes"]]


@pytest.fixture
async def cast(cast: Payments, world: World, running: Running) -> AsyncIterator[Cast]:
    """Everyone on Monday, 2 November 2026; the agency keeps 2.5 % of payment requests."""
    await world.voucher_kind()
    await world.merchant("MO", "Matériaux de l’Ouest", {"C1": "Comptoir de Nantes"})
    await world.user("mo", Role.MERCHANT_MANAGER, merchant="MO")
    await world.user("comptable", Role.MERCHANT_STAFF, merchant="MO", grants={"C1": frozenset({Right.EXPORT})})
    await world.user("comptoir", Role.MERCHANT_STAFF, merchant="MO", grants={"C1": frozenset({Right.COLLECT})})
    await world.member(PAUL, "Martin", email="paul@example.com")
    await world.member(ANNA, "Durand", email="anna@example.com")
    await world.freeze(MONDAY)
    async with AsyncExitStack() as stack:
        for reference in (PAUL, ANNA):
            await world.user(reference, Role.HOLDER, holder=reference)
        clients = [
            await stack.enter_async_context(await running.client(world, login))
            for login in (PAUL, ANNA, "mo", "comptable", "comptoir")
        ]
        yield Cast(cast, world, running, *clients)


@pytest.fixture
async def terms(cast: Cast) -> Cast:
    """The same, with what reimbursements take."""
    settings, slug = cast.world.servers.settings, cast.world.slug
    await escarcelle_database.put_terms(settings, slug, ReimbursedFlow.PAYMENT_REQUESTS, date(2019, 1, 1), "2.5", 5)
    address = Address("1 place de l’Église", "45000", "Orléans")
    iban, name = "FR1420041010050500013M02606", "Agence du Temps Libre"
    await escarcelle_database.put_paying_account(settings, slug, iban, None, name, address)
    return cast


# ── vouchers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_G5_vouchers_with_their_numbers_and_never_a_code(cast: Cast) -> None:
    await cast.request(cast.paul, "123,01")
    await cast.at(1)
    number, code = await cast.delivered(cast.anna, "60")

    content = await cast.exported("VOUCHERS")
    sheet = sheet_of(content)
    assert sheet.title == "Bons"
    assert [cell.value for cell in sheet[1]] == HEADINGS["VOUCHERS"]
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:N3")
    common = {"Type": "Bon web", "Code fournisseur": "MO", "Fournisseur": "Matériaux de l’Ouest", "Prénom": None}
    valid_until = datetime(2026, 12, 2)  # noqa: DTZ001
    at = WALL + timedelta(minutes=1)
    assert rows_of(content) == [
        common
        | {
            "Émis le": at, "N° de bon": number, "Statut": "11-livré", "Valeur": 60, "N° d’adhérent": ANNA,
            "Nom": "Durand", "Valable jusqu’au": valid_until, "Code secret affiché le": at, "Livré le": at,
            "Bloqué le": None,
        },
        common
        | {
            "Émis le": WALL, "N° de bon": None, "Statut": "1-EMIS", "Valeur": 124, "N° d’adhérent": PAUL,
            "Nom": "Martin", "Valable jusqu’au": valid_until, "Code secret affiché le": None, "Livré le": None,
            "Bloqué le": None,
        },
    ]  # fmt: skip
    formats = {heading: cell.number_format for heading, cell in zip(HEADINGS["VOUCHERS"], sheet[2], strict=True)}
    assert (formats["Émis le"], formats["Valeur"], formats["Valable jusqu’au"]) == (INSTANT, MONEY, DAY)
    assert sheet["E4"].value == "=SUBTOTAL(109,E2:E3)"
    assert sheet_of(content, computed=True)["E4"].value == 184
    text = lines_of(await cast.exported("VOUCHERS", format="CSV"))
    assert [row["Valeur"] for row in text] == ["60,00", "124,00"]
    assert code not in [value for row in text for value in row.values()]


async def test_vouchers_are_those_of_the_screen_in_its_order(cast: Cast) -> None:
    for minutes, amount in ((0, "50"), (1, "70"), (2, "60")):
        await cast.at(minutes)
        await cast.request(cast.paul, amount)
    await cast.at(3)
    await cast.delivered(cast.anna, "40")
    for given, field, values in (
        ({}, "vouchers", [40, 60, 70, 50]),
        ({"voucherOrder": "OLDEST"}, "vouchers(orderBy: OLDEST)", [50, 70, 60, 40]),
        ({"voucherOrder": "VALUE"}, "vouchers(orderBy: VALUE)", [70, 60, 50, 40]),
        ({"vouchers": {"status": ["DELIVERED"]}}, "vouchers(status: [DELIVERED])", [40]),
        ({"vouchers": {"status": []}}, "vouchers(status: [])", []),
        ({"vouchers": {"search": "1-EMIS"}}, 'vouchers(search: "1-EMIS")', [60, 70, 50]),
        ({"vouchers": {"search": "70"}, "voucherOrder": "STATUS"}, 'vouchers(search: "70", orderBy: STATUS)', [70]),
    ):
        seen = [value["amount"] for value in await cast.screen(field, "value { amount }")]
        assert await cast.column("VOUCHERS", "Valeur", **given) == values == [float(value) for value in seen], given
    await cast.world.freeze(MONDAY + timedelta(days=40))
    lapsed = await cast.column("VOUCHERS", "Valeur", vouchers={"status": ["EXPIRED"]}, voucherOrder="VALUE")
    assert lapsed == [70, 60, 50], "though no worker has swept them"


async def test_days_of_a_list_are_days_in_paris_both_included(cast: Cast) -> None:
    for amount, at in ((40, (1, 22, 59)), (50, (1, 23, 0)), (60, (3, 22, 59)), (70, (3, 23, 0))):
        day, hour, minute = at
        await cast.world.freeze(datetime(2026, 11, day, hour, minute, tzinfo=UTC))
        await cast.request(cast.paul, str(amount))
    assert await cast.column("VOUCHERS", "Valeur", since="2026-11-02", until="2026-11-03") == [60, 50]
    assert await cast.column("VOUCHERS", "Valeur", since="2026-11-04") == [70]
    assert await cast.column("VOUCHERS", "Valeur", until="2026-11-01") == [40]


async def test_G6_who_speaks_english_gets_english_headings_and_words(cast: Cast) -> None:
    await cast.request(cast.paul, "50")
    english = await cast.running.client(cast.world, "agent", language="en")
    async with english:
        sheet = sheet_of(await cast.exported("VOUCHERS", english, vouchers={"search": "1-issued"}))
        assert (sheet.title, sheet["A1"].value, sheet["D1"].value, sheet["D2"].value) == (
            "Vouchers", "Issued", "Status", "1-ISSUED",
        )  # fmt: skip
        for kind, title, heading in (
            ("SUPPLIER_INVOICES", "Supplier invoices", "Recorded"),
            ("MEMBER_STATEMENTS", "Member statements", "Issued"),
            ("REIMBURSEMENTS", "Reimbursements", "Created"),
            ("HOLDERS", "Holders", "Reference"),
            ("JOURNAL", "Journal", "Date"),
        ):
            sheet = sheet_of(await cast.exported(kind, english, **_no_rows(kind)))
            assert (sheet.title, sheet["A1"].value, sheet.max_row) == (title, heading, 1), kind


async def test_an_empty_list_is_a_file_with_headings(cast: Cast, tmp_path: Path) -> None:
    for kind, headings in HEADINGS.items():
        sheet = sheet_of(await cast.exported(kind, **_no_rows(kind)))
        assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [headings]
        assert _typed(await cast.exported(kind, format="PARQUET", **_no_rows(kind)), tmp_path).rows == []


def _no_rows(kind: str) -> dict[str, Any]:
    """Conditions under which nothing is left."""
    return {"holders": {"search": "nobody"}} if kind == "HOLDERS" else {"until": "2019-12-31"}


# ── invoices and statements ───────────────────────────────────────────────────────────────────────────────────────────


async def test_G5_invoices_are_the_suppliers_own_and_all_for_the_agency(cast: Cast) -> None:
    await cast.bill(cast.paul, "100", "100,00", "F-1")
    await cast.at(1)
    await cast.bill(cast.anna, "80", "95,50", "F-2")

    content = await cast.exported("SUPPLIER_INVOICES")
    assert [cell.value for cell in sheet_of(content)[1]] == HEADINGS["SUPPLIER_INVOICES"]
    numbers = await cast.screen("supplierInvoices", "voucher { number }")
    supplier = {"Type": "Bon web", "Code fournisseur": "MO", "Fournisseur": "Matériaux de l’Ouest", "Prénom": None}
    rows = [
        supplier
        | {
            "Enregistrée le": WALL + timedelta(minutes=1), "N° de facture": "F-2", "Statut": "Dépassement à décider",
            "Montant": 95.5, "Dépassement": 15.5, "N° de bon": numbers[0]["number"], "Valeur du bon": 80,
            "Statut du bon": "12-facturé", "N° d’adhérent": ANNA, "Nom": "Durand",
        },
        supplier
        | {
            "Enregistrée le": WALL, "N° de facture": "F-1", "Statut": "Enregistrée", "Montant": 100, "Dépassement": 0,
            "N° de bon": numbers[1]["number"], "Valeur du bon": 100, "Statut du bon": "12-facturé",
            "N° d’adhérent": PAUL, "Nom": "Martin",
        },
    ]  # fmt: skip
    assert rows_of(content) == rows
    totals = sheet_of(content, computed=True)[4]
    assert [totals[n].value for n in (0, 3, 4, 7)] == ["Total", 195.5, 15.5, 180]
    for by in (cast.supplier, cast.accountant):
        assert rows_of(await cast.exported("SUPPLIER_INVOICES", by)) == rows
    assert rows_of(await cast.exported("SUPPLIER_INVOICES", cast.payments.stranger)) == []
    for given, numbers in (
        ({"withExcess": True}, ["F-2"]),
        ({"withExcess": False}, ["F-1"]),
        ({"search": "f-1"}, ["F-1"]),
    ):
        assert await cast.column("SUPPLIER_INVOICES", "N° de facture", supplierInvoices=given) == numbers
    async with cast.world.unchanged():
        assert (await cast.refused(cast.clerk, "SUPPLIER_INVOICES"))["code"] == "FORBIDDEN", "no right to export"


async def test_G5_statements_name_their_members(cast: Cast) -> None:
    address = {"street": "12 rue des Acacias", "postcode": "44000", "town": "Nantes", "country": "FR"}
    wants = {"id": cast.world.holders[ANNA].global_id, "statementBy": "POST", "postalAddress": address}
    await cast.agency.do("updateHolder", "... on Holder { id }", **wants)
    await cast.bill(cast.paul, "100", "90,00", "F-1")
    await cast.bill(cast.anna, "80", "80,00", "F-2")
    await cast.done(cast.agency, "issueMemberStatements", month="2026-11-30")
    sheet = sheet_of(await cast.exported("MEMBER_STATEMENTS"))
    assert [cell.value for cell in sheet[1]] == HEADINGS["MEMBER_STATEMENTS"]
    rows = rows_of(await cast.exported("MEMBER_STATEMENTS"))
    common = {"Établi le": WALL, "Mois": "2026-11", "Prénom": None}
    # Both were issued at one instant; the identifier decides, as on the screen.
    assert [row["Total"] for row in rows] == [
        float(total["amount"]) for total in await cast.screen("memberStatements", "total { amount }")
    ]
    assert sorted(rows, key=lambda row: str(row["Nom"])) == [
        common | {"N° d’adhérent": ANNA, "Nom": "Durand", "Total": 80, "Envoyé par": "Courrier"},
        common | {"N° d’adhérent": PAUL, "Nom": "Martin", "Total": 90, "Envoyé par": "E-mail"},
    ]
    assert sheet["F4"].value == "=SUBTOTAL(109,F2:F3)"
    assert await cast.column("MEMBER_STATEMENTS", "Nom", since="2026-11-03") == []


# ── reimbursements ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_G5_reimbursements_with_the_commission_as_a_percentage(terms: Cast) -> None:
    cast, payments = terms, terms.payments
    account = {"currentPassword": PASSWORD, "iban": "FR7630006000011234567890189", "accountHolder": "Canoë"}
    await payments.signatory.do("updateBankAccount", "... on Merchant { name }", **account)
    await payments.pay(await payments.ask("40,00", basketNumber="REF1"))
    await payments.pay(await payments.ask("20,02", basketNumber="REF2"))
    await cast.bill(cast.paul, "100", "100,00", "F-1")
    await cast.done(cast.agency, "runReimbursements", through="2026-11-02")

    content = await cast.exported("REIMBURSEMENTS")
    sheet = sheet_of(content)
    assert [cell.value for cell in sheet[1]] == HEADINGS["REIMBURSEMENTS"]
    monday, due = datetime(2026, 11, 2), datetime(2026, 11, 9)  # noqa: DTZ001
    found = {row["Code établissement"]: row for row in rows_of(content)}
    assert found["708900"] == {
        "Créé le": WALL, "Référence": found["708900"]["Référence"], "Statut": "Transmis à la banque",
        "Code établissement": "708900", "Établissement": "Canoë Kayak Club Orléans", "Début de période": monday,
        "Fin de période": monday, "Montant dû": 60.02, "Commission": 1.5, "Part de commission": 0.024992,
        "Net à payer": 58.52, "Échéance": due, "Transmis le": WALL, "Réglé le": None, "Code de rejet": None,
        "Motif de rejet": None,
    }  # fmt: skip
    assert {name: found["MO"][name] for name in ("Statut", "Montant dû", "Part de commission", "Net à payer")} == {
        "Statut": "À transmettre", "Montant dû": 100, "Part de commission": 0, "Net à payer": 100,
    }  # fmt: skip
    formats = {heading: cell.number_format for heading, cell in zip(HEADINGS["REIMBURSEMENTS"], sheet[2], strict=True)}
    assert formats["Part de commission"] == SHARE
    assert {formats[heading] for heading in ("Début de période", "Fin de période", "Échéance")} == {DAY}
    assert [sheet[4][n].value for n in (7, 8, 9, 10)] == [
        "=SUBTOTAL(109,H2:H3)", "=SUBTOTAL(109,I2:I3)", None, "=SUBTOTAL(109,K2:K3)",
    ]  # fmt: skip
    references = await cast.column("REIMBURSEMENTS", "Référence")
    assert references == await cast.screen("reimbursements", "reference")
    shares = {
        row["Code établissement"]: row["Part de commission"]
        for row in lines_of(await cast.exported("REIMBURSEMENTS", format="CSV"))
    }
    assert shares == {"708900": "2,50%", "MO": "0,00%"}

    column = "Code établissement"
    assert await cast.column("REIMBURSEMENTS", column, payments.signatory) == ["708900"], "its own"
    assert await cast.column("REIMBURSEMENTS", column, cast.supplier) == ["MO"]
    assert await cast.column("REIMBURSEMENTS", column, payments.stranger) == []
    assert await cast.column("REIMBURSEMENTS", column, reimbursements={"status": "PENDING"}) == ["MO"]
    assert await cast.column("REIMBURSEMENTS", column, until="2026-11-01") == []


# ── holders and the journal ───────────────────────────────────────────────────────────────────────────────────────────


async def test_G5_holders_by_name_and_text_is_never_a_formula(cast: Cast) -> None:
    address = {"street": "=1+1", "postcode": "01000", "town": "Bourg", "country": "FR"}
    changes = {"postalAddress": address, "mobile": "+33 6 12", "firstName": "@SUM(A1)", "statementBy": "POST"}
    await cast.agency.do("updateHolder", "... on Holder { id }", id=cast.world.holders[PAUL].global_id, **changes)
    content = await cast.exported("HOLDERS")
    sheet = sheet_of(content)
    assert [cell.value for cell in sheet[1]] == HEADINGS["HOLDERS"]
    rows = rows_of(content)
    assert [row["Référence"] for row in rows] == await cast.screen("holders", "reference")
    assert {row["Référence"]: row["Solde"] for row in rows} == {"ines": 100, "eric": 25, PAUL: 0, ANNA: 0}
    (paul,) = [row for row in rows if row["Référence"] == PAUL]
    assert paul == {
        "Référence": PAUL, "Nom": "Martin", "Prénom": "@SUM(A1)", "E-mail": "paul@example.com", "Mobile": "+33 6 12",
        "Rue": "=1+1", "Code postal": "01000", "Ville": "Bourg", "Pays": "FR", "Solde": 0,
        "Adhésion le": datetime(2020, 1, 1), "Cotisation jusqu’au": datetime(2099, 12, 31),  # noqa: DTZ001
        "Relevés par": "Courrier",
    }  # fmt: skip
    place = rows.index(paul) + 2
    assert {sheet[f"{column}{place}"].data_type for column in "CEFG"} == {"s"}
    assert sheet["J6"].value == "=SUBTOTAL(109,J2:J5)"
    text = {row["Référence"]: row for row in lines_of(await cast.exported("HOLDERS", format="CSV"))}
    assert [text[PAUL][name] for name in ("Prénom", "Mobile", "Rue", "Solde")] == [
        "'@SUM(A1)", "'+33 6 12", "'=1+1", "0,00",
    ]  # fmt: skip
    assert await cast.column("HOLDERS", "Référence", holders={"search": "durand"}) == await cast.screen(
        'holders(search: "durand")', "reference"
    )
    async with cast.world.unchanged():
        for day in ("since", "until"):
            refused = await cast.refused(cast.agency, "HOLDERS", **{day: "2026-11-02"})
            assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", day])


async def test_the_journal_is_the_agencys_and_holds_references(cast: Cast) -> None:
    request = await cast.payments.ask("40,00")
    await cast.at(1)
    await cast.payments.pay(request)
    await cast.at(2)
    sheet = sheet_of(await cast.exported("JOURNAL", since="2026-11-02", until="2026-11-02"))
    assert [cell.value for cell in sheet[1]] == HEADINGS["JOURNAL"]
    rows = [row for row in rows_of(await cast.exported("JOURNAL")) if row["Objet"] == request["id"]]
    common = {"Objet": request["id"], "Point d’accueil": "P001", "Montant": 40}
    assert rows == [
        common
        | {
            "Date": WALL + timedelta(minutes=1), "Événement": "preq.pay", "Utilisateur": "ines",
            "Porteur": cast.world.holders["ines"].global_id,
        },
        common | {"Date": WALL, "Événement": "preq.create", "Utilisateur": "p001", "Porteur": None},
    ]  # fmt: skip
    assert read_global_id(rows[0]["Objet"])[0] == "preq"
    (paid,) = [row for row in sheet.iter_rows(min_row=2) if row[1].value == "preq.pay"]
    assert [cell.number_format for cell in paid[:3]] == [INSTANT, "@", MONEY]
    kinds = await cast.column("JOURNAL", "Événement", until="2026-11-01")
    assert "preq.create" not in kinds
    (lines,) = await cast.world.as_owner("SELECT count(*) FROM journal WHERE tenant = $1", cast.world.tenant)
    total = await cast.column("JOURNAL", "Date")
    # The export's own first lines are there when it begins.
    assert len(total) == lines["count"] + 2
    assert total == sorted(total, reverse=True)


# ── who may, and what may be asked ────────────────────────────────────────────────────────────────────────────────────


async def test_a_list_that_its_user_does_not_see_is_refused_and_nothing_changes(cast: Cast) -> None:
    payments = cast.payments
    staff_only = ("VOUCHERS", "MEMBER_STATEMENTS", "HOLDERS", "JOURNAL")
    async with cast.world.unchanged():
        for kind in staff_only:
            for by in (payments.signatory, cast.supplier, cast.accountant, cast.clerk):
                assert (await cast.refused(by, kind))["code"] == "FORBIDDEN", kind
        for by in (payments.till, cast.accountant, cast.clerk):
            assert (await cast.refused(by, "REIMBURSEMENTS"))["code"] == "FORBIDDEN"
        for kind in KINDS:
            for by in (cast.paul, payments.ines):
                assert (await cast.refused(by, kind))["code"] == "FORBIDDEN", kind


async def test_a_condition_of_another_list_is_refused_and_nothing_changes(cast: Cast) -> None:
    place = cast.world.places["P001"].global_id
    conditions: dict[str, tuple[str, Any]] = {
        "paymentRequests": ("PAYMENT_REQUESTS", {"search": "x"}),
        "orderBy": ("PAYMENT_REQUESTS", "AMOUNT"),
        "pointOfSaleId": ("PAYMENT_REQUESTS", place),
        "vouchers": ("VOUCHERS", {"search": "x"}),
        "voucherOrder": ("VOUCHERS", "VALUE"),
        "supplierInvoices": ("SUPPLIER_INVOICES", {"withExcess": True}),
        "reimbursements": ("REIMBURSEMENTS", {"status": "SENT"}),
        "holders": ("HOLDERS", {"search": "x"}),
    }
    async with cast.world.unchanged():
        for field, (owner, value) in conditions.items():
            for kind in KINDS:
                if kind != owner:
                    refused = await cast.refused(cast.agency, kind, **{field: value})
                    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", field]), kind


# ── Parquet ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PARQUET = {
    "PAYMENT_REQUESTS": (
        "TIMESTAMP WITH TIME ZONE, VARCHAR, VARCHAR, VARCHAR, DECIMAL(18,2), DECIMAL(18,2), DECIMAL(18,2),"
        " DECIMAL(18,2), DECIMAL(18,2), VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR,"
        " TIMESTAMP WITH TIME ZONE, TIMESTAMP WITH TIME ZONE, DATE"
    ),
    "VOUCHERS": (
        "TIMESTAMP WITH TIME ZONE, VARCHAR, VARCHAR, VARCHAR, DECIMAL(18,2), VARCHAR, VARCHAR, VARCHAR, VARCHAR,"
        " VARCHAR, DATE, TIMESTAMP WITH TIME ZONE, TIMESTAMP WITH TIME ZONE, TIMESTAMP WITH TIME ZONE"
    ),
    "SUPPLIER_INVOICES": (
        "TIMESTAMP WITH TIME ZONE, VARCHAR, VARCHAR, DECIMAL(18,2), DECIMAL(18,2), VARCHAR, VARCHAR, DECIMAL(18,2),"
        " VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR"
    ),
    "MEMBER_STATEMENTS": "TIMESTAMP WITH TIME ZONE, VARCHAR, VARCHAR, VARCHAR, VARCHAR, DECIMAL(18,2), VARCHAR",
    "REIMBURSEMENTS": (
        "TIMESTAMP WITH TIME ZONE, VARCHAR, VARCHAR, VARCHAR, VARCHAR, DATE, DATE, DECIMAL(18,2), DECIMAL(18,2),"
        " DECIMAL(9,6), DECIMAL(18,2), DATE, TIMESTAMP WITH TIME ZONE, TIMESTAMP WITH TIME ZONE, VARCHAR, VARCHAR"
    ),
    "HOLDERS": (
        "VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, VARCHAR, DECIMAL(18,2), DATE, DATE,"
        " VARCHAR"
    ),
    "JOURNAL": "TIMESTAMP WITH TIME ZONE, VARCHAR, DECIMAL(18,2), VARCHAR, VARCHAR, VARCHAR, VARCHAR",
}


async def test_every_list_as_parquet_has_types_and_the_rows_of_the_workbook(terms: Cast, tmp_path: Path) -> None:
    cast, payments = terms, terms.payments
    deferred: dict[str, Any] = {
        "customerIdentifier": "ines@example.com",
        "paymentDeadline": "2026-11-12",
        "label": "=1+1",
    }
    await payments.ask("80,00", basketNumber="B", **deferred)
    await payments.ask("50,00", basketNumber="C", customerIdentifier="ines", validationDays=2)
    token = await cast.world.as_owner("SELECT token FROM payment_requests WHERE basket_number = 'C'")
    await payments.pay(str(token[0]["token"]), "30,00")
    await payments.pay(await payments.ask("40,00", basketNumber="D"))
    await cast.bill(cast.paul, "100", "110,50", "F-1")
    await cast.bill(cast.anna, "100", "90,50", "F-2")
    await cast.done(cast.agency, "issueMemberStatements", month="2026-11-30")
    await cast.done(cast.agency, "runReimbursements", through="2026-11-02")
    await cast.world.freeze(MONDAY + timedelta(hours=2))
    for kind in KINDS:
        # Later are the lines of before the clock was set, whose instants a sheet rounds.
        given: dict[str, Any] = {"until": "2026-11-02"} if kind == "JOURNAL" else {}
        typed = _typed(await cast.exported(kind, format="PARQUET", **given), tmp_path)
        assert ", ".join(typed.types.values()) == PARQUET[kind]
        listed, found = rows_of(await cast.exported(kind, **given)), [_as_in_a_sheet(row) for row in typed.rows]
        if kind == "JOURNAL":
            # Each export leaves lines of its own.
            listed, found = ([row for row in each if row["Événement"][:5] != "jobs."] for each in (listed, found))
        assert listed
        assert found == listed, kind
    requests = _typed(await cast.exported("PAYMENT_REQUESTS", format="PARQUET"), tmp_path).rows
    (row,) = [row for row in requests if row["N° de panier"] == "B"]
    assert (row["Libellé"], row["Montant demandé"]) == ("=1+1", Decimal("80.00"))
    assert row["Date limite de paiement"] == datetime(2026, 11, 12, 23, tzinfo=UTC), "the end of its last day"


@dataclass
class Typed:
    """A Parquet file as another engine than its writer reads it."""

    types: dict[str, str]
    rows: list[dict[str, Any]]
    groups: int


def _typed(content: bytes, folder: Path) -> Typed:
    path = folder / "list.parquet"
    path.write_bytes(content)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        types = connection.execute("DESCRIBE SELECT * FROM read_parquet($1)", [str(path)]).fetchall()
        rows = connection.execute("SELECT * FROM read_parquet($1)", [str(path)]).fetchall()
        groups = connection.execute("SELECT num_row_groups FROM parquet_file_metadata($1)", [str(path)]).fetchall()
    names = [each[0] for each in types]
    return Typed(
        {each[0]: each[1] for each in types}, [dict(zip(names, row, strict=True)) for row in rows], groups[0][0]
    )


def _as_in_a_sheet(row: dict[str, Any]) -> dict[str, Any]:
    """The clocks in Paris, and no time but midnight for a day; a deadline that ends a day is told by that day."""
    shown: dict[str, Any] = {}
    for heading, value in row.items():
        if isinstance(value, datetime):
            wall = value.astimezone(PARIS).replace(tzinfo=None)
            ends_a_day = heading == "Date limite de paiement" and (wall.hour, wall.minute) == (0, 0)
            shown[heading] = wall - timedelta(days=1) if ends_a_day else wall
        elif isinstance(value, date):
            shown[heading] = datetime(value.year, value.month, value.day)  # noqa: DTZ001
        else:
            shown[heading] = float(value) if isinstance(value, Decimal) else value
    return shown


COLUMNS = (
    Column(Text("Nom", "Name"), 10),
    Column(Text("Montant", "Amount"), 10, Kind.AMOUNT, is_totalled=True),
    Column(Text("Part", "Share"), 10, Kind.PERCENTAGE),
    Column(Text("Le", "On"), 10, Kind.DAY),
    Column(Text("À", "At"), 10, Kind.INSTANT),
)
ROWS: list[list[Cell]] = [
    ["=1+1", 12_34, Decimal("0.025"), date(2026, 11, 2), MONDAY],
    [None, -5, Decimal(1) / 3, None, None],
]


def test_a_percentage_is_a_number_in_each_kind_of_file(tmp_path: Path) -> None:
    book = Workbook(tmp_path / "list.xlsx", Text("Liste", "List"), COLUMNS, Locale.FR, made_at=MONDAY)
    text, typed = SemicolonText(tmp_path / "list.csv", COLUMNS, Locale.FR), Parquet(tmp_path / "p", COLUMNS, Locale.EN)
    for file in (book, text, typed):
        file.write(ROWS)
        file.close()
    (sheet,) = openpyxl.load_workbook(tmp_path / "list.xlsx").worksheets
    assert [(cell.value, cell.number_format) for cell in sheet["C"][1:3]] == [
        (0.025, SHARE), (pytest.approx(1 / 3), SHARE),
    ]  # fmt: skip
    assert [row["Part"] for row in lines_of((tmp_path / "list.csv").read_bytes())] == ["2,50%", "33,33%"]
    found = _typed((tmp_path / "p").read_bytes(), tmp_path)
    assert [list(row.values()) for row in found.rows] == [
        ["=1+1", Decimal("12.34"), Decimal("0.025"), date(2026, 11, 2), MONDAY],
        [None, Decimal("-0.05"), Decimal("0.333333"), None, None],
    ]


def test_parquet_leaves_in_groups_of_rows(tmp_path: Path) -> None:
    file = Parquet(tmp_path / "rows", COLUMNS, Locale.FR, rows_per_group=4)
    for _ in range(5):
        file.write(ROWS)
    file.write([])
    file.close()
    found = _typed((tmp_path / "rows").read_bytes(), tmp_path)
    assert (len(found.rows), found.groups) == (10, 3)


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_list_s_columns_have_names_of_their_own(kind: Any) -> None:
    listing = LISTINGS[kind]
    for locale in Locale:
        headings = [column.heading.in_locale(locale) for column in listing.columns]
        assert len(set(headings)) == len(headings)
        assert len(listing.title.in_locale(locale)) <= 25, "a sheet's name has 31 letters at most, with its number"


def test_a_process_that_answers_tills_loads_nothing_of_parquet() -> None:
    look = "import sys, api.app; print(*sorted({'pyarrow', 'xlsxwriter'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["xlsxwriter"]
