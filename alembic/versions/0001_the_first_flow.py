"""The ledger, the parties, and payment requests

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

import domain.db

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "accounts",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.UUID(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('FUNDING', 'WALLET', 'HELD', 'MERCHANT')", name=op.f("accounts_kind_check")),
        sa.CheckConstraint("unit IN ('EUR')", name=op.f("accounts_unit_check")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("accounts_pkey")),
        sa.UniqueConstraint("tenant", "id", "unit", name=op.f("accounts_tenant_id_unit_key")),
        sa.UniqueConstraint("tenant", "owner_id", "kind", "unit", name=op.f("accounts_tenant_owner_id_kind_unit_key")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "given_up_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("topic IN ('live', 'mail')", name=op.f("dead_letters_topic_check")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("dead_letters_pkey")),
    )
    op.create_table(
        "deadlines",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("claim_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sends", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "subject_id", "name", name=op.f("deadlines_pkey")),
    )
    op.create_index("deadlines_claim_at_idx", "deadlines", ["claim_at"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("scope_id", sa.UUID(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(), nullable=False),
        sa.Column("result_kind", sa.Text(), nullable=False),
        sa.Column("result_id", sa.UUID(), nullable=False),
        sa.Column("used_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "scope_id", "key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_table(
        "inbox",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("done_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "message_id", name=op.f("inbox_pkey")),
    )
    op.create_table(
        "issuers",
        sa.Column("tenant", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sandbox", sa.Boolean(), nullable=False),
        sa.Column("login_label_fr", sa.Text(), nullable=False),
        sa.Column("login_label_en", sa.Text(), nullable=False),
        sa.Column("support_phone", sa.Text(), nullable=True),
        sa.Column("support_email", sa.Text(), nullable=True),
        sa.Column("support_hours_fr", sa.Text(), nullable=True),
        sa.Column("support_hours_en", sa.Text(), nullable=True),
        sa.Column("minimum_amount", sa.BigInteger(), nullable=False),
        sa.Column("maximum_payment_days", sa.BigInteger(), nullable=False),
        sa.Column("maximum_validation_days", sa.BigInteger(), nullable=False),
        sa.Column("immediate_minutes", sa.BigInteger(), nullable=False),
        sa.Column("clock_offset", postgresql.INTERVAL(), nullable=False),
        sa.Column("frozen_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "sandbox OR (clock_offset = interval '0' AND frozen_at IS NULL)", name=op.f("issuers_clock_check")
        ),
        sa.CheckConstraint("minimum_amount > 0", name=op.f("issuers_minimum_amount_check")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("issuers_pkey")),
        sa.UniqueConstraint("id", name=op.f("issuers_id_key")),
        sa.UniqueConstraint("slug", name=op.f("issuers_slug_key")),
    )
    op.create_table(
        "journal",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=True),
        sa.Column("point_of_sale_id", sa.UUID(), nullable=True),
        sa.Column("holder_id", sa.UUID(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.UUID(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "xact", domain.db.TransactionNumber(), server_default=sa.text("pg_current_xact_id()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("journal_pkey")),
    )
    op.create_index("journal_subject_idx", "journal", ["tenant", "subject_id", "sequence"], unique=False)
    op.create_index("journal_xact_idx", "journal", ["xact"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("claim_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("sends", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), server_default=sa.text("NULL"), nullable=True),
        sa.CheckConstraint("topic IN ('live', 'mail')", name=op.f("outbox_topic_check")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("outbox_pkey")),
    )
    op.create_index("outbox_claim_at_idx", "outbox", ["claim_at"], unique=False)
    op.create_table(
        "transfers",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("settles", sa.UUID(), nullable=True),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.UUID(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "xact", domain.db.TransactionNumber(), server_default=sa.text("pg_current_xact_id()"), nullable=False
        ),
        sa.CheckConstraint("(settles IS NOT NULL) = (kind IN ('POST', 'VOID'))", name=op.f("transfers_settles_check")),
        sa.CheckConstraint("kind IN ('TRANSFER', 'RESERVE', 'POST', 'VOID')", name=op.f("transfers_kind_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "settles"], ["transfers.tenant", "transfers.id"], name=op.f("transfers_tenant_settles_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("transfers_pkey")),
        sa.UniqueConstraint("tenant", "settles", name=op.f("transfers_tenant_settles_key")),
    )
    op.create_index("transfers_subject_idx", "transfers", ["tenant", "subject_id"], unique=False)
    op.create_index("transfers_xact_idx", "transfers", ["xact"], unique=False)
    op.create_table(
        "transitions",
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("was", sa.Text(), nullable=False),
        sa.Column("becomes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("machine", "was", "becomes", name=op.f("transitions_pkey")),
    )
    op.create_table(
        "balances",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount >= floor", name=op.f("balances_floor_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "account_id"], ["accounts.tenant", "accounts.id"], name=op.f("balances_tenant_account_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "account_id", name=op.f("balances_pkey")),
    )
    op.create_table(
        "holders",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("sort_key", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("holders_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("holders_pkey")),
        sa.UniqueConstraint("tenant", "reference", name=op.f("holders_tenant_reference_key")),
    )
    op.create_index("holders_email_idx", "holders", ["tenant", sa.literal_column("lower(email)")], unique=False)
    op.create_table(
        "merchants",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sort_key", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("merchants_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("merchants_pkey")),
        sa.UniqueConstraint("tenant", "code", name=op.f("merchants_tenant_code_key")),
    )
    op.create_table(
        "postings",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("transfer_id", sa.UUID(), nullable=False),
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("unit IN ('EUR')", name=op.f("postings_unit_check")),
        sa.CheckConstraint("amount <> 0", name=op.f("postings_amount_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "account_id", "unit"],
            ["accounts.tenant", "accounts.id", "accounts.unit"],
            name="postings_account_fkey",
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "transfer_id"],
            ["transfers.tenant", "transfers.id"],
            name=op.f("postings_tenant_transfer_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "transfer_id", "account_id", name=op.f("postings_pkey")),
    )
    op.create_index("postings_account_idx", "postings", ["tenant", "account_id"], unique=False)
    op.create_table(
        "points_of_sale",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("merchant_id", sa.UUID(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sort_key", sa.Text(), nullable=False),
        sa.Column("street", sa.Text(), nullable=True),
        sa.Column("postcode", sa.Text(), nullable=True),
        sa.Column("town", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "merchant_id"],
            ["merchants.tenant", "merchants.id"],
            name=op.f("points_of_sale_tenant_merchant_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("points_of_sale_pkey")),
        sa.UniqueConstraint("tenant", "merchant_id", "code", name=op.f("points_of_sale_tenant_merchant_id_code_key")),
    )
    op.create_table(
        "users",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("login_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("merchant_id", sa.UUID(), nullable=True),
        sa.Column("holder_id", sa.UUID(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role IN ('ISSUER_ADMIN', 'ISSUER_AGENT', 'MERCHANT_MANAGER', 'MERCHANT_STAFF', 'HOLDER')",
            name=op.f("users_role_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "holder_id"], ["holders.tenant", "holders.id"], name=op.f("users_tenant_holder_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "merchant_id"], ["merchants.tenant", "merchants.id"], name=op.f("users_tenant_merchant_id_fkey")
        ),
        sa.ForeignKeyConstraint(["tenant"], ["issuers.tenant"], name=op.f("users_tenant_fkey")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("users_pkey")),
        sa.UniqueConstraint("tenant", "login_key", name=op.f("users_tenant_login_key_key")),
    )
    op.create_table(
        "grants",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("point_of_sale_id", sa.UUID(), nullable=False),
        sa.Column("rights", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "point_of_sale_id"],
            ["points_of_sale.tenant", "points_of_sale.id"],
            name=op.f("grants_tenant_point_of_sale_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("grants_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "user_id", "point_of_sale_id", name=op.f("grants_pkey")),
    )
    op.create_table(
        "passwords",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("passwords_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "user_id", name=op.f("passwords_pkey")),
    )
    op.create_table(
        "payment_requests",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("merchant_id", sa.UUID(), nullable=False),
        sa.Column("point_of_sale_id", sa.UUID(), nullable=False),
        sa.Column("basket_number", sa.Text(), nullable=False),
        sa.Column("amount_requested", sa.BigInteger(), nullable=False),
        sa.Column("amount_paid", sa.BigInteger(), nullable=True),
        sa.Column("amount_validated", sa.BigInteger(), nullable=True),
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("transaction_number", sa.Text(), nullable=False),
        sa.Column("payment_due_on", sa.Date(), nullable=True),
        sa.Column("payment_deadline", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("validation_days", sa.BigInteger(), nullable=True),
        sa.Column("validation_deadline", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("customer_reference", sa.Text(), nullable=True),
        sa.Column("seller_identifier", sa.Text(), nullable=True),
        sa.Column("customer_identifier", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.UUID(), nullable=True),
        sa.Column("notify_email", sa.Text(), nullable=True),
        sa.Column("created_by", sa.UUID(), nullable=False),
        sa.Column("payer_id", sa.UUID(), nullable=True),
        sa.Column("reservation_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("paid_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_action_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(status IN ('TO_VALIDATE', 'VALIDATED')) <= (amount_paid IS NOT NULL)",
            name=op.f("payment_requests_paid_check"),
        ),
        sa.CheckConstraint(
            "collection IN ('QR_CODE', 'IDENTIFIER', 'EMAIL')", name=op.f("payment_requests_collection_check")
        ),
        sa.CheckConstraint(
            "flow IN ('IMMEDIATE', 'DEFERRED', 'IMMEDIATE_WITH_VALIDATION', 'DEFERRED_WITH_VALIDATION')",
            name=op.f("payment_requests_flow_check"),
        ),
        sa.CheckConstraint(
            "status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED', 'CANCELLED', 'EXPIRED')",
            name=op.f("payment_requests_status_check"),
        ),
        sa.CheckConstraint(
            "amount_paid > 0 AND amount_paid <= amount_requested", name=op.f("payment_requests_amount_paid_check")
        ),
        sa.CheckConstraint("amount_requested > 0", name=op.f("payment_requests_amount_requested_check")),
        sa.CheckConstraint(
            "amount_validated > 0 AND amount_validated <= amount_paid",
            name=op.f("payment_requests_amount_validated_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "created_by"], ["users.tenant", "users.id"], name=op.f("payment_requests_tenant_created_by_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "customer_id"],
            ["holders.tenant", "holders.id"],
            name=op.f("payment_requests_tenant_customer_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "merchant_id"],
            ["merchants.tenant", "merchants.id"],
            name=op.f("payment_requests_tenant_merchant_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "payer_id"], ["holders.tenant", "holders.id"], name=op.f("payment_requests_tenant_payer_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "point_of_sale_id"],
            ["points_of_sale.tenant", "points_of_sale.id"],
            name=op.f("payment_requests_tenant_point_of_sale_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "reservation_id"],
            ["transfers.tenant", "transfers.id"],
            name=op.f("payment_requests_tenant_reservation_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("payment_requests_pkey")),
        sa.UniqueConstraint("tenant", "token", name=op.f("payment_requests_tenant_token_key")),
        sa.UniqueConstraint(
            "tenant", "transaction_number", name=op.f("payment_requests_tenant_transaction_number_key")
        ),
    )
    op.create_index(
        "payment_requests_basket_key",
        "payment_requests",
        ["tenant", "point_of_sale_id", "basket_number"],
        unique=True,
        postgresql_where=sa.text("status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED')"),
    )
    op.create_index(
        "payment_requests_created_idx", "payment_requests", ["tenant", "point_of_sale_id", "created_at"], unique=False
    )
    op.create_index(
        "payment_requests_customer_idx",
        "payment_requests",
        ["tenant", "customer_id"],
        unique=False,
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    )
    op.create_index(
        "payment_requests_list_idx",
        "payment_requests",
        ["tenant", "point_of_sale_id", "last_action_at", "id"],
        unique=False,
    )
    op.create_index(
        "payment_requests_merchant_idx",
        "payment_requests",
        ["tenant", "merchant_id", "last_action_at", "id"],
        unique=False,
    )
    op.create_table(
        "remembered_emails",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("point_of_sale_id", sa.UUID(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "point_of_sale_id"],
            ["points_of_sale.tenant", "points_of_sale.id"],
            name=op.f("remembered_emails_tenant_point_of_sale_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("remembered_emails_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "user_id", "point_of_sale_id", name=op.f("remembered_emails_pkey")),
    )
    op.create_table(
        "sessions",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('OPEN', 'ENDED')", name=op.f("sessions_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("sessions_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("sessions_pkey")),
        sa.UniqueConstraint("token_digest", name=op.f("sessions_token_digest_key")),
    )
    op.create_index("sessions_user_idx", "sessions", ["tenant", "user_id"], unique=False)

    for statement in (*FUNCTIONS, *TRIGGERS):
        op.execute(statement)
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
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    for table, fillfactor in FILLFACTORS.items():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {fillfactor})")
    op.execute("GRANT USAGE ON SCHEMA public TO escarcelle_app, escarcelle_relay, escarcelle_reader")
    op.execute("GRANT SELECT ON transitions, alembic_version TO escarcelle_app, escarcelle_reader")
    for table, (app, relay, reader) in GRANTS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})")
        op.execute(f"GRANT {app} ON {table} TO escarcelle_app")
        if relay:
            op.execute(f"CREATE POLICY relay ON {table} TO escarcelle_relay USING (true) WITH CHECK (true)")
            op.execute(f"GRANT {relay} ON {table} TO escarcelle_relay")
        if reader:
            op.execute(f"CREATE POLICY reader ON {table} FOR SELECT TO escarcelle_reader USING (true)")
            op.execute(f"GRANT SELECT ON {table} TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


# An unset or reset setting is null or empty: a bare cast would raise. The sub-select is evaluated once, not per row.
OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

FUNCTIONS = (
    # The tenant's clock: the database's, but for a sandbox. Volatile, so that above a lock it is read after the lock.
    """
    CREATE FUNCTION tenant_clock(of_tenant integer) RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
      RETURN (SELECT coalesce(frozen_at, clock_timestamp() + clock_offset) FROM issuers WHERE tenant = of_tenant);
    END $$
    """,
    # What an idempotency key led to. Volatile, so that above a lock it sees what the lock's last owner has committed.
    """
    CREATE FUNCTION key_seen(of_tenant integer, of_scope uuid, of_key text) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
      IF of_key IS NULL THEN RETURN NULL; END IF;
      RETURN (
        SELECT jsonb_build_object('input_hash', encode(input_hash, 'hex'), 'result_kind', result_kind, 'result_id', result_id)
        FROM idempotency_keys WHERE tenant = of_tenant AND scope_id = of_scope AND key = of_key
      );
    END $$
    """,
    # Before a tenant is known, these two alone look over the wall: by a public name, and by the digest of a secret.
    """
    CREATE FUNCTION tenant_of_slug(of_slug text) RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp AS $$ SELECT tenant FROM issuers WHERE slug = of_slug $$
    """,
    """
    CREATE FUNCTION actor_of_session(of_tenant integer, of_digest bytea)
    RETURNS TABLE (
      session_id uuid, expires_at timestamptz, user_id uuid, role text, merchant_id uuid, holder_id uuid, locale text,
      point_of_sale_ids uuid[], rights text[]
    ) LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      SELECT s.id, s.expires_at, u.id, u.role, u.merchant_id, u.holder_id, u.locale,
             array_agg(g.point_of_sale_id) FILTER (WHERE g.point_of_sale_id IS NOT NULL),
             array_agg(array_to_string(g.rights, ',')) FILTER (WHERE g.point_of_sale_id IS NOT NULL)
      FROM sessions s
      JOIN users u ON u.tenant = s.tenant AND u.id = s.user_id
      LEFT JOIN grants g ON g.tenant = u.tenant AND g.user_id = u.id
      WHERE s.tenant = of_tenant AND s.token_digest = of_digest AND s.status = 'OPEN'
        AND s.expires_at > clock_timestamp() AND u.active
      GROUP BY s.tenant, s.id, u.tenant, u.id
    $$
    """,
    # ── what the database refuses, whoever asks ──
    """
    CREATE FUNCTION check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NOT EXISTS (
        SELECT FROM transitions t WHERE t.machine = tg_table_name AND t.was = old.status AND t.becomes = new.status
      ) THEN
        RAISE EXCEPTION '% does not go from % to %', tg_table_name, old.status, new.status
          USING errcode = '23514', constraint = 'lifecycle';
      END IF;
      RETURN new;
    END $$
    """,
    # One check per transfer, at commit; seal_postings makes sure that nothing is added after it.
    """
    CREATE FUNCTION check_transfer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
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
          SELECT FROM postings p JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id AND a.kind = 'HELD'
          WHERE p.tenant = new.tenant AND p.transfer_id IN (new.id, new.settles)
          GROUP BY p.account_id HAVING sum(p.amount) <> 0
        ) THEN
          RAISE EXCEPTION 'transfer % does not settle its reservation to the cent', new.id
            USING errcode = '23514', constraint = 'settlement';
        END IF;
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION seal_postings() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    BEGIN
      IF EXISTS (
        SELECT FROM fresh f LEFT JOIN transfers t ON t.tenant = f.tenant AND t.id = f.transfer_id
        WHERE t.xact IS DISTINCT FROM pg_current_xact_id()
      ) THEN
        RAISE EXCEPTION 'a transfer is sealed with its transaction' USING errcode = '23514', constraint = 'seal';
      END IF;
      RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION '% is append-only', tg_table_name USING errcode = '23514', constraint = 'append_only';
    END $$
    """,
)

TRIGGERS = (
    """
    CREATE CONSTRAINT TRIGGER sum_to_zero AFTER INSERT ON transfers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_transfer()
    """,
    """
    CREATE TRIGGER seal AFTER INSERT ON postings REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION seal_postings()
    """,
)

TRANSITIONS = {
    "payment_requests": [
        ("AWAITING_PAYMENT", "CANCELLED"),
        ("AWAITING_PAYMENT", "EXPIRED"),
        ("AWAITING_PAYMENT", "TO_VALIDATE"),
        ("AWAITING_PAYMENT", "VALIDATED"),
        ("TO_VALIDATE", "CANCELLED"),
        ("TO_VALIDATE", "EXPIRED"),
        ("TO_VALIDATE", "VALIDATED"),
    ],
    "sessions": [("OPEN", "ENDED")],
}

APPEND_ONLY = ("transfers", "postings", "journal")

FILLFACTORS = {"balances": 70, "deadlines": 80, "outbox": 80, "payment_requests": 80}

GRANTS = {
    "accounts": ("SELECT, INSERT", "", True),
    "balances": ("SELECT, INSERT, UPDATE", "", True),
    "transfers": ("SELECT, INSERT", "", True),
    "postings": ("SELECT, INSERT", "", True),
    "deadlines": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE", True),
    "journal": ("SELECT, INSERT", "", True),
    "outbox": ("SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE, DELETE", True),
    "inbox": ("SELECT, INSERT, DELETE", "", True),
    "dead_letters": ("SELECT, INSERT, DELETE", "", True),
    "idempotency_keys": ("SELECT, INSERT", "", True),
    "users": ("SELECT, INSERT, UPDATE", "", True),
    "passwords": ("SELECT, INSERT, UPDATE", "", False),
    "grants": ("SELECT, INSERT, UPDATE, DELETE", "", True),
    "sessions": ("SELECT, INSERT, UPDATE", "", False),
    "issuers": ("SELECT", "", True),
    "merchants": ("SELECT, INSERT, UPDATE", "", True),
    "points_of_sale": ("SELECT, INSERT, UPDATE", "", True),
    "holders": ("SELECT, INSERT, UPDATE", "", True),
    "payment_requests": ("SELECT, INSERT, UPDATE", "", True),
    "remembered_emails": ("SELECT, INSERT, UPDATE, DELETE", "", True),
}
