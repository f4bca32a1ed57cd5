"""How an issuer shows itself: one colour, in a shade for each theme that everyone can read, and a mark."""

import hashlib
import io
import re
import zlib
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from PIL import Image, UnidentifiedImageError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.db import Row
from domain.errors import Refused

OWN_ACCENT: Final = "#0b5c55"
"""The colour of an issuer that has chosen none."""

LIGHT_GROUNDS: Final = ("#ffffff", "#f3f6f6")
DARK_GROUNDS: Final = ("#10191a", "#182425")
"""What a text in the colour stands on, in screens and mails, in either theme (web/src/app.css has the same)."""

LEAST_CONTRAST: Final = 4.5
"""Between a text and its ground, or the other way round (WCAG 2.2, 1.4.3)."""

MOST_MARK_BYTES: Final = 64 * 1024
MARK_HEIGHT_PIXELS: Final = range(64, 513)
MOST_MARK_WIDTH: Final = 4
"""A mark is so many times as wide as it is high, at most."""

_COLOUR: Final = re.compile(r"#[0-9a-f]{6}", re.ASCII)
_STEPS: Final = 100


class Appearance(
    Row,
    table="issuer_appearances",
    key=(),
    app="SELECT",
    constraints=(
        sa.CheckConstraint("accent ~ '^#[0-9a-f]{6}$'", name="accent"),
        sa.CheckConstraint("octet_length(mark) BETWEEN 1 AND 65536", name="mark"),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"]),
    ),
):
    """What an issuer has chosen: a colour as `#rrggbb`, and a PNG picture. Only operators set it, on the command
    line."""

    accent: str = OWN_ACCENT
    mark: bytes | None = None

    @property
    def shades(self) -> "Shades":
        """Its colour, for each theme."""
        return Shades.of(self.accent)

    @property
    def mark_digest(self) -> str | None:
        """What names this very picture."""
        return hashlib.sha256(self.mark).hexdigest()[:16] if self.mark else None


@dataclass(frozen=True)
class Shades:
    """A colour in two shades, each the nearest with LEAST_CONTRAST to every ground of its theme. The first ground is
    legible on it in turn."""

    light: str
    dark: str

    @classmethod
    def of(cls, accent: str) -> "Shades":
        """Those of a colour as `#rrggbb`."""
        return cls(_nearest(accent, LIGHT_GROUNDS, "#000000"), _nearest(accent, DARK_GROUNDS, "#ffffff"))


def contrast(one: str, other: str) -> float:
    """Between two colours, from 1 (the same) to 21 (black and white), as WCAG 2.2 defines it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def checked_accent(given: str) -> str:
    """A colour as it is kept. Raises Refused (INVALID)."""
    kept = given.strip().lower()
    if not _COLOUR.fullmatch(kept):
        raise Refused.invalid("accent", "Exemple attendu : #7a1f4b.", "Expected, for example: #7a1f4b.")
    return kept


def checked_mark(content: bytes) -> bytes:
    """A picture that can be shown beside a name. Raises Refused (INVALID)."""
    try:
        if len(content) > MOST_MARK_BYTES:
            raise ValueError
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            width, height = picture.size
            if height not in MARK_HEIGHT_PIXELS or not height <= width <= MOST_MARK_WIDTH * height:
                raise ValueError
            picture.load()
    except (ValueError, OSError, SyntaxError, zlib.error, UnidentifiedImageError, Image.DecompressionBombError):
        raise Refused.invalid(
            "mark",
            "Image PNG attendue : {low} à {high} pixels de haut, aussi large à {wide} fois plus large que haute, {most}"
            " ko au plus.",
            "Expected is a PNG picture: {low} to {high} pixels high, as wide as high or up to {wide} times wider,"
            " {most} kB at most.",
            low=MARK_HEIGHT_PIXELS[0],
            high=MARK_HEIGHT_PIXELS[-1],
            wide=MOST_MARK_WIDTH,
            most=MOST_MARK_BYTES // 1024,
        ) from None
    return content


async def appearance(connection: AsyncConnection, tenant: int) -> Appearance:
    """How the issuer behind whose wall the connection stands shows itself."""
    row = (await connection.execute(sa.select(*Appearance.selected()))).first()
    return Appearance.from_row(row) if row else Appearance(tenant=tenant)


def _nearest(colour: str, grounds: tuple[str, ...], towards: str) -> str:
    for step in range(_STEPS + 1):
        shade = _mixed(colour, towards, step / _STEPS)
        if all(contrast(shade, ground) >= LEAST_CONTRAST for ground in grounds):
            return shade
    raise AssertionError("black and white are legible on the grounds of their themes")


def _mixed(one: str, other: str, share: float) -> str:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _luminance(colour: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
