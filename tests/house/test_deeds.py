"""Deeds decide in Python and wait for nothing but `work`; the statements that they are written by hold no rule."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from domain.db import Entity, Row
from domain.deadlines import Deadline, declared, handler
from domain.ledger import Balance
from domain.lifecycle import LIFECYCLES
from domain.notices import writer
from domain.statements import take_all_statement, take_statement, write_statement
from tests.house.source import PACKAGES, Module, calls, literal, modules

# ── deeds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deeds_are_found() -> None:
    """Else the rules below would hold for nothing."""
    assert {"pay", "cancel", "expire", "create_holder", "credit_holder", "open_session"} <= {
        d.name for _, d in _deeds()
    }


def test_a_deed_waits_for_work_alone() -> None:
    """It may be run a second time: whatever else it did would be done twice."""
    wrong = [
        f"{module.at(node)}: {ast.unparse(node)}"
        for module, deed in _deeds()
        for node in ast.walk(deed)
        if isinstance(node, ast.AsyncFor | ast.AsyncWith | ast.comprehension | ast.Await) and not _is_of_work(node)
    ]
    assert wrong == []


def _is_of_work(node: ast.AST) -> bool:
    match node:
        case ast.comprehension(is_async=0):
            return True
        case ast.Await(value=ast.Call(func=ast.Attribute(value=ast.Name(id="work")))):
            return True
        case ast.Await(value=ast.Call(args=[ast.Name(id="work"), *_])):
            return True
        case _:
            return False


def test_balances_are_taken_last() -> None:
    """One order of locks for everyone: the aggregate, then accounts."""
    wrong = []
    for module, deed in _deeds():
        for name, call in calls(deed):
            if name == "take":
                are_balances = ["Balance" in ast.unparse(argument).split(".")[0] for argument in call.args]
                wrong += [module.at(call) for earlier, later in pairwise(are_balances) if earlier and not later]
    assert wrong == []


def test_the_domain_asks_no_clock_of_its_own() -> None:
    """Only the database's clock decides, read after the lock."""
    wrong = [
        f"{module.at(call)}: {ast.unparse(call)}"
        for module in modules("domain")
        for _, call in calls(module.tree)
        if re.fullmatch(r"(datetime|date)\.(now|today|utcnow)|time\.(time|gmtime|localtime)", ast.unparse(call.func))
    ]
    assert wrong == []


def test_what_a_deed_names_is_declared() -> None:
    """Verbs, notices and deadlines are words: a wrong one would be noticed only when its time has come."""
    verbs = {verb for life in LIFECYCLES.values() for verb in life.verbs}
    deadlines = {name for _, name in declared()}
    wrong = []
    for module, deed in _deeds():
        for name, call in calls(deed):
            word = literal(call.args[1]) if len(call.args) > 1 else None
            if word is not None and name in ("move", "require") and word not in verbs:
                wrong.append(f"{module.at(call)}: the verb {word}")
            if word is not None and name in ("deadline", "no_longer") and word not in deadlines:
                wrong.append(f"{module.at(call)}: the deadline {word}")
            if name == "Notice" and not _has_writer(literal(call.args[0]) or ""):
                wrong.append(f"{module.at(call)}: the notice {ast.unparse(call.args[0])}")
    assert wrong == []
    for kind, name in declared():
        assert callable(handler(kind, name))


def _has_writer(notice: str) -> bool:
    try:
        return callable(writer(notice))
    except KeyError:
        return False


def _deeds() -> Iterator[tuple[Module, ast.AsyncFunctionDef]]:
    for module in modules(*PACKAGES):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef) and node.args.args and node.args.args[0].arg == "work":
                yield module, node


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────────

_ROWS = sorted(
    (row for base in (Row, Entity) for row in base.__subclasses__() if row is not Entity), key=lambda row: row.__name__
)
_STATUSES = sorted({str(status) for life in LIFECYCLES.values() for was, status in life.moves.items()}
                   | {str(was) for life in LIFECYCLES.values() for _, was in life.moves})  # fmt: skip


def _statements() -> Iterator[tuple[str, str]]:
    """Every kind of fragment, for every table."""
    for row in _ROWS:
        for kind in ("insert", "update", "delete"):
            yield f"{kind} {row.__name__}", write_statement(((kind, row, row.columns),))
        yield f"take {row.__name__}", take_statement(((row, ((row.columns[-1], False), (row.columns[-1], True))),))
        yield f"take all {row.__name__}", take_all_statement(row, row.columns[-1])
        yield f"take {row.__name__} twice", take_statement(((row, ()), (row, ())))
    yield "upsert", write_statement((("upsert", Deadline, Deadline.columns),))
    yield "net", write_statement((("net", Balance, ()),))
    yield "call off", write_statement((("call off", Deadline, ()),))


@pytest.mark.parametrize("kind", dict(_statements()))
def test_no_statement_holds_a_rule(kind: str) -> None:
    """No case, no status, no comparison of amounts: what the database is told has been decided already."""
    # One part waits for the one before it by counting its rows, which is always true.
    bare = re.sub(r"\(SELECT count\(\*\) FROM taken\d+\) >= 0", "", dict(_statements())[kind]).replace("->", "")
    assert not re.search(r"\b(CASE|WHEN|COALESCE|NULLIF|GREATEST|LEAST|BETWEEN|HAVING|LIKE)\b", bare, re.IGNORECASE)
    assert not re.search(r"[<>]|!=", bare)
    assert [status for status in _STATUSES if re.search(rf"\b{status}\b", bare)] == []


def test_the_source_of_the_statements_names_no_status() -> None:
    (module,) = [module for module in modules("domain") if module.name == "domain.statements"]
    documented = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    }
    texts = [text for node in ast.walk(module.tree) if (text := literal(node)) and text not in documented]
    assert [text for text in texts if re.search(rf"\b({'|'.join(_STATUSES)}|CASE)\b", text)] == []


def test_locks_are_taken_in_the_order_they_are_given() -> None:
    statement = take_statement(tuple((row, (("tenant", False),)) for row in _ROWS[:4]))
    parts = re.findall(r"taken(\d) AS MATERIALIZED \(SELECT .+? FROM (\w+) WHERE (.+?) FOR NO KEY UPDATE\)", statement)
    assert [(int(n), table) for n, table, _ in parts] == [(n, row.table.name) for n, row in enumerate(_ROWS[:4])]
    for n, _, conditions in parts[1:]:
        assert conditions.endswith(f"(SELECT count(*) FROM taken{int(n) - 1}) >= 0"), "each waits for the one before"


def test_the_clock_and_the_key_are_read_above_the_locks() -> None:
    statement = take_statement(((_ROWS[0], ()),))
    read = statement.rindex(") SELECT tenant_clock($1), clock_timestamp(), key_seen(")
    assert statement.index("FOR NO KEY UPDATE") < read
