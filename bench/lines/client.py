"""What the web client loads, at first and for each role. The limit is 60 kB, which a telephone on a slow connection has
in a second or two."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from api.web import found_folder
from bench.measuring import Curves, Figure, Size

LIMIT: Final = 60_000
"""Bytes, as gzip packs them."""

AREAS: Final = {
    "signatory": "src/till/signatory.ts",
    "point of sale": "src/till/area.ts",
    "customer and member": "src/customer/area.ts",
    "issuer's staff": "src/issuer/area.ts",
}
"""What begins the screens of each role."""

_ENTRY: Final = "index.html"


async def measure(size: Size) -> list[Figure]:
    """Bytes of the page and of all that it names ÷ the limit; for each role the same, with the largest of its screens,
    when that is the first that is opened."""
    build = _Build()
    first = build.first()
    kilobytes = ", ".join(f"{name} {_kilobytes([name], build)}" for name in first)
    figures = [_figure("client", "the web client's first load", build, first, f"in kB: {kilobytes}")]
    for role, area in AREAS.items():
        screens = {screen: {*first, *build.needed(area, screen)} for screen in build.screens(area)}
        largest = max(screens, key=lambda screen: build.bytes_of(screens[screen]))
        whole = build.bytes_of(set().union(*screens.values()))
        said = f"{Path(largest).stem}; all {len(screens)} screens {whole / 1000:.1f} kB"
        name = f"client-{re.sub(r'[^a-z]+', '-', role)}"
        figures.append(_figure(name, f"the largest screen of the {role}, opened first,", build, screens[largest], said))
    return figures


async def curve(size: Size) -> Curves:
    """Bytes, over the files that are loaded at first."""
    curves, build = Curves("The web client's first load", "files", "kB"), _Build()
    loaded = build.first()
    for count in range(1, len(loaded) + 1):
        curves.add("gzip", count, build.bytes_of(loaded[:count]) / 1000)
    return curves


class _Build:
    """The built client: which file needs which."""

    def __init__(self) -> None:
        self._folder = found_folder() / "client"
        try:
            self._parts: Mapping[str, Any] = json.loads((self._folder / ".parts.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RuntimeError("The web client is not built: bin/setup") from None

    def first(self) -> list[str]:
        """The page, and what it names."""
        named = re.findall(r'(?:src|href)="/([^"]+)"', (self._folder / _ENTRY).read_text(encoding="utf-8"))
        return [_ENTRY, *named]

    def screens(self, area: str) -> list[str]:
        """The parts that an area loads one by one."""
        return [each for part in self._reached([area]) for each in self._parts[part].get("dynamicImports", ())]

    def needed(self, *parts: str) -> set[str]:
        """The files of these parts and of all that stands below them."""
        reached = [self._parts[part] for part in self._reached(parts)]
        return {name for part in reached for name in (part["file"], *part.get("css", ()))}

    def bytes_of(self, names: Iterable[str]) -> int:
        """On their way to a browser."""
        return sum(_packed(self._folder / name).stat().st_size for name in names)

    def _reached(self, parts: Iterable[str]) -> Iterator[str]:
        waiting, seen = list(parts), set[str]()
        while waiting:
            if (part := waiting.pop()) not in seen:
                seen.add(part)
                yield part
                waiting += self._parts[part].get("imports", ())


def _figure(name: str, what: str, build: _Build, files: Iterable[str], spent: str) -> Figure:
    says = f"{what} packed with gzip ÷ {LIMIT / 1000:g} kB"
    return Figure(
        name, says, [build.bytes_of(files) / LIMIT], first=1, then=0.8, at_least=False, spent=spent
    )  # fmt: skip


def _kilobytes(names: Iterable[str], build: _Build) -> str:
    return f"{build.bytes_of(names) / 1000:.1f}"


def _packed(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() else path
