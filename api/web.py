"""The web client as files: a page for every address that is one of its screens, its assets, and GraphiQL.

It is built apart (web/build.py); a server without it runs, and says at `/` what is missing."""

import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

NOT_SCREENS: Final = frozenset(
    {"assets", "files", "graphiql", "graphql", "livez", "mails", "marks", "p", "password", "readyz", "templates"}
)
"""What no screen's address begins with: below these, what is not there is not found. The service worker has the same
list (web/src/service-worker.ts)."""

_CLIENT: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self';"
    " connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; worker-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_GRAPHIQL: Final = (
    # Its editor writes style sheets into the page, and has its letters inside its own.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " font-src 'self' data:; connect-src 'self'; worker-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PERMISSIONS: Final = (
    "camera=(self), screen-wake-lock=(self), clipboard-write=(self), fullscreen=(self),"
    " geolocation=(), microphone=(), payment=(), usb=(), serial=(), midi=(), display-capture=()"
)
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASKED_AGAIN: Final = "no-cache"
_ENDINGS: Final = {"br": ".br", "gzip": ".gz"}
"""How a file is packed, the smallest first, and how its packed form is called beside it."""

_MEDIA_TYPES: Final = {".webmanifest": "application/manifest+json", ".js": "text/javascript", ".ttf": "font/ttf"}
_PAGE: Final = "index.html"
_SCREEN: Final = Route("/{screen:path}", lambda request: Response())
"""Never asked: what the log and the counters call every screen."""


def found_folder() -> Path:
    """Where the built client is, or would be: in the installed package, or beside it in a checkout."""
    packed = Path(__file__).parent / "built"
    return packed if packed.is_dir() else Path(__file__).parent.parent / "web" / "dist"


@dataclass(frozen=True)
class _File:
    """A built file; `packed` are its smaller forms by content coding."""

    path: Path
    media_type: str
    etag: str
    packed: Mapping[str, Path]


class _Build:
    """The files of one built folder, found again when there is another build."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found_in: object = None
        self._files: dict[str, _File] = {}

    def file(self, name: str) -> _File | None:
        """By its name in the folder."""
        try:
            page = (self._folder / _PAGE).stat()
        except FileNotFoundError:
            return None
        if self._found_in != (page.st_mtime_ns, page.st_ino):
            self._files = _files_in(self._folder)
            self._found_in = (page.st_mtime_ns, page.st_ino)
        file = self._files.get(name)
        return file if file is not None and file.path.is_file() else None


class WebClient:
    """The client and GraphiQL, from the folder of both. `unbuilt` answers where they are not built."""

    def __init__(self, folder: Path, unbuilt: Callable[[Request], Awaitable[Response]]) -> None:
        self._client = _Build(folder / "client")
        self._graphiql = _Build(folder / "graphiql")
        self._unbuilt = unbuilt

    def routes(self) -> list[Route]:
        """Those that are nobody else's. Screens come by way of `screens_or`."""
        return [
            Route("/", self._screen),
            Route("/assets/{name}", self._asset),
            Route("/graphiql", self._graphiql_page),
            Route("/graphiql/assets/{name}", self._graphiql_asset),
        ]

    def screens_or(self, otherwise: ASGIApp) -> ASGIApp:
        """What answers where no route leads: the page, to who navigates to a screen; a file that is not named after
        its content; else what `otherwise` says."""

        async def answered(scope: Scope, receive: Receive, send: Send) -> None:
            answer = await self._elsewhere(Request(scope)) if scope["type"] == "http" else None
            if answer is None:
                await otherwise(scope, receive, send)
            else:
                scope["route"] = _SCREEN
                await answer(scope, receive, send)

        return answered

    async def _elsewhere(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return None
        path = request.url.path.removeprefix("/")
        if "/" not in path and path != _PAGE and (file := self._client.file(path)):
            return _answer(request, file, _ASKED_AGAIN, _CLIENT)
        return await self._screen(request) if _is_screen(request, path) else None

    async def _screen(self, request: Request) -> Response:
        file = self._client.file(_PAGE)
        return await self._unbuilt(request) if file is None else _answer(request, file, _ASKED_AGAIN, _CLIENT)

    async def _asset(self, request: Request) -> Response:
        # A worker lives by the policy of its own file.
        return _asset_of(self._client, request, _CLIENT)

    async def _graphiql_page(self, request: Request) -> Response:
        file = self._graphiql.file(_PAGE)
        return await self._unbuilt(request) if file is None else _answer(request, file, _ASKED_AGAIN, _GRAPHIQL)

    async def _graphiql_asset(self, request: Request) -> Response:
        return _asset_of(self._graphiql, request, _GRAPHIQL)


def _asset_of(build: _Build, request: Request, policy: str) -> Response:
    file = build.file(f"assets/{request.path_params['name']}")
    if file is None:
        raise HTTPException(404)
    return _answer(request, file, _FOR_EVER, policy)


def _is_screen(request: Request, path: str) -> bool:
    """Whether a browser goes there, and what for is not one of the server's own addresses, or a file's."""
    parts = path.split("/")
    return "text/html" in request.headers.get("accept", "") and parts[0] not in NOT_SCREENS and "." not in parts[-1]


def _answer(request: Request, file: _File, cached: str, policy: str) -> Response:
    headers = {
        "cache-control": cached,
        "etag": file.etag,
        "vary": "accept-encoding",
        "content-security-policy": policy,
        "permissions-policy": _PERMISSIONS,
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    coding = next((name for name in file.packed if _accepts(request, name)), None)
    if coding is None:
        return FileResponse(file.path, headers=headers, media_type=file.media_type)
    headers["content-encoding"] = coding
    return FileResponse(file.packed[coding], headers=headers, media_type=file.media_type)


def _accepts(request: Request, coding: str) -> bool:
    for given in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = given.partition(";")
        if name.strip() == coding:
            # `q=0`, `q=0.000`: not at all.
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", quality)
    return False


def _files_in(folder: Path) -> dict[str, _File]:
    """Every file by its name in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {
        path.relative_to(folder).as_posix(): _File(
            path,
            _MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            f'W/"{hashlib.sha256(path.read_bytes()).hexdigest()[:20]}"',
            {
                coding: packed
                for coding, ending in _ENDINGS.items()
                if (packed := path.with_name(path.name + ending)).is_file()
            },
        )
        for path in paths
        if path.suffix not in _ENDINGS.values()
    }
