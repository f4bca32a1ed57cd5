"""How an issuer shows itself

Revision: 0020, after 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "issuer_appearances",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("accent", sa.Text(), nullable=False),
        sa.Column("mark", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("accent ~ '^#[0-9a-f]{6}$'", name=op.f("issuer_appearances_accent_check")),
        sa.CheckConstraint("octet_length(mark) BETWEEN 1 AND 65536", name=op.f("issuer_appearances_mark_check")),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("issuer_appearances_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("issuer_appearances_pkey")),
    )
    op.execute("ALTER TABLE issuer_appearances ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON issuer_appearances TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})"
    )
    op.execute("GRANT SELECT ON issuer_appearances TO escarcelle_app")
    op.execute("CREATE POLICY reader ON issuer_appearances FOR SELECT TO escarcelle_reader USING (true)")
    op.execute("GRANT SELECT ON issuer_appearances TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"
