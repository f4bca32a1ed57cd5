"""People at their browsers."""

from playwright.async_api import Page, expect

from tests.browser import Visitor
from tests.world import PASSWORD


async def signed_in(visitor: Visitor, slug: str, login: str, path: str = "/") -> Page:
    """A tab of who has just signed in, on that screen."""
    page = await visitor.page(f"{path}?issuer={slug}")
    await page.locator("[name=login]").fill(login)
    await page.locator("[name=password]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("nav")).to_be_visible()
    return page
