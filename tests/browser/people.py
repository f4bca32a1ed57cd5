"""People at their browsers."""

from typing import Final

from playwright.async_api import Page, expect

from tests.browser import Visitor
from tests.world import PASSWORD

SIGNS_IN: Final = """async ([issuer, login, password]) => {
    const query = `mutation ($input: SignInInput!) { signIn(input: $input) { __typename } }`;
    const body = JSON.stringify({ query, variables: { input: { issuer, login, password } } });
    const headers = {
        "content-type": "application/json", "x-escarcelle-client": "tests", "x-escarcelle-session": "cookie",
    };
    return (await fetch("/graphql", { method: "POST", headers, body })).json();
}"""
"""Signs in behind the screens' back, in any page of the server."""


async def signed_in(visitor: Visitor, slug: str, login: str, path: str = "/") -> Page:
    """A tab of who has just signed in, on that screen."""
    page = await visitor.page(f"{path}?issuer={slug}")
    await page.locator("[name=login]").fill(login)
    await page.locator("[name=password]").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.locator("nav")).to_be_visible()
    return page
