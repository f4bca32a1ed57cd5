"""Workbooks for tests: as Excel writes them, in both formats, and as nobody should."""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import xlsxwriter
from defusedxml import ElementTree

Row = Sequence[str | float | date | None]


def xlsx(*rows: Row, others: Mapping[str, Sequence[Row]] | None = None, **options: Any) -> bytes:
    """A sheet of these rows, dates as dates, and `others` behind it. Text that begins with "=" is a formula, with the
    text behind "|" as its stored value ("#N/A": an error; none: it was never worked out); behind an apostrophe, as
    Excel has it, it is text. `options` are the library's: `date_1904`."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True, **options}) as book:
        day = book.add_format({"num_format": "dd/mm/yyyy"})
        for name, sheet in {"Feuil1": rows, **(others or {})}.items():
            made = book.add_worksheet(name)
            for n, row in enumerate(sheet):
                for at, cell in enumerate(row):
                    if isinstance(cell, date):
                        made.write_datetime(n, at, cell, day)
                    elif isinstance(cell, str) and cell.startswith("="):
                        formula, _, stored = cell.partition("|")
                        made.write_formula(n, at, formula, None, stored)
                    elif isinstance(cell, str):
                        made.write_string(n, at, cell.removeprefix("'"))
                    elif isinstance(cell, bool):
                        made.write_boolean(n, at, cell)
                    elif cell is not None:
                        made.write_number(n, at, cell)
    return file.getvalue()


def bars(book: bytes) -> tuple[str, list[tuple[str | None, float | None]]]:
    """What the chart itself holds, for programs that reckon nothing: what is drawn, and each bar's label and length."""
    with zipfile.ZipFile(io.BytesIO(book)) as parts:
        series = ElementTree.fromstring(parts.read("xl/charts/chart1.xml")).find(f".//{_CHART}ser")
    assert series is not None

    def points(path: str) -> dict[int, str]:
        cache = series.find(path)
        assert cache is not None, path
        found = {int(point.attrib["idx"]): point.findtext(f"{_CHART}v") or "" for point in cache.iter(f"{_CHART}pt")}
        count = cache.find(f"{_CHART}ptCount")
        assert count is not None and all(at < int(count.attrib["val"]) for at in found)
        return found

    labels = points(f"{_CHART}cat/{_CHART}strRef/{_CHART}strCache")
    lengths = points(f"{_CHART}val/{_CHART}numRef/{_CHART}numCache")
    (name,) = points(f"{_CHART}tx/{_CHART}strRef/{_CHART}strCache").values()
    return name, [(labels.get(at), float(lengths[at]) if at in lengths else None) for at in sorted({*labels, *lengths})]


_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"


def changed(book: bytes, part: str, change: Callable[[bytes], bytes]) -> bytes:
    """The same workbook with another part of that name."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name == part else old.read(name))
    return file.getvalue()


def encrypted(book: bytes) -> bytes:
    """The same workbook, said to be encrypted in each entry of its archive."""
    made = bytearray(book)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = made.find(signature)
        while at >= 0:
            made[at + flags] |= 1
            at = made.find(signature, at + 4)
    return bytes(made)


def xls(*rows: Row) -> bytes:
    """A sheet of these rows as Excel 97 wrote it: BIFF8 records in a compound file."""
    sheet = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 0, 0, 0))
    for n, row in enumerate(rows):
        for at, cell in enumerate(row):
            if isinstance(cell, date):
                days = float(cell.toordinal() - date(1899, 12, 30).toordinal())
                sheet += _record(0x0203, struct.pack("<HHHd", n, at, 1, days))
            elif isinstance(cell, str):
                text = struct.pack("<HB", len(cell), 1) + cell.encode("utf-16-le")
                sheet += _record(0x0204, struct.pack("<HHH", n, at, 0) + text)
            elif isinstance(cell, bool):
                sheet += _record(0x0205, struct.pack("<HHHBB", n, at, 0, cell, 0))
            elif cell is not None:
                sheet += _record(0x0203, struct.pack("<HHHd", n, at, 0, float(cell)))
    sheet += _record(0x000A)
    before = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0)) + _record(0x0042, b"\xb0\x04")
    # Two styles: general, and a date (Excel's own format 14).
    for number_format in (0, 14):
        before += _record(0x00E0, struct.pack("<HHHB", 0, number_format, 0, 0) + bytes(13))
    name = b"Feuil1"
    start = len(before) + 4 + 8 + len(name) + 4
    before += _record(0x0085, struct.pack("<IBBBB", start, 0, 0, len(name), 0) + name) + _record(0x000A)
    return _compound(before + sheet)


def _record(kind: int, data: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def _compound(stream: bytes) -> bytes:
    """A compound file with one stream, "Workbook"; short streams are kept elsewhere, so it is made long enough."""
    stream += bytes(max(4096 - len(stream), -len(stream) % 512))
    sectors = len(stream) // 512
    end, free, of_the_table = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
    assert sectors + 2 <= 128, "one sector holds the whole table"
    table = [of_the_table, end, *range(3, sectors + 2), end]
    table += [free] * (128 - len(table))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, end, 0, end, 0) + struct.pack("<I", 0)
    header += struct.pack("<I", free) * 108

    def entry(name: str, kind: int, child: int, first: int, size: int) -> bytes:
        wide = (name + "\0").encode("utf-16-le") if name else b""
        made = wide.ljust(64, b"\0") + struct.pack("<HBBIII", len(wide), kind, 1, free, free, child)
        return made + bytes(36) + struct.pack("<IQ", first, size)

    folder = (
        entry("Root Entry", 5, 1, end, 0) + entry("Workbook", 2, free, 2, len(stream)) + 2 * entry("", 0, free, 0, 0)
    )
    return header + struct.pack("<128I", *table) + folder + stream
