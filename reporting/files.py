"""Which kind of file is written by what."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from domain.jobs import ExportFormat
from domain.texts import Locale, Text
from reporting.excel import Chart, Column, ListFile, SemicolonText, Workbook
from reporting.parquet import Parquet


def opened(
    kind: ExportFormat,
    path: Path,
    title: Text,
    columns: Sequence[Column],
    locale: Locale,
    *,
    made_at: datetime,
    chart: Chart | None = None,
) -> ListFile:
    """A new file of that kind, without rows yet. Only a workbook says its title and when it was made, and draws the
    chart."""
    match kind:
        case ExportFormat.XLSX:
            return Workbook(path, title, columns, locale, made_at=made_at, chart=chart)
        case ExportFormat.CSV:
            return SemicolonText(path, columns, locale)
        case ExportFormat.PARQUET:
            return Parquet(path, columns, locale)
