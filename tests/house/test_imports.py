"""Imports point down, in one order, without rings, from the top of the file."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.house.source import PACKAGES, Import, Module, imports, modules

BELOW = {
    "domain": {"domain"},
    "reporting": {"domain", "reporting"},
    "api": {"domain", "reporting", "api"},
    "tasks": {"domain", "reporting", "tasks"},
    "escarcelle": set(PACKAGES),
}
"""What each package may import. `api` and `tasks` meet in the outbox and deadline tables, never in an import."""

GROUND = (
    "settings", "logs", "texts", "errors", "fields", "money", "calendar", "codes", "herald", "db", "metrics",
    "deadlines", "outbox", "journal", "lifecycle", "ledger", "notices",
    "statements", "transactions", "work", "series", "access", "appearance", "parties", "push", "sign_in", "users",
    "messages", "support", "publications", "documents", "jobs", "imports", "bank_accounts", "reimbursements", "copies",
)  # fmt: skip
"""The domain from the ground up: each imports only what stands before it. What is not named here is a flow."""

FLOWS_ON_FLOWS = {"loyalty": {"cards"}}
"""Flows never import one another, with these exceptions."""


def test_packages_import_downwards_only() -> None:
    wrong = [str(i) for i in _ours() if _package(i.of) not in BELOW[_package(i.by.name)]]
    assert wrong == []


def test_domain_imports_towards_the_ground() -> None:
    wrong = [str(i) for i in _ours("domain") if not _may_stand_on(_place(i.by.name), _place(i.of))]
    assert wrong == []


def test_the_order_of_the_ground_names_what_is_there() -> None:
    assert set(GROUND) - {_place(module.name) for module in modules("domain")} == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {module.name: set() for module in modules(*PACKAGES)}
    for each in _ours():
        graph[each.by.name].add(each.of)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as ring:
        pytest.fail(" ← ".join(ring.args[1]))


def test_the_audit_shares_no_code_with_what_it_audits() -> None:
    audit = [module for module in modules("reporting") if _is_of_the_audit(module.name)]
    ours = [i for module in audit for i in imports(module) if _package(i.of) in PACKAGES]
    assert len(audit) > 1
    assert [str(i) for i in ours if not _is_of_the_audit(i.of)] == []


def test_migrations_import_nothing_that_changes() -> None:
    """Of ours, only the types of columns: what a migration did yesterday it must do for ever."""
    ours = [i for module in modules("alembic") for i in imports(module) if _package(i.of) in PACKAGES]
    assert [str(i) for i in ours if i.of != "domain.db"] == []


def test_imports_stand_at_the_top_of_the_file() -> None:
    """But for the command line, so that a till need not load what analysts do."""
    wrong = [
        f"{module.at(node)}: {ast.unparse(node)}"
        for module in _everything()
        if module.name != "escarcelle.cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in module.tree.body
    ]
    assert wrong == []


def test_imports_are_written_out_and_real() -> None:
    """No relative import, no annotations that are only text, nothing that only a type checker imports."""
    wrong = [
        f"{module.at(node)}: {ast.unparse(node)}"
        for module in _everything()
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.ImportFrom) and (node.level or node.module == "__future__"))
        or (isinstance(node, ast.Name | ast.Attribute | ast.alias) and _last_word(node) == "TYPE_CHECKING")
    ]
    assert wrong == []


def _ours(*packages: str) -> list[Import]:
    every = [i for module in modules(*(packages or PACKAGES)) for i in imports(module)]
    return [i for i in every if _package(i.of) in (*PACKAGES, "tests", "bench")]


def _everything() -> tuple[Module, ...]:
    return modules(*PACKAGES, "alembic", "tests", "bench")


def _is_of_the_audit(module: str) -> bool:
    return module == "reporting.audit" or module.startswith("reporting.audit.")


def _package(module: str) -> str:
    return module.partition(".")[0]


def _place(module: str) -> str:
    """Where in the domain: `domain.payments.life` stands in one place with all of `payments`."""
    return module.removeprefix("domain.").partition(".")[0]


def _may_stand_on(place: str, other: str) -> bool:
    if place == other:
        return True
    if place in GROUND:
        return other in GROUND[: GROUND.index(place)]
    return other in GROUND or other in FLOWS_ON_FLOWS.get(place, set())


def _last_word(node: ast.Name | ast.Attribute | ast.alias) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else node.name
