"""The API's schema: who may use each root field, what everything means, and what clients may rely on."""

import ast
from collections.abc import Iterator

from graphql import (
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    build_schema,
    find_breaking_changes,
    is_introspection_type,
    is_specified_scalar_type,
)

from api.schema import GRAPHQL_SCHEMA, printed
from domain.access import ANYONE, RIGHTS, SIGNED_IN, Role
from tests.house.source import ROOT, calls, literal, modules

ROOTS = [
    root
    for root in (GRAPHQL_SCHEMA.query_type, GRAPHQL_SCHEMA.mutation_type, GRAPHQL_SCHEMA.subscription_type)
    if root is not None
]


# ── who may use it ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_root_field_has_its_rights_and_no_right_is_for_nothing() -> None:
    fields = {name for root in ROOTS for name in root.fields}
    assert fields - set(RIGHTS) == set(), "nobody may use these: RIGHTS does not name them"
    assert set(RIGHTS) - fields == set(), "RIGHTS names what is not there"


def test_rights_name_roles() -> None:
    wrong = {name: roles for name, roles in RIGHTS.items() if roles is not ANYONE and not roles <= set(Role)}
    assert wrong == {}


def test_the_right_to_a_mutation_is_required_in_its_deed() -> None:
    """The edge lets every signed-in user through to a mutation: its deed refuses some, as data."""
    assert GRAPHQL_SCHEMA.mutation_type is not None
    restricted = {name for name in GRAPHQL_SCHEMA.mutation_type.fields if RIGHTS[name] not in (ANYONE, SIGNED_IN)}
    required = dict(_required_rights())
    assert restricted - set(required) == set(), "no deed requires the right to these"
    assert {right: where for right, where in required.items() if right not in RIGHTS} == {}


def _required_rights() -> Iterator[tuple[str, str]]:
    for module in modules("domain"):
        for name, call in calls(module.tree):
            receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
            if name == "require" and isinstance(receiver, ast.Name) and receiver.id == "actor":
                right = literal(call.args[0])
                assert right is not None, f"{module.at(call)}: the right is named here"
                yield right, module.at(call)


# ── what it means ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_says_what_it_means() -> None:
    assert [name for name, description in _descriptions() if not (description or "").strip()] == []


def test_descriptions_are_prose() -> None:
    """Without the indentation of the docstring that they were taken from."""
    untidy = [
        name
        for name, description in _descriptions()
        if description and any(line != line.strip() for line in description.splitlines())
    ]
    assert untidy == []


def _descriptions() -> Iterator[tuple[str, str | None]]:
    for kind in _types():
        if kind not in ROOTS:
            yield kind.name, kind.description
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            yield from ((f"{kind.name}.{name}", field.description) for name, field in kind.fields.items())


def _types() -> list[GraphQLNamedType]:
    every = GRAPHQL_SCHEMA.type_map.values()
    return [kind for kind in every if not is_introspection_type(kind) and not is_specified_scalar_type(kind)]


# ── what clients rely on ──────────────────────────────────────────────────────────────────────────────────────────────


def test_schema_graphql_is_current() -> None:
    """Else: `escarcelle schema > schema.graphql`."""
    assert (ROOT / "schema.graphql").read_text(encoding="utf-8") == printed()


def test_nothing_breaks_what_was_released() -> None:
    """released.graphql is the schema as of the last release; its first lines say when it changes."""
    released = build_schema((ROOT / "tests/house/released.graphql").read_text(encoding="utf-8"))
    broken = find_breaking_changes(released, build_schema(printed()))
    assert [change.description for change in broken] == []
