"""The voucher that its member prints: number and code on paper, behind a link that ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from domain import vouchers
from domain.codes import expiring_token, read_expiring_token, read_global_id
from escarcelle.clients import Client
from reporting import pdf
from tests.flows.pages import pages, squeezed, texts
from tests.flows.test_vouchers import INVOICE, SUNDAY_NIGHT, VOUCHER, Cast, assembled
from tests.world import Running, World

pytestmark = pytest.mark.anyio

READ = "query ($id: ID!) { node(id: $id) { ... on Voucher { pdfUrl } } }"
ENDED = "Ce lien a expiré : rouvrez le bon dans votre espace."


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the voucher tests."""
    async with assembled(world, running) as everyone:
        yield everyone


async def _link(by: Client, voucher: dict[str, Any]) -> str | None:
    node = (await by.ask(READ, id=voucher["id"]))["node"]
    link: str | None = node and node["pdfUrl"]
    return link


async def _open(cast: Cast, link: str | None, language: str = "fr") -> httpx.Response:
    """As a browser without any cookie."""
    assert link is not None
    async with httpx.AsyncClient(base_url=cast.running.url, timeout=30) as http:
        return await http.get(urlsplit(link).path, headers={"accept-language": language})


async def _says(cast: Cast, link: str | None, language: str = "fr") -> str:
    answer = await _open(cast, link, language)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf"), answer.text
    assert answer.headers["cache-control"] == "private, no-store"
    assert pages(answer.content) == 1
    return texts(answer.content)


async def test_V12_V13_V18_V25_the_member_s_page_says_all_with_number_and_code(cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    await cast.world.as_owner(
        "UPDATE holders SET first_name = 'Éloïse', name = '#let *M* $x$ @n' WHERE id = $1",
        cast.world.holders["44001234B"].id,
    )
    voucher = await cast.request("1234,56")
    code = (await cast.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"]))["presentation"]["secretCode"]
    await cast.world.freeze(SUNDAY_NIGHT + timedelta(minutes=1, seconds=30))
    voucher = await cast.paul.do("deliverVoucher", VOUCHER, id=voucher["id"])
    link = await _link(cast.paul, voucher)
    said = await _says(cast, link)
    for words in (
        "N° d’adhérent 44001234B", "Nom de l’adhérent Éloïse #let *M* $x$ @n", "Numéro du bon W2026.XX.442.00000001",
        "Fournisseur Matériaux de l’Ouest", "Type de bon Bon web", "Statut du bon 11-livré",
        "Valeur du bon 1\u202f235\u00a0€", "Valide jusqu’au 22/12/2026", "Code obtenu le 22/11/2026 23:40",
        f"Code secret {code}", "garantissent le paiement de la facture correspondante par Fédération de l'Ouest",
        "Page établie le 22/11/2026 23:41", "Essai",
    ):  # fmt: skip
        assert squeezed(words) in said, words
    answer = await _open(cast, link)
    assert answer.headers["content-disposition"] == 'attachment; filename="bon-W2026.XX.442.00000001.pdf"'

    async with await cast.running.client(cast.world, "44001234B", language="en") as english:
        said = await _says(cast, await _link(english, voucher), "en-GB")
    for words in (
        "Valid until 22/12/2026",
        "Voucher value €1,235",
        "Voucher status 11-delivered",
        f"Secret code {code}",
    ):
        assert squeezed(words) in said, words


async def test_V15_nothing_is_printed_before_the_delivery(cast: Cast) -> None:
    voucher = await cast.request()
    assert await _link(cast.paul, voucher) is None
    await cast.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"])
    assert await _link(cast.paul, voucher) is None
    # Nor by a link that nobody was given.
    session = await _session(cast, "44001234B")
    assert (await _open(cast, _signed(cast, voucher, session))).status_code == 404
    await cast.paul.do("deliverVoucher", VOUCHER, id=voucher["id"])
    assert await _link(cast.paul, voucher) is not None
    assert (await _open(cast, _signed(cast, voucher, session))).status_code == 200


async def test_V3_V25_the_agency_s_page_has_no_code_and_nobody_else_has_a_page(cast: Cast) -> None:
    voucher, code = await cast.delivered()
    said = await _says(cast, await _link(cast.agency, voucher))
    assert squeezed(f"Numéro du bon {voucher['number']}") in said
    assert squeezed("Code secret") not in said and squeezed("vaut votre signature") not in said
    assert await _link(cast.anna, voucher) is None
    verified = await cast.supplier.do(
        "verifyVoucher", "... on Voucher { status pdfUrl }", number=voucher["number"], secretCode=code
    )
    assert verified == {"__typename": "Voucher", "status": "DELIVERED", "pdfUrl": None}
    given = {"voucherNumber": voucher["number"], "secretCode": code, "invoiceNumber": "F-1", "amount": "10"}
    invoice = await cast.supplier.do("recordSupplierInvoice", INVOICE.replace("number", "pdfUrl"), **given)
    assert invoice["voucher"]["pdfUrl"] is None
    for login in ("mo", "qb", "44005678C"):
        assert (await _open(cast, _signed(cast, voucher, await _session(cast, login)))).status_code == 404, login
    assert squeezed(f"Code secret {code}") in await _says(cast, await _link(cast.paul, voucher)), "invoiced, too"


async def test_V11_no_list_holds_a_link_that_leads_to_the_code(cast: Cast) -> None:
    await cast.delivered()
    for client in (cast.paul, cast.agency):
        listed = await client.ask("{ vouchers { nodes { number pdfUrl } edges { node { pdfUrl } } } }")
        assert [node["pdfUrl"] for node in listed["vouchers"]["nodes"]] == [None]
        assert [edge["node"]["pdfUrl"] for edge in listed["vouchers"]["edges"]] == [None]


async def test_a_link_ends_after_ten_minutes_and_cannot_be_made_by_others(cast: Cast) -> None:
    voucher, other = (await cast.delivered())[0], (await cast.delivered())[0]
    link, now = await _link(cast.paul, voucher), datetime.now(UTC)
    assert link is not None
    assert link.startswith(f"{cast.running.settings.public_url}/vouchers/{voucher['id']}/")
    purpose, token = _purpose(voucher), link.rsplit("/", 1)[1]
    tenant, session, until = read_expiring_token(cast.world.secret_keys, purpose, token)
    assert (tenant, timedelta(minutes=9) < until - now <= vouchers.PAGE_LASTS) == (cast.world.tenant, True)
    over = await _open(cast, _signed(cast, voucher, session, until=now - timedelta(seconds=1)))
    assert (over.status_code, ENDED in over.text) == (410, True)
    key = cast.world.secret_keys[0]
    wrong = [
        f"/vouchers/{other['id']}/{token}",
        f"/vouchers/{voucher['id'].replace('vchr_', 'sinv_')}/{token}",
        f"/vouchers/x/{token}",
        f"/vouchers/{voucher['id']}/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        f"/vouchers/{voucher['id']}/{expiring_token(key[::-1], purpose, tenant, session, until)}",
        f"/vouchers/{voucher['id']}/{expiring_token(key, vouchers.DOWNLOAD, tenant, session, until)}",
        f"/vouchers/{voucher['id']}/{expiring_token(key, purpose, tenant + 1, session, until)}",
    ]
    assert [(await _open(cast, each)).status_code for each in wrong] == [404] * len(wrong)
    assert (await _open(cast, link)).status_code == 200


async def test_a_link_opens_with_what_its_reader_may_then(cast: Cast) -> None:
    voucher, _ = await cast.delivered()
    paul = cast.world.holders["44001234B"]
    link, elsewhere = await _link(cast.paul, voucher), await _link(cast.paul_elsewhere, voucher)
    assert await cast.paul.ask("mutation { signOut }") == {"signOut": True}
    gone = await _open(cast, link)
    assert (gone.status_code, ENDED in gone.text) == (410, True)
    assert (await _open(cast, elsewhere)).status_code == 200, "a session of its own"

    await cast.world.as_owner("UPDATE holders SET member_since = NULL WHERE id = $1", paul.id)
    try:
        closed = await _open(cast, elsewhere)
        assert (closed.status_code, "adhésion" in closed.text) == (403, True)
    finally:
        await cast.world.as_owner("UPDATE holders SET member_since = '2020-01-01' WHERE id = $1", paul.id)
    assert (await _open(cast, elsewhere)).status_code == 200
    user_id = cast.world.users["44001234B"].user_id
    for change in ("passwords SET temporary = true WHERE user_id = $1", "users SET active = false WHERE id = $1"):
        await cast.world.as_owner(f"UPDATE {change}", user_id)
        gone = await _open(cast, elsewhere)
        assert (gone.status_code, ENDED in gone.text) == (410, True), change
        await cast.world.as_owner("UPDATE passwords SET temporary = false WHERE user_id = $1", user_id)


async def test_a_crowd_of_printers_is_served_and_leaves_nothing_behind(cast: Cast) -> None:
    voucher, code = await cast.delivered()
    link = await _link(cast.paul, voucher)
    async with cast.world.unchanged():
        for said in await asyncio.gather(*(_says(cast, link) for _ in range(8))):
            assert squeezed(f"Code secret {code}") in said


def test_what_people_typed_is_never_markup_and_stays_on_the_page() -> None:
    hostile = '#panic("x") *b* _i_ $x$ @ref <label> `raw` // no /* no */ \\ " ] } ${x} https://x.example ' + "X" * 120
    words: dict[str, Any] = dict.fromkeys(("issuer", "test", "title", "certification", "warning", "printed"), hostile)
    words |= {"language": "fr", "facts": [[hostile, hostile]], "number": [hostile] * 2, "code": [hostile] * 2}
    made = pdf.rendered("voucher", [words])
    assert b"/URI" not in made
    said = texts(made).replace("\u200b", "")
    assert squeezed("*b* _i_ $x$ @ref <label>") in said


async def _session(cast: Cast, login: str) -> Any:
    rows = await cast.world.as_owner(
        "SELECT id FROM sessions WHERE user_id = $1 AND status = 'OPEN' LIMIT 1", cast.world.users[login].user_id
    )
    return rows[0]["id"]


def _purpose(voucher: dict[str, Any]) -> str:
    return vouchers.page_purpose(read_global_id(voucher["id"])[2])


def _signed(cast: Cast, voucher: dict[str, Any], session: Any, until: datetime | None = None) -> str:
    """A link that the server could have made."""
    expires_at = until or datetime.now(UTC) + timedelta(minutes=5)
    key = cast.world.secret_keys[0]
    token = expiring_token(key, _purpose(voucher), cast.world.tenant, session, expires_at)
    return f"/vouchers/{voucher['id']}/{token}"
