"""An analyst's session, as docs/reporting.md records it: the same questions give the same answers; and the page names
what the store has."""

import re
from pathlib import Path

import duckdb
import pytest

from domain.db import Database
from reporting.flows import FLOWS
from reporting.questions import REPORTS
from reporting.store import ABOUT, macros, tables
from tests.reporting.played import Played, play
from tests.world import Running, Servers, World

pytestmark = pytest.mark.anyio

_PAGE = Path(__file__).parents[2] / "docs" / "reporting.md"
_TEXT = _PAGE.read_text(encoding="utf-8")
_BLOCK = re.compile(r"```sql\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.fixture
async def played(servers: Servers, running: Running, database: Database, tmp_path: Path) -> Played:
    """The days of the page."""
    return await play(await World.make(servers, database), running, tmp_path / "stores")


async def test_the_session_gives_what_the_page_shows(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = _BLOCK.findall(_TEXT)
    assert len(sessions) >= 7
    monkeypatch.chdir(played.folder)
    with duckdb.connect(played.link, read_only=True) as store:
        store.execute("SET TimeZone = 'UTC'")
        for question, answer in sessions:
            assert shown(store, question) == answer, question


def shown(store: duckdb.DuckDBPyConnection, question: str) -> str:
    """An answer as the page has it: columns side by side, one line for each row."""
    answer = store.execute(question)
    rows = [[column[0] for column in answer.description]]
    rows += [["" if cell is None else str(cell) for cell in row] for row in answer.fetchall()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def test_the_page_names_every_table_column_view_macro_and_report() -> None:
    for table in (*tables(FLOWS), ABOUT):
        section = re.search(rf"^### `{table.name}`\n(.*?)(?=^#|\Z)", _TEXT, re.MULTILINE | re.DOTALL)
        assert section is not None, table.name
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section[1], re.MULTILINE)
        assert rows == [(field.name, field.type, field.says) for field in table.fields], table.name
    named = set(re.findall(r"`(\w+)`", _TEXT)) | set(re.findall(r"`(\w+)\(instant\)`", _TEXT))
    for macro in macros(FLOWS):
        assert not macro.view or macro.name in named, macro.name
        assert not macro.as_of or f"{macro.name}_as_of" in named, macro.name
    assert {name for name in REPORTS if name not in named} == set()
