"""The supplier's counter: a voucher is verified with its code, and its invoice recorded; the agency decides about what
exceeds it."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from tests.browser import LANGUAGES, Visitor, accessible, fits, visiting
from tests.browser.people import signed_in
from tests.flows.test_vouchers import Cast, assembled
from tests.world import PASSWORD, Running, World

pytestmark = pytest.mark.anyio

ROWS = "tbody tr:not(.loading)"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"\n%%EOF\n"
WRONG = {"fr": "Code secret incorrect. Essais restants : 4.", "en": "Wrong secret code. Tries left: 4."}


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the voucher tests."""
    async with assembled(world, running) as everyone:
        yield everyone


def other_than(code: str) -> str:
    """A code that is not this one."""
    return f"{(int(code) + 1) % 10_000:04d}"


async def verify(page: Page, number: str, code: str) -> None:
    """Typed, and sent with Enter."""
    await page.locator("[name=number]").fill(number)
    await page.locator("[name=secretCode]").fill(code)
    await page.keyboard.press("Enter")


async def opened(cast: Cast, link: str | None) -> httpx.Response:
    """What a link of a page leads to, whatever address the server is known by."""
    assert link is not None
    parts = urlsplit(link)
    async with httpx.AsyncClient(base_url=cast.running.url, trust_env=False) as http:
        return await http.get(parts.path, params=parts.query)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_V20_a_number_is_verified_with_its_code_and_its_invoice_recorded(
    browser: Browser, cast: Cast, language: str
) -> None:
    voucher, code = await cast.delivered("123,01")
    number = voucher["number"]
    async with visiting(browser, cast.running.url, language=language) as supplier:
        page = await signed_in(supplier, cast.world.slug, "mo", "/verify")
        await expect(page.locator("[name=number]")).to_be_focused()
        await accessible(page)
        await fits(page)

        await verify(page, number, other_than(code))
        await expect(page.locator("[name=secretCode]")).to_be_focused()
        await expect(page.locator("[name=secretCode]")).to_have_attribute("aria-invalid", "true")
        await expect(page.get_by_text(WRONG[language])).to_be_visible()
        await expect(page.locator("[name=number]")).to_have_value(number)
        assert await cast.accounts() == (-124_00, 0, 124_00, 0), "nothing has moved"

        await verify(page, number.lower().replace(".", " "), f" {code}")
        worth = {"fr": "124,00\u00a0€", "en": "€124.00"}[language]
        await expect(page.locator(".total")).to_have_text(worth)
        await expect(page.get_by_text("Martin (44001234B)")).to_be_visible()
        assert code not in page.url
        await accessible(page)
        await fits(page)

        said = {"fr": "Enregistrer la facture", "en": "Record the invoice"}[language]
        await page.get_by_role("button", name=said).click()
        await expect(page.locator("[name=invoiceNumber]")).to_be_focused()
        await expect(page.locator("[name=voucherNumber]")).to_have_value(number)
        await page.locator("[name=invoiceNumber]").fill("F 2026/17")
        await page.locator("[name=amount]").fill("123,01 €")
        scan: FilePayload = {"name": "Facture n° 17.pdf", "mimeType": "application/pdf", "buffer": PDF}
        await page.locator("[name=document]").set_input_files(scan)
        await accessible(page)
        await fits(page)
        await page.locator("[name=amount]").press("Enter")

        row = page.locator(ROWS)
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text(number)
        await expect(row).to_contain_text({"fr": "123,01\u00a0€", "en": "€123.01"}[language])
        assert urlsplit(page.url).query == "search=F%202026%2F17"
        answer = await opened(cast, await row.get_by_role("link").get_attribute("href"))
        assert (answer.headers["content-type"], answer.content) == ("application/pdf", PDF)
        await accessible(page)
        await fits(page)
    assert await cast.accounts() == (0, -123_01, 0, 123_01)


async def test_V20_a_verified_voucher_is_handed_to_its_own_invoice_alone(visitor: Visitor, cast: Cast) -> None:
    voucher, code = await cast.delivered()
    page = await signed_in(visitor, cast.world.slug, "mo", "/verify")
    await verify(page, voucher["number"], code)
    await expect(page.locator(".total")).to_be_visible()
    await page.get_by_role("link", name="Factures", exact=True).click()
    await page.get_by_role("link", name="Enregistrer une facture").click()
    for name in ("voucherNumber", "secretCode"):
        await expect(page.locator(f"[name={name}]")).to_have_value("")

    # The session ends on the way, and somebody else signs in to the same tab.
    await page.get_by_role("link", name="Vérifier un bon").click()
    await verify(page, voucher["number"], code)
    await page.get_by_role("button", name="Enregistrer la facture").click()
    await expect(page.locator("[name=secretCode]")).to_have_value(code)
    await page.get_by_role("link", name="Vérifier un bon").click()
    await verify(page, voucher["number"], code)
    await expect(page.locator(".total")).to_be_visible()
    await visitor.context.clear_cookies()
    await page.get_by_role("link", name="Factures", exact=True).click()
    await page.locator("[name=login]").fill("agence")
    await page.locator("[name=password]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="Enregistrer une facture").click()
    await expect(page.locator("[name=voucherNumber]")).to_be_focused()
    for name in ("voucherNumber", "secretCode"):
        await expect(page.locator(f"[name={name}]")).to_have_value("")
    visitor.wrong.expected("401")


async def test_V20_the_fifth_wrong_code_blocks_and_the_agency_unblocks(browser: Browser, cast: Cast) -> None:
    await cast.delivered("100")
    voucher, code = await cast.delivered()
    async with (
        visiting(browser, cast.running.url, width=390) as supplier,
        visiting(browser, cast.running.url) as agency,
    ):
        page = await signed_in(supplier, cast.world.slug, "mo", "/verify")
        for left in (4, 3, 2, 1):
            await verify(page, voucher["number"], other_than(code))
            await expect(page.get_by_text(f"Essais restants : {left}.")).to_be_visible()
        await verify(page, voucher["number"], other_than(code))
        await expect(page.get_by_text("Ce bon est maintenant bloqué")).to_be_visible()
        await verify(page, voucher["number"], code)
        await expect(page.get_by_role("alert")).to_contain_text("seule l’agence peut le débloquer")

        desk = await signed_in(agency, cast.world.slug, "agence", "/vouchers")
        await expect(desk.locator(ROWS)).to_have_count(2)
        await desk.get_by_role("link", name="Bloqués : 1").click()
        await expect(desk.locator(ROWS)).to_have_count(1)
        await expect(desk.locator(ROWS)).to_contain_text("Bloqué")
        assert desk.url.endswith("/vouchers?blocked=yes")
        await desk.locator("tbody a").click()
        await desk.get_by_role("button", name="Débloquer").click()
        dialog = desk.get_by_role("dialog")
        await expect(dialog.get_by_role("button", name="Laisser comme il est")).to_be_focused()
        await dialog.get_by_role("button", name="Débloquer").click()
        await expect(desk.get_by_role("dialog")).to_have_count(0)
        await expect(desk.locator(".pill")).to_have_count(1)
        await expect(desk.get_by_role("button", name="Débloquer")).to_have_count(0)
        await desk.goto("/vouchers?blocked=yes")
        await expect(desk.get_by_text("Aucun bon ne correspond à ces filtres.")).to_be_visible()
        await accessible(desk)
        await fits(desk)
        await desk.get_by_role("link", name="Voir tous les bons").click()
        await expect(desk.get_by_role("link", name="Bloqués : 0")).to_be_visible()
        await expect(desk.locator(ROWS)).to_have_count(2)

        await page.locator("[name=secretCode]").press("Enter")
        await expect(page.locator(".total")).to_have_text("124,00\u00a0€")


async def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(visitor: Visitor, cast: Cast) -> None:
    voucher, code = await cast.delivered("100")
    page = await signed_in(visitor, cast.world.slug, "mo", "/invoices/new")
    await expect(page.locator("[name=voucherNumber]")).to_be_focused()
    await page.locator("[name=voucherNumber]").fill(voucher["number"])
    await page.locator("[name=secretCode]").fill(code)
    await page.locator("[name=amount]").fill("douze")
    await page.locator("[name=amount]").press("Enter")
    await expect(page.locator("[name=amount]")).to_be_focused()
    await page.locator("[name=amount]").fill("100")
    paper: FilePayload = {"name": "facture.pdf", "mimeType": "application/pdf", "buffer": b"no PDF"}
    await page.locator("[name=invoiceNumber]").fill("F-1")
    await page.locator("[name=document]").set_input_files(paper)
    await page.locator("[name=amount]").press("Enter")
    await expect(page.locator("[name=document]")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("[name=document]")).to_be_focused()
    await expect(page.locator("[name=invoiceNumber]")).to_have_value("F-1")
    assert await cast.accounts() == (-100_00, 0, 100_00, 0)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Factures")


async def test_AV6_what_exceeds_a_voucher_waits_for_the_agency(browser: Browser, cast: Cast) -> None:
    for n, amount in ((1, "110"), (2, "120"), (3, "90")):
        voucher, code = await cast.delivered("100")
        given = {"voucherNumber": voucher["number"], "secretCode": code, "amount": amount}
        made = await cast.supplier.do(
            "recordSupplierInvoice", "... on SupplierInvoice { id }", invoiceNumber=f"F-{n}", **given
        )
        assert made["__typename"] == "SupplierInvoice"
    async with visiting(browser, cast.running.url) as agency, visiting(browser, cast.running.url) as supplier:
        page = await signed_in(agency, cast.world.slug, "agence", "/invoices")
        await expect(page.locator(ROWS)).to_have_count(3)
        await page.locator("[name=excess]").select_option("yes")
        await expect(page.locator(ROWS)).to_have_count(2)
        assert parse_qs(urlsplit(page.url).query)["excess"] == ["yes"]
        await page.reload()
        await expect(page.locator(ROWS)).to_have_count(2)
        await accessible(page)
        await fits(page)
        await fits(page, 800)
        await fits(page, 1024)

        await page.get_by_role("button", name="Payer le dépassement de F-1").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.locator(".total")).to_have_text("10,00\u00a0€")
        await expect(dialog).to_contain_text("Matériaux de l’Ouest reçoit cette somme, et l’adhérent la doit.")
        await expect(dialog.get_by_role("button", name="Ne pas décider")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert (await cast.accounts())[3] == 290_00, "whoever does not decide pays nothing"

        await page.get_by_role("button", name="Payer le dépassement de F-1").click()
        await dialog.get_by_role("button", name="Payer", exact=True).click()
        await expect(page.locator(ROWS, has_text="F-1")).to_contain_text("payé")
        await page.get_by_role("button", name="Refuser le dépassement de F-2").click()
        await dialog.get_by_role("button", name="Refuser", exact=True).click()
        await expect(page.locator(ROWS, has_text="F-2")).to_contain_text("refusé")
        assert (await cast.accounts())[3] == 300_00

        till = await signed_in(supplier, cast.world.slug, "mo", "/invoices")
        await expect(till.locator(ROWS, has_text="F-1")).to_contain_text("payé")
        await expect(till.get_by_role("button", name="Payer")).to_have_count(0)
        await till.get_by_role("button", name="Exporter (Excel)").click()
        await expect(till.get_by_text("Terminé : 3 lignes.")).to_be_visible()
        answer = await opened(
            cast, await till.get_by_role("link", name="Télécharger", exact=True).get_attribute("href")
        )
        assert answer.content[:2] == b"PK"
