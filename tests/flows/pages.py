"""What a PDF says, read back from the glyphs of its pages, as Typst writes them."""

import re
import zlib


def texts(made: bytes) -> str:
    """What its pages say, in order and without spaces."""
    objects = {int(number): body for number, body in re.findall(rb"(\d+) 0 obj(.*?)endobj", made, re.DOTALL)}
    said = []
    for page in filter(_is_page, objects.values()):
        fonts = _fonts(objects, objects[_reference(page, b"Resources")])
        said += _shown(_content(objects[_reference(page, b"Contents")]), fonts)
    assert said, "it has text"
    return squeezed("".join(said))


def lines(made: bytes) -> list[tuple[float, str]]:
    """Every line of every page: how far from the left edge it begins, in points, and what it says. A word may break
    over several."""
    objects = {int(number): body for number, body in re.findall(rb"(\d+) 0 obj(.*?)endobj", made, re.DOTALL)}
    found = []
    for page in filter(_is_page, objects.values()):
        fonts = _fonts(objects, objects[_reference(page, b"Resources")])
        _, *parts = re.split(rb"1 0 0 -1 ([\d.]+) [\d.]+ cm", _content(objects[_reference(page, b"Contents")]))
        for at, line in zip(parts[::2], parts[1::2], strict=True):
            found.append((float(at), "".join(_shown(line, fonts)).replace("\u200b", "")))
    return found


def pages(made: bytes) -> int:
    """How many pages it has."""
    return len(re.findall(rb"/Type\s*/Page\b", made))


def squeezed(words: str) -> str:
    """Without spaces of any kind, which a page shows by moving on."""
    return re.sub(r"\s", "", words)


def _is_page(body: bytes) -> bool:
    return re.search(rb"/Type\s*/Page\b", body) is not None


def _reference(body: bytes, name: bytes) -> int:
    found = re.search(rb"/" + name + rb" (\d+) 0 R", body)
    assert found, name
    return int(found[1])


def _content(body: bytes) -> bytes:
    found = re.search(rb"stream\r?\n(.*?)endstream", body, re.DOTALL)
    assert found, "a stream"
    return zlib.decompressobj().decompress(found[1])


def _fonts(objects: dict[int, bytes], resources: bytes) -> dict[bytes, dict[int, str]]:
    """Each font's table, by its name on the page."""
    named = re.search(rb"/Font<<(.*?)>>", resources)
    assert named, "it has fonts"
    return {
        name: _characters(_content(objects[_reference(objects[int(number)], b"ToUnicode")]).decode("latin-1"))
        for name, number in re.findall(rb"/(\w+) (\d+) 0 R", named[1])
    }


def _characters(table: str) -> dict[int, str]:
    """Glyph → characters, as a font's table says."""
    found: dict[int, str] = {}
    for block in re.findall(r"beginbfchar(.*?)endbfchar", table, re.DOTALL):
        for glyph, text in re.findall(r"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", block):
            found[int(glyph, 16)] = bytes.fromhex(text).decode("utf-16-be")
    for block in re.findall(r"beginbfrange(.*?)endbfrange", table, re.DOTALL):
        for low, high, text in re.findall(r"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", block):
            for n, glyph in enumerate(range(int(low, 16), int(high, 16) + 1)):
                found[glyph] = chr(ord(bytes.fromhex(text).decode("utf-16-be")) + n)
    return found


def _shown(page: bytes, fonts: dict[bytes, dict[int, str]]) -> list[str]:
    """What a page shows, in order, each glyph by its number in the font chosen last."""
    said, table, at = [], dict[int, str](), 0
    while found := re.compile(rb"/(\w+) [\d.]+ Tf|\(").search(page, at):
        at = found.end()
        if found[1]:
            table = fonts[found[1]]
            continue
        literal, at = _literal(page, at)
        said += [table.get(literal[n] * 256 + literal[n + 1], "\ufffd") for n in range(0, len(literal) - 1, 2)]
    return said


def _literal(page: bytes, at: int) -> tuple[bytes, int]:
    """A string whose parenthesis was opened just before, and where it ends; pairs of parentheses in it are plain."""
    plain, depth = bytearray(), 1
    while depth:
        found = re.compile(rb"\\([0-7]{1,3}|.)|.", re.DOTALL).match(page, at)
        assert found, "it ends"
        at, piece = found.end(), found[0]
        depth += (piece == b"(") - (piece == b")")
        plain += _unescaped(found[1]) if found[1] else piece
    return bytes(plain[:-1]), at


def _unescaped(what: bytes) -> bytes:
    named = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
    return bytes([int(what, 8)]) if what.isdigit() else named.get(what, what)
