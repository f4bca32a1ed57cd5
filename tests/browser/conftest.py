"""One Chromium for all tests, and a visitor for each."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.browser import FLAGS, Visitor, chromium, visiting
from tests.world import Running


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a profile."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield started
        await started.close()


@pytest.fixture
async def visitor(browser: Browser, running: Running) -> AsyncIterator[Visitor]:
    """Someone who reads French, at a desk."""
    async with visiting(browser, running.url) as someone:
        yield someone


@pytest.fixture
async def page(visitor: Visitor) -> Page:
    """The visitor's first tab, empty yet."""
    return await visitor.context.new_page()
