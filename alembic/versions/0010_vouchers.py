"""Members, and vouchers with their suppliers' invoices

Revision: 0010, after 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "number_series",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("year", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("last > 0", name=op.f("number_series_last_check")),
        sa.PrimaryKeyConstraint("tenant", "name", "year", name=op.f("number_series_pkey")),
    )
    op.create_table(
        "voucher_kinds",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("validity_days", sa.BigInteger(), nullable=False),
        sa.Column("ends_with_year", sa.Boolean(), nullable=False),
        sa.Column("maximum_value", sa.BigInteger(), nullable=True),
        sa.Column("maximum_outstanding", sa.BigInteger(), nullable=True),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("preferred", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("code <> '' AND name <> ''", name=op.f("voucher_kinds_name_check")),
        sa.CheckConstraint("department ~ '^[A-Z]{2}$'", name=op.f("voucher_kinds_department_check")),
        sa.CheckConstraint("maximum_outstanding > 0", name=op.f("voucher_kinds_maximum_outstanding_check")),
        sa.CheckConstraint("maximum_value > 0", name=op.f("voucher_kinds_maximum_value_check")),
        sa.CheckConstraint("series ~ '^[0-9]{3}$'", name=op.f("voucher_kinds_series_check")),
        sa.CheckConstraint("validity_days BETWEEN 0 AND 3660", name=op.f("voucher_kinds_validity_days_check")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("voucher_kinds_pkey")),
        sa.UniqueConstraint("tenant", "code", name=op.f("voucher_kinds_tenant_code_key")),
    )
    op.create_table(
        "vouchers",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind_id", sa.UUID(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("holder_id", sa.UUID(), nullable=False),
        sa.Column("supplier_id", sa.UUID(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("reservation_id", sa.UUID(), nullable=False),
        sa.Column("issued_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("revealed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("code_salt", sa.LargeBinary(), nullable=True),
        sa.Column("code_key", sa.LargeBinary(), nullable=True),
        sa.Column("wrong_codes", sa.BigInteger(), nullable=False),
        sa.Column("blocked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_action_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(status IN ('DELIVERED', 'INVOICED')) = (number IS NOT NULL)", name=op.f("vouchers_delivered_check")
        ),
        sa.CheckConstraint("number ~ '^W\\d{4}\\.[A-Z]{2}\\.\\d{3}\\.\\d{8}$'", name=op.f("vouchers_number_check")),
        sa.CheckConstraint(
            "status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED', 'CANCELLED', 'EXPIRED', 'INVOICED')",
            name=op.f("vouchers_status_check"),
        ),
        sa.CheckConstraint(
            "(code_salt IS NULL) = (revealed_at IS NULL) AND (code_key IS NULL) = (revealed_at IS NULL)",
            name=op.f("vouchers_revealed_check"),
        ),
        sa.CheckConstraint("value > 0 AND value % 100 = 0", name=op.f("vouchers_value_check")),
        sa.CheckConstraint("wrong_codes BETWEEN 0 AND 5", name=op.f("vouchers_wrong_codes_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "holder_id"], ["holders.tenant", "holders.id"], name=op.f("vouchers_tenant_holder_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "kind_id"],
            ["voucher_kinds.tenant", "voucher_kinds.id"],
            name=op.f("vouchers_tenant_kind_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "reservation_id"],
            ["transfers.tenant", "transfers.id"],
            name=op.f("vouchers_tenant_reservation_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "supplier_id"],
            ["merchants.tenant", "merchants.id"],
            name=op.f("vouchers_tenant_supplier_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("vouchers_pkey")),
        sa.UniqueConstraint("tenant", "number", name=op.f("vouchers_tenant_number_key")),
    )
    op.create_index("vouchers_holder_idx", "vouchers", ["tenant", "holder_id", "issued_at", "id"], unique=False)
    op.create_index("vouchers_list_idx", "vouchers", ["tenant", "issued_at", "id"], unique=False)
    op.create_table(
        "supplier_invoices",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("supplier_id", sa.UUID(), nullable=False),
        sa.Column("voucher_id", sa.UUID(), nullable=False),
        sa.Column("invoice_number", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("excess", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(decided_at IS NOT NULL) = (status IN ('EXCESS_PAID', 'EXCESS_REFUSED'))",
            name=op.f("supplier_invoices_decided_check"),
        ),
        sa.CheckConstraint("(excess = 0) = (status = 'RECORDED')", name=op.f("supplier_invoices_excess_check")),
        sa.CheckConstraint(
            "status IN ('RECORDED', 'TO_DECIDE', 'EXCESS_PAID', 'EXCESS_REFUSED')",
            name=op.f("supplier_invoices_status_check"),
        ),
        sa.CheckConstraint(
            "amount > 0 AND excess >= 0 AND excess < amount", name=op.f("supplier_invoices_amount_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "supplier_id"],
            ["merchants.tenant", "merchants.id"],
            name=op.f("supplier_invoices_tenant_supplier_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "voucher_id"],
            ["vouchers.tenant", "vouchers.id"],
            name=op.f("supplier_invoices_tenant_voucher_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("supplier_invoices_pkey")),
        sa.UniqueConstraint(
            "tenant",
            "supplier_id",
            "invoice_number",
            name=op.f("supplier_invoices_tenant_supplier_id_invoice_number_key"),
        ),
        sa.UniqueConstraint("tenant", "voucher_id", name=op.f("supplier_invoices_tenant_voucher_id_key")),
    )
    op.create_index("supplier_invoices_list_idx", "supplier_invoices", ["tenant", "recorded_at", "id"], unique=False)
    op.add_column("holders", sa.Column("street", sa.Text(), nullable=True))
    op.add_column("holders", sa.Column("postcode", sa.Text(), nullable=True))
    op.add_column("holders", sa.Column("town", sa.Text(), nullable=True))
    op.add_column("holders", sa.Column("country", sa.Text(), nullable=True))
    op.add_column("holders", sa.Column("member_since", sa.Date(), nullable=True))
    op.add_column("holders", sa.Column("dues_paid_until", sa.Date(), nullable=True))
    op.add_column("holders", sa.Column("statement_by", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("holders_postal_address_check"), "holders", "num_nulls(street, postcode, town, country) IN (0, 4)"
    )
    op.create_check_constraint(op.f("holders_statement_by_check"), "holders", "statement_by IN ('EMAIL', 'POST')")
    op.drop_constraint(op.f("accounts_kind_check"), "accounts", type_="check")
    op.create_check_constraint(
        op.f("accounts_kind_check"),
        "accounts",
        "kind IN ('FUNDING', 'WALLET', 'HELD', 'MERCHANT', 'GUARANTEE', 'DEBT')",
    )
    op.execute("ALTER TABLE vouchers SET (fillfactor = 80)")
    op.execute("ALTER TABLE number_series SET (fillfactor = 50)")
    op.bulk_insert(
        sa.table("transitions", sa.column("machine"), sa.column("was"), sa.column("becomes")),
        [
            {"machine": machine, "was": was, "becomes": becomes}
            for machine, moves in TRANSITIONS.items()
            for was, becomes in moves
        ],
    )
    for table in TRANSITIONS:
        op.execute(
            f"CREATE TRIGGER lifecycle BEFORE UPDATE OF status ON {table} FOR EACH ROW"
            " WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION check_transition()"
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

TRANSITIONS = {
    "vouchers": [
        ("ISSUED", "CODE_REVEALED"),
        ("ISSUED", "CANCELLED"),
        ("ISSUED", "EXPIRED"),
        ("CODE_REVEALED", "DELIVERED"),
        ("CODE_REVEALED", "EXPIRED"),
        ("DELIVERED", "INVOICED"),
    ],
    "supplier_invoices": [("TO_DECIDE", "EXCESS_PAID"), ("TO_DECIDE", "EXCESS_REFUSED")],
}

GRANTS = {
    "number_series": "SELECT, INSERT, UPDATE",
    "voucher_kinds": "SELECT",
    "vouchers": "SELECT, INSERT, UPDATE",
    "supplier_invoices": "SELECT, INSERT, UPDATE",
}
