"""As of when copies are

Revision: 0019, after 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(REPORTING_AS_OF)
    # It looks over the tenant wall: nobody but the application may.
    op.execute("REVOKE EXECUTE ON FUNCTION reporting_as_of() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION reporting_as_of() TO escarcelle_app")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


# Of the issuer that `reporting_state` speaks of: the one whose last copy is oldest.
REPORTING_AS_OF = """
    CREATE FUNCTION reporting_as_of() RETURNS timestamptz
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      SELECT l.as_of FROM issuers i, LATERAL (
        SELECT r.copied_at, r.as_of FROM reporting_copies r
        WHERE r.tenant = i.tenant ORDER BY r.copied_at DESC LIMIT 1
      ) l ORDER BY l.copied_at LIMIT 1
    $$
"""
