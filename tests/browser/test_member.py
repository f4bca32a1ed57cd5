"""A member's vouchers on its phone, from the request to the delivery; and its statements."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx
import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from domain.access import Role
from domain.calendar import PARIS
from escarcelle.clients import Client
from tests.browser import LANGUAGES, Visitor, accessible, fits, visiting
from tests.browser.people import signed_in
from tests.world import Running, World

pytestmark = pytest.mark.anyio

WIDTH: Final = 390
HEIGHT: Final = 844
PAUL: Final = "44001234B"
VOUCHER: Final = "... on Voucher { id number status presentation { secretCode } }"
JOB: Final = "id status"
FRAME: Final = "(element) => getComputedStyle(element).outlineStyle"
PAPER: Final = b"%PDF-1.7\n%%EOF\n"
KEPT_AWAKE: Final = """() => {
    window.awake = [];
    navigator.wakeLock.request = async (what) => (window.awake.push(what), { release: async () => window.awake.pop() });
}"""
SUNDAY_NIGHT: Final = datetime(2026, 11, 22, 23, 40, tzinfo=PARIS)


@dataclass
class Cast:
    """Paul, a member; three suppliers; the agency."""

    world: World
    running: Running
    agency: Client
    paul: Client
    supplier: Client

    async def voucher(self, amount: str = "123,01") -> Any:
        """Paul has taken one at Matériaux de l'Ouest."""
        supplier = self.world.merchants["MO"].global_id
        return await self.paul.do("requestVoucher", VOUCHER, supplierId=supplier, amount=amount)

    async def revealed(self) -> Any:
        """One whose code is drawn."""
        return await self.paul.do("revealVoucherCode", VOUCHER, id=(await self.voucher())["id"])

    async def delivered(self, amount: str = "123,01") -> Any:
        """One that was presented."""
        voucher = await self.voucher(amount)
        await self.paul.do("revealVoucherCode", VOUCHER, id=voucher["id"])
        return await self.paul.do("deliverVoucher", VOUCHER, id=voucher["id"])

    async def read(self, voucher: Any) -> Any:
        """As Paul sees it now."""
        return (await self.paul.ask(f"query ($id: ID!) {{ node(id: $id) {{ {VOUCHER} }} }}", id=voucher["id"]))["node"]

    async def issued(self) -> int:
        """How many vouchers there are."""
        rows = await self.world.as_owner("SELECT count(*) FROM vouchers WHERE tenant = $1", self.world.tenant)
        return int(rows[0]["count"])


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The federation, in a world of its own."""
    await world.voucher_kind()
    for code, name in (("MO", "Matériaux de l’Ouest"), ("QB", "Quincaillerie Bleue"), ("MA", "Matériaux Anciens")):
        await world.merchant(code, name, {f"C-{code}": name})
    await world.member(PAUL, "Martin", email="paul@example.com")
    await world.user(PAUL, Role.HOLDER, holder=PAUL)
    await world.user("agence", Role.ISSUER_AGENT)
    await world.user("mo", Role.MERCHANT_MANAGER, merchant="MO")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await running.client(world, who)) for who in ("agence", PAUL, "mo")]
        yield Cast(world, running, *clients)


@asynccontextmanager
async def phone(
    browser: Browser, cast: Cast, path: str = "/vouchers", *, language: str = "fr"
) -> AsyncIterator[tuple[Visitor, Page]]:
    """Paul's phone, on that screen."""
    async with visiting(browser, cast.running.url, language=language, width=WIDTH, height=HEIGHT) as someone:
        yield someone, await signed_in(someone, cast.world.slug, PAUL, path)


def title(page: Page) -> Locator:
    """The screen's name."""
    return page.get_by_role("heading", level=1)


def question(page: Page) -> Locator:
    """The dialog that is open."""
    return page.get_by_role("dialog")


def card(page: Page, label: str) -> Locator:
    """The line of the card under this name."""
    return page.locator("main dl > div").filter(has=page.get_by_text(label, exact=True)).locator("dd")


# ── from the request to the delivery ──────────────────────────────────────────────────────────────────────────────────


async def test_V2_V4_to_V18_V21_from_the_request_to_the_delivery(browser: Browser, cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    async with phone(browser, cast, "/") as (_, page):
        await expect(title(page)).to_have_text("Demande de bons")
        await expect(page.get_by_text("Aucun bon pour le moment.")).to_be_visible()
        await page.get_by_role("link", name="Demander un bon").first.click()
        supplier = page.get_by_role("combobox", name="Fournisseur")
        await expect(supplier).to_be_focused()
        await supplier.fill("ouest")
        await expect(page.get_by_role("option")).to_have_text(["Matériaux de l’Ouest"])
        await page.keyboard.press("Enter")
        await expect(supplier).to_have_value("Matériaux de l’Ouest")
        await page.keyboard.press("Tab")
        await page.keyboard.type("123,01")
        await expect(page.get_by_text("Le bon vaudra 124\u00a0€.")).to_be_visible()
        await page.keyboard.press("Enter")
        await expect(question(page)).to_contain_text("Demander un bon de 124\u00a0€ ?")
        await expect(question(page)).to_contain_text("Montant de l’achat 123,01\u00a0€")
        await expect(page.get_by_role("button", name="Modifier")).to_be_focused()
        assert await cast.issued() == 0, "nothing is taken before the answer (V4)"
        await question(page).get_by_role("button", name="Valider la demande").click()

        await expect(page.get_by_text("Votre bon est disponible dans votre espace")).to_be_visible()
        await expect(page.locator(".pill")).to_have_text("◐ 1-EMIS")
        await expect(card(page, "Valide jusqu’au")).to_have_text("22/12/2026")
        use = page.get_by_role("button", name="Utiliser ce bon")
        await use.click()
        await expect(question(page)).to_contain_text("Attention, c’est irréversible")
        await expect(question(page)).to_contain_text("personne ne peut plus reprendre ni modifier ce bon")
        await expect(question(page).get_by_role("button", name="Annuler")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(question(page)).to_have_count(0)
        (voucher,) = (await cast.paul.ask("{ vouchers { nodes { id status } } }"))["vouchers"]["nodes"]
        assert voucher["status"] == "ISSUED", "no code is drawn (V10)"

        await use.click()
        await question(page).get_by_role("button", name="OK, afficher le code").click()
        await expect(title(page)).to_have_text("Code secret")
        revealed = await cast.read(voucher)
        code = revealed["presentation"]["secretCode"]
        assert (revealed["status"], revealed["number"]) == ("CODE_REVEALED", None)
        shown = page.locator(".code")
        await expect(shown).to_have_text(re.compile(r"^\d{4}$"))
        await expect(shown).to_have_text(code)
        assert await shown.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 72, "readable at arm's length"
        await expect(card(page, "Fournisseur")).to_have_text("Matériaux de l’Ouest")
        await expect(card(page, "Date et heure")).to_have_text("22/11/2026 23:40")
        await expect(page.get_by_text("Le fournisseur atteste avoir inscrit sur le bon de livraison")).to_be_visible()
        await expect(page.get_by_text(re.compile(r"W\d{4}\."))).to_have_count(0)

        await page.get_by_role("link", name="Annuler").click()
        await expect(page.get_by_text("ce bon ne peut plus être repris")).to_be_visible()
        await expect(page.locator(".code")).to_have_count(0)
        await page.get_by_role("button", name="Afficher le code secret").click()
        await expect(shown).to_have_text(code)
        await expect(card(page, "Date et heure")).to_have_text("22/11/2026 23:40")
        await page.reload()
        await expect(shown).to_have_text(code)
        await page.get_by_role("button", name="Valider le bon").click()
        await expect(question(page).get_by_role("button", name="Pas encore")).to_be_focused()
        await question(page).get_by_role("button", name="Valider le bon").click()

        delivered = page.locator(".shown")
        await expect(delivered).to_be_focused()
        number = (await cast.read(voucher))["number"]
        assert re.fullmatch(r"W2026\.XX\.442\.\d{8}", number)
        await expect(delivered).to_contain_text("présenté au fournisseur avec son code secret")
        await expect(page.locator(".number")).to_have_text(number)
        await expect(page.locator(".pair strong")).to_have_text(code)
        await expect(delivered).to_contain_text("Vous pouvez emporter vos marchandises.")
        for label, value in (
            ("N° d’adhérent", PAUL),
            ("Nom de l’adhérent", "Martin"),
            ("Numéro du bon", number),
            ("Fournisseur", "Matériaux de l’Ouest"),
            ("Type de bon", "Bon web"),
            ("Valeur du bon", "124\u00a0€"),
            ("Valide jusqu’au", "22/12/2026"),
        ):
            await expect(card(page, label)).to_have_text(value)
        await expect(page.locator(".pill")).to_have_text("● 11-livré")
        pdf = await page.get_by_role("link", name="Imprimer (PDF)").get_attribute("href")
        assert pdf is not None
        answer = await page.request.get(pdf[pdf.index("/vouchers/") :])
        assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
        await page.get_by_role("link", name="Fermer").click()
        await expect(page.get_by_role("row").filter(has_text="124,00\u00a0€")).to_contain_text("11-livré")


async def test_V11_two_phones_at_once_draw_one_code(browser: Browser, cast: Cast) -> None:
    voucher = await cast.voucher()
    path = f"/vouchers/{voucher['id']}"
    async with phone(browser, cast, path) as (_, one), phone(browser, cast, path) as (_, other):
        for page in (one, other):
            await page.get_by_role("button", name="Utiliser ce bon").click()
        await asyncio.gather(*(question(page).locator("button.primary").click() for page in (one, other)))
        for page in (one, other):
            await expect(page.locator(".code")).to_be_visible()
        code = (await cast.read(voucher))["presentation"]["secretCode"]
        for page in (one, other):
            await expect(page.locator(".code")).to_have_text(code)
        # Delivered on one of them: the other one says the same when it tries.
        # Both are asked before either answers: what is used has no button any more.
        for page in (one, other):
            await page.get_by_role("button", name="Valider le bon").click()
        for page in (one, other):
            await question(page).get_by_role("button", name="Valider le bon").click()
        for page in (one, other):
            await expect(page.locator(".number")).to_be_visible()
        number = (await cast.read(voucher))["number"]
        for page in (one, other):
            await expect(page.locator(".number")).to_have_text(number)
    rows = await cast.world.as_owner(
        "SELECT count(*) FROM journal WHERE tenant = $1 AND kind = 'vchr.deliver'", cast.world.tenant
    )
    assert rows[0]["count"] == 1


async def test_V14_back_leaves_the_code_and_comes_to_the_same(browser: Browser, cast: Cast) -> None:
    voucher = await cast.revealed()
    async with phone(browser, cast) as (_, page):
        await page.evaluate(KEPT_AWAKE)
        await page.get_by_role("link", name="Bon web").click()
        await page.get_by_role("button", name="Afficher le code secret").click()
        await expect(page.locator(".code")).to_have_text(voucher["presentation"]["secretCode"])
        assert await page.evaluate("window.awake") == ["screen"], "the screen stays on at the counter"
        await page.go_back()
        await expect(page.locator(".code")).to_have_count(0)
        assert await page.evaluate("window.awake") == []
        await page.go_forward()
        await expect(page.locator(".code")).to_have_text(voucher["presentation"]["secretCode"])
        await page.keyboard.press("Escape")
        await expect(title(page)).to_have_text("Bon web")
        await page.keyboard.press("Escape")
        await expect(title(page)).to_have_text("Demande de bons")
    assert (await cast.read(voucher))["status"] == "CODE_REVEALED"


# ── wrong turns ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V5_V6_what_is_missing_or_wrong_is_said_at_its_field(browser: Browser, cast: Cast) -> None:
    async with phone(browser, cast, "/vouchers/new") as (_, page):
        supplier, amount = (
            page.get_by_role("combobox", name="Fournisseur"),
            page.get_by_label("Montant de l’achat, TTC"),
        )
        await amount.fill("abc")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Choisissez un fournisseur de la liste.")).to_be_visible()
        await expect(page.get_by_text("Écrivez un montant, par exemple 123,01.")).to_be_visible()
        await expect(supplier).to_be_focused()
        await expect(supplier).to_have_attribute("aria-invalid", "true")
        await accessible(page)
        await supplier.fill("mat")
        await expect(page.get_by_role("option")).to_have_text(["Matériaux Anciens", "Matériaux de l’Ouest"])
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("option")).to_have_count(0)
        await expect(title(page)).to_have_text("Demander un bon")
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("option")).to_have_count(2)
        for _ in range(3):
            await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("option", selected=True)).to_have_text("Matériaux Anciens")
        await accessible(page)
        # Where colours are forced, which one it is shows by a frame.
        await page.emulate_media(forced_colors="active")
        frames = [await one.evaluate(FRAME) for one in await page.get_by_role("option").all()]
        assert sorted(frames) == ["none", "solid"]
        await page.emulate_media(forced_colors="none")
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await expect(supplier).to_have_value("Matériaux de l’Ouest")
        confirm = question(page).get_by_role("button", name="Valider la demande")
        await amount.fill("0")
        await page.keyboard.press("Enter")
        await confirm.click()
        await expect(page.locator(".field .problem")).to_be_visible()
        await expect(amount).to_be_focused()
        await expect(amount).to_have_value("0")
        assert await cast.issued() == 0
        await amount.fill("1 234,56")
        await page.keyboard.press("Enter")
        await confirm.click()
        await expect(page.locator("main .total")).to_have_text("1\u202f235\u00a0€")
    assert await cast.issued() == 1


async def test_V5_a_supplier_is_chosen_by_a_tap(browser: Browser, cast: Cast) -> None:
    async with phone(browser, cast, "/vouchers/new") as (member, page):
        await expect(page.get_by_role("option")).to_have_count(3)
        await page.get_by_role("option", name="Quincaillerie Bleue").click()
        await expect(page.get_by_role("combobox", name="Fournisseur")).to_have_value("Quincaillerie Bleue")
        await expect(page.get_by_role("option")).to_have_count(0)
        await page.get_by_role("combobox", name="Fournisseur").fill("zzz")
        await expect(page.get_by_text("Aucun fournisseur de ce nom.")).to_be_visible()

        await page.route("**/graphql", lambda route: route.abort())
        await page.get_by_role("combobox", name="Fournisseur").fill("bleue")
        await expect(page.get_by_text("La liste des fournisseurs ne répond pas.")).to_be_visible()
        await page.unroute("**/graphql")
        member.wrong.expected("ERR_FAILED")
        await page.get_by_role("button", name="Réessayer").click()
        await expect(page.get_by_text("La liste des fournisseurs ne répond pas.")).to_have_count(0)
        await page.get_by_role("combobox", name="Fournisseur").click()
        await page.get_by_role("option", name="Quincaillerie Bleue").click()
        await expect(page.get_by_role("combobox", name="Fournisseur")).to_have_value("Quincaillerie Bleue")


async def test_V5_an_answer_that_comes_late_does_not_take_the_choice_away(browser: Browser, cast: Cast) -> None:
    async with phone(browser, cast, "/vouchers/new") as (_, page):
        await expect(page.get_by_role("option")).to_have_count(3)
        await page.keyboard.press("Escape")
        answered = asyncio.Event()

        async def late(route: Route) -> None:
            await answered.wait()
            await route.continue_()

        await page.route("**/graphql", late)
        async with page.expect_response("**/graphql", timeout=60_000):
            await page.keyboard.press("ArrowDown")
            await page.keyboard.press("ArrowDown")
            await page.keyboard.press("ArrowDown")
            chosen = page.get_by_role("option", selected=True)
            await expect(chosen).to_have_text("Matériaux de l’Ouest")
            answered.set()
        await expect(page.get_by_text("3 fournisseurs")).to_be_visible()
        await expect(chosen).to_have_text("Matériaux de l’Ouest")


async def test_V7_who_has_not_paid_the_dues_is_sent_to_the_agency(browser: Browser, cast: Cast) -> None:
    paul = cast.world.holders[PAUL].global_id
    await cast.agency.do("updateHolder", "... on Holder { id }", id=paul, duesPaidUntil="2021-12-31")
    async with phone(browser, cast, "/vouchers/new") as (_, page):
        await page.get_by_role("option", name="Quincaillerie Bleue").click()
        await page.get_by_label("Montant de l’achat, TTC").fill("50")
        await page.keyboard.press("Enter")
        async with cast.world.unchanged():
            await question(page).get_by_role("button", name="Valider la demande").click()
            await expect(page.get_by_role("alert").get_by_text("prenez contact avec votre agence")).to_be_visible()
        await expect(page.get_by_label("Montant de l’achat, TTC")).to_have_value("50")


async def test_V1_the_space_is_closed_to_who_is_no_member(browser: Browser, cast: Cast) -> None:
    await cast.world.holder("44009999D", "Nouvelle")
    await cast.world.user("44009999D", Role.HOLDER, holder="44009999D")
    async with visiting(browser, cast.running.url, width=WIDTH, height=HEIGHT) as someone:
        page = await signed_in(someone, cast.world.slug, "44009999D", "/vouchers")
        await expect(page.get_by_text("Cet espace s’ouvre dès que votre adhésion est enregistrée.")).to_be_visible()
        await expect(page.get_by_role("navigation").get_by_role("link", name="Demande de bons")).to_have_count(0)


async def test_V19_AV4_what_can_no_longer_be_used_says_why(browser: Browser, cast: Cast) -> None:
    await cast.world.freeze(SUNDAY_NIGHT)
    cancelled, expired, stranger = await cast.voucher(), await cast.revealed(), "vchr_00000000000000000000000000000000"
    await cast.world.nothing_falls_due()
    await cast.agency.do("cancelVoucher", VOUCHER, id=cancelled["id"])
    async with phone(browser, cast, f"/vouchers/{cancelled['id']}") as (someone, page):
        await expect(page.get_by_text("Ce bon a été annulé par l’agence.")).to_be_visible()
        await expect(page.locator(".pill")).to_have_text("✕ 8-annulé")
        await expect(page.get_by_role("button", name="Utiliser")).to_have_count(0)
        late = await someone.page(f"/vouchers/{expired['id']}?code=1")
        await expect(late.locator(".code")).to_be_visible()
        await cast.world.freeze(datetime(2026, 12, 23, tzinfo=PARIS))
        await late.get_by_role("button", name="Valider le bon").click()
        await question(late).get_by_role("button", name="Valider le bon").click()
        await expect(late.get_by_text("Bon expiré : il ne peut plus être utilisé.")).to_be_visible()
        await expect(late.locator(".code")).to_have_count(0)
        gone = await someone.page(f"/vouchers/{stranger}")
        await expect(title(gone)).to_have_text("Aucun bon à cette adresse")


async def test_V20_a_number_that_wrong_codes_have_blocked_is_told_to_the_member(browser: Browser, cast: Cast) -> None:
    voucher = await cast.delivered()
    wrong = "0000" if voucher["presentation"]["secretCode"] != "0000" else "1111"
    for _ in range(5):
        await cast.supplier.do("verifyVoucher", VOUCHER, number=voucher["number"], secretCode=wrong)
    async with phone(browser, cast, f"/vouchers/{voucher['id']}") as (_, page):
        await expect(page.get_by_text("Des codes erronés ont bloqué ce numéro")).to_be_visible()


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V8_V9_the_list_is_searched_and_its_filters_stay_in_the_address(browser: Browser, cast: Cast) -> None:
    await cast.voucher("1,00")
    await cast.revealed()
    await cast.delivered("77")
    async with phone(browser, cast) as (_, page):
        rows = page.get_by_role("row").filter(has=page.get_by_role("link"))
        await expect(rows).to_have_count(3)
        await page.get_by_label("Rechercher dans les bons").fill("EMIS")
        await expect(rows).to_have_count(2)
        await expect(rows.filter(has_text="1,00\u00a0€")).to_have_count(1)
        await expect(page).to_have_url(re.compile(r"search=EMIS"))
        await page.get_by_label("Statut").select_option(label="1 – Émis, code obtenu")
        await expect(rows).to_have_count(1)
        await rows.get_by_role("link").click()
        await expect(page.get_by_role("button", name="Afficher le code secret")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_label("Rechercher dans les bons")).to_have_value("EMIS")
        await expect(rows).to_have_count(1)
        await page.reload()
        await expect(rows).to_have_count(1)
        await page.get_by_label("Rechercher dans les bons").fill("introuvable")
        await expect(page.get_by_text("Aucun bon ne correspond à ces filtres.")).to_be_visible()
        await page.get_by_role("link", name="Effacer les filtres").first.click()
        await expect(rows).to_have_count(3)
        await expect(page.get_by_label("Rechercher dans les bons")).to_have_value("")
        await page.get_by_label("Statut").select_option(label="11 – Livré")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("77,00\u00a0€")


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_V22_statements_show_each_invoice_and_its_paper(browser: Browser, cast: Cast) -> None:
    async with phone(browser, cast, "/statements") as (_, page):
        await expect(page.get_by_text("Aucun relevé pour le moment.")).to_be_visible()
        await accessible(page)
        voucher = await cast.delivered("124")
        await _invoiced_with_paper(cast, voucher, "F-1", "123,01")
        today = datetime.now(PARIS).date()
        job = await cast.agency.do("issueMemberStatements", f"... on Job {{ {JOB} }}", month=today.isoformat())
        watch = f"subscription ($id: ID!) {{ job(id: $id) {{ {JOB} }} }}"
        async with asyncio.timeout(60), cast.agency.subscribe(watch, id=job["id"]) as events:
            async for event in events:
                job = event["job"]
        assert job["status"] == "DONE"
        await page.reload()
        section = page.locator("main section")
        await expect(section).to_have_count(1)
        await expect(section).to_contain_text("Total 123,01\u00a0€")
        await expect(section.get_by_role("row").filter(has_text="F-1")).to_contain_text(voucher["number"])
        await accessible(page)
        await fits(page)
        pdf = await section.get_by_role("link", name="(PDF)").get_attribute("href")
        assert pdf is not None
        answer = await page.request.get(pdf[pdf.index("/statements/") :])
        assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
        paper = await section.get_by_role("link", name="F-1").get_attribute("href")
        assert paper is not None
        assert await (await page.request.get(paper[paper.index("/files/") :])).body() == PAPER
        await section.get_by_role("link", name=voucher["number"]).click()
        await expect(page.locator(".number")).to_have_text(voucher["number"])
        await page.get_by_role("navigation").get_by_role("link", name="Mes relevés").click()
        await expect(section).to_have_count(1)


# ── how it looks ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("language", LANGUAGES)
async def test_V24_every_screen_is_accessible_and_fits(browser: Browser, cast: Cast, language: str) -> None:
    await cast.world.voucher_kind(code="BP", name="Bon pour très grosses fournitures", preferred=False)
    voucher = await cast.voucher("1 234,56")
    use, show, validate, kinds = {
        "fr": ("Utiliser ce bon", "OK, afficher le code", "Valider le bon", "Type de bon"),
        "en": ("Use this voucher", "OK, show the code", "Validate the voucher", "Kind of voucher"),
    }[language]
    async with phone(browser, cast, language=language) as (_, page):

        async def looked_at() -> None:
            await accessible(page)
            await fits(page, 360)
            await fits(page)

        await expect(page.get_by_role("row").filter(has=page.get_by_role("link"))).to_have_count(1)
        await looked_at()
        await page.goto("/vouchers/new")
        await expect(page.get_by_label(kinds).locator("option")).to_have_count(2)
        await expect(page.get_by_role("option", name="Quincaillerie Bleue")).to_be_visible()
        await looked_at()
        await page.goto(f"/vouchers/{voucher['id']}")
        await page.get_by_role("button", name=use).click()
        await looked_at()
        await page.get_by_role("button", name=show).click()
        await expect(page.locator(".code")).to_be_visible()
        await looked_at()
        await page.get_by_role("button", name=validate).click()
        await question(page).get_by_role("button", name=validate).click()
        await expect(page.locator(".number")).to_be_visible()
        await expect(page).to_have_title("Bon pour très grosses fournitures – Escarcelle")
        await looked_at()


async def _invoiced_with_paper(cast: Cast, voucher: Any, number: str, amount: str) -> None:
    """The supplier's invoice, with its scanned paper."""
    query = (
        "mutation ($input: RecordSupplierInvoiceInput!, $key: ID!) {"
        " recordSupplierInvoice(input: $input, idempotencyKey: $key) { __typename } }"
    )
    given = {
        "voucherNumber": voucher["number"],
        "secretCode": voucher["presentation"]["secretCode"],
        "invoiceNumber": number,
        "amount": amount,
        "document": None,
    }
    operations = json.dumps({"query": query, "variables": {"input": given, "key": number}})
    async with httpx.AsyncClient(base_url=cast.running.url, trust_env=False) as http:
        answer = await http.post(
            "/graphql",
            data={"operations": operations, "map": json.dumps({"0": ["variables.input.document"]})},
            files={"0": (f"{number}.pdf", PAPER, "application/pdf")},
            headers={"authorization": f"Bearer {cast.supplier.token}", "x-escarcelle-client": "tests"},
        )
    assert answer.json() == {"data": {"recordSupplierInvoice": {"__typename": "SupplierInvoice"}}}
