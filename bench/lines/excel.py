"""Payment requests as a workbook. The limit is xlsxwriter itself, row by row with constant memory: the same values in
the same formats, and nothing else."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import xlsxwriter

from bench.measuring import Curves, Figure, Size, ratios, taking_turns
from domain.jobs import JobKind
from domain.texts import Locale
from reporting.excel import Cell, Workbook
from tasks.listings import LISTINGS


async def measure(size: Size) -> list[Figure]:
    """Rows for each CPU second ÷ xlsxwriter's."""
    rows = _rows(size.of(100_000, 5_000))
    ours, plain = await taking_turns(size.rounds, lambda: _ours(rows), lambda: _plain(rows))
    return [
        Figure(
            "excel",
            f"{len(rows):,} rows of {len(rows[0])} cells ÷ xlsxwriter with constant memory, per CPU second",
            ratios(ours, plain),
            first=1, then=6, at_least=True,
            spent=f"{sorted(ours)[len(ours) // 2]:.0f} and {sorted(plain)[len(plain) // 2]:.0f} rows a CPU second",
        )
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
