"""Questions and answers that take their time."""

import asyncio
import re

from playwright.async_api import BrowserContext, Page, Request, Route


class Held:
    """The server's answer to one operation, which is as old as `given` once it arrives."""

    def __init__(self, page: Page, operation: str, *, unasked: bool) -> None:
        self._page = page
        self._operation = operation
        self._unasked = unasked
        self._given, self._let_go = asyncio.Event(), asyncio.Event()

    async def given(self) -> None:
        """The server has answered, or the question is on its way; nobody knows it yet."""
        await asyncio.wait_for(self._given.wait(), 30)

    async def arrive(self) -> None:
        """Now the page gets it, and has shown what it makes of it."""
        await self.given()
        async with self._page.expect_event("requestfinished", self._is_it):
            self._let_go.set()
        await self._page.evaluate("new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))")

    async def hold(self, route: Route) -> None:
        """The first one waits; whatever else passes."""
        if self._given.is_set() or not self._is_it(route.request):
            await route.fallback()
            return
        if self._unasked:
            self._given.set()
            await self._let_go.wait()
            await route.continue_()
            return
        answer = await route.fetch()
        self._given.set()
        await self._let_go.wait()
        await route.fulfill(response=answer)

    def _is_it(self, request: Request) -> bool:
        return _asks(request, self._operation)


async def lost(page: Page, operation: str) -> None:
    """The next answer to this operation, such as "mutation createPayment", never arrives. To be called early: a browser
    takes a while to heed it."""
    is_lost = False

    async def lose(route: Route) -> None:
        nonlocal is_lost
        if is_lost or not _asks(route.request, operation):
            await route.fallback()
            return
        is_lost = True
        await route.fetch()
        await route.abort()

    await page.route("**/graphql", lose)


def _asks(request: Request, operation: str) -> bool:
    return re.search(rf"{operation}\b", request.post_data or "") is not None


async def heeded(context: BrowserContext) -> None:
    """From now on its requests can be held back or answered at once: a browser takes a while to begin with that."""
    await context.route("**/nothing", lambda route: route.continue_())


async def held(page: Page, operation: str, *, unasked: bool = False) -> Held:
    """The next answer to this operation, such as "query payment", is kept back until it may arrive; `unasked`, the
    question is, and the server does not know of it yet."""
    answer = Held(page, operation, unasked=unasked)
    await page.route("**/graphql", answer.hold)
    return answer
