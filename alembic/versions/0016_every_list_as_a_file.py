"""Every list and report as a file

Revision: 0016, after 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    for column, values in (("kind", KINDS), ("format", FORMATS)):
        op.drop_constraint(op.f(f"jobs_{column}_check"), "jobs", type_="check")
        op.create_check_constraint(op.f(f"jobs_{column}_check"), "jobs", f"{column} IN ({values})")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


KINDS = (
    "'EXPORT_PAYMENT_REQUESTS', 'EXPORT_VOUCHERS', 'EXPORT_SUPPLIER_INVOICES', 'EXPORT_MEMBER_STATEMENTS',"
    " 'EXPORT_REIMBURSEMENTS', 'EXPORT_HOLDERS', 'EXPORT_JOURNAL', 'ISSUE_MEMBER_STATEMENTS', 'IMPORT_HOLDERS',"
    " 'RUN_REIMBURSEMENTS', 'IMPORT_BANK_ANSWER', 'EXPORT_REPORT'"
)
FORMATS = "'XLSX', 'CSV', 'PARQUET', 'PDF', 'XLS', 'XML'"
