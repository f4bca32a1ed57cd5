"""Runs that nobody asks for

Revision: 0017, after 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.alter_column("jobs", "user_id", nullable=True)
    op.create_table(
        "reimbursement_schedules",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("next_run_on", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("reimbursement_schedules_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("reimbursement_schedules_pkey")),
        sa.UniqueConstraint("tenant", name=op.f("reimbursement_schedules_tenant_key")),
    )
    op.execute("ALTER TABLE reimbursement_schedules ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON reimbursement_schedules TO escarcelle_app USING ({OWN_TENANT})"
        f" WITH CHECK ({OWN_TENANT})"
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON reimbursement_schedules TO escarcelle_app")
    op.execute("CREATE POLICY reader ON reimbursement_schedules FOR SELECT TO escarcelle_reader USING (true)")
    op.execute("GRANT SELECT ON reimbursement_schedules TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"
