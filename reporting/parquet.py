"""Lists as Parquet, for what reckons with many rows: amounts are decimals of euros, instants are in UTC, and every
column has one type. Rows leave in groups, so that a file may be much larger than the memory that writes it."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from domain import calendar
from domain.texts import Locale
from reporting.excel import Cell, Column, Kind

TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.AMOUNT: pa.decimal128(18, 2),
    Kind.INSTANT: pa.timestamp("us", tz="UTC"),
    Kind.DAY: pa.date32(),
    Kind.PERCENTAGE: pa.decimal128(9, 6),
    Kind.COUNT: pa.int64(),
}
"""What a column of each kind is for programs."""


class Parquet:
    """A file of typed columns, named as this language names them. A day in a column of instants is told by the instant
    at which it ends."""

    def __init__(self, path: Path, columns: Sequence[Column], locale: Locale, *, rows_per_group: int = 8_000) -> None:
        self._kinds = [column.kind for column in columns]
        self._schema = pa.schema([(column.heading.in_locale(locale), TYPES[column.kind]) for column in columns])
        self._writer = ParquetWriter(path, self._schema, compression="zstd")
        self._rows_per_group = rows_per_group
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows, each with a cell for every column."""
        columns = list(zip(*rows, strict=True))
        if not columns:
            return
        arrays = [
            pa.array([_value(cell, kind) for cell in cells], TYPES[kind])
            for kind, cells in zip(self._kinds, columns, strict=True)
        ]
        batch = pa.record_batch(arrays, schema=self._schema)
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= self._rows_per_group:
            self._write_group()

    def close(self) -> None:
        """Complete the file."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=self._rows)
        self._waiting, self._rows = [], 0


_MICROS: Final = Decimal("0.000001")


def _value(cell: Cell, kind: Kind) -> object:
    if isinstance(cell, int):
        return cell if kind is Kind.COUNT else Decimal(cell).scaleb(-2)
    if isinstance(cell, Decimal):
        return cell.quantize(_MICROS)
    if kind is Kind.INSTANT and isinstance(cell, date) and not isinstance(cell, datetime):
        return calendar.end_of_day(cell)
    return cell
