"""Statements to members

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "member_statements",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("channel IN ('EMAIL', 'POST')", name=op.f("member_statements_channel_check")),
        sa.CheckConstraint("period ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("member_statements_period_check")),
        sa.CheckConstraint("total > 0", name=op.f("member_statements_total_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "holder_id"],
            ["holders.tenant", "holders.id"],
            name=op.f("member_statements_tenant_holder_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "job_id"], ["jobs.tenant", "jobs.id"], name=op.f("member_statements_tenant_job_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("member_statements_pkey")),
    )
    op.create_index("member_statements_holder_idx", "member_statements", ["tenant", "holder_id", "issued_at", "id"])
    op.create_index("member_statements_list_idx", "member_statements", ["tenant", "issued_at", "id"])
    op.create_index(op.f("member_statements_tenant_job_id_idx"), "member_statements", ["tenant", "job_id"])
    op.add_column("supplier_invoices", sa.Column("statement_id", sa.UUID(), nullable=True))
    op.create_foreign_key(
        op.f("supplier_invoices_tenant_statement_id_fkey"),
        "supplier_invoices",
        "member_statements",
        ["tenant", "statement_id"],
        ["tenant", "id"],
    )
    op.create_check_constraint(
        op.f("supplier_invoices_statement_check"),
        "supplier_invoices",
        "statement_id IS NULL OR status <> 'TO_DECIDE'",
    )
    op.create_index(op.f("supplier_invoices_tenant_statement_id_idx"), "supplier_invoices", ["tenant", "statement_id"])
    for column, values in (("kind", KINDS), ("format", FORMATS)):
        op.drop_constraint(op.f(f"jobs_{column}_check"), "jobs", type_="check")
        op.create_check_constraint(op.f(f"jobs_{column}_check"), "jobs", f"{column} IN ({values})")
    op.execute("ALTER TABLE member_statements ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON member_statements TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})"
    )
    op.execute("GRANT SELECT, INSERT ON member_statements TO escarcelle_app")
    op.execute("CREATE POLICY reader ON member_statements FOR SELECT TO escarcelle_reader USING (true)")
    op.execute("GRANT SELECT ON member_statements TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

KINDS = "'EXPORT_PAYMENT_REQUESTS', 'ISSUE_MEMBER_STATEMENTS'"
FORMATS = "'XLSX', 'CSV', 'PDF'"
