"""Reads one workbook, from its input to its output, in a process of its own: what a hostile file does to it, it does to
nothing else. It stands alone: it is started by its path, with limits and without anything in its environment.

The answer is JSON: `rows`, each with its number and its cells (text, a number, true or false, {"day": …},
{"error": true} or null), or `wrong`, a word of `tasks.imports`."""

import io
import json
import re
import resource
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from typing import Any, Final
from xml.parsers import expat

import python_calamine

_LIMITS: Final = (
    (resource.RLIMIT_AS, 768 * 1024 * 1024),
    (resource.RLIMIT_CPU, 10),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
)
_MOST_ENTRIES: Final = 1_000
_MOST_UNPACKED: Final = 200 * 1024 * 1024
_MOST_RATIO: Final = 200
_SMALL: Final = 1024 * 1024
"""What unpacks to less may be packed as tightly as it likes."""

_MOST_CELLS: Final = 50_000_000
"""That a sheet may say it has: whole columns with a format are some millions."""

_MOST_GIVEN: Final = 500_000
"""Cells of the rows that hold something: who asked for them reads them all."""

_MOST_ROWS: Final = 100_000
_MOST_COLUMNS: Final = 100
_LONGEST: Final = 1_000
"""Characters of a cell: longer text is refused anyway."""

_MOST_TEXT: Final = 10_000_000
"""Characters of all cells: one text may stand in many of them."""

_ERROR: Final = {"error": True}
_PLACE: Final = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_DIMENSION: Final = re.compile(rb'<(?:\w+:)?dimension\s[^>]*?ref="(?:[A-Z]{1,3}[0-9]+:)?([A-Z]{1,3})([0-9]+)"')


class Wrong(Exception):
    """The file is not read; the message is the word that says why."""


def rows_of(content: bytes) -> list[tuple[int, list[Any]]]:
    """The rows of the first sheet that hold something. Raises Wrong, and whatever breaks."""
    if content.startswith(b"PK"):
        _check_archive(content)
    with python_calamine.load_workbook(io.BytesIO(content)) as book:
        sheet = book.get_sheet_by_index(0)
    if sheet.end is not None and (sheet.end[0] >= _MOST_ROWS or sheet.end[1] >= _MOST_COLUMNS):
        raise Wrong("too_large")
    rows: dict[int, list[Any]] = {}
    length = given = 0
    for number, cells in enumerate(sheet.to_python(skip_empty_area=False), start=1):
        read = [_read(cell) for cell in cells]
        length += sum(len(cell) for cell in read if isinstance(cell, str))
        if any(cell is not None for cell in read):
            given += len(read)
            rows[number] = read
        if length > _MOST_TEXT or given > _MOST_GIVEN:
            raise Wrong("too_large")
    for number, at in _errors(content) if content.startswith(b"PK") else ():
        row = rows.setdefault(number, [])
        row += [None] * (at + 1 - len(row))
        row[at] = _ERROR
    if sum(map(len, rows.values())) > _MOST_GIVEN:
        raise Wrong("too_large")
    return sorted(rows.items())


def _check_archive(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if any(entry.flag_bits & 1 for entry in entries):
            raise Wrong("locked")
        if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > _MOST_UNPACKED:
            raise Wrong("too_large")
        if any(entry.file_size > max(_SMALL, _MOST_RATIO * entry.compress_size) for entry in entries):
            raise Wrong("too_large")
        for entry in entries:
            if entry.filename.startswith("xl/worksheets/"):
                with archive.open(entry) as file:
                    said = _DIMENSION.search(file.read(64 * 1024))
                if said and _column(said[1]) * int(said[2]) > _MOST_CELLS:
                    raise Wrong("too_large")


def _errors(content: bytes) -> list[tuple[int, int]]:
    """Where the first sheet has errors: each one's row, counted from 1, and its column, from 0. Such a cell has an
    error for its value, or a formula and no value: whoever wrote the file did not work it out. Without this it would be
    taken for an empty one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = {name.lower(): name for name in archive.namelist()}
        sheets: list[str] = []
        targets: dict[str, str] = {}

        def sheet(tag: str, attributes: dict[str, str]) -> None:
            if tag == "sheet":
                sheets.extend(value for name, value in attributes.items() if _local(name) == "id")

        def target(tag: str, attributes: dict[str, str]) -> None:
            if tag == "Relationship":
                targets[attributes["Id"]] = attributes["Target"]

        _parse(archive, names["xl/workbook.xml"], sheet)
        _parse(archive, names["xl/_rels/workbook.xml.rels"], target)
        path = targets[sheets[0]].lstrip("/")
        found = _Errors()
        part = path if path.startswith("xl/") else f"xl/{path}"
        _parse(archive, names[part.lower()], found.begin, found.text, found.end)
    return found.places


class _Errors:
    """Finds the errors of a sheet while it is parsed."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self._row = self._at = 0
        self._kind: str | None = None
        self._in_value = self._formula = self._value = False

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "row":
            self._row, self._at = int(attributes.get("r", self._row + 1)), -1
        elif tag == "c":
            self._at += 1
            place = _PLACE.fullmatch(attributes.get("r", ""))
            if place:
                self._at, self._row = _column(place[1].encode()) - 1, int(place[2])
            self._kind = attributes.get("t")
            self._formula = self._value = False
        elif tag == "f":
            self._formula = True
        elif tag == "v":
            self._in_value = True

    def text(self, text: str) -> None:
        if self._in_value and not text.isspace():
            self._value = True

    def end(self, tag: str) -> None:
        if tag == "v":
            self._in_value = False
        # The value of a formula that gives an empty text is empty, and its kind is "str".
        elif tag == "c" and (self._kind == "e" or (self._formula and not self._value and self._kind != "str")):
            if self._row > _MOST_ROWS or self._at >= _MOST_COLUMNS or len(self.places) >= _MOST_GIVEN:
                raise Wrong("too_large")
            self.places.append((self._row, self._at))


def _parse(
    archive: zipfile.ZipFile,
    name: str,
    begin: Callable[[str, dict[str, str]], None],
    text: Callable[[str], None] | None = None,
    end: Callable[[str], None] | None = None,
) -> None:
    """Piece by piece. Raises Wrong for a document type: nothing is expanded."""

    def doctype(*_: object) -> None:
        raise Wrong("unreadable")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = lambda tag, attributes: begin(_local(tag), attributes)
    parser.CharacterDataHandler = text
    if end is not None:
        parser.EndElementHandler = lambda tag: end(_local(tag))
    with archive.open(name) as file:
        parser.ParseFile(file)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


def _read(cell: Any) -> Any:
    # A datetime is a date too. A boolean is a number.
    if isinstance(cell, date):
        return {"day": cell.isoformat()[:10]}
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, int | float):
        return float(cell)
    return str(cell).strip()[:_LONGEST] or None


def _main() -> None:
    for what, most in _LIMITS:
        allowed = resource.getrlimit(what)[1]
        limit = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(what, (limit, limit))
    answer: dict[str, Any]
    try:
        answer = {"rows": rows_of(sys.stdin.buffer.read())}
    except Wrong as wrong:
        answer = {"wrong": str(wrong)}
    except python_calamine.PasswordError:
        answer = {"wrong": "locked"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main()
