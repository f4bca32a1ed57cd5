"""The scanned papers of suppliers' invoices: handed in with the invoice, kept, and opened by those who see it."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from PIL import Image

from domain import documents
from domain.codes import expiring_token, signed_token
from escarcelle.clients import Client
from reporting import audit
from tests.flows.test_vouchers import Cast, assembled
from tests.world import Running, World

pytestmark = pytest.mark.anyio

INVOICE = "... on SupplierInvoice { id invoiceNumber documentUrl voucher { status } }"
RECORD = (
    "mutation ($input: RecordSupplierInvoiceInput!, $key: ID!) { recordSupplierInvoice(input: $input,"
    f" idempotencyKey: $key) {{ __typename {INVOICE} ... on Refusal {{ code message problems {{ path }} }} }} }}"
)
READ = f"query ($id: ID!) {{ node(id: $id) {{ {INVOICE} }} }}"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 3_000 + b"\n%%EOF\n"
"""Three chunks."""

NOON = datetime(2026, 11, 23, 11, tzinfo=UTC)


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the voucher tests."""
    async with assembled(world, running) as everyone:
        yield everyone


async def _record(
    cast: Cast, given: dict[str, Any], content: bytes, name: str = "facture.pdf", *, by: Client, key: str | None = None
) -> dict[str, Any]:
    """The invoice with its document, as a browser sends it; returns the invoice or the refusal."""
    operations = {"query": RECORD, "variables": {"input": given | {"document": None}, "key": key or str(uuid4())}}
    async with httpx.AsyncClient(base_url=cast.running.url, timeout=20) as http:
        response = await http.post(
            "/graphql",
            data={"operations": json.dumps(operations), "map": json.dumps({"0": ["variables.input.document"]})},
            files={"0": (name, content, "application/octet-stream")},
            headers={"authorization": f"Bearer {by.token}", "x-escarcelle-client": "tests"},
        )
    assert response.status_code == 200, response.text
    assert "errors" not in response.json(), response.text
    answer: dict[str, Any] = response.json()["data"]["recordSupplierInvoice"]
    return answer


async def _presented(cast: Cast, number: str = "F-1") -> dict[str, Any]:
    voucher, code = await cast.delivered("100")
    return {"voucherNumber": voucher["number"], "secretCode": code, "invoiceNumber": number, "amount": "100"}


async def _get(cast: Cast, link: str, method: str = "GET") -> httpx.Response:
    """As a browser without any cookie."""
    async with httpx.AsyncClient(base_url=cast.running.url, timeout=30) as http:
        return await http.request(method, urlsplit(link).path)


async def _differences(cast: Cast) -> list[str]:
    from_reader = cast.world.servers.settings.reader_database_url
    assert from_reader is not None
    connection = await asyncpg.connect(from_reader)
    try:
        return [str(each) for each in await audit.differences(connection, cast.world.tenant)]
    finally:
        await connection.close()


def _picture(kind: str) -> bytes:
    picture = BytesIO()
    Image.new("RGB", (3, 2), "white").save(picture, kind)
    return picture.getvalue()


async def test_supplier_and_agency_open_what_was_handed_in(cast: Cast) -> None:
    made = await _record(cast, await _presented(cast), PDF, "Facture n° 7.pdf", by=cast.supplier)
    assert (made["__typename"], made["voucher"]["status"]) == ("SupplierInvoice", "INVOICED")
    for client in (cast.supplier, cast.agency):
        link = (await client.ask(READ, id=made["id"]))["node"]["documentUrl"]
        assert link.startswith(f"{cast.running.settings.public_url}/files/")
        answer, head = await _get(cast, link), await _get(cast, link, "HEAD")
        assert (answer.status_code, answer.content) == (200, PDF)
        assert (head.status_code, head.content) == (200, b"")
        for headers in (answer.headers, head.headers):
            assert headers["content-type"] == "application/pdf"
            assert headers["content-length"] == str(len(PDF))
            assert headers["content-disposition"] == (
                "attachment; filename=\"Facture n_ 7.pdf\"; filename*=UTF-8''Facture%20n%C2%B0%207.pdf"
            )
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "private, no-store"
    assert await _differences(cast) == []


async def test_nobody_else_has_a_link(cast: Cast) -> None:
    made = await _record(cast, await _presented(cast), PDF, by=cast.agency)
    for client in (cast.other_supplier, cast.paul, cast.anna):
        assert (await client.ask(READ, id=made["id"]))["node"] is None
    token = urlsplit(made["documentUrl"]).path.rsplit("/", 1)[1]
    ((document,),) = await cast.world.as_owner("SELECT id FROM documents WHERE tenant = $1", cast.world.tenant)
    key, tenant = cast.running.settings.secret_keys[0].get_secret_value(), cast.world.tenant
    later = datetime(2036, 1, 1, tzinfo=UTC)
    forged = [
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token[:40] + ("A" if token[40] != "A" else "B") + token[41:],
        expiring_token("another key that is long enough to be one", documents.DOWNLOAD, tenant, document, later),
        expiring_token(key, "download", tenant, document, later),
        expiring_token(key, documents.DOWNLOAD, tenant + 1, document, later),
        expiring_token(key, documents.DOWNLOAD, tenant, cast.world.merchants["MO"].id, later),
        signed_token(key, documents.DOWNLOAD, tenant, document),
        token + "A",
    ]
    assert [(await _get(cast, f"/files/{wrong}")).status_code for wrong in forged] == [404] * len(forged)
    assert (await _get(cast, f"/files/{expiring_token(key, documents.DOWNLOAD, tenant, document, later)}")).is_success


async def test_a_link_expires_and_the_next_one_opens(cast: Cast) -> None:
    await cast.world.freeze(NOON)
    made = await _record(cast, await _presented(cast), PDF, by=cast.supplier)
    await cast.world.freeze(NOON + timedelta(hours=1, microseconds=-1))
    assert (await _get(cast, made["documentUrl"])).status_code == 200
    await cast.world.freeze(NOON + timedelta(hours=1))
    gone = await _get(cast, made["documentUrl"])
    assert (gone.status_code, "expiré" in gone.text) == (410, True)
    again = (await cast.supplier.ask(READ, id=made["id"]))["node"]["documentUrl"]
    assert (await _get(cast, again)).content == PDF


async def test_pictures_are_taken_for_what_they_are(cast: Cast) -> None:
    for number, (kind, media_type, given, kept) in enumerate(
        (
            ("JPEG", "image/jpeg", "scan.JPG", "scan.JPG"),
            ("PNG", "image/png", "C:\\Mes scans\\reçu.exe", "reçu.exe.png"),
            ("PNG", "image/png", "\u202e\0../..", "document.png"),
        )
    ):
        picture = _picture(kind)
        made = await _record(cast, await _presented(cast, f"F-{number}"), picture, given, by=cast.supplier)
        answer = await _get(cast, made["documentUrl"])
        assert (answer.headers["content-type"], answer.content) == (media_type, picture)
        rows = await cast.world.as_owner(
            "SELECT name, size, sha256 FROM documents WHERE tenant = $1 ORDER BY id DESC LIMIT 1", cast.world.tenant
        )
        digest = hashlib.sha256(picture).digest()
        assert (rows[0]["name"], rows[0]["size"], rows[0]["sha256"]) == (kept, len(picture), digest)


@pytest.mark.parametrize("content", [b"", b"%PDF", b"<html>%PDF-1.7", b"PK\x03\x04", b"GIF89a", b"MZ\x90"])
async def test_another_type_of_file_changes_nothing(cast: Cast, content: bytes) -> None:
    given = await _presented(cast)
    async with cast.world.unchanged():
        refused = await _record(cast, given, content, by=cast.supplier)
    assert (refused["code"], refused["problems"]) == ("FILE_INVALID", [{"path": ["input", "document"]}])
    assert refused["message"] == "Un fichier PDF, JPEG ou PNG est attendu."


async def test_a_refused_invoice_leaves_no_document(cast: Cast) -> None:
    given = await _presented(cast)
    async with cast.world.unchanged():
        for change, code in (({"amount": "0"}, "AMOUNT_TOO_LOW"), ({"voucherNumber": "W"}, "NOT_FOUND")):
            assert (await _record(cast, given | change, PDF, by=cast.supplier))["code"] == code
        assert (await _record(cast, given, PDF, by=cast.other_supplier))["code"] == "NOT_FOUND"
        assert (await _record(cast, given, PDF, by=cast.paul))["code"] == "FORBIDDEN"
    assert "documentUrl" in await _record(cast, given, PDF, by=cast.supplier)


async def test_the_same_key_goes_with_the_same_file(cast: Cast) -> None:
    given, key = await _presented(cast), str(uuid4())
    first = await _record(cast, given, PDF, by=cast.supplier, key=key)
    async with cast.world.unchanged():
        again = await _record(cast, given, PDF, "un autre nom.pdf", by=cast.supplier, key=key)
        assert again["id"] == first["id"]
        other = await _record(cast, given, PDF + b"\n", by=cast.supplier, key=key)
        assert other["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_the_largest_file_and_one_without_a_file(cast: Cast) -> None:
    largest = b"%PDF-" + bytes(documents.MOST_BYTES - 5)
    made = await _record(cast, await _presented(cast, "F-1"), largest, by=cast.supplier)
    assert (await _get(cast, made["documentUrl"])).content == largest
    without = await cast.supplier.do("recordSupplierInvoice", INVOICE, **await _presented(cast, "F-2"))
    assert (without["__typename"], without["documentUrl"]) == ("SupplierInvoice", None)
    assert await _differences(cast) == []
