"""The web client in a real Chromium, against the real server.

What every page is looked at for: `accessible` (axe-core's rules) and `fits` (nothing beyond the edge)."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, expect

from escarcelle.embedded import CannotStart

FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
"""How Chromium is started: root has no sandbox, nothing of its own may reach for the network, and there is no host but
this one."""

LANGUAGES: Final = {"fr": "fr-FR", "en": "en-GB"}
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
NARROWEST: Final = 320
"""A page fits into so many pixels (WCAG 1.4.10)."""

_AXE: Final = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
_RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_OVERFLOWING: Final = """async () => {
    // What is drawn for a width, as a chart is, is drawn anew with the next frame.
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const width = document.documentElement.clientWidth;
    const beyond = [...document.querySelectorAll("body *")].filter((element) => {
        const { left, right, width: own } = element.getBoundingClientRect();
        return own > 0 && (right > width + 0.5 || left < -0.5) && !element.closest("[data-scrolls]");
    });
    const named = beyond.map((e) => `${e.tagName.toLowerCase()}.${e.className}: ${e.textContent.trim().slice(0, 40)}`);
    return document.documentElement.scrollWidth > width ? [`the page: ${named.join(", ")}`] : named;
}"""

_TEXT_PIXELS: Final = 16
"""How large a text is where nobody has chosen otherwise."""

_UNSEEN: Final = """() => {
    const edged = (element) => {
        const { borderTopStyle, borderTopWidth } = getComputedStyle(element);
        return borderTopStyle !== "none" && parseFloat(borderTopWidth) >= 1;
    };
    const all = document.querySelectorAll("button, .button, select, textarea, input, dialog[open], [role=listbox]");
    const seen = [...all].filter((e) => e.checkVisibility() && !["radio", "checkbox"].includes(e.type));
    return seen.filter((e) => !edged(e)).map((e) => e.outerHTML.slice(0, 120));
}"""
"""What has no edge but its colour."""


def chromium() -> str:
    """Debian's Chromium. Raises CannotStart where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise CannotStart("Chromium is needed: apt-get install chromium, or CHROMIUM=/path/to/it")
    return found


# How soon is measured elsewhere; here it is enough that it comes without a reload, however busy the machine is.
expect.set_options(timeout=30_000)


class Wrong:
    """What must not happen in a page, in the order in which it did. A test that brings one about on purpose takes it
    away again with `expected`."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._found: list[str] = []

    def watch(self, context: BrowserContext) -> None:
        """From now on, in every page of it."""
        context.on("console", self._said)
        context.on("weberror", lambda error: self._found.append(f"an exception: {error.error}"))
        context.on("request", self._asked)

    def expected(self, *words: str) -> None:
        """Takes away what says any of these. Fails when nothing does."""
        found = [each for each in self._found if any(word in each for word in words)]
        assert found, f"nothing says {words!r}: {self._found}"
        self._found = [each for each in self._found if each not in found]

    def found(self) -> list[str]:
        """What has happened."""
        return self._found

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._found.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if not self._is_ours(request.url):
            self._found.append(f"a request to another host: {request.url}")

    def _is_ours(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme in ("data", "blob") or parts.netloc == self._host


class Visitor:
    """One person's browser: a profile of its own, that knows nobody yet."""

    def __init__(self, context: BrowserContext, wrong: Wrong) -> None:
        self.context = context
        self.wrong = wrong

    async def page(self, path: str = "/") -> Page:
        """A new tab at this address."""
        page = await self.context.new_page()
        await page.goto(path)
        return page


@asynccontextmanager
async def visiting(
    browser: Browser, url: str, *, language: str = "fr", width: int = 1280, height: int = 800
) -> AsyncIterator[Visitor]:
    """A visitor, who fails at the end when a page did what it must not: ask another host, throw, break its policy, or
    say an error or a warning."""
    size = {"width": width, "height": height}
    context = await browser.new_context(base_url=url, locale=LANGUAGES[language], viewport=size)  # type: ignore[arg-type]
    context.set_default_timeout(30_000)
    wrong = Wrong(url)
    wrong.watch(context)
    try:
        yield Visitor(context, wrong)
    finally:
        await context.close()
    assert not wrong.found(), wrong.found()


def query(page: Page) -> dict[str, list[str]]:
    """What stands in the address, but for the issuer that one has signed in to."""
    return {name: values for name, values in parse_qs(urlsplit(page.url).query).items() if name != "issuer"}


async def accessible(page: Page) -> None:
    """No rule of axe-core is broken, in either theme, and where colours are forced what can be pressed or filled in has
    an edge. For both languages, look at the page in each."""
    await page.wait_for_load_state("networkidle")
    for theme in THEMES:
        await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        # As text from outside the page, for its policy lets no script in.
        await page.evaluate(_AXE.read_text(encoding="utf-8") + ";0")
        rules = json.dumps({"runOnly": {"type": "tag", "values": _RULES}})
        broken = await page.evaluate(f"axe.run(document, {rules}).then(({{ violations }}) => violations)")
        said = [f"{rule['id']}: {node['html']} ({node['failureSummary']})" for rule in broken for node in rule["nodes"]]
        assert not said, (theme, page.url, said)
    await page.emulate_media(color_scheme="light", reduced_motion="reduce", forced_colors="active")
    unseen = await page.evaluate(_UNSEEN)
    assert not unseen, ("forced colours", page.url, unseen)
    await page.emulate_media(color_scheme="null", reduced_motion="null", forced_colors="none")


async def fits(page: Page, width: int | None = None) -> None:
    """Nothing lies beyond the edge, but for what scrolls by itself (`data-scrolls`): of the narrowest window, of one
    twice as wide whose text is twice as large, and of the one that it is in with such text. A width says another
    one instead."""
    before = page.viewport_size
    assert before is not None
    sizes = ((width, 1),) if width is not None else ((NARROWEST, 1), (2 * NARROWEST, 2), (before["width"], 2))
    browser = await page.context.new_cdp_session(page)
    for pixels, times in sizes:
        await page.set_viewport_size({"width": pixels, "height": before["height"]})
        await browser.send("Page.setFontSizes", {"fontSizes": {"standard": _TEXT_PIXELS * times}})
        beyond = await page.evaluate(_OVERFLOWING)
        assert not beyond, (pixels, times, page.url, beyond)
    await browser.send("Page.setFontSizes", {"fontSizes": {"standard": _TEXT_PIXELS}})
    await browser.detach()
    await page.set_viewport_size(before)


async def until_served_offline(page: Page) -> None:
    """The service worker has kept the shell."""
    try:
        await page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    except Error as error:
        raise AssertionError("there is a service worker") from error
