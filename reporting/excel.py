"""Lists as files: a workbook for people, or text for programs. Rows are written as they come, so that a file may be
much larger than the memory that writes it. Numbers are numbers and dates are dates (G5); what people typed is text and
stays text, whatever it begins with."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol
from xml.sax.saxutils import escape

import xlsxwriter
from xlsxwriter.utility import xl_col_to_name, xl_range
from xlsxwriter.worksheet import Worksheet

from domain import money
from domain.calendar import PARIS
from domain.texts import Locale, Text

Cell = str | int | datetime | date | Decimal | None
"""What a cell holds: text, an amount in cents, an instant, a day, a share of one (a percentage), or nothing."""


class Kind(StrEnum):
    """What the cells of a column hold."""

    TEXT = "TEXT"
    AMOUNT = "AMOUNT"
    INSTANT = "INSTANT"
    DAY = "DAY"
    PERCENTAGE = "PERCENTAGE"
    COUNT = "COUNT"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width` is in characters; a totalled one ends with the sum of its amounts. A workbook and text have
    each cell as it is, but that whole numbers are cents unless it counts; a file with types goes by `kind`."""

    heading: Text
    width: int
    kind: Kind = Kind.TEXT
    is_totalled: bool = False

    @property
    def counts(self) -> bool:
        """Whether its whole numbers are numbers, and no cents."""
        return self.kind is Kind.COUNT


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars on a sheet of their own: one for each of the first rows, called by the cell of column `labels` and as long
    as that of column `lengths`, which holds numbers."""

    labels: int
    lengths: int


class ListFile(Protocol):
    """A file under way."""

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows, each with a cell for every column."""

    def close(self) -> None:
        """Complete the file."""


class Workbook:
    """An Excel workbook: headings that stay in sight and filter, and a last row of totals that follows the filter.
    Instants are shown in Europe/Paris. Rows that one sheet cannot hold go on to another."""

    def __init__(
        self,
        path: Path,
        title: Text,
        columns: Sequence[Column],
        locale: Locale,
        *,
        made_at: datetime,
        rows_per_sheet: int = 1_000_000,
        chart: Chart | None = None,
    ) -> None:
        self._title = title.in_locale(locale)
        self._sheet_name = _NOT_IN_A_NAME.sub(" ", self._title)[:_LONGEST_NAME].strip()
        self._columns = columns
        self._locale = locale
        self._rows_per_sheet = rows_per_sheet
        self._chart = chart
        self._bars: list[tuple[Cell, Cell]] = []
        self._book = xlsxwriter.Workbook(path, {"constant_memory": True, "tmpdir": str(path.parent)})
        self._book.set_properties({"title": self._title, "created": made_at.astimezone(UTC).replace(tzinfo=None)})
        self._heading = self._book.add_format(
            {"bold": True, "text_wrap": True, "valign": "vcenter", "bg_color": "#E8ECF1", "bottom": 1}
        )
        self._text = self._book.add_format({"num_format": _AS_TEXT})
        self._money = self._book.add_format({"num_format": _MONEY})
        self._instant = self._book.add_format({"num_format": _INSTANT, "align": "left"})
        self._day = self._book.add_format({"num_format": _DAY, "align": "left"})
        self._percentage = self._book.add_format({"num_format": _PERCENTAGE})
        self._total = self._book.add_format({"bold": True, "top": 1})
        self._total_amount = self._book.add_format({"bold": True, "top": 1, "num_format": _MONEY})
        self._count = self._book.add_format({"num_format": _COUNT})
        self._total_count = self._book.add_format({"bold": True, "top": 1, "num_format": _COUNT})
        # What stands before a cell's value: its column, between which and the style the row's number goes.
        self._places = [f'<c r="{xl_col_to_name(n)}' for n in range(len(columns))]
        self._styles = {
            kind: f'" s="{style._get_xf_index()}"'
            for kind, style in (
                (str, self._text),
                (int, self._money),
                (datetime, self._instant),
                (date, self._day),
                (Decimal, self._percentage),
            )
        }
        self._counted = f'" s="{self._count._get_xf_index()}"'
        self._sheet: Any = None
        self._row = 0
        self._sums: list[int] = []
        self._begin_sheet()

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows, each with a cell for every column."""
        for cells in rows:
            if self._row == self._rows_per_sheet:
                self._end_sheet()
                self._begin_sheet()
            self._row += 1
            if self._chart is not None and len(self._bars) < _MOST_BARS:
                self._bars.append((cells[self._chart.labels], cells[self._chart.lengths]))
            self._sheet.write_plain_row(self._row, self._row_as_xml(cells))

    def close(self) -> None:
        """Complete the file."""
        self._end_sheet()
        if self._chart is not None and self._bars:
            self._draw(self._chart)
        self._book.close()

    def _draw(self, of: Chart) -> None:
        """Below each other, as the rows are. What the bars say stands in the chart too, for programs that read no
        cells for it."""
        first, rows = self._book.worksheets()[0].get_name(), len(self._bars)
        chart = self._book.add_chart({"type": "bar"})
        chart.add_series(
            {
                "name": [first, 0, of.lengths],
                "categories": [first, 1, of.labels, rows, of.labels],
                "values": [first, 1, of.lengths, rows, of.lengths],
                "name_data": [_Word(self._columns[of.lengths].heading.in_locale(self._locale))],
                "categories_data": [_Word(_NOT_IN_XML.sub(" ", str(label or ""))) for label, _ in self._bars],
                "values_data": [self._plain(of.lengths, length) for _, length in self._bars],
                "fill": {"color": "#2F5D8A"},
                "gap": 60,
            }
        )
        chart.set_title({"name": self._title, "overlay": False})
        chart.set_legend({"none": True})
        chart.set_y_axis({"reverse": True})
        chart.set_x_axis({"major_gridlines": {"visible": True, "line": {"color": "#DFE3EA"}}})
        sheet = self._book.add_chartsheet(_CHART.in_locale(self._locale))
        sheet.set_chart(chart)

    def _plain(self, column: int, cell: Cell) -> object:
        """As the cell shows it."""
        return cell / 100 if isinstance(cell, int) and not self._columns[column].counts else cell

    def _begin_sheet(self) -> None:
        number = len(self._book.worksheets()) + 1
        name = self._sheet_name if number == 1 else f"{self._sheet_name[: _LONGEST_NAME - 6]} ({number})"
        sheet = self._book.add_worksheet(name, worksheet_class=_PlainSheet)
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        sheet.repeat_columns(0, 1)
        sheet.set_landscape()
        sheet.set_paper(_A4)
        sheet.fit_to_pages(2, 0)
        sheet.set_footer("&C&P / &N")
        # A reference of digits is text on purpose, and needs no warning in its corner.
        sheet.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})
        for n, column in enumerate(self._columns):
            sheet.set_column(n, n, column.width)
        sheet.set_row(0, _HEADING_POINTS)
        for n, column in enumerate(self._columns):
            sheet.write_string(0, n, column.heading.in_locale(self._locale), self._heading)
        self._sheet, self._row, self._sums = sheet, 0, [0] * len(self._columns)

    def _end_sheet(self) -> None:
        last = len(self._columns) - 1
        self._sheet.autofilter(0, 0, self._row, last)
        if not self._row or not any(column.is_totalled for column in self._columns):
            return
        for n, column in enumerate(self._columns):
            if column.is_totalled:
                formula = f"=SUBTOTAL(109,{xl_range(1, n, self._row, n)})"
                style, sum_ = (
                    (self._total_count, self._sums[n]) if column.counts else (self._total_amount, self._sums[n] / 100)
                )
                self._sheet.write_formula(self._row + 1, n, formula, style, sum_)
            else:
                text = _TOTAL.in_locale(self._locale) if n == 0 else ""
                self._sheet.write(self._row + 1, n, text, self._total)

    def _row_as_xml(self, cells: Sequence[Cell]) -> str:
        """The cells as the file has them. The library writes a row cell by cell, through an object for each, and takes
        several times as long; and it knows text that is markup, which no text of ours is."""
        number, styles = self._row + 1, self._styles
        written = []
        for n, (place, cell) in enumerate(zip(self._places, cells, strict=True)):
            # A datetime is a date too, so that the order matters.
            if cell is None:
                continue
            if isinstance(cell, str):
                written.append(f"{place}{number}{styles[str]}{_text_as_xml(cell)}")
            elif isinstance(cell, int):
                self._sums[n] += cell
                if self._columns[n].counts:
                    written.append(f"{place}{number}{self._counted}><v>{cell}</v></c>")
                else:
                    written.append(f"{place}{number}{styles[int]}><v>{cell / 100}</v></c>")
            elif isinstance(cell, datetime):
                written.append(f"{place}{number}{styles[datetime]}><v>{_days(cell)}</v></c>")
            elif isinstance(cell, Decimal):
                written.append(f"{place}{number}{styles[Decimal]}><v>{cell:f}</v></c>")
            else:
                written.append(f"{place}{number}{styles[date]}><v>{cell.toordinal() - _DAY_ZERO}</v></c>")
        return "".join(written)


class _Word(str):
    """Text of a chart that stays text: the library takes "12" for a number, and even "nan"."""

    __slots__ = ()

    def __float__(self) -> float:
        raise ValueError


class _PlainSheet(Worksheet):  # type: ignore[misc]
    """A sheet whose text is never markup, and that takes rows which are written already."""

    def write_plain_row(self, row: int, cells: str) -> None:
        """Add a whole row, below all others, made of XML."""
        if self.table:
            self._write_single_row(row)
        self.fh.write(f'<row r="{row + 1}">{cells}</row>')
        # Programs believe what the sheet says of its size.
        self.dim_rowmax = row

    def _xml_rich_inline_string(self, string: str, attributes: Sequence[tuple[str, object]] = ()) -> None:
        """The library takes text between `<r>` and `</r>` for its own markup and writes it as it stands, formulas
        included. No text of ours is markup."""
        self._xml_inline_string(string, True, attributes)


class SemicolonText:
    """Text with semicolons between its columns, in UTF-8 with the mark by which Excel knows it. Amounts and dates are
    written as this language's Excel reads them; text that a spreadsheet would take for a formula begins with an
    apostrophe."""

    def __init__(self, path: Path, columns: Sequence[Column], locale: Locale) -> None:
        self._point = "," if locale is Locale.FR else "."
        self._file = path.open("w", encoding="utf-8-sig", newline="")
        self._lines = csv.writer(self._file, delimiter=";", lineterminator="\r\n")
        self._lines.writerow([column.heading.in_locale(locale) for column in columns])
        self._counts = [column.counts for column in columns]

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows, each with a cell for every column."""
        self._lines.writerows(
            [
                str(cell) if counts and cell is not None else self._written(cell)
                for counts, cell in zip(self._counts, cells, strict=True)
            ]
            for cells in rows
        )

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def _written(self, cell: Cell) -> str:
        if cell is None:
            return ""
        if isinstance(cell, str):
            return f"'{cell}" if cell.lstrip()[:1] in _BEGINS_A_FORMULA or cell[:1] in _BEGINS_A_FORMULA else cell
        if isinstance(cell, int):
            return money.decimal(cell).replace(".", self._point)
        if isinstance(cell, datetime):
            return f"{_on_the_wall(cell):%d/%m/%Y %H:%M}"
        if isinstance(cell, Decimal):
            return f"{cell:.2%}".replace(".", self._point)
        return f"{cell:%d/%m/%Y}"


_MONEY: Final = "#,##0.00 €"
_COUNT: Final = "#,##0"
_INSTANT: Final = "dd/mm/yyyy hh:mm"
_DAY: Final = "dd/mm/yyyy"
_PERCENTAGE: Final = "0.00%"
_A4: Final = 9
_AS_TEXT: Final = 49
"""Excel's own number for the format "@"."""

_HEADING_POINTS: Final = 32
_DAY_ZERO: Final = date(1899, 12, 30).toordinal()
_SECONDS_A_DAY: Final = 86_400
_LONGEST: Final = 32_767
"""UTF-16 units that a cell holds."""

_ODD: Final = re.compile(r"[&<>_\x00-\x1f\x7f-\x9f\ufffe\uffff]")
"""What text in a workbook is not written with as it stands."""

_NOT_IN_XML: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")

_TOTAL: Final = Text("Total", "Total")
_CHART: Final = Text("Graphique", "Chart")
_NOT_IN_A_NAME: Final = re.compile(r"[\[\]:*?/\\\s]+")
_LONGEST_NAME: Final = 31
"""Characters of a sheet's name."""

_MOST_BARS: Final = 40
"""More than a page shows legibly."""

_BEGINS_A_FORMULA: Final = tuple("=+-@＝＋－＠\t\r\n")


@lru_cache(maxsize=10_000)
def _text_as_xml(text: str) -> str:
    """Behind a cell's place and style: its text, spaces at both ends included."""
    if len(text) > _LONGEST // 2:
        text = text.encode("utf-16-le")[: 2 * _LONGEST].decode("utf-16-le", "ignore")
    spaces = ' xml:space="preserve"' if text.strip() != text else ""
    if _ODD.search(text):
        text = escape(Worksheet._escape_control_characters(text))
    return f' t="inlineStr"><is><t{spaces}>{text}</t></is></c>'


def _days(at: datetime) -> float:
    """As spreadsheets count time, in days of the clocks in Paris."""
    wall = at.astimezone(PARIS)
    seconds = wall.hour * 3600 + wall.minute * 60 + wall.second + wall.microsecond / 1_000_000
    return wall.toordinal() - _DAY_ZERO + seconds / _SECONDS_A_DAY


def _on_the_wall(at: datetime) -> datetime:
    """What the clocks in Paris showed: a spreadsheet knows no zones."""
    return at.astimezone(PARIS).replace(tzinfo=None)
