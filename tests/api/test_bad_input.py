"""What the API answers to wrong input and to people without a right to ask, over HTTP. None of it changes anything."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import pytest
import websockets
from websockets.typing import Subprotocol

from api.app import create_app
from domain.access import Role
from domain.codes import digest, global_id, new_id, new_token, read_global_id
from domain.db import Database
from escarcelle.clients import Client
from escarcelle.database import newest_revision
from tests.flows.cast import Cast, assembled, token_of
from tests.world import PASSWORD, Running, Servers, World

pytestmark = pytest.mark.anyio

_REFUSAL = "... on Refusal { code message retryAfterSeconds problems { path } }"


def _document(mutation: str, fields: str) -> str:
    kind = f"{mutation[0].upper()}{mutation[1:]}Input"
    return (
        f"mutation ($input: {kind}!, $key: ID!) {{ {mutation}(input: $input, idempotencyKey: $key)"
        f" {{ __typename {fields} {_REFUSAL} }} }}"
    )


DOCUMENTS = {
    "createPaymentRequest": _document("createPaymentRequest", "... on PaymentRequest { id }"),
    "payPaymentRequest": _document("payPaymentRequest", "... on PaymentOffer { status }"),
    "cancelPaymentRequest": _document("cancelPaymentRequest", "... on PaymentRequest { status }"),
    "creditHolder": _document("creditHolder", "... on Holder { id }"),
}
SIGN_IN = (
    "mutation ($input: SignInInput!) { signIn(input: $input) { __typename ... on Session { token expiresAt"
    f" viewer {{ user {{ login }} }} }} {_REFUSAL} }} }}"
)
NODE = "query ($id: ID!) { node(id: $id) { id } }"
VIEWER = "{ viewer { user { login } } }"
LIVE = "subscription ($id: ID!) { paymentRequest(id: $id) { status } }"


@pytest.fixture
async def cast(world: World, running: Running) -> AsyncIterator[Cast]:
    """The cast of the payment request tests."""
    async with assembled(world, running) as everyone:
        yield everyone


async def post(url: str, body: Any, token: str | None = None, **headers: str) -> httpx.Response:
    """One request on a connection of its own. A body in bytes is sent as it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json", "accept": "application/graphql-response+json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    given |= {"authorization": f"Bearer {token}"} if token is not None else {}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    async with httpx.AsyncClient(verify=False, timeout=20) as http:
        return await http.post(f"{url}/graphql", content=content, headers=raw)


async def do(client: Client, cast: Cast, mutation: str, key: str = "clé", **given: Any) -> httpx.Response:
    """A mutation as it travels."""
    variables = {"input": given, "key": key}
    return await post(cast.running.url, {"query": DOCUMENTS[mutation], "variables": variables}, client.token)


def code_of(response: httpx.Response) -> str:
    """The code of the only error."""
    (error,) = response.json()["errors"]
    return str(error["extensions"]["code"])


def answer_of(response: httpx.Response) -> dict[str, Any]:
    """What the only root field says."""
    assert response.status_code == 200, response.text
    assert "errors" not in response.json(), response.text
    (answer,) = response.json()["data"].values()
    assert isinstance(answer, dict)
    return answer


@asynccontextmanager
async def untouched(world: World) -> AsyncIterator[None]:
    """Nothing changes inside, and no session begins or ends, which `World.unchanged` does not look at. (Wrong passwords
    are counted.)"""
    before = await _sessions(world)
    async with world.unchanged():
        yield
    assert await _sessions(world) == before


async def _sessions(world: World) -> list[Any]:
    return await world.as_owner(
        "SELECT id, status, expires_at, ended_at FROM sessions WHERE tenant = $1 ORDER BY id", world.tenant
    )


# ── amounts and texts ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _with_amount(cast: Cast, mutation: str, amount: Any) -> httpx.Response:
    if mutation == "createPaymentRequest":
        place = cast.world.places["P001"].global_id
        return await do(cast.till, cast, mutation, pointOfSaleId=place, amount=amount, basketNumber="essai")
    if mutation == "payPaymentRequest":
        rows = await cast.world.as_owner("SELECT token FROM payment_requests WHERE tenant = $1", cast.world.tenant)
        return await do(cast.ines, cast, mutation, token=rows[0]["token"], amount=amount)
    holder = cast.world.holders["ines"].global_id
    return await do(cast.agent, cast, mutation, holderId=holder, amount=amount, reason="aide")


MUTATIONS = ("createPaymentRequest", "payPaymentRequest", "creditHolder")


NOT_POSITIVE: tuple[Any, ...] = ("-5", "−5", "-5,00 €", -5, "0", 0)
NO_AMOUNTS: tuple[Any, ...] = ("abc", "", " ", "€", "٢٠", "20,00,00", "1,234", "20.001", "1e3", "NaN", "9" * 40)
TOO_LOW: tuple[Any, ...] = ("19.99", "19,99", 19.99)


async def test_P14_amounts_that_are_none_or_too_low(cast: Cast) -> None:
    await cast.ask()
    low = {"createPaymentRequest": "AMOUNT_TOO_LOW", "payPaymentRequest": "INVALID", "creditHolder": "AMOUNT_TOO_LOW"}
    wrong = [(mutation, amount, low[mutation]) for mutation in MUTATIONS for amount in NOT_POSITIVE]
    wrong += [(mutation, amount, "INVALID") for mutation in MUTATIONS for amount in NO_AMOUNTS]
    wrong += [("createPaymentRequest", amount, "AMOUNT_TOO_LOW") for amount in TOO_LOW]
    async with untouched(cast.world):
        for mutation, amount, code in wrong:
            refused = answer_of(await _with_amount(cast, mutation, amount))
            said = (refused["code"], refused["problems"])
            assert said == (code, [{"path": ["input", "amount"]}]), (mutation, amount)


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("amount", [True, [], ["20"], {"amount": "20"}, "2" * 65, "2" * 200_000])
async def test_amounts_that_are_no_decimal_at_all(cast: Cast, mutation: str, amount: Any) -> None:
    await cast.ask()
    async with untouched(cast.world):
        response = await _with_amount(cast, mutation, amount)
    assert (response.status_code, code_of(response)) == (400, "BAD_USER_INPUT")


async def test_an_amount_of_ten_megabytes_is_not_even_read(cast: Cast) -> None:
    await cast.ask()
    async with untouched(cast.world):
        for mutation in MUTATIONS:
            response = await _with_amount(cast, mutation, "2" * 10_000_000)
            assert (response.status_code, code_of(response)) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("odd", [r"\u0000", r"\ud800", r"\uDC00", r"\udc00\ud800"])
async def test_NUL_and_lone_surrogates_are_refused_where_they_stand(cast: Cast, odd: str) -> None:
    place, url = cast.world.places["P001"].global_id, cast.running.url
    create = json.dumps(DOCUMENTS["createPaymentRequest"])
    whole = (
        f'{{"query": {create}, "variables": {{"key": "k", "input": {{"pointOfSaleId": "{place}", "amount": "40",'
        ' "basketNumber": "1", "label": "?"}}}'
    )
    async with untouched(cast.world):
        for field, plain in (("basketNumber", '"1"'), ("label", '"?"'), ("amount", '"40"'), ("key", '"k"')):
            where = "variables.key" if field == "key" else f"variables.input.{field}"
            body = whole.replace(f'"{field}": {plain}', f'"{field}": "a{odd}"')
            assert odd in body
            response = await post(url, body.encode(), cast.till.token, accept_language="en")
            assert (response.status_code, code_of(response)) == (400, "BAD_REQUEST")
            message = response.json()["errors"][0]["message"]
            assert message == f"{where} contains a NUL character or a lone surrogate."
        literal = f'mutation {{ signIn(input: {{issuer: "demo", login: "{odd}", password: "x"}}) {{ __typename }} }}'
        response = await post(url, {"query": literal}, accept_language="en")
        assert response.status_code == 400


# ── who asks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _is_dead(cast: Cast, token: str) -> None:
    """Whoever believes to be signed in is told otherwise, whatever is asked."""
    place = cast.world.places["P001"].global_id
    given = {"pointOfSaleId": place, "amount": "40,00", "basketNumber": "essai"}
    create = {"query": DOCUMENTS["createPaymentRequest"], "variables": {"input": given, "key": "k"}}
    for body in (create, {"query": VIEWER}, {"query": NODE, "variables": {"id": place}}):
        for accept in ("application/json", "application/graphql-response+json"):
            response = await post(cast.running.url, body, token, accept=accept)
            assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED")
            assert response.headers["www-authenticate"] == "Bearer"
            assert "data" not in response.json()


async def test_without_a_session_only_what_is_open_to_anyone(cast: Cast) -> None:
    request = await cast.ask()
    place = cast.world.places["P001"].global_id
    documents: list[dict[str, Any]] = [
        {"query": NODE, "variables": {"id": request["id"]}},
        {"query": "{ paymentRequests { totalCount } }"},
        {"query": "{ holders { nodes { id } } }"},
        {"query": "{ pointsOfSale { nodes { id } } }"},
        {"query": "query ($id: ID!) { suggestedBasketNumber(pointOfSaleId: $id) }", "variables": {"id": place}},
        {
            "query": DOCUMENTS["createPaymentRequest"],
            "variables": {"input": {"pointOfSaleId": place, "amount": "40", "basketNumber": "1"}, "key": "k"},
        },
        {
            "query": DOCUMENTS["payPaymentRequest"],
            "variables": {"input": {"token": token_of(request)}, "key": "k"},
        },
        {"query": DOCUMENTS["cancelPaymentRequest"], "variables": {"input": {"id": request["id"]}, "key": "k"}},
    ]
    async with untouched(cast.world):
        for body in documents:
            response = await post(cast.running.url, body)
            assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED"), body["query"]
    anyone = await post(cast.running.url, {"query": VIEWER})
    assert (anyone.status_code, anyone.json()) == (200, {"data": {"viewer": None}})


async def test_tokens_that_open_nothing(cast: Cast, database: Database) -> None:
    stranger = await World.make(cast.world.servers, database)
    token = str(cast.till.token)
    borrowed = new_token(stranger.tenant)[:6] + token[6:]
    async with untouched(cast.world):
        for wrong in ("x", "é" * 20, token[:-1], token + "A", token.swapcase(), new_token(cast.world.tenant), borrowed):
            await _is_dead(cast, wrong)


async def test_an_ended_session_is_dead(cast: Cast) -> None:
    token = await cast.world.session("p001")
    assert (await post(cast.running.url, {"query": VIEWER}, token)).json()["data"]["viewer"] is not None
    response = await post(cast.running.url, {"query": "mutation { signOut }"}, token)
    assert response.json() == {"data": {"signOut": True}}
    async with untouched(cast.world):
        await _is_dead(cast, token)
        await _is_dead(cast, token)
    assert answer_of(await post(cast.running.url, {"query": VIEWER}, cast.till.token))["user"] == {"login": "p001"}, (
        "the other device stays signed in"
    )


async def test_an_expired_session_is_dead(cast: Cast) -> None:
    token = await cast.world.session("p001")
    await cast.world.as_owner(
        "UPDATE sessions SET expires_at = clock_timestamp() WHERE token_digest = $1", digest(token)
    )
    async with untouched(cast.world):
        await _is_dead(cast, token)


async def test_a_session_of_another_issuer_sees_and_does_nothing_here(cast: Cast, database: Database) -> None:
    request = await cast.ask()
    other = await World.make(cast.world.servers, database)
    await other.merchant("708900", "Canoë Kayak Club Orléans", {"P001": "Saint-Jean-le-Blanc"})
    await other.holder("ines", "Durand", "100,00")
    await other.user("agent", Role.ISSUER_AGENT)
    await other.user("708900", Role.MERCHANT_MANAGER, merchant="708900")
    await other.user("ines", Role.HOLDER, holder="ines")
    sessions = {login: await other.session(login) for login in other.users}
    url, place = cast.running.url, cast.world.places["P001"].global_id
    async with untouched(cast.world), untouched(other):
        for token in sessions.values():
            for thing in (request["id"], place, cast.world.holders["ines"].global_id):
                body: dict[str, Any] = {"query": NODE, "variables": {"id": thing}}
                assert (await post(url, body, token)).json() == {"data": {"node": None}}
            offer = "query ($token: String!) { paymentOffer(token: $token) { status } }"
            body = {"query": offer, "variables": {"token": token_of(request)}}
            assert (await post(url, body, token)).json() == {"data": {"paymentOffer": None}}
        attempts: list[tuple[str, str, dict[str, Any]]] = [
            ("708900", "cancelPaymentRequest", {"id": request["id"]}),
            ("708900", "createPaymentRequest", {"pointOfSaleId": place, "amount": "40", "basketNumber": "1"}),
            ("ines", "payPaymentRequest", {"token": token_of(request)}),
            ("agent", "creditHolder", {"holderId": cast.world.holders["ines"].global_id, "amount": "1", "reason": "x"}),
        ]
        for login, mutation, given in attempts:
            body = {"query": DOCUMENTS[mutation], "variables": {"input": given, "key": "k"}}
            assert answer_of(await post(url, body, sessions[login]))["code"] == "NOT_FOUND", mutation


async def test_P3_someone_else_s_request(cast: Cast) -> None:
    request = await cast.ask()
    async with untouched(cast.world):
        for client in (cast.stranger, cast.other_till):
            refused = answer_of(await do(client, cast, "cancelPaymentRequest", id=request["id"]))
            absent = answer_of(
                await do(client, cast, "cancelPaymentRequest", id=global_id("preq", cast.world.tenant, new_id()))
            )
            assert refused["code"] == "NOT_FOUND"
            assert refused == absent, "what is not yours is answered as what is not there"
        assert answer_of(await do(cast.ines, cast, "cancelPaymentRequest", id=request["id"]))["code"] == "FORBIDDEN"


# ── identifiers and keys ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_identifiers_of_another_kind_or_of_no_kind(cast: Cast) -> None:
    request = await cast.ask()
    place, merchant = cast.world.places["P001"].global_id, cast.world.merchants["708900"].global_id
    _, tenant, uuid = read_global_id(request["id"])
    of_another_kind = [place, merchant, global_id("user", tenant, uuid), global_id("posl", tenant, uuid)]
    malformed = ["", "preq", "preq_", str(uuid), request["id"].upper(), request["id"][:-1], request["id"] + "0"]
    malformed += [f" {request['id']}", request["id"].replace("preq", "PREQ"), "preq_" + "u" * 32, "é" * 37, "x" * 9_999]
    async with untouched(cast.world):
        for wrong in [*of_another_kind, *malformed]:
            refused = answer_of(await do(cast.till, cast, "cancelPaymentRequest", id=wrong))
            assert refused["code"] == "NOT_FOUND", wrong
        for wrong in [request["id"], merchant, *malformed]:
            given = {"pointOfSaleId": wrong, "amount": "40", "basketNumber": "1"}
            refused = answer_of(await do(cast.till, cast, "createPaymentRequest", **given))
            assert refused["code"] == "NOT_FOUND", wrong
        for wrong in [global_id("user", tenant, uuid), global_id("nope", tenant, uuid), *malformed]:
            response = await post(cast.running.url, {"query": NODE, "variables": {"id": wrong}}, cast.till.token)
            assert (response.status_code, response.json()) == (200, {"data": {"node": None}}), wrong
        for wrong in (None, 1.5, [], {}):
            response = await do(cast.till, cast, "cancelPaymentRequest", id=wrong)
            assert (response.status_code, code_of(response)) == (400, "BAD_USER_INPUT")


@pytest.mark.parametrize("key", ["", "  ", "k" * 201])
async def test_keys_that_are_none(cast: Cast, key: str) -> None:
    request = await cast.ask()
    async with untouched(cast.world):
        refused = answer_of(await do(cast.ines, cast, "payPaymentRequest", key, token=token_of(request)))
    assert (refused["code"], refused["problems"]) == ("INVALID", [{"path": ["idempotencyKey"]}])


# ── signing in and out ────────────────────────────────────────────────────────────────────────────────────────────────


async def sign_in(url: str, issuer: str, login: str, password: str = PASSWORD, **headers: str) -> httpx.Response:
    """A try to sign in."""
    given = {"issuer": issuer, "login": login, "password": password}
    return await post(url, {"query": SIGN_IN, "variables": {"input": given}}, **headers)


async def test_P1_wrong_issuer_login_or_password_are_answered_alike(cast: Cast) -> None:
    slug, url = cast.world.slug, cast.running.url
    await cast.world.user("parti", Role.ISSUER_AGENT)
    await cast.world.as_owner("UPDATE users SET active = false WHERE id = $1", cast.world.users["parti"].user_id)
    tries = [
        (slug, "p001", "faux mot de passe"),
        (slug, "p002", PASSWORD.upper()),
        (slug, "708900", f"{PASSWORD} "),
        (slug, "808100", "x" * 100_000),
        (slug, "inconnu", PASSWORD),
        (slug, "parti", PASSWORD),
        ("inconnu", "p001", PASSWORD),
        ("", "p001", PASSWORD),
        (slug.upper(), "p001", PASSWORD),
    ]
    async with untouched(cast.world):
        answers = [answer_of(await sign_in(url, *given)) for given in tries]
        english = answer_of(await sign_in(url, slug, "personne", accept_language="en"))
    assert (answers[0]["code"], answers[0]["problems"]) == ("BAD_CREDENTIALS", [])
    assert answers[0]["message"].startswith("Identifiant ou mot de passe incorrect")
    assert answers == [answers[0]] * len(tries)
    assert english["message"].startswith("Wrong login or password")


@pytest.mark.parametrize(
    ("login", "password", "field"), [("", PASSWORD, "login"), ("  ", PASSWORD, "login"), ("p001", "", "password")]
)
async def test_P1_a_login_and_a_password_are_mandatory(cast: Cast, login: str, password: str, field: str) -> None:
    async with untouched(cast.world):
        refused = answer_of(await sign_in(cast.running.url, cast.world.slug, login, password))
    assert (refused["code"], refused["problems"]) == ("INVALID", [{"path": ["input", field]}])


async def test_P2_wrong_passwords_are_counted_however_the_login_is_spelled(cast: Cast) -> None:
    slug, url = cast.world.slug, cast.running.url
    async with untouched(cast.world):
        answers = [
            answer_of(await sign_in(url, slug, login, "faux"))["code"]
            for login in ("inconnu", " INCONNU", "Inconnu\u00a0", "inconnu")
        ]
    assert answers == ["BAD_CREDENTIALS", "BAD_CREDENTIALS", "ACCOUNT_LOCKED", "ACCOUNT_LOCKED"]
    assert answer_of(await sign_in(url, slug, "p002"))["__typename"] == "Session", "another login is not concerned"


async def test_the_limit_for_one_address_is_a_setting(cast: Cast, servers: Servers) -> None:
    address = f"2001:db8::{secrets.randbelow(65_536):x}:{secrets.randbelow(65_536):x}"
    settings = servers.settings.model_copy(update={"sign_in_tries_per_minute": 3})
    app = create_app(settings, newest_revision())

    async def tried(from_where: str, login: str, password: str) -> dict[str, Any]:
        given = {"issuer": cast.world.slug, "login": login, "password": password}
        there = httpx.ASGITransport(app, client=(from_where, 1))
        async with httpx.AsyncClient(transport=there, base_url="http://localhost") as http:
            return answer_of(await http.post("/graphql", json={"query": SIGN_IN, "variables": {"input": given}}))

    async with app.router.lifespan_context(app), untouched(cast.world):
        for n in range(3):
            assert (await tried(address, f"personne {n}", "faux"))["code"] == "BAD_CREDENTIALS"
        for login in ("personne 3", "p001"):
            refused = await tried(address, login, PASSWORD)
            assert (refused["code"], refused["problems"]) == ("RATE_LIMITED", [])
            assert 1 <= refused["retryAfterSeconds"] <= 60
        assert (await tried(f"{address}1", "personne", "faux"))["code"] == "BAD_CREDENTIALS"


@asynccontextmanager
async def listening(cast: Cast, token: str, request: dict[str, Any]) -> AsyncIterator[websockets.ClientConnection]:
    """A socket with a live subscription, as a till has one; its first event has come."""
    address = cast.running.url.replace("http", "ws", 1) + "/graphql"
    async with websockets.connect(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"token": token}}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        subscribe = {"query": LIVE, "variables": {"id": request["id"]}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": subscribe}))
        assert json.loads(await socket.recv())["type"] == "next"
        yield socket


async def _closes(socket: websockets.ClientConnection) -> tuple[int | None, str | None]:
    async with asyncio.timeout(60):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


async def test_signing_out_closes_what_listens_with_that_session_only(cast: Cast) -> None:
    request, token = await cast.ask(), await cast.world.session("p001")
    async with listening(cast, token, request) as mine, listening(cast, str(cast.till.token), request) as other:
        response = await post(cast.running.url, {"query": "mutation { signOut }"}, token)
        assert response.json() == {"data": {"signOut": True}}
        assert await _closes(mine) == (4403, "Votre session est terminée.")
        await cast.pay(request)
        async with asyncio.timeout(60):
            assert json.loads(await other.recv())["payload"]["data"]["paymentRequest"]["status"] == "VALIDATED"
    await _is_dead(cast, token)


async def test_a_session_that_ends_by_the_clock_closes_what_listens(cast: Cast) -> None:
    request, token = await cast.ask(), await cast.world.session("p001")
    await cast.world.as_owner(
        "UPDATE sessions SET expires_at = clock_timestamp() + interval '5 seconds' WHERE token_digest = $1",
        digest(token),
    )
    async with listening(cast, token, request) as socket:
        assert (await _closes(socket))[0] == 4403
    await _is_dead(cast, token)


async def test_a_socket_with_a_token_that_opens_nothing_closes(cast: Cast) -> None:
    address = cast.running.url.replace("http", "ws", 1) + "/graphql"
    async with websockets.connect(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
        token = new_token(cast.world.tenant)
        await socket.send(json.dumps({"type": "connection_init", "payload": {"token": token}}))
        assert (await _closes(socket))[0] == 4403


def _session_cookie(response: httpx.Response) -> Morsel[str] | None:
    cookies = [SimpleCookie(header) for header in response.headers.get_list("set-cookie")]
    return next((cookie["__Host-escarcelle"] for cookie in cookies if "__Host-escarcelle" in cookie), None)


async def test_a_session_in_a_cookie(cast: Cast) -> None:
    url = cast.running.url
    response = await sign_in(url, cast.world.slug, "p001", x_escarcelle_session="cookie")
    session = answer_of(response)
    assert session["token"] is None, "a script of the page never sees it"
    morsel = _session_cookie(response)
    assert morsel is not None
    assert (morsel["path"], morsel["secure"], morsel["httponly"], morsel["samesite"]) == ("/", True, True, "Lax")
    assert morsel["domain"] == ""
    assert 0 < int(morsel["max-age"]) <= 12 * 3600
    assert morsel.value not in response.text

    cookie = f"__Host-escarcelle={morsel.value}"
    viewer = {"query": VIEWER}
    async with untouched(cast.world):
        forged = await post(url, viewer, cookie=cookie)
        assert (forged.status_code, code_of(forged)) == (403, "CSRF")
    own = await post(url, viewer, cookie=cookie, x_escarcelle_client="web")
    assert answer_of(own) == {"user": {"login": "p001"}}

    out = await post(url, {"query": "mutation { signOut }"}, cookie=cookie, x_escarcelle_client="web")
    assert out.json() == {"data": {"signOut": True}}
    gone = _session_cookie(out)
    assert gone is not None and (gone.value, gone["max-age"], gone["secure"]) == ("", "0", True)
    async with untouched(cast.world):
        after = await post(url, viewer, cookie=cookie, x_escarcelle_client="web")
        assert after.json() == {"data": {"viewer": None}}
        asked = {"query": "{ paymentRequests { totalCount } }"}
        after = await post(url, asked, cookie=cookie, x_escarcelle_client="web")
        assert (after.status_code, code_of(after)) == (401, "UNAUTHENTICATED")


async def test_a_bearer_session_leaves_no_cookie(cast: Cast) -> None:
    response = await sign_in(cast.running.url, cast.world.slug, "P001")
    session = answer_of(response)
    assert _session_cookie(response) is None
    assert session["viewer"] == {"user": {"login": "p001"}}
    assert answer_of(await post(cast.running.url, {"query": VIEWER}, session["token"])) == {"user": {"login": "p001"}}
