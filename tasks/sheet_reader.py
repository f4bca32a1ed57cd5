"""Reads one workbook, from its input to its output, in a process of its own: what a hostile file does to it, it does to
nothing else. It stands alone: it is started by its path, with limits and without anything in its environment.

The answer is JSON: `rows`, each with its number and its cells (text, a number, {"day": …} or null), or `wrong`, a word
of `tasks.imports`."""

import io
import json
import re
import resource
import sys
import zipfile
from datetime import date
from typing import Any, Final

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

_MOST_ROWS: Final = 100_000
_MOST_COLUMNS: Final = 100
_LONGEST: Final = 1_000
"""Characters of a cell: longer text is refused anyway."""

_MOST_TEXT: Final = 10_000_000
"""Characters of all cells: one text may stand in many of them."""

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
    rows: list[tuple[int, list[Any]]] = []
    length = 0
    for number, cells in enumerate(sheet.to_python(skip_empty_area=False), start=1):
        read = [_read(cell) for cell in cells]
        length += sum(len(cell) for cell in read if isinstance(cell, str))
        if length > _MOST_TEXT:
            raise Wrong("too_large")
        if any(cell is not None for cell in read):
            rows.append((number, read))
    return rows


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


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


def _read(cell: Any) -> Any:
    # A datetime is a date too. A boolean is a number.
    if isinstance(cell, date):
        return {"day": cell.isoformat()[:10]}
    if isinstance(cell, int | float) and not isinstance(cell, bool):
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
