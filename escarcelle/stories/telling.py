"""How a story is told: line by line, each expectation checked."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from email import message_from_bytes, policy
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx

from escarcelle.clients import Client, Unexpected
from escarcelle.world import PASSWORD, SLUG, SignIn


class Teller:
    """Tells a story and holds the server to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def title(self, text: str) -> None:
        """A new chapter."""
        print(f"\n── {text} ──", flush=True)

    def say(self, who: str, text: str) -> None:
        """What someone does or sees."""
        print(f"  {who:<9} {text}", flush=True)

    def say_mail(self, mail: dict[str, Any]) -> None:
        """To whom a mail went, and its subject."""
        to = mail["to"]
        self.say("mail", f"to {to if isinstance(to, str) else ', '.join(to)}: {mail['subject']}")

    def expect(self, found: object, expected: object, about: str) -> None:
        """Raises Unexpected unless the two are equal."""
        if found != expected:
            raise Unexpected(f"{about}: expected {expected!r}, found {found!r}")

    async def signed_in(self, person: SignIn) -> Client:
        """A new device with that person signed in."""
        client = Client(self.url)
        session = await client.sign_in(SLUG, person.login, PASSWORD)
        self.expect(session["__typename"], "Session", f"sign-in of {person.login}")
        return client

    async def mail(self, client: Client, is_it: Callable[[dict[str, Any]], bool], about: str) -> dict[str, Any] | None:
        """The mail, within ten seconds; None where the server has no mail catcher."""
        page = await self._mail_page(client)
        if page is None:
            self.say("mail", "not looked at: this server keeps no mails")
            return None
        async with httpx.AsyncClient() as http:

            async def look() -> dict[str, Any] | None:
                mails = (await http.get(f"{page}/mails.json")).json()
                return next((mail for mail in mails if is_it(mail)), None)

            found: dict[str, Any] = await within(10, look, about)
            return found

    async def mails_so_far(self, client: Client) -> set[str]:
        """The keys of all mails until now; none where the server has no mail catcher."""
        page = await self._mail_page(client)
        if page is None:
            return set()
        async with httpx.AsyncClient() as http:
            return {mail["key"] for mail in (await http.get(f"{page}/mails.json")).json()}

    async def enclosed(self, client: Client, mail: dict[str, Any]) -> dict[str, bytes]:
        """What comes with a mail, by the files' names."""
        async with httpx.AsyncClient() as http:
            raw = await http.get(f"{await self._mail_page(client)}/mails/{mail['key']}.eml")
        message = message_from_bytes(raw.content, policy=policy.default)
        return {each.get_filename() or "": each.get_content() for each in message.iter_attachments()}

    def keep_pdf(self, who: str, name: str, content: bytes) -> None:
        """Put it into the story's folder, and say where. Raises Unexpected when it is no PDF."""
        self.expect(content[:5], b"%PDF-", f"the beginning of {name}")
        file = self._folder / name
        file.write_bytes(content)
        self.say(who, f"{file} ({math.ceil(len(content) / 1000)} kB)")

    @cached_property
    def _folder(self) -> Path:
        return Path(mkdtemp(prefix="escarcelle-demo-"))

    async def _mail_page(self, client: Client) -> str | None:
        response = await client.get("/mails")
        return None if response.status_code == 404 else str(response.url).rstrip("/")


async def within(seconds: float, look: Callable[[], Awaitable[Any | None]], about: str) -> Any:
    """What `look` finds, once it finds something. Raises Unexpected when it does not in that time."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await look()
                if found is not None:
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Unexpected(f"{about}: nothing within {seconds:g} s") from None


async def next_of(events: Any, seconds: float, about: str) -> dict[str, Any]:
    """The next event of a subscription. Raises Unexpected when none comes in that time."""
    try:
        async with asyncio.timeout(seconds):
            event: dict[str, Any] = await anext(events)
            return event
    except TimeoutError:
        raise Unexpected(f"{about}: no event within {seconds:g} s") from None
    except StopAsyncIteration:
        raise Unexpected(f"{about}: the subscription has ended") from None
