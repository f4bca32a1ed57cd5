"""Members and their dues from a workbook: taken whole, or not at all, and then it says why, row by row."""

import asyncio
import io
import os
import signal
import struct
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from openpyxl import load_workbook

from domain import documents, imports, jobs
from domain.access import Role
from domain.calendar import PARIS
from domain.codes import read_global_id
from domain.db import Database
from domain.imports import MemberRow, Progress, SheetRow
from domain.jobs import RowProblem, RowsRefused
from domain.parties import Channel, Holder
from domain.texts import Locale, Text
from domain.transactions import Own
from domain.work import perform
from escarcelle.clients import Client
from tasks.imports import import_holders, read
from tests.flows.test_vouchers import Cast, assembled
from tests.tasks import PostBox, database_of, process_working, settings_for, until
from tests.workbooks import Row, changed, encrypted, xls, xlsx
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

JOB = "... on Job { id kind status done total downloadUrl problems { row column message } }"
WATCH = f"subscription ($id: ID!) {{ job(id: $id) {{ {JOB} }} }}"
MEMBERS = """query ($search: String!) { holders(search: $search, first: 100) { totalCount nodes {
  reference name firstName email mobile memberSince duesPaidUntil statementBy
  postalAddress { street postcode town country }
} } }"""
NOON = datetime(2026, 11, 23, 12, tzinfo=PARIS).astimezone(UTC)
NUMBER, NAME, DUES = "Numéro d’adhérent", "Nom", "À jour de cotisation jusqu’au"
PAUL, ANNA = "44001234B", "44005678C"
SHEET = "xl/worksheets/sheet1.xml"


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the voucher tests, on a Monday at noon; they have been there since the day before."""
    await world.freeze(NOON - timedelta(days=1))
    async with assembled(world, running) as everyone:
        await world.freeze(NOON)
        yield everyone


async def hand_in(by: Client, file: bytes, key: str | None = None) -> dict[str, Any]:
    """The job, or the refusal."""
    return await by.do("importHolders", JOB, file=file, idempotencyKey=key)


async def over(by: Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job, once it is over, in the client's language."""
    async with asyncio.timeout(40), by.subscribe(WATCH, id=job["id"]) as events:
        async for _ in events:
            pass
    found = (await by.ask(f"query ($id: ID!) {{ node(id: $id) {{ {JOB} }} }}", id=job["id"]))["node"]
    assert isinstance(found, dict)
    return found


async def imported(cast: Cast, *rows: Row) -> dict[str, Any]:
    """The job of a workbook of these rows, once it is over."""
    return await over(cast.agency, await hand_in(cast.agency, xlsx(*rows)))


async def refused(cast: Cast, file: bytes, by: Client | None = None) -> list[tuple[int | None, str | None, str]]:
    """What is wrong with a file. Nothing of it has happened, and nothing of it is left."""
    before = await cast.world.digest()
    job = await over(by or cast.agency, await hand_in(by or cast.agency, file))
    after = await cast.world.digest()
    # The job itself, its key and its lines in the journal are new.
    assert {name for name in after if after[name] != before[name]} == {"jobs", "journal", "idempotency_keys"}
    assert job["status"] == "FAILED"
    await nothing_is_left(cast.world)
    return [(problem["row"], problem["column"], problem["message"]) for problem in job["problems"]]


async def nothing_is_left(world: World) -> None:
    """Of what was handed in."""
    given = await world.as_owner("SELECT given FROM jobs WHERE tenant = $1 AND given <> '{}'", world.tenant)
    assert given == []
    assert await world.as_owner("SELECT FROM job_chunks WHERE tenant = $1", world.tenant) == []


async def member(cast: Cast, reference: str) -> dict[str, Any]:
    """As the agency sees it."""
    (found,) = (await cast.agency.ask(MEMBERS, search=reference))["holders"]["nodes"]
    assert isinstance(found, dict)
    return found


async def kept(world: World, reference: str) -> Holder:
    """As the database has it."""
    question = f"SELECT {', '.join(Holder.columns)} FROM holders WHERE tenant = $1 AND reference = $2"
    (row,) = await world.as_owner(question, world.tenant, reference)
    return Holder.from_row(tuple(row))


async def lines(world: World) -> list[tuple[str, str, Any]]:
    """What the journal says of members from noon on: what, of whom, by whom."""
    rows = await world.as_owner(
        "SELECT j.kind, h.reference, u.login FROM journal j"
        " JOIN holders h ON h.tenant = j.tenant AND h.id = j.subject_id"
        " LEFT JOIN users u ON u.tenant = j.tenant AND u.id = j.user_id"
        " WHERE j.tenant = $1 AND j.at >= $2 ORDER BY j.sequence",
        world.tenant,
        NOON,
    )
    return [tuple(row) for row in rows]


# ── what comes of it ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V7_a_voucher_refused_the_day_before_is_issued_once_the_dues_are_imported(cast: Cast) -> None:
    await imported(cast, (NUMBER, DUES), (PAUL, date(2026, 11, 22)))
    async with cast.world.unchanged():
        assert (await cast.request())["code"] == "DUES_UNPAID"
    job = await imported(cast, (NUMBER, DUES), (PAUL, date(2026, 12, 31)))
    shown = {name: job[name] for name in ("kind", "status", "done", "total", "downloadUrl", "problems")}
    assert shown == {
        "kind": "IMPORT_HOLDERS",
        "status": "DONE",
        "done": 1,
        "total": 1,
        "downloadUrl": None,
        "problems": [],
    }
    assert (await cast.request())["status"] == "ISSUED"


async def test_V1_an_unknown_number_makes_a_member_with_all_that_a_member_has(cast: Cast) -> None:
    headings = (
        NUMBER, NAME, "Prénom", "E-mail", "Mobile", "Rue", "Code postal", "Ville", "Pays", "Adhérent depuis", DUES,
        "Relevé par",
    )  # fmt: skip
    lea = (
        "01000001a", "Garnier", "Léa", "lea@Example.COM", 612345678, "1 place Foch", 1000, "Bourg-en-Bresse", None,
        date(2024, 9, 1), "31/12/2026", "Courrier",
    )  # fmt: skip
    hugo = ("01000002 B", "Petit", *[None] * 10)
    job = await imported(cast, headings, lea, hugo)
    assert (job["status"], job["done"], job["total"], job["problems"]) == ("DONE", 2, 2, [])
    assert await member(cast, "01000001A") == {
        "reference": "01000001A",
        "name": "Garnier",
        "firstName": "Léa",
        "email": "lea@example.com",
        "mobile": "0612345678",
        "memberSince": "2024-09-01",
        "duesPaidUntil": "2026-12-31",
        "statementBy": "POST",
        "postalAddress": {
            "street": "1 place Foch",
            "postcode": "01000",
            "town": "Bourg-en-Bresse",
            "country": "FR",
        },
    }
    found = await member(cast, "01000002B")
    assert (found["name"], found["memberSince"], found["duesPaidUntil"]) == ("Petit", "2026-11-23", None)
    assert await lines(cast.world) == [("hold.create", "01000001A", "agence"), ("hold.create", "01000002B", "agence")]
    await nothing_is_left(cast.world)
    cast.world.holders["01000001A"] = await kept(cast.world, "01000001A")
    await cast.world.user("01000001A", Role.HOLDER, holder="01000001A")
    async with await cast.running.client(cast.world, "01000001A") as newcomer:
        assert (await cast.request(by=newcomer))["status"] == "ISSUED"


async def test_an_empty_cell_changes_nothing_and_who_is_as_it_was_has_no_line(cast: Cast) -> None:
    before = await member(cast, PAUL), await member(cast, ANNA)
    headings = (NUMBER, NAME, "E-mail", "Ville", DUES)
    anna = (ANNA, "Durand", f"{ANNA}@EXAMPLE.com", None, date(2036, 12, 31))
    job = await imported(cast, headings, anna, (PAUL, None, None, None, "2027-12-31"), (None, " ", None, None, None))
    assert (job["status"], job["done"]) == ("DONE", 2)
    assert (await member(cast, PAUL), await member(cast, ANNA)) == (
        before[0] | {"duesPaidUntil": "2027-12-31"},
        before[1],
    )
    assert await lines(cast.world) == [("hold.update", PAUL, "agence")]
    rows = await cast.world.as_owner(
        "SELECT detail FROM journal WHERE kind = 'hold.update' AND at >= $1 AND tenant = $2", NOON, cast.world.tenant
    )
    assert [row["detail"] for row in rows] == ['{"changed": ["dues_paid_until"]}']


async def test_a_town_alone_changes_an_address_that_is_there_and_no_other(cast: Cast) -> None:
    address = {"street": "12 rue des Acacias", "postcode": "44000", "town": "Nantes", "country": "FR"}
    holder = cast.world.holders[PAUL].global_id
    await cast.agency.do("updateHolder", "... on Holder { id }", id=holder, postalAddress=address)
    assert (await imported(cast, (NUMBER, "Ville"), (PAUL, "Rezé")))["status"] == "DONE"
    assert (await member(cast, PAUL))["postalAddress"] == address | {"town": "Rezé"}
    said = await refused(cast, xlsx((NUMBER, "Ville"), (ANNA, "Rezé")))
    assert said == [(2, None, "Ce champ est obligatoire.")]


async def test_a_postcode_that_was_a_number_gets_its_zero_back_in_france_only(cast: Cast) -> None:
    headings = (NUMBER, NAME, "Rue", "Code postal", "Ville", "Pays")
    rows = (
        ("01000001A", "Garnier", "Grand-Place 1", 1000, "Bruxelles", "be"),
        ("01000002A", "Petit", "1 place Foch", 1000, "Bourg-en-Bresse", "fr"),
        ("01000003A", "Roux", "1 place Foch", 1000, "Bourg-en-Bresse", None),
        ("01000004A", "Blanc", "Grand-Place 1", "1000", "Bruxelles", "BE"),
        ("01000005A", "Noir", "Rue 5", 75001, "Paris", None),
    )
    assert (await imported(cast, headings, *rows))["status"] == "DONE"
    stored = [(await kept(cast.world, row[0])).postcode for row in rows]
    assert stored == ["1000", "01000", "01000", "1000", "75001"]
    # A row without a country means the one that the holder has.
    moved = (NUMBER, "Code postal")
    assert (await imported(cast, moved, ("01000001A", 1050), ("01000002A", 1200)))["status"] == "DONE"
    assert [(await kept(cast.world, row[0])).postcode for row in rows[:2]] == ["1050", "01200"]


async def test_a_customer_of_that_number_becomes_a_member(cast: Cast) -> None:
    await cast.world.holder("44009999D", "Client")
    await imported(cast, (NUMBER, DUES), ("44009999D", date(2026, 12, 31)))
    assert (await member(cast, "44009999D"))["memberSince"] == "2026-11-23"
    assert await cast.world.total(cast.world.holders["44009999D"].id, "GUARANTEE") == 0


async def test_H14_an_xls_does_the_same_as_an_xlsx(cast: Cast) -> None:
    headings = (NUMBER, NAME, "Prénom", "Mobile", DUES)
    job = await over(
        cast.agency,
        await hand_in(cast.agency, xls(headings, ("01000001A", "Garnier", "Léa", 612345678, date(2026, 12, 31)))),
    )
    assert (job["status"], job["done"], job["problems"]) == ("DONE", 1, [])
    of_the_xls = await member(cast, "01000001A")
    assert (of_the_xls["firstName"], of_the_xls["mobile"], of_the_xls["duesPaidUntil"]) == (
        "Léa",
        "0612345678",
        "2026-12-31",
    )
    await imported(cast, headings, ("01000002A", "Garnier", "Léa", 612345678, date(2026, 12, 31)))
    assert await member(cast, "01000002A") == of_the_xls | {"reference": "01000002A"}
    await imported(cast, headings, ("01000001A", "Garnier", "Léa", "0612345678", "31/12/2026"))
    assert len(await lines(cast.world)) == 2, "and the same again changes nothing"


async def test_headings_in_either_language_whatever_their_order_case_and_accents(cast: Cast) -> None:
    for n, headings in enumerate(
        (
            ("NUMERO D'ADHERENT", "nom", "PRENOM", "à jour de cotisation jusqu'au"),
            (" n° d’Adhérent ", "Nom de famille", "Prénom", "À  jour de cotisation  jusqu’au"),
            ("Member number", "Name", "First name", "Dues paid until"),
            ("member no.", "Family name", "FIRST NAME", DUES),
        )
    ):
        cells = (f"0100000{n}A", "Garnier", "Léa", date(2026, 12, 31))
        assert (await imported(cast, headings[::-1], cells[::-1]))["status"] == "DONE"
        found = await member(cast, f"0100000{n}A")
        assert (found["name"], found["firstName"], found["duesPaidUntil"]) == ("Garnier", "Léa", "2026-12-31")


async def test_what_cells_hold_is_read_as_it_is_meant() -> None:
    day = date(2026, 12, 31)
    headings = (NUMBER, NAME, "Mobile", DUES)
    for file in (xlsx(headings, ("=A9|44001234B", "'=cmd|' /C calc'!A0", 33612345678, day), date_1904=True),
                 xlsx(headings, ("44001234 b", "'=cmd|' /C calc'!A0", "33612345678", "31/12/2026"), *[(" ",)] * 50),
                 xlsx(headings, (PAUL, "'=cmd|' /C calc'!A0", "33612345678 ", "=B1|2026-12-31"),
                      others={"Autre": [("Rien", "à voir")]})):  # fmt: skip
        (found,) = imports.members_in(await read(file))
        said = {"name": "=cmd|' /C calc'!A0", "mobile": "33612345678", "dues_paid_until": day}
        assert (found.row, found.reference, found.said) == (2, PAUL, said)
    (posted,) = imports.members_in(await read(xlsx((NUMBER, "Statement by"), (PAUL, "E-Mail"))))
    assert posted.said == {"statement_by": Channel.EMAIL}


# ── what is wrong with it ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_wrong_address_in_fifty_rows_and_nothing_happens(cast: Cast) -> None:
    rows = [(f"{n:08d}A", "Martin", f"m{n}@example.com", date(2026, 12, 31)) for n in range(2, 52)]
    rows[15] = (*rows[15][:2], "pas une adresse", rows[15][3])
    file = xlsx((NUMBER, NAME, "E-mail", DUES), *rows)
    assert await refused(cast, file) == [(17, "C", "Cette adresse e-mail n’est pas valide.")]
    async with await cast.running.client(cast.world, "agence", language="en") as english:
        assert await refused(cast, file, english) == [(17, "C", "This e-mail address is not valid.")]
    rows[15] = (*rows[15][:2], "une@example.com", rows[15][3])
    assert (await imported(cast, (NUMBER, NAME, "E-mail", DUES), *rows))["done"] == 50


async def test_H13_everything_that_is_wrong_is_told_at_once_at_its_place(cast: Cast) -> None:
    headings = (NUMBER, NAME, "Mobile", DUES, "Relevé par", "Pays", "Rue")
    said = await refused(
        cast,
        xlsx(
            headings,
            (44001234, "Martin"),
            (None, "Martin"),
            ("01000001A", None, None, date(2026, 12, 31)),
            ("01000002A", "x" * 121),
            ("01000003A", "Martin", 0.5, "31/02/2026", "pigeon"),
            (PAUL, None, None, 46387),
            (PAUL, None, None, "01/01/26"),
            (PAUL, date(2026, 1, 1)),
            ("01000004A", "Martin", None, None, "courriel"),
            ("01000004a", "Martin"),
            (ANNA, None, "1\n2"),
        ),
    )
    a_date, a_text = (
        "Une date est attendue, par exemple 31/12/2026.",
        "Du texte est attendu : donnez à la cellule le format Texte.",
    )
    assert said == [
        (2, "A", "Un numéro d’adhérent a huit chiffres et une lettre, par exemple 44001234B."),
        (3, "A", "Le numéro d’adhérent manque."),
        (6, "C", a_text),
        (6, "D", a_date),
        (6, "E", "« courriel » ou « courrier » est attendu."),
        (7, "D", a_date),
        (8, "D", a_date),
        (9, "B", a_text),
        (11, "A", "Cet adhérent est déjà à la ligne 10."),
    ], "what the file alone shows"
    assert await refused(
        cast,
        xlsx(
            headings,
            ("01000001A", None, None, date(2026, 12, 31)),
            ("01000002A", "x" * 121),
            ("01000004A", "Martin", None, None, "courriel"),
            (ANNA, None, "1\n2"),
            (PAUL, None, None, None, None, "FRA", "12 rue des Acacias"),
        ),
    ) == [
        (2, "B", "Ce champ est obligatoire."),
        (3, "B", "120 caractères au plus."),
        (4, "E", "Un relevé par e-mail demande une adresse e-mail."),
        (5, "C", "Une seule ligne de texte est attendue."),
        (6, "F", "Un code de pays a deux lettres, par exemple FR."),
    ], "what the deeds refuse"


async def test_an_error_in_a_cell_is_told_and_not_taken_for_an_empty_one(cast: Cast) -> None:
    file = xlsx(
        (NUMBER, NAME, DUES),
        (PAUL, None, "=VLOOKUP(A2,Z:Z,2)|#N/A"),
        (ANNA, "=B9", date(2026, 12, 31)),
        ("=Z9|#REF!", None, None),
        others={"Autre": [("=1/0|#DIV/0!",)]},
    )
    said = "Cette cellule contient une erreur."
    assert await refused(cast, file) == [(2, "C", said), (3, "B", said), (4, "A", said)]
    async with await cast.running.client(cast.world, "agence", language="en") as english:
        in_english = "This cell contains an error."
        assert [message for _, _, message in await refused(cast, file, english)] == [in_english] * 3


CELLS_WRONG = {
    "without a place of their own": (b"<row><c/><c/><c t='e'><v>#N/A</v></c></row>", [(3, "C")]),
    "with a formula and no value at all": (b'<row r="3"><c r="C3"><f>A1</f></c></row>', [(3, "C")]),
    "with a formula and an empty value": (b'<row r="3"><c r="C3" s="1"><f>A1</f><v/></c></row>', [(3, "C")]),
    "far behind the last value": (b'<row r="40"><c r="A40" t="e"><f>A1</f><v>#NAME?</v></c></row>', [(40, "A")]),
    "with another prefix": (
        (
            b'<x:row r="3" xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
            b'<x:c r="A3" t="e"><x:v>#N/A</x:v></x:c></x:row>'
        ),
        [(3, "A")],
    ),
}


@pytest.mark.parametrize("how", CELLS_WRONG)
async def test_errors_are_found_however_they_are_written(how: str) -> None:
    row, places = CELLS_WRONG[how]
    found = problems_of(*await read(changed(THREE_COLUMNS, SHEET, _with_row(row))))
    assert found == [(*place, "Cette cellule contient une erreur.") for place in places]


async def test_a_formula_that_gives_an_empty_text_says_nothing() -> None:
    row = b'<row r="3"><c r="A3" t="str"><f>A1</f><v></v></c><c r="B3" t="str"><f>A2</f></c></row>'
    (found,) = imports.members_in(await read(changed(THREE_COLUMNS, SHEET, _with_row(row))))
    assert (found.row, found.said) == (2, {"name": "Martin"})


THREE_COLUMNS = xlsx((NUMBER, NAME, DUES), (PAUL, "Martin", None))


def _with_row(row: bytes) -> Callable[[bytes], bytes]:
    return lambda sheet: sheet.replace(b"</sheetData>", row + b"</sheetData>")


@pytest.mark.parametrize("made", [xls, xlsx])
async def test_true_and_false_are_no_text(made: Callable[..., bytes]) -> None:
    a_text = "Du texte est attendu : donnez à la cellule le format Texte."
    sheet = await read(made((NUMBER, "Prénom", DUES), (PAUL, True, False)))
    assert problems_of(*sheet) == [(2, "B", a_text), (2, "C", "Une date est attendue, par exemple 31/12/2026.")]


HEADINGS_FIRST = "La ligne 1 doit porter les titres des colonnes, dont « Numéro d’adhérent »."
NOBODY = "Le premier onglet ne contient aucun adhérent."


async def test_headings_are_made_sure_of(cast: Cast) -> None:
    nothing_known = [(1, None, HEADINGS_FIRST)]
    sheets: list[tuple[list[Row], list[Any]]] = [
        ([], nothing_known),
        ([(None,), (NUMBER, NAME), (PAUL, "Martin")], nothing_known),
        ([(PAUL, "Martin"), (ANNA, "Durand")], nothing_known),
        ([(NAME, DUES), ("Martin", date(2026, 12, 31))], nothing_known),
        ([(NUMBER, NAME)], [(None, None, NOBODY)]),
        (
            [(NUMBER, "Cotisation {2026}", NAME, "name", "Solde"), (PAUL,)],
            [
                (1, "B", "La colonne « Cotisation {2026} » n’est pas connue."),
                (1, "D", "La colonne « name » est là deux fois."),
                (1, "E", "La colonne « Solde » n’est pas connue."),
            ],
        ),
        # As a heading over two columns leaves it.
        ([(NUMBER, NAME, None), (PAUL, "Martin", "Paul")], [(2, "C", "Cette colonne n’a pas de titre.")]),
    ]
    for rows, said in sheets:
        assert await refused(cast, xlsx(*rows)) == said


async def test_a_hundred_problems_are_told_and_how_many_more(cast: Cast) -> None:
    said = await refused(cast, xlsx((NUMBER, NAME), *[(f"{n}", "Martin") for n in range(150)]))
    assert [row for row, _, _ in said] == [*range(2, 102), None]
    assert said[-1] == (None, None, "Et 50 autres problèmes.")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows with each problem that is put into words."""
    made: list[Any] = []
    of = RowProblem.of

    def counting(text: Text, *place: Any, **facts: Any) -> RowProblem:
        made.append(text)
        return of(text, *place, **facts)

    monkeypatch.setattr(RowProblem, "of", counting)
    return made


def problems_of(*sheet: SheetRow) -> list[tuple[int | None, str | None, str]]:
    """What is wrong with it, as far as the file shows it."""
    with pytest.raises(RowsRefused) as caught:
        imports.members_in(sheet)
    return [(problem.row, problem.column, problem.said["fr"]) for problem in caught.value.rows]


def test_a_column_of_notes_without_a_heading_is_told_once() -> None:
    rows = [(n, (f"{n:08d}A", "Martin", "appeler le soir")) for n in range(2, 302)]
    rows[7] = (9, ("?", "Martin", "appeler le soir"))
    assert problems_of((1, (NUMBER, NAME, None)), *rows) == [
        (2, "C", "Cette colonne n’a pas de titre."),
        (9, "A", "Un numéro d’adhérent a huit chiffres et une lettre, par exemple 44001234B."),
    ]


def test_however_much_is_wrong_little_is_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    made = counted(monkeypatch)
    rows: list[SheetRow] = [(n, [float(n)] * 90) for n in range(2, imports.MOST_MEMBERS + 2)]
    said = problems_of((1, (NUMBER, NAME, DUES)), *rows)
    # Each row's number and date, and 87 columns without a heading.
    assert (len(said), said[-1][2]) == (101, f"Et {2 * 5_000 + 87 - 100} autres problèmes.")
    assert len(made) == 101
    made.clear()
    too_many = problems_of((1, ("Rien",)), *rows, (5_002, [1.0]))
    assert too_many == [(None, None, "Un fichier compte 5000 adhérents au plus.")]
    assert len(made) == 1


async def test_what_a_file_says_is_read_beside_the_event_loop(quiet: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def members_in(_: Sequence[SheetRow]) -> list[MemberRow]:
        threads.append(threading.current_thread())
        raise RowsRefused

    async with database_of(quiet.settings) as database:
        world = await World.make(quiet, database)
        agent = await world.user("agence", Role.ISSUER_AGENT)
        job = await _begun(database, world, agent, xlsx((NUMBER, NAME), (PAUL, "Martin")))
        await world.as_owner("DELETE FROM outbox")
        monkeypatch.setattr(imports, "members_in", members_in)
        with pytest.raises(RowsRefused):
            await import_holders(database, job, uuid4())
    assert threads and threads[0] is not threading.main_thread()


async def test_five_thousand_members_and_no_more(cast: Cast) -> None:
    rows = [(f"{n:08d}A", f"Membre {n}", date(2026, 12, 31)) for n in range(1, imports.MOST_MEMBERS + 2)]
    said = await refused(cast, xlsx((NUMBER, NAME, DUES), *rows))
    assert said == [(None, None, "Un fichier compte 5000 adhérents au plus.")]
    # One of them is there, and being changed by somebody else: until that is over, all others can be seen to be done.
    there = rows[0][0]
    await cast.world.member(there, "Membre 1")
    seen = []
    async with asyncio.timeout(120), _locked(cast.world, there) as someone_waits:
        job = await hand_in(cast.agency, xlsx((NUMBER, NAME, DUES), *rows[:-1]))
        async with cast.agency.subscribe(WATCH, id=job["id"]) as events:
            async for event in events:
                seen.append((event["job"]["status"], event["job"]["done"], event["job"]["total"]))
                if seen[-1] == ("RUNNING", 4_999, 5_000):
                    await someone_waits.by.execute("COMMIT")
    assert seen[-1] == ("DONE", 5_000, 5_000)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert ("RUNNING", 4_999, 5_000) in seen
    assert (await cast.agency.ask(MEMBERS, search="Membre"))["holders"]["totalCount"] == 5_000


async def test_what_is_no_workbook_is_not_even_taken(cast: Cast) -> None:
    async with cast.world.unchanged():
        for file in (b"", b"MZ\x90\x00" + bytes(500), b"%PDF-1.7", b"<?xml version='1.0'?>", b"a;b\n"):
            no = await hand_in(cast.agency, file)
            assert (no["code"], no["problems"][0]["path"]) == ("FILE_INVALID", ["input", "file"])
            assert no["message"] == "Un classeur Excel (.xlsx ou .xls) est attendu."


# ── hostile workbooks ─────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = xlsx((NUMBER, DUES), (PAUL, date(2026, 12, 31)))


def _in_the_sheet(more: bytes) -> bytes:
    return changed(GOOD, SHEET, lambda sheet: sheet.replace(b"</sheetData>", more + b"</sheetData>"))


def _bomb(*, lies: bool) -> bytes:
    """Hundreds of megabytes of nothing; when it lies, some kilobytes as its directory has it."""
    made = bytearray(_in_the_sheet(b" " * (250 << 20)))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = made.find(signature)
        while lies and at >= 0:
            if struct.unpack_from("<I", made, at + place)[0] > 100 << 20:
                struct.pack_into("<I", made, at + place, 3_000)
            at = made.find(signature, at + 4)
    return bytes(made)


def _many_entries() -> bytes:
    file = io.BytesIO(GOOD)
    with zipfile.ZipFile(file, "a") as archive:
        for n in range(2_000):
            archive.writestr(f"xl/media/{n}", b"")
    return file.getvalue()


def _entities() -> bytes:
    """A billion laughs."""
    declared = b"".join(b'<!ENTITY e%d "%s">' % (n + 1, b"&e%d;" % n * 10) for n in range(9))
    bomb = b'<!DOCTYPE x [<!ENTITY e0 "ha">' + declared + b"]>"
    cell = b'<row r="3"><c r="A3" t="inlineStr"><is><t>&e9;</t></is></c></row>'
    return changed(_in_the_sheet(cell), SHEET, lambda sheet: sheet.replace(b"?>\n", b"?>\n" + bomb, 1))


UNREADABLE = "Ce fichier est illisible : enregistrez-le de nouveau avec Excel, au format .xlsx."
TOO_LARGE = "Ce classeur est trop grand : ne gardez que le tableau des adhérents, et effacez ce qui est autour."
LOCKED = "Ce fichier est protégé par un mot de passe : enregistrez-le sans."
FAR_AWAY = _in_the_sheet(b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')


def _many_numbers() -> bytes:
    """A hundred columns of small numbers, of which one has a heading."""
    more = b"".join(
        b'<row r="%d">%s</row>' % (n, b"".join(b"<c><v>%d</v></c>" % (n * m % 997) for m in range(100)))
        for n in range(3, 5_003)
    )
    return _in_the_sheet(more)


HOSTILE = {
    "a zip bomb": (_bomb(lies=False), TOO_LARGE),
    "a zip bomb that lies about its size": (_bomb(lies=True), UNREADABLE),
    "many entries": (_many_entries(), TOO_LARGE),
    "a huge declared dimension": (
        changed(GOOD, SHEET, lambda sheet: sheet.replace(b'ref="A1:B2"', b'ref="A1:XFD1048576"')),
        TOO_LARGE,
    ),
    "a cell far away": (FAR_AWAY, UNREADABLE),
    "a cell far below": (_in_the_sheet(b'<row r="900000"><c r="A900000"><v>1</v></c></row>'), TOO_LARGE),
    "half of it": (GOOD[: len(GOOD) // 2], UNREADABLE),
    "half of an .xls": (xls((NUMBER,), (PAUL,))[:1500], UNREADABLE),
    "an encrypted archive": (encrypted(GOOD), LOCKED),
    "an archive by its first bytes only": (b"PK\x03\x04" + b"MZ\x90\x00" * 500, UNREADABLE),
    "an .xls by its first bytes only": (xls()[:8] + bytes(5_000), UNREADABLE),
    "an archive of something else": (changed(GOOD, "xl/workbook.xml", lambda _: b"<no/>"), UNREADABLE),
    "entities in entities": (_entities(), UNREADABLE),
    "many columns of small numbers": (_many_numbers(), TOO_LARGE),
    "one long text in many cells": (
        xlsx((NUMBER, NAME), *[("x" * 900, "x" * 900)] * 9_000),
        TOO_LARGE,
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_workbook_harms_its_reader_only(what: str) -> None:
    file, said = HOSTILE[what]
    began = time.monotonic()
    with pytest.raises(RowsRefused) as caught:
        await read(file, seconds=60)
    assert [problem.said["fr"] for problem in caught.value.rows] == [said]
    assert time.monotonic() - began < 30


async def test_a_reader_that_takes_too_long_is_ended() -> None:
    with pytest.raises(RowsRefused) as caught:
        await read(GOOD, seconds=0)
    assert [problem.said["fr"] for problem in caught.value.rows] == [UNREADABLE]


async def test_the_worker_lives_on_whatever_it_was_given(cast: Cast) -> None:
    for what in ("a cell far away", "a zip bomb that lies about its size", "entities in entities"):
        file, said = HOSTILE[what]
        assert await refused(cast, file) == [(None, None, said)]
    assert (await imported(cast, (NUMBER, DUES), (PAUL, date(2026, 12, 31))))["status"] == "DONE"


# ── keys, and what is left ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_goes_with_the_same_file(cast: Cast) -> None:
    key, file = str(uuid4()), xlsx((NUMBER, DUES), (PAUL, date(2026, 12, 31)))
    first = await over(cast.agency, await hand_in(cast.agency, file, key))
    async with cast.world.unchanged():
        again = await hand_in(cast.agency, file, key)
        assert (again["id"], again["status"]) == (first["id"], "DONE")
        other = await hand_in(cast.agency, xlsx((NUMBER, DUES), (PAUL, date(2027, 12, 31))), key)
        assert other["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_nobody_s_data_is_left_where_a_file_was_refused(cast: Cast) -> None:
    rows = ((PAUL, "Confidentiel", "intime@example"), (ANNA, "Confidentiel", "intime@example"))
    await refused(cast, xlsx(*rows))
    await refused(cast, xlsx((NUMBER, NAME, "E-mail"), *rows))
    for table in ("jobs", "journal", "outbox", "dead_letters", "idempotency_keys"):
        kept = await cast.world.as_owner(f"SELECT t::text FROM {table} t WHERE tenant = $1", cast.world.tenant)
        assert [row["t"] for row in kept if "onfidentiel" in row["t"] or "intime" in row["t"]] == [], table


async def test_who_may_no_longer_sign_in_imports_nothing(cast: Cast) -> None:
    async with _nothing_is_relayed(cast.world):
        job = await hand_in(cast.agency, xlsx((NUMBER, DUES), (PAUL, date(2026, 12, 31))))
        await cast.world.as_owner("UPDATE users SET active = false WHERE id = $1", cast.world.users["agence"].user_id)
    job_id = read_global_id(job["id"])[2]
    await cast.world.as_owner("UPDATE outbox SET claim_at = now() WHERE payload ->> 'id' = $1", str(job_id))

    failed = "SELECT FROM jobs WHERE id = $1 AND status = 'FAILED'"
    await until(lambda: cast.world.as_owner(failed, job_id))
    assert await lines(cast.world) == []
    await nothing_is_left(cast.world)


@asynccontextmanager
async def _nothing_is_relayed(world: World) -> AsyncIterator[None]:
    """Jobs that are begun here wait for an hour."""
    await world.as_owner(
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN new.claim_at := now() + interval ''1 hour''; RETURN new; END'"
    )
    await world.as_owner(
        "CREATE TRIGGER later BEFORE INSERT ON outbox FOR EACH ROW WHEN (new.topic = 'job') EXECUTE FUNCTION later()"
    )
    try:
        yield
    finally:
        await world.as_owner("DROP FUNCTION later CASCADE")


# ── workers that die ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers on which no worker runs but the test's."""
    started = Servers.start(tmp_path_factory.mktemp("dues"))
    yield started
    started.stop()


async def test_a_worker_killed_midway_leaves_nothing_half_done_and_the_next_one_does_it_once(quiet: Servers) -> None:
    count = 1_200
    async with PostBox().open() as box, database_of(quiet.settings) as database:
        world = await World.make(quiet, database)
        agent = await world.user("agence", Role.ISSUER_AGENT)
        last = f"{count:08d}A"
        await world.member(last, "Dernier")
        await world.as_owner("DELETE FROM outbox")
        rows = [(f"{n:08d}A", f"Membre {n}", date(2026, 12, 31)) for n in range(1, count + 1)]
        job = await _begun(database, world, agent, xlsx((NUMBER, NAME, DUES), *rows))
        before = await world.digest()
        async with _locked(world, last) as someone_waits, process_working(settings_for(quiet, box)) as process:
            await until(someone_waits)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        after = await world.digest()
        assert {name for name in after if after[name] != before[name]} == {"jobs", "journal"}
        (row,) = await world.as_owner("SELECT status, done, total FROM jobs WHERE id = $1", job.id)
        assert (row["status"], row["total"]) == ("RUNNING", count)
        await world.as_owner("UPDATE outbox SET claim_at = clock_timestamp()")
        async with process_working(settings_for(quiet, box)):
            await until(lambda: _is_over(world, job))
        (row,) = await world.as_owner("SELECT status, runs, done FROM jobs WHERE id = $1", job.id)
        assert tuple(row) == ("DONE", 2, count)
        for question, wanted in (
            ("SELECT count(*) FROM holders WHERE tenant = $1 AND dues_paid_until = '2026-12-31'", count),
            ("SELECT count(*) FROM journal WHERE tenant = $1 AND kind = 'hold.create'", count),
            ("SELECT count(*) FROM journal WHERE tenant = $1 AND kind = 'hold.update'", 2),
            ("SELECT count(*) FROM accounts WHERE tenant = $1 AND kind = 'DEBT'", count),
            ("SELECT version FROM holders WHERE tenant = $1 AND name LIKE 'Membre 1200'", 2),
        ):
            assert (await world.as_owner(question, world.tenant))[0][0] == wanted, question
        await nothing_is_left(world)


async def test_a_worker_told_to_stop_keeps_the_file_for_the_next_one(quiet: Servers) -> None:
    async with PostBox().open() as box, database_of(quiet.settings) as database:
        world = await World.make(quiet, database)
        agent = await world.user("agence", Role.ISSUER_AGENT)
        await world.member(PAUL, "Martin")
        await world.as_owner("DELETE FROM outbox")
        job = await _begun(database, world, agent, xlsx((NUMBER, DUES), (PAUL, date(2026, 12, 31))))
        async with _locked(world, PAUL) as someone_waits, process_working(settings_for(quiet, box)) as process:
            await until(someone_waits)
            process.send_signal(signal.SIGTERM)
            await until(lambda: _is(world, job, "QUEUED"))
            await process.communicate()
        async with process_working(settings_for(quiet, box)):
            await until(lambda: _is_over(world, job))
        (row,) = await world.as_owner("SELECT status, done FROM jobs WHERE id = $1", job.id)
        assert tuple(row) == ("DONE", 1)
        updates = "SELECT FROM journal WHERE tenant = $1 AND kind = 'hold.update'"
        assert len(await world.as_owner(updates, world.tenant)) == 2, "the member's own beginning, and the import"


async def test_only_members_whom_their_rows_change_are_locked_and_they_as_they_then_are(quiet: Servers) -> None:
    async with PostBox().open() as box, database_of(quiet.settings) as database:
        world = await World.make(quiet, database)
        agent = await world.user("agence", Role.ISSUER_AGENT)
        for reference in (PAUL, ANNA):
            await world.member(reference, "Martin")
        await world.as_owner("DELETE FROM outbox")
        rows = ((PAUL, "Martin", None), (ANNA, "Martin", date(2026, 12, 31)))
        job = await _begun(database, world, agent, xlsx((NUMBER, NAME, DUES), *rows))
        of = "WHERE tenant = $1 AND reference = $2"
        async with _locked(world, ANNA) as someone_waits, process_working(settings_for(quiet, box)):
            await until(someone_waits)
            # Paul's row stands before hers, and says nothing new: nobody waits for him.
            await world.as_owner(f"SELECT FROM holders {of} FOR UPDATE NOWAIT", world.tenant, PAUL)
            await someone_waits.by.execute(
                f"UPDATE holders SET dues_paid_until = '2026-12-31' {of}", world.tenant, ANNA
            )
            await someone_waits.by.execute("COMMIT")
            await until(lambda: _is_over(world, job))
        (row,) = await world.as_owner("SELECT status, done FROM jobs WHERE id = $1", job.id)
        assert tuple(row) == ("DONE", 2)
        updates = "SELECT FROM journal WHERE tenant = $1 AND kind = 'hold.update' AND user_id = $2"
        assert await world.as_owner(updates, world.tenant, agent.user_id) == [], "somebody else was first"


async def test_members_are_locked_all_at_once_after_everything_is_decided(
    quiet: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def noted(name: str) -> None:
        does = getattr(Own, name)

        async def doing(self: Own, *given: Any) -> Any:
            said.append(name)
            return await does(self, *given)

        monkeypatch.setattr(Own, name, doing)

    async with database_of(quiet.settings) as database:
        world = await World.make(quiet, database)
        agent = await world.user("agence", Role.ISSUER_AGENT)
        count = 40
        for n in range(count):
            await world.member(f"{n:08d}A", "Membre")
        job = await perform(database, agent, jobs.start, (await _begun(database, world, agent, GOOD)).id)
        assert isinstance(job, jobs.Job)
        rows = [MemberRow(n + 2, f"{n:08d}A", {"dues_paid_until": date(2027, 12, 31)}, {}) for n in range(count)]
        for name in ("take", "take_all", "fetch", "write"):
            noted(name)
        await perform(database, agent, imports.take_over, job.id, job.runs, uuid4(), rows, Progress())
        await world.as_owner("DELETE FROM outbox")
        # Behind the locks: the clock, one statement for all of them, and what ends the job.
        assert said.count("take_all") == 1
        assert len(said) < 20, said
        assert said[said.index("take_all") + 1 :][:2] == ["take", "write"]


async def _begun(database: Database, world: World, agent: Any, file: bytes) -> jobs.Job:
    given = documents.File("adherents.xlsx", file, os.urandom(32))
    job = await perform(database, agent, imports.import_holders, file=given, locale=Locale.FR)
    assert isinstance(job, jobs.Job)
    return job


async def _is(world: World, job: jobs.Job, *statuses: str) -> bool:
    ((status,),) = await world.as_owner("SELECT status FROM jobs WHERE id = $1", job.id)
    return status in statuses


async def _is_over(world: World, job: jobs.Job) -> bool:
    return await _is(world, job, "DONE", "FAILED")


@asynccontextmanager
async def _locked(world: World, reference: str) -> AsyncIterator["Lock"]:
    """That member is being changed by somebody else."""
    connection = await asyncpg.connect(world.servers.settings.database_url)
    try:
        await connection.execute("SET idle_in_transaction_session_timeout = 0; BEGIN")
        await connection.execute(
            "SELECT FROM holders WHERE tenant = $1 AND reference = $2 FOR UPDATE", world.tenant, reference
        )
        yield Lock(world, connection, connection.get_server_pid())
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Lock:
    """Tells, when it is called, whether someone waits for it."""

    world: World
    by: asyncpg.Connection
    process_id: int

    async def __call__(self) -> Any:
        waiting = "SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
        return await self.world.as_owner(waiting, self.process_id)


# ── the template ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_template_is_in_the_user_s_language_and_comes_back_filled_in(cast: Cast) -> None:
    for language, name, first in (("fr", "adherents.xlsx", NUMBER), ("en", "members.xlsx", "Member number")):
        async with await cast.running.client(cast.world, "agence", language=language) as client:
            told = (await client.ask("{ holdersImportTemplate { title url } }"))["holdersImportTemplate"]
        assert told["url"] == f"{cast.running.settings.public_url}/templates/{name}"
        async with httpx.AsyncClient(base_url=cast.running.url, timeout=30) as http:
            answer = await http.get(urlsplit(told["url"]).path)
            assert (await http.get("/templates/autre.xlsx")).status_code == 404
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        book = load_workbook(io.BytesIO(answer.content))
        members, columns = book.worksheets
        headings = [cell.value for cell in members[1]]
        assert (headings[0], members.max_row, len(headings)) == (first, 1, len(imports.COLUMNS))
        assert [row[0].value for row in columns.iter_rows(min_row=2, max_row=13)] == headings
        formats: list[str] = []
        for group in members.column_dimensions.values():
            assert group.min is not None and group.max is not None
            formats += [group.number_format] * (group.max - group.min + 1)
        assert formats == [*["@"] * 9, *["dd/mm/yyyy"] * 2, "@"]
        examples = [row[2].value for row in columns.iter_rows(min_row=2, max_row=13)]
        members.append(examples)
        file = io.BytesIO()
        book.save(file)
        job = await over(cast.agency, await hand_in(cast.agency, file.getvalue()))
        assert (job["status"], job["problems"]) == ("DONE", []), "the examples are right"
    paul = await member(cast, PAUL)
    assert (paul["mobile"], paul["postalAddress"]["postcode"], paul["statementBy"]) == ("0612345678", "01000", "EMAIL")
    assert len(await lines(cast.world)) == 1, "the same in both languages"
    assert (await cast.paul.answer("{ holdersImportTemplate { url } }"))["errors"][0]["extensions"][
        "code"
    ] == "FORBIDDEN"
    async with cast.world.unchanged():
        assert (await hand_in(cast.paul, GOOD))["code"] == "FORBIDDEN"
