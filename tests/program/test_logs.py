"""Nobody's secret and nobody's name stand in a log, whatever happens: people sign in, pay, forget passwords, take files
with them; servers are away; the database refuses with the row in its mouth."""

import asyncio
import json
import logging
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg
import httpx
import pytest

from domain import logs
from domain.access import Right, Role
from escarcelle.clients import Client, Unexpected
from escarcelle.embedded import free_port
from tests.flows.cast import OFFER, REQUEST, token_of
from tests.program.watched import lines, logged, text
from tests.tasks import PostBox, settings_for, until
from tests.world import PASSWORD, Servers, World, wait_until_ready

pytestmark = pytest.mark.anyio

_NEW_PASSWORD = "le nouveau mot de passe, lui aussi bien long"
_WRONG_PASSWORD = "un mot de passe qui n’est pas le bon"
_SMTP_PASSWORD = "le-mot-de-passe-du-courrier"
_FAMILY_NAME = "Quatrebarbes"
_FIRST_NAME = "Hermengarde"
_IN_NO_ROW = "Vandenbroucque"
_DONE = "... on Done { message }"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Of its own: they are taken away."""
    started = Servers.start(tmp_path_factory.mktemp("logs"))
    yield started
    started.stop()


@dataclass
class Secrets:
    """What must not be said."""

    known: dict[str, str] = field(default_factory=dict)

    def keep(self, name: str, secret: str) -> str:
        """Remember one; gives it back."""
        assert len(secret) >= 5, name
        self.known[name] = secret
        return secret

    def told(self, said: str) -> list[str]:
        """Which of them stand there, as they are or as JSON has them."""
        return [
            name
            for name, secret in self.known.items()
            if secret in said or json.dumps(secret)[1:-1] in said or unquote(secret) in said
        ]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_logs_hold_no_secret_and_no_personal_data_even_when_all_breaks(
    servers: Servers, world: World, tmp_path: Path
) -> None:
    hidden, box = Secrets(), PostBox()
    settings = settings_for(servers, box)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(box.open(asks_to_sign_in=True))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        settings = settings.model_copy(
            update={
                "smtp_url": f"smtp://courrier:{_SMTP_PASSWORD}@127.0.0.1:{box.port}",
                "public_url": url,
                "sign_in_tries_per_minute": 1_000,
            }
        )
        for name in ("database_url", "app_database_url", "relay_database_url", "reader_database_url", "redis_url"):
            hidden.keep(name, urlsplit(str(getattr(settings, name))).password or "")
        hidden.keep("secret key", settings.secret_keys[0].get_secret_value())
        hidden.keep("SMTP password", _SMTP_PASSWORD)
        api, work = tmp_path / "api.log", tmp_path / "work.log"
        await stack.enter_async_context(logged(settings, work, "work"))
        await stack.enter_async_context(logged(settings, api, "serve", "--port", str(port), "--processes", "2"))
        await asyncio.to_thread(wait_until_ready, url)
        people = await _people(world, hidden)
        client = await stack.enter_async_context(Client(url))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=20, base_url=url))

        await _sign_in(client, world, hidden)
        await _forget_the_password(client, http, world, hidden, box)
        await _pay(client, http, world, hidden, box, people)
        await _take_a_file(client, http, hidden)
        await _print_a_voucher(http, world, hidden, url)
        await _say_it_in_wrong_places(client, http, world, hidden)
        await _be_refused_by_the_database(client, http, world, hidden)

        box.refusal = f"550 5.1.1 <{people}>: {_FAMILY_NAME} does not live here any more"
        await client.do("requestPasswordReset", _DONE, issuer=world.slug, login="manager")
        await until(lambda: bool(lines(work, "delivery_failed")))
        box.refusal = f"450 4.2.1 <{people}>: {_FAMILY_NAME} is asleep"
        await client.do("requestPasswordReset", _DONE, issuer=world.slug, login="manager")
        await until(lambda: len(lines(work, "delivery_failed")) >= 2)

        servers.postgres.stop(immediate=True)
        try:
            broken = await client.answer("{ viewer { user { name } } }")
            assert broken["errors"][0]["extensions"]["code"] == "INTERNAL"
            refused = await client.answer(
                "mutation ($input: SignInInput!) { signIn(input: $input) { __typename } }",
                {"input": {"issuer": world.slug, "login": people, "password": PASSWORD}},
            )
            assert "errors" in refused
            await http.get(f"/p/{hidden.known['payment token']}")
            await until(lambda: bool(lines(work, "relay_waits")))
        finally:
            servers.postgres.start()
        await asyncio.to_thread(wait_until_ready, url)
        servers.redis.kill()
        try:
            await client.sign_in(world.slug, people, _WRONG_PASSWORD)
            await until(lambda: any(line["server"] == "redis" for line in lines(work, "relay_waits")))
        finally:
            servers.redis.start()
        await until(lambda: len(lines(work, "relay_goes_on")) >= 2)
    for name, log in (("api", api), ("work", work)):
        assert hidden.told(text(log)) == [], name
        assert lines(log), name
    seen = {(line["route"], line["status"]) for line in lines(api, "request")}
    assert {
        ("/p/{token}", 200),
        ("/files/{token}", 200),
        ("/files/{token}", 404),
        ("/password/{token}", 200),
        ("/graphql", 200),
        ("unknown", 404),
    } <= seen
    fields = {name for line in lines(api, "request") for name in line.get("fields", ())}
    assert {"signIn", "requestPasswordReset", "payPaymentRequest", "createHolder"} <= fields
    assert lines(api, "socket")
    failed, *_ = lines(api, "request_failed")
    assert failed["route"] == "/p/{token}"
    assert failed["error"].endswith("UndefinedColumnError [42703]")
    assert any("RaiseError [P0001]" in line["error"] for line in lines(api, "graphql_operation_failed"))
    assert lines(work, "delivered")
    assert lines(work, "job_done")


async def _people(world: World, hidden: Secrets) -> str:
    """A manager, whose address is given, and a customer."""
    address = hidden.keep("e-mail", f"hermengarde-{secrets.token_hex(4)}@example.com")
    hidden.keep("family name", _FAMILY_NAME)
    hidden.keep("first name", _FIRST_NAME)
    hidden.keep("another name", _IN_NO_ROW)
    for name, password in (("password", PASSWORD), ("new", _NEW_PASSWORD), ("wrong", _WRONG_PASSWORD)):
        hidden.keep(f"{name} password", password)
    await world.merchant("CK", "Canoë Kayak Club", {"P001": "Base nautique"})
    await world.user("manager", Role.MERCHANT_MANAGER, merchant="CK", email=address)
    rights = frozenset({Right.COLLECT, Right.VALIDATE})
    await world.user("till", Role.MERCHANT_STAFF, merchant="CK", grants={"P001": rights})
    await world.user("agent", Role.ISSUER_AGENT)
    await world.holder(address, _FAMILY_NAME, wallet="200", email=address)
    await world.user(address, Role.HOLDER, holder=address)
    await world.as_owner("UPDATE users SET name = $2 WHERE tenant = $1", world.tenant, f"{_FIRST_NAME} {_FAMILY_NAME}")
    return address


async def _sign_in(client: Client, world: World, hidden: Secrets) -> None:
    """With a wrong password and the right one; the device is a known one from then on."""
    assert (await client.sign_in(world.slug, "manager", _WRONG_PASSWORD))["code"] == "BAD_CREDENTIALS"
    fields = "... on Session { token deviceToken }"
    session = await client.do("signIn", fields, issuer=world.slug, login="manager", password=PASSWORD)
    client.token = hidden.keep("session", session["token"])
    hidden.keep("device", session["deviceToken"])
    again = await client.do(
        "signIn", fields, issuer=world.slug, login="manager", password=PASSWORD, deviceToken=session["deviceToken"]
    )
    client.token = hidden.keep("second session", again["token"])


async def _forget_the_password(
    client: Client, http: httpx.AsyncClient, world: World, hidden: Secrets, box: PostBox
) -> None:
    await client.do("requestPasswordReset", _DONE, issuer=world.slug, login="manager")
    await until(lambda: bool(box.mails))
    link = re.search(r"/password/([\w-]+)", _body(box))
    assert link is not None
    token = hidden.keep("reset link", link[1])
    assert (await http.get(f"/password/{token}")).status_code == 200
    assert (await http.post(f"/password/{token}", data={"password": "court"})).status_code == 422
    assert (await http.post(f"/password/{token}", data={"password": _NEW_PASSWORD})).status_code == 200
    client.token = None
    fields = "... on Session { token }"
    session = await client.do("signIn", fields, issuer=world.slug, login="manager", password=_NEW_PASSWORD)
    client.token = hidden.keep("third session", session["token"])
    box.mails.clear()


async def _pay(
    client: Client, http: httpx.AsyncClient, world: World, hidden: Secrets, box: PostBox, address: str
) -> None:
    """Asked by the manager, seen on a telephone without the application, watched at the till, paid."""
    place = world.places["P001"].global_id
    request = await client.do(
        "createPaymentRequest",
        REQUEST,
        pointOfSaleId=place,
        amount="40,00",
        basketNumber="P29",
        notifyEmail=address,
        customerReference=_IN_NO_ROW,
    )
    token = hidden.keep("payment token", token_of(request))
    assert (await http.get(f"/p/{token}")).status_code == 200
    watching = "subscription ($id: ID!) { paymentRequest(id: $id) { status } }"
    async with Client(client._url) as customer, client.subscribe(watching, id=request["id"]) as events:
        customer.token = hidden.keep("customer's session", await world.session(address))
        assert await anext(events)
        paid = await customer.do("payPaymentRequest", OFFER, token=token)
        assert paid["amountPaid"]["amount"] == "40.00", paid
    await until(lambda: bool(box.mails))


async def _take_a_file(client: Client, http: httpx.AsyncClient, hidden: Secrets) -> None:
    made = await client.do("createExport", "... on Job { id }", kind="PAYMENT_REQUESTS", format="CSV")
    found: dict[str, Any] = {}

    async def is_done() -> bool:
        answer = await client.ask("query ($id: ID!) { node(id: $id) { ... on Job { downloadUrl } } }", id=made["id"])
        found.update(answer["node"])
        return found["downloadUrl"] is not None

    await until(is_done)
    token = hidden.keep("download link", urlsplit(found["downloadUrl"]).path.rsplit("/", 1)[-1])
    assert (await http.get(f"/files/{token}")).status_code == 200
    assert (await http.get(f"/files/{token}x")).status_code == 404


async def _print_a_voucher(http: httpx.AsyncClient, world: World, hidden: Secrets, url: str) -> None:
    """Its link leads to the code."""
    await world.voucher_kind()
    await world.merchant("MO", "Matériaux de l’Ouest", {"C1": "Comptoir de Nantes"})
    await world.member("44001234B", _FAMILY_NAME)
    await world.user("44001234B", Role.HOLDER, holder="44001234B")
    shown = "... on Voucher { id number pdfUrl }"
    async with Client(url) as phone:
        phone.token = hidden.keep("member's session", await world.session("44001234B"))
        supplier = world.merchants["MO"].global_id
        voucher = await phone.do("requestVoucher", shown, supplierId=supplier, amount="12")
        await phone.do("revealVoucherCode", shown, id=voucher["id"])
        delivered = await phone.do("deliverVoucher", shown, id=voucher["id"])
    page = urlsplit(delivered["pdfUrl"]).path
    token = hidden.keep("link to a voucher's page", page.rsplit("/", 1)[-1])
    assert (await http.get(page)).content.startswith(b"%PDF-")
    assert (await http.get(f"/vouchers/{voucher['id']}/{token}x")).status_code == 404
    assert (await http.get(f"/vouchers/{token}/{token}")).status_code == 404


async def _say_it_in_wrong_places(client: Client, http: httpx.AsyncClient, world: World, hidden: Secrets) -> None:
    """In addresses, headers, aliases, names of operations, bodies that are none."""
    session, token = client.token or "", hidden.known["payment token"]
    query = "query Q($t: String!) { paymentOffer(token: $t) { status } }"
    await http.get("/graphql", params={"query": query, "variables": json.dumps({"t": token})})
    await http.get(f"/nowhere/{token}", params={"password": _WRONG_PASSWORD})
    await http.get(f"/{session}/{session}", headers={"x-request-id": session})
    await http.post("/graphql", content=f'{{"query": "{_WRONG_PASSWORD}'.encode())
    await client.answer(f"query {_FAMILY_NAME} {{ {_FIRST_NAME}: viewer {{ {_IN_NO_ROW} }} }}")
    await client.answer(f'{{ viewer(password: "{_WRONG_PASSWORD}") {{ user {{ id }} }} }}')
    async with Client(client._url) as other:
        other.token = hidden.keep("a session that is none", f"{session}AAAA")
        with pytest.raises(Exception, match="4403"):
            async with other.subscribe(f"subscription {_FAMILY_NAME} {{ paymentRequestChanges {{ __typename }} }}"):
                pass


async def _be_refused_by_the_database(client: Client, http: httpx.AsyncClient, world: World, hidden: Secrets) -> None:
    """Errors repeat what they were given: PostgreSQL's in their words, SQLAlchemy's with the statement's parameters."""
    await world.as_owner(
        "CREATE FUNCTION refuse_loudly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not %, %', NEW.name, NEW.email; END $$"
    )
    await world.as_owner("CREATE TRIGGER loud BEFORE INSERT ON holders FOR EACH ROW EXECUTE FUNCTION refuse_loudly()")
    await world.as_owner("ALTER TABLE payment_requests RENAME COLUMN label TO renamed")
    try:
        assert (await http.get(f"/p/{hidden.known['payment token']}")).status_code == 500
        async with Client(client._url) as agent:
            agent.token = hidden.keep("agent's session", await world.session("agent"))
            with pytest.raises(Unexpected, match="INTERNAL"):
                await agent.do(
                    "createHolder",
                    "... on Holder { id }",
                    reference="client-7",
                    name=_IN_NO_ROW,
                    firstName=_FIRST_NAME,
                    email=hidden.known["e-mail"],
                )
    finally:
        await world.as_owner("ALTER TABLE payment_requests RENAME COLUMN renamed TO label")
        await world.as_owner("DROP FUNCTION refuse_loudly CASCADE")


def _body(box: PostBox) -> str:
    part = box.mails[-1].get_body(("plain",))
    assert part is not None
    return str(part.get_content())


# ── errors and libraries ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_is_told_by_kind_and_place_with_its_causes_and_without_its_words() -> None:
    try:
        try:
            try:
                raise asyncpg.CheckViolationError("new row for hunter2")
            except asyncpg.CheckViolationError as error:
                error.__dict__["constraint_name"] = "holders_name_check"
                raise ConnectionRefusedError(111, "hunter2") from error
        except OSError:
            raise ExceptionGroup("hunter2", [ValueError("hunter2"), KeyError("hunter2")])  # noqa: B904
    except ExceptionGroup as error:
        told = logs.without_words(error)
    assert "hunter2" not in told
    kinds = re.findall(r"^[\w.]+(?: \[.+\])?$", told, re.MULTILINE)
    assert kinds == [
        "builtins.ExceptionGroup",
        "builtins.ValueError",
        "builtins.KeyError",
        "builtins.ConnectionRefusedError [ECONNREFUSED]",
        "asyncpg.exceptions.CheckViolationError [23514 holders_name_check]",
    ]
    assert "test_logs.py:" in told


def test_a_cause_in_a_ring_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert logs.without_words(first) == "builtins.ValueError\nbuiltins.ValueError"


_PROGRAM = """
import asyncio, logging, sys, threading
from domain import logs
from domain.settings import LogFormat
logs.configure(LogFormat(sys.argv[1]))
logging.getLogger("somebody").warning("opened %s for %s", "hunter2", "hunter2")
logging.getLogger("somebody").info("nobody needs this")
try:
    raise ValueError("hunter2")
except ValueError:
    logging.getLogger("somebody").exception("it broke\\nhunter2")
async def main():
    async def fail(password):
        raise ValueError(password)
    task = asyncio.create_task(fail("hunter2"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    asyncio.get_running_loop().call_soon(int, "hunter2")
    await asyncio.sleep(0)
asyncio.run(main())
thread = threading.Thread(target=int, args=("hunter2",))
thread.start()
thread.join()
raise RuntimeError("hunter2")
"""


@pytest.mark.parametrize("log_format", ["json", "text", "auto"])
def test_what_libraries_and_crashes_say_is_kept_without_what_they_fill_in(log_format: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, log_format], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 1
    assert "hunter2" not in run.stderr
    if log_format == "text":
        assert "opened %s for %s" in run.stderr
        assert not run.stderr.startswith("{")
        return
    said = [json.loads(line) for line in run.stderr.splitlines()]
    assert [(line["level"], line["event"], line.get("library")) for line in said] == [
        ("warning", "opened %s for %s", "somebody"),
        ("error", "it broke", "somebody"),
        ("error", "Task exception was never retrieved", "asyncio"),
        ("error", "Exception in callback int…", "asyncio"),
        ("critical", "crashed", None),
        ("critical", "crashed", None),
    ]
    assert [line["error"].splitlines()[-1] for line in said[1:]] == ["builtins.ValueError"] * 4 + [
        "builtins.RuntimeError"
    ]


def test_an_error_output_that_is_gone_stops_nobody() -> None:
    program = (
        "import os, structlog\nfrom domain import logs\nfrom domain.settings import LogFormat\n"
        "logs.configure(LogFormat.JSON)\nlog = structlog.get_logger()\nlog.info('before')\n"
        "read, write = os.pipe()\nos.close(read)\nos.dup2(write, 2)\nlog.info('into nothing')\nprint('goes on')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert run.stdout == "goes on\n"
    assert json.loads(run.stderr)["event"] == "before"


def test_nothing_of_ours_logs_through_the_library_of_the_language() -> None:
    """It would be taken for a library's, without what it was filled with."""
    ours = [
        name
        for name, logger in logging.root.manager.loggerDict.items()
        # Dramatiq gives each actor one of its own; what has no logger is only on the way to one.
        if name.split(".")[0] in ("api", "domain", "tasks")
        and isinstance(logger, logging.Logger)
        and not name.startswith("tasks.actors.")
    ]
    assert ours == []
