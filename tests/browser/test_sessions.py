"""Whose screens a tab shows: other tabs, ended sessions, the browser's way back, a server that does not answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, Page, Route, WebSocketRoute, async_playwright, expect

from tests.browser import FLAGS, Visitor, accessible, chromium, fits, visiting
from tests.browser.people import SIGNS_IN, signed_in
from tests.flows.cast import Cast, assembled, token_of
from tests.world import PASSWORD, Running, World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the payment requests."""
    async with assembled(world, running) as everyone:
        yield everyone


# ── other tabs ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_signs_out_in_one_tab_has_left_them_all(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900")
    other = await visitor.page("/merchant")
    await expect(_heading(other)).to_be_visible()
    await other.evaluate("sessionStorage.setItem('draft', 'of the one before')")
    await page.get_by_role("button", name="Se déconnecter").click()
    for tab in (page, other):
        await expect(_heading(tab)).to_have_text("Connexion")
        await expect(tab.get_by_text("Canoë")).to_have_count(0)
        assert await tab.evaluate("sessionStorage.length") == 0


async def test_who_signs_in_as_somebody_else_is_that_in_every_tab(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900")
    other = await visitor.page("/home")
    await expect(_name(other)).to_have_text("708900")
    await page.get_by_role("button", name="Se déconnecter").click()
    await _sign_in(page, cast, "p001")
    for tab in (page, other):
        await expect(_name(tab)).to_have_text("P001")


async def test_nothing_is_done_in_the_name_of_who_has_signed_in_since(visitor: Visitor, cast: Cast) -> None:
    """In a tab that has not heard of it yet."""
    asked = await cast.ask("40,00")
    page = await signed_in(visitor, cast.world.slug, "ines", f"/offers/{token_of(asked)}")
    pay = page.get_by_role("button", name="Payer")
    await expect(pay).to_be_visible()
    other = await visitor.context.new_page()
    await other.goto("/home")
    await other.evaluate(SIGNS_IN, [cast.world.slug, "eric", PASSWORD])
    before = await cast.world.digest()
    await pay.click()
    await page.get_by_role("dialog").get_by_role("button", name="Payer 40,00").click()
    await expect(_heading(page)).to_have_text("Connexion")
    visitor.wrong.expected("401")
    assert await cast.world.digest() == before
    assert (await cast.read(asked))["status"] == "AWAITING_PAYMENT"


# ── a session that ends ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_signs_in_again_finds_the_form_as_it_was(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900", "/rights/new")
    await expect(page).to_have_title("Nouvel utilisateur – Escarcelle")
    name = page.locator("[name=name]")
    await name.fill("Camille Petit")
    await visitor.context.clear_cookies()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Votre session a pris fin")).to_be_visible()
    visitor.wrong.expected("401")
    await expect(page).to_have_title("Connexion – Escarcelle")
    await expect(page.get_by_text("Canoë Kayak Club").first).to_be_hidden()
    await page.keyboard.press("Escape")
    await accessible(page)
    await fits(page)
    await _sign_in(page, cast, "708900")
    await expect(page).to_have_title("Nouvel utilisateur – Escarcelle")
    await expect(name).to_have_value("Camille Petit")
    await expect(name).to_be_focused()


async def test_P7_a_list_is_live_again_after_signing_in_again(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "p001")
    await cast.ask("21,00")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(1)
    devices = (await cast.till.ask("{ devices { id current } }"))["devices"]
    for device in devices:
        if not device["current"]:
            await cast.till.do("signOutDevice", "... on Done { message }", id=device["id"])
    await expect(page.get_by_text("Votre session a pris fin")).to_be_visible()
    await cast.ask("22,00")
    await _sign_in(page, cast, "p001")
    await expect(rows).to_have_count(2)
    await cast.ask("23,00")
    await expect(rows).to_have_count(3)
    visitor.wrong.expected("401")


async def test_somebody_else_finds_nothing_of_who_was_there_before(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900", "/rights/new")
    await page.locator("[name=name]").fill("Camille Petit")
    await visitor.context.clear_cookies()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Votre session a pris fin")).to_be_visible()
    visitor.wrong.expected("401")
    await _sign_in(page, cast, "p001")
    await expect(_name(page)).to_have_text("P001")
    await expect(_heading(page)).to_have_text("Cette page n’existe pas")
    await expect(page.locator("[name=name]")).to_have_count(0)


async def test_a_changed_password_is_said_and_the_session_goes_on(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900", "/account")
    await page.get_by_role("link", name="Changer de mot de passe").click()
    await page.keyboard.press("Escape")
    await expect(_heading(page)).to_have_text("Mon compte")
    await page.get_by_role("link", name="Changer de mot de passe").click()
    await accessible(page)
    await fits(page)
    await page.locator("[name=currentPassword]").fill(PASSWORD)
    await page.locator("[name=newPassword]").fill("une phrase plus longue")
    await page.keyboard.press("Enter")
    said = page.get_by_role("status").filter(has_text="Votre mot de passe est changé")
    await expect(said).to_be_focused()
    await page.get_by_role("link", name="Encaissement").click()
    await expect(page.get_by_text("session a pris fin")).to_have_count(0)
    await cast.ask("21,00")
    await expect(page.locator("tbody tr")).to_have_count(1)


# ── the browser's way back ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_way_back_shows_nothing_of_who_has_signed_out(cast: Cast, running: Running) -> None:
    """In a browser that keeps the pages one has left, which those of other tests do not."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=list(FLAGS), ignore_default_args=["--disable-back-forward-cache"]
        )
        async with visiting(browser, running.url) as someone:
            page = await signed_in(someone, cast.world.slug, "708900")
            await page.goto("/merchant")
            await expect(page.get_by_text("Canoë Kayak Club").first).to_be_visible()
            await page.evaluate("addEventListener('pagehide', () => { window.kept = true })")
            await page.get_by_role("button", name="Se déconnecter").click()
            await expect(_heading(page)).to_have_text("Connexion")
            await page.go_back(wait_until="commit")
            await expect(_heading(page)).to_have_text("Connexion")
            await expect(page.get_by_text("Canoë Kayak Club")).to_have_count(0)
        await browser.close()


# ── a server that does not answer ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "kind", "body"), [(502, "text/html", "<h1>Bad Gateway</h1>"), (503, "application/json", "{}")]
)
async def test_a_gateway_without_its_server_does_not_look_like_being_signed_out(
    visitor: Visitor, cast: Cast, status: int, kind: str, body: str
) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900")
    await page.route("**/graphql", lambda route: route.fulfill(status=status, content_type=kind, body=body))
    await page.reload()
    await expect(_heading(page)).to_have_text("Le serveur ne répond pas")
    await expect(page).to_have_title("Le serveur ne répond pas – Escarcelle")
    visitor.wrong.expected(str(status))
    await page.unroute_all()
    await page.get_by_role("button", name="Réessayer").click()
    await expect(_name(page)).to_have_text("708900")


async def test_P1_who_is_quicker_than_the_server_is_signed_in(visitor: Visitor, cast: Cast) -> None:
    page = await visitor.context.new_page()
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        if "issuerCard" in (route.request.post_data or ""):
            await held.wait()
        await route.continue_()

    await page.route("**/graphql", hold)
    await page.goto(f"/?issuer={cast.world.slug}")
    await page.locator("[name=login]").fill("708900")
    await page.locator("[name=password]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Se connecter")).to_have_attribute("aria-disabled", "true")
    held.set()
    await expect(_name(page)).to_have_text("708900")


async def test_P21_where_no_socket_gets_through_it_is_told_and_the_list_asked_anew(
    visitor: Visitor, cast: Cast
) -> None:
    page = await visitor.context.new_page()

    async def refuse(socket: WebSocketRoute) -> None:
        await socket.close(code=1011)

    await page.route_web_socket("**/graphql", refuse)
    await _open(page, cast, "708900")
    await page.goto("/payments")
    await expect(page.get_by_text("Connexion perdue")).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(0)
    await cast.ask("21,00")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Exporter").click()
    await page.get_by_role("button", name="Excel").click()
    await expect(page.get_by_text("Terminé : 1 ligne.")).to_be_visible()


async def test_P21_a_network_that_has_gone_silent_is_told(visitor: Visitor, cast: Cast) -> None:
    page = await visitor.context.new_page()
    silent = False

    async def pass_on(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        socket.on_message(lambda said: None if silent else server.send(said))

    await page.clock.install()
    await page.route_web_socket("**/graphql", pass_on)
    await _open(page, cast, "p001")
    await cast.ask("21,00")
    await expect(page.locator("tbody tr")).to_have_count(1)
    lost = page.get_by_text("Connexion perdue")
    await page.clock.run_for(30_000)
    await expect(lost).to_have_count(0)
    silent = True
    await page.clock.run_for(15_500)
    await expect(lost).to_be_visible()


async def test_an_address_that_is_none_is_not_found(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900", "/payments/%E0%A4%A")
    await expect(_heading(page)).to_have_text("Cette page n’existe pas")
    await expect(page).to_have_title("Cette page n’existe pas – Escarcelle")


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def _name(page: Page) -> Locator:
    return page.get_by_role("banner").locator(".who a")


async def _open(page: Page, cast: Cast, login: str) -> None:
    await page.goto(f"/?issuer={cast.world.slug}")
    await _sign_in(page, cast, login)


async def _sign_in(page: Page, cast: Cast, login: str) -> None:
    form = page.locator("form").filter(has=page.locator("[name=password]"))
    await form.locator("[name=login]").fill(login)
    await form.locator("[name=password]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("nav")).to_be_visible()
