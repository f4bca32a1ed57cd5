"""Pushes: what a notice says in a few words, in the language of the device's user, encrypted for the device and handed
to its push service."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import http_ece
import httpx
import orjson
import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.access import Actor, User
from domain.db import Database
from domain.notices import Push, pusher
from domain.outbox import OutboxRow
from domain.push import PushSubscription, forget, signing_key
from domain.settings import Settings
from domain.texts import Locale
from domain.work import perform
from tasks.delivery import Rejected

log = structlog.get_logger(__name__)

LONGEST_KEPT: Final = timedelta(days=28)
"""No push service keeps a message for a device that is off any longer."""

_TIMEOUT_SECONDS: Final = 10
_SIGNED_FOR: Final = timedelta(hours=12)


class Unavailable(Exception):
    """The push service cannot take it now: another try may do."""


class PushServices:
    """The way to the push services that devices have chosen."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signature = Vapid02(signing_key(settings))
        self._certificates = httpx.create_ssl_context()
        # It would write down whole addresses, and whoever has one may send.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    async def deliver(self, database: Database, tenant: int, outbox_id: UUID) -> None:
        """Send the push of an outbox row; a device that is gone is forgotten. Raises Rejected when the service refuses
        it for good, Unavailable or what httpx raises when another try may do."""
        async with database.reading(tenant) as connection:
            to_send = await _push(connection, tenant, outbox_id)
        if to_send is None:
            return
        device, push, locale = to_send
        seconds = int(min(push.until - datetime.now(UTC), LONGEST_KEPT).total_seconds())
        if seconds <= 0:
            return
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Encoding": "aes128gcm",
            "TTL": str(seconds),
            "Urgency": "high",
            # What is sent twice takes its own place.
            "Topic": outbox_id.hex,
            **self._signed(device.endpoint),
        }
        status = await self._post(device.endpoint, headers, _encrypted(device, self._content(push, locale)))
        if status in (404, 410):
            await perform(database, Actor(tenant=tenant), forget, device.id)
        elif status == 429 or status >= 500:
            log.warning("push_service_unavailable", host=urlsplit(device.endpoint).hostname, status=status)
            raise Unavailable
        elif not 200 <= status < 300:
            raise Rejected(f"{status} push refused")

    async def _post(self, endpoint: str, headers: dict[str, str], content: bytes) -> int:
        # Whose server it is we cannot know: it leads nowhere else, and what it says is not read.
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            httpx.AsyncClient(verify=self._certificates, follow_redirects=False) as client,
            client.stream("POST", endpoint, headers=headers, content=content) as answer,
        ):
            return answer.status_code

    def _signed(self, endpoint: str) -> dict[str, str]:
        service = urlsplit(endpoint)
        claims = {
            "aud": f"{service.scheme}://{service.netloc}",
            "sub": f"mailto:{parseaddr(self._settings.mail_from)[1]}",
            "exp": int((datetime.now(UTC) + _SIGNED_FOR).timestamp()),
        }
        headers: dict[str, str] = self._signature.sign(claims)
        return headers

    def _content(self, push: Push, locale: Locale) -> bytes:
        return orjson.dumps(
            {
                "title": push.title.in_locale(locale, **push.facts),
                "body": push.body.in_locale(locale, **push.facts),
                "url": self._settings.public_url + push.link_path,
            }
        )


async def _push(
    connection: AsyncConnection, tenant: int, outbox_id: UUID
) -> tuple[PushSubscription, Push, Locale] | None:
    """What an outbox row has to say, to which device, in which language; None when the device is gone, or is not the
    one to know."""
    payload: dict[str, Any] | None = await connection.scalar(
        sa.select(OutboxRow.table.c.payload).where(OutboxRow.table.c.id == outbox_id)
    )
    if payload is None:
        return None
    push = await pusher(payload["notice"])(connection, tenant, UUID(payload["id"]))
    if push is None:
        return None
    row = (
        await connection.execute(
            sa.select(*PushSubscription.selected(), User.table.c.locale)
            .join(User.table, User.table.c.id == PushSubscription.table.c.user_id)
            .where(
                PushSubscription.table.c.id == UUID(payload["device"]),
                User.table.c.holder_id == push.to,
                User.table.c.active,
            )
        )
    ).first()
    if row is None:
        return None
    *values, locale = row
    return PushSubscription.from_row(values), push, Locale(locale or Locale.FR)


def _encrypted(device: PushSubscription, content: bytes) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    encrypted: bytes = http_ece.encrypt(content, private_key=key, dh=device.p256dh, auth_secret=device.auth)
    return encrypted
