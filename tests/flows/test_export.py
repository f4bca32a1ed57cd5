"""Exports: the list as it is filtered on the screen, as a file (P8, G5). Through the API; what must break is broken on
servers of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import duckdb
import httpx
import openpyxl
import pytest
from openpyxl.utils.escape import unescape

from domain import jobs
from domain.access import Actor, Right, Role
from domain.codes import signed_token
from domain.db import OWNER, Database, connect_as
from domain.errors import RefusalCode, Refused
from domain.jobs import Job
from domain.settings import Settings
from domain.texts import Locale, Text
from domain.work import perform
from escarcelle.clients import Client, Unexpected
from escarcelle.stories.telling import next_of
from reporting.excel import Column, Workbook
from tests.flows.cast import Cast
from tests.flows.files import JOB, WATCH, finished, lines_of, rows_of, sheet_of
from tests.tasks import PostBox, database_of, process_working, settings_for, until
from tests.world import Servers, World

pytestmark = pytest.mark.anyio

READ = f"query ($id: ID!) {{ node(id: $id) {{ ... on Job {{ {JOB} }} }} }}"
NOON = datetime(2020, 6, 24, 10, tzinfo=UTC)
HEADINGS = [
    "Dernière action", "N° de panier", "Type", "Statut", "Montant demandé", "Montant réglé", "Montant validé",
    "Montant reçu", "Reste à régler", "Point d’accueil", "Nom du point d’accueil", "Libellé", "Référence client",
    "Identifiant vendeur", "Identifiant client", "N° de transaction", "Créé le", "Date limite de paiement",
    "Date limite de validation",
]  # fmt: skip
MONEY, INSTANT, DAY = "#,##0.00 €", "dd/mm/yyyy hh:mm", "dd/mm/yyyy"


# ── the same rows as on the screen ────────────────────────────────────────────────────────────────────────────────────


async def test_P8_the_filter_expired_and_then_export_gives_those_rows_only(cast: Cast) -> None:
    await cast.world.freeze(NOON)
    await cast.pay(await cast.ask("40,00", basketNumber="paid"), "30,00")
    for n in range(3):
        await cast.world.freeze(NOON + timedelta(seconds=n))
        await cast.ask(f"{21 + n},50", basketNumber=f"forgotten {n}")
    await cast.world.freeze(NOON + timedelta(minutes=20))
    await cast.ask("60,00", basketNumber="awaiting")

    rows = rows_of(await _exported(cast, paymentRequests={"status": ["EXPIRED"]}))
    assert [row["N° de panier"] for row in rows] == ["forgotten 2", "forgotten 1", "forgotten 0"]
    assert {row["Statut"] for row in rows} == {"Expiré"}, "though no worker has swept them"
    assert [row["Montant demandé"] for row in rows] == [23.5, 22.5, 21.5]
    for where, baskets in (
        (None, ["awaiting", "forgotten 2", "forgotten 1", "forgotten 0", "paid"]),
        ({"minAmount": "40,00"}, ["awaiting", "paid"]),
        ({"search": "FORGOTTEN 1", "flow": ["IMMEDIATE"]}, ["forgotten 1"]),
        ({"since": "2020-06-24T10:10:00Z"}, ["awaiting"]),
    ):
        rows = rows_of(await _exported(cast, paymentRequests=where))
        assert [row["N° de panier"] for row in rows] == baskets == await _on_the_screen(cast.signatory, where)


async def test_P8_an_export_keeps_the_order_of_the_screen(cast: Cast) -> None:
    for basket, amount in (("b", "22,00"), ("c", "21,00"), ("a", "23,00")):
        await cast.ask(amount, basketNumber=basket)
    for order, baskets in (("BASKET_NUMBER", "abc"), ("AMOUNT", "abc"), ("LOWEST_AMOUNT", "cba"), ("OLDEST", "bca")):
        rows = rows_of(await _exported(cast, orderBy=order))
        assert "".join(str(row["N° de panier"]) for row in rows) == baskets, order


async def test_days_of_an_export_are_days_in_paris_both_included(cast: Cast) -> None:
    for basket, at in (
        ("before", (23, 21, 59)),
        ("first", (23, 22, 0)),
        ("last", (25, 21, 59)),
        ("after", (25, 22, 0)),
    ):
        day, hour, minute = at
        await cast.world.freeze(datetime(2020, 6, day, hour, minute, tzinfo=UTC))
        await cast.ask(basketNumber=basket)
    rows = rows_of(await _exported(cast, since="2020-06-24", until="2020-06-25"))
    assert [row["N° de panier"] for row in rows] == ["last", "first"]
    rows = rows_of(
        await _exported(cast, since="2020-06-24", paymentRequests={"until": "2020-06-24T00:00:00Z", "search": "st"})
    )
    assert [row["N° de panier"] for row in rows] == ["first"], "both conditions hold"
    async with cast.world.unchanged():
        refused = await _ask(cast.signatory, since="2020-06-25", until="2020-06-24")
        assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "until"])
        refused = await _ask(cast.signatory, paymentRequests={"minAmount": "x"})
        assert refused["problems"][0]["path"] == ["input", "paymentRequests", "minAmount"]


async def test_G5_P18_numbers_are_numbers_dates_are_dates_and_headings_french(cast: Cast) -> None:
    await cast.world.freeze(NOON)
    words: dict[str, Any] = {"label": "Canoë", "customerReference": "R-1", "sellerIdentifier": "V-2"}
    deferred = await cast.ask(
        "80,00", basketNumber="B", customerIdentifier="ines@example.com", paymentDeadline="2020-07-04"
    )
    await cast.world.freeze(NOON + timedelta(minutes=1))
    paid = await cast.ask("50,00", basketNumber="C", customerIdentifier="ines", validationDays=2, **words)
    await cast.pay(await _token(cast.world, paid), "30,00")

    sheet = sheet_of(await _exported(cast))
    assert sheet.title == "Opérations"
    assert [cell.value for cell in sheet[1]] == HEADINGS
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:S3")
    rows = [dict(zip(HEADINGS, (cell.value for cell in row), strict=True)) for row in sheet.iter_rows(2, 3)]
    noon = datetime(2020, 6, 24, 12)  # noqa: DTZ001 — a sheet knows no zones
    place = {"Point d’accueil": "P001", "Nom du point d’accueil": "Canoë Kayak Club – Saint-Jean-le-Blanc"}
    assert rows == [
        {
            "Dernière action": noon + timedelta(minutes=1),
            "N° de panier": "C",
            "Type": "Pré-réservation",
            "Statut": "À valider",
            "Montant demandé": 50,
            "Montant réglé": 30,
            "Montant validé": None,
            "Montant reçu": 30,
            "Reste à régler": 20,
            **place,
            "Libellé": "Canoë",
            "Référence client": "R-1",
            "Identifiant vendeur": "V-2",
            "Identifiant client": "ines",
            "N° de transaction": paid["transactionNumber"],
            "Créé le": noon + timedelta(minutes=1),
            "Date limite de paiement": noon + timedelta(minutes=16),
            "Date limite de validation": datetime(2020, 6, 26),  # noqa: DTZ001
        },
        dict.fromkeys(HEADINGS)
        | {
            "Dernière action": noon,
            "N° de panier": "B",
            "Type": "Paiement différé",
            "Statut": "En attente de paiement client",
            "Montant demandé": 80,
            **place,
            "Identifiant client": "ines@example.com",
            "N° de transaction": deferred["transactionNumber"],
            "Créé le": noon,
            "Date limite de paiement": datetime(2020, 7, 4),  # noqa: DTZ001 — its last day, not the midnight behind it
        },
    ]
    formats = {heading: cell.number_format for heading, cell in zip(HEADINGS, sheet[2], strict=True)}
    assert {formats[heading] for heading in HEADINGS if heading.startswith("Montant demandé")} == {MONEY}
    assert [formats[h] for h in ("Montant réglé", "Montant reçu", "Reste à régler")] == [MONEY] * 3
    assert [formats[h] for h in ("Dernière action", "Créé le", "Date limite de paiement")] == [INSTANT] * 3
    assert formats["Date limite de validation"] == DAY
    assert sheet["E4"].value == "=SUBTOTAL(109,E2:E3)", "the totals follow the filter"
    assert sheet["A4"].value == "Total"
    totals = sheet_of(await _exported(cast), computed=True)[4]
    assert [cell.value for cell in totals[4:9]] == [130, 30, 0, 30, 20], "programs that do not reckon see them too"


async def test_an_empty_list_is_a_file_with_headings(cast: Cast) -> None:
    sheet = sheet_of(await _exported(cast))
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [HEADINGS]


async def test_G6_who_speaks_english_gets_english_headings(cast: Cast) -> None:
    await cast.ask()
    english = await cast.running.client(cast.world, "708900", language="en")
    async with english:
        sheet = sheet_of(await _exported(cast, english))
    assert (sheet.title, sheet["A1"].value, sheet["D2"].value) == (
        "Payment requests",
        "Last action",
        "Awaiting the customer's payment",
    )


def test_rows_that_one_sheet_can_not_hold_go_on_to_another(tmp_path: Path) -> None:
    columns = [Column(Text("Nom", "Name"), 10), Column(Text("Montant", "Amount"), 10, is_totalled=True)]
    path = tmp_path / "list.xlsx"
    book = Workbook(path, Text("Liste", "List"), columns, Locale.FR, made_at=NOON, rows_per_sheet=2)
    book.write([f"{n}", n * 100] for n in range(3))
    book.close()
    sheets = openpyxl.load_workbook(path, data_only=True).worksheets
    assert {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in sheets} == {
        "Liste": [("Nom", "Montant"), ("0", 0), ("1", 1), ("Total", 1)],
        "Liste (2)": [("Nom", "Montant"), ("2", 2), ("Total", 2)],
    }


FORMULAS = (
    "=1+1", "+33 1 23", "-2", "@SUM(A1)", "=HYPERLINK(\"http://x.example\")", "<r><t>a</t></r>",
    "<r></r></is></c><c r=\"A9\"><f>1+1</f></c><c><is><r></r>", "_x0041_", "http://x.example", "007", "a;b\"c", "&amp;",
)  # fmt: skip
"""What people may type into a label."""


async def test_text_is_never_a_formula_nor_markup_nor_a_number(cast: Cast) -> None:
    for n, label in enumerate(FORMULAS):
        await cast.ask(basketNumber=f"{n}", label=label)
    sheet = sheet_of(await _exported(cast))
    labels = sheet["L"][1 : len(FORMULAS) + 1]
    # Excel reads "_x0041_" as a letter, unless its first character is written in that way itself; openpyxl leaves both.
    assert [unescape(cell.value) for cell in labels] == [*reversed(FORMULAS)]
    assert {cell.data_type for cell in labels} == {"s"}
    assert [cell.hyperlink for cell in labels] == [None] * len(FORMULAS)
    assert sheet["B2"].data_type == "s", "a basket number of digits is no amount"

    rows = lines_of(await _exported(cast, format="CSV"))
    guarded = [f"'{label}" if label[0] in "=+-@" else label for label in reversed(FORMULAS)]
    assert [row["Libellé"] for row in rows] == guarded


async def test_a_csv_is_what_a_french_excel_opens(cast: Cast) -> None:
    await cast.world.freeze(NOON)
    await cast.pay(await cast.ask("40,50", basketNumber="C"), "30,00")
    content = await _exported(cast, format="CSV")
    assert content.startswith(b"\xef\xbb\xbfDerni\xc3\xa8re action;N\xc2\xb0 de panier;")
    assert content.count(b"\r\n") == 2
    (row,) = lines_of(content)
    assert list(row) == HEADINGS
    assert [row[h] for h in ("Dernière action", "Montant demandé", "Montant reçu", "Reste à régler", "Libellé")] == [
        "24/06/2020 12:00", "40,50", "30,00", "10,50", "",
    ]  # fmt: skip


# ── who may ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P4_without_the_right_to_export_nothing_is_exported(cast: Cast) -> None:
    here, there = (cast.world.places[code].global_id for code in ("P001", "P002"))
    async with cast.world.unchanged():
        assert (await _ask(cast.till))["code"] == "FORBIDDEN"
        assert (await _ask(cast.till, pointOfSaleId=here))["code"] == "FORBIDDEN"
        assert (await _ask(cast.till, pointOfSaleId=there))["code"] == "NOT_FOUND"
        assert (await _ask(cast.stranger, pointOfSaleId=here))["code"] == "NOT_FOUND"
        assert (await _ask(cast.agent, pointOfSaleId=cast.world.holders["ines"].global_id))["code"] == "NOT_FOUND"
        assert (await _ask(cast.ines))["code"] == "FORBIDDEN"


async def test_P4_staff_exports_where_it_may_and_others_what_they_see(cast: Cast) -> None:
    elsewhere = cast.world.places["P002"].global_id
    await cast.ask(basketNumber="here")
    await cast.ask(till=cast.other_till, basketNumber="there", pointOfSaleId=elsewhere)
    grants = {"P001": frozenset({Right.COLLECT}), "P002": frozenset({Right.EXPORT})}
    await cast.world.user("comptable", Role.MERCHANT_STAFF, merchant="708900", grants=grants)
    accountant = await cast.running.client(cast.world, "comptable")
    async with accountant:
        assert (await _ask(accountant, pointOfSaleId=cast.world.places["P001"].global_id))["code"] == "FORBIDDEN"
        seen = [
            [row["N° de panier"] for row in rows_of(await _exported(cast, client, **given))]
            for client, given in (
                (accountant, {}),
                (accountant, {"pointOfSaleId": elsewhere}),
                (cast.signatory, {}),
                (cast.signatory, {"pointOfSaleId": elsewhere}),
                (cast.agent, {}),
                (cast.stranger, {}),
            )
        ]
    assert seen == [["there"], ["there"], ["there", "here"], ["there"], ["there", "here"], []]


async def test_a_job_is_its_users_own(cast: Cast) -> None:
    job = await _ask(cast.signatory)
    await finished(cast.signatory, job)
    assert (await cast.signatory.ask(READ, id=job["id"]))["node"]["status"] == "DONE"
    for other in (cast.till, cast.agent, cast.stranger, cast.ines):
        assert (await other.ask(READ, id=job["id"]))["node"] is None
        with pytest.raises(Unexpected, match=r"NOT_FOUND|FORBIDDEN"):
            async with other.subscribe(WATCH, id=job["id"]) as events:
                await next_of(events, 30, "an event")


# ── progress and the link ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_progress_is_told_until_the_file_is_there(cast: Cast) -> None:
    for n in range(3):
        await cast.ask(basketNumber=f"{n}")
    job = await _ask(cast.signatory)
    assert (job["kind"], job["done"], job["downloadUrl"], job["problems"]) == ("EXPORT_PAYMENT_REQUESTS", 0, None, [])
    seen = []
    async with cast.signatory.subscribe(WATCH, id=job["id"]) as events:
        async for event in events:
            seen.append(event["job"])
    order = ["QUEUED", "RUNNING", "DONE"]
    statuses = [order.index(state["status"]) for state in seen]
    assert statuses == sorted(statuses)
    assert [state["done"] for state in seen] == sorted(state["done"] for state in seen)
    assert (seen[-1]["status"], seen[-1]["done"], seen[-1]["total"]) == ("DONE", 3, 3)
    assert all(state["downloadUrl"] is None for state in seen[:-1])
    assert seen[-1]["downloadUrl"].startswith(f"{cast.running.settings.public_url}/files/")


async def test_the_link_needs_no_session_and_says_what_the_file_is(cast: Cast) -> None:
    await cast.world.freeze(datetime(2026, 11, 21, 22, 59, tzinfo=UTC))
    for kind, media_type, name in (
        ("XLSX", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "operations-2026-11-21.xlsx"),
        ("CSV", "text/csv; charset=utf-8", "operations-2026-11-21.csv"),
    ):
        link = await _link(cast, format=kind)
        answer, head = await _get(cast, link), await _get(cast, link, method="HEAD")
        assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
        assert len(answer.content) == int(head.headers["content-length"])
        for headers in (answer.headers, head.headers):
            assert headers["content-type"] == media_type
            assert headers["content-disposition"] == f'attachment; filename="{name}"'
            assert headers["cache-control"] == "private, no-store"
            assert headers["x-content-type-options"] == "nosniff"


async def test_a_link_can_not_be_forged(cast: Cast) -> None:
    job = await _ask(cast.signatory)
    link = (await finished(cast.signatory, job))["downloadUrl"]
    token = link.rsplit("/", 1)[1]
    row = (await cast.world.as_owner("SELECT id FROM jobs WHERE tenant = $1", cast.world.tenant))[0]["id"]
    key = cast.running.settings.secret_keys[0].get_secret_value()
    assert signed_token(key, "download", cast.world.tenant, row) == token
    forged = [
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        signed_token("another key that is long enough to be one", "download", cast.world.tenant, row),
        signed_token(key, "password reset", cast.world.tenant, row),
        signed_token(key, "download", cast.world.tenant + 1, row),
        signed_token(key, "download", cast.world.tenant, cast.world.merchants["708900"].id),
        "x",
    ]
    assert [(await _get(cast, f"/files/{wrong}")).status_code for wrong in forged] == [404] * len(forged)


async def test_a_link_expires_and_the_file_goes(cast: Cast) -> None:
    await cast.world.freeze(NOON)
    await cast.ask()
    job = await _ask(cast.signatory, paymentRequests={"search": "panier"})
    link = (await finished(cast.signatory, job))["downloadUrl"]
    await cast.world.freeze(NOON + timedelta(hours=24, microseconds=-1))
    assert (await _get(cast, link)).status_code == 200
    await cast.world.freeze(NOON + timedelta(hours=24))
    gone = await _get(cast, link)
    assert (gone.status_code, "expiré" in gone.text) == (410, True), "though no worker has swept it"
    assert (await cast.signatory.ask(READ, id=job["id"]))["node"]["downloadUrl"] is None

    await cast.world.as_owner(
        "UPDATE deadlines SET due_at = now(), claim_at = now() WHERE tenant = $1 AND name = 'expire_file'",
        cast.world.tenant,
    )
    count = "SELECT count(*) FROM job_chunks WHERE tenant = $1"

    async def is_swept() -> bool:
        return not (await cast.world.as_owner(count, cast.world.tenant))[0]["count"]

    await until(is_swept)
    (row,) = await cast.world.as_owner("SELECT status, given FROM jobs WHERE tenant = $1", cast.world.tenant)
    assert (row["status"], row["given"]) == ("DONE", "{}"), "nor is it known any more what was searched for"
    assert (await _get(cast, link)).status_code == 410


async def test_the_link_of_someone_who_has_left_opens_nothing(cast: Cast) -> None:
    link = await _link(cast)
    assert (await _get(cast, link)).status_code == 200
    user = await cast.world.as_owner(
        "UPDATE users SET active = false WHERE tenant = $1 AND login = '708900' RETURNING id", cast.world.tenant
    )
    assert len(user) == 1
    assert (await _get(cast, link)).status_code == 404


# ── what breaks, and what is large ────────────────────────────────────────────────────────────────────────────────────

MANY = 20_000


@dataclass
class Large:
    """A merchant with many requests, on servers on which nobody works unless told to."""

    servers: Servers
    settings: Settings
    tenant: int
    manager: Actor

    async def rows(self, statement: str, *values: object) -> list[Any]:
        """Looks, or changes what no program may."""
        connection = await connect_as(self.settings, OWNER)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def ask(
        self,
        database: Database,
        format: jobs.ExportFormat = jobs.ExportFormat.XLSX,  # noqa: A002 — the contract's word
        **given: Any,
    ) -> Job:
        """An export, not begun yet."""
        kind = jobs.JobKind.EXPORT_PAYMENT_REQUESTS
        job = await perform(
            database, self.manager, jobs.create_export, kind=kind, format=format, locale=Locale.FR, **given
        )
        assert isinstance(job, Job)
        return job

    async def state(self, job: Job) -> Any:
        """Its row."""
        return (await self.rows("SELECT * FROM jobs WHERE id = $1", job.id))[0]

    async def is_over(self, job: Job) -> bool:
        """Whether it is done or has failed, and its worker has nothing left to do."""
        over = (await self.state(job))["status"] in ("DONE", "FAILED")
        return over and not await self.rows("SELECT FROM outbox WHERE topic = 'job'")

    async def file(self, job: Job) -> bytes:
        """The pieces, put together."""
        rows = await self.rows("SELECT content FROM job_chunks WHERE job_id = $1 ORDER BY n", job.id)
        return b"".join(row["content"] for row in rows)

    @asynccontextmanager
    async def nothing_gets_on(self) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        """Workers that have done some rows wait. Gives a wait of the test's own: until one waits for a lock of that
        kind."""
        connection = await connect_as(self.settings, OWNER)

        async def one_waits_for(kind: str) -> None:
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = $1)"
            await until(lambda: connection.fetchval(waiting, kind))

        await connection.execute(
            "SELECT pg_advisory_lock(1); CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END';"
            " CREATE TRIGGER hold BEFORE UPDATE OF done ON jobs FOR EACH ROW WHEN (new.done > 0)"
            " EXECUTE FUNCTION hold()"
        )
        try:
            yield one_waits_for
        finally:
            await connection.execute("SELECT pg_advisory_unlock(1)")
            await connection.execute("DROP FUNCTION hold CASCADE")
            await connection.close()

    async def forget(self, database: Database, job: Job) -> None:
        """It is not done any more."""
        begun = await perform(database, Actor(self.tenant), jobs.start, job.id)
        assert isinstance(begun, Job)
        await perform(database, Actor(self.tenant), jobs.break_off, job.id, begun.runs, "for the test", for_good=True)
        await self.rows("DELETE FROM outbox")

    async def let_leases_lapse(self) -> None:
        """As if the pauses were over."""
        await self.rows("UPDATE outbox SET claim_at = clock_timestamp() WHERE topic = 'job'")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    """Once for these tests."""
    servers = Servers.start(tmp_path_factory.mktemp("large"))
    yield asyncio.run(_fill(servers))
    servers.stop()


async def _fill(servers: Servers) -> Large:
    async with database_of(servers.settings) as database:
        world = await World.make(servers, database)
        await world.merchant("CK", "Canoë Kayak Club", {"P001": "Base nautique"})
        manager = await world.user("club", Role.MERCHANT_MANAGER, merchant="CK")
        await world.as_owner(
            """
            INSERT INTO payment_requests (tenant, id, flow, status, merchant_id, point_of_sale_id, basket_number,
              amount_requested, collection, token, transaction_number, payment_deadline, label, created_by, created_at,
              last_action_at, version)
            SELECT $1, gen_random_uuid(), 'IMMEDIATE', 'CANCELLED', $2, $3, 'REF' || n, 2000 + n, 'QR_CODE', 't' || n,
                   'n' || n, now(), repeat('é', 60), $4, at, at, 1
            FROM generate_series(1, $5::integer) AS n, LATERAL (SELECT now() - n * interval '1 second' AS at) AS x
            """,
            world.tenant, world.merchants["CK"].id, world.places["P001"].id, manager.user_id, MANY,
        )  # fmt: skip
        # A relay sees every tenant; nothing else is to be told.
        await world.as_owner("DELETE FROM outbox")
        return Large(servers, servers.settings, world.tenant, manager)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel how much memory a process has used")
@pytest.mark.parametrize("format", [jobs.ExportFormat.XLSX, jobs.ExportFormat.PARQUET])
async def test_many_rows_are_exported_in_little_memory(
    large: Large,
    format: jobs.ExportFormat,  # noqa: A002 — the contract's word
    tmp_path: Path,
) -> None:
    async with PostBox().open() as box, database_of(large.settings) as database:
        async with process_working(settings_for(large.servers, box)) as process:
            few = await large.ask(database, format, conditions={"max_amount": 2000 + 3_000})
            await until(lambda: large.is_over(few))
            _look_again(process.pid)
            before = _most_memory_bytes(process.pid)
            many = await large.ask(database, format)
            await until(lambda: large.is_over(many), seconds=60)
            grown = _most_memory_bytes(process.pid) - before
        state = await large.state(many)
        assert (state["status"], state["done"], state["runs"]) == ("DONE", MANY, 1)
        assert grown < 15_000_000, "the rows as objects are 40 MB"
        content = await large.file(many)
        if format is jobs.ExportFormat.PARQUET:
            path = tmp_path / "many.parquet"
            path.write_bytes(content)
            with duckdb.connect() as connection:
                asked = 'SELECT "N° de panier", "Montant demandé" FROM read_parquet($1)'
                rows = connection.execute(asked, [str(path)]).fetchall()
        else:
            rows = [(row["N° de panier"], row["Montant demandé"]) for row in rows_of(content)]
        assert [basket for basket, _ in rows] == [f"REF{n}" for n in range(1, MANY + 1)]
        assert float(sum(amount for _, amount in rows)) == pytest.approx(sum(20 + n / 100 for n in range(1, MANY + 1)))


def _look_again(process_id: int) -> None:
    """The most is looked for from now on: to start a process takes more than it then keeps."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def _most_memory_bytes(process_id: int) -> int:
    (line,) = [e for e in Path(f"/proc/{process_id}/status").read_text().splitlines() if e.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


async def test_a_worker_that_is_killed_in_the_middle_is_followed_by_another(large: Large) -> None:
    async with PostBox().open() as box, database_of(large.settings) as database:
        settings = settings_for(large.servers, box)
        job = await large.ask(database, conditions={"max_amount": 2000 + 5_000})
        async with large.nothing_gets_on() as one_waits_for, process_working(settings) as process:
            await one_waits_for("advisory")
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert (await large.state(job))["status"] == "RUNNING"
        await large.let_leases_lapse()
        async with process_working(settings):
            await until(lambda: large.is_over(job))
        state = await large.state(job)
        assert (state["status"], state["runs"], state["done"], state["total"]) == ("DONE", 2, 5_000, 5_000)
        content = await large.file(job)
        assert len(content) == state["file_bytes"]
        assert len(rows_of(content)) == 5_000
        lines = await large.rows("SELECT kind FROM journal WHERE subject_id = $1 ORDER BY sequence", job.id)
        assert [row["kind"] for row in lines] == [
            "jobs.create", "jobs.start", "jobs.break_off", "jobs.start", "jobs.finish",
        ]  # fmt: skip


async def test_a_worker_that_is_told_to_stop_gives_its_job_back_at_once(large: Large) -> None:
    async with PostBox().open() as box, database_of(large.settings) as database:
        job = await large.ask(database, conditions={"max_amount": 2000 + 5_000})
        async with process_working(settings_for(large.servers, box)) as process:
            async with large.nothing_gets_on() as one_waits_for:
                await one_waits_for("advisory")
                process.send_signal(signal.SIGTERM)
                # Giving back waits for the progress that was under way.
                await one_waits_for("transactionid")
            await process.communicate()
        state = await large.state(job)
        assert (state["status"], state["done"], process.returncode) == ("QUEUED", 0, 0)
        assert len(await large.rows("SELECT FROM outbox WHERE topic = 'job' AND claim_at <= now()")) == 1
        await large.forget(database, job)


async def test_a_run_that_was_overtaken_writes_nothing_more(large: Large) -> None:
    async with database_of(large.settings) as database:
        system, job = Actor(large.tenant), await large.ask(database)
        (message,) = await large.rows("SELECT id FROM outbox WHERE topic = 'job'")
        first = (job.id, 1, message["id"])
        await perform(database, system, jobs.start, job.id)
        await perform(database, system, jobs.keep_chunk, *first, 0, b"first")
        await perform(database, system, jobs.start, job.id)
        assert await large.file(job) == b"", "the second run begins with nothing"
        for deed, values in (
            (jobs.note_progress, (5, 9)),
            (jobs.keep_chunk, (1, b"late")),
            (jobs.finish, (9, "operations", 9)),
        ):
            with pytest.raises(jobs.Overtaken):
                await perform(database, system, cast(Any, deed), *first, *values)
        with pytest.raises(jobs.Overtaken):
            await perform(database, system, jobs.break_off, job.id, 1, "too late")
        assert (await large.state(job))["status"] == "RUNNING"
        await perform(database, system, jobs.break_off, job.id, 2, "for the test", for_good=True)
        await large.rows("DELETE FROM outbox")


async def test_what_breaks_three_times_has_failed_and_says_so(large: Large) -> None:
    async with PostBox().open() as box, database_of(large.settings) as database:
        job = await large.ask(database)
        await large.rows("UPDATE jobs SET given = '{}' WHERE id = $1", job.id)
        async with process_working(settings_for(large.servers, box)):

            async def is_over() -> bool:
                await large.rows(
                    "UPDATE outbox SET claim_at = now() WHERE topic = 'job' AND failures > 0 AND sends = 0"
                )
                return await large.is_over(job)

            await until(is_over)
        state = await large.state(job)
        assert (state["status"], state["runs"], state["file_name"]) == ("FAILED", jobs.MOST_RUNS, None)
        (problem,) = jobs.problems(_job_of(state))
        assert problem.said["fr"].startswith("L’opération n’a pas pu aboutir.")
        (line,) = await large.rows("SELECT detail FROM journal WHERE subject_id = $1 AND kind = 'jobs.fail'", job.id)
        assert "KeyError" in line["detail"]


async def test_who_has_left_meanwhile_gets_no_file(large: Large) -> None:
    async with PostBox().open() as box, database_of(large.settings) as database:
        job = await large.ask(database)
        await large.rows("UPDATE users SET active = false WHERE id = $1", large.manager.user_id)
        try:
            async with process_working(settings_for(large.servers, box)):
                await until(lambda: large.is_over(job))
        finally:
            await large.rows("UPDATE users SET active = true WHERE id = $1", large.manager.user_id)
        state = await large.state(job)
        assert (state["status"], state["runs"]) == ("FAILED", 1)


async def test_one_user_has_a_few_jobs_at_once(large: Large) -> None:
    async with database_of(large.settings) as database:
        asked = await asyncio.gather(*(large.ask(database) for _ in range(7)), return_exceptions=True)
        refused = [answer for answer in asked if isinstance(answer, Refused)]
        assert [answer.code for answer in refused] == [RefusalCode.RATE_LIMITED] * (7 - jobs.MOST_AT_ONCE)
        for job in asked:
            if isinstance(job, Job):
                await large.forget(database, job)


# ── asking and reading ────────────────────────────────────────────────────────────────────────────────────────────────


async def _ask(client: Client, **given: Any) -> dict[str, Any]:
    """The job, or the refusal."""
    return await client.do("createExport", f"... on Job {{ {JOB} }}", kind="PAYMENT_REQUESTS", **given)


async def _link(cast: Cast, client: Client | None = None, **given: Any) -> str:
    job = await _ask(client or cast.signatory, **given)
    assert job["__typename"] == "Job", job
    done = await finished(client or cast.signatory, job)
    assert done["status"] == "DONE"
    return str(done["downloadUrl"])


async def _exported(cast: Cast, client: Client | None = None, **given: Any) -> bytes:
    """The file of an export, the signatory's unless said otherwise."""
    answer = await _get(cast, await _link(cast, client, **given))
    assert answer.status_code == 200
    return answer.content


async def _get(cast: Cast, link: str, method: str = "GET") -> httpx.Response:
    """As a browser without any cookie."""
    async with httpx.AsyncClient(base_url=cast.running.url, timeout=30) as http:
        return await http.request(method, urlsplit(link).path)


async def _on_the_screen(client: Client, where: dict[str, Any] | None) -> list[str]:
    data = await client.ask(
        "query ($filter: PaymentRequestFilter) { paymentRequests(filter: $filter) { nodes { basketNumber } } }",
        filter=where,
    )
    return [node["basketNumber"] for node in data["paymentRequests"]["nodes"]]


async def _token(world: World, request: dict[str, Any]) -> str:
    rows = await world.as_owner(
        "SELECT token FROM payment_requests WHERE transaction_number = $1", request["transactionNumber"]
    )
    return str(rows[0]["token"])


def _job_of(state: Any) -> Job:
    return Job.from_row([state[name] for name in Job.columns])
