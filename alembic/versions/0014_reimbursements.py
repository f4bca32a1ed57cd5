"""Reimbursements

Revision: 0014, after 0013
"""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "reimbursement_terms",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("commission_percent", sa.Numeric(), nullable=False),
        sa.Column("business_days", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("flow IN ('PAYMENT_REQUESTS', 'VOUCHERS')", name=op.f("reimbursement_terms_flow_check")),
        sa.CheckConstraint("business_days BETWEEN 0 AND 60", name=op.f("reimbursement_terms_business_days_check")),
        sa.CheckConstraint(
            "commission_percent >= 0 AND commission_percent < 50",
            name=op.f("reimbursement_terms_commission_percent_check"),
        ),
        sa.PrimaryKeyConstraint("tenant", "flow", "valid_from", name=op.f("reimbursement_terms_pkey")),
    )
    op.create_table(
        "paying_accounts",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("iban", sa.Text(), nullable=False),
        sa.Column("bic", sa.Text(), nullable=True),
        sa.Column("account_holder", sa.Text(), nullable=False),
        sa.Column("street", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("town", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", name=op.f("paying_accounts_iban_check")),
        sa.CheckConstraint(
            "num_nulls(street, postcode, town, country) IN (0, 4)", name=op.f("paying_accounts_postal_address_check")
        ),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("paying_accounts_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("paying_accounts_pkey")),
    )
    op.create_table(
        "bank_accounts",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("merchant_id", sa.UUID(), nullable=False),
        sa.Column("iban", sa.Text(), nullable=False),
        sa.Column("bic", sa.Text(), nullable=True),
        sa.Column("account_holder", sa.Text(), nullable=False),
        sa.Column("street", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("town", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("passed_over_by", sa.UUID(), nullable=True),
        sa.Column("former_iban", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$'", name=op.f("bank_accounts_iban_check")),
        sa.CheckConstraint(
            "num_nulls(street, postcode, town, country) IN (0, 4)", name=op.f("bank_accounts_postal_address_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "merchant_id"],
            ["merchants.tenant", "merchants.id"],
            name=op.f("bank_accounts_tenant_merchant_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "passed_over_by"],
            ["jobs.tenant", "jobs.id"],
            name=op.f("bank_accounts_tenant_passed_over_by_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("bank_accounts_pkey")),
        sa.UniqueConstraint("tenant", "merchant_id", name=op.f("bank_accounts_tenant_merchant_id_key")),
    )
    op.create_table(
        "transfer_files",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("transfers", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("iban", sa.Text(), nullable=False),
        sa.Column("bic", sa.Text(), nullable=True),
        sa.Column("account_holder", sa.Text(), nullable=False),
        sa.Column("street", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("town", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("transfers > 0 AND total > 0", name=op.f("transfer_files_total_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "job_id"], ["jobs.tenant", "jobs.id"], name=op.f("transfer_files_tenant_job_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("transfer_files_pkey")),
        sa.UniqueConstraint("tenant", "job_id", name=op.f("transfer_files_tenant_job_id_key")),
        sa.UniqueConstraint("tenant", "reference", name=op.f("transfer_files_tenant_reference_key")),
    )
    op.create_index("transfer_files_list_idx", "transfer_files", ["tenant", "created_at", "id"], unique=False)
    op.create_table(
        "reimbursements",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("merchant_id", sa.UUID(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("period_end", sa.Date(), nullable=False),
        sa.Column("gross", sa.BigInteger(), nullable=False),
        sa.Column("commission", sa.BigInteger(), nullable=False),
        sa.Column("net", sa.BigInteger(), nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("reservation_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=True),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("iban", sa.Text(), nullable=True),
        sa.Column("bic", sa.Text(), nullable=True),
        sa.Column("account_holder", sa.Text(), nullable=True),
        sa.Column("street", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("town", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("bank_reference", sa.Text(), nullable=True),
        sa.Column("rejected_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("rejection_code", sa.Text(), nullable=True),
        sa.Column("rejection_reason", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(status = 'PENDING') = (file_id IS NULL) AND (file_id IS NULL) = (sent_at IS NULL) AND (file_id IS NULL) = (iban IS NULL) AND (iban IS NULL) = (account_holder IS NULL)",
            name=op.f("reimbursements_sent_check"),
        ),
        sa.CheckConstraint(
            "CASE status WHEN 'SETTLED' THEN settled_at IS NOT NULL AND rejected_at IS NULL WHEN 'REJECTED' THEN rejected_at IS NOT NULL ELSE num_nonnulls(settled_at, rejected_at) = 0 END",
            name=op.f("reimbursements_outcome_check"),
        ),
        sa.CheckConstraint(
            "status IN ('PENDING', 'SENT', 'SETTLED', 'REJECTED')", name=op.f("reimbursements_status_check")
        ),
        sa.CheckConstraint(
            "gross > 0 AND commission >= 0 AND net > 0 AND net = gross - commission",
            name=op.f("reimbursements_net_check"),
        ),
        sa.CheckConstraint("period_start <= period_end", name=op.f("reimbursements_period_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "file_id"],
            ["transfer_files.tenant", "transfer_files.id"],
            name=op.f("reimbursements_tenant_file_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "job_id"], ["jobs.tenant", "jobs.id"], name=op.f("reimbursements_tenant_job_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "merchant_id"],
            ["merchants.tenant", "merchants.id"],
            name=op.f("reimbursements_tenant_merchant_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "reservation_id"],
            ["transfers.tenant", "transfers.id"],
            name=op.f("reimbursements_tenant_reservation_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("reimbursements_pkey")),
        sa.UniqueConstraint("tenant", "reference", name=op.f("reimbursements_tenant_reference_key")),
    )
    op.create_index("reimbursements_list_idx", "reimbursements", ["tenant", "created_at", "id"], unique=False)
    op.create_index(
        "reimbursements_merchant_idx", "reimbursements", ["tenant", "merchant_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("reimbursements_tenant_file_id_idx"), "reimbursements", ["tenant", "file_id"], unique=False)
    op.create_index(op.f("reimbursements_tenant_job_id_idx"), "reimbursements", ["tenant", "job_id"], unique=False)
    op.create_table(
        "reimbursement_lines",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("reimbursement_id", sa.UUID(), nullable=False),
        sa.Column("transfer_id", sa.UUID(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("commission", sa.BigInteger(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "amount > 0 AND commission >= 0 AND commission <= amount", name=op.f("reimbursement_lines_amount_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "reimbursement_id"],
            ["reimbursements.tenant", "reimbursements.id"],
            name=op.f("reimbursement_lines_tenant_reimbursement_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "transfer_id"],
            ["transfers.tenant", "transfers.id"],
            name=op.f("reimbursement_lines_tenant_transfer_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "reimbursement_id", "transfer_id", name=op.f("reimbursement_lines_pkey")),
    )
    op.create_index(
        "reimbursement_lines_once_idx",
        "reimbursement_lines",
        ["tenant", "transfer_id"],
        unique=True,
        postgresql_where=sa.text("NOT released"),
    )
    for table, column, check in REPLACED:
        op.drop_constraint(op.f(f"{table}_{column}_check"), table, type_="check")
        op.create_check_constraint(op.f(f"{table}_{column}_check"), table, check)
    op.execute("ALTER TABLE reimbursements SET (fillfactor = 80)")
    op.bulk_insert(
        sa.table("transitions", sa.column("machine"), sa.column("was"), sa.column("becomes")),
        [{"machine": machine, "was": was, "becomes": becomes} for machine, was, becomes in TRANSITIONS],
    )
    op.execute(
        "CREATE TRIGGER lifecycle BEFORE UPDATE OF status ON reimbursements FOR EACH ROW"
        " WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION check_transition()"
    )
    op.execute(CHECK_TRANSFER)
    open_accounts()
    for table, app in GRANTS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})")
        op.execute(f"GRANT {app} ON {table} TO escarcelle_app")
        op.execute(f"CREATE POLICY reader ON {table} FOR SELECT TO escarcelle_reader USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


def open_accounts() -> None:
    """The parties of before get the accounts that new ones are opened with."""
    connection = op.get_bind()
    accounts = sa.table(
        "accounts", *(sa.column(name) for name in ("tenant", "id", "kind", "owner_id", "unit", "opened_at"))
    )
    for kinds, table in ((("TRANSIT",), "merchants"), (("BANK", "COMMISSION"), "issuers")):
        for tenant, owner in connection.execute(sa.text(f"SELECT tenant, id FROM {table}")).all():
            for kind in kinds:
                row = {"tenant": tenant, "id": uuid.uuid5(owner, f"{kind}:EUR"), "kind": kind, "owner_id": owner}
                connection.execute(accounts.insert().values(**row, unit="EUR", opened_at=sa.func.clock_timestamp()))


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

GRANTS = {
    "reimbursement_terms": "SELECT",
    "paying_accounts": "SELECT",
    "bank_accounts": "SELECT, INSERT, UPDATE",
    "transfer_files": "SELECT, INSERT",
    "reimbursements": "SELECT, INSERT, UPDATE",
    "reimbursement_lines": "SELECT, INSERT, UPDATE",
}

TRANSITIONS = [
    ("reimbursements", "PENDING", "SENT"),
    ("reimbursements", "SENT", "SETTLED"),
    ("reimbursements", "SENT", "REJECTED"),
    ("reimbursements", "SETTLED", "REJECTED"),
    ("vouchers", "INVOICED", "SETTLED"),
    ("vouchers", "SETTLED", "INVOICED"),
]

REPLACED = [
    (
        "accounts",
        "kind",
        "kind IN ('FUNDING', 'WALLET', 'HELD', 'MERCHANT', 'GUARANTEE', 'DEBT', 'TRANSIT', 'BANK', 'COMMISSION')",
    ),
    (
        "jobs",
        "kind",
        (
            "kind IN ('EXPORT_PAYMENT_REQUESTS', 'ISSUE_MEMBER_STATEMENTS', 'IMPORT_HOLDERS', 'RUN_REIMBURSEMENTS',"
            " 'IMPORT_BANK_ANSWER')"
        ),
    ),
    ("jobs", "format", "format IN ('XLSX', 'CSV', 'PDF', 'XLS', 'XML')"),
    (
        "vouchers",
        "status",
        "status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED', 'CANCELLED', 'EXPIRED', 'INVOICED', 'SETTLED')",
    ),
    ("vouchers", "delivered", "(status IN ('DELIVERED', 'INVOICED', 'SETTLED')) = (number IS NOT NULL)"),
]

# What is on its way to a bank is parked as what is held towards a merchant is, and settled to the cent as well.
CHECK_TRANSFER = """
    CREATE OR REPLACE FUNCTION check_transfer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    BEGIN
      IF coalesce((
        SELECT bool_or(total <> 0)
        FROM (SELECT sum(amount) AS total FROM postings p WHERE p.tenant = new.tenant AND p.transfer_id = new.id GROUP BY unit) t
      ), true) THEN
        RAISE EXCEPTION 'transfer % does not sum to zero', new.id USING errcode = '23514', constraint = 'sum_to_zero';
      END IF;
      IF new.settles IS NOT NULL THEN
        IF NOT EXISTS (
          SELECT FROM transfers r WHERE r.tenant = new.tenant AND r.id = new.settles AND r.kind = 'RESERVE'
        ) OR EXISTS (
          SELECT FROM postings p JOIN accounts a
          ON a.tenant = p.tenant AND a.id = p.account_id AND a.kind IN ('HELD', 'TRANSIT')
          WHERE p.tenant = new.tenant AND p.transfer_id IN (new.id, new.settles)
          GROUP BY p.account_id HAVING sum(p.amount) <> 0
        ) THEN
          RAISE EXCEPTION 'transfer % does not settle its reservation to the cent', new.id
            USING errcode = '23514', constraint = 'settlement';
        END IF;
      END IF;
      RETURN NULL;
    END $$
"""
