"""Documents, and the scanned papers of suppliers' invoices

Revision: 0011, after 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "documents",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "media_type IN ('application/pdf', 'image/jpeg', 'image/png')", name=op.f("documents_media_type_check")
        ),
        sa.CheckConstraint("name <> ''", name=op.f("documents_name_check")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("documents_sha256_check")),
        sa.CheckConstraint("size BETWEEN 1 AND 10485760", name=op.f("documents_size_check")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("documents_pkey")),
    )
    op.create_table(
        "document_chunks",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.UUID(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("n >= 0", name=op.f("document_chunks_n_check")),
        sa.CheckConstraint("octet_length(content) BETWEEN 1 AND 262144", name=op.f("document_chunks_content_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "document_id"],
            ["documents.tenant", "documents.id"],
            name=op.f("document_chunks_tenant_document_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "document_id", "n", name=op.f("document_chunks_pkey")),
    )
    # Scans are compressed already.
    op.execute("ALTER TABLE document_chunks ALTER COLUMN content SET STORAGE EXTERNAL")
    op.add_column("supplier_invoices", sa.Column("document_id", sa.UUID(), nullable=True))
    op.create_unique_constraint(
        op.f("supplier_invoices_tenant_document_id_key"), "supplier_invoices", ["tenant", "document_id"]
    )
    op.create_foreign_key(
        op.f("supplier_invoices_tenant_document_id_fkey"),
        "supplier_invoices",
        "documents",
        ["tenant", "document_id"],
        ["tenant", "id"],
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

GRANTS = {"documents": "SELECT, INSERT", "document_chunks": "SELECT, INSERT"}
