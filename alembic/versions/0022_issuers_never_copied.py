"""Issuers that were never copied for analysts

Revision: 0022, after 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(REPORTING_UNCOPIED_SECONDS)
    # It looks over the tenant wall: nobody but the application may.
    op.execute("REVOKE EXECUTE ON FUNCTION reporting_uncopied_seconds() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION reporting_uncopied_seconds() TO escarcelle_app")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


# Since when the oldest issuer waits whose first copy was asked for and has not come. Where there is no folder for
# copies, none is asked for.
REPORTING_UNCOPIED_SECONDS = """
    CREATE FUNCTION reporting_uncopied_seconds() RETURNS double precision
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      SELECT coalesce(max(extract(epoch FROM statement_timestamp() - i.created_at)), 0)::double precision
      FROM issuers i
      WHERE NOT EXISTS (SELECT FROM reporting_copies r WHERE r.tenant = i.tenant)
        AND (EXISTS (SELECT FROM outbox o WHERE o.tenant = i.tenant AND o.topic = 'copy')
          OR EXISTS (SELECT FROM dead_letters d WHERE d.tenant = i.tenant AND d.topic = 'copy'))
    $$
"""
