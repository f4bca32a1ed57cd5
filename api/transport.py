"""GraphQL over HTTP, Server-Sent Events and WebSocket, within limits. It knows the protocols and nothing of the domain.

**HTTP** follows the GraphQL-over-HTTP specification. POST takes `application/json` in UTF-8; GET takes queries only.
Files come by POST as GraphQL multipart requests (`operations`, `map`, then the files), with one of PREFLIGHT_HEADERS,
for a form of another origin can send multipart too; the files are read once the operation may start.
Answers are `application/graphql-response+json` or `application/json`, whichever the client prefers; without an
`Accept`, or with `*/*`, `application/json`.

| what happened | graphql-response+json | json | extensions.code |
|---|---|---|---|
| it ran, even if fields failed or `data` is null | 200 | 200 | of the field's error |
| the document does not parse | 400 | 200 | GRAPHQL_PARSE_FAILED |
| it is not valid | 400 | 200 | GRAPHQL_VALIDATION_FAILED |
| it has not one operation of that name | 400 | 200 | OPERATION_RESOLUTION_FAILURE |
| variables do not fit | 400 | 200 | BAD_USER_INPUT |
| over a limit of tokens, depth, aliases, root fields, cost | 400 | 200 | LIMIT_EXCEEDED |
| unknown persisted query | 400 | 200 | PERSISTED_QUERY_NOT_FOUND |
| the operation's root fields are refused to this caller | 401, 403, … | 200 | UNAUTHENTICATED, FORBIDDEN, … |
| the caller is refused before the document counts | 401, 403, … | the same | UNAUTHENTICATED, … |
| not a well-formed request | 400, 403, 405, 406, 408, 413, 414, 415 | the same | BAD_REQUEST, CSRF, … |
| a fault of ours that left no data | 500 | 500 | INTERNAL |

The specification's own code 294 for partial success is not used: no registry knows it, and 200 is allowed.

**Server-Sent Events** (graphql-sse, distinct connections) for subscriptions, and for anything if the client puts
`text/event-stream` before JSON. **WebSocket** (graphql-transport-ws) carries subscriptions only.
"""

import asyncio
import hashlib
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeGuard, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

import orjson
import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    Undefined,
    VariableNode,
    Visitor,
    get_named_type,
    get_nullable_type,
    is_list_type,
    parse,
    validate,
    visit,
)
from graphql.execution import Executor, create_source_event_stream, map_source_to_response_event
from graphql.pyutils import is_awaitable
from graphql.validation import recommended_rules, specified_rules
from graphql.validation.rules import overlapping_fields_can_be_merged
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.exceptions import StrawberryInputCoercionError
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from api.multipart import FORM_DATA, Malformed, Parts, TooLarge
from domain.logs import without_words
from domain.texts import Fact, Locale, Text

JSON: Final = "application/json"
GRAPHQL_RESPONSE: Final = "application/graphql-response+json"
EVENT_STREAM: Final = "text/event-stream"
SUBPROTOCOL: Final = "graphql-transport-ws"

PREFLIGHT_HEADERS: Final = ("x-escarcelle-client", "apollo-require-preflight", "graphql-preflight")
"""A page of another origin cannot send these without asking first, so they tell our own clients from a forgery."""

log = structlog.get_logger(__name__)

# Comparing fields that share a name is quadratic: at graphql-core's own 500,000 one small document holds the process
# for half a second; a page full of honest fields stays far below this.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 100_000

_RULES: Final = (*specified_rules, *recommended_rules, MaybeNullValidationRule, OneOfInputValidationRule)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, one document, one socket and this process's caches may hold."""

    body_bytes: int = 262_144
    body_seconds: float = 10.0
    files: int = 5
    file_bytes: int = 10_485_760
    files_seconds: float = 120.0
    json_depth: int = 64
    tokens: int = 2_000
    depth: int = 15
    aliases: int = 30
    root_fields: int = 20
    cost: int = 20_000
    page: int = 50
    """Rows a list is taken to hold when neither `first` nor `last` says it."""
    page_max: int = 200
    """Rows a list is taken to hold at most, whatever `first` or `last` say."""
    plain_list: int = 10
    """Rows a list that takes neither `first` nor `last` is taken to hold."""
    documents_cached: int = 1_000
    document_tokens_cached: int = 150_000
    """Tokens of all cached documents; a token with its part of the tree weighs about 600 bytes."""
    socket_frame_bytes: int = 65_536
    connection_init_seconds: float = 10.0
    subscriptions_per_socket: int = 100
    keep_alive_seconds: float = 12.0
    """Between comments on a silent event stream."""


@dataclass(frozen=True, slots=True, eq=False)
class UploadedFile:
    """A file of a multipart request, as the value of a variable. `name` is what its sender calls it; `sha256` is the
    digest of its content."""

    name: str
    content: bytes = field(repr=False)
    sha256: bytes = field(repr=False)


class Rejected(Exception):
    """The caller is refused at top level: `code` for programs, `message` in the caller's language."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


class Context(Protocol):
    """What resolvers get as context. `ended` completes with a reason when the caller's rights to listen end."""

    @property
    def locale(self) -> Locale: ...

    @property
    def ended(self) -> "asyncio.Future[str] | None": ...


@dataclass(frozen=True, slots=True)
class Ended:
    """An operation that is over. `fields` are the names of its root fields, none when the document did not say them in
    a way that can be served; `codes` are those of the errors, each with the root field it stands under, when it stands
    under one. One that has not `run` was turned away before."""

    kind: OperationType | None
    fields: tuple[str, ...]
    codes: tuple[tuple[str | None, str], ...]
    run: bool
    seconds: float


class Watcher:
    """Is told what happens here. This one does not look."""

    def ended(self, scope: Scope, operation: Ended) -> None:
        """An operation is over; a subscription as well, when it ends."""

    def listening(self, fields: tuple[str, ...], more: int) -> None:
        """As many subscriptions to these root fields have begun (1) or ended (-1)."""

    def socket(self, more: int) -> None:
        """A WebSocket has opened (1) or closed (-1)."""


ContextT = TypeVar("ContextT", bound=Context)
ValueT = TypeVar("ValueT")


class Transport(Generic[ContextT]):
    """Serves one schema at one path.

    `make_context` is awaited once for a request, and once for a socket with the payload of its `connection_init`; it
    may raise Rejected. `authorize` gets the names of the root fields that the operation asks for, without
    introspection, before anything runs; it may raise Rejected, and then nothing runs.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        make_context: Callable[[HTTPConnection, Mapping[str, object] | None], Awaitable[ContextT]],
        *,
        authorize: Callable[[ContextT, OperationType, tuple[str, ...]], None],
        limits: Limits | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.watcher = watcher or Watcher()
        self._schema = schema
        self._make_context = make_context
        self._rule = authorize
        self._documents: _Recent[_Document] = _Recent(self.limits.documents_cached, self.limits.document_tokens_cached)
        self._persisted: _Recent[str] = _Recent(self.limits.documents_cached, self.limits.document_tokens_cached * 8)
        self._listeners: dict[asyncio.Task[Any], Callable[[], Awaitable[None]]] = {}
        self._stopping = False

    def routes(self, path: str = "/graphql") -> list[BaseRoute]:
        """HTTP and WebSocket at `path`."""
        return [Route(path, self, name="graphql"), WebSocketRoute(path, self, name="graphql-socket")]

    async def close_all(self, within_seconds: float = 5.0) -> None:
        """Send listeners away so that they come back to another process: sockets close with 1012, event streams
        break off. New ones are refused from now on. To be awaited before the server waits for its connections."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                listeners = dict(self._listeners)
                await asyncio.gather(*(send_away() for send_away in listeners.values()), return_exceptions=True)
                if listeners:
                    await asyncio.wait(listeners)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _Socket(self, WebSocket(scope, receive, send)).serve()
        else:
            answer = await self._answer(Request(scope, receive))
            await answer(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        accepted = _accepted(", ".join(request.headers.getlist("accept"))[:_HEADER_CHARACTERS])
        locale = asked_locale(request.headers.get("accept-language"))
        media_type, streams = accepted.media_type or JSON, accepted.stream_first
        started, operation = time.perf_counter(), None
        try:
            parameters = await self._parameters(request, accepted)
            document, operation = self._prepare(parameters)
            if operation.type is OperationType.SUBSCRIPTION:
                if not accepted.stream:
                    raise _unserved(
                        406,
                        "NOT_ACCEPTABLE",
                        "Un abonnement se lit en text/event-stream : acceptez ce type, ou passez par WebSocket.",
                        "A subscription is read as text/event-stream: accept that type, or use a WebSocket.",
                    )
                streams = True
            elif operation.type is OperationType.MUTATION and request.method == "GET":
                raise _unserved(
                    405,
                    "METHOD_NOT_ALLOWED",
                    "Une mutation s'envoie par POST.",
                    "Mutations are sent by POST.",
                    headers={"allow": "POST"},
                )
            context = await self._context(request, None)
            locale = context.locale
            self._authorize(context, operation)
            if parameters.body is not None:
                await parameters.body.put_files(parameters.variables)
            if streams:
                events = self._events(parameters, document, operation, context, request.scope, started)
                return _EventStream(self, events, operation.type, locale, context.ended)
            payload = await self._execute(parameters, document, operation, context)
            self._tell_end(request.scope, operation, payload.get("errors", ()), started)
            return _response(200, media_type, _encode(payload))
        except _Unserved as unserved:
            fault = unserved.fault
            self._tell_end(request.scope, operation, fault.errors(locale), started, run=False)
            if streams and fault.well_formed:
                # graphql-sse wants to read inside the stream why there is nothing.
                events = _once({"errors": fault.errors(locale)})
                return _EventStream(self, events, OperationType.QUERY, locale, None)
            status = 200 if fault.well_formed and media_type == JSON else fault.status
            return _response(status, media_type, _encode({"errors": fault.errors(locale)}), fault.headers)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            fault = _internal(error)
            self._tell_end(request.scope, operation, fault.errors(locale), started, run=False)
            return _response(fault.status, media_type, _encode({"errors": fault.errors(locale)}))

    async def _parameters(self, request: Request, accepted: "_Accepted") -> "_Parameters":
        if request.method not in ("GET", "POST"):
            raise _unserved(
                405,
                "METHOD_NOT_ALLOWED",
                "Seuls GET et POST sont servis ici.",
                "Only GET and POST are served here.",
                headers={"allow": "GET, POST"},
            )
        if accepted.media_type is None and not accepted.stream:
            raise _unserved(
                406,
                "NOT_ACCEPTABLE",
                "Les réponses sont en {types}.",
                "Answers come as {types}.",
                types=f"{GRAPHQL_RESPONSE}, {JSON}, {EVENT_STREAM}",
            )
        if "cookie" in request.headers and not any(name in request.headers for name in PREFLIGHT_HEADERS):
            raise _unserved(
                403,
                "CSRF",
                "Une requête avec cookie porte aussi l'en-tête X-Escarcelle-Client.",
                "A request with a cookie also carries the header X-Escarcelle-Client.",
            )
        if request.method == "GET":
            return _parameters_of(_read_query_string(request.scope["query_string"], self.limits))
        content_type, encoding = request.headers.get("content-type"), request.headers.get("content-encoding")
        if _is_multipart(content_type, encoding):
            if not any(name in request.headers for name in PREFLIGHT_HEADERS):
                raise _unserved(
                    403,
                    "CSRF",
                    "Une requête multipart porte aussi l'en-tête X-Escarcelle-Client.",
                    "A multipart request also carries the header X-Escarcelle-Client.",
                )
            return await _MultipartBody(request, content_type or "", self.limits).parameters()
        _require_json(content_type, encoding)
        return _parameters_of(_read_json(await self._body(request), "", self.limits))

    async def _body(self, request: Request) -> bytes:
        most = self.limits.body_bytes
        # Reading on for a while past the limit lets an honest client finish sending and see why it was refused.
        patience = 64 * most
        declared = request.headers.get("content-length", "")
        total = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0
        chunks: list[bytes] = []
        if total <= patience:
            total, more = 0, True
            try:
                async with asyncio.timeout(self.limits.body_seconds):
                    while more and total <= patience:
                        message = await request.receive()
                        if message["type"] == "http.disconnect":
                            raise ClientDisconnect
                        chunk, more = message.get("body", b""), message.get("more_body", False)
                        total += len(chunk)
                        if total <= most:
                            chunks.append(chunk)
            except TimeoutError:
                if total <= most:
                    raise _unserved(
                        408,
                        "REQUEST_TIMEOUT",
                        "Le corps de la requête tarde trop.",
                        "The body of the request is too slow.",
                        headers={"connection": "close"},
                    ) from None
        if total > most:
            raise _unserved(
                413,
                "PAYLOAD_TOO_LARGE",
                "Le corps dépasse {most} octets.",
                "The body exceeds {most} bytes.",
                headers={"connection": "close"},
                most=most,
            )
        return b"".join(chunks)

    def _prepare(self, parameters: "_Parameters") -> "tuple[_Document, _Operation]":
        """The document and the operation to run, parsed, valid and within limits. Raises _Unserved."""
        text, persisted = parameters.query, parameters.persisted_hash
        if text is None:
            assert persisted is not None
            text = self._persisted.get(persisted)
            if text is None:
                raise _unserved(
                    400,
                    "PERSISTED_QUERY_NOT_FOUND",
                    "PersistedQueryNotFound",
                    "PersistedQueryNotFound",
                    well_formed=True,
                )
        elif persisted is not None and hashlib.sha256(text.encode()).hexdigest() != persisted:
            raise _unserved(
                400,
                "BAD_REQUEST",
                "extensions.persistedQuery.sha256Hash n'est pas l'empreinte de query.",
                "extensions.persistedQuery.sha256Hash is not the hash of query.",
            )
        document = self._documents.get(text)
        if document is None:
            document = _read_document(self._schema, text, self.limits)
            self._documents.put(text, document, document.tokens)
        if document.fault is not None:
            raise _Unserved(document.fault)
        if persisted is not None and parameters.query is not None:
            self._persisted.put(persisted, text, len(text))
        operation = document.operation(parameters.operation_name)
        cost = operation.cost.total(parameters.variables, operation.defaults, self.limits)
        if cost > self.limits.cost:
            raise _Unserved(
                _over(
                    "Cette opération coûterait {cost} ; la limite est {most}.",
                    "This operation would cost {cost}; the limit is {most}.",
                    cost=str(cost) if cost < 10**12 else "> 10^12",
                    most=self.limits.cost,
                )
            )
        return document, operation

    async def _context(self, connection: HTTPConnection, payload: Mapping[str, object] | None) -> ContextT:
        """Who asks. Raises _Unserved: this does not depend on the document, so HTTP says it in the status."""
        try:
            return await self._make_context(connection, payload)
        except Rejected as rejected:
            raise _Unserved(_rejection(rejected, well_formed=False)) from None
        except Exception as error:
            raise _Unserved(_internal(error)) from error

    def _authorize(self, context: ContextT, operation: "_Operation") -> None:
        """Whether the operation may start. Raises _Unserved."""
        try:
            self._rule(context, operation.type, operation.root_fields)
        except Rejected as rejected:
            raise _Unserved(_rejection(rejected, well_formed=True)) from None
        except Exception as error:
            raise _Unserved(_internal(error)) from error

    async def _events(
        self,
        parameters: "_Parameters",
        document: "_Document",
        operation: "_Operation",
        context: ContextT,
        scope: Scope,
        started: float,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The results of an operation, one by one, each made when it is asked for. Raises _Unserved."""
        is_subscription = operation.type is OperationType.SUBSCRIPTION
        errors: list[dict[str, Any]] = []
        if is_subscription:
            self.watcher.listening(operation.root_fields, 1)
        try:
            async with aclosing(
                self._results(parameters, document, operation, context)
                if is_subscription
                else _executed_once(self._execute(parameters, document, operation, context))
            ) as results:
                async for payload in results:
                    # One that fails again and again says so once.
                    errors = errors or list(payload.get("errors", ()))
                    yield payload
        except _Unserved as unserved:
            errors = unserved.fault.errors(context.locale)
            raise
        finally:
            if is_subscription:
                self.watcher.listening(operation.root_fields, -1)
            self._tell_end(scope, operation, errors, started)

    async def _results(
        self, parameters: "_Parameters", document: "_Document", operation: "_Operation", context: ContextT
    ) -> AsyncGenerator[dict[str, Any], None]:
        executor = self._executor(parameters, document, operation, context)
        try:
            source = create_source_event_stream(executor)
            if executor.is_awaitable(source):
                source = await source
            if isinstance(source, ExecutionResult):
                raise _Unserved(_Fault(400, given=_field_errors(source.errors, context.locale), well_formed=True))
            async with aclosing(map_source_to_response_event(executor, cast(Any, source))) as results:
                async for result in results:
                    yield _payload(result, context.locale)
        except _Unserved:
            raise
        except Rejected as rejected:
            raise _Unserved(_rejection(rejected, well_formed=True)) from None
        except Exception as error:
            raise _Unserved(_internal(error, fields=operation.root_fields)) from error

    async def _execute(
        self, parameters: "_Parameters", document: "_Document", operation: "_Operation", context: ContextT
    ) -> dict[str, Any]:
        executor = self._executor(parameters, document, operation, context)
        try:
            result = executor.execute_operation()
            if executor.is_awaitable(result):
                result = await result
        except Exception as error:
            raise _Unserved(_internal(error, fields=operation.root_fields)) from error
        return _payload(cast(ExecutionResult, result), context.locale)

    def _executor(
        self, parameters: "_Parameters", document: "_Document", operation: "_Operation", context: ContextT
    ) -> Executor[Any]:
        try:
            executor = _Executor.build(
                self._schema,
                document.tree,
                None,
                context,
                parameters.variables,
                operation.name,
                max_coercion_errors=10,
                is_awaitable=_waits,
            )
        except Exception as error:
            raise _Unserved(_internal(error, fields=operation.root_fields)) from error
        if isinstance(executor, list):
            given = tuple(_shown(error, "BAD_USER_INPUT") for error in executor)
            raise _Unserved(_Fault(400, given=given, well_formed=True))
        return executor

    def _tell_end(
        self,
        scope: Scope,
        operation: "_Operation | None",
        errors: Iterable[Mapping[str, Any]],
        started: float,
        *,
        run: bool = True,
    ) -> None:
        keys = operation.root_keys if operation is not None else {}
        codes = []
        for error in errors:
            path = error.get("path") or ("",)
            codes.append((keys.get(path[0]), str((error.get("extensions") or {}).get("code", "UNKNOWN"))))
        self.watcher.ended(
            scope,
            Ended(
                operation.type if operation is not None else None,
                operation.root_fields if operation is not None else (),
                tuple(codes),
                run,
                time.perf_counter() - started,
            ),
        )

    def _listen(self, send_away: Callable[[], Awaitable[None]]) -> None:
        """Count the running task among the listeners until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._listeners[task] = send_away
        task.add_done_callback(self._listeners.pop)


# ── running an operation ─────────────────────────────────────────────────────────────────────────────────────────────

LEAF: Final = "escarcelle.leaf"
"""The extension under which a field of the schema keeps its Leaf."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """How a field without a selection of its own is read off its object at once: by `read`, which gets the resolver's
    `info` too if it `wants_info`, and made into what JSON holds by `coerce`."""

    read: Callable[..., Any]
    wants_info: bool
    coerce: Callable[[Any], Any]
    nullable: bool


class _Executor(Executor[Any]):
    """graphql-core's, with a short way for leaves: most fields of a list are leaves, and what is made ready for a field
    that might wait, fail or select more takes longer than reading them."""

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: Any,
        path: Any,
        position_context: Any,
    ) -> Any:
        """The value of a field."""
        node = field_details_list[0].node
        field = parent_type.fields.get(node.name.value)
        leaf = field.extensions.get(LEAF) if field is not None and not node.arguments else None
        if leaf is not None:
            try:
                if leaf.wants_info:
                    value = leaf.read(source, self.build_resolve_info(field, [node], parent_type, path))
                else:
                    value = leaf.read(source)
                if value is not None:
                    coerced = leaf.coerce(value)
                    if coerced is not None and coerced is not Undefined:
                        return coerced
                elif leaf.nullable:
                    return None
            except Exception:
                # What is wrong is found again below, and said there with its place.
                log.debug("a leaf is read the long way", field=node.name.value)
        return super().execute_field(parent_type, source, field_details_list, path, position_context)


def _waits(value: Any) -> TypeGuard[Awaitable[Any]]:
    return value.__class__ not in _READY and is_awaitable(value)


_READY: Final = frozenset({str, int, float, bool, dict, list, type(None)})


# ── what a request may not be ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why there is no data. `well_formed`: the request was proper GraphQL over HTTP, so `application/json` says 200."""

    status: int
    code: str = ""
    text: Text | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    given: tuple[dict[str, Any], ...] = ()
    well_formed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def errors(self, locale: Locale) -> list[dict[str, Any]]:
        if self.text is None:
            return list(self.given)
        extensions = {"code": self.code}
        if self.code == "INTERNAL":
            extensions["reference"] = str(self.facts["reference"])
        return [{"message": self.text.in_locale(locale, **self.facts), "extensions": extensions}]


class _Unserved(Exception):
    def __init__(self, fault: _Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault


def _unserved(
    status: int,
    code: str,
    fr: str,
    en: str,
    *,
    well_formed: bool = False,
    headers: Mapping[str, str] | None = None,
    **facts: Fact,
) -> _Unserved:
    return _Unserved(_Fault(status, code, Text(fr, en), facts, well_formed=well_formed, headers=headers or {}))


def _malformed(fr: str, en: str, **facts: Fact) -> _Unserved:
    return _Unserved(_Fault(400, "BAD_REQUEST", Text(fr, en), facts))


def _over(fr: str, en: str, **facts: Fact) -> _Fault:
    return _Fault(400, "LIMIT_EXCEEDED", Text(fr, en), facts, well_formed=True)


def _rejection(rejected: Rejected, *, well_formed: bool) -> _Fault:
    status = {"UNAUTHENTICATED": 401, "FORBIDDEN": 403, "RATE_LIMITED": 429}.get(rejected.code, 400)
    given = ({"message": rejected.message, "extensions": {"code": rejected.code}},)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return _Fault(status, rejected.code, given=given, well_formed=well_formed, headers=headers)


_OUR_FAULT: Final = Text(
    "Une erreur de notre côté a empêché cette opération ; citez la référence {reference}.",
    "A fault on our side prevented this operation; quote reference {reference}.",
)


def _internal(error: BaseException, **circumstances: object) -> _Fault:
    return _Fault(500, "INTERNAL", _OUR_FAULT, {"reference": _reported(error, **circumstances)})


def _reported(error: BaseException, **circumstances: object) -> str:
    """Log a fault of ours and return the reference a person can quote."""
    reference = secrets.token_hex(5)
    log.error("graphql_operation_failed", reference=reference, error=without_words(error), **circumstances)
    return reference


def _payload(result: ExecutionResult, locale: Locale) -> dict[str, Any]:
    if result.errors:
        return {"data": result.data, "errors": _field_errors(result.errors, locale)}
    return {"data": result.data}


def _field_errors(errors: list[GraphQLError] | None, locale: Locale) -> tuple[dict[str, Any], ...]:
    return tuple(_field_error(error, locale) for error in errors or ())


def _field_error(error: GraphQLError, locale: Locale) -> dict[str, Any]:
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, Rejected):
        return {**error.formatted, "message": cause.message, "extensions": {"code": cause.code}}
    if isinstance(cause, StrawberryInputCoercionError) or (
        isinstance(cause, GraphQLError) and _blames_the_document(cause)
    ):
        return _shown(error, "BAD_USER_INPUT")
    reference = _reported(cause)
    return {
        **error.formatted,
        "message": _OUR_FAULT.in_locale(locale, reference=reference),
        "extensions": {"code": "INTERNAL", "reference": reference},
    }


def _blames_the_document(error: GraphQLError) -> bool:
    """While fields run, an argument that cannot be read points at its value; what the executor says of our own
    results points at a field or at nothing."""
    return "code" in (error.extensions or {}) or any(not isinstance(node, FieldNode) for node in error.nodes or ())


def _shown(error: GraphQLError, code: str) -> dict[str, Any]:
    return {**error.formatted, "extensions": {"code": code, **(error.extensions or {})}}


def _encode(payload: Mapping[str, Any]) -> bytes:
    """As JSON. Raises _Unserved when a resolver returned what JSON cannot hold."""
    try:
        return orjson.dumps(payload)
    except orjson.JSONEncodeError as error:
        raise _Unserved(_internal(error)) from error


def _response(status: int, media_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        body,
        status,
        {
            "content-type": f"{media_type}; charset=utf-8",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **(headers or {}),
        },
    )


# ── what a client accepts ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Accepted:
    media_type: str | None
    """Of an answer in one piece; null when the client takes none of ours."""
    stream: bool
    stream_first: bool


_HEADER_CHARACTERS: Final = 1_000


@lru_cache(maxsize=256)
def _accepted(header: str) -> _Accepted:
    if not header.strip():
        return _Accepted(JSON, stream=False, stream_first=False)
    ranges = list(_qualities(header))
    whole = [(_preference(ranges, media_type), media_type) for media_type in (JSON, GRAPHQL_RESPONSE)]
    best, media_type = max(whole, key=lambda candidate: candidate[0])
    stream = _preference(ranges, EVENT_STREAM)
    return _Accepted(
        media_type if best[0] > 0 else None,
        stream=stream[0] > 0,
        # A wildcard is no wish for a stream, and neither is naming it behind JSON.
        stream_first=stream[0] > 0 and stream[1] == 2 and (stream[0], stream[2]) > (best[0], best[2]),
    )


def _preference(ranges: list[tuple[str, float]], media_type: str) -> tuple[float, int, int]:
    """Quality, how exactly it was named, and how early."""
    family = media_type.partition("/")[0] + "/*"
    named = {media_type: 2, family: 1, "*/*": 0}
    matches = [(named[name], -position, quality) for position, (name, quality) in enumerate(ranges) if name in named]
    exactness, position, quality = max(matches, default=(0, 0, 0.0))
    return (quality, exactness, position)


def _qualities(header: str) -> Iterator[tuple[str, float]]:
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        quality = values.get("q", "1")
        if re.fullmatch(r"[01](\.\d{0,3})?", quality) and values.get("charset", "utf-8").strip('"') in _UTF_8:
            yield name, min(float(quality), 1.0)


_UTF_8: Final = ("utf-8", "utf8", "*")


def asked_locale(accept_language: str | None) -> Locale:
    """The language a browser asks for, French if it asks for neither [G6]."""
    return _locale(accept_language[:_HEADER_CHARACTERS]) if accept_language else Locale.FR


@lru_cache(maxsize=256)
def _locale(header: str) -> Locale:
    ranges = enumerate(_qualities(header))
    wishes = [(quality, -position, name.partition("-")[0]) for position, (name, quality) in ranges]
    known = [wish for wish in wishes if wish[0] > 0 and wish[2] in tuple(Locale)]
    return Locale(max(known)[2]) if known else Locale.FR


# ── what a request says ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Parameters:
    query: str | None
    variables: dict[str, Any]
    operation_name: str | None
    persisted_hash: str | None
    body: "_MultipartBody | None" = None
    """What is still to be read of a multipart request: its files."""


def _is_multipart(content_type: str | None, content_encoding: str | None) -> bool:
    name = (content_type or "").lower().partition(";")[0].strip()
    return name == FORM_DATA and (content_encoding or "identity").strip().lower() == "identity"


def _require_json(content_type: str | None, content_encoding: str | None) -> None:
    name, _, parameters = (content_type or "").lower().partition(";")
    charset = re.search(r'charset\s*=\s*"?([^";\s]*)', parameters)
    if (
        name.strip() != JSON
        or (charset and charset[1] not in ("utf-8", "utf8"))
        or (content_encoding or "identity").strip().lower() != "identity"
    ):
        raise _unserved(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "Le corps s'envoie en application/json, en UTF-8 et sans compression ; avec des fichiers, en {form}.",
            "The body is sent as application/json, in UTF-8 and not compressed; with files, as {form}.",
            form=FORM_DATA,
        )


def _read_query_string(raw: bytes, limits: Limits) -> dict[str, object]:
    if len(raw) > limits.body_bytes:
        raise _unserved(414, "URI_TOO_LONG", "L'adresse est trop longue.", "The address is too long.")
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise _malformed("L'adresse ne se lit pas en UTF-8.", "The address cannot be read as UTF-8.") from None
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise _malformed("{name} est donné deux fois.", "{name} is given twice.", name=name[:200])
        if name in ("variables", "extensions"):
            fields[name] = _read_json(value.encode(), name, limits) if value else None
        elif "\0" in value:
            raise _hidden(name)
        else:
            fields[name] = value
    # A persisted query is asked for without `query`; an empty one in the address is the same as none.
    return {name: value for name, value in fields.items() if value != ""}


def _read_json(raw: bytes, name: str, limits: Limits) -> object:
    """Parse what a client sent. `name` is where it stands; empty for the body itself. Raises _Unserved."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _refuse_lone_surrogates(raw, name, limits)
        raise _malformed("Ce n'est pas du JSON : {reason}", "This is not JSON: {reason}", reason=str(error)) from None
    if raw.count(b"[") + raw.count(b"{") > limits.json_depth or b"\\u0000" in raw:
        _refuse_oddities(value, name, limits)
    return cast(object, value)


def _refuse_lone_surrogates(raw: bytes, name: str, limits: Limits) -> None:
    """orjson says that a surrogate is alone, not where."""
    if b"\\ud" in raw.lower():
        with suppress(ValueError, RecursionError):
            _refuse_oddities(json.loads(raw), name, limits)


def _refuse_oddities(value: object, name: str, limits: Limits) -> None:
    """Text that no database or screen can hold, and nesting that exhausts whoever walks it."""
    stack: list[tuple[object, tuple[str, ...]]] = [(value, (name,) if name else ())]
    while stack:
        value, path = stack.pop()
        if len(path) > limits.json_depth:
            raise _malformed(
                "{where} est imbriqué sur plus de {most} niveaux.",
                "{where} is nested more than {most} levels deep.",
                where=path[0],
                most=limits.json_depth,
            )
        if isinstance(value, str):
            if _ODD.search(value):
                raise _hidden(".".join(path) or "body")
        elif isinstance(value, list):
            stack.extend((item, (*path, str(index))) for index, item in enumerate(value))
        elif isinstance(value, dict):
            for key, item in value.items():
                if _ODD.search(key):
                    raise _hidden(".".join((*path, "*")))
                stack.append((item, (*path, key)))


_ODD: Final = re.compile("[\0\ud800-\udfff]")


def _hidden(where: str) -> _Unserved:
    return _malformed(
        "{where} contient un caractère NUL ou un demi-caractère Unicode.",
        "{where} contains a NUL character or a lone surrogate.",
        where=where[:200],
    )


def _parameters_of(fields: object) -> _Parameters:
    if not isinstance(fields, dict):
        raise _malformed(
            "La requête est un objet JSON ; les lots ne sont pas servis.",
            "A request is a JSON object; batches are not served.",
        )
    query, variables = fields.get("query"), fields.get("variables")
    operation_name, extensions = fields.get("operationName"), fields.get("extensions")
    if query is not None and not isinstance(query, str):
        raise _malformed("query est un texte.", "query is a string.")
    if variables is not None and not isinstance(variables, dict):
        raise _malformed("variables est un objet.", "variables is an object.")
    if operation_name is not None and not isinstance(operation_name, str):
        raise _malformed("operationName est un texte.", "operationName is a string.")
    if extensions is not None and not isinstance(extensions, dict):
        raise _malformed("extensions est un objet.", "extensions is an object.")
    persisted = _persisted_hash(extensions) if extensions else None
    if query is None and persisted is None:
        raise _malformed("Il manque query.", "query is missing.")
    return _Parameters(query, variables or {}, operation_name or None, persisted)


def _persisted_hash(extensions: Mapping[str, object]) -> str | None:
    persisted = extensions.get("persistedQuery")
    if persisted is None:
        return None
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) and persisted.get("version") == 1 else None
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise _malformed(
            "extensions.persistedQuery attend version 1 et sha256Hash.",
            "extensions.persistedQuery wants version 1 and sha256Hash.",
        )
    return digest.lower()


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _MultipartBody:
    """The body of a GraphQL multipart request (jaydenseric's specification), read in two steps: what is asked, and the
    files once it may be asked, so that nobody fills our memory before we know who it is."""

    def __init__(self, request: Request, content_type: str, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self._most = 3 * limits.body_bytes + limits.files * limits.file_bytes
        self._received = 0
        self._more = True
        self._piece, self._taken = b"", 0
        self._refused: _Unserved | None = None
        self._places: dict[str, list[tuple[str, ...]]] = {}
        try:
            self._parts = Parts(
                content_type,
                len(_FIRST_PARTS) + limits.files,
                lambda name: limits.body_bytes if name in _FIRST_PARTS else limits.file_bytes,
            )
        except Malformed:
            raise _malformed(
                "{form} veut un paramètre boundary de 1 à 70 caractères.",
                "{form} wants a parameter boundary of 1 to 70 characters.",
                form=FORM_DATA,
            ) from None

    async def parameters(self) -> _Parameters:
        """What is asked. Raises _Unserved."""
        parts = self._parts.parts
        await self._read_until(lambda: len(parts) >= 2 and parts[1].whole, self._limits.body_seconds)
        if [part.name for part in parts[:2]] != list(_FIRST_PARTS) or not parts[1].whole:
            raise _malformed(
                "Les parties d'une requête multipart sont operations, map, puis les fichiers.",
                "The parts of a multipart request are operations, map, then the files.",
            )
        asked = _parameters_of(_read_json(parts[0].content.getvalue(), "operations", self._limits))
        self._places = _places(_read_json(parts[1].content.getvalue(), "map", self._limits), self._limits)
        for place in (place for places in self._places.values() for place in places):
            if _at(asked.variables, place) is not None:
                raise _no_place(place)
        return replace(asked, body=self)

    async def put_files(self, variables: dict[str, Any]) -> None:
        """Read the files and put each where it belongs. Raises _Unserved."""
        await self._read_until(lambda: False, self._limits.files_seconds)
        if not self._parts.ended:
            raise _malformed("Le corps multipart s'arrête avant sa fin.", "The multipart body ends before its end.")
        files = self._parts.parts[2:]
        if sorted(part.name for part in files) != sorted(self._places):
            raise _malformed(
                "Chaque fichier que map nomme s'envoie une fois, et aucun autre.",
                "Each file that map names is sent once, and no other.",
            )
        for part in files:
            file = UploadedFile(part.file_name, part.content.getvalue(), part.digest.digest())
            for place in self._places[part.name]:
                _put(variables, place, file)

    async def _read_until(self, enough: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not enough() and (self._more or self._taken < len(self._piece)):
                    if self._taken == len(self._piece):
                        self._piece, self._taken = await self._receive(), 0
                    await self._take(self._piece[self._taken : self._taken + _SLICE_BYTES])
                    self._taken = min(self._taken + _SLICE_BYTES, len(self._piece))
        except TimeoutError:
            raise self._refused or _unserved(
                408,
                "REQUEST_TIMEOUT",
                "Le corps de la requête tarde trop.",
                "The body of the request is too slow.",
                headers={"connection": "close"},
            ) from None

    async def _receive(self) -> bytes:
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._received += len(piece)
        return piece

    async def _take(self, piece: bytes) -> None:
        try:
            if self._received > self._most:
                raise TooLarge("", self._most)
            self._parts.write(piece)
        except TooLarge as large:
            self._refused = _unserved(
                413,
                "PAYLOAD_TOO_LARGE",
                "{name} dépasse {most} octets.",
                "{name} exceeds {most} bytes.",
                headers={"connection": "close"},
                name=large.name[:200] or "body",
                most=large.most,
            )
            # Reading on for a while lets an honest client finish sending and see why it was refused.
            while self._more and self._received <= 2 * self._most:
                await self._receive()
            raise self._refused from None
        except Malformed as error:
            raise _malformed(
                "Le corps multipart est mal formé : {reason}.",
                "The multipart body is malformed: {reason}.",
                reason=str(error)[:200],
            ) from None


_FIRST_PARTS: Final = ("operations", "map")
_SLICE_BYTES: Final = 16_384
"""What is parsed at a time: so little of the files, at most, is read before the operation may start."""


def _places(given: object, limits: Limits) -> dict[str, list[tuple[str, ...]]]:
    """Where each file goes: for its part's name, the paths below `variables`. Raises _Unserved."""
    if not isinstance(given, dict) or not all(
        isinstance(paths, list) and paths and all(isinstance(path, str) for path in paths) for paths in given.values()
    ):
        raise _malformed(
            "map est un objet qui donne à chaque fichier une liste de chemins.",
            "map is an object that gives each file a list of paths.",
        )
    paths = [path for each in given.values() for path in each]
    if len(paths) > limits.files:
        raise _malformed("{most} fichiers au plus.", "At most {most} files.", most=limits.files)
    if len(set(paths)) < len(paths) or not given.keys().isdisjoint(_FIRST_PARTS):
        raise _malformed(
            "map donne à chaque fichier un nom et une place à lui.",
            "map gives each file a name and a place of its own.",
        )
    places = {name: [tuple(path.split(".")) for path in each] for name, each in given.items()}
    for place in (place for each in places.values() for place in each):
        if place[0] != "variables" or len(place) < 2 or len(place) > limits.json_depth:
            raise _no_place(place)
    return {name: [place[1:] for place in each] for name, each in places.items()}


def _at(variables: dict[str, Any], place: tuple[str, ...]) -> object:
    """What stands at a place. Raises _Unserved when there is no such place."""
    found: Any = variables
    for step in place:
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and _INDEX.fullmatch(step) and int(step) < len(found):
            found = found[int(step)]
        else:
            raise _no_place(place)
    return cast(object, found)


def _put(variables: dict[str, Any], place: tuple[str, ...], file: UploadedFile) -> None:
    found: Any = variables
    for step in place[:-1]:
        found = found[int(step) if isinstance(found, list) else step]
    found[int(place[-1]) if isinstance(found, list) else place[-1]] = file


_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,3}")


def _no_place(place: tuple[str, ...]) -> _Unserved:
    return _malformed(
        "map nomme {place}, où variables n'a pas de null à remplacer.",
        "map names {place}, where variables has no null to replace.",
        place=".".join(place)[:200],
    )


# ── what a document says ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Operation:
    type: OperationType
    name: str | None
    root_fields: tuple[str, ...]
    root_keys: Mapping[str, str]
    """Under which name each root field's answer stands, and the field's own."""
    cost: "_Cost"
    defaults: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Document:
    tree: DocumentNode
    tokens: int
    operations: Mapping[str | None, _Operation]
    fault: _Fault | None = None

    def operation(self, name: str | None) -> _Operation:
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        operation = self.operations.get(name) if name is not None else None
        if operation is None:
            raise _unserved(
                400,
                "OPERATION_RESOLUTION_FAILURE",
                "operationName ne désigne aucune opération du document.",
                "operationName names no operation of the document.",
                well_formed=True,
            )
        return operation


def _read_document(schema: GraphQLSchema, text: str, limits: Limits) -> _Document:
    try:
        tree = parse(text, max_lexical_tokens=limits.tokens, max_comments=limits.tokens)
    except GraphQLError as error:
        code = "LIMIT_EXCEEDED" if f"contains more than {limits.tokens} " in error.message else "GRAPHQL_PARSE_FAILED"
        return _unfit(text, _Fault(400, given=(_shown(error, code),), well_formed=True))
    if "\\u" in text:
        strings = _Strings()
        visit(tree, strings)
        if strings.odd:
            return _unfit(text, _hidden("query").fault)
    try:
        operations = _Measure(schema, tree, limits).operations()
    except _Unserved as unserved:
        return _unfit(text, unserved.fault)
    errors = validate(schema, tree, _RULES, max_errors=20)
    if errors:
        given = tuple(_shown(error, "GRAPHQL_VALIDATION_FAILED") for error in errors)
        return _unfit(text, _Fault(400, given=given, well_formed=True))
    return _Document(tree, _tokens(tree), {operation.name: operation for operation in operations})


def _unfit(text: str, fault: _Fault) -> _Document:
    # The text is all that such an entry keeps alive.
    return _Document(DocumentNode(definitions=()), len(text) // 600 + 20, {}, fault)


def _tokens(tree: DocumentNode) -> int:
    count, token = 0, tree.loc.start_token if tree.loc else None
    while token is not None:
        count, token = count + 1, token.next
    return count


class _Strings(Visitor):
    """Whether a literal holds, by its escapes, what plain text may not."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = False

    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        self.odd = self.odd or _ODD.search(node.value) is not None


@dataclass(frozen=True, slots=True, eq=False)
class _Cost:
    """A number of fields; `scaled` are those that a list multiplies, often by a variable that each request sets."""

    fixed: int
    scaled: tuple[tuple["int | _Variable", "_Cost"], ...] = ()

    def total(self, variables: Mapping[str, Any], defaults: Mapping[str, int], limits: Limits) -> int:
        if not self.scaled:
            return self.fixed
        known: dict[_Cost, int] = {}

        def total(cost: _Cost) -> int:
            # A fragment that is spread often is one shared object: reckoned once, however many paths lead to it.
            if cost not in known:
                known[cost] = cost.fixed + sum(rows(factor) * total(part) for factor, part in cost.scaled)
            return known[cost]

        def rows(factor: "int | _Variable") -> int:
            if isinstance(factor, int):
                return factor
            value = variables.get(factor.name, defaults.get(factor.name))
            return _rows(value, limits)

        return total(self)


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str


def _rows(value: object, limits: Limits) -> int:
    # 200.0 is an Int to GraphQL.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return limits.page
    return min(max(int(value), 1), limits.page_max)


@dataclass(frozen=True, slots=True)
class _Size:
    depth: int
    aliases: int
    cost: _Cost


_NOTHING: Final = _Size(0, 0, _Cost(0))

_NESTING: Final = 100
"""Selection sets, inline fragments and spreads inside one another, beyond which nobody writes by hand or generates."""


class _Measure:
    """How large a document's operations are. What a fragment holds is counted as often as it is spread, but each
    fragment is walked once, so that a few lines that expand to billions cost nothing to refuse. Runs before
    validation, hence takes unknown fields, unknown fragments and cycles in its stride."""

    def __init__(self, schema: GraphQLSchema, tree: DocumentNode, limits: Limits) -> None:
        self._schema = schema
        self._limits = limits
        self._definitions = [node for node in tree.definitions if isinstance(node, OperationDefinitionNode)]
        self._fragments = {
            node.name.value: node for node in tree.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._measured: dict[tuple[str, bool], _Size | None] = {}

    def operations(self) -> list[_Operation]:
        """Every operation of the document. Raises _Unserved over a limit."""
        limits, aliases, operations = self._limits, 0, []
        for node in self._definitions:
            roots = self._roots(node.selection_set)
            names = [root.name.value for root in roots]
            if len(names) > limits.root_fields or sum(name == "__schema" for name in names) > 1:
                raise _Unserved(
                    _over(
                        "Plus de {most} champs à la racine d'une opération, ou plus d'un __schema.",
                        "More than {most} fields at the root of an operation, or more than one __schema.",
                        most=limits.root_fields,
                    )
                )
            size = self._selections(node.selection_set, self._schema.get_root_type(node.operation), False, 1)
            aliases += size.aliases
            if size.depth > limits.depth:
                raise self._too_deep()
            operations.append(
                _Operation(
                    node.operation,
                    node.name.value if node.name else None,
                    tuple(dict.fromkeys(name for name in names if not name.startswith("__"))),
                    {(root.alias or root.name).value: root.name.value for root in roots},
                    size.cost,
                    {
                        variable.variable.name.value: _literal(variable.default_value)
                        for variable in node.variable_definitions or ()
                        if isinstance(variable.default_value, IntValueNode)
                    },
                )
            )
        if aliases > limits.aliases:
            raise _Unserved(_over("Plus de {most} alias.", "More than {most} aliases.", most=limits.aliases))
        return operations

    def _roots(self, selection_set: SelectionSetNode) -> list[FieldNode]:
        """The fields at the root, as often as they are selected. Conditions are not looked at: what may run counts as
        run."""
        roots: list[FieldNode] = []
        seen: set[str] = set()
        stack = [selection_set]
        while stack and len(roots) <= self._limits.root_fields:
            for selection in stack.pop().selections:
                if isinstance(selection, FieldNode):
                    roots.append(selection)
                elif isinstance(selection, InlineFragmentNode):
                    stack.append(selection.selection_set)
                elif isinstance(selection, FragmentSpreadNode) and selection.name.value not in seen:
                    # Fields spread twice merge into one.
                    seen.add(selection.name.value)
                    if fragment := self._fragments.get(selection.name.value):
                        stack.append(fragment.selection_set)
        return roots

    def _selections(
        self, selection_set: SelectionSetNode, parent: GraphQLNamedType | None, in_page: bool, nesting: int
    ) -> _Size:
        if nesting > _NESTING:
            raise self._too_deep()
        depth, aliases, fixed = 0, 0, 0
        scaled: list[tuple[int | _Variable, _Cost]] = []
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                size = self._field(selection, parent, in_page, nesting)
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else parent
                size = self._selections(selection.selection_set, inner, in_page, nesting + 1)
            else:
                assert isinstance(selection, FragmentSpreadNode)
                size = self._fragment(selection.name.value, in_page, nesting)
            depth = max(depth, size.depth)
            aliases += size.aliases
            if size.cost.scaled:
                scaled.append((1, size.cost))
            else:
                fixed += size.cost.fixed
        return _Size(depth, aliases, _Cost(fixed, tuple(scaled)))

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None, in_page: bool, nesting: int) -> _Size:
        name = node.name.value
        definition = parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None
        is_list = definition is not None and is_list_type(get_nullable_type(definition.type))
        is_sized = definition is not None and ("first" in definition.args or "last" in definition.args)
        inside = _NOTHING
        if node.selection_set:
            inner = get_named_type(definition.type) if definition else None
            inside = self._selections(node.selection_set, inner, is_sized and not is_list, nesting + 1)
        aliases = inside.aliases + (node.alias is not None)
        if name.startswith("__"):
            return _Size(inside.depth + 1, aliases, _NOTHING.cost)
        factor: int | _Variable = 1
        if is_sized:
            factor = self._asked_rows(node)
        elif is_list and not in_page:
            # The rows of a page are counted by the field that takes `first`.
            factor = self._limits.plain_list
        if isinstance(factor, int) and not inside.cost.scaled:
            cost = _Cost(1 + factor * inside.cost.fixed)
        else:
            cost = _Cost(1, ((factor, inside.cost),))
        return _Size(inside.depth + 1, aliases, cost)

    def _asked_rows(self, node: FieldNode) -> int | _Variable:
        asked = [argument.value for argument in node.arguments or () if argument.name.value in ("first", "last")]
        match asked:
            case [VariableNode() as variable]:
                return _Variable(variable.name.value)
            case [IntValueNode() as literal]:
                return _rows(_literal(literal), self._limits)
            case [_, _, *_]:
                return self._limits.page_max
            case _:
                return self._limits.page

    def _fragment(self, name: str, in_page: bool, nesting: int) -> _Size:
        key = (name, in_page)
        if key not in self._measured:
            fragment = self._fragments.get(name)
            # Null while it is being walked: a fragment met again inside itself adds nothing, validation refuses it.
            self._measured[key] = None
            if fragment is not None:
                parent = self._schema.get_type(fragment.type_condition.name.value)
                self._measured[key] = self._selections(fragment.selection_set, parent, in_page, nesting + 1)
        return self._measured[key] or _NOTHING

    def _too_deep(self) -> _Unserved:
        return _Unserved(
            _over("Plus de {most} niveaux de champs.", "More than {most} levels of fields.", most=self._limits.depth)
        )


def _literal(node: IntValueNode) -> int:
    # Thousands of digits would make `int` refuse; seven already exceed every page.
    return int(node.value[:7])


class _Recent(Generic[ValueT]):
    """The values used last, within a number of entries and a total weight."""

    def __init__(self, most: int, most_weight: int) -> None:
        self._most = most
        self._most_weight = most_weight
        self._weight = 0
        self._entries: OrderedDict[str, tuple[ValueT, int]] = OrderedDict()

    def get(self, key: str) -> ValueT | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, value: ValueT, weight: int) -> None:
        if key in self._entries:
            self._weight -= self._entries.pop(key)[1]
        self._entries[key] = (value, weight)
        self._weight += weight
        while len(self._entries) > self._most or self._weight > self._most_weight:
            _, (_, freed) = self._entries.popitem(last=False)
            self._weight -= freed


# ── Server-Sent Events ───────────────────────────────────────────────────────────────────────────────────────────────


async def _once(payload: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    yield payload


async def _executed_once(execution: Awaitable[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
    yield await execution


class _EventStream:
    """Answers one request with `next` events and `complete`."""

    def __init__(
        self,
        transport: Transport[Any],
        events: AsyncGenerator[dict[str, Any], None],
        operation_type: OperationType,
        locale: Locale,
        ended: "asyncio.Future[str] | None",
    ) -> None:
        self._transport = transport
        self._events = events
        self._operation_type = operation_type
        self._locale = locale
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def send_away() -> None:
            if not stopped.done():
                stopped.set_result(None)

        self._transport._listen(send_away)
        if self._transport._stopping:
            await send_away()
        head = _response(200, EVENT_STREAM, b"", {"x-accel-buffering": "no"}).raw_headers
        headers = [header for header in head if header[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnection(receive))
        ends: set[asyncio.Future[Any]] = {pump, gone, stopped}
        if self._ended is not None:
            ends.add(self._ended)
        pause = self._transport.limits.keep_alive_seconds
        try:
            while not (await asyncio.wait(ends, timeout=pause, return_when=asyncio.FIRST_COMPLETED))[0]:
                await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
            if self._operation_type is not OperationType.SUBSCRIPTION:
                # Whoever hung up on a mutation still has it done.
                await pump
        finally:
            pump.cancel()
            gone.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
        # Without `complete`, a client that a stopping server sends away comes back.
        last = b"" if stopped.done() and pump.cancelled() else b"event: complete\ndata:\n\n"
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if not pump.cancelled():
            pump.result()

    async def _pump(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            try:
                async for payload in events:
                    await send(_event(_encode(payload)))
            except _Unserved as unserved:
                await send(_event(_encode({"errors": unserved.fault.errors(self._locale)})))


def _event(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"event: next\ndata: " + data + b"\n\n", "more_body": True}


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# ── WebSocket ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Closing(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


class _Socket:
    """One WebSocket: reads frames in turn, runs each subscription in a task of its own."""

    def __init__(self, transport: Transport[Any], websocket: WebSocket) -> None:
        self._transport = transport
        self._limits = transport.limits
        self._websocket = websocket
        self._locale = asked_locale(websocket.headers.get("accept-language"))
        self._context: Context | None = None
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def serve(self) -> None:
        """From the handshake to the close, which is never abnormal, whatever the client sends."""
        await self._websocket.receive()
        if not _same_origin(self._websocket):
            # Before the handshake, so that the page that tried does not even get a socket.
            await self._websocket.close()
            return
        spoken = SUBPROTOCOL in self._websocket.scope["subprotocols"]
        try:
            await self._websocket.accept(SUBPROTOCOL if spoken else None)
            if not spoken:
                await self._close(4406, "Subprotocol not acceptable")
                return
            self._transport._listen(self._send_away)
            if self._transport._stopping:
                await self._send_away()
                return
            self._transport.watcher.socket(1)
            try:
                await self._converse()
            finally:
                self._transport.watcher.socket(-1)
        except _Closing as closing:
            await self._close(closing.code, closing.reason)
        except (WebSocketDisconnect, OSError):
            pass
        except Exception as error:
            _reported(error)
            await self._close(4500, "Internal server error")
        finally:
            await self._leave()

    async def _converse(self) -> None:
        try:
            async with asyncio.timeout(self._limits.connection_init_seconds):
                message = await self._read()
                while message["type"] != "connection_init":
                    await self._before_init(message)
                    message = await self._read()
        except TimeoutError:
            raise _Closing(4408, "Connection initialisation timeout") from None
        payload = message.get("payload")
        if payload is not None and not isinstance(payload, dict):
            raise _Closing(4400, "connection_init takes an object as payload")
        try:
            self._context = await self._transport._context(self._websocket, payload)
        except _Unserved as unserved:
            code = 4500 if unserved.fault.status >= 500 else 4403
            raise _Closing(code, unserved.fault.errors(self._locale)[0]["message"]) from None
        self._locale = self._context.locale
        if self._context.ended is not None:
            self._context.ended.add_done_callback(self._end)
        await self._send({"type": "connection_ack"})
        while True:
            await self._after_init(await self._read())

    async def _before_init(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ping":
                await self._send(_pong(message))
            case "subscribe":
                raise _Closing(4401, "Unauthorized")
            case "pong" | "complete":
                pass
            case _:
                raise _Closing(4400, "Unknown message type")

    async def _after_init(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":
                await self._subscribe(_id(message), message.get("payload"))
            case "complete":
                if task := self._subscriptions.pop(_id(message), None):
                    task.cancel()
            case "connection_init":
                raise _Closing(4429, "Too many initialisation requests")
            case _:
                await self._before_init(message)

    async def _subscribe(self, id_: str, payload: object) -> None:
        if id_ in self._subscriptions:
            raise _Closing(4409, f"Subscriber for {id_} already exists")
        try:
            parameters = _parameters_of(payload)
        except _Unserved as unserved:
            raise _Closing(4400, unserved.fault.errors(self._locale)[0]["message"]) from None
        try:
            _refuse_oddities(payload, "", self._limits)
            # Those that were completed and still tidy up count as well.
            if len(self._tasks) >= self._limits.subscriptions_per_socket:
                raise _Unserved(
                    _over(
                        "Plus de {most} abonnements sur une connexion.",
                        "More than {most} subscriptions on one socket.",
                        most=self._limits.subscriptions_per_socket,
                    )
                )
        except _Unserved as unserved:
            await self._send_errors(id_, unserved.fault)
            return
        self._subscriptions[id_] = self._start(self._run(id_, parameters))

    async def _run(self, id_: str, parameters: _Parameters) -> None:
        assert self._context is not None
        transport, scope, started, operation = self._transport, self._websocket.scope, time.perf_counter(), None
        has_begun = False
        try:
            document, operation = transport._prepare(parameters)
            if operation.type is not OperationType.SUBSCRIPTION:
                raise _unserved(
                    405,
                    "METHOD_NOT_ALLOWED",
                    "Un WebSocket ne porte que des abonnements ; envoyez le reste par HTTP.",
                    "Sockets carry subscriptions only; send the rest over HTTP.",
                )
            transport._authorize(self._context, operation)
            has_begun = True
            async with aclosing(
                transport._events(parameters, document, operation, self._context, scope, started)
            ) as events:
                async for payload in events:
                    await self._send({"id": id_, "type": "next", "payload": payload})
            await self._send({"id": id_, "type": "complete"})
        except _Unserved as unserved:
            if not has_begun:
                transport._tell_end(scope, operation, unserved.fault.errors(self._locale), started, run=False)
            await self._send_errors(id_, unserved.fault)
        except WebSocketDisconnect:
            pass
        except Exception as error:
            await self._send_errors(id_, _internal(error))
        finally:
            if self._subscriptions.get(id_) is asyncio.current_task():
                del self._subscriptions[id_]

    async def _read(self) -> dict[str, Any]:
        frame = await self._websocket.receive()
        while frame["type"] != "websocket.disconnect" and self._closed:
            frame = await self._websocket.receive()
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(frame.get("code") or 1005)
        text = frame.get("text")
        if text is None:
            raise _Closing(4400, "Frames are text")
        data = text.encode()
        if len(data) > self._limits.socket_frame_bytes:
            raise _Closing(1009, f"Frames hold {self._limits.socket_frame_bytes} bytes at most")
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise _Closing(4400, "Frames are JSON") from None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise _Closing(4400, "A message is an object with a type")
        return message

    async def _send(self, message: dict[str, Any]) -> None:
        text = _encode(message).decode()
        if self._closed:
            raise WebSocketDisconnect
        try:
            await self._websocket.send_text(text)
        except RuntimeError:
            # The server closed by itself, on bytes that are no frames or no text.
            raise WebSocketDisconnect from None

    async def _send_errors(self, id_: str, fault: _Fault) -> None:
        with suppress(WebSocketDisconnect):
            await self._send({"id": id_, "type": "error", "payload": fault.errors(self._locale)})

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _end(self, ended: "asyncio.Future[str]") -> None:
        if not ended.cancelled() and ended.exception() is None:
            self._start(self._close(4403, ended.result()))

    async def _send_away(self) -> None:
        await self._close(1012, "Service restart")

    async def _close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            with suppress(WebSocketDisconnect, RuntimeError):
                # A close frame holds 123 bytes of reason; more would break the connection instead.
                await self._websocket.close(code, reason.encode()[:123].decode(errors="ignore"))

    async def _leave(self) -> None:
        if self._context is not None and self._context.ended is not None:
            self._context.ended.remove_done_callback(self._end)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _same_origin(connection: HTTPConnection) -> bool:
    """Browsers send cookies with sockets that any page opens, and only `Origin` tells whose page it is."""
    if "cookie" not in connection.headers:
        return True
    try:
        origin = urlsplit(connection.headers.get("origin", "")).netloc.lower()
    except ValueError:
        return False
    return origin != "" and origin == connection.headers.get("host", "").lower()


def _id(message: dict[str, Any]) -> str:
    id_ = message.get("id")
    if not isinstance(id_, str) or not 0 < len(id_) <= 200:
        raise _Closing(4400, "An id is a string of 1 to 200 characters")
    return id_


def _pong(message: dict[str, Any]) -> dict[str, Any]:
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise _Closing(4400, "A ping takes an object as payload")
    return {"type": "pong"} if payload is None else {"type": "pong", "payload": payload}
