"""The four digits that stand for the member's signature (V11).

A code is derived from the voucher, a salt drawn when it is revealed, and a key that lies outside the database: whoever
has the database alone has no code, though there are only 10,000. It is never stored."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from domain.vouchers.life import Voucher

DIGITS: Final = 4
SALT_BYTES: Final = 16

_PURPOSE: Final = b"voucher code\x00"
_FINGERPRINT_BYTES: Final = 8


def new_salt() -> bytes:
    """Drawn when a code is revealed: before, nobody could tell the code, not even with the key."""
    return secrets.token_bytes(SALT_BYTES)


def fingerprint(key: str) -> bytes:
    """Tells which key a code was made with, and nothing about the key."""
    return hashlib.sha256(b"voucher key\x00" + key.encode()).digest()[:_FINGERPRINT_BYTES]


def code_of(voucher: Voucher, keys: Sequence[str]) -> str | None:
    """The voucher's four digits, always the same; None before they are revealed, and when the key that they were made
    with is no longer among the keys."""
    if voucher.code_salt is None:
        return None
    for key in keys:
        if fingerprint(key) == voucher.code_key:
            content = _PURPOSE + voucher.tenant.to_bytes(4) + voucher.id.bytes + voucher.code_salt
            number = int.from_bytes(hmac.digest(key.encode(), content, "sha256"))
            return f"{number % 10**DIGITS:0{DIGITS}d}"
    return None


class TypedCode:
    """What someone typed as a code, whatever the spaces, with the secret keys to check it. As text it says nothing: so
    neither a log nor the stored hash of an input can give the code away."""

    def __init__(self, text: str, keys: Sequence[str]) -> None:
        self._text = "".join(text.split())
        self._keys = keys

    @property
    def is_well_formed(self) -> bool:
        """Whether these are four digits at all."""
        return len(self._text) == DIGITS and self._text.isascii() and self._text.isdecimal()

    def opens(self, voucher: Voucher) -> bool:
        """Whether these are the voucher's digits; how long it takes says nothing. Raises LookupError when the key that
        they were made with is gone: then nobody can tell, and no guess is to be counted."""
        code = code_of(voucher, self._keys)
        if code is None:
            raise LookupError(f"the key of voucher {voucher.number} is not among the secret keys")
        return hmac.compare_digest(code, self._text)

    def __str__(self) -> str:
        return "…"

    __repr__ = __str__
