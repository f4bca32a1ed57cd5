"""The web client's first load. The limit is 60 kB, which a telephone on a slow connection has in a second or two."""

import re
from pathlib import Path
from typing import Final

from api.web import found_folder
from bench.measuring import Curves, Figure, Size

LIMIT: Final = 60_000
"""Bytes, as gzip packs them."""


async def measure(size: Size) -> list[Figure]:
    """Bytes of the page and of all that it names ÷ the limit."""
    loaded = _loaded()
    kilobytes = ", ".join(f"{name} {bytes_ / 1000:.1f}" for name, bytes_ in loaded)
    ratio = sum(bytes_ for _, bytes_ in loaded) / LIMIT
    return [
        Figure(
            "client",
            f"the web client's first load, packed with gzip ÷ {LIMIT / 1000:g} kB",
            [ratio], first=1, then=0.8, at_least=False, spent=f"in kB: {kilobytes}",
        )
    ]  # fmt: skip


async def curve(size: Size) -> Curves:
    """Bytes, over the files that are loaded."""
    curves = Curves("The web client's first load", "files", "kB")
    loaded = [bytes_ for _, bytes_ in _loaded()]
    for count in range(1, len(loaded) + 1):
        curves.add("gzip", count, sum(loaded[:count]) / 1000)
    return curves


def _loaded() -> list[tuple[str, int]]:
    """The page and what it names, each with its bytes on the way."""
    folder = found_folder() / "client"
    page = folder / "index.html"
    if not page.is_file():
        raise RuntimeError("The web client is not built: bin/setup")
    named = re.findall(r'(?:src|href)="/([^"]+)"', page.read_text(encoding="utf-8"))
    return [(path.name, _bytes(path)) for path in (page, *(folder / name for name in named))]


def _bytes(path: Path) -> int:
    packed = path.with_name(path.name + ".gz")
    return (packed if packed.is_file() else path).stat().st_size
