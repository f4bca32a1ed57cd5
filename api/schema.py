"""The schema: every slice gathered."""

from typing import Final

import strawberry
from graphql import (
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    print_schema,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types

from api.access import AccessMutations, AccessQueries
from api.exports import ExportMutations
from api.imports import ImportMutations, ImportQueries
from api.jobs import JobSubscriptions
from api.parties import PartyMutations, PartyQueries, PartySubscriptions
from api.payments import PaymentMutations, PaymentQueries, PaymentSubscriptions
from api.publications import PublicationMutations
from api.reimbursements import ReimbursementMutations, ReimbursementQueries
from api.reports import ReportMutations, ReportQueries
from api.shapes import SCALARS, Info, Node, find_by_global_id, question, read_straight
from api.support import SupportMutations
from api.vouchers import VoucherMutations, VoucherQueries


@strawberry.type
class NodeQueries:
    """Anything, by its identifier."""

    @question("The object behind an identifier; null when there is none that the viewer sees.", Node | None)
    async def node(self, info: Info, id: strawberry.ID) -> object | None:
        return await find_by_global_id(info.context, id)


Query = merge_types(
    "Query",
    (
        NodeQueries,
        PartyQueries,
        AccessQueries,
        PaymentQueries,
        VoucherQueries,
        ReimbursementQueries,
        ReportQueries,
        ImportQueries,
    ),
)
Mutation = merge_types(
    "Mutation",
    (
        AccessMutations,
        PartyMutations,
        SupportMutations,
        PublicationMutations,
        PaymentMutations,
        VoucherMutations,
        ReimbursementMutations,
        ReportMutations,
        ExportMutations,
        ImportMutations,
    ),
)
Subscription = merge_types("Subscription", (PaymentSubscriptions, PartySubscriptions, JobSubscriptions))


def _without_null_defaults(schema: GraphQLSchema) -> GraphQLSchema:
    """An optional argument is absent or given: a default of null would say nothing, in every client's types."""
    for named in schema.type_map.values():
        if isinstance(named, GraphQLInputObjectType):
            arguments = list(named.fields.values())
        elif isinstance(named, GraphQLObjectType | GraphQLInterfaceType):
            arguments = [argument for field in named.fields.values() for argument in field.args.values()]
        else:
            continue
        for argument in arguments:
            if argument.default_value is None:
                argument.default_value = Undefined
    return schema


SCHEMA: Final = strawberry.Schema(
    query=Query, mutation=Mutation, subscription=Subscription, config=StrawberryConfig(scalar_map=SCALARS)
)


GRAPHQL_SCHEMA: Final = read_straight(_without_null_defaults(SCHEMA._schema))
"""What the transport serves."""


def printed() -> str:
    """The schema in GraphQL's own language, as schema.graphql holds it."""
    return print_schema(GRAPHQL_SCHEMA) + "\n"
