"""A small client of the API, over HTTP and WebSocket, as a till or a telephone would have one."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import uuid4

import httpx
import websockets
from websockets.typing import Subprotocol


class Unexpected(Exception):
    """The server answered what it should not; the message says what."""


class Client:
    """One device. `language` is what it asks for, as a browser does."""

    def __init__(self, url: str, *, language: str = "fr", http: httpx.AsyncClient | None = None) -> None:
        self._url = url.rstrip("/")
        self._language = language
        # Reading the certificates of the world takes longer than a whole conversation on this machine.
        self._http = http or httpx.AsyncClient(timeout=20, verify=url.startswith("https"))
        self.token: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """Run an operation; returns its data. Raises Unexpected when the answer has errors."""
        body = await self.answer(document, variables)
        if "errors" in body:
            raise Unexpected(json.dumps(body["errors"], ensure_ascii=False))
        data: dict[str, Any] = body["data"]
        return data

    async def answer(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run an operation; returns the whole answer, errors included."""
        response = await self.post({"query": document, "variables": variables or {}})
        body: dict[str, Any] = response.json()
        return body

    async def post(self, body: Any) -> httpx.Response:
        """Post a body as JSON; where its `input` holds files, as bytes, as a form."""
        given = (body.get("variables") or {}).get("input") if isinstance(body, dict) else None
        given = given if isinstance(given, dict) else {}
        files = {name: file for name, file in given.items() if isinstance(file, bytes)}
        if not files:
            return await self._http.post(f"{self._url}/graphql", json=body, headers=self._headers())
        operations = body | {"variables": {**body["variables"], "input": {**given, **dict.fromkeys(files)}}}
        places = {name: [f"variables.input.{name}"] for name in files}
        return await self._http.post(
            f"{self._url}/graphql",
            data={"operations": json.dumps(operations), "map": json.dumps(places)},
            files={name: (name, file) for name, file in files.items()},
            headers=self._headers() | {"x-escarcelle-client": "escarcelle"},
        )

    async def do(self, mutation: str, fields: str, /, **given: Any) -> dict[str, Any]:
        """Run one mutation with `input`, and a new `idempotencyKey` where it wants one; returns the changed object or
        the refusal, each with its __typename."""
        key = given.pop("idempotencyKey", None) or str(uuid4())
        keyed = mutation in _KEYED
        kind = _INPUTS.get(mutation, f"{mutation[0].upper()}{mutation[1:]}Input")
        declares = f"$input: {kind}!{', $key: ID!' if keyed else ''}"
        passes = f"input: $input{', idempotencyKey: $key' if keyed else ''}"
        document = (
            f"mutation ({declares}) {{ {mutation}({passes}) {{ __typename {fields}"
            " ... on Refusal { code message retryAfterSeconds problems { path message } } } }"
        )
        data = await self.ask(document, input=given, **({"key": key} if keyed else {}))
        result: dict[str, Any] = data[mutation]
        return result

    async def sign_in(self, issuer: str, login: str, password: str) -> dict[str, Any]:
        """Open a session and keep its token; returns the session or the refusal."""
        fields = "... on Session { token expiresAt viewer { user { id name role } } }"
        result = await self.do("signIn", fields, issuer=issuer, login=login, password=password)
        self.token = result.get("token", self.token)
        return result

    @asynccontextmanager
    async def subscribe(self, document: str, **variables: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Subscribe over a WebSocket of its own; gives the data of each event, and ends with the subscription."""
        address = self._url.replace("http", "ws", 1) + "/graphql"
        async with websockets.connect(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
            payload = {"token": self.token} if self.token else {}
            await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
            acknowledged = json.loads(await socket.recv())
            if acknowledged["type"] != "connection_ack":
                raise Unexpected(str(acknowledged))
            subscribe = {"query": document, "variables": variables}
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": subscribe}))
            yield _events(socket)

    async def get(self, path: str) -> httpx.Response:
        """A plain HTTP route, redirections followed."""
        return await self._http.get(f"{self._url}{path}", headers=self._headers(), follow_redirects=True)

    def _headers(self) -> dict[str, str]:
        headers = {"accept": "application/graphql-response+json", "accept-language": self._language}
        return headers | ({"authorization": f"Bearer {self.token}"} if self.token else {})


async def _events(socket: websockets.ClientConnection) -> AsyncIterator[dict[str, Any]]:
    async for frame in socket:
        message = json.loads(frame)
        match message["type"]:
            case "next":
                if "errors" in message["payload"]:
                    raise Unexpected(json.dumps(message["payload"]["errors"], ensure_ascii=False))
                yield message["payload"]["data"]
            case "error":
                raise Unexpected(json.dumps(message["payload"], ensure_ascii=False))
            case "complete":
                return


_INPUTS = {
    "subscribeToPush": "PushSubscriptionInput",
    "signOutDevice": "DeviceIdInput",
    "deactivateUser": "UserIdInput",
    **dict.fromkeys(("removeNews", "removeDocument"), "PublicationIdInput"),
    **dict.fromkeys(("revealVoucherCode", "deliverVoucher", "cancelVoucher", "unblockVoucher"), "VoucherIdInput"),
}
_KEYED = frozenset(
    {
        "contactSupport",
        "createMerchant",
        "createUser",
        "createHolder",
        "createPaymentRequest",
        "payPaymentRequest",
        "validatePaymentRequest",
        "cancelPaymentRequest",
        "creditHolder",
        "requestVoucher",
        "recordSupplierInvoice",
        "decideExcess",
        "importHolders",
        "runReimbursements",
        "settleReimbursement",
    }
)
