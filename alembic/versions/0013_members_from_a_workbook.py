"""Members from a workbook

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("jobs", sa.Column("problems", postgresql.JSONB(), nullable=True))
    for column, values in (("kind", KINDS), ("format", FORMATS)):
        op.drop_constraint(op.f(f"jobs_{column}_check"), "jobs", type_="check")
        op.create_check_constraint(op.f(f"jobs_{column}_check"), "jobs", f"{column} IN ({values})")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


KINDS = "'EXPORT_PAYMENT_REQUESTS', 'ISSUE_MEMBER_STATEMENTS', 'IMPORT_HOLDERS'"
FORMATS = "'XLSX', 'CSV', 'PDF', 'XLS'"
