"""What analysts are told about some days that were played through the API, to the cent."""

import shutil
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest

from domain.db import Database
from domain.texts import Locale
from reporting import questions
from reporting.questions import REPORTS, Answer, NoStore, Parameters
from reporting.store import ColumnKind
from tests.reporting.played import (
    BEFORE_THE_SWEEP,
    FIRST_NOON,
    SECOND_EVENING,
    THE_COPY,
    Played,
    paris,
    play,
)
from tests.reporting.stores import opened
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

CLUB, SUPPLIER = "Canoë Kayak Club Orléans", "Matériaux de l’Ouest"
P001, P002 = "Canoë Kayak Club – Saint-Jean-le-Blanc", "Canoë Kayak Club – Île Charlemagne"
WINDOW = "IMMEDIATE_WITH_VALIDATION"
NOT_PLAYED = {"reimbursements"}
"""Nobody is reimbursed in these days: see test_reports.py."""

_played: list[Played] = []


@pytest.fixture
async def played(servers: Servers, running: Running, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Once for all tests, which only ask."""
    if not _played:
        database = Database(servers.settings)
        await database.open()
        world = await World.make(servers, database)
        _played.append(await play(world, running, tmp_path_factory.mktemp("stores")))
        await database.close()
    return _played[0]


async def ask(played: Played, name: str, **more: Any) -> Answer:
    """A report, with these parameters."""
    page = {key: more.pop(key) for key in ("first", "skip") if key in more}
    return await questions.ask(played.folder, played.world.slug, name, Parameters(**more), test=True, **page)


# ── what is owed ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("as_of", "balances"),
    [
        (paris(3, 2, 8), {}),
        (paris(3, 2, 9), {"FUNDING": -125_00, "WALLET": 125_00}),
        (FIRST_NOON, {
            "FUNDING": -125_00, "GUARANTEE": -200_00, "HELD": 270_00, "MERCHANT": 30_00, "WALLET": 25_00,
        }),
        (SECOND_EVENING, {
            "DEBT": -185_50, "FUNDING": -125_00, "GUARANTEE": -120_00, "HELD": 140_00, "MERCHANT": 260_50,
            "WALLET": 30_00,
        }),
        (None, {
            "DEBT": -185_50, "FUNDING": -125_00, "GUARANTEE": -120_00, "HELD": 120_00, "MERCHANT": 260_50,
            "WALLET": 50_00,
        }),
    ],
)  # fmt: skip
async def test_balances_as_of_any_instant(played: Played, as_of: datetime | None, balances: dict[str, int]) -> None:
    answer = await ask(played, "balances", as_of=as_of)
    assert {kind: amount for kind, _, amount in answer.rows if amount} == balances
    assert answer.totals["amount"] == 0, "the ledger sums to zero at every instant"


async def test_balances_are_those_that_the_ledger_keeps(played: Played) -> None:
    kept = await played.world.as_owner(
        "SELECT account_id, amount FROM balances WHERE tenant = $1 AND amount <> 0", played.world.tenant
    )
    with opened(played.link) as store:
        rows = store.execute(
            "SELECT account_id, amount_cents FROM balances WHERE account_kind IN ('WALLET', 'GUARANTEE')"
        ).fetchall()
    assert {row for row in rows if row[1]} == {tuple(row) for row in kept}


async def test_how_much_is_owed_to_whom_and_why(played: Played) -> None:
    answer = await ask(played, "outstanding")
    assert [(*row[:6], row[7]) for row in answer.rows] == [
        ("DEBT", None, "vouchers", "bill", "0-30", 2, -175_50),
        ("DEBT", None, "vouchers", "excess", "0-30", 1, -10_00),
        ("GUARANTEE", None, "vouchers", "guarantee", "0-30", 1, -120_00),
        ("HELD", SUPPLIER, "vouchers", "guarantee", "0-30", 1, 120_00),
        ("MERCHANT", CLUB, "payments", "payment", "0-30", 1, 30_00),
        ("MERCHANT", CLUB, "payments", "validation", "0-30", 1, 45_00),
        ("MERCHANT", SUPPLIER, "vouchers", "excess", "0-30", 1, 10_00),
        ("MERCHANT", SUPPLIER, "vouchers", "invoice", "0-30", 2, 175_50),
        ("WALLET", None, "wallets", "credit", "0-30", 2, 50_00),
    ]  # fmt: skip
    since = {(row[0], row[3]): row[6] for row in answer.rows}
    assert since["WALLET", "credit"] == paris(3, 2, 9)
    assert since["MERCHANT", "validation"] == paris(3, 3, 15)


@pytest.mark.parametrize(
    ("days", "band"),
    [(30, "0-30"), (31, "31-90"), (90, "31-90"), (91, "91-180"), (180, "91-180"), (181, "181-365"), (366, "366+")],
)
async def test_value_grows_old(played: Played, days: int, band: str) -> None:
    answer = await ask(played, "outstanding", as_of=paris(3, 2, 9) + timedelta(days=days))
    assert {row[4] for row in answer.rows if row[0] == "WALLET"} == {band}


async def test_a_wallet_is_spent_oldest_value_first(played: Played) -> None:
    """Of Inès' 100 €, brought at 9:00, 20 € were left at noon; what came back later was brought then too."""
    with opened(played.link) as store:
        question = "SELECT since, sum(amount_cents) FROM open_items_as_of(?) WHERE account_kind = 'WALLET' GROUP BY 1"
        assert store.execute(question, [FIRST_NOON]).fetchall() == [(paris(3, 2, 9), 25_00)]
        assert store.execute(question, [THE_COPY]).fetchall() == [(paris(3, 2, 9), 50_00)]


async def test_open_items_are_the_balances_in_pieces(played: Played) -> None:
    with opened(played.link) as store:
        for instant in (paris(3, 2, 10, 35), FIRST_NOON, SECOND_EVENING, BEFORE_THE_SWEEP, THE_COPY):
            differing = store.execute(
                "SELECT account_id, sum(amount_cents) FROM open_items_as_of($1) GROUP BY 1"
                " HAVING sum(amount_cents) <> 0 EXCEPT SELECT account_id, amount_cents FROM balances_as_of($1)",
                [instant],
            ).fetchall()
            assert differing == []


# ── what happened ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_operations_by_day_flow_and_point_of_sale(played: Played) -> None:
    answer = await ask(played, "operations", until=date(2026, 3, 2))
    second = date(2026, 3, 2)
    assert answer.rows == [
        (second, "payments", "IMMEDIATE", "preq.create", CLUB, P001, 2, 65_00),
        (second, "payments", "IMMEDIATE", "preq.pay", CLUB, P001, 1, 30_00),
        (second, "payments", WINDOW, "preq.create", CLUB, P001, 1, 50_00),
        (second, "payments", WINDOW, "preq.create", CLUB, P002, 1, 20_00),
        (second, "payments", WINDOW, "preq.pay", CLUB, P001, 1, 50_00),
        (second, "payments", WINDOW, "preq.pay", CLUB, P002, 1, 20_00),
        (second, "vouchers", "BW", "vchr.cancel", SUPPLIER, None, 1, 60_00),
        (second, "vouchers", "BW", "vchr.deliver", SUPPLIER, None, 1, 80_00),
        (second, "vouchers", "BW", "vchr.request", SUPPLIER, None, 3, 260_00),
        (second, "vouchers", "BW", "vchr.reveal", SUPPLIER, None, 1, 0),
        (second, "wallets", None, "hold.create", None, None, 4, 0),
        (second, "wallets", None, "hold.credit", None, None, 2, 125_00),
        (second, "wallets", None, "hold.update", None, None, 2, 0),
    ]
    assert answer.totals == {"operations": 21}


async def test_days_are_both_included(played: Played) -> None:
    days = {row[0] for row in (await ask(played, "operations")).rows}
    assert days == {date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 6)}
    some = await ask(played, "operations", since=date(2026, 3, 3), until=date(2026, 3, 6))
    assert {row[0] for row in some.rows} == days - {date(2026, 3, 2)}


async def test_breakage_is_what_was_reserved_and_never_used(played: Played) -> None:
    answer = await ask(played, "breakage")
    march = date(2026, 3, 1)
    assert answer.rows == [
        (march, "payments", WINDOW, "EXPIRED", CLUB, 1, 20_00),
        (march, "payments", WINDOW, "UNUSED_PART", CLUB, 1, 5_00),
        (march, "vouchers", "BW", "CANCELLED", SUPPLIER, 1, 60_00),
        (march, "vouchers", "BW", "UNUSED_PART", SUPPLIER, 1, 4_50),
    ]
    assert answer.totals == {"items": 4, "amount": 89_50}
    assert (await ask(played, "breakage", as_of=FIRST_NOON)).totals["amount"] == 60_00


async def test_deadlines_to_come(played: Played) -> None:
    at_noon = await ask(played, "deadlines", as_of=FIRST_NOON)
    assert at_noon.rows == [
        (date(2026, 3, 4), "payments", "validation", CLUB, 2, 70_00),
        (date(2026, 4, 1), "vouchers", "expiry", SUPPLIER, 1, 120_00),
    ]
    before = await ask(played, "deadlines", as_of=paris(3, 2, 10, 55))
    assert (date(2026, 3, 2), "payments", "payment", CLUB, 1, 25_00) in before.rows
    assert [row[:3] for row in (await ask(played, "deadlines")).rows] == [(date(2026, 4, 1), "vouchers", "expiry")]


async def test_requests_are_expired_from_their_deadline_on_swept_or_not(played: Played) -> None:
    """Until the sweep the ledger still holds the money: both are said as they were known."""
    rows = (await ask(played, "payments", as_of=BEFORE_THE_SWEEP)).rows
    assert (CLUB, P002, WINDOW, "EXPIRED", 1, 20_00, 20_00, 0) in rows
    held = {row[0]: row[2] for row in (await ask(played, "balances", as_of=BEFORE_THE_SWEEP)).rows}
    assert held["HELD"] == 140_00
    assert (await ask(played, "payments")).rows == [
        (CLUB, P001, "IMMEDIATE", "EXPIRED", 1, 25_00, 0, 0),
        (CLUB, P001, "IMMEDIATE", "VALIDATED", 1, 40_00, 30_00, 30_00),
        (CLUB, P001, WINDOW, "VALIDATED", 1, 50_00, 50_00, 45_00),
        (CLUB, P002, WINDOW, "EXPIRED", 1, 20_00, 20_00, 0),
    ]
    assert (await ask(played, "payments", as_of=paris(3, 2, 10, 35))).rows == [
        (CLUB, P001, "IMMEDIATE", "VALIDATED", 1, 40_00, 30_00, 30_00),
        (CLUB, P001, WINDOW, "TO_VALIDATE", 1, 50_00, 50_00, 0),
    ]


async def test_status_as_of_the_copy_is_the_rows_own_or_what_time_has_made_of_it(played: Played) -> None:
    rows = await played.world.as_owner(
        "SELECT id, CASE WHEN status = 'AWAITING_PAYMENT' THEN 'EXPIRED' ELSE status END FROM payment_requests"
        " WHERE tenant = $1 UNION ALL SELECT id, status FROM vouchers WHERE tenant = $1",
        played.world.tenant,
    )
    with opened(played.link) as store:
        known = store.execute(
            "SELECT id, status FROM payment_requests_as_of($1) UNION ALL SELECT id, status FROM vouchers_as_of($1)",
            [THE_COPY],
        ).fetchall()
    assert set(known) == {tuple(row) for row in rows}


async def test_vouchers_by_supplier_and_by_member(played: Played) -> None:
    now, then = (4, 360_00, 1, 120_00, 185_50, 60_00), (3, 260_00, 2, 200_00, 0, 60_00)
    assert (await ask(played, "vouchers_by_supplier")).rows == [(SUPPLIER, "BW", *now)]
    assert (await ask(played, "vouchers_by_member")).rows == [(str(played.member), "BW", *now)]
    assert (await ask(played, "vouchers_by_supplier", as_of=FIRST_NOON)).rows == [(SUPPLIER, "BW", *then)]
    assert (await ask(played, "vouchers_by_supplier", as_of=paris(4, 2, 9))).rows == [
        (SUPPLIER, "BW", 4, 360_00, 0, 0, 185_50, 180_00)
    ], "what nobody presents expires by time alone"


# ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_merchant_sees_itself(played: Played) -> None:
    for name, report in REPORTS.items():
        if not report.for_merchants:
            with pytest.raises(ValueError, match="is not asked with merchant"):
                await ask(played, name, merchant=played.club)
            continue
        assert {"as_of", "merchant"} <= report.takes
        own, others = await ask(played, name, merchant=played.club), await ask(played, name, merchant=played.supplier)
        assert SUPPLIER not in str(own.rows) and CLUB not in str(others.rows)
        assert own.rows or others.rows or name in NOT_PLAYED
        assert (await ask(played, name, merchant=uuid4())).count == 0
    owed = await ask(played, "outstanding", merchant=played.club)
    assert {row[0] for row in owed.rows} == {"MERCHANT"} and owed.totals["amount"] == 75_00
    with pytest.raises(ValueError, match="is not asked with point_of_sale"):
        await ask(played, "vouchers_by_supplier", point_of_sale=played.place)
    with pytest.raises(ValueError, match="is not asked with since"):
        await ask(played, "balances", since=date(2026, 3, 2))
    with pytest.raises(KeyError):
        await ask(played, "salaries")
    one_place = await ask(played, "payments", point_of_sale=played.place)
    assert [row[1] for row in one_place.rows] == [P002]


async def test_namesakes_are_told_apart(played: Played, tmp_path: Path) -> None:
    """Two shops of one name are owed two amounts."""
    alike = tmp_path / played.link.name
    shutil.copyfile(played.link, alike)
    with duckdb.connect(alike) as store:
        store.execute("UPDATE merchants SET name = 'Au bon coin'")
        store.execute("UPDATE points_of_sale SET name = 'Comptoir'")
    for name in REPORTS:
        of_namesakes = await questions.ask(tmp_path, played.world.slug, name, test=True)
        assert of_namesakes.count == (await ask(played, name)).count, name


async def test_pages_and_totals(played: Played) -> None:
    whole = await ask(played, "operations")
    page = await ask(played, "operations", first=3, skip=2)
    assert page.rows == whole.rows[2:5]
    assert (page.count, page.totals) == (whole.count, whole.totals)
    assert (await ask(played, "operations", first=0)).rows == []


async def test_every_report_has_its_columns_in_both_languages(played: Played) -> None:
    kinds = {ColumnKind.COUNT: int, ColumnKind.MONEY: int, ColumnKind.DAY: date, ColumnKind.INSTANT: datetime}
    for name, report in REPORTS.items():
        answer = await ask(played, name)
        assert (answer.rows or name in NOT_PLAYED) and answer.count == len(answer.rows)
        assert len({column.name for column in report.columns}) == len(report.columns)
        for row in answer.rows:
            for column, cell in zip(answer.columns, row, strict=True):
                assert cell is None or type(cell) is kinds.get(column.kind, str), f"{name}.{column.name}"
        assert all(text.in_locale(locale) for locale in Locale for text in (report.title, report.columns[0].heading))


async def test_what_the_store_says_about_itself(played: Played) -> None:
    about = await questions.about(played.folder, played.world.slug, test=True)
    assert (about.issuer, about.test, about.as_of, about.number) == (played.world.slug, True, THE_COPY, 1)
    assert (await ask(played, "balances")).about == about
    with pytest.raises(NoStore):
        await questions.about(played.folder, played.world.slug, test=False)
    for slug in ("nobody", "../x"):
        with pytest.raises(NoStore):
            await questions.about(played.folder, slug, test=True)


async def test_a_question_that_takes_too_long_is_cut_off(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "LONGEST_SECONDS", 0.01)
    with pytest.raises(questions.TooLong):
        await ask(played, "outstanding")


async def test_a_question_reaches_nothing_but_its_store(played: Played, tmp_path: Path) -> None:
    """Whatever a report's SQL said: no other file, no other setting, no change."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    for sql in (
        f"FROM '{secret}'",
        "SELECT getenv('HOME') AS a",
        "DELETE FROM ledger_lines",
        "SELECT 1; DROP VIEW ledger",
    ):
        question = {"sql": sql, "given": {}, "columns": ["*"], "summed": [], "first": 1, "skip": 0}
        with pytest.raises((questions.CannotAnswer, NoStore)):
            await questions._answer(played.folder, played.world.slug, True, question)
    assert (await ask(played, "balances")).totals["amount"] == 0


def test_neither_tills_nor_workers_load_what_analysts_do() -> None:
    """Questions are answered, and copies made, by processes of their own."""
    for module in ("api.app", "tasks.run", "reporting.questions"):
        code = f"import sys, {module}; sys.exit(any(n in sys.modules for n in ('duckdb', 'adbc_driver_postgresql')))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, module
