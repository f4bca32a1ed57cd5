"""Processes of the program whose log and metrics are looked at."""

import asyncio
import sys
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from domain.settings import Settings
from tests.world import environment

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@asynccontextmanager
async def logged(settings: Settings, log: Path, *arguments: str) -> AsyncIterator[Process]:
    """`escarcelle ARGUMENTS…`, with what it says added to a file."""
    with log.open("ab") as file:
        process = await create_subprocess_exec(
            sys.executable, "-m", "escarcelle", *arguments, env=environment(settings), stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


def text(log: Path) -> str:
    """All that was said."""
    return log.read_text(encoding="utf-8")


def forget(log: Path) -> None:
    """As if nothing had been said yet."""
    log.write_bytes(b"")


def lines(log: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The log's lines, or those of one event. Fails for a line that is not JSON."""
    # The last one may be being written.
    every = [orjson.loads(line) for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [line for line in every if event in (None, line["event"])]


async def metrics(*ports: int) -> Samples:
    """What Prometheus would read there, added up."""
    samples: Samples = {}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        for port in ports:
            text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    key = (sample.name, frozenset(sample.labels.items()))
                    samples[key] = samples.get(key, 0) + sample.value
    return samples


def value(samples: Samples, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """One sample; None when there is none."""
    return samples.get((name, frozenset((labels or {}).items())))
