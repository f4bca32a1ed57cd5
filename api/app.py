"""The Starlette application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import COOKIES_TO_SET, Services, authorize, make_context
from api.http import Pages
from api.limits import SignInLimits
from api.live import Hub
from api.schema import GRAPHQL_SCHEMA
from api.sight import Counting, Sight
from api.transport import Transport
from api.web import WebClient, found_folder
from domain.db import Database
from domain.logs import without_words
from domain.metrics import Pools, collecting
from domain.settings import Settings

log = structlog.get_logger(__name__)

_AWAY_SECONDS: Final = 3.0
"""For those who listen to have gone."""


def create_app(settings: Settings, newest_revision: str) -> Starlette:
    """The application of one process. It refuses to start as a database role that the tenant wall does not hold."""
    services = Services(
        settings,
        Database(settings),
        Hub(settings.redis_url),
        SignInLimits(settings.redis_url, settings.sign_in_tries_per_minute),
    )
    transport: Transport[Any] = Transport(
        GRAPHQL_SCHEMA, partial(make_context, services), authorize=authorize, watcher=Counting()
    )
    pages = Pages(services, newest_revision)
    client = WebClient(found_folder(), pages.unbuilt)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            await services.database.open()
        except Exception as error:
            log.error("cannot_start", error=without_words(error))
            raise
        await services.hub.open()
        try:
            with collecting(Pools(services.database)):
                yield
        finally:
            await services.hub.close()
            await services.sign_in_limits.close()
            await services.database.close()

    app = Starlette(
        routes=[
            *transport.routes("/graphql"),
            Route("/livez", pages.live),
            Route("/readyz", pages.ready),
            Route("/p/{token}", pages.offer),
            Route("/marks/{slug}/{digest}", pages.mark),
            Route("/files/{token}", pages.file),
            Route("/statements/{token}", pages.statement),
            Route("/vouchers/{id}/{token}", pages.voucher),
            Route("/templates/{name}", pages.template),
            Route("/transfers/{token}", pages.transfers),
            Route("/reimbursements/{token}/{name}", pages.reimbursement),
            Route("/password/{token}", pages.password, methods=["GET", "POST"]),
            Route("/mails", pages.mails),
            *client.routes(),
        ],
        middleware=[Middleware(Sight), Middleware(Headers)],
        lifespan=lifespan,
    )

    app.router.default = client.screens_or(app.router.default)

    async def send_away() -> None:
        app.state.stopping = True
        await transport.close_all(_AWAY_SECONDS)

    app.state.stopping = False
    # The server calls this before it waits for its connections: those that listen would keep it waiting.
    app.state.send_away = send_away
    return app


class Headers:
    """What every answer carries, and the cookies that resolvers left. While the process stops each connection ends with
    its answer, so that the next request goes to another one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                if scope["app"].state.stopping:
                    headers["connection"] = "close"
                for cookie in scope.get(COOKIES_TO_SET, ()):
                    headers.append("set-cookie", cookie)
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)
