"""Devices that show pushes

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "push_subscriptions",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("p256dh", sa.LargeBinary(), nullable=False),
        sa.Column("auth", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("push_subscriptions_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("push_subscriptions_pkey")),
        sa.UniqueConstraint("tenant", "endpoint", name=op.f("push_subscriptions_tenant_endpoint_key")),
    )
    op.create_index(
        op.f("push_subscriptions_tenant_user_id_idx"), "push_subscriptions", ["tenant", "user_id"], unique=False
    )
    op.execute("ALTER TABLE push_subscriptions ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON push_subscriptions TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})"
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON push_subscriptions TO escarcelle_app")
    # From a holder to its devices.
    op.create_index(op.f("users_tenant_holder_id_idx"), "users", ["tenant", "holder_id"], unique=False)
    for table in ("outbox", "dead_letters"):
        op.drop_constraint(op.f(f"{table}_topic_check"), table, type_="check")
        op.create_check_constraint(op.f(f"{table}_topic_check"), table, "topic IN ('live', 'mail', 'push', 'job')")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"
