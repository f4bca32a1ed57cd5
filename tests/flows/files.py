"""Watches exports, and reads their files back."""

import asyncio
import csv
import io
from typing import Any, cast

import openpyxl
from openpyxl.worksheet.worksheet import Worksheet

from escarcelle.clients import Client

JOB = "id kind status done total downloadUrl problems { row column message }"
WATCH = f"subscription ($id: ID!) {{ job(id: $id) {{ {JOB} }} }}"


async def finished(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it is over."""
    state: dict[str, Any] = job
    async with asyncio.timeout(60), client.subscribe(WATCH, id=job["id"]) as events:
        async for event in events:
            state = event["job"]
    return state


def sheet_of(content: bytes, *, computed: bool = False) -> Worksheet:
    """The only sheet of a workbook; `computed`: with what formulas come to."""
    (sheet,) = openpyxl.load_workbook(io.BytesIO(content), data_only=computed).worksheets
    return sheet


def rows_of(content: bytes) -> list[dict[str, Any]]:
    """What stands between the headings and the totals."""
    (sheet,) = openpyxl.load_workbook(io.BytesIO(content), read_only=True).worksheets
    headings, *rows = sheet.iter_rows(values_only=True)
    listed = rows[:-1] if rows and rows[-1][0] == "Total" else rows
    return [dict(zip(cast(Any, headings), row, strict=True)) for row in listed]


def lines_of(content: bytes) -> list[dict[str, str]]:
    """The lines of text below the headings."""
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";"))
