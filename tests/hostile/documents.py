"""Hostile GraphQL: valid operations over the real schema, and what accidents and malice make of them."""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_introspection_query,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

JSON, GRAPHQL, STREAM = "application/json", "application/graphql-response+json", "text/event-stream"

SPLINTERS = (
    *('"', "{", "}", "[", "]", "(", ")", "\\", "\\u0000", "\\ud800", "\\u{110000}", '"""', "\0", "\ufeff", "\u202e"),
    *("null", "NaN", "1e400", "-", "9" * 40, "[" * 300, "{a" * 80, ":", ",", "\n", "é😀", "\u2028", "\u00a0", "#"),
    *("...F", "... on Nowhere", "$v", "@skip(if: true)", "@include(if: $v)", "subscription", "mutation", "__typename"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63, 10**40, 1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf"), [], {}, [None], [[[[]]]], {"a": {"b": None}}, {"": ""}, [1] * 300),
    *("", " ", "\0", "a\0b", "\ud800", "\udfff😀", "é" * 300, "x" * 10_000, "9" * 40, "9" * 64, "1e3", "-0", "0.001"),
    *("20,00", "20.00", "1_000", "NaN", "Infinity", "∞", "٢٠", "½", "-5", "0x10", "true", "null", "undefined"),
    *("' OR 1=1 --", "%s%n%d", "{{7*7}}", "${jndi:ldap://x}", "../../../etc/shadow", "<script>alert(1)</script>"),
    *("a\r\nX-Injected: 1", "=1+1", "@SUM(A1)", "\u202eabc", "e\u0301" * 200, "\ufeff", "\u2028\u2029", "\uffff"),
    *("2026-02-30", "0001-01-01", "9999-12-31", "2026-11-21T08:30:00", "0001-01-01T00:00:00+23:59", "10000-01-01"),
    *("9999-12-31T23:59:59.999999-23:59", "2026-11-21T24:00:00Z", "2026-11-21T08:30:00+99:99", "20261121T083000Z"),
    *("x@example.com", "x@" + "y" * 300 + ".com", '"a b"@example.com', "x@exam\u200bple.com", "+33 6 00 00 00 00"),
    "😀" * 50,
    *("preq_" + "0" * 32, "preq_" + "z" * 32, "user_" + "7" * 32, "PREQ_" + "0" * 32, "AAAA" * 9, "a" * 43, "-_" * 30),
)  # fmt: skip
"""What stands where something else is expected."""

HUGE = "__HUGE_NUMBER__"
"""Becomes a number of thousands of digits, which Python would not print."""

Argument = GraphQLArgument | GraphQLInputField


@dataclass(frozen=True)
class Operation:
    """One operation and its variables."""

    text: str
    variables: dict[str, Any]

    def body(self, **more: Any) -> bytes:
        """As it is posted."""
        return written({"query": self.text, "variables": self.variables, **more})


def written(value: Any) -> bytes:
    """As JSON, and as what is nearly JSON: NaN, lone surrogates, numbers beyond every type."""
    text = json.dumps(value, allow_nan=True)
    return text.replace(json.dumps(HUGE), "1" + "0" * 5_000).encode()


class Documents:
    """Makes documents from chance. `known` gives real values for arguments, by the name of the argument or the type."""

    def __init__(self, schema: GraphQLSchema, chance: random.Random, known: Mapping[str, Sequence[str]]) -> None:
        self._schema = schema
        self._chance = chance
        self._known = known
        self._variables: dict[str, Any] = {}
        self._declared: dict[str, str] = {}
        self._kinds: list[tuple[int, Callable[[], bytes]]] = [
            (12, lambda: self.valid().body()),
            (30, self._with_odd_variables),
            (14, self._broken_text),
            (5, self._deep),
            (5, self._many_aliases),
            (6, self._fragments),
            (4, self._duplicates),
            (6, self._directives),
            (6, self._unicode),
            (4, self._introspection),
            (5, self._several_operations),
            (6, self._envelope),
            (4, self._literals),
            (4, self._broken_bytes),
        ]

    def hostile(self) -> bytes:
        """The body of one request."""
        weights = [weight for weight, _ in self._kinds]
        _, make = self._chance.choices(self._kinds, weights)[0]
        return make()

    def accept(self) -> str:
        """What the client says it takes."""
        return self._chance.choice([JSON, GRAPHQL, GRAPHQL, STREAM, "*/*"])

    def subscription(self) -> Operation:
        """A subscription that is valid, for sockets."""
        return self.valid("subscription")

    def valid(self, kind: str | None = None) -> Operation:
        """An operation that passes validation, nearly always."""
        chance = self._chance
        kind = kind or chance.choices(["query", "mutation", "subscription"], [60, 32, 8])[0]
        root = {
            "query": self._schema.query_type,
            "mutation": self._schema.mutation_type,
            "subscription": self._schema.subscription_type,
        }[kind]
        assert root is not None
        self._variables, self._declared = {}, {}
        many = 1 if kind == "subscription" else chance.randint(1, 3)
        names = chance.sample(sorted(root.fields), min(many, len(root.fields)))
        fields = " ".join(self._field(name, root.fields[name], chance.randint(1, 4)) for name in names)
        declares = ", ".join(f"${name}: {type_}" for name, type_ in self._declared.items())
        return Operation(f"{kind} Q{f'({declares})' if declares else ''} {{ {fields} }}", self._variables)

    # ── valid pieces ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _field(self, name: str, field: GraphQLField, depth: int) -> str:
        given = ", ".join(
            f"{argument}: {self._argument(argument, declared)}"
            for argument, declared in field.args.items()
            if _is_required(declared) or self._chance.random() < 0.4
        )
        inner = get_named_type(field.type)
        inside = "" if is_leaf_type(inner) else f" {{ {self._selection(inner, depth - 1)} }}"
        return f"{name}{f'({given})' if given else ''}{inside}"

    def _selection(self, type_: Any, depth: int) -> str:
        chance = self._chance
        if isinstance(type_, GraphQLUnionType | GraphQLInterfaceType):
            possible = sorted(self._schema.get_possible_types(type_), key=lambda object_: object_.name)
            shown = chance.sample(possible, min(len(possible), chance.randint(1, 2)))
            return "__typename " + " ".join(f"... on {t.name} {{ {self._selection(t, depth)} }}" for t in shown)
        assert isinstance(type_, GraphQLObjectType)
        leaves = [name for name, field in type_.fields.items() if is_leaf_type(get_named_type(field.type))]
        names = leaves if depth <= 0 else list(type_.fields)
        chosen = chance.sample(names, min(len(names), chance.randint(1, 5)))
        return " ".join(["__typename", *(self._field(name, type_.fields[name], depth) for name in chosen)])

    def _argument(self, name: str, declared: Argument) -> str:
        if self._chance.random() < 0.8:
            variable = f"v{len(self._declared)}"
            self._declared[variable] = str(declared.type)
            self._variables[variable] = self.value(name, declared.type)
            return f"${variable}"
        return _literal(self.value(name, declared.type), declared.type)

    def value(self, name: str, type_: Any) -> Any:
        """A value of that type, real where one is known."""
        chance = self._chance
        if is_non_null_type(type_):
            return self.value(name, type_.of_type)
        if is_list_type(type_):
            return [self.value(name, type_.of_type) for _ in range(chance.randint(0, 3))]
        if isinstance(type_, GraphQLEnumType):
            return chance.choice(list(type_.values))
        if isinstance(type_, GraphQLInputObjectType):
            return {
                inner: self.value(inner, field.type)
                for inner, field in type_.fields.items()
                if _is_required(field) or chance.random() < 0.4
            }
        if known := self._known.get(name) or self._known.get(type_.name):
            return chance.choice(known)
        plain: dict[str, Sequence[Any]] = {
            "Int": (1, 2, 3, 50, 200, 400),
            "Boolean": (True, False),
            "Decimal": ("20,00", "40.00", "0.01", 25),
            "Date": ("2026-11-21", "2027-01-31"),
            "DateTime": ("2026-11-21T08:30:00Z",),
        }
        return chance.choice(plain.get(type_.name, ("panier", "Martin", "x@example.com", "P001")))

    # ── hostile kinds ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _with_odd_variables(self) -> bytes:
        operation = self.valid()
        variables: Any = operation.variables
        for _ in range(self._chance.randint(1, 3)):
            variables = self._spoilt(variables)
        return Operation(operation.text, variables).body()

    def _spoilt(self, value: Any) -> Any:
        """The value with an odd one somewhere in it."""
        chance = self._chance
        if isinstance(value, dict) and value and chance.random() < 0.9:
            name = chance.choice(list(value))
            if chance.random() < 0.1:
                return {**value, chance.choice(["__proto__", "a\0", "\ud800", "extra"]): 1}
            return {**value, name: self._spoilt(value[name])}
        if isinstance(value, list) and value and chance.random() < 0.7:
            return [*value[:-1], self._spoilt(value[-1])]
        if isinstance(value, str) and value and chance.random() < 0.3:
            at = chance.randrange(len(value))
            return chance.choice([value.upper(), value[:at], value * 2, value[:at] + "\0" + value[at:], f" {value} "])
        return HUGE if chance.random() < 0.02 else chance.choice(VALUES)

    def _broken_text(self) -> bytes:
        operation, chance = self.valid(), self._chance
        text = operation.text
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text) + 1)
            match chance.randrange(4):
                case 0:
                    text = text[:at] + chance.choice(SPLINTERS) + text[at:]
                case 1:
                    text = text[:at] + text[at + chance.randint(1, 12) :]
                case 2:
                    text = text[:at] + chr(chance.randrange(0x110000)) + text[at + 1 :]
                case _:
                    until = chance.randrange(len(text) + 1)
                    text = text[:at] + text[min(at, until) : max(at, until)] + text[at:]
        return Operation(text, operation.variables).body()

    def _deep(self) -> bytes:
        levels = self._chance.choice([5, 14, 15, 16, 60, 200, 1_500])
        step = self._chance.choice(
            [
                ("history { nodes { subject { ... on PaymentRequest {", "}}}}"),
                ("pointOfSale { merchant { ... {", "}}}"),
                ("... on PaymentRequest {", "}"),
                ("{", "}"),
            ]
        )
        text = "{ paymentRequests { nodes { " + step[0] * levels + " id " + step[1] * levels + "} } }"
        if self._chance.random() < 0.3:
            text = "query ($v: Int) { holders(first: " + "[" * levels + "1" + "]" * levels + ") { totalCount } }"
        return Operation(text, {}).body()

    def _many_aliases(self) -> bytes:
        count = self._chance.choice([2, 20, 21, 30, 31, 300, 3_000])
        field = self._chance.choice(
            [
                "viewer { user { id } }",
                "__typename",
                "paymentRequests(first: 200) { nodes { qrCode { svg pngBase64 } } }",
                'signIn(input: {issuer: "a", login: "b", password: "c"}) { __typename }',
                'issuer(slug: "demo") { name }',
            ]
        )
        kind = "mutation" if field.startswith("signIn") else "query"
        return Operation(f"{kind} {{ {' '.join(f'a{n}: {field}' for n in range(count))} }}", {}).body()

    def _fragments(self) -> bytes:
        chance, depth = self._chance, self._chance.choice([2, 12, 60, 300])
        match chance.randrange(4):
            case 0:
                ring = [f"fragment F{n} on Query {{ ...F{(n + 1) % depth} }}" for n in range(depth)]
                text = "{ ...F0 } " + " ".join(ring)
            case 1:
                bomb = [f"fragment F{n} on User {{ ...F{n + 1} ...F{n + 1} }}" for n in range(depth)]
                text = f"{{ viewer {{ user {{ ...F0 }} }} }} {' '.join(bomb)} fragment F{depth} on User {{ id }}"
            case 2:
                wide = " ".join(f"a{n}: paymentRequests(first: 200) {{ ...L }}" for n in range(min(depth, 19)))
                inside = "nodes { history { nodes { id } } }"
                text = f"{{ {wide} }} fragment L on PaymentRequestConnection {{ {inside} }}"
            case _:
                text = (
                    f"{{ {'...Nowhere ' * depth} }} fragment Unused on Holder {{ id }} fragment Unused on User {{ id }}"
                )
        return Operation(text, {}).body()

    def _duplicates(self) -> bytes:
        count = self._chance.choice([2, 50, 500, 1_900])
        field = self._chance.choice(
            ["id", "login name ", "grants { rights } ", "... on User { id } ", "id @skip(if: false) "]
        )
        text = f"{{ viewer {{ user {{ {f'{field} ' * count} }} }} }}"
        if self._chance.random() < 0.3:
            text = "query (" + "$v: Int, " * count + ") { holders(first: $v, first: $v) { totalCount } }"
        return Operation(text, {"v": 1}).body()

    def _directives(self) -> bytes:
        chance, count = self._chance, self._chance.choice([1, 3, 100, 600])
        directive = chance.choice(
            ["@include(if: true) ", "@skip(if: $v) ", "@deprecated ", "@defer ", "@stream(initialCount: 1) ", "@oneOf ",
             "@unknown(a: [1, {b: 2}]) ", '@specifiedBy(url: "x") ', "@include ", '@include(if: "yes") ']
        )  # fmt: skip
        where = chance.choice(
            [
                "query Q($v: Boolean = true) D { viewer { user { id } } }",
                "query Q($v: Boolean = true) { viewer D { user { id D } } }",
                "query Q($v: Boolean = true D) { viewer { ... D { user { id } } } }",
                "query Q($v: Boolean! = true) { ...F D } fragment F on Query D { viewer { user { id } } }",
            ]
        )
        return Operation(where.replace("D", directive * count), {"v": chance.choice([True, None, "x"])}).body()

    def _unicode(self) -> bytes:
        chance, operation = self._chance, self.valid()
        text = operation.text
        odd = chance.choice(
            ["\ufeff", "\u200b", "\u202e", "\u00a0", "\u3000", "\x0c", "\x85", "\u2028", "\ud83d", "\0", "\x7f"]
        )
        match chance.randrange(4):
            case 0:
                text = odd + text
            case 1:
                text = text.replace(" ", odd)
            case 2:
                text = "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in text)
            case _:
                text = text.replace("Q", f"Q{odd}é𝔮") + f" # {odd * 50}"
        return Operation(text, operation.variables).body()

    def _introspection(self) -> bytes:
        deep = "fields { type { ofType { fields { type { ofType { name } } } } } }"
        return Operation(
            self._chance.choice(
                [
                    get_introspection_query(),
                    f"{{ __schema {{ types {{ {deep} }} }} }}",
                    "{ " + " ".join(f'a{n}: __type(name: "Query") {{ fields {{ name }} }}' for n in range(19)) + " }",
                    "{ __schema { " + "types { name fields { name args { name type { name } } } } " * 60 + "} }",
                    '{ __type(name: "\\u0000") { name } }',
                    "subscription { __typename }",
                    "mutation { __typename __schema { queryType { name } } }",
                    "subscription { __schema { types { name } } }",
                ]
            ),
            {},
        ).body()

    def _several_operations(self) -> bytes:
        chance = self._chance
        first, second = self.valid(), self.valid()
        names = chance.choice([("Q", "R"), ("Q", "Q"), ("", "Q")])
        text = first.text.replace(" Q", f" {names[0]}", 1) + " " + second.text.replace(" Q", f" {names[1]}", 1)
        text += chance.choice(["", " type A { b: Int }", " extend type Query { a: Int }", " schema { query: Query }"])
        return Operation(text, first.variables | second.variables).body(
            operationName=chance.choice(["Q", "R", "", None, "X" * 5_000, 7, "Q\0", "__proto__"])
        )

    def _envelope(self) -> bytes:
        chance, operation = self._chance, self.valid()
        one = {"query": operation.text, "variables": operation.variables}
        digest = hashlib.sha256(operation.text.encode()).hexdigest()
        return written(
            chance.choice(
                [
                    [one] * chance.choice([0, 1, 10, 500]),
                    [],
                    None,
                    "query",
                    17,
                    {**one, "query": [operation.text]},
                    {**one, "variables": [operation.variables]},
                    {**one, "variables": json.dumps(operation.variables)},
                    {**one, "extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}},
                    {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}},
                    {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}},
                    {**one, "extensions": {"persistedQuery": chance.choice(VALUES)}},
                    {**one, "extensions": {"tracing": {"a": [{}] * 500}}},
                    {**one, "variables": {**operation.variables, "deep": _nest(chance.choice([30, 64, 70, 900]))}},
                    {"query": chance.choice(VALUES)},
                    {"query": operation.text * 40, "variables": {}},
                    {**one, "id": "x" * 200_000},
                ]
            )
        )

    def _literals(self) -> bytes:
        literal = self._chance.choice(
            [
                "1" + "0" * 4_000,
                "-" + "9" * 400,
                "1e400",
                "-1.5e-400",
                "0.000",
                "00",
                "1.",
                ".5",
                "0x10",
                "1_000",
                "+1",
                "NaN",
                '"' + "x" * 20_000 + '"',
                '"\\u0000"',
                '"\\ud800"',
                '"\\ud83d\\ude00"',
                '"\\u{1F600}"',
                '"\\u{110000}"',
                '"\\x41"',
                '"""' + '\\"""' * 300 + '"""',
                "[" + "1 " * 1_500 + "]",
                "{" + " ".join(f"a{n}: 1" for n in range(400)) + "}",
                "$undeclared",
                "null",
                "ENUM",
                "true",
                '"2026-02-30"',
            ]
        )
        field = self._chance.choice(
            [
                "paymentRequests(first: L) { totalCount }",
                "paymentRequests(filter: {minAmount: L, search: L}) { totalCount }",
                "paymentRequests(filter: {since: L, status: L}, after: L) { totalCount }",
                "node(id: L) { id }",
                "paymentOffer(token: L) { status }",
                "holders(search: L, first: L, after: L) { nodes { name } }",
            ]
        )
        return Operation(f"{{ {field.replace('L', literal)} }}", {}).body()

    def _broken_bytes(self) -> bytes:
        body, chance = bytearray(self.valid().body()), self._chance
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(body) + 1)
            match chance.randrange(3):
                case 0:
                    body[at:at] = chance.choice(
                        [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\0", b'"', b"\\u"]
                    )
                case 1:
                    del body[at:]
                case _:
                    body[at : at + 1] = bytes([chance.randrange(256)])
        return bytes(body)


def _is_required(declared: Argument) -> bool:
    if isinstance(declared, GraphQLArgument):
        return is_required_argument(declared)
    return is_required_input_field(declared)


def _literal(value: Any, type_: Any) -> str:
    """The value as GraphQL writes it."""
    named = get_named_type(type_)
    if isinstance(value, list):
        return f"[{', '.join(_literal(item, named) for item in value)}]"
    if isinstance(value, dict):
        assert isinstance(named, GraphQLInputObjectType)
        return f"{{{', '.join(f'{name}: {_literal(item, named.fields[name].type)}' for name, item in value.items())}}}"
    if isinstance(named, GraphQLEnumType):
        return str(value)
    return json.dumps(value)


def _nest(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value
