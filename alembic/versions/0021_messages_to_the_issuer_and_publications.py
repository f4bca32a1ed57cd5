"""Messages to the issuer, and what it publishes

Revision: 0021, after 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "support_messages",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("support_messages_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("support_messages_pkey")),
    )
    op.create_index("support_messages_user_idx", "support_messages", ["tenant", "user_id", "sent_at"], unique=False)
    op.create_table(
        "news",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("published_on", sa.Date(), nullable=False),
        sa.Column("title_fr", sa.Text(), nullable=False),
        sa.Column("title_en", sa.Text(), nullable=False),
        sa.Column("body_fr", sa.Text(), nullable=False),
        sa.Column("body_en", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("removed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("news_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("news_pkey")),
    )
    op.create_table(
        "published_documents",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title_fr", sa.Text(), nullable=False),
        sa.Column("title_en", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("removed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('GUIDE', 'COMMUNICATION', 'FAQ')", name=op.f("published_documents_kind_check")),
        sa.CheckConstraint("url LIKE 'https://_%'", name=op.f("published_documents_url_check")),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("published_documents_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("published_documents_pkey")),
    )
    for table, app in GRANTS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})")
        op.execute(f"GRANT {app} ON {table} TO escarcelle_app")
        op.execute(f"CREATE POLICY reader ON {table} FOR SELECT TO escarcelle_reader USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

GRANTS = {
    "support_messages": "SELECT, INSERT",
    "news": "SELECT, INSERT, UPDATE",
    "published_documents": "SELECT, INSERT, UPDATE",
}
