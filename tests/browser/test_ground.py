"""What all screens stand on: addresses, offline, headers, GraphiQL."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from playwright.async_api import Browser, Page, expect

from api.web import NOT_SCREENS
from domain.appearance import Shades
from escarcelle import database as escarcelle_database
from tests.browser import LANGUAGES, NARROWEST, THEMES, Visitor, accessible, fits, until_served_offline, visiting
from tests.browser.answers import heeded
from tests.browser.people import SIGNS_IN, signed_in
from tests.flows.cast import Cast, assembled
from tests.flows.test_appearance import mark
from tests.world import PASSWORD, Running, World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the payment requests."""
    async with assembled(world, running) as everyone:
        yield everyone


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_first_screen_is_accessible_and_fits(browser: Browser, running: Running, language: str) -> None:
    async with visiting(browser, running.url, language=language) as someone:
        page = await someone.page()
        title = {"fr": "Connexion", "en": "Sign in"}[language]
        await expect(page.get_by_role("heading", level=1)).to_have_text(title)
        await expect(page).to_have_title(f"{title} – Escarcelle")
        await expect(page.locator("html")).to_have_attribute("lang", language)
        await accessible(page)
        await fits(page)


async def test_an_issuers_colour_and_mark_are_worn_and_legible(
    browser: Browser, world: World, running: Running
) -> None:
    """Yellow, which nobody could read on white."""
    appearance = {"accent": "#f2b63c", "mark": mark("#f2b63c")}
    await escarcelle_database.put_appearance(world.servers.settings, world.slug, appearance)
    async with assembled(world, running) as cast, visiting(browser, running.url) as someone:
        page = await someone.page(f"/?issuer={cast.world.slug}")
        await _wears(page, "main button.primary", "background-color")
        await accessible(page)
        await fits(page)
        page = await signed_in(someone, cast.world.slug, "708900")
        await _wears(page, "main li a", "color")
        await accessible(page)
        await page.get_by_role("button", name="Se déconnecter").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connexion")


async def _wears(page: Page, element: str, name: str) -> None:
    banner = page.get_by_role("banner")
    await expect(banner.get_by_role("link", name="Agence du Temps Libre")).to_be_visible()
    await expect(banner.locator("img")).to_have_js_property("naturalWidth", 96)
    shades = Shades.of("#f2b63c")
    for theme, shade in zip(THEMES, (shades.light, shades.dark), strict=True):
        await page.emulate_media(color_scheme=theme)
        await expect(page.locator(element).first).to_have_css(name, _rgb(shade))
    await page.emulate_media(color_scheme="null")


def _rgb(colour: str) -> str:
    return f"rgb({int(colour[1:3], 16)}, {int(colour[3:5], 16)}, {int(colour[5:7], 16)})"


async def test_a_deep_link_and_a_reload_lead_to_the_screen(page: Page) -> None:
    for address in ("/payments/bm90aGluZw", "/vouchers", "/a/screen/of/tomorrow?status=PAID#row"):
        answer = await page.goto(address)
        assert answer is not None
        assert answer.status == 200
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connexion")
        await page.reload()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Connexion")
        assert page.url.endswith(address)


async def _without_a_worker(visitor: Visitor, cast: Cast) -> Page:
    """Nothing is answered from what a service worker has kept; and the browser lets its requests be looked at."""
    await visitor.context.add_init_script("delete Navigator.prototype.serviceWorker")
    await heeded(visitor.context)
    return await signed_in(visitor, cast.world.slug, "708900")


async def test_a_screen_whose_file_has_another_name_since_an_update_is_found_by_loading_anew(
    visitor: Visitor, cast: Cast
) -> None:
    page = await _without_a_worker(visitor, cast)
    await page.route("**/assets/Account-*.js", lambda route: route.fulfill(status=404), times=1)
    await page.get_by_role("banner").get_by_role("link").last.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Mon compte")
    visitor.wrong.expected("404")


async def test_a_screen_whose_file_never_comes_says_so(visitor: Visitor, cast: Cast) -> None:
    page = await _without_a_worker(visitor, cast)
    await page.route("**/assets/Account-*.js", lambda route: route.fulfill(status=404))
    await page.get_by_role("banner").get_by_role("link").last.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Le serveur ne répond pas")
    visitor.wrong.expected("404")
    await page.unroute_all()
    await page.get_by_role("button", name="Réessayer").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Mon compte")


async def test_what_is_not_there_is_not_found(visitor: Visitor, running: Running) -> None:
    page = await visitor.context.new_page()
    for address in ("/assets/nothing.js", "/nothing.png", *(f"/{name}/x/y" for name in NOT_SCREENS)):
        answer = await page.goto(address)
        assert answer is not None
        assert answer.status == 404, address
        visitor.wrong.expected("404")
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        assert (await http.get("/payments/x")).status_code == 404, "a program wants no page"
        assert (await http.post("/payments/x", headers={"accept": "text/html"})).status_code == 404


async def test_the_shell_is_there_without_a_network(visitor: Visitor) -> None:
    page = await visitor.page()
    await until_served_offline(page)
    await page.reload()
    await visitor.context.set_offline(True)
    await page.goto("/payments/bm90aGluZw")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Le serveur ne répond pas")
    visitor.wrong.expected("ERR_INTERNET_DISCONNECTED")
    kept = await page.evaluate(
        "caches.keys().then((names) => Promise.all(names.map((name) => caches.open(name))))"
        ".then((all) => Promise.all(all.map((cache) => cache.keys())))"
        ".then((all) => all.flat().map((request) => new URL(request.url).pathname))"
    )
    assert "/" in kept
    assert [path for path in kept if path.startswith("/graph")] == [], "nothing of people or money, and no GraphiQL"


async def test_who_has_signed_out_leaves_nothing_behind_and_who_could_not_is_told(visitor: Visitor, cast: Cast) -> None:
    page = await signed_in(visitor, cast.world.slug, "708900")
    await page.evaluate("sessionStorage.setItem('draft', 'of the one before')")
    sign_out = page.get_by_role("button", name="Se déconnecter")
    await visitor.context.set_offline(True)
    await sign_out.click()
    await expect(page.get_by_text("Vous êtes encore connecté")).to_be_visible()
    visitor.wrong.expected("ERR_INTERNET_DISCONNECTED")
    await visitor.context.set_offline(False)
    await sign_out.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Connexion")
    assert urlsplit(page.url).path == "/"
    assert await page.evaluate("sessionStorage.length") == 0
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Connexion")


@pytest.mark.parametrize(
    ("language", "says"), [("fr", "Encaisser, payer et suivre"), ("en", "Collect, pay and follow")]
)
async def test_it_is_installed_in_its_language(browser: Browser, running: Running, language: str, says: str) -> None:
    async with visiting(browser, running.url, language=language) as someone:
        page = await someone.page()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        session = await page.context.new_cdp_session(page)
        manifest = orjson.loads((await session.send("Page.getAppManifest"))["data"])
        assert (manifest.pop("lang"), manifest.pop("description")[: len(says)]) == (language, says)
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
            other = (await http.get("/manifest.webmanifest")).json()
        assert manifest == {name: said for name, said in other.items() if name not in ("lang", "description")}


async def test_it_can_be_installed(page: Page, running: Running) -> None:
    await page.goto("/")
    session = await page.context.new_cdp_session(page)
    manifest = await session.send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert (await session.send("Page.getInstallabilityErrors"))["installabilityErrors"] in (
        [],
        # Profiles of tests are like private windows.
        [{"errorId": "in-incognito", "errorArguments": []}],
    )


async def test_graphiql_asks_and_listens_with_the_session_of_who_is_signed_in(visitor: Visitor, cast: Cast) -> None:
    await cast.ask("40,00", label="Location de canoë")
    page = await visitor.page("/graphiql")
    answers = page.get_by_label("Result Window")
    run = page.get_by_role("button", name="Execute query")
    # Before its editors stand, GraphiQL drops what it is told.
    await expect(page.locator(".monaco-editor .view-lines")).to_have_count(4)
    await run.click()
    await expect(answers).to_contain_text('"viewer": null')
    signed_in = await page.evaluate(SIGNS_IN, [cast.world.slug, "p001", PASSWORD])
    assert signed_in == {"data": {"signIn": {"__typename": "Session"}}}
    await run.click()
    await expect(answers).to_contain_text('"name": "P001"')
    await page.locator(".graphiql-query-editor .view-lines").click()
    await page.keyboard.press("Control+a")
    await page.keyboard.insert_text("subscription { paymentRequestChanges { paymentRequest { status label } } }")
    await run.click()
    await expect(answers).to_contain_text("Location de canoë")
    request = await cast.ask("30,00", label="Gilet de sauvetage")
    await expect(answers).to_contain_text("Gilet de sauvetage")
    await cast.pay(request)
    await expect(answers).to_contain_text('"status": "VALIDATED"')
    await page.get_by_role("button", name="Stop query").click()


async def test_graphiql_shows_question_and_answer_on_a_phone(browser: Browser, running: Running) -> None:
    async with visiting(browser, running.url, width=NARROWEST) as someone:
        page = await someone.page("/graphiql")
        await expect(page.get_by_role("main").get_by_role("heading", level=1)).to_have_text("GraphiQL")
        await expect(page.locator(".monaco-editor .view-lines")).to_have_count(4)
        await page.get_by_role("button", name="Execute query").click()
        await expect(page.get_by_label("Result Window")).to_contain_text('"viewer": null')
        question = await page.locator(".graphiql-query-editor").bounding_box()
        answer = await page.get_by_label("Result Window").bounding_box()
        assert question is not None and answer is not None
        assert min(question["width"], answer["width"]) > 200
        assert min(question["height"], answer["height"]) > 100
        assert question["y"] + question["height"] <= answer["y"]


async def test_every_answer_says_what_a_page_may_do(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        page = await http.get("/")
        again = await http.get("/", headers={"if-none-match": page.headers["etag"]})
        (script,) = [part.split('"')[0] for part in page.text.split('src="')[1:]]
        plain = await http.get(script, headers={"accept-encoding": "br;q=0, gzip;q=0.0"})
        packed = {name: await http.get(script, headers={"accept-encoding": name}) for name in ("br", "gzip")}
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in plain.headers
    for name, answer in packed.items():
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, name)
        assert int(answer.headers["content-length"]) < len(plain.content) / 2
    assert packed["gzip"].content == plain.content
