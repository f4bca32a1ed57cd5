"""Runs migrations on the connection that `escarcelle.database` hands over."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext


def own_types(kind: str, item: object, autogen_context: AutogenContext) -> str | Literal[False]:
    """Types of ours are written with the module they come from."""
    if kind == "type" and type(item).__module__ == "domain.db":
        autogen_context.imports.add("import domain.db")
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=context.config.attributes["metadata"],
    transaction_per_migration=True,
    compare_server_default=False,
    render_item=own_types,
)
with context.begin_transaction():
    context.run_migrations()
