"""Answers one question to one store, read as JSON from the input, as JSON on the output. A process for each question,
which whoever asks may kill."""

import sys
from typing import Any, Final

import duckdb
import orjson

MEMORY: Final = "256MB"

_LIMITS: Final[dict[str, Any]] = {
    "memory_limit": MEMORY,
    "threads": 2,
    # Nothing but this file, whatever is asked.
    "enable_external_access": False,
    "lock_configuration": True,
}


def main() -> None:
    """Read, ask, answer."""
    question = orjson.loads(sys.stdin.buffer.read())
    try:
        answer = _answer(question)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        answer = {"outdated": str(error)}
    except duckdb.Error as error:
        answer = {"failed": str(error)}
    sys.stdout.buffer.write(orjson.dumps(answer))


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    with duckdb.connect(question["file"], read_only=True, config=_LIMITS) as store:
        about = store.execute("FROM about")
        names = [column[0] for column in about.description]
        said = {"about": dict(zip(names, about.fetchone() or (), strict=True))}
        if "sql" not in question:
            return said
        # One statement, so that count, totals and rows are of one whole; and the report is computed once.
        store.execute(f"CREATE TEMP TABLE report AS {question['sql']}", question["given"])
        summed = question["summed"]
        sums = "".join(f", coalesce(sum({name}), 0)::BIGINT" for name in summed)
        count, *totals = store.execute(f"SELECT count(*){sums} FROM report").fetchone() or (0,)
        rows = store.execute(
            f"SELECT {', '.join(question['columns'])} FROM report LIMIT {int(question['first'])}"
            f" OFFSET {int(question['skip'])}"
        ).fetchall()
        return said | {"count": count, "totals": dict(zip(summed, totals, strict=True)), "rows": rows}


if __name__ == "__main__":
    main()
