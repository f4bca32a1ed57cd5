"""What every slice is made of: scalars, money, refusals, lists, and how a mutation answers."""

import base64
import functools
import inspect
import json
import operator
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Generic, NewType, TypeVar, cast, dataclass_transform
from uuid import UUID

import sqlalchemy as sa
import strawberry
from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField
from strawberry.types.info import Info as StrawberryInfo
from strawberry.types.scalar import ScalarDefinition

from api.context import Context
from api.sight import note_refusal
from api.transport import LEAF, Leaf, Rejected, UploadedFile
from domain import errors, money
from domain.codes import read_global_id
from domain.db import Entity
from domain.errors import Refused
from domain.texts import Locale, Text

Info = StrawberryInfo[Context, None]
T = TypeVar("T")
E = TypeVar("E")
EnumT = TypeVar("EnumT", bound=StrEnum)

# ── scalars ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DecimalText = NewType("DecimalText", str)
"""A decimal as it stands on the wire. What comes in is read by the domain, which refuses it in the user's words."""

_LONGEST_DECIMAL: Final = 64


def _read_decimal(value: object) -> DecimalText:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise GraphQLError("A Decimal is a string such as “40.00”, or a number.")
    text = value if isinstance(value, str) else repr(value)
    if len(text) > _LONGEST_DECIMAL:
        raise GraphQLError(f"A Decimal has at most {_LONGEST_DECIMAL} characters.")
    return DecimalText(text)


def _read_instant(value: object) -> datetime:
    try:
        instant = datetime.fromisoformat(cast(str, value))
    except (TypeError, ValueError):
        raise GraphQLError("A DateTime is written as 2026-11-21T08:30:00Z.") from None
    if instant.tzinfo is None:
        raise GraphQLError("A DateTime has an offset: 2026-11-21T08:30:00Z.")
    return instant.astimezone(UTC)


def _read_day(value: object) -> date:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise GraphQLError("A Date is written as 2026-11-21.")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise GraphQLError("This day is not in the calendar.") from None


def _read_upload(value: object) -> UploadedFile:
    if not isinstance(value, UploadedFile):
        raise GraphQLError("An Upload is a file part of a multipart request.")
    return value


def _no_output(value: object) -> str:
    raise GraphQLError("An Upload only comes in.")


SCALARS: Final[dict[object, ScalarDefinition]] = {
    DecimalText: strawberry.scalar(
        name="Decimal",
        description='Exact decimal, serialised as a string: "40.00". Comma or point on input.',
        serialize=str,
        parse_value=_read_decimal,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="Instant with offset, ISO 8601, UTC on output.",
        serialize=lambda instant: instant.astimezone(UTC).isoformat(),
        parse_value=_read_instant,
    ),
    date: strawberry.scalar(
        name="Date",
        description="Calendar day, ISO 8601: 2026-11-21.",
        serialize=date.isoformat,
        parse_value=_read_day,
    ),
    UploadedFile: strawberry.scalar(
        name="Upload",
        description="File part of a GraphQL multipart request.",
        serialize=_no_output,
        parse_value=_read_upload,
    ),
}

LocaleEnum = strawberry.enum(Locale, name="Locale", description="The language of a text.")
RefusalCodeEnum = strawberry.enum(
    errors.RefusalCode, name="RefusalCode", description="Why something was refused. Stable, for programs."
)


class CurrencyCode(StrEnum):
    """A currency, by its ISO 4217 code."""

    EUR = "EUR"


strawberry.enum(CurrencyCode, description="A currency, by its ISO 4217 code.")

# ── views: GraphQL types read straight off the domain's objects ───────────────────────────────────────────────────────


def described(kind: type[EnumT]) -> type[EnumT]:
    """An enum of the domain's, with its docstring as description."""
    return strawberry.enum(kind, description=inspect.getdoc(kind))


@dataclass_transform(field_specifiers=(strawberry.field,))
def view(of: type, description: str, **options: Any) -> Callable[[type[T]], type[T]]:
    """A GraphQL type whose values are the domain's own objects of that class."""

    def make(cls: type[T]) -> type[T]:
        cls.is_type_of = staticmethod(lambda value, info: isinstance(value, of))  # type: ignore[attr-defined]
        return strawberry.type(cls, description=description, **options)

    return make


def field(description: str) -> Any:
    """A field read off the domain's object under the same name."""
    return strawberry.field(description=description)


@strawberry.interface(description="Anything with an identifier that `node` finds again.")
class Node:
    """The interface of everything with a global identifier."""

    @strawberry.field(description="Opaque, stable, and unique in the world.")
    def id(self) -> strawberry.ID:
        return strawberry.ID(cast(Entity, self).global_id)


@strawberry.type(description="An amount of money.")
class Money:
    """A view of cents."""

    @strawberry.field(description="In units of the currency.")
    def amount(self) -> DecimalText:
        return DecimalText(money.decimal(cast(int, self)))

    @strawberry.field(description="Its currency.")
    def currency(self) -> CurrencyCode:
        return CurrencyCode.EUR

    @strawberry.field(
        description="For people: “1 234,56 €”, or “+1 234,56 €” when signed (G2). In the caller's language by default."
    )
    def formatted(self, info: Info, locale: Locale | None = None, signed: bool = False) -> str:
        return money.formatted(cast(int, self), locale or info.context.locale, signed=signed)


def in_language(text: Text, info: Info, locale: Locale | None) -> str:
    """A text in the language asked for, else the caller's."""
    return text.in_locale(locale or info.context.locale)


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@view(errors.Problem, "One wrong field.")
class Problem:
    """A view of domain.errors.Problem."""

    path: list[str] = field('Names the argument: ["input", "amount"].')

    @strawberry.field(description="What is wrong with it, in the caller's language.")
    def message(self, info: Info) -> str:
        return cast(errors.Problem, self).message(info.context.locale)


@dataclass(frozen=True)
class RefusalOf:
    """A refusal as a value: an exception that a resolver returns would be raised."""

    refused: Refused


@view(
    RefusalOf,
    "What the rules do not allow, as data. A refusal has no effect, but that wrong passwords and codes are counted:"
    " several in a row lock the account, or block the voucher.",
)
class Refusal:
    """A view of domain.errors.Refused."""

    @strawberry.field(description="Stable, for programs.", graphql_type=RefusalCodeEnum)
    def code(self) -> errors.RefusalCode:
        return cast(RefusalOf, self).refused.code

    @strawberry.field(description="For people, in the caller's language.")
    def message(self, info: Info) -> str:
        return cast(RefusalOf, self).refused.message(info.context.locale)

    @strawberry.field(
        description="One per field that is wrong; empty when it is not about a field.", graphql_type=list[Problem]
    )
    def problems(self) -> tuple[errors.Problem, ...]:
        return cast(RefusalOf, self).refused.problems

    @strawberry.field(description="With RATE_LIMITED, when known.")
    def retry_after_seconds(self) -> int | None:
        return cast(RefusalOf, self).refused.retry_after_seconds


def result(name: str, kind: type) -> Any:
    """The union that a mutation answers with: the changed object, or a Refusal."""
    return Annotated[kind | Refusal, strawberry.union(name, description="The changed object, or why nothing changed.")]


@strawberry.type(description="For acts that return nothing to look at.")
class Done:
    """What was done, in words."""

    message: str = strawberry.field(description="For people, in the caller's language.")
    reference: str | None = strawberry.field(default=None, description="Something to quote or to keep.")


DoneResult = result("DoneResult", Done)


def mutation(answer: Any, description: str) -> Callable[[Callable[..., Awaitable[Any]]], Any]:
    """A root mutation field, annotated with what the domain returns; what the domain refuses becomes a Refusal."""

    def make(resolve: Callable[..., Awaitable[Any]]) -> Any:
        @functools.wraps(resolve)
        async def answered(root: Any, info: Info, **named: Any) -> Any:
            try:
                return await resolve(root, info, **named)
            except Refused as refused:
                note_refusal(info.context.connection.scope, info.field_name, refused.code)
                return RefusalOf(refused)

        return strawberry.mutation(resolver=answered, graphql_type=answer, description=description)

    return make


def question(description: str, answer: Any = None) -> Callable[[Callable[..., Awaitable[Any]]], Any]:
    """A root query field; what the domain refuses becomes an error with its code. `answer` is the GraphQL type where it
    is not the annotation."""

    def make(resolve: Callable[..., Awaitable[Any]]) -> Any:
        @functools.wraps(resolve)
        async def answered(root: Any, info: Info, **named: Any) -> Any:
            try:
                return await resolve(root, info, **named)
            except Refused as refused:
                raise Rejected(str(refused.code), refused.message(info.context.locale)) from None

        return strawberry.field(resolver=answered, graphql_type=answer, description=description)

    return make


def itself(description: str, kind: Any) -> Any:
    """A field that is another view of the same object."""

    def same(root: strawberry.Parent[Any]) -> Any:
        return root

    return strawberry.field(resolver=same, graphql_type=kind, description=description)


def read_straight(schema: GraphQLSchema) -> GraphQLSchema:
    """Let fields that are read off an object, or made of it by a plain function, do just that: Strawberry's way through
    converted arguments and wrapped calls takes several times as long as the field itself. It is left to fields that
    wait, and to those that are given arguments."""
    for named in schema.type_map.values():
        if isinstance(named, GraphQLObjectType):
            for shown in named.fields.values():
                definition = shown.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
                if isinstance(definition, StrawberryField) and shown.resolve is not None:
                    _straighten(shown, definition, shown.resolve)
    return schema


def _straighten(shown: GraphQLField, definition: StrawberryField, roundabout: Callable[..., Any]) -> None:
    function, wants_info = _read_by(definition)
    if function is None:
        return

    def read(root: Any, info: Any) -> Any:
        return function(root, info=StrawberryInfo(_raw_info=info, _field=definition)) if wants_info else function(root)

    def resolve(root: Any, info: Any, **named: Any) -> Any:
        # Left out, arguments are what the function itself takes for them.
        return roundabout(root, info, **named) if info.field_nodes[0].arguments else read(root, info)

    shown.resolve = resolve
    coerce = _coerced_by(get_nullable_type(shown.type))
    if coerce is not None:
        shown.extensions[LEAF] = Leaf(
            read if wants_info else function, wants_info, coerce, nullable=not is_non_null_type(shown.type)
        )


def _read_by(definition: StrawberryField) -> tuple[Callable[..., Any] | None, bool]:
    """What makes the field's value of its object, if that is all there is to it, and whether it is told more."""
    made_by = definition.base_resolver
    if definition.extensions:
        return None, False
    if made_by is None:
        return operator.attrgetter(definition.python_name), False
    function = made_by.wrapped_func
    roots = (made_by.self_parameter, made_by.root_parameter, made_by.parent_parameter)
    first = next(iter(made_by.signature.parameters.values()), None)
    if made_by.is_async or not callable(function) or first is None or first not in roots:
        return None, False
    return function, made_by.info_parameter is not None


def _coerced_by(kind: object) -> Callable[[Any], Any] | None:
    """What makes values of a leaf, or of a list of leaves, into what JSON holds; None for other types."""
    if is_leaf_type(kind):
        return kind.coerce_output_value
    if not is_list_type(kind) or not is_non_null_type(kind.of_type) or not is_leaf_type(kind.of_type.of_type):
        return None
    each = kind.of_type.of_type.coerce_output_value
    # What is no list, or holds a null, is no value: then the long way says so.
    return lambda values: [each(value) for value in values] if isinstance(values, list) and None not in values else None


Finder = Callable[[Context, UUID], Awaitable[object | None]]
FinderT = TypeVar("FinderT", bound=Finder)
_FINDERS: Final[dict[str, Finder]] = {}


def finds(entity: type[Entity]) -> Callable[[FinderT], FinderT]:
    """Marks how an object of that kind is found again, if the caller sees it."""

    def register(finder: FinderT) -> FinderT:
        _FINDERS[entity.prefix] = finder
        return finder

    return register


async def find(context: Context, prefix: str, id_: UUID) -> object | None:
    """The object, if there is one and the caller sees it."""
    finder = _FINDERS.get(prefix)
    return await finder(context, id_) if finder else None


_MENTIONED: Final[dict[str, Finder]] = {}


def mentioned(entity: type[Entity]) -> Callable[[FinderT], FinderT]:
    """Marks how an object of that kind is found where a history mentions it, when some read of it there who cannot look
    it up."""

    def register(finder: FinderT) -> FinderT:
        _MENTIONED[entity.prefix] = finder
        return finder

    return register


async def find_mentioned(context: Context, prefix: str, id_: UUID) -> object | None:
    """What a line of a history is about, if there is such an object and the caller may read of it."""
    finder = _MENTIONED.get(prefix) or _FINDERS.get(prefix)
    return await finder(context, id_) if finder else None


async def find_by_global_id(context: Context, text: str) -> object | None:
    """The object behind a global identifier, if there is one and the caller sees it."""
    try:
        prefix, tenant, id_ = read_global_id(text)
    except Refused:
        return None
    return await find(context, prefix, id_) if tenant == context.someone.tenant else None


def id_of(context: Context, text: str, *prefixes: str) -> UUID:
    """The identifier behind a global one. Raises Refused (NOT_FOUND) for one of another kind or another tenant, or for
    what is none."""
    prefix, tenant, id_ = read_global_id(text)
    if prefix not in prefixes or tenant != context.someone.tenant:
        raise Refused.not_found()
    return id_


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE: Final = 50
PAGE_MAX: Final = 200


@dataclass(frozen=True)
class EdgeOf(Generic[E]):
    """One row of a page, and where it stands."""

    cursor: str
    node: E


@dataclass(frozen=True)
class PageOf(Generic[E]):
    """One page of a list, newest first; `count` asks how many rows there are in all."""

    edges: list[EdgeOf[E]]
    has_next_page: bool
    has_previous_page: bool
    count: Callable[[], Awaitable[int]]

    @property
    def nodes(self) -> list[E]:
        """The rows without their cursors."""
        return [edge.node for edge in self.edges]

    @property
    def page_info(self) -> "PageOf[E]":
        """Seen as PageInfo."""
        return self

    @property
    def start_cursor(self) -> str | None:
        """Where the first row stands."""
        return self.edges[0].cursor if self.edges else None

    @property
    def end_cursor(self) -> str | None:
        """Where the last row stands."""
        return self.edges[-1].cursor if self.edges else None


@view(PageOf, "Where a page stands in its list.")
class PageInfo:
    """A view of a page."""

    has_next_page: bool = field("Whether more rows follow.")
    has_previous_page: bool = field("Whether rows come before.")
    start_cursor: str | None = field("The cursor of the first row.")
    end_cursor: str | None = field("The cursor of the last row.")


@strawberry.type(description="A row of a list, and where it stands.")
class Edge(Generic[T]):
    """A view of EdgeOf."""

    cursor: str = field("Where the row stands: `after` or `before` it.")
    node: T = field("The row.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    """A view of PageOf."""

    edges: list[Edge[T]] = field("The rows with their cursors.")
    nodes: list[T] = field("The rows alone.")
    page_info: PageInfo = field("Where this page stands.")

    @strawberry.field(description="How many rows the list has in all.")
    async def total_count(self) -> int:
        return await cast(PageOf[Any], self).count()


async def page(
    context: Context,
    question: sa.Select[Any],
    read: Callable[[Sequence[Any]], E],
    order: Sequence[sa.ColumnElement[Any]],
    *,
    descending: bool = True,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> PageOf[E]:
    """One page of a question. `order` ends with the identifier, so that every row has a place of its own and a page
    stays where it is while rows come in. Raises Rejected (BAD_USER_INPUT) for a cursor of no list, or a negative
    size."""
    for size in (first, last):
        if size is not None and size < 0:
            raise _bad(context, "`first` et `last` ne sont pas négatifs.", "`first` and `last` are not negative.")
    backward = last is not None
    size = min(last if last is not None else first if first is not None else PAGE, PAGE_MAX)
    asked = question
    place = sa.tuple_(*order)
    for cursor, is_after in ((after, True), (before, False)):
        if cursor is not None:
            values = sa.tuple_(*_read_cursor(context, cursor, order))
            asked = asked.where(place < values if is_after == descending else place > values)
    down = descending != backward
    keys = [column.label(f"order_{n}") for n, column in enumerate(order)]
    asked = asked.add_columns(*keys).order_by(*(c.desc() if down else c.asc() for c in order)).limit(size + 1)
    async with context.reading() as connection:
        rows = (await connection.execute(asked)).all()
    more = len(rows) > size
    rows = rows[:size]
    if backward:
        rows = rows[::-1]
    edges = [EdgeOf(_cursor(row[-len(keys) :]), read(row[: -len(keys)])) for row in map(tuple, rows)]

    async def count() -> int:
        async with context.reading() as connection:
            return await count_of(connection, question)

    return PageOf(
        edges,
        has_next_page=before is not None if backward else more,
        has_previous_page=more if backward else after is not None,
        count=count,
    )


async def count_of(connection: AsyncConnection, question: sa.Select[Any]) -> int:
    """How many rows a question has."""
    counted = await connection.scalar(sa.select(sa.func.count()).select_from(question.order_by(None).subquery()))
    return int(counted or 0)


def _cursor(values: Sequence[Any]) -> str:
    plain = json.dumps([value.isoformat() if isinstance(value, datetime) else str(value) for value in values])
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def _read_cursor(context: Context, cursor: str, order: Sequence[sa.ColumnElement[Any]]) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(order):
            raise ValueError
        return [sa.literal(_of_type(text, column), column.type) for text, column in zip(values, order, strict=True)]
    except (ValueError, TypeError, OverflowError):
        raise _bad(context, "Ce curseur ne vient pas de cette liste.", "This cursor is not from this list.") from None


def _of_type(text: object, column: sa.ColumnElement[Any]) -> Any:
    if not isinstance(text, str):
        raise TypeError
    kind = column.type.python_type
    if kind is datetime:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC)
    if kind is int:
        number = int(text)
        if not -(2**63) <= number < 2**63:
            raise ValueError
        return number
    text.encode()  # a lone surrogate raises
    if "\x00" in text:
        raise ValueError
    return UUID(text) if kind is UUID else text


def _bad(context: Context, fr: str, en: str) -> Rejected:
    return Rejected("BAD_USER_INPUT", Text(fr, en).in_locale(context.locale))
