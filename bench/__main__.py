"""`python -m bench [LINE …]`: how fast the program is, each line as a ratio to its limit, measured in the same run.

The exit code is 1 when a line misses its first target or the audit finds a difference."""

import argparse
import asyncio
import json
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench import plots
from bench.lines import busy_merchant, client, copying, deadlines, excel, listing, pay, relay, subscribers, vouchers
from bench.measuring import Curves, Figure, Size, busy_share, machine, machine_time
from bench.stage import new_servers


@dataclass(frozen=True, slots=True)
class _Line:
    """What a line asks for: so many pairs of servers, its figures, and its curves."""

    measure: Callable[..., Awaitable[list[Figure]]]
    curve: Callable[..., Awaitable[Curves]]
    servers: int = 1


LINES: Final = {
    "pay": _Line(pay.measure, pay.curve),
    "busy-merchant": _Line(busy_merchant.measure, busy_merchant.curve),
    "vouchers": _Line(vouchers.measure, vouchers.curve),
    "list": _Line(listing.measure, listing.curve),
    "subscribers": _Line(subscribers.measure, subscribers.curve),
    "relay": _Line(relay.measure, relay.curve),
    "deadlines": _Line(deadlines.measure, deadlines.curve, deadlines.SERVERS),
    "copy": _Line(copying.measure, copying.curve),
    "excel": _Line(excel.measure, excel.curve, 0),
    "client": _Line(client.measure, client.curve, 0),
}

_BEGINS, _ENDS = "<!-- written by python -m bench --write: begin -->", "<!-- end -->"
_HEADINGS: Final = ("line", "what", "median (rounds)", "first", "then", "met", "audit", "spent")


def main() -> int:
    """Measure, print, and write what is asked for."""
    given = _arguments()
    size = Size(rounds=given.rounds or (3 if given.quick else 5), quick=given.quick)
    # Programs that are stopped say so; it is not what one came for.
    logging.disable(logging.WARNING)
    began, figures = machine_time(), []
    described = [*machine(), ("PostgreSQL", f"{_postgresql_version()}, fsync and synchronous commit on")]
    if not given.json:
        print("\n".join(f"{name}: {said}" for name, said in described), end="\n\n", flush=True)
    for name in given.lines or LINES:
        found = _with_servers(LINES[name].servers, LINES[name].measure, size)
        figures += found
        for figure in found:
            print(json.dumps(figure.as_json()) if given.json else "\n".join(_words(figure)), flush=True)
        if given.plots is not None:
            given.plots.mkdir(parents=True, exist_ok=True)
            curves = _with_servers(LINES[name].servers, LINES[name].curve, size)
            plots.draw(curves, given.plots / f"{name}.svg")
    described.append(("meanwhile", f"all cores were busy {busy_share(began):.0%} of the time, ours and others' work"))
    if given.write is not None:
        _write(given.write, figures, described)
    return 0 if all(figure.is_ok for figure in figures) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"one of {', '.join(LINES)}; all when none is named")
    parser.add_argument(
        "--quick", action="store_true", help="little of everything: whether it runs, not how fast it is"
    )
    parser.add_argument("--rounds", type=int, help="rounds in turns with the limit; 5, or 3 when quick")
    parser.add_argument("--json", action="store_true", help="a JSON object for each line")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="also draw each line over its load, as SVG")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the results into this page, by its marks")
    given = parser.parse_args()
    unknown = [name for name in given.lines if name not in LINES]
    if unknown:
        parser.error(f"no such line: {', '.join(unknown)}")
    return given


def _with_servers(count: int, run: Callable[..., Awaitable[Any]], size: Size) -> Any:
    with ExitStack() as stack:
        servers = [stack.enter_context(new_servers()) for _ in range(count)]
        return asyncio.run(_awaited(run(size, *servers)))


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _postgresql_version() -> str:
    async def ask(url: str) -> str:
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close()

    with new_servers() as servers:
        return asyncio.run(ask(servers.postgres.url()))


def _words(figure: Figure) -> Iterator[str]:
    met = "ok" if figure.is_ok else "MISSED"
    yield f"{figure.name}: {figure.ratio:.3g} ({figure.target(figure.first)}, then {figure.target(figure.then)}) {met}"
    yield f"  {figure.says}"
    yield f"  rounds {_rounds(figure)}"
    if figure.spent:
        yield f"  {figure.spent}"
    if figure.audit is not None:
        yield f"  audit: {figure.audit}"
    yield from (f"    {difference}" for difference in (figure.differences or ())[:5])


def _rounds(figure: Figure) -> str:
    return " ".join(f"{ratio:.3g}" for ratio in figure.ratios)


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(page: Path, figures: Sequence[Figure], described: Sequence[tuple[str, str]]) -> None:
    """Put the results between the marks; rows of lines that were not measured now stay."""
    before, begins, rest = page.read_text(encoding="utf-8").partition(_BEGINS)
    old, ends, after = rest.partition(_ENDS)
    if not begins or not ends:
        sys.exit(f"{page} has no marks to write between: {_BEGINS} … {_ENDS}")
    rows = {match[1]: match[0] for match in re.finditer(r"^\| ([a-z][a-z-]*) \|.*$", old, re.MULTILINE)}
    for heading in (_HEADINGS[0], "---"):
        rows.pop(heading, None)
    rows |= {figure.name: _row(figure) for figure in figures}
    table = [_cells(_HEADINGS), _cells(["---"] * len(_HEADINGS)), *rows.values()]
    machine_said = [f"- {name}: {said}" for name, said in described]
    text = "\n".join(["", *machine_said, "", *table, ""])
    page.write_text(f"{before}{begins}{text}{ends}{after}", encoding="utf-8")


def _row(figure: Figure) -> str:
    return _cells(
        (
            figure.name,
            figure.says,
            f"**{figure.ratio:.3g}** ({_rounds(figure)})",
            figure.target(figure.first),
            figure.target(figure.then),
            "yes" if figure.is_ok else "no",
            figure.audit or "–",
            figure.spent,
        )
    )


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
