"""Pushes: a customer who is asked by identifier sees it on its devices, whatever becomes of the mail, and the other way
round (P22)."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.parser import BytesParser
from typing import Any
from uuid import UUID

import http_ece
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02
from pydantic import SecretStr

from domain import calendar
from domain.codes import new_id
from domain.db import READER, Database, connect_as
from domain.push import MOST_DEVICES, public_key
from escarcelle.clients import Client, Unexpected
from reporting import audit
from tests.flows.cast import OFFER, REQUEST, Cast, assembled
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

PUBLIC_KEY = "{ viewer { issuer { pushPublicKey } } }"
SUBSCRIBE = (
    "mutation ($input: PushSubscriptionInput!) { subscribeToPush(input: $input) {"
    " ... on Done { message } ... on Refusal { code problems { path } } } }"
)
ADDRESS = "https://fcm.googleapis.com/fcm/send/dQw4w9WgXcQ:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx"


@dataclass(frozen=True)
class Received:
    """What a push service has been handed."""

    path: str
    headers: Message
    content: bytes


@dataclass
class PushService:
    """A push service on this machine; it answers with each of `answers`, and then with 201."""

    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["PushService"]:
        """Receive pushes."""
        server = await asyncio.start_server(self._answer, "127.0.0.1")
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def next(self, number: int = 1) -> Received:
        """The push of that number, once it has come."""
        await _until(lambda: len(self.received) >= number)
        return self.received[number - 1]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        headers = BytesParser().parsebytes(head)
        content = await reader.readexactly(int(headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers else 201
        self.received.append(Received(request.split()[1].decode(), headers, content))
        writer.write(f"HTTP/1.1 {status} so\r\nLocation: {self.url}/elsewhere\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@dataclass(frozen=True)
class Device:
    """A browser with a push subscription."""

    id: UUID = field(default_factory=new_id)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = b"sixteen letters."

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def subscription(self, endpoint: str = ADDRESS, **changes: str) -> dict[str, str]:
        """What the browser gives to the application."""
        return {"endpoint": endpoint, "p256dh": _base64url(self.point), "auth": _base64url(self.auth)} | changes

    def read(self, received: Received) -> dict[str, str]:
        """What it shows."""
        content: dict[str, str] = orjson.loads(
            http_ece.decrypt(received.content, private_key=self.key, auth_secret=self.auth)
        )
        return content


@pytest.fixture
async def push_service() -> AsyncIterator[PushService]:
    async with PushService().open() as opened:
        yield opened


@pytest.fixture
async def real(servers: Servers, database: Database, running: Running) -> AsyncIterator[Cast]:
    """The cast at an issuer that is no sandbox, audited when the test is over."""
    async with assembled(await World.make(servers, database, sandbox=False), running) as everyone:
        yield everyone
        connection = await connect_as(servers.settings, READER)
        try:
            assert await audit.differences(connection, everyone.world.tenant) == []
        finally:
            await connection.close()


# ── what arrives ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P22_the_named_customer_s_devices_say_who_asks_for_how_much(
    real: Cast, push_service: PushService
) -> None:
    phone, tablet = await _device(real, push_service, "ines"), await _device(real, push_service, "ines")
    await _device(real, push_service, "eric")
    request = await real.ask("40,00", customerIdentifier="ines", validationDays=2)
    await push_service.next(2)
    offers = await real.ines.ask(f"{{ myPaymentOffers {{ nodes {{ {OFFER} }} }} }}")
    (token,) = [offer["token"] for offer in offers["myPaymentOffers"]["nodes"]]
    by_path = {received.path: received for received in push_service.received}
    assert set(by_path) == {f"/{phone.id}", f"/{tablet.id}"}
    deadline = datetime.fromisoformat(request["paymentDeadline"])
    local = deadline.astimezone(calendar.PARIS)
    for device in (phone, tablet):
        received = by_path[f"/{device.id}"]
        assert device.read(received) == {
            "title": "Canoë Kayak Club Orléans vous demande 40,00\u00a0€",
            "body": f"Canoë Kayak Club – Saint-Jean-le-Blanc : à régler avant le {local:%d/%m/%Y à %H:%M:%S}.",
            "url": f"http://127.0.0.1:8000/p/{token}",
        }
        assert (received.headers["Content-Encoding"], received.headers["Urgency"]) == ("aes128gcm", "high")
        left = (deadline - datetime.now(UTC)).total_seconds()
        assert left - 1 <= int(received.headers["TTL"]) <= left + 30
    assert (await real.running.mail("ines@example.com", f"/p/{token}"))["subject"]
    await _until(lambda: _nothing_left(real))


async def test_P22_a_push_is_signed_with_the_key_that_devices_register_for(
    real: Cast, push_service: PushService
) -> None:
    await _device(real, push_service, "ines")
    await real.ask(customerIdentifier="ines", validationDays=2)
    signed = (await push_service.next()).headers["Authorization"]
    assert Vapid02.verify(signed)
    parts = dict(part.split("=", 1) for part in signed.removeprefix("vapid ").split(","))
    assert parts["k"] == (await real.ines.ask(PUBLIC_KEY))["viewer"]["issuer"]["pushPublicKey"]
    claims = orjson.loads(_from_base64url(parts["t"].split(".")[1]))
    assert claims["aud"] == push_service.url
    assert claims["sub"] == "mailto:ne-pas-repondre@escarcelle.invalid"
    assert time.time() < claims["exp"] <= time.time() + 24 * 3600


async def test_P22_a_push_speaks_the_user_s_language_and_stays_small(real: Cast, push_service: PushService) -> None:
    device = await _device(real, push_service, "ines")
    await real.world.as_owner("UPDATE users SET locale = 'en' WHERE tenant = $1 AND login = 'ines'", real.world.tenant)
    for table in ("merchants", "points_of_sale"):
        await real.world.as_owner(f"UPDATE {table} SET name = $2 WHERE tenant = $1", real.world.tenant, "🛶" * 120)
    day = calendar.today(datetime.now(UTC)) + timedelta(days=60)
    await real.ask("42,50", customerIdentifier="ines@example.com", paymentDeadline=day.isoformat())
    received = await push_service.next()
    shown = device.read(received)
    assert shown["title"] == "🛶" * 120 + " asks you for €42.50"
    assert shown["body"] == "🛶" * 120 + f": to be paid by the end of {day:%d/%m/%Y}."
    assert len(received.content) <= 3_072
    assert received.headers["TTL"] == str(28 * 24 * 3600), "no service keeps it longer"


async def test_P16_a_QR_code_is_nobody_s_push(real: Cast, push_service: PushService) -> None:
    device = await _device(real, push_service, "ines")
    request = await real.ask()
    named = await real.till.do("changePaymentCollection", REQUEST, id=request["id"], customerIdentifier="ines")
    received = await push_service.next()
    assert named["collection"] == "IDENTIFIER"
    assert device.read(received)["title"].startswith("Canoë Kayak Club Orléans")
    await _until(lambda: _nothing_left(real))
    assert len(push_service.received) == 1


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [404, 410])
async def test_a_device_that_is_gone_is_forgotten(real: Cast, push_service: PushService, answer: int) -> None:
    gone = await _device(real, push_service, "ines")
    push_service.answers = [answer]
    await real.ask(customerIdentifier="ines", validationDays=2)
    await _until(lambda: _nothing_left(real))
    assert [received.path for received in push_service.received] == [f"/{gone.id}"]
    assert await _rows(real, "push_subscriptions") == []
    assert await _rows(real, "dead_letters") == []


@pytest.mark.parametrize("answer", [429, 500])
async def test_a_push_service_that_is_away_is_tried_again_and_no_mail_waits(
    real: Cast, push_service: PushService, answer: int
) -> None:
    device = await _device(real, push_service, "ines")
    push_service.answers = [answer]
    await real.ask("31,00", customerIdentifier="ines", basketNumber=f"retry {real.world.slug}", validationDays=2)
    await _until(lambda: _failed_once(real))
    await real.running.mail("ines@example.com", f"retry {real.world.slug}")
    await _let_pauses_lapse(real)
    first, again = push_service.received[0], await push_service.next(2)
    assert device.read(again) == device.read(first)
    assert again.headers["Topic"] == first.headers["Topic"], "the second takes the place of the first"
    await _until(lambda: _nothing_left(real))
    mails = await real.running.mails("ines@example.com")
    assert len([mail for mail in mails if f"retry {real.world.slug}" in mail["text"]]) == 1


@pytest.mark.parametrize("answer", [307, 403])
async def test_a_push_that_is_refused_for_good_is_kept_with_the_reason(
    real: Cast, push_service: PushService, answer: int
) -> None:
    """It is not sent where the service says it should go instead: that may be anywhere."""
    await _device(real, push_service, "ines")
    push_service.answers = [answer]
    await real.ask(customerIdentifier="ines", validationDays=2)
    await _until(lambda: _nothing_left(real))
    assert [(row["topic"], row["reason"]) for row in await _rows(real, "dead_letters")] == [
        ("push", f"{answer} push refused")
    ]
    assert len(push_service.received) == 1
    assert len(await _rows(real, "push_subscriptions")) == 1


async def test_P19_who_is_asked_no_more_is_not_told_later(real: Cast, push_service: PushService) -> None:
    await _device(real, push_service, "ines")
    push_service.answers = [500]
    request = await real.ask(customerIdentifier="ines")
    await _until(lambda: _failed_once(real))
    await real.till.do("changePaymentCollection", REQUEST, id=request["id"], customerIdentifier="eric")
    await _let_pauses_lapse(real)
    await _until(lambda: _nothing_left(real))
    assert len(push_service.received) == 1


async def test_nothing_but_mail_leaves_a_sandbox(cast: Cast, push_service: PushService) -> None:
    await _device(cast, push_service, "ines")
    assert (await cast.ines.ask(PUBLIC_KEY))["viewer"]["issuer"]["pushPublicKey"] is None
    await cast.ask(customerIdentifier="ines", validationDays=2)
    await _until(lambda: _nothing_left(cast))
    assert len(await _rows(cast, "inbox")) == 1, "the mail was the only message"
    assert push_service.received == []


# ── what is registered ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "nowhere",
        "http://fcm.googleapis.com/fcm/send/1",
        "https://fcm.googleapis.com",
        "https://fcm.googleapis.com:8443/1",
        "https://fcm.googleapis.com:443/1",
        "https://user@fcm.googleapis.com/1",
        "https://user:password@fcm.googleapis.com/1",
        "https://127.0.0.1/1",
        "https://127.1/1",
        "https://2130706433/1",
        "https://0x7f.0.0.1/1",
        "https://0x7f000001/1",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1.:443/1",
        "https://[::1]/1",
        "https://[::ffff:127.0.0.1]/1",
        "https://localhost/1",
        "https://localhost./1",
        "https://push.localhost/1",
        "https://redis/1",
        "https://metadata.google.internal/1",
        "https://printer.local/1",
        "https://redis.default.svc.cluster.local/1",
        "https://1.0.0.127.in-addr.arpa/1",
        "https://fcm.googleapis.com\\@localhost/1",
        "https://localhost\\.googleapis.com/1",
        "https://fcm.googleapis.com/1#fragment",
        "https://fcm.googleapis.com/1 HTTP/1.1",
        "https://fcm.googleapis.com/\r\nX: y",
        "https://fcm。googleapis。com/1",
        "https://①②⑦.⓪.⓪.①/1",
        "https://.googleapis.com/1",
        "https://-a.googleapis.com/1",
        "https://fcm.googleapis.com/" + "a" * 1_000,
        "https://" + "a." * 130 + "com/1",
        "file:///etc/passwd",
    ],
)
async def test_a_push_service_has_a_public_address(cast: Cast, endpoint: str) -> None:
    """Our servers go where it says: never into our own network."""
    async with cast.world.unchanged():
        refused = await _subscribe(cast.ines, Device().subscription(endpoint))
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", "endpoint"])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("p256dh", ""),
        ("p256dh", "not base64!"),
        ("p256dh", "é" * 87),
        ("p256dh", base64.urlsafe_b64encode(b"\x04" + bytes(63)).decode()),
        ("p256dh", base64.urlsafe_b64encode(b"\x04" + b"\x01" * 64).decode()),
        ("p256dh", base64.urlsafe_b64encode(b"\x02" + bytes(64)).decode()),
        ("auth", ""),
        ("auth", base64.urlsafe_b64encode(bytes(15)).decode()),
        ("auth", base64.urlsafe_b64encode(bytes(17)).decode()),
    ],
)
async def test_a_device_s_keys_are_keys(cast: Cast, name: str, key: str) -> None:
    async with cast.world.unchanged():
        refused = await _subscribe(cast.ines, Device().subscription(**{name: key}))
    assert (refused["code"], refused["problems"][0]["path"]) == ("INVALID", ["input", name])


@pytest.mark.parametrize(
    "endpoint",
    [
        ADDRESS,
        "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABk_x-Y=",
        "https://wns2-par02p.notify.windows.com/w/?token=BQYAAAC%2fUs%3d",
        "https://web.push.apple.com/QGuQyavXutnMH1hMOtf",
    ],
)
async def test_the_browsers_push_services_are_accepted_and_a_device_stands_once(cast: Cast, endpoint: str) -> None:
    before, after = Device(), Device(auth=b"another sixteen!")
    assert (await _subscribe(cast.ines, before.subscription(endpoint)))["message"] == "Cet appareil sera prévenu."
    (first,) = await _rows(cast, "push_subscriptions")
    await _subscribe(cast.ines, after.subscription(endpoint))
    (row,) = await _rows(cast, "push_subscriptions")
    assert (row["id"], row["endpoint"], row["p256dh"], row["auth"]) == (first["id"], endpoint, after.point, after.auth)
    assert row["user_id"] == cast.world.users["ines"].user_id


async def test_a_device_shows_what_is_for_its_last_user(cast: Cast) -> None:
    subscription = Device().subscription()
    await _subscribe(cast.ines, subscription)
    (first,) = await _rows(cast, "push_subscriptions")
    await _subscribe(cast.eric, subscription)
    (row,) = await _rows(cast, "push_subscriptions")
    assert row["user_id"] == cast.world.users["eric"].user_id
    assert row["id"] != first["id"], "what is under way to the first user does not reach the second"


async def test_with_an_eleventh_device_the_oldest_goes(cast: Cast) -> None:
    addresses = [f"{ADDRESS}/{n}" for n in range(MOST_DEVICES + 1)]
    await _subscribe(cast.eric, Device().subscription(f"{ADDRESS}/eric"))
    for address in addresses:
        await _subscribe(cast.ines, Device().subscription(address))
    kept = {row["endpoint"] for row in await _rows(cast, "push_subscriptions")}
    assert kept == {*addresses[1:], f"{ADDRESS}/eric"}


async def test_a_stranger_registers_nothing(cast: Cast) -> None:
    async with Client(cast.running.url) as nobody, cast.world.unchanged():
        with pytest.raises(Unexpected, match="UNAUTHENTICATED"):
            await _subscribe(nobody, Device().subscription())


def test_the_key_lasts_as_long_as_the_oldest_secret(servers: Servers) -> None:
    """Devices are bound to it."""

    def key_with(*secrets: str) -> str:
        return public_key(servers.settings.model_copy(update={"secret_keys": tuple(map(SecretStr, secrets))}))

    old, new = "o" * 32, "n" * 32
    assert key_with(new, old) == key_with(old)
    assert key_with(new) != key_with(old)
    assert len(_from_base64url(key_with(old))) == 65


async def test_who_signs_out_takes_the_device_along(cast: Cast) -> None:
    """Here, from another device, or everywhere at once; what others have registered stays."""
    async with (
        await cast.running.client(cast.world, "eric") as phone,
        await cast.running.client(cast.world, "eric") as tablet,
    ):
        for client, n in ((cast.ines, 0), (cast.eric, 1), (phone, 2), (tablet, 3)):
            await _subscribe(client, Device().subscription(f"{ADDRESS}{n}"))
        assert await _registered(cast) == {0, 1, 2, 3}
        await phone.ask("mutation { signOut }")
        assert await _registered(cast) == {0, 1, 3}
        devices = (await cast.eric.ask("{ devices { id current } }"))["devices"]
        (other,) = [device["id"] for device in devices if not device["current"]]
        await cast.eric.do("signOutDevice", "... on Done { message }", id=other)
        assert await _registered(cast) == {0, 1}
        user = (await cast.eric.ask("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
        await cast.agent.do("deactivateUser", "... on User { active }", id=user)
        assert await _registered(cast) == {0}


async def _registered(cast: Cast) -> set[int]:
    return {int(row["endpoint"].removeprefix(ADDRESS)) for row in await _rows(cast, "push_subscriptions")}


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _device(cast: Cast, service: PushService, login: str) -> Device:
    """A device at the service on this machine, which the API would not accept."""
    device = Device()
    await cast.world.as_owner(
        "INSERT INTO push_subscriptions (tenant, id, user_id, endpoint, p256dh, auth, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, now())",
        cast.world.tenant,
        device.id,
        cast.world.users[login].user_id,
        f"{service.url}/{device.id}",
        device.point,
        device.auth,
    )
    return device


async def _subscribe(client: Client, subscription: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.ask(SUBSCRIBE, input=subscription))["subscribeToPush"]
    return answer


async def _rows(cast: Cast, table: str) -> list[Any]:
    return await cast.world.as_owner(f"SELECT * FROM {table} WHERE tenant = $1", cast.world.tenant)


async def _nothing_left(cast: Cast) -> bool:
    return not await _rows(cast, "outbox")


async def _failed_once(cast: Cast) -> bool:
    return [row["failures"] for row in await _rows(cast, "outbox") if row["topic"] == "push"] == [1]


async def _let_pauses_lapse(cast: Cast) -> None:
    await cast.world.as_owner(
        "UPDATE outbox SET claim_at = now() WHERE tenant = $1 AND topic = 'push'", cast.world.tenant
    )


async def _until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while True:
            holds = condition()
            if await holds if asyncio.iscoroutine(holds) else holds:
                return
            await asyncio.sleep(0.05)


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
