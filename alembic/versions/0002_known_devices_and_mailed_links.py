"""Known devices and mailed links

Revision: 0002, after 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "sign_in_guards",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("login_key", sa.Text(), nullable=False),
        sa.Column("device_id", sa.UUID(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("locked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("changed_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "login_key", "device_id", name=op.f("sign_in_guards_pkey")),
    )
    op.create_table(
        "devices",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("devices_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("devices_pkey")),
        sa.UniqueConstraint("token_digest", name=op.f("devices_token_digest_key")),
    )
    op.create_index(op.f("devices_tenant_user_id_idx"), "devices", ["tenant", "user_id"], unique=False)
    op.create_table(
        "password_resets",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("used_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("reason IN ('ASKED', 'LOCKED', 'INVITED')", name=op.f("password_resets_reason_check")),
        sa.CheckConstraint("status IN ('SENT', 'USED')", name=op.f("password_resets_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("password_resets_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("password_resets_pkey")),
    )
    op.create_index(op.f("password_resets_tenant_user_id_idx"), "password_resets", ["tenant", "user_id"], unique=False)
    op.add_column("passwords", sa.Column("temporary", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.alter_column("passwords", "temporary", server_default=None)
    op.execute("DROP FUNCTION actor_of_session(integer, bytea)")
    op.execute(ACTOR_OF_SESSION)
    # They look over the tenant wall: nobody but the application may.
    for function in ("tenant_of_slug(text)", "actor_of_session(integer, bytea)"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO escarcelle_app")
    op.execute(SEAL_POSTINGS)
    # Triggers run them; nobody calls them.
    for function in ("check_transfer()", "seal_postings()"):
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    op.bulk_insert(
        sa.table("transitions", sa.column("machine"), sa.column("was"), sa.column("becomes")),
        [{"machine": "password_resets", "was": "SENT", "becomes": "USED"}],
    )
    op.execute(
        "CREATE TRIGGER lifecycle BEFORE UPDATE OF status ON password_resets FOR EACH ROW"
        " WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION check_transition()"
    )
    for table, app in GRANTS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})")
        op.execute(f"GRANT {app} ON {table} TO escarcelle_app")

    op.execute("CREATE POLICY reader ON password_resets FOR SELECT TO escarcelle_reader USING (true)")
    op.execute("GRANT SELECT ON password_resets TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

# The sum of a transfer can be asked for early (SET CONSTRAINTS), and is then not asked for again: what comes later in the
# same transaction must not pass either. So a transfer is sealed with its statement, which cmin tells.
SEAL_POSTINGS = """
    CREATE OR REPLACE FUNCTION seal_postings() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    BEGIN
      IF EXISTS (
        SELECT FROM fresh f
        JOIN postings p ON p.tenant = f.tenant AND p.transfer_id = f.transfer_id AND p.account_id = f.account_id
        LEFT JOIN transfers t ON t.tenant = f.tenant AND t.id = f.transfer_id
        WHERE t.xact IS DISTINCT FROM pg_current_xact_id() OR NOT t.cmin = p.cmin
      ) THEN
        RAISE EXCEPTION 'a transfer is sealed with its statement' USING errcode = '23514', constraint = 'seal';
      END IF;
      RETURN NULL;
    END $$
"""

ACTOR_OF_SESSION = """
    CREATE FUNCTION actor_of_session(of_tenant integer, of_digest bytea)
    RETURNS TABLE (
      session_id uuid, expires_at timestamptz, user_id uuid, role text, merchant_id uuid, holder_id uuid, locale text,
      must_change_password boolean, point_of_sale_ids uuid[], rights text[]
    ) LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      SELECT s.id, s.expires_at, u.id, u.role, u.merchant_id, u.holder_id, u.locale, p.temporary,
             array_agg(g.point_of_sale_id) FILTER (WHERE g.point_of_sale_id IS NOT NULL),
             array_agg(array_to_string(g.rights, ',')) FILTER (WHERE g.point_of_sale_id IS NOT NULL)
      FROM sessions s
      JOIN users u ON u.tenant = s.tenant AND u.id = s.user_id
      JOIN passwords p ON p.tenant = u.tenant AND p.user_id = u.id
      LEFT JOIN grants g ON g.tenant = u.tenant AND g.user_id = u.id
      WHERE s.tenant = of_tenant AND s.token_digest = of_digest AND s.status = 'OPEN'
        AND s.expires_at > clock_timestamp() AND u.active
      GROUP BY s.tenant, s.id, u.tenant, u.id, p.temporary
    $$
"""

GRANTS = {
    "sign_in_guards": "SELECT, INSERT, UPDATE, DELETE",
    "devices": "SELECT, INSERT, UPDATE",
    "password_resets": "SELECT, INSERT, UPDATE",
}
