"""What things are called outside: ids that sort by time, ids and secrets that carry their tenant, transaction numbers
and the QR codes that hold a link. The tenant stands in each, so that it is known before anything is looked up."""

import base64
import binascii
import hashlib
import hmac
import io
import re
import secrets
import string
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from PIL import Image
from qrcode.constants import ERROR_CORRECT_M
from qrcode.main import QRCode

from domain.errors import Refused

LARGEST_TENANT: Final = 2**31 - 1
"""Tenants are PostgreSQL integers."""

EXPIRING_TOKEN_LENGTH: Final = 56
"""Characters of an `expiring_token`; a `signed_token` has 48."""


def new_id() -> UUID:
    """A UUID of version 7 (RFC 9562): ids made later in this process are larger, even in the same millisecond or after
    the clock went back."""
    return _ids.next()


def global_id(prefix: str, tenant: int, id: UUID) -> str:  # noqa: A002 — GraphQL's word for it
    """An id that names kind, tenant and object: the prefix, "_" and 32 characters of Crockford's base32 in lower case.
    Raises ValueError for a prefix that is not lower-case letters, or a tenant out of range."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is not 1 to 16 lower-case letters")
    encoded = base64.b32encode(_tenant_bytes(tenant) + id.bytes)
    return f"{prefix}_{encoded.translate(_TO_CROCKFORD).decode('ascii')}"


def read_global_id(text: str) -> tuple[str, int, UUID]:
    """Prefix, tenant and UUID of a `global_id`. Raises Refused (NOT_FOUND) for any other text: each id has exactly one
    spelling."""
    parts = _GLOBAL_ID.fullmatch(text)
    if parts is None:
        raise Refused.not_found()
    content = base64.b32decode(parts["content"].encode("ascii").translate(_FROM_CROCKFORD))
    return parts["prefix"], _tenant_in(content), UUID(bytes=content[4:])


def new_token(tenant: int, bits: int = 256) -> str:
    """A fresh secret that names its tenant, for a session or a link: base64url without padding of the tenant and of
    `bits` random bits, a multiple of 8 between 128 and 512. Store only its `digest`."""
    if bits % 8 or not _FEWEST_BITS <= bits <= _MOST_BITS:
        raise ValueError(f"{bits} is not a multiple of 8 between {_FEWEST_BITS} and {_MOST_BITS}")
    return _base64url(_tenant_bytes(tenant) + secrets.token_bytes(bits // 8))


def tenant_of_token(text: str) -> int:
    """The tenant that a token names; whether the token exists is for its digest to find. Raises Refused (NOT_FOUND)
    for text that `new_token` cannot have made."""
    if not _TOKEN.fullmatch(text):
        raise Refused.not_found()
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Refused.not_found() from None
    if _base64url(content) != text:
        raise Refused.not_found()
    return _tenant_in(content)


def signed_token(key: str, purpose: str, tenant: int, row_id: UUID) -> str:
    """A token that need not be stored: it names a row of a tenant, signed (HMAC-SHA-256) for one purpose."""
    content = tenant.to_bytes(4, "big") + row_id.bytes
    return _base64url(content + _signature(key, purpose, content))


def read_signed_token(keys: Iterable[str], purpose: str, text: str) -> tuple[int, UUID]:
    """The tenant and the row that a token names, when one of the keys has signed it for that purpose. Raises Refused
    (NOT_FOUND)."""
    content = _signed_content(keys, purpose, text, _SIGNED)
    return _tenant_in(content), UUID(bytes=content[4:])


def expiring_token(key: str, purpose: str, tenant: int, row_id: UUID, expires_at: datetime) -> str:
    """The same for a while: it also names the second at which it is over, which whoever reads it compares with a
    clock. It is longer than a `signed_token`."""
    seconds = int(expires_at.timestamp()).to_bytes(6, "big")
    content = tenant.to_bytes(4, "big") + row_id.bytes + seconds
    return _base64url(content + _signature(key, purpose, content))


def read_expiring_token(keys: Iterable[str], purpose: str, text: str) -> tuple[int, UUID, datetime]:
    """The tenant, the row and the instant that a token names, when one of the keys has signed it for that purpose.
    Raises Refused (NOT_FOUND)."""
    content = _signed_content(keys, purpose, text, _EXPIRING)
    return _tenant_in(content), UUID(bytes=content[4:20]), datetime.fromtimestamp(int.from_bytes(content[20:]), UTC)


def digest(text: str) -> bytes:
    """The SHA-256, 32 bytes, under which a secret of many random bits is stored and found. Too fast for passwords and
    short codes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def transaction_number() -> str:
    """Ten random lower-case letters and digits (H11): "foo2udp610". Whoever stores it makes sure it is new."""
    return "".join(secrets.choice(_LETTERS_AND_DIGITS) for _ in range(10))


def qr_svg(content: str) -> str:
    """A QR code as an SVG that takes its container's size, black on a white ground with its quiet zone, so that it
    scans on a dark page. Raises ValueError for more than 2331 bytes."""
    modules = _qr_modules(content)
    side = len(modules)
    path = "".join(
        f"M{run.start()} {row}.5h{run.end() - run.start()}"
        for row, line in enumerate(modules)
        for run in re.finditer("1+", line)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" shape-rendering="crispEdges">'
        f'<rect width="{side}" height="{side}" fill="#fff"/><path d="{path}" stroke="#000"/></svg>'
    )


def qr_png(content: str, module_pixels: int = 8) -> bytes:
    """The same QR code as a PNG, `module_pixels` wide for each module. Raises ValueError for more than 2331 bytes."""
    modules = _qr_modules(content)
    side = len(modules)
    image = Image.frombytes(
        "L", (side, side), bytes(0 if module == "1" else 255 for line in modules for module in line)
    )
    large = image.resize((side * module_pixels, side * module_pixels), Image.Resampling.NEAREST)
    png = io.BytesIO()
    large.convert("1").save(png, format="PNG")
    return png.getvalue()


# RFC 4648 and Crockford spell the same five bits with different letters.
_CROCKFORD: Final = b"0123456789abcdefghjkmnpqrstvwxyz"
_RFC_4648: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_CROCKFORD: Final = bytes.maketrans(_RFC_4648, _CROCKFORD)
_FROM_CROCKFORD: Final = bytes.maketrans(_CROCKFORD, _RFC_4648)
_PREFIX: Final = re.compile(r"[a-z]{1,16}")
_GLOBAL_ID: Final = re.compile(r"(?P<prefix>[a-z]{1,16})_(?P<content>[0-9a-hjkmnp-tv-z]{32})")
_SIGNED: Final = re.compile(r"[A-Za-z0-9_-]{48}")
_EXPIRING: Final = re.compile(rf"[A-Za-z0-9_-]{{{EXPIRING_TOKEN_LENGTH}}}")
_SIGNATURE_BYTES: Final = 16
_FEWEST_BITS: Final = 128
_MOST_BITS: Final = 512
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{27,91}")
_LETTERS_AND_DIGITS: Final = string.ascii_lowercase + string.digits


def _signed_content(keys: Iterable[str], purpose: str, text: str, form: re.Pattern[str]) -> bytes:
    if not form.fullmatch(text):
        raise Refused.not_found()
    signed = base64.urlsafe_b64decode(text)
    content, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
    if _base64url(signed) != text or not any(
        hmac.compare_digest(signature, _signature(key, purpose, content)) for key in keys
    ):
        raise Refused.not_found()
    return content


def _signature(key: str, purpose: str, content: bytes) -> bytes:
    whole = hmac.digest(key.encode(), purpose.encode() + b"\x00" + content, "sha256")
    return whole[:_SIGNATURE_BYTES]


class _Ids:
    """The 122 bits that a UUID of version 7 is free in, as one number: 48 of milliseconds above 74 of chance. A number
    that would not be larger than the last is counted on from it instead, by a random step, and may run into the next
    millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> UUID:
        milliseconds = time.time_ns() // 1_000_000
        with self._lock:
            if milliseconds > self._last >> 74:
                self._last = milliseconds << 74 | secrets.randbits(74)
            else:
                self._last += 1 + secrets.randbits(32)
            number = self._last
        version, variant = 7, 0b10
        return UUID(
            int=(number >> 74) << 80
            | version << 76
            | (number >> 62 & 0xFFF) << 64
            | variant << 62
            | number & (1 << 62) - 1
        )


_ids: Final = _Ids()


def _tenant_bytes(tenant: int) -> bytes:
    if not 0 <= tenant <= LARGEST_TENANT:
        raise ValueError(f"{tenant} is no tenant")
    return tenant.to_bytes(4)


def _tenant_in(content: bytes) -> int:
    tenant = int.from_bytes(content[:4])
    if tenant > LARGEST_TENANT:
        raise Refused.not_found()
    return tenant


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


@lru_cache(maxsize=128)
def _qr_modules(content: str) -> tuple[str, ...]:
    """The code's lines, quiet zone included, a character for each module: "1" is black."""
    code = QRCode(error_correction=ERROR_CORRECT_M, border=4)
    code.add_data(content)
    code.make()
    return tuple("".join("1" if module else "0" for module in line) for line in code.get_matrix())
