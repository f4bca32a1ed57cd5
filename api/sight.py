"""What operators see of requests: a line in the log for each, and the counters of `domain.metrics`.

A line holds no personal data and no secret: the path's template, never the token in it; root fields and codes, never
the document or its variables; the tenant's number, never who."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.transport import Ended, Watcher
from domain.errors import RefusalCode
from domain.logs import without_words
from domain.metrics import OPERATION_SECONDS, OPERATIONS, RESPONSES, SOCKETS, SUBSCRIPTIONS

log = structlog.get_logger(__name__)

REQUEST_ID: Final = "x-request-id"

_SEEN: Final = "escarcelle.seen"
_SANE_REQUEST_ID: Final = re.compile(r"[0-9A-Fa-f-]{16,64}")
"""As proxies make them. No token of ours can look so, should one be sent as a request's identifier."""
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
_PROBES: Final = ("/livez", "/readyz")
"""Asked every few seconds: a line only when the answer is not 200."""


@dataclass
class _Seen:
    """What is known of a request or a socket so far."""

    tenant: int | None = None
    kind: str | None = None
    fields: dict[str, None] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    codes: dict[str, None] = field(default_factory=dict)


def note_tenant(scope: Scope, tenant: int) -> None:
    """Whose data it is about."""
    seen = scope.get(_SEEN)
    if seen is not None:
        seen.tenant = tenant


def note_refusal(scope: Scope, root_field: str, code: RefusalCode) -> None:
    """A root field has answered with a refusal."""
    seen = scope.get(_SEEN)
    if seen is not None:
        seen.refusals[root_field] = str(code)


class Counting(Watcher):
    """Counts operations, subscriptions and sockets, and remembers for the log what a request asked for."""

    def ended(self, scope: Scope, operation: Ended) -> None:
        """Each root field counts once: as what its first error or its refusal says, else as ok."""
        seen: _Seen = scope.get(_SEEN) or _Seen()
        kind = operation.kind.value if operation.kind is not None else "unknown"
        codes: dict[str, str] = {}
        for root_field, code in operation.codes:
            # An error above all fields is each one's.
            for name in (root_field,) if root_field is not None else operation.fields:
                codes.setdefault(name, code)
        codes |= seen.refusals
        seen.kind = kind
        seen.fields.update(dict.fromkeys(operation.fields))
        seen.codes.update(dict.fromkeys([*(code for _, code in operation.codes), *seen.refusals.values()]))
        seen.refusals = {}
        for name in operation.fields:
            code = codes.get(name, "")
            OPERATIONS.labels(kind, name, _outcome(code, operation.run), code).inc()
        if not operation.fields and operation.codes:
            code = operation.codes[0][1]
            OPERATIONS.labels(kind, "unknown", _outcome(code, operation.run), code).inc()
        if operation.run and operation.fields and kind != "subscription":
            label = operation.fields[0] if len(operation.fields) == 1 else "several"
            OPERATION_SECONDS.labels(label).observe(operation.seconds)

    def listening(self, fields: tuple[str, ...], more: int) -> None:
        """By root field; a subscription has one."""
        for name in fields:
            SUBSCRIPTIONS.labels(name).inc(more)

    def socket(self, more: int) -> None:
        """One more, one less."""
        SOCKETS.inc(more)


class Sight:
    """Around everything: the request's identifier, its line in the log, its count."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = scope[_SEEN] = _Seen()
        request_id, started, status = _request_id(scope), time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, sent)
            except Exception as error:
                log.error("request_failed", route=_route(scope), error=without_words(error))
                raise
            finally:
                route = _route(scope)
                RESPONSES.labels(route, f"{status // 100}xx").inc()
                if status != 200 or route not in _PROBES:
                    log.info(
                        "request",
                        method=scope["method"] if scope["method"] in _METHODS else "other",
                        route=route,
                        status=status,
                        milliseconds=_milliseconds_since(started),
                        **_facts(seen),
                    )

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = scope[_SEEN] = _Seen()
        started, code = time.perf_counter(), None

        async def received() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code", code)
            return message

        async def sent(message: Message) -> None:
            nonlocal code
            if message["type"] == "websocket.close":
                code = message.get("code", 1000)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=_request_id(scope)):
            try:
                await self._app(scope, received, sent)
            finally:
                log.info(
                    "socket",
                    route=_route(scope),
                    code=code,
                    milliseconds=_milliseconds_since(started),
                    **_facts(seen),
                )


def _request_id(scope: Scope) -> str:
    """The caller's, when it is one that may stand in a log; else a new one."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else str(uuid4())


def _route(scope: Scope) -> str:
    route = scope.get("route")
    return route.path if isinstance(route, Route | WebSocketRoute) else "unknown"


def _facts(seen: _Seen) -> dict[str, object]:
    known: dict[str, str | int | Iterable[str] | None] = {
        "tenant": seen.tenant,
        "operation": seen.kind,
        "fields": list(seen.fields),
        "codes": list(seen.codes),
    }
    return {name: value for name, value in known.items() if value}


def _milliseconds_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)


def _outcome(code: str, run: bool) -> str:
    if not code:
        return "ok"
    if code == "INTERNAL":
        return "failed"
    return "refused" if run and code in _REFUSALS else "rejected"


_REFUSALS: Final = frozenset(map(str, RefusalCode))
