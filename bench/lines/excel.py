"""Payment requests as a file. The limit of the workbook is xlsxwriter itself, row by row with constant memory: the same
values in the same formats, and nothing else. That of Parquet is pyarrow itself, with every column's values at hand in
the type that is written."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import xlsxwriter
from pyarrow.parquet import write_table

from bench.measuring import Curves, Figure, Size, ratios, taking_turns
from domain.jobs import JobKind
from domain.texts import Locale
from reporting.excel import Cell, Kind, Workbook
from reporting.parquet import TYPES, Parquet
from tasks.listings import LISTINGS

_ROWS_AT_ONCE = 500
"""As an export reads them."""


async def measure(size: Size) -> list[Figure]:
    """Rows for each CPU second ÷ xlsxwriter's."""
    rows = _rows(size.of(100_000, 5_000))
    ours, plain = await taking_turns(size.rounds, lambda: _ours(rows), lambda: _plain(rows))
    parquet, arrow = await taking_turns(size.rounds, lambda: _our_parquet(rows), lambda: _plain_parquet(rows))
    return [
        Figure(
            "excel",
            f"{len(rows):,} rows of {len(rows[0])} cells ÷ xlsxwriter with constant memory, per CPU second",
            ratios(ours, plain),
            first=1, then=6, at_least=True,
            spent=f"{sorted(ours)[len(ours) // 2]:.0f} and {sorted(plain)[len(plain) // 2]:.0f} rows a CPU second",
        ),
        Figure(
            "parquet",
            f"{len(rows):,} rows of {len(rows[0])} cells ÷ pyarrow with whole columns at hand, per CPU second",
            ratios(parquet, arrow),
            first=0.25, then=0.5, at_least=True,
            spent=f"{sorted(parquet)[len(parquet) // 2]:.0f} and {sorted(arrow)[len(arrow) // 2]:.0f} rows a CPU"
            " second",
        ),
    ]  # fmt: skip


async def curve(size: Size) -> Curves:
    """Rows for each CPU second, over rows."""
    curves = Curves("Payment requests as a workbook", "rows", "rows a CPU second")
    for count in (1_000, 5_000) if size.quick else (1_000, 10_000, 100_000):
        rows = _rows(count)
        curves.add("our workbook", count, await _ours(rows))
        curves.add("xlsxwriter", count, await _plain(rows))
    return curves


async def _ours(rows: Sequence[Sequence[Cell]]) -> float:
    listing = LISTINGS[JobKind.EXPORT_PAYMENT_REQUESTS]
    with TemporaryDirectory(prefix="escarcelle-bench-") as folder:
        path = Path(folder) / "list.xlsx"
        began = time.process_time()
        book = Workbook(path, listing.title, listing.columns, Locale.FR, made_at=datetime.now(UTC))
        book.write(rows)
        book.close()
        taken = time.process_time() - began
        assert path.stat().st_size, "there is a file"
    await asyncio.sleep(0)
    return len(rows) / taken


async def _our_parquet(rows: Sequence[Sequence[Cell]]) -> float:
    listing = LISTINGS[JobKind.EXPORT_PAYMENT_REQUESTS]
    with TemporaryDirectory(prefix="escarcelle-bench-") as folder:
        path = Path(folder) / "list.parquet"
        began = time.process_time()
        file = Parquet(path, listing.columns, Locale.FR)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            file.write(rows[start : start + _ROWS_AT_ONCE])
        file.close()
        taken = time.process_time() - began
        assert path.stat().st_size, "there is a file"
    await asyncio.sleep(0)
    return len(rows) / taken


async def _plain_parquet(rows: Sequence[Sequence[Cell]]) -> float:
    kinds = [column.kind for column in LISTINGS[JobKind.EXPORT_PAYMENT_REQUESTS].columns]
    columns = [
        [Decimal(cell).scaleb(-2) if kind is Kind.AMOUNT and isinstance(cell, int) else cell for cell in cells]
        for kind, cells in zip(kinds, zip(*rows, strict=True), strict=True)
    ]
    with TemporaryDirectory(prefix="escarcelle-bench-") as folder:
        began = time.process_time()
        arrays = [pa.array(cells, TYPES[kind]) for kind, cells in zip(kinds, columns, strict=True)]
        table = pa.table(arrays, names=[str(n) for n, _ in enumerate(arrays)])
        write_table(table, Path(folder) / "list.parquet", compression="zstd", row_group_size=8_000)
        taken = time.process_time() - began
    await asyncio.sleep(0)
    return len(rows) / taken


async def _plain(rows: Sequence[Sequence[Cell]]) -> float:
    with TemporaryDirectory(prefix="escarcelle-bench-") as folder:
        path = Path(folder) / "list.xlsx"
        began = time.process_time()
        book = xlsxwriter.Workbook(path, {"constant_memory": True, "tmpdir": folder})
        instant, amount = book.add_format({"num_format": "dd/mm/yyyy hh:mm"}), book.add_format({"num_format": "0.00"})
        sheet = book.add_worksheet()
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(y, x, cell)
                elif isinstance(cell, int):
                    sheet.write_number(y, x, cell / 100, amount)
                elif isinstance(cell, datetime):
                    sheet.write_datetime(y, x, cell.replace(tzinfo=None), instant)
                elif cell is not None:
                    sheet.write_datetime(y, x, cell, instant)
        book.close()
        taken = time.process_time() - began
    await asyncio.sleep(0)
    return len(rows) / taken


def _rows(count: int) -> list[tuple[Cell, ...]]:
    """As an export of payment requests has them."""
    begins = datetime(2026, 1, 1, 8, tzinfo=UTC)
    return [
        (
            begins + timedelta(minutes=n),
            f"REF{20260101 + n % 28}{n % 1000:03}",
            "Paiement immédiat",
            "Validé",
            4000 + n % 7000,
            3000 + n % 4000,
            3000 + n % 4000,
            3000 + n % 4000,
            1000 + n % 3000,
            f"P{n % 40:03}",
            f"Canoë Kayak Club Orléans – base nautique {n % 40}",
            f"Location de {n % 9} canoës, demi-journée",
            f"CLIENT-{n % 5000:05}",
            None,
            f"client{n % 5000}@example.com",
            f"foo{n:07}",
            begins + timedelta(minutes=n - 30),
            begins + timedelta(minutes=n + 15),
            None,
        )
        for n in range(count)
    ]
