"""Web push: short messages on the devices that people have registered, beside the mail (P22).

A browser's push service gives each device an address and a pair of keys: whoever has the address may send, and only the
device can read. The address comes from outside, and our servers go there: it is https on a public host name, without a
port. Should such a name lead into our own network, nothing there can prove to bear it, and no request is made.

Each device has a row of the outbox to itself, so that a push service that is away holds up neither mails nor others."""

import base64
import binascii
import re
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain import fields
from domain.access import Actor, User
from domain.codes import new_id
from domain.db import Entity, column
from domain.errors import Refused
from domain.notices import Notice
from domain.parties import Issuer
from domain.settings import Settings
from domain.work import Work


class PushSubscription(Entity, table="push_subscriptions", app="SELECT, INSERT, UPDATE, DELETE", reader=False):
    """A device that shows pushes to the user who registered it last, until that session is ended. `endpoint` is its
    address at the push service; `p256dh` (a point of P-256) and `auth` (16 bytes) are what messages to it are encrypted
    with."""

    user_id: UUID = column(references="users", index=True)
    session_id: UUID | None = column(default=None, references="sessions", index=True)
    endpoint: str = column(unique=True)
    p256dh: bytes
    auth: bytes
    created_at: datetime


MOST_DEVICES: Final = 10
"""What one user may have registered."""

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def subscribe(work: Work, actor: Actor, endpoint: str, p256dh: str, auth: str) -> PushSubscription:
    """This user's pushes show on the device, and nobody else's any more; with an eleventh device the oldest goes. Both
    keys are base64url, as browsers give them. Raises Refused (INVALID)."""
    endpoint = _public_address(endpoint, "input.endpoint")
    keys = {"p256dh": _point(p256dh, "input.p256dh"), "auth": _bytes(auth, "input.auth", 16)}
    user, known = await work.take(User.by(id=actor.user_id), PushSubscription.maybe(endpoint=endpoint))
    if known is not None and known.user_id == user.id:
        work.change(known, session_id=actor.session_id, **keys)
        return known
    if known is not None:
        # A new row: what is under way to the old one was for somebody else.
        work.remove(known)
        await work.flush()
    await _make_room(work, user.id)
    return work.create(
        PushSubscription(
            tenant=work.tenant,
            id=new_id(),
            user_id=user.id,
            session_id=actor.session_id,
            endpoint=endpoint,
            created_at=work.real_now,
            **keys,
        )
    )


async def forget(work: Work, actor: Actor, subscription_id: UUID) -> None:
    """The push service says that the device is gone."""
    subscription = await work.take(PushSubscription.maybe(id=subscription_id))
    if subscription is not None:
        work.remove(subscription)


async def forget_session(work: Work, session_id: UUID) -> None:
    """Within a deed: the devices registered in a session that has ended show nothing any more. One that only expires
    keeps them: a phone is told of what it is asked for."""
    table = PushSubscription.table.c
    for (subscription_id,) in await work.read(sa.select(table.id).where(table.session_id == session_id)):
        subscription = await work.take(PushSubscription.maybe(id=subscription_id))
        if subscription is not None and subscription.session_id == session_id:
            work.remove(subscription)


async def keep_devices(work: Work, old_session_id: UUID, session_id: UUID) -> None:
    """Within a deed: a new session takes over from an old one on the same device."""
    table = PushSubscription.table.c
    for (subscription_id,) in await work.read(sa.select(table.id).where(table.session_id == old_session_id)):
        subscription = await work.take(PushSubscription.maybe(id=subscription_id))
        if subscription is not None:
            work.change(subscription, session_id=session_id)


async def tell_devices(work: Work, notice: Notice, holder_id: UUID | None) -> None:
    """The holder's devices are told too, after the commit. Nothing but mail leaves a sandbox."""
    if holder_id is None:
        return
    devices = await work.read(
        sa.select(PushSubscription.table.c.id)
        .join(User.table, User.table.c.id == PushSubscription.table.c.user_id)
        .join(Issuer.table, sa.not_(Issuer.table.c.sandbox))
        .where(User.table.c.holder_id == holder_id, User.table.c.active)
    )
    for (device_id,) in devices:
        work.tell(notice, device_id)


# ── our own key ───────────────────────────────────────────────────────────────────────────────────────────────────────


def signing_key(settings: Settings) -> ec.EllipticCurvePrivateKey:
    """What tells push services that it is us (VAPID). Devices register for one public key, so that it must last: it is
    derived from the oldest of SECRET_KEYS. When that one goes, devices have to register again."""
    oldest = settings.keys[-1]
    # 16 bytes more than the order of the curve has: no remainder is then noticeably likelier than another.
    derived = HKDF(SHA256(), length=48, salt=None, info=b"escarcelle web push").derive(oldest.encode())
    return ec.derive_private_key(1 + int.from_bytes(derived) % (_P256_ORDER - 1), ec.SECP256R1())


def public_key(settings: Settings) -> str:
    """What a browser's `pushManager.subscribe` wants as `applicationServerKey`, in base64url."""
    point = signing_key(settings).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode("ascii")


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_LONGEST_ENDPOINT: Final = 1024
_ADDRESS: Final = re.compile(
    r"https://(?P<host>(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?P<last>[a-z][a-z0-9-]*[a-z0-9]))"
    r"/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*"
)
"""The whole address, letter by letter: nothing is left for two programs to read in two ways. A host whose last part
begins with a letter is no IP address in any spelling."""

_PRIVATE_DOMAINS: Final = frozenset((
    "alt", "arpa", "cluster", "corp", "docker", "example", "home", "internal", "intranet", "invalid", "lan", "local",
    "localdomain", "localhost", "mail", "onion", "private", "svc", "test",
))  # fmt: skip
"""The last part of names that are not the public's (RFC 6761, RFC 6762, ICANN), or only used as if."""


def _public_address(endpoint: str, field: str) -> str:
    kept = fields.line(endpoint, field, longest=_LONGEST_ENDPOINT)
    address = _ADDRESS.fullmatch(kept)
    if address is None or len(address["host"]) > 253 or address["last"] in _PRIVATE_DOMAINS:
        raise Refused.invalid(
            field,
            "L’adresse d’un service de notification est attendue : https et un nom de domaine public.",
            "The address of a push service is expected: https and a public host name.",
        )
    return kept


def _point(text: str, field: str) -> bytes:
    point = _bytes(text, field, 65)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise _no_key(field) from None
    return point


def _bytes(text: str, field: str, length: int) -> bytes:
    try:
        content = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _no_key(field) from None
    if len(content) != length:
        raise _no_key(field)
    return content


def _no_key(field: str) -> Refused:
    return Refused.invalid(
        field, "Cette clé n’est pas celle d’un navigateur.", "This is not a key that a browser gives."
    )


async def _make_room(work: Work, user_id: UUID) -> None:
    """The oldest devices of the user go, so that one more may come."""
    table = PushSubscription.table.c
    newest_first = (
        sa.select(table.id).where(table.user_id == user_id).order_by(table.created_at.desc(), table.id.desc())
    )
    for (subscription_id,) in await work.read(newest_first.offset(MOST_DEVICES - 1)):
        oldest = await work.take(PushSubscription.maybe(id=subscription_id))
        if oldest is not None:
            work.remove(oldest)
