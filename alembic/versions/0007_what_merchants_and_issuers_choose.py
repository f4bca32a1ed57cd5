"""Windows that validate by themselves, hours for warnings; sessions say when they were used, and end their devices

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("merchants", sa.Column("auto_validation", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column(
        "payment_requests", sa.Column("auto_validation", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("issuers", sa.Column("warning_from_hour", sa.BigInteger()))
    op.add_column("issuers", sa.Column("warning_until_hour", sa.BigInteger()))
    op.create_check_constraint(
        op.f("issuers_warning_hours_check"),
        "issuers",
        "(warning_from_hour IS NULL) = (warning_until_hour IS NULL)"
        " AND 0 <= warning_from_hour AND warning_from_hour < warning_until_hour AND warning_until_hour <= 24",
    )
    op.add_column(
        "sessions",
        sa.Column(
            "last_seen_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("clock_timestamp()")
        ),
    )
    op.execute("UPDATE sessions SET last_seen_at = started_at")
    op.add_column("push_subscriptions", sa.Column("session_id", sa.Uuid()))
    op.create_foreign_key(
        "push_subscriptions_tenant_session_id_fkey",
        "push_subscriptions",
        "sessions",
        ["tenant", "session_id"],
        ["tenant", "id"],
    )
    op.create_index("push_subscriptions_tenant_session_id_idx", "push_subscriptions", ["tenant", "session_id"])
    op.create_index(
        "payment_requests_open_idx",
        "payment_requests",
        ["tenant", "merchant_id", "point_of_sale_id"],
        postgresql_where=sa.text("status IN ('AWAITING_PAYMENT', 'TO_VALIDATE')"),
    )
    op.execute("DROP FUNCTION actor_of_session(integer, bytea)")
    op.execute(ACTOR_OF_SESSION)
    op.execute("REVOKE EXECUTE ON FUNCTION actor_of_session(integer, bytea) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION actor_of_session(integer, bytea) TO escarcelle_app")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


ACTOR_OF_SESSION = """
    CREATE FUNCTION actor_of_session(of_tenant integer, of_digest bytea)
    RETURNS TABLE (
      session_id uuid, expires_at timestamptz, last_seen_at timestamptz, user_id uuid, role text, merchant_id uuid,
      holder_id uuid, locale text, must_change_password boolean, point_of_sale_ids uuid[], rights text[]
    ) LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      SELECT s.id, s.expires_at, s.last_seen_at, u.id, u.role, u.merchant_id, u.holder_id, u.locale, p.temporary,
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
