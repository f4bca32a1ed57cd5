"""`escarcelle demo`: plays stories against a running server and fails when it does otherwise."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import httpx
from websockets.exceptions import WebSocketException

from escarcelle.clients import Unexpected
from escarcelle.stories import payments, vouchers
from escarcelle.stories.telling import Teller

STORIES: Final[Mapping[str, Callable[[Teller], Coroutine[Any, Any, None]]]] = {
    "payments": payments.play,
    "vouchers": vouchers.play,
}


def play(story: str | None, url: str) -> int:
    """Play one story, or all of them; returns the exit code: 1 when the server does otherwise or does not answer, 2 for
    a story that nobody knows."""
    if story is not None and story not in STORIES:
        print(f"There is no story “{story}”; there are: {', '.join(STORIES)}.", file=sys.stderr)
        return 2
    try:
        for name in [story] if story else STORIES:
            asyncio.run(STORIES[name](Teller(url)))
    except Unexpected as unexpected:
        print(f"\nOtherwise than told: {unexpected}", file=sys.stderr)
        return 1
    except (httpx.HTTPError, OSError, WebSocketException) as error:
        print(f"\n{url} does not answer: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print("\nAll as told.")
    return 0
